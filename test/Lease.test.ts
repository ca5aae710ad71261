/** Three processes, a few keys, and loads that succeed, fail or hang, in any order. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { CacheStore } from "../src/CacheStore.ts"
import { Leases } from "../src/Leases.ts"
import { bothTiers, type CacheNode, inWorld, start, turn, type World } from "./suites/cacheNode.ts"

const keys = ["a", "b", "c"]

type Command =
  | { readonly _tag: "Read"; readonly node: number; readonly keys: ReadonlyArray<string> }
  | { readonly _tag: "End"; readonly index: number; readonly how: "succeeds" | "fails" | "dies" }
  | { readonly _tag: "Interrupt"; readonly index: number }
  | { readonly _tag: "Pass"; readonly millis: number }
  | { readonly _tag: "Invalidate"; readonly node: number; readonly key: string }
  | { readonly _tag: "Deafen" }

const read: fc.Arbitrary<Command> = fc.record({
  _tag: fc.constant("Read"),
  node: fc.nat(2),
  keys: fc.uniqueArray(fc.constantFrom(...keys), { minLength: 1 })
})

const calm: ReadonlyArray<fc.WeightedArbitrary<Command>> = [
  { weight: 8, arbitrary: read },
  {
    weight: 5,
    arbitrary: fc.record({
      _tag: fc.constant("End"),
      index: fc.nat(5),
      how: fc.constantFrom("succeeds", "succeeds", "fails", "dies")
    })
  },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("Interrupt"), index: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("Pass"), millis: fc.constantFrom(1, 100, 250, 900) }) }
]

const rough: ReadonlyArray<fc.WeightedArbitrary<Command>> = [
  ...calm,
  {
    weight: 2,
    arbitrary: fc.record({ _tag: fc.constant("Invalidate"), node: fc.nat(2), key: fc.constantFrom(...keys) })
  },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Deafen") }) }
]

interface Run {
  readonly keys: ReadonlyArray<string>
  /** The keys that it loads without a lease, because a load that it waited for brought nothing. */
  readonly urgent: ReadonlySet<string>
  readonly end: Deferred.Deferred<ReadonlyArray<number>, string>
}

interface Caller {
  readonly fiber: Fiber.Fiber<ReadonlyArray<number>, string>
  isInterrupted: boolean
}

/** With `isCalm` leases outlive everything, and nothing but loads ends them. */
const play = (commands: ReadonlyArray<Command>, isCalm: boolean) =>
  inWorld({ advance: (duration) => TestClock.adjust(duration), drift: 0, topology: bothTiers }, (world: World) =>
    Effect.gen(function* () {
      const nodes: ReadonlyArray<CacheNode> = yield* Effect.all([world.node(), world.node(), world.node()])
      const ns = world.namespace({
        value: Schema.Int,
        leaseDuration: isCalm ? "1 hour" : "600 millis",
        leaseWait: isCalm ? "1 day" : "900 millis"
      })
      const running = new Set<Run>()
      const callers: Array<Caller> = []
      /** When a load of the key last brought nothing to share, in commands. */
      const broughtNothing = new Map<string, number>()
      let values = 0
      let now = 0
      const loaderOf =
        (since: number) =>
        (missing: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<number>, string> =>
          Effect.suspend(() => {
            const urgent = new Set<string>()
            const run: Run = { keys: missing, urgent, end: Deferred.makeUnsafe() }
            for (const key of missing) {
              const others = [...running].filter((other) => other.keys.includes(key))
              if (!isCalm || others.every((other) => other.urgent.has(key))) continue
              assert.isAtLeast(broughtNothing.get(key) ?? -1, since, `${key} is loaded twice at a time`)
              urgent.add(key)
            }
            running.add(run)
            return Effect.onExit(Deferred.await(run.end), (exit) =>
              Effect.sync(() => {
                running.delete(run)
                if (Exit.isFailure(exit)) for (const key of missing) broughtNothing.set(key, now)
              })
            )
          })
      for (const command of commands) {
        now++
        switch (command._tag) {
          case "Read": {
            const { cache } = nodes[command.node]!
            const fiber = yield* start(cache.getOrSetMany(ns, command.keys, loaderOf(now)))
            callers.push({ fiber, isInterrupted: false })
            break
          }
          case "End": {
            const run = [...running][command.index % Math.max(1, running.size)]
            if (run !== undefined)
              yield* Deferred.done(
                run.end,
                exitOf(command.how, run, () => ++values)
              )
            break
          }
          case "Interrupt": {
            const caller = callers[command.index % Math.max(1, callers.length)]
            if (caller === undefined) break
            caller.isInterrupted = true
            yield* Fiber.interrupt(caller.fiber)
            break
          }
          case "Pass": {
            yield* TestClock.adjust(command.millis)
            break
          }
          case "Invalidate": {
            yield* nodes[command.node]!.cache.invalidate(ns, command.key)
            break
          }
          case "Deafen": {
            // What is woken from here on to the next command is not heard of.
            const wake = Leases.prototype.wake
            Leases.prototype.wake = () => {}
            for (const run of [...running].slice(0, 1)) {
              yield* Deferred.done(
                run.end,
                exitOf("succeeds", run, () => ++values)
              )
              yield* turn
            }
            Leases.prototype.wake = wake
            break
          }
        }
        yield* turn
      }
      for (let rounds = 0; callers.some(({ fiber }) => fiber.pollUnsafe() === undefined); rounds++) {
        assert.isBelow(rounds, 100, "a caller hangs")
        for (const run of running)
          yield* Deferred.done(
            run.end,
            exitOf("succeeds", run, () => ++values)
          )
        yield* turn
        yield* TestClock.adjust("1 second")
      }
      for (const { fiber, isInterrupted } of callers) {
        const exit = yield* Fiber.await(fiber)
        if (!isInterrupted && Exit.isFailure(exit)) assert.match(String(exit.cause), /bad|dead/)
      }
      yield* turn
      assert.strictEqual(running.size, 0)
      const store = yield* CacheStore
      const rows = yield* store.read(ns.name, keys)
      const asked = keys.map((key, index) => ({ key, fence: rows[index]!.fence }))
      const grants = yield* store.acquire(ns.name, asked, { owner: "the test", duration: 1 })
      assert.deepStrictEqual(
        grants.map(({ _tag }) => _tag),
        keys.map(() => "Granted")
      )
    })
  ).pipe(Effect.provide(CacheStore.layerMemory, { local: true }))

const exitOf = (
  how: "succeeds" | "fails" | "dies",
  { keys }: Run,
  value: () => number
): Exit.Exit<ReadonlyArray<number>, string> =>
  how === "succeeds" ? Exit.succeed(keys.map(value)) : how === "fails" ? Exit.fail("bad") : Exit.die("dead")

const check = (commands: ReadonlyArray<fc.WeightedArbitrary<Command>>, isCalm: boolean) =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...commands), { size: "max", maxLength: 40 }), (commands) =>
        Effect.runPromise(Effect.scoped(Effect.provide(play(commands, isCalm), TestClock.layer())))
      ),
      { numRuns: 100 }
    )
  )

describe("Lease", () => {
  it.effect(
    "no key is loaded by two at a time but after a load that brought nothing, all are answered, none is left",
    () => check(calm, true)
  )

  it.effect("with leases that run out, lost wakes and invalidations all are answered too, and no lease is left", () =>
    check(rough, false)
  )
})
