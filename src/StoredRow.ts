/**
 * What goes into the shared store (L2) and what comes out of it; see `CacheStore`,
 * which exports these models too.
 *
 * @since 0.1.0
 */

/**
 * The text form of a namespace's key; see `Namespace`. Never contains NUL or a
 * lone surrogate.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyText = string

/**
 * What the store remembers at the start of a load, and when that was by its own
 * clock: the version of the key's row, and which changes of many keys at once (by
 * tag, by pattern, of a namespace, of everything) it had seen by then. Opaque
 * outside the store that made it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fence {
  readonly version: number
  readonly snapshot: string
  readonly takenAt: number
}

/**
 * A row that may be served. Times are milliseconds by the store's clock at the
 * time of the read: `timeToLive` is what is left until the row goes stale (zero
 * or less: it has), `staleTimeToLive` what is left until nobody may be given it
 * any more, which is more than zero; `Infinity` where that never happens.
 *
 * `retryAfter` is how long the store asks not to load the row anew because a load
 * has failed; `loadTime` how long the load took that made it. `isFailure`: the
 * document is a typed failure of the loader, not a value.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredRow {
  readonly _tag: "Row"
  readonly data: string
  readonly schemaVersion: number
  readonly age: number
  readonly timeToLive: number
  readonly staleTimeToLive: number
  readonly retryAfter: number
  readonly loadTime: number
  readonly isFailure: boolean
  readonly validators: Validators
  readonly tags: ReadonlyArray<string>
  readonly fence: Fence
}

/**
 * What the source gave with a value so that it can be asked later whether the
 * value has changed, such as an `etag`. The cache only keeps it.
 *
 * @category models
 * @since 0.1.0
 */
export type Validators = Readonly<Record<string, string>>

/**
 * No row that may be served, and the fence under which one may be filled.
 *
 * @category models
 * @since 0.1.0
 */
export interface NoRow {
  readonly _tag: "NoRow"
  readonly fence: Fence
}

/**
 * A row to be stored. `data` is a JSON document, `size` its length in UTF-8
 * bytes. Times are milliseconds: the row is fresh for `timeToLive` and may be
 * served stale for `staleFor` after that (`Infinity`: for good).
 *
 * @category models
 * @since 0.1.0
 */
export interface NewRow {
  readonly key: KeyText
  readonly data: string
  readonly size: number
  readonly schemaVersion: number
  readonly timeToLive: number
  readonly staleFor: number
  readonly loadTime: number
  readonly isFailure: boolean
  readonly validators: Validators
  readonly tags: ReadonlyArray<string>
}

/**
 * A stale row that is not to be loaded anew for `retryAfter` milliseconds. The
 * fence is the one it was read with.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rearm {
  readonly key: KeyText
  readonly fence: Fence
  readonly retryAfter: number
}

/**
 * A row as `scan` lists it. Times are milliseconds since the epoch by the
 * store's clock; `accessCount` and `lastAccessed` are gathered in batches and
 * lag behind.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScannedRow {
  readonly key: KeyText
  readonly size: number
  readonly createdAt: number
  readonly expiresAt: number
  readonly staleUntil: number
  readonly lastAccessed: number
  readonly accessCount: number
  readonly tags: ReadonlyArray<string>
}

/**
 * The right to load some keys, for `duration` milliseconds by the store's clock
 * unless it is renewed. `owner` is one load, among all processes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  readonly owner: string
  readonly duration: number
}

/**
 * What became of a request for a lease on a key.
 *
 * - **Granted**: nobody else has it. Also where the owner had it already.
 * - **Held**: another load has it, for `remaining` milliseconds unless it is renewed.
 * - **Changed**: the key is not what it was when the fence was taken; read it again.
 *
 * @category models
 * @since 0.1.0
 */
export type LeaseGrant =
  { readonly _tag: "Granted" } | { readonly _tag: "Held"; readonly remaining: number } | { readonly _tag: "Changed" }
