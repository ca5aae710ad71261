import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Exit, Option, Schema } from "effect"
import * as fc from "fast-check"
import { InvalidPolicy } from "../src/CacheError.ts"
import * as CachePolicy from "../src/CachePolicy.ts"

type Fields = typeof CachePolicy.CachePolicyFields.Type

const fieldsOf = (input: unknown): Fields => {
  const fields = CachePolicy.decode(input)
  return Exit.isSuccess(fields) ? fields.value : assert.fail(Cause.pretty(fields.cause))
}

const refusal = (input: unknown): InvalidPolicy => {
  const error = Option.getOrElse(Exit.findErrorOption(CachePolicy.decode(input)), () => assert.fail("not refused"))
  assert.instanceOf(error.reason, InvalidPolicy)
  return error.reason
}

const second = 1000
const hour = 3600 * second
const year = 365.25 * 24 * hour

const lifetimeFields = ["timeToLive", "negativeTimeToLive", "memoryTimeToLive"] as const

describe("CachePolicy.decode", () => {
  it("takes a lifetime in every form that Effect has for a duration", () => {
    for (const field of lifetimeFields) {
      for (const [input, milliseconds] of [
        ["90 seconds", 90 * second],
        ["1 hour", hour],
        ["0.5 seconds", 500],
        [250, 250],
        ["250", 250],
        [0, 0],
        [2_000_000n, 2],
        [[1, 500_000_000], 1500],
        [{ hours: 1, minutes: 30 }, 1.5 * hour],
        [Duration.days(7), 168 * hour],
        [Duration.infinity, Infinity],
        ["Infinity", Infinity],
        [Infinity, Infinity]
      ] as const) {
        assert.strictEqual(Duration.toMillis(fieldsOf({ [field]: input })[field]!), milliseconds)
      }
    }
  })

  it("refuses a lifetime that is none, naming field, value and what is right", () => {
    for (const field of lifetimeFields) {
      for (const [input, value] of [
        ["soon", '"soon"'],
        ["", '""'],
        ["1 lightyear", '"1 lightyear"'],
        [Number.NaN, "NaN"],
        [null, "null"],
        [true, "true"]
      ] as const) {
        assert.deepInclude(refusal({ [field]: input }), {
          field,
          value,
          problem: 'not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds'
        })
      }
    }
  })

  it("refuses an object that only looks like a duration", () => {
    for (const input of [{}, { hour: 1 }, { hours: Number.NaN }, [Number.NaN, 0], new Date(0)]) {
      assert.include(refusal({ timeToLive: input }).problem, "not a duration")
    }
  })

  it("refuses a negative lifetime", () => {
    for (const input of [
      -1,
      "-1 second",
      "-Infinity",
      -Infinity,
      -1n,
      { hours: 1, minutes: -90 },
      Duration.millis(-1)
    ]) {
      for (const field of lifetimeFields) {
        const { problem, ...reason } = refusal({ [field]: input })
        assert.strictEqual(reason.field, field)
        assert.strictEqual(problem, "a lifetime cannot be negative")
      }
    }
  })

  it("takes a size as a whole number above zero, in digits too", () => {
    for (const [input, bytes] of [
      [1, 1],
      [1024, 1024],
      ["1024", 1024],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]
    ] as const) {
      assert.strictEqual(fieldsOf({ maxValueSize: input }).maxValueSize, bytes)
    }
    for (const input of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 53, "", " ", "1 MiB", null, true, 10n]) {
      assert.deepInclude(refusal({ maxValueSize: input }), {
        field: "maxValueSize",
        value: CachePolicy.show(input),
        problem: "must be a whole number above zero"
      })
    }
  })

  it("refuses a field that does not exist, and what is no policy at all", () => {
    for (const field of ["timeTolive", "ttl", "staleIfEror", "__proto__"]) {
      const policy: unknown = JSON.parse(`{${JSON.stringify(field)}:1}`)
      assert.deepInclude(refusal(policy), { field, value: "1", problem: "there is no such field" })
    }
    for (const input of [null, undefined, 5, "1 hour", []]) {
      assert.deepInclude(refusal(input), { field: "policy", value: CachePolicy.show(input) })
    }
  })

  it("leaves out a field that is undefined", () => {
    assert.deepStrictEqual(fieldsOf({ timeToLive: undefined, maxValueSize: undefined }), {})
  })

  it("names the field that is wrong, not one beside it", () => {
    assert.strictEqual(
      refusal({ timeToLive: "1 hour", memoryTimeToLive: "soon", maxValueSize: 1 }).field,
      "memoryTimeToLive"
    )
  })

  it("never throws, whatever it is given", () => {
    const trap = {
      get timeToLive() {
        throw new Error("sprung")
      }
    }
    const anything = fc.oneof(
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }),
      fc.record({ timeToLive: fc.anything({ withBigInt: true }), maxValueSize: fc.anything({ withBigInt: true }) }),
      fc.constantFrom<unknown>(Symbol("a"), { timeToLive: Symbol("a") }, { timeToLive: trap }, () => 1)
    )
    fc.assert(
      fc.property(anything, (input) => {
        const fields = CachePolicy.decode(input)
        if (Exit.isFailure(fields))
          assert.instanceOf(Option.getOrThrow(Exit.findErrorOption(fields)).reason, InvalidPolicy)
      }),
      { examples: [[{ timeToLive: [Object.create(null), 1n] }], [{ timeToLive: 1n, maxValueSize: 1n }]] }
    )
  })
})

describe("CachePolicy.resolve", () => {
  it("has the documented defaults where nobody said otherwise", () => {
    const defaults = {
      timeToLive: hour,
      negativeTimeToLive: hour,
      memoryTimeToLive: 300 * second,
      maxValueSize: 1024 * 1024
    }
    assert.deepInclude(CachePolicy.resolve(), defaults)
    assert.deepInclude(CachePolicy.resolve({}, {}), defaults)
  })

  it("lets the later part win, field by field", () => {
    const policy = CachePolicy.resolve(
      fieldsOf({ timeToLive: 1, negativeTimeToLive: 2, memoryTimeToLive: 3 }),
      fieldsOf({ timeToLive: 10, maxValueSize: 40 }),
      fieldsOf({}),
      fieldsOf({ memoryTimeToLive: 30 })
    )
    assert.deepInclude(policy, { timeToLive: 10, negativeTimeToLive: 2, memoryTimeToLive: 30, maxValueSize: 40 })
  })

  it("takes each field from the last part that has it", () => {
    const lifetime = fc.nat().map(Duration.millis)
    const part: fc.Arbitrary<Fields> = fc.record(
      {
        timeToLive: lifetime,
        negativeTimeToLive: lifetime,
        memoryTimeToLive: lifetime,
        maxValueSize: fc.integer({ min: 1 })
      },
      { requiredKeys: [] }
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 4 }), (parts) => {
        const policy = CachePolicy.resolve(...parts)
        for (const field of lifetimeFields) {
          const said = parts.findLast((each) => Object.hasOwn(each, field))?.[field]
          if (said !== undefined) assert.strictEqual(policy[field], Duration.toMillis(said))
        }
        const size = parts.findLast((each) => Object.hasOwn(each, "maxValueSize"))?.maxValueSize
        if (size !== undefined) assert.strictEqual(policy.maxValueSize, size)
      })
    )
  })

  it("gives negative answers the lifetime of the others unless they have their own", () => {
    assert.strictEqual(CachePolicy.resolve(fieldsOf({ timeToLive: "2 hours" })).negativeTimeToLive, 2 * hour)
    assert.strictEqual(
      CachePolicy.resolve(fieldsOf({ negativeTimeToLive: "1 second" }), fieldsOf({ timeToLive: "2 hours" }))
        .negativeTimeToLive,
      second
    )
    assert.strictEqual(CachePolicy.resolve(fieldsOf({ negativeTimeToLive: 0 })).negativeTimeToLive, 0)
  })

  it("takes a thousand years for ever", () => {
    for (const field of lifetimeFields) {
      const resolved = (input: Duration.Input) => CachePolicy.resolve(fieldsOf({ [field]: input }))[field]
      assert.strictEqual(resolved(1000 * year), Infinity)
      assert.strictEqual(resolved("365250 days"), Infinity)
      assert.strictEqual(resolved(Number.MAX_VALUE), Infinity)
      assert.strictEqual(resolved(Duration.infinity), Infinity)
      assert.strictEqual(resolved(1000 * year - 1), 1000 * year - 1)
      assert.strictEqual(resolved("999 weeks"), 999 * 168 * hour)
    }
  })
})

describe("CachePolicy's schemas", () => {
  it("give back what they made, when it is decoded again", () => {
    for (const [schema, input] of [
      [CachePolicy.Lifetime, "1 hour"],
      [CachePolicy.Lifetime, Infinity],
      [CachePolicy.Interval, 1]
    ] as const) {
      const decoded = Schema.decodeUnknownSync(schema)(input)
      assert.deepStrictEqual(Schema.decodeUnknownSync(schema)(Schema.encodeSync(schema)(decoded)), decoded)
    }
    assert.strictEqual(Schema.encodeSync(CachePolicy.Positive)(Schema.decodeUnknownSync(CachePolicy.Positive)("7")), 7)
  })

  it("refuse an interval of nothing", () => {
    for (const input of [0, "0 seconds", "-1 second", "soon"]) {
      assert.isTrue(Exit.isFailure(Schema.decodeUnknownExit(CachePolicy.Interval)(input)))
    }
  })
})
