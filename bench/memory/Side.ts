/**
 * What is compared: the memory (L1), and `lru-cache` doing the same work, with the
 * size and the lifetime of each entry tracked.
 *
 * `lru-cache` is installed in `bench/` alone. So its name is no literal here, for
 * the project's type-check to pass without it.
 */
import { MemoryCache } from "../../src/MemoryCache.ts"

export type Key = string | number

/** A cache of a bounded number of entries. */
export interface Side {
  readonly name: string
  readonly get: (key: Key) => unknown
  readonly set: (key: Key) => void
  readonly entries: () => number
}

export const value = { name: "a value that all entries share" }
const size = 100
const lifetime = 3_600_000

export const ours = (maxEntries: number): Side => {
  const memory = MemoryCache.make({ maxEntries, maxSize: 1e12 })
  const partition = memory.partition<typeof value>("bench")
  const now = Date.now()
  const tags: ReadonlyArray<string> = []
  return {
    name: "MemoryCache",
    get: (key) => partition.get(key, now)?.value,
    set: (key) => void partition.put(key, { value, createdAt: now, expiresAt: now + lifetime, size, tags }, now),
    entries: () => memory.entries
  }
}

interface Lru {
  readonly size: number
  readonly get: (key: Key) => unknown
  readonly set: (key: Key, value: unknown, options: { readonly size: number; readonly ttl: number }) => unknown
}

interface LruModule {
  readonly LRUCache: new (options: { readonly max: number; readonly maxSize: number; readonly ttl: number }) => Lru
}

const nameOfLru: string = "lru-cache"

/** `contentOf` makes what is put in, for each entry anew. */
export const loadLru = async (): Promise<(maxEntries: number, contentOf?: () => unknown) => Side> => {
  const { LRUCache } = (await import(nameOfLru)) as LruModule
  return (max, contentOf = () => value) => {
    const cache = new LRUCache({ max, maxSize: 1e12, ttl: lifetime })
    return {
      name: "lru-cache",
      get: (key) => cache.get(key),
      set: (key) => void cache.set(key, contentOf(), { size, ttl: lifetime }),
      entries: () => cache.size
    }
  }
}

/** What `TieredCache` needs to know of an entry beside its value, as one object: for a comparison of like with like. */
export const record = () => ({
  value,
  createdAt: Date.now(),
  freshUntil: Date.now() + lifetime,
  vouchedUntil: Date.now() + lifetime,
  hitUntil: Date.now() + lifetime,
  tags: value,
  details: value,
  uses: 0
})
