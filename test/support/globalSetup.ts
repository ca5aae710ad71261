/**
 * One PostgreSQL server for the whole run: that of `DATABASE_URL`, else an embedded
 * one in a temporary directory, both gone afterwards, even if the run is killed.
 */
import { Effect, Exit, Scope } from "effect"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import * as EmbeddedPostgres from "../../src/postgres/EmbeddedPostgres.ts"

declare module "vitest" {
  interface ProvidedContext {
    readonly postgresUrl: string
  }
}

export default async (project: TestProject) => {
  const url = process.env["DATABASE_URL"]
  if (url !== undefined && url !== "") return project.provide("postgresUrl", url)

  const scope = Scope.makeUnsafe()
  const stop = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const server = await Effect.runPromise(Scope.provide(temporaryServer, scope)).catch(async (error) => {
    await stop()
    throw error
  })
  project.provide("postgresUrl", server.url)
  return stop
}

const temporaryServer = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "effect-tiered-cache-"))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )
  yield* guard(directory)
  return yield* EmbeddedPostgres.server({ directory })
})

/** A process that outlives this one: it ends the server once this one's end of the pipe is closed. */
const guard = (directory: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn("sh", ["-c", endServer, directory], { stdio: ["pipe", "ignore", "ignore"], detached: true })
    ),
    (child) => Effect.sync(() => child.stdin.end())
  )

const endServer = `
  read -r _
  if pid=$(head -n 1 "$0/data/postmaster.pid") && kill -QUIT "$pid"; then
    while [ -e "$0/data/postmaster.pid" ]; do sleep 0.1; done
  fi
  rm -rf "$0"
`
