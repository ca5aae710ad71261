/** Processes whose clocks are half an hour apart: only the database's counts between them. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import type { CacheConfigInput } from "../src/CacheConfig.ts"
import type { CacheEntry } from "../src/CacheEntry.ts"
import type { CacheStats } from "../src/CacheStats.ts"
import type { CachedKey } from "../src/Operations.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import * as CacheProcess from "./support/CacheProcess.ts"
import { Database } from "./support/Database.ts"

const minutes = 60_000

const config: CacheConfigInput = {
  policy: { jitter: 0, staleIfError: "1 hour" },
  namespaces: {
    aging: { staleIfError: "500 millis" },
    leased: { leaseDuration: "700 millis", leaseWait: "1 minute" },
    failing: { failureBackoff: "700 millis" }
  },
  // However crowded the machine is.
  store: { readTimeout: "20 seconds", writeTimeout: "20 seconds" },
  bus: { pollInterval: "1 hour" }
}

class Children extends Context.Service<
  Children,
  { readonly behind: CacheProcess.CacheProcess; readonly ahead: CacheProcess.CacheProcess }
>()("test/Children") {
  static readonly layer = Layer.effect(
    Children,
    Effect.flatMap(Database, ({ url }) =>
      Effect.all(
        {
          behind: CacheProcess.start({ url, config, clockAhead: -15 * minutes }),
          ahead: CacheProcess.start({ url, config, clockAhead: 15 * minutes })
        },
        { concurrency: 2 }
      )
    )
  )
}

/** Once with each of the two in each part. */
const bothWays = <A, E>(
  test: (one: CacheProcess.CacheProcess, other: CacheProcess.CacheProcess, key: string) => Effect.Effect<A, E>
) =>
  Effect.flatMap(Children, ({ ahead, behind }) =>
    Effect.all([test(behind, ahead, "from behind"), test(ahead, behind, "from ahead")], { concurrency: 2 })
  )

/** That it happened this long after what began and ended then; crowded machines are late, but none is early. */
const assertAfter = (at: number, millis: number, [from, to]: readonly [from: number, to: number], what: string) => {
  assert.isAtLeast(at, from + millis - 2, what)
  assert.isAtMost(at, to + millis + 4000, what)
}

/** As the process sees it, with the time that it has. */
type Inspected = CacheEntry<string> & { readonly now: number }

const inspect = (process: CacheProcess.CacheProcess, namespace: string, key: string) =>
  Effect.map(process.tell<Inspected>("inspect", namespace, key), ({ result }) => result)

/** One caller; what it was answered with. */
const ask = (process: CacheProcess.CacheProcess, namespace: string, key: string, takes: number | null) =>
  Effect.map(
    process.tell<CacheProcess.Crowd>("crowd", namespace, key, "", { takes }),
    ({ result }) => Object.keys(result.values)[0]
  )

const soon = Schedule.spaced("2 millis")

const Postgres = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer({ maxConnections: 2 })))

layer(Layer.provideMerge(Children.layer, Postgres), { excludeTestServices: true, timeout: "60 seconds" })(
  "Caches whose clocks differ",
  (it) => {
    // Long enough for a crowded machine to look at it twice while it is fresh.
    const lives = 2000
    for (const how of ["set", "getOrSet"] as const) {
      it.effect(`what one stores (${how}) is fresh, and then stale, for the other for as long as it lives`, () =>
        bothWays((writer, reader, from) =>
          Effect.gen(function* () {
            const key = `${how} ${from}`
            const startedAt = Date.now()
            const { at: storedAt } = yield* writer.tell(how, "aging", key, "v", { timeToLive: lives })
            for (const process of [reader, writer]) {
              const inspectedAt = Date.now()
              const { createdAt, expiresAt, freshness, now, staleUntil } = yield* inspect(process, "aging", key)
              const elapsed = Date.now() - startedAt
              // For as long as its answer takes the store's clock goes on.
              const late = Date.now() - inspectedAt + 2
              assert.strictEqual(freshness, "fresh")
              assert.isAtLeast(now - createdAt, -2)
              assert.isAtMost(now - createdAt, elapsed + late)
              assert.isAtLeast(expiresAt - now, lives - elapsed - late)
              assert.isAtMost(expiresAt - now, lives + 2)
              assert.approximately(staleUntil - expiresAt, 500, 2)
            }
            const ends = yield* Effect.forEach(
              [reader, writer],
              (process) => process.tell<{ staleAt: number; goneAt: number }>("outlives", "aging", key),
              { concurrency: 2 }
            )
            for (const { result } of ends) {
              assertAfter(result.staleAt, lives, [startedAt, storedAt], "stale")
              assertAfter(result.goneAt, lives + 500, [startedAt, storedAt], "gone")
            }
          })
        )
      )
    }

    it.effect("a load that one has the lease on is waited for by the other, for no longer than the lease", () =>
      Effect.gen(function* () {
        const { ahead, behind } = yield* Children
        for (const [holder, other, key] of [
          [behind, ahead, "from behind"],
          [ahead, behind, "from ahead"]
        ] as const) {
          const before = (yield* other.tell<CacheStats>("stats", "leased")).result.leaseWaits
          const askedAt = Date.now()
          const held = yield* Effect.forkChild(ask(holder, "leased", key, null))
          yield* holder.loading("leased", key)
          const waiting = yield* Effect.forkChild(ask(other, "leased", key, 0))
          yield* Effect.repeat(other.tell<CacheStats>("stats", "leased"), {
            until: ({ result }) => result.leaseWaits > before,
            schedule: soon
          })
          // From now on it does not renew the lease.
          yield* holder.signal("SIGSTOP")
          const stoppedAt = Date.now()
          const value = yield* Fiber.join(waiting)
          assertAfter((yield* other.loading("leased", key)).at, 700, [askedAt, stoppedAt], key)
          yield* holder.tell("endLoad", "leased", key, "late").pipe(
            Effect.forkChild,
            Effect.tap(() => holder.signal("SIGCONT")),
            Effect.flatMap(Fiber.join)
          )
          assert.strictEqual(yield* Fiber.join(held), "late")
          for (const process of [holder, other]) {
            assert.strictEqual((yield* inspect(process, "leased", key)).value, value)
          }
        }
      })
    )

    it.effect("a load that goes on is waited for beyond its lease, and what it brings is found", () =>
      bothWays((holder, other, key) =>
        Effect.gen(function* () {
          const asking = `long ${key}`
          const answers = yield* Effect.all(
            [
              ask(holder, "leased", asking, 1500),
              Effect.andThen(holder.loading("leased", asking), ask(other, "leased", asking, 0))
            ],
            { concurrency: 2 }
          )
          assert.strictEqual(answers[0], answers[1])
          assert.strictEqual(other.loads("leased", asking).length, 0)
        })
      )
    )

    it.effect("after a load that failed for one, the other leaves the source alone for as long", () =>
      bothWays((one, other, key) =>
        Effect.gen(function* () {
          yield* one.tell("set", "failing", key, "old", { timeToLive: 1 })
          yield* Effect.repeat(inspect(one, "failing", key), {
            until: ({ freshness }) => freshness === "stale",
            schedule: soon
          })
          const failing = yield* Effect.forkChild(ask(one, "failing", key, null))
          yield* one.loading("failing", key)
          const failedAt = Date.now()
          yield* one.tell("failLoad", "failing", key, "no")
          assert.strictEqual(yield* Fiber.join(failing), "old")
          const rearmedAt = Date.now()
          yield* Effect.repeat(ask(other, "failing", key, 0), { until: (value) => value !== "old", schedule: soon })
          assertAfter((yield* other.loading("failing", key)).at, 700, [failedAt, rearmedAt], key)
        })
      )
    )

    it.effect("of what they change the last counts, whoever's clock is ahead", () =>
      Effect.gen(function* () {
        const { ahead, behind } = yield* Children
        const both = [behind, ahead]
        for (let i = 0; i < 6; i++) {
          const [one, other] = i % 2 === 0 ? [behind, ahead] : [ahead, behind]
          yield* one!.tell("set", "changes", "k", `${i}`)
          yield* Effect.repeat(inspect(other!, "changes", "k"), {
            until: ({ value }) => value === `${i}`,
            schedule: soon
          })
          assert.strictEqual((yield* inspect(one!, "changes", "k")).value, `${i}`)
        }
        for (const [one, other] of [both, both.toReversed()] as const) {
          yield* one!.tell("set", "changes", "k", "old")
          yield* other!.tell("read", "changes", "k")
          assert.isTrue((yield* other!.tell("expire", "changes", "k")).result)
          for (const process of both) yield* process.tell("forgets", "changes", "k", "old")
          for (const process of both) {
            assert.strictEqual((yield* inspect(process, "changes", "k")).freshness, "stale")
          }
          assert.isTrue((yield* one!.tell("invalidate", "changes", "k")).result)
          for (const process of both) {
            yield* process.tell("outlives", "changes", "k")
            assert.isNull(yield* inspect(process, "changes", "k"))
          }
        }
      })
    )

    it.effect("both list the same keys, made at the same time", () =>
      Effect.gen(function* () {
        const { ahead, behind } = yield* Children
        yield* ahead.tell("set", "listed", "a", "1")
        yield* behind.tell("set", "listed", "b", "2")
        const listed = (process: CacheProcess.CacheProcess) =>
          Effect.map(process.tell<ReadonlyArray<CachedKey<string>>>("keys", "listed"), ({ result }) => result)
        const keys = yield* listed(ahead)
        assert.deepStrictEqual(keys, yield* listed(behind))
        assert.deepStrictEqual(
          keys.map(({ key }) => key),
          ["a", "b"]
        )
        for (const { createdAt, expiresAt } of keys) {
          assert.approximately(expiresAt - createdAt, 60 * minutes, 50)
          assert.isBelow(Math.abs(createdAt - keys[0]!.createdAt), 10_000)
        }
      })
    )
  }
)
