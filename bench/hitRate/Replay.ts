/**
 * The hit rate of every policy on every trace at every size, beside the optimum.
 */
import { optimum } from "./Optimum.ts"
import { type Ask, policies } from "./Policy.ts"
import { popular, type Trace } from "./Trace.ts"

/** The sizes of the caches, as parts of the different keys of a trace. */
export const sizes = [0.001, 0.01, 0.05, 0.1, 0.25]

/** Hit rates in percent; those of the policies by their names. */
export interface Cell {
  readonly trace: string
  readonly size: number
  readonly capacity: number
  readonly optimum: number
  readonly rates: Readonly<Record<string, number>>
}

export const replay = ({ keys, name, unique }: Trace): ReadonlyArray<Cell> =>
  sizes.map((size) => {
    const capacity = Math.max(1, Math.round(unique * size))
    const rates = policies.map(({ name, ofCapacity }) => [name, rateOf(ofCapacity(capacity), keys)] as const)
    return {
      trace: name,
      size,
      capacity,
      optimum: (100 * optimum(keys, capacity)) / keys.length,
      rates: Object.fromEntries(rates)
    }
  })

const rateOf = (ask: Ask, keys: ReadonlyArray<number>): number => {
  let hits = 0
  for (const key of keys) if (ask(key)) hits++
  return (100 * hits) / keys.length
}

/** How far below the optimum a policy is on average, and how far below LRU at the worst and where. */
export interface Summary {
  readonly policy: string
  readonly meanGap: number
  readonly worstLoss: number
  readonly worstAt: string
}

export const summarize = (cells: ReadonlyArray<Cell>): ReadonlyArray<Summary> =>
  policies.map(({ name }) => {
    const gaps = cells.map(({ optimum, rates }) => optimum - rates[name]!)
    const losses = cells.map(({ rates }) => rates["LRU"]! - rates[name]!)
    const worst = losses.indexOf(Math.max(...losses))
    return {
      policy: name,
      meanGap: gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length,
      worstLoss: losses[worst]!,
      worstAt: `${cells[worst]!.trace} at ${cells[worst]!.capacity}`
    }
  })

/** The hit rate just after a scan of so many times the capacity. */
export interface ScanLine {
  readonly scan: number
  readonly rates: Readonly<Record<string, number>>
}

export const scan = (capacity: number): ReadonlyArray<ScanLine> =>
  [0, 1, 3, 10].map((scan) => {
    const before = popular(capacity * 30, capacity * 10, 0.9, 1)
    const after = popular(capacity, capacity * 10, 0.9, 2)
    const rates = policies.map(({ name, ofCapacity }) => {
      const ask = ofCapacity(capacity)
      for (const key of before) ask(key)
      for (let i = 0; i < scan * capacity; i++) ask(-1 - i)
      return [name, rateOf(ask, after)] as const
    })
    return { scan, rates: Object.fromEntries(rates) }
  })
