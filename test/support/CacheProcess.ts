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
}

export interface Order {
  readonly id: number
  readonly does:
    | "read"
    | "readMemory"
    | "getOrSet"
    | "load"
    | "endLoad"
    | "set"
    | "invalidate"
    | "clear"
    | "clearAll"
    | "forgets"
    | "remoteRemovals"
  readonly namespace: string
  readonly key: string
  readonly value: string
}

export interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly failure?: string
  /** When it was done, by the clock that all processes share. */
  readonly at?: number
}

export interface CacheProcess {
  readonly pid: number
  /** Ends when the process has done it. */
  readonly tell: <A>(
    does: Order["does"],
    namespace: string,
    key?: string,
    value?: string
  ) => Effect.Effect<{ readonly result: A; readonly at: number }>
  /** Closes the cache and ends. */
  readonly end: Effect.Effect<void>
  /** What it logged. */
  readonly log: () => string
}

const root = fileURLToPath(new URL("../../", import.meta.url))
const file = fileURLToPath(new URL("childCache.ts", import.meta.url))

export const start = (setup: Setup): Effect.Effect<CacheProcess, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, ["--import", "tsx", file, JSON.stringify(setup)], { cwd: root })),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let log = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text))
    const ask = conversation(child, () => log)
    yield* ask(0, () => {})
    let orders = 0
    return {
      pid: child.pid!,
      tell: <A>(does: Order["does"], namespace: string, key = "", value = "") =>
        Effect.suspend(() => {
          const id = ++orders
          const order: Order = { id, does, namespace, key, value }
          return Effect.map(
            ask(id, () => child.stdin.write(`${JSON.stringify(order)}\n`)),
            ({ at, result }) => ({ result: result as A, at: at! })
          )
        }),
      end: Effect.promise(() => {
        const ended = once(child, "exit")
        child.stdin.end()
        return ended
      }),
      log: () => log
    }
  })

const conversation = (child: ChildProcessWithoutNullStreams, log: () => string) => {
  const waiting = new Map<number, (answer: Effect.Effect<Answer>) => void>()
  createInterface(child.stdout).on("line", (line) => {
    const answer: Answer = JSON.parse(line)
    const { failure, id } = answer
    waiting.get(id)?.(failure === undefined ? Effect.succeed(answer) : Effect.die(new Error(failure)))
    waiting.delete(id)
  })
  child.on("exit", () => {
    for (const resume of waiting.values()) resume(Effect.die(new Error(`the process has ended: ${log()}`)))
  })
  return (id: number, say: () => void): Effect.Effect<Answer> =>
    Effect.callback((resume) => {
      waiting.set(id, resume)
      say()
    })
}
