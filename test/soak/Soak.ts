/**
 * Three caches on one real PostgreSQL, as three processes have them: each with a
 * memory and connections of its own, and a bus between them. Many visitors do with
 * them whatever can be done (`Workload`), while the server is frozen, killed, cut
 * off and locked at random (`Server`) and the source fails, dies and hangs
 * (`Source`).
 *
 * All the while, and once everything is mended and at rest, it is looked whether
 * the promises hold: what callers may fail with (G5), how old what they are served
 * may be (G6), the bounds of memory (G7), the books (G9), and that nothing is left
 * over: no flights, fences, pending work, fibers, connections or memory.
 *
 * Chance decides by a seed what is done and what goes wrong; in what order things
 * then happen is the machine's affair.
 */
import { PgClient } from "@effect/sql-pg"
import {
  Clock,
  Context,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Redacted,
  References,
  Schedule,
  Scope
} from "effect"
import {
  CacheConfig,
  type CacheConfigInput,
  type CacheStats,
  InvalidationBus,
  MemoryCache,
  PgCacheStore,
  PgMigrations,
  PgSweeper,
  TieredCache
} from "effect-tiered-cache"
import { Dice } from "./Dice.ts"
import * as Server from "./Server.ts"
import { keysPerKind, kinds, Source, Truth } from "./Source.ts"
import { Tally } from "./Tally.ts"
import * as Watch from "./Watch.ts"
import { type Surroundings, visit } from "./Workload.ts"

export interface Options {
  readonly seed: number
  /** How long the troubles last, in milliseconds. */
  readonly duration: number
  /** How many visitors each cache has. Default 16. */
  readonly visitors?: number
  readonly onTrouble?: (name: string, at: number) => Effect.Effect<void>
}

export interface Outcome {
  readonly tally: Tally
  readonly stats: CacheStats
  readonly source: Source["loads"]
  /** By name: how often, for how long in all, and the longest way back to health, in milliseconds. */
  readonly troubles: ReadonlyMap<string, { count: number; lasted: number; back: number }>
  /** What there was when all was at rest, before it and at the end. */
  readonly left: Readonly<Record<string, readonly [before: number, after: number]>>
}

const caches = 3
const connectionsPerCache = 4
const readTimeout = 250
const writeTimeout = 500
const fenceLifetime = 3000

const config: CacheConfigInput = {
  store: {
    readTimeout,
    writeTimeout,
    breakerProbeInterval: 100,
    maxPendingWrites: 50,
    maxPendingInvalidations: 20,
    sweepInterval: "1 second"
  },
  loads: { maxBackground: 20 }
}
const bounds = { maxEntries: 90, maxSize: 50_000 }

interface Node {
  readonly cache: TieredCache["Service"]
  readonly memory: MemoryCache["Service"]
  readonly sql: PgClient.PgClient
}

export const run = (options: Options): Effect.Effect<Outcome, unknown> =>
  Effect.scoped(
    Effect.gen(function* () {
      const tally = new Tally()
      yield* unhandled(tally)
      const watch = yield* Watch.start
      return yield* watch.counted(soak(options, tally, watch)).pipe(Effect.provide(logsTo(tally)))
    })
  )

const soak = Effect.fnUntraced(function* (
  { duration, onTrouble, seed, visitors: visitorsPerCache = 16 }: Options,
  tally: Tally,
  watch: Watch.Watch
) {
  const dice = new Dice(seed)
  const server = yield* Server.make(dice)
  const fibersOutside = watch.fibers()
  const life = yield* Effect.acquireRelease(Scope.make(), (scope, exit) => Scope.close(scope, exit))
  const bus = yield* Layer.build(Layer.fresh(InvalidationBus.layerMemory))
  const nodes: Array<Node> = []
  for (let index = 0; index < caches; index++) {
    const node = yield* Scope.provide(makeNode(server.url, bus), life)
    // So that the watch knows them in this order.
    yield* node.cache.invalidate(kinds[0]!.namespace, keysPerKind)
    nodes.push(node)
  }
  const pending = [...watch.pending]
  const fibersBefore = watch.fibers()
  const truth = new Truth(caches)
  const source = new Source(truth, new Dice(dice.below(2 ** 31)))
  let longestOutage = 0
  const surroundings = nodes.map(({ cache }, index): Surroundings => ({
    cache,
    index,
    truth,
    source,
    dice: new Dice(dice.below(2 ** 31)),
    tally,
    readTimeout,
    writeTimeout,
    slack: () => 500 + 2 * watch.lag(),
    // What was sent to a frozen server in time is stored when it thaws.
    lateness: () => longestOutage + writeTimeout
  }))

  const isOver = { visiting: false }
  const visitors = yield* Effect.forEach(
    surroundings.flatMap((self) => Array.from({ length: visitorsPerCache }, () => self)),
    (self) =>
      Effect.forkChild(
        Effect.suspend(() => Effect.andThen(visit(self), Effect.sleep(self.dice.between(2, 30)))).pipe(
          Effect.repeat({ while: () => !isOver.visiting })
        )
      )
  )
  const looking = yield* Effect.forkChild(lookAround(nodes, pending, truth, tally))

  // Whatever a program takes once, it has taken after a second.
  yield* Effect.sleep("1 second")
  const heapBefore = Watch.heapInUse()
  const connectionsBefore = yield* server.connections

  const troubles = new Map<string, { count: number; lasted: number; back: number }>()
  const startedAt = performance.now()
  const elapsed = () => performance.now() - startedAt
  while (elapsed() < duration) {
    const trouble = dice.pick(server.troubles)
    const length = dice.between(200, 2000)
    longestOutage = Math.max(longestOutage, length + 1000)
    if (onTrouble !== undefined) yield* onTrouble(trouble.name, elapsed())
    const from = performance.now()
    yield* trouble.during(length)
    const lasted = performance.now() - from
    longestOutage = Math.max(longestOutage, lasted)
    const back = yield* backToHealth(nodes, tally, trouble.name)
    const row = troubles.get(trouble.name) ?? { count: 0, lasted: 0, back: 0 }
    troubles.set(trouble.name, {
      count: row.count + 1,
      lasted: row.lasted + lasted,
      back: Math.max(row.back, back)
    })
    yield* Effect.sleep(dice.between(200, 1200))
  }

  isOver.visiting = true
  yield* Fiber.joinAll(visitors)
  yield* atRest(watch, tally)
  source.mend()
  yield* backToHealth(nodes, tally, "the end")
  yield* Effect.sleep("100 millis")
  yield* Fiber.interrupt(looking)
  yield* Effect.forEach(surroundings, readAll, { discard: true })
  yield* atRest(watch, tally)
  for (const node of nodes) yield* audit(node, tally)

  const left: Record<string, readonly [number, number]> = {}
  const heapAfter = Watch.heapInUse()
  left["heap, MiB"] = [heapBefore / 2 ** 20, heapAfter / 2 ** 20]
  tally.check("Nothing left over: heap", heapAfter - heapBefore < 10 * 2 ** 20, () => `${heapAfter - heapBefore} bytes`)
  const connections = yield* server.connections
  left["connections"] = [connectionsBefore, connections]
  tally.check("Nothing left over: connections", connections <= caches * connectionsPerCache, () => `${connections}`)
  yield* Effect.forEach(nodes, ({ sql }) => useAll(sql, tally), { discard: true })
  const fibersAfter = watch.fibers()
  left["fibers"] = [fibersBefore, fibersAfter]
  // A connection may be busy with itself.
  const isSame = fibersAfter <= fibersBefore + connections
  tally.check("Nothing left over: fibers", isSame, () => `${fibersAfter}, ${fibersBefore} before`)
  const stats = sum(yield* Effect.forEach(nodes, ({ cache }) => cache.stats))

  yield* Scope.close(life, Exit.void)
  const fibers = watch.fibers()
  left["fibers, caches closed"] = [fibersOutside, fibers]
  tally.check("Nothing left over: fibers", fibers <= fibersOutside, () => `${fibers}, ${fibersOutside} before`)
  const areClosed = yield* server.connections.pipe(
    Effect.repeat({ until: (count) => count === 0, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOption("5 seconds")
  )
  tally.check("Nothing left over: connections", Option.isSome(areClosed), () => "not closed with the caches")
  const outcome: Outcome = { tally, stats, source: source.loads, troubles, left }
  return outcome
})

/** A cache, as another process would have it. */
const makeNode = Effect.fnUntraced(function* (url: string, bus: Context.Context<InvalidationBus>) {
  const memory = MemoryCache.make(bounds)
  const client = PgClient.layer({
    url: Redacted.make(url),
    minConnections: connectionsPerCache,
    maxConnections: connectionsPerCache,
    connectTimeout: "1 second",
    applicationName: Server.applicationName
  })
  const store = Layer.merge(PgCacheStore.layerWith({ fenceLifetime }), Layer.effectDiscard(PgMigrations.run))
  const parts = Layer.mergeAll(
    Layer.succeedContext(bus),
    Layer.succeed(MemoryCache, memory),
    CacheConfig.layerOf(config)
  )
  const live = Layer.mergeAll(TieredCache.layerParts, PgSweeper.layerWith({ interval: "1 second" })).pipe(
    Layer.provide(parts),
    Layer.provide(store),
    Layer.provideMerge(client)
  )
  const context = yield* Layer.build(Layer.fresh(live))
  const node: Node = {
    cache: Context.get(context, TieredCache),
    memory,
    sql: Context.get(context, PgClient.PgClient)
  }
  return node
})

/** The bounds at many moments; and who has nothing pending any more. */
const lookAround = (
  nodes: ReadonlyArray<Node>,
  pending: ReadonlyArray<{ readonly size: number }>,
  truth: Truth,
  tally: Tally
) => {
  const idleSince = nodes.map(() => Infinity)
  return Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    for (const [index, { memory }] of nodes.entries()) {
      tally.check(
        "G7: memory is within its bounds",
        memory.entries <= bounds.maxEntries && memory.size <= bounds.maxSize,
        () => `${memory.entries} entries, ${memory.size} bytes`
      )
      // At two looks in a row: between the store's answer and the news of it there may be a moment.
      if (pending[index]!.size > 0) idleSince[index] = Infinity
      else if (idleSince[index] === Infinity) idleSince[index] = now
      else truth.caughtUp(index, idleSince[index]!)
    }
  }).pipe(Effect.repeat(Schedule.spaced("10 millis")))
}

/** How long it takes until all caches say that all is well, in milliseconds. */
const backToHealth = Effect.fnUntraced(function* (nodes: ReadonlyArray<Node>, tally: Tally, after: string) {
  const startedAt = performance.now()
  const isWell = Effect.map(
    Effect.forEach(nodes, ({ cache }) => cache.health),
    (all) => all.every(({ status }) => status === "Up")
  )
  const isBack = yield* isWell.pipe(
    Effect.repeat({ until: (isWell) => isWell, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOption("30 seconds")
  )
  const took = performance.now() - startedAt
  tally.check("PostgreSQL is in use again within 30 seconds", isBack._tag === "Some", () => `after: ${after}`)
  return took
})

/** Until nothing is under way, which a load that hung for ever is for `fenceLifetime` at most. */
const atRest = Effect.fnUntraced(function* (watch: Watch.Watch, tally: Tally) {
  yield* Effect.sync(() => Object.values(watch.underWay()).every((size) => size === 0)).pipe(
    Effect.repeat({ until: (isAtRest) => isAtRest, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOption(fenceLifetime + 5000)
  )
  for (const [what, size] of Object.entries(watch.underWay())) {
    tally.check(`Nothing left over: ${what}`, size === 0, () => `${size} after a rest`)
  }
})

/**
 * Everything once more: now that all is well everybody succeeds, after a while that
 * a cached failure or a busy machine may take, and is up to date.
 */
const readAll = ({ cache, index, source, tally, truth }: Surroundings) =>
  Effect.forEach(
    kinds.flatMap((kind) => Array.from({ length: keysPerKind }, (_, key) => ({ kind, key }))),
    ({ key, kind }) => {
      const oldest = truth.oldest(index, { kind, key })
      const loader = Effect.map(source.load(kind, [key]), ([value]) => value!)
      return cache.getOrSet(kind.namespace, key, loader).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }),
        Effect.exit,
        Effect.map((exit) =>
          tally.check(
            "At rest all reads succeed and are up to date",
            Exit.isSuccess(exit) && exit.value.version >= oldest,
            () => `${kind.name} ${key}, at least ${oldest}: ${JSON.stringify(exit)}`
          )
        )
      )
    },
    { concurrency: 20, discard: true }
  )

/** G7 and G9. */
const audit = Effect.fnUntraced(function* ({ cache, memory }: Node, tally: Tally) {
  const books = yield* Effect.exit(Effect.sync(() => memory.checkInvariants()))
  tally.check("G7: the books of memory balance", Exit.isSuccess(books), () => JSON.stringify(books))
  const whole = yield* cache.stats
  const parts = yield* Effect.forEach(kinds, ({ namespace }) => cache.statsOf(namespace))
  for (const stats of [whole, ...parts]) {
    const { loadFailure, loadInterrupted, loads, loadSuccess, lookups, memory, store } = stats
    tally.check(
      "G9: the counters add up",
      memory.requests === memory.hits + memory.misses &&
        store.requests === store.hits + store.misses &&
        loads === loadSuccess + loadFailure + loadInterrupted &&
        memory.hits + store.hits <= lookups,
      () => JSON.stringify(stats)
    )
  }
  const total = sum(parts)
  tally.check("G9: the counters add up", JSON.stringify(counts(total)) === JSON.stringify(counts(whole)), () =>
    JSON.stringify([total, whole])
  )
  tally.check(
    "G9: the counters add up",
    whole.memory.entries === memory.entries && whole.memory.size === memory.size,
    () => JSON.stringify([whole.memory, memory.entries, memory.size])
  )
})

/** A pool that has lost none of its connections serves as many at once as it has. */
const useAll = (sql: PgClient.PgClient, tally: Tally) =>
  Effect.gen(function* () {
    const startedAt = performance.now()
    const one = sql.withTransaction(sql`select pg_sleep(0.2)`)
    const exit = yield* Effect.exit(
      Effect.all(
        Array.from({ length: connectionsPerCache }, () => one),
        { concurrency: "unbounded" }
      )
    )
    const took = performance.now() - startedAt
    tally.check("Nothing left over: connections", Exit.isSuccess(exit) && took < 400, () => `${took} ms, ${exit._tag}`)
  })

type Counts = { readonly [name: string]: number | Counts }

const counts = (stats: object): Counts =>
  Object.fromEntries(
    Object.entries(stats)
      .filter(([name]) => name !== "hitRate" && name !== "meanLoadTime" && name !== "loadTime")
      .map(([name, value]) => [name, typeof value === "number" ? value : counts(value)])
  )

const sum = (all: ReadonlyArray<CacheStats>): CacheStats => {
  const plus = (a: Counts, b: Counts): Counts =>
    Object.fromEntries(
      Object.entries(a).map(([name, value]) => [
        name,
        typeof value === "number" ? value + (b[name] as number) : plus(value, b[name] as Counts)
      ])
    )
  return all.map((stats) => stats as unknown as Counts).reduce(plus) as unknown as CacheStats
}

/** What a program logs, by message; an error in the log is one that should not be, unless the source died. */
const logsTo = (tally: Tally) =>
  Layer.merge(
    Logger.layer([
      Logger.make(({ logLevel, message }) => {
        const [text] = [message].flat()
        const [first] = String(text).split(/: |\d/)
        tally.log(`${logLevel}  ${String(text).startsWith("cache: ") ? String(text).slice(0, 48) : first}`)
        tally.check(
          "No error in the log but of a source that died",
          logLevel !== "Error" || String(text).includes("a background load died"),
          () => String(text)
        )
      })
    ]),
    Layer.succeed(References.MinimumLogLevel, "Info")
  )

const unhandled = (tally: Tally) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      tally.check("Nothing is unhandled", true, () => "")
      const listener = (reason: unknown) => tally.check("Nothing is unhandled", false, () => String(reason))
      process.on("unhandledRejection", listener)
      return listener
    }),
    (listener) => Effect.sync(() => process.off("unhandledRejection", listener))
  )
