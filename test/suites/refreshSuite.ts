/**
 * Loads that begin before anybody has to wait for them: of stale entries that are
 * served meanwhile (`staleWhileRevalidate`), and of fresh ones that soon will not
 * be (`earlyRefresh`, `earlyRefreshBeta`).
 */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Random, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CacheStore } from "../../src/CacheStore.ts"
import type { Namespace } from "../../src/Namespace.ts"
import { type CacheNode, controlled, start, type Test, turn } from "./cacheNode.ts"
import { backgroundLines, found, inEveryTier, landed, nodeIn, nothingUnhandled } from "./timeoutSuite.ts"

/** Stale after a minute, and served at once for another ten. */
const revalidated = {
  timeToLive: "1 minute",
  staleWhileRevalidate: "10 minutes",
  failureBackoff: "30 seconds",
  memoryTimeToLive: "1 day"
} as const

/** Loaded anew from 48 seconds on. */
const early = {
  timeToLive: "1 minute",
  earlyRefresh: 0.8,
  failureBackoff: "5 seconds",
  memoryTimeToLive: "1 day"
} as const

const notToBeRun = Effect.die("not to be run")

const brief = ({ freshness, value }: { readonly freshness: string; readonly value: number }) => [value, freshness]

const statsOf = <X>({ cache }: CacheNode, ns: Namespace<string, number, X>) => cache.statsOf(ns)

/** Another process has loaded a 2 under "a", and nobody has heard of it. */
const loadedElsewhere = ({ name }: Namespace<string, number>) =>
  CacheStore.use((store) =>
    store.write(name, [
      {
        key: "a",
        data: "2",
        size: 1,
        schemaVersion: 1,
        timeToLive: 60_000,
        staleFor: 0,
        loadTime: 0,
        isFailure: false,
        validators: {},
        tags: []
      }
    ])
  )

/** Chance that is always the same. */
const chance = (draw: number) =>
  Effect.provideService(Random.Random, { nextDoubleUnsafe: () => draw, nextIntUnsafe: () => 0 })

export const refreshSuite = (test: Test): void => {
  test("a stale entry is served at once while one load runs in the background, and the next read is fresh", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      const { began, end, loader, runs } = controlled<number>()
      for (let i = 0; i < 5; i++) {
        assert.deepStrictEqual(brief(yield* a.cache.getOrSetEntry(ns, "a", loader)), [1, "stale"])
        yield* began
      }
      assert.deepStrictEqual(yield* a.cache.getOrSetMany(ns, ["a", "a"], () => notToBeRun), [1, 1])
      yield* end(Exit.succeed(2))
      yield* landed
      assert.deepStrictEqual(brief(yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)), [2, "fresh"])
      assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, Option.some(2)))
      assert.strictEqual(runs(), 1)
      const { lateSuccess, loads, refreshes, softTimeouts, stale } = yield* statsOf(a, ns)
      assert.deepStrictEqual([loads, lateSuccess, stale, softTimeouts], [1, 1, 6, 0])
      assert.strictEqual(refreshes, world.topology.memory ? 1 : 0)
    }))

  test("C26 a hundred readers of a stale entry start one load, and none of them waits", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      const { began, end, loader, runs } = controlled<number>()
      const callers = yield* Effect.forEach(Array.from({ length: 100 }), () => start(a.cache.getOrSet(ns, "a", loader)))
      assert.deepStrictEqual(new Set(yield* Effect.forEach(callers, Fiber.join)), new Set([1]))
      yield* began
      yield* end(Exit.succeed(2))
      yield* landed
      assert.strictEqual(runs(), 1)
      assert.strictEqual((yield* statsOf(a, ns)).stale, 100)
    }))

  test("past its staleWhileRevalidate a stale entry is served only if the load fails", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated, staleIfError: "1 hour" })
      yield* a.cache.setMany(ns, [
        ["a", 1],
        ["b", 1]
      ])
      yield* world.advance("12 minutes")
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(caller.pollUnsafe())
      yield* end(Exit.succeed(2))
      assert.deepStrictEqual(brief(yield* Fiber.join(caller)), [2, "fresh"])
      assert.deepStrictEqual(brief(yield* a.cache.getOrSetEntry(ns, "b", Effect.fail("no"))), [1, "stale"])
      assert.strictEqual((yield* statsOf(a, ns)).refreshes, 0)
    }))

  test("the store's stale row is served at once too, and is revalidated", (world) =>
    Effect.gen(function* () {
      if (!world.topology.store) return
      const [a, b] = [yield* nodeIn(world), yield* nodeIn(world)]
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      const { began, end, loader, runs } = controlled<number>()
      const entry = yield* b.cache.getOrSetEntry(ns, "a", loader)
      assert.deepStrictEqual([...brief(entry), entry.origin], [1, "stale", "store"])
      yield* began
      assert.deepStrictEqual(brief(yield* b.cache.getOrSetEntry(ns, "a", loader)), [1, "stale"])
      yield* end(Exit.succeed(2))
      yield* landed
      for (const node of [b, a]) {
        assert.deepStrictEqual(brief(yield* node.cache.getOrSetEntry(ns, "a", notToBeRun)), [2, "fresh"])
      }
      assert.strictEqual(runs(), 1)
      assert.strictEqual((yield* statsOf(b, ns)).lateSuccess, 1)
    }))

  test("C10 what a load in the background brought is announced: the others drop what it replaces", (world) =>
    Effect.gen(function* () {
      if (!world.topology.store || !world.topology.memory) return
      const [a, b] = [yield* nodeIn(world), yield* nodeIn(world)]
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      const soon = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.set(ns, "a", 1)
      yield* b.cache.get(ns, "a")
      yield* world.advance("2 minutes")
      const late = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", late.loader), 1)
      yield* late.began
      yield* late.end(Exit.succeed(2))
      yield* landed
      const stale = yield* b.cache.getOrSetEntry(ns, "a", notToBeRun)
      assert.deepStrictEqual([...brief(stale), stale.origin], [2, "fresh", "store"])

      yield* a.cache.set(soon, "a", 1)
      yield* b.cache.get(soon, "a")
      yield* world.advance("50 seconds")
      assert.strictEqual(yield* a.cache.getOrSet(soon, "a", Effect.succeed(2)), 1)
      yield* landed
      const fresh = yield* b.cache.getOrSetEntry(soon, "a", notToBeRun)
      assert.deepStrictEqual([...brief(fresh), fresh.origin], [2, "fresh", "store"])
    }))

  test("a revalidation looks into the store first, and takes what another has loaded since", (world) =>
    Effect.gen(function* () {
      if (!world.topology.store || !world.topology.memory) return
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      yield* loadedElsewhere(ns)
      assert.deepStrictEqual(brief(yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)), [1, "stale"])
      yield* landed
      const entry = yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)
      assert.deepStrictEqual([...brief(entry), entry.origin], [2, "fresh", "memory"])
      const { loads, refreshes } = yield* statsOf(a, ns)
      assert.deepStrictEqual({ loads, refreshes }, { loads: 0, refreshes: 1 })
    }))

  test("C13 after a failed load in the background the stale entry is left alone for the back-off, in every process", (world) =>
    nothingUnhandled(
      backgroundLines((lines) =>
        Effect.gen(function* () {
          const a = yield* nodeIn(world)
          const ns = world.namespace({ value: Schema.Int, ...revalidated, staleIfError: "10 minutes" })
          yield* a.cache.set(ns, "a", 1)
          yield* world.advance("2 minutes")
          let runs = 0
          const failing = Effect.suspend(() => {
            runs++
            return Effect.andThen(turn, Effect.fail("the source is away"))
          })
          const nodes = world.topology.store ? [a, yield* nodeIn(world)] : [a]
          for (let attempt = 1; attempt <= 3; attempt++) {
            for (let second = 0; second < 3; second++) {
              for (const node of nodes) {
                assert.deepStrictEqual(brief(yield* node.cache.getOrSetEntry(ns, "a", failing)), [1, "stale"])
                yield* landed
              }
              assert.strictEqual(runs, attempt)
              yield* world.advance("5 seconds")
            }
            yield* world.advance("20 seconds")
          }
          const { lateFailure, rearmed } = yield* statsOf(a, ns)
          assert.deepStrictEqual({ lateFailure, rearmed }, { lateFailure: 3, rearmed: 3 })
          assert.strictEqual(lines.length, 1)
          yield* a.cache.getOrSet(ns, "a", Effect.succeed(2))
          yield* landed
          assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun), 2)
        })
      )
    ))

  test("within staleWhileRevalidate the failure of a load is nobody's, however soon it comes, and is backed off", (world) =>
    Effect.gen(function* () {
      const nodes = world.topology.store ? [yield* nodeIn(world), yield* nodeIn(world)] : [yield* nodeIn(world)]
      const ns = world.namespace({ value: Schema.Int, ...revalidated, staleIfError: 0 })
      yield* nodes[0]!.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      let runs = 0
      const failing = Effect.suspend(() => {
        runs++
        return Effect.fail("the source is away")
      })
      for (const node of nodes.toReversed()) {
        for (let i = 0; i < 3; i++) {
          assert.deepStrictEqual(brief(yield* node.cache.getOrSetEntry(ns, "a", failing)), [1, "stale"])
          yield* landed
        }
      }
      assert.strictEqual(runs, 1)
      yield* world.advance("10 minutes")
      assert.strictEqual(yield* Effect.flip(nodes[0]!.cache.getOrSet(ns, "a", failing)), "the source is away")
    }))

  test("force waits for the loader although what is stale, or still fresh, could be served at once", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(2), { force: true }), 2)
      yield* world.advance("2 minutes")
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(3), { force: true }), 3)
      assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, Option.some(3)))
    }))

  test("with no room in the background a stale entry is served as ever, and its load is skipped and counted", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world, { config: { loads: { maxBackground: 1 } } })
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.setMany(ns, [
        ["a", 1],
        ["b", 1]
      ])
      yield* world.advance("2 minutes")
      const { began, end, loader } = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
      yield* began
      const other = controlled<number>()
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* a.cache.getOrSet(ns, "b", other.loader), 1)
      yield* end(Exit.succeed(2))
      yield* landed
      const { loadInterrupted, loads, refreshes, refreshesSkipped } = yield* statsOf(a, ns)
      if (world.topology.memory) assert.deepStrictEqual([refreshes, refreshesSkipped, loads], [1, 3, 1])
      // Without memory each of them had begun a load that it could not leave to anybody.
      else assert.strictEqual(loadInterrupted, other.interruptions())
      yield* a.cache.getOrSet(ns, "b", Effect.succeed(2))
      yield* landed
      assert.strictEqual(yield* a.cache.getOrSet(ns, "b", notToBeRun), 2)
    }))

  test("an invalidation while a stale entry is revalidated wins, and nobody is served what is stale any more", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...revalidated })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 minutes")
      const { began, end, loader } = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
      yield* began
      yield* a.cache.invalidate(ns, "a")
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(3)), 3)
      yield* end(Exit.succeed(2))
      yield* landed
      assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, Option.some(3)))
    }))

  const inMemory: Test = (name, body) => test(name, (world) => (world.topology.memory ? body(world) : Effect.void))

  inMemory(
    "C32 the first read past the fraction starts one load, waits for nothing, and those before it start none",
    (world) =>
      Effect.gen(function* () {
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...early })
        yield* a.cache.set(ns, "a", 1)
        yield* world.advance("47 seconds")
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun), 1)
        yield* world.advance("999 millis")
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun, {}), 1)
        yield* landed
        assert.strictEqual((yield* statsOf(a, ns)).refreshes, 0)
        yield* world.advance("1 millis")
        const { began, end, loader, runs } = controlled<number>()
        const callers = yield* Effect.forEach(Array.from({ length: 100 }), () =>
          start(a.cache.getOrSetEntry(ns, "a", loader))
        )
        for (const caller of callers) {
          const exit = caller.pollUnsafe()
          assert(exit !== undefined && Exit.isSuccess(exit))
          assert.deepStrictEqual([...brief(exit.value), exit.value.origin], [1, "fresh", "memory"])
        }
        yield* began
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
        yield* end(Exit.succeed(2))
        yield* landed
        assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, Option.some(2)))
        assert.strictEqual(runs(), 1)
        const { coalesced, lateSuccess, loads, refreshes, stale } = yield* statsOf(a, ns)
        assert.deepStrictEqual([refreshes, loads, lateSuccess, coalesced, stale], [1, 1, 1, 0, 0])
        const { createdAt, expiresAt } = yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)
        assert.approximately(expiresAt - createdAt, 60_000, world.drift)
      })
  )

  inMemory(
    "C32 an early refresh looks into the store first, and takes another's newer entry without the loader",
    (world) =>
      Effect.gen(function* () {
        if (!world.topology.store) return
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...early })
        yield* a.cache.set(ns, "a", 1)
        yield* world.advance("50 seconds")
        yield* loadedElsewhere(ns)
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun), 1)
        yield* landed
        const entry = yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)
        assert.deepStrictEqual([...brief(entry), entry.origin], [2, "fresh", "memory"])
        const { loads, refreshes } = yield* statsOf(a, ns)
        assert.deepStrictEqual({ loads, refreshes }, { loads: 0, refreshes: 1 })
      })
  )

  inMemory(
    "C32 an early refresh keeps the tags of the call, and an entry that lives for ever is never refreshed",
    (world) =>
      Effect.gen(function* () {
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...early })
        const forever = world.namespace({
          value: Schema.Int,
          ...early,
          timeToLive: "Infinity",
          memoryTimeToLive: "Infinity"
        })
        const tags = (value: number) => ["one", `of ${value}`]
        yield* a.cache.getOrSet(ns, "a", Effect.succeed(1), { tags })
        yield* a.cache.getOrSet(forever, "a", Effect.succeed(1), { tags })
        yield* world.advance("50 seconds")
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(2), { tags }), 1)
        yield* landed
        const { tags: kept, value } = yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)
        assert.deepStrictEqual([value, kept], [2, ["one", "of 2"]])
        yield* world.advance("2 hours")
        assert.strictEqual(yield* a.cache.getOrSet(forever, "a", notToBeRun), 1)
        yield* landed
        assert.strictEqual((yield* statsOf(a, forever)).refreshes, 0)
      })
  )

  inMemory("C22 lifetime, tags and whether to keep it are decided from the exit of an early refresh too", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("50 seconds")
      const store = (exit: Exit.Exit<number>) => Exit.isSuccess(exit) && exit.value !== 13
      const timeToLive = (exit: Exit.Exit<number>) =>
        (Exit.isSuccess(exit) ? `${exit.value} minutes` : undefined) as "2 minutes"
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(13), { store, timeToLive }), 1)
      yield* landed
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(20), { store, timeToLive }), 1)
      yield* landed
      const { createdAt, expiresAt, value } = yield* a.cache.getOrSetEntry(ns, "a", notToBeRun)
      assert.strictEqual(value, 20)
      assert.approximately(expiresAt - createdAt, 20 * 60_000, world.drift)
    })
  )

  inMemory("C32 an early refresh is not cancelled by the interruption of its caller", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("50 seconds")
      const { began, end, interruptions, loader } = controlled<number>()
      const caller = yield* start(Effect.andThen(a.cache.getOrSet(ns, "a", loader), Effect.never))
      yield* began
      yield* Fiber.interrupt(caller)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(interruptions(), 0)
      yield* end(Exit.succeed(2))
      yield* landed
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun), 2)
    })
  )

  inMemory(
    "C32 C13 a failed early refresh is backed off in every process, and the entry stays fresh to its end",
    (world) =>
      nothingUnhandled(
        Effect.gen(function* () {
          const a = yield* nodeIn(world)
          const ns = world.namespace({ value: Schema.Int, ...early })
          const made = yield* a.cache.getOrSetEntry(ns, "a", Effect.succeed(1))
          yield* world.advance("50 seconds")
          let runs = 0
          const failing = Effect.suspend(() => {
            runs++
            return Effect.fail("the source is away")
          })
          const nodes = world.topology.store ? [a, yield* nodeIn(world)] : [a]
          for (let second = 0; second < 4; second++) {
            for (const { cache } of nodes) {
              for (let i = 0; i < 2; i++) {
                const entry = yield* cache.getOrSetEntry(ns, "a", failing)
                yield* landed
                assert.deepStrictEqual(brief(entry), [1, "fresh"])
                assert.approximately(entry.expiresAt, made.expiresAt, world.drift)
              }
            }
            assert.strictEqual(runs, 1)
            yield* world.advance("1 second")
          }
          yield* world.advance("1 second")
          assert.strictEqual(yield* a.cache.getOrSet(ns, "a", failing), 1)
          yield* landed
          assert.strictEqual(runs, 2)
          const { lateFailure, rearmed, refreshes } = yield* statsOf(a, ns)
          assert.deepStrictEqual({ lateFailure, rearmed, refreshes }, { lateFailure: 2, rearmed: 2, refreshes: 2 })
          yield* world.advance("10 seconds")
          assert.strictEqual(yield* Effect.flip(a.cache.getOrSet(ns, "a", failing)), "the source is away")
        })
      )
  )

  inMemory("C33 a read that has to wait, because the entry has ended meanwhile, waits for the early refresh", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("50 seconds")
      const { began, end, loader, runs } = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
      yield* began
      yield* world.advance("20 seconds")
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", notToBeRun))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(caller.pollUnsafe())
      yield* end(Exit.succeed(2))
      assert.deepStrictEqual(brief(yield* Fiber.join(caller)), [2, "fresh"])
      yield* landed
      assert.strictEqual(runs(), 1)
      assert.strictEqual((yield* statsOf(a, ns)).coalesced, 1)
    })
  )

  inMemory("C33 whoever waits for an early refresh has the timeouts of any other load", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early, loaderHardTimeout: "2 seconds" })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("50 seconds")
      const { began, end, loader } = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
      yield* began
      yield* world.advance("20 seconds")
      const caller = yield* start(a.cache.getOrSet(ns, "a", notToBeRun))
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(caller.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Effect.flip(Fiber.join(caller))
      assert.strictEqual(error.reason._tag, "LoaderTimeout")
      yield* end(Exit.succeed(2))
      yield* landed
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun), 2)
    })
  )

  const changes = {
    invalidate: { change: (cache, ns) => cache.invalidate(ns, "a"), left: Option.none<number>() },
    clear: { change: (cache, ns) => cache.clear(ns), left: Option.none<number>() },
    set: { change: (cache, ns) => cache.set(ns, "a", 5), left: Option.some(5) },
    "a forced load": {
      change: (cache, ns) => cache.getOrSet(ns, "a", Effect.succeed(5), { force: true }),
      left: Option.some(5)
    }
  } satisfies Record<
    string,
    {
      readonly change: (cache: CacheNode["cache"], ns: Namespace<string, number>) => Effect.Effect<unknown, unknown>
      readonly left: Option.Option<number>
    }
  >

  for (const [name, { change, left }] of Object.entries(changes)) {
    inMemory(`C50 ${name} during an early refresh wins, in every tier`, (world) =>
      Effect.gen(function* () {
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...early })
        yield* a.cache.set(ns, "a", 1)
        yield* world.advance("50 seconds")
        const { began, end, loader } = controlled<number>()
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
        yield* began
        yield* change(a.cache, ns)
        yield* end(Exit.succeed(2))
        yield* landed
        assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, left))
      })
    )
  }

  inMemory("of many keys those that are due are loaded in the background, with one load", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.setMany(ns, [
        ["a", 1],
        ["b", 1]
      ])
      yield* world.advance("50 seconds")
      yield* a.cache.set(ns, "c", 1)
      const asked: Array<ReadonlyArray<string>> = []
      const load = (keys: ReadonlyArray<string>) => {
        asked.push(keys)
        return Effect.succeed(keys.map(() => 2))
      }
      assert.deepStrictEqual(yield* a.cache.getOrSetMany(ns, ["c", "b", "a", "b"], load), [1, 1, 1, 1])
      yield* landed
      assert.deepStrictEqual(asked, [["b", "a"]])
      assert.deepStrictEqual(yield* a.cache.getOrSetMany(ns, ["c", "b", "a"], () => notToBeRun), [1, 2, 2])
      assert.strictEqual((yield* statsOf(a, ns)).refreshes, 2)
    })
  )

  inMemory("neither a read without a loader nor one that leaves out a tier refreshes", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...early })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("50 seconds")
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
      for (const options of [{ skip: "store" }, { store: false }] as const) {
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", notToBeRun, options), 1)
      }
      yield* landed
      assert.strictEqual((yield* statsOf(a, ns)).refreshes, 0)
    })
  )

  /** Puts an entry there whose load took a second. */
  const loadedInASecond = ({ cache }: CacheNode, ns: Namespace<string, number>) =>
    Effect.gen(function* () {
      const { began, end, loader } = controlled<number>()
      const load = yield* start(cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("1 second")
      yield* end(Exit.succeed(1))
      yield* Fiber.join(load)
    })

  const byChance = {
    timeToLive: "1 minute",
    earlyRefreshBeta: 1,
    failureBackoff: 0,
    memoryTimeToLive: "1 day"
  } as const

  inMemory("a probabilistic refresh comes about as often as its formula says, and alike with the same seed", (world) =>
    Effect.gen(function* () {
      // Chance is the memory's; the clock of a database would run on meanwhile.
      const a = yield* nodeIn({ ...world, topology: { ...world.topology, store: false } })
      const reads = 400
      const sample = (secondsLeft: number, seed: string) =>
        Effect.gen(function* () {
          const ns = world.namespace({ value: Schema.Int, ...byChance })
          yield* loadedInASecond(a, ns)
          yield* world.advance(`${60 - secondsLeft} seconds`)
          const due: Array<number> = []
          for (let i = 0; i < reads; i++) {
            const before = (yield* statsOf(a, ns)).refreshes
            // A refresh that fails leaves the entry as it is, for the next read.
            assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.fail("no")), 1)
            yield* landed
            if ((yield* statsOf(a, ns)).refreshes > before) due.push(i)
          }
          return due
        }).pipe(Random.withSeed(seed))
      for (const secondsLeft of [1, 2]) {
        // A load took one second, so that this is exp(-left / (loadTime * beta)).
        const expected = Math.exp(-secondsLeft)
        const due = yield* sample(secondsLeft, "one")
        const deviation = Math.sqrt((expected * (1 - expected)) / reads)
        assert.approximately(due.length / reads, expected, 4 * deviation)
      }
      assert.deepStrictEqual(yield* sample(1, "two"), yield* sample(1, "two"))
      assert.notDeepEqual(yield* sample(1, "two"), yield* sample(1, "three"))
    })
  )

  inMemory(
    "how long a load took goes through the store to others, and before any draw could tell nobody draws",
    (world) =>
      Effect.gen(function* () {
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...byChance })
        yield* loadedInASecond(a, ns)
        const nodes = world.topology.store ? [a, yield* nodeIn(world)] : [a]
        const likeliest = chance(1 - 2 ** -53)
        const never = Effect.provideService(Random.Random, {
          nextDoubleUnsafe: () => assert.fail("drawn"),
          nextIntUnsafe: () => assert.fail("drawn")
        })
        for (const { cache } of nodes) yield* cache.get(ns, "a")
        // The likeliest draw is worth 36.7 load times.
        yield* world.advance("22 seconds")
        for (const { cache } of nodes) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun).pipe(never), 1)
        yield* world.advance("2 seconds")
        for (const node of nodes) {
          assert.strictEqual(yield* node.cache.getOrSet(ns, "a", Effect.fail("no")).pipe(chance(0)), 1)
          yield* landed
          assert.strictEqual((yield* statsOf(node, ns)).refreshes, 0)
          assert.strictEqual(yield* node.cache.getOrSet(ns, "a", Effect.fail("no")).pipe(likeliest), 1)
          yield* landed
          assert.strictEqual((yield* statsOf(node, ns)).refreshes, 1)
        }
      })
  )
}
