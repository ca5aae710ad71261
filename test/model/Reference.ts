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
 * change that began after it had ended. Of a change that leaves a reserve, an
 * older value is stale. A failure is one of a loader that ran meanwhile, or the
 * store's own, or a timeout's.
 *
 * **Tags**: an invalidation by tag changes the values that have one of the tags
 * themselves. A load under way for a key whose entry had one may be refused or not.
 *
 * **When nothing else touched the key meanwhile**, and nothing was lost, an answer
 * is certain (`Knowledge`). In the end, memory and store agree, and what the store
 * was not told in time it has been told by then.
 *
 * A read goes on *trailing* after its end for as long as a load that it left
 * behind is under way.
 *
 * **Where the nodes hear of one another late or never**, what memory vouches for is
 * not judged by those changes of the others that its node has not heard of.
 *
 * **In a transaction** a read sees what the transaction has done, and keeps nothing.
 * All others see it from the commit on.
 */
import { Cause, Duration, Exit } from "effect"
import type { NewRow } from "../../src/CacheStore.ts"
import type { Invalidation } from "../../src/InvalidationBus.ts"
import { keysOf, type News, type Operation, type Read, tagsFor } from "./Command.ts"
import {
  agingOf,
  check,
  concerns,
  isForced,
  isLoaderTimeout,
  isShared,
  isTyped,
  type Load,
  mayGoOn,
  mayTrail,
  nameIn,
  type Past,
  revalidatedUntil,
  type Running,
  shares,
  staleUntilOf,
  textOfFailure,
  type Transacting,
  type Value
} from "./History.ts"
import { failedMeanwhile, type Found, judgeFailure, judgeRead } from "./Judgement.ts"
import { Knowledge } from "./Knowledge.ts"
import { defaultTimeToLive, LoadFailure } from "./Spaces.ts"
import { Waiting } from "./Waiting.ts"

/** What an operation answers: for each of its keys, or a count, or nothing. */
export type Answer = ReadonlyArray<Found> | ReadonlyArray<boolean> | number | void

export interface Options {
  readonly now: () => number
  readonly nodes: number
  readonly news: News
  readonly leases: boolean
  readonly fenceLifetime: Duration.Duration
  /** Whether loads of the namespace are under way. */
  readonly isBusy: (space: number) => boolean
  /** Whether a node is about to change the key in the store on its own. */
  readonly isToChange: (key: string) => boolean
}

export class Reference implements Past {
  readonly running = new Set<Running>()
  readonly operations: Array<Running> = []
  readonly loads: Array<Load> = []
  readonly values = new Map<string, Value>()
  readonly now: () => number
  readonly news: News
  readonly leases: boolean
  readonly fenceLifetime: number
  readonly waiting: Waiting
  isSettled = false
  readonly #known: Knowledge
  readonly #trailing = new Set<Running>()
  readonly #announced: Array<{ readonly invalidation: Invalidation; readonly tick: number }> = []
  readonly #options: Options
  #tick = 0

  constructor(options: Options) {
    this.#options = options
    this.now = options.now
    this.news = options.nodes === 1 ? "at once" : options.news
    this.leases = options.leases
    this.fenceLifetime = Duration.toMillis(options.fenceLifetime)
    this.waiting = new Waiting(this)
    this.#known = new Knowledge(this)
  }

  /** From now on nothing is under way, and the store has been told everything. */
  settled(): void {
    this.#endTrailing()
    this.isSettled = true
  }

  /** A node has heard of a change, on whichever operation's behalf. */
  announced(invalidation: Invalidation, by: number, where: number): void {
    const tick = this.#next()
    this.#announced.push({ invalidation, tick })
    this.operations[by]?.heard.set(where, tick)
    for (const running of [...this.running, ...this.#trailing]) {
      if (running.where !== where || running.id === by) continue
      for (const key of running.keys) if (concerns(invalidation, key)) running.contended.add(key)
    }
  }

  begin(operation: Operation, where: number, transaction?: Transacting): Running {
    this.#endTrailing()
    const keys = keysOf(operation)
    const began = this.#next()
    const running: Running = {
      id: this.operations.length,
      operation,
      where,
      transaction,
      keys,
      began,
      beganAt: this.now(),
      values: new Map(),
      contended: new Set(),
      calls: 0,
      failures: 0,
      asked: false,
      interrupted: false,
      crashed: false,
      undone: false,
      heard: new Map(),
      ended: undefined,
      endedAt: Infinity,
      over: undefined,
      exit: undefined
    }
    for (const key of keys) if (this.#options.isToChange(key)) running.contended.add(key)
    for (const { isDoubted, key } of this.values.values()) if (isDoubted) running.contended.add(key)
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
      beganAt: this.now(),
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
    load.endedAt = this.now()
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
      value.endedAt = this.now()
    }
  }

  #isLeft(load: Load): boolean {
    const { source } = load
    // Who is answered with something stale inside a transaction leaves no load to the background.
    if (source.transaction !== undefined) return true
    // What a bulk read is given stale is loaded in the background while it waits for its other keys.
    const { earlyRefresh, staleWhileRevalidate } = agingOf(source.operation)
    const mayBeBehind = source.keys.length > 1 && (staleWhileRevalidate > 0 || earlyRefresh < 1)
    if (mayBeBehind && this.now() - source.beganAt >= this.fenceLifetime) return true
    return this.operations.some(
      (other) =>
        other.operation._tag === "Read" &&
        other.where === source.where &&
        shares(other, source) &&
        (other.interrupted ||
          failedMeanwhile(this, other, (failed) => failed !== load) ||
          (other.exit !== undefined && Exit.isFailure(other.exit) && !isLoaderTimeout(other.exit)) ||
          this.now() - other.endedAt >= this.fenceLifetime)
    )
  }

  /** A failure that may be cached is like a value. */
  #keepFailure(load: Load, key: string): void {
    const { ended, endedAt, source } = load
    const timeToLive = agingOf(source.operation).failureTimeToLive
    if (timeToLive === 0 || !isTyped(load) || !(source.operation as Read).keep) return
    const text = textOfFailure(load.failure, key)
    this.values.set(text, { ...source.values.get(key)!, text, timeToLive, tags: [], ended, endedAt })
  }

  stored(space: string, rows: ReadonlyArray<NewRow>): void {
    for (const { data, isFailure, key } of rows) {
      const document = JSON.parse(data) as string & LoadFailure
      const text = isFailure ? textOfFailure(document, nameIn(space, key)) : document
      const value = this.values.get(text)
      check(value !== undefined, `the store is given ${data}, which nobody made`)
      const isToBeStored = value.source.transaction === undefined || !value.isLoaded
      check(isToBeStored, `${value.text} is stored though it was loaded inside a transaction`)
      value.stored = this.#next()
      value.storedAt = this.now()
    }
  }

  /** The store was given them, and may take them at any time. */
  doubted(space: string, rows: ReadonlyArray<NewRow>): void {
    for (const { data, key } of rows) {
      const value = this.values.get(JSON.parse(data) as string)
      check(value !== undefined, `the store is given ${data} for ${key} of ${space}, which nobody made`)
      value.isDoubted = true
    }
  }

  end(running: Running, exit: Exit.Exit<Answer, unknown>): void {
    this.#endTrailing()
    for (const key of running.keys) if (this.#options.isToChange(key)) running.contended.add(key)
    running.exit = exit
    const { operation } = running
    const isPartOf = running.transaction !== undefined && operation._tag !== "Read"
    if (!isPartOf) this.#leave(running)
    const isBusy = running.transaction === undefined && this.#options.isBusy(operation.space)
    if (operation._tag === "Read" && mayTrail(agingOf(operation)) && isBusy && !running.crashed)
      this.#trailing.add(running)
    else if (!isPartOf) running.over = running.ended
    if (running.crashed) {
      for (const key of running.keys) this.#known.forget(key)
      return
    }
    if (Exit.isFailure(exit)) judgeFailure(this.#known, running, exit.cause)
    else if (operation._tag === "Read") judgeRead(this.#known, running, operation, exit.value as ReadonlyArray<Found>)
    if (running.over !== undefined && running.transaction === undefined) this.#known.follow(running, exit)
  }

  #leave(running: Running): void {
    running.ended = this.#next()
    running.endedAt = this.now()
    this.running.delete(running)
  }

  beginTransaction(isRepeatable: boolean): Transacting {
    return { began: this.#next(), isRepeatable, committing: undefined, isCommitted: false }
  }

  commit(transaction: Transacting): void {
    transaction.committing = this.#next()
  }

  /** What was done from then on in the transaction, or in its savepoint, is taken back. */
  undo(transaction: Transacting, since = 0): void {
    for (const running of this.operations)
      if (running.transaction === transaction && running.id >= since) running.undone = true
  }

  endTransaction(transaction: Transacting): void {
    for (const running of this.operations) {
      if (running.transaction !== transaction) continue
      if (running.ended === undefined) this.#leave(running)
      running.over = running.ended
      if (running.operation._tag !== "Read") for (const key of running.keys) this.#known.forget(key)
    }
  }

  /** The node tells nobody anything any more, nor does what was left behind there go on. */
  crashed(where: number): void {
    for (const running of [...this.running, ...this.#trailing]) {
      if (running.where !== where) continue
      running.interrupted = true
      running.crashed = true
      if (!this.#trailing.delete(running)) continue
      running.over = this.#next()
      for (const key of running.keys) this.#known.forget(key)
    }
    // What it could not tell the store, nobody knows any more.
    for (const running of this.operations) {
      const { exit } = running
      if (running.where === where && exit !== undefined && Exit.isFailure(exit)) running.crashed = true
    }
  }

  #endTrailing(): void {
    for (const running of this.#trailing) {
      if (this.#options.isBusy(running.operation.space)) continue
      for (const key of running.keys) if (this.#options.isToChange(key)) running.contended.add(key)
      this.#trailing.delete(running)
      running.over = this.#next()
      this.#known.follow(running, running.exit!)
    }
  }

  /** No loader runs that nobody waits for, unless it was left to the background, nor longer than anyone there does. */
  judgeLoads(): void {
    const now = this.now()
    for (const load of this.loads) {
      const { ended, keys, source } = load
      if (ended !== undefined) continue
      const isWanted = this.operations.some(
        (other) =>
          other.operation._tag === "Read" &&
          other.where === source.where &&
          shares(other, source) &&
          (other.ended === undefined ||
            (mayGoOn(agingOf(source.operation)) && now - other.endedAt < this.fenceLifetime))
      )
      check(isWanted, `${keys} are still being loaded, for nobody`)
      const isAwaited =
        source.ended === undefined && source.transaction === undefined && keys.length === 1 && source.keys.length === 1
      if (isAwaited) this.#judgePatience(source, load)
    }
  }

  /** Nobody waits longer for a loader than it has to. */
  #judgePatience(running: Running, { beganAt, keys }: Load): void {
    const { loaderHardTimeout, loaderSoftTimeout } = agingOf(running.operation)
    const read = running.operation as Read
    const waited = this.now() - beganAt
    check(waited < loaderHardTimeout, `operation ${running.id} still waits for its loader after ${waited} ms`)
    const stale = this.#known.reserveOf(running, read, keys[0]!)
    if (stale === undefined || this.now() >= staleUntilOf(stale.value)) return
    const { expiredAt, value } = stale
    const isEnough = waited >= loaderSoftTimeout || (!read.force && this.now() < revalidatedUntil(value, expiredAt))
    check(!isEnough, `operation ${running.id} still waits for its loader, in spite of ${value.text}`)
  }

  #next(): number {
    return ++this.#tick
  }

  #value(source: Running, key: string, began: number): void {
    const { operation } = source
    const timeToLive = ("timeToLive" in operation ? operation.timeToLive : undefined) ?? defaultTimeToLive
    const isLoaded = operation._tag === "Read"
    const text = `${key} #${this.values.size}`
    const value: Value = {
      text,
      key,
      source,
      isLoaded,
      timeToLive,
      tags: tagsFor(operation, key),
      began,
      ended: undefined,
      endedAt: -Infinity,
      stored: undefined,
      storedAt: -Infinity,
      isDoubted: false
    }
    this.values.set(text, value)
    source.values.set(key, value)
  }

  /** One loader runs per key and node, unless one of the two was not to be shared or the key changed meanwhile. */
  #onlyLoad(running: Running, key: string): void {
    if (!isShared(running) || isForced(running.operation)) return
    for (const load of this.loads) {
      const other = load.source
      if (load.ended !== undefined || !load.keys.includes(key) || other.where !== running.where) continue
      if (!isShared(other) || running.began < load.began) continue
      // A caller that is interrupted, or fails with another load, may have left this one.
      const left =
        other.interrupted ||
        failedMeanwhile(this, other, () => true) ||
        this.now() - other.endedAt >= this.fenceLifetime
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
}
