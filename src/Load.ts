/**
 * What happens in a flight: the store is asked, the loader runs with the keys
 * that the store does not have, and what it brings is kept.
 *
 * The local fences of the keys are opened in the synchronous step in which the
 * load starts, before anything is read (`LocalFence`); the store's own fences come
 * with its answer (`CacheStore`). Nothing is kept in memory once a key's local
 * fence is broken, and nothing is stored once either is.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Duration, Effect, Exit, type Fiber, Option } from "effect"
import type { CacheEntry } from "./CacheEntry.ts"
import type { CacheError } from "./CacheError.ts"
import type { Fence, KeyText, NewRow, StoredRow } from "./CacheStore.ts"
import type { LocalFence } from "./LocalFence.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { Namespace, OnStoreFailure, StoreFailure } from "./Namespace.ts"
import type { BulkLoader, GetOrSetOptions } from "./Operations.ts"
import type { Route } from "./Route.ts"
import { type CacheParts, type Entries, rowOf, type Space } from "./Space.ts"
import * as StoreGuard from "./StoreGuard.ts"

/**
 * A key that memory does not have.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wanted<K> {
  readonly id: KeyId
  readonly key: K
  readonly text: KeyText
}

/**
 * What a load works with. Without `loadMissing` it only looks things up.
 *
 * @category models
 * @since 0.1.0
 */
export interface Load<K, A, F extends OnStoreFailure, E, R> {
  readonly self: CacheParts
  readonly space: Space<K, A, F>
  readonly route: Route
  readonly loadMissing: BulkLoader<K, A, E, R> | undefined
  readonly options: GetOrSetOptions | undefined
}

interface Fenced<K> extends Wanted<K> {
  readonly local: LocalFence
}

/**
 * Finds or loads the wanted keys. Without a loader, those that the store does not
 * have are not among the entries. `settled` hears of each key that needs no loader:
 * from then on its entry only ages here, so a newcomer should look for itself.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <K, A, F extends OnStoreFailure, E, R>(
  load: Load<K, A, F, E, R>,
  wanted: ReadonlyArray<Wanted<K>>,
  settled: (id: KeyId) => void = noop
): Effect.Effect<Entries<A>, E | StoreFailure<F>, R> => {
  const { fences, namespace } = load.space
  const fenced: Array<Fenced<K>> = []
  return Effect.suspend(() => {
    for (const want of wanted) fenced.push({ ...want, local: fences.open(want.id) })
    return runFenced(load, fenced, settled)
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        for (const { id, local } of fenced) fences.close(id, local)
      })
    ),
    Effect.withSpan(
      load.loadMissing === undefined ? "TieredCache.lookup" : "TieredCache.load",
      { attributes: { "cache.namespace": namespace.name, "cache.keys": wanted.length } },
      { captureStackTrace: false }
    )
  )
}

const runFenced = Effect.fnUntraced(function* <K, A, F extends OnStoreFailure, E, R>(
  load: Load<K, A, F, E, R>,
  wanted: ReadonlyArray<Fenced<K>>,
  settled: (id: KeyId) => void
): Effect.fn.Return<Entries<A>, E | StoreFailure<F>, R> {
  const { loadMissing } = load
  const entries = new Map<KeyId, CacheEntry<A>>()
  const startedAt = yield* Clock.currentTimeMillis
  const missing = yield* lookupStore(load, wanted, entries)
  if (loadMissing === undefined || missing.length === 0) return entries
  for (const id of entries.keys()) settled(id)
  const values = yield* runLoader(
    load.space,
    missing.map(({ key }) => key),
    loadMissing
  )
  yield* writeBack(load, missing, values, startedAt, entries)
  return entries
})

const noop = () => {}

/** Without a fence the store is away or left out. */
interface Missing<K> extends Fenced<K> {
  readonly fence: Fence | undefined
}

/** Puts what the store has among the entries, and says what is still missing. */
const lookupStore = Effect.fnUntraced(function* <K, A, F extends OnStoreFailure, E, R>(
  load: Load<K, A, F, E, R>,
  wanted: ReadonlyArray<Fenced<K>>,
  entries: Map<KeyId, CacheEntry<A>>
): Effect.fn.Return<ReadonlyArray<Missing<K>>, StoreFailure<F>> {
  const { loadMissing, route, space } = load
  const { counters, namespace } = space
  if (!route.readStore || (route.force && loadMissing === undefined)) {
    return wanted.map((want) => ({ ...want, fence: undefined }))
  }
  const askedAt = yield* Clock.currentTimeMillis
  const rows = yield* StoreGuard.recover(readStore(load, wanted), namespace.onStoreFailure, counters, [])
  const now = yield* Clock.currentTimeMillis
  const missing: Array<Missing<K>> = []
  wanted.forEach((want, index) => {
    const row = rows[index]
    const value = row?._tag === "Row" && !route.force ? decodeRow(space, row) : Option.none<A>()
    if (row?._tag !== "Row" || Option.isNone(value)) {
      missing.push({ ...want, fence: row?.fence })
      return
    }
    counters.storeHits++
    const entry: CacheEntry<A> = {
      value: value.value,
      origin: "store",
      freshness: "fresh",
      createdAt: askedAt - row.age,
      expiresAt: askedAt + row.timeToLive,
      tags: row.tags
    }
    entries.set(want.id, entry)
    if (route.keepMemory) keepInMemory(space, want, entry, Buffer.byteLength(row.data), now)
  })
  if (!route.force && rows.length > 0) {
    counters.storeRequests += rows.length
    counters.storeMisses += missing.length
  }
  return missing
})

/** A forced load reads only to learn the fences under which it may fill; that is no lookup. */
const readStore = <K, A, F extends OnStoreFailure, E, R>(
  { route, self, space: { counters, namespace } }: Load<K, A, F, E, R>,
  wanted: ReadonlyArray<Fenced<K>>
) => {
  const texts = wanted.map(({ text }) => text)
  if (route.force) return self.store.read(namespace.name, texts)
  // What was answered is counted where the answer is looked at, in one step.
  return Effect.onExit(self.store.read(namespace.name, texts), (exit) =>
    Effect.sync(() => {
      if (Exit.isSuccess(exit)) return
      counters.storeRequests += texts.length
      counters.storeMisses += texts.length
    })
  )
}

const decodeRow = <K, A>({ counters, namespace }: Space<K, A>, row: StoredRow): Option.Option<A> => {
  const value = row.schemaVersion === namespace.version ? namespace.values.decode(row.data) : Option.none<A>()
  if (Option.isNone(value)) counters.undecodable++
  return value
}

/**
 * Runs the loader and counts it: a load per key, the time once.
 *
 * @category running
 * @since 0.1.0
 */
export const runLoader = <K, A, E, R>(
  { counters, namespace }: Pick<Space<K, A>, "counters" | "namespace">,
  keys: ReadonlyArray<K>,
  loadMissing: BulkLoader<K, A, E, R>
): Effect.Effect<ReadonlyArray<A>, E, R> => {
  let startedAt: number | undefined
  return Effect.withFiber<ReadonlyArray<A>, E, R>((fiber) => {
    startedAt = nowOf(fiber)
    counters.loads += keys.length
    return Effect.flatMap(loadMissing(keys), (values) =>
      values.length === keys.length ? Effect.succeed(values) : Effect.die(wrongNumber(namespace.name, keys, values))
    )
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

/** Keeps what was loaded, where the fences still hold, and puts it among the entries. */
const writeBack = Effect.fnUntraced(function* <K, A, F extends OnStoreFailure, E, R>(
  { options, route, self, space }: Load<K, A, F, E, R>,
  missing: ReadonlyArray<Missing<K>>,
  values: ReadonlyArray<A>,
  startedAt: number,
  entries: Map<KeyId, CacheEntry<A>>
): Effect.fn.Return<void, StoreFailure<F>> {
  const { counters, namespace } = space
  const now = yield* Clock.currentTimeMillis
  const loaded: Array<Loaded<K, A>> = []
  for (const [index, want] of missing.entries()) {
    const value = values[index]!
    const row = rowOf(space, want.text, value, options)
    const timeToLive = Exit.isSuccess(row) ? row.value.timeToLive : 0
    const entry: CacheEntry<A> = {
      value,
      origin: "loader",
      freshness: "fresh",
      createdAt: now,
      expiresAt: now + timeToLive,
      tags: []
    }
    entries.set(want.id, entry)
    if (Exit.isFailure(row)) yield* keptNowhere(self, namespace, space, errorOf(row))
    else if (timeToLive > 0) loaded.push({ ...want, row: row.value, entry })
  }
  // The store would refuse it, and those who tell of invalidations may have forgotten one by now.
  if (now - startedAt >= Duration.toMillis(self.store.fenceLifetime)) return
  const fills = loaded.flatMap((load) =>
    route.keepStore && load.fence !== undefined && !load.local.broken ? [{ ...load.row, fence: load.fence, load }] : []
  )
  const stored =
    fills.length === 0
      ? []
      : yield* StoreGuard.recover(self.store.fill(namespace.name, fills), namespace.onStoreFailure, counters, [])
  const refused = new Set(fills.filter((_, index) => stored[index] === false).map(({ load }) => load))
  counters.refused += refused.size
  if (!route.keepMemory) return
  const filledAt = yield* Clock.currentTimeMillis
  for (const load of loaded) if (!refused.has(load)) keepInMemory(space, load, load.entry, load.row.size, filledAt)
})

interface Loaded<K, A> extends Missing<K> {
  readonly row: NewRow
  readonly entry: CacheEntry<A>
}

const keepInMemory = <K, A>(
  { partition, policy }: Space<K, A>,
  { id, local }: Fenced<K>,
  { createdAt, expiresAt: freshUntil, tags, value }: CacheEntry<A>,
  size: number,
  now: number
): void => {
  if (local.broken) return
  const expiresAt = Math.min(freshUntil, now + policy.memoryTimeToLive)
  partition.put(id, { value, createdAt, expiresAt, freshUntil, size, tags }, now)
}

/**
 * Counts a value that is served and not kept, and says so in the log, once per
 * namespace and reason; fails instead where the namespace chose so. A value that
 * is too large is served all the same.
 *
 * @category running
 * @since 0.1.0
 */
export const keptNowhere = <K, A, F extends OnStoreFailure>(
  self: CacheParts,
  { name, onStoreFailure }: Namespace<K, A, F>,
  space: Space<K, A, F> | undefined,
  trouble: CacheError
): Effect.Effect<void, StoreFailure<F>> =>
  Effect.suspend(() => {
    const { _tag } = trouble.reason
    if (space !== undefined) space.counters[_tag === "ValueTooLarge" ? "tooLarge" : "unencodable"]++
    if (onStoreFailure === "fail" && _tag !== "ValueTooLarge") {
      return Effect.fail(trouble) as Effect.Effect<never, StoreFailure<F>>
    }
    const complaint = `${name}\0${_tag}`
    if (self.complaints.has(complaint)) return Effect.void
    self.complaints.add(complaint)
    return Effect.logError(`cache: served without being cached: ${trouble.message}`)
  })

/**
 * The time on a fiber's clock, in milliseconds since the epoch.
 *
 * @internal
 */
export const nowOf = (fiber: Fiber.Fiber<unknown, unknown>): number =>
  fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()

/**
 * The error of an exit that failed with one.
 *
 * @internal
 */
export const errorOf = (exit: Exit.Failure<unknown, CacheError>): CacheError => Cause.squash(exit.cause) as CacheError
