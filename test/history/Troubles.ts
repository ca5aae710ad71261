/** What is done to a process and to its connections; and how long it can then not have heard of changes. */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import type { Dice } from "../soak/Dice.ts"
import type { Disturbance } from "./History.ts"
import type { Member } from "./Member.ts"
import type { Line } from "./Proxy.ts"
import { now } from "./Recorder.ts"

export interface Trouble {
  readonly name: string
  /** Ends when it is over, with what it disturbed. */
  readonly happen: Effect.Effect<ReadonlyArray<Disturbance>, unknown>
}

/** The pause before the bus tries again grows to three seconds and a bit, the longer it was cut off. */
export const reconnect = 5_000_000

/** None takes more than `longest`, in milliseconds. */
export const troublesOf = (
  member: Member,
  sql: PgClient.PgClient,
  dice: Dice,
  longest: number
): ReadonlyArray<readonly [weight: number, Trouble]> => {
  const { proxy } = member
  const pause = (low: number, high: number) => Effect.suspend(() => Effect.sleep(dice.between(low, high)))
  /** What happens to the bus; the process may be another one when it is over. */
  const disturbing = (name: Disturbance["name"], after: number, happening: Effect.Effect<unknown, unknown>) =>
    Effect.suspend(() => {
      const [process, from] = [member.life.name, now()]
      return Effect.map(Effect.exit(happening), (): ReadonlyArray<Disturbance> => [
        { process, name, from, to: now() + after }
      ])
    })
  const without = (lines: ReadonlyArray<Line>, wait: Effect.Effect<void>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => lines.forEach(proxy.close)),
      () => wait,
      () => Effect.sync(() => lines.forEach(proxy.open))
    )
  const terminate = (line: Line) =>
    Effect.suspend(() => {
      const backends = proxy.backends(line).filter(() => line === "bus" || dice.chance(0.5))
      return Effect.asVoid(sql`select pg_terminate_backend(pid) from unnest(${backends}::int4[]) pid`)
    })
  const nothing = (happening: Effect.Effect<unknown, unknown>) => Effect.as(happening, [] as ReadonlyArray<Disturbance>)

  return [
    [
      2,
      {
        name: "kill -9, restarted",
        happen: nothing(
          Effect.uninterruptible(
            Effect.gen(function* () {
              member.signal("SIGKILL")
              yield* member.gone
              yield* pause(0, 300)
              yield* member.start
            })
          )
        )
      }
    ],
    [
      3,
      {
        name: "stopped (SIGSTOP)",
        happen: disturbing(
          "stopped",
          0,
          Effect.acquireUseRelease(
            Effect.sync(() => member.signal("SIGSTOP")),
            () => Effect.suspend(() => pause(100, dice.chance(0.15) ? longest : longest / 4)),
            () => Effect.sync(() => member.signal("SIGCONT"))
          )
        )
      }
    ],
    [3, { name: "backends terminated", happen: nothing(terminate("pool")) }],
    [2, { name: "backend of the bus terminated", happen: disturbing("cut off", reconnect, terminate("bus")) }],
    [2, { name: "bus cut off", happen: disturbing("cut off", reconnect, without(["bus"], pause(200, longest))) }],
    [2, { name: "pool cut off", happen: nothing(without(["pool"], pause(50, 800))) }],
    [1, { name: "all cut off", happen: disturbing("cut off", reconnect, without(["bus", "pool"], pause(100, 1500))) }],
    [
      3,
      {
        name: "answers lost",
        happen: nothing(
          Effect.acquireUseRelease(
            Effect.sync(() => proxy.mute("pool")),
            () => pause(20, 300),
            () =>
              Effect.sync(() => {
                proxy.close("pool")
                proxy.open("pool")
              })
          )
        )
      }
    ]
  ]
}
