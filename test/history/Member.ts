/** One of the processes of a trial, behind a proxy of its own, in its lives one after the other. */
import { Effect, type Scope } from "effect"
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { CacheConfigInput } from "../../src/CacheConfig.ts"
import type { Dice } from "../soak/Dice.ts"
import * as Proxy from "./Proxy.ts"
import type { Setup } from "./childVisitors.ts"

export interface Options {
  readonly url: string
  /** Where notes go. */
  readonly directory: string
  readonly visitors: number
  readonly config: CacheConfigInput
}

export class Member {
  readonly proxy: Proxy.Proxy
  readonly #index: number
  readonly #options: Options
  readonly #dice: Dice
  readonly lives: Array<Life> = []

  constructor(proxy: Proxy.Proxy, index: number, options: Options, dice: Dice) {
    this.proxy = proxy
    this.#index = index
    this.#options = options
    this.#dice = dice
  }

  get life(): Life {
    return this.lives.at(-1)!
  }

  /** Ends when it has a cache; what it tries while the server is away fails, and is tried again. */
  readonly start: Effect.Effect<void> = Effect.suspend(() => {
    const { config, directory, visitors } = this.#options
    const name = `${this.#index}.${this.lives.length}`
    const file = path.join(directory, name)
    const setup: Setup = {
      url: this.proxy.url,
      process: name,
      file,
      seed: this.#dice.below(2 ** 31),
      visitors,
      config
    }
    const child = spawn(process.execPath, ["--import", "tsx", program, JSON.stringify(setup)], { cwd: root })
    const life: Life = { name, file, child, log: [], ended: false }
    child.stderr.setEncoding("utf8").on("data", (text: string) => life.log.push(text))
    child.stdin.on("error", () => {})
    this.lives.push(life)
    return Effect.callback<boolean>((resume) => {
      child.stdout.once("data", () => resume(Effect.succeed(true)))
      child.once("exit", () => {
        life.ended = true
        resume(Effect.succeed(false))
      })
    })
  }).pipe(
    Effect.tap((isReady) => (isReady ? Effect.void : Effect.sleep("300 millis"))),
    Effect.repeat({ until: (isReady) => isReady, times: 20 }),
    Effect.asVoid
  )

  signal(name: NodeJS.Signals): void {
    this.life.child.kill(name)
  }

  /** Ends when the process has. */
  readonly gone: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.life.ended) resume(Effect.void)
    else this.life.child.once("exit", () => resume(Effect.void))
  })

  /** Has it leave off, and kills it if that takes too long. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.life.child.stdin.end()
    return Effect.timeoutOption(this.gone, "15 seconds")
  }).pipe(Effect.andThen(Effect.sync(() => this.signal("SIGKILL"))))
}

export interface Life {
  readonly name: string
  readonly file: string
  readonly child: ChildProcessWithoutNullStreams
  /** What it logged. */
  readonly log: Array<string>
  ended: boolean
}

const root = fileURLToPath(new URL("../../", import.meta.url))
const program = fileURLToPath(new URL("childVisitors.ts", import.meta.url))

export const make = (index: number, options: Options, dice: Dice): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function* () {
    const proxy = yield* Proxy.make(options.url)
    const member = yield* Effect.acquireRelease(
      Effect.sync(() => new Member(proxy, index, options, dice)),
      (member) =>
        Effect.sync(() => {
          for (const { child } of member.lives) child.kill("SIGKILL")
        })
    )
    yield* member.start
    return member
  })
