/**
 * A queue whose links run through its nodes, so that any of them leaves in
 * constant time, and nothing is allocated.
 *
 * @since 0.1.0
 */

/**
 * What a queue needs of a node. The links belong to the queue that the node is in;
 * `charge` must not change while it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface FifoNode<N> {
  newer: N | undefined
  older: N | undefined
  /** What part of the room it takes. */
  readonly charge: number
}

/**
 * The queue: nodes come in as the newest and are taken, as a rule, as the oldest.
 *
 * @category models
 * @since 0.1.0
 */
export class Fifo<N extends FifoNode<N>> {
  newest: N | undefined = undefined
  oldest: N | undefined = undefined
  length = 0
  /** The charges of all nodes. */
  charge = 0

  push(node: N): void {
    const { newest } = this
    node.newer = undefined
    node.older = newest
    if (newest === undefined) this.oldest = node
    else newest.newer = node
    this.newest = node
    this.length++
    this.charge += node.charge
  }

  remove(node: N): void {
    const { newer, older } = node
    if (newer === undefined) this.newest = older
    else newer.older = older
    if (older === undefined) this.oldest = newer
    else older.newer = newer
    node.newer = undefined
    node.older = undefined
    this.length--
    // What fractions of charges leave behind ends with the last node.
    this.charge = this.length === 0 ? 0 : this.charge - node.charge
  }

  /** Every node, the oldest first; O(n), for tests and diagnosis. */
  *nodes(): Iterable<N> {
    for (let node = this.oldest; node !== undefined; node = node.newer) yield node
  }
}
