/**
 * What the store (L2) costs through the whole library, beside one prepared statement
 * per key: reads and writes of 1 kB values, alone and from 64 fibers at once, and how
 * many statements each operation takes.
 *
 *     npm run bench:store
 *     npm run bench:store -- --rounds 3 --turn 200 --json store.json
 *
 * Against the server of `DATABASE_URL`, else an embedded one of its own. Memory (L1) is
 * off throughout.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, ManagedRuntime, Option, Redacted, Schema, Tracer } from "effect"
import { Reactivity } from "effect/reactivity"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { parseArgs } from "node:util"
import { CacheLive } from "../src/CacheLive.ts"
import * as Namespace from "../src/Namespace.ts"
import * as EmbeddedPostgres from "../src/postgres/EmbeddedPostgres.ts"
import { TieredCache } from "../src/TieredCache.ts"
import * as Contest from "./store/Contest.ts"
import * as Rivals from "./store/Rivals.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    turn: { type: "string", default: "500" },
    fibers: { type: "string", default: "64" },
    only: { type: "string" },
    json: { type: "string" }
  }
})

const fibers = Number(options.fibers)
const count = 2000
const pace = { rounds: Number(options.rounds), turn: Number(options.turn) }

const Values = Namespace.make("values", {
  key: Schema.Int,
  value: Schema.Struct({
    id: Schema.Int,
    name: Schema.String,
    tags: Schema.Array(Schema.String),
    text: Schema.String
  }),
  timeToLive: "1 hour"
})

/** Without memory. */
const skip = ["memoryRead", "memoryWrite"] as const

const serverUrl = Effect.gen(function* () {
  const given = process.env["DATABASE_URL"]
  if (given !== undefined && given !== "") return given
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-tiered-cache-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
  )
  return (yield* EmbeddedPostgres.server({ directory })).url
})

/** Counts the statements that are sent. */
const statements = { sent: 0 }
const counting = Tracer.make({
  span: (span) => {
    if (span.kind === "client") statements.sent++
    return new Tracer.NativeSpan(span)
  }
})

const runtimeOf = (url: string, client: PgClient.PgPoolConfig) =>
  ManagedRuntime.make(
    CacheLive.layer({}).pipe(Layer.provideMerge(PgClient.layer({ ...client, url: Redacted.make(url) })))
  )

type Runtime = ReturnType<typeof runtimeOf>

/** So many fibers of one process, each with its next operation as soon as it has its answer. */
const inFibers =
  <R>(run: (effect: Effect.Effect<unknown, unknown, R>) => Promise<unknown>, width: number) =>
  (work: (id: number) => Effect.Effect<unknown, unknown, R>) =>
  async (times: number): Promise<void> => {
    let next = 0
    const worker = Effect.whileLoop({
      while: () => next < times,
      body: () => work(next++ % count),
      step: () => {}
    })
    await run(
      Effect.all(
        Array.from({ length: width }, () => worker),
        { concurrency: "unbounded", discard: true }
      )
    )
  }

const get = (id: number) =>
  Effect.map(
    TieredCache.use((cache) => cache.get(Values, id, { skip })),
    (value) => Rivals.check(Option.getOrUndefined(value), id)
  )

const never = Effect.die(new Error("the loader ran"))

const getOrSet = (id: number) =>
  Effect.map(TieredCache.getOrSet(never, Values, id, { skip }), (value) => Rivals.check(value, id))

const set = (id: number) => TieredCache.set(Values, id, Rivals.valueOf(id))

const program = Effect.gen(function* () {
  const url = yield* serverUrl
  const pool = yield* Effect.acquireRelease(
    Effect.promise(() => Rivals.poolOf(url, 10)),
    (pool) => Effect.promise(() => pool.end())
  )
  const sql = yield* Rivals.multiplexed(url)
  yield* sql.unsafe("drop table if exists usual")
  yield* sql.unsafe(Rivals.table)
  const runtimes = {
    pooled: runtimeOf(url, { maxConnections: 10 }),
    multiplexed: runtimeOf(url, { maxConnections: 2, multiplex: true })
  }
  for (const runtime of Object.values(runtimes))
    yield* Effect.addFinalizer(() => Effect.promise(() => runtime.dispose()))
  const ids = Array.from({ length: count }, (_, id) => id)
  yield* Effect.promise(() => runtimes.pooled.runPromise(Effect.forEach(ids, set, { concurrency: 64, discard: true })))
  yield* Effect.promise(() => Rivals.inTurns(10, count, Rivals.pgUpsert(pool)))

  const pgBy = (width: number, work: (id: number) => Promise<void>) => (times: number) =>
    Rivals.inTurns(width, times, (index) => work(index % count))
  const bare = <A, E>(effect: Effect.Effect<A, E>) => Effect.runPromise(effect)
  const ours = ({ runPromise }: Runtime, width: number) => inFibers(runPromise, width)

  const contests: ReadonlyArray<readonly [title: string, rivals: ReadonlyArray<Contest.Rival>]> = [
    [
      `reads, ${fibers} at once`,
      [
        { name: "pg", run: pgBy(fibers, Rivals.pgSelect(pool)) },
        { name: "sql-pg", run: inFibers(bare, fibers)(Rivals.sqlSelect(sql)) },
        { name: "get", run: ours(runtimes.pooled, fibers)(get) },
        { name: "getOrSet", run: ours(runtimes.pooled, fibers)(getOrSet) },
        { name: "get, client multiplexed", run: ours(runtimes.multiplexed, fibers)(get) }
      ]
    ],
    [
      "reads, one at a time",
      [
        { name: "pg", run: pgBy(1, Rivals.pgSelect(pool)) },
        { name: "sql-pg", run: inFibers(bare, 1)(Rivals.sqlSelect(sql)) },
        { name: "get", run: ours(runtimes.pooled, 1)(get) },
        { name: "getOrSet", run: ours(runtimes.pooled, 1)(getOrSet) }
      ]
    ],
    [
      `writes, ${fibers} at once`,
      [
        { name: "pg", run: pgBy(fibers, Rivals.pgUpsert(pool)) },
        { name: "sql-pg", run: inFibers(bare, fibers)(Rivals.sqlUpsert(sql)) },
        { name: "set", run: ours(runtimes.pooled, fibers)(set) }
      ]
    ],
    [
      "writes, one at a time",
      [
        { name: "pg", run: pgBy(1, Rivals.pgUpsert(pool)) },
        { name: "set", run: ours(runtimes.pooled, 1)(set) }
      ]
    ]
  ]
  const results: Record<string, ReadonlyArray<Contest.Result>> = {}
  for (const [title, rivals] of contests) {
    if (options.only !== undefined && !title.includes(options.only)) continue
    results[title] = yield* Effect.promise(() => Contest.run(rivals, pace))
    process.stdout.write(`${Contest.table(title, results[title], ["pg", "sql-pg"])}\n\n`)
  }
  const counted = yield* Effect.promise(() => runtimes.pooled.runPromise(Effect.withTracer(countStatements, counting)))
  process.stdout.write(`${countTable(counted)}\n\n`)
  const setting = {
    machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model ?? os.arch()}`,
    node: process.versions.node
  }
  process.stdout.write(`${setting.machine}, Node ${setting.node}\n`)
  if (options.json !== undefined) {
    fs.writeFileSync(options.json, `${JSON.stringify({ setting, results, statements: counted }, undefined, 2)}\n`)
  }
})

/** Each goes to the server and back once. */
const countStatements = Effect.gen(function* () {
  const cache = yield* TieredCache
  const found = Array.from({ length: 100 }, (_, id) => id)
  const cold = found.map((id) => 10_000 + id)
  const load = (ids: ReadonlyArray<number>) => Effect.succeed(ids.map(Rivals.valueOf))
  const counts: Array<readonly [operation: string, beforeLoader: number | undefined, total: number]> = []
  const counted = <E>(
    operation: string,
    work: (onLoad: Effect.Effect<void>) => Effect.Effect<unknown, E, TieredCache>
  ) =>
    Effect.gen(function* () {
      let before: number | undefined
      statements.sent = 0
      yield* work(Effect.sync(() => (before = statements.sent)))
      // What is stored unawaited is sent by then.
      yield* Effect.yieldNow
      counts.push([operation, before, statements.sent])
    })
  yield* counted("get, in the store", () => get(1))
  yield* counted("getOrSet, in the store", () => getOrSet(1))
  yield* counted("getOrSet, in neither", (onLoad) =>
    cache.getOrSet(Values, 9999, Effect.as(onLoad, Rivals.valueOf(9999)), { skip })
  )
  yield* counted("getOrSetMany of 100, in the store", () => cache.getOrSetMany(Values, found, load, { skip }))
  yield* counted("getOrSetMany of 100, in neither", (onLoad) =>
    cache.getOrSetMany(Values, cold, (ids) => Effect.andThen(onLoad, load(ids)), { skip })
  )
  yield* counted("64 getOrSet at once, in the store", () =>
    Effect.forEach(found.slice(0, 64), getOrSet, { concurrency: "unbounded" })
  )
  yield* counted("64 getOrSet at once, in neither", () =>
    Effect.forEach(
      found.slice(0, 64).map((id) => 20_000 + id),
      (id) => cache.getOrSet(Values, id, Effect.succeed(Rivals.valueOf(id)), { skip }),
      { concurrency: "unbounded" }
    )
  )
  yield* counted("set", () => set(1))
  yield* counted("64 set at once", () => Effect.forEach(found.slice(0, 64), set, { concurrency: "unbounded" }))
  yield* counted("invalidate", () => cache.invalidate(Values, 1))
  return counts
})

const countTable = (counts: ReadonlyArray<readonly [string, number | undefined, number]>): string =>
  [
    "| operation | statements | before the loader |",
    "| --- | --: | --: |",
    ...counts.map(([operation, before, total]) => `| ${operation} | ${total} | ${before ?? ""} |`)
  ].join("\n")

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Reactivity.layer)))
