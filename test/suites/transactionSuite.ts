/** Inside the caller's transaction (G2): cache and data commit or roll back together, memory follows the commit. */
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Schema } from "effect"
import { openFences } from "../support/invariants.ts"
import { controlled, start, type Test } from "./cacheNode.ts"
import { type Removal, removals } from "./removals.ts"

const rollback = Effect.fail("rolled back")

export const transactionSuite = (test: Test<PgClient.PgClient>): void => {
  interface Change {
    readonly change: Removal
    readonly after: Option.Option<number>
  }

  const removing = (change: Removal): Change => ({ change, after: Option.none() })

  const changes: Record<string, Change> = {
    set: { change: (cache, ns) => cache.set(ns, "a", 2), after: Option.some(2) },
    setMany: { change: (cache, ns) => cache.setMany(ns, [["a", 2]]), after: Option.some(2) },
    "set with timeToLive 0": removing((cache, ns) => cache.set(ns, "a", 2, { timeToLive: 0 })),
    invalidate: removing((cache, ns) => cache.invalidate(ns, "a")),
    invalidateMany: removing((cache, ns) => cache.invalidateMany(ns, ["a", "b"])),
    ...Object.fromEntries(Object.entries(removals).map(([name, change]) => [name, removing(change)])),
    clear: removing((cache, ns) => cache.clear(ns)),
    clearAll: removing((cache) => cache.clearAll)
  }

  for (const [name, { after, change }] of Object.entries(changes)) {
    test(`${name} in a transaction is seen inside at once, by everyone else after the commit`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        yield* b.cache.get(ns, "a")
        const changed = Deferred.makeUnsafe<void>()
        const commit = Deferred.makeUnsafe<void>()
        const transaction = yield* start(
          sql.withTransaction(
            Effect.gen(function* () {
              assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
              yield* change(a.cache, ns)
              assert.deepStrictEqual(yield* a.cache.get(ns, "a"), after)
              assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a"]), [after])
              assert.strictEqual(
                yield* a.cache.getOrSet(ns, "a", Effect.succeed(9)),
                Option.getOrElse(after, () => 9)
              )
              yield* Deferred.succeed(changed, undefined)
              yield* Deferred.await(commit)
            })
          )
        )
        yield* Effect.race(Deferred.await(changed), Fiber.join(transaction))
        for (const { cache, memory } of [a, b]) {
          assert.strictEqual(memory.entries, 1)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
          assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
        }
        yield* Deferred.succeed(commit, undefined)
        yield* Fiber.join(transaction)
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), after)
      }))

    test(`${name} in a transaction that is rolled back has not happened, in any tier of any node`, ({
      namespace,
      node
    }) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        yield* b.cache.get(ns, "a")
        const transaction = sql.withTransaction(Effect.andThen(change(a.cache, ns), rollback))
        assert.strictEqual(yield* Effect.flip(transaction), "rolled back")
        for (const { cache, memory } of [a, b]) {
          assert.strictEqual(memory.entries, 1)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
          assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
        }
        assert.strictEqual(openFences(), 0)
      }))

    test(`${name} in a savepoint that is rolled back has not happened when the rest commits`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const [a, b] = [yield* node(), yield* node()]
        const ns = namespace({ value: Schema.Int })
        yield* a.cache.set(ns, "a", 1, { tags: ["t"] })
        yield* b.cache.get(ns, "a")
        yield* sql.withTransaction(
          Effect.gen(function* () {
            const savepoint = sql.withTransaction(Effect.andThen(change(a.cache, ns), rollback))
            assert.strictEqual(yield* Effect.flip(savepoint), "rolled back")
            assert.deepStrictEqual(yield* a.cache.get(ns, "a"), Option.some(1))
            yield* a.cache.set(ns, "kept", 5)
          })
        )
        for (const { cache, memory } of [a, b]) {
          assert.isDefined(memory.partition(ns.name).get("a", 0))
          assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "kept"]), [Option.some(1), Option.some(5)])
          assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
        }
        assert.strictEqual(openFences(), 0)
      }))

    test(`C50 ${name} in a transaction wins over a load that began before the commit`, ({ namespace, node }) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        // Each process is to have a load of its own under way.
        const config = { policy: { leaseDuration: 0 } }
        const [a, b] = [yield* node({ config }), yield* node({ config })]
        const ns = namespace({ value: Schema.Int })
        const loads = [controlled<number>(), controlled<number>()]
        const callers = yield* Effect.forEach([a, b], ({ cache }, i) =>
          start(cache.getOrSet(ns, "a", loads[i]!.loader, { tags: ["t"] }))
        )
        yield* Effect.forEach(loads, ({ began }) => began)
        yield* sql.withTransaction(change(a.cache, ns))
        yield* Effect.forEach(loads, ({ end }) => end(Exit.succeed(1)))
        assert.deepStrictEqual(yield* Effect.forEach(callers, Fiber.join), [1, 1])
        for (const { cache } of [a, b]) assert.deepStrictEqual(yield* cache.get(ns, "a"), after)
      }))
  }

  test("a savepoint that is released commits with its transaction", ({ namespace, node }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql.withTransaction(cache.set(ns, "a", 1))
          assert.strictEqual(memory.entries, 0)
          assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
        })
      )
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
    }))

  test("what is read or loaded in a transaction fills no tier, and is shared with nobody", ({ namespace, node }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache, calls, memory } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "there", 1)
      memory.partition(ns.name).clear("size")
      calls.length = 0
      const began = Deferred.makeUnsafe<void>()
      const end = Deferred.makeUnsafe<void>()
      const transaction = yield* start(
        sql.withTransaction(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* cache.get(ns, "there"), Option.some(1))
            const loader = Effect.as(Effect.andThen(Deferred.succeed(began, undefined), Deferred.await(end)), 2)
            assert.strictEqual(yield* cache.getOrSet(ns, "loaded", loader), 2)
            assert.strictEqual(yield* cache.getOrSet(ns, "loaded", Effect.succeed(3), { force: true }), 3)
            assert.deepStrictEqual(
              yield* cache.getOrSetMany(ns, ["loaded", "there"], () => Effect.succeed([4])),
              [4, 1]
            )
          })
        )
      )
      yield* Effect.race(Deferred.await(began), Fiber.join(transaction))
      assert.deepStrictEqual(yield* cache.get(ns, "loaded"), Option.none())
      const other = yield* start(cache.getOrSet(ns, "loaded", Effect.succeed(5), { store: false }))
      assert.strictEqual(yield* Fiber.join(other), 5)
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(transaction)
      assert.strictEqual(memory.entries, 0)
      assert.deepStrictEqual(yield* cache.get(ns, "loaded"), Option.none())
      assert.deepStrictEqual(new Set(calls.map(({ operation }) => operation)), new Set(["read"]))
    }))

  test("a loader in a transaction sees the data of that transaction", ({ namespace, node }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* sql`create table if not exists counters (n int4)`
      yield* sql`delete from counters`
      yield* sql`insert into counters values (1)`
      const load = Effect.map(sql<{ n: number }>`select n from counters`, (rows) => rows[0]!.n)
      const inside = sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`update counters set n = 2`
          yield* cache.invalidate(ns, "n")
          const value = yield* cache.getOrSet(ns, "n", load)
          return yield* Effect.fail(value)
        })
      )
      assert.strictEqual(yield* Effect.flip(inside), 2)
      assert.strictEqual(yield* cache.getOrSet(ns, "n", load), 1)
    }))

  test("a change that commits between the commit of a set and memory's part of it is not overwritten", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache, hold } = yield* node()
      const ns = namespace({ value: Schema.Int })
      const held = hold("afterCommit", "before")
      const transaction = yield* start(sql.withTransaction(cache.set(ns, "a", 1)))
      yield* held.reached
      yield* cache.set(ns, "a", 2)
      yield* held.release
      yield* Fiber.join(transaction)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
      assert.strictEqual(openFences(), 0)
    }))

  test("two changes of one key in one transaction: the last one stays", ({ namespace, node }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* sql.withTransaction(Effect.andThen(cache.set(ns, "a", 1), cache.set(ns, "a", 2)))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(2))
      yield* sql.withTransaction(Effect.andThen(cache.set(ns, "a", 3), cache.invalidate(ns, "a")))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      yield* sql.withTransaction(Effect.andThen(cache.invalidate(ns, "a"), cache.set(ns, "a", 4)))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(4))
      yield* sql.withTransaction(Effect.andThen(cache.set(ns, "a", 5), cache.clear(ns)))
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      for (const remove of Object.values(removals)) {
        const set = cache.set(ns, "a", 6, { tags: ["t"] })
        yield* sql.withTransaction(Effect.andThen(remove(cache, ns), set))
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(6))
        yield* sql.withTransaction(Effect.andThen(set, remove(cache, ns)))
        assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      }
    }))

  test("what is set with a tag after its invalidation in the same transaction is there after the commit", ({
    namespace,
    node
  }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [a, b] = [yield* node(), yield* node()]
      const ns = namespace({ value: Schema.Int })
      for (const remove of Object.values(removals)) {
        for (const key of ["a", "b"]) yield* a.cache.set(ns, key, 1, { tags: ["t"] })
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* remove(a.cache, ns)
            yield* a.cache.setMany(
              ns,
              [
                ["a", 2],
                ["b", 2]
              ],
              { tags: ["t"] }
            )
            assert.deepStrictEqual(yield* a.cache.getMany(ns, ["a", "b"]), [Option.some(2), Option.some(2)])
          })
        )
        for (const { cache } of [a, b])
          assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"]), [Option.some(2), Option.some(2)])
      }
    }))

  test("a transaction that is interrupted leaves no trace", ({ namespace, node }) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { cache } = yield* node()
      const ns = namespace({ value: Schema.Int })
      yield* cache.set(ns, "a", 1)
      const changed = Deferred.makeUnsafe<void>()
      const transaction = yield* start(
        sql.withTransaction(
          cache.set(ns, "a", 2).pipe(Effect.andThen(Deferred.succeed(changed, undefined)), Effect.andThen(Effect.never))
        )
      )
      yield* Deferred.await(changed)
      yield* Fiber.interrupt(transaction)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.some(1))
      assert.deepStrictEqual(yield* cache.get(ns, "a", { skip: "memory" }), Option.some(1))
      assert.strictEqual(openFences(), 0)
    }))
}
