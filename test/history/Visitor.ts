/** One who does with a cache whatever can be done, and has it written down. */
import { Effect } from "effect"
import * as Deeds from "./Deeds.ts"
import { transaction, updateThenTell } from "./Transactions.ts"

/** One thing after the other, for good. */
export const visit = (self: Deeds.Surroundings): Effect.Effect<never> =>
  Effect.forever(
    Effect.suspend(() => {
      const { dice } = self
      const deed = dice.weighted(deeds)(self)
      // Who has less patience than two milliseconds may not even have begun.
      const patience = dice.chance(0.07) ? dice.between(2, 60) : Infinity
      return Effect.andThen(
        Effect.exit(patience === Infinity ? deed : Effect.timeoutOption(deed, patience)),
        Effect.sleep(dice.between(1, 15))
      )
    })
  )

const deeds: ReadonlyArray<readonly [weight: number, Deeds.Do]> = [
  [45, Deeds.getOrSet],
  [15, Deeds.get],
  [8, Deeds.getOrSetMany],
  [5, Deeds.getMany],
  [4, Deeds.set],
  [1.5, Deeds.setMany],
  [7, Deeds.invalidate],
  [0.3, Deeds.clear],
  [4, updateThenTell],
  [9, transaction]
]
