/**
 * A PostgreSQL of one's own, to do bad things to: embedded, in a temporary directory,
 * gone with the scope, and if this process dies.
 *
 * It takes 20 connections and no file over 24 MB, so that both can be used up.
 */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Exit, Redacted, Schedule, Scope } from "effect"
import type { SqlError } from "effect/sql"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

export interface Server {
  readonly url: string
  readonly version: string
  /** The process that all others of the server come from. */
  readonly postmaster: () => number
  /** Ends it in the ordinary way, if it still runs. */
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void, EmbeddedPostgres.EmbeddedPostgresError>
  /** A connection that is none of the cache's. */
  readonly connect: Effect.Effect<PgConnection.PgConnection, SqlError.SqlError, Scope.Scope>
}

/** What the sessions of the cache are called. */
export const applicationName = "cache"

const maxConnections = 20
const maxFileSize = 24 * 1024 * 1024

export const make: Effect.Effect<Server, EmbeddedPostgres.EmbeddedPostgresError | SqlError.SqlError, Scope.Scope> =
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const data = path.join(directory, "postgres", "data")
    let life = yield* Scope.make()
    const startWith = (programs: EmbeddedPostgres.Programs | undefined) =>
      Effect.gen(function* () {
        life = yield* Scope.make()
        return yield* Scope.provide(EmbeddedPostgres.server({ directory: path.dirname(data), programs }), life)
      })
    const stop = Effect.suspend(() => Scope.close(life, Exit.void))
    yield* Effect.addFinalizer(() => stop)

    const { url } = yield* startWith(undefined)
    const connect = PgConnection.make({ url: Redacted.make(url), applicationName: "trouble" })
    const version = yield* run(connect, "show server_version")
    yield* run(connect, `alter system set max_connections = ${maxConnections}`)
    // Space comes back when it is asked for, not when the server finds the time.
    yield* run(connect, "alter system set autovacuum = off")
    yield* stop
    const start = Effect.asVoid(startWith(limitedTo(maxFileSize, data, path.join(directory, "limited-postgres"))))
    yield* start
    const postmaster = () => Number.parseInt(fs.readFileSync(path.join(data, "postmaster.pid"), "utf8"))
    return { url, version: String(version[0]?.[0]), postmaster, stop, start, connect }
  })

/** One statement, on a connection that is closed after it. */
export const run = (
  connect: Server["connect"],
  statement: string
): Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, SqlError.SqlError> =>
  Effect.scoped(Effect.flatMap(connect, (connection) => connection.queryValues(statement, [], false)))

/** The sessions of the cache, as the server sees them. */
export const sessionsOfTheCache = (connect: Server["connect"]) =>
  Effect.map(run(connect, `select pid from pg_stat_activity where application_name = '${applicationName}'`), (rows) =>
    rows.map(([pid]) => Number(pid))
  )

/** Waits for what a server does in its own time. */
export const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeoutOption("10 seconds"),
    Effect.map((held) => held._tag === "Some")
  )

/** The program of the server that ran there last, which may write files up to a size and no further. */
const limitedTo = (bytes: number, data: string, script: string): EmbeddedPostgres.Programs => {
  const program = /^\S+/.exec(fs.readFileSync(path.join(data, "postmaster.opts"), "utf8"))![0]
  fs.writeFileSync(script, `#!/bin/sh\nulimit -f ${bytes / 512}\nexec '${program}' "$@"\n`)
  fs.chmodSync(script, 0o755)
  return { initdb: path.join(path.dirname(program), "initdb"), postgres: script }
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "faults-"))
    fs.chmodSync(directory, 0o755)
    const guard = spawn("sh", ["-c", endServer, directory], { stdio: ["pipe", "ignore", "ignore"], detached: true })
    return { directory, guard }
  }),
  ({ directory, guard }) =>
    Effect.sync(() => {
      fs.rmSync(directory, { recursive: true, force: true })
      guard.stdin.end()
    })
).pipe(Effect.map(({ directory }) => directory))

/** Runs when the other end of its stdin is closed: what is left of a server, frozen or not, is ended. */
const endServer = `
  read -r _
  if pid=$(head -n 1 "$0/postgres/data/postmaster.pid"); then
    kill -QUIT "$pid"
    kill -CONT "$pid" $(pgrep -P "$pid")
    while [ -e "$0/postgres/data/postmaster.pid" ]; do sleep 0.1; done
  fi
  rm -rf "$0"
`
