/**
 * The shared store (L2) in PostgreSQL: `CacheStore` on the tables of
 * `migrations/0001_cache.sql`, which also says what each column means.
 *
 * Each call is one statement, with the same text whatever the number of keys, so
 * that it stays prepared; a read is two where marks of its namespace have come since the
 * last one. Lifetimes are judged by the database's clock alone.
 *
 * Reads of one namespace that are made at the same time share a statement, and so do
 * fills, writes and requests for leases (`Convoy`), unless they are inside a
 * transaction. What the database refuses them together each tries alone.
 *
 * **How the promises are kept**
 *
 * - A fence is the version of the row (0: no row), and a snapshot of the database:
 *   which marks of many keys at once had been committed (`PgMarks`). `fill` is an
 *   upsert on condition that the version is the same, that no mark covers the row
 *   which was not visible in the snapshot, and that the fence is younger than a
 *   tombstone grows, by the database's clock and however late the statement arrives.
 *   The row keeps the snapshot, and a mark that is committed later is found when the
 *   row is read. Where an invalidation of the same key is in a transaction that is
 *   still open, a fill outwaits it for a third of a second and is refused: that row
 *   of it alone (`PgContention`).
 * - `write` replaces no row that is newer than what this process had seen when it
 *   was sent, nor stores one that a mark covers which it had not seen; if so, it
 *   looks again and is sent anew. So one that its caller has given up, and that the
 *   server carries out late, undoes nothing.
 * - `remove` leaves a tombstone.
 * - What other processes may hold in memory and is right no longer goes into
 *   `cache_log` by the same statement, for them to read (`PgInvalidationBus`); a fill
 *   that replaces nothing live is not among it.
 * - Rows are locked in the order of their keys, so that two calls on the same keys
 *   never deadlock; marks lock none, and `rearm` and `touch` leave out those that are
 *   locked.
 * - Who loads a key is in the key's row (`PgLease`).
 *
 * Inside `sql.withTransaction` of the same client, every call joins the
 * transaction: `write`, `remove` and `clear` commit or roll back with it. A call
 * that fails there leaves the transaction unusable, as any failed statement does.
 *
 * **Limits**: a namespace of more than about 1500 bytes does not fit the index. Plans
 * that were made when the server had analyzed a table of a few rows read all of it until
 * autovacuum has analyzed it again, within a minute of its growing by its defaults. A
 * transaction that stays open for `fenceLifetime` outlives its own tombstones. A
 * `write` in a transaction during which a mark that covers the key is committed
 * counts as older than the mark. Fills, leases and notes do not wait for the disk: a
 * server that crashes may have lost the last of them, which is a miss.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Layer } from "effect"
import { CacheStore } from "../CacheStore.ts"
import { outwait } from "./PgContention.ts"
import * as PgLease from "./PgLease.ts"
import * as PgMarks from "./PgMarks.ts"
import * as PgNotes from "./PgNotes.ts"
import * as PgRemovals from "./PgRemovals.ts"
import * as PgRows from "./PgRows.ts"
import * as PgSweeper from "./PgSweeper.ts"
import * as PgWrites from "./PgWrites.ts"
import { isInTransaction, nothingSeen, type Store, unavailable } from "./PgStatement.ts"

/**
 * How the store is set up. What a load brings that took longer than `fenceLifetime`
 * (default 10 minutes) is not stored; it must be the same in all processes. The
 * sweeper trims the store to `maxEntries` and to `maxSize` bytes of values (default:
 * no bound).
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly fenceLifetime?: Duration.Input | undefined
  readonly maxEntries?: number | undefined
  readonly maxSize?: number | undefined
}

/**
 * The store on the tables of a `PgClient`, which `PgMigrations` makes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: Options): Effect.Effect<CacheStore["Service"], never, PgClient.PgClient> =>
  Effect.map(PgClient.PgClient, (client) => {
    const fenceLifetime = Duration.fromInputUnsafe(options?.fenceLifetime ?? Duration.minutes(10))
    const sql = client.withoutTransforms()
    const self: Store = {
      sql,
      fenceLifetime: Duration.toMillis(fenceLifetime),
      seen: nothingSeen()
    }
    const read = PgRows.reader(self)
    const { maxEntries = Infinity, maxSize = Infinity } = options ?? {}
    const sweep = PgSweeper.make(sql, self.fenceLifetime, { maxEntries, maxSize })
    return {
      fenceLifetime,
      inTransaction: (context) => isInTransaction(sql, context),
      afterCommit: sql.afterCommit,
      read,
      fill: PgWrites.filler(self),
      rearm: (namespace, rows) => PgNotes.rearm(self, namespace, rows),
      write: PgWrites.writer(self, read),
      remove: (namespace, keys, keepsStale = false) => PgRemovals.remove(self, namespace, keys, keepsStale),
      removeTagged: (namespace, tags, keepsStale = false) => PgMarks.removeTagged(self, namespace, tags, keepsStale),
      removeMatching: (namespace, pattern, keepsStale = false) =>
        PgMarks.removeMatching(self, namespace, pattern, keepsStale),
      clear: (namespace) => PgMarks.clear(self, namespace),
      clearAll: PgMarks.clearAll(self),
      acquire: PgLease.acquirer(self),
      renew: (namespace, keys, lease) => PgLease.renew(self, namespace, keys, lease),
      release: (namespace, keys, owner) => PgLease.release(self, namespace, keys, owner),
      touch: (namespace, uses) => PgNotes.touch(self, namespace, uses),
      scan: (namespace) => PgRows.scan(self, namespace),
      sweep: (limit) =>
        Effect.withFiber(({ context }) =>
          Effect.mapError(outwait(isInTransaction(sql, context))(sweep(limit)), unavailable("sweep"))
        ),
      // Without the table a server that answers is of no use.
      ping: sql`select 1 from cache_entries limit 0`.pipe(Effect.asVoid, Effect.mapError(unavailable("answer")))
    }
  })

/**
 * The store with its defaults.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<CacheStore, never, PgClient.PgClient> = Layer.effect(CacheStore, make())

/**
 * The store with other settings.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<CacheStore, never, PgClient.PgClient> =>
  Layer.effect(CacheStore, make(options))
