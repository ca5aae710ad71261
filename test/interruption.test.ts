/**
 * Each operation is interrupted at every step it takes: it is run once to count
 * them (a step is one primitive of an effect, see `Stepper`), then again and
 * again, each time interrupted one step later.
 *
 * Wherever it was interrupted, the caller ends; no flight, fence, loader or timer
 * is left; the counts add up; memory and store agree, on both nodes; and who
 * asked for the same key at the same time, or asks for it afterwards, is
 * answered.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Schema } from "effect"
import type { CacheStore } from "../src/CacheStore.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import * as Namespace from "../src/Namespace.ts"
import type { TieredCache } from "../src/TieredCache.ts"
import { Stepper } from "./model/Stepper.ts"
import { World } from "./model/World.ts"

type Cache = TieredCache["Service"]

const Values = Namespace.make("values", { value: Schema.String })

interface Case {
  readonly name: string
  /** What has happened before, on which of the two nodes; the operation is done on the first. */
  readonly before?: (first: Cache, second: Cache) => Effect.Effect<unknown, unknown>
  readonly operation: (cache: Cache, stage: Stage) => Effect.Effect<unknown, unknown>
  /** What a read of "a" may find afterwards, wherever it looks. */
  readonly after: ReadonlyArray<string | undefined>
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
  }
]

describe("interruption", () => {
  for (const { after, before = () => Effect.void, name, operation } of cases) {
    it(`${name}, interrupted at any step, leaves nothing behind`, () => {
      for (let step = 0, ended = false; !ended; step++) {
        const stage = makeStage(before)
        const caller = stage.world.fork(operation(stage.first, stage))
        stage.world.stepper.step(step)
        ended = caller.pollUnsafe() !== undefined
        caller.interruptUnsafe()
        stage.world.stepper.step()
        assert.isDefined(caller.pollUnsafe(), `interrupted at step ${step}, it does not end`)
        stage.assertClean()
        assert.include(after, stage.found("a"), `interrupted at step ${step}`)
        assert.strictEqual(
          succeeded(stage.world.run(stage.first.getOrSet(Values, "a", Effect.succeed("again")))),
          stage.found("a")
        )
        stage.assertClean()
      }
    })

    it(`${name}, interrupted at any step, takes nothing from another caller`, () => {
      for (let start = 0, isStarted = true; isStarted; start += 5) {
        for (let step = start, ended = false; !ended; step += 3) {
          const stage = makeStage(before)
          const caller = stage.world.fork(operation(stage.first, stage))
          stage.world.stepper.step(start)
          isStarted = caller.pollUnsafe() === undefined
          const other = stage.world.fork(
            stage.first.getOrSet(Values, "a", Effect.andThen(Effect.yieldNow, Effect.succeed("other")))
          )
          stage.world.stepper.step(step - start)
          ended = caller.pollUnsafe() !== undefined
          caller.interruptUnsafe()
          stage.world.stepper.step()
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
  }

  it("a coalesced caller, interrupted at any step, leaves the load to the other", () => {
    for (let step = 0, ended = false; !ended; step++) {
      const stage = makeStage(() => Effect.void)
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
      const stage = makeStage(() => Effect.void)
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
      const stage = makeStage(() => Effect.void)
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
  readonly load: (value: string) => Effect.Effect<string>
  readonly loads: { begun: number; ended: number }
  /** What there is of a key, wherever one looks. */
  readonly found: (key: string) => string | undefined
  readonly assertClean: () => void
}

const makeStage = (before: (first: Cache, second: Cache) => Effect.Effect<unknown, unknown>): Stage => {
  const stepper = new Stepper({ fine: true })
  const store = madeOf(stepper)
  const world = new World({ stepper, store: talkative(store), answersAtOnce: false, nodes: 2 })
  const [{ cache: first }, { cache: second }] = world.nodes as [World["nodes"][number], World["nodes"][number]]
  const loads = { begun: 0, ended: 0 }
  assert.isTrue(Exit.isSuccess(world.run(before(first, second))))

  const load = (value: string) => {
    let begun = false
    return Effect.ensuring(
      Effect.suspend(() => {
        begun = true
        loads.begun++
        return Effect.as(Effect.yieldNow, value)
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
    assert.strictEqual(world.underway, 0)
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
        if (held !== undefined) assert.strictEqual(held.value, found(key))
      }
    }
  }

  return { world, first, load, loads, found, assertClean }
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
