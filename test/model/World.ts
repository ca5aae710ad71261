/**
 * Caches that share a store and a bus, like the processes of an application, on
 * a scheduler that a test steps through.
 *
 * Between a cache and the store there is a wire. A call whose `Caller` is slow
 * waits there twice, on its way to the store and back; the test delivers it or
 * loses it. Loaders may wait in the same queue (`hold`). What a cache tells the
 * store on its own, because it could not before, goes over that wire too.
 */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { CacheConfig, type CacheConfigInput } from "../../src/CacheConfig.ts"
import { CacheError, StoreUnavailable } from "../../src/CacheError.ts"
import { CacheStore, type NewRow } from "../../src/CacheStore.ts"
import { type Invalidation, InvalidationBus } from "../../src/InvalidationBus.ts"
import { MemoryCache } from "../../src/MemoryCache.ts"
import { PendingInvalidations } from "../../src/PendingInvalidations.ts"
import { PendingWrites } from "../../src/PendingWrites.ts"
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

/** Nobody's call, or one of the cache's own. */
const nobody: Caller = { id: -1, slow: false }

export const CurrentCaller = Context.Reference<Caller>("test/Caller", { defaultValue: () => nobody })

/** What the store did, and on whose behalf it was called. */
export interface Observer {
  readonly stored: (namespace: string, rows: ReadonlyArray<NewRow>) => void
  readonly refused: (rows: ReadonlyArray<NewRow>) => void
  readonly called: (caller: Caller) => void
  readonly answered: (caller: Caller) => void
  /** It was lost or given up, and has no answer. */
  readonly failed: (caller: Caller) => void
  /** All nodes have heard of this. */
  readonly announced: (invalidation: Invalidation) => void
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
  /** Whether the calls that a cache makes on its own wait to be delivered. Default false. */
  readonly slowRetries?: boolean
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
  /** Calls of the caches' own that are under way. */
  retrying = 0
  readonly #observer: Observer | undefined
  readonly #scope = Scope.makeUnsafe()
  readonly #store: CacheStore["Service"]
  readonly #answersAtOnce: boolean

  constructor({
    answersAtOnce = true,
    bus: hasBus = true,
    config = {},
    maxEntries = 10_000,
    nodes,
    observer,
    slowRetries = false,
    stepper,
    store
  }: Options) {
    used.clear()
    pending.clear()
    writes.clear()
    this.stepper = stepper
    this.#store = store
    this.#answersAtOnce = answersAtOnce
    this.#observer = observer
    const bus = Context.get(this.#build(InvalidationBus.layerMemory), InvalidationBus)
    const shared = InvalidationBus.of({
      ...bus,
      publish: (message) =>
        Effect.sync(() => {
          Effect.runSync(bus.publish(message))
          observer?.announced(message.invalidation)
        })
    })
    this.nodes = Array.from({ length: nodes }, (_, node) => {
      const memory = MemoryCache.make({ maxEntries, maxSize: 1024 * 1024 })
      const parts = Layer.mergeAll(
        Layer.succeed(CacheStore, this.#wired(node)),
        hasBus ? Layer.succeed(InvalidationBus, shared) : Layer.fresh(InvalidationBus.layerMemory),
        Layer.succeed(MemoryCache, memory),
        CacheConfig.layerOf({ ...config, policy: { jitter: 0, staleIfError: 0, ...config.policy } })
      )
      const itself = Context.make(CurrentCaller, { ...nobody, slow: slowRetries })
      const cache = Context.get(this.#build(TieredCache.layerParts.pipe(Layer.provide(parts)), itself), TieredCache)
      return { cache, memory }
    })
  }

  /** Starts an effect as a caller of its own. */
  fork<A, E>(effect: Effect.Effect<A, E>, caller: Caller = nobody) {
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

  /** Flights in the air, open fences, sleeping fibers and what the store is to be told: none, when nothing is under way. */
  get underway(): number {
    const ofSpaces = [...used]
      .flatMap((spaces) => [...spaces.all()])
      .reduce((sum, { fences, loads, lookups }) => sum + loads.size + lookups.size + fences.size, 0)
    return ofSpaces + this.stepper.sleepers + [...pending, ...writes].reduce((sum, { size }) => sum + size, 0)
  }

  /** Whether a node has loads or lookups of a namespace under way, or anything to store. */
  isBusy(namespace: string): boolean {
    if (this.retrying > 0 || [...writes].some(({ size }) => size > 0)) return true
    return [...used].some((spaces) => {
      const space = spaces.find(namespace)
      return space !== undefined && space.loads.size + space.lookups.size > 0
    })
  }

  /** Whether a node still has to tell the store that what it holds for the key is wrong. */
  isPending(namespace: string, key: string): boolean {
    return [...pending].some((pending) => pending.isPending(namespace, key))
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

  #build<A, E>(layer: Layer.Layer<A, E>, context: Context.Context<never> = Context.empty()): Context.Context<A> {
    const fiber = this.stepper.fork(Layer.buildWithScope(layer, this.#scope), context)
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
              this.#observer?.stored(
                namespace,
                rows.filter((_, index) => stored[index] === true)
              )
              this.#observer?.refused(rows.filter((_, index) => stored[index] !== true))
            })
          )
        ),
      rearm: (namespace, rows) =>
        call(
          `rearm ${show(
            namespace,
            rows.map(({ key }) => key)
          )}`,
          store.rearm(namespace, rows)
        ),
      write: (namespace, rows) =>
        call(
          `write ${show(namespace, rows.map(textOf))}`,
          Effect.tap(store.write(namespace, rows), () => Effect.sync(() => this.#observer?.stored(namespace, rows)))
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
      if (caller.id === nobody.id) {
        return Effect.suspend(() => {
          this.retrying++
          return Effect.onExit(delivered, () => Effect.sync(() => this.retrying--))
        })
      }
      return Effect.suspend(() => {
        this.#observer?.called(caller)
        return Effect.onExit(delivered, (exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) this.#observer?.answered(caller)
            else this.#observer?.failed(caller)
          })
        )
      })
    })
  }
}

const textOf = ({ key }: NewRow) => key

const show = (namespace: string, keys: ReadonlyArray<string>) =>
  keys.map((key) => JSON.stringify([namespace, key])).join(" ")

// No cache shows its parts, so those that are used say so themselves.

const used = new Set<Spaces>()
const { of } = Spaces.prototype
Spaces.prototype.of = function (this: Spaces, namespace) {
  used.add(this)
  return of.call(this, namespace as never) as never
}

const pending = new Set<PendingInvalidations>()
const { add } = PendingInvalidations.prototype
PendingInvalidations.prototype.add = function (this: PendingInvalidations, invalidation) {
  pending.add(this)
  add.call(this, invalidation)
}

const writes = new Set<PendingWrites>()
const { enqueue } = PendingWrites.prototype
PendingWrites.prototype.enqueue = function (this: PendingWrites, write) {
  writes.add(this)
  enqueue.call(this, write)
}
