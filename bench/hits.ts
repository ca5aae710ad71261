/**
 * What a hit in memory costs, in time and in bytes: a value that is there, asked for
 * with the operation that would load it if it were not.
 */
import * as Contest from "./harness/Contest.ts"
import { counts, figures, type Measured } from "./harness/Figure.ts"
import * as Keys from "./harness/Keys.ts"
import type { Table } from "./harness/Findings.ts"
import * as Section from "./harness/Section.ts"
import * as EffectHits from "./peers/EffectHits.ts"
import * as PromiseHits from "./peers/PromiseHits.ts"
import * as Shelf from "./peers/Shelf.ts"

const bare = "Effect.withFiber, clock and Map"
const ours = "getOrSet"
const own = "Cache.get (effect)"

const measure = async ({ short }: Section.Order): Promise<ReadonlyArray<Table>> => {
  const [small, large] = short ? [500, 2000] : [10_000, 1_000_000]
  const rules = short ? { rounds: 2, turn: 1 } : { rounds: 25, turn: 12 }
  const hundred = Shelf.make(100)
  const tables: Array<Table> = []
  const shares: Array<Measured> = []
  for (const size of [small, large]) {
    const shelf = Shelf.make(size)
    const hitters = await hittersOf(shelf, size === small)
    const entries = size.toLocaleString("en")
    for (const [how, order] of [
      ["keys drawn uniformly", Keys.uniform(size, 1 << 17)],
      ["keys drawn by Zipf's law", Keys.zipf(size, 1 << 17)]
    ] as const) {
      const contenders = hitters.map((hitter) => contender(hitter, order))
      const measured = await Contest.hold(contenders, rules)
      tables.push({
        title: `L1 hit, ${entries} entries, ${how}`,
        unit: "ns per hit",
        about: "A hit in memory, awaited one after the other; Effect's in one running fiber.",
        figures: figures(measured),
        chart: true
      })
      shares.push(...sharesIn(measured, how === "keys drawn uniformly" ? "uniform" : "zipf", entries))
      if (size === small && how === "keys drawn uniformly") {
        tables.push({
          title: "Bytes allocated by an L1 hit",
          unit: "bytes per hit",
          about: "Growth of the heap over hits with no collection of garbage among them.",
          figures: figures(await Contest.weigh(contenders, { rounds: short ? 2 : 9, times: 1000 }))
        })
      }
    }
    if (size === large) tables.push(await amongMany(hundred, shelf, hitters, rules))
  }
  tables.push({
    title: "What getOrSet takes of what the others take",
    unit: "ratio",
    about: "From the same rounds as above. The aims are for 10,000 entries on Node 20.",
    figures: counts(shares)
  })
  return tables
}

/** At most so much of what the other takes. */
const aims = [
  { name: bare, uniform: 1.3, zipf: 1.3 },
  { name: own, uniform: 0.5, zipf: 0.1 },
  { name: "bentocache", uniform: 0.05, zipf: 0.05 },
  { name: "cacheable", uniform: 0.05, zipf: 0.05 }
]

const sharesIn = (
  measured: ReadonlyArray<Measured>,
  how: "uniform" | "zipf",
  entries: string
): ReadonlyArray<Measured> => {
  const roundsOf = (name: string) => measured.find((one) => one.name === name)!.rounds
  return aims.map(({ name, ...aim }) => ({
    name: `${name}; ${entries} entries, ${how}; aim ${aim[how]}`,
    rounds: roundsOf(ours).map((ns, round) => ns / roundsOf(name)[round]!)
  }))
}

interface Named {
  readonly name: string
  readonly hit: Shelf.Hitter
  readonly note?: string
}

const hittersOf = async (shelf: Shelf.Shelf, isSmall: boolean): Promise<ReadonlyArray<Named>> => {
  const { fromContext, method, peek } = await EffectHits.ours(shelf)
  return [
    { name: bare, hit: EffectHits.bare(shelf), note: "Not a cache: what a hit in a fiber cannot do without." },
    { name: ours, hit: method },
    { name: "TieredCache.getOrSet", hit: fromContext, note: "The same, with the cache looked up in the context." },
    { name: "peek", hit: peek, note: "Synchronous, outside of Effect." },
    { name: own, hit: await EffectHits.effectCache(shelf), note: slower },
    // 16 kB an entry: a million do not fit.
    ...(isSmall
      ? [{ name: "PersistedCache.get (effect)", hit: await EffectHits.persistedCache(shelf), note: slower }]
      : []),
    { name: "bentocache", hit: await PromiseHits.bentocache(shelf) },
    { name: "cacheable", hit: await PromiseHits.cacheable(shelf) },
    { name: "cache-manager", hit: await PromiseHits.cacheManager(shelf), note: "Its memory has no bound." },
    { name: "layered-loader", hit: await PromiseHits.layeredLoader(shelf) },
    { name: "lru-cache", hit: PromiseHits.lruCache(shelf), note: "Synchronous; here without lifetimes." }
  ]
}

const slower = "Deletes and sets the entry anew in a Map at each hit: the more entries, the slower for a key hit often."

/** Each against itself among a hundred. */
const amongMany = async (
  hundred: Shelf.Shelf,
  shelf: Shelf.Shelf,
  hitters: ReadonlyArray<Named>,
  rules: Contest.Rules
): Promise<Table> => {
  const compared = new Set([bare, ours, own, "bentocache", "layered-loader", "lru-cache"])
  const [few, many] = ["among 100", `among ${shelf.keys.length.toLocaleString("en")}`]
  const small = (await hittersOf(hundred, false)).filter(({ name }) => compared.has(name))
  const contenders: Array<Contest.Contender> = []
  for (const { name, ...rest } of small) {
    const large = hitters.find((other) => other.name === name)!
    contenders.push(contender({ ...rest, name: `${name}, ${few}` }, Keys.hot(100)))
    contenders.push({
      ...contender({ ...large, name: `${name}, ${many}` }, Keys.hot(shelf.keys.length)),
      against: `${name}, ${few}`
    })
  }
  return {
    title: "L1 hit, one hot key among few and among many",
    unit: "ns per hit",
    about:
      "The ratio of the second line of each is to its first. Ten thousand hits of the key come before the first round.",
    figures: figures(await Contest.hold(await warmed(contenders, rules.rounds > 2 ? 10_000 : 10), rules)).map(
      (figure) => (figure.name.endsWith(few) ? { ...figure, ratio: undefined } : figure)
    )
  }
}

const warmed = async (contenders: ReadonlyArray<Contest.Contender>, times: number) => {
  for (const { run } of contenders) await run(times)
  return contenders
}

const contender = ({ hit, name, note }: Named, order: Int32Array): Contest.Contender => ({
  name,
  run: (times) => hit(order, times),
  check: (sum, times) => {
    if (sum !== Shelf.sumOf(order, times)) throw new Error(`${name} gave wrong values`)
  },
  ...(note !== undefined && { note })
})

await Section.run("hits", measure)
