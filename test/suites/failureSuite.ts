/** What the loader decides about what it brings: failures that are cached, lifetimes of its own, "not modified". */
import { assert } from "@effect/vitest"
import { Effect, Exit, Option, Schema } from "effect"
import type { CacheEntry } from "../../src/CacheEntry.ts"
import * as Loaded from "../../src/Loaded.ts"
import type { Any } from "../../src/Namespace.ts"
import { counting, defectOf, type Test, type World } from "./cacheNode.ts"
import { nodeIn, outcome, source } from "./staleSuite.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {
  id: Schema.Int,
  since: Schema.Date
}) {}

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}

const minute = 60_000

const momentIn = ({ drift }: World) => Math.max(1, drift)

const lives = {
  value: Schema.Int,
  timeToLive: "10 minutes",
  memoryTimeToLive: "1 day",
  failureTimeToLive: "5 minutes"
} as const

/** Fails with a new error of this kind at each run. */
const failing = <E>(make: (run: number) => E) => {
  let runs = 0
  return { loader: Effect.suspend(() => Effect.fail(make(++runs))), runs: () => runs }
}

const notFound = () => failing((id) => new NotFound({ id, since: new Date(id) }))

/** A loader that gives what it is told to, and remembers what it was shown. */
const shown = <A>() => {
  const seen: Array<CacheEntry<A> | undefined> = []
  return {
    seen,
    gives: (brought: A | Loaded.Loaded<A>) => (stale: CacheEntry<A> | undefined) =>
      Effect.sync(() => {
        seen.push(stale)
        return brought
      })
  }
}

export const failureSuite = (test: Test): void => {
  test("a failure that the namespace has a schema for is cached for failureTimeToLive, to the moment", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, error: NotFound })
      const { loader, runs } = notFound()
      for (const run of [1, 2]) {
        for (let i = 0; i < 3; i++) {
          const error = yield* Effect.flip(cache.getOrSet(ns, "a", loader))
          assert.instanceOf(error, NotFound)
          assert.deepStrictEqual([error.id, error.since], [run, new Date(run)])
        }
        yield* world.advance(5 * minute - momentIn(world))
        assert.strictEqual((yield* Effect.flip(cache.getOrSetEntry(ns, "a", loader))).id, run)
        assert.strictEqual(runs(), run)
        yield* world.advance(momentIn(world))
      }
      const { cachedFailures, loadFailure, loads } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ cachedFailures, loadFailure, loads }, { cachedFailures: 6, loadFailure: 2, loads: 2 })
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(7)), 7)
    }))

  test("a failure is not cached where nobody said for how long, nor without a schema, nor where that refuses it", (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* nodeIn(world)
      const { failureTimeToLive: _, ...others } = lives
      const namespaces: ReadonlyArray<Any<string, number>> = [
        world.namespace({ ...others, error: NotFound }),
        world.namespace(lives),
        world.namespace({ ...lives, error: Busy })
      ]
      for (const ns of namespaces) {
        const { loader, runs } = notFound()
        for (const run of [1, 2]) {
          const error = yield* Effect.flip(cache.getOrSet(ns, "a", loader))
          assert(error instanceof NotFound)
          assert.strictEqual(error.id, run)
        }
        assert.strictEqual(runs(), 2)
        const { cachedFailures, unencodable } = yield* cache.statsOf(ns)
        assert.deepStrictEqual({ cachedFailures, unencodable }, { cachedFailures: 0, unencodable: 0 })
      }
      const ns = world.namespace({ ...lives, error: NotFound })
      const bug = new Error("a bug")
      for (let i = 0; i < 2; i++) {
        assert.strictEqual(defectOf(yield* Effect.exit(cache.getOrSet(ns, "a", Effect.die(bug)))), bug)
      }
      assert.strictEqual((yield* cache.statsOf(ns)).loads, 2)
      assert.strictEqual(memory.entries, 0)
    }))

  test("a cached failure is no value: get finds nothing, a fallback stands in for it, force and set pass it by", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, error: NotFound })
      const { loader, runs } = notFound()
      yield* Effect.flip(cache.getOrSet(ns, "a", loader))
      yield* cache.set(ns, "b", 2)
      assert.deepStrictEqual(yield* cache.get(ns, "a"), Option.none())
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
      assert.deepStrictEqual(yield* cache.getMany(ns, ["a", "b"], { stale: true }), [Option.none(), Option.some(2)])
      const instead = yield* cache.getOrSetEntry(ns, "a", loader, { fallback: (error) => -(error as NotFound).id })
      assert.deepStrictEqual([instead.value, instead.origin], [-1, "fallback"])
      const refused = cache.getOrSet(ns, "a", loader, { fallback: () => -1, staleOn: () => false })
      assert.strictEqual((yield* Effect.flip(refused)).id, 1)
      const load = (missing: ReadonlyArray<string>) =>
        Effect.as(
          loader,
          [...missing].map(() => 0)
        )
      const many = cache.getOrSetMany(ns, ["b", "a"], load)
      assert.strictEqual((yield* Effect.flip(many)).id, 1)
      assert.deepStrictEqual(yield* cache.getOrSetMany(ns, ["b", "a"], load, { fallback: () => -1 }), [2, -1])
      assert.strictEqual(runs(), 1)
      assert.strictEqual((yield* Effect.flip(cache.getOrSet(ns, "a", loader, { force: true }))).id, 2)
      assert.strictEqual((yield* Effect.flip(cache.getOrSet(ns, "a", loader))).id, 2)
      assert.strictEqual(yield* cache.invalidate(ns, "a"), true)
      assert.strictEqual((yield* Effect.flip(cache.getOrSet(ns, "a", loader))).id, 3)
      yield* cache.set(ns, "a", 1)
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
      assert.strictEqual((yield* cache.statsOf(ns)).fallbacks, 2)
    }))

  test("of many keys, the failure is cached for those that have nothing, and only they are spared the next load", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, error: Busy })
      const asked: Array<ReadonlyArray<string>> = []
      const fails = (missing: ReadonlyArray<string>) => (asked.push(missing), Effect.fail(new Busy()))
      yield* cache.set(ns, "there", 1)
      assert.instanceOf(yield* Effect.flip(cache.getOrSetMany(ns, ["a", "there", "b"], fails)), Busy)
      const works = (missing: ReadonlyArray<string>) => (asked.push(missing), Effect.succeed(missing.map(() => 3)))
      assert.instanceOf(yield* Effect.flip(cache.getOrSetMany(ns, ["a"], works)), Busy)
      const read = cache.getOrSetMany(ns, ["c", "b", "there"], works, { fallback: () => -1 })
      assert.deepStrictEqual(yield* read, [3, -1, 1])
      assert.deepStrictEqual(asked, [["a", "b"], ["c"]])
    }))

  test("a reserve stands before a cached failure, which takes its place where staleOn wants none", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, error: Busy, staleIfError: "20 minutes", failureBackoff: "1 minute" })
      const { loader, runs } = failing(() => new Busy())
      yield* cache.getOrSet(ns, "a", Effect.succeed(1))
      yield* world.advance("11 minutes")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
      yield* world.advance("2 minutes")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader), 1)
      assert.strictEqual(runs(), 2)
      yield* world.advance("2 minutes")
      assert.instanceOf(yield* Effect.flip(cache.getOrSet(ns, "a", loader, { staleOn: () => false })), Busy)
      assert.instanceOf(yield* Effect.flip(cache.getOrSet(ns, "a", loader)), Busy)
      assert.strictEqual(runs(), 3)
      yield* world.advance("6 minutes")
      assert.strictEqual(yield* cache.getOrSet(ns, "a", Effect.succeed(2)), 2)
    }))

  test("C22 lifetime, tags and whether to store can be decided from how the load ended", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const { loader } = counting()
      const exits: Array<Exit.Exit<number, never>> = []
      const options = Object.freeze({
        timeToLive: (exit: Exit.Exit<number, never>) => {
          exits.push(exit)
          return Exit.isSuccess(exit) && exit.value === 1 ? "1 minute" : undefined
        },
        tags: (value: number) => Object.freeze([`number ${value}`]),
        store: (exit: Exit.Exit<number, never>) => Exit.isSuccess(exit) && exit.value !== 3
      })
      const before = { ...options }
      for (const lifetime of [1, 10]) {
        const made = yield* cache.getOrSetEntry(ns, "a", loader, options)
        const kept = yield* cache.getOrSetEntry(ns, "a", loader, options)
        for (const { createdAt, expiresAt, tags, value } of [made, kept]) {
          assert.approximately(expiresAt - createdAt, lifetime * minute, world.drift)
          assert.deepStrictEqual([...tags], [`number ${value}`])
          assert.strictEqual(value, made.value)
        }
        yield* world.advance((lifetime + 1) * minute)
      }
      assert.strictEqual(yield* cache.getOrSet(ns, "a", loader, options), 3)
      assert.deepStrictEqual(yield* cache.get(ns, "a", { stale: true }), Option.none())
      assert.deepStrictEqual(exits, [Exit.succeed(1), Exit.succeed(2), Exit.succeed(3)])
      assert.deepStrictEqual({ ...options }, before)
    }))

  test("C22 what the loader itself decides wins over the call, and the call over the policy", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const own = Object.freeze({ timeToLive: "3 minutes", tags: ["own"], validators: { etag: "x" } } as const)
      const options = Object.freeze({ timeToLive: "7 minutes", tags: ["call"] } as const)
      const entries = [
        yield* cache.getOrSetEntry(ns, "a", () => Effect.succeed(Loaded.of(1, own)), options),
        yield* cache.getOrSetEntry(ns, "a", Effect.die("not to be run")),
        yield* cache.getOrSetEntry(ns, "b", () => Effect.succeed(Loaded.of(1)), options),
        yield* cache.getOrSetEntry(ns, "c", () => Effect.succeed(1))
      ].map(({ createdAt, expiresAt, tags, validators }) => ({
        minutes: Math.round((expiresAt - createdAt) / minute),
        tags,
        validators
      }))
      assert.deepStrictEqual(entries, [
        { minutes: 3, tags: ["own"], validators: { etag: "x" } },
        { minutes: 3, tags: ["own"], validators: { etag: "x" } },
        { minutes: 7, tags: ["call"], validators: {} },
        { minutes: 10, tags: [], validators: {} }
      ])
      assert.deepStrictEqual(
        yield* cache.getOrSetMany(ns, ["d", "e"], () => Effect.succeed([Loaded.of(4, own), 5])),
        [4, 5]
      )
      yield* world.advance("5 minutes")
      assert.deepStrictEqual(yield* cache.getMany(ns, ["d", "e"]), [Option.none(), Option.some(5)])
    }))

  test("C22 a failure is cached for as long as the call decides, if it is to be stored", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, error: NotFound })
      const { loader, runs } = notFound()
      const exits: Array<Exit.Exit<number, NotFound>> = []
      const lifetimes = ["1 minute", 0, undefined] as const
      const timeToLive = (exit: Exit.Exit<number, NotFound>) => {
        exits.push(exit)
        return Exit.isFailure(exit) ? lifetimes[runs() - 1] : undefined
      }
      const read = Effect.map(Effect.flip(cache.getOrSet(ns, "a", loader, { timeToLive })), ({ id }) => id)
      assert.deepStrictEqual([yield* read, yield* read], [1, 1])
      yield* world.advance(minute - momentIn(world))
      assert.strictEqual(yield* read, 1)
      yield* world.advance(momentIn(world))
      assert.deepStrictEqual([yield* read, yield* read, yield* read], [2, 3, 3])
      yield* world.advance("4 minutes")
      assert.strictEqual(yield* read, 3)
      yield* world.advance("1 minute")
      const unstored = Effect.flip(cache.getOrSet(ns, "a", loader, { store: (exit) => Exit.isSuccess(exit) }))
      assert.deepStrictEqual([(yield* unstored).id, (yield* unstored).id], [4, 5])
      // A lifetime for values says nothing about failures.
      const plain = Effect.flip(cache.getOrSet(ns, "b", loader, { timeToLive: "1 minute" }))
      assert.strictEqual((yield* plain).id, 6)
      yield* world.advance("4 minutes")
      assert.strictEqual((yield* plain).id, 6)
      assert.strictEqual(exits.length, 3)
      assert.isTrue(exits.every(Exit.isFailure))
    }))

  test("failureTimeToLive and negativeTimeToLive do not mix", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({
        ...lives,
        value: Schema.NullOr(Schema.Int),
        error: Busy,
        negativeTimeToLive: "2 minutes"
      })
      const { loader, runs } = failing(() => new Busy())
      let nulls = 0
      const nothing = Effect.sync(() => (nulls++, null))
      const readAll = Effect.all([outcome(cache.getOrSet(ns, "fails", loader)), cache.getOrSet(ns, "null", nothing)])
      yield* readAll
      yield* world.advance("3 minutes")
      yield* readAll
      assert.deepStrictEqual([runs(), nulls], [1, 2])
      yield* world.advance("3 minutes")
      yield* readAll
      assert.deepStrictEqual([runs(), nulls], [2, 3])
    }))

  test("C23 the loader sees the entry that it replaces, and what to ask the source with", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleIfError: "20 minutes" })
      const { gives, seen } = shown<number>()
      yield* cache.getOrSet(ns, "a", gives(Loaded.of(1, { validators: { etag: `"1"` }, tags: ["t"] })))
      assert.deepStrictEqual(seen, [undefined])
      // Forced while it is fresh, then past its time.
      for (const freshness of ["fresh", "stale"] as const) {
        yield* world.advance("6 minutes")
        const options = { force: freshness === "fresh", store: freshness === "stale" }
        yield* cache.getOrSet(ns, "a", gives(2), { force: options.force, store: () => options.store })
        const entry = seen.at(-1)!
        assert.strictEqual(entry.freshness, freshness)
        assert.deepStrictEqual([entry.value, entry.tags, entry.validators], [1, ["t"], { etag: `"1"` }])
        assert.approximately(entry.expiresAt - entry.createdAt, 10 * minute, world.drift)
      }
      assert.deepStrictEqual((yield* cache.getOrSetEntry(ns, "a", gives(3))).validators, {})
      assert.strictEqual(seen.length, 3)
      yield* world.advance("31 minutes")
      yield* cache.getOrSet(ns, "a", gives(4))
      assert.isUndefined(seen.at(-1))
    }))

  test("C23 what was not modified is fresh for another lifetime, with its tags and validators", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleIfError: "20 minutes" })
      const { gives, seen } = shown<number>()
      const first = Loaded.of(1, { validators: { etag: `"1"` }, tags: ["t"], timeToLive: "2 minutes" })
      yield* cache.getOrSet(ns, "a", gives(first), { tags: ["call"] })
      const steps = [
        { options: {}, minutes: 10, tags: ["t"], etag: `"1"` },
        { options: { timeToLive: "3 minutes", validators: { etag: `"2"` } }, minutes: 3, tags: ["t"], etag: `"2"` },
        { options: { tags: ["u"] }, minutes: 10, tags: ["u"], etag: `"2"` }
      ] as const
      for (const { etag, minutes, options, tags } of steps) {
        yield* world.advance("11 minutes")
        const made = yield* cache.getOrSetEntry(ns, "a", gives(Loaded.notModified(options)), { tags: ["call"] })
        assert.deepStrictEqual([made.value, made.origin, made.freshness], [1, "loader", "fresh"])
        const kept = yield* cache.getOrSetEntry(ns, "a", gives(7))
        for (const entry of [made, kept]) {
          assert.deepStrictEqual([entry.value, entry.freshness], [1, "fresh"])
          assert.deepStrictEqual([[...entry.tags], entry.validators], [[...tags], { etag }])
          assert.approximately(entry.expiresAt - entry.createdAt, minutes * minute, world.drift)
        }
        assert.approximately(kept.createdAt, made.createdAt, world.drift)
      }
      assert.strictEqual(seen.length, 4)
      const { loadSuccess, notModified, stale } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ loadSuccess, notModified, stale }, { loadSuccess: 4, notModified: 3, stale: 0 })
    }))

  test(`C23 "not modified" to a load that was shown nothing is a defect that says so`, (world) =>
    Effect.gen(function* () {
      const { cache, memory } = yield* nodeIn(world)
      const ns = world.namespace(lives)
      const exits = [
        yield* Effect.exit(cache.getOrSet(ns, "a", () => Effect.succeed(Loaded.notModified()))),
        yield* Effect.exit(cache.getOrSetMany(ns, ["a", "b"], () => Effect.succeed([1, Loaded.notModified()])))
      ]
      for (const exit of exits) {
        assert.match(String(defectOf(exit)), new RegExp(`namespace "${ns.name}".*"not modified".*nothing to show`))
      }
      assert.strictEqual(memory.entries, 0)
      const { loadFailure, notModified } = yield* cache.statsOf(ns)
      assert.deepStrictEqual({ loadFailure, notModified }, { loadFailure: 3, notModified: 0 })
    }))

  test("C23 loaders of many keys and cached functions are shown what they replace, too", (world) =>
    Effect.gen(function* () {
      const { cache } = yield* nodeIn(world)
      const ns = world.namespace({ ...lives, staleIfError: "20 minutes", copies: true })
      yield* cache.getOrSet(ns, "a", () => Effect.succeed(Loaded.of(1, { validators: { etag: "1" } })))
      yield* cache.set(ns, "b", 2)
      yield* world.advance("11 minutes")
      const seen: Array<unknown> = []
      const look = (stale: CacheEntry<number> | undefined) => [
        stale?.value,
        stale?.freshness,
        stale?.validators["etag"]
      ]
      const values = yield* cache.getOrSetMany(ns, ["c", "b", "a"], (missing, stale) => {
        seen.push(missing, stale.map(look))
        return Effect.succeed([3, Loaded.of(22, { validators: { etag: "2" } }), Loaded.notModified()])
      })
      assert.deepStrictEqual(values, [3, 22, 1])
      assert.deepStrictEqual(seen, [
        ["c", "b", "a"],
        [
          [undefined, undefined, undefined],
          [2, "stale", undefined],
          [1, "stale", "1"]
        ]
      ])
      yield* world.advance("11 minutes")
      const one = cache.cached(ns, (key, stale) => {
        seen.push(key, look(stale))
        return Effect.succeed(Loaded.notModified())
      })
      assert.deepStrictEqual([yield* one("a"), yield* one("b"), yield* one("b")], [1, 22, 22])
      assert.deepStrictEqual(seen.slice(2), ["a", [1, "stale", "1"], "b", [22, "stale", "2"]])
      assert.strictEqual((yield* cache.statsOf(ns)).notModified, 3)
    }))
}

/** With a store: what one process leaves to the next. */
export const sharedFailureSuite = (test: Test): void => {
  test("a cached failure spares the other processes the load, and is an error of its class to them", (world) =>
    Effect.gen(function* () {
      const [a, b] = [yield* world.node(), yield* world.node()]
      const ns = world.namespace({ ...lives, error: Schema.Union([NotFound, Busy]) })
      const { loader, runs } = notFound()
      yield* Effect.flip(a.cache.getOrSet(ns, "a", loader))
      yield* Effect.flip(a.cache.getOrSet(ns, "b", Effect.fail(new Busy())))
      yield* a.close
      for (let i = 0; i < 2; i++) {
        const error = yield* Effect.flip(b.cache.getOrSet(ns, "a", loader))
        assert.instanceOf(error, NotFound)
        assert.deepStrictEqual(
          [error.message, error._tag],
          [new NotFound({ id: 1, since: new Date(1) }).message, "NotFound"]
        )
        assert.deepStrictEqual((error as NotFound).since, new Date(1))
        assert.instanceOf(yield* Effect.flip(b.cache.getOrSet(ns, "b", loader)), Busy)
      }
      assert.deepStrictEqual(yield* b.cache.get(ns, "a"), Option.none())
      assert.strictEqual(runs(), 1)
      yield* world.advance("5 minutes")
      assert.strictEqual(((yield* Effect.flip(b.cache.getOrSet(ns, "a", loader))) as NotFound).id, 2)
      const { cachedFailures, loads } = yield* b.cache.statsOf(ns)
      assert.deepStrictEqual({ cachedFailures, loads }, { cachedFailures: 4, loads: 1 })
    }))

  test("a cached failure that no longer decodes, or that nobody has a schema for, is a miss", (world) =>
    Effect.gen(function* () {
      const [a, b] = [yield* world.node(), yield* world.node()]
      const ns = world.namespace({ ...lives, error: NotFound })
      const { loader } = notFound()
      yield* Effect.flip(a.cache.getOrSet(ns, "a", loader))
      const changed = world.namespace({ ...lives, name: ns.name, error: Busy })
      assert.strictEqual(yield* b.cache.getOrSet(changed, "a", Effect.succeed(1)), 1)
      yield* Effect.flip(a.cache.getOrSet(ns, "b", loader, { force: true }))
      const c = yield* world.node()
      const without = world.namespace({ ...lives, name: ns.name })
      assert.strictEqual(yield* c.cache.getOrSet(without, "b", Effect.succeed(2)), 2)
      for (const { cache } of [b, c]) assert.strictEqual((yield* cache.statsOf(ns)).store.undecodable, 1)
    }))

  test("C23 what to ask the source with survives a restart, and what was not modified is fresh for all", (world) =>
    Effect.gen(function* () {
      const a = yield* world.node()
      const ns = world.namespace({ ...lives, staleIfError: "20 minutes" })
      const { gives, seen } = shown<number>()
      yield* a.cache.getOrSet(ns, "a", gives(Loaded.of(1, { validators: { etag: `W/"\u00e9\\"` }, tags: ["t"] })))
      yield* a.close
      yield* world.advance("11 minutes")
      const b = yield* world.node()
      assert.strictEqual(yield* b.cache.getOrSet(ns, "a", gives(Loaded.notModified())), 1)
      const stale = seen.at(-1)
      assert.deepStrictEqual([stale?.value, stale?.origin, stale?.freshness], [1, "store", "stale"])
      assert.deepStrictEqual([stale?.tags, stale?.validators], [["t"], { etag: `W/"\u00e9\\"` }])
      yield* world.advance("9 minutes")
      const c = yield* world.node()
      const entry = yield* c.cache.getOrSetEntry(ns, "a", gives(2))
      assert.deepStrictEqual([entry.value, entry.origin, entry.freshness], [1, "store", "fresh"])
      assert.deepStrictEqual([entry.tags, entry.validators], [["t"], { etag: `W/"\u00e9\\"` }])
      assert.strictEqual(seen.length, 2)
    }))

  test("C13 a source that fails with nothing stale is spared as long as its failure is cached", (world) =>
    Effect.gen(function* () {
      const [a, b] = [yield* world.node(), yield* world.node()]
      const ns = world.namespace({ ...lives, error: Schema.String })
      const numbers = source()
      numbers.isDown = true
      for (const { cache } of [a, b, a, b]) {
        assert.strictEqual(yield* Effect.flip(cache.getOrSet(ns, "a", numbers.loader)), "down 1")
      }
      assert.strictEqual(numbers.runs(), 1)
    }))
}
