/**
 * The only answer to "what if the store (L2) is down".
 *
 * A `StoreGuard` stands before a `CacheStore` and gives every call the same
 * contract with four additions:
 *
 * - **Time.** A read may take `readTimeout`, and so may the request for a lease;
 *   everything else `writeTimeout`;
 *   after that the call fails with `StoreTimeout` at once, and what is left of it
 *   is cancelled without anyone waiting for that. This holds where the caller
 *   cannot be interrupted, too.
 * - **Health.** The first call that fails begins an outage, the first one that
 *   succeeds when none has failed for `breakerProbeInterval` ends it; each is one
 *   log line, whatever the traffic, also where the store comes and goes. Reads say
 *   little about writes (the disk is full), and leases about neither: where one of each
 *   has failed, one of each must succeed, or ten times as long pass without a failure. A call inside
 *   the caller's transaction says nothing about the store and does not count.
 * - **Rest.** After some failures in a row, reads leave the store alone and fail with
 *   `CircuitOpen` at once, but for a probe now and then (`StoreBreaker`); so do fills
 *   and re-arms, and leases and notes of use, each apart from the others, which may go on
 *   where these hang. What an application changes on purpose, `set`, `invalidate`, `expire` and
 *   `clear`, is always tried: it would be lost, not just slower.
 * - **Recovery.** `recover` turns a failure into "go on without the store" for
 *   namespaces that chose so, and leaves it to those that did not.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Duration, Effect, Exit, type Scope, Stream } from "effect"
import type { CacheConfig } from "./CacheConfig.ts"
import { CacheError, StoreTimeout, StoreUnavailable } from "./CacheError.ts"
import type { ComponentHealth } from "./CacheHealth.ts"
import type { Counters } from "./CacheStats.ts"
import { CacheOrigin, type CacheStore } from "./CacheStore.ts"
import { Deadlines } from "./Deadlines.ts"
import type { OnStoreFailure } from "./Namespace.ts"
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
 * Puts a guard before a store. What changes the store says on whose behalf.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  store: CacheStore["Service"],
  config: Pick<CacheConfig["Service"]["store"], "readTimeout" | "writeTimeout"> & StoreBreaker.BreakerConfig,
  origin = ""
): Effect.Effect<StoreGuard, never, Scope.Scope> =>
  Effect.gen(function* () {
    const kindOf = (timeout: Duration.Duration) =>
      Effect.map(StoreBreaker.make(config), (breaker): Kind => ({
        deadlines: new Deadlines(Duration.toMillis(timeout)),
        breaker,
        lastFailure: -Infinity,
        isWell: true
      }))
    const reading = yield* kindOf(config.readTimeout)
    const writing = yield* kindOf(config.writeTimeout)
    const leasing = yield* kindOf(config.readTimeout)
    const outage: Outage = {
      health: { status: "Up", since: yield* Clock.currentTimeMillis },
      kinds: [reading, writing, leasing],
      quiet: Duration.toMillis(config.breakerProbeInterval)
    }
    const attempt = <A>(
      operation: string,
      kind: Kind,
      call: Effect.Effect<A, CacheError>,
      deadlines: Deadlines
    ): Effect.Effect<A, CacheError> =>
      deadlines.within(call, (exit) => {
        if (exit === undefined) return failed(outage, kind, timedOut(operation, deadlines.millis))
        if (Exit.isFailure(exit)) return failed(outage, kind, failureOf(operation, exit.cause))
        return outage.health.status === "Up" ? exit : Effect.andThen(succeeded(outage, kind), exit)
      })
    const tried = <A>(operation: string, kind: Kind, call: Effect.Effect<A, CacheError>) =>
      Effect.withFiber<A, CacheError>((fiber) =>
        store.inTransaction(fiber.context)
          ? withoutDefects(operation, call)
          : attempt(operation, kind, call, kind.deadlines)
      )
    const guarded = <A>(
      operation: string,
      kind: Kind,
      call: Effect.Effect<A, CacheError>,
      deadlines = kind.deadlines
    ) =>
      Effect.withFiber<A, CacheError>((fiber) =>
        store.inTransaction(fiber.context)
          ? withoutDefects(operation, call)
          : kind.breaker.through(operation, attempt(operation, kind, call, deadlines))
      )
    const signed = Effect.provideService(CacheOrigin, origin)
    return {
      fenceLifetime: store.fenceLifetime,
      inTransaction: store.inTransaction,
      afterCommit: store.afterCommit,
      scan: (namespace) => pulledInTime(config.readTimeout, store.scan(namespace)),
      read: (namespace, keys) => guarded("read", reading, store.read(namespace, keys)),
      fill: (namespace, rows) => guarded("write", writing, signed(store.fill(namespace, rows))),
      rearm: (namespace, rows) => guarded("re-arm", writing, store.rearm(namespace, rows)),
      write: (namespace, rows) => tried("write", writing, signed(store.write(namespace, rows))),
      remove: (namespace, keys, keepsStale) =>
        tried(named(keepsStale), writing, signed(store.remove(namespace, keys, keepsStale))),
      removeTagged: (namespace, tags, keepsStale) =>
        tried(named(keepsStale), writing, signed(store.removeTagged(namespace, tags, keepsStale))),
      removeMatching: (namespace, pattern, keepsStale) =>
        tried(named(keepsStale), writing, signed(store.removeMatching(namespace, pattern, keepsStale))),
      clear: (namespace) => tried("clear", writing, signed(store.clear(namespace))),
      clearAll: tried("clear", writing, signed(store.clearAll)),
      acquire: (namespace, keys, lease) => guarded("lease", leasing, signed(store.acquire(namespace, keys, lease))),
      renew: (namespace, keys, lease) => guarded("renew a lease", leasing, store.renew(namespace, keys, lease)),
      release: (namespace, keys, owner) =>
        guarded("release a lease", leasing, signed(store.release(namespace, keys, owner)), writing.deadlines),
      touch: (namespace, uses) => guarded("note uses", leasing, store.touch(namespace, uses)),
      ping: guarded("answer", reading, store.ping),
      health: () => outage.health
    }
  })

const named = (keepsStale: boolean | undefined): string => (keepsStale === true ? "expire" : "invalidate")

/** Calls that fail together: reads, writes, and what is asked and noted beside them. */
interface Kind {
  readonly deadlines: Deadlines
  readonly breaker: StoreBreaker.StoreBreaker
  /** When a call last failed. */
  lastFailure: number
  /** Whether one has succeeded since, and none had failed for a while. */
  isWell: boolean
}

interface Outage {
  health: ComponentHealth
  readonly kinds: ReadonlyArray<Kind>
  /** How long none may fail before the outage is over, so that a store that comes and goes is one outage. */
  readonly quiet: number
}

/** A store that dies is a store that is away. */
const withoutDefects = <A>(operation: string, call: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> =>
  Effect.catchDefect(call, (cause) => Effect.fail(died(operation, cause)))

const died = (operation: string, cause: unknown) =>
  new CacheError({ reason: new StoreUnavailable({ operation, cause }) })

const pulledInTime = <A>(timeout: Duration.Duration, pages: Stream.Stream<A, CacheError>) =>
  Stream.timeoutOrElse(
    Stream.catchDefect(pages, (cause) => Stream.fail(died("list keys", cause))),
    { duration: timeout, orElse: () => Stream.fail(timedOut("list keys", Duration.toMillis(timeout))) }
  )

const timedOut = (operation: string, timeout: number) =>
  new CacheError({ reason: new StoreTimeout({ operation, timeout }) })

/**
 * Why a call has failed. One that ends as interrupted while somebody waits was
 * interrupted by the store, and has failed.
 */
const failureOf = (operation: string, cause: Cause.Cause<CacheError>): CacheError => {
  const defect = cause.reasons.find(Cause.isDieReason)
  if (defect !== undefined) return died(operation, defect.defect)
  return cause.reasons.find(Cause.isFailReason)?.error ?? brokenOff(operation)
}

const brokenOff = (operation: string) =>
  new CacheError({ reason: new StoreUnavailable({ operation, cause: new Error("the store broke it off") }) })

// Of a crowd of calls that fail or succeed together, the first to get here finds
// the change unsaid: looking and saying so are one step.

const failed = (outage: Outage, kind: Kind, error: CacheError): Effect.Effect<never, CacheError> =>
  Effect.clockWith((clock) => {
    const now = clock.currentTimeMillisUnsafe()
    const failure = Effect.fail(error)
    kind.lastFailure = now
    kind.isWell = false
    if (outage.health.status === "Down") return failure
    outage.health = { status: "Down", since: now, problem: error.message }
    const complaint = Effect.logWarning(`cache: the store is down, going on without it: ${error.message}`)
    return Effect.andThen(complaint, failure)
  })

const succeeded = (outage: Outage, kind: Kind) =>
  Effect.clockWith((clock) => {
    const now = clock.currentTimeMillisUnsafe()
    const { health, kinds, quiet } = outage
    if (health.status === "Up" || now - kind.lastFailure < quiet) return Effect.void
    kind.isWell = true
    if (kinds.some(({ isWell, lastFailure }) => !isWell && now - lastFailure < quiet * patience)) return Effect.void
    for (const other of kinds) other.isWell = true
    const seconds = Math.round((now - health.since) / 1000)
    outage.health = { status: "Up", since: now }
    return Effect.logInfo(`cache: the store is back after ${seconds} s`)
  })

const patience = 10

/**
 * Counts a store failure, and goes on with `instead` if the namespace recovers.
 *
 * @category combinators
 * @since 0.1.0
 */
export const recover = <A, B, X>(
  call: Effect.Effect<A, CacheError>,
  { onStoreFailure }: { readonly onStoreFailure: OnStoreFailure },
  counters: Pick<Counters, "storeErrors" | "storeSkipped">,
  instead: B
): Effect.Effect<A | B, X> =>
  Effect.catch(call, (error) => {
    counters[error.reason._tag === "CircuitOpen" ? "storeSkipped" : "storeErrors"]++
    // The X of a namespace that fails has CacheError in it (`Namespace.make`); from the field alone the compiler cannot know.
    return (onStoreFailure === "fail" ? Effect.fail(error) : Effect.succeed(instead)) as Effect.Effect<B, X>
  })
