import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { Surroundings } from "../src/Surroundings.ts"

const Inside = Context.Service<boolean>("Inside")

describe("Surroundings", () => {
  it.effect("are those of the context that is asked about, in whatever order", () =>
    Effect.gen(function* () {
      const real = Context.get(Context.empty(), Clock.Clock)
      const test = yield* Clock.Clock
      assert.notStrictEqual(test, real)
      const contexts = [
        { context: Context.empty(), clock: real, inTransaction: false },
        { context: Context.make(Clock.Clock, test), clock: test, inTransaction: false },
        { context: Context.make(Inside, true), clock: real, inTransaction: true },
        { context: Context.make(Inside, true).pipe(Context.add(Clock.Clock, test)), clock: test, inTransaction: true }
      ]
      fc.assert(
        fc.property(fc.array(fc.constantFrom(...contexts)), (order) => {
          const surroundings = new Surroundings({
            inTransaction: (context) => Context.getOption(context, Inside)._tag === "Some"
          })
          for (const { clock, context, inTransaction } of order) {
            const found = surroundings.of(context as Context.Context<never>)
            assert.deepStrictEqual([found.clock === clock, found.inTransaction], [true, inTransaction])
          }
        })
      )
    }).pipe(Effect.provide(TestClock.layer()))
  )
})
