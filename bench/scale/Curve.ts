/**
 * What each operation takes on a table of so many rows, in milliseconds.
 *
 * What removes rows is measured in a transaction that is rolled back: the next round
 * finds the same table. A sweep is measured for good, at the end, on the rows that a
 * `clear` has left behind.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Option } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import { Dice } from "../../test/soak/Dice.ts"
import { keyOf, patternOf, perGroup, tagOf, Things, valueOf } from "./Rows.ts"

export interface Measured {
  readonly operation: string
  readonly rows: number
  /** Of each round. */
  readonly times: ReadonlyArray<number>
}

export const median = (times: ReadonlyArray<number>): number => {
  const sorted = times.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const measure = Effect.fnUntraced(function* (rows: number, rounds: number) {
  const cache = yield* TieredCache
  const sql = yield* PgClient.PgClient
  // Two runs look at the same keys.
  const dice = new Dice(rows)
  const pick = () => dice.below(rows)
  const undone = (effect: Effect.Effect<unknown, unknown, TieredCache>) =>
    Effect.gen(function* () {
      let time = 0
      yield* Effect.exit(
        sql.withTransaction(
          Effect.andThen(
            Effect.tap(timed(effect), (taken) => Effect.sync(() => (time = taken))),
            Effect.fail("undo")
          )
        )
      )
      return time
    })
  const operations: Record<string, (round: number) => Effect.Effect<number, unknown, TieredCache>> = {
    "read one": () => {
      const index = pick()
      return timed(
        Effect.map(cache.get(Things, keyOf(index)), (found) => expect(Option.getOrNull(found) === valueOf(index)))
      )
    },
    "read 100": () => {
      const indexes = Array.from({ length: 100 }, pick)
      return timed(
        Effect.map(cache.getMany(Things, indexes.map(keyOf)), (found) =>
          expect(found.every((value, i) => Option.getOrNull(value) === valueOf(indexes[i]!)))
        )
      )
    },
    "set one": () => {
      const index = pick()
      return timed(cache.set(Things, keyOf(index), valueOf(index), { tags: [tagOf(index)] }))
    },
    "invalidate a key": () => undone(Effect.map(cache.invalidate(Things, keyOf(pick())), expect)),
    "invalidate a tag (100 rows)": () =>
      undone(Effect.map(cache.invalidateTags(Things, [tagOf(pick())]), (count) => expect(count === perGroup))),
    "invalidate a pattern (100 rows)": () =>
      undone(Effect.map(cache.invalidatePattern(Things, patternOf(pick())), (count) => expect(count === perGroup))),
    "clear all rows": () =>
      undone(Effect.map(cache.clear(Things), (count) => expect(count > rows * 0.5 && count < rows * 2)))
  }
  const measured: Array<Measured> = []
  const times = new Map<string, Array<number>>(Object.keys(operations).map((operation) => [operation, []]))
  for (let round = -1; round < rounds; round++) {
    for (const [operation, run] of Object.entries(operations)) {
      const time = yield* run(round)
      // The first makes the plans.
      if (round >= 0) times.get(operation)!.push(time)
    }
  }
  for (const [operation, taken] of times) measured.push({ operation, rows, times: taken })
  return measured
})

/** Per thousand rows that a clear has left behind. Nothing is left after it. */
export const measureSweep = Effect.fnUntraced(function* (rows: number) {
  const store = yield* CacheStore
  const cache = yield* TieredCache
  const sql = yield* PgClient.PgClient
  yield* cache.clear(Things)
  // No load can be as old as the store remembers.
  yield* sql`update cache_log set at = at - interval '1 day'`
  const times: Array<number> = []
  let removed = 0
  while (removed < Math.min(rows, 200_000)) {
    const began = performance.now()
    const swept = yield* store.sweep(10_000)
    if (swept === 0) break
    removed += swept
    times.push(((performance.now() - began) / swept) * 1000)
  }
  yield* sql`delete from cache_entries where namespace = ${Things.name}`
  return { operation: "sweep 1,000 rows", rows, times }
})

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, () => performance.now() - began)
  })

const expect = (holds: boolean): void => {
  if (!holds) throw new Error("a wrong answer")
}
