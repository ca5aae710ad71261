/** This library's cache on PostgreSQL, and Effect's own: a fiber for each that is under way at once. */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Exit, Layer, ManagedRuntime, Redacted, Schema, Scope } from "effect"
import { Persistable, PersistedCache, Persistence } from "effect/persistence"
import { type CacheConfigInput, CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
import { connections, type Crowd, type Document, documentOf, keyOf, type Place, type Tier, weightOf } from "./Tier.ts"

const Value = Schema.Struct({
  id: Schema.Int,
  name: Schema.String,
  tags: Schema.Array(Schema.String),
  text: Schema.String
})

// A store that is late is an error here: with a loader in its place something else would be measured.
const Documents = Namespace.make("documents", { value: Value, timeToLive: "1 hour", onStoreFailure: "fail" })

const inFibers =
  <R, RE>(
    runtime: ManagedRuntime.ManagedRuntime<R, RE>,
    work: (id: number) => Effect.Effect<Document, unknown, R>
  ): Crowd =>
  (idOf, times, width) =>
    runtime.runPromise(
      Effect.suspend(() => {
        let [next, sum] = [0, 0]
        const worker = Effect.whileLoop({
          while: () => next < times,
          body: () => work(idOf(next++)),
          step: (document) => {
            sum += weightOf(document)
          }
        })
        const workers = Array.from({ length: width }, () => worker)
        return Effect.map(Effect.all(workers, { concurrency: "unbounded", discard: true }), () => sum)
      })
    )

const never = Effect.die(new Error("a read was to be measured, and it loaded"))

const client = (url: string) => PgClient.layer({ url: Redacted.make(url), maxConnections: connections })

export const ours = async ({ url }: Pick<Place, "url">, config: CacheConfigInput = {}): Promise<Tier> => {
  const cache = CacheLive.layer({ memory: { maxEntries: 1 }, ...config })
  const runtime = ManagedRuntime.make(Layer.provide(cache, client(url)))
  await runtime.context()
  return {
    name: "effect-tiered-cache",
    note: "Values decoded by their schema; one load among all processes, refused if it was invalidated meanwhile.",
    read: inFibers(runtime, (id) => TieredCache.getOrSet(never, Documents, keyOf(id))),
    write: inFibers(runtime, (id) => {
      const document = documentOf(id)
      return Effect.as(TieredCache.set(Documents, keyOf(id), document), document)
    }),
    load: inFibers(runtime, (id) =>
      TieredCache.getOrSet(
        Effect.sync(() => documentOf(id)),
        Documents,
        keyOf(id)
      )
    ),
    close: () => runtime.dispose()
  }
}

class Request extends Persistable.Class<{ payload: { id: number } }>()("Request", {
  primaryKey: ({ id }) => keyOf(id),
  success: Value
}) {}

export const persistedCache = async ({ url }: Pick<Place, "url">): Promise<Tier> => {
  const runtime = ManagedRuntime.make(Layer.provide(Persistence.layerSql, client(url)))
  const options = { storeId: "documents", timeToLive: () => Duration.hours(1), inMemoryCapacity: 1 }
  const scope = Scope.makeUnsafe()
  const cacheOf = (lookup: (request: Request) => Effect.Effect<Document>) =>
    runtime.runPromise(Scope.provide(PersistedCache.make(lookup, options), scope))
  const read = await cacheOf(() => never)
  const load = await cacheOf(({ id }) => Effect.sync(() => documentOf(id)))
  const store = await runtime.runPromise(
    Scope.provide(
      Effect.flatMap(Persistence.Persistence, (persistence) =>
        persistence.make({ storeId: options.storeId, timeToLive: options.timeToLive })
      ),
      scope
    )
  )
  return {
    name: "PersistedCache (effect)",
    note: "Its writes are those of the Persistence underneath. Fails when the database does; each process loads for itself.",
    read: inFibers(runtime, (id) => read.get(new Request({ id }))),
    write: inFibers(runtime, (id) => {
      const document = documentOf(id)
      return Effect.as(store.set(new Request({ id }), Exit.succeed(document)), document)
    }),
    load: inFibers(runtime, (id) => load.get(new Request({ id }))),
    close: () => runtime.dispose()
  }
}
