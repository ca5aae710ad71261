/**
 * A source that is not PostgreSQL: how long the sun is up. It stands for a service
 * on the network, and takes as long.
 */
import { Effect, Schema } from "effect"

/** A latitude in degrees north, and a day from 0 on of a year that begins at the winter solstice. */
export const Whereabouts = Schema.Struct({ lat: Schema.Finite, day: Schema.Int })

/** In hours, by the geometry of it: a sun without a width and an earth without air. */
export const daylight = ({ day, lat }: typeof Whereabouts.Type): Effect.Effect<number> =>
  Effect.delay(
    Effect.sync(() => {
      const declination = radians(-23.44 * Math.cos((2 * Math.PI * day) / 365))
      const halfDay = -Math.tan(radians(lat)) * Math.tan(declination)
      return (24 / Math.PI) * Math.acos(Math.min(1, Math.max(-1, halfDay)))
    }),
    "5 millis"
  )

const radians = (degrees: number) => (degrees * Math.PI) / 180
