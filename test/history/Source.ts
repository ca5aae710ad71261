/**
 * The source of truth: a table in the database of the cache. Every change of a key
 * gives it a version that no key ever had or will have.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Schema } from "effect"
import { CachePolicy, Namespace } from "effect-tiered-cache"
import type { SqlError } from "effect/sql"

const Value = Schema.Struct({
  key: Schema.String,
  version: Schema.Int,
  writer: Schema.String,
  tags: Schema.Array(Schema.String)
})

export class SourceFailed extends Schema.TaggedError<SourceFailed>()("SourceFailed", {}) {}

const policy: CachePolicy.CachePolicyInput = {
  timeToLive: "12 seconds",
  memoryTimeToLive: "5 seconds",
  staleIfError: "3 seconds",
  failureBackoff: "100 millis",
  leaseDuration: "2 seconds",
  leaseWait: "1 second",
  jitter: 0
}

/** How long memory vouches for anything, in milliseconds. */
export const memoryLife = CachePolicy.resolve(
  Namespace.make("policy", { value: Value, ...policy }).policy
).memoryTimeToLive

export const namespaces = [
  Namespace.make("awaited", { value: Value, ...policy }),
  Namespace.make("background", { value: Value, ...policy, storeWrites: "background" })
]
export type Space = (typeof namespaces)[number]

/** What is cached in each namespace: `b1:y` is one. */
export const names: ReadonlyArray<string> = ["a", "b", "c"].flatMap((letter) =>
  ["0", "1", "2", "3"].flatMap((digit) => ["x", "y"].map((end) => `${letter}${digit}:${end}`))
)

/** A key as the source and the history know it. */
export const keyOf = (space: Space, name: string): string => `${space.name}/${name}`

/** What the version of a name is tagged with. */
export const tagsOf = (name: string, version: number): ReadonlyArray<string> => [
  `letter ${name[0]}`,
  version % 2 === 0 ? "even" : "odd"
]

/** Each pattern of the cache, and what it has to match. */
export const patterns: ReadonlyArray<readonly [glob: string, matches: RegExp]> = [
  ["a*", /^a/],
  ["*:x", /:x$/],
  ["b?:y", /^b.:y$/],
  ["[ac]1:*", /^[ac]1:/],
  ["[!a]2*", /^[^a]2/],
  ["c[0-2]:[xy]", /^c[0-2]:[xy]$/],
  ["*3*", /3/],
  ["a1\\:x", /^a1:x$/]
]

export const create = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`create sequence source_versions`
  yield* sql`create table source (key text primary key, version int8 not null)`
  yield* sql`create table committed (transaction text primary key)`
  const keys = namespaces.flatMap((space) => names.map((name) => keyOf(space, name)))
  yield* sql`insert into source select key, 0 from unnest(${keys}::text[]) key`
})

/** The versions of the keys now, or as the transaction sees them. */
export const versions = (
  sql: PgClient.PgClient,
  keys: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<number>, SqlError.SqlError> =>
  Effect.map(
    sql<{ key: string; version: number }>`
      select key, version::float8 as version from source where key = any (${keys}::text[])
    `,
    (rows) => {
      const found = new Map(rows.map(({ key, version }) => [key, version]))
      return keys.map((key) => found.get(key)!)
    }
  )

/** Changes a key and says which version it has now. */
export const update = (sql: PgClient.PgClient, key: string): Effect.Effect<number, SqlError.SqlError> =>
  Effect.map(
    sql<{ version: number }>`
      update source set version = nextval('source_versions') where key = ${key} returning version::float8 as version
    `,
    ([row]) => row!.version
  )

/** To be the last thing in a transaction: whether it was committed can then be looked up. */
export const sign = (sql: PgClient.PgClient, transaction: string) =>
  sql`insert into committed (transaction) values (${transaction})`

export const committed = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ transaction: string }>`select transaction from committed`
  return new Set(rows.map(({ transaction }) => transaction))
})
