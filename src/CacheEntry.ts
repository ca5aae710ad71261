/**
 * A cached value together with what the cache knows about it.
 *
 * @since 0.1.0
 */

/**
 * Which part of the cache answered: this process's memory (L1), the shared
 * store (L2), or the loader.
 *
 * @category models
 * @since 0.1.0
 */
export type Origin = "memory" | "store" | "loader"

/**
 * Before `expiresAt` an entry is fresh; after it, stale.
 *
 * @category models
 * @since 0.1.0
 */
export type Freshness = "fresh" | "stale"

/**
 * A value and its provenance. Times are milliseconds since the epoch on the
 * clock of this process; `expiresAt` is `Infinity` for an entry that does not
 * expire.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheEntry<out A> {
  readonly value: A
  readonly origin: Origin
  readonly freshness: Freshness
  readonly createdAt: number
  readonly expiresAt: number
  readonly tags: ReadonlyArray<string>
}
