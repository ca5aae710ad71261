/**
 * Calls to the store that fail, each chosen in advance: so the store may answer one
 * look of a load and fail the next.
 */
import { Effect } from "effect"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"

/** What the store is asked: to look, for a lease, to keep what was loaded, or to change something. */
export type Kind = "read" | "lease" | "fill" | "change"

/** Of the calls of one kind that are made for an operation, also after its end, which one fails. */
export interface Fault {
  readonly kind: Kind
  readonly nth: 1 | 2 | 3
  /** Whether the store does what it is asked, and only its answer is lost. */
  readonly isDone: boolean
}

export const showFault = ({ isDone, kind, nth }: Fault): string =>
  `${kind} ${nth} ${isDone ? "done, but lost" : "lost"}`

export class Faults {
  readonly #toCome = new Map<number, Fault>()
  readonly #made = new Map<number, number>()

  add(operation: number, fault: Fault): void {
    this.#toCome.set(operation, fault)
  }

  /** What becomes of a call that is made for the operation now. */
  strike<A>(operation: number, kind: Kind, label: string, inStore: Effect.Effect<A, CacheError>) {
    const fault = this.#toCome.get(operation)
    if (fault?.kind !== kind) return inStore
    const nth = (this.#made.get(operation) ?? 0) + 1
    this.#made.set(operation, nth)
    if (fault.nth !== nth) return inStore
    const fails = Effect.fail(lost(label))
    return fault.isDone ? Effect.andThen(inStore, fails) : fails
  }
}

export const lost = (operation: string) =>
  new CacheError({ reason: new StoreUnavailable({ operation, cause: "lost" }) })
