/** What every `CacheStore` promises of changes by tag and by pattern, and of those that leave the stale reserve. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { NewRow, NoRow, StoredRow } from "../../src/CacheStore.ts"
import { escapeKeyText } from "../../src/JsonText.ts"
import {
  type Advance,
  assertNear,
  documentOf,
  fenced,
  fillAs,
  glob,
  kinds,
  load,
  longTexts,
  namespace,
  oddTexts,
  rearm,
  retries,
  row,
  scanned,
  type Store,
  type StoreTest,
  sweepAll
} from "./storeRows.ts"

/** A change of the key "k", which has the tags "t" and "u", and of more. */
interface Change {
  readonly apply: (store: Store, ns: string, keepsStale?: boolean) => Effect.Effect<unknown, unknown>
  /** Whether it covers a key that begins with "k" and has no row and no tag; with another beginning, but the tag. */
  readonly covers: { readonly key: boolean; readonly tag: boolean }
}

const byTag: Change = {
  apply: (store, ns, keepsStale) => store.removeTagged(ns, ["t"], keepsStale),
  covers: { key: false, tag: true }
}

const byTags: Change = {
  apply: (store, ns, keepsStale) => store.removeTagged(ns, ["x", "t", "", "u"], keepsStale),
  covers: { key: false, tag: true }
}

const byPattern: Change = {
  apply: (store, ns, keepsStale) => store.removeMatching(ns, glob("[jk]*"), keepsStale),
  covers: { key: true, tag: false }
}

const byKey: Change = {
  apply: (store, ns, keepsStale) => store.remove(ns, ["k", "k new", "k newer", "k old"], keepsStale),
  covers: { key: true, tag: false }
}

const manyAtOnce: Record<string, Change> = {
  "by tag": byTag,
  "by one of several tags": byTags,
  "by pattern": byPattern,
  "by clear": { apply: (store, ns) => store.clear(ns), covers: { key: true, tag: true } },
  "by clearAll": { apply: (store) => store.clearAll, covers: { key: true, tag: true } }
}

/** Those that may leave the rows as stale ones. */
const sparing: Record<string, Change> = {
  "by key": byKey,
  "by tag": byTag,
  "by one of several tags": byTags,
  "by pattern": byPattern
}

const tagged = (document: unknown, options?: Partial<NewRow>) => row("k", document, { tags: ["u", "t"], ...options })

/** More rows with the same tags and beginning than a store would change one by one. */
const crowd = Array.from({ length: 1200 }, (_, i) =>
  row(`k ${i}`, i, { tags: ["t", "u"], timeToLive: 120_000, staleFor: 120_000 })
)

export const changeSuite = <R>(test: StoreTest<R>, advance: Advance<R>): void => {
  for (const [place, prepare] of Object.entries({
    "": () => Effect.void,
    ", among many others": (store: Store, ns: string) => store.write(ns, crowd)
  })) {
    for (const [how, { apply, covers }] of Object.entries(manyAtOnce)) {
      test(`what is removed ${how}${place} is gone, and a later value is as good as any`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("old", { staleFor: 60_000 }), row("other", 1)])
          yield* apply(store, ns)
          const isAll = covers.key && covers.tag
          assert.deepStrictEqual(yield* kinds(store, ns, ["k", "k 7", "k 1199"]), ["NoRow", "NoRow", "NoRow"])
          assert.deepStrictEqual(yield* kinds(store, ns, ["other"]), [isAll ? "NoRow" : "Row"])
          assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), isAll ? [] : ["other"])
          const { fence } = yield* load(store, ns, "k")
          assert.deepStrictEqual(yield* store.fill(ns, [fenced(tagged("filled"), fence)]), [true])
          yield* store.write(ns, [row("k 7", "written", { tags: ["t"] })])
          const rows = yield* store.read(ns, ["k", "k 7"])
          assert.deepStrictEqual(rows.map(documentOf), ["filled", "written"])
          assert.isTrue(rows.every((row) => row._tag === "Row" && row.timeToLive > 3_500_000))
          assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), isAll ? ["k", "k 7"] : ["k", "k 7", "other"])
        }))

      test(`a fill from before a removal ${how}${place} is refused, whatever tags it brings`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("old")])
          const { fence } = yield* load(store, ns, "k")
          yield* apply(store, ns)
          for (const tags of [["t"], [], ["another"]]) {
            assert.deepStrictEqual(yield* store.fill(ns, [fenced(tagged("late", { tags }), fence)]), [false], `${tags}`)
          }
          assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
        }))

      test(`a fill from before a removal ${how}${place} is refused where something was stored since`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          const before = yield* store.read(ns, ["k", "k"])
          yield* apply(store, ns)
          yield* store.write(ns, [tagged("new")])
          assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("late")]), [false])
          yield* apply(store, ns)
          assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("late")]), [false])
          assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
        }))

      test(`a removal ${how}${place} leaves other namespaces and their fences alone`, (store, ns) =>
        Effect.gen(function* () {
          if (how === "by clearAll") return
          const others = [`${ns} `, ns.trim(), ns.toUpperCase(), namespace()]
          yield* prepare(store, ns)
          for (const other of others) yield* store.write(other, [tagged(other)])
          const fences = yield* Effect.forEach(others, (other) => store.read(other, ["k", "k new"]))
          yield* apply(store, ns)
          for (const [i, other] of others.entries()) {
            assert.strictEqual(documentOf(yield* load(store, other, "k")), other)
            const rows = [tagged("filled"), row("k new", "filled", { tags: ["t"] })]
            assert.deepStrictEqual(yield* fillAs(store, other, fences[i]!, rows), [true, true])
          }
        }))
    }

    for (const [how, { apply }] of Object.entries(sparing)) {
      test(`what is expired ${how}${place} stays as it was, but stale`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("old", { timeToLive: 600_000, staleFor: 60_000, validators: { etag: "e" } })])
          yield* advance(100_000)
          yield* apply(store, ns, true)
          const found = yield* load(store, ns, "k")
          assert(found._tag === "Row")
          assert.deepStrictEqual(
            [documentOf(found), found.tags, found.validators, found.retryAfter, found.schemaVersion],
            ["old", ["u", "t"], { etag: "e" }, 0, 1]
          )
          assert.isAtMost(found.timeToLive, 0)
          assertNear(found.timeToLive, 0)
          assertNear(found.age, 100_000)
          assertNear(found.staleTimeToLive, 560_000)
          const [listed] = yield* scanned(store, ns)
          assert(listed?.key === "k")
          assertNear(listed.expiresAt - listed.createdAt, 100_000)
          assertNear(listed.staleUntil - listed.createdAt, 660_000)
          yield* advance(560_000)
          assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
        }))

      test(`a fill from before something was expired ${how}${place} is refused, a later one is fresh`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("old", { staleFor: 60_000 })])
          const before = yield* store.read(ns, ["k"])
          yield* apply(store, ns, true)
          const after = yield* store.read(ns, ["k"])
          for (const tags of [["t"], []]) {
            assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("late", { tags })]), [false])
          }
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), "old")
          assert.deepStrictEqual(yield* fillAs(store, ns, after, [tagged("new")]), [true])
          const found = yield* load(store, ns, "k")
          assert.isTrue(found._tag === "Row" && found.timeToLive > 3_500_000)
          assert.strictEqual(documentOf(found), "new")
        }))

      test(`of failures nothing is left when they are expired ${how}${place}`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("no such gene", { isFailure: true, staleFor: Infinity })])
          const before = yield* store.read(ns, ["k"])
          yield* apply(store, ns, true)
          assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
          assert.notInclude(keysOf(yield* scanned(store, ns)), "k")
          assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("late")]), [false])
          yield* store.write(ns, [tagged("new")])
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), "new")
        }))

      test(`expired twice, or expired and removed ${how}${place}, is as once, or removed, in either order`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          const old = tagged("old", { staleFor: 60_000 })
          yield* store.write(ns, [old])
          for (const change of [byTag.apply, byKey.apply, apply, byPattern.apply]) {
            const before = yield* store.read(ns, ["k"])
            yield* change(store, ns, true)
            const found = yield* load(store, ns, "k")
            assert.strictEqual(documentOf(found), "old")
            assert.isTrue(found._tag === "Row" && found.timeToLive <= 0)
            assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("late")]), [false])
          }
          yield* apply(store, ns)
          assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
          for (const [first, second] of [
            [apply, byKey.apply],
            [byKey.apply, apply],
            [apply, byTag.apply],
            [byPattern.apply, apply]
          ] as const) {
            yield* store.write(ns, [old])
            yield* first(store, ns, true)
            yield* second(store, ns, false)
            assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
            yield* store.write(ns, [old])
            yield* first(store, ns, false)
            yield* second(store, ns, true)
            assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
          }
        }))

      test(`a row that was expired ${how}${place} can be rearmed by who saw that, and by nobody else`, (store, ns) =>
        Effect.gen(function* () {
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("old", { timeToLive: 0, staleFor: 60_000 })])
          yield* rearm(store, ns, ["k"], 30_000)
          const { fence } = yield* load(store, ns, "k")
          yield* apply(store, ns, true)
          assert.deepStrictEqual(yield* retries(store, ns, ["k"]), [0], "a note of before")
          yield* store.rearm(ns, [{ key: "k", fence, retryAfter: 30_000 }])
          assert.deepStrictEqual(yield* retries(store, ns, ["k"]), [0], "a note by one who read before")
          yield* rearm(store, ns, ["k"], 20_000)
          assertNear((yield* retries(store, ns, ["k"]))[0]!, 20_000)
          assert.strictEqual(documentOf(yield* load(store, ns, "k")), "old")
          yield* apply(store, ns, true)
          assert.deepStrictEqual(yield* retries(store, ns, ["k"]), [0])
        }))

      test(`what was expired ${how}${place} stays stale, and what was removed stays away, when all is swept`, (store, ns) =>
        Effect.gen(function* () {
          const lives = { timeToLive: Infinity, staleFor: Infinity }
          yield* prepare(store, ns)
          yield* store.write(ns, [tagged("expired", lives)])
          yield* apply(store, ns, true)
          yield* store.write(ns, [row("k after", "fresh", { ...lives, tags: ["t"] })])
          const other = namespace()
          yield* prepare(store, other)
          yield* store.write(other, [tagged("removed", lives)])
          yield* apply(store, other)
          for (const pause of [0, 300_000, 310_000, 700_000, 700_000]) {
            yield* advance(pause)
            yield* sweepAll(store)
            const [k, after] = yield* store.read(ns, ["k", "k after"])
            assert.deepStrictEqual([documentOf(k!), documentOf(after!)], ["expired", "fresh"])
            assert.isTrue(k?._tag === "Row" && k.timeToLive <= 0)
            assert.isTrue(after?._tag === "Row" && after.timeToLive === Infinity)
            assert.deepStrictEqual(yield* kinds(store, other, ["k"]), ["NoRow"])
            assert.notInclude(keysOf(yield* scanned(store, other)), "k")
          }
        }))
    }
  }

  for (const [how, { apply, covers }] of Object.entries({ ...sparing, ...manyAtOnce })) {
    for (const keepsStale of how in sparing ? [false, true] : [false]) {
      const done = keepsStale ? `expired ${how}` : `removed ${how}`

      test(`where no row was, a fill that what was ${done} covers is refused if it is from before`, (store, ns) =>
        Effect.gen(function* () {
          const rows = [
            row("k new", 1),
            row("new", 1, { tags: ["v", "t"] }),
            row("k newer", 1, { tags: ["t"] }),
            row("newest", 1, { tags: ["v"] })
          ]
          const keys = rows.map(({ key }) => key)
          const before = yield* store.read(ns, keys)
          yield* apply(store, ns, keepsStale)
          const after = yield* store.read(ns, keys)
          const isCovered = [covers.key, covers.tag, true, covers.key && covers.tag]
          const isStored = isCovered.map((covered) => !covered)
          assert.deepStrictEqual(yield* fillAs(store, ns, before, rows), isStored)
          assert.deepStrictEqual(
            yield* kinds(store, ns, keys),
            isStored.map((stored) => (stored ? "Row" : "NoRow"))
          )
          assert.deepStrictEqual(yield* fillAs(store, ns, after, rows), isCovered)
          const found = yield* store.read(ns, keys)
          assert.isTrue(found.every((row) => row._tag === "Row" && row.timeToLive > 0))
        }))

      test(`a fill from long before something was ${done} is refused, swept or not`, (store, ns) =>
        Effect.gen(function* () {
          const rows = [tagged("late"), row("k new", "late", { tags: ["t"] }), row("k old", "late", { tags: ["t"] })]
          yield* store.write(ns, [
            tagged("old"),
            row("k old", "old", { timeToLive: 700_000, staleFor: 10_000, tags: ["t"] })
          ])
          yield* advance(695_000)
          const before = yield* store.read(
            ns,
            rows.map(({ key }) => key)
          )
          yield* apply(store, ns, keepsStale)
          for (const pause of [20_000, 270_000, 300_000]) {
            yield* advance(pause)
            yield* sweepAll(store)
            assert.deepStrictEqual(yield* fillAs(store, ns, before, rows), [false, false, false])
          }
        }))

      test(`where something was ${done}, a fence must still be young`, (store, ns) =>
        Effect.gen(function* () {
          yield* store.write(ns, [tagged("old", { staleFor: 60_000 })])
          yield* apply(store, ns, keepsStale)
          const { fence } = yield* load(store, ns, "k")
          const aged = (millis: number) => ({ ...fence, takenAt: fence.takenAt - millis })
          assert.deepStrictEqual(yield* store.fill(ns, [fenced(tagged("late"), aged(600_000))]), [false])
          assert.deepStrictEqual(yield* store.fill(ns, [fenced(tagged("in time"), aged(540_000))]), [true])
        }))
    }
  }

  test("a change breaks no fence of what it does not cover", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [tagged("old"), row("x", "old", { tags: ["T", "t ", "tt"] })])
      const keys = ["k", "x", "k new", "new"]
      const before = yield* store.read(ns, keys)
      for (const keepsStale of [false, true]) {
        assert.strictEqual(yield* store.removeTagged(ns, ["v", "", "*", "%", "k"], keepsStale), 0)
        assert.strictEqual(yield* store.removeTagged(ns, [], keepsStale), 0)
        assert.strictEqual(yield* store.removeMatching(ns, glob("[!k]"), keepsStale), keepsStale ? 0 : 1)
        assert.strictEqual(yield* store.removeMatching(ns, glob("K*"), keepsStale), 0)
        assert.strictEqual(yield* store.removeMatching(ns, glob(""), keepsStale), 0)
        yield* store.remove(ns, ["K", "t", ""], keepsStale)
      }
      const rows = [tagged("new"), row("x", "new"), row("k new", "new", { tags: ["V"] }), row("new", "new")]
      assert.deepStrictEqual(yield* fillAs(store, ns, before, rows), [true, false, true, true])
    }))

  for (const how of ["write", "fill"]) {
    test(`a tag that a row no longer has after a ${how} does not cover it`, (store, ns) =>
      Effect.gen(function* () {
        yield* store.write(ns, [row("k", "old", { tags: ["a", "b"] })])
        const before = yield* store.read(ns, ["k"])
        const next = row("k", "new", { tags: ["b", "c"] })
        if (how === "write") yield* store.write(ns, [next])
        else assert.deepStrictEqual(yield* fillAs(store, ns, before, [next]), [true])
        const { fence } = yield* load(store, ns, "k")
        assert.strictEqual(yield* store.removeTagged(ns, ["a"]), 0)
        assert.strictEqual(yield* store.removeTagged(ns, ["a"], true), 0)
        const found = yield* load(store, ns, "k")
        assert.isTrue(found._tag === "Row" && found.timeToLive > 0)
        const isStored = yield* store.fill(ns, [fenced(row("k", "newer", { tags: ["c"] }), fence)])
        // A load from before that may be refused, or covered, for the tags of what others have replaced since: a miss.
        if (how === "write") assert.deepStrictEqual(isStored, [true])
        const { fence: after } = yield* load(store, ns, "k")
        const newest = fenced(row("k", "newest", { tags: ["c"] }), after)
        assert.deepStrictEqual(yield* store.fill(ns, [newest]), [true])
        assert.strictEqual(yield* store.removeTagged(ns, ["c"]), 1)
      }))
  }

  test("a fill from before another fill is refused once what that stored was removed by its tag", (store, ns) =>
    Effect.gen(function* () {
      const before = yield* store.read(ns, ["k"])
      assert.deepStrictEqual(yield* fillAs(store, ns, before, [tagged("first")]), [true])
      yield* store.removeTagged(ns, ["t"])
      assert.deepStrictEqual(yield* fillAs(store, ns, before, [row("k", "late")]), [false])
      assert.deepStrictEqual(yield* kinds(store, ns, ["k"]), ["NoRow"])
    }))

  test("remove by tag takes what has any of the tags, and counts each row once", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [
        row("a", 1, { tags: ["x"] }),
        row("b", 1, { tags: ["y", "x"] }),
        row("c", 1, { tags: ["y"] }),
        row("d", 1, { tags: ["z"] }),
        row("e", 1)
      ])
      assert.strictEqual(yield* store.removeTagged(ns, ["x", "y", "x"]), 3)
      assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), ["d", "e"])
      assert.strictEqual(yield* store.removeTagged(ns, ["x", "y"]), 0)
      assert.strictEqual(yield* store.removeTagged(ns, ["z", "none"]), 1)
      assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), ["e"])
    }))

  test("counts are of what is live, fresh or stale, a failure too", (store, ns) =>
    Effect.gen(function* () {
      const lives: ReadonlyArray<Partial<NewRow>> = [
        {},
        { timeToLive: 1000, staleFor: 60_000 },
        { timeToLive: 1000, staleFor: Infinity },
        { isFailure: true },
        { timeToLive: 1000 },
        { timeToLive: 0 }
      ]
      const write = store
        .write(
          ns,
          [...lives, {}].map((life, i) => row(`${i}`, i, { ...life, tags: ["t"] }))
        )
        .pipe(Effect.andThen(store.remove(ns, ["6", "7"])), Effect.andThen(advance(2000)))
      for (const change of [
        (keepsStale: boolean) => store.removeTagged(ns, ["t", "u"], keepsStale),
        (keepsStale: boolean) => store.removeMatching(ns, glob("?"), keepsStale)
      ]) {
        yield* write
        assert.strictEqual(yield* change(true), 4)
        assert.strictEqual(yield* change(true), 3)
        assert.strictEqual(yield* change(false), 3)
        assert.strictEqual(yield* change(false), 0)
        yield* write
        assert.strictEqual(yield* change(false), 4)
        assert.strictEqual(yield* change(true), 0)
      }
    }))

  test("expire by key says of each whether something fresh was there (C78)", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [
        row("fresh", 1),
        row("removed", 1),
        row("failure", 1, { isFailure: true }),
        row("stale", 1, { timeToLive: 1000, staleFor: 60_000 }),
        row("stale failure", 1, { timeToLive: 1000, staleFor: 60_000, isFailure: true }),
        row("over", 1, { timeToLive: 1000 })
      ])
      yield* store.remove(ns, ["removed"])
      yield* advance(2000)
      const keys = ["stale", "fresh", "absent", "over", "failure", "removed", "stale failure", "fresh"]
      assert.deepStrictEqual(
        yield* store.remove(ns, keys, true),
        keys.map((key) => key === "fresh" || key === "failure")
      )
      assert.deepStrictEqual(
        yield* store.remove(ns, keys, true),
        keys.map(() => false)
      )
      assert.deepStrictEqual(
        yield* kinds(store, ns, keys),
        keys.map((key) => (key === "stale" || key === "fresh" ? "Row" : "NoRow"))
      )
      assert.deepStrictEqual(
        yield* store.remove(ns, keys),
        keys.map((key) => key === "stale" || key === "fresh")
      )
      assert.deepStrictEqual(yield* store.remove(ns, [], true), [])
    }))

  test("where nothing was, expire refuses the fills from before as remove does", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [row("over", 1, { timeToLive: 1000 })])
      yield* advance(2000)
      const before = yield* store.read(ns, ["absent", "over"])
      yield* store.remove(ns, ["over", "absent"], true)
      const after = yield* store.read(ns, ["absent", "over"])
      const rows = [row("absent", 2), row("over", 2)]
      assert.deepStrictEqual(yield* fillAs(store, ns, before, rows), [false, false])
      assert.deepStrictEqual(yield* kinds(store, ns, ["absent", "over"]), ["NoRow", "NoRow"])
      assert.deepStrictEqual(yield* fillAs(store, ns, after, rows), [true, true])
    }))

  test("what has no reserve is given for as long as it would have been fresh, once it is expired", (store, ns) =>
    Effect.gen(function* () {
      yield* store.write(ns, [row("k", 1, { timeToLive: 60_000 }), row("endless", 1, { timeToLive: Infinity })])
      yield* store.remove(ns, ["k", "endless"], true)
      const [k, endless] = yield* store.read(ns, ["k", "endless"])
      assert(k?._tag === "Row" && endless?._tag === "Row")
      assertNear(k.timeToLive, 0)
      assertNear(k.staleTimeToLive, 60_000)
      assertNear(endless.timeToLive, 0)
      assert.strictEqual(endless.staleTimeToLive, Infinity)
      yield* advance(60_000)
      assert.deepStrictEqual(yield* kinds(store, ns, ["k", "endless"]), ["NoRow", "Row"])
    }))

  test("any string is a tag of its own", (store, ns) =>
    Effect.gen(function* () {
      const odd = [
        ...new Set([
          ...oddTexts,
          ...longTexts,
          "a,b",
          "a, b",
          "{a}",
          "{}",
          '{"a"}',
          "NULL",
          "null",
          "\\N",
          "(a)",
          "[",
          "a*",
          '\\"',
          "👨‍👩‍👧",
          "\ud800",
          "\u0000",
          "a\u0000",
          "\u001a0000"
        ])
      ]
      const write = store.write(
        ns,
        odd.map((tag, i) => row(`${i}`, tag, { tags: ["all", tag] }))
      )
      const rest = (from: number) =>
        odd.flatMap((_, i) => (i < from ? [] : [`${i}`])).toSorted((a, b) => (a < b ? -1 : 1))
      yield* write
      const before = yield* store.read(
        ns,
        odd.map((_, i) => `new ${i}`)
      )
      for (const [i, tag] of odd.entries()) {
        assert.strictEqual(yield* store.removeTagged(ns, [tag]), 1, JSON.stringify(tag.slice(0, 20)))
        assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), rest(i + 1))
        if (i === 0 || i % 10 !== 0) continue
        const late = odd.map((tag, j) => row(`new ${j}`, tag, { tags: [tag] })).slice(i - 1, i + 2)
        const fences = before.slice(i - 1, i + 2)
        assert.deepStrictEqual(
          yield* fillAs(store, ns, fences, late),
          fences.map((_, j) => j === 2)
        )
        yield* store.remove(
          ns,
          late.map(({ key }) => key)
        )
      }
      yield* write
      assert.strictEqual(yield* store.removeTagged(ns, odd.slice(1)), odd.length - 1)
      assert.deepStrictEqual(keysOf(yield* scanned(store, ns)), ["0"])
    }))

  for (const [pattern, matches] of Object.entries(patterns)) {
    test(`the pattern ${JSON.stringify(pattern)} covers what it matches, and nothing else`, (store, ns) =>
      Effect.gen(function* () {
        const keys = [...new Set([...oddTexts, ...texts])]
        const expected = keys.filter((key) => matches.includes(key))
        assert.isTrue(matches.length === 0 || expected.length > 0)
        const write = store.write(
          ns,
          keys.map((key) => row(key, key, { staleFor: 60_000 }))
        )
        yield* write
        const before = yield* store.read(ns, keys)
        assert.strictEqual(yield* store.removeMatching(ns, glob(pattern), true), expected.length)
        assert.deepStrictEqual(yield* goneOrStale(store, ns, keys), expected)
        assert.strictEqual(yield* store.removeMatching(ns, glob(pattern)), expected.length)
        assert.deepStrictEqual(yield* goneOrStale(store, ns, keys), expected)
        const rows = keys.map((key) => row(key, "late"))
        assert.deepStrictEqual(
          yield* fillAs(store, ns, before, rows),
          keys.map((key) => !expected.includes(key))
        )
      }))
  }

  test("a pattern matches keys in full, however long (C75)", (store, ns) =>
    Effect.gen(function* () {
      const keys = [...new Set(longTexts)]
      const write = store.write(
        ns,
        keys.map((key) => row(key, 1))
      )
      const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
        ["*y", ["x".repeat(10_240) + "y", "x".repeat(10_239) + "y"]],
        [`${"x".repeat(1000)}*é`, ["x".repeat(1023) + "é", "x".repeat(1022) + "é"]],
        [`${"x".repeat(1000)}*xy`, ["x".repeat(10_240) + "y", "x".repeat(10_239) + "y"]],
        [`${"😀".repeat(255)}?b`, ["😀".repeat(256) + "b"]],
        [`?${"😀".repeat(250)}*[😀-😁]`, ["a" + "😀".repeat(256), "a" + "😀".repeat(255) + "😁", "😀".repeat(256)]],
        ["x".repeat(1024), ["x".repeat(1024)]],
        ["*:sha256:*", keys.filter((key) => key.includes(":sha256:"))],
        ["*", keys]
      ]
      for (const [pattern, matches] of cases) {
        yield* write
        const expected = keys.filter((key) => glob(pattern).matches(key))
        assert.sameMembers(expected, [...matches])
        assert.strictEqual(yield* store.removeMatching(ns, glob(pattern)), expected.length, pattern.slice(-20))
        const left = keysOf(yield* scanned(store, ns))
        assert.sameMembers(
          left,
          keys.filter((key) => !expected.includes(key))
        )
      }
    }))

  test("keys that differ far behind are changed and refused each by itself (C75)", (store, ns) =>
    Effect.gen(function* () {
      const begin = "x".repeat(2000)
      const keys = ["a", "b", "c"].map((end) => begin + end)
      yield* store.write(
        ns,
        keys.map((key) => row(key, key, { staleFor: 60_000 }))
      )
      const all = [...keys, `${begin}d`, `${begin}e`]
      const before = yield* store.read(ns, all)
      assert.strictEqual(yield* store.removeMatching(ns, glob("x*[bd]")), 1)
      assert.strictEqual(yield* store.removeMatching(ns, glob("x*c"), true), 1)
      assert.deepStrictEqual((yield* store.read(ns, all)).map(documentOf), [
        keys[0],
        undefined,
        keys[2],
        undefined,
        undefined
      ])
      assert.deepStrictEqual(
        yield* fillAs(
          store,
          ns,
          before,
          all.map((key) => row(key, "late"))
        ),
        [true, false, false, false, true]
      )
    }))

  test("many rows are counted one by one, and changed all", (store, ns) =>
    Effect.gen(function* () {
      const many = Array.from({ length: 2500 }, (_, i) =>
        row(`key ${i}`, i, { tags: [`${i % 2}`], staleFor: 60_000, isFailure: i < 10 })
      )
      yield* store.write(ns, many)
      const isFresh = (row: StoredRow | NoRow) => row._tag === "Row" && row.timeToLive > 0
      const keys = many.map(({ key }) => key)
      assert.strictEqual(yield* store.removeTagged(ns, ["0"], true), 1250)
      const rows = yield* store.read(ns, keys)
      assert.deepStrictEqual(
        rows.map((row) => [row._tag, isFresh(row)]),
        many.map(({ isFailure }, i) => (i % 2 === 1 ? ["Row", true] : [isFailure ? "NoRow" : "Row", false]))
      )
      assert.strictEqual(yield* store.removeMatching(ns, glob("key *[!9]")), 2245)
      assert.strictEqual((yield* scanned(store, ns)).length, 250)
      assert.strictEqual(yield* store.removeTagged(ns, ["0", "1"]), 250)
      assert.strictEqual(yield* store.clear(ns), 0)
      yield* store.write(ns, many)
      assert.strictEqual(yield* store.clear(ns), 2500)
      assert.deepStrictEqual(yield* scanned(store, ns), [])
    }))
}

const keysOf = (rows: ReadonlyArray<{ readonly key: string }>) => rows.map(({ key }) => key)

const goneOrStale = (store: Store, ns: string, keys: ReadonlyArray<string>) =>
  Effect.map(store.read(ns, keys), (rows) =>
    keys.filter((_, i) => {
      const row = rows[i]!
      return row._tag === "NoRow" || row.timeToLive <= 0
    })
  )

const texts = [
  "user_1_data",
  "user_2_data",
  "user_12_data",
  "USER_1_data",
  "user_1_dataX",
  "user-1-data",
  "user/1/data",
  "user_\n_data",
  "a*b",
  "a?b",
  "a%b",
  "a_b",
  "a\\b",
  "a[b]",
  "a[b",
  "a.b",
  "aab",
  "acb",
  "a^b",
  "a$",
  "(a|b)",
  "ab",
  "aéb",
  "a😀b",
  "a]b",
  "a-b",
  '{"id":7,"kind":"a"}',
  '{"id":8,"kind":"a"}',
  "7",
  "77"
]

/** What they match of `texts` and `oddTexts`. */
const patterns: Record<string, ReadonlyArray<string>> = {
  "user_*_data": ["user_1_data", "user_2_data", "user_12_data", "user_\n_data"],
  "user?1?data": ["user_1_data", "user-1-data", "user/1/data"],
  "user_[0-9]_data": ["user_1_data", "user_2_data"],
  "a\\*b": ["a*b"],
  "a\\?b": ["a?b"],
  "a\\\\b": ["a\\b"],
  "a%b": ["a%b"],
  a_b: ["a_b"],
  "a.b": ["a.b"],
  "a\\[b]": ["a[b]"],
  "a[[]b": ["a[b"],
  a$: ["a$"],
  "(a|b)": ["(a|b)"],
  "a[!a-c]b": ["a*b", "a?b", "a%b", "a_b", "a\\b", "a[b", "a.b", "a^b", "aéb", "a😀b", "a]b", "a-b"],
  "a[😀é]b": ["aéb", "a😀b"],
  '{"id":7,*}': ['{"id":7,"kind":"a"}'],
  "7": ["7"],
  "": [""],
  "'*": ["'", "''"],
  '"': ['"'],
  "[A-Z]*": ["A", "USER_1_data"],
  "e\u0301": ["e\u0301"],
  é: ["é"],
  "?": [" ", "a", "A", "%", "_", "\\", "*", "?", "'", '"', ";", ":", "é", "😀", "\ufffd", "\u0001", "7"].concat(
    ["\u0000", "\ud800"].map(escapeKeyText)
  )
}
