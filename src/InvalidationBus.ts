/**
 * How the caches of several processes tell one another that an entry changed.
 *
 * A message names what changed and who changed it, never a value. A cache that
 * receives one drops what it holds in memory (L1) and refuses to keep the result
 * of any load that was under way. The sender has already done so and ignores its
 * own messages.
 *
 * `layerMemory` connects the caches of one process: two `TieredCache`s built
 * over one of them (and over one `CacheStore`) behave like two processes. It
 * delivers synchronously, in order, within `publish`, so it holds no queue and
 * can lose nothing. It does not reach other processes; `PgInvalidationBus` does.
 *
 * @since 0.1.0
 */
import { Context, Effect, Layer, type Scope } from "effect"
import type { ComponentHealth } from "./CacheHealth.ts"
import type { Fence, KeyText } from "./CacheStore.ts"

/**
 * What changed: some keys of a namespace, those with one of some tags, those that a
 * pattern matches, a whole namespace, or everything. With `keepsStale` what was
 * fresh has become stale, and is not gone.
 *
 * @category models
 * @since 0.1.0
 */
export type Invalidation =
  | {
      readonly _tag: "Keys"
      readonly namespace: string
      readonly keys: ReadonlyArray<KeyText>
      readonly keepsStale?: boolean
    }
  | {
      readonly _tag: "Tags"
      readonly namespace: string
      readonly tags: ReadonlyArray<string>
      readonly keepsStale?: boolean
    }
  | {
      readonly _tag: "Pattern"
      readonly namespace: string
      /** As `Glob.make` takes it. */
      readonly pattern: string
      readonly keepsStale?: boolean
    }
  | { readonly _tag: "Namespace"; readonly namespace: string }
  | { readonly _tag: "All" }

/**
 * Keys whose lease has ended: stored or given back.
 *
 * @category models
 * @since 0.1.0
 */
export interface Released {
  readonly namespace: string
  readonly keys: ReadonlyArray<KeyText>
}

/**
 * Whether something had been done in the store when it gave a fence with that snapshot.
 *
 * @category models
 * @since 0.1.0
 */
export type IsKnownTo = (snapshot: Fence["snapshot"]) => boolean

/**
 * An invalidation and the cache that made it.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidationMessage {
  readonly origin: string
  readonly invalidation: Invalidation
  /** To which fences it was known: what began with one of those is no older. A bus that cannot tell leaves it out. */
  readonly isKnownTo?: IsKnownTo
}

/**
 * How a bus between processes is, and what went over it since it was made.
 *
 * @category models
 * @since 0.1.0
 */
export interface BusStatus {
  /** Whether it hears of what the others change. */
  readonly health: ComponentHealth
  /** How often it woke the others; many changes at once are one time. */
  readonly sent: number
  /** How many changes it heard of, its own process's among them. */
  readonly received: number
  /** How many of them only after it had been cut off. */
  readonly caughtUp: number
  /** How often it could not know what it had missed, and had everything dropped. */
  readonly gaps: number
  /** How long the last change that it heard of took from the statement to here, in milliseconds. */
  readonly lag: number
}

/**
 * The bus.
 *
 * @category services
 * @since 0.1.0
 */
export class InvalidationBus extends Context.Service<
  InvalidationBus,
  {
    /** Tells every subscriber. */
    readonly publish: (message: InvalidationMessage) => Effect.Effect<void>
    /** Wakes whoever waits for a lease on these keys. It may be lost: waiters look for themselves now and then. */
    readonly wake: (released: Released) => Effect.Effect<void>
    /** Calls `onMessage` for every message, and `onReleased` for every wake, until the scope closes. Neither may throw. */
    readonly subscribe: (
      onMessage: (message: InvalidationMessage) => void,
      onReleased?: (released: Released) => void
    ) => Effect.Effect<void, never, Scope.Scope>
    /** How it is, where that can change. */
    readonly status?: () => BusStatus
  }
>()("effect-tiered-cache/InvalidationBus") {
  /**
   * A bus for the caches of one process.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerMemory: Layer.Layer<InvalidationBus> = Layer.sync(InvalidationBus, () => {
    const subscribers = new Set<Subscriber>()
    return {
      publish: (message) =>
        Effect.sync(() => {
          for (const { onMessage } of subscribers) onMessage(message)
        }),
      wake: (released) =>
        Effect.sync(() => {
          for (const { onReleased } of subscribers) onReleased?.(released)
        }),
      subscribe: (onMessage, onReleased) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const subscriber: Subscriber = { onMessage, onReleased }
            subscribers.add(subscriber)
            return subscriber
          }),
          (subscriber) => Effect.sync(() => subscribers.delete(subscriber))
        )
    }
  })
}

interface Subscriber {
  readonly onMessage: (message: InvalidationMessage) => void
  readonly onReleased: ((released: Released) => void) | undefined
}
