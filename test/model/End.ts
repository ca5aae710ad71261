/** What holds when nothing is under way any more: memory and store agree, and the counts are right. */
import { Exit } from "effect"
import type { Operation, Read } from "./Command.ts"
import { agingOf, check, type Past, type Running, type Value } from "./History.ts"

/** Whether memory may hold `inMemory` while the store holds `inStore`, when nothing is under way. */
export const judgeMemory = (past: Past, key: string, inMemory: string, inStore: string | undefined): void => {
  const value = past.values.get(inMemory)
  check(value?.key === key, `memory holds ${inMemory} for ${key}`)
  const { source } = value
  check(!source.undone, `memory holds ${inMemory}, which was rolled back`)
  check(source.transaction === undefined || !value.isLoaded, `memory holds ${inMemory} from inside a transaction`)
  // What is told to the store once more may take from it what it was given meanwhile.
  const isToldTwice = past.operations.some(
    ({ exit, keys, operation }) =>
      operation._tag !== "Read" && keys.includes(key) && exit !== undefined && Exit.isFailure(exit)
  )
  if (isToldTwice) return
  if (value.stored === undefined) {
    const isMemoryOnly =
      agingOf(source.operation).storeWrites === "background" ||
      source.calls > 0 ||
      (source.operation as Read).skip.includes("store")
    check(isMemoryOnly, `memory holds ${inMemory}, which the store does not have`)
    return
  }
  if (inMemory === inStore || past.news === "never") return
  const since = [...past.values.values()].filter((other) => other.key === key && (other.stored ?? 0) > value.stored!)
  // A memory that was left alone, or not told: of what a node did last, or had no answer to.
  const isReplaced = since.some(
    ({ source: { calls, crashed, operation } }) => crashed || calls > 0 || leavesAlone(operation)
  )
  check(isReplaced || wasRefused(past, value), `memory holds ${inMemory}, the store ${inStore}`)
}

/** Whether a load was under way for an entry that had a tag which was invalidated; its own value had not. */
const wasRefused = (past: Past, value: Value): boolean => {
  const { source } = value
  return past.operations.some(
    ({ began, ended, keys, operation, transaction }) =>
      operation._tag === "InvalidateTags" &&
      keys.includes(value.key) &&
      (ended ?? Infinity) > source.began &&
      // To the store it is as old as its transaction.
      (transaction?.began ?? began) < Math.max(source.over ?? Infinity, value.stored!)
  )
}

const leavesAlone = (operation: Operation): boolean => operation._tag === "Read" && operation.skip.includes("memory")

/** What the cache should have counted for these operations, all of which have ended. */
export const statsOf = (past: Past, isOne: (running: Running) => boolean) => {
  const stats = {
    lookups: 0,
    memoryRequests: 0,
    loads: 0,
    loadSuccess: 0,
    loadFailure: 0,
    loadInterrupted: 0,
    sets: 0,
    invalidations: 0
  }
  for (const running of past.operations) {
    if (!isOne(running)) continue
    const { exit, keys, operation, transaction } = running
    if (operation._tag === "Read") {
      stats.lookups += keys.length
      const isAsked = transaction === undefined && !operation.force && !operation.skip.includes("memory")
      if (isAsked) stats.memoryRequests += keys.length
    } else if (Exit.isSuccess(exit!)) {
      if (operation._tag === "Set") stats.sets += keys.length
      if (operation._tag === "Invalidate") stats.invalidations += keys.length
      if (operation._tag === "InvalidateTags" || operation._tag === "InvalidatePattern") stats.invalidations++
    }
  }
  for (const { keys, outcome, source } of past.loads) {
    if (!isOne(source)) continue
    stats.loads += keys.length
    stats[outcome!] += keys.length
  }
  return stats
}
