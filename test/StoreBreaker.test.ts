/** On doubles throughout: the breaker is about what a store does to it. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Namespace from "../src/Namespace.ts"
import { CacheConfig } from "../src/CacheConfig.ts"
import { CacheError, StoreTimeout, StoreUnavailable } from "../src/CacheError.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { InvalidationBus } from "../src/InvalidationBus.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as StoreBreaker from "../src/StoreBreaker.ts"
import { TieredCache } from "../src/TieredCache.ts"
import { breakable } from "./suites/brokenStore.ts"

const settings = { breakerFailures: 3, breakerProbeInterval: Duration.seconds(1) }

/** A breaker, and a store behind it that counts how often it is asked. */
const watched = Effect.map(StoreBreaker.make(settings), (breaker) => {
  let asked = 0
  const ask = (answer: Effect.Effect<string, CacheError>) =>
    Effect.exit(
      breaker.through(
        "read",
        Effect.suspend(() => {
          asked++
          return answer
        })
      )
    )
  return { ask, asked: () => asked }
})

const away = Effect.fail(
  new CacheError({ reason: new StoreUnavailable({ operation: "read", cause: new Error("pulled the plug") }) })
)
const well = Effect.succeed("well")

const reasonOf = (exit: Exit.Exit<unknown, unknown>) => {
  if (Exit.isSuccess(exit)) return "none"
  const error = Cause.squash(exit.cause)
  return error instanceof CacheError ? error.reason._tag : "none of ours"
}

describe("StoreBreaker", () => {
  it.effect("C40 opens after so many failures in a row, and then asks nobody", () =>
    Effect.gen(function* () {
      const { ask, asked } = yield* watched
      for (let i = 0; i < 3; i++) assert.strictEqual(reasonOf(yield* ask(away)), "StoreUnavailable")
      for (let i = 0; i < 50; i++) assert.strictEqual(reasonOf(yield* ask(well)), "CircuitOpen")
      assert.strictEqual(asked(), 3)
    })
  )

  it.effect("stays closed where a success comes between the failures", () =>
    Effect.gen(function* () {
      const { ask, asked } = yield* watched
      for (const answer of [away, away, well, away, away, well]) yield* ask(answer)
      assert.strictEqual(asked(), 6)
    })
  )

  it.effect("says when the store is tried again", () =>
    Effect.gen(function* () {
      const { ask } = yield* watched
      for (let i = 0; i < 3; i++) yield* ask(away)
      yield* TestClock.adjust("300 millis")
      const exit = yield* ask(well)
      const error = Option.getOrThrow(Exit.findErrorOption(exit))
      assert.deepInclude(error.reason, { _tag: "CircuitOpen", operation: "read", retryAfter: 700 })
    })
  )

  it.effect("C40 lets one probe through after the interval, and all again once it succeeds", () =>
    Effect.gen(function* () {
      const { ask, asked } = yield* watched
      for (let i = 0; i < 3; i++) yield* ask(away)
      yield* TestClock.adjust("1 second")
      const answer = yield* Deferred.make<string>()
      const probe = yield* Effect.forkChild(ask(Deferred.await(answer)), { startImmediately: true })
      for (let i = 0; i < 50; i++) assert.strictEqual(reasonOf(yield* ask(well)), "CircuitOpen")
      assert.strictEqual(asked(), 4)
      yield* Deferred.succeed(answer, "well")
      assert.deepStrictEqual(yield* Fiber.join(probe), Exit.succeed("well"))
      for (let i = 0; i < 5; i++) assert.deepStrictEqual(yield* ask(well), Exit.succeed("well"))
      assert.strictEqual(asked(), 9)
    })
  )

  it.effect("C40 a success that comes late, after others have opened it, does not let the next ones past it", () =>
    Effect.gen(function* () {
      const { ask, asked } = yield* watched
      const late = yield* Deferred.make<string>()
      const first = yield* Effect.forkChild(ask(Deferred.await(late)), { startImmediately: true })
      yield* ask(away)
      const second = yield* Effect.forkChild(ask(Deferred.await(late)), { startImmediately: true })
      for (let i = 0; i < 2; i++) yield* ask(away)
      assert.strictEqual(reasonOf(yield* ask(well)), "CircuitOpen")
      yield* Deferred.succeed(late, "well")
      for (const slow of [first, second]) assert.deepStrictEqual(yield* Fiber.join(slow), Exit.succeed("well"))
      for (let i = 0; i < 5; i++) assert.strictEqual(reasonOf(yield* ask(well)), "CircuitOpen")
      assert.strictEqual(asked(), 5)
    })
  )

  it.effect(
    "a crowd that meets the store as it returns sends one call ahead, and none of it that failed before counts",
    () =>
      Effect.gen(function* () {
        const { ask, asked } = yield* watched
        const late = yield* Deferred.make<never, CacheError>()
        const slow = yield* Effect.forkChild(
          Effect.forEach([1, 2, 3], () => ask(Deferred.await(late)), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        for (let i = 0; i < 3; i++) yield* ask(away)
        yield* TestClock.adjust("1 second")
        const probe = yield* Deferred.make<string>()
        const crowd = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 100 }), () => ask(Deferred.await(probe)), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        assert.strictEqual(asked(), 7)
        yield* Deferred.succeed(probe, "well")
        yield* Fiber.join(crowd)
        yield* Deferred.fail(late, new CacheError({ reason: new StoreTimeout({ operation: "read", timeout: 500 }) }))
        yield* Fiber.join(slow)
        for (let i = 0; i < 5; i++) assert.deepStrictEqual(yield* ask(well), Exit.succeed("well"))
      })
  )

  it.effect("rests for another interval when the probe fails", () =>
    Effect.gen(function* () {
      const { ask, asked } = yield* watched
      for (let i = 0; i < 3; i++) yield* ask(away)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(reasonOf(yield* ask(away)), "StoreUnavailable")
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(reasonOf(yield* ask(well)), "CircuitOpen")
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* ask(well), Exit.succeed("well"))
      assert.strictEqual(asked(), 5)
    })
  )

  it.effect("lets another probe through when the one under way is interrupted", () =>
    Effect.gen(function* () {
      const { ask } = yield* watched
      for (let i = 0; i < 3; i++) yield* ask(away)
      yield* TestClock.adjust("1 second")
      const probe = yield* Effect.forkChild(ask(Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(probe)
      assert.deepStrictEqual(yield* ask(well), Exit.succeed("well"))
    })
  )
})

describe("A cache behind an open breaker", () => {
  const Numbers = Namespace.make("numbers", { value: Schema.Int })
  const Strict = Namespace.make("strict", { value: Schema.Int, onStoreFailure: "fail" })

  /** The cache, its store, and how often a loader ran. */
  const cut = Effect.gen(function* () {
    const broken = breakable(yield* MemoryStore.make)
    const cache = yield* TieredCache.pipe(
      Effect.provide(TieredCache.layerWith(CacheConfig.layerOf({ store: { breakerFailures: 3 } })), { local: true }),
      Effect.provideService(CacheStore, broken.store),
      Effect.provide(InvalidationBus.layerMemory)
    )
    let loads = 0
    const loader = Effect.sync(() => ++loads)
    return { ...broken, cache, loader }
  })

  it.effect("C38 C40 waits for the store's timeout while it closes, and for nothing once it is open", () =>
    Effect.gen(function* () {
      const { break: breakStore, cache, loader } = yield* cut
      breakStore("hangs")
      const first = yield* Effect.forkChild(
        Effect.forEach(["a", "b", "c"], (key) => cache.getOrSet(Numbers, key, loader), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(yield* Fiber.join(first), [1, 2, 3])
      // No time passes from here on.
      const keys = Array.from({ length: 1000 }, (_, index) => `key ${index}`)
      const values = yield* Effect.forEach(keys, (key) => cache.getOrSet(Numbers, key, loader), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(values).size, 1000)
      const { store } = yield* cache.stats
      assert.deepInclude(store, { requests: 1003, misses: 1003, errors: 3, skipped: 1000 })
      assert.strictEqual((yield* cache.health).status, "Degraded")
    })
  )

  it.effect("a namespace that fails is told that the store was not asked", () =>
    Effect.gen(function* () {
      const { break: breakStore, cache, loader } = yield* cut
      breakStore("fails")
      for (let i = 0; i < 3; i++) yield* cache.getOrSet(Numbers, `${i}`, loader)
      assert.strictEqual(reasonOf(yield* Effect.exit(cache.getOrSet(Strict, "a", loader))), "CircuitOpen")
    })
  )

  it.effect("still tries what is written and invalidated on purpose", () =>
    Effect.gen(function* () {
      const { break: breakStore, cache, loader, mend } = yield* cut
      yield* cache.set(Numbers, "old", 0)
      breakStore("fails")
      for (let i = 0; i < 3; i++) yield* cache.getOrSet(Numbers, `${i}`, loader)
      mend()
      assert.isTrue(yield* cache.invalidate(Numbers, "old"))
      yield* cache.set(Numbers, "new", 7)
      assert.strictEqual(yield* cache.clear(Numbers), 1)
    })
  )

  it.effect("uses the store again within the probe interval, without a restart", () =>
    Effect.gen(function* () {
      const { break: breakStore, cache, loader, mend } = yield* cut
      yield* cache.set(Numbers, "kept", 42)
      breakStore("fails")
      for (let i = 0; i < 3; i++) yield* cache.getOrSet(Numbers, `${i}`, loader)
      mend()
      const look = cache.get(Numbers, "kept", { skip: "memory" })
      assert.deepStrictEqual(yield* look, Option.none())
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* look, Option.some(42))
      assert.strictEqual((yield* cache.health).status, "Up")
    })
  )
})
