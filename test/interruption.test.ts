/**
 * Each operation is interrupted at every step it takes: it is run once to count
 * them (a step is one primitive of an effect, see `Stepper`), then again and
 * again, each time interrupted one step later.
 *
 * Wherever it was interrupted, the caller ends; no flight, fence, loader or timer
 * is left once what goes on in the background has ended; the counts add up; memory
 * and store agree, on both nodes; and who asked for the same key at the same time,
 * or asks for it afterwards, is answered.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Schema } from "effect"
import type { CacheStore } from "../src/CacheStore.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as Namespace from "../src/Namespace.ts"
import { vi } from "vitest"
import type { TieredCache } from "../src/TieredCache.ts"
import { Stepper } from "./model/Stepper.ts"
import { World } from "./model/World.ts"

type Cache = TieredCache["Service"]

const Values = Namespace.make("values", { value: Schema.String })

const withReserve = { value: Schema.String, timeToLive: "1 minute", staleIfError: "1 hour" } as const
const Reserved = Namespace.make("values", withReserve)
const Revalidated = Namespace.make("values", { ...withReserve, staleWhileRevalidate: "1 hour" })
const Early = Namespace.make("values", { ...withReserve, earlyRefresh: 0.5 })
const Soft = Namespace.make("values", { ...withReserve, loaderSoftTimeout: "1 second" })
const Hard = Namespace.make("values", { ...withReserve, loaderHardTimeout: "1 second" })
const Background = Namespace.make("values", { value: Schema.String, storeWrites: "background" })

interface Case {
  readonly name: string
  /** What has happened before, on which of the two nodes; the operation is done on the first. */
  readonly before?: (first: Cache, second: Cache) => Effect.Effect<unknown, unknown>
  /** How long ago that was, in seconds. Default 0. */
  readonly age?: number
  /** How others read "a", if not from `Values`. */
  readonly read?: (cache: Cache, loader: Effect.Effect<string>) => Effect.Effect<string, unknown>
  readonly operation: (cache: Cache, stage: Stage) => Effect.Effect<unknown, unknown>
  /** What a read of "a" may find afterwards, wherever it looks. */
  readonly after: ReadonlyArray<string | undefined>
  /** What it finds where nobody was interrupted, if not any of these. */
  readonly undisturbed?: string
}

const cases: ReadonlyArray<Case> = [
  {
    name: "getOrSet of a cold key",
    operation: (cache, { load }) => cache.getOrSet(Values, "a", load("loaded")),
    after: [undefined, "loaded"]
  },
  {
    name: "getOrSet of a key that the store has",
    before: (_, second) => second.set(Values, "a", "old"),
    operation: (cache, { load }) => cache.getOrSet(Values, "a", load("loaded")),
    after: ["old"]
  },
  {
    name: "getOrSet of a key that memory has",
    before: (first) => first.set(Values, "a", "old"),
    operation: (cache, { load }) => cache.getOrSet(Values, "a", load("loaded")),
    after: ["old"]
  },
  {
    name: "getOrSet whose loader fails",
    operation: (cache, { load }) => cache.getOrSet(Values, "a", Effect.andThen(load("loaded"), Effect.fail("no"))),
    after: [undefined]
  },
  {
    name: "a forced getOrSet",
    before: (_, second) => second.getOrSet(Values, "a", Effect.succeed("old"), { skip: ["memory"] }),
    operation: (cache, { load }) => cache.getOrSet(Values, "a", load("loaded"), { force: true }),
    after: ["old", "loaded"]
  },
  {
    name: "a getOrSet that keeps nothing",
    operation: (cache, { load }) => cache.getOrSet(Values, "a", load("loaded"), { store: false }),
    after: [undefined]
  },
  {
    name: "getOrSetMany of a cold key and one that the store has",
    before: (_, second) => second.set(Values, "b", "old"),
    operation: (cache, { load }) =>
      cache.getOrSetMany(Values, ["b", "a", "b"], (keys) =>
        Effect.map(load("loaded"), (value) => keys.map(() => value))
      ),
    after: [undefined, "loaded"]
  },
  {
    name: "get of a key that the store has",
    before: (_, second) => second.set(Values, "a", "old"),
    operation: (cache) => cache.get(Values, "a"),
    after: ["old"]
  },
  {
    name: "set",
    before: (first, second) => Effect.andThen(second.set(Values, "a", "old"), first.get(Values, "a")),
    operation: (cache) => cache.set(Values, "a", "new"),
    after: ["old", "new"]
  },
  {
    name: "set with timeToLive 0",
    before: (first, second) => Effect.andThen(second.set(Values, "a", "old"), first.get(Values, "a")),
    operation: (cache) => cache.set(Values, "a", "new", { timeToLive: 0 }),
    after: ["old", undefined]
  },
  {
    name: "invalidate",
    before: (first, second) => Effect.andThen(second.set(Values, "a", "old"), first.get(Values, "a")),
    operation: (cache) => cache.invalidate(Values, "a"),
    after: ["old", undefined]
  },
  {
    name: "clear",
    before: (first, second) => Effect.andThen(second.set(Values, "a", "old"), first.get(Values, "a")),
    operation: (cache) => cache.clear(Values),
    after: ["old", undefined]
  },
  {
    name: "clearAll",
    before: (first, second) => Effect.andThen(second.set(Values, "a", "old"), first.get(Values, "a")),
    operation: (cache) => cache.clearAll,
    after: ["old", undefined]
  },
  ...[0, 2].flatMap((seconds): ReadonlyArray<Case> => {
    const how = seconds === 0 ? "in time" : "late"
    return [
      {
        name: `getOrSet of a stale key that memory has, to be revalidated, ${how}`,
        before: (first) => first.set(Revalidated, "a", "old"),
        age: 90,
        read: (cache, loader) => cache.getOrSet(Revalidated, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Revalidated, "a", load("loaded", seconds)),
        after: ["old", "loaded"],
        undisturbed: "loaded"
      },
      {
        name: `getOrSet of a stale key that the store has, to be revalidated, ${how}`,
        before: (_, second) => second.set(Revalidated, "a", "old"),
        age: 90,
        read: (cache, loader) => cache.getOrSet(Revalidated, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Revalidated, "a", load("loaded", seconds)),
        after: ["old", "loaded"],
        undisturbed: "loaded"
      },
      {
        name: `getOrSet of a fresh key that is refreshed early, ${how}`,
        before: (first) => first.set(Early, "a", "old"),
        age: 40,
        read: (cache, loader) => cache.getOrSet(Early, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Early, "a", load("loaded", seconds)),
        after: ["old", "loaded"],
        undisturbed: "loaded"
      },
      {
        name: `getOrSet of a stale key under a soft timeout, ${how}`,
        before: (first) => first.set(Soft, "a", "old"),
        age: 90,
        read: (cache, loader) => cache.getOrSet(Soft, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Soft, "a", load("loaded", seconds)),
        after: ["old", "loaded"],
        undisturbed: "loaded"
      },
      {
        name: `getOrSet of a cold key under a hard timeout, ${how}, or it fails`,
        read: (cache, loader) => cache.getOrSet(Hard, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Hard, "a", load("loaded", seconds)),
        after: [undefined, "loaded"],
        undisturbed: "loaded"
      },
      {
        name: `getOrSet of a stale key whose loader fails, ${how}`,
        before: (first) => first.set(Reserved, "a", "old"),
        age: 90,
        read: (cache, loader) => cache.getOrSet(Reserved, "a", loader),
        operation: (cache, { load }) =>
          cache.getOrSet(Reserved, "a", Effect.andThen(load("loaded", seconds), Effect.fail("no"))),
        after: ["old"]
      },
      {
        name: `getOrSet of a fresh key whose early refresh fails, ${how}`,
        before: (first) => first.set(Early, "a", "old"),
        age: 40,
        read: (cache, loader) => cache.getOrSet(Early, "a", loader),
        operation: (cache, { load }) =>
          cache.getOrSet(Early, "a", Effect.andThen(load("loaded", seconds), Effect.fail("no"))),
        after: ["old"]
      },
      {
        name: `getOrSet of a cold key that is stored in the background, ${how}`,
        read: (cache, loader) => cache.getOrSet(Background, "a", loader),
        operation: (cache, { load }) => cache.getOrSet(Background, "a", load("loaded", seconds)),
        after: [undefined, "loaded"],
        undisturbed: "loaded"
      }
    ]
  })
]

// Each step of a case is a run of it from the beginning.
vi.setConfig({ testTimeout: 120_000 })

describe("interruption", () => {
  for (const { after, name, operation, ...setting } of cases) {
    const { read = (cache, loader) => cache.getOrSet(Values, "a", loader) } = setting

    it(`${name}, interrupted at any step, leaves nothing behind`, () => {
      for (let step = 0, ended = false; !ended; step++) {
        const stage = makeStage(setting)
        const caller = stage.fork(operation(stage.first, stage))
        stage.step(step)
        ended = caller.pollUnsafe() !== undefined
        caller.interruptUnsafe()
        stage.step()
        assert.isDefined(caller.pollUnsafe(), `interrupted at step ${step}, it does not end`)
        stage.assertClean()
        const left = stage.found("a")
        assert.include(after, left, `interrupted at step ${step}`)
        if (ended && setting.undisturbed !== undefined) assert.strictEqual(left, setting.undisturbed)
        const again = succeeded(stage.world.run(read(stage.first, Effect.succeed("again"))))
        // What is stale may be served once more while it is loaded.
        assert.include([left, stage.found("a")], again)
        stage.assertClean()
      }
    })

    it(`${name}, interrupted at any step, takes nothing from another caller`, () => {
      for (let start = 0, isStarted = true; isStarted; start += 8) {
        for (let step = start, ended = false; !ended; step += 5) {
          const stage = makeStage(setting)
          const caller = stage.fork(operation(stage.first, stage))
          stage.step(start)
          isStarted = caller.pollUnsafe() === undefined
          const other = stage.fork(read(stage.first, Effect.andThen(Effect.yieldNow, Effect.succeed("other"))))
          stage.step(step - start)
          ended = caller.pollUnsafe() !== undefined
          caller.interruptUnsafe()
          stage.step()
          assert.isDefined(caller.pollUnsafe(), `interrupted at step ${step}, it does not end`)
          const answer = other.pollUnsafe()
          const about = `begun at step ${start}, the other at step ${step} is left with ${answer}`
          // Their failure is shared by those who wait for the same load.
          const failed = answer !== undefined && Exit.isFailure(answer) && !Exit.hasInterrupts(answer)
          if (!failed) assert.include([...after, "other", "loaded"], succeeded(answer, about), about)
          else assert.include(name, "fails")
          stage.assertClean()
        }
      }
    })

    if (setting.read === undefined) continue
    it(`${name}: a cache that closes at any step of it, and of what goes on after it, ends it all`, () => {
      for (let step = 0, ended = false; !ended; step++) {
        const stage = makeStage(setting)
        const caller = stage.fork(operation(stage.first, stage))
        ended = stage.step(step) < step
        stage.world.close()
        stage.step()
        assert.isDefined(caller.pollUnsafe(), `closed at step ${step}`)
        stage.assertClean()
        assert.include(after, stage.found("a"), `closed at step ${step}`)
      }
    })
  }

  it("a coalesced caller, interrupted at any step, leaves the load to the other", () => {
    for (let step = 0, ended = false; !ended; step++) {
      const stage = makeStage({})
      const first = stage.world.fork(stage.first.getOrSet(Values, "a", stage.load("first")))
      const second = stage.world.fork(stage.first.getOrSet(Values, "a", stage.load("second")))
      stage.world.stepper.step(step)
      ended = second.pollUnsafe() !== undefined
      second.interruptUnsafe()
      stage.world.stepper.step()
      assert.strictEqual(succeeded(first.pollUnsafe()), "first")
      assert.deepStrictEqual(stage.loads, { begun: 1, ended: 1 })
      stage.assertClean()
    }
  })

  it("two callers of a cold key share one look at the store and one load, at whatever step one is set aside while the other goes on", () => {
    for (let step = 0, ended = false; !ended; step++) {
      const stage = makeStage({})
      const aside = new Stepper({ fine: true })
      const first = aside.fork(stage.first.getOrSet(Values, "a", stage.load("loaded")), Context.empty())
      aside.step(step)
      ended = first.pollUnsafe() !== undefined
      const second = stage.world.fork(stage.first.getOrSet(Values, "a", stage.load("loaded")))
      stage.world.stepper.step()
      aside.step()
      stage.world.stepper.step()
      assert.strictEqual(succeeded(first.pollUnsafe()), "loaded")
      assert.strictEqual(succeeded(second.pollUnsafe()), "loaded")
      assert.deepStrictEqual(stage.loads, { begun: 1, ended: 1 }, `set aside at step ${step}`)
      const { store } = succeeded(stage.world.run(stage.first.stats))
      assert.strictEqual(store.requests, 1, `set aside at step ${step}`)
      stage.assertClean()
    }
  })

  it("a cache that closes at any step of a load ends it, and its caller", () => {
    for (let step = 0, ended = false; !ended; step++) {
      const stage = makeStage({})
      const caller = stage.world.fork(stage.first.getOrSet(Values, "a", stage.load("loaded")))
      stage.world.stepper.step(step)
      ended = caller.pollUnsafe() !== undefined
      stage.world.close()
      stage.world.stepper.step()
      assert.isDefined(caller.pollUnsafe(), `closed at step ${step}`)
      stage.assertClean()
    }
  })
})

interface Stage {
  readonly world: World
  readonly first: Cache
  /** Starts a caller of its own, by the stage's clock. */
  readonly fork: World["fork"]
  /** Takes up to so many steps, moves the clock when there is none to take, and says how many there were. */
  readonly step: (count?: number) => number
  /** Ends some steps later, or so many seconds. */
  readonly load: (value: string, seconds?: number) => Effect.Effect<string>
  readonly loads: { begun: number; ended: number }
  /** What there is of a key, wherever one looks. */
  readonly found: (key: string) => string | undefined
  readonly assertClean: () => void
}

const makeStage = ({ age = 0, before = () => Effect.void }: Pick<Case, "age" | "before">): Stage => {
  const stepper = new Stepper({ fine: true })
  const store = madeOf(stepper)
  const world = new World({ stepper, store: talkative(store), answersAtOnce: false, nodes: 2 })
  const [{ cache: first }, { cache: second }] = world.nodes as [World["nodes"][number], World["nodes"][number]]
  const loads = { begun: 0, ended: 0 }
  assert.isTrue(Exit.isSuccess(world.run(before(first, second))))
  stepper.advance(age * 1000)
  const clock = new Alarms(stepper)

  const fork: World["fork"] = (effect, caller) => world.fork(Effect.provideService(effect, Clock.Clock, clock), caller)

  const step = (count = Infinity) => {
    let taken = 0
    while (taken < count) {
      if (stepper.step(1) === 1) taken++
      else if (!clock.ring()) break
    }
    return taken
  }

  const load = (value: string, seconds = 0) => {
    let begun = false
    return Effect.ensuring(
      Effect.suspend(() => {
        begun = true
        loads.begun++
        return Effect.as(seconds === 0 ? Effect.yieldNow : Effect.sleep(seconds * 1000), value)
      }),
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => {
          if (begun) loads.ended++
        })
      )
    )
  }

  const found = (key: string): string | undefined => {
    const [row] = succeeded(world.run(store.read(Values.name, [key])))
    return row?._tag === "Row" ? (JSON.parse(row.data) as string) : undefined
  }

  const assertClean = () => {
    assert.strictEqual(world.underway + clock.sleepers, 0)
    assert.isTrue(stepper.isIdle)
    assert.strictEqual(loads.ended, loads.begun)
    for (const { cache, memory } of world.nodes) {
      memory.checkInvariants()
      const stats = succeeded(world.run(cache.stats))
      assert.strictEqual(stats.memory.requests, stats.memory.hits + stats.memory.misses)
      assert.strictEqual(stats.store.requests, stats.store.hits + stats.store.misses)
      assert.strictEqual(stats.loads, stats.loadSuccess + stats.loadFailure + stats.loadInterrupted)
      for (const key of ["a", "b"]) {
        const held = memory.partition<string>(Values.name).get(key, stepper.now)
        // What a load was about to replace may stay where it was for as long as it would have.
        const mayLag = age > 0 && held?.value === "old"
        if (held !== undefined && !mayLag) assert.strictEqual(held.value, found(key))
      }
    }
  }

  return { world, first, fork, step, load, loads, found, assertClean }
}

/** A clock that moves to the next sleeper's time when it is told to; whoever is woken waits for the stepper. */
class Alarms implements Clock.Clock {
  readonly #sleepers = new Set<{ readonly until: number; readonly wake: () => void }>()
  readonly #stepper: Stepper
  #ahead = 0

  constructor(stepper: Stepper) {
    this.#stepper = stepper
  }

  get sleepers(): number {
    return this.#sleepers.size
  }

  /** Whether there was a sleeper to wake. */
  ring(): boolean {
    const [next] = [...this.#sleepers].toSorted((a, b) => a.until - b.until)
    if (next === undefined) return false
    this.#sleepers.delete(next)
    this.#ahead = Math.max(this.#ahead, next.until - this.#stepper.now)
    next.wake()
    return true
  }

  currentTimeMillisUnsafe(): number {
    return this.#stepper.now + this.#ahead
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(this.currentTimeMillisUnsafe()) * 1_000_000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const until = this.currentTimeMillisUnsafe() + Duration.toMillis(duration)
      const sleeper = { until, wake: () => resume(Effect.void) }
      this.#sleepers.add(sleeper)
      return Effect.sync(() => this.#sleepers.delete(sleeper))
    })
  }
}

const madeOf = (stepper: Stepper): CacheStore["Service"] => {
  const fiber = stepper.fork(MemoryStore.make, Context.empty())
  stepper.step()
  return succeeded(fiber.pollUnsafe())
}

/** A store that is asked, and answers, some steps later. */
const talkative = (store: CacheStore["Service"]): CacheStore["Service"] => {
  const later = <A, E>(call: Effect.Effect<A, E>) =>
    Effect.yieldNow.pipe(
      Effect.andThen(call),
      Effect.tap(() => Effect.yieldNow)
    )
  return {
    ...store,
    read: (namespace, keys) => later(store.read(namespace, keys)),
    fill: (namespace, rows) => later(store.fill(namespace, rows)),
    rearm: (namespace, rows) => later(store.rearm(namespace, rows)),
    write: (namespace, rows) => later(store.write(namespace, rows)),
    remove: (namespace, keys) => later(store.remove(namespace, keys)),
    clear: (namespace) => later(store.clear(namespace)),
    clearAll: later(store.clearAll)
  }
}

const succeeded = <A, E>(exit: Exit.Exit<A, E> | undefined, about?: string): A => {
  if (exit !== undefined && Exit.isSuccess(exit)) return exit.value
  assert.fail(about ?? `it should have succeeded: ${exit}`)
}
