/**
 * A fresh database on the server of the test run, dropped at the end of its scope.
 *
 * Where the user of `DATABASE_URL` may not create databases it is a fresh schema,
 * first in the search path. Advisory locks and notifications are then shared with
 * the other test files.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Duration, Effect, Layer, Redacted } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

export class Database extends Context.Service<Database, { readonly name: string; readonly url: string }>()(
  "test/Database"
) {
  /** A fresh database, and a client on it. */
  static layer(
    options?: EmbeddedPostgres.ClientOptions
  ): Layer.Layer<Database | PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> {
    return Layer.provideMerge(Database.layerClient(options), Database.layerFresh)
  }

  /** A further client on the database, with a pool of its own: what another process would have. */
  static layerClient(
    options?: EmbeddedPostgres.ClientOptions
  ): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError, Database> {
    return PgClient.layerFrom(
      Effect.flatMap(Database, ({ url }) =>
        // A test may move the clock by hours while the client connects.
        PgClient.make({ connectTimeout: Duration.infinity, ...options, url: Redacted.make(url) })
      )
    )
  }

  /** A fresh database, nothing else. Not memoised: each use makes another one. */
  static get layerFresh(): Layer.Layer<Database, SqlError.SqlError> {
    return Layer.effect(
      Database,
      Effect.suspend(() => acquire(inject("postgresUrl")))
    )
  }

  /** How another process reaches this database. */
  static readonly config = Effect.map(Database, ({ url }) => ({ url }))
}

const acquire = (server: string) => {
  const name = `test_${randomUUID().replaceAll("-", "")}`
  return Effect.acquireRelease(
    run(server, `CREATE DATABASE ${name}`).pipe(
      // A disk that is busy would hold up the tests, and nothing of them is to outlive a crash.
      Effect.andThen(run(server, `ALTER DATABASE ${name} SET synchronous_commit TO off`)),
      Effect.as({ url: withDatabase(server, name), name })
    ),
    () => Effect.orDie(run(server, `DROP DATABASE ${name} WITH (FORCE)`))
  ).pipe(
    Effect.catchIf(isForbidden, () =>
      Effect.acquireRelease(
        Effect.as(run(server, `CREATE SCHEMA ${name}`), { url: withSearchPath(server, name), name }),
        () => Effect.orDie(run(server, `DROP SCHEMA ${name} CASCADE`))
      )
    )
  )
}

const run = (url: string, statement: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: Redacted.make(url) }), (connection) =>
      connection.query(statement, [], false)
    )
  )

const withDatabase = (server: string, name: string) => {
  const url = new URL(server)
  url.pathname = `/${name}`
  url.searchParams.delete("dbname")
  return spelled(url)
}

const withSearchPath = (server: string, name: string) => {
  const url = new URL(server)
  url.searchParams.set("options", `-c search_path=${name}`)
  return spelled(url)
}

/** `psql` takes a plus for a plus. */
const spelled = (url: URL) => {
  url.search = url.search.replaceAll("+", "%20")
  return url.href
}

/** SQLSTATE insufficient_privilege. */
const isForbidden = (error: SqlError.SqlError) =>
  (error.reason.cause as { readonly code?: unknown } | undefined)?.code === "42501"
