/**
 * What callers of the cache notice while bad things happen to PostgreSQL: a Markdown
 * table, fault by fault (`test/faults`; the tests run the same trials).
 *
 *     npm run bench:faults
 *     npm run bench:faults -- --quick --json faults.json
 *
 * `--quick` is about half a minute, with shorter timeouts and fewer callers. Ends
 * with 1 if a caller got no answer, or the store was not used again.
 */
import { Console, Effect } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import { parseArgs } from "node:util"
import { type Fault, faults, none } from "../test/faults/Faults.ts"
import * as Server from "../test/faults/Server.ts"
import * as Trial from "../test/faults/Trial.ts"

const { values: options } = parseArgs({ options: { quick: { type: "boolean" }, json: { type: "string" } } })

/** The cache's defaults. */
const whole: Trial.Settings = {
  readTimeout: 500,
  writeTimeout: 2000,
  breakerProbeInterval: 1000,
  loaderTime: 20,
  callers: 1000,
  crowds: 5,
  every: 700,
  inTurn: 2000,
  pause: 0
}
const quick = { ...whole, writeTimeout: 1000, breakerProbeInterval: 300, crowds: 2, every: 600, inTurn: 1000 }
const settings = options.quick === true ? quick : whole

const program = Effect.gen(function* () {
  const server = yield* Server.make
  // What Node has yet to compile is no fault's doing.
  yield* Trial.run(server, none, settings)
  yield* Trial.run(server, faults[0]!, settings)
  const trials: Array<Trial.Trial> = []
  for (const fault of [none, ...faults]) {
    process.stderr.write(`${fault.name}\n`)
    trials.push(yield* Trial.run(server, options.quick === true ? brief(fault) : fault, settings))
  }
  const setting = settingOf(server)
  yield* Console.log(`${table(trials)}\n\n${notes(trials)}\n\n${Object.values(setting).join(", ")}`)
  if (options.json !== undefined) {
    fs.writeFileSync(options.json, `${JSON.stringify({ setting, settings, trials }, undefined, 2)}\n`)
  }
  if (trials.some(({ backAfter, failed, wellAfter }) => failed > 0 || (backAfter && wellAfter) === undefined)) {
    process.exitCode = 1
  }
})

const brief = (fault: Fault): Fault => ({ ...fault, lasts: 0, name: fault.name.replace(" for 10 s or more", "") })

const settingOf = ({ version }: Server.Server) => ({
  machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model ?? os.arch()}`,
  node: `Node ${process.versions.node}`,
  postgres: `PostgreSQL ${version} on the same machine`,
  date: new Date().toISOString().slice(0, 10)
})

const columns: ReadonlyArray<readonly [title: string, cell: (trial: Trial.Trial) => string]> = [
  ["PostgreSQL is", ({ fault }) => fault.name],
  ["callers", ({ callers }) => count(callers)],
  ["failed", ({ failed }) => count(failed)],
  ["p50", ({ waits }) => millis(waits.p50)],
  ["p99", ({ waits }) => millis(waits.p99)],
  ["longest wait", ({ waits }) => millis(waits.max)],
  ["allowed", ({ bound, slack }) => `${millis(bound)} + ${millis(slack)}`],
  ["over the bare loader, p50", ({ overBare }) => (overBare === undefined ? "" : millis(overBare.p50))],
  ["p99", ({ overBare }) => (overBare === undefined ? "" : millis(overBare.p99))],
  ["store calls skipped", ({ skipped }) => count(skipped)],
  ["in use again after", ({ backAfter, fault }) => (fault === none ? "" : millis(backAfter))]
]

const table = (trials: ReadonlyArray<Trial.Trial>): string => {
  const rows = [columns.map(([title]) => title), ...trials.map((trial) => columns.map(([, cell]) => cell(trial)))]
  const widths = columns.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join(" | ")} |`
  const rule = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  const [head, ...body] = rows.map(line)
  return [head, `| ${rule.join(" | ")} |`, ...body].join("\n")
}

const notes = (trials: ReadonlyArray<Trial.Trial>): string => {
  const { breakerProbeInterval, callers, crowds, every, inTurn, loaderTime, readTimeout, writeTimeout } = settings
  const wellAfter = Math.max(...trials.map((trial) => trial.wellAfter ?? Infinity))
  return [
    `Crowds of ${count(callers)} callers at once, ${crowds} of them ${millis(every)} apart, half on keys of their own and half`,
    `ten to a key, none of them in memory. A loader takes ${millis(loaderTime)}; reads of the store may take`,
    `${millis(readTimeout)}, writes ${millis(writeTimeout)}, the breaker probes every ${millis(breakerProbeInterval)},`,
    `the pool has ${Trial.poolSize} connections. Allowed is the store's timeouts and the loader, plus what this process`,
    `needs for such a crowd, measured with a store that is no server and never answers. "Over the bare loader" is with`,
    `the breaker open, ${count(inTurn)} calls in turn, each with and without the cache; where only writes fail, a read of`,
    `the store is in it. The store counts as in use from the first row read after the end of the fault, and the`,
    `cache was well again at most ${millis(wellAfter)} after it.`
  ].join(" ")
}

const count = (n: number) => n.toLocaleString("en")

const millis = (time: number | undefined) => {
  if (time === undefined || !Number.isFinite(time)) return "never"
  return time >= 1000 ? `${Number((time / 1000).toFixed(2))} s` : `${time.toFixed(Math.abs(time) >= 10 ? 0 : 2)} ms`
}

await Effect.runPromise(Effect.scoped(program))
