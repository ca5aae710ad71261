import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
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

  it.effect("those whose key is accepted can be diverted, and the others are boarded as before", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const callers = yield* forkAll([fly(flights, ["a1", "b1"], Effect.never), fly(flights, ["a2"], Effect.never)])
      flights.divertMatching((id) => id.startsWith("a"))
      const found = ["a1", "a2", "b1"].map((id) => flights.find(id) !== undefined)
      assert.deepStrictEqual([found, flights.size], [[false, false, true], 2])
      for (const caller of callers) yield* Fiber.interrupt(caller)
      assertEmpty(flights, ["a1", "a2", "b1"])
    })
  )

  it.effect("a flight that takes off in place of another is spared by the other's landing and leaving", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const [first] = yield* forkAll([fly(flights, ["a"], Effect.never)])
      const flight = flights.takeOff(["a"], () => Effect.runFork(Effect.never), undefined)
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
      const landed = flights.takeOff(["a"], () => Effect.runFork(Effect.succeed(1)), undefined)
      const failed = flights.takeOff(["b"], () => Effect.runFork(Effect.fail("no")), undefined)
      const never = flights.takeOff(["c"], () => Effect.runFork(Effect.never), undefined)
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
        flights.takeOff(["c"], () => Effect.runFork(Effect.never), undefined)
        const closing = yield* Effect.forkChild(flights.close, { startImmediately: true })
        assert.isUndefined(closing.pollUnsafe())
        yield* Deferred.succeed(cleaned, undefined)
        yield* Fiber.join(closing)
        for (const caller of [first!, second!]) assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(caller)))
        assertEmpty(flights, ["a", "b", "c"])
      })
  )

  it.effect("a flight carries its cargo from before its run begins, for all who board it", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number, { readonly weight: number }>()
      const cargo = { weight: 3 }
      let atStart: unknown
      const flight = flights.takeOff(
        ["a"],
        (flight) => {
          atStart = flight.cargo
          return Effect.runFork(Effect.never)
        },
        cargo
      )
      assert.strictEqual(atStart, cargo)
      assert.strictEqual(flights.find("a")!.cargo, cargo)
      let seen: unknown
      const patience = (flights: ReadonlyArray<Flight<number, unknown, string, typeof cargo>>) => {
        seen = flights.map(({ cargo }) => cargo)
        return Effect.void
      }
      yield* flights.waitWithin(() => [flight], patience, noop)
      assert.deepStrictEqual(seen, [cargo])
    })
  )

  describe("who is told that a flight has brought enough before it lands", () => {
    interface Cargo {
      isEnough: boolean
    }
    /** A run that says so when the test does, and goes on. */
    const telling = Effect.gen(function* () {
      const flights = new SingleFlight<string, number, Cargo>()
      const [time, landing, over] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<number>(),
        yield* Deferred.make<Exit.Exit<number>>()
      ]
      const flight = flights.takeOff<never>(
        ["a"],
        (flight) =>
          Effect.runFork(
            Deferred.await(time).pipe(
              Effect.andThen(
                Effect.sync(() => {
                  flight.cargo.isEnough = true
                  flights.tell(flight)
                })
              ),
              Effect.andThen(Deferred.await(landing)),
              Effect.onExit((exit) => Deferred.succeed(over, exit))
            )
          ),
        { isEnough: false }
      )
      const contented = flights.wait(
        () => [flight],
        ({ cargo }) => cargo.isEnough
      )
      return {
        flights,
        flight,
        contented,
        landing,
        tell: Deferred.succeed(time, undefined),
        over: Deferred.await(over)
      }
    })

    it.effect("waits no longer, and the run goes on for the others", () =>
      Effect.gen(function* () {
        const { contented, flight, flights, landing, tell } = yield* telling
        const [one, other] = yield* forkAll([contented, flights.wait(() => [flight])])
        yield* tell
        assert.deepStrictEqual(yield* Fiber.join(one!), [])
        assert.strictEqual(flight.waiters, 1)
        yield* Deferred.succeed(landing, 7)
        assert.deepStrictEqual(yield* Fiber.join(other!), [7])
        assertEmpty(flights, ["a"])
      })
    )

    it.effect("ends the run if nobody else waits for it", () =>
      Effect.gen(function* () {
        const { contented, flights, over, tell } = yield* telling
        const [one] = yield* forkAll([contented])
        yield* tell
        assert.deepStrictEqual(yield* Fiber.join(one!), [])
        assert.isTrue(Exit.hasInterrupts(yield* over))
        assertEmpty(flights, ["a"])
      })
    )

    it.effect("has left, though it is interrupted in the same step", () =>
      Effect.gen(function* () {
        const { contented, flight, flights, over, tell } = yield* telling
        const [one] = yield* forkAll([contented])
        flights.tell(flight)
        assert.isUndefined(one!.pollUnsafe(), "it is not enough yet")
        flight.cargo.isEnough = true
        flights.tell(flight)
        one!.interruptUnsafe()
        yield* Fiber.await(one!)
        assert.isTrue(Exit.hasInterrupts(yield* over))
        assertEmpty(flights, ["a"])
        yield* tell
      })
    )
  })

  it.effect("a flight without keys is found by nobody, and is waited for, left and closed like any other", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const landing = yield* Deferred.make<number>()
      const [landed, left, closed] = yield* forkAll([
        fly(flights, [], Deferred.await(landing)),
        fly(flights, [], Effect.never),
        fly(flights, [], Effect.never)
      ])
      assert.strictEqual(flights.size, 3)
      yield* Deferred.succeed(landing, 7)
      assert.deepStrictEqual(yield* Fiber.join(landed!), [7])
      yield* Fiber.interrupt(left!)
      assert.strictEqual(flights.size, 1)
      yield* flights.close
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(closed!)))
      assertEmpty(flights, [])
    })
  )

  describe("waitWithin", () => {
    it.effect("a caller that runs out of patience leaves without an answer; the run goes on for the others", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const landing = yield* Deferred.make<number>()
        const [patient] = yield* forkAll([fly(flights, ["a"], Deferred.await(landing))])
        const [impatient] = yield* forkAll([flyWithin(flights, ["a"], Effect.never, () => Effect.sleep(100))])
        assert.strictEqual(flights.find("a")!.waiters, 2)
        yield* TestClock.adjust(99)
        assert.isUndefined(impatient!.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isUndefined(yield* Fiber.join(impatient!))
        assert.strictEqual(flights.find("a")!.waiters, 1)
        yield* Deferred.succeed(landing, 7)
        assert.deepStrictEqual(yield* Fiber.join(patient!), [7])
        assertEmpty(flights, ["a"])
      })
    )

    it.effect("what lands before patience ends is the answer, and patience is interrupted", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const [a, b] = [yield* Deferred.make<number>(), yield* Deferred.make<number>()]
        yield* forkAll([fly(flights, ["a"], Deferred.await(a)), fly(flights, ["b"], Deferred.await(b))])
        const { adopted, adopt, isInterrupted, patience } = watched(Effect.never)
        const [caller] = yield* forkAll([flyWithin(flights, ["a", "b"], Effect.never, patience, adopt)])
        yield* Deferred.succeed(b, 2)
        assert.isFalse(isInterrupted())
        yield* Deferred.succeed(a, 1)
        assert.deepStrictEqual(yield* Fiber.join(caller!), [1, 2])
        assert.isTrue(isInterrupted())
        assert.deepStrictEqual(adopted, [])
        assertEmpty(flights, ["a", "b"])
      })
    )

    it.effect("no patience is needed for what has landed, or for nothing", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const landed = flights.takeOff(["a"], () => Effect.runFork(Effect.succeed(1)), undefined)
        const failed = flights.takeOff(["b"], () => Effect.runFork(Effect.fail("no")), undefined)
        const patience = () => Effect.die("asked for patience")
        assert.deepStrictEqual(yield* flights.waitWithin(() => [landed], patience, noop), [1])
        assert.deepStrictEqual(yield* flights.waitWithin(() => [], patience, noop), [])
        const exit = yield* Effect.exit(flights.waitWithin(() => [landed, failed], patience, noop))
        assert.deepStrictEqual(tagsOf(exit), ["Fail"])
      })
    )

    it.effect("without any patience the caller is answered in the step in which it boarded", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        yield* forkAll([fly(flights, ["a"], Effect.never)])
        const caller = Effect.runFork(flyWithin(flights, ["a"], Effect.never, () => Effect.void))
        assert.deepStrictEqual(caller.pollUnsafe(), Exit.succeed(undefined))
        assert.strictEqual(flights.find("a")!.waiters, 1)
      })
    )

    it.effect("only what has not landed is handed on, before the caller leaves it", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const [a, b] = [yield* Deferred.make<number>(), yield* Deferred.make<number>()]
        const enough = yield* Deferred.make<void>()
        yield* forkAll([fly(flights, ["a"], Deferred.await(a))])
        const waiters: Array<number> = []
        const passengers: Array<Fiber.Fiber<ReadonlyArray<number>, unknown>> = []
        const [caller] = yield* forkAll([
          flyWithin(
            flights,
            ["a", "b"],
            Deferred.await(b),
            () => Deferred.await(enough),
            (flight) => {
              waiters.push(flight.waiters)
              passengers.push(Effect.runFork(flights.wait(() => [flight])))
            }
          )
        ])
        yield* Deferred.succeed(a, 1)
        const flight = flights.find("b")!
        yield* Deferred.succeed(enough, undefined)
        assert.isUndefined(yield* Fiber.join(caller!))
        assert.deepStrictEqual(waiters, [1])
        assert.strictEqual(flight.waiters, 1)
        yield* Deferred.succeed(b, 2)
        assert.deepStrictEqual(yield* joinAll(passengers), [[2]])
        assertEmpty(flights, ["a", "b"])
      })
    )

    it.effect("the last to run out of patience ends the run that nobody takes on, and waits for its finalizers", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const cleaned = yield* Deferred.make<void>()
        const run = Effect.ensuring(Effect.never, Deferred.await(cleaned))
        const [caller] = yield* forkAll([flyWithin(flights, ["a"], run, () => Effect.void)])
        assert.isUndefined(flights.find("a"))
        assert.isUndefined(caller!.pollUnsafe())
        yield* Deferred.succeed(cleaned, undefined)
        assert.isUndefined(yield* Fiber.join(caller!))
        assertEmpty(flights, ["a"])
      })
    )

    for (const [how, patienceOf] of [
      ["ran out of patience", (enough: Deferred.Deferred<void>) => Deferred.await(enough)],
      ["is interrupted", () => Effect.never]
    ] as const) {
      it.effect(`a caller that ${how} is not spared the wait for the finalizers by an interruption on top`, () =>
        Effect.gen(function* () {
          const flights = new SingleFlight<string, number>()
          const [cleaned, enough] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
          const run = Effect.ensuring(Effect.never, Deferred.await(cleaned))
          const [caller] = yield* forkAll([flyWithin(flights, ["a"], run, () => patienceOf(enough))])
          yield* Deferred.succeed(enough, undefined)
          const [first, second] = yield* forkAll([Fiber.interrupt(caller!), Fiber.interrupt(caller!)])
          assert.isUndefined(caller!.pollUnsafe())
          yield* Deferred.succeed(cleaned, undefined)
          yield* joinAll([first!, second!])
          assertEmpty(flights, ["a"])
        })
      )
    }

    for (const [how, ids, exit] of [
      ["success", ["a"], Exit.succeed(7)],
      ["failure", ["a", "b"], Exit.fail("no")]
    ] as const) {
      it.effect(`when patience ends in the step of a ${how}, that is the one answer`, () =>
        Effect.gen(function* () {
          const flights = new SingleFlight<string, number>()
          const landing = yield* Deferred.make<number, string>()
          const enough = yield* Deferred.make<void>()
          // It is told of the landing first, and in that step ends the patience of the other.
          yield* forkAll([
            Effect.ensuring(fly(flights, ["a"], Deferred.await(landing)), Deferred.succeed(enough, undefined))
          ])
          const { adopted, adopt, patience } = watched(Deferred.await(enough))
          let answers = 0
          const [caller] = yield* forkAll([
            Effect.onExit(flyWithin<string>(flights, ids, Effect.never, patience, adopt), () =>
              Effect.sync(() => answers++)
            )
          ])
          yield* Deferred.done(landing, exit)
          assert.isTrue(yield* Deferred.isDone(enough))
          assert.deepStrictEqual(
            yield* Fiber.await(caller!),
            Exit.map(exit, (value) => [value])
          )
          assert.strictEqual(answers, 1)
          assert.deepStrictEqual(adopted, [])
          assertEmpty(flights, ["a"])
        })
      )
    }

    it.effect("a defect of patience is the caller's, which leaves as ever and hands nothing on", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const { adopted, adopt } = watched(Effect.void)
        const throws = () => {
          throw new Error("thrown")
        }
        for (const patience of [() => Effect.die("died"), throws]) {
          const exit = yield* Effect.exit(flyWithin(flights, ["a"], Effect.never, patience, adopt))
          assert.deepStrictEqual(tagsOf(exit), ["Die"])
          assertEmpty(flights, ["a"])
        }
        assert.deepStrictEqual(adopted, [])
      })
    )

    it.effect("a caller that is interrupted takes its patience with it and hands nothing on", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const { adopted, adopt, isInterrupted, patience } = watched(Effect.never)
        const [caller] = yield* forkAll([flyWithin(flights, ["a"], Effect.never, patience, adopt)])
        yield* Fiber.interrupt(caller!)
        assert.isTrue(isInterrupted())
        assert.deepStrictEqual(adopted, [])
        assertEmpty(flights, ["a"])
      })
    )

    it.effect("patience that lands the flight as it begins is interrupted like any other", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const landing = yield* Deferred.make<number>()
        const { isInterrupted, patience } = watched(Effect.andThen(Deferred.succeed(landing, 7), Effect.never))
        assert.deepStrictEqual(yield* flyWithin(flights, ["a"], Deferred.await(landing), patience), [7])
        assert.isTrue(isInterrupted())
      })
    )

    it.effect("patience is the caller's: it runs in its context", () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        let name: string | undefined
        const patience = () => Effect.map(Name, (own) => void (name = own))
        yield* Effect.provideService(flyWithin(flights, ["a"], Effect.never, patience), Name, "caller")
        assert.strictEqual(name, "caller")
      })
    )
  })

  it("an interruption between any two steps leaves no run behind that nobody waits for", () => {
    const leavers = [
      (flights: SingleFlight<string, number>, on: ReadonlyArray<Flight<number, unknown, string, undefined>>) =>
        flights.wait(() => on),
      (flights: SingleFlight<string, number>, on: ReadonlyArray<Flight<number, unknown, string, undefined>>) =>
        flights.waitWithin(
          () => on,
          () => Effect.void,
          noop
        )
    ]
    for (const leave of leavers) {
      for (const isLate of [false, true]) {
        for (let steps = 0; steps < 20; steps++) {
          const stepper = new Stepper({ fine: true })
          const flights = new SingleFlight<string, number>()
          const failure = Deferred.makeUnsafe<number, string>()
          const runs = [Deferred.await(failure), Effect.never]
          const on = runs.map((run) =>
            flights.takeOff<unknown>([], () => stepper.fork(run, Context.empty()), undefined)
          )
          stepper.step()
          if (!isLate) Deferred.doneUnsafe(failure, Exit.fail("no"))
          stepper.step()
          const caller = stepper.fork(leave(flights, on), Context.empty())
          if (isLate) Deferred.doneUnsafe(failure, Exit.fail("no"))
          stepper.step(steps)
          caller.interruptUnsafe()
          stepper.step()
          assert.isDefined(caller.pollUnsafe())
          assert.strictEqual(flights.size, 0, `after ${steps} steps`)
        }
      }
    }
  })

  it("counts its waiters exactly, however they come, go, lose patience, fail and land", () =>
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 40, size: "max" }),
        fc.record({ fine: fc.boolean(), seed: fc.nat(1000) }),
        (commands, options) => {
          const stepper = new Stepper(options)
          const flights = new SingleFlight<string, number>()
          const all: Array<Landable> = []
          const callers: Array<Caller> = []
          const takeOff = (ids: ReadonlyArray<string>) => {
            const landing = Deferred.makeUnsafe<number, string>()
            const flight = flights.takeOff<unknown>(
              ids,
              () => stepper.fork(Deferred.await(landing), Context.empty()),
              undefined
            )
            all.push({ flight, land: (exit) => Deferred.doneUnsafe(landing, exit) })
            return flight
          }
          const fork = (wait: (caller: Caller) => Effect.Effect<ReadonlyArray<number> | undefined, unknown>) => {
            const caller: Caller = { on: new Set(), enough: Deferred.makeUnsafe<void>(), answers: [], fiber: undefined }
            callers.push(caller)
            caller.fiber = stepper.fork(
              Effect.onExit(wait(caller), (exit) => Effect.sync(() => caller.answers.push(exit))),
              Context.empty()
            )
          }
          const board = (caller: Caller, ids: ReadonlyArray<string>) => () => {
            const left = ids.filter((id) => {
              const flight = flights.find(id)
              if (flight !== undefined) caller.on.add(flight)
              return flight === undefined
            })
            if (left.length > 0 || ids.length === 0) caller.on.add(takeOff(left))
            return [...caller.on]
          }
          const adopt = (flight: Flight<number, unknown, string, undefined>) =>
            fork((passenger) =>
              flights.wait(() => {
                passenger.on.add(flight)
                return [flight]
              })
            )
          for (const command of commands) {
            const flying = all.filter(({ flight }) => flight.exit === undefined)
            const waiting = callers.filter(({ fiber }) => fiber!.pollUnsafe() === undefined)
            if (command._tag === "Board")
              fork((caller) =>
                command.patience === undefined
                  ? flights.wait(board(caller, command.ids))
                  : flights.waitWithin(
                      board(caller, command.ids),
                      () => (command.patience === "none" ? Effect.void : Deferred.await(caller.enough)),
                      command.adopts ? adopt : noop
                    )
              )
            else if (command._tag === "Land") flying[command.index % flying.length]?.land(command.exit)
            else if (command._tag === "Enough") {
              const caller = waiting[command.index % waiting.length]
              if (caller !== undefined) Deferred.doneUnsafe(caller.enough, command.exit)
            } else if (command._tag === "Divert") flights.divert(command.id)
            else if (command._tag === "Interrupt") waiting[command.index % waiting.length]?.fiber!.interruptUnsafe()
            else stepper.fork(flights.close, Context.empty())
            stepper.step(options.fine ? command.steps : Infinity)
            if (stepper.isIdle) assertCounted(flights, all, callers)
          }
          stepper.step()
          assertCounted(flights, all, callers)
          for (const { land } of all) land(Exit.succeed(1))
          stepper.step()
          for (const caller of callers) assert.isDefined(caller.fiber!.pollUnsafe(), "a caller hangs")
          assertCounted(flights, all, callers)
          assertEmpty(flights, ids)
        }
      ),
      { numRuns: 500 }
    ))
})

interface Landable {
  readonly flight: Flight<number, unknown, string, undefined>
  readonly land: (exit: Exit.Exit<number, string>) => void
}

interface Caller {
  readonly on: Set<Flight<number, unknown, string, undefined>>
  readonly enough: Deferred.Deferred<void>
  readonly answers: Array<Exit.Exit<ReadonlyArray<number> | undefined, unknown>>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

/** Of flights and callers that have come to rest. */
const assertCounted = (
  flights: SingleFlight<string, number>,
  all: ReadonlyArray<Landable>,
  callers: ReadonlyArray<Caller>
) => {
  const flown = all.filter(({ flight }) => flight.exit === undefined)
  for (const { flight } of all) {
    const waiting = callers.filter(({ fiber, on }) => fiber!.pollUnsafe() === undefined && on.has(flight))
    assert.strictEqual(flight.waiters, waiting.length)
    assert.isTrue(flight.exit !== undefined || waiting.length > 0, "in the air without a waiter")
  }
  assert.strictEqual(flights.size, flown.length)
  for (const id of ids)
    assert.isTrue(flown.some(({ flight }) => flight === flights.find(id)) || flights.find(id) === undefined)
  for (const { answers, fiber, on } of callers) {
    assert.strictEqual(answers.length, fiber!.pollUnsafe() === undefined ? 0 : 1)
    for (const exit of answers)
      if (Exit.isSuccess(exit) && exit.value !== undefined)
        assert.deepStrictEqual(
          exit.value,
          [...on].map((flight) => (flight.exit as Exit.Success<number>).value)
        )
  }
}

const ids = ["a", "b", "c"]

const steps = fc.integer({ min: 0, max: 6 })

const command = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      _tag: fc.constant("Board"),
      ids: fc.uniqueArray(fc.constantFrom(...ids)),
      patience: fc.constantFrom(undefined, "none", "some", "some"),
      adopts: fc.boolean(),
      steps
    })
  },
  {
    weight: 10,
    arbitrary: fc.record({
      _tag: fc.constant("Land"),
      index: fc.nat(3),
      exit: fc.constantFrom<Exit.Exit<number, string>>(
        Exit.succeed(1),
        Exit.succeed(1),
        Exit.fail("no"),
        Exit.die("no"),
        Exit.failCause(Cause.interrupt(0))
      ),
      steps
    })
  },
  {
    weight: 10,
    arbitrary: fc.record({
      _tag: fc.constant("Enough"),
      index: fc.nat(3),
      exit: fc.constantFrom<Exit.Exit<void>>(Exit.void, Exit.void, Exit.die("no")),
      steps
    })
  },
  { weight: 5, arbitrary: fc.record({ _tag: fc.constant("Divert"), id: fc.constantFrom(...ids), steps }) },
  { weight: 10, arbitrary: fc.record({ _tag: fc.constant("Interrupt"), index: fc.nat(3), steps }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Close"), steps }) }
)

class Name extends Context.Reference<string>("test/Name", { defaultValue: () => "nobody" }) {}

const noop = () => {}

/** Patience that says whether it was interrupted, and who was handed on. */
const watched = (effect: Effect.Effect<unknown>) => {
  let isInterrupted = false
  const adopted: Array<unknown> = []
  return {
    adopted,
    adopt: (flight: unknown) => void adopted.push(flight),
    isInterrupted: () => isInterrupted,
    patience: () => Effect.asVoid(Effect.onInterrupt(effect, () => Effect.sync(() => (isInterrupted = true))))
  }
}

/** Boards the flights of the keys, and starts one for those that have none; without keys, a private one. */
const fly = <E>(flights: SingleFlight<string, number>, ids: ReadonlyArray<string>, run: Effect.Effect<number, E>) =>
  Effect.withFiber<ReadonlyArray<number>, E>((caller) => flights.wait(() => board(flights, ids, run, caller)))

const flyWithin = <E>(
  flights: SingleFlight<string, number>,
  ids: ReadonlyArray<string>,
  run: Effect.Effect<number, E>,
  patience: () => Effect.Effect<void>,
  adopt: (flight: Flight<number, E, string, undefined>) => void = noop
) =>
  Effect.withFiber<ReadonlyArray<number> | undefined, E>((caller) =>
    flights.waitWithin(() => board(flights, ids, run, caller), patience, adopt)
  )

const board = <E>(
  flights: SingleFlight<string, number>,
  ids: ReadonlyArray<string>,
  run: Effect.Effect<number, E>,
  caller: Fiber.Fiber<unknown, unknown>
) => {
  const boarded = new Set<Flight<number, E, string, undefined>>()
  const left: Array<string> = []
  for (const id of ids) {
    const flight = flights.find<E>(id)
    if (flight === undefined) left.push(id)
    else boarded.add(flight)
  }
  if (left.length > 0 || ids.length === 0)
    boarded.add(flights.takeOff(left, () => Effect.runForkWith(caller.context)(run), undefined))
  return [...boarded]
}

const forkAll = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.forEach(effects, (effect) => Effect.forkChild(effect, { startImmediately: true }))

const joinAll = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>) => Effect.forEach(fibers, (fiber) => Fiber.join(fiber))

const assertEmpty = <C>(flights: SingleFlight<string, number, C>, ids: ReadonlyArray<string>) => {
  assert.strictEqual(flights.size, 0)
  for (const id of ids) assert.isUndefined(flights.find(id))
}

const tagsOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isSuccess(exit) ? [] : exit.cause.reasons.map((reason) => reason._tag)
