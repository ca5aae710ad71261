/**
 * Processes that come and go: many that start at once, and those of a later version,
 * of the library or of the program, beside the ones that run.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Schedule, type Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { readdir } from "node:fs/promises"
import type { CacheConfigInput } from "../src/CacheConfig.ts"
import type { CacheHealth } from "../src/CacheHealth.ts"
import type { CacheStats } from "../src/CacheStats.ts"
import type { CachedKey } from "../src/Operations.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import * as CacheProcess from "./support/CacheProcess.ts"
import { Database } from "./support/Database.ts"

/** What is heard of is heard of by the bell. Sweepers and notes of accesses come all the time. */
const config: CacheConfigInput = {
  policy: { jitter: 0 },
  store: {
    sweepInterval: "100 millis",
    accessInterval: "50 millis",
    // However crowded the machine is.
    readTimeout: "20 seconds",
    writeTimeout: "20 seconds"
  },
  bus: { pollInterval: "1 hour" }
}

const start = (setup: Partial<CacheProcess.Setup> = {}, mayBegin?: Effect.Effect<unknown>) =>
  Effect.flatMap(Database, ({ url }) => CacheProcess.start({ url, config, ...setup }, mayBegin))

const startMany = (number: number, setup?: Partial<CacheProcess.Setup>, mayBegin?: Effect.Effect<unknown>) =>
  Effect.forEach(
    Array.from({ length: number }, (_, i) => i),
    () => start(setup, mayBegin),
    { concurrency: "unbounded" }
  )

type Services = Database | PgClient.PgClient | SqlClient.SqlClient | Scope.Scope

const test = (name: string, body: Effect.Effect<void, unknown, Services>) =>
  it.live(name, () => Effect.provide(Effect.scoped(body), Layer.fresh(Database.layer({ maxConnections: 4 }))), 120_000)

const ask = <A>(
  process: CacheProcess.CacheProcess,
  ...order: Parameters<CacheProcess.CacheProcess["tell"]>
): Effect.Effect<A> => Effect.map(process.tell<A>(...order), ({ result }) => result)

type Read = { readonly origin: string; readonly value: string } | null

const valueIn = (process: CacheProcess.CacheProcess, namespace: string, key: string) =>
  Effect.map(ask<Read>(process, "read", namespace, key), (entry) => entry?.value ?? null)

const statsOf = (process: CacheProcess.CacheProcess, namespace: string) => ask<CacheStats>(process, "stats", namespace)

const soon = Schedule.spaced("2 millis")

/** Everything that one process may do, as another sees it. */
const chores = (one: CacheProcess.CacheProcess, other: CacheProcess.CacheProcess, namespace: string) =>
  Effect.gen(function* () {
    const tags = ["tag"]
    yield* ask(one, "set", namespace, "set", "1", { tags })
    yield* ask(one, "getOrSet", namespace, "loaded", "2", { tags })
    yield* ask(one, "bulk", namespace, "", "", { wanted: [["bulk 1", "bulk 2"]] })
    const keys = ["bulk 1", "bulk 2", "loaded", "set"]
    const held: Array<[key: string, value: string]> = []
    for (const key of keys) held.push([key, (yield* valueIn(other, namespace, key))!])
    const listed = (process: CacheProcess.CacheProcess) =>
      Effect.map(ask<ReadonlyArray<CachedKey<string>>>(process, "keys", namespace), (all) => all.map(({ key }) => key))
    assert.deepStrictEqual(yield* listed(other), keys)
    assert.isTrue(yield* ask(one, "expire", namespace, "set"))
    assert.strictEqual(yield* ask(one, "expireTags", namespace, "", "", { tags }), 2)
    assert.strictEqual(yield* ask(one, "expirePattern", namespace, "bulk*"), 2)
    for (const [key, value] of held) yield* ask(other, "forgets", namespace, key, value)
    for (const key of keys) {
      assert.strictEqual((yield* ask<{ freshness: string }>(other, "inspect", namespace, key)).freshness, "stale")
    }
    yield* ask(one, "set", namespace, "set", "1", { tags })
    assert.strictEqual(yield* valueIn(other, namespace, "set"), "1")
    assert.strictEqual(yield* ask(one, "invalidateTags", namespace, "", "", { tags }), 2)
    assert.strictEqual(yield* ask(one, "invalidatePattern", namespace, "bulk ?"), 2)
    assert.isFalse(yield* ask(one, "invalidate", namespace, "set"))
    yield* ask(other, "forgets", namespace, "set", "1")
    assert.deepStrictEqual(yield* listed(other), [])
    yield* ask(other, "set", namespace, "again", "3")
    assert.strictEqual(yield* valueIn(one, namespace, "again"), "3")
    assert.strictEqual(yield* ask(other, "clear", namespace), 1)
    yield* ask(one, "forgets", namespace, "again", "3")
    assert.isNull(yield* valueIn(one, namespace, "again"))
  })

const areWell = (processes: ReadonlyArray<CacheProcess.CacheProcess>, namespace: string) =>
  Effect.forEach(processes, (process) =>
    Effect.gen(function* () {
      const { store } = yield* statsOf(process, namespace)
      const { status } = yield* ask<CacheHealth>(process, "health", namespace)
      assert.deepStrictEqual([store.errors, store.undecodable, store.skipped, status], [0, 0, 0, "Up"])
      assert.strictEqual(process.log(), "")
    })
  )

describe("Processes that start", () => {
  test(
    "twenty at once on an empty database make one schema, and each can use it (C58, C74)",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const areThere = Latch.makeUnsafe()
      let there = 0
      const together = Effect.suspend(() => (++there === 20 ? areThere.open : areThere.await))
      const processes = yield* startMany(20, { maxConnections: 1 }, together)
      const names = processes.map((_, i) => `${i}`)
      yield* Effect.forEach(
        processes,
        (process, i) =>
          Effect.gen(function* () {
            assert.isNull(yield* valueIn(process, "of all", "nothing"))
            yield* ask(process, "getOrSet", "of all", names[i], `from ${i}`)
            yield* ask(process, "set", `of ${i}`, "k", `by ${i}`)
          }),
        { concurrency: "unbounded" }
      )
      yield* Effect.forEach(
        processes,
        (process) =>
          Effect.gen(function* () {
            for (const name of names) {
              assert.strictEqual(yield* valueIn(process, "of all", name), `from ${name}`)
              assert.strictEqual(yield* valueIn(process, `of ${name}`, "k"), `by ${name}`)
            }
          }),
        { concurrency: "unbounded" }
      )
      const cleared = yield* Effect.forEach(processes, (process, i) => ask(process, "clear", `of ${i}`))
      assert.deepStrictEqual(
        cleared,
        processes.map(() => 1)
      )
      yield* areWell(processes, "of all")
      const files = yield* Effect.promise(() => readdir(new URL("../migrations/", import.meta.url)))
      const ran = yield* sql<{ name: string }>`
        select lpad(migration_id::text, 4, '0') || '_' || name || '.sql' as name from cache_migrations order by 1
      `
      assert.deepStrictEqual(
        ran.map(({ name }) => name),
        files.filter((file) => file.endsWith(".sql")).toSorted()
      )
      yield* PgMigrations.verify
    })
  )
})

/** What a later version may do to the tables: it adds. */
const migrateLater = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`alter table cache_entries
    add column region text not null default 'everywhere', add column weight float8 default 1, add column more jsonb`
  yield* sql`alter table cache_log
    add column reason text not null default '', add column later_keys jsonb[] not null default '{}'`
  yield* sql`alter table cache_log_horizon add column epoch bigint not null default 7`
  yield* sql`create index on cache_entries (region) where region <> 'everywhere'`
  yield* sql`create table cache_later (id int primary key)`
  yield* sql`insert into cache_migrations (migration_id, name) values (9999, 'later')`
})

describe("Beside a later version of the library", () => {
  test(
    "the processes of this one go on serving on its tables, and may still start",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [one, other] = (yield* startMany(2)) as [CacheProcess.CacheProcess, CacheProcess.CacheProcess]
      // By now they have prepared what they say.
      yield* chores(one, other, "before")
      yield* chores(other, one, "before")
      let isOver = false
      const busy = yield* Effect.forkChild(
        Effect.repeat(chores(one, other, "meanwhile"), { until: () => isOver, schedule: Schedule.forever })
      )
      yield* migrateLater.pipe(sql.withTransaction)
      isOver = true
      yield* Fiber.join(busy)
      yield* chores(one, other, "before")
      const newcomer = yield* start()
      const careful = yield* start({ config: { ...config, store: { ...config.store, migrate: false } } })
      yield* chores(newcomer, one, "after")
      yield* chores(other, careful, "after")
      // What that version stores has more to it than this one knows.
      yield* ask(one, "set", "after", "k", "old")
      yield* ask(newcomer, "read", "after", "k")
      yield* sql`update cache_entries set region = 'here', weight = 2, more = '{}' where namespace = 'after'`
      assert.strictEqual(yield* valueIn(other, "after", "k"), "old")
      assert.isTrue(
        (yield* sql<{ was_there: boolean }>`select cache_invalidate('after', 'k') as was_there`)[0]!.was_there
      )
      for (const process of [one, other, newcomer]) yield* ask(process, "forgets", "after", "k", "old")
      yield* ask(careful, "getOrSet", "after", "k", "new")
      for (const process of [one, other, newcomer]) assert.strictEqual(yield* valueIn(process, "after", "k"), "new")
      yield* areWell([one, other, newcomer, careful], "after")
    })
  )

  test(
    "news that a process does not understand empties its memory, and no bell or line breaks it",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const processes = yield* startMany(2)
      const keys = ["a", "b"].flatMap((namespace) => ["1", "2"].map((key) => [namespace, key] as const))
      const hold = Effect.forEach(processes, (process) =>
        Effect.forEach(keys, ([namespace, key]) => ask(process, "getOrSet", namespace, key, "v"))
      )
      const held = (process: CacheProcess.CacheProcess) =>
        Effect.map(
          Effect.forEach(keys, ([namespace, key]) =>
            Effect.map(ask<Read>(process, "readMemory", namespace, key), (entry) =>
              entry === null ? [] : [`${namespace}${key}`]
            )
          ),
          (found) => found.flat()
        )
      const ring = (payload: string) => sql`select pg_notify('effect_tiered_cache', ${payload})`

      const lines = {
        "a kind of later": [sql`insert into cache_log (kind) values ('later')`, []],
        "that kind again": [sql`insert into cache_log (kind, namespace, keys) values ('later', 'a', '{1}')`, []],
        "another kind": [sql`insert into cache_log (kind, namespace, tag) values ('region', 'a', 't')`, []],
        "keys that are elsewhere": [sql`insert into cache_log (kind, namespace) values ('keys', 'a')`, []],
        "keys of many namespaces": [sql`insert into cache_log (kind, keys) values ('keys', '{1}')`, []],
        "a tag that is elsewhere": [sql`insert into cache_log (kind, namespace) values ('tag', 'a')`, []],
        "a pattern that is elsewhere": [sql`insert into cache_log (kind, namespace) values ('pattern', 'a')`, []],
        "a pattern of another syntax": [
          sql`insert into cache_log (kind, namespace, pattern) values ('pattern', 'a', '[')`,
          ["b1", "b2"]
        ],
        "a key, and more that is not known": [
          sql`insert into cache_log (kind, namespace, keys, pattern) values ('keys', 'a', '{1}', '[')`,
          ["a2", "b1", "b2"]
        ]
      } as const
      for (const [what, [line, left]] of Object.entries(lines)) {
        yield* hold
        for (const process of processes) assert.deepStrictEqual(yield* held(process), ["a1", "a2", "b1", "b2"], what)
        yield* sql.withTransaction(Effect.andThen(line, ring("2 x")))
        for (const process of processes) {
          yield* ask(process, "forgets", "a", "1", "v")
          assert.deepStrictEqual(yield* held(process), [...left], what)
          // The store still has it.
          assert.deepStrictEqual(yield* ask(process, "read", "a", "1"), { origin: "store", value: "v" })
        }
      }

      yield* hold
      for (const bell of [
        "2 x",
        "",
        "1",
        "1 released",
        "1 released {",
        '1 released ["a"]',
        '2 released ["a","1"]',
        "😀"
      ]) {
        yield* ring(bell)
      }
      yield* sql.withTransaction(Effect.andThen(sql`select cache_invalidate('a', '1')`, ring("3")))
      for (const process of processes) {
        yield* ask(process, "forgets", "a", "1", "v")
        assert.deepStrictEqual(yield* held(process), ["a2", "b1", "b2"])
        const complaints = process.log().match(/a change of a kind that is not known here, "\w+"/g)
        assert.deepStrictEqual(
          complaints?.map((complaint) => complaint.split('"')[1]),
          ["later", "region"]
        )
        assert.strictEqual(process.log().trim().split("\n").length, 2)
        assert.strictEqual((yield* ask<CacheHealth>(process, "health", "a")).status, "Up")
      }
    })
  )

  test(
    "a mark of a kind that is not known here covers what it may cover, is swept, and is in nobody's way",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [one, other] = (yield* startMany(2)) as [CacheProcess.CacheProcess, CacheProcess.CacheProcess]
      for (const namespace of ["a", "b"]) {
        yield* ask(one, "set", namespace, "k", "old", { tags: ["t"] })
        assert.strictEqual(yield* valueIn(other, namespace, "k"), "old")
      }
      const under = yield* Effect.forkChild(ask<CacheProcess.Crowd>(one, "crowd", "a", "late", "", { takes: null }))
      yield* one.loading("a", "late")
      yield* sql.withTransaction(
        Effect.andThen(
          sql`insert into cache_log (kind, namespace, is_open) values ('later', 'a', true)`,
          sql`select pg_notify('effect_tiered_cache', '2 x')`
        )
      )
      for (const process of [one, other]) yield* ask(process, "forgets", "a", "k", "old")
      yield* ask(one, "endLoad", "a", "late", "old")
      assert.deepStrictEqual((yield* Fiber.join(under)).values, { old: 1 })
      for (const process of [one, other]) {
        assert.isNull(yield* valueIn(process, "a", "k"))
        assert.isNull(yield* valueIn(process, "a", "late"))
        assert.deepStrictEqual(yield* ask(process, "read", "b", "k"), { origin: "store", value: "old" })
      }
      yield* ask(other, "set", "a", "late", "new")
      yield* Effect.repeat(sql<{ is_swept: boolean }>`select is_swept from cache_log where kind = 'later'`, {
        until: ([mark]) => mark!.is_swept,
        schedule: soon
      })
      yield* ask(other, "getOrSet", "a", "k", "new")
      for (const key of ["k", "late"]) {
        for (const process of [one, other]) assert.strictEqual(yield* valueIn(process, "a", key), "new")
      }
      yield* chores(one, other, "c")
      for (const process of [one, other]) assert.strictEqual(process.log().trim().split("\n").length, 1)
    })
  )
})

describe("Beside a later version of the program", () => {
  test(
    "each reads only what its own version of a namespace stored, also where they alternate (C82)",
    Effect.gen(function* () {
      const [v1, v2] = yield* Effect.all([start({ config }), start({ config, version: 2 })], {
        concurrency: 2
      })
      const ns = "values"
      const undecodable = (process: CacheProcess.CacheProcess) =>
        Effect.map(statsOf(process, ns), ({ store }) => store.undecodable)

      for (let round = 0; round < 3; round++) {
        for (const [one, other] of [
          [v1, v2],
          [v2, v1]
        ] as const) {
          const before = yield* undecodable(one)
          const value = `of ${one.pid}`
          // What the other has stored is not there.
          if (round > 0 || one === v2) {
            assert.isNull(yield* ask(one, "read", ns, "k"))
            assert.strictEqual(yield* undecodable(one), before + 1)
          }
          assert.deepStrictEqual(yield* ask(one, "getOrSet", ns, "k", value), { origin: "loader", value })
          yield* ask(other, "forgets", ns, "k", `of ${other.pid}`)
          assert.deepStrictEqual(yield* ask(one, "read", ns, "k"), { origin: "memory", value })
        }
      }
      // Nor is it a reserve.
      assert.isTrue(yield* ask(v2, "expire", ns, "k"))
      const failing = yield* Effect.forkChild(ask<CacheProcess.Crowd>(v1, "crowd", ns, "k", "", { takes: null }))
      yield* v1.loading(ns, "k")
      yield* ask(v1, "failLoad", ns, "k", "no")
      assert.deepStrictEqual(yield* Fiber.join(failing), { values: {}, failures: { no: 1 } })
      assert.strictEqual((yield* ask<{ value: string }>(v2, "inspect", ns, "k")).value, `of ${v2.pid}`)
      // But it is the other's entry, to be removed.
      assert.isTrue(yield* ask(v1, "invalidate", ns, "k"))
      yield* ask(v2, "outlives", ns, "k")
    })
  )

  test(
    "where both want a cold key at once each loads it once, and neither waits for long",
    Effect.gen(function* () {
      const versions = yield* Effect.all([start(), start({ version: 2 })], { concurrency: 2 })
      for (const key of ["a", "b", "c"]) {
        const startedAt = Date.now()
        const answers = yield* Effect.forEach(
          versions,
          (process) => ask<CacheProcess.Crowd>(process, "crowd", "values", key, "", { callers: 100, takes: 50 }),
          { concurrency: 2 }
        )
        assert.isBelow(Date.now() - startedAt, 4000)
        for (const [i, process] of versions.entries()) {
          const [value] = Object.keys(answers[i]!.values)
          assert.deepStrictEqual(answers[i], { values: { [value!]: 100 }, failures: {} })
          assert.match(value!, new RegExp(`^${key} of run \\d+ of ${process.pid}$`))
          assert.strictEqual(process.loads("values", key).length, 1)
        }
      }
    })
  )
})
