/**
 * What the sources promise about themselves: which way they depend on one another,
 * what each of them leaves to others, and that a reader finds the way.
 */
import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

interface Source {
  readonly name: string
  readonly text: string
  /** The text with its comments blanked out; lines keep their numbers. */
  readonly code: string
  readonly imports: ReadonlyArray<{ readonly from: string; readonly typeOnly: boolean }>
}

const root = fileURLToPath(new URL("../src/", import.meta.url))

const sources: ReadonlyArray<Source> = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .sort()
  .map((name) => {
    const text = readFileSync(join(root, name), "utf8")
    const code = text.replace(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, (comment) => comment.replaceAll(/[^\n]/g, " "))
    const imports = [...code.matchAll(/^(?:im|ex)port (type )?(?:\*(?: as \w+)?|\{[^}]*\}) from "([^"]+)"/gm)]
    return {
      name,
      text,
      code,
      imports: imports.map(([, type, from]) => ({ from: from!, typeOnly: type !== undefined }))
    }
  })

const namesOf = (list: ReadonlyArray<Source>) => list.map(({ name }) => name)

/** Who imports values from such a place, beside the PostgreSQL adapter. */
const importers = (isPlace: (from: string) => boolean) =>
  namesOf(sources.filter(({ imports }) => imports.some(({ from, typeOnly }) => !typeOnly && isPlace(from)))).filter(
    (name) => !name.startsWith("postgres/")
  )

/** Where the code matches, as file:line. */
const places = (pattern: RegExp, allowed: RegExp) =>
  sources
    .filter(({ name }) => !allowed.test(name))
    .flatMap(({ name, code }) =>
      code.split("\n").flatMap((line, index) => (pattern.test(line) ? [`${name}:${index + 1}: ${line.trim()}`] : []))
    )

const nowhere = /^$/

describe("dependencies", () => {
  it("run one way: following the imports of a module never leads back to it", () => {
    const importsOf = new Map(
      sources.map(({ name, imports }) => [
        name,
        imports
          .filter(({ from, typeOnly }) => !typeOnly && from.startsWith("."))
          .map(({ from }) => join(name, "..", from))
      ])
    )
    const finished = new Set<string>()
    const walk = (name: string, path: ReadonlyArray<string>): void => {
      assert.notInclude(path, name, [...path, name].join(" -> "))
      if (finished.has(name)) return
      const imports = importsOf.get(name)
      assert.isDefined(imports, `${path.at(-1)} imports ${name}, which is not there`)
      for (const next of imports) walk(next, [...path, name])
      finished.add(name)
    }
    for (const name of importsOf.keys()) walk(name, [])
  })

  it("on the PostgreSQL adapter are the composition root's and the barrel's alone", () => {
    assert.deepStrictEqual(
      importers((from) => from.includes("/postgres/")),
      ["CacheLive.ts", "index.ts"]
    )
  })

  it("on SQL packages are the PostgreSQL adapter's alone", () => {
    const outside = importers((from) => /^(@effect\/sql-pg|effect\/sql)\b/.test(from))
    assert.deepStrictEqual(
      outside.filter((name) => name !== "CacheLive.ts"),
      []
    )
  })

  it.each<[what: string, pattern: RegExp, allowed: RegExp]>([
    ["on the unstable metric registry are CacheMetrics' alone", /registerUnsafe/, /^CacheMetrics\.ts$/],
    ["on time go through Effect's Clock", /Date\.now|new Date\(\)|performance\.now/, nowhere],
    [
      "on promises stay with those that call Node",
      /\basync\b|(?<!\.)\bawait\b/,
      /^postgres\/(Embedded\w+|PgMigrations)\.ts$/
    ],
    ["on the console do not exist: the library logs through Effect", /\bconsole\./, nowhere]
  ])("%s", (_, pattern, allowed) => {
    assert.deepStrictEqual(places(pattern, allowed), [])
  })
})

describe("a source file", () => {
  const version = /@since \d+\.\d+\.\d+/

  it("begins by saying what it is", () => {
    const silent = sources.filter(({ text }) => !version.test(/^\/\*\*[^]*?\*\//.exec(text)?.[0] ?? ""))
    assert.deepStrictEqual(namesOf(silent), [])
  })

  it("documents each of its exports", () => {
    const undocumented = sources.flatMap(({ name: file, text }) => {
      const header = text.indexOf("*/") + 2
      const exported = text.matchAll(/^export (?:declare |abstract )*(?:const|class|function|interface|type) (\w+)/gm)
      return [...exported].flatMap(({ index, 1: name }) => {
        const before = text.slice(header, index).trimEnd()
        const docs = before.endsWith("*/") ? before.slice(before.lastIndexOf("/**")) : ""
        return docs.includes("@internal") || (/@category \S/.test(docs) && version.test(docs))
          ? []
          : [`${file}: ${name}`]
      })
    })
    assert.deepStrictEqual(undocumented, [])
  })

  it("is named after the one thing it holds", () => {
    const vague = sources.filter(({ name }) => /(?:^|\/)(?:utils?|types?|helpers?|common|misc)\.ts$/i.test(name))
    assert.deepStrictEqual(namesOf(vague), [])
  })

  it("stays under 400 lines", () => {
    assert.deepStrictEqual(namesOf(sources.filter(({ text }) => text.split("\n").length > 400)), [])
  })
})
