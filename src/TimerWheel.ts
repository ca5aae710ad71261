/**
 * A hierarchical timing wheel (Varghese and Lauck, 1987): which of many nodes
 * are due, without looking at the others.
 *
 * Time is cut into ticks of 1.024 s. Five levels of 64, 64, 32, 4 and 1 buckets
 * stand for 1.0 s, 1.1 min, 1.2 h, 1.6 d and 6.2 d each; a node hangs in the
 * bucket of its due time at the finest level that reaches so far, in a list
 * linked through the nodes. When time moves on, the buckets of the finest level
 * that have passed hold only due nodes; a coarser bucket that has begun is
 * spread over the finer levels.
 *
 * **What it guarantees**
 *
 * - `advance(now)` gives up exactly those that were due before the tick of `now`
 *   began, `settle(now)` exactly those that are due at `now`. (One that was
 *   already due when it was scheduled counts as due in the tick of that moment.)
 * - `schedule` and `deschedule` take constant time. `advance` takes time for
 *   the nodes that are due, and up to four times in its life for a node that
 *   is spread. How far the clock jumps does not matter.
 * - The clock may go back: nodes that are not due by the new time stay, and
 *   expire when it comes round to them. A bucket is named by absolute time, so
 *   nothing need be moved for that.
 *
 * It never reads a clock, and knows nodes that never expire only as ones that it
 * need not keep.
 *
 * @since 0.1.0
 */

/**
 * The length of a tick in milliseconds: by how much `advance` may be late.
 *
 * @category constants
 * @since 0.1.0
 */
export const tickMillis = 1024

/**
 * What the wheel needs of a node. The links belong to the wheel and are
 * `undefined` while the node is not scheduled; `expiresAt` must not change while
 * it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimerNode {
  readonly expiresAt: number
  timerNext: TimerNode | undefined
  timerPrevious: TimerNode | undefined
}

/**
 * The wheel.
 *
 * @category models
 * @since 0.1.0
 */
export class TimerWheel<N extends TimerNode> {
  /** How many nodes are scheduled. */
  scheduled = 0
  /** How many times a node has been looked at since the wheel was made. */
  visited = 0
  private tick = 0
  private readonly buckets: ReadonlyArray<TimerNode> = Array.from({ length: 64 + 64 + 32 + 4 + 1 }, emptyList)
  private readonly opened: TimerNode = emptyList()

  /** Keeps the node until it is due or descheduled. One that never expires is not kept. */
  schedule(node: N): void {
    this.deschedule(node)
    if (node.expiresAt === Infinity) return
    append(this.bucketFor(node), node)
    this.scheduled++
  }

  /** Forgets the node, if it is scheduled. */
  deschedule(node: N): void {
    if (node.timerNext === undefined) return
    unlink(node)
    this.scheduled--
  }

  /** Moves time to `now`, and gives up the nodes that were due before the tick of `now` began. */
  advance(now: number, onExpired: (node: N) => void): void {
    const from = this.tick
    this.tick = tickOf(now)
    if (this.tick > from) this.openPassed(from)
    this.drain(-Infinity, onExpired)
  }

  /** Moves time to `now`, and gives up every node that is due; looks at each that is due within this tick. */
  settle(now: number, onExpired: (node: N) => void): void {
    this.advance(now, onExpired)
    moveAll(this.bucket(0, this.tick), this.opened)
    this.drain(now, onExpired)
  }

  /** The scheduled nodes, in no order; O(n), for tests and diagnosis. */
  *nodes(): Iterable<N> {
    for (const list of [...this.buckets, this.opened]) {
      for (let node = list.timerNext!; node !== list; node = node.timerNext!) yield node as N
    }
  }

  /** Throws if a node hangs where it would be found too late. O(n), for tests. */
  checkInvariants(): void {
    let count = 0
    for (const [level, { first, length, ticks }] of levels.entries()) {
      const current = Math.floor(this.tick / ticks)
      for (let index = 0; index < length; index++) {
        const list = this.buckets[first + index]!
        for (let node = list.timerNext!; node !== list; node = node.timerNext!) {
          const position = Math.floor(tickOf(node.expiresAt) / ticks)
          const reached = level === 0 ? position < current : position <= current
          if (reached || (position & (length - 1)) !== index || node.timerNext!.timerPrevious !== node) {
            throw new Error(`a node due at ${node.expiresAt} hangs in bucket ${index} of level ${level}`)
          }
          count++
        }
      }
    }
    if (this.opened.timerNext !== this.opened) throw new Error("nodes of an opened bucket were left over")
    if (count !== this.scheduled) throw new Error(`${count} nodes are in the wheel, ${this.scheduled} are counted`)
  }

  private bucketFor(node: N): TimerNode {
    const tick = Math.max(tickOf(node.expiresAt), this.tick)
    for (let level = 0; level < levels.length - 1; level++) {
      const { length, ticks } = levels[level]!
      if (Math.floor(tick / ticks) - Math.floor(this.tick / ticks) < length) return this.bucket(level, tick)
    }
    return this.bucket(levels.length - 1, tick)
  }

  private bucket(level: number, tick: number): TimerNode {
    const { first, length, ticks } = levels[level]!
    return this.buckets[first + (Math.floor(tick / ticks) & (length - 1))]!
  }

  private openPassed(from: number): void {
    for (let i = 0, passed = Math.min(this.tick - from, 64); i < passed; i++) {
      moveAll(this.bucket(0, from + i), this.opened)
    }
    for (let level = 1; level < levels.length; level++) {
      const { length, ticks } = levels[level]!
      const begun = Math.min(Math.floor(this.tick / ticks) - Math.floor(from / ticks), length)
      if (begun === 0) return
      for (let i = 1; i <= begun; i++) moveAll(this.bucket(level, from + i * ticks), this.opened)
    }
  }

  /** Gives up what was due before this tick or is due at `now`, and hangs the rest anew. */
  private drain(now: number, onExpired: (node: N) => void): void {
    for (let node = this.opened.timerNext!; node !== this.opened; node = this.opened.timerNext!) {
      this.visited++
      if (tickOf(node.expiresAt) < this.tick || node.expiresAt <= now) {
        this.deschedule(node as N)
        onExpired(node as N)
      } else {
        unlink(node)
        append(this.bucketFor(node as N), node)
      }
    }
  }
}

/** `ticks` is how many ticks one bucket of the level stands for; `first` its place in `buckets`. */
const levels = [
  { first: 0, length: 64, ticks: 1 },
  { first: 64, length: 64, ticks: 64 },
  { first: 128, length: 32, ticks: 64 * 64 },
  { first: 160, length: 4, ticks: 64 * 64 * 32 },
  { first: 164, length: 1, ticks: 64 * 64 * 32 * 4 }
] as const

const tickOf = (time: number): number => Math.floor(time / tickMillis)

/** A list is a ring through a node that stands for its ends. */
function emptyList(): TimerNode {
  const list: TimerNode = { expiresAt: NaN, timerNext: undefined, timerPrevious: undefined }
  list.timerNext = list
  list.timerPrevious = list
  return list
}

const append = (list: TimerNode, node: TimerNode): void => {
  const last = list.timerPrevious!
  node.timerPrevious = last
  node.timerNext = list
  last.timerNext = node
  list.timerPrevious = node
}

const unlink = (node: TimerNode): void => {
  node.timerPrevious!.timerNext = node.timerNext
  node.timerNext!.timerPrevious = node.timerPrevious
  node.timerNext = undefined
  node.timerPrevious = undefined
}

const moveAll = (from: TimerNode, to: TimerNode): void => {
  if (from.timerNext === from) return
  const first = from.timerNext!
  const last = from.timerPrevious!
  to.timerPrevious!.timerNext = first
  first.timerPrevious = to.timerPrevious
  last.timerNext = to
  to.timerPrevious = last
  from.timerNext = from
  from.timerPrevious = from
}
