/** How much several processes get done together on one table. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as readline from "node:readline"
import { fileURLToPath } from "node:url"
import { typescript } from "../harness/Program.ts"
import type { Order } from "./worker.ts"

const worker = fileURLToPath(new URL("worker.ts", import.meta.url))

/** Operations a second of so many processes, which begin at the same moment. */
export const throughput = (processes: number, order: Order): Effect.Effect<number> =>
  Effect.promise(async () => {
    const workers = await Promise.all(Array.from({ length: processes }, () => start(order)))
    const counts = await Promise.all(workers.map((run) => run()))
    return counts.reduce((sum, count) => sum + count, 0) / order.seconds
  })

/** Once it is ready; called, it works and says how much it has done. */
const start = (order: Order): Promise<() => Promise<number>> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...typescript, worker, JSON.stringify(order)], {
      stdio: ["pipe", "pipe", "inherit"]
    })
    const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    child.once("error", reject)
    child.once("exit", (code) => reject(new Error(`a worker ended with ${code}`)))
    const next = async () => String((await lines.next()).value)
    next().then((line) => {
      if (line !== "ready") return reject(new Error(`a worker said "${line}"`))
      resolve(async () => {
        child.stdin.write("go\n")
        return Number(await next())
      })
    }, reject)
  })
