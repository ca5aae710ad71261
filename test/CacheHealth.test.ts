import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric, Schema } from "effect"
import * as CacheHealth from "../src/CacheHealth.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { type BusStatus, InvalidationBus } from "../src/InvalidationBus.ts"
import * as Namespace from "../src/Namespace.ts"
import { TieredCache } from "../src/TieredCache.ts"

describe("CacheHealth", () => {
  it("a cache whose parts are all up is up, since the last of them came up", () => {
    const memory = { status: "Up", since: 10 } as const
    for (const since of [5, 20]) {
      const health = CacheHealth.make({ memory, store: { status: "Up", since } })
      assert.deepStrictEqual(health, {
        status: "Up",
        since: Math.max(10, since),
        components: { memory, store: { status: "Up", since } }
      })
    }
  })

  it("a cache without its store is degraded, not down, since the store went, and says what is wrong with it", () => {
    const components = {
      memory: { status: "Up", since: 10 },
      store: { status: "Down", since: 20, problem: "connection refused" }
    } as const
    assert.deepStrictEqual(CacheHealth.make(components), { status: "Degraded", since: 20, components })
  })

  it("a store that is up and was not told of all invalidations is degraded since then, and says how many", () => {
    const memory = { status: "Up", since: 10 } as const
    for (const since of [15, 40]) {
      const { components, ...whole } = CacheHealth.make(
        { memory, store: { status: "Up", since } },
        { size: 3, since: 30 }
      )
      assert.deepStrictEqual(whole, { status: "Degraded", since: Math.max(since, 30) })
      assert.deepStrictEqual([components.store.status, components.store.since], ["Degraded", whole.since])
      assert.include(components.store.problem, "3 invalidations")
    }
  })

  it("a store that is down is no better for what it was not told of", () => {
    const memory = { status: "Up", since: 10 } as const
    const store = { status: "Down", since: 20, problem: "connection refused" } as const
    const health = CacheHealth.make({ memory, store }, { size: 3, since: 30 })
    assert.deepStrictEqual(health, { status: "Degraded", since: 20, components: { memory, store } })
  })

  it("a bus is a part like the others: without it the cache is degraded, since it went", () => {
    const parts = { memory: { status: "Up", since: 10 }, store: { status: "Up", since: 20 } } as const
    const up = { ...parts, bus: { status: "Up", since: 30 } } as const
    assert.deepStrictEqual(CacheHealth.make(up), { status: "Up", since: 30, components: up })
    const down = { ...parts, bus: { status: "Down", since: 40, problem: "cut off" } } as const
    assert.deepStrictEqual(CacheHealth.make(down), { status: "Degraded", since: 40, components: down })
  })

  it("with neither store nor bus the cache is degraded since the first of them went", () => {
    const memory = { status: "Up", since: 10 } as const
    for (const [store, bus] of [
      [50, 40],
      [40, 50]
    ] as const) {
      const components = {
        memory,
        store: { status: "Down", since: store },
        bus: { status: "Down", since: bus }
      } as const
      assert.deepStrictEqual(CacheHealth.make(components), { status: "Degraded", since: 40, components })
    }
  })

  it.effect("a cache tells of its bus in health, stats and metrics, if that can be down", () =>
    Effect.gen(function* () {
      const status: BusStatus = {
        health: { status: "Down", since: 40, problem: "cut off" },
        sent: 1,
        received: 2,
        caughtUp: 3,
        gaps: 4,
        lag: 5
      }
      const bus = yield* Effect.provide(InvalidationBus, InvalidationBus.layerMemory)
      const cacheOver = (bus: InvalidationBus["Service"]) =>
        Effect.provideService(
          Effect.map(
            Layer.build(
              TieredCache.layerOf({}).pipe(Layer.provide([CacheStore.layerMemory, Layer.succeed(InvalidationBus, bus)]))
            ),
            (context) => Context.get(context, TieredCache)
          ),
          Metric.MetricRegistry,
          registry
        )
      const registry = new Map()
      const namespace = Namespace.make("ns", { value: Schema.Int })
      const plain = yield* cacheOver(bus)
      assert.hasAllKeys((yield* plain.health).components, ["memory", "store"])
      assert.isFalse("bus" in (yield* plain.stats))
      assert.strictEqual(registry.size, 0)

      const cache = yield* cacheOver({ ...bus, status: () => status })
      const health = yield* cache.health
      assert.deepInclude(health, { status: "Degraded", since: 40 })
      assert.deepStrictEqual(health.components.bus, status.health)
      assert.deepStrictEqual((yield* cache.stats).bus, status)
      assert.isFalse("bus" in (yield* cache.statsOf(namespace)))
      assert.strictEqual(registry.size, 5)
    }).pipe(Effect.scoped)
  )

  it("a cache whose store is degraded is degraded", () => {
    const components = { memory: { status: "Up", since: 10 }, store: { status: "Degraded", since: 20 } } as const
    assert.strictEqual(CacheHealth.make(components).status, "Degraded")
  })
})
