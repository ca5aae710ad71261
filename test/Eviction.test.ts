import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Eviction, type EvictionNode } from "../src/Eviction.ts"
import { hashOf } from "../src/KeyHash.ts"

interface Node extends EvictionNode<Node> {
  readonly key: number
}

const node = (key: number, charge = 1): Node => ({
  key,
  charge,
  hash: hashOf(key, 42),
  mark: 0,
  newer: undefined,
  older: undefined
})

/** What `MemoryCache` makes of an eviction, without all else: so many nodes, each read or else put. */
class Cache {
  readonly eviction = new Eviction<Node>()
  readonly nodes = new Map<number, Node>()
  readonly capacity: number

  constructor(capacity: number) {
    this.capacity = capacity
  }

  /** Whether it was there. */
  use(key: number): boolean {
    const found = this.nodes.get(key)
    if (found !== undefined) {
      this.eviction.hit(found)
      return true
    }
    const fresh = node(key)
    const isRoom = this.nodes.size < this.capacity
    this.eviction.inserted(fresh, isRoom)
    if (!isRoom) this.drop(this.eviction.victim(fresh), true)
    this.nodes.set(key, fresh)
    return false
  }

  drop(node: Node, wasEvicted: boolean): void {
    this.nodes.delete(node.key)
    this.eviction.removed(node, wasEvicted)
  }

  /** The share of these that were there. */
  play(keys: ReadonlyArray<number>): number {
    return keys.filter((key) => this.use(key)).length / keys.length
  }
}

const repeat = (length: number, keyAt: (i: number) => number): ReadonlyArray<number> =>
  Array.from({ length }, (_, i) => keyAt(i))

const draws = (seed: number) => {
  let state = seed
  return (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return (state >>> 0) / 2 ** 32
  }
}

/** Keys from 0 to `keys`, low ones much more often. */
const popular = (length: number, keys: number, seed = 1): ReadonlyArray<number> => {
  const draw = draws(seed)
  return repeat(length, () => Math.floor(keys ** draw()) - 1)
}

describe("Eviction", () => {
  it("gives up what came first, where nothing was used", () => {
    const cache = new Cache(100)
    cache.play(repeat(100, (i) => i))
    const older = repeat(90, (i) => i).filter((key) => cache.nodes.has(key)).length
    cache.play(repeat(10, (i) => 100 + i))
    assert.strictEqual(cache.nodes.size, 100)
    assert.isBelow(repeat(90, (i) => i).filter((key) => cache.nodes.has(key)).length, older + 1)
    assert.isTrue(cache.nodes.has(109))
  })

  it("never gives up the node that it is to spare, though it be the only one in its queue", () => {
    for (const capacity of [1, 2, 3]) {
      const cache = new Cache(capacity)
      for (let i = 0; i < 50; i++) {
        cache.use(i)
        assert.isTrue(cache.nodes.has(i))
        cache.use(i - 1)
        assert.isTrue(cache.nodes.has(i - 1))
      }
    }
  })

  it("loses nothing that is used to one scan, however long", () => {
    const warm = popular(20_000, 2000)
    for (const length of [500, 1500, 5000]) {
      const [scanned, spared] = [new Cache(500), new Cache(500)]
      for (const cache of [scanned, spared]) cache.play(warm)
      scanned.play(repeat(length, (i) => 100_000 + i))
      const after = popular(1000, 2000, 2)
      assert.isAbove(scanned.play(after), spared.play(after) - 0.01)
    }
  })

  it("keeps the part of a loop that fits, where plain recency would keep none", () => {
    const cache = new Cache(500)
    const loop = repeat(1000, (i) => i)
    cache.play(repeat(20_000, (i) => i % 1000))
    assert.isAbove(cache.play(loop), 0.4)
  })

  it("learns that keys are used again soon and never after, at whatever distance that fits", () => {
    for (const distance of [10, 100, 180]) {
      const cache = new Cache(200)
      const uses = (from: number, length: number) =>
        repeat(2 * length, (i) => from + (i % 2 === 0 ? i / 2 : (i - 1) / 2 - distance / 2))
      cache.play(uses(0, 20_000))
      assert.isAbove(cache.play(uses(20_000, 2000)), 0.45, `distance ${distance}`)
    }
  })

  it("turns from popularity to recency and back", () => {
    const cache = new Cache(500)
    const first = popular(30_000, 3000)
    cache.play(first)
    const before = cache.play(popular(5000, 3000, 3))
    cache.play(repeat(40_000, (i) => 10_000 + (i % 2 === 0 ? i / 2 : (i - 1) / 2 - 200)))
    assert.isAbove(cache.play(repeat(4000, (i) => 30_000 + (i % 2 === 0 ? i / 2 : (i - 1) / 2 - 200))), 0.4)
    cache.play(popular(30_000, 3000, 4))
    assert.isAbove(cache.play(popular(5000, 3000, 3)), before - 0.01)
  })

  it("takes in a new set of popular keys when the old one is used no more", () => {
    const cache = new Cache(500)
    cache.play(popular(50_000, 2000))
    const settled = cache.play(popular(5000, 2000, 5))
    cache.play(popular(10_000, 2000).map((key) => key + 50_000))
    assert.isAbove(cache.play(popular(5000, 2000, 5).map((key) => key + 50_000)), settled - 0.02)
  })

  it("brings a key back into main that returns soon after it was evicted", () => {
    const cache = new Cache(100)
    cache.play(repeat(100, (i) => i))
    for (let i = 0; i < 50; i++) cache.use(1000 + i)
    assert.isFalse(cache.nodes.has(1000))
    cache.use(1000)
    cache.play(repeat(60, (i) => 2000 + i))
    assert.isTrue(cache.nodes.has(1000))
  })

  it("takes what was removed for another reason than room for no ghost", () => {
    const cache = new Cache(100)
    cache.play(repeat(100, (i) => i))
    for (let i = 0; i < 50; i++) {
      cache.use(1000 + i)
      cache.drop(cache.nodes.get(1000 + i)!, false)
    }
    cache.use(1000)
    cache.play(repeat(60, (i) => 2000 + i))
    assert.isFalse(cache.nodes.has(1000))
  })

  it("keeps popular keys of a memory bounded in bytes, in which a few entries are large", () => {
    const eviction = new Eviction<Node>()
    const nodes = new Map<number, Node>()
    let [room, hits] = [10_000, 0]
    for (const key of popular(30_000, 3000)) {
      const found = nodes.get(key)
      if (found !== undefined) {
        hits++
        eviction.hit(found)
        continue
      }
      const fresh = node(key, key % 50 === 49 ? 500 : 10)
      eviction.inserted(fresh, fresh.charge <= room)
      while (fresh.charge > room) {
        const victim = eviction.victim(fresh)
        nodes.delete(victim.key)
        eviction.removed(victim, true)
        room += victim.charge
      }
      nodes.set(key, fresh)
      room -= fresh.charge
    }
    assert.isUndefined(eviction.problem())
    assert.isAbove(hits / 30_000, 0.6)
  })

  it("finds a victim in few steps, though all entries are in use", () => {
    const cache = new Cache(20_000)
    for (let round = 0; round < 5; round++) cache.play(repeat(20_000, (i) => i))
    const fresh = node(50_000)
    cache.eviction.inserted(fresh, false)
    const before = new Map(Array.from(cache.eviction.nodes(), (node) => [node, node.mark]))
    cache.eviction.victim(fresh)
    const touched = Array.from(cache.eviction.nodes()).filter((node) => node.mark !== before.get(node)).length
    assert.isAtLeast(touched, 1)
    assert.isAtMost(touched, 200)
    assert.isUndefined(cache.eviction.problem())
  })

  it("holds each node once and only what is there, under any calls", () => {
    const command = fc.record({
      kind: fc.constantFrom("insert", "insert", "insert", "hit", "hit", "replace", "remove", "evict"),
      at: fc.nat(30),
      charge: fc.constantFrom(1, 1, 2, 0.1, 7)
    })
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200, size: "max" }), (commands) => {
        const eviction = new Eviction<Node>()
        const held = new Map<number, Node>()
        for (const { at, charge, kind } of commands) {
          const found = held.get(at)
          const fresh = node(at, charge)
          if (kind === "insert" && found === undefined) {
            eviction.inserted(fresh, held.size < 8)
            if (held.size >= 8) {
              const victim = eviction.victim(fresh)
              assert.strictEqual(held.get(victim.key), victim)
              held.delete(victim.key)
              eviction.removed(victim, true)
            }
            held.set(at, fresh)
          } else if (found !== undefined && kind === "hit") eviction.hit(found)
          else if (found !== undefined && kind === "replace") {
            eviction.replaced(found, fresh)
            held.set(at, fresh)
            assert.deepStrictEqual([found.newer, found.older], [undefined, undefined])
          } else if (found !== undefined && kind !== "insert") {
            held.delete(at)
            eviction.removed(found, kind === "evict")
            assert.deepStrictEqual([found.newer, found.older], [undefined, undefined])
          }
          assert.isUndefined(eviction.problem())
          assert.sameMembers([...eviction.nodes()], [...held.values()])
        }
      })
    )
  })
})
