/** The bus on PostgreSQL by itself; `PgCluster.test.ts` has it between processes with caches. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import {
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Queue,
  Redacted,
  Result,
  Schedule,
  Schema,
  Scope
} from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { CacheLive } from "../src/CacheLive.ts"
import type { CacheError } from "../src/CacheError.ts"
import { CacheOrigin, CacheStore, type NewRow } from "../src/CacheStore.ts"
import * as Glob from "../src/Glob.ts"
import { InvalidationBus, type InvalidationMessage, type Released } from "../src/InvalidationBus.ts"
import * as Namespace from "../src/Namespace.ts"
import * as EmbeddedPostgres from "../src/postgres/EmbeddedPostgres.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgInvalidationBus from "../src/postgres/PgInvalidationBus.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { TieredCache } from "../src/TieredCache.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections: 10 }))
)

let namespaces = 0
const namespace = () => `ns${++namespaces}`

const row = (key: string, options?: Partial<NewRow>): NewRow => ({
  key,
  data: "1",
  size: 1,
  schemaVersion: 1,
  timeToLive: 3_600_000,
  staleFor: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: [],
  ...options
})

const keys = (namespace: string, ...keys: ReadonlyArray<string>): InvalidationMessage["invalidation"] => ({
  _tag: "Keys",
  namespace,
  keys
})

interface Process {
  readonly bus: InvalidationBus["Service"]
  readonly sql: PgClient.PgClient
  /** The next message, which must come soon. */
  readonly next: Effect.Effect<InvalidationMessage>
  readonly nextInvalidation: Effect.Effect<InvalidationMessage["invalidation"]>
  /** What has come and was not asked for yet. */
  readonly received: Effect.Effect<ReadonlyArray<InvalidationMessage>>
  /** The same for the ends of leases. */
  readonly nextReleased: Effect.Effect<Released>
  readonly released: Effect.Effect<ReadonlyArray<Released>>
  readonly close: Effect.Effect<void>
}

/** Never woken and never looking: for tests that say when. */
const deaf: PgInvalidationBus.Options = { listen: false, pollInterval: "1 hour" }
const said = ({ invalidation, origin }: InvalidationMessage) => ({ origin, invalidation })

/** Only the bell. */
const listening: PgInvalidationBus.Options = { pollInterval: "1 hour" }
/** Only the poll. */
const polling: PgInvalidationBus.Options = { listen: false, pollInterval: "20 millis" }

/** What another process would have. */
const join = <E, R>(options: PgInvalidationBus.Options, client: Layer.Layer<PgClient.PgClient, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context = yield* Scope.provide(
      Layer.build(PgInvalidationBus.layerWith(options).pipe(Layer.provideMerge(Layer.fresh(client)))),
      scope
    )
    const bus = Context.get(context, InvalidationBus)
    const messages = yield* Queue.unbounded<InvalidationMessage>()
    const releases = yield* Queue.unbounded<Released>()
    yield* Scope.provide(
      bus.subscribe(
        (message) => Queue.offerUnsafe(messages, message),
        (released) => Queue.offerUnsafe(releases, released)
      ),
      scope
    )
    const next = Queue.take(messages).pipe(Effect.timeout("5 seconds"), Effect.orDie)
    const process: Process = {
      bus,
      sql: Context.get(context, PgClient.PgClient),
      next,
      nextInvalidation: Effect.map(next, ({ invalidation }) => invalidation),
      received: Queue.clear(messages),
      nextReleased: Queue.take(releases).pipe(Effect.timeout("5 seconds"), Effect.orDie),
      released: Queue.clear(releases),
      close: Scope.close(scope, Exit.void)
    }
    return process
  })

const processOn = (options: PgInvalidationBus.Options) => join(options, Database.layerClient({ maxConnections: 3 }))

/** Rings as a cache does that has changed something. */
const ring = ({ bus }: Pick<Process, "bus">) =>
  bus.publish({ origin: "someone", invalidation: keys("not looked at", "k") })

/** The connections of buses on this database. */
const connections = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`select pg_stat_clear_snapshot()`
  return yield* sql<{ pid: number; query: string }>`
    select pid, query from pg_stat_activity
    where datname = current_database() and application_name = 'effect-tiered-cache bus'
  `
})

const notify = (payload: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql`select pg_notify('effect_tiered_cache', ${payload})`)

const globOf = (pattern: string) => Result.getOrThrow(Glob.make("ns", pattern))

const until = <A, E, R>(effect: Effect.Effect<A, E, R>, isRight: (value: A) => boolean) =>
  Effect.repeat(effect, { until: isRight, schedule: Schedule.spaced("5 millis") }).pipe(
    Effect.timeout("15 seconds"),
    Effect.orDie
  )

const logged = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  return yield* sql<{ namespace: string | null; keys: ReadonlyArray<string> | null; origin: string; xid: string }>`
    select namespace, keys, origin, xid::text from cache_log order by id
  `
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: messages", (it) => {
  for (const [how, options] of [
    ["by the bell", listening],
    ["by the poll", polling]
  ] as const) {
    it.effect(`${how}, every change is heard of, with its origin`, () =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const ns = namespace()
        const [reader, writer] = [yield* processOn(options), yield* processOn(deaf)]
        const hears = <A, E>(change: Effect.Effect<A, E>, invalidation: InvalidationMessage["invalidation"]) =>
          Effect.gen(function* () {
            yield* Effect.provideService(change, CacheOrigin, "me")
            yield* ring(writer)
            assert.deepStrictEqual(said(yield* reader.next), { origin: "me", invalidation })
          })
        yield* hears(store.write(ns, [row("a"), row("b")]), keys(ns, "a", "b"))
        yield* hears(store.remove(ns, ["b", "absent"]), keys(ns, "absent", "b"))
        const [a] = yield* store.read(ns, ["a"])
        yield* hears(store.fill(ns, [{ ...row("a"), fence: a!.fence }]), keys(ns, "a"))
        yield* hears(store.clear(ns), { _tag: "Namespace", namespace: ns })
        yield* hears(store.clearAll, { _tag: "All" })
        const status = reader.bus.status!()
        assert.deepInclude(status, { received: 5, gaps: 0, caughtUp: 0 })
        assert.strictEqual(status.health.status, "Up")
        assert.isBelow(status.lag, 5000)
      }).pipe(Effect.scoped)
    )
  }

  it.effect("a fill that replaces nothing live, a fill that is refused and a re-arm are nobody's business", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const reader = yield* processOn(polling)
      const fill = (...filled: ReadonlyArray<string>) =>
        Effect.flatMap(store.read(ns, filled), (rows) =>
          store.fill(
            ns,
            rows.map(({ fence }, i) => ({ ...row(filled[i]!), fence }))
          )
        )
      yield* fill("first")
      yield* store.write(ns, [row("expired", { timeToLive: 0 }), row("removed"), row("changed"), row("live")])
      yield* store.remove(ns, ["removed"])
      yield* fill("expired", "removed")
      const read = yield* store.read(ns, ["changed", "live"])
      yield* store.write(ns, [row("changed")])
      assert.deepStrictEqual(
        yield* store.fill(
          ns,
          read.map(({ fence }, i) => ({ ...row(["changed", "live"][i]!), fence }))
        ),
        [false, true]
      )
      yield* Effect.flatMap(store.read(ns, ["live"]), ([live]) =>
        store.rearm(ns, [{ key: "live", fence: live!.fence, retryAfter: 1000 }])
      )
      assert.deepStrictEqual(
        [
          yield* reader.nextInvalidation,
          yield* reader.nextInvalidation,
          yield* reader.nextInvalidation,
          yield* reader.nextInvalidation
        ],
        [keys(ns, "changed", "expired", "live", "removed"), keys(ns, "removed"), keys(ns, "changed"), keys(ns, "live")]
      )
      const rows = yield* sql`select from cache_log where namespace = ${ns}`
      assert.strictEqual(rows.length, 4)
    }).pipe(Effect.scoped)
  )

  it.effect("keys and namespaces arrive as they are, however odd and however long", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const reader = yield* processOn(polling)
      const odd = ["", "%", "_", "\\", "*", "?", "[a]", "'", '"', "{a,b}", "NULL", " ", "a\nb", "😀", "\u001a0000"]
      const long = [`a${"😀".repeat(2500)}`, `${"x".repeat(1023)}é`, "x".repeat(1024), "x".repeat(10_000)]
      for (const ns of ["%_\\*?[]'\"😀", namespace()]) {
        yield* store.write(
          ns,
          [...odd, ...long].map((key) => row(key))
        )
        yield* store.remove(ns, [...odd, ...long])
        for (const _ of ["write", "remove"]) {
          const heard = yield* reader.nextInvalidation
          assert.strictEqual(heard._tag, "Keys")
          if (heard._tag !== "Keys") return
          assert.strictEqual(heard.namespace, ns)
          assert.deepStrictEqual(new Set(heard.keys), new Set([...odd, ...long]))
        }
      }
    }).pipe(Effect.scoped)
  )

  it.effect("a change by tag, by pattern or that keeps what is stale arrives as what it is (C60)", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(polling)
      const hears = <A, E, R>(change: Effect.Effect<A, E, R>, invalidation: InvalidationMessage["invalidation"]) =>
        Effect.gen(function* () {
          yield* change
          assert.deepStrictEqual(yield* reader.nextInvalidation, invalidation)
        })
      yield* store.write(ns, [row("a")])
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "a"))
      const expired = { _tag: "Keys", namespace: ns, keys: ["a"], keepsStale: true } as const
      yield* hears(store.remove(ns, ["a"], true), expired)
      yield* hears(sql`select cache_expire(${ns}, 'a')`, expired)
      const odd = ["%_\\*?[]'\"😀{}", "", "NULL", "\u001a0041", " a "]
      for (const tag of odd) {
        const tags = { _tag: "Tags", namespace: ns, tags: [tag] } as const
        yield* hears(store.removeTagged(ns, [tag]), tags)
        yield* hears(store.removeTagged(ns, [tag], true), { ...tags, keepsStale: true })
      }
      for (const pattern of ["*", "user_*_data", "a?[!b-c]\\*", "%_'\"😀", "\u001a"]) {
        const matching = { _tag: "Pattern", namespace: ns, pattern } as const
        yield* hears(store.removeMatching(ns, globOf(pattern)), matching)
        yield* hears(store.removeMatching(ns, globOf(pattern), true), { ...matching, keepsStale: true })
      }
      yield* hears(sql`select cache_invalidate_pattern(${ns}, 'a*')`, { _tag: "Pattern", namespace: ns, pattern: "a*" })
      yield* hears(sql`select cache_expire_tags(${ns}, 't')`, {
        _tag: "Tags",
        namespace: ns,
        tags: ["t"],
        keepsStale: true
      })
    }).pipe(Effect.scoped)
  )

  it.effect("several tags at once are one message, and those of other calls are others", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const [ns, other] = [namespace(), namespace()]
      const reader = yield* processOn(polling)
      const tagsOf = (message: InvalidationMessage) =>
        message.invalidation._tag === "Tags"
          ? { ...message.invalidation, tags: message.invalidation.tags.toSorted() }
          : undefined
      yield* store.removeTagged(ns, ["a", "b", "c"])
      yield* store.removeTagged(ns, ["d"])
      yield* Effect.gen(function* () {
        yield* store.removeTagged(ns, ["e", "f"])
        yield* store.removeTagged(ns, ["g", "h"], true)
        yield* store.removeTagged(other, ["g", "h"], true)
      }).pipe(sql.withTransaction)
      const heard = yield* Effect.forEach([1, 2, 3, 4, 5], () => reader.next)
      assert.deepStrictEqual(heard.map(tagsOf), [
        { _tag: "Tags", namespace: ns, tags: ["a", "b", "c"] },
        { _tag: "Tags", namespace: ns, tags: ["d"] },
        { _tag: "Tags", namespace: ns, tags: ["e", "f"] },
        { _tag: "Tags", namespace: ns, tags: ["g", "h"], keepsStale: true },
        { _tag: "Tags", namespace: other, tags: ["g", "h"], keepsStale: true }
      ])
      assert.strictEqual(reader.bus.status!().received, 5)
    }).pipe(Effect.scoped)
  )

  it.effect("a change of a kind that is not known here may be of everything, and is complained of once", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
      const reader = yield* Effect.provide(processOn(polling), logger)
      for (let i = 0; i < 2; i++) {
        yield* sql`insert into cache_log (kind, namespace) values ('constellation', ${ns})`
        assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "All" })
      }
      yield* sql`select cache_invalidate(${ns}, 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "k"))
      assert.deepInclude(reader.bus.status!(), { received: 3, gaps: 0 })
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], '"constellation"')
    }).pipe(Effect.scoped)
  )

  it.effect("a change that does not say of what may be of everything", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* processOn(polling)
      for (const [kind, ns] of [
        ["keys", "ns"],
        ["tag", "ns"],
        ["pattern", "ns"],
        ["namespace", null],
        ["tag", null]
      ] as const) {
        yield* sql`insert into cache_log (kind, namespace) values (${kind}, ${ns}::text)`
        assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "All" }, kind)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("of a change of more keys than a message should hold, the namespace is heard of", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const reader = yield* processOn(polling)
      yield* store.remove(
        ns,
        Array.from({ length: 30 }, (_, i) => `${i}${"x".repeat(10_000)}`)
      )
      assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "Namespace", namespace: ns })
    }).pipe(Effect.scoped)
  )

  it.effect("of more changes than are worth reading, that everything may have changed", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      for (const [number, expected] of [
        [10_000, Array.from({ length: 10_000 }, () => keys(ns, "k"))],
        [10_001, [{ _tag: "All" }]]
      ] as const) {
        yield* sql`
          insert into cache_log (kind, namespace, keys)
          select 'keys', ${ns}, '{k}' from generate_series(1, ${number}::int)
        `
        yield* ring(writer)
        const first = yield* reader.nextInvalidation
        const others = yield* reader.received
        assert.deepStrictEqual([first, ...others.map(({ invalidation }) => invalidation)], expected)
      }
      assert.strictEqual(reader.bus.status!().gaps, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("a read goes by the primary key, however much others have changed before", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`insert into cache_log (kind, namespace, keys) select 'keys', 'n', '{k}' from generate_series(1, 50000)`
      const scans = Effect.map(
        sql<{ seq: number; idx: number }>`
          select seq_scan::float8 as seq, idx_scan::float8 as idx from pg_stat_user_tables where relname = 'cache_log'
        `,
        ([counts]) => counts!
      )
      yield* processOn(polling)
      const before = yield* until(scans, ({ idx }) => idx > 0)
      const after = yield* until(scans, ({ idx }) => idx >= before.idx + 20)
      // Other connections may tell late of scans that they made before.
      assert.isBelow(after.seq - before.seq, 10)
      yield* sql`delete from cache_log`
    }).pipe(Effect.scoped)
  )

  it.effect("other schemas and other databases are other caches (C62)", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      yield* sql`create schema elsewhere`
      const client = Database.layerClient({ startupParameters: { search_path: "elsewhere" } })
      yield* Effect.provide(PgMigrations.run, client)
      const here = yield* processOn(polling)
      const elsewhere = yield* join(polling, client)
      const database = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer()))
      const otherDatabase = yield* join(polling, database)
      for (const process of [here, elsewhere, otherDatabase]) {
        yield* process.sql`select cache_invalidate(${ns}, 'k')`
        assert.deepStrictEqual(yield* process.nextInvalidation, keys(ns, "k"))
      }
      for (const process of [here, elsewhere, otherDatabase]) {
        assert.deepStrictEqual(yield* process.received, [])
        assert.strictEqual(process.bus.status!().received, 1)
      }
    }).pipe(Effect.scoped)
  )
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: transactions", (it) => {
  it.effect("what commits late is heard of, once, though later numbers have been read since", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(polling)
      const changed = Deferred.makeUnsafe<void>()
      const commit = Deferred.makeUnsafe<void>()
      const late = yield* store
        .remove(ns, ["late"])
        .pipe(
          Effect.andThen(Deferred.succeed(changed, undefined)),
          Effect.andThen(Deferred.await(commit)),
          sql.withTransaction,
          Effect.forkChild
        )
      yield* Deferred.await(changed)
      for (const key of ["1", "2", "3"]) {
        yield* store.remove(ns, [key])
        assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, key))
      }
      yield* Deferred.succeed(commit, undefined)
      yield* Fiber.join(late)
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "late"))
      yield* store.remove(ns, ["last"])
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "last"))

      // Whoever reads on from the last number it saw has missed it.
      const rows = yield* logged
      const numbers = new Map(rows.map(({ keys, xid }) => [keys?.[0], BigInt(xid)]))
      assert.strictEqual(
        rows.findIndex(({ keys }) => keys?.[0] === "late"),
        0
      )
      assert.isTrue(numbers.get("late")! < numbers.get("1")!)
    }).pipe(Effect.scoped)
  )

  it.effect("what is rolled back, to a savepoint too, nobody hears of", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(polling)
      const no = Effect.fail("no")
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(store.clear(ns), no)))
      yield* Effect.gen(function* () {
        yield* store.remove(ns, ["before"])
        yield* Effect.ignore(sql.withTransaction(Effect.andThen(store.write(ns, [row("undone")]), no)))
        yield* sql.withTransaction(store.remove(ns, ["inside"]))
      }).pipe(sql.withTransaction)
      assert.deepStrictEqual(
        [yield* reader.nextInvalidation, yield* reader.nextInvalidation],
        [keys(ns, "before"), keys(ns, "inside")]
      )
      yield* store.remove(ns, ["last"])
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "last"))
      assert.strictEqual((yield* logged).filter((row) => row.namespace === ns).length, 3)
    }).pipe(Effect.scoped)
  )

  it.effect("a change in a transaction is everyone's news, for the commit may never be acknowledged", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(polling)
      yield* sql.withTransaction(store.remove(ns, ["k"])).pipe(Effect.provideService(CacheOrigin, "me"))
      assert.deepStrictEqual(said(yield* reader.next), { origin: "", invalidation: keys(ns, "k") })
    }).pipe(Effect.scoped)
  )

  it.effect("a change is known to the fences that were taken when it was committed, and to no others", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(polling)
      const snapshot = Effect.map(store.read(ns, ["k"]), ([row]) => row!.fence.snapshot)
      const changes: ReadonlyArray<Effect.Effect<unknown, CacheError>> = [
        store.remove(ns, ["k"]),
        store.clear(ns),
        store.removeTagged(ns, ["t", "u"])
      ]
      for (const change of changes) {
        const before = yield* snapshot
        const commit = yield* Deferred.make<void>()
        const isChanged = yield* Deferred.make<void>()
        const changing = yield* change.pipe(
          Effect.andThen(Deferred.succeed(isChanged, undefined)),
          Effect.andThen(Deferred.await(commit)),
          sql.withTransaction,
          Effect.forkChild
        )
        yield* Deferred.await(isChanged)
        // Others' transactions end meanwhile.
        yield* store.write(namespace(), [row("k")])
        const meanwhile = yield* snapshot
        yield* Deferred.succeed(commit, undefined)
        yield* Fiber.join(changing)
        const after = yield* snapshot
        // The other's is heard of before or with this one, whenever it is looked for.
        const messages = [yield* reader.next, yield* reader.next]
        const { isKnownTo } = messages.find(
          ({ invalidation }) => invalidation._tag !== "All" && invalidation.namespace === ns
        )!
        assert.deepStrictEqual(
          [before, meanwhile, after, after.replace("/", "1/")].map((fence) => isKnownTo!(fence)),
          [false, false, true, false]
        )
      }
    }).pipe(Effect.scoped)
  )

  it.effect("of many transactions that overlap, each is heard of exactly once", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const [bell, poll] = [yield* processOn(listening), yield* processOn({ listen: false, pollInterval: "1 millis" })]
      const writer = yield* processOn(deaf)
      const numbers = Array.from({ length: 400 }, (_, i) => i)
      yield* Effect.forEach(
        numbers,
        (i) =>
          Effect.andThen(store.remove(ns, [`${i}`]), sql`select pg_sleep(${(i * 7) % 11} / 1000.0)`).pipe(
            sql.withTransaction,
            Effect.andThen(ring(writer))
          ),
        { concurrency: 8 }
      )
      for (const { next } of [bell, poll]) {
        const heard = yield* Effect.forEach(numbers, () => next)
        const all = heard.flatMap(({ invalidation }) => (invalidation._tag === "Keys" ? invalidation.keys : []))
        assert.deepStrictEqual(
          all.map(Number).sort((a, b) => a - b),
          numbers
        )
      }
      yield* store.remove(ns, ["last"])
      yield* ring(writer)
      for (const { nextInvalidation } of [bell, poll]) assert.deepStrictEqual(yield* nextInvalidation, keys(ns, "last"))
    }).pipe(Effect.scoped)
  )
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: the bell", (it) => {
  it.effect("a crowd of changes rings it a few times", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      for (let i = 0; i < 10_000; i++) yield* ring(writer)
      yield* sql`select cache_invalidate('crowd', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("crowd", "k"))
      const sent = yield* until(
        Effect.sync(() => writer.bus.status!().sent),
        (sent) => sent > 0
      )
      assert.isAtMost(sent, 50)
    }).pipe(Effect.scoped)
  )

  it.effect("changes without end ring it now and then", () =>
    Effect.gen(function* () {
      const writer = yield* processOn(deaf)
      const tick = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const [took] = yield* Effect.timed(
        Effect.forever(Effect.andThen(ring(writer), tick)).pipe(Effect.timeoutOption("300 millis"))
      )
      assert.isAtMost(writer.bus.status!().sent, Duration.toMillis(took) / 5 + 1)
      assert.isAtLeast(writer.bus.status!().sent, 2)
    }).pipe(Effect.scoped)
  )

  it.effect("is rung once more by a process that changes something and ends at once", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      yield* ring(writer)
      yield* until(
        Effect.sync(() => writer.bus.status!().sent),
        (sent) => sent === 1
      )
      yield* store.remove(ns, ["k"])
      yield* ring(writer)
      yield* writer.close
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "k"))
    }).pipe(Effect.scoped)
  )

  it.effect("no process answers its own, unless it has several caches (C61)", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const [one, other] = [yield* processOn(listening), yield* processOn(listening)]
      yield* store.remove(ns, ["k"])
      yield* ring(one)
      assert.deepStrictEqual(yield* other.nextInvalidation, keys(ns, "k"))
      assert.deepStrictEqual(yield* one.received, [])
      yield* one.bus.subscribe(() => {})
      yield* ring(one)
      assert.deepStrictEqual(yield* one.nextInvalidation, keys(ns, "k"))
    }).pipe(Effect.scoped)
  )

  it.effect("a poller never listens", () =>
    Effect.gen(function* () {
      const reader = yield* processOn(polling)
      yield* reader.sql`select cache_invalidate('polled', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("polled", "k"))
      const [only, ...others] = yield* connections
      assert.deepStrictEqual(others, [])
      assert.notMatch(only!.query, /listen/i)
    }).pipe(Effect.scoped)
  )

  it.effect("closing leaves no connection, and nobody who would make one", () =>
    Effect.gen(function* () {
      const processes = [yield* processOn(listening), yield* processOn(polling), yield* processOn({})]
      assert.strictEqual((yield* connections).length, 3)
      for (const { close } of processes) yield* close
      yield* until(connections, (open) => open.length === 0)
      yield* Effect.sleep("300 millis")
      assert.strictEqual((yield* connections).length, 0)
    }).pipe(Effect.scoped)
  )
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: leases", (it) => {
  const lease = (owner: string) => ({ owner, duration: 60_000 })

  it.effect("who waits for a lease is called when it ends, by a fill, a release or a change; nobody else is", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const [one, other] = [yield* processOn(listening), yield* processOn(listening)]
      const ends: Record<string, Effect.Effect<unknown, unknown>> = {
        fill: Effect.flatMap(store.read(ns, ["fill"]), ([found]) =>
          store.fill(ns, [{ ...row("fill"), fence: found!.fence }])
        ),
        release: store.release(ns, ["release"], "one"),
        write: store.write(ns, [row("write")]),
        remove: store.remove(ns, ["remove"])
      }
      for (const awaited of [false, true]) {
        for (const [key, end] of Object.entries(ends)) {
          yield* store.remove(ns, [key])
          const [found] = yield* store.read(ns, [key])
          const asked = [{ key, fence: found!.fence }]
          assert.deepStrictEqual(yield* store.acquire(ns, asked, lease("one")), [{ _tag: "Granted" }])
          if (awaited) {
            const [grant] = yield* store.acquire(ns, asked, lease("other"))
            assert.strictEqual(grant!._tag, "Held")
          }
          yield* end
          if (!awaited) continue
          for (const { nextReleased } of [one, other]) {
            assert.deepStrictEqual(yield* nextReleased, { namespace: ns, keys: [key] })
          }
        }
      }
      for (const { released } of [one, other]) assert.deepStrictEqual(yield* released, [])
    }).pipe(Effect.scoped)
  )

  it.effect("a lease that ends in a transaction is heard of at its commit, and not if it is rolled back", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const reader = yield* processOn(listening)
      for (const key of ["undone", "done"]) {
        const asked = [{ key, fence: (yield* store.read(ns, [key]))[0]!.fence }]
        yield* store.acquire(ns, asked, lease("one"))
        yield* store.acquire(ns, asked, lease("other"))
      }
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(store.release(ns, ["undone"], "one"), Effect.fail("no"))))
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* store.release(ns, ["done"], "one")
          const outside = (yield* another).sql
          yield* Effect.provideService(notify('1 released ["ns", "before"]'), PgClient.PgClient, outside)
          assert.deepStrictEqual(yield* reader.nextReleased, { namespace: "ns", keys: ["before"] })
        })
      )
      assert.deepStrictEqual(yield* reader.nextReleased, { namespace: ns, keys: ["done"] })
    }).pipe(Effect.scoped)
  )

  it.effect("odd namespaces and keys arrive as they are; of a key too long for the channel nobody hears", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const reader = yield* processOn(listening)
      const odd = ["", "%", "\\", "'", '"', "[", "a\nb", "😀", "\u001a0000", "\u0001", "x".repeat(7000)]
      for (const ns of ["%_\\*?[]'\"😀", namespace()]) {
        for (const key of ["x".repeat(10_000), ...odd]) {
          const asked = [{ key, fence: (yield* store.read(ns, [key]))[0]!.fence }]
          yield* store.acquire(ns, asked, lease("one"))
          yield* store.acquire(ns, asked, lease("other"))
          yield* store.release(ns, [key], "one")
        }
        for (const key of odd) assert.deepStrictEqual(yield* reader.nextReleased, { namespace: ns, keys: [key] })
      }
    }).pipe(Effect.scoped)
  )

  it.effect("a call comes in the pause of the reader, too, and nothing is read for it", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const clock = yield* Layer.build(TestClock.layer())
      // Its time stands still: it is in the pause after its first read.
      const reader = yield* Effect.provideContext(processOn(listening), clock)
      const called = Effect.gen(function* () {
        yield* notify('1 released ["ns", "k"]')
        assert.deepStrictEqual(yield* reader.nextReleased, { namespace: "ns", keys: ["k"] })
      })
      yield* store.remove(ns, ["k"])
      yield* called
      yield* Effect.provideContext(TestClock.adjust("1 second"), clock)
      // What is asked on a connection is answered before the next notification.
      yield* called
      assert.deepStrictEqual(yield* reader.received, [])
      yield* notify("1")
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "k"))
      yield* Effect.provideContext(TestClock.adjust("1 second"), clock)
    }).pipe(Effect.scoped)
  )

  it.effect("whatever else is notified is a doorbell, as later versions may say more", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const reader = yield* processOn(listening)
      for (const payload of [
        "",
        "1",
        "2",
        "1 someone",
        '2 released ["ns", "k"]',
        '1 renewed ["ns", "k"]',
        "1 released",
        "1 released ",
        "1 released ns",
        '1 released {"namespace":"ns","key":"k"}',
        '1 released ["ns"]',
        '1 released ["ns", 7]',
        '1 released ["ns", "k"'
      ]) {
        yield* store.remove(ns, [payload])
        yield* notify(payload)
        assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, payload))
      }
      assert.deepStrictEqual(yield* reader.released, [])
    }).pipe(Effect.scoped)
  )

  it.effect("of several caches on one bus each is called, until it closes", () =>
    Effect.gen(function* () {
      const reader = yield* processOn(listening)
      const heard: Array<string> = []
      const scope = yield* Scope.make()
      yield* reader.bus.subscribe(
        () => {},
        ({ keys }) => heard.push(`lasting ${keys}`)
      )
      yield* Scope.provide(
        reader.bus.subscribe(
          () => {},
          ({ keys }) => heard.push(`closed ${keys}`)
        ),
        scope
      )
      yield* reader.bus.subscribe(() => {})
      yield* notify('1 released ["ns", "1"]')
      yield* reader.nextReleased
      yield* Scope.close(scope, Exit.void)
      yield* notify('1 released ["ns", "2"]')
      yield* reader.nextReleased
      assert.deepStrictEqual(heard.toSorted(), ["closed 1", "lasting 1", "lasting 2"])
    }).pipe(Effect.scoped)
  )

  it.effect("the bus itself calls nobody, for the store has done so where somebody waits", () =>
    Effect.gen(function* () {
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      yield* writer.bus.wake({ namespace: "ns", keys: ["k"] })
      yield* Effect.provideService(notify('1 released ["ns", "last"]'), PgClient.PgClient, writer.sql)
      assert.deepStrictEqual(yield* reader.nextReleased, { namespace: "ns", keys: ["last"] })
      assert.strictEqual(writer.bus.status!().sent, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("a poller is never called", () =>
    Effect.gen(function* () {
      const reader = yield* processOn(polling)
      const sql = yield* PgClient.PgClient
      yield* notify('1 released ["ns", "k"]')
      yield* sql`select cache_invalidate('polled', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("polled", "k"))
      assert.deepStrictEqual(yield* reader.released, [])
    }).pipe(Effect.scoped)
  )
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: a URL of its own", (it) => {
  /** As it is behind a pooler: the address of the client is none that the bus could use. */
  const pooled = (options?: EmbeddedPostgres.ClientOptions) =>
    Layer.tap(Database.layerClient({ maxConnections: 3, ...options }), (context) =>
      Effect.sync(() => {
        const client = Context.get(context, PgClient.PgClient)
        const elsewhere = { host: "localhost", port: 1, path: "/nowhere", ssl: true, database: "nowhere" }
        const someone = {
          username: "nobody",
          password: Redacted.make("wrong"),
          startupOptions: "-c search_path=nowhere"
        }
        Object.assign(client, { config: { ...client.config, ...elsewhere, ...someone } })
      })
    )

  const urlOf = (change: (url: URL) => void = () => {}) =>
    Effect.map(Database, (database) => {
      const url = new URL(database.url)
      change(url)
      return Redacted.make(url.href)
    })

  it.effect("with it the bus hears, where the client's own address does not let it", () =>
    Effect.gen(function* () {
      const ns = namespace()
      const without = yield* join(listening, pooled())
      assert.strictEqual(without.bus.status!().health.status, "Down")
      const reader = yield* join({ ...listening, url: yield* urlOf() }, pooled())
      assert.strictEqual(reader.bus.status!().health.status, "Up")
      yield* reader.sql`select cache_invalidate(${ns}, 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "k"))
      yield* ring(reader)
      yield* until(
        Effect.sync(() => reader.bus.status!().sent),
        (sent) => sent === 1
      )
    }).pipe(Effect.scoped)
  )

  it.effect("what a URL cannot say is as in the client, such as the search path of its sessions", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema apart`
      const options = { startupParameters: { search_path: "apart" } }
      yield* Effect.provide(PgMigrations.run, Database.layerClient(options))
      const reader = yield* join({ ...polling, url: yield* urlOf() }, pooled(options))
      yield* reader.sql`select cache_invalidate('apart', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("apart", "k"))
    }).pipe(Effect.scoped)
  )

  it.effect("a URL that leads to another database or schema, where such a log may be too, is as good as none", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema wrong`
      yield* Effect.provide(PgMigrations.run, Database.layerClient({ startupParameters: { search_path: "wrong" } }))
      const context = yield* Layer.build(Layer.fresh(PgMigrations.layer.pipe(Layer.provideMerge(Database.layer()))))
      const urls = [
        Redacted.make(Context.get(context, Database).url),
        yield* urlOf(({ searchParams }) => searchParams.set("options", "-csearch_path=wrong"))
      ]
      for (const url of urls) {
        const reader = yield* join({ ...polling, url }, pooled())
        const { health } = reader.bus.status!()
        assert.strictEqual(health.status, "Down")
        assert.include(health.problem, "another database or another schema")
      }
    }).pipe(Effect.scoped)
  )
})

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("PgInvalidationBus: trouble", (it) => {
  const cut = Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const open = yield* connections
    for (const { pid } of open) yield* sql`select pg_terminate_backend(${pid})`
    yield* until(connections, (now) => now.every(({ pid }) => open.every((cut) => cut.pid !== pid)))
  })

  it.effect("a reader that was cut off hears of what it missed, and says when it was (C69)", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
      const startedAt = Date.now()
      const reader = yield* Effect.provide(processOn(listening), logger)
      yield* store.remove(ns, ["before"])
      // While the log is locked the reader cannot be back, and no bell tells it of this.
      yield* sql`lock table cache_log in access exclusive mode`.pipe(
        Effect.andThen(cut),
        Effect.andThen(store.remove(ns, ["meanwhile"])),
        Effect.andThen(
          until(
            Effect.sync(() => reader.bus.status!()),
            ({ health }) => health.status === "Down"
          )
        ),
        sql.withTransaction,
        Effect.tap(({ health: { problem, since } }) =>
          Effect.sync(() => {
            const heardAt = Date.parse(/changed since (\S+)$/.exec(problem!)![1]!)
            assert.isAtLeast(heardAt, startedAt)
            assert.isAtMost(heardAt, since)
          })
        )
      )
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "before"))
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "meanwhile"))
      yield* until(
        Effect.sync(() => reader.bus.status!()),
        ({ health }) => health.status === "Up"
      )
      assert.deepInclude(reader.bus.status!(), { caughtUp: 2, gaps: 0 })
      assert.match(lines.join("\n"), /cut off.*\n.*hears again/)
      // And it hears the bell again.
      const writer = yield* processOn(deaf)
      yield* store.remove(ns, ["after"])
      yield* ring(writer)
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "after"))
      yield* notify('1 released ["ns", "k"]')
      assert.deepStrictEqual(yield* reader.nextReleased, { namespace: "ns", keys: ["k"] })
    }).pipe(Effect.scoped)
  )

  it.effect("a reader that has not looked for so long that the log was trimmed has everything dropped", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      yield* store.remove(ns, ["missed"])
      yield* hourPasses
      yield* hourPasses
      assert.deepStrictEqual(
        (yield* logged).filter((row) => row.namespace === ns),
        []
      )
      yield* ring(writer)
      assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "All" })
      assert.deepInclude(reader.bus.status!(), { gaps: 1, received: 0 })
      // From there on it reads as before.
      yield* store.remove(ns, ["heard"])
      yield* ring(writer)
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "heard"))
    }).pipe(Effect.scoped)
  )

  it.effect("what somebody may not have read yet is not trimmed, however old it is", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
      yield* Effect.gen(function* () {
        yield* store.remove(ns, ["long open"])
        // Elsewhere hours pass, and the reader looks now and then.
        for (const hour of ["1", "2", "3"]) {
          yield* hourPasses
          yield* writer.sql`select cache_invalidate(${ns}, ${hour})`
          assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, hour))
        }
      }).pipe(sql.withTransaction)
      yield* hourPasses
      yield* ring(writer)
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "long open"))
      assert.strictEqual(reader.bus.status!().gaps, 0)
      yield* hourPasses
      assert.deepStrictEqual(
        (yield* logged).filter((row) => row.namespace === ns),
        []
      )
    }).pipe(Effect.scoped)
  )

  it.effect(
    "where the horizon is lost, or comes out of a dump, everything is dropped until the sweeper has mended it",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const store = yield* CacheStore
        const ns = namespace()
        const [reader, writer] = [yield* processOn(listening), yield* processOn(deaf)]
        for (const loss of [
          sql`delete from cache_log_horizon`,
          sql`update cache_log_horizon set trimmed = '9000000:9000000:', next = '9000000:9000000:', next_at = '2100-01-01Z'`
        ]) {
          yield* loss
          yield* ring(writer)
          assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "All" })
          yield* store.sweep(1000)
          // The log reaches back to where it was mended, which is later than the reader's place.
          yield* store.remove(ns, ["perhaps"])
          yield* ring(writer)
          yield* reader.next
          yield* store.remove(ns, ["heard"])
          yield* ring(writer)
          assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "heard"))
        }
      }).pipe(Effect.scoped)
  )

  it.effect("rows out of a dump, with numbers that are yet to come, are not heard of again and again", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      const reader = yield* processOn(polling)
      yield* sql`insert into cache_log (xid, kind, namespace) values ('9000000', 'namespace', ${ns})`
      yield* store.remove(ns, ["k"])
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys(ns, "k"))
      yield* sql`delete from cache_log where xid = '9000000'`
    }).pipe(Effect.scoped)
  )

  it.effect("without the right to read the log it is down, and says why", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema nothing_there`
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
      const client = Database.layerClient({ startupParameters: { search_path: "nothing_there" } })
      const reader = yield* Effect.provide(join(polling, client), logger)
      const { health } = reader.bus.status!()
      assert.strictEqual(health.status, "Down")
      assert.include(health.problem, "cache_log_horizon")
      assert.strictEqual(lines.length, 1)
    }).pipe(Effect.scoped)
  )
})

/** As the sweeper finds it an hour after it has last run. */
const hourPasses = Effect.gen(function* () {
  const { sql, store } = yield* another
  yield* sql`update cache_log_horizon set next_at = next_at - interval '1 hour'`
  // Once it has moved, it deletes.
  yield* store.sweep(1000)
  yield* store.sweep(1000)
}).pipe(Effect.scoped)

/** A client and a store outside of any transaction of this fiber's. */
const another = Effect.map(
  Effect.suspend(() =>
    Layer.build(Layer.provideMerge(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 1 })))
  ),
  (context) => ({ sql: Context.get(context, PgClient.PgClient), store: Context.get(context, CacheStore) })
)

/** A server of this file's own: what is done to it is done to nobody else. */
const serverOf = (data: string) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const { url } = yield* Scope.provide(EmbeddedPostgres.server({ directory: data }), scope)
    return { url, stop: Scope.close(scope, Exit.void) }
  })

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bus-"))
    fs.chmodSync(directory, 0o755)
    return path.join(directory, "postgres")
  }),
  (directory) => Effect.sync(() => fs.rmSync(path.dirname(directory), { recursive: true, force: true }))
)

const clientOf = (url: string) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections: 3, connectTimeout: "1 second" })

/** A cache as a process would have it. */
const cacheOn = <E, R>(client: Layer.Layer<PgClient.PgClient, E, R>) =>
  Layer.build(
    CacheLive.layer({
      policy: { jitter: 0, staleIfError: 0 },
      store: { readTimeout: "200 millis", writeTimeout: "200 millis", breakerProbeInterval: "50 millis" },
      bus: { pollInterval: "20 millis" }
    }).pipe(Layer.provide(Layer.fresh(client)))
  ).pipe(Effect.map((context) => Context.get(context, TieredCache)))

const Strings = Namespace.make("strings", { value: Schema.String })

layer(Postgres, { excludeTestServices: true, timeout: "60 seconds" })("A cache whose bus comes back first", (it) => {
  it.effect("drops what others have changed, though it cannot ask the store yet (C67)", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const cache = yield* cacheOn(Database.layerClient({ maxConnections: 3 }))
      const componentsOf = Effect.map(cache.health, ({ components }) => [
        components.store.status,
        components.bus!.status
      ])
      yield* cache.getOrSet(Strings, "k", Effect.succeed("old"))
      yield* Effect.gen(function* () {
        yield* sql`lock table cache_entries, cache_log in access exclusive mode`
        for (const { pid } of yield* connections) yield* sql`select pg_terminate_backend(${pid})`
        yield* until(cache.health, ({ components }) => components.bus?.status === "Down")
        assert.strictEqual(yield* cache.getOrSet(Strings, "k", Effect.succeed("new")), "old")
        yield* sql`select cache_invalidate('strings', 'k')`
      }).pipe(sql.withTransaction)
      yield* Effect.gen(function* () {
        yield* sql`lock table cache_entries in access exclusive mode`
        const read = cache.getOrSet(Strings, "k", Effect.succeed("new"))
        assert.strictEqual(yield* until(read, (value) => value !== "old"), "new")
        yield* until(componentsOf, ([, bus]) => bus === "Up")
      }).pipe(sql.withTransaction)
      yield* until(cache.health, ({ status }) => status === "Up")
      assert.strictEqual(yield* cache.getOrSet(Strings, "k", Effect.succeed("newer"), { force: true }), "newer")
    }).pipe(Effect.scoped)
  )
})

describe("PgInvalidationBus on a server in trouble", () => {
  it.live("caches that lose store and bus go on from memory, and serve nothing old once both are back (C66)", () =>
    Effect.gen(function* () {
      const data = yield* directory
      const first = yield* serverOf(data)
      const caches = [yield* cacheOn(clientOf(first.url)), yield* cacheOn(clientOf(first.url))] as const
      const [one, other] = caches
      // A first load is nobody's news: none comes later to drop what is read here.
      yield* one.getOrSet(Strings, "k", Effect.succeed("old"))
      yield* one.getOrSet(Strings, "kept", Effect.succeed("kept"))
      for (const key of ["k", "kept"]) yield* other.get(Strings, key)
      yield* first.stop
      for (const cache of caches) {
        yield* until(
          cache.health,
          ({ components: { bus, store } }) => bus?.status === "Down" && store.status === "Down"
        )
        assert.strictEqual((yield* cache.health).status, "Degraded")
        assert.strictEqual(yield* cache.getOrSet(Strings, "k", Effect.succeed("new")), "old")
      }
      assert.isTrue(Exit.isFailure(yield* Effect.exit(one.invalidate(Strings, "k"))))
      yield* serverOf(data)
      for (const cache of caches) yield* until(cache.health, ({ status }) => status === "Up")
      for (const cache of caches) {
        assert.deepStrictEqual(yield* cache.get(Strings, "k"), Option.none())
        assert.deepStrictEqual(yield* cache.get(Strings, "kept"), Option.some("kept"))
        assert.strictEqual((yield* cache.stats).bus?.gaps, 1)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a bus that finds no server is made all the same, and has everything dropped when there is one", () =>
    Effect.gen(function* () {
      const data = yield* directory
      const first = yield* serverOf(data)
      const client = clientOf(first.url)
      yield* Effect.provide(PgMigrations.run, client)
      yield* first.stop

      const reader = yield* join(polling, client)
      assert.strictEqual(reader.bus.status!().health.status, "Down")
      yield* ring(reader)
      yield* serverOf(data)
      assert.deepStrictEqual(yield* reader.next, { origin: "", invalidation: { _tag: "All" } })
      yield* reader.sql`select cache_invalidate('ns', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("ns", "k"))
      assert.deepInclude(reader.bus.status!(), { gaps: 0, received: 1 })
    }).pipe(Effect.scoped)
  )

  it.live("another run of the server may have used numbers twice: everything is dropped", () =>
    Effect.gen(function* () {
      const data = yield* directory
      const first = yield* serverOf(data)
      const client = clientOf(first.url)
      yield* Effect.provide(PgMigrations.run, client)
      const reader = yield* join({}, client)
      process.kill(Number(fs.readFileSync(path.join(data, "data/postmaster.pid"), "utf8").split("\n")[0]), "SIGKILL")
      yield* until(
        Effect.sync(() => reader.bus.status!().health.status),
        (status) => status === "Down"
      )
      yield* first.stop
      yield* serverOf(data)
      assert.deepStrictEqual(yield* reader.nextInvalidation, { _tag: "All" })
      yield* reader.sql`select cache_invalidate('ns', 'k')`
      assert.deepStrictEqual(yield* reader.nextInvalidation, keys("ns", "k"))
      assert.deepInclude(reader.bus.status!(), { gaps: 1, received: 1 })
    }).pipe(Effect.scoped)
  )

  it.live(
    "a connection that does not answer is left for another, and keeps nobody from closing",
    () =>
      Effect.gen(function* () {
        const { url } = yield* serverOf(yield* directory)
        const client = clientOf(url)
        yield* Effect.provide(PgMigrations.run, client)
        const stopped: Array<number> = []
        yield* Effect.addFinalizer(() => Effect.sync(() => stopped.forEach((pid) => process.kill(pid, "SIGCONT"))))
        const reader = yield* join({ pollInterval: "20 millis" }, client)
        const freeze = (pid: number) =>
          Effect.sync(() => {
            process.kill(pid, "SIGSTOP")
            stopped.push(pid)
          })
        const [first] = yield* Effect.provide(connections, client)
        yield* freeze(first!.pid)
        yield* reader.sql`select cache_invalidate('ns', 'k')`
        yield* until(reader.received, (heard) => heard.length === 1)
        assert.deepInclude(reader.bus.status!(), { gaps: 0, caughtUp: 1 })
        const second = (yield* Effect.provide(connections, client)).find(({ pid }) => pid !== first!.pid)
        yield* freeze(second!.pid)
        yield* reader.close
      }).pipe(Effect.scoped),
    { timeout: 30_000 }
  )
})
