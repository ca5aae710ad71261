/**
 * What a cache can do: the operations of the `TieredCache` service and their
 * options.
 *
 * Every operation is lazy: an effect built once looks the cache up at each run.
 * Values are shared, not copied: treat what a cache hands out as immutable.
 *
 * @since 0.1.0
 */
import type { Duration, Effect, Option, Stream } from "effect"
import type { CacheEntry } from "./CacheEntry.ts"
import type { CacheError } from "./CacheError.ts"
import type { CacheHealth } from "./CacheHealth.ts"
import type { CacheStats } from "./CacheStats.ts"
import type { Namespace, OnStoreFailure, StoreFailure } from "./Namespace.ts"

/**
 * A tier to leave out.
 *
 * @category models
 * @since 0.1.0
 */
export type Tier = "memory" | "store"

/**
 * Options of a read that cannot load.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetOptions {
  /** Tiers to leave out, for reading and for keeping. Default none. */
  readonly skip?: Tier | ReadonlyArray<Tier>
}

/**
 * Options of a read that can load. A caller that is coalesced onto another's load
 * gets what that one's options made of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetOrSetOptions extends GetOptions {
  /** How long what is loaded stays fresh; overrides the policy. `0` keeps nothing. */
  readonly timeToLive?: Duration.Input
  /**
   * Runs the loader now, whatever is cached; later callers join this load. Default
   * false. This is no invalidation: other processes keep what they have in memory.
   */
  readonly force?: boolean
  /** `false` keeps what is loaded in no tier, and shares it with nobody. Default true. */
  readonly store?: boolean
}

/**
 * Options of a write.
 *
 * @category models
 * @since 0.1.0
 */
export interface SetOptions {
  /** How long the value stays fresh; overrides the policy. `0` removes instead. */
  readonly timeToLive?: Duration.Input
}

/**
 * Loads the keys that are missing, and gives their values in the same order.
 * Answering with another number of values is a defect.
 *
 * @category models
 * @since 0.1.0
 */
export type BulkLoader<K, A, E, R> = (missing: ReadonlyArray<K>) => Effect.Effect<ReadonlyArray<A>, E, R>

/**
 * A key that the store holds, with what it knows about the entry. Times are
 * milliseconds since the epoch by the store's clock, sizes bytes; access counts
 * are gathered in batches and lag behind.
 *
 * @category models
 * @since 0.1.0
 */
export interface CachedKey<out K> {
  readonly key: K
  readonly size: number
  readonly createdAt: number
  readonly expiresAt: number
  readonly lastAccessed: number
  readonly accessCount: number
  readonly tags: ReadonlyArray<string>
}

/**
 * The operations of a cache.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations {
  /**
   * The value of a key: from memory, else from the store, else from the loader,
   * and then kept in both. One loader runs per key at a time; its success and
   * its failure are shared by all who ask meanwhile.
   *
   * A caller that is coalesced sees the failure of the loader that runs: give
   * one key one loader. The loader runs in a fiber of its own, with the context
   * of the caller that started it, and is interrupted when nobody waits for it.
   * A loader that asks for its own key waits for itself.
   */
  readonly getOrSet: <K, A, F extends OnStoreFailure, E, R>(
    namespace: Namespace<K, A, F>,
    key: K,
    loader: Effect.Effect<A, E, R>,
    options?: GetOrSetOptions
  ) => Effect.Effect<A, E | StoreFailure<F>, R>

  /** The same, with where the value came from and how long it is fresh. */
  readonly getOrSetEntry: <K, A, F extends OnStoreFailure, E, R>(
    namespace: Namespace<K, A, F>,
    key: K,
    loader: Effect.Effect<A, E, R>,
    options?: GetOrSetOptions
  ) => Effect.Effect<CacheEntry<A>, E | StoreFailure<F>, R>

  /**
   * The values of many keys in the order of `keys`, which may repeat. One round
   * trip reads them from the store, one writes what was loaded; `loadMissing`
   * runs at most once, with the distinct keys that nobody has and nobody else is
   * loading. Its failure is the failure of all who wait for one of those keys.
   */
  readonly getOrSetMany: <K, A, F extends OnStoreFailure, E, R>(
    namespace: Namespace<K, A, F>,
    keys: ReadonlyArray<K>,
    loadMissing: BulkLoader<K, A, E, R>,
    options?: GetOrSetOptions
  ) => Effect.Effect<Array<A>, E | StoreFailure<F>, R>

  /** The value of a key if a tier has it. */
  readonly get: <K, A, F extends OnStoreFailure>(
    namespace: Namespace<K, A, F>,
    key: K,
    options?: GetOptions
  ) => Effect.Effect<Option.Option<A>, StoreFailure<F>>

  /** The same, with where the value came from and how long it is fresh. */
  readonly getEntry: <K, A, F extends OnStoreFailure>(
    namespace: Namespace<K, A, F>,
    key: K,
    options?: GetOptions
  ) => Effect.Effect<Option.Option<CacheEntry<A>>, StoreFailure<F>>

  /** The values of many keys in the order of `keys`; one round trip. */
  readonly getMany: <K, A, F extends OnStoreFailure>(
    namespace: Namespace<K, A, F>,
    keys: ReadonlyArray<K>,
    options?: GetOptions
  ) => Effect.Effect<Array<Option.Option<A>>, StoreFailure<F>>

  /**
   * Stores a value in both tiers. It wins over every load that began before it.
   * Inside a transaction of the store's client it commits or rolls back with it,
   * and memory changes after the commit.
   */
  readonly set: <K, A>(
    namespace: Namespace<K, A>,
    key: K,
    value: A,
    options?: SetOptions
  ) => Effect.Effect<void, CacheError>

  /** Stores many values in one round trip; of a key that repeats, the last. All or none. */
  readonly setMany: <K, A>(
    namespace: Namespace<K, A>,
    entries: Iterable<readonly [key: K, value: A]>,
    options?: SetOptions
  ) => Effect.Effect<void, CacheError>

  /**
   * Removes a key from both tiers and says whether something was there. A load
   * under way still answers those who wait for it, but what it brings is not
   * kept. Inside a transaction of the store's client it commits or rolls back
   * with it, and memory changes after the commit.
   */
  readonly invalidate: <K, A>(namespace: Namespace<K, A>, key: K) => Effect.Effect<boolean, CacheError>

  /** Removes many keys in one round trip and says for each, in order, whether something was there. */
  readonly invalidateMany: <K, A>(
    namespace: Namespace<K, A>,
    keys: ReadonlyArray<K>
  ) => Effect.Effect<Array<boolean>, CacheError>

  /** Removes everything of a namespace and says how many entries the store had. */
  readonly clear: <K, A>(namespace: Namespace<K, A>) => Effect.Effect<number, CacheError>

  /** Removes everything of every namespace and says how many entries the store had. */
  readonly clearAll: Effect.Effect<number, CacheError>

  /** A function that goes through the cache to `load`. */
  readonly cached: <K, A, F extends OnStoreFailure, E, R>(
    namespace: Namespace<K, A, F>,
    load: (key: K) => Effect.Effect<A, E, R>,
    options?: GetOrSetOptions
  ) => (key: K) => Effect.Effect<A, E | StoreFailure<F>, R>

  /** A function on many keys that goes through the cache to `loadMissing`. */
  readonly cachedMany: <K, A, F extends OnStoreFailure, E, R>(
    namespace: Namespace<K, A, F>,
    loadMissing: BulkLoader<K, A, E, R>,
    options?: GetOrSetOptions
  ) => (keys: ReadonlyArray<K>) => Effect.Effect<Array<A>, E | StoreFailure<F>, R>

  /** The keys that the store holds, page by page; keys that no longer decode are left out. */
  readonly keys: <K, A>(namespace: Namespace<K, A>) => Stream.Stream<CachedKey<K>, CacheError>

  /** The counts over all namespaces. */
  readonly stats: Effect.Effect<CacheStats>

  /** The counts of one namespace. */
  readonly statsOf: <K, A>(namespace: Namespace<K, A>) => Effect.Effect<CacheStats>

  /** How the cache is now; asks the store. */
  readonly health: Effect.Effect<CacheHealth>
}
