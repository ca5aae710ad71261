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
 * boards that flight any more: what it brings is older than what a newcomer has
 * a right to.
 *
 * To find or start a flight and to be counted as waiting for it is one
 * synchronous step, so no interruption can fall between the two. A run that asks
 * for its own key waits for itself: that is a deadlock of the caller's making.
 *
 * @since 0.1.0
 */
import { Effect, Exit, Fiber } from "effect"

/**
 * A run under way, and how many wait for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flight<out A, out E, out Id = unknown> {
  readonly ids: ReadonlyArray<Id>
  readonly fiber: Fiber.Fiber<A, E>
  waiters: number
}

/**
 * The flights of one kind, by key.
 *
 * @category models
 * @since 0.1.0
 */
export class SingleFlight<Id, A> {
  readonly #byId = new Map<Id, Flight<A, unknown, Id>>()
  readonly #flights = new Set<Flight<A, unknown, Id>>()

  /** How many runs are under way. */
  get size(): number {
    return this.#flights.size
  }

  /** The flight that a newcomer for this key is coalesced onto. */
  find<E>(id: Id): Flight<A, E, Id> | undefined {
    return this.#byId.get(id) as Flight<A, E, Id> | undefined
  }

  /** Makes a running fiber the flight of these keys, in place of those that carried them. */
  takeOff<E>(ids: ReadonlyArray<Id>, fiber: Fiber.Fiber<A, E>): Flight<A, E, Id> {
    const flight: Flight<A, E, Id> = { ids, fiber, waiters: 0 }
    if (fiber.pollUnsafe() !== undefined) return flight
    this.#flights.add(flight)
    for (const id of ids) this.#byId.set(id, flight)
    fiber.addObserver(() => {
      this.#flights.delete(flight)
      this.#ground(flight)
    })
    return flight
  }

  /** Lets nobody board the key's flight any more. */
  divert(id: Id): void {
    this.#byId.delete(id)
  }

  /** The same for every key. */
  divertAll(): void {
    this.#byId.clear()
  }

  /**
   * Waits for the flights that `board` finds or starts, and gives what each
   * brought, in order; fails as soon as one of them does. `board` runs once, in
   * the step in which the caller is counted as waiting.
   */
  wait<E>(board: () => ReadonlyArray<Flight<A, E, Id>>): Effect.Effect<ReadonlyArray<A>, E> {
    return Effect.callback<ReadonlyArray<A>, E>((resume) => {
      const boarded = board()
      const brought = Array.from<A>({ length: boarded.length })
      const forget: Array<() => void> = []
      let airborne = boarded.length
      let left = false
      const leave = () => {
        left = true
        for (const stop of forget) stop()
        return this.#leave(boarded)
      }
      for (const flight of boarded) flight.waiters++
      const landed = (exit: Exit.Exit<A, E>, index: number) => {
        if (left) return
        if (Exit.isFailure(exit)) return resume(Effect.andThen(leave(), Exit.failCause(exit.cause)))
        brought[index] = exit.value
        if (--airborne === 0) {
          for (const flight of boarded) flight.waiters--
          resume(Exit.succeed(brought))
        }
      }
      boarded.forEach((flight, index) => {
        const exit = flight.fiber.pollUnsafe()
        if (exit === undefined) forget.push(flight.fiber.addObserver((exit) => landed(exit, index)))
        else landed(exit, index)
      })
      if (boarded.length === 0) resume(Exit.succeed([]))
      return Effect.suspend(leave)
    })
  }

  /** Interrupts all flights, those without a waiter and those that were diverted too. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#byId.clear()
    return Fiber.interruptAll(Array.from(this.#flights, (flight) => flight.fiber))
  })

  /** The flights that this was the last to wait for end here. */
  #leave(flights: ReadonlyArray<Flight<A, unknown, Id>>): Effect.Effect<void> {
    const abandoned = flights.filter((flight) => --flight.waiters === 0 && flight.fiber.pollUnsafe() === undefined)
    if (abandoned.length === 0) return Effect.void
    for (const flight of abandoned) this.#ground(flight)
    return Fiber.interruptAll(abandoned.map((flight) => flight.fiber))
  }

  #ground(flight: Flight<A, unknown, Id>): void {
    for (const id of flight.ids) if (this.#byId.get(id) === flight) this.#byId.delete(id)
  }
}
