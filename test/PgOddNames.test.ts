/**
 * Names of which a store, a pattern or a message could make something else: whatever is
 * done to one namespace, key or tag, in both tiers of two caches, is done to that alone.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Option, Schedule, Schema, Stream } from "effect"
import type { SqlError } from "effect/sql"
import { CacheError, CacheLive, Namespace, type Operations, TieredCache } from "effect-tiered-cache"
import * as fc from "fast-check"
import { Database } from "./support/Database.ts"

/** In each a wildcard of one language or another would find one that is no match. */
const namespaces = [
  "a_b",
  "aXb",
  "a%",
  "*",
  "[ab]*",
  "a\\",
  `'"; --`,
  "😀\n",
  "x".repeat(255),
  `${"x".repeat(254)}y`,
  `${"é".repeat(127)}e`
].map((name) => Namespace.make(name, { value: Schema.String }))

const odd = [
  "",
  "%",
  "_",
  "*",
  "?",
  "[ab]",
  "\\",
  "'",
  '"',
  "{}",
  "a,b",
  "😀",
  "\n",
  "a\u0000b",
  "\ud800",
  "\udc00",
  "\u001a"
]

const long = "x".repeat(10_000)

const keys = odd.concat(
  ["a", "b", "ab", "aXb", "a_b", "A", "\\*", "😁", "\ud800\udc00", "\u001a0000", "\u001ad800", "null", "a b", "a/b"],
  [long, `${long}y`, "é".repeat(5000)]
)

const tags = [...odd, "NULL", "{", "a", `"a"`, "\\x", "\u001ad800", long, `${long}y`]

interface Entry {
  readonly value: string
  readonly tags: ReadonlyArray<string>
  readonly isFresh: boolean
}

/** What one namespace should have, and what of that the other cache has held in memory from the beginning. */
interface Shelf {
  readonly entries: Map<string, Entry>
  readonly held: Set<string>
}

type Shape = "whole" | "beginning" | "end" | "one" | "first" | "notFirst" | "all"

/** By the places of names in the lists above. */
type Command = { readonly namespace: number; readonly keepsStale: boolean } & (
  | { readonly does: "set" | "load"; readonly keys: ReadonlyArray<number>; readonly tags: ReadonlyArray<number> }
  | { readonly does: "keys"; readonly keys: ReadonlyArray<number> }
  | { readonly does: "tags"; readonly tags: ReadonlyArray<number> }
  | { readonly does: "pattern"; readonly like: number; readonly shape: Shape }
  | { readonly does: "clear" }
)

/** A pattern, and what it matches, in another way than `Glob` finds out. */
const patternOf = (like: number, shape: Shape): readonly [pattern: string, matches: (key: string) => boolean] => {
  const characters = Array.from(keys[like]!)
  const written = (some: ReadonlyArray<string>) => some.map((each) => each.replace(/[\\*?[]/, "\\$&")).join("")
  const some = characters.slice(0, 100)
  const [first = "a"] = characters
  const firstOf = (key: string) => Array.from(key)[0]
  switch (shape) {
    case "whole":
      return characters.length === some.length
        ? [written(some), (key) => key === keys[like]]
        : [`${written(some)}*`, (key) => startsWith(Array.from(key), some)]
    case "beginning":
      return [`${written(some)}*`, (key) => startsWith(Array.from(key), some)]
    case "end": {
      const last = characters.slice(-100)
      return [`*${written(last)}`, (key) => startsWith(Array.from(key).toReversed(), last.toReversed())]
    }
    case "one":
      return ["?", (key) => Array.from(key).length === 1]
    case "first":
      return [`[\\${first}]*`, (key) => firstOf(key) === first]
    case "notFirst":
      return [`[!\\${first}]*`, (key) => key !== "" && firstOf(key) !== first]
    case "all":
      return ["*", () => true]
  }
}

const startsWith = (characters: ReadonlyArray<string>, beginning: ReadonlyArray<string>) =>
  beginning.every((character, i) => characters[i] === character)

const named = (places: ReadonlyArray<number>, list: ReadonlyArray<string>) => places.map((place) => list[place]!)

/** Two caches, each with a memory and a pool of its own. */
class Caches extends Context.Service<
  Caches,
  {
    readonly here: Operations
    readonly there: Operations
    /**
     * Ends when no transaction of the server is older than this call. Until then a load may be refused that
     * replaces other tags: an invalidation of those might yet be committed.
     */
    readonly decided: Effect.Effect<unknown, SqlError.SqlError>
  }
>()("test/Caches") {
  static readonly layer = Layer.effect(
    Caches,
    Effect.gen(function* () {
      const cache = Effect.map(
        Layer.build(
          CacheLive.layer({
            policy: { jitter: 0 },
            // However crowded the machine is.
            store: { readTimeout: "20 seconds", writeTimeout: "20 seconds", sweepInterval: "1 hour" }
          }).pipe(Layer.provide(Layer.fresh(Database.layerClient({ maxConnections: 2 }))))
        ),
        Context.get(TieredCache)
      )
      const client = yield* Layer.build(Layer.fresh(Database.layerClient({ maxConnections: 1 })))
      const sql = Context.get(client, PgClient.PgClient)
      const isDecided = (xid: string) =>
        sql<{ holds: boolean }>`select pg_snapshot_xmin(pg_current_snapshot()) > ${xid}::xid8 as holds`
      const decided = Effect.flatMap(sql<{ xid: string }>`select pg_current_xact_id()::text as xid`, ([last]) =>
        Effect.repeat(isDecided(last!.xid), { until: ([row]) => row!.holds })
      )
      return { here: yield* cache, there: yield* cache, decided }
    })
  )
}

let values = 0

/** Does it to the cache here and to the shelf, and sees that both answer and look the same. */
const carryOut = Effect.fnUntraced(function* (here: Operations, shelf: Shelf, command: Command) {
  const ns = namespaces[command.namespace]!
  const { entries, held } = shelf
  const { keepsStale } = command
  const covered = (covers: (key: string, entry: Entry) => boolean) => [...entries].filter((pair) => covers(...pair))
  const drop = (dropped: ReadonlyArray<readonly [string, Entry]>) => {
    for (const [key, entry] of dropped) {
      held.delete(key)
      if (keepsStale) entries.set(key, { ...entry, isFresh: false })
      else entries.delete(key)
    }
    return dropped.length
  }
  switch (command.does) {
    case "set": {
      const [itsKeys, itsTags] = [named(command.keys, keys), named(command.tags, tags)]
      const written = itsKeys.map((key) => [key, `${++values}`] as const)
      yield* here.setMany(ns, written, { tags: itsTags })
      for (const [key, value] of written) {
        entries.set(key, { value, tags: itsTags, isFresh: true })
        held.delete(key)
      }
      return
    }
    case "load": {
      const [itsKeys, itsTags] = [named(command.keys, keys), named(command.tags, tags)]
      const loaded = new Map<string, string>()
      const found = yield* here.getOrSetMany(
        ns,
        itsKeys,
        (missing) =>
          Effect.sync(() =>
            missing.map((key) => {
              loaded.set(key, `${++values}`)
              return loaded.get(key)!
            })
          ),
        { tags: itsTags }
      )
      const missing = itsKeys.filter((key) => entries.get(key)?.isFresh !== true)
      assert.sameMembers([...loaded.keys()], missing)
      for (const [key, value] of loaded) {
        entries.set(key, { value, tags: itsTags, isFresh: true })
        held.delete(key)
      }
      assert.deepStrictEqual(
        found,
        itsKeys.map((key) => entries.get(key)!.value)
      )
      return
    }
    case "keys": {
      const itsKeys = named(command.keys, keys)
      const was = yield* keepsStale ? here.expireMany(ns, itsKeys) : here.invalidateMany(ns, itsKeys)
      assert.deepStrictEqual(
        was,
        itsKeys.map((key) => (keepsStale ? entries.get(key)?.isFresh === true : entries.has(key)))
      )
      drop(covered((key) => itsKeys.includes(key)))
      return
    }
    case "tags": {
      const itsTags = named(command.tags, tags)
      const number = yield* keepsStale ? here.expireTags(ns, itsTags) : here.invalidateTags(ns, itsTags)
      assert.strictEqual(number, drop(covered((_, entry) => entry.tags.some((tag) => itsTags.includes(tag)))))
      return
    }
    case "pattern": {
      const [pattern, matches] = patternOf(command.like, command.shape)
      const listed = yield* Stream.runCollect(here.keys(ns, { pattern }))
      assert.sameMembers(
        listed.map(({ key }) => key),
        covered(matches).map(([key]) => key)
      )
      const number = yield* keepsStale ? here.expirePattern(ns, pattern) : here.invalidatePattern(ns, pattern)
      assert.strictEqual(number, drop(covered(matches)))
      return
    }
    case "clear": {
      const all = covered(() => true)
      assert.strictEqual(yield* here.clear(ns), all.length)
      entries.clear()
      held.clear()
    }
  }
})

const freshIn = (shelf: Shelf) =>
  keys.map((key) => Option.filter(Option.fromUndefinedOr(shelf.entries.get(key)), isFresh))

const isFresh = (entry: Entry) => entry.isFresh

const valuesOf = Effect.fnUntraced(function* (cache: Operations, namespace: number, skip: "memory" | "store") {
  return yield* cache.getMany(namespaces[namespace]!, keys, { skip })
})

/** That this cache's memory, and the store as the other sees it, have what they should, and nothing else. */
const look = Effect.fnUntraced(function* ({ here, there }: Caches["Service"], shelf: Shelf, namespace: number) {
  const fresh = freshIn(shelf).map(Option.map(({ value }) => value))
  assert.deepStrictEqual(yield* valuesOf(there, namespace, "memory"), fresh)
  assert.deepStrictEqual(yield* valuesOf(here, namespace, "store"), fresh)
  const listed = yield* Stream.runCollect(there.keys(namespaces[namespace]!))
  assert.deepStrictEqual(
    new Map(listed.map((each) => [each.key, each.tags])),
    new Map([...shelf.entries].map(([key, entry]) => [key, entry.tags]))
  )
})

const Marker = Namespace.make("marker", { value: Schema.String })

/** Ends when the other cache has heard of all that was changed here. */
const hear = Effect.fnUntraced(function* ({ here, there }: Caches["Service"]) {
  yield* here.getOrSet(Marker, "k", Effect.succeed("old"))
  yield* there.get(Marker, "k")
  yield* here.invalidate(Marker, "k")
  yield* Effect.repeat(there.get(Marker, "k", { skip: "store" }), {
    until: Option.isNone,
    schedule: Schedule.spaced("2 millis")
  })
})

const play = Effect.fnUntraced(function* (commands: ReadonlyArray<Command>) {
  const caches = yield* Caches
  const { here, there } = caches
  yield* here.clearAll
  // Or the news would reach it when it has something to hold.
  yield* hear(caches)
  const shelves = namespaces.map((): Shelf => ({ entries: new Map(), held: new Set(keys) }))
  for (const [namespace, shelf] of shelves.entries()) {
    // Two tags each, and a third of them none.
    const tagsOf = (i: number) =>
      i % 3 === 0 ? [] : [tags[(i + namespace) % tags.length]!, tags[(5 * i) % tags.length]!]
    for (const [i, key] of keys.entries()) {
      shelf.entries.set(key, { value: `${++values}`, tags: tagsOf(i), isFresh: true })
    }
    const byValue = new Map([...shelf.entries.values()].map((entry) => [entry.value, entry.tags]))
    const load = (missing: ReadonlyArray<string>) => Effect.succeed(missing.map((key) => shelf.entries.get(key)!.value))
    yield* here.getOrSetMany(namespaces[namespace]!, keys, load, { tags: (value) => byValue.get(value)! })
    yield* there.getMany(namespaces[namespace]!, keys)
  }
  for (const command of commands) {
    const shelf = shelves[command.namespace]!
    yield* caches.decided
    yield* carryOut(here, shelf, command)
    yield* look(caches, shelf, command.namespace)
  }
  yield* hear(caches)
  for (const [namespace, shelf] of shelves.entries()) {
    yield* look(caches, shelf, namespace)
    const inMemory = yield* valuesOf(there, namespace, "store")
    assert.deepStrictEqual(
      keys.filter((_, i) => Option.isSome(inMemory[i]!)),
      keys.filter((key) => shelf.held.has(key))
    )
  }
})

const place = (list: ReadonlyArray<unknown>) => fc.nat({ max: list.length - 1 })
const places = (list: ReadonlyArray<unknown>, maxLength: number) =>
  fc.uniqueArray(place(list), { minLength: 1, maxLength, size: "max" })
const shapes: ReadonlyArray<Shape> = ["whole", "beginning", "end", "one", "first", "notFirst", "all"]

const command: fc.Arbitrary<Command> = fc
  .record({ namespace: place(namespaces), keepsStale: fc.boolean() })
  .chain((base) =>
    fc
      .oneof(
        {
          weight: 3,
          arbitrary: fc.record({ does: fc.constant("set" as const), keys: places(keys, 8), tags: places(tags, 3) })
        },
        {
          weight: 4,
          arbitrary: fc.record({ does: fc.constant("load" as const), keys: places(keys, 8), tags: places(tags, 3) })
        },
        { weight: 3, arbitrary: fc.record({ does: fc.constant("keys" as const), keys: places(keys, 4) }) },
        { weight: 3, arbitrary: fc.record({ does: fc.constant("tags" as const), tags: places(tags, 2) }) },
        {
          weight: 4,
          arbitrary: fc.record({
            does: fc.constant("pattern" as const),
            like: place(keys),
            shape: fc.constantFrom(...shapes)
          })
        },
        { weight: 1, arbitrary: fc.record({ does: fc.constant("clear" as const) }) }
      )
      .map((what) => ({ ...base, ...what }))
  )

const each = <A>(list: ReadonlyArray<unknown>, f: (place: number) => A) => list.map((_, i) => f(i))

layer(Layer.provide(Caches.layer, Database.layerFresh), { excludeTestServices: true, timeout: "60 seconds" })(
  "Odd names in both tiers of two caches",
  (it) => {
    const base = { namespace: 0, keepsStale: false }

    it.effect("each key is invalidated, expired, set and loaded alone (C75)", () =>
      play(
        each(keys, (key): ReadonlyArray<Command> => [
          { ...base, does: "keys", keys: [key] },
          { ...base, does: "load", keys: [key], tags: [key % tags.length] },
          { ...base, does: "keys", keys: [key], keepsStale: true },
          { ...base, does: "set", keys: [key], tags: [] }
        ]).flat()
      )
    )

    it.effect("each tag is invalidated and expired alone (C51)", () =>
      play(
        each(tags, (tag): ReadonlyArray<Command> => [
          { ...base, does: "tags", tags: [tag], keepsStale: tag % 2 === 0 },
          { ...base, does: "tags", tags: [tag] }
        ]).flat()
      )
    )

    it.effect("each pattern matches what it is written like, and nothing else (C57)", () =>
      play(
        shapes.flatMap((shape) =>
          // Of the others one is like another.
          each(["whole", "beginning", "end", "first"].includes(shape) ? keys : ["any"], (like) => [
            { ...base, does: "pattern" as const, like, shape, keepsStale: like % 2 === 0 },
            { ...base, does: "load" as const, keys: each(keys, (key) => key), tags: [] }
          ]).flat()
        )
      )
    )

    it.effect("each namespace is cleared alone, whatever its name would match (C57, C58)", () =>
      play(each(namespaces, (namespace): Command => ({ ...base, namespace, does: "clear" })))
    )

    it.effect("whatever is done to some of them in any order is done to those alone (C57, C75)", () =>
      Effect.gen(function* () {
        const context = yield* Effect.context<Caches>()
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 25, size: "max" }), (commands) =>
              Effect.runPromiseWith(context)(play(commands))
            ),
            { numRuns: 10 }
          )
        )
      })
    )

    it.effect("a namespace has a name of 1 to 255 bytes that PostgreSQL can hold, or is refused", () =>
      Effect.sync(() => {
        for (const name of ["", "x".repeat(256), "é".repeat(128), "😀".repeat(64), "a\u0000b", "\ud800", "\udc00😀"]) {
          const error = assert.throws(() => Namespace.make(name, { value: Schema.String })) as unknown as CacheError
          assert.instanceOf(error, CacheError)
          assert.strictEqual(error.reason._tag, "InvalidNamespace")
        }
      })
    )
  }
)
