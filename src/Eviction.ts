/**
 * Which entry leaves when the memory (L1) is full.
 *
 * `MemoryCache` tells an `Eviction` of every entry that comes, is read, is
 * overwritten or goes, and asks it for a victim when it needs room. The state
 * that an algorithm keeps per entry lives in the entry itself, so that no call
 * looks anything up and none of them allocates.
 *
 * `lru` is the plain least recently used order: exact, O(1), a doubly linked
 * list through the entries.
 *
 * @since 0.1.0
 */

/**
 * An eviction algorithm. `MemoryCache` calls `removed` for every node that
 * leaves, a victim included.
 *
 * @category models
 * @since 0.1.0
 */
export interface Eviction<N> {
  /** A node that was not there before. */
  readonly inserted: (node: N) => void
  /** The node was read. */
  readonly hit: (node: N) => void
  /** `node` takes the place of `previous`, which had the same key; this counts as a use. */
  readonly replaced: (previous: N, node: N) => void
  /** The node is gone, for whatever reason. */
  readonly removed: (node: N) => void
  /** The node to drop next; never the one that `replaced` has just put in place, unless it is alone. */
  readonly victim: () => N | undefined
  /** Every node once; O(n), for tests and diagnosis. */
  readonly nodes: () => Iterable<N>
}

/**
 * What `lru` keeps in each node. Both are `undefined` in a new node.
 *
 * @category models
 * @since 0.1.0
 */
export interface LruLinks<N> {
  newer: N | undefined
  older: N | undefined
}

/**
 * The least recently used node leaves first. `nodes` lists them in that order.
 *
 * A hit moves the links of at most four nodes. Deleting a key from a `Map` and
 * inserting it again would give the same order, but leaves a tombstone at each
 * hit, and finding the oldest key behind them gets slower and slower.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lru = <N extends LruLinks<N>>(): Eviction<N> => new Lru()

class Lru<N extends LruLinks<N>> implements Eviction<N> {
  private newest: N | undefined = undefined
  private oldest: N | undefined = undefined

  inserted(node: N): void {
    node.newer = undefined
    node.older = this.newest
    if (this.newest === undefined) this.oldest = node
    else this.newest.newer = node
    this.newest = node
  }

  hit(node: N): void {
    if (node === this.newest) return
    this.removed(node)
    this.inserted(node)
  }

  replaced(previous: N, node: N): void {
    this.removed(previous)
    this.inserted(node)
  }

  removed(node: N): void {
    if (node.newer === undefined) this.newest = node.older
    else node.newer.older = node.older
    if (node.older === undefined) this.oldest = node.newer
    else node.older.newer = node.newer
    node.newer = undefined
    node.older = undefined
  }

  victim(): N | undefined {
    return this.oldest
  }

  *nodes(): Iterable<N> {
    for (let node = this.oldest; node !== undefined; node = node.newer) yield node
  }
}
