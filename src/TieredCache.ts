/**
 * The coordinator: how a read goes through memory (L1), the store (L2) and the
 * loader, for one key or many alike.
 *
 * 1. **Memory.** Fresh there: done. Stale there and to be revalidated, or left
 *    alone after a failed load: done too, and perhaps a load begins in the
 *    background.                                                        (`lookupMemory`)
 * 2. **Flight.** A load of the key is under way here: join it.         (`boardFlights`)
 * 3. **Store.** One statement for all keys. Fresh: into memory, done.   (`Lookup`)
 * 4. **Loader.** Runs once, with the keys that are still missing, unless another
 *    process has the lease: then it is waited for, and step 3 again. (`Load`, `Lease`)
 * 5. **Write back** to the store, unless the key has changed since the
 *    load began, and to memory.                                          (`Keep`)
 * 6. **Failure, or no patience left.** A stale entry where the policy has one for
 *    that, else the caller's fallback, else the loader's own failure, shared by all
 *    who waited, or `LoaderTimeout`. Whoever does not wait any longer leaves the
 *    load to the background.                                                  (`Answer`)
 * 7. **Trouble of the cache's own**, such as a store that is away or a key that
 *    its schema refuses, is counted and does not keep the loader from answering,
 *    unless the namespace chose `onStoreFailure: "fail"`.                  (`Uncached`)
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
 * Steps 1 and 2 are here, steps 3 to 5, which happen inside a flight, in
 * `Load`. How entries change is in `Mutation`.
 *
 * @since 0.1.0
 */
import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  Exit,
  type Fiber,
  Function,
  Latch,
  Layer,
  Option,
  Random,
  Ref,
  Result,
  Stream
} from "effect"
import * as AccessLog from "./AccessLog.ts"
import * as Aging from "./Aging.ts"
import {
  answerOf,
  type AnyReadOptions,
  fallbackFor,
  handOut,
  type LoadFlight,
  patienceOf,
  type Plan
} from "./Answer.ts"
import * as Background from "./Background.ts"
import { CacheConfig, type CacheConfigInput } from "./CacheConfig.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError, errorOf } from "./CacheError.ts"
import * as CacheHealth from "./CacheHealth.ts"
import * as CacheMetrics from "./CacheMetrics.ts"
import * as CacheStats from "./CacheStats.ts"
import { CacheStore } from "./CacheStore.ts"
import * as Glob from "./Glob.ts"
import { InvalidationBus } from "./InvalidationBus.ts"
import { heldIn } from "./Keep.ts"
import * as Leases from "./Leases.ts"
import { nowOf, run } from "./Load.ts"
import type { Loaded } from "./Loaded.ts"
import type { Wanted } from "./LoadTask.ts"
import { type KeyId, MemoryCache, type MemoryEntry } from "./MemoryCache.ts"
import * as Mutation from "./Mutation.ts"
import type { Any, CacheFailure, Namespace } from "./Namespace.ts"
import type {
  BulkLoader,
  CachedKey,
  GetOptions,
  GetOrSetOptions,
  KeysOptions,
  Loader,
  Operations
} from "./Operations.ts"
import * as PendingInvalidations from "./PendingInvalidations.ts"
import * as PendingWrites from "./PendingWrites.ts"
import { routeOf } from "./Route.ts"
import type { Flight } from "./SingleFlight.ts"
import { type CacheParts, type Held, type Landing, type Progress, type Space, Spaces } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"
import { loadUncached } from "./Uncached.ts"

const getOrSet = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  key: K,
  loader: Loader<A, E, R>,
  options?: GetOrSetOptions<A, E>
): Effect.Effect<A, E | X, R> =>
  Effect.withFiber((caller) => {
    const space = self.spaces.of(namespace)
    if (options === undefined && !(space instanceof CacheError) && !self.store.inTransaction(caller.context)) {
      const entry = hitMemory(space, namespace.keys.identify(key), nowOf(caller))
      if (entry !== undefined) return entry.hit
    }
    return Effect.map(getOrSetEntry(self, namespace, key, loader, options), (entry) => entry.value)
  })

const getOrSetEntry = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  key: K,
  loader: Loader<A, E, R>,
  options?: GetOrSetOptions<A, E>
): Effect.Effect<CacheEntry<A>, E | X, R> => {
  const load: BulkLoader<K, A, E, R> = (_, [stale]) =>
    Effect.map(Effect.isEffect(loader) ? loader : loader(stale), (brought) => [brought])
  return Effect.map(read(self, namespace, [key], load, options), ([entry]) => entry!)
}

const getOrSetMany = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R>,
  options?: GetOrSetOptions<A, E>
): Effect.Effect<Array<A>, E | X, R> =>
  Effect.map(read(self, namespace, keys, loadMissing, options), (entries) => entries.map((entry) => entry!.value))

const getMany = <K, A, X>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  keys: ReadonlyArray<K>,
  options?: GetOptions
): Effect.Effect<Array<Option.Option<CacheEntry<A>>>, CacheFailure<X>> =>
  // Without a loader there is no failure of one, new or kept.
  Effect.map(
    read(self, namespace, keys, undefined, options) as Effect.Effect<Array<CacheEntry<A> | undefined>, CacheFailure<X>>,
    (entries) => entries.map(Option.fromUndefinedOr)
  )

/** One entry per key; `undefined` only where there is no loader. */
const read = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R> | undefined,
  options: AnyReadOptions<A, E> | undefined
): Effect.Effect<Array<CacheEntry<A> | undefined>, E | X, R> =>
  Effect.withFiber((caller) => {
    const space = self.spaces.of(namespace)
    if (space instanceof CacheError) return loadUncached(self, namespace, undefined, space, keys, loadMissing, options)
    const asked: Array<Wanted<K>> = []
    for (const key of keys) {
      const text = namespace.keys.encode(key)
      if (Exit.isFailure(text)) {
        return loadUncached(self, namespace, space, errorOf(text), keys, loadMissing, options)
      }
      asked.push({ id: namespace.keys.idOf(text.value), key, text: text.value })
    }
    const route = routeOf(self.store, options, caller)
    const plan = { self, space, route, loadMissing, options }
    const now = nowOf(caller)
    const found: Landing<A> = { entries: new Map(), failures: new Map() }
    const wanted = new Map<KeyId, Wanted<K>>()
    const due: Array<Wanted<K>> = []
    const draw = space.policy.earlyRefreshBeta > 0 ? caller.getRef(Random.Random).nextDoubleUnsafe() : 0
    for (const want of asked) {
      if (found.entries.has(want.id) || found.failures.has(want.id) || wanted.has(want.id)) continue
      const answer = lookupMemory(plan, want.id, now, draw)
      if (answer === undefined) wanted.set(want.id, want)
      else if (answer.failure === undefined) found.entries.set(want.id, answer.entry)
      else found.failures.set(want.id, answer.failure)
      if (answer?.isDue === true) due.push(want)
    }
    if (due.length > 0) refresh(plan, due, draw, caller)
    const brought = wanted.size === 0 ? Effect.succeed(found) : boardFlights(plan, wanted, found, caller)
    return Effect.flatMap(brought, ({ entries, failures }) => {
      for (const { id } of asked) {
        const failure = failures.get(id)
        if (failure === undefined || loadMissing === undefined) continue
        const instead = fallbackFor(plan, Cause.squash(failure.cause) as E, nowOf(caller))
        if (instead === undefined) return failure as Exit.Failure<never, E>
        entries.set(id, instead)
      }
      return Effect.succeed(handOut(space, asked, entries, wanted))
    })
  })

interface InMemory<A> {
  readonly entry: CacheEntry<A>
  readonly failure: Exit.Failure<never, unknown> | undefined
  /** Whether it is time to load it anew. */
  readonly isDue: boolean
}

const lookupMemory = <K, A, X, E, R>(
  { loadMissing, route, space }: Plan<K, A, X, E, R>,
  id: KeyId,
  now: number,
  draw: number
): InMemory<A> | undefined => {
  const { counters, partition, policy } = space
  counters.lookups++
  if (!route.readMemory) return undefined
  counters.memoryRequests++
  const present = partition.get(id, now)
  const held = present === undefined ? undefined : heldIn(space, present)
  const answer =
    held === undefined
      ? undefined
      : answerInMemory(held, policy, now, draw, loadMissing === undefined ? "none" : route.shared ? "shared" : "own")
  if (answer === undefined) counters.memoryMisses++
  else {
    counters.memoryHits++
    space.accesses.use(present!)
    if (answer.entry.freshness === "stale") counters.stale++
    if (answer.failure !== undefined && loadMissing !== undefined) counters.cachedFailures++
  }
  return answer
}

/** Undefined where others have to be asked before this may be the answer. */
const answerInMemory = <A>(
  { entry, failure, loadTime, retryAt, vouchedUntil = 0 }: Held<A>,
  policy: Space<never, A>["policy"],
  now: number,
  draw: number,
  load: "none" | "own" | "shared"
): InMemory<A> | undefined => {
  if (now >= vouchedUntil) return undefined
  const isRested = now >= retryAt
  if (now < entry.expiresAt) {
    const mayLoad = load === "shared" && isRested && failure === undefined
    return { entry, failure, isDue: mayLoad && Aging.isDue(entry, loadTime, policy, now, draw) }
  }
  if (load === "none" || failure !== undefined) return undefined
  // A load that is shared with nobody begins when its caller waits for it.
  const isDue = load === "shared" && isRested && Aging.mayRevalidate(entry, policy, now)
  return isDue || !isRested ? { entry: { ...entry, freshness: "stale" }, failure, isDue } : undefined
}

/** The whole of a hit: on a miss nothing is counted, the read begins anew. */
const hitMemory = <K, A>(space: Space<K, A>, id: KeyId | undefined, now: number): MemoryEntry<A> | undefined => {
  const entry = id === undefined ? undefined : space.partition.get(id, now)
  if (entry === undefined || now >= entry.hitUntil) return undefined
  const { counters } = space
  counters.lookups++
  counters.memoryRequests++
  counters.memoryHits++
  space.accesses.use(entry)
  if (entry.details.failure !== undefined) counters.cachedFailures++
  return entry
}

/** Joins the flights that carry the keys, and starts one for the keys that none carries. */
const boardFlights = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  wanted: ReadonlyMap<KeyId, Wanted<K>>,
  found: Landing<A>,
  caller: Fiber.Fiber<unknown, unknown>
): Effect.Effect<Landing<A>, E | X, R> => {
  const { loadMissing, options, route, self, space } = plan
  const flights = loadMissing === undefined ? space.lookups : space.loads
  const carriers = new Map<KeyId, LoadFlight<A, X>>()
  const board = (): ReadonlyArray<LoadFlight<A, X>> => {
    const left: Array<Wanted<K>> = []
    for (const want of wanted.values()) {
      const flight = route.force || !route.shared ? undefined : flights.find<X>(want.id)
      const landed = flight === undefined && route.readMemory ? freshIn(space, want.id, nowOf(caller)) : undefined
      if (landed?.failure !== undefined) found.failures.set(want.id, landed.failure)
      else if (landed !== undefined) found.entries.set(want.id, landed.entry)
      else if (flight === undefined) left.push(want)
      else {
        carriers.set(want.id, flight)
        if (loadMissing !== undefined) space.counters.coalesced++
      }
    }
    if (left.length > 0) {
      if (route.force) for (const { id } of left) space.fences.break(id)
      const started = takeOff(plan, left, undefined, caller)
      for (const { id } of left) carriers.set(id, started)
    }
    return [...new Set(carriers.values())]
  }
  const patience = patienceOf(plan, carriers, caller)
  /** Whether the caller need not wait for a load that ends with it: not where it is part of a transaction. */
  const adopt = (flight: LoadFlight<A, X>): boolean => {
    if (!route.detachable) return false
    if (self.background.adopt(flights, flight, caller.context)) flight.cargo.inBackground = true
    return true
  }
  /** One failure that nothing can stand in for fails the whole call. */
  const isHopeless = (flight: LoadFlight<A, X>) => {
    const now = nowOf(caller)
    for (const [id, carrier] of carriers) {
      if (carrier === flight && Exit.isExit(answerOf(plan, id, flight, now))) return options?.fallback === undefined
    }
    return false
  }
  const isEnough = wanted.size > 1 && loadMissing !== undefined ? isHopeless : undefined
  const waited =
    patience === undefined ? flights.wait(board, isEnough) : flights.waitWithin(board, patience.end, adopt, isEnough)
  return Effect.map(waited, (brought) => {
    const now = brought === undefined ? patience!.ended() : nowOf(caller)
    for (const [id, flight] of carriers) {
      // Who has enough leaves the others, and may have ended them by that.
      if (brought !== undefined && (flight.exit === undefined || Exit.isFailure(flight.exit))) continue
      const answer = answerOf(plan, id, flight, now)
      if (answer === undefined) continue
      if (Exit.isExit(answer)) found.failures.set(id, answer)
      else {
        found.entries.set(id, answer)
        if (answer.freshness === "stale") space.counters.stale++
      }
    }
    return found
  })
}

/** Starts a load. With a draw it is one that nobody waits for. */
const takeOff = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  left: ReadonlyArray<Wanted<K>>,
  draw: number | undefined,
  caller: Fiber.Fiber<unknown, unknown>
): LoadFlight<A, X> => {
  const { loadMissing, route, space } = plan
  const flights = loadMissing === undefined ? space.lookups : space.loads
  const reserve = new Map<KeyId, Held<A>>()
  const now = nowOf(caller)
  for (const { id } of left) {
    const present = route.readMemory || (route.force && route.keepMemory) ? space.partition.get(id, now) : undefined
    const held = present === undefined ? undefined : heldIn(space, present)
    if (held !== undefined && held.failure === undefined) reserve.set(id, held)
  }
  const inBackground = draw !== undefined
  const landing: Landing<A> = { entries: new Map(), failures: new Map() }
  const progress: Progress<A> = { reserve, landing, loadingSince: undefined, loading: Latch.makeUnsafe(), inBackground }
  const ids = route.shared ? left.map(({ id }) => id) : []
  const start = (flight: Flight<Landing<A>, X, KeyId, Progress<A>>) =>
    Effect.runForkWith(caller.context as Context.Context<R>)(
      run({ ...plan, progress, draw }, left, (id) => flights.divert(id, flight))
    )
  return flights.takeOff<X>(ids, start, progress)
}

/** Loads in the background what is stale or soon will be; a key at a time, and only so many. */
const refresh = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  due: ReadonlyArray<Wanted<K>>,
  draw: number,
  caller: Fiber.Fiber<unknown, unknown>
): void => {
  const { self, space } = plan
  const { counters, loads } = space
  const left = due.filter(({ id }) => loads.find(id) === undefined)
  if (left.length === 0) return
  if (self.background.isFull) {
    counters.refreshesSkipped += left.length
    return
  }
  counters.refreshes += left.length
  self.background.adopt(loads, takeOff(plan, left, draw, caller), caller.context)
}

const freshIn = <K, A>(space: Space<K, A>, id: KeyId, now: number): Held<A> | undefined => {
  const present = space.partition.get(id, now)
  return present === undefined || now >= Math.min(present.freshUntil, present.vouchedUntil)
    ? undefined
    : heldIn(space, present)
}

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
    writes,
    leases,
    background,
    spaces,
    stats,
    complaints: new Set(),
    softReadTimeout: config.store.softReadTimeout,
    since: yield* Clock.currentTimeMillis
  }
  const clock = yield* Clock.Clock
  yield* bus.subscribe(
    (message) => {
      if (message.origin !== id) Mutation.receive(self, message, clock.currentTimeMillisUnsafe())
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
    getOrSet(self, namespace, key, (stale) => Effect.suspend(() => load(key, stale)), options),
  cachedMany: (namespace, loadMissing, options) => (keys) => getOrSetMany(self, namespace, keys, loadMissing, options),
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
