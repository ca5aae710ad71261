/**
 * The wire between a cache and the store, and the bus between the caches. What is
 * slow waits there to be delivered.
 *
 * A call whose `Caller` is slow waits twice, on its way to the store and back; the
 * test delivers it or loses it. One that has a `Fault` fails, slow or not. What a cache
 * tells the store on its own, because it could not before, goes over that wire too. News
 * that is late waits once for each node that it goes to, and comes in any order; a wake may
 * be lost. Of a node that has come to an end the store hears nothing any more.
 */
import { Context, Effect, Exit, type Scope } from "effect"
import type { CacheError } from "../../src/CacheError.ts"
import type { CacheStore, NewRow } from "../../src/CacheStore.ts"
import {
  type Invalidation,
  InvalidationBus,
  type InvalidationMessage,
  type Released
} from "../../src/InvalidationBus.ts"
import type { News } from "./Command.ts"
import { Faults, type Kind, lost } from "./Fault.ts"

/** On whose behalf the store is called. */
export interface Caller {
  readonly id: number
  readonly slow: boolean
  /** On which node, of all that there ever were. */
  readonly where: number
}

/** Nobody's call. A cache's own is one that says no more than where it is. */
export const nobody: Caller = { id: -1, slow: false, where: -1 }

export const CurrentCaller = Context.Reference<Caller>("test/Caller", { defaultValue: () => nobody })

/** What the store did, and on whose behalf it was called. */
export interface Observer {
  readonly stored: (namespace: string, rows: ReadonlyArray<NewRow>) => void
  /** Its caller did not wait for what the store made of it. */
  readonly doubted: (namespace: string, rows: ReadonlyArray<NewRow>) => void
  readonly refused: (rows: ReadonlyArray<NewRow>) => void
  /** The lease was given, or may have been renewed. */
  readonly leased: (namespace: string, keys: ReadonlyArray<string>, owner: string) => void
  /** It has ended, whoever had it; or was given back by its owner. */
  readonly released: (namespace: string, keys: ReadonlyArray<string>, owner?: string) => void
  readonly called: (caller: Caller) => void
  readonly answered: (caller: Caller) => void
  /** It was lost or given up, and has no answer. */
  readonly failed: (caller: Caller) => void
  /** A node has heard of this. */
  readonly announced: (invalidation: Invalidation, by: number, where: number) => void
}

interface Held {
  readonly label: string
  /** Whose call to the store it is; undefined where it is none. */
  readonly where: number | undefined
  readonly release: () => void
  /** A loader cannot be lost. */
  readonly lose: (() => void) | undefined
}

export class Wire {
  /** What waits to be delivered, the oldest first. */
  readonly held: Array<Held> = []
  readonly log: Array<string> = []
  /** Nodes that tell nobody anything any more. */
  readonly dead = new Set<number>()
  readonly faults = new Faults()
  /** Calls that the store itself has not answered yet. */
  answering = 0
  /** Calls of the caches' own that are under way. */
  retrying = 0
  readonly #store: CacheStore["Service"]
  readonly #answersAtOnce: boolean
  readonly #news: News
  readonly #observer: Observer | undefined
  readonly #subscribers = new Map<number, Subscriber>()

  constructor(options: {
    readonly store: CacheStore["Service"]
    readonly answersAtOnce: boolean
    readonly news: News
    readonly observer: Observer | undefined
  }) {
    this.#store = options.store
    this.#answersAtOnce = options.answersAtOnce
    this.#news = options.news
    this.#observer = options.observer
  }

  /** Waits in the queue until the test lets it go on. */
  hold(label: string, where?: number): Effect.Effect<void, CacheError> {
    return Effect.callback((resume) => {
      const end = (exit: Exit.Exit<void, CacheError>) => () => {
        leave()
        resume(exit)
      }
      const lose = where === undefined ? undefined : end(Exit.fail(lost(label)))
      const leave = this.#push({ label, where, release: end(Exit.void), lose })
      return Effect.sync(leave)
    })
  }

  #push(held: Held): () => void {
    this.held.push(held)
    return () => {
      const index = this.held.indexOf(held)
      if (index >= 0) this.held.splice(index, 1)
    }
  }

  /** What a node hears, and how it tells the others. */
  bus(where: number): InvalidationBus["Service"] {
    return InvalidationBus.of({
      publish: (message) =>
        Effect.withFiber((fiber) =>
          Effect.sync(() => {
            if (!this.dead.has(where)) this.#publish(message, where, fiber.getRef(CurrentCaller).id)
          })
        ),
      wake: (released) =>
        Effect.sync(() => {
          if (!this.dead.has(where)) this.#wake(released)
        }),
      subscribe: (onMessage, onReleased): Effect.Effect<void, never, Scope.Scope> =>
        Effect.acquireRelease(
          Effect.sync(() => {
            this.#subscribers.set(where, { onMessage, onReleased })
          }),
          () => Effect.sync(() => this.#subscribers.delete(where))
        )
    })
  }

  #publish(message: InvalidationMessage, from: number, by: number): void {
    for (const where of this.#subscribers.keys()) {
      const hear = () => {
        const subscriber = this.#subscribers.get(where)
        if (subscriber === undefined) return
        subscriber.onMessage(message)
        this.#observer?.announced(message.invalidation, by, where)
      }
      if (where === from || this.#news === "at once") hear()
      else if (this.#news === "late") this.#post(`news of ${message.invalidation._tag}`, hear, undefined)
    }
  }

  #wake(released: Released): void {
    for (const where of this.#subscribers.keys()) {
      const hear = () => this.#subscribers.get(where)?.onReleased?.(released)
      if (this.#news === "at once") hear()
      else if (this.#news === "late") this.#post(`wake for ${released.keys}`, hear, () => undefined)
    }
  }

  #post(label: string, hear: () => void, lose: (() => void) | undefined): void {
    const after = (then: () => void) => () => {
      leave()
      this.log.push(`    ${label}`)
      then()
    }
    const leave = this.#push({
      label,
      where: undefined,
      release: after(hear),
      lose: lose === undefined ? undefined : after(lose)
    })
  }

  /** The store, as a node has it. */
  store(node: number, where: number): CacheStore["Service"] {
    const store = this.#store
    const observer = this.#observer
    const call = <A>(kind: Kind, label: string, inStore: Effect.Effect<A, CacheError>) =>
      this.#call(kind, `node ${node}: ${label}`, where, inStore)
    const noted = <A>(inStore: Effect.Effect<A, CacheError>, note: (answer: A) => void) =>
      Effect.tap(inStore, (answer) => Effect.sync(() => note(answer)))
    return {
      ...store,
      read: (namespace, keys) => call("read", `read ${show(namespace, keys)}`, store.read(namespace, keys)),
      fill: (namespace, rows) =>
        call(
          "fill",
          `fill ${show(namespace, rows.map(textOf))}`,
          noted(store.fill(namespace, rows), (stored) => {
            const taken = rows.filter((_, index) => stored[index] === true)
            observer?.stored(namespace, taken)
            observer?.released(namespace, taken.map(textOf))
            observer?.refused(rows.filter((_, index) => stored[index] !== true))
          })
        ),
      rearm: (namespace, rows) =>
        call("fill", `rearm ${show(namespace, rows.map(textOf))}`, store.rearm(namespace, rows)),
      write: (namespace, rows) =>
        call(
          "change",
          `write ${show(namespace, rows.map(textOf))}`,
          noted(store.write(namespace, rows), () => observer?.stored(namespace, rows)).pipe(
            Effect.onInterrupt(() => Effect.sync(() => observer?.doubted(namespace, rows)))
          )
        ),
      remove: (namespace, keys, keepsStale) =>
        call("change", `${verb(keepsStale)} ${show(namespace, keys)}`, store.remove(namespace, keys, keepsStale)),
      removeTagged: (namespace, tags, keepsStale) =>
        call("change", `${verb(keepsStale)} tagged ${tags}`, store.removeTagged(namespace, tags, keepsStale)),
      removeMatching: (namespace, glob, keepsStale) =>
        call(
          "change",
          `${verb(keepsStale)} matching ${glob.pattern}`,
          store.removeMatching(namespace, glob, keepsStale)
        ),
      clear: (namespace) => call("change", `clear ${JSON.stringify(namespace)}`, store.clear(namespace)),
      clearAll: call("change", "clear all", store.clearAll),
      acquire: (namespace, keys, asked) =>
        call(
          "lease",
          `lease ${show(namespace, keys.map(textOf))}`,
          noted(store.acquire(namespace, keys, asked), (grants) => {
            const granted = keys.filter((_, index) => grants[index]?._tag === "Granted").map(textOf)
            this.log.push(`    grants: ${grants.map(({ _tag }) => _tag).join(" ")}`)
            observer?.leased(namespace, granted, asked.owner)
          })
        ),
      renew: (namespace, keys, asked) =>
        call(
          "lease",
          `renew ${show(namespace, keys)}`,
          noted(store.renew(namespace, keys, asked), () => observer?.leased(namespace, keys, asked.owner))
        ),
      release: (namespace, keys, owner) =>
        call(
          "lease",
          `release ${show(namespace, keys)}`,
          noted(store.release(namespace, keys, owner), () => observer?.released(namespace, keys, owner))
        )
    }
  }

  #call<A>(
    kind: Kind,
    label: string,
    where: number,
    inStore: Effect.Effect<A, CacheError>
  ): Effect.Effect<A, CacheError> {
    return Effect.withFiber((fiber) => {
      if (this.dead.has(where)) return Effect.fail(lost(label))
      const caller = fiber.getRef(CurrentCaller)
      let asked = false
      const answered = Effect.onExit(
        Effect.suspend(() => {
          if (this.dead.has(where)) return Effect.fail(lost(label))
          asked = true
          this.answering++
          // A store that answers at once is asked in one step, so that no interruption hides what it did.
          const call = this.faults.strike(caller.id, kind, label, inStore)
          return this.#answersAtOnce ? Effect.runSyncExit(call) : call
        }),
        (exit) =>
          Effect.sync(() => {
            if (!asked) return
            this.answering--
            this.log.push(`    ${label}${Exit.isSuccess(exit) ? "" : ", without an answer"}`)
          })
      )
      const delivered = caller.slow
        ? this.hold(`request of ${label}`, where).pipe(
            Effect.andThen(answered),
            Effect.tap(() => this.hold(`answer to ${label}`, where))
          )
        : answered
      // What comes of these is no matter of what a read may answer.
      if (kind === "lease") return delivered
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

interface Subscriber {
  readonly onMessage: (message: InvalidationMessage) => void
  readonly onReleased: ((released: Released) => void) | undefined
}

const textOf = ({ key }: { readonly key: string }) => key

const verb = (keepsStale: boolean | undefined) => (keepsStale === true ? "expire" : "remove")

const show = (namespace: string, keys: ReadonlyArray<string>) =>
  keys.map((key) => JSON.stringify([namespace, key])).join(" ")
