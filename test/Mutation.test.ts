/** What a cache does about what it is told; what it does and tells itself is in the suites. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CacheConfig } from "../src/CacheConfig.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { type Invalidation, InvalidationBus, type InvalidationMessage } from "../src/InvalidationBus.ts"
import { MemoryCache } from "../src/MemoryCache.ts"
import * as Namespace from "../src/Namespace.ts"
import { TieredCache } from "../src/TieredCache.ts"
import { controlled, start } from "./suites/cacheNode.ts"

const ns = Namespace.make("ns", { value: Schema.Int, staleIfError: "10 minutes" })
const other = Namespace.make("other", { value: Schema.Int })

/** A cache whose memory has these, and what it hears and tells. */
const filled = Effect.gen(function* () {
  const memory = MemoryCache.make({ maxEntries: 100, maxSize: Infinity })
  const bus = yield* InvalidationBus
  const told: Array<Invalidation> = []
  yield* bus.subscribe(({ invalidation, origin }) => {
    if (origin !== "elsewhere") told.push(invalidation)
  })
  const parts = Layer.mergeAll(
    Layer.succeed(InvalidationBus, bus),
    Layer.succeed(MemoryCache, memory),
    CacheConfig.layerOf({ policy: { jitter: 0, leaseDuration: 0 } }),
    CacheStore.layerMemory
  )
  const context = yield* Layer.build(Layer.fresh(TieredCache.layerParts.pipe(Layer.provide(parts))))
  const cache = yield* Effect.provide(TieredCache, context)
  for (const key of ["a1", "a2", "b1"]) yield* cache.set(ns, key, 1, { tags: [key.slice(1)] })
  yield* cache.set(other, "a1", 1, { tags: ["1"] })
  told.length = 0
  const hear = (invalidation: unknown) => bus.publish({ origin: "elsewhere", invalidation } as InvalidationMessage)
  return { cache, memory, told, hear }
}).pipe(Effect.provide(Layer.fresh(InvalidationBus.layerMemory)))

const namespace = "ns"

describe("what another process changed", () => {
  const all = ["a1", "a2", "b1", "other a1"]
  const cases: Record<string, readonly [message: unknown, left: ReadonlyArray<string>]> = {
    keys: [{ _tag: "Keys", namespace, keys: ["a1", "x"] }, ["a2", "b1", "other a1"]],
    tags: [{ _tag: "Tags", namespace, tags: ["1", "x"] }, ["a2", "other a1"]],
    "a pattern": [{ _tag: "Pattern", namespace, pattern: "a?" }, ["b1", "other a1"]],
    "a pattern that is none in this version": [{ _tag: "Pattern", namespace, pattern: "[" }, ["other a1"]],
    "a namespace": [{ _tag: "Namespace", namespace }, ["other a1"]],
    everything: [{ _tag: "All" }, []],
    "what only a newer version knows": [{ _tag: "Prefix", namespace, prefix: "a" }, []],
    "a namespace that is not used here": [{ _tag: "Tags", namespace: "unknown", tags: ["1"] }, all]
  }

  for (const [name, [message, left]] of Object.entries(cases)) {
    it.effect(`${name}: is dropped from memory, and told to nobody`, () =>
      Effect.gen(function* () {
        const { cache, hear, memory, told } = yield* filled
        yield* hear(message)
        const held = [
          ...[...memory.partition("ns").ids()].map(String),
          ...[...memory.partition("other").ids()].map((id) => `other ${id}`)
        ]
        assert.deepStrictEqual(held, left)
        assert.strictEqual((yield* cache.stats).memory.removals.remote, all.length - left.length)
        assert.deepStrictEqual(told, [])
        memory.checkInvariants()
      })
    )
  }

  for (const name of ["keys", "tags", "a pattern"]) {
    it.effect(`${name}, with what was fresh as a reserve: stays in memory as that`, () =>
      Effect.gen(function* () {
        const { cache, hear, memory } = yield* filled
        const [message, left] = cases[name]!
        yield* TestClock.adjust("1 second")
        yield* hear({ ...(message as object), keepsStale: true })
        assert.strictEqual(memory.entries, all.length)
        const isFresh = (key: string) => memory.partition("ns").get(key, 1000)!.freshUntil > 1000
        assert.deepStrictEqual(
          ["a1", "a2", "b1"].filter(isFresh),
          left.filter((key) => !key.startsWith("other"))
        )
        // Nobody told the store, which is asked.
        assert.deepStrictEqual(yield* cache.get(ns, "a1"), Option.some(1))
      })
    )
  }

  for (const [name, [message, left]] of Object.entries(cases)) {
    it.effect(`${name}: what is under way is not kept where it may be of that`, () =>
      Effect.gen(function* () {
        const { cache, hear, memory } = yield* filled
        memory.partition("ns").clear("size")
        memory.partition("other").clear("size")
        const { began, end, loader } = controlled<number>()
        const read = (key: string) =>
          key === "other a1"
            ? cache.getOrSet(other, "a1", loader, { tags: ["1"], force: true })
            : cache.getOrSet(ns, key, loader, { tags: [key.slice(1)], force: true })
        const loads = yield* Effect.forEach(all, (key) => start(read(key)))
        yield* began
        yield* hear(message)
        yield* end(Exit.succeed(2))
        yield* Effect.forEach(loads, Fiber.join)
        const held = [
          ...[...memory.partition("ns").ids()].map(String),
          ...[...memory.partition("other").ids()].map((id) => `other ${id}`)
        ]
        assert.sameMembers(held, [...left])
      })
    )
  }
})

describe("what this process changes", () => {
  it.effect("is told as it was asked for, once, each tag once", () =>
    Effect.gen(function* () {
      const { cache, told } = yield* filled
      yield* cache.invalidateMany(ns, ["a1", "a1"])
      yield* cache.expire(ns, "a2")
      yield* cache.invalidateTags(ns, ["1", "2", "1"])
      yield* cache.expireTags(ns, ["1"])
      yield* cache.invalidatePattern(ns, "a\\*")
      yield* cache.expirePattern(ns, "*")
      assert.deepStrictEqual(told, [
        { _tag: "Keys", namespace, keys: ["a1"], keepsStale: false },
        { _tag: "Keys", namespace, keys: ["a2"], keepsStale: true },
        { _tag: "Tags", namespace, tags: ["1", "2"], keepsStale: false },
        { _tag: "Tags", namespace, tags: ["1"], keepsStale: true },
        { _tag: "Pattern", namespace, pattern: "a\\*", keepsStale: false },
        { _tag: "Pattern", namespace, pattern: "*", keepsStale: true }
      ])
    })
  )
})
