/**
 * A namespace as one cache has it: its policy decided, its part of memory, its
 * loads and lookups under way, its counters.
 *
 * A space is opened at the first use of a namespace and stays. A namespace of
 * the same name, key schema, value schema, policy, version and `onStoreFailure`
 * shares it; any other of that name is refused, because one would decode what the
 * other encoded, or keep it for as long as the other says.
 *
 * @since 0.1.0
 */
import { Equal, Exit, Ref } from "effect"
import type { CacheConfig } from "./CacheConfig.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError, InvalidNamespace } from "./CacheError.ts"
import type { CacheMetrics } from "./CacheMetrics.ts"
import * as CachePolicy from "./CachePolicy.ts"
import { type Counters, makeCounters, type StatsRef } from "./CacheStats.ts"
import type { KeyText, NewRow } from "./CacheStore.ts"
import type { InvalidationBus } from "./InvalidationBus.ts"
import { LocalFences } from "./LocalFence.ts"
import type { KeyId, MemoryCache, Partition, RemovalCause } from "./MemoryCache.ts"
import type { Namespace, OnStoreFailure } from "./Namespace.ts"
import type { SetOptions } from "./Operations.ts"
import { SingleFlight } from "./SingleFlight.ts"
import type { StoreGuard } from "./StoreGuard.ts"
import { isNegative } from "./ValueCodec.ts"

/**
 * What a flight brings: the entries it found or loaded, by id.
 *
 * @category models
 * @since 0.1.0
 */
export type Entries<A> = ReadonlyMap<KeyId, CacheEntry<A>>

/**
 * A namespace as one cache has it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Space<K, A, F extends OnStoreFailure = OnStoreFailure> {
  readonly namespace: Namespace<K, A, F>
  readonly policy: CachePolicy.CachePolicy
  readonly partition: Partition<A>
  readonly counters: Counters
  readonly fences: LocalFences
  /** Runs of loaders, and of lookups in the store that load nothing. */
  readonly loads: SingleFlight<KeyId, Entries<A>>
  readonly lookups: SingleFlight<KeyId, Entries<A>>
}

/**
 * The spaces of one cache, by namespace name.
 *
 * @category models
 * @since 0.1.0
 */
export class Spaces {
  readonly #spaces = new Map<string, Space<never, never>>()
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

  /** The space of a namespace, or why it cannot have one. */
  of<K, A, F extends OnStoreFailure>(namespace: Namespace<K, A, F>): Space<K, A, F> | CacheError {
    const space = this.#spaces.get(namespace.name) as Space<K, A, F> | undefined
    if (space === undefined) return this.#open(namespace)
    return space.namespace === namespace || isSame(space.namespace, namespace) ? space : conflict(namespace)
  }

  /** The space of a namespace that was used before. */
  find(name: string): Space<never, never> | undefined {
    return this.#spaces.get(name)
  }

  all(): Iterable<Space<never, never>> {
    return this.#spaces.values()
  }

  #open<K, A, F extends OnStoreFailure>(namespace: Namespace<K, A, F>): Space<K, A, F> {
    const space: Space<K, A, F> = {
      namespace,
      policy: this.#config.policyOf(namespace),
      partition: this.#memory.partition<A>(namespace.name),
      counters: makeCounters(),
      fences: new LocalFences(),
      loads: new SingleFlight(),
      lookups: new SingleFlight()
    }
    this.#spaces.set(namespace.name, space as unknown as Space<never, never>)
    this.#stats.ref.current = new Map(Ref.getUnsafe(this.#stats)).set(namespace.name, space)
    this.#metrics.register(namespace.name, space)
    return space
  }
}

const isSame = <K, A, K2, A2>(a: Namespace<K, A>, b: Namespace<K2, A2>): boolean =>
  Object.is(a.key, b.key) &&
  Object.is(a.value, b.value) &&
  a.version === b.version &&
  a.onStoreFailure === b.onStoreFailure &&
  Equal.equals(CachePolicy.resolve(a.policy), CachePolicy.resolve(b.policy))

const conflict = ({ name }: { readonly name: string }) =>
  new CacheError({
    reason: new InvalidNamespace({
      namespace: name,
      problem:
        "another namespace of this name with other schemas, policy, version or onStoreFailure is in use; make it once and share it, or give it another name"
    })
  })

/**
 * A value of a namespace as the store keeps it, with the lifetime that the options
 * or the policy give it.
 *
 * @category conversions
 * @since 0.1.0
 */
export const rowOf = <K, A>(
  space: Space<K, A>,
  key: KeyText,
  value: A,
  options: SetOptions | undefined
): Exit.Exit<NewRow, CacheError> => {
  const { namespace, policy } = space
  const encoded = namespace.values.encode(value, key, policy.maxValueSize)
  if (Exit.isFailure(encoded)) return Exit.failCause(encoded.cause)
  return Exit.map(lifetimeOf(space, value, options), (timeToLive) => ({
    key,
    ...encoded.value,
    schemaVersion: namespace.version,
    timeToLive,
    tags: []
  }))
}

const lifetimeOf = <K, A>(
  { namespace, policy }: Space<K, A>,
  value: A,
  options: SetOptions | undefined
): Exit.Exit<number, CacheError> =>
  options?.timeToLive !== undefined
    ? Exit.map(
        CachePolicy.decode({ timeToLive: options.timeToLive }, namespace.name),
        (fields) => CachePolicy.resolve(fields).timeToLive
      )
    : Exit.succeed(isNegative(value) ? policy.negativeTimeToLive : policy.timeToLive)

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
  readonly spaces: Spaces
  readonly stats: StatsRef
  /** What has been complained of in the log; each kind once per namespace. */
  readonly complaints: Set<string>
  /** When this cache was made (milliseconds since the epoch). */
  readonly since: number
}

/**
 * Lets nothing that was read before now into memory, and drops what is there.
 * One synchronous step.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forget = <K, A>(space: Space<K, A>, id: KeyId, cause: RemovalCause): void => {
  space.fences.break(id)
  space.loads.divert(id)
  space.lookups.divert(id)
  space.partition.remove(id, cause)
}

/**
 * The same for every key of the namespace.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forgetAll = <K, A>(space: Space<K, A>, cause: RemovalCause): void => {
  space.fences.breakAll()
  space.loads.divertAll()
  space.lookups.divertAll()
  space.partition.clear(cause)
}
