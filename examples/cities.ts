/**
 * The world's cities, served from memory, from PostgreSQL and by SQL: `npm start`.
 *
 * `cities/CachedCities.ts` is the cache in use, the thing to copy; `cities/Cities.ts`
 * is the service that it stands before. All else drives them and shows what comes
 * of it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer } from "effect"
import { CliConfig, CliError, Command, Flag, GlobalFlag } from "effect/cli"
import { SqlClient } from "effect/sql"
import { type CacheConfigInput, CacheLive, EmbeddedPostgres } from "effect-tiered-cache"
import { relative } from "node:path"
import { Cities } from "./cities/Cities.ts"
import * as CityData from "./cities/CityData.ts"
import * as Observation from "./cities/Observation.ts"
import * as OutageScene from "./cities/OutageScene.ts"
import * as RequestStream from "./cities/RequestStream.ts"
import * as Scenes from "./cities/Scenes.ts"
import * as Screen from "./cities/Screen.ts"
import * as Traffic from "./cities/Traffic.ts"

const requests = Flag.Int("requests").pipe(
  Flag.withDescription("How many requests the crowd makes (default 40,000)"),
  Flag.withDefault(40_000),
  Flag.filter(
    (requests) => requests >= 1 && requests <= 1_000_000,
    (requests) => `a number from 1 to 1,000,000, not ${requests}`
  )
)

const seed = Flag.Int("seed").pipe(
  Flag.withDescription("Which requests: the same number, the same requests (default 1)"),
  Flag.withDefault(1)
)

const command = Command.make("npm start --", { requests, seed }, ({ requests, seed }) =>
  play(requests, seed).pipe(
    Effect.onInterrupt(() => Console.log("\nStopped.")),
    Effect.catch((error) => new CliError.UserError({ cause: error, userMessage: explain(error) }))
  )
).pipe(
  Command.withDescription(
    `The world's cities behind a cache of two tiers, and a crowd that asks for them.

The database is that of DATABASE_URL (a table geonames_cities and the tables of
the cache are made in it), else one that comes from npm, kept in .data/postgres.

${CityData.licence}`
  ),
  Command.withExamples([
    { command: "npm start", description: "As it is meant" },
    { command: "npm start -- --requests 200000 --seed 7", description: "A larger crowd, with other wishes" }
  ])
)

/** What went wrong, and what was behind it. */
const explain = ({ cause, message }: Error): string => {
  if (!(cause instanceof Error)) return message
  const reason = explain(cause)
  return reason.startsWith(message) ? reason : `${message}: ${reason}`
}

const Database = EmbeddedPostgres.layerFromEnv({ directory: ".data/postgres" })

/** Far less than the crowd asks for; a machine that stalls for a moment shall not count as a store that is away. */
const memoryEntries = 1000
const config: CacheConfigInput = {
  memory: { maxEntries: memoryEntries },
  store: { readTimeout: "10 seconds", writeTimeout: "10 seconds" }
}

/** A cache of its own at each call: without `fresh` a layer is built once, however often it is provided. */
const cache = (config: CacheConfigInput) => Layer.fresh(Observation.layer.pipe(Layer.provide(CacheLive.layer(config))))

const play = (total: number, seed: number) =>
  Effect.gen(function* () {
    yield* Console.log(`${Screen.bold("The world's cities behind a cache of two tiers")}\n${CityData.licence}\n`)
    yield* scenes(total, seed).pipe(Effect.provide(Cities.layer), Effect.provide(Database))
  })

const scenes = Effect.fnUntraced(function* (total: number, seed: number) {
  yield* Console.log(`PostgreSQL ${yield* server}`)
  const cities = yield* CityData.read
  const isNew = yield* CityData.load(cities, Screen.progress("cities", cities.length))
  yield* Console.log(`${Screen.count(cities.length)} cities ${isNew ? "loaded" : "already loaded"}`)

  yield* Effect.gen(function* () {
    yield* Screen.heading(
      "A crowd asks",
      `Requests by chance (seed ${seed}), few of them often and most of them rarely.`,
      `Memory holds ${Screen.count(memoryEntries)} entries; what it has no place for is left to PostgreSQL.`
    )
    const asked = yield* Traffic.drive(RequestStream.make(cities, seed), total)

    yield* Screen.heading("A second cache starts", "Its memory is empty, its PostgreSQL is the same.")
    yield* Effect.provide(Scenes.restart(asked), cache(config))

    yield* Screen.heading(
      "A city gets a new name",
      "The update and the invalidation of what it touches are one transaction."
    )
    yield* Scenes.update(asked, cities)

    yield* OutageScene.play(asked).pipe(Effect.provide(cache(OutageScene.config)), Effect.provide(Screen.log))

    yield* Console.log("")
    yield* Scenes.check(asked)
  }).pipe(Effect.provide(cache(config)))
})

/** Its version; where its data is, is for its administrators to know. */
const server = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [settings] = yield* sql<{ version: string; data: string | null }>`
    select
      current_setting('server_version') as version,
      case when pg_has_role('pg_read_all_settings', 'member') then current_setting('data_directory') end as data
  `
  const { data, version } = settings!
  if (data === null) return version
  const fromHere = relative("", data)
  return `${version}, its data in ${fromHere.startsWith("..") ? data : fromHere}`
})

Command.run(command, { version: "0.1.0" }).pipe(
  Effect.provide(CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
