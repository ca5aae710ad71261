/**
 * How rows are stored in PostgreSQL: by a load, under its fence (`fill`), or on
 * purpose, whatever was there (`write`). Both are one upsert with another condition.
 *
 * @since 0.1.0
 */
import { PgTypes } from "@effect/sql-pg"
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type { CacheError } from "../CacheError.ts"
import type { Fence, NewRow, Validators } from "../CacheStore.ts"
import { escapeJsonText, escapeKeyText } from "../JsonText.ts"
import { read } from "./PgRows.ts"
import {
  arrayOf,
  type ColumnType,
  forever,
  isContended,
  isInTransaction,
  logChanged,
  longKey,
  maxVersion,
  outwait,
  see,
  serverId,
  type Store,
  storedKey,
  unavailable,
  unhurriedSettings,
  wakeAwaiting,
  withOrigin
} from "./PgStatement.ts"

/**
 * See `CacheStore`.
 *
 * @category operations
 * @since 0.1.0
 */
export const fill = (
  self: Store,
  namespace: string,
  rows: ReadonlyArray<NewRow & { readonly fence: Fence }>
): Effect.Effect<ReadonlyArray<boolean>, CacheError> =>
  Effect.withFiber((fiber) =>
    upsert(
      self,
      namespace,
      rows,
      rows.map(({ fence }) => fence)
    ).pipe(
      outwait(isInTransaction(self.sql, fiber.context)),
      // Of the keys of a crowd one is being changed: no fence is known to hold.
      Effect.catchIf(isContended, () => Effect.succeed(rows.map(() => false))),
      Effect.mapError(unavailable("fill"))
    )
  )

/**
 * See `CacheStore`.
 *
 * A statement may be carried out long after its caller has given it up: a server that
 * was frozen does it when it thaws. So that it does not undo what the caller did
 * next, it stores nothing over a row that is newer than what this process knew when
 * it was sent, nor where a mark has come since. Where another process has written
 * meanwhile, the second look tells.
 *
 * @category operations
 * @since 0.1.0
 */
export const write = (self: Store, namespace: string, rows: ReadonlyArray<NewRow>): Effect.Effect<void, CacheError> =>
  Effect.gen(function* () {
    for (let left = rows; left.length > 0;) {
      const stored = yield* Effect.mapError(upsert(self, namespace, left, undefined), unavailable("write"))
      left = left.filter((_, index) => !stored[index])
      const keys = left.map(({ key }) => key)
      if (left.length > 0) yield* read(self, namespace, keys)
    }
  })

// `fences` undefined: store what is no newer than what was seen. Says which were stored.
const upsert = (
  self: Store,
  namespace: string,
  rows: ReadonlyArray<NewRow>,
  fences: ReadonlyArray<Fence> | undefined
) =>
  withOrigin(self, (origin) =>
    Effect.withFiber((fiber) =>
      upsertFrom(self, origin, isInTransaction(self.sql, fiber.context), namespace, rows, fences)
    )
  )

const upsertFrom = (
  { fenceLifetime, seen, sql }: Store,
  origin: string,
  inTransaction: boolean,
  namespace: string,
  rows: ReadonlyArray<NewRow>,
  fences: ReadonlyArray<Fence> | undefined
): Effect.Effect<ReadonlyArray<boolean>, SqlError.SqlError> => {
  if (rows.length === 0) return Effect.succeed([])
  const isFill = fences !== undefined
  const stored = rows.map(({ key }) => storedKey(key))
  const keys = arrayOf(sql, "text", stored)
  const column = (type: ColumnType, valueOf: (row: NewRow, i: number) => unknown) =>
    arrayOf(sql, type, rows.map(valueOf))
  const seenVersion = PgTypes.float8(seen.version)
  // The version is drawn again in DO UPDATE, where the row is locked: so the
  // versions of a row grow in the order of commits.
  return sql<{ cache_key: string; version: number }>`
    with asked as materialized (
      select
        u.*,
        coalesce(u.long_key, u.cache_key) as key,
        split_part(u.fence, '/', 1) = ${serverId(sql)} as is_of_this_server,
        case when split_part(u.fence, '/', 1) = ${serverId(sql)} then split_part(u.fence, '/', 2) else '1:1:' end
          ::pg_snapshot as snapshot
      from unnest(
        ${keys},
        ${column("text", ({ key }, i) => longKey([stored[i]!, key]))},
        ${column("text", ({ data }) => escapeJsonText(data))},
        ${column("bool", ({ isFailure }) => isFailure)},
        ${column("int4", ({ size }) => size)},
        ${column("int4", ({ schemaVersion }) => schemaVersion)},
        ${column("float8", ({ timeToLive }) => finite(timeToLive))},
        ${column("float8", ({ staleFor, timeToLive }) => finite(timeToLive + staleFor))},
        ${column("float8", ({ loadTime }) => loadTime)},
        ${column("text", ({ validators }) => validatorsText(validators))},
        ${column("text", ({ tags }) => arrayLiteral(tags.map(storedTag)))},
        ${column("text", ({ tags }) => (tags.some(isLong) ? arrayLiteral(tags.map(escapeKeyText)) : null))},
        ${column("int8", (_, i) => (isFill ? BigInt(fences[i]!.version) : null))},
        ${column("text", (_, i) => (isFill ? fences[i]!.snapshot : seen.snapshot))},
        ${column("float8", (_, i) => (isFill ? fences[i]!.takenAt : null))}
      ) as u (
        cache_key, long_key, data, is_failure, data_size, schema_version,
        time_to_live, stale_time_to_live, load_time, validators, tags, long_tags, version, fence, taken_at
      )
    ), changed as (
      insert into cache_entries as e (
        namespace, cache_key, long_key, data, is_failure, data_size, schema_version,
        created_at, expires_at, stale_until, load_time, validators, tags, long_tags, version, loaded_in
      )
      select
        ${namespace}, a.cache_key, a.long_key, a.data::jsonb, a.is_failure, a.data_size, a.schema_version,
        clock_timestamp(), statement_timestamp() + a.time_to_live * interval '1 ms',
        statement_timestamp() + a.stale_time_to_live * interval '1 ms', a.load_time,
        a.validators::jsonb, a.tags::text[], a.long_tags::text[], nextval('cache_versions'),
        case when ${isFill} then a.snapshot else pg_current_snapshot() end
      from asked a
      cross join ${unhurriedSettings(sql, inTransaction || !isFill)} settings
      where settings.are_set
        and case when ${isFill} then
          a.is_of_this_server
          and date_part('epoch', clock_timestamp()) * 1000 < a.taken_at + ${PgTypes.float8(fenceLifetime)}
        else not exists (
          select from cache_entries c
          where c.namespace = (select ${namespace}::text) and c.cache_key = any (${keys}) and c.version > ${seenVersion}
        ) end
        and not exists (
          select
          from cache_marks(
            (select ${namespace}::text), a.key, a.tags::text[], '{}', a.snapshot,
            pg_current_xact_id_if_assigned(), ${PgTypes.int8(maxVersion)}
          )
        )
      order by a.cache_key collate "C"
      on conflict (namespace, cache_key) do update set
        data = excluded.data, is_failure = excluded.is_failure,
        data_size = excluded.data_size, schema_version = excluded.schema_version,
        created_at = clock_timestamp(), expires_at = excluded.expires_at, stale_until = excluded.stale_until,
        retry_at = null, load_time = excluded.load_time, last_accessed = clock_timestamp(), access_count = 0,
        validators = excluded.validators, tags = excluded.tags, long_tags = excluded.long_tags,
        former_tags = case
          when not ${isFill} or excluded.tags @> e.tags then '{}' else e.tags
        end, metadata = case when
          e.data is not null and (e.stale_until is null or e.stale_until > statement_timestamp())
        then '{"live": true}'::jsonb end,
        version = nextval('cache_versions'), loaded_in = excluded.loaded_in, written_in = excluded.written_in,
        lease_owner = null, lease_until = null
      where case when ${isFill} then
        exists (
          select
          from asked a
          where a.cache_key = e.cache_key and a.version = e.version
            -- Every mark that may concern its former tags is decided.
            and (e.former_tags = '{}' or e.written_in < pg_snapshot_xmin(pg_current_snapshot()))
            and not exists (
            select
            from cache_marks(
              e.namespace, a.key, e.tags, e.former_tags, a.snapshot, e.written_in, ${PgTypes.int8(maxVersion)}
            )
          )
        )
      else e.version <= ${seenVersion} end
      returning
        e.cache_key, e.version::float8 as version, coalesce(e.long_key, e.cache_key) as key, e.is_awaited,
        ${!isFill} or e.metadata is not null as is_news
    ), logged as (${logChanged(sql, origin, namespace, false)}
    ), woken as (${wakeAwaiting(sql, namespace)})
    select cache_key, version, (select count(*) from woken) as woken from changed
  `.pipe(
    Effect.map((upserted) => {
      see(seen, upserted)
      const done = new Set(upserted.map((row) => row.cache_key))
      return stored.map((key) => done.has(key))
    })
  )
}

const finite = (millis: number): number | null => (millis < forever ? millis : null)

const validatorsText = (validators: Validators): string | null => {
  const text = JSON.stringify(validators)
  return text === "{}" ? null : escapeJsonText(text)
}

const storedTag = (tag: string): string => storedKey(escapeKeyText(tag))

const isLong = (tag: string): boolean => storedTag(tag) !== escapeKeyText(tag)

// unnest flattens nested arrays, so the tags of a row travel as text.
const arrayLiteral = (tags: ReadonlyArray<string>): string =>
  `{${tags.map((tag) => `"${tag.replace(/["\\]/g, "\\$&")}"`).join(",")}}`
