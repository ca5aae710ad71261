/**
 * Hits in the caches of other libraries, each set up so that it does no more than
 * it has to: no copies of values where it can be told so, and room for all entries.
 */
import { BentoCache, bentostore } from "bentocache"
import { memoryDriver } from "bentocache/drivers/memory"
import { createCache } from "cache-manager"
import { Cacheable, createKeyv } from "cacheable"
import { Loader } from "layered-loader"
import { LRUCache } from "lru-cache"
import { atOnce, awaiting, type Hitter, type Item, never, type Shelf } from "./Shelf.ts"

const hour = 3_600_000

const roomFor = ({ keys }: Shelf) => keys.length + 1000

/** No lifetimes, no loader: less than a cache. */
export const lruCache = (shelf: Shelf): Hitter => {
  const cache = new LRUCache<string, Item>({ max: roomFor(shelf) })
  for (const [at, key] of shelf.keys.entries()) cache.set(key, shelf.items[at]!)
  return atOnce((key) => cache.get(key), shelf)
}

export const bentocache = async (shelf: Shelf): Promise<Hitter> => {
  const memory = memoryDriver({ maxItems: roomFor(shelf), serialize: false })
  const cache = new BentoCache({ default: "memory", ttl: hour, stores: { memory: bentostore().useL1Layer(memory) } })
  for (const [at, key] of shelf.keys.entries()) await cache.set({ key, value: shelf.items[at] })
  return awaiting((key) => cache.getOrSet<Item>({ key, factory: never }), shelf)
}

export const cacheable = async (shelf: Shelf): Promise<Hitter> => {
  const primary = createKeyv({ lruSize: roomFor(shelf), useClone: false })
  const cache = new Cacheable({ primary, ttl: hour })
  for (const [at, key] of shelf.keys.entries()) await cache.set(key, shelf.items[at])
  const load = () => Promise.reject(new Error("a hit was to be measured, and it missed"))
  return awaiting((key) => cache.getOrSet<Item>(key, load), shelf)
}

export const cacheManager = async (shelf: Shelf): Promise<Hitter> => {
  const cache = createCache({ ttl: hour })
  for (const [at, key] of shelf.keys.entries()) await cache.set(key, shelf.items[at])
  return awaiting((key) => cache.wrap<Item>(key, never), shelf)
}

export const layeredLoader = async (shelf: Shelf): Promise<Hitter> => {
  const items = new Map(shelf.keys.map((key, at) => [key, shelf.items[at]!]))
  const loader = new Loader<Item>({
    inMemoryCache: { cacheType: "lru-map", ttlInMsecs: hour, maxItems: roomFor(shelf) },
    dataSourceGetOneFn: (key) => {
      const item = items.get(key)
      items.delete(key)
      return item === undefined
        ? Promise.reject(new Error("a hit was to be measured, and it missed"))
        : Promise.resolve(item)
    }
  })
  for (const key of shelf.keys) await loader.get(key)
  return awaiting((key) => Promise.resolve(loader.get(key)), shelf)
}
