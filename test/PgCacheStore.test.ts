import { assert, describe, it, layer } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Context, Deferred, Effect, Fiber, Layer, Logger, Redacted, Stream } from "effect"
import { SqlClient, Statement } from "effect/sql"
import { TestClock } from "effect/testing"
import { CacheError, StoreUnavailable } from "../src/CacheError.ts"
import { CacheStore, type Fence } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import * as PgSweeper from "../src/postgres/PgSweeper.ts"
import { fenced, load, namespace, rearm, retries, row, type Store } from "./suites/storeRows.ts"
import { Database } from "./support/Database.ts"
import { elsewhere } from "./support/elsewhere.ts"
import { untilWaiting } from "./support/untilWaiting.ts"

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections: 10 }))
)

interface Stats {
  readonly namespace: string
  readonly entries: bigint
  readonly bytes: bigint
  readonly average_access_count: number
  readonly last_access: Date
}

const documents = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(ns, keys), (rows) => rows.map((row) => (row._tag === "Row" ? JSON.parse(row.data) : undefined)))

const areArmed = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(retries(store, ns, keys), (times) => times.map((time) => (time ?? 0) > 0))

/** What the effect sends to the database. */
const statements = <A, E, R>(self: Effect.Effect<A, E, R>) => {
  const sent: Array<readonly [text: string, parameters: ReadonlyArray<unknown>]> = []
  return self.pipe(
    Effect.provideService(Statement.CurrentTransformer, (statement) =>
      Effect.sync(() => {
        sent.push(statement.compile())
        return statement
      })
    ),
    Effect.map(() => sent)
  )
}

layer(Postgres, { timeout: "60 seconds" })("PgCacheStore: concurrency", (it) => {
  const changes: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, CacheError>> = {
    remove: (store, ns) => store.remove(ns, ["k"]),
    write: (store, ns) => store.write(ns, [row("k", "written")])
  }
  for (const [change, apply] of Object.entries(changes)) {
    for (const [state, before] of [
      ["absent", []],
      ["there", [row("k", "old")]]
    ] as const) {
      for (const outcome of ["commits", "rolls back"] as const) {
        it.effect(
          `where the row is ${state}, a fill does not wait for the open transaction of a ${change}: it is refused, whether that ${outcome} or not`,
          () =>
            Effect.gen(function* () {
              const sql = yield* PgClient.PgClient
              const store = yield* CacheStore
              const other = yield* elsewhere
              const ns = namespace()
              yield* store.write(ns, before)
              const { fence } = yield* load(other, ns, "k")
              yield* Effect.gen(function* () {
                yield* apply(store, ns)
                assert.deepStrictEqual(yield* other.fill(ns, [fenced(row("k", "late"), fence)]), [false])
                if (outcome === "rolls back") return yield* Effect.fail("rolled back")
              }).pipe(sql.withTransaction, Effect.ignore)
              const left = outcome === "rolls back" ? before[0] && "old" : change === "write" ? "written" : undefined
              assert.deepStrictEqual(yield* documents(store, ns, ["k"]), [left])
              const again = yield* other.fill(ns, [fenced(row("k", "late"), fence)])
              assert.deepStrictEqual(again, [outcome === "rolls back"])
            })
        )
      }
    }
  }

  for (const everything of [false, true]) {
    const name = everything ? "clearAll" : "clear"
    it.effect(
      `a fill during the open transaction of a ${name} is invisible once that commits, not if it rolls back`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const store = yield* CacheStore
          const other = yield* elsewhere
          for (const commits of [true, false]) {
            const ns = namespace()
            const { fence } = yield* load(other, ns, "k")
            yield* Effect.gen(function* () {
              yield* everything ? store.clearAll : store.clear(ns)
              yield* other.fill(ns, [fenced(row("k", "late"), fence)])
              assert.deepStrictEqual(yield* documents(other, ns, ["k"]), ["late"])
              assert.deepStrictEqual(yield* documents(store, ns, ["k"]), [undefined])
              if (!commits) return yield* Effect.fail("rolled back")
            }).pipe(sql.withTransaction, Effect.ignore)
            for (const each of [store, other]) {
              assert.deepStrictEqual(yield* documents(each, ns, ["k"]), [commits ? undefined : "late"])
            }
          }
        })
    )
  }

  it.effect("a server that answers without the table is not well", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      yield* store.ping
      const error = yield* Effect.acquireUseRelease(
        sql`alter table cache_entries rename to cache_entries_away`,
        () => Effect.flip(store.ping),
        () => Effect.orDie(sql`alter table cache_entries_away rename to cache_entries`)
      )
      assert.strictEqual(error.reason._tag, "StoreUnavailable")
      yield* store.ping
    })
  )

  it.effect("of many fills under one fence exactly one is stored", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      for (const before of [[], [row("k", "old", { timeToLive: 0 })]]) {
        const ns = namespace()
        yield* store.write(ns, before)
        const { fence } = yield* load(store, ns, "k")
        const filled = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) => store.fill(ns, [fenced(row("k", i), fence)]),
          { concurrency: "unbounded" }
        )
        const winner = filled.findIndex(([stored]) => stored)
        assert.strictEqual(filled.flat().filter(Boolean).length, 1)
        assert.deepStrictEqual(yield* documents(store, ns, ["k"]), [winner])
      }
    })
  )

  it.effect("fifty calls at once on the same keys in any order never deadlock", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const keys = Array.from({ length: 40 }, (_, i) => `k${i}`)
      const order = (call: number) => keys.map((_, i) => keys[(i * (call % 2 === 0 ? 7 : 33) + call) % keys.length]!)
      yield* Effect.forEach(
        Array.from({ length: 50 }, (_, i) => i),
        (i) => {
          const rows = order(i).map((key) => row(key, i))
          switch (i % 6) {
            case 0:
              return store.remove(ns, order(i))
            case 1:
              return store.clear(ns)
            case 2:
              return Effect.flatMap(store.read(ns, order(i)), (read) =>
                store.fill(
                  ns,
                  read.map(({ fence }, j) => fenced(rows[j]!, fence))
                )
              )
            case 3:
              return rearm(store, ns, order(i), 60_000)
            default:
              return store.write(ns, rows)
          }
        },
        { concurrency: "unbounded" }
      )
      yield* store.write(
        ns,
        keys.map((key) => row(key, "last"))
      )
      assert.strictEqual(yield* store.clear(ns), keys.length)
    })
  )

  it.effect("clear waits for no row, and what it leaves behind is invisible", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      const keys = ["a", "b", "c"]
      yield* store.write(
        ns,
        keys.map((key) => row(key, 1))
      )
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`select from cache_entries where namespace = ${ns} and cache_key = 'b' for update`
          assert.strictEqual(yield* other.clear(ns), 3)
        })
      )
      assert.deepStrictEqual(yield* documents(store, ns, keys), [undefined, undefined, undefined])
      assert.strictEqual(yield* store.clear(ns), 0)
    })
  )

  it.effect("a rearm waits for no row, and leaves out those that somebody is changing", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      const keys = ["d", "c", "b", "a"]
      yield* store.write(
        ns,
        keys.map((key) => row(key, 1, { timeToLive: 0, staleFor: 60_000 }))
      )
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* store.write(ns, [row("b", 2, { timeToLive: 0, staleFor: 60_000 })])
          yield* store.remove(ns, ["c"])
          yield* rearm(other, ns, keys, 60_000)
          assert.deepStrictEqual(yield* areArmed(other, ns, keys), [true, false, false, true])
        })
      )
      assert.deepStrictEqual(yield* areArmed(store, ns, keys), [true, false, false, true])
      assert.deepStrictEqual(yield* documents(store, ns, keys), [1, undefined, 2, 1])
    })
  )

  it.effect("of a fill and a rearm at once, the fill is stored and nothing of the rearm is left on it", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      const keys = Array.from({ length: 200 }, (_, i) => `k${i}`)
      yield* store.write(
        ns,
        keys.map((key) => row(key, "old", { timeToLive: 0, staleFor: 60_000 }))
      )
      const read = yield* store.read(ns, keys)
      const filled = yield* Effect.forEach(
        keys,
        (key, i) => {
          const { fence } = read[i]!
          const arm = other.rearm(ns, [{ key, fence, retryAfter: 60_000 }])
          const fill = store.fill(ns, [fenced(row(key, "new"), fence)])
          return Effect.map(Effect.all([arm, fill, arm], { concurrency: 3 }), ([, stored]) => stored[0])
        },
        { concurrency: 4 }
      )
      assert.deepStrictEqual(
        filled,
        keys.map(() => true)
      )
      assert.deepStrictEqual(
        yield* areArmed(store, ns, keys),
        keys.map(() => false)
      )
    })
  )

  const afterNotes: Record<string, (store: Store, ns: string, fence: Fence) => Effect.Effect<unknown, unknown>> = {
    "expire keeps what is stale": (store, ns) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* store.remove(ns, ["k"], true), [true])
        assert.deepStrictEqual(yield* documents(store, ns, ["k"]), ["reserve"])
      }),
    "a fill is stored": (store, ns, fence) =>
      Effect.map(store.fill(ns, [fenced(row("k", "new"), fence)]), (stored) => assert.deepStrictEqual(stored, [true])),
    "a lease is given back": (store, ns, fence) =>
      Effect.gen(function* () {
        yield* store.release(ns, ["k"], "one")
        assert.deepStrictEqual(yield* store.acquire(ns, [{ key: "k", fence }], { owner: "two", duration: 60_000 }), [
          { _tag: "Granted" }
        ])
      }),
    "a lease is granted": (store, ns, fence) =>
      Effect.gen(function* () {
        const answers = yield* store.acquire(ns, [{ key: "k", fence }], { owner: "one", duration: 60_000 })
        assert.deepStrictEqual(answers, [{ _tag: "Granted" }])
      })
  }
  for (const [name, check] of Object.entries(afterNotes)) {
    it.effect(`${name} although others make a note on the row meanwhile`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        yield* store.write(ns, [row("k", "reserve", { staleFor: 60_000 })])
        const { fence } = yield* load(store, ns, "k")
        const one = { owner: "one", duration: 60_000 }
        assert.deepStrictEqual(yield* store.acquire(ns, [{ key: "k", fence }], one), [{ _tag: "Granted" }])
        const checking = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.touch(ns, [{ key: "k", count: 1 }])
            const checking = yield* Effect.forkDetach(check(other, ns, fence), { startImmediately: true })
            yield* untilWaiting(1)
            return checking
          })
        )
        yield* Fiber.join(checking)
      })
    )
  }

  for (const [state, rows] of [
    ["absent", []],
    ["stale", [row("b", "old", { timeToLive: 0, staleFor: 60_000 })]]
  ] as const) {
    it.effect(
      `who asks for the lease on what is ${state} while one gets it, and another notes to wait, is told that it is held`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const store = yield* CacheStore
          const ns = namespace()
          yield* store.write(ns, [row("a", "in use"), ...rows])
          const wanted = (yield* store.read(ns, ["a", "b"])).map(({ fence }, i) => ({ key: "ab"[i]!, fence }))
          const ask = (owner: string, from: number) =>
            Effect.map(store.acquire(ns, wanted.slice(from), { owner, duration: 60_000 }), (grants) =>
              grants.map(({ _tag }) => _tag)
            )
          const isUsed = yield* Deferred.make<void>()
          const end = yield* Deferred.make<void>()
          const using = yield* store
            .touch(ns, [{ key: "a", count: 1 }])
            .pipe(
              Effect.andThen(Deferred.succeed(isUsed, undefined)),
              Effect.andThen(Deferred.await(end)),
              sql.withTransaction,
              Effect.forkChild
            )
          yield* Deferred.await(isUsed)
          // In a transaction it waits for as long as that takes; what comes meanwhile its statement does not see.
          const asking = yield* Effect.forkChild(sql.withTransaction(ask("one", 0)))
          yield* untilWaiting(1)
          assert.deepStrictEqual(yield* ask("two", 1), ["Granted"])
          assert.deepStrictEqual(yield* ask("three", 1), ["Held"])
          yield* Deferred.succeed(end, undefined)
          yield* Fiber.join(using)
          assert.deepStrictEqual(yield* Fiber.join(asking), ["Granted", "Held"])
        })
    )
  }

  it.effect(
    "a removal that meets a transaction which changes the same keys in another order gives way, and is done",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const other = yield* elsewhere
        const ns = namespace()
        yield* store.write(ns, [row("a", 1), row("b", 1)])
        const removing = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.touch(ns, [{ key: "b", count: 1 }])
            const removing = yield* Effect.forkDetach(other.remove(ns, ["a", "b"]), { startImmediately: true })
            yield* untilWaiting(1)
            // Until the server finds out: who has waited for a second by then is the victim.
            yield* store.remove(ns, ["a"])
            return removing
          })
        )
        assert.deepStrictEqual(yield* Effect.orDie(Fiber.join(removing)), [false, true])
        assert.deepStrictEqual(yield* documents(store, ns, ["a", "b"]), [undefined, undefined])
        // On a machine that stalls it is the transaction.
      }).pipe(Effect.retry({ times: 5 }))
  )

  it.effect("an interrupted call gives its connection back", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const context = yield* Layer.build(
        Layer.provide(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 1 }))
      )
      const narrow = Context.get(context, CacheStore)
      const store = yield* CacheStore
      yield* Effect.gen(function* () {
        yield* store.write(ns, [row("k", "first")])
        for (const call of [narrow.remove(ns, ["k"]), narrow.write(ns, [row("k", "second")])]) {
          const fiber = yield* Effect.forkDetach(call)
          yield* untilWaiting(1)
          yield* Fiber.interrupt(fiber)
          yield* narrow.ping
        }
      }).pipe(sql.withTransaction)
      assert.deepStrictEqual(yield* documents(narrow, ns, ["k"]), ["first"])
    })
  )
})

layer(Postgres, { timeout: "60 seconds" })("PgCacheStore: transactions", (it) => {
  it.effect("write, remove and clear are seen elsewhere once the transaction commits", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const [a, b] = [namespace(), namespace()]
      yield* store.write(a, [row("removed", 1), row("kept", 1)])
      yield* store.write(b, [row("cleared", 1)])
      yield* sql.withTransaction(
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* store.remove(a, ["removed"]), [true])
          yield* store.write(a, [row("kept", 2), row("new", 2)])
          assert.strictEqual(yield* store.clear(b), 1)
          assert.deepStrictEqual(yield* documents(store, a, ["removed", "kept", "new"]), [undefined, 2, 2])
          assert.deepStrictEqual(yield* documents(other, a, ["removed", "kept", "new"]), [1, 1, undefined])
          assert.deepStrictEqual(yield* documents(other, b, ["cleared"]), [1])
        })
      )
      assert.deepStrictEqual(yield* documents(other, a, ["removed", "kept", "new"]), [undefined, 2, 2])
      assert.deepStrictEqual(yield* documents(other, b, ["cleared"]), [undefined])
    })
  )

  it.effect("write, remove, clear and clearAll are undone when the transaction or the savepoint rolls back", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const [a, b] = [namespace(), namespace()]
      yield* store.write(a, [row("removed", 1), row("kept", 1)])
      yield* store.write(b, [row("cleared", 1)])
      const { fence } = yield* load(store, a, "removed")
      const undone = Effect.gen(function* () {
        yield* store.remove(a, ["removed"])
        yield* store.write(a, [row("kept", 2), row("new", 2)])
        yield* store.clear(b)
        yield* store.clearAll
        assert.deepStrictEqual(yield* documents(store, a, ["removed", "kept", "new"]), [
          undefined,
          undefined,
          undefined
        ])
        return yield* Effect.fail("undone")
      }).pipe(sql.withTransaction, Effect.ignore)
      yield* undone
      yield* sql.withTransaction(Effect.andThen(store.write(b, [row("outer", 1)]), undone))
      assert.deepStrictEqual(yield* documents(store, a, ["removed", "kept", "new"]), [1, 1, undefined])
      assert.deepStrictEqual(yield* documents(store, b, ["cleared", "outer"]), [1, 1])
      assert.deepStrictEqual(yield* store.fill(a, [fenced(row("removed", 3), fence)]), [true])
    })
  )

  it.effect("what is to run after the commit does so, and never where there is none", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const other = yield* elsewhere
      const ns = namespace()
      const seen: Array<unknown> = []
      const act = Effect.gen(function* () {
        assert.isTrue(store.inTransaction(yield* Effect.context()))
        assert.isFalse(other.inTransaction(yield* Effect.context()))
        yield* store.write(ns, [row("k", 1)])
        yield* store.afterCommit(
          Effect.flatMap(Effect.orDie(documents(other, ns, ["k"])), ([document]) =>
            Effect.sync(() => seen.push(document))
          )
        )
        assert.deepStrictEqual(seen, [])
      })
      yield* act.pipe(Effect.andThen(Effect.fail("rolled back")), sql.withTransaction, Effect.ignore)
      assert.deepStrictEqual(seen, [])
      yield* sql.withTransaction(act)
      assert.deepStrictEqual(seen, [1])
      assert.isFalse(store.inTransaction(yield* Effect.context()))
    })
  )

  it.effect("reading and listing write nothing", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("a", 1), row("b", 1, { timeToLive: 0 })])
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* documents(store, ns, ["a", "b", "c"]), [1, undefined, undefined])
        assert.strictEqual((yield* Stream.runCollect(store.scan(ns))).length, 1)
      }).pipe(sql.withTransaction, Effect.provideService(SqlClient.BeginTransaction, "BEGIN READ ONLY"))
    })
  )
})

layer(Postgres, { timeout: "60 seconds" })("PgCacheStore: statements", (it) => {
  it.effect("each call is one statement, and its text does not depend on the number of keys", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const callsOn = (keys: ReadonlyArray<string>): ReadonlyArray<Effect.Effect<unknown, CacheError>> => [
        store.read(ns, keys),
        store.fill(
          ns,
          keys.map((key) => fenced(row(key, 1), { version: 0, snapshot: "0/1:1:", takenAt: Date.now() }))
        ),
        store.write(
          ns,
          keys.map((key) => row(key, 1))
        ),
        store.rearm(
          ns,
          keys.map((key) => ({ key, fence: { version: 0, snapshot: "0/1:1:", takenAt: 0 }, retryAfter: 1 }))
        ),
        store.remove(ns, keys),
        store.clear(ns),
        store.clearAll,
        store.ping,
        Stream.runDrain(store.scan(ns))
      ]
      const texts = (keys: ReadonlyArray<string>) =>
        Effect.forEach(callsOn(keys), (call) => Effect.map(statements(call), (sent) => sent.map(([text]) => text)))
      // The first read in a namespace that has been cleared hears of that, and asks anew.
      yield* Effect.andThen(store.clear(ns), store.read(ns, ["a"]))
      const one = yield* texts(["a"])
      const many = yield* texts(["a", "b", "x".repeat(2000), "c"])
      for (const sent of one) assert.strictEqual(sent.length, 1)
      // The log, the marks, and one range of the entries.
      assert.strictEqual((yield* statements(store.sweep(100))).length, 3)
      assert.deepStrictEqual(many, one)
    })
  )

  it.effect("a read is two statements only where marks have come since the last one", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const sent = Effect.suspend(() => Effect.map(statements(store.read(ns, ["k"])), ({ length }) => length))
      yield* sql`update cache_log set is_open = false`
      yield* store.write(ns, [row("k", 1)])
      assert.strictEqual(yield* sent, 1)
      yield* store.clear(ns)
      assert.strictEqual(yield* sent, 2)
      assert.strictEqual(yield* sent, 1)
      assert.deepStrictEqual(yield* documents(store, ns, ["k"]), [undefined])
      yield* store.clear(`not ${ns}`)
      yield* sql`update cache_log set is_open = false where namespace = ${ns}`
      assert.strictEqual(yield* sent, 1)
      assert.strictEqual(yield* sent, 1)
      yield* store.clearAll
      assert.strictEqual(yield* sent, 2)
    })
  )

  it.effect("the planner plans a call a few times, then never again", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        Layer.provideMerge(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 1 }))
      )
      const store = Context.get(context, CacheStore)
      const sql = Context.get(context, PgClient.PgClient)
      const ns = namespace()
      for (let i = 0; i < 20; i++) {
        const keys = Array.from({ length: 1 + (i % 3) }, (_, j) => `k${i + j}`)
        const rows = keys.map((key) => row(key, 1))
        const found = yield* store.read(ns, keys)
        yield* store.fill(
          ns,
          found.map(({ fence }, j) => fenced(rows[j]!, fence))
        )
        yield* store.write(ns, rows)
        yield* store.rearm(
          ns,
          found.map(({ fence }, j) => ({ key: keys[j]!, fence, retryAfter: 1000 }))
        )
        yield* store.remove(ns, keys)
      }
      const plans = yield* sql<{ custom: number; generic: number }>`
        select custom_plans::int4 as custom, generic_plans::int4 as generic
        from pg_prepared_statements where statement like '%cache_entries%' and custom_plans + generic_plans > 10
      `
      assert.isAtLeast(plans.length, 4)
      for (const { custom, generic } of plans) assert.isAbove(generic, custom)
    })
  )

  it.effect("storing a row anew and rearming it touch no index", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("k", 1, { timeToLive: 0, staleFor: 60_000 })])
      const updates = Effect.map(
        sql<{ updated: number; hot: number }>`
          select
            pg_stat_get_xact_tuples_updated('cache_entries'::regclass)::int4 as updated,
            pg_stat_get_xact_tuples_hot_updated('cache_entries'::regclass)::int4 as hot
        `,
        (rows) => rows[0]!
      )
      yield* sql.withTransaction(
        Effect.gen(function* () {
          const before = yield* updates
          yield* rearm(store, ns, ["k"], 60_000)
          yield* store.write(ns, [row("k", 2, { timeToLive: 0, staleFor: 1000, validators: { etag: "x" } })])
          yield* rearm(store, ns, ["k"], 60_000)
          const after = yield* updates
          assert.deepStrictEqual([after.updated - before.updated, after.hot - before.hot], [3, 3])
        })
      )
    })
  )

  it.effect("a read and a rearm go by the primary key", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const rows = Array.from({ length: 5000 }, (_, i) => row(`k${i}`, i))
      yield* store.write(ns, rows)
      yield* sql`analyze cache_entries`
      for (const keys of [["k1"], ["k1", "k2", "none"]]) {
        const read = yield* store.read(ns, keys)
        const armed = read.map(({ fence }, i) => ({ key: keys[i]!, fence, retryAfter: 1000 }))
        for (const call of [store.read(ns, keys), store.rearm(ns, armed)]) {
          const [[text, parameters] = ["", []]] = yield* statements<unknown, CacheError, never>(call)
          const plan = yield* sql.unsafe<{ "QUERY PLAN": string }>(`explain ${text}`, parameters)
          const lines = plan.map((line) => line["QUERY PLAN"]).join("\n")
          assert.include(lines, "cache_entries_pkey")
          assert.notInclude(lines, "Seq Scan on cache_entries")
        }
      }
    })
  )

  it.effect("what is planned while the table is empty reads none of it whole when it has grown", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const [{ fence } = assert.fail()] = yield* store.read("n", ["k"])
      const lease = { owner: "me", duration: 1000 }
      const calls: Record<string, Effect.Effect<unknown, CacheError>> = {
        read: store.read("n", ["k", "l"]),
        rearm: store.rearm("n", [{ key: "k", fence, retryAfter: 1000 }]),
        acquire: store.acquire("n", [{ key: "k", fence }], lease),
        renew: store.renew("n", ["k"], lease),
        release: store.release("n", ["k"], "me"),
        fill: store.fill("n", [fenced(row("k", 1), fence)]),
        touch: store.touch("n", [{ key: "k", count: 1 }]),
        write: store.write("n", [row("k", 1)]),
        expire: store.remove("n", ["k"], true),
        remove: store.remove("n", ["k"]),
        removeTagged: store.removeTagged("n", ["t"])
      }
      const whole: Array<string> = []
      for (const [name, call] of Object.entries(calls)) {
        for (const [text, parameters] of yield* statements(call)) {
          const plan = yield* sql`set local plan_cache_mode = force_generic_plan`.pipe(
            Effect.andThen(sql.unsafe<{ "QUERY PLAN": string }>(`explain ${text}`, parameters)),
            sql.withTransaction
          )
          if (plan.some((line) => line["QUERY PLAN"].includes("Seq Scan on cache_entries"))) whole.push(name)
        }
      }
      assert.deepStrictEqual(whole, [])
    }).pipe(Effect.provide(Layer.fresh(Postgres), { local: true }))
  )

  it.effect("the view cache_stats counts live rows only", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      yield* store.clearAll
      const [a, b, c] = [namespace(), namespace(), namespace()]
      yield* store.write(c, [row("cleared", 1)])
      yield* store.clear(c)
      yield* store.clear(a)
      yield* store.write(a, [
        row("a", 1, { size: 10, timeToLive: Infinity }),
        row("b", 1, { size: 32, timeToLive: 0, staleFor: 60_000 }),
        row("expired", 1, { timeToLive: 0 }),
        row("removed", 1)
      ])
      yield* store.remove(a, ["removed"])
      yield* store.write(b, [row("a", 1, { size: 5 })])
      yield* store.write(c, [row("left behind", 1)])
      yield* sql`insert into cache_log (kind, namespace, is_open) values ('namespace', ${c}, true)`
      yield* sql`update cache_entries set access_count = 4, last_accessed = '2100-01-01Z' where namespace = ${a} and cache_key = 'b'`
      const stats = yield* sql<Stats>`select * from cache_stats order by namespace`
      assert.deepStrictEqual(
        stats.map((stats) => [stats.namespace, stats.entries, stats.bytes, stats.average_access_count]),
        [
          [a, 2n, 42n, 2],
          [b, 1n, 5n, 0]
        ]
      )
      assert.strictEqual(stats[0]?.last_access.getTime(), Date.UTC(2100, 0, 1))
    })
  )

  it.effect("a tombstone keeps nothing of the value that it replaced", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const lives = { timeToLive: 0, staleFor: Infinity, loadTime: 5 }
      yield* store.write(ns, [row("k", 1, { ...lives, isFailure: true, validators: { etag: "x" }, tags: ["t"] })])
      yield* rearm(store, ns, ["k"], 60_000)
      yield* store.remove(ns, ["absent", "k"])
      const tombstones = yield* sql`
        select
          data, is_failure, data_size, schema_version, stale_until = expires_at as is_over_at_once,
          retry_at, load_time, access_count, validators, tags
        from cache_entries where namespace = ${ns}
      `
      assert.strictEqual(tombstones.length, 2)
      assert.deepStrictEqual(tombstones[0], tombstones[1])
      assert.strictEqual(tombstones[0]?.is_over_at_once, true)
    })
  )

  it.effect("a long key is stored under its beginning, so that people can read it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const key = `a${"😀".repeat(300)}`
      yield* store.write(ns, [row(key, 1)])
      const [stored] = yield* sql<{ cache_key: string; long_key: string }>`
        select cache_key, long_key from cache_entries where namespace = ${ns}
      `
      assert.match(stored!.cache_key, /^a(😀){255}:sha256:[0-9a-f]{64}$/u)
      assert.strictEqual(stored!.long_key, key)
    })
  )

  it.effect("rows that somebody else wrote are read as far as they make sense", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.clearAll
      yield* sql`
        insert into cache_entries (namespace, cache_key, data, created_at, version, loaded_in)
        select ${ns}, k, d::jsonb, now() + interval '1 day', nextval('cache_versions'), pg_current_snapshot()
        from unnest(
          ${["mark", "tombstone"]}::text[], ${[String.raw`"\u001a"`, null]}::text[]
        ) as u (k, d)
      `
      assert.deepStrictEqual(yield* documents(store, ns, ["mark", "tombstone"]), ["\u001a", undefined])
    })
  )

  it.effect("a client that renames columns changes nothing", () =>
    Effect.gen(function* () {
      const ns = namespace()
      const client = Database.layerClient({ transformResultNames: (name) => name.toUpperCase() })
      const store = Context.get(yield* Layer.build(Layer.provide(PgCacheStore.layerWith({}), client)), CacheStore)
      yield* store.write(ns, [row("a", { snake_case: 1 }, { tags: ["t"], validators: { snake_case: "x" } })])
      assert.deepStrictEqual(yield* documents(store, ns, ["a"]), [{ snake_case: 1 }])
      assert.deepStrictEqual(
        (yield* Stream.runCollect(store.scan(ns))).map(({ key, tags }) => [key, tags]),
        [["a", ["t"]]]
      )
      assert.deepStrictEqual(yield* store.remove(ns, ["a"]), [true])
    })
  )
})

describe("PgCacheStore: failures", () => {
  const operations: Record<string, (store: Store) => Effect.Effect<unknown, CacheError>> = {
    read: (store) => store.read("n", ["k"]),
    fill: (store) => store.fill("n", [fenced(row("k", 1), { version: 0, snapshot: "0/1:1:", takenAt: Date.now() })]),
    rearm: (store) =>
      store.rearm("n", [{ key: "k", fence: { version: 0, snapshot: "0/1:1:", takenAt: 0 }, retryAfter: 1 }]),
    write: (store) => store.write("n", [row("k", 1)]),
    remove: (store) => store.remove("n", ["k"]),
    clear: (store) => store.clear("n"),
    scan: (store) => Stream.runDrain(store.scan("n")),
    sweep: (store) => store.sweep(1),
    answer: (store) => store.ping
  }
  const fail = (expected: string, names: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      for (const name of names) {
        const error = yield* Effect.flip(operations[name]!(store))
        assert.strictEqual(error.reason._tag, "StoreUnavailable")
        assert.isTrue(error.isRetryable)
        assert.include(error.message, `could not ${name}:`)
        assert.include(error.message, expected)
      }
    })
  const names = Object.keys(operations)

  it.live("without a server every call says what it could not do, and why", () =>
    Effect.provide(
      fail("ECONNREFUSED", names),
      Layer.provide(PgCacheStore.layer, PgClient.layer({ url: Redacted.make("postgres://me@localhost:1/genes") }))
    )
  )

  it.live("without the tables every call says what it could not do, and why", () =>
    Effect.provide(
      fail(
        "does not exist",
        names.filter((name) => name !== "answer")
      ),
      Layer.provide(PgCacheStore.layer, Layer.fresh(Database.layer({ maxConnections: 1 })))
    )
  )

  it.live("a document that is none is a failure of that call, not a defect", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const error = yield* Effect.flip(store.write("n", [row("good", 1), { ...row("bad", 1), data: "{" }]))
      assert.strictEqual(error.reason._tag, "StoreUnavailable")
      assert.deepStrictEqual(yield* documents(store, "n", ["good"]), [undefined])
    }).pipe(Effect.provide(Layer.fresh(Postgres)))
  )
})

layer(Postgres, { timeout: "60 seconds" })("PgSweeper", (it) => {
  it.effect("what clear leaves behind in a large namespace is invisible, and swept", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("a", 1)])
      yield* sql`
        insert into cache_entries (namespace, cache_key, data, created_at, version, loaded_in)
        select namespace, 'k' || i, data, created_at, nextval('cache_versions'), loaded_in
        from cache_entries, generate_series(1, 60000) i where namespace = ${ns}
      `
      assert.approximately(yield* store.clear(ns), 60_001, 12_000)
      const rows = sql<{ count: number }>`select count(*)::int4 as count from cache_entries where namespace = ${ns}`
      assert.deepStrictEqual(yield* rows, [{ count: 59_001 }])
      assert.deepStrictEqual(yield* Stream.runCollect(store.scan(ns)), [])
      yield* store.write(ns, [row("k60000", 2)])
      assert.deepStrictEqual(yield* documents(store, ns, ["k59999", "k60000"]), [undefined, 2])
      assert.strictEqual(yield* store.sweep(100_000), 59_000)
      assert.deepStrictEqual(yield* rows, [{ count: 1 }])
      assert.strictEqual(yield* store.clear(ns), 1)
    })
  )

  it.effect("it walks tables of many ranges, in parts, and comes round again", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("live", 1)])
      // Three ranges of 1024 blocks, four rows to a block.
      yield* sql`
        insert into cache_entries (namespace, cache_key, metadata, created_at, last_accessed, stale_until, version, loaded_in)
        select
          namespace, 'k' || i, to_jsonb(repeat('x', 1500)), created_at - interval '1 day', created_at - interval '1 day',
          created_at, 1, loaded_in
        from cache_entries, generate_series(1, 9000) i where namespace = ${ns}
      `
      const [blocks] = yield* sql<{ count: number }>`
        select (pg_relation_size('cache_entries') / 8192)::int4 as count
      `
      assert.isAbove(blocks!.count, 2048)
      assert.strictEqual(yield* store.sweep(5000), 5000)
      assert.strictEqual(yield* store.sweep(5000), 4000)
      assert.strictEqual(yield* store.sweep(5000), 0)
      assert.deepStrictEqual(yield* documents(store, ns, ["live"]), [1])
      assert.isAbove((yield* statements(store.sweep(1))).length, 2)
      yield* sql`
        update cache_entries set stale_until = now() - interval '1 day', created_at = now() - interval '1 day', last_accessed = now() - interval '1 day'
        where namespace = ${ns}
      `
      assert.strictEqual(yield* store.sweep(1), 1)
    })
  )

  it.effect("it leaves locked rows for later, and the work to the process that is at it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const other = yield* elsewhere
      const ns = namespace()
      yield* other.write(
        ns,
        ["a", "b", "c", "d"].map((key) => row(key, 1))
      )
      yield* sql`
        update cache_entries set stale_until = now() - interval '1 day', created_at = now() - interval '1 day', last_accessed = now() - interval '1 day'
        where namespace = ${ns}
      `
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`select from cache_entries where namespace = ${ns} and cache_key = 'a' for update`
          assert.strictEqual(yield* other.sweep(1), 1)
        })
      )
      const busy = yield* Deferred.make<void>()
      const done = yield* Deferred.make<void>()
      const store = yield* CacheStore
      const sweep = yield* Effect.forkChild(
        sql.withTransaction(
          store.sweep(1).pipe(Effect.tap(Deferred.succeed(busy, undefined)), Effect.tap(Deferred.await(done)))
        )
      )
      yield* Deferred.await(busy)
      assert.strictEqual(yield* other.sweep(10), 0)
      assert.strictEqual((yield* sql`select from cache_entries where namespace = ${ns}`).length, 3)
      yield* Deferred.succeed(done, undefined)
      assert.strictEqual(yield* Fiber.join(sweep), 1)
      assert.strictEqual(yield* other.sweep(10), 2)
    })
  )

  it.effect("tries again when it was the victim of a deadlock, as with a migration", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const other = yield* elsewhere
      const lock = (table: string) => sql`lock table ${sql(table)} in access exclusive mode`
      yield* sql
        .withTransaction(
          Effect.gen(function* () {
            // The sweep finds the deadlock that both wait in, unless the machine stalls until this one does.
            yield* sql`set local deadlock_timeout = '5 s'`
            yield* lock("cache_log")
            const sweep = yield* Effect.forkChild(other.sweep(1), { startImmediately: true })
            yield* Effect.repeat(
              sql<{ count: number }>`
              select count(*)::int4 as count
              from pg_locks
              where database = (select oid from pg_database where datname = current_database()) and not granted
            `,
              { until: ([waiting]) => waiting!.count > 0 }
            )
            yield* lock("cache_log_horizon")
            return sweep
          })
        )
        .pipe(Effect.retry({ times: 5 }), Effect.flatMap(Fiber.join))
    })
  )
})

const sweeping = (sweep: (limit: number) => Effect.Effect<number, CacheError>) =>
  PgSweeper.layerWith({ interval: "1 minute", limit: 10 }).pipe(
    Layer.provide(
      Layer.effect(
        CacheStore,
        Effect.map(CacheStore, (store) => ({ ...store, sweep }))
      )
    ),
    Layer.provide(CacheStore.layerMemory)
  )

describe("PgSweeper.layer", () => {
  it.effect("sweeps every minute, at once again while there was as much as it may take", () =>
    Effect.gen(function* () {
      const limits: Array<number> = []
      const removed = [10, 10, 3, 0]
      yield* Layer.build(
        sweeping((limit) =>
          Effect.sync(() => {
            limits.push(limit)
            return removed.shift() ?? 0
          })
        )
      )
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(limits, [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(limits, [10, 10, 10])
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(limits.length, 5)
    })
  )

  it.effect("logs an outage once, sweeps on, and says when it is over", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel }) => {
        lines.push(logLevel)
      })
      let isDown = true
      let sweeps = 0
      const failure = new CacheError({ reason: new StoreUnavailable({ operation: "sweep", cause: new Error("down") }) })
      const sweep = Effect.suspend(() => {
        sweeps++
        if (!isDown) return Effect.succeed(0)
        return sweeps === 2 ? Effect.die("a defect") : Effect.fail(failure)
      })
      yield* Layer.build(
        Layer.provide(
          sweeping(() => sweep),
          Logger.layer([logger])
        )
      )
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual([sweeps, lines], [3, ["Warn"]])
      isDown = false
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual([sweeps, lines], [5, ["Warn", "Info"]])
      isDown = true
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual([sweeps, lines], [7, ["Warn", "Info", "Warn"]])
    })
  )

  it.effect("ends with its layer", () =>
    Effect.gen(function* () {
      let sweeps = 0
      yield* Effect.scoped(Layer.build(sweeping(() => Effect.sync(() => sweeps++))))
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(sweeps, 0)
    })
  )
})
