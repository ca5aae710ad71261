/**
 * Brings the database to the schema that this version of the library needs: the
 * files of `migrations/`, in order, each once, recorded in `cache_migrations`.
 *
 * - `run` is safe when many processes start at once: an advisory lock lets one of
 *   them work. All pending files run in one transaction, so that a failure leaves
 *   nothing behind. When nothing is pending it costs one SELECT, takes no lock
 *   and needs no right to create anything.
 * - `verify` changes nothing. It is for databases whose schema is in the hands of
 *   somebody else, who runs the same files by any other tool.
 *
 * Both fail with `StoreUnavailable` when the database cannot be reached, and with
 * `MigrationFailed` when its schema is not, or cannot be made, the one needed.
 * Neither waits longer than a minute.
 *
 * They never go back. A database that is ahead of the library is used as it is: it
 * was migrated by a later version, beside which this one goes on running while
 * processes are replaced one by one. So a migration only ever adds: what a version
 * of the library needs stays in place, with its meaning, until no release of the
 * same major version needs it.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Layer, Redacted } from "effect"
import { Migrator, SqlClient, SqlError } from "effect/sql"
import { readdir, readFile } from "node:fs/promises"
import { CacheError, MigrationFailed, StoreUnavailable } from "../CacheError.ts"
import { sqlState } from "./PgContention.ts"

const table = "cache_migrations"

// What a database has in which all files were run, by whatever tool.
const relations = ["cache_versions", "cache_entries", "cache_log", "cache_log_horizon", "cache_stats"]

const functions = ["cache_marks", "cache_mark", "cache_sweep_marks"]

const timeout = Duration.minutes(1)

/**
 * Runs the pending migrations.
 *
 * @category migrations
 * @since 0.1.0
 */
export const run: Effect.Effect<void, CacheError, PgClient.PgClient> = Effect.flatMap(PgClient.PgClient, (client) =>
  bounded(runPending(client))
)

/**
 * Fails unless the migrations were run.
 *
 * @category migrations
 * @since 0.1.0
 */
export const verify: Effect.Effect<void, CacheError, PgClient.PgClient> = Effect.flatMap(PgClient.PgClient, (client) =>
  bounded(verifySchema(client))
)

/**
 * Runs the pending migrations when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, CacheError, PgClient.PgClient> = Layer.effectDiscard(run)

/**
 * Checks that the migrations were run when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerVerify: Layer.Layer<never, CacheError, PgClient.PgClient> = Layer.effectDiscard(verify)

const runPending = Effect.fnUntraced(function* (client: PgClient.PgClient) {
  const files = yield* migrationFiles
  const recorded = yield* recordedId(client)
  if (recorded === undefined || recorded < newestId(files)) yield* migrate(client, files)
})

const verifySchema = Effect.fnUntraced(function* (client: PgClient.PgClient) {
  const sql = client.withoutTransforms()
  const missing = yield* sql<{ name: string }>`
    select name from unnest(${relations}::text[]) name where to_regclass(name) is null
    union all
    select name || '()' from unnest(${functions}::text[]) name where to_regproc(name) is null
  `.pipe(Effect.mapError((error) => unreachable(client, error)))
  if (missing.length > 0) {
    return yield* migrationFailed(
      `the database has no ${missing.map(({ name }) => name).join(", ")}: run the files of migrations/, ` +
        `from migrations/0001_cache.sql on, in a schema of the search_path, or let the library do it (migrate: true)`
    )
  }
})

interface MigrationFile {
  readonly id: number
  readonly name: string
  readonly url: URL
}

const migrationFiles: Effect.Effect<ReadonlyArray<MigrationFile>, CacheError> = Effect.suspend(() => {
  const directory = new URL("../../migrations/", import.meta.url)
  return Effect.tryPromise(async () =>
    (await readdir(directory)).toSorted().flatMap((file): ReadonlyArray<MigrationFile> => {
      const match = /^(\d+)_(.+)\.sql$/.exec(file)
      return match === null ? [] : [{ id: Number(match[1]), name: match[2]!, url: new URL(file, directory) }]
    })
  )
}).pipe(
  Effect.filterOrFail((files) => files.length > 0),
  Effect.mapError((cause) =>
    migrationFailed(
      "the migration files are not beside the library (was it bundled?): run the files of its migrations/ directory " +
        "by hand and set migrate: false",
      cause
    )
  )
)

const newestId = (files: ReadonlyArray<MigrationFile>): number => Math.max(...files.map(({ id }) => id))

// Undefined where nothing is recorded that this user could read.
const recordedId = (client: PgClient.PgClient): Effect.Effect<number | undefined, CacheError> => {
  const sql = client.withoutTransforms()
  return sql<{ id: number | null }>`select max(migration_id)::int4 as id from ${sql(table)}`.pipe(
    Effect.map((rows): number | undefined => rows[0]?.id ?? undefined),
    Effect.catchIf(
      (error) => sqlState(error) === undefinedTable || sqlState(error) === insufficientPrivilege,
      () => Effect.undefined
    ),
    Effect.mapError((error) => unreachable(client, error))
  )
}

const migrate = (client: PgClient.PgClient, files: ReadonlyArray<MigrationFile>): Effect.Effect<void, CacheError> => {
  const sql = client.withoutTransforms()
  const loader = Effect.succeed(files.map((file) => [file.id, file.name, Effect.succeed(runFile(sql, file))] as const))
  // The migrator would make its table too, but not twice at once, and not tell why
  // it could not.
  return sql`select pg_advisory_xact_lock(hashtextextended('effect-tiered-cache migrations', 0))`.pipe(
    Effect.andThen(sql`
      create table if not exists ${sql(table)} (
        migration_id integer primary key,
        created_at timestamptz not null default now(),
        name text not null
      )
    `),
    Effect.andThen(Migrator.make({})({ loader, table })),
    sql.withTransaction,
    Effect.provideService(SqlClient.SqlClient, sql),
    Effect.asVoid,
    Effect.mapError((error) => {
      const cause = SqlError.isSqlError(error.cause) ? error.cause : error
      return SqlError.isSqlError(cause) && cause.reason._tag === "ConnectionError"
        ? unreachable(client, cause)
        : migrationFailed(
            sqlState(cause) === insufficientPrivilege
              ? `this database user may not create tables: run the files of migrations/ as one who may, and set migrate: false`
              : "the migrations failed and were rolled back",
            cause
          )
    })
  )
}

// The driver runs one statement per call; EXECUTE takes a whole file.
const runFile = (sql: SqlClient.SqlClient, file: MigrationFile) =>
  Effect.tryPromise(() => readFile(file.url, "utf8")).pipe(
    Effect.flatMap((text) => sql.unsafe(`do $run$ begin execute $file$${text}$file$; end $run$`)),
    Effect.asVoid
  )

const undefinedTable = "42P01"
const insufficientPrivilege = "42501"

const migrationFailed = (problem: string, cause?: unknown): CacheError =>
  new CacheError({ reason: new MigrationFailed(cause === undefined ? { problem } : { problem, cause }) })

const unreachable = (client: PgClient.PgClient, error: SqlError.SqlError): CacheError => {
  const advice = adviceOn(error)
  const operation = `use ${describeDatabase(client.config)}${advice === "" ? "" : ` (${advice})`}`
  return new CacheError({ reason: new StoreUnavailable({ operation, cause: error }) })
}

const adviceOn = (error: SqlError.SqlError): string => {
  const code = sqlState(error)
  if (code === "3D000") return "create that database, or correct its name"
  if (code === "53300") return "raise max_connections, or open fewer connections"
  if (error.reason._tag === "AuthenticationError") return "correct the user name or the password"
  if (error.reason._tag === "ConnectionError") return "is PostgreSQL running there, and reachable from here?"
  return ""
}

// Never the password.
const describeDatabase = (config: PgClient.PgClientConfig): string => {
  const url =
    config.url !== undefined && URL.canParse(Redacted.value(config.url))
      ? new URL(Redacted.value(config.url))
      : undefined
  const database = config.database ?? (url === undefined ? "" : decodeURIComponent(url.pathname.slice(1)))
  const host = config.path ?? config.host ?? url?.searchParams.get("host") ?? (url?.hostname || "localhost")
  const port = config.port ?? (url?.port || 5432)
  const username = config.username ?? (url === undefined ? "" : decodeURIComponent(url.username))
  return [
    database === "" ? "the default database" : `the database "${database}"`,
    host.startsWith("/") ? `at ${host}` : `at ${host}:${port}`,
    ...(username === "" ? [] : [`as "${username}"`])
  ].join(" ")
}

const bounded = <A, R>(self: Effect.Effect<A, CacheError, R>): Effect.Effect<A, CacheError, R> =>
  Effect.timeoutOrElse(self, {
    duration: timeout,
    orElse: () =>
      Effect.fail(
        migrationFailed(
          "the database did not finish within a minute: another process may hold a lock on the tables; " +
            "look in pg_stat_activity, or run the files of migrations/ by hand and set migrate: false"
        )
      )
  })
