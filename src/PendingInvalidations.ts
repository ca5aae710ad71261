/**
 * What the store (L2) could not be told: invalidations that failed or were
 * interrupted, kept and tried again in the background until the store has done
 * them.
 *
 * Until then this process must not read from the store what it was told is wrong
 * (`isPending`): a key, all keys of its namespace, or everything. One fiber tries
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
 * What a wider invalidation covers renews it: a key that is added while its whole
 * namespace is pending is done when the namespace has been cleared once more.
 *
 * **Bounds.** More than `maxKeys` keys of a namespace become one invalidation of
 * the namespace: an emptier cache is always right.
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
import { Clock, Effect, Fiber, Latch, Schedule, type Scope } from "effect"
import type { CacheError } from "./CacheError.ts"
import type { KeyText } from "./CacheStore.ts"
import type { Invalidation } from "./InvalidationBus.ts"
import type { StoreGuard } from "./StoreGuard.ts"

/**
 * What the store is to be told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly store: Pick<StoreGuard, "remove" | "clear" | "clearAll">
  /** How many keys of one namespace are kept apart. */
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
    for (const { keys, whole } of this.#namespaces.values()) size += whole === undefined ? keys.size : 1
    return size
  }

  /** The store was not told of this, or nobody knows whether it was. */
  add(invalidation: Invalidation): void {
    if (invalidation._tag === "Keys" && invalidation.keys.length === 0) return
    const order = ++this.#count
    if (this.size === 0) this.#since = this.#clock.currentTimeMillisUnsafe()
    if (invalidation._tag === "All" || this.#everything !== undefined) {
      this.#everything = order
      this.#namespaces.clear()
    } else {
      this.#addTo(invalidation.namespace, invalidation._tag === "Keys" ? invalidation.keys : undefined, order)
    }
    // Last: whoever waits runs inside this call.
    this.#some.openUnsafe()
  }

  #addTo(namespace: string, keys: ReadonlyArray<KeyText> | undefined, order: number): void {
    let pending = this.#namespaces.get(namespace)
    if (pending === undefined) {
      pending = { whole: undefined, keys: new Map() }
      this.#namespaces.set(namespace, pending)
    }
    if (keys !== undefined && pending.whole === undefined) {
      for (const key of keys) pending.keys.set(key, order)
      if (pending.keys.size <= this.#maxKeys) return
    }
    pending.whole = order
    pending.keys.clear()
  }

  /**
   * Whether the store may still have of this key what it was to be told is wrong.
   * To be asked before the store is read and again when it has answered: an answer
   * may be older than a removal that was done meanwhile.
   */
  isPending(namespace: string, key: KeyText): boolean {
    if (this.#everything !== undefined) return true
    const pending = this.#namespaces.get(namespace)
    return pending !== undefined && (pending.whole !== undefined || pending.keys.has(key))
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
    switch (invalidation._tag) {
      case "Keys":
        return this.#settleIn(invalidation.namespace, invalidation.keys, mark)
      case "Namespace":
        return this.#settleIn(invalidation.namespace, undefined, mark)
      case "All": {
        let isSettled = this.#everything !== undefined && this.#everything <= mark
        if (isSettled) this.#everything = undefined
        for (const namespace of this.#namespaces.keys()) {
          isSettled = this.#settleIn(namespace, undefined, mark) || isSettled
        }
        return isSettled
      }
    }
  }

  #settleIn(namespace: string, keys: ReadonlyArray<KeyText> | undefined, mark: number): boolean {
    const pending = this.#namespaces.get(namespace)
    if (pending === undefined) return false
    let isSettled = keys === undefined && pending.whole !== undefined && pending.whole <= mark
    if (isSettled) pending.whole = undefined
    for (const key of keys ?? pending.keys.keys()) {
      const order = pending.keys.get(key)
      if (order !== undefined && order <= mark) isSettled = pending.keys.delete(key)
    }
    if (pending.whole === undefined && pending.keys.size === 0) this.#namespaces.delete(namespace)
    return isSettled
  }

  /** Ends when there is something. */
  get someCome(): Effect.Effect<void> {
    return Effect.andThen(this.#some.await, Effect.yieldNow)
  }

  /** What one statement can do next. */
  next(): Invalidation | undefined {
    if (this.#everything !== undefined) return { _tag: "All" }
    for (const [namespace, { keys, whole }] of this.#namespaces) {
      if (whole !== undefined) return { _tag: "Namespace", namespace }
      return { _tag: "Keys", namespace, keys: [...keys.keys()].slice(0, maxKeysPerStatement) }
    }
    this.#some.closeUnsafe()
    return undefined
  }

  /** Has the others come first. */
  postpone(invalidation: Invalidation): void {
    if (invalidation._tag === "All") return
    const pending = this.#namespaces.get(invalidation.namespace)
    if (pending === undefined) return
    this.#namespaces.delete(invalidation.namespace)
    this.#namespaces.set(invalidation.namespace, pending)
  }
}

/** When each was added last. A namespace that is pending as a whole keeps no keys. */
interface PendingNamespace {
  whole: number | undefined
  readonly keys: Map<KeyText, number>
}

const maxKeysPerStatement = 1000

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
      return store.remove(invalidation.namespace, invalidation.keys)
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
