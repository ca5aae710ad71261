import { assert, describe, it, layer } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import * as fc from "fast-check"
import { escapeJsonText, escapeKeyText, unescapeJsonText, unescapeKeyText } from "../src/JsonText.ts"
import { Database } from "./support/Database.ts"
import { isPlainName } from "./support/json.ts"

const oddCharacter = fc.constantFrom(
  "\u0000",
  "\u001a",
  "\ud83d",
  "\ude00",
  "\\",
  "u",
  "0",
  "1",
  "a",
  '"',
  "d83d",
  "😀"
)
const oddText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.array(oddCharacter, { maxLength: 12 }).map((characters) => characters.join(""))
)
const document = fc.letrec<{ node: unknown }>((node) => ({
  node: fc.oneof(
    { depthSize: "small" },
    oddText,
    fc.constantFrom(null, true, false),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.array(node("node"), { maxLength: 4 }),
    fc.dictionary(oddText.filter(isPlainName), node("node"), { maxKeys: 4 })
  )
})).node

describe("JsonText", () => {
  it("leaves text alone that every store can keep", () => {
    for (const text of ["", "a", "😀", "\n", "\u0001\uffff", "\\u0000"]) {
      assert.strictEqual(escapeKeyText(text), text)
      assert.strictEqual(escapeJsonText(JSON.stringify(text)), JSON.stringify(text))
    }
  })

  it("marks what cannot be kept", () => {
    assert.strictEqual(escapeKeyText("a\u0000b\u001ac\ud800"), "a\u001a0000b\u001a001ac\u001ad800")
    assert.strictEqual(
      escapeJsonText(String.raw`"\u0000 \uD800 \u001A \u000b"`),
      String.raw`"\u001a0000 \u001ad800 \u001a001a \u000b"`
    )
  })

  it("takes a backslash before the letters u0000 for what it is", () => {
    const text = JSON.stringify(String.raw`\u0000 \u001a0000 \\u001a0000`)
    assert.strictEqual(escapeJsonText(text), text)
    assert.strictEqual(unescapeJsonText(text), text)
    const odd = String.raw`"\\u0000 \\\u0000"`
    assert.strictEqual(escapeJsonText(odd), String.raw`"\\u0000 \\\u001a0000"`)
    assert.strictEqual(unescapeJsonText(escapeJsonText(odd)), odd)
  })

  it("leaves a mark alone that it did not set", () => {
    assert.strictEqual(unescapeJsonText(String.raw`"\u001a \u001axyz1"`), String.raw`"\u001a \u001axyz1"`)
    assert.strictEqual(unescapeKeyText("\u001a \u001axyz1"), "\u001a \u001axyz1")
  })

  it("keeps different texts different, and gives each back", () => {
    fc.assert(
      fc.property(oddText, oddText, (a, b) => {
        assert.strictEqual(unescapeKeyText(escapeKeyText(a)), a)
        assert.strictEqual(escapeKeyText(a) === escapeKeyText(b), a === b)
        assert.notInclude(escapeKeyText(a), "\u0000")
      }),
      { numRuns: 1000 }
    )
  })
})

layer(Database.layer({ maxConnections: 1 }), { timeout: "60 seconds" })("JsonText in PostgreSQL", (it) => {
  it.effect("any JSON document survives a jsonb column", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const run = Effect.runPromiseWith(yield* Effect.context())
      yield* sql`create table documents (id int generated always as identity, data jsonb)`
      const property = fc.asyncProperty(fc.array(document, { minLength: 1, maxLength: 20 }), async (documents) => {
        const texts = documents.map((each) => JSON.stringify(each))
        const rows = await run(
          sql<{ text: string }>`
            insert into documents (data) select u.data::jsonb from unnest(${texts.map(escapeJsonText)}::text[]) as u (data)
            returning data::text as text
          `
        )
        assert.deepStrictEqual(
          rows.map(({ text }) => JSON.parse(unescapeJsonText(text))),
          texts.map((text) => JSON.parse(text))
        )
      })
      yield* Effect.promise(() =>
        fc.assert(property, {
          numRuns: 200,
          examples: [[["\u0000", "\ud800", { "\ude00": ["\u001a0000"] }, 1e308, 5e-324]]]
        })
      )
    })
  )

  it.effect("any key survives a text column, and stays one of its own", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const run = Effect.runPromiseWith(yield* Effect.context())
      yield* sql`create table keys (id int generated always as identity, key text collate "C")`
      const property = fc.asyncProperty(fc.uniqueArray(oddText, { minLength: 1, maxLength: 20 }), async (keys) => {
        const rows = await run(
          sql<{ key: string }>`
            insert into keys (key) select u.key from unnest(${keys.map(escapeKeyText)}::text[]) as u (key) returning key
          `
        )
        assert.deepStrictEqual(
          rows.map(({ key }) => unescapeKeyText(key)),
          keys
        )
        assert.strictEqual(new Set(rows.map(({ key }) => key)).size, keys.length)
      })
      yield* Effect.promise(() => fc.assert(property, { numRuns: 200 }))
    })
  )
})
