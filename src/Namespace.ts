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
 * Memory shares one value among all readers, who must not change it, unless the
 * namespace says `copies`.
 *
 * **Version.** Raise it when the value schema changes: rows of other versions
 * are misses, and the next load replaces them.
 *
 * **Failures.** Reads fail as the loader does, and in no other way but those that
 * the namespace asks for: `onStoreFailure: "fail"` and `loaderHardTimeout` put
 * `CacheError` into the type of reads, `error` the failures that may be cached.
 *
 * @since 0.1.0
 */
import { Cause, type Duration, Exit, Schema } from "effect"
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
 * A typed key space. `X` is what reads of it can fail with beside the loader's
 * own error.
 *
 * @category models
 * @since 0.1.0
 */
export interface Namespace<in out K, in out A, out X = never> {
  readonly name: string
  readonly key: Schema.Codec<K, unknown>
  readonly value: Schema.Codec<A, unknown>
  readonly error: Schema.Codec<unknown, unknown> | undefined
  readonly version: number
  readonly onStoreFailure: OnStoreFailure
  /** In milliseconds; `Infinity` where there is none. */
  readonly loaderHardTimeout: number
  readonly copies: boolean
  readonly policy: typeof CachePolicy.CachePolicyFields.Type
  readonly keys: KeyCodec.KeyCodec<K>
  readonly values: ValueCodec.ValueCodec<A>
  /** The failures that may be cached: those that `error` accepts. */
  readonly failures: ValueCodec.ValueCodec<unknown> | undefined
  /** In types only. */
  readonly [failure]?: X | undefined
}

declare const failure: unique symbol

/**
 * A namespace, whatever reads of it can fail with.
 *
 * @category models
 * @since 0.1.0
 */
export type Any<K, A> = Namespace<K, A, unknown>

/**
 * `CacheError` if it is among what reads of a namespace can fail with.
 *
 * @category models
 * @since 0.1.0
 */
export type CacheFailure<X> = CacheError extends X ? CacheError : never

/**
 * What makes a namespace, beside its name.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<K, A> extends CachePolicy.CachePolicyInput {
  /** Schema of the keys. Default `Schema.String`. */
  readonly key?: Schema.Codec<K, unknown> | undefined
  /** Schema of the values. */
  readonly value: Schema.Codec<A, unknown>
  /**
   * Schema of the loader's failures that may be cached, for `failureTimeToLive` or
   * as the call says; others never are. Reads can fail with what it describes.
   * Default: none may be cached.
   */
  readonly error?: Schema.Codec<unknown, unknown> | undefined
  /** Version of the value schema and the `error` schema, a whole number. Default 1. */
  readonly version?: number | undefined
  /**
   * `"recover"` (default): reads go on without the store, their error type is
   * the loader's alone. `"fail"`: reads fail with `CacheError`.
   */
  readonly onStoreFailure?: OnStoreFailure | undefined
  /**
   * How long a read waits for the loader. Then it gets the stale value, else the
   * call's `fallback`, else it fails with `CacheError` (`LoaderTimeout`); the loader
   * goes on in the background. Not shorter than `loaderSoftTimeout`. Default: as
   * long as it takes.
   */
  readonly loaderHardTimeout?: Duration.Input | undefined
  /**
   * `true`: every reader is given a value of its own, decoded for it from what
   * memory keeps in JSON form, so that no reader can change what is cached. Costs a
   * decoding per read. Default false: readers share one value.
   */
  readonly copies?: boolean | undefined
}

/**
 * The options of any namespace.
 *
 * @category models
 * @since 0.1.0
 */
export type AnyOptions = Options<unknown, unknown>

/**
 * The keys that options make.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyOf<O> = TypeOf<Given<O, "key">, string>

/**
 * The values that options make.
 *
 * @category models
 * @since 0.1.0
 */
export type ValueOf<O> = TypeOf<Given<O, "value">, never>

/**
 * What the options let reads fail with beside the loader's own error. Where they
 * leave open whether that is so, it is.
 *
 * @category models
 * @since 0.1.0
 */
export type FailureOf<O> =
  | (Given<O, "onStoreFailure"> extends "recover" | undefined ? never : CacheError)
  | (Given<O, "loaderHardTimeout"> extends undefined ? never : CacheError)
  | TypeOf<Given<O, "error">, never>

// All types are read off the options: a type parameter for each, with a default, would let
// the type that is expected of the result decide what was meant.
type Given<O, Name> = O extends unknown ? (Name extends keyof O ? O[Name] : undefined) : never

type TypeOf<S, Absent> = S extends { readonly Type: infer A } ? A : Absent

/**
 * Refuses options that do not exist, and a key schema that may be missing.
 *
 * @category models
 * @since 0.1.0
 */
export type Checked<O> = CheckedKey<Given<O, "key">> & {
  readonly [Name in Exclude<keyof O, keyof AnyOptions>]: never
}

type CheckedKey<S> = [S] extends [undefined]
  ? unknown
  : undefined extends S
    ? { readonly key: Schema.Codec<unknown, unknown> }
    : unknown

/**
 * Makes a namespace. The name is 1 to 255 bytes of UTF-8 without NUL.
 *
 * Throws a `CacheError` (`InvalidNamespace`, `InvalidPolicy`) when the name or an
 * option makes no sense: a namespace is made at module level, where there is no
 * effect to fail.
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
export const make = <O extends AnyOptions>(
  name: string,
  options: O & Checked<O>
): Namespace<KeyOf<O>, ValueOf<O>, FailureOf<O>> => {
  const {
    copies = false,
    error,
    key = Schema.String,
    loaderHardTimeout,
    onStoreFailure = "recover",
    value,
    version = 1,
    ...fields
  }: AnyOptions = options
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
  if (onStoreFailure !== "recover" && onStoreFailure !== "fail")
    refuse(`onStoreFailure is ${CachePolicy.show(onStoreFailure)}; give "recover" or "fail"`)
  if (typeof copies !== "boolean") refuse(`copies is ${CachePolicy.show(copies)}; give true or false`)
  const policy = orThrow(CachePolicy.decode(fields, name))
  const keySchema = key as Schema.Codec<KeyOf<O>, unknown>
  const valueSchema = value as Schema.Codec<ValueOf<O>, unknown>
  return {
    name,
    key: keySchema,
    value: valueSchema,
    error,
    version,
    onStoreFailure,
    loaderHardTimeout: orThrow(CachePolicy.decodeHardTimeout(loaderHardTimeout, policy, name)),
    copies,
    policy,
    keys: KeyCodec.make(name, keySchema),
    values: ValueCodec.make(name, valueSchema),
    failures: error === undefined ? undefined : ValueCodec.make(name, error, "failure")
  }
}

const orThrow = <A, E>(exit: Exit.Exit<A, E>): A => {
  if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
  return exit.value
}

const maxNameBytes = 255
const maxVersion = 2 ** 31 - 1
