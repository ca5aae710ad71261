/** What the suites of `CacheStore` put into a store, and how they look at what comes out. */
import { assert } from "@effect/vitest"
import { Effect, Result, Stream } from "effect"
import type { CacheError } from "../../src/CacheError.ts"
import type { CacheStore, Fence, NewRow, NoRow, ScannedRow, StoredRow } from "../../src/CacheStore.ts"
import * as Glob from "../../src/Glob.ts"
import { escapeKeyText } from "../../src/JsonText.ts"

export type Store = CacheStore["Service"]

/** A test of a store, in a namespace that no other uses. */
export type StoreTest<R> = (
  name: string,
  body: (store: Store, ns: string) => Effect.Effect<unknown, unknown, R>
) => void

/** Moves the store's clock, by milliseconds. */
export type Advance<R> = (millis: number) => Effect.Effect<unknown, unknown, R>

let namespaces = 0
export const namespace = () => `ns${++namespaces} `

export const row = (key: string, document: unknown, options?: Partial<NewRow>): NewRow => {
  const data = JSON.stringify(document)
  return {
    key,
    data,
    size: Buffer.byteLength(data),
    schemaVersion: 1,
    timeToLive: 3_600_000,
    staleFor: 0,
    loadTime: 0,
    isFailure: false,
    validators: {},
    tags: [],
    ...options
  }
}

export const fenced = (row: NewRow, fence: Fence) => ({ ...row, fence })

export const load = (store: Store, ns: string, key: string) => Effect.map(store.read(ns, [key]), (rows) => rows[0]!)

export const kinds = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(ns, keys), (rows) => rows.map(({ _tag }) => _tag))

/** How long each row asks not to be loaded anew. */
export const retries = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(ns, keys), (rows) => rows.map((row) => (row._tag === "Row" ? row.retryAfter : undefined)))

/** As one who reads the rows now and whose loads fail. */
export const rearm = (store: Store, ns: string, keys: ReadonlyArray<string>, retryAfter: number) =>
  Effect.flatMap(store.read(ns, keys), (rows) =>
    store.rearm(
      ns,
      rows.map(({ fence }, i) => ({ key: keys[i]!, fence, retryAfter }))
    )
  )

/** Fills each key as one who began to load it when these rows were read; says which were stored. */
export const fillAs = (store: Store, ns: string, read: ReadonlyArray<StoredRow | NoRow>, rows: ReadonlyArray<NewRow>) =>
  store.fill(
    ns,
    rows.map((row, i) => fenced(row, read[i]!.fence))
  )

export const glob = (pattern: string): Glob.Glob => Result.getOrThrow(Glob.make("a namespace", pattern))

export const scanned = (store: Store, ns: string): Effect.Effect<ReadonlyArray<ScannedRow>, CacheError> =>
  Stream.runCollect(store.scan(ns))

/** Until nothing is left to be swept. */
export const sweepAll = (store: Store) => Effect.repeat(store.sweep(10_000), { while: (removed) => removed > 0 })

export const documentOf = (row: StoredRow | NoRow): unknown => (row._tag === "Row" ? JSON.parse(row.data) : undefined)

export const assertNear = (actual: number, expected: number) =>
  assert.isTrue(Math.abs(actual - expected) <= 5000, `${actual} is not near ${expected}`)

export const oddTexts = [
  "",
  " ",
  "a",
  "A",
  "%",
  "_",
  "a%",
  "a_",
  "\\",
  "\\\\",
  "*",
  "?",
  "[a]",
  "'",
  "''",
  '"',
  "$1",
  "--",
  ";",
  ":",
  "é",
  "e\u0301",
  "😀",
  "\ufffd",
  "\u0001",
  "\t\n",
  "__proto__",
  escapeKeyText("\u0000"),
  escapeKeyText("\u001a0000"),
  escapeKeyText("\ud800")
]

// The limit of the stored form is 1024 bytes: at it, over it, differing after it,
// with a code point across it, and the stored form of a long key as a key itself.
export const longTexts = [
  "x".repeat(1023),
  "x".repeat(1024),
  "x".repeat(1025),
  "x".repeat(10_240),
  `${"x".repeat(10_240)}y`,
  `${"x".repeat(10_239)}y`,
  `${"x".repeat(1023)}é`,
  `${"x".repeat(1023)}è`,
  `${"x".repeat(1022)}é`,
  "😀".repeat(256),
  `${"😀".repeat(256)}a`,
  `${"😀".repeat(256)}b`,
  `a${"😀".repeat(256)}`,
  `a${"😀".repeat(255)}😁`,
  `${"x".repeat(1024)}:sha256:66c38dc8b6bf3a5a5ae5ca3ff1e2d8e5e4bbd6bb9ba95c9dd5ee4bdf8d6d1a2e`
]
