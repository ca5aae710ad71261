/**
 * Which loads of one cache wait for a lease that another has, and what is said to
 * the store about leases while no load waits for that.
 *
 * A load is registered for its keys before it asks for them, until it ends (see
 * `Lease`). The bus calls `wake` with the keys whose lease has ended.
 *
 * A load that finds the lease in the hands of another load of its own cache does not
 * wait for that: it would have joined it, were it not overruled by an invalidation.
 *
 * What is being given back is another's until the store knows. Whoever wants it
 * meanwhile in this process waits for that call, not for a lease.
 *
 * @since 0.1.0
 */
import { type Context, Effect, Fiber, FiberSet, type Latch, type Scope } from "effect"
import type { KeyText } from "./CacheStore.ts"
import type { Released } from "./InvalidationBus.ts"

/**
 * A load that may have to wait.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiter {
  /** What it was woken for and has not looked at yet. */
  readonly woken: Set<KeyText>
  /** Open if there is something. */
  readonly bell: Latch.Latch
  /** Where it is registered. */
  readonly places: Set<string>
}

/**
 * The leases of one cache.
 *
 * @category models
 * @since 0.1.0
 */
export class Leases {
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #calls: FiberSet.FiberSet<unknown, unknown>
  readonly #ending = new Map<string, Fiber.Fiber<void>>()
  readonly #had = new Map<string, number>()
  /** How many there were. */
  count = 0

  constructor(calls: FiberSet.FiberSet<unknown, unknown>) {
    this.#calls = calls
  }

  /** How many keys somebody may wait for, or has. */
  get size(): number {
    return this.#waiters.size + this.#had.size
  }

  enter(waiter: Waiter, namespace: string, key: KeyText): void {
    const place = placeOf(namespace, key)
    const waiters = this.#waiters.get(place)
    if (waiters === undefined) this.#waiters.set(place, new Set([waiter]))
    else waiters.add(waiter)
    waiter.places.add(place)
  }

  leave(waiter: Waiter): void {
    for (const place of waiter.places) {
      const waiters = this.#waiters.get(place)
      if (waiters?.delete(waiter) === true && waiters.size === 0) this.#waiters.delete(place)
    }
    waiter.places.clear()
  }

  /** A load of this cache has the lease on the key. */
  have(namespace: string, key: KeyText): void {
    const place = placeOf(namespace, key)
    this.#had.set(place, (this.#had.get(place) ?? 0) + 1)
  }

  /** It has it no longer. */
  lose(namespace: string, key: KeyText): void {
    const place = placeOf(namespace, key)
    const left = (this.#had.get(place) ?? 0) - 1
    if (left > 0) this.#had.set(place, left)
    else this.#had.delete(place)
  }

  has(namespace: string, key: KeyText): boolean {
    return this.#had.has(placeOf(namespace, key))
  }

  /** Wakes those who wait for one of the keys. */
  wake({ keys, namespace }: Released): void {
    const woken = new Set<Waiter>()
    for (const key of keys) {
      for (const waiter of this.#waiters.get(placeOf(namespace, key)) ?? []) {
        waiter.woken.add(key)
        woken.add(waiter)
      }
    }
    // Last: whoever waits runs inside this call.
    for (const { bell } of woken) bell.openUnsafe()
  }

  /** Runs a call to the end, whoever waits for it; the cache does when it closes. */
  run<A, E>(call: Effect.Effect<A, E>, context: Context.Context<never>): Fiber.Fiber<A, E> {
    const fiber = Effect.runForkWith(context)(call)
    FiberSet.addUnsafe(this.#calls, fiber)
    return fiber
  }

  /** Runs the call that gives back these keys. */
  end(
    namespace: string,
    keys: ReadonlyArray<KeyText>,
    release: Effect.Effect<void>,
    context: Context.Context<never>
  ): void {
    const places = keys.map((key) => placeOf(namespace, key))
    const fiber = this.run(release, context)
    for (const place of places) this.#ending.set(place, fiber)
    fiber.addObserver(() => {
      for (const place of places) if (this.#ending.get(place) === fiber) this.#ending.delete(place)
    })
  }

  /** Whether this cache is giving back one of these keys. */
  isEnding(namespace: string, keys: ReadonlyArray<KeyText>): boolean {
    return this.#ending.size > 0 && keys.some((key) => this.#ending.has(placeOf(namespace, key)))
  }

  /** Ends when what this cache is giving back of these keys has been given back, or after so many milliseconds. */
  ended(namespace: string, keys: ReadonlyArray<KeyText>, patience: number): Effect.Effect<void> {
    const fibers = new Set(keys.flatMap((key) => this.#ending.get(placeOf(namespace, key)) ?? []))
    return Effect.asVoid(Effect.timeoutOption(Fiber.awaitAll(fibers), patience))
  }
}

const placeOf = (namespace: string, key: KeyText): string => `${namespace}\0${key}`

/**
 * Nobody waits yet. Closing waits for what is being said to the store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Leases, never, Scope.Scope> = Effect.gen(function* () {
  const calls = yield* FiberSet.make<unknown, unknown>()
  yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(calls))
  return new Leases(calls)
})
