/** On doubles throughout: it is about what is remembered while a store is away. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Logger, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { CacheError, StoreUnavailable } from "../src/CacheError.ts"
import type { Invalidation } from "../src/InvalidationBus.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as PendingInvalidations from "../src/PendingInvalidations.ts"
import * as StoreGuard from "../src/StoreGuard.ts"
import { breakable } from "./suites/brokenStore.ts"
import { start } from "./suites/cacheNode.ts"

const keys = (namespace: string, ...keys: ReadonlyArray<string>): Invalidation => ({ _tag: "Keys", namespace, keys })
const tags = (namespace: string, ...tags: ReadonlyArray<string>): Invalidation => ({ _tag: "Tags", namespace, tags })
const matching = (namespace: string, pattern: string): Invalidation => ({ _tag: "Pattern", namespace, pattern })
const whole = (namespace: string): Invalidation => ({ _tag: "Namespace", namespace })
const expired = (invalidation: Invalidation) => ({ ...invalidation, keepsStale: true }) as Invalidation
const everything: Invalidation = { _tag: "All" }

const shown = (invalidation: Invalidation): string => {
  const end = invalidation._tag in { All: 0, Namespace: 0 } || !isExpiry(invalidation) ? "" : " stale"
  switch (invalidation._tag) {
    case "Keys":
      return `${invalidation.namespace} ${invalidation.keys.join(" ")}${end}`
    case "Tags":
      return `${invalidation.namespace} ${invalidation.tags.map((tag) => `#${tag}`).join(" ")}${end}`
    case "Pattern":
      return `${invalidation.namespace} /${invalidation.pattern}/${end}`
    case "Namespace":
      return `${invalidation.namespace} *`
    case "All":
      return "*"
  }
}

const isExpiry = (invalidation: Invalidation): boolean =>
  "keepsStale" in invalidation && invalidation.keepsStale === true

const away = new CacheError({
  reason: new StoreUnavailable({ operation: "clear", cause: new Error("pulled the plug") })
})

/** What is pending for a store that answers as told, and what it was told. */
const waiting = (maxKeys = 100) =>
  Effect.gen(function* () {
    const told: Array<string> = []
    const done: Array<string> = []
    let underWay = 0
    let mostUnderWay = 0
    const double = {
      answer: (() => Effect.void) as (invalidation: Invalidation) => Effect.Effect<void, CacheError>,
      onDone: (() => Effect.void) as (invalidation: Invalidation) => Effect.Effect<void>,
      mostUnderWay: () => mostUnderWay
    }
    const tell = (invalidation: Invalidation) =>
      Effect.suspend(() => {
        told.push(shown(invalidation))
        mostUnderWay = Math.max(mostUnderWay, ++underWay)
        return Effect.ensuring(
          double.answer(invalidation),
          Effect.sync(() => underWay--)
        )
      })
    const scope = yield* Scope.make()
    const pending = yield* PendingInvalidations.make({
      maxKeys,
      store: {
        remove: (namespace, removed, keepsStale) =>
          Effect.as(tell({ _tag: "Keys", namespace, keys: removed, keepsStale: keepsStale === true }), []),
        removeTagged: (namespace, removed, keepsStale) =>
          Effect.as(tell({ _tag: "Tags", namespace, tags: removed, keepsStale: keepsStale === true }), 0),
        removeMatching: (namespace, { pattern }, keepsStale) =>
          Effect.as(tell({ _tag: "Pattern", namespace, pattern, keepsStale: keepsStale === true }), 0),
        clear: (namespace) => Effect.as(tell(whole(namespace)), 0),
        clearAll: Effect.as(tell(everything), 0)
      },
      onDone: (invalidation) =>
        Effect.suspend(() => {
          done.push(shown(invalidation))
          return double.onDone(invalidation)
        })
    }).pipe(Effect.provideService(Scope.Scope, scope))
    return { pending, double, told, done, close: Scope.close(scope, Exit.void) }
  })

/** Lets the worker do what it can do without waiting. */
const settle = Effect.repeat(Effect.yieldNow, { times: 50 })

/** The log lines of an effect. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const lines: Array<string> = []
  const capture = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel} ${String(message)}`)
  })
  return Effect.as(Effect.provide(effect, Logger.layer([capture])), lines)
}

describe("PendingInvalidations", () => {
  it.effect("is pending until the store has done it, and is then announced (C64)", () =>
    Effect.gen(function* () {
      const { done, double, pending, told } = yield* waiting()
      double.answer = () => Effect.fail(away)
      assert.isFalse(pending.isPending("ns", "a"))
      pending.add(keys("ns", "a"))
      yield* settle
      assert.deepStrictEqual([told, done], [["ns a"], []])
      assert.isTrue(pending.isPending("ns", "a"))
      assert.isFalse(pending.isPending("ns", "b") || pending.isPending("other", "a"))
      double.answer = () => Effect.void
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([told, done], [["ns a", "ns a"], ["ns a"]])
      assert.isFalse(pending.isPending("ns", "a"))
      assert.strictEqual(pending.size, 0)
    })
  )

  it.effect("a namespace is pending with all its keys, and everything with all namespaces", () =>
    Effect.gen(function* () {
      const { double, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(whole("ns"))
      assert.deepStrictEqual([pending.isPending("ns", "a"), pending.isPending("other", "a")], [true, false])
      pending.add(everything)
      assert.deepStrictEqual([pending.isPending("ns", "a"), pending.isPending("other", "a")], [true, true])
      assert.strictEqual(pending.size, 1)
    })
  )

  it.effect("a row is pending with one of its tags, and a key with a pattern that matches it", () =>
    Effect.gen(function* () {
      const { double, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(tags("ns", "t", "u"))
      assert.deepStrictEqual(
        [["t"], ["x", "u"], ["x"], []].map((tags) => pending.isPending("ns", "a", tags)),
        [true, true, false, false]
      )
      assert.deepStrictEqual([pending.isPending("ns", "a"), pending.isPending("other", "a", ["t"])], [false, false])
      pending.add(expired(tags("ns", "v")))
      assert.isTrue(pending.isPending("ns", "a", ["v"]))
      assert.deepStrictEqual([[...pending.tagsOf("ns")], [...pending.tagsOf("other")]], [["t", "u", "v"], []])
      pending.add(matching("ns", "a*"))
      pending.add(expired(matching("ns", "?z")))
      assert.deepStrictEqual(
        ["a", "ab", "b", "bz"].map((key) => pending.isPending("ns", key)),
        [true, true, false, true]
      )
      assert.strictEqual(pending.size, 5)
      pending.settle(tags("ns", "t"), pending.mark())
      pending.settle(matching("ns", "a*"), pending.mark())
      assert.deepStrictEqual([[...pending.tagsOf("ns")], pending.isPending("ns", "a", ["t"])], [["u", "v"], false])
    })
  )

  it.effect(
    "each kind goes in a statement of its own, tags of one namespace together, and is announced as it was",
    () =>
      Effect.gen(function* () {
        const { done, double, pending, told } = yield* waiting()
        double.answer = () => Effect.fail(away)
        pending.add(tags("ns", "t"))
        pending.add(matching("ns", "a*"))
        pending.add(expired(keys("ns", "k")))
        pending.add(tags("ns", "u", "t"))
        pending.add(keys("ns", "a"))
        pending.add(expired(tags("ns", "v")))
        pending.add(matching("ns", "b*"))
        pending.add(expired(matching("ns", "c*")))
        yield* settle
        told.length = 0
        double.answer = () => Effect.void
        yield* TestClock.adjust("1 second")
        assert.sameMembers(told, [
          "ns #t #u",
          "ns /a*/",
          "ns /b*/",
          "ns k stale",
          "ns a",
          "ns #v stale",
          "ns /c*/ stale"
        ])
        assert.deepStrictEqual([done, pending.size], [told, 0])
      })
  )

  it.effect("an expiry is settled by a removal, but a removal by no expiry, nor one kind by another", () =>
    Effect.gen(function* () {
      const { double, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      for (const target of [keys("ns", "a"), tags("ns", "t"), matching("ns", "a*")]) {
        const others = [keys("ns", "b"), tags("ns", "u"), matching("ns", "b*"), keys("other", "a")]
        pending.add(expired(target))
        pending.add(target)
        for (const other of others) assert.isFalse(pending.settle(other, pending.mark()))
        assert.isTrue(pending.settle(expired(target), pending.mark()))
        assert.strictEqual(pending.size, 1)
        assert.isFalse(pending.settle(expired(target), pending.mark()))
        pending.add(expired(target))
        const mark = pending.mark()
        pending.add(expired(target))
        assert.isTrue(pending.settle(target, mark))
        assert.strictEqual(pending.size, 1)
        assert.isTrue(pending.settle(whole("ns"), pending.mark()))
        assert.strictEqual(pending.size, 0)
      }
    })
  )

  it.effect("a pattern that the store cannot do does not keep the other ones of its namespace waiting", () =>
    Effect.gen(function* () {
      const { done, double, pending } = yield* waiting()
      double.answer = (invalidation) =>
        invalidation._tag === "Pattern" && invalidation.pattern === "slow*" ? Effect.fail(away) : Effect.void
      pending.add(matching("ns", "slow*"))
      pending.add(matching("ns", "b*"))
      pending.add(tags("ns", "t"))
      pending.add(keys("ns", "a"))
      yield* TestClock.adjust("4 seconds")
      assert.sameMembers(done, ["ns /b*/", "ns #t", "ns a"])
      assert.strictEqual(pending.size, 1)
    })
  )

  it.effect("too many tags or patterns of a namespace become the namespace too, and so does what is no pattern", () =>
    Effect.gen(function* () {
      for (const [many, most] of [
        [(i: number) => tags("ns", `${i}`), 150],
        [(i: number) => expired(keys("ns", `${i}`)), 150],
        [(i: number) => matching("ns", `${i}*`), 100],
        [(i: number) => expired(matching("ns", `${i}*`)), 100],
        [() => matching("ns", "["), 0]
      ] as const) {
        const { double, pending, told } = yield* waiting(150)
        double.answer = () => Effect.fail(away)
        for (let i = 0; i < most; i++) pending.add(many(i))
        assert.deepStrictEqual([pending.size, pending.isPending("ns", "other")], [most, false])
        pending.add(many(most))
        assert.deepStrictEqual([pending.size, pending.isPending("ns", "other")], [1, true])
        double.answer = () => Effect.void
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([told.at(-1), pending.size], ["ns *", 0])
      }
    })
  )

  it.effect("what is added while nothing is pending is tried at once, but not within the caller's step", () =>
    Effect.gen(function* () {
      const { done, pending, told } = yield* waiting()
      yield* settle
      for (const [index, invalidation] of [keys("ns", "a", "b"), whole("ns"), everything].entries()) {
        pending.add(invalidation)
        assert.strictEqual(told.length, index)
        yield* settle
      }
      assert.deepStrictEqual(done, ["ns a b", "ns *", "*"])
    })
  )

  it.effect(
    "is tried again after a tenth of a second at first, then ever more rarely, but every few seconds for good",
    () =>
      Effect.gen(function* () {
        const { double, pending, told } = yield* waiting()
        double.answer = () => Effect.fail(away)
        pending.add(keys("ns", "a"))
        yield* settle
        const tries: Array<number> = []
        for (let ms = 10; ms <= 60_000; ms += 10) {
          const before = told.length
          yield* TestClock.adjust("10 millis")
          if (told.length > before) tries.push(ms)
        }
        const waits = tries.map((at, index) => at - (tries[index - 1] ?? 0))
        const planned = [100, 200, 400, 800, 1600]
        waits.forEach((wait, index) => {
          assert.isAtLeast(wait, (planned[index] ?? 3000) * 0.8)
          assert.isAtMost(wait, (planned[index] ?? 3000) * 1.2 + 10)
        })
        assert.isAbove(new Set(waits.slice(5)).size, 3, "no jitter")
        double.answer = () => Effect.void
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(pending.size, 0)
      })
  )

  it.effect("keys of one namespace go together, a thousand at a time, and one statement after the other", () =>
    Effect.gen(function* () {
      const { done, double, pending, told } = yield* waiting(5000)
      double.answer = () => Effect.yieldNow
      for (let i = 0; i < 2500; i++) pending.add(keys("many", `${i}`))
      pending.add(keys("few", "a"))
      pending.add(whole("all"))
      yield* settle
      const sizes = told.map((line) => [line.split(" ")[0], line.split(" ").length - 1])
      assert.deepStrictEqual(sizes, [
        ["many", 1000],
        ["many", 1000],
        ["many", 500],
        ["few", 1],
        ["all", 1]
      ])
      assert.deepStrictEqual([done, double.mostUnderWay()], [told, 1])
    })
  )

  it.effect("one that the store cannot do does not keep the others of other namespaces waiting", () =>
    Effect.gen(function* () {
      const { done, double, pending } = yield* waiting()
      double.answer = (invalidation) =>
        invalidation._tag !== "All" && invalidation.namespace === "locked" ? Effect.fail(away) : Effect.void
      pending.add(keys("locked", "a"))
      pending.add(whole("x"))
      pending.add(keys("y", "a"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(done, ["x *", "y a"])
      assert.strictEqual(pending.size, 1)
    })
  )

  it.effect("a key that is added again while its removal is under way is removed once more (C64)", () =>
    Effect.gen(function* () {
      const { done, double, pending, told } = yield* waiting()
      const [first, second] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      double.answer = () => Deferred.await(told.length === 1 ? first : second)
      pending.add(keys("ns", "a", "b"))
      yield* settle
      pending.add(keys("ns", "a"))
      yield* Deferred.succeed(first, undefined)
      yield* settle
      assert.deepStrictEqual([pending.isPending("ns", "a"), pending.isPending("ns", "b")], [true, false])
      yield* Deferred.succeed(second, undefined)
      yield* settle
      assert.deepStrictEqual([told, done, pending.size], [["ns a b", "ns a"], ["ns a b", "ns a"], 0])
    })
  )

  for (const [kind, invalidation] of Object.entries({
    tag: tags("ns", "t"),
    pattern: matching("ns", "a*"),
    expiry: expired(keys("ns", "a")),
    "expiry by tag": expired(tags("ns", "t"))
  })) {
    it.effect(`a ${kind} that is added again while it is under way is done once more (C64)`, () =>
      Effect.gen(function* () {
        const { double, pending, told } = yield* waiting()
        const answers = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        double.answer = () => Deferred.await(answers[told.length - 1]!)
        pending.add(invalidation)
        yield* settle
        pending.add(invalidation)
        yield* Deferred.succeed(answers[0]!, undefined)
        yield* settle
        assert.isTrue(pending.isPending("ns", "a", ["t"]))
        yield* Deferred.succeed(answers[1]!, undefined)
        yield* settle
        assert.deepStrictEqual([told, pending.size], [[shown(invalidation), shown(invalidation)], 0])
      })
    )
  }

  it.effect("a key that is added while its namespace is being cleared has it cleared once more", () =>
    Effect.gen(function* () {
      for (const wide of [whole("ns"), everything]) {
        const { double, pending, told } = yield* waiting()
        const open = yield* Deferred.make<void>()
        double.answer = () => Deferred.await(open)
        pending.add(wide)
        yield* settle
        pending.add(keys("ns", "a"))
        yield* Deferred.succeed(open, undefined)
        yield* settle
        assert.deepStrictEqual([told, pending.size], [[shown(wide), shown(wide)], 0])
      }
    })
  )

  it.effect("a namespace or everything that is added while less is under way is done in full", () =>
    Effect.gen(function* () {
      const { double, pending, told } = yield* waiting()
      let open = yield* Deferred.make<void>()
      double.answer = () => Deferred.await(open)
      pending.add(keys("ns", "a"))
      yield* settle
      pending.add(whole("ns"))
      yield* Deferred.succeed(open, undefined)
      open = yield* Deferred.make<void>()
      yield* settle
      assert.isTrue(pending.isPending("ns", "b"))
      pending.add(everything)
      yield* Deferred.succeed(open, undefined)
      yield* settle
      assert.deepStrictEqual([told, pending.size], [["ns a", "ns *", "*"], 0])
    })
  )

  it.effect("too many keys of a namespace become the namespace, so that memory is bounded (C64)", () =>
    Effect.gen(function* () {
      const { double, pending, told } = yield* waiting(10)
      double.answer = () => Effect.fail(away)
      for (let i = 0; i < 10; i++) pending.add(keys("ns", `${i}`))
      assert.deepStrictEqual([pending.size, pending.isPending("ns", "other")], [10, false])
      pending.add(keys("ns", "0"))
      assert.strictEqual(pending.size, 10)
      pending.add(keys("ns", "10"))
      assert.deepStrictEqual([pending.size, pending.isPending("ns", "other")], [1, true])
      for (let i = 0; i < 1000; i++) pending.add(keys("ns", `${i}`))
      assert.strictEqual(pending.size, 1)
      double.answer = () => Effect.void
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([told.at(-1), pending.size], ["ns *", 0])
    })
  )

  it.effect(
    "what was changed in the store since is settled, and what was added after the change had begun is not",
    () =>
      Effect.gen(function* () {
        const { double, pending } = yield* waiting()
        double.answer = () => Effect.fail(away)
        pending.add(keys("ns", "a", "b"))
        const mark = pending.mark()
        pending.add(keys("ns", "b", "c"))
        assert.isTrue(pending.settle(keys("ns", "a", "b", "absent"), mark))
        assert.isFalse(pending.settle(keys("ns", "a", "b", "absent"), mark))
        assert.deepStrictEqual(
          ["a", "b", "c"].map((key) => pending.isPending("ns", key)),
          [false, true, true]
        )
        pending.settle(keys("ns", "b", "c"), pending.mark())
        assert.strictEqual(pending.size, 0)
      })
  )

  it.effect("what is pending is settled only by a change as wide as it is", () =>
    Effect.gen(function* () {
      const { double, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(whole("x"))
      assert.isFalse(pending.settle(keys("x", "a"), pending.mark()))
      assert.isTrue(pending.isPending("x", "a"))
      assert.isTrue(pending.settle(whole("x"), pending.mark()))
      assert.isFalse(pending.isPending("x", "a"))
      pending.add(everything)
      pending.settle(keys("x", "a"), pending.mark())
      pending.settle(whole("x"), pending.mark())
      assert.isTrue(pending.isPending("x", "a"))
      assert.isTrue(pending.settle(everything, pending.mark()))
      assert.isFalse(pending.settle(everything, pending.mark()))
      assert.strictEqual(pending.size, 0)
      pending.add(keys("x", "a"))
      const mark = pending.mark()
      pending.add(whole("y"))
      assert.isTrue(pending.settle(everything, mark))
      assert.deepStrictEqual([pending.isPending("x", "a"), pending.isPending("y", "a")], [false, true])
      assert.isTrue(pending.settle(everything, pending.mark()))
      assert.isFalse(pending.settle(everything, pending.mark()))
      assert.strictEqual(pending.size, 0)
    })
  )

  it.effect("what is settled is not tried again", () =>
    Effect.gen(function* () {
      const { done, double, pending, told } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(keys("ns", "a"))
      yield* settle
      pending.settle(keys("ns", "a"), pending.mark())
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([told, done], [["ns a"], []])
      double.answer = () => Effect.void
      pending.add(keys("ns", "b"))
      yield* settle
      assert.deepStrictEqual(done, ["ns b"])
    })
  )

  it.effect("an invalidation of no keys or tags is none", () =>
    Effect.gen(function* () {
      const { pending, told } = yield* waiting()
      pending.add(keys("ns"))
      pending.add(tags("ns"))
      yield* settle
      assert.deepStrictEqual([told, pending.size], [[], 0])
    })
  )

  it.effect("one that cannot be announced is a line in the log, and the next ones are done", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        Effect.gen(function* () {
          const { done, double, pending } = yield* waiting()
          double.onDone = () => Effect.die(new Error("no bus"))
          pending.add(keys("ns", "a"))
          yield* settle
          pending.add(keys("ns", "b"))
          yield* settle
          assert.deepStrictEqual(done, ["ns a", "ns b"])
        })
      )
      assert.strictEqual(lines.length, 2)
      assert.match(lines[0]!, /^Error cache: .*could not be announced/)
    })
  )

  it.effect("closing tries what is left once more, and says nothing if that goes well", () =>
    Effect.gen(function* () {
      const { close, done, double, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(keys("x", "a"))
      pending.add(whole("y"))
      yield* settle
      double.answer = () => Effect.void
      assert.deepStrictEqual(yield* logged(close), [])
      assert.deepStrictEqual([done.sort(), pending.size], [["x a", "y *"], 0])
    })
  )

  it.effect("closing ends at the first failure, and one line says how many the store was never told of", () =>
    Effect.gen(function* () {
      const { close, double, pending, told } = yield* waiting()
      double.answer = () => Effect.fail(away)
      pending.add(keys("x", "a", "b"))
      pending.add(whole("y"))
      yield* settle
      const before = told.length
      const lines = yield* logged(close)
      assert.strictEqual(told.length - before, 1)
      assert.strictEqual(lines.length, 1)
      assert.match(lines[0]!, /^Warn cache: closed with 3 invalidations that the store was never told of/)
    })
  )

  it.effect("closing in the middle of a try makes it again, and loses no announcement", () =>
    Effect.gen(function* () {
      const { close, done, double, pending } = yield* waiting()
      double.answer = () => Effect.never
      pending.add(keys("ns", "a"))
      yield* settle
      double.answer = () => Effect.void
      yield* close
      assert.deepStrictEqual([done, pending.size], [["ns a"], 0])
      const slow = yield* waiting()
      const announced = yield* Deferred.make<void>()
      slow.double.onDone = () => Deferred.await(announced)
      slow.pending.add(keys("ns", "a"))
      yield* settle
      const closing = yield* start(slow.close)
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(announced, undefined)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(slow.done, ["ns a"])
    })
  )

  it.effect(
    "closing before a store that hangs takes no longer than the guard's timeout, nor before a slow one than a few seconds",
    () =>
      Effect.gen(function* () {
        const broken = breakable(yield* MemoryStore.make)
        broken.break("hangs")
        const store = yield* StoreGuard.make(broken.store, {
          readTimeout: Duration.millis(500),
          writeTimeout: Duration.seconds(2),
          breakerFailures: 5,
          breakerProbeInterval: Duration.seconds(1)
        })
        const scope = yield* Scope.make()
        const pending = yield* PendingInvalidations.make({ store, maxKeys: 10, onDone: () => Effect.void }).pipe(
          Effect.provideService(Scope.Scope, scope)
        )
        for (const namespace of ["x", "y", "z"]) pending.add(whole(namespace))
        const closing = yield* start(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.isDefined(closing.pollUnsafe())
        assert.strictEqual(pending.size, 3)

        const slow = yield* waiting()
        slow.double.answer = () => Effect.sleep("1800 millis")
        for (let i = 0; i < 10; i++) slow.pending.add(whole(`${i}`))
        const closed = yield* start(slow.close)
        yield* TestClock.adjust("5 seconds")
        assert.isDefined(closed.pollUnsafe())
        assert.strictEqual(slow.pending.size, 8)
      })
  )

  it.effect("goes through a guard whose breaker is open", () =>
    Effect.gen(function* () {
      const broken = breakable(yield* MemoryStore.make)
      const store = yield* StoreGuard.make(broken.store, {
        readTimeout: Duration.millis(500),
        writeTimeout: Duration.seconds(2),
        breakerFailures: 1,
        breakerProbeInterval: Duration.hours(1)
      })
      broken.break("fails")
      yield* Effect.exit(store.ping)
      const pending = yield* PendingInvalidations.make({ store, maxKeys: 10, onDone: () => Effect.void })
      pending.add(keys("ns", "a"))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(pending.size, 1)
      broken.mend()
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(pending.size, 0)
    })
  )

  it.effect("no invalidation is lost, and a key is pending exactly while the store has not done all of its own", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(command, { maxLength: 40, size: "max" }), (commands) =>
          Effect.runPromise(Effect.scoped(Effect.provide(nothingIsLost(commands), TestClock.layer())))
        ),
        { numRuns: 300 }
      )
    )
  )
})

const anyNamespace = fc.constantFrom("x", "y")

const anyTarget = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(anyNamespace, fc.subarray(["a", "b", "c"])).map(([ns, k]) => keys(ns, ...k))
  },
  { weight: 4, arbitrary: fc.tuple(anyNamespace, fc.subarray(["t", "u"])).map(([ns, t]) => tags(ns, ...t)) },
  {
    weight: 2,
    arbitrary: fc.tuple(anyNamespace, fc.constantFrom("[ab]", "?")).map(([ns, pattern]) => matching(ns, pattern))
  },
  { weight: 2, arbitrary: anyNamespace.map(whole) },
  { weight: 1, arbitrary: fc.constant(everything) }
)

const target = fc
  .tuple(anyTarget, fc.integer({ min: 0, max: 3 }))
  .map(([target, chance]) => (chance > 0 || target._tag in { All: 0, Namespace: 0 } ? target : expired(target)))

const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("Add" as const), target }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Begin" as const), target }) },
  {
    weight: 2,
    arbitrary: fc.record({ _tag: fc.constantFrom("End" as const, "Answer" as const, "Fail" as const), target })
  },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constantFrom("Wait" as const), target }) }
)

type Command = typeof command extends fc.Arbitrary<infer A> ? A : never

const all = ["x", "y"].flatMap((namespace) =>
  ["a", "b", "c"].flatMap((key) => [[], ["t"], ["u"]].map((tags) => ({ namespace, key, tags })))
)

const covers = (invalidation: Invalidation, { key, namespace, tags }: (typeof all)[number]): boolean => {
  if (invalidation._tag === "All") return true
  if (invalidation.namespace !== namespace) return false
  switch (invalidation._tag) {
    case "Keys":
      return invalidation.keys.includes(key)
    case "Tags":
      return tags.some((tag) => invalidation.tags.includes(tag))
    case "Pattern":
      return invalidation.pattern === "?" || key !== "c"
    case "Namespace":
      return true
  }
}

/** One by one, what has a name. */
const apart = (invalidation: Invalidation): ReadonlyArray<Invalidation> => {
  if (invalidation._tag === "Keys") return invalidation.keys.map((key) => ({ ...invalidation, keys: [key] }))
  if (invalidation._tag === "Tags") return invalidation.tags.map((tag) => ({ ...invalidation, tags: [tag] }))
  return [invalidation]
}

/** Whether `wide` does all that `narrow`, which names one thing, asks for. */
const isWithin = (narrow: Invalidation, wide: Invalidation): boolean => {
  if (wide._tag === "All") return true
  if (narrow._tag === "All" || narrow.namespace !== wide.namespace) return false
  if (wide._tag === "Namespace") return true
  const isThere = apart(wide).some((one) => shown(asRemoval(one)) === shown(asRemoval(narrow)))
  return isThere && (isExpiry(narrow) || !isExpiry(wide))
}

const asRemoval = (invalidation: Invalidation): Invalidation =>
  isExpiry(invalidation) ? ({ ...invalidation, keepsStale: false } as Invalidation) : invalidation

/**
 * The reference keeps every invalidation that was added apart, one by one where it
 * has names, until a statement that began later and covers it has succeeded. What
 * the real one keeps may be wider, never narrower; and with nothing left to do in
 * the reference it is empty once the store has answered.
 */
const nothingIsLost = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const maxKeys = 4
    const { close, double, pending } = yield* waiting(maxKeys)
    let clock = 0
    let reference: Array<{ readonly invalidation: Invalidation; readonly at: number }> = []
    const change = (invalidation: Invalidation, began: number) => {
      reference = reference.filter((added) => !(added.at <= began && isWithin(added.invalidation, invalidation)))
    }
    // Statements of the worker wait for their answer; at most one does.
    const asked: Array<{
      readonly began: number
      readonly invalidation: Invalidation
      readonly answer: Deferred.Deferred<void, CacheError>
    }> = []
    double.answer = (invalidation) =>
      Effect.gen(function* () {
        const answer = yield* Deferred.make<void, CacheError>()
        const statement = { began: clock, invalidation, answer }
        asked.push(statement)
        yield* Deferred.await(answer)
        change(invalidation, statement.began)
      })
    // Changes by callers, under way.
    const callers: Array<{ readonly began: number; readonly mark: number; readonly invalidation: Invalidation }> = []
    for (const { _tag, target } of commands) {
      switch (_tag) {
        case "Add":
          clock++
          pending.add(target)
          reference.push(...apart(target).map((invalidation) => ({ invalidation, at: clock })))
          break
        case "Begin":
          callers.push({ began: clock, mark: pending.mark(), invalidation: target })
          break
        case "End": {
          const caller = callers.shift()
          if (caller === undefined) break
          change(caller.invalidation, caller.began)
          pending.settle(caller.invalidation, caller.mark)
          break
        }
        case "Answer":
          yield* Deferred.succeed(asked.shift()?.answer ?? (yield* Deferred.make<void, CacheError>()), undefined)
          break
        case "Fail":
          yield* Deferred.fail(asked.shift()?.answer ?? (yield* Deferred.make<void, CacheError>()), away)
          break
        case "Wait":
          yield* TestClock.adjust("4 seconds")
      }
      yield* settle
      assert.isAtMost(asked.length, 1)
      for (const place of all) {
        const must = reference.some(({ invalidation }) => covers(invalidation, place))
        const does = pending.isPending(place.namespace, place.key, place.tags)
        if (must) assert.isTrue(does, `${place.namespace} ${place.key} ${place.tags.join()} was lost`)
        // Wider than what was asked for only where keys became a namespace, or renewed what is wider.
        if (!must && does) assert.isTrue(pending.isPending(place.namespace, "of no command"))
      }
      assert.isAtMost(pending.size, 2 * maxKeys)
    }
    double.answer = (invalidation) =>
      Effect.sync(() => {
        change(invalidation, clock)
      })
    for (const { answer } of asked) yield* Deferred.succeed(answer, undefined)
    yield* close
    assert.deepStrictEqual([reference, pending.size], [[], 0])
    assert.isAtMost(double.mostUnderWay(), 1)
  })
