/**
 * What the store (L2) could not be told: invalidations that failed or were
 * interrupted, kept and tried again in the background until the store has done
 * them.
 *
 * Until then this process must not read from the store what it was told is wrong
 * (`isPending`): a key, what has a tag, what a pattern matches, all of a namespace, or
 * everything. What is to be expired counts as wrong too: nobody is given it as a
 * reserve before it is one in the store. One fiber tries
 * again, one statement at a time, at once when the first one is added and then at
 * growing intervals, so that a store that returns meets one of these from each
 * process and not a crowd. When an invalidation is done, `onDone` hears of it:
 * another process may have read the old row again meanwhile.
 *
 * **Order.** Every `add` gets the next number. Whoever changes the store takes a
 * `mark` before it asks and settles, once the store has answered, what was added
 * up to that mark; this module's own tries do the same:
 *
 *     try:     mark 1 ─ remove "a" ───────── settle "a" up to 1: 2 stays
 *     caller:              add "a", which is 2
 *
 * What a whole namespace covers renews it: a key that is added while its
 * namespace is pending is done when the namespace has been cleared once more.
 *
 * **Bounds.** More than `maxKeys` keys and tags of a namespace, or than `maxPatterns`
 * patterns, become one invalidation of the namespace: an emptier cache is always
 * right.
 *
 * **How long.** It is tried until it is done, with no clock of its own: once every
 * row that it could affect has expired, the statement finds nothing to remove and
 * costs next to nothing, and a store that never answers is never read either.
 *
 * **What it does not do.** It lives in memory: a process that dies takes with it
 * what it had not yet told, and its rows are served until they expire. When the
 * scope closes there is one last try, which ends with the first failure; what is
 * left is one line in the log.
 *
 * @since 0.1.0
 */
import { Clock, Effect, Fiber, Latch, Result, Schedule, type Scope } from "effect"
import type { CacheError } from "./CacheError.ts"
import type { KeyText } from "./CacheStore.ts"
import * as Glob from "./Glob.ts"
import type { Invalidation } from "./InvalidationBus.ts"
import type { StoreGuard } from "./StoreGuard.ts"

/**
 * What the store is to be told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly store: Pick<StoreGuard, "remove" | "removeTagged" | "removeMatching" | "clear" | "clearAll">
  /** How many keys and tags of one namespace are kept apart. */
  readonly maxKeys: number
  /** Runs when the store has done one, which may be a part of what was added. */
  readonly onDone: (invalidation: Invalidation) => Effect.Effect<void>
}

/**
 * Nothing pending, and the fiber that will work on what comes. Its life is the scope's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<PendingInvalidations, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pending = new PendingInvalidations(options.maxKeys, yield* Clock.Clock)
    const attempt = tellStore(pending, options)
    const worker = yield* Effect.forkScoped(
      Effect.forever(
        Effect.andThen(
          Effect.suspend(() => pending.someCome),
          Effect.retry(attempt, backOff)
        )
      )
    )
    // Runs before the scope ends the worker: the last one in is the first one out.
    yield* Effect.addFinalizer(() => Effect.andThen(Fiber.interrupt(worker), lastTry(pending, attempt)))
    return pending
  })

const backOff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("3 seconds")]).pipe(Schedule.jittered)

/**
 * The invalidations that the store was not told of.
 *
 * @category models
 * @since 0.1.0
 */
export class PendingInvalidations {
  readonly #namespaces = new Map<string, PendingNamespace>()
  readonly #maxKeys: number
  readonly #clock: Clock.Clock
  readonly #some = Latch.makeUnsafe(false)
  #since = 0
  #everything: number | undefined = undefined
  #count = 0

  constructor(maxKeys: number, clock: Clock.Clock) {
    this.#maxKeys = maxKeys
    this.#clock = clock
  }

  /** Since when there has been something (milliseconds since the epoch). */
  get since(): number {
    return this.#since
  }

  /** How many there are. */
  get size(): number {
    let size = this.#everything === undefined ? 0 : 1
    for (const pending of this.#namespaces.values()) size += pending.whole === undefined ? sizeOf(pending) : 1
    return size
  }

  /** The store was not told of this, or nobody knows whether it was. */
  add(invalidation: Invalidation): void {
    if (invalidation._tag !== "All" && targetsOf(invalidation)?.length === 0) return
    const order = ++this.#count
    if (this.size === 0) this.#since = this.#clock.currentTimeMillisUnsafe()
    if (invalidation._tag === "All" || this.#everything !== undefined) {
      this.#everything = order
      this.#namespaces.clear()
    } else {
      this.#addTo(invalidation, order)
    }
    // Last: whoever waits runs inside this call.
    this.#some.openUnsafe()
  }

  #addTo(invalidation: InNamespace, order: number): void {
    let pending = this.#namespaces.get(invalidation.namespace)
    if (pending === undefined) {
      pending = { whole: undefined, parts: new Map() }
      this.#namespaces.set(invalidation.namespace, pending)
    }
    if (invalidation._tag !== "Namespace" && pending.whole === undefined) {
      const { globs, targets } = partOf(pending, invalidation)
      for (const target of targetsOf(invalidation)!) targets.set(target, order)
      const isKnown = invalidation._tag !== "Pattern" || compile(globs, invalidation)
      if (isKnown && globs.size <= maxPatterns && sizeOf(pending) <= this.#maxKeys) return
    }
    pending.whole = order
    pending.parts.clear()
  }

  /**
   * Whether the store may still have of this key what it was to be told is wrong,
   * or has a row with these tags that is.
   * To be asked before the store is read and again when it has answered: an answer
   * may be older than a removal that was done meanwhile.
   */
  isPending(namespace: string, key: KeyText, tags: ReadonlyArray<string> = []): boolean {
    if (this.#everything !== undefined) return true
    const pending = this.#namespaces.get(namespace)
    if (pending === undefined) return false
    if (pending.whole !== undefined) return true
    for (const { globs, kind, targets } of pending.parts.values()) {
      if (kind === "Keys" && targets.has(key)) return true
      if (kind === "Tags" && tags.some((tag) => targets.has(tag))) return true
      for (const glob of globs.values()) if (glob.matches(key)) return true
    }
    return false
  }

  /**
   * The tags of which the store may still have rows: to be taken before it is read,
   * since only its answer says which tags a row has.
   */
  tagsOf(namespace: string): ReadonlySet<string> {
    const parts = this.#namespaces.get(namespace)?.parts
    if (parts === undefined) return noTags
    return new Set([...parts.values()].flatMap(({ kind, targets }) => (kind === "Tags" ? [...targets.keys()] : [])))
  }

  /** To be taken before the store is asked for a change that `settle` will be told of. */
  mark(): number {
    return this.#count
  }

  /**
   * The store has removed or overwritten what this names, on behalf of a call
   * that took the mark before it asked: what was added up to then is done, and
   * only as wide as this is. Says whether there was something; whoever made the
   * call then tells the other processes, if it does not always do so.
   */
  settle(invalidation: Invalidation, mark: number): boolean {
    if (invalidation._tag !== "All") return this.#settleIn(invalidation.namespace, invalidation, mark)
    let isSettled = this.#everything !== undefined && this.#everything <= mark
    if (isSettled) this.#everything = undefined
    for (const namespace of this.#namespaces.keys()) {
      isSettled = this.#settleIn(namespace, { _tag: "Namespace", namespace }, mark) || isSettled
    }
    return isSettled
  }

  #settleIn(namespace: string, invalidation: InNamespace, mark: number): boolean {
    const pending = this.#namespaces.get(namespace)
    if (pending === undefined) return false
    const named = targetsOf(invalidation)
    let isSettled = named === undefined && pending.whole !== undefined && pending.whole <= mark
    if (isSettled) pending.whole = undefined
    for (const [name, { globs, keepsStale, kind, targets }] of pending.parts) {
      // What is gone is stale no more, but not the other way round.
      const isCovered = named === undefined || (kind === invalidation._tag && (keepsStale || !isExpiry(invalidation)))
      if (!isCovered) continue
      for (const target of named ?? targets.keys()) {
        const order = targets.get(target)
        if (order === undefined || order > mark) continue
        isSettled = targets.delete(target)
        globs.delete(target)
      }
      if (targets.size === 0) pending.parts.delete(name)
    }
    if (pending.whole === undefined && pending.parts.size === 0) this.#namespaces.delete(namespace)
    return isSettled
  }

  /** Ends when there is something. */
  get someCome(): Effect.Effect<void> {
    return Effect.andThen(this.#some.await, Effect.yieldNow)
  }

  /** What one statement can do next. */
  next(): Invalidation | undefined {
    if (this.#everything !== undefined) return { _tag: "All" }
    for (const [namespace, { parts, whole }] of this.#namespaces) {
      if (whole !== undefined) return { _tag: "Namespace", namespace }
      for (const { keepsStale, kind, targets } of parts.values()) {
        const named = [...targets.keys()].slice(0, maxPerStatement)
        if (kind === "Keys") return { _tag: kind, namespace, keys: named, keepsStale }
        if (kind === "Tags") return { _tag: kind, namespace, tags: named, keepsStale }
        return { _tag: kind, namespace, pattern: named[0]!, keepsStale }
      }
    }
    this.#some.closeUnsafe()
    return undefined
  }

  /** Has the others come first. */
  postpone(invalidation: Invalidation): void {
    if (invalidation._tag === "All") return
    const pending = this.#namespaces.get(invalidation.namespace)
    if (pending === undefined) return
    putLast(this.#namespaces, invalidation.namespace)
    if (invalidation._tag === "Namespace") return
    const name = nameOf(invalidation)
    putLast(pending.parts, name)
    if (invalidation._tag === "Pattern") putLast(pending.parts.get(name)?.targets ?? new Map(), invalidation.pattern)
  }
}

type InNamespace = Exclude<Invalidation, { readonly _tag: "All" }>
type Part = Exclude<InNamespace, { readonly _tag: "Namespace" }>

/** A namespace that is pending as a whole has no parts. */
interface PendingNamespace {
  whole: number | undefined
  readonly parts: Map<string, PendingPart>
}

/** What is named in one way, and when each was added last. None is empty. */
interface PendingPart {
  readonly kind: Part["_tag"]
  readonly keepsStale: boolean
  readonly targets: Map<string, number>
  /** Of the targets, where they are patterns. */
  readonly globs: Map<string, Glob.Glob>
}

/** What it names; undefined where that is the whole namespace. */
const targetsOf = (invalidation: InNamespace): ReadonlyArray<string> | undefined => {
  switch (invalidation._tag) {
    case "Keys":
      return invalidation.keys
    case "Tags":
      return invalidation.tags
    case "Pattern":
      return [invalidation.pattern]
    case "Namespace":
      return undefined
  }
}

const isExpiry = (invalidation: InNamespace): boolean =>
  invalidation._tag !== "Namespace" && invalidation.keepsStale === true

const nameOf = (invalidation: Part): string => `${invalidation._tag}${isExpiry(invalidation) ? " to expire" : ""}`

const partOf = ({ parts }: PendingNamespace, invalidation: Part): PendingPart => {
  const name = nameOf(invalidation)
  const part = parts.get(name)
  if (part !== undefined) return part
  const keepsStale = isExpiry(invalidation)
  const added: PendingPart = { kind: invalidation._tag, keepsStale, targets: new Map(), globs: new Map() }
  parts.set(name, added)
  return added
}

/** Whether it is a pattern at all. */
const compile = (
  globs: Map<string, Glob.Glob>,
  { namespace, pattern }: Part & { readonly _tag: "Pattern" }
): boolean => {
  if (globs.has(pattern)) return true
  const glob = Glob.make(namespace, pattern)
  if (Result.isSuccess(glob)) globs.set(pattern, glob.success)
  return Result.isSuccess(glob)
}

const sizeOf = ({ parts }: PendingNamespace): number =>
  [...parts.values()].reduce((size, { targets }) => size + targets.size, 0)

const putLast = <K, V>(map: Map<K, V>, key: K): void => {
  const value = map.get(key)
  if (value === undefined) return
  map.delete(key)
  map.set(key, value)
}

const noTags: ReadonlySet<string> = new Set()

const maxPerStatement = 1000

/** Every read of the store looks at all of them. */
const maxPatterns = 100

/** One statement, if there is something to tell. What the store has done is announced, come what may. */
const tellStore = (pending: PendingInvalidations, { onDone, store }: Options): Effect.Effect<void, CacheError> =>
  Effect.uninterruptibleMask((restore) => {
    const invalidation = pending.next()
    if (invalidation === undefined) return Effect.void
    const mark = pending.mark()
    return Effect.matchEffect(restore(statement(store, invalidation)), {
      onFailure: (error) => {
        pending.postpone(invalidation)
        return Effect.fail(error)
      },
      onSuccess: () => {
        pending.settle(invalidation, mark)
        return Effect.catchDefect(onDone(invalidation), (defect) =>
          Effect.logError("cache: an invalidation that was done late could not be announced", defect)
        )
      }
    })
  })

const statement = (store: Options["store"], invalidation: Invalidation): Effect.Effect<unknown, CacheError> => {
  switch (invalidation._tag) {
    case "Keys":
      return store.remove(invalidation.namespace, invalidation.keys, invalidation.keepsStale)
    case "Tags":
      return store.removeTagged(invalidation.namespace, invalidation.tags, invalidation.keepsStale)
    case "Pattern": {
      const { keepsStale, namespace, pattern } = invalidation
      const glob = Glob.make(namespace, pattern)
      return Result.isSuccess(glob) ? store.removeMatching(namespace, glob.success, keepsStale) : store.clear(namespace)
    }
    case "Namespace":
      return store.clear(invalidation.namespace)
    case "All":
      return store.clearAll
  }
}

const lastTry = (pending: PendingInvalidations, attempt: Effect.Effect<void, CacheError>) =>
  Effect.gen(function* () {
    if (pending.size === 0) return
    yield* Effect.repeat(attempt, { while: () => pending.size > 0 }).pipe(
      Effect.timeoutOption(timeForLastTry),
      Effect.ignore
    )
    if (pending.size === 0) return
    yield* Effect.logWarning(
      `cache: closed with ${pending.size} invalidations that the store was never told of; it may serve what they concern until that expires`
    )
  })

const timeForLastTry = "5 seconds"
