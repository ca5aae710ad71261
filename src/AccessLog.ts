/**
 * How often entries are used, gathered here and told to the store in batches.
 *
 * The store trims the least recently used entries first, and lists how often each
 * was used; but a use must cost nothing, and most are answered by memory (L1) without
 * the store. So a use is an increment, the first since the store was last told also
 * a place in a list, and a fiber tells the store at intervals, one statement per
 * thousand keys.
 *
 * **What it does not promise**: that every use is told. What the store cannot be told
 * is forgotten; beyond `maxListed` entries of a namespace in one interval the others
 * are not listed; a use of an entry that is replaced before the interval ends counts
 * for its key all the same.
 *
 * @since 0.1.0
 */
import { Duration, Effect, type Scope } from "effect"
import type { CacheError } from "./CacheError.ts"
import type { KeyText } from "./CacheStore.ts"
import type { KeyId, MemoryEntry } from "./MemoryEntry.ts"
import type { StoreGuard } from "./StoreGuard.ts"

type Used = Pick<MemoryEntry<unknown>, "id" | "uses">

/**
 * The uses of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export class AccessLog {
  readonly #limit: number
  #used: Array<Used> = []
  #read = new Map<KeyText, number>()

  /** Where the store is never told, nothing is listed. */
  constructor(isTold: boolean) {
    this.#limit = isTold ? maxListed : 0
  }

  /** Memory has answered with the entry. */
  use(entry: Used): void {
    if (entry.uses === 0) {
      if (this.#used.length >= this.#limit) return
      this.#used.push(entry)
    }
    entry.uses++
  }

  /** The store has answered with the row of this key. */
  read(key: KeyText): void {
    const count = this.#read.get(key)
    if (count !== undefined || this.#read.size < this.#limit) this.#read.set(key, (count ?? 0) + 1)
  }

  /** All uses since the last time, by key. */
  take(textOf: (id: KeyId) => KeyText): ReadonlyMap<KeyText, number> {
    const uses = this.#read
    for (const entry of this.#used) {
      const key = textOf(entry.id)
      uses.set(key, (uses.get(key) ?? 0) + entry.uses)
      entry.uses = 0
    }
    this.#used = []
    this.#read = new Map()
    return uses
  }
}

const maxListed = 10_000

/**
 * What the fiber works on. With an infinite `interval` the store is told nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly store: Pick<StoreGuard, "touch">
  readonly spaces: () => Iterable<{
    readonly namespace: { readonly name: string; readonly keys: { readonly textOf: (id: KeyId) => KeyText } }
    readonly accesses: AccessLog
  }>
  readonly interval: Duration.Duration
}

/**
 * Tells the store at intervals until the scope closes, and then once more.
 *
 * @category running
 * @since 0.1.0
 */
export const tellStore = ({ interval, spaces, store }: Options): Effect.Effect<void, never, Scope.Scope> => {
  if (!Duration.isFinite(interval)) return Effect.void
  const tell = Effect.suspend(() => Effect.forEach(spaces(), (space) => tellOf(store, space), { discard: true }))
  return Effect.gen(function* () {
    yield* Effect.addFinalizer(() => Effect.ignore(Effect.timeoutOption(tell, timeForLast)))
    yield* Effect.forkScoped(Effect.forever(Effect.ignore(Effect.delay(tell, interval))))
  })
}

const timeForLast = "1 second"

const tellOf = (
  store: Options["store"],
  { accesses, namespace }: Options["spaces"] extends () => Iterable<infer Space> ? Space : never
): Effect.Effect<void, CacheError> => {
  const uses = Array.from(accesses.take(namespace.keys.textOf), ([key, count]) => ({ key, count }))
  const batches = Array.from({ length: Math.ceil(uses.length / keysPerStatement) }, (_, i) =>
    uses.slice(i * keysPerStatement, (i + 1) * keysPerStatement)
  )
  return Effect.forEach(batches, (batch) => store.touch(namespace.name, batch), { discard: true })
}

const keysPerStatement = 1000
