import { assert, describe, it, layer } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { Statement } from "effect/sql"
import { readdir, readFile } from "node:fs/promises"
import { createServer, type AddressInfo } from "node:net"
import type { CacheError } from "../src/CacheError.ts"
import { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { Database } from "./support/Database.ts"
import { untilWaiting } from "./support/untilWaiting.ts"

const directory = new URL("../migrations/", import.meta.url)

const files = Effect.promise(async () =>
  Promise.all((await readdir(directory)).toSorted().map((name) => readFile(new URL(name, directory), "utf8")))
)

/** What psql does with the files, in one transaction. */
const runByHand = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const text = (yield* files).join("\n")
  yield* sql.unsafe(`do $byhand$ begin execute $text$${text}$text$; end $byhand$`)
})

const relations = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ name: string }>`
    select relname as name from pg_class where relnamespace = current_schema()::regnamespace order by 1
  `
  return rows.map(({ name }) => name)
})

const statements = <A, E, R>(self: Effect.Effect<A, E, R>) => {
  const texts: Array<string> = []
  return self.pipe(
    Effect.provideService(Statement.CurrentTransformer, (statement) =>
      Effect.sync(() => {
        texts.push(statement.compile()[0])
        return statement
      })
    ),
    Effect.map(() => texts)
  )
}

const storeWorks = Effect.gen(function* () {
  const store = yield* CacheStore
  yield* store.write("genes", [
    {
      key: "1",
      data: "1",
      size: 1,
      schemaVersion: 1,
      timeToLive: 0,
      staleFor: 60_000,
      loadTime: 5,
      isFailure: false,
      validators: { etag: "abc" },
      tags: []
    }
  ])
  const [row] = yield* store.read("genes", ["1"])
  yield* store.rearm("genes", [{ key: "1", fence: row!.fence, retryAfter: 10_000 }])
  assert.strictEqual(yield* store.clear("genes"), 1)
}).pipe(Effect.provide(PgCacheStore.layer))

const reasonOf = (error: CacheError) => [error.reason._tag, error.message] as const

const inFreshDatabase = <A, E>(self: Effect.Effect<A, E, PgClient.PgClient | Database>) =>
  Effect.provide(self, Layer.fresh(Database.layer({ maxConnections: 2 })))

describe("PgMigrations", () => {
  it.live("an empty database gets what the store needs", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        yield* PgMigrations.run
        yield* PgMigrations.verify
        yield* storeWorks
      })
    )
  )

  it.live("where nothing is pending it costs one SELECT", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        yield* PgMigrations.run
        const texts = yield* statements(PgMigrations.run)
        assert.strictEqual(texts.length, 1)
        assert.match(texts[0]!, /^select /)
      })
    )
  )

  it.live("twenty processes may start on an empty database at once", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => Effect.provide(PgMigrations.run, Database.layerClient({ maxConnections: 1 })),
          { concurrency: "unbounded" }
        )
        const sql = yield* PgClient.PgClient
        assert.deepStrictEqual(yield* sql`select migration_id, name from cache_migrations`, [
          { migration_id: 1, name: "cache" },
          { migration_id: 2, name: "glob" },
          { migration_id: 3, name: "functions" }
        ])
        yield* storeWorks
      })
    )
  )

  it.live("the files may be run by hand, again and again, before the library and after it", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        yield* runByHand
        yield* runByHand
        yield* PgMigrations.verify
        yield* storeWorks
        yield* PgMigrations.run
        yield* runByHand
        yield* storeWorks
      })
    )
  )

  it.live("a failure leaves nothing behind, and the next run succeeds", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table cache_stats (in_the_way int)`
        const [tag, message] = reasonOf(yield* Effect.flip(PgMigrations.run))
        assert.strictEqual(tag, "MigrationFailed")
        assert.include(message, "rolled back")
        assert.include(message, "cache_stats")
        assert.deepStrictEqual(yield* relations, ["cache_stats"])
        yield* sql`drop table cache_stats`
        yield* PgMigrations.run
      })
    )
  )

  it.live("an interrupted run leaves nothing behind", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`select pg_advisory_xact_lock(hashtextextended('effect-tiered-cache migrations', 0))`
            const fiber = yield* Effect.forkChild(
              Effect.provide(PgMigrations.run, Database.layerClient({ maxConnections: 1 }))
            )
            yield* untilWaiting(1)
            yield* Fiber.interrupt(fiber)
          })
        )
        assert.deepStrictEqual(yield* relations, [])
      })
    )
  )

  it.live("a database that a later version has migrated goes on serving this one", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* PgMigrations.run
        yield* sql`insert into cache_migrations (migration_id, name) values (9999, 'future')`
        yield* sql`alter table cache_entries add column cost float8 not null default 0`
        yield* sql`alter table cache_log add column reason text`
        yield* sql`alter table cache_log_horizon add column checked_at timestamptz`
        yield* PgMigrations.run
        yield* PgMigrations.verify
        yield* storeWorks
      })
    )
  )

  it.live("verify says so where a file was not run", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const [first] = yield* files
        yield* sql.unsafe(`do $byhand$ begin execute $text$${first}$text$; end $byhand$`)
        const [tag, message] = reasonOf(yield* Effect.flip(PgMigrations.verify))
        assert.strictEqual(tag, "MigrationFailed")
        assert.include(message, "the database has no cache_mark(), cache_sweep_marks()")
      })
    )
  )

  it.live("verify names what is missing and the file to run, and makes nothing", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const [tag, message] = reasonOf(yield* Effect.flip(PgMigrations.verify))
        assert.strictEqual(tag, "MigrationFailed")
        assert.include(message, "cache_entries")
        assert.include(message, "migrations/0001_cache.sql")
        assert.deepStrictEqual(yield* relations, [])
      })
    )
  )

  it.live("a user who may not create anything can use what is there, and is told what to do where nothing is", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const { name } = yield* Database
        const role = `${name}_user`
        yield* Effect.acquireRelease(sql.unsafe(`create role ${role} login password 'secret'`), () =>
          Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
        )
        const url = Redacted.make((yield* Database).url)
        const asUser = yield* Layer.build(PgClient.layer({ url, username: role, password: Redacted.make("secret") }))
        const [tag, message] = reasonOf(yield* PgMigrations.run.pipe(Effect.provide(asUser), Effect.flip))
        assert.strictEqual(tag, "MigrationFailed")
        assert.include(message, "may not create tables")
        assert.include(message, "permission denied")

        yield* runByHand
        const grants = (yield* files)[0]!.match(/^-- {3}grant .*$/gm)!
        assert.strictEqual(grants.length, 2)
        for (const grant of grants) yield* sql.unsafe(grant.slice(2).replace(/to app;/, `to ${role}`))
        yield* Effect.provide(PgMigrations.verify, asUser)
        yield* Effect.provide(storeWorks, asUser)

        yield* PgMigrations.run
        yield* sql.unsafe(`grant select on cache_migrations to ${role}`)
        yield* Effect.provide(PgMigrations.run, asUser)
      }).pipe(Effect.scoped)
    )
  )

  it.live("the search_path decides the schema", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create schema elsewhere`
        yield* Effect.gen(function* () {
          yield* PgMigrations.run
          yield* PgMigrations.verify
          yield* storeWorks
        }).pipe(
          Effect.provide(Database.layerClient({ maxConnections: 1, startupParameters: { search_path: "elsewhere" } }))
        )
        assert.deepStrictEqual(
          yield* sql`select schemaname::text as schema from pg_tables where tablename = 'cache_entries'`,
          [{ schema: "elsewhere" }]
        )
      })
    )
  )

  it.live("a client that renames columns changes nothing", () =>
    inFreshDatabase(
      Effect.gen(function* () {
        yield* PgMigrations.run
        assert.strictEqual((yield* statements(PgMigrations.run)).length, 1)
        yield* PgMigrations.verify
        yield* storeWorks
      }).pipe(
        Effect.provide(
          Database.layerClient({
            transformQueryNames: (name) => name.toUpperCase(),
            transformResultNames: (name) => name.toUpperCase()
          })
        )
      )
    )
  )
})

const fails = (url: string, options?: PgClient.PgClientConfig) =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(PgMigrations.run)
    assert.strictEqual(error.reason._tag, "StoreUnavailable")
    assert.isTrue(error.isRetryable)
    const again = yield* Effect.flip(PgMigrations.verify)
    assert.strictEqual(again.message, error.message)
    return error.message
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), ...options })))

describe("PgMigrations without a database", () => {
  it.live("a server that is not there", () =>
    Effect.gen(function* () {
      const message = yield* fails("postgres://me:secret@localhost:1/genes")
      assert.include(message, `the database "genes" at localhost:1 as "me"`)
      assert.include(message, "is PostgreSQL running there")
      assert.include(message, "ECONNREFUSED")
      assert.notInclude(message, "secret")
    })
  )

  it.live("a server that accepts connections and says nothing", () =>
    Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Effect.callback<ReturnType<typeof createServer>>((resume) => {
          const server = createServer(() => {}).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = server.address() as AddressInfo
      const message = yield* fails(`postgres://me@127.0.0.1:${port}/genes`, { connectTimeout: "100 millis" })
      assert.include(message, `at 127.0.0.1:${port}`)
      assert.include(message, "timed out")
    }).pipe(Effect.scoped)
  )

  it.live("a URL that is none", () => Effect.map(fails("genes"), (message) => assert.include(message, "Invalid")))
})

const failsWith = (options: PgClient.PgClientConfig) => Effect.flatMap(Database, ({ url }) => fails(url, options))

layer(Database.layer({ maxConnections: 1 }))("PgMigrations with a wrong URL", (it) => {
  it.effect("a database that does not exist", () =>
    Effect.gen(function* () {
      const message = yield* failsWith({ database: "no_such_database" })
      assert.include(message, `the database "no_such_database"`)
      assert.include(message, "create that database")
    })
  )

  it.effect("a user that does not exist", () =>
    Effect.gen(function* () {
      const message = yield* failsWith({ username: "no_such_user" })
      assert.include(message, `as "no_such_user"`)
      assert.include(message, "correct the user name or the password")
    })
  )
})
