/** What other libraries make of `pg`, and `pg` itself, the usual way: a prepared statement per key. */
import { createKeyv as createPostgresKeyv } from "@keyv/postgres"
import { BentoCache, bentostore } from "bentocache"
import { knexDriver } from "bentocache/drivers/knex"
import { memoryDriver } from "bentocache/drivers/memory"
import { redisDriver } from "bentocache/drivers/redis"
import { createCache } from "cache-manager"
import { Cacheable, createKeyv } from "cacheable"
import knex from "knex"
import { Pool } from "pg"
import { connections, type Document, documentOf, inPromises, keyOf, type Place, type Tier } from "./Tier.ts"

const hour = 3_600_000

const never = (): never => {
  throw new Error("a read was to be measured, and it loaded")
}

const rejected = () => Promise.reject(new Error("a read was to be measured, and it loaded"))

/** No cache: nothing here expires, and nobody but the caller knows what to load. */
export const plainPg = async ({ address }: Place): Promise<Tier> => {
  const pool = new Pool({ ...address, max: connections })
  await pool.query("CREATE TABLE plain (key text PRIMARY KEY, value text NOT NULL)")
  const select = async (id: number) => {
    const query = { name: "read", text: "SELECT value FROM plain WHERE key = $1", values: [keyOf(id)] }
    const { rows } = await pool.query<{ value: string }>(query)
    return rows[0] === undefined ? undefined : (JSON.parse(rows[0].value) as Document)
  }
  const upsert = async (id: number) => {
    const document = documentOf(id)
    await pool.query({
      name: "write",
      text: "INSERT INTO plain VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
      values: [keyOf(id), JSON.stringify(document)]
    })
    return document
  }
  return {
    name: "pg, a prepared statement per key",
    read: inPromises(select),
    write: inPromises(upsert),
    load: inPromises(async (id) => (await select(id)) ?? upsert(id)),
    close: () => pool.end()
  }
}

const noFence = "An invalidation during the load is lost, and each process loads for itself."

export const bentocachePostgres = async ({ address }: Place): Promise<Tier> => {
  const connection = knex({ client: "pg", connection: { ...address }, pool: { min: 0, max: connections } })
  const tier = await bentocache("bentocache, knex", knexDriver({ connection, tableName: "bentocache" }))
  return { ...tier, note: noFence }
}

export const bentocacheRedis = async (socket: string): Promise<Tier> => {
  const tier = await bentocache("bentocache, Redis", redisDriver({ connection: { path: socket } }))
  return { ...tier, note: "On Redis, which keeps nothing on disk here. An invalidation during the load is lost." }
}

const bentocache = async (
  name: string,
  driver: ReturnType<typeof knexDriver> | ReturnType<typeof redisDriver>
): Promise<Tier> => {
  const memory = memoryDriver({ maxItems: 1 })
  const store = bentostore().useL1Layer(memory).useL2Layer(driver)
  const cache = new BentoCache({ default: "store", ttl: hour, stores: { store } })
  return {
    name,
    read: inPromises((id) => cache.getOrSet<Document>({ key: keyOf(id), factory: never })),
    write: inPromises(async (id) => {
      const value = documentOf(id)
      await cache.set({ key: keyOf(id), value })
      return value
    }),
    load: inPromises((id) => cache.getOrSet<Document>({ key: keyOf(id), factory: () => documentOf(id) })),
    close: () => cache.disconnectAll()
  }
}

export const cacheManagerPostgres = async ({ url }: Place): Promise<Tier> => {
  const store = createPostgresKeyv({ uri: url, table: "cache_manager", max: connections })
  const cache = createCache({ ttl: hour, stores: [createKeyv({ lruSize: 1 }), store] })
  return {
    name: "cache-manager, @keyv/postgres",
    note: `${noFence} Rows stay until they are read again.`,
    read: inPromises((id) => cache.wrap<Document>(keyOf(id), never)),
    write: inPromises((id) => cache.set(keyOf(id), documentOf(id))),
    load: inPromises((id) => cache.wrap<Document>(keyOf(id), () => documentOf(id))),
    close: () => Promise.resolve(store.disconnect()).catch(() => {})
  }
}

export const cacheablePostgres = async ({ url }: Place): Promise<Tier> => {
  const secondary = createPostgresKeyv({ uri: url, table: "cacheable", max: connections })
  const cache = new Cacheable({ ttl: hour, primary: createKeyv({ lruSize: 1 }), secondary })
  return {
    name: "cacheable, @keyv/postgres",
    note: `${noFence} Rows stay until they are read again. A loader that fails gives undefined.`,
    read: inPromises((id) => cache.getOrSet<Document>(keyOf(id), rejected)),
    write: inPromises(async (id) => {
      const document = documentOf(id)
      await cache.set(keyOf(id), document)
      return document
    }),
    load: inPromises((id) => cache.getOrSet<Document>(keyOf(id), () => Promise.resolve(documentOf(id)))),
    // Its pool is that of every @keyv/postgres in the process, and ends once only.
    close: () => Promise.resolve(secondary.disconnect()).catch(() => {})
  }
}
