/**
 * What some processes did with their caches on one database, as far as it can be
 * known afterwards, and what was done to them meanwhile.
 *
 * Every time is in microseconds by the clock that all processes of a machine share
 * (`process.hrtime`). What was asked for began no later than its `begin` says and was
 * over by its `end`, at the latest; where nobody knows when it was over, or whether it
 * ever was, `end` is `Infinity`.
 */

/** A value as it is cached. It says itself what it is, and who made it. */
export interface Value {
  /** With the namespace before it: no two namespaces share one. */
  readonly key: string
  /** That of the source when it was read. */
  readonly version: number
  /** The load or set. */
  readonly writer: string
  readonly tags: ReadonlyArray<string>
}

/** What a read was given for a key. */
export interface Reading {
  readonly key: string
  readonly value: Value | undefined
  /** `"any"` where the operation does not say. */
  readonly origin: "memory" | "store" | "loader" | "any"
  readonly freshness: "fresh" | "stale" | "any"
}

export type Deed =
  | { readonly _tag: "Read"; readonly keys: ReadonlyArray<string>; readonly readings: ReadonlyArray<Reading> }
  /** A run of the loader on behalf of a read. */
  | { readonly _tag: "Load"; readonly values: ReadonlyArray<Value> }
  | { readonly _tag: "Set"; readonly values: ReadonlyArray<Value> }
  /** Of what is under these keys: all, or what has one of the tags. */
  | {
      readonly _tag: "Invalidate"
      readonly keys: ReadonlyArray<string>
      readonly tags: ReadonlyArray<string> | undefined
      readonly keepsStale: boolean
    }
  /** The source changed a key, and this is now its version. */
  | { readonly _tag: "Update"; readonly key: string; readonly version: number }

/** `"failed"` and `"interrupted"`: it may have happened or not, or happen yet. */
export type Outcome = "done" | "failed" | "interrupted" | "unknown"

export interface Operation {
  readonly id: string
  /** One life of a process: whoever is restarted is another. */
  readonly process: string
  readonly name: string
  readonly begin: number
  readonly end: number
  readonly outcome: Outcome
  /** The innermost one that it is in. */
  readonly transaction: string | undefined
  readonly does: Deed
}

export type Isolation = "read committed" | "repeatable read" | "serializable"

/** A transaction, or a savepoint in one (`parent`). */
export interface Transaction {
  readonly id: string
  readonly process: string
  readonly parent: string | undefined
  readonly isolation: Isolation
  readonly begin: number
  /** When all of it had been done and the commit was asked for; `Infinity`: it never was. */
  readonly ready: number
  readonly end: number
  /** `"unknown"`: nobody was told, and nobody has asked the database. */
  readonly outcome: "committed" | "rolled back" | "unknown"
}

/** A time in which a process could not hear what the others changed. */
export interface Disturbance {
  readonly process: string
  readonly name: "stopped" | "cut off" | "slow"
  readonly from: number
  readonly to: number
}

export interface History {
  readonly operations: ReadonlyArray<Operation>
  readonly transactions: ReadonlyArray<Transaction>
  readonly disturbances: ReadonlyArray<Disturbance>
}

/** What a process writes down, at once, about itself. */
export type Note =
  | ({ readonly _tag: "Began" } & Omit<Operation, "end" | "outcome">)
  | {
      readonly _tag: "Ended"
      readonly id: string
      readonly at: number
      readonly outcome: Outcome
      readonly does?: Deed
    }
  | ({ readonly _tag: "BeganTransaction" } & Pick<Transaction, "id" | "process" | "parent" | "isolation" | "begin">)
  | { readonly _tag: "Ready"; readonly id: string; readonly at: number }
  | { readonly _tag: "EndedTransaction"; readonly id: string; readonly at: number; readonly isDone: boolean }
  | ({ readonly _tag: "Disturbed" } & Disturbance)

/**
 * The history that the notes tell. Of a transaction only the database knows for certain
 * whether it was committed: it has them among `committed`.
 */
export const fromNotes = (notes: Iterable<Note>, committed: ReadonlySet<string>): History => {
  const operations = new Map<string, Operation>()
  const transactions = new Map<string, Transaction>()
  const disturbances: Array<Disturbance> = []
  for (const note of notes) {
    switch (note._tag) {
      case "Began": {
        const { _tag, ...operation } = note
        operations.set(note.id, { ...operation, end: Infinity, outcome: "unknown" })
        break
      }
      case "Ended": {
        const operation = operations.get(note.id)!
        const { at: end, does = operation.does, outcome } = note
        operations.set(note.id, { ...operation, end, outcome, does })
        break
      }
      case "BeganTransaction": {
        const { _tag, ...transaction } = note
        transactions.set(note.id, { ...transaction, ready: Infinity, end: Infinity, outcome: "unknown" })
        break
      }
      case "Ready":
        transactions.set(note.id, { ...transactions.get(note.id)!, ready: note.at })
        break
      case "EndedTransaction": {
        const outcome = note.isDone ? "committed" : "rolled back"
        transactions.set(note.id, { ...transactions.get(note.id)!, end: note.at, outcome })
        break
      }
      case "Disturbed":
        disturbances.push(note)
    }
  }
  for (const [id, transaction] of transactions) {
    if (transaction.parent !== undefined) continue
    if (!committed.has(id)) transactions.set(id, { ...transaction, outcome: "rolled back" })
    else if (transaction.outcome !== "committed") {
      // Whoever asked for the commit does not know when it was done.
      transactions.set(id, { ...transaction, end: Infinity, outcome: "committed" })
    }
  }
  return { operations: [...operations.values()], transactions: [...transactions.values()], disturbances }
}
