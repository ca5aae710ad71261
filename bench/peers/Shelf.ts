/** What the caches hold while hits are measured: the same strings and objects in all of them. */
export interface Item {
  readonly id: number
  readonly name: string
}

export interface Shelf {
  readonly keys: ReadonlyArray<string>
  readonly items: ReadonlyArray<Item>
}

/** Hits so many keys of an order, from its beginning and round again; ends with the sum of the ids. */
export type Hitter = (order: Int32Array, times: number) => number | Promise<number>

export const make = (size: number): Shelf => ({
  keys: Array.from({ length: size }, (_, id) => `item:${id}`),
  items: Array.from({ length: size }, (_, id) => ({ id, name: `Item ${id}` }))
})

/** What a hitter has to end with. */
export const sumOf = (order: Int32Array, times: number): number => {
  let whole = 0
  for (const id of order) whole += id
  let sum = Math.floor(times / order.length) * whole
  for (let at = 0; at < times % order.length; at++) sum += order[at]!
  return sum
}

/** For caches that answer with a promise. */
export const awaiting =
  (get: (key: string) => Promise<Item | null | undefined>, { keys }: Shelf): Hitter =>
  async (order, times) => {
    let sum = 0
    for (let done = 0, at = 0; done < times; done++, at++) {
      if (at === order.length) at = 0
      sum += (await get(keys[order[at]!]!))!.id
    }
    return sum
  }

/** For caches that answer at once. */
export const atOnce =
  (get: (key: string) => Item | undefined, { keys }: Shelf): Hitter =>
  (order, times) => {
    let sum = 0
    for (let done = 0, at = 0; done < times; done++, at++) {
      if (at === order.length) at = 0
      sum += get(keys[order[at]!]!)!.id
    }
    return sum
  }

/** A loader that no hit may call. */
export const never = (): never => {
  throw new Error("a hit was to be measured, and it missed")
}
