import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Exit, Option, Schema } from "effect"
import * as fc from "fast-check"
import { type CacheError, InvalidPolicy } from "../src/CacheError.ts"
import * as CachePolicy from "../src/CachePolicy.ts"
import * as Setting from "../src/Setting.ts"

type Fields = typeof CachePolicy.CachePolicyFields.Type

const fieldsOf = (input: unknown): Fields => {
  const fields = CachePolicy.decode(input)
  return Exit.isSuccess(fields) ? fields.value : assert.fail(Cause.pretty(fields.cause))
}

const refusalOf = (exit: Exit.Exit<unknown, CacheError>): InvalidPolicy => {
  const error = Option.getOrElse(Exit.findErrorOption(exit), () => assert.fail("not refused"))
  assert.instanceOf(error.reason, InvalidPolicy)
  return error.reason
}

const refusal = (input: unknown): InvalidPolicy => refusalOf(CachePolicy.decode(input))

const second = 1000
const hour = 3600 * second
const year = 365.25 * 24 * hour

const lifetimeFields = [
  "timeToLive",
  "negativeTimeToLive",
  "memoryTimeToLive",
  "staleWhileRevalidate",
  "staleIfError",
  "failureBackoff",
  "failureTimeToLive"
] as const

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

  it("takes a fraction in digits too, each field within its own bounds", () => {
    for (const [field, taken, refused, problem] of [
      [
        "earlyRefresh",
        [0.8, "0.8", Number.MIN_VALUE, 1 - Number.EPSILON],
        [0, 1, "1", -0.5, 80],
        "must be a fraction of the lifetime above 0 and below 1, such as 0.8"
      ],
      [
        "earlyRefreshBeta",
        [0, "0", 1, "1.5", 1e9],
        [-1, "-1", -Number.MIN_VALUE],
        "must be a number of 0 or more; 0 is off, 1 is usual, more refreshes earlier"
      ],
      ["jitter", [0, "0", 0.05, "0.05", 1], [-0.1, 1.1, "5"], "must be a fraction from 0 to 1, such as 0.05"]
    ] as const) {
      for (const input of taken) assert.strictEqual(fieldsOf({ [field]: input })[field], Number(input))
      for (const input of [...refused, "", " ", "80%", Number.NaN, Infinity, "Infinity", null, true, 1n, [0.5]]) {
        assert.deepInclude(refusal({ [field]: input }), { field, value: CachePolicy.show(input), problem })
      }
    }
  })

  it("takes a soft timeout above zero", () => {
    const decided = (input: unknown) => CachePolicy.resolve(fieldsOf({ loaderSoftTimeout: input })).loaderSoftTimeout
    assert.deepStrictEqual(["200 millis", 1, "Infinity", Duration.infinity].map(decided), [200, 1, Infinity, Infinity])
    for (const input of [0, "0", "0 seconds"]) {
      assert.deepInclude(refusal({ loaderSoftTimeout: input }), {
        field: "loaderSoftTimeout",
        value: CachePolicy.show(input),
        problem: "must be longer than zero"
      })
    }
    assert.strictEqual(refusal({ loaderSoftTimeout: -1 }).problem, "a lifetime cannot be negative")
    assert.include(refusal({ loaderSoftTimeout: "soon" }).problem, "not a duration")
  })

  it("takes one of two ways to write to the store", () => {
    for (const input of ["awaited", "background"]) {
      assert.strictEqual(fieldsOf({ storeWrites: input }).storeWrites, input)
    }
    for (const input of ["Awaited", "", "sync", true, 0, null]) {
      assert.deepInclude(refusal({ storeWrites: input }), {
        field: "storeWrites",
        value: CachePolicy.show(input),
        problem: 'must be "awaited" or "background"'
      })
    }
  })

  it("takes a lease that ends, and none at all", () => {
    for (const field of ["leaseDuration", "leaseWait"] as const) {
      const decided = (input: unknown) => CachePolicy.resolve(fieldsOf({ [field]: input }))[field]
      assert.deepStrictEqual(["3 seconds", "20", 0, Duration.zero, "900 days"].map(decided), [
        3000,
        20,
        0,
        0,
        900 * 86_400_000
      ])
      for (const input of ["Infinity", Infinity, Duration.infinity, "1000000 days"]) {
        assert.deepInclude(refusal({ [field]: input }), {
          field,
          value: CachePolicy.show(input),
          problem: "must end: a load that hangs would be waited for for good"
        })
      }
      assert.strictEqual(refusal({ [field]: -1 }).problem, "a lifetime cannot be negative")
      assert.strictEqual(refusal({ [field]: "-1 second" }).problem, "a lifetime cannot be negative")
      assert.include(refusal({ [field]: "soon" }).problem, "not a duration")
    }
  })

  it("leaves the hard timeout to the namespace's code", () => {
    assert.deepInclude(refusal({ loaderHardTimeout: 1 }), {
      field: "loaderHardTimeout",
      problem: "there is no such field"
    })
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
    assert.deepStrictEqual(fieldsOf({ timeToLive: undefined, maxValueSize: undefined, storeWrites: undefined }), {})
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
      maxValueSize: 1024 * 1024,
      staleWhileRevalidate: 0,
      staleIfError: 600 * second,
      failureBackoff: 10 * second,
      failureTimeToLive: 0,
      loaderSoftTimeout: Infinity,
      earlyRefresh: 1,
      earlyRefreshBeta: 0,
      jitter: 0.05,
      storeWrites: "awaited",
      leaseDuration: 10 * second,
      leaseWait: 5 * second
    } as const
    assert.deepStrictEqual(CachePolicy.resolve(), defaults)
    assert.deepStrictEqual(CachePolicy.resolve({}, {}), defaults)
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
        maxValueSize: fc.integer({ min: 1 }),
        staleWhileRevalidate: lifetime,
        staleIfError: lifetime,
        failureBackoff: lifetime,
        failureTimeToLive: lifetime,
        loaderSoftTimeout: lifetime,
        earlyRefresh: fc.constantFrom(0.1, 0.5, 0.9),
        earlyRefreshBeta: fc.constantFrom(0, 1, 2),
        jitter: fc.constantFrom(0, 0.5, 1),
        storeWrites: fc.constantFrom("awaited", "background"),
        leaseDuration: lifetime,
        leaseWait: lifetime
      },
      { requiredKeys: [] }
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 4 }), (parts) => {
        const policy = CachePolicy.resolve(...parts)
        for (const field of Object.keys(policy) as ReadonlyArray<keyof CachePolicy.CachePolicy>) {
          const said = parts.findLast((each) => Object.hasOwn(each, field))?.[field]
          if (said === undefined) continue
          assert.strictEqual(policy[field], Duration.isDuration(said) ? Duration.toMillis(said) : said)
        }
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
    for (const field of [...lifetimeFields, "loaderSoftTimeout"] as const) {
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

describe("CachePolicy.decodeHardTimeout", () => {
  const hard = (input: unknown, policy: CachePolicy.CachePolicyInput = {}) =>
    CachePolicy.decodeHardTimeout(input, fieldsOf(policy), "genes")

  it("gives milliseconds, without an end where there is none", () => {
    for (const [input, milliseconds] of [
      ["3 seconds", 3000],
      [1, 1],
      [undefined, Infinity],
      ["Infinity", Infinity],
      [Duration.infinity, Infinity]
    ] as const) {
      assert.deepStrictEqual(hard(input), Exit.succeed(milliseconds))
    }
  })

  it("refuses what is no length of time above zero", () => {
    for (const [input, problem] of [
      [0, "must be longer than zero"],
      [-1, "a lifetime cannot be negative"],
      ["soon", 'not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds'],
      [null, 'not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds']
    ] as const) {
      assert.deepInclude(refusalOf(hard(input)), {
        namespace: "genes",
        field: "loaderHardTimeout",
        value: CachePolicy.show(input),
        problem
      })
    }
  })

  it("refuses one that is shorter than the soft timeout, which would never apply", () => {
    assert.strictEqual(
      refusalOf(hard("1 second", { loaderSoftTimeout: "2 seconds" })).message,
      'namespace "genes": loaderHardTimeout = "1 second": must not be shorter than loaderSoftTimeout (2s), which would never apply'
    )
    assert.strictEqual(refusalOf(hard(0, { loaderSoftTimeout: 2 })).problem, "must be longer than zero")
    assert.deepStrictEqual(hard(2000, { loaderSoftTimeout: "2 seconds" }), Exit.succeed(2000))
    assert.deepStrictEqual(hard(2001, { loaderSoftTimeout: "2 seconds" }), Exit.succeed(2001))
    assert.deepStrictEqual(hard(undefined, { loaderSoftTimeout: "2 seconds" }), Exit.succeed(Infinity))
    assert.deepStrictEqual(hard(1, { loaderSoftTimeout: "Infinity" }), Exit.succeed(1))
  })
})

describe("CachePolicy.jittered", () => {
  const fraction = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.05, 0.5, 1))
  const lifetime = fc.oneof(fc.nat(100), fc.maxSafeNat(), fc.double({ min: 0, max: 1e15, noNaN: true }))

  it("shortens a lifetime by at most that fraction, and never lengthens it", () => {
    fc.assert(
      fc.property(lifetime, fraction, fraction, (lifetime, jitter, random) => {
        const shortened = CachePolicy.jittered(lifetime, jitter, random)
        assert.isAtLeast(shortened, (1 - jitter) * lifetime)
        assert.isAtMost(shortened, lifetime)
      })
    )
  })

  it("shortens more, the larger the random number is", () => {
    fc.assert(
      fc.property(lifetime, fraction, fraction, fraction, (lifetime, jitter, one, other) => {
        const [less, more] = [Math.min(one, other), Math.max(one, other)]
        assert.isAtLeast(CachePolicy.jittered(lifetime, jitter, less), CachePolicy.jittered(lifetime, jitter, more))
      })
    )
    assert.deepStrictEqual(
      [0, 0.25, 0.5, 1].map((random) => CachePolicy.jittered(1000, 0.5, random)),
      [1000, 875, 750, 500]
    )
  })

  it("leaves whole milliseconds, and something of everything but nothing", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fraction, fraction, (lifetime, jitter, random) => {
        const shortened = CachePolicy.jittered(lifetime, jitter, random)
        assert.isTrue(Number.isSafeInteger(shortened))
        assert.strictEqual(shortened > 0, lifetime > 0)
      }),
      {
        examples: [
          [1, 1, 1],
          [0, 1, 1],
          [1_000_000, 1, 1]
        ]
      }
    )
  })

  it("leaves for ever for ever, and everything as it is without jitter", () => {
    fc.assert(
      fc.property(lifetime, fraction, fraction, (lifetime, jitter, random) => {
        assert.strictEqual(CachePolicy.jittered(Infinity, jitter, random), Infinity)
        assert.strictEqual(CachePolicy.jittered(lifetime, 0, random), lifetime)
      }),
      { examples: [[1, 1, 1]] }
    )
  })
})

describe("CachePolicy's schemas", () => {
  it("give back what they made, when it is decoded again", () => {
    for (const [schema, input] of [
      [Setting.Lifetime, "1 hour"],
      [Setting.Lifetime, Infinity],
      [Setting.Interval, 1]
    ] as const) {
      const decoded = Schema.decodeUnknownSync(schema)(input)
      assert.deepStrictEqual(Schema.decodeUnknownSync(schema)(Schema.encodeSync(schema)(decoded)), decoded)
    }
    assert.strictEqual(Schema.encodeSync(Setting.Positive)(Schema.decodeUnknownSync(Setting.Positive)("7")), 7)
  })

  it("refuse an interval of nothing", () => {
    for (const input of [0, "0 seconds", "-1 second", "soon"]) {
      assert.isTrue(Exit.isFailure(Schema.decodeUnknownExit(Setting.Interval)(input)))
    }
  })
})
