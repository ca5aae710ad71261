/**
 * One start: how long a process takes from the layer to its first answer, with all
 * modules loaded. Started by `bench/startup.ts` with a database and who is to answer.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { CacheLive, Namespace, TieredCache } from "effect-tiered-cache"

const [url, who] = process.argv.slice(2)
const Numbers = Namespace.make("numbers", { value: Schema.Int, timeToLive: "1 hour" })
const client = PgClient.layer({ url: Redacted.make(url!) })

/** Within the layers, so that taking them down is not in it. */
const timed = <E, R>(answer: Effect.Effect<number, E, R>) =>
  Effect.map(answer, (value) => {
    if (value !== 1) throw new Error(`the first answer was ${value}`)
    return performance.now() - before
  })

const ours = Effect.succeed(1).pipe(
  TieredCache.getOrSet(Numbers, "first"),
  timed,
  Effect.provide(Layer.provide(CacheLive.layer({}), client))
)

const bare = Effect.flatMap(SqlClient.SqlClient, (sql) => sql<{ one: number }>`SELECT 1 AS one`).pipe(
  Effect.map(([row]) => row!.one),
  timed,
  Effect.provide(client)
)

const before = performance.now()
console.log(await Effect.runPromise<number, unknown>(who === "ours" ? ours : bare))
