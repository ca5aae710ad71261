/**
 * How a read goes through memory (L1), the store (L2) and the loader, for one key
 * or many alike.
 *
 * 1. **Memory.** Fresh there: done. Stale there and to be revalidated, or left
 *    alone after a failed load: done too, and perhaps a load begins in the
 *    background.                                                        (`lookupMemory`)
 * 2. **Flight.** A load of the key is under way here: join it.            (`Boarding`)
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
 * Step 1 is here, step 2 in `Boarding`, steps 3 to 5, which happen inside a flight,
 * in `Load`. How entries change is in `Mutation`.
 *
 * @since 0.1.0
 */
import { Cause, Effect, Exit, Option, Random } from "effect"
import * as Aging from "./Aging.ts"
import { type AnyReadOptions, fallbackFor, handOut, type Plan } from "./Answer.ts"
import { boardFlights, refresh } from "./Boarding.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError, errorOf } from "./CacheError.ts"
import { heldIn } from "./InMemory.ts"
import type { Wanted } from "./LoadTask.ts"
import type { KeyId, MemoryEntry } from "./MemoryCache.ts"
import type { CacheFailure, Namespace } from "./Namespace.ts"
import type { BulkLoader, GetOptions, GetOrSetOptions, Loader } from "./Operations.ts"
import { routeOf } from "./Route.ts"
import type { CacheParts, Held, Landing, Space } from "./Space.ts"
import { nowOf } from "./Surroundings.ts"
import { loadUncached } from "./Uncached.ts"

/**
 * See `Operations.getOrSet`. A hit in memory ends here: no more than one look at the clock
 * and one at the `Map`, and no allocation but of this effect.
 *
 * @category running
 * @since 0.1.0
 */
export const getOrSet = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  key: K,
  loader: Loader<A, E, R>,
  options?: GetOrSetOptions<A, E>
): Effect.Effect<A, E | X, R> =>
  Effect.withFiber((caller) => {
    const space = self.spaces.of(namespace)
    const { clock, inTransaction } = self.surroundings.of(caller.context)
    if (options === undefined && !inTransaction && !(space instanceof CacheError)) {
      const entry = hitMemory(space, namespace.keys.identify(key), clock.currentTimeMillisUnsafe())
      if (entry !== undefined) return entry.hit
    }
    return Effect.map(getOrSetEntry(self, namespace, key, loader, options), (entry) => entry.value)
  })

/**
 * See `Operations.getOrSetEntry`.
 *
 * @category running
 * @since 0.1.0
 */
export const getOrSetEntry = <K, A, X, E, R>(
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

/**
 * See `Operations.getOrSetMany`.
 *
 * @category running
 * @since 0.1.0
 */
export const getOrSetMany = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R>,
  options?: GetOrSetOptions<A, E>
): Effect.Effect<Array<A>, E | X, R> =>
  Effect.map(read(self, namespace, keys, loadMissing, options), (entries) => entries.map((entry) => entry!.value))

/**
 * See `Operations.getMany`; with the entries.
 *
 * @category running
 * @since 0.1.0
 */
export const getMany = <K, A, X>(
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

/**
 * See `Operations.peek`.
 *
 * @category running
 * @since 0.1.0
 */
export const peek = <K, A, X>(self: CacheParts, namespace: Namespace<K, A, X>, key: K): A | undefined => {
  const space = self.spaces.of(namespace)
  if (space instanceof CacheError) return undefined
  const entry = hitMemory(space, namespace.keys.identify(key), self.clock.currentTimeMillisUnsafe())
  return entry === undefined || Exit.isFailure(entry.hit) ? undefined : entry.value
}

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
  const entry = id === undefined ? undefined : space.partition.hit(id, now)
  if (entry === undefined) return undefined
  const { counters } = space
  counters.lookups++
  counters.memoryRequests++
  counters.memoryHits++
  space.accesses.use(entry)
  if (Exit.isFailure(entry.hit)) counters.cachedFailures++
  return entry
}
