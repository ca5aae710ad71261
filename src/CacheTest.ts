/**
 * A cache for the tests of programs that use one: the real coordinator over the
 * memory-only store and bus.
 *
 * No database, no environment, no background work that outlives the layer. Time
 * is Effect's `Clock`, in memory and in the store alike, so `TestClock.adjust`
 * makes entries expire.
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
  TieredCache.layerOf(config).pipe(Layer.provide(CacheStore.layerMemory), Layer.provide(InvalidationBus.layerMemory))

/**
 * A cache without a database. `CacheTest.layer(config)` is the same with a
 * configuration; each has a store of its own.
 *
 * @category layers
 * @since 0.1.0
 */
export const CacheTest: Layer.Layer<TieredCache> & { readonly layer: typeof layer } = Object.assign(
  Layer.orDie(layer({})),
  { layer }
)
