/**
 * The curves as a picture: milliseconds over rows, both logarithmic, so that what stays
 * flat is a level line and what grows with the table a slope. Made as `harness/Chart`
 * is, to stand in a README in light or dark.
 */
import { type Measured, median } from "./Curve.ts"

const width = 920
const height = 430
const plot = { left: 70, right: 610, top: 70, bottom: 370 }
const colors = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#0e8a8a"]

export const svg = (curve: ReadonlyArray<Measured>, setting: string): string => {
  const sizes = [...new Set(curve.map(({ rows }) => rows))].toSorted((a, b) => a - b)
  const lines = [...new Set(curve.map(({ operation }) => operation))]
    .map((operation) => ({
      operation,
      points: curve
        .filter((measured) => measured.operation === operation && measured.times.length > 0)
        .map(({ rows, times }) => [rows, median(times)] as const)
    }))
    .filter(({ points }) => points.length > 1)
  const times = lines.flatMap(({ points }) => points.map(([, time]) => time))
  const [low, high] = [Math.floor(Math.log10(Math.min(...times))), Math.ceil(Math.log10(Math.max(...times)))]
  const [first, last] = [Math.log10(sizes[0]!), Math.log10(sizes.at(-1)!)]
  const x = (rows: number) =>
    round(plot.left + ((Math.log10(rows) - first) / Math.max(1e-9, last - first)) * (plot.right - plot.left))
  const y = (time: number) =>
    round(plot.bottom - ((Math.log10(time) - low) / Math.max(1, high - low)) * (plot.bottom - plot.top))
  const parts: Array<string> = []
  for (let power = low; power <= high; power++) {
    const at = y(10 ** power)
    parts.push(`<line class="grid" x1="${plot.left}" x2="${plot.right}" y1="${at}" y2="${at}"/>`)
    parts.push(text(plot.left - 8, at + 4, `${Number((10 ** power).toPrecision(1))} ms`, "small end"))
  }
  for (const rows of sizes) parts.push(text(x(rows), plot.bottom + 22, rows.toLocaleString("en"), "small middle"))
  let label = -Infinity
  const byEnd = lines.toSorted((a, b) => b.points.at(-1)![1] - a.points.at(-1)![1])
  for (const [index, { operation, points }] of byEnd.entries()) {
    const color = colors[index % colors.length]!
    const path = points.map(([rows, time]) => `${x(rows)},${y(time)}`).join(" ")
    parts.push(`<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`)
    for (const [rows, time] of points) parts.push(`<circle cx="${x(rows)}" cy="${y(time)}" r="3.5" fill="${color}"/>`)
    // Names of lines that end together go below one another.
    label = Math.max(y(points.at(-1)![1]) + 4, label + 17)
    parts.push(`<circle cx="${plot.right + 18}" cy="${label - 4}" r="4" fill="${color}"/>`)
    parts.push(text(plot.right + 28, label, `${operation}: ${points.at(-1)![1].toFixed(2)} ms`, ""))
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="What operations take, by the size of the table">`,
    `<style>${style}</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="6"/>`,
    text(20, 32, "What an operation takes on tables of so many rows", "title"),
    text(20, 52, "medians, in milliseconds, from the call in Node to its answer", "small"),
    ...parts,
    text(20, height - 14, setting, "small"),
    "</svg>",
    ""
  ].join("\n")
}

const style = [
  "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}",
  ".title{font-size:17px;font-weight:600}.small{font-size:12px;fill:#59636e}.end{text-anchor:end}.middle{text-anchor:middle}",
  ".page{fill:#fff}.grid{stroke:#d1d9e0}",
  "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.page{fill:#0d1117}.grid{stroke:#3d444d}}"
].join("")

const round = (value: number): number => Number(value.toFixed(1))

const text = (x: number, y: number, content: string, kind: string): string =>
  `<text x="${x}" y="${y}"${kind === "" ? "" : ` class="${kind}"`}>${content.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`
