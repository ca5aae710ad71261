import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, References, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { type CacheStats, makeCounters, snapshot } from "../src/CacheStats.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { Loaded } from "../src/index.ts"
import { MemoryCache } from "../src/MemoryCache.ts"
import { breakable } from "./suites/brokenStore.ts"
import { bothTiers, controlled, inWorld, start, type World } from "./suites/cacheNode.ts"
import { assertAddsUp, assertNothingUnderWay } from "./support/invariants.ts"

const world = <A, E, R>(body: (world: World) => Effect.Effect<A, E, R>) =>
  inWorld({ advance: (duration) => TestClock.adjust(duration), drift: 0, topology: bothTiers }, body).pipe(
    Effect.provide(CacheStore.layerMemory, { local: true })
  )

const nothing: CacheStats = snapshot([])

describe("CacheStats", () => {
  it("of nothing, everything is zero, rates too", () => {
    assertAddsUp(nothing)
    assert.deepStrictEqual(
      [nothing.hitRate, nothing.memory.hitRate, nothing.store.hitRate, nothing.meanLoadTime],
      [0, 0, 0, 0]
    )
    assert.deepStrictEqual(snapshot([{ counters: makeCounters(), partition: emptyPartition() }]), nothing)
  })

  it("rates are shares, the mean is per ended load, and namespaces are summed", () => {
    const one = { ...makeCounters(), lookups: 8, memoryRequests: 8, memoryHits: 2, memoryMisses: 6 }
    const two = {
      ...makeCounters(),
      lookups: 2,
      storeRequests: 4,
      storeHits: 3,
      storeMisses: 1,
      loads: 4,
      loadSuccess: 2,
      loadFailure: 1,
      loadInterrupted: 1,
      loadTime: 100
    }
    const stats = snapshot([one, two].map((counters) => ({ counters, partition: emptyPartition() })))
    assert.strictEqual(stats.lookups, 10)
    assert.strictEqual(stats.hitRate, 0.5)
    assert.strictEqual(stats.memory.hitRate, 0.25)
    assert.strictEqual(stats.store.hitRate, 0.75)
    assert.strictEqual(stats.meanLoadTime, 25)
  })

  it("what went over a bus is told of the whole, where there is a bus", () => {
    const health = { status: "Up", since: 1 } as const
    const bus = { health, sent: 1, received: 2, caughtUp: 3, gaps: 4, lag: 5 }
    assert.deepStrictEqual(snapshot([], bus), { ...nothing, bus })
    assert.isFalse("bus" in nothing)
  })

  it("a snapshot does not change afterwards", () => {
    const counters = makeCounters()
    const stats = snapshot([{ counters, partition: emptyPartition() }])
    counters.lookups++
    assert.strictEqual(stats.lookups, 0)
  })

  it.effect("a script of every operation leaves exactly these counts", () =>
    world(({ advance, namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ key: Schema.Int, value: Schema.Int, timeToLive: "10 minutes", maxValueSize: 4 })
        const other = namespace({ value: Schema.Int })
        const slow = (value: number) => Effect.as(TestClock.adjust("30 millis"), value)

        yield* a.cache.getOrSet(ns, 1, slow(1))
        yield* a.cache.getOrSet(ns, 1, slow(1))
        yield* a.cache.getOrSetMany(ns, [1, 2, 3, 3], () => Effect.succeed([2, 3]))
        yield* b.cache.set(ns, 4, 4)
        yield* a.cache.get(ns, 4)
        yield* a.cache.get(ns, 5)
        yield* a.cache.getMany(ns, [1, 4, 6])
        yield* Effect.exit(a.cache.getOrSet(ns, 7, Effect.fail("no")))
        yield* Effect.exit(a.cache.getOrSet(ns, 7, Effect.die("bug")))
        const stuck = yield* start(a.cache.getOrSet(ns, 7, Effect.never))
        const joined = yield* start(a.cache.getOrSet(ns, 7, Effect.never))
        yield* Fiber.interrupt(stuck)
        yield* Fiber.interrupt(joined)
        yield* a.cache.getOrSet(ns, 8, Effect.succeed(12_345))
        yield* a.cache.getOrSet(ns, 8, Effect.succeed(0.5))
        yield* a.cache.getOrSet(ns, 0.5, Effect.succeed(1))
        yield* a.cache.getOrSet(ns, 1, Effect.succeed(10), { force: true })
        yield* a.cache.getOrSet(ns, 1, Effect.succeed(10), { skip: "memory" })
        yield* a.cache.getOrSet(ns, 1, Effect.succeed(10), { skip: "store" })
        yield* a.cache.set(ns, 2, 20)
        yield* a.cache.setMany(ns, [
          [2, 21],
          [9, 9],
          [9, 10]
        ])
        yield* Effect.exit(a.cache.set(ns, 2, 12_345))
        yield* a.cache.invalidate(ns, 9)
        yield* a.cache.invalidateMany(ns, [9, 3, 3, 99])
        yield* b.cache.invalidate(ns, 4)
        const load = controlled<number>()
        const refused = yield* start(a.cache.getOrSet(ns, 11, load.loader))
        yield* load.began
        yield* (yield* CacheStore).remove(ns.name, ["11"])
        yield* load.end(Exit.succeed(11))
        yield* Fiber.join(refused)
        yield* advance("302 seconds")
        yield* a.cache.get(ns, 2)
        yield* a.cache.getOrSet(other, "a", Effect.succeed(1))
        yield* a.cache.clear(ns)

        assert.deepStrictEqual(yield* a.cache.statsOf(ns), {
          lookups: 22,
          hitRate: 8 / 22,
          memory: {
            requests: 19,
            hits: 5,
            misses: 14,
            hitRate: 5 / 19,
            entries: 0,
            size: 0,
            removals: { explicit: 3, replaced: 3, expired: 2, size: 0, remote: 1 }
          },
          store: {
            requests: 14,
            hits: 3,
            misses: 11,
            hitRate: 3 / 14,
            errors: 0,
            skipped: 0,
            undecodable: 0,
            refused: 1,
            dropped: 0
          },
          loads: 11,
          loadSuccess: 8,
          loadFailure: 2,
          loadInterrupted: 1,
          loadTime: 30,
          meanLoadTime: 30 / 11,
          coalesced: 1,
          stale: 0,
          fallbacks: 0,
          cachedFailures: 0,
          notModified: 0,
          rearmed: 0,
          refreshes: 0,
          refreshesSkipped: 0,
          softTimeouts: 0,
          hardTimeouts: 0,
          lateSuccess: 0,
          lateFailure: 0,
          leaseWaits: 0,
          leaseTimeouts: 0,
          sets: 3,
          invalidations: 4,
          clears: 1,
          tooLarge: 1,
          unencodable: 2
        })
        const whole = yield* a.cache.stats
        assert.deepStrictEqual([whole.lookups, whole.loads, whole.memory.entries], [23, 12, 1])
        const elsewhere = yield* b.cache.statsOf(ns)
        assert.deepStrictEqual([elsewhere.sets, elsewhere.invalidations, elsewhere.lookups], [1, 1, 0])
      })
    )
  )

  it.effect("keys that another process loads count once each, waited for or loaded all the same", () =>
    world(({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int, leaseDuration: "1 hour", leaseWait: "3 seconds" })
        const { began, end, loader } = controlled<ReadonlyArray<number>>()
        const holder = yield* start(a.cache.getOrSetMany(ns, ["a", "b"], () => loader))
        yield* began
        const waiting = yield* start(
          b.cache.getOrSetMany(ns, ["a", "b", "c"], (keys) => Effect.succeed(keys.map(() => 2)))
        )
        yield* TestClock.adjust("2 seconds")
        const before = { lookups: 3, "memory.requests": 3, "memory.misses": 3, leaseWaits: 2 }
        assert.deepInclude(moved(yield* b.cache.statsOf(ns)), { ...before, loads: 1, loadSuccess: 1 })
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(waiting)
        assert.deepInclude(moved(yield* b.cache.statsOf(ns)), { ...before, loads: 3, loadSuccess: 3, leaseTimeouts: 2 })
        yield* end(Exit.succeed([1, 1]))
        yield* Fiber.join(holder)
        assert.notProperty(moved(yield* a.cache.statsOf(ns)), "leaseWaits")
      })
    )
  )

  it.effect("a script of all that goes stale or late, and of a store that is away, leaves exactly these counts", () =>
    world(({ advance, namespace, node }) =>
      Effect.gen(function* () {
        const broken = breakable(yield* CacheStore)
        const store = { maxPendingWrites: 1, breakerFailures: 2 }
        const { cache, hold } = yield* node({ store: broken.store, config: { store, loads: { maxBackground: 1 } } })
        const after = <A, E>(millis: number, end: Effect.Effect<A, E>) => Effect.delay(end, millis)
        const ended = <A, E>(read: Effect.Effect<A, E>) =>
          Effect.gen(function* () {
            const fiber = yield* start(read)
            yield* TestClock.adjust("2 seconds")
            return yield* Fiber.await(fiber)
          })

        const timed = namespace({
          value: Schema.Int,
          error: Schema.Literal("gone"),
          timeToLive: "1 minute",
          staleIfError: "10 minutes",
          failureTimeToLive: "5 minutes",
          loaderSoftTimeout: "300 millis",
          loaderHardTimeout: "1 second"
        })
        yield* cache.getOrSet(timed, "a", Effect.succeed(1))
        yield* advance("61 seconds")
        yield* cache.getOrSet(timed, "a", Effect.fail("no"))
        yield* cache.getOrSet(timed, "a", Effect.fail("not to be run"))
        yield* advance("11 seconds")
        yield* ended(cache.getOrSet(timed, "a", after(500, Effect.succeed(2))))
        yield* advance("61 seconds")
        yield* ended(cache.getOrSet(timed, "a", after(500, Effect.fail("no"))))
        yield* advance("11 seconds")
        yield* cache.getOrSet(timed, "a", () => Effect.succeed(Loaded.notModified()))
        yield* ended(cache.getOrSet(timed, "b", after(1500, Effect.succeed(2)), { fallback: () => 0 }))
        yield* ended(cache.getOrSet(timed, "c", after(1500, Effect.fail("no"))))
        yield* Effect.exit(cache.getOrSet(timed, "d", Effect.fail("gone" as const)))
        yield* Effect.exit(cache.getOrSet(timed, "d", Effect.succeed(1)))
        yield* cache.getOrSet(timed, "d", Effect.succeed(1), { fallback: () => 0 })
        assert.deepStrictEqual(moved(yield* cache.statsOf(timed)), {
          lookups: 11,
          "memory.requests": 11,
          "memory.hits": 3,
          "memory.misses": 8,
          "store.requests": 8,
          "store.misses": 8,
          loads: 8,
          loadSuccess: 4,
          loadFailure: 4,
          loadTime: 4000,
          stale: 4,
          fallbacks: 2,
          cachedFailures: 2,
          notModified: 1,
          rearmed: 2,
          softTimeouts: 2,
          hardTimeouts: 2,
          lateSuccess: 2,
          lateFailure: 2
        })

        const revalidated = namespace({ value: Schema.Int, timeToLive: "1 minute", staleWhileRevalidate: "5 minutes" })
        yield* cache.getOrSetMany(revalidated, ["a", "b"], () => Effect.succeed([1, 2]))
        yield* advance("61 seconds")
        const { began, end, loader } = controlled<number>()
        yield* cache.getOrSet(revalidated, "a", loader)
        yield* began
        yield* cache.getOrSet(revalidated, "a", Effect.die("not to be run"))
        yield* cache.getOrSet(revalidated, "b", Effect.die("not to be run"))
        yield* end(Exit.succeed(3))
        yield* advance("1 second")
        assert.deepStrictEqual(moved(yield* cache.statsOf(revalidated)), {
          lookups: 5,
          "memory.requests": 5,
          "memory.hits": 3,
          "memory.misses": 2,
          "store.requests": 2,
          "store.misses": 2,
          loads: 3,
          loadSuccess: 3,
          stale: 3,
          refreshes: 1,
          refreshesSkipped: 1,
          lateSuccess: 1
        })

        const later = namespace({ value: Schema.Int, storeWrites: "background" })
        const fill = hold("fill", "before")
        yield* cache.getOrSet(later, "a", Effect.succeed(1))
        yield* fill.reached
        yield* cache.getOrSetMany(later, ["b", "c", "d"], () => Effect.succeed([2, 3, 4]))
        yield* fill.release
        yield* advance("1 second")
        const { store: written } = yield* cache.statsOf(later)
        assert.deepStrictEqual([written.dropped, written.errors, written.refused], [2, 0, 0])

        const away = namespace({ value: Schema.Int })
        broken.break("fails")
        for (const key of ["a", "b", "c"]) yield* cache.getOrSet(away, key, Effect.succeed(1))
        broken.mend()
        assert.deepStrictEqual(moved(yield* cache.statsOf(away)), {
          lookups: 3,
          "memory.requests": 3,
          "memory.misses": 3,
          "store.requests": 3,
          "store.misses": 3,
          "store.errors": 2,
          "store.skipped": 1,
          loads: 3,
          loadSuccess: 3
        })
      })
    )
  )

  it.effect("an interruption at any step of any operation leaves the books balanced", () =>
    world(({ namespace, node }) =>
      Effect.gen(function* () {
        const a = yield* node()
        const ns = namespace({ value: Schema.Int })
        const operations: Record<string, Effect.Effect<unknown, unknown>> = {
          get: a.cache.get(ns, "there"),
          getOrSet: a.cache.getOrSet(ns, "absent", Effect.as(Effect.yieldNow, 1)),
          getOrSetMany: a.cache.getOrSetMany(ns, ["there", "absent"], (missing) =>
            Effect.succeed(missing.map(() => 1))
          ),
          set: a.cache.set(ns, "there", 2),
          invalidate: a.cache.invalidate(ns, "there"),
          clear: a.cache.clear(ns)
        }
        for (const [name, operation] of Object.entries(operations)) {
          let ended = false
          for (let steps = 0; !ended; steps++) {
            yield* a.cache.set(ns, "there", 1)
            yield* a.cache.invalidate(ns, "absent")
            a.memory.partition(ns.name).clear("size")
            const fiber = yield* start(Effect.provideService(operation, References.MaxOpsBeforeYield, 3))
            for (let i = 0; i < steps; i++) yield* Effect.yieldNow
            ended = fiber.pollUnsafe() !== undefined
            yield* Fiber.interrupt(fiber)
            assertNothingUnderWay()
            const stats = yield* a.cache.statsOf(ns)
            assertAddsUp(stats, `${name} interrupted after ${steps} steps`)
          }
        }
      })
    )
  )

  it.effect("counts are exact whatever runs at the same time and however it ends", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(step, { size: "max", maxLength: 60 }), (steps) =>
          Effect.runPromise(Effect.scoped(Effect.provide(concurrently(steps), TestClock.layer())))
        ),
        { numRuns: 100 }
      )
    )
  )
})

/** The counts that are not zero, by path; without what is computed from others and what memory holds. */
const moved = (stats: CacheStats): Record<string, number> =>
  Object.fromEntries(
    [["memory.", stats.memory] as const, ["store.", stats.store] as const, ["", stats] as const].flatMap(
      ([path, part]) =>
        Object.entries(part).flatMap(([name, count]) =>
          typeof count === "number" && count !== 0 && !computed.has(name) ? [[`${path}${name}`, count] as const] : []
        )
    )
  )

const computed = new Set(["hitRate", "meanLoadTime", "entries", "size"])

const emptyPartition = () => MemoryCache.make({ maxEntries: 1, maxSize: 1000 }).partition<unknown>("ns")

type Step = typeof step extends fc.Arbitrary<infer A> ? A : never

const key = fc.integer({ min: 0, max: 4 })
const step = fc.oneof(
  fc.record({
    _tag: fc.constant("read" as const),
    keys: fc.array(key, { minLength: 1, maxLength: 4 }),
    ends: fc.constantFrom("succeed", "fail", "die", "interrupt", "hang", "pause")
  }),
  fc.record({ _tag: fc.constant("look" as const), keys: fc.array(key, { maxLength: 4 }) }),
  fc.record({ _tag: fc.constant("set" as const), key }),
  fc.record({ _tag: fc.constant("invalidate" as const), key }),
  fc.record({ _tag: fc.constant("clear" as const) }),
  fc.record({ _tag: fc.constant("interrupt" as const), which: fc.nat(20) }),
  fc.record({ _tag: fc.constant("advance" as const), seconds: fc.integer({ min: 1, max: 60 }) })
)

/** Runs the steps side by side, then lets everything end, and compares the counts with a list of what was asked. */
const concurrently = (steps: ReadonlyArray<Step>) =>
  world(({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ key: Schema.Int, value: Schema.Int, timeToLive: "30 seconds" })
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      const expected = { lookups: 0, sets: 0, invalidations: 0, clears: 0, loads: 0 }
      for (const step of steps) {
        switch (step._tag) {
          case "read": {
            expected.lookups += new Set(step.keys).size
            const loader = (missing: ReadonlyArray<number>) => {
              expected.loads += missing.length
              return Effect.as(endings[step.ends as keyof typeof endings], missing)
            }
            fibers.push(yield* start(cache.getOrSetMany(ns, step.keys, loader)))
            break
          }
          case "look":
            expected.lookups += new Set(step.keys).size
            fibers.push(yield* start(cache.getMany(ns, step.keys)))
            break
          case "set":
            expected.sets++
            yield* cache.set(ns, step.key, step.key)
            break
          case "invalidate":
            expected.invalidations++
            yield* cache.invalidate(ns, step.key)
            break
          case "clear":
            expected.clears++
            yield* cache.clear(ns)
            break
          case "interrupt": {
            const fiber = fibers[step.which]
            if (fiber !== undefined) yield* Fiber.interrupt(fiber)
            break
          }
          case "advance":
            yield* TestClock.adjust(`${step.seconds} seconds`)
        }
      }
      yield* Fiber.interruptAll(fibers)
      const stats = yield* cache.statsOf(ns)
      const { clears, invalidations, loads, lookups, sets } = stats
      assert.deepStrictEqual({ lookups, sets, invalidations, clears, loads }, expected)
      assertAddsUp(stats)
    })
  )

const endings = {
  succeed: Effect.void,
  fail: Effect.fail("no"),
  die: Effect.die("bug"),
  interrupt: Effect.interrupt,
  hang: Effect.never,
  pause: Effect.sleep("10 seconds")
}
