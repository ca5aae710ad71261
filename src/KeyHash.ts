/**
 * A 32-bit hash of a key, for tables that may confuse two keys now and then.
 *
 * It is not for a `Map` (which hashes by itself) and no protection against one
 * who looks for collisions: the seed, other in each process, only keeps the same
 * few keys from meeting in every process. Text takes a multiplication per
 * character (FNV-1a), then both kinds are mixed as in MurmurHash3, so that each
 * bit of the key moves every bit of the hash.
 *
 * @since 0.1.0
 */
import type { KeyId } from "./MemoryEntry.ts"

/**
 * A seed for this process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const randomSeed = (): number => Math.trunc(Math.random() * 2 ** 32) | 0

/**
 * The hash of a key, a signed 32-bit integer. Keys of two partitions are told
 * apart by the seed: give each the hash of its name.
 *
 * @category hashing
 * @since 0.1.0
 */
export const hashOf = (id: KeyId, seed: number): number => {
  if (typeof id === "string") return hashText(id, seed)
  const low = id | 0
  return low === id ? mixed(Math.imul(low, 0x9e3779b1) ^ seed) : hashText(String(id), ~seed)
}

const hashText = (text: string, seed: number): number => {
  let hash = seed ^ 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mixed(hash)
}

const mixed = (bits: number): number => {
  let hash = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
