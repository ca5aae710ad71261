/**
 * The cache as a service: its parts put together, and its operations.
 *
 * How a read goes is told in `Read`, how entries change in `Mutation`, and what each
 * operation promises in `Operations`.
 *
 * @since 0.1.0
 */
import { Clock, Context, Duration, Effect, Function, Layer, Option, Ref, Result, Stream } from "effect"
import * as AccessLog from "./AccessLog.ts"
import * as Background from "./Background.ts"
import { CacheConfig, type CacheConfigInput } from "./CacheConfig.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import type { CacheError } from "./CacheError.ts"
import * as CacheHealth from "./CacheHealth.ts"
import * as CacheMetrics from "./CacheMetrics.ts"
import * as CacheStats from "./CacheStats.ts"
import { CacheStore } from "./CacheStore.ts"
import * as Glob from "./Glob.ts"
import { InvalidationBus } from "./InvalidationBus.ts"
import * as Leases from "./Leases.ts"
import type { Loaded } from "./Loaded.ts"
import { MemoryCache } from "./MemoryCache.ts"
import * as Mutation from "./Mutation.ts"
import type { Any, Namespace } from "./Namespace.ts"
import type { BulkLoader, CachedKey, GetOrSetOptions, KeysOptions, Loader, Operations } from "./Operations.ts"
import * as PendingInvalidations from "./PendingInvalidations.ts"
import * as PendingWrites from "./PendingWrites.ts"
import * as Read from "./Read.ts"
import { type CacheParts, Spaces } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"
import { Surroundings } from "./Surroundings.ts"
import { Unheard } from "./Unheard.ts"

const keysOf = <K, A>(
  self: CacheParts,
  namespace: Any<K, A>,
  { pattern = "*" }: KeysOptions = {}
): Stream.Stream<CachedKey<K>, CacheError> =>
  Stream.suspend(() => {
    const glob = Glob.make(namespace.name, pattern)
    if (Result.isFailure(glob)) return Stream.fail(glob.failure)
    return self.store.scan(namespace.name).pipe(
      Stream.filter(({ key }) => glob.success.matches(key)),
      Stream.map(({ key, ...row }) => Option.map(namespace.keys.decode(key), (key) => ({ key, ...row }))),
      Stream.filter(Option.isSome),
      Stream.map((cached) => cached.value)
    )
  })

const healthOf = (self: CacheParts): Effect.Effect<CacheHealth.CacheHealth> =>
  Effect.map(Effect.ignore(self.store.ping), () => {
    const bus = self.bus.status?.().health
    const memory = { status: "Up", since: self.since } as const
    return CacheHealth.make({ memory, store: self.store.health(), ...(bus !== undefined && { bus }) }, self.pending)
  })

const make = Effect.gen(function* () {
  const config = yield* CacheConfig
  const bus = yield* InvalidationBus
  const id = globalThis.crypto.randomUUID()
  const clock = yield* Clock.Clock
  const store = yield* StoreGuard.make(yield* CacheStore, config.store, id)
  const stats = yield* Ref.make<ReadonlyMap<string, CacheStats.NamespaceStats>>(new Map())
  const metrics = yield* CacheMetrics.make
  if (bus.status !== undefined) metrics.registerBus(bus.status)
  const spaces = new Spaces(config, yield* MemoryCache, stats, metrics)
  // Closed in the reverse order: loads first, then what they wanted to store, then what must not be lost.
  const leases = yield* Leases.make
  const pending = yield* PendingInvalidations.make({
    store,
    maxKeys: config.store.maxPendingInvalidations,
    onDone: (invalidation) => bus.publish({ origin: id, invalidation })
  })
  const unheard = new Unheard(Duration.toMillis(store.fenceLifetime))
  const writes = yield* PendingWrites.make({
    store,
    maxRows: config.store.maxPendingWrites,
    onReplaced: (namespace, keys) => bus.publish({ origin: id, invalidation: { _tag: "Keys", namespace, keys } })
  })
  const background = yield* Background.make({
    maxLoads: config.loads.maxBackground,
    maxTime: Duration.toMillis(store.fenceLifetime)
  })
  const self: CacheParts = {
    id,
    store,
    bus,
    pending,
    unheard,
    writes,
    leases,
    background,
    spaces,
    surroundings: new Surroundings(store),
    stats,
    complaints: new Set(),
    softReadTimeout: config.store.softReadTimeout,
    clock,
    since: clock.currentTimeMillisUnsafe()
  }
  yield* bus.subscribe(
    (message) => {
      const now = clock.currentTimeMillisUnsafe()
      if (message.origin !== id || unheard.concerns(message.invalidation, now)) Mutation.receive(self, message, now)
    },
    (released) => leases.wake(released)
  )
  yield* AccessLog.tellStore({ store, spaces: () => spaces.all(), interval: config.store.accessInterval })
  yield* Effect.addFinalizer(() =>
    Effect.forEach(spaces.all(), ({ loads, lookups }) => Effect.andThen(loads.close, lookups.close), { discard: true })
  )
  return operationsOf(self)
})

const operationsOf = (self: CacheParts): Operations => ({
  getOrSet: (namespace, key, loader, options) => Read.getOrSet(self, namespace, key, loader, options),
  getOrSetEntry: (namespace, key, loader, options) => Read.getOrSetEntry(self, namespace, key, loader, options),
  getOrSetMany: (namespace, keys, loadMissing, options) =>
    Read.getOrSetMany(self, namespace, keys, loadMissing, options),
  get: (namespace, key, options) =>
    Effect.map(Read.getMany(self, namespace, [key], options), ([entry]) => Option.map(entry!, ({ value }) => value)),
  getEntry: (namespace, key, options) => Effect.map(Read.getMany(self, namespace, [key], options), ([entry]) => entry!),
  getMany: (namespace, keys, options) =>
    Effect.map(Read.getMany(self, namespace, keys, options), (entries) =>
      entries.map(Option.map(({ value }) => value))
    ),
  peek: (namespace, key) => Read.peek(self, namespace, key),
  set: (namespace, key, value, options) => Mutation.setMany(self, namespace, [[key, value]], options),
  setMany: (namespace, entries, options) => Mutation.setMany(self, namespace, entries, options),
  invalidate: (namespace, key) =>
    Effect.map(Mutation.invalidateMany(self, namespace, [key]), ([wasThere]) => wasThere === true),
  invalidateMany: (namespace, keys) => Mutation.invalidateMany(self, namespace, keys),
  invalidateTags: (namespace, tags) => Mutation.invalidateTags(self, namespace, tags),
  invalidatePattern: (namespace, pattern) => Mutation.invalidatePattern(self, namespace, pattern),
  expire: (namespace, key) =>
    Effect.map(Mutation.invalidateMany(self, namespace, [key], true), ([wasFresh]) => wasFresh === true),
  expireMany: (namespace, keys) => Mutation.invalidateMany(self, namespace, keys, true),
  expireTags: (namespace, tags) => Mutation.invalidateTags(self, namespace, tags, true),
  expirePattern: (namespace, pattern) => Mutation.invalidatePattern(self, namespace, pattern, true),
  clear: (namespace) => Mutation.clear(self, namespace),
  clearAll: Mutation.clearAll(self),
  cached: (namespace, load, options) => (key) =>
    Read.getOrSet(self, namespace, key, (stale) => Effect.suspend(() => load(key, stale)), options),
  cachedMany: (namespace, loadMissing, options) => (keys) =>
    Read.getOrSetMany(self, namespace, keys, loadMissing, options),
  keys: (namespace, options) => keysOf(self, namespace, options),
  stats: Effect.map(Ref.get(self.stats), (stats) => CacheStats.snapshot(stats.values(), self.bus.status?.())),
  statsOf: ({ name }) =>
    Effect.map(Ref.get(self.stats), (stats) => CacheStats.snapshot(stats.has(name) ? [stats.get(name)!] : [])),
  health: healthOf(self)
})

/** A method of the cache in the context. */
const access =
  <Args extends ReadonlyArray<unknown>, A, E, R>(
    method: (cache: Operations) => (...args: Args) => Effect.Effect<A, E, R>
  ): ((...args: Args) => Effect.Effect<A, E, R | TieredCache>) =>
  (...args) =>
    TieredCache.use((cache) => method(cache)(...args))

/**
 * The cache: memory before a store before your effects.
 *
 * **Example** (Caching an effect)
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { CacheTest, Namespace, TieredCache } from "effect-tiered-cache"
 *
 * const Squares = Namespace.make("squares", { key: Schema.Int, value: Schema.Int })
 *
 * const square = (n: number) => Effect.sync(() => n * n).pipe(TieredCache.getOrSet(Squares, n))
 *
 * Effect.runPromise(square(12).pipe(Effect.provide(CacheTest))).then(console.log) // => 144
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class TieredCache extends Context.Service<TieredCache, Operations>()("effect-tiered-cache/TieredCache") {
  /** `loader.pipe(TieredCache.getOrSet(namespace, key))`; see `Operations.getOrSet`. */
  static readonly getOrSet: {
    <K, A, X, E0 = unknown>(
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<A, E0>
    ): <E extends E0, R>(loader: Loader<A, E, R>) => Effect.Effect<A, E | X, R | TieredCache>
    <K, A, X, E, R>(
      loader: Loader<A, E, R>,
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ): Effect.Effect<A, E | X, R | TieredCache>
  } = Function.dual(
    (args) => Effect.isEffect(args[0]) || typeof args[0] === "function",
    <K, A, X, E, R>(
      loader: Loader<A, E, R>,
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ) => TieredCache.use((cache) => cache.getOrSet(namespace, key, loader, options))
  )

  /** `loader.pipe(TieredCache.getOrSetEntry(namespace, key))`; see `Operations.getOrSetEntry`. */
  static readonly getOrSetEntry: {
    <K, A, X, E0 = unknown>(
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<A, E0>
    ): <E extends E0, R>(loader: Loader<A, E, R>) => Effect.Effect<CacheEntry<A>, E | X, R | TieredCache>
    <K, A, X, E, R>(
      loader: Loader<A, E, R>,
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ): Effect.Effect<CacheEntry<A>, E | X, R | TieredCache>
  } = Function.dual(
    (args) => Effect.isEffect(args[0]) || typeof args[0] === "function",
    <K, A, X, E, R>(
      loader: Loader<A, E, R>,
      namespace: Namespace<K, A, X>,
      key: K,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ) => TieredCache.use((cache) => cache.getOrSetEntry(namespace, key, loader, options))
  )

  /** See `Operations.cached`. */
  static readonly cached =
    <K, A, X, E, R>(
      namespace: Namespace<K, A, X>,
      load: (key: K, stale: CacheEntry<A> | undefined) => Effect.Effect<A | Loaded<A>, E, R>,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ) =>
    (key: K): Effect.Effect<A, E | X, R | TieredCache> =>
      TieredCache.use((cache) => cache.cached(namespace, load, options)(key))

  /** See `Operations.cachedMany`. */
  static readonly cachedMany =
    <K, A, X, E, R>(
      namespace: Namespace<K, A, X>,
      loadMissing: BulkLoader<K, A, E, R>,
      options?: GetOrSetOptions<NoInfer<A>, NoInfer<E>>
    ) =>
    (keys: ReadonlyArray<K>): Effect.Effect<Array<A>, E | X, R | TieredCache> =>
      TieredCache.use((cache) => cache.getOrSetMany(namespace, keys, loadMissing, options))

  /** See `Operations.getOrSetMany`. */
  static readonly getOrSetMany = access((cache) => cache.getOrSetMany)

  /** See `Operations.get`. */
  static readonly get = access((cache) => cache.get)

  /** See `Operations.getEntry`. */
  static readonly getEntry = access((cache) => cache.getEntry)

  /** See `Operations.getMany`. */
  static readonly getMany = access((cache) => cache.getMany)

  /** See `Operations.set`. */
  static readonly set = access((cache) => cache.set)

  /** See `Operations.setMany`. */
  static readonly setMany = access((cache) => cache.setMany)

  /** See `Operations.invalidate`. */
  static readonly invalidate = access((cache) => cache.invalidate)

  /** See `Operations.invalidateMany`. */
  static readonly invalidateMany = access((cache) => cache.invalidateMany)

  /** See `Operations.invalidateTags`. */
  static readonly invalidateTags = access((cache) => cache.invalidateTags)

  /** See `Operations.invalidatePattern`. */
  static readonly invalidatePattern = access((cache) => cache.invalidatePattern)

  /** See `Operations.expire`. */
  static readonly expire = access((cache) => cache.expire)

  /** See `Operations.expireMany`. */
  static readonly expireMany = access((cache) => cache.expireMany)

  /** See `Operations.expireTags`. */
  static readonly expireTags = access((cache) => cache.expireTags)

  /** See `Operations.expirePattern`. */
  static readonly expirePattern = access((cache) => cache.expirePattern)

  /** See `Operations.clear`. */
  static readonly clear = access((cache) => cache.clear)

  /** See `Operations.statsOf`. */
  static readonly statsOf = access((cache) => cache.statsOf)

  /** See `Operations.clearAll`. */
  static readonly clearAll: Effect.Effect<number, CacheError, TieredCache> = Effect.suspend(() =>
    TieredCache.use((cache) => cache.clearAll)
  )

  /** See `Operations.stats`. */
  static readonly stats: Effect.Effect<CacheStats.CacheStats, never, TieredCache> = Effect.suspend(() =>
    TieredCache.use((cache) => cache.stats)
  )

  /** See `Operations.health`. */
  static readonly health: Effect.Effect<CacheHealth.CacheHealth, never, TieredCache> = Effect.suspend(() =>
    TieredCache.use((cache) => cache.health)
  )

  /** See `Operations.keys`. */
  static readonly keys = <K, A>(
    namespace: Any<K, A>,
    options?: KeysOptions
  ): Stream.Stream<CachedKey<K>, CacheError, TieredCache> =>
    Stream.unwrap(TieredCache.useSync((cache) => cache.keys(namespace, options)))

  /**
   * The cache over whatever parts are provided.
   *
   * @category layers
   * @since 0.1.0
   */
  static get layerParts(): Layer.Layer<TieredCache, never, CacheStore | InvalidationBus | MemoryCache | CacheConfig> {
    // A layer is built once per program, by reference: two configurations are two caches.
    return Layer.effect(TieredCache, make)
  }

  /**
   * The cache over any store and bus, with a memory of its own.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerWith = (
    config: Layer.Layer<CacheConfig, CacheError>
  ): Layer.Layer<TieredCache, CacheError, CacheStore | InvalidationBus> =>
    TieredCache.layerParts.pipe(
      Layer.provide(Layer.unwrap(Effect.map(CacheConfig, ({ memory }) => MemoryCache.layer(memory)))),
      Layer.provide(config)
    )

  /**
   * The same, configured by `ConfigProvider`.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layer: Layer.Layer<TieredCache, CacheError, CacheStore | InvalidationBus> = TieredCache.layerWith(
    CacheConfig.layer
  )

  /**
   * The same, configured in code.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerOf = (
    config: CacheConfigInput
  ): Layer.Layer<TieredCache, CacheError, CacheStore | InvalidationBus> =>
    TieredCache.layerWith(CacheConfig.layerOf(config))
}
