/**
 * What can be done with a cache, one by one, each written down: reads, with loaders that
 * take their time before and after they ask the source, and changes.
 */
import type { PgClient } from "@effect/sql-pg"
import { Cause, Effect, Exit, Option } from "effect"
import type { CacheEntry, TieredCache } from "effect-tiered-cache"
import type { Dice } from "../soak/Dice.ts"
import type { Deed, Reading, Value } from "./History.ts"
import { now, type Recorder } from "./Recorder.ts"
import * as Source from "./Source.ts"

export interface Surroundings {
  readonly cache: TieredCache["Service"]
  readonly sql: PgClient.PgClient
  readonly recorder: Recorder
  readonly dice: Dice
  /** The innermost that it is in. */
  readonly transaction: string | undefined
}

export type Do = (self: Surroundings) => Effect.Effect<unknown, unknown>

export const getOrSet: Do = (self) => getOrSetOne(self, self.dice.pick(Source.namespaces), someName(self.dice))

const getOrSetOne = (self: Surroundings, space: Source.Space, name: string) => {
  const { cache, dice } = self
  const options = {
    tags: ({ tags }: Value) => tags,
    ...(dice.chance(0.1) ? { skip: "memory" as const } : {}),
    ...(dice.chance(0.03) ? { force: true } : {})
  }
  const loader = Effect.map(load(self, space, [name]), ([value]) => value!)
  return read(self, "getOrSet", space, [name], cache.getOrSetEntry(space, name, loader, options), (entry) => [
    readingOf(Source.keyOf(space, name), entry)
  ])
}

export const get: Do = (self) => getOne(self, self.dice.pick(Source.namespaces), someName(self.dice))

const getOne = (self: Surroundings, space: Source.Space, name: string) => {
  const { cache, dice } = self
  return read(self, "get", space, [name], cache.getEntry(space, name, { stale: dice.chance(0.3) }), (entry) =>
    Option.match(entry, { onNone: () => [], onSome: (entry) => [readingOf(Source.keyOf(space, name), entry)] })
  )
}

export const getOrSetMany: Do = (self) => {
  const { cache, dice } = self
  const [space, names] = [dice.pick(Source.namespaces), someNames(dice)]
  const options = { tags: ({ tags }: Value) => tags }
  const answer = cache.getOrSetMany(space, names, (missing) => load(self, space, missing), options)
  return read(self, "getOrSetMany", space, names, answer, (values) =>
    values.map((value, index): Reading => ({
      key: Source.keyOf(space, names[index]!),
      value,
      origin: "any",
      freshness: "any"
    }))
  )
}

export const getMany: Do = (self) => {
  const { cache, dice } = self
  const [space, names] = [dice.pick(Source.namespaces), someNames(dice)]
  return read(self, "getMany", space, names, cache.getMany(space, names), (values) =>
    values.flatMap((value, index): ReadonlyArray<Reading> => {
      const key = Source.keyOf(space, names[index]!)
      return Option.isNone(value) ? [] : [{ key, value: value.value, origin: "any", freshness: "fresh" }]
    })
  )
}

/** What it sets may be old already: the source is asked some time before. */
export const set: Do = (self) => {
  const { dice, sql } = self
  const [space, name] = [dice.pick(Source.namespaces), someName(dice)]
  return Effect.gen(function* () {
    const [version] = yield* Source.versions(sql, [Source.keyOf(space, name)])
    if (dice.chance(0.3)) yield* Effect.sleep(dice.between(0, 100))
    yield* setOne(self, space, name, version!)
  })
}

export const setOne = (self: Surroundings, space: Source.Space, name: string, version: number) => {
  const tags = Source.tagsOf(name, version)
  const valueFor = (writer: string): Value => ({ key: Source.keyOf(space, name), version, writer, tags })
  return recorded(
    self,
    "set",
    (id) => ({ _tag: "Set", values: [valueFor(id)] }),
    (id) => self.cache.set(space, name, valueFor(id), { tags })
  )
}

export const setMany: Do = (self) => {
  const { cache, dice, sql } = self
  const [space, names] = [dice.pick(Source.namespaces), someNames(dice)]
  const tags = ["many"]
  return Effect.gen(function* () {
    const keys = names.map((name) => Source.keyOf(space, name))
    const versions = yield* Source.versions(sql, keys)
    const valuesFor = (writer: string) =>
      keys.map((key, index): Value => ({ key, version: versions[index]!, writer, tags }))
    yield* recorded(
      self,
      "setMany",
      (id) => ({ _tag: "Set", values: valuesFor(id) }),
      (id) =>
        cache.setMany(
          space,
          valuesFor(id).map((value, index) => [names[index]!, value] as const),
          { tags }
        )
    )
  })
}

export const invalidate: Do = (self) => {
  const [space, name] = [self.dice.pick(Source.namespaces), someName(self.dice)]
  return Effect.andThen(Effect.exit(tell(self, space, name)), readBack(self, space, name))
}

/** Who has changed a key often wants it next. */
export const readBack = (self: Surroundings, space: Source.Space, name: string): Effect.Effect<unknown, unknown> =>
  self.dice.weighted<() => Effect.Effect<unknown, unknown>>([
    [3, () => Effect.void],
    [1, () => getOne(self, space, name)],
    [2, () => getOrSetOne(self, space, name)]
  ])()

/** Has the cache forget a key, or expire it, by one of the ways to name it. */
export const tell = (self: Surroundings, space: Source.Space, name: string): Effect.Effect<unknown, unknown> => {
  const { cache, dice } = self
  const tag = `letter ${name[0]}`
  const some = () => [...new Set([name, ...someNames(dice)])]
  const fitting = Source.patterns.filter(([, matches]) => matches.test(name))
  const [glob, matches] = dice.pick(fitting.length === 0 ? Source.patterns : fitting)
  const matching = Source.names.filter((name) => matches.test(name))
  const all = Source.names
  return dice.weighted<() => Effect.Effect<unknown, unknown>>([
    [6, () => forget(self, space, "invalidate", [name], undefined, cache.invalidate(space, name))],
    [
      2,
      () => {
        const names = some()
        return forget(self, space, "invalidateMany", names, undefined, cache.invalidateMany(space, names))
      }
    ],
    [3, () => forget(self, space, "expire", [name], undefined, cache.expire(space, name))],
    [
      1,
      () => {
        const names = some()
        return forget(self, space, "expireMany", names, undefined, cache.expireMany(space, names))
      }
    ],
    [2, () => forget(self, space, "invalidateTags", all, [tag], cache.invalidateTags(space, [tag]))],
    [
      1,
      () => forget(self, space, "invalidateTags", all, ["odd", "many"], cache.invalidateTags(space, ["odd", "many"]))
    ],
    [1, () => forget(self, space, "expireTags", all, [tag, "nothing"], cache.expireTags(space, [tag, "nothing"]))],
    [2, () => forget(self, space, "invalidatePattern", matching, undefined, cache.invalidatePattern(space, glob))],
    [1, () => forget(self, space, "expirePattern", matching, undefined, cache.expirePattern(space, glob))]
  ])()
}

export const clear: Do = (self) => {
  const { cache, dice } = self
  const space = dice.pick(Source.namespaces)
  return dice.chance(0.8)
    ? forget(self, space, "clear", Source.names, undefined, cache.clear(space))
    : recorded(
        self,
        "clearAll",
        () => ({
          _tag: "Invalidate",
          keys: Source.namespaces.flatMap((space) => Source.names.map((name) => Source.keyOf(space, name))),
          tags: undefined,
          keepsStale: false
        }),
        () => cache.clearAll
      )
}

const forget = (
  self: Surroundings,
  space: Source.Space,
  name: string,
  names: ReadonlyArray<string>,
  tags: ReadonlyArray<string> | undefined,
  forgetting: Effect.Effect<unknown, unknown>
) =>
  recorded(
    self,
    name,
    () => ({
      _tag: "Invalidate",
      keys: names.map((name) => Source.keyOf(space, name)),
      tags,
      keepsStale: name.startsWith("expire")
    }),
    () => forgetting
  )

/** Some are wanted much more than others. */
export const someName = (dice: Dice): string => Source.names[Math.floor(Source.names.length * dice.next() ** 2)]!

const someNames = (dice: Dice): ReadonlyArray<string> => [
  ...new Set(Array.from({ length: 2 + dice.below(5) }, () => someName(dice)))
]

const readingOf = (key: string, { freshness, origin, value }: CacheEntry<Value>): Reading => ({
  key,
  value,
  origin: origin === "fallback" ? "any" : origin,
  freshness
})

const read = <A, E>(
  self: Surroundings,
  name: string,
  space: Source.Space,
  names: ReadonlyArray<string>,
  reading: Effect.Effect<A, E>,
  readings: (answer: A) => ReadonlyArray<Reading>
) => {
  const keys = names.map((name) => Source.keyOf(space, name))
  return recorded(
    self,
    name,
    () => ({ _tag: "Read", keys, readings: [] }),
    () => reading,
    (_, answer) => ({ _tag: "Read", keys, readings: readings(answer) })
  )
}

const load = (self: Surroundings, space: Source.Space, names: ReadonlyArray<string>) => {
  const { dice, sql, transaction } = self
  const pause = () =>
    Effect.sleep(
      dice.weighted<() => number>([
        [14, () => dice.between(0, 5)],
        [transaction === undefined ? 5 : 0, () => dice.between(0, 80)],
        [transaction === undefined ? 1 : 0, () => dice.between(200, 1200)]
      ])()
    )
  const loading = Effect.gen(function* () {
    yield* pause()
    if (dice.chance(0.05)) return yield* new Source.SourceFailed()
    const versions = yield* Source.versions(
      sql,
      names.map((name) => Source.keyOf(space, name))
    )
    yield* pause()
    return versions
  })
  const valuesOf = (writer: string, versions: ReadonlyArray<number>) =>
    names.map((name, index): Value => {
      const version = versions[index]!
      return { key: Source.keyOf(space, name), version, writer, tags: Source.tagsOf(name, version) }
    })
  return recorded(
    self,
    "load",
    () => ({ _tag: "Load", values: [] }),
    (id) => Effect.map(loading, (versions) => valuesOf(id, versions)),
    (_, values) => ({ _tag: "Load", values })
  )
}

export const recorded = <A, E>(
  { recorder, transaction }: Surroundings,
  name: string,
  does: (id: string) => Deed,
  run: (id: string) => Effect.Effect<A, E>,
  done?: (id: string, answer: A) => Deed
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const id = recorder.nextId()
    recorder.note({ _tag: "Began", id, process: recorder.process, name, begin: now(), transaction, does: does(id) })
    return Effect.onExit(run(id), (exit) =>
      Effect.sync(() => {
        const at = now()
        if (Exit.isFailure(exit)) {
          const outcome = Cause.hasInterrupts(exit.cause) ? "interrupted" : "failed"
          recorder.note({ _tag: "Ended", id, at, outcome })
        } else {
          const end = { _tag: "Ended", id, at, outcome: "done" } as const
          recorder.note(done === undefined ? end : { ...end, does: done(id, exit.value) })
        }
      })
    )
  })
