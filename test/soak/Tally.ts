/** What happened in a soak, and what should not have. Takes the same room however long it lasts. */

/** How often something was done, how it ended and how long it took, in milliseconds. */
export class Row {
  count = 0
  interrupted = 0
  gaveUp = 0
  failed = 0
  longest = 0
  readonly #buckets: Array<number> = []

  took(milliseconds: number): void {
    this.count++
    this.longest = Math.max(this.longest, milliseconds)
    const bucket = Math.max(0, Math.ceil(Math.log(milliseconds * 100) / Math.log(1.1)))
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1
  }

  /** The milliseconds that so many in a hundred did not exceed, to a tenth of it. */
  percentile(percent: number): number {
    let left = Math.ceil((this.count * percent) / 100)
    for (const [bucket, count = 0] of this.#buckets.entries()) {
      left -= count
      if (left <= 0) return 1.1 ** bucket / 100
    }
    return this.longest
  }
}

export class Tally {
  readonly rows = new Map<string, Row>()
  /** By what they are, the first few of each. */
  readonly problems = new Map<string, { count: number; readonly first: Array<string> }>()
  readonly logs = new Map<string, number>()
  /** How often each thing was looked at. */
  readonly checks = new Map<string, number>()

  row(name: string): Row {
    let row = this.rows.get(name)
    if (row === undefined) this.rows.set(name, (row = new Row()))
    return row
  }

  log(message: string): void {
    this.logs.set(message, (this.logs.get(message) ?? 0) + 1)
  }

  /** A promise that was looked at, and whether it held. */
  check(promise: string, holds: boolean, describe: () => string): void {
    this.checks.set(promise, (this.checks.get(promise) ?? 0) + 1)
    if (holds) return
    const problem = this.problems.get(promise)
    if (problem === undefined) this.problems.set(promise, { count: 1, first: [describe()] })
    else {
      problem.count++
      if (problem.first.length < 5) problem.first.push(describe())
    }
  }
}
