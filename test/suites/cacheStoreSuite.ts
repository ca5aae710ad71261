/**
 * What every `CacheStore` promises. `advance` moves the store's clock.
 *
 * The last test runs random calls against a model that knows neither versions nor
 * generations: it remembers when each key last changed.
 */
import { assert, layer as layerOf } from "@effect/vitest"
import { Duration, Effect, type Layer, Stream } from "effect"
import * as fc from "fast-check"
import { CacheStore, type Fence, type NewRow, type NoRow, type StoredRow } from "../../src/CacheStore.ts"
import { escapeKeyText } from "../../src/JsonText.ts"

export const suite = <R, E>(
  name: string,
  layer: Layer.Layer<CacheStore | R, E>,
  advance: (millis: number) => Effect.Effect<unknown, unknown, R>
) =>
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

    it.effect("an expired row is not read", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("a", 1, { timeToLive: 60_000 }), row("b", 1, { timeToLive: 0 })])
        assert.deepStrictEqual(yield* tags(store, ns, ["a", "b"]), ["Row", "NoRow"])
        yield* advance(60_000)
        assert.deepStrictEqual(yield* tags(store, ns, ["a", "b"]), ["NoRow", "NoRow"])
      })
    )

    it.effect("answers come in the order of the request, one for each key asked", () =>
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
        yield* store.write(ns, [])
      })
    )

    it.effect("an effect of the store does its work at each run, not when it is made", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const read = tags(store, ns, ["a"])
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
      expired: (store, ns) => Effect.andThen(store.write(ns, [row("k", "old", { timeToLive: 1000 })]), advance(2000)),
      removed: (store, ns) => store.remove(ns, ["k"]),
      cleared: (store, ns) => Effect.andThen(store.write(ns, [row("k", "old")]), store.clear(ns))
    }
    const breaks: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, unknown, R>> = {
      remove: (store, ns) => store.remove(ns, ["k"]),
      write: (store, ns) => store.write(ns, [row("k", "new")]),
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

    it.effect("a fill of many keys says for each whether it was stored", () =>
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

    it.effect("remove says for each key whether a live row was there", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("live", 1), row("b", 1), row("expired", 1, { timeToLive: 1000 })])
        yield* store.remove(ns, ["b"])
        yield* advance(2000)
        const keys = ["expired", "live", "b", "absent", "live"]
        assert.deepStrictEqual(yield* store.remove(ns, keys), [false, true, false, false, true])
        assert.deepStrictEqual(yield* store.remove(ns, keys), [false, false, false, false, false])
        assert.deepStrictEqual(yield* tags(store, ns, keys), ["NoRow", "NoRow", "NoRow", "NoRow", "NoRow"])
      })
    )

    it.effect("clear counts the live rows of its namespace and leaves the others alone", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const [ns, other] = [namespace(), namespace()]
        for (const each of [ns, other]) {
          yield* store.write(each, [row("a", 1), row("b", 1), row("c", 1, { timeToLive: 1000 }), row("d", 1)])
          yield* store.remove(each, ["d", "e"])
        }
        yield* advance(2000)
        assert.strictEqual(yield* store.clear(ns), 2)
        assert.strictEqual(yield* store.clear(ns), 0)
        assert.deepStrictEqual(yield* tags(store, ns, ["a", "b", "c"]), ["NoRow", "NoRow", "NoRow"])
        assert.deepStrictEqual(yield* tags(store, other, ["a", "b", "c"]), ["Row", "Row", "NoRow"])
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
        yield* store.write(other, [row("a", 1), row("b", 1)])
        assert.strictEqual(yield* store.clearAll, 3)
        assert.strictEqual(yield* store.clearAll, 0)
        assert.deepStrictEqual(yield* tags(store, other, ["a", "b"]), ["NoRow", "NoRow"])
        yield* store.write(ns, [row("a", 2)])
        assert.strictEqual(documentOf(yield* load(store, ns, "a")), 2)
      })
    )

    it.effect("any string is a namespace and a key of its own", () =>
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
          ordered.toReversed().map((key, i) => row(key, key, { tags: [`${i}`], size: i, timeToLive: 60_000 }))
        )
        yield* store.write(ns, [
          row("aa", 1, { timeToLive: 1000 }),
          row("ac", 1),
          row("zz", 1, { timeToLive: Infinity })
        ])
        yield* store.write(namespace(), [row("A", 1)])
        yield* advance(2000)
        yield* store.remove(ns, ["ac", "ad"])
        const rows = yield* Stream.runCollect(store.scan(ns))
        const keys = [...ordered.slice(0, 9), "zz", ...ordered.slice(9)]
        assert.deepStrictEqual(
          rows.map(({ key }) => key),
          keys
        )
        const [first] = rows
        assert.deepStrictEqual([first?.tags, first?.size, first?.accessCount], [["13"], 13, 0])
        assertNear(first!.expiresAt - first!.createdAt, 60_000)
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

    it.effect("sweep removes what is dead, no more than it was told, and nothing else", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        yield* store.clearAll
        yield* advance(600_000)
        yield* Effect.repeat(store.sweep(10_000), { while: (removed) => removed > 0 })
        const ns = namespace()
        yield* store.write(ns, [
          row("short", 1, { timeToLive: 1000 }),
          row("long", 1, { timeToLive: 3_600_000 }),
          row("endless", 1, { timeToLive: Infinity })
        ])
        yield* store.remove(ns, ["a", "b", "c", "d"])
        yield* advance(500_000)
        assert.strictEqual(yield* store.sweep(100), 0, "a load that began before may still be under way")
        yield* advance(110_000)
        assert.strictEqual(yield* store.sweep(0), 0)
        assert.strictEqual(yield* store.sweep(2), 2)
        assert.strictEqual(yield* store.sweep(2), 2)
        assert.strictEqual(yield* store.sweep(100), 1)
        assert.strictEqual(yield* store.sweep(100), 0)
        assert.deepStrictEqual(yield* tags(store, ns, ["short", "long", "endless"]), ["NoRow", "Row", "Row"])
        const { fence } = yield* load(store, ns, "short")
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("short", 2), fence)]), [true])
      })
    )

    it.effect("random calls are answered as a model that remembers every change answers them", () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const run = Effect.runPromiseWith(yield* Effect.context<R>())
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(calls, { minLength: 5, maxLength: 30 }), (calls) =>
              run(againstModel(store, advance, calls))
            ),
            { numRuns: 100 }
          )
        )
      })
    )
  })

type Store = CacheStore["Service"]

let namespaces = 0
const namespace = () => `ns${++namespaces} `

const row = (key: string, document: unknown, options?: Partial<NewRow>): NewRow => {
  const data = JSON.stringify(document)
  return { key, data, size: Buffer.byteLength(data), schemaVersion: 1, timeToLive: 3_600_000, tags: [], ...options }
}

const fenced = (row: NewRow, fence: Fence) => ({ ...row, fence })

const load = (store: Store, ns: string, key: string) => Effect.map(store.read(ns, [key]), (rows) => rows[0]!)

const tags = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(ns, keys), (rows) => rows.map(({ _tag }) => _tag))

const documentOf = (row: StoredRow | NoRow): unknown => (row._tag === "Row" ? JSON.parse(row.data) : undefined)

const assertNear = (actual: number, expected: number) =>
  assert.isTrue(Math.abs(actual - expected) <= 5000, `${actual} is not near ${expected}`)

const oddTexts = [
  "",
  " ",
  "a",
  "A",
  "%",
  "_",
  "a%",
  "a_",
  "\\",
  "\\\\",
  "*",
  "?",
  "[a]",
  "'",
  "''",
  '"',
  "$1",
  "--",
  ";",
  ":",
  "é",
  "e\u0301",
  "😀",
  "\ufffd",
  "\u0001",
  "\t\n",
  "__proto__",
  escapeKeyText("\u0000"),
  escapeKeyText("\u001a0000"),
  escapeKeyText("\ud800")
]

// The limit of the stored form is 1024 bytes: at it, over it, differing after it,
// with a code point across it, and the stored form of a long key as a key itself.
const longTexts = [
  "x".repeat(1023),
  "x".repeat(1024),
  "x".repeat(1025),
  "x".repeat(10_240),
  `${"x".repeat(10_240)}y`,
  `${"x".repeat(10_239)}y`,
  `${"x".repeat(1023)}é`,
  `${"x".repeat(1023)}è`,
  `${"x".repeat(1022)}é`,
  "😀".repeat(256),
  `${"😀".repeat(256)}a`,
  `${"😀".repeat(256)}b`,
  `a${"😀".repeat(256)}`,
  `a${"😀".repeat(255)}😁`,
  `${"x".repeat(1024)}:sha256:66c38dc8b6bf3a5a5ae5ca3ff1e2d8e5e4bbd6bb9ba95c9dd5ee4bdf8d6d1a2e`
]

type Call =
  | { readonly _tag: "Read" | "Remove"; readonly ns: number; readonly keys: ReadonlyArray<string> }
  | {
      readonly _tag: "Fill"
      readonly ns: number
      readonly keys: ReadonlyArray<string>
      readonly timeToLive: number
      readonly fence: number
    }
  | { readonly _tag: "Write"; readonly ns: number; readonly keys: ReadonlyArray<string>; readonly timeToLive: number }
  | { readonly _tag: "Clear" | "Scan"; readonly ns: number }
  | { readonly _tag: "ClearAll" }
  | { readonly _tag: "Sweep"; readonly limit: number }
  | { readonly _tag: "Advance"; readonly millis: number }

const anyNamespace = fc.nat({ max: 1 })
const anyKeys = fc.uniqueArray(fc.constantFrom("a", "b", "c", "x".repeat(2000)), { minLength: 1, maxLength: 4 })
const anyLife = fc.constantFrom(60_000, 600_000, 3_600_000, Infinity)

const calls: fc.Arbitrary<Call> = fc.oneof(
  { arbitrary: fc.record({ _tag: fc.constant("Read" as const), ns: anyNamespace, keys: anyKeys }), weight: 5 },
  {
    arbitrary: fc.record({
      _tag: fc.constant("Fill" as const),
      ns: anyNamespace,
      keys: anyKeys,
      timeToLive: anyLife,
      fence: fc.nat({ max: 3 })
    }),
    weight: 6
  },
  {
    arbitrary: fc.record({ _tag: fc.constant("Write" as const), ns: anyNamespace, keys: anyKeys, timeToLive: anyLife }),
    weight: 2
  },
  { arbitrary: fc.record({ _tag: fc.constant("Remove" as const), ns: anyNamespace, keys: anyKeys }), weight: 3 },
  { arbitrary: fc.record({ _tag: fc.constantFrom("Clear" as const, "Scan" as const), ns: anyNamespace }), weight: 2 },
  { arbitrary: fc.record({ _tag: fc.constant("ClearAll" as const) }), weight: 1 },
  { arbitrary: fc.record({ _tag: fc.constant("Sweep" as const), limit: fc.constantFrom(1, 1000) }), weight: 2 },
  {
    arbitrary: fc.record({ _tag: fc.constant("Advance" as const), millis: fc.constantFrom(90_000, 400_000, 700_000) }),
    weight: 2
  }
)

interface Entry {
  readonly document: number
  readonly expiresAt: number
}

const idOf = (ns: number, key: string) => `${ns} ${key}`

interface SeenFence {
  readonly fence: Fence
  readonly tick: number
  readonly at: number
}

const againstModel = <R>(
  store: Store,
  advance: (millis: number) => Effect.Effect<unknown, unknown, R>,
  calls: ReadonlyArray<Call>
) =>
  Effect.gen(function* () {
    const names = [namespace(), namespace()]
    const entries = new Map<string, Entry>()
    const changed = new Map<string, number>()
    const seen = new Map<string, Array<SeenFence>>()
    let tick = 0
    let time = 0
    const live = (id: string) => {
      const entry = entries.get(id)
      return entry !== undefined && entry.expiresAt > time ? entry : undefined
    }
    const liveIds = (ns: number) => [...entries.keys()].filter((id) => id.startsWith(`${ns} `) && live(id))
    const change = (id: string, entry: Entry | undefined) => {
      changed.set(id, ++tick)
      if (entry === undefined) entries.delete(id)
      else entries.set(id, entry)
    }
    const clear = (ns: number) => {
      const count = liveIds(ns).length
      for (const id of [...seen.keys(), ...entries.keys()]) if (id.startsWith(`${ns} `)) change(id, undefined)
      return count
    }
    // The clear of other tests' namespaces would be counted too.
    yield* store.clearAll

    for (const call of calls) {
      switch (call._tag) {
        case "Read": {
          for (const [i, row] of (yield* store.read(names[call.ns]!, call.keys)).entries()) {
            const id = idOf(call.ns, call.keys[i]!)
            assert.strictEqual(documentOf(row), live(id)?.document)
            if (row._tag === "Row" && live(id)!.expiresAt !== Infinity) {
              assert.isTrue(Math.abs(row.timeToLive - (live(id)!.expiresAt - time)) < 20_000)
            }
            seen.set(id, [{ fence: row.fence, tick, at: time }, ...(seen.get(id) ?? [])])
          }
          break
        }
        case "Fill": {
          const chosen = call.keys.flatMap((key) => {
            const fences = (seen.get(idOf(call.ns, key)) ?? []).filter(({ at }) => at > time - 600_000)
            const fence = fences[Math.min(call.fence, fences.length - 1)]
            return fence === undefined ? [] : [{ key, fence, document: ++tick }]
          })
          const filled = yield* store.fill(
            names[call.ns]!,
            chosen.map(({ key, fence, document }) =>
              fenced(row(key, document, { timeToLive: call.timeToLive }), fence.fence)
            )
          )
          for (const [i, { key, fence, document }] of chosen.entries()) {
            const id = idOf(call.ns, key)
            assert.strictEqual(filled[i], (changed.get(id) ?? 0) <= fence.tick, `fill of ${key}`)
            if (filled[i] === true) change(id, { document, expiresAt: time + call.timeToLive })
          }
          break
        }
        case "Write": {
          const document = ++tick
          yield* store.write(
            names[call.ns]!,
            call.keys.map((key) => row(key, document, { timeToLive: call.timeToLive }))
          )
          for (const key of call.keys) change(idOf(call.ns, key), { document, expiresAt: time + call.timeToLive })
          break
        }
        case "Remove": {
          assert.deepStrictEqual(
            yield* store.remove(names[call.ns]!, call.keys),
            call.keys.map((key) => live(idOf(call.ns, key)) !== undefined)
          )
          for (const key of call.keys) change(idOf(call.ns, key), undefined)
          break
        }
        case "Clear": {
          assert.strictEqual(yield* store.clear(names[call.ns]!), clear(call.ns))
          break
        }
        case "ClearAll": {
          assert.strictEqual(yield* store.clearAll, clear(0) + clear(1))
          break
        }
        case "Scan": {
          const rows = yield* Stream.runCollect(store.scan(names[call.ns]!))
          assert.deepStrictEqual(
            rows.map(({ key }) => idOf(call.ns, key)),
            liveIds(call.ns).toSorted()
          )
          break
        }
        case "Sweep": {
          const removed = yield* store.sweep(call.limit)
          assert.isTrue(removed >= 0 && removed <= call.limit)
          break
        }
        case "Advance": {
          yield* advance(call.millis)
          time += call.millis
          break
        }
      }
    }
  })
