/**
 * What the cache has done, counted exactly.
 *
 * The counts of all namespaces live in one `Ref`. A hit may not cost more than
 * an increment, so the counters inside the `Ref` are plain objects that the
 * cache increments in place (JavaScript runs one step at a time, so no increment
 * is lost); what callers get is a copy.
 *
 * **When each counter moves.** Per tier, `requests` when a key is looked up
 * there, then exactly one of `hits` and `misses`; a lookup that the store could
 * not answer is a miss and an error. `loads` when a loader starts, then exactly
 * one of `loadSuccess`, `loadFailure` (defects included) and `loadInterrupted`
 * when it ends; a bulk loader counts once per key, its time once. `coalesced`
 * when a caller joins a load that another caller started. A stale entry that
 * memory answers with at once is a hit; one that a load falls back on was a miss.
 * So, whenever nothing is under way:
 *
 *     memory.requests = memory.hits + memory.misses
 *     store.requests  = store.hits + store.misses
 *     loads           = loadSuccess + loadFailure + loadInterrupted
 *
 * @since 0.1.0
 */
import type { Ref } from "effect"
import type { BusStatus } from "./InvalidationBus.ts"
import type { Partition, RemovalCause } from "./MemoryCache.ts"

/**
 * Lookups in one tier. `hitRate` is `hits / requests`, 0 when nothing was asked.
 *
 * @category models
 * @since 0.1.0
 */
export interface TierStats {
  readonly requests: number
  readonly hits: number
  readonly misses: number
  readonly hitRate: number
}

/**
 * The counts of one namespace, or the sum over all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheStats {
  /** Keys that reads were asked for; one that repeats within a call counts once. */
  readonly lookups: number
  /** The share of lookups that a tier answered: neither loaded, nor coalesced onto a load, nor absent. */
  readonly hitRate: number
  readonly memory: TierStats & {
    /** Entries held now, and their bytes. */
    readonly entries: number
    readonly size: number
    /** Entries that left, by cause. */
    readonly removals: Readonly<Record<RemovalCause, number>>
  }
  readonly store: TierStats & {
    /** Reads and fills that failed or timed out; who calls `set` or `invalidate` is told. */
    readonly errors: number
    /** Calls that were not made, because the store was down. */
    readonly skipped: number
    /** Rows that no longer decode, or are of another version of the namespace: misses. */
    readonly undecodable: number
    /** Loaded values that the store refused because the key had changed since the load began. */
    readonly refused: number
    /** Background writes given up: too many were waiting. */
    readonly dropped: number
  }
  /** Loader runs, by key. */
  readonly loads: number
  readonly loadSuccess: number
  readonly loadFailure: number
  readonly loadInterrupted: number
  /** Milliseconds that loaders ran, in all. */
  readonly loadTime: number
  /** `loadTime` per ended load, in milliseconds. */
  readonly meanLoadTime: number
  /** Callers that shared a load started by another. */
  readonly coalesced: number
  /** Keys answered with an entry that is not fresh; those answered with a fallback. */
  readonly stale: number
  readonly fallbacks: number
  /** Keys answered with a typed failure that was cached. */
  readonly cachedFailures: number
  /** Loads by key that were answered with "not modified". */
  readonly notModified: number
  /** Entries that are served for a while without a load, because one has failed. */
  readonly rearmed: number
  /** Keys whose load began in the background, and those for which there was no room. */
  readonly refreshes: number
  readonly refreshesSkipped: number
  /** Callers who did not wait for the loader any longer, and took what there was or a `LoaderTimeout`. */
  readonly softTimeouts: number
  readonly hardTimeouts: number
  /** Loads by key that ended in the background; they are among `loadSuccess` and `loadFailure` too. */
  readonly lateSuccess: number
  readonly lateFailure: number
  /** Keys that a load waited for because another process was loading them, and those that it loaded although another was. */
  readonly leaseWaits: number
  readonly leaseTimeouts: number
  /** Keys that `set` and `setMany` stored. */
  readonly sets: number
  /** Keys that were invalidated or expired, there or not; tags or a pattern count once a call. */
  readonly invalidations: number
  /** Calls of `clear` and `clearAll`. */
  readonly clears: number
  /** Values served but not kept: over `maxValueSize`. */
  readonly tooLarge: number
  /** Values or keys served but not kept: their schema refuses them. */
  readonly unencodable: number
  /** What went over the bus between processes, where there is one: of the whole cache, not of one namespace. */
  readonly bus?: BusStatus
}

/**
 * The live counters of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counters {
  lookups: number
  memoryRequests: number
  memoryHits: number
  memoryMisses: number
  storeRequests: number
  storeHits: number
  storeMisses: number
  storeErrors: number
  storeSkipped: number
  undecodable: number
  refused: number
  loads: number
  loadSuccess: number
  loadFailure: number
  loadInterrupted: number
  loadTime: number
  coalesced: number
  storeDropped: number
  stale: number
  fallbacks: number
  cachedFailures: number
  notModified: number
  rearmed: number
  refreshes: number
  refreshesSkipped: number
  softTimeouts: number
  hardTimeouts: number
  lateSuccess: number
  lateFailure: number
  leaseWaits: number
  leaseTimeouts: number
  sets: number
  invalidations: number
  clears: number
  tooLarge: number
  unencodable: number
}

/**
 * A namespace's counters and its part of memory, which counts for itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface NamespaceStats {
  readonly counters: Counters
  readonly partition: Pick<Partition<unknown>, "entries" | "size" | "removals">
}

/**
 * The counters of all namespaces, by name.
 *
 * @category models
 * @since 0.1.0
 */
export type StatsRef = Ref.Ref<ReadonlyMap<string, NamespaceStats>>

/**
 * Counters at zero.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeCounters = (): Counters => ({
  lookups: 0,
  memoryRequests: 0,
  memoryHits: 0,
  memoryMisses: 0,
  storeRequests: 0,
  storeHits: 0,
  storeMisses: 0,
  storeErrors: 0,
  storeSkipped: 0,
  undecodable: 0,
  refused: 0,
  loads: 0,
  loadSuccess: 0,
  loadFailure: 0,
  loadInterrupted: 0,
  loadTime: 0,
  coalesced: 0,
  storeDropped: 0,
  stale: 0,
  fallbacks: 0,
  cachedFailures: 0,
  notModified: 0,
  rearmed: 0,
  refreshes: 0,
  refreshesSkipped: 0,
  softTimeouts: 0,
  hardTimeouts: 0,
  lateSuccess: 0,
  lateFailure: 0,
  leaseWaits: 0,
  leaseTimeouts: 0,
  sets: 0,
  invalidations: 0,
  clears: 0,
  tooLarge: 0,
  unencodable: 0
})

/**
 * The counts as they are now, summed over the given namespaces, and those of a bus.
 *
 * @category conversions
 * @since 0.1.0
 */
export const snapshot = (namespaces: Iterable<NamespaceStats>, bus?: BusStatus): CacheStats => {
  const sum = makeCounters()
  const removals = { explicit: 0, replaced: 0, expired: 0, size: 0, remote: 0 }
  let entries = 0
  let size = 0
  for (const { counters, partition } of namespaces) {
    for (const counter of Object.keys(sum) as Array<keyof Counters>) sum[counter] += counters[counter]
    for (const cause of Object.keys(removals) as Array<RemovalCause>) removals[cause] += partition.removals[cause]
    entries += partition.entries
    size += partition.size
  }
  return {
    lookups: sum.lookups,
    hitRate: ratio(sum.memoryHits + sum.storeHits, sum.lookups),
    memory: { ...tier(sum.memoryRequests, sum.memoryHits, sum.memoryMisses), entries, size, removals },
    store: {
      ...tier(sum.storeRequests, sum.storeHits, sum.storeMisses),
      errors: sum.storeErrors,
      skipped: sum.storeSkipped,
      undecodable: sum.undecodable,
      refused: sum.refused,
      dropped: sum.storeDropped
    },
    loads: sum.loads,
    loadSuccess: sum.loadSuccess,
    loadFailure: sum.loadFailure,
    loadInterrupted: sum.loadInterrupted,
    loadTime: sum.loadTime,
    meanLoadTime: ratio(sum.loadTime, sum.loadSuccess + sum.loadFailure + sum.loadInterrupted),
    coalesced: sum.coalesced,
    stale: sum.stale,
    fallbacks: sum.fallbacks,
    cachedFailures: sum.cachedFailures,
    notModified: sum.notModified,
    rearmed: sum.rearmed,
    refreshes: sum.refreshes,
    refreshesSkipped: sum.refreshesSkipped,
    softTimeouts: sum.softTimeouts,
    hardTimeouts: sum.hardTimeouts,
    lateSuccess: sum.lateSuccess,
    lateFailure: sum.lateFailure,
    leaseWaits: sum.leaseWaits,
    leaseTimeouts: sum.leaseTimeouts,
    sets: sum.sets,
    invalidations: sum.invalidations,
    clears: sum.clears,
    tooLarge: sum.tooLarge,
    unencodable: sum.unencodable,
    ...(bus !== undefined && { bus })
  }
}

const tier = (requests: number, hits: number, misses: number): TierStats => ({
  requests,
  hits,
  misses,
  hitRate: ratio(hits, requests)
})

const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole)
