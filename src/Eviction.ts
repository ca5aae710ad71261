/**
 * Which entry leaves when the memory (L1) is full: an adaptive pair of queues.
 *
 * New entries pass through a short queue, the **window**, and those that prove
 * themselves go on to the long one, **main**; what was evicted of late is
 * remembered without its value (`Ghosts`). This is 2Q (Johnson and Shasha, VLDB
 * 1994) in the shape of S3-FIFO (Yang et al., SOSP 2023): both queues are in the
 * order of arrival, and a use only adds to a count in the entry, so that a hit
 * moves nothing. What is used once, a scan for one, goes through the window and
 * pushes nothing out of main.
 *
 * - **A use** adds one to the entry's `credit` (up to 3) and to its `frequency`
 *   (up to 15).
 * - **A new entry** enters the window; main, if there is a ghost of its key that is
 *   no older than one turnover.
 * - **The victim** is the oldest of the window while that is over its share,
 *   otherwise the oldest of main. In the window it goes to main instead if it has
 *   two credits, or if it was used more often than the one that main would give up,
 *   which then leaves in its place (this duel is W-TinyLFU's; Einziger, Friedman and
 *   Manes, ACM TOS 2017). In main it pays one credit to begin anew as the newest, if
 *   it has any (CLOCK).
 * - **Until the memory is full** what the window has no room for goes to main. A loop
 *   over a little more than fits finds most of its keys there at every turn.
 *
 * **How large the window is** depends on the traffic: 1 % for stable popularity,
 * 90 % for recency. As in ARC (Megiddo and Modha, FAST 2003) the ghosts decide, but
 * by what the next bit of room is worth: in each period the returns of keys that the
 * window let go of, divided by the room that would have kept them, stand against
 * the hits of main for the room that it has. (`adapt`)
 *
 * **When ghosts promise too much**: a key that comes back after each long scan is
 * promoted each time and never used again. While main's evictions return about
 * as often as promoted ghosts prove useful, a ghost is promoted only if its key
 * was used more often than the entry that would leave. (`isStrict`)
 *
 * **Room** is shared by all partitions and counted in `charge`s: with a bound in
 * number all charges are equal, with one in bytes they are the bytes. All else is a
 * proportion of what is held, so that a bound may bind in turns with the other.
 *
 * **What it does not promise**: the best victim in every case. A cache of fewer than
 * some sixty entries has too little to go by. A victim is found in amortised
 * constant time, at most `patience` steps at once.
 *
 * @since 0.1.0
 */
import { Fifo, type FifoNode } from "./Fifo.ts"
import { Ghosts } from "./Ghosts.ts"

/**
 * What an `Eviction` keeps in each node, so that no call looks anything up. In a
 * new node `mark` is 0; `hash` and `charge` are given.
 *
 * @category models
 * @since 0.1.0
 */
export interface EvictionNode<N> extends FifoNode<N> {
  /** Of the key and its partition. */
  readonly hash: number
  /** Credit, frequency and whereabouts, as `Eviction` packs them. */
  mark: number
}

/**
 * The order of eviction. `MemoryCache` tells it of every entry that comes, is read,
 * is overwritten or goes, and asks it for a victim when it needs room.
 *
 * @category models
 * @since 0.1.0
 */
export class Eviction<N extends EvictionNode<N>> {
  private readonly window = new Fifo<N>()
  private readonly main = new Fifo<N>()
  private readonly ghosts = new Ghosts()
  /** The part of all that is held that the window may take. */
  private windowShare = firstWindowShare
  /** How much has entered the window, in turnovers; says where in the window an entry is. */
  private entered = 0
  private enteredTick = 0
  /** The ticks since its entry after which an entry is in the last step of the window. */
  private lastTicks = 0

  // What happened in this period.
  private hits = 0
  private misses = 0
  private mainHits = 0
  private lastHits = 0
  /** Returns of keys that the window let go of, by sixteenths of a turnover that they were away. */
  private readonly windowReturns: Array<number> = Array.from({ length: sixteenths }, () => 0)
  private youngMainReturns = 0

  // What happened of late, for `isStrict`; older periods count less.
  private mainReturns = 0
  private mainEvictions = 0
  private proven = 0
  private disproven = 0
  private isStrict = false
  private refusals = 0

  /** The node was read. */
  hit(node: N): void {
    const { mark } = node
    let after = mark
    if ((mark & creditMask) < creditMask) after += creditUnit
    if ((mark & frequencyMask) < frequencyMask) after += frequencyUnit
    node.mark = after
    this.hits++
    if ((mark & mainBit) !== 0) this.mainHits++
    else if (((this.enteredTick - (mark >>> enteredShift)) & enteredMask) >= this.lastTicks) this.lastHits++
  }

  /** A node that was not there before; `isRoom` if nothing has to leave for it. */
  inserted(node: N, isRoom: boolean): void {
    this.misses++
    const isGhost = this.ghosts.take(node.hash)
    const frequency = isGhost ? Math.min(this.ghosts.frequency + 1, maxFrequency) : 1
    node.mark = frequency * frequencyUnit
    if (isGhost && this.isPromoted(this.ghosts.frequency)) {
      node.mark += mainBit + unprovenBit
      this.main.push(node)
    } else this.enterWindow(node)
    if (isRoom && this.isWindowOver() && this.window.oldest !== undefined) this.promote(this.window.oldest)
    if (this.hits + this.misses >= Math.max(this.entries() * accessesPerPeriod, leastPeriod)) this.endPeriod(isRoom)
  }

  /** `node` takes the place of `previous`, which had the same key; this counts as a use. */
  replaced(previous: N, node: N): void {
    this.hit(previous)
    const queue = this.queueOf(previous)
    queue.remove(previous)
    node.mark = previous.mark
    queue.push(node)
  }

  /** The node is gone; `wasEvicted` if it was so for want of room alone. */
  removed(node: N, wasEvicted: boolean): void {
    if (wasEvicted) {
      const isMain = (node.mark & mainBit) !== 0
      if (isMain) this.mainEvictions++
      if ((node.mark & unprovenBit) !== 0) this.disproven++
      this.ghosts.add(node.hash, isMain, frequencyOf(node), node.charge / this.charge(), this.entries())
    }
    this.queueOf(node).remove(node)
  }

  /** The node to drop next, but never `spared`; there must be another one. Asked again, it may choose differently. */
  victim(spared: N): N {
    for (let step = 0; ; step++) {
      const candidate = this.window.oldest
      const eldest = this.main.oldest
      const isMainsTurn = eldest !== undefined && (eldest !== spared || eldest.newer !== undefined)
      if (candidate !== undefined && candidate !== spared && (this.isWindowOver() || !isMainsTurn)) {
        if (step < patience && (candidate.mark & creditMask) >= creditToPass) this.promote(candidate)
        else if (isMainsTurn && eldest !== spared && winsOver(candidate, eldest)) {
          this.promote(candidate)
          return eldest
        } else return candidate
      } else if (eldest !== undefined) {
        if (eldest !== spared && ((eldest.mark & creditMask) === 0 || step >= patience)) return eldest
        this.renew(eldest)
      }
    }
  }

  /** Every node once; O(n), for tests and diagnosis. */
  *nodes(): Iterable<N> {
    yield* this.window.nodes()
    yield* this.main.nodes()
  }

  /** What is wrong with the queues, if anything; O(n), for tests. */
  problem(): string | undefined {
    for (const queue of [this.window, this.main]) {
      let [length, charge, older] = [0, 0, undefined as N | undefined]
      for (const node of queue.nodes()) {
        if (this.queueOf(node) !== queue) return "a node is marked as being in the other queue"
        if (node.older !== older) return "a node has lost the one before it"
        older = node
        length++
        charge += node.charge
      }
      if (queue.newest !== older) return "a queue has lost its newest node"
      if (queue.length !== length) return `${length} nodes are in a queue, ${queue.length} are counted`
      if (Math.abs(queue.charge - charge) > 1e-6 * charge) return `a queue's charge is ${queue.charge}, not ${charge}`
    }
    return undefined
  }

  private isPromoted(frequency: number): boolean {
    const { age, wasMain } = this.ghosts
    if (age >= 1) return false
    if (wasMain) {
      this.mainReturns++
      if (age < 2 * this.step()) this.youngMainReturns++
    } else this.windowReturns[Math.floor(age * sixteenths)]!++
    const eldest = this.main.oldest
    if (!this.isStrict || eldest === undefined || frequency > frequencyOf(eldest)) return true
    return ++this.refusals % refusalsPerTrial === 0
  }

  private enterWindow(node: N): void {
    node.mark += this.enteredTick << enteredShift
    this.window.push(node)
    this.entered += node.charge / this.charge()
    this.enteredTick = Math.floor(this.entered * ticksPerTurnover) & enteredMask
  }

  private promote(node: N): void {
    this.window.remove(node)
    node.mark = (node.mark & frequencyMask) | mainBit
    this.main.push(node)
  }

  /** The eldest of main begins anew, for a credit. */
  private renew(node: N): void {
    this.main.remove(node)
    if ((node.mark & unprovenBit) !== 0) {
      this.proven++
      node.mark -= unprovenBit
    }
    if ((node.mark & creditMask) !== 0) node.mark -= creditUnit
    this.main.push(node)
  }

  /** While nothing has to leave, no key can return, and nothing is to be learned from that. */
  private endPeriod(isRoom: boolean): void {
    if (!isRoom) {
      this.adapt()
      this.judge()
    }
    this.hits = this.misses = this.mainHits = this.lastHits = this.youngMainReturns = 0
    this.windowReturns.fill(0)
  }

  /**
   * Grows or shrinks the window after a period.
   *
   * The step next to the window is worth the returns of keys that it would have kept,
   * for its size; but where uses come at one distance that is farther away, all of
   * it is worth nothing and the whole way to there much. So the best way of any
   * length counts as well, and at double speed, if it is worth twice as much as all
   * that main holds. (If once as much were enough, it would trade the hits of a loop
   * for other hits of the same loop.)
   */
  private adapt(): void {
    const step = this.step()
    const least = 1 / this.entries()
    const mainValue = this.mainHits / Math.max(this.main.charge / this.charge(), least)
    const mainReturnValue = this.youngMainReturns / (2 * step)
    const keepValue = Math.max(mainValue * marginalPart, mainReturnValue)
    const lastValue = this.lastHits / Math.min(step, Math.max(this.windowShare, least))
    const { farValue, nextValue } = this.windowValue(step)
    if (farValue > 2 * Math.max(mainValue, mainReturnValue)) this.resizeWindow(2 * step)
    else if (nextValue > keepValue) this.resizeWindow(step)
    else if (lastValue < keepValue) this.resizeWindow(-step)
    this.lastTicks = Math.floor(Math.max(0, this.windowShare - step) * ticksPerTurnover)
  }

  /** What more room for the window is worth: the next step, and the best way of any length. */
  private windowValue(step: number): { readonly nextValue: number; readonly farValue: number } {
    let [nextValue, farValue] = [0, 0]
    let returns = -fewReturns - this.misses * chanceReturns
    for (const [i, count] of this.windowReturns.entries()) {
      returns += count
      const way = (i + 1) / sixteenths
      if (way <= step) nextValue = returns / step
      farValue = Math.max(farValue, returns / way)
    }
    return { nextValue, farValue }
  }

  private resizeWindow(by: number): void {
    this.windowShare = Math.min(Math.max(this.windowShare + by, leastWindowShare), mostWindowShare)
  }

  /** Whether ghosts are promoted too easily. Eight outcomes are the least that is worth a judgement. */
  private judge(): void {
    const outcomes = this.proven + this.disproven
    const success = this.proven / Math.max(outcomes, 1)
    const regret = this.mainReturns / Math.max(this.mainEvictions, 1)
    this.isStrict = outcomes > 8 && regret > strictAbove * success
    this.mainReturns *= periodDecay
    this.mainEvictions *= periodDecay
    this.proven *= periodDecay
    this.disproven *= periodDecay
  }

  private isWindowOver(): boolean {
    return this.window.charge > this.windowShare * this.charge()
  }

  private queueOf(node: N): Fifo<N> {
    return (node.mark & mainBit) === 0 ? this.window : this.main
  }

  private entries(): number {
    return this.window.length + this.main.length
  }

  private charge(): number {
    return this.window.charge + this.main.charge
  }

  /** By how much the window changes at once; at least by two entries. */
  private step(): number {
    return Math.max(1 / sixteenths, 2 / this.entries())
  }
}

const frequencyOf = (node: { readonly mark: number }): number => (node.mark & frequencyMask) / frequencyUnit

const winsOver = (candidate: { readonly mark: number }, eldest: { readonly mark: number }): boolean =>
  (eldest.mark & creditMask) === 0 && frequencyOf(candidate) > frequencyOf(eldest)

// A mark, from the lowest bit: two of credit, four of frequency, whether the node is in main, whether it came there by
// a ghost and has not been used since, and sixteen that say when it entered the window. It stays a small integer.
const creditUnit = 1
const creditMask = 3
const frequencyUnit = 4
const frequencyMask = 15 * frequencyUnit
const maxFrequency = 15
const mainBit = 64
const unprovenBit = 128
const enteredShift = 8
const enteredMask = 0xffff

/** One use may follow from the load itself, as when a page is fetched and then shown; S3-FIFO asks for two as well. */
const creditToPass = 2

/** Enough to get past a run of entries in use. A victim after more steps would be hardly better, but late. */
const patience = 128

/** As S3-FIFO has it; and room for what main and window each need in order to learn. */
const firstWindowShare = 0.1
const leastWindowShare = 0.01
const mostWindowShare = 0.9

/** A step is a sixteenth of the room. Half or twice as much makes a difference of a tenth of a point. */
const sixteenths = 16

/** After an eighth as many accesses as there are entries the window is fitted anew, but not after fewer than tell much. */
const accessesPerPeriod = 1 / 8
const leastPeriod = 64

/** More than the keys of a scan that are taken for ghosts, one in a thousand: they must not look like returns. */
const chanceReturns = 1 / 256
const fewReturns = 2

/** What the worst part of main is worth beside the mean of it. An eighth or a third is as good to a tenth of a point. */
const marginalPart = 1 / 5

/** How many ticks a turnover of the window has; the least share it may have is about one. */
const ticksPerTurnover = 128

/** Strict while a place in main is lost by one that returns almost as often as one is gained by use. */
const strictAbove = 0.8
const periodDecay = 0.9

/** So often a ghost is promoted in spite of being refused: or strictness would never see that times have changed. */
const refusalsPerTrial = 16
