/**
 * What an operation of the memory (L1) costs beside `lru-cache`, and an entry in
 * bytes: `npm run bench:memory`, once `npm ci` was run in `bench/`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect } from "effect"
import { CliConfig, Command, Flag, GlobalFlag } from "effect/cli"
import { bytesPerEntry, kinds, time, type Timing } from "./memory/Measure.ts"
import { loadLru, ours, record } from "./memory/Side.ts"

const json = Flag.Boolean("json").pipe(Flag.withDescription("Prints JSON in place of tables"), Flag.withDefault(false))

const short = Flag.Boolean("short").pipe(
  Flag.withDescription("Fewer entries and rounds: a few seconds, and no figures to rely on"),
  Flag.withDefault(false)
)

const command = Command.make("memory", { json, short }, ({ json, short }) =>
  Effect.gen(function* () {
    const lru = yield* Effect.promise(loadLru)
    const counts = short ? [5000] : [100_000, 1_000_000]
    const timings = counts.flatMap((entries) =>
      kinds.flatMap((kind) => time([ours, lru], kind, entries, short ? 3 : 15))
    )
    const filled = short ? 50_000 : 1_000_000
    const bytes = {
      MemoryCache: bytesPerEntry(ours, filled),
      "lru-cache, the bare value": bytesPerEntry((entries) => lru(entries), filled),
      "lru-cache, what we keep with a value": bytesPerEntry((entries) => lru(entries, record), filled)
    }
    yield* Console.log(json ? JSON.stringify({ timings, bytes }, null, 2) : tables(timings, bytes))
  })
).pipe(Command.withDescription("The memory's costs beside lru-cache"))

const tables = (timings: ReadonlyArray<Timing>, bytes: Readonly<Record<string, number>>): string =>
  [
    "| work | keys | entries | MemoryCache, ns | lru-cache, ns | ratio (quartiles) |",
    "| --- | --- | ---: | ---: | ---: | ---: |",
    ...timings.map(({ entries, keys, ours, peer, ratio: [low, median, high], work }) => {
      const ratio = `${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`
      return `| ${work} | ${keys} | ${entries} | ${ours.toFixed(0)} | ${peer.toFixed(0)} | ${ratio} |`
    }),
    "",
    "| | bytes per entry beside its key and value |",
    "| --- | ---: |",
    ...Object.entries(bytes).map(([name, count]) => `| ${name} | ${count.toFixed(0)} |`)
  ].join("\n")

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
