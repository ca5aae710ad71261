/** The SQL functions for patterns do what `Glob` does. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Result } from "effect"
import type { SqlError } from "effect/sql"
import * as fc from "fast-check"
import { readFile } from "node:fs/promises"
import { InvalidPattern } from "../src/CacheError.ts"
import * as Glob from "../src/Glob.ts"
import { escapeKeyText } from "../src/JsonText.ts"
import * as PgMigrations from "../src/postgres/PgMigrations.ts"
import { Database } from "./support/Database.ts"

const Postgres = PgMigrations.layer.pipe(Layer.provideMerge(Database.layer({ maxConnections: 1 })))

const glob = (pattern: string) => Result.getOrThrow(Glob.make("genes", pattern))

/** A pattern as the store gets it, whether or not it is one. */
const stored = escapeKeyText

const nasty = fc.constantFrom(
  ...`ab01f%_\\*?[]-!^'".()+{}|$/\n`,
  ...`\\**??[[]]--`,
  "😀",
  "é",
  "\u0000",
  "\u001a",
  "\ud83d",
  "\ude00",
  "\ud7ff",
  "\uffff",
  "0000"
)
const nastyText = fc.array(nasty, { maxLength: 12, size: "max" }).map((characters) => characters.join(""))
const member = fc.oneof(
  nasty,
  fc.tuple(nasty, nasty).map(([from, to]) => `${from}-${to}`)
)
const nastyPattern = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom("a", "b", "0", "\u0000", "😀", "%", "_", "\\\\", "\\*") },
      { weight: 2, arbitrary: fc.constantFrom("*", "?") },
      { weight: 2, arbitrary: fc.array(member, { minLength: 1, maxLength: 3 }).map((each) => `[${each.join("")}]`) },
      { weight: 1, arbitrary: fc.array(member, { minLength: 1, maxLength: 3 }).map((each) => `[!${each.join("")}]`) },
      { weight: 1, arbitrary: nasty }
    ),
    { maxLength: 8, size: "max" }
  )
  .map((parts) => parts.join(""))

/** Text of the store that no `escapeKeyText` has written. */
const rawText = fc
  .array(fc.constantFrom("\u001a", "\u001a0000", "\u001ad83d", "\u001a0041", "0", "a", "b", "d83d", "0000"), {
    maxLength: 6,
    size: "max"
  })
  .map((parts) => parts.join(""))

interface Case {
  readonly pattern: string
  readonly text: string
}

const answers = (cases: ReadonlyArray<Case>) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => sql<{ matches: boolean; inRange: boolean }>`
      select
        key like g.like_pattern and (g.regex is null or key ~ g.regex) as "matches",
        key >= g.prefix and (g.prefix_end is null or key < g.prefix_end) as "inRange"
      from (
        select c.key collate "C" as key, c.pattern, c.n
        from unnest(${cases.map(({ text }) => text)}::text[], ${cases.map(({ pattern }) => stored(pattern))}::text[])
          with ordinality as c (key, pattern, n)
      ) c, cache_glob_parts(c.pattern) g
      order by c.n
    `
  )

const assertAlike = (cases: ReadonlyArray<Case>) =>
  Effect.map(answers(cases), (rows) => {
    assert.strictEqual(rows.length, cases.length)
    let matched = 0
    for (const [index, { matches, inRange }] of rows.entries()) {
      const { pattern, text } = cases[index]!
      assert.strictEqual(matches, glob(pattern).matches(text), JSON.stringify({ pattern, text }))
      assert.isTrue(inRange || !matches, `not in the range: ${JSON.stringify({ pattern, text })}`)
      if (matches) matched++
    }
    return matched
  })

const isPattern = (pattern: string) => Result.isSuccess(Glob.make("genes", pattern))

/** Keys that the pattern might match. */
const near = (pattern: string) =>
  [
    pattern,
    pattern.replaceAll(/\\([^])/gu, "$1"),
    pattern.replaceAll(/[*?]/g, "\u0000").replaceAll("\\", ""),
    pattern.replaceAll(/\[[!^]?([^])[^\]]*\]/gu, "$1").replaceAll(/[*?]/g, "ab"),
    pattern
      .replaceAll(/\[[^\]]*\]/g, "b")
      .replaceAll("*", "")
      .replaceAll("?", "\ud83d")
  ].map(escapeKeyText)

/** What the database says of a pattern that it refuses. */
const refusal = (pattern: string) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const exit = yield* Effect.exit(sql`select cache_glob_parts(${pattern})`)
    return Option.map(
      Exit.findErrorOption(exit),
      (error: SqlError.SqlError) => error.reason.cause as { readonly code: string; readonly message: string }
    )
  })

layer(Postgres, { timeout: "60 seconds" })("Glob in PostgreSQL", (it) => {
  it.effect("matches what it matches in memory, and nothing that is out of the range of its prefix", () =>
    Effect.gen(function* () {
      const arbitrary = fc.record({
        pattern: fc.oneof(nastyPattern, nastyText).filter(isPattern),
        texts: fc.array(fc.oneof(nastyText.map(escapeKeyText), rawText), { maxLength: 3, size: "max" })
      })
      let cases = 0
      let matched = 0
      for (const seed of fc.sample(fc.integer(), 3)) {
        const batch = fc
          .sample(arbitrary, { numRuns: 400, seed })
          .flatMap(({ pattern, texts }) => [...texts, ...near(pattern)].map((text) => ({ pattern, text })))
        cases += batch.length
        matched += yield* assertAlike(batch)
      }
      assert.isAbove(matched, cases / 10)
      assert.isAbove(cases - matched, cases / 10)
    })
  )

  it.effect("does not find a character among the digits that stand for another", () =>
    Effect.gen(function* () {
      const patterns = ["*0", "*00*", "*a", "*3d*d", "0*", "*\u0000", "*?0", "[!0]*0", "?", "????", "*[0-9]", "*[!0]"]
      const texts = ["\u0000", "\u001a", "\ud83d", "0", "00", "\u00000", "0\u0000", "\ud83dd", "\u001a0000", "a\u001aa"]
      yield* assertAlike(patterns.flatMap((pattern) => texts.map((key) => ({ pattern, text: escapeKeyText(key) }))))
    })
  )

  it.effect("refuses what is refused in memory, and says the same", () =>
    Effect.gen(function* () {
      const odd = ["\u0000\\", "[\u0000-", "[😀-\u0000]", "é".repeat(513), "\0".repeat(205), "x".repeat(1025)]
      const patterns = [...odd, ...fc.sample(fc.oneof(nastyText, nastyPattern), 1500)]
      const refused = patterns.filter((pattern) => !isPattern(pattern))
      assert.isAbove(refused.length, 200)
      for (const pattern of refused) {
        const inMemory = Result.getOrThrow(Result.flip(Glob.make("genes", pattern))).reason
        assert.instanceOf(inMemory, InvalidPattern)
        const { code, message } = Option.getOrThrow(yield* refusal(stored(pattern)))
        assert.strictEqual(code, "22023", message)
        assert.isTrue(message.startsWith('pattern "'), message)
        assert.isTrue(message.endsWith(`": ${escapeKeyText(inMemory.problem)}`), `${message}\n${inMemory.problem}`)
      }
    })
  )

  it.effect("refuses a U+001A that stands for nothing, which the library never sends", () =>
    Effect.gen(function* () {
      for (const pattern of ["a\u001a", "a\u001a0041", "a\\\u001a", "a[\u001a]"]) {
        const { code, message } = Option.getOrThrow(yield* refusal(pattern))
        assert.strictEqual(code, "22023")
        assert.match(message, /U\+001A at character \d does not stand for another character; write it with "001a"/)
      }
    })
  )

  it.effect("gives like, regular expression and range one by one too", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const parts = (pattern: string) =>
        Effect.map(
          sql`
            select
              cache_glob_like(${pattern}), cache_glob_regex(${pattern}) is not null as has_regex,
              cache_glob_prefix(${pattern}), cache_glob_prefix_end(${pattern})
          `,
          ([row]) => Object.values(row!)
        )
      for (const [pattern, ...expected] of [
        ["", "", false, "", null],
        ["user_*_data", "user\\_%\\_data", false, "user_", "user`"],
        ["user_*", "user\\_%", false, "user_", "user`"],
        ["*x", "%x", false, "", null],
        ["*abc", "%abc", true, "", null],
        ["100%\\*\\\\[a-z]?*", "100\\%*\\\\__%", true, "100%*\\", "100%*]"],
        ["a?b", "a_%b", true, "a", "b"],
        ["a\ud7ff*", "a\ud7ff%", false, "a\ud7ff", "a\ue000"],
        ["a\u{10ffff}\u{10ffff}*", "a\u{10ffff}\u{10ffff}%", false, "a\u{10ffff}\u{10ffff}", "b"],
        ["\u{10ffff}*", "\u{10ffff}%", false, "\u{10ffff}", null],
        [`x${"é".repeat(200)}`, `x${"é".repeat(200)}`, false, `x${"é".repeat(127)}`, `x${"é".repeat(126)}ê`]
      ] as const) {
        assert.deepStrictEqual(yield* parts(pattern), expected)
      }
      assert.deepStrictEqual(yield* sql`select cache_glob_like(null) as nothing`, [{ nothing: null }])
    })
  )

  it.effect("takes the longest patterns against long keys, in a short time", () =>
    Effect.gen(function* () {
      const text = "a".repeat(10_000)
      const patterns = [
        "*a*a*a*a*b",
        "*?a*?a*?a*?a*?b",
        "?".repeat(1024),
        `${"?*".repeat(511)}b`,
        `*${"[!a-f]".repeat(160)}b`,
        `*${"[a\u0000]".repeat(120)}`,
        `*${"[\ud801-\udffe]".repeat(30)}*b`,
        `*${"a".repeat(1000)}*b`
      ]
      for (const pattern of patterns) {
        yield* assertAlike([text, `${text}b`, `${text}\u001a0000`].map((each) => ({ pattern, text: each })))
      }
    })
  )

  it.effect("may be set up again, by hand", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const file = new URL("../migrations/0002_glob.sql", import.meta.url)
      const text = yield* Effect.promise(() => readFile(file, "utf8"))
      yield* sql.unsafe(`do $byhand$ begin execute $text$${text}$text$; end $byhand$`)
      yield* assertAlike([{ pattern: "user_[0-9]*", text: "user_1" }])
    })
  )

  it.effect("has functions that a query may compute once, on any worker", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const others = yield* sql`
        select proname from pg_proc
        where proname like 'cache\\_glob%' and (provolatile <> 'i' or proparallel <> 's' or not proisstrict)
      `
      assert.deepStrictEqual(others, [])
    })
  )
})
