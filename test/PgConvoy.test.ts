import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import * as fc from "fast-check"
import { CacheOrigin, CacheStore } from "../src/CacheStore.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { documentOf, fenced, load, namespace, row, type Store } from "./suites/storeRows.ts"
import { Database } from "./support/Database.ts"
import { counted } from "./support/counted.ts"
import { untilWaiting } from "./support/untilWaiting.ts"

const Postgres = PgCacheStore.layer.pipe(
  Layer.provideMerge(PgMigrations.layer),
  Layer.provideMerge(Database.layer({ maxConnections: 10 }))
)

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

const atOnce = <A, E, R>(calls: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(calls, { concurrency: "unbounded" })

/** Runs the effect while a transaction of somebody else has done this, and is open; it then commits. */
const whileOpen = <A, E, R, B, E2, R2>(done: Effect.Effect<B, E2, R2>, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const [isOpen, mayEnd] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const transaction = yield* done.pipe(
      Effect.andThen(Deferred.succeed(isOpen, undefined)),
      Effect.andThen(Deferred.await(mayEnd)),
      sql.withTransaction,
      Effect.forkChild
    )
    yield* Deferred.await(isOpen)
    const answer = yield* effect
    yield* Deferred.succeed(mayEnd, undefined)
    yield* Fiber.join(transaction)
    return answer
  })

layer(Postgres, { timeout: "60 seconds" })("calls of a PgCacheStore at the same time", (it) => {
  it.effect("travel together, and each is answered for its own keys", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const [, writes] = yield* counted(atOnce(numbers(64).map((i) => store.write(ns, [row(`${i}`, i)]))))
      assert.isAtMost(writes, 4)
      const [found, reads] = yield* counted(
        atOnce(numbers(64).map((i) => store.read(ns, [`${i}`, `none ${i}`, `${63 - i}`])))
      )
      assert.isAtMost(reads, 5)
      assert.deepStrictEqual(
        found.map((rows) => rows.map(documentOf)),
        numbers(64).map((i) => [i, undefined, 63 - i])
      )
      const lease = (i: number) => ({ owner: `owner ${i}`, duration: 60_000 })
      const fences = found.map((rows) => rows[1]!.fence)
      const [grants, requests] = yield* counted(
        atOnce(numbers(64).map((i) => store.acquire(ns, [{ key: `none ${i}`, fence: fences[i]! }], lease(i % 2))))
      )
      assert.isAtMost(requests, 4)
      assert.isTrue(grants.every(([grant]) => grant!._tag === "Granted"))
      const again = yield* atOnce(
        numbers(64).map((i) => store.acquire(ns, [{ key: `none ${i}`, fence: fences[i]! }], lease(i < 32 ? i % 2 : 7)))
      )
      assert.deepStrictEqual(
        again.map(([grant]) => grant!._tag),
        numbers(64).map((i) => (i < 32 ? "Granted" : "Held"))
      )
      const [filled, fills] = yield* counted(
        atOnce(numbers(64).map((i) => store.fill(ns, [fenced(row(`none ${i}`, -i), fences[i % 2 === 0 ? i : 0]!)])))
      )
      assert.isAtMost(fills, 4)
      assert.isTrue(filled.every(([isStored]) => isStored))
      assert.deepStrictEqual((yield* store.read(ns, ["none 7", "none 8"])).map(documentOf), [-7, -8])
    })
  )

  it.effect("on one key: every reader is answered, and of the writers the one that came last wins", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      yield* atOnce(numbers(20).map((i) => store.write(ns, [row("k", i)])))
      const found = yield* atOnce(numbers(20).map(() => load(store, ns, "k")))
      assert.deepStrictEqual(
        found.map(documentOf),
        numbers(20).map(() => 19)
      )
    })
  )

  it.effect("of a fiber each answer what they would alone", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const plain = yield* Effect.provide(CacheStore, CacheStore.layerMemory, { local: true })
      const commands = fc.array(
        fc.record({
          does: fc.constantFrom("read", "write", "fill", "fill late", "remove", "acquire"),
          key: fc.constantFrom("a", "b", "c"),
          also: fc.constantFrom("d", undefined)
        }),
        { minLength: 3, maxLength: 12, size: "max" }
      )
      const property = fc.asyncProperty(fc.array(commands, { minLength: 6, maxLength: 12, size: "max" }), (fibers) =>
        Effect.runPromise(
          Effect.gen(function* () {
            const ns = namespace()
            const play = (store: Store) =>
              atOnce(fibers.map((commands, fiber) => playIn(store, ns, commands, `${fiber}`)))
            assert.deepStrictEqual(yield* play(store), yield* play(plain))
          })
        )
      )
      yield* Effect.promise(() => fc.assert(property, { numRuns: 25 }))
    })
  )

  const playIn = (
    store: Store,
    ns: string,
    commands: ReadonlyArray<{ readonly does: string; readonly key: string; readonly also: string | undefined }>,
    fiber: string
  ) =>
    Effect.gen(function* () {
      const answers: Array<unknown> = []
      for (const [index, { also, does, key }] of commands.entries()) {
        const keys = [key, ...(also === undefined ? [] : [also])].map((key) => `${fiber} ${key}`)
        const found = yield* store.read(ns, keys)
        const rows = keys.map((key) => row(key, `${fiber} ${index} ${key}`))
        answers.push(found.map(documentOf))
        if (does === "write") yield* store.write(ns, rows)
        if (does === "remove") answers.push(yield* store.remove(ns, keys))
        if (does === "fill late") yield* store.write(ns, [row(`${fiber} d`, "in between")])
        if (does === "fill" || does === "fill late") {
          const fill = store.fill(
            ns,
            rows.map((row, i) => fenced(row, found[i]!.fence))
          )
          answers.push(yield* fill)
        }
        if (does === "acquire") {
          const asked = keys.map((key, i) => ({ key, fence: found[i]!.fence }))
          const grants = yield* store.acquire(ns, asked, { owner: `${index % 2}`, duration: 60_000 })
          answers.push(grants.map(({ _tag }) => _tag))
        }
      }
      return answers
    })

  it.effect("do not fail for a value that the database refuses of one of them", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const ns = namespace()
      const exits = yield* atOnce(
        numbers(12).map((i) =>
          Effect.exit(store.write(ns, [{ ...row(`${i}`, i), ...(i === 7 && { data: "no JSON" }) }]))
        )
      )
      assert.deepStrictEqual(
        exits.map(Exit.isSuccess),
        numbers(12).map((i) => i !== 7)
      )
      assert.deepStrictEqual(
        (yield* store.read(ns, numbers(12).map(String))).map(documentOf),
        numbers(12).map((i) => (i === 7 ? undefined : i))
      )
    })
  )

  it.effect("do not wait for a row that somebody holds and only one of them writes", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("3", "old")])
      const held = yield* load(store, ns, "3")
      const writes = yield* whileOpen(
        sql`select from cache_entries where namespace = ${ns} and cache_key = '3' for update`,
        Effect.gen(function* () {
          const writes = yield* Effect.forEach(numbers(6), (i) =>
            Effect.forkChild(store.write(ns, [row(`${i}`, i)]), { startImmediately: true })
          )
          for (const i of [0, 1, 2, 4, 5]) yield* Fiber.join(writes[i]!)
          assert.isUndefined(writes[3]!.pollUnsafe())
          yield* Fiber.join(yield* Effect.forkChild(store.write(ns, [row("6", 6)])))
          const fences = yield* store.read(ns, ["7", "8"])
          const filled = yield* atOnce([
            store.fill(ns, [fenced(row("7", 7), fences[0]!.fence)]),
            store.fill(ns, [fenced(row("3", "filled"), held.fence)]),
            store.fill(ns, [fenced(row("8", 8), fences[1]!.fence)])
          ])
          assert.deepStrictEqual(filled, [[true], [false], [true]])
          return writes
        })
      )
      yield* Fiber.join(writes[3]!)
      assert.deepStrictEqual((yield* store.read(ns, numbers(9).map(String))).map(documentOf), numbers(9))
    })
  )

  it.effect("where another process has written one of the keys, the others' writes are not held up by that", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const other = Context.get(
        yield* Layer.build(Layer.provide(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 2 }))),
        CacheStore
      )
      const ns = namespace()
      const sql = yield* PgClient.PgClient
      yield* store.write(ns, [row("0", "old"), row("1", "old")])
      yield* other.write(ns, [row("3", "theirs")])
      const [writes, sent] = yield* whileOpen(
        // The first two trips find their rows held, so they learn nothing of the other process's write.
        sql`select from cache_entries where namespace = ${ns} and cache_key in ('0', '1') for update`,
        counted(
          Effect.gen(function* () {
            const writes = yield* Effect.forEach(numbers(6), (i) =>
              Effect.forkChild(store.write(ns, [row(`${i}`, i)]), { startImmediately: true })
            )
            yield* Effect.forEach(writes.slice(2), Fiber.join)
            return writes
          })
        )
      )
      yield* Effect.forEach(writes, Fiber.join)
      // Two that are refused, and again alone; one for the other four; a look at the key, and it alone.
      assert.isAtMost(sent, 7)
      assert.deepStrictEqual((yield* store.read(ns, numbers(6).map(String))).map(documentOf), numbers(6))
    })
  )

  it.effect("a write that is the victim of a deadlock is tried again", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("1", "old"), row("2", "old")])
      const [holds, mayAsk] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const hold = (key: string) =>
        sql`select from cache_entries where namespace = ${ns} and cache_key = ${key} for update`
      const transaction = yield* hold("2").pipe(
        Effect.andThen(Deferred.succeed(holds, undefined)),
        Effect.andThen(Deferred.await(mayAsk)),
        Effect.andThen(hold("1")),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* Deferred.await(holds)
      const [[, sent]] = yield* Effect.all(
        [
          counted(store.write(ns, [row("1", 1), row("2", 2)])),
          // When it waits with no limit, and has the other row.
          untilWaiting(1, "100 ms").pipe(Effect.andThen(Deferred.succeed(mayAsk, undefined)))
        ],
        { concurrency: "unbounded" }
      )
      assert.isAtLeast(sent, 3)
      yield* Fiber.join(transaction)
      assert.deepStrictEqual((yield* store.read(ns, ["1", "2"])).map(documentOf), [1, 2])
      // On a machine that stalls for a second it is the transaction.
    }).pipe(Effect.retry({ times: 5 }))
  )

  it.effect("inside a transaction share nothing with those outside", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(
        ns,
        numbers(4).map((i) => row(`${i}`, "old"))
      )
      const inside = Effect.gen(function* () {
        yield* store.write(ns, [row("0", "new")])
        return documentOf(yield* load(store, ns, "0"))
      }).pipe(
        Effect.andThen((seen) => Effect.fail(seen)),
        sql.withTransaction,
        Effect.flip
      )
      const outside = Effect.forEach(numbers(10), () => Effect.map(load(store, ns, "0"), documentOf))
      const [seen, ...others] = yield* atOnce<unknown, unknown, never>([inside, outside, outside, outside])
      assert.strictEqual(seen, "new")
      assert.deepStrictEqual(
        others,
        numbers(3).map(() => numbers(10).map(() => "old"))
      )
      assert.strictEqual(documentOf(yield* load(store, ns, "0")), "old")
    })
  )

  it.effect("see what was committed before they were made, whatever is under way", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* store.write(ns, [row("k", "old")])
      const under = yield* whileOpen(
        sql`lock table cache_entries in access exclusive mode`,
        Effect.gen(function* () {
          const under = yield* Effect.forEach(numbers(2), () => Effect.forkChild(load(store, ns, "k")))
          yield* untilWaiting(2)
          return [...under, yield* Effect.forkChild(load(store, ns, "k"), { startImmediately: true })]
        })
      )
      yield* Effect.forEach(under, Fiber.join)
      const before = yield* Effect.forEach(numbers(30), (i) =>
        Effect.forkChild(load(store, ns, `${i}`), { startImmediately: true })
      )
      yield* sql`update cache_entries set data = '"new"', version = nextval('cache_versions') where namespace = ${ns}`
      assert.strictEqual(documentOf(yield* load(store, ns, "k")), "new")
      yield* Effect.forEach(before, Fiber.join)
    })
  )

  it.effect("of two caches tell the others on behalf of the one that made them", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const store = yield* CacheStore
      const ns = namespace()
      yield* atOnce(
        numbers(20).map((i) => Effect.provideService(store.write(ns, [row(`${i}`, i)]), CacheOrigin, `cache ${i % 2}`))
      )
      const lines = yield* sql<{ origin: string; keys: ReadonlyArray<string> }>`
        select origin, keys from cache_log where namespace = ${ns}
      `
      for (const { keys, origin } of lines)
        for (const key of keys) assert.strictEqual(origin, `cache ${Number(key) % 2}`)
      assert.strictEqual(lines.flatMap(({ keys }) => keys).length, 20)
      assert.isBelow(lines.length, 20)
    })
  )

  it.effect("end when the client's scope does, those too that have not left yet", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const ns = namespace()
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        Layer.provide(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 4 })),
        scope
      )
      const store = Context.get(context, CacheStore)
      const fibers = yield* whileOpen(
        sql`lock table cache_entries in access exclusive mode`,
        Effect.gen(function* () {
          const fibers = yield* Effect.forEach(numbers(8), (i) => Effect.forkChild(load(store, ns, `${i}`)))
          yield* untilWaiting(2)
          yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          return fibers
        })
      )
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      assert.isTrue(exits.slice(2).every(Exit.isFailure))
    })
  )
})
