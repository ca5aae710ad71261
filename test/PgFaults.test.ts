/**
 * A cache on a PostgreSQL that is stopped, killed, frozen, cut off, full, locked and
 * slow, under crowds of callers (`faults/Faults`, `faults/Trial`). `npm run
 * bench:faults` prints the figures; here is what must hold of them on any machine,
 * however busy: nothing that a fault keeps waiting would end before the fault does.
 */
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { type Fault, faults } from "./faults/Faults.ts"
import * as Server from "./faults/Server.ts"
import * as Trial from "./faults/Trial.ts"
import { assertAddsUp, assertNothingUnderWay } from "./support/invariants.ts"

const settings = {
  readTimeout: 500,
  writeTimeout: 600,
  breakerProbeInterval: 300,
  loaderTime: 20,
  callers: 1000,
  crowds: 2,
  every: 400
}

/** In a row, by default, before the store is left alone. */
const breakerFailures = 5

/** How long other processes may keep this one from running. What waits for a server waits for longer. */
const stall = 4000

const settingsFor = ({ lasts, takesAway }: Fault): Trial.Settings => {
  switch (takesAway) {
    case "everything":
      return { ...settings, inTurn: 1000, pause: 0 }
    case "nothing":
      // Only a busy machine can make the store late.
      return {
        ...settings,
        readTimeout: 20_000,
        writeTimeout: 20_000,
        inTurn: lasts === undefined ? 100 : 20,
        pause: 0
      }
    default:
      // For longer than the breaker rests.
      return { ...settings, inTurn: 150, pause: 10 }
  }
}

/** The server of this file: what is done to it is done to nobody else. */
class Victim extends Context.Service<Victim, Server.Server>()("test/PgFaults/Victim") {
  static readonly layer = Layer.effect(Victim, Server.make)
}

const run = (server: Server.Server, fault: Fault) =>
  Effect.gen(function* () {
    const trial = yield* Trial.run(server, fault, settingsFor(fault))
    assertNobodyNoticed(trial)
    assertLeftAlone(trial)
    assertBack(trial)
    assertAddsUp(trial.stats)
  })

const assertNobodyNoticed = ({ bound, callers, failed, mostLoads, slack, waits }: Trial.Trial) => {
  assert.strictEqual(failed, 0)
  assert.isAtLeast(callers, 2 * settings.callers)
  assert.strictEqual(mostLoads, 1)
  assert.isBelow(waits.max, bound + 3 * slack + stall)
}

const assertLeftAlone = ({
  during,
  errors,
  fault,
  inTurnTook,
  overBare,
  settings,
  skipped,
  tried,
  undecodable
}: Trial.Trial) => {
  switch (fault.takesAway) {
    case "everything":
      assert.strictEqual(during, "Degraded")
      // The second crowd, but for the probes.
      assert.isAtLeast(skipped, settings.callers / 2)
      assert.isDefined(overBare)
      // Processor time: a tenth of a millisecond as a rule, and what a busy machine makes of that (`bench/faults.ts` tells).
      assert.isBelow(overBare.calmest, 5)
      return
    case "writes":
      assert.strictEqual(during, "Degraded")
      // Reads go on, and writes and leases are each tried now and then.
      assert.isAtMost(tried, 2 * (breakerFailures + 1 + inTurnTook / settings.breakerProbeInterval))
      return
    case "most writes":
      assert.isAtLeast(errors, breakerFailures)
      assert.isAtLeast(skipped, 1)
      return
    case "some calls":
      assert.isAtLeast(errors, 1)
      return
    case "nothing":
      assert.strictEqual(during, "Up")
      assert.strictEqual(errors + skipped, 0)
      assert.isAtLeast(undecodable, settings.callers / 2)
  }
}

const assertBack = ({ backAfter, fault, log, sessions, slack, usable, wellAfter }: Trial.Trial) => {
  assert.isDefined(backAfter)
  assert.isDefined(wellAfter)
  // The last probe may have met the end of the fault.
  assert.isBelow(backAfter, settings.breakerProbeInterval + settings.readTimeout + 3 * slack + stall)
  const ofStore = log.filter((line) => !/what other processes change|unheard of/.test(line))
  const turns = ofStore.map((line) => /the store is (down|back)/.exec(line)?.[1])
  if (fault.takesAway === "nothing") assert.deepStrictEqual(turns, [])
  else if (fault.takesAway === "everything") assert.deepStrictEqual(turns, ["down", "back"])
  // What answers now and then may seem well for a while.
  else assert.deepStrictEqual(turns, Array.from({ length: turns.length / 2 }, () => ["down", "back"]).flat())
  assert.isAtMost(sessions, Trial.poolSize)
  assert.strictEqual(usable, Trial.poolSize)
}

describe("C38 C39 C40 C70 A cache on PostgreSQL serves a thousand callers at once, and is well again afterwards", () => {
  const brief = faults.filter(({ lasts }) => lasts === undefined)
  const long = faults.filter(({ lasts }) => lasts !== undefined)

  layer(Victim.layer, { timeout: "60 seconds", excludeTestServices: true })((it) => {
    it.effect.each(brief)("$name", (fault) =>
      Effect.andThen(
        Effect.flatMap(Victim, (server) => run(server, fault)),
        Effect.sync(assertNothingUnderWay)
      )
    )
  })

  layer(Layer.empty, { excludeTestServices: true })((it) => {
    // They last ten seconds each, and most of that nothing happens.
    it.effect(
      `${long.map(({ name }) => name).join("; ")}: each on a server of its own`,
      () =>
        Effect.forEach(long, (fault) => Effect.flatMap(Server.make, (server) => run(server, fault)), {
          concurrency: "unbounded",
          discard: true
        }).pipe(Effect.andThen(Effect.sync(assertNothingUnderWay))),
      { timeout: 120_000 }
    )
  })
})
