/**
 * Random calls to a `CacheStore`, answered as a reference that remembers every change
 * answers them. It knows neither versions nor snapshots: when a fence was taken, and
 * when each key, tag and namespace last changed, is all that it goes by.
 *
 * Where the promises leave the store a choice, it takes what the store has chosen.
 *
 * `FC_RUNS`, `FC_SEED` and `FC_PATH` are as in `TieredCacheModel.test.ts`.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import type { Fence, NewRow } from "../../src/CacheStore.ts"
import {
  type Advance,
  documentOf,
  fenced,
  glob,
  namespace,
  row,
  scanned,
  type Store,
  type StoreTest,
  sweepAll
} from "./storeRows.ts"

const { FC_PATH, FC_RUNS = "1500", FC_SEED } = process.env

const replay = FC_SEED === undefined ? {} : { seed: Number(FC_SEED), path: FC_PATH ?? "", endOnFailure: true }

export const modelSuite = <R>(test: StoreTest<R>, advance: Advance<R>): void =>
  test("random calls are answered as a reference that remembers every change answers them", (store) =>
    Effect.gen(function* () {
      // What other tests have left makes it slower to move the store's clock.
      yield* store.clearAll
      yield* advance(700_000)
      yield* sweepAll(store)
      const run = Effect.runPromiseWith(yield* Effect.context<R>())
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.array(call, { minLength: 5, maxLength: 40, size: "max" }), (calls) =>
            run(play(store, advance, calls))
          ),
          { numRuns: Math.ceil(Number(FC_RUNS) / 25), ...replay }
        )
      )
    }))

const long = "x".repeat(2000)

/** What they match is written down here, so that the reference need not know how patterns are read. */
const patterns = { "*": ["a", "b", "c", long], "[ab]": ["a", "b"], "?": ["a", "b", "c"], "*xx": [long], "d*": [] }

const ns = fc.nat({ max: 1 })
const keys = fc.uniqueArray(fc.constantFrom("a", "b", "c", long), { minLength: 1, maxLength: 4 })
const tags = fc.subarray(["t", "u"])
const pattern = fc.constantFrom(...(Object.keys(patterns) as ReadonlyArray<keyof typeof patterns>))
const keepsStale = fc.boolean()
const owner = fc.constantFrom("one", "two")
const duration = fc.constantFrom(65_000, 430_000)
/** How many of the fences that were taken of a key, the youngest first, are younger than the one that is used. */
const fence = fc.nat({ max: 3 })
const content = fc.record({
  timeToLive: fc.constantFrom(60_000, 600_000, 3_600_000, Infinity),
  staleFor: fc.constantFrom(0, 0, 600_000, 1_200_000, Infinity),
  tags,
  isFailure: fc.nat({ max: 5 }).map((n) => n === 0)
})

const of = <Tag extends string, A>(
  _tag: Tag,
  parts: { readonly [K in keyof A]: fc.Arbitrary<A[K]> }
): fc.Arbitrary<{ readonly _tag: Tag } & A> =>
  (fc.record(parts) as fc.Arbitrary<A>).map((parts) => ({ _tag, ...parts }))

const call = fc.oneof(
  { weight: 6, arbitrary: of("Read", { ns, keys }) },
  { weight: 7, arbitrary: of("Fill", { ns, keys, content, fence }) },
  { weight: 3, arbitrary: of("Rearm", { ns, keys, fence, retryAfter: fc.constantFrom(200_000, 1_000_000) }) },
  { weight: 3, arbitrary: of("Write", { ns, keys, content }) },
  { weight: 3, arbitrary: of("Remove", { ns, keys, keepsStale }) },
  { weight: 3, arbitrary: of("RemoveTagged", { ns, tags, keepsStale }) },
  { weight: 3, arbitrary: of("RemoveMatching", { ns, pattern, keepsStale }) },
  { weight: 1, arbitrary: of("Clear", { ns }) },
  { weight: 1, arbitrary: of("ClearAll", {}) },
  { weight: 4, arbitrary: of("Acquire", { ns, keys, fence, owner, duration }) },
  { weight: 1, arbitrary: of("Renew", { ns, keys, owner, duration }) },
  { weight: 1, arbitrary: of("Release", { ns, keys, owner }) },
  { weight: 2, arbitrary: of("Touch", { ns, keys, count: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 2, arbitrary: of("Scan", { ns }) },
  { weight: 2, arbitrary: of("Sweep", { limit: fc.constantFrom(1, 1000) }) },
  { weight: 2, arbitrary: of("Advance", { millis: fc.constantFrom(90_000, 400_000, 700_000) }) }
)

type Call = typeof call extends fc.Arbitrary<infer A> ? A : never

interface Entry {
  readonly document: number
  readonly tags: ReadonlyArray<string>
  readonly isFailure: boolean
  readonly createdAt: number
  readonly expiresAt: number
  readonly staleUntil: number
  /** Undefined: the store had a choice. */
  readonly retryAt: number | undefined
  readonly lastAccessed: number
  readonly accessCount: number
}

interface SeenFence {
  readonly fence: Fence
  readonly tick: number
  readonly at: number
}

/** Of one key. */
class Cell {
  readonly key: string
  entry: Entry | undefined
  /** The tags that the key had until it was last written: whether it still has them is the store's affair. */
  formerTags: ReadonlyArray<string> = []
  changed = 0
  maybeChanged = 0
  /** When its row was written, and whether a change of many keys at once has covered it since. */
  writtenAt = 0
  isCovered = false
  lease: { readonly owner: string; readonly until: number; readonly isCertain: boolean } | undefined
  fences: ReadonlyArray<SeenFence> = []

  constructor(key: string) {
    this.key = key
  }
}

const fenceLifetime = 600_000

class Reference {
  readonly names = [namespace(), namespace()]
  readonly #cells = this.names.map(() => new Map(patterns["*"].map((key) => [key, new Cell(key)])))
  readonly #tagged = this.names.map(() => new Map<string, number>())
  tick = 0
  time = 0

  cells(ns: number, keys: ReadonlyArray<string> = patterns["*"]) {
    return keys.map((key) => this.#cells[ns]!.get(key)!)
  }

  live({ entry }: Cell): Entry | undefined {
    return entry !== undefined && entry.staleUntil > this.time ? entry : undefined
  }

  /** The fence that is used of those that are young enough, and its key. */
  fencesOf(cells: ReadonlyArray<Cell>, index: number) {
    return cells.flatMap((cell) => {
      const young = cell.fences.filter(({ at }) => at > this.time - fenceLifetime)
      const seen = young[Math.min(index, young.length - 1)]
      return seen === undefined ? [] : [{ cell, key: cell.key, ...seen }]
    })
  }

  /** Whether nothing changed what has these tags since; undefined if the store may take it either way. */
  holds(ns: number, { changed, maybeChanged }: Cell, tick: number, tags: ReadonlyArray<string>): boolean | undefined {
    if (changed > tick || tags.some((tag) => (this.#tagged[ns]!.get(tag) ?? 0) > tick)) return false
    return maybeChanged > tick ? undefined : true
  }

  store(
    cell: Cell,
    document: number,
    { timeToLive, staleFor, tags, isFailure }: Omit<Content, "key">,
    isFill: boolean
  ) {
    const expiresAt = this.time + timeToLive
    cell.entry = {
      document,
      tags,
      isFailure,
      createdAt: this.time,
      expiresAt,
      staleUntil: expiresAt + staleFor,
      retryAt: 0,
      lastAccessed: this.time,
      accessCount: 0
    }
    cell.formerTags = isFill ? [...cell.formerTags, ...tags] : tags
    this.#write(cell)
  }

  /** Says what was there. */
  remove(cell: Cell, keepsStale: boolean): Entry | undefined {
    const entry = this.live(cell)
    cell.entry =
      keepsStale && entry?.isFailure === false
        ? { ...entry, expiresAt: Math.min(entry.expiresAt, this.time), retryAt: 0 }
        : undefined
    this.#change(cell)
    return entry
  }

  /** The same for a key that is named. */
  removeKey(cell: Cell, keepsStale: boolean): Entry | undefined {
    const entry = this.remove(cell, keepsStale)
    this.#write(cell)
    return entry
  }

  /** Says how many were there. */
  removeTagged(ns: number, tags: ReadonlyArray<string>, keepsStale: boolean): number {
    const isCovered = (of: ReadonlyArray<string>) => of.some((tag) => tags.includes(tag))
    for (const tag of tags) this.#tagged[ns]!.set(tag, ++this.tick)
    let count = 0
    for (const cell of this.cells(ns)) {
      const entry = this.live(cell)
      if (entry !== undefined && isCovered(entry.tags)) {
        this.remove(cell, keepsStale)
        count++
      } else if (isCovered(cell.formerTags)) {
        cell.maybeChanged = ++this.tick
        if (cell.lease !== undefined) cell.lease = { ...cell.lease, isCertain: false }
      }
    }
    return count
  }

  clear(ns: number): number {
    for (const tag of ["t", "u"]) this.#tagged[ns]!.set(tag, ++this.tick)
    return this.cells(ns).filter((cell) => this.remove(cell, false) !== undefined).length
  }

  /** A fence that has seen a row which is swept is like one that has seen an older one: whoever asks looks again. */
  sweep() {
    for (const cell of this.#cells.flatMap((cells) => [...cells.values()])) {
      const isOld = cell.isCovered || cell.writtenAt + fenceLifetime - drift <= this.time
      if (isOld && this.live(cell) === undefined) cell.maybeChanged = ++this.tick
    }
  }

  leaseOf({ lease }: Cell) {
    return lease !== undefined && lease.until > this.time ? lease : undefined
  }

  #write(cell: Cell) {
    this.#change(cell)
    cell.writtenAt = this.time
    cell.isCovered = false
  }

  #change(cell: Cell) {
    cell.changed = ++this.tick
    cell.isCovered = true
    cell.lease = undefined
  }
}

type Content = Pick<NewRow, "key" | "timeToLive" | "staleFor" | "tags" | "isFailure">

const play = <R>(store: Store, advance: Advance<R>, calls: ReadonlyArray<Call>) =>
  Effect.gen(function* () {
    const reference = new Reference()
    // The clear of other tests' namespaces would be counted too.
    yield* store.clearAll
    for (const call of calls) yield* make(store, advance, reference, call)
    for (const ns of [0, 1]) {
      yield* make(store, advance, reference, { _tag: "Read", ns, keys: [...patterns["*"]] })
      yield* make(store, advance, reference, { _tag: "Scan", ns })
    }
  })

const make = <R>(store: Store, advance: Advance<R>, reference: Reference, call: Call) =>
  Effect.gen(function* () {
    const name = "ns" in call ? reference.names[call.ns]! : ""
    const { time } = reference
    switch (call._tag) {
      case "Read": {
        const rows = yield* store.read(name, call.keys)
        for (const [i, cell] of reference.cells(call.ns, call.keys).entries()) {
          const row = rows[i]!
          const entry = reference.live(cell)
          assert.strictEqual(documentOf(row), entry?.document, cell.key)
          if (row._tag === "Row" && entry !== undefined) {
            assertClose(row.timeToLive, entry.expiresAt - time)
            assert.strictEqual(row.timeToLive > 0, entry.expiresAt > time)
            assertClose(row.staleTimeToLive, entry.staleUntil - time)
            if (entry.retryAt !== undefined) assertClose(row.retryAfter, Math.max(0, entry.retryAt - time))
            assertClose(row.age, time - entry.createdAt)
            assert.deepStrictEqual([row.tags, row.isFailure], [entry.tags, entry.isFailure])
          }
          cell.fences = [{ fence: row.fence, tick: reference.tick, at: time }, ...cell.fences]
        }
        break
      }
      case "Fill": {
        const chosen = reference.fencesOf(reference.cells(call.ns, call.keys), call.fence)
        const documents = chosen.map(() => ++reference.tick)
        const filled = yield* store.fill(
          name,
          chosen.map(({ fence, key }, i) => fenced(row(key, documents[i], call.content), fence))
        )
        for (const [i, { cell, tick }] of chosen.entries()) {
          assert.strictEqual(filled[i], reference.holds(call.ns, cell, tick, call.content.tags) ?? filled[i], cell.key)
          if (filled[i] === true) reference.store(cell, documents[i]!, call.content, true)
        }
        break
      }
      case "Rearm": {
        const chosen = reference.fencesOf(reference.cells(call.ns, call.keys), call.fence)
        yield* store.rearm(
          name,
          chosen.map(({ fence, key }) => ({ key, fence, retryAfter: call.retryAfter }))
        )
        for (const { cell, tick } of chosen) {
          const entry = reference.live(cell)
          if (entry === undefined || cell.changed > tick) continue
          const retryAt = Math.min(entry.staleUntil, time + call.retryAfter)
          cell.entry = { ...entry, retryAt: cell.maybeChanged > tick ? undefined : retryAt }
        }
        break
      }
      case "Write": {
        const document = ++reference.tick
        yield* store.write(
          name,
          call.keys.map((key) => row(key, document, call.content))
        )
        for (const cell of reference.cells(call.ns, call.keys)) reference.store(cell, document, call.content, false)
        break
      }
      case "Remove": {
        const removed = yield* store.remove(name, call.keys, call.keepsStale)
        assert.deepStrictEqual(
          removed,
          reference.cells(call.ns, call.keys).map((cell) => {
            const entry = reference.removeKey(cell, call.keepsStale)
            return entry !== undefined && (!call.keepsStale || entry.expiresAt > time)
          })
        )
        break
      }
      case "RemoveTagged": {
        assert.strictEqual(
          yield* store.removeTagged(name, call.tags, call.keepsStale),
          reference.removeTagged(call.ns, call.tags, call.keepsStale)
        )
        break
      }
      case "RemoveMatching": {
        const cells = reference.cells(call.ns, patterns[call.pattern])
        assert.strictEqual(
          yield* store.removeMatching(name, glob(call.pattern), call.keepsStale),
          cells.filter((cell) => reference.remove(cell, call.keepsStale) !== undefined).length
        )
        break
      }
      case "Clear": {
        assert.strictEqual(yield* store.clear(name), reference.clear(call.ns))
        break
      }
      case "ClearAll": {
        assert.strictEqual(yield* store.clearAll, reference.clear(0) + reference.clear(1))
        break
      }
      case "Acquire": {
        const chosen = reference.fencesOf(reference.cells(call.ns, call.keys), call.fence)
        const answers = yield* store.acquire(
          name,
          chosen.map(({ fence, key }) => ({ key, fence })),
          call
        )
        assert.strictEqual(answers.length, chosen.length)
        for (const [i, { cell, tick }] of chosen.entries()) {
          const answer = answers[i]!
          const lease = reference.leaseOf(cell)
          const holds = reference.holds(call.ns, cell, tick, [])
          const isHeld = lease !== undefined && lease.owner !== call.owner
          assert.strictEqual(answer._tag === "Changed", !(holds ?? answer._tag !== "Changed"), cell.key)
          if (answer._tag === "Changed") continue
          assert.strictEqual(answer._tag === "Held", lease?.isCertain === false ? answer._tag === "Held" : isHeld)
          if (answer._tag === "Held") assertClose(answer.remaining, lease!.until - time)
          else cell.lease = { owner: call.owner, until: time + call.duration, isCertain: true }
        }
        break
      }
      case "Renew": {
        yield* store.renew(name, call.keys, call)
        for (const cell of reference.cells(call.ns, call.keys)) {
          const lease = reference.leaseOf(cell)
          if (lease?.owner === call.owner) cell.lease = { ...lease, until: time + call.duration }
        }
        break
      }
      case "Release": {
        yield* store.release(name, call.keys, call.owner)
        for (const cell of reference.cells(call.ns, call.keys)) {
          if (cell.lease?.owner === call.owner) cell.lease = undefined
        }
        break
      }
      case "Touch": {
        yield* store.touch(
          name,
          call.keys.map((key) => ({ key, count: call.count }))
        )
        for (const cell of reference.cells(call.ns, call.keys)) {
          const entry = reference.live(cell)
          if (entry === undefined) continue
          cell.entry = { ...entry, accessCount: entry.accessCount + call.count, lastAccessed: time }
        }
        break
      }
      case "Scan": {
        const rows = yield* scanned(store, name)
        const cells = reference.cells(call.ns).filter((cell) => reference.live(cell) !== undefined)
        assert.deepStrictEqual(
          rows.map(({ accessCount, key, tags }) => [key, accessCount, tags]),
          cells.map(({ entry, key }) => [key, entry!.accessCount, entry!.tags])
        )
        for (const [i, { entry }] of cells.entries()) {
          const { createdAt, expiresAt, lastAccessed, staleUntil } = rows[i]!
          assertClose(expiresAt - createdAt, entry!.expiresAt - entry!.createdAt)
          assertClose(staleUntil - createdAt, entry!.staleUntil - entry!.createdAt)
          assertClose(lastAccessed - createdAt, entry!.lastAccessed - entry!.createdAt)
        }
        break
      }
      case "Sweep": {
        const removed = yield* store.sweep(call.limit)
        assert.isTrue(removed >= 0 && removed <= call.limit)
        reference.sweep()
        break
      }
      case "Advance": {
        yield* advance(call.millis)
        reference.time += call.millis
        break
      }
    }
  })

// The time of the store may run on while the calls are made; the reference's does not.
const drift = 20_000

const assertClose = (actual: number, expected: number) =>
  assert.isTrue(actual === expected || Math.abs(actual - expected) < drift, `${actual} is not close to ${expected}`)
