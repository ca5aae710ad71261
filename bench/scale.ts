/**
 * What becomes of the costs when there is more of everything: `npm run bench:scale`.
 *
 *     npm run bench:scale -- --rows 10000000 --processes 8 --minutes 60
 *     npm run bench:scale -- --short
 *
 * Three parts, on an embedded PostgreSQL of its own: each operation on tables of ten
 * thousand rows and ten times more until `--rows` (`scale/Curve`); reads and writes
 * of 1 to `--processes` processes together, and what the news of writes costs them
 * (`scale/Processes`); the memory of a steady load (`scale/SteadyLoad`).
 */
import { PgClient } from "@effect/sql-pg"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer, Option, Redacted } from "effect"
import { CliConfig, Command, Flag, GlobalFlag } from "effect/cli"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { CacheLive } from "../src/index.ts"
import * as EmbeddedPostgres from "../src/postgres/EmbeddedPostgres.ts"
import * as PgCacheStore from "../src/postgres/PgCacheStore.ts"
import * as Drawing from "./scale/Drawing.ts"
import { measure, type Measured, measureSweep, median } from "./scale/Curve.ts"
import { throughput } from "./scale/Processes.ts"
import { fillUpTo } from "./scale/Rows.ts"
import * as SteadyLoad from "./scale/SteadyLoad.ts"

const flags = {
  rows: Flag.Int("rows").pipe(
    Flag.withDescription("The largest table (default 1,000,000)"),
    Flag.withDefault(1_000_000)
  ),
  processes: Flag.Int("processes").pipe(Flag.withDescription("The most processes (default 8)"), Flag.withDefault(8)),
  minutes: Flag.Finite("minutes").pipe(
    Flag.withDescription("How long the steady load lasts (default 2)"),
    Flag.withDefault(2)
  ),
  short: Flag.Boolean("short").pipe(
    Flag.withDescription("Everything once, in seconds: whether it still runs"),
    Flag.withDefault(false)
  ),
  json: Flag.String("json").pipe(Flag.withDescription("Where to write the figures"), Flag.optional),
  svg: Flag.String("svg").pipe(Flag.withDescription("Where to draw the curves"), Flag.optional)
}

const command = Command.make("npm run bench:scale --", flags, ({ json, short, svg, ...asked }) =>
  Effect.gen(function* () {
    const { minutes, processes, rows } = short ? { rows: 20_000, processes: 2, minutes: 0.05 } : asked
    const url = yield* ownServer
    const client = PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })
    const config = {
      memory: { maxEntries: 1 },
      policy: { memoryTimeToLive: 0 },
      store: { sweepInterval: "1 day" }
    } as const
    const curve = yield* curveUpTo(rows, short ? 3 : 41).pipe(
      Effect.provide(Layer.provideMerge(Layer.merge(CacheLive.layer(config), PgCacheStore.layer), client))
    )
    yield* Console.log(`${curveTable(curve)}\n`)
    const crowds = yield* crowdsUpTo(url, processes, short ? 0.3 : 3, short ? 1 : 3, Math.min(rows, 100_000)).pipe(
      Effect.provide(Layer.provideMerge(CacheLive.layer(config), client))
    )
    yield* Console.log(`${crowdTable(crowds)}\n`)
    const steady = yield* SteadyLoad.run(minutes, 20_000).pipe(
      Effect.provide(Layer.provide(CacheLive.layer({ memory: { maxEntries: 2_000 } }), client))
    )
    yield* Console.log(steadyText(steady))
    const setting = { machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model}`, node: process.version }
    if (Option.isSome(json)) {
      fs.writeFileSync(json.value, `${JSON.stringify({ setting, curve, crowds, steady }, undefined, 2)}\n`)
    }
    if (Option.isSome(svg)) fs.writeFileSync(svg.value, Drawing.svg(curve, `Node ${setting.node}, ${setting.machine}`))
  }).pipe(Effect.scoped)
).pipe(Command.withDescription("What becomes of the costs when there is more of everything"))

/** In a directory of its own, gone afterwards, unless `DATABASE_URL` says where. */
const ownServer = Effect.gen(function* () {
  const given = process.env["DATABASE_URL"]
  if (given !== undefined) return given
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bench-scale-"))
      // Started by root, the server runs as another user in here.
      fs.chmodSync(directory, 0o711)
      return directory
    }),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
  )
  const { url } = yield* EmbeddedPostgres.server({ directory: path.join(directory, "postgres") })
  return url
})

const curveUpTo = Effect.fnUntraced(function* (most: number, rounds: number) {
  const curve: Array<Measured> = []
  let rows = 0
  for (let next = Math.min(10_000, most); ; next = Math.min(next * 10, most)) {
    yield* Effect.sync(() => process.stderr.write(`${next} rows\n`))
    yield* fillUpTo(rows, next)
    rows = next
    curve.push(...(yield* measure(rows, rounds)))
    if (rows === most) break
  }
  curve.push(yield* measureSweep(rows))
  return curve
})

interface Crowd {
  readonly processes: number
  readonly read: number
  readonly write: number
  readonly silent: number
}

const crowdsUpTo = Effect.fnUntraced(function* (
  url: string,
  most: number,
  seconds: number,
  rounds: number,
  rows: number
) {
  yield* fillUpTo(0, rows)
  const crowds: Array<Crowd> = []
  for (let processes = 1; processes <= most; processes *= 2) {
    yield* Effect.sync(() => process.stderr.write(`${processes} processes\n`))
    const order = { url, rows, seconds }
    const taken = { read: [] as Array<number>, write: [] as Array<number>, silent: [] as Array<number> }
    for (let round = 0; round < rounds; round++) {
      taken.read.push(yield* throughput(processes, { ...order, kind: "read" }))
      taken.write.push(yield* throughput(processes, { ...order, kind: "write" }))
      taken.silent.push(yield* throughput(processes, { ...order, kind: "write in silence" }))
    }
    crowds.push({
      processes,
      read: median(taken.read),
      write: median(taken.write),
      silent: median(taken.silent)
    })
  }
  return crowds
})

const curveTable = (curve: ReadonlyArray<Measured>): string => {
  const sizes = [...new Set(curve.map(({ rows }) => rows))]
  const lines = [...new Set(curve.map(({ operation }) => operation))].map((operation) => {
    const cells = sizes.map((rows) => {
      const times = curve.find((measured) => measured.operation === operation && measured.rows === rows)?.times
      if (times === undefined || times.length === 0) return ""
      const sorted = times.toSorted((a, b) => a - b)
      const [low, high] = [0.1, 0.9].map((part) => sorted[Math.floor(part * (sorted.length - 1))]!)
      return `${median(times).toFixed(2)} (${low!.toFixed(2)}–${high!.toFixed(2)})`
    })
    return `| ${[operation, ...cells].join(" | ")} |`
  })
  const head = ["milliseconds, median (10–90 %)", ...sizes.map((rows) => `${rows.toLocaleString("en")} rows`)]
  return [`| ${head.join(" | ")} |`, `| --- |${" --: |".repeat(sizes.length)}`, ...lines].join("\n")
}

const crowdTable = (crowds: ReadonlyArray<Crowd>): string => {
  const per = (count: number) => Math.round(count).toLocaleString("en")
  return [
    "| processes | reads a second | writes a second | of those without a bus |",
    "| --: | --: | --: | --: |",
    ...crowds.map(
      ({ processes, read, silent, write }) =>
        `| ${processes} | ${per(read)} | ${per(write)} | ${(write / silent).toFixed(2)} × |`
    )
  ].join("\n")
}

const steadyText = ({ heap, minutes, operations, slope }: SteadyLoad.Steady): string =>
  `${minutes} minutes of steady load, ${operations.toLocaleString("en")} operations: heap after collection ` +
  `${heap.map(([, megabytes]) => megabytes.toFixed(1)).join(", ")} MB; ${slope.toFixed(2)} MB an hour over the last two thirds`

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
