/**
 * What can happen to a PostgreSQL while a cache uses it, each done to a real server
 * (`Server`) and undone when its scope closes.
 */
import { PgClient, type PgConnection } from "@effect/sql-pg"
import { Effect, Exit, Fiber, Layer, Redacted, Schedule, Schema, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { CacheLive } from "../../src/CacheLive.ts"
import type { CacheError } from "../../src/CacheError.ts"
import * as Namespace from "../../src/Namespace.ts"
import type { EmbeddedPostgresError } from "../../src/postgres/EmbeddedPostgres.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import { applicationName, eventually, run, type Server } from "./Server.ts"

/** What the cache is used for in a trial. */
export const Numbers = Namespace.make("numbers", { key: Schema.Int, value: Schema.Int, version: 2 })

/** What an older release of the same program made of it. */
const Words = Namespace.make("numbers", { key: Schema.Int, value: Schema.String, version: 1 })

export interface Fault {
  /** What is done, in a few words. */
  readonly name: string
  /** What the store cannot do meanwhile. Most of the time, if it comes and goes. */
  readonly takesAway: "everything" | "writes" | "most writes" | "some calls" | "nothing"
  /** For how long it has to last at least, in milliseconds. */
  readonly lasts?: number
  /** `keys` are those that will be asked for. It ends with the scope. */
  readonly begin: (
    server: Server,
    keys: ReadonlyArray<number>
  ) => Effect.Effect<void, SqlError.SqlError | EmbeddedPostgresError | CacheError, Scope.Scope>
}

const signal = (pids: ReadonlyArray<number>, name: NodeJS.Signals) =>
  Effect.sync(() => {
    for (const pid of pids) {
      try {
        process.kill(pid, name)
      } catch (error) {
        // It has ended by itself.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
      }
    }
  })

/** What a crowd costs by itself. */
export const none: Fault = { name: "none, for comparison", takesAway: "nothing", begin: () => Effect.void }

const stopped: Fault = {
  name: "stopped (`SIGTERM`)",
  takesAway: "everything",
  begin: (server) =>
    Effect.gen(function* () {
      const sessions = yield* run(
        server.connect,
        "select pid from pg_stat_activity where backend_type = 'client backend'"
      )
      yield* Effect.addFinalizer(() => restart(server))
      // The postmaster alone would wait for its clients to leave.
      yield* signal([server.postmaster(), ...sessions.map(([pid]) => Number(pid))], "SIGTERM")
      yield* untilRefused(server)
    })
}

const killed: Fault = {
  name: "killed (`SIGKILL`)",
  takesAway: "everything",
  begin: (server) =>
    Effect.gen(function* () {
      yield* Effect.addFinalizer(() => restart(server))
      yield* signal([server.postmaster()], "SIGKILL")
      yield* untilRefused(server)
    })
}

const restart = (server: Server) => Effect.orDie(Effect.andThen(server.stop, server.start))

const untilRefused = (server: Server) =>
  eventually(Effect.map(Effect.exit(run(server.connect, "select 1")), Exit.isFailure))

const frozen: Fault = {
  name: "frozen (`SIGSTOP`), then thawed",
  takesAway: "everything",
  begin: (server) =>
    Effect.gen(function* () {
      const all = yield* run(server.connect, "select pid from pg_stat_activity where pid <> pg_backend_pid()")
      const pids = [server.postmaster(), ...all.map(([pid]) => Number(pid))]
      yield* Effect.acquireRelease(signal(pids, "SIGSTOP"), () => signal(pids, "SIGCONT"))
    })
}

const restarted: Fault = {
  name: "restarted twice under load",
  takesAway: "some calls",
  begin: (server) =>
    Effect.gen(function* () {
      const twice = yield* Effect.forkChild(Effect.repeat(restart(server), { times: 1 }))
      yield* Effect.addFinalizer(() => Fiber.join(twice))
    })
}

const cutOff: Fault = {
  name: "connections cut at random (`pg_terminate_backend`)",
  takesAway: "some calls",
  begin: (server) =>
    Effect.gen(function* () {
      const connection = yield* server.connect
      const cut = connection.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where application_name = '${applicationName}' order by random() limit 2`,
        [],
        false
      )
      yield* Effect.forkScoped(Effect.repeat(cut, Schedule.spaced("20 millis")))
    })
}

const outOfConnections: Fault = {
  name: "out of connections",
  takesAway: "everything",
  begin: (server) =>
    Effect.gen(function* () {
      const connection = yield* server.connect
      const taken = yield* Effect.forkScoped(takeConnections(server, connection))
      yield* Fiber.join(taken)
    })
}

/** All there are; then those that the cache has. */
const takeConnections = Effect.fnUntraced(function* (server: Server, { queryValues }: PgConnection.PgConnection) {
  const takeRest = Effect.ignore(Effect.forever(server.connect))
  yield* takeRest
  yield* eventually(
    Effect.gen(function* () {
      const sessions = yield* queryValues(
        `select pg_terminate_backend(pid) from pg_stat_activity where application_name = '${applicationName}'`,
        [],
        false
      )
      yield* takeRest
      return sessions.length === 0
    })
  )
})

const readOnly: Fault = {
  name: "read-only (`default_transaction_read_only`)",
  takesAway: "writes",
  begin: (server) =>
    Effect.acquireRelease(setReadOnly(server, "on"), () => Effect.orDie(setReadOnly(server, "off"))).pipe(Effect.asVoid)
}

const setReadOnly = (server: Server, setting: "on" | "off") =>
  Effect.gen(function* () {
    yield* run(server.connect, `alter system set default_transaction_read_only = ${setting}`)
    yield* run(server.connect, "select pg_reload_conf()")
    yield* eventually(
      Effect.map(run(server.connect, "show default_transaction_read_only"), ([row]) => row?.[0] === setting)
    )
  })

const diskFull: Fault = {
  name: "no space for another page of the table",
  // Whatever is deleted may make room for a row.
  takesAway: "most writes",
  begin: (server) =>
    Effect.gen(function* () {
      yield* Effect.addFinalizer(() => Effect.orDie(makeRoom(server)))
      // What does not fit in any more takes up its room all the same, until a vacuum: that of the server is not to come.
      yield* run(server.connect, "alter table cache_entries set (autovacuum_enabled = off)")
      for (const length of [640, 1]) yield* Effect.ignore(Effect.forever(run(server.connect, addBallast(length))))
    })
}

const addBallast = (length: number) => `
  insert into cache_entries (namespace, cache_key, data, created_at, version, loaded_in)
  select
    'ballast', gen_random_uuid(), to_jsonb(repeat('x', ${length})), now(), nextval('cache_versions'),
    pg_current_snapshot()
  from generate_series(1, 2000)
`

const makeRoom = ({ connect }: Server) =>
  Effect.andThen(
    run(connect, "delete from cache_entries where namespace = 'ballast'"),
    Effect.andThen(
      run(connect, "vacuum cache_entries"),
      run(connect, "alter table cache_entries reset (autovacuum_enabled)")
    )
  )

const tableGone: Fault = {
  name: "the table is gone (renamed)",
  takesAway: "everything",
  begin: ({ connect }) =>
    Effect.acquireRelease(run(connect, "alter table cache_entries rename to cache_entries_away"), () =>
      Effect.orDie(run(connect, "alter table cache_entries_away rename to cache_entries"))
    ).pipe(Effect.asVoid)
}

const olderRows: Fault = {
  name: "rows of an older version of the schema",
  takesAway: "nothing",
  begin: (server, keys) => writeOlderRows(server, keys)
}

/** As a process of the release before would have. */
const writeOlderRows = (server: Server, keys: ReadonlyArray<number>) =>
  TieredCache.setMany(
    Words,
    keys.map((key) => [key, `number ${key}`] as const)
  ).pipe(
    Effect.provide(
      Layer.provide(
        CacheLive.layer({ store: { writeTimeout: "30 seconds" } }),
        PgClient.layer({ url: Redacted.make(server.url), applicationName: "release before", maxConnections: 1 })
      ),
      { local: true }
    ),
    Effect.catchTag("SqlError", Effect.die)
  )

/** Reads wait: for whatever a lock of this kind was taken, they go behind it. */
const tableLocked: Fault = {
  name: "the table is locked for 10 s or more (reads and writes wait)",
  takesAway: "everything",
  lasts: 10_000,
  begin: (server) => inTransaction(server, "lock table cache_entries in access exclusive mode")
}

/** Loads are not kept: their fills do not wait for whoever is changing the rows. */
const rowsLocked: Fault = {
  name: "the rows are locked for 10 s or more (nothing is stored)",
  takesAway: "nothing",
  lasts: 10_000,
  begin: (server, keys) =>
    Effect.andThen(
      // What is there already and has to be replaced.
      writeOlderRows(server, keys),
      inTransaction(
        server,
        `select from cache_entries where namespace = '${Numbers.name}' and schema_version = 1 for update`
      )
    )
}

/** Ends when its connection does. */
const inTransaction = (server: Server, statement: string) =>
  Effect.gen(function* () {
    const connection = yield* server.connect
    yield* connection.query("begin", [], false)
    yield* connection.query(statement, [], false)
  })

const slow: Fault = {
  name: "slow: each statement takes 5 s",
  takesAway: "everything",
  begin: ({ connect }) =>
    Effect.acquireRelease(
      run(
        connect,
        `do $$ begin
          alter table cache_log rename to cache_log_at_rest;
          create view cache_log as
            select l.* from (select pg_sleep(5) is null as has_slept offset 0) s,
              lateral (select * from cache_log_at_rest where s.has_slept is not null offset 0) l;
          create function take_time() returns trigger language plpgsql as $f$
            begin perform pg_sleep(5); return null; end
          $f$;
          create trigger slow instead of insert on cache_log for each row execute function take_time();
        end $$`
      ),
      () =>
        Effect.orDie(
          run(
            connect,
            `do $$ begin
              drop view cache_log;
              drop function take_time;
              alter table cache_log_at_rest rename to cache_log;
            end $$`
          )
        )
    ).pipe(Effect.asVoid)
}

const slowWrites: Fault = {
  name: "slow to write: each write takes 5 s (trigger)",
  takesAway: "writes",
  begin: ({ connect }) =>
    Effect.acquireRelease(
      run(
        connect,
        `do $$ begin
          create function dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(5); return null; end';
          create trigger dawdle before insert or update on cache_entries execute function dawdle();
        end $$`
      ),
      () => Effect.orDie(run(connect, "drop function dawdle cascade"))
    ).pipe(Effect.asVoid)
}

export const faults: ReadonlyArray<Fault> = [
  stopped,
  killed,
  frozen,
  restarted,
  outOfConnections,
  cutOff,
  readOnly,
  diskFull,
  tableGone,
  olderRows,
  tableLocked,
  rowsLocked,
  slow,
  slowWrites
]
