import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Schema } from "effect"
import {
  CacheError,
  CacheErrorReason,
  CircuitOpen,
  EncodeFailed,
  InvalidConfig,
  InvalidKey,
  InvalidNamespace,
  InvalidPattern,
  InvalidPolicy,
  LoaderTimeout,
  MigrationFailed,
  StoreTimeout,
  StoreUnavailable,
  ValueTooLarge
} from "../src/CacheError.ts"

const reasons: ReadonlyArray<readonly [reason: CacheErrorReason, isRetryable: boolean, message: string]> = [
  [
    new StoreUnavailable({
      operation: "read",
      cause: new Error("connect failed", { cause: new Error("ECONNREFUSED") })
    }),
    true,
    "the store could not read: connect failed: ECONNREFUSED"
  ],
  [
    new StoreTimeout({ operation: "write", timeout: 2000 }),
    true,
    "the store did not write within 2000 ms; raise CACHE_STORE_READ_TIMEOUT or CACHE_STORE_WRITE_TIMEOUT if that is normal here"
  ],
  [
    new CircuitOpen({ operation: "read", retryAfter: 700 }),
    true,
    "the store was not asked to read: it is down and is tried again in 700 ms"
  ],
  [
    new LoaderTimeout({ namespace: "genes", timeout: 3000 }),
    true,
    'namespace "genes": the loader did not answer within 3000 ms; raise loaderHardTimeout or make the source faster'
  ],
  [
    new MigrationFailed({ problem: "table cache_entries is missing; run the migrations" }),
    false,
    "table cache_entries is missing; run the migrations"
  ],
  [
    new MigrationFailed({ problem: "migration 1 failed", cause: new Error("permission denied") }),
    false,
    "migration 1 failed: permission denied"
  ],
  [
    new InvalidKey({ namespace: "genes", problem: "Expected string" }),
    false,
    'namespace "genes": the key is not what its schema allows: Expected string'
  ],
  [
    new InvalidPattern({ namespace: "genes", pattern: "TP[53", problem: "the class is not closed" }),
    false,
    'namespace "genes", pattern "TP[53": the class is not closed'
  ],
  [
    new InvalidPattern({ namespace: "genes", pattern: "x".repeat(2000), problem: "it is too long" }),
    false,
    `namespace "genes", pattern "${"x".repeat(100)}...": it is too long`
  ],
  [
    new EncodeFailed({ namespace: "genes", key: "TP53", problem: "Expected number" }),
    false,
    'namespace "genes", key TP53: the value is not what its schema can encode: Expected number'
  ],
  [
    new ValueTooLarge({ namespace: "genes", key: "TP53", size: 11, limit: 10 }),
    false,
    'namespace "genes", key TP53: the encoded value has 11 bytes, the limit is 10; raise maxValueSize or cache less'
  ],
  [
    new InvalidNamespace({ namespace: "", problem: "the name is empty; give it 1 to 255 bytes" }),
    false,
    'namespace "": the name is empty; give it 1 to 255 bytes'
  ],
  [
    new InvalidPolicy({ field: "timeToLive", value: "-1", problem: "a lifetime cannot be negative" }),
    false,
    "timeToLive = -1: a lifetime cannot be negative"
  ],
  [
    new InvalidConfig({ variable: "CACHE_STORE_MIGRATE", value: '"yes"', problem: "must be true or false" }),
    false,
    'CACHE_STORE_MIGRATE = "yes": must be true or false'
  ]
]

describe("CacheError", () => {
  it("says what happened and what to do, as its reason does", () => {
    for (const [reason, , message] of reasons) {
      const error = new CacheError({ reason })
      assert.strictEqual(reason.message, message)
      assert.strictEqual(error.message, message)
      assert.include(String(error), message)
      assert.instanceOf(error, Error)
    }
  })

  it("is retryable where the same call may succeed later", () => {
    for (const [reason, isRetryable] of reasons) {
      assert.strictEqual(reason.isRetryable, isRetryable)
      assert.strictEqual(new CacheError({ reason }).isRetryable, isRetryable)
    }
  })

  it("has no reason without a test here", () => {
    const tested = new Set(reasons.map(([reason]) => reason._tag))
    assert.deepStrictEqual(
      [...tested].toSorted(),
      CacheErrorReason.members.map((member) => member.fields._tag.schema.literal).toSorted()
    )
  })

  it("describes a cause once, however often its errors repeat it", () => {
    const cause = new Error("query failed: timeout", { cause: new Error("timeout") })
    assert.strictEqual(
      new StoreUnavailable({ operation: "clear", cause }).message,
      "the store could not clear: query failed: timeout"
    )
    assert.strictEqual(
      new StoreUnavailable({ operation: "clear", cause: "gone" }).message,
      "the store could not clear: gone"
    )
  })

  it("survives its schema with its reason", () => {
    const codec = Schema.fromJsonString(Schema.toCodecJson(CacheError))
    for (const [reason, isRetryable, message] of reasons) {
      const error = new CacheError({ reason })
      const decoded = Schema.decodeSync(codec)(Schema.encodeSync(codec)(error))
      assert.instanceOf(decoded, CacheError)
      assert.strictEqual(decoded.reason.constructor, reason.constructor)
      assert.strictEqual(decoded.isRetryable, isRetryable)
      // A cause keeps its own message; what caused the cause may not.
      assert.isTrue(message.startsWith(decoded.message), decoded.message)
    }
  })

  it.effect("is caught by one reason, and by no other", () =>
    Effect.gen(function* () {
      const failing = (reason: CacheErrorReason): Effect.Effect<string, CacheError> =>
        Effect.fail(new CacheError({ reason }))
      for (const [reason] of reasons) {
        const tag = reason._tag
        const caught = failing(reason).pipe(
          Effect.catchReason("CacheError", tag, (each) => Effect.succeed(each.message))
        )
        assert.strictEqual(yield* caught, reason.message)
        const other = tag === "InvalidKey" ? "EncodeFailed" : "InvalidKey"
        const missed = failing(reason).pipe(Effect.catchReason("CacheError", other, () => Effect.succeed("caught")))
        assert.deepStrictEqual(
          Option.map(
            Exit.findErrorOption(yield* Effect.exit(missed)),
            (error) => error instanceof CacheError && error.reason
          ),
          Option.some(reason)
        )
      }
    })
  )

  it.effect("is caught by its tag, or unwrapped to its reasons", () =>
    Effect.gen(function* () {
      const error = new CacheError({ reason: new InvalidKey({ namespace: "genes", problem: "Expected string" }) })
      const failing: Effect.Effect<string, CacheError> = Effect.fail(error)
      const byTag = failing.pipe(Effect.catchTag("CacheError", (each) => Effect.succeed(each.reason._tag)))
      assert.strictEqual(yield* byTag, "InvalidKey")
      const byReason = failing.pipe(
        Effect.unwrapReason("CacheError"),
        Effect.catchTag("InvalidKey", ({ namespace }) => Effect.succeed(namespace))
      )
      assert.strictEqual(yield* byReason, "genes")
    })
  )
})
