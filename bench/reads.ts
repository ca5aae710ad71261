/**
 * What PostgreSQL costs through each cache, one call at a time and 64 at once: reads
 * of a row of 1 kB that memory does not have, and writes.
 */
import * as Contest from "./harness/Contest.ts"
import { figures, type Measured } from "./harness/Figure.ts"
import * as Keys from "./harness/Keys.ts"
import type { Table } from "./harness/Findings.ts"
import * as Section from "./harness/Section.ts"
import * as Servers from "./harness/Servers.ts"
import * as EffectTiers from "./peers/EffectTiers.ts"
import * as PromiseTiers from "./peers/PromiseTiers.ts"
import { type Crowd, documentOf, type Tier, weightOf } from "./peers/Tier.ts"

const measure = ({ short }: Section.Order): Promise<ReadonlyArray<Table>> =>
  Servers.withPostgres(async (place) => {
    const redis = await Servers.startRedis()
    const tiers = [
      await PromiseTiers.plainPg(place),
      await EffectTiers.ours(place),
      await EffectTiers.persistedCache(place),
      await PromiseTiers.bentocachePostgres(place),
      await PromiseTiers.cacheManagerPostgres(place),
      await PromiseTiers.cacheablePostgres(place),
      ...(redis === undefined ? [] : [await PromiseTiers.bentocacheRedis(redis.socket)])
    ]
    try {
      const rows = short ? 100 : 10_000
      const order = Keys.shuffled(rows)
      const idOf = (nth: number) => order[nth % rows]!
      for (const { write } of tiers) await write(idOf, rows, 16)
      const rules = short ? { rounds: 2, turn: 5 } : { rounds: 7, turn: 250 }
      const without = redis === undefined ? " No Redis is installed here: bentocache on Redis is left out." : ""
      const tables: Array<Table> = []
      for (const what of ["read", "write"] as const) {
        for (const width of [1, 64]) {
          const contenders = tiers.map((tier) => contender(tier, tier[what], idOf, width))
          const measured = await Contest.hold(contenders, rules)
          tables.push({
            title: `L2 ${what === "read" ? "hit" : "set"}, ${width === 1 ? "one at a time" : `${width} at once`}`,
            unit: width === 1 ? "µs" : "per second",
            about: `Values of 1 kB among ${rows.toLocaleString("en")}, PostgreSQL ${place.version}, ten connections.${without}`,
            figures: figures(measured.map(width === 1 ? toMicros : toRate)),
            better: width === 1 ? "lower" : "higher",
            chart: width === 64
          })
        }
      }
      return tables
    } finally {
      for (const { close } of tiers) await close()
      redis?.stop()
    }
  })

const contender = (
  { name, note }: Tier,
  crowd: Crowd,
  idOf: (nth: number) => number,
  width: number
): Contest.Contender => ({
  name,
  run: (times) => crowd(idOf, times, width),
  check: (sum, times) => {
    let right = 0
    for (let nth = 0; nth < times; nth++) right += weightOf(documentOf(idOf(nth)))
    if (sum !== right) throw new Error(`${name} gave wrong values`)
  },
  ...(note !== undefined && { note })
})

const toMicros = (measured: Measured): Measured => ({ ...measured, rounds: measured.rounds.map((ns) => ns / 1e3) })

const toRate = (measured: Measured): Measured => ({ ...measured, rounds: measured.rounds.map((ns) => 1e9 / ns) })

await Section.run("reads", measure)
