/** Chance that a seed decides (mulberry32), in the forms that a soak needs it in. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** From 0 up to but not including 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  between(low: number, high: number): number {
    return low + this.next() * (high - low)
  }

  below(end: number): number {
    return Math.floor(this.next() * end)
  }

  pick<A>(list: ReadonlyArray<A>): A {
    return list[this.below(list.length)]!
  }

  /** Each as often as its weight says. */
  weighted<A>(list: ReadonlyArray<readonly [weight: number, A]>): A {
    let at = this.next() * list.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, item] of list) if ((at -= weight) < 0) return item
    return list.at(-1)![1]
  }
}
