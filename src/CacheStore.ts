/**
 * L2: the store of encoded values that all processes share, as a contract.
 *
 * A store knows nothing of schemas, policies, memory or loaders: it keeps JSON
 * documents under (namespace, key) for a while, by its own clock, and it orders
 * writes. `PgCacheStore` is the real one; `CacheStore.layerMemory` is the
 * reference implementation that tests run against.
 *
 * **What every store promises**
 *
 * - `read` returns live rows only: fresh ones, and stale ones that may still be
 *   served. Lifetimes are judged by the store's clock and come back as
 *   *remaining* milliseconds, so that the clocks of two processes are never
 *   compared.
 * - `read` gives a `Fence` for each key: what the store remembers of it at that
 *   moment. `fill` with that fence stores the value only if nobody has written,
 *   removed or cleared the key since.
 * - `write` stores whatever was there and wins over every fill whose fence is older.
 *   One that its caller gave up, and that is carried out late, undoes no change of
 *   the key that was sent after it.
 * - `remove`, `removeTagged`, `removeMatching` and `clear` leave nothing that a
 *   later `read` could return, and refuse every fill whose fence is older, of a key
 *   that they cover, whether there was a row or not. With `keepsStale` they leave the
 *   rows that are live, as stale ones.
 * - A fill whose fence is older than `fenceLifetime` by the store's clock is
 *   refused, whatever happened since: the store need not remember an invalidation
 *   for longer than that.
 * - Where such a change is in a transaction that is still open, a fill that it covers
 *   is refused or is undone by the commit, whichever transaction is older.
 * - A lease is had by one owner at a time and ends by the store's clock, when it is
 *   released, and with every change of the key. It is no lock: reads, fills and
 *   writes take no notice of it, and it breaks no fence.
 * - `rearm` is a note on a live row that nobody has changed since it was read. It
 *   breaks no fence and lets no row live longer; the next change of the row ends it,
 *   and a later note takes its place.
 * - A call either happens as a whole or fails as a whole with a `CacheError`.
 * - A store between processes leaves word of what `write`, `remove` and `clear`
 *   change, and of what `fill` replaces, as a part of the same call; see `CacheOrigin`.
 * - Any string is a namespace, a key or a tag of its own, except that none may
 *   hold NUL or a lone surrogate.
 *
 * **What it does not promise**: that a live row stays (a store may trim), that
 * `rearm` marks a row that somebody else is changing at that moment, that
 * `data` comes back letter by letter (it is an equal JSON document), nor that a fill
 * or a `write` that runs beside a change by tag, pattern or namespace stays: it may be
 * told that it stored a value which no read will return.
 *
 * @since 0.1.0
 */
import { Context, type Duration, type Effect, Layer, type Stream } from "effect"
import type { CacheError } from "./CacheError.ts"
import type { Glob } from "./Glob.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { Fence, KeyText, Lease, LeaseGrant, NewRow, NoRow, Rearm, ScannedRow, StoredRow } from "./StoredRow.ts"

export type {
  Fence,
  KeyText,
  Lease,
  LeaseGrant,
  NewRow,
  NoRow,
  Rearm,
  ScannedRow,
  StoredRow,
  Validators
} from "./StoredRow.ts"

/**
 * The cache on whose behalf the store is called. A store that tells other processes
 * what has changed says whose change it was: that cache has seen to its own memory.
 *
 * @category references
 * @since 0.1.0
 */
export const CacheOrigin: Context.Reference<string> = Context.Reference("effect-tiered-cache/CacheOrigin", {
  defaultValue: () => ""
})

/**
 * Up to how many rows `removeTagged`, `removeMatching`, `clear` and `clearAll` count one by one.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxCounted = 10_000

/**
 * The shared store (L2).
 *
 * @category services
 * @since 0.1.0
 */
export class CacheStore extends Context.Service<
  CacheStore,
  {
    /** How old a fence may be for a fill to be stored under it: the longest that a load may take. */
    readonly fenceLifetime: Duration.Duration

    /** Whether the calling fiber is inside a transaction that this store would join. */
    readonly inTransaction: (context: Context.Context<never>) => boolean

    /** Runs the effect once that transaction has committed; at once when there is none. */
    readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>

    /**
     * One answer per key, in the order of `keys`. One round trip, or two where something of the
     * namespace has been invalidated in bulk since the last.
     */
    readonly read: (
      namespace: string,
      keys: ReadonlyArray<KeyText>
    ) => Effect.Effect<ReadonlyArray<StoredRow | NoRow>, CacheError>

    /**
     * Stores each row unless its fence was broken; says which were stored, in order. That
     * ends the leases on them. One round trip. Keys are distinct.
     */
    readonly fill: (
      namespace: string,
      rows: ReadonlyArray<NewRow & { readonly fence: Fence }>
    ) => Effect.Effect<ReadonlyArray<boolean>, CacheError>

    /** Notes that the rows are not to be loaded anew yet; waits for nobody. One round trip. Keys are distinct. */
    readonly rearm: (namespace: string, rows: ReadonlyArray<Rearm>) => Effect.Effect<void, CacheError>

    /** Stores the rows, whatever was there. One round trip. Keys are distinct. */
    readonly write: (namespace: string, rows: ReadonlyArray<NewRow>) => Effect.Effect<void, CacheError>

    /** Removes the keys; says for each whether a live row was there, in order. One round trip. */
    readonly remove: (
      namespace: string,
      keys: ReadonlyArray<KeyText>,
      keepsStale?: boolean
    ) => Effect.Effect<ReadonlyArray<boolean>, CacheError>

    /**
     * Removes the rows that have one of the tags, and says how many live ones there were
     * (as `clear` does).
     */
    readonly removeTagged: (
      namespace: string,
      tags: ReadonlyArray<string>,
      keepsStale?: boolean
    ) => Effect.Effect<number, CacheError>

    /** Removes the rows whose key the pattern matches, and says how many live ones there were (as `clear` does). */
    readonly removeMatching: (
      namespace: string,
      pattern: Glob,
      keepsStale?: boolean
    ) => Effect.Effect<number, CacheError>

    /**
     * Removes all rows of one namespace, however many in the same time, and says how
     * many live ones there were: a number over `maxCounted` is an estimate.
     */
    readonly clear: (namespace: string) => Effect.Effect<number, CacheError>

    /** Removes all rows of all namespaces, and says how many live ones there were (as `clear` does). */
    readonly clearAll: Effect.Effect<number, CacheError>

    /**
     * Asks for the lease on each key, if the key is what it was when its fence was
     * taken. One answer per key, in order; no key is waited for. One round trip. Keys are
     * distinct.
     */
    readonly acquire: (
      namespace: string,
      keys: ReadonlyArray<{ readonly key: KeyText; readonly fence: Fence }>,
      lease: Lease
    ) => Effect.Effect<ReadonlyArray<LeaseGrant>, CacheError>

    /** Prolongs the leases that the owner still has on these keys. One round trip. */
    readonly renew: (namespace: string, keys: ReadonlyArray<KeyText>, lease: Lease) => Effect.Effect<void, CacheError>

    /** Ends the leases that the owner still has on these keys. One round trip. */
    readonly release: (
      namespace: string,
      keys: ReadonlyArray<KeyText>,
      owner: Lease["owner"]
    ) => Effect.Effect<void, CacheError>

    /** Notes how often rows were used since that was last noted; waits for nobody. Keys are distinct. One round trip. */
    readonly touch: (
      namespace: string,
      uses: ReadonlyArray<{ readonly key: KeyText; readonly count: number }>
    ) => Effect.Effect<void, CacheError>

    /**
     * The live rows of a namespace in key order (by code point), read page by
     * page. Keys that agree in their first 1000 bytes come in any order.
     */
    readonly scan: (namespace: string) => Stream.Stream<ScannedRow, CacheError>

    /**
     * Removes up to `limit` rows that no read can return and no fence needs any
     * more, and those that are too many for the store's bounds; says how many. One call
     * may look at a part of a large store only.
     */
    readonly sweep: (limit: number) => Effect.Effect<number, CacheError>

    /** Fails if the store cannot answer now. */
    readonly ping: Effect.Effect<void, CacheError>
  }
>()("effect-tiered-cache/CacheStore") {
  /**
   * The reference implementation, in the memory of this process and by the
   * `Clock` that the layer is built with: two caches over one of these share
   * its clock, whatever theirs say. It has no transactions and never fails.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerMemory: Layer.Layer<CacheStore> = Layer.effect(CacheStore, MemoryStore.make)
}
