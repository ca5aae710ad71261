/**
 * Random scenarios on caches over the memory store, and those that once went
 * wrong. `FC_RUNS` plays more of them; `FC_SEED` and `FC_PATH` one that failed
 * again.
 */
import { describe, it } from "@effect/vitest"
import { Context, Effect, Exit } from "effect"
import * as fc from "fast-check"
import * as MemoryStore from "../src/MemoryStore.ts"
import type { Command, Operation, Read, Removal, Write } from "./model/Command.ts"
import { play, type Stage } from "./model/Play.ts"
import { scenario } from "./model/Scenario.ts"
import type { Stepper } from "./model/Stepper.ts"

const inMemory = (stepper: Stepper): Effect.Effect<Stage> => {
  const store = stepper.fork(MemoryStore.make, Context.empty())
  stepper.step()
  const exit = store.pollUnsafe()
  if (exit === undefined || Exit.isFailure(exit)) return Effect.die("no store")
  return Effect.succeed({ store: exit.value, answersAtOnce: true, wait: Effect.never, advance: () => Effect.void })
}

const { FC_PATH, FC_RUNS = "1500", FC_SEED } = process.env

const replay = FC_SEED === undefined ? {} : { seed: Number(FC_SEED), path: FC_PATH ?? "" }

describe("TieredCache over the memory store", () => {
  it(
    "answers what the reference allows, however operations, loads and failures interleave",
    { timeout: 3_600_000 },
    () =>
      fc.assert(
        fc.property(scenario({ fine: true, maxLength: 30, transactions: false }), (scenario) =>
          Effect.runSync(play(scenario, inMemory))
        ),
        { numRuns: Number(FC_RUNS), includeErrorInReport: true, ...replay }
      )
  )

  it("a bulk read takes each key from the load that it joined for that key", () =>
    run(
      getOrSet({ keys: [0, 1], loader: "later" }),
      remove({ keys: [0] }),
      getOrSet({ keys: [0], slow: true }),
      getOrSet({ keys: [0, 1] })
    ))

  it("nobody is given what a bulk load had found in the store and has expired since", () =>
    run(
      set({ node: 1, keys: [0], timeToLive: 10 * minute }),
      getOrSet({ keys: [0, 1], loader: "later" }),
      advance(10 * minute),
      getOrSet({ keys: [0] })
    ))

  it("a load that ends in an interruption takes no waiter from another load", () =>
    run(
      getOrSet({ keys: [0], loader: "later", outcome: "interruption" }),
      getOrSet({ keys: [1, 0], slow: true }),
      getOrSet({ keys: [1] }),
      deliver
    ))

  it("what is set leaves memory no later than the store", () =>
    run(
      set({ keys: [0], timeToLive: 10 * minute, slow: true }),
      deliver,
      advance(1000),
      deliver,
      advance(10 * minute - 1000),
      getOrSet({ keys: [0] })
    ))

  it("nothing was there once it has expired", () =>
    run(set({ keys: [0], timeToLive: 10 * minute }), advance(10 * minute), remove({ keys: [0] })))

  it("a load that takes as long as a fence lasts stores nothing", () =>
    runDeaf(
      getOrSet({ keys: [0], loader: "later", slow: true }),
      deliver,
      deliver,
      remove({ node: 1, keys: [0] }),
      advance(10 * minute),
      deliver,
      { _tag: "Sweep", limit: 100 },
      deliver,
      deliver,
      getOrSet({ node: 1, keys: [0] })
    ))

  it("a load is refused that began before everything was cleared, also where there was nothing", () =>
    runDeaf(
      getOrSet({ keys: [0], loader: "later" }),
      remove({ node: 1, _tag: "ClearAll" }),
      deliver,
      getOrSet({ node: 1, keys: [0] })
    ))

  it("who forces a load waits for it, whatever is in reserve", () =>
    run(
      getOrSet({ space: ages, keys: [0] }),
      getOrSet({ space: ages, keys: [0], loader: "later", force: true }),
      deliver
    ))

  it("who forces a load that fails is told so, where nothing may stand in", () =>
    run(getOrSet({ keys: [0] }), getOrSet({ keys: [0], force: true, outcome: "failure" })))

  it("who leaves a bulk read because one key has failed is told of that failure", () =>
    run(
      getOrSet({ space: ages, keys: [0], loader: "later", outcome: "failure" }),
      getOrSet({ space: ages, keys: [1, 0], slow: true }),
      { _tag: "Deliver", index: 0 }
    ))

  it("what the store has removed is no reserve any more, though nobody was told", () =>
    runDeaf(
      set({ space: ages, node: 1, keys: [0], timeToLive: 10 * minute }),
      advance(10 * minute),
      remove({ space: ages, keys: [0] }),
      get({ space: ages, node: 1, keys: [0], stale: true })
    ))

  it("what memory does not vouch for any more is not served while it is revalidated", () =>
    runDeaf(
      getOrSet({ space: ages, node: 1, keys: [0], timeToLive: 10 * minute }),
      remove({ space: ages, keys: [0] }),
      advance(14 * minute),
      getOrSet({ space: ages, node: 1, keys: [0] })
    ))

  it("what was stored in the background is no reserve any more when the store has removed and forgotten it", () =>
    runDeaf(
      getOrSet({ space: writesLater, node: 1, keys: [0], timeToLive: 10 * minute }),
      remove({ space: writesLater, keys: [0] }),
      advance(10 * minute),
      { _tag: "Sweep", limit: 100 },
      get({ space: writesLater, node: 1, keys: [0], stale: true })
    ))

  it("a load that fails brings nothing back that was invalidated meanwhile", () =>
    run(
      getOrSet({ space: ages, keys: [0], timeToLive: 10 * minute }),
      advance(10 * minute),
      getOrSet({ space: ages, keys: [0], loader: "later", outcome: "failure" }),
      remove({ space: ages, keys: [0] }),
      deliver,
      getOrSet({ space: ages, keys: [0] })
    ))

  it("a load that goes on in the background brings nothing back either", () =>
    run(
      getOrSet({ space: waits, keys: [0], loader: "later" }),
      advance(10_000),
      remove({ space: waits, keys: [0] }),
      deliver
    ))

  it("an invalidation that comes while an older row is on its way is not done with that row", () =>
    run(
      getOrSet({ keys: [0], slow: true }),
      deliver,
      deliver,
      deliver,
      remove({ keys: [0], slow: true }),
      { _tag: "Lose", index: 1 },
      { _tag: "Lose", index: 1 },
      deliver,
      get({ keys: [0] })
    ))

  it("a memory that is left alone may go on with what it has", () =>
    run(
      set({ space: ages, keys: [0], timeToLive: 10 * minute }),
      advance(10 * minute),
      getOrSet({ space: ages, keys: [0], skip: ["memory"] }),
      getOrSet({ space: ages, keys: [0] })
    ))

  it("what is revalidated for a bulk read ends in time although that still waits for another key", () =>
    run(
      set({ space: ages, keys: [0], timeToLive: 10 * minute }),
      advance(10 * minute),
      getOrSet({ space: ages, keys: [0, 1], loader: "later" }),
      advance(10 * minute)
    ))

  it("who comes while a failed load re-arms its reserve is told of the failure", () =>
    run(
      getOrSet({ space: fails, keys: [0, 1], outcome: "failure", force: true, slow: true }),
      set({ space: fails, keys: [0] }),
      deliver,
      deliver,
      getOrSet({ space: fails, keys: [0, 1] })
    ))

  for (const node of [0, 1]) {
    const who = node === 0 ? "another node" : "its own"
    it(`what ${who} invalidates while a load waits for another does not come back by it, though the store fails it then`, () =>
      runLeased(
        getOrSet({ space: ages, node: 1, keys: [0], timeToLive: 10 * minute }),
        advance(10 * minute),
        getOrSet({ space: ages, keys: [0], loader: "later" }),
        getOrSet({ space: ages, node: 1, keys: [0], outcome: "failure", fault: secondRead }),
        remove({ space: ages, node, keys: [0] }),
        advance(1000),
        getOrSet({ space: ages, node: 1, keys: [0] })
      ))
  }

  it("what is set while a load is on its way is not undone by it, though the store fails it when it looks again", () =>
    runLeased(
      set({ space: ages, keys: [0], timeToLive: 10 * minute }),
      advance(10 * minute),
      getOrSet({ space: ages, keys: [0], outcome: "failure", slow: true, fault: secondRead }),
      deliver,
      set({ space: ages, keys: [0] }),
      deliver,
      deliver,
      deliver,
      deliver,
      getOrSet({ space: ages, keys: [0] })
    ))
})

const plain = { nodes: 2, leases: false, fine: false, seed: 0 }

const run = (...commands: ReadonlyArray<Command>): void =>
  Effect.runSync(play({ ...plain, news: "at once", slowRetries: true, commands }, inMemory))

/** The nodes hear nothing of one another, so all depends on the store. */
const runDeaf = (...commands: ReadonlyArray<Command>): void =>
  Effect.runSync(play({ ...plain, news: "never", slowRetries: false, commands }, inMemory))

const runLeased = (...commands: ReadonlyArray<Command>): void =>
  Effect.runSync(play({ ...plain, leases: true, news: "at once", slowRetries: false, commands }, inMemory))

const minute = 60_000

const secondRead = { kind: "read", nth: 2, isDone: false } as const

// Namespaces that serve something stale; see `spaces`.
const ages = 1
const fails = 2
const waits = 3
const writesLater = 6

const target = { node: 0, space: 0, slow: false } satisfies Partial<Operation>

const getOrSet = (read: Partial<Read> & Pick<Read, "keys">): Read => ({
  ...target,
  _tag: "Read",
  loader: "now",
  outcome: "value",
  force: false,
  skip: [],
  keep: true,
  timeToLive: undefined,
  tags: [],
  stale: false,
  staleOn: undefined,
  fallback: false,
  ...read
})

const get = (read: Partial<Read> & Pick<Read, "keys">): Read => getOrSet({ loader: "none", ...read })

const set = (write: Partial<Write> & Pick<Write, "keys">): Write => ({
  ...target,
  _tag: "Set",
  timeToLive: undefined,
  tags: [],
  ...write
})

const remove = (removal: Partial<Removal>): Removal => ({
  ...target,
  _tag: "Invalidate",
  keys: [],
  keepsStale: false,
  tags: [],
  pattern: 0,
  ...removal
})

const advance = (millis: number): Command => ({ _tag: "Advance", millis })

const deliver: Command = { _tag: "Deliver", index: 0 }
