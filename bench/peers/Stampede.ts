/** Many callers of one process who want the same key at once, in each of the caches. */
import { createKeyv as createPostgresKeyv } from "@keyv/postgres"
import { PgClient } from "@effect/sql-pg"
import { BentoCache, bentostore } from "bentocache"
import { knexDriver } from "bentocache/drivers/knex"
import { memoryDriver } from "bentocache/drivers/memory"
import { createCache } from "cache-manager"
import { Cacheable, createKeyv } from "cacheable"
import { Duration, Effect, Layer, ManagedRuntime, Redacted, Schema, Scope } from "effect"
import { Persistable, PersistedCache, Persistence } from "effect/persistence"
import { CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
import knex from "knex"
import { Loader } from "layered-loader"
import { setTimeout as sleep } from "node:timers/promises"

export interface StampedeResult {
  readonly loads: number
  /** How many callers got the right value. */
  readonly right: number
  readonly waited: number
}

/** With this begins a line that is meant for whoever started the process. */
export const spoken = "> "

/** A loader takes so many milliseconds. */
export const loaderTime = 50

type Stampede = (key: string, callers: number) => Promise<Omit<StampedeResult, "waited">>

const hour = 3_600_000

const inPromises =
  (getOrSet: (key: string, load: () => Promise<string>) => Promise<unknown>): Stampede =>
  async (key, callers) => {
    let loads = 0
    const load = async () => {
      loads++
      await sleep(loaderTime)
      return `value of ${key}`
    }
    const answers = await Promise.all(Array.from({ length: callers }, () => getOrSet(key, load)))
    return { loads, right: answers.filter((answer) => answer === `value of ${key}`).length }
  }

const inFibers =
  <R, E>(
    runtime: ManagedRuntime.ManagedRuntime<R, E>,
    getOrSet: (key: string, load: Effect.Effect<string>) => Effect.Effect<string, unknown, R>
  ): Stampede =>
  async (key, callers) => {
    let loads = 0
    const load = Effect.suspend(() => {
      loads++
      return Effect.delay(Effect.succeed(`value of ${key}`), loaderTime)
    })
    const answers = await runtime.runPromise(
      Effect.all(
        Array.from({ length: callers }, () => getOrSet(key, load)),
        { concurrency: "unbounded" }
      )
    )
    return { loads, right: answers.filter((answer) => answer === `value of ${key}`).length }
  }

const Texts = Namespace.make("texts", { value: Schema.String, timeToLive: "1 hour" })

class Request extends Persistable.Class<{ payload: { key: string } }>()("Request", {
  primaryKey: ({ key }) => key,
  success: Schema.String
}) {}

/** By name; each on a database, or for itself where there is none for it. */
export const stampedes: Record<string, (url: string) => Promise<Stampede>> = {
  "effect-tiered-cache": async (url) => {
    const client = PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })
    const runtime = ManagedRuntime.make(Layer.provide(CacheLive.layer({}), client))
    return inFibers(runtime, (key, load) => TieredCache.getOrSet(load, Texts, key))
  },
  "PersistedCache (effect)": async (url) => {
    const client = PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })
    const runtime = ManagedRuntime.make(Layer.provide(Persistence.layerSql, client))
    const loads = new Map<string, Effect.Effect<string>>()
    const cache = await runtime.runPromise(
      Scope.provide(
        PersistedCache.make(({ key }: Request) => loads.get(key)!, {
          storeId: "texts",
          timeToLive: () => Duration.hours(1)
        }),
        Scope.makeUnsafe()
      )
    )
    return inFibers(runtime, (key, load) =>
      Effect.suspend(() => {
        loads.set(key, load)
        return cache.get(new Request({ key }))
      })
    )
  },
  "bentocache, knex": async (url) => {
    const connection = knex({ client: "pg", connection: url, pool: { min: 0, max: 10 } })
    const driver = knexDriver({ connection, tableName: "bentocache" })
    const store = bentostore().useL1Layer(memoryDriver({})).useL2Layer(driver)
    const cache = new BentoCache({ default: "store", ttl: hour, stores: { store } })
    return inPromises((key, load) => cache.getOrSet({ key, factory: load }))
  },
  "cache-manager, @keyv/postgres": async (url) => {
    const stores = [createKeyv(), createPostgresKeyv({ uri: url, table: "cache_manager", max: 10 })]
    const cache = createCache({ ttl: hour, stores })
    return inPromises((key, load) => cache.wrap(key, load))
  },
  "cacheable, @keyv/postgres": async (url) => {
    const secondary = createPostgresKeyv({ uri: url, table: "cacheable", max: 10 })
    const cache = new Cacheable({ ttl: hour, primary: createKeyv(), secondary })
    return inPromises((key, load) => cache.getOrSet(key, load))
  },
  "layered-loader, memory only": async () => {
    const loads = new Map<string, () => Promise<string>>()
    const loader = new Loader<string>({
      inMemoryCache: { cacheType: "lru-map", ttlInMsecs: hour, maxItems: 1000 },
      dataSourceGetOneFn: (key) => loads.get(key)!()
    })
    return inPromises((key, load) => {
      loads.set(key, load)
      return loader.get(key)
    })
  }
}
