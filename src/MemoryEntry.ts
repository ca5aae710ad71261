/**
 * What goes into the memory of this process (L1) and what comes out of it; see
 * `MemoryCache`, which exports these models too.
 *
 * @since 0.1.0
 */
import type { Exit } from "effect"
import type { Fence, Validators } from "./StoredRow.ts"

/**
 * What an entry is looked up by within its partition.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyId = string | number

/**
 * What is to be kept, until `expiresAt` (`Infinity`: for good); `size` is the
 * value's length in bytes. Nothing here depends on the rest, which is for those
 * who read the entry. All times are in milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewMemoryEntry<out A> {
  readonly value: A
  readonly createdAt: number
  readonly expiresAt: number
  /** When the entry goes stale, which may be sooner or later than memory lets go of it. Default `expiresAt`. */
  readonly freshUntil?: number
  /** Until when memory vouches for the entry: the others may have changed it since. Default `expiresAt`. */
  readonly vouchedUntil?: number
  /** Until when `hit` is the answer, without a further look; no later than `expiresAt`, which is the default. */
  readonly hitUntil?: number
  readonly size: number
  readonly tags: ReadonlyArray<string>
  readonly details?: Details
}

/**
 * What few entries have: the typed failure that is kept in place of a value, when
 * a load may be tried again, how long the last one took, what to ask the source
 * with, and the fence under which the store had nothing, for an entry it never got.
 *
 * @category models
 * @since 0.1.0
 */
export interface Details {
  readonly failure?: Exit.Failure<never, unknown> | undefined
  readonly retryAt?: number | undefined
  readonly loadTime?: number | undefined
  readonly validators?: Validators | undefined
  readonly unstored?: Fence | undefined
}

/**
 * What is kept. It never changes but by `expire`: a `put` over it makes another
 * one. `hit` is an effect that succeeds with the value, to be returned as it is; or
 * fails with the failure that was kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemoryEntry<out A> extends NewMemoryEntry<A> {
  readonly id: KeyId
  /** How often it was used since that was last told (`AccessLog`). */
  uses: number
  readonly freshUntil: number
  readonly vouchedUntil: number
  readonly hitUntil: number
  readonly details: Details
  readonly hit: Exit.Exit<A, never>
}

/**
 * Why an entry left: `remote` is an invalidation by another process, `size` the
 * want of room.
 *
 * @category models
 * @since 0.1.0
 */
export type RemovalCause = "explicit" | "replaced" | "expired" | "size" | "remote"

/**
 * The entries of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export interface Partition<A> {
  /** The entry under `id` while `hit` is the answer; nothing is removed. This is a use of it. */
  readonly hit: (id: KeyId, now: number) => MemoryEntry<A> | undefined
  /** The living entry under `id`. One that has expired is removed. This is a use of it. */
  readonly get: (id: KeyId, now: number) => MemoryEntry<A> | undefined
  /**
   * Keeps the entry. When it alone exceeds the bounds or has already expired,
   * says `false` and keeps nothing. Either way the older entry is gone.
   */
  readonly put: (id: KeyId, entry: NewMemoryEntry<A>, now: number) => boolean
  /** Removes the entry under `id`, and says whether there was one. */
  readonly remove: (id: KeyId, cause: RemovalCause) => boolean
  /**
   * Makes the entry under `id` stale from `now` on, and no answer before the others
   * were asked and a new load was tried. It is removed, for this cause, where nothing
   * of it is left then. Whether it was fresh.
   */
  readonly expire: (id: KeyId, now: number, cause: RemovalCause) => boolean
  /** The keys whose entries have one of the tags, as they are now. */
  readonly tagged: (tags: ReadonlyArray<string>) => ReadonlyArray<KeyId>
  /** Removes all entries of this partition, and says how many there were. */
  readonly clear: (cause: RemovalCause) => number
  /** The keys, also of entries that have expired and are not removed yet. */
  readonly ids: () => Iterable<KeyId>
  /** How many entries there are. */
  readonly entries: number
  /** The bytes they take, overheads included. */
  readonly size: number
  /** How many entries have been kept since the start. */
  readonly puts: number
  /** How many of those have left, and why. */
  readonly removals: Readonly<Record<RemovalCause, number>>
}
