/** A history by what is asked of it. */
import type { Disturbance, History, Operation, Transaction, Value } from "./History.ts"

/** A value's load or set. */
export interface Written {
  readonly by: Operation
  readonly root: Transaction | undefined
  /** The latest moment at which it can have been right, or `Infinity`. */
  readonly settled: number
}

export interface Change {
  readonly by: Operation
  readonly because: ReadonlyArray<Operation | Transaction>
  readonly root: Transaction | undefined
  /** When it can have happened. */
  readonly from: number
  readonly until: number
  /** Whether only its own process has to know. */
  readonly isOwn: boolean
  readonly keepsStale: boolean
  readonly tags: ReadonlyArray<string> | undefined
}

export interface Updated {
  readonly by: Operation
  readonly version: number
}

export class Scene {
  readonly #operations = new Map<string, Operation>()
  readonly #transactions = new Map<string, Transaction>()
  readonly #updates = new Map<string, Operation>()
  readonly #updatesIn = new Map<string, Updated>()
  /** By key, in the order in which they were over. */
  readonly #changes = new Map<string, Array<Change>>()
  readonly #changesIn = new Map<string, Array<Change>>()
  readonly #firstChanges = new Map<string, number>()
  readonly #disturbances = new Map<string, Array<Disturbance>>()
  readonly #busySince = new Map<string, number>()

  constructor({ disturbances, operations, transactions }: History) {
    for (const transaction of transactions) this.#transactions.set(transaction.id, transaction)
    for (const operation of operations) {
      this.#operations.set(operation.id, operation)
      if (operation.does._tag === "Update") this.#addUpdate(operation, operation.does)
      else this.#addChange(operation)
    }
    for (const changes of this.#changes.values()) {
      changes.sort((a, b) => a.until - b.until || (a.by.id < b.by.id ? -1 : 1))
    }
    for (const changes of this.#changesIn.values()) changes.sort((a, b) => a.by.begin - b.by.begin)
    this.#addDisturbances(disturbances)
    this.#addReads(operations)
  }

  #addUpdate(by: Operation, { key, version }: { readonly key: string; readonly version: number }): void {
    this.#updates.set(`${version} ${key}`, by)
    const root = this.rootOf(by)
    if (root === undefined || this.undoing(by, Infinity) !== undefined) return
    const place = `${root.id} ${key}`
    if (version > (this.#updatesIn.get(place)?.version ?? -1)) this.#updatesIn.set(place, { by, version })
  }

  #addChange(by: Operation): void {
    const { does, outcome } = by
    if (does._tag !== "Set" && does._tag !== "Invalidate") return
    const root = this.rootOf(by)
    const isDone = outcome === "done"
    // A set that failed is tried again as an invalidation, one that was interrupted is not.
    const isOwn = root === undefined && (does._tag === "Invalidate" ? !isDone : outcome === "failed")
    if (!isDone && !isOwn) return
    const change: Change = {
      by,
      because: root === undefined ? [by] : [by, root],
      root,
      from: root === undefined ? by.begin : root.ready,
      until: root === undefined ? by.end : root.end,
      isOwn,
      keepsStale: does._tag === "Invalidate" && does.keepsStale,
      tags: does._tag === "Invalidate" ? does.tags : undefined
    }
    const isUndone = root !== undefined && (root.outcome !== "committed" || this.undoing(by, Infinity) !== undefined)
    const keys = does._tag === "Invalidate" ? does.keys : does.values.map(({ key }) => key)
    for (const key of keys) {
      if (root !== undefined) push(this.#changesIn, `${root.id} ${key}`, change)
      if (isUndone || change.until === Infinity) continue
      push(this.#changes, key, change)
      for (const place of [key, `${by.process} ${key}`]) {
        this.#firstChanges.set(place, Math.min(change.until, this.#firstChanges.get(place) ?? Infinity))
      }
    }
  }

  #addDisturbances(disturbances: ReadonlyArray<Disturbance>): void {
    for (const disturbance of [...disturbances].sort((a, b) => a.from - b.from)) {
      push(this.#disturbances, disturbance.process, disturbance)
    }
  }

  #addReads(operations: ReadonlyArray<Operation>): void {
    const ends = new Map<string, number>()
    const since = new Map<string, number>()
    for (const read of [...operations].sort((a, b) => a.begin - b.begin)) {
      if (read.does._tag !== "Read" || read.transaction !== undefined) continue
      for (const key of read.does.keys) {
        const place = `${read.process} ${key}`
        const end = ends.get(place) ?? -Infinity
        if (read.begin > end) since.set(place, read.begin)
        this.#busySince.set(`${read.id} ${key}`, since.get(place)!)
        ends.set(place, Math.max(end, read.end))
      }
    }
  }

  written({ key, version, writer }: Value): Written | undefined {
    const by = this.#operations.get(writer)
    if (by === undefined || (by.does._tag !== "Load" && by.does._tag !== "Set")) return undefined
    if (!by.does.values.some((value) => value.key === key && value.version === version)) return undefined
    const root = this.rootOf(by)
    const settled =
      by.does._tag === "Load" ? by.begin : by.outcome !== "done" ? Infinity : root === undefined ? by.end : root.end
    return { by, root, settled }
  }

  /** The outermost transaction that it is in. */
  rootOf({ transaction }: Operation): Transaction | undefined {
    let root = transaction === undefined ? undefined : this.#transactions.get(transaction)!
    while (root?.parent !== undefined) root = this.#transactions.get(root.parent)!
    return root
  }

  /** The transaction or savepoint that had undone it by then. */
  undoing(operation: Operation, by: number): Transaction | undefined {
    let id = operation.transaction
    while (id !== undefined) {
      const transaction = this.#transactions.get(id)!
      if (transaction.outcome === "rolled back" && (by === Infinity || transaction.end <= by)) return transaction
      id = transaction.parent
    }
    return undefined
  }

  /** The update that gave this version to the key. */
  update({ key, version }: Value): Operation | undefined {
    return this.#updates.get(`${version} ${key}`)
  }

  /** The last version that the transaction gave to the key, if it is not undone. */
  updateIn({ id }: Transaction, key: string): Updated | undefined {
    return this.#updatesIn.get(`${id} ${key}`)
  }

  changesIn({ id }: Transaction, key: string): ReadonlyArray<Change> {
    return this.#changesIn.get(`${id} ${key}`) ?? []
  }

  /** Those of the key that were over after `since` and before `until`. */
  *changesBetween(key: string, since: number, until: number): Iterable<Change> {
    const changes = this.#changes.get(key) ?? []
    let low = 0
    for (let high = changes.length; low < high;) {
      const middle = (low + high) >>> 1
      if (changes[middle]!.until < since) low = middle + 1
      else high = middle
    }
    for (; low < changes.length && changes[low]!.until < until; low++) yield changes[low]!
  }

  /** Whether the key was changed at all before then, by this process or anybody. */
  wasChangedBy(process: string | undefined, key: string, until: number): boolean {
    return (this.#firstChanges.get(process === undefined ? key : `${process} ${key}`) ?? Infinity) < until
  }

  /** Since when there have always been reads of the key in the process of this one, on whose flights it can be. */
  busySince({ id }: Operation, key: string): number {
    return this.#busySince.get(`${id} ${key}`)!
  }

  readonly disturbancesOf = (process: string): ReadonlyArray<Disturbance> => this.#disturbances.get(process) ?? []
}

const push = <A>(lists: Map<string, Array<A>>, key: string, item: A): void => {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [item])
  else list.push(item)
}
