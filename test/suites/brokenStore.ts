/**
 * A double: a `CacheStore` that breaks when a test says so. What it shows is what
 * the cache does about a store that fails, not how PostgreSQL fails.
 */
import { Effect, Stream } from "effect"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import type { Operation } from "./cacheNode.ts"

/**
 * `late`: does what it was asked, and does not answer. `fails late`: fails when
 * nobody waits any more. `slow`: answers after `slowness`.
 */
export type Fault = "fails" | "hangs" | "dies" | "late" | "fails late" | "slow"

/** What can be broken. */
export type Target = Operation | "scan" | "ping"

export interface BrokenStore {
  readonly store: CacheStore["Service"]
  /** What is wrong with which operations. */
  readonly faults: Map<Target, Fault>
  /** Breaks these operations, or all; `ping` breaks with `read`. */
  readonly break: (fault: Fault, ...operations: ReadonlyArray<Target>) => void
  readonly mend: () => void
}

/** In milliseconds; shorter than any timeout of the tests. */
export const slowness = 200

const everything: ReadonlyArray<Target> = [
  "read",
  "fill",
  "rearm",
  "write",
  "remove",
  "removeTagged",
  "removeMatching",
  "clear",
  "clearAll",
  "acquire",
  "renew",
  "release",
  "touch",
  "scan"
]

export const breakable = (store: CacheStore["Service"]): BrokenStore => {
  const faults = new Map<Target, Fault>()
  const around = <A>(operation: Target, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
    Effect.suspend(() => {
      switch (faults.get(operation)) {
        case undefined:
          return call
        case "fails":
          return Effect.fail(pulled(operation))
        case "hangs":
          return Effect.never
        case "dies":
          return Effect.die(new Error("a bug in the store"))
        case "late":
          return Effect.andThen(call, Effect.never)
        case "fails late":
          return Effect.delay(Effect.fail(pulled(operation)), "1 hour")
        case "slow":
          return Effect.delay(call, slowness)
      }
    })
  return {
    faults,
    break: (fault, ...operations) => {
      for (const operation of operations.length === 0 ? everything : operations) {
        faults.set(operation, fault)
        if (operation === "read") faults.set("ping", fault)
      }
    },
    mend: () => faults.clear(),
    store: {
      ...store,
      read: (namespace, keys) => around("read", store.read(namespace, keys)),
      fill: (namespace, rows) => around("fill", store.fill(namespace, rows)),
      rearm: (namespace, rows) => around("rearm", store.rearm(namespace, rows)),
      write: (namespace, rows) => around("write", store.write(namespace, rows)),
      remove: (namespace, keys, keepsStale) => around("remove", store.remove(namespace, keys, keepsStale)),
      removeTagged: (namespace, tags, keepsStale) =>
        around("removeTagged", store.removeTagged(namespace, tags, keepsStale)),
      removeMatching: (namespace, pattern, keepsStale) =>
        around("removeMatching", store.removeMatching(namespace, pattern, keepsStale)),
      clear: (namespace) => around("clear", store.clear(namespace)),
      clearAll: around("clearAll", store.clearAll),
      acquire: (namespace, keys, lease) => around("acquire", store.acquire(namespace, keys, lease)),
      renew: (namespace, keys, lease) => around("renew", store.renew(namespace, keys, lease)),
      release: (namespace, keys, owner) => around("release", store.release(namespace, keys, owner)),
      touch: (namespace, uses) => around("touch", store.touch(namespace, uses)),
      scan: (namespace) => Stream.unwrap(around("scan", Effect.succeed(store.scan(namespace)))),
      ping: around("ping", store.ping)
    }
  }
}

const pulled = (operation: string) =>
  new CacheError({ reason: new StoreUnavailable({ operation, cause: new Error("pulled the plug") }) })
