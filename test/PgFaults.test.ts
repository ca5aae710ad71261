/**
 * A cache on a PostgreSQL that is frozen, killed, restarted and cut off, under a
 * crowd of callers. The server is the file's own: what is done to it is done to
 * nobody else.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Redacted, Schedule, Schema, Scope } from "effect"
import { CacheLive, EmbeddedPostgres, Namespace, TieredCache } from "effect-tiered-cache"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

const Numbers = Namespace.make("numbers", { key: Schema.Int, value: Schema.Int })

const readTimeout = 300
const crowd = 1000

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "faults-"))
    fs.chmodSync(directory, 0o755)
    return path.join(directory, "postgres")
  }),
  (directory) => Effect.sync(() => fs.rmSync(path.dirname(directory), { recursive: true, force: true }))
)

/** A server, a cache on it with 50 numbers in its store, and what can be done to the server. */
const world = Effect.gen(function* () {
  const data = yield* directory
  let server = yield* Scope.make()
  const start = EmbeddedPostgres.server({ directory: data }).pipe(
    Effect.provideService(Scope.Scope, server),
    Effect.tap(() => Effect.void)
  )
  const { url } = yield* start
  yield* Effect.addFinalizer(() => Scope.close(server, Exit.void))
  const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 5, connectTimeout: "1 second" })
  const Live = CacheLive.layer({
    store: {
      readTimeout,
      writeTimeout: 600,
      breakerFailures: 5,
      breakerProbeInterval: "200 millis"
    }
  })
  const context = yield* Layer.build(Layer.provideMerge(Live, Database))
  const cache = yield* Effect.provide(TieredCache, context)
  const sql = yield* Effect.provide(PgClient.PgClient, context)
  yield* cache.setMany(
    Numbers,
    Array.from({ length: 50 }, (_, key) => [key, -key] as const)
  )
  const postmaster = () => Number(fs.readFileSync(path.join(data, "data/postmaster.pid"), "utf8").split("\n")[0])
  const backends = Effect.map(sql<{ pid: number }>`select pid from pg_stat_activity`, (rows) =>
    rows.map(({ pid }) => pid)
  )
  const signal = (pids: ReadonlyArray<number>, name: NodeJS.Signals) =>
    Effect.sync(() => {
      for (const pid of pids) process.kill(pid, name)
    })
  /** Another server on the same data, as after a crash. */
  const restart = Effect.gen(function* () {
    yield* Scope.close(server, Exit.void)
    server = yield* Scope.make()
    yield* Effect.provideService(EmbeddedPostgres.server({ directory: data }), Scope.Scope, server)
  })
  return { cache, sql, postmaster, backends, signal, restart }
})

/** A thousand callers at once, each for a number that nobody has. How long each waited, in milliseconds. */
const ask = (cache: TieredCache["Service"], from: number) =>
  Effect.forEach(
    Array.from({ length: crowd }, (_, index) => from + index),
    (key) =>
      Effect.gen(function* () {
        const began = performance.now()
        assert.strictEqual(yield* cache.getOrSet(Numbers, key, Effect.succeed(key * 2)), key * 2)
        return performance.now() - began
      }),
    { concurrency: "unbounded" }
  )

/** While the store is away: all are answered, the first within its timeout, the next without asking it. */
const survives = (cache: TieredCache["Service"], from: number) =>
  Effect.gen(function* () {
    const waits = yield* ask(cache, from)
    // The timeout, and what a crowd and a busy machine add to it; an outage lasts longer than this.
    assert.isBelow(Math.max(...waits), readTimeout + 5000)
    const before = (yield* cache.stats).store
    yield* ask(cache, from + crowd)
    const after = (yield* cache.stats).store
    assert.isAtLeast(after.skipped - before.skipped, crowd * 0.9)
    assert.strictEqual((yield* cache.health).status, "Degraded")
  })

/** Up again by itself, and what was stored before is answered from there. */
const recovers = (cache: TieredCache["Service"]) =>
  Effect.gen(function* () {
    yield* cache.health.pipe(
      Effect.repeat({ until: ({ status }) => status === "Up", schedule: Schedule.spaced("50 millis") }),
      Effect.timeout("15 seconds")
    )
    const entry = yield* cache.getEntry(Numbers, 7, { skip: "memory" })
    assert.deepInclude(Option.getOrThrow(entry), { value: -7, origin: "store" })
    yield* cache.set(Numbers, 7, 49)
    assert.isTrue(yield* cache.invalidate(Numbers, 7))
  })

describe("A cache on a PostgreSQL in trouble", () => {
  it.live("C38 C39 C40 answers while the server is frozen, and uses it again once it thaws", () =>
    Effect.gen(function* () {
      const { backends, cache, postmaster, signal } = yield* world
      const frozen = [postmaster(), ...(yield* backends)]
      yield* signal(frozen, "SIGSTOP")
      yield* Effect.ensuring(survives(cache, 1000), signal(frozen, "SIGCONT"))
      yield* recovers(cache)
    }).pipe(Effect.scoped)
  )

  it.live("C38 C40 answers while the server is killed, and uses the next one without a restart of its own", () =>
    Effect.gen(function* () {
      const { cache, postmaster, restart, signal } = yield* world
      yield* signal([postmaster()], "SIGKILL")
      yield* survives(cache, 1000)
      yield* restart
      yield* recovers(cache)
    }).pipe(Effect.scoped)
  )

  it.live("C38 answers while its connections are cut at random", () =>
    Effect.gen(function* () {
      const { cache, sql } = yield* world
      const cut = Effect.ignore(
        sql`select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`
      )
      for (let round = 1; round <= 5; round++) {
        const [waits] = yield* Effect.all([ask(cache, round * crowd), cut], { concurrency: "unbounded" })
        assert.isBelow(Math.max(...waits), readTimeout + 5000)
      }
      yield* recovers(cache)
    }).pipe(Effect.scoped)
  )
})
