/**
 * What must hold of every cache once nothing is under way.
 *
 * - G7: memory is within its bounds and its books balance; no flight is in the
 *   air, no fence is open and nobody waits for a lease.
 * - G9: requests are hits and misses, loads are successes, failures and
 *   interrupted ones, in each namespace and in the sum over all.
 */
import { Effect } from "effect"
import { assert, type MockInstance, vi } from "vitest"
import type { CacheStats } from "../../src/CacheStats.ts"
import { Leases } from "../../src/Leases.ts"
import { LocalFences } from "../../src/LocalFence.ts"
import type { MemoryCache } from "../../src/MemoryCache.ts"
import type { Any } from "../../src/Namespace.ts"
import type { Operations } from "../../src/Operations.ts"
import { SingleFlight } from "../../src/SingleFlight.ts"

/** Watched from here on, because a cache shows its flights, fences and leases to nobody. */
const flights = vi.spyOn(SingleFlight.prototype, "takeOff")
const fences = vi.spyOn(LocalFences.prototype, "open")
const leases = vi.spyOn(Leases.prototype, "enter")

/** That no cache of this process has a flight in the air, a fence open or a load that waits for a lease. */
export const assertNothingUnderWay = (): void => {
  assert.strictEqual(underWay(flights), 0, "flights in the air")
  assert.strictEqual(openFences(), 0, "keys with open fences")
  assert.strictEqual(underWay(leases), 0, "keys waited for")
  flights.mockClear()
  fences.mockClear()
  leases.mockClear()
}

/** How many loads and lookups of this process's caches are under way. */
export const flightsInTheAir = (): number => underWay(flights)

/** How many keys of this process's caches have open fences. */
export const openFences = (): number => underWay(fences)

const underWay = (used: MockInstance): number =>
  [...new Set(used.mock.contexts as ReadonlyArray<{ readonly size: number }>)].reduce((sum, { size }) => sum + size, 0)

/** G7 and G9 for a cache that was used with these namespaces and no others. */
export const assertInvariants = (
  { cache, memory }: { readonly cache: Operations; readonly memory: MemoryCache["Service"] },
  namespaces: Iterable<Any<never, never>>
): Effect.Effect<void> =>
  Effect.gen(function* () {
    assertNothingUnderWay()
    memory.checkInvariants()
    assert.isAtMost(memory.entries, memory.maxEntries)
    assert.isAtMost(memory.size, memory.maxSize)

    const whole = yield* cache.stats
    assertAddsUp(whole)
    assert.strictEqual(whole.memory.entries, memory.entries)
    assert.strictEqual(whole.memory.size, memory.size)

    const names = new Map([...namespaces].map((namespace) => [namespace.name, namespace]))
    const parts = yield* Effect.forEach(names.values(), (namespace) => cache.statsOf(namespace))
    for (const part of parts) assertAddsUp(part)
    assert.deepStrictEqual(
      parts.map((part) => counts(part)).reduce(plus, new Map()),
      parts.length === 0 ? new Map() : counts(whole)
    )
  })

/** G9 for one snapshot. */
export const assertAddsUp = (stats: CacheStats, when = ""): void => {
  assert.strictEqual(stats.memory.requests, stats.memory.hits + stats.memory.misses, `memory.requests ${when}`)
  assert.strictEqual(stats.store.requests, stats.store.hits + stats.store.misses, `store.requests ${when}`)
  assert.strictEqual(stats.loads, stats.loadSuccess + stats.loadFailure + stats.loadInterrupted, `loads ${when}`)
  assert.isAtMost(stats.memory.hits + stats.store.hits, stats.lookups)
  for (const [name, count] of counts(stats)) assert.isAtLeast(count, 0, name)
}

/** Every count by its path; what is computed from counts, and what is of no namespace, is left out. */
const counts = (stats: object, path = ""): Map<string, number> =>
  new Map(
    Object.entries(stats).flatMap(([name, value]) =>
      name === "bus"
        ? []
        : typeof value === "object" && value !== null
          ? [...counts(value, `${path}${name}.`)]
          : name === "hitRate" || name === "meanLoadTime"
            ? []
            : [[`${path}${name}`, Number(value)] as const]
    )
  )

const plus = (a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): Map<string, number> =>
  new Map([...b].map(([name, count]) => [name, count + (a.get(name) ?? 0)]))
