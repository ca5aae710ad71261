/**
 * The most hits that any policy could have had that knows the future (Belady, 1966):
 * the key leaves whose next use is the farthest away, be it the one just asked for.
 */
export const optimum = (keys: ReadonlyArray<number>, capacity: number): number => {
  const nextUse = nextUses(keys)
  const held = new Map<number, number>()
  const farthest = new Farthest()
  let hits = 0
  for (const [i, key] of keys.entries()) {
    if (held.has(key)) hits++
    const next = nextUse[i]!
    if (next === never) {
      held.delete(key)
      continue
    }
    held.set(key, next)
    farthest.push(next)
    while (held.size > capacity) {
      const use = farthest.pop()
      const victim = keys[use]!
      if (held.get(victim) === use) held.delete(victim)
    }
  }
  return hits
}

const never = 0x7fff_ffff

const nextUses = (keys: ReadonlyArray<number>): Int32Array => {
  const next = new Int32Array(keys.length)
  const last = new Map<number, number>()
  for (let i = keys.length - 1; i >= 0; i--) {
    next[i] = last.get(keys[i]!) ?? never
    last.set(keys[i]!, i)
  }
  return next
}

/** A heap of uses, the latest on top. Those of keys that were used meanwhile stay in it until they get there. */
class Farthest {
  readonly #heap: Array<number> = []

  push(use: number): void {
    const heap = this.#heap
    let at = heap.push(use) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (heap[parent]! >= use) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = use
  }

  pop(): number {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && heap[child + 1]! > heap[child]!) child++
      if (heap[child]! <= last) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return top
  }
}
