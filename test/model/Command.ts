/**
 * What a model-based test does to a cache: operations, and what happens to them
 * on their way. Small numbers of everything, so that they meet.
 */
import { Schema } from "effect"
import * as fc from "fast-check"
import * as Namespace from "../../src/Namespace.ts"
import type { Tier } from "../../src/Operations.ts"

export type Key = string | number

const minute = 60_000

/** What a loader fails or dies with. */
export class LoadFailure extends Schema.Class<LoadFailure>("LoadFailure")({ load: Schema.Int }) {}

/** What a namespace's policy says of stale answers and failures; milliseconds. */
export interface Aging {
  readonly staleWhileRevalidate: number
  readonly staleIfError: number
  readonly failureBackoff: number
  readonly loaderSoftTimeout: number
  readonly loaderHardTimeout: number
  /** A fraction of the lifetime; 1: off. */
  readonly earlyRefresh: number
  readonly failureTimeToLive: number
  readonly storeWrites: "awaited" | "background"
}

const ageless: Aging = {
  staleWhileRevalidate: 0,
  staleIfError: 0,
  failureBackoff: 0,
  loaderSoftTimeout: Infinity,
  loaderHardTimeout: Infinity,
  earlyRefresh: 1,
  failureTimeToLive: 0,
  storeWrites: "awaited"
}

const space = (
  name: string,
  keys: ReadonlyArray<Key>,
  policy: Partial<Aging>,
  onStoreFailure: Namespace.OnStoreFailure = "recover"
) => {
  const aging = { ...ageless, ...policy }
  const key = typeof keys[0] === "number" ? Schema.Int : Schema.String
  const namespace = Namespace.make(name, {
    key: key as unknown as Schema.Codec<Key, unknown>,
    value: Schema.String,
    timeToLive: defaultTimeToLive,
    error: aging.failureTimeToLive > 0 ? LoadFailure : undefined,
    onStoreFailure,
    failureBackoff: aging.failureBackoff,
    ...policy
  })
  return { namespace, keys, aging }
}

export const defaultTimeToLive = 60 * minute
/** Longer than the shortest lifetime, and shorter than that and what is served stale after it. */
export const memoryTimeToLive = 12 * minute

/**
 * Names and keys that would meet if they were joined, trimmed or folded. Only the
 * first namespace serves nothing stale; the third fails when the store does.
 */
export const spaces: ReadonlyArray<ReturnType<typeof space>> = [
  space("s", ["x:y", "X:Y"], {}),
  space("s:x", ["y", "x:y"], {
    staleWhileRevalidate: 5 * minute,
    staleIfError: 20 * minute,
    failureBackoff: 5 * minute
  }),
  space("n", [1, 10], { staleIfError: 10 * minute, failureBackoff: minute }, "fail"),
  space("t", ["x:y", "y"], {
    staleIfError: 20 * minute,
    failureBackoff: 0,
    loaderSoftTimeout: 2000,
    loaderHardTimeout: 10_000
  }),
  space("e", ["x", "y"], {
    staleWhileRevalidate: 20 * minute,
    staleIfError: 2 * minute,
    failureBackoff: minute,
    earlyRefresh: 0.5
  }),
  space("f", ["x", "y"], {
    staleIfError: 10 * minute,
    failureBackoff: minute,
    failureTimeToLive: 5 * minute
  }),
  space("w", ["x", "y"], {
    staleWhileRevalidate: 5 * minute,
    staleIfError: 10 * minute,
    storeWrites: "background"
  })
]

/** Where an operation is done, on which keys (indices), and how fast. */
interface Target {
  readonly node: number
  readonly space: number
  readonly keys: ReadonlyArray<number>
  /** Whether its calls to the store wait to be delivered. */
  readonly slow: boolean
  /** How many steps are taken before the next command; by default all. */
  readonly steps?: number | undefined
}

export interface Read extends Target {
  readonly _tag: "Read"
  readonly loader: "none" | "now" | "later"
  readonly outcome: "value" | "failure" | "defect" | "interruption"
  readonly force: boolean
  readonly skip: ReadonlyArray<Tier>
  readonly keep: boolean
  readonly timeToLive: number | undefined
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
}

export interface Removal extends Target {
  readonly _tag: "Invalidate" | "Clear" | "ClearAll"
}

export type Operation = Read | Write | Removal

export type Command =
  | Operation
  /** Lets one of those that wait go on: a call to the store, its answer, a loader. */
  | { readonly _tag: "Deliver"; readonly index: number }
  /** Loses a call to the store, or its answer. */
  | { readonly _tag: "Lose"; readonly index: number }
  | { readonly _tag: "Interrupt"; readonly index: number }
  | { readonly _tag: "Step"; readonly count: number }
  | { readonly _tag: "Advance"; readonly millis: number }
  | { readonly _tag: "Sweep"; readonly limit: number }
  | { readonly _tag: "RemoveExpired"; readonly node: number }

export interface Scenario {
  readonly nodes: number
  /** Whether the nodes hear of one another's changes. */
  readonly bus: boolean
  /** Whether every primitive of an effect is a step. */
  readonly fine: boolean
  /** Whether what the caches tell the store once more, on their own, waits to be delivered. */
  readonly slowRetries: boolean
  /** Who takes the next step; 0: who has waited longest. */
  readonly seed: number
  readonly commands: ReadonlyArray<Command>
}

/** What a part of the scenarios is about, so that rare things meet often enough. */
interface Focus {
  readonly spaces: ReadonlyArray<number>
  readonly keys: ReadonlyArray<ReadonlyArray<number>>
  readonly outcomes: ReadonlyArray<Read["outcome"]>
  readonly forces: ReadonlyArray<boolean>
  readonly skips: ReadonlyArray<ReadonlyArray<Tier>>
  readonly keeps: ReadonlyArray<boolean>
  readonly timesToLive: ReadonlyArray<number | undefined>
  readonly advances: ReadonlyArray<number>
  readonly removals: ReadonlyArray<Removal["_tag"]>
  readonly slow: ReadonlyArray<boolean>
  readonly steps: ReadonlyArray<number | undefined>
  readonly weights: {
    readonly deliver: number
    readonly read: number
    readonly set: number
    readonly removal: number
    readonly disturb: number
    readonly time: number
  }
}

const everything: Focus = {
  spaces: [0, 0, 0, 0, 1, 2, 3, 4, 5, 6],
  keys: [[0], [0], [0], [1], [0, 1], [1, 0]],
  outcomes: ["value", "value", "value", "value", "value", "failure", "defect", "interruption"],
  forces: [false, false, false, false, true],
  skips: [[], [], [], [], [], ["memory"], ["store"], ["memory", "store"]],
  keeps: [true, true, true, true, true, false],
  timesToLive: [undefined, undefined, undefined, 0, 10 * minute, Infinity],
  advances: [1000, 4 * minute, 10 * minute, 50 * minute],
  removals: ["Invalidate", "Invalidate", "Invalidate", "Clear", "ClearAll"],
  slow: [false, true],
  steps: [undefined, undefined, undefined, 0, 1, 2, 5, 9, 14, 20],
  weights: { deliver: 14, read: 8, set: 3, removal: 4, disturb: 4, time: 4 }
}

/** Callers that join, leave and fail one another's loads. */
const flights: Focus = {
  ...everything,
  spaces: [0],
  outcomes: ["value", "value", "failure", "interruption"],
  skips: [[]],
  keeps: [true],
  timesToLive: [undefined],
  weights: { deliver: 14, read: 12, set: 0, removal: 1, disturb: 4, time: 0 }
}

/** Writes and removals of one key that overlap with reads of it. */
const changes: Focus = {
  ...everything,
  removals: ["Invalidate", "Invalidate", "Clear", "ClearAll"],
  spaces: [0],
  outcomes: ["value"],
  forces: [false, false, false, false, false, false, false, false, false, true],
  skips: [[]],
  keeps: [true],
  timesToLive: [undefined],
  steps: [undefined],
  weights: { deliver: 14, read: 8, set: 4, removal: 5, disturb: 1, time: 1 }
}

/** What only a read that can load has a say in. */
export const withoutLoader = {
  force: false,
  keep: true,
  timeToLive: undefined,
  staleOn: undefined,
  fallback: false
} satisfies Partial<Read>

const commandsAbout = (
  { advances, forces, keeps, keys, outcomes, removals, skips, slow, spaces, steps, timesToLive, weights }: Focus,
  maxLength: number
) => {
  const distinctKeys = fc.constantFrom(...keys)
  const target = {
    node: fc.constantFrom(0, 0, 1),
    space: fc.constantFrom(...spaces),
    slow: fc.constantFrom(...slow),
    steps: fc.constantFrom(...steps)
  }
  const timeToLive = fc.constantFrom(...timesToLive)
  const anyRead: fc.Arbitrary<Read> = fc.record({
    ...target,
    _tag: fc.constant("Read"),
    keys: fc.oneof(
      { weight: 5, arbitrary: distinctKeys },
      { weight: 1, arbitrary: fc.constantFrom([0, 0], [0, 1, 0]) }
    ),
    loader: fc.constantFrom("now", "later", "none"),
    outcome: fc.constantFrom(...outcomes),
    force: fc.constantFrom(...forces),
    skip: fc.constantFrom(...skips),
    keep: fc.constantFrom(...keeps),
    timeToLive,
    stale: fc.boolean(),
    staleOn: fc.constantFrom(undefined, undefined, undefined, true, false),
    fallback: fc.constantFrom(false, false, false, true)
  })
  const read = anyRead.map((read): Read => (read.loader === "none" ? { ...read, ...withoutLoader } : read))
  const set: fc.Arbitrary<Write> = fc.record({ ...target, _tag: fc.constant("Set"), keys: distinctKeys, timeToLive })
  const removal: fc.Arbitrary<Removal> = fc.record({
    ...target,
    _tag: fc.constantFrom(...removals),
    keys: distinctKeys
  })
  const index = fc.nat(3)
  const command: fc.Arbitrary<Command> = fc.oneof(
    { weight: weights.read, arbitrary: read },
    { weight: weights.set, arbitrary: set },
    { weight: weights.removal, arbitrary: removal },
    { weight: weights.deliver, arbitrary: fc.record({ _tag: fc.constant("Deliver"), index }) },
    {
      weight: weights.disturb,
      arbitrary: fc.record({ _tag: fc.constantFrom("Interrupt", "Interrupt", "Lose"), index })
    },
    { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Step"), count: fc.integer({ min: 1, max: 9 }) }) },
    {
      weight: weights.time,
      arbitrary: fc.oneof(
        fc.record({
          _tag: fc.constant("Advance"),
          millis: fc.constantFrom(...advances)
        }),
        fc.record({ _tag: fc.constant("Sweep"), limit: fc.constantFrom(100, 1) }),
        fc.record({ _tag: fc.constant("RemoveExpired"), node: target.node })
      )
    }
  )
  return fc.array(command, { minLength: 1, maxLength, size: "max" })
}

/** Entries that expire, while nothing or little is under way. */
const lifetimes: Focus = {
  ...everything,
  spaces: [0],
  outcomes: ["value"],
  skips: [[], [], [], ["memory"]],
  keeps: [true],
  timesToLive: [undefined, 10 * minute, 10 * minute, Infinity, 0],
  slow: [false, false, false, true],
  steps: [undefined],
  weights: { deliver: 5, read: 8, set: 3, removal: 2, disturb: 0, time: 8 }
}

/** Entries that are past their time, and loads that fail, while little is under way. */
const stale: Focus = {
  ...lifetimes,
  spaces: [1, 1, 1, 2, 4, 5, 6],
  keys: [[0], [0], [0], [0], [1], [0, 1]],
  outcomes: ["value", "failure", "failure"],
  skips: [[]],
  timesToLive: [10 * minute],
  advances: [1000, 4 * minute, 4 * minute, 10 * minute, 10 * minute],
  slow: [false],
  weights: { deliver: 6, read: 10, set: 1, removal: 2, disturb: 0, time: 6 }
}

/** The same in the midst of everything else. */
const staleAmidst: Focus = {
  ...stale,
  spaces: [1, 1, 1, 2, 3, 4, 5, 6],
  outcomes: ["value", "value", "failure", "failure", "failure", "defect"],
  forces: [false, false, false, false, false, false, false, true],
  skips: [[], [], [], [], [], ["memory"], ["store"]],
  timesToLive: [undefined, 10 * minute, 10 * minute],
  slow: [false, false, true],
  weights: { deliver: 8, read: 10, set: 2, removal: 2, disturb: 1, time: 8 }
}

/** Loaders that take their time. */
const timeouts: Focus = {
  ...staleAmidst,
  spaces: [3, 3, 3, 4],
  slow: [false, false, false, true],
  outcomes: ["value", "value", "failure", "interruption"],
  advances: [1000, 1000, 4000, 4000, 10_000, 10 * minute],
  weights: { deliver: 8, read: 10, set: 1, removal: 3, disturb: 1, time: 8 }
}

/** Changes that the store is not told of. */
const losses: Focus = {
  ...changes,
  spaces: [0, 0, 1, 6],
  slow: [true, true, false],
  advances: [100, 1000, 2000],
  weights: { deliver: 14, read: 8, set: 3, removal: 5, disturb: 8, time: 4 }
}

/** With `fine`, half of the scenarios are played in the smallest steps there are. */
export const scenario = (options: { readonly fine: boolean; readonly maxLength: number }): fc.Arbitrary<Scenario> =>
  fc.record({
    nodes: fc.constantFrom(1, 2, 2),
    bus: fc.constantFrom(true, true, true, false),
    fine: options.fine ? fc.boolean() : fc.constant(false),
    slowRetries: fc.boolean(),
    seed: fc.oneof(fc.constant(0), fc.nat(1_000_000)),
    commands: fc.oneof(
      ...[everything, flights, changes, lifetimes, stale, staleAmidst, timeouts, losses].map((focus) =>
        commandsAbout(focus, options.maxLength)
      )
    )
  })

/** A key by the names of its namespace and itself. */
export const nameOf = (space: number, key: number): string =>
  JSON.stringify([spaces[space]!.namespace.name, spaces[space]!.keys[key]])

/** The keys that an operation touches, each once. */
export const keysOf = (operation: Operation): ReadonlyArray<string> => {
  switch (operation._tag) {
    case "Read":
    case "Set":
    case "Invalidate":
      return [...new Set(operation.keys)].map((key) => nameOf(operation.space, key))
    case "Clear":
      return keysOfSpace(operation.space)
    case "ClearAll":
      return spaces.flatMap((_, space) => keysOfSpace(space))
  }
}

export const keysOfSpace = (space: number): ReadonlyArray<string> =>
  spaces[space]!.keys.map((_, key) => nameOf(space, key))

export const show = (command: Command): string => {
  switch (command._tag) {
    case "Deliver":
    case "Lose":
    case "Interrupt":
      return `${command._tag.toLowerCase()} ${command.index}`
    case "Step":
      return `${command.count} steps`
    case "Advance":
      return `advance the clock by ${command.millis / 1000} s`
    case "Sweep":
      return `sweep the store, at most ${command.limit}`
    case "RemoveExpired":
      return `remove what has expired from the memory of node ${command.node}`
    default:
      return showOperation(command)
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
  if (operation.slow) options.push("slow")
  if (operation.steps !== undefined) options.push(`${operation.steps} steps`)
  const name = operation._tag === "Read" ? (operation.loader === "none" ? "get" : "getOrSet") : operation._tag
  const keys =
    operation._tag === "ClearAll"
      ? ""
      : operation._tag === "Clear"
        ? JSON.stringify(spaces[operation.space]!.namespace.name)
        : operation.keys.map((key) => nameOf(operation.space, key)).join(" ")
  return `node ${operation.node}: ${name} ${keys}${options.length === 0 ? "" : ` (${options.join(", ")})`}`
}
