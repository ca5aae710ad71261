/**
 * One process of a stampede: many callers at once want a key that nobody has.
 *
 * Started by `bench/misses.ts` with the peer, the database or socket, the key and
 * the number of callers; waits for a line of input, so that all processes begin
 * together; ends with a line that says how often the loader ran, and how long the
 * callers waited.
 */
import * as readline from "node:readline/promises"
import { spoken, type StampedeResult, stampedes } from "./Stampede.ts"

const [peer, url, key, callers] = process.argv.slice(2)
const stampede = await stampedes[peer!]!(url!)
await stampede(`${key} before`, 1)
console.log(`${spoken}ready`)
await readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()
const before = performance.now()
const { loads, right } = await stampede(key!, Number(callers))
const result: StampedeResult = { loads, right, waited: performance.now() - before }
console.log(`${spoken}${JSON.stringify(result)}`)
process.exit()
