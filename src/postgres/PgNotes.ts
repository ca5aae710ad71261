/**
 * What is noted on rows of PostgreSQL that stay what they are: that they are not to be
 * loaded anew yet, and how often they were used. Notes wait for nobody, leave out
 * rows that somebody is changing, and break no fence.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import type { CacheError } from "../CacheError.ts"
import type { KeyText, Rearm } from "../CacheStore.ts"
import {
  arrayOf,
  type ColumnType,
  forever,
  isInTransaction,
  marksOver,
  serverId,
  type Store,
  storedKey,
  unavailable,
  unhurriedSettings
} from "./PgStatement.ts"

/**
 * See `CacheStore`.
 *
 * A note lasts no longer than the row itself: LEAST ignores null, which is never.
 * Where a mark has made the row stale, and whoever failed to load it anew has seen
 * that, the row itself says so from now on: the mark would have it loaded at once.
 *
 * @category operations
 * @since 0.1.0
 */
export const rearm = (
  { sql }: Store,
  namespace: string,
  rows: ReadonlyArray<Rearm>
): Effect.Effect<void, CacheError> => {
  if (rows.length === 0) return Effect.void
  const column = (type: ColumnType, valueOf: (row: Rearm) => unknown) => arrayOf(sql, type, rows.map(valueOf))
  return sql`
    with unchanged as (
      select e.namespace, e.cache_key, u.retry_after, u.snapshot, mark.stale_since
      from (
        select cache_key, version, retry_after, split_part(fence, '/', 2)::pg_snapshot as snapshot
        from unnest(
          ${column("text", ({ key }) => storedKey(key))},
          ${column("int8", ({ fence }) => BigInt(fence.version))},
          ${column("text", ({ fence }) => fence.snapshot)},
          ${column("float8", ({ retryAfter }) => Math.min(retryAfter, forever))}
        ) as u (cache_key, version, fence, retry_after)
        where split_part(fence, '/', 1) = ${serverId(sql)}
      ) u
      join cache_entries e
        on e.namespace = (select ${namespace}::text) and e.cache_key = u.cache_key and e.version = u.version
      cross join lateral (${marksOver(sql)}) mark
      where not exists (
        select
        from cache_marks(
          e.namespace, coalesce(e.long_key, e.cache_key), e.tags, e.former_tags, u.snapshot, e.written_in, e.version
        )
      )
      for no key update of e skip locked
    )
    update cache_entries e
    set
      retry_at = least(statement_timestamp() + u.retry_after * interval '1 ms', e.stale_until),
      expires_at = least(e.expires_at, u.stale_since),
      loaded_in = case when u.stale_since is null then e.loaded_in else u.snapshot end
    from unchanged u
    where (e.namespace, e.cache_key) = (u.namespace, u.cache_key)
  `.pipe(Effect.asVoid, Effect.mapError(unavailable("rearm")))
}

/**
 * See `CacheStore`.
 *
 * @category operations
 * @since 0.1.0
 */
export const touch = (
  { sql }: Store,
  namespace: string,
  uses: ReadonlyArray<{ readonly key: KeyText; readonly count: number }>
): Effect.Effect<void, CacheError> =>
  uses.length === 0
    ? Effect.void
    : Effect.withFiber((fiber) =>
        sql`
          with used as (
            select e.namespace, e.cache_key, u.count
            from unnest(
              ${arrayOf(
                sql,
                "text",
                uses.map(({ key }) => storedKey(key))
              )},
              ${arrayOf(
                sql,
                "int8",
                uses.map(({ count }) => BigInt(count))
              )}
            ) as u (cache_key, count)
            join cache_entries e on e.namespace = (select ${namespace}::text) and e.cache_key = u.cache_key
            cross join ${unhurriedSettings(sql, isInTransaction(sql, fiber.context))} settings
            where settings.are_set and e.data is not null
            for no key update of e skip locked
          )
          update cache_entries e
          set access_count = e.access_count + used.count, last_accessed = statement_timestamp()
          from used
          where (e.namespace, e.cache_key) = (used.namespace, used.cache_key)
        `.pipe(Effect.asVoid, Effect.mapError(unavailable("note uses of entries")))
      )
