/** What came of a soak, for people. */
import type { Outcome } from "./Soak.ts"

export const report = ({ left, source, stats, tally, troubles }: Outcome): string =>
  [
    table(
      ["what went wrong", "times", "in all", "back after, at most"],
      [...troubles].map(([name, { back, count, lasted }]) => [name, number(count), seconds(lasted), millis(back)])
    ),
    table(
      ["what was done", "times", "failed", "interrupted", "gave up", "median", "p99", "longest"],
      [...tally.rows].map(([name, row]) => [
        name,
        ...[row.count, row.failed, row.interrupted, row.gaveUp].map(number),
        ...[row.percentile(50), row.percentile(99), row.longest].map(millis)
      ])
    ),
    table(
      ["the source", "times"],
      Object.entries(source).map(([name, count]) => [name, number(count)])
    ),
    table(
      ["the caches", "times"],
      Object.entries({
        lookups: stats.lookups,
        "hits in memory": stats.memory.hits,
        "hits in PostgreSQL": stats.store.hits,
        loads: stats.loads,
        coalesced: stats.coalesced,
        "answered stale": stats.stale,
        "answered with a fallback": stats.fallbacks,
        "answered with a cached failure": stats.cachedFailures,
        "re-armed": stats.rearmed,
        "soft timeouts": stats.softTimeouts,
        "hard timeouts": stats.hardTimeouts,
        refreshes: stats.refreshes,
        "refreshes without room": stats.refreshesSkipped,
        "ended in the background": stats.lateSuccess + stats.lateFailure,
        "PostgreSQL failed": stats.store.errors,
        "PostgreSQL left alone": stats.store.skipped,
        "refused by PostgreSQL": stats.store.refused,
        "background writes dropped": stats.store.dropped,
        "evicted from memory": stats.memory.removals.size
      }).map(([name, count]) => [name, number(count)])
    ),
    table(
      ["the log", "times"],
      [...tally.logs].map(([message, count]) => [message, number(count)])
    ),
    table(
      ["left over", "before", "at the end"],
      Object.entries(left).map(([what, [before, after]]) => [what, number(before), number(after)])
    ),
    table(
      ["promise", "looked at", "broken"],
      [...tally.checks].map(([promise, count]) => [
        promise,
        number(count),
        number(tally.problems.get(promise)?.count ?? 0)
      ])
    ),
    ...[...tally.problems].map(([promise, { first }]) => [`Broken: ${promise}`, ...first].join("\n  "))
  ].join("\n\n")

const number = (value: number) => value.toLocaleString("en", { maximumFractionDigits: 1 })
const millis = (value: number) => `${number(value)} ms`
const seconds = (value: number) => `${number(value / 1000)} s`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  return [head, ...rows]
    .map((cells) =>
      cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")
    )
    .join("\n")
}
