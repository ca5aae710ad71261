/**
 * effect-tiered-cache: memory, then PostgreSQL, then your effect.
 *
 * @since 0.1.0
 */
export { CacheConfig, type CacheConfigInput } from "./CacheConfig.ts"
export type { CacheEntry, Freshness, Origin } from "./CacheEntry.ts"
export * from "./CacheError.ts"
export type { CacheHealth, ComponentHealth, HealthStatus } from "./CacheHealth.ts"
export { CacheLive } from "./CacheLive.ts"
export * as CachePolicy from "./CachePolicy.ts"
export type { CacheStats, TierStats } from "./CacheStats.ts"
export {
  CacheOrigin,
  CacheStore,
  type Fence,
  type KeyText,
  type Lease,
  type LeaseGrant,
  maxCounted,
  type NewRow,
  type NoRow,
  type Rearm,
  type ScannedRow,
  type StoredRow,
  type Validators
} from "./CacheStore.ts"
export { CacheTest } from "./CacheTest.ts"
export * as Glob from "./Glob.ts"
export {
  InvalidationBus,
  type BusStatus,
  type Invalidation,
  type InvalidationMessage,
  type Released
} from "./InvalidationBus.ts"
export { MemoryCache, type RemovalCause } from "./MemoryCache.ts"
export * as Loaded from "./Loaded.ts"
export * as Namespace from "./Namespace.ts"
export type {
  BulkLoader,
  CachedKey,
  GetOptions,
  GetOrSetOptions,
  Loader,
  Operations,
  ReadOptions,
  SetOptions,
  Skip,
  Tier
} from "./Operations.ts"
export * as EmbeddedPostgres from "./postgres/EmbeddedPostgres.ts"
export * as PgCacheStore from "./postgres/PgCacheStore.ts"
export * as PgInvalidationBus from "./postgres/PgInvalidationBus.ts"
export * as PgMigrations from "./postgres/PgMigrations.ts"
export * as PgSweeper from "./postgres/PgSweeper.ts"
export { TieredCache } from "./TieredCache.ts"
