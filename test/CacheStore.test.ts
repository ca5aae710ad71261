import { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { suite } from "./suites/cacheStoreSuite.ts"
import { Database } from "./support/Database.ts"

suite("in memory", CacheStore.layerMemory, (millis) => TestClock.adjust(millis))

const Postgres = PgCacheStore.layer.pipe(Layer.provideMerge(PgMigrations.layer), Layer.provideMerge(Database.layer()))

// The database's clock cannot be moved: all it remembers is moved into the past.
suite("in PostgreSQL", Postgres, (millis) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => sql`
      with entries as (
        update cache_entries set
          created_at = created_at - ${millis}::float8 * interval '1 ms',
          expires_at = expires_at - ${millis}::float8 * interval '1 ms',
          stale_until = stale_until - ${millis}::float8 * interval '1 ms',
          expired_at = expired_at - ${millis}::float8 * interval '1 ms',
          retry_at = retry_at - ${millis}::float8 * interval '1 ms',
          lease_until = lease_until - ${millis}::float8 * interval '1 ms',
          last_accessed = last_accessed - ${millis}::float8 * interval '1 ms'
      ), lines as (
        update cache_log set at = at - ${millis}::float8 * interval '1 ms'
      )
      update cache_log_horizon set
        next_at = next_at - ${millis}::float8 * interval '1 ms',
        settling_at = settling_at - ${millis}::float8 * interval '1 ms'
    `
  )
)
