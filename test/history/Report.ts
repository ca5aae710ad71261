/** What came of a trial, for people. */
import type { Disturbance, History, Operation, Outcome, Transaction } from "./History.ts"
import type * as Trial from "./Trial.ts"
import { type Rule, rules, type Violation } from "./Verdict.ts"

export const report = ({ history, log, troubles, verdict }: Trial.Outcome): string =>
  [
    table(
      ["what was done to processes", "times"],
      [...troubles].sort(byName).map(([name, n]) => [name, number(n)])
    ),
    table(["what was done", "times", "failed", "interrupted", "never ended", "median", "longest"], rowsOf(history)),
    table(["transactions", "committed", "rolled back"], transactionsOf(history)),
    table(["answers", "memory", "store", "loader", "any"], answersOf(history)),
    table(["the log", "times"], logOf(log)),
    table(
      ["what must not be", "answers judged", "forbidden"],
      (Object.keys(rules) as Array<Rule>).map((rule) => [
        rules[rule],
        number(verdict.judged.get(rule) ?? 0),
        number(verdict.violations.filter((violation) => violation.rule === rule).length)
      ])
    ),
    ...verdict.violations.slice(0, 8).map(slice)
  ].join("\n\n")

/** The part of the history that makes a read wrong, in the order in which it began; times in milliseconds before the read. */
export const slice = ({ because, read, reading, rule }: Violation): string => {
  const since = (at: number) => (at === Infinity ? "?" : ((at - read.begin) / 1000).toFixed(3))
  const answer = `${reading.key}: ${reading.freshness} from ${reading.origin}: version ${reading.value?.version} of ${reading.value?.writer}`
  const line = (part: Operation | Transaction | Disturbance) => {
    const [begin, end] = "begin" in part ? [part.begin, part.end] : [part.from, part.to]
    return `  [${since(begin)}, ${since(end)}] ${part.process} ${describe(part, reading.key)}`
  }
  return [
    `Forbidden: ${rules[rule]}`,
    ...[...because].sort((a, b) => beginOf(a) - beginOf(b)).map(line),
    `${line(read)}: ${answer}`
  ].join("\n")
}

const beginOf = (part: Operation | Transaction | Disturbance): number => ("begin" in part ? part.begin : part.from)

const describe = (part: Operation | Transaction | Disturbance, key: string): string => {
  if ("from" in part) return part.name
  if ("isolation" in part) {
    const commit = part.ready === Infinity ? "" : `, ready after ${(part.ready - part.begin) / 1000}`
    return `${part.parent === undefined ? part.isolation : "savepoint"} ${part.id}: ${part.outcome}${commit}`
  }
  const { does, id, name, outcome, transaction } = part
  const where = transaction === undefined ? "" : ` in ${transaction}`
  const what =
    does._tag === "Update"
      ? ` to version ${does.version}`
      : does._tag === "Load" || does._tag === "Set"
        ? ` version ${does.values.find((value) => value.key === key)?.version}`
        : does._tag === "Invalidate" && does.tags !== undefined
          ? ` ${does.tags.join(", ")}`
          : ""
  return `${name} ${id}${what}: ${outcome}${where}`
}

const rowsOf = ({ operations }: History) => {
  const rows = new Map<string, Array<Operation>>()
  for (const operation of operations) {
    const { name, transaction } = operation
    const called = transaction === undefined ? name : `${name}, in a transaction`
    const row = rows.get(called)
    if (row === undefined) rows.set(called, [operation])
    else row.push(operation)
  }
  return [...rows].sort(byName).map(([name, row]) => {
    const took = row.flatMap(({ begin, end }) => (end === Infinity ? [] : [(end - begin) / 1000])).sort((a, b) => a - b)
    const ended = (as: Outcome) => number(row.filter(({ outcome }) => outcome === as).length)
    return [
      name,
      number(row.length),
      ended("failed"),
      ended("interrupted"),
      ended("unknown"),
      ...[took[took.length >> 1], took.at(-1)].map((time) => `${number(time ?? 0)} ms`)
    ]
  })
}

const transactionsOf = ({ transactions }: History) => {
  const rows = new Map<string, [committed: number, rolledBack: number]>()
  for (const { isolation, outcome, parent } of transactions) {
    const name = parent === undefined ? isolation : "savepoints"
    const row = rows.get(name) ?? [0, 0]
    row[outcome === "committed" ? 0 : 1]++
    rows.set(name, row)
  }
  return [...rows].sort(byName).map(([name, row]) => [name, ...row.map(number)])
}

const answersOf = ({ operations }: History) => {
  const counts = new Map<string, Map<string, number>>()
  for (const { does, transaction } of operations) {
    if (does._tag !== "Read") continue
    for (const { freshness, origin } of does.readings) {
      const name = transaction === undefined ? freshness : `${freshness}, in a transaction`
      const row = counts.get(name) ?? new Map<string, number>()
      counts.set(name, row.set(origin, (row.get(origin) ?? 0) + 1))
    }
  }
  return [...counts]
    .sort(byName)
    .map(([name, row]) => [name, ...["memory", "store", "loader", "any"].map((origin) => number(row.get(origin) ?? 0))])
}

/** Lines of the log that differ in numbers alone are one. */
const logOf = (log: ReadonlyArray<string>) => {
  const counts = new Map<string, number>()
  for (const line of log) {
    const message = /(?:DEBUG|INFO|WARN|ERROR|FATAL).*/.exec(line)?.[0].replaceAll(/[0-9a-f-]{20,}|\d+/g, "_")
    if (message !== undefined) counts.set(message, (counts.get(message) ?? 0) + 1)
  }
  return [...counts].sort(byName).map(([message, count]) => [message.slice(0, 150), number(count)])
}

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]) => (a < b ? -1 : 1)

const number = (value: number) => value.toLocaleString("en", { maximumFractionDigits: 1 })

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  return [head, ...rows]
    .map((cells) =>
      cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")
    )
    .join("\n")
}
