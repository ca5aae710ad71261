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
import type { KeyText } from "./CacheStore.ts"

/**
 * What changed: some keys of a namespace, a whole namespace, or everything.
 *
 * @category models
 * @since 0.1.0
 */
export type Invalidation =
  | { readonly _tag: "Keys"; readonly namespace: string; readonly keys: ReadonlyArray<KeyText> }
  | { readonly _tag: "Namespace"; readonly namespace: string }
  | { readonly _tag: "All" }

/**
 * An invalidation and the cache that made it.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidationMessage {
  readonly origin: string
  readonly invalidation: Invalidation
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
    /** Calls `onMessage` for every message until the scope closes. `onMessage` must not throw. */
    readonly subscribe: (onMessage: (message: InvalidationMessage) => void) => Effect.Effect<void, never, Scope.Scope>
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
    const subscribers = new Set<(message: InvalidationMessage) => void>()
    return {
      publish: (message) =>
        Effect.sync(() => {
          for (const subscriber of subscribers) subscriber(message)
        }),
      subscribe: (onMessage) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            subscribers.add(onMessage)
          }),
          () =>
            Effect.sync(() => {
              subscribers.delete(onMessage)
            })
        )
    }
  })
}
