/**
 * Hits inside a running fiber: the least that Effect needs for one, this library's
 * cache, and Effect's own caches.
 */
import { Cache, Clock, Context, Effect, Exit, Layer, PrimaryKey, Schema, Scope } from "effect"
import { Persistable, PersistedCache, Persistence } from "effect/persistence"
import { CacheStore, InvalidationBus, Namespace, type Operations, TieredCache } from "effect-tiered-cache"
import { atOnce, type Hitter, type Item, never, type Shelf } from "./Shelf.ts"

const inFiber =
  <R>(get: (key: string) => Effect.Effect<Item, unknown, R>, { keys }: Shelf, context: Context.Context<R>): Hitter =>
  (order, times) =>
    Effect.runPromiseWith(context)(
      Effect.gen(function* () {
        let sum = 0
        for (let done = 0, at = 0; done < times; done++, at++) {
          if (at === order.length) at = 0
          sum += (yield* get(keys[order[at]!]!)).id
        }
        return sum
      })
    )

/** The current fiber, its clock, a `Map`, an answer that is there already: what a hit cannot do without. */
export const bare = (shelf: Shelf): Hitter => {
  const entries = new Map(
    shelf.keys.map((key, at) => [key, { expiresAt: Infinity, hit: Exit.succeed(shelf.items[at]!) }])
  )
  const get = (key: string): Effect.Effect<Item> =>
    Effect.withFiber((fiber) => {
      const now = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      const entry = entries.get(key)
      return entry !== undefined && now < entry.expiresAt ? entry.hit : missed
    })
  return inFiber(get, shelf, Context.empty())
}

const missed = Effect.sync(never)

const Items = Namespace.make("items", {
  value: Schema.Struct({ id: Schema.Int, name: Schema.String }),
  timeToLive: "1 hour",
  memoryTimeToLive: "1 hour"
})

export interface Ours {
  readonly method: Hitter
  readonly fromContext: Hitter
  readonly peek: Hitter
}

/** Over a store that is no server: a hit in memory asks none. */
export const ours = async (shelf: Shelf): Promise<Ours> => {
  const context = await build(
    TieredCache.layerOf({ memory: { maxEntries: shelf.keys.length + 1000, maxSize: 8 * 1024 ** 3 } }).pipe(
      Layer.provide(CacheStore.layerMemory),
      Layer.provide(InvalidationBus.layerMemory)
    )
  )
  const cache: Operations = Context.get(context, TieredCache)
  await inBatches(shelf, (entries) => cache.setMany(Items, entries))
  return {
    method: inFiber((key) => cache.getOrSet(Items, key, missed), shelf, context),
    fromContext: inFiber((key) => TieredCache.getOrSet(missed, Items, key), shelf, context),
    peek: atOnce((key) => cache.peek(Items, key), shelf)
  }
}

export const effectCache = async (shelf: Shelf): Promise<Hitter> => {
  const cache = await Effect.runPromise(
    Cache.make<string, Item>({ capacity: shelf.keys.length + 1000, timeToLive: "1 hour", lookup: never })
  )
  await inBatches(shelf, (entries) => Effect.forEach(entries, ([key, item]) => Cache.set(cache, key, item)))
  return inFiber((key) => Cache.get(cache, key), shelf, Context.empty())
}

class Request extends Persistable.Class<{ payload: { key: string } }>()("Request", {
  primaryKey: ({ key }) => key,
  success: Schema.Struct({ id: Schema.Int, name: Schema.String })
}) {}

/** Its key objects are made once: `PersistedCache` builds a codec for each new one. */
export const persistedCache = async (shelf: Shelf): Promise<Hitter> => {
  const context = await build(Persistence.layerMemory)
  const requests = new Map(shelf.keys.map((key) => [key, new Request({ key })]))
  const items = new Map(shelf.keys.map((key, at) => [key, shelf.items[at]!]))
  const cache = await Effect.runPromise(
    Effect.provideContext(
      Effect.provideService(
        PersistedCache.make((request: Request) => Effect.sync(() => items.get(PrimaryKey.value(request))!), {
          storeId: "items",
          timeToLive: () => "1 hour",
          inMemoryCapacity: shelf.keys.length + 1000,
          inMemoryTTL: () => "1 hour"
        }),
        Scope.Scope,
        Scope.makeUnsafe()
      ),
      context
    )
  )
  const get = (key: string) => cache.get(requests.get(key)!)
  await inBatches(shelf, (entries) => Effect.forEach(entries, ([key]) => get(key)))
  return inFiber(get, shelf, Context.empty())
}

const build = <A, E>(layer: Layer.Layer<A, E>) => Effect.runPromise(Layer.buildWithScope(layer, Scope.makeUnsafe()))

/** So many at once that the program still yields to others. */
const inBatches = async <E>(
  { items, keys }: Shelf,
  fill: (entries: ReadonlyArray<readonly [string, Item]>) => Effect.Effect<unknown, E>
): Promise<void> => {
  for (let from = 0; from < keys.length; from += 1000) {
    await Effect.runPromise(fill(keys.slice(from, from + 1000).map((key, at) => [key, items[from + at]!])))
  }
}
