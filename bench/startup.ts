/**
 * What it costs to have the library at all: its import, the first answer of a cache
 * on a database that is up to date, and its size, packed and bundled.
 */
import { build } from "esbuild"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { gzipSync } from "node:zlib"
import { inTurns } from "./harness/Contest.ts"
import { counts, figures } from "./harness/Figure.ts"
import type { Table } from "./harness/Findings.ts"
import { typescript } from "./harness/Program.ts"
import * as Section from "./harness/Section.ts"
import * as Servers from "./harness/Servers.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const bench = path.join(root, "bench")

const measure = async ({ short }: Section.Order): Promise<ReadonlyArray<Table>> => {
  const rounds = short ? 1 : 11
  const size = packed(short && fs.existsSync(path.join(root, "dist", "index.js")))
  return [
    imports(rounds),
    await Servers.withPostgres(({ url, version }) => Promise.resolve(starts(url, version, rounds))),
    await sizes(size)
  ]
}

/** Builds it too, into `dist`, unless that is there and its age does not matter. */
const packed = (isBuilt: boolean): number => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bench-pack-"))
  try {
    const npm = process.platform === "win32" ? "npm.cmd" : "npm"
    const args = ["pack", "--loglevel=error", "--pack-destination", directory, ...(isBuilt ? ["--ignore-scripts"] : [])]
    execFileSync(npm, args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] })
    return fs.statSync(path.join(directory, fs.readdirSync(directory)[0]!)).size
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

interface Start {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
}

/** Each in a process of its own, which says how long it took. */
const race = (starts: ReadonlyArray<Start>, rounds: number) => {
  const taken = starts.map(({ name }) => ({ name, rounds: new Array<number>() }))
  for (let round = 0; round < rounds; round++) {
    for (const start of inTurns(starts, round)) {
      const said = execFileSync(process.execPath, start.args, { cwd: start.cwd, encoding: "utf8" })
      const time = Number.parseFloat(said)
      if (!(time > 0)) throw new Error(`${start.name} said ${said}`)
      taken.find(({ name }) => name === start.name)!.rounds.push(time)
    }
  }
  return taken
}

const imports = (rounds: number): Table => {
  const importing = (name: string, modules: ReadonlyArray<string>, cwd: string): Start => {
    const all = modules.map((module) => `await import(${JSON.stringify(module)})`).join("; ")
    const program = `const before = performance.now(); ${all}; console.log(performance.now() - before)`
    return { name, args: ["--input-type=module", "--eval", program], cwd }
  }
  const own = pathToFileURL(path.join(root, "dist", "index.js")).href
  const peers = ["bentocache", "cacheable", "cache-manager", "layered-loader", "lru-cache"]
  return {
    title: "Import",
    unit: "ms",
    about: "In a fresh process each, nothing compiled before. The second line has the first one's packages in it.",
    figures: figures(
      race(
        [
          importing("effect and @effect/sql-pg", ["effect", "@effect/sql-pg"], root),
          importing("effect-tiered-cache", [own], root),
          ...peers.map((peer) => importing(peer, [peer], bench))
        ],
        rounds
      )
    )
  }
}

const starts = (url: string, version: string, rounds: number): Table => {
  const program = path.join(bench, "peers", "firstAnswer.ts")
  const start = (name: string, who: string): Start => ({
    name,
    args: [...typescript, program, url, who],
    cwd: root
  })
  const all = [start("PgClient, one SELECT", "bare"), start("CacheLive, one getOrSet", "ours")]
  // The migrations are not in it.
  race(all, 1)
  return {
    title: "From the layer to the first answer",
    unit: "ms",
    about: `In a fresh process each, all modules loaded, on PostgreSQL ${version} with the tables up to date.`,
    figures: figures(race(all, rounds))
  }
}

const example = `
  import { PgClient } from "@effect/sql-pg"
  import { Config, Effect, Layer, Schema } from "effect"
  import { CacheLive, Namespace, TieredCache } from "effect-tiered-cache"
  const Answers = Namespace.make("answers", { value: Schema.Int, timeToLive: "10 minutes" })
  const program = Effect.succeed(42).pipe(TieredCache.getOrSet(Answers, "everything"))
  const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
  Effect.runPromise(program.pipe(Effect.provide(CacheLive.pipe(Layer.provide(Database)))))
`

const sizes = async (tarball: number): Promise<Table> => {
  const { outputFiles } = await build({
    stdin: { contents: example, resolveDir: root },
    alias: { "effect-tiered-cache": path.join(root, "dist", "index.js") },
    external: ["effect", "@effect/*", "node:*"],
    bundle: true,
    minify: true,
    platform: "node",
    format: "esm",
    write: false
  })
  const bundle = outputFiles[0]!.contents
  return {
    title: "Size",
    unit: "kB",
    about:
      "Bundled by esbuild: what it keeps of this library for a program with CacheLive and one getOrSet, without effect and @effect/sql-pg.",
    figures: counts([
      { name: "packed tarball, with sources and migrations", rounds: [tarball / 1000] },
      { name: "bundled and minified", rounds: [bundle.length / 1000] },
      { name: "the same, gzip", rounds: [gzipSync(bundle).length / 1000] }
    ])
  }
}

await Section.run("startup", measure)
