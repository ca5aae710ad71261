import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Schema } from "effect"
import { CacheConfig, type CacheConfigInput, variables } from "../src/CacheConfig.ts"
import { type CacheError, InvalidConfig } from "../src/CacheError.ts"
import type { CachePolicyInput } from "../src/CachePolicy.ts"
import * as Namespace from "../src/Namespace.ts"

type Variables = Readonly<Record<string, string>>

const readFrom = (provider: ConfigProvider.ConfigProvider) =>
  Effect.provide(CacheConfig, Layer.fresh(Layer.provide(CacheConfig.layer, ConfigProvider.layer(provider))))
const read = (env: Variables) => readFrom(ConfigProvider.fromEnv({ env }))
const readOf = (input: CacheConfigInput) => Effect.provide(CacheConfig, CacheConfig.layerOf(input))

const refusal = (config: Effect.Effect<unknown, CacheError>): Effect.Effect<InvalidConfig, string> =>
  config.pipe(
    Effect.flip,
    Effect.mapError(() => "the configuration was not refused"),
    Effect.map(({ isRetryable, message, reason }) => {
      assert.instanceOf(reason, InvalidConfig)
      assert.strictEqual(message, `${reason.variable} = ${reason.value}: ${reason.problem}`)
      assert.isFalse(isRetryable)
      return reason
    })
  )

const namespace = (name: string, policy: CachePolicyInput = {}) =>
  Namespace.make(name, { value: Schema.Int, ...policy })
const policyOf = (config: CacheConfig["Service"], name: string, policy?: CachePolicyInput) =>
  config.policyOf(namespace(name, policy))

/** Everything that a variable can set, as plain numbers. */
const settingsOf = (config: CacheConfig["Service"]) => {
  const { maxValueSize, memoryTimeToLive, negativeTimeToLive, timeToLive } = policyOf(config, "any")
  const { memory, store } = config
  return {
    CACHE_DEFAULT_TTL: timeToLive,
    CACHE_NEGATIVE_TTL: negativeTimeToLive,
    CACHE_MEMORY_TTL: memoryTimeToLive,
    CACHE_MAX_VALUE_SIZE: maxValueSize,
    CACHE_MEMORY_MAX_ENTRIES: memory.maxEntries,
    CACHE_MEMORY_MAX_SIZE: memory.maxSize,
    CACHE_MEMORY_CLEANUP_INTERVAL: Duration.toMillis(memory.cleanupInterval),
    CACHE_STORE_READ_TIMEOUT: Duration.toMillis(store.readTimeout),
    CACHE_STORE_WRITE_TIMEOUT: Duration.toMillis(store.writeTimeout),
    CACHE_STORE_BREAKER_FAILURES: store.breakerFailures,
    CACHE_STORE_BREAKER_PROBE_INTERVAL: Duration.toMillis(store.breakerProbeInterval),
    CACHE_STORE_SWEEP_INTERVAL: Duration.toMillis(store.sweepInterval),
    CACHE_STORE_MIGRATE: store.migrate
  } satisfies Record<keyof typeof variables, unknown>
}

const defaults = {
  CACHE_DEFAULT_TTL: 3_600_000,
  CACHE_NEGATIVE_TTL: 3_600_000,
  CACHE_MEMORY_TTL: 300_000,
  CACHE_MAX_VALUE_SIZE: 1_048_576,
  CACHE_MEMORY_MAX_ENTRIES: 10_000,
  CACHE_MEMORY_MAX_SIZE: 134_217_728,
  CACHE_MEMORY_CLEANUP_INTERVAL: 60_000,
  CACHE_STORE_READ_TIMEOUT: 500,
  CACHE_STORE_WRITE_TIMEOUT: 2000,
  CACHE_STORE_BREAKER_FAILURES: 5,
  CACHE_STORE_BREAKER_PROBE_INTERVAL: 1000,
  CACHE_STORE_SWEEP_INTERVAL: 60_000,
  CACHE_STORE_MIGRATE: true
}

const lifetimes = ["CACHE_DEFAULT_TTL", "CACHE_NEGATIVE_TTL", "CACHE_MEMORY_TTL"] as const
const sizes = [
  "CACHE_MAX_VALUE_SIZE",
  "CACHE_MEMORY_MAX_ENTRIES",
  "CACHE_MEMORY_MAX_SIZE",
  "CACHE_STORE_BREAKER_FAILURES"
] as const
const intervals = [
  "CACHE_MEMORY_CLEANUP_INTERVAL",
  "CACHE_STORE_READ_TIMEOUT",
  "CACHE_STORE_WRITE_TIMEOUT",
  "CACHE_STORE_BREAKER_PROBE_INTERVAL",
  "CACHE_STORE_SWEEP_INTERVAL"
] as const

/** A value for each variable, and what it sets. */
const given: ReadonlyArray<readonly [variable: keyof typeof variables, text: string, value: unknown]> = [
  ...[...lifetimes, ...intervals].flatMap((variable) => [
    [variable, "90 seconds", 90_000] as const,
    [variable, "1234", 1234] as const,
    [variable, "Infinity", Infinity] as const
  ]),
  ...lifetimes.map((variable) => [variable, "0", 0] as const),
  ...sizes.map((variable) => [variable, "77", 77] as const),
  ["CACHE_STORE_MIGRATE", "false", false],
  ["CACHE_STORE_MIGRATE", "true", true]
]

const notADuration = 'not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds'

/** A value that each variable refuses, and why. */
const refused: ReadonlyArray<readonly [variable: keyof typeof variables, text: string, problem: string]> = [
  ...[...lifetimes, ...intervals].flatMap((variable) => [
    [variable, "soon", notADuration] as const,
    [variable, "5 lightyears", notADuration] as const,
    [variable, "NaN", notADuration] as const,
    [variable, "-5 seconds", "a lifetime cannot be negative"] as const,
    [variable, "-Infinity", "a lifetime cannot be negative"] as const
  ]),
  ...intervals.flatMap((variable) => [
    [variable, "0", "must be longer than zero"] as const,
    [variable, "0 millis", "must be longer than zero"] as const
  ]),
  ...sizes.flatMap((variable) =>
    ["0", "-1", "1.5", "many", "NaN", "Infinity", "1 MiB"].map(
      (text) => [variable, text, "must be a whole number above zero"] as const
    )
  ),
  ...["yes", "1", "TRUE", "on"].map((text) => ["CACHE_STORE_MIGRATE", text, "must be true or false"] as const)
]

describe("CacheConfig.layer", () => {
  it.effect("has the documented defaults where no variable is set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(settingsOf(yield* read({})), defaults)
      assert.deepStrictEqual(settingsOf(yield* readFrom(ConfigProvider.fromUnknown({}))), defaults)
    })
  )

  it.effect("sets what a variable says, and nothing else", () =>
    Effect.gen(function* () {
      for (const [variable, text, value] of given) {
        const settings = settingsOf(yield* read({ [variable]: text, PATH: "/bin", CACHE_DIR: "/var/cache" }))
        const expected = { ...defaults, [variable]: value }
        if (variable === "CACHE_DEFAULT_TTL") Object.assign(expected, { CACHE_NEGATIVE_TTL: value })
        assert.deepStrictEqual(settings, expected)
      }
      assert.deepStrictEqual(new Set(given.map(([variable]) => variable as string)), new Set(Object.keys(variables)))
    })
  )

  it.effect("reads the same variables from any provider", () =>
    Effect.gen(function* () {
      for (const [variable, text, value] of given) {
        const settings = settingsOf(yield* readFrom(ConfigProvider.fromUnknown({ [variable]: text })))
        assert.strictEqual<unknown>(settings[variable], value)
      }
      const nested = ConfigProvider.fromEnv({
        env: { APP_CACHE_DEFAULT_TTL: "5", APP_CACHE_NAMESPACES__GENES__TTL: "6" }
      })
      const config = yield* readFrom(ConfigProvider.nested(nested, "APP"))
      assert.deepStrictEqual([policyOf(config, "any").timeToLive, policyOf(config, "genes").timeToLive], [5, 6])
    })
  )

  it.effect("takes an empty variable for none", () =>
    Effect.gen(function* () {
      const names = [
        ...Object.keys(variables),
        "CACHE_CONFIG",
        "CACHE_NAMESPACES__GENES__TTL",
        "CACHE_NAMESPACES__X__Y"
      ]
      const env = Object.fromEntries(names.map((name) => [name, ""]))
      assert.deepStrictEqual(settingsOf(yield* read(env)), defaults)
      assert.deepStrictEqual(settingsOf(yield* readFrom(ConfigProvider.fromUnknown(env))), defaults)
      assert.strictEqual(policyOf(yield* read(env), "genes").timeToLive, defaults.CACHE_DEFAULT_TTL)
    })
  )

  it.effect("refuses what makes no sense, and names variable, value and reason", () =>
    Effect.gen(function* () {
      for (const [variable, text, problem] of refused) {
        assert.deepInclude(yield* refusal(read({ [variable]: text })), {
          variable,
          value: JSON.stringify(text),
          problem
        })
      }
      assert.deepStrictEqual(new Set(refused.map(([variable]) => variable as string)), new Set(Object.keys(variables)))
    })
  )

  it.effect("names the variable that is wrong, not one beside it", () =>
    Effect.gen(function* () {
      const env = { CACHE_DEFAULT_TTL: "1 hour", CACHE_MEMORY_TTL: "soon", CACHE_STORE_READ_TIMEOUT: "1 second" }
      assert.strictEqual((yield* refusal(read(env))).variable, "CACHE_MEMORY_TTL")
    })
  )

  it.effect("fails with a typed error when its provider cannot be read", () =>
    Effect.gen(function* () {
      const provider = ConfigProvider.make(() =>
        Effect.fail(new ConfigProvider.SourceError({ message: "no such file" }))
      )
      const reason = yield* refusal(readFrom(provider))
      assert.match(reason.variable, /^CACHE_/)
      assert.strictEqual(reason.problem, "no such file")
    })
  )
})

describe("The variables of one namespace", () => {
  it.effect("set its fields and no other's", () =>
    Effect.gen(function* () {
      const config = yield* read({
        CACHE_NAMESPACES__GENES__TTL: "2 hours",
        CACHE_NAMESPACES__GENES__NEGATIVE_TTL: "1 minute",
        CACHE_NAMESPACES__GENES__MEMORY_TTL: "3 seconds",
        CACHE_NAMESPACES__GENES__MAX_VALUE_SIZE: "77"
      })
      assert.deepInclude(policyOf(config, "genes"), {
        timeToLive: 7_200_000,
        negativeTimeToLive: 60_000,
        memoryTimeToLive: 3000,
        maxValueSize: 77
      })
      for (const other of ["gene", "genes2", "GENES_", "ttl"]) {
        assert.deepStrictEqual(policyOf(config, other), policyOf(yield* read({}), other))
      }
    })
  )

  it.effect("write every other character than letters and digits as an underscore", () =>
    Effect.gen(function* () {
      for (const [name, written] of [
        ["genes", "GENES"],
        ["Genes", "GENES"],
        ["user-sessions.v2", "USER_SESSIONS_V2"],
        ["user sessions", "USER_SESSIONS"],
        ["a__b", "A__B"],
        ["a_ttl", "A_TTL"],
        ["memory", "MEMORY"],
        ["2024", "2024"],
        ["__proto__", "__PROTO__"],
        ["_", "_"],
        ["%", "_"],
        ["gène", "G_NE"]
      ] as const) {
        for (const provider of [ConfigProvider.fromUnknown, (env: Variables) => ConfigProvider.fromEnv({ env })]) {
          const config = yield* readFrom(provider({ [`CACHE_NAMESPACES__${written}__MEMORY_TTL`]: "7" }))
          assert.strictEqual(policyOf(config, name).memoryTimeToLive, 7, name)
        }
      }
    })
  )

  it.effect("are found however many there are", () =>
    Effect.gen(function* () {
      const names = Array.from({ length: 100 }, (_, index) => `table_${index}`)
      const env = Object.fromEntries(
        names.map((name, index) => [`CACHE_NAMESPACES__${name.toUpperCase()}__TTL`, `${index}`])
      )
      const config = yield* read({ ...env, CACHE_NAMESPACES__0__TTL: "1", CACHE_NAMESPACES__1__TTL: "2" })
      assert.deepStrictEqual(
        [...names, "0", "1"].map((name) => policyOf(config, name).timeToLive),
        [...names.keys(), 1, 2]
      )
    })
  )

  it.effect("are refused when they have no such field, or a value that makes no sense", () =>
    Effect.gen(function* () {
      for (const [variable, text, problem] of [
        ["CACHE_NAMESPACES__GENES__TTTL", "1 hour", "one of TTL, NEGATIVE_TTL, MEMORY_TTL, MAX_VALUE_SIZE"],
        ["CACHE_NAMESPACES__GENES", "1 hour", "write it as CACHE_NAMESPACES__<NAME>__<FIELD>"],
        ["CACHE_NAMESPACES__TTL", "1 hour", "write it as CACHE_NAMESPACES__<NAME>__<FIELD>"],
        ["CACHE_NAMESPACES____TTL", "1 hour", "write it as CACHE_NAMESPACES__<NAME>__<FIELD>"],
        ["CACHE_NAMESPACES__GENES__ttl", "1 hour", "write it as CACHE_NAMESPACES__<NAME>__<FIELD>"],
        ["CACHE_NAMESPACES__GENES__TTL", "soon", notADuration],
        ["CACHE_NAMESPACES__GENES__NEGATIVE_TTL", "-1 second", "a lifetime cannot be negative"],
        ["CACHE_NAMESPACES__GENES__MEMORY_TTL", "NaN", notADuration],
        ["CACHE_NAMESPACES__GENES__MAX_VALUE_SIZE", "0", "must be a whole number above zero"],
        ["CACHE_NAMESPACES__A__B__TTL", "soon", notADuration],
        ["CACHE_NAMESPACES____PROTO____TTL", "soon", notADuration]
      ] as const) {
        const reason = yield* refusal(read({ CACHE_NAMESPACES__SCHEMAS__TTL: "7 days", [variable]: text }))
        assert.deepInclude(reason, { variable, value: JSON.stringify(text) })
        assert.include(reason.problem, problem)
      }
    })
  )
})

describe("CACHE_CONFIG", () => {
  const document = (config: unknown) => ({ CACHE_CONFIG: JSON.stringify(config) })

  it.effect("holds the whole document as JSON", () =>
    Effect.gen(function* () {
      const config = yield* read(
        document({
          policy: { timeToLive: "2 hours", negativeTimeToLive: 5, memoryTimeToLive: { seconds: 6 }, maxValueSize: 7 },
          namespaces: { "user-sessions.v2": { timeToLive: "1 minute" } },
          memory: { maxEntries: 8, maxSize: 9, cleanupInterval: "10 millis" },
          store: {
            readTimeout: 11,
            writeTimeout: 12,
            breakerFailures: 14,
            breakerProbeInterval: 15,
            sweepInterval: 13,
            migrate: false
          }
        })
      )
      assert.deepStrictEqual(settingsOf(config), {
        CACHE_DEFAULT_TTL: 7_200_000,
        CACHE_NEGATIVE_TTL: 5,
        CACHE_MEMORY_TTL: 6000,
        CACHE_MAX_VALUE_SIZE: 7,
        CACHE_MEMORY_MAX_ENTRIES: 8,
        CACHE_MEMORY_MAX_SIZE: 9,
        CACHE_MEMORY_CLEANUP_INTERVAL: 10,
        CACHE_STORE_READ_TIMEOUT: 11,
        CACHE_STORE_WRITE_TIMEOUT: 12,
        CACHE_STORE_BREAKER_FAILURES: 14,
        CACHE_STORE_BREAKER_PROBE_INTERVAL: 15,
        CACHE_STORE_SWEEP_INTERVAL: 13,
        CACHE_STORE_MIGRATE: false
      })
      assert.strictEqual(policyOf(config, "user-sessions.v2").timeToLive, 60_000)
    })
  )

  it.effect("gives way to a variable of its own, field by field", () =>
    Effect.gen(function* () {
      for (const [variable, text, value] of given) {
        const [group = "", field = ""] = variables[variable].split(".")
        const other = typeof value === "boolean" ? !value : 999
        const settings = settingsOf(yield* read({ ...document({ [group]: { [field]: other } }), [variable]: text }))
        assert.strictEqual<unknown>(settings[variable], value)
      }
      const genes = { genes: { timeToLive: "1 hour", memoryTimeToLive: 2 } }
      const config = yield* read({ ...document({ namespaces: genes }), CACHE_NAMESPACES__GENES__TTL: "1" })
      assert.deepInclude(policyOf(config, "genes"), { timeToLive: 1, memoryTimeToLive: 2 })
    })
  )

  it.effect("is refused when it is no JSON object", () =>
    Effect.gen(function* () {
      for (const text of ["{", "[]", "null", "5", '"a"', "policy.timeToLive=5"]) {
        assert.deepInclude(yield* refusal(read({ CACHE_CONFIG: text })), {
          variable: "CACHE_CONFIG",
          value: JSON.stringify(text),
          problem: "must be a JSON object"
        })
      }
    })
  )

  it.effect("is refused when it has an unknown field, or a value that makes no sense", () =>
    Effect.gen(function* () {
      for (const [config, path, value, problem] of [
        [{ polcy: {} }, "polcy", "{}", "there is no such field"],
        [{ policy: { ttl: 1 } }, "policy.ttl", "1", "there is no such field"],
        [{ memory: { maxEntires: 1 } }, "memory.maxEntires", "1", "there is no such field"],
        [{ namespaces: { genes: { timeTolive: 1 } } }, "namespaces.genes.timeTolive", "1", "there is no such field"],
        [{ policy: { timeToLive: "soon" } }, "policy.timeToLive", '"soon"', notADuration],
        [{ namespaces: { genes: { timeToLive: -1 } } }, "namespaces.genes.timeToLive", "-1", "cannot be negative"],
        [{ store: { readTimeout: 0 } }, "store.readTimeout", "0", "must be longer than zero"],
        [{ store: { migrate: "no" } }, "store.migrate", '"no"', "must be true or false"],
        [{ memory: null }, "memory", "null", "Expected object"],
        [{ namespaces: { genes: 5 } }, "namespaces.genes", "5", "Expected object"]
      ] as const) {
        for (const reason of [
          yield* refusal(read(document(config))),
          yield* refusal(readOf(config as unknown as CacheConfigInput))
        ]) {
          assert.include(reason.variable, path)
          assert.strictEqual(reason.value, value)
          assert.include(reason.problem, problem)
        }
      }
    })
  )

  it.effect("is refused where a variable would hide that it makes no sense", () =>
    Effect.gen(function* () {
      const reason = yield* refusal(read({ ...document({ policy: 5 }), CACHE_DEFAULT_TTL: "1 hour" }))
      assert.include(reason.variable, "policy")
    })
  )

  it.effect("may configure a namespace named __proto__", () =>
    Effect.gen(function* () {
      const config = yield* read({ CACHE_CONFIG: '{"namespaces":{"__proto__":{"timeToLive":5}}}' })
      assert.strictEqual(policyOf(config, "__proto__").timeToLive, 5)
      assert.strictEqual(policyOf(config, "genes").timeToLive, defaults.CACHE_DEFAULT_TTL)
      assert.isFalse("timeToLive" in {})
    })
  )
})

describe("CacheConfig.layerOf", () => {
  it.effect("does not read the environment", () =>
    Effect.gen(function* () {
      const env = { CACHE_DEFAULT_TTL: "1", CACHE_CONFIG: "{", CACHE_NAMESPACES__GENES__TTL: "soon" }
      const config = readOf({ memory: { maxEntries: 5 } })
      const settings = settingsOf(yield* Effect.provide(config, ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))
      assert.deepStrictEqual(settings, { ...defaults, CACHE_MEMORY_MAX_ENTRIES: 5 })
    })
  )

  it.effect("takes durations in every form of Effect's", () =>
    Effect.gen(function* () {
      const { memory, store } = yield* readOf({
        memory: { cleanupInterval: { minutes: 2 } },
        store: { readTimeout: Duration.millis(250), writeTimeout: Duration.infinity, sweepInterval: 5_000_000n }
      })
      assert.deepStrictEqual(
        [memory.cleanupInterval, store.readTimeout, store.writeTimeout, store.sweepInterval].map(Duration.toMillis),
        [120_000, 250, Infinity, 5]
      )
    })
  )

  it.effect("configures each namespace by its own name alone", () =>
    Effect.gen(function* () {
      const config = yield* readOf({ namespaces: { GENES: { timeToLive: 1 }, "a-b": { timeToLive: 2 } } })
      assert.strictEqual(policyOf(config, "GENES").timeToLive, 1)
      assert.strictEqual(policyOf(config, "a-b").timeToLive, 2)
      for (const other of ["genes", "Genes", "a_b", "a.b", "A_B"]) {
        assert.strictEqual(policyOf(config, other).timeToLive, defaults.CACHE_DEFAULT_TTL, other)
      }
    })
  )
})

describe("CacheConfig.policyOf", () => {
  it.effect("lets the configuration of a namespace win over its code", () =>
    Effect.gen(function* () {
      const code = { timeToLive: 10, negativeTimeToLive: 20, memoryTimeToLive: 30 }
      for (const config of [
        yield* readOf({ namespaces: { genes: { timeToLive: 1, memoryTimeToLive: 3 } } }),
        yield* read({ CACHE_NAMESPACES__GENES__TTL: "1", CACHE_NAMESPACES__GENES__MEMORY_TTL: "3" })
      ]) {
        assert.deepInclude(policyOf(config, "genes", code), {
          timeToLive: 1,
          negativeTimeToLive: 20,
          memoryTimeToLive: 3
        })
      }
    })
  )

  it.effect("lets the code of a namespace win over the configured default, which fills what the code leaves open", () =>
    Effect.gen(function* () {
      for (const config of [
        yield* readOf({ policy: { timeToLive: 1, memoryTimeToLive: 2 } }),
        yield* read({ CACHE_DEFAULT_TTL: "1", CACHE_MEMORY_TTL: "2" })
      ]) {
        assert.deepInclude(policyOf(config, "genes", { timeToLive: 10 }), { timeToLive: 10, memoryTimeToLive: 2 })
        assert.deepInclude(policyOf(config, "genes"), { timeToLive: 1, negativeTimeToLive: 1, memoryTimeToLive: 2 })
      }
    })
  )

  it.effect("lets the configuration of a namespace win over the configured default", () =>
    Effect.gen(function* () {
      const config = yield* readOf({ policy: { timeToLive: 1 }, namespaces: { genes: { timeToLive: 2 } } })
      assert.strictEqual(policyOf(config, "genes", { timeToLive: 3 }).timeToLive, 2)
      assert.strictEqual(policyOf(config, "genes").timeToLive, 2)
      assert.strictEqual(policyOf(config, "others").timeToLive, 1)
    })
  )
})
