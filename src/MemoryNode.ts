/**
 * An entry as the memory (L1) holds it, and what it counts for.
 *
 * All entries have one shape, whatever they hold, so that a hit stays a few loads
 * and stores for V8.
 *
 * @since 0.1.0
 */
import { Exit } from "effect"
import type { EvictionNode } from "./Eviction.ts"
import type { Details, KeyId, MemoryEntry, NewMemoryEntry } from "./MemoryEntry.ts"
import type { TimerNode } from "./TimerWheel.ts"

/**
 * The bytes that count for each entry beside its value: the entry with its links,
 * the slot in the `Map` and the ghosts' places (222 measured on Node 20, 254 once the
 * entry was hit), and a short key. Without it, a million tiny values would count for
 * next to nothing.
 *
 * @category constants
 * @since 0.1.0
 */
export const entryOverhead = 250

/**
 * The bytes that count for each tag of an entry: its place in the index of tags,
 * where no other entry has that tag (180 measured on Node 20).
 *
 * @category constants
 * @since 0.1.0
 */
export const tagOverhead = 200

/**
 * The bytes that an entry counts for.
 *
 * @category conversions
 * @since 0.1.0
 */
export const weightOf = ({ size, tags }: Pick<NewMemoryEntry<unknown>, "size" | "tags">): number =>
  size + entryOverhead + tags.length * tagOverhead

/**
 * A time that the times of entries are told from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Epoch {
  readonly start: number
}

/**
 * How long an epoch lasts, in milliseconds: 12 days. What ends within another 12 is
 * still a small integer for V8 on every platform.
 *
 * @category constants
 * @since 0.1.0
 */
export const epochLength = 2 ** 30

/**
 * The partition that an entry is in, as far as the entry depends on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Home {
  readonly memory: { readonly leastCharge: number; readonly maxSize: number; readonly epoch: Epoch }
}

/**
 * An entry with its place in its partition, the eviction order and the wheel.
 *
 * Its times are kept as what they are after the start of an epoch that it shares
 * with others. V8 has small integers in the object itself, but a box of 16 bytes for
 * each time since 1970: 80 bytes less per entry, and no line of the processor's
 * cache more at a hit. `undefined` first tells V8 that there are other numbers too.
 * What a hit needs comes first, for the same reason.
 *
 * @category models
 * @since 0.1.0
 */
export class MemoryNode<P extends Home> implements MemoryEntry<unknown>, EvictionNode<MemoryNode<P>> {
  private hitEnds: number | undefined = undefined
  private readonly epoch: Epoch
  mark = 0
  uses = 0
  private exit: Exit.Exit<unknown, never> | undefined
  readonly value: unknown
  details: Details
  private readonly expires: number | undefined = undefined
  newer: MemoryNode<P> | undefined = undefined
  older: MemoryNode<P> | undefined = undefined
  readonly hash: number
  readonly id: KeyId
  readonly partition: P
  readonly size: number
  readonly tags: ReadonlyArray<string>
  private freshEnds: number | undefined = undefined
  private vouchedEnds: number | undefined = undefined
  private readonly created: number | undefined = undefined
  timerNext: TimerNode | undefined = undefined
  timerPrevious: TimerNode | undefined = undefined

  constructor(partition: P, id: KeyId, hash: number, entry: NewMemoryEntry<unknown>) {
    const { epoch } = partition.memory
    const { start } = epoch
    const expires = entry.expiresAt - start
    this.epoch = epoch
    this.details = entry.details ?? noDetails
    // The failure is one that reads of this namespace have in their type.
    this.exit = this.details.failure as Exit.Failure<never, never> | undefined
    this.value = entry.value
    this.created = entry.createdAt - start
    this.expires = expires
    this.freshEnds = entry.freshUntil === undefined ? expires : entry.freshUntil - start
    this.vouchedEnds = entry.vouchedUntil === undefined ? expires : entry.vouchedUntil - start
    this.hitEnds = entry.hitUntil === undefined ? expires : Math.min(entry.hitUntil - start, expires)
    this.size = entry.size
    // The caller's array may change; the index goes by this one.
    this.tags = entry.tags.length === 0 ? noTags : [...entry.tags]
    this.id = id
    this.partition = partition
    this.hash = hash
  }

  /** Made when it is first asked for: most entries of a cache that evicts are never hit. */
  get hit(): Exit.Exit<unknown, never> {
    return (this.exit ??= Exit.succeed(this.value))
  }

  get createdAt(): number {
    return this.epoch.start + this.created!
  }

  get expiresAt(): number {
    return this.epoch.start + this.expires!
  }

  get freshUntil(): number {
    return this.epoch.start + this.freshEnds!
  }

  get vouchedUntil(): number {
    return this.epoch.start + this.vouchedEnds!
  }

  get hitUntil(): number {
    return this.epoch.start + this.hitEnds!
  }

  get charge(): number {
    const { leastCharge, maxSize } = this.partition.memory
    return maxSize === Infinity ? 1 : Math.max(leastCharge, weightOf(this))
  }

  /** Stale from `now` on, and no answer before the others were asked. */
  age(now: number): void {
    this.freshEnds = Math.min(this.freshUntil, now) - this.epoch.start
    // Not `now`: the clock may go back.
    this.vouchedEnds = -Infinity
    this.hitEnds = -Infinity
    this.details = { ...this.details, retryAt: undefined }
  }
}

const noDetails: Details = {}
const noTags: ReadonlyArray<string> = []
