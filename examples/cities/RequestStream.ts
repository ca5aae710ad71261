/**
 * What people ask, by chance but the same for the same seed: a few cities again
 * and again, most of them hardly ever (Zipf's law).
 *
 * The data has no populations, so which cities are popular is chance as well.
 */
import { Data } from "effect"
import type { Point } from "./Cities.ts"
import type { Row } from "./CityData.ts"

export type Request = Data.TaggedEnum<{
  City: { readonly id: number }
  Nearest: { readonly point: typeof Point.Type }
  Country: { readonly code: string }
}>

export const Request = Data.taggedEnum<Request>()

/** Six in ten ask for a city, one in four for what is near to one, the others for its country. */
export const make = function* (cities: ReadonlyArray<Row>, seed: number): Generator<Request, never> {
  const random = mulberry32(seed)
  const popular = shuffled(cities.length, random)
  const ranks = zipf(cities.length, random)
  while (true) {
    const id = popular[ranks()]!
    const { country, lat, lng } = cities[id]!
    const what = random()
    if (what < 0.6) yield Request.City({ id })
    else if (what < 0.85) yield Request.Nearest({ point: { lat: toGrid(lat), lng: toGrid(lng) } })
    else yield Request.Country({ code: country })
  }
}

/** One text per question. */
export const keyOf: (request: Request) => string = Request.$match({
  City: ({ id }) => `city ${id}`,
  Nearest: ({ point }) => `nearest ${point.lat} ${point.lng}`,
  Country: ({ code }) => `country ${code}`
})

/** People stand anywhere; asked on a grid of half a degree, their questions repeat. */
const toGrid = (degrees: number) => Math.round(degrees * 2) / 2

/** Ranks from 0 on, the n-th in proportion to 1 / n^1.2. */
const zipf = (count: number, random: () => number) => {
  const cumulated = new Float64Array(count)
  let sum = 0
  for (let rank = 0; rank < count; rank++) cumulated[rank] = sum += (rank + 1) ** -1.2
  return () => {
    const at = random() * sum
    let low = 0
    let high = count - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (cumulated[middle]! > at) high = middle
      else low = middle + 1
    }
    return low
  }
}

/** Fisher and Yates. */
const shuffled = (count: number, random: () => number) => {
  const order = Uint32Array.from({ length: count }, (_, index) => index)
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const moved = order[last]!
    order[last] = order[other]!
    order[other] = moved
  }
  return order
}

/** A small generator of good quality, so that a seed means the same everywhere. */
const mulberry32 = (seed: number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), 1 | state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }
}
