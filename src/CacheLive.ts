/**
 * The composition root: everything on PostgreSQL.
 *
 *     TieredCache ── MemoryCache            L1, this process
 *          ├──────── StoreGuard ── PgCacheStore   L2, all processes
 *          ├──────── PgInvalidationBus      what other processes change
 *          └──────── CacheConfig            code or ConfigProvider
 *
 * Building it connects, brings the database's tables up to date (unless
 * `store.migrate` is false: then it checks that they are there), takes a connection
 * of its own to hear from other processes and starts the sweeper. Whatever is wrong with the configuration or the database fails the
 * layer with a `CacheError` that says what to do.
 *
 * Like every layer it is built once per program: two caches, on two databases or
 * with two configurations, are two layers (`CacheLive.layer` makes one at each
 * call).
 *
 * @since 0.1.0
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"
import { CacheConfig, type CacheConfigInput } from "./CacheConfig.ts"
import type { CacheError } from "./CacheError.ts"
import * as PgCacheStore from "./postgres/PgCacheStore.ts"
import * as PgInvalidationBus from "./postgres/PgInvalidationBus.ts"
import * as PgMigrations from "./postgres/PgMigrations.ts"
import * as PgSweeper from "./postgres/PgSweeper.ts"
import { TieredCache } from "./TieredCache.ts"

const overPostgres = (
  config: Layer.Layer<CacheConfig, CacheError>
): Layer.Layer<TieredCache, CacheError, PgClient.PgClient> => {
  const tables = Layer.unwrap(
    Effect.map(CacheConfig, ({ store }) => Layer.effectDiscard(store.migrate ? PgMigrations.run : PgMigrations.verify))
  )
  const sweeper = Layer.unwrap(
    Effect.map(CacheConfig, ({ store }) => PgSweeper.layerWith({ interval: store.sweepInterval }))
  )
  const store = Layer.unwrap(Effect.map(CacheConfig, ({ store }) => PgCacheStore.layerWith(store)))
  const bus = Layer.unwrap(Effect.map(CacheConfig, (config) => PgInvalidationBus.layerWith(config.bus)))
  return Layer.merge(TieredCache.layerWith(config), sweeper).pipe(
    Layer.provide(store),
    Layer.provide(bus),
    Layer.provide(tables),
    Layer.provide(config)
  )
}

/**
 * The cache on PostgreSQL, configured by `ConfigProvider`, by default the
 * environment. `CacheLive.layer(config)` is the same, configured in code.
 *
 * **Example** (A program on the cache)
 *
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import { Config, Effect, Layer, Schema } from "effect"
 * import { CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
 *
 * const Answers = Namespace.make("answers", { value: Schema.Int, timeToLive: "10 minutes" })
 *
 * const program = Effect.succeed(42).pipe(TieredCache.getOrSet(Answers, "everything"))
 *
 * const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
 *
 * export const main = program.pipe(Effect.provide(CacheLive.pipe(Layer.provide(Database))))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const CacheLive: Layer.Layer<TieredCache, CacheError, PgClient.PgClient> & {
  readonly layer: (config: CacheConfigInput) => Layer.Layer<TieredCache, CacheError, PgClient.PgClient>
} = Object.assign(overPostgres(CacheConfig.layer), {
  layer: (config: CacheConfigInput) => overPostgres(CacheConfig.layerOf(config))
})
