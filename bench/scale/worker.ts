/**
 * One process of many: it reads or writes random keys of the table with sixteen
 * fibers for so long, and prints how many there were. It begins when it is told to.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import * as readline from "node:readline"
import { CacheConfig } from "../../src/CacheConfig.ts"
import { InvalidationBus } from "../../src/InvalidationBus.ts"
import { CacheLive } from "../../src/index.ts"
import * as PgCacheStore from "../../src/postgres/PgCacheStore.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import { keyOf, Things, valueOf } from "./Rows.ts"

export interface Order {
  readonly url: string
  readonly kind: "read" | "write" | "write in silence"
  readonly rows: number
  readonly seconds: number
}

const order = JSON.parse(process.argv[2]!) as Order

const config = { memory: { maxEntries: 1 }, policy: { memoryTimeToLive: 0 } } as const

/** Without a bus nobody is told. */
const silent = TieredCache.layerOf(config).pipe(
  Layer.provide(PgCacheStore.layer),
  Layer.provide(InvalidationBus.layerMemory),
  Layer.provide(CacheConfig.layerOf(config))
)

const main = Effect.gen(function* () {
  const cache = yield* TieredCache
  const pick = () => Math.floor(Math.random() * order.rows)
  const once = Effect.suspend(() => {
    const index = pick()
    return order.kind === "read" ? cache.get(Things, keyOf(index)) : cache.set(Things, keyOf(index), valueOf(index))
  })
  yield* Effect.forEach(Array.from({ length: 64 }), () => once, { concurrency: 16, discard: true })
  console.log("ready")
  yield* Effect.callback<void>((resume) => {
    const input = readline.createInterface({ input: process.stdin })
    input.once("line", () => {
      input.close()
      resume(Effect.void)
    })
  })
  let count = 0
  const end = performance.now() + order.seconds * 1000
  const worker = Effect.gen(function* () {
    while (performance.now() < end) {
      yield* once
      count++
    }
  })
  yield* Effect.all(
    Array.from({ length: 16 }, () => worker),
    { concurrency: "unbounded", discard: true }
  )
  console.log(count)
})

const client = PgClient.layer({ url: Redacted.make(order.url), maxConnections: 4 })
const live = order.kind === "write in silence" ? silent : CacheLive.layer(config)

Effect.runPromise(Effect.provide(main, Layer.provide(live, client))).then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
