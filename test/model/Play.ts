/**
 * Plays a scenario on caches and holds each answer against the `Reference`.
 * What is wrong is thrown, with all that was done and that happened.
 */
import { Cause, Effect, Exit, type Fiber } from "effect"
import type { CacheStats } from "../../src/CacheStats.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import type { GetOrSetOptions, SetOptions } from "../../src/Operations.ts"
import { type Command, type Key, nameOf, type Operation, type Read, type Scenario, show, spaces } from "./Command.ts"
import { type Answer, type Load, type LoadFailure, Reference, type Running } from "./Reference.ts"
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
      fenceLifetime: stage.store.fenceLifetime
    })
    this.world = new World({
      stepper,
      store: stage.store,
      answersAtOnce: stage.answersAtOnce,
      nodes: scenario.nodes,
      bus: scenario.bus,
      config: { policy: { memoryTimeToLive: "20 minutes" } },
      maxEntries: 3,
      observer: {
        stored: (rows) => this.judge(() => this.reference.stored(rows)),
        refused: (rows) => {
          for (const { key } of rows) this.world.log.push(`    refused: ${key}`)
        },
        called: ({ id }) => {
          this.reference.operations[id]!.calls++
        },
        answered: ({ id }) => {
          this.reference.operations[id]!.calls--
        }
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
      yield* this.settle
      while (this.world.held.length > 0) {
        this.world.held[0]!.release()
        yield* this.settle
      }
      this.checkNodes()
      for (const running of this.reference.running) this.fail(`operation ${running.id} never ends`)
      if (this.world.underway > 0) this.fail("something is left under way")
      yield* this.checkAgreement
      this.checkStats()
      this.world.close()
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
        return this.settle.pipe(
          Effect.andThen(Effect.sync(() => this.stepper.advance(command.millis))),
          Effect.andThen(this.settle),
          Effect.andThen(this.stage.advance(command.millis))
        )
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
    const options = optionsOf(read)
    const [key] = keys
    const one = keys.length === 1 && key !== undefined
    if (read.loader === "none") {
      if (!one) return cache.getMany(namespace, keys, options)
      return running.id % 2 === 0 && this.scenario.bus
        ? Effect.map(cache.get(namespace, key, options), (value) => [value])
        : Effect.map(cache.getEntry(namespace, key, options), (entry) => [entry])
    }
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
        if (load !== undefined) this.reference.endLoad(load, exit)
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
          const inStore = row._tag === "Row" ? (JSON.parse(row.data) as string) : undefined
          for (const [node, { memory }] of this.world.nodes.entries()) {
            const id = namespace.keys.identify(key)!
            const inMemory = memory.partition<string>(namespace.name).get(id, this.stepper.now)?.value
            if (inMemory === undefined) continue
            const name = JSON.stringify([namespace.name, key])
            this.judge(() => this.reference.judgeMemory(name, inMemory, inStore), `node ${node} in the end`)
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
    const { bus, fine, nodes, seed } = this.scenario
    throw new Error(
      [
        problem,
        `${nodes} nodes${bus ? "" : " that hear nothing"}, ${fine ? "fine" : "coarse"} steps, seed ${seed}`,
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

const optionsOf = ({ force, keep, skip, timeToLive }: Read): GetOrSetOptions | undefined =>
  !force && keep && skip.length === 0 && timeToLive === undefined
    ? undefined
    : { force, skip, store: keep, ...(timeToLive === undefined ? {} : { timeToLive }) }

const showExit = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? JSON.stringify(exit.value) : Cause.pretty(exit.cause).split("\n", 1)[0]!
