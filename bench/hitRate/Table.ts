/**
 * The hit rates as Markdown.
 */
import { policies } from "./Policy.ts"
import { type Cell, type ScanLine, sizes, type Summary } from "./Replay.ts"

const names = policies.map(({ name }) => name)

export const tables = (
  cells: ReadonlyArray<Cell>,
  summaries: ReadonlyArray<Summary>,
  scans: ReadonlyArray<ScanLine>
): string =>
  [
    `Hit rates in percent, for a cache of ${sizes.map((size) => `${size * 100}`).join(" / ")} % of the different keys.\n`,
    table(
      ["trace", ...names, "optimum"],
      [...new Set(cells.map(({ trace }) => trace))].map((name) => {
        const ofTrace = cells.filter(({ trace }) => trace === name)
        const row = (rate: (cell: Cell) => number) => ofTrace.map((cell) => rate(cell).toFixed(1)).join(" / ")
        return [name, ...names.map((name) => row(({ rates }) => rates[name]!)), row(({ optimum }) => optimum)]
      })
    ),
    "\nPoints below the optimum on average, and below LRU at the worst.\n",
    table(
      ["", ...names],
      [
        ["mean gap to the optimum", ...summaries.map(({ meanGap }) => meanGap.toFixed(2))],
        [
          "worst loss against LRU",
          ...summaries.map(({ worstAt, worstLoss }) =>
            worstLoss > 0 ? `${worstLoss.toFixed(1)} (${worstAt})` : "none"
          )
        ]
      ]
    ),
    "\nThe hit rate just after a scan of keys that are used once, by the length of the scan.\n",
    table(
      ["scan", ...names],
      scans.map(({ rates, scan }) => [`${scan} × the capacity`, ...names.map((name) => rates[name]!.toFixed(1))])
    )
  ].join("\n")

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map((_, i) => (i === 0 ? "---" : "---:")), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")
