/**
 * The shared store (L2) in PostgreSQL: `CacheStore` on the tables of
 * `migrations/0001_cache.sql`, which also says what each column means.
 *
 * Each call is one statement, with the same text whatever the number of keys, so
 * that it stays prepared. Lifetimes are judged by the database's clock alone.
 *
 * **How the promises are kept**
 *
 * - A fence is the version of the row (0: no row) and the generation of the
 *   namespace (how often it, or everything, was cleared). `fill` is an upsert on
 *   condition that both are the same and that the fence is younger than a tombstone
 *   grows, by the database's clock and however late the statement arrives. Where an
 *   invalidation of the same key is in a transaction that is still open, it waits
 *   for the outcome at the row.
 * - `write` replaces no row that is newer than what this process had seen when it
 *   was sent; if one is, it looks again and is sent anew. So one that its caller
 *   has given up, and that the server carries out late, undoes nothing.
 * - `remove` leaves a tombstone. A row of another generation is dead; `clear` need
 *   not delete every row to make all of them invisible.
 * - What other processes may hold in memory and is right no longer goes into
 *   `cache_log` by the same statement, for them to read (`PgInvalidationBus`); a fill
 *   that replaces nothing live is not among it.
 * - Rows are locked in the order of their keys, so that two calls on the same keys
 *   never deadlock; `clear` and `rearm` wait for no row, and `rearm` leaves out
 *   those that are locked.
 *
 * Inside `sql.withTransaction` of the same client, every call joins the
 * transaction: `write`, `remove` and `clear` commit or roll back with it. A call
 * that fails there leaves the transaction unusable, as any failed statement does.
 *
 * **Limits**: a namespace of more than about 1500 bytes does not fit the index. A
 * transaction that stays open for `fenceLifetime` outlives its own tombstones.
 *
 * @since 0.1.0
 */
import { PgClient, PgTypes } from "@effect/sql-pg"
import { Array as Arr, Context, Duration, Effect, Layer, Option, Result, Stream } from "effect"
import type { SqlError } from "effect/sql"
import { createHash } from "node:crypto"
import { CacheError, StoreUnavailable } from "../CacheError.ts"
import {
  CacheOrigin,
  CacheStore,
  type Fence,
  type KeyText,
  type NewRow,
  type NoRow,
  type Rearm,
  type ScannedRow,
  type StoredRow,
  type Validators
} from "../CacheStore.ts"
import { escapeJsonText, escapeKeyText, unescapeJsonText, unescapeKeyText } from "../JsonText.ts"
import * as PgSweeper from "./PgSweeper.ts"

/**
 * How the store is set up. What a load brings that took longer than `fenceLifetime`
 * (default 10 minutes) is not stored. It must be the same in all processes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly fenceLifetime?: Duration.Input | undefined
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
    const self: Store = {
      sql: client.withoutTransforms(),
      fenceLifetime: Duration.toMillis(fenceLifetime),
      seen: { version: 0, generations: new Map() }
    }
    const sweep = PgSweeper.make(self.sql, self.fenceLifetime)
    return {
      fenceLifetime,
      inTransaction: (context) => isInTransaction(self, context),
      afterCommit: self.sql.afterCommit,
      read: (namespace, keys) => read(self, namespace, keys),
      fill: (namespace, rows) =>
        Effect.mapError(
          upsert(
            self,
            namespace,
            rows,
            rows.map(({ fence }) => fence)
          ),
          unavailable("fill")
        ),
      rearm: (namespace, rows) => rearm(self, namespace, rows),
      write: (namespace, rows) => write(self, namespace, rows),
      remove: (namespace, keys) => remove(self, namespace, keys),
      clear: (namespace) => clear(self, namespace),
      clearAll: clearAll(self),
      scan: (namespace) => scan(self, namespace),
      sweep: (limit) => Effect.mapError(sweep(limit), unavailable("sweep")),
      ping: self.sql`select 1`.pipe(Effect.asVoid, Effect.mapError(unavailable("answer")))
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

interface Store {
  readonly sql: PgClient.PgClient
  readonly fenceLifetime: number
  readonly seen: Seen
}

const isInTransaction = ({ sql }: Store, context: Context.Context<never>): boolean =>
  Option.isSome(Context.getOption(context, sql.transactionService))

// What follows a commit may never run, as when its acknowledgement is lost: then
// the cache itself hears of it in this way only.
const withOrigin = <A>(self: Store, call: (origin: string) => Effect.Effect<A, SqlError.SqlError>) =>
  Effect.withFiber<A, SqlError.SqlError>((fiber) =>
    call(isInTransaction(self, fiber.context) ? "" : fiber.getRef(CacheOrigin))
  )

// The keys of one row are read in one message, so they are bounded: of a larger
// change the others hear that their whole namespace has changed.
const logChanged = (sql: PgClient.PgClient, origin: string, namespace: string) => sql`
  insert into cache_log (origin, namespace, keys)
  select
    ${origin}::text, ${namespace}::text,
    case when sum(octet_length(changed.key)) <= ${PgTypes.int8(maxLoggedBytes)} then array_agg(changed.key) end
  from changed
  where changed.is_news
  having count(*) > 0
`

const maxLoggedBytes = 262_144n

/** The latest that this process knows of: the highest version, and the generations of namespaces. */
interface Seen {
  version: number
  readonly generations: Map<string, number>
}

const see = (seen: Seen, versions: Iterable<{ readonly version: number | null }>): void => {
  for (const { version } of versions) if (version !== null && version > seen.version) seen.version = version
}

const read = (
  { seen, sql }: Store,
  namespace: string,
  keys: ReadonlyArray<KeyText>
): Effect.Effect<ReadonlyArray<StoredRow | NoRow>, CacheError> => {
  if (keys.length === 0) return Effect.succeed([])
  const stored = keys.map(storedKey)
  return sql<ReadRow>`
    select
      g.generation::float8 as current_generation,
      date_part('epoch', statement_timestamp()) * 1000 as taken_at,
      e.cache_key,
      e.version::float8 as version,
      e.generation::float8 as generation,
      case when e.stale_until is null or e.stale_until > statement_timestamp() then e.data::text end as data,
      e.is_failure,
      e.schema_version,
      date_part('epoch', statement_timestamp() - e.created_at) * 1000 as age,
      coalesce(date_part('epoch', e.expires_at - statement_timestamp()) * 1000, 'infinity') as time_to_live,
      coalesce(date_part('epoch', e.stale_until - statement_timestamp()) * 1000, 'infinity') as stale_time_to_live,
      greatest(date_part('epoch', e.retry_at - statement_timestamp()) * 1000, 0) as retry_after,
      e.load_time,
      e.validators::text as validators,
      e.tags
    from (select ${currentGeneration(sql, namespace)} as generation) g
    left join cache_entries e
      on e.namespace = (select ${namespace}::text) and e.cache_key = any (${arrayOf(sql, "text", stored)})
  `.pipe(
    Effect.map((rows) => {
      const found = new Map(rows.map((row) => [row.cache_key, row]))
      const { current_generation: generation = 0, taken_at: takenAt = 0 } = rows[0] ?? {}
      see(seen, rows)
      seen.generations.set(namespace, generation)
      return stored.map((key) => toStoredRow(found.get(key), generation, takenAt))
    }),
    Effect.mapError(unavailable("read"))
  )
}

interface ReadRow {
  readonly current_generation: number
  readonly taken_at: number
  readonly cache_key: string | null
  readonly version: number
  readonly generation: number
  readonly data: string | null
  readonly is_failure: boolean
  readonly schema_version: number
  readonly age: number
  readonly time_to_live: number
  readonly stale_time_to_live: number
  readonly retry_after: number
  readonly load_time: number
  readonly validators: string | null
  readonly tags: ReadonlyArray<string>
}

const toStoredRow = (row: ReadRow | undefined, generation: number, takenAt: number): StoredRow | NoRow => {
  const fence: Fence = { version: row?.version ?? 0, generation, takenAt }
  if (row === undefined || row.data === null || row.generation !== generation) return { _tag: "NoRow", fence }
  return {
    _tag: "Row",
    data: unescapeJsonText(row.data),
    schemaVersion: row.schema_version,
    age: row.age,
    timeToLive: row.time_to_live,
    staleTimeToLive: row.stale_time_to_live,
    retryAfter: row.retry_after,
    loadTime: row.load_time,
    isFailure: row.is_failure,
    validators: row.validators === null ? {} : JSON.parse(unescapeJsonText(row.validators)),
    tags: row.tags.map(unescapeKeyText),
    fence
  }
}

// A statement may be carried out long after its caller has given it up: a server that
// was frozen does it when it thaws. So that it does not undo what the caller did
// next, it stores nothing over a row that is newer than what this process knew when
// it was sent. Where another process has written meanwhile, the second look tells.
const write = (self: Store, namespace: string, rows: ReadonlyArray<NewRow>): Effect.Effect<void, CacheError> =>
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
) => withOrigin(self, (origin) => upsertFrom(self, origin, namespace, rows, fences))

const upsertFrom = (
  { fenceLifetime, seen, sql }: Store,
  origin: string,
  namespace: string,
  rows: ReadonlyArray<NewRow>,
  fences: ReadonlyArray<Fence> | undefined
): Effect.Effect<ReadonlyArray<boolean>, SqlError.SqlError> => {
  if (rows.length === 0) return Effect.succeed([])
  const stored = rows.map(({ key }) => storedKey(key))
  const keys = arrayOf(sql, "text", stored)
  const column = (type: ColumnType, valueOf: (row: NewRow, i: number) => unknown) =>
    arrayOf(sql, type, rows.map(valueOf))
  // The version is drawn again in DO UPDATE, where the row is locked: so the
  // versions of a row grow in the order of commits.
  return sql<{ cache_key: string; version: number }>`
    with changed as (insert into cache_entries as e (
      namespace, cache_key, long_key, data, is_failure, data_size, schema_version,
      created_at, expires_at, stale_until, load_time, validators, tags, version, generation
    )
    select
      ${namespace}, u.cache_key, u.long_key, u.data::jsonb, u.is_failure, u.data_size, u.schema_version,
      clock_timestamp(), statement_timestamp() + u.time_to_live * interval '1 ms',
      statement_timestamp() + u.stale_time_to_live * interval '1 ms', u.load_time,
      u.validators::jsonb, u.tags::text[], nextval('cache_versions'), g.generation
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
      ${column("text", ({ tags }) => arrayLiteral(tags))},
      ${column("int8", (_, i) => BigInt(fences?.[i]!.generation ?? seen.generations.get(namespace) ?? 0))},
      ${column("float8", (_, i) => fences?.[i]!.takenAt ?? null)}
    ) as u (
      cache_key, long_key, data, is_failure, data_size, schema_version,
      time_to_live, stale_time_to_live, load_time, validators, tags, generation, taken_at
    )
    cross join (select ${currentGeneration(sql, namespace)} as generation) g
    where u.generation = g.generation
      and (${fences !== undefined} or not exists (
        select from cache_entries c
        where c.namespace = (select ${namespace}::text) and c.cache_key = any (${keys})
          and c.version > ${PgTypes.float8(seen.version)}
      ))
      and (
        u.taken_at is null
        or date_part('epoch', clock_timestamp()) * 1000 < u.taken_at + ${PgTypes.float8(fenceLifetime)}
      )
    order by u.cache_key collate "C"
    on conflict (namespace, cache_key) do update set
      data = excluded.data, is_failure = excluded.is_failure,
      data_size = excluded.data_size, schema_version = excluded.schema_version,
      created_at = clock_timestamp(), expires_at = excluded.expires_at, stale_until = excluded.stale_until,
      retry_at = null, load_time = excluded.load_time, last_accessed = clock_timestamp(), access_count = 0,
      validators = excluded.validators, tags = excluded.tags, metadata = case when
        e.data is not null
        and (e.stale_until is null or e.stale_until > statement_timestamp())
        and e.generation = excluded.generation
      then '{"live": true}'::jsonb end,
      version = nextval('cache_versions'), generation = excluded.generation
    where case when ${fences === undefined} then e.version <= ${PgTypes.float8(seen.version)} else
      (e.cache_key, e.version) in (
        select f.cache_key, f.version
        from unnest(
          ${keys},
          ${column("int8", (_, i) => (fences === undefined ? null : BigInt(fences[i]!.version)))}
        ) as f (cache_key, version)
      )
    end
    returning
      e.cache_key, e.version::float8 as version, coalesce(e.long_key, e.cache_key) as key,
      ${fences === undefined} or e.metadata is not null as is_news
    ), logged as (${logChanged(sql, origin, namespace)})
    select cache_key, version from changed
  `.pipe(
    Effect.map((upserted) => {
      see(seen, upserted)
      const done = new Set(upserted.map((row) => row.cache_key))
      return stored.map((key) => done.has(key))
    })
  )
}

// No later than the row itself ends: LEAST ignores null, which is never.
const rearm = ({ sql }: Store, namespace: string, rows: ReadonlyArray<Rearm>): Effect.Effect<void, CacheError> => {
  if (rows.length === 0) return Effect.void
  const column = (type: ColumnType, valueOf: (row: Rearm) => unknown) => arrayOf(sql, type, rows.map(valueOf))
  return sql`
    with unchanged as (
      select e.ctid, u.retry_after
      from unnest(
        ${column("text", ({ key }) => storedKey(key))},
        ${column("int8", ({ fence }) => BigInt(fence.version))},
        ${column("int8", ({ fence }) => BigInt(fence.generation))},
        ${column("float8", ({ retryAfter }) => Math.min(retryAfter, forever))}
      ) as u (cache_key, version, generation, retry_after)
      join cache_entries e
        on e.namespace = (select ${namespace}::text) and e.cache_key = u.cache_key
        and e.version = u.version and e.generation = u.generation
      for no key update of e skip locked
    )
    update cache_entries e
    set retry_at = least(statement_timestamp() + u.retry_after * interval '1 ms', e.stale_until)
    from unchanged u
    where e.ctid = u.ctid
  `.pipe(Effect.asVoid, Effect.mapError(unavailable("rearm")))
}

const remove = (
  self: Store,
  namespace: string,
  keys: ReadonlyArray<KeyText>
): Effect.Effect<ReadonlyArray<boolean>, CacheError> =>
  keys.length === 0
    ? Effect.succeed([])
    : Effect.mapError(
        withOrigin(self, (origin) => removeFrom(self, origin, namespace, keys)),
        unavailable("remove")
      )

const removeFrom = (
  { fenceLifetime, seen, sql }: Store,
  origin: string,
  namespace: string,
  keys: ReadonlyArray<KeyText>
): Effect.Effect<ReadonlyArray<boolean>, SqlError.SqlError> => {
  const stored = new Map(keys.map((key) => [storedKey(key), key]))
  // RETURNING sees only the new row: the tombstone itself says what it replaced.
  return sql<{ cache_key: string; version: number; live: boolean }>`
    with changed as (insert into cache_entries as e (
      namespace, cache_key, long_key, created_at, expires_at, stale_until, version, generation
    )
    select
      ${namespace}, u.cache_key, u.long_key, clock_timestamp(), g.ends_at, g.ends_at,
      nextval('cache_versions'), g.generation
    from unnest(
      ${arrayOf(sql, "text", [...stored.keys()])},
      ${arrayOf(sql, "text", Array.from(stored, longKey))}
    ) as u (cache_key, long_key)
    cross join (
      select
        ${currentGeneration(sql, namespace)} as generation,
        clock_timestamp() + ${PgTypes.float8(fenceLifetime)} * interval '1 ms' as ends_at
    ) g
    order by u.cache_key collate "C"
    on conflict (namespace, cache_key) do update set
      data = null, is_failure = false, data_size = 0, schema_version = 0,
      created_at = clock_timestamp(), expires_at = excluded.expires_at, stale_until = excluded.stale_until,
      retry_at = null, load_time = 0, last_accessed = clock_timestamp(), access_count = 0,
      validators = null, tags = '{}', metadata = case when
        e.data is not null
        and (e.stale_until is null or e.stale_until > statement_timestamp())
        and e.generation = excluded.generation
      then '{"live": true}'::jsonb end,
      version = nextval('cache_versions'), generation = excluded.generation
    returning
      e.cache_key, e.version::float8 as version, coalesce(e.long_key, e.cache_key) as key,
      e.metadata is not null as live, true as is_news
    ), logged as (${logChanged(sql, origin, namespace)})
    select cache_key, version, live from changed
  `.pipe(
    Effect.map((tombstones) => {
      see(seen, tombstones)
      const live = new Set(tombstones.flatMap((row) => (row.live ? [row.cache_key] : [])))
      return keys.map((key) => live.has(storedKey(key)))
    })
  )
}

// The generation makes the rows invisible, so those that are not deleted here
// (more than `clearLimit`, or locked by others) may be left to the sweeper.
const clear = (self: Store, namespace: string): Effect.Effect<number, CacheError> =>
  counted(
    self,
    ({ sql }, origin) => sql<{ count: number }>`
    with cleared as (
      insert into cache_namespaces as n (namespace, generation) values (${namespace}, 1)
      on conflict (namespace) do update set generation = n.generation + 1
    ), deleted as (
      delete from cache_entries e using (
        select ctid from cache_entries where namespace = ${namespace} limit ${clearLimit} for update skip locked
      ) d
      where e.ctid = d.ctid
    ), logged as (
      insert into cache_log (origin, namespace) values (${origin}, ${namespace})
    )
    select count(*)::float8 as count
    from cache_entries e
    where e.namespace = ${namespace}
      and e.data is not null
      and (e.stale_until is null or e.stale_until > statement_timestamp())
      and e.generation = ${currentGeneration(sql, namespace)}
  `
  )

const clearAll = (self: Store): Effect.Effect<number, CacheError> =>
  counted(
    self,
    ({ sql }, origin) => sql<{ count: number }>`
    with cleared as (
      insert into cache_epoch as p (generation) values (1)
      on conflict (only_row) do update set generation = p.generation + 1
    ), deleted as (
      delete from cache_entries e using (
        select ctid from cache_entries limit ${clearLimit} for update skip locked
      ) d
      where e.ctid = d.ctid
    ), logged as (
      insert into cache_log (origin) values (${origin})
    )
    select count(*)::float8 as count
    from cache_entries e
    left join cache_namespaces n on n.namespace = e.namespace
    where e.data is not null
      and (e.stale_until is null or e.stale_until > statement_timestamp())
      and e.generation = coalesce(n.generation, 0) + coalesce((select generation from cache_epoch), 0)
  `
  )

const counted = (
  self: Store,
  statement: (
    self: Store,
    origin: string
  ) => Effect.Effect<ReadonlyArray<{ readonly count: number }>, SqlError.SqlError>
) =>
  withOrigin(self, (origin) => statement(self, origin)).pipe(
    Effect.map((rows) => rows[0]?.count ?? 0),
    Effect.mapError(unavailable("clear"))
  )

const clearLimit = 50_000

const scan = ({ sql }: Store, namespace: string): Stream.Stream<ScannedRow, CacheError> =>
  Stream.paginate("", (from) =>
    sql<ScanRow>`
      select
        e.cache_key,
        e.long_key,
        e.data_size,
        date_part('epoch', e.created_at) * 1000 as created_at,
        coalesce(date_part('epoch', e.expires_at) * 1000, 'infinity') as expires_at,
        coalesce(date_part('epoch', e.stale_until) * 1000, 'infinity') as stale_until,
        date_part('epoch', e.last_accessed) * 1000 as last_accessed,
        e.access_count::float8 as access_count,
        e.tags
      from cache_entries e
      where e.namespace = ${namespace}
        and e.cache_key >= ${from}
        and e.data is not null
        and (e.stale_until is null or e.stale_until > statement_timestamp())
        and e.generation = ${currentGeneration(sql, namespace)}
      order by e.cache_key
      limit ${pageSize}
    `.pipe(
      Effect.map((rows) => [rows.map(toScannedRow), nextPage(rows)] as const),
      Effect.mapError(unavailable("scan"))
    )
  )

interface ScanRow {
  readonly cache_key: string
  readonly long_key: string | null
  readonly data_size: number
  readonly created_at: number
  readonly expires_at: number
  readonly stale_until: number
  readonly last_accessed: number
  readonly access_count: number
  readonly tags: ReadonlyArray<string>
}

const pageSize = 1000

const toScannedRow = (row: ScanRow): ScannedRow => ({
  key: row.long_key ?? row.cache_key,
  size: row.data_size,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  staleUntil: row.stale_until,
  lastAccessed: row.last_accessed,
  accessCount: row.access_count,
  tags: row.tags.map(unescapeKeyText)
})

// Text holds no NUL, so nothing comes between a key and that key with U+0001.
const nextPage = (rows: ReadonlyArray<ScanRow>): Option.Option<string> =>
  rows.length < pageSize ? Option.none() : Option.map(Arr.last(rows), (row) => `${row.cache_key}\u0001`)

const currentGeneration = (sql: PgClient.PgClient, namespace: string) => sql`
  coalesce((select generation from cache_namespaces where namespace = (select ${namespace}::text)), 0)
    + coalesce((select generation from cache_epoch), 0)
`

// A key over the limit is stored as its beginning and its hash. That is always
// longer than the limit, so it never equals a key that is stored as it is.
const storedKey = (key: KeyText): string => {
  if (key.length * 3 <= maxKeyBytes) return key
  const bytes = Buffer.from(key)
  if (bytes.length <= maxKeyBytes) return key
  let end = maxKeyBytes
  while (isInsideCodePoint(bytes[end]!)) end--
  return `${bytes.toString("utf8", 0, end)}:sha256:${createHash("sha256").update(bytes).digest("hex")}`
}

const maxKeyBytes = 1024

const longKey = ([stored, key]: readonly [string, KeyText]): KeyText | null => (stored === key ? null : key)

const isInsideCodePoint = (byte: number): boolean => (byte & 0xc0) === 0x80

// Beyond what a timestamp holds.
const forever = 8e15

const finite = (millis: number): number | null => (millis < forever ? millis : null)

const validatorsText = (validators: Validators): string | null => {
  const text = JSON.stringify(validators)
  return text === "{}" ? null : escapeJsonText(text)
}

// unnest flattens nested arrays, so the tags of a row travel as text.
const arrayLiteral = (tags: ReadonlyArray<string>): string =>
  `{${tags.map((tag) => `"${escapeKeyText(tag).replace(/["\\]/g, "\\$&")}"`).join(",")}}`

// Typed, because the types that the driver would infer depend on the values, and
// with them the prepared statement. In a sub-select, because the planner would plan
// every call anew for its number of keys, which takes longer than the call.
const arrayOf = (sql: PgClient.PgClient, type: ColumnType, values: ReadonlyArray<unknown>) =>
  sql`(select ${Result.getOrThrow(PgTypes.array(values, PgTypes.OID[type]))})::${sql.literal(type)}[]`

type ColumnType = "text" | "bool" | "int4" | "int8" | "float8"

const unavailable =
  (operation: string) =>
  (cause: SqlError.SqlError): CacheError =>
    new CacheError({ reason: new StoreUnavailable({ operation, cause }) })
