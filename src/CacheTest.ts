/**
 * A cache for the tests of programs that use one: the real coordinator over the
 * memory-only store and bus.
 *
 * No database, no environment, no background work that outlives the layer. Time
 * is Effect's `Clock`, in memory and in the store alike, so `TestClock.adjust`
 * makes entries expire, and since `jitter` is 0 here, at the very millisecond.
 *
 * @since 0.1.0
 */
import { Layer } from "effect"
import type { CacheConfigInput } from "./CacheConfig.ts"
import type { CacheError } from "./CacheError.ts"
import { CacheStore } from "./CacheStore.ts"
import { InvalidationBus } from "./InvalidationBus.ts"
import { TieredCache } from "./TieredCache.ts"

const layer = (config: CacheConfigInput): Layer.Layer<TieredCache, CacheError> =>
  TieredCache.layerOf({ ...config, policy: { ...config.policy, jitter: config.policy?.jitter ?? 0 } }).pipe(
    Layer.provide(CacheStore.layerMemory),
    Layer.provide(InvalidationBus.layerMemory)
  )

/**
 * A cache without a database. `CacheTest.layer(config)` is the same with a
 * configuration; each has a store of its own. Lifetimes have no jitter unless the
 * configuration or the code of a namespace asks for one.
 *
 * @category layers
 * @since 0.1.0
 */
export const CacheTest: Layer.Layer<TieredCache> & { readonly layer: typeof layer } = Object.assign(
  Layer.orDie(layer({})),
  { layer }
)
