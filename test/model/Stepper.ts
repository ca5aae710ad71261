/**
 * A scheduler and a clock that move only when they are told to. Nothing is left to
 * chance: who draws a random number gets the one in the middle.
 *
 * A *step* is what a fiber does between two points at which it lets others run.
 * With `fine` set, that is one primitive of an effect, so that every place where
 * an interruption or another fiber can come in between is visited. Which of the
 * waiting fibers takes the next step is drawn from `seed`; with seed 0 it is the
 * one that has waited longest.
 */
import { Clock, Context, Duration, Effect, type Fiber, Random, References, Scheduler } from "effect"

interface Sleeper {
  readonly until: number
  readonly wake: () => void
}

export class Stepper {
  readonly #tasks: Array<() => void> = []
  readonly #sleepers: Array<Sleeper> = []
  readonly #fine: boolean
  #random: number
  #now = 0

  constructor(options: { readonly fine?: boolean; readonly seed?: number } = {}) {
    this.#fine = options.fine ?? false
    this.#random = options.seed ?? 0
  }

  /** Milliseconds since the stepper was made. */
  get now(): number {
    return this.#now
  }

  get isIdle(): boolean {
    return this.#tasks.length === 0
  }

  /** How many fibers sleep. */
  get sleepers(): number {
    return this.#sleepers.length
  }

  /** When the next of them wakes up. */
  get nextWake(): number | undefined {
    return this.#sleepers.length === 0 ? undefined : Math.min(...this.#sleepers.map(({ until }) => until))
  }

  /** Runs the effect up to the first point at which it lets others run. */
  fork<A, E, R>(effect: Effect.Effect<A, E, R>, context: Context.Context<R>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(
      context.pipe(
        Context.add(Scheduler.Scheduler, this.#scheduler),
        Context.add(Clock.Clock, this.#clock),
        Context.add(Random.Random, middling),
        Context.add(References.MinimumLogLevel, "None")
      )
    )(effect)
  }

  /** Takes up to `count` steps, and says how many there were to take. */
  step(count = Infinity): number {
    let taken = 0
    while (taken < count && this.#tasks.length > 0) {
      const [task] = this.#tasks.splice(this.#draw(this.#tasks.length), 1)
      taken++
      if (taken === endless) throw new Error(`${endless} steps without an end`)
      task!()
    }
    return taken
  }

  /** Moves the clock, waking the sleepers in order, each when all others have settled. */
  advance(millis: number): void {
    const end = this.#now + millis
    for (;;) {
      this.step()
      const [next] = this.#sleepers.toSorted((a, b) => a.until - b.until)
      if (next === undefined || next.until > end) break
      this.#now = Math.max(this.#now, next.until)
      next.wake()
    }
    this.#now = end
  }

  #draw(length: number): number {
    if (this.#random === 0) return 0
    this.#random = (Math.imul(this.#random, 1_103_515_245) + 12_345) & 0x7fffffff
    return (this.#random >>> 8) % length
  }

  /** A fiber may sleep for a part of a millisecond. */
  #nanos(): bigint {
    return BigInt(Math.round(this.#now * 1e6))
  }

  readonly #scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    // A fiber that resumes needs two primitives to get back to where it was.
    shouldYield: ({ currentOpCount }) => currentOpCount >= (this.#fine ? 3 : 2048),
    makeDispatcher: () => ({
      scheduleTask: (task) => {
        this.#tasks.push(task)
      },
      flush: () => {
        this.step()
      }
    })
  }

  readonly #clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => this.#now,
    currentTimeMillis: Effect.sync(() => this.#now),
    currentTimeNanosUnsafe: () => this.#nanos(),
    currentTimeNanos: Effect.sync(() => this.#nanos()),
    monotonicTimeNanosUnsafe: () => this.#nanos(),
    monotonicTimeNanos: Effect.sync(() => this.#nanos()),
    sleep: (duration) =>
      Effect.callback((resume) => {
        const remove = () => {
          const index = this.#sleepers.indexOf(sleeper)
          if (index >= 0) this.#sleepers.splice(index, 1)
        }
        const sleeper: Sleeper = {
          until: this.#now + Duration.toMillis(duration),
          wake: () => {
            remove()
            resume(Effect.void)
          }
        }
        this.#sleepers.push(sleeper)
        return Effect.sync(remove)
      })
  }
}

const middling: typeof Random.Random.Service = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0.5 }

const endless = 1_000_000
