/**
 * How a read gets onto a flight: it joins the load that is under way for a key, or
 * starts one, and waits for what it brings, as long as it has patience (`Answer`).
 *
 * To look for a flight, to look at memory once more and to start a load is one
 * synchronous step (`SingleFlight`): of a thousand callers who all miss, one starts
 * a load, and whoever was set aside while that landed finds it in memory.
 *
 * A read in the background (`refresh`) boards nobody: its load is a passenger of
 * `Background`.
 *
 * @since 0.1.0
 */
import { type Context, Effect, Exit, type Fiber, Latch } from "effect"
import { answerOf, type LoadFlight, patienceOf, type Plan } from "./Answer.ts"
import { heldIn, reserveIn } from "./InMemory.ts"
import { run } from "./Load.ts"
import type { Wanted } from "./LoadTask.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { Flight } from "./SingleFlight.ts"
import type { Held, Landing, Progress, Space } from "./Space.ts"
import { nowOf } from "./Surroundings.ts"

/**
 * Joins the flights that carry the keys, and starts one for the keys that none carries.
 *
 * @category running
 * @since 0.1.0
 */
export const boardFlights = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  wanted: ReadonlyMap<KeyId, Wanted<K>>,
  found: Landing<A>,
  caller: Fiber.Fiber<unknown, unknown>
): Effect.Effect<Landing<A>, E | X, R> => {
  const { loadMissing, options, route, self, space } = plan
  const flights = loadMissing === undefined ? space.lookups : space.loads
  const carriers = new Map<KeyId, LoadFlight<A, X>>()
  const board = (): ReadonlyArray<LoadFlight<A, X>> => {
    const left: Array<Wanted<K>> = []
    for (const want of wanted.values()) {
      const flight = route.force || !route.shared ? undefined : flights.find<X>(want.id)
      const landed = flight === undefined && route.readMemory ? freshIn(space, want.id, nowOf(caller)) : undefined
      if (landed?.failure !== undefined) found.failures.set(want.id, landed.failure)
      else if (landed !== undefined) found.entries.set(want.id, landed.entry)
      else if (flight === undefined) left.push(want)
      else {
        carriers.set(want.id, flight)
        if (loadMissing !== undefined) space.counters.coalesced++
      }
    }
    if (left.length > 0) {
      if (route.force) for (const { id } of left) space.fences.break(id)
      const started = takeOff(plan, left, undefined, caller)
      for (const { id } of left) carriers.set(id, started)
    }
    return [...new Set(carriers.values())]
  }
  const patience = patienceOf(plan, carriers, caller)
  /** Whether the caller need not wait for a load that ends with it: not where it is part of a transaction. */
  const adopt = (flight: LoadFlight<A, X>): boolean => {
    if (!route.detachable) return false
    if (self.background.adopt(flights, flight, caller.context)) flight.cargo.inBackground = true
    return true
  }
  /** One failure that nothing can stand in for fails the whole call. */
  const isHopeless = (flight: LoadFlight<A, X>) => {
    const now = nowOf(caller)
    for (const [id, carrier] of carriers) {
      if (carrier === flight && Exit.isExit(answerOf(plan, id, flight, now))) return options?.fallback === undefined
    }
    return false
  }
  /** Whether all that the caller came for is there, although other keys are still to be loaded. */
  const isServed = () => {
    for (const [id, { cargo, exit }] of carriers) if (exit === undefined && !cargo.settled.has(id)) return false
    return true
  }
  const isEnough =
    loadMissing === undefined
      ? undefined
      : (flight: LoadFlight<A, X>) => (flight.exit === undefined ? isServed() : wanted.size > 1 && isHopeless(flight))
  const waited =
    patience === undefined ? flights.wait(board, isEnough) : flights.waitWithin(board, patience.end, adopt, isEnough)
  return Effect.map(waited, (brought) => {
    const now = brought === undefined ? patience!.ended() : nowOf(caller)
    for (const [id, flight] of carriers) {
      // Who has enough leaves the others, and may have ended them by that.
      const hasLanded = flight.exit !== undefined && Exit.isSuccess(flight.exit)
      if (brought !== undefined && !hasLanded && !flight.cargo.settled.has(id)) continue
      const answer = answerOf(plan, id, flight, now)
      if (answer === undefined) continue
      if (Exit.isExit(answer)) found.failures.set(id, answer)
      else {
        found.entries.set(id, answer)
        if (answer.freshness === "stale") space.counters.stale++
      }
    }
    return found
  })
}

/** Starts a load. With a draw it is one that nobody waits for. */
const takeOff = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  left: ReadonlyArray<Wanted<K>>,
  draw: number | undefined,
  caller: Fiber.Fiber<unknown, unknown>
): LoadFlight<A, X> => {
  const { loadMissing, options, route, self, space } = plan
  const flights = loadMissing === undefined ? space.lookups : space.loads
  const reserve = new Map<KeyId, Held<A>>()
  const now = nowOf(caller)
  for (const { id } of left) {
    const held = reserveIn(space, route, id, now)
    if (held !== undefined) reserve.set(id, held)
  }
  const inBackground = draw !== undefined
  const landing: Landing<A> = { entries: new Map(), failures: new Map() }
  const progress: Progress<A> = {
    reserve,
    landing,
    settled: new Set(),
    loadingSince: undefined,
    loading: Latch.makeUnsafe(),
    inBackground
  }
  const ids = route.shared ? left.map(({ id }) => id) : []
  const start = (flight: Flight<Landing<A>, X, KeyId, Progress<A>>) =>
    Effect.runForkWith(caller.context as Context.Context<R>)(
      run({ self, space, route, loadMissing, options, progress, draw }, left, (ids) => {
        for (const id of ids) {
          progress.settled.add(id)
          flights.divert(id, flight)
        }
        if (ids.length > 0) flights.tell(flight)
      })
    )
  return flights.takeOff<X>(ids, start, progress)
}

/**
 * Loads in the background what is stale or soon will be; a key at a time, and only so many.
 *
 * @category running
 * @since 0.1.0
 */
export const refresh = <K, A, X, E, R>(
  plan: Plan<K, A, X, E, R>,
  due: ReadonlyArray<Wanted<K>>,
  draw: number,
  caller: Fiber.Fiber<unknown, unknown>
): void => {
  const { self, space } = plan
  const { counters, loads } = space
  const left = due.filter(({ id }) => loads.find(id) === undefined)
  if (left.length === 0) return
  if (self.background.isFull) {
    counters.refreshesSkipped += left.length
    return
  }
  counters.refreshes += left.length
  self.background.adopt(loads, takeOff(plan, left, draw, caller), caller.context)
}

const freshIn = <K, A>(space: Space<K, A>, id: KeyId, now: number): Held<A> | undefined => {
  const present = space.partition.get(id, now)
  return present === undefined || now >= Math.min(present.freshUntil, present.vouchedUntil)
    ? undefined
    : heldIn(space, present)
}
