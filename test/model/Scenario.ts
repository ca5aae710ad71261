/**
 * Scenarios at random, each with a `Focus`.
 */
import * as fc from "fast-check"
import {
  type Command,
  type Read,
  type Removal,
  type Scenario,
  type Transaction,
  withoutLoader,
  type Write
} from "./Command.ts"
import { type Focus, focuses } from "./Focus.ts"
import { patterns, tagSets } from "./Spaces.ts"

interface Options {
  /** Whether half of the scenarios are played in the smallest steps there are. */
  readonly fine: boolean
  readonly maxLength: number
  /** Whether the store has any. */
  readonly transactions: boolean
}

export const scenario = (options: Options): fc.Arbitrary<Scenario> =>
  fc.oneof(...focuses.map((focus) => scenarioAbout(focus, options)))

const scenarioAbout = (focus: Focus, options: Options): fc.Arbitrary<Scenario> =>
  fc.record({
    nodes: focus.isContested === true ? fc.constantFrom(2, 2, 3) : fc.constantFrom(1, 2, 2, 2, 3),
    news: fc.constantFrom("at once", "at once", "at once", "late", "never"),
    leases: focus.isContested === true ? fc.constant(true) : fc.boolean(),
    fine: options.fine ? fc.boolean() : fc.constant(false),
    slowRetries: fc.boolean(),
    seed: fc.oneof(fc.constant(0), fc.nat(1_000_000)),
    commands: commandsAbout(focus, options)
  })

const commandsAbout = (
  {
    advances,
    expiries,
    faults,
    forces,
    keeps,
    keys,
    outcomes,
    prelude = [],
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
    steps: fc.constantFrom(...steps),
    fault: fc.constantFrom(...faults)
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
  return fc
    .array(command, { minLength: 1, maxLength: maxLength - prelude.length, size: "max" })
    .map((commands) => [...prelude, ...commands])
}
