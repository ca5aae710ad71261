/** Several caches over one store that want the same key: one of them loads it, and the others wait for that. */
import { assert } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Logger, Option, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { vi } from "vitest"
import { CacheError } from "../../src/CacheError.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { Leases } from "../../src/Leases.ts"
import type { Namespace } from "../../src/Namespace.ts"
import { flightsInTheAir } from "../support/invariants.ts"
import { breakable } from "./brokenStore.ts"
import {
  answered,
  type CacheNode,
  controlled,
  counting,
  type Operation,
  start,
  type Test,
  turn,
  type World
} from "./cacheNode.ts"

type Numbers<X = never> = Namespace<string, number, X>

const notToBeRun = Effect.die("not to be run")

/** Long enough for a test to say when what ends. */
const patient = { leaseDuration: "1 minute", leaseWait: "1 hour" } as const

/** With something stale to fall back on. */
const reserved = { ...patient, timeToLive: "1 hour", staleIfError: "1 day", failureBackoff: "5 minutes" } as const

/** The store answers when it answers, however fast a test moves the clock. */
const unhurried = { config: { store: { readTimeout: "1 day", writeTimeout: "1 day" } } } as const

const pair = ({ node }: World) => Effect.all([node(unhurried), node(unhurried)])

const trio = ({ node }: World) => Effect.all([node(unhurried), node(unhurried), node(unhurried)])

/** Ends as soon as it holds. No time passes. */
const until = <E>(condition: () => boolean | Effect.Effect<boolean, E>) =>
  Effect.gen(function* () {
    while (true) {
      const holds = condition()
      if (typeof holds === "boolean" ? holds : yield* holds) return
      yield* turn
    }
  })

/** Ends when no load is under way, whoever waits for it. */
const landed = until(() => flightsInTheAir() === 0)

/** Lets time pass until it holds, a poll at a time. Says how much, in milliseconds. */
const passing = (condition: () => boolean) =>
  Effect.gen(function* () {
    const before = yield* Clock.currentTimeMillis
    while (!condition()) {
      yield* answered
      yield* TestClock.adjust("250 millis")
      yield* turn
      yield* turn
    }
    return (yield* Clock.currentTimeMillis) - before
  })

/** Lets time pass until the node has looked for itself so many times more. */
const polls = (node: CacheNode, times: number) => {
  const asked = () => operations(node).filter((operation) => operation === "acquire").length
  const before = asked()
  return passing(() => asked() >= before + times)
}

/** Ends when the node has waited for so many keys. */
const waitsFor = <X>({ cache }: CacheNode, ns: Numbers<X>, keys: number) =>
  until(() => Effect.map(cache.statsOf(ns), ({ leaseWaits }) => leaseWaits >= keys))

/** Fails if time passes. */
const atOnce = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* Clock.currentTimeMillis
    const answer = yield* effect
    assert.strictEqual(yield* Clock.currentTimeMillis, before, "time passed")
    return answer
  })

const isDone = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() !== undefined

const operations = ({ calls }: CacheNode): ReadonlyArray<Operation> => calls.map(({ operation }) => operation)

const leasesOf = <X>({ cache }: CacheNode, ns: Numbers<X>) =>
  Effect.map(cache.statsOf(ns), ({ leaseTimeouts, leaseWaits, loads }) => ({ leaseTimeouts, leaseWaits, loads }))

/** Nobody is woken. */
const deaf: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(
  Effect.acquireRelease(
    Effect.sync(() => vi.spyOn(Leases.prototype, "wake").mockImplementation(() => {})),
    (spy) => Effect.sync(() => spy.mockRestore())
  )
)

/** A node that, once it is dead, says no more to the store. */
const mortal = ({ node }: World) =>
  Effect.gen(function* () {
    const store = yield* CacheStore
    const end = Deferred.makeUnsafe<void>()
    let isDead = false
    const unlessDead = <A, E>(call: Effect.Effect<A, E>) =>
      Effect.suspend(() => (isDead ? Effect.andThen(Deferred.await(end), call) : call))
    const a = yield* node({
      ...unhurried,
      store: {
        ...store,
        renew: (...args) => unlessDead(store.renew(...args)),
        release: (...args) => unlessDead(store.release(...args))
      }
    })
    // Before the node closes, which waits for what it still has to say.
    yield* Effect.addFinalizer(() => Deferred.succeed(end, undefined))
    return { ...a, die: Effect.sync(() => void (isDead = true)) }
  })

export const leaseSuite = (test: Test): void => {
  test("of two processes that want a cold key one loads it, and the other is woken with its value (C30)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSetEntry(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      const entries = yield* atOnce(
        Effect.gen(function* () {
          yield* end(Exit.succeed(1))
          return [yield* Fiber.join(first), yield* Fiber.join(second)]
        })
      )
      assert.deepStrictEqual(
        entries.map(({ origin, value }) => [value, origin]),
        [
          [1, "loader"],
          [1, "store"]
        ]
      )
      assert.strictEqual((yield* b.cache.getOrSetEntry(ns, "a", notToBeRun)).origin, "memory")
      assert.deepStrictEqual(yield* leasesOf(a, ns), { leaseWaits: 0, leaseTimeouts: 0, loads: 1 })
      assert.deepStrictEqual(yield* leasesOf(b, ns), { leaseWaits: 1, leaseTimeouts: 0, loads: 0 })
    }))

  test("callers of every style in two processes share one load of a key (C24)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const others = [
        yield* start(a.cache.cached(ns, () => notToBeRun)("a")),
        yield* start(b.cache.getOrSet(ns, "a", notToBeRun)),
        yield* start(
          Effect.map(
            b.cache.getOrSetMany(ns, ["a"], () => notToBeRun),
            ([value]) => value
          )
        ),
        yield* start(b.cache.cached(ns, () => notToBeRun)("a"))
      ]
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(1))
      for (const caller of [first, ...others]) assert.strictEqual(yield* Fiber.join(caller), 1)
      assert.strictEqual((yield* b.cache.statsOf(ns)).coalesced, 2)
    }))

  test("a load takes one round trip to read, one for the lease and, when it ends, one to write", (world) =>
    Effect.gen(function* () {
      const [a] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const load = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      assert.deepStrictEqual(operations(a), ["read", "acquire"])
      yield* end(Exit.succeed(1))
      yield* Fiber.join(load)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(operations(a), ["read", "acquire", "fill"])
    }))

  test("a wake that is lost costs no more than the time until a waiter looks for itself", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      yield* deaf
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
      yield* TestClock.adjust("249 millis")
      assert.isFalse(isDone(second))
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* atOnce(Fiber.join(second)), 1)
      assert.strictEqual((yield* b.cache.statsOf(ns)).leaseWaits, 1)
    }))

  test("a wake that comes before the store's answer to who is to be woken is not lost", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const held = b.hold("acquire", "after")
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* held.reached
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
      yield* held.release
      assert.strictEqual(yield* atOnce(Fiber.join(second)), 1)
    }))

  test("a load that fails ends its lease, and who waits for it loads at once (C25)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      for (const [key, exit] of Object.entries({ failure: Exit.fail("no"), defect: Exit.die("no") })) {
        const { began, end, loader } = controlled<number, string>()
        const first = yield* start(a.cache.getOrSet(ns, key, loader))
        yield* began
        const second = yield* start(b.cache.getOrSetEntry(ns, key, Effect.succeed(2)))
        yield* until(() => operations(b).includes("acquire"))
        yield* turn
        const { origin, value } = yield* atOnce(Effect.andThen(end(exit), Fiber.join(second)))
        assert.deepStrictEqual([value, origin], [2, "loader"])
        assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      }
    }))

  test("all callers of one process share the failure of the load that they came to when the other's failed (C25)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number, string>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      let runs = 0
      const failing = Effect.suspend(() => Effect.fail(`failure ${++runs}`))
      const waiting = yield* Effect.forEach(Array.from({ length: 3 }), () =>
        start(Effect.flip(b.cache.getOrSet(ns, "a", failing)))
      )
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.fail("no"))
      assert.strictEqual(yield* Effect.flip(Fiber.join(first)), "no")
      for (const waiter of waiting) assert.strictEqual(yield* Fiber.join(waiter), "failure 1")
    }))

  test("of several processes that wait for one that fails each loads at once, and none waits for another", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const [failing, hanging, third] = [controlled<number, string>(), controlled<number>(), controlled<number>()]
      const callers = [yield* start(Effect.exit(a.cache.getOrSet(ns, "a", failing.loader)))]
      yield* failing.began
      const others = [
        yield* start(b.cache.getOrSet(ns, "a", hanging.loader)),
        yield* start(c.cache.getOrSet(ns, "a", third.loader))
      ]
      yield* waitsFor(b, ns, 1)
      yield* waitsFor(c, ns, 1)
      yield* failing.end(Exit.fail("no"))
      yield* atOnce(Effect.all([hanging.began, third.began]))
      yield* hanging.end(Exit.succeed(2))
      yield* third.end(Exit.succeed(3))
      yield* Effect.forEach([...callers, ...others], (fiber) => Fiber.join(fiber as Fiber.Fiber<unknown>))
      const timeouts = [yield* leasesOf(b, ns), yield* leasesOf(c, ns)].map(({ leaseTimeouts }) => leaseTimeouts)
      assert.strictEqual(timeouts[0]! + timeouts[1]!, 1)
    }))

  test("after a failure that leaves a reserve, who waits is given that, and the source is left alone", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...reserved })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 hours")
      const { began, end, loader } = controlled<number, string>()
      const first = yield* start(a.cache.getOrSetEntry(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSetEntry(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.fail("no"))
      for (const caller of [first, second]) {
        const { freshness, value } = yield* Fiber.join(caller)
        assert.deepStrictEqual([value, freshness], [1, "stale"])
      }
    }))

  for (const who of ["another process", "its own"] as const) {
    test(`what ${who} invalidates while a load waits does not come back by it, though the store fails it then`, (world) =>
      Effect.gen(function* () {
        const broken = breakable(yield* CacheStore)
        const a = yield* world.node(unhurried)
        const b = yield* world.node({ ...unhurried, store: broken.store })
        const ns = world.namespace({ value: Schema.Int, ...reserved })
        yield* a.cache.set(ns, "k", 1)
        assert.strictEqual(yield* b.cache.getOrSet(ns, "k", notToBeRun), 1)
        yield* world.advance("2 hours")
        const { began, end, loader } = controlled<number>()
        const first = yield* start(a.cache.getOrSet(ns, "k", loader))
        yield* began
        const second = yield* start(b.cache.getOrSet(ns, "k", Effect.fail("no")))
        yield* waitsFor(b, ns, 1)
        broken.break("fails", "read")
        yield* (who === "its own" ? b : a).cache.invalidate(ns, "k")
        yield* passing(() => isDone(second))
        broken.mend()
        assert.strictEqual(yield* b.cache.getOrSet(ns, "k", Effect.succeed(2)), 2)
        yield* end(Exit.succeed(1))
        yield* Fiber.join(first)
        assert.strictEqual(yield* b.cache.getOrSet(ns, "k", notToBeRun), 2)
      }))
  }

  test("a failure that is kept is given to who waits, too", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, error: Schema.String, failureTimeToLive: "1 minute", ...patient })
      const { began, end, loader } = controlled<number, string>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.fail("no"))
      for (const caller of [first, second]) assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), "no")
      assert.strictEqual((yield* b.cache.statsOf(ns)).cachedFailures, 1)
    }))

  test("a process that crashes with the lease costs the others no more than the lease, and one of them loads", (world) =>
    Effect.gen(function* () {
      const a = yield* mortal(world)
      const [b, c] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, loader } = controlled<number>()
      const crashed = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* a.die
      yield* Fiber.interrupt(crashed)
      const source = counting()
      const waiting = [
        yield* start(b.cache.getOrSet(ns, "a", source.loader)),
        yield* start(c.cache.getOrSet(ns, "a", source.loader))
      ]
      yield* waitsFor(b, ns, 1)
      yield* waitsFor(c, ns, 1)
      yield* world.advance("50 seconds")
      yield* polls(b, 2)
      assert.strictEqual(source.runs(), 0)
      yield* world.advance("10 seconds")
      yield* passing(() => waiting.every(isDone))
      for (const waiter of waiting) assert.strictEqual(yield* Fiber.join(waiter), 1)
      assert.strictEqual(source.runs(), 1)
    }))

  /** A node before whose requests for a lease something happens, once each. */
  const disturbed = (world: World, happens: ReadonlyArray<Effect.Effect<unknown, unknown>>) =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const left = [...happens]
      const before = Effect.suspend(() => Effect.orDie(left.shift() ?? Effect.void))
      return yield* world.node({
        ...unhurried,
        store: { ...store, acquire: (...args) => Effect.andThen(before, store.acquire(...args)) }
      })
    })

  test("what another loads between the read and the request for the lease is not loaded again, whatever was before", (world) =>
    Effect.gen(function* () {
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const b = yield* world.node(unhurried)
      const a = yield* disturbed(world, [
        b.cache.invalidate(ns, "k"),
        b.cache.invalidate(ns, "k"),
        b.cache.getOrSet(ns, "k", Effect.succeed(1))
      ])
      assert.strictEqual(yield* atOnce(a.cache.getOrSet(ns, "k", notToBeRun)), 1)
      assert.deepStrictEqual(yield* leasesOf(a, ns), { loads: 0, leaseWaits: 0, leaseTimeouts: 0 })
    }))

  test("a key that changes all the time is loaded in the end, without a lease", (world) =>
    Effect.gen(function* () {
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const b = yield* world.node(unhurried)
      const a = yield* disturbed(
        world,
        Array.from({ length: 100 }, () => b.cache.invalidate(ns, "k"))
      )
      assert.strictEqual(yield* atOnce(a.cache.getOrSet(ns, "k", Effect.succeed(1))), 1)
      assert.deepStrictEqual(yield* leasesOf(a, ns), { loads: 1, leaseWaits: 0, leaseTimeouts: 0 })
      assert.isAtMost(operations(a).filter((operation) => operation === "acquire").length, 10)
    }))

  test("a key that changes all the time while the store takes its time counts for the hard timeout", (world) =>
    Effect.gen(function* () {
      const options = { value: Schema.Int, ...patient } as const
      const ns = world.namespace({ ...options, name: `changing-${world.topology.name}`, loaderHardTimeout: 500 })
      const b = yield* world.node(unhurried)
      const a = yield* disturbed(
        world,
        Array.from({ length: 100 }, () => Effect.andThen(b.cache.invalidate(ns, "k"), Effect.sleep(300)))
      )
      const asking = yield* start(Effect.flip(a.cache.getOrSet(ns, "k", Effect.succeed(1))))
      assert.isAtMost(yield* passing(() => isDone(asking)), 1500)
      const error = yield* Fiber.join(asking)
      assert.isTrue(error instanceof CacheError && error.reason._tag === "LoaderTimeout")
      // It goes on in the background.
      yield* passing(() => flightsInTheAir() === 0)
    }))

  test("a load that takes longer than the lease is not run twice: the lease is renewed until it ends", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const renewals = () => operations(a).filter((operation) => operation === "renew").length
      const ns = world.namespace({ value: Schema.Int, leaseDuration: "30 seconds", leaseWait: "1 hour" })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      for (let third = 1; third <= 9; third++) {
        const before = renewals()
        yield* world.advance("10 seconds")
        yield* until(() => renewals() > before)
        yield* polls(b, 2)
      }
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], [1, 1])
      yield* turn
      const before = renewals()
      yield* world.advance("1 hour")
      assert.strictEqual(renewals(), before)
    }))

  test("who has waited for leaseWait loads for itself, and that is counted", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, leaseDuration: "1 hour", leaseWait: "3100 millis" })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* waitsFor(b, ns, 1)
      const before = yield* Clock.currentTimeMillis
      yield* passing(() => isDone(second))
      assert.strictEqual(yield* Fiber.join(second), 2)
      const waited = (yield* Clock.currentTimeMillis) - before
      assert.isAtLeast(waited, 3100)
      if (world.drift === 0) assert.strictEqual(waited, 3250, "which is the step in which it was due")
      assert.deepStrictEqual(yield* leasesOf(b, ns), { leaseWaits: 1, leaseTimeouts: 1, loads: 1 })
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(2))
    }))

  test("with leaseWait 0 nobody waits (C27)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, leaseWait: 0 })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "a", Effect.succeed(2))), 2)
      assert.deepStrictEqual(yield* leasesOf(b, ns), { leaseWaits: 0, leaseTimeouts: 1, loads: 1 })
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
    }))

  const unkept: Readonly<Record<string, Parameters<CacheNode["cache"]["getOrSet"]>[3] & {}>> = {
    "timeToLive 0": { timeToLive: 0 },
    "a store function that says no": { store: () => false },
    "a size over the limit": {}
  }
  for (const [what, options] of Object.entries(unkept)) {
    test(`where a value is not kept for ${what}, who waits for it loads at once`, (world) =>
      Effect.gen(function* () {
        const [a, b] = yield* pair(world)
        const maxValueSize = what.startsWith("a size") ? 3 : 1000
        const ns = world.namespace({ value: Schema.Int, ...patient, maxValueSize })
        const { began, end, loader } = controlled<number>()
        const first = yield* start(a.cache.getOrSet(ns, "a", loader, options as object))
        yield* began
        const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
        yield* waitsFor(b, ns, 1)
        const values = yield* atOnce(
          Effect.andThen(end(Exit.succeed(10_000)), Effect.all([Fiber.join(first), Fiber.join(second)]))
        )
        assert.deepStrictEqual(values, [10_000, 2])
        assert.strictEqual((yield* leasesOf(b, ns)).leaseTimeouts, 0)
      }))
  }

  test("an invalidation ends the lease: a newcomer elsewhere loads at once, and the old value is not kept", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* c.cache.invalidate(ns, "a")
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "a", Effect.succeed(2))), 2)
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      for (const { cache } of [a, b, c]) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), 2)
    }))

  test("who waits while the key is invalidated loads what is new, and keeps it", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* waitsFor(b, ns, 1)
      yield* c.cache.invalidate(ns, "a")
      yield* passing(() => isDone(second))
      assert.strictEqual(yield* Fiber.join(second), 2)
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
      assert.strictEqual((yield* b.cache.getOrSetEntry(ns, "a", notToBeRun)).origin, "memory")
      assert.strictEqual(yield* c.cache.getOrSet(ns, "a", notToBeRun), 2)
      assert.strictEqual((yield* leasesOf(b, ns)).leaseTimeouts, 0)
    }))

  test("of several processes that wait while the key is invalidated, one loads what is new", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const source = controlled<number>()
      const waiting = [
        yield* start(b.cache.getOrSet(ns, "a", source.loader)),
        yield* start(c.cache.getOrSet(ns, "a", source.loader))
      ]
      yield* waitsFor(b, ns, 1)
      yield* waitsFor(c, ns, 1)
      yield* a.cache.invalidate(ns, "a")
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      yield* atOnce(source.began)
      yield* Effect.repeat(turn, { times: 100 })
      yield* source.end(Exit.succeed(2))
      for (const waiter of waiting) assert.strictEqual(yield* Fiber.join(waiter), 2)
      assert.strictEqual(source.runs(), 1)
    }))

  test("who waits while the key is set is given what was set", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      yield* c.cache.set(ns, "a", 3)
      yield* passing(() => isDone(second))
      assert.strictEqual(yield* Fiber.join(second), 3)
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
      assert.strictEqual(yield* b.cache.getOrSet(ns, "a", notToBeRun), 3)
    }))

  test("a value that is refused, because its tag was invalidated meanwhile, is loaded anew at once", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader, { tags: ["t"] }))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2), { tags: ["t"] }))
      yield* waitsFor(b, ns, 1)
      yield* c.cache.invalidateTags(ns, ["t"])
      const values = yield* atOnce(
        Effect.andThen(end(Exit.succeed(1)), Effect.all([Fiber.join(first), Fiber.join(second)]))
      )
      assert.deepStrictEqual(values, [1, 2])
      for (const { cache } of [a, b, c]) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), 2)
    }))

  test("past the soft timeout a caller is given what is stale, however long another process loads (C26)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({
        value: Schema.Int,
        ...patient,
        timeToLive: "1 hour",
        staleIfError: "1 day",
        loaderSoftTimeout: "2 seconds"
      })
      yield* a.cache.set(ns, "a", 1)
      yield* world.advance("2 hours")
      const { began, end, loader } = controlled<number>()
      const callers = [yield* start(a.cache.getOrSet(ns, "a", loader))]
      yield* began
      callers.push(yield* start(b.cache.getOrSet(ns, "a", notToBeRun)))
      yield* waitsFor(b, ns, 1)
      yield* TestClock.adjust("1999 millis")
      assert.isFalse(callers.some(isDone))
      yield* TestClock.adjust("1 millis")
      for (const caller of callers) assert.strictEqual(yield* atOnce(Fiber.join(caller)), 1)
      yield* end(Exit.succeed(2))
      yield* landed
      for (const { cache } of [a, b]) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), 2)
    }))

  test("what may be revalidated is served at once everywhere, and one process loads (C26)", (world) =>
    Effect.gen(function* () {
      const [a, b, c] = yield* trio(world)
      const ns = world.namespace({
        value: Schema.Int,
        ...patient,
        timeToLive: "1 hour",
        memoryTimeToLive: "1 day",
        staleWhileRevalidate: "1 day"
      })
      yield* a.cache.set(ns, "a", 1)
      yield* b.cache.getOrSet(ns, "a", notToBeRun)
      yield* world.advance("2 hours")
      const { began, end, loader } = controlled<number>()
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", loader), 1)
      yield* began
      assert.strictEqual(yield* b.cache.getOrSet(ns, "a", notToBeRun), 1)
      assert.strictEqual(yield* atOnce(c.cache.getOrSet(ns, "a", notToBeRun)), 1)
      for (const node of [b, c]) yield* waitsFor(node, ns, 1)
      yield* end(Exit.succeed(2))
      yield* landed
      for (const { cache } of [a, b, c]) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), 2)
    }))

  test("an early refresh is one load among all processes, and takes nothing from anybody (C26, C30)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({
        value: Schema.Int,
        ...patient,
        timeToLive: "1 hour",
        memoryTimeToLive: "1 day",
        earlyRefresh: 0.5
      })
      yield* a.cache.set(ns, "a", 1)
      yield* b.cache.getOrSet(ns, "a", notToBeRun)
      yield* world.advance("40 minutes")
      const { began, end, loader } = controlled<number>()
      assert.strictEqual(yield* atOnce(a.cache.getOrSet(ns, "a", loader)), 1)
      yield* began
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "a", notToBeRun)), 1)
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(2))
      yield* landed
      for (const { cache } of [a, b]) assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), 2)
    }))

  test("waiting for another process counts for the hard timeout", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const options = { value: Schema.Int, ...patient } as const
      const ns = world.namespace({ ...options, name: `hard-${world.topology.name}` })
      const timed = world.namespace({ ...options, name: ns.name, loaderHardTimeout: "2 seconds" })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(Effect.flip(b.cache.getOrSet(timed, "a", notToBeRun)))
      yield* waitsFor(b, timed, 1)
      yield* TestClock.adjust("1999 millis")
      assert.isFalse(isDone(second))
      yield* TestClock.adjust("1 millis")
      const error = yield* atOnce(Fiber.join(second))
      assert.isTrue(error instanceof CacheError && error.reason._tag === "LoaderTimeout")
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
      yield* landed
      assert.strictEqual(yield* b.cache.getOrSet(timed, "a", notToBeRun), 1)
    }))

  test("who is interrupted while it waits is gone, and says nothing in the log (C31)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const lines: Array<string> = []
      const capture = Logger.make(({ message }) => void lines.push(String(message)))
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* Effect.gen(function* () {
        const waiting = [
          yield* start(b.cache.getOrSet(ns, "a", notToBeRun)),
          yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
        ]
        yield* waitsFor(b, ns, 1)
        yield* atOnce(Fiber.interruptAll(waiting))
      }).pipe(Effect.provide(Logger.layer([capture])))
      const asked = b.calls.length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(b.calls.length, asked, "it asks for nothing any more")
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      assert.deepStrictEqual(lines, [])
    }))

  test("a load that is interrupted gives back its lease at once, although its loader is still cleaning up (C29)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const cleaned = Deferred.makeUnsafe<void>()
      yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
      const { began, loader } = controlled<number>()
      const slow = Effect.onInterrupt(loader, () => Deferred.await(cleaned))
      const first = yield* start(a.cache.getOrSet(ns, "a", slow))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* waitsFor(b, ns, 1)
      const interruption = yield* start(Fiber.interrupt(first))
      assert.strictEqual(yield* atOnce(Fiber.join(second)), 2)
      assert.isFalse(isDone(interruption))
      yield* Deferred.succeed(cleaned, undefined)
      yield* Fiber.join(interruption)
    }))

  test("a load that is interrupted while the store is asked for the lease gives back what it may have got", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const held = a.hold("acquire", "after")
      const first = yield* start(a.cache.getOrSet(ns, "a", notToBeRun))
      yield* held.reached
      yield* atOnce(Fiber.interrupt(first))
      assert.notInclude(operations(a), "release", "which could come first")
      yield* held.release
      yield* until(() => operations(a).includes("release"))
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* passing(() => isDone(second))
      assert.strictEqual(yield* Fiber.join(second), 2)
      assert.strictEqual((yield* leasesOf(b, ns)).leaseTimeouts, 0)
    }))

  test("what a process is giving back it does not take for another's", (world) =>
    Effect.gen(function* () {
      const [a] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const held = a.hold("release", "before")
      assert.strictEqual(yield* a.cache.getOrSet(ns, "a", Effect.succeed(1), { timeToLive: 0 }), 1)
      yield* held.reached
      const second = yield* start(a.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* until(() => operations(a).filter((operation) => operation === "read").length === 2)
      yield* held.release
      assert.strictEqual(yield* atOnce(Fiber.join(second)), 2)
      assert.strictEqual((yield* leasesOf(a, ns)).leaseWaits, 0)
    }))

  test("a cache that closes gives back its leases before it has closed", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      yield* atOnce(a.close)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "a", Effect.succeed(2))), 2)
      assert.deepStrictEqual(yield* leasesOf(b, ns), { leaseWaits: 0, leaseTimeouts: 0, loads: 1 })
    }))

  test("of many keys, those that nobody loads are loaded at once, and the others are found when they are there", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<ReadonlyArray<number>>()
      const first = yield* start(a.cache.getOrSetMany(ns, ["a", "b", "c"], () => loader))
      yield* began
      const asked: Array<ReadonlyArray<string>> = []
      const second = yield* start(
        b.cache.getOrSetMany(ns, ["c", "x", "b", "y"], (keys) =>
          Effect.sync(() => {
            asked.push(keys)
            return keys.map(() => 9)
          })
        )
      )
      yield* waitsFor(b, ns, 2)
      assert.deepStrictEqual(asked, [["x", "y"]])
      assert.strictEqual(yield* atOnce(a.cache.getOrSet(ns, "x", notToBeRun)), 9, "and are everybody's")
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "y", notToBeRun)), 9)
      yield* end(Exit.succeed([1, 2, 3]))
      assert.deepStrictEqual(yield* atOnce(Fiber.join(second)), [3, 9, 2, 9])
      assert.deepStrictEqual(yield* Fiber.join(first), [1, 2, 3])
      assert.deepStrictEqual(asked, [["x", "y"]])
    }))

  test("two processes that each have what the other wants do not wait for each other (C28)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const singles = [controlled<number>(), controlled<number>()] as const
      const held = [
        yield* start(a.cache.getOrSet(ns, "a", singles[0].loader)),
        yield* start(b.cache.getOrSet(ns, "b", singles[1].loader))
      ]
      yield* singles[0].began
      yield* singles[1].began
      const asked: Array<string> = []
      const load = (keys: ReadonlyArray<string>) =>
        Effect.sync(() => {
          asked.push(...keys)
          return keys.map(() => 9)
        })
      const bulks = [
        yield* start(a.cache.getOrSetMany(ns, ["c", "b", "d"], load)),
        yield* start(b.cache.getOrSetMany(ns, ["d", "a", "c"], load))
      ]
      for (const node of [a, b]) yield* waitsFor(node, ns, 1)
      yield* until(() => asked.length === 2)
      yield* singles[1].end(Exit.succeed(2))
      yield* singles[0].end(Exit.succeed(1))
      const values = yield* atOnce(Effect.forEach(bulks, (bulk) => Fiber.join(bulk)))
      assert.deepStrictEqual(values, [
        [9, 2, 9],
        [9, 1, 9]
      ])
      assert.deepStrictEqual(asked.toSorted(), ["c", "d"])
      yield* Effect.forEach(held, (fiber) => Fiber.join(fiber))
    }))

  test("a call for many keys that fails for its own takes nothing from those who wait for the others", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const asked: Array<ReadonlyArray<string>> = []
      const failing = (keys: ReadonlyArray<string>) =>
        Effect.suspend(() => {
          asked.push(keys)
          return Effect.fail("no")
        })
      const bulk = yield* start(Effect.flip(b.cache.getOrSetMany(ns, ["a", "b"], failing)))
      const single = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual(yield* atOnce(Effect.all([Fiber.join(bulk), Fiber.join(single)])), ["no", 1])
      assert.deepStrictEqual(asked, [["b"]])
      assert.strictEqual(yield* Fiber.join(first), 1)
    }))

  test("nobody joins the part of a call for many keys that has ended, while the rest is looked up again", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const reached = Deferred.makeUnsafe<Effect.Effect<void>>()
      const failing = Effect.suspend(() => {
        const held = b.hold("read", "before")
        Deferred.doneUnsafe(reached, Effect.as(held.reached, held.release))
        return Effect.fail("no")
      })
      const bulk = yield* start(Effect.flip(b.cache.getOrSetMany(ns, ["a", "b"], () => failing)))
      const release = yield* Deferred.await(reached)
      assert.strictEqual(yield* b.cache.getOrSet(ns, "b", Effect.succeed(2)), 2)
      yield* release
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual([yield* Fiber.join(bulk), yield* Fiber.join(first)], ["no", 1])
    }))

  for (const [patience, timeouts] of [
    ["without a timeout", {}],
    ["with a hard timeout", { loaderHardTimeout: "1 hour" }]
  ] as const) {
    test(`who came for one key of a call for many has it when it is there, and waits for no other: ${patience}`, (world) =>
      Effect.gen(function* () {
        const [a, b] = yield* pair(world)
        const ns = world.namespace({ value: Schema.Int, ...patient, ...timeouts })
        const [others, own] = [controlled<number>(), controlled<ReadonlyArray<number>>()]
        const first = yield* start(a.cache.getOrSet(ns, "a", others.loader))
        yield* others.began
        const bulk = yield* start(b.cache.getOrSetMany(ns, ["a", "b", "c"], () => own.loader))
        yield* own.began
        const [one, both] = [
          yield* start(b.cache.getOrSet(ns, "b", notToBeRun)),
          yield* start(b.cache.getOrSetMany(ns, ["c", "b"], () => notToBeRun))
        ]
        yield* until(() => Effect.map(b.cache.statsOf(ns), ({ coalesced }) => coalesced === 3))
        assert.isFalse(isDone(one))
        yield* own.end(Exit.succeed([2, 3]))
        assert.strictEqual(yield* atOnce(Fiber.join(one)), 2)
        assert.deepStrictEqual(yield* atOnce(Fiber.join(both)), [3, 2])
        yield* waitsFor(b, ns, 1)
        assert.isFalse(isDone(bulk))
        yield* others.end(Exit.succeed(1))
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(bulk)], [1, [1, 2, 3]])
      }))
  }

  test("who is told that its key is there keeps it, though the rest of the load dies in the next step", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, leaseDuration: 0 })
      yield* a.cache.set(ns, "a", 1)
      const read = b.hold("read", "after")
      const bulk = yield* start(b.cache.getOrSetMany(ns, ["a", "b"], () => Effect.die("a bug")))
      yield* read.reached
      const one = yield* start(b.cache.getOrSetEntry(ns, "a", notToBeRun))
      yield* until(() => Effect.map(b.cache.statsOf(ns), ({ coalesced }) => coalesced === 1))
      yield* read.release
      const { freshness, value } = yield* Fiber.join(one)
      assert.deepStrictEqual([value, freshness], [1, "fresh"])
      assert.deepStrictEqual(yield* Fiber.await(bulk), Exit.die("a bug"))
    }))

  test("with the store failing, hanging or dying on leases, loads go on without them", (world) =>
    Effect.gen(function* () {
      for (const fault of ["fails", "dies", "hangs"] as const) {
        const broken = breakable(yield* CacheStore)
        broken.break(fault, "acquire", "renew", "release")
        const { cache, calls } = yield* world.node({ store: broken.store })
        for (const onStoreFailure of ["recover", "fail"] as const) {
          const ns = world.namespace({ value: Schema.Int, onStoreFailure })
          calls.length = 0
          const load = yield* start(cache.getOrSet(ns, "a", Effect.succeed(1)))
          yield* until(() => calls.some(({ operation }) => operation === "acquire"))
          if (fault === "hangs") yield* TestClock.adjust("2 seconds")
          assert.strictEqual(yield* Fiber.join(load), 1)
          assert.strictEqual((yield* cache.statsOf(ns)).store.errors, 1)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
        }
      }
    }))

  test("where nobody could share what is loaded, no lease is asked for", (world) =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const a = yield* world.node()
      const ns = world.namespace({ value: Schema.Int })
      const one = Effect.succeed(1)
      yield* a.cache.get(ns, "a")
      yield* a.cache.getOrSet(ns, "a", one, { force: true })
      yield* a.cache.getOrSet(ns, "b", one, { store: false })
      for (const skip of ["store", "storeRead", "storeWrite", "memory"] as const) {
        yield* a.cache.getOrSet(ns, skip, one, { skip })
      }
      yield* a.cache.getOrSet(world.namespace({ value: Schema.Int, leaseDuration: 0 }), "a", one)
      const inside = yield* world.node({ store: { ...store, inTransaction: () => true } })
      yield* inside.cache.getOrSet(ns, "inside", one)
      for (const node of [a, inside]) assert.notInclude(operations(node), "acquire")
      assert.include(operations(a), "fill")
    }))

  test("with writes in the background, who waits finds the value once it is stored", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient, storeWrites: "background" })
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", notToBeRun))
      yield* waitsFor(b, ns, 1)
      const held = a.hold("fill", "before")
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      yield* held.reached
      yield* polls(b, 2)
      assert.isFalse(isDone(second))
      yield* held.release
      assert.strictEqual(yield* atOnce(Fiber.join(second)), 1)
      assert.notInclude(operations(a), "release")
    }))

  test("a write in the background that fails, or that was not kept, ends its lease all the same", (world) =>
    Effect.gen(function* () {
      const broken = breakable(yield* CacheStore)
      const a = yield* world.node({ ...unhurried, store: broken.store })
      const [b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient, storeWrites: "background" })
      broken.break("fails", "fill")
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      const second = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(2)))
      yield* waitsFor(b, ns, 1)
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual(yield* atOnce(Effect.all([Fiber.join(first), Fiber.join(second)])), [1, 2])
      yield* a.cache.getOrSet(ns, "b", Effect.succeed(1), { timeToLive: 0 })
      yield* until(() => operations(a).includes("release"))
      assert.strictEqual(yield* b.cache.getOrSet(ns, "b", Effect.succeed(2)), 2)
      assert.strictEqual((yield* leasesOf(b, ns)).leaseTimeouts, 0)
    }))

  test("a loader may read other keys, of which it has none while it waits", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, ...patient })
      const { began, end, loader } = controlled<number>()
      const inner = yield* start(b.cache.getOrSet(ns, "b", loader))
      yield* began
      const outer = yield* start(
        a.cache.getOrSet(
          ns,
          "a",
          Effect.map(a.cache.getOrSet(ns, "b", notToBeRun), (n) => n + 1)
        )
      )
      yield* waitsFor(a, ns, 1)
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual(yield* atOnce(Effect.all([Fiber.join(inner), Fiber.join(outer)])), [1, 2])
    }))

  test("loaders in two processes that read each other's key get on after leaseWait", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const ns = world.namespace({ value: Schema.Int, leaseDuration: "1 hour", leaseWait: "5 seconds" })
      const begun = new Set<string>()
      const crosswise = ({ cache }: CacheNode, mine: string, other: string) =>
        cache.getOrSet(
          ns,
          mine,
          Effect.gen(function* () {
            begun.add(mine)
            yield* until(() => begun.size === 2)
            return 1 + (yield* cache.getOrSet(ns, other, Effect.succeed(1)))
          })
        )
      const [one, two] = [yield* start(crosswise(a, "a", "b")), yield* start(crosswise(b, "b", "a"))]
      yield* waitsFor(a, ns, 1)
      yield* waitsFor(b, ns, 1)
      const waited = yield* passing(() => isDone(one) && isDone(two))
      assert.includeMembers([2, 3], [yield* Fiber.join(one), yield* Fiber.join(two)])
      if (world.drift === 0) assert.isAtMost(waited, 5250)
    }))

  test("leases of other keys and namespaces are nobody's business (C28)", (world) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair(world)
      const options = { value: Schema.Int, ...patient }
      const [ns, other] = [world.namespace(options), world.namespace(options)]
      const { began, end, loader } = controlled<number>()
      const first = yield* start(a.cache.getOrSet(ns, "a", loader))
      yield* began
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(ns, "b", Effect.succeed(2))), 2)
      assert.strictEqual(yield* atOnce(b.cache.getOrSet(other, "a", Effect.succeed(3))), 3)
      yield* end(Exit.succeed(1))
      yield* Fiber.join(first)
    }))
}
