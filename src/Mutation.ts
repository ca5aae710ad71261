/**
 * How entries change: `set`, `invalidate` and `expire` of keys, tags or a pattern,
 * `clear`.
 *
 * Each goes to the store first and then, in one synchronous step, breaks what
 * was under way in this process and drops what memory holds (`forget`), and
 * tells the other processes. In that order a load that read the old value is
 * either still open when its fence is broken, or has already put it where it is
 * now dropped from.
 *
 * The second step happens however the first one ends: a removal that failed or
 * was interrupted may have happened all the same. If it has not, the store still
 * has what it should not: it is told again in the background until it has heard,
 * and until then this process does not believe it (`PendingInvalidations`). A
 * `set` that failed is an error to its caller too, but memory keeps the value
 * unless the namespace chose `onStoreFailure: "fail"`. Where it does not, nor where the
 * `set` was interrupted, the store may take it late (`Unheard`).
 *
 * **Inside a transaction** that the store joins, the second step waits for the
 * commit, and does not happen if the transaction is rolled back. A value that was
 * set there is not put into memory: between the commit and that step another
 * change of the key may have begun and ended. Where the acknowledgement of the
 * commit is lost, nobody knows that it happened: that step is left out, and memory
 * may be stale until the bus brings it up, as `PgInvalidationBus` does, or else for as
 * long as its entries live.
 *
 * Bad input (a key or value that its schema refuses, a value over the limit, a
 * lifetime or a pattern that makes no sense) is refused before anything is changed.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Effect, Exit, Result } from "effect"
import type { CacheEntry } from "./CacheEntry.ts"
import { CacheError } from "./CacheError.ts"
import type { KeyText, NewRow } from "./CacheStore.ts"
import * as Glob from "./Glob.ts"
import { forget, forgetAll, forgetMatching, forgetTagged, type Forgetting } from "./Forget.ts"
import { drawFor, keepInMemory, vouch } from "./InMemory.ts"
import type { Invalidation, InvalidationMessage } from "./InvalidationBus.ts"
import { intact, type LocalFence } from "./LocalFence.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { Any } from "./Namespace.ts"
import type { SetOptions } from "./Operations.ts"
import { type CacheParts, rowOf, type Space } from "./Space.ts"

/**
 * Stores values in both tiers; of a key that repeats, the last.
 *
 * @category mutations
 * @since 0.1.0
 */
export const setMany = <K, A>(
  self: CacheParts,
  namespace: Any<K, A>,
  entries: Iterable<readonly [key: K, value: A]>,
  options: SetOptions = {}
): Effect.Effect<void, CacheError> =>
  Effect.gen(function* () {
    const space = yield* spaceOf(self, namespace)
    const writes = new Map<KeyText, Write<A>>()
    for (const [key, value] of entries) {
      const write = yield* encode(space, key, value, options, drawFor(space, yield* Effect.fiber))
      writes.set(write.row.key, write)
    }
    const keep = [...writes.values()].filter(({ row }) => row.timeToLive > 0)
    const drop = [...writes.values()].filter(({ row }) => row.timeToLive <= 0)
    if (drop.length > 0)
      yield* remove(
        self,
        space,
        drop.map(({ row }) => row.key)
      )
    if (keep.length > 0) yield* write(self, space, keep, drawFor(space, yield* Effect.fiber))
    space.counters.sets += writes.size
  })

interface Write<A> {
  readonly id: KeyId
  readonly value: A
  readonly row: NewRow
}

const encode = <K, A>(
  space: Space<K, A>,
  key: K,
  value: A,
  { tags = [], timeToLive }: SetOptions,
  draw: number
): Exit.Exit<Write<A>, CacheError> => {
  const { keys } = space.namespace
  const text = keys.encode(key)
  if (Exit.isFailure(text)) return Exit.failCause(text.cause)
  const asked = { timeToLive, tags, validators: {}, loadTime: 0 }
  return Exit.map(rowOf(space, text.value, value, asked, draw), (row) => ({ id: keys.idOf(text.value), value, row }))
}

const write = <K, A>(self: CacheParts, space: Space<K, A>, writes: ReadonlyArray<Write<A>>, draw: number) =>
  Effect.suspend(() => {
    const fences: Array<LocalFence> = []
    const rows = writes.map(({ row }) => row)
    const { name: namespace, onStoreFailure } = space.namespace
    let startedAt = 0
    const inStore = Effect.clockWith((clock) => {
      startedAt = clock.currentTimeMillisUnsafe()
      for (const { id } of writes) fences.push(space.fences.open(id))
      return self.store.write(namespace, rows)
    })
    return changing(self, inStore, (exit, now) => {
      const isKept = Exit.isSuccess(exit) || (onStoreFailure === "recover" && !Cause.hasInterrupts(exit.cause))
      const vouchedUntil = vouch(space, now, draw)
      const holds = fences.map((fence, index) => isKept && !space.fences.isBroken(fence, rows[index]!.tags))
      for (const { id } of writes) forget(space, id, { cause: "replaced" })
      writes.forEach(({ id, row, value }, index) => {
        if (holds[index] !== true) return
        // The store's clock has run since it took the row: memory must not outlive it.
        const expiresAt = startedAt + row.timeToLive
        const entry: CacheEntry<A> = {
          value,
          origin: "memory",
          freshness: "fresh",
          createdAt: startedAt,
          expiresAt,
          staleUntil: expiresAt + row.staleFor,
          tags: row.tags,
          validators: row.validators
        }
        const { data, loadTime, size } = row
        const held = { entry, failure: undefined, size, data, loadTime, retryAt: 0, vouchedUntil }
        keepInMemory(
          space,
          { id, local: intact },
          { ...held, fence: undefined, unstored: undefined },
          vouchedUntil,
          now
        )
      })
      const changed: Invalidation = { _tag: "Keys", namespace, keys: rows.map(({ key }) => key) }
      if (!isKept) self.unheard.add(namespace, changed.keys, now)
      // Memory has the new value now; what the store may still have is wrong.
      return { changed, isLost: isKept && Exit.isFailure(exit) }
    }).pipe(
      Effect.ensuring(Effect.sync(() => fences.forEach((fence, index) => space.fences.close(writes[index]!.id, fence))))
    )
  })

/**
 * Removes keys from both tiers, or makes what is there stale, and says for each
 * whether something was there: with `keepsStale`, something fresh.
 *
 * @category mutations
 * @since 0.1.0
 */
export const invalidateMany = <K, A>(
  self: CacheParts,
  namespace: Any<K, A>,
  keys: ReadonlyArray<K>,
  keepsStale = false
): Effect.Effect<Array<boolean>, CacheError> =>
  Effect.gen(function* () {
    const space = yield* spaceOf(self, namespace)
    const texts = yield* Effect.forEach(keys, namespace.keys.encode)
    const distinct = [...new Set(texts)]
    const there = distinct.length === 0 ? new Map<KeyText, boolean>() : yield* remove(self, space, distinct, keepsStale)
    space.counters.invalidations += distinct.length
    return texts.map((text) => there.get(text) === true)
  })

const remove = <K, A>(self: CacheParts, space: Space<K, A>, texts: ReadonlyArray<KeyText>, keepsStale = false) => {
  const inMemory = new Map<KeyText, boolean>()
  const { keys, name } = space.namespace
  return Effect.map(
    changing(self, self.store.remove(name, texts, keepsStale), (exit, now) => {
      for (const text of texts) {
        const id = keys.idOf(text)
        const wasThere = !keepsStale && space.partition.get(id, now) !== undefined
        const wasFresh = forget(space, id, { cause: "explicit", staleSince: keepsStale ? now : undefined })
        inMemory.set(text, wasThere || wasFresh)
      }
      return { changed: { _tag: "Keys", namespace: name, keys: texts, keepsStale }, isLost: Exit.isFailure(exit) }
    }),
    (inStore) => new Map(texts.map((text, index) => [text, inStore[index] === true || inMemory.get(text) === true]))
  )
}

/**
 * Removes what has one of the tags from both tiers, or makes it stale, and says how
 * many live entries of the store had one.
 *
 * @category mutations
 * @since 0.1.0
 */
export const invalidateTags = <K, A>(
  self: CacheParts,
  namespace: Any<K, A>,
  tags: ReadonlyArray<string>,
  keepsStale = false
): Effect.Effect<number, CacheError> =>
  Effect.flatMap(spaceOf(self, namespace), (space) => {
    const { name } = namespace
    const distinct = [...new Set(tags)]
    if (distinct.length === 0) return Effect.succeed(0)
    return removeMany(self, space, self.store.removeTagged(name, distinct, keepsStale), keepsStale, (how) => {
      forgetTagged(space, distinct, how)
      return { _tag: "Tags", namespace: name, tags: distinct, keepsStale }
    })
  })

/**
 * The same for the keys that the pattern matches.
 *
 * @category mutations
 * @since 0.1.0
 */
export const invalidatePattern = <K, A>(
  self: CacheParts,
  namespace: Any<K, A>,
  pattern: string,
  keepsStale = false
): Effect.Effect<number, CacheError> =>
  Effect.gen(function* () {
    const space = yield* spaceOf(self, namespace)
    const { name } = namespace
    const glob = yield* Effect.fromResult(Glob.make(name, pattern))
    return yield* removeMany(self, space, self.store.removeMatching(name, glob, keepsStale), keepsStale, (how) => {
      forgetMatching(space, glob, how)
      return { _tag: "Pattern", namespace: name, pattern, keepsStale }
    })
  })

/** Many keys that have no names; counted as one. */
const removeMany = <K, A>(
  self: CacheParts,
  { counters }: Space<K, A>,
  inStore: Effect.Effect<number, CacheError>,
  keepsStale: boolean,
  inMemory: (how: Forgetting) => Invalidation
) =>
  Effect.map(
    changing(self, inStore, (exit, now) => {
      const changed = inMemory({ cause: "explicit", staleSince: keepsStale ? now : undefined })
      return { changed, isLost: Exit.isFailure(exit) }
    }),
    (count) => {
      counters.invalidations++
      return count
    }
  )

/**
 * Removes everything of a namespace and says how many entries the store had.
 *
 * @category mutations
 * @since 0.1.0
 */
export const clear = <K, A>(self: CacheParts, namespace: Any<K, A>): Effect.Effect<number, CacheError> =>
  Effect.flatMap(spaceOf(self, namespace), (space) =>
    changing(self, self.store.clear(namespace.name), (exit) => {
      if (Exit.isSuccess(exit)) space.counters.clears++
      forgetAll(space, { cause: "explicit" })
      return { changed: { _tag: "Namespace", namespace: namespace.name }, isLost: Exit.isFailure(exit) }
    })
  )

/**
 * Removes everything of every namespace and says how many entries the store had.
 *
 * @category mutations
 * @since 0.1.0
 */
export const clearAll = (self: CacheParts): Effect.Effect<number, CacheError> =>
  changing(self, self.store.clearAll, (exit) => {
    for (const space of self.spaces.all()) {
      if (Exit.isSuccess(exit)) space.counters.clears++
      forgetAll(space, { cause: "explicit" })
    }
    return { changed: { _tag: "All" }, isLost: Exit.isFailure(exit) }
  })

/**
 * What another process changed.
 *
 * @category mutations
 * @since 0.1.0
 */
export const receive = (
  self: CacheParts,
  { invalidation, isKnownTo }: Omit<InvalidationMessage, "origin">,
  now: number
): void => {
  const { _tag } = invalidation
  if (_tag !== "Keys" && _tag !== "Tags" && _tag !== "Pattern" && _tag !== "Namespace") {
    // All; or what only a newer version of this library can tell.
    for (const space of self.spaces.all()) forgetAll(space, { cause: "remote", isKnownTo })
    return
  }
  const space = self.spaces.find(invalidation.namespace)
  if (space === undefined) return
  if (invalidation._tag === "Namespace") return forgetAll(space, { cause: "remote", isKnownTo })
  const staleSince = invalidation.keepsStale === true ? now : undefined
  const how: Forgetting = { cause: "remote", staleSince, isKnownTo }
  switch (invalidation._tag) {
    case "Keys":
      for (const text of invalidation.keys) forget(space, space.namespace.keys.idOf(text), how)
      return
    case "Tags":
      return forgetTagged(space, invalidation.tags, how)
    case "Pattern": {
      const glob = Glob.make(invalidation.namespace, invalidation.pattern)
      return Result.isSuccess(glob) ? forgetMatching(space, glob.success, how) : forgetAll(space, how)
    }
  }
}

interface Changed {
  readonly changed: Invalidation
  /** Whether the store may still have what it should not, and has to be told again. */
  readonly isLost: boolean
}

/** The store's part, then memory's part and the news of it. */
const changing = <A>(
  self: CacheParts,
  inStore: Effect.Effect<A, CacheError>,
  inMemory: (exit: Exit.Exit<A, CacheError>, now: number) => Changed
): Effect.Effect<A, CacheError> =>
  Effect.withFiber((caller) => {
    const mark = self.pending.mark()
    const settle = (exit: Exit.Exit<A, CacheError>) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const { changed, isLost } = inMemory(exit, now)
        if (isLost) self.pending.add(changed)
        else if (Exit.isSuccess(exit)) {
          self.pending.settle(changed, mark)
          if (changed._tag === "Keys") self.unheard.settle(changed.namespace, changed.keys)
        }
        return self.bus.publish({ origin: self.id, invalidation: changed })
      })
    return self.store.inTransaction(caller.context)
      ? Effect.tap(inStore, (answer) => self.store.afterCommit(settle(Exit.succeed(answer))))
      : Effect.onExit(inStore, settle)
  })

const spaceOf = <K, A>(self: CacheParts, namespace: Any<K, A>): Effect.Effect<Space<K, A>, CacheError> =>
  Effect.suspend(() => {
    const space = self.spaces.of(namespace)
    if (!(space instanceof CacheError)) return Effect.succeed(space)
    return Effect.fail(space)
  })
