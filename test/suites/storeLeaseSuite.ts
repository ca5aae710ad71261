/** What every `CacheStore` promises of leases, and of notes of how often rows are used. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { LeaseGrant } from "../../src/CacheStore.ts"
import {
  type Advance,
  assertNear,
  documentOf,
  fenced,
  fillAs,
  glob,
  kinds,
  load,
  namespace,
  oddTexts,
  retries,
  row,
  scanned,
  type Store,
  type StoreTest,
  sweepAll
} from "./storeRows.ts"

const minute = 60_000
const one = { owner: "one", duration: minute }
const two = { owner: "two", duration: minute }

/** As one who reads the keys now and finds that they are to be loaded. */
const ask = (store: Store, ns: string, lease: typeof one, ...keys: ReadonlyArray<string>) =>
  Effect.flatMap(store.read(ns, keys), (rows) =>
    store.acquire(
      ns,
      rows.map(({ fence }, i) => ({ key: keys[i]!, fence })),
      lease
    )
  )

const grants = (answers: ReadonlyArray<LeaseGrant>) => answers.map(({ _tag }) => _tag)

/** What becomes of one who asks for "k" now. */
const asked = (store: Store, ns: string, lease: typeof one) =>
  Effect.map(ask(store, ns, lease, "k"), ([answer]) => answer!)

const granted: LeaseGrant = { _tag: "Granted" }

const assertHeld = (answer: LeaseGrant, remaining: number) => {
  assert(answer._tag === "Held", answer._tag)
  assertNear(answer.remaining, remaining)
}

const states: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, unknown>> = {
  absent: () => Effect.void,
  removed: (store, ns) => store.remove(ns, ["k"]),
  stale: (store, ns) => store.write(ns, [row("k", "old", { timeToLive: 0, staleFor: 600_000, tags: ["t"] })]),
  fresh: (store, ns) => store.write(ns, [row("k", "old", { staleFor: 600_000, tags: ["t"] })])
}

const changes: Record<string, (store: Store, ns: string) => Effect.Effect<unknown, unknown>> = {
  "a write": (store, ns) => store.write(ns, [row("k", "new", { timeToLive: 0, staleFor: 600_000 })]),
  "a fill": (store, ns) =>
    Effect.flatMap(load(store, ns, "k"), ({ fence }) =>
      store.fill(ns, [fenced(row("k", "new", { timeToLive: 0, staleFor: 600_000 }), fence)])
    ),
  "a remove": (store, ns) => store.remove(ns, ["k"]),
  "an expire": (store, ns) => store.remove(ns, ["k"], true),
  "a removal by pattern": (store, ns) => store.removeMatching(ns, glob("?")),
  "an expire by pattern": (store, ns) => store.removeMatching(ns, glob("?"), true),
  "a clear": (store, ns) => store.clear(ns),
  "a clearAll": (store) => store.clearAll
}

const ofTags: typeof changes = {
  "a removal by tag": (store, ns) => store.removeTagged(ns, ["t"]),
  "an expire by tag": (store, ns) => store.removeTagged(ns, ["t"], true)
}

export const leaseSuite = <R>(test: StoreTest<R>, advance: Advance<R>): void => {
  for (const [state, prepare] of Object.entries(states)) {
    const hasRow = state === "stale" || state === "fresh"

    test(`the lease on a key that is ${state} has one owner at a time, until its time is over`, (store, ns) =>
      Effect.gen(function* () {
        yield* prepare(store, ns)
        const found = documentOf(yield* load(store, ns, "k"))
        assert.deepStrictEqual(yield* asked(store, ns, one), granted)
        assertHeld(yield* asked(store, ns, two), minute)
        assert.deepStrictEqual(yield* asked(store, ns, one), granted, "who has it already")
        yield* advance(40_000)
        assertHeld(yield* asked(store, ns, two), 20_000)
        assert.strictEqual(documentOf(yield* load(store, ns, "k")), found)
        yield* advance(20_000)
        assert.deepStrictEqual(yield* asked(store, ns, two), granted)
        assertHeld(yield* asked(store, ns, one), minute)
        assert.strictEqual(documentOf(yield* load(store, ns, "k")), found)
      }))

    test(`a lease on a key that is ${state} shows in no read and in no list, and breaks no fence`, (store, ns) =>
      Effect.gen(function* () {
        yield* prepare(store, ns)
        const before = yield* load(store, ns, "k")
        const listed = yield* scanned(store, ns)
        yield* asked(store, ns, one)
        yield* asked(store, ns, two)
        const after = yield* load(store, ns, "k")
        assert.deepStrictEqual(
          [after._tag, documentOf(after), after.fence.version],
          [before._tag, documentOf(before), before.fence.version]
        )
        assert.deepStrictEqual(yield* scanned(store, ns), listed)
        assert.deepStrictEqual(yield* store.removeMatching(ns, glob("none")), 0)
        assert.deepStrictEqual(yield* store.fill(ns, [fenced(row("k", "other's"), before.fence)]), [true])
        assert.strictEqual(documentOf(yield* load(store, ns, "k")), "other's")
      }))

    test(`a fill under the fence of one who asked for the lease is stored, where the key was ${state}`, (store, ns) =>
      Effect.gen(function* () {
        yield* prepare(store, ns)
        const before = yield* store.read(ns, ["k"])
        assert.deepStrictEqual(yield* asked(store, ns, one), granted)
        yield* store.renew(ns, ["k"], one)
        const meanwhile = yield* store.read(ns, ["k"])
        assert.deepStrictEqual(yield* fillAs(store, ns, before, [row("k", "new")]), [true])
        assert.deepStrictEqual(yield* fillAs(store, ns, meanwhile, [row("k", "late")]), [false])
        assert.strictEqual(documentOf(yield* load(store, ns, "k")), "new")
      }))

    test(`only who has the lease on a key that is ${state} renews or releases it`, (store, ns) =>
      Effect.gen(function* () {
        yield* prepare(store, ns)
        yield* asked(store, ns, one)
        yield* store.renew(ns, ["k"], { owner: "two", duration: 10 * minute })
        yield* store.release(ns, ["k"], "two")
        yield* store.release(ns, ["k"], "")
        assertHeld(yield* asked(store, ns, two), minute)
        yield* advance(40_000)
        yield* store.renew(ns, ["k"], one)
        assertHeld(yield* asked(store, ns, two), minute)
        yield* advance(40_000)
        assertHeld(yield* asked(store, ns, two), 20_000)
        yield* store.release(ns, ["k"], "one")
        assert.deepStrictEqual(yield* asked(store, ns, two), granted)
        yield* store.release(ns, ["k"], "one")
        assertHeld(yield* asked(store, ns, one), minute)
      }))

    test(`a lease on a key that is ${state} and that is over is not renewed`, (store, ns) =>
      Effect.gen(function* () {
        yield* prepare(store, ns)
        yield* asked(store, ns, one)
        yield* advance(minute)
        yield* store.renew(ns, ["k"], one)
        assert.deepStrictEqual(yield* asked(store, ns, two), granted)
        yield* store.release(ns, ["k"], "two")
        yield* store.renew(ns, ["k"], two)
        assert.deepStrictEqual(yield* asked(store, ns, one), granted)
      }))

    for (const [change, apply] of Object.entries({ ...changes, ...(hasRow ? ofTags : {}) })) {
      test(`${change} ends the lease on a key that is ${state}, for good`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* asked(store, ns, one)
          yield* apply(store, ns)
          yield* store.renew(ns, ["k"], one)
          assert.deepStrictEqual(yield* asked(store, ns, two), granted)
          yield* store.renew(ns, ["k"], one)
          yield* store.release(ns, ["k"], "one")
          assertHeld(yield* asked(store, ns, one), minute)
        }))

      test(`who has read a key that is ${state} before ${change} is not given the lease, but told so`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          const { fence } = yield* load(store, ns, "k")
          yield* apply(store, ns)
          const found = yield* load(store, ns, "k")
          assert.deepStrictEqual(yield* store.acquire(ns, [{ key: "k", fence }], one), [{ _tag: "Changed" }])
          assert.deepStrictEqual(yield* asked(store, ns, two), granted, "nothing was left of it")
          assert.deepStrictEqual(yield* store.acquire(ns, [{ key: "k", fence }], one), [{ _tag: "Changed" }])
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), documentOf(found))
          assert.deepStrictEqual(yield* fillAs(store, ns, [found], [row("k", "newer")]), [true])
        }))
    }
  }

  test("neither a rearm nor a note of use ends a lease, nor does one of them break for it", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [row("k", 1, { timeToLive: 0, staleFor: 600_000 })])
      const { fence } = yield* load(store, ns, "k")
      yield* asked(store, ns, one)
      yield* store.rearm(ns, [{ key: "k", fence, retryAfter: 30_000 }])
      yield* store.touch(ns, [{ key: "k", count: 2 }])
      assertHeld(yield* asked(store, ns, two), minute)
      assertNear((yield* retries(store, ns, ["k"]))[0]!, 30_000)
      assert.deepStrictEqual(
        (yield* scanned(store, ns)).map(({ accessCount }) => accessCount),
        [2]
      )
    }))

  test("a fill that is refused ends no lease", (store, ns) =>
    Effect.gen(function* () {
      const before = yield* store.read(ns, ["k"])
      yield* store.remove(ns, ["k"])
      yield* asked(store, ns, one)
      assert.deepStrictEqual(yield* fillAs(store, ns, before, [row("k", "late")]), [false])
      assertHeld(yield* asked(store, ns, two), minute)
    }))

  test("what does not concern a key ends no lease on it", (store, ns) =>
    Effect.gen(function* () {
      const other = namespace()
      yield* asked(store, ns, one)
      yield* store.write(ns, [row("K", 1, { tags: ["t"] })])
      yield* store.remove(ns, ["K", ""])
      yield* store.removeTagged(ns, ["t"])
      yield* store.removeMatching(ns, glob("k?*"))
      yield* store.clear(other)
      yield* store.remove(other, ["k"])
      yield* store.release(other, ["k"], "one")
      yield* store.release(ns, ["K"], "one")
      yield* store.renew(other, ["k"], { owner: "one", duration: 1 })
      assertHeld(yield* asked(store, ns, two), minute)
      assert.deepStrictEqual(yield* asked(store, other, two), granted)
    }))

  test("many keys are asked for at once, and each is answered by itself, in order", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [row("stale", 1, { timeToLive: 0, staleFor: 600_000 })])
      const keys = ["held too", "free", "changed", "x".repeat(2000), "held", "stale", `${"x".repeat(2000)}y`, "a"]
      const rows = yield* store.read(ns, keys)
      yield* ask(store, ns, one, "held", "held too", `${"x".repeat(2000)}y`)
      yield* store.write(ns, [row("changed", 1)])
      const answers = yield* store.acquire(
        ns,
        rows.map(({ fence }, i) => ({ key: keys[i]!, fence })),
        two
      )
      assert.deepStrictEqual(grants(answers), [
        "Held",
        "Granted",
        "Changed",
        "Granted",
        "Held",
        "Granted",
        "Held",
        "Granted"
      ])
      assert.deepStrictEqual(grants(yield* ask(store, ns, one, ...keys)), [
        "Granted",
        "Held",
        "Granted",
        "Held",
        "Granted",
        "Held",
        "Granted",
        "Held"
      ])
      yield* store.release(ns, keys, "two")
      yield* store.renew(ns, keys, { owner: "one", duration: 2 * minute })
      const later = yield* ask(store, ns, two, ...keys)
      assert.deepStrictEqual(grants(later), [
        "Held",
        "Granted",
        "Held",
        "Granted",
        "Held",
        "Granted",
        "Held",
        "Granted"
      ])
      assertHeld(later[0]!, 2 * minute)
      assert.deepStrictEqual(yield* scanned(store, ns).pipe(Effect.map((rows) => rows.map(({ key }) => key))), [
        "changed",
        "stale"
      ])
    }))

  test("no keys, no leases", (store, ns) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* store.acquire(ns, [], one), [])
      yield* store.renew(ns, [], one)
      yield* store.release(ns, [], "one")
      yield* store.touch(ns, [])
    }))

  test("any string is a key and a namespace with a lease of its own", (store, ns) =>
    Effect.gen(function* () {
      const owned = oddTexts.filter((_, i) => i % 2 === 0)
      yield* ask(store, ns, one, ...owned)
      assert.deepStrictEqual(
        grants(yield* ask(store, ns, two, ...oddTexts)),
        oddTexts.map((text) => (owned.includes(text) ? "Held" : "Granted"))
      )
      for (const text of oddTexts) assert.deepStrictEqual(yield* asked(store, ns + text, two), granted)
      yield* store.release(ns, oddTexts, "one")
      yield* store.release(ns, oddTexts, "two")
      assert.deepStrictEqual(
        grants(yield* ask(store, ns, one, ...oddTexts)),
        oddTexts.map(() => "Granted")
      )
    }))

  test("a lease outlives a sweep, and what is left of one does not", (store, ns) =>
    Effect.gen(function* () {
      yield* ask(store, ns, { owner: "one", duration: 60 * minute }, "k")
      yield* ask(store, ns, { owner: "one", duration: minute }, "short")
      yield* advance(11 * minute)
      yield* sweepAll(store)
      assertHeld(yield* asked(store, ns, two), 49 * minute)
      assert.deepStrictEqual(grants(yield* ask(store, ns, two, "short")), ["Granted"])
      const before = yield* store.read(ns, ["k", "short"])
      assert.deepStrictEqual(yield* fillAs(store, ns, before, [row("k", 1), row("short", 1)]), [true, true])
      yield* advance(11 * minute)
      yield* sweepAll(store)
      assert.deepStrictEqual(yield* kinds(store, ns, ["k", "short"]), ["Row", "Row"])
      assert.deepStrictEqual(yield* asked(store, ns, two), granted)
    }))

  test("uses are added up and dated, for what is there", (store, ns) =>
    Effect.gen(function* () {
      const long = "x".repeat(2000)
      const lives = { timeToLive: 30_000, staleFor: 600_000 }
      yield* store.write(ns, [row("a", 1, lives), row("b", 1, lives), row(long, 1, lives)])
      yield* store.write(ns, [row("over", 1, { timeToLive: 1000 }), row("removed", 1)])
      yield* store.remove(ns, ["removed"])
      const before = yield* store.read(ns, ["a"])
      yield* advance(20_000)
      yield* store.touch(ns, [
        { key: "absent", count: 1 },
        { key: long, count: 1 },
        { key: "over", count: 3 },
        { key: "a", count: 2 },
        { key: "removed", count: 4 }
      ])
      yield* store.touch(namespace(), [{ key: "b", count: 1 }])
      yield* advance(20_000)
      yield* store.touch(ns, [{ key: "a", count: 1_000_000 }])
      const rows = yield* scanned(store, ns)
      assert.deepStrictEqual(
        rows.map(({ accessCount, key }) => [key, accessCount]),
        [
          ["a", 1_000_002],
          ["b", 0],
          [long, 1]
        ]
      )
      const [a, b, x] = rows.map(({ createdAt, lastAccessed }) => lastAccessed - createdAt)
      assertNear(a!, 40_000)
      assertNear(b!, 0)
      assertNear(x!, 20_000)
      const found = yield* load(store, ns, "a")
      assert(found._tag === "Row")
      assertNear(found.age, 40_000)
      assertNear(found.timeToLive, -10_000)
      assertNear(found.staleTimeToLive, 590_000)
      assert.deepStrictEqual(yield* kinds(store, ns, ["absent", "over", "removed"]), ["NoRow", "NoRow", "NoRow"])
      assert.deepStrictEqual(yield* fillAs(store, ns, before, [row("a", 2)]), [true], "a note of use breaks no fence")
    }))

  for (const [change, apply, count] of [
    ["a write", (store, ns) => store.write(ns, [row("k", 2)]), 0],
    ["a fill", changes["a fill"]!, 0],
    ["a remove and a write", (store, ns) => Effect.andThen(store.remove(ns, ["k"]), changes["a write"]!(store, ns)), 0],
    ["an expire", (store, ns) => store.remove(ns, ["k"], true), 5],
    ["an expire by tag", (store, ns) => store.removeTagged(ns, ["t"], true), 5],
    ["an expire by pattern", (store, ns) => store.removeMatching(ns, glob("*"), true), 5]
  ] satisfies ReadonlyArray<readonly [string, (store: Store, ns: string) => Effect.Effect<unknown, unknown>, number]>) {
    test(`after ${change} a row counts ${count === 0 ? "its uses anew" : "its uses on"}`, (store, ns) =>
      Effect.gen(function* () {
        yield* store.write(ns, [row("k", 1, { tags: ["t"] })])
        yield* store.touch(ns, [{ key: "k", count: 5 }])
        yield* apply(store, ns)
        yield* store.touch(ns, [{ key: "k", count: 1 }])
        const [k] = yield* scanned(store, ns)
        assert.strictEqual(k?.accessCount, count + 1)
      }))
  }
}
