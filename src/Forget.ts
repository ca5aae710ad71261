/**
 * How a change is followed in memory: what was read before it is let in no more,
 * nobody joins what is under way, and what is there is dropped or made stale. Each is
 * one synchronous step.
 *
 * What is under way goes on for those who wait for it; its fences are broken, so that
 * none of it is kept (`LocalFence`).
 *
 * @since 0.1.0
 */
import type { Glob } from "./Glob.ts"
import type { IsKnownTo } from "./InvalidationBus.ts"
import type { KeyId, RemovalCause } from "./MemoryCache.ts"
import type { Space } from "./Space.ts"

/**
 * How something is forgotten: for which cause, from when on what was fresh is
 * stale, where it is to be kept as a reserve, and who knew of it before we heard.
 *
 * @category models
 * @since 0.1.0
 */
export interface Forgetting {
  readonly cause: RemovalCause
  readonly staleSince?: number | undefined
  readonly isKnownTo?: IsKnownTo | undefined
}

/**
 * Lets nothing that was read before the change into memory, nor anybody join what is
 * under way, and drops what is there or makes it stale. Whether something fresh was
 * made stale. One synchronous step, as are all of these.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forget = <K, A>(space: Space<K, A>, id: KeyId, how: Forgetting): boolean => {
  const { cause, isKnownTo, staleSince } = how
  space.fences.break(id, isKnownTo)
  if (isOvertaken(space, how)(id)) {
    space.loads.divert(id)
    space.lookups.divert(id)
  }
  if (staleSince !== undefined) return space.partition.expire(id, staleSince, cause)
  space.partition.remove(id, cause)
  return false
}

/**
 * The same for what has one of the tags. What is under way may yet bring one of
 * them: it is kept if it does not, but nobody joins it any more.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forgetTagged = <K, A>(space: Space<K, A>, tags: ReadonlyArray<string>, how: Forgetting): void => {
  space.fences.breakTagged(tags, how.isKnownTo)
  divertMatching(space, isOvertaken(space, how))
  for (const id of space.partition.tagged(tags)) forget(space, id, how)
}

/**
 * The same for the keys that a pattern matches.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forgetMatching = <K, A>(space: Space<K, A>, { matches }: Glob, how: Forgetting): void => {
  const accepts = (id: KeyId) => matches(space.namespace.keys.textOf(id))
  const overtaken = isOvertaken(space, how)
  space.fences.breakMatching(accepts, how.isKnownTo)
  divertMatching(space, (id) => accepts(id) && overtaken(id))
  for (const id of space.partition.ids()) if (accepts(id)) forget(space, id, how)
}

/**
 * The same for every key of the namespace, of which nothing stays.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forgetAll = <K, A>(space: Space<K, A>, how: Pick<Forgetting, "cause" | "isKnownTo">): void => {
  if (how.isKnownTo === undefined) space.fences.breakAll()
  else space.fences.breakMatching(() => true, how.isKnownTo)
  divertMatching(space, isOvertaken(space, how))
  space.partition.clear(how.cause)
}

const divertMatching = <K, A>({ loads, lookups }: Space<K, A>, accepts: (id: KeyId) => boolean): void => {
  loads.divertMatching(accepts)
  lookups.divertMatching(accepts)
}

/** Asked once the fences are broken. */
const isOvertaken =
  <K, A>({ fences }: Space<K, A>, { isKnownTo }: Forgetting) =>
  (id: KeyId): boolean =>
    isKnownTo === undefined || !fences.hold(id)
