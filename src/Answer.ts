/**
 * What a caller is given, and how long it waits for it.
 *
 * A caller waits for the loader only as long as it has to, counted from when the
 * loader begins: not at all where everything it waits for may be revalidated, up
 * to the soft timeout where everything has a reserve, and never beyond the hard
 * one, which with a reserve counts for all alike. Then, and where the loader fails, a stale entry is the answer if the policy
 * has one for that, else what the caller itself gives as a fallback. Each caller
 * decides for itself, also when it shares a load with others.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Effect, Exit, type Fiber } from "effect"
import * as Aging from "./Aging.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError, LoaderTimeout } from "./CacheError.ts"
import type { Counters } from "./CacheStats.ts"
import type { Load } from "./LoadTask.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { Any } from "./Namespace.ts"
import type { GetOptions, GetOrSetOptions } from "./Operations.ts"
import type { Flight } from "./SingleFlight.ts"
import { type Landing, ownCopy, type Progress, type Space } from "./Space.ts"
import { nowOf } from "./Surroundings.ts"

/**
 * The options of a read of either kind.
 *
 * @category models
 * @since 0.1.0
 */
export type AnyReadOptions<A, E> = GetOrSetOptions<A, E> & GetOptions

/**
 * What a read is about to do, before it is known what is missing.
 *
 * @category models
 * @since 0.1.0
 */
export type Plan<K, A, X, E, R> = Omit<Load<K, A, X, E, R>, "progress" | "draw" | "options"> & {
  readonly options: AnyReadOptions<A, E> | undefined
}

/**
 * A load under way.
 *
 * @category models
 * @since 0.1.0
 */
export type LoadFlight<A, E> = Flight<Landing<A>, E, KeyId, Progress<A>>

/**
 * How long a caller waits.
 *
 * @category models
 * @since 0.1.0
 */
export interface Patience<A, X> {
  /** Ends when the caller has waited long enough for these flights. */
  readonly end: (flights: ReadonlyArray<LoadFlight<A, X>>) => Effect.Effect<void>
  /** When that was. */
  readonly ended: () => number
}

/**
 * The patience of a caller with the loads of its keys; undefined if it is endless.
 *
 * @category constructors
 * @since 0.1.0
 */
export const patienceOf = <K, A, X, E, R>(
  { loadMissing, route, space }: Plan<K, A, X, E, R>,
  carriers: ReadonlyMap<KeyId, LoadFlight<A, X>>,
  caller: Fiber.Fiber<unknown, unknown>
): Patience<A, X> | undefined => {
  const { counters, namespace, policy } = space
  const { loaderSoftTimeout: soft, staleWhileRevalidate } = policy
  const hard = namespace.loaderHardTimeout
  if (loadMissing === undefined || Math.min(soft, hard) + (staleWhileRevalidate > 0 ? -Infinity : 0) === Infinity) {
    return undefined
  }
  const boardedAt = nowOf(caller)
  let endedAt = boardedAt
  const limits = (now: number) => {
    const left = [...carriers].filter(([id, { cargo, exit }]) => exit === undefined && !has(cargo.landing, id))
    // What is still to be stored has a time limit of its own.
    if (left.length === 0) return { isRevalidating: false, softAt: Infinity, hardAt: Infinity }
    let isRevalidating = true
    let softAt = -Infinity
    let hardAt = boardedAt
    for (const [id, { cargo }] of left) {
      const since = cargo.loadingSince ?? now
      hardAt = Math.max(hardAt, since)
      const entry = cargo.reserve.get(id)?.entry
      // Whoever forces a load does so to have what it brings.
      const mayRevalidate = !route.force && entry !== undefined && Aging.mayRevalidate(entry, policy, now)
      isRevalidating &&= mayRevalidate
      const enough = mayRevalidate ? since : since + Math.min(soft, hard)
      softAt = Math.max(softAt, entry !== undefined && Math.max(now, enough) < entry.staleUntil ? enough : Infinity)
    }
    return { isRevalidating, softAt, hardAt: hardAt + hard }
  }
  return {
    ended: () => endedAt,
    end: (flights) =>
      Effect.gen(function* () {
        for (const { cargo } of flights) yield* cargo.loading.await
        for (;;) {
          endedAt = yield* Clock.currentTimeMillis
          const { hardAt, isRevalidating, softAt } = limits(endedAt)
          if (softAt <= endedAt) {
            if (!isRevalidating) counters[soft <= hard ? "softTimeouts" : "hardTimeouts"]++
            return
          }
          if (hardAt <= endedAt) {
            counters.hardTimeouts++
            return
          }
          yield* Effect.sleep(Math.min(softAt, hardAt) - endedAt)
        }
      })
  }
}

/**
 * What a caller gets for a key when its flight has landed, or its patience ended.
 *
 * @category running
 * @since 0.1.0
 */
export const answerOf = <K, A, X, E, R>(
  { loadMissing, options, route, space }: Plan<K, A, X, E, R>,
  id: KeyId,
  { cargo, exit }: LoadFlight<A, X>,
  now: number
): CacheEntry<A> | Exit.Failure<never, unknown> | undefined => {
  const hasLanded = exit === undefined || cargo.settled.has(id) ? has(cargo.landing, id) : Exit.isSuccess(exit)
  const landing = hasLanded ? cargo.landing : undefined
  const entry = landing?.entries.get(id)
  if (entry !== undefined) return entry
  const reserve = cargo.reserve.get(id)?.entry
  const stale = reserve === undefined ? undefined : ({ ...reserve, freshness: "stale" } as const)
  const isThere = stale !== undefined && now < stale.staleUntil
  if (loadMissing === undefined) return options?.stale === true && isThere ? stale : undefined
  if (landing === undefined) return isThere ? stale : loaderTimeout(space.namespace)
  const failure = landing.failures.get(id)
  // Whoever may be answered before the load ends need not know how it ended.
  const mayStandIn = (stale: CacheEntry<A>) =>
    Aging.mayStandIn(stale, space.policy, now) || (!route.force && Aging.mayRevalidate(stale, space.policy, now))
  return failure !== undefined &&
    stale !== undefined &&
    mayStandIn(stale) &&
    mayBeAnswered(options, Cause.squash(failure.cause) as E)
    ? stale
    : failure
}

/**
 * The entries of the keys, in order. Where each reader is to have values of its
 * own: what memory gave is one already, what is `shared` with a flight or with a
 * key that repeats is not.
 *
 * @category conversions
 * @since 0.1.0
 */
export const handOut = <K, A>(
  space: Space<K, A>,
  keys: ReadonlyArray<{ readonly id: KeyId }>,
  entries: ReadonlyMap<KeyId, CacheEntry<A>>,
  shared: ReadonlyMap<KeyId, unknown>
): Array<CacheEntry<A> | undefined> => {
  if (!space.namespace.copies) return keys.map(({ id }) => entries.get(id))
  const given = new Set(shared.keys())
  return keys.map(({ id }) => {
    const entry = entries.get(id)
    const isShared = given.has(id)
    given.add(id)
    return entry !== undefined && isShared ? ownCopy(space, entry) : entry
  })
}

const has = <A>({ entries, failures }: Landing<A>, id: KeyId): boolean => entries.has(id) || failures.has(id)

/**
 * What a caller is told whose loader took too long.
 *
 * @category constructors
 * @since 0.1.0
 */
export const loaderTimeout = ({ loaderHardTimeout: timeout, name: namespace }: TimedNamespace) =>
  Exit.fail(new CacheError({ reason: new LoaderTimeout({ namespace, timeout }) })) as Exit.Failure<never, CacheError>

type TimedNamespace = Pick<Any<never, never>, "name" | "loaderHardTimeout">

const mayBeAnswered = <A, E>(options: GetOrSetOptions<A, E> | undefined, error: E | CacheError): boolean =>
  options?.staleOn === undefined || isLoaderTimeout(error) || options.staleOn(error as E)

const isLoaderTimeout = (error: unknown): boolean =>
  error instanceof CacheError && error.reason._tag === "LoaderTimeout"

/**
 * What will do for the caller where there is no entry, if it said so.
 *
 * @category running
 * @since 0.1.0
 */
export const fallbackFor = <A, E>(
  {
    options,
    space
  }: {
    readonly options: GetOrSetOptions<A, E> | undefined
    readonly space: { readonly counters: Counters } | undefined
  },
  error: E | CacheError,
  now: number
): CacheEntry<A> | undefined => {
  if (options?.fallback === undefined || !mayBeAnswered(options, error)) return undefined
  if (space !== undefined) space.counters.fallbacks++
  return { ...bare(options.fallback(error), now), origin: "fallback", freshness: "stale" }
}

/**
 * An entry of which the cache knows nothing but the value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const bare = <A>(value: A, now: number): CacheEntry<A> => ({
  value,
  origin: "loader",
  freshness: "fresh",
  createdAt: now,
  expiresAt: now,
  staleUntil: now,
  tags: [],
  validators: {}
})
