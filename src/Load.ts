/**
 * What happens in a flight: the store is asked (`Lookup`), the loader runs with the
 * keys that the store does not have, and what it brings is kept (`Keep`). Keys that
 * another process is loading are left to it, waited for and looked up again
 * (`Lease`).
 *
 * The local fences of the keys are opened in the synchronous step in which the
 * load starts, before anything is read (`LocalFence`); the store's own fences come
 * with its answer (`CacheStore`). Both are taken anew for each look at the store.
 * Nothing is kept in memory once a key's local fence is broken, and nothing is
 * stored once either is.
 *
 * A typed failure of the loader is what the load brings, by key: each caller
 * decides for itself what will do in its place. A defect or an interruption ends
 * the flight.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Effect, Exit, Fiber } from "effect"
import type { CacheEntry } from "./CacheEntry.ts"
import type { KeyText } from "./CacheStore.ts"
import { keepInMemory, reserveIn, vouch } from "./InMemory.ts"
import { keepFailure, keepValues } from "./Keep.ts"
import * as Lease from "./Lease.ts"
import { Loaded } from "./Loaded.ts"
import type { Fenced, Load, Missing, Wanted } from "./LoadTask.ts"
import type { LocalFence } from "./LocalFence.ts"
import { lookupStore } from "./Lookup.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { BulkLoader } from "./Operations.ts"
import { type Landing, ownCopy, type Space } from "./Space.ts"
import * as Span from "./Span.ts"
import { nowOf } from "./Surroundings.ts"

/**
 * Finds or loads the wanted keys. `settled` hears of those that need no loader, or
 * no other, before the load ends: whoever waits for no more has them, and from then on
 * their entries only age here, so a newcomer should look for itself.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  wanted: ReadonlyArray<Wanted<K>>,
  settled: (ids: ReadonlyArray<KeyId>) => void
): Effect.Effect<Landing<A>, X, R> => {
  const { loadMissing, progress, space } = load
  const { fences, namespace } = space
  const open = new Map<KeyId, Fenced<K>["local"]>()
  const fence: Fence<K> = (wanted) =>
    wanted.map((want) => {
      const [before, local] = [open.get(want.id), fences.open(want.id)]
      if (before !== undefined) {
        renewReserve(load, want.id, before)
        fences.close(want.id, before)
      }
      open.set(want.id, local)
      return { id: want.id, key: want.key, text: want.text, local }
    })
  const found = Effect.suspend(() => {
    const fenced = fence(wanted)
    if (loadMissing === undefined) return Effect.as(lookupStore(load, fenced, progress.landing), progress.landing)
    return Effect.flatMap(look(load, fenced), (first) =>
      first.toLoad.length === 0
        ? Effect.succeed(progress.landing)
        : Lease.during(load, (lease, load) => loadLeased(load, loadMissing, lease, first, fence, settled))
    )
  })
  const ended = Effect.ensuring(
    found,
    Effect.suspend(() => {
      for (const [id, local] of open) fences.close(id, local)
      return progress.loading.open
    })
  )
  return Span.within(ended, loadMissing === undefined ? "TieredCache.lookup" : "TieredCache.load", () => ({
    attributes: { "cache.namespace": namespace.name, "cache.keys": wanted.length }
  }))
}

/** New fences in place of those that are open: what changes between two looks at the store is no harm to the later. */
type Fence<K> = (wanted: ReadonlyArray<Wanted<K>>) => ReadonlyArray<Fenced<K>>

/** What has been changed meanwhile is no reserve any more: the new fence would let it into memory again. */
const renewReserve = <K, A, X, E, R>(
  { progress: { reserve }, route, space }: Load<K, A, X, E, R>,
  id: KeyId,
  before: LocalFence
): void => {
  const known = reserve.get(id)
  if (known === undefined || !space.fences.isBroken(before, known.entry.tags)) return
  const held = reserveIn(space, route, id, nowOf(Fiber.getCurrent()!))
  if (held === undefined) reserve.delete(id)
  else reserve.set(id, held)
}

/** What is left to be loaded after a look at the store, and when that began. */
interface Look<K> {
  readonly toLoad: ReadonlyArray<Missing<K>>
  readonly startedAt: number
}

const look = <K, A, X, E, R>(load: Load<K, A, X, E, R>, wanted: ReadonlyArray<Fenced<K>>): Effect.Effect<Look<K>, X> =>
  Effect.withFiber((fiber) => {
    const { landing } = load.progress
    const startedAt = nowOf(fiber)
    return Effect.map(lookupStore(load, wanted, landing), (missing) => {
      if (missing.length === 0) return { toLoad: missing, startedAt }
      const now = nowOf(fiber)
      return { toLoad: missing.filter((want) => !isRearmed(load, want, now, landing)), startedAt }
    })
  })

/** Rounds of loading and looking again, until nothing is left to another process. */
const loadLeased = Effect.fnUntraced(function* <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  loadMissing: BulkLoader<K, A, E, R>,
  lease: Lease.Lease | undefined,
  first: Look<K>,
  fence: Fence<K>,
  settled: (ids: ReadonlyArray<KeyId>) => void
): Effect.fn.Return<Landing<A>, X, R> {
  const { progress } = load
  const { landing } = progress
  const settle = () => settled([...landing.entries.keys(), ...landing.failures.keys()])
  for (let { startedAt, toLoad } = first; toLoad.length > 0;) {
    settle()
    // Whoever has something stale to be given need not wait for the lease either.
    yield* progress.loading.open
    const turn = yield* Lease.ask(lease, toLoad)
    // Also while it is told again and again that something has changed.
    progress.loadingSince ??= yield* Clock.currentTimeMillis
    if (turn.ours.length > 0) yield* Lease.hold(lease, loadKeys(load, loadMissing, turn.ours, startedAt))
    if (turn.theirs.length === 0) break
    settle()
    yield* Lease.wait(lease, turn)
    ;({ startedAt, toLoad } = yield* look(load, fence(turn.theirs)))
  }
  return landing
})

/** Says which keys the store has now, or will have. */
const loadKeys = Effect.fnUntraced(function* <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  loadMissing: BulkLoader<K, A, E, R>,
  toLoad: ReadonlyArray<Missing<K>>,
  startedAt: number
): Effect.fn.Return<ReadonlyArray<KeyText>, X, R> {
  const { progress, space } = load
  const { landing } = progress
  const loadedAt = yield* Clock.currentTimeMillis
  const stale = toLoad.map(({ id }) => {
    const entry = shown(progress.reserve.get(id)?.entry, loadedAt)
    return entry === undefined ? undefined : ownCopy(space, entry)
  })
  const keys = toLoad.map(({ key }) => key)
  const exit = yield* Effect.exit(runLoader(space, keys, loadMissing, stale))
  if (progress.inBackground) yield* tellLate(space, keys.length, exit)
  const loadTime = (yield* Clock.currentTimeMillis) - loadedAt
  if (Exit.isSuccess(exit)) return yield* keepValues(load, toLoad, exit.value, startedAt, loadTime, landing)
  if (isTyped(exit.cause)) return yield* keepFailure(load, toLoad, exit, startedAt, loadTime, landing)
  // The loader's error is typed, so this is none of them.
  return yield* Effect.failCause(exit.cause as Cause.Cause<never>)
})

/** After a failed load an entry is served as it is for a while: the source is left alone. */
const isRearmed = <K, A, X, E, R>(
  { progress, route, space }: Load<K, A, X, E, R>,
  want: Missing<K>,
  now: number,
  { entries }: Landing<A>
): boolean => {
  const held = progress.reserve.get(want.id)
  if (route.force || held === undefined || now >= held.retryAt || now >= held.entry.staleUntil) return false
  entries.set(want.id, { ...held.entry, freshness: "stale" })
  // Another process re-armed it: from here on this one need not ask the store either.
  if (route.keepMemory && held.fence !== undefined) keepInMemory(space, want, held, vouch(space, now, 0), now)
  return true
}

const shown = <A>(entry: CacheEntry<A> | undefined, now: number): CacheEntry<A> | undefined =>
  entry === undefined || now < entry.expiresAt ? entry : { ...entry, freshness: "stale" }

const isTyped = (cause: Cause.Cause<unknown>): boolean => cause.reasons.every(Cause.isFailReason)

/**
 * Runs the loader and counts it: a load per key, the time once.
 *
 * @category running
 * @since 0.1.0
 */
export const runLoader = <K, A, E, R>(
  { counters, namespace }: Pick<Space<K, A>, "counters" | "namespace">,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R>,
  stale: ReadonlyArray<CacheEntry<A> | undefined>
): Effect.Effect<ReadonlyArray<A | Loaded<A>>, E, R> => {
  let startedAt: number | undefined
  return Effect.withFiber<ReadonlyArray<A | Loaded<A>>, E, R>((fiber) => {
    startedAt = nowOf(fiber)
    counters.loads += keys.length
    return Effect.flatMap(loadMissing(keys, stale), (values) => {
      if (values.length !== keys.length) return Effect.die(wrongNumber(namespace.name, keys, values))
      const without = values.findIndex((value, index) => isUnfounded(value, stale[index]))
      return without < 0 ? Effect.succeed(values) : Effect.die(unfounded(namespace.name))
    })
  }).pipe(
    Effect.onExit((exit) =>
      Effect.withFiber((fiber) => {
        if (startedAt === undefined) return Effect.void
        counters.loadTime += nowOf(fiber) - startedAt
        if (Exit.isSuccess(exit)) counters.loadSuccess += keys.length
        else if (Cause.hasInterruptsOnly(exit.cause)) counters.loadInterrupted += keys.length
        else counters.loadFailure += keys.length
        return Effect.void
      })
    )
  )
}

const wrongNumber = (namespace: string, keys: ReadonlyArray<unknown>, values: ReadonlyArray<unknown>) =>
  new Error(
    `namespace "${namespace}": the bulk loader was given ${keys.length} keys and answered with ${values.length} values; it must answer with one value per key, in order`
  )

const isUnfounded = (value: unknown, stale: unknown): boolean =>
  value instanceof Loaded && value.modified === undefined && stale === undefined

const unfounded = (namespace: string) =>
  new Error(
    `namespace "${namespace}": the loader answered "not modified" to a load that had nothing to show it; answer so only when it is given an entry`
  )

/** Nobody waits for what ends here: it is counted, and a first failure logged. */
const tellLate = <K, A>(space: Space<K, A>, keys: number, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
  const { counters, namespace } = space
  if (Exit.isSuccess(exit)) {
    counters.lateSuccess += keys
    space.failsInBackground = false
    return Effect.void
  }
  if (Cause.hasInterruptsOnly(exit.cause)) return Effect.void
  counters.lateFailure += keys
  // Of a defect the passenger tells (`Background`).
  if (Cause.hasDies(exit.cause)) return Effect.void
  const isFirst = !space.failsInBackground
  space.failsInBackground = true
  const message = `cache: a load of namespace "${namespace.name}" failed in the background`
  return isFirst ? Effect.logWarning(message, exit.cause) : Effect.logDebug(message, exit.cause)
}
