import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Invalidation } from "../src/InvalidationBus.ts"
import { Unheard } from "../src/Unheard.ts"

const keys = (...keys: ReadonlyArray<string>): Invalidation => ({ _tag: "Keys", namespace: "n", keys })

describe("Unheard", () => {
  it("remembers each key for its time, unless the store has taken a later change of it", () => {
    const step = fc.record({
      wait: fc.integer({ min: 0, max: 6 }),
      isSettling: fc.boolean(),
      keys: fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 3 })
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const unheard = new Unheard(10)
        const until = new Map<string, number>()
        let now = 0
        for (const { isSettling, keys: asked, wait } of steps) {
          now += wait
          if (isSettling) unheard.settle("n", asked)
          else unheard.add("n", asked, now)
          for (const key of asked) until.set(key, isSettling ? now : now + 10)
          for (const key of ["a", "b", "c"]) {
            assert.strictEqual(unheard.concerns(keys("x", key), now), now < (until.get(key) ?? 0), key)
          }
        }
      })
    )
  })

  it("knows namespaces apart, and takes a message of a whole one to be of its keys", () => {
    const unheard = new Unheard(10)
    unheard.add("n", ["a"], 0)
    assert.isTrue(unheard.concerns({ _tag: "Namespace", namespace: "n" }, 9))
    assert.isFalse(unheard.concerns({ _tag: "Namespace", namespace: "n" }, 10))
    assert.isFalse(unheard.concerns({ _tag: "Namespace", namespace: "m" }, 0))
    assert.isFalse(unheard.concerns({ _tag: "Keys", namespace: "m", keys: ["a"] }, 0))
    assert.isFalse(unheard.concerns({ _tag: "All" }, 0))
  })

  it("of more keys than it can hold remembers every one", () => {
    const unheard = new Unheard(10, 2)
    unheard.add("n", ["a", "b"], 0)
    assert.isFalse(unheard.concerns(keys("z"), 0))
    unheard.add("n", ["c"], 5)
    for (const key of ["a", "b", "c", "z"]) assert.isTrue(unheard.concerns(keys(key), 14), key)
    for (const key of ["a", "b", "c", "z"]) assert.isFalse(unheard.concerns(keys(key), 15), key)
  })
})
