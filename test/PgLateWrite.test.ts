/**
 * A write that its caller has given up, and that PostgreSQL carries out late, as a
 * server does that was frozen when it came. A statement is held back here between
 * the library and the server, and its answer never arrives.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { CacheConfig } from "../src/CacheConfig.ts"
import type { CacheError } from "../src/CacheError.ts"
import { CacheStore } from "../src/CacheStore.ts"
import { MemoryCache } from "../src/MemoryCache.ts"
import * as Namespace from "../src/Namespace.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgInvalidationBus from "../src/postgres/PgInvalidationBus.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import type { NewRow } from "../src/StoredRow.ts"
import { TieredCache } from "../src/TieredCache.ts"
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
  const holding = new Proxy(client.withoutTransforms(), {
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
    get: (target, name) => (name === "withoutTransforms" ? () => holding : Reflect.get(target, name))
  })
  const store = yield* PgCacheStore.make().pipe(Effect.provideService(PgClient.PgClient, through))
  /** Issues a write, gives it up, does something else, and only then lets the write reach the server. */
  const overtaken = (namespace: string, rows: ReadonlyArray<NewRow>, meanwhile: Effect.Effect<unknown, unknown>) =>
    late(store.write(namespace, rows), meanwhile)
  const late = <A, E, B, E2>(writing: Effect.Effect<A, E>, meanwhile: Effect.Effect<B, E2>) =>
    Effect.gen(function* () {
      const [reached, sent, done] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      held = { reached, sent, done }
      const write = yield* Effect.forkChild(writing)
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(write)
      const answer = yield* meanwhile
      yield* Deferred.succeed(sent, undefined)
      yield* Deferred.await(done)
      return answer
    })
  return { late, overtaken, store }
})

/** The same as a cache with a bus of its own. */
const cached = Effect.gen(function* () {
  const { late, store } = yield* process
  const parts = Layer.mergeAll(
    Layer.succeed(CacheStore, store),
    PgInvalidationBus.layerWith({ listen: false, pollInterval: "10 millis" }),
    Layer.sync(MemoryCache, () => MemoryCache.make({ maxEntries: 100, maxSize: 1_000_000 })),
    CacheConfig.layerOf({ policy: { leaseDuration: 0 } })
  )
  const context = yield* Layer.build(Layer.fresh(TieredCache.layerParts.pipe(Layer.provide(parts))))
  return { cache: Context.get(context, TieredCache), late }
})

const Values = Namespace.make("values", { value: Schema.String })

const dataOf = (store: CacheStore["Service"], namespace: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(namespace, keys), (rows) => rows.map((row) => (row._tag === "Row" ? row.data : undefined)))

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("A write that is carried out late", (it) => {
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

  const givenUp: Record<string, (cache: TieredCache["Service"]) => Effect.Effect<unknown, CacheError>> = {
    set: (cache) => cache.set(Values, "k", "new"),
    "forced load": (cache) => cache.getOrSet(Values, "k", Effect.succeed("new"), { force: true })
  }
  for (const [name, writing] of Object.entries(givenUp)) {
    it.effect(`leaves nothing older in memory, that of its own process included: a ${name}`, () =>
      Effect.gen(function* () {
        const [a, b] = [yield* cached, yield* cached]
        yield* a.cache.set(Values, "k", "old")
        const again = Effect.forEach([a, b], ({ cache }) => cache.getOrSet(Values, "k", Effect.die("not to be run")))
        assert.deepStrictEqual(yield* a.late(writing(a.cache), again), ["old", "old"])
        yield* Effect.repeat(again, {
          until: (values) => values.every((value) => value === "new"),
          schedule: Schedule.spaced("5 millis")
        }).pipe(Effect.timeout("10 seconds"))
      }).pipe(Effect.scoped)
    )
  }
})
