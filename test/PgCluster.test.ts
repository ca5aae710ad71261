/**
 * Caches in several processes on one database: this one and its children. What one
 * changes, or somebody with `psql`, the memory of the others must not go on serving.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Scope } from "effect"
import { CacheLive, Namespace, type Operations, TieredCache } from "effect-tiered-cache"
import { readFile } from "node:fs/promises"
import type { CacheConfigInput } from "../src/CacheConfig.ts"
import type { CacheStats } from "../src/CacheStats.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import * as CacheProcess from "./support/CacheProcess.ts"
import { Database } from "./support/Database.ts"

/** Without the poll: what is heard of is heard of by the bell, or on the return of a reader. */
const bellOnly: CacheConfigInput = { policy: { jitter: 0 }, bus: { pollInterval: "1 hour" } }
const pollOnly: CacheConfigInput = { policy: { jitter: 0 }, bus: { pollInterval: "20 millis", listen: false } }

let namespaces = 0
const strings = () => Namespace.make(`strings-${++namespaces}`, { value: Schema.String })

/** A cache in this process, with a pool and a memory of its own. */
const cacheHere = (config = bellOnly, client = Database.layerClient({ maxConnections: 4 })) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context = yield* Scope.provide(
      Layer.build(Layer.provideMerge(CacheLive.layer(config), Layer.fresh(client))),
      scope
    )
    const [cache, sql] = [Context.get(context, TieredCache), Context.get(context, PgClient.PgClient)]
    return { cache, sql, close: Scope.close(scope, Exit.void) }
  })

const startProcess = (config: CacheConfigInput) =>
  Effect.flatMap(Database, ({ url }) => CacheProcess.start({ url, config }))

/** Children for the tests that do nothing to them. */
class Children extends Context.Service<
  Children,
  {
    readonly one: CacheProcess.CacheProcess
    readonly two: CacheProcess.CacheProcess
    readonly poller: CacheProcess.CacheProcess
  }
>()("test/Children") {
  static readonly layer = Layer.effect(
    Children,
    Effect.all(
      { one: startProcess(bellOnly), two: startProcess(bellOnly), poller: startProcess(pollOnly) },
      { concurrency: 3 }
    )
  )
}

/** How long after `since` the process no longer served the value from its memory, in milliseconds. */
const lagOf = (process: CacheProcess.CacheProcess, namespace: string, key: string, value: string) =>
  Effect.gen(function* () {
    const { result } = yield* process
      .tell<number>("forgets", namespace, key, value)
      .pipe(Effect.timeout("10 seconds"), Effect.orDie)
    return (since: number) => result - since
  })

/** Stores `old` as a first load does, which is nobody's news: none comes later to drop what was read meanwhile. */
const seed = (cache: Operations, ns: Namespace.Namespace<string, string>, key: string, value = "old") =>
  cache.getOrSet(ns, key, Effect.succeed(value))

const originIn = (cache: Operations, ns: Namespace.Namespace<string, string>, key: string) =>
  Effect.map(cache.getEntry(ns, key), Option.match({ onNone: () => "none", onSome: ({ origin }) => origin }))

const readers = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`select pg_stat_clear_snapshot()`
  return yield* sql<{ pid: number }>`
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'effect-tiered-cache bus'
  `
})

const soon = { schedule: Schedule.spaced("2 millis"), times: 5000 }

const Postgres = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer({ maxConnections: 10 })))

layer(Layer.provideMerge(Children.layer, Postgres), { excludeTestServices: true, timeout: "60 seconds" })(
  "Caches in several processes",
  (it) => {
    const changes: Record<
      string,
      readonly [
        change: (cache: Operations, ns: Namespace.Namespace<string, string>) => Effect.Effect<unknown, unknown>,
        left: string | null
      ]
    > = {
      set: [(cache, ns) => cache.set(ns, "k", "new"), "new"],
      invalidate: [(cache, ns) => cache.invalidate(ns, "k"), null],
      clear: [(cache, ns) => cache.clear(ns), null],
      clearAll: [(cache) => cache.clearAll, null],
      "a forced load": [(cache, ns) => cache.getOrSet(ns, "k", Effect.succeed("new"), { force: true }), "new"]
    }

    for (const how of ["by the bell", "by the poll"] as const) {
      it.effect(`G3 ${how}, memory elsewhere serves what was changed no longer (C59)`, () =>
        Effect.gen(function* () {
          const { cache } = yield* cacheHere()
          const { one, poller, two } = yield* Children
          const processes = how === "by the poll" ? [poller] : [one, two]
          for (const [name, [change, left]] of Object.entries(changes)) {
            const ns = strings()
            yield* seed(cache, ns, "k")
            for (const { tell } of processes) {
              assert.deepStrictEqual((yield* tell("read", ns.name, "k")).result, { origin: "store", value: "old" })
              assert.deepStrictEqual((yield* tell("readMemory", ns.name, "k")).result, {
                origin: "memory",
                value: "old"
              })
            }
            yield* change(cache, ns)
            const changedAt = Date.now()
            for (const process of processes) {
              const lag = (yield* lagOf(process, ns.name, "k", "old"))(changedAt)
              assert.isBelow(lag, 5000, name)
              const entry = (yield* process.tell<{ value: string } | null>("read", ns.name, "k")).result
              assert.strictEqual(entry?.value ?? null, left, name)
            }
            // What this process changed itself it has kept.
            assert.strictEqual(yield* originIn(cache, ns, "k"), left === null ? "none" : "memory", name)
          }
        }).pipe(Effect.scoped)
      )
    }

    it.effect("G3 the notice takes milliseconds", () =>
      Effect.gen(function* () {
        const { cache } = yield* cacheHere()
        const ns = strings()
        const { one: process } = yield* Children
        const lags: Array<number> = []
        for (let i = 0; i < 60; i++) {
          yield* seed(cache, ns, "k", `${i}`)
          yield* process.tell("read", ns.name, "k")
          const forgotten = yield* Effect.forkChild(lagOf(process, ns.name, "k", `${i}`))
          // The child is asking its memory when the change is made.
          yield* process.tell("readMemory", ns.name, "k")
          yield* cache.invalidate(ns, "k")
          const changedAt = Date.now()
          lags.push((yield* Fiber.join(forgotten))(changedAt))
        }
        lags.sort((a, b) => a - b)
        // So much for a crowded machine: alone it takes one or two.
        assert.isBelow(lags[30]!, 1000)
      }).pipe(Effect.scoped)
    )

    it.effect("C61 a cache keeps what it set itself, while the others drop it", () =>
      Effect.gen(function* () {
        const { cache } = yield* cacheHere(pollOnly)
        const ns = strings()
        const { poller: process } = yield* Children
        yield* cache.set(ns, "mine", "1")
        // The news that follows says that the reader has come this far.
        yield* seed(cache, ns, "theirs")
        yield* process.tell("set", ns.name, "theirs", "2")
        yield* Effect.repeat(cache.getEntry(ns, "theirs", { skip: "store" }), { until: Option.isNone, ...soon })
        assert.strictEqual(yield* originIn(cache, ns, "mine"), "memory")
        assert.strictEqual((yield* cache.statsOf(ns)).memory.removals.remote, 1)
        assert.deepStrictEqual((yield* process.tell("readMemory", ns.name, "mine")).result, null)
        assert.deepStrictEqual((yield* process.tell("readMemory", ns.name, "theirs")).result, {
          origin: "memory",
          value: "2"
        })
      }).pipe(Effect.scoped)
    )

    it.effect(
      "a change in a transaction is heard of elsewhere when it commits, however late, and not if it does not",
      () =>
        Effect.gen(function* () {
          const { cache, sql } = yield* cacheHere()
          const ns = strings()
          const { one: process } = yield* Children
          const memory = (key: string) => Effect.map(process.tell("readMemory", ns.name, key), ({ result }) => result)
          for (const key of ["a", "b", "c"]) {
            yield* seed(cache, ns, key)
            yield* process.tell("read", ns.name, key)
          }
          const old = { origin: "memory", value: "old" }
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(cache.invalidate(ns, "a"), Effect.fail("no"))))
          const changed = Deferred.makeUnsafe<void>()
          const commit = Deferred.makeUnsafe<void>()
          const late = yield* cache
            .set(ns, "b", "new")
            .pipe(
              Effect.andThen(Deferred.succeed(changed, undefined)),
              Effect.andThen(Deferred.await(commit)),
              sql.withTransaction,
              Effect.forkChild
            )
          yield* Deferred.await(changed)
          yield* cache.invalidate(ns, "c")
          yield* lagOf(process, ns.name, "c", "old")
          assert.deepStrictEqual([yield* memory("a"), yield* memory("b"), yield* memory("c")], [old, old, null])
          yield* Deferred.succeed(commit, undefined)
          yield* Fiber.join(late)
          yield* lagOf(process, ns.name, "b", "old")
          assert.deepStrictEqual([yield* memory("a"), yield* memory("b")], [old, null])
          assert.strictEqual((yield* cache.get(ns, "b")).pipe(Option.getOrThrow), "new")
        }).pipe(Effect.scoped)
    )

    it.effect("C50 a load under way in another process is not kept there when its key is changed here", () =>
      Effect.gen(function* () {
        const { cache } = yield* cacheHere()
        const ns = strings()
        const { one: process } = yield* Children
        const load = yield* Effect.forkChild(process.tell("crowd", ns.name, "k", "", { takes: null }))
        yield* process.loading(ns.name, "k")
        yield* process.tell("getOrSet", ns.name, "marker", "there")
        yield* cache.invalidateMany(ns, ["k", "marker"])
        yield* lagOf(process, ns.name, "marker", "there")
        yield* process.tell("endLoad", ns.name, "k", "old")
        assert.deepStrictEqual((yield* Fiber.join(load)).result, { values: { old: 1 }, failures: {} })
        assert.deepStrictEqual((yield* process.tell("getOrSet", ns.name, "k", "new")).result, {
          origin: "loader",
          value: "new"
        })
      }).pipe(Effect.scoped)
    )

    it.effect("C69 a process whose reader was cut off hears on its return of what was changed meanwhile", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const { cache } = yield* cacheHere()
        const before = new Set((yield* readers).map(({ pid }) => pid))
        const ns = strings()
        const process = yield* startProcess(bellOnly)
        yield* seed(cache, ns, "k")
        yield* process.tell("read", ns.name, "k")
        const there = (yield* readers).find(({ pid }) => !before.has(pid))
        // While the log is locked the reader cannot be back; the change commits unheard.
        yield* Effect.gen(function* () {
          yield* sql`lock table cache_log in access exclusive mode`
          yield* sql`select pg_terminate_backend(${there!.pid})`
          yield* Effect.repeat(readers, { until: (now) => now.every(({ pid }) => pid !== there!.pid), ...soon })
          yield* sql`select cache_invalidate(${ns.name}, 'k')`
        }).pipe(sql.withTransaction)
        yield* lagOf(process, ns.name, "k", "old")
        assert.match(process.log(), /cut off/)
      }).pipe(Effect.scoped)
    )

    it.effect("C75 odd keys and long ones are dropped elsewhere, and no others", () =>
      Effect.gen(function* () {
        const { cache } = yield* cacheHere()
        const ns = Namespace.make("%_\\*?[]'\"😀", { value: Schema.String })
        const { one: process } = yield* Children
        const odd = ["", "%", "_", "\\", "*", "'", '"', "{}", "😀", "a\u0000b", "\u001a", "\ud800"]
        const long = ["x".repeat(10_000), `${"x".repeat(9_999)}y`, "é".repeat(5000)]
        const all = [...odd, ...long]
        for (const key of [...all, "other"]) yield* seed(cache, ns, key)
        for (const key of [...all, "other"]) yield* process.tell("read", ns.name, key)
        for (const [index, key] of all.entries()) {
          yield* cache.invalidate(ns, key)
          yield* lagOf(process, ns.name, key, "old")
          const { memory } = (yield* process.tell<CacheStats>("stats", ns.name)).result
          assert.strictEqual(memory.removals.remote, index + 1)
        }
        assert.deepStrictEqual((yield* process.tell("readMemory", ns.name, "other")).result, {
          origin: "memory",
          value: "old"
        })
      }).pipe(Effect.scoped)
    )

    it.effect("after any number of changes at once in several processes, all serve what the store has", () =>
      Effect.gen(function* () {
        const { cache } = yield* cacheHere(pollOnly)
        const ns = strings()
        const { one, poller } = yield* Children
        const processes = [one, poller]
        const names = ["a", "b", "c"]
        const here: CacheProcess.CacheProcess["tell"] = (does, _, key = "", value = "") =>
          Effect.as(
            Effect.orDie<unknown, unknown, never>(
              does === "set" ? cache.set(ns, key, value) : cache.invalidate(ns, key)
            ),
            { result: undefined as never, at: 0 }
          )
        const tells = [here, ...processes.map(({ tell }) => tell)]
        for (let round = 0; round < 3; round++) {
          yield* Effect.forEach(
            Array.from({ length: 60 }, (_, i) => i),
            (i) => {
              const tell = tells[i % 3]!
              const key = names[(i * 7 + round) % 3]!
              return Effect.andThen(
                tell(i % 5 === 0 ? "invalidate" : "set", ns.name, key, `${round} ${i}`),
                i % 3 === 0 ? Effect.void : tell("read", ns.name, key)
              )
            },
            { concurrency: 12 }
          )
          // One that comes after all of them, for each to hear.
          yield* cache.set(ns, "last", `${round}`)
          yield* Effect.forEach(processes, ({ tell }) => tell("read", ns.name, "last"))
          yield* cache.set(ns, "last", "over")
          yield* Effect.forEach(processes, (process) => lagOf(process, ns.name, "last", `${round}`))
          yield* processes[0]!.tell("set", ns.name, "last", "really")
          yield* Effect.repeat(cache.getEntry(ns, "last", { skip: "store" }), { until: Option.isNone, ...soon })
          for (const key of names) {
            const stored = Option.getOrNull(yield* cache.get(ns, key, { skip: "memory" }))
            assert.strictEqual(Option.getOrNull(yield* cache.get(ns, key)), stored)
            for (const { tell } of processes) {
              assert.strictEqual(
                (yield* tell<{ value: string } | null>("read", ns.name, key)).result?.value ?? null,
                stored
              )
            }
          }
        }
      }).pipe(Effect.scoped)
    )

    it.effect("a cache whose bus is down reads and changes as ever, and the others hear of it (C63)", () =>
      Effect.gen(function* () {
        const ns = strings()
        const { one: process } = yield* Children
        const client = Layer.tap(Database.layerClient({ maxConnections: 4 }), (context) => {
          const client = Context.get(context, PgClient.PgClient)
          // Where the bus connects nobody listens; the pool was made before.
          return Effect.sync(() => Object.assign(client, { config: { ...client.config, port: 1 } }))
        })
        const { cache } = yield* cacheHere(bellOnly, client)
        const took: Array<number> = []
        const timed = <A, E>(effect: Effect.Effect<A, E>) =>
          Effect.map(Effect.timed(effect), ([duration, answer]) => {
            took.push(Duration.toMillis(duration))
            return answer
          })
        for (let i = 0; i < 100; i++) {
          yield* timed(seed(cache, ns, `${i}`))
          assert.strictEqual(yield* timed(originIn(cache, ns, `${i}`)), "memory")
          yield* process.tell("read", ns.name, `${i}`)
          yield* timed(cache.set(ns, `${i}`, "new"))
          assert.isTrue(yield* timed(cache.invalidate(ns, `${i}`)))
        }
        took.sort((a, b) => a - b)
        assert.isBelow(took[200]!, 1000)
        for (let i = 0; i < 100; i++) yield* lagOf(process, ns.name, `${i}`, "old")
        // It does not hear itself what the others change: its memory answers for as long as it may.
        yield* seed(cache, ns, "k")
        yield* process.tell("invalidate", ns.name, "k")
        assert.strictEqual(yield* originIn(cache, ns, "k"), "memory")
      }).pipe(Effect.scoped)
    )

    it.effect("whoever changes data or cache by SQL reaches the memory of all processes", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const Genes = Namespace.make("genes", { value: Schema.String })
        const file = yield* Effect.promise(() =>
          readFile(new URL("../migrations/0003_functions.sql", import.meta.url), "utf8")
        )
        yield* sql`create table genes (id int primary key, symbol text not null)`
        yield* sql`insert into genes select id, 'old' from generate_series(1, 5) id`
        // The example of the migration's own.
        const [, body, trigger] =
          /^--   (create function genes_changed[^]*?end \$\$;)\n--   (create trigger .*;)$/m.exec(file)!
        yield* sql.unsafe(body!.replaceAll(/^-- {3}/gm, ""))
        yield* sql.unsafe(trigger!)

        const { cache } = yield* cacheHere()
        const { one: process } = yield* Children
        const load = Effect.all([1, 2, 3, 4, 5].map((id) => seed(cache, Genes, `${id}`)))
        const isGone = (key: string) =>
          Effect.gen(function* () {
            yield* lagOf(process, "genes", key, "old")
            yield* Effect.repeat(cache.getEntry(Genes, key, { skip: "store" }), { until: Option.isNone, ...soon })
            assert.deepStrictEqual(yield* cache.get(Genes, key, { skip: "memory" }), Option.none())
          })
        const holds = (...held: ReadonlyArray<string>) =>
          Effect.forEach(held, (key) =>
            Effect.gen(function* () {
              assert.strictEqual(yield* originIn(cache, Genes, key), "memory")
              assert.isNotNull((yield* process.tell("readMemory", "genes", key)).result)
            })
          )
        yield* load
        for (const id of [1, 2, 3, 4, 5]) yield* process.tell("read", "genes", `${id}`)
        yield* sql`update genes set symbol = 'new' where id = 1`
        yield* isGone("1")
        yield* sql`delete from genes where id in (2, 3)`
        yield* isGone("2")
        yield* isGone("3")
        yield* holds("4", "5")
        yield* Effect.ignore(
          sql.withTransaction(Effect.andThen(sql`update genes set symbol = 'no'`, Effect.fail("no")))
        )
        assert.deepStrictEqual(yield* sql`select cache_invalidate('genes', '4') as was_there`, [{ was_there: true }])
        yield* isGone("4")
        yield* holds("5")
        assert.deepStrictEqual(yield* sql`select cache_clear('genes')::int4 as cleared`, [{ cleared: 1 }])
        yield* isGone("5")
        yield* load
        yield* process.tell("read", "genes", "1")
        yield* sql`select cache_clear_all()`
        yield* isGone("1")
      }).pipe(Effect.scoped)
    )

    it.effect("a process that ends leaves no reader behind", () =>
      Effect.gen(function* () {
        const before = new Set((yield* readers).map(({ pid }) => pid))
        const process = yield* startProcess(bellOnly)
        const its = (yield* readers).find(({ pid }) => !before.has(pid))
        yield* process.end
        yield* Effect.repeat(readers, { until: (now) => now.every(({ pid }) => pid !== its!.pid), ...soon })
      }).pipe(Effect.scoped)
    )
  }
)
