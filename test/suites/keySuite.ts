/** Keys are data (G8): any key works, and nothing crosses from key to key or from namespace to namespace. */
import { assert } from "@effect/vitest"
import { Effect, Option, Schema, Stream } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import * as Namespace from "../../src/Namespace.ts"
import type { Test } from "./cacheNode.ts"

/** Each could be mistaken for another by a store that does not take it as data. */
const odd = [
  "",
  " ",
  "  ",
  "a",
  "A",
  "á",
  "a\u0301",
  "%",
  "_",
  "\\",
  "\\\\",
  "\\%",
  "*",
  "?",
  "[a]",
  "[",
  "]",
  "'",
  "''",
  '"',
  '""',
  "a%",
  "a_",
  "a*",
  "a b",
  "a:b",
  ":",
  "\0",
  "a\0",
  "a\0b",
  "\u001a",
  "\u001a0",
  "\u001a0000",
  "\u0001",
  "\n",
  "\r\n",
  "\ud83d",
  "\ude00",
  "😀",
  "👩‍👩‍👧",
  "\uffff",
  "null",
  "undefined",
  "__proto__",
  "constructor",
  "toString",
  "x".repeat(10_000),
  `${"x".repeat(10_000)}y`,
  "😀".repeat(2500),
  `${"😀".repeat(2500)}\ud83d`
]

export const keySuite = (test: Test): void => {
  test("C75 keys of odd characters, blank, and 10 kB long are keys of their own", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.setMany(
        ns,
        odd.map((key, i) => [key, i])
      )
      const all = odd.map((_, i) => Option.some(i))
      assert.deepStrictEqual(yield* cache.getMany(ns, odd), all)
      if (topology.store) {
        memory.partition(ns.name).clear("size")
        assert.deepStrictEqual(yield* cache.getMany(ns, odd), all)
      }
      for (const [i, key] of odd.entries()) {
        assert.strictEqual(yield* cache.getOrSet(ns, key, Effect.die("not to be run")), i)
        assert.strictEqual(yield* cache.invalidate(ns, key), true, key.slice(0, 20))
        assert.deepStrictEqual(
          yield* cache.getMany(ns, odd),
          odd.map((_, j) => (j > i ? Option.some(j) : Option.none()))
        )
      }
    }))

  test("keys of every shape that a schema encodes meet when they are equal and only then", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const Key = Schema.Union([
        Schema.String,
        Schema.Int,
        Schema.Null,
        Schema.Boolean,
        Schema.Array(Schema.Int),
        Schema.Struct({ a: Schema.Int, b: Schema.optionalKey(Schema.String) })
      ])
      const ns = namespace({ key: Key, value: Schema.Int })
      const keys = [
        "1",
        1,
        "null",
        null,
        "true",
        true,
        [],
        [1],
        "[1]",
        [1, 1],
        { a: 1 },
        { a: 1, b: "" },
        '{"a":1}',
        ""
      ]
      yield* cache.setMany(
        ns,
        keys.map((key, i) => [key, i])
      )
      assert.deepStrictEqual(
        yield* cache.getMany(ns, keys),
        keys.map((_, i) => Option.some(i))
      )
      assert.deepStrictEqual(yield* cache.get(ns, { b: "", a: 1 }), Option.some(11))
      yield* cache.invalidate(ns, { b: "", a: 1 })
      assert.deepStrictEqual(yield* cache.get(ns, { a: 1, b: "" }), Option.none())
    }))

  test("C58 a namespace that nobody used before answers every operation", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const fresh = () => namespace({ value: Schema.Int })
      assert.deepStrictEqual(yield* cache.get(fresh(), "a"), Option.none())
      assert.strictEqual(yield* cache.invalidate(fresh(), "a"), false)
      assert.strictEqual(yield* cache.clear(fresh()), 0)
      assert.strictEqual((yield* cache.statsOf(fresh())).lookups, 0)
      assert.deepStrictEqual(yield* Stream.runCollect(cache.keys(fresh())), [])
      yield* cache.set(fresh(), "a", 1)
      assert.strictEqual(yield* cache.getOrSet(fresh(), "a", Effect.succeed(2)), 2)
    }))

  test("C57 C62 namespaces of odd names neither read nor clear nor list one another", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* node()
      const prefix = namespace({ value: Schema.Int }).name
      const names = [
        "",
        "%",
        "_",
        "\\",
        "*",
        "?",
        "[a]",
        "'",
        '"',
        "😀",
        ":",
        "::",
        "a",
        "A",
        "a:",
        " ",
        "\n",
        "\u001a"
      ]
      const spaces = names.map((name) => namespace({ name: `${prefix}${name}`, value: Schema.Int }))
      yield* Effect.forEach(
        spaces,
        (ns, i) =>
          cache.setMany(ns, [
            ["a", i],
            [":a", 1000 + i]
          ]),
        { discard: true }
      )
      for (const [i, ns] of spaces.entries()) {
        for (const store of topology.memory && topology.store ? [false, true] : [false]) {
          if (store) for (const { name } of spaces) memory.partition(name).clear("size")
          for (const [j, other] of spaces.entries()) {
            const there = [Option.some(j), Option.some(1000 + j)]
            assert.deepStrictEqual(
              yield* cache.getMany(other, ["a", ":a"]),
              j >= i ? there : there.map(() => Option.none<number>())
            )
          }
        }
        if (topology.store) assert.deepStrictEqual(yield* keysOf(cache.keys(ns)), [":a", "a"])
        assert.strictEqual(yield* cache.clear(ns), topology.store ? 2 : 0)
      }
    }))

  test("a namespace may have a name of 255 bytes", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const names = ["x", "y"].map((end) => `${"é".repeat(127)}${end}`)
      const [x, y] = names.map((name) => namespace({ name, value: Schema.Int }))
      yield* cache.set(x!, "a", 1)
      assert.deepStrictEqual([yield* cache.get(x!, "a"), yield* cache.get(y!, "a")], [Option.some(1), Option.none()])
      yield* cache.clear(x!)
    }))

  test("clearAll empties every namespace, those that this cache never used too", ({ namespace, node, topology }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const spaces = [namespace({ value: Schema.Int }), namespace({ value: Schema.Int })]
      const foreign = namespace({ value: Schema.Int })
      yield* a.cache.clearAll
      for (const ns of spaces)
        yield* a.cache.setMany(ns, [
          ["a", 1],
          ["b", 2]
        ])
      yield* b.cache.set(foreign, "a", 1)
      assert.strictEqual(yield* a.cache.clearAll, topology.store ? 5 : 0)
      for (const ns of spaces) {
        assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a", "b"]), [Option.none(), Option.none()])
      }
      assert.deepStrictEqual(yield* b.cache.get(foreign, "a"), Option.none())
      assert.strictEqual(yield* a.cache.clearAll, 0)
      assert.strictEqual(a.memory.entries + b.memory.entries, 0)
      assert.strictEqual((yield* a.cache.statsOf(spaces[0]!)).clears, 2)
    }))
}

/** What `keys` lists; only the store lists anything. */
export const listSuite = (test: Test): void => {
  test("keys streams what the store holds, decoded, with what it knows of each", ({ drift, namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ key: Schema.Int, value: Schema.String, timeToLive: "1 hour" })
      yield* cache.setMany(ns, [
        [10, "ten"],
        [9, "nine"]
      ])
      yield* cache.set(ns, 1, "for ever", { timeToLive: "1000 days" })
      yield* cache.getOrSet(ns, 2, Effect.succeed("loaded"))
      yield* cache.invalidate(ns, 9)
      const { createdAt } = Option.getOrThrow(yield* cache.getEntry(ns, 10, { skip: "memory" }))
      const listed = yield* Stream.runCollect(cache.keys(ns))
      assert.deepStrictEqual(
        listed.map(({ key, size, tags, accessCount }) => ({ key, size, tags, accessCount })),
        [
          { key: 1, size: 10, tags: [], accessCount: 0 },
          { key: 10, size: 5, tags: [], accessCount: 0 },
          { key: 2, size: 8, tags: [], accessCount: 0 }
        ]
      )
      const ten = listed[1]!
      assert.approximately(ten.expiresAt - ten.createdAt, 3_600_000, 1000)
      assert.approximately(ten.lastAccessed, ten.createdAt, 1000)
      if (drift === 0) assert.strictEqual(ten.createdAt, createdAt)
    }))

  test("keys that no longer decode are left out, and the stream can be cut short", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const store = yield* CacheStore
      const ns = namespace({ key: Schema.Int, value: Schema.Int })
      const row = {
        size: 1,
        schemaVersion: 1,
        timeToLive: 60_000,
        staleFor: 0,
        loadTime: 0,
        isFailure: false,
        validators: {},
        tags: [],
        data: "1"
      }
      const keys = ["1", "1.5", "two", "", "[]", "3"]
      yield* store.write(
        ns.name,
        keys.map((key) => ({ ...row, key }))
      )
      assert.deepStrictEqual(yield* keysOf(cache.keys(ns)), [1, 3])
      assert.deepStrictEqual(yield* keysOf(Stream.take(cache.keys(ns), 1)), [1])
    }))

  test("keys of odd characters are listed as they are", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.setMany(
        ns,
        odd.map((key) => [key, 1])
      )
      assert.deepStrictEqual(new Set(yield* keysOf(cache.keys(ns))), new Set(odd))
    }))

  test("keys of many pages come once each", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ key: Schema.Int, value: Schema.Int })
      const all = Array.from({ length: 2500 }, (_, i) => i)
      yield* cache.setMany(
        ns,
        all.map((key) => [key, key])
      )
      const listed = yield* keysOf(cache.keys(ns))
      assert.strictEqual(listed.length, 2500)
      assert.deepStrictEqual(new Set(listed), new Set(all))
      assert.strictEqual(yield* cache.clear(ns), 2500)
      assert.deepStrictEqual(yield* keysOf(cache.keys(ns)), [])
    }))

  test("keys are listed by the schema of the namespace that asks", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const ns = namespace({ key: Schema.Struct({ id: Schema.Int, at: Schema.Date }), value: Schema.Int })
      const key = { id: 1, at: new Date(86_400_000) }
      yield* cache.set(ns, key, 1)
      assert.deepStrictEqual(yield* keysOf(cache.keys(ns)), [key])
      assert.deepStrictEqual(yield* keysOf(cache.keys(Namespace.make("nobody's", { value: Schema.Int }))), [])
    }))
}

const keysOf = <K, E, R>(stream: Stream.Stream<{ readonly key: K }, E, R>) =>
  Stream.runCollect(Stream.map(stream, ({ key }) => key))
