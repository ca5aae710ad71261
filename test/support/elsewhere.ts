import { Context, Effect, Layer } from "effect"
import { CacheStore } from "../../src/CacheStore.ts"
import * as PgCacheStore from "../../src/postgres/PgCacheStore.ts"
import { Database } from "./Database.ts"

/** The store of another process. `layerWith`, because `layer` is memoised. */
export const elsewhere = Effect.suspend(() =>
  Effect.map(
    Layer.build(Layer.provide(PgCacheStore.layerWith({}), Database.layerClient({ maxConnections: 2 }))),
    (context) => Context.get(context, CacheStore)
  )
)
