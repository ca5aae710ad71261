/**
 * The counters of `CacheStats` as Effect metrics.
 *
 * Nothing is added to a hit: each series reads its counter when an exporter asks
 * for it, so it is exact at every scrape. The labels are the namespace, the tier,
 * the outcome of a load and the cause of a removal, never a key, so there are as
 * many series as namespaces times forty, and five of the bus between processes, where
 * there is one. The series go when the cache closes.
 *
 * The caches of one process that share a metric registry should differ in a
 * metric attribute (`Metric.CurrentMetricAttributes`) if their namespaces have
 * the same names; of two series of one name and labels, the later stands.
 *
 * `Metric.registerUnsafe` is tagged unstable in Effect 4.1; this module is the
 * only one that calls it.
 *
 * @since 0.1.0
 */
import { Effect, Metric, type Scope } from "effect"
import type { Counters, NamespaceStats } from "./CacheStats.ts"
import type { BusStatus } from "./InvalidationBus.ts"
import type { RemovalCause } from "./MemoryCache.ts"

const counters: ReadonlyArray<
  readonly [
    metric: string,
    description: string,
    labels: { readonly [label: string]: string },
    counter: keyof Counters,
    scale?: number
  ]
> = [
  ["cache_lookups_total", "keys that reads were asked for", {}, "lookups"],
  ["cache_requests_total", "keys looked up in a tier", { tier: "memory" }, "memoryRequests"],
  ["cache_requests_total", "keys looked up in a tier", { tier: "store" }, "storeRequests"],
  ["cache_hits_total", "lookups that a tier answered", { tier: "memory" }, "memoryHits"],
  ["cache_hits_total", "lookups that a tier answered", { tier: "store" }, "storeHits"],
  ["cache_misses_total", "lookups that a tier did not answer", { tier: "memory" }, "memoryMisses"],
  ["cache_misses_total", "lookups that a tier did not answer", { tier: "store" }, "storeMisses"],
  ["cache_store_errors_total", "store calls that failed or timed out", {}, "storeErrors"],
  ["cache_store_skipped_total", "store calls not made, the store being down", {}, "storeSkipped"],
  ["cache_undecodable_total", "rows that no longer decode", {}, "undecodable"],
  ["cache_refused_total", "loads whose key changed under them", {}, "refused"],
  ["cache_loads_total", "loader runs that ended", { outcome: "success" }, "loadSuccess"],
  ["cache_loads_total", "loader runs that ended", { outcome: "failure" }, "loadFailure"],
  ["cache_loads_total", "loader runs that ended", { outcome: "interrupted" }, "loadInterrupted"],
  ["cache_load_seconds_total", "time that loaders ran", {}, "loadTime", 1000],
  ["cache_coalesced_total", "callers that shared another's load", {}, "coalesced"],
  ["cache_stale_total", "keys answered with an entry that is not fresh", {}, "stale"],
  ["cache_fallbacks_total", "keys answered with a fallback", {}, "fallbacks"],
  ["cache_cached_failures_total", "keys answered with a cached failure", {}, "cachedFailures"],
  ["cache_not_modified_total", "loads that found nothing changed", {}, "notModified"],
  ["cache_rearmed_total", "entries served on because a load failed", {}, "rearmed"],
  ["cache_refreshes_total", "loads that began in the background", {}, "refreshes"],
  ["cache_refreshes_skipped_total", "background loads for which there was no room", {}, "refreshesSkipped"],
  ["cache_loader_timeouts_total", "callers who did not wait on", { timeout: "soft" }, "softTimeouts"],
  ["cache_loader_timeouts_total", "callers who did not wait on", { timeout: "hard" }, "hardTimeouts"],
  ["cache_late_loads_total", "loads that ended in the background", { outcome: "success" }, "lateSuccess"],
  ["cache_late_loads_total", "loads that ended in the background", { outcome: "failure" }, "lateFailure"],
  ["cache_lease_waits_total", "keys that another process was loading, waited for", {}, "leaseWaits"],
  ["cache_lease_timeouts_total", "keys loaded although another process was", {}, "leaseTimeouts"],
  ["cache_store_dropped_total", "background writes given up", {}, "storeDropped"],
  ["cache_sets_total", "keys stored explicitly", {}, "sets"],
  ["cache_invalidations_total", "keys invalidated", {}, "invalidations"],
  ["cache_clears_total", "namespaces cleared", {}, "clears"],
  ["cache_uncached_total", "values served but not kept", { cause: "too large" }, "tooLarge"],
  ["cache_uncached_total", "values served but not kept", { cause: "unencodable" }, "unencodable"]
]

const busCounters: ReadonlyArray<
  readonly [metric: string, description: string, counter: "sent" | "received" | "caughtUp" | "gaps"]
> = [
  ["cache_bus_sent_total", "times that other processes were woken", "sent"],
  ["cache_bus_received_total", "changes heard of", "received"],
  ["cache_bus_caught_up_total", "changes heard of only after having been cut off", "caughtUp"],
  ["cache_bus_gaps_total", "times that memory was dropped because changes were missed", "gaps"]
]

const causes: ReadonlyArray<RemovalCause> = ["explicit", "replaced", "expired", "size", "remote"]

/**
 * Where a cache's series are registered.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheMetrics {
  /** Registers the series of one namespace. */
  readonly register: (namespace: string, stats: NamespaceStats) => void
  /** Registers the series of the bus. */
  readonly registerBus: (status: () => BusStatus) => void
}

/**
 * Series in the metric registry of the current context, until the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<CacheMetrics, never, Scope.Scope> = Effect.gen(function* () {
  const context = yield* Effect.context<never>()
  const registrations: Array<Metric.Registration> = []
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const registration of registrations) registration.remove()
    })
  )
  const register = <State>(metric: Metric.Metric<number, State>, get: () => State) =>
    registrations.push(Metric.registerUnsafe(metric, context, { get, update: noop, modify: noop }))
  return {
    register: (namespace, { counters: counts, partition }) => {
      for (const [name, description, labels, counter, per = 1] of counters) {
        register(
          Metric.counter(name, { description, attributes: { namespace, ...labels }, incremental: true }),
          () => ({
            count: counts[counter] / per,
            incremental: true
          })
        )
      }
      for (const cause of causes) {
        register(
          Metric.counter("cache_memory_removals_total", {
            description: "entries that left memory",
            attributes: { namespace, cause },
            incremental: true
          }),
          () => ({ count: partition.removals[cause], incremental: true })
        )
      }
      register(
        Metric.gauge("cache_memory_entries", { description: "entries in memory", attributes: { namespace } }),
        () => ({ value: partition.entries })
      )
      register(
        Metric.gauge("cache_memory_bytes", { description: "bytes in memory", attributes: { namespace } }),
        () => ({
          value: partition.size
        })
      )
    },
    registerBus: (status) => {
      for (const [name, description, counter] of busCounters) {
        register(Metric.counter(name, { description, incremental: true }), () => ({
          count: status()[counter],
          incremental: true
        }))
      }
      register(Metric.gauge("cache_bus_lag_seconds", { description: "how late the last change was heard of" }), () => ({
        value: status().lag / 1000
      }))
    }
  }
})

const noop = () => {}
