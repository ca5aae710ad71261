/**
 * A write that its caller has given up, and that PostgreSQL carries out late, as a
 * server does that was frozen when it came. A statement is held back here between
 * the library and the server, and its answer never arrives.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import type { CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import type { NewRow } from "../src/StoredRow.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer()))

const row = (key: string, data: string): NewRow => ({
  key,
  data,
  size: data.length,
  schemaVersion: 1,
  timeToLive: 60_000,
  staleFor: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: []
})

/** A store as one process has it; `hold` keeps its next write from the server, and then from its caller. */
const process = Effect.gen(function* () {
  const client = yield* PgClient.PgClient
  let held: Record<"reached" | "sent" | "done", Deferred.Deferred<void>> | undefined
  const late = new Proxy(client.withoutTransforms(), {
    get: (sql, name) => (name === "unsafe" ? unsafe : Reflect.get(sql, name))
  })
  const unsafe = <A extends object>(text: string, parameters?: ReadonlyArray<unknown>) => {
    const statement = client.withoutTransforms().unsafe<A>(text, parameters)
    if (held === undefined || !text.includes("insert into cache_entries as e (")) return statement
    const { done, reached, sent } = held
    held = undefined
    return Deferred.await(sent).pipe(
      Effect.andThen(statement),
      Effect.andThen(Deferred.succeed(done, undefined)),
      Effect.forkDetach,
      Effect.andThen(Deferred.succeed(reached, undefined)),
      Effect.andThen(Effect.never)
    )
  }
  const through = new Proxy(client, {
    get: (target, name) => (name === "withoutTransforms" ? () => late : Reflect.get(target, name))
  })
  const store = yield* PgCacheStore.make().pipe(Effect.provideService(PgClient.PgClient, through))
  /** Issues a write, gives it up, does something else, and only then lets the write reach the server. */
  const overtaken = (namespace: string, rows: ReadonlyArray<NewRow>, meanwhile: Effect.Effect<unknown, unknown>) =>
    Effect.gen(function* () {
      const [reached, sent, done] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      held = { reached, sent, done }
      const write = yield* Effect.forkChild(store.write(namespace, rows))
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(write)
      yield* meanwhile
      yield* Deferred.succeed(sent, undefined)
      yield* Deferred.await(done)
    })
  return { store, overtaken }
})

const dataOf = (store: CacheStore["Service"], namespace: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(namespace, keys), (rows) => rows.map((row) => (row._tag === "Row" ? row.data : undefined)))

layer(Postgres, { timeout: "60 seconds" })("A write that is carried out late", (it) => {
  it.effect("undoes no removal, no write and no clear that its process sent after it", () =>
    Effect.gen(function* () {
      const { overtaken, store } = yield* process
      for (const wasThere of [false, true]) {
        if (wasThere) yield* store.write("removed", [row("k", "0")])
        yield* overtaken("removed", [row("k", "1")], store.remove("removed", ["k"]))
        assert.deepStrictEqual(yield* dataOf(store, "removed", ["k"]), [undefined])
        if (wasThere) yield* store.write("written", [row("k", "0")])
        yield* overtaken("written", [row("k", "1")], store.write("written", [row("k", "2")]))
        assert.deepStrictEqual(yield* dataOf(store, "written", ["k"]), ["2"])
        if (wasThere) yield* store.write("cleared", [row("k", "0")])
        yield* overtaken("cleared", [row("k", "1")], store.clear("cleared"))
        assert.deepStrictEqual(yield* dataOf(store, "cleared", ["k"]), [undefined])
      }
      yield* store.write("cleared", [row("k", "0")])
      yield* overtaken("cleared", [row("k", "1")], store.clearAll)
      assert.deepStrictEqual(yield* dataOf(store, "cleared", ["k"]), [undefined])
    })
  )

  it.effect("undoes none of another process either", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* process, yield* process]
      yield* a.store.write("shared", [row("k", "0"), row("l", "0")])
      yield* a.overtaken("shared", [row("k", "1")], b.store.remove("shared", ["k"]))
      yield* a.overtaken("shared", [row("l", "1")], b.store.write("shared", [row("l", "2")]))
      assert.deepStrictEqual(yield* dataOf(a.store, "shared", ["k", "l"]), [undefined, "2"])
    })
  )

  it.effect("is all or nothing: one newer row keeps the others from being stored", () =>
    Effect.gen(function* () {
      const { overtaken, store } = yield* process
      yield* overtaken("many", [row("a", "1"), row("b", "1"), row("c", "1")], store.write("many", [row("b", "2")]))
      assert.deepStrictEqual(yield* dataOf(store, "many", ["a", "b", "c"]), [undefined, "2", undefined])
    })
  )

  it.effect("is what its process knows to be old: one that is sent after the others have written replaces theirs", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* process, yield* process]
      for (const data of ["1", "2", "3"]) {
        yield* b.store.write("turns", [row("k", `1${data}`), row("l", `1${data}`)])
        yield* a.store.write("turns", [row("k", data), row("l", data)])
        assert.deepStrictEqual(yield* dataOf(b.store, "turns", ["k", "l"]), [data, data])
        yield* b.store.remove("turns", ["k"])
        yield* a.store.write("turns", [row("k", data)])
        yield* b.store.clear("turns")
        yield* a.store.write("turns", [row("k", data)])
        assert.deepStrictEqual(yield* dataOf(b.store, "turns", ["k"]), [data])
      }
    })
  )
})
