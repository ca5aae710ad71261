/**
 * Which reads of a history the promises of the cache forbid.
 *
 * A *change* is a `set` or an invalidation of a key. It happens at one moment: of an
 * operation of its own somewhere from its begin to its end, of one in a transaction
 * while that commits, from the moment in which the commit was asked for until it was
 * acknowledged. What a *load* brings is what the source said when its loader began or
 * later; the fence of the load was taken before that (`LocalFence`, `CacheStore`). A
 * value is *older* than a change
 *
 * - if its loader began, or its `set` was over, before the change can have happened;
 * - if it was loaded, and has an older version than the transaction of the change gave
 *   to the key: then the loader has read before the commit, whenever that was.
 *
 * **What is forbidden**
 *
 * 1. A value that was never loaded or set for that key, or not so.
 * 2. A value of a transaction, or savepoint, that was rolled back; a value whose version
 *    only such a one gave to the source (G2).
 * 3. A value of a transaction, seen outside before the commit was asked for (G2: memory and
 *    the others see it after the commit); what was loaded in one, seen outside at any time
 *    (`TieredCache`: such a read keeps nothing).
 * 4. In a transaction, a value from memory (`TieredCache`: it passes by memory).
 * 5. In a transaction, a value older than a change that was made in it before, unless
 *    by a savepoint that was rolled back: it sees the store as the transaction does.
 * 6. In the process that made a change, a value older than it, by a read that began when
 *    the change was over. `Mutation` drops what memory holds, breaks what is under way and
 *    diverts the flights before it returns, in a transaction right after its commit. It
 *    does so too where an invalidation failed or was interrupted: until the store has been
 *    told, the process does not believe it (`PendingInvalidations`).
 * 7. Elsewhere, a value from the store that is older than a change which was over when the
 *    read began (G1). Who joined a lookup that was already under way gets what was so
 *    when that began; flights are diverted when the bus brings the change, so that this
 *    then falls under 8. A read in a transaction joins nobody, and it begins when its
 *    snapshot is taken: with the transaction, unless that is READ COMMITTED.
 * 8. Elsewhere, a value from memory or from a loader that was under way, older than a
 *    change that the process must have heard of (G3): the bus has had `busDelay` without
 *    disturbance since. A fresh one from memory also when memory can have vouched for it no
 *    longer: `memoryLife` after the change, and after the load or set if that was in the
 *    same process and later.
 *
 * `expire` leaves what was there as a stale one: after it, only a fresh answer is forbidden.
 *
 * **What is allowed on purpose.** Nothing that a read does not give is wrong: an emptier
 * cache is always right. A load that read the source before a change and ends later answers
 * those who waited for it. A load that began while a change was happening may be kept or
 * not. What failed, was interrupted or died with its process may have happened, or happen
 * later: it forbids nothing in other processes, and what it set may come up at any time.
 */
import type { Disturbance, History, Operation, Reading, Transaction, Value } from "./History.ts"
import { type Change, Scene, type Written } from "./Scene.ts"

export const rules = {
  madeUp: "1 Only what was loaded or set for the key is read",
  noTrace: "2 What was rolled back leaves no trace",
  apart: "3 A transaction shows nothing before it commits, and keeps nothing of what it loads",
  pastMemory: "4 A transaction reads past memory",
  ownTransaction: "5 A transaction sees its own changes",
  ownProcess: "6 A process sees its own changes at once",
  store: "7 Nothing older than a change comes from the store",
  memory: "8 Nothing older than a change comes from memory when the bus has had its time"
} as const

export type Rule = keyof typeof rules

/** In microseconds. */
export interface Bounds {
  /** How soon a process that is not disturbed has heard of a change. */
  readonly busDelay: number
  /** How long memory may vouch for a value that was on its way when the change happened. */
  readonly memoryLife: number
}

/** A read that is forbidden, and what of the history makes it so. */
export interface Violation {
  readonly rule: Rule
  readonly read: Operation
  readonly reading: Reading
  readonly because: ReadonlyArray<Operation | Transaction | Disturbance>
}

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  /** How many answers each rule could have forbidden. */
  readonly judged: ReadonlyMap<Rule, number>
}

export const judge = (history: History, bounds: Bounds): Verdict => {
  const scene = new Scene(history)
  const violations: Array<Violation> = []
  const judged = new Map<Rule, number>()
  const looksAt = (rule: Rule) => judged.set(rule, (judged.get(rule) ?? 0) + 1)
  for (const read of history.operations) {
    if (read.does._tag !== "Read") continue
    const inside = scene.rootOf(read)
    for (const reading of read.does.readings) {
      const { value } = reading
      if (value === undefined) continue
      looksAt("madeUp")
      const written = scene.written(value)
      const found: Found | undefined =
        written === undefined || value.key !== reading.key
          ? { rule: "madeUp", because: [] }
          : judgeAnswer({ scene, bounds, looksAt, read, reading, value, written }, inside)
      if (found !== undefined) violations.push({ ...found, read, reading })
    }
  }
  violations.sort((a, b) => a.read.begin - b.read.begin || (a.read.id < b.read.id ? -1 : 1))
  return { violations, judged }
}

type Found = Pick<Violation, "rule" | "because">

/** A value that a read was given, and where it comes from. */
interface Answer {
  readonly scene: Scene
  readonly bounds: Bounds
  readonly looksAt: (rule: Rule) => void
  readonly read: Operation
  readonly reading: Reading
  readonly value: Value
  readonly written: Written
}

const judgeAnswer = (answer: Answer, inside: Transaction | undefined): Found | undefined =>
  judgeTrace(answer, inside) ?? (inside === undefined ? judgeOutside(answer) : judgeInside(answer, inside))

/** Rules 2 and 3. */
const judgeTrace = (
  { looksAt, read, scene, value, written: { by, root } }: Answer,
  inside: Transaction | undefined
): Found | undefined => {
  if (root !== undefined) {
    looksAt("noTrace")
    const undone = scene.undoing(by, root === inside ? read.begin : Infinity)
    if (undone !== undefined) return { rule: "noTrace", because: [by, undone] }
    if (root !== inside) {
      looksAt("apart")
      if (by.does._tag === "Load" || read.end < root.ready) return { rule: "apart", because: [by, root] }
    }
  }
  const update = scene.update(value)
  const undone = update === undefined || scene.rootOf(update) === inside ? undefined : scene.undoing(update, Infinity)
  return undone === undefined ? undefined : { rule: "noTrace", because: [by, update!, undone] }
}

/** Rules 4, 5 and 7. */
const judgeInside = (answer: Answer, inside: Transaction): Found | undefined => {
  const { looksAt, read, reading, scene, value, written } = answer
  looksAt("pastMemory")
  if (reading.origin === "memory") return { rule: "pastMemory", because: [written.by, inside] }
  const own = scene.changesIn(inside, value.key)
  if (own.length > 0) looksAt("ownTransaction")
  for (const change of own) {
    if (change.by.end > read.begin || scene.undoing(change.by, read.begin) !== undefined) continue
    const isOlder = (written.root === inside ? written.by.end : written.settled) < change.by.begin
    if (isOlder && forbids(change, answer)) {
      return { rule: "ownTransaction", because: [written.by, change.by, inside] }
    }
  }
  looksAt("store")
  const from = inside.isolation === "read committed" ? read.begin : inside.begin
  for (const change of scene.changesBetween(value.key, written.settled, from)) {
    if (change.root === inside || change.isOwn || !forbids(change, answer)) continue
    const update = older(answer, change)
    if (update !== undefined) return { rule: "store", because: [written.by, ...update, ...change.because, inside] }
  }
  return undefined
}

/** Rules 6, 7 and 8. */
const judgeOutside = (answer: Answer): Found | undefined => {
  const { looksAt, read, reading, scene, value, written } = answer
  const elsewhere: Rule = reading.origin === "store" ? "store" : "memory"
  if (scene.wasChangedBy(read.process, value.key, read.begin)) looksAt("ownProcess")
  if (scene.wasChangedBy(undefined, value.key, read.begin)) looksAt(elsewhere)
  for (const change of scene.changesBetween(value.key, written.settled, read.begin)) {
    const isHere = change.by.process === read.process
    if ((change.isOwn && !isHere) || !forbids(change, answer)) continue
    const update = older(answer, change)
    if (update === undefined) continue
    const because = [written.by, ...update, ...change.because]
    if (isHere) return { rule: "ownProcess", because }
    const mayHaveJoined = scene.busySince(read, value.key) < change.until
    if (reading.origin === "store" && !mayHaveJoined) return { rule: elsewhere, because }
    if (read.begin > knownBy(answer, change)) {
      const disturbances = scene.disturbancesOf(read.process)
      const meanwhile = disturbances.filter(({ from, to }) => to > change.until && from < read.begin)
      return { rule: elsewhere, because: [...because, ...meanwhile] }
    }
  }
  return undefined
}

/** By when the process of the read can no longer give what the change made wrong. */
const knownBy = ({ bounds, read, reading, scene, written: { by } }: Answer, { until }: Change): number => {
  const disturbances = scene.disturbancesOf(read.process)
  const heard = undisturbed(disturbances, until, bounds.busDelay)
  if (reading.origin !== "memory" || reading.freshness !== "fresh") return heard
  const kept = by.process === read.process ? Math.max(until, by.end) : until
  const standstills = disturbances.filter(({ name }) => name !== "cut off")
  return Math.min(heard, undisturbed(standstills, kept, bounds.memoryLife))
}

/** The first moment with so much time without disturbance before it. */
const undisturbed = (disturbances: ReadonlyArray<Disturbance>, since: number, time: number): number => {
  let end = since + time
  for (const { from, to } of disturbances) if (from < end && to > end - time) end = to + time
  return end
}

const forbids = ({ keepsStale, tags }: Change, { reading, value }: Answer): boolean =>
  (!keepsStale || reading.freshness === "fresh") && (tags === undefined || tags.some((tag) => value.tags.includes(tag)))

/** Defined if the value is older than the change: the update that shows it, if it is that. */
const older = (
  { scene, value, written: { by, root, settled } }: Answer,
  change: Change
): ReadonlyArray<Operation> | undefined => {
  if (settled < change.from) return []
  if (by.does._tag !== "Load" || root !== undefined || change.root === undefined) return undefined
  const update = scene.updateIn(change.root, value.key)
  return update !== undefined && update.version > value.version ? [update.by] : undefined
}
