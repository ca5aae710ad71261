/**
 * The only answer to "what if the store (L2) is down".
 *
 * A `StoreGuard` stands before a `CacheStore` and gives every call the same
 * contract with four additions:
 *
 * - **Time.** A read may take `readTimeout`, everything else `writeTimeout`;
 *   after that the call fails with `StoreTimeout` at once, and what is left of it
 *   is cancelled without anyone waiting for that.
 * - **Health.** The first call that fails begins an outage, the first one that
 *   succeeds when none has failed for `breakerProbeInterval` ends it; each is one
 *   log line, whatever the traffic, also where the store comes and goes. A call inside
 *   the caller's transaction says nothing about the store and does not count.
 * - **Rest.** After some failures in a row, reads and fills leave the store alone
 *   and fail with `CircuitOpen` at once, but for a probe now and then
 *   (`StoreBreaker`). What an application changes on purpose, `set`, `invalidate`
 *   and `clear`, is always tried: it would be lost, not just slower.
 * - **Recovery.** `recover` turns a failure into "go on without the store" for
 *   namespaces that chose so, and leaves it to those that did not.
 *
 * @since 0.1.0
 */
import { Clock, Duration, Effect, type Scope, Stream } from "effect"
import type { CacheConfig } from "./CacheConfig.ts"
import { CacheError, StoreTimeout, StoreUnavailable } from "./CacheError.ts"
import type { ComponentHealth } from "./CacheHealth.ts"
import type { Counters } from "./CacheStats.ts"
import type { CacheStore } from "./CacheStore.ts"
import type { OnStoreFailure, StoreFailure } from "./Namespace.ts"
import * as StoreBreaker from "./StoreBreaker.ts"

/**
 * A store that answers in time.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreGuard extends Omit<CacheStore["Service"], "sweep"> {
  /** How the store was when it was last called. */
  readonly health: () => ComponentHealth
}

/**
 * Puts a guard before a store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  store: CacheStore["Service"],
  config: Pick<CacheConfig["Service"]["store"], "readTimeout" | "writeTimeout"> & StoreBreaker.BreakerConfig
): Effect.Effect<StoreGuard, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { readTimeout, writeTimeout } = config
    const outage: Outage = {
      health: { status: "Up", since: yield* Clock.currentTimeMillis },
      lastFailure: -Infinity,
      quiet: Duration.toMillis(config.breakerProbeInterval)
    }
    const breaker = yield* StoreBreaker.make(config)
    const tried = <A>(operation: string, timeout: Duration.Duration, call: Effect.Effect<A, CacheError>) =>
      Effect.withFiber<A, CacheError>((fiber) =>
        store.inTransaction(fiber.context)
          ? withoutDefects(operation, call)
          : watched(outage, inTime(operation, timeout, withoutDefects(operation, call)))
      )
    const guarded = <A>(operation: string, timeout: Duration.Duration, call: Effect.Effect<A, CacheError>) =>
      Effect.withFiber<A, CacheError>((fiber) => {
        const attempt = tried(operation, timeout, call)
        return store.inTransaction(fiber.context) ? attempt : breaker.through(operation, attempt)
      })
    return {
      fenceLifetime: store.fenceLifetime,
      inTransaction: store.inTransaction,
      afterCommit: store.afterCommit,
      scan: (namespace) => pulledInTime(readTimeout, store.scan(namespace)),
      read: (namespace, keys) => guarded("read", readTimeout, store.read(namespace, keys)),
      fill: (namespace, rows) => guarded("write", writeTimeout, store.fill(namespace, rows)),
      write: (namespace, rows) => tried("write", writeTimeout, store.write(namespace, rows)),
      remove: (namespace, keys) => tried("invalidate", writeTimeout, store.remove(namespace, keys)),
      clear: (namespace) => tried("clear", writeTimeout, store.clear(namespace)),
      clearAll: tried("clear", writeTimeout, store.clearAll),
      ping: guarded("answer", readTimeout, store.ping),
      health: () => outage.health
    }
  })

interface Outage {
  health: ComponentHealth
  /** When a call last failed. */
  lastFailure: number
  /** How long none may fail before the outage is over, so that a store that comes and goes is one outage. */
  readonly quiet: number
}

/** A store that dies is a store that is away. */
const withoutDefects = <A>(operation: string, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
  Effect.catchDefect(call, (cause) =>
    Effect.fail(new CacheError({ reason: new StoreUnavailable({ operation, cause }) }))
  )

const inTime = <A>(operation: string, timeout: Duration.Duration, call: Effect.Effect<A, CacheError>) =>
  Effect.timeoutOrElse(disconnected(call), {
    duration: timeout,
    orElse: () => Effect.fail(timedOut(operation, timeout))
  })

const pulledInTime = <A>(timeout: Duration.Duration, pages: Stream.Stream<A, CacheError>) =>
  Stream.timeoutOrElse(pages, { duration: timeout, orElse: () => Stream.fail(timedOut("list keys", timeout)) })

const timedOut = (operation: string, timeout: Duration.Duration) =>
  new CacheError({ reason: new StoreTimeout({ operation, timeout: Duration.toMillis(timeout) }) })

/** Waits for the call but never for its cancellation: a frozen server acknowledges nothing. */
const disconnected = <A>(call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
  Effect.withFiber((caller) =>
    Effect.callback((resume) => {
      const running = Effect.runForkWith(caller.context)(call)
      const forget = running.addObserver(resume)
      return Effect.sync(() => {
        forget()
        running.interruptUnsafe()
      })
    })
  )

const watched = <A>(outage: Outage, call: Effect.Effect<A, CacheError>) =>
  Effect.matchEffect(call, {
    onSuccess: (answer) =>
      outage.health.status === "Up" ? Effect.succeed(answer) : Effect.as(succeeded(outage), answer),
    onFailure: (error) => Effect.andThen(failed(outage, error), Effect.fail(error))
  })

// Of a crowd of calls that fail or succeed together, the first to get here finds
// the change unsaid: looking and saying so are one step.

const failed = (outage: Outage, error: CacheError) =>
  Effect.clockWith((clock) => {
    const now = clock.currentTimeMillisUnsafe()
    outage.lastFailure = now
    if (outage.health.status === "Down") return Effect.void
    outage.health = { status: "Down", since: now, problem: error.message }
    return Effect.logWarning(`cache: the store is down, going on without it: ${error.message}`)
  })

const succeeded = (outage: Outage) =>
  Effect.clockWith((clock) => {
    const now = clock.currentTimeMillisUnsafe()
    if (outage.health.status === "Up" || now - outage.lastFailure < outage.quiet) return Effect.void
    const seconds = Math.round((now - outage.health.since) / 1000)
    outage.health = { status: "Up", since: now }
    return Effect.logInfo(`cache: the store is back after ${seconds} s`)
  })

/**
 * Counts a store failure, and goes on with `instead` if the namespace recovers.
 *
 * @category combinators
 * @since 0.1.0
 */
export const recover = <A, B, F extends OnStoreFailure>(
  call: Effect.Effect<A, CacheError>,
  onStoreFailure: F,
  counters: Counters,
  instead: B
): Effect.Effect<A | B, StoreFailure<F>> =>
  Effect.catch(call, (error) => {
    counters[error.reason._tag === "CircuitOpen" ? "storeSkipped" : "storeErrors"]++
    return (onStoreFailure === "fail" ? Effect.fail(error) : Effect.succeed(instead)) as Effect.Effect<
      B,
      StoreFailure<F>
    >
  })
