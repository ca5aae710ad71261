import { PgClient, PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, Redacted, Schedule, Scope } from "effect"
import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as EmbeddedPostgres from "../src/postgres/EmbeddedPostgres.ts"

const isRoot = process.getuid?.() === 0
const nobody = 65534
const daemon = 1

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const parent = await fs.mkdtemp(path.join(await fs.realpath(os.tmpdir()), "embedded-"))
    await fs.chmod(parent, 0o755)
    return parent
  }),
  (parent) => Effect.promise(() => fs.rm(parent, { recursive: true, force: true }))
)

/** A directory that does not exist yet, in one that is removed at the end. */
const freshDirectory = Effect.map(temporaryDirectory, (parent) => path.join(parent, "pg"))

const query = (address: { readonly url: string }, statement: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: Redacted.make(address.url) }), (connection) =>
      Effect.map(connection.queryValues(statement, [], false), (rows) => rows[0]?.[0])
    )
  )

const serverPid = (directory: string) =>
  Effect.promise(async () =>
    Number((await fs.readFile(path.join(directory, "data/postmaster.pid"), "utf8")).split("\n")[0])
  )

/** A zombie, which an orphan is until the init process takes notice of it, has ended. */
const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return !(existsSync(`/proc/${pid}/stat`) && readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z "))
  } catch {
    return false
  }
}

/** Runs `use` while the server of the directory runs for it. */
const withServer = <A, E>(
  directory: string,
  use: (address: EmbeddedPostgres.ServerAddress) => Effect.Effect<A, E>,
  options?: Partial<EmbeddedPostgres.ServerOptions>
) => Effect.scoped(Effect.flatMap(EmbeddedPostgres.server({ directory, ...options }), use))

const failure = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.flip(Effect.scoped(effect))

/** Another process that uses the server of the directory. */
const otherProcess = (directory: string, as?: { readonly uid: number; readonly gid: number }) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--import", "tsx", script, directory], {
        ...as,
        cwd: root,
        stdio: ["pipe", "pipe", "pipe"],
        detached: true
      })
    ),
    (child) => Effect.promise(() => end(child, "SIGKILL"))
  ).pipe(
    Effect.flatMap((child) =>
      Effect.map(
        Effect.promise(() => firstLine(child)),
        (line) => ({ child, address: JSON.parse(line) as EmbeddedPostgres.ServerAddress })
      )
    )
  )

const root = fileURLToPath(new URL("..", import.meta.url))
const script = fileURLToPath(new URL("support/embeddedServer.ts", import.meta.url))

const firstLine = (child: ChildProcess) =>
  new Promise<string>((resolve, reject) => {
    let errors = ""
    child.stderr!.on("data", (chunk) => (errors += chunk))
    child.stdout!.once("data", (chunk) => resolve(String(chunk)))
    child.once("close", (code) => reject(new Error(`the other process ended with ${code}: ${errors}`)))
  })

const end = async (child: ChildProcess, how: NodeJS.Signals | "stdin") => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, "exit")
  if (how === "stdin") child.stdin!.end()
  else process.kill(-child.pid!, how)
  await ended
}

describe("EmbeddedPostgres", () => {
  it.effect("starts a UTF8, locale C, UTC server without a TCP listener, under a test clock too", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const answer = yield* withServer(directory, (address) =>
        query(
          address,
          `SELECT concat_ws(' ', current_user, current_setting('server_encoding'), datcollate, current_setting('timezone'),
             '[' || current_setting('listen_addresses') || ']') FROM pg_database WHERE datname = current_database()`
        )
      )
      assert.strictEqual(answer, "postgres UTF8 C UTC []")
    })
  )

  it.live("keeps the socket and the data from other users", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () =>
        Effect.gen(function* () {
          const modes = yield* Effect.promise(() =>
            Promise.all([directory, `${directory}/data`].map(async (name) => (await fs.stat(name)).mode & 0o077))
          )
          assert.deepStrictEqual(modes, [0, 0])
        })
      )
    })
  )

  it.live("leaves no process behind and keeps the data for the next start", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const pid = yield* withServer(directory, (address) =>
        Effect.andThen(query(address, "CREATE TABLE kept AS SELECT 42 AS n"), serverPid(directory))
      )
      assert.isFalse(isAlive(pid))
      assert.isFalse(existsSync(path.join(directory, "data/postmaster.pid")))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT n FROM kept")), 42)
    })
  )

  it.live("provides PgClient and SqlClient with the pool options it is given", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        assert.deepStrictEqual(yield* sql`SELECT current_setting('application_name') AS name`, [{ name: "mine" }])
        assert.propertyVal(sql.config, "maxConnections", 2)
      }).pipe(Effect.provide(EmbeddedPostgres.layer({ directory, applicationName: "mine", maxConnections: 2 })))
    })
  )

  it.live("lets processes that start at once on a fresh directory share one server", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const use = withServer(directory, (address) =>
        Effect.all([serverPid(directory), query(address, "SELECT pg_postmaster_start_time()::text")])
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const two = yield* Effect.all([otherProcess(directory), otherProcess(directory)], { concurrency: 2 })
          const seen = yield* Effect.all([use, use, use], { concurrency: 3 })
          for (const { address } of two) {
            assert.strictEqual(yield* query(address, "SELECT pg_postmaster_start_time()::text"), seen[0][1])
          }
          assert.deepStrictEqual(seen, [seen[0], seen[0], seen[0]])
          yield* Effect.promise(() => Promise.all(two.map(({ child }) => end(child, "stdin"))))
          assert.isFalse(isAlive(seen[0][0]))
        })
      )
      const left = yield* Effect.promise(() => fs.readdir(directory))
      assert.deepStrictEqual(left.toSorted(), ["data", "server.log"])
    })
  )

  it.live("tries again when another server took the directory first, or another process stopped ours", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const { initdb, postgres } = yield* EmbeddedPostgres.programsFor(`${os.platform()}-${os.arch()}`)
      const loser = path.join(parent, "postgres")
      for (const [complaint, code] of [
        [`lock file "postmaster.pid" already exists`, 1],
        [`lock file "postmaster.pid" is empty`, 1],
        ["pre-existing shared memory block (key 1, ID 2) is still in use", 1],
        ["terminating connection due to administrator command", 0]
      ]) {
        const once = `[ -e "$2/lost" ] || { touch "$2/lost"; echo 'FATAL:  ${complaint}' >&2; exit ${code}; }`
        yield* Effect.promise(() => fs.writeFile(loser, `#!/bin/sh\n${once}\nexec '${postgres}' "$@"`, { mode: 0o755 }))
        const directory = path.join(parent, "pg")
        const programs = { initdb, postgres: loser }
        assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT 1"), { programs }), 1)
        yield* Effect.promise(() => fs.rm(path.join(directory, "data/lost")))
      }
    })
  )

  it.live("starts again at once when a start meets the end of the last scope", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const use = withServer(directory, (address) => query(address, "SELECT 1"))
      yield* use
      const answers = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, i) => i),
        (i) => Effect.delay(use, i * 20),
        { concurrency: 8 }
      )
      assert.deepStrictEqual(answers, Array(8).fill(1))
      assert.isFalse(existsSync(path.join(directory, "data/postmaster.pid")))
    })
  )

  it.live("runs until the last of those who share it has left, whoever started it", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* EmbeddedPostgres.server({ directory }).pipe(Scope.provide(first))
      const address = yield* EmbeddedPostgres.server({ directory }).pipe(Scope.provide(second))
      const pid = yield* serverPid(directory)
      yield* Scope.close(first, Exit.void)
      assert.strictEqual(yield* query(address, "SELECT 1"), 1)
      yield* Scope.close(second, Exit.void)
      assert.isFalse(isAlive(pid))
    })
  )

  it.live("stops even if its own connection to the server was cut off", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const pid = yield* withServer(directory, (address) =>
        Effect.andThen(
          query(
            address,
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
          ),
          serverPid(directory)
        )
      )
      assert.isFalse(isAlive(pid))
    })
  )

  for (const signal of ["SIGKILL", "SIGINT"] as const) {
    it.live(`joins the server that a process left behind when ${signal} ended it and its group`, () =>
      Effect.gen(function* () {
        const directory = yield* freshDirectory
        const pid = yield* Effect.scoped(
          Effect.gen(function* () {
            const { address, child } = yield* otherProcess(directory)
            yield* query(address, "CREATE TABLE kept AS SELECT 42 AS n")
            const server = yield* serverPid(directory)
            yield* Effect.promise(() => end(child, signal))
            return server
          })
        )
        assert.isTrue(isAlive(pid))
        const seen = yield* withServer(directory, (address) =>
          Effect.all([serverPid(directory), query(address, "SELECT n FROM kept")])
        )
        assert.deepStrictEqual(seen, [pid, 42])
        assert.isFalse(existsSync(path.join(directory, "data/postmaster.pid")))
      })
    )
  }

  it.live("recovers when the server itself was killed, with its lock file left behind", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, (address) =>
        Effect.gen(function* () {
          yield* query(address, "CREATE TABLE kept AS SELECT 42 AS n")
          process.kill(yield* serverPid(directory), "SIGKILL")
        })
      )
      assert.isTrue(existsSync(path.join(directory, "data/postmaster.pid")))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT n FROM kept")), 42)
    })
  )

  it.live("is not blocked by a lock file that was cut short", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () => Effect.void)
      yield* Effect.promise(() => fs.writeFile(path.join(directory, "data/postmaster.pid"), ""))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT 1")), 1)
    })
  )

  it.live("is not blocked by a lock file whose pid now belongs to another program", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () => Effect.void)
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"], isRoot ? { uid: nobody, gid: nobody } : {})
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const lock = `${stranger.pid}\n${directory}/data\n1700000000\n5432\n${directory}\n\n`
      yield* Effect.promise(() => fs.writeFile(path.join(directory, "data/postmaster.pid"), lock))
      yield* Effect.promise(() => fs.writeFile(path.join(directory, ".s.PGSQL.5432.lock"), lock))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT 1")), 1)
      assert.isNull(stranger.exitCode)
    })
  )

  it.live("does not take the server of another directory for its own when its files were copied", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const [original, copy] = [path.join(parent, "original"), path.join(parent, "copy")]
      yield* withServer(original, () =>
        Effect.gen(function* () {
          yield* Effect.promise(() =>
            fs.cp(original, copy, { recursive: true, filter: (name) => !name.includes(".s.PG") })
          )
          if (isRoot) yield* Effect.promise(() => run("chown", ["-R", `${nobody}:${nobody}`, copy]))
          const data = yield* withServer(copy, (address) => query(address, "SHOW data_directory"))
          assert.strictEqual(data, path.join(copy, "data"))
          assert.isTrue(isAlive(yield* serverPid(original)))
        })
      )
    })
  )

  it.live("leaves nothing behind when it is interrupted during initdb", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const [directory, initdb] = [path.join(parent, "pg"), path.join(parent, "initdb")]
      yield* Effect.promise(() =>
        fs.writeFile(initdb, '#!/bin/sh\nmkdir "$2" && echo $$ > "$2/pid" && exec sleep 1000', { mode: 0o755 })
      )
      const fiber = yield* Effect.forkChild(
        withServer(directory, () => Effect.never, { programs: { initdb, postgres: initdb } }),
        { startImmediately: true }
      )
      const pid = yield* Effect.tryPromise(async () => {
        const [fresh] = await fs.readdir(directory)
        return Number(await fs.readFile(path.join(directory, fresh!, "pid"), "utf8"))
      }).pipe(
        Effect.orElseSucceed(() => 0),
        Effect.repeat({ until: (found) => found > 0, schedule: Schedule.spaced("2 millis") })
      )
      yield* Fiber.interrupt(fiber)
      assert.isFalse(isAlive(pid))
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(directory)), [])
    })
  )

  it.live("starts, and clears up, after an initdb that was killed half-way", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const half = path.join(directory, "data-00000000-0000-0000-0000-000000000000")
      yield* Effect.promise(() => fs.mkdir(half, { recursive: true }))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT 1")), 1)
      assert.isFalse(existsSync(half))
    })
  )

  it.live("leaves no process behind when it is interrupted while the server starts", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () => Effect.void)
      const fiber = yield* Effect.forkChild(
        withServer(directory, () => Effect.never),
        { startImmediately: true }
      )
      const pid = yield* serverPid(directory).pipe(
        Effect.catchDefect(() => Effect.succeed(0)),
        Effect.repeat({ until: (found) => found > 0, schedule: Schedule.spaced("2 millis") })
      )
      yield* Fiber.interrupt(fiber)
      assert.isFalse(isAlive(pid))
    })
  )

  it.live("takes directory names that are too long for a socket, or odd", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      for (const name of ["x".repeat(120), `it's, "ü" %20 ?&#`]) {
        const directory = path.join(parent, name)
        const { host, url } = yield* withServer(directory, (address) => Effect.as(query(address, "SELECT 1"), address))
        assert.include(url, `host=${encodeURIComponent(host)}&`)
        assert.strictEqual(host === directory, name.length < 100)
        assert.strictEqual(existsSync(host), host === directory)
      }
    })
  )

  it.live("links the libraries that an install without scripts lacks", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const original = yield* EmbeddedPostgres.programsFor(`${os.platform()}-${os.arch()}`)
      const native = path.resolve(path.dirname(original.postgres), "..")
      const copy = path.join(parent, "package/native")
      yield* Effect.promise(() =>
        fs.cp(native, copy, { recursive: true, filter: async (name) => !(await fs.lstat(name)).isSymbolicLink() })
      )
      const programs = { initdb: path.join(copy, "bin/initdb"), postgres: path.join(copy, "bin/postgres") }
      const answer = yield* withServer(path.join(parent, "pg"), (address) => query(address, "SELECT 1"), { programs })
      assert.strictEqual(answer, 1)
    })
  )

  if (isRoot) {
    it.live("runs for a normal user", () =>
      Effect.gen(function* () {
        const parent = yield* temporaryDirectory
        yield* Effect.promise(() => fs.chown(parent, nobody, nobody))
        const directory = path.join(parent, "pg")
        const { address, child } = yield* otherProcess(directory, { uid: nobody, gid: nobody })
        assert.strictEqual(yield* query(address, "SELECT 1"), 1)
        const pid = yield* serverPid(directory)
        yield* Effect.promise(() => end(child, "stdin"))
        assert.isFalse(isAlive(pid))
      })
    )

    it.live("runs for root as the owner of the directory", () =>
      Effect.gen(function* () {
        const directory = yield* freshDirectory
        yield* Effect.promise(() => fs.mkdir(directory))
        yield* Effect.promise(() => fs.chown(directory, daemon, daemon))
        yield* withServer(directory, () => Effect.void)
        const { uid } = yield* Effect.promise(() => fs.stat(path.join(directory, "data/PG_VERSION")))
        assert.strictEqual(uid, daemon)
      })
    )

    it.live("names the directory that is closed to the user it drops to", () =>
      Effect.gen(function* () {
        const parent = yield* temporaryDirectory
        yield* Effect.promise(() => fs.chmod(parent, 0o700))
        const error = yield* failure(EmbeddedPostgres.server({ directory: path.join(parent, "pg") }))
        assert.strictEqual(error.step, "directory")
        assert.include(error.message, `${parent} is closed to that user`)
      })
    )
  }

  it.live("refuses a directory that holds something else, and leaves it as it is", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.promise(() => fs.mkdir(path.join(directory, "data")))
      const before = yield* Effect.promise(() => fs.stat(directory))
      const error = yield* failure(EmbeddedPostgres.server({ directory }))
      assert.strictEqual(error.step, "directory")
      assert.include(error.message, `there is "data"`)
      const after = yield* Effect.promise(() => fs.stat(directory))
      assert.deepStrictEqual([after.mode, after.uid], [before.mode, before.uid])
    })
  )

  it.live("says what to do on a platform without programs", () =>
    Effect.gen(function* () {
      for (const platform of ["linux-riscv64", "win32-x64"]) {
        const error = yield* Effect.flip(EmbeddedPostgres.programsFor(platform))
        assert.strictEqual(error._tag, "EmbeddedPostgresError")
        assert.strictEqual(error.step, "programs")
        assert.include(error.message, "set DATABASE_URL")
      }
    })
  )

  it.live("says what to do where the programs cannot be run", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const program = path.join(parent, "initdb")
      yield* Effect.promise(() => fs.writeFile(program, "#!/no/such/loader\n", { mode: 0o755 }))
      const error = yield* failure(
        EmbeddedPostgres.server({
          directory: path.join(parent, "pg"),
          programs: { initdb: program, postgres: program }
        })
      )
      assert.strictEqual(error.step, "initdb")
      assert.include(error.message, "set DATABASE_URL")
    })
  )

  it.live("shows the end of the server's log when the server does not start", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () => Effect.void)
      yield* Effect.promise(() => fs.appendFile(path.join(directory, "data/postgresql.conf"), "\nnonsense = 1\n"))
      const error = yield* failure(EmbeddedPostgres.server({ directory }))
      assert.strictEqual(error.step, "start")
      assert.include(error.message, `unrecognized configuration parameter "nonsense"`)
      assert.include(error.message, path.join(directory, "server.log"))
      assert.notInclude(error.message, "ready to accept connections")
    })
  )

  it.live("uses DATABASE_URL when it is set, and the embedded server when it is not", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const [given, embedded] = [path.join(parent, "given"), path.join(parent, "embedded")]
      const dataDirectory = (url: string | undefined) =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          return (yield* sql<{ data_directory: string }>`SHOW data_directory`)[0]?.data_directory
        }).pipe(
          Effect.provide(EmbeddedPostgres.layerFromEnv({ directory: embedded, maxConnections: 1 })),
          Effect.provide(
            ConfigProvider.layer(ConfigProvider.fromEnv({ env: url === undefined ? {} : { DATABASE_URL: url } }))
          )
        )
      yield* withServer(given, ({ url }) =>
        Effect.gen(function* () {
          assert.strictEqual(yield* dataDirectory(url), path.join(given, "data"))
          assert.isFalse(existsSync(embedded))
        })
      )
      assert.strictEqual(yield* dataDirectory(undefined), path.join(embedded, "data"))
      assert.strictEqual(yield* dataDirectory(""), path.join(embedded, "data"))
    })
  )
})

const run = async (program: string, args: ReadonlyArray<string>) => {
  const [code] = await once(spawn(program, args, { stdio: "ignore" }), "close")
  assert.strictEqual(code, 0)
}
