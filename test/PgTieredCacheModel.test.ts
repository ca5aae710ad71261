/**
 * The scenarios of `TieredCacheModel`, on PostgreSQL. The database's clock cannot
 * be moved: instead, all that it remembers is moved into the past. It goes on by
 * itself too, by less than the seconds that lifetimes differ by here.
 */
import { PgClient } from "@effect/sql-pg"
import { layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as fc from "fast-check"
import { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { play, type Stage } from "./model/Play.ts"
import { scenario } from "./model/Scenario.ts"
import { Database } from "./support/Database.ts"

/** More than a play has statements under way: one that waits for another in the client is not seen to wait. */
const maxConnections = 24

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections }))
)

const { FC_PATH, FC_RUNS = "1500", FC_SEED } = process.env

const replay = FC_SEED === undefined ? {} : { seed: Number(FC_SEED), path: FC_PATH ?? "", endOnFailure: true }

/**
 * The player asks on a connection of its own whether anybody waits: the client of the cache sends several
 * statements after one another on each of its connections, and one that waits for a row holds up those behind it.
 */
const onPostgres = Effect.fnUntraced(function* (player: PgClient.PgClient) {
  const sql = yield* PgClient.PgClient
  yield* sql`truncate cache_entries, cache_log`
  // All connections are open before the play: one that was opened in it would be opened step by step, as all that
  // a play forks, and nobody knows to wait for that.
  yield* Effect.all(
    Array.from({ length: maxConnections }, () => sql`select pg_sleep(0.01)`),
    { concurrency: "unbounded" }
  )
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
      blocked: player<{ blocked: number }>`
        select count(*)::int as blocked from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
      `.pipe(
        Effect.orDie,
        Effect.map(([answer]) => answer!.blocked)
      )
    }
  }
  return stage
}, Effect.orDie)

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("TieredCache over PostgreSQL", (it) => {
  it.effect(
    "answers what the reference allows, however operations, loads and failures interleave",
    () =>
      Effect.gen(function* () {
        const context = yield* Effect.context<CacheStore | PgClient.PgClient>()
        const player = Context.get(yield* Layer.build(Database.layerClient({ maxConnections: 1 })), PgClient.PgClient)
        const property = fc.asyncProperty(scenario({ fine: false, maxLength: 20, transactions: true }), (scenario) =>
          Effect.runPromiseWith(context)(
            Effect.timeoutOrElse(
              Effect.flatMap(onPostgres(player), (stage) => play(scenario, () => Effect.succeed(stage))),
              { duration: "20 seconds", orElse: () => Effect.die(new Error("the play does not end")) }
            )
          )
        )
        const numRuns = Math.ceil(Number(FC_RUNS) / 10)
        yield* Effect.promise(() => fc.assert(property, { numRuns, includeErrorInReport: true, ...replay }))
      }),
    { timeout: 300_000 }
  )
})
