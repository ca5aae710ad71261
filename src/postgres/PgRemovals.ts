/**
 * How single entries are removed from PostgreSQL, or made stale: each leaves its row,
 * as a tombstone or as it was, with a new version for the fences.
 *
 * @since 0.1.0
 */
import { PgTypes } from "@effect/sql-pg"
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type { CacheError } from "../CacheError.ts"
import type { KeyText } from "../CacheStore.ts"
import { outwait } from "./PgContention.ts"
import {
  arrayOf,
  isInTransaction,
  logChanged,
  longKey,
  marksOver,
  see,
  type Store,
  storedKey,
  unavailable,
  wakeAwaiting,
  withOrigin
} from "./PgStatement.ts"

/**
 * See `CacheStore`.
 *
 * @category operations
 * @since 0.1.0
 */
export const remove = (
  self: Store,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  keepsStale: boolean
): Effect.Effect<ReadonlyArray<boolean>, CacheError> =>
  keys.length === 0
    ? Effect.succeed([])
    : Effect.mapError(
        Effect.withFiber(({ context }) =>
          // The victim of a deadlock with a transaction that changes the same keys in another order has done nothing.
          outwait(isInTransaction(self.sql, context))(
            withOrigin(self, (origin) => removeFrom(self, origin, namespace, keys, keepsStale))
          )
        ),
        unavailable(keepsStale ? "expire" : "remove")
      )

// RETURNING sees only the new row: the row itself says what it was, or replaced.
const removeFrom = (
  { fenceLifetime, seen, sql }: Store,
  origin: string,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  keepsStale: boolean
): Effect.Effect<ReadonlyArray<boolean>, SqlError.SqlError> => {
  const stored = new Map(keys.map((key) => [storedKey(key), key]))
  const storedKeys = arrayOf(sql, "text", [...stored.keys()])
  const isLive = sql`
    e.data is not null
      and (e.stale_until is null or e.stale_until > statement_timestamp())
      and not (select mark.is_removal from (${marksOver(sql)}) mark)
  `
  const keptRows = keepsStale
    ? sql`
      update cache_entries e set
        expires_at = least(e.expires_at, live.stale_since, statement_timestamp()),
        retry_at = null, lease_owner = null, lease_until = null, expired_at = statement_timestamp(),
        metadata = case
          when live.stale_since is null and (e.expires_at is null or e.expires_at > statement_timestamp())
          then '{"live": true}'::jsonb
        end,
        version = nextval('cache_versions')
      from (
        select e.namespace, e.cache_key, mark.stale_since
        from cache_entries e
        cross join lateral (${marksOver(sql)}) mark
        where e.namespace = (select ${namespace}::text) and e.cache_key = any (${storedKeys})
          and not e.is_failure and ${isLive}
        order by e.cache_key
        for no key update of e
      ) live
      where (e.namespace, e.cache_key) = (live.namespace, live.cache_key)
      returning
        e.cache_key, e.version::float8 as version, coalesce(e.long_key, e.cache_key) as key, e.is_awaited,
        e.metadata is not null as was_there
    `
    : sql`
      select null::text as cache_key, null::float8 as version, null::text as key, false as is_awaited, false as was_there
      where false
    `
  return sql<{ cache_key: string; version: number; was_there: boolean }>`
    with kept as (${keptRows}), tombstones as (
      insert into cache_entries as e (
        namespace, cache_key, long_key, created_at, expires_at, stale_until, version, loaded_in
      )
      select
        ${namespace}, u.cache_key, u.long_key, clock_timestamp(), g.ends_at, g.ends_at,
        nextval('cache_versions'), pg_current_snapshot()
      from unnest(${storedKeys}, ${arrayOf(sql, "text", Array.from(stored, longKey))}) as u (cache_key, long_key)
      cross join (
        select clock_timestamp() + ${PgTypes.float8(fenceLifetime)} * interval '1 ms' as ends_at
      ) g
      where not exists (select from kept where kept.cache_key = u.cache_key)
      order by u.cache_key collate "C"
      on conflict (namespace, cache_key) do update set
        data = null, is_failure = false, data_size = 0, schema_version = 0,
        created_at = clock_timestamp(), expires_at = excluded.expires_at, stale_until = excluded.stale_until,
        retry_at = null, load_time = 0, last_accessed = clock_timestamp(), access_count = 0,
        validators = null, tags = '{}', long_tags = null, former_tags = '{}', metadata = case
          when ${isLive} and (
            not ${keepsStale} or (e.is_failure and (e.expires_at is null or e.expires_at > statement_timestamp()))
          )
          then '{"live": true}'::jsonb
        end,
        version = nextval('cache_versions'), loaded_in = excluded.loaded_in, written_in = excluded.written_in,
        lease_owner = null, lease_until = null
      returning
        e.cache_key, e.version::float8 as version, coalesce(e.long_key, e.cache_key) as key, e.is_awaited,
        e.metadata is not null as was_there
    ), changed as (
      select *, true as is_news from kept union all select *, true from tombstones
    ), logged as (${logChanged(sql, origin, namespace, keepsStale)}
    ), woken as (${wakeAwaiting(sql, namespace)})
    select cache_key, version, was_there, (select count(*) from woken) as woken from changed
  `.pipe(
    Effect.map((changed) => {
      see(seen, changed)
      const there = new Set(changed.flatMap((row) => (row.was_there ? [row.cache_key] : [])))
      return keys.map((key) => there.has(storedKey(key)))
    })
  )
}
