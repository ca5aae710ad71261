/**
 * What the example shows when the traffic is over: that PostgreSQL remembers, that
 * an update is seen, that the answers were right. A scene that does not show what
 * it promises fails with `Disproved`.
 */
import { Console, Effect, Equal, Schema } from "effect"
import * as CachedCities from "./CachedCities.ts"
import { Cities } from "./Cities.ts"
import type { Row } from "./CityData.ts"
import { observe } from "./Observation.ts"
import { Request } from "./RequestStream.ts"
import * as Screen from "./Screen.ts"
import { ask, type Asked } from "./Traffic.ts"

export class Disproved extends Schema.TaggedError<Disproved>()("Disproved", { message: Schema.String }) {}

/** A cache that knows nothing asks for what was asked for most. */
export const restart = Effect.fn("restart")(function* (asked: ReadonlyMap<string, Asked>) {
  const hottest = mostAsked(asked, 1000)
  const origins = { memory: 0, store: 0, loader: 0, fallback: 0 }
  const startedAt = performance.now()
  yield* Effect.forEach(
    hottest,
    ({ request }) => Effect.map(observe(ask(request)), ({ origin }) => void origins[origin]++),
    { concurrency: 8, discard: true }
  )
  const took = performance.now() - startedAt
  yield* Console.log(
    `  The ${Screen.count(hottest.length)} hottest keys in ${Screen.duration(took)}: ` +
      `memory ${Screen.count(origins.memory)}, store ${Screen.count(origins.store)}, source ${Screen.count(origins.loader)}`
  )
  if (origins.store !== hottest.length) return yield* new Disproved({ message: "The second cache had to load" })
})

export const mostAsked = (asked: ReadonlyMap<string, Asked>, count: number): ReadonlyArray<Asked> =>
  [...asked.values()].sort((a, b) => b.times - a.times).slice(0, count)

/** Renames the northernmost city of the country that was asked for most, and asks again. */
export const update = Effect.fn("update")(function* (asked: ReadonlyMap<string, Asked>, cities: ReadonlyArray<Row>) {
  const id = northernmost(cities, hottestCountry(asked, cities))
  const { country, lat, lng, name } = cities[id]!
  const names = Effect.gen(function* () {
    const found = yield* CachedCities.nearest({ lat, lng })
    const near = yield* CachedCities.cities(found.map((city) => city.id))
    return [
      (yield* CachedCities.city(id)).name,
      (yield* CachedCities.country(country)).northernmost,
      near.find((city) => city.id === id)?.name ?? "not found"
    ] as const
  })
  const newName = `New ${name}`
  const before = yield* names
  const after = yield* Effect.acquireUseRelease(
    CachedCities.rename(id, newName),
    () => names,
    () => Effect.orDie(CachedCities.rename(id, name))
  )
  const restored = yield* names
  const titles = ["city by id", `country summary ${country}, northernmost`, "nearest cities, where it is"]
  yield* Console.log(
    Screen.table(
      [`city ${id}`, "before", "after"],
      titles.map((title, index) => [title, before[index]!, after[index]!])
    )
  )
  if (after.some((seen) => seen !== newName)) return yield* new Disproved({ message: "The update was not seen" })
  if (restored.some((seen) => seen !== name)) return yield* new Disproved({ message: "The restored name was not seen" })
})

const hottestCountry = (asked: ReadonlyMap<string, Asked>, cities: ReadonlyArray<Row>) => {
  let hottest: { readonly times: number; readonly code: string } = { times: 0, code: cities[0]!.country }
  for (const { request, times } of asked.values()) {
    if (request._tag === "Country" && times > hottest.times) hottest = { times, code: request.code }
  }
  return hottest.code
}

const northernmost = (cities: ReadonlyArray<Row>, country: string) =>
  cities.reduce(
    (best, city, id) => (city.country === country && (best < 0 || city.lat > cities[best]!.lat) ? id : best),
    -1
  )

/** Asks the source for every so many-th thing that was asked, and compares. */
export const check = Effect.fn("check")(function* (asked: ReadonlyMap<string, Asked>) {
  const all = [...asked.values()]
  const sample = all.filter((_, index) => index % Math.ceil(all.length / 300) === 0)
  const wrong = yield* Effect.filter(
    sample,
    ({ answer, request }) => Effect.map(askSource(request), (truth) => !Equal.equals(answer, truth)),
    { concurrency: 8 }
  )
  const isRefused = yield* CachedCities.city(-1).pipe(
    Effect.as(false),
    Effect.catchTag("CityNotFound", () => Effect.succeed(true))
  )
  if (wrong.length > 0) {
    return yield* new Disproved({ message: `${wrong.length} of ${sample.length} answers differ from the source's` })
  }
  if (!isRefused) return yield* new Disproved({ message: "A city that is not there was found" })
  yield* Console.log(`${Screen.green("Checked")} ${Screen.count(sample.length)} answers against the source: all agree.`)
})

export const askSource = (request: Request) =>
  Cities.use((cities) =>
    Request.$match(request, {
      City: ({ id }) => Effect.map(cities.byIds([id]), ([city]) => city!),
      Nearest: ({ point }) => cities.nearest(point),
      Country: ({ code }) => cities.country(code)
    })
  )
