/**
 * What is kept of a load, in memory and in the store: the values that it brought,
 * or what is done about its failure.
 *
 * - Values are kept where the fences still hold, for as long as the loader, the
 *   call or the policy says, in this order. What the store refuses because the key
 *   has changed is not kept in memory either.
 * - A typed failure with a reserve that may stand in for it, or that is served
 *   without waiting for any load, *re-arms* that reserve in both tiers: it is served
 *   for `failureBackoff` without a load, so that a broken source is not hammered by
 *   this process or another. It lives no longer for that.
 * - A typed failure without one is itself kept, where the namespace or the call
 *   says for how long, and the namespace's `error` schema accepts it.
 *
 * Where the store's new row replaced something, the other processes are told; also
 * of what a load in the background brought.
 *
 * What the store has replaced leaves this process's memory too, and no load that had
 * read it brings it back: also where the new value is not kept there, because it has been
 * invalidated since. Where the load ended before the store had answered, and nobody knows
 * whether it was stored, it becomes stale (`Unheard`).
 *
 * With `storeWrites: "background"` nobody waits for the store (`PendingWrites`).
 *
 * @since 0.1.0
 */
import { Cause, Clock, Duration, Effect, Exit } from "effect"
import * as Aging from "./Aging.ts"
import type { CacheEntry } from "./CacheEntry.ts"
import { type CacheError, errorOf } from "./CacheError.ts"
import * as CachePolicy from "./CachePolicy.ts"
import type { KeyText, NewRow, Rearm } from "./CacheStore.ts"
import { forget } from "./Forget.ts"
import { drawFor, keepInMemory, vouch } from "./InMemory.ts"
import { Loaded } from "./Loaded.ts"
import { intact } from "./LocalFence.ts"
import type { Load, Missing } from "./LoadTask.ts"
import type { Any } from "./Namespace.ts"
import type { GetOrSetOptions } from "./Operations.ts"
import { type CacheParts, type Held, type Landing, lifetimeOf, ownCopy, rowOf, type Space } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"

/**
 * Keeps what was loaded and puts it among what the load brings. Says what is, or will be, stored.
 *
 * @category running
 * @since 0.1.0
 */
export const keepValues = Effect.fnUntraced(function* <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  missing: ReadonlyArray<Missing<K>>,
  values: ReadonlyArray<A | Loaded<A>>,
  startedAt: number,
  loadTime: number,
  { entries }: Landing<A>
): Effect.fn.Return<ReadonlyArray<KeyText>, X> {
  const { options, progress, self, space } = load
  const now = yield* Clock.currentTimeMillis
  const loaded: Array<ToKeep<K, A>> = []
  for (const [index, want] of missing.entries()) {
    const { decided, value } = broughtBy(values[index]!, progress.reserve.get(want.id)?.entry)
    if (decided.notModified === true) space.counters.notModified++
    const exit = Exit.succeed(value)
    const asked = {
      timeToLive: decided.timeToLive ?? lifetimeAsked(options, exit),
      tags: decided.tags ?? tagsAsked(options, value),
      validators: decided.validators ?? {},
      loadTime
    }
    const row = rowOf(space, want.text, value, asked, drawFor(space, yield* Effect.fiber))
    const timeToLive = Exit.isSuccess(row) ? row.value.timeToLive : 0
    const entry: CacheEntry<A> = ownCopy(space, {
      value,
      origin: "loader",
      freshness: "fresh",
      createdAt: now,
      expiresAt: now + timeToLive,
      staleUntil: now + timeToLive + (Exit.isSuccess(row) ? row.value.staleFor : 0),
      tags: asked.tags,
      validators: asked.validators
    })
    entries.set(want.id, entry)
    if (Exit.isFailure(row)) yield* keptNowhere<K, A, X>(self, space.namespace, space, errorOf(row))
    else if (timeToLive > 0 && (decided.store ?? isKept(options, exit))) {
      loaded.push({ ...want, row: row.value, entry, failure: undefined })
    }
  }
  return yield* keep(load, loaded, startedAt, now)
})

/**
 * Re-arms what may stand in for a failure; keeps the failure where nothing may. Says what is, or will be, stored.
 *
 * @category running
 * @since 0.1.0
 */
export const keepFailure = Effect.fnUntraced(function* <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  missing: ReadonlyArray<Missing<K>>,
  exit: Exit.Failure<unknown, E>,
  startedAt: number,
  loadTime: number,
  { failures }: Landing<A>
): Effect.fn.Return<ReadonlyArray<KeyText>, X> {
  const { options, progress, route, space } = load
  const error = Cause.squash(exit.cause) as E
  const now = yield* Clock.currentTimeMillis
  const mayStandIn = options?.staleOn?.(error) ?? true
  const mayBeLeft = route.force ? Aging.mayStandIn : Aging.mayBeLeft
  const rearmed: Array<readonly [Missing<K>, Held<A>]> = []
  const failed: Array<ToKeep<K, A>> = []
  const failure = Exit.failCause(exit.cause) as Exit.Failure<never, unknown>
  for (const want of missing) {
    failures.set(want.id, failure)
    const held = progress.reserve.get(want.id)
    if (held !== undefined && mayStandIn && mayBeLeft(held.entry, space.policy, now)) rearmed.push([want, held])
    else {
      const row = failureRow(load, want, error, loadTime, drawFor(space, yield* Effect.fiber))
      if (row !== undefined) failed.push(failedToKeep(want, row, error, now))
    }
  }
  yield* rearm(load, rearmed, now)
  return yield* keep(load, failed, startedAt, now)
})

interface ToKeep<K, A> extends Missing<K> {
  readonly row: NewRow
  readonly entry: CacheEntry<A>
  readonly failure: Exit.Failure<never, unknown> | undefined
}

/** A value, and what its loader decided; of one that was not modified, what is known. */
const broughtBy = <A>(
  brought: A | Loaded<A>,
  stale: CacheEntry<A> | undefined
): { readonly value: A; readonly decided: Loaded<A>["options"] & { readonly notModified?: boolean } } => {
  if (!(brought instanceof Loaded)) return { value: brought, decided: {} }
  if (brought.modified !== undefined) return { value: brought.modified.value, decided: brought.options }
  const { tags, validators, value } = stale!
  return { value, decided: { tags, validators, ...brought.options, notModified: true } }
}

const lifetimeAsked = <A, E>(options: GetOrSetOptions<A, E> | undefined, exit: Exit.Exit<A, E>) =>
  typeof options?.timeToLive === "function" ? options.timeToLive(exit) : options?.timeToLive

const tagsAsked = <A, E>(options: GetOrSetOptions<A, E> | undefined, value: A): ReadonlyArray<string> =>
  (typeof options?.tags === "function" ? options.tags(value) : options?.tags) ?? []

const isKept = <A, E>(options: GetOrSetOptions<A, E> | undefined, exit: Exit.Exit<A, E>): boolean =>
  (typeof options?.store === "function" ? options.store(exit) : options?.store) ?? true

/** Undefined where nobody asked to keep failures, or the namespace cannot keep this one. */
const failureRow = <K, A, X, E, R>(
  { options, space: { namespace, policy } }: Load<K, A, X, E, R>,
  { text }: Missing<K>,
  error: E,
  loadTime: number,
  draw: number
): NewRow | undefined => {
  if (namespace.failures === undefined) return undefined
  const exit = Exit.fail(error)
  const asked = typeof options?.timeToLive === "function" ? options.timeToLive(exit) : undefined
  const lifetime = lifetimeOf(asked, policy.failureTimeToLive, namespace.name)
  if (Exit.isFailure(lifetime) || lifetime.value <= 0 || !isKept(options, exit)) return undefined
  if (!namespace.failures.is(error)) return undefined
  const encoded = namespace.failures.encode(error, text, policy.maxValueSize)
  if (Exit.isFailure(encoded)) return undefined
  return {
    key: text,
    ...encoded.value,
    schemaVersion: namespace.version,
    timeToLive: CachePolicy.jittered(lifetime.value, policy.jitter, draw),
    staleFor: 0,
    isFailure: true,
    loadTime,
    tags: [],
    validators: {}
  }
}

const failedToKeep = <K, A>(want: Missing<K>, row: NewRow, error: unknown, now: number): ToKeep<K, A> => {
  const expiresAt = now + row.timeToLive
  // Nobody is given the value of an entry that stands for a failure.
  const entry: CacheEntry<A> = {
    value: undefined as A,
    origin: "loader",
    freshness: "fresh",
    createdAt: now,
    expiresAt,
    staleUntil: expiresAt,
    tags: [],
    validators: {}
  }
  return { ...want, row, entry, failure: Exit.fail(error) as Exit.Failure<never, unknown> }
}

/** In one piece but for the store's part: memory and the other processes learn what that did. */
const keep = <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  loaded: ReadonlyArray<ToKeep<K, A>>,
  startedAt: number,
  loadedAt: number
): Effect.Effect<ReadonlyArray<KeyText>, X> =>
  Effect.uninterruptibleMask((restore) => keepWhole(load, loaded, startedAt, loadedAt, restore))

const keepWhole = Effect.fnUntraced(function* <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  loaded: ReadonlyArray<ToKeep<K, A>>,
  startedAt: number,
  loadedAt: number,
  restore: <B, E2>(effect: Effect.Effect<B, E2>) => Effect.Effect<B, E2>
): Effect.fn.Return<ReadonlyArray<KeyText>, X> {
  const { onStored, route, self, space } = load
  const { counters, fences, namespace, policy } = space
  // The store would refuse it, and those who tell of invalidations may have forgotten one by now.
  if (loaded.length === 0 || loadedAt - startedAt >= Duration.toMillis(self.store.fenceLifetime)) return []
  const fills = loaded.flatMap((kept) => {
    const isStored = route.keepStore && !fences.isBroken(kept.local, kept.entry.tags)
    return isStored && kept.fence !== undefined ? [{ ...kept.row, fence: kept.fence, kept }] : []
  })
  const inBackground = policy.storeWrites === "background"
  const mark = self.pending.mark()
  const stored =
    fills.length === 0 || inBackground
      ? []
      : yield* StoreGuard.recover<ReadonlyArray<boolean>, [], X>(
          self.store.fill(namespace.name, fills),
          namespace,
          counters,
          []
        ).pipe(
          restore,
          Effect.onError(() => doubt(load, fills))
        )
  const outcomes = new Map(fills.map(({ kept }, index) => [kept, stored[index]]))
  const now = yield* Clock.currentTimeMillis
  const vouchedUntil = vouch(space, now, drawFor(space, yield* Effect.fiber))
  for (const kept of loaded) {
    const wasStored = outcomes.get(kept)
    if (wasStored === false) counters.refused++
    else if (route.keepMemory) {
      const { entry, failure, fence, row } = kept
      const { data, loadTime, size } = row
      // What is stored later may have been changed later too.
      const unstored = wasStored === true || inBackground ? undefined : fence
      const held = { entry, failure, size, data, loadTime, retryAt: 0, vouchedUntil: undefined, fence: undefined }
      const isIntact = !fences.isBroken(kept.local, entry.tags)
      // Nor does one who has read what it replaced bring that back.
      if (wasStored === true && isReplacing(load, kept)) forget(space, kept.id, { cause: "replaced" })
      if (isIntact) keepInMemory(space, { id: kept.id, local: intact }, { ...held, unstored }, vouchedUntil, now)
    }
  }
  const written = fills.filter((_, index) => stored[index] === true)
  if (written.length > 0) {
    const keys = written.map(({ key }) => key)
    const invalidation = { _tag: "Keys", namespace: namespace.name, keys } as const
    const wasPending = self.pending.settle(invalidation, mark)
    self.unheard.settle(namespace.name, keys)
    // The others may hold, or have read again, what these rows have replaced.
    const replaced = wasPending ? keys : written.filter(({ kept }) => isReplacing(load, kept)).map(({ key }) => key)
    if (replaced.length > 0) {
      yield* self.bus.publish({ origin: self.id, invalidation: { ...invalidation, keys: replaced } })
    }
  }
  if (!inBackground) return written.map(({ key }) => key)
  for (const { kept, ...row } of fills) {
    const onRefused = () => forget(space, kept.id, { cause: "remote" })
    const isReplacement = isReplacing(load, kept)
    const onEnd = (isStored: boolean) => onStored?.(row.key, isStored)
    self.writes.enqueue({ namespace: namespace.name, row, counters, onRefused, isReplacement, onEnd })
  }
  return fills.map(({ key }) => key)
})

interface Fill<K> {
  readonly key: KeyText
  readonly kept: Missing<K>
}

/** Whether it takes the place of something that others may hold, or may have read again. */
const isReplacing = <K, A, X, E, R>({ progress }: Load<K, A, X, E, R>, { id, replaces }: Missing<K>): boolean =>
  replaces || progress.reserve.has(id)

/** Nobody has heard whether the store took them: what they may have replaced is stale from now on, here and elsewhere. */
const doubt = <K, A, X, E, R>(load: Load<K, A, X, E, R>, fills: ReadonlyArray<Fill<K>>): Effect.Effect<void> =>
  Effect.clockWith((clock) => {
    const { route, self, space } = load
    const replaced = fills.filter(({ kept }) => isReplacing(load, kept))
    if (replaced.length === 0) return Effect.void
    const staleSince = clock.currentTimeMillisUnsafe()
    const { name: namespace } = space.namespace
    const keys = replaced.map(({ key }) => key)
    if (route.keepMemory) {
      for (const { kept } of replaced) forget(space, kept.id, { cause: "replaced", staleSince })
      self.unheard.add(namespace, keys, staleSince)
    }
    return self.bus.publish({ origin: self.id, invalidation: { _tag: "Keys", namespace, keys, keepsStale: true } })
  })

const rearm = Effect.fnUntraced(function* <K, A, X, E, R>(
  { route, self, space }: Load<K, A, X, E, R>,
  reserves: ReadonlyArray<readonly [Missing<K>, Held<A>]>,
  now: number
) {
  const { counters, namespace, policy } = space
  if (reserves.length === 0 || policy.failureBackoff <= 0) return
  const vouchedUntil = vouch(space, now, drawFor(space, yield* Effect.fiber))
  const rows: Array<Rearm> = []
  for (const [want, held] of reserves) {
    const retryAt = Math.min(now + policy.failureBackoff, held.entry.staleUntil)
    counters.rearmed++
    if (route.keepMemory) {
      // What the store did not confirm, memory vouches for no longer than it did.
      const vouched = want.fence === undefined ? (held.vouchedUntil ?? vouchedUntil) : vouchedUntil
      keepInMemory(space, want, { ...held, retryAt }, vouched, now)
    }
    if (route.keepStore && held.fence !== undefined) {
      rows.push({ key: want.text, fence: held.fence, retryAfter: retryAt - now })
    }
  }
  if (rows.length > 0) {
    yield* StoreGuard.recover<void, void, never>(
      self.store.rearm(namespace.name, rows),
      { onStoreFailure: "recover" },
      counters,
      undefined
    )
  }
})

/**
 * Counts a value that is served and not kept, and says so in the log, once per
 * namespace and reason; fails instead where the namespace chose so. A value that
 * is too large is served all the same.
 *
 * @category running
 * @since 0.1.0
 */
export const keptNowhere = <K, A, X>(
  self: CacheParts,
  { name, onStoreFailure }: Pick<Any<K, A>, "name" | "onStoreFailure">,
  space: Space<K, A> | undefined,
  trouble: CacheError
): Effect.Effect<void, X> =>
  Effect.suspend(() => {
    const { _tag } = trouble.reason
    if (space !== undefined) space.counters[_tag === "ValueTooLarge" ? "tooLarge" : "unencodable"]++
    // Namespaces with "fail" have `CacheError` in X.
    if (onStoreFailure === "fail" && _tag !== "ValueTooLarge") return Effect.fail(trouble as X)
    const complaint = `${name}\0${_tag}`
    if (self.complaints.has(complaint)) return Effect.void
    self.complaints.add(complaint)
    return Effect.logError(`cache: served without being cached: ${trouble.message}`)
  })
