/**
 * The process of an embedded server, and the lock file by which others know of it.
 *
 * PostgreSQL writes `postmaster.pid` before it listens and removes it when it ends.
 * The file says who owns the data directory, but a server that was killed leaves it
 * behind, its pid may belong to another program by now, and it may be cut short. So
 * it names a candidate; whether a server lives is for the socket to say.
 *
 * A process outlives the one that started it. `stop` takes any server of the cluster,
 * asks ever more firmly, and returns when it is gone.
 *
 * @since 0.1.0
 */
import { Context, type Duration, Effect, Option, Schedule } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, constants, fchownSync, fstatSync, ftruncateSync, openSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { type Cluster, port, processOptions, remove, socketName } from "./EmbeddedCluster.ts"
import { attempt, cannotRun, EmbeddedPostgresError, failure, unless } from "./EmbeddedPostgresError.ts"

/**
 * A server that this process started; its log begins at `logStart`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerProcess {
  readonly child: ChildProcess
  readonly logStart: number
  error?: Error
}

/**
 * Starts a server, which may turn out to be one too many: PostgreSQL alone decides
 * which of two that start at once gets the directory.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = (cluster: Cluster): Effect.Effect<ServerProcess, EmbeddedPostgresError> =>
  Effect.andThen(
    remove(path.join(cluster.socketDirectory, `${socketName}.lock`)),
    Effect.try({
      try: () => spawnServer(cluster),
      catch: (cause) => failure("start", cause)
    })
  )

const spawnServer = (cluster: Cluster) => {
  const log = openSync(cluster.log, appendOnly, 0o600)
  if (cluster.user !== undefined) fchownSync(log, cluster.user.uid, cluster.user.gid)
  if (fstatSync(log).size > maxLogSize) ftruncateSync(log)
  const logStart = fstatSync(log).size
  const child = spawn(cluster.programs.postgres, ["-D", cluster.data, ...settings(cluster)], {
    ...processOptions(cluster),
    stdio: ["ignore", log, log]
  })
  child.unref()
  closeSync(log)
  const self: ServerProcess = { child, logStart }
  child.once("error", (error) => (self.error = error))
  return self
}

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

/**
 * Whether it has not ended yet.
 *
 * @category guards
 * @since 0.1.0
 */
export const isRunning = ({ child }: ServerProcess) =>
  child.pid !== undefined && child.exitCode === null && child.signalCode === null

/**
 * Fails if a server has ended for good, and not because another start was quicker or
 * another's end was.
 *
 * @category guards
 * @since 0.1.0
 */
export const failIfEndedForGood = Effect.fnUntraced(function* (cluster: Cluster, self: ServerProcess) {
  if (self.error !== undefined) return yield* cannotRun("start", cluster.programs.postgres, self.error)
  const wasStopped = self.child.exitCode === 0
  if (!wasStopped && !tookDirectory.test(yield* logSince(cluster, self))) {
    return yield* failedToStart(cluster, self, "it ended at once")
  }
})

const tookDirectory =
  /lock file .* (already exists|is empty)|bogus data in lock file|shared memory block .* is still in use/

/**
 * What the log says, after what is known.
 *
 * @category constructors
 * @since 0.1.0
 */
export const failedToStart = (cluster: Cluster, self: ServerProcess | undefined, problem: string) =>
  Effect.flatMap(logSince(cluster, self), (log) => {
    const tail = log.trim().split("\n").slice(-20).join("\n")
    return new EmbeddedPostgresError({ step: "start", problem: `${problem}; the end of ${cluster.log}:\n${tail}` })
  })

const logSince = (cluster: Cluster, self: ServerProcess | undefined) =>
  Effect.map(
    attempt("start", () => fs.readFile(cluster.log).catch(unless(Buffer.alloc(0), "ENOENT"))),
    (log) => log.subarray(self?.logStart ?? 0).toString()
  )

/**
 * Fast shutdown, then immediate shutdown, then the end.
 *
 * @category combinators
 * @since 0.1.0
 */
export const stop = Effect.fnUntraced(function* (cluster: Cluster, pid: number) {
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if (!kill(pid, signal)) break
    if (Option.isNone(yield* until(hasEnded(cluster, pid), patience))) continue
    yield* until(
      Effect.sync(() => !isAlive(pid)),
      "200 millis"
    )
    break
  }
  if (cluster.socketDirectory !== cluster.directory) yield* remove(cluster.socketDirectory)
})

/**
 * How long an answer may take that is due at once.
 *
 * @category constants
 * @since 0.1.0
 */
export const patience = "5 seconds"

const until = <E>(condition: Effect.Effect<boolean, E>, limit: Duration.Input) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeoutOption(limit)
  )

/** An orphan may stay as a zombie that nobody waits for, but it removes its lock file when it ends. */
const hasEnded = (cluster: Cluster, pid: number) =>
  Effect.map(
    Effect.orElseSucceed(readLockFile(cluster), () => undefined),
    (lockFile) => lockFile?.pid !== pid || !isAlive(pid)
  )

/**
 * What a server says of itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface LockFile {
  readonly content: string
  /** None in a file that is being written, or whose writing was cut short. */
  readonly pid: number | undefined
  readonly socketDirectory: string
}

/**
 * The lock file of the data directory, if there is one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const readLockFile = (cluster: Cluster) =>
  Effect.map(
    attempt("start", () => fs.readFile(lockFilePath(cluster), "utf8").catch(unless(undefined, "ENOENT"))),
    (content): LockFile | undefined => {
      if (content === undefined) return undefined
      const [pid, , , , socketDirectory = ""] = content.split("\n")
      return { content, pid: Math.abs(Number(pid)) || undefined, socketDirectory }
    }
  )

/**
 * Removes a lock file that no server holds, unless it has changed meanwhile: true if
 * a server can be started now.
 *
 * @category combinators
 * @since 0.1.0
 */
export const removeLockFile = Effect.fnUntraced(function* (cluster: Cluster, seen: LockFile) {
  if ((yield* readLockFile(cluster))?.content !== seen.content) return false
  yield* remove(lockFilePath(cluster))
  return true
})

const lockFilePath = (cluster: Cluster) => path.join(cluster.data, "postmaster.pid")

/**
 * How many milliseconds the server of a lock file may keep silent before it counts as
 * dead. Between writing the file and listening it needs a few.
 *
 * @internal
 */
export const silenceOfTheDead = Context.Reference<number>("effect-tiered-cache/EmbeddedProcess/silenceOfTheDead", {
  defaultValue: () => 2000
})

/**
 * Like PostgreSQL: a process that we may not signal is not a server of ours.
 *
 * @category guards
 * @since 0.1.0
 */
export const isAlive = (pid: number) => kill(pid, 0)

const kill = (pid: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}
