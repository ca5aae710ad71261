/**
 * What one process remembers of a load, a lookup or a write under way, so that
 * its late result can be kept out of memory (L1).
 *
 * Whoever is about to put something into L1 opens a fence on the key *before*
 * asking anyone for the value, and puts it only if the fence still holds.
 * Whatever changes the key breaks all fences that are open on it, *after* the
 * change is in the store, in the same synchronous step in which it drops the key
 * from L1:
 *
 *     load:        open ─ read old value ──────────────── broken, so not kept
 *     invalidate:           remove from store ─ break + drop
 *
 *     load:        open ─ read old value ─ keep
 *     invalidate:           remove from store ─────────── break + drop
 *
 * Two writes of one key break each other's fences as they end, so that at most
 * the last to end keeps its value, and only if no other was under way: the order
 * in which the store applied them is not known here, and an empty L1 is always
 * right.
 *
 * **Tags.** Nobody knows with which tags a load under way will end. A tag that is
 * invalidated is therefore remembered for as long as a fence is open that was
 * opened before, and whoever ends with an entry that has it asks with `isBroken`.
 * More than `maxTags` of them break every fence.
 *
 * **News.** What another process changed is heard of some time after it was done. A
 * load that began in between has seen it already, in the store, and need not be broken:
 *
 *     another:  invalidate in the store ─────────────── news
 *     load:                              open ─ read ──────── keep
 *
 * A fence is therefore told of the moment of the store at which its load looked
 * (`see`), and the news says which moments knew of it (`InvalidationMessage`). News
 * that comes while the store is being asked breaks the fence until the answer tells.
 *
 * This guards the L1 of this process. The store guards itself with its own
 * fences (see `CacheStore`); the bus breaks fences in the other processes.
 *
 * @since 0.1.0
 */
import type { Fence } from "./CacheStore.ts"
import type { IsKnownTo } from "./InvalidationBus.ts"
import type { KeyId } from "./MemoryCache.ts"

/**
 * Holds until the key is changed, or the fence closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface LocalFence {
  broken: boolean
  /** How many times tags had been invalidated when it was opened, or what it has seen of that. */
  since: number
  /** At which moment the store was looked at. */
  snapshot?: Fence["snapshot"] | undefined
  /** The news that broke it while the store was being asked. */
  news?: Array<IsKnownTo> | undefined
}

/**
 * A fence that nothing breaks, for what was decided in this very step.
 *
 * @category constants
 * @since 0.1.0
 */
export const intact: Readonly<LocalFence> = { broken: false, since: Infinity }

/**
 * The open fences of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export class LocalFences {
  readonly #open = new Map<KeyId, Set<LocalFence>>()
  /** When each tag was last invalidated, counted by `#count`. */
  readonly #tags = new Map<string, number>()
  #count = 0

  /** How many keys have open fences. */
  get size(): number {
    return this.#open.size
  }

  /** How many tags are remembered. */
  get tags(): number {
    return this.#tags.size
  }

  open(id: KeyId): LocalFence {
    const fence: LocalFence = { broken: false, since: this.#count }
    const fences = this.#open.get(id)
    if (fences === undefined) this.#open.set(id, new Set([fence]))
    else fences.add(fence)
    return fence
  }

  /** The store has answered, as of that moment. */
  see(fence: LocalFence, snapshot: Fence["snapshot"]): void {
    const { news } = fence
    fence.snapshot = snapshot
    fence.news = undefined
    if (news !== undefined) fence.broken = !news.every((isKnownTo) => isKnownTo(snapshot))
  }

  /** Whether the key was changed since the fence was opened, or one of these tags invalidated. */
  isBroken(fence: Readonly<LocalFence>, tags: ReadonlyArray<string>): boolean {
    return fence.broken || tags.some((tag) => (this.#tags.get(tag) ?? 0) > fence.since)
  }

  /** Whether something is under way with the key that no change has overtaken, as far as is known. */
  hold(id: KeyId): boolean {
    const fences = this.#open.get(id)
    return fences !== undefined && [...fences].every(({ broken, since }) => !broken && since === this.#count)
  }

  /** A closed fence holds nothing any more. */
  close(id: KeyId, fence: LocalFence): void {
    this.#breakForGood(id, fence)
  }

  break(id: KeyId, isKnownTo?: IsKnownTo): void {
    for (const fence of this.#open.get(id) ?? []) {
      if (isKnownTo === undefined) this.#breakForGood(id, fence)
      else if (fence.snapshot === undefined) {
        fence.broken = true
        fence.news = [...(fence.news ?? []), isKnownTo]
      } else if (!isKnownTo(fence.snapshot)) this.#breakForGood(id, fence)
    }
  }

  /** Breaks those on the keys that are accepted. */
  breakMatching(accepts: (id: KeyId) => boolean, isKnownTo?: IsKnownTo): void {
    for (const id of this.#open.keys()) if (accepts(id)) this.break(id, isKnownTo)
  }

  /** Breaks all that are open for what will have one of these tags. */
  breakTagged(tags: Iterable<string>, isKnownTo?: IsKnownTo): void {
    if (this.#open.size === 0) return
    const before = this.#count++
    for (const tag of tags) this.#tags.set(tag, this.#count)
    if (isKnownTo !== undefined) {
      for (const fences of this.#open.values()) {
        for (const fence of fences) {
          const { since, snapshot } = fence
          if (since === before && snapshot !== undefined && isKnownTo(snapshot)) fence.since = this.#count
        }
      }
    }
    if (this.#tags.size > maxTags) this.#forgetTags()
  }

  breakAll(): void {
    for (const fences of this.#open.values()) {
      for (const fence of fences) {
        fence.broken = true
        fence.news = undefined
      }
    }
    this.#open.clear()
    this.#tags.clear()
  }

  #breakForGood(id: KeyId, fence: LocalFence): void {
    fence.broken = true
    fence.news = undefined
    const fences = this.#open.get(id)
    if (fences?.delete(fence) === true && fences.size === 0) this.#leave(id)
  }

  #leave(id: KeyId): void {
    this.#open.delete(id)
    if (this.#open.size === 0) this.#tags.clear()
  }

  /** Those that no open fence needs; if the rest is still too much, no fence holds. */
  #forgetTags(): void {
    let oldest = Infinity
    for (const fences of this.#open.values()) for (const { since } of fences) oldest = Math.min(oldest, since)
    for (const [tag, at] of this.#tags) if (at <= oldest) this.#tags.delete(tag)
    if (this.#tags.size > maxTags) this.breakAll()
  }
}

/**
 * How many tags are remembered for the fences of one namespace.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxTags = 500
