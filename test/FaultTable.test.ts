/**
 * What a caller of the cache is given when a step of its call goes wrong, how long
 * it waits, what is counted, and what each tier has then and once all is well again.
 *
 * Every line of the table is a test for each of its cells. Under `TestClock`: the
 * milliseconds are exact. The store may take 500 ms to read and 2 s for anything
 * else, the loader 300 ms where there is something stale and 1 s where there is
 * not; what is slow takes 200 ms, what is late longer than its time, and who is
 * interrupted is so after 100 ms.
 *
 * Memory has no faults of its own, and encoding, being synchronous, only fails or
 * dies. The counts leave out those of time and of what memory holds.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, Schema, SchemaTransformation } from "effect"
import { TestClock } from "effect/testing"
import { CacheError } from "../src/CacheError.ts"
import type { CacheEntry } from "../src/CacheEntry.ts"
import type { CacheStats } from "../src/CacheStats.ts"
import { CacheStore } from "../src/CacheStore.ts"
import type { Namespace } from "../src/index.ts"
import type { OnStoreFailure } from "../src/Namespace.ts"
import type { Operations } from "../src/Operations.ts"
import { breakable, type Fault, slowness, type Target } from "./suites/brokenStore.ts"
import { bothTiers, inWorld, start } from "./suites/cacheNode.ts"

// `memory` and `store`: what they have when the caller has its answer, and after that (->) once all is well.
const table = `
step            | fault                          | onStoreFailure | stale   | gives            | after | memory | store  | health   | counts
hit in memory   | all                            | either         | -       | 1 memory         |     0 | 1      | 1      | Up       | hit

store read      | fails, defect                  | recover        | -       | 2 loader         |     0 | 2      | -      | Down     | miss, store miss, store error, loaded
store read      | hangs, late success, late fail | recover        | -       | 2 loader         |   500 | 2      | -      | Down     | miss, store miss, store error, loaded
store read      | slow                           | either         | -       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded
store read      | interruption                   | either         | -       | interrupted      |   100 | -      | -      | Up       | miss, store miss
store read      | fails, defect                  | recover        | 1       | 2 loader         |     0 | 2      | 1      | Down     | miss, store miss, store error, loaded
store read      | hangs, late success, late fail | recover        | 1       | 2 loader         |   500 | 2      | 1      | Down     | miss, store miss, store error, loaded
store read      | slow                           | either         | 1       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded
store read      | interruption                   | either         | 1       | interrupted      |   100 | 1      | 1      | Up       | miss, store miss
store read      | fails, defect                  | fail           | -       | StoreUnavailable |     0 | -      | -      | Down     | miss, store miss, store error
store read      | hangs, late success, late fail | fail           | -       | StoreTimeout     |   500 | -      | -      | Down     | miss, store miss, store error
store read      | fails, defect                  | fail           | 1       | StoreUnavailable |     0 | 1      | 1      | Down     | miss, store miss, store error
store read      | hangs, late success, late fail | fail           | 1       | StoreTimeout     |   500 | 1      | 1      | Down     | miss, store miss, store error

source and read | fails, defect                  | recover        | -       | the loader's     |     0 | -      | -      | Down     | miss, store miss, store error, failed
source and read | hangs, late success, late fail | recover        | -       | the loader's     |   500 | -      | -      | Down     | miss, store miss, store error, failed
source and read | slow                           | either         | -       | the loader's     |   200 | -      | -      | Up       | miss, store miss, failed
source and read | fails, defect                  | recover        | 1       | 1 stale          |     0 | 1      | 1      | Down     | miss, store miss, store error, failed, stale, re-armed
source and read | hangs, late success, late fail | recover        | 1       | 1 stale          |   500 | 1      | 1      | Down     | miss, store miss, store error, failed, stale, re-armed
source and read | slow                           | either         | 1       | 1 stale          |   200 | 1      | 1      | Up       | miss, store miss, failed, stale, re-armed
source and read | fails, defect                  | fail           | -       | StoreUnavailable |     0 | -      | -      | Down     | miss, store miss, store error
source and read | hangs, late success, late fail | fail           | -       | StoreTimeout     |   500 | -      | -      | Down     | miss, store miss, store error
source and read | fails, defect                  | fail           | 1       | StoreUnavailable |     0 | 1      | 1      | Down     | miss, store miss, store error
source and read | hangs, late success, late fail | fail           | 1       | StoreTimeout     |   500 | 1      | 1      | Down     | miss, store miss, store error

loader          | fails                          | either         | -       | the loader's     |     0 | -      | -      | Up       | miss, store miss, failed
loader          | hangs                          | either         | -       | LoaderTimeout    |  1000 | -      | -      | Up       | miss, store miss, cut off, hard timeout
loader          | late success                   | either         | -       | LoaderTimeout    |  1000 | - -> 2 | - -> 2 | Up       | miss, store miss, loaded, hard timeout, late success
loader          | late fail                      | either         | -       | LoaderTimeout    |  1000 | -      | -      | Up       | miss, store miss, failed, hard timeout, late failure
loader          | defect                         | either         | -       | a defect         |     0 | -      | -      | Up       | miss, store miss, failed
loader          | interruption                   | either         | -       | interrupted      |   100 | -      | -      | Up       | miss, store miss, cut off
loader          | slow                           | either         | -       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded
loader          | fails                          | either         | 1       | 1 stale          |     0 | 1      | 1      | Up       | miss, store miss, failed, stale, re-armed
loader          | hangs                          | either         | 1       | 1 stale          |   300 | 1      | 1      | Up       | miss, store miss, cut off, soft timeout, stale
loader          | late success                   | either         | 1       | 1 stale          |   300 | 1 -> 2 | 1 -> 2 | Up       | miss, store miss, loaded, soft timeout, stale, late success
loader          | late fail                      | either         | 1       | 1 stale          |   300 | 1      | 1      | Up       | miss, store miss, failed, soft timeout, stale, late failure, re-armed
loader          | defect                         | either         | 1       | a defect         |     0 | 1      | 1      | Up       | miss, store miss, failed
loader          | interruption                   | either         | 1       | interrupted      |   100 | 1      | 1      | Up       | miss, store miss, cut off
loader          | slow                           | either         | 1       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded

encoding        | fails, defect                  | recover        | -       | 2 loader         |     0 | -      | -      | Up       | miss, store miss, loaded, unencodable
encoding        | fails, defect                  | recover        | 1       | 2 loader         |     0 | 1      | 1      | Up       | miss, store miss, loaded, unencodable
encoding        | fails, defect                  | fail           | -       | EncodeFailed     |     0 | -      | -      | Up       | miss, store miss, loaded, unencodable
encoding        | fails, defect                  | fail           | 1       | EncodeFailed     |     0 | 1      | 1      | Up       | miss, store miss, loaded, unencodable

store fill      | fails, defect                  | recover        | -       | 2 loader         |     0 | 2      | -      | Down     | miss, store miss, loaded, store error
store fill      | hangs, late fail               | recover        | -       | 2 loader         |  2000 | 2      | -      | Down     | miss, store miss, loaded, store error
store fill      | late success                   | recover        | -       | 2 loader         |  2000 | 2      | 2      | Down     | miss, store miss, loaded, store error
store fill      | slow                           | either         | -       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded
store fill      | interruption                   | either         | -       | interrupted      |   100 | -      | -      | Up       | miss, store miss, loaded
store fill      | fails, defect                  | recover        | 1       | 2 loader         |     0 | 2      | 1      | Down     | miss, store miss, loaded, store error
store fill      | hangs, late fail               | recover        | 1       | 2 loader         |  2000 | 2      | 1      | Down     | miss, store miss, loaded, store error
store fill      | late success                   | recover        | 1       | 2 loader         |  2000 | 2      | 2      | Down     | miss, store miss, loaded, store error
store fill      | slow                           | either         | 1       | 2 loader         |   200 | 2      | 2      | Up       | miss, store miss, loaded
store fill      | interruption                   | either         | 1       | interrupted      |   100 | 1      | 1      | Up       | miss, store miss, loaded
store fill      | fails, defect                  | fail           | -       | StoreUnavailable |     0 | -      | -      | Down     | miss, store miss, loaded, store error
store fill      | hangs, late fail               | fail           | -       | StoreTimeout     |  2000 | -      | -      | Down     | miss, store miss, loaded, store error
store fill      | late success                   | fail           | -       | StoreTimeout     |  2000 | -      | 2      | Down     | miss, store miss, loaded, store error
store fill      | fails, defect                  | fail           | 1       | StoreUnavailable |     0 | 1      | 1      | Down     | miss, store miss, loaded, store error
store fill      | hangs, late fail               | fail           | 1       | StoreTimeout     |  2000 | 1      | 1      | Down     | miss, store miss, loaded, store error
store fill      | late success                   | fail           | 1       | StoreTimeout     |  2000 | 1      | 2      | Down     | miss, store miss, loaded, store error

fill, timed     | hangs, late fail               | recover        | -       | 2 loader         |  2000 | 2      | -      | Down     | miss, store miss, loaded, store error
fill, timed     | hangs, late fail               | recover        | 1       | 2 loader         |  2000 | 2      | 1      | Down     | miss, store miss, loaded, store error
fill, timed     | hangs, late fail               | fail           | -       | StoreTimeout     |  2000 | -      | -      | Down     | miss, store miss, loaded, store error
fill, timed     | hangs, late fail               | fail           | 1       | StoreTimeout     |  2000 | 1      | 1      | Down     | miss, store miss, loaded, store error

re-arming       | fails, defect                  | either         | 1       | 1 stale          |     0 | 1      | 1      | Down     | miss, store miss, failed, stale, re-armed, store error
re-arming       | hangs, late success, late fail | either         | 1       | 1 stale          |  2000 | 1      | 1      | Down     | miss, store miss, failed, stale, re-armed, store error
re-arming       | slow                           | either         | 1       | 1 stale          |   200 | 1      | 1      | Up       | miss, store miss, failed, stale, re-armed
re-arming       | interruption                   | either         | 1       | interrupted      |   100 | 1      | 1      | Up       | miss, store miss, failed, re-armed

set             | fails, defect                  | recover        | -       | StoreUnavailable |     0 | 2      | 1 -> - | Down     |
set             | hangs, late fail               | recover        | -       | StoreTimeout     |  2000 | 2      | 1 -> - | Down     |
set             | late success                   | recover        | -       | StoreTimeout     |  2000 | 2      | 2 -> - | Down     |
set             | fails, defect                  | fail           | -       | StoreUnavailable |     0 | -      | 1      | Down     |
set             | hangs, late fail               | fail           | -       | StoreTimeout     |  2000 | -      | 1      | Down     |
set             | late success                   | fail           | -       | StoreTimeout     |  2000 | -      | 2      | Down     |
set             | slow                           | either         | -       | done             |   200 | 2      | 2      | Up       | set
set             | interruption                   | either         | -       | interrupted      |   100 | -      | 1      | Up       |

invalidate      | fails, defect                  | either         | -       | StoreUnavailable |     0 | -      | 1 -> - | Down     |
invalidate      | hangs, late fail               | either         | -       | StoreTimeout     |  2000 | -      | 1 -> - | Down     |
invalidate      | late success                   | either         | -       | StoreTimeout     |  2000 | -      | -      | Down     |
invalidate      | slow                           | either         | -       | true             |   200 | -      | -      | Up       | invalidated
invalidate      | interruption                   | either         | -       | interrupted      |   100 | -      | 1 -> - | Degraded |

clear           | fails, defect                  | either         | -       | StoreUnavailable |     0 | -      | 1 -> - | Down     |
clear           | hangs, late fail               | either         | -       | StoreTimeout     |  2000 | -      | 1 -> - | Down     |
clear           | late success                   | either         | -       | StoreTimeout     |  2000 | -      | -      | Down     |
clear           | slow                           | either         | -       | 1                |   200 | -      | -      | Up       | cleared
clear           | interruption                   | either         | -       | interrupted      |   100 | -      | 1 -> - | Degraded |

ping            | fails, defect                  | either         | -       | Degraded         |     0 | -      | -      | Down     |
ping            | hangs, late success, late fail | either         | -       | Degraded         |   500 | -      | -      | Down     |
ping            | slow                           | either         | -       | Up               |   200 | -      | -      | Up       |
ping            | interruption                   | either         | -       | interrupted      |   100 | -      | -      | Up       |
`

interface Cell {
  readonly step: string
  readonly fault: string
  readonly onStoreFailure: OnStoreFailure
  /** Whether 1 is cached and stale. */
  readonly isStaleThere: boolean
  readonly gives: string
  readonly after: number
  readonly memory: Then
  readonly store: Then
  readonly health: string
  readonly counts: ReadonlyArray<string>
}

/** What a tier has when the caller has its answer, and later. */
type Then = readonly [now: string, later: string]

const phrases: { readonly [fault: string]: string } = {
  fails: "fails",
  hangs: "hangs",
  "late success": "succeeds too late",
  "late fail": "fails too late",
  defect: "dies of a defect",
  slow: "is slow",
  interruption: "hangs and the caller is interrupted"
}

const [header, ...lines] = table
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => line.split("|").map((column) => column.trim()))

const cells: ReadonlyArray<Cell> = lines.flatMap((line) => {
  assert.strictEqual(line.length, header!.length, line.join("|"))
  const row = Object.fromEntries(header!.map((name, index) => [name, line[index]!])) as Row
  const faults = row.fault === "all" ? Object.keys(phrases) : row.fault.split(", ")
  const choices = row.onStoreFailure === "either" ? (["recover", "fail"] as const) : [row.onStoreFailure]
  return faults.flatMap((fault) =>
    choices.map((onStoreFailure) => ({
      step: row.step,
      fault,
      onStoreFailure,
      isStaleThere: row.stale !== "-",
      gives: row.gives,
      after: Number(row.after),
      memory: then(row.memory),
      store: then(row.store),
      health: row.health,
      counts: row.counts === "" ? [] : row.counts.split(", ")
    }))
  )
})

type Row = Record<"step" | "fault" | "stale" | "gives" | "after" | "memory" | "store" | "health" | "counts", string> & {
  readonly onStoreFailure: OnStoreFailure | "either"
}

function then(text: string): Then {
  const [now, later = now] = text.split(" -> ")
  return [now!, later!]
}

/** A part of the books, in a word. */
const words: { readonly [word: string]: ReadonlyArray<string> } = {
  hit: ["lookups", "memory.requests", "memory.hits"],
  miss: ["lookups", "memory.requests", "memory.misses"],
  "store miss": ["store.requests", "store.misses"],
  "store error": ["store.errors"],
  loaded: ["loads", "loadSuccess"],
  failed: ["loads", "loadFailure"],
  "cut off": ["loads", "loadInterrupted"],
  stale: ["stale"],
  "re-armed": ["rearmed"],
  "soft timeout": ["softTimeouts"],
  "hard timeout": ["hardTimeouts"],
  "late success": ["lateSuccess"],
  "late failure": ["lateFailure"],
  unencodable: ["unencodable"],
  set: ["sets"],
  invalidated: ["invalidations"],
  cleared: ["clears"]
}

const storeFaults: { readonly [fault: string]: Fault } = {
  fails: "fails",
  hangs: "hangs",
  "late success": "late",
  "late fail": "fails late",
  defect: "dies",
  slow: "slow",
  interruption: "hangs"
}

const loaders: { readonly [fault: string]: Effect.Effect<number, string> } = {
  fails: Effect.fail("no"),
  hangs: Effect.never,
  "late success": Effect.delay(Effect.succeed(2), "1500 millis"),
  "late fail": Effect.delay(Effect.fail("no"), "1500 millis"),
  defect: Effect.die("a bug in the loader"),
  slow: Effect.delay(Effect.succeed(2), slowness),
  interruption: Effect.never
}

type Numbers = Namespace.Namespace<string, number, CacheError>

interface Step {
  /** What the test's name says is at fault. */
  readonly says: string
  readonly breaks?: ReadonlyArray<Target>
  /** What 1 is cached as to begin with, where the table does not say that it is stale. */
  readonly isCached?: boolean
  readonly loader?: (fault: string) => Effect.Effect<number, string>
  readonly isTimed?: boolean
  /** Is the caller's, in place of a read. */
  readonly call?: (cache: Operations, ns: Numbers) => Effect.Effect<unknown, unknown>
}

const steps: { readonly [step: string]: Step } = {
  "hit in memory": {
    says: "before a hit in memory all else",
    breaks: ["read", "fill", "rearm"],
    isCached: true,
    loader: (fault) => loaders[fault]!
  },
  "store read": { says: "the store's read", breaks: ["read"] },
  "source and read": {
    says: "the loader fails, and the store's read",
    breaks: ["read"],
    loader: () => Effect.fail("no")
  },
  loader: { says: "the loader", loader: (fault) => loaders[fault]!, isTimed: true },
  encoding: { says: "encoding the value" },
  "store fill": { says: "the store's fill", breaks: ["fill"] },
  "fill, timed": { says: "before a loader with timeouts the store's fill", breaks: ["fill"], isTimed: true },
  "re-arming": {
    says: "the loader fails, and the store's re-arming of the stale row",
    breaks: ["rearm"],
    loader: () => Effect.fail("no")
  },
  set: { says: "the store's write", breaks: ["write"], isCached: true, call: (cache, ns) => cache.set(ns, "a", 2) },
  invalidate: {
    says: "the store's removal",
    breaks: ["remove"],
    isCached: true,
    call: (cache, ns) => cache.invalidate(ns, "a")
  },
  clear: { says: "the store's clear", breaks: ["clear"], isCached: true, call: (cache, ns) => cache.clear(ns) },
  ping: {
    says: "the store's ping",
    breaks: ["ping"],
    call: (cache) => Effect.map(cache.health, ({ status }) => status)
  }
}

const sentence = ({ after, fault, gives, isStaleThere, onStoreFailure, step }: Cell) =>
  [
    `${steps[step]!.says} ${phrases[fault]!}`,
    isStaleThere ? ", with a stale entry at hand" : "",
    onStoreFailure === "fail" ? `, where onStoreFailure is "fail"` : "",
    `: ${gives} after ${after} ms`
  ].join("")

/** As without the timeouts, and as without the loader's failure. */
const isElsewhere = new Set(
  ["fails", "late success", "defect", "slow", "interruption"]
    .map((fault) => `fill, timed: ${fault}`)
    .concat("source and read: interruption")
)

describe("a call in which", () => {
  it.effect.each(cells.map((cell) => ({ ...cell, toString: () => sentence(cell) })))("%s", (cell) => play(cell))

  it("the table has every step with every fault that it can have, under both choices", () => {
    const played = new Set(cells.map(({ fault, onStoreFailure, step }) => `${step}: ${fault}, ${onStoreFailure}`))
    for (const step of Object.keys(steps)) {
      for (const fault of step === "encoding" ? ["fails", "defect"] : Object.keys(phrases)) {
        if (isElsewhere.has(`${step}: ${fault}`)) continue
        for (const choice of ["recover", "fail"]) {
          assert.isTrue(played.has(`${step}: ${fault}, ${choice}`), `${step}: ${fault}, ${choice}`)
        }
      }
    }
    const names = cells.map(sentence)
    assert.strictEqual(new Set(names).size, names.length)
  })
})

const play = (cell: Cell) =>
  inWorld({ advance: TestClock.adjust, drift: 0, topology: bothTiers }, (world) =>
    Effect.gen(function* () {
      const { breaks = [], call, isCached = false, isTimed = false, loader } = steps[cell.step]!
      const fault = storeFaults[cell.fault]!
      const sound = yield* CacheStore
      const { faults, mend, store } = breakable(sound)
      const { cache, close, memory } = yield* world.node({
        store,
        config: { store: { readTimeout: "500 millis", writeTimeout: "2 seconds" } }
      })
      const encoding = { isBroken: false }
      const ns = world.namespace({
        value: breakableNumber(encoding, cell.fault),
        timeToLive: "1 minute",
        staleIfError: "10 minutes",
        onStoreFailure: cell.onStoreFailure,
        ...(isTimed ? { loaderSoftTimeout: "300 millis", loaderHardTimeout: "1 second" } : {})
      }) as Numbers
      const inMemory = Effect.map(Clock.currentTimeMillis, (now) =>
        shown(memory.partition<number>(ns.name).get("a", now)?.value)
      )
      const inStore = Effect.map(sound.read(ns.name, ["a"]), ([row]) =>
        shown(row?._tag === "Row" ? Number(row.data) : undefined)
      )
      if (cell.isStaleThere || isCached) yield* cache.set(ns, "a", 1)
      if (cell.isStaleThere) yield* world.advance("61 seconds")
      const before = flat(yield* cache.statsOf(ns))

      for (const target of breaks) faults.set(target, fault)
      // A row that a failed write has left behind is removed at once where that can be done.
      if (cell.step === "set") faults.set("remove", "fails")
      encoding.isBroken = cell.step === "encoding"
      const read = cache.getOrSetEntry(ns, "a", loader?.(cell.fault) ?? Effect.succeed(2))
      const calledAt = yield* Clock.currentTimeMillis
      const fiber = yield* start(
        Effect.flatMap(Effect.exit(call?.(cache, ns) ?? read), (exit) =>
          Effect.map(Clock.currentTimeMillis, (now) => ({ exit, after: now - calledAt }))
        )
      )
      for (let waited = 0; fiber.pollUnsafe() === undefined && waited < 5000; waited += 100) {
        yield* TestClock.adjust(100)
        if (cell.fault === "interruption") fiber.interruptUnsafe()
      }
      const answer = yield* Fiber.await(fiber)
      const gives = Exit.isSuccess(answer) ? given(answer.value.exit) : "interrupted"
      const after = Exit.isSuccess(answer) ? answer.value.after : (yield* Clock.currentTimeMillis) - calledAt
      assert.deepStrictEqual({ gives, after }, { gives: cell.gives, after: cell.after })
      const now = [yield* inMemory, yield* inStore]
      faults.delete("ping")
      const { components } = yield* cache.health
      assert.strictEqual(components.store.status, cell.health)
      if (cell.health === "Down") assert.strictEqual(components.store.since, calledAt + cell.after)

      mend()
      encoding.isBroken = false
      yield* world.advance("10 seconds")
      const later = [yield* inMemory, yield* inStore]
      assert.deepStrictEqual(
        { memory: [now[0], later[0]], store: [now[1], later[1]] },
        { memory: cell.memory, store: cell.store }
      )
      yield* close
      const counted = [...flat(yield* cache.statsOf(ns))].flatMap(([name, count]) =>
        Array.from({ length: count - before.get(name)! }, () => name)
      )
      const expected = cell.counts.flatMap((word) => words[word]!)
      assert.deepStrictEqual(counted.toSorted(), expected.toSorted())
    })
  ).pipe(Effect.provide(CacheStore.layerMemory, { local: true }))

/** A number that its schema refuses, or whose schema throws, while it is broken. */
const breakableNumber = (encoding: { readonly isBroken: boolean }, fault: string) =>
  Schema.Number.pipe(
    Schema.decodeTo(
      Schema.Number,
      SchemaTransformation.transform({
        decode: (number: number) => number,
        encode: (number: number) => {
          if (encoding.isBroken && fault === "defect") throw new Error("a bug in the schema")
          return encoding.isBroken ? ("refused" as unknown as number) : number
        }
      })
    )
  )

const shown = (value: number | undefined): string => (value === undefined ? "-" : String(value))

const given = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) {
    const { value } = exit
    if (value === undefined) return "done"
    if (typeof value !== "object") return String(value)
    const { freshness, origin, value: number } = value as CacheEntry<number>
    return `${number} ${freshness === "stale" ? "stale" : origin}`
  }
  if (Cause.hasInterrupts(exit.cause)) return "interrupted"
  if (Cause.hasDies(exit.cause)) return "a defect"
  const error = Cause.squash(exit.cause)
  return error instanceof CacheError ? error.reason._tag : "the loader's"
}

/** The counts by path, without those of time and of what memory holds, and what is computed from others. */
const flat = (stats: CacheStats): ReadonlyMap<string, number> =>
  new Map(
    [["memory.", stats.memory] as const, ["store.", stats.store] as const, ["", stats] as const].flatMap(
      ([path, part]) =>
        Object.entries(part).flatMap(([name, count]) =>
          typeof count === "number" && !uncounted.has(name) ? [[`${path}${name}`, count] as const] : []
        )
    )
  )

const uncounted = new Set(["hitRate", "loadTime", "meanLoadTime", "entries", "size"])
