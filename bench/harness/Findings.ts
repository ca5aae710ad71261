/** What a section found out, as it is handed on: figures in tables, with what a reader has to know of them. */
import type { Figure } from "./Figure.ts"

export interface Table {
  readonly title: string
  readonly unit: string
  /** What the reader has to know: what was done, and how it is counted. */
  readonly about: string
  /** Which figure is the better one. Default: the lower. */
  readonly better?: "lower" | "higher"
  readonly figures: ReadonlyArray<Figure>
  /** Whether it belongs into the chart. */
  readonly chart?: boolean
}

/** What one run of a section found, on one Node. */
export interface Findings {
  readonly section: string
  readonly node: string
  readonly tables: ReadonlyArray<Table>
}
