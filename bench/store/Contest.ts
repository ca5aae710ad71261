/**
 * Rivals at the same work, in turns: each round every rival has its turn, and begins
 * another one's turn earlier than the round before, so that what the machine does meanwhile
 * hits all alike. What counts is the median over the rounds, and its ratio to another's.
 */

/** Who does the work: `times` operations, answers checked. */
export interface Rival {
  readonly name: string
  readonly run: (times: number) => Promise<void>
}

/** Operations a second, by round. */
export interface Result {
  readonly name: string
  readonly rates: ReadonlyArray<number>
}

export interface Options {
  readonly rounds: number
  /** About how long a turn takes, in milliseconds. */
  readonly turn: number
}

/** The first turn of each is for warming up, and to learn how much it does in the time of a turn. */
export const run = async (rivals: ReadonlyArray<Rival>, { rounds, turn }: Options): Promise<ReadonlyArray<Result>> => {
  const contestants: Array<{ rival: Rival; times: number; rates: Array<number> }> = []
  for (const rival of rivals) {
    await rateOf(rival, 200)
    const rate = await rateOf(rival, 1000)
    contestants.push({ rival, times: Math.max(64, Math.round((rate * turn) / 1000)), rates: [] })
  }
  for (let round = 0; round < rounds; round++) {
    for (const index of contestants.keys()) {
      const { rates, rival, times } = contestants[(index + round) % contestants.length]!
      rates.push(await rateOf(rival, times))
    }
  }
  return contestants.map(({ rates, rival }) => ({ name: rival.name, rates }))
}

const rateOf = async ({ run }: Rival, times: number): Promise<number> => {
  const start = performance.now()
  await run(times)
  return (times * 1000) / (performance.now() - start)
}

/** The value below which that part of the values lies. */
export const quantile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!
}

/** A Markdown table: the medians, the middle half of the rounds, and how the medians compare. */
export const table = (title: string, results: ReadonlyArray<Result>, baselines: ReadonlyArray<string>): string => {
  const median = ({ rates }: Result) => quantile(rates, 0.5)
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  const ratio = (result: Result, name: string) => {
    const baseline = results.find((other) => other.name === name)
    return baseline === undefined ? "" : `${(median(result) / median(baseline)).toFixed(2)} ×`
  }
  return [
    line([title, "ops/s", "half of the rounds", ...baselines.map((name) => `to ${name}`)]),
    line(["---", "--:", "--:", ...baselines.map(() => "--:")]),
    ...results.map((result) =>
      line([
        result.name,
        median(result).toFixed(0),
        `${quantile(result.rates, 0.25).toFixed(0)}–${quantile(result.rates, 0.75).toFixed(0)}`,
        ...baselines.map((name) => ratio(result, name))
      ])
    )
  ].join("\n")
}
