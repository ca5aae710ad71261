import { Effect } from "effect"
import { Statement } from "effect/sql"

/** Runs the effect, and says how many statements it sends. */
export const counted = <A, E, R>(self: Effect.Effect<A, E, R>) => {
  let sent = 0
  return Effect.map(
    Effect.provideService(self, Statement.CurrentTransformer, (statement) =>
      Effect.sync(() => {
        sent++
        return statement
      })
    ),
    (answer) => [answer, sent] as const
  )
}
