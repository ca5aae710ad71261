/**
 * Stops asking a store that does not answer, and finds out when it does again.
 *
 * Closed, it lets every call through. After `breakerFailures` failures in a row it
 * opens: calls fail at once with `CircuitOpen`. After `breakerProbeInterval` one
 * call, and only one at a time, is let through as a probe; its success closes the
 * breaker, its failure opens it for as long again. So a store that is away costs
 * one caller its timeout in each interval, and one that comes back is asked again
 * within the interval, first by one caller and then by all.
 *
 * An interrupted call says nothing about the store.
 *
 * The state is this process's own. The breaker is Effect's, which is tagged
 * experimental in 4.1; this module is the only one that knows it.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Layer, type Scope } from "effect"
import { CircuitBreaker } from "effect/persistence"
import type { CacheConfig } from "./CacheConfig.ts"
import { CacheError, CircuitOpen } from "./CacheError.ts"

/**
 * What a breaker is set to.
 *
 * @category models
 * @since 0.1.0
 */
export type BreakerConfig = Pick<CacheConfig["Service"]["store"], "breakerFailures" | "breakerProbeInterval">

/**
 * A breaker before one store.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreBreaker {
  /** The call if the breaker lets it through; else `CircuitOpen`, at once. */
  readonly through: <A>(operation: string, call: Effect.Effect<A, CacheError>) => Effect.Effect<A, CacheError>
}

/**
 * A closed breaker.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({
  breakerFailures,
  breakerProbeInterval
}: BreakerConfig): Effect.Effect<StoreBreaker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const breaker = yield* CircuitBreaker.make({
      tripPolicy: CircuitBreaker.consecutive(breakerFailures),
      openDuration: breakerProbeInterval
    }).pipe(Effect.provide(yield* Layer.build(CircuitBreaker.layerStoreMemory())))
    return {
      through: (operation, call) =>
        breaker.execute(call, { key: "store" }).pipe(
          Effect.catchTag("CircuitBreakerError", ({ reason }) => {
            const retryAfter = reason._tag === "CircuitOpen" ? Duration.toMillis(reason.retryAfter) : 0
            return Effect.fail(new CacheError({ reason: new CircuitOpen({ operation, retryAfter }) }))
          })
        )
    }
  })
