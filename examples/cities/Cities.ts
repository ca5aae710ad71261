/**
 * The source: questions about the world's cities, answered by SQL.
 *
 * There is no cache in here. `CachedCities` puts one in front of it.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

export class City extends Schema.Class<City>("City")({
  id: Schema.Int,
  name: Schema.String,
  country: Schema.String,
  region: Schema.String,
  lat: Schema.Finite,
  lng: Schema.Finite
}) {}

/** Degrees north and east. */
export const Point = Schema.Struct({ lat: Schema.Finite, lng: Schema.Finite })

export class Nearby extends Schema.Class<Nearby>("Nearby")({ id: Schema.Int, kilometres: Schema.Finite }) {}

export class Country extends Schema.Class<Country>("Country")({
  code: Schema.String,
  cities: Schema.Int,
  regions: Schema.Int,
  northernmost: Schema.String,
  southernmost: Schema.String,
  commonestName: Schema.String
}) {}

export class CityNotFound extends Schema.TaggedError<CityNotFound>()("CityNotFound", { id: Schema.Int }) {}

export class CountryNotFound extends Schema.TaggedError<CountryNotFound>()("CountryNotFound", {
  code: Schema.String
}) {}

export class Cities extends Context.Service<
  Cities,
  {
    /** The cities with these ids, in this order. */
    readonly byIds: (ids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<City>, CityNotFound | SqlError.SqlError>
    /** The ten cities nearest to a point. */
    readonly nearest: (point: typeof Point.Type) => Effect.Effect<ReadonlyArray<Nearby>, SqlError.SqlError>
    /** What there is to say about a country, by its two letters. */
    readonly country: (code: string) => Effect.Effect<Country, CountryNotFound | SqlError.SqlError>
    readonly rename: (id: number, name: string) => Effect.Effect<City, CityNotFound | SqlError.SqlError>
  }
>()("examples/Cities") {
  static readonly layer = Layer.effect(
    Cities,
    Effect.map(SqlClient.SqlClient, (sql) => {
      const columns = sql.literal("id, name, country, region, lat, lng")

      const byIds = Effect.fn("Cities.byIds")(function* (ids: ReadonlyArray<number>) {
        const rows = yield* sql`select ${columns} from geonames_cities where id = any (${ids.map(String)}::int4[])`
        const found = new Map((yield* decodeCities(rows)).map((city) => [city.id, city]))
        return yield* Effect.forEach(ids, (id) => {
          const city = found.get(id)
          return city === undefined ? new CityNotFound({ id }) : Effect.succeed(city)
        })
      })

      const nearest = Effect.fn("Cities.nearest")(function* ({ lat, lng }: typeof Point.Type) {
        for (let reach = 0.5; ; reach *= 4) {
          const rows = yield* sql`
            select id, ${earthRadius * 2} * asin(sqrt(
              power(sin(radians(lat - ${lat}) / 2), 2)
                + cos(radians(lat)) * cos(radians(${lat})) * power(sin(radians(lng - ${lng}) / 2), 2)
            )) as kilometres
            from geonames_cities
            where lat between ${lat - reach} and ${lat + reach}
              and least(abs(lng - ${lng}), 360 - abs(lng - ${lng})) <= ${widthOf(lat, reach)}
            order by kilometres, id
            limit 10
          `
          const cities = yield* decodeNearby(rows)
          // A city beyond the box may be nearer than one in its corner.
          if (reach > 180 || (cities.length === 10 && cities[9]!.kilometres <= radians(reach) * earthRadius))
            return cities
        }
      })

      const country = Effect.fn("Cities.country")(function* (code: string) {
        const [row] = yield* sql`
          select
            country as code,
            count(*)::int4 as cities,
            count(distinct region)::int4 as regions,
            (array_agg(name order by lat desc, id))[1] as northernmost,
            (array_agg(name order by lat, id))[1] as southernmost,
            mode() within group (order by name) as "commonestName"
          from geonames_cities
          where country = ${code}
          group by country
        `
        return row === undefined ? yield* new CountryNotFound({ code }) : yield* decodeCountry(row)
      })

      const rename = Effect.fn("Cities.rename")(function* (id: number, name: string) {
        const rows = yield* sql`update geonames_cities set name = ${name} where id = ${id} returning ${columns}`
        const [city] = yield* decodeCities(rows)
        return city ?? (yield* new CityNotFound({ id }))
      })

      return { byIds, nearest, country, rename }
    })
  )
}

/** A row that its schema refuses is a mistake of the program. */
const decoder =
  <A>(schema: Schema.Codec<A, unknown>) =>
  (rows: unknown) =>
    Effect.orDie(Schema.decodeUnknownEffect(schema)(rows))

const decodeCities = decoder(Schema.Array(City))
const decodeNearby = decoder(Schema.Array(Nearby))
const decodeCountry = decoder(Country)

const earthRadius = 6371

const radians = (degrees: number) => (degrees * Math.PI) / 180

/** How far east and west a circle reaches, in degrees. */
const widthOf = (lat: number, reach: number) =>
  Math.abs(lat) + reach >= 90 ? 180 : (Math.asin(Math.sin(radians(reach)) / Math.cos(radians(lat))) * 180) / Math.PI
