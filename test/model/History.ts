/**
 * What has happened: operations, the loaders that ran for them, the values that
 * came of it; and until when each of these may be answered with.
 *
 * `began`, `ended` and `stored` are ticks, which tell what came first; what ends in
 * `At` is on the clock.
 *
 * What is done in a transaction begins when it is done, and ends with the
 * transaction. To all others it is done at the commit.
 */
import { Cause, Exit } from "effect"
import { CacheError } from "../../src/CacheError.ts"
import type { Invalidation } from "../../src/InvalidationBus.ts"
import type { News, Operation, Read } from "./Command.ts"
import { type Aging, type LoadFailure, patterns, spaces } from "./Spaces.ts"

/** What is known of all that has happened so far. */
export interface Past {
  readonly now: () => number
  readonly news: News
  readonly leases: boolean
  readonly fenceLifetime: number
  /** Whether nothing is under way any more, and the store has been told everything. */
  readonly isSettled: boolean
  readonly operations: ReadonlyArray<Running>
  readonly loads: ReadonlyArray<Load>
  readonly values: ReadonlyMap<string, Value>
}

/** A transaction: open, or over. */
export interface Transacting {
  readonly began: number
  /** Whether it sees what others commit while it is open. */
  readonly isRepeatable: boolean
  /** When its commit was asked for; what it did cannot be known before. */
  committing: number | undefined
  isCommitted: boolean
}

/** An operation: under way, or over. */
export interface Running {
  readonly id: number
  readonly operation: Operation
  /** On which node, of all that there ever were. */
  readonly where: number
  readonly transaction: Transacting | undefined
  readonly keys: ReadonlyArray<string>
  readonly began: number
  readonly beganAt: number
  /** What it loaded or sets, by key. */
  readonly values: Map<string, Value>
  /** Keys that others touched while it ran. */
  readonly contended: Set<string>
  /** How many calls to the store on its behalf have no answer. */
  calls: number
  /** How many of them have failed. */
  failures: number
  /** Whether the store was asked at all. */
  asked: boolean
  interrupted: boolean
  /** Whether its node came to an end before it had, or before what it left behind had. */
  crashed: boolean
  /** Whether it was taken back, with its savepoint or transaction. */
  undone: boolean
  /** Which nodes have heard of what it changed, and when. */
  readonly heard: Map<number, number>
  ended: number | undefined
  endedAt: number
  /** When what it had left behind was over, too. */
  over: number | undefined
  exit: Exit.Exit<unknown, unknown> | undefined
}

/** What a loader brought or a caller set; or a failure that was kept. */
export interface Value {
  readonly text: string
  readonly key: string
  readonly source: Running
  readonly isLoaded: boolean
  readonly timeToLive: number
  readonly tags: ReadonlyArray<string>
  readonly began: number
  /** When a load ended, in ticks and on the clock. */
  ended: number | undefined
  endedAt: number
  /** When the store took it. */
  stored: number | undefined
  storedAt: number
  /** Whether it may take it yet: nobody has waited for its answer. */
  isDoubted: boolean
}

/** A run of a loader. */
export interface Load {
  readonly source: Running
  readonly keys: ReadonlyArray<string>
  readonly began: number
  readonly beganAt: number
  readonly failure: LoadFailure
  ended: number | undefined
  endedAt: number
  outcome: "loadSuccess" | "loadFailure" | "loadInterrupted" | undefined
}

/** How long what a load leaves to the store may be on its way. */
export const timeInStore = 2000

export const agingOf = ({ space }: Pick<Operation, "space">): Aging => spaces[space]!.aging

/** Whether loads may go on without their callers. */
export const mayGoOn = ({ earlyRefresh, loaderHardTimeout, loaderSoftTimeout, staleWhileRevalidate }: Aging): boolean =>
  staleWhileRevalidate > 0 || earlyRefresh < 1 || Math.min(loaderHardTimeout, loaderSoftTimeout) < Infinity

/** Whether something of a read may come after its end. */
export const mayTrail = (aging: Aging): boolean => mayGoOn(aging) || aging.storeWrites === "background"

export const isTyped = ({ outcome, source }: Load): boolean =>
  outcome === "loadFailure" && (source.operation as Read).outcome === "failure"

/** Whether the failed load has the value served for a while without another. */
export const isRearming = (load: Load, value: Value, expiredAt = Infinity): boolean => {
  const read = load.source.operation as Read
  const until = standsInUntil(value, expiredAt)
  const mayStandIn = isTyped(load) && read.staleOn !== false && read.keep && load.endedAt < until
  return mayStandIn && agingOf(read).failureBackoff > 0
}

export const isSetting = (operation: Operation): boolean => operation._tag === "Set" && operation.timeToLive !== 0

/** Whether memory keeps what the store may not have taken. */
export const isKeptThough = ({ exit, operation }: Pick<Running, "exit" | "operation">): boolean =>
  isSetting(operation) &&
  exit !== undefined &&
  Exit.isFailure(exit) &&
  !Cause.hasInterrupts(exit.cause) &&
  spaces[operation.space]!.namespace.onStoreFailure === "recover"

export const nameIn = (namespace: string, key: string): string =>
  JSON.stringify([namespace, /^\d+$/.test(key) ? Number(key) : key])

export const textOfFailure = ({ load }: Pick<LoadFailure, "load">, key: string): string => `failure ${load} of ${key}`

export const concerns = (invalidation: Invalidation, key: string): boolean => {
  if (invalidation._tag === "All") return true
  const { namespace } = invalidation
  if (invalidation._tag === "Namespace") return key.startsWith(JSON.stringify([namespace]).slice(0, -1) + ",")
  if (invalidation._tag === "Keys") return invalidation.keys.some((text) => nameIn(namespace, text) === key)
  const [name, part] = JSON.parse(key) as [string, string | number]
  if (name !== namespace || invalidation._tag === "Tags") return name === namespace
  return patterns.some(({ pattern, regex }) => pattern === invalidation.pattern && regex.test(String(part)))
}

export const isLoaderTimeout = ({ cause }: Exit.Failure<unknown, unknown>): boolean =>
  cause.reasons.some(
    (reason) =>
      reason._tag === "Fail" && reason.error instanceof CacheError && reason.error.reason._tag === "LoaderTimeout"
  )

/** What a read has for want of anything else. */
export const fallbackOf = ({ id }: Pick<Running, "id">): string => `fallback ${id}`

export const isShared = ({ operation, transaction }: Running): boolean =>
  operation._tag === "Read" && operation.keep && operation.skip.length === 0 && transaction === undefined

export const isForced = (operation: Operation): boolean => operation._tag === "Read" && operation.force

export const shares = (a: Pick<Running, "keys">, b: Pick<Running, "keys">): boolean =>
  a.keys.some((key) => b.keys.includes(key))

/** Whether a change of these keys is one of this value. */
export const covers = ({ keys, operation }: Running, { key, tags }: Value): boolean =>
  keys.includes(key) && (operation._tag !== "InvalidateTags" || tags.some((tag) => operation.tags.includes(tag)))

export const endInStore = ({ isDoubted, stored, storedAt, timeToLive }: Value): number =>
  isDoubted ? Infinity : stored === undefined ? -Infinity : storedAt + timeToLive

/** Until when it is fresh, wherever it is. */
export const endOf = (value: Value): number => {
  const { ended, endedAt, source, timeToLive } = value
  const endInMemory = isKeptThough(source) ? source.beganAt + timeToLive : -Infinity
  return Math.max(endInStore(value), endInMemory, ended === undefined ? -Infinity : endedAt + timeToLive)
}

export const reserveOf = ({ source }: Value): number => {
  const { staleIfError, staleWhileRevalidate } = agingOf(source.operation)
  return Math.max(staleIfError, staleWhileRevalidate)
}

export const staleUntilOf = (value: Value): number => endOf(value) + reserveOf(value)

export const staleUntilInStore = (value: Value): number => endInStore(value) + reserveOf(value)

/** Until when it may be served while it is loaded anew, and when that has failed; it may have been expired. */
export const revalidatedUntil = (value: Value, expiredAt = Infinity): number => {
  const { staleWhileRevalidate } = agingOf(value.source.operation)
  return Math.min(Math.min(endOf(value), expiredAt) + staleWhileRevalidate, staleUntilOf(value))
}

export const standsInUntil = (value: Value, expiredAt = Infinity): number => {
  const { staleIfError } = agingOf(value.source.operation)
  const until = Math.min(Math.min(endOf(value), expiredAt) + staleIfError, staleUntilOf(value))
  return staleIfError > 0 ? until : -Infinity
}

export const check: (holds: boolean, problem: string) => asserts holds = (holds, problem) => {
  if (!holds) throw new Error(problem)
}
