/**
 * What is asked of a cache in turn: recorded, or drawn from a seed.
 *
 * A recorded trace is a gzipped text file with one key, a decimal number, on each
 * line. The seeded ones stand for the kinds of traffic that tell policies apart;
 * they are the same in every run.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"

export interface Trace {
  readonly name: string
  readonly keys: ReadonlyArray<number>
  /** How many keys are different. */
  readonly unique: number
}

const trace = (name: string, keys: ReadonlyArray<number>): Trace => ({ name, keys, unique: new Set(keys).size })

export const recorded = (directory: string): ReadonlyArray<Trace> =>
  readdirSync(directory)
    .filter((file) => file.endsWith(".txt.gz"))
    .sort()
    .map((file) => {
      const lines = gunzipSync(readFileSync(join(directory, file))).toString()
      return trace(file.slice(0, -".txt.gz".length), Array.from(lines.trim().split("\n"), Number))
    })

/** Each about `length` uses long. */
export const seeded = (length: number): ReadonlyArray<Trace> => {
  const keys = Math.round(length / 6)
  return [
    trace("zipf", popular(length, keys, 0.99, 1)),
    trace("zipf, scans", withScans(length, keys / 2, 2)),
    trace("moving hot set", moving(length, keys / 2, 3)),
    trace(
      "loop",
      Array.from({ length }, (_, i) => i % Math.round(length / 50))
    ),
    trace("recency", recency(length, 200, 0)),
    trace("recency, loop, recency", [
      ...recency(length / 2, 200, 0),
      ...Array.from({ length: length / 10 }, (_, i) => 10 * length + (i % 1000)),
      ...recency(length / 2, 200, 2 * length)
    ]),
    trace("zipf and loop", mixed(length, keys / 4, 4))
  ]
}

/** Key 0 most often, the next half as often (at `exponent` 1), and so on. */
export const popular = (length: number, keys: number, exponent: number, seed: number): Array<number> => {
  const draw = draws(seed)
  const sums = new Float64Array(Math.max(1, Math.round(keys)))
  let sum = 0
  for (let i = 0; i < sums.length; i++) {
    sum += (i + 1) ** -exponent
    sums[i] = sum
  }
  return Array.from({ length: Math.round(length) }, () => firstAbove(sums, draw() * sum))
}

/** After every four fifths of popular keys one fifth of keys that are used once. */
const withScans = (length: number, keys: number, seed: number): Array<number> => {
  const part = Math.round(length / 20)
  const uses = popular(length, keys, 0.9, seed)
  return uses.map((key, i) => (i % part < part * 0.8 ? key : length + i))
}

const moving = (length: number, keys: number, seed: number): Array<number> =>
  popular(length, keys, 0.9, seed).map((key, i) => key + Math.floor(i / 50))

/** Each key is used twice, `distance` uses apart, and never again. */
const recency = (length: number, distance: number, from: number): Array<number> =>
  Array.from({ length: Math.round(length) }, (_, i) => from + (i % 2 === 0 ? i : Math.abs(i - 1 - distance)))

const mixed = (length: number, keys: number, seed: number): Array<number> => {
  const draw = draws(seed + 100)
  let turn = 0
  return popular(length, keys, 0.8, seed).map((key) => (draw() < 0.5 ? key : length + (turn++ % Math.round(keys / 3))))
}

const firstAbove = (sums: Float64Array, value: number): number => {
  let [low, high] = [0, sums.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sums[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}

/** Mulberry32: numbers from 0 up to 1 that depend on the seed alone. */
const draws = (seed: number) => {
  let state = seed
  return (): number => {
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), 1 | state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }
}
