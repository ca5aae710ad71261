/**
 * Invalidation of many entries at once on PostgreSQL, and the transactions that can
 * come between it and a load: whichever is older, whichever commits first, whatever
 * their isolation.
 */
import { PgClient, PgTypes } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Result, Stream } from "effect"
import * as fc from "fast-check"
import { CacheStore, type Fence, type NewRow } from "../src/CacheStore.ts"
import * as Glob from "../src/Glob.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { fenced, namespace, row as anyRow, type Store } from "./suites/storeRows.ts"
import { Database } from "./support/Database.ts"
import { elsewhere } from "./support/elsewhere.ts"

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections: 10 }))
)

const row = (key: string, document: unknown, options?: Partial<NewRow>): NewRow =>
  anyRow(key, document, { staleFor: 3_600_000, tags: ["t"], ...options })

const fenceOf = (store: Store, ns: string, key: string) => Effect.map(store.read(ns, [key]), ([read]) => read!.fence)

/** Fresh, stale, or nothing. */
const stateOf = (store: Store, ns: string, key: string) =>
  Effect.map(store.read(ns, [key]), ([read]) =>
    read!._tag === "NoRow" ? "nothing" : read!.timeToLive > 0 ? "fresh" : "stale"
  )

const anyKey = Result.getOrThrow(Glob.make("n", "k*"))

/** As if the marks of the namespace were made, and all loads begun, so long ago that no load is older. */
const letSettle = (store: Store) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    for (let times = 0; times < 2; times++) {
      yield* sql`update cache_log_horizon set settling_at = '-infinity'`
      yield* store.sweep(100)
    }
  })

const openMarks = Effect.flatMap(PgClient.PgClient, (sql) =>
  Effect.map(sql`select from cache_log where is_open`, (rows) => rows.length)
)

/** Transactions of other tests may be older, too. */
const untilClosed = (store: Store) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const open = sql`select from cache_log where is_open`
    yield* Effect.repeat(Effect.andThen(letSettle(store), open), { while: (rows) => rows.length > 0 })
  })

interface Mark {
  readonly apply: (store: Store, ns: string) => Effect.Effect<number, unknown>
  readonly leaves: "nothing" | "stale"
}

const marks: Record<string, Mark> = {
  "invalidation by tag": { apply: (store, ns) => store.removeTagged(ns, ["other", "t"]), leaves: "nothing" },
  "expiry by tag": { apply: (store, ns) => store.removeTagged(ns, ["t"], true), leaves: "stale" },
  "invalidation by pattern": { apply: (store, ns) => store.removeMatching(ns, anyKey), leaves: "nothing" },
  "expiry by pattern": { apply: (store, ns) => store.removeMatching(ns, anyKey, true), leaves: "stale" },
  clear: { apply: (store, ns) => store.clear(ns), leaves: "nothing" },
  clearAll: { apply: (store) => store.clearAll, leaves: "nothing" }
}

const isolations = ["read committed", "repeatable read", "serializable"] as const

const begin = (isolation: (typeof isolations)[number]) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    // The first statement takes the snapshot of the stricter ones.
    Effect.andThen(sql.unsafe(`set transaction isolation level ${isolation}`), sql`select count(*) from cache_entries`)
  )

layer(Postgres, { timeout: "60 seconds" })("Marks on PostgreSQL", (it) => {
  for (const [name, { apply, leaves }] of Object.entries(marks)) {
    for (const isolation of isolations) {
      it.effect(
        `${name}, ${isolation}: what is filled while its transaction is open counts until the commit only`,
        () =>
          Effect.gen(function* () {
            const sql = yield* PgClient.PgClient
            const store = yield* CacheStore
            const other = yield* elsewhere
            const ns = namespace()
            yield* store.write(ns, [row("k there", "old")])
            const before = yield* fenceOf(other, ns, "k before")
            const during = yield* fenceOf(other, ns, "k during")
            const after = yield* fenceOf(other, ns, "k after")
            const there = yield* fenceOf(other, ns, "k there")
            yield* sql.withTransaction(
              Effect.gen(function* () {
                yield* begin(isolation)
                // The transaction that invalidates cannot see it, if its snapshot is older.
                assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k before", "old"), before)]), [true])
                assert.isAtLeast(yield* apply(store, ns), 1)
                assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k during", "old"), during)]), [true])
                for (const key of ["k there", "k before", "k during"]) {
                  assert.strictEqual(yield* stateOf(other, ns, key), "fresh")
                }
                assert.strictEqual(yield* stateOf(store, ns, "k there"), leaves)
              })
            )
            assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k after", "old"), after)]), [false])
            assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k there", "old"), there)]), [false])
            for (const each of [store, other]) {
              for (const key of ["k there", "k before", "k during"])
                assert.strictEqual(yield* stateOf(each, ns, key), leaves)
              assert.strictEqual(yield* stateOf(each, ns, "k after"), "nothing")
            }
            const anew = yield* fenceOf(other, ns, "k there")
            assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k there", "new"), anew)]), [true])
            assert.strictEqual(yield* stateOf(store, ns, "k there"), "fresh")
          })
      )
    }

    it.effect(`${name}: a rollback leaves no trace, nor does one to a savepoint`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        yield* store.write(ns, [row("k", "old")])
        const fence = yield* fenceOf(other, ns, "k")
        const undone = sql.withTransaction(Effect.andThen(apply(store, ns), Effect.fail("undone")))
        yield* Effect.ignore(undone)
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* Effect.ignore(undone)
            assert.strictEqual(yield* stateOf(store, ns, "k"), "fresh")
          })
        )
        assert.strictEqual(yield* stateOf(other, ns, "k"), "fresh")
        assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k", "loaded"), fence)]), [true])
        assert.strictEqual(yield* stateOf(store, ns, "k"), "fresh")
      })
    )

    it.effect(`${name}: in one transaction, what is set before it goes, and what is set after it stays`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const ns = namespace()
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.write(ns, [row("k before", 1), row("k again", 1)])
            yield* apply(store, ns)
            yield* store.write(ns, [row("k after", 1), row("k again", 2)])
            assert.strictEqual(yield* stateOf(store, ns, "k before"), leaves)
            assert.strictEqual(yield* stateOf(store, ns, "k after"), "fresh")
          })
        )
        assert.strictEqual(yield* stateOf(store, ns, "k before"), leaves)
        assert.strictEqual(yield* stateOf(store, ns, "k after"), "fresh")
        assert.strictEqual(yield* stateOf(store, ns, "k again"), "fresh")
      })
    )

    it.effect(`${name}: a key that is expired in the same transaction afterwards does not come back`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const ns = namespace()
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.write(ns, [row("k", 1)])
            yield* apply(store, ns)
            yield* store.remove(ns, ["k"], true)
          })
        )
        assert.strictEqual(yield* stateOf(store, ns, "k"), leaves)
      })
    )

    it.effect(`${name}: a set that was sent before it, and is carried out later, is not stored blindly`, () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        yield* fenceOf(store, ns, "k")
        yield* apply(other, ns)
        // It has not seen the mark: it looks again, and then it is the later one.
        yield* store.write(ns, [row("k", "later")])
        assert.strictEqual(yield* stateOf(other, ns, "k"), "fresh")
      })
    )

    it.effect(`${name}: others can use the rows that it covers while its transaction is open`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        yield* store.write(ns, [row("k", 1), row("k too", 1)])
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* apply(store, ns)
            yield* other.write(ns, [row("k", 2)])
            assert.deepStrictEqual(yield* other.remove(ns, ["k too"]), [true])
          })
        )
        // The write came before the commit of the mark.
        assert.strictEqual(yield* stateOf(other, ns, "k"), leaves)
      })
    )
  }

  it.effect("a load that brings other tags than it replaces does not outlive an invalidation of those", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      for (const refills of [1, 2]) {
        const ns = namespace()
        yield* store.write(ns, [row("k", "old", { tags: ["t"] })])
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.removeTagged(ns, ["t"])
            for (let refill = 0; refill < refills; refill++) {
              const fence = yield* fenceOf(other, ns, "k")
              const refilled = fenced(row("k", "old still", { tags: [`${refill}`] }), fence)
              assert.deepStrictEqual(yield* other.fill(ns, [refilled]), [true])
            }
          })
        )
        assert.strictEqual(yield* stateOf(other, ns, "k"), "nothing")
        yield* untilClosed(store)
        assert.strictEqual(yield* stateOf(other, ns, "k"), "nothing")
        const fence = yield* fenceOf(other, ns, "k")
        assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k", "new", { tags: ["u"] }), fence)]), [true])
        assert.strictEqual(yield* store.removeTagged(ns, ["t"]), 0)
        assert.strictEqual(yield* stateOf(other, ns, "k"), "fresh")
      }
    })
  )

  it.effect("what has other tags at each load is stored all the same while somebody's transaction stays open", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      const refill = (tag: string) =>
        Effect.flatMap(fenceOf(other, ns, "k"), (fence) =>
          other.fill(ns, [fenced(row("k", tag, { tags: [tag] }), fence)])
        )
      const formerTags = Effect.map(
        sql<{ former_tags: ReadonlyArray<string> }>`select former_tags from cache_entries where namespace = ${ns}`,
        ([found]) => found!.former_tags
      )
      yield* store.write(ns, [row("k", "old")])
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`select pg_current_xact_id()::text`
          for (let i = 0; i < 3; i++) assert.deepStrictEqual(yield* refill(`${i}`), [true])
          assert.deepStrictEqual(yield* formerTags, ["t", "0", "1"])
          assert.deepStrictEqual(yield* refill("2"), [true])
          assert.deepStrictEqual(yield* formerTags, ["t", "0", "1"])
          for (let i = 3; i < 200; i++) yield* refill(`${i}`)
          assert.strictEqual((yield* formerTags).length, 100)
        })
      )
      // Other tests have transactions too.
      yield* Effect.repeat(refill("last"), { until: ([isStored]) => isStored! })
      assert.deepStrictEqual(yield* formerTags, ["99"])
    })
  )

  it.effect(
    "while a transaction stays open, what had the tag of a former value costs a load from before no more than a miss",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        const fill = (data: string, fence: Fence) => other.fill(ns, [fenced(row("k", data, { tags: ["c"] }), fence)])
        yield* store.write(ns, [row("k", "old", { tags: ["a"] })])
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`select pg_current_xact_id()::text`
            assert.deepStrictEqual(yield* fill("first", yield* fenceOf(other, ns, "k")), [true])
            const before = yield* fenceOf(other, ns, "k")
            assert.strictEqual(yield* other.removeTagged(ns, ["a"]), 0)
            yield* fill("from before", before)
            assert.strictEqual(yield* stateOf(other, ns, "k"), "nothing")
            assert.deepStrictEqual(yield* fill("from after", yield* fenceOf(other, ns, "k")), [true])
            assert.strictEqual(yield* stateOf(other, ns, "k"), "fresh")
          })
        )
      })
  )

  it.effect("tags of any length and of any characters are each a tag of its own", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      // What does not compress is what does not fit into an index.
      const noise = Array.from({ length: 10_000 }, (_, i) => String.fromCharCode(33 + ((i * i * 7919) % 1009))).join("")
      const tags = [
        noise,
        `${noise}x`,
        noise.slice(0, 1024),
        noise.slice(0, 1025),
        "é".repeat(5000),
        "\u0000",
        '😀{},"\\'
      ]
      yield* store.write(
        ns,
        tags.map((tag, i) => row(`k${i}`, i, { tags: ["other", tag] }))
      )
      for (const [i, tag] of tags.entries()) {
        const [read] = yield* store.read(ns, [`k${i}`])
        assert.deepStrictEqual(read?._tag === "Row" && read.tags, ["other", tag])
        assert.strictEqual(yield* store.removeTagged(ns, [tag]), 1)
        assert.strictEqual(yield* stateOf(store, ns, `k${i}`), "nothing")
      }
    })
  )

  for (const isolation of ["repeatable read", "serializable"] as const) {
    it.effect(`${isolation}: who does not see that others have deleted a row sees its own in its place`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        for (const change of ["write", "remove"] as const) {
          const ns = namespace()
          // The new row finds room before the old one.
          yield* store.write(ns, [row("filler", 1)])
          yield* store.write(ns, [row("k", "old")])
          yield* sql`delete from cache_entries where namespace = ${ns} and cache_key = 'filler'`
          yield* sql.unsafe("vacuum cache_entries")
          yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* begin(isolation)
              yield* other.clear(ns)
              if (change === "write") yield* store.write(ns, [row("k", "new")])
              else yield* store.remove(ns, ["k"])
              const [read] = yield* store.read(ns, ["k"])
              assert.strictEqual(read?._tag === "Row" && read.data, change === "write" && '"new"')
              const listed = yield* Stream.runCollect(store.scan(ns))
              assert.strictEqual(listed.length, change === "write" ? 1 : 0)
            })
          )
        }
      })
    )
  }

  it.effect("a fence from before a restart of the server holds nothing", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const fence = yield* fenceOf(store, ns, "k")
      const [, snapshot] = fence.snapshot.split("/")
      const older = { ...fence, snapshot: `1.5/${snapshot}` }
      assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", 1), older)]), [false])
      assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", 1), fence)]), [true])
    })
  )

  it.effect("numbers of entries are exact up to ten thousand, and near above", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const more = (from: number, to: number) => sql`
        insert into cache_entries (namespace, cache_key, data, created_at, version, loaded_in, tags)
        select ${ns}, 'k' || i, '1', now(), nextval('cache_versions'), pg_current_snapshot(), '{t}'
        from generate_series(${from}::int, ${to}::int) i
      `
      yield* more(1, 10_000)
      assert.strictEqual(yield* store.removeTagged(ns, ["t"]), 10_000)
      yield* more(10_001, 60_000)
      assert.approximately(yield* store.removeMatching(ns, anyKey), 50_000, 10_000)
      assert.strictEqual(yield* store.clear(ns), 0)
    })
  )
})

layer(Postgres, { timeout: "60 seconds" })("Sweeping marks", (it) => {
  const open = (ns: string) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [found] = yield* sql<{ count: number }>`
        select count(*)::int4 as count from cache_log where namespace = ${ns} and is_open
      `
      return found!.count
    })
  const rowsOf = (ns: string) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const rows = yield* sql<{
        key: string
      }>`select cache_key as key from cache_entries where namespace = ${ns} and data is not null order by 1`
      return rows.map(({ key }) => key)
    })

  for (const [name, { apply, leaves }] of Object.entries(marks)) {
    it.effect(`${name}: what it covers is swept, and the mark closed once no load can be older`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const ns = namespace()
        yield* store.write(ns, [row("k 1", 1), row("k 2", 1), row("k 3", 1)])
        yield* store.write(`${ns} too`, [row("k", 1, { tags: [] })])
        const late = yield* fenceOf(store, ns, "k late")
        yield* sql.withTransaction(apply(store, ns))
        assert.deepStrictEqual(yield* rowsOf(ns), ["k 1", "k 2", "k 3"])
        yield* store.write(ns, [row("k 2", 2)])
        yield* store.sweep(100)
        assert.deepStrictEqual(yield* rowsOf(ns), leaves === "nothing" ? ["k 2"] : ["k 1", "k 2", "k 3"])
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k late", 1), late)]), [false])
        yield* untilClosed(store)
        assert.strictEqual(yield* open(ns), 0)
        assert.deepStrictEqual(yield* Effect.forEach(["k 1", "k 2", "k 3"], (key) => stateOf(store, ns, key)), [
          leaves,
          "fresh",
          leaves
        ])
      })
    )
  }

  it.effect("a mark stays open while a transaction that may be older is", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      yield* sql
        .withTransaction(
          Effect.gen(function* () {
            yield* store.write(ns, [row("k", 1)])
            yield* other.clear(ns)
            yield* letSettle(other)
            assert.strictEqual(yield* open(ns), 1)
          })
        )
        .pipe(Effect.provide(Database.layerClient({ maxConnections: 2 })))
      yield* untilClosed(other)
      assert.strictEqual(yield* open(ns), 0)
    })
  )

  for (const [name, { apply, leaves }] of Object.entries(marks)) {
    it.effect(
      `${name}: while somebody holds a row that it covers, the sweeper does not wait, and the mark stays open`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const store = yield* CacheStore
          const other = yield* elsewhere
          const ns = namespace()
          yield* store.write(ns, [row("k 1", 1), row("k 2", 1)])
          yield* sql.withTransaction(apply(store, ns))
          yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* sql`select from cache_entries where namespace = ${ns} and cache_key = 'k 1' for update`
              const settled = Effect.provide(letSettle(other), Database.layerClient({ maxConnections: 1 }))
              yield* settled
              yield* settled
              assert.isAtLeast(yield* openMarks, 1)
              assert.strictEqual(yield* stateOf(other, ns, "k 1"), leaves)
              assert.strictEqual(yield* stateOf(other, ns, "k 2"), leaves)
            })
          )
          yield* untilClosed(store)
          assert.strictEqual(yield* stateOf(other, ns, "k 1"), leaves)
        })
    )
  }

  it.effect("large ones are deleted in parts, and meanwhile nobody sees what is left", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* sql`
        insert into cache_entries (namespace, cache_key, data, created_at, version, loaded_in, tags)
        select ${ns}, 'k' || i, '1', now(), nextval('cache_versions'), pg_current_snapshot(), '{t}'
        from generate_series(1, 3500) i
      `
      assert.strictEqual(yield* store.removeTagged(ns, ["t"]), 3500)
      assert.strictEqual((yield* rowsOf(ns)).length, 2500)
      assert.deepStrictEqual(yield* Stream.runCollect(store.scan(ns)), [])
      const swept = yield* sql<{ removed: bigint; is_done: boolean }>`select * from cache_sweep_marks(600000, 1000)`
      assert.deepStrictEqual(swept, [{ removed: 1000n, is_done: false }])
      yield* store.sweep(100_000)
      assert.deepStrictEqual(yield* rowsOf(ns), [])
    })
  )

  it.effect("what a mark covers is deleted to the last key, however little at a time", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const sweepWith = (limit: number) =>
        sql<{ is_done: boolean }>`select is_done from cache_sweep_marks(600000, ${PgTypes.int4(limit)})`.pipe(
          Effect.repeat({ until: ([swept]) => swept!.is_done })
        )
      yield* sql`delete from cache_entries`
      yield* sweepWith(1000)
      const run = Effect.runPromiseWith(yield* Effect.context<PgClient.PgClient>())
      const text = fc.string({ unit: fc.constantFrom("a", "b", " ", "\u0001", "%", "\u{10ffff}"), maxLength: 3 })
      const property = fc.asyncProperty(
        fc.uniqueArray(text, { maxLength: 12 }),
        fc.constantFrom("namespace", "pattern", "all"),
        fc.integer({ min: 1, max: 3 }),
        (keys, kind, limit) =>
          run(
            Effect.gen(function* () {
              const [ns, other] = [namespace(), namespace()]
              yield* store.write(
                ns,
                keys.map((key) => row(key, 1))
              )
              yield* store.write(other, [row("a", 1)])
              if (kind === "namespace") yield* sql`select cache_clear(${ns})`
              if (kind === "pattern") yield* sql`select cache_invalidate_pattern(${ns}, '*')`
              if (kind === "all") yield* sql`select cache_clear_all()`
              yield* sweepWith(limit)
              assert.deepStrictEqual(yield* rowsOf(ns), [])
              assert.strictEqual((yield* rowsOf(other)).length, kind === "all" ? 0 : 1)
            })
          )
      )
      yield* Effect.promise(() => fc.assert(property, { numRuns: 40 }))
    })
  )

  it.effect("the least recently used of too many entries go, but for those that a fence may need", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const bounded = Context.get(
        yield* Layer.build(
          Layer.provide(
            PgCacheStore.layerWith({ maxEntries: 1200, maxSize: 1_000_000 }),
            Database.layerClient({ maxConnections: 2 })
          )
        ),
        CacheStore
      )
      const ns = namespace()
      yield* bounded.clearAll
      yield* letSettle(bounded)
      yield* sql`delete from cache_entries`
      const add = (from: number, to: number, age: string, size: number) => sql`
        insert into cache_entries (namespace, cache_key, data, data_size, created_at, last_accessed, version, loaded_in)
        select
          ${ns}, lpad(i::text, 4, '0'), '1', ${size}::int, now() - ${age}::interval, now() - i * interval '1 s',
          nextval('cache_versions'), pg_current_snapshot()
        from generate_series(${from}::int, ${to}::int) i
      `
      yield* add(1, 1500, "1 hour", 10)
      for (let times = 0; times < 3; times++) yield* bounded.sweep(100_000)
      const left = yield* rowsOf(ns)
      assert.isAtMost(left.length, 1200)
      assert.isAtLeast(left.length, 1190)
      assert.strictEqual(left[0], "0001")
      assert.isAtMost(Number(left.at(-1)), 1210)
      yield* add(2001, 2500, "1 minute", 10_000)
      yield* sql`delete from cache_entries where cache_key between '0500' and '2000'`
      for (let times = 0; times < 3; times++) yield* bounded.sweep(100_000)
      // Too many bytes, but those that have them are too young.
      assert.strictEqual((yield* rowsOf(ns)).filter((key) => key > "2000").length, 500)
      yield* sql`update cache_entries set created_at = now() - interval '1 hour'`
      for (let times = 0; times < 5; times++) yield* bounded.sweep(100_000)
      const [total] = yield* sql<{ bytes: number }>`select sum(data_size)::float8 as bytes from cache_entries`
      assert.isAtMost(total!.bytes, 1_000_000)
      assert.isAtLeast(total!.bytes, 800_000)
    })
  )
})
