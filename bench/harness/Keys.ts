/**
 * Which key is asked for next: orders that are the same in every run.
 *
 * Zipf is with exponent 1: the n-th most wanted key is wanted 1/n as often as the
 * first. Which keys those are is shuffled, so that they are no neighbours.
 */

/** Numbers from 0 up to but not including 1 (mulberry32). */
export const random = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const uniform = (keys: number, length: number): Int32Array => {
  const next = random(1)
  return Int32Array.from({ length }, () => Math.floor(next() * keys))
}

export const zipf = (keys: number, length: number): Int32Array => {
  const next = random(2)
  const upTo = new Float64Array(keys)
  let sum = 0
  for (let rank = 0; rank < keys; rank++) upTo[rank] = sum += 1 / (rank + 1)
  const keyOf = shuffled(keys)
  return Int32Array.from({ length }, () => keyOf[firstAbove(upTo, next() * sum)]!)
}

/** The same key again and again. */
export const hot = (keys: number): Int32Array => Int32Array.of(keys >> 1)

/** Each key once, before any comes again. */
export const shuffled = (keys: number): Int32Array => {
  const next = random(3)
  const order = Int32Array.from({ length: keys }, (_, key) => key)
  for (let at = keys - 1; at > 0; at--) {
    const other = Math.floor(next() * (at + 1))
    const key = order[at]!
    order[at] = order[other]!
    order[other] = key
  }
  return order
}

const firstAbove = (upTo: Float64Array, value: number): number => {
  let [low, high] = [0, upTo.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (upTo[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}
