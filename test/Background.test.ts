import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Logger, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Background from "../src/Background.ts"
import { type Flight, SingleFlight } from "../src/SingleFlight.ts"
import { Stepper } from "./model/Stepper.ts"

type TestFlight = Flight<number, unknown, string, undefined>

const limits = { maxLoads: 2, maxTime: 1000 }

describe("Background", () => {
  it.effect("a load goes on after its only caller has left, and then nothing is left of it", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const background = yield* Background.make(limits)
      const landing = yield* Deferred.make<number>()
      const flight = yield* leaveBehind(flights, background, Deferred.await(landing))
      assert.strictEqual(background.size, 1)
      assert.strictEqual(flight.waiters, 1)
      assert.strictEqual(flights.find("a"), flight)
      yield* Deferred.succeed(landing, 7)
      assert.deepStrictEqual(flight.exit, Exit.succeed(7))
      assertNothing(flights, background)
    })
  )

  it.effect("the passenger has boarded when adopt returns, however little its caller may do in one go", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const background = yield* Background.make(limits)
      const flight = takeOff(flights, Effect.never)
      const context = Context.add(yield* Effect.context<never>(), References.MaxOpsBeforeYield, 1)
      assert.isTrue(background.adopt(flights, flight, context))
      assert.strictEqual(flight.waiters, 1)
    })
  )

  it.effect(
    "a caller that boards an adopted flight shares its end with the passenger, and neither needs the other",
    () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const background = yield* Background.make(limits)
        const landing = yield* Deferred.make<number>()
        const flight = yield* leaveBehind(flights, background, Deferred.await(landing))
        const [first, second] = yield* forkAll([flights.wait(() => [flight]), flights.wait(() => [flight])])
        yield* Fiber.interrupt(first!)
        yield* TestClock.adjust(limits.maxTime)
        assert.strictEqual(background.size, 0)
        assert.strictEqual(flight.waiters, 1)
        yield* Deferred.succeed(landing, 7)
        assert.deepStrictEqual(yield* Fiber.join(second!), [7])
        assertNothing(flights, background)
      })
  )

  it.effect("a flight has one passenger, however often it is adopted, and may get another when that one has left", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const background = yield* Background.make({ ...limits, maxLoads: 1 })
      const flight = takeOff(flights, Effect.never)
      const context = yield* Effect.context<never>()
      yield* forkAll([flights.wait(() => [flight])])
      assert.isTrue(background.adopt(flights, flight, context))
      assert.isTrue(background.adopt(flights, flight, context))
      assert.strictEqual(flight.waiters, 2)
      assert.strictEqual(background.size, 1)
      yield* TestClock.adjust(limits.maxTime)
      assert.strictEqual(flight.waiters, 1)
      assert.isTrue(background.adopt(flights, flight, context))
      assert.strictEqual(flight.waiters, 2)
    })
  )

  it.effect("flights that look alike are told apart", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const background = yield* Background.make(limits)
      const context = yield* Effect.context<never>()
      const alike = [takeOff(flights, Effect.never, []), takeOff(flights, Effect.never, [])]
      for (const flight of alike) background.adopt(flights, flight, context)
      assert.deepStrictEqual(
        alike.map(({ waiters }) => waiters),
        [1, 1]
      )
    })
  )

  it.effect("when there is no room nothing happens, and the flight ends with its caller; a landing makes room", () =>
    Effect.gen(function* () {
      const flights = new SingleFlight<string, number>()
      const background = yield* Background.make(limits)
      const context = yield* Effect.context<never>()
      const landing = yield* Deferred.make<number>()
      for (const run of [Deferred.await(landing), Effect.never])
        assert.isTrue(background.adopt(flights, takeOff(flights, run, []), context))
      const refused = takeOff(flights, Effect.never)
      assert.isFalse(background.adopt(flights, refused, context))
      assert.strictEqual(refused.waiters, 0)
      assert.isTrue(Exit.hasInterrupts((yield* leaveBehind(flights, background, Effect.never)).exit!))
      assert.strictEqual(background.size, 2)
      yield* Deferred.succeed(landing, 7)
      assert.strictEqual(background.size, 1)
      assert.isTrue(background.adopt(flights, refused, context))
    })
  )

  it.effect(
    "a passenger leaves after its time, and the flight ends if nobody else waits; till then its place is taken",
    () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const background = yield* Background.make(limits)
        const cleaned = yield* Deferred.make<void>()
        const flight = yield* leaveBehind(flights, background, Effect.ensuring(Effect.never, Deferred.await(cleaned)))
        yield* TestClock.adjust(limits.maxTime - 1)
        assert.strictEqual(flights.find("a"), flight)
        yield* TestClock.adjust(1)
        assert.isUndefined(flights.find("a"))
        assert.strictEqual(background.size, 1)
        yield* Deferred.succeed(cleaned, undefined)
        assert.isTrue(Exit.hasInterrupts(flight.exit!))
        assertNothing(flights, background)
      })
  )

  it.effect(
    "closing ends the flights of all passengers but those that others wait for, waits, and lets none board",
    () =>
      Effect.gen(function* () {
        const flights = new SingleFlight<string, number>()
        const scope = yield* Scope.make()
        const background = yield* Scope.provide(Background.make(limits), scope)
        const context = yield* Effect.context<never>()
        const cleaned = yield* Deferred.make<void>()
        const alone = yield* leaveBehind(flights, background, Effect.ensuring(Effect.never, Deferred.await(cleaned)))
        const shared = takeOff(flights, Effect.never, ["b"])
        yield* forkAll([flights.wait(() => [shared])])
        background.adopt(flights, shared, context)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        assert.isUndefined(closing.pollUnsafe())
        assert.isUndefined(alone.exit)
        assert.isFalse(background.adopt(flights, alone, context))
        yield* Deferred.succeed(cleaned, undefined)
        yield* Fiber.join(closing)
        assert.isTrue(Exit.hasInterrupts(alone.exit!))
        assert.strictEqual(shared.waiters, 1)
        assert.strictEqual(background.size, 0)
        assert.isFalse(background.adopt(flights, shared, context))
        assert.strictEqual(shared.waiters, 1)
      })
  )

  for (const [how, cause, logged] of [
    ["a defect", Cause.die("no"), 1],
    ["a failure", Cause.fail("no"), 0],
    ["an interruption", Cause.interrupt(0), 0]
  ] as const) {
    it.effect(
      `${how} of a load that only a passenger waits for is ${logged === 0 ? "not logged" : "logged once"}, and goes nowhere else`,
      () =>
        Effect.gen(function* () {
          const lines: Array<unknown> = []
          const logger = Logger.make(({ cause, logLevel, message }) => lines.push([logLevel, message, cause]))
          const flights = new SingleFlight<string, number>()
          const scope = yield* Scope.make()
          const background = yield* Scope.provide(Background.make(limits), scope)
          const landing = yield* Deferred.make<number, string>()
          yield* Effect.provide(leaveBehind(flights, background, Deferred.await(landing)), Logger.layer([logger]))
          yield* Deferred.failCause(landing, cause)
          assertNothing(flights, background)
          assert.deepStrictEqual(lines, logged === 0 ? [] : [["Error", ["cache: a background load died"], cause]])
          assert.isTrue(Exit.isSuccess(yield* Effect.exit(Scope.close(scope, Exit.void))))
        })
    )
  }

  it("keeps its books, however callers and passengers come and go, and leaves nothing in the air", () =>
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 40, size: "max" }),
        fc.record({ fine: fc.boolean(), seed: fc.nat(1000) }),
        (commands, options) => {
          const stepper = new Stepper(options)
          const flights = new SingleFlight<string, number>()
          const scope = Scope.makeUnsafe()
          const background = Effect.runSync(Scope.provide(Background.make(limits), scope))
          const landings = new Map<TestFlight, Deferred.Deferred<number, string>>()
          const callers: Array<Caller> = []
          let isOpen = true
          const board = (on: Set<TestFlight>, ids: ReadonlyArray<string>) => () => {
            const left = ids.filter((id) => {
              const flight = flights.find(id)
              if (flight !== undefined) on.add(flight)
              return flight === undefined
            })
            if (left.length > 0 || ids.length === 0) {
              const landing = Deferred.makeUnsafe<number, string>()
              const flight = flights.takeOff<unknown>(
                left,
                () => stepper.fork(Deferred.await(landing), Context.empty()),
                undefined
              )
              landings.set(flight, landing)
              on.add(flight)
            }
            return [...on]
          }
          const fork = (ids: ReadonlyArray<string>, patience: number) => {
            const on = new Set<TestFlight>()
            const caller: Caller = { on, answers: [], fiber: undefined }
            callers.push(caller)
            caller.fiber = stepper.fork(
              Effect.withFiber(({ context }) =>
                flights.waitWithin(
                  board(on, ids),
                  () => (patience === 0 ? Effect.void : Effect.sleep(patience)),
                  (flight) => {
                    const [before, had] = [background.size, flight.waiters]
                    const isAdopted = background.adopt(flights, flight, context)
                    assert.isTrue(isAdopted || !isOpen || before === limits.maxLoads)
                    assert.strictEqual(flight.waiters - had, background.size - before)
                    assert.isTrue(!isAdopted || flight.waiters > 1)
                  }
                )
              ).pipe(Effect.onExit((exit) => Effect.sync(() => caller.answers.push(exit)))),
              Context.empty()
            )
          }
          const assertBooks = () => {
            let passengers = 0
            for (const flight of landings.keys()) {
              const waiting = callers.filter(({ fiber, on }) => fiber!.pollUnsafe() === undefined && on.has(flight))
              const others = flight.waiters - waiting.length
              assert.include([0, 1], others, "passengers of one flight")
              if (flight.exit !== undefined) assert.strictEqual(others, 0)
              else assert.isAbove(flight.waiters, 0, "in the air without a waiter")
              passengers += others
            }
            assert.strictEqual(background.size, passengers)
            assert.isAtMost(background.size, isOpen ? limits.maxLoads : 0)
            assert.strictEqual(flights.size, [...landings.keys()].filter(({ exit }) => exit === undefined).length)
            for (const { answers, fiber } of callers)
              assert.strictEqual(answers.length, fiber!.pollUnsafe() === undefined ? 0 : 1)
          }
          for (const command of commands) {
            const flying = [...landings].filter(([{ exit }]) => exit === undefined)
            const waiting = callers.filter(({ fiber }) => fiber!.pollUnsafe() === undefined)
            if (command._tag === "Board") fork(command.ids, command.patience)
            else if (command._tag === "Interrupt") waiting[command.index % waiting.length]?.fiber!.interruptUnsafe()
            else if (command._tag === "Divert") flights.divert(command.id)
            else if (command._tag === "Wait") stepper.advance(command.millis)
            else if (command._tag === "Land") {
              const landing = flying[command.index % flying.length]?.[1]
              if (landing !== undefined) Deferred.doneUnsafe(landing, command.exit)
            } else {
              isOpen = false
              stepper.fork(Scope.close(scope, Exit.void), Context.empty())
            }
            stepper.step(options.fine ? command.steps : Infinity)
            if (stepper.isIdle) assertBooks()
          }
          stepper.step()
          assertBooks()
          // All lose patience, and then the passengers do.
          stepper.advance(patiences.at(-1)! + limits.maxTime)
          for (const { fiber } of callers) assert.isDefined(fiber!.pollUnsafe(), "a caller hangs")
          assertBooks()
          assertNothing(flights, background)
          assert.strictEqual(stepper.sleepers, 0)
        }
      ),
      { numRuns: 500 }
    ))
})

interface Caller {
  readonly on: Set<TestFlight>
  readonly answers: Array<Exit.Exit<ReadonlyArray<number> | undefined, unknown>>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

const ids = ["a", "b", "c"]

const patiences = [0, 100, 300]

const steps = fc.integer({ min: 0, max: 8 })

const command = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      _tag: fc.constant("Board"),
      ids: fc.uniqueArray(fc.constantFrom(...ids)),
      patience: fc.constantFrom(...patiences),
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
        Exit.fail("no"),
        Exit.die("no"),
        Exit.failCause(Cause.interrupt(0))
      ),
      steps
    })
  },
  { weight: 10, arbitrary: fc.record({ _tag: fc.constant("Wait"), millis: fc.constantFrom(50, 100, 600), steps }) },
  { weight: 10, arbitrary: fc.record({ _tag: fc.constant("Interrupt"), index: fc.nat(3), steps }) },
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("Divert"), id: fc.constantFrom(...ids), steps }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Close"), steps }) }
)

const takeOff = <E>(
  flights: SingleFlight<string, number>,
  run: Effect.Effect<number, E>,
  ids: ReadonlyArray<string> = ["a"]
) => flights.takeOff<E>(ids, () => Effect.runFork(run), undefined)

/** The flight of a caller that had no patience for it. */
const leaveBehind = <E>(
  flights: SingleFlight<string, number>,
  background: Background.Background,
  run: Effect.Effect<number, E>
): Effect.Effect<Flight<number, E, string, undefined>, E> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const flight = takeOff(flights, run)
    yield* flights.waitWithin(
      () => [flight],
      () => Effect.void,
      (flight) => background.adopt(flights, flight, context)
    )
    return flight
  })

const forkAll = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.forEach(effects, (effect) => Effect.forkChild(effect, { startImmediately: true }))

const assertNothing = (flights: SingleFlight<string, number>, background: Background.Background) => {
  assert.strictEqual(background.size, 0)
  assert.strictEqual(flights.size, 0)
}
