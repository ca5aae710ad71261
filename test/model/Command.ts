/**
 * What a model-based test does to caches: operations, and what happens to them on
 * their way.
 */
import type { Tier } from "../../src/Operations.ts"
import { type Fault, showFault } from "./Fault.ts"
import { keysOfSpace, minute, nameOf, patterns, spaces } from "./Spaces.ts"

/** Where an operation is done, on which keys (indices), and how fast. */
interface Target {
  readonly node: number
  readonly space: number
  readonly keys: ReadonlyArray<number>
  /** Whether its calls to the store wait to be delivered. */
  readonly slow: boolean
  /** How many steps are taken before the next command; by default all. */
  readonly steps?: number | undefined
  /** Which of its calls to the store fails, if any; none inside a transaction. */
  readonly fault?: Fault | undefined
}

export interface Read extends Target {
  readonly _tag: "Read"
  readonly loader: "none" | "now" | "later"
  readonly outcome: "value" | "failure" | "defect" | "interruption"
  readonly force: boolean
  readonly skip: ReadonlyArray<Tier>
  readonly keep: boolean
  readonly timeToLive: number | undefined
  readonly tags: ReadonlyArray<string>
  /** Whether something stale will do, of a read without a loader. */
  readonly stale: boolean
  /** What it says of failures, if anything: whether they may be answered with something else. */
  readonly staleOn: boolean | undefined
  /** Whether it has something else, if there is nothing stale. */
  readonly fallback: boolean
}

export interface Write extends Target {
  readonly _tag: "Set"
  readonly timeToLive: number | undefined
  readonly tags: ReadonlyArray<string>
}

export interface Removal extends Target {
  readonly _tag: "Invalidate" | "InvalidateTags" | "InvalidatePattern" | "Clear" | "ClearAll"
  /** Whether what is there stays as a reserve; there is no such way to clear. */
  readonly keepsStale: boolean
  readonly tags: ReadonlyArray<string>
  /** One of `patterns`. */
  readonly pattern: number
}

export type Operation = Read | Write | Removal

/**
 * Operations in one transaction, which goes on by a step with each delivery; some of
 * them in a savepoint.
 */
export interface Transaction {
  readonly _tag: "Transaction"
  readonly node: number
  readonly isolation: "read committed" | "repeatable read" | "serializable"
  readonly operations: ReadonlyArray<Operation>
  readonly savepoint: { readonly from: number; readonly to: number; readonly isKept: boolean } | undefined
  /** Whether it is committed. */
  readonly isKept: boolean
}

export type Command =
  | Operation
  | Transaction
  /** Lets one of those that wait go on: a call to the store, its answer, a loader, news, a transaction. */
  | { readonly _tag: "Deliver"; readonly index: number }
  /** Loses a call to the store, or its answer, or a wake. */
  | { readonly _tag: "Lose"; readonly index: number }
  | { readonly _tag: "Interrupt"; readonly index: number }
  /** Ends a node at once: it tells nobody anything any more. Another takes its place. */
  | { readonly _tag: "Crash"; readonly node: number }
  | { readonly _tag: "Step"; readonly count: number }
  | { readonly _tag: "Advance"; readonly millis: number }
  | { readonly _tag: "Sweep"; readonly limit: number }
  | { readonly _tag: "RemoveExpired"; readonly node: number }

/** When the nodes hear of one another's changes: in any order, where it is late; wakes may then be lost. */
export type News = "at once" | "late" | "never"

export interface Scenario {
  readonly nodes: number
  readonly news: News
  /** Whether loads take leases. */
  readonly leases: boolean
  /** Whether every primitive of an effect is a step. */
  readonly fine: boolean
  /** Whether what the caches tell the store once more, on their own, waits to be delivered. */
  readonly slowRetries: boolean
  /** Who takes the next step; 0: who has waited longest. */
  readonly seed: number
  readonly commands: ReadonlyArray<Command>
}

/** What only a read that can load has a say in. */
export const withoutLoader = {
  force: false,
  keep: true,
  timeToLive: undefined,
  tags: [],
  staleOn: undefined,
  fallback: false
} satisfies Partial<Read>

/** Whether it leaves a reserve. */
export const isExpiry = (operation: Operation): boolean =>
  "keepsStale" in operation && operation.keepsStale && operation._tag !== "Clear" && operation._tag !== "ClearAll"

/** The keys that an operation may touch, each once. */
export const keysOf = (operation: Operation): ReadonlyArray<string> => {
  switch (operation._tag) {
    case "Read":
    case "Set":
    case "Invalidate":
      return [...new Set(operation.keys)].map((key) => nameOf(operation.space, key))
    case "InvalidatePattern": {
      const { regex } = patterns[operation.pattern]!
      const { keys } = spaces[operation.space]!
      return keys.flatMap((key, index) => (regex.test(String(key)) ? [nameOf(operation.space, index)] : []))
    }
    case "InvalidateTags":
    case "Clear":
      return keysOfSpace(operation.space)
    case "ClearAll":
      return spaces.flatMap((_, space) => keysOfSpace(space))
  }
}

/** What a read or a write tags the value of a key with: of many keys, all but the first lack a tag. */
export const tagsFor = (operation: Operation, key: string): ReadonlyArray<string> => {
  if (operation._tag !== "Read" || keysOf(operation)[0] === key) return "tags" in operation ? operation.tags : []
  return operation.tags.slice(1)
}

export const show = (command: Command): string => {
  switch (command._tag) {
    case "Deliver":
    case "Lose":
    case "Interrupt":
      return `${command._tag.toLowerCase()} ${command.index}`
    case "Crash":
      return `node ${command.node} crashes`
    case "Step":
      return `${command.count} steps`
    case "Advance":
      return `advance the clock by ${command.millis / 1000} s`
    case "Sweep":
      return `sweep the store, at most ${command.limit}`
    case "RemoveExpired":
      return `remove what has expired from the memory of node ${command.node}`
    case "Transaction": {
      const { isKept, isolation, node, operations, savepoint } = command
      const steps = operations.map((operation, index) => {
        const isInside = savepoint !== undefined && index >= savepoint.from && index < savepoint.to
        return (isInside ? "savepoint: " : "") + showOperation(operation)
      })
      if (savepoint?.isKept === false) steps.push("savepoint rolled back")
      return `node ${node}: ${isolation} transaction (${[...steps, isKept ? "commit" : "rollback"].join("; ")})`
    }
    default:
      return `node ${command.node}: ${showOperation(command)}`
  }
}

const showOperation = (operation: Operation): string => {
  const options: Array<string> = []
  if (operation._tag === "Read") {
    if (operation.loader !== "none") options.push(`loader ${operation.outcome} ${operation.loader}`)
    if (operation.force) options.push("force")
    if (operation.skip.length > 0) options.push(`skip ${operation.skip.join(" and ")}`)
    if (!operation.keep) options.push("store: false")
    if (operation.stale && operation.loader === "none") options.push("stale")
    if (operation.staleOn !== undefined) options.push(`staleOn ${operation.staleOn}`)
    if (operation.fallback) options.push("fallback")
  }
  if ("timeToLive" in operation && operation.timeToLive !== undefined) {
    options.push(`timeToLive ${operation.timeToLive / minute} min`)
  }
  const isTagged = operation._tag === "Set" || (operation._tag === "Read" && operation.loader !== "none")
  if (isTagged && operation.tags.length > 0) options.push(`tags ${operation.tags.join(" ")}`)
  if (operation.slow) options.push("slow")
  if (operation.fault !== undefined) options.push(showFault(operation.fault))
  if (operation.steps !== undefined) options.push(`${operation.steps} steps`)
  return `${nameIn(operation)} ${targetOf(operation)}${options.length === 0 ? "" : ` (${options.join(", ")})`}`
}

const nameIn = (operation: Operation): string => {
  if (operation._tag === "Read") return operation.loader === "none" ? "get" : "getOrSet"
  return isExpiry(operation) ? operation._tag.replace("Invalidate", "Expire") : operation._tag
}

const targetOf = (operation: Operation): string => {
  const namespace = JSON.stringify(spaces[operation.space]!.namespace.name)
  switch (operation._tag) {
    case "ClearAll":
      return ""
    case "Clear":
      return namespace
    case "InvalidateTags":
      return `${namespace} ${operation.tags.join(" ")}`
    case "InvalidatePattern":
      return `${namespace} ${patterns[operation.pattern]!.pattern}`
    default:
      return operation.keys.map((key) => nameOf(operation.space, key)).join(" ")
  }
}
