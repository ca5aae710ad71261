/**
 * A process with a cache of its own: it begins with the first line of stdin, does
 * what each line after it says, answers each with a line, and ends when stdin does.
 * It says so too when a loader begins. See `CacheProcess`.
 */
import { PgClient } from "@effect/sql-pg"
import {
  Cause,
  Clock,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Redacted,
  Schema,
  SchemaTransformation,
  Stream
} from "effect"
import { type CacheEntry, CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
import { createInterface } from "node:readline"
import type { Answer, Crowd, Loading, Order, Setup } from "./CacheProcess.ts"

const { clockAhead = 0, config, maxConnections = 4, url, version = 1 }: Setup = JSON.parse(process.argv[2]!)

const say = (line: Answer | Loading) => Effect.sync(() => process.stdout.write(`${JSON.stringify(line)}\n`))

/** What the store has in later versions. It decodes as the first does, to something else. */
const Backwards = Schema.String.pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transform({
      decode: (text) => [...text].toReversed().join(""),
      encode: (text) => [...text].toReversed().join("")
    })
  )
)

const namespaces = new Map<string, Namespace.Namespace<string, string>>()
const named = (name: string) => {
  const namespace =
    namespaces.get(name) ?? Namespace.make(name, { value: version === 1 ? Schema.String : Backwards, version })
  namespaces.set(name, namespace)
  return namespace
}

/** Loads under way that end when they are told to, and who waits for them, by namespace and key. */
const toldLoads = new Map<string, Deferred.Deferred<string, string>>()
const crowds = new Map<string, Fiber.Fiber<unknown, unknown>>()

let runs = 0

const loaderOf = ({ namespace, takes }: Order) =>
  Effect.fnUntraced(function* (keys: ReadonlyArray<string>): Effect.fn.Return<ReadonlyArray<string>, string> {
    const run = `run ${++runs} of ${process.pid}`
    const told = Deferred.makeUnsafe<string, string>()
    if (takes === null) toldLoads.set(placeOf(namespace, keys[0]!), told)
    yield* say({ namespace, keys, at: Date.now() })
    if (takes === null) return [yield* Deferred.await(told)]
    yield* Effect.sleep(takes)
    return keys.map((key) => `${key} of ${run}`)
  })

const placeOf = (namespace: string, key: string) => `${namespace}\n${key}`

/** Callers of every style. */
const crowd = (cache: TieredCache["Service"], ns: Namespace.Namespace<string, string>, order: Order) => {
  const { callers, key } = order
  const load = loaderOf(order)
  const loadOne = Effect.map(load([key]), ([value]) => value!)
  const styles = [
    cache.getOrSet(ns, key, loadOne),
    Effect.map(cache.getOrSetEntry(ns, key, loadOne), ({ value }) => value),
    Effect.map(cache.getOrSetMany(ns, [key], load), ([value]) => value!),
    cache.cached(ns, () => loadOne)(key)
  ]
  const all = Effect.forEach(
    Array.from({ length: callers }, (_, i) => styles[i % styles.length]!),
    Effect.exit,
    { concurrency: "unbounded" }
  )
  return Effect.gen(function* () {
    const asking = yield* Effect.forkChild(all)
    crowds.set(placeOf(order.namespace, key), asking)
    return tally(yield* Fiber.join(asking))
  })
}

const tally = (exits: ReadonlyArray<Exit.Exit<string, string>>): Crowd => {
  const values: Record<string, number> = {}
  const failures: Record<string, number> = {}
  for (const exit of exits) {
    const [counts, name] = Exit.isSuccess(exit)
      ? ([values, exit.value] as const)
      : ([failures, Cause.squash(exit.cause) as string] as const)
    counts[name] = (counts[name] ?? 0) + 1
  }
  return { values, failures }
}

const bulk = (cache: TieredCache["Service"], ns: Namespace.Namespace<string, string>, order: Order) =>
  Effect.forEach(order.wanted, (keys) => cache.getOrSetMany(ns, keys, loaderOf(order)), { concurrency: "unbounded" })

/** Ends when there is no such entry any more; when that was, by the clock that all processes share. */
const untilGone = <E>(entry: Effect.Effect<Option.Option<unknown>, E>) =>
  Effect.gen(function* () {
    while (Option.isSome(yield* entry)) yield* Effect.sleep(1)
    return Date.now()
  })

const obey = (cache: TieredCache["Service"], order: Order): Effect.Effect<unknown, unknown> => {
  const ns = named(order.namespace)
  const { key, tags, value } = order
  const stored = { tags, ...(order.timeToLive !== null && { timeToLive: order.timeToLive }) }
  switch (order.does) {
    case "read":
      return Effect.map(cache.getEntry(ns, key), entryOf)
    case "readMemory":
      return Effect.map(cache.getEntry(ns, key, { skip: "store" }), entryOf)
    case "inspect":
      return Effect.gen(function* () {
        const entry = Option.getOrUndefined(yield* cache.getEntry(ns, key, { stale: true }))
        const now = yield* Clock.currentTimeMillis
        return entry === undefined ? null : { ...entry, now }
      })
    case "getOrSet":
      return Effect.map(cache.getOrSetEntry(ns, key, Effect.succeed(value), stored), toAnswer)
    case "crowd":
      return crowd(cache, ns, order)
    case "bulk":
      return bulk(cache, ns, order)
    case "endLoad":
      return Deferred.succeed(toldLoads.get(placeOf(ns.name, key))!, value)
    case "failLoad":
      return Deferred.fail(toldLoads.get(placeOf(ns.name, key))!, value)
    case "giveUp":
      return Effect.asVoid(Fiber.interrupt(crowds.get(placeOf(ns.name, key))!))
    case "set":
      return cache.set(ns, key, value, stored)
    case "invalidate":
      return cache.invalidate(ns, key)
    case "expire":
      return cache.expire(ns, key)
    case "invalidateTags":
      return cache.invalidateTags(ns, tags)
    case "expireTags":
      return cache.expireTags(ns, tags)
    case "invalidatePattern":
      return cache.invalidatePattern(ns, key)
    case "expirePattern":
      return cache.expirePattern(ns, key)
    case "clear":
      return cache.clear(ns)
    case "clearAll":
      return cache.clearAll
    case "keys":
      return Stream.runCollect(cache.keys(ns))
    case "forgets":
      return untilGone(
        Effect.map(
          cache.getEntry(ns, key, { skip: "store" }),
          Option.filter((entry) => entry.value === value)
        )
      )
    case "outlives":
      return Effect.gen(function* () {
        const staleAt = yield* untilGone(cache.getEntry(ns, key))
        return { staleAt, goneAt: yield* untilGone(cache.getEntry(ns, key, { stale: true })) }
      })
    case "stats":
      return cache.statsOf(ns)
    case "health":
      return cache.health
  }
}

const toAnswer = ({ origin, value }: CacheEntry<string>) => ({ origin, value })

const entryOf = Option.match({ onNone: () => null, onSome: toAnswer })

const program = Effect.gen(function* () {
  const cache = yield* TieredCache
  yield* say({ id: 1 })
  const context = yield* Effect.context()
  yield* Effect.promise(async () => {
    for await (const line of lines) {
      const order: Order = JSON.parse(line)
      const answer = Effect.matchCauseEffect(obey(cache, order), {
        onFailure: (cause) => say({ id: order.id, failure: String(cause) }),
        onSuccess: (result) => say({ id: order.id, result, at: Date.now() })
      })
      Effect.runForkWith(context)(answer)
    }
  })
})

const Database = PgClient.layer({ url: Redacted.make(url), maxConnections })

/** Another time of day; time passes as it does. */
const ahead = (millis: number): Clock.Clock => {
  const real = Clock.Clock.defaultValue()
  const millisNow = () => real.currentTimeMillisUnsafe() + millis
  const nanosNow = () => real.currentTimeNanosUnsafe() + BigInt(millis) * 1_000_000n
  return {
    currentTimeMillisUnsafe: millisNow,
    currentTimeMillis: Effect.sync(millisNow),
    currentTimeNanosUnsafe: nanosNow,
    currentTimeNanos: Effect.sync(nanosNow),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: real.monotonicTimeNanos,
    sleep: (duration) => real.sleep(duration)
  }
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
process.stdout.write(`${JSON.stringify({ id: 0 } satisfies Answer)}\n`)
await lines.next()

await program.pipe(
  Effect.provide(CacheLive.layer(config).pipe(Layer.provide(Database))),
  Effect.provideService(Logger.LogToStderr, true),
  Effect.provideService(Clock.Clock, ahead(clockAhead)),
  Effect.runPromise
)
