/**
 * What becomes of a statement whose rows others hold: it gives way, is tried again for
 * a while, and at last asks for the other rows without those.
 *
 *     a call ─ with others ─▶ refused ─ alone, five times in ⅓ s ─▶ refused ─ by halves ─▶ each row
 *
 * Mostly a row is held for no longer than it takes to make a note on it. Who holds it
 * for longer changes it, in a transaction of which nobody knows when it ends.
 *
 * @since 0.1.0
 */
import { Clock, Effect, Predicate, Schedule } from "effect"
import { SqlError } from "effect/sql"

/**
 * The code that PostgreSQL gave an error.
 *
 * @category errors
 * @since 0.1.0
 */
export const sqlState = (error: unknown): unknown =>
  SqlError.isSqlError(error) && Predicate.hasProperty(error.reason.cause, "code") ? error.reason.cause.code : undefined

/**
 * Whether others held a row for longer than the statement would wait, or were
 * about to change it.
 *
 * @category errors
 * @since 0.1.0
 */
export const isContended = (error: SqlError.SqlError): boolean =>
  [lockNotAvailable, serializationFailure, deadlockDetected].includes(sqlState(error) as string)

/**
 * Whether PostgreSQL did nothing, and one of so many calls that shared the statement may
 * do better alone: another was the reason, or it may wait for longer then.
 *
 * @category errors
 * @since 0.1.0
 */
export const isRefusal = (error: SqlError.SqlError, calls: number): boolean =>
  isContended(error) ||
  (calls > 1 && error.reason._tag !== "ConnectionError" && !String(sqlState(error)).startsWith(shutDown))

const shutDown = "57P"
const lockNotAvailable = "55P03"
const serializationFailure = "40001"
const deadlockDetected = "40P01"

/**
 * Tries a statement again that gave way to others who held a row: mostly they make a
 * note on it, or ask for its lease. In between it holds no connection, for whoever holds a
 * row for long may hold a thousand, and other calls are not to wait for those. A
 * transaction is over once a statement of it has failed.
 *
 * @category combinators
 * @since 0.1.0
 */
export const outwait =
  (inTransaction: boolean, times = 4) =>
  <A>(call: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> =>
    Effect.flatMap(Clock.Clock, (clock) =>
      Effect.provideService(call, Clock.Clock, clock).pipe(
        Effect.retry({
          while: (error) => !inTransaction && isContended(error),
          schedule: Schedule.exponential("20 millis"),
          times
        }),
        // Rows are held by the time of the database, whatever a test makes of ours.
        Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
      )
    )

/**
 * Asks by halves for what was not answered because others hold some of the rows, so
 * that a row which is held is nobody's trouble but its own. A row takes the logarithm of
 * how many are asked for; having given way too often, it gives up what is left.
 *
 * @category combinators
 * @since 0.1.0
 */
export const byHalves = <A, B>(
  asked: ReadonlyArray<A>,
  ask: (part: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, SqlError.SqlError>,
  givenUp: B,
  maxWaits = 24
): Effect.Effect<ReadonlyArray<B>, SqlError.SqlError> =>
  Effect.suspend(() => {
    let waits = 0
    const halved = (whole: ReadonlyArray<A>): Effect.Effect<ReadonlyArray<B>, SqlError.SqlError> => {
      if (whole.length === 1 || waits >= maxWaits) return Effect.succeed(whole.map(() => givenUp))
      const middle = whole.length >> 1
      return Effect.zipWith(half(whole.slice(0, middle)), half(whole.slice(middle)), (left, right) => [
        ...left,
        ...right
      ])
    }
    const half = (part: ReadonlyArray<A>) =>
      Effect.catchIf(ask(part), isContended, () => {
        waits++
        return halved(part)
      })
    return halved(asked)
  })
