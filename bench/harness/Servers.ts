/**
 * The servers that a section measures against: a PostgreSQL of its own, embedded, or
 * that of `DATABASE_URL`, and a Redis where one is installed. Both are as they come,
 * with no setting made for speed; all connections are by socket files.
 */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

/** How `pg`, and all that is built on it, reaches a database. */
export interface Address {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password?: string
  readonly database: string
}

export interface Postgres {
  readonly url: string
  readonly address: Address
  readonly version: string
}

/** A server for all that is run meanwhile. */
export const withServer = <A>(use: (url: string) => Promise<A>): Promise<A> =>
  Effect.runPromise(Effect.scoped(Effect.flatMap(serverUrl, (url) => Effect.promise(() => use(url)))))

/** A fresh database, dropped afterwards. */
export const withPostgres = <A>(use: (postgres: Postgres) => Promise<A>, given?: string): Promise<A> =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const server = given ?? (yield* serverUrl)
        const name = `bench_${randomUUID().replaceAll("-", "")}`
        yield* Effect.acquireRelease(ask(server, `CREATE DATABASE ${name}`), () => Effect.orDie(drop(server, name)))
        const [row] = yield* ask(server, "SHOW server_version")
        const url = new URL(server)
        url.pathname = `/${name}`
        url.search = url.search.replaceAll("+", "%20")
        return yield* Effect.promise(() =>
          use({ url: url.href, address: addressOf(url), version: String(row?.[0]).split(" ")[0]! })
        )
      })
    )
  )

const serverUrl = Effect.gen(function* () {
  const given = process.env["DATABASE_URL"]
  if (given !== undefined && given !== "") return given
  const directory = yield* temporaryDirectory
  return (yield* EmbeddedPostgres.server({ directory })).url
})

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bench-"))
    // Started by root, the server runs as another user in here.
    fs.chmodSync(directory, 0o711)
    return directory
  }),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

/** Pools that are closed still have connections for a while, and some of them throw when one of those is cut. */
const drop = (server: string, name: string) =>
  ask(server, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = '${name}'`).pipe(
    Effect.repeat({ until: ([row]) => row?.[0] === 0, schedule: Schedule.spaced("20 millis"), times: 150 }),
    Effect.andThen(ask(server, `DROP DATABASE ${name} WITH (FORCE)`))
  )

const ask = (url: string, statement: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: Redacted.make(url) }), (connection) =>
      connection.queryValues(statement, [], false)
    )
  )

const addressOf = (url: URL): Address => ({
  host: url.searchParams.get("host") ?? url.hostname,
  port: Number(url.searchParams.get("port") ?? (url.port || 5432)),
  user: url.searchParams.get("user") ?? decodeURIComponent(url.username),
  ...(url.password !== "" && { password: decodeURIComponent(url.password) }),
  database: url.pathname.slice(1)
})

export interface Redis {
  readonly socket: string
  readonly stop: () => void
}

/** `undefined` where there is neither Redis nor Valkey on this machine. */
export const startRedis = async (): Promise<Redis | undefined> => {
  const program = ["redis-server", "valkey-server"].flatMap(found)[0]
  if (program === undefined) return undefined
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bench-redis-"))
  const socket = path.join(directory, "redis.sock")
  const server = spawn(program, ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  const stop = () => {
    server.kill()
    fs.rmSync(directory, { recursive: true, force: true })
  }
  process.once("exit", stop)
  for await (const chunk of server.stdout) {
    if (/ready to accept connections/i.test(String(chunk))) return { socket, stop }
  }
  throw new Error(`${program} did not start`)
}

const found = (program: string): ReadonlyArray<string> =>
  (process.env["PATH"] ?? "")
    .split(path.delimiter)
    .map((directory) => path.join(directory, program))
    .filter((file) => fs.existsSync(file))
    .slice(0, 1)
