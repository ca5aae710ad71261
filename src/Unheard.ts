/**
 * What this process asked the store to keep, and whose end it did not hear: the caller
 * was interrupted, or the store took too long.
 *
 *     this process:   set "a" ─┤ gives up      reads "a": the old row, into memory
 *     store:              ───────────── takes "a" ─ says so in its log
 *
 * Of its own changes a process need not be told, so it passes by what the log says of
 * them. Of these it does not: otherwise its memory alone would go on with the old row.
 *
 * A statement that is given up is cancelled, so it is seldom carried out. Nor is it once
 * the store has taken a later change of the same key: with that the key is settled.
 *
 * **Bounds.** A key is remembered for as long as a fence holds. Of more than `maxKeys`
 * keys of a namespace at a time it is every key.
 *
 * @since 0.1.0
 */
import type { KeyText } from "./CacheStore.ts"
import type { Invalidation } from "./InvalidationBus.ts"

/**
 * The keys, by namespace, and until when they are remembered.
 *
 * @category models
 * @since 0.1.0
 */
export class Unheard {
  readonly #lifetime: number
  readonly #maxKeys: number
  readonly #namespaces = new Map<string, Keys>()

  /** `lifetime` is in milliseconds. */
  constructor(lifetime: number, maxKeys = 10_000) {
    this.#lifetime = lifetime
    this.#maxKeys = maxKeys
  }

  /** Nobody heard the end of this. */
  add(namespace: string, keys: Iterable<KeyText>, now: number): void {
    const known = this.#keysOf(namespace, now) ?? { until: new Map<KeyText, number>(), allUntil: -Infinity }
    this.#namespaces.set(namespace, known)
    const until = now + this.#lifetime
    for (const key of keys) {
      known.until.delete(key)
      known.until.set(key, until)
    }
    if (known.until.size <= this.#maxKeys) return
    known.until.clear()
    known.allUntil = until
  }

  /** The store has taken a later change of these. */
  settle(namespace: string, keys: Iterable<KeyText>): void {
    const known = this.#namespaces.get(namespace)
    if (known !== undefined) for (const key of keys) known.until.delete(key)
  }

  /** Whether the message may be of something of which nobody heard the end. */
  concerns(invalidation: Invalidation, now: number): boolean {
    if (this.#namespaces.size === 0 || !("namespace" in invalidation)) return false
    const known = this.#keysOf(invalidation.namespace, now)
    if (known === undefined) return false
    // Of many keys at once the log names the namespace alone.
    if (invalidation._tag !== "Keys" || now < known.allUntil) return true
    return invalidation.keys.some((key) => known.until.has(key))
  }

  /** Those whose time is up leave; the first to come is the first to go. */
  #keysOf(namespace: string, now: number): Keys | undefined {
    const known = this.#namespaces.get(namespace)
    if (known === undefined) return undefined
    for (const [key, until] of known.until) {
      if (now < until) break
      known.until.delete(key)
    }
    if (known.until.size > 0 || now < known.allUntil) return known
    this.#namespaces.delete(namespace)
    return undefined
  }
}

interface Keys {
  readonly until: Map<KeyText, number>
  allUntil: number
}
