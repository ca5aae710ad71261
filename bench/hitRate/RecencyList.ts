/**
 * Keys in the order of their last `add` or `use`, by which LRU and the queues of the
 * other policies are made. A `Map` alone would do, but finding its first key
 * gets slower and slower behind those that were deleted.
 */
interface Link {
  readonly key: number
  newer: Link
  older: Link
}

export class RecencyList {
  readonly #links = new Map<number, Link>()
  /** Closes the ring: its `newer` is the oldest key. */
  readonly #end: Link = ring()

  get size(): number {
    return this.#links.size
  }

  get oldest(): number | undefined {
    return this.#links.size === 0 ? undefined : this.#end.newer.key
  }

  add(key: number): void {
    const link: Link = { key, newer: this.#end, older: this.#end.older }
    link.older.newer = link
    this.#end.older = link
    this.#links.set(key, link)
  }

  /** Makes it the newest; whether it is there. */
  use(key: number): boolean {
    const isThere = this.remove(key)
    if (isThere) this.add(key)
    return isThere
  }

  remove(key: number): boolean {
    const link = this.#links.get(key)
    if (link === undefined) return false
    link.older.newer = link.newer
    link.newer.older = link.older
    return this.#links.delete(key)
  }

  /** Takes the oldest away. */
  shift(): number | undefined {
    const { oldest } = this
    if (oldest !== undefined) this.remove(oldest)
    return oldest
  }
}

function ring(): Link {
  const link = { key: NaN } as { key: number; newer?: Link; older?: Link }
  link.newer = link as Link
  link.older = link as Link
  return link as Link
}
