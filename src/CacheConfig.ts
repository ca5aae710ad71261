/**
 * What an operator may decide about a cache, in code or in the environment.
 *
 * One scheme: the document below, given as a value (`CacheConfig.layerOf`,
 * `CacheLive.layer`), or read through Effect's `ConfigProvider` as the variables
 * of `variables`, one per field. `CACHE_CONFIG` may hold the whole document as
 * JSON; a variable of its own wins over it. The fields of one namespace are
 * `CACHE_NAMESPACES__<NAME>__<FIELD>`, its name in upper case with every other
 * character than letters and digits as `_`.
 *
 * For a namespace the configuration wins over its code; the configured default
 * policy only fills what the code leaves open.
 *
 * Anything that makes no sense is refused when the layer is built, with a
 * `CacheError` that names the variable, its value and what would be right.
 *
 * @since 0.1.0
 */
import { ConfigProvider, Context, Duration, Effect, Exit, Layer, Option, Redacted, Result, Schema } from "effect"
import { CacheError, errorOf, InvalidConfig } from "./CacheError.ts"
import * as CachePolicy from "./CachePolicy.ts"
import { type CacheConfigInput, ConfigDocument } from "./ConfigDocument.ts"

export type { CacheConfigInput } from "./ConfigDocument.ts"

/**
 * The variables that `CacheConfig.layer` reads, and the field that each sets.
 *
 * @category constants
 * @since 0.1.0
 */
export const variables = {
  CACHE_DEFAULT_TTL: "policy.timeToLive",
  CACHE_NEGATIVE_TTL: "policy.negativeTimeToLive",
  CACHE_MEMORY_TTL: "policy.memoryTimeToLive",
  CACHE_MAX_VALUE_SIZE: "policy.maxValueSize",
  CACHE_STALE_WHILE_REVALIDATE: "policy.staleWhileRevalidate",
  CACHE_STALE_IF_ERROR: "policy.staleIfError",
  CACHE_FAILURE_BACKOFF: "policy.failureBackoff",
  CACHE_FAILURE_TTL: "policy.failureTimeToLive",
  CACHE_LOADER_SOFT_TIMEOUT: "policy.loaderSoftTimeout",
  CACHE_EARLY_REFRESH: "policy.earlyRefresh",
  CACHE_EARLY_REFRESH_BETA: "policy.earlyRefreshBeta",
  CACHE_JITTER: "policy.jitter",
  CACHE_STORE_WRITES: "policy.storeWrites",
  CACHE_LEASE_DURATION: "policy.leaseDuration",
  CACHE_LEASE_WAIT: "policy.leaseWait",
  CACHE_MEMORY_MAX_ENTRIES: "memory.maxEntries",
  CACHE_MEMORY_MAX_SIZE: "memory.maxSize",
  CACHE_MEMORY_CLEANUP_INTERVAL: "memory.cleanupInterval",
  CACHE_STORE_READ_TIMEOUT: "store.readTimeout",
  CACHE_STORE_SOFT_READ_TIMEOUT: "store.softReadTimeout",
  CACHE_STORE_WRITE_TIMEOUT: "store.writeTimeout",
  CACHE_STORE_BREAKER_FAILURES: "store.breakerFailures",
  CACHE_STORE_BREAKER_PROBE_INTERVAL: "store.breakerProbeInterval",
  CACHE_STORE_MAX_PENDING_WRITES: "store.maxPendingWrites",
  CACHE_STORE_MAX_PENDING_INVALIDATIONS: "store.maxPendingInvalidations",
  CACHE_STORE_SWEEP_INTERVAL: "store.sweepInterval",
  CACHE_STORE_ACCESS_INTERVAL: "store.accessInterval",
  CACHE_STORE_MAX_ENTRIES: "store.maxEntries",
  CACHE_STORE_MAX_SIZE: "store.maxSize",
  CACHE_STORE_MIGRATE: "store.migrate",
  CACHE_LOADS_MAX_BACKGROUND: "loads.maxBackground",
  CACHE_BUS_POLL_INTERVAL: "bus.pollInterval",
  CACHE_BUS_LISTEN: "bus.listen",
  CACHE_BUS_URL: "bus.url"
} as const

/** The policy fields by what follows `CACHE_` or `CACHE_NAMESPACES__<NAME>__`. */
const namespaceVariables: ReadonlyMap<string, string> = new Map(
  Object.entries(variables)
    .filter(([, path]) => path.startsWith("policy."))
    .map(([variable, path]) => [variable.replace(/^CACHE_(DEFAULT_)?/, ""), path.slice("policy.".length)])
)

/**
 * The configuration of a cache, every field decided.
 *
 * @category services
 * @since 0.1.0
 */
export class CacheConfig extends Context.Service<
  CacheConfig,
  {
    /** The policy of a namespace: defaults, configured default, code, configured namespace. */
    readonly policyOf: (namespace: {
      readonly name: string
      readonly policy: typeof CachePolicy.CachePolicyFields.Type
    }) => CachePolicy.CachePolicy
    readonly memory: {
      readonly maxEntries: number
      readonly maxSize: number
      readonly cleanupInterval: Duration.Duration
    }
    readonly store: {
      readonly readTimeout: Duration.Duration
      readonly softReadTimeout: Duration.Duration
      readonly writeTimeout: Duration.Duration
      readonly breakerFailures: number
      readonly breakerProbeInterval: Duration.Duration
      readonly maxPendingWrites: number
      readonly maxPendingInvalidations: number
      readonly sweepInterval: Duration.Duration
      readonly accessInterval: Duration.Duration
      readonly maxEntries: number
      readonly maxSize: number
      readonly migrate: boolean
    }
    readonly loads: {
      readonly maxBackground: number
    }
    readonly bus: {
      readonly pollInterval: Duration.Duration
      readonly listen: boolean
      readonly url: Redacted.Redacted | undefined
    }
  }
>()("effect-tiered-cache/CacheConfig") {
  /**
   * The configuration that `ConfigProvider` holds, by default the environment.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layer: Layer.Layer<CacheConfig, CacheError> = Layer.effect(
    CacheConfig,
    Effect.suspend(() => Effect.flatMap(readVariables, decode))
  )

  /**
   * A configuration given in code; the environment is not read.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerOf = (input: CacheConfigInput): Layer.Layer<CacheConfig, CacheError> =>
    Layer.effect(
      CacheConfig,
      Effect.suspend(() =>
        decode({ document: input, origin: "CacheConfig ", environment: new Map(), sources: new Map() })
      )
    )
}

interface Raw {
  readonly document: unknown
  /** What the document is called in an error. */
  readonly origin: string
  /** The fields of namespaces by the names that variables give them. */
  readonly environment: ReadonlyMap<string, typeof CachePolicy.CachePolicyFields.Type>
  /** Which variable set the field at a path. */
  readonly sources: Map<string, string>
}

const readVariables: Effect.Effect<Raw, CacheError> = Effect.gen(function* () {
  const provider = yield* ConfigProvider.ConfigProvider
  const sources = new Map<string, string>()
  const document = yield* readDocument(provider)
  for (const [variable, path] of Object.entries(variables)) {
    const value = yield* readVariable(provider, [variable])
    const [part = "", field = ""] = path.split(".")
    const fields = Object.hasOwn(document, part) ? document[part] : {}
    // What is no object is refused when the document is decoded.
    if (value === undefined || !isRecord(fields)) continue
    document[part] = { ...fields, [field]: value }
    sources.set(`${part}\0${field}`, variable)
  }
  return { document, origin: "CACHE_CONFIG ", environment: yield* readNamespaces(provider), sources }
})

const readDocument = Effect.fnUntraced(function* (provider: ConfigProvider.ConfigProvider) {
  const text = yield* readVariable(provider, ["CACHE_CONFIG"])
  if (text === undefined) return {}
  const document = Option.liftThrowable((json: string): unknown => JSON.parse(json))(text)
  return Option.isSome(document) && isRecord(document.value)
    ? document.value
    : yield* invalid("CACHE_CONFIG", text, "must be a JSON object")
})

const readVariable = (provider: ConfigProvider.ConfigProvider, path: ConfigProvider.Path) =>
  Effect.map(load(provider, path), (node) => node?.value)

const load = (provider: ConfigProvider.ConfigProvider, path: ConfigProvider.Path) =>
  Effect.catch(provider.load(path), (error) => invalid(path.join("_"), "?", error.message))

const namespaceVariable = /^CACHE_NAMESPACES__(.+)__([A-Z_]+)$/

const readNamespaces = Effect.fnUntraced(function* (provider: ConfigProvider.ConfigProvider) {
  const namespaces = new Map<string, typeof CachePolicy.CachePolicyFields.Type>()
  for (const [variable, value] of yield* namespaceVariablesOf(provider)) {
    const [, name = "", suffix = ""] = namespaceVariable.exec(variable) ?? []
    const fieldName = namespaceVariables.get(suffix)
    if (name === "" || fieldName === undefined) {
      const fields = [...namespaceVariables.keys()].join(", ")
      const problem = `write it as CACHE_NAMESPACES__<NAME>__<FIELD>, the field one of ${fields}`
      return yield* invalid(variable, value, problem)
    }
    const field = CachePolicy.decode({ [fieldName]: value })
    if (Exit.isFailure(field)) return yield* invalid(variable, value, problemOfField(field))
    namespaces.set(name, { ...namespaces.get(name), ...field.value })
  }
  return namespaces
})

const problemOfField = (exit: Exit.Failure<unknown, CacheError>): string => {
  const { reason } = errorOf(exit)
  return reason._tag === "InvalidPolicy" ? reason.problem : reason.message
}

/** A provider knows its variables as a tree; which namespaces are named is found by walking it. */
const namespaceVariablesOf = (provider: ConfigProvider.ConfigProvider) => {
  const prefix = "CACHE_NAMESPACES__"
  const walk = (
    path: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<readonly [variable: string, value: string]>, CacheError> =>
    Effect.gen(function* () {
      const name = path.join("_")
      if (!name.startsWith(prefix) && !prefix.startsWith(name)) return []
      const node = yield* load(provider, path)
      if (node === undefined) return []
      if (node._tag === "Array" && node.length > maxDigits) {
        const problem = "the number is too large to be found among variables; use CACHE_CONFIG for this namespace"
        return yield* invalid(`${name}_${node.length - 1}`, "?", problem)
      }
      const own = node.value === undefined || !name.startsWith(prefix) ? [] : [[name, node.value] as const]
      const segments =
        node._tag === "Record"
          ? [...node.keys]
          : node._tag === "Array"
            ? Array.from({ length: node.length }, (_, index) => String(index))
            : []
      const children = yield* Effect.forEach(segments, (segment) => walk([...path, segment]))
      return [...own, ...children.flat()]
    })
  return walk([])
}

/** A provider tells of names that are all digits only how large the largest is. */
const maxDigits = 10_000

const decode = (raw: Raw): Effect.Effect<CacheConfig["Service"], CacheError> => {
  const { document, environment } = raw
  const decoded = Schema.decodeUnknownResult(ConfigDocument)(document, { onExcessProperty: "error" })
  if (Result.isFailure(decoded)) return invalidField(raw, decoded.failure)
  const { bus = {}, loads = {}, memory = {}, namespaces = {}, policy = {}, store = {} } = decoded.success
  const overrides = new Map(Object.entries(namespaces))
  return Effect.succeed({
    policyOf: ({ name, policy: code }) =>
      CachePolicy.resolve(policy, code, overrides.get(name) ?? {}, environment.get(environmentName(name)) ?? {}),
    memory: {
      maxEntries: memory.maxEntries ?? 10_000,
      maxSize: memory.maxSize ?? 128 * 1024 * 1024,
      cleanupInterval: memory.cleanupInterval ?? Duration.minutes(1)
    },
    store: {
      readTimeout: store.readTimeout ?? Duration.millis(500),
      softReadTimeout: store.softReadTimeout ?? Duration.infinity,
      writeTimeout: store.writeTimeout ?? Duration.seconds(2),
      breakerFailures: store.breakerFailures ?? 5,
      breakerProbeInterval: store.breakerProbeInterval ?? Duration.seconds(1),
      maxPendingWrites: store.maxPendingWrites ?? 1000,
      maxPendingInvalidations: store.maxPendingInvalidations ?? 10_000,
      sweepInterval: store.sweepInterval ?? Duration.minutes(1),
      accessInterval: store.accessInterval ?? Duration.minutes(1),
      maxEntries: store.maxEntries ?? 10_000_000,
      maxSize: store.maxSize ?? 10 * 1024 ** 3,
      migrate: store.migrate ?? true
    },
    loads: {
      maxBackground: loads.maxBackground ?? 100
    },
    bus: {
      pollInterval: bus.pollInterval ?? Duration.seconds(1),
      listen: bus.listen ?? true,
      url: bus.url === undefined ? undefined : Redacted.make(bus.url)
    }
  })
}

const environmentName = (name: string): string => name.toUpperCase().replace(/[^A-Z0-9]/gu, "_")

const invalidField = ({ document, origin, sources }: Raw, { issue }: Schema.SchemaError) => {
  const { message, path, value } = CachePolicy.firstIssue(document, issue)
  const variable = sources.get(path.join("\0")) ?? (origin + path.join(".")).trim()
  return invalid(variable, path.join(".") === "bus.url" ? Redacted.make(value) : value, message)
}

const invalid = (variable: string, value: unknown, problem: string) =>
  Effect.fail(new CacheError({ reason: new InvalidConfig({ variable, value: show(value), problem }) }))

/** Without URLs, which may have passwords in them. */
const show = (value: unknown): string => CachePolicy.show(value).replaceAll(/:\/\/[^"\s]*/g, "://<redacted>")

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
