/**
 * What an operation is in terms of a cache, and what its loaders do.
 */
import { Effect, type Exit } from "effect"
import type { GetOrSetOptions, SetOptions } from "../../src/Operations.ts"
import type { TieredCache } from "../../src/TieredCache.ts"
import { isExpiry, type Read, type Removal, type Write } from "./Command.ts"
import { fallbackOf, type Load, type Running } from "./History.ts"
import type { Answer } from "./Reference.ts"
import { type Key, type LoadFailure, nameOf, patterns, spaces } from "./Spaces.ts"

/** Where a call is made, and who is told of its loaders. */
export interface Surroundings {
  readonly cache: TieredCache["Service"]
  /** Whether only entries are asked for, which say where they are from. */
  readonly onlyEntries: boolean
  /** Undefined where there must be no loader. */
  readonly beginLoad: (running: Running, keys: ReadonlyArray<string>) => Load | undefined
  readonly endLoad: (load: Load, exit: Exit.Exit<unknown, unknown>) => void
  /** Waits until the test lets the loader go on. */
  readonly hold: (label: string) => Effect.Effect<void>
  /** What a value was tagged with. */
  readonly tagsOf: (text: string) => ReadonlyArray<string>
}

export const callOf = (self: Surroundings, running: Running): Effect.Effect<Answer, unknown> => {
  const { operation } = running
  const keys = operation.keys.map((key) => spaces[operation.space]!.keys[key]!)
  switch (operation._tag) {
    case "Read":
      return readOf(self, running, operation, keys)
    case "Set":
      return setOf(self, running, operation, keys)
    default:
      return removalOf(self, operation, keys)
  }
}

const setOf = (
  { cache }: Surroundings,
  running: Running,
  { keys: indices, space, tags, timeToLive }: Write,
  keys: ReadonlyArray<Key>
): Effect.Effect<Answer, unknown> => {
  const { namespace } = spaces[space]!
  const options: SetOptions | undefined =
    timeToLive === undefined && tags.length === 0
      ? undefined
      : { tags, ...(timeToLive === undefined ? {} : { timeToLive }) }
  const entries = keys.map((key, index) => [key, running.values.get(nameOf(space, indices[index]!))!.text] as const)
  const [[key, value] = entries[0]!] = entries
  return entries.length === 1 ? cache.set(namespace, key, value, options) : cache.setMany(namespace, entries, options)
}

const removalOf = (
  { cache }: Surroundings,
  operation: Removal,
  keys: ReadonlyArray<Key>
): Effect.Effect<Answer, unknown> => {
  const { namespace } = spaces[operation.space]!
  const { pattern } = patterns[operation.pattern]!
  const expires = isExpiry(operation)
  switch (operation._tag) {
    case "Invalidate":
      if (keys.length !== 1) return expires ? cache.expireMany(namespace, keys) : cache.invalidateMany(namespace, keys)
      return Effect.map(
        expires ? cache.expire(namespace, keys[0]!) : cache.invalidate(namespace, keys[0]!),
        (wasThere) => [wasThere]
      )
    case "InvalidateTags":
      return expires ? cache.expireTags(namespace, operation.tags) : cache.invalidateTags(namespace, operation.tags)
    case "InvalidatePattern":
      return expires ? cache.expirePattern(namespace, pattern) : cache.invalidatePattern(namespace, pattern)
    case "Clear":
      return cache.clear(namespace)
    case "ClearAll":
      return cache.clearAll
  }
}

/** One key alone is read now as a value, now as an entry. */
const readOf = (
  self: Surroundings,
  running: Running,
  read: Read,
  keys: ReadonlyArray<Key>
): Effect.Effect<Answer, unknown> => {
  const { cache } = self
  const { namespace } = spaces[read.space]!
  const [key] = keys
  const one = keys.length === 1 && key !== undefined
  const asValue = running.id % 2 === 0 && !self.onlyEntries
  if (read.loader === "none") {
    const options = { skip: read.skip, stale: read.stale }
    if (!one) return cache.getMany(namespace, keys, options)
    return asValue
      ? Effect.map(cache.get(namespace, key, options), (value) => [value])
      : Effect.map(cache.getEntry(namespace, key, options), (entry) => [entry])
  }
  const options = optionsOf(self, running, read)
  const load = (keys: ReadonlyArray<Key>) => loadOf(self, running, read, keys)
  if (!one) return cache.getOrSetMany(namespace, keys, load, options)
  const loadOne = Effect.map(
    Effect.suspend(() => load([key])),
    ([value]) => value!
  )
  return asValue
    ? Effect.map(cache.getOrSet(namespace, key, loadOne, options), (value) => [value])
    : Effect.map(cache.getOrSetEntry(namespace, key, loadOne, options), (entry) => [entry])
}

const loadOf = (
  self: Surroundings,
  running: Running,
  read: Read,
  keys: ReadonlyArray<Key>
): Effect.Effect<ReadonlyArray<string>, LoadFailure> => {
  const names = keys.map((key) => JSON.stringify([spaces[read.space]!.namespace.name, key]))
  let load: Load | undefined
  const loading = Effect.suspend(() => {
    load = self.beginLoad(running, names)
    if (load === undefined) return Effect.die("not to be loaded")
    const outcome = outcomeOf(read, load)
    return read.loader === "now" ? outcome : Effect.andThen(self.hold(`load of ${names.join(" ")}`), outcome)
  })
  return Effect.onExit(loading, (exit) =>
    Effect.sync(() => {
      if (load !== undefined) self.endLoad(load, exit)
    })
  )
}

const outcomeOf = (read: Read, { failure, keys, source }: Load): Effect.Effect<ReadonlyArray<string>, LoadFailure> => {
  switch (read.outcome) {
    case "value":
      return Effect.succeed(keys.map((key) => source.values.get(key)!.text))
    case "failure":
      return Effect.fail(failure)
    case "defect":
      return Effect.die(failure)
    case "interruption":
      return Effect.interrupt
  }
}

const optionsOf = (
  { tagsOf }: Surroundings,
  running: Running,
  { fallback, force, keep, keys, skip, staleOn, tags, timeToLive }: Read
): GetOrSetOptions<string, LoadFailure> | undefined => {
  const isPlain = !force && !fallback && keep && skip.length === 0 && staleOn === undefined && timeToLive === undefined
  if (isPlain && tags.length === 0) return undefined
  return {
    force,
    skip,
    store: keep,
    tags: keys.length === 1 ? tags : tagsOf,
    ...(timeToLive === undefined ? {} : { timeToLive }),
    ...(staleOn === undefined ? {} : { staleOn: () => staleOn }),
    ...(fallback ? { fallback: () => fallbackOf(running) } : {})
  }
}
