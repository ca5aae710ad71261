/**
 * One fault, from before it to after it, and what the callers of the cache noticed.
 *
 * 1. **Before**: a crowd like those to come on a cache of its own, whose store is no
 *    server and never answers. What it waits beyond the timeout and the loader is what
 *    this process needs for so many callers (`slack`), and no fault's doing.
 * 2. **During**: crowds of callers, half of them for numbers of their own, half of
 *    them ten to a number; then, one after the other, loaders with and without
 *    the cache in front.
 * 3. **After**: a caller every few milliseconds, until the store answers again and the
 *    cache is well. Then, whether each connection of the pool is of use.
 *
 * What the cache adds to a loader is measured in time, and in processor time, which
 * leaves out what other processes take: a call that the breaker keeps from the store
 * waits for nothing but the processor. Collecting garbage and compiling are in both;
 * the calmest hundred calls have little of them.
 *
 * Waits are in milliseconds.
 */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Exit, Latch, Layer, Logger, Option, Redacted, Schedule, Scope } from "effect"
import { CacheLive } from "../../src/CacheLive.ts"
import type { HealthStatus } from "../../src/CacheHealth.ts"
import type { CacheStats } from "../../src/CacheStats.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { InvalidationBus } from "../../src/InvalidationBus.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Fault, Numbers } from "./Faults.ts"
import { applicationName, eventually, type Server, sessionsOfTheCache } from "./Server.ts"

export interface Settings {
  readonly readTimeout: number
  readonly writeTimeout: number
  readonly breakerProbeInterval: number
  readonly loaderTime: number
  /** Callers of a crowd, and how many crowds there are while the fault lasts, this far apart. */
  readonly callers: number
  readonly crowds: number
  readonly every: number
  /** Callers that come one after the other, and how long they pause in between. */
  readonly inTurn: number
  readonly pause: number
}

export interface Trial {
  readonly fault: Fault
  readonly settings: Settings
  readonly callers: number
  /** Callers who got no answer, or a wrong one. */
  readonly failed: number
  /** How often the busiest loader ran. */
  readonly mostLoads: number
  readonly waits: Waits
  /** What the longest wait may be: the store's timeouts and the loader. */
  readonly bound: number
  readonly slack: number
  /** With the breaker open, what a call took longer than its loader alone; unless too few met it open. */
  readonly overBare: OverBare | undefined
  /** How many of the calls in turn tried all that they would have, and how long all took. */
  readonly tried: number
  readonly inTurnTook: number
  readonly errors: number
  readonly skipped: number
  readonly undecodable: number
  readonly during: HealthStatus
  /** After the end of the fault: when the store answered, and when the cache was well. */
  readonly backAfter: number | undefined
  readonly wellAfter: number | undefined
  /** What the cache logged. */
  readonly log: ReadonlyArray<string>
  /** Sessions on the server, and how many of them were of use at once. */
  readonly sessions: number
  readonly usable: number
  readonly stats: CacheStats
}

export interface OverBare extends Waits {
  /** The p99 of the processor time of a hundred calls in turn, where it is the least. */
  readonly calmest: number
}

export interface Waits {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export const poolSize = 5

export const run = (server: Server, fault: Fault, settings: Settings) =>
  Effect.suspend(() => {
    const log: Array<string> = []
    const keep = Logger.make(({ message }) => log.push(String(message)))
    return Effect.scoped(runIn(server, fault, settings, log)).pipe(Effect.provide(Logger.layer([keep])))
  })

const runIn = Effect.fnUntraced(function* (
  server: Server,
  fault: Fault,
  settings: Settings,
  log: ReadonlyArray<string>
) {
  const pool = PgClient.layer({ url: Redacted.make(server.url), maxConnections: poolSize, applicationName })
  const { readTimeout, writeTimeout, breakerProbeInterval } = settings
  const live = CacheLive.layer({ store: { readTimeout, writeTimeout, breakerProbeInterval } })
  const context = yield* Layer.build(Layer.fresh(Layer.provideMerge(live, pool)))
  const cache = yield* Effect.provide(TieredCache, context)
  const sql = yield* Effect.provide(PgClient.PgClient, context)
  yield* cache.clear(Numbers)
  yield* cache.setMany(
    Numbers,
    stored.map((key) => [key, valueOf(key)] as const)
  )

  const keys = new Keys()
  const crowds = Array.from({ length: settings.crowds }, () => keys.crowd(settings.callers))
  const inTurn = keys.take(settings.inTurn)
  const loads = new Map<number, number>()

  const slack = yield* Effect.provide(slackOf(settings), Logger.layer([]))
  const end = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(end, Exit.void))
  yield* Scope.provide(fault.begin(server, [...new Set(crowds.flat()), ...inTurn]), end)
  const began = performance.now()
  const answers: Array<Answer> = []
  for (const [index, crowd] of crowds.entries()) {
    yield* Effect.sleep(Duration.millis(Math.max(0, began + index * settings.every - performance.now())))
    answers.push(...(yield* askAtOnce(cache, crowd, settings, loads)))
  }
  const { overBare, tried, took } = yield* askInTurn(cache, inTurn, settings.pause)
  const during = (yield* cache.health).status
  const { store } = yield* cache.stats
  yield* Effect.sleep(Duration.millis(Math.max(0, began + (fault.lasts ?? 0) - performance.now())))

  yield* Scope.close(end, Exit.void)
  const { backAfter, wellAfter } = yield* untilWell(cache, keys)
  const logged = [...log]

  const usable = yield* sessionsAtOnce(sql)
  yield* eventually(Effect.map(sessionsOfTheCache(server.connect), ({ length }) => length <= poolSize))
  const trial: Trial = {
    fault,
    settings,
    callers: answers.length,
    failed: answers.filter(({ isRight }) => !isRight).length,
    mostLoads: Math.max(...loads.values()),
    waits: waitsOf(answers.map(({ waited }) => waited)),
    // What nobody could read, nobody tries to write.
    bound: readTimeout + (fault.takesAway === "everything" ? 0 : writeTimeout) + settings.loaderTime,
    slack,
    overBare,
    tried,
    inTurnTook: took,
    errors: store.errors,
    skipped: store.skipped,
    undecodable: store.undecodable,
    during,
    backAfter,
    wellAfter,
    log: logged,
    sessions: (yield* sessionsOfTheCache(server.connect)).length,
    usable: usable.size,
    stats: yield* cache.stats
  }
  return trial
})

/** Takes every connection of the pool and gives none back before all are taken. */
const sessionsAtOnce = Effect.fnUntraced(function* (sql: PgClient.PgClient) {
  const taken = new Set<number>()
  const all = yield* Latch.make()
  const take = sql.withTransaction(
    Effect.gen(function* () {
      const [row] = yield* sql<{ pid: number }>`select pg_backend_pid() as pid`
      taken.add(row!.pid)
      yield* taken.size === poolSize ? all.open : all.await
    })
  )
  yield* Effect.all(
    Array.from({ length: poolSize }, () => take),
    { concurrency: "unbounded" }
  ).pipe(Effect.timeoutOption("20 seconds"))
  return taken
})

/** Numbers that are in the store from the beginning; the others are positive. */
const stored = Array.from({ length: 50 }, (_, index) => -1 - index)

const valueOf = (key: number) => key * 2

/** No number is asked for twice, but within a crowd. */
class Keys {
  #next = 1

  take(count: number): ReadonlyArray<number> {
    const first = this.#next
    this.#next += count
    return Array.from({ length: count }, (_, index) => first + index)
  }

  crowd(callers: number): ReadonlyArray<number> {
    const own = this.take(callers / 2)
    const shared = this.take(callers / 20)
    return own.flatMap((key, index) => [key, shared[index % shared.length]!])
  }
}

interface Answer {
  readonly isRight: boolean
  readonly waited: number
}

const askAtOnce = (
  cache: TieredCache["Service"],
  keys: ReadonlyArray<number>,
  { loaderTime }: Settings,
  loads: Map<number, number>
) =>
  Effect.forEach(
    keys,
    (key) => {
      const loader = Effect.suspend(() => {
        loads.set(key, (loads.get(key) ?? 0) + 1)
        return Effect.as(Effect.sleep(Duration.millis(loaderTime)), valueOf(key))
      })
      return timed(
        Effect.exit(cache.getOrSet(Numbers, key, loader)),
        (exit) => Exit.isSuccess(exit) && exit.value === valueOf(key)
      )
    },
    { concurrency: "unbounded" }
  )

const timed = <A>(effect: Effect.Effect<A>, isRight: (a: A) => boolean): Effect.Effect<Answer> =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, (answer) => ({ isRight: isRight(answer), waited: performance.now() - began }))
  })

const askInTurn = Effect.fnUntraced(function* (
  cache: TieredCache["Service"],
  keys: ReadonlyArray<number>,
  pause: number
) {
  const over: Array<Cost> = []
  const began = performance.now()
  let { skipped } = (yield* cache.statsOf(Numbers)).store
  let asked = 0
  for (const key of keys) {
    // Where rows are held but nothing fails, each is waited for, and no breaker stays open.
    if (performance.now() - began > 60_000 && over.length < asked / 2) break
    asked++
    const loader = Effect.sync(() => valueOf(key))
    const bare = yield* costOf(loader)
    const open = yield* costOf(cache.getOrSet(Numbers, key, loader))
    const { store } = yield* cache.statsOf(Numbers)
    if (store.skipped > skipped) {
      over.push({ time: open.time - bare.time, processorTime: open.processorTime - bare.processorTime })
    }
    skipped = store.skipped
    if (pause > 0) yield* Effect.sleep(Duration.millis(pause))
  }
  const answer = { overBare: undefined, tried: asked - over.length, took: performance.now() - began }
  if (over.length < keys.length / 2) return answer
  const hundreds = Array.from({ length: Math.floor(over.length / 100) }, (_, index) =>
    waitsOf(over.slice(index * 100, index * 100 + 100).map(({ processorTime }) => processorTime))
  )
  const calmest = Math.min(...hundreds.map(({ p99 }) => p99))
  return { ...answer, overBare: { ...waitsOf(over.map(({ time }) => time)), calmest } }
})

interface Cost {
  readonly time: number
  readonly processorTime: number
}

const costOf = (call: Effect.Effect<number>): Effect.Effect<Cost> =>
  Effect.suspend(() => {
    const usage = process.cpuUsage()
    const began = performance.now()
    return Effect.map(call, () => {
      const time = performance.now() - began
      const { system, user } = process.cpuUsage(usage)
      return { time, processorTime: (user + system) / 1000 }
    })
  })

/** A caller at a time: one reads what the store has, one brings what it has not. */
const untilWell = Effect.fnUntraced(function* (cache: TieredCache["Service"], keys: Keys) {
  const ended = performance.now()
  let backAfter: number | undefined
  const isWell = Effect.gen(function* () {
    const [key] = keys.take(1)
    yield* cache.getOrSet(Numbers, key!, Effect.succeed(valueOf(key!)))
    const entry = yield* cache.getEntry(Numbers, stored[key! % stored.length]!, { skip: "memory" })
    if (Option.isSome(entry) && entry.value.origin === "store") backAfter ??= performance.now() - ended
    return backAfter !== undefined && (yield* cache.health).status === "Up"
  })
  const isUp = yield* isWell.pipe(
    Effect.repeat({ until: (well) => well, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOption("30 seconds")
  )
  return { backAfter, wellAfter: Option.isSome(isUp) ? performance.now() - ended : undefined }
})

const slackOf = Effect.fnUntraced(function* (settings: Settings) {
  const silent = Layer.effect(
    CacheStore,
    Effect.map(MemoryStore.make, (store) => ({ ...store, read: () => Effect.never }))
  )
  const readTimeout = 300
  const live = TieredCache.layerOf({ store: { readTimeout } })
  return yield* Effect.gen(function* () {
    const cache = yield* TieredCache
    const keys = new Keys()
    const answers = yield* askAtOnce(cache, keys.crowd(settings.callers), settings, new Map())
    // What Node compiles now it need not later.
    yield* askInTurn(cache, keys.take(200), 0)
    return waitsOf(answers.map(({ waited }) => waited)).max - readTimeout - settings.loaderTime
  }).pipe(Effect.provide(Layer.provide(live, Layer.merge(silent, InvalidationBus.layerMemory)), { local: true }))
})

const waitsOf = (waits: ReadonlyArray<number>): Waits => {
  const sorted = waits.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.ceil(sorted.length * share) - 1] ?? 0
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 }
}
