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
 * What the store remembers of a key at the start of a load, and when that was by
 * its own clock. Opaque outside the store that made it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fence {
  readonly version: number
  readonly generation: number
  readonly takenAt: number
}

/**
 * A live row. `age` and `timeToLive` are milliseconds by the store's clock at
 * the time of the read; `timeToLive` is `Infinity` for a row that does not
 * expire.
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
  readonly tags: ReadonlyArray<string>
  readonly fence: Fence
}

/**
 * No live row, and the fence under which one may be filled.
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
 * bytes, `timeToLive` milliseconds (`Infinity`: never expires).
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
  readonly tags: ReadonlyArray<string>
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
  readonly lastAccessed: number
  readonly accessCount: number
  readonly tags: ReadonlyArray<string>
}
