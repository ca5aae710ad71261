/**
 * What a cache may answer, said without a word about how it works.
 *
 * It is told when operations begin and end, when loaders do, and what the store
 * took, and judges each answer.
 *
 * **Always**: a value is one that was loaded or set for that very namespace and
 * key; it was fresh when it was asked for, or made since; and it is not older
 * than a change (`set`, `invalidate`, `clear`, on whatever node) that had
 * returned when it was asked for. A load is older than a change that began after
 * its loader did; a set, than a change that began after it had ended. A failure
 * is one of a loader that ran meanwhile, or the store's own.
 *
 * **When nothing else touched the key meanwhile**, and nothing was lost, an
 * answer is the one that a plain map would give: a cache that never keeps
 * anything does not pass. In the end, memory and store agree.
 *
 * **When the nodes hear nothing of one another**, only what a node reads from the
 * store or loads itself is judged by the changes of the others.
 */
import { Cause, Duration, Exit, Option } from "effect"
import type { CacheEntry } from "../../src/CacheEntry.ts"
import { CacheError } from "../../src/CacheError.ts"
import type { NewRow } from "../../src/CacheStore.ts"
import { keysOf, nameOf, type Operation, type Read, spaces } from "./Command.ts"

/** What a read answers for one key. */
type Found = string | CacheEntry<string> | Option.Option<string | CacheEntry<string>>

/** What an operation answers: for each of its keys, or a count, or nothing. */
export type Answer = ReadonlyArray<Found> | ReadonlyArray<boolean> | number | void

export interface Running {
  readonly id: number
  readonly operation: Operation
  readonly keys: ReadonlyArray<string>
  readonly began: number
  readonly beganAt: number
  /** What it loaded or sets, by key. */
  readonly values: Map<string, Value>
  /** Keys that others touched while it ran. */
  readonly contended: Set<string>
  /** How many calls to the store on its behalf have no answer. */
  calls: number
  interrupted: boolean
  ended: number | undefined
  exit: Exit.Exit<unknown, unknown> | undefined
}

interface Value {
  readonly text: string
  readonly key: string
  readonly source: Running
  readonly isLoaded: boolean
  readonly timeToLive: number
  readonly began: number
  /** When a load ended, in ticks and on the clock. */
  ended: number | undefined
  endedAt: number
  /** When the store took it. */
  stored: number | undefined
  storedAt: number
}

export interface Load {
  readonly source: Running
  readonly keys: ReadonlyArray<string>
  readonly began: number
  readonly failure: LoadFailure
  ended: number | undefined
  outcome: "loadSuccess" | "loadFailure" | "loadInterrupted" | undefined
}

/** What a loader fails or dies with. */
export class LoadFailure {
  readonly load: number
  constructor(load: number) {
    this.load = load
  }
}

/** What the store holds for a key, if that can be told. */
type State =
  { readonly _tag: "Absent" } | { readonly _tag: "Present"; readonly value: Value } | { readonly _tag: "Unknown" }

export class Reference {
  readonly running = new Set<Running>()
  readonly operations: Array<Running> = []
  readonly loads: Array<Load> = []
  readonly #values = new Map<string, Value>()
  readonly #states = new Map<string, State>()
  readonly #now: () => number
  readonly #nodes: number
  readonly #bus: boolean
  readonly #fenceLifetime: number
  #tick = 0

  constructor(options: {
    readonly now: () => number
    readonly nodes: number
    readonly bus: boolean
    readonly fenceLifetime: Duration.Duration
  }) {
    this.#now = options.now
    this.#nodes = options.nodes
    this.#bus = options.bus || options.nodes === 1
    this.#fenceLifetime = Duration.toMillis(options.fenceLifetime)
  }

  begin(operation: Operation): Running {
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
      interrupted: false,
      ended: undefined,
      exit: undefined
    }
    for (const other of this.running) {
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
      failure: new LoadFailure(this.loads.length),
      ended: undefined,
      outcome: undefined
    }
    this.loads.push(load)
    return load
  }

  endLoad(load: Load, exit: Exit.Exit<unknown, unknown>): void {
    load.ended = this.#next()
    load.outcome = Exit.isSuccess(exit)
      ? "loadSuccess"
      : Cause.hasInterruptsOnly(exit.cause)
        ? "loadInterrupted"
        : "loadFailure"
    for (const key of load.keys) {
      const value = load.source.values.get(key)!
      if (Exit.isFailure(exit)) continue
      value.ended = load.ended
      value.endedAt = this.#now()
    }
  }

  stored(rows: ReadonlyArray<NewRow>): void {
    for (const { data } of rows) {
      const value = this.#values.get(JSON.parse(data) as string)
      check(value !== undefined, `the store is given ${data}, which nobody made`)
      value.stored = this.#next()
      value.storedAt = this.#now()
    }
  }

  end(running: Running, exit: Exit.Exit<Answer, unknown>): void {
    running.exit = exit
    running.ended = this.#next()
    this.running.delete(running)
    if (Exit.isFailure(exit)) this.#judgeFailure(running, exit.cause)
    else if (running.operation._tag === "Read")
      this.#judgeRead(running, running.operation, exit.value as ReadonlyArray<Found>)
    this.#follow(running, exit)
  }

  /** No loader runs that nobody waits for. */
  judgeLoads(): void {
    for (const { ended, keys, source } of this.loads) {
      const isAwaited = [...this.running].some(
        ({ operation, ...other }) =>
          operation._tag === "Read" && operation.node === source.operation.node && shares(other, source)
      )
      check(ended !== undefined || isAwaited, `${keys} are still being loaded, for nobody`)
    }
  }

  /** Whether memory may hold `inMemory` while the store holds `inStore`, when nothing is under way. */
  judgeMemory(key: string, inMemory: string, inStore: string | undefined): void {
    const value = this.#values.get(inMemory)
    check(value?.key === key, `memory holds ${inMemory} for ${key}`)
    const { source } = value
    if (value.stored === undefined) {
      const isMemoryOnly = source.calls > 0 || (source.operation as Read).skip.includes("store")
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
      const left = other.interrupted || this.#failedMeanwhile(other, () => true)
      const changed = this.operations.some(
        (operation) =>
          operation.keys.includes(key) &&
          (operation.operation._tag !== "Read" || isForced(operation.operation)) &&
          operation !== other &&
          (operation.ended ?? Infinity) > other.began
      )
      check(left || changed, `${key} is loaded although it is being loaded`)
    }
  }

  #judgeFailure(running: Running, cause: Cause.Cause<unknown>): void {
    for (const reason of cause.reasons) {
      switch (reason._tag) {
        case "Fail":
          if (reason.error instanceof CacheError) {
            const fails =
              running.operation._tag !== "Read" || spaces[running.operation.space]!.namespace.onStoreFailure === "fail"
            const troubled =
              running.calls > 0 ||
              this.operations.some(
                (other) => other.calls > 0 && shares(other, running) && (other.ended ?? Infinity) > running.began
              )
            check(fails && troubled, `fails with ${reason.error.message} for no reason`)
          } else this.#judgeLoadFailure(running, reason.error)
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

  #judgeLoadFailure(running: Running, failure: unknown): void {
    check(failure instanceof LoadFailure, `fails with ${failure}`)
    check(
      this.#failedMeanwhile(running, (load) => load.failure === failure),
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
      if (text === undefined) check(read.loader === "none", `nothing for ${key}, in spite of a loader`)
      else this.#judgeValue(running, key, text, entry)
      const own = running.values.get(key)
      check(own === undefined || own.text === text, `${text} although ${own?.text} was loaded`)
      if (!running.contended.has(key) && running.calls === 0) this.#judgeCertain(running, read, key, text)
    }
  }

  #judgeValue(running: Running, key: string, text: string, entry: CacheEntry<string> | undefined): void {
    const value = this.#values.get(text)
    check(value?.key === key, `${text} for ${key}`)
    const { began, isLoaded, source } = value!
    const madeSince = ((isLoaded ? value.ended : value.stored) ?? 0) > running.began
    check(isLoaded ? value.ended !== undefined : value.stored !== undefined, `${text}, which is not made yet`)
    check(source === running || !isLoaded || (source.operation as Read).keep, `${text}, which was not to be kept`)
    check(madeSince || running.beganAt < endOf(value!), `${text}, which had expired`)
    if (entry !== undefined) {
      check(entry.freshness === "fresh" && entry.createdAt <= this.#now(), `${text} from the future`)
      check(
        entry.expiresAt <= endOf(value!),
        `${text} said to be fresh until ${entry.expiresAt}, it ends at ${endOf(value!)}`
      )
    }
    for (const change of this.operations) {
      const { ended, exit, keys, operation } = change
      if (operation._tag === "Read" || change === source || !keys.includes(key)) continue
      if (exit === undefined || Exit.isFailure(exit) || ended! > running.began) continue
      const isOwn = source === running || (entry?.origin === "store" && !running.contended.has(key))
      const mayNotKnow = operation.node !== running.operation.node && !isOwn
      if (!this.#bus && mayNotKnow) continue
      const isOlder = isLoaded ? began < change.began : (source.ended ?? Infinity) < change.began
      check(!isOlder, `${text}, which is older than ${operation._tag} (operation ${change.id})`)
    }
  }

  #judgeCertain(running: Running, read: Read, key: string, text: string | undefined): void {
    if (!this.#bus) return
    const state = this.#stateOf(key)
    const loaded = running.values.has(key)
    if (state._tag === "Unknown") return
    const [began, ended] = [running.beganAt, this.#now()]
    const isThere = state._tag === "Present" && ended < endInStore(state.value)
    const isGone = state._tag === "Absent" || began >= endInStore(state.value)
    const mayFind = !(read.skip.includes("memory") && read.skip.includes("store")) && !read.force
    const mustFind = mayFind && !read.skip.includes("store")
    if (isThere && mustFind) check(text === state.value.text && !loaded, `${text} instead of ${state.value.text}`)
    if (isGone || !mayFind) check(loaded === (read.loader !== "none"), `${text} where there is nothing`)
  }

  /** What is now known of the keys. */
  #follow(running: Running, exit: Exit.Exit<Answer, unknown>): void {
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
      const next =
        certain && !running.contended.has(key)
          ? this.#after(running, key, before.get(key)!)
          : ({ _tag: "Unknown" } as const)
      this.#states.set(key, next)
    }
  }

  #after({ beganAt, operation, values }: Running, key: string, before: State): State {
    const value = values.get(key)
    switch (operation._tag) {
      case "Invalidate":
      case "Clear":
      case "ClearAll":
        return { _tag: "Absent" }
      case "Set":
        if (operation.timeToLive === 0) return { _tag: "Absent" }
        check(value?.stored !== undefined, `${value?.text} is set, but not stored`)
        return { _tag: "Present", value }
      case "Read": {
        if (value === undefined || !operation.keep || operation.timeToLive === 0) return before
        const [skipMemory, skipStore] = [operation.skip.includes("memory"), operation.skip.includes("store")]
        if (skipMemory && skipStore) return before
        if (this.#now() - beganAt > this.#fenceLifetime - 60_000) return { _tag: "Unknown" }
        if (skipStore) return { _tag: "Unknown" }
        if (before._tag !== "Unknown")
          check(value.stored !== undefined, `${value.text} is loaded undisturbed, but not stored`)
        if (value.stored === undefined) return { _tag: "Unknown" }
        // Memories that still hold what a forced load replaced.
        if (operation.force && (skipMemory || this.#nodes > 1)) return { _tag: "Unknown" }
        return before._tag === "Unknown" ? before : { _tag: "Present", value }
      }
    }
  }

  #stateOf(key: string): State {
    return this.#states.get(key) ?? { _tag: "Absent" }
  }

  #isThere({ beganAt }: Running, state: State): boolean | undefined {
    if (state._tag === "Unknown") return undefined
    if (state._tag === "Absent" || beganAt >= endInStore(state.value)) return false
    return this.#now() < endInStore(state.value) ? true : undefined
  }
}

export const defaultTimeToLive = 60 * 60_000

const isShared = (operation: Operation): boolean =>
  operation._tag === "Read" && operation.keep && operation.skip.length === 0

const isForced = (operation: Operation): boolean => operation._tag === "Read" && operation.force

const shares = (a: Pick<Running, "keys">, b: Pick<Running, "keys">): boolean =>
  a.keys.some((key) => b.keys.includes(key))

const endInStore = ({ stored, storedAt, timeToLive }: Value): number =>
  stored === undefined ? -Infinity : storedAt + timeToLive

const endOf = (value: Value): number =>
  Math.max(endInStore(value), value.ended === undefined ? -Infinity : value.endedAt + value.timeToLive)

const check: (holds: boolean, problem: string) => asserts holds = (holds, problem) => {
  if (!holds) throw new Error(problem)
}
