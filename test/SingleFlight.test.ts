import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber } from "effect"
import * as fc from "fast-check"
import { type Flight, SingleFlight } from "../src/SingleFlight.ts"
import { Stepper } from "./model/Stepper.ts"

describe("SingleFlight", () => {
  it.effect("one run answers all who ask meanwhile, and nothing is left of it", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const landing = yield* Deferred.make<number>()
      let runs = 0
      const run = Effect.suspend(() => {
        runs++
        return Deferred.await(landing)
      })
      const callers = yield* forkAll([1, 2, 3].map(() => fly(flights, ["a"], run)))
      assert.strictEqual(flights.find("a")!.waiters, 3)
      assert.strictEqual(flights.size, 1)
      yield* Deferred.succeed(landing, 7)
      assert.deepStrictEqual(yield* joinAll(callers), [[7], [7], [7]])
      assert.strictEqual(runs, 1)
      assertEmpty(flights, ["a"])
      assert.deepStrictEqual(yield* fly(flights, ["a"], Effect.succeed(8)), [8])
    })
  )

  for (const [how, cause] of [
    ["failure", Cause.fail("no")],
    ["defect", Cause.die("no")],
    ["interruption", Cause.interrupt(0)]
  ] as const) {
    it.effect(`all share the ${how} of the run`, () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const landing = yield* Deferred.make<number, string>()
        const callers = yield* forkAll([1, 2].map(() => fly(flights, ["a"], Deferred.await(landing))))
        yield* Deferred.failCause(landing, cause)
        for (const caller of callers)
          assert.deepStrictEqual(tagsOf(yield* Fiber.await(caller)), tagsOf(Exit.failCause(cause)))
        assertEmpty(flights, ["a"])
      })
    )
  }

  it.effect("a caller that is interrupted leaves, also the first one; the run goes on for the others", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const landing = yield* Deferred.make<number>()
      const [first, second, third] = yield* forkAll([1, 2, 3].map(() => fly(flights, ["a"], Deferred.await(landing))))
      const flight = flights.find("a")!
      yield* Fiber.interrupt(first!)
      assert.strictEqual(flight.waiters, 2)
      yield* Fiber.interrupt(third!)
      assert.strictEqual(flight.waiters, 1)
      yield* Deferred.succeed(landing, 7)
      assert.deepStrictEqual(yield* Fiber.join(second!), [7])
      assertEmpty(flights, ["a"])
    })
  )

  it.effect("the last to leave interrupts the run and waits for its finalizers, while a newcomer starts another", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const cleaned = yield* Deferred.make<void>()
      const run = Effect.ensuring(Effect.never, Deferred.await(cleaned))
      const [caller] = yield* forkAll([fly(flights, ["a"], run)])
      const leaving = yield* Effect.forkChild(Fiber.interrupt(caller!), { startImmediately: true })
      assert.isUndefined(flights.find("a"))
      assert.deepStrictEqual(yield* fly(flights, ["a"], Effect.succeed(8)), [8])
      assert.isUndefined(caller!.pollUnsafe())
      assert.strictEqual(flights.size, 1)
      yield* Deferred.succeed(cleaned, undefined)
      yield* Fiber.join(leaving)
      assertEmpty(flights, ["a"])
    })
  )

  it.effect("a flight of several keys is boarded under each, and ends when nobody waits for any", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const callers = yield* forkAll([
        fly(flights, ["a", "b"], Effect.never),
        fly(flights, ["a"], Effect.never),
        fly(flights, ["b"], Effect.never)
      ])
      const flight = flights.find("a")!
      assert.strictEqual(flights.find("b"), flight)
      for (const [index, caller] of callers.entries()) {
        assert.isUndefined(flight.exit)
        assert.strictEqual(flight.waiters, 3 - index)
        yield* Fiber.interrupt(caller)
      }
      assert.isTrue(Exit.hasInterrupts(flight.exit!))
      assertEmpty(flights, ["a", "b"])
    })
  )

  it.effect("a caller of several flights gets what each brings, in the order in which it boarded them", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const [a, b] = [yield* Deferred.make<number>(), yield* Deferred.make<number>()]
      const callers = yield* forkAll([
        fly(flights, ["a"], Deferred.await(a)),
        fly(flights, ["b"], Deferred.await(b)),
        fly(flights, ["a", "b"], Effect.never)
      ])
      yield* Deferred.succeed(b, 2)
      yield* Effect.yieldNow
      assert.isUndefined(callers[2]!.pollUnsafe())
      yield* Deferred.succeed(a, 1)
      assert.deepStrictEqual(yield* joinAll(callers), [[1], [2], [1, 2]])
      assertEmpty(flights, ["a", "b"])
    })
  )

  for (const cause of [Cause.fail("no"), Cause.interrupt(0)]) {
    it.effect(`a caller that fails with one flight (${cause.reasons[0]!._tag}) leaves its others, each once`, () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const [a, b] = [yield* Deferred.make<number, string>(), yield* Deferred.make<number>()]
        const [, other] = yield* forkAll([
          fly(flights, ["a"], Deferred.await(a)),
          fly(flights, ["b"], Deferred.await(b))
        ])
        const [both] = yield* forkAll([fly(flights, ["a", "b", "c"], Effect.never)])
        const [flightB, flightC] = [flights.find("b")!, flights.find("c")!]
        assert.deepStrictEqual([flightB.waiters, flightC.waiters], [2, 1])
        yield* Deferred.failCause(a, cause)
        assert.isTrue(Exit.isFailure(yield* Fiber.await(both!)))
        assert.strictEqual(flightB.waiters, 1)
        assert.isTrue(Exit.hasInterrupts(flightC.exit!))
        yield* Deferred.succeed(b, 2)
        assert.deepStrictEqual(yield* Fiber.join(other!), [2])
        assertEmpty(flights, ["a", "b", "c"])
      })
    )
  }

  it.effect("a diverted flight goes on for those who wait, nobody boards it, and its landing spares the next one", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const [old, young] = [yield* Deferred.make<number>(), yield* Deferred.make<number>()]
      const [first] = yield* forkAll([fly(flights, ["a", "b"], Deferred.await(old))])
      const flight = flights.find("a")
      flights.divert("a")
      assert.isUndefined(flights.find("a"))
      assert.strictEqual(flights.find("b"), flight)
      const [second] = yield* forkAll([fly(flights, ["a"], Deferred.await(young))])
      assert.strictEqual(flights.size, 2)
      yield* Deferred.succeed(old, 1)
      assert.deepStrictEqual(yield* Fiber.join(first!), [1])
      assert.isUndefined(flights.find("b"))
      assert.strictEqual(flights.find("a")!.waiters, 1)
      yield* Deferred.succeed(young, 2)
      assert.deepStrictEqual(yield* Fiber.join(second!), [2])
      assertEmpty(flights, ["a", "b"])
    })
  )

  it.effect("all keys can be diverted at once", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const callers = yield* forkAll([fly(flights, ["a"], Effect.never), fly(flights, ["b", "c"], Effect.never)])
      flights.divertAll()
      for (const id of ["a", "b", "c"]) assert.isUndefined(flights.find(id))
      assert.strictEqual(flights.size, 2)
      for (const caller of callers) yield* Fiber.interrupt(caller)
      assertEmpty(flights, ["a", "b", "c"])
    })
  )

  it.effect("a flight that takes off in place of another is spared by the other's landing and leaving", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const [first] = yield* forkAll([fly(flights, ["a"], Effect.never)])
      const flight = flights.takeOff(["a"], () => Effect.runFork(Effect.never))
      const [second] = yield* forkAll([fly(flights, ["a"], Effect.never)])
      yield* Fiber.interrupt(first!)
      assert.strictEqual(flights.find("a"), flight)
      assert.strictEqual(flight.waiters, 1)
      yield* Fiber.interrupt(second!)
      assertEmpty(flights, ["a"])
    })
  )

  it.effect("a run that ends at once was never in the air", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      assert.deepStrictEqual(yield* fly(flights, ["a"], Effect.succeed(1)), [1])
      assertEmpty(flights, ["a"])
      assert.deepStrictEqual(tagsOf(yield* Effect.exit(fly(flights, ["a"], Effect.fail("no")))), ["Fail"])
      assertEmpty(flights, ["a"])
      const landed = flights.takeOff(["a"], () => Effect.runFork(Effect.succeed(1)))
      const failed = flights.takeOff(["b"], () => Effect.runFork(Effect.fail("no")))
      const never = flights.takeOff(["c"], () => Effect.runFork(Effect.never))
      assert.deepStrictEqual(yield* flights.wait(() => [landed, landed]), [1, 1])
      assert.deepStrictEqual(tagsOf(yield* Effect.exit(flights.wait(() => [landed, failed, never]))), ["Fail"])
      assert.strictEqual(never.waiters, 0)
      assertEmpty(flights, ["a", "b", "c"])
    })
  )

  it.effect("who boards nothing waits for nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* new SingleFlight<string, number>().wait(() => []), [])
    })
  )

  it.effect(
    "closing interrupts all runs, diverted ones and those without a waiter too, and waits for their finalizers",
    () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const cleaned = yield* Deferred.make<void>()
        const [first, second] = yield* forkAll([
          fly(flights, ["a"], Effect.ensuring(Effect.never, Deferred.await(cleaned))),
          fly(flights, ["b"], Effect.never)
        ])
        flights.divert("b")
        flights.takeOff(["c"], () => Effect.runFork(Effect.never))
        const closing = yield* Effect.forkChild(flights.close, { startImmediately: true })
        assert.isUndefined(closing.pollUnsafe())
        yield* Deferred.succeed(cleaned, undefined)
        yield* Fiber.join(closing)
        for (const caller of [first!, second!]) assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(caller)))
        assertEmpty(flights, ["a", "b", "c"])
      })
  )

  it("counts its waiters exactly, however they come, go, fail and land", () =>
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40, size: "max" }), (commands) => {
        const stepper = new Stepper()
        const flights = new SingleFlight<string, number>()
        const all: Array<{
          readonly flight: Flight<number, unknown, string>
          readonly land: (exit: Exit.Exit<number, string>) => void
        }> = []
        const callers: Array<{
          readonly fiber: Fiber.Fiber<unknown, unknown>
          readonly on: Set<Flight<number, unknown, string>>
        }> = []
        const takeOff = (ids: ReadonlyArray<string>) => {
          const landing = Deferred.makeUnsafe<number, string>()
          const flight = flights.takeOff<unknown>(ids, () => stepper.fork(Deferred.await(landing), Context.empty()))
          all.push({ flight, land: (exit) => Deferred.doneUnsafe(landing, exit) })
          return flight
        }
        for (const command of commands) {
          const flying = all.filter(({ flight }) => flight.exit === undefined)
          const waiting = callers.filter(({ fiber }) => fiber.pollUnsafe() === undefined)
          if (command._tag === "Board") {
            const on = new Set<Flight<number, unknown, string>>()
            const fiber = stepper.fork(
              flights.wait(() => {
                const left = command.ids.filter((id) => {
                  const flight = flights.find(id)
                  if (flight !== undefined) on.add(flight)
                  return flight === undefined
                })
                if (left.length > 0) on.add(takeOff(left))
                return [...on]
              }),
              Context.empty()
            )
            callers.push({ fiber, on })
          } else if (command._tag === "Land") flying[command.index % flying.length]?.land(command.exit)
          else if (command._tag === "Divert") flights.divert(command.id)
          else waiting[command.index % waiting.length]?.fiber.interruptUnsafe()
          stepper.step()
          const flown = all.filter(({ flight }) => flight.exit === undefined)
          for (const { flight } of flown) {
            const waiters = callers.filter(({ fiber, on }) => fiber.pollUnsafe() === undefined && on.has(flight)).length
            assert.strictEqual(flight.waiters, waiters)
            assert.isAbove(waiters, 0)
          }
          assert.strictEqual(flights.size, flown.length)
          for (const id of ids)
            assert.isTrue(flown.some(({ flight }) => flight === flights.find(id)) || flights.find(id) === undefined)
        }
      })
    ))
})

const ids = ["a", "b", "c"]

const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ _tag: fc.constant("Board"), ids: fc.uniqueArray(fc.constantFrom(...ids), { minLength: 1 }) })
  },
  {
    weight: 2,
    arbitrary: fc.record({
      _tag: fc.constant("Land"),
      index: fc.nat(3),
      exit: fc.constantFrom<Exit.Exit<number, string>>(
        Exit.succeed(1),
        Exit.succeed(1),
        Exit.fail("no"),
        Exit.die("no"),
        Exit.failCause(Cause.interrupt(0))
      )
    })
  },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Divert"), id: fc.constantFrom(...ids) }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Interrupt"), index: fc.nat(3) }) }
)

/** Boards the flights of the keys, and starts one for those that have none. */
const fly = <E>(flights: SingleFlight<string, number>, ids: ReadonlyArray<string>, run: Effect.Effect<number, E>) =>
  Effect.withFiber<ReadonlyArray<number>, E>((caller) =>
    flights.wait(() => {
      const boarded = new Set<Flight<number, E, string>>()
      const left: Array<string> = []
      for (const id of ids) {
        const flight = flights.find<E>(id)
        if (flight === undefined) left.push(id)
        else boarded.add(flight)
      }
      if (left.length > 0) boarded.add(flights.takeOff(left, () => Effect.runForkWith(caller.context)(run)))
      return [...boarded]
    })
  )

const forkAll = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.forEach(effects, (effect) => Effect.forkChild(effect, { startImmediately: true }))

const joinAll = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>) => Effect.forEach(fibers, (fiber) => Fiber.join(fiber))

const assertEmpty = (flights: SingleFlight<string, number>, ids: ReadonlyArray<string>) => {
  assert.strictEqual(flights.size, 0)
  for (const id of ids) assert.isUndefined(flights.find(id))
}

const tagsOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isSuccess(exit) ? [] : exit.cause.reasons.map((reason) => reason._tag)
