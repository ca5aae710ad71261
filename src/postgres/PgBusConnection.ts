/**
 * The connection of the bus: one of its own beside the pool, so that neither waits for
 * the other, where the client's are or, past a pooler, where a URL leads.
 *
 * It must lead to the client's own log. In another database, or another schema, there
 * may be such a log too, with never anything new in it: so that is checked, where
 * there is a URL, each time that it connects.
 *
 * @since 0.1.0
 */
import { type PgClient, PgConnection } from "@effect/sql-pg"
import { Duration, Effect, Exit, Fiber, type Queue, type Redacted, Scope } from "effect"
import type { SqlError } from "effect/sql"

/**
 * Where to connect to, and whether to listen there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly client: PgClient.PgClient
  readonly listen: boolean
  readonly url: Redacted.Redacted | undefined
}

/**
 * A connection, and what is heard on it if it listens.
 *
 * @category models
 * @since 0.1.0
 */
export interface BusConnection {
  readonly connection: PgConnection.PgConnection
  readonly rings: Queue.Dequeue<PgConnection.Notification, SqlError.SqlError> | undefined
}

/**
 * The channel of all caches of one database.
 *
 * @category constants
 * @since 0.1.0
 */
export const channel = "effect_tiered_cache"

/**
 * Connects; listens before it returns. The connection closes before what is on it,
 * because a dead server would let neither end.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open: (options: Options) => Effect.Effect<BusConnection, SqlError.SqlError | Error, Scope.Scope> =
  Effect.fnUntraced(function* (options) {
    const wire = yield* Effect.acquireRelease(Scope.make(), (wire) => Scope.close(wire, Exit.void))
    const connection = yield* PgConnection.make(configOf(options)).pipe(
      Scope.provide(wire),
      Effect.flatMap(({ pin }) => pin)
    )
    const rings = options.listen ? yield* inTime(connection.listen(channel)) : undefined
    yield* Effect.addFinalizer(() => Scope.close(wire, Exit.void))
    if (options.url !== undefined) yield* checkLog(options.client, connection)
    return { connection, rings }
  })

/**
 * Fails if the database takes longer than one would wait.
 *
 * @category combinators
 * @since 0.1.0
 */
export const inTime = <A, E, R>(asked: Effect.Effect<A, E, R>): Effect.Effect<A, E | Error, R> =>
  Effect.timeoutOrElse(asked, {
    duration: patience,
    orElse: () => Effect.fail(new Error(`the database did not answer within ${Duration.format(patience)}`))
  })

/**
 * The answer to what is asked on a connection. A server that hangs does not answer to an
 * interruption either: nobody waits for it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const answerOf = <A, E, R>(asked: Effect.Effect<A, E, R>): Effect.Effect<A, E | Error, R> =>
  Effect.gen(function* () {
    const asking = yield* Effect.forkDetach(Effect.exit(asked))
    return yield* yield* inTime(Fiber.join(asking))
  })

const patience = Duration.seconds(5)

/** What a URL cannot say is as in the client. */
const configOf = ({ client: { config }, url }: Options): PgConnection.Config => ({
  ...config,
  ...(url !== undefined && {
    url,
    host: undefined,
    port: undefined,
    path: undefined,
    stream: undefined,
    ssl: typeof config.ssl === "object" ? config.ssl : undefined,
    database: undefined,
    username: undefined,
    password: Effect.isEffect(config.password) ? config.password : undefined,
    startupOptions: undefined
  }),
  multiplex: false,
  applicationName: "effect-tiered-cache bus"
})

const checkLog = Effect.fnUntraced(function* (client: PgClient.PgClient, connection: PgConnection.PgConnection) {
  const [known] = yield* inTime(client.unsafe<{ log: string }>(whichLog))
  const { rows } = yield* answerOf(connection.query(whichLog))
  if (known!.log !== rows[0]!["log"]) {
    yield* Effect.fail(new Error("the URL of the bus leads to another database or another schema than the client's"))
  }
})

const whichLog = `
  select concat_ws(
    ' ',
    date_part('epoch', pg_postmaster_start_time()),
    (select oid from pg_database where datname = current_database()),
    'cache_log'::regclass::oid
  ) as log
`
