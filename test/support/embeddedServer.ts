/** A program that uses the embedded server of the directory it is given: prints the address, ends when stdin does. */
import { Effect } from "effect"
import { once } from "node:events"
import * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

const program = Effect.gen(function* () {
  const address = yield* EmbeddedPostgres.server({ directory: process.argv[2]! })
  process.stdout.write(`${JSON.stringify(address)}\n`)
  yield* Effect.promise(() => once(process.stdin.resume(), "end"))
})

await Effect.runPromise(Effect.scoped(program))
