/**
 * Minutes of everything at once on a real PostgreSQL in trouble: `npm run soak`.
 *
 * What is done, and which promises are looked at, is in `test/soak/Soak.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect } from "effect"
import { CliConfig, CliError, Command, Flag, GlobalFlag } from "effect/cli"
import { report } from "../test/soak/Report.ts"
import * as Soak from "../test/soak/Soak.ts"

const minutes = Flag.Finite("minutes").pipe(
  Flag.withDescription("How long (default 3)"),
  Flag.withDefault(3),
  Flag.filter(
    (minutes) => minutes > 0 && minutes <= 24 * 60,
    (minutes) => `a number above 0 up to 1440, not ${minutes}`
  )
)

const seed = Flag.Int("seed").pipe(
  Flag.withDescription("What is done and what goes wrong; the order in which things happen is the machine's affair"),
  Flag.withDefault(Date.now() % 1_000_000)
)

const command = Command.make("npm run soak --", { minutes, seed }, ({ minutes, seed }) =>
  Effect.gen(function* () {
    yield* Console.log(`${minutes} minutes, seed ${seed}`)
    const onTrouble = (name: string, at: number) => Console.log(`  ${(at / 1000).toFixed(1).padStart(6)} s  ${name}`)
    const outcome = yield* Soak.run({ seed, duration: minutes * 60_000, onTrouble })
    yield* Console.log(`\n${report(outcome)}`)
    if (outcome.tally.problems.size > 0) {
      return yield* new CliError.UserError({ cause: undefined, userMessage: `Broken promises; seed ${seed}` })
    }
  })
).pipe(Command.withDescription("Everything at once, for minutes, on a real PostgreSQL in trouble"))

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
