/**
 * How long a namespace's entries live, how they are renewed and what happens
 * when their loader fails or takes long.
 *
 * An entry is fresh for its `timeToLive`, then stale for the longer one of
 * `staleWhileRevalidate` and `staleIfError`, then gone.
 *
 * A policy is put together field by field, the later winning: the defaults, the
 * configured default policy, the namespace's own code, the configuration of
 * that namespace. Every field is checked by the schema wherever it comes from.
 *
 * What happens when the store is away (`onStoreFailure`) and when there is
 * nothing to give in place of a loader that takes too long (`loaderHardTimeout`)
 * is not part of the policy: it decides the error type of a read, so it belongs
 * to the namespace's code and cannot be configured.
 *
 * @since 0.1.0
 */
import { Duration, Exit, Option, Schema, SchemaIssue } from "effect"
import { CacheError, InvalidPolicy } from "./CacheError.ts"
import { Interval, Lifetime, number, Positive, recognized, record } from "./Setting.ts"

const Bounded = Lifetime.check(
  Schema.makeFilter(
    (duration) => millis(duration) < Infinity || "must end: a load that hangs would be waited for for good"
  )
)

const EarlyRefresh = number(
  "must be a fraction of the lifetime above 0 and below 1, such as 0.8",
  (number) => number > 0 && number < 1
)

const Beta = number(
  "must be a number of 0 or more; 0 is off, 1 is usual, more refreshes earlier",
  (number) => number >= 0 && number < Infinity
)

const Jitter = number("must be a fraction from 0 to 1, such as 0.05", (number) => number >= 0 && number <= 1)

/**
 * Whether whoever loaded a value waits until the store (L2) has it.
 *
 * @category models
 * @since 0.1.0
 */
export type StoreWrites = "awaited" | "background"

const StoreWrites = recognized(
  Schema.Literals(["awaited", "background"]),
  `must be "awaited" or "background"`,
  (input) => (input === "awaited" || input === "background" ? input : undefined)
)

/**
 * The fields of a policy that somebody has an opinion on.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CachePolicyFields = record({
  timeToLive: Schema.optionalKey(Lifetime),
  negativeTimeToLive: Schema.optionalKey(Lifetime),
  memoryTimeToLive: Schema.optionalKey(Lifetime),
  maxValueSize: Schema.optionalKey(Positive),
  staleWhileRevalidate: Schema.optionalKey(Lifetime),
  staleIfError: Schema.optionalKey(Lifetime),
  failureBackoff: Schema.optionalKey(Lifetime),
  failureTimeToLive: Schema.optionalKey(Lifetime),
  loaderSoftTimeout: Schema.optionalKey(Interval),
  earlyRefresh: Schema.optionalKey(EarlyRefresh),
  earlyRefreshBeta: Schema.optionalKey(Beta),
  jitter: Schema.optionalKey(Jitter),
  storeWrites: Schema.optionalKey(StoreWrites),
  leaseDuration: Schema.optionalKey(Bounded),
  leaseWait: Schema.optionalKey(Bounded)
})

/**
 * The fields of a policy as one writes them. A number for a length of time is
 * milliseconds.
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
  /** For how long after it went stale an entry is served at once while one load runs in the background. Default 0: a read waits for the load. */
  readonly staleWhileRevalidate?: Duration.Input | undefined
  /** For how long after it went stale an entry is served when its load fails. `0` lets the failure through. Default 10 minutes. */
  readonly staleIfError?: Duration.Input | undefined
  /** For how long after a failed load the stale entry is served without another load. `0`: every read tries again. Default 10 seconds. */
  readonly failureBackoff?: Duration.Input | undefined
  /** How long a typed failure of the loader is cached, where the namespace has a schema for it. Default 0: not at all. */
  readonly failureTimeToLive?: Duration.Input | undefined
  /** After how long a read is given the stale entry, if there is one, while its load goes on in the background. Above zero; `"Infinity"` is off. Default off. */
  readonly loaderSoftTimeout?: Duration.Input | undefined
  /** The fraction of its lifetime, above 0 and below 1, after which the first read that memory answers with it starts a load in the background. Default off. */
  readonly earlyRefresh?: number | undefined
  /** Refreshes a fresh entry by chance, more likely towards its end and the longer its load took (XFetch); 0 or more, 1 is usual, more is earlier. Default 0: off. */
  readonly earlyRefreshBeta?: number | undefined
  /** By up to which fraction, 0 to 1, lifetimes are shortened by chance, so that entries made together do not end together. Default 0.05. */
  readonly jitter?: number | undefined
  /** Whether a read that loaded a value waits until the store (L2) has it. Default `"awaited"`. */
  readonly storeWrites?: StoreWrites | undefined
  /** For how long one process has the right to load a key, unless it says that it still does; how long one that crashes is waited for. `0`: each process loads for itself. Default 10 seconds. */
  readonly leaseDuration?: Duration.Input | undefined
  /** How long a load waits for another process that is loading the key, before it loads it too. `0`: not at all. Default 5 seconds. */
  readonly leaseWait?: Duration.Input | undefined
}

/**
 * A policy with every field decided. Lengths of time in milliseconds, sizes in
 * bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface CachePolicy {
  readonly timeToLive: number
  readonly negativeTimeToLive: number
  readonly memoryTimeToLive: number
  readonly maxValueSize: number
  readonly staleWhileRevalidate: number
  readonly staleIfError: number
  readonly failureBackoff: number
  readonly failureTimeToLive: number
  /** `Infinity`: off. */
  readonly loaderSoftTimeout: number
  /** A fraction of the lifetime; `1`: off. */
  readonly earlyRefresh: number
  /** `0`: off. */
  readonly earlyRefreshBeta: number
  readonly jitter: number
  readonly storeWrites: StoreWrites
  /** `0`: off. */
  readonly leaseDuration: number
  readonly leaseWait: number
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
  maxValueSize: 1024 * 1024,
  staleWhileRevalidate: 0,
  staleIfError: "10 minutes",
  failureBackoff: "10 seconds",
  failureTimeToLive: 0,
  loaderSoftTimeout: "Infinity",
  earlyRefreshBeta: 0,
  jitter: 0.05,
  storeWrites: "awaited",
  leaseDuration: "10 seconds",
  leaseWait: "5 seconds"
} as const satisfies CachePolicyInput

/**
 * Checks the fields of a policy; the error names the field, the value and what
 * is wrong with it. Unknown fields are refused, `undefined` ones left out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const decode = (input: unknown, namespace?: string): Exit.Exit<typeof CachePolicyFields.Type, CacheError> =>
  decodeWith(CachePolicyFields, input, namespace)

/**
 * Checks the `loaderHardTimeout` of a namespace whose code says `policy`; in
 * milliseconds, `Infinity` where there is none. One that is shorter than the soft
 * timeout is refused: the soft one would never apply.
 *
 * @internal
 */
export const decodeHardTimeout = (
  input: unknown,
  policy: typeof CachePolicyFields.Type,
  namespace?: string
): Exit.Exit<number, CacheError> => {
  const soft = policy.loaderSoftTimeout ?? Duration.infinity
  const isRight = (hard: Duration.Duration) => !Duration.isFinite(soft) || !Duration.isLessThan(hard, soft)
  const problem = `must not be shorter than loaderSoftTimeout (${Duration.format(soft)}), which would never apply`
  const Fields = record({
    loaderHardTimeout: Schema.optionalKey(Interval.check(Schema.makeFilter((hard) => isRight(hard) || problem)))
  })
  return Exit.map(decodeWith(Fields, { loaderHardTimeout: input }, namespace), ({ loaderHardTimeout }) =>
    millis(loaderHardTimeout ?? Duration.infinity)
  )
}

const decodeWith = <A>(
  schema: Schema.Codec<A, unknown>,
  input: unknown,
  namespace: string | undefined
): Exit.Exit<A, CacheError> => {
  const exit = Schema.decodeUnknownExit(schema)(input, { onExcessProperty: "error" })
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
    maxValueSize: merged.maxValueSize!,
    staleWhileRevalidate: millis(merged.staleWhileRevalidate!),
    staleIfError: millis(merged.staleIfError!),
    failureBackoff: millis(merged.failureBackoff!),
    failureTimeToLive: millis(merged.failureTimeToLive!),
    loaderSoftTimeout: millis(merged.loaderSoftTimeout!),
    earlyRefresh: merged.earlyRefresh ?? 1,
    earlyRefreshBeta: merged.earlyRefreshBeta!,
    jitter: merged.jitter!,
    storeWrites: merged.storeWrites!,
    leaseDuration: millis(merged.leaseDuration!),
    leaseWait: millis(merged.leaseWait!)
  }
}

/**
 * A lifetime shortened by a random part of up to the fraction `jitter`, in whole
 * milliseconds; `random` is from 0 to 1. Never longer than the lifetime, never
 * nothing where there was something, and for ever stays for ever.
 *
 * @internal
 */
export const jittered = (lifetime: number, jitter: number, random: number): number =>
  lifetime === Infinity ? Infinity : Math.min(lifetime, Math.max(1, Math.ceil(lifetime * (1 - jitter * random))))

/** PostgreSQL's timestamps end in the year 294276; who says a thousand years means for ever. */
const millis = (lifetime: Duration.Duration): number => {
  const millis = Duration.toMillis(lifetime)
  return millis < 1000 * 365.25 * 86_400_000 ? millis : Infinity
}

const defaults = Schema.decodeUnknownSync(CachePolicyFields)(defaultPolicy)
