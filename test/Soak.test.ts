/** The soak of `npm run soak`, for some seconds. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { report } from "./soak/Report.ts"
import * as Soak from "./soak/Soak.ts"

describe("Caches under everything at once on a PostgreSQL in trouble", () => {
  it.live(
    "G5 G6 G7 G9 keep their promises, and nothing is left over",
    () =>
      Effect.gen(function* () {
        const outcome = yield* Soak.run({ seed: 72, duration: 10_000, visitors: 6 })
        const { left, source, stats, tally } = outcome
        assert.deepStrictEqual([...tally.problems], [], report(outcome))
        // That it was a soak.
        assert.isAbove(
          [...tally.rows.values()].reduce((sum, { count }) => sum + count, 0),
          500
        )
        assert.isAbove(Math.min(stats.stale, stats.hardTimeouts, stats.store.errors, source.failed), 0)
        assert.isAbove(left["connections"]![1], 0)
      }),
    180_000
  )
})
