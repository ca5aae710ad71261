/**
 * The keys that were evicted of late, without their values: so that one that comes
 * back soon is known to have left too early ("ghosts", as in 2Q, ARC and S3-FIFO).
 *
 * A key is known by a fingerprint of 13 bits, in a bucket of eight that its hash
 * names. With it stand how often the key was used, which queue the entry left, and
 * when. Time is counted in turnovers: one has passed when as much was evicted as
 * the cache holds. So an age says how much more room the key would have needed.
 * A ghost takes four bytes, and there are at least two places for each entry held,
 * so that one is rarely overwritten before it is a turnover old.
 *
 * **What it does not promise**: that every ghost is found; a full bucket forgets
 * its oldest. One key in a thousand is taken for another, which costs a place in the
 * wrong queue, never a wrong answer. A ghost that nothing overwrites for 128
 * turnovers looks young again.
 *
 * @since 0.1.0
 */

/**
 * The ghosts. The table grows with the entries that are held.
 *
 * @category models
 * @since 0.1.0
 */
export class Ghosts {
  /** Of the ghost that was taken last: how long it was away, in turnovers. */
  age = 0
  wasMain = false
  frequency = 0
  /** How many turnovers have passed. */
  turnovers = 0
  /** In each place a fingerprint, `mainBit`, four bits of frequency and the tick at which the entry left; 0 is free. */
  private places = new Uint32Array(leastPlaces)

  /**
   * Whether there is a ghost of the key. It is taken away, and `age`, `wasMain` and
   * `frequency` tell of it.
   */
  take(hash: number): boolean {
    const { places } = this
    const first = bucketOf(places, hash)
    const print = printOf(hash)
    for (let at = first; at < first + bucketLength; at++) {
      const ghost = places[at]!
      if (ghost >>> printShift === print) {
        places[at] = 0
        this.age = ((this.tick() - ghost) & tickMask) / ticksPerTurnover
        this.wasMain = (ghost & mainBit) !== 0
        this.frequency = (ghost >>> frequencyShift) & 15
        return true
      }
    }
    return false
  }

  /** An entry was evicted that took this `share` of all that is held; `entries` are. */
  add(hash: number, wasMain: boolean, frequency: number, share: number, entries: number): void {
    while (this.places.length < entries * placesPerEntry) this.double()
    this.turnovers += share
    const { places } = this
    const tick = this.tick()
    const first = bucketOf(places, hash)
    let chosen = first
    let oldest = -1
    for (let at = first; at < first + bucketLength; at++) {
      const ghost = places[at]!
      const age = ghost === 0 ? Infinity : (tick - ghost) & tickMask
      if (age > oldest) {
        oldest = age
        chosen = at
      }
    }
    places[chosen] = (printOf(hash) << printShift) | (wasMain ? mainBit : 0) | (frequency << frequencyShift) | tick
  }

  /** Every ghost stays, in both of the buckets that it may now belong to. */
  private double(): void {
    const { places } = this
    this.places = new Uint32Array(places.length * 2)
    this.places.set(places)
    this.places.set(places, places.length)
  }

  private tick(): number {
    return Math.floor(this.turnovers * ticksPerTurnover) & tickMask
  }
}

const bucketLength = 8
const placesPerEntry = 2

/** 2 kB, so that the ghosts of a tiny cache do not push one another out. */
const leastPlaces = 512

const printShift = 19
const mainBit = 1 << 18
const frequencyShift = 14
const tickMask = (1 << frequencyShift) - 1

/** `Eviction` thinks in sixteenths of a turnover; this tells eight ages in each. */
const ticksPerTurnover = 128

const bucketOf = (places: Uint32Array, hash: number): number =>
  (hash & (places.length / bucketLength - 1)) * bucketLength

/** The bits of the hash that name no bucket in tables of up to four million places; never 0. */
const printOf = (hash: number): number => hash >>> printShift || 1
