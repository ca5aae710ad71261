import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import {
  entryOverhead,
  type KeyId,
  MemoryCache,
  type NewMemoryEntry,
  type Partition,
  type RemovalCause,
  tagOverhead
} from "../src/MemoryCache.ts"
import { tickMillis } from "../src/TimerWheel.ts"

const entry = <A>(
  value: A,
  { expiresAt = Infinity, ...options }: Partial<Omit<NewMemoryEntry<A>, "value" | "createdAt">> = {}
): NewMemoryEntry<A> => ({ value, createdAt: 0, expiresAt, size: 0, tags: [], ...options })

const unbounded = { maxEntries: 1000, maxSize: Infinity }

const idsOf = (partition: Partition<never> | Partition<unknown>): ReadonlyArray<KeyId> => [...partition.ids()]

const none = { explicit: 0, replaced: 0, expired: 0, size: 0, remote: 0 }

describe("MemoryCache", () => {
  describe("a partition", () => {
    it("gives back what was put, with a prebuilt effect that is the same at every hit", () => {
      const genes = MemoryCache.make(unbounded).partition<{ readonly symbol: string }>("genes")
      const value = { symbol: "BRCA1" }
      assert.isTrue(genes.put(1, { value, createdAt: 5, expiresAt: 90, size: 17, tags: ["a"] }, 10))
      const found = genes.get(1, 20)!
      assert.strictEqual(found.value, value)
      assert.strictEqual(found.hit, genes.get(1, 21)!.hit)
      assert.strictEqual(Effect.runSync(found.hit), value)
      assert.isTrue(Exit.isSuccess(found.hit))
      assert.deepStrictEqual([found.createdAt, found.expiresAt, found.size, found.tags], [5, 90, 17, ["a"]])
      assert.isUndefined(genes.get(2, 20))
    })

    it("keeps undefined, null and false as values", () => {
      const values = MemoryCache.make(unbounded).partition<unknown>("values")
      for (const [id, value] of [undefined, null, false].entries()) {
        values.put(id, entry(value), 0)
        assert.strictEqual(values.get(id, 0)!.value, value)
      }
    })

    it("is the same one for the same name, and never sees another one's entries", () => {
      const memory = MemoryCache.make(unbounded)
      const names = ["a", "b", "", "__proto__", "constructor", "toString"]
      for (const name of names) memory.partition<string>(name).put("key", entry(name), 0)
      for (const name of names) {
        assert.strictEqual(memory.partition(name), memory.partition(name))
        assert.strictEqual(memory.partition<string>(name).get("key", 0)!.value, name)
      }
      assert.strictEqual(memory.partition("a").clear("explicit"), 1)
      assert.isTrue(memory.partition("b").remove("key", "explicit"))
      for (const name of names.slice(2)) assert.deepStrictEqual(idsOf(memory.partition(name)), ["key"])
      assert.strictEqual(memory.entries, names.length - 2)
      memory.checkInvariants()
    })

    it("tells a number from the text of it, and takes any text for a key", () => {
      const partition = MemoryCache.make(unbounded).partition<KeyId>("keys")
      const ids: ReadonlyArray<KeyId> = [1, "1", "", "__proto__", "a\u0000b", "NaN", NaN]
      for (const id of ids) partition.put(id, entry(id), 0)
      for (const id of ids) assert.deepStrictEqual(partition.get(id, 0)!.value, id)
      assert.strictEqual(partition.entries, ids.length)
    })

    it("does not give back an entry at or after its expiry, and counts it as expired once", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      partition.put(1, entry("x", { expiresAt: 100 }), 0)
      assert.isDefined(partition.get(1, 99))
      assert.isUndefined(partition.get(1, 100))
      assert.isUndefined(partition.get(1, 101))
      assert.deepStrictEqual(partition.removals, { ...none, expired: 1 })
      assert.strictEqual(partition.entries, 0)
      memory.checkInvariants()
    })

    it("counts an overwrite as replaced, or as expired if the older entry had expired", () => {
      const partition = MemoryCache.make(unbounded).partition<string>("a")
      partition.put(1, entry("old", { expiresAt: 100 }), 0)
      const held = partition.get(1, 0)!
      partition.put(1, entry("new", { expiresAt: 100 }), 0)
      assert.strictEqual(held.value, "old")
      assert.strictEqual(partition.get(1, 0)!.value, "new")
      assert.deepStrictEqual(partition.removals, { ...none, replaced: 1 })
      partition.put(1, entry("newer"), 200)
      assert.deepStrictEqual(partition.removals, { ...none, replaced: 1, expired: 1 })
      assert.strictEqual(partition.puts, 3)
    })

    it("counts removals under the cause that it is given", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      for (const id of [1, 2, 3, 4]) partition.put(id, entry("x"), 0)
      assert.isTrue(partition.remove(1, "explicit"))
      assert.isFalse(partition.remove(1, "explicit"))
      assert.isTrue(partition.remove(2, "remote"))
      assert.strictEqual(partition.clear("remote"), 2)
      assert.strictEqual(partition.clear("remote"), 0)
      assert.deepStrictEqual(partition.removals, { ...none, explicit: 1, remote: 3 })
      memory.checkInvariants()
    })

    it("refuses an entry that has already expired or whose expiry is no time, and drops the older one", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      for (const expiresAt of [50, 49, -1, NaN]) {
        partition.put(1, entry("old"), 50)
        assert.isFalse(partition.put(1, entry("late", { expiresAt }), 50))
        assert.isUndefined(partition.get(1, 50))
      }
      assert.strictEqual(partition.puts, 4)
      assert.deepStrictEqual(partition.removals, { ...none, replaced: 4 })
      memory.checkInvariants()
    })
  })

  describe("expire", () => {
    const details = { loadTime: 7, retryAt: 500, validators: { etag: "a" } }

    it("makes an entry stale from now on, and keeps it until its end for those who have asked the others", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      const times = { freshUntil: 100, vouchedUntil: 80, hitUntil: 60, expiresAt: 200 }
      partition.put(1, entry("x", { ...times, tags: ["t"], details }), 0)
      assert.isTrue(partition.expire(1, 10, "explicit"))
      const { details: after, expiresAt, freshUntil, hitUntil, tags, value, vouchedUntil } = partition.get(1, 10)!
      assert.deepStrictEqual([value, tags, freshUntil, expiresAt], ["x", ["t"], 10, 200])
      assert.deepStrictEqual([vouchedUntil, hitUntil], [-Infinity, -Infinity])
      assert.deepStrictEqual(after, { ...details, retryAt: undefined })
      assert.isFalse(partition.expire(1, 20, "explicit"))
      assert.strictEqual(partition.get(1, 199)!.freshUntil, 10)
      assert.isUndefined(partition.get(1, 200))
      assert.deepStrictEqual(partition.removals, { ...none, expired: 1 })
      memory.checkInvariants()
    })

    it("takes the rest from an entry that is stale already: it is to be loaded anew", () => {
      const partition = MemoryCache.make(unbounded).partition("a")
      partition.put(1, entry("x", { freshUntil: 100, vouchedUntil: 1000, hitUntil: 500, expiresAt: 900, details }), 0)
      assert.isFalse(partition.expire(1, 100, "explicit"))
      const { details: after, freshUntil, hitUntil, vouchedUntil } = partition.get(1, 100)!
      assert.deepStrictEqual([freshUntil, vouchedUntil, hitUntil], [100, -Infinity, -Infinity])
      assert.isUndefined(after.retryAt)
    })

    it("removes what has no reserve, for the cause that it is given, and says whether it was fresh", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      const failure = Exit.fail("no") as Exit.Failure<never, string>
      partition.put("no reserve", entry("x", { expiresAt: 100, freshUntil: 100 }), 0)
      partition.put("fresh for longer than memory has it", entry("x", { expiresAt: 100, freshUntil: 400 }), 0)
      partition.put("a failure", entry("x", { expiresAt: 100, freshUntil: 50, details: { failure } }), 0)
      partition.put("a failure for good", entry("x", { details: { failure } }), 0)
      for (const id of partition.ids()) assert.isTrue(partition.expire(id, 10, "remote"), String(id))
      assert.isFalse(partition.expire("absent", 10, "remote"))
      partition.put("expired", entry("x", { expiresAt: 100 }), 0)
      assert.isFalse(partition.expire("expired", 100, "remote"))
      assert.deepStrictEqual(partition.removals, { ...none, remote: 4, expired: 1 })
      assert.strictEqual(memory.entries, 0)
      memory.checkInvariants()
    })

    it("keeps what was fresh for good as a reserve for as long as memory would have had it", () => {
      const partition = MemoryCache.make(unbounded).partition("a")
      partition.put(1, entry("x", { expiresAt: 300, freshUntil: Infinity }), 0)
      assert.isTrue(partition.expire(1, 10, "explicit"))
      assert.deepInclude(partition.get(1, 20), { freshUntil: 10, expiresAt: 300 })
    })

    it("is not undone by a clock that goes back", () => {
      const partition = MemoryCache.make(unbounded).partition("a")
      partition.put(1, entry("x", { freshUntil: 500, expiresAt: 900 }), 0)
      partition.expire(1, 100, "explicit")
      const { hitUntil, vouchedUntil } = partition.get(1, 50)!
      assert.isTrue(50 >= vouchedUntil && 50 >= hitUntil)
    })
  })

  describe("tags", () => {
    it("find the entries that have one of them, each once, as they are now", () => {
      const memory = MemoryCache.make(unbounded)
      const [a, b] = [memory.partition("a"), memory.partition("b")]
      a.put(1, entry("x", { tags: ["t"] }), 0)
      a.put(2, entry("x", { tags: ["t", "u", "t"] }), 0)
      a.put(3, entry("x"), 0)
      b.put(4, entry("x", { tags: ["t"] }), 0)
      assert.deepStrictEqual(a.tagged(["t"]), [1, 2])
      assert.deepStrictEqual(a.tagged(["u", "t", "v"]), [2, 1])
      assert.deepStrictEqual([a.tagged([]), a.tagged(["v"]), a.tagged(["__proto__"])], [[], [], []])
      a.put(1, entry("y", { tags: ["u"] }), 0)
      assert.deepStrictEqual([a.tagged(["t"]), a.tagged(["u"])], [[2], [2, 1]])
      a.remove(2, "explicit")
      assert.deepStrictEqual([a.tagged(["t"]), a.tagged(["u"])], [[], [1]])
      a.clear("explicit")
      assert.deepStrictEqual([a.tagged(["u"]), b.tagged(["t"])], [[], [4]])
      memory.checkInvariants()
    })

    it("are those that the entry was put with, whatever becomes of the caller's array", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      const tags = ["t"]
      partition.put(1, entry("x", { tags }), 0)
      tags[0] = "other"
      assert.deepStrictEqual([partition.tagged(["t"]), partition.tagged(["other"])], [[1], []])
      partition.remove(1, "explicit")
      memory.checkInvariants()
    })

    it("count, so that many of them cannot exceed the bounds", () => {
      const memory = MemoryCache.make({ maxEntries: 10, maxSize: entryOverhead + 3 * tagOverhead })
      const partition = memory.partition("a")
      assert.isTrue(partition.put(1, entry("x", { tags: ["t", "u", "v"] }), 0))
      assert.deepStrictEqual([memory.size, partition.size], [memory.maxSize, memory.maxSize])
      assert.isFalse(partition.put(2, entry("x", { tags: ["t", "u", "v", "w"] }), 0))
      assert.isTrue(partition.put(3, entry("x"), 0))
      assert.strictEqual(memory.size, entryOverhead)
      memory.checkInvariants()
    })
  })

  describe("bounds", () => {
    it("shares its room among all partitions, and keeps what was used in each of them", () => {
      const memory = MemoryCache.make({ maxEntries: 10, maxSize: Infinity, seed: 1 })
      const partitions = [memory.partition("a"), memory.partition("b")]
      for (const partition of partitions) {
        partition.put("used", entry("x"), 0)
        for (let i = 0; i < 3; i++) partition.get("used", 0)
      }
      for (let i = 0; i < 100; i++) partitions[i % 2]!.put(i, entry("x"), 0)
      for (const partition of partitions) assert.isDefined(partition.get("used", 0))
      assert.strictEqual(memory.entries, 10)
      assert.strictEqual(partitions[0]!.removals.size + partitions[1]!.removals.size, 92)
      memory.checkInvariants()
    })

    it("evicts the same at the same calls, where the seed is the same", () => {
      const survivors = (seed: number) => {
        const partition = MemoryCache.make({ maxEntries: 50, maxSize: Infinity, seed }).partition("a")
        for (let i = 0; i < 5000; i++) {
          const id = (i * i) % 211
          if (partition.get(id, 0) === undefined) partition.put(id, entry("x"), 0)
        }
        return idsOf(partition)
      }
      assert.deepStrictEqual(survivors(7), survivors(7))
    })

    describe("take a key that returns soon after it was evicted for one worth keeping", () => {
      /** Whether "key" outlives many newer entries, when it is put into `again` after it has left "a" as `leave` says. */
      const outlives = (
        leave: (memory: MemoryCache["Service"], key: NewMemoryEntry<string>) => void,
        again: string
      ): boolean => {
        const memory = MemoryCache.make({ maxEntries: 100, maxSize: Infinity, seed: 1 })
        const others = memory.partition("others")
        for (let i = 0; i < 100; i++) others.put(i, entry("x"), 0)
        leave(memory, entry("x"))
        assert.isUndefined(memory.partition("a").get("key", 0))
        memory.partition(again).put("key", entry("x"), 0)
        for (let i = 0; i < 60; i++) others.put(1000 + i, entry("x"), 0)
        return memory.partition(again).get("key", 0) !== undefined
      }

      const evict = (memory: MemoryCache["Service"], key: NewMemoryEntry<string>): void => {
        memory.partition("a").put("key", key, 0)
        for (let i = 0; i < 50; i++) memory.partition("others").put(500 + i, entry("x"), 0)
      }

      it("in its own partition alone", () => {
        assert.isTrue(outlives(evict, "a"))
        assert.isFalse(outlives(evict, "b"))
      })

      it("but not one that was removed or has expired", () => {
        const remove = (memory: MemoryCache["Service"], key: NewMemoryEntry<string>) => {
          memory.partition("a").put("key", key, 0)
          memory.partition("a").remove("key", "explicit")
        }
        const expire = (memory: MemoryCache["Service"], key: NewMemoryEntry<string>) => {
          memory.partition("a").put("key", { ...key, expiresAt: 10 }, 0)
          for (let i = 0; i < 50; i++) memory.partition("others").put(500 + i, entry("x"), 10)
          assert.strictEqual(memory.partition("a").removals.expired, 1)
        }
        assert.isFalse(outlives(remove, "a"))
        assert.isFalse(outlives(expire, "a"))
      })
    })

    it("holds as much as it may, however little that is", () => {
      for (const maxEntries of [1, 2, 3, 10]) {
        const memory = MemoryCache.make({ maxEntries, maxSize: Infinity })
        const partition = memory.partition("a")
        for (let i = 0; i < 1000; i++) {
          const id = i % 7 === 0 ? "hot" : i % 23
          if (partition.get(id, 0) === undefined) partition.put(id, entry("x"), 0)
          assert.isDefined(partition.get(id, 0))
          memory.checkInvariants()
        }
        assert.strictEqual(memory.entries, maxEntries)
      }
    })

    it("counts the overhead of each entry, and evicts as many as a large one needs", () => {
      const memory = MemoryCache.make({ maxEntries: 100, maxSize: 4 * (entryOverhead + 100) })
      const partition = memory.partition("a")
      for (const id of [1, 2, 3, 4]) partition.put(id, entry("x", { size: 100 }), 0)
      assert.strictEqual(memory.size, memory.maxSize)
      assert.isTrue(partition.put(5, entry("x", { size: 101 + entryOverhead + 100 }), 0))
      assert.deepStrictEqual([partition.entries, idsOf(partition).includes(5)], [2, true])
      assert.strictEqual(partition.size, memory.size)
      assert.deepStrictEqual(partition.removals, { ...none, size: 3 })
    })

    it("refuses an entry that alone exceeds maxSize, evicts nothing for it, and drops the older one", () => {
      const memory = MemoryCache.make({ maxEntries: 100, maxSize: 1000 })
      const partition = memory.partition("a")
      partition.put(1, entry("x"), 0)
      partition.put(2, entry("x"), 0)
      assert.isFalse(partition.put(1, entry("x", { size: 1001 - entryOverhead }), 0))
      assert.deepStrictEqual(idsOf(partition), [2])
      assert.isTrue(partition.put(1, entry("x", { size: 1000 - entryOverhead }), 0))
      assert.deepStrictEqual(idsOf(partition), [1])
      memory.checkInvariants()
    })

    it("does not evict another entry when an overwrite fits into the room of the older one", () => {
      const memory = MemoryCache.make({ maxEntries: 2, maxSize: 2 * entryOverhead + 20 })
      const partition = memory.partition("a")
      partition.put(1, entry("x", { size: 10 }), 0)
      partition.put(2, entry("x", { size: 10 }), 0)
      partition.put(1, entry("x", { size: 5 }), 0)
      partition.put(1, entry("x", { size: 10 }), 0)
      assert.deepStrictEqual(idsOf(partition), [1, 2])
      assert.deepStrictEqual(partition.removals, { ...none, replaced: 2 })
    })

    it("makes room for an overwrite that is larger, but never by the entry itself", () => {
      const memory = MemoryCache.make({ maxEntries: 3, maxSize: 3 * entryOverhead + 30 })
      const partition = memory.partition("a")
      for (const id of [1, 2, 3]) partition.put(id, entry("x", { size: 10 }), 0)
      assert.isTrue(partition.put(1, entry("x", { size: 20 }), 0))
      assert.strictEqual(partition.get(1, 0)!.size, 20)
      assert.strictEqual(partition.entries, 2)
      assert.deepStrictEqual(partition.removals, { ...none, replaced: 1, size: 1 })
      memory.checkInvariants()
    })

    it("keeps nothing when nothing is allowed", () => {
      for (const bounds of [
        { maxEntries: 0, maxSize: Infinity },
        { maxEntries: 10, maxSize: 0 }
      ]) {
        const memory = MemoryCache.make(bounds)
        assert.isFalse(memory.partition("a").put(1, entry("x"), 0))
        assert.strictEqual(memory.entries, 0)
        memory.checkInvariants()
      }
    })

    it("reclaims expired entries before it evicts a living one", () => {
      const memory = MemoryCache.make({ maxEntries: 3, maxSize: Infinity })
      const partition = memory.partition("a")
      partition.put("old but living", entry("x"), 0)
      partition.put("short", entry("x", { expiresAt: 100 }), 0)
      partition.put("shorter", entry("x", { expiresAt: 50 }), 0)
      partition.put("new", entry("x"), 2 * tickMillis)
      assert.deepStrictEqual(idsOf(partition), ["old but living", "new"])
      assert.deepStrictEqual(partition.removals, { ...none, expired: 2 })
    })

    it("counts a victim that had expired as expired", () => {
      const memory = MemoryCache.make({ maxEntries: 1, maxSize: Infinity })
      const partition = memory.partition("a")
      partition.put(1, entry("x", { expiresAt: 10 }), 0)
      partition.put(2, entry("x"), 10)
      assert.deepStrictEqual(partition.removals, { ...none, expired: 1 })
    })
  })

  describe("removeExpired", () => {
    it("removes every expired entry of every partition and says how many", () => {
      const memory = MemoryCache.make(unbounded)
      for (const [at, name] of ["a", "b"].entries()) {
        const partition = memory.partition(name)
        partition.put(1, entry("x", { expiresAt: 1000 + at }), 0)
        partition.put(2, entry("x", { expiresAt: 1_000_000 }), 0)
        partition.put(3, entry("x"), 0)
      }
      assert.strictEqual(memory.removeExpired(999), 0)
      assert.strictEqual(memory.removeExpired(1000), 1)
      assert.strictEqual(memory.removeExpired(500_000), 1)
      assert.strictEqual(memory.removeExpired(1e15), 2)
      assert.strictEqual(memory.entries, 2)
      memory.checkInvariants()
    })

    it("does not look at living entries", () => {
      const memory = MemoryCache.make({ maxEntries: Infinity, maxSize: Infinity })
      const partition = memory.partition("a")
      let looked = 0
      for (let i = 0; i < 5000; i++) partition.put(`living ${i}`, entry("x", { expiresAt: 10 * 60_000 + i }), 0)
      for (let i = 0; i < 10; i++) partition.put(`short ${i}`, entry("x", { expiresAt: 1000 + i }), 0)
      for (const id of partition.ids()) {
        const node = partition.get(id, 0)!
        const expiresAt = node.expiresAt
        Object.defineProperty(node, "expiresAt", {
          get: () => {
            looked++
            return expiresAt
          }
        })
      }
      assert.strictEqual(memory.removeExpired(30_000), 10)
      assert.isAtLeast(looked, 10)
      assert.isAtMost(looked, 50)
      assert.strictEqual(memory.entries, 5000)
    })
  })

  describe("a clock that goes back", () => {
    it("brings back nothing that had expired, whoever saw the later time", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      partition.put(1, entry("x", { expiresAt: 100 }), 0)
      memory.partition("b").get("other", 100)
      assert.isUndefined(partition.get(1, 50))
      assert.deepStrictEqual(partition.removals, { ...none, expired: 1 })
    })

    it("lets the living live, and lets them expire when their time comes", () => {
      const memory = MemoryCache.make(unbounded)
      const partition = memory.partition("a")
      const year = 365 * 24 * 3_600_000
      partition.put(1, entry("x", { expiresAt: year + 100_000 }), year)
      partition.put(2, entry("x", { expiresAt: 1000 }), 0)
      assert.isDefined(partition.get(1, 0))
      memory.checkInvariants()
      assert.strictEqual(memory.removeExpired(1000), 1)
      assert.isDefined(partition.get(1, year + 99_999))
      assert.strictEqual(memory.removeExpired(year + 100_000), 1)
    })
  })

  it("agrees with a plain model under any calls and any moves of the clock", () => {
    fc.assert(
      fc.property(bounds, fc.array(command, { maxLength: 120, size: "max" }), (bounds, commands) => {
        const memory = MemoryCache.make(bounds)
        const model = new Model(bounds.maxEntries, bounds.maxSize)
        let now = Date.UTC(2026, 0, 1)
        for (const command of commands) {
          const partition = memory.partition<number>(command.namespace)
          switch (command.kind) {
            case "put": {
              const { size, tags } = command
              const freshUntil = now + command.timeToLive
              const expiresAt = freshUntil + command.staleFor
              const hitUntil = now + command.hitFor
              const fresh = entry(command.value, { size, tags, freshUntil, expiresAt, hitUntil })
              const kept = partition.put(command.id, fresh, now)
              const ids = new Map(namespaces.map((name) => [name as string, new Set(memory.partition(name).ids())]))
              const isThere = ({ id, namespace }: Kept) => ids.get(namespace)!.has(id)
              assert.strictEqual(model.put(command.namespace, command.id, fresh, now, isThere), kept)
              break
            }
            case "hit":
              assert.strictEqual(
                seen(partition.hit(command.id, now)),
                seen(model.hit(command.namespace, command.id, now))
              )
              break
            case "get":
              assert.strictEqual(
                seen(partition.get(command.id, now)),
                seen(model.get(command.namespace, command.id, now))
              )
              break
            case "expire":
              assert.strictEqual(
                partition.expire(command.id, now, command.cause),
                model.expire(command.namespace, command.id, now, command.cause)
              )
              break
            case "remove":
              assert.strictEqual(
                partition.remove(command.id, command.cause),
                model.remove(command.namespace, command.id, command.cause)
              )
              break
            case "clear":
              assert.strictEqual(partition.clear(command.cause), model.clear(command.namespace, command.cause))
              break
            case "removeExpired":
              assert.strictEqual(memory.removeExpired(now), model.removeExpired(now))
              break
            case "clock":
              now = Math.max(0, now + command.by)
          }
          memory.checkInvariants()
          assert.strictEqual(memory.entries, model.list.length)
          for (const namespace of namespaces) {
            const partition = memory.partition(namespace)
            assert.sameMembers([...partition.ids()], model.idsOf(namespace))
            assert.deepStrictEqual(partition.removals, model.removalsOf(namespace))
            for (const tags of [["t"], ["u", "v"]]) {
              assert.strictEqual(shown(partition.tagged(tags)), shown(model.taggedOf(namespace, tags)))
            }
          }
        }
      }),
      { numRuns: 400 }
    )
  })

  describe("layer", () => {
    const options = { maxEntries: 100, maxSize: 1_000_000, cleanupInterval: "60 seconds" } as const

    it.effect("removes expired entries in the background, without any read", () =>
      Effect.gen(function* () {
        const memory = yield* MemoryCache
        const partition = memory.partition("a")
        for (let i = 0; i < 10; i++) partition.put(i, entry("x", { expiresAt: 30_000 + i * 10_000 }), 0)
        yield* TestClock.adjust("59 seconds")
        assert.strictEqual(memory.entries, 10)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(idsOf(partition), [4, 5, 6, 7, 8, 9])
        yield* TestClock.adjust("60 seconds")
        assert.strictEqual(memory.entries, 0)
        assert.deepStrictEqual(partition.removals, { ...none, expired: 10 })
      }).pipe(Effect.provide(MemoryCache.layer(options)))
    )

    it.effect("stops when its scope closes", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(MemoryCache.layer(options), scope)
        const memory = yield* Effect.provide(MemoryCache, context)
        memory.partition("a").put(1, entry("x", { expiresAt: 1 }), 0)
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(memory.entries, 1)
      })
    )

    it.effect("has the bounds that it is given", () =>
      Effect.gen(function* () {
        const memory = yield* MemoryCache
        assert.deepStrictEqual([memory.maxEntries, memory.maxSize], [100, 1_000_000])
      }).pipe(Effect.provide(MemoryCache.layer(options)))
    )
  })
})

const namespaces = ["a", "b", "__proto__"] as const

const bounds = fc.record({
  maxEntries: fc.integer({ min: 0, max: 8 }),
  maxSize: fc.oneof(fc.constant(Infinity), fc.integer({ min: 0, max: 15 * entryOverhead }))
})

const milliseconds = fc.oneof(
  fc.nat(5),
  fc.nat(3 * tickMillis),
  fc.nat(100 * tickMillis),
  fc.nat(10_000_000),
  fc.nat({ max: 2_000_000_000 })
)

const cause: fc.Arbitrary<RemovalCause> = fc.constantFrom("explicit", "remote")

const target = {
  namespace: fc.constantFrom(...namespaces),
  id: fc.constantFrom<KeyId>(1, "1", 2, 3, 4, "5")
}

const put = fc.record({
  kind: fc.constant("put" as const),
  ...target,
  value: fc.nat(),
  size: fc.oneof(fc.nat(20), fc.nat(3 * entryOverhead)),
  timeToLive: fc.oneof({ weight: 4, arbitrary: milliseconds }, fc.constant(Infinity), fc.constant(-1)),
  staleFor: fc.oneof(fc.constant(0), milliseconds),
  hitFor: fc.oneof(milliseconds, fc.constant(Infinity), fc.constant(-Infinity)),
  tags: fc.oneof(fc.constant([]), fc.subarray(["t", "u", "v"]))
})

const command = fc.oneof(
  { weight: 8, arbitrary: put },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("get" as const), ...target }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("hit" as const), ...target }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), ...target, cause }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("expire" as const), ...target, cause }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear" as const), ...target, cause }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("removeExpired" as const), ...target }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("clock" as const), ...target, by: milliseconds }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("clock" as const), ...target, by: milliseconds.map((by) => -by) })
  }
)

interface Kept extends NewMemoryEntry<number> {
  readonly namespace: string
  readonly id: KeyId
}

const seen = (entry: NewMemoryEntry<number> | undefined) =>
  entry === undefined ? "nothing" : `${entry.value}, fresh until ${entry.freshUntil}, vouched ${entry.vouchedUntil}`

const shown = (ids: ReadonlyArray<KeyId>) =>
  ids
    .map((id) => `${typeof id} ${id}`)
    .toSorted()
    .join()

const weightOf = ({ size, tags }: NewMemoryEntry<number>): number => size + entryOverhead + tags.length * tagOverhead

const sizeOf = (list: ReadonlyArray<NewMemoryEntry<number>>): number =>
  list.reduce((sum, kept) => sum + weightOf(kept), 0)

/** The same, written for plainness: one list. Who leaves for want of room it is told, and says if that was needed. */
class Model {
  list: ReadonlyArray<Kept> = []
  latest = 0
  private readonly removals = new Map<string, Record<RemovalCause, number>>()
  private readonly maxEntries: number
  private readonly maxSize: number

  constructor(maxEntries: number, maxSize: number) {
    this.maxEntries = maxEntries
    this.maxSize = maxSize
  }

  put(
    namespace: string,
    id: KeyId,
    entry: NewMemoryEntry<number>,
    now: number,
    isThere: (kept: Kept) => boolean
  ): boolean {
    this.observe(now)
    this.drop((kept) => Math.floor(kept.expiresAt / tickMillis) < Math.floor(now / tickMillis), "expired")
    const isOlder = (kept: Kept): boolean => kept.namespace === namespace && kept.id === id
    this.drop((kept) => isOlder(kept) && kept.expiresAt <= now, "expired")
    this.drop(isOlder, "replaced")
    const size = weightOf(entry)
    if (entry.expiresAt <= now || size > this.maxSize || this.maxEntries === 0) return false
    const needsRoom = (list: ReadonlyArray<Kept>) =>
      list.length >= this.maxEntries || sizeOf(list) + size > this.maxSize
    const victims = this.list.filter((kept) => !isThere(kept))
    const left = this.list.filter(isThere)
    assert.isFalse(needsRoom(left), "too few have left")
    if (victims.length > 0) {
      assert.isTrue(
        victims.some((victim) => needsRoom([...left, victim])),
        "more have left than had to"
      )
    }
    for (const victim of victims) this.drop((kept) => kept === victim, victim.expiresAt <= now ? "expired" : "size")
    this.list = [...this.list, { ...entry, vouchedUntil: entry.expiresAt, namespace, id }]
    return true
  }

  get(namespace: string, id: KeyId, now: number): Kept | undefined {
    this.observe(now)
    const found = this.list.find((kept) => kept.namespace === namespace && kept.id === id)
    if (found === undefined) return undefined
    if (found.expiresAt <= now) {
      this.drop((kept) => kept === found, "expired")
      return undefined
    }
    return found
  }

  hit(namespace: string, id: KeyId, now: number): Kept | undefined {
    this.observe(now)
    const isHit = (kept: Kept) => now < kept.hitUntil! && now < kept.expiresAt
    return this.list.find((kept) => kept.namespace === namespace && kept.id === id && isHit(kept))
  }

  remove(namespace: string, id: KeyId, cause: RemovalCause): boolean {
    return this.drop((kept) => kept.namespace === namespace && kept.id === id, cause) > 0
  }

  expire(namespace: string, id: KeyId, now: number, cause: RemovalCause): boolean {
    this.observe(now)
    const found = this.list.find((kept) => kept.namespace === namespace && kept.id === id)
    if (found === undefined) return false
    const freshUntil = found.freshUntil!
    const staysUntil = freshUntil < found.expiresAt || freshUntil === Infinity ? found.expiresAt : now
    if (found.expiresAt <= now) this.drop((kept) => kept === found, "expired")
    else if (staysUntil <= now) this.drop((kept) => kept === found, cause)
    else {
      const stale = { ...found, freshUntil: Math.min(freshUntil, now), vouchedUntil: -Infinity, hitUntil: -Infinity }
      this.list = this.list.map((kept) => (kept === found ? stale : kept))
    }
    return freshUntil > now && found.expiresAt > now
  }

  taggedOf(namespace: string, tags: ReadonlyArray<string>): Array<KeyId> {
    const isTagged = (kept: Kept) => kept.namespace === namespace && kept.tags.some((tag) => tags.includes(tag))
    return this.list.filter(isTagged).map((kept) => kept.id)
  }

  clear(namespace: string, cause: RemovalCause): number {
    return this.drop((kept) => kept.namespace === namespace, cause)
  }

  removeExpired(now: number): number {
    return this.observe(now) + this.drop((kept) => kept.expiresAt <= now, "expired")
  }

  idsOf(namespace: string): Array<KeyId> {
    return this.list.filter((kept) => kept.namespace === namespace).map((kept) => kept.id)
  }

  removalsOf(namespace: string): Record<RemovalCause, number> {
    return this.removals.get(namespace) ?? none
  }

  private observe(now: number): number {
    const { latest } = this
    this.latest = now
    return now < latest ? this.drop((kept) => kept.expiresAt <= latest, "expired") : 0
  }

  private drop(leaves: (kept: Kept) => boolean, cause: RemovalCause): number {
    const leaving = this.list.filter(leaves)
    for (const { namespace } of leaving) {
      const counts = this.removals.get(namespace) ?? { ...none }
      counts[cause]++
      this.removals.set(namespace, counts)
    }
    this.list = this.list.filter((kept) => !leaving.includes(kept))
    return leaving.length
  }
}
