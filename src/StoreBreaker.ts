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
 * While no call fails, calls go past the breaker, which would be the dearest part of a
 * read that shares its statement with others (15 to 20 µs of some 90). The first failure
 * is reported to it, and from then on every call goes through it, until one has succeeded.
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
    let isQuiet = true
    // How often a call has failed, and how often it was quiet again after that.
    let failures = 0
    let recoveries = 0
    const execute = <A>(operation: string, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
      breaker.execute(call, { key: "store" }).pipe(
        Effect.catchTag("CircuitBreakerError", ({ reason }) => {
          const retryAfter = reason._tag === "CircuitOpen" ? Duration.toMillis(reason.retryAfter) : 0
          return Effect.fail(new CacheError({ reason: new CircuitOpen({ operation, retryAfter }) }))
        })
      )
    const past = <A>(operation: string, call: Effect.Effect<A, CacheError>, began: number) =>
      Effect.catch(call, (error) => {
        const failed = Effect.fail(error)
        // What began before the store was well again says nothing new.
        if (recoveries !== began) return failed
        isQuiet = false
        failures++
        return Effect.andThen(Effect.exit(execute(operation, failed)), failed)
      })
    const through = <A>(operation: string, call: Effect.Effect<A, CacheError>, before: number) => {
      const counted = Effect.tapError(call, () => Effect.sync(() => failures++))
      return Effect.tap(execute(operation, counted), () => {
        // What others have failed at meanwhile may have opened the breaker.
        if (!isQuiet && failures === before) {
          isQuiet = true
          recoveries++
        }
        return Effect.void
      })
    }
    return {
      through: (operation, call) =>
        Effect.suspend(() => (isQuiet ? past(operation, call, recoveries) : through(operation, call, failures)))
    }
  })
