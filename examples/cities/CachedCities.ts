/**
 * Caching a service: `Cities` answers, the cache remembers. Copy this file.
 *
 * What is near a point is kept as ids, not as cities: a city is then cached in one
 * place, and a new name touches two keys, not every point it is near to.
 */
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Namespace, TieredCache } from "effect-tiered-cache"
import { Cities, City, Country, Nearby, Point } from "./Cities.ts"
import * as Sun from "./Sun.ts"

export const CityById = Namespace.make("geonames-cities", { key: Schema.Int, value: City, timeToLive: "1 hour" })

export const NearestTo = Namespace.make("geonames-nearest", {
  key: Point,
  value: Schema.Array(Nearby),
  timeToLive: "1 day"
})

export const CountryByCode = Namespace.make("geonames-countries", { value: Country, timeToLive: "30 minutes" })

export const Daylight = Namespace.make("daylight", { key: Sun.Whereabouts, value: Schema.Finite, timeToLive: "1 day" })

/** A city by its id. */
export const city = (id: number) =>
  Cities.use((cities) => cities.byIds([id])).pipe(
    Effect.map(([city]) => city!),
    TieredCache.getOrSet(CityById, id)
  )

/** Many cities, in the order of their ids: one round trip for all that PostgreSQL has cached, one for the rest. */
export const cities = (ids: ReadonlyArray<number>) =>
  TieredCache.getOrSetMany(CityById, ids, (missing) => Cities.use((cities) => cities.byIds(missing)))

/** The ids of the ten cities nearest to a point, and how far away they are. */
export const nearest = (point: typeof Point.Type) =>
  Cities.use((cities) => cities.nearest(point)).pipe(TieredCache.getOrSet(NearestTo, point))

/** The summary of a country. */
export const country = (code: string) =>
  Cities.use((cities) => cities.country(code)).pipe(TieredCache.getOrSet(CountryByCode, code))

/** How many hours the sun is up. Nothing here asks PostgreSQL but the cache, and that can do without. */
export const daylight = (where: typeof Sun.Whereabouts.Type) =>
  Sun.daylight(where).pipe(TieredCache.getOrSet(Daylight, where))

/** The new name and the end of what was cached of the old one: both, or neither. */
export const rename = Effect.fn("rename")(function* (id: number, name: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      const city = yield* Cities.use((cities) => cities.rename(id, name))
      yield* TieredCache.invalidate(CityById, id)
      yield* TieredCache.invalidate(CountryByCode, city.country)
      return city
    })
  )
})
