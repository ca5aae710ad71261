/**
 * Plays a scenario on caches and holds each answer against the `Reference`.
 * What is wrong is thrown, with all that was done and that happened.
 */
import { Cause, Effect, Exit, type Fiber } from "effect"
import type { CacheStats } from "../../src/CacheStats.ts"
import type { CacheStore } from "../../src/CacheStore.ts"
import { callOf, type Surroundings } from "./Calls.ts"
import { type Command, type Operation, type Read, type Scenario, show, withoutLoader } from "./Command.ts"
import { judgeMemory, statsOf } from "./End.ts"
import { nameIn, type Running, type Transacting } from "./History.ts"
import { type Answer, Reference } from "./Reference.ts"
import { type Key, memoryTimeToLive, spaces } from "./Spaces.ts"
import { Stepper } from "./Stepper.ts"
import { type Transactions, transact } from "./Transaction.ts"
import { type Node, World } from "./World.ts"

/** The store that a scenario is played on, empty at the start. */
export interface Stage {
  readonly store: CacheStore["Service"]
  /** Whether the store answers without waiting for anything, so that a test can stop in between. */
  readonly answersAtOnce: boolean
  /** Waits for something to happen outside of the scheduler. */
  readonly wait: Effect.Effect<void>
  /** Moves the store's clock, if it is not the stepper's. */
  readonly advance: (millis: number) => Effect.Effect<void>
  readonly transactions?: Transactions
}

export const play = (scenario: Scenario, stageFor: (stepper: Stepper) => Effect.Effect<Stage>): Effect.Effect<void> => {
  const stepper = new Stepper(scenario)
  return Effect.flatMap(stageFor(stepper), (stage) => {
    const play = new Play(scenario, stepper, stage)
    return Effect.ensuring(play.all, play.abandon)
  })
}

type Fork = Fiber.Fiber<Answer, unknown>

class Play {
  readonly scenario: Scenario
  readonly stepper: Stepper
  readonly stage: Stage
  readonly reference: Reference
  readonly world: World
  readonly forks = new Map<Running, Fork>()
  /** Transactions that are open, by node. */
  readonly open = new Map<number, Fiber.Fiber<void>>()
  problem: string | undefined

  constructor(scenario: Scenario, stepper: Stepper, stage: Stage) {
    this.scenario = scenario
    this.stepper = stepper
    this.stage = stage
    this.reference = new Reference({
      now: () => stepper.now,
      nodes: scenario.nodes,
      news: scenario.news,
      leases: scenario.leases,
      fenceLifetime: stage.store.fenceLifetime,
      isBusy: (space) => this.world.isBusy(spaces[space]!.namespace.name),
      isToChange: (key) => {
        const [namespace, part] = JSON.parse(key) as [string, Key]
        return this.world.wire.retrying > 0 || this.world.isPending(namespace, String(part))
      }
    })
    this.world = new World({
      stepper,
      store: stage.store,
      answersAtOnce: stage.answersAtOnce,
      nodes: scenario.nodes,
      news: scenario.news,
      config: {
        policy: { memoryTimeToLive, ...(scenario.leases ? {} : { leaseDuration: 0 }) },
        // The breaker would keep those from the store who have a right to what it holds.
        store: { breakerFailures: 1_000_000 }
      },
      maxEntries: 3,
      slowRetries: scenario.slowRetries,
      observer: {
        stored: (namespace, rows) => this.judge(() => this.reference.stored(namespace, rows)),
        doubted: (namespace, rows) => this.judge(() => this.reference.doubted(namespace, rows)),
        refused: (rows) => {
          for (const { key } of rows) this.log.push(`    refused: ${key}`)
        },
        leased: (namespace, keys, owner) => {
          for (const key of keys) this.reference.waiting.granted(nameIn(namespace, key), owner)
        },
        released: (namespace, keys, owner) => {
          for (const key of keys) this.reference.waiting.ended(nameIn(namespace, key), owner)
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
        announced: (invalidation, by, where) => this.reference.announced(invalidation, by, where)
      }
    })
  }

  get log(): Array<string> {
    return this.world.wire.log
  }

  get all(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (const command of this.scenario.commands) {
        this.log.push(show(command))
        yield* this.perform(command)
        this.checkNodes()
      }
      this.log.push("everything goes on")
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

  /** Leaves no transaction open for others to wait for. */
  get abandon(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.open.size === 0) return Effect.void
      for (const fork of this.open.values()) fork.interruptUnsafe()
      this.step(Infinity)
      return Effect.andThen(this.stage.wait, this.abandon)
    })
  }

  /** Nothing is lost any more but what was to fail anyway, and who waits to tell the store once more gets to it. */
  get goOn(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      yield* this.settle
      // As many times as who waits for a lease looks for itself.
      for (let retries = 0; retries < 60; retries++) {
        while (this.world.wire.held.length > 0 || this.world.wire.answering > 0) {
          if (this.world.wire.held.length === 0) yield* this.stage.wait
          this.world.wire.held[0]?.release()
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
      this.log.push("everything is read")
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
      // What moves the store's clock would wait for what they have changed.
      if (this.open.size > 0) return
      const end = this.stepper.now + millis
      while (this.stepper.now < end) {
        const step = Math.min(end, this.stepper.nextWake ?? end) - this.stepper.now
        yield* this.stage.advance(step)
        this.stepper.advance(step)
        yield* this.settle
        this.checkNodes()
      }
    })
  }

  perform(command: Command): Effect.Effect<void> {
    const { held } = this.world.wire
    switch (command._tag) {
      case "Deliver":
        held[command.index % held.length]?.release()
        return this.settle
      case "Lose":
        held[command.index % held.length]?.lose?.()
        return this.settle
      case "Interrupt":
        return this.interrupt(command.index)
      case "Crash":
        return this.crash(command.node % this.scenario.nodes)
      case "Transaction":
        return this.transact(command)
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
    const node = this.nodeOf(operation)
    const running = this.begin(operation, node.where)
    if (operation.fault !== undefined) this.world.wire.faults.add(running.id, operation.fault)
    const fork = this.world.fork(callOf(this.surroundings(node), running), {
      id: running.id,
      slow: operation.slow,
      where: node.where
    })
    this.forks.set(running, fork)
    fork.addObserver((exit) => {
      this.forks.delete(running)
      this.end(running, exit)
    })
  }

  begin(operation: Operation, where: number, transaction?: Transacting): Running {
    const running = this.reference.begin(operation, where, transaction)
    this.log.push(`    operation ${running.id} begins`)
    return running
  }

  end(running: Running, exit: Exit.Exit<Answer, unknown>): void {
    this.log.push(`    operation ${running.id} ends: ${showExit(exit)}`)
    this.judge(() => this.reference.end(running, exit), `operation ${running.id}`)
  }

  surroundings({ cache }: Node): Surroundings {
    return {
      cache,
      onlyEntries: this.scenario.news !== "at once",
      beginLoad: (running, keys) => {
        this.log.push(`    operation ${running.id} loads ${keys.join(" ")}`)
        return this.judge(() => this.reference.beginLoad(running, keys), `operation ${running.id}`)
      },
      endLoad: (load, exit) => this.judge(() => this.reference.endLoad(load, exit), `operation ${load.source.id}`),
      hold: (label) => Effect.orDie(this.world.wire.hold(label)),
      tagsOf: (text) => this.reference.values.get(text)?.tags ?? []
    }
  }

  interrupt(index: number): Effect.Effect<void> {
    const running = [...this.forks]
    const chosen = running[index % running.length]
    if (chosen === undefined) return Effect.void
    const [operation, fork] = chosen
    this.log.push(`    operation ${operation.id} is interrupted`)
    operation.interrupted = true
    fork.interruptUnsafe()
    return Effect.map(this.settle, () => {
      if (this.forks.has(operation)) this.fail(`operation ${operation.id} does not end when it is interrupted`)
    })
  }

  crash(node: number): Effect.Effect<void> {
    const crashed = this.world.nodes[node]!
    // The database would end its transactions in its own time, and who waits for another's goes on waiting.
    if (this.open.size > 0) return Effect.void
    this.reference.crashed(crashed.where)
    for (const [{ where }, fork] of this.forks) if (where === crashed.where) fork.interruptUnsafe()
    this.world.silence(crashed)
    return Effect.gen({ self: this }, function* () {
      yield* this.settle
      const end = this.world.end(crashed)
      yield* this.settle
      if (end.pollUnsafe() === undefined) this.fail(`node ${node} does not end`)
      this.world.replace(node)
    })
  }

  transact(transaction: Command & { readonly _tag: "Transaction" }): Effect.Effect<void> {
    const { transactions } = this.stage
    const node = this.nodeOf(transaction)
    // Two can wait for one another; the database needs a second to see it.
    if (transactions === undefined || this.open.size > 0) return Effect.void
    const playing = transact(
      {
        transactions,
        wire: this.world.wire,
        where: node.where,
        reference: this.reference,
        call: (running) => callOf(this.surroundings(node), running),
        begin: (operation, transacting) => this.begin(operation, node.where, transacting),
        end: (running, exit) => this.end(running, exit)
      },
      transaction
    )
    const fork = this.world.fork(playing, undefined, transactions.context)
    this.open.set(node.where, fork)
    fork.addObserver((exit) => {
      this.open.delete(node.where)
      this.log.push(`    transaction ends: ${showExit(exit)}`)
      if (Exit.isFailure(exit)) this.problem ??= `a transaction ends with ${showExit(exit)}`
    })
    return this.settle
  }

  step(count: number): void {
    this.stepper.step(count)
  }

  /** Until everything waits for the test. */
  get settle(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.step(Infinity)
      const { answering } = this.world.wire
      if (answering === 0) return Effect.void
      const go = Effect.andThen(this.stage.wait, this.settle)
      const { transactions } = this.stage
      if (transactions === undefined || this.open.size === 0) return go
      // What waits for an open transaction waits for the test.
      return Effect.flatMap(transactions.blocked, (blocked) => {
        this.step(Infinity)
        return blocked > 0 && blocked >= this.world.wire.answering ? Effect.void : go
      })
    })
  }

  nodeOf({ node }: { readonly node: number }) {
    return this.world.nodes[node % this.scenario.nodes]!
  }

  checkNodes(): void {
    if (this.stepper.isIdle) {
      this.judge(() => this.reference.judgeLoads())
      const { answering, held } = this.world.wire
      const isWaiting = ({ where }: Running) => answering === 0 && held.every((call) => call.where !== where)
      const { running, waiting } = this.reference
      this.judge(() => waiting.judge([...running].filter(isWaiting)), "waiting")
    }
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
          const isFresh = row._tag === "Row" && !row.isFailure && row.timeToLive > -1000
          const inStore = isFresh ? (JSON.parse(row.data) as string) : undefined
          for (const [node, { memory }] of this.world.nodes.entries()) {
            const id = namespace.keys.identify(key)!
            const held = memory.partition<string>(namespace.name).get(id, this.stepper.now)
            // What memory would not answer with before it has asked the store may differ.
            if (held === undefined || held.details.failure !== undefined) continue
            if (this.stepper.now >= Math.min(held.freshUntil, held.vouchedUntil)) continue
            const name = JSON.stringify([namespace.name, key])
            this.judge(() => judgeMemory(this.reference, name, held.value, inStore), `node ${node} in the end`)
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
    for (const [node, { where }] of this.world.nodes.entries()) {
      for (const [index, space] of spaces.entries()) {
        const stats = this.statsOf(node, space)
        const fail = (what: string) =>
          this.fail(`node ${node} counts ${what} in ${space.namespace.name}: ${JSON.stringify(stats)}`)
        const { loadFailure, loadInterrupted, loadSuccess, loads, memory, store } = stats
        if (memory.requests !== memory.hits + memory.misses) fail("memory lookups")
        if (store.requests !== store.hits + store.misses) fail("store lookups")
        if (loads !== loadSuccess + loadFailure + loadInterrupted) fail("loads")
        if (!exact) continue
        const expected = statsOf(
          this.reference,
          (running) => running.where === where && running.operation.space === index
        )
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
    const { fine, leases, news, nodes, seed, slowRetries } = this.scenario
    throw new Error(
      [
        problem,
        `${nodes} nodes, news ${news}, ${leases ? "leases" : "no leases"}, ${fine ? "fine" : "coarse"} steps, ${slowRetries ? "slow retries, " : ""}seed ${seed}`,
        ...this.log
      ].join("\n")
    )
  }
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
