/**
 * Caches that share a store and a bus, like the processes of an application, on
 * a scheduler that a test steps through; see `Wire` for what is between them.
 */
import { Context, type Effect, Exit, Fiber, Layer, Scope } from "effect"
import { CacheConfig, type CacheConfigInput } from "../../src/CacheConfig.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { InvalidationBus } from "../../src/InvalidationBus.ts"
import { Leases } from "../../src/Leases.ts"
import { MemoryCache } from "../../src/MemoryCache.ts"
import { PendingInvalidations } from "../../src/PendingInvalidations.ts"
import { PendingWrites } from "../../src/PendingWrites.ts"
import { Spaces } from "../../src/Space.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import type { News } from "./Command.ts"
import type { Stepper } from "./Stepper.ts"
import { type Caller, CurrentCaller, nobody, type Observer, Wire } from "./Wire.ts"

export interface Node {
  readonly cache: TieredCache["Service"]
  readonly memory: MemoryCache["Service"]
  /** Which it is, of all that there ever were. */
  readonly where: number
  readonly scope: Scope.Closeable
}

export interface Options {
  readonly stepper: Stepper
  readonly store: CacheStore["Service"]
  /** Whether the store answers without waiting for anything. Default true. */
  readonly answersAtOnce?: boolean
  readonly nodes: number
  readonly config?: CacheConfigInput
  readonly maxEntries?: number
  /** When the nodes hear of one another's changes. Default at once. */
  readonly news?: News
  /** Whether the calls that a cache makes on its own wait to be delivered. Default false. */
  readonly slowRetries?: boolean
  readonly observer?: Observer
}

export class World {
  readonly stepper: Stepper
  readonly nodes: Array<Node> = []
  readonly wire: Wire
  readonly #options: Options
  #count = 0

  constructor(options: Options) {
    const { answersAtOnce = true, news = "at once", nodes, observer, stepper, store } = options
    used.clear()
    pending.clear()
    writes.clear()
    leases.clear()
    this.stepper = stepper
    this.#options = options
    this.wire = new Wire({ store, answersAtOnce, news, observer })
    for (let node = 0; node < nodes; node++) this.nodes.push(this.#start(node))
  }

  #start(node: number): Node {
    const { config = {}, maxEntries = 10_000, slowRetries = false } = this.#options
    const where = this.#count++
    const memory = MemoryCache.make({ maxEntries, maxSize: 1024 * 1024 })
    const parts = Layer.mergeAll(
      Layer.succeed(CacheStore, this.wire.store(node, where)),
      Layer.succeed(InvalidationBus, this.wire.bus(where)),
      Layer.succeed(MemoryCache, memory),
      CacheConfig.layerOf({
        ...config,
        policy: { jitter: 0, staleIfError: 0, ...config.policy },
        // Who notes uses now and then is always under way.
        store: { accessInterval: "Infinity", ...config.store }
      })
    )
    const itself = Context.make(CurrentCaller, { ...nobody, slow: slowRetries, where })
    const scope = Scope.makeUnsafe()
    const building = this.stepper.fork(
      Layer.buildWithScope(TieredCache.layerParts.pipe(Layer.provide(parts)), scope),
      itself
    )
    this.stepper.step()
    const exit = building.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error(`the world cannot be built: ${exit}`)
    return { cache: Context.get(exit.value, TieredCache), memory, where, scope }
  }

  /** From now on a node tells nobody anything. */
  silence({ where }: Node): void {
    this.wire.dead.add(where)
    for (const held of this.wire.held.filter((held) => held.where === where)) held.lose?.()
  }

  /** Interrupts what is under way in a node, and says when that has ended. */
  end({ scope }: Node): Fiber.Fiber<void> {
    return this.fork(Scope.close(scope, Exit.void))
  }

  /** Puts another node in the place of one that has ended. */
  replace(node: number): void {
    const { where } = this.nodes[node]!
    for (const [part, place] of pending) if (place === where) pending.delete(part)
    this.nodes[node] = this.#start(node)
  }

  /** Starts an effect as a caller of its own. */
  fork<A, E>(effect: Effect.Effect<A, E>, caller: Caller = nobody, context: Context.Context<never> = Context.empty()) {
    return this.stepper.fork(effect, Context.add(context, CurrentCaller, caller))
  }

  /** Runs an effect to its end, with nobody else about. */
  run<A, E>(effect: Effect.Effect<A, E>): Exit.Exit<A, E> {
    const fiber = this.fork(effect)
    this.stepper.step()
    const exit = fiber.pollUnsafe()
    if (exit === undefined) throw new Error("an effect does not end")
    return exit
  }

  /** Flights in the air, open fences, waiting loads, sleeping fibers and what the store is to be told: none, when nothing is under way. */
  get underway(): number {
    const ofSpaces = [...used.keys()]
      .flatMap((spaces) => [...spaces.all()])
      .reduce((sum, { fences, loads, lookups }) => sum + loads.size + lookups.size + fences.size, 0)
    const parts = [...pending.keys(), ...writes.keys(), ...leases.keys()]
    return ofSpaces + this.stepper.sleepers + parts.reduce((sum, { size }) => sum + size, 0)
  }

  /** Whether a node has loads or lookups of a namespace under way, or anything to store. */
  isBusy(namespace: string): boolean {
    if (this.wire.retrying > 0 || [...writes.keys()].some(({ size }) => size > 0)) return true
    return [...used.keys()].some((spaces) => {
      const space = spaces.find(namespace)
      return space !== undefined && space.loads.size + space.lookups.size > 0
    })
  }

  /** Whether a node still has to tell the store that what it holds for the key is wrong. */
  isPending(namespace: string, key: string): boolean {
    return [...pending.keys()].some(
      (pending) => pending.tagsOf(namespace).size > 0 || pending.isPending(namespace, key)
    )
  }

  /** Interrupts what is under way in the caches. */
  close(): void {
    for (const { scope } of this.nodes) this.run(Scope.close(scope, Exit.void))
  }
}

// No cache shows its parts, so those that are used say so themselves, and of which node they are.

const whereabouts = (): number => Fiber.getCurrent()?.getRef(CurrentCaller).where ?? nobody.where

const used = new Map<Spaces, number>()
const { of } = Spaces.prototype
Spaces.prototype.of = function (this: Spaces, namespace) {
  used.set(this, whereabouts())
  return of.call(this, namespace as never) as never
}

const pending = new Map<PendingInvalidations, number>()
const { add } = PendingInvalidations.prototype
PendingInvalidations.prototype.add = function (this: PendingInvalidations, invalidation) {
  pending.set(this, whereabouts())
  add.call(this, invalidation)
}

const writes = new Map<PendingWrites, number>()
const { enqueue } = PendingWrites.prototype
PendingWrites.prototype.enqueue = function (this: PendingWrites, write) {
  writes.set(this, whereabouts())
  enqueue.call(this, write)
}

const leases = new Map<Leases, number>()
const { enter } = Leases.prototype
Leases.prototype.enter = function (this: Leases, waiter, namespace, key) {
  leases.set(this, whereabouts())
  enter.call(this, waiter, namespace, key)
}
