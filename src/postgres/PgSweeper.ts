/**
 * Deletes the rows of the store (L2) that no read can return and no fence needs:
 * expired values (not stale ones that may still be served), tombstones, and what
 * invalidations by tag, pattern or namespace left behind. And the least recently used
 * of the living, where there are more of them than the store is to hold.
 *
 * There is no index on the end of a row (it would make every write dearer), so the
 * sweeper walks the table by ranges of blocks, each in a short statement of its
 * own, and remembers in memory how far it came. It skips rows that are locked, and
 * leaves the work to another process that is sweeping at this moment.
 *
 * A statement that is the victim of a deadlock, as with a migration that changes the same
 * tables in another order, is tried again.
 *
 * One call looks at half a gigabyte of rows at most; a larger table takes several.
 *
 * **Bounds.** How many rows there are and what they take is estimated from a sample
 * of a thousand blocks, and so is the time before which those were last used that are
 * too many; they go as the walk comes by. So the table exceeds its bounds by what is
 * written between two walks, and by what was written or expired within
 * `fenceLifetime`, which stays for the fences. Last uses are noted in batches and lag behind.
 *
 * **The log** (`cache_log`) is trimmed too. A line may go when every reader that looked
 * within the last hour has seen it: not when it is an hour old, since a transaction
 * that commits late shows old lines late. So `cache_log_horizon` remembers a snapshot
 * of the database for an hour, and what is visible in that may go; whoever has not
 * looked since finds there that the log no longer reaches back. Marks, which reads
 * depend on, are closed before (`cache_sweep_marks` in `migrations/0003_functions.sql`).
 *
 * @since 0.1.0
 */
import { type PgClient, PgTypes } from "@effect/sql-pg"
import { Cause, Duration, Effect, Layer } from "effect"
import type { SqlError } from "effect/sql"
import { problemOf } from "../CacheError.ts"
import { CacheStore } from "../CacheStore.ts"

/**
 * How many living rows the store is to hold, and how many bytes of values.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bounds {
  readonly maxEntries: number
  readonly maxSize: number
}

/**
 * Sweeps up to `limit` rows: the `sweep` of `PgCacheStore`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  sql: PgClient.PgClient,
  fenceLifetime: number,
  bounds: Bounds
): ((limit: number) => Effect.Effect<number, SqlError.SqlError>) => {
  let block = 0
  return Effect.fnUntraced(function* (limit: number) {
    let removed = yield* trimLog(sql, limit)
    removed += yield* sweepMarks(sql, fenceLifetime, limit)
    const excess = yield* excessOver(sql, bounds)
    for (let range = 0; range < rangesPerCall && removed < limit; range++) {
      const isTooMuch = excess.rows >= 1
      const most = isTooMuch ? Math.min(limit - removed, Math.floor(excess.rows)) : limit - removed
      const swept = yield* sweepRange(sql, fenceLifetime, block, most, isTooMuch ? excess.before : null)
      if (!swept.is_my_turn) return removed
      removed += swept.removed
      excess.rows -= swept.evicted
      if (removed >= limit) return removed
      const isWhole = (range + 1) * blocksPerRange >= swept.blocks
      block = block + blocksPerRange < swept.blocks ? block + blocksPerRange : 0
      if (isWhole) return removed
    }
    return removed
  })
}

/**
 * How often the sweeper runs (default: every minute), and how many rows it
 * deletes in one call of the store (default 5000; it calls again at once while
 * there are that many).
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly interval?: Duration.Input | undefined
  readonly limit?: number | undefined
}

/**
 * Sweeps the store in the background for as long as the layer lives. A store that
 * cannot be reached is logged once, and swept again when it is back.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<never, never, CacheStore> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const store = yield* CacheStore
      const interval = Duration.fromInputUnsafe(options.interval ?? Duration.minutes(1))
      yield* Effect.forkScoped(sweepForever(store, interval, options.limit ?? 5000))
    })
  )

/**
 * Sweeps the store in the background every minute.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, CacheStore> = layerWith({})

const sweepForever = Effect.fnUntraced(function* (
  store: CacheStore["Service"],
  interval: Duration.Duration,
  limit: number
) {
  let isOutage = false
  while (true) {
    yield* Effect.sleep(interval)
    const exit = yield* Effect.exit(sweepAll(store, limit))
    if (exit._tag === "Failure" && !isOutage) {
      const problem = problemOf(Cause.squash(exit.cause))
      yield* Effect.logWarning(`cache: the store cannot be swept now; it will be tried again: ${problem}`)
    }
    if (exit._tag === "Success" && isOutage) yield* Effect.logInfo("cache: the store is being swept again")
    isOutage = exit._tag === "Failure"
  }
})

const sweepAll = (store: CacheStore["Service"], limit: number) =>
  Effect.repeat(store.sweep(limit), { while: (removed) => removed >= limit })

// 8 MiB of rows with blocks of 8 KiB: some milliseconds.
const blocksPerRange = 1024
const rangesPerCall = 64

const sweepRange = (
  sql: PgClient.PgClient,
  fenceLifetime: number,
  block: number,
  limit: number,
  evictBefore: string | null
) =>
  sql<{ is_my_turn: boolean; blocks: number; removed: number; evicted: number }>`
    with turn as materialized (
      select pg_try_advisory_xact_lock(
        hashtext('effect-tiered-cache sweep'), 'cache_entries'::regclass::oid::int4
      ) as is_mine
    ), dead as (
      select e.ctid, e.stale_until <= statement_timestamp() or e.data is null as is_dead
      from cache_entries e
      where (select is_mine from turn)
        and e.ctid >= ${`(${block},0)`}::tid
        and e.ctid < ${`(${block + blocksPerRange},0)`}::tid
        and greatest(e.created_at, e.expired_at)
          <= statement_timestamp() - ${PgTypes.float8(fenceLifetime)} * interval '1 ms'
        and (e.lease_until is null or e.lease_until <= statement_timestamp())
        and (e.stale_until <= statement_timestamp() or e.last_accessed <= ${evictBefore}::timestamptz)
      limit ${PgTypes.int8(BigInt(limit))}
      for update of e skip locked
    ), deleted as (
      delete from cache_entries e using dead where e.ctid = dead.ctid returning dead.is_dead
    )
    select
      turn.is_mine as is_my_turn,
      (pg_relation_size('cache_entries') / current_setting('block_size')::int8)::float8 as blocks,
      (select count(*) from deleted)::float8 as removed,
      (select count(*) from deleted where is_dead is not true)::float8 as evicted
    from turn
  `.pipe(Effect.map((rows) => rows[0] ?? { is_my_turn: false, blocks: 0, removed: 0, evicted: 0 }))

interface Excess {
  /** How many rows are too many. */
  rows: number
  /** Those that were last used by then. */
  readonly before: string | null
}

const noExcess: Excess = { rows: 0, before: null }

// The sample is of whole blocks, and exact where there are no more than these.
const excessOver = Effect.fnUntraced(function* (sql: PgClient.PgClient, { maxEntries, maxSize }: Bounds) {
  if (maxEntries === Infinity && maxSize === Infinity) return { ...noExcess }
  const [table] = yield* sql<{ blocks: number }>`
    select (pg_relation_size('cache_entries') / current_setting('block_size')::int8)::float8 as blocks
  `
  const percentage = Math.min(100, (100 * sampledBlocks) / Math.max(1, table!.blocks))
  const share = PgTypes.float8(percentage / 100)
  const [excess] = yield* sql<Excess>`
    with sample as (
      select
        last_accessed,
        count(*) over oldest_first as rows,
        sum(data_size) over oldest_first as bytes,
        count(*) over () as all_rows,
        sum(data_size) over () as all_bytes
      from cache_entries tablesample system (${PgTypes.float8(percentage)}::float4)
      where data is not null and (stale_until is null or stale_until > statement_timestamp())
      window oldest_first as (order by last_accessed)
    )
    select (rows / ${share})::float8 as rows, last_accessed::text as before
    from sample
    where rows >= all_rows - ${PgTypes.float8(maxEntries)} * ${share}
      and bytes >= all_bytes - ${PgTypes.float8(maxSize)} * ${share}
      and (all_rows > ${PgTypes.float8(maxEntries)} * ${share} or all_bytes > ${PgTypes.float8(maxSize)} * ${share})
    order by last_accessed
    limit 1
  `
  return excess ?? { ...noExcess }
})

const sampledBlocks = 1000

// What is deleted is visible in the horizon as it was before this statement, so
// that nobody finds rows gone and the horizon not yet moved. A snapshot that is
// ahead of the database comes from another one, out of a dump.
const trimLog = (sql: PgClient.PgClient, limit: number) =>
  sql<{ removed: number }>`
    with restored as (
      insert into cache_log_horizon default values on conflict do nothing
    ), due as (
      select only_row
      from cache_log_horizon
      where not next_at between statement_timestamp() - interval '1 hour' and statement_timestamp()
      for update skip locked
    ), moved as (
      update cache_log_horizon h set
        trimmed = case
          when pg_snapshot_xmax(h.next) > pg_snapshot_xmax(pg_current_snapshot()) then pg_current_snapshot()
          else h.next
        end,
        next = pg_current_snapshot(),
        next_at = statement_timestamp()
      from due
      where h.only_row = due.only_row
    ), old as (
      select l.ctid
      from cache_log l
      cross join cache_log_horizon h
      where l.xid < pg_snapshot_xmax(h.trimmed) and pg_visible_in_snapshot(l.xid, h.trimmed)
      order by l.xid
      limit ${PgTypes.int8(BigInt(limit))}
      for update of l skip locked
    ), deleted as (
      delete from cache_log l using old where l.ctid = old.ctid returning 1
    )
    select count(*)::float8 as removed from deleted
  `.pipe(Effect.map((rows) => rows[0]?.removed ?? 0))

// Where another process is at it, it has taken the marks, and the rows.
const sweepMarks = Effect.fnUntraced(function* (sql: PgClient.PgClient, fenceLifetime: number, limit: number) {
  for (let removed = 0; ;) {
    const [swept] = yield* sql<{ removed: number; is_done: boolean }>`
      select removed::float8 as removed, is_done
      from cache_sweep_marks(${PgTypes.float8(fenceLifetime)}, ${PgTypes.int4(limit)})
    `
    removed += swept!.removed
    if (swept!.is_done || removed >= limit) return removed
  }
})
