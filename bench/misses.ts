/**
 * What a cache adds to a load: time, statements and round trips of a `getOrSet` that
 * nobody has the answer of, and how often the loader runs when a crowd wants it.
 */
import { spawn } from "node:child_process"
import * as path from "node:path"
import * as readline from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import * as Contest from "./harness/Contest.ts"
import { counts, figures, type Measured } from "./harness/Figure.ts"
import type { Table } from "./harness/Findings.ts"
import { typescript } from "./harness/Program.ts"
import * as Section from "./harness/Section.ts"
import * as Servers from "./harness/Servers.ts"
import * as Wire from "./harness/Wire.ts"
import * as EffectTiers from "./peers/EffectTiers.ts"
import * as PromiseTiers from "./peers/PromiseTiers.ts"
import { loaderTime, spoken, type StampedeResult, stampedes } from "./peers/Stampede.ts"
import { type Crowd, documentOf, type Place, type Tier, weightOf } from "./peers/Tier.ts"

const measure = async ({ short }: Section.Order): Promise<ReadonlyArray<Table>> => [
  ...(await Servers.withPostgres((place) => timed(place, short))),
  ...(await Servers.withPostgres((place) => counted(place, short))),
  ...(await Servers.withPostgres((place) => stampede(place, short)))
]

const tiersOn = async (place: Place): Promise<ReadonlyArray<Tier>> => [
  await PromiseTiers.plainPg(place),
  await EffectTiers.ours(place, quiet),
  await EffectTiers.persistedCache(place),
  await PromiseTiers.bentocachePostgres(place),
  await PromiseTiers.cacheManagerPostgres(place),
  await PromiseTiers.cacheablePostgres(place)
]

/** Nothing on the wire that was not asked for. */
const quiet = { memory: { maxEntries: 1 }, bus: { pollInterval: "10 minutes" } } as const

/** New ids for each of them, for ever. */
const fresh = (): ((nth: number) => number) => {
  let from = 0
  return (nth) => {
    if (nth === 0) from += 1_000_000
    return from + nth
  }
}

const timed = async (place: Servers.Postgres, short: boolean): Promise<ReadonlyArray<Table>> => {
  const tiers = await tiersOn(place)
  const rules = short ? { rounds: 2, turn: 5 } : { rounds: 7, turn: 200 }
  const tables: Array<Table> = []
  for (const width of [1, 64]) {
    const contenders = tiers.flatMap(({ load, name, note }) =>
      load === undefined ? [] : [contender(name, note, load, fresh(), width)]
    )
    const measured = await Contest.hold(contenders, rules)
    tables.push({
      title: `Cold getOrSet, ${width === 1 ? "one at a time" : `${width} at once`}`,
      unit: width === 1 ? "µs" : "per second",
      about: `Keys that nobody has, values of 1 kB, PostgreSQL ${place.version}. The loader answers at once, so this is what the cache adds to it. The first line looks, loads, and stores, with two statements and no cache.`,
      better: width === 1 ? "lower" : "higher",
      figures: figures(measured.map(width === 1 ? toMicros : toRate))
    })
  }
  for (const { close } of tiers) await close()
  return tables
}

const contender = (
  name: string,
  note: string | undefined,
  load: Crowd,
  idOf: (nth: number) => number,
  width: number
): Contest.Contender => {
  let ids: Array<number> = []
  return {
    name,
    run: (times) => {
      ids = Array.from({ length: times }, (_, nth) => idOf(nth))
      return load((nth) => ids[nth]!, times, width)
    },
    check: (sum) => {
      if (sum !== ids.reduce((total, id) => total + weightOf(documentOf(id)), 0)) {
        throw new Error(`${name} gave wrong values`)
      }
    },
    ...(note !== undefined && { note })
  }
}

const toMicros = (measured: Measured): Measured => ({ ...measured, rounds: measured.rounds.map((ns) => ns / 1e3) })

const toRate = (measured: Measured): Measured => ({ ...measured, rounds: measured.rounds.map((ns) => 1e9 / ns) })

const operations = ["read", "write", "load"] as const

const titles = { read: "An L2 hit", write: "A set", load: "A cold getOrSet" }

/** Each operation alone, what it sets off included, from the second time on. */
const counted = async (place: Servers.Postgres, short: boolean): Promise<ReadonlyArray<Table>> => {
  const wire = await Wire.make(place.address)
  const tiers = await tiersOn(wire)
  const statements: Array<Measured> = []
  const roundTrips: Array<Measured> = []
  const tables: Array<Table> = []
  for (const tier of tiers) {
    for (const operation of operations) {
      const crowd = tier[operation]
      if (crowd === undefined) continue
      const taken: Array<Wire.Counted> = []
      for (let nth = 0; nth < (short ? 3 : 12); nth++) {
        const id = operation === "load" ? 10_000_000 + nth : nth
        if (operation === "read") await tier.write(() => id, 1, 1)
        // Memory holds one entry, and not this one.
        await tier.write(() => -1, 1, 1)
        await silence(wire)
        const before = wire.counted()
        await crowd(() => id, 1, 1)
        await silence(wire)
        const after = wire.counted()
        if (nth > 0) {
          taken.push({
            statements: after.statements - before.statements,
            roundTrips: after.roundTrips - before.roundTrips
          })
        }
      }
      const name = `${titles[operation]}: ${tier.name}`
      statements.push({ name, rounds: taken.map((count) => count.statements), note: tier.note })
      roundTrips.push({ name, rounds: taken.map((count) => count.roundTrips), note: tier.note })
    }
  }
  for (const [unit, measured] of [
    ["round trips", roundTrips],
    ["statements", statements]
  ] as const) {
    const ordered = operations.flatMap((operation) =>
      measured.filter(({ name }) => name.startsWith(`${titles[operation]}:`))
    )
    tables.push({
      title: `What one operation costs PostgreSQL, in ${unit}`,
      unit,
      about: "Counted on the wire, with what the operation sets off and does not wait for.",
      figures: counts(ordered)
    })
  }
  for (const { close } of tiers) await close()
  wire.close()
  return tables
}

/** Until nobody waits for an answer, and nothing has been sent for a while. */
const silence = async (wire: Wire.Wire): Promise<void> => {
  for (let last = -1; ;) {
    const { statements } = wire.counted()
    if (statements === last && !wire.isBusy()) return
    last = statements
    await sleep(15)
  }
}

const crowd = fileURLToPath(new URL("peers/crowd.ts", import.meta.url))

const stampede = async (place: Servers.Postgres, short: boolean): Promise<ReadonlyArray<Table>> => {
  const callers = short ? 100 : 1000
  const tables: Array<Table> = []
  for (const processes of short ? [1] : [1, 4]) {
    const loads: Array<Measured> = []
    const waits: Array<Measured> = []
    for (const name of Object.keys(stampedes)) {
      const results: Array<ReadonlyArray<StampedeResult>> = []
      for (let round = 0; round < (short ? 1 : 3); round++) {
        results.push(await together(name, place.url, `${processes} ${round}`, processes, callers))
      }
      loads.push({ name, rounds: results.map((all) => all.reduce((sum, one) => sum + one.loads, 0)) })
      waits.push({ name, rounds: results.map((all) => Math.max(...all.map(({ waited }) => waited))) })
    }
    const who = `${callers.toLocaleString("en")} callers in ${processes === 1 ? "one process" : `each of ${processes} processes`}`
    tables.push({
      title: `Stampede: loads for ${who}`,
      unit: "loader runs",
      about: `All want one key that nobody has. The loader takes ${loaderTime} ms; one run is enough.`,
      figures: counts(loads)
    })
    tables.push({
      title: `Stampede: wait of ${who}`,
      unit: "ms",
      about: `Until the last of them has its value, from a loader that takes ${loaderTime} ms.`,
      figures: counts(waits)
    })
  }
  return tables
}

const together = async (
  name: string,
  url: string,
  key: string,
  processes: number,
  callers: number
): Promise<ReadonlyArray<StampedeResult>> => {
  const members = Array.from({ length: processes }, (_, index) => {
    const args = [crowd, name, url, `${key} `.trim(), String(callers)]
    const child = spawn(process.execPath, [...typescript, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, MEMBER: String(index) }
    })
    return { child, lines: readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]() }
  })
  const next = async ({ lines }: (typeof members)[number]): Promise<string> => {
    for (;;) {
      const { done, value } = await lines.next()
      if (done === true) throw new Error(`${name}: ${path.basename(crowd)} ended without a word`)
      if (value.startsWith(spoken)) return value.slice(spoken.length)
      // What a cache has to say about itself.
      process.stderr.write(`${value}\n`)
    }
  }
  await Promise.all(members.map(next))
  for (const { child } of members) child.stdin.end("go\n")
  return Promise.all(
    members.map(async (member) => {
      const result = JSON.parse(await next(member)) as StampedeResult
      if (result.right !== callers) throw new Error(`${name} gave ${callers - result.right} callers a wrong value`)
      return result
    })
  )
}

await Section.run("misses", measure)
