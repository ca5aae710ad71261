/**
 * How often our memory (L1) has what is asked for, beside other policies and the
 * best that is possible: `npm run bench:hit-rate`.
 *
 * Recorded traces are read from a directory; without one, seeded ones are played.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Option } from "effect"
import { CliConfig, Command, Flag, GlobalFlag } from "effect/cli"
import { replay, scan, summarize } from "./hitRate/Replay.ts"
import { tables } from "./hitRate/Table.ts"
import * as Trace from "./hitRate/Trace.ts"

const traces = Flag.String("traces").pipe(
  Flag.withDescription("A directory of gzipped text files with one numeric key per line (default: seeded traces)"),
  Flag.optional
)

const json = Flag.Boolean("json").pipe(Flag.withDescription("Prints JSON in place of tables"), Flag.withDefault(false))

const short = Flag.Boolean("short").pipe(
  Flag.withDescription("Shorter seeded traces: a few seconds"),
  Flag.withDefault(false)
)

const command = Command.make("hitRate", { traces, json, short }, ({ json, short, traces }) =>
  Effect.gen(function* () {
    const played = Option.match(traces, {
      onNone: () => Trace.seeded(short ? 20_000 : 300_000),
      onSome: Trace.recorded
    })
    const cells = played.flatMap(replay)
    const summaries = summarize(cells)
    const scans = scan(short ? 500 : 5000)
    yield* Console.log(json ? JSON.stringify({ cells, summaries, scans }, null, 2) : tables(cells, summaries, scans))
  })
).pipe(Command.withDescription("Hit rates of the memory's eviction beside other policies and the optimum"))

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
