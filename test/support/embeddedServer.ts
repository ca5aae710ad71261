/**
 * A program that uses the embedded server of the options it is given: prints the
 * address, logs to stderr, ends when stdin does.
 */
import { Effect, Logger } from "effect"
import { once } from "node:events"
import * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

const options: EmbeddedPostgres.ServerOptions = JSON.parse(process.argv[2]!)

const program = Effect.gen(function* () {
  const address = yield* EmbeddedPostgres.server(options)
  process.stdout.write(`${JSON.stringify(address)}\n`)
  yield* Effect.promise(() => once(process.stdin.resume(), "end"))
})

await program.pipe(Effect.scoped, Effect.provideService(Logger.LogToStderr, true), Effect.runPromise)
