/**
 * What was loaded and is yet to be stored, where a namespace does not wait for
 * the store (`storeWrites: "background"`).
 *
 * `enqueue` is one synchronous step that never fails. One fiber fills the store,
 * one statement at a time: all waiting rows of the namespace whose row is the
 * oldest, within the size of a statement. So a store that returns after an outage
 * is not met by a crowd.
 *
 * A row that is enqueued while one of its key waits takes its place. When
 * `maxRows` are waiting, the oldest is dropped and counted. A fill that fails is
 * counted as one that was waited for (`StoreGuard.recover`) and not tried again:
 * the next load may bring the value as well. A row that the store refuses is
 * counted, and `onRefused` is called so that the cache can drop it from memory.
 *
 * When the scope closes, what is waiting is stored before the fiber ends; the
 * first failure then, or a few seconds, end that, and what is left counts as
 * dropped. So does what is enqueued later.
 *
 * A row waits with the fence that its load began with: whatever invalidates the
 * key meanwhile wins over it in the store.
 *
 * @since 0.1.0
 */
import { Effect, Fiber, Latch, type Scope } from "effect"
import type { Counters } from "./CacheStats.ts"
import type { Fence, KeyText, NewRow } from "./CacheStore.ts"
import * as StoreGuard from "./StoreGuard.ts"

/**
 * A row to be stored, and who is told what becomes of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface PendingWrite {
  readonly namespace: string
  readonly row: NewRow & { readonly fence: Fence }
  /** Those of the namespace. */
  readonly counters: Pick<Counters, "refused" | "storeDropped" | "storeErrors" | "storeSkipped">
  /** Whether other processes may hold what this row replaces. */
  readonly isReplacement: boolean
  /** Called when the store has refused the row, as the key has changed since. Must not throw. */
  readonly onRefused: () => void
  /** Called once, when the row is stored, or will not be. Must not throw. */
  readonly onEnd?: (isStored: boolean) => void
}

/**
 * No rows, and the fiber that will store those that come. Its life is the scope's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({
  maxRows,
  onReplaced,
  store
}: {
  readonly store: Pick<StoreGuard.StoreGuard, "fill">
  /** How many rows may wait. */
  readonly maxRows: number
  /** Runs when the store has rows that replaced what other processes may hold. */
  readonly onReplaced: (namespace: string, keys: ReadonlyArray<KeyText>) => Effect.Effect<void>
}): Effect.Effect<PendingWrites, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pending = new PendingWrites(maxRows)
    const worker = yield* Effect.forkScoped(work(pending, store, onReplaced))
    // Runs before the scope ends the worker: the last one in is the first one out.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        pending.close()
        return Effect.timeoutOption(Fiber.await(worker), timeToClose)
      }).pipe(Effect.andThen(Effect.sync(() => pending.dropAll())))
    )
    return pending
  })

const timeToClose = "5 seconds"

/**
 * The rows that are waiting.
 *
 * @category models
 * @since 0.1.0
 */
export class PendingWrites {
  /** By namespace and key; in the order in which they came. */
  readonly #queue = new Map<string, PendingWrite>()
  readonly #maxRows: number
  readonly #some = Latch.makeUnsafe(false)
  #closing = false

  constructor(maxRows: number) {
    this.#maxRows = maxRows
  }

  /** How many there are. */
  get size(): number {
    return this.#queue.size
  }

  /** Whether nothing comes any more. */
  get isClosing(): boolean {
    return this.#closing
  }

  /** Has the row stored soon, or counts it as dropped. */
  enqueue(write: PendingWrite): void {
    if (this.#closing) {
      write.counters.storeDropped++
      write.onEnd?.(false)
      return
    }
    const id = `${write.namespace}\0${write.row.key}`
    const before = this.#queue.get(id)
    this.#queue.delete(id)
    if (this.#queue.size >= this.#maxRows) this.#dropOldest()
    this.#queue.set(id, write)
    before?.onEnd?.(false)
    // Last: whoever waits runs inside this call.
    this.#some.openUnsafe()
  }

  #dropOldest(): void {
    for (const [id, { counters, onEnd }] of this.#queue) {
      this.#queue.delete(id)
      counters.storeDropped++
      onEnd?.(false)
      return
    }
  }

  /** Gives up what is waiting. */
  dropAll(): void {
    for (const { counters, onEnd } of this.#queue.values()) {
      counters.storeDropped++
      onEnd?.(false)
    }
    this.#queue.clear()
  }

  /** Nothing comes any more. */
  close(): void {
    this.#closing = true
    this.#some.openUnsafe()
  }

  /** Ends when there is something, or nothing will come. */
  get someCome(): Effect.Effect<void> {
    return Effect.andThen(this.#some.await, Effect.yieldNow)
  }

  /** Takes what one statement can store: rows of one namespace, the oldest row among them. */
  take(): ReadonlyArray<PendingWrite> {
    const batch: Array<PendingWrite> = []
    let size = 0
    for (const [id, write] of this.#queue) {
      if (batch.length > 0 && write.namespace !== batch[0]!.namespace) continue
      size += write.row.size
      if (batch.length > 0 && (batch.length === maxRowsPerStatement || size > maxSizePerStatement)) break
      batch.push(write)
      this.#queue.delete(id)
    }
    if (batch.length === 0) this.#some.closeUnsafe()
    return batch
  }
}

const maxRowsPerStatement = 1000
const maxSizePerStatement = 4 * 1024 * 1024

const work = Effect.fnUntraced(function* (
  pending: PendingWrites,
  store: Pick<StoreGuard.StoreGuard, "fill">,
  onReplaced: (namespace: string, keys: ReadonlyArray<KeyText>) => Effect.Effect<void>
) {
  while (true) {
    yield* pending.someCome
    const batch = pending.take()
    if (batch.length > 0) {
      const stored = yield* fill(store, batch)
      if (stored === undefined && pending.isClosing) pending.dropAll()
      const replaced = batch.filter(({ isReplacement }, index) => isReplacement && stored?.[index] === true)
      if (replaced.length > 0) {
        yield* onReplaced(
          batch[0]!.namespace,
          replaced.map(({ row }) => row.key)
        )
      }
    } else if (pending.isClosing) return
  }
})

/** Which rows were stored; `undefined` if the store failed. */
const fill = (store: Pick<StoreGuard.StoreGuard, "fill">, batch: ReadonlyArray<PendingWrite>) => {
  const { counters, namespace } = batch[0]!
  const rows = batch.map(({ row }) => row)
  return Effect.map(
    StoreGuard.recover<ReadonlyArray<boolean>, undefined, never>(
      store.fill(namespace, rows),
      { onStoreFailure: "recover" },
      counters,
      undefined
    ),
    (stored) => {
      batch.forEach(({ counters, onEnd, onRefused }, index) => {
        if (stored?.[index] === false) {
          counters.refused++
          onRefused()
        }
        onEnd?.(stored?.[index] === true)
      })
      return stored
    }
  )
}
