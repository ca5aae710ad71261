/**
 * How a namespace's value becomes a JSON document and back, or a failure of its
 * loader that is to be cached.
 *
 * The codec is built once per namespace from the schema's canonical JSON form.
 * A value that the schema refuses is not encoded; a document that the schema no
 * longer accepts does not decode, and is a miss to the reader. Each decoding makes
 * a value of its own.
 *
 * **What JSON cannot tell apart.** `-0` comes back as `0`. A field or element
 * that may be both `null` and `undefined` comes back as `null` (Effect encodes
 * both as `null`); at the top level they are told apart. Memory (L1) hands out
 * the loader's own value, unless the namespace says `copies`, so there the difference
 * is still visible.
 *
 * @since 0.1.0
 */
import { Exit, Option, Result, Schema } from "effect"
import { CacheError, EncodeFailed, problemOf, ValueTooLarge } from "./CacheError.ts"

/**
 * What a codec is for: the values of a namespace, or failures of its loader.
 *
 * @category models
 * @since 0.1.0
 */
export type Subject = "value" | "failure"

/**
 * A value in the form that the store keeps; `size` is in bytes of UTF-8.
 *
 * @category models
 * @since 0.1.0
 */
export interface Encoded {
  readonly data: string
  readonly size: number
}

/**
 * The value forms of one namespace, or the forms of the failures that it caches.
 *
 * @category models
 * @since 0.1.0
 */
export interface ValueCodec<in out A> {
  /** Fails with `EncodeFailed`, or with `ValueTooLarge` above `maxSize` bytes. */
  readonly encode: (value: A, key: string, maxSize: number) => Exit.Exit<Encoded, CacheError>
  /** None if the document is not one of this schema. */
  readonly decode: (data: string) => Option.Option<A>
  /** Whether the schema describes this value; false if it cannot tell. */
  readonly is: (value: unknown) => value is A
}

/**
 * The codec of a namespace's values, or of its failures.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A>(
  namespace: string,
  schema: Schema.Codec<A, unknown>,
  subject: Subject = "value"
): ValueCodec<A> => {
  const codec = Schema.toCodecJson(schema)
  const encodeJson = Schema.encodeUnknownSync(codec)
  const decodeJson = Schema.decodeUnknownSync(codec)
  const isValue = Schema.is(schema)
  const tell = Option.liftThrowable(isValue)
  const of = (problem: string) => (subject === "failure" ? `the loader's failure: ${problem}` : problem)
  const allowed = Schema.decodeUnknownSync(Schema.toType(schema))
  return {
    // A schema is the user's code: it may throw, and a value's getters may.
    encode: (value, key, maxSize) => {
      const data = Result.try((): string | undefined => JSON.stringify(markUndefined(value, encodeJson(value))))
      if (Result.isFailure(data) || data.success === undefined) {
        const problem = Result.isFailure(data) ? problemOf(data.failure) : "it has no JSON form"
        return Exit.fail(new CacheError({ reason: new EncodeFailed({ namespace, key, problem: of(problem) }) }))
      }
      const size = Buffer.byteLength(data.success)
      return size > maxSize
        ? Exit.fail(new CacheError({ reason: new ValueTooLarge({ namespace, key, size, limit: maxSize }) }))
        : Exit.succeed({ data: data.success, size })
    },
    decode: Option.liftThrowable((data: string): A => {
      const json: unknown = JSON.parse(data)
      if (json === mark) return allowed(undefined)
      // Effect encodes both null and undefined as null; what is stored as null here was no undefined.
      return json === null && isValue(null) ? (null as A) : decodeJson(unmark(json))
    }),
    is: (value): value is A => Option.getOrElse(tell(value), () => false)
  }
}

/**
 * Another value like this one, by way of its document; the same one if it has none.
 *
 * @category conversions
 * @since 0.1.0
 */
export const copy = <A>(codec: ValueCodec<A>, value: A): A => {
  const encoded = codec.encode(value, "", Infinity)
  return Exit.isSuccess(encoded) ? Option.getOrElse(codec.decode(encoded.value.data), () => value) : value
}

/** `undefined` is stored as a string of one mark; strings that begin with a mark get one more. */
const mark = "\u001a"

const markUndefined = (value: unknown, json: unknown): unknown =>
  value === undefined ? mark : typeof json === "string" && json.startsWith(mark) ? mark + json : json

const unmark = (json: unknown): unknown => (typeof json === "string" && json.startsWith(mark) ? json.slice(1) : json)

/**
 * Whether a value says "there is nothing", and so has `negativeTimeToLive`:
 * `null`, `undefined` and `Option.none()`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNegative = (value: unknown): boolean =>
  value === null || value === undefined || (Option.isOption(value) && Option.isNone(value))
