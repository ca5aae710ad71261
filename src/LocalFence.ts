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
 * This guards the L1 of this process. The store guards itself with its own
 * fences (see `CacheStore`); the bus breaks fences in the other processes.
 *
 * @since 0.1.0
 */
import type { KeyId } from "./MemoryCache.ts"

/**
 * Holds until the key is changed, or the fence closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface LocalFence {
  broken: boolean
}

/**
 * The open fences of one namespace.
 *
 * @category models
 * @since 0.1.0
 */
export class LocalFences {
  readonly #open = new Map<KeyId, Set<LocalFence>>()

  /** How many keys have open fences. */
  get size(): number {
    return this.#open.size
  }

  open(id: KeyId): LocalFence {
    const fence: LocalFence = { broken: false }
    const fences = this.#open.get(id)
    if (fences === undefined) this.#open.set(id, new Set([fence]))
    else fences.add(fence)
    return fence
  }

  /** A closed fence holds nothing any more. */
  close(id: KeyId, fence: LocalFence): void {
    fence.broken = true
    const fences = this.#open.get(id)
    if (fences?.delete(fence) === true && fences.size === 0) this.#open.delete(id)
  }

  break(id: KeyId): void {
    for (const fence of this.#open.get(id) ?? []) fence.broken = true
    this.#open.delete(id)
  }

  breakAll(): void {
    for (const fences of this.#open.values()) for (const fence of fences) fence.broken = true
    this.#open.clear()
  }
}
