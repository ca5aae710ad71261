/**
 * The scenarios of `TieredCacheModel`, on PostgreSQL. The database's clock cannot
 * be moved: instead, all that it remembers is moved into the past. It goes on by
 * itself too, by less than the seconds that lifetimes differ by here.
 */
import { PgClient } from "@effect/sql-pg"
import { layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as fc from "fast-check"
import { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { play, type Stage } from "./model/Play.ts"
import { scenario } from "./model/Scenario.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgCacheStore.layer.pipe(Layer.provideMerge(PgMigrations.layer), Layer.provideMerge(Database.layer()))

const { FC_PATH, FC_RUNS = "1500", FC_SEED } = process.env

const replay = FC_SEED === undefined ? {} : { seed: Number(FC_SEED), path: FC_PATH ?? "" }

const onPostgres = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`truncate cache_entries, cache_log`
  const stage: Stage = {
    store: yield* CacheStore,
    answersAtOnce: false,
    wait: Effect.promise(() => new Promise((resolve) => setImmediate(resolve))),
    advance: (millis: number) =>
      sql`
        update cache_entries set
          created_at = created_at - ${millis}::float8 * interval '1 ms',
          expires_at = expires_at - ${millis}::float8 * interval '1 ms',
          stale_until = stale_until - ${millis}::float8 * interval '1 ms',
          retry_at = retry_at - ${millis}::float8 * interval '1 ms',
          lease_until = lease_until - ${millis}::float8 * interval '1 ms'
      `.pipe(
        Effect.andThen(sql`update cache_log set at = at - ${millis}::float8 * interval '1 ms'`),
        Effect.orDie,
        Effect.asVoid
      ),
    transactions: {
      within: <A, E>(effect: Effect.Effect<A, E>, isolation: string) =>
        Effect.provideService(
          sql.withTransaction(effect),
          SqlClient.BeginTransaction,
          `BEGIN ISOLATION LEVEL ${isolation.toUpperCase()}`
        ),
      context: yield* Effect.context<never>(),
      blocked: sql<{ blocked: number }>`
        select count(*)::int as blocked from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
      `.pipe(
        Effect.orDie,
        Effect.map(([answer]) => answer!.blocked)
      )
    }
  }
  return stage
}).pipe(Effect.orDie)

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("TieredCache over PostgreSQL", (it) => {
  it.effect(
    "answers what the reference allows, however operations, loads and failures interleave",
    () =>
      Effect.flatMap(Effect.context<CacheStore | PgClient.PgClient>(), (context) => {
        const property = fc.asyncProperty(scenario({ fine: false, maxLength: 20, transactions: true }), (scenario) =>
          Effect.runPromiseWith(context)(
            Effect.flatMap(onPostgres, (stage) => play(scenario, () => Effect.succeed(stage)))
          )
        )
        const numRuns = Math.ceil(Number(FC_RUNS) / 10)
        return Effect.promise(() => fc.assert(property, { numRuns, includeErrorInReport: true, ...replay }))
      }),
    { timeout: 3_600_000 }
  )
})
