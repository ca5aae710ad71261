/** What is done with entries that are past their time: when they are given, for how long, and to whom. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Schema } from "effect"
import { CacheStore, type NewRow } from "../../src/CacheStore.ts"
import * as Loaded from "../../src/Loaded.ts"
import { openFences } from "../support/invariants.ts"
import { breakable } from "./brokenStore.ts"
import { absent, controlled, defectOf, type NodeOptions, start, type Test, type World } from "./cacheNode.ts"

/** Fresh for 10 minutes, then for 20 minutes the answer to a failure, which is a minute's rest for the source. */
const lives = {
  value: Schema.Int,
  timeToLive: "10 minutes",
  memoryTimeToLive: "1 day",
  staleIfError: "20 minutes",
  failureBackoff: "1 minute"
} as const

const minute = 60_000

/** The smallest step of this world's clocks that can be told from none. */
const momentIn = ({ drift }: World) => Math.max(1, drift)

/** Where there is no store, one that is away: one that answers would say that it has nothing. */
export const nodeIn = (world: World, options?: NodeOptions) => {
  if (world.topology.store) return world.node(options)
  const away = breakable(absent)
  away.break("fails", "read", "fill")
  const store = { breakerFailures: Number.MAX_SAFE_INTEGER }
  return world.node({ ...options, store: away.store, config: { ...options?.config, store } })
}

/** Ends when no load is under way, in the background or not. */
export const idle: Effect.Effect<void> = Effect.gen(function* () {
  while (openFences() > 0) yield* Effect.yieldNow
})

/** What a read is given, value or failure. */
export const outcome = <A, E, R>(read: Effect.Effect<A, E, R>): Effect.Effect<A | E, never, R> =>
  Effect.match(read, { onSuccess: (value): A | E => value, onFailure: (error) => error })

export interface Source {
  isDown: boolean
  readonly loader: Effect.Effect<number, string>
  readonly runs: () => number
}

/** Gives 1, 2, 3 …, and while it is down fails with the number of the run; never at once. */
export const source = (): Source => {
  let runs = 0
  const self: Source = {
    isDown: false,
    runs: () => runs,
    loader: Effect.suspend(() => {
      const run = ++runs
      return Effect.andThen(Effect.yieldNow, self.isDown ? Effect.fail(`down ${run}`) : Effect.succeed(run))
    })
  }
  return self
}

const row: Omit<NewRow, "key" | "data"> = {
  size: 1,
  schemaVersion: 1,
  timeToLive: 10 * minute,
  staleFor: 20 * minute,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: []
}

export const staleSuite = (test: Test): void => {
  test("C1 the stale value is the answer when the loader fails, and says that it is stale", (world) =>
    Effect.gen(function* () {
      const { advance, drift, topology } = world
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const numbers = source()
      const made = yield* cache.getOrSetEntry(ns, "a", numbers.loader, { tags: ["t"] })
      assert.deepStrictEqual([made.freshness, made.origin], ["fresh", "loader"])
      assert.strictEqual(made.staleUntil - made.expiresAt, 20 * minute)
      yield* advance("11 minutes")
      numbers.isDown = true
      for (const origin of [topology.store ? "store" : "memory", topology.memory ? "memory" : "store"]) {
        const stale = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
        assert.deepStrictEqual([stale.value, stale.freshness, stale.origin], [1, "stale", origin])
        assert.deepStrictEqual([stale.tags, stale.validators], [["t"], {}])
        for (const time of ["createdAt", "expiresAt", "staleUntil"] as const) {
          assert.approximately(stale[time], made[time], drift, time)
        }
      }
      numbers.isDown = false
      yield* advance("1 minute")
      const anew = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
      assert.deepStrictEqual([anew.value, anew.freshness, anew.origin], [3, "fresh", "loader"])
      const { loadFailure, loadSuccess, rearmed, stale } = yield* cache.statsOf(ns)
      assert.deepStrictEqual(
        { loadFailure, loadSuccess, rearmed, stale },
        {
          loadFailure: 1,
          loadSuccess: 2,
          rearmed: 1,
          stale: 2
        }
      )
    }))

  test("C1 C18 a loader that is a function fails like any other, a defect or an interruption is never answered", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("11 minutes")
      const bug = new Error("a bug")
      const instead = { fallback: () => -1 }
      assert.strictEqual(defectOf(yield* Effect.exit(cache.getOrSet(ns, "a", Effect.die(bug), instead))), bug)
      const interrupted = yield* Effect.exit(Effect.scoped(cache.getOrSet(ns, "a", Effect.interrupt, instead)))
      assert.isTrue(Exit.hasInterrupts(interrupted))
      assert.strictEqual((yield* cache.statsOf(ns)).rearmed, 0)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", () => Effect.fail("signalled"), instead), 1)
      const { fallbacks, rearmed } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ fallbacks, rearmed }, { fallbacks: 0, rearmed: 1 })
    }))

  test("C2 without staleIfError the loader's failure is the answer, with an expired entry too", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const off = world.namespace({ ...lives, staleIfError: 0 })
      const forOthers = world.namespace({ ...lives, staleIfError: "1 minute", staleWhileRevalidate: "20 minutes" })
      for (const ns of [off, forOthers]) yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("12 minutes")
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(off, "a", Effect.fail("down"))), "down")
      assert.strictEqual(
        yield* Effect.flip(cache.getOrSet(forOthers, "a", Effect.fail("down"), { force: true })),
        "down"
      )
      assert.strictEqual(yield* cache.getOrSet(forOthers, "a", source().loader), 1)
      yield* idle
      for (const ns of [off, forOthers]) assert.strictEqual((yield* cache.statsOf(ns)).rearmed, 0)
    }))

  test("C13 after a failed load the source is left alone for failureBackoff, to the moment", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const numbers = source()
      const crowd = Effect.all(
        Array.from({ length: 5 }, () => cache.getOrSet(ns, "a", numbers.loader)),
        { concurrency: "unbounded" }
      )
      yield* crowd
      yield* world.advance("11 minutes")
      numbers.isDown = true
      for (const runs of [2, 3]) {
        assert.deepStrictEqual([...new Set([...(yield* crowd), ...(yield* crowd)])], [1])
        assert.strictEqual(numbers.runs(), runs)
        yield* world.advance(minute - momentIn(world))
        yield* crowd
        assert.strictEqual(numbers.runs(), runs)
        yield* world.advance(momentIn(world))
      }
      numbers.isDown = false
      assert.deepStrictEqual([...new Set(yield* crowd)], [4])
      assert.strictEqual((yield* cache.statsOf(ns)).rearmed, 2)
    }))

  test("C13 after a load that failed in the background too", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleWhileRevalidate: "20 minutes" })
      const numbers = source()
      const read = Effect.tap(cache.getOrSet(ns, "a", numbers.loader), idle)
      yield* read
      yield* world.advance("11 minutes")
      numbers.isDown = true
      for (const runs of [2, 3]) {
        for (let i = 0; i < 5; i++) assert.strictEqual(yield* read, 1)
        assert.strictEqual(numbers.runs(), runs)
        yield* world.advance(minute - momentIn(world))
        assert.strictEqual(yield* read, 1)
        assert.strictEqual(numbers.runs(), runs)
        yield* world.advance(momentIn(world))
      }
      const { lateFailure, rearmed, refreshes, stale } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ rearmed, stale }, { rearmed: 2, stale: 12 })
      if (world.topology.memory) assert.deepStrictEqual({ lateFailure, refreshes }, { lateFailure: 2, refreshes: 2 })
      numbers.isDown = false
      assert.strictEqual(yield* read, 1)
      assert.strictEqual(yield* read, 4)
    }))

  test("C14 staleUntil is the end, whatever was re-armed before it", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const numbers = source()
      yield* cache.getOrSet(ns, "a", numbers.loader)
      yield* world.advance(30 * minute - momentIn(world))
      numbers.isDown = true
      for (let i = 0; i < 2; i++) assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
      yield* world.advance(momentIn(world))
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", numbers.loader)), "down 3")
      assert.strictEqual(yield* cache.invalidate(ns, "a"), false)
    }))

  test("C14 with a longer staleWhileRevalidate the reserve ends later, and stands in for failures no longer", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleIfError: "5 minutes", staleWhileRevalidate: "15 minutes" })
      const made = yield* cache.getOrSetEntry(ns, "a", Effect.succeed(1))
      assert.strictEqual(made.staleUntil - made.expiresAt, 15 * minute)
      const forced = cache.getOrSet(ns, "a", Effect.fail("down"), { force: true })
      yield* world.advance(15 * minute - momentIn(world))
      assert.strictEqual(yield* forced, 1)
      yield* world.advance(momentIn(world))
      assert.strictEqual(yield* Effect.flip(forced), "down")
      yield* world.advance(10 * minute - momentIn(world))
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
      yield* world.advance(momentIn(world))
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
    }))

  test("C15 a read that cannot load gives what is stale only where it is asked to, and keeps nothing for it", (world) =>
    Effect.gen(function* () {
      const a = yield* nodeIn(world)
      const ns = world.namespace(lives)
      yield* a.cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("5 minutes")
      yield* a.cache.getOrSet(ns, "b", Effect.succeed(2))
      assert.strictEqual(Option.getOrThrow(yield* a.cache.getEntry(ns, "a", { stale: true })).freshness, "fresh")
      yield* world.advance("6 minutes")
      const nodes = world.topology.store ? [a, yield* nodeIn(world)] : [a]
      for (const { cache, calls, memory } of nodes) {
        yield* cache.get(ns, "b")
        calls.length = 0
        const before = memory.entries
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: false }), Option.none())
        const { freshness, value } = Option.getOrThrow(yield* cache.getEntry(ns, "a", { stale: true }))
        assert.deepStrictEqual([value, freshness], [1, "stale"])
        assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
        assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b", "c"]), [
          Option.none(),
          Option.some(2),
          Option.none()
        ])
        assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b", "c"], { stale: true }), [
          Option.some(1),
          Option.some(2),
          Option.none()
        ])
        assert.strictEqual(memory.entries, before)
        assert.deepStrictEqual([...new Set(calls.map(({ operation }) => operation))], ["read"])
        const { rearmed, stale } = yield* cache.statsOf(ns)
        assert.deepStrictEqual({ rearmed, stale }, { rearmed: 0, stale: 3 })
      }
    }))

  test("C16 what is past its time is not there, but invalidate says that its reserve was, and removes it", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("10 minutes")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.deepStrictEqual(yield* cache.getEntry(ns, "a"), Option.none())
      assert.strictEqual(yield* cache.invalidate(ns, "a"), true)
      assert.strictEqual(yield* cache.invalidate(ns, "a"), false)
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", Effect.fail("down"))), "down")
    }))

  test("C17 what is not to be stored is served, kept nowhere, and takes nothing from the reserve", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, failureBackoff: 0 })
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("11 minutes")
      const numbers = source()
      const reads = [
        cache.getOrSet(ns, "a", () => Effect.map(numbers.loader, (n) => Loaded.of(n * 10, { store: false }))),
        cache.getOrSet(ns, "a", () => Effect.map(numbers.loader, (n) => Loaded.of(n * 10, { timeToLive: 0 }))),
        cache.getOrSet(
          ns,
          "a",
          Effect.map(numbers.loader, (n) => n * 10),
          { store: false }
        ),
        cache.getOrSet(
          ns,
          "a",
          Effect.map(numbers.loader, (n) => n * 10),
          { store: (exit) => Exit.isFailure(exit) }
        )
      ]
      for (const [i, read] of reads.entries()) {
        assert.strictEqual(yield* read, (2 * i + 1) * 10)
        assert.strictEqual(yield* read, (2 * i + 2) * 10)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.fail("down")), 1)
      }
    }))

  test("C19 a fallback is the answer to a failure with nothing stale, and is not kept", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const numbers = source()
      numbers.isDown = true
      const seen: Array<unknown> = []
      const options = { fallback: (error: unknown) => -seen.push(error) }
      const { freshness, origin, value } = yield* cache.getOrSetEntry(ns, "a", numbers.loader, options)
      assert.deepStrictEqual([value, origin, freshness], [-1, "fallback", "stale"])
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader, options), -2)
      assert.deepStrictEqual(seen, ["down 1", "down 2"])
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
      assert.strictEqual(memory.entries, 0)
      numbers.isDown = false
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader, options), 3)
      yield* world.advance("11 minutes")
      numbers.isDown = true
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader, options), 3)
      const { fallbacks, stale } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ fallbacks, stale }, { fallbacks: 2, stale: 1 })
    }))

  test("a failure that staleOn refuses is answered by neither stale value nor fallback, and re-arms nothing", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("11 minutes")
      const numbers = source()
      numbers.isDown = true
      const asked: Array<string> = []
      const staleOn = (error: string) => (asked.push(error), false)
      for (const failure of ["down 1", "down 2"]) {
        const read = cache.getOrSet(ns, "a", numbers.loader, { staleOn, fallback: () => -1 })
        assert.strictEqual(yield* Effect.flip(read), failure)
      }
      assert.deepStrictEqual(new Set(asked), new Set(["down 1", "down 2"]))
      assert.strictEqual((yield* cache.statsOf(ns)).rearmed, 0)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader, { staleOn: (error) => error === "down 3" }), 1)
      const { fallbacks, rearmed } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ fallbacks, rearmed }, { fallbacks: 0, rearmed: 1 })
    }))

  test("each of those who share a load decides for itself what will do for its failure", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      yield* cache.getOrSet(ns, "stale", Effect.succeed(1))
      yield* world.advance("11 minutes")
      for (const key of ["stale", "nothing"]) {
        const { began, end, loader, runs } = controlled<number, string>()
        const first = yield* start(outcome(cache.getOrSet(ns, key, loader, { staleOn: () => false })))
        yield* began
        const others = [
          yield* start(outcome(cache.getOrSet(ns, key, loader))),
          yield* start(outcome(cache.getOrSet(ns, key, loader, { fallback: () => -1 }))),
          yield* start(outcome(cache.getOrSet(ns, key, loader, { fallback: () => -2, staleOn: () => false }))),
          yield* start(outcome(cache.getOrSet(ns, key, loader, { staleOn: (error) => error === "down" })))
        ]
        yield* end(Exit.fail("down"))
        assert.strictEqual(yield* Fiber.join(first), "down")
        const outcomes = yield* Effect.forEach(others, Fiber.join)
        assert.deepStrictEqual(outcomes, key === "stale" ? [1, 1, "down", 1] : ["down", -1, "down", "down"])
        assert.strictEqual(runs(), 1)
      }
    }))

  test("C20 zero, infinite and very long reserves and back-offs mean what they say, negative ones are refused", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const years = (n: number) => Duration.days(365.25 * n)
      for (const staleIfError of [Duration.infinity, years(1_000_000), years(290_000), years(100)]) {
        const ns = world.namespace({ ...lives, staleIfError })
        yield* cache.getOrSet(ns, "a", Effect.succeed(1))
        yield* world.advance(Duration.days(10))
        const { freshness, staleUntil, value } = yield* cache.getOrSetEntry(ns, "a", Effect.fail("down"))
        assert.deepStrictEqual([value, freshness], [1, "stale"])
        assert.isAbove(staleUntil, Duration.toMillis(years(99)))
      }
      const restless = world.namespace({ ...lives, failureBackoff: 0 })
      const resting = world.namespace({ ...lives, failureBackoff: Duration.infinity })
      const numbers = source()
      for (const ns of [restless, resting]) yield* cache.getOrSet(ns, "a", Effect.succeed(0))
      yield* world.advance("11 minutes")
      numbers.isDown = true
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* cache.getOrSet(restless, "a", numbers.loader), 0)
      assert.strictEqual(numbers.runs(), 3)
      assert.strictEqual((yield* cache.statsOf(restless)).rearmed, 0)
      assert.strictEqual(yield* cache.getOrSet(resting, "a", numbers.loader), 0)
      yield* world.advance("18 minutes")
      assert.strictEqual(yield* cache.getOrSet(resting, "a", numbers.loader), 0)
      assert.strictEqual(numbers.runs(), 4)
      yield* world.advance("1 minute")
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(resting, "a", numbers.loader)), "down 5")
      for (const field of ["staleIfError", "staleWhileRevalidate", "failureBackoff", "failureTimeToLive"]) {
        assert.throws(() => world.namespace({ ...lives, [field]: -1 } as never), new RegExp(field))
      }
    }))

  test("C21 null is a value that can be stale, undefined by mistake takes nothing from the reserve", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({
        ...lives,
        value: Schema.NullOr(Schema.Int),
        negativeTimeToLive: "2 minutes",
        failureBackoff: 0
      })
      const made = yield* cache.getOrSetEntry(ns, "a", Effect.succeed(null))
      assert.strictEqual(made.staleUntil - made.createdAt, 22 * minute)
      yield* world.advance("3 minutes")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(null))
      const byMistake = Effect.sync(() => undefined as unknown as null)
      assert.isUndefined(yield* cache.getOrSet(ns, "a", byMistake))
      const stale = yield* cache.getOrSetEntry(ns, "a", Effect.fail("down"), { fallback: () => -1 })
      assert.deepStrictEqual([stale.value, stale.freshness], [null, "stale"])
    }))

  test("of many keys each is answered by what there is for it: fresh, stale, or the failure of the load", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, failureBackoff: 0 })
      yield* cache.getOrSet(ns, "stale", Effect.succeed(1))
      yield* world.advance("11 minutes")
      yield* cache.getOrSet(ns, "fresh", Effect.succeed(2))
      const asked: Array<ReadonlyArray<string>> = []
      const fails = (missing: ReadonlyArray<string>) => (asked.push(missing), Effect.fail("down"))
      const all = ["nothing", "fresh", "stale"]
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, ["fresh", "stale"], fails), [2, 1])
      assert.strictEqual(yield* Effect.flip(cache.getOrSetMany(ns, all, fails)), "down")
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, all, fails, { fallback: () => -1 }), [-1, 2, 1])
      assert.deepStrictEqual(asked, [["stale"], ["nothing", "stale"], ["nothing", "stale"]])
      const refused = cache.getOrSetMany(ns, ["fresh", "stale"], fails, { staleOn: () => false, fallback: () => -1 })
      assert.strictEqual(yield* Effect.flip(refused), "down")
      assert.deepStrictEqual(yield* cache.getMany(ns, all), [Option.none(), Option.some(2), Option.none()])
      assert.deepStrictEqual(yield* cache.getMany(ns, all, { stale: true }), [
        Option.none(),
        Option.some(2),
        Option.some(1)
      ])
      const { fallbacks, stale } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ fallbacks, stale }, { fallbacks: 1, stale: 4 })
    }))

  test("C34 lifetimes are shortened by chance, by no more than jitter, and what is re-armed is not", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, jitter: 0.5 })
      const keys = Array.from({ length: 40 }, (_, i) => `${i}`)
      const read = (key: string) => cache.getOrSetEntry(ns, key, Effect.succeed(1))
      const made = yield* Effect.forEach(keys, read)
      const kept = yield* Effect.forEach(keys, read)
      for (const [i, { createdAt, expiresAt, staleUntil }] of made.entries()) {
        assert.isAtLeast(expiresAt - createdAt, 5 * minute)
        assert.isAtMost(expiresAt - createdAt, 10 * minute)
        assert.strictEqual(staleUntil - expiresAt, 20 * minute)
        assert.approximately(kept[i]!.expiresAt, expiresAt, world.drift)
      }
      assert.isAbove(new Set(made.map(({ expiresAt }) => expiresAt)).size, 30)
      yield* world.advance("11 minutes")
      const numbers = source()
      numbers.isDown = true
      for (const key of keys) assert.strictEqual(yield* cache.getOrSet(ns, key, numbers.loader), 1)
      assert.strictEqual(numbers.runs(), 40)
      yield* world.advance(minute - momentIn(world))
      const rearmed = yield* Effect.forEach(keys, (key) => cache.getOrSetEntry(ns, key, numbers.loader))
      for (const [i, { staleUntil }] of rearmed.entries()) {
        assert.approximately(staleUntil, made[i]!.staleUntil, world.drift)
      }
      assert.strictEqual(numbers.runs(), 40)
      yield* world.advance(momentIn(world))
      for (const key of keys) assert.strictEqual(yield* cache.getOrSet(ns, key, numbers.loader), 1)
      assert.strictEqual(numbers.runs(), 80)
    }))
}

/** With a store: what one process leaves to the next. */
export const sharedStaleSuite = (test: Test): void => {
  for (const revalidate of [0, "20 minutes"] as const) {
    const how = revalidate === 0 ? "in the foreground" : "in the background"
    test(`C13 what failed ${how} is left alone by the other processes too`, (world) =>
      Effect.gen(function* () {
        const [a, b] = [yield* world.node(), yield* world.node()]
        const ns = world.namespace({ ...lives, staleWhileRevalidate: revalidate })
        const numbers = source()
        const readBy = ({ cache }: typeof a) => Effect.tap(cache.getOrSet(ns, "a", numbers.loader), idle)
        yield* readBy(a)
        yield* world.advance("11 minutes")
        numbers.isDown = true
        for (const [runs, [first, second]] of [
          [2, [a, b]],
          [3, [b, a]]
        ] as const) {
          for (const node of [first, second, first, second, second]) assert.strictEqual(yield* readBy(node), 1)
          assert.strictEqual(numbers.runs(), runs)
          const restarted = yield* world.node()
          assert.strictEqual(yield* readBy(restarted), 1)
          const asked = restarted.calls.length
          assert.strictEqual(yield* readBy(restarted), 1)
          if (world.topology.memory) assert.strictEqual(restarted.calls.length, asked)
          assert.strictEqual(numbers.runs(), runs)
          yield* world.advance(minute)
        }
        const counts = yield* Effect.forEach([a, b], ({ cache }) => cache.statsOf(ns))
        assert.deepStrictEqual(
          counts.map(({ loadFailure, rearmed, stale }) => ({ loadFailure, rearmed, stale })),
          [
            { loadFailure: 1, rearmed: 1, stale: 5 },
            { loadFailure: 1, rearmed: 1, stale: 5 }
          ]
        )
      }))
  }

  test("the reserve survives a restart, and ends when it would have ended", (world) =>
    Effect.gen(function* () {
      const a = yield* world.node()
      const ns = world.namespace(lives)
      const made = yield* a.cache.getOrSetEntry(ns, "a", Effect.succeed(1), { tags: ["t"] })
      yield* a.close
      yield* world.advance("29 minutes")
      const b = yield* world.node()
      const stale = yield* b.cache.getOrSetEntry(ns, "a", Effect.fail("down"))
      assert.deepStrictEqual([stale.value, stale.freshness, stale.origin], [1, "stale", "store"])
      for (const time of ["createdAt", "expiresAt", "staleUntil"] as const) {
        assert.approximately(stale[time], made[time], world.drift, time)
      }
      assert.deepStrictEqual(stale.tags, ["t"])
      yield* world.advance("1 minute")
      for (const node of [b, yield* world.node()]) {
        assert.strictEqual(yield* Effect.flip(node.cache.getOrSet(ns, "a", Effect.fail("down"))), "down")
      }
    }))

  test("of a bulk load that fails, a waiter for a key that the store has gets what the store has", (world) =>
    Effect.gen(function* () {
      const [a, b] = [yield* world.node(), yield* world.node()]
      const ns = world.namespace(lives)
      yield* b.cache.set(ns, "stored", 1)
      const { began, end, loader } = controlled<ReadonlyArray<number>, string>()
      const { reached, release } = a.hold("read", "before")
      const bulk = yield* start(outcome(a.cache.getOrSetMany(ns, ["stored", "missing"], () => loader)))
      yield* reached
      const waiters = [
        yield* start(outcome(a.cache.getOrSet(ns, "stored", Effect.die("not to be run")))),
        yield* start(outcome(a.cache.getOrSet(ns, "missing", Effect.die("not to be run"))))
      ]
      yield* release
      yield* began
      yield* end(Exit.fail("down"))
      const outcomes = [yield* Fiber.join(bulk), ...(yield* Effect.forEach(waiters, Fiber.join))]
      assert.deepStrictEqual(outcomes, ["down", 1, "down"])
      assert.strictEqual((yield* a.cache.statsOf(ns)).loads, 1)
    }))
}

/** With both tiers: which of them has the say. */
export const tieredStaleSuite = (test: Test): void => {
  test("C36 where both tiers are past their time, the store's stale value is preferred", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const store = yield* CacheStore
      const ns = world.namespace(lives)
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* store.write(ns.name, [{ ...row, key: "a", data: "2" }])
      yield* world.advance("11 minutes")
      const shown: Array<number | undefined> = []
      const fails = (stale: { readonly value: number } | undefined) => (shown.push(stale?.value), Effect.fail("down"))
      const first = yield* cache.getOrSetEntry(ns, "a", fails)
      const second = yield* cache.getOrSetEntry(ns, "a", fails)
      assert.deepStrictEqual([first.value, first.origin, first.freshness], [2, "store", "stale"])
      assert.deepStrictEqual([second.value, second.origin, second.freshness], [2, "memory", "stale"])
      assert.deepStrictEqual(shown, [2])
    }))

  test("C41 C42 past memoryTimeToLive the store is asked, and what it has fresh is fresh", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = world.namespace({ ...lives, memoryTimeToLive: "1 minute" })
      const numbers = source()
      const made = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
      numbers.isDown = true
      for (const freshness of ["fresh", "stale"]) {
        yield* world.advance("2 minutes")
        const entry = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
        assert.deepStrictEqual([entry.value, entry.origin, entry.freshness], [1, "store", freshness])
        assert.approximately(entry.expiresAt, made.expiresAt, world.drift)
        yield* world.advance("7 minutes")
      }
      assert.strictEqual(numbers.runs(), 2)
    }))

  test("C41 with memoryTimeToLive 0 memory keeps no reserve either, and the store's is served", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* world.node()
      const ns = world.namespace({ ...lives, memoryTimeToLive: 0 })
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("11 minutes")
      for (let i = 0; i < 2; i++) {
        assert.strictEqual((yield* cache.getOrSetEntry(ns, "a", Effect.fail("down"))).origin, "store")
        assert.strictEqual(memory.entries, 0)
      }
      assert.strictEqual((yield* cache.statsOf(ns)).loads, 2)
    }))

  test("C34 memoryTimeToLive is shortened by chance, by no more than jitter", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = world.namespace({ ...lives, timeToLive: "1 day", memoryTimeToLive: "40 minutes", jitter: 0.5 })
      const keys = Array.from({ length: 40 }, (_, i) => `${i}`)
      const originsAfter = (duration: Duration.Input) =>
        Effect.andThen(
          world.advance(duration),
          Effect.forEach(keys, (key) =>
            Effect.map(cache.getOrSetEntry(ns, key, Effect.succeed(1)), ({ origin }) => origin)
          )
        )
      assert.deepStrictEqual(new Set(yield* originsAfter(0)), new Set(["loader"]))
      assert.deepStrictEqual(new Set(yield* originsAfter("19 minutes")), new Set(["memory"]))
      const between = yield* originsAfter("11 minutes")
      assert.deepStrictEqual(new Set(between), new Set(["memory", "store"]))
      const left = keys.filter((_, i) => between[i] === "memory")
      const after = yield* originsAfter("10 minutes")
      for (const key of left) assert.strictEqual(after[Number(key)], "store")
    }))

  test("a reserve whose row is gone from the store is not served once the store has said so", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* world.node()
      const store = yield* CacheStore
      const waiting = world.namespace(lives)
      const revalidating = world.namespace({ ...lives, staleWhileRevalidate: "20 minutes" })
      const numbers = source()
      for (const ns of [waiting, revalidating]) yield* cache.getOrSet(ns, "a", numbers.loader)
      yield* world.advance("11 minutes")
      numbers.isDown = true
      // What no bus has told us of.
      for (const ns of [waiting, revalidating]) yield* store.remove(ns.name, ["a"])
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(waiting, "a", numbers.loader)), "down 3")
      assert.strictEqual(yield* cache.getOrSet(revalidating, "a", numbers.loader), 2)
      yield* idle
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(revalidating, "a", numbers.loader)), "down 5")
      assert.strictEqual(memory.entries, 0)
      for (const ns of [waiting, revalidating]) assert.strictEqual((yield* cache.statsOf(ns)).rearmed, 0)
    }))

  test("with the store away and the source failing memory's reserve is the answer, and not past its end", (world) =>
    Effect.gen(function* () {
      const broken = breakable(yield* CacheStore)
      const { cache } = yield* world.node({ store: broken.store })
      const ns = world.namespace({ ...lives, memoryTimeToLive: "1 minute" })
      const numbers = source()
      const made = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
      yield* world.advance("2 minutes")
      broken.break("fails")
      numbers.isDown = true
      // Still fresh, but nobody confirms it: first that, then past its time.
      for (const waiting of [10, 17]) {
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
        const before = numbers.runs()
        for (let i = 0; i < 3; i++) {
          const stale = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
          assert.deepStrictEqual([stale.value, stale.origin, stale.freshness], [1, "memory", "stale"])
          assert.strictEqual(stale.expiresAt, made.expiresAt)
          assert.strictEqual(stale.staleUntil, made.staleUntil)
        }
        assert.strictEqual(numbers.runs(), before + 1)
        yield* world.advance(waiting * minute)
      }
      yield* world.advance(minute - 1)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 1)
      yield* world.advance(1)
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", numbers.loader)), "down 5")
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
    }))

  test("a reserve that the store never had stands until the store knows of a change", (world) =>
    Effect.gen(function* () {
      const broken = breakable(yield* CacheStore)
      const { cache } = yield* world.node({ store: broken.store })
      const other = yield* world.node()
      const ns = world.namespace({ ...lives, failureBackoff: 0 })
      broken.break("fails", "fill")
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      broken.mend()
      yield* world.advance("5 minutes")
      assert.deepStrictEqual(yield* other.cache.get(ns, "a"), Option.none())
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
      yield* world.advance("6 minutes")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.fail("down")), 1)
      yield* (yield* CacheStore).remove(ns.name, ["a"])
      assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", Effect.fail("down"))), "down")
    }))
}
