/**
 * Minutes of several processes on one PostgreSQL, killed, stopped and cut off at random,
 * and whether any read was then given what it must not be: `npm run history`.
 *
 * What is done is in `test/history/Trial.ts`, what is forbidden in `test/history/Verdict.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect } from "effect"
import { CliConfig, CliError, Command, Flag, GlobalFlag } from "effect/cli"
import { report } from "../test/history/Report.ts"
import * as Trial from "../test/history/Trial.ts"
import { Dice } from "../test/soak/Dice.ts"
import * as Server from "../test/soak/Server.ts"

const minutes = Flag.Finite("minutes").pipe(
  Flag.withDescription("How long (default 1)"),
  Flag.withDefault(1),
  Flag.filter(
    (minutes) => minutes > 0 && minutes <= 60,
    (minutes) => `a number above 0 up to 60, not ${minutes}`
  )
)

const seed = Flag.Int("seed").pipe(
  Flag.withDescription("What is done and what goes wrong; the order in which things happen is the machine's affair"),
  Flag.withDefault(Date.now() % 1_000_000)
)

const processes = Flag.Int("processes").pipe(
  Flag.withDescription("How many processes (default 6)"),
  Flag.withDefault(6),
  Flag.filter(
    (processes) => processes > 0 && processes <= 8,
    (processes) => `a number from 1 to 8, not ${processes}`
  )
)

const command = Command.make("npm run history --", { minutes, seed, processes }, ({ minutes, processes, seed }) =>
  Effect.gen(function* () {
    yield* Console.log(`${minutes} minutes, ${processes} processes, seed ${seed}`)
    const { troubles, url } = yield* Server.make(new Dice(seed))
    const outcome = yield* Trial.run({
      url,
      seed,
      duration: minutes * 60_000,
      processes,
      onServer: troubles.filter(({ name }) => name === "frozen (SIGSTOP)" || name === "killed, restarted"),
      onTrouble: (name, at) => Console.log(`  ${(at / 1000).toFixed(1).padStart(6)} s  ${name}`)
    })
    yield* Console.log(`\n${report(outcome)}`)
    if (outcome.verdict.violations.length > 0) {
      return yield* new CliError.UserError({ cause: undefined, userMessage: `Forbidden reads; seed ${seed}` })
    }
  }).pipe(Effect.scoped)
).pipe(Command.withDescription("Several processes on one PostgreSQL in trouble, and a judge of what they read"))

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
