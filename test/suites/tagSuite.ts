/** What a tag stands for: every entry that was stored with it last, and every load that will end with it. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import { breakable } from "./brokenStore.ts"
import { controlled, counting, start, type Test, told } from "./cacheNode.ts"

const [one, two, none] = [Option.some(1), Option.some(2), Option.none<number>()]

export const tagSuite = (test: Test): void => {
  test("C51 C55 invalidateTags removes what has one of the tags, and nothing else", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const store = Effect.gen(function* () {
        yield* cache.set(ns, "t", 1, { tags: ["t"] })
        yield* cache.setMany(
          ns,
          [
            ["tu", 1],
            ["ut", 1]
          ],
          { tags: ["u", "t"] }
        )
        yield* cache.getOrSet(ns, "u", Effect.succeed(1), { tags: ["u"] })
        yield* cache.set(ns, "none", 1)
      })
      const keys = ["t", "tu", "ut", "u", "none"]
      for (const [tags, left] of [
        [["t"], ["u", "none"]],
        [["u"], ["t", "none"]],
        [["u", "t", "absent", "t"], ["none"]],
        [["absent", "T", "t ", ""], keys]
      ] as const) {
        yield* cache.clear(ns)
        yield* store
        assert.strictEqual(yield* cache.invalidateTags(ns, tags), topology.store ? keys.length - left.length : 0)
        assert.strictEqual(yield* cache.invalidateTags(ns, tags), 0)
        const found = yield* cache.getMany(ns, keys)
        assert.deepStrictEqual(
          keys.filter((_, index) => Option.isSome(found[index]!)),
          keys.filter((key) => (left as ReadonlyArray<string>).includes(key))
        )
      }
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 8)
    }))

  test("C51 an entry has the tags that it was stored with last, and no older ones", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const live = topology.store ? 1 : 0
      const stores = [
        (tags: ReadonlyArray<string>) => cache.set(ns, "a", 1, { tags }),
        (tags: ReadonlyArray<string>) => cache.getOrSet(ns, "a", Effect.succeed(1), { tags, force: true })
      ]
      for (const before of stores) {
        for (const after of stores) {
          yield* before(["old", "both"])
          yield* after(["both", "new"])
          assert.strictEqual(yield* cache.invalidateTags(ns, ["old"]), 0)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), one)
          assert.strictEqual(yield* cache.invalidateTags(ns, ["new"]), live)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), none)
          yield* before(["old"])
          yield* after([])
          assert.strictEqual(yield* cache.invalidateTags(ns, ["old"]), 0)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), one)
        }
      }
    }))

  test("tags may be what a function makes of the value", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const tags = (value: number) => [`value ${value}`, value % 2 === 0 ? "even" : "odd"]
      const load = cache.getOrSetMany(ns, ["1", "2", "3"], (keys) => Effect.succeed(keys.map(Number)), { tags })
      assert.deepStrictEqual(yield* load, [1, 2, 3])
      assert.deepStrictEqual(Option.getOrThrow(yield* cache.getEntry(ns, "2")).tags, ["value 2", "even"])
      assert.strictEqual(yield* cache.invalidateTags(ns, ["odd", "value 3"]), topology.store ? 2 : 0)
      assert.deepStrictEqual(yield* cache.getMany(ns, ["1", "2", "3"]), [none, two, none])
    }))

  test("C52 what is stored or loaded after its tag was invalidated is valid", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const tags = ["t"]
      yield* cache.invalidateTags(ns, tags)
      yield* cache.set(ns, "a", 1, { tags })
      yield* cache.invalidateTags(ns, tags)
      yield* cache.set(ns, "a", 2, { tags })
      yield* cache.getOrSet(ns, "b", Effect.succeed(2), { tags })
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [two, two])
      if (memory.maxEntries > 0) assert.strictEqual(memory.entries, 2)
    }))

  test("a tag is no entry: it takes nothing of its own name with it, and can be invalidated again and again (C53)", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "t", 2)
      for (let times = 0; times < 3; times++) {
        yield* cache.set(ns, "a", 1, { tags: ["t"] })
        yield* cache.invalidateTags(ns, ["t"])
        assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "t"]), [none, two])
      }
      yield* cache.invalidate(ns, "t")
      yield* cache.set(ns, "a", 1, { tags: ["t"] })
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "t"]), [one, none])
    }))

  test("C54 tags have no switch: a namespace in which all else is off takes them like any other", ({
    namespace,
    node,
    topology
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({
        value: Schema.Int,
        staleWhileRevalidate: 0,
        staleIfError: 0,
        failureTimeToLive: 0,
        jitter: 0,
        leaseDuration: 0,
        leaseWait: 0
      })
      yield* cache.set(ns, "set", 1, { tags: ["t"] })
      yield* cache.getOrSet(ns, "loaded", Effect.succeed(1), { tags: ["t"] })
      yield* cache.set(ns, "bare", 1)
      assert.strictEqual(yield* cache.invalidateTags(ns, ["t"]), topology.store ? 2 : 0)
      assert.deepStrictEqual(yield* cache.getMany(ns, ["set", "loaded", "bare"]), [none, none, one])
    }))

  test("C57 a tag is its namespace's own", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const [mine, other] = [namespace({ value: Schema.Int }), namespace({ value: Schema.Int })]
      for (const ns of [mine, other]) yield* cache.set(ns, "a", 1, { tags: ["t", mine.name] })
      assert.strictEqual(yield* cache.invalidateTags(mine, ["t", mine.name]), topology.store ? 1 : 0)
      assert.deepStrictEqual([yield* cache.get(mine, "a"), yield* cache.get(other, "a")], [none, one])
      assert.strictEqual((yield* cache.statsOf(other)).invalidations, 0)
    }))

  test("no tags: nothing is asked, removed or counted", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, calls } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      calls.length = 0
      assert.deepStrictEqual([yield* cache.invalidateTags(ns, []), yield* cache.expireTags(ns, [])], [0, 0])
      assert.deepStrictEqual(calls, [])
      assert.deepStrictEqual(yield* cache.get(ns, "a"), one)
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 0)
    }))

  test("G8 any string is a tag of its own", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const plain = ["", " ", "a,b", "{}", "{a}", '"', '\\"', "\\", "'", "%", "_", "*", "NULL", "null", "$1", "\n", "é"]
      const rare = [
        "e\u0301",
        "__proto__",
        "\u0000",
        "\u001a",
        "\u001a0000",
        "\ud800",
        "\ud83d\ude00",
        "x".repeat(1000)
      ]
      const odd = [...plain, ...rare]
      for (const tag of odd) yield* cache.set(ns, tag, 1, { tags: [tag, "all of them"] })
      for (const [index, tag] of odd.entries()) {
        assert.deepStrictEqual(Option.getOrThrow(yield* cache.getEntry(ns, tag)).tags, [tag, "all of them"])
        assert.strictEqual(yield* cache.invalidateTags(ns, [tag]), topology.store ? 1 : 0, JSON.stringify(tag))
        const left = (yield* cache.getMany(ns, odd)).filter(Option.isSome).length
        assert.strictEqual(left, odd.length - index - 1, JSON.stringify(tag))
      }
    }))

  test("the array of tags is the caller's to change", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const tags = ["t"]
      yield* cache.set(ns, "a", 1, { tags })
      tags[0] = "other"
      yield* cache.invalidateTags(ns, ["other"])
      assert.deepStrictEqual(yield* cache.get(ns, "a"), one)
      yield* cache.invalidateTags(ns, ["t"])
      assert.deepStrictEqual(yield* cache.get(ns, "a"), none)
    }))

  test("C50 a load under way with the tag answers who waits, is kept nowhere, and no newcomer joins it", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const later = counting()
      const options = { tags: (value: number) => [`n${value}`] }
      const first = yield* start(cache.getOrSet(ns, "a", loader, options))
      yield* began
      yield* cache.invalidateTags(ns, ["n1"])
      const second = yield* start(
        cache.getOrSet(
          ns,
          "a",
          Effect.map(later.loader, (n) => n + 1),
          options
        )
      )
      yield* end(Exit.succeed(1))
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], [1, 2])
      assert.deepStrictEqual(yield* cache.get(ns, "a"), two)
      assert.strictEqual(later.runs(), 1)
      assert.strictEqual((yield* cache.statsOf(ns)).coalesced, 0)
      if (memory.maxEntries > 0) assert.strictEqual(memory.entries, 1)
    }))

  test("of what is loaded together, only what turns out to have the tag is not kept", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<ReadonlyArray<number>>()
      const tags = (value: number) => (value === 2 ? ["t", "u"] : ["u"])
      const load = yield* start(cache.getOrSetMany(ns, ["a", "b", "c"], () => loader, { tags }))
      yield* began
      yield* cache.invalidateTags(ns, ["t"])
      yield* end(Exit.succeed([1, 2, 1]))
      assert.deepStrictEqual(yield* Fiber.join(load), [1, 2, 1])
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b", "c"]), [one, none, one])
    }))
}

/** What needs a store between two nodes. */
export const sharedTagSuite = (test: Test): void => {
  test("a set under way with the tag is not kept in memory, whichever the store does first", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, hold, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      for (const [moment, left] of [
        ["before", one],
        ["after", none]
      ] as const) {
        const held = hold("write", moment)
        const set = yield* start(cache.set(ns, "a", 1, { tags: ["t"] }))
        yield* held.reached
        yield* cache.invalidateTags(ns, ["t"])
        yield* held.release
        yield* Fiber.join(set)
        assert.strictEqual(memory.entries, 0)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), left)
      }
    }))

  test("C49 a lookup under way on another node brings no memory what has the tag", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "tagged", 1, { tags: ["t"] })
      yield* a.cache.set(ns, "other", 1, { tags: ["u"] })
      const held = b.hold("read", "after")
      const look = yield* start(b.cache.getMany(ns, ["tagged", "other"]))
      yield* held.reached
      yield* a.cache.invalidateTags(ns, ["t"])
      yield* held.release
      assert.deepStrictEqual(yield* Fiber.join(look), [one, one])
      assert.strictEqual(b.memory.entries, 1)
      assert.deepStrictEqual(yield* b.cache.getMany(ns, ["tagged", "other"]), [none, one])
    }))

  test("C56 a node that held nothing finds nothing of it either", ({ namespace, node }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
      yield* a.cache.invalidateTags(ns, ["t"])
      const b = yield* node()
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), none)
      assert.strictEqual(yield* b.cache.invalidateTags(ns, ["t"]), 0)
    }))

  test("C50 without the bus too, the store returns nothing that was loaded before its tag was invalidated", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const store = yield* CacheStore
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const load = yield* start(cache.getOrSet(ns, "a", loader, { tags: ["t"] }))
      yield* began
      yield* store.removeTagged(ns.name, ["t"])
      yield* end(Exit.succeed(1))
      assert.strictEqual(yield* Fiber.join(load), 1)
      memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(yield* cache.get(ns, "a"), none)
    }))

  test("C45 until invalidateTags that failed is done, rows with the tag are not read back, and the others are", ({
    advance,
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const broken = breakable(yield* CacheStore)
      const a = yield* node({ store: broken.store, config: { store: { readTimeout: "1 hour" } } })
      const b = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "tagged", 1, { tags: ["u", "t"] })
      yield* a.cache.set(ns, "other", 1, { tags: ["u"] })
      broken.break("fails", "removeTagged")
      for (const tags of [["t"], ["x", "t"]]) {
        const error = yield* Effect.flip(a.cache.invalidateTags(ns, tags))
        assert.strictEqual(error.reason._tag, "StoreUnavailable")
      }
      a.memory.partition(ns.name).clear("size")
      assert.deepStrictEqual(yield* a.cache.getMany(ns, ["tagged", "other"]), [none, one])
      assert.strictEqual((yield* a.cache.health).status, "Degraded")
      assert.deepStrictEqual(yield* b.cache.get(ns, "tagged"), one)
      // An answer that was under way while it was done is older than that.
      const held = a.hold("read", "after")
      const look = yield* start(a.cache.get(ns, "tagged"))
      yield* held.reached
      broken.mend()
      yield* told(a, advance)
      yield* held.release
      assert.deepStrictEqual(yield* Fiber.join(look), none)
      assert.strictEqual(b.memory.entries, 0)
      for (const { cache } of [a, b]) {
        assert.deepStrictEqual(yield* cache.getMany(ns, ["tagged", "other"]), [none, one])
      }
    }))
}
