import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Option, Schema } from "effect"
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
    assert.deepStrictEqual(counts.policy, {})
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
