/** Makes histories up, for the judge to be judged by. Times in milliseconds, one key and more. */
import type { Deed, Disturbance, History, Isolation, Operation, Outcome, Reading, Transaction } from "./History.ts"

type Times = readonly [begin: number, end: number]

interface Where {
  readonly process?: string
  readonly transaction?: string
  readonly outcome?: Outcome
}

export class Forgery implements History {
  readonly operations: Array<Operation> = []
  readonly transactions: Array<Transaction> = []
  readonly disturbances: Array<Disturbance> = []

  /** `id` loads version 1 of `k`, unless it says otherwise. */
  load(
    id: string,
    times: Times,
    { key = "k", tags = ["t"], version = 1, ...where }: Where & Partial<Written> = {}
  ): this {
    return this.#add(id, times, { _tag: "Load", values: [{ key, version, writer: id, tags }] }, where)
  }

  set(
    id: string,
    times: Times,
    { key = "k", tags = ["t"], version = 1, ...where }: Where & Partial<Written> = {}
  ): this {
    return this.#add(id, times, { _tag: "Set", values: [{ key, version, writer: id, tags }] }, where)
  }

  invalidate(
    id: string,
    times: Times,
    {
      keepsStale = false,
      keys = ["k"],
      tags,
      ...where
    }: Where & {
      readonly keys?: ReadonlyArray<string>
      readonly tags?: ReadonlyArray<string>
      readonly keepsStale?: boolean
    } = {}
  ): this {
    return this.#add(id, times, { _tag: "Invalidate", keys, tags, keepsStale }, where)
  }

  update(transaction: string, version: number, at = 0): this {
    return this.#add(`${transaction} to ${version}`, [at, at], { _tag: "Update", key: "k", version }, { transaction })
  }

  /** Somebody in another process is given what `writer` wrote, unless it says otherwise. */
  read(
    times: Times,
    writer: string,
    origin: Reading["origin"],
    {
      freshness = "fresh",
      key = "k",
      version,
      ...where
    }: Where &
      Partial<Pick<Reading, "key" | "freshness">> & {
        readonly version?: number
      } = {}
  ): this {
    const { does } = this.operations.find(({ id }) => id === writer) ?? {}
    const value = does?._tag === "Load" || does?._tag === "Set" ? does.values[0] : undefined
    const { tags = ["t"], version: written = 1 } = value ?? {}
    const reading: Reading = { key, value: { key, version: version ?? written, writer, tags }, origin, freshness }
    return this.#add(`read at ${times[0]}`, times, { _tag: "Read", keys: [key], readings: [reading] }, where)
  }

  /** A read that is given nothing. */
  miss(times: Times, where: Where = {}): this {
    return this.#add(`miss at ${times[0]}`, times, { _tag: "Read", keys: ["k"], readings: [] }, where)
  }

  transaction(
    id: string,
    [begin, ready, end]: readonly [begin: number, ready: number, end: number],
    outcome: Transaction["outcome"] = "committed",
    {
      isolation = "read committed",
      parent,
      process = "here"
    }: { readonly isolation?: Isolation; readonly parent?: string; readonly process?: string } = {}
  ): this {
    const times = { begin: begin * 1000, ready: ready * 1000, end: end * 1000 }
    this.transactions.push({ id, process, parent, isolation, outcome, ...times })
    return this
  }

  disturbed(name: Disturbance["name"], [from, to]: Times, process = "there"): this {
    this.disturbances.push({ process, name, from: from * 1000, to: to * 1000 })
    return this
  }

  #add(id: string, [begin, end]: Times, does: Deed, { outcome = "done", process, transaction }: Where): this {
    this.operations.push({
      id,
      process: process ?? (does._tag === "Read" ? "there" : "here"),
      name: does._tag.toLowerCase(),
      begin: begin * 1000,
      end: end * 1000,
      outcome,
      transaction,
      does
    })
    return this
  }
}

interface Written {
  readonly key: string
  readonly version: number
  readonly tags: ReadonlyArray<string>
}
