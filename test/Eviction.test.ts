import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { lru, type LruLinks } from "../src/Eviction.ts"

interface Node extends LruLinks<Node> {
  readonly name: number
}

const node = (name: number): Node => ({ name, newer: undefined, older: undefined })

const names = (nodes: Iterable<Node>): ReadonlyArray<number> => Array.from(nodes, (node) => node.name)

describe("lru", () => {
  it("has no victim when it is empty", () => {
    const order = lru<Node>()
    assert.isUndefined(order.victim())
    assert.deepStrictEqual(names(order.nodes()), [])
  })

  it("gives up the node that was not used for the longest time", () => {
    const order = lru<Node>()
    const [a, b, c] = [node(1), node(2), node(3)] as const
    for (const each of [a, b, c]) order.inserted(each)
    order.hit(a)
    assert.strictEqual(order.victim(), b)
    order.removed(b)
    assert.strictEqual(order.victim(), c)
    order.hit(c)
    assert.strictEqual(order.victim(), a)
  })

  it("does not choose the victim itself: asking again gives the same node until it is removed", () => {
    const order = lru<Node>()
    order.inserted(node(1))
    order.inserted(node(2))
    assert.strictEqual(order.victim(), order.victim())
  })

  it("counts an overwrite as a use", () => {
    const order = lru<Node>()
    const [a, b, c] = [node(1), node(2), node(3)] as const
    order.inserted(a)
    order.inserted(b)
    order.replaced(a, c)
    assert.deepStrictEqual(names(order.nodes()), [2, 3])
  })

  it("lets go of the nodes it gave up", () => {
    const order = lru<Node>()
    const [a, b, c] = [node(1), node(2), node(3)] as const
    for (const each of [a, b, c]) order.inserted(each)
    for (const each of [b, a, c]) order.removed(each)
    for (const each of [a, b, c]) {
      assert.isUndefined(each.newer)
      assert.isUndefined(each.older)
    }
  })

  it("keeps the order of a plain list under any calls", () => {
    const command = fc.record({
      kind: fc.constantFrom("insert", "hit", "replace", "remove", "evict"),
      at: fc.nat(20)
    })
    fc.assert(
      fc.property(fc.array(command, { maxLength: 100, size: "max" }), (commands) => {
        const order = lru<Node>()
        const expected: Array<Node> = []
        let next = 0
        for (const { kind, at } of commands) {
          const place = expected.length === 0 ? -1 : at % expected.length
          if (kind === "insert") {
            const fresh = node(next++)
            order.inserted(fresh)
            expected.push(fresh)
          } else if (place >= 0) {
            const victim = kind === "evict" ? 0 : place
            const [chosen] = expected.splice(victim, 1)
            if (kind === "evict") assert.strictEqual(order.victim(), chosen)
            if (kind === "hit") {
              order.hit(chosen!)
              expected.push(chosen!)
            } else if (kind === "replace") {
              const fresh = node(next++)
              order.replaced(chosen!, fresh)
              expected.push(fresh)
            } else order.removed(chosen!)
          }
          assert.deepStrictEqual(names(order.nodes()), names(expected))
          assert.strictEqual(order.victim(), expected[0])
        }
      })
    )
  })
})
