/**
 * What the context of a caller says that every read has to know: its clock, and
 * whether it is inside a transaction that the store would join.
 *
 * A context never changes, and one read after the other mostly comes from the same one. So
 * the last answer is remembered: to look both up anew is a fifth of the time of a hit
 * in memory. It holds on to that one context until the next.
 *
 * @since 0.1.0
 */
import { Clock, Context, type Fiber } from "effect"
import type { CacheStore } from "./CacheStore.ts"

/**
 * The surroundings of the caller that was asked about last.
 *
 * @category models
 * @since 0.1.0
 */
export class Surroundings {
  clock: Clock.Clock = Context.get(Context.empty(), Clock.Clock)
  inTransaction = false
  #context: Context.Context<never> | undefined
  readonly #store: Pick<CacheStore["Service"], "inTransaction">

  constructor(store: Pick<CacheStore["Service"], "inTransaction">) {
    this.#store = store
  }

  /** Those of this context; right until the next call. */
  of(context: Context.Context<never>): { readonly clock: Clock.Clock; readonly inTransaction: boolean } {
    if (context !== this.#context) {
      this.clock = Context.get(context, Clock.Clock)
      this.inTransaction = this.#store.inTransaction(context)
      this.#context = context
    }
    return this
  }
}

/**
 * The time on a fiber's clock, in milliseconds since the epoch.
 *
 * @internal
 */
export const nowOf = (fiber: Fiber.Fiber<unknown, unknown>): number =>
  fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
