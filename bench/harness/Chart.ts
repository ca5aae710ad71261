/**
 * Tables as a picture: an SVG with a panel each, a line per contender, a dot at its
 * median and a bar between its quartiles, on a logarithmic scale.
 *
 * It has no script and no font of its own, and follows the reader's light or dark
 * scheme, so that it can stand in a README. The first Node's dots are filled, those
 * of a second one are rings.
 */
import type { Figure } from "./Figure.ts"
import { type Merged, number } from "./Report.ts"

export interface Options {
  readonly title: string
  /** The machine and the versions, in a line under the panels. */
  readonly setting: string
  /** The contenders that the picture is about. */
  readonly isOurs: (name: string) => boolean
}

const width = 880
const labels = 250
const values = 90
const plot = { left: labels + 10, right: width - values - 10 }
const lineHeight = 24
const panelHead = 46
const panelFoot = 34

export const svg = (tables: ReadonlyArray<Merged>, { isOurs, setting, title }: Options): string => {
  const parts: Array<string> = []
  const nodes = [...new Set(tables.flatMap(({ columns }) => columns.map(({ node }) => node)))]
  let top = 64
  for (const table of tables) {
    parts.push(panel(table, top, isOurs))
    top += panelHead + namesOf(table).length * lineHeight + panelFoot
  }
  const legend = nodes.map((node, index) => `${index === 0 ? "●" : "○"} Node ${node}`).join("   ")
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top + 30}" width="${width}" height="${top + 30}" role="img" aria-label="${escape(title)}">`,
    `<style>${style}</style>`,
    `<rect class="page" width="${width}" height="${top + 30}" rx="6"/>`,
    text(20, 32, title, "title"),
    text(20, 52, `${legend}   the dot is the median, the bar the middle half of the rounds`, "small"),
    ...parts,
    text(20, top + 14, setting, "small"),
    "</svg>",
    ""
  ].join("\n")
}

const style = [
  "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}",
  ".title{font-size:17px;font-weight:600}.head{font-weight:600}.small{font-size:12px;fill:#59636e}",
  ".end{text-anchor:end}.middle{text-anchor:middle}.ours{font-weight:600;fill:#0550ae}",
  ".page{fill:#fff}.grid{stroke:#d1d9e0;stroke-width:1}.range{stroke:#818b98;stroke-width:3;stroke-linecap:round}",
  ".dot{fill:#59636e;stroke:#59636e;stroke-width:2}.range.mine{stroke:#54aeff}.dot.mine{fill:#0969da;stroke:#0969da}",
  ".dot.ring{fill:#fff}",
  "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.ours{fill:#79c0ff}.page{fill:#0d1117}",
  ".grid{stroke:#3d444d}.range{stroke:#656c76}.dot{fill:#9198a1;stroke:#9198a1}.range.mine{stroke:#1f6feb}",
  ".dot.mine{fill:#58a6ff;stroke:#58a6ff}.dot.ring{fill:#0d1117}}"
].join("")

const panel = (table: Merged, top: number, isOurs: (name: string) => boolean): string => {
  const names = namesOf(table)
  const found = (name: string) => table.columns.map(({ figures }) => figures.find((figure) => figure.name === name))
  const all = names.flatMap((name) => found(name).flatMap((figure) => (figure === undefined ? [] : [figure.value])))
  const scale = scaleOver(Math.min(...all.map(({ low }) => low)), Math.max(...all.map(({ high }) => high)))
  const first = top + panelHead
  const bottom = first + names.length * lineHeight
  const parts = [text(20, top + 22, `${table.title}, ${table.unit} (${table.better ?? "lower"} is better)`, "head")]
  for (const tick of scale.ticks) {
    const x = scale.at(tick)
    parts.push(`<line class="grid" x1="${x}" x2="${x}" y1="${first}" y2="${bottom}"/>`)
    parts.push(text(x, bottom + 18, number(tick), "small middle"))
  }
  for (const [index, name] of names.entries()) {
    const y = first + index * lineHeight + lineHeight / 2
    const mine = isOurs(name)
    parts.push(text(labels, y + 4, name, mine ? "ours end" : "end"))
    const shown = found(name)
    for (const [column, figure] of shown.entries()) {
      if (figure !== undefined) parts.push(mark(figure, y + offset(column, shown.length), mine, column > 0, scale))
    }
    const label = shown.find((figure) => figure !== undefined)!
    parts.push(text(plot.right + 12, y + 4, number(label.value.median), mine ? "ours" : ""))
  }
  return parts.join("\n")
}

const namesOf = ({ columns }: Merged): ReadonlyArray<string> => [
  ...new Set(columns.flatMap(({ figures }) => figures.map(({ name }) => name)))
]

/** Two Nodes' dots stand one above the other. */
const offset = (column: number, columns: number) => (columns === 1 ? 0 : (column - (columns - 1) / 2) * 9)

const mark = ({ value }: Figure, y: number, mine: boolean, ring: boolean, { at }: Scale): string => {
  const kind = mine ? " mine" : ""
  return [
    `<line class="range${kind}" x1="${at(value.low)}" x2="${at(value.high)}" y1="${y}" y2="${y}"/>`,
    `<circle class="dot${kind}${ring ? " ring" : ""}" cx="${at(value.median)}" cy="${y}" r="4"/>`
  ].join("")
}

interface Scale {
  readonly at: (value: number) => number
  readonly ticks: ReadonlyArray<number>
}

/** From the power of ten below the least to that above the greatest. */
export const scaleOver = (least: number, greatest: number): Scale => {
  const from = Math.floor(Math.log10(Math.max(least, 1e-6)))
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(greatest, 1e-6))))
  const at = (value: number) => {
    const share = (Math.log10(Math.max(value, 10 ** from)) - from) / (to - from)
    return Number((plot.left + share * (plot.right - plot.left)).toFixed(1))
  }
  return {
    at,
    ticks: Array.from({ length: to - from + 1 }, (_, power) => Number((10 ** (from + power)).toPrecision(1)))
  }
}

const text = (x: number, y: number, content: string, kind: string): string =>
  `<text x="${x}" y="${y}" class="${kind}" xml:space="preserve">${escape(content)}</text>`

const escape = (content: string): string =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
