/**
 * The reference implementation of `CacheStore`, in the memory of this process;
 * see `CacheStore.layerMemory`.
 *
 * Every step is synchronous, so calls never interleave. Time is that of the
 * `Clock` it is made with: two caches over one store share its clock, whatever
 * theirs say. It has no transactions: `inTransaction` is always false.
 *
 * A change by tag, pattern or namespace is made on every row that is there, one by
 * one, and is remembered (`MemoryStoreMarks`) for the fills that come without a row.
 *
 * It never fails, its counts are exact, and it is not bounded: it is meant for tests.
 *
 * @since 0.1.0
 */
import { type Clock, Duration, Effect, Stream } from "effect"
import type { Glob } from "./Glob.ts"
import * as Leases from "./MemoryStoreLeases.ts"
import * as Marks from "./MemoryStoreMarks.ts"
import type {
  Fence,
  KeyText,
  Lease,
  LeaseGrant,
  NewRow,
  NoRow,
  Rearm,
  ScannedRow,
  StoredRow,
  Validators
} from "./StoredRow.ts"

interface Memory {
  readonly clock: Clock.Clock
  readonly namespaces: Map<string, Map<KeyText, MemoryRow>>
  readonly marks: Marks.Marks
  readonly leases: Leases.Leases
  version: number
}

// `data` is undefined in a tombstone. `changedAt` differs from `createdAt` where a row was expired.
interface MemoryRow extends ScannedRow {
  readonly data: string | undefined
  readonly schemaVersion: number
  readonly retryAt: number
  readonly loadTime: number
  readonly isFailure: boolean
  readonly validators: Validators
  readonly changedAt: number
  readonly version: number
}

/**
 * A new, empty store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.clockWith((clock) => {
  const self: Memory = { clock, namespaces: new Map(), marks: Marks.make(), leases: Leases.make(), version: 0 }
  return Effect.succeed({
    fenceLifetime: Duration.millis(fenceLifetime),
    inTransaction: () => false,
    afterCommit: (effect: Effect.Effect<void>) => effect,
    read: (namespace: string, keys: ReadonlyArray<KeyText>) =>
      Effect.sync(() => keys.map((key) => readRow(self, namespace, key))),
    fill: (namespace: string, rows: ReadonlyArray<NewRow & { readonly fence: Fence }>) =>
      Effect.sync(() => rows.map((row) => fillRow(self, namespace, row))),
    rearm: (namespace: string, rows: ReadonlyArray<Rearm>) =>
      Effect.sync(() => rows.forEach((row) => rearmRow(self, namespace, row))),
    write: (namespace: string, rows: ReadonlyArray<NewRow>) =>
      Effect.sync(() => rows.forEach((row) => writeRow(self, namespace, row))),
    remove: (namespace: string, keys: ReadonlyArray<KeyText>, keepsStale = false) =>
      Effect.sync(() => removeRows(self, namespace, keys, keepsStale)),
    removeTagged: (namespace: string, tags: ReadonlyArray<string>, keepsStale = false) =>
      Effect.sync(() =>
        removeCovered(self, namespace, (row) => row.tags.some((tag) => tags.includes(tag)), keepsStale)
      ),
    removeMatching: (namespace: string, pattern: Glob, keepsStale = false) =>
      Effect.sync(() => removeCovered(self, namespace, ({ key }) => pattern.matches(key), keepsStale)),
    clear: (namespace: string) => Effect.sync(() => clearNamespace(self, namespace)),
    clearAll: Effect.sync(() => clearNamespaces(self)),
    acquire: (namespace: string, keys: ReadonlyArray<{ key: KeyText; fence: Fence }>, lease: Lease) =>
      Effect.sync(() => keys.map(({ key, fence }) => acquireLease(self, namespace, key, fence, lease))),
    renew: (namespace: string, keys: ReadonlyArray<KeyText>, lease: Lease) =>
      Effect.sync(() => keys.forEach((key) => Leases.renew(self.leases, namespace, key, lease, now(self)))),
    release: (namespace: string, keys: ReadonlyArray<KeyText>, owner: string) =>
      Effect.sync(() => keys.forEach((key) => Leases.release(self.leases, namespace, key, owner))),
    touch: (namespace: string, uses: ReadonlyArray<{ key: KeyText; count: number }>) =>
      Effect.sync(() => uses.forEach(({ key, count }) => touchRow(self, namespace, key, count))),
    scan: (namespace: string) => Stream.suspend(() => Stream.fromIterable(liveRows(self, namespace))),
    sweep: (limit: number) => Effect.sync(() => sweepRows(self, limit)),
    ping: Effect.void
  })
})

const fenceLifetime = 10 * 60_000

const readRow = (self: Memory, namespace: string, key: KeyText): StoredRow | NoRow => {
  const row = rowOf(self, namespace, key)
  const fence = { version: row?.version ?? 0, snapshot: Marks.snapshot(self.marks), takenAt: now(self) }
  if (!isLive(self, row)) return { _tag: "NoRow", fence }
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

const fillRow = (self: Memory, namespace: string, row: NewRow & { readonly fence: Fence }): boolean => {
  const holds = isUnchanged(self, namespace, row, row.fence)
  if (holds) writeRow(self, namespace, row)
  return holds
}

// A row that was swept since has not changed since: see `sweepRows`.
const isUnchanged = (self: Memory, namespace: string, row: Marks.Covered, fence: Fence): boolean => {
  const present = rowOf(self, namespace, row.key)
  return (
    now(self) - fence.takenAt < fenceLifetime &&
    (present === undefined || present.version === fence.version) &&
    !Marks.coverSince(self.marks, fence.snapshot, namespace, row)
  )
}

const rearmRow = (self: Memory, namespace: string, { fence, key, retryAfter }: Rearm): void => {
  const row = rowOf(self, namespace, key)
  if (row?.version !== fence.version) return
  put(self, namespace, { ...row, retryAt: Math.min(row.staleUntil, now(self) + retryAfter) })
}

const writeRow = (self: Memory, namespace: string, row: NewRow): void => {
  const { key, data, size, schemaVersion, timeToLive, staleFor, loadTime, isFailure, validators, tags } = row
  const expiresAt = now(self) + timeToLive
  const staleUntil = expiresAt + staleFor
  const content = { key, data, size, schemaVersion, expiresAt, staleUntil, loadTime, isFailure, validators, tags }
  change(self, namespace, { ...untouched(self), ...content })
}

const removeRows = (
  self: Memory,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  keepsStale: boolean
): ReadonlyArray<boolean> => {
  const found = keys.map((key) => rowOf(self, namespace, key))
  const answers = found.map((row) => isLive(self, row) && (!keepsStale || row.expiresAt > now(self)))
  for (const key of keys) removeRow(self, namespace, key, keepsStale)
  return answers
}

const removeRow = (self: Memory, namespace: string, key: KeyText, keepsStale: boolean): void => {
  const row = rowOf(self, namespace, key)
  if (keepsStale && isLive(self, row) && !row.isFailure) {
    change(self, namespace, { ...row, expiresAt: Math.min(row.expiresAt, now(self)), retryAt: 0 })
  } else {
    const until = now(self) + fenceLifetime
    change(self, namespace, { ...untouched(self), ...nothing, key, expiresAt: until, staleUntil: until })
  }
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

const untouched = (self: Memory) => ({ createdAt: now(self), lastAccessed: now(self), accessCount: 0, retryAt: 0 })

/** Every change of a row, from which no fence and no lease of before holds any more. */
const change = (self: Memory, namespace: string, row: Omit<MemoryRow, "changedAt" | "version">): void => {
  put(self, namespace, { ...row, changedAt: now(self), version: ++self.version })
  Leases.end(self.leases, namespace, row.key)
}

const put = (self: Memory, namespace: string, row: MemoryRow): void => {
  const rows = self.namespaces.get(namespace) ?? new Map<KeyText, MemoryRow>()
  self.namespaces.set(namespace, rows)
  rows.set(row.key, row)
}

const removeCovered = (
  self: Memory,
  namespace: string,
  covers: (row: Marks.Covered) => boolean,
  keepsStale: boolean
): number => {
  Marks.mark(self.marks, { namespace, covers, at: now(self) })
  const covered = [...(self.namespaces.get(namespace)?.values() ?? [])].filter(covers)
  const count = covered.filter((row) => isLive(self, row)).length
  for (const { key } of covered) removeRow(self, namespace, key, keepsStale)
  Leases.endCovered(self.leases, namespace, covers)
  return count
}

const clearNamespace = (self: Memory, namespace: string): number => {
  const count = liveRows(self, namespace).length
  Marks.mark(self.marks, { namespace, covers: () => true, at: now(self) })
  self.namespaces.delete(namespace)
  Leases.endCovered(self.leases, namespace, () => true)
  return count
}

// The mark is for the namespaces that have no row yet: a fill may be under way.
const clearNamespaces = (self: Memory): number => {
  const counts = [...self.namespaces.keys()].map((namespace) => clearNamespace(self, namespace))
  Marks.mark(self.marks, { namespace: undefined, covers: () => true, at: now(self) })
  Leases.endAll(self.leases)
  return counts.reduce((sum, count) => sum + count, 0)
}

const acquireLease = (self: Memory, namespace: string, key: KeyText, fence: Fence, lease: Lease): LeaseGrant =>
  isUnchanged(self, namespace, { key, tags: [] }, fence)
    ? Leases.acquire(self.leases, namespace, key, lease, now(self))
    : { _tag: "Changed" }

const touchRow = (self: Memory, namespace: string, key: KeyText, count: number): void => {
  const row = rowOf(self, namespace, key)
  if (!isLive(self, row)) return
  put(self, namespace, { ...row, accessCount: row.accessCount + count, lastAccessed: now(self) })
}

const liveRows = (self: Memory, namespace: string): ReadonlyArray<ScannedRow> =>
  [...(self.namespaces.get(namespace)?.values() ?? [])]
    .filter((row) => isLive(self, row))
    .map(({ key, size, createdAt, expiresAt, staleUntil, lastAccessed, accessCount, tags }) => {
      return { key, size, createdAt, expiresAt, staleUntil, lastAccessed, accessCount, tags }
    })
    .toSorted((a, b) => compareCodePoints(a.key, b.key))

// A dead row is kept for as long as a load that began before its last change may
// still be under way: without the row, the late fill would find nothing amiss.
const sweepRows = (self: Memory, limit: number): number => {
  Marks.forget(self.marks, now(self) - fenceLifetime)
  Leases.forget(self.leases, now(self))
  let count = 0
  for (const rows of self.namespaces.values()) {
    for (const [key, row] of rows) {
      if (count >= limit) return count
      const isDead = row.staleUntil <= now(self) && row.changedAt + fenceLifetime <= now(self)
      if (isDead && rows.delete(key)) count++
    }
  }
  return count
}

const rowOf = (self: Memory, namespace: string, key: KeyText): MemoryRow | undefined =>
  self.namespaces.get(namespace)?.get(key)

const now = (self: Memory): number => self.clock.currentTimeMillisUnsafe()

const isLive = (self: Memory, row: MemoryRow | undefined): row is MemoryRow & { readonly data: string } =>
  row?.data !== undefined && row.staleUntil > now(self)

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
