/**
 * Loads that go on although no caller waits for them.
 *
 * A flight ends with the last who waits for it (`SingleFlight`). One that is
 * *adopted* has a passenger: a fiber of this module's own that waits like any
 * caller. The passenger boards in the step in which it is asked to, so a caller
 * that leaves after that leaves nothing behind that would end with it.
 *
 * There are at most `maxLoads` passengers, one per flight, and each leaves after
 * `maxTime`. When the scope closes all leave, and closing waits until the flights
 * that end with them have ended.
 *
 * How a flight ends is the business of those who wait for it: of its failure or
 * interruption a passenger says nothing, of a defect it tells the log, because
 * nobody else may have seen it.
 *
 * @since 0.1.0
 */
import { Cause, Context, Effect, FiberSet, References, type Scope } from "effect"
import type { Flight, SingleFlight } from "./SingleFlight.ts"

/**
 * The passengers of one cache.
 *
 * @category models
 * @since 0.1.0
 */
export interface Background {
  /** How many passengers there are. */
  readonly size: number
  /** Whether there is no room for another. */
  readonly isFull: boolean
  /**
   * Puts a passenger on the flight, unless it has one. Whether it has one now: not
   * if there is no room or the scope is closed. The passenger sleeps and logs by
   * what the context gives.
   */
  readonly adopt: <Id, A, E, C>(
    flights: SingleFlight<Id, A, C>,
    flight: Flight<A, E, Id, C>,
    context: Context.Context<never>
  ) => boolean
}

/**
 * No passengers yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({
  maxLoads,
  maxTime
}: {
  readonly maxLoads: number
  /** In milliseconds; by then the store would refuse what a load brings. */
  readonly maxTime: number
}): Effect.Effect<Background, never, Scope.Scope> =>
  Effect.map(FiberSet.make<void, never>(), (passengers) => {
    const adopted = new Set<Flight<unknown, unknown>>()
    return {
      get size() {
        return adopted.size
      },
      get isFull() {
        return adopted.size >= maxLoads || passengers.state._tag === "Closed"
      },
      adopt: (flights, flight, context) => {
        if (passengers.state._tag === "Closed") return false
        if (adopted.has(flight)) return true
        if (adopted.size >= maxLoads) return false
        adopted.add(flight)
        const passenger = ride(flights, flight, maxTime).pipe(
          // A yield before it has boarded would let the caller leave first.
          Effect.runForkWith(Context.add(context, References.PreventSchedulerYield, true))
        )
        FiberSet.addUnsafe(passengers, passenger)
        passenger.addObserver(() => adopted.delete(flight))
        return true
      }
    }
  })

const ride = <Id, A, E, C>(
  flights: SingleFlight<Id, A, C>,
  flight: Flight<A, E, Id, C>,
  maxTime: number
): Effect.Effect<void> =>
  flights
    .waitWithin(
      () => [flight],
      () => Effect.sleep(maxTime),
      () => {}
    )
    .pipe(
      Effect.catchCause((cause) =>
        Cause.hasDies(cause) ? Effect.logError("cache: a background load died", cause) : Effect.void
      ),
      Effect.asVoid
    )
