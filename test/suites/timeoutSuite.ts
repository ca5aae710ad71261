/**
 * A loader that takes too long: who is given what, and when; and what becomes of
 * the load that is left to the background.
 */
import { assert } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Logger, Option, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import type { Namespace } from "../../src/Namespace.ts"
import { openFences } from "../support/invariants.ts"
import {
  absent,
  type CacheNode,
  controlled,
  counting,
  defectOf,
  type NodeOptions,
  start,
  type Test,
  turn,
  type World
} from "./cacheNode.ts"

const pulled = Effect.fail(
  new CacheError({ reason: new StoreUnavailable({ operation: "read", cause: new Error("there is none") }) })
)

/** A double of a store that is away: what memory has stands. */
const away: CacheStore["Service"] = { ...absent, read: () => pulled, fill: () => pulled, rearm: () => pulled }

/** A node whose memory keeps its reserve where it has no store. */
export const nodeIn = (
  { node, topology }: World,
  options: NodeOptions = {}
): Effect.Effect<CacheNode, CacheError, CacheStore | Scope.Scope> =>
  node(topology.store ? options : { store: away, ...options })

/** Stale a minute after it was made, and of use for an hour after that. */
export const withReserve = { timeToLive: "1 minute", staleIfError: "1 hour", memoryTimeToLive: "1 day" } as const

/** Ends when no load is under way, whoever waits for it. */
export const landed: Effect.Effect<void> = Effect.gen(function* () {
  while (openFences() > 0) yield* turn
  yield* turn
})

/** What there is of key "a": first wherever a read finds it, then in the store. */
export const found = (world: World, { cache, memory }: CacheNode, ns: Namespace<string, number>) =>
  Effect.gen(function* () {
    const first = yield* cache.get(ns, "a")
    if (!world.topology.store) return [first]
    memory.partition(ns.name).clear("size")
    return [first, yield* cache.get(ns, "a")]
  })

export const inEveryTier = <A>({ topology }: World, value: A): ReadonlyArray<A> =>
  topology.store ? [value, value] : [value]

/** The log lines of an effect about background loads; it is told of each as it is written. */
export const backgroundLines = <A, E, R>(
  body: (lines: ReadonlyArray<string>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const lines: Array<string> = []
  const capture = Logger.make(({ logLevel, message }) => {
    const line = `${logLevel} ${String(message)}`
    if (line.includes("background")) lines.push(line)
  })
  return Effect.provide(body(lines), Logger.layer([capture]))
}

/** Fails if a promise is rejected and nobody handles it. */
export const nothingUnhandled = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const rejections: Array<unknown> = []
      const listener = (reason: unknown) => void rejections.push(reason)
      process.on("unhandledRejection", listener)
      process.on("uncaughtException", listener)
      return { listener, rejections }
    }),
    ({ rejections }) =>
      Effect.gen(function* () {
        const answer = yield* effect
        yield* landed
        assert.deepStrictEqual(rejections, [])
        return answer
      }),
    ({ listener }) =>
      Effect.sync(() => {
        process.off("unhandledRejection", listener)
        process.off("uncaughtException", listener)
      })
  )

const isLoaderTimeout = (error: unknown): boolean =>
  error instanceof CacheError && error.reason._tag === "LoaderTimeout"

const failureOf = (exit: Exit.Exit<unknown, unknown> | undefined): unknown =>
  exit !== undefined && Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined

const valueOf = <A, E>(fiber: Fiber.Fiber<A, E>): A | undefined => {
  const exit = fiber.pollUnsafe()
  return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
}

/** The same, with a stale 1 under each of the keys. */
const staleOnes = <X>(world: World, node: CacheNode, ns: Namespace<string, number, X>, ...keys: Array<string>) =>
  Effect.gen(function* () {
    yield* node.cache.setMany(
      ns,
      keys.map((key) => [key, 1] as const)
    )
    yield* world.advance("2 minutes")
  })

export const timeoutSuite = (test: Test): void => {
  test("C3 a loader that takes longer than the hard timeout, with nothing stale, is a LoaderTimeout; it goes on", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const { began, end, interruptions, loader, runs } = controlled<number>()
      const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(caller.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Effect.flip(Fiber.join(caller))
      assert(error._tag === "CacheError" && error.reason._tag === "LoaderTimeout")
      assert.deepStrictEqual([error.reason.namespace, error.reason.timeout, error.isRetryable], [ns.name, 2000, true])
      assert.include(error.message, "within 2000 ms")
      const { hardTimeouts, loadInterrupted, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual(
        { hardTimeouts, loadInterrupted, softTimeouts },
        {
          hardTimeouts: 1,
          loadInterrupted: 0,
          softTimeouts: 0
        }
      )
      yield* end(Exit.succeed(7))
      yield* landed
      assert.strictEqual(interruptions(), 0)
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 7)
      assert.strictEqual(runs(), 1)
    }))

  test("C4 with something stale, the soft timeout gives it to the millisecond", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a")
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(caller.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const { freshness, value } = yield* Fiber.join(caller)
      assert.deepStrictEqual([value, freshness], [1, "stale"])
      const { hardTimeouts, softTimeouts, stale } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ hardTimeouts, softTimeouts, stale }, { hardTimeouts: 0, softTimeouts: 1, stale: 1 })
      yield* end(Exit.succeed(2))
      yield* landed
    }))

  test("a loader that is faster than its timeouts is the answer, and nothing is left of them", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a")
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("999 millis")
      yield* end(Exit.succeed(2))
      const { freshness, value } = yield* Fiber.join(caller)
      assert.deepStrictEqual([value, freshness], [2, "fresh"])
      yield* TestClock.adjust("10 seconds")
      const { hardTimeouts, lateSuccess, loadSuccess, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([hardTimeouts, softTimeouts, lateSuccess, loadSuccess], [0, 0, 0, 1])
    }))

  test("C5 with nothing stale the soft timeout does not fire", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(caller.pollUnsafe())
      yield* end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(caller), 2)
      assert.strictEqual((yield* a.cache.statsOf(ns)).softTimeouts, 0)
    }))

  test("C5 what is too old to be served is nothing, also where it becomes so while the loader runs", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({
        value: Schema.Int,
        ...withReserve,
        staleIfError: "10 minutes",
        loaderSoftTimeout: "10 minutes"
      })
      yield* staleOnes(world, a, ns, "a")
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("10 minutes")
      assert.isUndefined(caller.pollUnsafe())
      yield* end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(caller), 2)
      assert.strictEqual((yield* a.cache.statsOf(ns)).softTimeouts, 0)
    }))

  test("C6 with something stale, the hard timeout gives it, and is counted", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderHardTimeout: "2 seconds" })
      yield* staleOnes(world, a, ns, "a")
      const { began, end, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(caller.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const { freshness, value } = yield* Fiber.join(caller)
      assert.deepStrictEqual([value, freshness], [1, "stale"])
      const { hardTimeouts, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ hardTimeouts, softTimeouts }, { hardTimeouts: 1, softTimeouts: 0 })
      yield* end(Exit.succeed(2))
      yield* landed
    }))

  test("C6 of both timeouts the soft one comes first, and the hard one binds where the stale entry is gone by then", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const both = { loaderSoftTimeout: "1 minute", loaderHardTimeout: "2 minutes" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      const brief = world.namespace({ value: Schema.Int, ...withReserve, staleIfError: "90 seconds", ...both })
      yield* staleOnes(world, a, ns, "a")
      const soft = controlled<number>()
      const softly = yield* start(a.cache.getOrSet(ns, "a", soft.loader))
      yield* soft.began
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(valueOf(softly), 1)
      const { hardTimeouts, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ hardTimeouts, softTimeouts }, { hardTimeouts: 0, softTimeouts: 1 })
      yield* soft.end(Exit.succeed(2))
      yield* landed

      yield* staleOnes(world, a, brief, "a")
      const hard = controlled<number>()
      const caller = yield* start(a.cache.getOrSet(brief, "a", hard.loader))
      yield* hard.began
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(caller.pollUnsafe(), "half a minute is left of the stale entry, and the soft timeout too long")
      yield* TestClock.adjust("1 minute")
      assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
      yield* hard.end(Exit.succeed(2))
      yield* landed
    }))

  test("C7 C9 a timed-out loader that succeeds later updates every tier, and is counted", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a")
      for (const [round, key] of (["a", "never seen"] as const).entries()) {
        const { began, end, loader, runs } = controlled<number>()
        const caller = yield* start(a.cache.getOrSet(ns, key, loader))
        yield* began
        yield* TestClock.adjust("2 seconds")
        assert.isDefined(caller.pollUnsafe())
        yield* TestClock.adjust("10 seconds")
        yield* end(Exit.succeed(2))
        yield* landed
        const entry = yield* a.cache.getOrSetEntry(ns, key, Effect.die("not to be run"))
        assert.deepStrictEqual([entry.value, entry.freshness], [2, "fresh"])
        if (world.topology.store) {
          const elsewhere = yield* (yield* nodeIn(world)).cache.getOrSetEntry(ns, key, Effect.die("not to be run"))
          assert.deepStrictEqual([elsewhere.value, elsewhere.origin, elsewhere.freshness], [2, "store", "fresh"])
        }
        assert.strictEqual(runs(), 1)
        const { lateFailure, lateSuccess, loadSuccess, loads } = yield* a.cache.statsOf(ns)
        assert.deepStrictEqual([loads, loadSuccess, lateSuccess, lateFailure], [round + 1, round + 1, round + 1, 0])
      }
    }))

  test("C8 late failures are counted, logged once per run of failures, and nobody's unhandled rejection", (world) =>
    nothingUnhandled(
      backgroundLines((lines) =>
        Effect.gen(function* () {
          const a = yield* nodeIn(world)
          const ns = world.namespace({
            value: Schema.Int,
            ...withReserve,
            loaderSoftTimeout: "1 second",
            failureBackoff: "10 seconds"
          })
          yield* staleOnes(world, a, ns, "a")
          const load = (exit: Exit.Exit<number, string>) =>
            Effect.gen(function* () {
              const { began, end, loader } = controlled<number, string>()
              const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
              yield* began
              yield* TestClock.adjust("1 second")
              assert.isDefined(valueOf(caller))
              yield* end(exit)
              yield* landed
              yield* world.advance("2 minutes")
            })
          for (let i = 0; i < 3; i++) yield* load(Exit.fail("the source is away"))
          assert.strictEqual(lines.length, 1)
          assert.match(lines[0]!, new RegExp(`^Warn cache: a load of namespace "${ns.name}" failed in the background`))
          yield* load(Exit.succeed(2))
          assert.strictEqual(lines.length, 1)
          yield* load(Exit.fail("the source is away"))
          assert.strictEqual(lines.length, 2)
          const { lateFailure, lateSuccess, loadFailure } = yield* a.cache.statsOf(ns)
          assert.deepStrictEqual(
            { lateFailure, lateSuccess, loadFailure },
            {
              lateFailure: 4,
              lateSuccess: 1,
              loadFailure: 4
            }
          )
        })
      )
    ))

  test("C8 a loader that dies in the background is counted and logged, and the key is loaded again", (world) =>
    nothingUnhandled(
      backgroundLines((lines) =>
        Effect.gen(function* () {
          const a = yield* nodeIn(world)
          const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
          yield* staleOnes(world, a, ns, "a")
          const { began, end, loader } = controlled<number>()
          const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
          yield* began
          yield* TestClock.adjust("1 second")
          assert.strictEqual(valueOf(caller), 1)
          yield* end(Exit.die(new Error("a bug")))
          yield* landed
          assert.strictEqual(lines.length, 1)
          const { lateFailure, loadFailure } = yield* a.cache.statsOf(ns)
          assert.deepStrictEqual({ lateFailure, loadFailure }, { lateFailure: 1, loadFailure: 1 })
          assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(3)), 3)
        })
      )
    ))

  test("a caller that waits for a load that others left to the background gets what it ends with", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const defect = new Error("a bug")
      for (const exit of [Exit.succeed(2), Exit.fail("no"), Exit.die(defect)]) {
        const { began, end, loader } = controlled<number, string>()
        const early = yield* start(a.cache.getOrSet(ns, "a", loader))
        yield* began
        yield* TestClock.adjust("1 second")
        const late = yield* start(a.cache.getOrSet(ns, "a", loader))
        yield* TestClock.adjust("1 second")
        assert.isTrue(isLoaderTimeout(failureOf(early.pollUnsafe())))
        assert.isUndefined(late.pollUnsafe())
        yield* end(exit)
        const answer = yield* Fiber.await(late)
        if (Exit.isSuccess(exit)) assert.deepStrictEqual(answer, exit)
        else if (exit.cause.reasons.some(Cause.isDieReason)) assert.strictEqual(defectOf(answer), defect)
        else assert.strictEqual(failureOf(answer), "no")
        yield* landed
        yield* a.cache.invalidate(ns, "a")
      }
    }))

  test("C11 C12 C26 past the soft timeout everybody is given the stale value at once, and one loader runs", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a")
      const { began, end, loader, runs } = controlled<number>()
      const callers = yield* Effect.forEach(Array.from({ length: 20 }), () => start(a.cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* TestClock.adjust("500 millis")
      const midway = yield* start(a.cache.getOrSet(ns, "a", loader))
      assert.isUndefined(midway.pollUnsafe())
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(
        [...callers, midway].map(valueOf),
        Array.from({ length: 21 }, () => 1)
      )
      yield* TestClock.adjust("1 minute")
      const newcomers = yield* Effect.forEach(Array.from({ length: 10 }), () =>
        Effect.all([
          start(a.cache.getOrSet(ns, "a", loader)),
          start(
            Effect.map(
              a.cache.getOrSetMany(ns, ["a"], () => Effect.die("not to be run")),
              ([value]) => value
            )
          )
        ])
      )
      assert.deepStrictEqual(
        newcomers.flat().map(valueOf),
        Array.from({ length: 20 }, () => 1)
      )
      yield* end(Exit.succeed(2))
      yield* landed
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 2)
      assert.strictEqual(runs(), 1)
      const { coalesced, loads, softTimeouts, stale } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual(
        { coalesced, loads, softTimeouts, stale },
        {
          coalesced: 40,
          loads: 1,
          softTimeouts: 41,
          stale: 41
        }
      )
    }))

  test("C22 what the caller decides from the loader's exit is applied to a load that ends in the background", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a")
      const decide = Object.freeze({
        timeToLive: (exit: Exit.Exit<number, unknown>) =>
          Exit.isSuccess(exit) ? Duration.minutes(exit.value) : undefined,
        tags: (value: number) => [`tag ${value}`],
        store: (exit: Exit.Exit<number, unknown>) => Exit.isSuccess(exit) && exit.value !== 13
      })
      for (const value of [13, 20]) {
        const { began, end, loader } = controlled<number>()
        const caller = yield* start(a.cache.getOrSet(ns, "a", loader, decide))
        yield* began
        yield* TestClock.adjust("1 second")
        assert.strictEqual(valueOf(caller), 1)
        yield* end(Exit.succeed(value))
        yield* landed
        const now = yield* a.cache.getEntry(ns, "a")
        if (value === 13) assert.deepStrictEqual(now, Option.none())
        else {
          const { createdAt, expiresAt, tags, value: kept } = Option.getOrThrow(now)
          assert.strictEqual(kept, 20)
          assert.deepStrictEqual(tags, ["tag 20"])
          assert.approximately(expiresAt - createdAt, 20 * 60_000, world.drift)
        }
      }
    }))

  test("C29 callers that are all interrupted before a timeout take the loader with them", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a")
      for (const key of ["a", "never seen"]) {
        const { began, interruptions, loader } = controlled<number>()
        const callers = yield* Effect.forEach(Array.from({ length: 3 }), () => start(a.cache.getOrSet(ns, key, loader)))
        yield* began
        yield* TestClock.adjust("999 millis")
        for (const caller of callers) yield* Fiber.interrupt(caller)
        assert.strictEqual(interruptions(), 1)
        yield* landed
      }
      yield* TestClock.adjust("10 seconds")
      const { hardTimeouts, loadInterrupted, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([loadInterrupted, softTimeouts, hardTimeouts], [2, 0, 0])
    }))

  test("C29 after a timeout of one, the loader goes on without its callers, whoever is interrupted", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a")
      for (const key of ["a", "never seen"]) {
        const { began, end, interruptions, loader } = controlled<number>()
        const first = yield* start(a.cache.getOrSet(ns, key, loader))
        yield* began
        yield* TestClock.adjust("1 second")
        const joined = yield* start(a.cache.getOrSet(ns, key, loader))
        yield* TestClock.adjust("1 second")
        assert.isDefined(first.pollUnsafe())
        yield* Fiber.interrupt(joined)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(interruptions(), 0)
        yield* end(Exit.succeed(2))
        yield* landed
        assert.strictEqual(yield* a.cache.getOrSet(ns, key, Effect.die("not to be run")), 2)
      }
    }))

  test("a newcomer waits its own hard timeout, and nobody waits longer", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const { began, end, loader, runs } = controlled<number>()
      const callers = [yield* start(a.cache.getOrSet(ns, "a", loader))]
      yield* began
      for (let second = 1; second <= 5; second++) {
        callers.push(yield* start(a.cache.getOrSet(ns, "a", loader)))
        yield* TestClock.adjust("1 second")
        const waiting = callers.filter((caller) => caller.pollUnsafe() === undefined)
        // The first was there when the loader began, the second came in that moment, all others a second apart.
        assert.deepStrictEqual(waiting, callers.slice(second === 1 ? 0 : second))
      }
      yield* TestClock.adjust("1 second")
      for (const caller of callers) assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
      assert.strictEqual((yield* a.cache.statsOf(ns)).hardTimeouts, 6)
      yield* end(Exit.succeed(2))
      yield* landed
      assert.strictEqual(runs(), 1)
    }))

  test("where there is nothing stale, the caller's fallback is the answer to a hard timeout, and is not kept", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const { began, end, loader } = controlled<number>()
      let told: unknown
      const fallback = (error: unknown) => {
        told = error
        return 99
      }
      const caller = yield* start(a.cache.getOrSetEntry(ns, "a", loader, { fallback, staleOn: () => false }))
      const other = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("2 seconds")
      const { freshness, origin, value } = yield* Fiber.join(caller)
      assert.deepStrictEqual([value, origin, freshness], [99, "fallback", "stale"])
      assert.isTrue(isLoaderTimeout(told))
      assert.isTrue(isLoaderTimeout(failureOf(other.pollUnsafe())))
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.none())
      const { fallbacks, hardTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ fallbacks, hardTimeouts }, { fallbacks: 1, hardTimeouts: 2 })
      yield* end(Exit.succeed(2))
      yield* landed
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(2))
    }))

  test("a call for many keys with several loads waits until the last of them has had its soft timeout", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a", "b")
      const first = controlled<number>()
      const second = controlled<ReadonlyArray<number>>()
      const one = yield* start(a.cache.getOrSet(ns, "b", first.loader))
      yield* first.began
      yield* TestClock.adjust("600 millis")
      const many = yield* start(a.cache.getOrSetMany(ns, ["a", "b"], () => second.loader))
      yield* second.began
      yield* TestClock.adjust("400 millis")
      assert.deepStrictEqual([valueOf(one), valueOf(many)], [1, undefined])
      yield* TestClock.adjust("600 millis")
      assert.deepStrictEqual(valueOf(many), [1, 1])
      yield* first.end(Exit.succeed(2))
      yield* second.end(Exit.succeed([3]))
      yield* landed
      assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a", "b"]), [Option.some(3), Option.some(2)])
      assert.strictEqual((yield* a.cache.statsOf(ns)).lateSuccess, 2)
    }))

  test("a call for many keys takes what has landed, and what is stale of the rest", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a", "b")
      const first = controlled<number>()
      const second = controlled<ReadonlyArray<number>>()
      const one = yield* start(a.cache.getOrSet(ns, "b", first.loader))
      yield* first.began
      const many = yield* start(a.cache.getOrSetMany(ns, ["a", "b"], () => second.loader))
      yield* second.began
      yield* first.end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(one), 2)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(valueOf(many), [1, 2])
      yield* second.end(Exit.succeed([3]))
      yield* landed
    }))

  test("of many keys, one with nothing stale keeps all waiting until the hard timeout, which fails the call or its fallback mends", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "3 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a", "b")
      const { began, end, loader, runs } = controlled<ReadonlyArray<number>>()
      const keys = ["a", "never seen", "b", "a"]
      const fails = yield* start(a.cache.getOrSetMany(ns, keys, () => loader))
      const mends = yield* start(a.cache.getOrSetMany(ns, keys, () => loader, { fallback: () => 99 }))
      yield* began
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(fails.pollUnsafe() ?? mends.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.isTrue(isLoaderTimeout(failureOf(fails.pollUnsafe())))
      assert.deepStrictEqual(valueOf(mends), [1, 99, 1, 1])
      const alone = yield* start(a.cache.getOrSetMany(ns, ["b", "a"], () => loader))
      assert.deepStrictEqual(valueOf(alone), [1, 1])
      yield* end(Exit.succeed([2, 3, 4]))
      yield* landed
      assert.deepStrictEqual(yield* a.cache.getOrSetMany(ns, keys, () => Effect.die("not to be run")), [2, 3, 4, 2])
      assert.strictEqual(runs(), 1)
      const { hardTimeouts, lateSuccess, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual(
        { hardTimeouts, lateSuccess, softTimeouts },
        {
          hardTimeouts: 2,
          lateSuccess: 3,
          softTimeouts: 1
        }
      )
    }))

  test("timeouts count from when the loader begins, not from when the store is asked", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world, { config: { store: { readTimeout: "1 hour" } } })
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a")
      for (const [key, timeout] of [
        ["a", 1000],
        ["never seen", 2000]
      ] as const) {
        const held = a.hold("read", "before")
        const { began, end, loader } = controlled<number>()
        const caller = yield* start(a.cache.getOrSet(ns, key, loader))
        yield* held.reached
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(caller.pollUnsafe())
        yield* held.release
        yield* began
        yield* TestClock.adjust(timeout - 1)
        assert.isUndefined(caller.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.isDefined(caller.pollUnsafe())
        yield* end(Exit.succeed(2))
        yield* landed
      }
      const { hardTimeouts, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ hardTimeouts, softTimeouts }, { hardTimeouts: 1, softTimeouts: 1 })
    }))

  test("timeouts are the loader's: what it brought in time is the answer, however slow the store takes it", (world) =>
    Effect.gen(function* () {
      if (!world.topology.store) return
      const a = yield* nodeIn(world, { config: { store: { writeTimeout: "1 hour" } } })
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      yield* staleOnes(world, a, ns, "a")
      for (const key of ["a", "never seen"]) {
        const held = a.hold("fill", "before")
        const caller = yield* start(a.cache.getOrSetEntry(ns, key, Effect.succeed(2)))
        yield* held.reached
        yield* TestClock.adjust("1 minute")
        yield* held.release
        const { freshness, value } = yield* Fiber.join(caller)
        assert.deepStrictEqual([value, freshness], [2, "fresh"])
      }
      const { hardTimeouts, softTimeouts } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual({ hardTimeouts, softTimeouts }, { hardTimeouts: 0, softTimeouts: 0 })
    }))

  test("inside a transaction a timed-out loader is interrupted, not left behind", (world) =>
    Effect.gen(function* () {
      const store = world.topology.store ? yield* CacheStore : absent
      const a = yield* world.node({ store: { ...store, inTransaction: () => true } })
      const both = { loaderSoftTimeout: "1 second", loaderHardTimeout: "2 seconds" } as const
      const ns = world.namespace({ value: Schema.Int, ...withReserve, ...both })
      const began = Deferred.makeUnsafe<void>()
      const cleaned = Deferred.makeUnsafe<void>()
      yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
      const loader = Effect.ensuring(
        Effect.andThen(Deferred.succeed(began, undefined), Effect.never),
        Deferred.await(cleaned)
      )
      const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* Deferred.await(began)
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(caller.pollUnsafe(), "what it does for the transaction must be over before that goes on")
      yield* Deferred.succeed(cleaned, undefined)
      assert.isTrue(isLoaderTimeout(failureOf(yield* Fiber.await(caller))))
      const { lateFailure, lateSuccess, loadInterrupted } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([loadInterrupted, lateSuccess, lateFailure], [1, 0, 0])
    }))

  test("a load that leaves out a tier or keeps nothing goes on in the background like any other", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      for (const options of [{ store: false }, { skip: "memory" }, { skip: "store" }] as const) {
        const { began, end, interruptions, loader } = controlled<number>()
        const caller = yield* start(a.cache.getOrSet(ns, "a", loader, options))
        yield* began
        yield* TestClock.adjust("2 seconds")
        assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(interruptions(), 0)
        yield* end(Exit.succeed(2))
        yield* landed
      }
      assert.strictEqual((yield* a.cache.statsOf(ns)).lateSuccess, 3)
    }))

  test("a load for which there is no room in the background is interrupted; there is room again when one has ended", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world, { config: { loads: { maxBackground: 1 } } })
      const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
      yield* staleOnes(world, a, ns, "a", "b", "c")
      const [first, second, third] = [controlled<number>(), controlled<number>(), controlled<number>()]
      const load = (key: string, { began, loader }: typeof first) =>
        Effect.gen(function* () {
          const caller = yield* start(a.cache.getOrSet(ns, key, loader))
          yield* began
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* Fiber.join(caller), 1)
        })
      yield* load("a", first)
      yield* load("b", second)
      assert.deepStrictEqual([first.interruptions(), second.interruptions()], [0, 1])
      yield* first.end(Exit.succeed(2))
      yield* landed
      yield* load("c", third)
      assert.strictEqual(third.interruptions(), 0)
      yield* third.end(Exit.succeed(2))
      yield* landed
      const { lateFailure, lateSuccess, loadInterrupted } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual(
        { lateFailure, lateSuccess, loadInterrupted },
        {
          lateFailure: 0,
          lateSuccess: 2,
          loadInterrupted: 1
        }
      )
    }))

  test("the hard timeout binds although there is no room in the background and the loader cannot be interrupted", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world, { config: { loads: { maxBackground: 1 } } })
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const [first, second] = [controlled<number>(), controlled<number>()]
      yield* Effect.addFinalizer(() => second.end(Exit.succeed(2)))
      // One after the other: who began first has the one place in the background.
      const one = yield* start(a.cache.getOrSet(ns, "a", first.loader))
      yield* first.began
      const other = yield* start(a.cache.getOrSet(ns, "b", Effect.uninterruptible(second.loader)))
      yield* second.began
      const callers = [one, other]
      yield* TestClock.adjust("2 seconds")
      for (const caller of callers) assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
      assert.strictEqual(yield* a.cache.getOrSet(ns, "b", Effect.succeed(3)), 3)
      const closing = yield* start(a.close)
      yield* TestClock.adjust("1 second")
      assert.isUndefined(closing.pollUnsafe(), "it closes when all has ended")
      yield* second.end(Exit.succeed(2))
      yield* Fiber.join(closing)
      assert.strictEqual(first.interruptions(), 1)
    }))

  test("a background load is ended when the store would refuse what it brings", (world) =>
    Effect.gen(function* () {
      const { fenceLifetime } = world.topology.store ? yield* CacheStore : absent
      const a = yield* nodeIn(world)
      const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
      const { began, interruptions, loader } = controlled<number>()
      const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
      yield* TestClock.adjust(Duration.toMillis(fenceLifetime) - 1)
      assert.strictEqual(interruptions(), 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(interruptions(), 1)
      yield* landed
      const { lateFailure, lateSuccess, loadInterrupted } = yield* a.cache.statsOf(ns)
      assert.deepStrictEqual([loadInterrupted, lateSuccess, lateFailure], [1, 0, 0])
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(3)), 3)
    }))

  test("a cache that closes interrupts its background loads and waits for their finalizers, and its books balance", (world) =>
    nothingUnhandled(
      backgroundLines((lines) =>
        Effect.gen(function* () {
          const a = yield* nodeIn(world)
          const ns = world.namespace({ value: Schema.Int, loaderHardTimeout: "2 seconds" })
          const began: Array<Deferred.Deferred<void>> = []
          const cleaned = Deferred.makeUnsafe<void>()
          yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
          let finalized = 0
          const loader = Effect.suspend(() => {
            const me = Deferred.makeUnsafe<void>()
            began.push(me)
            return Effect.andThen(Deferred.succeed(me, undefined), Effect.never)
          }).pipe(
            Effect.ensuring(
              Effect.andThen(
                Deferred.await(cleaned),
                Effect.sync(() => finalized++)
              )
            )
          )
          const callers = yield* Effect.forEach(["a", "b", "c"], (key) => start(a.cache.getOrSet(ns, key, loader)))
          while (began.length < 3) yield* turn
          yield* Effect.forEach(began, Deferred.await)
          yield* TestClock.adjust("2 seconds")
          for (const caller of callers) assert.isTrue(isLoaderTimeout(failureOf(caller.pollUnsafe())))
          const closing = yield* start(a.close)
          yield* TestClock.adjust("1 second")
          assert.isUndefined(closing.pollUnsafe())
          yield* Deferred.succeed(cleaned, undefined)
          yield* Fiber.join(closing)
          assert.strictEqual(finalized, 3)
          const { lateFailure, lateSuccess, loadInterrupted, loads } = yield* a.cache.statsOf(ns)
          assert.deepStrictEqual([loads, loadInterrupted, lateSuccess, lateFailure], [3, 3, 0, 0])
          assert.deepStrictEqual(lines, [])
        })
      )
    ))

  const changes = {
    invalidate: (cache, ns) => cache.invalidate(ns, "a"),
    clear: (cache, ns) => cache.clear(ns),
    clearAll: (cache) => cache.clearAll,
    set: (cache, ns) => cache.set(ns, "a", 5),
    "a forced load": (cache, ns) => cache.getOrSet(ns, "a", Effect.succeed(5), { force: true })
  } satisfies Record<
    string,
    (cache: CacheNode["cache"], ns: Namespace<string, number, never>) => Effect.Effect<unknown, CacheError>
  >

  for (const [name, change] of Object.entries(changes)) {
    const left = name.startsWith("set") || name.startsWith("a ") ? Option.some(5) : Option.none<number>()

    test(`C50 ${name} during a load in the background wins, in every tier`, (world) =>
      Effect.gen(function* () {
        const a = yield* nodeIn(world)
        const ns = world.namespace({ value: Schema.Int, ...withReserve, loaderSoftTimeout: "1 second" })
        yield* staleOnes(world, a, ns, "a")
        const { began, end, loader } = controlled<number>()
        const caller = yield* start(a.cache.getOrSet(ns, "a", loader))
        yield* began
        yield* TestClock.adjust("1 second")
        assert.strictEqual(valueOf(caller), 1)
        yield* change(a.cache, ns)
        yield* end(Exit.succeed(2))
        yield* landed
        assert.deepStrictEqual(yield* found(world, a, ns), inEveryTier(world, left))
        const { loader: again, runs } = counting()
        yield* a.cache.getOrSet(ns, "a", again)
        assert.strictEqual(runs(), Option.isSome(left) && (world.topology.store || world.topology.memory) ? 0 : 1)
      }))
  }
}
