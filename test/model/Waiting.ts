/**
 * Whether a read may still wait for what another node loads: no longer than a load
 * waits in all, and only while that node has the lease, or may have it.
 */
import { check, type Past, type Running } from "./History.ts"
import { leaseDuration, leaseWait, nameOf, pollInterval, spaces } from "./Spaces.ts"

export class Waiting {
  readonly #past: Past
  /** Until when the lease on a key may be had, as far as is known, and by whom. */
  readonly #leases = new Map<string, { readonly until: number; readonly owner: string }>()

  constructor(past: Past) {
    this.#past = past
  }

  /** The lease was given, or renewed by whoever may have it. */
  granted(key: string, owner: string): void {
    this.#leases.set(key, { owner, until: this.#past.now() + leaseDuration })
  }

  /** It has ended, if this owner had it; without one, whoever had it. Those who wait may not have been told. */
  ended(key: string, owner?: string): void {
    const lease = this.#leases.get(key)
    if (lease === undefined || (owner !== undefined && lease.owner !== owner)) return
    this.#leases.set(key, { ...lease, until: Math.min(lease.until, this.#past.now() + pollInterval) })
  }

  /** To be called while nothing goes on by itself, with those whose node has no call to the store on its way. */
  judge(running: Iterable<Running>): void {
    for (const one of running) if (this.#isWaiting(one)) this.#judge(one)
  }

  #judge(running: Running): void {
    const now = this.#past.now()
    const { space } = running.operation
    const since = this.#past.loads.reduce(
      (last, { endedAt, source }) =>
        source.where === running.where && source.operation.space === space ? Math.max(last, endedAt) : last,
      running.beganAt
    )
    check(now - since < leaseWait, `operation ${running.id} still waits for a lease after ${now - since} ms`)
    const isHeld = spaces[space]!.keys.some(
      (_, key) => (this.#leases.get(nameOf(space, key))?.until ?? -Infinity) > now
    )
    check(isHeld, `operation ${running.id} waits for a lease that nobody has`)
  }

  /** Whether there is nothing else that it can wait for: no loader of its node, no other operation. */
  #isWaiting({ operation, transaction, where }: Running): boolean {
    if (operation._tag !== "Read" || operation.loader === "none" || transaction !== undefined) return false
    return this.#past.loads.every(
      ({ ended, source }) => ended !== undefined || source.where !== where || source.operation.space !== operation.space
    )
  }
}
