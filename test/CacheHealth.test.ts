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

  it("a cache whose store is degraded is degraded", () => {
    const components = { memory: { status: "Up", since: 10 }, store: { status: "Degraded", since: 20 } } as const
    assert.strictEqual(CacheHealth.make(components).status, "Degraded")
  })
})
