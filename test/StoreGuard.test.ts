/** On doubles throughout: the guard is about what a store does to it. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Logger, References, Result, Stream } from "effect"
import { TestClock } from "effect/testing"
import { CacheError, StoreUnavailable, ValueTooLarge } from "../src/CacheError.ts"
import { makeCounters } from "../src/CacheStats.ts"
import type { NewRow } from "../src/CacheStore.ts"
import * as Glob from "../src/Glob.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as StoreGuard from "../src/StoreGuard.ts"
import { breakable } from "./suites/brokenStore.ts"
import { start } from "./suites/cacheNode.ts"

/** The breaker has tests of its own. */
const timeouts = {
  readTimeout: Duration.millis(500),
  writeTimeout: Duration.seconds(2),
  breakerFailures: Number.MAX_SAFE_INTEGER,
  breakerProbeInterval: Duration.seconds(1)
}

const guarded = Effect.gen(function* () {
  const broken = breakable(yield* MemoryStore.make)
  return { ...broken, guard: yield* StoreGuard.make(broken.store, timeouts) }
})

const row: NewRow = {
  key: "a",
  data: "1",
  size: 1,
  schemaVersion: 1,
  timeToLive: 60_000,
  staleFor: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: []
}
const fence = { version: 0, snapshot: "", takenAt: 0 }

/** The log lines of an effect. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const lines: Array<string> = []
  const capture = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel} ${String(message)}`)
  })
  return Effect.as(Effect.provide(effect, Logger.layer([capture])), lines)
}

const calls = (guard: StoreGuard.StoreGuard) => ({
  read: { call: guard.read("ns", ["a"]), timeout: 500, operation: "read" },
  ping: { call: guard.ping, timeout: 500, operation: "answer" },
  fill: {
    call: guard.fill("ns", [{ ...row, fence }]),
    timeout: 2000,
    operation: "write"
  },
  rearm: { call: guard.rearm("ns", [{ key: "a", fence, retryAfter: 1000 }]), timeout: 2000, operation: "re-arm" },
  write: { call: guard.write("ns", [row]), timeout: 2000, operation: "write" },
  remove: { call: guard.remove("ns", ["a"]), timeout: 2000, operation: "invalidate" },
  expire: { call: guard.remove("ns", ["a"], true), timeout: 2000, operation: "expire" },
  removeTagged: { call: guard.removeTagged("ns", ["t"]), timeout: 2000, operation: "invalidate" },
  removeMatching: { call: guard.removeMatching("ns", glob, true), timeout: 2000, operation: "expire" },
  clear: { call: guard.clear("ns"), timeout: 2000, operation: "clear" },
  clearAll: { call: guard.clearAll, timeout: 2000, operation: "clear" },
  acquire: { call: guard.acquire("ns", [{ key: "a", fence }], lease), timeout: 500, operation: "lease" },
  renew: { call: guard.renew("ns", ["a"], lease), timeout: 500, operation: "renew a lease" },
  release: { call: guard.release("ns", ["a"], lease.owner), timeout: 2000, operation: "release a lease" },
  touch: { call: guard.touch("ns", [{ key: "a", count: 1 }]), timeout: 500, operation: "note uses" }
})

const glob = Result.getOrThrow(Glob.make("ns", "a*"))
const lease = { owner: "me", duration: 1000 }

describe("StoreGuard", () => {
  it.effect("a store that is well answers as if there were no guard", () =>
    Effect.gen(function* () {
      const { guard, store } = yield* guarded
      yield* guard.write("ns", [row])
      const [there] = yield* guard.read("ns", ["a"])
      yield* guard.rearm("ns", [{ key: "a", fence: there!.fence, retryAfter: 1000 }])
      assert.deepInclude((yield* store.read("ns", ["a"]))[0], { retryAfter: 1000 })
      assert.deepStrictEqual(yield* guard.read("ns", ["a", "b"]), yield* store.read("ns", ["a", "b"]))
      assert.deepStrictEqual(yield* Stream.runCollect(guard.scan("ns")), yield* Stream.runCollect(store.scan("ns")))
      const [, absent] = yield* guard.read("ns", ["a", "b"])
      assert.deepStrictEqual(yield* guard.fill("ns", [{ ...row, key: "b", fence: absent!.fence }]), [true])
      assert.deepStrictEqual(yield* guard.remove("ns", ["b", "c"], true), [true, false])
      assert.deepStrictEqual(yield* guard.remove("ns", ["b", "c"]), [true, false])
      yield* guard.write("ns", [
        { ...row, tags: ["t"] },
        { ...row, key: "a1" }
      ])
      const [tagged, untagged] = yield* guard.read("ns", ["a", "a1"])
      assert.isTrue(tagged?._tag === "Row" && untagged?._tag === "Row")
      assert.strictEqual(yield* guard.removeTagged("ns", ["t"], true), 1)
      assert.isTrue((yield* guard.read("ns", ["a"])).every((found) => found._tag === "Row" && found.timeToLive <= 0))
      assert.strictEqual(yield* guard.removeTagged("ns", ["t"]), 1)
      assert.strictEqual(yield* guard.removeMatching("ns", glob, true), 1)
      assert.strictEqual(yield* guard.removeMatching("ns", glob), 1)
      assert.deepStrictEqual(yield* guard.acquire("ns", [{ key: "c", fence: absent!.fence }], lease), [
        { _tag: "Changed" }
      ])
      const [gone] = yield* guard.read("ns", ["c"])
      const asked = [{ key: "c", fence: gone!.fence }]
      assert.deepStrictEqual(yield* guard.acquire("ns", asked, lease), [{ _tag: "Granted" }])
      yield* TestClock.adjust("600 millis")
      yield* guard.renew("ns", ["c"], lease)
      yield* TestClock.adjust("600 millis")
      const other = { ...lease, owner: "other" }
      assert.deepStrictEqual(yield* guard.acquire("ns", asked, other), [{ _tag: "Held", remaining: 400 }])
      yield* guard.release("ns", ["c"], lease.owner)
      assert.deepStrictEqual(yield* guard.acquire("ns", asked, other), [{ _tag: "Granted" }])
      yield* guard.write("ns", [row])
      yield* guard.touch("ns", [{ key: "a", count: 3 }])
      assert.strictEqual((yield* Stream.runCollect(store.scan("ns")))[0]?.accessCount, 3)
      assert.strictEqual(yield* guard.clear("ns"), 1)
      assert.strictEqual(yield* guard.clearAll, 0)
      assert.strictEqual(guard.fenceLifetime, store.fenceLifetime)
      assert.strictEqual(guard.health().status, "Up")
    })
  )

  const names = [
    ...(["read", "ping", "fill", "rearm", "write", "remove", "expire", "removeTagged", "removeMatching"] as const),
    ...(["clear", "clearAll", "acquire", "renew", "release", "touch"] as const)
  ]

  for (const name of names) {
    it.effect(`C39 ${name} fails with StoreTimeout when its time is up, and what it was doing is cancelled`, () =>
      Effect.gen(function* () {
        const cancelled = Deferred.makeUnsafe<void>()
        const hangs = Effect.onInterrupt(Effect.never, () => Deferred.succeed(cancelled, undefined))
        const store = yield* MemoryStore.make
        const guard = yield* StoreGuard.make(
          {
            ...store,
            read: () => hangs,
            ping: hangs,
            fill: () => hangs,
            rearm: () => hangs,
            write: () => hangs,
            remove: () => hangs,
            removeTagged: () => hangs,
            removeMatching: () => hangs,
            clear: () => hangs,
            clearAll: hangs,
            acquire: () => hangs,
            renew: () => hangs,
            release: () => hangs,
            touch: () => hangs
          },
          timeouts
        )
        assert.sameMembers(Object.keys(calls(guard)), names)
        const { call, operation, timeout } = calls(guard)[name]
        const fiber = yield* start(call as Effect.Effect<unknown, CacheError>)
        yield* TestClock.adjust(timeout - 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert(error.reason._tag === "StoreTimeout")
        assert.deepStrictEqual([error.reason.operation, error.reason.timeout], [operation, timeout])
        assert.isTrue(error.isRetryable)
        yield* Deferred.await(cancelled)
        assert.strictEqual(guard.health().status, "Down")
      })
    )
  }

  it.effect(
    "a caller that is interrupted cancels its call, waits for no acknowledgement, and says nothing of health",
    () =>
      Effect.gen(function* () {
        const cancelled = Deferred.makeUnsafe<void>()
        const frozen = Effect.onInterrupt(Effect.never, () =>
          Effect.andThen(Deferred.succeed(cancelled, undefined), Effect.never)
        )
        const store = yield* MemoryStore.make
        const guard = yield* StoreGuard.make({ ...store, read: () => frozen }, timeouts)
        const fiber = yield* start(guard.read("ns", ["a"]))
        yield* Fiber.interrupt(fiber)
        yield* Deferred.await(cancelled)
        assert.strictEqual(guard.health().status, "Up")
      })
  )

  it.effect("an outage begins with the first failure, ends with the first success, and is two lines in the log", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard, mend } = yield* guarded
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(guard.health(), { status: "Up", since: 0 })
      breakStore("fails")
      const beginning = yield* logged(
        Effect.gen(function* () {
          for (const { call } of Object.values(calls(guard))) {
            yield* Effect.exit(call as Effect.Effect<unknown, CacheError>)
            yield* TestClock.adjust("1 second")
          }
        })
      )
      assert.strictEqual(beginning.length, 1)
      assert.match(beginning[0]!, /^Warn .*store is down.*pulled the plug/)
      const { problem, since, status } = guard.health()
      assert.deepStrictEqual([status, since], ["Down", 3_600_000])
      assert.include(problem, "pulled the plug")
      mend()
      const end = yield* logged(
        Effect.gen(function* () {
          for (const { call } of Object.values(calls(guard))) yield* Effect.exit(call as Effect.Effect<unknown>)
        })
      )
      const seconds = Object.keys(calls(guard)).length
      assert.deepStrictEqual(end, [`Info cache: the store is back after ${seconds} s`])
      assert.deepStrictEqual(guard.health(), { status: "Up", since: 3_600_000 + seconds * 1000 })
      breakStore("fails")
      assert.strictEqual((yield* logged(Effect.exit(guard.ping))).length, 1)
    })
  )

  it.effect("a store that comes and goes is one outage, over when none has failed for a while", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard, mend } = yield* guarded
      const comeAndGo = Effect.gen(function* () {
        for (let i = 0; i < 20; i++) {
          breakStore("fails")
          yield* Effect.exit(guard.read("ns", ["a"]))
          mend()
          yield* TestClock.adjust("999 millis")
          yield* guard.read("ns", ["a"])
        }
      })
      assert.lengthOf(yield* logged(comeAndGo), 1)
      assert.strictEqual(guard.health().status, "Down")
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(yield* logged(guard.read("ns", ["a"])), 1)
      assert.strictEqual(guard.health().status, "Up")
    })
  )

  it.effect("a store that can be read but not written is one outage, however rarely it is written", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard, mend } = yield* guarded
      breakStore("fails", "write")
      const lines = yield* logged(
        Effect.gen(function* () {
          for (let i = 0; i < 20; i++) {
            yield* Effect.exit(guard.write("ns", [row]))
            for (let j = 0; j < 9; j++) {
              yield* TestClock.adjust("1 second")
              yield* guard.read("ns", ["a"])
            }
          }
        })
      )
      assert.deepStrictEqual([lines.length, guard.health().status], [1, "Down"])
      mend()
      yield* guard.read("ns", ["a"])
      assert.strictEqual(guard.health().status, "Down")
      yield* guard.write("ns", [row])
      assert.deepStrictEqual(guard.health(), { status: "Up", since: 180_000 })
    })
  )

  it.effect("a failed write that none follows is over when reads have gone well for long enough", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard } = yield* guarded
      breakStore("fails", "write")
      yield* Effect.exit(guard.write("ns", [row]))
      yield* TestClock.adjust("9999 millis")
      yield* guard.ping
      assert.strictEqual(guard.health().status, "Down")
      yield* TestClock.adjust("1 millis")
      yield* guard.ping
      assert.strictEqual(guard.health().status, "Up")
    })
  )

  it.effect("a call that the store breaks off has failed, its caller was not interrupted", () =>
    Effect.gen(function* () {
      const store = yield* MemoryStore.make
      const guard = yield* StoreGuard.make({ ...store, read: () => Effect.interrupt }, timeouts)
      const error = yield* Effect.flip(guard.read("ns", ["a"]))
      assert.deepInclude(error.reason, { _tag: "StoreUnavailable", operation: "read" })
      assert.strictEqual(guard.health().status, "Down")
    })
  )

  it.effect("C39 a caller that cannot be interrupted waits no longer than any other", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard } = yield* guarded
      breakStore("hangs")
      const fiber = yield* start(Effect.uninterruptible(Effect.exit(guard.remove("ns", ["a"]))))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
    })
  )

  it.effect.each([
    { fails: "read", leftAlone: ["read", "ping"] },
    { fails: "fill", leftAlone: ["fill", "rearm"] },
    { fails: "acquire", leftAlone: ["acquire", "renew", "release", "touch"] }
  ] as const)("C40 where $fails fails, $leftAlone are not made for a while, the others are", ({ fails, leftAlone }) =>
    Effect.gen(function* () {
      const broken = breakable(yield* MemoryStore.make)
      const guard = yield* StoreGuard.make(broken.store, { ...timeouts, breakerFailures: 1 })
      broken.break("fails", fails)
      yield* Effect.exit(calls(guard)[fails].call as Effect.Effect<unknown, CacheError>)
      broken.mend()
      const skipped: Array<string> = []
      for (const [name, { call }] of Object.entries(calls(guard))) {
        const exit = yield* Effect.exit(call as Effect.Effect<unknown, CacheError>)
        if (Exit.isFailure(exit)) {
          assert.strictEqual((Cause.squash(exit.cause) as CacheError).reason._tag, "CircuitOpen")
          skipped.push(name)
        }
      }
      assert.deepStrictEqual(skipped, [...leftAlone])
    })
  )

  it.effect("a crowd of calls that fails at the same time is one outage, however their steps fall", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard, mend } = yield* guarded
      const crowd = Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.exit(Effect.andThen(Effect.yieldNow, guard.read("ns", ["a"]))),
        { concurrency: "unbounded", discard: true }
      )
      for (const steps of [2048, 3, 4, 5, 7]) {
        const stepped = Effect.provideService(crowd, References.MaxOpsBeforeYield, steps)
        breakStore("fails")
        assert.strictEqual((yield* logged(stepped)).length, 1, `down, ${steps} steps`)
        mend()
        yield* TestClock.adjust(timeouts.breakerProbeInterval)
        assert.strictEqual((yield* logged(stepped)).length, 1, `up, ${steps} steps`)
      }
    })
  )

  it.effect("a call inside the caller's transaction has no timeout of the guard's and says nothing of health", () =>
    Effect.gen(function* () {
      const { break: breakStore, store } = yield* guarded
      const guard = yield* StoreGuard.make({ ...store, inTransaction: () => true }, timeouts)
      breakStore("fails")
      const lines = yield* logged(Effect.exit(guard.write("ns", [row])))
      assert.deepStrictEqual(lines, [])
      assert.strictEqual(guard.health().status, "Up")
      breakStore("hangs")
      const fiber = yield* start(guard.write("ns", [row]))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("an effect of the guard does its work at each run", () =>
    Effect.gen(function* () {
      const { break: breakStore, guard, mend } = yield* guarded
      const { clearAll, ping } = guard
      const read = guard.read("ns", ["a"])
      yield* ping
      assert.strictEqual((yield* read)[0]?._tag, "NoRow")
      yield* guard.write("ns", [row])
      assert.strictEqual((yield* read)[0]?._tag, "Row")
      breakStore("fails")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(ping)))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(read)))
      mend()
      assert.strictEqual(yield* clearAll, 1)
      assert.strictEqual((yield* read)[0]?._tag, "NoRow")
    })
  )

  it.effect("recover counts a failure, and goes on or fails as the namespace chose", () =>
    Effect.gen(function* () {
      const counters = makeCounters()
      const away = new CacheError({ reason: new StoreUnavailable({ operation: "read", cause: "away" }) })
      assert.strictEqual(yield* StoreGuard.recover(Effect.succeed(1), { onStoreFailure: "recover" }, counters, 0), 1)
      assert.strictEqual(yield* StoreGuard.recover(Effect.succeed(1), { onStoreFailure: "fail" }, counters, 0), 1)
      assert.strictEqual(counters.storeErrors, 0)
      assert.strictEqual(yield* StoreGuard.recover(Effect.fail(away), { onStoreFailure: "recover" }, counters, 0), 0)
      assert.strictEqual(
        yield* Effect.flip(StoreGuard.recover(Effect.fail(away), { onStoreFailure: "fail" }, counters, 0)),
        away
      )
      assert.strictEqual(counters.storeErrors, 2)
      const interrupted = yield* Effect.exit(
        StoreGuard.recover(Effect.interrupt, { onStoreFailure: "recover" }, counters, 0)
      )
      assert.isTrue(Exit.isFailure(interrupted) && Cause.hasInterruptsOnly(interrupted.cause))
      assert.strictEqual(counters.storeErrors, 2)
    })
  )

  it("errors of the store may pass, the others stay", () => {
    const unavailable = new CacheError({ reason: new StoreUnavailable({ operation: "read", cause: "away" }) })
    const large = new CacheError({ reason: new ValueTooLarge({ namespace: "n", key: "k", size: 2, limit: 1 }) })
    assert.deepStrictEqual([unavailable.isRetryable, large.isRetryable], [true, false])
  })
})
