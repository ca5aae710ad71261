/**
 * What scenarios are about, each a part of what can happen, so that rare things meet
 * often enough.
 */
import type { Tier } from "../../src/Operations.ts"
import { type Command, type Read, type Removal, withoutLoader } from "./Command.ts"
import type { Fault } from "./Fault.ts"
import { minute, tagSets } from "./Spaces.ts"

export interface Focus {
  /** Whether there always are several nodes, and leases. */
  readonly isContested?: boolean
  /** What is done before. */
  readonly prelude?: ReadonlyArray<Command>
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
  readonly faults: ReadonlyArray<Fault | undefined>
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

/** Of the looks of a load most of all the one after it has waited for another. */
const second: Fault = { kind: "read", nth: 2, isDone: false }
const faults: ReadonlyArray<Fault> = [
  second,
  { kind: "read", nth: 1, isDone: false },
  { kind: "read", nth: 3, isDone: false },
  { kind: "lease", nth: 1, isDone: false },
  { kind: "lease", nth: 2, isDone: true },
  { kind: "fill", nth: 1, isDone: false },
  { kind: "fill", nth: 1, isDone: true },
  { kind: "change", nth: 1, isDone: false },
  { kind: "change", nth: 1, isDone: true }
]
const rarely: ReadonlyArray<Fault | undefined> = [...Array.from({ length: 60 }, () => undefined), ...faults]

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
  faults: rarely,
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
  faults: [undefined],
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
  faults: [undefined],
  weights: { deliver: 14, read: 8, set: 4, removal: 5, disturb: 1, time: 1 }
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
  faults: [undefined],
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
  faults: rarely,
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
  faults: rarely,
  weights: { deliver: 14, read: 8, set: 3, removal: 5, disturb: 8, time: 4, crash: 1 }
}

/** A store that fails now and then, while loads that have something stale wait for one another, and fail. */
const outagesIn = (space: number): Focus => {
  const first = { node: 0, space, keys: [0], slow: false }
  return {
    ...contests,
    isContested: true,
    prelude: [
      { ...first, _tag: "Set", timeToLive: 10 * minute, tags: ["a"] },
      { ...first, _tag: "Read", node: 1, loader: "none", outcome: "value", ...withoutLoader, skip: [], stale: false },
      { _tag: "Advance", millis: 10 * minute }
    ],
    spaces: [space],
    keys: [[0], [0], [0], [0], [0, 1]],
    outcomes: ["value", "failure", "failure"],
    keeps: [true],
    timesToLive: [10 * minute],
    advances: [250, 1000, 1000, 10 * minute],
    slow: [false, false, true],
    faults: [undefined, undefined, ...faults, second, second, second, second, second],
    weights: { deliver: 2, read: 10, set: 1, removal: 5, disturb: 0, time: 5 }
  }
}

export const focuses: ReadonlyArray<Focus> = [
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
  contests,
  outagesIn(1),
  outagesIn(4),
  outagesIn(5)
]
