import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Option, Schema, SchemaTransformation } from "effect"
import * as fc from "fast-check"
import type { CacheError } from "../src/CacheError.ts"
import * as KeyCodec from "../src/KeyCodec.ts"
import { hasNoBackslash, isPlainName } from "./support/json.ts"

const textOf = <K>(codec: KeyCodec.KeyCodec<K>, key: K): string => {
  const text = codec.encode(key)
  return Exit.isSuccess(text) ? text.value : assert.fail(Cause.pretty(text.cause))
}

/** What a codec says of a key that its schema refuses. */
const refusal = (text: Exit.Exit<unknown, CacheError>): CacheError =>
  Option.getOrElse(Exit.findErrorOption(text), () => assert.fail("the key was not refused with an error"))

const isStorable = (text: string) => text.isWellFormed() && !text.includes("\0")

// Small worlds, so that equal keys and near misses come up often.
const text = fc.oneof(
  fc.constantFrom("", "1", "NaN", "null", "a", "[]", '"1"', "%_\\*?[]'", "__proto__", "user_1_data"),
  fc.string({ unit: fc.constantFrom("\0", "\u001a", "0", "1", "\ud83d", "\ude00", "é", '"', ",", "\\"), maxLength: 4 }),
  fc.string({ unit: "binary" })
)
const integer = fc.oneof(fc.integer({ min: -2, max: 2 }), fc.maxSafeInteger())
const double = fc.oneof(fc.constantFrom(0, -0, 1, 1e21, 5e-324, Number.MAX_VALUE), fc.double())
const date = fc.oneof(
  fc.constantFrom(new Date(0), new Date(1)),
  fc.date({ noInvalidDate: true, min: new Date(-8.64e15), max: new Date(8.64e15) })
)
/** The same fields in any order. */
const anyOrder = <T extends object>(record: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  record.chain((fields) =>
    fc
      .shuffledSubarray(Object.entries(fields), { minLength: Object.keys(fields).length })
      .map((entries) => Object.fromEntries(entries) as T)
  )

const Slug = Schema.String.check(Schema.isMaxLength(40)).pipe(Schema.brand("Slug"))

class Locus extends Schema.Class<Locus>("Locus")({ chromosome: Schema.String, start: Schema.Int }) {}

interface Path {
  readonly name: string
  readonly parent: Path | null
}
const Path = Schema.Struct({
  name: Schema.String,
  parent: Schema.NullOr(Schema.suspend((): Schema.Codec<Path> => Path))
})
const path = fc.letrec<{ path: Path }>((tie) => ({
  path: fc.record({ name: text, parent: fc.option(tie("path"), { maxDepth: 3 }) })
})).path

const Search = Schema.Struct({
  text: Schema.String,
  page: Schema.optionalKey(Schema.Int),
  "10": Schema.Boolean,
  ["__proto__"]: Schema.optionalKey(Schema.Int)
})
const search: fc.Arbitrary<typeof Search.Type> = anyOrder(
  fc.record({ text, page: integer, "10": fc.boolean(), ["__proto__"]: integer }, { requiredKeys: ["text", "10"] })
)

/** The laws of every key schema: equal keys meet, different keys never do, each comes back, and memory agrees. */
const obeysTheLaws = <K>(title: string, schema: Schema.Codec<K, unknown>, keys: fc.Arbitrary<K>) => {
  it(`${title}: equal keys meet, different keys never do, and each comes back`, () => {
    const codec = KeyCodec.make("keys", schema)
    const equal = Schema.toEquivalence(schema)
    fc.assert(
      fc.property(keys, keys, (a, b) => {
        const [inA, inB] = [textOf(codec, a), textOf(codec, b)]
        assert.strictEqual(inA === inB, equal(a, b))
        assert.strictEqual(codec.identify(a) === codec.identify(b), equal(a, b))
        assert.isTrue(isStorable(inA))
        assert.strictEqual<unknown>(codec.idOf(inA), unsigned(codec.identify(a)))
        assert.strictEqual(codec.textOf(codec.idOf(inA)), inA)
        const decoded = codec.decode(inA)
        assert.isTrue(Option.isSome(decoded) && equal(decoded.value, a))
      }),
      { numRuns: 500 }
    )
  })
}

/** A `Map` looks up `-0` as `0`. */
const unsigned = (id: unknown) => (id === 0 ? 0 : id)

describe("KeyCodec", () => {
  obeysTheLaws("strings", Schema.String, text)
  obeysTheLaws(
    "branded strings",
    Slug,
    text.filter((slug) => slug.length <= 40).map((slug) => Slug.make(slug))
  )
  obeysTheLaws("whole numbers", Schema.Int, integer)
  obeysTheLaws(
    "finite numbers",
    Schema.Finite,
    double.filter((n) => Number.isFinite(n))
  )
  obeysTheLaws("numbers with NaN and infinities", Schema.Number, double)
  obeysTheLaws("booleans", Schema.Boolean, fc.boolean())
  obeysTheLaws("words", Schema.Literals(["a", "b", "1"]), fc.constantFrom("a", "b", "1"))
  obeysTheLaws(
    "words and numbers",
    Schema.Literals(["a", "1", 1, "true", true]),
    fc.constantFrom("a", "1", 1, "true", true)
  )
  obeysTheLaws(
    "strings or numbers",
    Schema.Union([Schema.String, Schema.Int]),
    fc.oneof(text, integer, integer.map(String))
  )
  obeysTheLaws("strings or null", Schema.NullOr(Schema.String), fc.oneof(text, fc.constantFrom(null, "null")))
  obeysTheLaws("structs", Search, search)
  obeysTheLaws(
    "structs with a field that may be undefined",
    Schema.Struct({ a: Schema.optional(Schema.Int) }),
    fc.oneof(fc.constantFrom({}, { a: undefined }), fc.record({ a: integer }))
  )
  obeysTheLaws(
    "records",
    Schema.Record(Schema.String, Schema.Int),
    anyOrder(fc.dictionary(text.filter(isPlainName), integer, { maxKeys: 4 }))
  )
  obeysTheLaws("tuples", Schema.Tuple([Schema.String, Schema.String]), fc.tuple(text, text))
  obeysTheLaws("arrays", Schema.Array(Schema.String), fc.array(text, { maxLength: 3 }))
  obeysTheLaws("dates", Schema.Date, date)
  obeysTheLaws("dates from strings", Schema.DateFromString, date)
  obeysTheLaws("big numbers", Schema.BigInt, fc.oneof(fc.bigInt({ min: -2n, max: 2n }), fc.bigInt()))
  obeysTheLaws(
    "options of options",
    Schema.Option(Schema.Option(Schema.String)),
    fc.oneof(
      fc.constantFrom(Option.none(), Option.some(Option.none())),
      text.map((value) => Option.some(Option.some(value)))
    )
  )
  obeysTheLaws(
    "template literals",
    Schema.TemplateLiteral(["user_", Schema.Int, "_data"]),
    integer.map((n) => `user_${n}_data` as const)
  )
  obeysTheLaws(
    "classes",
    Locus,
    fc.record({ chromosome: text, start: integer }).map((fields) => new Locus(fields))
  )
  obeysTheLaws("recursive structs", Path, path)
  obeysTheLaws(
    "bytes",
    Schema.Uint8Array,
    fc.uint8Array({ maxLength: 3 }).map((bytes) => Uint8Array.from(bytes))
  )

  it("writes string keys as they are, so that they can be read and matched", () => {
    for (const [schema, key, expected] of [
      [Schema.String, "user_1_data", "user_1_data"],
      [Schema.String, "%_\\*?[]'\"", "%_\\*?[]'\""],
      [Schema.String, "", ""],
      [Schema.String, "1", "1"],
      [Slug, Slug.make("a b"), "a b"],
      [Schema.Literals(["a", "b"]), "a", "a"],
      [Schema.TemplateLiteral(["user_", Schema.Int]), "user_1", "user_1"],
      [Schema.Date, new Date(0), "1970-01-01T00:00:00.000Z"],
      [Schema.BigInt, 12n, "12"]
    ] as const) {
      assert.strictEqual(textOf(KeyCodec.make<unknown>("keys", schema as Schema.Codec<unknown>), key), expected)
    }
  })

  it("writes every other key as canonical JSON", () => {
    for (const [schema, key, expected] of [
      [Schema.Int, 1, "1"],
      [Schema.Number, Number.NaN, '"NaN"'],
      [Schema.NullOr(Schema.String), "a", '"a"'],
      [Search, { text: "é", page: 1, "10": true }, '{"10":true,"page":1,"text":"é"}'],
      [Schema.Array(Schema.Json), [{ b: { d: 1, c: 2 }, a: 3 }], '[{"a":3,"b":{"c":2,"d":1}}]']
    ] as const) {
      assert.strictEqual(textOf(KeyCodec.make<unknown>("keys", schema as Schema.Codec<unknown>), key), expected)
    }
  })

  it("equal keys meet whatever the order of their fields", () => {
    const record = fc.dictionary(text, integer, { minKeys: 2, maxKeys: 4 })
    const ofRecord = KeyCodec.make("keys", Schema.Record(Schema.String, Schema.Int))
    const ofJson = KeyCodec.make("keys", Schema.Json)
    fc.assert(
      fc.property(
        record.chain((fields) => fc.tuple(fc.constant(fields), anyOrder(fc.constant(fields)))),
        ([a, b]) => {
          assert.strictEqual(textOf(ofRecord, a), textOf(ofRecord, b))
          assert.strictEqual(textOf(ofJson, [{ a }]), textOf(ofJson, [{ a: b }]))
        }
      )
    )
    const ofSearch = KeyCodec.make("keys", Search)
    fc.assert(
      fc.property(
        search.chain((fields) => fc.tuple(fc.constant(fields), anyOrder(fc.constant(fields)))),
        ([a, b]) => {
          assert.strictEqual(textOf(ofSearch, a), textOf(ofSearch, b))
        }
      )
    )
  })

  it("never takes the number 1 for the string 1", () => {
    const codec = KeyCodec.make("keys", Schema.Union([Schema.String, Schema.Int]))
    assert.deepStrictEqual(codec.decode(textOf(codec, "1")), Option.some<string | number>("1"))
    assert.deepStrictEqual(codec.decode(textOf(codec, 1)), Option.some<string | number>(1))
  })

  it("keeps a field named __proto__ a field", () => {
    const codec = KeyCodec.make("keys", Schema.Record(Schema.String, Schema.Int))
    const key: Record<string, number> = JSON.parse('{"z":1,"__proto__":2}')
    assert.strictEqual(textOf(codec, key), '{"__proto__":2,"z":1}')
    assert.isTrue(Object.hasOwn(Option.getOrThrow(codec.decode(textOf(codec, key))), "__proto__"))
  })

  it("leaves out what the schema does not know of", () => {
    const codec = KeyCodec.make("keys", Schema.Struct({ id: Schema.Int }))
    const found = { id: 1, foundAt: new Date(0) }
    assert.strictEqual(textOf(codec, found), textOf(codec, { id: 1 }))
  })

  it("takes -0 for 0, in memory as in the store", () => {
    for (const schema of [Schema.Int, Schema.Finite, Schema.Number]) {
      const codec = KeyCodec.make("keys", schema)
      assert.strictEqual(textOf(codec, -0), textOf(codec, 0))
      assert.isTrue(new Map([[codec.identify(0), true]]).has(codec.identify(-0)))
    }
  })

  it("refuses a key that its schema refuses, and names namespace and reason", () => {
    for (const [schema, key, problem] of [
      [Schema.String, 1, "Expected string"],
      [Schema.Int, 1.5, "Expected an integer"],
      [Schema.Int, "1", "Expected number"],
      [Schema.Finite, Number.NaN, "finite"],
      [Schema.NonEmptyString, "", "length of at least 1"],
      [Search, { text: 1, "10": true }, '["text"]'],
      [Schema.Date, new Date(Number.NaN), "valid Date"],
      [Schema.Symbol, Symbol("here"), "not registered"],
      [Schema.instanceOf(URL), new URL("https://example.org"), "Expected JSON value"]
    ] as const) {
      const codec = KeyCodec.make<unknown>("genes", schema as Schema.Codec<unknown>)
      const { isRetryable, message, reason } = refusal(codec.encode(key))
      assert.strictEqual(reason._tag, "InvalidKey")
      if (reason._tag === "InvalidKey") assert.strictEqual(reason.namespace, "genes")
      assert.include(message, problem)
      assert.isFalse(isRetryable)
    }
  })

  describe("wild keys", () => {
    const cyclic: Record<string, unknown> = { id: 1 }
    cyclic["self"] = cyclic
    const trap = {
      get id(): number {
        throw new Error("sprung")
      }
    }
    const wild = fc.oneof(
      fc.constantFrom<unknown>(
        undefined,
        null,
        Symbol("a"),
        Symbol.iterator,
        cyclic,
        trap,
        () => 1,
        new Map(),
        10n ** 30n
      ),
      fc.constantFrom<unknown>(new Date(Number.NaN), new Proxy({}, { ownKeys: () => assert.fail("looked at") })),
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSparseArray: true })
    )
    const schemas: Record<string, Schema.Codec<unknown, unknown>> = {
      string: Schema.String,
      int: Schema.Int,
      number: Schema.Number,
      struct: Schema.Struct({ id: Schema.Int }),
      record: Schema.Record(Schema.String, Schema.Json),
      json: Schema.Json,
      unknown: Schema.Unknown,
      union: Schema.Union([Schema.String, Schema.Struct({ id: Schema.Date })]),
      class: Locus,
      symbol: Schema.Symbol
    }

    it("never make a lookup throw", () => {
      for (const [name, schema] of Object.entries(schemas)) {
        const codec = KeyCodec.make<unknown>(name, schema)
        fc.assert(fc.property(wild, (key) => void codec.identify(key)))
      }
    })

    it("are refused with InvalidKey, or can be kept", () => {
      for (const [name, schema] of Object.entries(schemas)) {
        const codec = KeyCodec.make<unknown>(name, schema)
        fc.assert(
          fc.property(wild, (key) => {
            const text = codec.encode(key)
            if (Exit.isSuccess(text)) assert.isTrue(isStorable(text.value))
            else assert.strictEqual(refusal(text).reason._tag, "InvalidKey")
          })
        )
      }
    })

    it("are refused with InvalidKey when looking at them throws", () => {
      const codec = KeyCodec.make("genes", Schema.Struct({ id: Schema.Int }))
      assert.strictEqual(codec.identify(trap), undefined)
      const { message, reason } = refusal(codec.encode(trap))
      assert.strictEqual(reason._tag, "InvalidKey")
      assert.include(message, "sprung")
    })

    it("are refused with InvalidKey when a schema of any shape lets them in and JSON does not", () => {
      const codec = KeyCodec.make<unknown>("genes", Schema.Any)
      for (const key of [undefined, cyclic, { id: 1n }, () => 1, trap]) {
        assert.strictEqual(codec.identify(key), undefined)
        assert.strictEqual(refusal(codec.encode(key)).reason._tag, "InvalidKey")
      }
    })

    it("are refused with InvalidKey when their encoding throws or takes time", () => {
      const throwing = Schema.String.pipe(
        Schema.decodeTo(
          Schema.String,
          SchemaTransformation.transform({
            decode: (encoded) => encoded,
            encode: (): string => {
              throw new Error("no form")
            }
          })
        )
      )
      const slow = Schema.String.pipe(
        Schema.decodeTo(
          Schema.String,
          SchemaTransformation.transformEffect({
            decode: (encoded: string) => Effect.succeed(encoded),
            encode: (key: string) => Effect.as(Effect.sleep("1 hour"), key)
          })
        )
      )
      for (const schema of [throwing, slow]) {
        const codec = KeyCodec.make("genes", schema)
        assert.strictEqual(codec.identify("a"), undefined)
        assert.strictEqual(refusal(codec.encode("a")).reason._tag, "InvalidKey")
      }
    })
  })

  it("answers none to a text that is no key of its schema, and never throws", () => {
    const Picky = Schema.String.pipe(
      Schema.decodeTo(
        Schema.String,
        SchemaTransformation.transform({
          decode: (encoded): string => {
            if (encoded.startsWith("1")) throw new Error("no more")
            return encoded
          },
          encode: (key) => key
        })
      )
    )
    const texts = fc.oneof(
      text,
      fc.json().filter(hasNoBackslash),
      fc.constantFrom("1", "{", "[1", '{"id":1}', "\u001a", "\u001a0000")
    )
    for (const schema of [
      Schema.Int,
      Schema.Struct({ id: Schema.Int }),
      Schema.Date,
      Schema.BigInt,
      Search,
      Locus,
      Picky
    ]) {
      const codec = KeyCodec.make<unknown>("keys", schema as Schema.Codec<unknown>)
      fc.assert(fc.property(texts, (text) => assert.isTrue(Option.isOption(codec.decode(text)))))
    }
    assert.deepStrictEqual(KeyCodec.make("keys", Schema.Int).decode("1.5"), Option.none())
    assert.deepStrictEqual(KeyCodec.make("keys", Schema.Struct({ id: Schema.Int })).decode("{"), Option.none())
  })
})
