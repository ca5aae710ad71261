/**
 * A PostgreSQL of the soak's own, and what is done to it. Each trouble ends as it
 * began, also when it is interrupted; if this process dies, a shell that outlives
 * it thaws the server, stops it and removes its files.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Exit, Layer, Redacted, Schedule, Scope } from "effect"
import { EmbeddedPostgres } from "effect-tiered-cache"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { Dice } from "./Dice.ts"

/** By this name the server knows the connections of the caches. */
export const applicationName = "soak"

export interface Trouble {
  readonly name: string
  readonly during: (milliseconds: number) => Effect.Effect<void, unknown>
}

export interface Server {
  readonly url: string
  readonly troubles: ReadonlyArray<Trouble>
  /** How many connections the caches have. */
  readonly connections: Effect.Effect<number, unknown>
}

export const make = Effect.fnUntraced(function* (dice: Dice) {
  const directory = yield* home
  let life = yield* Scope.make()
  yield* Effect.addFinalizer(() => Effect.suspend(() => Scope.close(life, Exit.void)))
  const start = Effect.suspend(() => Scope.provide(EmbeddedPostgres.server({ directory }), life))
  const { url } = yield* start
  const admin = yield* Layer.build(
    PgClient.layer({ url: Redacted.make(url), maxConnections: 2, connectTimeout: "1 second" })
  )
  const sql = Context.get(admin, PgClient.PgClient)

  const postmaster = () => Number.parseInt(fs.readFileSync(path.join(directory, "data/postmaster.pid"), "utf8"))
  const processes = Effect.map(sql<{ pid: number }>`select pid from pg_stat_activity`, (rows) => [
    postmaster(),
    ...rows.map(({ pid }) => pid)
  ])
  const signal = (pids: ReadonlyArray<number>, name: NodeJS.Signals) =>
    Effect.sync(() => {
      for (const pid of pids) if (isAlive(pid)) process.kill(pid, name)
    })
  const cut = sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = ${applicationName} and random() < 0.5
  `
  const settings = (statement: Effect.Effect<unknown, unknown>) =>
    Effect.andThen(statement, sql`select pg_reload_conf()`).pipe(
      Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 20 })
    )
  const held = (lock: Effect.Effect<unknown, unknown>, milliseconds: number) =>
    sql.withTransaction(Effect.andThen(lock, Effect.sleep(milliseconds)))

  const troubles: ReadonlyArray<Trouble> = [
    {
      name: "frozen (SIGSTOP)",
      during: (milliseconds) =>
        Effect.acquireUseRelease(
          Effect.tap(processes, (pids) => signal(pids, "SIGSTOP")),
          () => Effect.sleep(milliseconds),
          (pids) => signal(pids, "SIGCONT")
        )
    },
    {
      name: "connections cut",
      during: (milliseconds) =>
        Effect.suspend(() => Effect.andThen(cut, Effect.sleep(dice.between(20, 200)))).pipe(
          Effect.forever,
          Effect.timeoutOption(milliseconds)
        )
    },
    {
      name: "killed, restarted",
      during: (milliseconds) =>
        Effect.uninterruptible(
          Effect.gen(function* () {
            yield* signal([postmaster()], "SIGKILL")
            yield* Effect.sleep(milliseconds)
            yield* Scope.close(life, Exit.void)
            life = yield* Scope.make()
            yield* start
          })
        )
    },
    { name: "table locked", during: (ms) => held(sql`lock table cache_entries in access exclusive mode`, ms) },
    { name: "rows locked", during: (ms) => held(sql`select 1 from cache_entries for update`, ms) },
    {
      name: "read only",
      during: (milliseconds) =>
        Effect.acquireUseRelease(
          settings(sql`alter system set default_transaction_read_only = on`),
          () => Effect.sleep(milliseconds),
          () => settings(sql`alter system reset default_transaction_read_only`)
        )
    }
  ]
  const server: Server = {
    url,
    troubles,
    connections: Effect.map(
      sql<{ count: number }>`
        select count(*)::int4 as count from pg_stat_activity where application_name = ${applicationName}
      `,
      ([row]) => row!.count
    )
  }
  return server
})

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** A directory that the server's user can reach, with the shell that cleans up after this process. */
const home = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "soak-"))
    fs.chmodSync(directory, 0o755)
    const guard = spawn("sh", ["-c", cleanUp, directory], { stdio: ["pipe", "ignore", "ignore"], detached: true })
    return { directory, guard }
  }),
  ({ directory, guard }) =>
    Effect.sync(() => {
      fs.rmSync(directory, { recursive: true, force: true })
      guard.stdin.end()
    })
).pipe(Effect.map(({ directory }) => path.join(directory, "postgres")))

// Those of its processes that stay frozen the postmaster kills after five seconds.
const cleanUp = `
  read -r _
  if pid=$(head -n 1 "$0/postgres/data/postmaster.pid") && kill -CONT "$pid" && kill -QUIT "$pid"; then
    while [ -e "$0/postgres/data/postmaster.pid" ]; do sleep 0.1; done
  fi
  rm -rf "$0"
`
