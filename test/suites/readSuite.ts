/** What a read and a write of one key do, whatever tiers the cache has. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Schema } from "effect"
import { TieredCache } from "../../src/TieredCache.ts"
import { counting, defectOf, start, type Test } from "./cacheNode.ts"

const days = Duration.days

export const readSuite = (test: Test): void => {
  test("a cold key is loaded once and answered by the cache from then on", ({ drift, namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int, timeToLive: "1 hour" })
      const { loader, runs } = counting()
      const first = yield* cache.getOrSetEntry(ns, "a", loader)
      assert.strictEqual(first.value, 1)
      assert.strictEqual(first.origin, "loader")
      assert.strictEqual(first.expiresAt - first.createdAt, 3_600_000)
      const second = yield* cache.getOrSetEntry(ns, "a", loader)
      assert.strictEqual(second.value, 1)
      assert.strictEqual(second.origin, topology.memory ? "memory" : "store")
      assert.strictEqual(second.freshness, "fresh")
      assert.deepStrictEqual(second.tags, [])
      assert.approximately(second.createdAt, first.createdAt, drift)
      assert.approximately(second.expiresAt, first.expiresAt, drift)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
      assert.strictEqual(Option.getOrThrow(yield* cache.getEntry(ns, "a")).value, 1)
      assert.strictEqual(runs(), 1)
    }))

  test("an effect built once looks the cache up at each run", ({ advance, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int, timeToLive: "1 hour" })
      const { loader } = counting()
      const read = cache.getOrSet(ns, "a", loader)
      const look = cache.get(ns, "a")
      const lookMany = cache.getMany(ns, ["a"])
      const write = cache.set(ns, "a", 100)
      const remove = cache.invalidate(ns, "a")
      const clear = cache.clear(ns)
      assert.deepStrictEqual([yield* look, yield* lookMany], [Option.none(), [Option.none()]])
      assert.deepStrictEqual([yield* read, yield* read], [1, 1])
      assert.deepStrictEqual([yield* look, yield* lookMany], [Option.some(1), [Option.some(1)]])
      assert.deepStrictEqual([yield* remove, yield* remove], [true, false])
      assert.deepStrictEqual([yield* look, yield* read], [Option.none(), 2])
      yield* write
      assert.deepStrictEqual([yield* look, yield* read], [Option.some(100), 100])
      yield* clear
      assert.deepStrictEqual([yield* look, yield* read], [Option.none(), 3])
      yield* advance("2 hours")
      assert.deepStrictEqual([yield* look, yield* read], [Option.none(), 4])
    }))

  test("data-first, data-last and the method are one operation", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, layer } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { loader, runs } = counting()
      const last = loader.pipe(TieredCache.getOrSet(ns, "a"))
      const first = TieredCache.getOrSet(loader, ns, "a")
      const lastEntry = loader.pipe(TieredCache.getOrSetEntry(ns, "a", { timeToLive: "1 minute" }))
      const firstEntry = TieredCache.getOrSetEntry(loader, ns, "a", {})
      const cached = TieredCache.cached(ns, () => loader)
      const cachedMany = TieredCache.cachedMany(ns, () => Effect.map(loader, (value) => [value]))
      const values = yield* Effect.all([
        last,
        first,
        Effect.map(lastEntry, ({ value }) => value),
        Effect.map(firstEntry, ({ value }) => value),
        cached("a"),
        Effect.map(cachedMany(["a"]), ([value]) => value),
        Effect.map(
          TieredCache.getOrSetMany(ns, ["a"], () => Effect.map(loader, (value) => [value])),
          ([value]) => value
        ),
        cache.getOrSet(ns, "a", loader),
        cache.cached(ns, () => loader)("a"),
        Effect.map(cache.cachedMany(ns, () => Effect.map(loader, (value) => [value]))(["a"]), ([value]) => value)
      ]).pipe(Effect.provide(layer))
      assert.deepStrictEqual(new Set(values), new Set([1]))
      assert.strictEqual(runs(), 1)
    }))

  test("every operation of the service exists as a module function", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { layer } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* Effect.gen(function* () {
        yield* TieredCache.clearAll
        yield* TieredCache.set(ns, "a", 1)
        yield* TieredCache.setMany(ns, [
          ["b", 2],
          ["c", 3]
        ])
        assert.deepStrictEqual(yield* TieredCache.get(ns, "a"), Option.some(1))
        assert.strictEqual(Option.getOrThrow(yield* TieredCache.getEntry(ns, "b")).value, 2)
        assert.deepStrictEqual(yield* TieredCache.getMany(ns, ["c", "x"]), [Option.some(3), Option.none()])
        assert.strictEqual(yield* TieredCache.invalidate(ns, "a"), true)
        assert.deepStrictEqual(yield* TieredCache.invalidateMany(ns, ["a", "b"]), [false, true])
        assert.strictEqual(yield* TieredCache.clear(ns), topology.store ? 1 : 0)
        yield* TieredCache.set(ns, "d", 4)
        assert.strictEqual(yield* TieredCache.clearAll, topology.store ? 1 : 0)
        assert.deepStrictEqual(yield* TieredCache.get(ns, "d"), Option.none())
        assert.strictEqual((yield* TieredCache.stats).sets, 4)
        assert.strictEqual((yield* TieredCache.statsOf(ns)).sets, 4)
        assert.strictEqual((yield* TieredCache.health).status, "Up")
      }).pipe(Effect.provide(layer))
    }))

  test("peek has what memory has, at once, and only while it is fresh", ({ advance, namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ key: Schema.Int, value: Schema.NullOr(Schema.Int), timeToLive: "1 hour" })
      assert.isUndefined(cache.peek(ns, 1))
      yield* cache.set(ns, 1, 100)
      yield* cache.set(ns, 2, null)
      const before = yield* cache.statsOf(ns)
      assert.deepStrictEqual(
        [cache.peek(ns, 1), cache.peek(ns, 2)],
        topology.memory ? [100, null] : [undefined, undefined]
      )
      assert.isUndefined(cache.peek(ns, 3))
      const { memory } = yield* cache.statsOf(ns)
      assert.strictEqual(memory.hits - before.memory.hits, topology.memory ? 2 : 0)
      assert.strictEqual(memory.misses, before.memory.misses)
      yield* advance("1 hour")
      assert.isUndefined(cache.peek(ns, 1))
      yield* cache.set(ns, 1, 101)
      yield* cache.invalidate(ns, 1)
      assert.isUndefined(cache.peek(ns, 1))
    }))

  test("peek finds no kept failure, nothing due for a refresh, and nothing of what is copied", ({
    advance,
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const failing = namespace({ value: Schema.Int, error: Schema.Literal("no"), failureTimeToLive: "1 hour" })
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(failing, "a", Effect.fail("no" as const))), "no")
      assert.isUndefined(cache.peek(failing, "a"))
      const early = namespace({ value: Schema.Int, timeToLive: "1 hour", earlyRefresh: 0.5 })
      yield* cache.set(early, "a", 1)
      yield* advance("40 minutes")
      assert.isUndefined(cache.peek(early, "a"))
      const copied = namespace({ value: Schema.Struct({ n: Schema.Int }), copies: true })
      yield* cache.set(copied, "a", { n: 1 })
      assert.isUndefined(cache.peek(copied, "a"))
    }))

  test("C78 set, get and invalidate do what they say, and say what they did", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.String })
      assert.strictEqual(yield* cache.invalidate(ns, "a"), false)
      yield* cache.set(ns, "a", "1")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some("1"))
      yield* cache.set(ns, "a", "2")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some("2"))
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.die("not to be run")), "2")
      assert.strictEqual(yield* cache.invalidate(ns, "a"), true)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.strictEqual(yield* cache.invalidate(ns, "a"), false)
      yield* cache.set(ns, "a", "3")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some("3"))
    }))

  test("C16 an entry is there until its timeToLive has passed, and not a moment longer", ({
    advance,
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int, timeToLive: "1 hour", memoryTimeToLive: "1 day" })
      const { loader } = counting()
      yield* cache.getOrSet(ns, "a", loader)
      yield* cache.set(ns, "b", 7)
      yield* advance("59 minutes")
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.some(1), Option.some(7)])
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
      yield* advance("1 minute")
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.none(), Option.none()])
      assert.strictEqual(yield* cache.invalidate(ns, "b"), false)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 2)
    }))

  test("C20 zero, infinite and very long lifetimes mean what they say", ({ advance, namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const lifetimes = {
        infinite: Duration.infinity,
        "a million years": days(365_250_000),
        "290 thousand years": days(105_922_500),
        "a hundred years": days(36_525)
      }
      for (const [name, timeToLive] of Object.entries(lifetimes)) {
        const ns = namespace({ value: Schema.Int, timeToLive, memoryTimeToLive: timeToLive })
        const { loader, runs } = counting()
        yield* cache.getOrSet(ns, "loaded", loader)
        yield* cache.set(ns, "set", 5)
        yield* advance(days(10))
        assert.strictEqual(yield* cache.getOrSet(ns, "loaded", loader), 1, name)
        assert.deepStrictEqual(yield* cache.get(ns, "set"), Option.some(5), name)
        assert.strictEqual(runs(), 1, name)
        const { expiresAt } = Option.getOrThrow(yield* cache.getEntry(ns, "set"))
        assert.strictEqual(expiresAt === Infinity, name !== "a hundred years", name)
      }
      const kept = memory.entries
      const never = namespace({ value: Schema.Int, timeToLive: 0 })
      const { loader, runs } = counting()
      assert.deepStrictEqual(
        [yield* cache.getOrSet(never, "a", loader), yield* cache.getOrSet(never, "a", loader), runs()],
        [1, 2, 2]
      )
      yield* cache.set(never, "a", 9)
      assert.deepStrictEqual(yield* cache.get(never, "a"), Option.none())
      assert.strictEqual(memory.entries, kept)
      if (topology.memory) assert.isAbove(kept, 0)
    }))

  test("C21 null, undefined and none are values, for as long as negativeTimeToLive", ({ advance, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const lives = { timeToLive: "1 hour", negativeTimeToLive: "10 minutes", memoryTimeToLive: "1 day" } as const
      const nullable = namespace({ value: Schema.NullOr(Schema.Int), ...lives })
      const optional = namespace({ value: Schema.UndefinedOr(Schema.Int), ...lives })
      const option = namespace({ value: Schema.Option(Schema.Int), ...lives })
      let runs = 0
      const once = <A>(value: A) => Effect.sync(() => (runs++, value))
      const readAll = Effect.all([
        cache.getOrSet(nullable, "nothing", once(null)),
        cache.getOrSet(nullable, "something", once(1)),
        cache.getOrSet(optional, "nothing", once(undefined)),
        cache.getOrSet(optional, "something", once(2)),
        cache.getOrSet(option, "nothing", once(Option.none())),
        cache.getOrSet(option, "something", once(Option.some(3)))
      ])
      const values = [null, 1, undefined, 2, Option.none(), Option.some(3)]
      assert.deepStrictEqual(yield* readAll, values)
      assert.strictEqual(runs, 6)
      yield* advance("9 minutes")
      assert.deepStrictEqual(yield* readAll, values)
      assert.deepStrictEqual(yield* cache.get(nullable, "nothing"), Option.some(null))
      assert.deepStrictEqual(yield* cache.get(optional, "nothing"), Option.some(undefined))
      assert.deepStrictEqual(yield* cache.get(option, "nothing"), Option.some(Option.none()))
      assert.strictEqual(runs, 6)
      yield* advance("2 minutes")
      assert.deepStrictEqual(yield* readAll, values)
      assert.strictEqual(runs, 9)
    }))

  test("C21 undefined where the schema does not allow it is served and not kept", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.NullOr(Schema.Int) })
      const undefinedByMistake = Effect.sync(() => undefined as unknown as null)
      assert.isUndefined(yield* cache.getOrSet(ns, "a", undefinedByMistake))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.strictEqual((yield* Effect.flip(cache.set(ns, "a", undefined as never))).reason._tag, "EncodeFailed")
    }))

  test("the timeToLive of a call overrides that of the namespace", ({ advance, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({
        value: Schema.NullOr(Schema.Int),
        timeToLive: "1 hour",
        negativeTimeToLive: "1 second",
        memoryTimeToLive: "30 days"
      })
      const { loader, runs } = counting()
      yield* cache.getOrSet(ns, "short", loader, { timeToLive: "10 minutes" })
      yield* cache.getOrSet(ns, "long", loader, { timeToLive: "1 day" })
      yield* cache.set(ns, "set short", 0, { timeToLive: 600_000 })
      yield* cache.set(ns, "set long", 0, { timeToLive: { days: 1 } })
      yield* cache.set(ns, "nothing", null, { timeToLive: "1 day" })
      yield* cache.setMany(ns, [["many", 0]], { timeToLive: Duration.infinity })
      yield* advance("11 minutes")
      const keys = ["short", "long", "set short", "set long", "nothing", "many"]
      const present = Effect.map(cache.getMany(ns, keys), (found) => keys.filter((_, i) => Option.isSome(found[i]!)))
      assert.deepStrictEqual(yield* present, ["long", "set long", "nothing", "many"])
      yield* advance("2 days")
      assert.deepStrictEqual(yield* present, ["many"])
      assert.strictEqual(runs(), 2)
      yield* cache.getOrSet(ns, "zero", loader, { timeToLive: 0 })
      assert.deepStrictEqual(yield* cache.get(ns, "zero"), Option.none())
      yield* cache.set(ns, "many", 1, { timeToLive: 0 })
      assert.deepStrictEqual(yield* cache.get(ns, "many"), Option.none())
    }))

  test("a timeToLive that makes no sense is a typed error of set, and keeps nothing of getOrSet", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const strict = namespace({ value: Schema.Int, onStoreFailure: "fail" })
      yield* cache.set(ns, "a", 1)
      for (const timeToLive of [-1, NaN, -Infinity, "soon", "-1 hour"] as Array<Duration.Input>) {
        assert.strictEqual(yield* cache.getOrSet(ns, "b", Effect.succeed(2), { timeToLive }), 2)
        assert.deepStrictEqual(yield* cache.get(ns, "b"), Option.none())
        const error = yield* Effect.flip(cache.set(ns, "a", 2, { timeToLive }))
        assert.strictEqual(error.reason._tag, "InvalidPolicy")
        assert.include(error.message, "timeToLive")
        const failed = yield* Effect.flip(cache.getOrSet(strict, "b", Effect.succeed(2), { timeToLive }))
        assert.strictEqual(failed.reason._tag, "InvalidPolicy")
      }
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
    }))

  test("the loader's own failure reaches the caller untouched and is not kept", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const failure = { message: "no such gene" }
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", Effect.fail(failure))), failure)
      const defect = new Error("a bug")
      const died = yield* Effect.exit(cache.getOrSet(ns, "a", Effect.die(defect)))
      assert.strictEqual(defectOf(died), defect)
      const thrown = yield* Effect.exit(
        cache.getOrSet(
          ns,
          "a",
          Effect.sync((): number => {
            throw defect
          })
        )
      )
      assert.strictEqual(defectOf(thrown), defect)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      const { loadFailure, loadSuccess } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ loadFailure, loadSuccess }, { loadFailure: 3, loadSuccess: 1 })
    }))

  test("a read that cannot load does not wait for a load", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const load = yield* start(cache.getOrSet(ns, "a", Effect.never))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      yield* cache.set(ns, "a", 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
      yield* Fiber.interrupt(load)
    }))

  test("a load that took longer than the store remembers is served and not kept", ({ advance, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.as(advance("11 minutes"), 1)), 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.strictEqual(yield* cache.getOrSet(ns, "b", Effect.as(advance("9 minutes"), 2)), 2)
      assert.deepStrictEqual(yield* cache.get(ns, "b"), Option.some(2))
    }))
}
