import { assert, describe, it } from "@effect/vitest"
import * as CacheHealth from "../src/CacheHealth.ts"

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

  it("a cache whose store is degraded is degraded", () => {
    const components = { memory: { status: "Up", since: 10 }, store: { status: "Degraded", since: 20 } } as const
    assert.strictEqual(CacheHealth.make(components).status, "Degraded")
  })
})
