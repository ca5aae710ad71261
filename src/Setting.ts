/**
 * How one writes a setting, in code or in a variable: lengths of time, numbers,
 * choices and groups of them, and what is said of one that makes no sense.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option, Schema, SchemaIssue, SchemaTransformation } from "effect"

/**
 * A length of time in any form that Effect accepts: `"1 hour"`, milliseconds,
 * `{ minutes: 5 }`, `Duration.infinity`. Not negative.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Lifetime = Schema.Unknown.pipe(
  Schema.decodeTo(
    Schema.Duration,
    SchemaTransformation.transformEffect({
      decode: (input: unknown) => {
        const duration = parse(input)
        return Option.isNone(duration)
          ? Effect.fail(
              invalid(input, `not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds`)
            )
          : Duration.isLessThan(duration.value, Duration.zero)
            ? Effect.fail(invalid(input, "a lifetime cannot be negative"))
            : Effect.succeed(duration.value)
      },
      encode: (duration): Effect.Effect<unknown> => Effect.succeed(duration)
    })
  )
)

const parse = (input: unknown): Option.Option<Duration.Duration> => {
  if (typeof input === "string" && /^\d+$/.test(input)) return Option.some(Duration.millis(Number(input)))
  return isDuration(input) ? Duration.fromInput(input) : Option.none()
}

/** Effect takes an object without a unit that it knows, or with NaN, for no time at all. */
const isDuration = (input: unknown): input is Duration.Input => {
  if (typeof input !== "object" || input === null) return !Number.isNaN(input)
  if (Duration.isDuration(input)) return true
  const parts = Option.getOrElse(Option.liftThrowable(() => Object.entries(input))(), () => [])
  const isUnit = (unit: string) => (Array.isArray(input) ? parts.length === 2 : units.has(unit))
  return parts.length > 0 && parts.every(([unit, amount]) => isUnit(unit) && Number.isFinite(amount))
}

const units = new Set(["weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"])

const invalid = (input: unknown, message: string) => new SchemaIssue.InvalidValue({ message }, input)

/**
 * A length of time above zero, for things that recur or time out.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Interval = Lifetime.check(
  Schema.makeFilter((duration) => Duration.isGreaterThan(duration, Duration.zero) || "must be longer than zero")
)

/**
 * Values that are told apart by a look at the input; `undefined` is a refusal.
 *
 * @internal
 */
export const recognized = <A extends string | number | boolean>(
  schema: Schema.Codec<A>,
  problem: string,
  recognize: (input: unknown) => A | undefined
) =>
  Schema.Unknown.pipe(
    Schema.decodeTo(
      schema,
      SchemaTransformation.transformEffect({
        decode: (input: unknown) => {
          const value = recognize(input)
          return value === undefined ? Effect.fail(invalid(input, problem)) : Effect.succeed(value)
        },
        encode: (value): Effect.Effect<unknown> => Effect.succeed(value)
      })
    )
  )

/**
 * An object of these fields, in which one that is `undefined` is left out.
 *
 * @internal
 */
export const record = <F extends Schema.Struct.Fields>(fields: F) =>
  Schema.Unknown.pipe(
    Schema.decodeTo(
      Schema.Struct(fields),
      SchemaTransformation.transform({
        decode: (input: unknown) => withoutUndefined(input) as Schema.Struct<F>["Encoded"],
        encode: (fields): unknown => fields
      })
    )
  )

const withoutUndefined = (input: unknown): unknown =>
  typeof input === "object" && input !== null && !Array.isArray(input)
    ? Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined))
    : input

/**
 * A number, or one in a string, as it comes from an environment variable.
 *
 * @internal
 */
export const number = (problem: string, isRight: (number: number) => boolean) =>
  recognized(Schema.Number, problem, (input) => {
    const number = typeof input === "string" && input.trim() !== "" ? Number(input) : input
    return typeof number === "number" && isRight(number) ? number : undefined
  })

/**
 * A whole number above zero, of bytes or of things; digits in a string are
 * accepted, so that it can come from an environment variable.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Positive = number(
  "must be a whole number above zero",
  (number) => Number.isSafeInteger(number) && number > 0
)
