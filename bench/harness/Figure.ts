/**
 * What was measured of one contender: a number per round, and what they come to.
 *
 * A figure is a median with the quartiles of its rounds. A ratio is taken round by
 * round, against what the baseline did in that same round, and is then a median with
 * quartiles too: whatever slows a whole round down, another program on the machine
 * above all, cancels out.
 */

/** A median, and between what the middle half of the rounds lay. */
export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
}

export interface Figure {
  readonly name: string
  readonly rounds: ReadonlyArray<number>
  readonly value: Spread
  /** Against the baseline, `undefined` where there is nothing to compare with. */
  readonly ratio: (Spread & { readonly to: string }) | undefined
  /** What a reader must know to judge it. */
  readonly note: string | undefined
}

/** What that share of the values lies below; between two values, in proportion. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)]!
  return below + (sorted[Math.ceil(at)]! - below) * (at % 1)
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

export const spread = (values: ReadonlyArray<number>): Spread => ({
  median: median(values),
  low: quantile(values, 0.25),
  high: quantile(values, 0.75)
})

/** How many times the baseline, round by round. */
export const ratio = (rounds: ReadonlyArray<number>, baseline: ReadonlyArray<number>): Spread =>
  spread(rounds.map((value, round) => value / baseline[round]!))

export interface Measured {
  readonly name: string
  readonly rounds: ReadonlyArray<number>
  /** The name of what it is compared with. Default: the first. */
  readonly against?: string | undefined
  readonly note?: string | undefined
}

/** The first is the baseline of those that name no other; a baseline has the ratio 1 to itself. */
export const figures = (measured: ReadonlyArray<Measured>): ReadonlyArray<Figure> =>
  measured.map(({ against = measured[0]!.name, name, note, rounds }) => {
    const baseline = measured.find((other) => other.name === against)
    if (baseline === undefined) throw new Error(`${name} is to be compared with ${against}, which was not measured`)
    return { name, rounds, value: spread(rounds), ratio: { to: against, ...ratio(rounds, baseline.rounds) }, note }
  })

/** Figures that are only told, with nothing to compare them with. */
export const counts = (measured: ReadonlyArray<Measured>): ReadonlyArray<Figure> =>
  measured.map(({ name, note, rounds }) => ({ name, rounds, value: spread(rounds), ratio: undefined, note }))
