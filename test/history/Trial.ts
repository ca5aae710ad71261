/**
 * Some processes with caches on one database, and visitors who do with them whatever
 * can be done (`Visitor`), while they are killed, stopped and cut off (`Troubles`).
 * Everybody writes down what happened to them (`Recorder`); afterwards it is looked
 * whether any read was given what it must not be (`Verdict`).
 *
 * Chance decides by a seed what is done and what goes wrong; in what order things then
 * happen is the machine's affair.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { PgMigrations } from "effect-tiered-cache"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { CacheConfigInput } from "../../src/CacheConfig.ts"
import { Dice } from "../soak/Dice.ts"
import { type Disturbance, fromNotes, type History } from "./History.ts"
import * as Member from "./Member.ts"
import { now, read } from "./Recorder.ts"
import * as Source from "./Source.ts"
import { reconnect, troublesOf } from "./Troubles.ts"
import { type Bounds, judge, type Verdict } from "./Verdict.ts"

export interface Options {
  /** Of a database that nobody else uses. */
  readonly url: string
  readonly seed: number
  /** How long the visitors stay, in milliseconds. */
  readonly duration: number
  readonly processes: number
  /** How many visitors each process has. Default 8. */
  readonly visitors?: number
  /** What else happens now and then, to all of them. */
  readonly onServer?: ReadonlyArray<{
    readonly name: string
    readonly during: (milliseconds: number) => Effect.Effect<void, unknown>
  }>
  readonly onTrouble?: (name: string, at: number) => Effect.Effect<void>
}

export interface Outcome {
  readonly history: History
  readonly verdict: Verdict
  /** By name, how often. */
  readonly troubles: ReadonlyMap<string, number>
  /** What the processes logged. */
  readonly log: ReadonlyArray<string>
}

export const bounds: Bounds = { busDelay: 3_000_000, memoryLife: (Source.memoryLife + 3000) * 1000 }

const config: CacheConfigInput = { store: { sweepInterval: "1 second" } }

export const run = (options: Options): Effect.Effect<Outcome, unknown> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { duration, onServer = [], onTrouble = () => Effect.void, processes, seed, url, visitors = 8 } = options
      const dice = new Dice(seed)
      const sql = Context.get(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2, connectTimeout: "2 seconds" })),
        PgClient.PgClient
      )
      yield* Effect.provideService(Effect.andThen(PgMigrations.run, Source.create), PgClient.PgClient, sql)
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "history-"))),
        (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
      )
      const members = yield* Effect.forEach(
        Array.from({ length: processes }, (_, index) => index),
        (index) => Member.make(index, { url, directory, visitors, config }, new Dice(dice.below(2 ** 31))),
        { concurrency: processes }
      )

      const troubles = new Map<string, number>()
      const disturbances: Array<Disturbance> = []
      const startedAt = performance.now()
      const happened = (name: string) => {
        troubles.set(name, (troubles.get(name) ?? 0) + 1)
        return onTrouble(name, performance.now() - startedAt)
      }
      const isOver = () => performance.now() - startedAt >= duration
      const troubled = Effect.forEach(
        members,
        (member) => {
          const own = new Dice(dice.below(2 ** 31))
          const all = troublesOf(member, sql, own, Math.min(duration / 3, 8000))
          return Effect.suspend(() => {
            const trouble = own.weighted(all)
            return Effect.sleep(own.between(500, 4000)).pipe(
              Effect.andThen(Effect.suspend(() => (isOver() ? Effect.void : happened(trouble.name)))),
              Effect.andThen(Effect.suspend(() => (isOver() ? Effect.succeed([]) : trouble.happen))),
              Effect.tap((disturbed) => Effect.sync(() => disturbances.push(...disturbed))),
              Effect.ignore
            )
          }).pipe(Effect.repeat({ until: isOver }))
        },
        { concurrency: processes, discard: true }
      )
      const shaken = Effect.suspend(() => {
        const trouble = dice.pick(onServer)
        return Effect.gen(function* () {
          yield* Effect.sleep(dice.between(5000, 15_000))
          if (isOver()) return
          yield* happened(`server ${trouble.name}`)
          const from = now()
          yield* Effect.ignore(trouble.during(dice.between(200, 2000)))
          const to = now() + reconnect
          for (const { lives } of members) {
            for (const { name: process } of lives) disturbances.push({ process, name: "cut off", from, to })
          }
        })
      }).pipe(Effect.repeat({ until: isOver }))
      const shaking = yield* Effect.forkChild(onServer.length === 0 ? Effect.void : shaken)
      const troubling = yield* Effect.forkChild(troubled)
      yield* Effect.sleep(duration)
      yield* Fiber.join(troubling)
      yield* Fiber.join(shaking)
      yield* Effect.forEach(members, ({ end }) => end, { concurrency: processes })

      const notes = members.flatMap(({ lives }) => lives.flatMap(({ file }) => (fs.existsSync(file) ? read(file) : [])))
      const committed = yield* Effect.provideService(Source.committed, PgClient.PgClient, sql).pipe(
        Effect.retry({ schedule: Schedule.spaced("300 millis"), times: 20 })
      )
      const { operations, transactions, disturbances: slow } = fromNotes(notes, committed)
      const history = { operations, transactions, disturbances: [...slow, ...disturbances] }
      return {
        history,
        verdict: judge(history, bounds),
        troubles,
        log: members.flatMap(({ lives }) => lives.flatMap(({ log }) => log.join("").split("\n")))
      }
    })
  )
