/** On doubles throughout: it is about what a store does to the rows that wait for it. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { CacheError, CircuitOpen, StoreUnavailable } from "../src/CacheError.ts"
import { makeCounters } from "../src/CacheStats.ts"
import type { Fence, NewRow } from "../src/CacheStore.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as PendingWrites from "../src/PendingWrites.ts"
import * as StoreGuard from "../src/StoreGuard.ts"
import { breakable } from "./suites/brokenStore.ts"
import { start } from "./suites/cacheNode.ts"

const rowOf = (key: string, data = "1", size = data.length): NewRow & { readonly fence: Fence } => ({
  key,
  data,
  size,
  schemaVersion: 1,
  timeToLive: 60_000,
  staleFor: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: [],
  fence: { version: 0, snapshot: "", takenAt: 0 }
})

type Answer = Effect.Effect<ReadonlyArray<boolean>, CacheError>

/** Rows that wait for a store that answers as told, and what it was asked. */
const waiting = (maxRows = 100) =>
  Effect.gen(function* () {
    const asked: Array<string> = []
    const replaced: Array<string> = []
    let underWay = 0
    let mostUnderWay = 0
    const double = {
      answer: (rows: ReadonlyArray<NewRow>): Answer => Effect.succeed(rows.map(() => true)),
      asked,
      mostUnderWay: () => mostUnderWay
    }
    const scope = yield* Scope.make()
    const pending = yield* PendingWrites.make({
      maxRows,
      onReplaced: (namespace, keys) => Effect.sync(() => replaced.push(`${namespace} ${keys.join(" ")}`)),
      store: {
        fill: (namespace, rows) =>
          Effect.suspend(() => {
            asked.push(`${namespace} ${rows.map(({ data, key }) => `${key}=${data}`).join(" ")}`)
            mostUnderWay = Math.max(mostUnderWay, ++underWay)
            return Effect.ensuring(
              double.answer(rows),
              Effect.sync(() => underWay--)
            )
          })
      }
    }).pipe(Effect.provideService(Scope.Scope, scope))
    const counters = makeCounters()
    const refused: Array<string> = []
    const enqueue = (namespace: string, key: string, data = "1", size?: number, isReplacement = false) =>
      pending.enqueue({
        namespace,
        isReplacement,
        row: rowOf(key, data, size),
        counters,
        onRefused: () => refused.push(`${namespace} ${key}`)
      })
    return { double, asked, replaced, pending, counters, refused, enqueue, close: Scope.close(scope, Exit.void) }
  })

/** Lets the worker do what it can do without waiting. */
const settle = Effect.repeat(Effect.yieldNow, { times: 50 })

const away = new CacheError({
  reason: new StoreUnavailable({ operation: "write", cause: new Error("pulled the plug") })
})

describe("PendingWrites", () => {
  it.effect("C44 stores what is enqueued, and keeps nobody waiting", () =>
    Effect.gen(function* () {
      const { asked, enqueue, pending } = yield* waiting()
      enqueue("ns", "a")
      assert.deepStrictEqual([asked, pending.size], [[], 1])
      yield* settle
      assert.deepStrictEqual([asked, pending.size], [["ns a=1"], 0])
      enqueue("ns", "b")
      yield* settle
      assert.deepStrictEqual(asked, ["ns a=1", "ns b=1"])
    })
  )

  it.effect("all that waits of a namespace goes in one statement, the oldest row's namespace first", () =>
    Effect.gen(function* () {
      const { asked, double, enqueue } = yield* waiting()
      enqueue("x", "1")
      enqueue("y", "1")
      enqueue("x", "2")
      enqueue("z", "1")
      enqueue("y", "2")
      yield* settle
      assert.deepStrictEqual(asked, ["x 1=1 2=1", "y 1=1 2=1", "z 1=1"])
      assert.strictEqual(double.mostUnderWay(), 1)
    })
  )

  it.effect("what comes while a statement is under way waits for its end, and goes as one", () =>
    Effect.gen(function* () {
      const { asked, double, enqueue } = yield* waiting()
      const open = yield* Deferred.make<void>()
      double.answer = (rows) =>
        Effect.as(
          Deferred.await(open),
          rows.map(() => true)
        )
      enqueue("ns", "a")
      yield* settle
      for (const key of ["b", "c", "d"]) enqueue("ns", key)
      yield* settle
      assert.deepStrictEqual(asked, ["ns a=1"])
      yield* Deferred.succeed(open, undefined)
      yield* settle
      assert.deepStrictEqual(asked, ["ns a=1", "ns b=1 c=1 d=1"])
      assert.strictEqual(double.mostUnderWay(), 1)
    })
  )

  it.effect("of a key that repeats the newest row is stored, and none was dropped", () =>
    Effect.gen(function* () {
      const { asked, counters, enqueue } = yield* waiting(2)
      enqueue("ns", "a", "1")
      enqueue("ns", "b", "1")
      enqueue("ns", "a", "2")
      enqueue("ns", "a", "3")
      yield* settle
      assert.deepStrictEqual(asked, ["ns b=1 a=3"])
      assert.strictEqual(counters.storeDropped, 0)
    })
  )

  it.effect("a key of one namespace takes no place from the same key of another", () =>
    Effect.gen(function* () {
      const { asked, enqueue } = yield* waiting()
      enqueue("x", "a", "1")
      enqueue("y", "a", "2")
      yield* settle
      assert.deepStrictEqual(asked, ["x a=1", "y a=2"])
    })
  )

  it.effect("when it is full the oldest is dropped and counted where it belongs", () =>
    Effect.gen(function* () {
      const { asked, counters, enqueue, pending } = yield* waiting(3)
      const other = makeCounters()
      pending.enqueue({
        namespace: "other",
        row: rowOf("a"),
        counters: other,
        onRefused: () => {},
        isReplacement: false
      })
      for (const key of ["1", "2", "3", "4", "5"]) enqueue("ns", key)
      assert.strictEqual(pending.size, 3)
      yield* settle
      assert.deepStrictEqual(asked, ["ns 3=1 4=1 5=1"])
      assert.deepStrictEqual([counters.storeDropped, other.storeDropped], [2, 1])
    })
  )

  it.effect("a statement takes a thousand rows and four MiB at most, and one row whatever its size", () =>
    Effect.gen(function* () {
      const { asked, enqueue } = yield* waiting(5000)
      for (let i = 0; i < 2500; i++) enqueue("many", `${i}`)
      for (let i = 0; i < 5; i++) enqueue("large", `${i}`, "1", 2 * 1024 * 1024)
      enqueue("huge", "1", "1", 9 * 1024 * 1024)
      yield* settle
      const sizes = asked.map((statement) => [statement.split(" ")[0], statement.split(" ").length - 1])
      assert.deepStrictEqual(sizes, [
        ["many", 1000],
        ["many", 1000],
        ["many", 500],
        ["large", 2],
        ["large", 2],
        ["large", 1],
        ["huge", 1]
      ])
    })
  )

  it.effect("a fill that fails is counted and not tried again, and the next one is made", () =>
    Effect.gen(function* () {
      const { asked, counters, double, enqueue, refused } = yield* waiting()
      double.answer = () => Effect.fail(away)
      enqueue("ns", "a")
      enqueue("ns", "b")
      yield* TestClock.adjust("1 hour")
      double.answer = () =>
        Effect.fail(new CacheError({ reason: new CircuitOpen({ operation: "write", retryAfter: 1000 }) }))
      enqueue("ns", "c")
      yield* TestClock.adjust("1 hour")
      double.answer = (rows) => Effect.succeed(rows.map(() => true))
      enqueue("ns", "d")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(asked, ["ns a=1 b=1", "ns c=1", "ns d=1"])
      const { refused: refusals, storeDropped, storeErrors, storeSkipped } = counters
      assert.deepStrictEqual(
        { refusals, storeDropped, storeErrors, storeSkipped },
        { refusals: 0, storeDropped: 0, storeErrors: 1, storeSkipped: 1 }
      )
      assert.deepStrictEqual(refused, [])
    })
  )

  it.effect("whoever enqueued a row that the store refuses is told so, and it is counted", () =>
    Effect.gen(function* () {
      const { counters, double, enqueue, refused } = yield* waiting()
      double.answer = (rows) => Effect.succeed(rows.map(({ key }) => key !== "b"))
      for (const key of ["a", "b", "c"]) enqueue("ns", key)
      yield* settle
      assert.deepStrictEqual([refused, counters.refused, counters.storeErrors], [["ns b"], 1, 0])
    })
  )

  it.effect("C10 who may hold what a row has replaced is told of it once it is stored, and not otherwise", () =>
    Effect.gen(function* () {
      const { double, enqueue, replaced } = yield* waiting()
      enqueue("x", "1", "1", undefined, true)
      enqueue("x", "2")
      enqueue("x", "3", "1", undefined, true)
      enqueue("y", "1", "1", undefined, true)
      double.answer = (rows) => {
        assert.deepStrictEqual(replaced, rows.length === 1 ? ["x 1"] : [])
        return Effect.succeed(rows.map(({ key }) => key !== "3"))
      }
      yield* settle
      assert.deepStrictEqual(replaced, ["x 1", "y 1"])
      double.answer = () => Effect.fail(away)
      enqueue("z", "1", "1", undefined, true)
      yield* settle
      assert.deepStrictEqual(replaced, ["x 1", "y 1"])
    })
  )

  it.effect("the store gets the row with the fence that its load began with, so an invalidation wins over it", () =>
    Effect.gen(function* () {
      const store = yield* MemoryStore.make
      const pending = yield* PendingWrites.make({ maxRows: 10, store, onReplaced: () => Effect.void })
      const counters = makeCounters()
      const [a, b] = yield* store.read("ns", ["a", "b"])
      for (const [key, { fence }] of [
        ["a", a!],
        ["b", b!]
      ] as const) {
        pending.enqueue({
          namespace: "ns",
          row: { ...rowOf(key), fence },
          counters,
          onRefused: () => {},
          isReplacement: false
        })
      }
      yield* store.remove("ns", ["b"])
      yield* settle
      const rows = yield* store.read("ns", ["a", "b"])
      assert.deepStrictEqual([rows.map(({ _tag }) => _tag), counters.refused], [["Row", "NoRow"], 1])
    })
  )

  it.effect("closing stores what is waiting, and what comes later is dropped and counted", () =>
    Effect.gen(function* () {
      const { asked, close, counters, enqueue, pending } = yield* waiting()
      enqueue("x", "a")
      enqueue("y", "a")
      yield* close
      assert.deepStrictEqual(asked, ["x a=1", "y a=1"])
      enqueue("x", "late")
      yield* settle
      assert.deepStrictEqual([asked.length, pending.size, counters.storeDropped], [2, 0, 1])
    })
  )

  it.effect("closing waits for the statement that is under way, and stores what came meanwhile", () =>
    Effect.gen(function* () {
      const { asked, close, double, enqueue } = yield* waiting()
      const open = yield* Deferred.make<void>()
      double.answer = (rows) =>
        Effect.as(
          Deferred.await(open),
          rows.map(() => true)
        )
      enqueue("ns", "a")
      yield* settle
      enqueue("ns", "b")
      const closing = yield* start(close)
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(asked, ["ns a=1", "ns b=1"])
    })
  )

  it.effect("closing gives up at the first failure, and counts what is left as dropped", () =>
    Effect.gen(function* () {
      const { asked, close, counters, double, enqueue, pending } = yield* waiting()
      double.answer = () => Effect.fail(away)
      enqueue("x", "a")
      enqueue("y", "a")
      enqueue("z", "a")
      yield* close
      assert.deepStrictEqual([asked, pending.size], [["x a=1"], 0])
      assert.deepStrictEqual([counters.storeErrors, counters.storeDropped], [1, 2])
    })
  )

  it.effect("closing before a store that hangs takes no longer than the guard's timeout", () =>
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
      const pending = yield* Effect.provideService(
        PendingWrites.make({ maxRows: 10, store, onReplaced: () => Effect.void }),
        Scope.Scope,
        scope
      )
      const counters = makeCounters()
      for (const namespace of ["x", "y", "z"]) {
        pending.enqueue({ namespace, row: rowOf("a"), counters, onRefused: () => {}, isReplacement: false })
      }
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual([counters.storeErrors, counters.storeDropped], [1, 2])
    })
  )

  it.effect("closing before a store that is slow ends after a few seconds, and counts what is left", () =>
    Effect.gen(function* () {
      const { close, counters, double, enqueue, pending } = yield* waiting()
      double.answer = (rows) =>
        Effect.delay(
          Effect.sync(() => rows.map(() => true)),
          "1800 millis"
        )
      for (let i = 0; i < 10; i++) enqueue(`${i}`, "a")
      const closing = yield* start(close)
      yield* TestClock.adjust("5 seconds")
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual([pending.size, counters.storeDropped], [0, 7])
    })
  )

  it.effect("each row is stored, replaced, refused, failed or dropped, exactly once", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(command, { maxLength: 60, size: "max" }), (commands) =>
          Effect.runPromise(Effect.scoped(everyRowIsAccountedFor(commands)))
        ),
        { numRuns: 200 }
      )
    )
  )
})

const command = fc.record({
  _tag: fc.constantFrom("Enqueue", "Enqueue", "Enqueue", "Enqueue", "Work", "Fail", "Refuse", "Mend"),
  namespace: fc.constantFrom("x", "y"),
  key: fc.constantFrom("a", "b", "c", "d")
})

type Command = typeof command extends fc.Arbitrary<infer A> ? A : never

const everyRowIsAccountedFor = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const maxRows = 3
    const { asked, close, counters, double, enqueue, pending, refused } = yield* waiting(maxRows)
    let stored = 0
    let lost = 0
    const well = (rows: ReadonlyArray<NewRow>): Answer =>
      Effect.sync(() => {
        stored += rows.length
        return rows.map(() => true)
      })
    double.answer = well
    let enqueued = 0
    let replaced = 0
    let dropped = 0
    let model: Array<string> = []
    for (const { _tag, key, namespace } of commands) {
      switch (_tag) {
        case "Enqueue": {
          const id = `${namespace} ${key}`
          enqueue(namespace, key, `${enqueued++}`)
          if (model.includes(id)) replaced++
          model = [...model.filter((other) => other !== id), id]
          if (model.length > maxRows) {
            model.shift()
            dropped++
          }
          break
        }
        case "Work":
          yield* settle
          model = []
          break
        case "Fail":
          double.answer = (rows) =>
            Effect.suspend(() => {
              lost += rows.length
              return Effect.fail(away)
            })
          break
        case "Refuse":
          double.answer = (rows) => Effect.succeed(rows.map(() => false))
          break
        case "Mend":
          double.answer = well
      }
      assert.strictEqual(pending.size, model.length)
      assert.strictEqual(counters.storeDropped, dropped)
    }
    double.answer = well
    yield* close
    assert.strictEqual(enqueued, stored + replaced + refused.length + lost + counters.storeDropped)
    assert.strictEqual(double.mostUnderWay(), Math.min(asked.length, 1))
    for (const statement of asked) {
      const keys = statement
        .split(" ")
        .slice(1)
        .map((row) => row.split("=")[0])
      assert.strictEqual(new Set(keys).size, keys.length)
    }
  })
