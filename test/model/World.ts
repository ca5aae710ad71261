/**
 * Caches that share a store and a bus, like the processes of an application, on
 * a scheduler that a test steps through.
 *
 * Between a cache and the store there is a wire. A call whose `Caller` is slow
 * waits there twice, on its way to the store and back; the test delivers it or
 * loses it. Loaders may wait in the same queue (`hold`).
 */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { CacheConfig, type CacheConfigInput } from "../../src/CacheConfig.ts"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import { CacheStore, type NewRow } from "../../src/CacheStore.ts"
import { InvalidationBus } from "../../src/InvalidationBus.ts"
import { MemoryCache } from "../../src/MemoryCache.ts"
import { Spaces } from "../../src/Space.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import type { Stepper } from "./Stepper.ts"

export interface Node {
  readonly cache: TieredCache["Service"]
  readonly memory: MemoryCache["Service"]
}

/** On whose behalf the store is called. */
export interface Caller {
  readonly id: number
  readonly slow: boolean
}

export const CurrentCaller = Context.Reference<Caller>("test/Caller", {
  defaultValue: () => ({ id: -1, slow: false })
})

/** What the store did, and on whose behalf it was called. */
export interface Observer {
  readonly stored: (rows: ReadonlyArray<NewRow>) => void
  readonly refused: (rows: ReadonlyArray<NewRow>) => void
  readonly called: (caller: Caller) => void
  /** Not told of a call that fails or is given up. */
  readonly answered: (caller: Caller) => void
}

interface Held {
  readonly label: string
  readonly release: () => void
  /** A loader cannot be lost. */
  readonly lose: (() => void) | undefined
}

export interface Options {
  readonly stepper: Stepper
  readonly store: CacheStore["Service"]
  /** Whether the store answers without waiting for anything. Default true. */
  readonly answersAtOnce?: boolean
  readonly nodes: number
  readonly config?: CacheConfigInput
  readonly maxEntries?: number
  /** Whether the nodes hear of one another's changes. Default true. */
  readonly bus?: boolean
  readonly observer?: Observer
}

export class World {
  readonly stepper: Stepper
  readonly nodes: ReadonlyArray<Node> = []
  /** What waits to be delivered, the oldest first. */
  readonly held: Array<Held> = []
  readonly log: Array<string> = []
  /** Calls that the store itself has not answered yet. */
  answering = 0
  readonly #observer: Observer | undefined
  readonly #scope = Scope.makeUnsafe()
  readonly #store: CacheStore["Service"]
  readonly #answersAtOnce: boolean

  constructor({
    answersAtOnce = true,
    bus = true,
    config = {},
    maxEntries = 10_000,
    nodes,
    observer,
    stepper,
    store
  }: Options) {
    used.clear()
    this.stepper = stepper
    this.#store = store
    this.#answersAtOnce = answersAtOnce
    this.#observer = observer
    const shared = this.#build(InvalidationBus.layerMemory)
    this.nodes = Array.from({ length: nodes }, (_, node) => {
      const memory = MemoryCache.make({ maxEntries, maxSize: 1024 * 1024 })
      const parts = Layer.mergeAll(
        Layer.succeed(CacheStore, this.#wired(node)),
        bus ? Layer.succeedContext(shared) : Layer.fresh(InvalidationBus.layerMemory),
        Layer.succeed(MemoryCache, memory),
        CacheConfig.layerOf(config)
      )
      const cache = Context.get(this.#build(TieredCache.layerParts.pipe(Layer.provide(parts))), TieredCache)
      return { cache, memory }
    })
  }

  /** Starts an effect as a caller of its own. */
  fork<A, E>(effect: Effect.Effect<A, E>, caller: Caller = { id: -1, slow: false }) {
    return this.stepper.fork(effect, Context.make(CurrentCaller, caller))
  }

  /** Runs an effect to its end, with nobody else about. */
  run<A, E>(effect: Effect.Effect<A, E>): Exit.Exit<A, E> {
    const fiber = this.fork(effect)
    this.stepper.step()
    const exit = fiber.pollUnsafe()
    if (exit === undefined) throw new Error("an effect does not end")
    return exit
  }

  /** Flights in the air, open fences and sleeping fibers: none, when nothing is under way. */
  get underway(): number {
    const spaces = [...used].flatMap((spaces) => [...spaces.all()])
    return (
      spaces.reduce((sum, { fences, loads, lookups }) => sum + loads.size + lookups.size + fences.size, 0) +
      this.stepper.sleepers
    )
  }

  /** Interrupts what is under way in the caches. */
  close(): void {
    this.run(Scope.close(this.#scope, Exit.void))
  }

  /** Waits in the queue until the test lets it go on. */
  hold(label: string, isLoader: boolean): Effect.Effect<void, CacheError> {
    return Effect.callback((resume) => {
      const leave = () => {
        const index = this.held.indexOf(held)
        if (index >= 0) this.held.splice(index, 1)
      }
      const end = (exit: Exit.Exit<void, CacheError>) => () => {
        leave()
        resume(exit)
      }
      const lost = new CacheError({ reason: new StoreUnavailable({ operation: label, cause: "lost" }) })
      const held: Held = { label, release: end(Exit.void), lose: isLoader ? undefined : end(Exit.fail(lost)) }
      this.held.push(held)
      return Effect.sync(leave)
    })
  }

  #build<A, E>(layer: Layer.Layer<A, E>): Context.Context<A> {
    const fiber = this.stepper.fork(Layer.buildWithScope(layer, this.#scope), Context.empty())
    this.stepper.step()
    const exit = fiber.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error(`the world cannot be built: ${exit}`)
    return exit.value
  }

  #wired(node: number): CacheStore["Service"] {
    const store = this.#store
    const call = <A>(label: string, inStore: Effect.Effect<A, CacheError>) =>
      this.#wire(`node ${node}: ${label}`, inStore)
    return {
      ...store,
      read: (namespace, keys) => call(`read ${show(namespace, keys)}`, store.read(namespace, keys)),
      fill: (namespace, rows) =>
        call(
          `fill ${show(namespace, rows.map(textOf))}`,
          Effect.tap(store.fill(namespace, rows), (stored) =>
            Effect.sync(() => {
              this.#observer?.stored(rows.filter((_, index) => stored[index] === true))
              this.#observer?.refused(rows.filter((_, index) => stored[index] !== true))
            })
          )
        ),
      write: (namespace, rows) =>
        call(
          `write ${show(namespace, rows.map(textOf))}`,
          Effect.tap(store.write(namespace, rows), () => Effect.sync(() => this.#observer?.stored(rows)))
        ),
      remove: (namespace, keys) => call(`remove ${show(namespace, keys)}`, store.remove(namespace, keys)),
      clear: (namespace) => call(`clear ${JSON.stringify(namespace)}`, store.clear(namespace)),
      clearAll: call("clear all", store.clearAll)
    }
  }

  #wire<A>(label: string, inStore: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> {
    return Effect.withFiber((fiber) => {
      const caller = fiber.getRef(CurrentCaller)
      let asked = false
      const answered = Effect.onExit(
        Effect.suspend(() => {
          asked = true
          this.answering++
          // A store that answers at once is asked in one step, so that no interruption hides what it did.
          return this.#answersAtOnce ? Effect.runSyncExit(inStore) : inStore
        }),
        () =>
          Effect.sync(() => {
            if (!asked) return
            this.answering--
            this.log.push(`    ${label}`)
          })
      )
      const delivered = caller.slow
        ? this.hold(`request of ${label}`, false).pipe(
            Effect.andThen(answered),
            Effect.tap(() => this.hold(`answer to ${label}`, false))
          )
        : answered
      return Effect.suspend(() => {
        this.#observer?.called(caller)
        return Effect.tap(delivered, () => Effect.sync(() => this.#observer?.answered(caller)))
      })
    })
  }
}

const textOf = ({ key }: NewRow) => key

const show = (namespace: string, keys: ReadonlyArray<string>) =>
  keys.map((key) => JSON.stringify([namespace, key])).join(" ")

// No cache shows its spaces, so every `Spaces` that is used says so itself.
const used = new Set<Spaces>()
const { of } = Spaces.prototype
Spaces.prototype.of = function (this: Spaces, namespace) {
  used.add(this)
  return of.call(this, namespace as never) as never
}
