/**
 * The one error of the cache: `CacheError`, whose `reason` says what happened.
 *
 * The loader's own error type passes through every operation untouched. A
 * `CacheError` appears in the type of a read only where the namespace chose
 * `onStoreFailure: "fail"` or a `loaderHardTimeout`; in the type of `set`,
 * `invalidate` and `clear` it always does, because a lost write must not look
 * like success.
 *
 * Catch one reason with `Effect.catchReason("CacheError", "ValueTooLarge", …)`.
 *
 * @since 0.1.0
 */
import { Cause, type Exit, Schema } from "effect"

/**
 * The store (L2) could not be reached, refused the connection, or answered a
 * statement with an error. Retryable: the store may be back at the next call.
 *
 * @category reasons
 * @since 0.1.0
 */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  readonly isRetryable = true
  override get message(): string {
    return `the store could not ${this.operation}: ${problemOf(this.cause)}`
  }
}

/**
 * The store (L2) did not answer within its timeout (milliseconds). Retryable.
 *
 * @category reasons
 * @since 0.1.0
 */
export class StoreTimeout extends Schema.TaggedError<StoreTimeout>()("StoreTimeout", {
  operation: Schema.String,
  timeout: Schema.Number
}) {
  readonly isRetryable = true
  override get message(): string {
    return `the store did not ${this.operation} within ${this.timeout} ms; raise CACHE_STORE_READ_TIMEOUT or CACHE_STORE_WRITE_TIMEOUT if that is normal here`
  }
}

/**
 * The store has not answered for a while and is not asked just now; it is asked
 * again in `retryAfter` milliseconds at the earliest. Retryable.
 *
 * @category reasons
 * @since 0.1.0
 */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>()("CircuitOpen", {
  operation: Schema.String,
  retryAfter: Schema.Number
}) {
  readonly isRetryable = true
  override get message(): string {
    return `the store was not asked to ${this.operation}: it is down and is tried again in ${this.retryAfter} ms`
  }
}

/**
 * The loader of this namespace did not answer within its `loaderHardTimeout`
 * (milliseconds), and there was nothing to give in its place. It goes on in the
 * background. Retryable: the next call may find what it loaded.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LoaderTimeout extends Schema.TaggedError<LoaderTimeout>()("LoaderTimeout", {
  namespace: Schema.String,
  timeout: Schema.Number
}) {
  readonly isRetryable = true
  override get message(): string {
    return `namespace "${this.namespace}": the loader did not answer within ${this.timeout} ms; raise loaderHardTimeout or make the source faster`
  }
}

/**
 * The store holds a schema that this version of the library cannot work with,
 * or its migrations could not be run.
 *
 * @category reasons
 * @since 0.1.0
 */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  problem: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  readonly isRetryable = false
  override get message(): string {
    return this.cause === undefined ? this.problem : `${this.problem}: ${problemOf(this.cause)}`
  }
}

/**
 * The namespace's key schema refuses this key.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidKey extends Schema.TaggedError<InvalidKey>()("InvalidKey", {
  namespace: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    return `namespace "${this.namespace}": the key is not what its schema allows: ${this.problem}`
  }
}

/**
 * A pattern that is none; says where, and what would be right. Nothing was changed.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidPattern extends Schema.TaggedError<InvalidPattern>()("InvalidPattern", {
  namespace: Schema.String,
  pattern: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    const beginning = this.pattern.length > 100 ? `${this.pattern.slice(0, 100)}...` : this.pattern
    return `namespace "${this.namespace}", pattern "${beginning}": ${this.problem}`
  }
}

/**
 * The namespace's value schema refuses this value, or it has no JSON form.
 *
 * @category reasons
 * @since 0.1.0
 */
export class EncodeFailed extends Schema.TaggedError<EncodeFailed>()("EncodeFailed", {
  namespace: Schema.String,
  key: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    return `namespace "${this.namespace}", key ${this.key}: the value is not what its schema can encode: ${this.problem}`
  }
}

/**
 * The encoded value is longer than the namespace's `maxValueSize` (bytes).
 *
 * @category reasons
 * @since 0.1.0
 */
export class ValueTooLarge extends Schema.TaggedError<ValueTooLarge>()("ValueTooLarge", {
  namespace: Schema.String,
  key: Schema.String,
  size: Schema.Number,
  limit: Schema.Number
}) {
  readonly isRetryable = false
  override get message(): string {
    return `namespace "${this.namespace}", key ${this.key}: the encoded value has ${this.size} bytes, the limit is ${this.limit}; raise maxValueSize or cache less`
  }
}

/**
 * The namespace cannot be used: a bad name, or a name that another namespace
 * with other schemas already has in this cache.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidNamespace extends Schema.TaggedError<InvalidNamespace>()("InvalidNamespace", {
  namespace: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    return `namespace "${this.namespace}": ${this.problem}`
  }
}

/**
 * A policy field makes no sense; names the field, the value and why.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidPolicy extends Schema.TaggedError<InvalidPolicy>()("InvalidPolicy", {
  namespace: Schema.optionalKey(Schema.String),
  field: Schema.String,
  value: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    const where = this.namespace === undefined ? "" : `namespace "${this.namespace}": `
    return `${where}${this.field} = ${this.value}: ${this.problem}`
  }
}

/**
 * A configuration variable makes no sense; names the variable, the value and
 * why.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>()("InvalidConfig", {
  variable: Schema.String,
  value: Schema.String,
  problem: Schema.String
}) {
  readonly isRetryable = false
  override get message(): string {
    return `${this.variable} = ${this.value}: ${this.problem}`
  }
}

/**
 * Every reason a `CacheError` can carry.
 *
 * @category models
 * @since 0.1.0
 */
export const CacheErrorReason = Schema.Union([
  StoreUnavailable,
  StoreTimeout,
  CircuitOpen,
  LoaderTimeout,
  MigrationFailed,
  InvalidKey,
  InvalidPattern,
  EncodeFailed,
  ValueTooLarge,
  InvalidNamespace,
  InvalidPolicy,
  InvalidConfig
])

/**
 * Every reason a `CacheError` can carry.
 *
 * @category models
 * @since 0.1.0
 */
export type CacheErrorReason = typeof CacheErrorReason.Type

/**
 * What went wrong in the cache itself, never in the loader.
 *
 * @category errors
 * @since 0.1.0
 */
export class CacheError extends Schema.TaggedError<CacheError>()("CacheError", { reason: CacheErrorReason }) {
  /** Whether the same call may succeed later without a change of code. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message(): string {
    return this.reason.message
  }
}

/**
 * The error of an exit that failed with one.
 *
 * @internal
 */
export const errorOf = (exit: Exit.Failure<unknown, CacheError>): CacheError => Cause.squash(exit.cause) as CacheError

/**
 * What something that was thrown says of itself and of what caused it.
 *
 * @internal
 */
export const problemOf = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  const inside = Cause.isCause(cause.cause) ? Cause.squash(cause.cause) : cause.cause
  const inner = inside instanceof Error ? problemOf(inside) : ""
  if (inner.startsWith(cause.message)) return inner
  return inner === "" || cause.message.includes(inner) ? cause.message : `${cause.message}: ${inner}`
}
