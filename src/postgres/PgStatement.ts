/**
 * What the statements of the store have in common: typed arrays, the keys they name,
 * and what they say to the others.
 *
 * @since 0.1.0
 */
import { type PgClient, PgTypes } from "@effect/sql-pg"
import { Context, Effect, Option, Result } from "effect"
import type { SqlError, Statement } from "effect/sql"
import { createHash } from "node:crypto"
import { CacheError, StoreUnavailable } from "../CacheError.ts"
import { CacheOrigin, type KeyText } from "../CacheStore.ts"

/**
 * What the statements of one store work with.
 *
 * @category models
 * @since 0.1.0
 */
export interface Store {
  readonly sql: PgClient.PgClient
  /** Milliseconds. */
  readonly fenceLifetime: number
  readonly seen: Seen
}

/**
 * The latest that this process knows of: the highest version, and the snapshot of
 * its last look (see `Fence`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Seen {
  version: number
  snapshot: string
}

/**
 * What a process has seen that has yet to look: of no server, before all transactions.
 *
 * @category constructors
 * @since 0.1.0
 */
export const nothingSeen = (): Seen => ({ version: 0, snapshot: "/1:1:" })

/**
 * Notes the versions of rows that this process has been shown.
 *
 * @category mutations
 * @since 0.1.0
 */
export const see = (seen: Seen, versions: Iterable<{ readonly version: number | null }>): void => {
  for (const { version } of versions) if (version !== null && version > seen.version) seen.version = version
}

/**
 * @category models
 * @since 0.1.0
 */
export type ColumnType = "text" | "bool" | "int4" | "int8" | "float8"

/**
 * An array parameter. Typed, because the types that the driver would infer depend on
 * the values, and with them the prepared statement. In a sub-select, because the
 * planner would plan every call anew for its number of keys, which takes longer than
 * the call.
 *
 * @category fragments
 * @since 0.1.0
 */
export const arrayOf = (sql: PgClient.PgClient, type: ColumnType, values: ReadonlyArray<unknown>) =>
  sql`(select ${arrayParameter(type, values)})::${sql.literal(type)}[]`

/**
 * A value, or in a statement that is `prepared` what finds it.
 *
 * @category models
 * @since 0.1.0
 */
export type Slot<A> = A | ((input: never) => A)

/**
 * A statement whose text is made once. Where the template has a function, each call has
 * the value that the function finds in what it is called with.
 *
 * @category statements
 * @since 0.1.0
 */
export const prepared = <Row extends object, Input>(
  sql: PgClient.PgClient,
  template: Statement.Statement<Row>
): ((input: Input) => Statement.Statement<Row>) => {
  const [text, slots] = template.compile()
  const valueOf = (slot: unknown, input: Input) => (typeof slot === "function" ? slot(input) : slot)
  return (input) =>
    sql.unsafe<Row>(
      text,
      slots.map((slot) => valueOf(slot, input))
    )
}

/**
 * `arrayOf` in a statement that is `prepared`.
 *
 * @category fragments
 * @since 0.1.0
 */
export const arrayFrom = <Input>(
  sql: PgClient.PgClient,
  type: ColumnType,
  valuesOf: (input: Input) => ReadonlyArray<unknown>
) => sql`(select ${(input: Input) => arrayParameter(type, valuesOf(input))})::${sql.literal(type)}[]`

const arrayParameter = (type: ColumnType, values: ReadonlyArray<unknown>) =>
  Result.getOrThrow(PgTypes.array(values, PgTypes.OID[type]))

/**
 * What this server calls itself, for snapshots of another one, or of its life before
 * a restart, mean nothing here: numbers of transactions that were under way then are
 * given again.
 *
 * @category fragments
 * @since 0.1.0
 */
export const serverId = (sql: PgClient.PgClient) => sql`date_part('epoch', pg_postmaster_start_time())::text`

/**
 * Whether the fiber is inside a transaction of the client.
 *
 * @category queries
 * @since 0.1.0
 */
export const isInTransaction = (sql: PgClient.PgClient, context: Context.Context<never>): boolean =>
  Option.isSome(Context.getOption(context, sql.transactionService))

/**
 * What joins the caller's transaction shares its statement with nobody.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apartInTransaction = <A, E>(
  sql: PgClient.PgClient,
  apart: Effect.Effect<A, E>,
  joined: Effect.Effect<A, E>
): Effect.Effect<A, E> => Effect.withFiber(({ context }) => (isInTransaction(sql, context) ? apart : joined))

/**
 * How calls of one kind travel together (`Convoy`): two trips, so that the database
 * works while this process reads the answers of the other one.
 *
 * @category constants
 * @since 0.1.0
 */
export const together = { maxTrips: 2, maxKeys: 100, maxSize: 262_144 }

/**
 * On whose behalf the log says that something has changed. Inside a transaction on
 * nobody's: what follows a commit may never run, as when its acknowledgement is
 * lost, and then the cache itself hears of it in this way only.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withOrigin = <A>(
  { sql }: Store,
  call: (origin: string) => Effect.Effect<A, SqlError.SqlError>
): Effect.Effect<A, SqlError.SqlError> =>
  Effect.withFiber((fiber) => call(isInTransaction(sql, fiber.context) ? "" : fiber.getRef(CacheOrigin)))

/**
 * Settings for a statement that nothing depends on: it hardly waits for a row that
 * others hold, and its commit for no disk. To be joined by its first step. In the
 * caller's transaction they would outlast the statement, so there it goes without.
 *
 * @category fragments
 * @since 0.1.0
 */
export const unhurriedSettings = (sql: PgClient.PgClient, inTransaction: boolean) =>
  inTransaction
    ? noSettings(sql)
    : sql`(
        select set_config('lock_timeout', '10ms', true) || set_config('synchronous_commit', 'off', true) <> '' as are_set
      )`

/**
 * Settings for a statement that something depends on, while calls share it: those that
 * would wait for a row do so alone.
 *
 * @category fragments
 * @since 0.1.0
 */
export const sharedSettings = (sql: PgClient.PgClient) =>
  sql`(select set_config('lock_timeout', '10ms', true) <> '' as are_set)`

/**
 * @category fragments
 * @since 0.1.0
 */
export const noSettings = (sql: PgClient.PgClient) => sql`(select true as are_set)`

/**
 * Adds to the log the rows of `changed` that are news: the others may hold in memory
 * what they have replaced. The keys of one line are read in one message, so they are
 * bounded: of a larger change the others hear that their whole namespace has changed.
 *
 * @category fragments
 * @since 0.1.0
 */
export const logChanged = (
  sql: PgClient.PgClient,
  origin: Slot<string>,
  namespace: Slot<string>,
  keepsStale: boolean
) => sql`
  insert into cache_log (origin, kind, namespace, keys, keeps_stale)
  select
    ${origin}::text, case when is_short then 'keys' else 'namespace' end, ${namespace}::text,
    case when is_short then keys end, ${keepsStale} and is_short
  from (
    select array_agg(key) as keys, sum(octet_length(key)) <= ${PgTypes.int8(maxLoggedBytes)} as is_short
    from changed
    where is_news
    having count(*) > 0
  ) news
`

const maxLoggedBytes = 262_144n

/**
 * Wakes those who wait for a lease on rows of `changed`. A longer key than fits they
 * find by looking.
 *
 * @category fragments
 * @since 0.1.0
 */
export const wakeAwaiting = (sql: PgClient.PgClient, namespace: Slot<string>) => sql`
  select pg_notify('effect_tiered_cache', payload)
  from (
    select '1 released ' || json_build_array(${namespace}::text, key)::text as payload from changed where is_awaited
  ) released
  where octet_length(payload) < 7900
`

/**
 * What is marked of the row `e`: since when it is stale, and whether it is dead.
 *
 * @category fragments
 * @since 0.1.0
 */
export const marksOver = (sql: PgClient.PgClient) => sql`
  select min(m.at) as stale_since, coalesce(bool_or(not m.keeps_stale or e.is_failure), false) as is_removal
  from cache_marks(
    e.namespace, coalesce(e.long_key, e.cache_key), e.tags, e.former_tags, e.loaded_in, e.written_in, e.version
  ) m
`

/**
 * After all versions.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxVersion = 9_223_372_036_854_775_807n

/**
 * Milliseconds beyond what a timestamp holds.
 *
 * @category constants
 * @since 0.1.0
 */
export const forever = 8e15

/**
 * A key as the table has it. One that is over the limit is stored as its beginning
 * and its hash. That is always longer than the limit, so it never equals a key that
 * is stored as it is.
 *
 * @category keys
 * @since 0.1.0
 */
export const storedKey = (key: KeyText): string => {
  if (key.length * 3 <= maxKeyBytes) return key
  const bytes = Buffer.from(key)
  if (bytes.length <= maxKeyBytes) return key
  let end = maxKeyBytes
  while (isInsideCodePoint(bytes[end]!)) end--
  return `${bytes.toString("utf8", 0, end)}:sha256:${createHash("sha256").update(bytes).digest("hex")}`
}

const maxKeyBytes = 1024

const isInsideCodePoint = (byte: number): boolean => (byte & 0xc0) === 0x80

/**
 * The whole key, where it is not what is stored.
 *
 * @category keys
 * @since 0.1.0
 */
export const longKey = ([stored, key]: readonly [string, KeyText]): KeyText | null => (stored === key ? null : key)

/**
 * @category errors
 * @since 0.1.0
 */
export const unavailable =
  (operation: string) =>
  (cause: SqlError.SqlError): CacheError =>
    new CacheError({ reason: new StoreUnavailable({ operation, cause }) })
