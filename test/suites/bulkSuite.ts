/** What reads and writes of many keys do. */
import { assert } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Schema } from "effect"
import type { BulkLoader } from "../../src/Operations.ts"
import { type CacheNode, controlled, defectOf, start, type Test } from "./cacheNode.ts"

/** Loads n as n * 10 and remembers what it was asked for. */
const tenfold = () => {
  const asked: Array<ReadonlyArray<number>> = []
  const load: BulkLoader<number, number, never, never> = (missing) =>
    Effect.sync(() => {
      asked.push(missing)
      return missing.map((n) => n * 10)
    })
  return { asked, load }
}

const operations = ({ calls }: CacheNode) => calls.map(({ operation }) => operation)

export const bulkSuite = (test: Test): void => {
  const numbers = { key: Schema.Int, value: Schema.Int }

  test("C76 getOrSetMany answers in the order of the request, and loads each missing key once", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const { asked, load } = tenfold()
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, [3, 1, 3, 2, 1], load), [30, 10, 30, 20, 10])
      assert.deepStrictEqual(asked, [[3, 1, 2]])
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, [2, 4, 3, 4, 5], load), [20, 40, 30, 40, 50])
      assert.deepStrictEqual(asked, [
        [3, 1, 2],
        [4, 5]
      ])
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, [5, 4, 3, 2, 1], load), [50, 40, 30, 20, 10])
      assert.strictEqual(asked.length, 2)
      const { loads, lookups } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ loads, lookups }, { loads: 5, lookups: 3 + 4 + 5 })
    }))

  test("of no keys nothing is asked", ({ namespace, node }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace(numbers)
      const { asked, load } = tenfold()
      assert.deepStrictEqual(yield* a.cache.getOrSetMany(ns, [], load), [])
      assert.deepStrictEqual(yield* a.cache.getMany(ns, []), [])
      assert.deepStrictEqual(yield* a.cache.invalidateMany(ns, []), [])
      yield* a.cache.setMany(ns, [])
      assert.deepStrictEqual(asked, [])
      assert.deepStrictEqual(operations(a), [])
    }))

  test("a bulk call makes one round trip to read, one for the lease and one to write, whatever the number of keys", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace(numbers)
      const keys = Array.from({ length: 250 }, (_, i) => i)
      const { load } = tenfold()
      yield* a.cache.getOrSetMany(ns, keys, load)
      assert.deepStrictEqual(operations(a), ["read", "acquire", "fill"])
      assert.deepStrictEqual(a.calls[0]?.keys, keys.map(String))
      a.calls.length = 0
      yield* a.cache.setMany(
        ns,
        keys.map((key) => [key, 1])
      )
      assert.deepStrictEqual(operations(a), ["write"])
      a.calls.length = 0
      yield* a.cache.invalidateMany(ns, keys)
      assert.deepStrictEqual(operations(a), ["remove"])
      a.calls.length = 0
      yield* a.cache.getMany(ns, keys)
      assert.deepStrictEqual(operations(a), ["read"])
    }))

  test("only what memory does not have is asked of the store, and only what the store does not have is loaded", ({
    namespace,
    node,
    topology
  }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace(numbers)
      const { asked, load } = tenfold()
      yield* a.cache.setMany(ns, [
        [1, 1],
        [2, 2]
      ])
      a.memory.partition(ns.name).remove(2, "size")
      a.calls.length = 0
      const values = yield* a.cache.getOrSetMany(ns, [1, 2, 3], load)
      assert.deepStrictEqual(values, topology.store ? [1, 2, 30] : [1, 20, 30])
      assert.deepStrictEqual(asked, topology.store ? [[3]] : [[2, 3]])
      assert.deepStrictEqual(a.calls, [
        { operation: "read", keys: topology.memory ? ["2", "3"] : ["1", "2", "3"] },
        { operation: "acquire", keys: topology.store ? ["3"] : ["2", "3"] },
        { operation: "fill", keys: topology.store ? ["3"] : ["2", "3"] }
      ])
    }))

  test("a bulk call joins the loads that are under way, single and bulk, and loads the rest", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const single = controlled<number>()
      const bulk = controlled<ReadonlyArray<number>>()
      const { asked, load } = tenfold()
      const one = yield* start(cache.getOrSet(ns, 1, single.loader))
      const two = yield* start(cache.getOrSetMany(ns, [2, 3], () => bulk.loader))
      yield* single.began
      yield* bulk.began
      const all = yield* start(cache.getOrSetMany(ns, [4, 3, 2, 1], load))
      const three = yield* start(cache.getOrSet(ns, 3, Effect.die("not to be run")))
      yield* bulk.end(Exit.succeed([222, 333]))
      yield* single.end(Exit.succeed(111))
      assert.strictEqual(yield* Fiber.join(one), 111)
      assert.deepStrictEqual(yield* Fiber.join(two), [222, 333])
      assert.deepStrictEqual(yield* Fiber.join(all), [40, 333, 222, 111])
      assert.strictEqual(yield* Fiber.join(three), 333)
      assert.deepStrictEqual(asked, [[4]])
      assert.strictEqual((yield* cache.statsOf(ns)).coalesced, 4)
    }))

  test("bulk calls that overlap in a ring do not wait for one another for ever", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const gates = Array.from({ length: 4 }, () => controlled<ReadonlyArray<number>>())
      const keys = [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5, 6],
        [6, 7, 0]
      ]
      const asked: Array<ReadonlyArray<number>> = []
      const callers = yield* Effect.forEach(keys, (some, i) =>
        start(
          cache.getOrSetMany(ns, some, (missing) => {
            asked[i] = missing
            return Effect.andThen(gates[i]!.loader, Effect.succeed(missing.map((n) => n * 10)))
          })
        )
      )
      yield* Effect.forEach(gates, ({ began }) => began)
      yield* Effect.forEach(gates.toReversed(), ({ end }) => end(Exit.succeed([])))
      assert.deepStrictEqual(
        yield* Effect.forEach(callers, Fiber.join),
        keys.map((some) => some.map((n) => n * 10))
      )
      assert.deepStrictEqual(asked, [[0, 1, 2], [3, 4], [5, 6], [7]])
    }))

  test("another number of values than keys is a defect that says so", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      for (const values of [[], [1], [1, 2, 3]]) {
        const exit = yield* Effect.exit(cache.getOrSetMany(ns, [1, 2], () => Effect.succeed(values)))
        const defect = defectOf(exit)
        assert(defect instanceof Error)
        assert.include(defect.message, `namespace "${ns.name}"`)
        assert.include(defect.message, `given 2 keys and answered with ${values.length} values`)
      }
      assert.deepStrictEqual(yield* cache.getMany(ns, [1, 2]), [Option.none(), Option.none()])
      assert.strictEqual((yield* cache.statsOf(ns)).loadFailure, 6)
    }))

  test("C25 the failure of a bulk load is that of all who wait for one of its keys, and of no others", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const { began, end, loader } = controlled<ReadonlyArray<number>, string>()
      const other = controlled<number>()
      const bulk = yield* start(cache.getOrSetMany(ns, [1, 2], () => loader))
      yield* began
      const single = yield* start(cache.getOrSet(ns, 2, Effect.die("not to be run")))
      const mixed = yield* start(cache.getOrSetMany(ns, [2, 3], () => Effect.map(other.loader, (n) => [n])))
      const bystander = yield* start(cache.getOrSet(ns, 3, Effect.die("not to be run")))
      yield* other.began
      yield* end(Exit.fail("the source is away"))
      for (const caller of [bulk, single, mixed] as ReadonlyArray<Fiber.Fiber<unknown, unknown>>) {
        assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), "the source is away")
      }
      yield* other.end(Exit.succeed(3))
      assert.strictEqual(yield* Fiber.join(bystander), 3)
      const { load } = tenfold()
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, [1, 2, 3], load), [10, 20, 3])
    }))

  test("C29 a bulk load ends when nobody waits for any of its keys", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const { began, interruptions, loader } = controlled<ReadonlyArray<number>>()
      const bulk = yield* start(cache.getOrSetMany(ns, [1, 2], () => loader))
      yield* began
      const single = yield* start(cache.getOrSet(ns, 2, Effect.die("not to be run")))
      yield* Fiber.interrupt(bulk)
      assert.strictEqual(interruptions(), 0)
      yield* Fiber.interrupt(single)
      assert.strictEqual(interruptions(), 1)
    }))

  test("C29 a bulk call that fails ends the loads that nobody else waits for", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const failing = controlled<number, string>()
      const own = controlled<ReadonlyArray<number>>()
      const single = yield* start(cache.getOrSet(ns, 1, failing.loader))
      yield* failing.began
      const bulk = yield* start(cache.getOrSetMany(ns, [1, 2], () => own.loader))
      yield* own.began
      yield* failing.end(Exit.fail("gone"))
      assert.strictEqual(yield* Effect.flip(Fiber.join(bulk as Fiber.Fiber<unknown, unknown>)), "gone")
      assert.strictEqual(own.interruptions(), 1)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(single)))
    }))

  test("getMany answers in the order of the request, and with nothing where there is nothing", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      yield* cache.setMany(ns, [
        [1, 10],
        [2, 20]
      ])
      assert.deepStrictEqual(yield* cache.getMany(ns, [2, 3, 1, 2, 3]), [
        Option.some(20),
        Option.none(),
        Option.some(10),
        Option.some(20),
        Option.none()
      ])
    }))

  test("setMany takes any iterable, and of a key that repeats the last", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      yield* cache.setMany(ns, new Map([[1, 10]]))
      yield* cache.setMany(
        ns,
        (function* () {
          yield [2, 20] as const
          yield [3, 30] as const
          yield [2, 21] as const
        })()
      )
      assert.deepStrictEqual(yield* cache.getMany(ns, [1, 2, 3]), [Option.some(10), Option.some(21), Option.some(30)])
      assert.strictEqual((yield* cache.statsOf(ns)).sets, 3)
    }))

  test("setMany stores all of its entries or none", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ ...numbers, maxValueSize: 6 })
      yield* cache.set(ns, 1, 1)
      const reasonOf = (entries: ReadonlyArray<readonly [number, number]>) =>
        Effect.map(Effect.flip(cache.setMany(ns, entries)), ({ reason }) => reason._tag)
      assert.strictEqual(
        yield* reasonOf([
          [1, 2],
          [1.5, 3]
        ]),
        "InvalidKey"
      )
      assert.strictEqual(
        yield* reasonOf([
          [1, 2],
          [2, 2.5]
        ]),
        "EncodeFailed"
      )
      assert.strictEqual(
        yield* reasonOf([
          [1, 2],
          [2, 12_345_678]
        ]),
        "ValueTooLarge"
      )
      assert.deepStrictEqual(yield* cache.getMany(ns, [1, 2]), [Option.some(1), Option.none()])
    }))

  test("invalidateMany says of each key, in order, whether something was there", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      yield* cache.setMany(ns, [
        [1, 1],
        [2, 2]
      ])
      assert.deepStrictEqual(yield* cache.invalidateMany(ns, [3, 1, 1, 2]), [false, true, true, true])
      assert.deepStrictEqual(yield* cache.getMany(ns, [1, 2, 3]), [Option.none(), Option.none(), Option.none()])
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 3)
      assert.strictEqual((yield* Effect.flip(cache.invalidateMany(ns, [1, 1.5]))).reason._tag, "InvalidKey")
    }))

  test("a bulk load that fails for one caller leaves the loads that others wait for in the air", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(numbers)
      const open = Deferred.makeUnsafe<void>()
      const failing = controlled<number, string>()
      const lasting = controlled<number>()
      const one = yield* start(cache.getOrSet(ns, 1, failing.loader))
      const two = yield* start(cache.getOrSet(ns, 2, lasting.loader))
      yield* failing.began
      yield* lasting.began
      const both = yield* start(
        Effect.ensuring(
          cache.getOrSetMany(ns, [1, 2], () => Effect.succeed([])),
          Deferred.succeed(open, undefined)
        )
      )
      yield* failing.end(Exit.fail("gone"))
      yield* Deferred.await(open)
      assert.strictEqual(yield* Effect.flip(Fiber.join(one)), "gone")
      assert.isTrue(Exit.isFailure(yield* Fiber.await(both)))
      assert.strictEqual(lasting.interruptions(), 0)
      yield* lasting.end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(two), 2)
    }))
}
