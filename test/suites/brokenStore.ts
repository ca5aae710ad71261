/**
 * A double: a `CacheStore` that breaks when a test says so. What it shows is what
 * the cache does about a store that fails, not how PostgreSQL fails.
 */
import { Effect } from "effect"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import type { Operation } from "./cacheNode.ts"

/** `late`: does what it was asked, and does not answer. */
export type Fault = "fails" | "hangs" | "dies" | "late"

export interface BrokenStore {
  readonly store: CacheStore["Service"]
  /** What is wrong with which operations; `ping` follows `read`. */
  readonly faults: Map<Operation, Fault>
  readonly break: (fault: Fault, ...operations: ReadonlyArray<Operation>) => void
  readonly mend: () => void
}

const everything: ReadonlyArray<Operation> = ["read", "fill", "write", "remove", "clear", "clearAll"]

export const breakable = (store: CacheStore["Service"]): BrokenStore => {
  const faults = new Map<Operation, Fault>()
  const around = <A>(operation: Operation, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
    Effect.suspend(() => {
      switch (faults.get(operation)) {
        case undefined:
          return call
        case "fails":
          return Effect.fail(
            new CacheError({ reason: new StoreUnavailable({ operation, cause: new Error("pulled the plug") }) })
          )
        case "hangs":
          return Effect.never
        case "dies":
          return Effect.die(new Error("a bug in the store"))
        case "late":
          return Effect.andThen(call, Effect.never)
      }
    })
  return {
    faults,
    break: (fault, ...operations) => {
      for (const operation of operations.length === 0 ? everything : operations) faults.set(operation, fault)
    },
    mend: () => faults.clear(),
    store: {
      ...store,
      read: (namespace, keys) => around("read", store.read(namespace, keys)),
      fill: (namespace, rows) => around("fill", store.fill(namespace, rows)),
      write: (namespace, rows) => around("write", store.write(namespace, rows)),
      remove: (namespace, keys) => around("remove", store.remove(namespace, keys)),
      clear: (namespace) => around("clear", store.clear(namespace)),
      clearAll: around("clearAll", store.clearAll),
      ping: around("read", store.ping)
    }
  }
}
