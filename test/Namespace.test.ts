import { assert, describe, it } from "@effect/vitest"
import { Cause, type Duration, Effect, Exit, Option, Schema } from "effect"
import * as fc from "fast-check"
import { CacheConfig } from "../src/CacheConfig.ts"
import { CacheError } from "../src/CacheError.ts"
import * as Namespace from "../src/Namespace.ts"

const refusal = (make: () => unknown): CacheError => {
  try {
    make()
  } catch (error) {
    assert.instanceOf(error, CacheError)
    return error
  }
  return assert.fail("nothing was refused")
}

/** A namespace as plain JavaScript would make it. */
const makeUnknown = (name: string, options: object) => Namespace.make(name, { value: Schema.Int, ...options })

class GeneNotFound extends Schema.TaggedError<GeneNotFound>()("GeneNotFound", { id: Schema.Int }) {}

/** What the gene-curation backend and the lab dashboard used, in milliseconds. */
const lifetimes = [
  ["schemas", "7 days", 604_800_000],
  ["scopes", "1 day", 86_400_000],
  ["genes", "1 hour", 3_600_000],
  ["validations", "60 minutes", 3_600_000],
  ["scoring", "30 minutes", 1_800_000],
  ["dashboard", { minutes: 10 }, 600_000]
] as const satisfies ReadonlyArray<readonly [string, Duration.Input, number]>

describe("Namespace.make", () => {
  it("takes the schema of the values, and decides the rest", () => {
    const counts = Namespace.make("counts", { value: Schema.Int })
    assert.strictEqual(counts.name, "counts")
    assert.strictEqual(counts.version, 1)
    assert.strictEqual(counts.onStoreFailure, "recover")
    assert.strictEqual(counts.loaderHardTimeout, Infinity)
    assert.strictEqual(counts.copies, false)
    assert.strictEqual(counts.error, undefined)
    assert.strictEqual(counts.failures, undefined)
    assert.deepStrictEqual(counts.policy, {})
  })

  it("takes an option that is undefined for one that is not given", () => {
    const options = { onStoreFailure: undefined, loaderHardTimeout: undefined, error: undefined, copies: undefined }
    const { copies, error, failures, loaderHardTimeout, onStoreFailure, policy } = makeUnknown("counts", options)
    assert.deepStrictEqual([onStoreFailure, loaderHardTimeout, copies], ["recover", Infinity, false])
    assert.deepStrictEqual([error, failures, policy], [undefined, undefined, {}])
  })

  it("keeps what was decided", () => {
    const genes = Namespace.make("genes", {
      value: Schema.Int,
      version: 2,
      onStoreFailure: "fail",
      loaderHardTimeout: "2 seconds",
      error: GeneNotFound,
      copies: true
    })
    assert.deepInclude(genes, { version: 2, onStoreFailure: "fail", loaderHardTimeout: 2000, copies: true, policy: {} })
    assert.strictEqual<unknown>(genes.error, GeneNotFound)
  })

  it("has keys of strings where no key schema is given", () => {
    const { key, keys } = Namespace.make("counts", { value: Schema.Int })
    assert.strictEqual<unknown>(key, Schema.String)
    assert.deepStrictEqual(keys.encode("user_1"), Exit.succeed("user_1"))
    assert.isTrue(Exit.isFailure(keys.encode(1 as unknown as string)))
  })

  it("names itself in what its codecs refuse", () => {
    const genes = Namespace.make("genes", { key: Schema.Int, value: Schema.Int })
    const error = Exit.findErrorOption(genes.keys.encode(0.5))
    assert.isTrue(Option.isSome(error) && error.value.message.startsWith('namespace "genes": '))
    const failing = Namespace.make("failing", { value: Schema.Int, error: Schema.Symbol })
    const { message } = Cause.squash(
      Option.getOrThrow(Exit.getCause(failing.failures!.encode(Symbol("gone"), "1", 100)))
    ) as CacheError
    assert.isTrue(message.startsWith('namespace "failing", key 1: '), message)
    assert.include(message, "the loader's failure: ")
  })

  it("can cache the failures that its error schema accepts, and no others", () => {
    const { failures } = Namespace.make("genes", { value: Schema.Int, error: GeneNotFound })
    const failure = new GeneNotFound({ id: 7 })
    assert.isTrue(failures?.is(failure))
    for (const other of [new Error("offline"), { _tag: "GeneNotFound", id: 7 }, "GeneNotFound", null, undefined]) {
      assert.isFalse(failures?.is(other))
    }
    const { data } = Exit.getSuccess(failures!.encode(failure, "7", 1000)).pipe(Option.getOrThrow)
    const decoded = Option.getOrThrow(failures!.decode(data))
    assert.instanceOf(decoded, GeneNotFound)
    assert.strictEqual(decoded.id, 7)
  })

  it("allows a name of whatever a pattern, a quote or a prototype may mean elsewhere", () => {
    for (const name of [
      "%",
      "_",
      "\\",
      "*",
      "?",
      "[",
      "]",
      "'",
      '"',
      "%_\\*?[]'\"",
      "🧬",
      "__proto__",
      " ",
      "a\u0001b"
    ]) {
      assert.strictEqual(makeUnknown(name, {}).name, name)
    }
  })

  it("allows a name of 255 bytes, and refuses one of 256", () => {
    assert.strictEqual(makeUnknown("a".repeat(255), {}).name.length, 255)
    assert.include(refusal(() => makeUnknown("a".repeat(256), {})).message, "256 bytes")
    assert.strictEqual(makeUnknown(`a${"é".repeat(127)}`, {}).name.length, 128)
    assert.include(refusal(() => makeUnknown("é".repeat(128), {})).message, "256 bytes")
  })

  it("refuses a name that is empty, too long or not storable, and says what is right", () => {
    for (const [name, remedy] of [
      ["", "give it 1 to 255 bytes"],
      ["a".repeat(1000), "the name has 1000 bytes of UTF-8, the limit is 255"],
      ["a\0b", "NUL"],
      ["a\ud83d", "half a surrogate pair"]
    ] as const) {
      const { isRetryable, message, reason } = refusal(() => makeUnknown(name, {}))
      assert.strictEqual(reason._tag, "InvalidNamespace")
      assert.include(message, `namespace "${name}"`)
      assert.include(message, remedy)
      assert.isFalse(isRetryable)
    }
  })

  it("accepts exactly the names that PostgreSQL can index", () => {
    const name = fc.oneof(
      fc.string({ unit: "binary", maxLength: 300, size: "max" }),
      fc.string({ unit: fc.constantFrom("\0", "a", "é", "\ud83d", "\ude00"), maxLength: 4 })
    )
    fc.assert(
      fc.property(name, (name) => {
        const storable = name.isWellFormed() && !name.includes("\0")
        if (storable && name !== "" && new TextEncoder().encode(name).length <= 255) {
          assert.strictEqual(makeUnknown(name, {}).name, name)
        } else {
          assert.strictEqual(refusal(() => makeUnknown(name, {})).reason._tag, "InvalidNamespace")
        }
      })
    )
  })

  it("keeps a version that a row can hold, and refuses any other", () => {
    for (const version of [0, 1, 2 ** 31 - 1]) assert.strictEqual(makeUnknown("genes", { version }).version, version)
    for (const version of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]) {
      const { message, reason } = refusal(() => makeUnknown("genes", { version }))
      assert.strictEqual(reason._tag, "InvalidNamespace")
      assert.strictEqual(
        message,
        `namespace "genes": version is ${version}; give a whole number from 0 to ${2 ** 31 - 1}`
      )
    }
  })

  it("keeps a loaderHardTimeout in milliseconds", () => {
    for (const [loaderHardTimeout, milliseconds] of [
      [1, 1],
      ["250", 250],
      ["2 seconds", 2000],
      [{ minutes: 1 }, 60_000],
      ["30 days", 2_592_000_000],
      ["Infinity", Infinity]
    ] as const) {
      assert.strictEqual(makeUnknown("genes", { loaderHardTimeout }).loaderHardTimeout, milliseconds)
    }
  })

  it("allows a loaderHardTimeout as long as loaderSoftTimeout, or longer", () => {
    for (const [loaderSoftTimeout, loaderHardTimeout] of [
      ["1 second", "1 second"],
      ["1 second", 1001],
      ["1 second", "Infinity"],
      ["Infinity", "1 second"]
    ] as const) {
      const { loaderHardTimeout: hard } = makeUnknown("genes", { loaderHardTimeout, loaderSoftTimeout })
      assert.isAtLeast(hard, 1000)
    }
  })

  it("refuses a loaderHardTimeout that makes no sense, and names field, value and what is right", () => {
    for (const [options, value, remedy] of [
      [{ loaderHardTimeout: 0 }, "0", "longer than zero"],
      [{ loaderHardTimeout: "0 seconds" }, '"0 seconds"', "longer than zero"],
      [{ loaderHardTimeout: -1 }, "-1", "negative"],
      [{ loaderHardTimeout: "soon" }, '"soon"', 'write it like "90 seconds"'],
      [{ loaderHardTimeout: Number.NaN }, "NaN", 'write it like "90 seconds"'],
      [{ loaderHardTimeout: null }, "null", 'write it like "90 seconds"'],
      [{ loaderHardTimeout: { lightyears: 1 } }, '{"lightyears":1}', 'write it like "90 seconds"'],
      [
        { loaderHardTimeout: 999, loaderSoftTimeout: "1 second" },
        "999",
        "must not be shorter than loaderSoftTimeout (1s)"
      ]
    ] as const) {
      const { message, reason } = refusal(() => makeUnknown("genes", options))
      assert.strictEqual(reason._tag, "InvalidPolicy")
      if (reason._tag === "InvalidPolicy") {
        assert.deepStrictEqual([reason.field, reason.value], ["loaderHardTimeout", value])
      }
      assert.isTrue(message.startsWith(`namespace "genes": loaderHardTimeout = ${value}: `), message)
      assert.include(message, remedy)
    }
  })

  it("refuses a choice that it does not have", () => {
    for (const [options, problem] of [
      [{ onStoreFailure: "explode" }, 'onStoreFailure is "explode"; give "recover" or "fail"'],
      [{ onStoreFailure: null }, 'onStoreFailure is null; give "recover" or "fail"'],
      [{ copies: "yes" }, 'copies is "yes"; give true or false'],
      [{ copies: 1 }, "copies is 1; give true or false"]
    ] as const) {
      const { message, reason } = refusal(() => makeUnknown("genes", options))
      assert.strictEqual(reason._tag, "InvalidNamespace")
      assert.strictEqual(message, `namespace "genes": ${problem}`)
    }
  })

  it("refuses a policy that makes no sense, and names field, value and what is right", () => {
    for (const [options, field, value, remedy] of [
      [{ timeToLive: -1 }, "timeToLive", "-1", "cannot be negative"],
      [{ timeToLive: Number.NaN }, "timeToLive", "NaN", 'write it like "90 seconds"'],
      [{ negativeTimeToLive: "soon" }, "negativeTimeToLive", '"soon"', 'write it like "90 seconds"'],
      [{ memoryTimeToLive: { seconds: -1 } }, "memoryTimeToLive", '{"seconds":-1}', "cannot be negative"],
      [{ maxValueSize: 0 }, "maxValueSize", "0", "a whole number above zero"],
      [{ maxValueSize: 1.5 }, "maxValueSize", "1.5", "a whole number above zero"],
      [{ timeTolive: "1 hour" }, "timeTolive", '"1 hour"', "there is no such field"],
      [{ staleIfEror: 1 }, "staleIfEror", "1", "there is no such field"]
    ] as const) {
      const { message, reason } = refusal(() => makeUnknown("genes", options))
      assert.strictEqual(reason._tag, "InvalidPolicy")
      if (reason._tag === "InvalidPolicy") assert.deepStrictEqual([reason.field, reason.value], [field, value])
      assert.isTrue(message.startsWith(`namespace "genes": ${field} = ${value}: `), message)
      assert.include(message, remedy)
    }
  })
})

describe("The lifetimes of the systems it replaces", () => {
  const policies = (config: CacheConfig["Service"], timeToLive: (name: string) => Duration.Input | undefined) =>
    lifetimes.map(([name]) => {
      const lifetime = timeToLive(name)
      const namespace = makeUnknown(name, lifetime === undefined ? {} : { timeToLive: lifetime })
      return [name, config.policyOf(namespace).timeToLive]
    })
  const expected = lifetimes.map(([name, , milliseconds]) => [name, milliseconds])

  it.effect("can be said in code", () =>
    Effect.gen(function* () {
      const config = yield* CacheConfig
      assert.deepStrictEqual(
        policies(config, (name) => lifetimes.find(([each]) => each === name)?.[1]),
        expected
      )
    }).pipe(Effect.provide(CacheConfig.layerOf({})))
  )

  it.effect("can be said in the configuration", () => {
    const namespaces = Object.fromEntries(lifetimes.map(([name, timeToLive]) => [name, { timeToLive }]))
    return Effect.gen(function* () {
      const config = yield* CacheConfig
      assert.deepStrictEqual(
        policies(config, () => undefined),
        expected
      )
    }).pipe(Effect.provide(CacheConfig.layerOf({ namespaces })))
  })

  it.effect("leave one hour to everything else, and five minutes in memory", () =>
    Effect.gen(function* () {
      const { memoryTimeToLive, timeToLive } = (yield* CacheConfig).policyOf(makeUnknown("others", {}))
      assert.deepStrictEqual([timeToLive, memoryTimeToLive], [3_600_000, 300_000])
    }).pipe(Effect.provide(CacheConfig.layerOf({})))
  )
})
