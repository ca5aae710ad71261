/** What is asked of many rows while a transaction of somebody else holds some of them. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { documentOf, fillAs, namespace, row, type Store } from "./suites/storeRows.ts"
import { counted } from "./support/counted.ts"
import { Database } from "./support/Database.ts"
import { elsewhere } from "./support/elsewhere.ts"

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections: 4 }))
)

const keys = Array.from({ length: 60 }, (_, i) => `key ${i}`)

/** Rows that are stale, so that they are to be loaded. */
const written = (store: Store, ns: string) =>
  Effect.andThen(
    store.write(
      ns,
      keys.map((key) => row(key, "old", { timeToLive: 0, staleFor: 600_000 }))
    ),
    store.read(ns, keys)
  )

const newer = keys.map((key) => row(key, "new"))

/** Runs it as another process would while a transaction holds these rows. */
const whileHeld = <A, E>(ns: string, held: ReadonlyArray<string>, run: (other: Store) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const store = yield* CacheStore
    const other = yield* elsewhere
    const uses = held.map((key) => ({ key, count: 1 }))
    return yield* sql.withTransaction(Effect.andThen(store.touch(ns, uses), run(other)))
  })

const ask = (store: Store, ns: string, read: Effect.Success<ReturnType<typeof written>>, owner: string) =>
  Effect.map(
    store.acquire(
      ns,
      read.map(({ fence }, i) => ({ key: keys[i]!, fence })),
      { owner, duration: 60_000 }
    ),
    (grants) => grants.map(({ _tag }) => _tag)
  )

layer(Postgres, { timeout: "60 seconds" })("Rows that a transaction holds", (it) => {
  it.effect("are not filled, and the others of the same load are", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const read = yield* written(store, ns)
      const held = ["key 7", "key 42"]
      const stored = yield* whileHeld(ns, held, (other) => fillAs(other, ns, read, newer))
      assert.deepStrictEqual(
        stored,
        keys.map((key) => !held.includes(key))
      )
      assert.deepStrictEqual(
        (yield* store.read(ns, keys)).map(documentOf),
        keys.map((key) => (held.includes(key) ? "old" : "new"))
      )
    })
  )

  it.effect("are granted to everybody who asks for them, and of the others each has one holder", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const read = yield* written(store, ns)
      const grants = yield* whileHeld(ns, ["key 42"], (other) =>
        Effect.all([ask(other, ns, read, "one"), ask(other, ns, read, "two")])
      )
      assert.deepStrictEqual(grants, [
        keys.map(() => "Granted"),
        keys.map((key) => (key === "key 42" ? "Granted" : "Held"))
      ])
    })
  )

  it.effect("keep their lease, and of the others it is given back", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const read = yield* written(store, ns)
      yield* ask(store, ns, read, "one")
      yield* whileHeld(ns, ["key 42"], (other) => other.release(ns, keys, "one"))
      assert.deepStrictEqual(
        yield* ask(store, ns, read, "two"),
        keys.map((key) => (key === "key 42" ? "Held" : "Granted"))
      )
    })
  )

  it.effect("are given up after a while, however many they are", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const read = yield* written(store, ns)
      const [[stored, fills], [grants, asks]] = yield* whileHeld(ns, keys, (other) =>
        Effect.all([counted(fillAs(other, ns, read, newer)), counted(ask(other, ns, read, "one"))])
      )
      assert.deepStrictEqual([...new Set(stored)], [false])
      assert.deepStrictEqual([...new Set(grants)], ["Granted"])
      assert.isAtMost(fills, 40)
      assert.isAtMost(asks, 20)
    })
  )
})
