/**
 * One run per key at a time; whoever else asks meanwhile is coalesced onto it.
 *
 * The first caller takes off: the run gets a fiber of its own, which belongs to
 * no caller. Everybody, the first included, waits for its exit and shares it, be
 * it success, failure, defect or interruption. A caller that is interrupted
 * leaves; when the last one has left, the run is interrupted, and that caller
 * waits until its finalizers are done. Closing interrupts all runs.
 *
 * A caller may come with *patience*: when it ends before the run does, the caller
 * leaves without an answer, and hands on what it was waiting for to somebody who
 * boards in its place. Whatever landed in that same step is its answer all the same.
 * If it is allowed to, it does not wait for what ends with it either: a run that
 * cannot be interrupted would otherwise be waited for beyond all patience.
 *
 * A flight may carry several keys (a bulk load); it ends when nobody waits for
 * any of them. One without keys is private: nobody finds it, all else holds for it
 * too. Every flight carries its *cargo* from the start, for those who wait to look at.
 *
 * A key that is *diverted* lets its flight go on for those who wait, but nobody
 * boards that flight for it any more: what it brings is older than what a newcomer
 * has a right to.
 *
 * A run that brings one key before another *tells* those who wait for it, and whoever has
 * all that it came for leaves with that.
 *
 * To find or start a flight and to be counted as waiting for it is one
 * synchronous step, so no interruption can fall between the two. A run that asks
 * for its own key waits for itself: that is a deadlock of the caller's making.
 *
 * @since 0.1.0
 */
import { Effect, Exit, Fiber } from "effect"
import { Line } from "./Line.ts"

/**
 * A run under way, and who waits for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flight<out A, out E, out Id = unknown, out C = unknown> {
  readonly ids: ReadonlyArray<Id>
  readonly cargo: C
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
export class SingleFlight<Id, A, C = undefined> {
  readonly #gates = new Map<Id, Gate<A, Id, C>>()
  readonly #flights = new Line<Running<A, Id, C>>()

  /** How many runs are under way. */
  get size(): number {
    return this.#flights.length
  }

  /** The flight that a newcomer for this key is coalesced onto. */
  find<E>(id: Id): Flight<A, E, Id, C> | undefined {
    return this.#gates.get(id)?.flight as Flight<A, unknown, Id, C> as Flight<A, E, Id, C> | undefined
  }

  /** Starts the flight of these keys, in place of those that carried them. */
  takeOff<E>(
    ids: ReadonlyArray<Id>,
    start: (flight: Flight<A, E, Id, C>) => Fiber.Fiber<A, E>,
    cargo: C
  ): Flight<A, E, Id, C> {
    const running: Running<A, Id, C> = {
      ids,
      cargo,
      waiters: 0,
      exit: undefined,
      fiber: undefined,
      observers: new Set()
    }
    const flight = running as Flight<A, unknown, Id, C> as Flight<A, E, Id, C>
    const place = this.#flights.join(running)
    const gate: Gate<A, Id, C> = { flight: running }
    for (const id of ids) this.#gates.set(id, gate)
    const fiber = start(flight)
    running.fiber = fiber
    fiber.addObserver((exit) => {
      this.#flights.leave(place)
      this.#land(running, gate, exit)
    })
    return flight
  }

  /** Has those who wait for the flight look at its cargo: it may have brought them enough before it lands. */
  tell(flight: Flight<A, unknown, Id, C>): void {
    for (const observer of (flight as Running<A, Id, C>).observers) observer(undefined)
  }

  /** Lets nobody board a flight for this key any more; with `only`, unless another flight carries it by now. */
  divert(id: Id, only?: Flight<A, unknown, Id>): void {
    if (only === undefined || this.#gates.get(id)?.flight === only) this.#gates.delete(id)
  }

  /** The same for every key that is accepted. */
  divertMatching(accepts: (id: Id) => boolean): void {
    for (const id of this.#gates.keys()) if (accepts(id)) this.divert(id)
  }

  /** Lets nobody board any flight that is under way. */
  divertAll(): void {
    this.#gates.clear()
  }

  /**
   * Waits for the distinct flights that `board` finds or starts, and gives what
   * each brought, in order; fails as soon as one of them does. `board` runs once,
   * in the step in which the caller is counted as waiting.
   *
   * With `isEnough` the caller waits no longer than until that is true of a flight
   * that has landed, or of which it is told (`tell`), and gets what had landed by then.
   */
  wait<E>(
    board: () => ReadonlyArray<Flight<A, E, Id, C>>,
    isEnough?: (flight: Flight<A, E, Id, C>) => boolean
  ): Effect.Effect<ReadonlyArray<A>, E> {
    return this.#wait(board, isEnough) as Effect.Effect<ReadonlyArray<A>, E>
  }

  /**
   * The same, for as long as the caller has patience; then `undefined`.
   *
   * `patience` starts in the step in which the caller is counted as waiting, in a
   * fiber of its own. In the step in which it ends, each flight that has not
   * landed is handed to `adopt` before the caller leaves, so that it need not be
   * without a waiter in between. Where `adopt` says true of each, the caller does
   * not wait for the finalizers of those that end with it.
   */
  waitWithin<E>(
    board: () => ReadonlyArray<Flight<A, E, Id, C>>,
    patience: (flights: ReadonlyArray<Flight<A, E, Id, C>>) => Effect.Effect<void>,
    adopt: (flight: Flight<A, E, Id, C>) => boolean | void,
    isEnough?: (flight: Flight<A, E, Id, C>) => boolean
  ): Effect.Effect<ReadonlyArray<A> | undefined, E> {
    return this.#wait(board, isEnough, patience, adopt)
  }

  #wait<E, F extends Flight<A, E, Id>>(
    board: () => ReadonlyArray<F>,
    isEnough?: (flight: F) => boolean,
    patience?: (flights: ReadonlyArray<F>) => Effect.Effect<void>,
    adopt?: (flight: F) => boolean | void
  ): Effect.Effect<ReadonlyArray<A> | undefined, E> {
    return Effect.callback((resume) => {
      const flights = board()
      const boarded = flights as ReadonlyArray<Flight<A, E, Id>> as ReadonlyArray<Running<A, Id, C>>
      let airborne = 0
      let isWaiting = true
      let leaving: Effect.Effect<void> = Effect.void
      let timer: Fiber.Fiber<void> | undefined
      const leave = (): Effect.Effect<void> => {
        if (!isWaiting) return leaving
        isWaiting = false
        for (const { observers } of boarded) observers.delete(landed)
        timer?.interruptUnsafe()
        return (leaving = this.#leave(boarded))
      }
      const end = (exit: Exit.Exit<ReadonlyArray<A> | undefined, E>): void => {
        const left = leave()
        resume(left === Effect.void ? exit : Effect.andThen(left, exit))
      }
      const landed = (exit: Exit.Exit<A, unknown> | undefined): void => {
        if (exit !== undefined) airborne--
        const outcome =
          airborne === 0 || exit === undefined || Exit.isFailure(exit) || isEnough
            ? outcomeOf<A, E, F>(flights, isEnough)
            : undefined
        if (outcome === undefined) return
        if (exit !== undefined) end(outcome)
        // In a step of its own: it is the flight that tells, and it may end with this caller.
        else
          resume(
            Effect.uninterruptibleMask((restore) =>
              Effect.flatMap(Effect.yieldNow, () => Effect.andThen(restore(leave()), outcome))
            )
          )
      }
      const timedOut = (exit: Exit.Exit<void>): void => {
        // With an outcome `landed` is about to be told, in this same step.
        if (!isWaiting || outcomeOf<A, E, F>(flights, isEnough) !== undefined) return
        const left = flights.filter((flight) => flight.exit === undefined)
        if (Exit.isSuccess(exit) && left.map((flight) => adopt?.(flight)).every((isFree) => isFree === true)) {
          leave()
          leaving = Effect.void
        }
        end(Exit.map(exit, () => undefined))
      }
      for (const flight of boarded) {
        flight.waiters++
        if (flight.exit !== undefined) continue
        airborne++
        flight.observers.add(landed)
      }
      const outcome = outcomeOf<A, E, F>(flights, isEnough)
      if (outcome !== undefined) end(outcome)
      else if (patience !== undefined) {
        timer = Effect.runForkWith(Fiber.getCurrent()!.context)(Effect.suspend(() => patience(flights)))
        if (isWaiting) timer.addObserver(timedOut)
        else timer.interruptUnsafe()
      }
      return Effect.suspend(leave)
    })
  }

  /** Interrupts all flights, those without a waiter and those that were diverted too. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#gates.clear()
    return Fiber.interruptAll(fibersOf(this.#flights))
  })

  #land(flight: Running<A, Id, C>, gate: Gate<A, Id, C>, exit: Exit.Exit<A, unknown>): void {
    flight.exit = exit
    for (const id of flight.ids) this.divert(id, flight)
    gate.flight = undefined
    for (const observer of flight.observers) observer(exit)
  }

  /** The flights that this was the last to wait for end here; what is left is to wait for their finalizers. */
  #leave(flights: ReadonlyArray<Running<A, Id, C>>): Effect.Effect<void> {
    const abandoned = flights.filter((flight) => --flight.waiters === 0 && flight.exit === undefined)
    if (abandoned.length === 0) return Effect.void
    for (const flight of abandoned) for (const id of flight.ids) this.divert(id, flight)
    // At once: the caller may be interrupted before it gets to what is returned here.
    const fibers = fibersOf(abandoned)
    for (const fiber of fibers) fiber.interruptUnsafe(Fiber.getCurrent()?.id)
    return Effect.asVoid(Fiber.awaitAll(fibers))
  }
}

/** Where its keys are boarded. It is closed when the flight lands: tables of the map that it has outgrown keep it (see `Line`). */
interface Gate<A, Id, C> {
  flight: Running<A, Id, C> | undefined
}

interface Running<A, Id, C> extends Flight<A, unknown, Id, C> {
  waiters: number
  exit: Exit.Exit<A, unknown> | undefined
  fiber: Fiber.Fiber<A, unknown> | undefined
  readonly observers: Set<(exit: Exit.Exit<A, unknown> | undefined) => void>
}

const fibersOf = <A, Id, C>(flights: Iterable<Running<A, Id, C>>): ReadonlyArray<Fiber.Fiber<A, unknown>> =>
  [...flights].flatMap(({ fiber }) => (fiber === undefined ? [] : [fiber]))

/** What the flights brought, once all have landed, one has failed, or they have brought enough. */
const outcomeOf = <A, E, F extends Flight<A, E>>(
  flights: ReadonlyArray<F>,
  isEnough?: (flight: F) => boolean
): Exit.Exit<ReadonlyArray<A>, E> | undefined => {
  const brought: Array<A> = []
  let suffices = false
  for (const flight of flights) {
    const { exit } = flight
    suffices ||= isEnough?.(flight) === true
    if (exit === undefined) continue
    if (Exit.isFailure(exit)) return Exit.failCause(exit.cause)
    brought.push(exit.value)
  }
  return suffices || brought.length === flights.length ? Exit.succeed(brought) : undefined
}
