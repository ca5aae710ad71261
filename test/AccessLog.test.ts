/** How often entries are used, and how the store hears of it. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { AccessLog } from "../src/AccessLog.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { InvalidationBus } from "../src/InvalidationBus.ts"
import * as Namespace from "../src/Namespace.ts"
import { TieredCache } from "../src/TieredCache.ts"

const Numbers = Namespace.make("numbers", { key: Schema.Int, value: Schema.Int, timeToLive: "1 day" })

const shared = Layer.mergeAll(CacheStore.layerMemory, InvalidationBus.layerMemory)
const cacheOver = (store: { readonly accessInterval?: Duration.Input }) =>
  Layer.provideMerge(TieredCache.layerOf({ policy: { jitter: 0 }, store }), shared)

const countsOf = (ns: string) =>
  Effect.gen(function* () {
    const rows = yield* Stream.runCollect((yield* CacheStore).scan(ns))
    return Object.fromEntries(rows.map(({ accessCount, key, lastAccessed }) => [key, [accessCount, lastAccessed]]))
  })

const get = (key: number) => TieredCache.getOrSet(Effect.succeed(key), Numbers, key)

describe("Uses of entries", () => {
  it.effect("are told to the store at intervals, those that memory answered and those that the store did", () =>
    Effect.gen(function* () {
      yield* get(1)
      yield* get(2)
      for (let i = 0; i < 5; i++) yield* get(1)
      yield* TieredCache.getOrSetMany(Numbers, [1, 2, 2], (keys) => Effect.succeed(keys))
      yield* (yield* TieredCache).getOrSet(Numbers, 2, Effect.succeed(0), { skip: "memory" })
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [0, 0], 2: [0, 0] })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [6, 60_000], 2: [2, 60_000] })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [6, 60_000], 2: [2, 60_000] })
      yield* get(2)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [6, 60_000], 2: [3, 180_000] })
    }).pipe(Effect.provide(cacheOver({})))
  )

  it.effect("are told when the cache closes", () =>
    Effect.gen(function* () {
      yield* Effect.andThen(get(1), get(1)).pipe(
        Effect.provide(
          Layer.provide(
            TieredCache.layerOf({ policy: { jitter: 0 } }),
            Layer.succeedContext(yield* Effect.context<CacheStore | InvalidationBus>())
          )
        )
      )
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [1, 0] })
    }).pipe(Effect.provide(shared))
  )

  it.effect("are told nobody where the interval is infinite", () =>
    Effect.gen(function* () {
      yield* get(1)
      yield* get(1)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* countsOf("numbers"), { 1: [0, 0] })
    }).pipe(Effect.provide(cacheOver({ accessInterval: Duration.infinity })))
  )

  it("of one interval are listed by key, each once, and so many only", () => {
    const log = new AccessLog(true)
    const entries = Array.from({ length: 12_000 }, (_, id) => ({ id, uses: 0 }))
    for (const entry of entries) log.use(entry)
    for (const entry of entries) log.use(entry)
    log.read("5")
    log.read("5")
    log.read("another")
    const uses = log.take(String)
    assert.strictEqual(uses.size, 10_001)
    assert.deepStrictEqual([uses.get("5"), uses.get("another"), uses.get("9999")], [4, 1, 2])
    assert.isTrue(entries.every(({ uses }) => uses === 0))
    assert.strictEqual(log.take(String).size, 0)
  })

  it("are not listed where nobody is told", () => {
    const log = new AccessLog(false)
    log.use({ id: 1, uses: 0 })
    log.read("1")
    assert.strictEqual(log.take(String).size, 0)
  })
})
