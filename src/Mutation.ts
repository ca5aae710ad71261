/**
 * How entries change: `set`, `invalidate`, `clear`.
 *
 * Each goes to the store first and then, in one synchronous step, breaks what
 * was under way in this process and drops what memory holds (`forget`), and
 * tells the other processes. In that order a load that read the old value is
 * either still open when its fence is broken, or has already put it where it is
 * now dropped from.
 *
 * The second step happens however the first one ends: a removal that failed or
 * was interrupted may have happened all the same.
 *
 * **Inside a transaction** that the store joins, the second step waits for the
 * commit, and does not happen if the transaction is rolled back. A value that was
 * set there is not put into memory: between the commit and that step another
 * change of the key may have begun and ended. Where the acknowledgement of the
 * commit is lost, nobody knows that it happened: that step is left out, and memory
 * may be stale for as long as its entries live.
 *
 * Bad input (a key or value that its schema refuses, a value over the limit, a
 * lifetime that makes no sense) is refused before anything is changed.
 *
 * @since 0.1.0
 */
import { Clock, Effect, Exit } from "effect"
import { CacheError } from "./CacheError.ts"
import type { KeyText, NewRow } from "./CacheStore.ts"
import type { Invalidation } from "./InvalidationBus.ts"
import type { LocalFence } from "./LocalFence.ts"
import type { KeyId } from "./MemoryCache.ts"
import type { Namespace } from "./Namespace.ts"
import type { SetOptions } from "./Operations.ts"
import { type CacheParts, forget, forgetAll, rowOf, type Space } from "./Space.ts"

/**
 * Stores values in both tiers; of a key that repeats, the last.
 *
 * @category mutations
 * @since 0.1.0
 */
export const setMany = <K, A>(
  self: CacheParts,
  namespace: Namespace<K, A>,
  entries: Iterable<readonly [key: K, value: A]>,
  options?: SetOptions
): Effect.Effect<void, CacheError> =>
  Effect.gen(function* () {
    const space = yield* spaceOf(self, namespace)
    const writes = new Map<KeyText, Write<A>>()
    for (const [key, value] of entries) {
      const write = yield* encode(space, key, value, options)
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
    if (keep.length > 0) yield* write(self, space, keep)
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
  options: SetOptions | undefined
): Exit.Exit<Write<A>, CacheError> => {
  const { keys } = space.namespace
  const text = keys.encode(key)
  if (Exit.isFailure(text)) return Exit.failCause(text.cause)
  return Exit.map(rowOf(space, text.value, value, options), (row) => ({ id: keys.idOf(text.value), value, row }))
}

const write = <K, A>(self: CacheParts, space: Space<K, A>, writes: ReadonlyArray<Write<A>>) =>
  Effect.suspend(() => {
    const fences: Array<LocalFence> = []
    const rows = writes.map(({ row }) => row)
    let startedAt = 0
    const inStore = Effect.clockWith((clock) => {
      startedAt = clock.currentTimeMillisUnsafe()
      for (const { id } of writes) fences.push(space.fences.open(id))
      return self.store.write(space.namespace.name, rows)
    })
    return changing(self, inStore, (exit, now) => {
      const holds = fences.map((fence) => !fence.broken && Exit.isSuccess(exit))
      for (const { id } of writes) forget(space, id, "replaced")
      writes.forEach(({ id, row, value }, index) => {
        if (holds[index] !== true) return
        // The store's clock has run since it took the row: memory must not outlive it.
        const freshUntil = startedAt + row.timeToLive
        const expiresAt = Math.min(freshUntil, now + space.policy.memoryTimeToLive)
        space.partition.put(
          id,
          { value, createdAt: startedAt, expiresAt, freshUntil, size: row.size, tags: row.tags },
          now
        )
      })
      return { _tag: "Keys", namespace: space.namespace.name, keys: rows.map(({ key }) => key) }
    }).pipe(
      Effect.ensuring(Effect.sync(() => fences.forEach((fence, index) => space.fences.close(writes[index]!.id, fence))))
    )
  })

/**
 * Removes keys from both tiers and says for each whether something was there.
 *
 * @category mutations
 * @since 0.1.0
 */
export const invalidateMany = <K, A>(
  self: CacheParts,
  namespace: Namespace<K, A>,
  keys: ReadonlyArray<K>
): Effect.Effect<Array<boolean>, CacheError> =>
  Effect.gen(function* () {
    const space = yield* spaceOf(self, namespace)
    const texts = yield* Effect.forEach(keys, namespace.keys.encode)
    const distinct = [...new Set(texts)]
    const there = distinct.length === 0 ? new Map<KeyText, boolean>() : yield* remove(self, space, distinct)
    space.counters.invalidations += distinct.length
    return texts.map((text) => there.get(text) === true)
  })

const remove = <K, A>(self: CacheParts, space: Space<K, A>, texts: ReadonlyArray<KeyText>) => {
  const inMemory = new Map<KeyText, boolean>()
  const { keys, name } = space.namespace
  return Effect.map(
    changing(self, self.store.remove(name, texts), (_, now) => {
      for (const text of texts) {
        const id = keys.idOf(text)
        inMemory.set(text, space.partition.get(id, now) !== undefined)
        forget(space, id, "explicit")
      }
      return { _tag: "Keys", namespace: name, keys: texts }
    }),
    (inStore) => new Map(texts.map((text, index) => [text, inStore[index] === true || inMemory.get(text) === true]))
  )
}

/**
 * Removes everything of a namespace and says how many entries the store had.
 *
 * @category mutations
 * @since 0.1.0
 */
export const clear = <K, A>(self: CacheParts, namespace: Namespace<K, A>): Effect.Effect<number, CacheError> =>
  Effect.flatMap(spaceOf(self, namespace), (space) =>
    changing(self, self.store.clear(namespace.name), (exit) => {
      if (Exit.isSuccess(exit)) space.counters.clears++
      forgetAll(space, "explicit")
      return { _tag: "Namespace", namespace: namespace.name }
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
      forgetAll(space, "explicit")
    }
    return { _tag: "All" }
  })

/**
 * What another process changed.
 *
 * @category mutations
 * @since 0.1.0
 */
export const receive = (self: CacheParts, invalidation: Invalidation): void => {
  switch (invalidation._tag) {
    case "Keys": {
      const space = self.spaces.find(invalidation.namespace)
      if (space === undefined) return
      for (const text of invalidation.keys) forget(space, space.namespace.keys.idOf(text), "remote")
      return
    }
    case "Namespace": {
      const space = self.spaces.find(invalidation.namespace)
      if (space !== undefined) forgetAll(space, "remote")
      return
    }
    case "All":
      for (const space of self.spaces.all()) forgetAll(space, "remote")
  }
}

/** The store's part, then memory's part and the news of it. */
const changing = <A>(
  self: CacheParts,
  inStore: Effect.Effect<A, CacheError>,
  inMemory: (exit: Exit.Exit<A, CacheError>, now: number) => Invalidation
): Effect.Effect<A, CacheError> =>
  Effect.withFiber((caller) => {
    const settle = (exit: Exit.Exit<A, CacheError>) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        self.bus.publish({ origin: self.id, invalidation: inMemory(exit, now) })
      )
    return self.store.inTransaction(caller.context)
      ? Effect.tap(inStore, (answer) => self.store.afterCommit(settle(Exit.succeed(answer))))
      : Effect.onExit(inStore, settle)
  })

const spaceOf = <K, A>(self: CacheParts, namespace: Namespace<K, A>): Effect.Effect<Space<K, A>, CacheError> =>
  Effect.suspend(() => {
    const space = self.spaces.of(namespace)
    if (!(space instanceof CacheError)) return Effect.succeed(space)
    return Effect.fail(space)
  })
