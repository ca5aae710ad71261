/**
 * What the store must hold for a key when nothing else has touched that meanwhile,
 * and nothing was lost: then an answer is the one that a plain map would give. A cache
 * that never keeps anything does not pass, nor one that forgets its reserve.
 */
import { Exit } from "effect"
import { isExpiry, type Operation, type Read } from "./Command.ts"
import {
  agingOf,
  check,
  covers,
  endInStore,
  isRearming,
  type Past,
  revalidatedUntil,
  type Running,
  staleUntilInStore,
  textOfFailure,
  type Value
} from "./History.ts"
import { LoadFailure, nameOf } from "./Spaces.ts"

type State = { readonly _tag: "Absent" } | Present | { readonly _tag: "Unknown" }

/** With a value that may have been expired, and until when no load is started after one that failed. */
interface Present {
  readonly _tag: "Present"
  readonly value: Value
  readonly expiredAt: number
  readonly retryAt: number
}

export class Knowledge {
  readonly past: Past
  readonly #states = new Map<string, State>()

  constructor(past: Past) {
    this.past = past
  }

  /** Nothing is known of the key any more. */
  forget(key: string): void {
    this.#states.set(key, { _tag: "Unknown" })
  }

  /** What the read could have been answered with for want of something fresh, if that is certain. */
  reserveOf(running: Running, read: Read, key: string): Present | undefined {
    const state = this.#stateOf(key)
    const isCertain =
      this.past.news === "at once" && !isDisturbed(running, key) && !read.skip.includes("store") && !read.force
    return isCertain && state._tag === "Present" ? state : undefined
  }

  /** Judges what is certain of an answer. */
  judge(running: Running, read: Read, key: string, text: string | undefined): void {
    if (this.past.news !== "at once" || isDisturbed(running, key)) return
    const state = this.#stateOf(key)
    if (state._tag === "Unknown") return
    const loaded = running.values.has(key)
    const [began, ended] = [running.beganAt, this.past.now()]
    const mayFind = !(read.skip.includes("memory") && read.skip.includes("store")) && !read.force
    const mustFind = mayFind && !read.skip.includes("store")
    if (state._tag === "Absent" || !mayFind || began >= staleUntilInStore(state.value)) {
      return check(loaded === (read.loader !== "none"), `${text} where there is nothing`)
    }
    const { expiredAt, retryAt, value } = state
    if (!mustFind || ended >= staleUntilInStore(value)) return
    if (ended < freshUntil(state)) {
      const mayRefresh = agingOf(read).earlyRefresh < 1
      return check(text === value.text && (!loaded || mayRefresh), `${text} instead of ${value.text}`)
    }
    if (began < freshUntil(state)) return
    if (read.loader === "none") {
      return check(text === (read.stale ? value.text : undefined) && !loaded, `${text}, where ${value.text} is stale`)
    }
    if (ended < retryAt) return check(text === value.text && !loaded, `${text}, not ${value.text} once more`)
    // What was found then is the answer, however long another key takes.
    if (began < retryAt) return check(text === value.text || loaded, `${text} instead of ${value.text}`)
    const until = revalidatedUntil(value, expiredAt)
    const isRevalidating = running.keys.length === 1 && read.loader === "later" && ended < until
    if (isRevalidating) check(text === value.text, `${text} instead of ${value.text} while it is revalidated`)
    else if (ended >= until) check(loaded, `${text} without a load`)
  }

  /** What is now known of the keys. */
  follow(running: Running, exit: Exit.Exit<unknown, unknown>): void {
    const { contended, keys, operation } = running
    const certain = Exit.isSuccess(exit) && running.calls === 0
    const before = new Map(keys.map((key) => [key, this.#stateOf(key)]))
    if (certain && this.past.news === "at once" && operation._tag === "Invalidate") {
      for (const [index, wasThere] of (exit.value as ReadonlyArray<boolean>).entries()) {
        const key = nameOf(operation.space, operation.keys[index]!)
        const expected = contended.has(key) ? undefined : this.#wasThere(running, before.get(key)!)
        check(expected === undefined || expected === wasThere, `says ${wasThere} of ${key}`)
      }
    }
    if (certain && typeof exit.value === "number") {
      const there = keys.map((key) => (contended.has(key) ? undefined : this.#wasThere(running, before.get(key)!)))
      const known = there.every((isThere) => isThere !== undefined)
      check(
        !known || exit.value === there.filter((isThere) => isThere === true).length,
        `changed ${exit.value}, not ${there}`
      )
    }
    for (const key of keys) {
      const isKnown = (certain || hasFailedItself(running, exit)) && !contended.has(key)
      // Who fails with one load leaves the others; and a row that a transaction holds keeps out those it is stored with.
      const isUndisturbed = certain && contended.size === 0
      const after = isKnown ? this.#after(running, key, before.get(key)!, isUndisturbed) : { _tag: "Unknown" as const }
      this.#states.set(key, after)
    }
  }

  /** Whether the change concerned something that was there: of keys to be expired, something fresh. */
  #wasThere(running: Running, state: State): boolean | undefined {
    if (state._tag === "Unknown") return undefined
    if (state._tag === "Absent" || !covers(running, state.value)) return false
    const { operation } = running
    const isOnlyFresh = operation._tag === "Invalidate" && isExpiry(operation)
    const until = isOnlyFresh ? freshUntil(state) : staleUntilInStore(state.value)
    if (running.beganAt >= until) return false
    return this.past.now() < until ? true : undefined
  }

  #after(running: Running, key: string, before: State, isUndisturbed: boolean): State {
    const { beganAt, id, operation, values } = running
    const value = values.get(key)
    switch (operation._tag) {
      case "Invalidate":
      case "InvalidateTags":
      case "InvalidatePattern":
      case "Clear":
      case "ClearAll":
        return this.#afterRemoval(running, operation, before)
      case "Set":
        if (operation.timeToLive === 0) return { _tag: "Absent" }
        check(value?.stored !== undefined, `${value?.text} is set, but not stored`)
        return present(value)
      case "Read": {
        if (value?.ended === undefined) return this.#afterFailure(id, operation, key, before)
        if (!operation.keep || operation.timeToLive === 0) return before
        const [skipMemory, skipStore] = [operation.skip.includes("memory"), operation.skip.includes("store")]
        if (skipMemory && skipStore) return before
        if (this.past.now() - beganAt > this.past.fenceLifetime - 60_000) return { _tag: "Unknown" }
        if (skipStore) return { _tag: "Unknown" }
        if (isUndisturbed && before._tag !== "Unknown" && agingOf(operation).storeWrites === "awaited")
          check(value.stored !== undefined, `${value.text} is loaded undisturbed, but not stored`)
        if (value.stored === undefined) return { _tag: "Unknown" }
        if (before._tag === "Unknown") return before
        // A memory that was left alone may still hold what was replaced.
        return skipMemory && before._tag === "Present" ? { _tag: "Unknown" } : present(value)
      }
    }
  }

  #afterRemoval(running: Running, operation: Operation, before: State): State {
    if (!isExpiry(operation)) {
      if (operation._tag !== "InvalidateTags") return { _tag: "Absent" }
      return before._tag === "Present" && covers(running, before.value) ? { _tag: "Absent" } : before
    }
    if (before._tag !== "Present" || !covers(running, before.value)) return before
    const now = this.past.now()
    if (running.beganAt !== now) return { _tag: "Unknown" }
    return { ...before, expiredAt: Math.min(before.expiredAt, now), retryAt: 0 }
  }

  #afterFailure(id: number, read: Read, key: string, before: State): State {
    const load = this.past.loads.find(({ keys, source }) => source.id === id && keys.includes(key))
    const isKept = load !== undefined && this.past.values.has(textOfFailure(load.failure, key))
    if (load === undefined || before._tag !== "Present" || !isRearming(load, before.value, before.expiredAt))
      return isKept ? { _tag: "Unknown" } : before
    // Who leaves the store out re-arms memory alone.
    if (read.skip.includes("store") || read.force) return { _tag: "Unknown" }
    const retryAt = Math.min(load.endedAt + agingOf(read).failureBackoff, staleUntilInStore(before.value))
    return { ...before, retryAt }
  }

  #stateOf(key: string): State {
    return this.#states.get(key) ?? { _tag: "Absent" }
  }
}

const present = (value: Value): Present => ({ _tag: "Present", value, expiredAt: Infinity, retryAt: 0 })

const freshUntil = ({ expiredAt, value }: Present): number => Math.min(endInStore(value), expiredAt)

const isDisturbed = ({ calls, contended, transaction }: Running, key: string): boolean =>
  contended.has(key) || calls > 0 || transaction !== undefined

/** Whether it failed with the loader's own failure and nothing else. */
const hasFailedItself = ({ calls, operation }: Running, exit: Exit.Exit<unknown, unknown>): boolean =>
  operation._tag === "Read" &&
  calls === 0 &&
  Exit.isFailure(exit) &&
  exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error instanceof LoadFailure)
