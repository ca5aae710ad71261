/**
 * A typed key space: a name, a schema for its keys and one for its values, and
 * what its author decided about lifetimes.
 *
 * A namespace holds nothing and connects to nothing; make it once, at module
 * level, and pass it to every operation. Two namespaces of one name in one cache
 * must be the same in schemas, policy and version, or the second is refused.
 *
 * **Keys.** Any key that its schema encodes to JSON. Equal keys meet whatever
 * the order of their fields, different keys never do; see `KeyCodec`.
 *
 * **Values.** Whatever has a JSON form under its schema: classes, dates, maps,
 * options, bigints; see `ValueCodec` for the two things JSON cannot tell apart.
 *
 * **Version.** Raise it when the value schema changes: rows of other versions
 * are misses, and the next load replaces them.
 *
 * @since 0.1.0
 */
import { Cause, Exit, Schema } from "effect"
import { CacheError, InvalidNamespace } from "./CacheError.ts"
import * as CachePolicy from "./CachePolicy.ts"
import * as KeyCodec from "./KeyCodec.ts"
import * as ValueCodec from "./ValueCodec.ts"

/**
 * What reads do when the store (L2) is away: go on without it, or fail.
 *
 * @category models
 * @since 0.1.0
 */
export type OnStoreFailure = "recover" | "fail"

/**
 * What a read of a namespace can fail with beside the loader's own error.
 *
 * @category models
 * @since 0.1.0
 */
export type StoreFailure<F extends OnStoreFailure> = F extends "fail" ? CacheError : never

/**
 * A typed key space.
 *
 * @category models
 * @since 0.1.0
 */
export interface Namespace<in out K, in out A, out F extends OnStoreFailure = OnStoreFailure> {
  readonly name: string
  readonly key: Schema.Codec<K, unknown>
  readonly value: Schema.Codec<A, unknown>
  readonly version: number
  readonly onStoreFailure: F
  readonly policy: typeof CachePolicy.CachePolicyFields.Type
  readonly keys: KeyCodec.KeyCodec<K>
  readonly values: ValueCodec.ValueCodec<A>
}

/**
 * What makes a namespace, beside its name.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<K, A, F extends OnStoreFailure> extends CachePolicy.CachePolicyInput {
  /** Schema of the keys. Default `Schema.String`. */
  readonly key?: Schema.Codec<K, unknown> | undefined
  /** Schema of the values. */
  readonly value: Schema.Codec<A, unknown>
  /** Version of the value schema, a whole number. Default 1. */
  readonly version?: number | undefined
  /**
   * `"recover"` (default): reads go on without the store, their error type is
   * the loader's alone. `"fail"`: reads fail with `CacheError`.
   */
  readonly onStoreFailure?: F | undefined
}

/**
 * Makes a namespace. The name is 1 to 255 bytes of UTF-8 without NUL.
 *
 * Throws a `CacheError` (`InvalidNamespace`, `InvalidPolicy`) when the name or a
 * policy field makes no sense: a namespace is made at module level, where there
 * is no effect to fail.
 *
 * **Example** (A namespace of genes by number)
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Namespace } from "effect-tiered-cache"
 *
 * class Gene extends Schema.Class<Gene>("Gene")({ id: Schema.Int, symbol: Schema.String }) {}
 *
 * const Genes = Namespace.make("genes", { key: Schema.Int, value: Gene, timeToLive: "1 hour" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  // One signature for each way to leave something out: a parameter with a default
  // would let the type that is expected of the result decide what was meant.
  <A>(name: string, options: Options<string, A, "recover"> & NoKey & NoChoice): Namespace<string, A, "recover">
  <A, F extends OnStoreFailure>(
    name: string,
    options: Options<string, A, F> & NoKey & { readonly onStoreFailure: F }
  ): Namespace<string, A, F>
  <A, K>(
    name: string,
    options: Options<K, A, "recover"> & { readonly key: Schema.Codec<K, unknown> } & NoChoice
  ): Namespace<K, A, "recover">
  <A, K, F extends OnStoreFailure>(
    name: string,
    options: Options<K, A, F> & { readonly key: Schema.Codec<K, unknown>; readonly onStoreFailure: F }
  ): Namespace<K, A, F>
} = <K, A, F extends OnStoreFailure>(name: string, options: Options<K, A, F>): Namespace<K, A, F> => {
  const {
    key = Schema.String as unknown as Schema.Codec<K, unknown>,
    onStoreFailure,
    value,
    version = 1,
    ...fields
  } = options
  const refuse = (problem: string): never => {
    throw new CacheError({ reason: new InvalidNamespace({ namespace: name, problem }) })
  }
  const bytes = Buffer.byteLength(name)
  if (bytes === 0) refuse("the name is empty; give it 1 to 255 bytes")
  if (bytes > maxNameBytes) refuse(`the name has ${bytes} bytes of UTF-8, the limit is ${maxNameBytes}`)
  if (name.includes("\0") || !name.isWellFormed())
    refuse("the name has a NUL or half a surrogate pair, which PostgreSQL cannot store")
  if (!Number.isSafeInteger(version) || version < 0 || version > maxVersion)
    refuse(`version is ${version}; give a whole number from 0 to ${maxVersion}`)
  if (onStoreFailure !== undefined && onStoreFailure !== "recover" && onStoreFailure !== "fail") {
    refuse(`onStoreFailure is ${CachePolicy.show(onStoreFailure)}; give "recover" or "fail"`)
  }
  const policy = CachePolicy.decode(fields, name)
  if (Exit.isFailure(policy)) throw Cause.squash(policy.cause)
  return {
    name,
    key,
    value,
    version,
    onStoreFailure: onStoreFailure ?? ("recover" as F),
    policy: policy.value,
    keys: KeyCodec.make(name, key),
    values: ValueCodec.make(name, value)
  }
}

interface NoKey {
  readonly key?: undefined
}

interface NoChoice {
  readonly onStoreFailure?: undefined
}

const maxNameBytes = 255
const maxVersion = 2 ** 31 - 1
