/**
 * One run per key at a time; whoever else asks meanwhile is coalesced onto it.
 *
 * The first caller takes off: the run gets a fiber of its own, which belongs to
 * no caller. Everybody, the first included, waits for its exit and shares it, be
 * it success, failure, defect or interruption. A caller that is interrupted
 * leaves; when the last one has left, the run is interrupted, and that caller
 * waits until its finalizers are done. Closing interrupts all runs.
 *
 * A flight may carry several keys (a bulk load); it ends when nobody waits for
 * any of them.
 *
 * A key that is *diverted* lets its flight go on for those who wait, but nobody
 * boards that flight for it any more: what it brings is older than what a newcomer
 * has a right to.
 *
 * To find or start a flight and to be counted as waiting for it is one
 * synchronous step, so no interruption can fall between the two. A run that asks
 * for its own key waits for itself: that is a deadlock of the caller's making.
 *
 * @since 0.1.0
 */
import { Effect, Exit, Fiber } from "effect"

/**
 * A run under way, and who waits for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flight<out A, out E, out Id = unknown> {
  readonly ids: ReadonlyArray<Id>
  /** How many callers wait. */
  readonly waiters: number
  /** How the run ended. */
  readonly exit: Exit.Exit<A, E> | undefined
}

/**
 * The flights of one kind, by key.
 *
 * @category models
 * @since 0.1.0
 */
export class SingleFlight<Id, A> {
  readonly #byId = new Map<Id, Running<A, Id>>()
  readonly #flights = new Set<Running<A, Id>>()

  /** How many runs are under way. */
  get size(): number {
    return this.#flights.size
  }

  /** The flight that a newcomer for this key is coalesced onto. */
  find<E>(id: Id): Flight<A, E, Id> | undefined {
    return this.#byId.get(id) as Flight<A, unknown, Id> as Flight<A, E, Id> | undefined
  }

  /** Starts the flight of these keys, in place of those that carried them. */
  takeOff<E>(ids: ReadonlyArray<Id>, start: (flight: Flight<A, E, Id>) => Fiber.Fiber<A, E>): Flight<A, E, Id> {
    const flight: Running<A, Id> = { ids, waiters: 0, exit: undefined, fiber: undefined, observers: new Set() }
    this.#flights.add(flight)
    for (const id of ids) this.#byId.set(id, flight)
    const fiber = start(flight as Flight<A, unknown, Id> as Flight<A, E, Id>)
    flight.fiber = fiber
    const landed = fiber.pollUnsafe()
    if (landed !== undefined) this.#land(flight, landed)
    else fiber.addObserver((exit) => this.#land(flight, exit))
    return flight as Flight<A, unknown, Id> as Flight<A, E, Id>
  }

  /** Lets nobody board a flight for this key any more; with `only`, unless another flight carries it by now. */
  divert(id: Id, only?: Flight<A, unknown, Id>): void {
    if (only === undefined || this.#byId.get(id) === only) this.#byId.delete(id)
  }

  /** Lets nobody board any flight that is under way. */
  divertAll(): void {
    this.#byId.clear()
  }

  /**
   * Waits for the distinct flights that `board` finds or starts, and gives what
   * each brought, in order; fails as soon as one of them does. `board` runs once,
   * in the step in which the caller is counted as waiting.
   */
  wait<E>(board: () => ReadonlyArray<Flight<A, E, Id>>): Effect.Effect<ReadonlyArray<A>, E> {
    return Effect.callback<ReadonlyArray<A>, E>((resume) => {
      const flights = board() as ReadonlyArray<Running<A, Id>>
      let airborne = flights.length
      let isWaiting = true
      const stop = (): void => {
        isWaiting = false
        for (const { observers } of flights) observers.delete(landed)
      }
      const landed = (exit: Exit.Exit<A, unknown>): void => {
        if (Exit.isFailure(exit)) {
          stop()
          return resume(Effect.andThen(this.#leave(flights), exit as Exit.Exit<never, E>))
        }
        if (--airborne > 0) return
        stop()
        for (const flight of flights) flight.waiters--
        resume(Effect.succeed(flights.map((flight) => (flight.exit as Exit.Success<A>).value)))
      }
      for (const flight of flights) {
        flight.waiters++
        if (flight.exit === undefined) flight.observers.add(landed)
      }
      if (flights.length === 0) resume(Effect.succeed([]))
      for (const { exit } of flights) if (isWaiting && exit !== undefined) landed(exit)
      return Effect.suspend(() => {
        // Also runs for a caller that was resumed with an interruption.
        if (!isWaiting) return Effect.void
        stop()
        return this.#leave(flights)
      })
    })
  }

  /** Interrupts all flights, those without a waiter and those that were diverted too. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#byId.clear()
    return interruptAll([...this.#flights])
  })

  #land(flight: Running<A, Id>, exit: Exit.Exit<A, unknown>): void {
    flight.exit = exit
    this.#flights.delete(flight)
    for (const id of flight.ids) this.divert(id, flight)
    for (const observer of flight.observers) observer(exit)
  }

  /** The flights that this was the last to wait for end here. */
  #leave(flights: ReadonlyArray<Running<A, Id>>): Effect.Effect<void> {
    const abandoned = flights.filter((flight) => --flight.waiters === 0 && flight.exit === undefined)
    for (const flight of abandoned) for (const id of flight.ids) this.divert(id, flight)
    return abandoned.length === 0 ? Effect.void : interruptAll(abandoned)
  }
}

interface Running<A, Id> extends Flight<A, unknown, Id> {
  waiters: number
  exit: Exit.Exit<A, unknown> | undefined
  fiber: Fiber.Fiber<A, unknown> | undefined
  readonly observers: Set<(exit: Exit.Exit<A, unknown>) => void>
}

const interruptAll = <A, Id>(flights: ReadonlyArray<Running<A, Id>>): Effect.Effect<void> =>
  Fiber.interruptAll(flights.flatMap(({ fiber }) => (fiber === undefined ? [] : [fiber])))
