/** What the cache does about a store that fails (a double), with `TestClock`. */
import { assert } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Logger, Option, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { CacheError } from "../../src/CacheError.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { breakable, type Fault } from "./brokenStore.ts"
import { type CacheNode, controlled, counting, start, type Test, type World } from "./cacheNode.ts"

const settings = { store: { readTimeout: "500 millis", writeTimeout: "2 seconds" } } as const

/** A node over a store that can be broken, and another over the same store, sound. */
const nodes = (world: World) =>
  Effect.gen(function* () {
    const broken = breakable(yield* CacheStore)
    const a = yield* world.node({ store: broken.store, config: settings })
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

export const faultSuite = (test: Test): void => {
  const faults: ReadonlyArray<Fault> = ["fails", "hangs", "late"]
  const reasons = { fails: "StoreUnavailable", hangs: "StoreTimeout", late: "StoreTimeout", dies: "StoreUnavailable" }

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

    test(`a set that the store ${fault === "late" ? "took and did not confirm" : fault} is a CacheError, and leaves nothing stale in memory`, (world) =>
      Effect.gen(function* () {
        const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
        yield* a.cache.set(ns, "a", 1)
        yield* b.cache.get(ns, "a")
        breakStore(fault)
        assert.strictEqual(reasonOf(yield* inTime(a.cache.set(ns, "a", 2))), reasons[fault])
        assert.strictEqual(reasonOf(yield* inTime(a.cache.setMany(ns, [["a", 2]]))), reasons[fault])
        assert.strictEqual(a.memory.entries + b.memory.entries, 0)
        assert.strictEqual((yield* a.cache.statsOf(ns)).sets, 1)
        mend()
        const stored = Option.some(fault === "late" ? 2 : 1)
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), stored)
      }))

    const removals: Record<
      string,
      (node: CacheNode, ns: Parameters<typeof node.cache.clear<string, number>>[0]) => Effect.Effect<unknown, unknown>
    > = {
      invalidate: ({ cache }, ns) => cache.invalidate(ns, "a"),
      invalidateMany: ({ cache }, ns) => cache.invalidateMany(ns, ["a", "b"]),
      clear: ({ cache }, ns) => cache.clear(ns),
      clearAll: ({ cache }) => cache.clearAll,
      "set with timeToLive 0": ({ cache }, ns) => cache.set(ns, "a", 2, { timeToLive: 0 })
    }
    for (const [name, remove] of Object.entries(removals)) {
      test(`C45 ${name} that the store ${fault === "late" ? "did and did not confirm" : fault} is a CacheError, and empties memory everywhere all the same`, (world) =>
        Effect.gen(function* () {
          const { a, b, break: breakStore, mend, ns } = yield* nodes(world)
          yield* a.cache.set(ns, "a", 1)
          yield* b.cache.get(ns, "a")
          const { began, end, loader } = controlled<number>()
          const load = yield* start(a.cache.getOrSet(ns, "b", loader))
          yield* began
          breakStore(fault)
          assert.strictEqual(reasonOf(yield* inTime(remove(a, ns))), reasons[fault])
          assert.strictEqual(a.memory.entries + b.memory.entries, 0)
          mend()
          yield* end(Exit.succeed(5))
          assert.strictEqual(yield* Fiber.join(load), 5)
          const covered = name !== "invalidate" && name !== "set with timeToLive 0"
          for (const { cache } of [a, b]) {
            assert.deepStrictEqual(yield* cache.get(ns, "b"), covered ? Option.none() : Option.some(5))
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
