/**
 * The examples in the README and in the doc comments: those that import what they
 * use compile, and those that say what they print (`console.log(…) // => …`) print it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll } from "vitest"
import { Database } from "./support/Database.ts"

interface Example {
  /** Where it stands, as in `src/CacheLive.ts 1`. */
  readonly name: string
  readonly file: string
  readonly code: string
  readonly output: ReadonlyArray<string>
}

const root = fileURLToPath(new URL("../", import.meta.url))

const examplesIn = (path: string): ReadonlyArray<Example> => {
  const text = readFileSync(join(root, path), "utf8")
  const prose = path.endsWith(".md")
    ? text
    : (text.match(/\/\*\*[^]*?\*\//g) ?? []).join("\n").replaceAll(/^ *\* ?/gm, "")
  return [...prose.matchAll(/^```ts\n([^]*?)^```$/gm)]
    .map(([, code]) => code!)
    .filter((code) => path !== "README.md" || /^import /m.test(code))
    .map((code, index) => ({
      name: `${path} ${index + 1}`,
      file: `${path.replaceAll(/\W/g, "_")}_${index + 1}.ts`,
      code,
      output: [...code.matchAll(/[Cc]onsole\.log\b.*\/\/ => (.*)$/gm)].map(([, line]) => line!)
    }))
}

const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
  name.endsWith(".ts")
)
const examples = ["README.md", ...sources.map((name) => `src/${name}`)].flatMap(examplesIn)

const run = (args: ReadonlyArray<string>, options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv }) =>
  new Promise<{ readonly code: unknown; readonly output: string; readonly errors: string }>((resolve) => {
    execFile(process.execPath, args, options, (error, output, errors) =>
      resolve({ code: error?.code ?? 0, output, errors })
    )
  })

let directory: string

/** What the compiler says of each file. */
const problems = new Map<string, Array<string>>()

beforeAll(async () => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "effect-tiered-cache-examples-")))
  // As root, an embedded server in here runs as another user.
  chmodSync(directory, 0o711)
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"), "dir")
  const tsconfig = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: {
      noUnusedLocals: false,
      paths: { "effect-tiered-cache": [join(root, "src/index.ts")] }
    },
    include: ["*.ts"]
  }
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }))
  writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(tsconfig))
  for (const { code, file } of examples) writeFileSync(join(directory, file), code)
  const tsc = join(dirname(fileURLToPath(import.meta.resolve("typescript/package.json"))), "bin/tsc")
  const { code, output, errors } = await run([tsc, "--noEmit", "--pretty", "false"], { cwd: directory })
  for (const [problem, file] of output.matchAll(/^(.+?)\(\d+,\d+\): error .*$(?:\n .*$)*/gm)) {
    problems.set(file!, [...(problems.get(file!) ?? []), problem])
  }
  if (code !== 0 && problems.size === 0) throw new Error(`the compiler failed: ${output}${errors}`)
})

afterAll(() => rmSync(directory, { recursive: true }))

describe("an example", () => {
  it.each(examples)("in $name compiles", ({ file }) => {
    assert.deepStrictEqual(problems.get(file) ?? [], [])
  })

  for (const { file, name, output } of examples.filter((example) => example.output.length > 0)) {
    it.live(`in ${name} prints what it says`, () =>
      Effect.gen(function* () {
        const { url } = yield* Database
        const cwd = join(directory, file.replace(/\.ts$/, ""))
        mkdirSync(cwd)
        const env = { ...process.env, DATABASE_URL: url, TSX_TSCONFIG_PATH: join(directory, "tsconfig.json") }
        const result = yield* Effect.promise(() => run(["--import", "tsx", join(directory, file)], { cwd, env }))
        const said = output.map((line) => `${line}\n`).join("")
        assert.deepStrictEqual([result.code, result.output], [0, said], result.errors)
      }).pipe(Effect.provide(Database.layerFresh))
    )
  }
})
