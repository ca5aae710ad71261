/**
 * A process with a cache of its own: it does what each line of stdin says and
 * answers each with a line, and ends when stdin does. See `CacheProcess`.
 */
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Fiber, Layer, Logger, Option, Redacted, Schema } from "effect"
import { type CacheEntry, CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
import { createInterface } from "node:readline"
import type { Answer, Order, Setup } from "./CacheProcess.ts"

const { config, url }: Setup = JSON.parse(process.argv[2]!)

const namespaces = new Map<string, Namespace.Namespace<string, string>>()
const named = (name: string) => {
  const namespace = namespaces.get(name) ?? Namespace.make(name, { value: Schema.String })
  namespaces.set(name, namespace)
  return namespace
}

/** Loads under way, by key, and how they end. */
const loads = new Map<string, (value: string) => Effect.Effect<unknown, unknown>>()

const obey = (cache: TieredCache["Service"], order: Order): Effect.Effect<unknown, unknown> => {
  const ns = named(order.namespace)
  const { key } = order
  switch (order.does) {
    case "read":
      return Effect.map(cache.getEntry(ns, key), entryOf)
    case "readMemory":
      return Effect.map(cache.getEntry(ns, key, { skip: "store" }), entryOf)
    case "getOrSet":
      return Effect.map(cache.getOrSetEntry(ns, key, Effect.succeed(order.value)), toAnswer)
    case "load":
      return Effect.gen(function* () {
        const began = Deferred.makeUnsafe<void>()
        const end = Deferred.makeUnsafe<string>()
        const loader = Effect.andThen(Deferred.succeed(began, undefined), Deferred.await(end))
        const load = yield* Effect.forkDetach(cache.getOrSet(ns, key, loader))
        loads.set(key, (value) => Effect.andThen(Deferred.succeed(end, value), Fiber.join(load)))
        yield* Deferred.await(began)
      })
    case "endLoad":
      return loads.get(key)!(order.value)
    case "set":
      return cache.set(ns, key, order.value)
    case "invalidate":
      return cache.invalidate(ns, key)
    case "clear":
      return cache.clear(ns)
    case "clearAll":
      return cache.clearAll
    case "forgets":
      return Effect.gen(function* () {
        while (true) {
          const entry = yield* cache.getEntry(ns, key, { skip: "store" })
          if (Option.isNone(entry) || entry.value.value !== order.value) return Date.now()
          yield* Effect.sleep(1)
        }
      })
    case "remoteRemovals":
      return Effect.map(cache.statsOf(ns), ({ memory }) => memory.removals.remote)
  }
}

const toAnswer = ({ origin, value }: CacheEntry<string>) => ({ origin, value })

const entryOf = Option.match({ onNone: () => null, onSome: toAnswer })

const program = Effect.gen(function* () {
  const cache = yield* TieredCache
  const say = (answer: Answer) => Effect.sync(() => process.stdout.write(`${JSON.stringify(answer)}\n`))
  yield* say({ id: 0, result: process.pid })
  const context = yield* Effect.context()
  yield* Effect.promise(async () => {
    for await (const line of createInterface(process.stdin)) {
      const order: Order = JSON.parse(line)
      const answer = Effect.matchCauseEffect(obey(cache, order), {
        onFailure: (cause) => say({ id: order.id, failure: String(cause) }),
        onSuccess: (result) => say({ id: order.id, result, at: Date.now() })
      })
      Effect.runForkWith(context)(answer)
    }
  })
})

const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })

await program.pipe(
  Effect.provide(CacheLive.layer(config).pipe(Layer.provide(Database))),
  Effect.provideService(Logger.LogToStderr, true),
  Effect.runPromise
)
