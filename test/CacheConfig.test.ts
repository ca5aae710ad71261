import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Redacted } from "effect"
import { CacheConfig, type CacheConfigInput, variables } from "../src/CacheConfig.ts"
import { type CacheError, InvalidConfig } from "../src/CacheError.ts"
import * as CachePolicy from "../src/CachePolicy.ts"

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

const policyOf = (config: CacheConfig["Service"], name: string, code: CachePolicy.CachePolicyInput = {}) =>
  config.policyOf({ name, policy: Effect.runSync(CachePolicy.decode(code, name)) })

/** Everything that a variable can set, as plain numbers. */
const settingsOf = (config: CacheConfig["Service"]) => {
  const policy = policyOf(config, "any")
  const { bus, loads, memory, store } = config
  return {
    CACHE_DEFAULT_TTL: policy.timeToLive,
    CACHE_NEGATIVE_TTL: policy.negativeTimeToLive,
    CACHE_MEMORY_TTL: policy.memoryTimeToLive,
    CACHE_MAX_VALUE_SIZE: policy.maxValueSize,
    CACHE_STALE_WHILE_REVALIDATE: policy.staleWhileRevalidate,
    CACHE_STALE_IF_ERROR: policy.staleIfError,
    CACHE_FAILURE_BACKOFF: policy.failureBackoff,
    CACHE_FAILURE_TTL: policy.failureTimeToLive,
    CACHE_LOADER_SOFT_TIMEOUT: policy.loaderSoftTimeout,
    CACHE_EARLY_REFRESH: policy.earlyRefresh,
    CACHE_EARLY_REFRESH_BETA: policy.earlyRefreshBeta,
    CACHE_JITTER: policy.jitter,
    CACHE_STORE_WRITES: policy.storeWrites,
    CACHE_LEASE_DURATION: policy.leaseDuration,
    CACHE_LEASE_WAIT: policy.leaseWait,
    CACHE_MEMORY_MAX_ENTRIES: memory.maxEntries,
    CACHE_MEMORY_MAX_SIZE: memory.maxSize,
    CACHE_MEMORY_CLEANUP_INTERVAL: Duration.toMillis(memory.cleanupInterval),
    CACHE_STORE_READ_TIMEOUT: Duration.toMillis(store.readTimeout),
    CACHE_STORE_SOFT_READ_TIMEOUT: Duration.toMillis(store.softReadTimeout),
    CACHE_STORE_WRITE_TIMEOUT: Duration.toMillis(store.writeTimeout),
    CACHE_STORE_BREAKER_FAILURES: store.breakerFailures,
    CACHE_STORE_BREAKER_PROBE_INTERVAL: Duration.toMillis(store.breakerProbeInterval),
    CACHE_STORE_SWEEP_INTERVAL: Duration.toMillis(store.sweepInterval),
    CACHE_STORE_ACCESS_INTERVAL: Duration.toMillis(store.accessInterval),
    CACHE_STORE_MAX_ENTRIES: store.maxEntries,
    CACHE_STORE_MAX_SIZE: store.maxSize,
    CACHE_STORE_MAX_PENDING_WRITES: store.maxPendingWrites,
    CACHE_STORE_MAX_PENDING_INVALIDATIONS: store.maxPendingInvalidations,
    CACHE_STORE_MIGRATE: store.migrate,
    CACHE_LOADS_MAX_BACKGROUND: loads.maxBackground,
    CACHE_BUS_POLL_INTERVAL: Duration.toMillis(bus.pollInterval),
    CACHE_BUS_LISTEN: bus.listen,
    CACHE_BUS_URL: bus.url === undefined ? undefined : Redacted.value(bus.url)
  } satisfies Record<keyof typeof variables, unknown>
}

const defaults = {
  CACHE_DEFAULT_TTL: 3_600_000,
  CACHE_NEGATIVE_TTL: 3_600_000,
  CACHE_MEMORY_TTL: 300_000,
  CACHE_MAX_VALUE_SIZE: 1_048_576,
  CACHE_STALE_WHILE_REVALIDATE: 0,
  CACHE_STALE_IF_ERROR: 600_000,
  CACHE_FAILURE_BACKOFF: 10_000,
  CACHE_FAILURE_TTL: 0,
  CACHE_LOADER_SOFT_TIMEOUT: Infinity,
  CACHE_EARLY_REFRESH: 1,
  CACHE_EARLY_REFRESH_BETA: 0,
  CACHE_JITTER: 0.05,
  CACHE_STORE_WRITES: "awaited",
  CACHE_LEASE_DURATION: 10_000,
  CACHE_LEASE_WAIT: 5000,
  CACHE_MEMORY_MAX_ENTRIES: 10_000,
  CACHE_MEMORY_MAX_SIZE: 134_217_728,
  CACHE_MEMORY_CLEANUP_INTERVAL: 60_000,
  CACHE_STORE_READ_TIMEOUT: 500,
  CACHE_STORE_SOFT_READ_TIMEOUT: Infinity,
  CACHE_STORE_WRITE_TIMEOUT: 2000,
  CACHE_STORE_BREAKER_FAILURES: 5,
  CACHE_STORE_BREAKER_PROBE_INTERVAL: 1000,
  CACHE_STORE_SWEEP_INTERVAL: 60_000,
  CACHE_STORE_ACCESS_INTERVAL: 60_000,
  CACHE_STORE_MAX_ENTRIES: 10_000_000,
  CACHE_STORE_MAX_SIZE: 10_737_418_240,
  CACHE_STORE_MAX_PENDING_WRITES: 1000,
  CACHE_STORE_MAX_PENDING_INVALIDATIONS: 10_000,
  CACHE_STORE_MIGRATE: true,
  CACHE_LOADS_MAX_BACKGROUND: 100,
  CACHE_BUS_POLL_INTERVAL: 1000,
  CACHE_BUS_LISTEN: true,
  CACHE_BUS_URL: undefined as string | undefined
}

const lifetimes = [
  "CACHE_DEFAULT_TTL",
  "CACHE_NEGATIVE_TTL",
  "CACHE_MEMORY_TTL",
  "CACHE_STALE_WHILE_REVALIDATE",
  "CACHE_STALE_IF_ERROR",
  "CACHE_FAILURE_BACKOFF",
  "CACHE_FAILURE_TTL"
] as const
const bounded = ["CACHE_LEASE_DURATION", "CACHE_LEASE_WAIT"] as const
const sizes = [
  "CACHE_MAX_VALUE_SIZE",
  "CACHE_MEMORY_MAX_ENTRIES",
  "CACHE_MEMORY_MAX_SIZE",
  "CACHE_STORE_BREAKER_FAILURES",
  "CACHE_STORE_MAX_ENTRIES",
  "CACHE_STORE_MAX_SIZE",
  "CACHE_STORE_MAX_PENDING_WRITES",
  "CACHE_STORE_MAX_PENDING_INVALIDATIONS",
  "CACHE_LOADS_MAX_BACKGROUND"
] as const
const intervals = [
  "CACHE_LOADER_SOFT_TIMEOUT",
  "CACHE_MEMORY_CLEANUP_INTERVAL",
  "CACHE_STORE_READ_TIMEOUT",
  "CACHE_STORE_SOFT_READ_TIMEOUT",
  "CACHE_STORE_WRITE_TIMEOUT",
  "CACHE_STORE_BREAKER_PROBE_INTERVAL",
  "CACHE_STORE_SWEEP_INTERVAL",
  "CACHE_STORE_ACCESS_INTERVAL",
  "CACHE_BUS_POLL_INTERVAL"
] as const

/** A value for each variable, and what it sets. */
const given: ReadonlyArray<readonly [variable: keyof typeof variables, text: string, value: unknown]> = [
  ...[...lifetimes, ...intervals, ...bounded].flatMap((variable) => [
    [variable, "90 seconds", 90_000] as const,
    [variable, "1234", 1234] as const
  ]),
  ...[...lifetimes, ...intervals].map((variable) => [variable, "Infinity", Infinity] as const),
  ...[...lifetimes, ...bounded].map((variable) => [variable, "0", 0] as const),
  ...sizes.map((variable) => [variable, "77", 77] as const),
  ["CACHE_EARLY_REFRESH", "0.8", 0.8],
  ["CACHE_EARLY_REFRESH_BETA", "0", 0],
  ["CACHE_EARLY_REFRESH_BETA", "1.5", 1.5],
  ["CACHE_JITTER", "0", 0],
  ["CACHE_JITTER", "1", 1],
  ["CACHE_JITTER", "0.25", 0.25],
  ["CACHE_STORE_WRITES", "background", "background"],
  ["CACHE_STORE_WRITES", "awaited", "awaited"],
  ["CACHE_STORE_MIGRATE", "false", false],
  ["CACHE_STORE_MIGRATE", "true", true],
  ["CACHE_BUS_LISTEN", "false", false],
  [
    "CACHE_BUS_URL",
    "postgres://me:secret@direct:5433/db?sslmode=require",
    "postgres://me:secret@direct:5433/db?sslmode=require"
  ],
  ["CACHE_BUS_URL", "postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"]
]

const notADuration = 'not a duration; write it like "90 seconds", "1 hour" or a number of milliseconds'

const earlyRefreshProblem = "must be a fraction of the lifetime above 0 and below 1, such as 0.8"
const betaProblem = "must be a number of 0 or more; 0 is off, 1 is usual, more refreshes earlier"
const jitterProblem = "must be a fraction from 0 to 1, such as 0.05"
const urlProblem = 'must be a connection URL such as "postgres://user:password@host:5432/database"'
const boundedProblem = "must end: a load that hangs would be waited for for good"
const storeWritesProblem = 'must be "awaited" or "background"'

/** A value that each variable refuses, and why. */
const refused: ReadonlyArray<readonly [variable: keyof typeof variables, text: string, problem: string]> = [
  ...[...lifetimes, ...intervals, ...bounded].flatMap((variable) => [
    [variable, "soon", notADuration] as const,
    [variable, "5 lightyears", notADuration] as const,
    [variable, "NaN", notADuration] as const,
    [variable, "-5 seconds", "a lifetime cannot be negative"] as const,
    [variable, "-Infinity", "a lifetime cannot be negative"] as const
  ]),
  ...bounded.flatMap((variable) => [
    [variable, "Infinity", boundedProblem] as const,
    [variable, "1000000 days", boundedProblem] as const
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
  ...["0", "1", "-0.5", "80%", "NaN", "Infinity"].map(
    (text) => ["CACHE_EARLY_REFRESH", text, earlyRefreshProblem] as const
  ),
  ...["-1", "Infinity", "NaN", "often"].map((text) => ["CACHE_EARLY_REFRESH_BETA", text, betaProblem] as const),
  ...["-0.1", "1.1", "5%", "NaN"].map((text) => ["CACHE_JITTER", text, jitterProblem] as const),
  ...["sync", "true", "Background"].map((text) => ["CACHE_STORE_WRITES", text, storeWritesProblem] as const),
  ...["yes", "1", "TRUE", "on"].flatMap((text) => [
    ["CACHE_STORE_MIGRATE", text, "must be true or false"] as const,
    ["CACHE_BUS_LISTEN", text, "must be true or false"] as const
  ]),
  ...["me:secret@direct/db", "mysql://me:secret@direct/db", "postgres://me:secret@direct:x/db"].map(
    (text) => ["CACHE_BUS_URL", text, urlProblem] as const
  )
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
          value: variable === "CACHE_BUS_URL" ? '"<redacted>"' : JSON.stringify(text),
          problem
        })
      }
      assert.deepStrictEqual(new Set(refused.map(([variable]) => variable as string)), new Set(Object.keys(variables)))
    })
  )

  it.effect("shows no password, wherever it stands", () =>
    Effect.gen(function* () {
      const url = "postgres://me:secret@direct/db"
      const env = { CACHE_BUS_URL: url }
      assert.notInclude(String(JSON.stringify(yield* read(env))), "secret")
      for (const CACHE_CONFIG of [
        JSON.stringify({ bus: { url: { url } } }),
        JSON.stringify({ bus: { ulr: url } }),
        JSON.stringify({ bus: url }),
        JSON.stringify({ policy: 5, bus: { url } }),
        `{"bus":{"url":"${url}"},}`
      ]) {
        const { message } = yield* refusal(read({ CACHE_CONFIG }))
        assert.notInclude(message, "secret")
      }
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
        CACHE_NAMESPACES__GENES__MAX_VALUE_SIZE: "77",
        CACHE_NAMESPACES__GENES__STALE_WHILE_REVALIDATE: "4 seconds",
        CACHE_NAMESPACES__GENES__STALE_IF_ERROR: "1 day",
        CACHE_NAMESPACES__GENES__FAILURE_BACKOFF: "0",
        CACHE_NAMESPACES__GENES__FAILURE_TTL: "5 seconds",
        CACHE_NAMESPACES__GENES__LOADER_SOFT_TIMEOUT: "200 millis",
        CACHE_NAMESPACES__GENES__EARLY_REFRESH: "0.8",
        CACHE_NAMESPACES__GENES__EARLY_REFRESH_BETA: "2",
        CACHE_NAMESPACES__GENES__JITTER: "0.5",
        CACHE_NAMESPACES__GENES__STORE_WRITES: "background",
        CACHE_NAMESPACES__GENES__LEASE_DURATION: "0",
        CACHE_NAMESPACES__GENES__LEASE_WAIT: "6 seconds"
      })
      assert.deepStrictEqual(policyOf(config, "genes"), {
        timeToLive: 7_200_000,
        negativeTimeToLive: 60_000,
        memoryTimeToLive: 3000,
        maxValueSize: 77,
        staleWhileRevalidate: 4000,
        staleIfError: 86_400_000,
        failureBackoff: 0,
        failureTimeToLive: 5000,
        loaderSoftTimeout: 200,
        earlyRefresh: 0.8,
        earlyRefreshBeta: 2,
        jitter: 0.5,
        storeWrites: "background",
        leaseDuration: 0,
        leaseWait: 6000
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
        [
          "CACHE_NAMESPACES__GENES__TTTL",
          "1 hour",
          "one of TTL, NEGATIVE_TTL, MEMORY_TTL, MAX_VALUE_SIZE, STALE_WHILE_REVALIDATE, STALE_IF_ERROR, FAILURE_BACKOFF, FAILURE_TTL, LOADER_SOFT_TIMEOUT, EARLY_REFRESH, EARLY_REFRESH_BETA, JITTER, STORE_WRITES, LEASE_DURATION, LEASE_WAIT"
        ],
        ["CACHE_NAMESPACES__GENES__DEFAULT_TTL", "1 hour", "the field one of TTL"],
        ["CACHE_NAMESPACES__GENES__LOADER_HARD_TIMEOUT", "1 hour", "the field one of TTL"],
        ["CACHE_NAMESPACES__GENES__EARLY_REFRESH", "1", earlyRefreshProblem],
        ["CACHE_NAMESPACES__GENES__EARLY_REFRESH_BETA", "-1", betaProblem],
        ["CACHE_NAMESPACES__GENES__JITTER", "2", jitterProblem],
        ["CACHE_NAMESPACES__GENES__STORE_WRITES", "never", storeWritesProblem],
        ["CACHE_NAMESPACES__GENES__LEASE_DURATION", "Infinity", boundedProblem],
        ["CACHE_NAMESPACES__GENES__LEASE_WAIT", "-1 second", "a lifetime cannot be negative"],
        ["CACHE_NAMESPACES__GENES__LOADER_SOFT_TIMEOUT", "0", "must be longer than zero"],
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
          policy: {
            timeToLive: "2 hours",
            negativeTimeToLive: 5,
            memoryTimeToLive: { seconds: 6 },
            maxValueSize: 7,
            staleWhileRevalidate: 16,
            staleIfError: "1 day",
            failureBackoff: 17,
            failureTimeToLive: 18,
            loaderSoftTimeout: 19,
            earlyRefresh: 0.5,
            earlyRefreshBeta: "2",
            jitter: 0,
            storeWrites: "background",
            leaseDuration: 24,
            leaseWait: "25 millis"
          },
          namespaces: { "user-sessions.v2": { timeToLive: "1 minute" } },
          memory: { maxEntries: 8, maxSize: 9, cleanupInterval: "10 millis" },
          store: {
            readTimeout: 11,
            softReadTimeout: 10,
            writeTimeout: 12,
            breakerFailures: 14,
            breakerProbeInterval: 15,
            maxPendingWrites: 20,
            maxPendingInvalidations: 21,
            sweepInterval: 13,
            accessInterval: 27,
            maxEntries: 28,
            maxSize: 29,
            migrate: false
          },
          loads: { maxBackground: 22 },
          bus: { pollInterval: 23, listen: false, url: "postgres://direct/db" }
        })
      )
      assert.deepStrictEqual(settingsOf(config), {
        CACHE_DEFAULT_TTL: 7_200_000,
        CACHE_NEGATIVE_TTL: 5,
        CACHE_MEMORY_TTL: 6000,
        CACHE_MAX_VALUE_SIZE: 7,
        CACHE_STALE_WHILE_REVALIDATE: 16,
        CACHE_STALE_IF_ERROR: 86_400_000,
        CACHE_FAILURE_BACKOFF: 17,
        CACHE_FAILURE_TTL: 18,
        CACHE_LOADER_SOFT_TIMEOUT: 19,
        CACHE_EARLY_REFRESH: 0.5,
        CACHE_EARLY_REFRESH_BETA: 2,
        CACHE_JITTER: 0,
        CACHE_STORE_WRITES: "background",
        CACHE_LEASE_DURATION: 24,
        CACHE_LEASE_WAIT: 25,
        CACHE_MEMORY_MAX_ENTRIES: 8,
        CACHE_MEMORY_MAX_SIZE: 9,
        CACHE_MEMORY_CLEANUP_INTERVAL: 10,
        CACHE_STORE_READ_TIMEOUT: 11,
        CACHE_STORE_SOFT_READ_TIMEOUT: 10,
        CACHE_STORE_WRITE_TIMEOUT: 12,
        CACHE_STORE_BREAKER_FAILURES: 14,
        CACHE_STORE_BREAKER_PROBE_INTERVAL: 15,
        CACHE_STORE_SWEEP_INTERVAL: 13,
        CACHE_STORE_ACCESS_INTERVAL: 27,
        CACHE_STORE_MAX_ENTRIES: 28,
        CACHE_STORE_MAX_SIZE: 29,
        CACHE_STORE_MAX_PENDING_WRITES: 20,
        CACHE_STORE_MAX_PENDING_INVALIDATIONS: 21,
        CACHE_STORE_MIGRATE: false,
        CACHE_LOADS_MAX_BACKGROUND: 22,
        CACHE_BUS_POLL_INTERVAL: 23,
        CACHE_BUS_LISTEN: false,
        CACHE_BUS_URL: "postgres://direct/db"
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

  it.effect("has no switch for tags (C54), nor for making up for invalidations that the store was not told (C65)", () =>
    Effect.gen(function* () {
      for (const [config, variable, problem] of [
        [{ policy: { tags: false } }, "policy.tags", "there is no such field"],
        [{ namespaces: { genes: { tagging: false } } }, "namespaces.genes.tagging", "there is no such field"],
        [{ store: { autoRecovery: false } }, "store.autoRecovery", "there is no such field"],
        [
          { store: { maxPendingInvalidations: 0 } },
          "store.maxPendingInvalidations",
          "must be a whole number above zero"
        ]
      ] as const) {
        const reason = yield* refusal(readOf(config as unknown as CacheConfigInput))
        assert.include(reason.variable, variable)
        assert.include(reason.problem, problem)
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
        [{ policy: { loaderHardTimeout: 1 } }, "policy.loaderHardTimeout", "1", "there is no such field"],
        [{ policy: { storeWrites: true } }, "policy.storeWrites", "true", storeWritesProblem],
        [{ policy: { leaseWait: "Infinity" } }, "policy.leaseWait", '"Infinity"', boundedProblem],
        [{ namespaces: { genes: { jitter: 2 } } }, "namespaces.genes.jitter", "2", jitterProblem],
        [{ store: { maxPendingWrites: 0 } }, "store.maxPendingWrites", "0", "must be a whole number above zero"],
        [{ loads: { maxBackground: "many" } }, "loads.maxBackground", '"many"', "must be a whole number above zero"],
        [{ loads: [] }, "loads", "[]", "Expected object"],
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

  it.effect("leaves out what is undefined, in every part", () =>
    Effect.gen(function* () {
      const nothing = {
        policy: { timeToLive: undefined, jitter: undefined, storeWrites: undefined },
        namespaces: { any: { staleIfError: undefined } },
        memory: undefined,
        store: { readTimeout: undefined, migrate: undefined },
        loads: { maxBackground: undefined },
        bus: { pollInterval: undefined, listen: undefined, url: undefined }
      }
      assert.deepStrictEqual(settingsOf(yield* readOf(nothing as unknown as CacheConfigInput)), defaults)
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

  it.effect("takes a URL as a text or as a secret", () =>
    Effect.gen(function* () {
      const url = "postgres://me:secret@direct/db"
      for (const given of [url, Redacted.make(url)]) {
        const { bus } = yield* readOf({ bus: { url: given } })
        assert.strictEqual(Redacted.value(bus.url!), url)
      }
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
