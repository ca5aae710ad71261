/**
 * Caches over a database, all with the same three things to do: read what the
 * database has, write, and load what nobody has. Memory holds one entry in each of
 * them, so that the database is asked every time.
 */
import type { Address } from "../harness/Servers.ts"

/** 1 kB as JSON. */
export interface Document {
  readonly id: number
  readonly name: string
  readonly tags: ReadonlyArray<string>
  readonly text: string
}

export const documentOf = (id: number): Document => ({
  id,
  name: `Document ${id}`,
  tags: ["one", "two", "three"],
  text: `${id} `.padEnd(890, "lorem ipsum ")
})

/** A number that only the right document has, for every practical purpose. */
export const weightOf = ({ id, tags, text }: Document): number => id * 7 + text.length + tags.length * 3

/** Does so many, a number of them at once; ends with the sum of the weights. */
export type Crowd = (idOf: (nth: number) => number, times: number, width: number) => Promise<number>

export interface Tier {
  readonly name: string
  readonly note?: string
  /** Of what is in the database. */
  readonly read: Crowd
  readonly write: Crowd
  /** Of what is nowhere; the loader answers at once. `undefined` where there is no such operation. */
  readonly load: Crowd | undefined
  readonly close: () => Promise<void>
}

export interface Place {
  readonly url: string
  readonly address: Address
}

export const keyOf = (id: number) => `document:${id}`

/** As many connections as each of them may have. */
export const connections = 10

/** Workers of an event loop, each with its next one as soon as it has its answer. */
export const inPromises =
  (work: (id: number) => Promise<Document | null | undefined>): Crowd =>
  async (idOf, times, width) => {
    let [next, sum] = [0, 0]
    const worker = async () => {
      while (next < times) {
        const document = await work(idOf(next++))
        sum += weightOf(document!)
      }
    }
    await Promise.all(Array.from({ length: width }, worker))
    return sum
  }
