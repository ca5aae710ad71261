/**
 * What a cache may answer, said without a word about how it works.
 *
 * It is told when operations begin and end, when loaders do, and what the store
 * took, and judges each answer.
 *
 * **Always**: a value is one that was loaded or set for that very namespace and
 * key; it was fresh when it was asked for, or made since, or stale where the
 * policy has a reason for that, and never past the end of the reserve; and it is
 * not older than a change (`set`, `invalidate`, `clear`, on whatever node) that
 * had returned when it was asked for, nor than one that failed on the same node. A
 * load is older than a change that began after its loader did; a set, than a
 * change that began after it had ended. A failure is one of a loader that ran
 * meanwhile, or the store's own, or a timeout's.
 *
 * **When nothing else touched the key meanwhile**, and nothing was lost, an
 * answer is the one that a plain map would give: a cache that never keeps
 * anything does not pass, nor one that forgets its reserve. In the end, memory and
 * store agree, and what the store was not told in time it has been told by then.
 *
 * A read goes on *trailing* after its end for as long as a load that it left
 * behind is under way.
 *
 * **When the nodes hear nothing of one another**, what memory vouches for is not
 * judged by the changes of the others.
 */
import { Cause, Duration, Exit, Option } from "effect"
import type { CacheEntry } from "../../src/CacheEntry.ts"
import { CacheError } from "../../src/CacheError.ts"
import type { NewRow } from "../../src/CacheStore.ts"
import type { Invalidation } from "../../src/InvalidationBus.ts"
import {
  defaultTimeToLive,
  keysOf,
  LoadFailure,
  memoryTimeToLive,
  nameOf,
  type Operation,
  type Read,
  spaces
} from "./Command.ts"
import {
  agingOf,
  concerns,
  endInStore,
  endOf,
  fallbackOf,
  isForced,
  isKeptThough,
  isLoaderTimeout,
  isRearming,
  isSetting,
  isShared,
  isTyped,
  type Load,
  mayGoOn,
  mayTrail,
  nameIn,
  revalidatedUntil,
  type Running,
  shares,
  staleUntilInStore,
  staleUntilOf,
  standsInUntil,
  textOfFailure,
  timeInStore,
  type Value
} from "./History.ts"

/** What a read answers for one key. */
type Found = string | CacheEntry<string> | Option.Option<string | CacheEntry<string>>

/** What an operation answers: for each of its keys, or a count, or nothing. */
export type Answer = ReadonlyArray<Found> | ReadonlyArray<boolean> | number | void

/** What the store holds for a key, if that can be told. */
type State =
  | { readonly _tag: "Absent" }
  /** With a value, and until when no load is started after one that failed. */
  | { readonly _tag: "Present"; readonly value: Value; readonly retryAt: number }
  | { readonly _tag: "Unknown" }

export interface Options {
  readonly now: () => number
  readonly nodes: number
  readonly bus: boolean
  readonly fenceLifetime: Duration.Duration
  /** Whether loads of the namespace are under way. */
  readonly isBusy: (space: number) => boolean
  /** Whether a node is about to change the key in the store on its own. */
  readonly isToChange: (key: string) => boolean
}

export class Reference {
  readonly running = new Set<Running>()
  readonly operations: Array<Running> = []
  readonly loads: Array<Load> = []
  readonly #values = new Map<string, Value>()
  readonly #states = new Map<string, State>()
  readonly #trailing = new Set<Running>()
  readonly #announced: Array<{ readonly invalidation: Invalidation; readonly tick: number }> = []
  readonly #options: Options
  readonly #now: () => number
  readonly #nodes: number
  readonly #bus: boolean
  readonly #fenceLifetime: number
  #isSettled = false
  #tick = 0

  constructor(options: Options) {
    this.#options = options
    this.#now = options.now
    this.#nodes = options.nodes
    this.#bus = options.bus || options.nodes === 1
    this.#fenceLifetime = Duration.toMillis(options.fenceLifetime)
  }

  /** From now on nothing is under way, and the store has been told everything. */
  settled(): void {
    this.#endTrailing()
    this.#isSettled = true
  }

  /** All nodes have heard of a change. */
  announced(invalidation: Invalidation): void {
    this.#announced.push({ invalidation, tick: this.#next() })
  }

  begin(operation: Operation): Running {
    this.#endTrailing()
    const keys = keysOf(operation)
    const began = this.#next()
    const running: Running = {
      id: this.operations.length,
      operation,
      keys,
      began,
      beganAt: this.#now(),
      values: new Map(),
      contended: new Set(),
      calls: 0,
      failures: 0,
      asked: false,
      interrupted: false,
      ended: undefined,
      endedAt: Infinity,
      over: undefined,
      exit: undefined
    }
    for (const key of keys) if (this.#options.isToChange(key)) running.contended.add(key)
    for (const other of [...this.running, ...this.#trailing]) {
      for (const key of keys) {
        if (!other.keys.includes(key)) continue
        other.contended.add(key)
        running.contended.add(key)
      }
    }
    this.running.add(running)
    this.operations.push(running)
    if (operation._tag === "Set") for (const key of keys) this.#value(running, key, began)
    return running
  }

  /** A loader begins, with these keys; gives their values. */
  beginLoad(running: Running, keys: ReadonlyArray<string>): Load {
    check(new Set(keys).size === keys.length, `a loader is given ${keys}`)
    for (const key of keys) {
      check(running.keys.includes(key), `a loader is given ${key}, which ${running.keys} do not have`)
      check(!running.values.has(key), `${key} is loaded twice by one caller`)
      this.#onlyLoad(running, key)
    }
    const began = this.#next()
    for (const key of keys) this.#value(running, key, began)
    const load: Load = {
      source: running,
      keys,
      began,
      beganAt: this.#now(),
      failure: new LoadFailure({ load: this.loads.length }),
      ended: undefined,
      endedAt: Infinity,
      outcome: undefined
    }
    this.loads.push(load)
    return load
  }

  /** A loader ends; or is ended, because who waited for it has left and nobody else has reason to. */
  endLoad(load: Load, exit: Exit.Exit<unknown, unknown>): void {
    load.ended = this.#next()
    load.endedAt = this.#now()
    load.outcome = Exit.isSuccess(exit)
      ? "loadSuccess"
      : Cause.hasInterruptsOnly(exit.cause)
        ? "loadInterrupted"
        : "loadFailure"
    const isEnded = load.outcome === "loadInterrupted" && (load.source.operation as Read).outcome !== "interruption"
    check(!isEnded || this.#isLeft(load), `the load of ${load.keys} is ended though nobody has left it`)
    for (const key of load.keys) {
      if (Exit.isFailure(exit)) {
        this.#keepFailure(load, key)
        continue
      }
      const value = load.source.values.get(key)!
      value.ended = load.ended
      value.endedAt = this.#now()
    }
  }

  #isLeft(load: Load): boolean {
    const { source } = load
    return this.operations.some(
      (other) =>
        other.operation._tag === "Read" &&
        other.operation.node === source.operation.node &&
        shares(other, source) &&
        (other.interrupted ||
          this.#failedMeanwhile(other, (failed) => failed !== load) ||
          (other.exit !== undefined && Exit.isFailure(other.exit) && !isLoaderTimeout(other.exit)) ||
          this.#now() - other.endedAt >= this.#fenceLifetime)
    )
  }

  /** A failure that may be cached is like a value. */
  #keepFailure(load: Load, key: string): void {
    const { ended, endedAt, source } = load
    const timeToLive = agingOf(source.operation).failureTimeToLive
    if (timeToLive === 0 || !isTyped(load) || !(source.operation as Read).keep) return
    const text = textOfFailure(load.failure, key)
    this.#values.set(text, { ...source.values.get(key)!, text, timeToLive, ended, endedAt })
  }

  stored(space: string, rows: ReadonlyArray<NewRow>): void {
    for (const { data, isFailure, key } of rows) {
      const document = JSON.parse(data) as string & LoadFailure
      const text = isFailure ? textOfFailure(document, nameIn(space, key)) : document
      const value = this.#values.get(text)
      check(value !== undefined, `the store is given ${data}, which nobody made`)
      value.stored = this.#next()
      value.storedAt = this.#now()
    }
  }

  end(running: Running, exit: Exit.Exit<Answer, unknown>): void {
    this.#endTrailing()
    for (const key of running.keys) if (this.#options.isToChange(key)) running.contended.add(key)
    running.exit = exit
    running.ended = this.#next()
    running.endedAt = this.#now()
    this.running.delete(running)
    const { operation } = running
    if (operation._tag === "Read" && mayTrail(agingOf(operation)) && this.#options.isBusy(operation.space))
      this.#trailing.add(running)
    else running.over = running.ended
    if (Exit.isFailure(exit)) this.#judgeFailure(running, exit.cause)
    else if (operation._tag === "Read") this.#judgeRead(running, operation, exit.value as ReadonlyArray<Found>)
    if (running.over !== undefined) this.#follow(running, exit)
  }

  #endTrailing(): void {
    for (const running of this.#trailing) {
      if (this.#options.isBusy(running.operation.space)) continue
      for (const key of running.keys) if (this.#options.isToChange(key)) running.contended.add(key)
      this.#trailing.delete(running)
      running.over = this.#next()
      this.#follow(running, running.exit!)
    }
  }

  /** No loader runs that nobody waits for, unless it was left to the background, nor longer than anyone there does. */
  judgeLoads(): void {
    const now = this.#now()
    for (const load of this.loads) {
      const { ended, keys, source } = load
      if (ended !== undefined) continue
      const isWanted = this.operations.some(
        (other) =>
          other.operation._tag === "Read" &&
          other.operation.node === source.operation.node &&
          shares(other, source) &&
          (other.ended === undefined ||
            (mayGoOn(agingOf(source.operation)) && now - other.endedAt < this.#fenceLifetime))
      )
      check(isWanted, `${keys} are still being loaded, for nobody`)
      const isAwaited = source.ended === undefined && keys.length === 1 && source.keys.length === 1
      if (isAwaited) this.#judgePatience(source, load)
    }
  }

  /** Nobody waits longer for a loader than it has to. */
  #judgePatience(running: Running, { beganAt, keys }: Load): void {
    const { loaderHardTimeout, loaderSoftTimeout } = agingOf(running.operation)
    const read = running.operation as Read
    const waited = this.#now() - beganAt
    check(waited < loaderHardTimeout, `operation ${running.id} still waits for its loader after ${waited} ms`)
    const stale = this.#reserveOf(running, read, keys[0]!)
    if (stale === undefined || this.#now() >= staleUntilOf(stale)) return
    const isEnough = waited >= loaderSoftTimeout || (!read.force && this.#now() < revalidatedUntil(stale))
    check(!isEnough, `operation ${running.id} still waits for its loader, in spite of ${stale.text}`)
  }

  /** What the read could have been answered with for want of something fresh, if that is certain. */
  #reserveOf(running: Running, read: Read, key: string): Value | undefined {
    const state = this.#stateOf(key)
    const isCertain = this.#bus && !running.contended.has(key) && running.calls === 0 && !read.skip.includes("store")
    return isCertain && state._tag === "Present" && !read.force ? state.value : undefined
  }

  /** Whether memory may hold `inMemory` while the store holds `inStore`, when nothing is under way. */
  judgeMemory(key: string, inMemory: string, inStore: string | undefined): void {
    const value = this.#values.get(inMemory)
    check(value?.key === key, `memory holds ${inMemory} for ${key}`)
    const { source } = value
    // What is told to the store once more may take from it what it was given meanwhile.
    const isToldTwice = this.operations.some(
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
    if (inMemory === inStore || !this.#bus) return
    const forcedSince = [...this.#values.values()].some(
      (other) => other.key === key && isForced(other.source.operation) && (other.stored ?? 0) > value.stored!
    )
    // A forced load is no invalidation: other nodes keep what they have.
    check(forcedSince, `memory holds ${inMemory}, the store ${inStore}`)
  }

  /** What the cache should have counted for these operations, all of which have ended. */
  statsOf(isOne: (operation: Operation) => boolean) {
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
    for (const { exit, keys, operation } of this.operations) {
      if (!isOne(operation)) continue
      if (operation._tag === "Read") {
        stats.lookups += keys.length
        if (!operation.force && !operation.skip.includes("memory")) stats.memoryRequests += keys.length
      } else if (Exit.isSuccess(exit!)) {
        if (operation._tag === "Set") stats.sets += keys.length
        if (operation._tag === "Invalidate") stats.invalidations += keys.length
      }
    }
    for (const { keys, outcome, source } of this.loads) {
      if (!isOne(source.operation)) continue
      stats.loads += keys.length
      stats[outcome!] += keys.length
    }
    return stats
  }

  #next(): number {
    return ++this.#tick
  }

  #value(source: Running, key: string, began: number): void {
    const { operation } = source
    const timeToLive = ("timeToLive" in operation ? operation.timeToLive : undefined) ?? defaultTimeToLive
    const isLoaded = operation._tag === "Read"
    const text = `${key} #${this.#values.size}`
    const value: Value = {
      text,
      key,
      source,
      isLoaded,
      timeToLive,
      began,
      ended: undefined,
      endedAt: -Infinity,
      stored: undefined,
      storedAt: -Infinity
    }
    this.#values.set(text, value)
    source.values.set(key, value)
  }

  /** One loader runs per key and node, unless one of the two was not to be shared or the key changed meanwhile. */
  #onlyLoad(running: Running, key: string): void {
    if (!isShared(running.operation) || isForced(running.operation)) return
    for (const load of this.loads) {
      const other = load.source
      if (load.ended !== undefined || !load.keys.includes(key) || other.operation.node !== running.operation.node)
        continue
      if (!isShared(other.operation) || running.began < load.began) continue
      // A caller that is interrupted, or fails with another load, may have left this one.
      const left =
        other.interrupted ||
        this.#failedMeanwhile(other, () => true) ||
        this.#now() - other.endedAt >= this.#fenceLifetime
      const changed = this.operations.some(
        (operation) =>
          operation.keys.includes(key) &&
          (operation.operation._tag !== "Read" || isForced(operation.operation)) &&
          operation !== other &&
          (operation.ended ?? Infinity) > other.began
      )
      const heard = this.#announced.some(({ invalidation, tick }) => tick > other.began && concerns(invalidation, key))
      check(left || changed || heard, `${key} is loaded although it is being loaded`)
    }
  }

  #judgeFailure(running: Running, cause: Cause.Cause<unknown>): void {
    for (const reason of cause.reasons) {
      switch (reason._tag) {
        case "Fail":
          if (!(reason.error instanceof CacheError)) {
            this.#judgeLoadFailure(running, reason.error)
            this.#judgeUnanswered(running)
          } else if (reason.error.reason._tag === "LoaderTimeout") {
            check(this.#isLate(running, undefined), "its loader has not taken long enough")
            this.#judgeUnanswered(running)
          } else {
            const fails =
              running.operation._tag !== "Read" || spaces[running.operation.space]!.namespace.onStoreFailure === "fail"
            check(fails && this.#isTroubled(running), `fails with ${reason.error.message} for no reason`)
          }
          break
        case "Die":
          this.#judgeLoadFailure(running, reason.defect)
          break
        case "Interrupt":
          check(
            running.interrupted || this.#failedMeanwhile(running, () => true),
            "is interrupted though nobody interrupted it"
          )
      }
    }
  }

  #isTroubled(running: Running): boolean {
    return (
      running.calls > 0 ||
      this.operations.some(
        (other) => other.calls > 0 && shares(other, running) && (other.over ?? Infinity) > running.began
      )
    )
  }

  #judgeLoadFailure(running: Running, failure: unknown): void {
    check(failure instanceof LoadFailure, `fails with ${failure}`)
    check(
      this.#failedMeanwhile(running, (load) => load.failure.load === failure.load) ||
        this.#failedBefore(running, failure),
      `fails with what load ${(failure as LoadFailure).load} failed with`
    )
  }

  /** The failure of a flight is that of all who are on board, also of those whose key it had found. */
  #failedMeanwhile(running: Running, isThat: (load: Load) => boolean): boolean {
    return this.loads.some(
      (load) =>
        isThat(load) &&
        load.outcome !== "loadSuccess" &&
        shares(load.source, running) &&
        load.source.operation.node === running.operation.node &&
        (load.ended ?? 0) > running.began
    )
  }

  /** Whether it may be told of a failure that was kept. */
  #failedBefore(running: Running, failure?: LoadFailure): boolean {
    const { operation } = running
    if (operation._tag !== "Read" || operation.force) return false
    return running.keys.some((key) =>
      this.loads.some((load) => {
        const value = this.#values.get(textOfFailure(load.failure, key))
        if (value === undefined || (failure !== undefined && load.failure.load !== failure.load)) return false
        if (running.beganAt >= endOf(value)) return false
        return this.#changeSince(running, operation, value, undefined) === undefined
      })
    )
  }

  /** Whether a loader of the key that the read could wait for takes, or took, longer than that. */
  #isLate({ began, operation }: Running, key: string | undefined): boolean {
    const { loaderHardTimeout, loaderSoftTimeout } = agingOf(operation)
    const limit = key === undefined ? loaderHardTimeout : Math.min(loaderHardTimeout, loaderSoftTimeout)
    return this.loads.some(
      (load) =>
        load.source.operation.node === operation.node &&
        (key === undefined ? load.source.operation.space === operation.space : load.keys.includes(key)) &&
        (load.ended ?? Infinity) > began &&
        Math.min(load.endedAt, this.#now()) - load.beganAt >= limit
    )
  }

  /** It had neither something stale nor a fallback to answer with. */
  #judgeUnanswered(running: Running, isFallback = false): void {
    const read = running.operation as Read
    if (read.staleOn === false) return
    check(!read.fallback || isFallback, "fails in spite of its fallback")
    const [key] = running.keys
    const stale = running.keys.length === 1 ? this.#reserveOf(running, read, key!) : undefined
    if (stale === undefined) return
    const until = Math.max(standsInUntil(stale), revalidatedUntil(stale))
    check(this.#now() >= until, `has nothing instead, in spite of ${stale.text}`)
  }

  #judgeRead(running: Running, read: Read, answers: ReadonlyArray<Found>): void {
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
      else if (isFallback) this.#judgeFallback(running, read, entry)
      else this.#judgeValue(running, read, key, text, entry)
      const own = running.values.get(key)
      const isOwn = own?.ended === undefined || own.text === text || mayGoOn(agingOf(read))
      check(isOwn, `${text} although ${own?.text} was loaded`)
      if (!running.contended.has(key) && running.calls === 0) this.#judgeCertain(running, read, key, text)
    }
  }

  #judgeFallback(running: Running, read: Read, entry: CacheEntry<string> | undefined): void {
    check(read.fallback && read.loader !== "none", "a fallback that it does not have")
    check(
      entry === undefined || (entry.origin === "fallback" && entry.freshness === "stale"),
      "not said to be a fallback"
    )
    const failed = read.staleOn !== false && this.#failedMeanwhile(running, isTyped)
    check(failed || this.#failedBefore(running) || this.#isLate(running, undefined), "a fallback for no reason")
    this.#judgeUnanswered(running, true)
  }

  #judgeValue(running: Running, read: Read, key: string, text: string, entry: CacheEntry<string> | undefined): void {
    const value = this.#values.get(text)
    check(value?.key === key, `${text} for ${key}`)
    const { isLoaded, source } = value
    const isKeptHere = isKeptThough(source) && source.operation.node === running.operation.node
    const madeSince =
      ((isLoaded ? value.ended : value.stored) ?? 0) > running.began || (isKeptHere && source.ended! > running.began)
    const isMade = isLoaded ? value.ended !== undefined : value.stored !== undefined || isKeptHere
    check(isMade, `${text}, which is not made yet`)
    check(source === running || !isLoaded || (source.operation as Read).keep, `${text}, which was not to be kept`)
    const isInTime = madeSince || running.beganAt < endOf(value!)
    if (!isInTime) check(running.beganAt < staleUntilOf(value!), `${text}, which is long past its time`)
    if (!isInTime || entry?.freshness === "stale") {
      check(
        this.#mayBeStale(running, read, value!),
        `${text}, which ${isInTime ? "is not" : "was"} stale, for no reason`
      )
    }
    if (entry !== undefined) {
      check(entry.createdAt <= this.#now(), `${text} from the future`)
      const isFresh = madeSince || running.beganAt < entry.expiresAt
      check(entry.freshness === "stale" || isFresh, `${text} said to be fresh`)
      check(
        entry.expiresAt <= endOf(value!),
        `${text} said to be fresh until ${entry.expiresAt}, it ends at ${endOf(value!)}`
      )
      check(entry.staleUntil <= staleUntilOf(value!), `${text} said to be there until ${entry.staleUntil}`)
    }
    const change = this.#changeSince(running, read, value, entry)
    check(change === undefined, `${text}, which is older than ${change?.operation._tag} (operation ${change?.id})`)
  }

  /** A change that the value is older than, and that the read must know of. */
  #changeSince(running: Running, read: Read, value: Value, entry: CacheEntry<string> | undefined): Running | undefined {
    const { began, isLoaded, key, source } = value
    return this.operations.find((change) => {
      if (change.operation._tag === "Read" || change === source || !change.keys.includes(key)) return false
      const isOlder = isLoaded ? began < change.began : (source.ended ?? Infinity) < change.began
      return isOlder && this.#mustKnow(running, read, value, change, entry)
    })
  }

  /** Whether the policy, or the call, has a reason to answer with what is stale. */
  #mayBeStale(running: Running, read: Read, value: Value): boolean {
    if (read.loader === "none") return read.stale
    const { beganAt } = running
    const { failureBackoff, staleWhileRevalidate } = agingOf(read)
    if (!read.force && staleWhileRevalidate > 0 && beganAt < revalidatedUntil(value)) return true
    if (this.#isLate(running, value.key)) return true
    return this.loads.some((load) => {
      if (!isTyped(load) || !load.keys.includes(value.key)) return false
      const isAnswer =
        read.staleOn !== false &&
        load.source.operation.node === read.node &&
        load.ended! > running.began &&
        Math.max(load.endedAt, beganAt) < standsInUntil(value)
      return isAnswer || (isRearming(load, value) && beganAt < load.endedAt + failureBackoff + timeInStore)
    })
  }

  /** Whether an answer must not be older than the change. */
  #mustKnow(
    running: Running,
    read: Read,
    value: Value,
    { endedAt, exit, operation, ...change }: Running,
    entry: CacheEntry<string> | undefined
  ): boolean {
    if (exit === undefined || change.ended! > running.began) return false
    const isHere = operation.node === running.operation.node
    if (Exit.isFailure(exit)) {
      const isTold = change.asked && (!isSetting(operation) || isKeptThough({ exit, operation }))
      if (!isTold || !(isHere || (this.#isSettled && this.#bus))) return false
    }
    if (this.#bus || isHere || value.source === running) return true
    if (running.contended.has(value.key) || read.skip.includes("store")) return false
    if (entry?.origin === "store") return true
    // Of what the store may have had, unknown to this node, and was told to remove, it knows nothing any more.
    const { calls, operation: origin } = value.source
    const isForgotten = running.beganAt - endedAt >= this.#fenceLifetime
    if (calls > 0 && origin.node === running.operation.node && isForgotten) return false
    // Memory alone may be the answer while it vouches for what it has.
    const confirmedAt = this.loads.reduce(
      (last, load) =>
        load.keys.includes(value.key) && load.ended! < running.began ? Math.max(last, load.endedAt) : last,
      endedAt
    )
    const isVouched = running.beganAt < confirmedAt + timeInStore + memoryTimeToLive
    const isRested = this.loads.some((load) => isTyped(load) && load.keys.includes(value.key))
    const isInMemory =
      running.beganAt < endOf(value) ||
      (read.loader !== "none" && (isRested || running.beganAt < revalidatedUntil(value)))
    const isTroubled = this.operations.some(
      (other) => other.failures > 0 && shares(other, running) && (other.over ?? Infinity) > running.began
    )
    return !(isVouched && isInMemory) && !isTroubled
  }

  #judgeCertain(running: Running, read: Read, key: string, text: string | undefined): void {
    if (!this.#bus) return
    const state = this.#stateOf(key)
    if (state._tag === "Unknown") return
    const loaded = running.values.has(key)
    const [began, ended] = [running.beganAt, this.#now()]
    const mayFind = !(read.skip.includes("memory") && read.skip.includes("store")) && !read.force
    const mustFind = mayFind && !read.skip.includes("store")
    if (state._tag === "Absent" || !mayFind || began >= staleUntilInStore(state.value)) {
      return check(loaded === (read.loader !== "none"), `${text} where there is nothing`)
    }
    const { retryAt, value } = state
    if (!mustFind || ended >= staleUntilInStore(value)) return
    if (ended < endInStore(value)) {
      const mayRefresh = agingOf(read).earlyRefresh < 1
      return check(text === value.text && (!loaded || mayRefresh), `${text} instead of ${value.text}`)
    }
    if (began < endInStore(value)) return
    if (read.loader === "none") {
      return check(text === (read.stale ? value.text : undefined) && !loaded, `${text}, where ${value.text} is stale`)
    }
    if (ended < retryAt) return check(text === value.text && !loaded, `${text}, not ${value.text} once more`)
    const isRevalidating = running.keys.length === 1 && read.loader === "later" && ended < revalidatedUntil(value)
    if (isRevalidating) check(text === value.text, `${text} instead of ${value.text} while it is revalidated`)
    else if (ended >= revalidatedUntil(value)) check(loaded, `${text} without a load`)
  }

  /** What is now known of the keys. */
  #follow(running: Running, exit: Exit.Exit<unknown, unknown>): void {
    const { operation } = running
    const certain = Exit.isSuccess(exit) && running.calls === 0
    const before = new Map(running.keys.map((key) => [key, this.#stateOf(key)]))
    if (certain && this.#bus && operation._tag === "Invalidate") {
      for (const [index, wasThere] of (exit.value as ReadonlyArray<boolean>).entries()) {
        const key = nameOf(operation.space, operation.keys[index]!)
        const expected = running.contended.has(key) ? undefined : this.#isThere(running, before.get(key)!)
        check(expected === undefined || expected === wasThere, `says ${wasThere} of ${key}`)
      }
    }
    if (certain && (operation._tag === "Clear" || operation._tag === "ClearAll")) {
      const there = running.keys.map((key) =>
        running.contended.has(key) ? undefined : this.#isThere(running, before.get(key)!)
      )
      const known = there.every((isThere) => isThere !== undefined)
      check(
        !known || exit.value === there.filter((isThere) => isThere === true).length,
        `removed ${exit.value}, not ${there}`
      )
    }
    for (const key of running.keys) {
      const isKnown = (certain || this.#hasFailedItself(running, exit)) && !running.contended.has(key)
      this.#states.set(key, isKnown ? this.#after(running, key, before.get(key)!) : { _tag: "Unknown" })
    }
  }

  /** Whether it failed with the loader's own failure and nothing else. */
  #hasFailedItself({ calls, operation }: Running, exit: Exit.Exit<unknown, unknown>): boolean {
    return (
      operation._tag === "Read" &&
      calls === 0 &&
      Exit.isFailure(exit) &&
      exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error instanceof LoadFailure)
    )
  }

  #after({ beganAt, id, operation, values }: Running, key: string, before: State): State {
    const value = values.get(key)
    switch (operation._tag) {
      case "Invalidate":
      case "Clear":
      case "ClearAll":
        return { _tag: "Absent" }
      case "Set":
        if (operation.timeToLive === 0) return { _tag: "Absent" }
        check(value?.stored !== undefined, `${value?.text} is set, but not stored`)
        return { _tag: "Present", value, retryAt: 0 }
      case "Read": {
        if (value?.ended === undefined) return this.#afterFailure(id, operation, key, before)
        if (!operation.keep || operation.timeToLive === 0) return before
        const [skipMemory, skipStore] = [operation.skip.includes("memory"), operation.skip.includes("store")]
        if (skipMemory && skipStore) return before
        if (this.#now() - beganAt > this.#fenceLifetime - 60_000) return { _tag: "Unknown" }
        if (skipStore) return { _tag: "Unknown" }
        if (before._tag !== "Unknown" && agingOf(operation).storeWrites === "awaited")
          check(value.stored !== undefined, `${value.text} is loaded undisturbed, but not stored`)
        if (value.stored === undefined) return { _tag: "Unknown" }
        // Memories that still hold what a forced load replaced.
        if (operation.force && (skipMemory || this.#nodes > 1)) return { _tag: "Unknown" }
        return before._tag === "Unknown" ? before : { _tag: "Present", value, retryAt: 0 }
      }
    }
  }

  #afterFailure(id: number, read: Read, key: string, before: State): State {
    const load = this.loads.find(({ keys, source }) => source.id === id && keys.includes(key))
    const isKept = load !== undefined && this.#values.has(textOfFailure(load.failure, key))
    if (load === undefined || before._tag !== "Present" || !isRearming(load, before.value))
      return isKept ? { _tag: "Unknown" } : before
    // Who leaves the store out re-arms memory alone.
    if (read.skip.includes("store") || read.force) return { _tag: "Unknown" }
    const retryAt = Math.min(load.endedAt + agingOf(read).failureBackoff, staleUntilInStore(before.value))
    return { ...before, retryAt }
  }

  #stateOf(key: string): State {
    return this.#states.get(key) ?? { _tag: "Absent" }
  }

  #isThere({ beganAt }: Running, state: State): boolean | undefined {
    if (state._tag === "Unknown") return undefined
    if (state._tag === "Absent" || beganAt >= staleUntilInStore(state.value)) return false
    return this.#now() < staleUntilInStore(state.value) ? true : undefined
  }
}

const check: (holds: boolean, problem: string) => asserts holds = (holds, problem) => {
  if (!holds) throw new Error(problem)
}
