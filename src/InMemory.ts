/**
 * How an entry goes into memory (L1), and how it comes out.
 *
 * Memory *vouches* for an entry for `memoryTimeToLive` from when the store had it, or
 * had it last. For so long it answers with it, while it is fresh; what may be served
 * stale it holds on after that, as a reserve for a load. It takes nothing whose local
 * fence is broken: that is older than what has happened since.
 *
 * Where every reader is given a copy, memory holds what copies are made of.
 *
 * @since 0.1.0
 */
import { type Fiber, Option, Random } from "effect"
import * as Aging from "./Aging.ts"
import * as CachePolicy from "./CachePolicy.ts"
import type { Fenced } from "./LoadTask.ts"
import type { KeyId, MemoryEntry } from "./MemoryCache.ts"
import type { Route } from "./Route.ts"
import type { Held, Space } from "./Space.ts"

/**
 * Chance, from 0 up to but not including 1, where the policy has a use for it: a
 * seeded `Random` of the caller's is not drawn from for nothing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const drawFor = <K, A>({ policy }: Pick<Space<K, A>, "policy">, fiber: Fiber.Fiber<unknown, unknown>): number =>
  policy.jitter > 0 ? fiber.getRef(Random.Random).nextDoubleUnsafe() : 0

/**
 * Until when memory vouches for what it takes now.
 *
 * @category conversions
 * @since 0.1.0
 */
export const vouch = <K, A>({ policy }: Space<K, A>, now: number, draw: number): number =>
  now + CachePolicy.jittered(policy.memoryTimeToLive, policy.jitter, draw)

/**
 * Puts an entry, or a failure, into memory if the local fence holds. Memory
 * answers with it while it is fresh and vouched for, and holds it on as a reserve
 * for as long as it may be served stale.
 *
 * @category running
 * @since 0.1.0
 */
export const keepInMemory = <K, A>(
  { fences, namespace, partition, policy }: Space<K, A>,
  { id, local }: Pick<Fenced<K>, "id" | "local">,
  { data, entry, failure, loadTime, retryAt, size, unstored }: Held<A>,
  vouchedUntil: number,
  now: number
): void => {
  const { createdAt, expiresAt: freshUntil, staleUntil, tags, validators } = entry
  if (fences.isBroken(local, tags)) return
  const isFreshUntil = Math.min(freshUntil, vouchedUntil)
  partition.put(
    id,
    {
      // Where every reader is given a copy, this is what it is made of; see `heldIn`.
      value: namespace.copies ? (data as A) : entry.value,
      createdAt,
      freshUntil,
      vouchedUntil,
      expiresAt: staleUntil > freshUntil && policy.memoryTimeToLive > 0 ? staleUntil : isFreshUntil,
      hitUntil:
        namespace.copies && failure === undefined
          ? -Infinity
          : Math.min(isFreshUntil, Math.max(retryAt, Aging.firstDue(entry, loadTime, policy))),
      size,
      tags,
      details: { failure, retryAt, loadTime, validators, unstored }
    },
    now
  )
}

/**
 * What memory holds under an entry of its own; undefined if that no longer decodes.
 *
 * @category conversions
 * @since 0.1.0
 */
export const heldIn = <K, A>({ namespace }: Space<K, A>, entry: MemoryEntry<A>): Held<A> | undefined => {
  const { createdAt, details, freshUntil, size, tags, vouchedUntil } = entry
  const { failure, loadTime = 0, retryAt = 0, unstored, validators = {} } = details
  const data = namespace.copies && failure === undefined ? (entry.value as string) : undefined
  const copy = data === undefined ? undefined : namespace.values.decode(data)
  if (copy !== undefined && Option.isNone(copy)) return undefined
  return {
    entry: {
      value: copy === undefined ? entry.value : copy.value,
      origin: "memory",
      freshness: "fresh",
      createdAt,
      expiresAt: freshUntil,
      staleUntil: Math.max(entry.expiresAt, freshUntil),
      tags,
      validators
    },
    failure,
    size,
    data,
    loadTime,
    retryAt,
    vouchedUntil,
    fence: undefined,
    unstored
  }
}

/**
 * What a load may fall back on of what memory holds; whoever forces a load may have
 * it too.
 *
 * @category getters
 * @since 0.1.0
 */
export const reserveIn = <K, A>(
  space: Space<K, A>,
  route: Pick<Route, "readMemory" | "force" | "keepMemory">,
  id: KeyId,
  now: number
): Held<A> | undefined => {
  const present = route.readMemory || (route.force && route.keepMemory) ? space.partition.get(id, now) : undefined
  const held = present === undefined ? undefined : heldIn(space, present)
  return held?.failure === undefined ? held : undefined
}
