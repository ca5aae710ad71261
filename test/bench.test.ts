/** What the benchmark makes of its measurements: that its figures, tables and charts say what was measured. */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Chart from "../bench/harness/Chart.ts"
import * as Contest from "../bench/harness/Contest.ts"
import * as Figure from "../bench/harness/Figure.ts"
import type { Findings } from "../bench/harness/Findings.ts"
import * as Keys from "../bench/harness/Keys.ts"
import * as Report from "../bench/harness/Report.ts"

const rounds = fc.array(fc.double({ min: 0.001, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 50 })

describe("a figure", () => {
  it("has as many rounds below its median as above it", () => {
    fc.assert(
      fc.property(rounds, (values) => {
        const median = Figure.median(values)
        const below = values.filter((value) => value < median).length
        const above = values.filter((value) => value > median).length
        assert.isAtMost(below, values.length / 2)
        assert.isAtMost(above, values.length / 2)
      })
    )
  })

  it("is the mean of the middle two where their number is even", () => {
    assert.strictEqual(Figure.median([10, 1, 3, 2]), 2.5)
    assert.strictEqual(Figure.median([3, 1, 2]), 2)
  })

  it("has its quartiles beside it, whatever the order of the rounds", () => {
    assert.deepStrictEqual(Figure.spread([5, 1, 4, 2, 3]), { median: 3, low: 2, high: 4 })
    assert.deepStrictEqual(Figure.spread([7]), { median: 7, low: 7, high: 7 })
    fc.assert(
      fc.property(rounds, (values) => {
        const { high, low, median } = Figure.spread(values)
        assert.isTrue(Math.min(...values) <= low && low <= median && median <= high && high <= Math.max(...values))
      })
    )
  })

  it("leaves the rounds as they are", () => {
    const values = [3, 1, 2]
    Figure.spread(values)
    assert.deepStrictEqual(values, [3, 1, 2])
  })

  it("is compared with the baseline round by round, so that a slow round of all counts for nothing", () => {
    const { high, low, median } = Figure.ratio([20, 2000, 40], [10, 1000, 20])
    assert.deepStrictEqual({ high, low, median }, { high: 2, low: 2, median: 2 })
  })

  it("is compared with the first, or with whom it names", () => {
    const [first, second, third] = Figure.figures([
      { name: "first", rounds: [10] },
      { name: "second", rounds: [30] },
      { name: "third", rounds: [60], against: "second" }
    ])
    assert.deepInclude(first!.ratio, { to: "first", median: 1 })
    assert.deepInclude(second!.ratio, { to: "first", median: 3 })
    assert.deepInclude(third!.ratio, { to: "second", median: 2 })
    assert.throws(() => Figure.figures([{ name: "alone", rounds: [1], against: "nobody" }]), /nobody/)
  })
})

describe("a contest", () => {
  const contender = (name: string, log: Array<string>, extra: Partial<Contest.Contender> = {}): Contest.Contender => ({
    name,
    run: (times) => {
      log.push(name)
      return times
    },
    check: (answer, times) => assert.strictEqual(answer, times),
    ...extra
  })

  it("lets all take a turn in each round, another one first each time", async () => {
    const log: Array<string> = []
    const all = ["a", "b", "c"].map((name) => contender(name, log))
    const measured = await Contest.hold(all, { rounds: 4, turn: 1, maxTimes: 1 })
    // Twice each: before the clock, and by it.
    assert.strictEqual(log.slice(3).join(""), "aabbccbbccaaccaabbaabbcc")
    assert.deepStrictEqual(
      measured.map(({ name, rounds }) => [name, rounds.length]),
      [
        ["a", 4],
        ["b", 4],
        ["c", 4]
      ]
    )
  })

  it("awaits what is a promise", async () => {
    let done = 0
    const run = (times: number) => Promise.resolve().then(() => (done += times))
    const check = (answer: unknown) => assert.strictEqual(answer, done)
    await Contest.hold([contender("later", [], { run, check })], { rounds: 3, turn: 1, maxTimes: 2 })
    assert.isAtLeast(done, 8)
  })

  it("gives each as much to do in a turn as it has time for", async () => {
    let now = 0n
    const log: Array<readonly [name: string, times: number]> = []
    const worker = (name: string, nanos: number) =>
      contender(name, [], {
        run: (times) => {
          log.push([name, times])
          now += BigInt(times * nanos)
          return times
        }
      })
    const both = [worker("quick", 100), worker("slow", 100_000)]
    const measured = await Contest.hold(both, { rounds: 1, turn: 5, clock: () => now })
    assert.deepStrictEqual(log.slice(-4), [
      ["quick", 5000],
      ["quick", 50_000],
      ["slow", 5],
      ["slow", 50]
    ])
    assert.deepStrictEqual(
      measured.map(({ rounds }) => rounds),
      [[100], [100_000]]
    )
  })

  it("is not misled by a turn that something else made long", async () => {
    let now = 0n
    let isFirst = true
    let last = 0
    const run = (times: number) => {
      now += isFirst ? 5_000_000n : BigInt(times * 100)
      isFirst = false
      last = times
      return times
    }
    await Contest.hold([contender("quick", [], { run })], { rounds: 1, turn: 5, clock: () => now })
    assert.strictEqual(last, 50_000)
  })

  it("ends where an answer is wrong", async () => {
    const wrong = contender("wrong", [], { run: () => -1 })
    const failure = await Contest.hold([wrong], { rounds: 1, turn: 1 }).catch((error: unknown) => error)
    assert.instanceOf(failure, Error)
  })
})

describe("an order of keys", () => {
  it("is the same in every run, and of keys that are there", () => {
    for (const order of [Keys.uniform, Keys.zipf]) {
      const keys = order(100, 10_000)
      assert.deepStrictEqual(keys, order(100, 10_000))
      assert.isTrue(keys.every((key) => key >= 0 && key < 100))
    }
  })

  it("by Zipf's law has a first key wanted twice as often as the second", () => {
    const wanted = new Map<number, number>()
    for (const key of Keys.zipf(1000, 200_000)) wanted.set(key, (wanted.get(key) ?? 0) + 1)
    const [first, second, third] = [...wanted.values()].sort((a, b) => b - a)
    assert.approximately(first! / second!, 2, 0.1)
    assert.approximately(first! / third!, 3, 0.2)
  })

  it("that is shuffled has each key once", () => {
    assert.deepStrictEqual(
      [...Keys.shuffled(500)].sort((a, b) => a - b),
      Array.from({ length: 500 }, (_, key) => key)
    )
  })
})

const findings = (node: string, factor: number): Findings => ({
  section: "hits",
  node,
  tables: [
    {
      title: "Hits & <misses>",
      unit: "ns",
      about: "What it is about.",
      chart: true,
      figures: Figure.figures([
        { name: "floor", rounds: [100, 100, 100] },
        { name: "getOrSet", rounds: [110 * factor, 130 * factor, 150 * factor], note: "It does more." },
        { name: "slow", rounds: [12_345 * factor, 12_345 * factor, 12_345 * factor] }
      ])
    }
  ]
})

describe("a report", () => {
  it("has a row for each contender and two columns for each Node", () => {
    const lines = Report.markdown([findings("20.1.0", 1), findings("26.1.0", 2)]).split("\n")
    const table = lines.filter((line) => line.startsWith("|"))
    const cells = table.map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim())
    )
    assert.deepStrictEqual(cells, [
      ["", "ns, Node 20.1.0", "ratio", "ns, Node 26.1.0", "ratio"],
      cells[1]!,
      ["floor", "100", "1", "100", "1"],
      ["getOrSet [1]", "130 (120–140)", "1.3 (1.2–1.4)", "260 (240–280)", "2.6 (2.4–2.8)"],
      ["slow", "12,345", "123", "24,690", "247"]
    ])
    assert.isTrue(cells[1]!.every((cell) => /^-+:?$/.test(cell)))
    assert.include(lines, "[1] It does more.")
  })

  it("has no column of ratios where nothing is compared", () => {
    const figures = Figure.counts([{ name: "loads", rounds: [1, 1, 4] }])
    const text = Report.markdown([
      { section: "misses", node: "20.1.0", tables: [{ title: "Loads", unit: "runs", about: "All.", figures }] }
    ])
    assert.notInclude(text, "ratio")
    assert.include(text, "| loads | ")
  })

  it("is well aligned: its table is as wide in every line", () => {
    const table = Report.grid([
      ["", "a", "b"],
      ["a long name", "1", "22,222"]
    ]).split("\n")
    assert.strictEqual(new Set(table.map((line) => line.length)).size, 1)
  })
})

describe("a chart", () => {
  const options = { title: "Us & <them>", setting: "A machine", isOurs: (name: string) => name === "getOrSet" }
  const chart = Chart.svg(Report.merge([findings("20.1.0", 1), findings("26.1.0", 2)]), options)

  it("is well-formed", () => {
    assert.deepStrictEqual(openElements(chart), [])
    assert.notMatch(chart.replaceAll(/&(?:amp|lt|gt|quot);/g, ""), /&|NaN|undefined|Infinity/)
  })

  it("names the contenders, and ours as such", () => {
    assert.match(chart, /<text [^>]*class="ours end"[^>]*>getOrSet</)
    assert.match(chart, /<text [^>]*class="end"[^>]*>floor</)
  })

  it("has the better ones further left, a power of ten as far from the next everywhere", () => {
    const { at, ticks } = Chart.scaleOver(20, 4000)
    assert.deepStrictEqual(ticks, [10, 100, 1000, 10_000])
    assert.approximately(at(1000) - at(100), at(100) - at(10), 0.2)
    fc.assert(
      fc.property(fc.double({ min: 10, max: 9999, noNaN: true }), (value) => {
        assert.isTrue(at(10) <= at(value) && at(value) <= at(10_000))
      })
    )
  })

  it("shows a dot for each contender and Node, rings for the second one", () => {
    assert.strictEqual(chart.match(/<circle /g)?.length, 6)
    assert.strictEqual(chart.match(/<circle class="dot[^"]* ring"/g)?.length, 3)
  })

  it("follows the reader's light or dark scheme", () => {
    assert.include(chart, "prefers-color-scheme:dark")
  })
})

/** What is left open at the end, or closed that was not open. */
const openElements = (xml: string): ReadonlyArray<string> => {
  const open: Array<string> = []
  for (const [, closing, name, , standalone] of xml.matchAll(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/gi)) {
    if (standalone === "/") continue
    if (closing !== "/") open.push(name!)
    else if (open.pop() !== name) return [`</${name}>`]
  }
  // Whatever else begins like a tag is none.
  const rest = xml.replaceAll(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/gi, "")
  return rest.includes("<") ? [...open, "<"] : open
}
