/**
 * Who may load which key of a `MemoryStore`, and until when.
 *
 * A lease that is over is one that was never given. It knows nothing of rows:
 * `MemoryStore` says when a key has changed.
 *
 * @since 0.1.0
 */
import type { Covered } from "./MemoryStoreMarks.ts"
import type { KeyText, Lease, LeaseGrant } from "./StoredRow.ts"

/**
 * The leases of all namespaces.
 *
 * @category models
 * @since 0.1.0
 */
export type Leases = Map<string, Map<KeyText, Held>>

/**
 * A lease that was given, and when it is over.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  readonly owner: Lease["owner"]
  readonly until: number
}

/**
 * None yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (): Leases => new Map()

/**
 * Gives the lease, unless another has it.
 *
 * @category mutations
 * @since 0.1.0
 */
export const acquire = (self: Leases, namespace: string, key: KeyText, lease: Lease, now: number): LeaseGrant => {
  const held = self.get(namespace)?.get(key)
  if (held !== undefined && held.until > now && held.owner !== lease.owner) {
    return { _tag: "Held", remaining: held.until - now }
  }
  const leases = self.get(namespace) ?? new Map<KeyText, Held>()
  self.set(namespace, leases)
  leases.set(key, { owner: lease.owner, until: now + lease.duration })
  return { _tag: "Granted" }
}

/**
 * Prolongs the lease, if the owner has it.
 *
 * @category mutations
 * @since 0.1.0
 */
export const renew = (self: Leases, namespace: string, key: KeyText, lease: Lease, now: number): void => {
  const held = self.get(namespace)?.get(key)
  if (held === undefined || held.until <= now || held.owner !== lease.owner) return
  self.get(namespace)?.set(key, { owner: lease.owner, until: now + lease.duration })
}

/**
 * Ends the lease, if the owner has it.
 *
 * @category mutations
 * @since 0.1.0
 */
export const release = (self: Leases, namespace: string, key: KeyText, owner: Lease["owner"]): void => {
  if (self.get(namespace)?.get(key)?.owner === owner) end(self, namespace, key)
}

/**
 * Ends the lease, whoever has it.
 *
 * @category mutations
 * @since 0.1.0
 */
export const end = (self: Leases, namespace: string, key: KeyText): void => {
  self.get(namespace)?.delete(key)
}

/**
 * Ends the leases of a namespace on the keys that a change covers by the key alone.
 *
 * @category mutations
 * @since 0.1.0
 */
export const endCovered = (self: Leases, namespace: string, covers: (row: Covered) => boolean): void => {
  for (const key of self.get(namespace)?.keys() ?? []) {
    if (covers({ key, tags: [] })) end(self, namespace, key)
  }
}

/**
 * Ends all leases.
 *
 * @category mutations
 * @since 0.1.0
 */
export const endAll = (self: Leases): void => self.clear()

/**
 * Forgets the leases that are over.
 *
 * @category mutations
 * @since 0.1.0
 */
export const forget = (self: Leases, now: number): void => {
  for (const [namespace, leases] of self) {
    for (const [key, { until }] of leases) if (until <= now) leases.delete(key)
    if (leases.size === 0) self.delete(namespace)
  }
}
