/**
 * What caches hold and show to nobody, counted from outside: flights, fences,
 * pending work, fibers, memory. It begins with `start`, before there are caches.
 */
import { Effect, Metric } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { LocalFences } from "../../src/LocalFence.ts"
import { PendingInvalidations } from "../../src/PendingInvalidations.ts"
import { PendingWrites } from "../../src/PendingWrites.ts"
import { SingleFlight } from "../../src/SingleFlight.ts"

/** Something of which a cache should have none in the end. */
interface Sized {
  readonly size: number
}

export interface Watch {
  /** By what it is, how much of it there is now. */
  readonly underWay: () => Readonly<Record<string, number>>
  /** The pending invalidations of the caches, in the order in which these changed something first. */
  readonly pending: ReadonlySet<Sized>
  readonly fibers: () => number
  /** Runs an effect whose fibers are counted. */
  readonly counted: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The event loop's longest delay so far, in milliseconds. */
  readonly lag: () => number
}

export const start = Effect.gen(function* () {
  const flights = yield* users(SingleFlight.prototype, "takeOff")
  const fences = yield* users(LocalFences.prototype, "open")
  const writes = yield* users(PendingWrites.prototype, "enqueue")
  const pending = yield* users(PendingInvalidations.prototype, "mark")
  const sum = (all: ReadonlySet<Sized>) => [...all].reduce((sum, { size }) => sum + size, 0)
  let fibers = 0
  const recordFiberStart = () => void fibers++
  const recordFiberEnd = () => void fibers--
  const lag = yield* longestDelay
  const watch: Watch = {
    underWay: () => ({
      flights: sum(flights),
      "keys with open fences": sum(fences),
      "pending writes": sum(writes),
      "pending invalidations": sum(pending)
    }),
    pending,
    fibers: () => fibers,
    counted: Effect.provideService(Metric.FiberRuntimeMetrics, { recordFiberStart, recordFiberEnd }),
    lag
  }
  return watch
})

/** Everything on which the method is called. */
const users = <P extends object>(prototype: P, method: keyof P) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const original = prototype[method] as (...args: Array<unknown>) => unknown
      const used = new Set<Sized>()
      const watched = function (this: Sized, ...args: Array<unknown>) {
        used.add(this)
        return original.apply(this, args)
      }
      prototype[method] = watched as P[keyof P]
      return { original, used }
    }),
    ({ original }) => Effect.sync(() => void (prototype[method] = original as P[keyof P]))
  ).pipe(Effect.map(({ used }): ReadonlySet<Sized> => used))

const longestDelay = Effect.gen(function* () {
  const every = 20
  let longest = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last - every)
    last = now
  }, every)
  yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))
  return () => longest
})

/** Bytes of the heap that are in use, after all garbage has been collected. */
export const heapInUse = (): number => {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().heapUsed
}

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")
