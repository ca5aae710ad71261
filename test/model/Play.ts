/**
 * Plays a scenario on caches and holds each answer against the `Reference`.
 * What is wrong is thrown, with all that was done and that happened.
 */
import { Cause, Effect, Exit, type Fiber } from "effect"
import type { CacheStats } from "../../src/CacheStats.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import type { GetOrSetOptions, SetOptions } from "../../src/Operations.ts"
import {
  type Command,
  type Key,
  type LoadFailure,
  memoryTimeToLive,
  nameOf,
  type Operation,
  type Read,
  type Scenario,
  show,
  spaces,
  withoutLoader
} from "./Command.ts"
import { fallbackOf, type Load, type Running } from "./History.ts"
import { type Answer, Reference } from "./Reference.ts"
import { Stepper } from "./Stepper.ts"
import { World } from "./World.ts"

/** The store that a scenario is played on, empty at the start. */
export interface Stage {
  readonly store: CacheStore["Service"]
  /** Whether the store answers without waiting for anything, so that a test can stop in between. */
  readonly answersAtOnce: boolean
  /** Waits for something to happen outside of the scheduler. */
  readonly wait: Effect.Effect<void>
  /** Moves the store's clock, if it is not the stepper's. */
  readonly advance: (millis: number) => Effect.Effect<void>
}

export const play = (scenario: Scenario, stageFor: (stepper: Stepper) => Effect.Effect<Stage>): Effect.Effect<void> => {
  const stepper = new Stepper(scenario)
  return Effect.flatMap(stageFor(stepper), (stage) => new Play(scenario, stepper, stage).all)
}

type Fork = Fiber.Fiber<Answer, unknown>

class Play {
  readonly scenario: Scenario
  readonly stepper: Stepper
  readonly stage: Stage
  readonly reference: Reference
  readonly world: World
  readonly forks = new Map<Running, Fork>()
  problem: string | undefined

  constructor(scenario: Scenario, stepper: Stepper, stage: Stage) {
    this.scenario = scenario
    this.stepper = stepper
    this.stage = stage
    this.reference = new Reference({
      now: () => stepper.now,
      nodes: scenario.nodes,
      bus: scenario.bus,
      fenceLifetime: stage.store.fenceLifetime,
      isBusy: (space) => this.world.isBusy(spaces[space]!.namespace.name),
      isToChange: (key) => {
        const [namespace, part] = JSON.parse(key) as [string, Key]
        return this.world.retrying > 0 || this.world.isPending(namespace, String(part))
      }
    })
    this.world = new World({
      stepper,
      store: stage.store,
      answersAtOnce: stage.answersAtOnce,
      nodes: scenario.nodes,
      bus: scenario.bus,
      // The breaker would keep those from the store who have a right to what it holds.
      config: { policy: { memoryTimeToLive }, store: { breakerFailures: 1_000_000 } },
      maxEntries: 3,
      slowRetries: scenario.slowRetries,
      observer: {
        stored: (namespace, rows) => this.judge(() => this.reference.stored(namespace, rows)),
        refused: (rows) => {
          for (const { key } of rows) this.world.log.push(`    refused: ${key}`)
        },
        called: ({ id }) => {
          this.reference.operations[id]!.asked = true
          this.reference.operations[id]!.calls++
        },
        answered: ({ id }) => {
          this.reference.operations[id]!.calls--
        },
        failed: ({ id }) => {
          this.reference.operations[id]!.failures++
        },
        announced: (invalidation) => this.reference.announced(invalidation)
      }
    })
  }

  get all(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (const command of this.scenario.commands) {
        this.world.log.push(show(command))
        yield* this.perform(command)
        this.checkNodes()
      }
      this.world.log.push("everything goes on")
      yield* this.goOn
      this.checkNodes()
      for (const running of this.reference.running) this.fail(`operation ${running.id} never ends`)
      if (this.world.underway > 0) this.fail("something is left under way")
      yield* this.checkAgreement
      this.reference.settled()
      yield* this.readAll
      this.checkStats()
      this.world.close()
    })
  }

  /** Nothing is lost any more, and who waits to tell the store once more gets to it. */
  get goOn(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      yield* this.settle
      for (let retries = 0; retries < 10; retries++) {
        while (this.world.held.length > 0) {
          this.world.held[0]!.release()
          yield* this.settle
        }
        const { nextWake } = this.stepper
        if (nextWake === undefined) return
        yield* this.advance(nextWake - this.stepper.now)
      }
    })
  }

  /** What has been touched is asked for once more, on every node, with a loader or stale or not. */
  get readAll(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      this.world.log.push("everything is read")
      const loader = this.scenario.commands.length % 2 === 0 ? "now" : "none"
      const touched = new Set(this.reference.operations.map(({ operation }) => operation.space))
      for (let node = 0; node < this.scenario.nodes; node++) {
        for (const space of touched) this.start({ ...lastRead, node, space, loader })
      }
      yield* this.goOn
      this.checkNodes()
      for (const running of this.reference.running) this.fail(`operation ${running.id} never ends`)
    })
  }

  /** Moves all clocks, stopping wherever somebody wakes up. */
  advance(millis: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      yield* this.settle
      const end = this.stepper.now + millis
      while (this.stepper.now < end) {
        const step = Math.min(end, this.stepper.nextWake ?? end) - this.stepper.now
        yield* this.stage.advance(step)
        this.stepper.advance(step)
        yield* this.settle
      }
    })
  }

  perform(command: Command): Effect.Effect<void> {
    const { held } = this.world
    switch (command._tag) {
      case "Deliver":
        held[command.index % held.length]?.release()
        return this.settle
      case "Lose":
        held[command.index % held.length]?.lose?.()
        return this.settle
      case "Interrupt":
        return this.interrupt(command.index)
      case "Step":
        this.step(command.count)
        return this.stage.answersAtOnce ? Effect.void : this.settle
      case "Advance":
        return this.advance(command.millis)
      case "Sweep":
        return Effect.asVoid(Effect.orDie(this.stage.store.sweep(command.limit)))
      case "RemoveExpired":
        this.nodeOf(command).memory.removeExpired(this.stepper.now)
        return Effect.void
      default:
        this.start({ ...command, node: command.node % this.scenario.nodes })
        if (command.steps === undefined || !this.stage.answersAtOnce) return this.settle
        this.step(command.steps)
        return Effect.void
    }
  }

  start(operation: Operation): void {
    const running = this.reference.begin(operation)
    this.world.log.push(`    operation ${running.id} begins`)
    const fork = this.world.fork(this.effectOf(running), { id: running.id, slow: operation.slow })
    this.forks.set(running, fork)
    fork.addObserver((exit) => {
      this.forks.delete(running)
      this.world.log.push(`    operation ${running.id} ends: ${showExit(exit)}`)
      this.judge(() => this.reference.end(running, exit), `operation ${running.id}`)
    })
  }

  effectOf(running: Running): Effect.Effect<Answer, unknown> {
    const { operation } = running
    const { cache } = this.nodeOf(operation)
    const { keys: allKeys, namespace } = spaces[operation.space]!
    const keys = operation.keys.map((key) => allKeys[key]!)
    switch (operation._tag) {
      case "Read":
        return this.readOf(running, operation, keys)
      case "Set": {
        const options: SetOptions | undefined =
          operation.timeToLive === undefined ? undefined : { timeToLive: operation.timeToLive }
        const entries = keys.map((key, index) => {
          return [key, running.values.get(nameOf(operation.space, operation.keys[index]!))!.text] as const
        })
        const [[key, value] = entries[0]!] = entries
        return entries.length === 1
          ? cache.set(namespace, key, value, options)
          : cache.setMany(namespace, entries, options)
      }
      case "Invalidate":
        return keys.length === 1
          ? Effect.map(cache.invalidate(namespace, keys[0]!), (wasThere) => [wasThere])
          : cache.invalidateMany(namespace, keys)
      case "Clear":
        return cache.clear(namespace)
      case "ClearAll":
        return cache.clearAll
    }
  }

  /** One key alone is read now as a value, now as an entry, which says where it is from. */
  readOf(running: Running, read: Read, keys: ReadonlyArray<Key>): Effect.Effect<Answer, unknown> {
    const { cache } = this.nodeOf(read)
    const { namespace } = spaces[read.space]!
    const [key] = keys
    const one = keys.length === 1 && key !== undefined
    if (read.loader === "none") {
      const options = { skip: read.skip, stale: read.stale }
      if (!one) return cache.getMany(namespace, keys, options)
      return running.id % 2 === 0 && this.scenario.bus
        ? Effect.map(cache.get(namespace, key, options), (value) => [value])
        : Effect.map(cache.getEntry(namespace, key, options), (entry) => [entry])
    }
    const options = optionsOf(running, read)
    const load = (keys: ReadonlyArray<Key>) => this.load(running, read, keys)
    if (!one) return cache.getOrSetMany(namespace, keys, load, options)
    const loadOne = Effect.map(
      Effect.suspend(() => load([key])),
      ([value]) => value!
    )
    return running.id % 2 === 0 && this.scenario.bus
      ? Effect.map(cache.getOrSet(namespace, key, loadOne, options), (value) => [value])
      : Effect.map(cache.getOrSetEntry(namespace, key, loadOne, options), (entry) => [entry])
  }

  load(running: Running, read: Read, keys: ReadonlyArray<Key>): Effect.Effect<ReadonlyArray<string>, LoadFailure> {
    const names = keys.map((key) => JSON.stringify([spaces[read.space]!.namespace.name, key]))
    let load: Load | undefined
    const loading = Effect.suspend(() => {
      load = this.judge(() => this.reference.beginLoad(running, names), `operation ${running.id}`)
      if (load === undefined) return Effect.die("not to be loaded")
      this.world.log.push(`    operation ${running.id} loads ${names.join(" ")}`)
      const outcome = outcomeOf(read, load)
      return read.loader === "now"
        ? outcome
        : Effect.andThen(Effect.orDie(this.world.hold(`load of ${names.join(" ")}`, true)), outcome)
    })
    return Effect.onExit(loading, (exit) =>
      Effect.sync(() => {
        const ended = load
        if (ended !== undefined) this.judge(() => this.reference.endLoad(ended, exit), `operation ${running.id}`)
      })
    )
  }

  interrupt(index: number): Effect.Effect<void> {
    const running = [...this.forks]
    const chosen = running[index % running.length]
    if (chosen === undefined) return Effect.void
    const [operation, fork] = chosen
    this.world.log.push(`    operation ${operation.id} is interrupted`)
    operation.interrupted = true
    fork.interruptUnsafe()
    return Effect.map(this.settle, () => {
      if (this.forks.has(operation)) this.fail(`operation ${operation.id} does not end when it is interrupted`)
    })
  }

  step(count: number): void {
    this.stepper.step(count)
  }

  /** Until everything waits for the test. */
  get settle(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.step(Infinity)
      return this.world.answering === 0 ? Effect.void : Effect.andThen(this.stage.wait, this.settle)
    })
  }

  nodeOf({ node }: { readonly node: number }) {
    return this.world.nodes[node % this.scenario.nodes]!
  }

  checkNodes(): void {
    if (this.stepper.isIdle) this.judge(() => this.reference.judgeLoads())
    for (const [node, { memory }] of this.world.nodes.entries()) {
      this.judge(() => memory.checkInvariants(), `node ${node}`)
    }
    if (this.problem !== undefined) this.fail(this.problem)
  }

  /** Memory holds what the store holds, or nothing. */
  get checkAgreement(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (const { keys, namespace } of spaces) {
        const rows = yield* Effect.orDie(this.stage.store.read(namespace.name, keys.map(String)))
        for (const [index, key] of keys.entries()) {
          const row = rows[index]!
          const inStore = row._tag === "Row" && !row.isFailure ? (JSON.parse(row.data) as string) : undefined
          for (const [node, { memory }] of this.world.nodes.entries()) {
            const id = namespace.keys.identify(key)!
            const held = memory.partition<string>(namespace.name).get(id, this.stepper.now)
            // What memory would not answer with before it has asked the store may differ.
            if (held === undefined || held.details.failure !== undefined) continue
            if (this.stepper.now >= Math.min(held.freshUntil, held.vouchedUntil)) continue
            const name = JSON.stringify([namespace.name, key])
            this.judge(() => this.reference.judgeMemory(name, held.value, inStore), `node ${node} in the end`)
          }
        }
      }
      if (this.problem !== undefined) this.fail(this.problem)
    })
  }

  checkStats(): void {
    // Between a count and what it counts there are steps at which one can be interrupted.
    const exact =
      !this.scenario.fine &&
      this.scenario.commands.every((command) => !("steps" in command) || command.steps === undefined)
    for (const node of this.world.nodes.keys()) {
      for (const [index, space] of spaces.entries()) {
        const stats = this.statsOf(node, space)
        const fail = (what: string) =>
          this.fail(`node ${node} counts ${what} in ${space.namespace.name}: ${JSON.stringify(stats)}`)
        const { loadFailure, loadInterrupted, loadSuccess, loads, memory, store } = stats
        if (memory.requests !== memory.hits + memory.misses) fail("memory lookups")
        if (store.requests !== store.hits + store.misses) fail("store lookups")
        if (loads !== loadSuccess + loadFailure + loadInterrupted) fail("loads")
        if (!exact) continue
        const expected = this.reference.statsOf((operation) => operation.node === node && operation.space === index)
        for (const [counter, count] of Object.entries(expected)) {
          const counted = { ...stats, memoryRequests: stats.memory.requests }[counter]
          if (counted !== count) fail(`${counter}, should be ${count}`)
        }
      }
    }
  }

  statsOf(node: number, { namespace }: (typeof spaces)[number]): CacheStats {
    const exit = this.world.run(this.world.nodes[node]!.cache.statsOf(namespace))
    return Exit.isSuccess(exit) ? exit.value : this.fail(`no stats: ${exit}`)
  }

  /** What goes wrong inside of an effect is told when the command is done. */
  judge<A>(of: () => A, about = "the store"): A | undefined {
    try {
      return of()
    } catch (error) {
      this.problem ??= `${about}: ${error instanceof Error ? error.message : error}`
      return undefined
    }
  }

  fail(problem: string): never {
    const { bus, fine, nodes, seed, slowRetries } = this.scenario
    throw new Error(
      [
        problem,
        `${nodes} nodes${bus ? "" : " that hear nothing"}, ${fine ? "fine" : "coarse"} steps, ${slowRetries ? "slow retries, " : ""}seed ${seed}`,
        ...this.world.log
      ].join("\n")
    )
  }
}

const outcomeOf = (read: Read, { failure, keys, source }: Load): Effect.Effect<ReadonlyArray<string>, LoadFailure> => {
  switch (read.outcome) {
    case "value":
      return Effect.succeed(keys.map((key) => source.values.get(key)!.text))
    case "failure":
      return Effect.fail(failure)
    case "defect":
      return Effect.die(failure)
    case "interruption":
      return Effect.interrupt
  }
}

const optionsOf = (
  running: Running,
  { fallback, force, keep, skip, staleOn, timeToLive }: Read
): GetOrSetOptions<string, LoadFailure> | undefined =>
  !force && !fallback && keep && skip.length === 0 && staleOn === undefined && timeToLive === undefined
    ? undefined
    : {
        force,
        skip,
        store: keep,
        ...(timeToLive === undefined ? {} : { timeToLive }),
        ...(staleOn === undefined ? {} : { staleOn: () => staleOn }),
        ...(fallback ? { fallback: () => fallbackOf(running) } : {})
      }

const lastRead: Omit<Read, "node" | "space" | "loader"> = {
  ...withoutLoader,
  _tag: "Read",
  keys: [0, 1],
  slow: false,
  outcome: "value",
  skip: [],
  stale: true
}

const showExit = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? JSON.stringify(exit.value) : Cause.pretty(exit.cause).split("\n", 1)[0]!
