/**
 * A table of any size: rows as a load would have stored them, made by the database
 * itself, for ten million of them would take hours to send.
 *
 * Every row has one of `tags` tags and a key `group:number`, so that a tag and a
 * group cover a hundred rows each, however many there are.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Schema } from "effect"
import { Namespace } from "../../src/index.ts"

export const Things = Namespace.make("things", { value: Schema.String, timeToLive: "1 day" })

export const perGroup = 100

export const keyOf = (index: number): string => `${Math.floor(index / perGroup)}:${index % perGroup}`

export const patternOf = (index: number): string => `${Math.floor(index / perGroup)}:*`

export const tagOf = (index: number): string => `tag ${Math.floor(index / perGroup)}`

export const valueOf = (index: number): string => `${index} ${"x".repeat(90)}`

/** Adds rows until there are so many. */
export const fillUpTo = Effect.fnUntraced(function* (from: number, to: number) {
  const sql = yield* PgClient.PgClient
  const batch = 250_000
  for (let start = from; start < to; start += batch) {
    const end = Math.min(to, start + batch)
    yield* sql`
      insert into cache_entries (
        namespace, cache_key, data, data_size, schema_version, created_at, expires_at, stale_until, tags, version, loaded_in
      )
      select
        ${Things.name}, i / ${perGroup} || ':' || i % ${perGroup}, to_jsonb(i || ' ' || repeat('x', 90)), 100, 1,
        now(), now() + interval '1 day', now() + interval '1 day', array['tag ' || i / ${perGroup}],
        nextval('cache_versions'), pg_current_snapshot()
      from generate_series(${start}::int, ${end - 1}::int) i
    `
  }
  // As the server does by itself when it has the time.
  yield* sql`vacuum analyze cache_entries`
})
