/**
 * A part of the benchmark: a program of its own that `bench/bench.ts` starts, with
 * the Node that is to be measured, and that leaves its tables as JSON.
 *
 *     node --expose-gc --import ./bench/harness/stripTypes.mjs bench/hits.ts --short
 *
 * alone prints them.
 */
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import type { Findings, Table } from "./Findings.ts"
import * as Report from "./Report.ts"

export interface Order {
  /** Only to see that it works: what it measures is worth nothing. */
  readonly short: boolean
}

/** The whole program. */
export const run = async (section: string, measure: (order: Order) => Promise<ReadonlyArray<Table>>): Promise<void> => {
  const { values } = parseArgs({
    options: { short: { type: "boolean" }, json: { type: "string" } }
  })
  const tables = await measure({ short: values.short === true })
  const findings: Findings = { section, node: process.versions.node, tables }
  if (values.json !== undefined) fs.writeFileSync(values.json, JSON.stringify(findings))
  else fs.writeSync(process.stdout.fd, `${Report.markdown([findings])}\n`)
  // Some of the peers have timers and connections that nothing ends.
  process.exit()
}
