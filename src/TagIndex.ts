/**
 * Which entries of a partition have a tag, so that they can be found without
 * looking at all others.
 *
 * It holds only entries that have tags, and only tags that an entry has. It goes by
 * the entry's own array of tags, which must not change while the entry is in it.
 *
 * @since 0.1.0
 */

/**
 * What is found by its tags.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tagged {
  readonly tags: ReadonlyArray<string>
}

/**
 * The index of one partition.
 *
 * @category models
 * @since 0.1.0
 */
export class TagIndex<T extends Tagged> {
  readonly #byTag = new Map<string, Set<T>>()

  add(entry: T): void {
    for (const tag of entry.tags) {
      const entries = this.#byTag.get(tag)
      if (entries === undefined) this.#byTag.set(tag, new Set([entry]))
      else entries.add(entry)
    }
  }

  delete(entry: T): void {
    for (const tag of entry.tags) {
      const entries = this.#byTag.get(tag)
      if (entries?.delete(entry) === true && entries.size === 0) this.#byTag.delete(tag)
    }
  }

  /** Those that have one of the tags. The index may change meanwhile. */
  find(tags: ReadonlyArray<string>): ReadonlySet<T> {
    const found = new Set<T>()
    for (const tag of tags) for (const entry of this.#byTag.get(tag) ?? []) found.add(entry)
    return found
  }

  /** What is wrong if this is not the index of exactly these; for tests. */
  problemWith(entries: Iterable<T>): string | undefined {
    const expected = new TagIndex<T>()
    for (const entry of entries) expected.add(entry)
    for (const tag of new Set([...this.#byTag.keys(), ...expected.#byTag.keys()])) {
      const [held, due] = [this.#byTag.get(tag), expected.#byTag.get(tag)]
      if (held === undefined || held.size === 0 || due === undefined) return `${tag}: ${held?.size} entries`
      if (held.size !== due.size || [...due].some((entry) => !held.has(entry))) return `${tag}: not the right entries`
    }
    return undefined
  }
}
