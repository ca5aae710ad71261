import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"

/** Until so many sessions wait for a lock, and have for so long. */
export const untilWaiting = (sessions: number, since = "0 ms") =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    while (true) {
      // In a transaction the second look would be the first.
      yield* sql`select pg_stat_clear_snapshot()`
      const [waiting] = yield* sql<{ count: number }>`
        select count(*)::int4 as count from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
          and query_start <= clock_timestamp() - ${since}::interval
      `
      if (waiting!.count >= sessions) return
      yield* Effect.yieldNow
    }
  })
