/** The functions for `psql` and triggers do what the library does. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { CacheStore, type NewRow } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgCacheStore.layer.pipe(Layer.provideMerge(PgMigrations.layer), Layer.provideMerge(Database.layer()))

const row = (key: string, options?: Partial<NewRow>): NewRow => ({
  key,
  data: "1",
  size: 1,
  schemaVersion: 1,
  timeToLive: 3_600_000,
  staleFor: 0,
  loadTime: 5,
  isFailure: false,
  validators: { etag: "x" },
  tags: ["t"],
  ...options
})

const keys = [
  "k",
  "",
  "%_\\*?",
  `'"`,
  "{}",
  "😀",
  "x".repeat(1024),
  "x".repeat(1025),
  `${"x".repeat(1023)}é`,
  `${"x".repeat(1022)}é`,
  `${"x".repeat(1021)}😀😀`,
  "é".repeat(5000)
]

/** All that the cache remembers of a namespace, but for when. */
const contents = (namespace: string) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const entries = yield* sql`
      select
        cache_key, long_key, data, is_failure, data_size, schema_version, stale_until = expires_at as is_over_at_once,
        retry_at, load_time, access_count, validators, tags, metadata, lease_owner, is_awaited
      from cache_entries where namespace = ${namespace} order by cache_key
    `
    const log = yield* sql`select kind, keys from cache_log where namespace = ${namespace} order by id`
    return { entries, log }
  })

layer(Postgres, { timeout: "60 seconds" })("SQL functions", (it) => {
  it.effect("cache_invalidate leaves what invalidate leaves, and says what it says", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const fill = (ns: string) =>
        Effect.gen(function* () {
          yield* store.clear(ns)
          yield* store.write(
            ns,
            keys.map((key) => row(key))
          )
          yield* store.write(ns, [row("expired", { timeToLive: 0 }), row("stale", { timeToLive: 0, staleFor: 60_000 })])
        })
      yield* Effect.forEach(["library", "function"], fill)
      for (const key of [...keys, "expired", "stale", "absent", "k"]) {
        const [wasThere] = yield* store.remove("library", [key])
        const answer = yield* sql`select cache_invalidate(namespace => 'function', key => ${key}) as was_there`
        assert.deepStrictEqual(answer, [{ was_there: wasThere }], key.slice(0, 20))
      }
      assert.deepStrictEqual(yield* contents("function"), yield* contents("library"))
      assert.deepStrictEqual(yield* sql`select cache_invalidate('function', null) as answer`, [{ answer: null }])
    })
  )

  it.effect("what was loaded before it is refused, for as long as a load may take", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = "fenced"
      yield* store.write(ns, [row("there")])
      for (const key of ["there", "absent"]) {
        for (const change of [sql`select cache_invalidate(${ns}, ${key})`, sql`select cache_clear(${ns})`]) {
          const [read] = yield* store.read(ns, [key])
          yield* change
          yield* store.sweep(1000)
          assert.deepStrictEqual(yield* store.fill(ns, [{ ...row(key), fence: read!.fence }]), [false])
        }
      }
      const [read] = yield* store.read(ns, ["there"])
      yield* sql`select cache_clear_all()`
      assert.deepStrictEqual(yield* store.fill(ns, [{ ...row("there"), fence: read!.fence }]), [false])
    })
  )

  it.effect("cache_clear and cache_clear_all count what can be read, and leave nothing of it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      yield* store.clearAll
      for (const ns of ["one", "%", "o_e"]) {
        yield* store.write(ns, [row("a"), row("b"), row("stale", { timeToLive: 0, staleFor: 60_000 })])
        yield* store.write(ns, [row("expired", { timeToLive: 0 }), row("removed")])
        yield* store.remove(ns, ["removed"])
      }
      const live = (ns: string): Effect.Effect<number, unknown> =>
        Effect.map(store.read(ns, ["a", "b", "stale"]), (rows) => rows.filter(({ _tag }) => _tag === "Row").length)
      for (const [ns, expected] of [
        ["%", [3, 0, 3] as ReadonlyArray<number>],
        ["o_e", [3, 0, 0] as ReadonlyArray<number>]
      ] as const) {
        assert.deepStrictEqual(yield* sql`select cache_clear(${ns}) as cleared`, [{ cleared: 3n }])
        assert.deepStrictEqual([yield* live("one"), yield* live("%"), yield* live("o_e")], expected)
      }
      yield* store.write("%", [row("a")])
      assert.deepStrictEqual(yield* sql`select cache_clear('%') as cleared`, [{ cleared: 1n }])
      assert.deepStrictEqual(yield* sql`select cache_clear('never used') as cleared`, [{ cleared: 0n }])
      yield* store.write("%", [row("a")])
      assert.deepStrictEqual(yield* sql`select cache_clear_all() as cleared`, [{ cleared: 4n }])
      assert.deepStrictEqual([yield* live("one"), yield* live("%")], [0, 0])
      assert.deepStrictEqual(yield* sql`select cache_clear_all() as cleared`, [{ cleared: 0n }])
    })
  )

  it.effect("they join the transaction that calls them", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      yield* store.write("joined", [row("k")])
      const before = yield* contents("joined")
      for (const change of [
        sql`select cache_invalidate('joined', 'k')`,
        sql`select cache_clear('joined')`,
        sql`select cache_clear_all()`
      ]) {
        yield* Effect.ignore(sql.withTransaction(Effect.andThen(change, Effect.fail("no"))))
        assert.deepStrictEqual(yield* contents("joined"), before)
        assert.strictEqual((yield* store.read("joined", ["k"]))[0]?._tag, "Row")
      }
    })
  )

  it.effect("they find the cache's tables from whatever search_path they are called", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      yield* store.write("found", [row("k")])
      const [schema] = yield* sql<{ name: string }>`select current_schema() as name`
      yield* Effect.gen(function* () {
        yield* sql`select set_config('search_path', 'pg_catalog', true)`
        const [answer] = yield* sql.unsafe(`select ${schema!.name}.cache_invalidate('found', 'k') as was_there`)
        assert.deepStrictEqual(answer, { was_there: true })
      }).pipe(sql.withTransaction)
      assert.strictEqual((yield* store.read("found", ["k"]))[0]?._tag, "NoRow")
    })
  )
})
