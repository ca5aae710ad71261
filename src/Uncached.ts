/**
 * A read that the cache has no part in: its key is none that its schema allows, or
 * its namespace is refused. The loader answers, nothing is shared or kept.
 *
 * @since 0.1.0
 */
import { Clock, Effect, Exit, Option, Cause } from "effect"
import { type AnyReadOptions, bare, fallbackFor, loaderTimeout } from "./Answer.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import type { CacheError } from "./CacheError.ts"
import * as CacheStats from "./CacheStats.ts"
import { keptNowhere } from "./Keep.ts"
import { runLoader } from "./Load.ts"
import { Loaded } from "./Loaded.ts"
import type { Any, Namespace } from "./Namespace.ts"
import type { BulkLoader } from "./Operations.ts"
import type { CacheParts, Space } from "./Space.ts"

/**
 * The loader answers; or the cache's trouble is the caller's, by choice.
 *
 * @category running
 * @since 0.1.0
 */
export const loadUncached = <K, A, X, E, R>(
  self: CacheParts,
  namespace: Namespace<K, A, X>,
  space: Space<K, A, X> | undefined,
  trouble: CacheError,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R> | undefined,
  options: AnyReadOptions<A, E> | undefined
): Effect.Effect<Array<CacheEntry<A> | undefined>, E | X, R> =>
  Effect.gen(function* () {
    if (space !== undefined) space.counters.lookups += keys.length
    yield* keptNowhere<K, A, X>(self, namespace, space, trouble)
    if (loadMissing === undefined) return keys.map(() => undefined)
    const part = space ?? { namespace, counters: CacheStats.makeCounters() }
    const nothing = keys.map(() => undefined)
    const exit = yield* Effect.exit(inTime(namespace, runLoader(part, keys, loadMissing, nothing)))
    const now = yield* Clock.currentTimeMillis
    if (Exit.isSuccess(exit)) {
      return exit.value.map((value) => bare(value instanceof Loaded ? value.modified!.value : value, now))
    }
    const failure = Cause.findErrorOption(exit.cause)
    const instead = Option.isNone(failure) ? undefined : fallbackFor({ options, space }, failure.value as E, now)
    return instead === undefined ? yield* exit as Exit.Failure<never, E | X> : keys.map(() => instead)
  })

/** Without a flight there is none to leave behind: the loader is interrupted. */
const inTime = <A, E, R>(
  namespace: Pick<Any<never, never>, "name" | "loaderHardTimeout">,
  load: Effect.Effect<A, E, R>
) =>
  namespace.loaderHardTimeout === Infinity
    ? load
    : Effect.timeoutOrElse(load, { duration: namespace.loaderHardTimeout, orElse: () => loaderTimeout(namespace) })
