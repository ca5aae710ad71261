/**
 * What one load is asked for, and what it works with.
 *
 * @since 0.1.0
 */
import type { Fence, KeyText } from "./CacheStore.ts"
import type { LocalFence } from "./LocalFence.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { BulkLoader, GetOrSetOptions } from "./Operations.ts"
import type { Route } from "./Route.ts"
import type { CacheParts, Progress, Space } from "./Space.ts"

/**
 * A key that memory does not have.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wanted<K> {
  readonly id: KeyId
  readonly key: K
  readonly text: KeyText
}

/**
 * With the fence that keeps a late result out of memory.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fenced<K> extends Wanted<K> {
  readonly local: LocalFence
}

/**
 * A key to be loaded. Without a fence the store is away or left out. `replaces`: the
 * store has something that others may hold, whether it is of use here or not.
 *
 * @category models
 * @since 0.1.0
 */
export interface Missing<K> extends Fenced<K> {
  readonly fence: Fence | undefined
  readonly replaces: boolean
}

/**
 * What a load works with. Without `loadMissing` it only looks things up. With a
 * `draw` it is an early refresh: what the store has will do only if that draw does
 * not make it due too.
 *
 * @category models
 * @since 0.1.0
 */
export interface Load<K, A, X, E, R> {
  readonly self: CacheParts
  readonly space: Space<K, A, X>
  readonly route: Route
  readonly loadMissing: BulkLoader<K, A, E, R> | undefined
  readonly options: GetOrSetOptions<A, E> | undefined
  readonly progress: Progress<A>
  readonly draw: number | undefined
  /** Hears of each key that is stored without the load waiting for it whether it was, or will never be. */
  readonly onStored?: (key: KeyText, isStored: boolean) => void
}
