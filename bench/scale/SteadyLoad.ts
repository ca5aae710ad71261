/**
 * What memory an hour of the same load takes: more keys than memory (L1) has room
 * for, some changed, some expired, by the real clock. The heap is measured after a
 * collection, ten times a run at least; what the first third needs, for code that is yet
 * to be compiled and tables that grow to their size, is no part of the slope.
 */
import { Effect } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { TieredCache } from "../../src/TieredCache.ts"
import { keyOf, Things, valueOf } from "./Rows.ts"

export interface Steady {
  readonly minutes: number
  readonly operations: number
  /** Megabytes after a collection, and when, in minutes. */
  readonly heap: ReadonlyArray<readonly [minute: number, megabytes: number]>
  /** Megabytes an hour over the last two thirds. */
  readonly slope: number
}

export const run = Effect.fnUntraced(function* (minutes: number, keys: number) {
  const cache = yield* TieredCache
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  const began = performance.now()
  const heap: Array<readonly [number, number]> = []
  let operations = 0
  const elapsed = () => (performance.now() - began) / 60_000
  const load = Effect.gen(function* () {
    while (elapsed() < minutes) {
      const index = Math.floor(keys * Math.random() ** 3)
      const key = keyOf(index)
      const dice = Math.random()
      if (dice < 0.02) yield* cache.set(Things, key, valueOf(index))
      else if (dice < 0.03) yield* cache.invalidate(Things, key)
      else yield* cache.getOrSet(Things, key, Effect.succeed(valueOf(index)), { timeToLive: "30 seconds" })
      if (++operations % 64 === 0) yield* Effect.yieldNow
    }
  })
  const watch = Effect.gen(function* () {
    const samples = Math.max(12, Math.ceil(minutes * 2))
    for (let sample = 1; sample <= samples; sample++) {
      yield* Effect.sleep(Math.max(0, (minutes * sample * 60_000) / samples - (performance.now() - began)))
      collect()
      heap.push([elapsed(), process.memoryUsage().heapUsed / 1e6])
    }
  })
  yield* Effect.all([watch, ...Array.from({ length: 8 }, () => load)], { concurrency: "unbounded" })
  return { minutes, operations, heap, slope: slopeOf(heap.slice(Math.ceil(heap.length / 3))) * 60 }
})

/** Least squares. */
export const slopeOf = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const covariance = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return covariance / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}
