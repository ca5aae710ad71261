/**
 * Which changes of many keys at once `MemoryStore` has seen: by tag, by pattern, of
 * a namespace, of everything.
 *
 * Rows that were there have been changed one by one. A mark is for what was not: a
 * value whose load began before the change, and that comes with a key or a tag which
 * the change covers. So it is remembered for as long as a fence may be old.
 *
 * @since 0.1.0
 */
import type { Fence, KeyText } from "./StoredRow.ts"

/**
 * The marks that are remembered, in the order in which they were made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Marks {
  remembered: ReadonlyArray<Mark & { readonly number: number }>
  count: number
}

/**
 * A change of what `covers` says, in one namespace or in all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mark {
  readonly namespace: string | undefined
  readonly covers: (row: Covered) => boolean
  readonly at: number
}

/**
 * What a change covers a row by.
 *
 * @category models
 * @since 0.1.0
 */
export interface Covered {
  readonly key: KeyText
  readonly tags: ReadonlyArray<string>
}

/**
 * None yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (): Marks => ({ remembered: [], count: 0 })

/**
 * Remembers a change.
 *
 * @category mutations
 * @since 0.1.0
 */
export const mark = (self: Marks, mark: Mark): void => {
  self.remembered = [...self.remembered, { ...mark, number: ++self.count }]
}

/**
 * What a fence remembers of the changes that were made by now.
 *
 * @category getters
 * @since 0.1.0
 */
export const snapshot = (self: Marks): Fence["snapshot"] => `${self.count}`

/**
 * Whether a change that the snapshot has not seen covers the row.
 *
 * @category getters
 * @since 0.1.0
 */
export const coverSince = (self: Marks, snapshot: Fence["snapshot"], namespace: string, row: Covered): boolean =>
  self.remembered.some(
    (mark) =>
      mark.number > Number(snapshot) &&
      (mark.namespace === undefined || mark.namespace === namespace) &&
      mark.covers(row)
  )

/**
 * Forgets the changes that were made until then.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forget = (self: Marks, until: number): void => {
  self.remembered = self.remembered.filter(({ at }) => at > until)
}
