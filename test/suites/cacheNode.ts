/**
 * The caches that the suites test: each as one process would have it, with its
 * memory at hand and its calls to the store counted and held where a test wants.
 *
 * `inWorld` gives a test its nodes, over one store and one bus, and checks the
 * invariants of each when the test is done.
 */
import { Cause, Deferred, Duration, Effect, Exit, type Fiber, Layer, Scope, Stream } from "effect"
import { CacheConfig, type CacheConfigInput } from "../../src/CacheConfig.ts"
import type { CacheError } from "../../src/CacheError.ts"
import { CacheStore } from "../../src/CacheStore.ts"
import { InvalidationBus } from "../../src/InvalidationBus.ts"
import { MemoryCache } from "../../src/MemoryCache.ts"
import * as Namespace from "../../src/Namespace.ts"
import type { Operations } from "../../src/Operations.ts"
import { TieredCache } from "../../src/TieredCache.ts"
import { assertInvariants } from "../support/invariants.ts"

export type Operation = Exclude<
  keyof CacheStore["Service"],
  "fenceLifetime" | "inTransaction" | "scan" | "sweep" | "ping"
>

export interface StoreCall {
  readonly operation: Operation
  readonly keys: ReadonlyArray<string>
}

/** A call to the store that is kept waiting. */
export interface Held {
  /** Ends when the call has come. */
  readonly reached: Effect.Effect<void>
  /** Lets the call go on. */
  readonly release: Effect.Effect<void>
}

export interface CacheNode {
  readonly cache: Operations
  readonly memory: MemoryCache["Service"]
  /** The calls to the store, in order. */
  readonly calls: Array<StoreCall>
  /** Holds the next call of this kind, before the store is asked or after it has answered. */
  readonly hold: (operation: Operation, moment: "before" | "after") => Held
  /** A layer that hands out this very cache. */
  readonly layer: Layer.Layer<TieredCache>
  readonly close: Effect.Effect<void>
}

export interface NodeOptions {
  readonly config?: CacheConfigInput
  readonly memory?: { readonly maxEntries: number; readonly maxSize: number }
  /** In place of the store of this world. */
  readonly store?: CacheStore["Service"]
}

export interface World {
  /** A namespace that no other test uses. */
  readonly namespace: <O extends Namespace.AnyOptions & { readonly name?: string }>(
    options: O
  ) => Namespace.Namespace<Namespace.KeyOf<O>, Namespace.ValueOf<O>, Namespace.FailureOf<O>>
  /** A cache, as another process would have it. */
  readonly node: (options?: NodeOptions) => Effect.Effect<CacheNode, CacheError, CacheStore | Scope.Scope>
  /** Moves the clock of the caches and that of the store. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  /** By how much the store's clock may run on meanwhile, in milliseconds. */
  readonly drift: number
  readonly topology: Topology
}

/** Which tiers a node has. */
export interface Topology {
  readonly name: string
  readonly memory: boolean
  readonly store: boolean
}

export const memoryOnly: Topology = { name: "memory only", memory: true, store: false }
export const storeOnly: Topology = { name: "store only", memory: false, store: true }
export const bothTiers: Topology = { name: "memory and store", memory: true, store: true }

export type Test<R = never> = (
  name: string,
  body: (world: World) => Effect.Effect<unknown, unknown, CacheStore | Scope.Scope | R>
) => void

/**
 * Entries that live exactly as long as they are fresh, and leases that need no renewal although a test moves the
 * clock faster than its store answers; what tests of other policies say otherwise.
 */
const plain = { jitter: 0, staleIfError: 0, leaseDuration: "1 day" } as const

let namespaces = 0

export const inWorld = <A, E, R>(
  { advance, drift, topology }: Omit<World, "namespace" | "node">,
  body: (world: World) => Effect.Effect<A, E, R>
): Effect.Effect<void, E, R | CacheStore | Scope.Scope> =>
  Effect.gen(function* () {
    const nodes: Array<CacheNode> = []
    const used: Array<Namespace.Any<never, never>> = []
    const bus = yield* build(InvalidationBus, Layer.fresh(InvalidationBus.layerMemory))
    const test = body({
      advance: (duration) => Effect.andThen(answered, advance(duration)),
      drift,
      topology,
      namespace: ({ name, ...options }) => {
        const namespace = Namespace.make(name ?? `namespace-${++namespaces}`, options as never)
        used.push(namespace as never)
        return namespace as never
      },
      node: (options) => Effect.tap(makeNode(bus, topology, options), (node) => Effect.sync(() => nodes.push(node)))
    })
    yield* Effect.updateService(test, CacheStore, counted)
    for (const node of nodes) yield* assertInvariants(node, used)
  })

const makeNode = (
  bus: InvalidationBus["Service"],
  topology: Topology,
  { config: { policy, ...config } = {}, memory: bounds, store: instead }: NodeOptions = {}
): Effect.Effect<CacheNode, CacheError, CacheStore | Scope.Scope> =>
  Effect.gen(function* () {
    const calls: Array<StoreCall> = []
    const holds = new Map<
      string,
      { readonly reached: Deferred.Deferred<void>; readonly open: Deferred.Deferred<void> }
    >()
    const pause = (moment: "before" | "after", operation: Operation) =>
      Effect.suspend(() => {
        const held = holds.get(`${moment} ${operation}`)
        if (held === undefined) return Effect.void
        holds.delete(`${moment} ${operation}`)
        return Effect.andThen(Deferred.succeed(held.reached, undefined), Deferred.await(held.open))
      })
    const store = watched(instead ?? (topology.store ? yield* CacheStore : absent), pause, calls)
    const memory = MemoryCache.make(bounds ?? { maxEntries: topology.memory ? 10_000 : 0, maxSize: 64 * 1024 * 1024 })
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope, exit) => Scope.close(scope, exit))
    const parts = Layer.mergeAll(
      Layer.succeed(CacheStore, store),
      Layer.succeed(InvalidationBus, bus),
      Layer.succeed(MemoryCache, memory),
      CacheConfig.layerOf({
        ...config,
        store: { accessInterval: Duration.infinity, ...config.store },
        policy: { ...plain, ...policy }
      })
    )
    const cache = yield* Scope.provide(
      build(TieredCache, Layer.fresh(TieredCache.layerParts.pipe(Layer.provide(parts)))),
      scope
    )
    return {
      cache,
      memory,
      calls,
      hold: (operation, moment) => {
        const held = { reached: Deferred.makeUnsafe<void>(), open: Deferred.makeUnsafe<void>() }
        holds.set(`${moment} ${operation}`, held)
        return { reached: Deferred.await(held.reached), release: Effect.asVoid(Deferred.succeed(held.open, undefined)) }
      },
      layer: Layer.succeed(TieredCache, cache),
      close: Scope.close(scope, Exit.void)
    }
  })

const build = <I, S, E, R>(
  service: Effect.Effect<S, never, I>,
  layer: Layer.Layer<I, E, R>
): Effect.Effect<S, E, R | Scope.Scope> =>
  Effect.flatMap(Layer.build(layer), (context) => Effect.provideContext(service, context))

const watched = (
  store: CacheStore["Service"],
  pause: (moment: "before" | "after", operation: Operation) => Effect.Effect<void>,
  calls: Array<StoreCall>
): CacheStore["Service"] =>
  around(
    { ...store, afterCommit: (effect) => store.afterCommit(Effect.andThen(pause("before", "afterCommit"), effect)) },
    (operation, keys, call) =>
      Effect.suspend(() => {
        calls.push({ operation, keys })
        return Effect.tap(Effect.andThen(pause("before", operation), call), () => pause("after", operation))
      })
  )

let asked = 0

const callsUnderWay = () => asked

const counted = (store: CacheStore["Service"]): CacheStore["Service"] =>
  around(store, (_, __, call) =>
    Effect.suspend(() => {
      asked++
      return Effect.ensuring(
        call,
        Effect.sync(() => asked--)
      )
    })
  )

/** Ends when the store has answered all that it was asked. Time that passes sooner is time that it takes to answer. */
export const answered: Effect.Effect<void> = Effect.gen(function* () {
  while (callsUnderWay() > 0) yield* turn
})

/** Ends when everybody else has had a turn. */
export const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** The store, asked by way of `ask`. */
export const around = (
  store: CacheStore["Service"],
  ask: <A>(
    operation: Operation,
    keys: ReadonlyArray<string>,
    call: Effect.Effect<A, CacheError>
  ) => Effect.Effect<A, CacheError>
): CacheStore["Service"] => {
  const keysOf = (rows: ReadonlyArray<{ readonly key: string }>) => rows.map(({ key }) => key)
  return {
    ...store,
    read: (namespace, keys) => ask("read", keys, store.read(namespace, keys)),
    fill: (namespace, rows) => ask("fill", keysOf(rows), store.fill(namespace, rows)),
    rearm: (namespace, rows) => ask("rearm", keysOf(rows), store.rearm(namespace, rows)),
    write: (namespace, rows) => ask("write", keysOf(rows), store.write(namespace, rows)),
    remove: (namespace, keys, keepsStale) => ask("remove", keys, store.remove(namespace, keys, keepsStale)),
    removeTagged: (namespace, tags, keepsStale) =>
      ask("removeTagged", [], store.removeTagged(namespace, tags, keepsStale)),
    removeMatching: (namespace, pattern, keepsStale) =>
      ask("removeMatching", [], store.removeMatching(namespace, pattern, keepsStale)),
    clear: (namespace) => ask("clear", [], store.clear(namespace)),
    clearAll: Effect.suspend(() => ask("clearAll", [], store.clearAll)),
    acquire: (namespace, keys, lease) => ask("acquire", keysOf(keys), store.acquire(namespace, keys, lease)),
    renew: (namespace, keys, lease) => ask("renew", keys, store.renew(namespace, keys, lease)),
    release: (namespace, keys, owner) => ask("release", keys, store.release(namespace, keys, owner)),
    touch: (namespace, uses) => ask("touch", keysOf(uses), store.touch(namespace, uses))
  }
}

/** A double of a store that answers and keeps nothing. */
export const absent: CacheStore["Service"] = {
  fenceLifetime: Duration.minutes(10),
  inTransaction: () => false,
  afterCommit: (effect) => effect,
  read: (_, keys) =>
    Effect.succeed(keys.map(() => ({ _tag: "NoRow", fence: { version: 0, snapshot: "", takenAt: 0 } }) as const)),
  fill: (_, rows) => Effect.succeed(rows.map(() => true)),
  rearm: () => Effect.void,
  write: () => Effect.void,
  remove: (_, keys) => Effect.succeed(keys.map(() => false)),
  removeTagged: () => Effect.succeed(0),
  removeMatching: () => Effect.succeed(0),
  clear: () => Effect.succeed(0),
  clearAll: Effect.succeed(0),
  acquire: (_, keys) => Effect.succeed(keys.map(() => ({ _tag: "Granted" }) as const)),
  renew: () => Effect.void,
  release: () => Effect.void,
  touch: () => Effect.void,
  scan: () => Stream.empty,
  sweep: () => Effect.succeed(0),
  ping: Effect.void
}

/** Runs the effect in a fiber of its own as far as it comes at once. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkChild(effect, { startImmediately: true })

/** Ends when the store of this node is well and has been told of all that was pending. Steps are shorter than its timeouts. */
export const told = ({ cache }: CacheNode, advance: World["advance"]): Effect.Effect<void> =>
  Effect.andThen(advance("1 second"), cache.health).pipe(
    Effect.repeat({ until: ({ status }) => status === "Up" }),
    Effect.asVoid
  )

/** A loader that counts its runs and ends when it is told to. */
export interface Controlled<A, E = never> {
  readonly loader: Effect.Effect<A, E>
  readonly runs: () => number
  readonly interruptions: () => number
  /** Ends when the loader has begun. */
  readonly began: Effect.Effect<void>
  readonly end: (exit: Exit.Exit<A, E>) => Effect.Effect<void>
}

export const controlled = <A, E = never>(): Controlled<A, E> => {
  const began = Deferred.makeUnsafe<void>()
  const end = Deferred.makeUnsafe<A, E>()
  let runs = 0
  let interruptions = 0
  return {
    loader: Effect.suspend(() => {
      runs++
      Deferred.doneUnsafe(began, Exit.void)
      return Deferred.await(end)
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => interruptions++))),
    runs: () => runs,
    interruptions: () => interruptions,
    began: Deferred.await(began),
    end: (exit) => Effect.asVoid(Deferred.done(end, exit))
  }
}

/** A loader that gives 1, 2, 3 … and says how often it ran. */
export const counting = (): { readonly loader: Effect.Effect<number>; readonly runs: () => number } => {
  let runs = 0
  return { loader: Effect.sync(() => ++runs), runs: () => runs }
}

/** What an exit died of. */
export const defectOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isDieReason)?.defect : undefined
