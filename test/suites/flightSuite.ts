/** One load at a time, who shares it, how it ends, and what an invalidation meanwhile does to it. */
import { assert } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Option, References, Schema } from "effect"
import { assertNothingUnderWay } from "../support/invariants.ts"
import { type CacheNode, controlled, counting, defectOf, start, type Test } from "./cacheNode.ts"

const Label = Context.Reference<string>("test/Label", { defaultValue: () => "nobody" })

const readsOf = ({ calls }: CacheNode) => calls.filter(({ operation }) => operation === "read").length

export const flightSuite = (test: Test): void => {
  test("C24 callers of every style share one load of a key", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader, runs } = controlled<number>()
      const many = () => Effect.map(loader, (value) => [value])
      const styles: ReadonlyArray<Effect.Effect<number>> = [
        cache.getOrSet(ns, "a", loader),
        Effect.map(cache.getOrSetEntry(ns, "a", loader), ({ value }) => value),
        Effect.map(cache.getOrSetMany(ns, ["a", "a"], many), ([value]) => value!),
        cache.cached(ns, () => loader)("a"),
        Effect.map(cache.cachedMany(ns, many)(["a"]), ([value]) => value!),
        cache.getOrSet(ns, "a", loader, {}),
        cache.getOrSet(ns, "a", loader, { timeToLive: "1 minute" })
      ]
      const callers = yield* Effect.forEach(
        Array.from({ length: 140 }, (_, i) => styles[i % styles.length]!),
        start
      )
      yield* began
      yield* end(Exit.succeed(42))
      assert.deepStrictEqual(new Set(yield* Effect.forEach(callers, Fiber.join)), new Set([42]))
      assert.strictEqual(runs(), 1)
      const { coalesced, loads, lookups } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ coalesced, loads, lookups }, { coalesced: 139, loads: 1, lookups: 140 })
    }))

  test("C25 all who wait share one failure, and the next caller loads again", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader, runs } = controlled<number, { readonly problem: string }>()
      const failure = { problem: "source is away" }
      const callers = yield* Effect.forEach(Array.from({ length: 50 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* end(Exit.fail(failure))
      for (const caller of callers) assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), failure)
      assert.strictEqual(runs(), 1)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
    }))

  test("all who wait share one defect, and the next caller loads again", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const defect = new Error("a bug")
      const callers = yield* Effect.forEach(Array.from({ length: 5 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* end(Exit.die(defect))
      for (const caller of callers) assert.strictEqual(defectOf(yield* Fiber.await(caller)), defect)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
    }))

  test("a loader that interrupts itself ends everybody's wait, and the next caller loads again", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const open = Deferred.makeUnsafe<void>()
      const loader = Effect.andThen(Deferred.await(open), Effect.interrupt)
      const callers = yield* Effect.forEach(Array.from({ length: 5 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* Deferred.succeed(open, undefined)
      for (const caller of callers) {
        const exit = yield* Fiber.await(caller)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      assert.strictEqual((yield* cache.statsOf(ns)).loadInterrupted, 1)
    }))

  test("C29 when every caller is interrupted the loader is, and its finalizers have run when the last caller ends", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const began = Deferred.makeUnsafe<void>()
      const cleaning = Deferred.makeUnsafe<void>()
      const cleaned = Deferred.makeUnsafe<void>()
      yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
      let finalized = false
      const loader = Effect.andThen(Deferred.succeed(began, undefined), Effect.never).pipe(
        Effect.onInterrupt(() =>
          Deferred.succeed(cleaning, undefined).pipe(
            Effect.andThen(Deferred.await(cleaned)),
            Effect.andThen(Effect.sync(() => (finalized = true)))
          )
        )
      )
      const callers = yield* Effect.forEach(Array.from({ length: 3 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* Deferred.await(began)
      const [first, second, last] = callers
      yield* Fiber.interrupt(first!)
      yield* Fiber.interrupt(second!)
      assert.isFalse(Deferred.isDoneUnsafe(cleaning))
      const interruption = yield* start(Fiber.interrupt(last!))
      yield* Deferred.await(cleaning)
      assert.isUndefined(interruption.pollUnsafe())
      yield* Deferred.succeed(cleaned, undefined)
      yield* Fiber.join(interruption)
      assert.isTrue(finalized)
      assertNothingUnderWay()
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      assert.strictEqual((yield* cache.statsOf(ns)).loadInterrupted, 1)
    }))

  test("C29 as long as one caller waits the loader goes on, whoever began it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, interruptions, loader, runs } = controlled<number>()
      const callers = yield* Effect.forEach(Array.from({ length: 10 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* began
      for (const caller of callers.slice(0, 9)) yield* Fiber.interrupt(caller)
      assert.strictEqual(interruptions(), 0)
      yield* end(Exit.succeed(7))
      assert.strictEqual(yield* Fiber.join(callers[9]!), 7)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(7))
      assert.strictEqual(runs(), 1)
      assert.strictEqual((yield* cache.statsOf(ns)).loadInterrupted, 0)
    }))

  test("C29 a caller that comes while an abandoned load is cleaning up starts one of its own", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const began = Deferred.makeUnsafe<void>()
      const cleaning = Deferred.makeUnsafe<void>()
      const cleaned = Deferred.makeUnsafe<void>()
      yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
      const loader = Effect.andThen(Deferred.succeed(began, undefined), Effect.never).pipe(
        Effect.onInterrupt(() => Effect.andThen(Deferred.succeed(cleaning, undefined), Deferred.await(cleaned)))
      )
      const caller = yield* start(cache.getOrSet(ns, "a", loader))
      yield* Deferred.await(began)
      const interruption = yield* start(Fiber.interrupt(caller))
      yield* Deferred.await(cleaning)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      yield* Deferred.succeed(cleaned, undefined)
      yield* Fiber.join(interruption)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
    }))

  test("C28 a load that does not end blocks neither other keys nor other namespaces", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const other = namespace({ value: Schema.Int })
      const stuck = yield* start(cache.getOrSet(ns, "a", Effect.never))
      assert.strictEqual(yield* cache.getOrSet(ns, "b", Effect.succeed(1)), 1)
      assert.strictEqual(yield* cache.getOrSet(other, "a", Effect.succeed(2)), 2)
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, ["b", "c"], () => Effect.succeed([3])), [1, 3])
      yield* cache.set(other, "a", 4)
      assert.strictEqual(yield* cache.invalidate(ns, "b"), true)
      yield* Fiber.interrupt(stuck)
    }))

  test("C37 concurrent callers of one key ask the store once", ({ namespace, node }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { loader } = counting()
      const held = a.hold("read", "before")
      const callers = yield* Effect.forEach(Array.from({ length: 20 }), () => start(a.cache.getOrSet(ns, "a", loader)))
      yield* held.reached
      yield* held.release
      yield* Effect.forEach(callers, Fiber.join)
      assert.strictEqual(readsOf(a), 1)
      const heldGet = a.hold("read", "before")
      const readers = yield* Effect.forEach(Array.from({ length: 20 }), () => start(a.cache.get(ns, "b")))
      yield* heldGet.reached
      yield* heldGet.release
      assert.deepStrictEqual(
        yield* Effect.forEach(readers, Fiber.join),
        Array.from({ length: 20 }, () => Option.none())
      )
      assert.strictEqual(readsOf(a), 2)
    }))

  test("when the cache closes, everybody who waits for a load ends", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, close, hold } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, interruptions, loader } = controlled<number>()
      const held = hold("read", "before")
      const look = yield* start(cache.get(ns, "b"))
      yield* held.reached
      const callers = yield* Effect.forEach(Array.from({ length: 3 }), () => start(cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* close
      for (const caller of [...callers, look]) {
        const exit = yield* Fiber.await(caller as Fiber.Fiber<unknown>)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }
      assert.strictEqual(interruptions(), 1)
    }))

  const changes = {
    invalidate: (cache, ns) => cache.invalidate(ns, "a"),
    invalidateMany: (cache, ns) => cache.invalidateMany(ns, ["x", "a"]),
    clear: (cache, ns) => cache.clear(ns),
    clearAll: (cache) => cache.clearAll,
    "set with timeToLive 0": (cache, ns) => cache.set(ns, "a", 0, { timeToLive: 0 })
  } satisfies Record<
    string,
    (
      cache: CacheNode["cache"],
      ns: Parameters<typeof cache.clear<string, number>>[0]
    ) => Effect.Effect<unknown, unknown>
  >

  for (const [name, change] of Object.entries(changes)) {
    test(`C50 ${name} during a load wins: its waiters are served, it is not kept, and nobody joins it any more`, ({
      namespace,
      node
    }) =>
      Effect.gen(function* () {
        const { cache, memory } = yield* node()
        const ns = namespace({ value: Schema.Int })
        const { began, end, loader } = controlled<number>()
        const before = yield* Effect.forEach(Array.from({ length: 3 }), () => start(cache.getOrSet(ns, "a", loader)))
        yield* began
        yield* change(cache, ns)
        const later = controlled<number>()
        const after = yield* start(cache.getOrSet(ns, "a", later.loader))
        yield* later.began
        yield* end(Exit.succeed(1))
        assert.deepStrictEqual(yield* Effect.forEach(before, Fiber.join), [1, 1, 1])
        assert.strictEqual(memory.entries, 0)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        yield* later.end(Exit.succeed(2))
        assert.strictEqual(yield* Fiber.join(after), 2)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
      }))
  }

  test("C50 set during a load wins: what was set stays, in every tier", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const load = yield* start(cache.getOrSet(ns, "a", loader))
      yield* began
      yield* cache.set(ns, "a", 2)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.die("not to be run")), 2)
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(load), 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
      memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), topology.store ? Option.some(2) : Option.none())
    }))

  test("C49 an invalidation while the store is being read wins over what was read", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, hold, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      memory.partition(ns.name).clear("size")
      const held = hold("read", "after")
      const look = yield* start(cache.get(ns, "a"))
      yield* held.reached
      yield* cache.invalidate(ns, "a")
      yield* held.release
      yield* Fiber.join(look)
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
    }))

  test("C50 an invalidation of one key of a bulk load leaves the others alone", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<ReadonlyArray<number>>()
      const load = yield* start(cache.getOrSetMany(ns, ["a", "b", "c"], () => loader))
      yield* began
      yield* cache.invalidate(ns, "b")
      yield* end(Exit.succeed([1, 2, 3]))
      assert.deepStrictEqual(yield* Fiber.join(load), [1, 2, 3])
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b", "c"]), [Option.some(1), Option.none(), Option.some(3)])
    }))

  test("force runs the loader at once, and what it brings replaces what was there", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      assert.strictEqual((yield* cache.getOrSetEntry(ns, "a", Effect.succeed(2), { force: true })).origin, "loader")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
      memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), topology.store ? Option.some(2) : Option.none())
    }))

  test("force does not join the load under way; later callers join the forced one, and its value stays", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const old = controlled<number>()
      const forced = controlled<number>()
      const first = yield* start(cache.getOrSet(ns, "a", old.loader))
      yield* old.began
      const second = yield* start(cache.getOrSet(ns, "a", forced.loader, { force: true }))
      yield* forced.began
      const third = yield* start(cache.getOrSet(ns, "a", Effect.die("not to be run")))
      yield* forced.end(Exit.succeed(2))
      assert.deepStrictEqual([yield* Fiber.join(second), yield* Fiber.join(third)], [2, 2])
      yield* old.end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  test("force wins over a load that began before it and ends first", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const old = controlled<number>()
      const forced = controlled<number>()
      const first = yield* start(cache.getOrSet(ns, "a", old.loader))
      yield* old.began
      const second = yield* start(cache.getOrSet(ns, "a", forced.loader, { force: true }))
      yield* forced.began
      yield* old.end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(first), 1)
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      yield* forced.end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(second), 2)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  test("C24 a caller that is set aside while another's load lands does not load again", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      let ended = false
      // After that it only waits for a store that is slow.
      for (let steps = 0; !ended && steps < 200; steps++) {
        const ns = namespace({ value: Schema.Int })
        const { loader, runs } = counting()
        const hurried = Effect.provideService(cache.getOrSet(ns, "a", loader), References.MaxOpsBeforeYield, 3)
        const caller = yield* start(hurried)
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        ended = caller.pollUnsafe() !== undefined
        assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
        assert.strictEqual(yield* Fiber.join(caller), 1)
        assert.strictEqual(runs(), 1, `set aside after ${steps} steps`)
      }
    }))

  test("a load sees the services of the caller that began it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.String })
      const loader = Effect.map(Effect.fiber, (fiber) => `${fiber.getRef(Label)}`)
      const label = cache.getOrSet(ns, "a", loader).pipe(Effect.provideService(Label, "mine"))
      assert.strictEqual(yield* label, "mine")
    }))
}
