/**
 * How rows are stored in PostgreSQL: by a load, under its fence (`fill`), or on
 * purpose, whatever was there (`write`). Both are one upsert with another condition.
 *
 * @since 0.1.0
 */
import { PgTypes } from "@effect/sql-pg"
import { Effect, Record } from "effect"
import type { SqlError, Statement } from "effect/sql"
import type { CacheStore, Fence, NewRow, Validators } from "../CacheStore.ts"
import * as Convoy from "../Convoy.ts"
import { escapeJsonText, escapeKeyText } from "../JsonText.ts"
import { byHalves, isContended, isRefusal, outwait } from "./PgContention.ts"
import type { Read } from "./PgRows.ts"
import {
  apartInTransaction,
  arrayFrom,
  type ColumnType,
  forever,
  logChanged,
  longKey,
  maxVersion,
  noSettings,
  prepared,
  see,
  type Seen,
  serverId,
  sharedSettings,
  type Store,
  storedKey,
  together,
  unavailable,
  unhurriedSettings,
  wakeAwaiting,
  withOrigin
} from "./PgStatement.ts"

/**
 * The `fill` of a store; see `CacheStore`. Fills of one namespace at the same time travel together.
 *
 * @category operations
 * @since 0.1.0
 */
export const filler = (self: Store): CacheStore["Service"]["fill"] => {
  const upsert = upserts(self, true)
  const convoy = Convoy.make({
    ...together,
    span: "PgCacheStore.fill",
    isExclusive: true,
    carry: (calls: ReadonlyArray<UpsertCall>, isAlone: boolean) =>
      isAlone ? outwait(false)(upsert(calls, "unhurried")) : upsert(calls, "unhurried"),
    isRefusal
  })
  return (namespace, rows) =>
    rows.length === 0
      ? Effect.succeed([])
      : withOrigin(self, (origin) => {
          const callFor = (part: typeof rows) =>
            callOf(
              namespace,
              origin,
              part,
              part.map(({ fence }) => fence)
            )
          const filled = (part: typeof rows, settings: Settings) =>
            Effect.map(upsert([callFor(part)], settings), ([stored]) => stored!)
          return apartInTransaction(
            self.sql,
            filled(rows, "none"),
            Effect.catchIf(convoy.join(callFor(rows)), isContended, () =>
              byHalves(rows, (part) => filled(part, "unhurried"), false)
            )
          )
        }).pipe(
          // Somebody is changing the key: no fence is known to hold.
          Effect.catchIf(isContended, () => Effect.succeed(rows.map(() => false))),
          Effect.mapError(unavailable("fill"))
        )
}

/**
 * The `write` of a store; see `CacheStore`. Writes of one namespace at the same time travel together.
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
export const writer = (self: Store, read: Read): CacheStore["Service"]["write"] => {
  const upsert = upserts(self, false)
  const convoy = Convoy.make({
    ...together,
    span: "PgCacheStore.write",
    isExclusive: true,
    // Alone it waits for whoever holds a row, unless that waits for it.
    carry: (calls: ReadonlyArray<UpsertCall>, isAlone: boolean) =>
      isAlone ? outwait(false)(upsert(calls, "none")) : upsert(calls, "shared"),
    isRefusal
  })
  return Effect.fnUntraced(function* (namespace, rows) {
    for (let left = rows; left.length > 0;) {
      const asked = left
      const stored = yield* withOrigin(self, (origin) => {
        const call = callOf(namespace, origin, asked, undefined)
        return apartInTransaction(
          self.sql,
          Effect.map(upsert([call], "none"), ([stored]) => stored!),
          convoy.join(call)
        )
      }).pipe(Effect.mapError(unavailable("write")))
      left = left.filter((_, index) => !stored[index])
      if (left.length > 0)
        yield* read(
          namespace,
          left.map(({ key }) => key)
        )
    }
  })
}

/** Rows of one call. Without fences: store what is no newer than what was seen. */
interface UpsertCall extends Convoy.Call {
  readonly namespace: string
  readonly origin: string
  readonly rows: ReadonlyArray<NewRow>
  readonly fences: ReadonlyArray<Fence> | undefined
}

const callOf = (
  namespace: string,
  origin: string,
  rows: ReadonlyArray<NewRow>,
  fences: ReadonlyArray<Fence> | undefined
): UpsertCall => ({
  // No namespace holds NUL.
  group: `${namespace}\u0000${origin}`,
  keys: rows.map(({ key }) => storedKey(key)),
  size: rows.reduce((size, row) => size + row.data.length + row.key.length, 0),
  namespace,
  origin,
  rows,
  fences
})

type Settings = "none" | "unhurried" | "shared"

interface UpsertInput {
  readonly first: UpsertCall
  readonly seen: Seen
  readonly rows: ReadonlyArray<NewRow>
  readonly keys: ReadonlyArray<string>
  /** Which call each row is of. */
  readonly calls: ReadonlyArray<number>
  readonly fences: ReadonlyArray<Fence>
}

/** Says of each call which of its rows were stored. */
const upserts = (self: Store, isFill: boolean) => {
  const { seen, sql } = self
  const settings = {
    none: noSettings(sql),
    unhurried: unhurriedSettings(sql, false),
    shared: sharedSettings(sql)
  }
  const statements = Record.map(settings, (settings) => upsertWith(self, isFill, settings))
  return (
    calls: ReadonlyArray<UpsertCall>,
    settings: Settings
  ): Effect.Effect<ReadonlyArray<ReadonlyArray<boolean>>, SqlError.SqlError> =>
    Effect.suspend(() => {
      const input: UpsertInput = {
        first: calls[0]!,
        seen,
        rows: calls.flatMap(({ rows }) => rows),
        keys: calls.flatMap(({ keys }) => keys),
        calls: calls.flatMap(({ keys }, call) => keys.map(() => call)),
        fences: calls.flatMap(({ fences }) => fences ?? [])
      }
      return Effect.map(statements[settings](input), (upserted) => {
        see(seen, upserted)
        const done = new Set(upserted.map((row) => row.cache_key))
        return calls.map(({ keys }) => keys.map((key) => done.has(key)))
      })
    })
}

const upsertWith = ({ fenceLifetime, sql }: Store, isFill: boolean, settings: Statement.Fragment) => {
  const isFilled = sql.literal(`${isFill}`)
  const namespace = ({ first }: UpsertInput) => first.namespace
  const origin = ({ first }: UpsertInput) => first.origin
  const column = (type: ColumnType, valueOf: (row: NewRow, i: number, input: UpsertInput) => unknown) =>
    arrayFrom(sql, type, (input: UpsertInput) => input.rows.map((row, i) => valueOf(row, i, input)))
  const seenVersion = ({ seen }: UpsertInput) => PgTypes.float8(seen.version)
  // By itself, and not a join: the plan is made once, as a rule while the table is empty, and one that
  // reads it whole would be kept while it grows (20 ms a write at 40,000 rows).
  const isNewer = sql`coalesce((
    select c.version > ${seenVersion}
    from cache_entries c
    where c.namespace = (select ${namespace}::text) and c.cache_key = u.cache_key
  ), false)`
  // Whether every transaction has ended that was open when the row was stored, and might mark its former tags. While one
  // stays open they are carried along from load to load, up to so many.
  const areDecided = sql`e.written_in < pg_snapshot_xmin(pg_current_snapshot())`
  const maxFormerTags = sql.literal("100")
  // The version is drawn again in DO UPDATE, where the row is locked: so the
  // versions of a row grow in the order of commits.
  return prepared<{ cache_key: string; version: number }, UpsertInput>(
    sql,
    sql`
    with asked as materialized (
      select
        u.*,
        (select ${namespace}::text) as namespace,
        coalesce(u.long_key, u.cache_key) as key,
        split_part(u.fence, '/', 1) = ${serverId(sql)} as is_of_this_server,
        case when split_part(u.fence, '/', 1) = ${serverId(sql)} then split_part(u.fence, '/', 2) else '1:1:' end
          ::pg_snapshot as snapshot,
        ${isFill ? sql`false` : isNewer} as is_newer
      from unnest(
        ${arrayFrom(sql, "text", ({ keys }: UpsertInput) => keys)},
        ${column("text", ({ key }, i, { keys }) => longKey([keys[i]!, key]))},
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
        ${column("int8", (_, i, { fences }) => (isFill ? BigInt(fences[i]!.version) : null))},
        ${column("text", (_, i, { fences, seen }) => (isFill ? fences[i]!.snapshot : seen.snapshot))},
        ${column("float8", (_, i, { fences }) => (isFill ? fences[i]!.takenAt : null))},
        ${arrayFrom(sql, "int4", ({ calls }: UpsertInput) => calls)}
      ) as u (
        cache_key, long_key, data, is_failure, data_size, schema_version,
        time_to_live, stale_time_to_live, load_time, validators, tags, long_tags, version, fence, taken_at, call
      )
    ), changed as (
      insert into cache_entries as e (
        namespace, cache_key, long_key, data, is_failure, data_size, schema_version,
        created_at, expires_at, stale_until, load_time, validators, tags, long_tags, version, loaded_in
      )
      select
        a.namespace, a.cache_key, a.long_key, a.data::jsonb, a.is_failure, a.data_size, a.schema_version,
        clock_timestamp(), statement_timestamp() + a.time_to_live * interval '1 ms',
        statement_timestamp() + a.stale_time_to_live * interval '1 ms', a.load_time,
        a.validators::jsonb, a.tags::text[], a.long_tags::text[], nextval('cache_versions'),
        case when ${isFilled} then a.snapshot else pg_current_snapshot() end
      from asked a
      cross join ${settings} settings
      where settings.are_set
        and case when ${isFilled} then
          a.is_of_this_server
          and date_part('epoch', clock_timestamp()) * 1000 < a.taken_at + ${PgTypes.float8(fenceLifetime)}
        else a.call not in (select o.call from asked o where o.is_newer) end
        and not exists (
          select
          from cache_marks(
            a.namespace, a.key, a.tags::text[], '{}', a.snapshot,
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
        former_tags = case when ${isFilled} then
          -- Marks that may concern those are not all decided yet.
          case when ${areDecided} then '{}' else e.former_tags end
          || case when excluded.tags @> e.tags then '{}' else e.tags end
        else '{}' end,
        metadata = case when
          e.data is not null and (e.stale_until is null or e.stale_until > statement_timestamp())
        then '{"live": true}'::jsonb end,
        version = nextval('cache_versions'), loaded_in = excluded.loaded_in, written_in = excluded.written_in,
        lease_owner = null, lease_until = null
      where case when ${isFilled} then
        exists (
          select
          from asked a
          where a.cache_key = e.cache_key and a.version = e.version
            and (cardinality(e.former_tags) < ${maxFormerTags} or ${areDecided})
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
        not ${isFilled} or e.metadata is not null as is_news
    ), logged as (${logChanged(sql, origin, namespace, false)}
    ), woken as (${wakeAwaiting(sql, namespace)})
    select cache_key, version, (select count(*) from woken) as woken from changed
  `
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
