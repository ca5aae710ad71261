/**
 * What a person gets to see: tables, numbers with units, progress.
 *
 * Colours and the moving bar are for terminals (and colours not if `NO_COLOR` is
 * set); anywhere else the text is plain and progress is a line every ten percent.
 */
import { Console, Effect, Logger, Terminal } from "effect"

const isTerminal = process.stdout.isTTY
const hasColours = isTerminal && (process.env["NO_COLOR"] ?? "") === ""

const paint = (code: number) => (text: string) => (hasColours ? `\u001B[${code}m${text}\u001B[0m` : text)

export const bold = paint(1)
export const dim = paint(2)
export const green = paint(32)

/** A line that stands out, and what there is to say before it begins. */
export const heading = (title: string, ...lines: ReadonlyArray<string>) =>
  Console.log(["", bold(title), ...lines.map((line) => `  ${dim(line)}`)].join("\n"))

/** A first line and rows below it; the first column to the left, all others to the right. */
export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  const line = (cells: ReadonlyArray<string>) =>
    cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")
  return [bold(line(head)), ...rows.map(line)].map((text) => `  ${text}`).join("\n")
}

export const count = (number: number) => number.toLocaleString("en")

export const percent = (ratio: number) => `${(ratio * 100).toFixed(1)} %`

export const duration = (millis: number | undefined) =>
  millis === undefined
    ? "-"
    : millis < 1
      ? `${(millis * 1000).toFixed(millis < 0.1 ? 1 : 0)} µs`
      : millis < 1000
        ? `${millis.toFixed(millis < 100 ? 1 : 0)} ms`
        : `${(millis / 1000).toFixed(1)} s`

/** Shows how far something is, each time it is told. */
export const progress = (what: string, total: number) => {
  const startedAt = performance.now()
  const steps = isTerminal ? 200 : 10
  let shown = 0
  return (done: number): Effect.Effect<void, never, Terminal.Terminal> => {
    const step = Math.floor((done / total) * steps)
    if (step === shown) return Effect.void
    shown = step
    const share = `${Math.floor((done / total) * 100)} %`.padStart(5)
    const numbers = `${count(done)} of ${count(total)} ${what}`
    if (!isTerminal) return Console.log(`  ${share}  ${numbers}`)
    const filled = Math.round((done / total) * 30)
    const speed = `${count(Math.round((done * 1000) / (performance.now() - startedAt)))}/s`
    const line = `  ${green("█".repeat(filled))}${dim("░".repeat(30 - filled))} ${share}  ${numbers}  ${speed}`
    return display(`\r\u001B[K${done === total ? "" : line}`)
  }
}

/** What a program logs, among what it shows. */
export const log = Logger.layer([
  Logger.withConsoleLog(Logger.make(({ message }) => `  ${dim("log")}  ${[message].flat().join(" ")}`))
])

const display = (text: string) => Effect.ignore(Terminal.Terminal.use((terminal) => terminal.display(text)))
