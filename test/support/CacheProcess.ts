/** A child process with a cache on a database, and what it can be told to do (`childCache.ts`). */
import { Effect, type Scope } from "effect"
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { CacheConfigInput } from "../../src/CacheConfig.ts"

export interface Setup {
  readonly url: string
  readonly config: CacheConfigInput
  /** Of its namespaces, whose values take another form with each. Default 1. */
  readonly version?: number
  /** By how many milliseconds its clock is ahead of this machine's. Default 0. */
  readonly clockAhead?: number
  /** In its pool. Default 4. */
  readonly maxConnections?: number
}

export interface Order extends Required<Details> {
  readonly id: number
  readonly does:
    | "read"
    | "readMemory"
    | "inspect"
    | "getOrSet"
    | "crowd"
    | "bulk"
    | "endLoad"
    | "failLoad"
    | "giveUp"
    | "set"
    | "invalidate"
    | "expire"
    | "invalidateTags"
    | "expireTags"
    | "invalidatePattern"
    | "expirePattern"
    | "clear"
    | "clearAll"
    | "keys"
    | "forgets"
    | "outlives"
    | "stats"
    | "health"
  readonly namespace: string
  readonly key: string
  readonly value: string
}

export interface Details {
  /** Of what is stored. */
  readonly tags?: ReadonlyArray<string>
  /** Of what is stored, in milliseconds; as the policy says where it is `null`. */
  readonly timeToLive?: number | null
  /** How many ask at once (`crowd`). Default 1. */
  readonly callers?: number
  /** Which keys each asks for (`bulk`). */
  readonly wanted?: ReadonlyArray<ReadonlyArray<string>>
  /** How long a load takes, in milliseconds; where it is `null`, until the process is told. */
  readonly takes?: number | null
}

export interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly failure?: string
  /** When it was done, by the clock that all processes share. */
  readonly at?: number
}

/** A loader has begun. */
export interface Loading {
  readonly namespace: string
  readonly keys: ReadonlyArray<string>
  /** By the clock that all processes share. */
  readonly at: number
}

/** What many callers were answered with, and how many with each. */
export interface Crowd {
  readonly values: Readonly<Record<string, number>>
  readonly failures: Readonly<Record<string, number>>
}

export interface CacheProcess {
  readonly pid: number
  /** Ends when the process has done it. */
  readonly tell: <A>(
    does: Order["does"],
    namespace: string,
    key?: string,
    value?: string,
    details?: Details
  ) => Effect.Effect<{ readonly result: A; readonly at: number }>
  /** The loads that it has begun of a key, or of any. */
  readonly loads: (namespace: string, key?: string) => ReadonlyArray<Loading>
  /** Ends when it has begun the first load of a key. */
  readonly loading: (namespace: string, key: string) => Effect.Effect<Loading>
  readonly signal: (signal: "SIGSTOP" | "SIGCONT" | "SIGKILL") => Effect.Effect<void>
  /** Closes the cache and ends. */
  readonly end: Effect.Effect<void>
  /** What it logged. */
  readonly log: () => string
}

const root = fileURLToPath(new URL("../../", import.meta.url))
const file = fileURLToPath(new URL("childCache.ts", import.meta.url))

/** It is there, and has yet to connect, until it may begin. */
export const start = (
  setup: Setup,
  mayBegin: Effect.Effect<unknown> = Effect.void
): Effect.Effect<CacheProcess, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, ["--import", "tsx", file, JSON.stringify(setup)], { cwd: root })),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let log = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text))
    // What one that was killed has yet to read.
    child.stdin.on("error", () => {})
    const { ask, loading, loads } = conversation(child, () => log)
    yield* ask(0, () => {})
    yield* mayBegin
    yield* ask(1, () => child.stdin.write("\n"))
    let orders = 1
    return {
      pid: child.pid!,
      tell: <A>(does: Order["does"], namespace: string, key = "", value = "", details: Details = {}) =>
        Effect.suspend(() => {
          const id = ++orders
          const order: Order = { ...unsaid, ...details, id, does, namespace, key, value }
          return Effect.map(
            ask(id, () => child.stdin.write(`${JSON.stringify(order)}\n`)),
            ({ at, result }) => ({ result: result as A, at: at! })
          )
        }),
      loads,
      loading,
      signal: (signal) => Effect.sync(() => child.kill(signal)),
      end: Effect.promise(() => {
        const ended = once(child, "exit")
        child.stdin.end()
        return ended
      }),
      log: () => log
    }
  })

const unsaid: Required<Details> = { tags: [], timeToLive: null, callers: 1, wanted: [], takes: 0 }

const conversation = (child: ChildProcessWithoutNullStreams, log: () => string) => {
  const waiting = new Map<number, (answer: Effect.Effect<Answer>) => void>()
  const begun: Array<Loading> = []
  const watchers = new Set<() => void>()
  const loads = (namespace: string, key?: string) =>
    begun.filter((load) => load.namespace === namespace && (key === undefined || load.keys.includes(key)))
  createInterface(child.stdout).on("line", (line) => {
    const said: Answer | Loading = JSON.parse(line)
    if ("keys" in said) {
      begun.push(said)
      for (const watch of watchers) watch()
      return
    }
    const { failure, id } = said
    waiting.get(id)?.(failure === undefined ? Effect.succeed(said) : Effect.die(new Error(failure)))
    waiting.delete(id)
  })
  let hasEnded = false
  const itEnded = () => Effect.die(new Error(`the process has ended: ${log()}`))
  child.on("exit", () => {
    hasEnded = true
    for (const resume of waiting.values()) resume(itEnded())
  })
  return {
    ask: (id: number, say: () => void): Effect.Effect<Answer> =>
      Effect.callback((resume) => {
        if (hasEnded) return resume(itEnded())
        waiting.set(id, resume)
        say()
      }),
    loads,
    loading: (namespace: string, key: string): Effect.Effect<Loading> =>
      Effect.callback((resume) => {
        const watch = () => {
          const [first] = loads(namespace, key)
          if (first !== undefined) resume(Effect.succeed(first))
        }
        watchers.add(watch)
        watch()
        return Effect.sync(() => watchers.delete(watch))
      })
  }
}
