/**
 * The time limits of calls that may all take as long, watched by one fiber.
 *
 *     calls:   a ─────────── answered
 *                 b ──────────────────┤ its time is up
 *                    c ── answered
 *     watcher: └─ sleeps until a's end ┘└ until b's ┘
 *
 * `Effect.timeout` has two fibers and a timer for each call, which is a fifth of the time of
 * a read that shares its statement with others. Here a call is a place in a list. As
 * all may take as long, the first to come is the first whose time is up, and one fiber
 * sleeps until then. It is there only while there are calls.
 *
 * The time of a call passes on the clock of its caller; for each clock there is a fiber of
 * its own.
 *
 * @since 0.1.0
 */
import { Clock, Effect, type Exit, type Fiber } from "effect"
import { Line, type Place } from "./Line.ts"

/**
 * The calls under way.
 *
 * @category models
 * @since 0.1.0
 */
export class Deadlines {
  /** What each call may take. */
  readonly millis: number
  readonly #watches = new Map<Clock.Clock, Watch>()

  constructor(millis: number) {
    this.millis = millis
  }

  /** How many calls are under way. */
  get size(): number {
    let size = 0
    for (const { limits } of this.#watches.values()) size += limits.length
    return size
  }

  /**
   * `answer` of how the call ended; of `undefined` if its time was up before that. It runs in a
   * fiber of its own: whoever leaves, late or interrupted, interrupts it and does not wait for that.
   */
  within<A, E, E2>(
    call: Effect.Effect<A, E>,
    answer: (exit: Exit.Exit<A, E> | undefined) => Effect.Effect<A, E2>
  ): Effect.Effect<A, E2> {
    return Effect.withFiber((caller) =>
      Effect.callback<A, E2>((resume) => {
        const running = Effect.runForkWith(caller.context)(call)
        const ended = running.pollUnsafe()
        if (ended !== undefined) return resume(answer(ended))
        const watch = this.#watchOf(caller)
        const leave = (): void => {
          forget()
          this.#leave(watch, place)
        }
        const limit: Limit = {
          endsAt: nanosOf(watch.clock) + this.millis * nanosPerMilli,
          end: () => {
            leave()
            running.interruptUnsafe()
            resume(answer(undefined))
          }
        }
        const place = watch.limits.join(limit)
        const forget = running.addObserver((exit) => {
          leave()
          resume(answer(exit))
        })
        watch.watcher ??= Effect.runForkWith(caller.context)(endInTime(watch))
        return Effect.sync(() => {
          leave()
          running.interruptUnsafe()
        })
      })
    )
  }

  #watchOf(caller: Fiber.Fiber<unknown, unknown>): Watch {
    const clock = caller.getRef(Clock.Clock)
    let watch = this.#watches.get(clock)
    if (watch === undefined) {
      watch = { clock, limits: new Line(), watcher: undefined }
      this.#watches.set(clock, watch)
    }
    return watch
  }

  #leave(watch: Watch, place: Place<Limit>): void {
    if (!watch.limits.leave(place) || watch.limits.length > 0) return
    this.#watches.delete(watch.clock)
    watch.watcher?.interruptUnsafe()
  }
}

interface Limit {
  /** In nanoseconds, which are whole: no rest is too small to sleep for. */
  readonly endsAt: number
  readonly end: () => void
}

interface Watch {
  readonly clock: Clock.Clock
  /** The first is the first to end. */
  readonly limits: Line<Limit>
  watcher: Fiber.Fiber<void> | undefined
}

/** Since some moment: a clock that is set back gives nobody more time. */
const nanosOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe())

const nanosPerMilli = 1e6

const endInTime = ({ clock, limits }: Watch): Effect.Effect<void> =>
  Effect.whileLoop({
    while: () => limits.length > 0,
    body: () => {
      const first = limits.first!
      const left = first.endsAt - nanosOf(clock)
      if (left > 0) return Effect.sleep(left / nanosPerMilli)
      first.end()
      return Effect.void
    },
    step: () => {}
  })
