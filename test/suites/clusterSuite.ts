/** Two caches over one store and one bus: what one changes, the other must not serve. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import { controlled, start, type Test } from "./cacheNode.ts"
import { type Removal, removals } from "./removals.ts"

export const clusterSuite = (test: Test): void => {
  interface Change {
    readonly change: Removal
    readonly left: Option.Option<number>
    /** Whether other keys keep their place. */
    readonly others: boolean
  }

  const removing = (change: Removal): Change => ({ change, left: Option.none(), others: true })

  const changes: Record<string, Change> = {
    set: { change: (cache, ns) => cache.set(ns, "a", 2), left: Option.some(2), others: true },
    setMany: { change: (cache, ns) => cache.setMany(ns, [["a", 2]]), left: Option.some(2), others: true },
    "set with timeToLive 0": removing((cache, ns) => cache.set(ns, "a", 2, { timeToLive: 0 })),
    invalidate: removing((cache, ns) => cache.invalidate(ns, "a")),
    invalidateMany: removing((cache, ns) => cache.invalidateMany(ns, ["x", "a"])),
    ...Object.fromEntries(Object.entries(removals).map(([name, change]) => [name, removing(change)])),
    clear: { change: (cache, ns) => cache.clear(ns), left: Option.none(), others: false },
    clearAll: { change: (cache) => cache.clearAll, left: Option.none(), others: false }
  }

  for (const [name, { change, left, others }] of Object.entries(changes)) {
    test(`C59 ${name} on one node is seen on the other at once`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        yield* a.cache.set(ns, "b", 1)
        yield* b.cache.getMany(ns, ["a", "b"])
        assert.strictEqual(b.memory.entries, 2)
        yield* change(a.cache, ns)
        assert.strictEqual(b.memory.entries, others ? 1 : 0)
        assert.deepStrictEqual([yield* b.cache.get(ns, "a"), yield* a.cache.get(ns, "a")], [left, left])
        const { removals } = (yield* b.cache.statsOf(ns)).memory
        assert.strictEqual(removals.remote, others ? 1 : 2)
      }))

    test(`C50 ${name} on one node wins over a load under way on the other`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        const { began, end, loader } = controlled<number>()
        const load = yield* start(b.cache.getOrSet(ns, "a", loader, { tags: ["t"] }))
        yield* began
        yield* change(a.cache, ns)
        const later = yield* start(b.cache.getOrSet(ns, "a", Effect.succeed(3)))
        const expected = Option.getOrElse(left, () => 3)
        yield* end(Exit.succeed(1))
        assert.deepStrictEqual([yield* Fiber.join(load), yield* Fiber.join(later)], [1, expected])
        for (const { cache, memory } of [a, b]) {
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(expected))
          memory.partition(ns.name).clear("size")
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(expected))
        }
      }))
  }

  for (const [name, { change, left }] of Object.entries(changes)) {
    test(`C49 ${name} on one node wins over a lookup under way on the other`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        const held = b.hold("read", "after")
        const look = yield* start(b.cache.get(ns, "a"))
        yield* held.reached
        yield* change(a.cache, ns)
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), left)
        yield* held.release
        assert.deepStrictEqual(yield* Fiber.join(look), Option.some(1))
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), left)
      }))
  }

  test("C50 without the bus too, the store refuses what was loaded before it changed", ({ namespace, node }) =>
    Effect.gen(function* () {
      const b = yield* node()
      const store = yield* CacheStore
      const ns = namespace({ value: Schema.Int })
      const { began, end, loader } = controlled<number>()
      const load = yield* start(b.cache.getOrSetMany(ns, ["a", "b", "c"], () => Effect.map(loader, (n) => [n, n, n])))
      yield* began
      const row = {
        data: "2",
        size: 1,
        schemaVersion: 1,
        timeToLive: 60_000,
        staleFor: 0,
        loadTime: 0,
        isFailure: false,
        validators: {},
        tags: []
      }
      yield* store.write(ns.name, [{ ...row, key: "a" }])
      yield* store.remove(ns.name, ["b"])
      yield* end(Exit.succeed(1))
      yield* Fiber.join(load)
      assert.deepStrictEqual(yield* b.cache.getMany(ns, ["a", "b", "c"]), [
        Option.some(2),
        Option.none(),
        Option.some(1)
      ])
      assert.strictEqual((yield* b.cache.statsOf(ns)).store.refused, 2)
    }))

  test("C50 without the bus too, the store refuses what was loaded before a clear", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache } = yield* node()
      const store = yield* CacheStore
      for (const clear of [(name: string) => store.clear(name), () => store.clearAll]) {
        const ns = namespace({ value: Schema.Int })
        const { began, end, loader } = controlled<number>()
        const load = yield* start(cache.getOrSet(ns, "a", loader))
        yield* began
        yield* clear(ns.name)
        yield* end(Exit.succeed(1))
        assert.strictEqual(yield* Fiber.join(load), 1)
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
        assert.strictEqual((yield* cache.statsOf(ns)).store.refused, 1)
      }
    }))

  test("C49 a change between the store's answer to a write and memory's part of it is not overwritten", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      const held = a.hold("write", "after")
      const set = yield* start(a.cache.set(ns, "a", 1))
      yield* held.reached
      yield* b.cache.set(ns, "a", 2)
      yield* held.release
      yield* Fiber.join(set)
      for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  test("of two sets of one key on one node, whichever the store takes last is served", ({ namespace, node }) =>
    Effect.gen(function* () {
      const a = yield* node()
      const ns = namespace({ value: Schema.Int })
      const held = a.hold("write", "after")
      const first = yield* start(a.cache.set(ns, "a", 1))
      yield* held.reached
      yield* a.cache.set(ns, "a", 2)
      yield* held.release
      yield* Fiber.join(first)
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(2))
      const heldBefore = a.hold("write", "before")
      const third = yield* start(a.cache.set(ns, "a", 3))
      yield* heldBefore.reached
      yield* a.cache.set(ns, "a", 4)
      yield* heldBefore.release
      yield* Fiber.join(third)
      assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(3))
    }))

  test("what a load took the place of is gone from both, though its caller left before the store had answered", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "a", 1)
      yield* b.cache.get(ns, "a")
      const held = a.hold("fill", "after")
      const forced = yield* start(a.cache.getOrSet(ns, "a", Effect.succeed(2), { force: true }))
      yield* held.reached
      yield* Fiber.interrupt(forced)
      for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  test("nor does it come back when the load's own value is invalidated before the store has answered", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "a", 1)
      const held = a.hold("fill", "after")
      const forced = yield* start(a.cache.getOrSet(ns, "a", Effect.succeed(2), { force: true, tags: ["t"] }))
      yield* held.reached
      yield* b.cache.invalidateTags(ns, ["t"])
      yield* held.release
      assert.strictEqual(yield* Fiber.join(forced), 2)
      for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
    }))

  test("nor does a read bring it back that had its answer from the store before", ({ namespace, node }) =>
    Effect.gen(function* () {
      const { cache, hold, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      memory.partition(ns.name).clear("size")
      const { began, end, loader } = controlled<number>()
      const forced = yield* start(cache.getOrSet(ns, "a", loader, { force: true }))
      yield* began
      const held = hold("read", "after")
      const read = yield* start(cache.get(ns, "a", { skip: "storeReadWhenStale" }))
      yield* held.reached
      yield* end(Exit.succeed(2))
      assert.strictEqual(yield* Fiber.join(forced), 2)
      yield* held.release
      assert.deepStrictEqual(yield* Fiber.join(read), Option.some(1))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
    }))

  const replacements: Record<string, Removal> = {
    set: (cache, ns) => cache.set(ns, "a", 2),
    "forced load": (cache, ns) => cache.getOrSet(ns, "a", Effect.succeed(2), { force: true })
  }
  for (const [name, replace] of Object.entries(replacements)) {
    test(`a ${name} that follows one that was given up stays in memory`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const { cache, hold } = yield* node()
        const ns = namespace({ value: Schema.Int })
        yield* cache.set(ns, "a", 1)
        const held = hold(name === "set" ? "write" : "fill", "before")
        const first = yield* start(replace(cache, ns))
        yield* held.reached
        yield* Fiber.interrupt(first)
        yield* replace(cache, ns)
        const again = yield* cache.getOrSetEntry(ns, "a", Effect.die("not to be run"))
        assert.strictEqual(again.origin, "memory")
      }))
  }

  test("C61 a node ignores its own messages", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* a.cache.set(ns, "a", 1)
      assert.strictEqual((yield* a.cache.getOrSetEntry(ns, "a", Effect.die("not to be run"))).origin, "memory")
      yield* b.cache.getOrSet(ns, "b", Effect.succeed(2))
      assert.strictEqual(b.memory.entries, 1)
      for (const { cache } of [a, b]) assert.strictEqual((yield* cache.statsOf(ns)).memory.removals.remote, 0)
    }))

  test("C61 a load tells nobody, and a change is not passed on by those who hear of it", ({ namespace, node }) =>
    Effect.gen(function* () {
      const nodes = [yield* node(), yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      for (const { cache } of nodes) assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(1)), 1)
      for (const { memory } of nodes) assert.strictEqual(memory.entries, 1)
      yield* nodes[0]!.cache.set(ns, "a", 2)
      assert.deepStrictEqual(
        nodes.map(({ memory }) => memory.entries),
        [1, 0, 0]
      )
      assert.strictEqual((yield* nodes[1]!.cache.statsOf(ns)).memory.removals.remote, 1)
    }))

  test("a node hears of namespaces that it does not use, and nothing happens", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const [mine, other] = [namespace({ value: Schema.Int }), namespace({ value: Schema.Int })]
      yield* b.cache.set(mine, "a", 1)
      yield* a.cache.set(other, "a", 1)
      yield* a.cache.invalidate(other, "a")
      yield* a.cache.clear(other)
      assert.strictEqual(b.memory.entries, 1)
      assert.strictEqual((yield* b.cache.stats).sets, 1)
    }))

  test("a node that has closed hears nothing any more", ({ namespace, node }) =>
    Effect.gen(function* () {
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      yield* b.cache.set(ns, "a", 1)
      yield* b.close
      yield* a.cache.invalidate(ns, "a")
      assert.strictEqual(b.memory.entries, 1)
    }))
}

/** Two caches that share nothing but the bus. */
export const busSuite = (test: Test): void => {
  const changes: Record<string, Removal> = {
    ...removals,
    set: (cache, ns) => cache.set(ns, "a", 2),
    invalidate: (cache, ns) => cache.invalidate(ns, "a"),
    clear: (cache, ns) => cache.clear(ns),
    clearAll: (cache) => cache.clearAll
  }
  for (const [name, change] of Object.entries(changes)) {
    test(`${name} on one node is heard on another that has no store in common with it (C68)`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        for (const { cache } of [a, b]) yield* cache.set(ns, "a", 1, { tags: ["t"] })
        yield* b.cache.set(ns, "a", 1, { tags: ["t"] })
        yield* change(a.cache, ns)
        assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
        assert.deepStrictEqual(yield* a.cache.get(ns, "a"), name === "set" ? Option.some(2) : Option.none())
      }))
  }
}
