/**
 * How a namespace's key becomes the text that the store keeps and the id that
 * memory looks up.
 *
 * - **text**, the key in L2, in messages and in patterns. Where the key schema
 *   encodes to a string it is that string, so that `psql` shows `user_1_data`
 *   and not `"user_1_data"`; else it is canonical JSON (object fields sorted).
 *   Which of the two is decided once, from the schema, so no string key can be
 *   mistaken for the JSON of another. NUL and lone surrogates, which PostgreSQL
 *   cannot hold in a `text`, are escaped.
 * - **id**, the key in L1. Plain strings and numbers are looked up as they are,
 *   without being checked or encoded: only keys that were checked when they
 *   were stored can be found. Every other key is looked up by its text.
 *
 * Two keys are the same key when their encodings are the same, and only then. That
 * is for the schema to decide: fields may come in any order, but two sets or maps
 * meet only if their elements were added in the same order, `-0` and `0` are one
 * key, and so are `1n` and `"1"` in a union of bigints and strings, because Effect
 * encodes both as `"1"`.
 *
 * @since 0.1.0
 */
import { Exit, Option, Result, Schema, SchemaAST } from "effect"
import { CacheError, InvalidKey, problemOf } from "./CacheError.ts"
import type { KeyText } from "./CacheStore.ts"
import { escapeKeyText, unescapeKeyText } from "./JsonText.ts"
import type { KeyId } from "./MemoryCache.ts"

/**
 * The key forms of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyCodec<in out K> {
  /** The id under which memory knows the key; `undefined` if the schema refuses it. */
  readonly identify: (key: K) => KeyId | undefined
  /** The key's text; fails with `InvalidKey`. */
  readonly encode: (key: K) => Exit.Exit<KeyText, CacheError>
  /** The key of a text; none if it does not decode. */
  readonly decode: (text: KeyText) => Option.Option<K>
  /** The id of a text that `encode` made. */
  readonly idOf: (text: KeyText) => KeyId
  /** The text of an id that `idOf` made. */
  readonly textOf: (id: KeyId) => KeyText
}

/**
 * The codec of a namespace's keys.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <K>(namespace: string, schema: Schema.Codec<K, unknown>): KeyCodec<K> => {
  const codec = Schema.toCodecJson(schema)
  const encodeJson = Schema.encodeUnknownSync(codec)
  const decodeJson = Schema.decodeUnknownSync(codec)
  const textual = isTextual(SchemaAST.toEncoded(codec.ast))

  // A schema is the user's code: it may throw, and a key's getters may.
  const encode = (key: K): Exit.Exit<KeyText, CacheError> => {
    const text = Result.try(() => (textual ? escapeKeyText(encodeJson(key) as string) : canonical(encodeJson(key))))
    return Result.isSuccess(text) && typeof text.success === "string"
      ? Exit.succeed(text.success)
      : Exit.fail(refused(namespace, Result.isSuccess(text) ? "it has no JSON form" : problemOf(text.failure)))
  }
  const decode = Option.liftThrowable((text: KeyText) => decodeJson(textual ? unescapeKeyText(text) : JSON.parse(text)))

  switch (plain(codec.ast)) {
    case "string":
      return {
        identify: (key) => key as KeyId,
        encode,
        decode,
        idOf: unescapeKeyText,
        textOf: (id) => escapeKeyText(id as string)
      }
    case "number":
      return { identify: (key) => key as KeyId, encode, decode, idOf: Number, textOf: JSON.stringify }
    case undefined:
      return {
        identify: (key) => {
          const text = encode(key)
          return Exit.isSuccess(text) ? text.value : undefined
        },
        encode,
        decode,
        idOf: (text) => text,
        textOf: (id) => id as KeyText
      }
  }
}

/** Keys that are their own encoding: neither the schema nor its JSON codec transforms them. */
const plain = (ast: SchemaAST.AST): "string" | "number" | undefined => {
  if (ast.encoding !== undefined) return undefined
  return SchemaAST.isString(ast) ? "string" : SchemaAST.isNumber(ast) ? "number" : undefined
}

const isTextual = (encoded: SchemaAST.AST): boolean =>
  SchemaAST.isString(encoded) ||
  SchemaAST.isTemplateLiteral(encoded) ||
  (SchemaAST.isLiteral(encoded) && typeof encoded.literal === "string") ||
  (SchemaAST.isUnion(encoded) && encoded.types.every(isTextual))

const canonical = (json: unknown): string | undefined => JSON.stringify(sorted(json))

const sorted = (json: unknown): unknown => {
  if (Array.isArray(json)) return json.map(sorted)
  if (typeof json !== "object" || json === null) return json
  const entries = Object.entries(json).map(([field, value]) => [field, sorted(value)] as const)
  // Object.fromEntries defines even "__proto__" as a field of its own.
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

const refused = (namespace: string, problem: string) =>
  new CacheError({ reason: new InvalidKey({ namespace, problem }) })
