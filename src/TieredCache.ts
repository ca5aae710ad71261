/**
 * The coordinator: how a read goes through memory (L1), the store (L2) and the
 * loader, for one key or many alike.
 *
 * 1. **Memory.** Fresh there: done.                                  (`lookupMemory`)
 * 2. **Flight.** A load of the key is under way here: join it.         (`boardFlights`)
 * 3. **Store.** One statement for all keys. Fresh: into memory, done.   (`lookupStore`)
 * 4. **Loader.** Runs once, with the keys that are still missing.        (`runLoader`)
 * 5. **Write back** to the store, unless the key has changed since the
 *    load began, and to memory.                                          (`writeBack`)
 * 6. **Failure.** The loader's own, shared by all who waited.
 * 7. **Trouble of the cache's own**, such as a store that is away or a key that
 *    its schema refuses, is counted and does not keep the loader from answering,
 *    unless the namespace chose `onStoreFailure: "fail"`.              (`loadUncached`)
 *
 * A read without a loader (`get`) is the same read and ends after step 3.
 *
 * **Interleavings.** The local fences of the keys are opened in the synchronous
 * step that starts a flight, before anything is read (`LocalFence`); the store's
 * own fences come with its answer (`CacheStore`). In that same step memory is
 * asked once more, without counting: the caller may have been set aside between
 * steps 1 and 2 while another flight for the key landed.
 *
 * **Inside a transaction** that the store would join, a read passes by memory and
 * flights, sees the store as the transaction does, and keeps nothing: what it
 * finds may never be committed.
 *
 * Steps 1, 2 and 7 are here, steps 3 to 5, which happen inside a flight, in
 * `Load`. How entries change is in `Mutation`.
 *
 * @since 0.1.0
 */
import { Clock, Context, Effect, Exit, type Fiber, Function, Layer, Option, Ref, Stream } from "effect"
import { CacheConfig, type CacheConfigInput } from "./CacheConfig.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError } from "./CacheError.ts"
import * as CacheHealth from "./CacheHealth.ts"
import * as CacheMetrics from "./CacheMetrics.ts"
import * as CacheStats from "./CacheStats.ts"
import { CacheStore } from "./CacheStore.ts"
import { InvalidationBus } from "./InvalidationBus.ts"
import { errorOf, keptNowhere, type Load, nowOf, run, runLoader, type Wanted } from "./Load.ts"
import { type KeyId, MemoryCache, type MemoryEntry } from "./MemoryCache.ts"
import * as Mutation from "./Mutation.ts"
import type { Namespace, OnStoreFailure, StoreFailure } from "./Namespace.ts"
import type { BulkLoader, CachedKey, GetOptions, GetOrSetOptions, Operations } from "./Operations.ts"
import { type Route, routeOf } from "./Route.ts"
import type { Flight } from "./SingleFlight.ts"
import { type CacheParts, type Entries, type Space, Spaces } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"

const getOrSet = <K, A, F extends OnStoreFailure, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  key: K,
  loader: Effect.Effect<A, E, R>,
  options?: GetOrSetOptions
): Effect.Effect<A, E | StoreFailure<F>, R> =>
  Effect.withFiber((caller) => {
    const space = self.spaces.of(namespace)
    if (options === undefined && !(space instanceof CacheError) && !self.store.inTransaction(caller.context)) {
      const entry = hitMemory(space, namespace.keys.identify(key), nowOf(caller))
      if (entry !== undefined) return entry.hit
    }
    return Effect.map(getOrSetEntry(self, namespace, key, loader, options), (entry) => entry.value)
  })

const getOrSetEntry = <K, A, F extends OnStoreFailure, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  key: K,
  loader: Effect.Effect<A, E, R>,
  options?: GetOrSetOptions
): Effect.Effect<CacheEntry<A>, E | StoreFailure<F>, R> =>
  Effect.map(
    read(self, namespace, [key], () => Effect.map(loader, (value) => [value]), options),
    ([entry]) => entry!
  )

const getOrSetMany = <K, A, F extends OnStoreFailure, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R>,
  options?: GetOrSetOptions
): Effect.Effect<Array<A>, E | StoreFailure<F>, R> =>
  Effect.map(read(self, namespace, keys, loadMissing, options), (entries) => entries.map((entry) => entry!.value))

const getMany = <K, A, F extends OnStoreFailure>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  keys: ReadonlyArray<K>,
  options?: GetOptions
): Effect.Effect<Array<Option.Option<CacheEntry<A>>>, StoreFailure<F>> =>
  Effect.map(read(self, namespace, keys, undefined, options), (entries) => entries.map(Option.fromUndefinedOr))

/** One entry per key; `undefined` only where there is no loader. */
const read = <K, A, F extends OnStoreFailure, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R> | undefined,
  options: GetOrSetOptions | undefined
): Effect.Effect<Array<CacheEntry<A> | undefined>, E | StoreFailure<F>, R> =>
  Effect.withFiber((caller) => {
    const space = self.spaces.of(namespace)
    if (space instanceof CacheError) return loadUncached(self, namespace, undefined, space, keys, loadMissing)
    const asked: Array<Wanted<K>> = []
    for (const key of keys) {
      const text = namespace.keys.encode(key)
      if (Exit.isFailure(text)) return loadUncached(self, namespace, space, errorOf(text), keys, loadMissing)
      asked.push({ id: namespace.keys.idOf(text.value), key, text: text.value })
    }
    const route = routeOf(self.store, options, caller)
    const now = nowOf(caller)
    const found = new Map<KeyId, CacheEntry<A>>()
    const wanted = new Map<KeyId, Wanted<K>>()
    for (const want of asked) {
      if (found.has(want.id) || wanted.has(want.id)) continue
      const entry = lookupMemory(space, want.id, now, route)
      if (entry === undefined) wanted.set(want.id, want)
      else found.set(want.id, fromMemory(entry))
    }
    if (wanted.size === 0) return Effect.succeed(asked.map(({ id }) => found.get(id)))
    const load = { self, space, route, loadMissing, options }
    return Effect.map(
      route.shared ? boardFlights(load, wanted, found, caller) : run(load, [...wanted.values()]),
      (brought) => asked.map(({ id }) => found.get(id) ?? brought.get(id))
    )
  })

const lookupMemory = <K, A>(space: Space<K, A>, id: KeyId, now: number, route: Route): MemoryEntry<A> | undefined => {
  const { counters, partition } = space
  counters.lookups++
  if (!route.readMemory) return undefined
  counters.memoryRequests++
  const entry = partition.get(id, now)
  if (entry === undefined) counters.memoryMisses++
  else counters.memoryHits++
  return entry
}

/** The whole of a hit: on a miss nothing is counted, the read begins anew. */
const hitMemory = <K, A>(space: Space<K, A>, id: KeyId | undefined, now: number): MemoryEntry<A> | undefined => {
  const entry = id === undefined ? undefined : space.partition.get(id, now)
  if (entry === undefined) return undefined
  const { counters } = space
  counters.lookups++
  counters.memoryRequests++
  counters.memoryHits++
  return entry
}

/** Joins the flights that carry the keys, and starts one for the keys that none carries. */
const boardFlights = <K, A, F extends OnStoreFailure, E, R>(
  load: Load<K, A, F, E, R>,
  wanted: ReadonlyMap<KeyId, Wanted<K>>,
  found: Map<KeyId, CacheEntry<A>>,
  caller: Fiber.Fiber<unknown, unknown>
): Effect.Effect<Entries<A>, E | StoreFailure<F>, R> => {
  const { loadMissing, route, space } = load
  const flights = loadMissing === undefined ? space.lookups : space.loads
  const carriers = new Map<KeyId, Flight<Entries<A>, E | StoreFailure<F>, KeyId>>()
  let boarded: ReadonlyArray<Flight<Entries<A>, E | StoreFailure<F>, KeyId>> = []
  const board = () => {
    const left: Array<Wanted<K>> = []
    for (const want of wanted.values()) {
      const flight = route.force ? undefined : flights.find<E | StoreFailure<F>>(want.id)
      const landed = flight === undefined && route.readMemory ? space.partition.get(want.id, nowOf(caller)) : undefined
      if (landed !== undefined) found.set(want.id, fromMemory(landed))
      else if (flight === undefined) left.push(want)
      else {
        carriers.set(want.id, flight)
        if (loadMissing !== undefined) space.counters.coalesced++
      }
    }
    if (left.length > 0) {
      const ids = left.map(({ id }) => id)
      if (route.force) for (const id of ids) space.fences.break(id)
      const started = flights.takeOff<E | StoreFailure<F>>(ids, (flight) =>
        Effect.runForkWith(caller.context as Context.Context<R>)(run(load, left, (id) => flights.divert(id, flight)))
      )
      for (const id of ids) carriers.set(id, started)
    }
    boarded = [...new Set(carriers.values())]
    return boarded
  }
  // Each key from the flight that was boarded for it: another that carries it too may have been diverted.
  return Effect.map(flights.wait(board), (brought) => {
    const broughtBy = new Map(boarded.map((flight, index) => [flight, brought[index]!]))
    const entries = new Map<KeyId, CacheEntry<A>>()
    for (const [id, flight] of carriers) {
      const entry = broughtBy.get(flight)!.get(id)
      if (entry !== undefined) entries.set(id, entry)
    }
    return entries
  })
}

/** The loader answers, the cache has no part in it; or the cache's trouble is the caller's, by choice. */
const loadUncached = <K, A, F extends OnStoreFailure, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, F>,
  space: Space<K, A, F> | undefined,
  trouble: CacheError,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R> | undefined
): Effect.Effect<Array<CacheEntry<A> | undefined>, E | StoreFailure<F>, R> =>
  Effect.gen(function* () {
    if (space !== undefined) space.counters.lookups += keys.length
    yield* keptNowhere(self, namespace, space, trouble)
    if (loadMissing === undefined) return keys.map(() => undefined)
    const values = yield* runLoader(space ?? { namespace, counters: CacheStats.makeCounters() }, keys, loadMissing)
    const now = yield* Clock.currentTimeMillis
    return values.map((value) => ({
      value,
      origin: "loader",
      freshness: "fresh",
      createdAt: now,
      expiresAt: now,
      tags: []
    }))
  })

const keysOf = <K, A>(self: CacheParts, namespace: Namespace<K, A>): Stream.Stream<CachedKey<K>, CacheError> =>
  self.store.scan(namespace.name).pipe(
    Stream.map(({ key, ...row }) => Option.map(namespace.keys.decode(key), (key) => ({ key, ...row }))),
    Stream.filter(Option.isSome),
    Stream.map((cached) => cached.value)
  )

const healthOf = (self: CacheParts): Effect.Effect<CacheHealth.CacheHealth> =>
  Effect.map(Effect.ignore(self.store.ping), () =>
    CacheHealth.make({ memory: { status: "Up", since: self.since }, store: self.store.health() })
  )

const fromMemory = <A>({ createdAt, freshUntil, tags, value }: MemoryEntry<A>): CacheEntry<A> => ({
  value,
  origin: "memory",
  freshness: "fresh",
  createdAt,
  expiresAt: freshUntil,
  tags
})

const make = Effect.gen(function* () {
  const config = yield* CacheConfig
  const bus = yield* InvalidationBus
  const store = yield* StoreGuard.make(yield* CacheStore, config.store)
  const stats = yield* Ref.make<ReadonlyMap<string, CacheStats.NamespaceStats>>(new Map())
  const spaces = new Spaces(config, yield* MemoryCache, stats, yield* CacheMetrics.make)
  const id = globalThis.crypto.randomUUID()
  const self: CacheParts = {
    id,
    store,
    bus,
    spaces,
    stats,
    complaints: new Set(),
    since: yield* Clock.currentTimeMillis
  }
  yield* bus.subscribe(({ invalidation, origin }) => {
    if (origin !== id) Mutation.receive(self, invalidation)
  })
  yield* Effect.addFinalizer(() =>
    Effect.forEach(spaces.all(), ({ loads, lookups }) => Effect.andThen(loads.close, lookups.close), { discard: true })
  )
  return operationsOf(self)
})

const operationsOf = (self: CacheParts): Operations => ({
  getOrSet: (namespace, key, loader, options) => getOrSet(self, namespace, key, loader, options),
  getOrSetEntry: (namespace, key, loader, options) => getOrSetEntry(self, namespace, key, loader, options),
  getOrSetMany: (namespace, keys, loadMissing, options) => getOrSetMany(self, namespace, keys, loadMissing, options),
  get: (namespace, key, options) =>
    Effect.map(getMany(self, namespace, [key], options), ([entry]) => Option.map(entry!, ({ value }) => value)),
  getEntry: (namespace, key, options) => Effect.map(getMany(self, namespace, [key], options), ([entry]) => entry!),
  getMany: (namespace, keys, options) =>
    Effect.map(getMany(self, namespace, keys, options), (entries) => entries.map(Option.map(({ value }) => value))),
  set: (namespace, key, value, options) => Mutation.setMany(self, namespace, [[key, value]], options),
  setMany: (namespace, entries, options) => Mutation.setMany(self, namespace, entries, options),
  invalidate: (namespace, key) =>
    Effect.map(Mutation.invalidateMany(self, namespace, [key]), ([wasThere]) => wasThere === true),
  invalidateMany: (namespace, keys) => Mutation.invalidateMany(self, namespace, keys),
  clear: (namespace) => Mutation.clear(self, namespace),
  clearAll: Mutation.clearAll(self),
  cached: (namespace, load, options) => (key) =>
    getOrSet(
      self,
      namespace,
      key,
      Effect.suspend(() => load(key)),
      options
    ),
  cachedMany: (namespace, loadMissing, options) => (keys) => getOrSetMany(self, namespace, keys, loadMissing, options),
  keys: (namespace) => keysOf(self, namespace),
  stats: Effect.map(Ref.get(self.stats), (stats) => CacheStats.snapshot(stats.values())),
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
    <K, A, F extends OnStoreFailure>(
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ): <E, R>(loader: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure<F>, R | TieredCache>
    <K, A, F extends OnStoreFailure, E, R>(
      loader: Effect.Effect<A, E, R>,
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ): Effect.Effect<A, E | StoreFailure<F>, R | TieredCache>
  } = Function.dual(
    (args) => Effect.isEffect(args[0]),
    <K, A, F extends OnStoreFailure, E, R>(
      loader: Effect.Effect<A, E, R>,
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ) => TieredCache.use((cache) => cache.getOrSet(namespace, key, loader, options))
  )

  /** `loader.pipe(TieredCache.getOrSetEntry(namespace, key))`; see `Operations.getOrSetEntry`. */
  static readonly getOrSetEntry: {
    <K, A, F extends OnStoreFailure>(
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ): <E, R>(loader: Effect.Effect<A, E, R>) => Effect.Effect<CacheEntry<A>, E | StoreFailure<F>, R | TieredCache>
    <K, A, F extends OnStoreFailure, E, R>(
      loader: Effect.Effect<A, E, R>,
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ): Effect.Effect<CacheEntry<A>, E | StoreFailure<F>, R | TieredCache>
  } = Function.dual(
    (args) => Effect.isEffect(args[0]),
    <K, A, F extends OnStoreFailure, E, R>(
      loader: Effect.Effect<A, E, R>,
      namespace: Namespace<K, A, F>,
      key: K,
      options?: GetOrSetOptions
    ) => TieredCache.use((cache) => cache.getOrSetEntry(namespace, key, loader, options))
  )

  /** See `Operations.cached`. */
  static readonly cached =
    <K, A, F extends OnStoreFailure, E, R>(
      namespace: Namespace<K, A, F>,
      load: (key: K) => Effect.Effect<A, E, R>,
      options?: GetOrSetOptions
    ) =>
    (key: K): Effect.Effect<A, E | StoreFailure<F>, R | TieredCache> =>
      TieredCache.use((cache) => cache.cached(namespace, load, options)(key))

  /** See `Operations.cachedMany`. */
  static readonly cachedMany =
    <K, A, F extends OnStoreFailure, E, R>(
      namespace: Namespace<K, A, F>,
      loadMissing: BulkLoader<K, A, E, R>,
      options?: GetOrSetOptions
    ) =>
    (keys: ReadonlyArray<K>): Effect.Effect<Array<A>, E | StoreFailure<F>, R | TieredCache> =>
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
  static readonly keys = <K, A>(namespace: Namespace<K, A>): Stream.Stream<CachedKey<K>, CacheError, TieredCache> =>
    Stream.unwrap(TieredCache.useSync((cache) => cache.keys(namespace)))

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
