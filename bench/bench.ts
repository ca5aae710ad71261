/**
 * This library and its peers at the same work, side by side.
 *
 *     npm run bench
 *     npm run bench -- --section hits --also-node path/to/another/node
 *     npm run bench -- --short
 *
 * Each section is a program of its own, run with each Node in turn, on an idle machine
 * please. What they found goes to `bench/results`: tables as `results.md`, every round
 * as `results.json`, and `chart.svg`. Ends with 1 if a section failed. `--short` sees whether all of it still works,
 * in seconds, and writes nothing unless `--out` says where.
 *
 * The peers are installed here, from this directory's own lock file, when they are
 * not yet.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as Chart from "./harness/Chart.ts"
import { typescript } from "./harness/Program.ts"
import * as Report from "./harness/Report.ts"
import * as Servers from "./harness/Servers.ts"
import type { Findings } from "./harness/Findings.ts"

const { values: options } = parseArgs({
  options: {
    section: { type: "string", multiple: true },
    short: { type: "boolean", default: false },
    node: { type: "string" },
    "also-node": { type: "string", multiple: true },
    out: { type: "string" }
  }
})

interface Section {
  readonly name: string
  /** What makes it quick, or nothing where that is `--short`. */
  readonly short?: ReadonlyArray<string>
  /** Prints its own tables. */
  readonly printed?: string
}

const sections: ReadonlyArray<Section> = [
  { name: "hits" },
  { name: "reads" },
  { name: "misses" },
  { name: "startup" },
  { name: "hitRate", printed: "Hit rate" },
  { name: "memory", printed: "Memory" },
  { name: "store", printed: "The store", short: ["--rounds", "2", "--turn", "20"] },
  { name: "scale", printed: "Scale" }
]

const here = path.dirname(fileURLToPath(import.meta.url))
const nodes = [options.node ?? process.execPath, ...(options["also-node"] ?? [])]

/** A young generation of a fixed size, so that a turn's garbage is weighed; the rest is for a million entries. */
const nodeOptions = ["--expose-gc", "--min-semi-space-size=16", "--max-old-space-size=12288", ...typescript]

const main = async () => {
  const chosen = chosenSections()
  await installPeers()
  const versions: Array<string> = []
  for (const node of nodes) versions.push((await run(node, ["--version"], "pipe")).trim().slice(1))
  const findings: Array<Findings> = []
  const printed: Array<string> = []
  await Servers.withServer(async (server) => {
    for (const section of chosen) {
      for (const [index, node] of nodes.entries()) {
        const before = performance.now()
        const found = await Servers.withPostgres(({ url }) => start(node, section, url), server).catch(
          (error: unknown) => {
            // The others are still worth having.
            console.error(error)
            process.exitCode = 1
          }
        )
        const seconds = ((performance.now() - before) / 1000).toFixed(1)
        process.stderr.write(`${section.name}, Node ${versions[index]}: ${seconds} s\n`)
        if (typeof found === "string") printed.push(`## ${section.printed}, Node ${versions[index]}\n\n${found.trim()}`)
        else if (found !== undefined) findings.push(found)
      }
    }
  })
  report(versions, findings, printed)
}

const chosenSections = (): ReadonlyArray<Section> => {
  const known = sections.filter(({ name }) => fs.existsSync(path.join(here, `${name}.ts`)))
  if (options.section === undefined) return known
  return options.section.map((wanted) => {
    const section = known.find(({ name }) => name === wanted)
    if (section === undefined) {
      throw new Error(`no section ${wanted}: there are ${known.map(({ name }) => name).join(", ")}`)
    }
    return section
  })
}

const installPeers = async (): Promise<void> => {
  const installed = path.join(here, "node_modules", ".package-lock.json")
  const wanted = path.join(here, "package-lock.json")
  if (fs.existsSync(installed) && fs.statSync(installed).mtimeMs >= fs.statSync(wanted).mtimeMs) return
  const npm = process.platform === "win32" ? "npm.cmd" : "npm"
  process.stderr.write("npm ci --prefix bench\n")
  await run(npm, ["ci", "--prefix", here, "--ignore-scripts", "--loglevel=error"], "ignore")
}

/** What it found, or what it printed. */
const start = async (node: string, section: Section, database: string): Promise<Findings | string> => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bench-"))
  try {
    const json = path.join(directory, "findings.json")
    const { name, printed, short = ["--short"] } = section
    const args = [...(options.short ? short : []), ...(printed === undefined ? ["--json", json] : [])]
    const program = [...nodeOptions, path.join(here, `${name}.ts`), ...args]
    const said = await run(node, program, "pipe", { DATABASE_URL: database })
    return printed === undefined ? (JSON.parse(fs.readFileSync(json, "utf8")) as Findings) : said
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

const run = async (
  program: string,
  args: ReadonlyArray<string>,
  stdout: "pipe" | "ignore",
  environment: Record<string, string> = {}
): Promise<string> => {
  const child = spawn(program, args, {
    cwd: path.dirname(here),
    stdio: ["ignore", stdout, "inherit"],
    env: { ...process.env, ...environment }
  })
  const said: Array<Buffer> = []
  child.stdout?.on("data", (data: Buffer) => said.push(data))
  const [code, signal] = (await once(child, "close")) as [number | null, string | null]
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${signal ?? code}`)
  return Buffer.concat(said).toString()
}

const report = (
  nodeVersions: ReadonlyArray<string>,
  findings: ReadonlyArray<Findings>,
  printed: ReadonlyArray<string>
): void => {
  const setting = {
    machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model ?? os.arch()}, ${Math.round(os.totalmem() / 1024 ** 3)} GiB`,
    system: `${os.type()} ${os.arch()}`,
    nodes: nodeVersions,
    packages: packages(),
    date: new Date().toISOString().slice(0, 10)
  }
  const line = `${setting.machine}, ${setting.system}, Node ${setting.nodes.join(" and ")}, ${setting.date}`
  const versions = Object.entries(setting.packages).map(([name, version]) => `${name} ${version}`)
  const markdown = [
    "# Benchmark",
    `Made by \`npm run bench\`. ${line}. ${versions.join(", ")}.`,
    "A figure is the median of the rounds, with their quartiles; a ratio is taken round by round to the first line, where it does not say otherwise. Every answer was checked.",
    Report.markdown(findings),
    ...printed
  ].join("\n\n")
  console.log(markdown)
  const out = options.out ?? (options.short ? undefined : path.join(here, "results"))
  if (out === undefined) return
  fs.mkdirSync(out, { recursive: true })
  fs.writeFileSync(path.join(out, "results.md"), `${markdown}\n`)
  fs.writeFileSync(path.join(out, "results.json"), `${JSON.stringify({ setting, findings, printed }, undefined, 1)}\n`)
  const tables = Report.merge(findings).filter(({ chart }) => chart === true)
  if (tables.length === 0) return
  const chart = Chart.svg(tables, { title: "effect-tiered-cache beside its peers", setting: line, isOurs })
  fs.writeFileSync(path.join(out, "chart.svg"), chart)
}

const isOurs = (name: string): boolean => /^(getOrSet|TieredCache\b|peek|effect-tiered-cache)/.test(name)

const packages = (): Record<string, string> => {
  const manifest = (file: string) =>
    JSON.parse(fs.readFileSync(file, "utf8")) as {
      readonly dependencies?: Record<string, string>
      readonly devDependencies: Record<string, string>
    }
  const { devDependencies } = manifest(path.join(here, "..", "package.json"))
  const own = ["effect", "@effect/sql-pg"].map((name) => [name, devDependencies[name]!] as const)
  return { ...Object.fromEntries(own), ...manifest(path.join(here, "package.json")).dependencies }
}

await main()
