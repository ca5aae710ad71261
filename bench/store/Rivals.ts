/**
 * The usual way to keep values in PostgreSQL, on a table of its own of two columns: one
 * prepared statement per key, with `pg` on a pool, and with `@effect/sql-pg` multiplexed.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"

/** What is kept under a key: about 1 kB of JSON. */
export interface Value {
  readonly id: number
  readonly name: string
  readonly tags: ReadonlyArray<string>
  readonly text: string
}

export const valueOf = (id: number): Value => ({
  id,
  name: `value ${id}`,
  tags: ["one", "two", "three"],
  text: Array.from({ length: 14 }, (_, i) =>
    ((id * 7919 + i * 104_729) % 2_147_483_647).toString(36).padEnd(64, "x")
  ).join(" ")
})

/** Ends the run: a fast wrong answer is no answer. */
export const check = (value: unknown, id: number): void => {
  if ((value as Value | undefined)?.id !== id) throw new Error(`asked for ${id}, given ${JSON.stringify(value)}`)
}

export const keyOf = (id: number): string => `value:${id}`

/** As many at a time, the next as soon as one is done. */
export const inTurns = async (fibers: number, times: number, work: (index: number) => Promise<void>): Promise<void> => {
  let next = 0
  const worker = async () => {
    while (next < times) await work(next++)
  }
  await Promise.all(Array.from({ length: fibers }, worker))
}

interface Pool {
  readonly query: (query: {
    readonly name: string
    readonly text: string
    readonly values: ReadonlyArray<unknown>
  }) => Promise<{ readonly rows: ReadonlyArray<{ readonly data: unknown }> }>
  readonly end: () => Promise<void>
}

/** A pool of `pg`, which belongs to the benchmarks alone and not to the package. */
export const poolOf = async (url: string, max: number): Promise<Pool> => {
  const name = "pg"
  const { default: pg } = (await import(name)) as {
    readonly default: { readonly Pool: new (options: object) => Pool }
  }
  return new pg.Pool({ connectionString: url, max })
}

export const table = "create table if not exists usual (key text primary key, data jsonb not null)"

const select = "select data from usual where key = $1"
const upsert = "insert into usual (key, data) values ($1, $2) on conflict (key) do update set data = excluded.data"

export const pgSelect = (pool: Pool) => async (id: number) => {
  const { rows } = await pool.query({ name: "select", text: select, values: [keyOf(id)] })
  check(rows[0]?.data, id)
}

export const pgUpsert = (pool: Pool) => async (id: number) => {
  await pool.query({ name: "upsert", text: upsert, values: [keyOf(id), JSON.stringify(valueOf(id))] })
}

export const multiplexed = (url: string) =>
  PgClient.make({ url: Redacted.make(url), multiplex: true, maxConnections: 2 })

export const sqlSelect = (sql: PgClient.PgClient) => (id: number) =>
  Effect.map(sql.unsafe<{ readonly data: unknown }>(select, [keyOf(id)]), (rows) => check(rows[0]?.data, id))

export const sqlUpsert = (sql: PgClient.PgClient) => (id: number) =>
  sql.unsafe(upsert, [keyOf(id), JSON.stringify(valueOf(id))])
