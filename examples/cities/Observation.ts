/**
 * Looking on: which tier answers a request and how long it takes, without a word
 * about it in the code that is looked at.
 *
 * `layer` puts a cache in front of the cache that asks for entries instead of values
 * and notes their origin in the `Trace` of the request.
 */
import { Context, Effect, Layer } from "effect"
import { type Freshness, type Loader, type Operations, type Origin, TieredCache } from "effect-tiered-cache"

interface Trace {
  origin: Origin
  freshness: Freshness
  /** What the source alone took, if it was asked. In milliseconds, like all times here. */
  source: number | undefined
}

const Trace = Context.Reference<Trace | undefined>("examples/Trace", { defaultValue: () => undefined })

/** An answer, and what it took to get it. A request that waits for another's load has `loader` as its origin too. */
export interface Observed<A> extends Trace {
  readonly answer: A
  readonly took: number
}

/** Runs a request that asks the cache for one key. */
export const observe = <A, E, R>(request: Effect.Effect<A, E, R>): Effect.Effect<Observed<A>, E, R> =>
  Effect.suspend(() => {
    const trace: Trace = { origin: "loader", freshness: "fresh", source: undefined }
    const startedAt = performance.now()
    return Effect.map(Effect.provideService(request, Trace, trace), (answer) => ({
      ...trace,
      answer,
      took: performance.now() - startedAt
    }))
  })

const noting =
  (cache: Operations): Operations["getOrSet"] =>
  (namespace, key, loader, options) =>
    Effect.withFiber((fiber) => {
      const trace = fiber.getRef(Trace)
      if (trace === undefined) return cache.getOrSet(namespace, key, loader, options)
      return Effect.map(cache.getOrSetEntry(namespace, key, timed(loader, trace), options), (entry) => {
        trace.origin = entry.origin
        trace.freshness = entry.freshness
        return entry.value
      })
    })

const timed =
  <A, E, R>(loader: Loader<A, E, R>, trace: Trace): Loader<A, E, R> =>
  (stale) =>
    Effect.suspend(() => {
      const startedAt = performance.now()
      const load = Effect.isEffect(loader) ? loader : loader(stale)
      return Effect.tap(load, () => Effect.sync(() => (trace.source = performance.now() - startedAt)))
    })

/** The cache, and one who looks on. */
export const layer = Layer.effect(
  TieredCache,
  TieredCache.useSync((cache) => ({ ...cache, getOrSet: noting(cache) }))
)

/** The value that so many in a hundred of the sorted samples do not exceed. */
export const percentile = (sorted: ReadonlyArray<number>, percent: number): number | undefined =>
  sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)]
