/**
 * A cached value together with what the cache knows about it.
 *
 * @since 0.1.0
 */
import type { Validators } from "./StoredRow.ts"

/**
 * Which part of the cache answered: this process's memory (L1), the shared
 * store (L2), the loader, or the fallback that the caller gave.
 *
 * @category models
 * @since 0.1.0
 */
export type Origin = "memory" | "store" | "loader" | "fallback"

/**
 * Whether the answer is as good as the policy asks for. A stale one is past its
 * `expiresAt`, or could not be confirmed because the store was away, or is a
 * fallback: it was given because nothing fresher was to be had in time.
 *
 * @category models
 * @since 0.1.0
 */
export type Freshness = "fresh" | "stale"

/**
 * A value and its provenance. Times are milliseconds since the epoch on the
 * clock of this process; `Infinity` for an entry that does not expire. After
 * `expiresAt` it is stale, after `staleUntil` nobody is given it any more.
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
  readonly staleUntil: number
  readonly tags: ReadonlyArray<string>
  /** What the loader gave to ask the source with whether the value has changed. */
  readonly validators: Validators
}
