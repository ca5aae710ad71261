/**
 * The lease of one load: of the keys that are missing, which it loads itself, and
 * which a load of another process has, so that this one waits.
 *
 *     one:      read: nothing ─ ask: ours ─ loader ─ fill ─ wake
 *     another:      read: nothing ─ ask: theirs ─ wait ········ read: found
 *
 * A load goes in rounds (`Load`): it looks into the store, asks for the lease on
 * all that is missing, loads what is its own, and waits for the rest. It never
 * waits for a key while it has the lease on another, so two loads that want each
 * other's keys do not wait for each other.
 *
 * - **Ours**: what was granted, and what is loaded without a lease. The lease is
 *   renewed while the load goes on. `fill` ends it in the store; what was not filled
 *   is given back at once, and nobody waits for that.
 * - **Theirs**: held by another, or changed since it was read, which is looked at
 *   again before anybody waits.
 *
 * Whoever waits looks again when it is woken, and now and then, as a wake may be
 * lost. Woken for a key that is as it was, it loads it without waiting for anyone
 * again: what the other brought is not to be shared, because it failed or is not
 * kept. In all, a load waits for no longer than `leaseWait`.
 *
 * **What it does not do.** It keeps nobody from loading: it is for sparing the
 * source, and who may store is decided by fences. So there are two loads of a key
 * where the store is away, where a load takes longer than others wait, where a
 * process stops for longer than the lease, and perhaps where a wake comes late.
 *
 * @since 0.1.0
 */
import { Clock, type Context, Effect, Fiber, Latch } from "effect"
import type { CachePolicy } from "./CachePolicy.ts"
import type { Counters } from "./CacheStats.ts"
import type { KeyText, LeaseGrant } from "./CacheStore.ts"
import type { Waiter } from "./Leases.ts"
import type { Load, Missing } from "./LoadTask.ts"
import type { CacheParts } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"

/**
 * What a load knows of its lease.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  readonly self: CacheParts
  readonly namespace: string
  readonly policy: CachePolicy
  readonly counters: Counters
  readonly context: Context.Context<never>
  /** This load, among those of all processes. */
  readonly owner: string
  readonly waiter: Waiter
  /** What this load has the lease on, and what it may have, which it is asking for or got no answer to. */
  readonly granted: Set<KeyText>
  readonly inDoubt: Set<KeyText>
  asking: Fiber.Fiber<unknown, unknown> | undefined
  /** The version that each key had when it was last asked for. */
  readonly versions: Map<KeyText, number>
  /** What others had when it was last asked for, in milliseconds. */
  readonly held: Map<KeyText, number>
  /** How often each key was found changed since it had been read. */
  readonly changes: Map<KeyText, number>
  /** What was given back, or filled, since it was last asked for. */
  woken: ReadonlySet<KeyText>
  readonly waitedFor: Set<KeyText>
  /** When this load does not wait any longer. */
  deadline: number | undefined
}

/**
 * Who loads what.
 *
 * @category models
 * @since 0.1.0
 */
export interface Turn<K> {
  readonly ours: ReadonlyArray<Missing<K>>
  readonly theirs: ReadonlyArray<Missing<K>>
  /** Whether there is nothing to do but to wait: nothing is ours, and others have the lease on all. */
  readonly mustWait: boolean
}

/**
 * Runs a load with its lease, and gives back what is left of that when it ends,
 * however it does. There is none where nobody would have what the load brings.
 *
 * @category running
 * @since 0.1.0
 */
export const during = <K, A, X, E, R, B>(
  load: Load<K, A, X, E, R>,
  body: (lease: Lease | undefined, load: Load<K, A, X, E, R>) => Effect.Effect<B, X, R>
): Effect.Effect<B, X, R> => {
  const { route, self, space } = load
  const isTaken = route.shared && route.readStore && route.keepStore && !route.force && space.policy.leaseDuration > 0
  if (!isTaken) return body(undefined, load)
  return Effect.withFiber(({ context }) => {
    const lease: Lease = {
      self,
      namespace: space.namespace.name,
      policy: space.policy,
      counters: space.counters,
      context,
      owner: `${self.id} ${++self.leases.count}`,
      waiter: { woken: new Set(), bell: Latch.makeUnsafe(), places: new Set() },
      granted: new Set(),
      inDoubt: new Set(),
      asking: undefined,
      versions: new Map(),
      held: new Map(),
      changes: new Map(),
      woken: new Set(),
      waitedFor: new Set(),
      deadline: undefined
    }
    return Effect.ensuring(
      body(lease, { ...load, onStored: (key, isStored) => storedLater(lease, key, isStored) }),
      Effect.sync(() => {
        self.leases.leave(lease.waiter)
        giveBack(lease)
      })
    )
  })
}

/**
 * Asks for the lease on what is missing.
 *
 * @category running
 * @since 0.1.0
 */
export const ask = Effect.fnUntraced(function* <K>(
  lease: Lease | undefined,
  missing: ReadonlyArray<Missing<K>>
): Effect.fn.Return<Turn<K>> {
  if (lease === undefined) return { ours: missing, theirs: [], mustWait: false }
  const { counters } = lease
  const now = yield* Clock.currentTimeMillis
  if (lease.deadline !== undefined && now >= lease.deadline) {
    for (const { text } of missing) if (lease.held.has(text)) counters.leaseTimeouts++
    return { ours: missing, theirs: [], mustWait: false }
  }
  const grants = yield* acquire(lease, missing, now)
  const ours: Array<Missing<K>> = []
  const theirs: Array<Missing<K>> = []
  for (const want of missing) {
    const { fence, text } = want
    const grant = grants.get(text)
    // What was given back and is as it was brought nothing, and neither will the next.
    const isUrgent = lease.woken.has(text) && lease.versions.get(text) === fence?.version
    const isOverruled = lease.self.leases.has(lease.namespace, text)
    if (fence !== undefined) lease.versions.set(text, fence.version)
    lease.held.delete(text)
    if (grant?._tag === "Held" && !isUrgent && !isOverruled) {
      lease.held.set(text, grant.remaining)
      theirs.push(want)
      // Of a key that changes all the time nobody has the lease for long.
    } else if (grant?._tag === "Changed" && changesOf(lease, text) < maxChanges) {
      lease.changes.set(text, changesOf(lease, text) + 1)
      theirs.push(want)
    } else {
      if (grant?._tag === "Held" && !isOverruled) counters.leaseTimeouts++
      ours.push(want)
    }
  }
  return { ours, theirs, mustWait: ours.length === 0 && theirs.every(({ text }) => lease.held.has(text)) }
})

const changesOf = ({ changes }: Lease, key: KeyText): number => changes.get(key) ?? 0

/** Each costs two round trips, and that the key was loaded meanwhile is the likeliest change. */
const maxChanges = 5

/** Without a store that answers there is no lease, and nobody to wait for. */
const acquire = Effect.fnUntraced(function* <K>(lease: Lease, missing: ReadonlyArray<Missing<K>>, now: number) {
  const { counters, granted, inDoubt, namespace, owner, policy, self, waiter } = lease
  const asked = missing.flatMap(({ fence, text }) => (fence === undefined ? [] : [{ key: text, fence }]))
  const grants = new Map<KeyText, LeaseGrant>()
  if (asked.length === 0) return grants
  const keys = asked.map(({ key }) => key)
  if (self.leases.isEnding(namespace, keys)) {
    lease.deadline ??= now + policy.leaseWait
    yield* self.leases.ended(namespace, keys, Math.min(pollInterval, lease.deadline - now))
  }
  const answers = yield* Effect.withFiber((fiber) => {
    // Before anybody is asked: what is given back in between is heard of.
    for (const key of keys) self.leases.enter(waiter, namespace, key)
    for (const key of keys) inDoubt.add(key)
    // Never broken off: what is given back before it is granted would be granted for good.
    const asking = self.leases.run(
      self.store.acquire(namespace, asked, { owner, duration: policy.leaseDuration }),
      fiber.context
    )
    lease.asking = asking
    return StoreGuard.recover<ReadonlyArray<LeaseGrant>, [], never>(
      Fiber.join(asking),
      { onStoreFailure: "recover" },
      counters,
      []
    )
  })
  lease.asking = undefined
  for (const [index, grant] of answers.entries()) {
    const key = keys[index]!
    grants.set(key, grant)
    inDoubt.delete(key)
    if (grant._tag === "Granted" && !granted.has(key)) {
      granted.add(key)
      self.leases.have(namespace, key)
    }
  }
  return grants
})

/**
 * Runs the load of what is ours, which says what of it is stored, or will be. The
 * lease on all of it ends with that; where the load is interrupted, at once.
 *
 * @category running
 * @since 0.1.0
 */
export const hold = <X, R>(
  lease: Lease | undefined,
  loading: Effect.Effect<ReadonlyArray<KeyText>, X, R>
): Effect.Effect<unknown, X, R> => {
  if (lease === undefined) return loading
  const end = Effect.sync(() => giveBack(lease))
  const loaded = Effect.tap(loading, (stored) => Effect.ensuring(settle(lease, stored), end))
  if (lease.granted.size === 0) return loaded
  // A loader may take its time to clean up, or not be interruptible at all; the renewal ends in time.
  return Effect.raceFirst(loaded, Effect.ensuring(renewForever(lease), end))
}

/** What is filled is nobody's any more. */
const settle = (
  { granted, inDoubt, namespace, policy, self }: Lease,
  stored: ReadonlyArray<KeyText>
): Effect.Effect<void> => {
  for (const key of stored) {
    if (granted.delete(key)) self.leases.lose(namespace, key)
    inDoubt.delete(key)
  }
  return stored.length > 0 && policy.storeWrites === "awaited"
    ? self.bus.wake({ namespace, keys: stored })
    : Effect.void
}

/** The lease on what is stored later goes on until then. */
const storedLater = (lease: Lease, key: KeyText, isStored: boolean): void => {
  const { context, namespace, self } = lease
  if (isStored) self.leases.run(self.bus.wake({ namespace, keys: [key] }), context)
  else release(lease, [key], [key])
}

const renewForever = ({ granted, namespace, owner, policy, self }: Lease): Effect.Effect<never> => {
  const duration = policy.leaseDuration
  const renew = Effect.suspend(() => self.store.renew(namespace, [...granted], { owner, duration }))
  return Effect.forever(Effect.andThen(Effect.sleep(duration / 3), Effect.ignore(renew)))
}

/** Gives back what is not filled, without its caller waiting for that. */
const giveBack = (lease: Lease): void => {
  const { granted, inDoubt, namespace, self } = lease
  const given = [...granted]
  const keys = [...given, ...inDoubt]
  for (const key of given) self.leases.lose(namespace, key)
  granted.clear()
  inDoubt.clear()
  if (keys.length > 0) release(lease, keys, given)
}

const release = (lease: Lease, keys: ReadonlyArray<KeyText>, given: ReadonlyArray<KeyText>): void => {
  const { asking, context, namespace, owner, self } = lease
  const asked = asking === undefined ? Effect.void : Fiber.await(asking)
  const released = Effect.andThen(asked, Effect.ignore(self.store.release(namespace, keys, owner)))
  const woken = given.length === 0 ? Effect.void : self.bus.wake({ namespace, keys: given })
  self.leases.end(namespace, keys, Effect.andThen(released, woken), context)
}

/**
 * Waits until it is time to look at the others' keys again: at once, where a load
 * of ours took its time or something has changed.
 *
 * @category running
 * @since 0.1.0
 */
export const wait = Effect.fnUntraced(function* <K>(
  lease: Lease | undefined,
  { mustWait, theirs }: Turn<K>
): Effect.fn.Return<void> {
  if (lease === undefined) return
  const { counters, held, policy, waitedFor, waiter } = lease
  if (mustWait) {
    const now = yield* Clock.currentTimeMillis
    lease.deadline ??= now + policy.leaseWait
    const remaining = theirs.map(({ text }) => Math.max(1, Math.ceil(held.get(text)!)))
    const time = Math.min(lease.deadline - now, pollInterval, ...remaining)
    if (time > 0) {
      counters.leaseWaits += theirs.filter(({ text }) => !waitedFor.has(text)).length
      for (const { text } of theirs) waitedFor.add(text)
      yield* Effect.timeoutOption(waiter.bell.await, time)
    }
  }
  lease.woken = new Set(waiter.woken)
  waiter.woken.clear()
  waiter.bell.closeUnsafe()
})

const pollInterval = 250
