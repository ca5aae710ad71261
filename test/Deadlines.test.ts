import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { Deadlines } from "../src/Deadlines.ts"

const late = "late"

const within = <A>(deadlines: Deadlines, call: Effect.Effect<A>) =>
  deadlines.within<A | typeof late, never, never>(call, (exit) => exit ?? Effect.succeed(late))

const start = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkChild(effect, { startImmediately: true })

describe("Deadlines", () => {
  it.effect("each call is answered by how it ended, or as late to the millisecond", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ after: fc.integer({ min: 0, max: 30 }), takes: fc.integer({ min: 0, max: 30 }) }), {
            maxLength: 12
          }),
          (calls) =>
            Effect.gen(function* () {
              const deadlines = new Deadlines(10)
              const fibers = []
              for (const { after, takes } of calls) {
                const call = within(deadlines, Effect.sleep(takes))
                fibers.push(yield* start(Effect.delay(Effect.zip(call, Clock.currentTimeMillis), after)))
              }
              yield* TestClock.adjust(100)
              for (const [index, { after, takes }] of calls.entries()) {
                const [answer, at] = yield* Fiber.join(fibers[index]!)
                assert.strictEqual(at, after + Math.min(takes, 10))
                // At the same millisecond either may be first.
                if (takes !== 10) assert.strictEqual(answer, takes < 10 ? undefined : late)
              }
              assert.strictEqual(deadlines.size, 0)
            }).pipe(Effect.provide(TestClock.layer()), Effect.runPromise)
        )
      )
    )
  )

  it.effect("a call that ends at once leaves nothing to watch", () =>
    Effect.gen(function* () {
      const deadlines = new Deadlines(10)
      assert.strictEqual(yield* within(deadlines, Effect.succeed(1)), 1)
      assert.strictEqual(deadlines.size, 0)
      yield* TestClock.adjust(20)
    })
  )

  it.effect("a late call is interrupted, and nobody waits for that", () =>
    Effect.gen(function* () {
      const deadlines = new Deadlines(10)
      const thawed = yield* Deferred.make<void>()
      const cleared = yield* Deferred.make<void>()
      const frozen = Effect.never.pipe(
        Effect.onInterrupt(() => Effect.andThen(Deferred.await(thawed), Deferred.succeed(cleared, undefined)))
      )
      const caller = yield* start(Effect.uninterruptible(within(deadlines, frozen)))
      yield* TestClock.adjust(9)
      assert.isUndefined(caller.pollUnsafe())
      assert.strictEqual(deadlines.size, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(caller), late)
      assert.strictEqual(deadlines.size, 0)
      assert.isFalse(yield* Deferred.isDone(cleared))
      yield* Deferred.succeed(thawed, undefined)
      yield* Deferred.await(cleared)
    })
  )

  it.effect("whoever is interrupted interrupts the call, and is watched no more", () =>
    Effect.gen(function* () {
      const deadlines = new Deadlines(10)
      const interrupted = yield* Deferred.make<void>()
      const caller = yield* start(
        within(
          deadlines,
          Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
        )
      )
      const other = yield* start(Effect.delay(within(deadlines, Effect.never), 5))
      yield* TestClock.adjust(5)
      yield* Fiber.interrupt(caller)
      yield* Deferred.await(interrupted)
      assert.strictEqual(deadlines.size, 1)
      yield* TestClock.adjust(9)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(other), late)
    })
  )

  it.effect("the time of a call passes on the clock of its caller", () =>
    Effect.gen(function* () {
      const deadlines = new Deadlines(10)
      const here = yield* start(within(deadlines, Effect.never))
      const there = yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkDetach(within(deadlines, Effect.never), { startImmediately: true })
        yield* TestClock.adjust(10)
        return yield* Fiber.join(fiber)
      }).pipe(Effect.provide(TestClock.layer(), { local: true }))
      assert.strictEqual(there, late)
      assert.isUndefined(here.pollUnsafe())
      assert.strictEqual(deadlines.size, 1)
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* Fiber.join(here), late)
    })
  )

  it.live("a call ends in time although the clock is set back meanwhile", () =>
    Effect.gen(function* () {
      const real = Clock.Clock.defaultValue()
      let millis = real.currentTimeMillisUnsafe()
      const setBack: Clock.Clock = {
        currentTimeMillisUnsafe: () => (millis -= 3_600_000),
        currentTimeMillis: Effect.sync(() => setBack.currentTimeMillisUnsafe()),
        currentTimeNanosUnsafe: () => BigInt(setBack.currentTimeMillisUnsafe()) * 1_000_000n,
        currentTimeNanos: Effect.sync(() => setBack.currentTimeNanosUnsafe()),
        monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: real.monotonicTimeNanos,
        sleep: (duration) => real.sleep(duration)
      }
      const call = Effect.provideService(within(new Deadlines(20), Effect.never), Clock.Clock, setBack)
      assert.strictEqual(yield* call, late)
    })
  )

  it.effect("without a limit a call takes as long as it likes", () =>
    Effect.gen(function* () {
      const caller = yield* start(within(new Deadlines(Infinity), Effect.as(Effect.sleep("10 days"), 1)))
      yield* TestClock.adjust("10 days")
      assert.deepStrictEqual(caller.pollUnsafe(), Exit.succeed(1))
    })
  )
})
