/**
 * What a load finds in the store, and what it may fall back on.
 *
 * A fresh row is the answer. A stale one becomes the reserve of the load, before
 * what memory has: both are past their time, and the store's is the one that all
 * processes see. Where the store answers that it has nothing, what memory still
 * has is dropped too, since somebody may have removed it, unless the store never
 * had it and has not changed since. Only while the store is away does memory's
 * own reserve stand unconfirmed.
 *
 * A row that this process was told is wrong, and could not tell the store
 * (`PendingInvalidations`), is not there.
 *
 * Written without generators, as all of a read up to here: with one for each step, and an
 * object spread into another for each key, a read took 11 µs of this process instead of 8.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Exit, Option } from "effect"
import * as Aging from "./Aging.ts"
import type { CacheError } from "./CacheError.ts"
import type { NoRow, StoredRow } from "./CacheStore.ts"
import { drawFor, keepInMemory, vouch } from "./InMemory.ts"
import type { Fenced, Load, Missing } from "./LoadTask.ts"
import type { Held, Landing, Space } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"
import { nowOf } from "./Surroundings.ts"

/**
 * Puts what the store has among what the load brings, and says what is still
 * missing.
 *
 * @category running
 * @since 0.1.0
 */
export const lookupStore = <K, A, X, E, R>(
  load: Load<K, A, X, E, R>,
  wanted: ReadonlyArray<Fenced<K>>,
  landing: Landing<A>
): Effect.Effect<ReadonlyArray<Missing<K>>, X> =>
  Effect.withFiber((fiber) => {
    const { route, self, space } = load
    const { counters, namespace } = space
    const asked: Array<Fenced<K>> = []
    const missing: Array<Missing<K>> = []
    for (const want of wanted) {
      if (isAsked(load, want)) asked.push(want)
      else missing.push({ ...want, fence: undefined, replaces: false })
    }
    if (asked.length === 0) return Effect.succeed(missing)
    // What is wrong when the store is asked may be done by the time its old answer arrives.
    const wrong = asked.map(({ text }) => self.pending.isPending(namespace.name, text))
    const wrongTags = self.pending.tagsOf(namespace.name)
    const looked = asked.map((want) => isLookedUp(load, want))
    // What nobody waits for is nobody's lookup.
    const lookups = route.force || load.draw !== undefined ? 0 : looked.filter(Boolean).length
    const askedAt = nowOf(fiber)
    const rows = StoreGuard.recover<ReadonlyArray<StoredRow | NoRow>, [], X>(
      soonEnough(load, asked, askedAt, readStore(load, asked, lookups)),
      namespace,
      counters,
      []
    )
    return Effect.map(rows, (rows) => {
      const now = nowOf(fiber)
      const vouchedUntil = vouch(space, now, drawFor(space, fiber))
      let hits = 0
      for (const [index, want] of asked.entries()) {
        const row = rows[index]
        if (row !== undefined) space.fences.see(want.local, row.fence.snapshot)
        const isWrong = wrong[index]! || (row?._tag === "Row" && row.tags.some((tag) => wrongTags.has(tag)))
        const isSeen = looked[index]! && !isWrong
        const found = row === undefined || !isSeen ? undefined : look(load, want, row, askedAt, now)
        if (found === undefined) {
          missing.push({ ...want, fence: row?.fence, replaces: row?._tag === "Row" })
          continue
        }
        hits++
        if (lookups > 0) space.accesses.read(want.text)
        if (found.failure === undefined) landing.entries.set(want.id, found.entry)
        else {
          if (load.loadMissing !== undefined) counters.cachedFailures++
          landing.failures.set(want.id, found.failure)
        }
        if (route.keepMemory) keepInMemory(space, want, found, vouchedUntil, now)
      }
      if (lookups > 0 && rows.length > 0) {
        counters.storeRequests += lookups
        counters.storeHits += hits
        counters.storeMisses += lookups - hits
      }
      return missing
    })
  })

const isLookedUp = <K, A, X, E, R>({ progress, route }: Load<K, A, X, E, R>, { id }: Fenced<K>): boolean =>
  route.readStore && (route.readStoreWhenStale || !progress.reserve.has(id))

/** Also where nothing is looked up: a load can only store under a fence that is older than it. */
const isAsked = <K, A, X, E, R>(load: Load<K, A, X, E, R>, want: Fenced<K>): boolean =>
  load.loadMissing === undefined
    ? isLookedUp(load, want) && !load.route.force
    : isLookedUp(load, want) || load.route.keepStore

/** With a reserve for every key the store is not waited for as long; that is no failure of it. */
const soonEnough = <K, A, X, E, R, B>(
  { progress, self, space }: Load<K, A, X, E, R>,
  asked: ReadonlyArray<Fenced<K>>,
  now: number,
  call: Effect.Effect<ReadonlyArray<B>, CacheError>
) => {
  const hasReserve = asked.every(({ id }) => {
    const entry = progress.reserve.get(id)?.entry
    return entry !== undefined && Aging.mayStandIn(entry, space.policy, now)
  })
  return hasReserve && Duration.isFinite(self.softReadTimeout)
    ? Effect.timeoutOrElse(call, { duration: self.softReadTimeout, orElse: () => Effect.succeed([]) })
    : call
}

const readStore = <K, A, X, E, R>(
  { self, space: { counters, namespace } }: Load<K, A, X, E, R>,
  asked: ReadonlyArray<Fenced<K>>,
  lookups: number
) => {
  const texts = asked.map(({ text }) => text)
  // What was answered is counted where the answer is looked at, in one step.
  return Effect.onExit(self.store.read(namespace.name, texts), (exit) =>
    Effect.sync(() => {
      if (Exit.isSuccess(exit)) return
      counters.storeRequests += lookups
      counters.storeMisses += lookups
    })
  )
}

/** What the store has of one key, if it is the answer; else it may become the reserve of the load. */
const look = <K, A, X, E, R>(
  { draw, progress, route, self, space }: Load<K, A, X, E, R>,
  { id, text }: Fenced<K>,
  row: StoredRow | NoRow,
  askedAt: number,
  now: number
): Held<A> | undefined => {
  if (self.pending.isPending(space.namespace.name, text, row._tag === "Row" ? row.tags : [])) return undefined
  const known = progress.reserve.get(id)
  const found = row._tag === "Row" ? decodeRow(space, row, askedAt) : undefined
  const isFresh = found !== undefined && row._tag === "Row" && row.timeToLive > 0
  // Of a change of many keys at once memory hears by the bus.
  if (!isFresh && known?.unstored?.version === row.fence.version) return undefined
  if (found !== undefined && found.failure === undefined) progress.reserve.set(id, found)
  else if (known !== undefined) {
    progress.reserve.delete(id)
    space.partition.remove(id, "remote")
  }
  const isAnswer =
    isFresh &&
    !route.force &&
    !(draw !== undefined && Aging.isDue(found.entry, found.loadTime, space.policy, now, draw))
  return isAnswer ? found : undefined
}

const decodeRow = <K, A>(
  { counters, namespace }: Space<K, A>,
  row: StoredRow,
  askedAt: number
): Held<A> | undefined => {
  const isCurrent = row.schemaVersion === namespace.version
  const failure =
    isCurrent && row.isFailure && namespace.failures !== undefined
      ? Option.map(namespace.failures.decode(row.data), fail)
      : Option.none()
  const value = isCurrent && !row.isFailure ? namespace.values.decode(row.data) : Option.none<A>()
  if (Option.isNone(failure) && Option.isNone(value)) {
    counters.undecodable++
    return undefined
  }
  const expiresAt = askedAt + row.timeToLive
  return {
    entry: {
      // Where there is a failure, nobody asks for the value.
      value: Option.getOrElse(value, () => undefined as A),
      origin: "store",
      freshness: "fresh",
      createdAt: askedAt - row.age,
      expiresAt,
      staleUntil: Math.max(expiresAt, askedAt + row.staleTimeToLive),
      tags: row.tags,
      validators: row.validators
    },
    failure: Option.getOrUndefined(failure),
    size: Buffer.byteLength(row.data),
    data: row.data,
    loadTime: row.loadTime,
    retryAt: askedAt + row.retryAfter,
    vouchedUntil: undefined,
    fence: row.fence,
    unstored: undefined
  }
}

const fail = (error: unknown) => Exit.fail(error) as Exit.Failure<never, unknown>
