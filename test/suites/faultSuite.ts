/** What the cache does about a store that fails (a double), with `TestClock`. */
import { assert } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Latch, Logger, Option, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { CacheConfigInput } from "../../src/CacheConfig.ts"
import type { CacheError } from "../../src/CacheError.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { breakable, type Fault, slowness } from "./brokenStore.ts"
import { type CacheNode, controlled, counting, start, type Test, type World } from "./cacheNode.ts"
import { type Removal, removals as otherRemovals } from "./removals.ts"

const settings = { store: { readTimeout: "500 millis", writeTimeout: "2 seconds" } } as const

/** A node over a store that can be broken, and another over the same store, sound. */
const nodes = (world: World, store: CacheConfigInput["store"] = {}) =>
  Effect.gen(function* () {
    const broken = breakable(yield* CacheStore)
    const a = yield* world.node({ store: broken.store, config: { store: { ...settings.store, ...store } } })
    return { ...broken, a, b: yield* world.node(), ns: world.namespace({ value: Schema.Int }) }
  })

/** The effect's answer, which must have come after all timeouts. */
const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* start(effect)
    yield* TestClock.adjust("10 seconds")
    const exit = fiber.pollUnsafe()
    if (exit === undefined) yield* Fiber.interrupt(fiber)
    assert.isDefined(exit, "still waiting")
    return exit
  })

const reasonOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) ? (Cause.squash(exit.cause) as CacheError).reason._tag : "none"

const removals: Readonly<Record<string, Removal>> = {
  invalidate: (cache, ns) => cache.invalidate(ns, "a"),
  invalidateMany: (cache, ns) => cache.invalidateMany(ns, ["a", "b"]),
  clear: (cache, ns) => cache.clear(ns),
  clearAll: (cache) => cache.clearAll,
  "set with timeToLive 0": (cache, ns) => cache.set(ns, "a", 2, { timeToLive: 0 }),
  ...otherRemovals
}

/** Those that take back key "b" too, if that has the tag. */
const alsoOfB = new Set(["invalidateMany", "invalidateTags", "expireTags", "clear", "clearAll"])

/** How the store is told of them. */
const removing = ["remove", "removeTagged", "removeMatching", "clear", "clearAll"] as const

const operationsOf = ({ calls }: CacheNode) => calls.map(({ operation }) => operation)

export const faultSuite = (test: Test): void => {
  const faults = ["fails", "hangs", "late"] as const satisfies ReadonlyArray<Fault>
  const reasons = { fails: "StoreUnavailable", hangs: "StoreTimeout", late: "StoreTimeout" }

  for (const fault of faults) {
    test(`C38 a store that ${fault} keeps no read of a recovering namespace from its answer`, (world) =>
      Effect.gen(function* () {
        const { a, break: breakStore, ns } = yield* nodes(world)
        const { loader, runs } = counting()
        breakStore(fault)
        assert.deepStrictEqual(yield* inTime(a.cache.get(ns, "a")), Exit.succeed(Option.none()))
        assert.deepStrictEqual(yield* inTime(a.cache.getOrSet(ns, "a", loader)), Exit.succeed(1))
        const many = a.cache.getOrSetMany(ns, ["a", "b", "c"], () => Effect.succeed([2, 3]))
        assert.deepStrictEqual(yield* inTime(many), Exit.succeed([1, 2, 3]))
        assert.strictEqual((yield* a.cache.getOrSetEntry(ns, "a", loader)).origin, "memory")
        assert.deepStrictEqual(yield* a.cache.get(ns, "c"), Option.some(3))
        assert.strictEqual(runs(), 1)
        const { store } = yield* a.cache.statsOf(ns)
        assert.deepStrictEqual([store.requests, store.misses, store.errors], [4, 4, 3])
      }))

    test(`a store that ${fault} fails the reads of a namespace that chose so, and no loader runs`, (world) =>
      Effect.gen(function* () {
        const { a, break: breakStore } = yield* nodes(world)
        const strict = world.namespace({ value: Schema.Int, onStoreFailure: "fail" })
        const { loader, runs } = counting()
        yield* a.cache.set(strict, "in memory", 7)
        breakStore(fault)
        const reads = [
          a.cache.get(strict, "a"),
          a.cache.getEntry(strict, "a"),
          a.cache.getMany(strict, ["a", "in memory"]),
          a.cache.getOrSet(strict, "a", loader),
          a.cache.getOrSetMany(strict, ["a"], () => Effect.map(loader, (n) => [n]))
        ]
        for (const read of reads) {
          assert.strictEqual(reasonOf(yield* inTime(read as Effect.Effect<unknown, unknown>)), reasons[fault])
        }
        assert.strictEqual(runs(), 0)
        assert.strictEqual(yield* a.cache.getOrSet(strict, "in memory", loader), 7)
      }))

    test(`C38 a store that ${fault} in the middle of a load: the value is served, and kept in memory`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
        breakStore(fault, "fill")
        assert.deepStrictEqual(yield* inTime(a.cache.getOrSet(ns, "a", Effect.succeed(1))), Exit.succeed(1))
        assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), fault === "late" ? Option.some(1) : Option.none())
        assert.strictEqual((yield* a.cache.statsOf(ns)).store.errors, 1)
        mend()
        const strict = world.namespace({ value: Schema.Int, onStoreFailure: "fail" })
        breakStore(fault, "fill")
        const failed = yield* inTime(a.cache.getOrSet(strict, "a", Effect.succeed(1)))
        assert.strictEqual(reasonOf(failed), reasons[fault])
      }))

    const fails = fault === "late" ? "took and did not confirm" : fault

    test(`a set that the store ${fails} is a CacheError: memory keeps the value, and the row goes once it can`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
        yield* a.cache.set(ns, "a", 1)
        yield* b.cache.get(ns, "a")
        breakStore(fault)
        assert.strictEqual(reasonOf(yield* inTime(a.cache.set(ns, "a", 2))), reasons[fault])
        assert.strictEqual(reasonOf(yield* inTime(a.cache.setMany(ns, [["a", 2]]))), reasons[fault])
        a.calls.length = 0
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.die("not to be run")), 2)
        assert.deepStrictEqual(a.calls, [])
        assert.strictEqual((yield* a.cache.statsOf(ns)).sets, 1)
        // The others were told; a store that does what it is asked has even removed the row.
        assert.strictEqual(b.memory.entries, 0)
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), fault === "late" ? Option.none() : Option.some(1))
        mend()
        yield* world.advance("10 seconds")
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(2))
        assert.strictEqual((yield* a.cache.health).status, "Up")
      }))

    test(`a set that the store ${fails} leaves nothing in the memory of a namespace that fails, and the row is what it is`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend } = yield* nodes(world)
        const strict = world.namespace({ value: Schema.Int, onStoreFailure: "fail" })
        yield* a.cache.set(strict, "a", 1)
        yield* b.cache.get(strict, "a")
        breakStore(fault)
        assert.strictEqual(reasonOf(yield* inTime(a.cache.set(strict, "a", 2))), reasons[fault])
        assert.strictEqual(a.memory.entries + b.memory.entries, 0)
        mend()
        yield* world.advance("10 seconds")
        const stored = Option.some(fault === "late" ? 2 : 1)
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(strict, "a"), stored)
      }))

    for (const [name, remove] of Object.entries(removals)) {
      test(`C45 ${name} that the store ${fault === "late" ? "did and did not confirm" : fault} is a CacheError, and empties memory everywhere all the same`, (world) =>
        Effect.gen(function* () {
          const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
          yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
          yield* b.cache.get(ns, "a")
          const { began, end, loader } = controlled<number>()
          const load = yield* start(a.cache.getOrSet(ns, "b", loader, { tags: ["t"] }))
          yield* began
          breakStore(fault)
          assert.strictEqual(reasonOf(yield* inTime(remove(a.cache, ns))), reasons[fault])
          assert.strictEqual(a.memory.entries + b.memory.entries, 0)
          mend()
          yield* end(Exit.succeed(5))
          assert.strictEqual(yield* Fiber.join(load), 5)
          const left = alsoOfB.has(name) ? Option.none() : Option.some(5)
          for (const { cache } of [a, b]) {
            assert.deepStrictEqual(yield* cache.get(ns, "b"), left)
          }
          const { clears, invalidations } = yield* a.cache.statsOf(ns)
          assert.deepStrictEqual({ clears, invalidations }, { clears: 0, invalidations: 0 })
        }))
    }
  }

  test("a store that dies of a defect is a store that is away", (world) =>
    Effect.gen(function* () {
      const { a, break: breakStore, ns } = yield* nodes(world)
      const strict = world.namespace({ value: Schema.Int, onStoreFailure: "fail" })
      breakStore("dies")
      assert.deepStrictEqual(yield* inTime(a.cache.getOrSet(ns, "a", Effect.succeed(1))), Exit.succeed(1))
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
      assert.deepStrictEqual(yield* inTime(a.cache.get(ns, "b")), Exit.succeed(Option.none()))
      for (const call of [a.cache.get(strict, "a"), a.cache.set(ns, "a", 2), a.cache.invalidate(ns, "a")]) {
        const exit = yield* inTime(call as Effect.Effect<unknown, unknown>)
        assert.strictEqual(reasonOf(exit), "StoreUnavailable")
      }
      assert.strictEqual((yield* a.cache.health).status, "Degraded")
    }))

  test("C39 a read waits for readTimeout and a write for writeTimeout, to the millisecond", (world) =>
    Effect.gen(function* () {
      const { a, break: breakStore, mend, ns } = yield* nodes(world)
      const { loader, runs } = counting()
      breakStore("hangs")
      const load = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* TestClock.adjust("499 millis")
      assert.strictEqual(runs(), 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(load), 1)
      assert.strictEqual(runs(), 1)
      mend()
      breakStore("hangs", "fill")
      const fill = yield* start(a.cache.getOrSet(ns, "b", loader))
      yield* TestClock.adjust("1999 millis")
      assert.strictEqual(runs(), 2)
      assert.isUndefined(fill.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(fill), 2)
      const writes = [
        () => a.cache.set(ns, "a", 9),
        () => a.cache.invalidate(ns, "a"),
        () => a.cache.clear(ns),
        () => a.cache.clearAll
      ]
      breakStore("hangs")
      for (const write of writes) {
        const fiber = yield* start(write() as Effect.Effect<unknown, CacheError>)
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const { reason } = yield* Effect.flip(Fiber.join(fiber))
        assert(reason._tag === "StoreTimeout")
        assert.strictEqual(reason.timeout, 2000)
      }
      mend()
    }))

  for (const [name, remove] of Object.entries(removals)) {
    test(`C45 C46 until ${name} that failed is done, its process does not read the old row back; when it is, all hear of it again`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        breakStore("fails", ...removing)
        assert.strictEqual(reasonOf(yield* Effect.exit(remove(a.cache, ns))), "StoreUnavailable")
        yield* world.advance("10 seconds")
        assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a"]), [Option.none()])
        // Another process knows nothing of that.
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(1))
        assert.strictEqual(b.memory.entries, 1)
        mend()
        yield* world.advance("10 seconds")
        assert.strictEqual(b.memory.entries, 0)
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        a.calls.length = 0
        yield* world.advance("1 minute")
        assert.deepStrictEqual(a.calls, [])
      }))

    test(`C45 ${name} that is interrupted counts as not told, and is done in the background`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        breakStore("hangs", ...removing)
        const removal = yield* start(remove(a.cache, ns))
        yield* Fiber.interrupt(removal)
        mend()
        assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(1))
        yield* world.advance("10 seconds")
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      }))
  }

  test("C45 a load of a key whose removal is pending runs the loader, and what it stores is not removed again", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      yield* a.cache.set(ns, "a", 1)
      breakStore("fails", "remove")
      yield* Effect.exit(a.cache.invalidate(ns, "a"))
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(2)), 2)
      mend()
      yield* world.advance("10 seconds")
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(2))
      assert.strictEqual((yield* a.cache.health).status, "Up")
    }))

  test("C45 what is set or cleared while a removal is pending wins over it", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      const keys = ["set", "set elsewhere after a clear", "left"]
      yield* a.cache.setMany(
        ns,
        keys.map((key) => [key, 1])
      )
      breakStore("fails", "remove")
      yield* Effect.exit(a.cache.invalidateMany(ns, keys))
      yield* a.cache.set(ns, "set", 2)
      yield* world.advance("10 seconds")
      assert.deepStrictEqual(yield* a.cache.getMany(ns, keys), [Option.some(2), Option.none(), Option.none()])
      yield* a.cache.clear(ns)
      yield* b.cache.set(ns, "set elsewhere after a clear", 3)
      mend()
      a.calls.length = 0
      yield* world.advance("10 seconds")
      assert.deepStrictEqual(a.calls, [])
      for (const { cache } of [a, b]) {
        assert.deepStrictEqual(yield* cache.getMany(ns, keys), [Option.none(), Option.some(3), Option.none()])
      }
    }))

  test("C45 more pending keys than maxPendingInvalidations become their namespace, and no other", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world, { maxPendingInvalidations: 3 })
      const other = world.namespace({ value: Schema.Int })
      const keys = ["a", "b", "c", "d"]
      for (const space of [ns, other])
        yield* a.cache.setMany(
          space,
          [...keys, "e"].map((key) => [key, 1])
        )
      breakStore("fails", "remove", "clear")
      yield* Effect.exit(a.cache.invalidateMany(other, keys.slice(1)))
      yield* Effect.exit(a.cache.invalidateMany(ns, keys))
      mend()
      a.calls.length = 0
      for (let statement = 0; statement < 2; statement++) yield* world.advance("10 seconds")
      assert.deepStrictEqual(a.calls.map(({ keys, operation }) => [operation, ...keys]).toSorted(), [
        ["clear"],
        ["remove", "b", "c", "d"]
      ])
      assert.deepStrictEqual(yield* b.cache.get(ns, "e"), Option.none())
      assert.deepStrictEqual(yield* b.cache.getMany(other, ["a", "b", "e"]), [
        Option.some(1),
        Option.none(),
        Option.some(1)
      ])
    }))

  test("C65 making up for what the store was not told has no switch: with room for one key alone, two are made up for", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world, { maxPendingInvalidations: 1 })
      const keys = ["a", "b"]
      for (const key of keys) yield* a.cache.set(ns, key, 1)
      breakStore("fails")
      for (const key of keys) yield* Effect.exit(a.cache.invalidate(ns, key))
      mend()
      for (let statement = 0; statement < 2; statement++) yield* world.advance("10 seconds")
      for (const { cache } of [a, b]) {
        assert.deepStrictEqual(yield* cache.getMany(ns, keys), [Option.none(), Option.none()])
      }
    }))

  test("C45 what is pending when the cache closes is tried once more", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      yield* a.cache.set(ns, "a", 1)
      breakStore("fails", "remove")
      yield* Effect.exit(a.cache.invalidate(ns, "a"))
      yield* b.cache.get(ns, "a")
      // The next try is some seconds away.
      yield* world.advance("10 seconds")
      mend()
      yield* a.close
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
    }))

  test("C46 a fill that the store failed or refused is announced to nobody; a set that failed is, since it may have happened", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      yield* a.cache.set(ns, "a", 1)
      yield* b.cache.get(ns, "a")
      breakStore("fails", "fill")
      yield* a.cache.getOrSet(ns, "a", Effect.succeed(2), { force: true })
      assert.strictEqual(b.memory.entries, 1)
      mend()
      const fill = a.hold("fill", "before")
      const refused = yield* start(a.cache.getOrSet(ns, "a", Effect.succeed(3), { force: true }))
      yield* fill.reached
      yield* (yield* CacheStore).remove(ns.name, ["a"])
      yield* fill.release
      yield* Fiber.join(refused)
      assert.strictEqual((yield* a.cache.statsOf(ns)).store.refused, 1)
      assert.strictEqual(b.memory.entries, 1)
      breakStore("fails")
      yield* Effect.exit(a.cache.set(ns, "a", 4))
      assert.strictEqual(b.memory.entries, 0)
      mend()
    }))

  test("C44 with storeWrites background a load does not wait for the store: memory has the value at once, the store soon", (world) =>
    Effect.gen(function* () {
      const { a, b } = yield* nodes(world)
      const ns = world.namespace({ value: Schema.Int, storeWrites: "background" })
      const fill = a.hold("fill", "before")
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      yield* fill.reached
      const many = a.cache.getOrSetMany(ns, ["b", "c"], () => Effect.succeed([2, 3]))
      assert.deepStrictEqual(yield* many, [2, 3])
      const found = yield* a.cache.getOrSetEntry(ns, "a", Effect.die("not to be run"))
      assert.deepStrictEqual([found.value, found.origin], [1, "memory"])
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
      yield* fill.release
      yield* world.advance("1 milli")
      assert.deepStrictEqual(yield* b.cache.getMany(ns, ["a", "b", "c"]), [1, 2, 3].map(Option.some))
      const filled = a.calls.filter(({ operation }) => operation === "fill")
      assert.deepStrictEqual(
        filled.map(({ keys }) => keys),
        [["a"], ["b", "c"]]
      )
    }))

  test("C44 with storeWrites background a set is awaited all the same", (world) =>
    Effect.gen(function* () {
      const { a, b } = yield* nodes(world)
      const ns = world.namespace({ value: Schema.Int, storeWrites: "background" })
      const write = a.hold("write", "before")
      const set = yield* start(a.cache.set(ns, "a", 1))
      yield* write.reached
      assert.isUndefined(set.pollUnsafe())
      yield* write.release
      yield* Fiber.join(set)
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.some(1))
    }))

  test("C44 a background write that the store refuses is dropped from memory, and counted", (world) =>
    Effect.gen(function* () {
      const { a } = yield* nodes(world)
      const ns = world.namespace({ value: Schema.Int, storeWrites: "background" })
      const fill = a.hold("fill", "before")
      yield* a.cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* fill.reached
      yield* (yield* CacheStore).remove(ns.name, ["a"])
      assert.strictEqual(a.memory.entries, 1)
      yield* fill.release
      yield* world.advance("1 milli")
      assert.strictEqual(a.memory.entries, 0)
      assert.strictEqual((yield* a.cache.statsOf(ns)).store.refused, 1)
    }))

  test("C44 a background write that the store fails is counted, and memory keeps the value", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend } = yield* nodes(world)
      const ns = world.namespace({ value: Schema.Int, storeWrites: "background", onStoreFailure: "fail" })
      breakStore("hangs", "fill")
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      yield* world.advance("2 seconds")
      mend()
      yield* world.advance("10 seconds")
      assert.strictEqual((yield* a.cache.statsOf(ns)).store.errors, 1)
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
    }))

  test("C44 closing the cache stores what was still to be stored in the background", (world) =>
    Effect.gen(function* () {
      const { a, b } = yield* nodes(world)
      const ns = world.namespace({ value: Schema.Int, storeWrites: "background" })
      const fill = a.hold("fill", "before")
      yield* a.cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* fill.reached
      yield* a.cache.getOrSet(ns, "b", Effect.succeed(2))
      const closing = yield* start(a.close)
      assert.isUndefined(closing.pollUnsafe())
      yield* fill.release
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* b.cache.getMany(ns, ["a", "b"]), [Option.some(1), Option.some(2)])
    }))

  test("C44 when maxPendingWrites are waiting the oldest background write is dropped and counted", (world) =>
    Effect.gen(function* () {
      const { a, b } = yield* nodes(world, { maxPendingWrites: 2 })
      const ns = world.namespace({ key: Schema.Int, value: Schema.Int, storeWrites: "background" })
      const fill = a.hold("fill", "before")
      const keys = [0, 1, 2, 3]
      for (const key of keys) {
        yield* a.cache.getOrSet(ns, key, Effect.succeed(key))
        if (key === 0) yield* fill.reached
      }
      yield* fill.release
      yield* world.advance("1 milli")
      assert.strictEqual((yield* a.cache.statsOf(ns)).store.dropped, 1)
      assert.deepStrictEqual(yield* a.cache.getMany(ns, keys), keys.map(Option.some))
      const stored = yield* b.cache.getMany(ns, keys)
      assert.deepStrictEqual(stored, [Option.some(0), Option.none(), Option.some(2), Option.some(3)])
    }))

  for (const fault of ["fails", "hangs", "dies"] as const) {
    test(`C70 a store that ${fault}: each operation of the cache does what it can, or says that it could not`, (world) =>
      Effect.gen(function* () {
        // Not a breaker's doing.
        const { a, break: breakStore, mend, ns } = yield* nodes(world, { breakerFailures: 1000 })
        const { cache } = a
        const many = (missing: ReadonlyArray<string>) => Effect.succeed(missing.map(() => 7))
        const works: ReadonlyArray<readonly [name: string, call: Effect.Effect<unknown, unknown>, answer: unknown]> = [
          ["get is a miss", cache.get(ns, "a"), Option.none()],
          ["getEntry finds nothing", cache.getEntry(ns, "a"), Option.none()],
          ["getMany finds nothing", cache.getMany(ns, ["a", "b"]), [Option.none(), Option.none()]],
          ["getOrSet gives what it loads", cache.getOrSet(ns, "a", Effect.succeed(7)), 7],
          ["cached gives what it loads", cache.cached(ns, () => Effect.succeed(7))("b"), 7],
          ["getOrSetMany gives what it loads", cache.getOrSetMany(ns, ["a", "c", "d"], many), [7, 7, 7]]
        ]
        const fails: ReadonlyArray<readonly [name: string, call: Effect.Effect<unknown, unknown>]> = [
          ["set", cache.set(ns, "e", 1)],
          ["setMany", cache.setMany(ns, [["e", 1]])],
          ["invalidate", cache.invalidate(ns, "e")],
          ["invalidateMany", cache.invalidateMany(ns, ["e", "f"])],
          ["clear", cache.clear(ns)],
          ["clearAll", cache.clearAll],
          ["keys", Stream.runCollect(cache.keys(ns))]
        ]
        breakStore(fault)
        for (const [name, call, answer] of works) {
          assert.deepStrictEqual(yield* inTime(call), Exit.succeed(answer), name)
        }
        // A read that failed gave no fence, so nothing was written after it.
        assert.deepStrictEqual(new Set(operationsOf(a)), new Set(["read"]))
        const reason = fault === "hangs" ? "StoreTimeout" : "StoreUnavailable"
        for (const [name, call] of fails) assert.strictEqual(reasonOf(yield* inTime(call)), reason, name)
        mend()
      }))
  }

  test("C40 the breaker has no switch: where it takes more failures than will ever come, every read asks the store and waits its time", (world) =>
    Effect.gen(function* () {
      const off = { breakerFailures: Number.MAX_SAFE_INTEGER }
      const { a, break: breakStore, mend, ns } = yield* nodes(world, off)
      breakStore("fails")
      for (let i = 0; i < 1000; i++) yield* a.cache.get(ns, `${i}`)
      breakStore("hangs")
      const last = yield* start(a.cache.get(ns, "last"))
      yield* TestClock.adjust("499 millis")
      assert.isUndefined(last.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      assert.deepStrictEqual(yield* Fiber.join(last), Option.none())
      const { store } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([store.errors, store.skipped], [1001, 0])
      mend()
      yield* a.cache.set(ns, "a", 1)
      assert.deepStrictEqual(yield* a.cache.get(ns, "a", { skip: "memory" }), Option.some(1))
    }))

  test("C40 no herd greets a store that returns: of a thousand callers one asks it, and the others when that went well", (world) =>
    Effect.gen(function* () {
      const sound = yield* CacheStore
      const answers = Latch.makeUnsafe()
      let asking = 0
      let most = 0
      const counted = {
        ...sound,
        read: (namespace: string, keys: ReadonlyArray<string>) =>
          Effect.suspend(() => {
            most = Math.max(most, ++asking)
            return Effect.andThen(answers.await, sound.read(namespace, keys))
          }).pipe(Effect.ensuring(Effect.sync(() => asking--)))
      }
      const broken = breakable(counted)
      const a = yield* world.node({ store: broken.store, config: settings })
      const ns = world.namespace({ key: Schema.Int, value: Schema.Int })
      const crowd = (from: number, size: number) =>
        Effect.forEach(
          Array.from({ length: size }, (_, i) => from + i),
          (key) => start(a.cache.getOrSet(ns, key, Effect.succeed(key)))
        )
      broken.break("fails")
      yield* Effect.forEach(yield* crowd(0, 10), Fiber.join)
      broken.mend()
      a.calls.length = 0
      yield* Effect.forEach(yield* crowd(10, 10), Fiber.join)
      assert.deepStrictEqual(a.calls, [])

      yield* world.advance("1 second")
      const greeting = yield* crowd(1000, 1000)
      yield* Effect.forEach(greeting.slice(1), Fiber.join)
      // All but the probe have their values, and no time has passed.
      assert.isUndefined(greeting[0]!.pollUnsafe())
      assert.deepStrictEqual([most, a.calls.length], [1, 1])
      yield* answers.open
      assert.strictEqual(yield* Fiber.join(greeting[0]!), 1000)
      yield* answers.close
      const after = yield* crowd(2000, 100)
      assert.strictEqual(most, 100)
      yield* answers.open
      yield* Effect.forEach(after, Fiber.join)
      const { store } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([store.requests, store.errors, store.skipped], [1120, 5, 5 + 10 + 999])
    }))

  test("a store that is up and has yet to be told of an invalidation is degraded, since that failed", (world) =>
    Effect.gen(function* () {
      const { a, break: breakStore, mend, ns } = yield* nodes(world)
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("1 minute")
      const since = yield* Clock.currentTimeMillis
      breakStore("hangs", "remove")
      const removal = yield* start(a.cache.invalidate(ns, "a"))
      yield* Fiber.interrupt(removal)
      yield* world.advance("1 second")
      const { components, ...whole } = yield* a.cache.health
      assert.deepStrictEqual(whole, { status: "Degraded", since })
      assert.deepStrictEqual([components.store.status, components.store.since], ["Degraded", since])
      assert.include(components.store.problem, "1 invalidation")
      mend()
      yield* world.advance("20 seconds")
      assert.strictEqual((yield* a.cache.health).status, "Up")
    }))

  test("C39 with something stale at hand the store is waited for no longer than softReadTimeout, and has not failed by that", (world) =>
    Effect.gen(function* () {
      const { a, break: breakStore, mend } = yield* nodes(world, { softReadTimeout: "100 millis" })
      const ns = world.namespace({ value: Schema.Int, timeToLive: "1 minute", staleIfError: "10 minutes" })
      const { loader, runs } = counting()
      yield* a.cache.set(ns, "a", 7)
      yield* world.advance("61 seconds")
      breakStore("slow", "read")
      const stale = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* TestClock.adjust("99 millis")
      assert.strictEqual(runs(), 0)
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(yield* Fiber.join(stale), 1)
      const absent = yield* start(a.cache.getOrSet(ns, "b", loader))
      yield* TestClock.adjust(slowness - 1)
      assert.strictEqual(runs(), 1)
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(yield* Fiber.join(absent), 2)
      mend()
      const { store } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([store.requests, store.misses, store.errors], [2, 2, 0])
      assert.strictEqual((yield* a.cache.health).status, "Up")
    }))

  test("with the store away, a hit in memory asks nobody and waits for nothing", (world) =>
    Effect.gen(function* () {
      const { a, break: breakStore, ns } = yield* nodes(world)
      yield* a.cache.set(ns, "a", 1)
      breakStore("hangs")
      a.calls.length = 0
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.die("not to be run")), 1)
      assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a", "a"]), [Option.some(1), Option.some(1)])
      assert.deepStrictEqual(a.calls, [])
    }))

  test("an outage is one line in the log and its end another, whatever the traffic, and health says since when", (world) =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const capture = Logger.make(({ logLevel, message }) => {
        lines.push(`${logLevel} ${String(message)}`)
      })
      yield* Effect.gen(function* () {
        const { a, break: breakStore, mend, ns } = yield* nodes(world)
        const born = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
        const up = yield* a.cache.health
        assert.deepStrictEqual(up, {
          status: "Up",
          since: born,
          components: { memory: { status: "Up", since: born }, store: { status: "Up", since: born } }
        })
        yield* world.advance("1 minute")
        for (const [round, fault] of (["fails", "hangs"] as const).entries()) {
          breakStore(fault)
          const began = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
          const many = Array.from({ length: 100 }, (_, i) => a.cache.getOrSet(ns, `${round} ${i}`, Effect.succeed(i)))
          const callers = yield* Effect.forEach(many, start)
          yield* TestClock.adjust("10 seconds")
          yield* Effect.forEach(callers, Fiber.join)
          assert.strictEqual(lines.length, 2 * round + 1)
          const asked = yield* start(a.cache.health)
          yield* TestClock.adjust("10 seconds")
          const down = yield* Fiber.join(asked)
          const since = fault === "fails" ? began : began + 500
          assert.strictEqual(down.status, "Degraded")
          assert.strictEqual(down.since, since)
          assert.deepStrictEqual(down.components.memory, { status: "Up", since: born })
          assert.strictEqual(down.components.store.status, "Down")
          assert.strictEqual(down.components.store.since, since)
          assert.include(down.components.store.problem, fault === "fails" ? "pulled the plug" : "within 500 ms")
          yield* world.advance("1 minute")
          mend()
          for (let i = 0; i < 10; i++) yield* a.cache.get(ns, `${round} again ${i}`)
          const ended = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
          assert.deepStrictEqual((yield* a.cache.health).components.store, { status: "Up", since: ended })
          assert.strictEqual(lines.length, 2 * round + 2)
        }
        assert.match(lines[0]!, /^Warn cache: the store is down.*pulled the plug/)
        assert.strictEqual(lines[1], "Info cache: the store is back after 80 s")
        assert.match(lines[2]!, /^Warn cache: the store is down.*did not read within 500 ms/)
      }).pipe(Effect.provide(Logger.layer([capture])))
    }))

  test("when the store is back it is used again, for reading and for writing", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      breakStore("fails")
      yield* a.cache.getOrSet(ns, "a", Effect.succeed(1))
      mend()
      yield* b.cache.set(ns, "b", 2)
      assert.deepStrictEqual(yield* a.cache.get(ns, "b"), Option.some(2))
      yield* a.cache.getOrSet(ns, "c", Effect.succeed(3))
      assert.deepStrictEqual(yield* b.cache.get(ns, "c"), Option.some(3))
    }))

  test("a store that was away when a load began is given nothing of it", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      const { began, end, loader } = controlled<number>()
      breakStore("fails")
      const load = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      mend()
      yield* b.cache.set(ns, "a", 2)
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(load), 1)
      for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  test("a write that is interrupted leaves nothing in memory that the store may have changed", (world) =>
    Effect.gen(function* () {
      const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
      for (const change of [a.cache.set(ns, "a", 2), a.cache.invalidate(ns, "a"), a.cache.clear(ns)]) {
        yield* a.cache.set(ns, "a", 1)
        yield* b.cache.get(ns, "a")
        breakStore("late")
        const fiber = yield* start(change as Effect.Effect<unknown, CacheError>)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(a.memory.entries + b.memory.entries, 0)
        mend()
      }
    }))

  test("listing the keys of a store that hangs ends too", (world) =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const scan = Effect.never
      const { cache } = yield* world.node({
        config: settings,
        store: { ...store, scan: () => Stream.fromEffect(scan) }
      })
      const ns = world.namespace({ value: Schema.Int })
      assert.strictEqual(reasonOf(yield* inTime(Stream.runCollect(cache.keys(ns)))), "StoreTimeout")
    }))

  test("nothing waits for a call that cannot be cancelled", (world) =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const frozen = Effect.uninterruptible(Effect.never)
      const { cache } = yield* world.node({
        config: settings,
        store: { ...store, read: () => frozen, fill: () => frozen, write: () => frozen }
      })
      const ns = world.namespace({ value: Schema.Int })
      const load = yield* start(cache.getOrSet(ns, "a", Effect.succeed(1)))
      yield* TestClock.adjust(Duration.millis(2500))
      assert.strictEqual(yield* Fiber.join(load), 1)
      const set = yield* start(cache.set(ns, "a", 2))
      yield* TestClock.adjust(Duration.seconds(2))
      assert.strictEqual(reasonOf(yield* Fiber.await(set)), "StoreTimeout")
      const look = yield* start(cache.get(ns, "b"))
      yield* Fiber.interrupt(look)
    }))
}
