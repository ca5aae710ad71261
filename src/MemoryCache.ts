/**
 * L1: decoded values in the memory of this process, bounded in number and bytes.
 *
 * A `MemoryCache` is divided into partitions, one per namespace. Each has its own
 * keys and counts; the bounds are shared. Everything is synchronous and takes
 * "now" from its caller (milliseconds, Effect's `Clock`); only the fiber of
 * `layer`, which removes expired entries in the background, reads a clock.
 *
 * **What it guarantees**
 *
 * - At every instant, also in the middle of a `put`, there are at most
 *   `maxEntries` entries and they take at most `maxSize` bytes.
 * - `get` never returns an entry that has expired by `now`, nor one that had
 *   expired by any `now` that this cache was given while it held the entry: a
 *   clock that goes back brings nothing back.
 * - A living entry leaves for want of room only after those that are known to
 *   have expired (`TimerWheel`: a second late at most), and then in the order of
 *   `Eviction`.
 * - Every entry that was put and is not there any more is counted once, under
 *   its cause: `puts = entries + the sum of removals`, in each partition.
 * - A hit costs one `Map` lookup and the mark for the eviction, and allocates
 *   nothing but, at the first of each entry, the effect that it is answered with. An entry without tags is in no index of tags.
 *
 * **What it does not promise**: `size` is what the caller says of each value plus
 * `entryOverhead` and `tagOverhead`, not what V8 takes. When the clock is set back, an entry that
 * has not expired lives on until the clock reaches its `expiresAt` again. A
 * caller that passes old readings of the clock in turn with new ones pays for
 * each step back with a look at the entries that are about to expire.
 *
 * @since 0.1.0
 */
import { Clock, Context, type Duration, Effect, Layer } from "effect"
import { Eviction } from "./Eviction.ts"
import { hashOf, randomSeed } from "./KeyHash.ts"
import type { KeyId, MemoryEntry, NewMemoryEntry, Partition, RemovalCause } from "./MemoryEntry.ts"
import { type Epoch, epochLength, MemoryNode, weightOf } from "./MemoryNode.ts"
import { TagIndex } from "./TagIndex.ts"
import { TimerWheel } from "./TimerWheel.ts"

export type { Details, KeyId, MemoryEntry, NewMemoryEntry, Partition, RemovalCause } from "./MemoryEntry.ts"
export { entryOverhead, tagOverhead } from "./MemoryNode.ts"

/**
 * The memory of this process (L1).
 *
 * @category services
 * @since 0.1.0
 */
export class MemoryCache extends Context.Service<
  MemoryCache,
  {
    /** The entries of a namespace; the same ones for the same name. */
    readonly partition: <A>(namespace: string) => Partition<A>
    /** How many entries there are in all partitions. */
    readonly entries: number
    /** The bytes they take, overheads included. */
    readonly size: number
    readonly maxEntries: number
    readonly maxSize: number
    /** Removes every entry that has expired by `now`, without looking at those that live longer; says how many. */
    readonly removeExpired: (now: number) => number
    /** Throws, and says what is wrong, if the books do not balance. O(n), for tests. */
    readonly checkInvariants: () => void
  }
>()("effect-tiered-cache/MemoryCache") {
  /**
   * A memory without the background fiber: expired entries go when they are
   * read, when a `put` passes, or by `removeExpired`. With `maxEntries: 0` it
   * keeps nothing.
   *
   * @category constructors
   * @since 0.1.0
   */
  static readonly make = (options: {
    readonly maxEntries: number
    readonly maxSize: number
    /** What the hashes of the keys begin with. With the same one, the same calls evict the same. Default: at random. */
    readonly seed?: number | undefined
  }): MemoryCache["Service"] => new Memory(options.maxEntries, options.maxSize, options.seed ?? randomSeed())

  /**
   * A memory from which a fiber removes what has expired, every
   * `cleanupInterval`, until the layer's scope closes.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layer = (options: {
    readonly maxEntries: number
    readonly maxSize: number
    readonly cleanupInterval: Duration.Input
  }): Layer.Layer<MemoryCache> =>
    Layer.effect(
      MemoryCache,
      Effect.gen(function* () {
        const memory = MemoryCache.make(options)
        yield* Clock.currentTimeMillis.pipe(
          Effect.map((now) => memory.removeExpired(now)),
          Effect.delay(options.cleanupInterval),
          Effect.forever,
          Effect.forkScoped({ startImmediately: true })
        )
        return memory
      })
    )
}

type Node = MemoryNode<MemoryPartition<unknown>>

class MemoryPartition<A> implements Partition<A> {
  readonly nodes = new Map<KeyId, Node>()
  readonly tags = new TagIndex<Node>()
  size = 0
  puts = 0
  readonly removals: Record<RemovalCause, number> = { explicit: 0, replaced: 0, expired: 0, size: 0, remote: 0 }
  readonly memory: Memory
  private readonly seed: number

  constructor(memory: Memory, namespace: string) {
    this.memory = memory
    this.seed = hashOf(namespace, memory.seed)
  }

  get entries(): number {
    return this.nodes.size
  }

  hit(id: KeyId, now: number): MemoryEntry<A> | undefined {
    observe(this.memory, now)
    const node = this.nodes.get(id)
    if (node === undefined || now >= node.hitUntil) return undefined
    this.memory.eviction.hit(node)
    return node as MemoryEntry<A>
  }

  get(id: KeyId, now: number): MemoryEntry<A> | undefined {
    observe(this.memory, now)
    const node = this.nodes.get(id)
    if (node === undefined) return undefined
    if (node.expiresAt <= now) {
      drop(this.memory, node, "expired")
      return undefined
    }
    this.memory.eviction.hit(node)
    return node as MemoryEntry<A>
  }

  put(id: KeyId, entry: NewMemoryEntry<A>, now: number): boolean {
    const memory = this.memory
    observe(memory, now)
    memory.wheel.advance(now, memory.onExpired)
    const previous = this.nodes.get(id)
    if (!(entry.expiresAt > now && fits(memory, entry))) {
      if (previous !== undefined) drop(memory, previous, causeAt(previous, now, "replaced"))
      return false
    }
    memory.epoch = epochAt(memory, now)
    const node = new MemoryNode<MemoryPartition<unknown>>(
      this,
      id,
      previous === undefined ? hashOf(id, this.seed) : previous.hash,
      entry
    )
    if (previous === undefined) memory.eviction.inserted(node, isRoom(memory, node))
    else {
      memory.eviction.replaced(previous, node)
      release(memory, previous, causeAt(previous, now, "replaced"))
    }
    makeRoom(memory, node, now)
    this.nodes.set(id, node)
    keep(memory, node)
    return true
  }

  remove(id: KeyId, cause: RemovalCause): boolean {
    const node = this.nodes.get(id)
    if (node === undefined) return false
    drop(this.memory, node, cause)
    return true
  }

  expire(id: KeyId, now: number, cause: RemovalCause): boolean {
    observe(this.memory, now)
    const node = this.nodes.get(id)
    if (node === undefined) return false
    const wasFresh = now < Math.min(node.freshUntil, node.expiresAt)
    if (hasReserve(node) && now < node.expiresAt) node.age(now)
    else drop(this.memory, node, causeAt(node, now, cause))
    return wasFresh
  }

  tagged(tags: ReadonlyArray<string>): ReadonlyArray<KeyId> {
    return [...this.tags.find(tags)].map(({ id }) => id)
  }

  clear(cause: RemovalCause): number {
    const count = this.nodes.size
    for (const node of this.nodes.values()) drop(this.memory, node, cause)
    return count
  }

  ids(): Iterable<KeyId> {
    return this.nodes.keys()
  }
}

class Memory {
  entries = 0
  size = 0
  /** The last `now` that was given. */
  latest = -Infinity
  epoch: Epoch = { start: 0 }
  readonly maxEntries: number
  readonly maxSize: number
  readonly seed: number
  /**
   * The least that an entry counts for in the order of eviction: its part if there were as many as may be. So a bound
   * in number is one in bytes of entries that are all alike, and whichever binds, one measure of room will do. Where
   * bytes are not bounded, each entry counts for one.
   */
  readonly leastCharge: number
  readonly eviction = new Eviction<Node>()
  readonly wheel = new TimerWheel<Node>()
  readonly onExpired = (node: Node): void => drop(this, node, "expired")
  private readonly partitions = new Map<string, MemoryPartition<unknown>>()

  constructor(maxEntries: number, maxSize: number, seed: number) {
    this.maxEntries = maxEntries
    this.maxSize = maxSize
    this.seed = seed
    this.leastCharge = maxSize / Math.max(maxEntries, 1)
  }

  partition<A>(namespace: string): Partition<A> {
    let partition = this.partitions.get(namespace)
    if (partition === undefined) {
      partition = new MemoryPartition<unknown>(this, namespace)
      this.partitions.set(namespace, partition)
    }
    return partition as Partition<unknown> as Partition<A>
  }

  removeExpired(now: number): number {
    const before = this.entries
    observe(this, now)
    this.wheel.settle(now, this.onExpired)
    return before - this.entries
  }

  checkInvariants(): void {
    const held = new Set<Node>()
    let size = 0
    for (const [namespace, partition] of this.partitions) {
      let partitionSize = 0
      for (const [id, node] of partition.nodes) {
        check(node.id === id && node.partition === partition, `${namespace}: the entry under ${id} is another's`)
        held.add(node)
        partitionSize += weightOf(node)
      }
      const problem = partition.tags.problemWith(partition.nodes.values())
      check(problem === undefined, `${namespace}: the index of tags is wrong: ${problem}`)
      check(partition.size === partitionSize, `${namespace}: size is ${partition.size}, should be ${partitionSize}`)
      const gone = Object.values(partition.removals).reduce((sum, count) => sum + count, 0)
      check(
        partition.puts === partition.entries + gone,
        `${namespace}: ${partition.puts} puts, ${partition.entries} entries, ${gone} removals`
      )
      size += partitionSize
    }
    check(this.entries === held.size, `entries is ${this.entries}, should be ${held.size}`)
    check(this.size === size, `size is ${this.size}, should be ${size}`)
    check(this.entries <= this.maxEntries, `${this.entries} entries, at most ${this.maxEntries} are allowed`)
    check(this.size <= this.maxSize, `${this.size} bytes, at most ${this.maxSize} are allowed`)
    const problem = this.eviction.problem()
    check(problem === undefined, `the eviction order is wrong: ${problem}`)
    checkSame("the eviction order", this.eviction.nodes(), held)
    checkSame("the wheel", this.wheel.nodes(), new Set([...held].filter((node) => node.expiresAt !== Infinity)))
    this.wheel.checkInvariants()
  }
}

/** Before the clock goes back, what it had passed is removed for good. */
const observe = (memory: Memory, now: number): void => {
  if (now < memory.latest) memory.wheel.settle(memory.latest, memory.onExpired)
  memory.latest = now
}

/** Times that are far from the epoch's start are as right, but take more room. */
const epochAt = ({ epoch }: Memory, now: number): Epoch =>
  Math.abs(now - epoch.start) < epochLength ? epoch : { start: Math.floor(now) }

const fits = (memory: Memory, entry: NewMemoryEntry<unknown>): boolean =>
  memory.maxEntries >= 1 && entry.size >= 0 && weightOf(entry) <= memory.maxSize

const isRoom = (memory: Memory, node: Node): boolean =>
  memory.entries + 1 <= memory.maxEntries && memory.size + weightOf(node) <= memory.maxSize

/** The node is in the order of eviction already, but in nothing else. */
const makeRoom = (memory: Memory, node: Node, now: number): void => {
  while (!isRoom(memory, node)) {
    const victim = memory.eviction.victim(node)
    drop(memory, victim, causeAt(victim, now, "size"))
  }
}

const causeAt = (node: Node, now: number, cause: RemovalCause): RemovalCause =>
  node.expiresAt <= now ? "expired" : cause

/** Whether something is left of it when it is fresh no more. Of what is fresh for good, memory knows no other end. */
const hasReserve = ({ details, expiresAt, freshUntil }: Node): boolean =>
  details.failure === undefined && (freshUntil < expiresAt || freshUntil === Infinity)

const keep = (memory: Memory, node: Node): void => {
  if (node.tags.length > 0) node.partition.tags.add(node)
  memory.wheel.schedule(node)
  memory.entries++
  memory.size += weightOf(node)
  node.partition.size += weightOf(node)
  node.partition.puts++
}

const drop = (memory: Memory, node: Node, cause: RemovalCause): void => {
  node.partition.nodes.delete(node.id)
  memory.eviction.removed(node, cause === "size")
  release(memory, node, cause)
}

const release = (memory: Memory, node: Node, cause: RemovalCause): void => {
  if (node.tags.length > 0) node.partition.tags.delete(node)
  memory.wheel.deschedule(node)
  memory.entries--
  memory.size -= weightOf(node)
  node.partition.size -= weightOf(node)
  node.partition.removals[cause]++
}

const check = (holds: boolean, problem: string): void => {
  if (!holds) throw new Error(`MemoryCache: ${problem}`)
}

const checkSame = (where: string, nodes: Iterable<Node>, expected: ReadonlySet<Node>): void => {
  const seen = new Set<Node>()
  for (const node of nodes) {
    check(expected.has(node), `${where} holds ${node.id}, which is gone or does not belong there`)
    check(!seen.has(node), `${where} holds ${node.id} twice`)
    seen.add(node)
  }
  check(seen.size === expected.size, `${where} holds ${seen.size} entries, should be ${expected.size}`)
}
