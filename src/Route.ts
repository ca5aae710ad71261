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
import type { ReadOptions, Skip } from "./Operations.ts"
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
  /** Whether to ask the store although memory has something stale. */
  readonly readStoreWhenStale: boolean
  readonly keepStore: boolean
  /** Whether others may join, and the load may go on without its caller. */
  readonly shared: boolean
  readonly force: boolean
  /** Whether it may go on when its caller does not wait any more. */
  readonly detachable: boolean
}

const everywhere: Route = {
  readMemory: true,
  keepMemory: true,
  readStore: true,
  readStoreWhenStale: true,
  keepStore: true,
  shared: true,
  force: false,
  detachable: true
}

const insideTransaction: Route = {
  ...everywhere,
  readMemory: false,
  keepMemory: false,
  keepStore: false,
  shared: false,
  detachable: false
}

/**
 * The way of a read with these options, in this fiber.
 *
 * @category constructors
 * @since 0.1.0
 */
export const routeOf = (
  store: Pick<StoreGuard, "inTransaction">,
  options: (ReadOptions & { readonly force?: boolean; readonly store?: unknown }) | undefined,
  caller: Fiber.Fiber<unknown, unknown>
): Route => {
  if (store.inTransaction(caller.context)) {
    return options?.force === true ? { ...insideTransaction, readStore: false } : insideTransaction
  }
  if (options === undefined) return everywhere
  const { force = false, store: keep = true } = options
  const skip: ReadonlyArray<Skip> = typeof options.skip === "string" ? [options.skip] : (options.skip ?? [])
  const leavesOut = (...ways: ReadonlyArray<Skip>) => ways.some((way) => skip.includes(way))
  return {
    readMemory: !leavesOut("memory", "memoryRead") && !force,
    keepMemory: !leavesOut("memory", "memoryWrite") && keep !== false,
    readStore: !leavesOut("store", "storeRead"),
    readStoreWhenStale: !leavesOut("storeReadWhenStale"),
    keepStore: !leavesOut("store", "storeWrite") && keep !== false,
    shared: skip.length === 0 && keep !== false,
    force,
    detachable: true
  }
}
