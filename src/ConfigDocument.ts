/**
 * The document in which the configuration of a cache is written: which settings there
 * are, and what each may be. `CacheConfig` says where they are read from.
 *
 * @since 0.1.0
 */
import { type Duration, Redacted, Schema } from "effect"
import * as CachePolicy from "./CachePolicy.ts"
import * as Setting from "./Setting.ts"

const Flag = Setting.recognized(Schema.Boolean, "must be true or false", (input) =>
  input === true || input === "true" ? true : input === false || input === "false" ? false : undefined
)

const ConnectionUrl = Setting.recognized(
  Schema.String,
  'must be a connection URL such as "postgres://user:password@host:5432/database"',
  (input) => {
    const text = Redacted.isRedacted(input) ? Redacted.value(input) : input
    return typeof text === "string" && /^postgres(ql)?:\/\//.test(text) && URL.canParse(text) ? text : undefined
  }
)

/**
 * The whole document.
 *
 * @category schemas
 * @since 0.1.0
 */
export const ConfigDocument = Setting.record({
  policy: Schema.optionalKey(CachePolicy.CachePolicyFields),
  namespaces: Schema.optionalKey(Schema.Record(Schema.String, CachePolicy.CachePolicyFields)),
  memory: Schema.optionalKey(
    Setting.record({
      maxEntries: Schema.optionalKey(Setting.Positive),
      maxSize: Schema.optionalKey(Setting.Positive),
      cleanupInterval: Schema.optionalKey(Setting.Interval)
    })
  ),
  store: Schema.optionalKey(
    Setting.record({
      readTimeout: Schema.optionalKey(Setting.Interval),
      softReadTimeout: Schema.optionalKey(Setting.Interval),
      writeTimeout: Schema.optionalKey(Setting.Interval),
      breakerFailures: Schema.optionalKey(Setting.Positive),
      breakerProbeInterval: Schema.optionalKey(Setting.Interval),
      maxPendingWrites: Schema.optionalKey(Setting.Positive),
      maxPendingInvalidations: Schema.optionalKey(Setting.Positive),
      sweepInterval: Schema.optionalKey(Setting.Interval),
      accessInterval: Schema.optionalKey(Setting.Interval),
      maxEntries: Schema.optionalKey(Setting.Positive),
      maxSize: Schema.optionalKey(Setting.Positive),
      migrate: Schema.optionalKey(Flag)
    })
  ),
  loads: Schema.optionalKey(
    Setting.record({
      maxBackground: Schema.optionalKey(Setting.Positive)
    })
  ),
  bus: Schema.optionalKey(
    Setting.record({
      pollInterval: Schema.optionalKey(Setting.Interval),
      listen: Schema.optionalKey(Flag),
      url: Schema.optionalKey(ConnectionUrl)
    })
  )
})

/**
 * The configuration as one writes it in code.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheConfigInput {
  /** Fills the policy fields that a namespace's code leaves open. */
  readonly policy?: CachePolicy.CachePolicyInput
  /** Overrides the policy of single namespaces, by name. */
  readonly namespaces?: { readonly [name: string]: CachePolicy.CachePolicyInput }
  readonly memory?: {
    /** How many entries memory (L1) holds at most. Default 10 000. */
    readonly maxEntries?: number
    /** How many bytes memory (L1) holds at most, by encoded size. Default 128 MiB. */
    readonly maxSize?: number
    /** How often expired entries are reclaimed in the background. Default 1 minute. */
    readonly cleanupInterval?: Duration.Input
  }
  readonly store?: {
    /** How long a read of the store (L2) may take. Default 500 ms. */
    readonly readTimeout?: Duration.Input
    /** The same where memory has a stale entry to fall back on for every key that is read. Default: no sooner. */
    readonly softReadTimeout?: Duration.Input
    /** How long a write, removal or clear may take. Default 2 seconds. */
    readonly writeTimeout?: Duration.Input
    /** After how many failures in a row reads and fills leave the store alone. Default 5. */
    readonly breakerFailures?: number
    /** How often a store that is left alone is tried again, by one call. Default 1 second. */
    readonly breakerProbeInterval?: Duration.Input
    /** How many rows of background writes may wait; beyond it the oldest is dropped. Default 1000. */
    readonly maxPendingWrites?: number
    /**
     * How many keys that the store could not be told of are remembered one by one;
     * beyond it their whole namespace is cleared. Default 10 000.
     */
    readonly maxPendingInvalidations?: number
    /** How often dead rows are removed. Default 1 minute. */
    readonly sweepInterval?: Duration.Input
    /** How often the store is told which entries were used; an infinite one: never. Default 1 minute. */
    readonly accessInterval?: Duration.Input
    /** How many entries the store holds, about; the least recently used go. Default 10 million. */
    readonly maxEntries?: number
    /** How many bytes of values the store holds, about. Default 10 GiB. */
    readonly maxSize?: number
    /** Whether the layer brings the database's tables up to date. Default true. */
    readonly migrate?: boolean
  }
  readonly loads?: {
    /** How many loads may go on in the background at a time. Default 100. */
    readonly maxBackground?: number
  }
  readonly bus?: {
    /** How often to look for what other processes have changed although none rang. Default 1 second. */
    readonly pollInterval?: Duration.Input
    /** Whether to be woken by LISTEN, which a pooler that shares sessions does not pass on. Default true. */
    readonly listen?: boolean
    /** Where to listen, past such a pooler: a connection URL. Default: where the client of the database connects to. */
    readonly url?: string | Redacted.Redacted
  }
}
