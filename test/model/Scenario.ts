/**
 * Scenarios at random, each about a part of what can happen, so that rare things
 * meet often enough.
 */
import * as fc from "fast-check"
import type { Tier } from "../../src/Operations.ts"
import {
  type Command,
  type Read,
  type Removal,
  type Scenario,
  type Transaction,
  withoutLoader,
  type Write
} from "./Command.ts"
import { minute, patterns, tagSets } from "./Spaces.ts"

/** What a part of the scenarios is about. */
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
  readonly expiries: ReadonlyArray<boolean>
  readonly tags: ReadonlyArray<ReadonlyArray<string>>
  readonly slow: ReadonlyArray<boolean>
  readonly steps: ReadonlyArray<number | undefined>
  readonly weights: {
    readonly deliver: number
    readonly read: number
    readonly set: number
    readonly removal: number
    readonly disturb: number
    readonly time: number
    readonly crash?: number
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
  removals: ["Invalidate", "Invalidate", "InvalidateTags", "InvalidatePattern", "Clear", "ClearAll"],
  expiries: [false, false, true],
  tags: tagSets,
  slow: [false, true],
  steps: [undefined, undefined, undefined, 0, 1, 2, 5, 9, 14, 20],
  weights: { deliver: 14, read: 8, set: 3, removal: 4, disturb: 4, time: 4, crash: 1 }
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
  removals: ["Invalidate", "Invalidate", "InvalidateTags", "InvalidatePattern", "Clear", "ClearAll"],
  expiries: [false, false, false, true],
  spaces: [0],
  outcomes: ["value"],
  forces: [false, false, false, false, false, false, false, false, false, true],
  skips: [[]],
  keeps: [true],
  timesToLive: [undefined],
  steps: [undefined],
  weights: { deliver: 14, read: 8, set: 4, removal: 5, disturb: 1, time: 1 }
}

const commandsAbout = (
  {
    advances,
    expiries,
    forces,
    keeps,
    keys,
    outcomes,
    removals,
    skips,
    slow,
    spaces,
    steps,
    tags: taggings,
    timesToLive,
    weights
  }: Focus,
  { maxLength, transactions }: Options
) => {
  const distinctKeys = fc.constantFrom(...keys)
  const target = {
    node: fc.constantFrom(0, 0, 0, 1, 1, 2),
    space: fc.constantFrom(...spaces),
    slow: fc.constantFrom(...slow),
    steps: fc.constantFrom(...steps)
  }
  const timeToLive = fc.constantFrom(...timesToLive)
  const tags = fc.constantFrom(...taggings)
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
    tags,
    stale: fc.boolean(),
    staleOn: fc.constantFrom(undefined, undefined, undefined, true, false),
    fallback: fc.constantFrom(false, false, false, true)
  })
  const read = anyRead.map((read): Read => (read.loader === "none" ? { ...read, ...withoutLoader } : read))
  const set: fc.Arbitrary<Write> = fc.record({
    ...target,
    _tag: fc.constant("Set"),
    keys: distinctKeys,
    timeToLive,
    tags
  })
  const removal: fc.Arbitrary<Removal> = fc.record({
    ...target,
    _tag: fc.constantFrom(...removals),
    keys: distinctKeys,
    keepsStale: fc.constantFrom(...expiries),
    tags: fc.constantFrom(...tagSets.filter((tags) => tags.length > 0)),
    pattern: fc.nat(patterns.length - 1)
  })
  const operation = (weights: Focus["weights"]) => [
    { weight: weights.read, arbitrary: read },
    { weight: weights.set, arbitrary: set },
    { weight: weights.removal, arbitrary: removal }
  ]
  const part = fc.nat(2)
  const transaction: fc.Arbitrary<Transaction> = fc.record({
    _tag: fc.constant("Transaction"),
    node: target.node,
    isolation: fc.constantFrom("read committed", "read committed", "repeatable read", "serializable"),
    operations: fc.array(fc.oneof(...operation({ ...weights, set: weights.set + 2, removal: weights.removal + 2 })), {
      minLength: 1,
      maxLength: 4,
      size: "max"
    }),
    savepoint: fc.option(fc.record({ from: part, to: fc.nat(4), isKept: fc.boolean() }), { nil: undefined, freq: 2 }),
    isKept: fc.constantFrom(true, true, false)
  })
  const index = fc.nat(3)
  const command: fc.Arbitrary<Command> = fc.oneof(
    ...operation(weights),
    ...(transactions ? [{ weight: 4, arbitrary: transaction }] : []),
    { weight: weights.deliver, arbitrary: fc.record({ _tag: fc.constant("Deliver"), index }) },
    {
      weight: weights.disturb,
      arbitrary: fc.record({ _tag: fc.constantFrom("Interrupt", "Interrupt", "Lose"), index })
    },
    { weight: weights.crash ?? 0, arbitrary: fc.record({ _tag: fc.constant("Crash"), node: target.node }) },
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

/** Changes by tag and by pattern that overlap with what they concern. */
const tagged: Focus = {
  ...changes,
  spaces: [0, 0, 1],
  keys: [[0], [0], [0], [1], [0, 1]],
  removals: ["InvalidateTags", "InvalidateTags", "InvalidateTags", "InvalidatePattern", "Invalidate"],
  tags: [["a"], ["a"], ["b"], ["a", "b"], []],
  weights: { deliver: 14, read: 8, set: 3, removal: 6, disturb: 1, time: 1 }
}

/** What is made stale, and what stands in then. */
const expiries: Focus = {
  ...stale,
  spaces: [1, 1, 2, 3, 4, 5, 6, 0],
  outcomes: ["value", "value", "failure"],
  removals: ["Invalidate", "Invalidate", "InvalidateTags", "InvalidatePattern", "Clear"],
  expiries: [true, true, true, false],
  timesToLive: [undefined, 10 * minute],
  slow: [false, false, false, true],
  weights: { deliver: 8, read: 10, set: 2, removal: 6, disturb: 0, time: 3 }
}

/** Loads of several nodes that want the same, and nodes that come to an end. */
const contests: Focus = {
  ...everything,
  spaces: [0, 0, 0, 1, 3],
  keys: [[0], [0], [0], [0, 1], [1, 0]],
  outcomes: ["value", "value", "value", "failure"],
  forces: [false],
  skips: [[]],
  keeps: [true, true, true, false],
  timesToLive: [undefined],
  advances: [100, 250, 1000, 4000, 6000, 10_000],
  slow: [false, false, true],
  steps: [undefined],
  weights: { deliver: 8, read: 12, set: 1, removal: 2, disturb: 3, time: 8, crash: 2 }
}

/** Changes that the store is not told of. */
const losses: Focus = {
  ...changes,
  spaces: [0, 0, 1, 6],
  slow: [true, true, false],
  advances: [100, 1000, 2000],
  weights: { deliver: 14, read: 8, set: 3, removal: 5, disturb: 8, time: 4, crash: 1 }
}

interface Options {
  /** Whether half of the scenarios are played in the smallest steps there are. */
  readonly fine: boolean
  readonly maxLength: number
  /** Whether the store has any. */
  readonly transactions: boolean
}

export const scenario = (options: Options): fc.Arbitrary<Scenario> =>
  fc.record({
    nodes: fc.constantFrom(1, 2, 2, 2, 3),
    news: fc.constantFrom("at once", "at once", "at once", "late", "never"),
    leases: fc.boolean(),
    fine: options.fine ? fc.boolean() : fc.constant(false),
    slowRetries: fc.boolean(),
    seed: fc.oneof(fc.constant(0), fc.nat(1_000_000)),
    commands: fc.oneof(
      ...[
        everything,
        flights,
        changes,
        tagged,
        lifetimes,
        stale,
        expiries,
        staleAmidst,
        timeouts,
        losses,
        contests
      ].map((focus) => commandsAbout(focus, options))
    )
  })
