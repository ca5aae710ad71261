/**
 * What a cache can do: the operations of the `TieredCache` service and their
 * options.
 *
 * Every operation is lazy: an effect built once looks the cache up at each run.
 * Values are shared, not copied: treat what a cache hands out as immutable.
 *
 * @since 0.1.0
 */
import type { Duration, Effect, Exit, Option, Stream } from "effect"
import type { CacheEntry } from "./CacheEntry.ts"
import type { CacheError } from "./CacheError.ts"
import type { CacheHealth } from "./CacheHealth.ts"
import type { CacheStats } from "./CacheStats.ts"
import type { Loaded } from "./Loaded.ts"
import type { Any, CacheFailure, Namespace } from "./Namespace.ts"

/**
 * A tier to leave out, or one way of using it: reading it, keeping something in
 * it, or reading the store although memory has a stale entry. A load that is to be
 * kept in the store asks it in any case, for the fence under which it may be.
 *
 * @category models
 * @since 0.1.0
 */
export type Skip = Tier | "memoryRead" | "memoryWrite" | "storeRead" | "storeWrite" | "storeReadWhenStale"

/**
 * A tier.
 *
 * @category models
 * @since 0.1.0
 */
export type Tier = "memory" | "store"

/**
 * Options of every read.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadOptions {
  /**
   * Tiers to leave out, for reading or for keeping or both. Default none. A tier that is
   * left out keeps what it has: memory may go on answering with something older than what
   * such a read gave the store, for as long as it would have without it.
   */
  readonly skip?: Skip | ReadonlyArray<Skip>
}

/**
 * Options of a read that cannot load.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetOptions extends ReadOptions {
  /** Whether a stale entry will do where there is no fresh one; nothing is loaded or kept for it. Default false. */
  readonly stale?: boolean
}

/**
 * Options of a read that can load. A caller that is coalesced onto another's load
 * gets what that one's options made of it, but decides for itself what will do in
 * place of a failure (`staleOn`, `fallback`).
 *
 * Functions are called with what the loader of this call, or of the one it is
 * coalesced onto, ended with; also when it ended in the background.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetOrSetOptions<in out A, in E> extends ReadOptions {
  /**
   * How long what is loaded stays fresh; overrides the policy; `0` keeps nothing.
   * A function may decide it from how the load ended, `undefined` meaning as the
   * policy says. Where it ended with a typed failure, a lifetime above zero caches
   * the failure, if the namespace's `error` schema accepts it.
   */
  readonly timeToLive?: Duration.Input | ((exit: Exit.Exit<A, E>) => Duration.Input | undefined)
  /** Kept with the entry. Default none. */
  readonly tags?: ReadonlyArray<string> | ((value: A) => ReadonlyArray<string>)
  /**
   * Whether what is loaded is kept. `false` keeps it in no tier, and shares it with
   * nobody; a function may decide it from how the load ended. Default true.
   */
  readonly store?: boolean | ((exit: Exit.Exit<A, E>) => boolean)
  /**
   * Which failures of the loader may be answered with a stale value, or with
   * `fallback`. Default: all of them. Defects and interruption never are.
   */
  readonly staleOn?: (error: E) => boolean
  /**
   * What will do where the loader fails, or takes longer than its hard timeout
   * (`LoaderTimeout`), and there is nothing stale. It is not kept.
   */
  readonly fallback?: (error: E | CacheError) => A
  /**
   * Runs the loader now, whatever is cached; later callers join this load. Default
   * false. Until it has ended the others are given what was there; of what takes its
   * place in the store they hear like of any change.
   */
  readonly force?: boolean
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
  /** Kept with the entry. Default none. */
  readonly tags?: ReadonlyArray<string>
}

/**
 * What brings a value: an effect, or a function that is given the entry which is
 * about to be replaced, stale or not, if there still is one (see `Loaded`).
 *
 * @category models
 * @since 0.1.0
 */
export type Loader<A, E, R> =
  Effect.Effect<A, E, R> | ((stale: CacheEntry<A> | undefined) => Effect.Effect<A | Loaded<A>, E, R>)

/**
 * Loads the keys that are missing, and gives their values in the same order.
 * Answering with another number of values is a defect. `stale` has, in the same
 * order, the entries that are about to be replaced.
 *
 * @category models
 * @since 0.1.0
 */
export type BulkLoader<K, A, E, R> = (
  missing: ReadonlyArray<K>,
  stale: ReadonlyArray<CacheEntry<A> | undefined>
) => Effect.Effect<ReadonlyArray<A | Loaded<A>>, E, R>

/**
 * Options of a listing.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeysOptions {
  /** Only the keys that it matches, as `invalidatePattern` does. Default all. */
  readonly pattern?: string
}

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
  readonly staleUntil: number
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
   * of the caller that started it, and is interrupted when nobody waits for it,
   * unless a timeout or a refresh made it go on in the background: then it may
   * outlive its caller. A loader that asks for its own key waits for itself.
   *
   * Where the loader fails or is slow, a stale entry is the answer as the policy
   * says (`staleIfError`, `staleWhileRevalidate`, `loaderSoftTimeout`).
   */
  readonly getOrSet: <K, A, X, E, R>(
    namespace: Namespace<K, A, X>,
    key: K,
    loader: Loader<A, E, R>,
    options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
  ) => Effect.Effect<A, E | X, R>

  /** The same, with where the value came from, whether it is fresh and for how long. */
  readonly getOrSetEntry: <K, A, X, E, R>(
    namespace: Namespace<K, A, X>,
    key: K,
    loader: Loader<A, E, R>,
    options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
  ) => Effect.Effect<CacheEntry<A>, E | X, R>

  /**
   * The values of many keys in the order of `keys`, which may repeat. One round
   * trip reads them from the store, one writes what was loaded; `loadMissing`
   * runs at most once, with the distinct keys that nobody has and nobody else is
   * loading. Its failure is the failure of all who wait for one of those keys.
   */
  readonly getOrSetMany: <K, A, X, E, R>(
    namespace: Namespace<K, A, X>,
    keys: ReadonlyArray<K>,
    loadMissing: BulkLoader<K, A, E, R>,
    options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
  ) => Effect.Effect<Array<A>, E | X, R>

  /**
   * What memory has of a key that is fresh and not due for a refresh, at once and
   * without an effect; else `undefined`, and then `getOrSet` is what to ask. A hit counts
   * in the statistics; a miss does not, `getOrSet` will count it.
   *
   * For the hottest of loops: it costs a look-up in a `Map` and allocates nothing. It
   * goes by the clock that the cache was made with, knows of no transaction that the
   * caller may be in, and finds nothing where every reader is to have a copy of his own.
   */
  readonly peek: <K, A, X>(namespace: Namespace<K, A, X>, key: K) => A | undefined

  /** The value of a key if a tier has it. */
  readonly get: <K, A, X>(
    namespace: Namespace<K, A, X>,
    key: K,
    options?: GetOptions
  ) => Effect.Effect<Option.Option<A>, CacheFailure<X>>

  /** The same, with where the value came from and how long it is fresh. */
  readonly getEntry: <K, A, X>(
    namespace: Namespace<K, A, X>,
    key: K,
    options?: GetOptions
  ) => Effect.Effect<Option.Option<CacheEntry<A>>, CacheFailure<X>>

  /** The values of many keys in the order of `keys`; one round trip. */
  readonly getMany: <K, A, X>(
    namespace: Namespace<K, A, X>,
    keys: ReadonlyArray<K>,
    options?: GetOptions
  ) => Effect.Effect<Array<Option.Option<A>>, CacheFailure<X>>

  /**
   * Stores a value in both tiers. It wins over every load that began before it.
   * Inside a transaction of the store's client it commits or rolls back with it,
   * and memory changes after the commit.
   */
  readonly set: <K, A>(namespace: Any<K, A>, key: K, value: A, options?: SetOptions) => Effect.Effect<void, CacheError>

  /** Stores many values in one round trip; of a key that repeats, the last. All or none. */
  readonly setMany: <K, A>(
    namespace: Any<K, A>,
    entries: Iterable<readonly [key: K, value: A]>,
    options?: SetOptions
  ) => Effect.Effect<void, CacheError>

  /**
   * Removes a key from both tiers and says whether something was there. A load
   * under way still answers those who wait for it, but what it brings is not
   * kept. Inside a transaction of the store's client it commits or rolls back
   * with it, and memory changes after the commit.
   */
  readonly invalidate: <K, A>(namespace: Any<K, A>, key: K) => Effect.Effect<boolean, CacheError>

  /** Removes many keys in one round trip and says for each, in order, whether something was there. */
  readonly invalidateMany: <K, A>(
    namespace: Any<K, A>,
    keys: ReadonlyArray<K>
  ) => Effect.Effect<Array<boolean>, CacheError>

  /**
   * As `invalidate`, but what is there stays, stale from now on, for as long as it
   * may be served stale: the next read loads anew and falls back on it as the policy
   * says (`staleIfError`, `staleWhileRevalidate`, `loaderSoftTimeout`). Says whether
   * something fresh was there.
   */
  readonly expire: <K, A>(namespace: Any<K, A>, key: K) => Effect.Effect<boolean, CacheError>

  /** Expires many keys in one round trip and says for each, in order, whether something fresh was there. */
  readonly expireMany: <K, A>(namespace: Any<K, A>, keys: ReadonlyArray<K>) => Effect.Effect<Array<boolean>, CacheError>

  /**
   * Removes from both tiers what has at least one of the tags, in one round trip
   * however much that is, and says how many live entries the store had (a number over
   * 10 000 is an estimate). No tags: nothing, and 0.
   *
   * An entry has the tags that it was stored with last. What a load under way brings
   * with one of the tags answers those who wait for it and is not kept; what is loaded
   * or set afterwards with the same tag is. Tags of other namespaces are others.
   * Inside a transaction of the store's client it commits or rolls back with it.
   */
  readonly invalidateTags: <K, A>(
    namespace: Any<K, A>,
    tags: ReadonlyArray<string>
  ) => Effect.Effect<number, CacheError>

  /** The same, but what is there stays, stale from now on, as with `expire`. */
  readonly expireTags: <K, A>(namespace: Any<K, A>, tags: ReadonlyArray<string>) => Effect.Effect<number, CacheError>

  /**
   * Removes from both tiers the keys that the pattern matches as a whole, such as
   * `user_*_data`, in one round trip however many they are, and says how many live
   * ones the store had (a number over 10 000 is an estimate). `*` is any run of
   * characters, `?` one, `[a-z]` and `[!a-z]` one of a class, `\x` the character `x`
   * itself; see `Glob`. A key is matched by its text: a string as it is, any other key
   * as canonical JSON.
   *
   * Fails with `InvalidPattern` before anything is changed. Loads under way and
   * transactions are dealt with as by `invalidate`.
   */
  readonly invalidatePattern: <K, A>(namespace: Any<K, A>, pattern: string) => Effect.Effect<number, CacheError>

  /** The same, but what is there stays, stale from now on, as with `expire`. */
  readonly expirePattern: <K, A>(namespace: Any<K, A>, pattern: string) => Effect.Effect<number, CacheError>

  /**
   * Removes everything of a namespace, in the same time however much that is, and
   * says how many live entries the store had (a number over 10 000 is an estimate).
   */
  readonly clear: <K, A>(namespace: Any<K, A>) => Effect.Effect<number, CacheError>

  /** Removes everything of every namespace, and says how many live entries the store had (as `clear` does). */
  readonly clearAll: Effect.Effect<number, CacheError>

  /** A function that goes through the cache to `load`. */
  readonly cached: <K, A, X, E, R>(
    namespace: Namespace<K, A, X>,
    load: (key: K, stale: CacheEntry<A> | undefined) => Effect.Effect<A | Loaded<A>, E, R>,
    options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
  ) => (key: K) => Effect.Effect<A, E | X, R>

  /** A function on many keys that goes through the cache to `loadMissing`. */
  readonly cachedMany: <K, A, X, E, R>(
    namespace: Namespace<K, A, X>,
    loadMissing: BulkLoader<K, A, E, R>,
    options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
  ) => (keys: ReadonlyArray<K>) => Effect.Effect<Array<A>, E | X, R>

  /**
   * The keys that the store holds, or those that a pattern matches, page by page; keys
   * that no longer decode are left out. Fails with `InvalidPattern` where the pattern
   * is none.
   */
  readonly keys: <K, A>(namespace: Any<K, A>, options?: KeysOptions) => Stream.Stream<CachedKey<K>, CacheError>

  /** The counts over all namespaces. */
  readonly stats: Effect.Effect<CacheStats>

  /** The counts of one namespace. */
  readonly statsOf: <K, A>(namespace: Any<K, A>) => Effect.Effect<CacheStats>

  /** How the cache is now; asks the store. */
  readonly health: Effect.Effect<CacheHealth>
}
