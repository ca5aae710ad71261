/** What goes from tier to tier, in a cache that has both. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Logger, Option, Schema, SchemaTransformation, Tracer } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import { Namespace } from "../../src/index.ts"
import type { Skip, Tier } from "../../src/Operations.ts"
import { controlled, counting, start, type Test } from "./cacheNode.ts"

/** The log lines of an effect. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const lines: Array<string> = []
  const capture = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel} ${String(message)}`)
  })
  return Effect.map(Effect.provide(effect, Logger.layer([capture])), () => lines)
}

/** What a row is beside its key and its document. */
const row = {
  size: 1,
  schemaVersion: 1,
  timeToLive: 60_000,
  staleFor: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: []
}

/** Whether what the store has of such a key is not to be looked at. */
const isSkipped = (skip: Skip | ReadonlyArray<Skip>, key: string) =>
  [skip].flat().some((way) => way === "storeRead" || (way === "storeReadWhenStale" && key === "stale in memory"))

export const tierSuite = (test: Test): void => {
  test("C35 what only the store has is promoted to memory, with its creation and its end", ({
    advance,
    drift,
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int, timeToLive: "10 minutes", memoryTimeToLive: "1 day" })
      const { loader, runs } = counting()
      const made = yield* a.cache.getOrSetEntry(ns, "a", loader)
      yield* advance("6 minutes")
      const promoted = yield* b.cache.getOrSetEntry(ns, "a", loader)
      const kept = yield* b.cache.getOrSetEntry(ns, "a", loader)
      assert.deepStrictEqual([promoted.origin, kept.origin], ["store", "memory"])
      for (const entry of [promoted, kept]) {
        assert.approximately(entry.createdAt, made.createdAt, drift)
        assert.approximately(entry.expiresAt, made.expiresAt, drift)
      }
      assert.strictEqual(kept.createdAt, promoted.createdAt)
      assert.strictEqual(kept.expiresAt, promoted.expiresAt)
      assert.strictEqual(b.calls.length, 1)
      assert.strictEqual(runs(), 1)
    }))

  test("C35 memory never outlives the store's row", ({ advance, namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int, timeToLive: "10 minutes", memoryTimeToLive: "1 day" })
      yield* a.cache.set(ns, "a", 1)
      yield* advance("6 minutes")
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(1))
      yield* advance("3 minutes")
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(1))
      yield* advance("1 minute")
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
      assert.strictEqual((yield* b.cache.statsOf(ns)).memory.removals.expired, 1)
    }))

  test("C42 memory lets go after memoryTimeToLive, and the store answers", ({ advance, drift, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int, timeToLive: "1 hour", memoryTimeToLive: "5 minutes" })
      const { loader, runs } = counting()
      const made = yield* cache.getOrSetEntry(ns, "a", loader)
      for (const after of ["loaded", "promoted"]) {
        yield* advance("4 minutes")
        assert.strictEqual((yield* cache.getOrSetEntry(ns, "a", loader)).origin, "memory", after)
        yield* advance("1 minute")
        const entry = yield* cache.getOrSetEntry(ns, "a", loader)
        assert.strictEqual(entry.origin, "store", after)
        assert.approximately(entry.expiresAt, made.expiresAt, drift)
      }
      yield* cache.set(ns, "a", 5)
      yield* advance("5 minutes")
      assert.strictEqual((yield* cache.getOrSetEntry(ns, "a", loader)).origin, "store")
      assert.strictEqual(runs(), 1)
    }))

  test("C42 with memoryTimeToLive 0 memory keeps nothing of the namespace", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int, memoryTimeToLive: 0 })
      yield* cache.set(ns, "a", 1)
      yield* cache.getOrSet(ns, "b", Effect.succeed(2))
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.some(1), Option.some(2)])
      assert.strictEqual(memory.entries, 0)
    }))

  test("C43 a tier that is skipped is neither asked nor given anything", ({ namespace, node }) =>
    Effect.gen(function* () {
      const ns = namespace({ value: Schema.Int })
      const cases: ReadonlyArray<{
        readonly skip: Tier | ReadonlyArray<Tier>
        readonly calls: ReadonlyArray<string>
        readonly entries: number
      }> = [
        { skip: "memory", calls: ["read", "fill"], entries: 0 },
        { skip: ["memory"], calls: ["read", "fill"], entries: 0 },
        { skip: "store", calls: [], entries: 1 },
        { skip: ["memory", "store"], calls: [], entries: 0 },
        { skip: [], calls: ["read", "acquire", "fill"], entries: 1 }
      ]
      for (const [i, { calls, entries, skip }] of cases.entries()) {
        const a = yield* node()
        const value = yield* a.cache.getOrSet(ns, `${i}`, Effect.succeed(i), { skip })
        assert.strictEqual(value, i)
        assert.deepStrictEqual(
          a.calls.map(({ operation }) => operation),
          calls
        )
        assert.strictEqual(a.memory.entries, entries)
      }
    }))

  /** Memory has 1 and the store 2, or neither has anything; the loader brings 3. */
  const skips: ReadonlyArray<
    readonly [
      skip: Skip | ReadonlyArray<Skip>,
      key: "cached" | "absent" | "stale in memory",
      value: string,
      calls: string,
      memory: number | undefined,
      store: number | undefined
    ]
  > = [
    [[], "cached", "1 memory", "", 1, 2],
    ["memory", "cached", "2 store", "read", 1, 2],
    ["memoryRead", "cached", "2 store", "read", 2, 2],
    ["memoryWrite", "cached", "1 memory", "", 1, 2],
    ["store", "cached", "1 memory", "", 1, 2],
    ["storeRead", "cached", "1 memory", "", 1, 2],
    ["storeWrite", "cached", "1 memory", "", 1, 2],
    ["storeReadWhenStale", "cached", "1 memory", "", 1, 2],
    [["memoryRead", "memoryWrite"], "cached", "2 store", "read", 1, 2],
    [["memoryRead", "storeRead"], "cached", "3 loader", "read fill", 3, 3],
    [["memory", "storeRead"], "cached", "3 loader", "read fill", 1, 3],
    [["memoryRead", "store"], "cached", "3 loader", "", 3, 2],
    [["memory", "store"], "cached", "3 loader", "", 1, 2],
    [[], "absent", "3 loader", "read acquire fill", 3, 3],
    ["memory", "absent", "3 loader", "read fill", undefined, 3],
    ["memoryRead", "absent", "3 loader", "read fill", 3, 3],
    ["memoryWrite", "absent", "3 loader", "read fill", undefined, 3],
    ["store", "absent", "3 loader", "", 3, undefined],
    ["storeRead", "absent", "3 loader", "read fill", 3, 3],
    ["storeWrite", "absent", "3 loader", "read", 3, undefined],
    [["storeRead", "storeWrite"], "absent", "3 loader", "", 3, undefined],
    [["memoryWrite", "storeWrite"], "absent", "3 loader", "read", undefined, undefined],
    ["storeReadWhenStale", "absent", "3 loader", "read fill", 3, 3],
    [[], "stale in memory", "2 store", "read", 2, 2],
    ["memoryRead", "stale in memory", "2 store", "read", 2, 2],
    ["memoryWrite", "stale in memory", "2 store", "read", undefined, 2],
    ["store", "stale in memory", "3 loader", "", 3, 2],
    ["storeRead", "stale in memory", "3 loader", "read fill", 3, 3],
    ["storeReadWhenStale", "stale in memory", "3 loader", "read fill", 3, 3],
    [["storeReadWhenStale", "storeWrite"], "stale in memory", "3 loader", "", 3, 2]
  ]
  for (const [skip, key, value, calls, inMemory, inStore] of skips) {
    const named = typeof skip === "string" ? skip : skip.length === 0 ? "nothing" : skip.join(" and ")
    test(`C43 with ${named} skipped, a key that is ${key} gives ${value}`, ({ advance, namespace, node }) =>
      Effect.gen(function* () {
        const { cache, ...a } = yield* node()
        const store = yield* CacheStore
        const ns = namespace({ value: Schema.Int, timeToLive: "1 minute", staleIfError: "10 minutes" })
        if (key !== "absent") yield* cache.set(ns, "a", 1)
        if (key === "stale in memory") yield* advance("61 seconds")
        if (key !== "absent") yield* store.write(ns.name, [{ ...row, key: "a", data: "2" }])
        a.calls.length = 0
        const entry = yield* cache.getOrSetEntry(ns, "a", Effect.succeed(3), { skip })
        assert.strictEqual(`${entry.value} ${entry.origin}`, value)
        assert.strictEqual(a.calls.map(({ operation }) => operation).join(" "), calls)
        const isLookup = calls.startsWith("read") && !isSkipped(skip, key)
        assert.strictEqual((yield* cache.statsOf(ns)).store.requests, isLookup ? 1 : 0)
        const [stored] = yield* store.read(ns.name, ["a"])
        assert.strictEqual(stored?._tag === "Row" ? Number(stored.data) : undefined, inStore)
        assert.strictEqual(Option.getOrUndefined(yield* cache.get(ns, "a", { skip: "store" })), inMemory)
      }))
  }

  test("C43 what a skipped tier holds is not found, and is not touched", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, calls, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      calls.length = 0
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "store" }), Option.some(1))
      assert.strictEqual(calls.length, 0)
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
      assert.strictEqual(calls.length, 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: ["store", "memory"] }), Option.none())
      const { loader } = counting()
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, { skip: ["store", "memory"] }), 1)
      assert.strictEqual(memory.entries, 1)
      memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "store" }), Option.none())
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.some(1), Option.none()])
      assert.strictEqual(memory.entries, 1)
    }))

  test("store: false looks everywhere and keeps nothing, not even what the store had", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, calls, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { loader, runs } = counting()
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, { store: false }), 1)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, { store: false }), 2)
      assert.deepStrictEqual(
        calls.map(({ operation }) => operation),
        ["read", "read"]
      )
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      yield* cache.set(ns, "a", 7)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, { store: false }), 7)
      memory.partition(ns.name).clear("size")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, { store: false }), 7)
      assert.strictEqual(memory.entries, 0)
      assert.strictEqual(runs(), 2)
    }))

  test("a read that leaves out a tier or keeps nothing shares its load with nobody", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      for (const options of [{ store: false }, { skip: "memory" }, { skip: "store" }] as const) {
        const { began, loader } = controlled<number>()
        const alone = yield* start(cache.getOrSet(ns, "a", loader, options))
        yield* began
        assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
        yield* Fiber.interrupt(alone)
        yield* cache.invalidate(ns, "a")
      }
      assert.strictEqual((yield* cache.statsOf(ns)).loadInterrupted, 3)
    }))

  test("force puts what it loaded into both tiers", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "a", 1)
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(2), { force: true }), 2)
      assert.strictEqual((yield* a.cache.getOrSetEntry(ns, "a", Effect.succeed(3))).origin, "memory")
      const elsewhere = yield* b.cache.getOrSetEntry(ns, "a", Effect.succeed(3))
      assert.deepStrictEqual([elsewhere.value, elsewhere.origin], [2, "store"])
      const { store } = yield* a.cache.statsOf(ns)
      assert.strictEqual(store.requests, 0)
    }))

  test("a row of another version of the namespace is a miss, and the next load replaces it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const one = namespace({ value: Schema.Int, version: 1 })
      const two = namespace({ name: one.name, value: Schema.Int, version: 2 })
      yield* a.cache.set(one, "a", 1)
      assert.deepStrictEqual(yield* b.cache.get(two, "a"), Option.none())
      assert.strictEqual(yield* b.cache.getOrSet(two, "a", Effect.succeed(2)), 2)
      assert.strictEqual((yield* b.cache.statsOf(two)).store.undecodable, 2)
      b.memory.partition(two.name).clear("size")
      assert.deepStrictEqual(yield* b.cache.get(two, "a"), Option.some(2))
      const c = yield* node()
      assert.deepStrictEqual(yield* c.cache.get(one, "a"), Option.none())
    }))

  test("C82 a row that no longer decodes is a miss, is counted, and the next load replaces it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const store = yield* CacheStore
      const Old = Schema.Struct({ id: Schema.Int })
      const New = Schema.Struct({ id: Schema.Int, symbol: Schema.String })
      const ns = namespace({ value: New })
      const old = Namespace.make(ns.name, { value: Old })
      const { cache: older } = yield* node()
      yield* older.set(old, "of an older schema", { id: 1 })
      yield* store.write(ns.name, [
        { ...row, key: "another document", data: "[1]" },
        { ...row, key: "null", data: "null" },
        { ...row, key: "a mark alone", data: `"\\u001a"` }
      ])
      const keys = ["of an older schema", "another document", "null", "a mark alone"]
      assert.deepStrictEqual(
        yield* cache.getMany(ns, keys),
        keys.map(() => Option.none())
      )
      assert.strictEqual((yield* cache.statsOf(ns)).store.undecodable, 4)
      const values = keys.map((symbol, id) => ({ id, symbol }))
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, keys, () => Effect.succeed(values)), values)
      memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(
        yield* cache.getMany(ns, keys),
        values.map((value) => Option.some(value))
      )
    }))

  test("C48 a value over the limit is served and counted, said once, kept nowhere, and harms no other", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.String, maxValueSize: 12 })
      const strict = namespace({ value: Schema.String, maxValueSize: 12, onStoreFailure: "fail" })
      const large = "x".repeat(11)
      yield* a.cache.set(ns, "before", "ok")
      const lines = yield* logged(
        Effect.gen(function* () {
          for (let i = 0; i < 3; i++) {
            assert.strictEqual(yield* a.cache.getOrSet(ns, "large", Effect.succeed(large)), large)
          }
          assert.deepStrictEqual(
            yield* a.cache.getOrSetMany(ns, ["large", "small", "larger"], () => Effect.succeed([large, "s", large])),
            [large, "s", large]
          )
          assert.strictEqual(yield* a.cache.getOrSet(strict, "large", Effect.succeed(large)), large)
        })
      )
      assert.strictEqual(lines.length, 2)
      assert.match(lines[0]!, new RegExp(`^Error .*namespace "${ns.name}".*13 bytes.*limit is 12`))
      const { tooLarge, unencodable } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ tooLarge, unencodable }, { tooLarge: 5, unencodable: 0 })
      const error = yield* Effect.flip(a.cache.set(ns, "before", large))
      assert(error.reason._tag === "ValueTooLarge")
      assert.deepStrictEqual([error.reason.size, error.reason.limit, error.isRetryable], [13, 12, false])
      for (const { cache } of [a, b]) {
        const found = yield* cache.getMany(ns, ["before", "large", "small", "larger"])
        assert.deepStrictEqual(found, [Option.some("ok"), Option.none(), Option.some("s"), Option.none()])
      }
      assert.strictEqual(yield* a.cache.getOrSet(ns, "exactly", Effect.succeed("x".repeat(10))), "x".repeat(10))
      assert.deepStrictEqual(yield* b.cache.get(ns, "exactly"), Option.some("x".repeat(10)))
    }))

  test("a schema that throws refuses the value or the key, and a row that it throws at is a miss", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const fails = (): never => {
        throw new Error("a bug in the schema")
      }
      const same = (value: string) => value
      const via = (decode: (value: string) => string, encode: (value: string) => string) =>
        Schema.String.pipe(Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode, encode })))
      const unreadable = namespace({ value: via(fails, same) })
      const unwritable = namespace({ value: via(same, fails) })
      const unwritableKey = namespace({ key: via(same, fails), value: Schema.String })
      yield* a.cache.set(unreadable, "a", "1")
      assert.deepStrictEqual(yield* b.cache.get(unreadable, "a"), Option.none())
      assert.strictEqual(yield* b.cache.getOrSet(unreadable, "a", Effect.succeed("2")), "2")
      assert.strictEqual((yield* b.cache.statsOf(unreadable)).store.undecodable, 2)
      assert.strictEqual(yield* a.cache.getOrSet(unwritable, "a", Effect.succeed("1")), "1")
      assert.strictEqual((yield* Effect.flip(a.cache.set(unwritable, "a", "1"))).reason._tag, "EncodeFailed")
      assert.strictEqual(yield* a.cache.getOrSet(unwritableKey, "a", Effect.succeed("1")), "1")
      assert.strictEqual((yield* Effect.flip(a.cache.invalidate(unwritableKey, "a"))).reason._tag, "InvalidKey")
    }))

  test("a value that its schema refuses is served under recover, fails under fail, and is kept nowhere", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache, calls, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const strict = namespace({ value: Schema.Int, onStoreFailure: "fail" })
      const half = Effect.succeed(0.5)
      const lines = yield* logged(
        Effect.gen(function* () {
          assert.strictEqual(yield* cache.getOrSet(ns, "a", half), 0.5)
          assert.strictEqual(yield* cache.getOrSet(ns, "a", half), 0.5)
        })
      )
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], `namespace "${ns.name}", key a`)
      assert.strictEqual((yield* Effect.flip(cache.getOrSet(strict, "a", half))).reason._tag, "EncodeFailed")
      assert.strictEqual((yield* Effect.flip(cache.set(ns, "a", 0.5))).reason._tag, "EncodeFailed")
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(new Set(calls.map(({ operation }) => operation)), new Set(["read", "acquire", "release"]))
      const { loadSuccess, sets, unencodable } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ loadSuccess, sets, unencodable }, { loadSuccess: 2, sets: 0, unencodable: 2 })
    }))

  test("a key that its schema refuses is served under recover, fails under fail, and reaches no tier", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache, calls, memory } = yield* node()
      const ns = namespace({ key: Schema.Int, value: Schema.Int })
      const strict = namespace({ key: Schema.Int, value: Schema.Int, onStoreFailure: "fail" })
      const { loader, runs } = counting()
      const lines = yield* logged(
        Effect.gen(function* () {
          assert.strictEqual(yield* cache.getOrSet(ns, 0.5, loader), 1)
          assert.strictEqual(yield* cache.getOrSet(ns, NaN, loader), 2)
          assert.deepStrictEqual(yield* cache.get(ns, 0.5), Option.none())
          assert.deepStrictEqual(yield* cache.getOrSetMany(ns, [1, 0.5], () => Effect.succeed([10, 20])), [10, 20])
        })
      )
      assert.strictEqual(lines.length, 1)
      const failures = [
        cache.getOrSet(strict, 0.5, loader),
        cache.get(strict, 0.5),
        cache.getOrSetMany(strict, [1, 0.5], () => Effect.succeed([1, 2])),
        cache.set(ns, 0.5, 1),
        cache.invalidate(ns, 0.5)
      ]
      for (const failure of failures) {
        const error = yield* Effect.flip(
          failure as Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }>
        )
        assert.strictEqual(error.reason._tag, "InvalidKey")
      }
      assert.strictEqual(runs(), 2)
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(calls, [])
      const { lookups, unencodable } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ lookups, unencodable }, { lookups: 5, unencodable: 4 })
    }))

  test("of two namespaces of one name with other schemas, the second is refused", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const first = namespace({ value: Schema.Int })
      const same = namespace({ name: first.name, value: Schema.Int })
      const other = Namespace.make(first.name, { value: Schema.String })
      const strict = Namespace.make(first.name, { value: Schema.String, onStoreFailure: "fail" })
      yield* cache.set(first, "a", 1)
      assert.deepStrictEqual(yield* cache.get(same, "a"), Option.some(1))
      const lines = yield* logged(
        Effect.gen(function* () {
          assert.strictEqual(yield* cache.getOrSet(other, "a", Effect.succeed("one")), "one")
          assert.deepStrictEqual(yield* cache.get(other, "a"), Option.none())
        })
      )
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], `namespace "${first.name}"`)
      const refusals = [
        cache.getOrSet(strict, "a", Effect.succeed("one")),
        cache.set(other, "a", "one"),
        cache.invalidate(other, "a"),
        cache.clear(other)
      ]
      for (const refusal of refusals) {
        const error = yield* Effect.flip(
          refusal as Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }>
        )
        assert.strictEqual(error.reason._tag, "InvalidNamespace")
      }
      assert.deepStrictEqual(yield* cache.get(first, "a"), Option.some(1))
    }))

  test("of two namespaces of one name with other lifetimes, the second is refused, not given the first's", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const first = world.namespace({ value: Schema.Int, timeToLive: "1 hour" })
      const same = Namespace.make(first.name, { value: Schema.Int, timeToLive: "60 minutes" })
      const other = Namespace.make(first.name, { value: Schema.Int, timeToLive: "1 minute" })
      yield* cache.set(first, "a", 1)
      assert.deepStrictEqual(yield* cache.get(same, "a"), Option.some(1))
      const { message, reason } = yield* Effect.flip(cache.set(other, "a", 2))
      assert.strictEqual(reason._tag, "InvalidNamespace")
      assert.include(message, "policy")
    }))

  test("memory stays within its bounds, and the store has what had to leave it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node({ memory: { maxEntries: 10, maxSize: 3000 } })
      const ns = namespace({ key: Schema.Int, value: Schema.Int })
      const keys = Array.from({ length: 50 }, (_, i) => i)
      for (const key of keys) {
        yield* cache.getOrSet(ns, key, Effect.succeed(key))
        memory.checkInvariants()
      }
      assert.strictEqual(memory.entries, 10)
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, keys, () => Effect.die("not to be run")), keys)
      assert.strictEqual((yield* cache.statsOf(ns)).memory.removals.size, 80)
    }))

  test("C81 where nobody records spans a load makes none: its loader is in the span of the caller", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.String })
      const spanOf = Effect.map(Effect.currentSpan, ({ name }) => name)
      const read = cache.getOrSet(ns, "a", spanOf)
      assert.strictEqual(yield* Effect.withSpan(read, "caller"), "caller")
    }))

  test("C81 a load is one span with its namespace and number of keys, and a hit has none", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const ours = () => spans.filter(({ name }) => name.startsWith("TieredCache") || name === "loader")
      const read = Effect.withTracer(cache.getOrSet(ns, "a", Effect.withSpan(Effect.succeed(1), "loader")), tracer)
      yield* read
      const [load, loader] = ours()
      assert.strictEqual(load?.name, "TieredCache.load")
      assert.strictEqual(load?.attributes.get("cache.namespace"), ns.name)
      assert.strictEqual(load?.attributes.get("cache.keys"), 1)
      assert.strictEqual(Option.getOrUndefined(loader!.parent as Option.Option<Tracer.AnySpan>), load)
      spans.length = 0
      yield* read
      assert.deepStrictEqual(spans, [])
      yield* Effect.withTracer(cache.get(ns, "b"), tracer)
      assert.deepStrictEqual(
        ours().map(({ name }) => name),
        ["TieredCache.lookup"]
      )
    }))
}
