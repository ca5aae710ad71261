import { PgClient } from "@effect/sql-pg"
import { assert, layer as layerOf } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CacheLive } from "../src/CacheLive.ts"
import * as Namespace from "../src/Namespace.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { TieredCache } from "../src/TieredCache.ts"
import { bothTiers, storeOnly } from "./suites/cacheNode.ts"
import { suite } from "./suites/tieredCacheSuite.ts"
import { transactionSuite } from "./suites/transactionSuite.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgCacheStore.layer.pipe(Layer.provideMerge(PgMigrations.layer), Layer.provideMerge(Database.layer()))

// The database's clock cannot be moved: all it remembers is moved into the past.
const advance = (duration: Duration.Input) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
    yield* sql`
      update cache_entries set
        created_at = created_at - ${millis}::float8 * interval '1 ms',
        expires_at = expires_at - ${millis}::float8 * interval '1 ms',
        stale_until = stale_until - ${millis}::float8 * interval '1 ms',
        retry_at = retry_at - ${millis}::float8 * interval '1 ms',
        lease_until = lease_until - ${millis}::float8 * interval '1 ms',
        last_accessed = last_accessed - ${millis}::float8 * interval '1 ms'
    `
    yield* TestClock.adjust(duration)
  })

suite(
  { name: "over PostgreSQL", layer: Postgres, advance, drift: 10_000, topologies: [storeOnly, bothTiers] },
  transactionSuite
)

layerOf(Database.layer(), { timeout: "60 seconds" })("CacheLive", (it) => {
  const Numbers = Namespace.make("numbers", { key: Schema.Int, value: Schema.Int })
  const number = Effect.succeed(1).pipe(TieredCache.getOrSetEntry(Numbers, 1))

  it.effect("brings the tables, and what one cache stored the next one finds", () =>
    Effect.gen(function* () {
      const first = yield* Effect.provide(Effect.all([number, number]), CacheLive.layer({}), { local: true })
      const second = yield* Effect.provide(Effect.all([number, number]), CacheLive.layer({}), { local: true })
      const origins = [...first, ...second].map(({ origin }) => origin)
      assert.deepStrictEqual(origins, ["loader", "memory", "store", "memory"])
    })
  )

  it.effect("is configured by ConfigProvider, which wins over the code of a namespace", () =>
    Effect.gen(function* () {
      const env = { CACHE_NAMESPACES__NUMBERS__TTL: "2 minutes", CACHE_JITTER: "0", CACHE_STORE_MIGRATE: "true" }
      const { createdAt, expiresAt } = yield* Effect.andThen(TieredCache.invalidate(Numbers, 1), number).pipe(
        Effect.provide(CacheLive, { local: true }),
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      )
      assert.strictEqual(expiresAt - createdAt, 120_000)
    })
  )

  it.effect("inside a transaction of the same client, changes commit or roll back with it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* Effect.gen(function* () {
        yield* TieredCache.set(Numbers, 2, 1)
        yield* Effect.exit(sql.withTransaction(Effect.andThen(TieredCache.set(Numbers, 2, 2), Effect.fail("no"))))
        assert.deepStrictEqual(yield* TieredCache.get(Numbers, 2), Option.some(1))
        yield* sql.withTransaction(TieredCache.set(Numbers, 2, 3))
        assert.deepStrictEqual(yield* TieredCache.get(Numbers, 2), Option.some(3))
      }).pipe(Effect.provide(CacheLive.layer({}), { local: true }))
    })
  )
})
