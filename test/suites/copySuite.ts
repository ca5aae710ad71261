/**
 * C47: with `copies`, nobody who is given a value, or gave it, can change what
 * others are given. Without it all share one value.
 */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema } from "effect"
import type { Namespace } from "../../src/index.ts"
import { type CacheNode, controlled, start, type Test, type World } from "./cacheNode.ts"

const List = Schema.Struct({ of: Schema.Array(Schema.String) })

interface List {
  readonly of: ReadonlyArray<string>
}

const list = (): List => ({ of: ["one"] })

/** What no reader should do. */
const change = (list: List): void => {
  ;(list.of as Array<string>).push("changed")
}

type Lists = Namespace.Namespace<string, List>

const lists = (world: World, options: Partial<Namespace.Options<string, List>> = {}): Lists =>
  world.namespace({
    value: List,
    timeToLive: "1 minute",
    staleIfError: "10 minutes",
    copies: true,
    ...options
  }) as Lists

const notToBeRun = Effect.die("not to be run")

const readers: {
  readonly [name: string]: (node: CacheNode, ns: Lists) => Effect.Effect<ReadonlyArray<List>, unknown>
} = {
  getOrSet: ({ cache }, ns) => Effect.map(cache.getOrSet(ns, "a", notToBeRun), Array.of<List>),
  getOrSetEntry: ({ cache }, ns) => Effect.map(cache.getOrSetEntry(ns, "a", notToBeRun), ({ value }) => [value]),
  getOrSetMany: ({ cache }, ns) => cache.getOrSetMany(ns, ["a", "a"], () => notToBeRun),
  cached: ({ cache }, ns) => Effect.map(cache.cached(ns, () => notToBeRun)("a"), Array.of<List>),
  get: ({ cache }, ns) => Effect.map(cache.get(ns, "a"), (found) => [Option.getOrThrow(found)]),
  getEntry: ({ cache }, ns) => Effect.map(cache.getEntry(ns, "a"), (found) => [Option.getOrThrow(found).value]),
  getMany: ({ cache }, ns) => Effect.map(cache.getMany(ns, ["a", "a"]), (found) => found.map(Option.getOrThrow))
}

export const copySuite = (test: Test): void => {
  for (const [name, read] of Object.entries(readers)) {
    for (const from of ["memory", "the store"]) {
      test(`C47 with copies, what ${name} gives from ${from} can be changed, and neither memory nor another reader sees it`, (world) =>
        Effect.gen(function* () {
          const [a, b] = [yield* world.node(), yield* world.node()]
          const ns = lists(world)
          yield* (from === "memory" ? a : b).cache.set(ns, "a", list())
          for (let round = 0; round < 2; round++) {
            for (const value of yield* read(a, ns)) {
              assert.deepStrictEqual(value, list())
              change(value)
            }
          }
          assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(list()))
          a.memory.partition(ns.name).clear("size")
          assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(list()))
        }))
    }
  }

  test("C47 with copies, what a loader brought and what its caller was given can be changed, and nobody sees it", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = lists(world)
      const brought = list()
      const given = yield* cache.getOrSet(ns, "a", Effect.succeed(brought))
      change(given)
      assert.deepStrictEqual(brought, list())
      change(brought)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(list()))
      const many = [list(), list()]
      const [first, second, again] = yield* cache.getOrSetMany(ns, ["b", "c", "b"], () => Effect.succeed(many))
      change(first!)
      assert.deepStrictEqual([second, again], [list(), list()])
      assert.deepStrictEqual(yield* cache.getMany(ns, ["b", "c"]), [Option.some(list()), Option.some(list())])
    }))

  test("C47 with copies, a loader that changes what it brought while that is being stored changes nothing", (world) =>
    Effect.gen(function* () {
      const { cache, hold } = yield* world.node()
      const ns = lists(world)
      const brought = list()
      const fill = hold("fill", "before")
      const load = yield* start(cache.getOrSet(ns, "a", Effect.succeed(brought)))
      yield* fill.reached
      change(brought)
      yield* fill.release
      assert.deepStrictEqual(yield* Fiber.join(load), list())
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(list()))
    }))

  test("C47 with copies, those who shared a load or a lookup share no value", (world) =>
    Effect.gen(function* () {
      const [a, b] = [yield* world.node(), yield* world.node()]
      const ns = lists(world)
      const { began, end, loader } = controlled<List>()
      const loads = yield* Effect.forEach([1, 2, 3], () => start(a.cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* end(Exit.succeed(list()))
      for (const load of loads) {
        const value = yield* Fiber.join(load)
        assert.deepStrictEqual(value, list())
        change(value)
      }
      assert.strictEqual((yield* a.cache.statsOf(ns)).coalesced, 2)
      const read = b.hold("read", "before")
      const lookups = yield* Effect.forEach([1, 2, 3], () => start(b.cache.get(ns, "a")))
      yield* read.reached
      yield* read.release
      for (const lookup of lookups) {
        const value = Option.getOrThrow(yield* Fiber.join(lookup))
        assert.deepStrictEqual(value, list())
        change(value)
      }
      assert.strictEqual(b.calls.length, 1)
    }))

  test("C47 with copies, a value that was set can be changed afterwards, and nobody sees it", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = lists(world)
      const [one, other] = [list(), list()]
      yield* cache.set(ns, "a", one)
      yield* cache.setMany(ns, [["b", other]])
      change(one)
      change(other)
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.some(list()), Option.some(list())])
    }))

  test("C47 with copies, stale values can be changed, by readers and by the loader that is shown one, and nobody sees it", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = lists(world, { failureBackoff: "10 seconds" })
      yield* cache.set(ns, "a", list())
      yield* world.advance("61 seconds")
      const fails = cache.getOrSet(ns, "a", (stale) => {
        change(stale!.value)
        return Effect.fail("no")
      })
      for (let round = 0; round < 3; round++) {
        const value = yield* fails
        assert.deepStrictEqual(value, list())
        change(value)
        yield* world.advance("6 seconds")
      }
      const looked = yield* cache.get(ns, "a", { stale: true })
      assert.deepStrictEqual(looked, Option.some(list()))
      change(Option.getOrThrow(looked))
      assert.deepStrictEqual(yield* fails, list())
      assert.isAbove((yield* cache.statsOf(ns)).loadFailure, 1)
    }))

  test("C47 with copies, those who share a load that failed share no stale value", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = lists(world)
      yield* cache.set(ns, "a", list())
      yield* world.advance("61 seconds")
      const { began, end, loader } = controlled<List, string>()
      const loads = yield* Effect.forEach([1, 2, 3], () => start(cache.getOrSet(ns, "a", loader)))
      yield* began
      yield* end(Exit.fail("no"))
      for (const load of loads) {
        const value = yield* Fiber.join(load)
        assert.deepStrictEqual(value, list())
        change(value)
      }
    }))

  test("C47 with copies, a hit decodes what memory has: a document and no value", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* world.node()
      const ns = lists(world)
      yield* cache.set(ns, "a", list())
      const held = memory.partition<unknown>(ns.name).get("a", 0)?.value
      assert.strictEqual(held, JSON.stringify(list()))
    }))

  test("C47 by default all readers share one value, which is the loader's own", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* world.node()
      const ns = lists(world, { copies: false })
      const brought = list()
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(brought)), brought)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", notToBeRun), brought)
      assert.strictEqual(Option.getOrThrow(yield* cache.get(ns, "a")), brought)
    }))
}
