/**
 * The reference implementation of `CacheStore`, in the memory of this process;
 * see `CacheStore.layerMemory`.
 *
 * Every step is synchronous, so calls never interleave. Time is that of the
 * `Clock` it is made with: two caches over one store share its clock, whatever
 * theirs say. It has no transactions: `inTransaction` is always false.
 *
 * It never fails, and it is not bounded: it is meant for tests.
 *
 * @since 0.1.0
 */
import { type Clock, Duration, Effect, Stream } from "effect"
import type { Fence, KeyText, NewRow, NoRow, Rearm, ScannedRow, StoredRow, Validators } from "./StoredRow.ts"

interface Memory {
  readonly clock: Clock.Clock
  readonly namespaces: Map<string, Map<KeyText, MemoryRow>>
  readonly generations: Map<string, number>
  epoch: number
  version: number
}

// `data` is undefined in a tombstone.
interface MemoryRow extends Omit<ScannedRow, "lastAccessed" | "accessCount"> {
  readonly data: string | undefined
  readonly schemaVersion: number
  readonly retryAt: number
  readonly loadTime: number
  readonly isFailure: boolean
  readonly validators: Validators
  readonly version: number
  readonly generation: number
}

/**
 * A new, empty store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.clockWith((clock) => {
  const self: Memory = { clock, namespaces: new Map(), generations: new Map(), epoch: 0, version: 0 }
  return Effect.succeed({
    fenceLifetime: Duration.millis(fenceLifetime),
    inTransaction: () => false,
    afterCommit: (effect: Effect.Effect<void>) => effect,
    read: (namespace: string, keys: ReadonlyArray<KeyText>) =>
      Effect.sync(() => keys.map((key) => readRow(self, namespace, key))),
    fill: (namespace: string, rows: ReadonlyArray<FillRow>) =>
      Effect.sync(() => rows.map((row) => fillRow(self, namespace, row))),
    rearm: (namespace: string, rows: ReadonlyArray<Rearm>) =>
      Effect.sync(() => {
        for (const row of rows) rearmRow(self, namespace, row)
      }),
    write: (namespace: string, rows: ReadonlyArray<NewRow>) =>
      Effect.sync(() => {
        for (const row of rows) putRow(self, namespace, row)
      }),
    remove: (namespace: string, keys: ReadonlyArray<KeyText>) => Effect.sync(() => removeRows(self, namespace, keys)),
    clear: (namespace: string) => Effect.sync(() => clearNamespace(self, namespace)),
    clearAll: Effect.sync(() => clearNamespaces(self)),
    scan: (namespace: string) => Stream.suspend(() => Stream.fromIterable(liveRows(self, namespace))),
    sweep: (limit: number) => Effect.sync(() => sweepRows(self, limit)),
    ping: Effect.void
  })
})

type FillRow = NewRow & { readonly fence: Fence }

const fenceLifetime = 10 * 60_000

const readRow = (self: Memory, namespace: string, key: KeyText): StoredRow | NoRow => {
  const row = self.namespaces.get(namespace)?.get(key)
  const fence = { version: row?.version ?? 0, generation: generationOf(self, namespace), takenAt: now(self) }
  if (!isLive(self, namespace, row)) return { _tag: "NoRow", fence }
  return {
    _tag: "Row",
    data: row.data,
    schemaVersion: row.schemaVersion,
    age: now(self) - row.createdAt,
    timeToLive: row.expiresAt - now(self),
    staleTimeToLive: row.staleUntil - now(self),
    retryAfter: Math.max(0, row.retryAt - now(self)),
    loadTime: row.loadTime,
    isFailure: row.isFailure,
    validators: row.validators,
    tags: row.tags,
    fence
  }
}

const fillRow = (self: Memory, namespace: string, row: FillRow): boolean => {
  const present = self.namespaces.get(namespace)?.get(row.key)
  const holds =
    now(self) - row.fence.takenAt < fenceLifetime &&
    row.fence.generation === generationOf(self, namespace) &&
    (present === undefined || present.version === row.fence.version)
  if (holds) putRow(self, namespace, row)
  return holds
}

const rearmRow = (self: Memory, namespace: string, { fence, key, retryAfter }: Rearm): void => {
  const rows = self.namespaces.get(namespace)
  const row = rows?.get(key)
  if (row?.version !== fence.version || row.generation !== fence.generation) return
  rows?.set(key, { ...row, retryAt: Math.min(row.staleUntil, now(self) + retryAfter) })
}

const putRow = (self: Memory, namespace: string, row: NewRow): void => {
  const expiresAt = now(self) + row.timeToLive
  put(self, namespace, { ...row, expiresAt, staleUntil: expiresAt + row.staleFor })
}

const removeRows = (self: Memory, namespace: string, keys: ReadonlyArray<KeyText>): ReadonlyArray<boolean> => {
  const found = keys.map((key) => isLive(self, namespace, self.namespaces.get(namespace)?.get(key)))
  const expiresAt = now(self) + fenceLifetime
  const tombstone = { ...nothing, expiresAt, staleUntil: expiresAt }
  for (const key of keys) put(self, namespace, { ...tombstone, key })
  return found
}

const nothing = {
  data: undefined,
  size: 0,
  schemaVersion: 0,
  loadTime: 0,
  isFailure: false,
  validators: {},
  tags: []
}

// A row may come with more than is kept, such as a fence.
const put = (
  self: Memory,
  namespace: string,
  row: Omit<MemoryRow, "createdAt" | "retryAt" | "version" | "generation">
): void => {
  const { key, data, size, schemaVersion, expiresAt, staleUntil, loadTime, isFailure, validators, tags } = row
  const rows = self.namespaces.get(namespace) ?? new Map<KeyText, MemoryRow>()
  self.namespaces.set(namespace, rows)
  rows.set(key, {
    key,
    data,
    size,
    schemaVersion,
    createdAt: now(self),
    expiresAt,
    staleUntil,
    retryAt: 0,
    loadTime,
    isFailure,
    validators,
    tags,
    version: ++self.version,
    generation: generationOf(self, namespace)
  })
}

const clearNamespace = (self: Memory, namespace: string): number => {
  const count = liveRows(self, namespace).length
  self.generations.set(namespace, (self.generations.get(namespace) ?? 0) + 1)
  self.namespaces.delete(namespace)
  return count
}

// The epoch is for the namespaces that have no row yet: a fill may be under way.
const clearNamespaces = (self: Memory): number => {
  const counts = [...self.namespaces.keys()].map((namespace) => clearNamespace(self, namespace))
  self.epoch++
  return counts.reduce((sum, count) => sum + count, 0)
}

const liveRows = (self: Memory, namespace: string): ReadonlyArray<ScannedRow> =>
  [...(self.namespaces.get(namespace)?.values() ?? [])]
    .filter((row) => isLive(self, namespace, row))
    .map(({ key, size, createdAt, expiresAt, staleUntil, tags }) => {
      return { key, size, createdAt, expiresAt, staleUntil, lastAccessed: createdAt, accessCount: 0, tags }
    })
    .toSorted((a, b) => compareCodePoints(a.key, b.key))

// A dead row is kept for as long as a load that began before its last change may
// still be under way: without the row, the late fill would find nothing amiss.
const sweepRows = (self: Memory, limit: number): number => {
  let count = 0
  for (const rows of self.namespaces.values()) {
    for (const [key, row] of rows) {
      if (count >= limit) return count
      const isDead = row.staleUntil <= now(self) && row.createdAt + fenceLifetime <= now(self)
      if (isDead && rows.delete(key)) count++
    }
  }
  return count
}

const now = (self: Memory): number => self.clock.currentTimeMillisUnsafe()

const generationOf = (self: Memory, namespace: string): number => self.epoch + (self.generations.get(namespace) ?? 0)

const isLive = (self: Memory, namespace: string, row: MemoryRow | undefined): row is MemoryRow & { data: string } =>
  row?.data !== undefined && row.staleUntil > now(self) && row.generation === generationOf(self, namespace)

// JavaScript orders strings by UTF-16 units, in which surrogates come before
// U+E000 to U+FFFF; the code points that they stand for come after.
const compareCodePoints = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return rankOfUnit(x) - rankOfUnit(y)
  }
  return a.length - b.length
}

const rankOfUnit = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit)
