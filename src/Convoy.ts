/**
 * Calls that travel together: what many fibers ask of the store at the same time goes
 * in one statement.
 *
 *     idle ── a call ──▶ it leaves at once, alone
 *     full ── calls ───▶ they gather ── one trip returns ──▶ all leave together
 *
 * A convoy has up to `maxTrips` trips under way. While it has fewer, whoever comes
 * leaves at once; while it has as many, newcomers gather, and when one returns the oldest
 * of them leaves with all who may go along. Nothing waits for a timer, and there is
 * nothing to tune for a load: the more calls come in the time of a round trip, the more
 * share the next one.
 *
 * **What it guarantees**
 *
 * - No call joins a trip that has left: what it is answered was looked at after it was
 *   made.
 * - Only calls of one `group` share a trip, and no more of them than `maxKeys` and
 *   `maxSize` allow; a larger call travels by itself. In an exclusive convoy no key is
 *   under way twice, so calls on one key are carried in the order in which they came.
 * - Whoever is interrupted leaves the others alone. A trip that all have left is
 *   interrupted, and no call waits for the end of that.
 * - A trip that is *refused*, perhaps for the sake of one of its calls, is repeated for
 *   each of them alone, outside of the convoy: no call fails for what is wrong with
 *   another, or waits for it for long. Any other failure is everybody's.
 * - A lone call keeps its own context. Several share that of the first, so they must
 *   agree on all that matters there; where spans are recorded, their trip is one of the
 *   first's with links to the others'.
 *
 * **What it does not do**: it knows nothing of transactions, whose calls must not come
 * here; it sets no time limit; and a trip that hangs keeps its place until all its
 * passengers have left.
 *
 * `RequestResolver` of Effect gathers by a delay, by default until the fiber scheduler
 * comes round, instead of by what is under way; bounds no trips; does not interrupt a
 * batch that has left; and has no way to try one request again alone.
 *
 * @since 0.1.0
 */
import { Cause, Context, Effect, Exit, type Fiber, Tracer } from "effect"
import { Line, type Place } from "./Line.ts"
import * as Span from "./Span.ts"

/**
 * What a convoy needs to know of a call.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  /** Calls that may share a trip have the same. */
  readonly group: string
  readonly keys: ReadonlyArray<string>
  /** In bytes. */
  readonly size: number
}

/**
 * Takes calls along.
 *
 * @category models
 * @since 0.1.0
 */
export interface Convoy<C extends Call, A, E> {
  readonly join: (call: C) => Effect.Effect<A, E>
}

/**
 * How a convoy travels.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<C extends Call, A, E> {
  /** The name of the span of a trip that several share. */
  readonly span: string
  readonly maxTrips: number
  readonly maxKeys: number
  readonly maxSize: number
  /** Whether no key may be under way twice. */
  readonly isExclusive: boolean
  /** One answer per call, in order. With `isAlone` it is one call that was refused, and may take its time. */
  readonly carry: (calls: ReadonlyArray<C>, isAlone: boolean) => Effect.Effect<ReadonlyArray<A>, E>
  /** Whether nothing was done, and one of so many calls may do better alone. */
  readonly isRefusal: (error: E, calls: number) => boolean
}

interface Passenger<C, A, E> {
  /** Among those who gather, or who did. */
  place: Place<Passenger<C, A, E>> | undefined
  readonly call: C
  readonly caller: Fiber.Fiber<unknown, unknown>
  readonly resume: (exit: Exit.Exit<A, E>) => void
  trip: Trip<C, A, E> | undefined
}

interface Trip<C, A, E> {
  readonly group: string
  readonly keys: ReadonlySet<string>
  readonly passengers: Set<Passenger<C, A, E>>
  fiber: Fiber.Fiber<ReadonlyArray<A>, E> | undefined
}

interface State<C extends Call, A, E> {
  readonly options: Options<C, A, E>
  /** Who gathers, the oldest first. */
  readonly gathering: Line<Passenger<C, A, E>>
  readonly underWay: Array<Trip<C, A, E>>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = <C extends Call, A, E>(options: Options<C, A, E>): Convoy<C, A, E> => {
  const self: State<C, A, E> = { options, gathering: new Line(), underWay: [] }
  return { join: (call) => join(self, call) }
}

const join = <C extends Call, A, E>(self: State<C, A, E>, call: C): Effect.Effect<A, E> =>
  Effect.withFiber((caller) =>
    Effect.callback((resume) => {
      const passenger: Passenger<C, A, E> = { call, caller, resume, place: undefined, trip: undefined }
      passenger.place = self.gathering.join(passenger)
      depart(self)
      return Effect.sync(() => leave(self, passenger))
    })
  )

const depart = <C extends Call, A, E>(self: State<C, A, E>): void => {
  while (self.underWay.length < self.options.maxTrips) {
    const passengers = board(self)
    if (passengers.length === 0) return
    const { call } = passengers[0]!
    const keys = new Set(self.options.isExclusive ? passengers.flatMap(({ call }) => call.keys) : [])
    const trip: Trip<C, A, E> = { group: call.group, keys, passengers: new Set(passengers), fiber: undefined }
    self.underWay.push(trip)
    send(self, trip, false, (exit) => arrive(self, trip, passengers, exit))
  }
}

/** The oldest that may leave, and who may go along. */
const board = <C extends Call, A, E>({ gathering, options, underWay }: State<C, A, E>) => {
  const boarded: Array<Passenger<C, A, E>> = []
  const taken = new Set<string>()
  let keys = 0
  let size = 0
  for (const passenger of gathering) {
    const { call } = passenger
    if (boarded.length > 0) {
      if (call.group !== boarded[0]!.call.group) continue
      if (keys + call.keys.length > options.maxKeys || size + call.size > options.maxSize) break
    }
    if (options.isExclusive) {
      if (call.keys.some((key) => taken.has(key)) || isUnderWay(underWay, call)) continue
      for (const key of call.keys) taken.add(key)
    }
    boarded.push(passenger)
    keys += call.keys.length
    size += call.size
  }
  for (const { place } of boarded) gathering.leave(place!)
  return boarded
}

const isUnderWay = <C, A, E>(underWay: ReadonlyArray<Trip<C, A, E>>, { group, keys }: Call): boolean => {
  for (const trip of underWay) if (trip.group === group && keys.some((key) => trip.keys.has(key))) return true
  return false
}

const send = <C extends Call, A, E>(
  { options }: State<C, A, E>,
  trip: Trip<C, A, E>,
  isAlone: boolean,
  onExit: (exit: Exit.Exit<ReadonlyArray<A>, E>) => void
): void => {
  const passengers = [...trip.passengers]
  const { context } = passengers[0]!.caller
  const carried = Effect.suspend(() =>
    options.carry(
      passengers.map(({ call }) => call),
      isAlone
    )
  )
  for (const passenger of passengers) passenger.trip = trip
  trip.fiber = Effect.runForkWith(context)(
    passengers.length === 1 ? carried : Span.within(carried, options.span, () => spanOf(passengers))
  )
  trip.fiber.addObserver(onExit)
}

const spanOf = <C extends Call, A, E>(passengers: ReadonlyArray<Passenger<C, A, E>>) => ({
  attributes: { "cache.calls": passengers.length },
  links: passengers.slice(1).flatMap(({ caller }) => {
    const span = Context.getOrUndefined(caller.context, Tracer.ParentSpan)
    return span === undefined ? [] : [{ span, attributes: {} }]
  })
})

const arrive = <C extends Call, A, E>(
  self: State<C, A, E>,
  trip: Trip<C, A, E>,
  passengers: ReadonlyArray<Passenger<C, A, E>>,
  exit: Exit.Exit<ReadonlyArray<A>, E>
): void => {
  isOver(self, trip)
  // Who gathers leaves before anybody is answered: the store works meanwhile.
  depart(self)
  const isRepeated = Exit.isFailure(exit) && isRefused(self, exit.cause, passengers.length)
  for (const [index, passenger] of passengers.entries()) {
    if (!trip.passengers.has(passenger)) continue
    if (isRepeated) sendAlone(self, passenger)
    else passenger.resume(Exit.map(exit, (answers) => answers[index]!))
  }
}

/** A call that the statement cannot even be made of is one that is refused. */
const isRefused = <C extends Call, A, E>({ options }: State<C, A, E>, cause: Cause.Cause<E>, calls: number): boolean =>
  cause.reasons.some(
    (reason) =>
      (Cause.isDieReason(reason) && calls > 1) || (Cause.isFailReason(reason) && options.isRefusal(reason.error, calls))
  )

const sendAlone = <C extends Call, A, E>(self: State<C, A, E>, passenger: Passenger<C, A, E>): void => {
  const { group } = passenger.call
  const trip: Trip<C, A, E> = { group, keys: new Set(), passengers: new Set([passenger]), fiber: undefined }
  send(self, trip, true, (exit) => passenger.resume(Exit.map(exit, ([answer]) => answer!)))
}

const leave = <C extends Call, A, E>(self: State<C, A, E>, passenger: Passenger<C, A, E>): void => {
  self.gathering.leave(passenger.place!)
  const { trip } = passenger
  if (trip === undefined) return
  trip.passengers.delete(passenger)
  if (trip.passengers.size > 0) return
  trip.fiber?.interruptUnsafe()
  if (isOver(self, trip)) depart(self)
}

/** Whether it was under way until now. */
const isOver = <C extends Call, A, E>({ underWay }: State<C, A, E>, trip: Trip<C, A, E>): boolean => {
  const index = underWay.indexOf(trip)
  if (index >= 0) underWay.splice(index, 1)
  return index >= 0
}
