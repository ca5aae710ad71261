/**
 * Several processes on one database, for some seconds of `npm run history`; and the judge
 * of what they read (`Verdict`), who is shown histories that are made up.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { Forgery } from "./history/Forgery.ts"
import { fromNotes, type History } from "./history/History.ts"
import { report } from "./history/Report.ts"
import * as Trial from "./history/Trial.ts"
import { judge, type Rule } from "./history/Verdict.ts"
import { Database } from "./support/Database.ts"

const history = () => new Forgery()

/** Times in these are milliseconds, the bus has 100 of them, memory 1000. */
const bounds = { busDelay: 100_000, memoryLife: 1_000_000 }

/** Loaded, and then invalidated by its own process. */
const changed = () => history().load("old", [0, 5]).invalidate("gone", [10, 20])

/** Loaded, and then invalidated in a transaction. */
const changedInside = (outcome?: "committed" | "rolled back" | "unknown") =>
  history()
    .load("old", [0, 5])
    .transaction("T", [8, 30, 40], outcome)
    .invalidate("gone", [10, 20], { transaction: "T" })

const cases: Record<Rule | "nothing", Record<string, () => Forgery>> = {
  madeUp: {
    "a value that nobody wrote": () => history().read([10, 20], "nobody", "store"),
    "a value that was written for another key": () =>
      history().load("old", [0, 5], { key: "other" }).read([10, 20], "old", "store"),
    "another version than was loaded": () =>
      history().load("old", [0, 5]).read([10, 20], "old", "memory", { version: 2 })
  },
  noTrace: {
    "what was set in a transaction that was rolled back": () =>
      history()
        .transaction("T", [0, 20, 30], "rolled back")
        .set("new", [5, 10], { transaction: "T" })
        .read([40, 50], "new", "store"),
    "what was set in a savepoint that was rolled back": () =>
      history()
        .transaction("T", [0, 20, 30])
        .transaction("S", [2, 2, 12], "rolled back", { parent: "T" })
        .set("new", [5, 10], { transaction: "S" })
        .read([40, 50], "new", "memory"),
    "in the same transaction, what was set in a savepoint that had been rolled back": () =>
      history()
        .transaction("T", [0, 20, 30])
        .transaction("S", [2, 2, 12], "rolled back", { parent: "T" })
        .set("new", [5, 10], { transaction: "S" })
        .read([13, 15], "new", "store", { process: "here", transaction: "T" }),
    "a version that the source never had": () =>
      history()
        .transaction("T", [0, 20, 30], "rolled back")
        .update("T", 7)
        .load("wrong", [5, 10], { version: 7 })
        .read([40, 50], "wrong", "store")
  },
  apart: {
    "what was set in a transaction, before its commit was asked for": () =>
      history()
        .transaction("T", [0, 20, 30])
        .set("new", [5, 10], { transaction: "T" })
        .read([12, 19], "new", "memory", { process: "here" }),
    "what was loaded in a transaction, although it was committed": () =>
      history()
        .transaction("T", [0, 20, 30])
        .load("inside", [5, 10], { transaction: "T" })
        .read([40, 50], "inside", "store")
  },
  pastMemory: {
    "a value from memory in a transaction": () =>
      history()
        .load("old", [0, 5])
        .transaction("T", [8, 30, 40], "committed", { process: "there" })
        .read([10, 20], "old", "memory", { transaction: "T" })
  },
  ownTransaction: {
    "the old value after the transaction's own invalidation": () =>
      changedInside().read([22, 25], "old", "store", { process: "here", transaction: "T" }),
    "the same in a transaction that is rolled back later": () =>
      changedInside("rolled back").read([22, 25], "old", "store", { process: "here", transaction: "T" }),
    "the old value after the transaction's own set": () =>
      history()
        .load("old", [0, 5])
        .transaction("T", [8, 30, 40])
        .set("new", [10, 20], { transaction: "T" })
        .read([22, 25], "old", "store", { process: "here", transaction: "T" }),
    "what the transaction set before its own invalidation": () =>
      history()
        .transaction("T", [8, 30, 40])
        .set("new", [10, 12], { transaction: "T" })
        .invalidate("gone", [13, 20], { transaction: "T", tags: ["t"] })
        .read([22, 25], "new", "store", { process: "here", transaction: "T" }),
    "the old value after an invalidation in a savepoint that was kept": () =>
      history()
        .load("old", [0, 5])
        .transaction("T", [8, 30, 40])
        .transaction("S", [9, 21, 21], "committed", { parent: "T" })
        .invalidate("gone", [10, 20], { transaction: "S" })
        .read([22, 25], "old", "store", { process: "here", transaction: "T" })
  },
  ownProcess: {
    "the old value from memory right after the invalidation": () =>
      changed().read([20.001, 30], "old", "memory", { process: "here" }),
    "the old value of a load that was under way": () =>
      history()
        .load("old", [0, 50])
        .invalidate("gone", [10, 20])
        .miss([0, 60], { process: "here" })
        .read([21, 60], "old", "loader", { process: "here" }),
    "the old value right after a set": () =>
      history().load("old", [0, 5]).set("new", [10, 20]).read([21, 30], "old", "memory", { process: "here" }),
    "what was set before the last set": () =>
      history().set("old", [0, 5]).set("new", [10, 20]).read([21, 30], "old", "store", { process: "here" }),
    "the old value right after the commit": () => changedInside().read([41, 50], "old", "memory", { process: "here" }),
    "the old value after an invalidation that failed": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { outcome: "failed" })
        .read([21, 30], "old", "store", { process: "here" }),
    "the old value after an invalidation that was interrupted": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { outcome: "interrupted" })
        .read([21, 30], "old", "memory", { process: "here", freshness: "stale" }),
    "a fresh value right after expire": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { keepsStale: true })
        .read([21, 30], "old", "memory", { process: "here" })
  },
  store: {
    "the old value from the store after the invalidation": () => changed().read([21, 30], "old", "store"),
    "the same as a stale one": () => changed().read([21, 30], "old", "store", { freshness: "stale" }),
    "the old value that was stored late": () =>
      history().load("old", [0, 50]).invalidate("gone", [10, 20]).read([60, 70], "old", "store"),
    "the value of a load that began after the statement and before the commit": () =>
      history()
        .transaction("T", [8, 30, 40])
        .invalidate("gone", [10, 20], { transaction: "T", tags: ["t"] })
        .load("old", [25, 35])
        .read([41, 50], "old", "store"),
    "an old version, whose load must have been before the commit": () =>
      history()
        .transaction("T", [8, 30, 40])
        .update("T", 2)
        .invalidate("gone", [10, 20], { transaction: "T" })
        .load("old", [35, 60])
        .read([70, 80], "old", "store"),
    "what was set before it was invalidated elsewhere": () =>
      history()
        .set("old", [0, 5], { process: "there" })
        .invalidate("gone", [10, 20])
        .read([21, 30], "old", "store", { process: "third" }),
    "what was set in a transaction before it was cleared elsewhere": () =>
      history()
        .transaction("T", [0, 5, 9])
        .set("old", [1, 4], { transaction: "T" })
        .invalidate("gone", [10, 20], { process: "third" })
        .read([21, 30], "old", "store"),
    "a fresh value after expire": () =>
      history().load("old", [0, 5]).invalidate("gone", [10, 20], { keepsStale: true }).read([21, 30], "old", "store"),
    "a value with the tag": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { tags: ["t", "u"] })
        .read([21, 30], "old", "store"),
    "the old value, although a lookup was under way that began after the change": () =>
      changed().miss([21, 40]).read([30, 40], "old", "store"),
    "the old value from a joined lookup when the bus has had its time": () =>
      changed().miss([5, 200]).read([121, 200], "old", "store"),
    "the old value in a transaction, when the change was committed before the statement": () =>
      changed()
        .transaction("T", [15, 50, 60], "committed", { process: "there" })
        .read([21, 30], "old", "store", { transaction: "T" }),
    "the old value in a repeatable transaction that began after the change": () =>
      changed()
        .transaction("T", [21, 50, 60], "committed", { process: "there", isolation: "repeatable read" })
        .read([22, 30], "old", "store", { transaction: "T" })
  },
  memory: {
    "the old value from memory when the bus has had its time": () => changed().read([121, 130], "old", "memory"),
    "the old value of a load under way elsewhere, likewise": () =>
      history()
        .load("old", [0, 300], { process: "there" })
        .miss([0, 310])
        .invalidate("gone", [10, 20])
        .read([121, 310], "old", "loader"),
    "the old value of an answer that does not say where from": () => changed().read([121, 130], "old", "any"),
    "the old value when the process has run again for long enough": () =>
      changed().disturbed("stopped", [30, 500]).read([601, 610], "old", "memory"),
    "the old value between two troubles with enough time between them": () =>
      changed().disturbed("stopped", [30, 50]).disturbed("cut off", [151, 900]).read([160, 170], "old", "memory"),
    "the old value in a process that was cut off, longer than memory may have it": () =>
      changed().disturbed("cut off", [0, 9000]).read([1021, 1030], "old", "memory"),
    "the same, of a load of its own that ended later": () =>
      history()
        .load("old", [0, 500], { process: "there" })
        .invalidate("gone", [10, 20])
        .disturbed("cut off", [0, 9000])
        .read([1501, 1510], "old", "memory")
  },
  nothing: {
    "what was loaded": () => history().load("old", [0, 5]).read([10, 20], "old", "store"),
    "in its transaction, what is rolled back later": () =>
      history()
        .transaction("T", [0, 20, 30], "rolled back")
        .set("new", [5, 10], { transaction: "T" })
        .read([12, 19], "new", "store", { process: "here", transaction: "T" }),
    "in its savepoint, what is rolled back with it": () =>
      history()
        .transaction("T", [0, 20, 30])
        .transaction("S", [2, 2, 15], "rolled back", { parent: "T" })
        .set("new", [5, 10], { transaction: "S" })
        .read([11, 14], "new", "store", { process: "here", transaction: "S" }),
    "what was set in a transaction of which nobody knows what became": () =>
      history()
        .transaction("T", [0, 20, Infinity], "unknown")
        .set("new", [5, 10], { transaction: "T" })
        .read([40, 50], "new", "store"),
    "what was set in a transaction, while it commits": () =>
      history().transaction("T", [0, 20, 30]).set("new", [5, 10], { transaction: "T" }).read([12, 21], "new", "store"),
    "the old value before the transaction's own invalidation": () =>
      changedInside().read([9, 10], "old", "store", { process: "here", transaction: "T" }),
    "the old value after an invalidation in a savepoint that was rolled back": () =>
      history()
        .load("old", [0, 5])
        .transaction("T", [8, 30, 40])
        .transaction("S", [9, 21, 21], "rolled back", { parent: "T" })
        .invalidate("gone", [10, 20], { transaction: "S" })
        .read([22, 25], "old", "store", { process: "here", transaction: "T" })
        .read([50, 60], "old", "store"),
    "the old value elsewhere before the commit": () => changedInside().read([22, 39], "old", "store"),
    "the old value after a rollback": () =>
      changedInside("rolled back").read([50, 60], "old", "memory", { process: "here" }),
    "the old value after a commit that may not have happened": () =>
      changedInside("unknown").read([50, 60], "old", "store"),
    "the old value by a read that began before the invalidation was over": () =>
      changed().read([19, 90], "old", "memory", { process: "here" }).read([19.5, 90], "old", "store"),
    "the value of a load that began during the invalidation": () =>
      history().load("new", [11, 30]).invalidate("gone", [10, 20]).read([40, 50], "new", "store"),
    "the value of a load that began during the commit, and saw what was committed": () =>
      history()
        .transaction("T", [8, 30, 40])
        .update("T", 2)
        .invalidate("gone", [10, 20], { transaction: "T" })
        .load("new", [35, 60], { version: 2 })
        .read([70, 80], "new", "store"),
    "what was set during the invalidation": () =>
      history().set("new", [5, 15]).invalidate("gone", [10, 20]).read([21, 30], "new", "memory", { process: "here" }),
    "what was set in a transaction that was committed during the invalidation": () =>
      history()
        .transaction("T", [0, 9, 12])
        .set("new", [1, 4], { transaction: "T" })
        .invalidate("gone", [10, 20], { process: "third" })
        .read([21, 30], "new", "store"),
    "what somebody tried to set, with an unknown end": () =>
      history()
        .set("late", [0, 5], { outcome: "interrupted" })
        .invalidate("gone", [10, 20])
        .read([500, 510], "late", "store"),
    "the old value after an interrupted set, in the same process too": () =>
      history()
        .load("old", [0, 5])
        .set("new", [10, 20], { outcome: "interrupted" })
        .read([21, 30], "old", "store", { process: "here" }),
    "the old value elsewhere after an invalidation that failed": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { outcome: "failed" })
        .read([500, 510], "old", "store"),
    "a stale value after expire": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { keepsStale: true })
        .read([21, 30], "old", "store", { freshness: "stale" })
        .read([22, 30], "old", "memory", { freshness: "stale", process: "here" }),
    "a value without the tag": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { tags: ["u"] })
        .read([21, 30], "old", "store"),
    "a value of another key": () =>
      history()
        .load("old", [0, 5])
        .invalidate("gone", [10, 20], { keys: ["other"] })
        .read([21, 30], "old", "store"),
    "the old value from a lookup that was joined": () => changed().miss([5, 40]).read([30, 40], "old", "store"),
    "the old value in a repeatable transaction that began before": () =>
      changed()
        .transaction("T", [15, 50, 60], "committed", { process: "there", isolation: "serializable" })
        .read([30, 40], "old", "store", { transaction: "T" }),
    "the old value from memory elsewhere while the bus has its time": () => changed().read([119, 130], "old", "memory"),
    "the old value in a process that has only just been run again": () =>
      changed().disturbed("stopped", [30, 500]).read([590, 610], "old", "memory"),
    "the old value in a process that was slow, and then stopped": () =>
      changed().disturbed("slow", [50, 60]).disturbed("stopped", [130, 500]).read([590, 610], "old", "memory"),
    "the old value in a process that was cut off, as long as memory may have it": () =>
      changed().disturbed("cut off", [0, 9000]).read([1019, 1030], "old", "memory"),
    "the same for longer, when the process was stopped too": () =>
      changed().disturbed("cut off", [0, 9000]).disturbed("stopped", [15, 800]).read([1700, 1710], "old", "memory"),
    "a stale value in a process that was cut off, however long": () =>
      changed().disturbed("cut off", [0, 9000]).read([5000, 5010], "old", "memory", { freshness: "stale" })
  }
}

const rulesBroken = (history: History): ReadonlyArray<Rule> => judge(history, bounds).violations.map(({ rule }) => rule)

describe("The judge of histories", () => {
  for (const [rule, forged] of Object.entries(cases)) {
    for (const [what, forge] of Object.entries(forged)) {
      it(rule === "nothing" ? `allows ${what}` : `forbids ${what}`, () => {
        assert.deepStrictEqual(rulesBroken(forge()), rule === "nothing" ? [] : [rule as Rule])
      })
    }
  }

  it("says the same of a history whose parts are told in another order, among things that concern other keys", () => {
    const forgeries = Object.values(cases).flatMap((forged) => Object.values(forged))
    const noise = history()
      .load("noise", [0, 3], { key: "elsewhere", process: "there" })
      .set("louder", [12, 19], { key: "elsewhere" })
      .invalidate("silence", [1, 99], { keys: ["elsewhere"], process: "third" })
      .read([2, 300], "noise", "memory", { key: "elsewhere" })
    const shuffled = <A>(parts: ReadonlyArray<A>) =>
      fc.shuffledSubarray([...parts], { minLength: parts.length, maxLength: parts.length })
    const forgery = fc.constantFrom(...forgeries).chain((forge) => {
      const { disturbances, operations, transactions } = forge()
      return fc.record({
        broken: fc.constant(rulesBroken(forge())),
        history: fc.record({
          operations: shuffled([...operations, ...noise.operations]),
          transactions: shuffled(transactions),
          disturbances: shuffled(disturbances)
        })
      })
    })
    fc.assert(
      fc.property(forgery, ({ broken, history }) => {
        assert.deepStrictEqual(rulesBroken(history), broken)
      })
    )
  })

  it("believes the database, not the process, in what was committed", () => {
    const began = { _tag: "BeganTransaction", process: "here", parent: undefined, isolation: "serializable" } as const
    const { transactions } = fromNotes(
      [
        { ...began, id: "acknowledged", begin: 1 },
        { _tag: "Ready", id: "acknowledged", at: 2 },
        { _tag: "EndedTransaction", id: "acknowledged", at: 3, isDone: true },
        { ...began, id: "not heard of", begin: 4 },
        { _tag: "Ready", id: "not heard of", at: 5 },
        { _tag: "EndedTransaction", id: "not heard of", at: 6, isDone: false },
        { ...began, id: "lost", begin: 7 },
        { _tag: "Ready", id: "lost", at: 8 }
      ],
      new Set(["acknowledged", "not heard of"])
    )
    assert.deepStrictEqual(
      transactions.map(({ end, outcome }) => [outcome, end]),
      [
        ["committed", 3],
        ["committed", Infinity],
        ["rolled back", Infinity]
      ]
    )
  })
})

layer(Database.layerFresh, { excludeTestServices: true })(
  "Caches in processes that are killed, stopped and cut off",
  (it) => {
    it.effect(
      "G1 G2 G3 give no reader what was invalidated",
      () =>
        Effect.gen(function* () {
          const { url } = yield* Database
          const outcome = yield* Trial.run({ url, seed: 11, duration: 8000, processes: 4, visitors: 6 })
          const { troubles, verdict } = outcome
          assert.deepStrictEqual(verdict.violations, [], report(outcome))
          // That it was one.
          assert.isAbove(troubles.size, 2)
          for (const rule of ["noTrace", "pastMemory", "ownProcess", "store", "memory"] as const) {
            assert.isAbove(verdict.judged.get(rule) ?? 0, 10, report(outcome))
          }
        }),
      120_000
    )
  }
)
