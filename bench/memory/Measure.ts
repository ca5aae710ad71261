/**
 * Times of operations, of two sides in turn in one process, and bytes per entry.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { popular } from "../hitRate/Trace.ts"
import type { Key, Side } from "./Side.ts"

/** Nanoseconds for one operation. */
export interface Timing {
  readonly work: string
  readonly keys: string
  readonly entries: number
  readonly ours: number
  readonly peer: number
  /** Ours by the peer's: the median of all rounds, and the quartiles. */
  readonly ratio: readonly [low: number, median: number, high: number]
}

export const kinds: ReadonlyArray<{ readonly name: string; readonly keyOf: (i: number) => Key }> = [
  { name: "text", keyOf: (i) => `gene:${i}:homo_sapiens` },
  { name: "integers", keyOf: (i) => i }
]

type Make = (maxEntries: number) => Side

export const time = (
  [makeOurs, makePeer]: readonly [Make, Make],
  kind: (typeof kinds)[number],
  entries: number,
  rounds: number
): ReadonlyArray<Timing> => {
  const operations = Math.max(50_000, Math.round(entries / 4))
  const keys = Array.from({ length: 4 * entries }, (_, i) => kind.keyOf(i))
  const order = popular(operations, entries, 0.99, 1)
  const spread = shuffled(entries)
  const hot = order.map((rank) => keys[spread[rank]!]!)
  const wide = popular(operations, 4 * entries, 0.99, 2).map((rank) => keys[rank]!)
  const works: ReadonlyArray<readonly [name: string, run: (side: Side, round: number) => void]> = [
    ["hit", (side) => void hot.forEach((key) => checked(side.get(key)))],
    ["get or set", (side) => void wide.forEach((key) => side.get(key) ?? side.set(key))],
    [
      "set, evict",
      (side, round) => {
        for (let i = 0; i < operations; i++) side.set(keys[entries + ((round * operations + i) % (3 * entries))]!)
      }
    ]
  ]
  const sides = [makeOurs(entries), makePeer(entries)] as const
  return works.map(([work, run]) => {
    for (const side of sides) for (let i = 0; i < entries; i++) side.set(keys[i]!)
    // What the policy has learned before may leave some of them out.
    for (const side of sides) {
      for (const key of work === "hit" ? hot : []) if (side.get(key) === undefined) side.set(key)
    }
    const times: Array<readonly [number, number]> = []
    for (let round = -2; round < rounds; round++) {
      const turn = round % 2 === 0 ? [0, 1] : [1, 0]
      const spent: [number, number] = [0, 0]
      for (const which of turn) {
        const before = process.hrtime.bigint()
        run(sides[which]!, round + 2)
        spent[which as 0 | 1] = Number(process.hrtime.bigint() - before) / operations
      }
      if (round >= 0) times.push(spent)
    }
    const ratios = times.map(([ours, peer]) => ours / peer)
    return {
      work,
      keys: kind.name,
      entries,
      ours: quantile(
        times.map(([ours]) => ours),
        0.5
      ),
      peer: quantile(
        times.map(([, peer]) => peer),
        0.5
      ),
      ratio: [quantile(ratios, 0.25), quantile(ratios, 0.5), quantile(ratios, 0.75)]
    }
  })
}

/** Bytes per entry of a full cache beside its keys and values. */
export const bytesPerEntry = (make: Make, entries: number): number => {
  const keys = Array.from({ length: entries }, (_, i) => `gene:${i}:homo_sapiens`)
  const before = heldBytes()
  const side = make(entries)
  for (const key of keys) side.set(key)
  const bytes = heldBytes() - before
  if (side.entries() !== entries || keys.length !== entries) throw new Error("not all entries are there")
  return bytes / entries
}

const heldBytes = (): number => {
  collectGarbage()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

const checked = (found: unknown): void => {
  if (found === undefined) throw new Error("an entry that was put is not there")
}

const quantile = (values: ReadonlyArray<number>, part: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * part)]!

/** So that popular keys do not lie side by side. The step shares no factor with the length. */
const shuffled = (length: number): ReadonlyArray<number> => Array.from({ length }, (_, i) => (i * 7_368_787) % length)
