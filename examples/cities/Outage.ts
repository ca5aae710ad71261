/**
 * Taking PostgreSQL away for a while, and giving it back whatever happens.
 *
 * - **A server of our own** (the embedded one) is frozen: SIGSTOP to the postmaster
 *   and all its processes. That is worse than a server that is gone, which says so at
 *   once.
 * - **Anybody else's** (`DATABASE_URL`) is not ours to stop. The table of the cache is
 *   locked there instead: whoever asks the cache's rows waits, all other tables
 *   answer as ever.
 *
 * Both end with the scope, and if this process dies: a lock goes with its connection,
 * and a frozen server is thawed by a shell that outlives this process.
 */
import { Config, Deferred, Effect, Fiber, FileSystem, Option, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { spawn } from "node:child_process"

export interface Outage {
  /** Whether the server is frozen as a whole, other tables included. */
  readonly isFrozen: boolean
  /** What is done, and to what effect. */
  readonly description: string
  /** Begins it; it lasts as long as the scope. */
  readonly begin: Effect.Effect<void, SqlError.SqlError, Scope.Scope>
}

/** What can be done to the server of this program. */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const url = yield* Config.option(Config.String("DATABASE_URL"))
  if (Option.isSome(url) && url.value !== "") return locked(sql)
  const fs = yield* FileSystem.FileSystem
  const [row] = yield* sql<{ data: string }>`select current_setting('data_directory') as data`
  const lockFile = yield* fs.readFileString(`${row!.data}/postmaster.pid`)
  return frozen(sql, Number.parseInt(lockFile))
})

const frozen = (sql: SqlClient.SqlClient, postmaster: number): Outage => ({
  isFrozen: true,
  description: "Every process of the server is stopped: it accepts connections and statements, and answers none.",
  begin: Effect.gen(function* () {
    const stop = yield* stopper
    // On one connection, for once the postmaster is stopped there will be no other.
    const rows = yield* sql.withTransaction(
      Effect.suspend(() => {
        stop(postmaster)
        return sql<{ pid: number }>`select pid from pg_stat_activity`
      })
    )
    for (const { pid } of rows) stop(pid)
  })
})

/** Stops processes until the scope closes, or this process ends in whatever way. */
const stopper = Effect.gen(function* () {
  const stopped: Array<number> = []
  const guard = yield* Effect.sync(() =>
    spawn("sh", ["-c", 'while read -r pid; do pids="$pids $pid"; done; kill -CONT $pids'], {
      stdio: ["pipe", "ignore", "ignore"],
      // Out of reach of the terminal's Ctrl-C.
      detached: true
    })
  )
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const pid of stopped) signal(pid, "SIGCONT")
      guard.stdin.end()
    })
  )
  return (pid: number) => {
    stopped.push(pid)
    guard.stdin.write(`${pid}\n`)
    signal(pid, "SIGSTOP")
  }
})

/** Of a process that has ended by itself there is nothing to say. */
const signal = (pid: number, name: NodeJS.Signals) => {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

const locked = (sql: SqlClient.SqlClient): Outage => ({
  isFrozen: false,
  description:
    "This server is not ours to stop, so the table of the cache is locked: who asks it waits, other tables answer.",
  begin: Effect.gen(function* () {
    const isLocked = yield* Deferred.make<void>()
    const holder = yield* sql
      .withTransaction(
        Effect.gen(function* () {
          yield* sql`lock table cache_entries in access exclusive mode`
          yield* Deferred.succeed(isLocked, undefined)
          return yield* Effect.never
        })
      )
      .pipe(Effect.forkScoped)
    yield* Effect.raceFirst(Deferred.await(isLocked), Fiber.join(holder))
  })
})
