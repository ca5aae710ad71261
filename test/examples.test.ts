/** The example as people start it: a process of its own, its output, its end. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Layer } from "effect"
import { CacheTest } from "effect-tiered-cache"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { Cities, City, CityNotFound } from "../examples/cities/Cities.ts"
import * as CityData from "../examples/cities/CityData.ts"
import * as RequestStream from "../examples/cities/RequestStream.ts"
import { keyOf, Request } from "../examples/cities/RequestStream.ts"
import * as Scenes from "../examples/cities/Scenes.ts"
import { Database } from "./support/Database.ts"

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL("..", import.meta.url))
const program = path.join(root, "examples/cities.ts")

interface Options {
  readonly args: ReadonlyArray<string>
  readonly databaseUrl?: string
  readonly directory?: string
}

interface Running {
  readonly child: ChildProcess
  /** What it has said so far. */
  readonly said: () => string
  readonly ended: Promise<Outcome>
}

interface Outcome {
  readonly code: number | null
  readonly output: string
  readonly errors: string
}

const start = ({ args, databaseUrl = "", directory = root }: Options) =>
  Effect.acquireRelease(
    Effect.sync((): Running => {
      const child = spawn(
        process.execPath,
        ["--import", pathToFileURL(require.resolve("tsx")).href, program, ...args],
        {
          cwd: directory,
          env: { ...process.env, DATABASE_URL: databaseUrl, TSX_TSCONFIG_PATH: path.join(root, "tsconfig.json") },
          stdio: ["ignore", "pipe", "pipe"]
        }
      )
      let output = ""
      let errors = ""
      child.stdout.on("data", (chunk) => (output += chunk))
      child.stderr.on("data", (chunk) => (errors += chunk))
      const ended = once(child, "close").then(([code]) => ({ code, output, errors }))
      return { child, said: () => output, ended }
    }),
    ({ child, ended }) => {
      child.kill("SIGKILL")
      return Effect.promise(() => ended)
    }
  )

const run = (options: Options): Effect.Effect<Outcome> =>
  Effect.scoped(Effect.flatMap(start(options), ({ ended }) => Effect.promise(() => ended)))

/** Until the process has said it, or has ended without. */
const saying = ({ child, ended, said }: Running, pattern: RegExp) =>
  Effect.promise(async () => {
    while (!pattern.test(said())) {
      const over = await Promise.race([once(child.stdout!, "data").then(() => false), ended.then(() => true)])
      if (over) throw new Error(`ended without saying ${pattern}: ${said()}`)
    }
  })

const seed = 7
const requests = 8000

const firstRequests = (cities: ReadonlyArray<CityData.Row>, seed: number) => {
  const stream = RequestStream.make(cities, seed)
  return Array.from({ length: requests }, () => stream.next().value)
}

class WholeRun extends Context.Service<WholeRun, Outcome>()("test/WholeRun") {
  static readonly layer = Layer.effect(
    WholeRun,
    Effect.flatMap(Database, ({ url }) =>
      run({ args: ["--requests", `${requests}`, "--seed", `${seed}`], databaseUrl: url })
    )
  ).pipe(Layer.provide(Database.layerFresh))
}

layer(WholeRun.layer, { timeout: "2 minutes" })("a run of the example", (it) => {
  const matching = (pattern: RegExp) =>
    Effect.map(WholeRun, ({ output }) => {
      assert.match(output, pattern)
      return [...pattern.exec(output)!].slice(1)
    })

  it.effect("ends well, and says nothing on standard error", () =>
    Effect.gen(function* () {
      const { code, errors } = yield* WholeRun
      assert.strictEqual(errors, "")
      assert.strictEqual(code, 0)
    })
  )

  it.effect("answers more than 70 % of its requests from a tier, and some from each", () =>
    Effect.gen(function* () {
      const [hitRate] = yield* matching(/Hit rate (\d+\.\d) %\n +Loads saved: [\d,]+ of 8,000,/)
      assert.isAbove(Number(hitRate), 70)
      const tiers = yield* matching(/all +8,000 +(\d+\.\d) % +(\d+\.\d) % +\d+\.\d % +[\d,]+ +([\d,]+)/)
      for (const number of tiers) assert.isAbove(Number.parseFloat(number), 0)
      yield* matching(/memory +[\d,]+ +[\d.]+ µs +[\d.]+ [µm]?s( +[\d.]+ [µm]?s){3}\n/)
      yield* matching(/store +[\d,]+( +[\d.]+ [µm]?s){5}\n +a miss +[\d,]+( +[\d.]+ [µm]?s){5}\n/)
    })
  )

  it.effect("answers a second cache from PostgreSQL alone", () =>
    matching(/The 1,000 hottest keys in .*: memory 0, store 1,000, source 0\n/)
  )

  it.effect("shows an update at once, in every answer that it touches", () =>
    Effect.gen(function* () {
      const { output } = yield* WholeRun
      const scene = output.slice(output.indexOf("A city gets a new name"))
      const rows = /(?:city by id|northernmost|where it is) {2,}(\S.*?) {2,}(\S.*)\n/g
      const names = [...scene.matchAll(rows)].map(([, before, after]) => [before, after])
      assert.lengthOf(names, 3)
      for (const [before, after] of names) assert.strictEqual(after, `New ${before}`)
    })
  )

  it.effect("answers while the table of the cache is locked, and uses PostgreSQL again afterwards", () =>
    Effect.gen(function* () {
      yield* matching(/PostgreSQL is locked under load, and nobody notices\n(?:.+\n)+ +Locked for 3\.0 s\n/)
      const [requests] = yield* matching(/ +([\d,]+) requests, failed 0, slowest \d/)
      assert.isAbove(Number(requests!.replaceAll(",", "")), 500)
      yield* matching(/left alone after \d.*\n +It was in use again \d.*\n +The answers to [\d,]+ .* agree/)
    })
  )

  it.effect("has compared its answers with the source", () => matching(/Checked \d{3} answers .*: all agree\.\n/))

  it.effect("makes the requests of its seed, which are others for another", () =>
    Effect.gen(function* () {
      const cities = yield* CityData.read
      const made = firstRequests(cities, seed)
      for (const [kind, title] of [
        ["City", "city by id"],
        ["Nearest", "nearest cities"],
        ["Country", "country summary"]
      ]) {
        const count = made.filter(({ _tag }) => _tag === kind).length
        yield* matching(new RegExp(`${title} +${count.toLocaleString("en")} `))
      }
      const keys = made.map(keyOf)
      assert.deepStrictEqual(firstRequests(cities, seed).map(keyOf), keys)
      assert.notDeepEqual(firstRequests(cities, seed + 1).map(keyOf), keys)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("names the origin and the licence of the data", () => matching(/GeoNames \(geonames\.org\), CC BY 4\.0/))
})

describe("the command line of the example", () => {
  it.live("explains itself with --help", () =>
    Effect.gen(function* () {
      const { code, output } = yield* run({ args: ["--help"] })
      assert.strictEqual(code, 0)
      for (const word of ["USAGE", "npm start", "--requests", "--seed", "DATABASE_URL", "CC BY 4.0"]) {
        assert.include(output, word)
      }
    })
  )

  it.live("refuses a number of requests that makes no sense, and says which do", () =>
    Effect.gen(function* () {
      const { code, errors } = yield* run({ args: ["--requests", "0"] })
      assert.strictEqual(code, 1)
      assert.include(errors, "a number from 1 to 1,000,000, not 0")
    })
  )

  it.live("says what is wrong with a database that cannot be reached", () =>
    Effect.gen(function* () {
      const { code, errors } = yield* run({ args: [], databaseUrl: "postgresql://nobody@127.0.0.1:1/nothing" })
      assert.strictEqual(code, 1)
      assert.match(errors, /Failed to connect: .*ECONNREFUSED/)
    })
  )
})

describe("an interrupted run of the example", () => {
  const lockFileIn = (directory: string) => path.join(directory, ".data/postgres/data/postmaster.pid")

  const temporaryDirectory = Effect.acquireRelease(
    Effect.promise(async () => {
      const directory = await fs.mkdtemp(path.join(await fs.realpath(os.tmpdir()), "cities-"))
      await fs.chmod(directory, 0o755)
      return directory
    }),
    (directory) =>
      Effect.promise(async () => {
        if (existsSync(lockFileIn(directory))) {
          process.kill(Number.parseInt(await fs.readFile(lockFileIn(directory), "utf8")), "SIGQUIT")
        }
        await fs.rm(directory, { recursive: true, force: true })
      })
  )

  it.live(
    "stops its server, and the next one finishes what was half loaded",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const lockFile = lockFileIn(directory)

        const first = yield* start({ args: [], directory })
        yield* saying(first, /\d+ % .* cities\n/)
        assert.isTrue(existsSync(lockFile))
        first.child.kill("SIGINT")
        assert.deepInclude(yield* Effect.promise(() => first.ended), { code: 130, errors: "" })
        assert.isFalse(existsSync(lockFile))

        const second = yield* start({ args: ["--requests", "1000000"], directory })
        yield* saying(second, /Memory holds/)
        assert.include(second.said(), "171,075 cities loaded")
        assert.isTrue(existsSync(lockFile))
        second.child.kill("SIGTERM")
        assert.deepInclude(yield* Effect.promise(() => second.ended), { code: 130, errors: "" })
        assert.isFalse(existsSync(lockFile))
      }),
    120_000
  )

  it.live(
    "thaws the server that it froze, also when it is killed",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const lockFile = lockFileIn(directory)
        const args = ["--requests", "2000"]

        const first = yield* start({ args, directory })
        yield* saying(first, /Frozen for 3\.0 s/)
        first.child.kill("SIGINT")
        assert.deepInclude(yield* Effect.promise(() => first.ended), { code: 130, errors: "" })
        assert.isFalse(existsSync(lockFile))

        const second = yield* start({ args, directory })
        yield* saying(second, /Frozen for 3\.0 s/)
        second.child.kill("SIGKILL")
        yield* Effect.promise(() => second.ended)
        assert.isTrue(existsSync(lockFile))

        const third = yield* run({ args, directory })
        assert.deepInclude(third, { code: 0, errors: "" })
        assert.match(third.output, /[\d,]+ requests, failed 0, slowest \d/)
        assert.match(third.output, /memory, stale +[1-9][\d,]* /)
        assert.match(third.output, /It was in use again \d.* after its return\n/)
      }),
    120_000
  )
})

describe("the check of the answers", () => {
  it.effect("finds out an answer that is not the source's", () =>
    Effect.gen(function* () {
      const lyon = new City({ id: 0, name: "Lyon", country: "FR", region: "84", lat: 45.7, lng: 4.8 })
      const asked = (answer: City) => new Map([["city 0", { request: Request.City({ id: 0 }), times: 1, answer }]])
      const source = Layer.mock(Cities, {
        byIds: (ids) => (ids[0] === 0 ? Effect.succeed([lyon]) : new CityNotFound({ id: ids[0]! }))
      })
      const check = (answer: City) => Effect.exit(Scenes.check(asked(answer)).pipe(Effect.provide([source, CacheTest])))
      assert.isTrue(Exit.isSuccess(yield* check(new City(lyon))))
      assert.isTrue(Exit.isFailure(yield* check(new City({ ...lyon, name: "Lugdunum" }))))
    })
  )
})
