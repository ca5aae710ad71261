/**
 * Contenders that do the same work, in turns.
 *
 * Each round all of them run once, one after the other, beginning with another one
 * each time, so that a slow second of the machine falls on all alike. How often a
 * contender does its work in a turn is found out before the first round, so that a
 * turn takes about as long for all. A tenth of that goes before, untimed: what the
 * one before left in the processor's caches is nobody's doing. What they answered is
 * checked after the clock has been read, and a wrong answer ends the contest.
 *
 * The usual harnesses (tinybench, mitata) run a task to its end before the next
 * one, and time one call at a time: neither can measure many calls inside one
 * running fiber, nor take a ratio per round. That is all this does; there are no
 * statistics beyond `Figure`.
 */
import * as v8 from "node:v8"
import type { Measured } from "./Figure.ts"

export interface Contender {
  readonly name: string
  /** Does the work so many times. What it returns is given to `check`. */
  readonly run: (times: number) => unknown
  /** Throws where the answer is not right. */
  readonly check: (answer: unknown, times: number) => void
  /** The name of the contender that this one is compared with. Default: the first. */
  readonly against?: string
  readonly note?: string
}

export interface Rules {
  readonly rounds: number
  /** How long a turn takes, about, in milliseconds. */
  readonly turn: number
  /** How often a contender may do its work in one turn. Default: as often as it can. */
  readonly maxTimes?: number
  /** In nanoseconds. Default: the process's. */
  readonly clock?: () => bigint
}

/** Nanoseconds for each time, round by round. */
export const hold = async (contenders: ReadonlyArray<Contender>, rules: Rules): Promise<ReadonlyArray<Measured>> => {
  const times = new Map<Contender, number>()
  for (const contender of contenders) times.set(contender, await calibrate(contender, rules))
  const rounds = new Map<Contender, Array<number>>(contenders.map((contender) => [contender, []]))
  for (let round = 0; round < rules.rounds; round++) {
    for (const contender of inTurns(contenders, round)) {
      const n = times.get(contender)!
      globalThis.gc?.({ type: "minor", execution: "sync" })
      await takeTurn(contender, Math.ceil(n / 10), rules)
      rounds.get(contender)!.push((await takeTurn(contender, n, rules)) / n)
    }
  }
  return contenders.map((contender) => ({
    name: contender.name,
    rounds: rounds.get(contender)!,
    against: contender.against,
    note: contender.note
  }))
}

/** Bytes of heap that each time took, round by round; needs `--expose-gc`. */
export const weigh = async (
  contenders: ReadonlyArray<Contender>,
  { rounds, times }: { readonly rounds: number; readonly times: number }
): Promise<ReadonlyArray<Measured>> => {
  const weighed = new Map<Contender, Array<number>>(contenders.map((contender) => [contender, []]))
  for (const contender of contenders) await takeTurn(contender, times, {})
  for (let round = 0; round < rounds; round++) {
    for (const contender of inTurns(contenders, round)) {
      weighed.get(contender)!.push((await bytesOf(contender, times)) / times)
    }
  }
  return contenders.map((contender) => ({
    name: contender.name,
    rounds: weighed.get(contender)!,
    against: contender.against,
    note: contender.note
  }))
}

/** Who is first goes last in the next round. */
export const inTurns = <A>(list: ReadonlyArray<A>, round: number): ReadonlyArray<A> => {
  const first = round % list.length
  return [...list.slice(first), ...list.slice(0, first)]
}

/** Twice as often until a turn is long enough, and again is; what runs then is compiled already. */
const calibrate = async (contender: Contender, rules: Rules): Promise<number> => {
  const { maxTimes = Infinity, turn } = rules
  const enough = turn * 1e6
  let times = 1
  for (;;) {
    let taken = await takeTurn(contender, times, rules)
    if (times >= maxTimes) return maxTimes
    if (taken >= enough / 2) taken = Math.min(taken, await takeTurn(contender, times, rules))
    if (taken >= enough / 2) return Math.max(1, Math.min(maxTimes, Math.round((times * enough) / taken)))
    times = Math.min(maxTimes, times * 2)
  }
}

const takeTurn = async (
  contender: Contender,
  times: number,
  { clock = process.hrtime.bigint }: Pick<Rules, "clock">
): Promise<number> => {
  const before = clock()
  const pending = contender.run(times)
  const answer = pending instanceof Promise ? await pending : pending
  const taken = clock() - before
  contender.check(answer, times)
  return Number(taken)
}

const bytesOf = async (contender: Contender, times: number): Promise<number> => {
  for (let attempt = 0; attempt < 20; attempt++) {
    globalThis.gc?.({ type: "minor", execution: "sync" })
    const idle = bytesOfTheYoung()
    const before = bytesOfTheYoung()
    const pending = contender.run(times)
    const answer = pending instanceof Promise ? await pending : pending
    // Less what asking takes itself.
    const bytes = bytesOfTheYoung() - before - (before - idle)
    contender.check(answer, times)
    // Less than before means that garbage was collected meanwhile.
    if (bytes >= 0) return bytes
  }
  throw new Error(`garbage was collected each time that ${contender.name} was weighed: do it fewer times`)
}

/** What is older shrinks at any time: it is swept by other threads. */
const bytesOfTheYoung = (): number =>
  v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")!.space_used_size
