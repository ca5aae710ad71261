/**
 * What the caches of a soak stand before: a source with a version per key, which
 * fails, dies, is slow and hangs by chance; and what readers have a right to.
 *
 * **What a reader has a right to.** Whoever changes the source tells a cache of it
 * (`set`, `invalidate`, `clear`). Once that call has succeeded, a read that begins
 * later, in any cache, gives that version or a later one. Where the call failed,
 * this holds for the cache that was told, and for the others once nothing is
 * pending there (`Truth.told`, `Truth.caughtUp`).
 *
 * Changes of one key come one after the other, so that "later" has a meaning.
 */
import { Effect, Latch, Schema } from "effect"
import { type CacheEntry, type CacheError, CachePolicy, Loaded, Namespace } from "effect-tiered-cache"
import type { Dice } from "./Dice.ts"

export const Value = Schema.Struct({
  key: Schema.Int,
  version: Schema.Int,
  /** When the source was read. */
  readAt: Schema.Finite,
  filling: Schema.String
})
export type Value = typeof Value.Type

export class SourceFailed extends Schema.TaggedError<SourceFailed>()("SourceFailed", {
  namespace: Schema.String,
  at: Schema.Finite
}) {}

export class SourceDied extends Error {}

export type Failure = CacheError | SourceFailed

/** A namespace, and what its readers may meet. Times in milliseconds. */
export interface Kind {
  readonly namespace: Namespace.Namespace<number, Value, Failure>
  readonly name: string
  /** How old what is served may be. */
  readonly longestLife: number
  /** How old a failure may be. */
  readonly failureLife: number
  /** Which failures of the cache's own its readers may be told. */
  readonly troubles: ReadonlyArray<CacheError["reason"]["_tag"]>
}

const kind = (namespace: Namespace.Namespace<number, Value, Failure>, troubles: Kind["troubles"] = []): Kind => {
  const { failureTimeToLive, staleIfError, staleWhileRevalidate, timeToLive } = CachePolicy.resolve(namespace.policy)
  return {
    namespace,
    name: namespace.name,
    longestLife: timeToLive + Math.max(staleIfError, staleWhileRevalidate),
    failureLife: failureTimeToLive,
    troubles
  }
}

const schemas = { key: Schema.Int, value: Value }

/** Every policy that a read can go by. Lives are short, so that a soak sees many. */
export const kinds: ReadonlyArray<Kind> = [
  kind(Namespace.make("plain", { ...schemas, timeToLive: "2 seconds", staleIfError: 0 })),
  kind(
    Namespace.make("reserved", {
      ...schemas,
      timeToLive: 600,
      memoryTimeToLive: "1 second",
      staleWhileRevalidate: 400,
      staleIfError: "4 seconds",
      failureBackoff: 300,
      loaderSoftTimeout: 40
    })
  ),
  kind(
    Namespace.make("impatient", {
      ...schemas,
      timeToLive: 800,
      staleIfError: "2 seconds",
      failureBackoff: 200,
      loaderSoftTimeout: 40,
      loaderHardTimeout: 150
    }),
    ["LoaderTimeout"]
  ),
  kind(
    Namespace.make("early", {
      ...schemas,
      timeToLive: "1 second",
      staleWhileRevalidate: 300,
      staleIfError: 500,
      earlyRefresh: 0.5,
      earlyRefreshBeta: 1,
      storeWrites: "background"
    })
  ),
  kind(
    Namespace.make("failures", {
      ...schemas,
      error: SourceFailed,
      timeToLive: 500,
      staleIfError: 0,
      failureTimeToLive: 200,
      copies: true
    })
  ),
  kind(
    Namespace.make("strict", { ...schemas, timeToLive: "1 second", staleIfError: "1 second", onStoreFailure: "fail" }),
    ["StoreUnavailable", "StoreTimeout", "CircuitOpen"]
  )
]

export const keysPerKind = 60

/** A key of a kind. */
export interface Item {
  readonly kind: Kind
  readonly key: number
}

/** A change, or a repeated telling of what is so. */
interface Telling {
  readonly items: ReadonlyArray<Item>
  readonly versions: ReadonlyArray<number>
}

/** The versions there are, and those that each cache has to know. */
export class Truth {
  readonly #versions = new Map<string, number>()
  readonly #known: ReadonlyArray<Map<string, number>>
  readonly #busy = new Set<string>()
  /** By item and version. */
  readonly #confirmed = new Map<string, number>()
  /** What only one cache was told, by that cache. */
  readonly #half: ReadonlyArray<Array<{ readonly telling: Telling; readonly at: number }>>

  constructor(caches: number) {
    this.#known = Array.from({ length: caches }, () => new Map())
    this.#half = Array.from({ length: caches }, () => [])
  }

  version(item: Item): number {
    return this.#versions.get(nameOf(item)) ?? 0
  }

  /** The source said that this version is still right, and when it looked. */
  confirm(item: Item, version: number, at: number): void {
    this.#confirmed.set(`${nameOf(item)} ${version}`, at)
  }

  /** When the source was last seen to have what was read from it. */
  lastRight(item: Item, { readAt, version }: Value): number {
    return Math.max(readAt, this.#confirmed.get(`${nameOf(item)} ${version}`) ?? 0)
  }

  /** Takes the items that nobody is changing, until `release`. */
  take(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
    const free = items.filter((item) => !this.#busy.has(nameOf(item)))
    for (const item of free) this.#busy.add(nameOf(item))
    return free
  }

  release(items: ReadonlyArray<Item>): void {
    for (const item of items) this.#busy.delete(nameOf(item))
  }

  change(items: ReadonlyArray<Item>): void {
    for (const item of items) this.#versions.set(nameOf(item), this.version(item) + 1)
  }

  /** What a cache is about to be told. */
  telling(items: ReadonlyArray<Item>): Telling {
    return { items, versions: items.map((item) => this.version(item)) }
  }

  /** All caches have to know it, or only that which was told. */
  told(telling: Telling, cache: number, hasSucceeded: boolean, at: number): void {
    const knowing = hasSucceeded ? this.#known : [this.#known[cache]!]
    telling.items.forEach((item, index) => {
      for (const known of knowing) {
        known.set(nameOf(item), Math.max(known.get(nameOf(item)) ?? 0, telling.versions[index]!))
      }
    })
    if (!hasSucceeded) this.#half[cache]!.push({ telling, at })
  }

  /** The cache had nothing pending any more at this time: what it was told before, all have to know. */
  caughtUp(cache: number, by: number): void {
    const half = this.#half[cache]!
    for (const { at, telling } of half) if (at < by) this.told(telling, cache, true, at)
    this.#half[cache]!.splice(0, half.length, ...half.filter(({ at }) => at >= by))
  }

  /** The oldest version that a read which begins now may give. */
  oldest(cache: number, item: Item): number {
    return this.#known[cache]!.get(nameOf(item)) ?? 0
  }
}

const nameOf = ({ key, kind }: Item) => `${kind.name} ${key}`

/** How loads ended. */
export interface Loads {
  well: number
  failed: number
  died: number
  late: number
  notModified: number
}

export class Source {
  readonly loads: Loads = { well: 0, failed: 0, died: 0, late: 0, notModified: 0 }
  readonly #truth: Truth
  readonly #dice: Dice
  readonly #mended = Latch.makeUnsafe(false)
  #isMended = false

  constructor(truth: Truth, dice: Dice) {
    this.#truth = truth
    this.#dice = dice
  }

  /** From now on it is well; what hangs, ends. */
  mend(): void {
    this.#isMended = true
    this.#mended.openUnsafe()
  }

  read({ key, kind }: Item): Value {
    const filling = "x".repeat(this.#dice.below(400))
    return { key, version: this.#truth.version({ key, kind }), readAt: Date.now(), filling }
  }

  /** The values of the keys as they are when the load begins, however late it ends. */
  load(kind: Kind, keys: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<Value>, SourceFailed> {
    return Effect.suspend(() => {
      const values = keys.map((key) => this.read({ kind, key }))
      const { how, wait } = this.#isMended ? { how: "well", wait: 0 } : this.#weather()
      const waited = wait === 0 ? Effect.void : Effect.raceFirst(Effect.sleep(wait), this.#mended.await)
      return Effect.flatMap(waited, () => {
        if (wait > 100) this.loads.late += keys.length
        this.loads[how === "fails" ? "failed" : how === "dies" ? "died" : "well"] += keys.length
        if (how === "fails") return Effect.fail(new SourceFailed({ namespace: kind.name, at: Date.now() }))
        return how === "dies" ? Effect.die(new SourceDied("the source died")) : Effect.succeed(values)
      })
    })
  }

  /** The same for a loader that is shown what it is to replace. */
  loadChanged(
    item: Item,
    stale: CacheEntry<Value> | undefined
  ): Effect.Effect<Value | Loaded.Loaded<Value>, SourceFailed> {
    return Effect.map(this.load(item.kind, [item.key]), ([value]) => {
      if (stale === undefined || stale.validators["version"] !== String(value!.version)) {
        return Loaded.of(value!, { validators: { version: String(value!.version) } })
      }
      this.loads.notModified++
      this.#truth.confirm(item, value!.version, value!.readAt)
      return Loaded.notModified({ validators: { version: String(value!.version) } })
    })
  }

  #weather() {
    return this.#dice.weighted<{ readonly how: "well" | "fails" | "dies"; readonly wait: number }>([
      [68, { how: "well", wait: this.#dice.below(6) }],
      [12, { how: "well", wait: this.#dice.between(20, 300) }],
      [10, { how: "fails", wait: this.#dice.below(10) }],
      [3, { how: "fails", wait: this.#dice.between(50, 400) }],
      [1, { how: "dies", wait: this.#dice.below(10) }],
      [4, { how: "well", wait: this.#dice.between(300, 1500) }],
      [1, { how: "well", wait: Infinity }]
    ])
  }
}
