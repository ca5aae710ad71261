/**
 * Whether an operation may answer what it did; see `Reference`.
 */
import { type Cause, Exit, Option } from "effect"
import type { CacheEntry } from "../../src/CacheEntry.ts"
import { CacheError } from "../../src/CacheError.ts"
import { isExpiry, type Read } from "./Command.ts"
import {
  agingOf,
  check,
  covers,
  endOf,
  fallbackOf,
  isKeptThough,
  isRearming,
  isSetting,
  isTyped,
  type Load,
  mayGoOn,
  type Past,
  revalidatedUntil,
  type Running,
  shares,
  staleUntilOf,
  standsInUntil,
  textOfFailure,
  timeInStore,
  type Value
} from "./History.ts"
import type { Knowledge } from "./Knowledge.ts"
import { LoadFailure, memoryTimeToLive, nameOf, spaces } from "./Spaces.ts"

/** What a read answers for one key. */
export type Found = string | CacheEntry<string> | Option.Option<string | CacheEntry<string>>

type Entry = CacheEntry<string> | undefined

export const judgeRead = (known: Knowledge, running: Running, read: Read, answers: ReadonlyArray<Found>): void => {
  check(answers.length === read.keys.length, `${answers.length} answers for ${read.keys.length} keys`)
  const seen = new Map<string, string | undefined>()
  for (const [index, answer] of answers.entries()) {
    const key = nameOf(read.space, read.keys[index]!)
    const found = Option.isOption(answer) ? Option.getOrUndefined(answer) : answer
    const entry = typeof found === "string" ? undefined : found
    const text = typeof found === "string" ? found : entry?.value
    check(!seen.has(key) || seen.get(key) === text, `two answers for ${key}`)
    seen.set(key, text)
    const isFallback = text === fallbackOf(running)
    if (text === undefined) check(read.loader === "none", `nothing for ${key}, in spite of a loader`)
    else if (isFallback) judgeFallback(known, running, read, entry)
    else judgeValue(known.past, running, read, key, text, entry)
    judgeOwn(known.past, running, read, key, text)
    const own = running.values.get(key)
    const isOwn = own?.ended === undefined || own.text === text || mayGoOn(agingOf(read))
    check(isOwn, `${text} although ${own?.text} was loaded`)
    known.judge(running, read, key, text)
  }
}

const judgeFallback = (known: Knowledge, running: Running, read: Read, entry: Entry): void => {
  check(read.fallback && read.loader !== "none", "a fallback that it does not have")
  check(
    entry === undefined || (entry.origin === "fallback" && entry.freshness === "stale"),
    "not said to be a fallback"
  )
  const failed = read.staleOn !== false && failedMeanwhile(known.past, running, isTyped)
  check(
    failed || failedBefore(known.past, running) || isLate(known.past, running, undefined),
    "a fallback for no reason"
  )
  judgeUnanswered(known, running, true)
}

const judgeValue = (past: Past, running: Running, read: Read, key: string, text: string, entry: Entry): void => {
  const value = past.values.get(text)
  check(value?.key === key, `${text} for ${key}`)
  const { isLoaded, source } = value
  const isKeptHere = isKeptThough(source) && source.where === running.where
  const madeSince =
    ((isLoaded ? value.ended : value.stored) ?? 0) > running.began || (isKeptHere && source.ended! > running.began)
  const isMade = isLoaded ? value.ended !== undefined : value.stored !== undefined || value.isDoubted || isKeptHere
  check(isMade, `${text}, which is not made yet`)
  const isToBeKept = (source.operation as Read).keep && source.transaction === undefined
  check(source === running || !isLoaded || isToBeKept, `${text}, which was not to be kept`)
  check(!source.undone, `${text}, which was rolled back`)
  const { transaction } = source
  const isVisible = transaction === running.transaction || transaction?.committing !== undefined
  check(transaction === undefined || isVisible, `${text}, which is not committed`)
  const changes = changesOver(past, running, read, value, entry)
  const change = changes.find(({ operation }) => !isExpiry(operation))
  check(change === undefined, `${text}, which is older than ${change?.operation._tag} (operation ${change?.id})`)
  const isInTime = changes.length === 0 && (madeSince || running.beganAt < endOf(value))
  if (!isInTime) check(running.beganAt < staleUntilOf(value), `${text}, which is long past its time`)
  if (!isInTime || entry?.freshness === "stale") {
    const [expiry] = changes
    const why = isInTime ? "is not stale" : expiry === undefined ? "was stale" : `was expired (operation ${expiry.id})`
    check(mayBeStale(past, running, read, value, changes), `${text}, which ${why}, for no reason`)
  }
  if (entry === undefined) return
  check(entry.createdAt <= past.now(), `${text} from the future`)
  const isFresh = madeSince || running.beganAt < entry.expiresAt
  check(entry.freshness === "stale" || isFresh, `${text} said to be fresh`)
  check(
    entry.expiresAt <= endOf(value),
    `${text} said to be fresh until ${entry.expiresAt}, it ends at ${endOf(value)}`
  )
  check(entry.staleUntil <= staleUntilOf(value), `${text} said to be there until ${entry.staleUntil}`)
  const { tags } = entry
  check(
    tags.toSorted().join() === value.tags.join(),
    `${text} tagged with ${tags.join(" ")}, not ${value.tags.join(" ")}`
  )
}

/** Inside a transaction, what it has set itself is there. */
const judgeOwn = (past: Past, running: Running, read: Read, key: string, text: string | undefined): void => {
  if (running.transaction === undefined || read.force || read.skip.includes("store")) return
  const own = past.operations.findLast(
    (other) =>
      other.transaction === running.transaction &&
      other.operation._tag !== "Read" &&
      other.id < running.id &&
      !other.undone &&
      other.keys.includes(key)
  )
  if (own === undefined || !isSetting(own.operation) || own.exit === undefined || Exit.isFailure(own.exit)) return
  // What is written beside a change of many keys may be lost to it.
  const isBeside = past.operations.some(
    ({ ended = Infinity, keys, operation, transaction }) =>
      transaction !== own.transaction &&
      operation._tag !== "Read" &&
      operation._tag !== "Set" &&
      operation._tag !== "Invalidate" &&
      keys.includes(key) &&
      ended > own.began
  )
  // Nor is the store believed of what it could not be told.
  const isDoubted = past.operations.some(
    ({ exit, keys, operation, transaction, where }) =>
      transaction !== own.transaction &&
      operation._tag !== "Read" &&
      where === running.where &&
      keys.includes(key) &&
      exit !== undefined &&
      Exit.isFailure(exit)
  )
  if (isBeside || isDoubted) return
  check(own.values.get(key)!.text === text, `${text}, although it has set ${own.values.get(key)!.text} itself`)
}

/** The changes that the value is older than, and that the read must know of. */
const changesOver = (past: Past, running: Running, read: Read, value: Value, entry: Entry): ReadonlyArray<Running> => {
  const { began, isLoaded, source } = value
  return past.operations.filter((change) => {
    const { operation, transaction } = change
    if (operation._tag === "Read" || change === source || change.undone || !covers(change, value)) return false
    // To those outside it is done at the commit.
    const isOwn = transaction !== undefined && source.transaction === transaction
    const isInside = transaction === undefined || isOwn || running.transaction === transaction
    const since = isInside ? change.began : (transaction.committing ?? Infinity)
    // What nobody waited for may be done after what was under way then, too.
    const ended = value.isDoubted && change.began < (source.ended ?? Infinity) ? Infinity : (source.ended ?? Infinity)
    const made = isLoaded ? began : isOwn ? source.began : ended
    return made < since && mustKnow(past, running, read, value, change, entry)
  })
}

/** Whether the policy, or the call, has a reason to answer with what is stale, or has been expired. */
const mayBeStale = (
  past: Past,
  running: Running,
  read: Read,
  value: Value,
  expiries: ReadonlyArray<Running>
): boolean => {
  if (read.loader === "none") return read.stale
  const { beganAt } = running
  const { failureBackoff, staleWhileRevalidate } = agingOf(read)
  // When one that failed was done after all is not known.
  const expiredAt = expiries.reduce(
    (first, { endedAt, exit }) => (exit !== undefined && Exit.isSuccess(exit) ? Math.min(first, endedAt) : first),
    Infinity
  )
  if (!read.force && staleWhileRevalidate > 0 && beganAt < revalidatedUntil(value, expiredAt)) return true
  if (isLate(past, running, value.key)) return true
  return past.loads.some((load) => {
    if (!isTyped(load) || !load.keys.includes(value.key)) return false
    const isAnswer =
      read.staleOn !== false &&
      load.source.where === running.where &&
      load.ended! > running.began &&
      Math.max(load.endedAt, beganAt) < standsInUntil(value, expiredAt)
    const isRested = isRearming(load, value) && beganAt < load.endedAt + failureBackoff + timeInStore
    return isAnswer || (isRested && expiries.every(({ began }) => load.ended! > began))
  })
}

/** Whether an answer must not be older than the change. */
const mustKnow = (past: Past, running: Running, read: Read, value: Value, change: Running, entry: Entry): boolean => {
  const { endedAt, exit, operation } = change
  if (exit === undefined) return false
  if (running.transaction !== undefined) return mustKnowInside(running.transaction, running, change, exit)
  if ((change.ended ?? Infinity) > running.began) return false
  const isHere = change.where === running.where
  const isTold = past.isSettled && past.news !== "never"
  if (Exit.isFailure(exit)) {
    const isAsked = change.asked && (!isSetting(operation) || isKeptThough({ exit, operation }))
    if (!isAsked || !(isHere || isTold) || change.crashed) return false
  }
  if (past.news === "at once" || isHere || isTold || value.source === running) return true
  if ((change.heard.get(running.where) ?? Infinity) < running.began) return true
  if (running.contended.has(value.key) || read.skip.includes("store")) return false
  if (entry?.origin === "store") return true
  // Of what the store may have had, unknown to this node, and was told to remove, it knows nothing any more.
  const { calls, where } = value.source
  const isForgotten = running.beganAt - endedAt >= past.fenceLifetime
  if (calls > 0 && where === running.where && isForgotten) return false
  // Memory alone may be the answer while it vouches for what it has.
  const confirmedAt = past.loads.reduce(
    (last, load) =>
      load.keys.includes(value.key) && load.ended! < running.began ? Math.max(last, load.endedAt) : last,
    endedAt
  )
  const isVouched = running.beganAt < confirmedAt + timeInStore + memoryTimeToLive
  const isRested = past.loads.some((load) => isTyped(load) && load.keys.includes(value.key))
  const isInMemory =
    running.beganAt < endOf(value) ||
    (read.loader !== "none" && (isRested || running.beganAt < revalidatedUntil(value)))
  const isTroubled = past.operations.some(
    (other) => other.failures > 0 && shares(other, running) && (other.over ?? Infinity) > running.began
  )
  return !(isVouched && isInMemory) && !isTroubled
}

/** Memory is left out there: what is committed is known, unless the transaction sees what was before. */
const mustKnowInside = (
  transaction: NonNullable<Running["transaction"]>,
  running: Running,
  change: Running,
  exit: Exit.Exit<unknown, unknown>
): boolean => {
  if (Exit.isFailure(exit) || (running.operation as Read).skip.includes("store")) return false
  if (change.transaction === transaction) return change.id < running.id
  return (change.ended ?? Infinity) < (transaction.isRepeatable ? transaction.began : running.began)
}

export const judgeFailure = (known: Knowledge, running: Running, cause: Cause.Cause<unknown>): void => {
  const { past } = known
  for (const reason of cause.reasons) {
    switch (reason._tag) {
      case "Fail":
        if (!(reason.error instanceof CacheError)) {
          judgeLoadFailure(past, running, reason.error)
          judgeUnanswered(known, running)
        } else if (reason.error.reason._tag === "LoaderTimeout") {
          check(isLate(past, running, undefined), "its loader has not taken long enough")
          judgeUnanswered(known, running)
        } else {
          const fails =
            running.operation._tag !== "Read" || spaces[running.operation.space]!.namespace.onStoreFailure === "fail"
          check(fails && isTroubled(past, running), `fails with ${reason.error.message} for no reason`)
        }
        break
      case "Die":
        judgeLoadFailure(past, running, reason.defect)
        break
      case "Interrupt":
        check(
          running.interrupted || failedMeanwhile(past, running, () => true),
          "is interrupted though nobody interrupted it"
        )
    }
  }
}

const isTroubled = (past: Past, running: Running): boolean =>
  running.transaction !== undefined ||
  running.calls > 0 ||
  past.operations.some((other) => other.calls > 0 && shares(other, running) && (other.over ?? Infinity) > running.began)

const judgeLoadFailure = (past: Past, running: Running, failure: unknown): void => {
  check(failure instanceof LoadFailure, `fails with ${failure}`)
  check(
    failedMeanwhile(past, running, (load) => load.failure.load === failure.load) ||
      failedBefore(past, running, failure),
    `fails with what load ${(failure as LoadFailure).load} failed with`
  )
}

/**
 * The failure of a flight is that of all who are on board, also of those whose key it had found,
 * and who boarded when the loader had failed and the reserve was being re-armed.
 */
export const failedMeanwhile = (past: Past, running: Running, isThat: (load: Load) => boolean): boolean =>
  past.loads.some(
    (load) =>
      isThat(load) &&
      load.outcome !== "loadSuccess" &&
      shares(load.source, running) &&
      load.source.where === running.where &&
      load.ended !== undefined &&
      (load.ended > running.began || isAboard(past, load, running))
  )

const isAboard = (past: Past, load: Load, running: Running): boolean =>
  isTyped(load) &&
  past.operations.some(
    (other) =>
      other.id >= load.source.id &&
      other.id < running.id &&
      other.where === running.where &&
      shares(other, load) &&
      (other.over ?? Infinity) > running.began
  )

/** Whether it may be told of a failure that was kept. */
const failedBefore = (past: Past, running: Running, failure?: LoadFailure): boolean => {
  const { operation } = running
  if (operation._tag !== "Read" || operation.force) return false
  return running.keys.some((key) =>
    past.loads.some((load) => {
      const value = past.values.get(textOfFailure(load.failure, key))
      if (value === undefined || (failure !== undefined && load.failure.load !== failure.load)) return false
      if (running.beganAt >= endOf(value)) return false
      return changesOver(past, running, operation, value, undefined).length === 0
    })
  )
}

/** Whether the read may have waited longer than that for a loader of the key, or for a node that runs one. */
const isLate = (past: Past, { began, operation, where }: Running, key: string | undefined): boolean => {
  const { loaderHardTimeout, loaderSoftTimeout } = agingOf(operation)
  const limit = key === undefined ? loaderHardTimeout : Math.min(loaderHardTimeout, loaderSoftTimeout)
  const concerns = (keys: ReadonlyArray<string>, space: number) =>
    key === undefined ? space === operation.space : keys.includes(key)
  const isWaiting = past.operations.some(
    (other) =>
      past.leases &&
      other.where === where &&
      other.operation._tag === "Read" &&
      concerns(other.keys, other.operation.space) &&
      (other.over ?? Infinity) > began &&
      past.now() - other.beganAt >= limit
  )
  return (
    isWaiting ||
    past.loads.some(
      (load) =>
        load.source.where === where &&
        concerns(load.keys, load.source.operation.space) &&
        (load.ended ?? Infinity) > began &&
        Math.min(load.endedAt, past.now()) - load.beganAt >= limit
    )
  )
}

/** It had neither something stale nor a fallback to answer with. */
const judgeUnanswered = (known: Knowledge, running: Running, isFallback = false): void => {
  const read = running.operation as Read
  if (read.staleOn === false) return
  check(!read.fallback || isFallback, "fails in spite of its fallback")
  const [key] = running.keys
  const stale = running.keys.length === 1 ? known.reserveOf(running, read, key!) : undefined
  if (stale === undefined) return
  const { expiredAt, value } = stale
  const until = Math.max(standsInUntil(value, expiredAt), revalidatedUntil(value, expiredAt))
  check(known.past.now() >= until, `has nothing instead, in spite of ${value.text}`)
}
