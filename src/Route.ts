/**
 * Where a read looks, what it keeps where, and whether others may share it.
 *
 * Decided once per read, from its options and from whether its fiber is inside a
 * transaction that the store would join. Such a read passes by memory and
 * flights, sees the store as the transaction does, and keeps nothing: what it
 * finds may never be committed.
 *
 * A read that leaves a tier out or keeps nothing is not shared: whoever joined it
 * would get less than they asked for.
 *
 * @since 0.1.0
 */
import type { Fiber } from "effect"
import type { GetOrSetOptions } from "./Operations.ts"
import type { StoreGuard } from "./StoreGuard.ts"

/**
 * The way of one read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Route {
  readonly readMemory: boolean
  readonly keepMemory: boolean
  readonly readStore: boolean
  readonly keepStore: boolean
  readonly shared: boolean
  readonly force: boolean
}

const everywhere: Route = {
  readMemory: true,
  keepMemory: true,
  readStore: true,
  keepStore: true,
  shared: true,
  force: false
}

const insideTransaction: Route = {
  readMemory: false,
  keepMemory: false,
  readStore: true,
  keepStore: false,
  shared: false,
  force: false
}

/**
 * The way of a read with these options, in this fiber.
 *
 * @category constructors
 * @since 0.1.0
 */
export const routeOf = (
  store: Pick<StoreGuard, "inTransaction">,
  options: GetOrSetOptions | undefined,
  caller: Fiber.Fiber<unknown, unknown>
): Route => {
  if (store.inTransaction(caller.context)) {
    return options?.force === true ? { ...insideTransaction, readStore: false } : insideTransaction
  }
  if (options === undefined) return everywhere
  const { force = false, skip = [], store: keep = true } = options
  const memory = !skip.includes("memory")
  const inStore = !skip.includes("store")
  return {
    readMemory: memory && !force,
    keepMemory: memory && keep,
    readStore: inStore,
    keepStore: inStore && keep,
    shared: memory && inStore && keep,
    force
  }
}
