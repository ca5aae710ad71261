import { assert, describe, it } from "@effect/vitest"
import {
  Arbitrary,
  BigDecimal,
  Cause,
  DateTime,
  Duration,
  Effect,
  Exit,
  HashMap,
  HashSet,
  Option,
  Schema,
  SchemaTransformation
} from "effect"
import * as fc from "fast-check"
import type { CacheError } from "../src/CacheError.ts"
import * as ValueCodec from "../src/ValueCodec.ts"
import { hasNoBackslash, isPlainName } from "./support/json.ts"

const unlimited = Number.MAX_SAFE_INTEGER

const encoded = <A>(codec: ValueCodec.ValueCodec<A>, value: A): ValueCodec.Encoded => {
  const exit = codec.encode(value, "key", unlimited)
  return Exit.isSuccess(exit) ? exit.value : assert.fail(Cause.pretty(exit.cause))
}

const roundTrip = <A>(schema: Schema.Codec<A, unknown>, value: A): A => {
  const codec = ValueCodec.make("values", schema)
  return Option.getOrThrow(codec.decode(encoded(codec, value).data))
}

/** Why a codec does not encode a value. */
const refusal = (exit: Exit.Exit<unknown, CacheError>): CacheError =>
  Option.getOrElse(Exit.findErrorOption(exit), () => assert.fail("the value was not refused with an error"))

const text = fc.oneof(
  fc.string({ unit: fc.constantFrom("\u001a", "\0", "\ud83d", "\ude00", "a", "é", "\\", '"'), maxLength: 5 }),
  fc.string({ unit: "binary" })
)
class GeneNotFound extends Schema.TaggedError<GeneNotFound>()("GeneNotFound", {
  id: Schema.Int,
  asked: Schema.Date
}) {
  override get message(): string {
    return `there is no gene ${this.id}`
  }
}
class Offline extends Schema.Error<Offline>("Offline")({ source: Schema.String }) {}

const date = fc.date({ noInvalidDate: true, min: new Date(-8.64e15), max: new Date(8.64e15) })

class Gene extends Schema.Class<Gene>("Gene")({
  id: Schema.Int,
  symbol: Schema.String,
  found: Schema.Date,
  aliases: Schema.Option(Schema.Array(Schema.String)),
  counts: Schema.ReadonlyMap(Schema.String, Schema.BigInt)
}) {
  get label(): string {
    return `${this.id} ${this.symbol}`
  }
}
const gene = fc
  .record({
    id: fc.maxSafeInteger(),
    symbol: text,
    found: date,
    aliases: fc.oneof(fc.constant(Option.none()), fc.array(text, { maxLength: 3 }).map(Option.some)),
    counts: fc.array(fc.tuple(text, fc.bigInt()), { maxLength: 3 }).map((entries) => new Map(entries))
  })
  .map((fields) => new Gene(fields))

interface Tree {
  readonly name: string
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({
  name: Schema.String,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})
const tree = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.record({
    name: text,
    children: fc.oneof({ maxDepth: 4 }, fc.constant([]), fc.array(tie("tree"), { maxLength: 2 }))
  })
})).tree
const deepTree = (depth: number): Tree => {
  let tree: Tree = { name: "leaf", children: [] }
  for (let level = 0; level < depth; level++) tree = { name: "branch", children: [tree] }
  return tree
}

const Shape = Schema.Union([
  Schema.TaggedStruct("Circle", { radius: Schema.Finite }),
  Schema.TaggedStruct("Label", { text: Schema.String, at: Schema.optionalKey(Schema.Date) })
])

/** Comes back from the store as it went in. */
const comesBack = <A>(title: string, schema: Schema.Codec<A, unknown>, values: fc.Arbitrary<A>) => {
  it(`${title} come back as they went in`, () => {
    const equal = Schema.toEquivalence(schema)
    const is = Schema.is(schema)
    const codec = ValueCodec.make("values", schema)
    fc.assert(
      fc.property(values, (value) => {
        const { data, size } = encoded(codec, value)
        assert.strictEqual(size, new TextEncoder().encode(data).length)
        const decoded = codec.decode(data)
        assert.isTrue(Option.isSome(decoded) && is(decoded.value) && equal(decoded.value, value))
      }),
      { numRuns: 300 }
    )
  })
}

const throwing = Schema.String.pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transform({
      decode: (document): string => {
        if (document !== "kept") throw new Error("cannot decode")
        return document
      },
      encode: (value): string => {
        if (value !== "kept") throw new Error("cannot encode")
        return value
      }
    })
  )
)
const slow = Schema.String.pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transformEffect({
      decode: (document: string) => Effect.as(Effect.sleep("1 hour"), document),
      encode: (value: string) => Effect.as(Effect.sleep("1 hour"), value)
    })
  )
)
/** A guard that looks before it asks. */
const Careless = Schema.declare((value): value is { readonly id: number } => (value as { id: number }).id > 0)

const Half = Schema.Class<{ readonly half: number }>("Half")({ half: Schema.Int })
class Even extends Schema.Class<Even>("Even")({ half: Schema.Int }) {
  constructor(...args: ConstructorParameters<typeof Half>) {
    super(...args)
    if (this.half === 13) throw new Error("unlucky")
  }
}

describe("ValueCodec", () => {
  comesBack("strings", Schema.String, text)
  comesBack(
    "strings that begin with the internal mark",
    Schema.String,
    text.map((rest) => `\u001a${rest}`)
  )
  comesBack("numbers", Schema.Number, fc.double())
  comesBack("dates", Schema.Date, date)
  comesBack("big numbers", Schema.BigInt, fc.bigInt())
  comesBack(
    "big decimals",
    Schema.BigDecimal,
    fc.tuple(fc.bigInt(), fc.integer({ min: -20, max: 20 })).map(([n, scale]) => BigDecimal.make(n, scale))
  )
  comesBack(
    "bytes",
    Schema.Uint8Array,
    fc.uint8Array().map((bytes) => Uint8Array.from(bytes))
  )
  comesBack(
    "durations",
    Schema.Duration,
    fc.oneof(fc.constant(Duration.infinity), fc.nat().map(Duration.millis), fc.bigInt({ min: 0n }).map(Duration.nanos))
  )
  comesBack(
    "times",
    Schema.DateTimeUtc,
    date.map((date) => DateTime.makeUnsafe(date))
  )
  comesBack(
    "maps",
    Schema.ReadonlyMap(Schema.Date, Schema.ReadonlyMap(Schema.String, Schema.BigInt)),
    fc
      .array(fc.tuple(date, fc.array(fc.tuple(text, fc.bigInt()), { maxLength: 2 })), { maxLength: 2 })
      .map((entries) => new Map(entries.map(([date, inner]) => [date, new Map(inner)] as const)))
  )
  comesBack(
    "hash maps and sets",
    Schema.HashMap(Schema.String, Schema.HashSet(Schema.Int)),
    fc
      .array(fc.tuple(text, fc.array(fc.integer(), { maxLength: 3 })), { maxLength: 3 })
      .map((entries) => HashMap.fromIterable(entries.map(([key, set]) => [key, HashSet.fromIterable(set)] as const)))
  )
  comesBack(
    "options of options",
    Schema.Option(Schema.Option(Schema.String)),
    fc.oneof(
      fc.constantFrom(Option.none(), Option.some(Option.none())),
      text.map((value) => Option.some(Option.some(value)))
    )
  )
  comesBack(
    "null, undefined and strings",
    Schema.NullishOr(Schema.String),
    fc.oneof(text, fc.constantFrom(null, undefined, "\u001a"))
  )
  comesBack("classes", Gene, gene)
  comesBack("recursive values", Tree, tree)
  comesBack(
    "unions",
    Shape,
    fc.oneof(
      fc.record({ _tag: fc.constant("Circle" as const), radius: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
      fc.record({ _tag: fc.constant("Label" as const), text, at: date }, { requiredKeys: ["_tag", "text"] })
    )
  )
  comesBack(
    "records",
    Schema.Record(Schema.String, Schema.Json),
    fc.dictionary(
      text.filter(isPlainName),
      (fc.jsonValue() as fc.Arbitrary<Schema.Json>).filter((value) => hasNoBackslash(JSON.stringify(value)))
    )
  )

  comesBack(
    "failures",
    Schema.Union([GeneNotFound, Offline, Schema.Literal("gone")]),
    fc.oneof(
      fc.record({ id: fc.maxSafeInteger(), asked: date }).map((fields) => new GeneNotFound(fields)),
      text.map((source) => new Offline({ source })),
      fc.constant("gone" as const)
    )
  )

  it.effect("whatever a schema can describe comes back as it went in", () =>
    Effect.gen(function* () {
      const schemas: ReadonlyArray<Schema.Codec<unknown>> = [
        Gene,
        Tree,
        Shape,
        Schema.Struct({
          id: Schema.Int,
          nick: Schema.optionalKey(Schema.String),
          note: Schema.NullOr(Schema.String),
          tags: Schema.HashSet(Schema.String),
          seen: Schema.optionalKey(Schema.Date)
        }),
        Schema.Tuple([Schema.Boolean, Schema.BigInt, Schema.Literals(["a", 1])]),
        Schema.Result(Schema.Option(Schema.Finite), Schema.Duration)
      ] as unknown as ReadonlyArray<Schema.Codec<unknown>>
      for (const schema of schemas) {
        const codec = ValueCodec.make("values", schema)
        const equal = Schema.toEquivalence(schema)
        const result = yield* Arbitrary.checkEffect(
          Arbitrary.schema(schema),
          (value) => Option.exists(codec.decode(encoded(codec, value).data), (decoded) => equal(decoded, value)),
          { runs: 200 }
        )
        assert.strictEqual(result._tag, "Passed", Arbitrary.formatCheckFailure(result))
      }
    })
  )

  it("an instance comes back as an instance", () => {
    const found = roundTrip(
      Gene,
      new Gene({
        id: 1,
        symbol: "TP53",
        found: new Date(0),
        aliases: Option.some(["p53"]),
        counts: new Map([["a", 10n ** 30n]])
      })
    )
    assert.instanceOf(found, Gene)
    assert.strictEqual(found.label, "1 TP53")
    assert.strictEqual(found.counts.get("a"), 10n ** 30n)
  })

  it.effect("a failure comes back as an error that fails and is caught by its tag", () =>
    Effect.gen(function* () {
      const found = roundTrip(GeneNotFound, new GeneNotFound({ id: 7, asked: new Date(0) }))
      assert.instanceOf(found, Error)
      assert.strictEqual(found.message, "there is no gene 7")
      const caught = yield* Effect.catchTag(found, "GeneNotFound", ({ asked, id }) => Effect.succeed([id, asked]))
      assert.deepStrictEqual(caught, [7, new Date(0)])
    })
  )

  it("each decoding makes a value of its own", () => {
    const codec = ValueCodec.make("values", Schema.mutable(Schema.Array(Schema.Struct({ seen: Schema.Date }))))
    const { data } = encoded(codec, [{ seen: new Date(0) }])
    const first = Option.getOrThrow(codec.decode(data))
    first[0]!.seen.setTime(1)
    first.length = 0
    assert.deepStrictEqual(Option.getOrThrow(codec.decode(data)), [{ seen: new Date(0) }])
  })

  it("undefined is told from null, and neither from what is like its form in the store", () => {
    const Anything = Schema.Union([Schema.Undefined, Schema.Null, Schema.String])
    const values = [undefined, null, "", "null", "undefined", "\u001a", "\u001a\u001a", "\\u001a"]
    assert.deepStrictEqual(
      values.map((value) => roundTrip(Anything, value)),
      values
    )
    const codec = ValueCodec.make("values", Anything)
    assert.strictEqual(new Set(values.map((value) => encoded(codec, value).data)).size, values.length)
    assert.strictEqual(roundTrip(Schema.Void, undefined), undefined)
  })

  it("undefined in the store is none to a schema that has no undefined", () => {
    const { data } = encoded(ValueCodec.make("values", Schema.UndefinedOr(Schema.String)), undefined)
    for (const schema of [Schema.String, Schema.Null, Schema.NullOr(Schema.Date), Gene]) {
      assert.deepStrictEqual(ValueCodec.make<unknown>("values", schema).decode(data), Option.none())
    }
  })

  it("a field named __proto__ comes back as a field", () => {
    const value: Record<string, number> = JSON.parse('{"__proto__":1,"a":2}')
    const found = roundTrip(Schema.Record(Schema.String, Schema.Int), value)
    assert.deepStrictEqual(Object.entries(found), Object.entries(value))
  })

  it("a document of a MiB comes back", () => {
    const value = Array.from({ length: 20_000 }, (_, id) => ({ id, text: `row ${id} é 🧬 "quoted" \u001a` }))
    const schema = Schema.Array(Schema.Struct({ id: Schema.Int, text: Schema.String }))
    assert.isAbove(encoded(ValueCodec.make("values", schema), value).size, 1024 * 1024)
    assert.deepStrictEqual(roundTrip(schema, value), value)
  })

  it("a value that the schema refuses is refused, naming namespace, key and reason", () => {
    for (const [schema, value, problem] of [
      [Schema.Int, "1", "Expected number"],
      [Schema.Int, 1.5, "Expected an integer"],
      [Schema.Struct({ a: Schema.String }), { a: 1 }, '["a"]'],
      [Schema.Undefined, null, "Expected undefined"],
      [Schema.String, undefined, "Expected string"],
      [Schema.Date, new Date(Number.NaN), "valid Date"],
      [Gene, { id: 1 }, "Gene"]
    ] as const) {
      const codec = ValueCodec.make<unknown>("genes", schema as Schema.Codec<unknown>)
      const { isRetryable, message, reason } = refusal(codec.encode(value, "TP53", unlimited))
      assert.strictEqual(reason._tag, "EncodeFailed")
      if (reason._tag === "EncodeFailed") assert.deepStrictEqual([reason.namespace, reason.key], ["genes", "TP53"])
      assert.include(message, 'namespace "genes", key TP53')
      assert.include(message, problem)
      assert.isFalse(isRetryable)
    }
  })

  it("a value without a JSON form is refused in the same way", () => {
    const cyclic: Record<string, unknown> = {}
    cyclic["self"] = cyclic
    const trap = {
      get id(): number {
        throw new Error("sprung")
      }
    }
    for (const [schema, value] of [
      [Schema.instanceOf(URL), new URL("https://example.org")],
      [Schema.Symbol, Symbol("here")],
      [Schema.Unknown, cyclic],
      [Schema.Unknown, { big: 1n }],
      [Schema.Any, { big: 1n }],
      [Schema.Any, cyclic],
      [Schema.Any, () => 1],
      [Schema.Struct({ id: Schema.Int }), trap],
      [throwing, "a"],
      [slow, "a"],
      [Tree, deepTree(100_000)]
    ] as const) {
      const codec = ValueCodec.make<unknown>("genes", schema as Schema.Codec<unknown>)
      const { reason } = refusal(codec.encode(value, "TP53", unlimited))
      assert.strictEqual(reason._tag, "EncodeFailed")
      if (reason._tag === "EncodeFailed") assert.deepStrictEqual([reason.namespace, reason.key], ["genes", "TP53"])
    }
  })

  it("a failure that cannot be encoded is said to be one", () => {
    const asValue = ValueCodec.make<unknown>("genes", Schema.Symbol)
    const asFailure = ValueCodec.make<unknown>("genes", Schema.Symbol, "failure")
    const { reason } = refusal(asFailure.encode(Symbol("gone"), "TP53", unlimited))
    assert.strictEqual(reason._tag, "EncodeFailed")
    assert.include(reason.message, "the loader's failure: ")
    assert.notInclude(refusal(asValue.encode(Symbol("gone"), "TP53", unlimited)).message, "the loader's failure")
  })

  it("tells what its schema describes", () => {
    const codec = ValueCodec.make("genes", GeneNotFound)
    assert.isTrue(codec.is(new GeneNotFound({ id: 1, asked: new Date(0) })))
    for (const other of [new Offline({ source: "a" }), { _tag: "GeneNotFound", id: 1, asked: new Date(0) }, "", null]) {
      assert.isFalse(codec.is(other))
    }
    const ids = ValueCodec.make("ids", Schema.DateFromString)
    assert.isTrue(ids.is(new Date(0)))
    assert.isFalse(ids.is("1970-01-01T00:00:00.000Z"))
  })

  it("takes what its schema cannot look at for something else", () => {
    const codec = ValueCodec.make("values", Careless)
    assert.isTrue(codec.is({ id: 1 }))
    for (const other of [null, undefined]) assert.isFalse(codec.is(other))
  })

  it("a value may be as large as the limit in bytes of UTF-8, and not one byte larger", () => {
    const codec = ValueCodec.make("texts", Schema.String)
    assert.deepStrictEqual(codec.encode("é", "k", 4), Exit.succeed({ data: '"é"', size: 4 }))
    const { message, reason } = refusal(codec.encode("🧬", "k", 5))
    assert.strictEqual(reason._tag, "ValueTooLarge")
    if (reason._tag === "ValueTooLarge") {
      assert.deepInclude(reason, { namespace: "texts", key: "k", size: 6, limit: 5 })
    }
    assert.include(message, "has 6 bytes, the limit is 5; raise maxValueSize")
    fc.assert(
      fc.property(text, (value) => {
        const { size } = encoded(codec, value)
        assert.isTrue(Exit.isSuccess(codec.encode(value, "k", size)))
        assert.strictEqual(refusal(codec.encode(value, "k", size - 1)).reason._tag, "ValueTooLarge")
      })
    )
  })

  it("a document that is not of the schema is none, never an error", () => {
    const old = ['{"id":1}', '{"id":"1","symbol":"a"}', "null", '"\\u001a"', "[]", "", "{", "undefined", "NaN", '"']
    const documents = fc.oneof(
      fc.constantFrom(...old),
      text,
      fc.json().filter(hasNoBackslash),
      text.map((value) => JSON.stringify(value))
    )
    const schemas = [
      Schema.Int,
      Schema.String,
      Schema.Date,
      Schema.BigInt,
      Gene,
      Tree,
      Shape,
      Schema.Json,
      Schema.Unknown
    ]
    for (const schema of [
      ...schemas,
      Schema.Uint8Array,
      Schema.Duration,
      Schema.Void,
      Schema.Option(Schema.Option(Gene))
    ]) {
      const codec = ValueCodec.make<unknown>("values", schema as Schema.Codec<unknown>)
      fc.assert(fc.property(documents, (data) => assert.isTrue(Option.isOption(codec.decode(data)))))
    }
    for (const data of old) assert.deepStrictEqual(ValueCodec.make("values", Gene).decode(data), Option.none())
  })

  it("a document whose decoding throws or takes time is none", () => {
    for (const [schema, data] of [
      [throwing, '"changed"'],
      [slow, '"changed"'],
      [Even, '{"half":13}'],
      [Careless, '"\\u001a"'],
      [Careless, "null"],
      [Tree, `${'{"name":"a","children":['.repeat(100_000)}${"]}".repeat(100_000)}`],
      [Tree, "[".repeat(100_000)]
    ] as const) {
      assert.deepStrictEqual(
        ValueCodec.make<unknown>("values", schema as Schema.Codec<unknown>).decode(data),
        Option.none()
      )
    }
    assert.deepStrictEqual(ValueCodec.make("values", throwing).decode('"kept"'), Option.some("kept"))
  })
})

describe("ValueCodec.isNegative", () => {
  it("is said of null, undefined and none", () => {
    for (const value of [null, undefined, Option.none()]) assert.isTrue(ValueCodec.isNegative(value))
  })

  it("is said of nothing else, however empty", () => {
    for (const value of [
      0,
      "",
      false,
      Number.NaN,
      [],
      {},
      Option.some(null),
      Option.some(Option.none()),
      { _tag: "None" }
    ]) {
      assert.isFalse(ValueCodec.isNegative(value))
    }
  })
})
