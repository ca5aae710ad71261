/** Thousands of callers in several processes who all want the same, and nobody has it. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import type { CacheConfigInput } from "../src/CacheConfig.ts"
import type { CacheStats } from "../src/CacheStats.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import * as CacheProcess from "./support/CacheProcess.ts"
import { Database } from "./support/Database.ts"

/** One for each test. Where one waits for a minute, it waits for what the test says and not for the time. */
const namespaces = {
  cold: {},
  many: {},
  killed: { leaseDuration: "1 second" },
  stopped: { leaseDuration: "500 millis" },
  failing: { leaseDuration: "1 minute", leaseWait: "1 minute" },
  givenUp: { leaseDuration: "1 minute", leaseWait: "1 minute" },
  stale: { staleWhileRevalidate: "1 hour" },
  one: { leaseDuration: "1 minute", leaseWait: "1 minute" },
  another: {}
} satisfies CacheConfigInput["namespaces"]

/** What is heard of is heard of by the bell, for nobody looks. */
const listening: CacheConfigInput = {
  policy: { jitter: 0 },
  namespaces,
  // However crowded the machine is.
  store: { readTimeout: "20 seconds", writeTimeout: "20 seconds" },
  bus: { pollInterval: "1 hour" }
}
const polling: CacheConfigInput = { ...listening, bus: { pollInterval: "20 millis", listen: false } }

const startProcess = (config: CacheConfigInput) =>
  Effect.flatMap(Database, ({ url }) => CacheProcess.start({ url, config }))

type Processes = ReadonlyArray<CacheProcess.CacheProcess>

class Children extends Context.Service<Children, { readonly listeners: Processes; readonly pollers: Processes }>()(
  "test/Children"
) {
  static readonly layer = Layer.effect(
    Children,
    Effect.all(
      {
        listeners: Effect.all(
          Array.from({ length: 4 }, () => startProcess(listening)),
          { concurrency: 4 }
        ),
        pollers: Effect.all(
          Array.from({ length: 4 }, () => startProcess(polling)),
          { concurrency: 4 }
        )
      },
      { concurrency: 2 }
    )
  )
}

type Name = keyof typeof namespaces

const crowd = (process: CacheProcess.CacheProcess, namespace: Name, key: string, details: CacheProcess.Details = {}) =>
  Effect.map(
    process.tell<CacheProcess.Crowd>("crowd", namespace, key, "", { callers: 1000, takes: 50, ...details }),
    ({ result }) => result
  )

const crowds = (processes: Processes, namespace: Name, key: string) =>
  Effect.forEach(processes, (process) => crowd(process, namespace, key), { concurrency: "unbounded" })

/** A crowd in one process whose load has begun, and ends when the test says so. */
const underWay = (holder: CacheProcess.CacheProcess, namespace: Name, key = "k") =>
  Effect.gen(function* () {
    const asking = yield* Effect.forkChild(crowd(holder, namespace, key, { takes: null }))
    const { at: beganAt } = yield* holder.loading(namespace, key)
    return { asking, beganAt }
  })

const statsOf = (process: CacheProcess.CacheProcess, namespace: Name) =>
  Effect.map(process.tell<CacheStats>("stats", namespace), ({ result }) => result)

/** Ends when each of them waits for others' loads of so many keys. */
const allWait = (processes: Processes, namespace: Name, keys = 1) =>
  Effect.forEach(
    processes,
    (process) =>
      Effect.repeat(statsOf(process, namespace), {
        until: ({ leaseWaits }) => leaseWaits >= keys,
        schedule: Schedule.spaced("2 millis")
      }),
    { concurrency: "unbounded" }
  )

/** Others who ask for what is under way in a process, and wait. */
const waiting = (others: Processes, namespace: Name, key = "k") =>
  Effect.gen(function* () {
    const asking = yield* Effect.forkChild(crowds(others, namespace, key))
    yield* allWait(others, namespace)
    return asking
  })

const loadsOf = (processes: Processes, namespace: Name, key?: string) =>
  processes.flatMap((process) => process.loads(namespace, key))

const valueIn = (process: CacheProcess.CacheProcess, namespace: Name, key = "k") =>
  Effect.map(process.tell<{ value: string } | null>("read", namespace, key), ({ result }) => result?.value)

/** The one value that everybody was answered with. */
const agreed = (answers: ReadonlyArray<CacheProcess.Crowd>): string => {
  const [value = "none"] = Object.keys(answers[0]!.values)
  for (const answer of answers)
    assert.deepStrictEqual(answer, { values: { [value]: 1000 }, failures: {} }, JSON.stringify(answers))
  return value
}

const Postgres = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer({ maxConnections: 4 })))

layer(Layer.provideMerge(Children.layer, Postgres), { excludeTestServices: true, timeout: "60 seconds" })(
  "A stampede over several processes",
  (it) => {
    for (const how of ["listeners", "pollers"] as const) {
      it.effect(
        `of four processes with a thousand callers of every style each, one loads a cold key once: ${how} (C24, C30)`,
        () =>
          Effect.gen(function* () {
            const processes = (yield* Children)[how]
            for (const key of ["a", "b", "c"].map((name) => `${name} for ${how}`)) {
              agreed(yield* crowds(processes, "cold", key))
              assert.strictEqual(loadsOf(processes, "cold", key).length, 1)
            }
          })
      )

      it.effect(`of fifty keys that four processes want in parts that overlap, each is loaded once: ${how} (C30)`, () =>
        Effect.gen(function* () {
          const processes = (yield* Children)[how]
          const keys = Array.from({ length: 50 }, (_, i) => `${i} for ${how}`)
          // Of four callers in one process, one goes through them backwards.
          const partOf = (process: number, caller: number) => {
            const part = keys.filter((_, i) => (i + 7 * process + 3 * caller) % 5 !== 0)
            return caller === 3 ? part.toReversed() : part
          }
          const answers = yield* Effect.forEach(
            processes,
            (process, n) => {
              const wanted = [0, 1, 2, 3].map((caller) => partOf(n, caller))
              return Effect.map(
                process.tell<ReadonlyArray<ReadonlyArray<string>>>("bulk", "many", "", "", { wanted, takes: 50 }),
                ({ result }) =>
                  result.flatMap((values, caller) => values.map((value, i) => [wanted[caller]![i]!, value]))
              )
            },
            { concurrency: "unbounded" }
          )
          const loads = loadsOf(processes, "many").map((load) => load.keys.filter((key) => keys.includes(key)))
          const stats = yield* Effect.forEach(processes, (process) => statsOf(process, "many"))
          assert.deepStrictEqual(loads.flat().toSorted(), keys.toSorted(), JSON.stringify({ loads, stats }))
          const values = new Map<string, Set<string>>(keys.map((key) => [key, new Set()]))
          for (const [key, value] of answers.flat()) values.get(key!)!.add(value!)
          for (const [key, [value, ...others]] of values) {
            assert.deepStrictEqual(others, [])
            assert.isTrue(value!.startsWith(`${key} of run`))
          }
        })
      )
    }

    it.effect("of a stale key everybody is given what is stale at once, and one process loads (C12, C26)", () =>
      Effect.gen(function* () {
        const { listeners, pollers } = yield* Children
        const processes = [...listeners, ...pollers]
        yield* listeners[0]!.tell("set", "stale", "k", "old", { timeToLive: 1 })
        const asking = processes.map((process) => crowd(process, "stale", "k", { takes: null }))
        const answers = yield* Effect.all(asking, { concurrency: "unbounded" })
        assert.strictEqual(agreed(answers), "old")
        const [holder, ...others] = yield* Effect.repeat(
          Effect.sync(() => processes.filter((process) => process.loads("stale", "k").length > 0)),
          { until: (holders) => holders.length > 0, schedule: Schedule.spaced("2 millis") }
        )
        assert.deepStrictEqual(others, [])
        yield* allWait(
          processes.filter((process) => process !== holder),
          "stale"
        )
        yield* holder!.tell("endLoad", "stale", "k", "new")
        yield* Effect.forEach(processes, (process) =>
          Effect.repeat(valueIn(process, "stale"), {
            until: (value) => value === "new",
            schedule: Schedule.spaced("2 millis")
          })
        )
        assert.strictEqual(loadsOf(processes, "stale").length, 1)
      })
    )

    it.effect("the news of what they began after makes none of them load again (C24, G3)", () =>
      Effect.gen(function* () {
        const { listeners, pollers } = yield* Children
        const [changer, ...processes] = [...listeners, ...pollers]
        for (const change of ["invalidate", "invalidatePattern", "clear"] as const) {
          const key = `after ${change}`
          yield* changer!.tell("set", "cold", key, "old")
          yield* changer!.tell("set", "another", key, "old")
          yield* Effect.forEach(processes, (process) => valueIn(process, "another", key))
          yield* changer!.tell(change, "cold", change === "invalidatePattern" ? `${key}*` : key)
          const asking = yield* Effect.forkChild(
            Effect.forEach(processes, (process) => crowd(process, "cold", key, { takes: null }), {
              concurrency: "unbounded"
            })
          )
          const holder = yield* Effect.repeat(
            Effect.sync(() => processes.find((process) => process.loads("cold", key).length > 0)),
            { until: (holder) => holder !== undefined, schedule: Schedule.spaced("2 millis") }
          )
          // What they have in memory they drop when they hear of this, and of what was before.
          yield* changer!.tell("set", "another", key, "new")
          for (const process of processes) {
            yield* Effect.repeat(valueIn(process, "another", key), {
              until: (value) => value === "new",
              schedule: Schedule.spaced("2 millis")
            })
          }
          yield* holder!.tell("endLoad", "cold", key, change)
          assert.strictEqual(agreed(yield* Fiber.join(asking)), change)
          assert.strictEqual(loadsOf(processes, "cold", key).length, 1)
        }
      })
    )

    it.effect("when the process that loads is killed, another loads once its lease is over, and all are answered", () =>
      Effect.gen(function* () {
        const { listeners, pollers } = yield* Children
        const holder = yield* startProcess(listening)
        const others = [...listeners.slice(0, 2), ...pollers.slice(0, 2)]
        yield* underWay(holder, "killed")
        const asking = yield* waiting(others, "killed")
        yield* holder.signal("SIGKILL")
        const killedAt = Date.now()
        const value = agreed(yield* Fiber.join(asking))
        assert.isBelow(Date.now() - killedAt, 5000)
        assert.strictEqual(holder.loads("killed").length, 1)
        assert.strictEqual(loadsOf(others, "killed").length, 1)
        assert.isAbove(loadsOf(others, "killed")[0]!.at, killedAt + 250)
        assert.strictEqual(yield* valueIn(listeners[3]!, "killed"), value)
      }).pipe(Effect.scoped)
    )

    it.effect(
      "a process that stops while it loads, and goes on when others have loaded, overwrites nothing (C50)",
      () =>
        Effect.gen(function* () {
          const [holder, ...listeners] = (yield* Children).listeners as [CacheProcess.CacheProcess, ...Processes]
          const others = [...listeners, ...(yield* Children).pollers.slice(0, 1)]
          const [other] = others
          // What has become of a key meanwhile, and what is there in the end.
          const cases: Record<string, (key: string) => Effect.Effect<string | undefined>> = {
            "loaded again": (key) => valueIn(other!, "stopped", key),
            invalidated: (key) => Effect.as(other!.tell("invalidate", "stopped", key), undefined),
            set: (key) => Effect.as(other!.tell("set", "stopped", key, "set"), "set"),
            "invalidated by a pattern": (key) =>
              Effect.as(other!.tell("invalidatePattern", "stopped", `*${key.slice(4)}`), undefined),
            "loaded anew after that": (key) =>
              Effect.gen(function* () {
                yield* other!.tell("invalidatePattern", "stopped", `*${key.slice(4)}`)
                yield* other!.tell("getOrSet", "stopped", key, "anew")
                return "anew"
              })
          }
          const keys = Object.keys(cases)
          const held = yield* Effect.forEach(keys, (key) => underWay(holder, "stopped", key))
          const went = yield* Effect.forEach(keys, (key) => Effect.forkChild(crowds(others, "stopped", key)))
          yield* allWait(others, "stopped", keys.length)
          yield* holder.signal("SIGSTOP")
          yield* Effect.forEach(went, (asking) => Effect.map(Fiber.join(asking), agreed))
          for (const key of keys) assert.strictEqual(loadsOf(others, "stopped", key).length, 1)
          const left = yield* Effect.forEach(keys.toReversed(), (key) =>
            Effect.map(cases[key]!(key), (value) => [key, value])
          )
          // It finds this waiting, before any news.
          const ends = yield* Effect.forEach(keys, (key) =>
            Effect.forkChild(holder.tell("endLoad", "stopped", key, "late"))
          )
          yield* holder.signal("SIGCONT")
          yield* Effect.forEach(ends, Fiber.join)
          for (const { asking } of held) assert.strictEqual(agreed([yield* Fiber.join(asking)]), "late")
          for (const [key, value] of left) {
            for (const process of [holder, ...others]) {
              assert.strictEqual(yield* valueIn(process, "stopped", key), value, key)
            }
          }
          assert.strictEqual((yield* statsOf(holder, "stopped")).store.refused, keys.length)
        })
    )

    it.effect("when the load fails, nobody in another process waits for the lease to end (C25)", () =>
      Effect.gen(function* () {
        const { listeners, pollers } = yield* Children
        const [holder, ...others] = [listeners[0]!, ...listeners.slice(2), ...pollers.slice(2)]
        const { asking } = yield* underWay(holder, "failing")
        const rest = yield* waiting(others, "failing")
        yield* holder.tell("failLoad", "failing", "k", "no")
        const failedAt = Date.now()
        assert.deepStrictEqual(yield* Fiber.join(asking), { values: {}, failures: { no: 1000 } })
        for (const answer of yield* Fiber.join(rest)) {
          assert.deepStrictEqual([Object.values(answer.values), answer.failures], [[1000], {}])
        }
        assert.isBelow(Date.now() - failedAt, 5000)
        assert.strictEqual(holder.loads("failing").length, 1)
        // Whoever is woken loads; whoever looks for itself may find it done.
        for (const process of others) assert.isAtMost(process.loads("failing").length, 1)
        assert.isAtLeast(loadsOf(others, "failing").length, 1)
      })
    )

    it.effect("when all who wait for the load give up, it stops, and a load elsewhere begins at once (C29, C31)", () =>
      Effect.gen(function* () {
        const [holder, quitter, ...others] = (yield* Children).listeners as [
          CacheProcess.CacheProcess,
          CacheProcess.CacheProcess,
          ...Processes
        ]
        const { asking } = yield* underWay(holder, "givenUp")
        const quitting = yield* waiting([quitter], "givenUp")
        const rest = yield* waiting(others, "givenUp")
        const before = [holder, quitter].map((process) => process.log())
        yield* quitter.tell("giveUp", "givenUp", "k")
        yield* Effect.exit(Fiber.join(quitting))
        yield* holder.tell("giveUp", "givenUp", "k")
        const gaveUpAt = Date.now()
        yield* Effect.exit(Fiber.join(asking))
        for (const { failures } of yield* Fiber.join(rest)) assert.deepStrictEqual(failures, {})
        assert.isBelow(Date.now() - gaveUpAt, 5000)
        const value = agreed(yield* crowds([holder, quitter, ...others], "givenUp", "k"))
        assert.include(
          others.map(({ pid }) => `k of run of ${pid}`),
          value.replace(/run \d+/, "run")
        )
        assert.strictEqual((yield* statsOf(holder, "givenUp")).loadInterrupted, 1)
        assert.strictEqual(loadsOf([holder, quitter], "givenUp").length, 1)
        assert.deepStrictEqual(
          [holder, quitter].map((process) => process.log()),
          before
        )
      })
    )

    it.effect("a load under way keeps nobody from another key, nor from that key of another namespace (C28)", () =>
      Effect.gen(function* () {
        const [holder, ...others] = (yield* Children).listeners as [CacheProcess.CacheProcess, ...Processes]
        const { asking } = yield* underWay(holder, "one")
        agreed(yield* crowds(others, "one", "K"))
        agreed(yield* crowds(others, "another", "k"))
        agreed(yield* crowds([holder], "another", "K"))
        for (const process of others) {
          assert.strictEqual((yield* statsOf(process, "one")).leaseTimeouts, 0)
        }
        yield* holder.tell("endLoad", "one", "k", "1")
        assert.strictEqual(agreed([yield* Fiber.join(asking)]), "1")
        assert.strictEqual(yield* valueIn(others[0]!, "one"), "1")
      })
    )
  }
)
