/**
 * A double: a `CacheStore` that breaks when a test says so. What it shows is what
 * the cache does about a store that fails, not how PostgreSQL fails.
 */
import { Effect, Stream } from "effect"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import { around, type Operation } from "./cacheNode.ts"

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
  const broken = <A>(operation: Target, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
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
      ...around(store, (operation, _, call) => broken(operation, call)),
      scan: (namespace) => Stream.unwrap(broken("scan", Effect.succeed(store.scan(namespace)))),
      ping: broken("ping", store.ping)
    }
  }
}

const pulled = (operation: string) =>
  new CacheError({ reason: new StoreUnavailable({ operation, cause: new Error("pulled the plug") }) })
