/**
 * What the users of a cache do, all of it at once and by chance, and what each of
 * them has a right to.
 */
import { Cause, Effect, Exit, Option } from "effect"
import type { CacheEntry, CacheError, GetOrSetOptions, Loader, Operations } from "effect-tiered-cache"
import type { Dice } from "./Dice.ts"
import {
  type Failure,
  type Item,
  keysPerKind,
  type Kind,
  kinds,
  type Source,
  SourceDied,
  SourceFailed,
  type Truth,
  type Value
} from "./Source.ts"
import type { Tally } from "./Tally.ts"

/** One cache, and what surrounds it. Times in milliseconds. */
export interface Surroundings {
  readonly cache: Operations
  /** Which of the caches it is. */
  readonly index: number
  readonly truth: Truth
  readonly source: Source
  readonly dice: Dice
  readonly tally: Tally
  readonly readTimeout: number
  readonly writeTimeout: number
  /** What a busy machine adds to any time. */
  readonly slack: () => number
  /** By how much something may be older, because the store was told late. */
  readonly lateness: () => number
}

/** What somebody got. */
interface Seen {
  readonly key: number
  readonly value: Value
  readonly entry?: CacheEntry<Value>
}

interface Asking {
  readonly name: string
  readonly items: ReadonlyArray<Item>
  readonly run: Effect.Effect<ReadonlyArray<Seen>, Failure>
  /** How long it may take at most. */
  readonly limit: number
  readonly hasFallback: boolean
}

/** Asks for something, or changes something. */
export const visit = (self: Surroundings): Effect.Effect<void> =>
  Effect.suspend(() => (self.dice.chance(0.92) ? look(self, asking(self)) : change(self)))

const asking = (self: Surroundings): Asking => {
  const { cache, dice, readTimeout, source, writeTimeout } = self
  const kind = dice.pick(kinds)
  const key = keyBy(dice)
  const keys = Array.from({ length: 2 + dice.below(8) }, () => keyBy(dice))
  const { namespace } = kind
  const one = [{ kind, key }]
  const many = keys.map((key) => ({ kind, key }))
  const loader: Loader<Value, SourceFailed, never> = dice.chance(0.5)
    ? Effect.map(source.load(kind, [key]), ([value]) => value!)
    : (stale) => source.loadChanged({ kind, key }, stale)
  const loadMany = (missing: ReadonlyArray<number>) => source.load(kind, missing)
  const hasFallback = dice.chance(0.2)
  // Without options a hit takes a shorter way.
  const fallback = (key: number): GetOrSetOptions<Value, SourceFailed> | undefined =>
    hasFallback ? { fallback: () => ({ key, version: fallen, readAt: Date.now(), filling: "" }) } : undefined
  // For the store before the loader, and for the lease, for the loader, and for the store after it.
  const bounded = 2 * readTimeout + namespace.loaderHardTimeout + writeTimeout
  const value = <E>(effect: Effect.Effect<Value, E>) => Effect.map(effect, (value) => [{ key, value }])
  const entry = <E>(effect: Effect.Effect<CacheEntry<Value>, E>) =>
    Effect.map(effect, (entry) => [{ key, value: entry.value, entry }])
  const found = (effect: Effect.Effect<Option.Option<CacheEntry<Value>>, Failure>) =>
    Effect.map(effect, (entry) => Option.toArray(entry).map((entry) => ({ key, value: entry.value, entry })))
  const loading = (name: string, run: Asking["run"], items = one): Asking => ({
    name,
    items,
    run,
    limit: bounded,
    hasFallback
  })
  const finding = (name: string, run: Asking["run"], items = one): Asking => ({
    name,
    items,
    run,
    limit: readTimeout,
    hasFallback: false
  })
  return dice.weighted<() => Asking>([
    [30, () => loading("getOrSet", value(cache.getOrSet(namespace, key, loader, fallback(key))))],
    [20, () => loading("getOrSetEntry", entry(cache.getOrSetEntry(namespace, key, loader, fallback(key))))],
    [
      12,
      () =>
        loading(
          "getOrSetMany",
          Effect.map(cache.getOrSetMany(namespace, keys, loadMany, fallback(-1)), (values) =>
            values.map((value, index) => ({ key: value.version === fallen ? -1 : keys[index]!, value }))
          ),
          many
        )
    ],
    [
      2,
      () =>
        loading("getOrSet, forced", value(cache.getOrSet(namespace, key, loader, { ...fallback(key), force: true })))
    ],
    [
      3,
      () => {
        const skip = dice.pick(["memory", "store", "memoryRead", "storeRead", "storeReadWhenStale"] as const)
        return loading(
          "getOrSet, skipping",
          entry(cache.getOrSetEntry(namespace, key, loader, { ...fallback(key), skip }))
        )
      }
    ],
    [
      1,
      () =>
        loading("getOrSet, not kept", value(cache.getOrSet(namespace, key, loader, { ...fallback(key), store: false })))
    ],
    [6, () => finding("getEntry", found(cache.getEntry(namespace, key)))],
    [4, () => finding("getEntry, stale too", found(cache.getEntry(namespace, key, { stale: true })))],
    [
      4,
      () =>
        finding(
          "getMany",
          Effect.map(cache.getMany(namespace, keys), (values) =>
            values.flatMap((value, index) => Option.toArray(value).map((value) => ({ key: keys[index]!, value })))
          ),
          many
        )
    ]
  ])()
}

const fallen = -1

/** A few so often that they are asked for, loaded and changed at the same time, and most of them rarely. */
const keyBy = (dice: Dice): number => Math.floor(dice.chance(0.4) ? dice.below(3) : keysPerKind * dice.next() ** 2)

/** How long anybody waits at all. */
const longest = 2500

const look = (self: Surroundings, { hasFallback, items, limit, name, run }: Asking): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { dice, index, tally, truth } = self
    const oldest = new Map(items.map((item) => [item.key, truth.oldest(index, item)]))
    const { kind } = items[0]!
    const patience = dice.chance(0.1) ? dice.between(0, 60) : longest
    const startedAt = performance.now()
    const began = Date.now()
    return Effect.map(Effect.exit(Effect.timeoutOption(run, patience)), (exit) => {
      const took = performance.now() - startedAt
      const row = tally.row(name)
      row.took(took)
      tally.check("Nobody waits longer than the timeouts", took < Math.min(limit, patience) + self.slack(), () =>
        [name, kind.name, `${took} of ${Math.min(limit, patience)} ms`].join(", ")
      )
      if (Exit.isFailure(exit)) {
        row.failed++
        return judgeFailure(self, kind, exit.cause, began, `${name}, ${kind.name}`, hasFallback)
      }
      if (Option.isNone(exit.value)) return void (patience < longest ? row.interrupted++ : row.gaveUp++)
      for (const seen of exit.value.value) {
        if (seen.value.version !== fallen) judge(self, kind, seen, oldest.get(seen.key)!, began, name)
      }
    })
  })

const judge = (
  { lateness, readTimeout, slack, tally, truth }: Surroundings,
  kind: Kind,
  { entry, key, value }: Seen,
  oldest: number,
  began: number,
  name: string
): void => {
  const describe = () =>
    `${name}, ${kind.name} ${key}: ${JSON.stringify({ ...value, filling: undefined })}, at least ${oldest}, now ${truth.version({ kind, key })}, ` +
    `asked ${began - value.readAt} ms after it was read, got ${entry?.freshness} from ${entry?.origin}, expires ${(entry?.expiresAt ?? 0) - began}, stale until ${(entry?.staleUntil ?? 0) - began}`
  tally.check("What is served belongs to the key", value.key === key, describe)
  tally.check("G6: nothing older than what was invalidated", value.version >= oldest, describe)
  tally.check("Nothing that never was", value.version <= truth.version({ kind, key }), describe)
  const age = began - truth.lastRight({ kind, key }, value)
  tally.check("G6: nothing beyond its life", age <= kind.longestLife + lateness() + slack(), describe)
  if (entry === undefined || entry.origin === "loader") return
  // Who joins a lookup that is under way gets what was so when the store was asked.
  const asked = began - readTimeout - slack()
  tally.check("G6: nothing past staleUntil", asked <= entry.staleUntil, describe)
  if (entry.freshness === "fresh") tally.check("Nothing called fresh that is not", asked <= entry.expiresAt, describe)
}

const judgeFailure = (
  { slack, tally, writeTimeout }: Surroundings,
  kind: Kind,
  cause: Cause.Cause<Failure>,
  began: number,
  name: string,
  hasFallback: boolean
): void => {
  const error = Cause.squash(cause)
  const describe = () => `${name}: ${Cause.pretty(cause)}`
  if (error instanceof SourceDied) return
  const isTyped = cause.reasons.every(Cause.isFailReason)
  tally.check("G5: no defect and no interruption of the cache's own", isTyped, describe)
  if (!isTyped) return
  if (error instanceof SourceFailed) {
    tally.check("G5: no failure of the source where there is a fallback", !hasFallback, describe)
    // Who joins a load that has failed, and is not over, shares the failure.
    tally.check(
      "G5: no failure of the source but one that was under way, or is cached",
      error.namespace === kind.name && error.at >= began - kind.failureLife - writeTimeout - slack(),
      describe
    )
    return
  }
  const { _tag } = (error as CacheError).reason
  tally.check(
    "G5: no failure of the cache but those that the namespace asks for",
    kind.troubles.includes(_tag) && !(hasFallback && _tag === "LoaderTimeout"),
    describe
  )
}

const change = (self: Surroundings): Effect.Effect<void> => {
  const { cache, dice, source, truth } = self
  const kind = dice.pick(kinds)
  const { namespace } = kind
  const all = (kinds: ReadonlyArray<Kind>) =>
    kinds.flatMap((kind) => Array.from({ length: keysPerKind }, (_, key) => ({ kind, key })))
  const some = (count: number) =>
    truth.take([...new Set(Array.from({ length: count }, () => keyBy(dice)))].map((key) => ({ kind, key })))
  const keys = (items: ReadonlyArray<Item>) => items.map(({ key }) => key)
  const entries = (items: ReadonlyArray<Item>) => items.map((item) => [item.key, source.read(item)] as const)
  const many = () => some(2 + dice.below(6))
  return dice.weighted<() => Effect.Effect<void>>([
    [5, () => tell(self, "set", some(1), true, (items) => cache.set(namespace, items[0]!.key, source.read(items[0]!)))],
    [2, () => tell(self, "setMany", many(), true, (items) => cache.setMany(namespace, entries(items)))],
    [6, () => tell(self, "invalidate", some(1), true, (items) => cache.invalidate(namespace, items[0]!.key))],
    [3, () => tell(self, "invalidateMany", many(), true, (items) => cache.invalidateMany(namespace, keys(items)))],
    [0.3, () => tell(self, "clear", all([kind]), false, () => cache.clear(namespace))],
    [0.1, () => tell(self, "clearAll", all(kinds), false, () => cache.clearAll)]
  ])()
}

/** Changes the source, unless it is told again only what is so, and then tells the cache. */
const tell = (
  self: Surroundings,
  name: string,
  items: ReadonlyArray<Item>,
  isChange: boolean,
  telling: (items: ReadonlyArray<Item>) => Effect.Effect<unknown, CacheError>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (items.length === 0) return Effect.void
    const { dice, index, tally, truth, writeTimeout } = self
    if (isChange) truth.change(items)
    const told = truth.telling(items)
    const patience = dice.chance(0.1) ? dice.between(0, 40) : longest
    const startedAt = performance.now()
    return Effect.map(Effect.exit(Effect.timeoutOption(telling(items), patience)), (exit) => {
      const took = performance.now() - startedAt
      const row = tally.row(name)
      row.took(took)
      tally.check(
        "Nobody waits longer than the timeouts",
        took < Math.min(writeTimeout, patience) + self.slack(),
        () => `${name}, ${took} of ${Math.min(writeTimeout, patience)} ms`
      )
      const hasSucceeded = Exit.isSuccess(exit) && Option.isSome(exit.value)
      if (Exit.isFailure(exit)) {
        row.failed++
        tally.check(
          "A change fails with a CacheError of the store's, or not at all",
          exit.cause.reasons.every(
            (reason) => Cause.isFailReason(reason) && reason.error.reason._tag.startsWith("Store")
          ),
          () => `${name}: ${Cause.pretty(exit.cause)}`
        )
      } else if (Option.isNone(exit.value)) row.interrupted++
      if (hasSucceeded || isForgotten(name, items[0]!.kind, Exit.isFailure(exit))) {
        truth.told(told, index, hasSucceeded, Date.now())
      }
    }).pipe(Effect.ensuring(Effect.sync(() => isChange && truth.release(items))))
  })

/** Whether what was there is gone although the call failed: a `set` that nobody believes in changes nothing. */
const isForgotten = (name: string, { namespace }: Kind, hasFailed: boolean): boolean =>
  !name.startsWith("set") || (hasFailed && namespace.onStoreFailure === "recover")
