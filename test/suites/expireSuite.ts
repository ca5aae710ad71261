/** What becomes of an entry that is expired before its time: stale, and still the answer where there is no better one. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import type { Namespace } from "../../src/index.ts"
import { breakable } from "./brokenStore.ts"
import { controlled, start, type Test, told } from "./cacheNode.ts"
import type { Removal } from "./removals.ts"
import { idle, nodeIn, outcome, source } from "./staleSuite.ts"

/** Fresh for 10 minutes, then for 20 minutes the answer to a failure, which is a minute's rest for the source. */
const lives = {
  value: Schema.Int,
  timeToLive: "10 minutes",
  memoryTimeToLive: "1 day",
  staleIfError: "20 minutes",
  failureBackoff: "1 minute"
} as const

const minute = 60_000

const expiries: Readonly<Record<string, Removal>> = {
  expire: (cache, ns) => cache.expire(ns, "a"),
  expireMany: (cache, ns) => cache.expireMany(ns, ["b", "a"]),
  expireTags: (cache, ns) => cache.expireTags(ns, ["u", "t"]),
  expirePattern: (cache, ns) => cache.expirePattern(ns, "[a]*")
}

const tags = ["t"]

export const expireSuite = (test: Test): void => {
  for (const [name, expire] of Object.entries(expiries)) {
    test(`C51 after ${name} a read loads anew, and falls back on what was there`, (world) =>
      Effect.gen(function* () {
        const { cache } = yield* nodeIn(world)
        const ns = world.namespace(lives)
        const numbers = source()
        const made = yield* cache.getOrSetEntry(ns, "a", numbers.loader, { tags })
        yield* world.advance("1 minute")
        yield* expire(cache, ns)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        const reserve = Option.getOrThrow(yield* cache.getEntry(ns, "a", { stale: true }))
        assert.deepStrictEqual([reserve.value, reserve.freshness, reserve.tags], [1, "stale", tags])
        assert.approximately(reserve.createdAt, made.createdAt, world.drift)
        assert.approximately(reserve.expiresAt, made.createdAt + minute, world.drift)
        assert.approximately(reserve.staleUntil, made.staleUntil, world.drift)
        numbers.isDown = true
        const stale = yield* cache.getOrSetEntry(ns, "a", numbers.loader)
        assert.deepStrictEqual([stale.value, stale.freshness, numbers.runs()], [1, "stale", 2])
        numbers.isDown = false
        yield* world.advance("1 minute")
        assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader, { tags }), 3)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(3))
        yield* expire(cache, ns)
        assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 4)
      }))

    test(`C50 after ${name} a load that was under way is kept nowhere, and no newcomer joins it`, ({
      namespace,
      node
    }) =>
      Effect.gen(function* () {
        const { cache, memory } = yield* node()
        const ns = namespace(lives)
        const { began, end, loader } = controlled<number>()
        const first = yield* start(cache.getOrSet(ns, "a", loader, { tags }))
        yield* began
        yield* expire(cache, ns)
        const second = yield* start(cache.getOrSet(ns, "a", Effect.succeed(2), { tags }))
        yield* end(Exit.succeed(1))
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], [1, 2])
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
        if (memory.maxEntries > 0) assert.strictEqual(memory.entries, 1)
      }))

    test(`${name} of nothing is refused to a load under way too, and leaves nothing`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const { cache, memory } = yield* node()
        const ns = namespace(lives)
        const { began, end, loader } = controlled<number>()
        const load = yield* start(cache.getOrSet(ns, "a", loader, { tags }))
        yield* began
        yield* expire(cache, ns)
        yield* end(Exit.succeed(1))
        assert.strictEqual(yield* Fiber.join(load), 1)
        assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
        assert.strictEqual(memory.entries, 0)
      }))

    test(`after ${name} a source that was left alone because it had failed is asked again`, (world) =>
      Effect.gen(function* () {
        const { cache } = yield* nodeIn(world)
        const ns = world.namespace(lives)
        const numbers = source()
        yield* cache.getOrSet(ns, "a", numbers.loader, { tags })
        yield* world.advance("11 minutes")
        numbers.isDown = true
        for (let i = 0; i < 3; i++) assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 1)
        assert.strictEqual(numbers.runs(), 2)
        numbers.isDown = false
        yield* expire(cache, ns)
        assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 3)
      }))
  }

  test("says whether something fresh was there", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      assert.isFalse(yield* cache.expire(ns, "a"))
      yield* cache.set(ns, "a", 1, { tags })
      yield* cache.set(ns, "b", 1, { tags })
      assert.deepStrictEqual(yield* cache.expireMany(ns, ["a", "x", "a"]), [true, false, true])
      assert.deepStrictEqual([yield* cache.expire(ns, "a"), yield* cache.expire(ns, "b")], [false, true])
      assert.isTrue(yield* cache.invalidate(ns, "a"))
      yield* cache.set(ns, "a", 1)
      yield* world.advance("11 minutes")
      assert.isFalse(yield* cache.expire(ns, "a"))
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 1 + 2 + 2 + 1 + 1)
    }))

  test("expireTags and expirePattern say how many live entries there were", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(lives)
      const live = topology.store ? 2 : 0
      for (const key of ["a1", "a2"]) yield* cache.set(ns, key, 1, { tags })
      yield* cache.set(ns, "b", 1)
      assert.deepStrictEqual([yield* cache.expireTags(ns, tags), yield* cache.expirePattern(ns, "a*")], [live, live])
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a1", "a2", "b"]), [
        Option.none(),
        Option.none(),
        Option.some(1)
      ])
      assert.strictEqual(yield* cache.invalidateTags(ns, tags), live)
      assert.deepStrictEqual([yield* cache.expireTags(ns, tags), yield* cache.expirePattern(ns, "a*")], [0, 0])
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 5)
    }))

  test("the time for which a value may stand in for a failure begins with expire, and ends no later than before", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, failureBackoff: 0 })
      const read = outcome(cache.getOrSet(ns, "a", Effect.fail("down")))
      yield* cache.set(ns, "a", 1)
      yield* cache.expire(ns, "a")
      yield* world.advance("19 minutes")
      yield* cache.expire(ns, "a")
      assert.strictEqual(yield* read, 1)
      yield* world.advance("1 minute")
      assert.strictEqual(yield* read, "down")
      yield* cache.set(ns, "a", 2)
      yield* world.advance("29 minutes")
      yield* cache.expire(ns, "a")
      assert.strictEqual(yield* read, 2)
      yield* world.advance("2 minutes")
      assert.strictEqual(yield* read, "down")
    }))

  test("C3 what may be revalidated is served at once, while it is loaded anew", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleWhileRevalidate: "5 minutes" })
      const numbers = source()
      yield* cache.getOrSet(ns, "a", numbers.loader)
      yield* cache.expire(ns, "a")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 1)
      yield* idle
      assert.strictEqual(yield* cache.getOrSet(ns, "a", numbers.loader), 2)
      assert.strictEqual(numbers.runs(), 2)
    }))

  test("what has no reserve, or is a cached failure, is gone", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* nodeIn(world)
      const plain = world.namespace({ value: Schema.Int, staleIfError: 0 })
      const failing = world.namespace({ ...lives, error: Schema.String, failureTimeToLive: "5 minutes" })
      const numbers = source()
      yield* cache.set(plain, "a", 1)
      assert.isTrue(yield* cache.expire(plain, "a"))
      assert.strictEqual(yield* outcome(cache.getOrSet(plain, "a", Effect.fail("down"))), "down")
      numbers.isDown = true
      for (let i = 0; i < 2; i++) {
        assert.strictEqual(yield* outcome(cache.getOrSet(failing, "a", numbers.loader)), "down 1")
      }
      yield* cache.expire(failing, "a")
      assert.strictEqual(memory.entries, 0)
      numbers.isDown = false
      assert.strictEqual(yield* outcome(cache.getOrSet(failing, "a", numbers.loader)), 2)
    }))

  test("what never expires by itself is a reserve once it is expired", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, timeToLive: "Infinity" })
      yield* cache.set(ns, "a", 1)
      yield* cache.expire(ns, "a")
      assert.strictEqual(yield* outcome(cache.getOrSet(ns, "a", Effect.fail("down"))), 1)
      assert.strictEqual(yield* outcome(cache.getOrSet(ns, "a", Effect.succeed(2), { force: true })), 2)
    }))

  test("a set after it is fresh", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace(lives)
      for (const expire of Object.values(expiries)) {
        yield* cache.set(ns, "a", 1, { tags })
        yield* expire(cache, ns)
        yield* cache.set(ns, "a", 2, { tags })
        const { freshness, value } = Option.getOrThrow(yield* cache.getEntry(ns, "a"))
        assert.deepStrictEqual([value, freshness], [2, "fresh"])
      }
    }))
}

/** What needs a store between two nodes. */
export const sharedExpireSuite = (test: Test): void => {
  for (const [name, expire] of Object.entries(expiries)) {
    test(`C60 ${name} on one node leaves the others their reserve, and nothing fresh`, (world) =>
      Effect.gen(function* () {
        const nodes = [yield* world.node(), yield* world.node()]
        const ns: Namespace.Namespace<string, number> = world.namespace(lives)
        for (const { cache } of nodes) {
          assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1), { tags }), 1)
        }
        yield* world.advance("1 minute")
        yield* expire(nodes[0]!.cache, ns)
        for (const { cache, memory } of nodes) {
          assert.strictEqual(memory.entries, 1)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
          assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
        }
        assert.strictEqual(yield* outcome(nodes[1]!.cache.getOrSet(ns, "a", Effect.fail("down"))), 1)
        yield* world.advance("1 minute")
        assert.strictEqual(yield* nodes[1]!.cache.getOrSet(ns, "a", Effect.succeed(2)), 2)
        assert.deepStrictEqual(yield* nodes[0]!.cache.get(ns, "a"), Option.some(2))
      }))

    test(`C56 after ${name} a node that held nothing finds the reserve, and nothing fresh`, (world) =>
      Effect.gen(function* () {
        const a = yield* world.node()
        const ns: Namespace.Namespace<string, number> = world.namespace(lives)
        yield* a.cache.set(ns, "a", 1, { tags })
        yield* expire(a.cache, ns)
        const b = yield* world.node()
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
        assert.strictEqual(yield* outcome(b.cache.getOrSet(ns, "a", Effect.fail("down"))), 1)
      }))

    test(`while the store is away, what ${name} made stale in memory stands in, and only for a failure`, (world) =>
      Effect.gen(function* () {
        const broken = breakable(yield* CacheStore)
        const a = yield* world.node({ store: broken.store })
        const b = yield* world.node()
        const ns: Namespace.Namespace<string, number> = world.namespace(lives)
        const numbers = source()
        yield* a.cache.getOrSet(ns, "a", numbers.loader, { tags })
        yield* b.cache.get(ns, "a")
        yield* world.advance("1 minute")
        broken.break("fails")
        yield* Effect.flip(expire(a.cache, ns))
        assert.deepStrictEqual([a.memory.entries, b.memory.entries], [1, 1])
        numbers.isDown = true
        assert.strictEqual(yield* outcome(a.cache.getOrSet(ns, "a", numbers.loader)), 1)
        broken.mend()
        yield* told(a, world.advance)
        // The store was told at last: now it has the reserve too.
        for (const { cache, memory } of [a, b]) {
          memory.partition(ns.name).clear("size")
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
          assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.some(1))
        }
        numbers.isDown = false
        assert.strictEqual(yield* a.cache.getOrSet(ns, "a", numbers.loader), 3)
      }))
  }

  test("C49 expire in the middle of a lookup wins", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace(lives)
      yield* a.cache.set(ns, "a", 1)
      const held = b.hold("read", "after")
      const look = yield* start(b.cache.get(ns, "a"))
      yield* held.reached
      yield* a.cache.expire(ns, "a")
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
      yield* held.release
      assert.deepStrictEqual(yield* Fiber.join(look), Option.some(1))
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
      assert.strictEqual(b.memory.entries, 0)
    }))
}
