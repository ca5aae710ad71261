import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Tracer } from "effect"
import * as fc from "fast-check"
import * as Convoy from "../src/Convoy.ts"

interface Call extends Convoy.Call {
  readonly name: string
}

type Failure = "refused" | "broken"

/** A trip that has left and is held until it is told how it ends. */
interface Trip {
  readonly names: ReadonlyArray<string>
  readonly isAlone: boolean
  readonly end: (exit: Exit.Exit<ReadonlyArray<string>, Failure>) => void
  readonly context: Context.Context<never>
  isInterrupted: boolean
}

const call = (name: string, options?: Partial<Call>): Call => ({ name, group: "", keys: [name], size: 1, ...options })

const makeWorld = (options?: Partial<Convoy.Options<Call, string, Failure>>) => {
  const trips: Array<Trip> = []
  const convoy = Convoy.make<Call, string, Failure>({
    span: "trip",
    maxTrips: 1,
    maxKeys: 10,
    maxSize: 100,
    isExclusive: false,
    carry: (calls, isAlone) =>
      Effect.withFiber(({ context }) =>
        Effect.callback((resume) => {
          const trip: Trip = {
            names: calls.map(({ name }) => name),
            isAlone,
            end: resume,
            context,
            isInterrupted: false
          }
          trips.push(trip)
          return Effect.sync(() => (trip.isInterrupted = true))
        })
      ),
    isRefusal: (error) => error === "refused",
    ...options
  })
  const join = (name: string, options?: Partial<Call>) =>
    Effect.forkChild(convoy.join(call(name, options)), { startImmediately: true })
  const arrive = (index: number) => trips[index]!.end(Exit.succeed(trips[index]!.names.map((name) => `for ${name}`)))
  return { convoy, trips, join, arrive, names: () => trips.map(({ names }) => names) }
}

describe("Convoy", () => {
  it.effect("a lone call leaves at once", () =>
    Effect.gen(function* () {
      const { arrive, join, names } = makeWorld()
      const fiber = yield* join("a")
      assert.deepStrictEqual(names(), [["a"]])
      arrive(0)
      assert.strictEqual(yield* Fiber.join(fiber), "for a")
    })
  )

  it.effect("who comes while as many trips are under way as there may be leaves with all others when one returns", () =>
    Effect.gen(function* () {
      const { arrive, join, names } = makeWorld({ maxTrips: 2 })
      const fibers = []
      for (const name of ["a", "b", "c", "d", "e"]) fibers.push(yield* join(name))
      assert.deepStrictEqual(names(), [["a"], ["b"]])
      arrive(1)
      assert.deepStrictEqual(names(), [["a"], ["b"], ["c", "d", "e"]])
      arrive(2)
      arrive(0)
      assert.deepStrictEqual(
        yield* Effect.forEach(fibers, Fiber.join),
        ["a", "b", "c", "d", "e"].map((name) => `for ${name}`)
      )
    })
  )

  it.effect("calls of another group travel apart, the oldest first", () =>
    Effect.gen(function* () {
      const { arrive, join, names } = makeWorld()
      yield* join("first")
      yield* join("a", { group: "one" })
      yield* join("b", { group: "two" })
      yield* join("c", { group: "one" })
      arrive(0)
      arrive(1)
      assert.deepStrictEqual(names(), [["first"], ["a", "c"], ["b"]])
    })
  )

  it.effect("no more keys or bytes share a trip than may, and a larger call travels by itself", () =>
    Effect.gen(function* () {
      const { arrive, join, names } = makeWorld({ maxKeys: 3, maxSize: 100 })
      yield* join("first")
      yield* join("a", { keys: ["1", "2"] })
      yield* join("b", { keys: ["3", "4"] })
      yield* join("c", { size: 99 })
      yield* join("d", { size: 1000 })
      yield* join("e", { size: 1 })
      for (let i = 0; i < 4; i++) arrive(i)
      assert.deepStrictEqual(names(), [["first"], ["a"], ["b", "c"], ["d"], ["e"]])
    })
  )

  it.effect("where keys are exclusive none is under way twice, and calls on one key go in order", () =>
    Effect.gen(function* () {
      const { arrive, join, names } = makeWorld({ maxTrips: 2, isExclusive: true })
      yield* join("a1", { keys: ["a"] })
      yield* join("a2", { keys: ["a"] })
      yield* join("b1", { keys: ["b"] })
      yield* join("a3", { keys: ["a"] })
      yield* join("b2", { keys: ["b", "c"] })
      yield* join("a other", { keys: ["a"], group: "other" })
      assert.deepStrictEqual(names(), [["a1"], ["b1"]])
      arrive(1)
      assert.deepStrictEqual(names().slice(2), [["b2"]])
      arrive(0)
      assert.deepStrictEqual(names().slice(3), [["a2"]])
      arrive(3)
      assert.deepStrictEqual(names().slice(4), [["a3"]])
      arrive(2)
      assert.deepStrictEqual(names().slice(5), [["a other"]])
    })
  )

  it.effect("who is interrupted leaves the others alone, and is not taken along later", () =>
    Effect.gen(function* () {
      const { arrive, join, names, trips } = makeWorld()
      yield* join("first")
      const [a, b, c] = [yield* join("a"), yield* join("b"), yield* join("c")]
      yield* Fiber.interrupt(a)
      arrive(0)
      assert.deepStrictEqual(names()[1], ["b", "c"])
      yield* Fiber.interrupt(b)
      assert.isFalse(trips[1]!.isInterrupted)
      arrive(1)
      assert.strictEqual(yield* Fiber.join(c), "for c")
    })
  )

  it.effect("a trip that all have left is interrupted, and its place is free though it takes its time to end", () =>
    Effect.gen(function* () {
      const left = yield* Deferred.make<void>()
      const calls: Array<string> = []
      const { join } = makeWorld({
        carry: ([one]) => {
          calls.push(one!.name)
          return Effect.onInterrupt(Effect.never, () => Effect.andThen(Deferred.succeed(left, undefined), Effect.never))
        }
      })
      const a = yield* join("a")
      yield* join("b")
      yield* Fiber.interrupt(a)
      yield* Deferred.await(left)
      assert.deepStrictEqual(calls, ["a", "b"])
    })
  )

  it.effect(
    "a trip that is refused is repeated for each who is still there, alone; only one's own failure counts",
    () =>
      Effect.gen(function* () {
        const { arrive, join, names, trips } = makeWorld()
        yield* join("first")
        const [a, b, c] = [yield* join("a"), yield* join("b"), yield* join("c")]
        arrive(0)
        yield* Fiber.interrupt(c)
        trips[1]!.end(Exit.fail("refused"))
        assert.deepStrictEqual(names().slice(2), [["a"], ["b"]])
        assert.isTrue(trips[2]!.isAlone && trips[3]!.isAlone)
        const d = yield* join("d")
        assert.deepStrictEqual(names()[4], ["d"])
        trips[2]!.end(Exit.fail("refused"))
        arrive(3)
        arrive(4)
        assert.deepStrictEqual(yield* Effect.flip(Fiber.join(a)), "refused")
        assert.strictEqual(yield* Fiber.join(b), "for b")
        assert.strictEqual(yield* Fiber.join(d), "for d")
      })
  )

  it.effect("any other failure is everybody's, and nothing is repeated", () =>
    Effect.gen(function* () {
      const { arrive, join, trips } = makeWorld()
      yield* join("first")
      const fibers = [yield* join("a"), yield* join("b")]
      arrive(0)
      trips[1]!.end(Exit.fail("broken"))
      for (const fiber of fibers) assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), "broken")
      assert.strictEqual(trips.length, 2)
    })
  )

  it.effect("a call of which no statement can be made fails for itself", () =>
    Effect.gen(function* () {
      const world = makeWorld({
        carry: (calls) => {
          if (calls.some(({ name }) => name === "bad")) throw new Error("no statement of this")
          return calls[0]!.name === "first" ? held : Effect.succeed(calls.map(({ name }) => name))
        }
      })
      const free = yield* Deferred.make<void>()
      const held = Effect.as(Deferred.await(free), ["first"])
      const fibers = []
      for (const name of ["first", "a", "bad", "b"]) fibers.push(yield* world.join(name))
      yield* Deferred.succeed(free, undefined)
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      assert.deepStrictEqual(
        exits.map((exit) => (Exit.isSuccess(exit) ? exit.value : Cause.hasDies(exit.cause))),
        ["first", "a", true, "b"]
      )
    })
  )

  it.effect("where the store breaks a trip off, all who are on it end and those who gather go on", () =>
    Effect.gen(function* () {
      const { arrive, join, trips } = makeWorld()
      yield* join("first")
      const fibers = [yield* join("a"), yield* join("b")]
      arrive(0)
      const c = yield* join("c")
      trips[1]!.end(Exit.interrupt(7))
      for (const fiber of fibers) {
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }
      arrive(2)
      assert.strictEqual(yield* Fiber.join(c), "for c")
    })
  )

  it.effect("a lone call keeps its span; a trip of several is a span of the first's, with links to the others'", () =>
    Effect.gen(function* () {
      const { arrive, convoy, trips } = makeWorld()
      const traced = (name: string) =>
        Effect.forkChild(Effect.withSpan(convoy.join(call(name)), name), { startImmediately: true })
      const tracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
      for (const name of ["first", "a", "b", "c"]) yield* Effect.withTracer(traced(name), tracer)
      arrive(0)
      const spanOf = ({ context }: Trip) => Context.getOrUndefined(context, Tracer.ParentSpan) as Tracer.Span
      assert.strictEqual(spanOf(trips[0]!).name, "first")
      const shared = spanOf(trips[1]!)
      assert.strictEqual(shared.name, "trip")
      assert.strictEqual((shared.parent as { readonly value: Tracer.Span }).value.name, "a")
      assert.deepStrictEqual(
        shared.links.map(({ span }) => (span as Tracer.Span).name),
        ["b", "c"]
      )
    })
  )

  it.effect("whatever comes and goes, each call is answered for itself, on a trip that left after it came", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(scenarios, (scenario) => Effect.runPromise(play(scenario))),
        { numRuns: 300 }
      )
    )
  )
})

const scenarios = fc.record({
  maxTrips: fc.integer({ min: 1, max: 3 }),
  isExclusive: fc.boolean(),
  steps: fc.array(
    fc.oneof(
      fc.record({
        _tag: fc.constant("Come" as const),
        keys: fc.uniqueArray(fc.constantFrom("a", "b", "c", "d"), { minLength: 1, maxLength: 3 }),
        group: fc.constantFrom("one", "two"),
        size: fc.integer({ min: 0, max: 60 })
      }),
      fc.record({ _tag: fc.constant("Leave" as const), which: fc.nat() }),
      fc.record({
        _tag: fc.constant("End" as const),
        which: fc.nat(),
        how: fc.constantFrom("arrive" as const, "arrive" as const, "refused" as const, "broken" as const)
      })
    ),
    { size: "max", maxLength: 60 }
  )
})

interface Carried {
  readonly calls: ReadonlyArray<Call>
  readonly isAlone: boolean
  readonly resume: (exit: Exit.Exit<ReadonlyArray<string>, Failure>) => void
}

const play = ({ isExclusive, maxTrips, steps }: typeof scenarios extends fc.Arbitrary<infer S> ? S : never) =>
  Effect.gen(function* () {
    let step = 0
    const violations: Array<string> = []
    const check = (holds: boolean, violation: string) => void (holds || violations.push(violation))
    const underWay = new Set<Carried>()
    const arrived = new Map<string, number>()
    const { join } = makeWorld({
      maxTrips,
      isExclusive,
      carry: (calls, isAlone) =>
        Effect.callback((resume) => {
          const carried: Carried = { calls, isAlone, resume }
          underWay.add(carried)
          const together = [...underWay].filter(({ isAlone }) => !isAlone)
          const keys = together.flatMap(({ calls }) =>
            calls.flatMap(({ group, keys }) => keys.map((key) => `${group} ${key}`))
          )
          check(together.length <= maxTrips, "too many trips are under way")
          check(new Set(calls.map(({ group }) => group)).size === 1, "groups share a trip")
          check(!isExclusive || new Set(keys).size === keys.length, "a key is under way twice")
          check(calls.length === 1 || calls.flatMap(({ keys }) => keys).length <= 10, "too many keys")
          check(calls.length === 1 || calls.reduce((sum, { size }) => sum + size, 0) <= 100, "too many bytes")
          for (const { name } of calls) arrived.set(name, step)
          return Effect.sync(() => underWay.delete(carried))
        })
    })
    const callers: Array<{
      readonly name: string
      readonly at: number
      readonly fiber: Fiber.Fiber<string, Failure>
    }> = []
    const end = (carried: Carried, how: "arrive" | "refused" | "broken") => {
      underWay.delete(carried)
      const answers = carried.calls.map(({ name }) => `for ${name}`)
      carried.resume(how === "arrive" ? Exit.succeed(answers) : Exit.fail(how))
    }
    for (const next of steps) {
      step++
      if (next._tag === "Come") {
        const name = `${callers.length}`
        callers.push({ name, at: step, fiber: yield* join(name, next) })
      } else if (next._tag === "Leave" && callers.length > 0) {
        yield* Fiber.interrupt(callers[next.which % callers.length]!.fiber)
      } else if (next._tag === "End" && underWay.size > 0) {
        end([...underWay][next.which % underWay.size]!, next.how)
      }
      const busy = [...underWay].filter(({ isAlone }) => !isAlone).length
      const waiting = callers.filter(({ fiber, name }) => fiber.pollUnsafe() === undefined && !arrived.has(name))
      if (busy === 0) assert.deepStrictEqual(waiting, [])
    }
    while (underWay.size > 0) end([...underWay][0]!, "arrive")
    assert.deepStrictEqual(violations, [])
    for (const { at, fiber, name } of callers) {
      const exit = fiber.pollUnsafe() ?? assert.fail(`nobody answers ${name}`)
      if (Exit.isSuccess(exit)) assert.strictEqual(exit.value, `for ${name}`)
      assert.isAtLeast(arrived.get(name) ?? at, at)
    }
  })
