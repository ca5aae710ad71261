/** Which keys a pattern names, in both tiers and in what is under way. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema, Stream } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import { breakable } from "./brokenStore.ts"
import { controlled, counting, start, type Test, told } from "./cacheNode.ts"

const [one, two, none] = [Option.some(1), Option.some(2), Option.none<number>()]

const users = ["user_1_data", "user_22_data", "user__data", "user_1_dat", "user_1_data2", "User_1_data", "userX1Xdata"]
const plain = ["", "a", "A", "ab", "a/b", "a\nb", "é", "😀", "\u0000", "\ud800", "a\u0000b"]
const signs = ["*", "?", "[a]", "!", "^", "\\", "%", "_", "(a|b)", "$1", "'"]
const between = ["a*b", "a?b", "a]", "a-b", "a\\b", "a%b", "a_b", "a.b"]
const keys = [...users, ...plain, ...signs, ...between]

/** Patterns, and the keys of these that each matches. */
const patterns: ReadonlyArray<readonly [pattern: string, matched: ReadonlyArray<string>]> = [
  ["user_*_data", ["user_1_data", "user_22_data", "user__data"]],
  ["user_?_data", ["user_1_data"]],
  ["user_[0-9]_data", ["user_1_data"]],
  ["[Uu]ser_1_data", ["user_1_data", "User_1_data"]],
  ["user_[!1]*", ["user_22_data", "user__data"]],
  ["a", ["a"]],
  ["", [""]],
  ["*", keys],
  ["?", ["a", "A", "é", "😀", "\u0000", "\ud800", "*", "?", "!", "^", "\\", "%", "_", "'"]],
  ["a?b", ["a/b", "a\nb", "a\u0000b", "a*b", "a?b", "a-b", "a\\b", "a%b", "a_b", "a.b"]],
  ["a\\*b", ["a*b"]],
  ["a\\?b", ["a?b"]],
  ["\\*", ["*"]],
  ["\\[a\\]", ["[a]"]],
  ["a[\\]-]*", ["a]", "a-b"]],
  ["a[\\\\/]b", ["a/b", "a\\b"]],
  ["[\\!^]", ["!", "^"]],
  ["a%b", ["a%b"]],
  ["a_b", ["a_b"]],
  ["a.b", ["a.b"]],
  ["(a|b)", ["(a|b)"]],
  ["$1", ["$1"]],
  ["'", ["'"]],
  ["a\u0000?", ["a\u0000b"]],
  ["\ud800", ["\ud800"]]
]

const refused = ["\\", "a\\", "[", "[]", "a[", "[a", "[z-a]", "[!]", "x".repeat(1025)]

export const patternSuite = (test: Test): void => {
  test("C57 a pattern names the keys that it matches as a whole, letter by letter what is no sign of its own", ({
    namespace,
    node,
    topology
  }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const all = keys.map((key) => [key, 1] as const)
      for (const [pattern, matched] of patterns) {
        yield* cache.setMany(ns, all)
        const count = yield* cache.invalidatePattern(ns, pattern)
        const found = yield* cache.getMany(ns, keys)
        const gone = keys.filter((_, index) => Option.isNone(found[index]!))
        assert.sameMembers(gone, [...matched], JSON.stringify(pattern))
        assert.strictEqual(count, topology.store ? matched.length : 0, JSON.stringify(pattern))
      }
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, patterns.length)
    }))

  test("a key that is no string is matched by its JSON", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const numbers = namespace({ key: Schema.Int, value: Schema.Int })
      const records = namespace({ key: Schema.Struct({ id: Schema.Int, of: Schema.String }), value: Schema.Int })
      const live = topology.store ? 1 : 0
      for (const key of [1, 10, 21, -1]) yield* cache.set(numbers, key, 1)
      assert.strictEqual(yield* cache.invalidatePattern(numbers, "1?"), live)
      assert.strictEqual(yield* cache.invalidatePattern(numbers, "-*"), live)
      assert.deepStrictEqual(yield* cache.getMany(numbers, [1, 10, 21, -1]), [one, none, one, none])
      const ids = [1, 2].flatMap((id) => ["a", "b"].map((of) => ({ of, id })))
      yield* cache.setMany(
        records,
        ids.map((key) => [key, 1])
      )
      yield* cache.invalidatePattern(records, '{"id":1,*')
      yield* cache.invalidatePattern(records, '*"of":"b"}')
      assert.deepStrictEqual(yield* cache.getMany(records, ids), [none, none, one, none])
    }))

  test("C57 a pattern stays in its namespace, whatever that is called", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const names = ["pattern_x", "pattern%x", "patternYx", "pattern*x", "pattern?x", "pattern\\x", "pattern_x:child"]
      const spaces = names.map((name) => namespace({ name, value: Schema.Int }))
      for (const ns of spaces) {
        for (const other of spaces) yield* cache.set(other, "a", 1)
        yield* cache.invalidatePattern(ns, "*")
        const found = yield* Effect.forEach(spaces, (other) => cache.get(other, "a"))
        assert.deepStrictEqual(
          found,
          spaces.map((other) => (other === ns ? none : one))
        )
      }
    }))

  test("what is no pattern is refused, says why, and changes nothing", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, calls } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      calls.length = 0
      for (const pattern of refused) {
        for (const call of [
          cache.invalidatePattern(ns, pattern),
          cache.expirePattern(ns, pattern),
          Stream.runDrain(cache.keys(ns, { pattern }))
        ]) {
          const { isRetryable, reason } = yield* Effect.flip(call as Effect.Effect<unknown, never>)
          assert.deepInclude(reason, { _tag: "InvalidPattern", namespace: ns.name, pattern })
          assert.isFalse(isRetryable)
        }
      }
      assert.deepStrictEqual(calls, [])
      assert.deepStrictEqual(yield* cache.get(ns, "a"), one)
      assert.strictEqual((yield* cache.statsOf(ns)).invalidations, 0)
      assert.strictEqual((yield* cache.health).status, "Up")
    }))

  test("C50 what it matches among the loads under way is kept nowhere and joined by nobody, the rest goes on", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<ReadonlyArray<number>>()
      const load = yield* start(cache.getOrSetMany(ns, ["a1", "b1", "a2"], () => loader))
      yield* began
      yield* cache.invalidatePattern(ns, "a*")
      const later = counting()
      const joining = yield* start(cache.getOrSet(ns, "b1", later.loader))
      const anew = yield* start(
        cache.getOrSet(
          ns,
          "a1",
          Effect.map(later.loader, (n) => n + 1)
        )
      )
      yield* end(Exit.succeed([1, 1, 1]))
      assert.deepStrictEqual(yield* Fiber.join(load), [1, 1, 1])
      assert.deepStrictEqual([yield* Fiber.join(joining), yield* Fiber.join(anew), later.runs()], [1, 2, 1])
      const expected = [two, one, none]
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a1", "b1", "a2"]), expected)
      if (memory.maxEntries > 0) assert.strictEqual(memory.entries, 2)
    }))
}

/** What needs a store between two nodes. */
export const sharedPatternSuite = (test: Test): void => {
  test("keys can be listed by a pattern, as it would invalidate them", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.setMany(
        ns,
        keys.map((key) => [key, 1])
      )
      for (const [pattern, matched] of patterns) {
        const listed = yield* Stream.runCollect(cache.keys(ns, { pattern }))
        assert.sameMembers(
          listed.map(({ key }) => key),
          [...matched],
          JSON.stringify(pattern)
        )
      }
      assert.strictEqual((yield* Stream.runCollect(cache.keys(ns, {}))).length, keys.length)
    }))

  test("C45 until invalidatePattern that failed is done, the keys that it matches are not read back", ({
    advance,
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const broken = breakable(yield* CacheStore)
      const a = yield* node({ store: broken.store })
      const b = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.setMany(ns, [
        ["a1", 1],
        ["b1", 1]
      ])
      broken.break("fails", "removeMatching")
      const error = yield* Effect.flip(a.cache.invalidatePattern(ns, "a*"))
      assert.strictEqual(error.reason._tag, "StoreUnavailable")
      assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a1", "b1"]), [none, one])
      assert.deepStrictEqual(yield* b.cache.get(ns, "a1"), one)
      broken.mend()
      yield* told(a, advance)
      for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.getMany(ns, ["a1", "b1"]), [none, one])
    }))

  test("a node hears of a pattern over keys that it holds, and drops no others", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* b.cache.setMany(
        ns,
        keys.map((key) => [key, 1])
      )
      yield* a.cache.invalidatePattern(ns, "user_*_data")
      assert.strictEqual(b.memory.entries, keys.length - 3)
      assert.strictEqual((yield* b.cache.statsOf(ns)).memory.removals.remote, 3)
    }))
}
