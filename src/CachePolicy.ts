/**
 * How long a namespace's entries live and how large they may be.
 *
 * A policy is put together field by field, the later winning: the defaults, the
 * configured default policy, the namespace's own code, the configuration of
 * that namespace. Every field is checked by the schema wherever it comes from.
 *
 * What happens when the store is away (`onStoreFailure`) is not part of the
 * policy: it decides the error type of a read, so it belongs to the namespace's
 * code and cannot be configured.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Exit, Option, Schema, SchemaIssue, SchemaTransformation } from "effect"
import { CacheError, InvalidPolicy } from "./CacheError.ts"

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
 * A whole number of bytes above zero; digits in a string are accepted, so that
 * it can come from an environment variable.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Positive = Schema.Unknown.pipe(
  Schema.decodeTo(
    Schema.Number,
    SchemaTransformation.transformEffect({
      decode: (input: unknown) => {
        const number = typeof input === "string" && input.trim() !== "" ? Number(input) : input
        return typeof number === "number" && Number.isSafeInteger(number) && number > 0
          ? Effect.succeed(number)
          : Effect.fail(invalid(input, "must be a whole number above zero"))
      },
      encode: (number): Effect.Effect<unknown> => Effect.succeed(number)
    })
  )
)

/**
 * The fields of a policy that somebody has an opinion on.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CachePolicyFields = Schema.Struct({
  timeToLive: Schema.optionalKey(Lifetime),
  negativeTimeToLive: Schema.optionalKey(Lifetime),
  memoryTimeToLive: Schema.optionalKey(Lifetime),
  maxValueSize: Schema.optionalKey(Positive)
})

/**
 * The fields of a policy as one writes them.
 *
 * @category models
 * @since 0.1.0
 */
export interface CachePolicyInput {
  /** How long an entry is fresh. `0` keeps nothing. Default 1 hour. */
  readonly timeToLive?: Duration.Input | undefined
  /** The same for `null`, `undefined` and `Option.none()`. Default: `timeToLive`. */
  readonly negativeTimeToLive?: Duration.Input | undefined
  /** How long an entry stays in memory (L1) at most, and never longer than it is fresh. `0` keeps nothing there. Default 5 minutes. */
  readonly memoryTimeToLive?: Duration.Input | undefined
  /** How many bytes an encoded value may have. Default 1 MiB. */
  readonly maxValueSize?: number | undefined
}

/**
 * A policy with every field decided. Lifetimes in milliseconds, sizes in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface CachePolicy {
  readonly timeToLive: number
  readonly negativeTimeToLive: number
  readonly memoryTimeToLive: number
  readonly maxValueSize: number
}

/**
 * What applies where nobody said otherwise.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultPolicy = {
  timeToLive: "1 hour",
  memoryTimeToLive: "5 minutes",
  maxValueSize: 1024 * 1024
} as const satisfies CachePolicyInput

/**
 * Checks the fields of a policy; the error names the field, the value and what
 * is wrong with it. Unknown fields are refused, `undefined` ones left out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const decode = (input: unknown, namespace?: string): Exit.Exit<typeof CachePolicyFields.Type, CacheError> => {
  const exit = Schema.decodeUnknownExit(CachePolicyFields)(withoutUndefined(input), { onExcessProperty: "error" })
  return Exit.mapError(exit, ({ issue }) => new CacheError({ reason: policyReason(input, issue, namespace) }))
}

const policyReason = (input: unknown, issue: SchemaIssue.Issue, namespace: string | undefined): InvalidPolicy => {
  const { message, path, value } = firstIssue(input, issue)
  return new InvalidPolicy({
    ...(namespace === undefined ? {} : { namespace }),
    field: path.length === 0 ? "policy" : path.join("."),
    value: show(value),
    problem: message
  })
}

const withoutUndefined = (input: unknown): unknown =>
  typeof input === "object" && input !== null && !Array.isArray(input)
    ? Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined))
    : input

/**
 * What a schema found wrong first: where, with which value, and why.
 *
 * @internal
 */
export const firstIssue = (input: unknown, issue: SchemaIssue.Issue) => {
  const first = formatIssue(issue).issues[0]
  const path = (first?.path ?? []).map((segment) => String(typeof segment === "object" ? segment.key : segment))
  const value = path.reduce<unknown>((at, segment) => (at as Record<string, unknown> | undefined)?.[segment], input)
  return { path, value, message: first?.message ?? "not understood" }
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => (issue._tag === "UnexpectedKey" ? "there is no such field" : SchemaIssue.defaultLeafHook(issue))
})

/**
 * A value as an error message shows it.
 *
 * @internal
 */
export const show = (value: unknown): string => {
  if (typeof value === "number") return String(value)
  const json = Option.liftThrowable((): string | undefined => JSON.stringify(value))()
  if (Option.isSome(json) && json.value !== undefined) return json.value
  return typeof value === "object" ? Object.prototype.toString.call(value) : String(value)
}

/**
 * Puts a policy together from its parts, the later ones winning.
 *
 * @category combinators
 * @since 0.1.0
 */
export const resolve = (...parts: ReadonlyArray<typeof CachePolicyFields.Type>): CachePolicy => {
  const merged = Object.assign({}, defaults, ...parts) as typeof CachePolicyFields.Type
  const timeToLive = millis(merged.timeToLive!)
  return {
    timeToLive,
    negativeTimeToLive: merged.negativeTimeToLive === undefined ? timeToLive : millis(merged.negativeTimeToLive),
    memoryTimeToLive: millis(merged.memoryTimeToLive!),
    maxValueSize: merged.maxValueSize!
  }
}

/** PostgreSQL's timestamps end in the year 294276; who says a thousand years means for ever. */
const millis = (lifetime: Duration.Duration): number => {
  const millis = Duration.toMillis(lifetime)
  return millis < 1000 * 365.25 * 86_400_000 ? millis : Infinity
}

const defaults = Schema.decodeUnknownSync(CachePolicyFields)(defaultPolicy)
