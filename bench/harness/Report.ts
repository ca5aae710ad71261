/** Findings as Markdown: a table each, the Nodes they were made with side by side. */
import type { Figure, Spread } from "./Figure.ts"
import type { Findings, Table } from "./Findings.ts"

/** A table, and what each Node found for it. */
export interface Merged extends Omit<Table, "figures"> {
  readonly section: string
  readonly columns: ReadonlyArray<{ readonly node: string; readonly figures: ReadonlyArray<Figure> }>
}

/** In the order in which they were found; tables of the same section and title meet. */
export const merge = (findings: ReadonlyArray<Findings>): ReadonlyArray<Merged> => {
  const merged = new Map<string, Merged>()
  for (const { node, section, tables } of findings) {
    for (const { figures, ...table } of tables) {
      const id = `${section}: ${table.title}`
      const columns = merged.get(id)?.columns ?? []
      merged.set(id, { section, ...table, columns: [...columns, { node, figures }] })
    }
  }
  return [...merged.values()]
}

export const markdown = (findings: ReadonlyArray<Findings>): string => merge(findings).map(tableOf).join("\n\n")

const tableOf = (table: Merged): string => {
  const names = [...new Set(table.columns.flatMap(({ figures }) => figures.map(({ name }) => name)))]
  const isCompared = table.columns.some(({ figures }) => figures.some(({ ratio }) => ratio !== undefined))
  const head = ["", ...table.columns.flatMap(({ node }) => [`${table.unit}, Node ${node}`, "ratio"])]
  const notes: Array<string> = []
  const rows = names.map((name) => {
    const found = table.columns.map(({ figures }) => figures.find((figure) => figure.name === name))
    const note = found.find((figure) => figure?.note !== undefined)?.note
    if (note !== undefined && !notes.includes(note)) notes.push(note)
    const mark = note === undefined ? "" : ` [${notes.indexOf(note) + 1}]`
    return [`${name}${mark}`, ...found.flatMap((figure) => cellsOf(figure, table.columns[0]!.figures[0]!.name))]
  })
  return [
    `### ${table.title}`,
    table.about,
    grid(
      [head, ...rows].map((row) => (isCompared ? row : row.filter((_, column) => column === 0 || column % 2 === 1)))
    ),
    ...(notes.length > 0 ? [notes.map((note, index) => `[${index + 1}] ${note}`).join("  \n")] : [])
  ].join("\n\n")
}

const cellsOf = (figure: Figure | undefined, baseline: string): ReadonlyArray<string> => {
  if (figure === undefined) return ["", ""]
  const { name, ratio, value } = figure
  if (ratio === undefined) return [spelled(value, number), ""]
  if (ratio.to === name) return [spelled(value, number), "1"]
  return [spelled(value, number), `${spelled(ratio, times)}${ratio.to === baseline ? "" : ` of ${ratio.to}`}`]
}

/** `12 (10–15)`, or `12` where all rounds agree. */
export const spelled = ({ high, low, median }: Spread, one: (n: number) => string): string => {
  const [middle, from, to] = [one(median), one(low), one(high)]
  return from === middle && to === middle ? middle : `${middle} (${from}–${to})`
}

/** Three digits that count, and thousands apart. */
export const number = (n: number): string =>
  Math.abs(n) >= 1000
    ? Math.round(n).toLocaleString("en")
    : Number(n.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 })

const times = (n: number): string => (n >= 100 ? number(n) : String(Number(n.toPrecision(3))))

/** The first column to the left, the others to the right. */
export const grid = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(" | ")} |`
  const rule = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  const [head, ...body] = rows.map(line)
  return [head, `| ${rule.join(" | ")} |`, ...body].join("\n")
}
