/** A process with a cache of its own and visitors, until stdin ends; see `Visitor`. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Fiber, Layer, Logger, Redacted } from "effect"
import { CacheLive, TieredCache } from "effect-tiered-cache"
import type { CacheConfigInput } from "../../src/CacheConfig.ts"
import { Dice } from "../soak/Dice.ts"
import { Recorder } from "./Recorder.ts"
import type { Surroundings } from "./Deeds.ts"
import { visit } from "./Visitor.ts"

export interface Setup {
  readonly url: string
  readonly process: string
  /** Where its notes go. */
  readonly file: string
  readonly seed: number
  readonly visitors: number
  readonly config: CacheConfigInput
}

const setup: Setup = JSON.parse(process.argv[2]!)

const program = Effect.gen(function* () {
  const self: Surroundings = {
    cache: yield* TieredCache,
    sql: yield* PgClient.PgClient,
    recorder: new Recorder(setup.process, setup.file),
    dice: new Dice(setup.seed),
    transaction: undefined
  }
  self.recorder.watchItself()
  const visitors = yield* Effect.forEach(Array.from({ length: setup.visitors }), () => Effect.forkChild(visit(self)))
  process.stdout.write("ready\n")
  yield* Effect.callback<void>((resume) => {
    process.stdin.resume().once("end", () => resume(Effect.void))
  })
  yield* Fiber.interruptAll(visitors)
})

const Database = PgClient.layer({ url: Redacted.make(setup.url), maxConnections: 8 })

await program.pipe(
  Effect.provide(Layer.provideMerge(CacheLive.layer(setup.config), Database)),
  Effect.provideService(Logger.LogToStderr, true),
  Effect.runPromise
)
