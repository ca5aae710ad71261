/**
 * What every `CacheStore` promises. `advance` moves the store's clock.
 *
 * Here are rows and their fences; `storeChangeSuite` has what is changed by tag, by
 * pattern and in part, `storeLeaseSuite` leases and notes of use, `storeModelSuite`
 * random calls.
 */
import { assert, layer as layerOf } from "@effect/vitest"
import { Duration, Effect, type Layer, Stream } from "effect"
import * as fc from "fast-check"
import { CacheStore, type Fence } from "../../src/CacheStore.ts"
import { isPlainName } from "../support/json.ts"
import { changeSuite } from "./storeChangeSuite.ts"
import { leaseSuite } from "./storeLeaseSuite.ts"
import { modelSuite } from "./storeModelSuite.ts"
import {
  type Advance,
  assertNear,
  documentOf,
  fenced,
  kinds,
  load,
  longTexts,
  namespace,
  oddTexts,
  rearm,
  retries,
  row,
  type Store,
  type StoreTest
} from "./storeRows.ts"

export const suite = <R, E>(name: string, layer: Layer.Layer<CacheStore | R, E>, advance: Advance<R>) =>
  layerOf(layer, { timeout: "60 seconds" })(`CacheStore: ${name}`, (it) => {
    it.effect("a row comes back as the document that was written", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const documents: ReadonlyArray<unknown> = [
          null,
          false,
          0,
          -0,
          1e308,
          5e-324,
          0.1,
          "",
          "null",
          [],
          {},
          { b: 1, a: [{ "": null }] },
          "NUL \u0000, SUB \u001a, \u001a0000, a backslash \\u0000, halves \ud83d and \ude00, an emoji 😀",
          { "\u0000": 1, "\u001a0000": 2, "\ud800": 3 }
        ]
        yield* store.write(
          ns,
          documents.map((document, i) => row(`${i}`, document, { schemaVersion: i }))
        )
        const rows = yield* store.read(
          ns,
          documents.map((_, i) => `${i}`)
        )
        assert.deepStrictEqual(
          rows.map(documentOf),
          documents.map((document) => JSON.parse(JSON.stringify(document)))
        )
        assert.deepStrictEqual(
          rows.map((row) => row._tag === "Row" && row.schemaVersion),
          documents.map((_, i) => i)
        )
      })
    )

    it.effect("a row tells its age and its remaining life", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("a", 1, { timeToLive: 60_000 })])
        yield* advance(20_000)
        const [a] = yield* store.read(ns, ["a"])
        assert(a?._tag === "Row")
        assertNear(a.age, 20_000)
        assertNear(a.timeToLive, 40_000)
      })
    )

    it.effect("a row without an end and one with a distant end live on", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const lives = [Infinity, Number.MAX_VALUE, 8e15, 1e15, 2 ** 31]
        yield* store.write(
          ns,
          lives.map((timeToLive) => row(`${timeToLive}`, 1, { timeToLive }))
        )
        yield* advance(1000 * 86_400_000)
        const rows = yield* store.read(ns, lives.map(String))
        assert.deepStrictEqual(
          rows.map(({ _tag }) => _tag),
          ["Row", "Row", "Row", "Row", "NoRow"]
        )
        assert.strictEqual(rows[0]?._tag === "Row" && rows[0].timeToLive, Infinity)
        assert.isTrue(rows[3]?._tag === "Row" && Math.abs(rows[3].timeToLive / (1e15 - 8.64e10) - 1) < 1e-6)
      })
    )

    it.effect("an expired row is read as stale until its reserve ends, and not after that", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [
          row("a", "A", { timeToLive: 60_000, staleFor: 60_000 }),
          row("stale from the start", "B", { timeToLive: 0, staleFor: 60_000 })
        ])
        const [, b] = yield* store.read(ns, ["a", "stale from the start"])
        assert(b?._tag === "Row" && b.timeToLive <= 0)
        assertNear(b.staleTimeToLive, 60_000)
        yield* advance(60_000)
        assert.deepStrictEqual(yield* kinds(store, ns, ["a", "stale from the start"]), ["Row", "NoRow"])
        yield* advance(20_000)
        const a = yield* load(store, ns, "a")
        assert(a._tag === "Row")
        assert.strictEqual(documentOf(a), "A")
        assertNear(a.age, 80_000)
        assertNear(a.timeToLive, -20_000)
        assertNear(a.staleTimeToLive, 40_000)
        yield* advance(40_000)
        assert.deepStrictEqual(yield* kinds(store, ns, ["a"]), ["NoRow"])
      })
    )

    it.effect("a row may be stale for good", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const reserves = [Infinity, Number.MAX_VALUE, 8e15, 1e15, 2 ** 31]
        yield* store.write(
          ns,
          reserves.map((staleFor) => row(`${staleFor}`, 1, { timeToLive: 1000, staleFor }))
        )
        yield* store.write(ns, [row("fresh", 1, { timeToLive: Infinity, staleFor: 1000 })])
        yield* advance(1000 * 86_400_000)
        const rows = yield* store.read(ns, [...reserves.map(String), "fresh"])
        assert.deepStrictEqual(
          rows.map((row) => row._tag === "Row" && row.timeToLive > 0),
          [false, false, false, false, false, true]
        )
        assert.deepStrictEqual(
          rows.map(({ _tag }) => _tag),
          ["Row", "Row", "Row", "Row", "NoRow", "Row"]
        )
        assert.strictEqual(rows[0]?._tag === "Row" && rows[0].staleTimeToLive, Infinity)
        assert.strictEqual(rows[5]?._tag === "Row" && rows[5].staleTimeToLive, Infinity)
        const scanned = yield* Stream.runCollect(store.scan(ns))
        assert.deepStrictEqual(
          scanned.flatMap(({ key, staleUntil }) => (staleUntil === Infinity ? [key] : [])),
          rows
            .flatMap((row, i) =>
              row._tag === "Row" && row.staleTimeToLive === Infinity ? [[...reserves.map(String), "fresh"][i]!] : []
            )
            .toSorted()
        )
        assert.isTrue((yield* store.remove(ns, ["Infinity"]))[0])
      })
    )

    it.effect("an expired row without a reserve is not read", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("a", 1, { timeToLive: 60_000 }), row("b", 1, { timeToLive: 0 })])
        assert.deepStrictEqual(yield* kinds(store, ns, ["a", "b"]), ["Row", "NoRow"])
        yield* advance(60_000)
        assert.deepStrictEqual(yield* kinds(store, ns, ["a", "b"]), ["NoRow", "NoRow"])
      })
    )

    it.effect("answers come in the order of the request, one for each key asked (C76)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("a", "A"), row("b", "B"), row("c", "C")])
        const rows = yield* store.read(ns, ["c", "x", "a", "c", "b", "x"])
        assert.deepStrictEqual(rows.map(documentOf), ["C", undefined, "A", "C", "B", undefined])
      })
    )

    it.effect("no keys, no answers", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        assert.deepStrictEqual(yield* store.read(ns, []), [])
        assert.deepStrictEqual(yield* store.fill(ns, []), [])
        assert.deepStrictEqual(yield* store.remove(ns, []), [])
        yield* store.rearm(ns, [])
        yield* store.write(ns, [])
      })
    )

    it.effect("an effect of the store does its work at each run, not when it is made", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const read = kinds(store, ns, ["a"])
        const write = store.write(ns, [row("a", 1)])
        assert.deepStrictEqual(yield* read, ["NoRow"])
        yield* write
        assert.deepStrictEqual(yield* read, ["Row"])
        yield* store.remove(ns, ["a"])
        yield* write
        assert.deepStrictEqual(yield* read, ["Row"])
      })
    )

    it.effect("outside a transaction what is to run after the commit runs at once", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        let runs = 0
        yield* store.afterCommit(Effect.sync(() => runs++))
        assert.strictEqual(runs, 1)
        assert.isFalse(store.inTransaction(yield* Effect.context()))
        yield* store.ping
      })
    )

    const before: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, unknown, R>> = {
      absent: () => Effect.void,
      live: (store, ns) => store.write(ns, [row("k", "old")]),
      "live for long": (store, ns) =>
        Effect.andThen(store.write(ns, [row("k", "old", { timeToLive: Infinity })]), advance(3_600_000)),
      stale: (store, ns) =>
        Effect.andThen(store.write(ns, [row("k", "old", { timeToLive: 1000, staleFor: 60_000 })]), advance(2000)),
      "stale and rearmed": (store, ns) =>
        store.write(ns, [row("k", "old", { timeToLive: 0, staleFor: 60_000 })]).pipe(
          Effect.andThen(load(store, ns, "k")),
          Effect.flatMap(({ fence }) => store.rearm(ns, [{ key: "k", fence, retryAfter: 10_000 }]))
        ),
      expired: (store, ns) => Effect.andThen(store.write(ns, [row("k", "old", { timeToLive: 1000 })]), advance(2000)),
      removed: (store, ns) => store.remove(ns, ["k"]),
      cleared: (store, ns) => Effect.andThen(store.write(ns, [row("k", "old")]), store.clear(ns))
    }
    const breaks: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, unknown, R>> = {
      remove: (store, ns) => store.remove(ns, ["k"]),
      write: (store, ns) => store.write(ns, [row("k", "new")]),
      "write of a row that is stale by now": (store, ns) =>
        Effect.andThen(store.write(ns, [row("k", "new", { timeToLive: 1000, staleFor: Infinity })]), advance(2000)),
      "write of a row that has expired by now": (store, ns) =>
        Effect.andThen(store.write(ns, [row("k", "new", { timeToLive: 1000 })]), advance(2000)),
      "write of a row that has expired and been swept by now": (store, ns) =>
        store
          .write(ns, [row("k", "new", { timeToLive: 1000 })])
          .pipe(Effect.andThen(advance(2000)), Effect.andThen(store.sweep(1000))),
      "remove long ago, and a sweep": (store, ns) =>
        store.remove(ns, ["k"]).pipe(Effect.andThen(advance(590_000)), Effect.andThen(store.sweep(1000))),
      "remove, and a fill that has expired and been swept by now": (store, ns) =>
        store.remove(ns, ["k"]).pipe(
          Effect.andThen(load(store, ns, "k")),
          Effect.flatMap(({ fence }) => store.fill(ns, [fenced(row("k", "new", { timeToLive: 1000 }), fence)])),
          Effect.andThen(advance(2000)),
          Effect.andThen(store.sweep(1000))
        ),
      clear: (store, ns) => store.clear(ns),
      clearAll: (store) => store.clearAll,
      "other fill": (store, ns) =>
        Effect.flatMap(load(store, ns, "k"), ({ fence }) => store.fill(ns, [fenced(row("k", "new"), fence)]))
    }

    for (const [state, prepare] of Object.entries(before)) {
      it.effect(`where the row is ${state}, a fill stores under the fence of the last read`, () =>
        Effect.gen(function* () {
          const store = yield* CacheStore
          const ns = namespace()
          yield* prepare(store, ns)
          const { fence } = yield* load(store, ns, "k")
          assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "filled"), fence)]), [true])
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), "filled")
        })
      )

      for (const [change, apply] of Object.entries(breaks)) {
        it.effect(`where the row was ${state}, a fill from before the ${change} is refused`, () =>
          Effect.gen(function* () {
            const store = yield* CacheStore
            const ns = namespace()
            yield* prepare(store, ns)
            const { fence } = yield* load(store, ns, "k")
            yield* apply(store, ns)
            const found = documentOf(yield* load(store, ns, "k"))
            assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "late"), fence)]), [false])
            assert.strictEqual(documentOf(yield* load(store, ns, "k")), found)
          })
        )
      }
    }

    it.effect("a fence older than the store remembers invalidations is refused, whatever happened since", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const { fence } = yield* load(store, ns, "k")
        const aged = (millis: number) => ({ ...fence, takenAt: fence.takenAt - millis })
        const lifetime = Duration.toMillis(store.fenceLifetime)
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "late"), aged(lifetime))]), [false])
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "in time"), aged(lifetime - 60_000))]), [true])
      })
    )

    it.effect("a fence is broken neither by other keys nor by other namespaces", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const [ns, other] = [namespace(), namespace()]
        const { fence } = yield* load(store, ns, "k")
        yield* store.remove(ns, ["K", "k ", ""])
        yield* store.write(other, [row("k", 1)])
        yield* store.remove(other, ["k"])
        yield* store.clear(other)
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", 1), fence)]), [true])
      })
    )

    it.effect("a fill of many keys says for each whether it was stored (C77)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const keys = ["e", "d", "c", "b", "a"]
        yield* store.write(ns, [row("b", 0), row("d", 0)])
        const rows = (yield* store.read(ns, keys)).map(({ fence }, i) => fenced(row(keys[i]!, 1), fence))
        yield* store.remove(ns, ["c", "d"])
        assert.deepStrictEqual(yield* store.fill(ns, rows), [true, false, false, true, true])
        assert.deepStrictEqual((yield* store.read(ns, keys)).map(documentOf), [1, undefined, undefined, 1, 1])
      })
    )

    it.effect("remove says for each key whether a live row was there (C78)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [
          row("live", 1),
          row("b", 1),
          row("stale", 1, { timeToLive: 1000, staleFor: 60_000 }),
          row("expired", 1, { timeToLive: 1000 })
        ])
        yield* store.remove(ns, ["b"])
        yield* advance(2000)
        const keys = ["expired", "live", "b", "stale", "absent", "live"]
        assert.deepStrictEqual(yield* store.remove(ns, keys), [false, true, false, true, false, true])
        const none = keys.map(() => false)
        assert.deepStrictEqual(yield* store.remove(ns, keys), none)
        assert.deepStrictEqual(
          yield* kinds(store, ns, keys),
          keys.map(() => "NoRow")
        )
      })
    )

    it.effect("clear counts the live rows of its namespace and leaves the others alone (C78)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const [ns, other] = [namespace(), namespace()]
        for (const each of [ns, other]) {
          yield* store.write(each, [
            row("a", 1),
            row("b", 1, { timeToLive: 1000, staleFor: 60_000 }),
            row("c", 1, { timeToLive: 1000 }),
            row("d", 1)
          ])
          yield* store.remove(each, ["d", "e"])
        }
        yield* advance(2000)
        assert.strictEqual(yield* store.clear(ns), 2)
        assert.strictEqual(yield* store.clear(ns), 0)
        assert.deepStrictEqual(yield* kinds(store, ns, ["a", "b", "c"]), ["NoRow", "NoRow", "NoRow"])
        assert.deepStrictEqual(yield* kinds(store, other, ["a", "b", "c"]), ["Row", "Row", "NoRow"])
        yield* store.write(ns, [row("a", 2)])
        assert.strictEqual(documentOf(yield* load(store, ns, "a")), 2)
        assert.strictEqual(yield* store.clear(ns), 1)
      })
    )

    it.effect("clearAll counts the live rows of all namespaces", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const [ns, other] = [namespace(), namespace()]
        yield* store.clearAll
        yield* store.write(ns, [row("a", 1), row("b", 1)])
        yield* store.clear(ns)
        yield* store.write(ns, [row("a", 1), row("b", 1, { timeToLive: 0 })])
        yield* store.write(other, [row("a", 1), row("b", 1, { timeToLive: 0, staleFor: 60_000 })])
        assert.strictEqual(yield* store.clearAll, 3)
        assert.strictEqual(yield* store.clearAll, 0)
        assert.deepStrictEqual(yield* kinds(store, other, ["a", "b"]), ["NoRow", "NoRow"])
        yield* store.write(ns, [row("a", 2)])
        assert.strictEqual(documentOf(yield* load(store, ns, "a")), 2)
      })
    )

    it.effect("any string is a namespace and a key of its own (C73, C75)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const prefix = namespace()
        const namespaces = oddTexts.map((text) => prefix + text)
        const keys = [...oddTexts, ...longTexts]
        for (const ns of namespaces) {
          yield* store.write(
            ns,
            keys.map((key) => row(key, [ns, key]))
          )
        }
        for (const ns of namespaces) {
          assert.deepStrictEqual(
            (yield* store.read(ns, keys)).map(documentOf),
            keys.map((key) => [ns, key])
          )
        }
        for (const [i, key] of keys.entries()) {
          assert.deepStrictEqual(yield* store.remove(namespaces[0]!, [key]), [true])
          assert.deepStrictEqual(
            (yield* store.read(namespaces[0]!, keys)).map(documentOf),
            keys.map((other, j) => (j <= i ? undefined : [namespaces[0]!, other]))
          )
        }
        for (const ns of namespaces.slice(1)) assert.strictEqual(yield* store.clear(ns), keys.length)
      })
    )

    it.effect("a row keeps its tags, whatever they hold", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const odd = [...oddTexts, "a,b", "{}", '{"x"}', "NULL", "null", " ", "\\N", "\ud800", "\u0000", ...longTexts]
        yield* store.write(ns, [row("none", 1), row("one", 1, { tags: [""] }), row("odd", 1, { tags: odd })])
        const rows = yield* store.read(ns, ["none", "one", "odd"])
        assert.deepStrictEqual(
          rows.map((row) => row._tag === "Row" && row.tags),
          [[], [""], odd]
        )
        const scanned = yield* Stream.runCollect(store.scan(ns))
        assert.deepStrictEqual(
          scanned.map(({ tags }) => tags),
          [[], odd, [""]]
        )
      })
    )

    it.effect("a row keeps how long it took to load, and whether it is a failure", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const times = [0, 1, 0.25, 1234.5678, 8.64e15]
        const keys = times.flatMap((_, i) => [`${i} a`, `${i} b`])
        yield* store.write(
          ns,
          times.flatMap((loadTime, i) => [
            row(`${i} a`, 1, { loadTime, isFailure: true }),
            row(`${i} b`, 1, { loadTime: loadTime + 1, isFailure: false })
          ])
        )
        const read = Effect.map(store.read(ns, keys), (rows) =>
          rows.map((row) => row._tag === "Row" && [row.loadTime, row.isFailure])
        )
        assert.deepStrictEqual(
          yield* read,
          times.flatMap((loadTime) => [
            [loadTime, true],
            [loadTime + 1, false]
          ])
        )
        const found = yield* store.read(ns, keys)
        const refilled = keys.map((key, i) =>
          fenced(row(key, 1, { loadTime: i, isFailure: i % 2 === 1 }), found[i]!.fence)
        )
        yield* store.fill(ns, refilled)
        assert.deepStrictEqual(
          yield* read,
          keys.map((_, i) => [i, i % 2 === 1])
        )
      })
    )

    it.effect("a row keeps its validators, whatever they hold, until it is stored anew", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const odd = Object.fromEntries(
          [...oddTexts, "\u0000", "\ud800", "\u001a0000", "\\u0000"].map((text) => [text, text])
        )
        const validators = [{}, { etag: "" }, { "": "x" }, { etag: 'W/"abc"', "last-modified": "now" }, odd]
        const keys = validators.map((_, i) => `${i}`)
        const read = Effect.map(store.read(ns, keys), (rows) =>
          rows.map((row) => (row._tag === "Row" ? row.validators : undefined))
        )
        yield* store.write(
          ns,
          validators.map((validators, i) => row(`${i}`, 1, { validators }))
        )
        assert.deepStrictEqual(yield* read, validators)
        const found = yield* store.read(ns, keys)
        const refilled = validators.toReversed()
        yield* store.fill(
          ns,
          refilled.map((validators, i) => fenced(row(`${i}`, 1, { validators }), found[i]!.fence))
        )
        assert.deepStrictEqual(yield* read, refilled)
        yield* store.remove(ns, keys)
        yield* store.write(
          ns,
          keys.map((key) => row(key, 1))
        )
        assert.deepStrictEqual(
          yield* read,
          keys.map(() => ({}))
        )
      })
    )

    it.effect("any load time, kind and validators come back", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const run = Effect.runPromiseWith(yield* Effect.context<R>())
        const unit = fc.constantFrom(
          "\u0000",
          "\u001a",
          "\ud83d",
          "\ude00",
          "\\",
          '"',
          "0",
          "1",
          "a",
          "u",
          "{",
          "}",
          "'"
        )
        const text = fc.oneof(fc.string({ unit }), fc.string({ unit: "binary" }), fc.constant("__proto__"))
        const parts = fc.record({
          loadTime: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
          isFailure: fc.boolean(),
          validators: fc.dictionary(text.filter(isPlainName), text, { noNullPrototype: true })
        })
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(parts, { minLength: 1, maxLength: 8, size: "max" }), (rows) =>
              run(
                Effect.gen(function* () {
                  yield* store.write(
                    ns,
                    rows.map((parts, i) => row(`${i}`, 1, parts))
                  )
                  const read = yield* store.read(
                    ns,
                    rows.map((_, i) => `${i}`)
                  )
                  assert.deepStrictEqual(
                    read.map((row) => {
                      assert(row._tag === "Row")
                      const { isFailure, loadTime, validators } = row
                      return { loadTime: loadTime + 0, isFailure, validators }
                    }),
                    rows.map((parts) => ({ ...parts, loadTime: parts.loadTime + 0 }))
                  )
                })
              )
            ),
            { numRuns: 100 }
          )
        )
      })
    )

    it.effect("a rearmed row asks every reader not to load it anew, for a while", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const keys = ["a", "b", "c", "x".repeat(2000)]
        yield* store.write(
          ns,
          keys.map((key) => row(key, key, { timeToLive: 1000, staleFor: Infinity }))
        )
        yield* advance(2000)
        assert.deepStrictEqual(yield* retries(store, ns, keys), [0, 0, 0, 0])
        yield* rearm(store, ns, ["x".repeat(2000), "c", "a"], 60_000)
        yield* rearm(store, ns, ["c"], 200_000)
        const [a, b, c, x] = yield* retries(store, ns, keys)
        assertNear(a!, 60_000)
        assert.strictEqual(b, 0)
        assertNear(c!, 200_000)
        assertNear(x!, 60_000)
        assert.deepStrictEqual((yield* store.read(ns, keys)).map(documentOf), keys)
        yield* advance(60_000)
        const later = yield* retries(store, ns, keys)
        assert.deepStrictEqual([later[0], later[1], later[3]], [0, 0, 0])
        assertNear(later[2]!, 140_000)
        yield* rearm(store, ns, ["a", "c"], 0)
        assert.deepStrictEqual(yield* retries(store, ns, keys), [0, 0, 0, 0])
      })
    )

    it.effect("rearming a row does not lengthen its life", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [
          row("a", 1, { timeToLive: 0, staleFor: 60_000 }),
          row("fresh", 1, { timeToLive: 60_000, staleFor: 60_000 }),
          row("endless", 1, { timeToLive: 0, staleFor: Infinity })
        ])
        const keys = ["a", "fresh", "endless"]
        const before = yield* store.read(ns, keys)
        for (const retryAfter of [3_600_000, 8e15, Number.MAX_VALUE, Infinity]) {
          yield* rearm(store, ns, keys, retryAfter)
          const rows = yield* store.read(ns, keys)
          assert.deepStrictEqual(documentOf(rows[0]!), 1)
          for (const [i, row] of rows.slice(0, 2).entries()) {
            const old = before[i]!
            assert(row._tag === "Row" && old._tag === "Row")
            assert.strictEqual(row.retryAfter, row.staleTimeToLive)
            assertNear(row.age, 0)
            assertNear(row.timeToLive, old.timeToLive)
            assertNear(row.staleTimeToLive, old.staleTimeToLive)
          }
          const endless = rows[2]!
          assert(endless._tag === "Row" && endless.staleTimeToLive === Infinity)
          assert.isAtLeast(endless.retryAfter, 3_500_000)
        }
        yield* advance(60_000)
        assert.deepStrictEqual(yield* kinds(store, ns, ["a"]), ["NoRow"])
      })
    )

    const ends: Record<string, (store: Store, ns: string, fence: Fence) => Effect.Effect<unknown, unknown, R>> = {
      "a fill": (store, ns, fence) => store.fill(ns, [fenced(row("k", "new", { staleFor: 60_000 }), fence)]),
      "a write": (store, ns) => store.write(ns, [row("k", "new", { timeToLive: 0, staleFor: 60_000 })]),
      "a remove and a write": (store, ns) =>
        Effect.andThen(
          store.remove(ns, ["k"]),
          store.write(ns, [row("k", "new", { timeToLive: 0, staleFor: 60_000 })])
        ),
      "a clear and a write": (store, ns) =>
        Effect.andThen(store.clear(ns), store.write(ns, [row("k", "new", { timeToLive: 0, staleFor: 60_000 })]))
    }
    for (const [change, apply] of Object.entries(ends)) {
      it.effect(`${change} leaves nothing of a rearm, and of a later one by somebody who read before`, () =>
        Effect.gen(function* () {
          const store = yield* CacheStore
          const ns = namespace()
          yield* store.write(ns, [row("k", "old", { timeToLive: 0, staleFor: 60_000 })])
          const { fence } = yield* load(store, ns, "k")
          yield* store.rearm(ns, [{ key: "k", fence, retryAfter: 30_000 }])
          assertNear((yield* retries(store, ns, ["k"]))[0]!, 30_000)
          yield* apply(store, ns, fence)
          assert.deepStrictEqual(yield* retries(store, ns, ["k"]), [0])
          yield* store.rearm(ns, [{ key: "k", fence, retryAfter: 30_000 }])
          assert.deepStrictEqual(yield* retries(store, ns, ["k"]), [0])
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), "new")
        })
      )
    }

    it.effect("a rearm makes no row, and brings none back", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const [ns, other] = [namespace(), namespace()]
        const keys = ["absent", "removed", "expired", "elsewhere"]
        yield* store.write(ns, [row("removed", 1), row("expired", 1, { timeToLive: 0 })])
        yield* store.write(other, [row("elsewhere", 1)])
        yield* store.remove(ns, ["removed"])
        yield* rearm(store, ns, keys, 60_000)
        assert.deepStrictEqual(
          yield* kinds(store, ns, keys),
          keys.map(() => "NoRow")
        )
        assert.deepStrictEqual(yield* retries(store, other, ["elsewhere"]), [0])
        const cleared = yield* load(store, other, "elsewhere")
        yield* store.clear(other)
        yield* store.rearm(other, [{ key: "elsewhere", fence: cleared.fence, retryAfter: 60_000 }])
        assert.deepStrictEqual(yield* kinds(store, other, ["elsewhere"]), ["NoRow"])
      })
    )

    it.effect("a rearm breaks no fence", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("k", "old", { timeToLive: 0, staleFor: 60_000 })])
        const { fence } = yield* load(store, ns, "k")
        yield* store.rearm(ns, [{ key: "k", fence, retryAfter: 30_000 }])
        const after = yield* load(store, ns, "k")
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "new"), fence)]), [true])
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "late"), after.fence)]), [false])
        assert.strictEqual(documentOf(yield* load(store, ns, "k")), "new")
      })
    )

    it.effect("a value of a mebibyte comes back whole", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const large = Array.from({ length: 2 ** 20 / 8 }, (_, i) => ((i * 2_654_435_761) % 16_777_216) + 10_000_000)
        yield* store.write(ns, [row("large", large)])
        assert.deepStrictEqual(documentOf(yield* load(store, ns, "large")), large)
      })
    )

    it.effect("scan lists the live rows in code point order", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const ordered = [
          "",
          "\u0001",
          "A",
          "B",
          "a",
          "a\u0001",
          "a ",
          "ab",
          "b",
          "é",
          "\ud7ff",
          "\ufffd",
          "😀",
          "\u{10ffff}"
        ]
        yield* store.write(
          ns,
          ordered
            .toReversed()
            .map((key, i) => row(key, key, { tags: [`${i}`], size: i, timeToLive: 60_000, staleFor: 30_000 }))
        )
        yield* store.write(ns, [
          row("aa", 1, { timeToLive: 1000 }),
          row("ac", 1),
          row("zy", 1, { timeToLive: 1000, staleFor: 60_000 }),
          row("zz", 1, { timeToLive: Infinity })
        ])
        yield* store.write(namespace(), [row("A", 1)])
        yield* advance(2000)
        yield* store.remove(ns, ["ac", "ad"])
        const rows = yield* Stream.runCollect(store.scan(ns))
        const keys = [...ordered.slice(0, 9), "zy", "zz", ...ordered.slice(9)]
        assert.deepStrictEqual(
          rows.map(({ key }) => key),
          keys
        )
        const [first] = rows
        assert.deepStrictEqual([first?.tags, first?.size, first?.accessCount], [["13"], 13, 0])
        assertNear(first!.expiresAt - first!.createdAt, 60_000)
        assertNear(first!.staleUntil - first!.createdAt, 90_000)
        assertNear(first!.lastAccessed - first!.createdAt, 0)
        assert.strictEqual(rows.find(({ key }) => key === "zz")?.expiresAt, Infinity)
      })
    )

    it.effect("scan lists more rows than one page, each once, long keys in full", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const keys = [...Array.from({ length: 2500 }, (_, i) => `key ${i}`), ...longTexts]
        yield* store.write(
          ns,
          keys.map((key) => row(key, 1))
        )
        yield* store.remove(ns, ["key 1", "key 2"])
        const rows = yield* Stream.runCollect(store.scan(ns))
        assert.deepStrictEqual(
          rows.map(({ key }) => key).toSorted(),
          keys.filter((key) => key !== "key 1" && key !== "key 2").toSorted()
        )
        const some = yield* Stream.runCollect(Stream.take(store.scan(ns), 3))
        assert.deepStrictEqual(
          some.map(({ key }) => key),
          rows.slice(0, 3).map(({ key }) => key)
        )
      })
    )

    it.effect("sweep removes what is dead, no more than it was told, and nothing else (C71)", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        yield* store.clearAll
        yield* advance(600_000)
        yield* Effect.repeat(store.sweep(10_000), { while: (removed) => removed > 0 })
        const ns = namespace()
        yield* store.write(ns, [
          row("short", 1, { timeToLive: 1000 }),
          row("stale", 1, { timeToLive: 1000, staleFor: 640_000 }),
          row("stale for good", 1, { timeToLive: 1000, staleFor: Infinity }),
          row("long", 1, { timeToLive: 3_600_000 }),
          row("endless", 1, { timeToLive: Infinity })
        ])
        yield* store.write(ns, [row("a", 1, { timeToLive: Infinity })])
        yield* store.remove(ns, ["a", "b", "c", "d"])
        yield* advance(500_000)
        assert.strictEqual(yield* store.sweep(100), 0, "a load that began before may still be under way")
        yield* advance(110_000)
        assert.strictEqual(yield* store.sweep(0), 0)
        assert.strictEqual(yield* store.sweep(2), 2)
        assert.strictEqual(yield* store.sweep(2), 2)
        assert.strictEqual(yield* store.sweep(100), 1)
        assert.strictEqual(yield* store.sweep(100), 0)
        const keys = ["short", "stale", "stale for good", "long", "endless"]
        assert.deepStrictEqual(yield* kinds(store, ns, keys), ["NoRow", "Row", "Row", "Row", "Row"])
        yield* advance(40_000)
        assert.strictEqual(yield* store.sweep(100), 1)
        assert.deepStrictEqual(yield* kinds(store, ns, keys), ["NoRow", "NoRow", "Row", "Row", "Row"])
        const { fence } = yield* load(store, ns, "short")
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("short", 2), fence)]), [true])
      })
    )

    const test: StoreTest<R> = (name, body) =>
      it.effect(name, () => Effect.flatMap(CacheStore, (store) => body(store, namespace())))
    changeSuite(test, advance)
    leaseSuite(test, advance)
    modelSuite(test, advance)
  })
