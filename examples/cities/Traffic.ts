/**
 * The first scene: many people ask at once, and what the cache made of it.
 */
import { Console, Effect } from "effect"
import { type CacheStats, type Namespace, TieredCache } from "effect-tiered-cache"
import * as CachedCities from "./CachedCities.ts"
import { type Observed, observe, percentile } from "./Observation.ts"
import { keyOf, Request } from "./RequestStream.ts"
import * as Screen from "./Screen.ts"

/** What a request is answered with, through the cache. */
export const ask = Request.$match({
  City: ({ id }) => CachedCities.city(id),
  Nearest: ({ point }) => CachedCities.nearest(point),
  Country: ({ code }) => CachedCities.country(code)
})

export type Answer = Effect.Success<ReturnType<typeof ask>>

/** A request that was made, how often, and the last answer to it. */
export interface Asked {
  readonly request: Request
  readonly times: number
  readonly answer: Answer
}

const atOnce = 8

/** Makes so many requests, shows what came of it, and returns what was asked, by key. */
export const drive = Effect.fn("drive")(function* (requests: Iterator<Request, never>, total: number) {
  yield* Effect.forEach(operations, ({ clear }) => clear)
  const asked = new Map<string, Asked>()
  const latencies = new Latencies()
  const progress = Screen.progress("requests", total)
  let started = 0
  let done = 0
  const visitor = Effect.gen(function* () {
    while (started++ < total) {
      const request = requests.next().value
      const observed = yield* observe(ask(request))
      latencies.add(request, observed)
      const key = keyOf(request)
      asked.set(key, { request, times: (asked.get(key)?.times ?? 0) + 1, answer: observed.answer })
      yield* progress(++done)
    }
  })
  const startedAt = performance.now()
  yield* Effect.all(
    Array.from({ length: atOnce }, () => visitor),
    { concurrency: "unbounded", discard: true }
  )
  const took = performance.now() - startedAt
  yield* Console.log(`  ${Screen.count(total)} requests in ${Screen.duration(took)}, ${atOnce} at once\n`)
  yield* report(latencies)
  return asked
})

const operation = <K, A>(kind: Request["_tag"], title: string, namespace: Namespace.Namespace<K, A>) => ({
  kind,
  title,
  clear: TieredCache.clear(namespace),
  stats: TieredCache.statsOf(namespace)
})

const operations = [
  operation("City", "city by id", CachedCities.CityById),
  operation("Nearest", "nearest cities", CachedCities.NearestTo),
  operation("Country", "country summary", CachedCities.CountryByCode)
]

/** What was measured, by operation and by who answered; under `source`, what the source alone took. */
class Latencies {
  readonly samples = {
    memory: noSamples(),
    store: noSamples(),
    loader: noSamples(),
    fallback: noSamples(),
    source: noSamples()
  }

  add({ _tag }: Request, { origin, source, took }: Observed<unknown>): void {
    this.samples[origin][_tag].push(took)
    if (source !== undefined) this.samples.source[_tag].push(source)
  }
}

const noSamples = (): Record<Request["_tag"], Array<number>> => ({ City: [], Nearest: [], Country: [] })

const report = Effect.fnUntraced(function* (latencies: Latencies) {
  const counts = yield* Effect.forEach(operations, ({ stats, title }) =>
    Effect.map(stats, (stats) => [title, stats] as const)
  )
  const all = yield* TieredCache.stats
  const spared = counts.reduce((sum, [, stats]) => sum + (stats.lookups - stats.loads) * stats.meanLoadTime, 0)
  const saved = all.lookups - all.loads
  yield* Console.log(`${hitRates([...counts, ["all", all]])}\n\n${latencyTable(latencies)}\n`)
  yield* Console.log(`  Hit rate ${Screen.green(Screen.percent(all.hitRate))}`)
  yield* Console.log(
    `  Loads saved: ${Screen.count(saved)} of ${Screen.count(all.lookups)}, ${Screen.duration(spared)} of waiting for the source`
  )
  if (all.store.errors > 0) yield* Console.log(`  The store did not answer ${Screen.count(all.store.errors)} times`)
})

const hitRates = (counts: ReadonlyArray<readonly [title: string, stats: CacheStats]>) =>
  Screen.table(
    ["hit rate", "requests", "memory", "store", "overall", "coalesced", "loads"],
    counts.map(([title, { coalesced, hitRate, loads, lookups, memory, store }]) => [
      title,
      Screen.count(lookups),
      Screen.percent(memory.hitRate),
      Screen.percent(store.hitRate),
      Screen.percent(hitRate),
      Screen.count(coalesced),
      Screen.count(loads)
    ])
  )

const latencyTable = ({ samples }: Latencies) => {
  const row = (title: string, byKind: (typeof samples)["memory"]) => {
    const sorted = (samples: ReadonlyArray<number>) => samples.toSorted((a, b) => a - b)
    const all = sorted(Object.values(byKind).flat())
    const medians = operations.map(({ kind }) => percentile(sorted(byKind[kind]), 50))
    return [
      title,
      Screen.count(all.length),
      ...[percentile(all, 50), percentile(all, 99), ...medians].map(Screen.duration)
    ]
  }
  return Screen.table(
    ["latency", "answers", "median", "p99", "city", "nearest", "country"],
    [
      row("memory", samples.memory),
      row("store", samples.store),
      row("a miss", samples.loader),
      row("source alone", samples.source)
    ]
  )
}
