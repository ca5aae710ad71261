/**
 * A namespace as one cache has it: its policy decided, its part of memory, its
 * loads and lookups under way, its counters.
 *
 * A space is opened at the first use of a namespace and stays. A namespace of
 * the same name, schemas and options shares it; any other of that name is refused, because one would decode what the
 * other encoded, or keep it for as long as the other says.
 *
 * @since 0.1.0
 */
import { type Clock, Duration, Equal, Exit, type Latch, Ref } from "effect"
import { AccessLog } from "./AccessLog.ts"
import type { Background } from "./Background.ts"
import type { CacheConfig } from "./CacheConfig.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError, InvalidNamespace } from "./CacheError.ts"
import type { CacheMetrics } from "./CacheMetrics.ts"
import * as CachePolicy from "./CachePolicy.ts"
import { type Counters, makeCounters, type StatsRef } from "./CacheStats.ts"
import type { Fence, KeyText, NewRow } from "./CacheStore.ts"
import type { InvalidationBus } from "./InvalidationBus.ts"
import type { Leases } from "./Leases.ts"
import { LocalFences } from "./LocalFence.ts"
import type { KeyId, MemoryCache, Partition } from "./MemoryCache.ts"
import type { Any, Namespace } from "./Namespace.ts"
import type { PendingInvalidations } from "./PendingInvalidations.ts"
import type { PendingWrites } from "./PendingWrites.ts"
import { SingleFlight } from "./SingleFlight.ts"
import type { StoreGuard } from "./StoreGuard.ts"
import type { Surroundings } from "./Surroundings.ts"
import type { Unheard } from "./Unheard.ts"
import { copy, isNegative } from "./ValueCodec.ts"

/**
 * What a flight brings, by key: entries, and the typed failures of those that have
 * none. A key that is in neither was not found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Landing<A> {
  readonly entries: Map<KeyId, CacheEntry<A>>
  readonly failures: Map<KeyId, Exit.Failure<never, unknown>>
}

/**
 * What a tier holds of a key: an entry, or in place of its value a typed failure
 * of the loader that was kept. `retryAt` is when the load may be tried again after
 * a failed one; `fence` that of the store's row; `unstored` the one under which the
 * store had nothing, for what it never got.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held<A> {
  readonly entry: CacheEntry<A>
  readonly failure: Exit.Failure<never, unknown> | undefined
  /** Bytes of its JSON form, and that form where it is at hand. */
  readonly size: number
  readonly data: string | undefined
  readonly loadTime: number
  readonly retryAt: number
  /** Until when memory vouches for it; undefined for what is confirmed now. */
  readonly vouchedUntil: number | undefined
  readonly fence: Fence | undefined
  readonly unstored: Fence | undefined
}

/**
 * How far a load is, for those who wait for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress<A> {
  /** What the load may fall back on. */
  readonly reserve: Map<KeyId, Held<A>>
  /** What it has brought; the store may have yet to be told of that. */
  readonly landing: Landing<A>
  /** The keys that need no loader any more, and have been stored, before the load ends. */
  readonly settled: Set<KeyId>
  /** When the loader began, or the wait for another process that runs it. */
  loadingSince: number | undefined
  /** Opens when it is about to begin, or when the load ends without it. */
  readonly loading: Latch.Latch
  /** Whether a caller was answered without it. */
  inBackground: boolean
}

/**
 * A namespace as one cache has it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Space<K, A, X = unknown> {
  readonly namespace: Namespace<K, A, X>
  readonly policy: CachePolicy.CachePolicy
  readonly partition: Partition<A>
  readonly counters: Counters
  readonly accesses: AccessLog
  readonly fences: LocalFences
  /** Runs of loaders, and of lookups in the store that load nothing. */
  readonly loads: SingleFlight<KeyId, Landing<A>, Progress<A>>
  readonly lookups: SingleFlight<KeyId, Landing<A>, Progress<A>>
  /** Whether the last load that ended in the background failed. */
  failsInBackground: boolean
}

/**
 * The spaces of one cache, by namespace name.
 *
 * @category models
 * @since 0.1.0
 */
export class Spaces {
  readonly #spaces = new Map<string, Space<never, never>>()
  #last: Space<never, never> | undefined
  readonly #config: CacheConfig["Service"]
  readonly #memory: MemoryCache["Service"]
  readonly #stats: StatsRef
  readonly #metrics: CacheMetrics

  constructor(config: CacheConfig["Service"], memory: MemoryCache["Service"], stats: StatsRef, metrics: CacheMetrics) {
    this.#config = config
    this.#memory = memory
    this.#stats = stats
    this.#metrics = metrics
  }

  /** The space of a namespace, or why it cannot have one. Mostly that of the last call: one look less at a `Map`. */
  of<K, A, X>(namespace: Namespace<K, A, X>): Space<K, A, X> | CacheError {
    const last = this.#last as unknown as Space<K, A, X> | undefined
    if (last !== undefined && last.namespace === namespace) return last
    const space = this.#spaces.get(namespace.name) as Space<K, A, X> | undefined
    if (space === undefined) return this.#open(namespace)
    if (space.namespace !== namespace && !isSame(space.namespace, namespace)) return conflict(namespace)
    this.#last = space as unknown as Space<never, never>
    return space
  }

  /** The space of a namespace that was used before. */
  find(name: string): Space<never, never> | undefined {
    return this.#spaces.get(name)
  }

  all(): Iterable<Space<never, never>> {
    return this.#spaces.values()
  }

  #open<K, A, X>(namespace: Namespace<K, A, X>): Space<K, A, X> {
    const space: Space<K, A, X> = {
      namespace,
      policy: this.#config.policyOf(namespace),
      partition: this.#memory.partition<A>(namespace.name),
      counters: makeCounters(),
      accesses: new AccessLog(Duration.isFinite(this.#config.store.accessInterval)),
      fences: new LocalFences(),
      loads: new SingleFlight(),
      lookups: new SingleFlight(),
      failsInBackground: false
    }
    this.#spaces.set(namespace.name, space as unknown as Space<never, never>)
    this.#stats.ref.current = new Map(Ref.getUnsafe(this.#stats)).set(namespace.name, space)
    this.#metrics.register(namespace.name, space)
    return space
  }
}

const isSame = <K, A, K2, A2>(a: Any<K, A>, b: Any<K2, A2>): boolean =>
  Object.is(a.key, b.key) &&
  Object.is(a.value, b.value) &&
  Object.is(a.error, b.error) &&
  a.version === b.version &&
  a.onStoreFailure === b.onStoreFailure &&
  a.loaderHardTimeout === b.loaderHardTimeout &&
  a.copies === b.copies &&
  Equal.equals(CachePolicy.resolve(a.policy), CachePolicy.resolve(b.policy))

const conflict = ({ name }: { readonly name: string }) =>
  new CacheError({
    reason: new InvalidNamespace({
      namespace: name,
      problem:
        "another namespace of this name with other schemas, policy or options is in use; make it once and share it, or give it another name"
    })
  })

/**
 * A value of a namespace as the store keeps it, with the lifetime that is asked for
 * or that the policy gives it, shortened at random. `draw` is from 0 up to but not
 * including 1.
 *
 * @category conversions
 * @since 0.1.0
 */
export const rowOf = <K, A>(
  { namespace, policy }: Space<K, A>,
  key: KeyText,
  value: A,
  asked: Pick<NewRow, "loadTime" | "tags" | "validators"> & { readonly timeToLive: Duration.Input | undefined },
  draw: number
): Exit.Exit<NewRow, CacheError> => {
  const { loadTime, tags, validators } = asked
  const encoded = namespace.values.encode(value, key, policy.maxValueSize)
  if (Exit.isFailure(encoded)) return Exit.failCause(encoded.cause)
  const otherwise = isNegative(value) ? policy.negativeTimeToLive : policy.timeToLive
  return Exit.map(lifetimeOf(asked.timeToLive, otherwise, namespace.name), (timeToLive) => ({
    key,
    ...encoded.value,
    schemaVersion: namespace.version,
    timeToLive: CachePolicy.jittered(timeToLive, policy.jitter, draw),
    staleFor: Math.max(policy.staleWhileRevalidate, policy.staleIfError),
    isFailure: false,
    loadTime,
    // The caller's array may change.
    tags: [...tags],
    validators
  }))
}

/**
 * An entry whose value is nobody else's, where the namespace says so.
 *
 * @category conversions
 * @since 0.1.0
 */
export const ownCopy = <K, A>({ namespace }: Pick<Space<K, A>, "namespace">, entry: CacheEntry<A>): CacheEntry<A> =>
  namespace.copies ? { ...entry, value: copy(namespace.values, entry.value) } : entry

/**
 * A lifetime in milliseconds as a call gives it, or `otherwise`.
 *
 * @category conversions
 * @since 0.1.0
 */
export const lifetimeOf = (
  asked: Duration.Input | undefined,
  otherwise: number,
  namespace: string
): Exit.Exit<number, CacheError> =>
  asked === undefined
    ? Exit.succeed(otherwise)
    : Exit.map(CachePolicy.decode({ timeToLive: asked }, namespace), (fields) => CachePolicy.resolve(fields).timeToLive)

/**
 * What the operations of one cache work on.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheParts {
  /** Who this cache is on the bus. */
  readonly id: string
  readonly store: StoreGuard
  readonly bus: InvalidationBus["Service"]
  /** What the store could not be told, what it was told and nobody heard the end of, and what it is to be told later. */
  readonly pending: PendingInvalidations
  readonly unheard: Unheard
  readonly writes: PendingWrites
  readonly leases: Leases
  readonly background: Background
  readonly spaces: Spaces
  readonly surroundings: Surroundings
  readonly stats: StatsRef
  /** What has been complained of in the log; each kind once per namespace. */
  readonly complaints: Set<string>
  /** How long a read of the store may take that has something to fall back on. */
  readonly softReadTimeout: Duration.Duration
  /** What tells the time where there is no caller whose clock could be asked. */
  readonly clock: Clock.Clock
  /** When this cache was made (milliseconds since the epoch). */
  readonly since: number
}
