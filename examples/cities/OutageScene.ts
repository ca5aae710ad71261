/**
 * The scene in which PostgreSQL is away (`Outage`) and visitors go on asking, in
 * turn for what it alone knows and for what somebody else does (`Sun`).
 *
 * What it alone knows they have asked for before: memory has it, and goes on
 * serving it, stale when it no longer vouches for it. What nobody has asked for and
 * nobody else knows would have to wait, for as long as its loader may take.
 */
import { Console, Duration, Effect, Equal, Exit, Fiber, Option, Schedule } from "effect"
import { type CacheConfigInput, TieredCache } from "effect-tiered-cache"
import type { Cities } from "./Cities.ts"
import * as CachedCities from "./CachedCities.ts"
import { observe, type Observed, percentile } from "./Observation.ts"
import * as Outage from "./Outage.ts"
import { askSource, Disproved, mostAsked } from "./Scenes.ts"
import * as Screen from "./Screen.ts"
import * as Sun from "./Sun.ts"
import { type Answer, ask, type Asked } from "./Traffic.ts"

/**
 * Memory vouches for a second. Then PostgreSQL has 200 ms to answer, and a source
 * 50 ms before what is stale will do. Nobody waits until PostgreSQL has what was loaded.
 */
export const config: CacheConfigInput = {
  policy: { memoryTimeToLive: "1 second", loaderSoftTimeout: "50 millis", storeWrites: "background" },
  store: { readTimeout: "200 millis", breakerProbeInterval: "250 millis" }
}

const visitors = 40
const awayFor = Duration.seconds(3)

/** Nobody may wait for the end of it. */
const longestWait = Duration.toMillis(awayFor) / 2

export const play = Effect.fn("play")(function* (asked: ReadonlyMap<string, Asked>) {
  const outage = yield* Outage.make
  yield* Screen.heading(
    `PostgreSQL is ${outage.isFrozen ? "frozen" : "locked"} under load, and nobody notices`,
    "Visitors go on asking, in turn for what it alone knows and for what a service elsewhere does.",
    outage.description
  )
  const known = mostAsked(asked, 300).map(({ request }) => ({ request: ask(request), source: askSource(request) }))
  const sunshine = Array.from({ length: 10_000 }, (_, index) => ({ lat: (index % 120) - 60, day: index % 365 })).map(
    (where) => ({ request: CachedCities.daylight(where), source: Sun.daylight(where) })
  )
  yield* Effect.forEach(known, ({ request }) => request, { concurrency: 8, discard: true })
  yield* sunshine[0]!.request

  const before = (yield* TieredCache.stats).store
  const tally = new Tally()
  const questions = inTurn(known, sunshine)
  const crowd = yield* Effect.forEach(Array(visitors).keys(), () => Effect.forkChild(visitor(questions, tally)))
  const breakerOpened = yield* Effect.scoped(
    Effect.gen(function* () {
      yield* outage.begin
      yield* Console.log(
        `  ${outage.isFrozen ? "Frozen" : "Locked"} for ${Screen.duration(Duration.toMillis(awayFor))}`
      )
      tally.isCounting = true
      const opens = until(
        Effect.map(TieredCache.stats, ({ store }) => store.skipped > before.skipped),
        awayFor
      )
      const [opened] = yield* Effect.all([opens, Effect.sleep(awayFor)], { concurrency: "unbounded" })
      tally.isCounting = false
      return opened
    })
  )
  // Only PostgreSQL has it: a cache that does not ask it has no answer.
  const inStore = TieredCache.getEntry(CachedCities.Daylight, { lat: -60, day: 0 }, { skip: "memory" })
  const inUse = yield* until(Effect.map(inStore, Option.isSome), Duration.seconds(30))
  tally.isOver = true
  yield* Fiber.joinAll(crowd)

  const after = (yield* TieredCache.stats).store
  const { failed, requests, slowest } = tally
  yield* Console.log(`\n${tally.table()}\n`)
  yield* Console.log(
    `  ${Screen.count(requests)} requests, failed ${Screen.count(failed)}, slowest ${Screen.duration(slowest)}`
  )
  if (failed > 0) return yield* new Disproved({ message: `${failed} requests failed while PostgreSQL was away` })
  if (slowest > longestWait) {
    return yield* new Disproved({ message: `A request waited ${Screen.duration(slowest)} while PostgreSQL was away` })
  }
  if (Option.isNone(breakerOpened)) return yield* new Disproved({ message: "PostgreSQL was not left alone" })
  yield* Console.log(
    `  PostgreSQL was left alone after ${Screen.duration(breakerOpened.value)}: ` +
      `${Screen.count(after.errors - before.errors)} calls waited for their timeout, ` +
      `${Screen.count(after.skipped - before.skipped)} did not`
  )
  if (Option.isNone(inUse)) return yield* new Disproved({ message: "PostgreSQL was not used again" })
  yield* Console.log(`  It was in use again ${Screen.duration(inUse.value)} after its return`)
  yield* agree(tally)
})

/** How many milliseconds it takes to become true, if it does within that time. */
const until = <E, R>(condition: Effect.Effect<boolean, E, R>, limit: Duration.Duration) =>
  Effect.suspend(() => {
    const startedAt = performance.now()
    return condition.pipe(
      Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("5 millis") }),
      Effect.map(() => performance.now() - startedAt),
      Effect.timeoutOption(limit)
    )
  })

interface Question {
  readonly request: Effect.Effect<Answer | number, Failure, Cities | TieredCache>
  /** The same without the cache. */
  readonly source: Effect.Effect<Answer | number, Failure, Cities>
}

type Failure = Effect.Error<ReturnType<typeof ask>>

/** Each of the known questions again and again; each of the others three times. */
const inTurn = function* (known: ReadonlyArray<Question>, others: ReadonlyArray<Question>): Generator<Question, never> {
  for (let turn = 0; ; turn++) {
    yield known[turn % known.length]!
    yield others[Math.floor(turn / 3) % others.length]!
  }
}

const visitor = Effect.fnUntraced(function* (questions: Iterator<Question, never>, tally: Tally) {
  while (!tally.isOver) {
    const question = questions.next().value
    const isCounted = tally.isCounting
    const exit = yield* Effect.exit(observe(question.request))
    if (Exit.isFailure(exit)) tally.failed++
    else if (isCounted) tally.add(question, exit.value)
    yield* Effect.sleep("10 millis")
  }
})

/** What came of the requests that were made while PostgreSQL was away. */
class Tally {
  isCounting = false
  isOver = false
  failed = 0
  readonly answers = new Map<Question, Answer | number>()
  readonly samples = new Map<string, Array<number>>([
    ["memory", []],
    ["memory, stale", []],
    ["a miss", []]
  ])

  add(question: Question, { answer, freshness, origin, took }: Observed<Answer | number>): void {
    this.answers.set(question, answer)
    const by = origin === "loader" ? "a miss" : freshness === "stale" ? `${origin}, stale` : origin
    const samples = this.samples.get(by)
    if (samples === undefined) this.samples.set(by, [took])
    else samples.push(took)
  }

  get requests(): number {
    return [...this.samples.values()].flat().length
  }

  get slowest(): number {
    return [...this.samples.values()].flat().reduce((slowest, took) => Math.max(slowest, took), 0)
  }

  table(): string {
    const rows = [...this.samples, ["all", [...this.samples.values()].flat()] as const]
    return Screen.table(
      ["meanwhile", "answers", "median", "p99", "slowest"],
      rows.map(([title, samples]) => {
        const sorted = samples.toSorted((a, b) => a - b)
        return [title, Screen.count(sorted.length), ...[50, 99, 100].map((p) => Screen.duration(percentile(sorted, p)))]
      })
    )
  }
}

const agree = Effect.fnUntraced(function* ({ answers }: Tally) {
  const wrong = yield* Effect.filter(
    answers,
    ([{ source }, answer]) => Effect.map(source, (truth) => !Equal.equals(answer, truth)),
    { concurrency: 8 }
  )
  if (wrong.length > 0) {
    return yield* new Disproved({ message: `${wrong.length} of ${answers.size} answers differ from the source's` })
  }
  yield* Console.log(`  The answers to ${Screen.count(answers.size)} different questions agree with their sources`)
})
