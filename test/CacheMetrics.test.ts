import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Metric, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as CacheMetrics from "../src/CacheMetrics.ts"
import { type CacheStats, type Counters, makeCounters, snapshot } from "../src/CacheStats.ts"
import { CacheStore } from "../src/CacheStore.ts"
import type { BusStatus } from "../src/InvalidationBus.ts"
import { MemoryCache } from "../src/MemoryCache.ts"
import { bothTiers, inWorld, type World } from "./suites/cacheNode.ts"

/** With a metric registry of its own. */
const world = <A, E, R>(body: (world: World) => Effect.Effect<A, E, R>) =>
  inWorld({ advance: (duration) => TestClock.adjust(duration), drift: 0, topology: bothTiers }, body).pipe(
    Effect.provide(CacheStore.layerMemory, { local: true }),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

/** The series of the registry, by name and labels. */
const series = Effect.map(
  Metric.snapshot,
  (snapshots) =>
    new Map(
      snapshots.map(({ attributes, id, state }) => {
        const labels = Object.entries(attributes ?? {}).filter(([label]) => label !== "namespace")
        const name = [attributes?.["namespace"], id, ...labels.map(([, value]) => value)].join(" ")
        return [name, "count" in state ? Number(state.count) : "value" in state ? Number(state.value) : NaN]
      })
    )
)

/** What a namespace's series should say. */
const expected = (name: string, stats: CacheStats): ReadonlyMap<string, number> =>
  new Map(
    Object.entries({
      cache_lookups_total: stats.lookups,
      "cache_requests_total memory": stats.memory.requests,
      "cache_requests_total store": stats.store.requests,
      "cache_hits_total memory": stats.memory.hits,
      "cache_hits_total store": stats.store.hits,
      "cache_misses_total memory": stats.memory.misses,
      "cache_misses_total store": stats.store.misses,
      cache_store_errors_total: stats.store.errors,
      cache_store_skipped_total: stats.store.skipped,
      cache_store_dropped_total: stats.store.dropped,
      cache_undecodable_total: stats.store.undecodable,
      cache_refused_total: stats.store.refused,
      "cache_loads_total success": stats.loadSuccess,
      "cache_loads_total failure": stats.loadFailure,
      "cache_loads_total interrupted": stats.loadInterrupted,
      cache_load_seconds_total: stats.loadTime / 1000,
      cache_coalesced_total: stats.coalesced,
      cache_stale_total: stats.stale,
      cache_fallbacks_total: stats.fallbacks,
      cache_cached_failures_total: stats.cachedFailures,
      cache_not_modified_total: stats.notModified,
      cache_rearmed_total: stats.rearmed,
      cache_refreshes_total: stats.refreshes,
      cache_refreshes_skipped_total: stats.refreshesSkipped,
      "cache_loader_timeouts_total soft": stats.softTimeouts,
      "cache_loader_timeouts_total hard": stats.hardTimeouts,
      "cache_late_loads_total success": stats.lateSuccess,
      "cache_late_loads_total failure": stats.lateFailure,
      cache_lease_waits_total: stats.leaseWaits,
      cache_lease_timeouts_total: stats.leaseTimeouts,
      cache_sets_total: stats.sets,
      cache_invalidations_total: stats.invalidations,
      cache_clears_total: stats.clears,
      "cache_uncached_total too large": stats.tooLarge,
      "cache_uncached_total unencodable": stats.unencodable,
      cache_memory_entries: stats.memory.entries,
      cache_memory_bytes: stats.memory.size,
      ...Object.fromEntries(
        Object.entries(stats.memory.removals).map(([cause, count]) => [`cache_memory_removals_total ${cause}`, count])
      )
    }).map(([series, value]) => [`${name} ${series}`, value])
  )

describe("CacheMetrics", () => {
  it.effect("at every scrape the series say what the stats say", () =>
    world(({ namespace, node }) =>
      Effect.gen(function* () {
        const { cache } = yield* node()
        const spaces = [
          namespace({ key: Schema.Int, value: Schema.Int, maxValueSize: 3 }),
          namespace({ key: Schema.Int, value: Schema.Int, timeToLive: "1 minute" })
        ]
        const compare = Effect.gen(function* () {
          const stats = yield* Effect.forEach(spaces, (ns) =>
            Effect.map(cache.statsOf(ns), (stats) => [ns.name, stats] as const)
          )
          const all = new Map(stats.flatMap(([name, stats]) => [...expected(name, stats)]))
          const found = yield* series
          for (const [name, value] of all) assert.strictEqual(found.get(name) ?? 0, value, name)
          return found
        })
        assert.strictEqual((yield* compare).size, 0)
        const slow = Effect.as(TestClock.adjust("250 millis"), 1)
        for (const ns of spaces) {
          yield* cache.getOrSet(ns, 1, slow)
          yield* cache.getOrSet(ns, 1, slow)
          yield* compare
          yield* cache.setMany(ns, [
            [1, 1],
            [2, 2]
          ])
          yield* cache.invalidate(ns, 2)
          yield* Effect.exit(cache.getOrSet(ns, 3, Effect.fail("no")))
          yield* Effect.exit(cache.getOrSet(ns, 3, Effect.interrupt))
          yield* cache.getOrSet(ns, 4, Effect.succeed(0.5))
          yield* cache.getOrSet(ns, 4, Effect.succeed(12_345))
          yield* TestClock.adjust("2 minutes")
          yield* cache.getOrSetMany(ns, [1, 2, 5], (missing) => Effect.succeed(missing))
          yield* compare
        }
        assert.strictEqual((yield* compare).get(`${spaces[0]!.name} cache_load_seconds_total`), 0.25)
      })
    )
  )

  it.effect("labels are bounded: their number does not grow with keys, values or traffic", () =>
    world(({ namespace, node }) =>
      Effect.gen(function* () {
        const { cache } = yield* node()
        const ns = namespace({ value: Schema.String })
        yield* cache.get(ns, "first")
        const before = (yield* Metric.snapshot).length
        for (let i = 0; i < 200; i++) {
          yield* cache.getOrSet(ns, `secret ${i}`, Effect.succeed(`value ${i}`))
          yield* Effect.exit(cache.getOrSet(ns, `failing ${i}`, Effect.fail(`error ${i}`)))
        }
        const snapshots = yield* Metric.snapshot
        assert.strictEqual(snapshots.length, before)
        const labels = new Map<string, Set<unknown>>()
        for (const { attributes, description, id } of snapshots) {
          assert.match(id, /^cache_[a-z_]+$/)
          assert.isNotEmpty(description)
          for (const [label, value] of Object.entries(attributes ?? {})) {
            labels.set(label, (labels.get(label) ?? new Set()).add(value))
          }
        }
        assert.deepStrictEqual(
          labels,
          new Map<string, Set<unknown>>([
            ["namespace", new Set([ns.name])],
            ["tier", new Set(["memory", "store"])],
            ["outcome", new Set(["success", "failure", "interrupted"])],
            ["timeout", new Set(["soft", "hard"])],
            ["cause", new Set(["too large", "unencodable", "explicit", "replaced", "expired", "size", "remote"])]
          ])
        )
        yield* cache.get(namespace({ value: Schema.Int }), "first")
        assert.strictEqual((yield* Metric.snapshot).length, 2 * before)
      })
    )
  )

  it.effect("every counter that the stats have is a series, and no series is another's", () =>
    Effect.gen(function* () {
      const metrics = yield* CacheMetrics.make
      const counters = makeCounters()
      ;(Object.keys(counters) as Array<keyof Counters>).forEach((counter, i) => (counters[counter] = 1000 * (i + 1)))
      const partition = MemoryCache.make({ maxEntries: 1, maxSize: 1000 }).partition<unknown>("ns")
      metrics.register("ns", { counters, partition })
      const found = yield* series
      assert.deepStrictEqual(found, new Map(expected("ns", snapshot([{ counters, partition }]))))
      const values = new Set(found.values())
      const absent = Object.entries(counters).filter(
        ([name, value]) => !values.has(name === "loadTime" ? value / 1000 : value)
      )
      assert.deepStrictEqual(
        absent.map(([name]) => name),
        ["loads"]
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("the bus has series of its own, without labels, which say what its status says", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const metrics = yield* Scope.provide(CacheMetrics.make, scope)
      let status: BusStatus = { health: { status: "Up", since: 0 }, sent: 1, received: 2, caughtUp: 3, gaps: 4, lag: 5 }
      metrics.registerBus(() => status)
      const found = Effect.map(Metric.snapshot, (snapshots) =>
        Object.fromEntries(
          snapshots.map(({ attributes, id, state }) => {
            assert.deepStrictEqual(Object.keys(attributes ?? {}), [])
            return [id, "count" in state ? state.count : "value" in state ? state.value : NaN]
          })
        )
      )
      const expectedOf = ({ caughtUp, gaps, lag, received, sent }: BusStatus) => ({
        cache_bus_sent_total: sent,
        cache_bus_received_total: received,
        cache_bus_caught_up_total: caughtUp,
        cache_bus_gaps_total: gaps,
        cache_bus_lag_seconds: lag / 1000
      })
      assert.deepStrictEqual(yield* found, expectedOf(status))
      status = { ...status, sent: 11, received: 12, caughtUp: 13, gaps: 14, lag: 15 }
      assert.deepStrictEqual(yield* found, expectedOf(status))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* found, {})
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("the series go when the cache closes, and those of another cache stay", () =>
    world(({ namespace, node }) =>
      Effect.gen(function* () {
        const [a, b] = [yield* node(), yield* node()]
        const [one, two] = [namespace({ value: Schema.Int }), namespace({ value: Schema.Int })]
        yield* a.cache.get(one, "a")
        const before = (yield* Metric.snapshot).length
        yield* b.cache.get(two, "a")
        yield* a.close
        const left = yield* Metric.snapshot
        assert.strictEqual(left.length, before)
        assert.deepStrictEqual(new Set(left.map(({ attributes }) => attributes?.["namespace"])), new Set([two.name]))
        yield* b.close
        assert.deepStrictEqual(yield* Metric.snapshot, [])
      })
    )
  )

  it.effect("the cache writes into the registry that it was built with", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const mine = new Map()
      const metrics = yield* CacheMetrics.make.pipe(
        Scope.provide(scope),
        Effect.provideService(Metric.MetricRegistry, mine)
      )
      const partition = MemoryCache.make({ maxEntries: 1, maxSize: 1000 }).partition<unknown>("ns")
      metrics.register("ns", { counters: makeCounters(), partition })
      assert.isAbove(mine.size, 0)
      assert.isFalse((yield* Metric.snapshot).some(({ id }) => id.startsWith("cache_")))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(mine.size, 0)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
