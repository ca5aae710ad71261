import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Aging from "../src/Aging.ts"
import { type CachePolicy, defaultPolicy, resolve } from "../src/CachePolicy.ts"

const policy = (fields: Partial<CachePolicy>): CachePolicy => ({ ...resolve({}), ...fields })

const lifetime = fc.oneof(fc.constantFrom(0, 1, Infinity), fc.nat(10_000_000))
const draw = fc.oneof(
  fc.constantFrom(0, 2 ** -53, 0.5, 1 - 2 ** -53),
  fc.nat(2 ** 30 - 1).map((n) => n / 2 ** 30)
)

/** An entry of a policy's making, and a time near one of its turns. */
const cases = fc
  .record({
    createdAt: fc.nat(2_000_000_000_000),
    timeToLive: fc.oneof(fc.integer({ min: 1, max: 10_000_000 }), fc.constant(Infinity)),
    staleWhileRevalidate: lifetime,
    staleIfError: lifetime
  })
  .chain(({ createdAt, staleIfError, staleWhileRevalidate, timeToLive }) => {
    const expiresAt = createdAt + timeToLive
    const staleUntil = expiresAt + Math.max(staleIfError, staleWhileRevalidate)
    const turns = [createdAt, expiresAt, expiresAt + staleIfError, expiresAt + staleWhileRevalidate, staleUntil]
    return fc.record({
      entry: fc.constant({ createdAt, expiresAt, staleUntil }),
      policy: fc.constant(policy({ staleIfError, staleWhileRevalidate })),
      now: fc
        .tuple(fc.constantFrom(...turns.filter(Number.isFinite)), fc.constantFrom(-100_000, -1, 0, 1, 100_000))
        .map(([turn, offset]) => Math.max(createdAt, turn + offset))
    })
  })

const dueCases = fc.record({
  entry: fc
    .tuple(fc.nat(2_000_000_000_000), fc.integer({ min: 1, max: 100_000_000 }))
    .map(([createdAt, timeToLive]) => ({
      createdAt,
      expiresAt: createdAt + timeToLive,
      staleUntil: createdAt + timeToLive
    })),
  loadTime: fc.oneof(fc.constant(0), fc.nat(60_000)),
  early: fc.oneof(fc.constant(1), fc.double({ min: 0.01, max: 0.99, noNaN: true })),
  beta: fc.oneof(fc.constant(0), fc.double({ min: 0.1, max: 10, noNaN: true })),
  /** Where between creation and end. */
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  draw
})

const policyOf = ({ beta, early }: { readonly beta: number; readonly early: number }) =>
  policy({ earlyRefresh: early, earlyRefreshBeta: beta })

const timeOf = ({ at, entry: { createdAt, expiresAt } }: { readonly at: number; readonly entry: Aging.Aging }) =>
  createdAt + Math.floor(at * (expiresAt - createdAt))

describe("Aging", () => {
  it("a stale entry revalidates and stands in for as long as the policy says, and not at its end", () => {
    const hour = 3_600_000
    const entry = { createdAt: 0, expiresAt: hour, staleUntil: hour + 20 }
    const aging = policy({ staleWhileRevalidate: 10, staleIfError: 20 })
    const answers = [hour, hour + 9, hour + 10, hour + 19, hour + 20].map((now) => [
      Aging.mayRevalidate(entry, aging, now),
      Aging.mayStandIn(entry, aging, now)
    ])
    assert.deepStrictEqual(answers, [
      [true, true],
      [true, true],
      [false, true],
      [false, true],
      [false, false]
    ])
  })

  it("nothing is served from staleUntil on, however long the policy has become since", () => {
    fc.assert(
      fc.property(cases, lifetime, lifetime, ({ entry, now }, staleIfError, staleWhileRevalidate) => {
        const later = policy({ staleIfError, staleWhileRevalidate })
        if (now < entry.staleUntil) return
        assert.isFalse(Aging.mayStandIn(entry, later, now))
        assert.isFalse(Aging.mayRevalidate(entry, later, now))
      })
    )
  })

  it("of what its own policy made, the longer of the two lifetimes reaches exactly to staleUntil, if there is one", () => {
    fc.assert(
      fc.property(cases, ({ entry, now, policy }) => {
        const either = Aging.mayStandIn(entry, policy, now) || Aging.mayRevalidate(entry, policy, now)
        const hasReserve = policy.staleIfError + policy.staleWhileRevalidate > 0
        assert.strictEqual(either, hasReserve && now < entry.staleUntil)
      }),
      { numRuns: 500 }
    )
  })

  it("what is refused once stays refused", () => {
    fc.assert(
      fc.property(cases, fc.nat(1_000_000), ({ entry, now, policy }, later) => {
        for (const may of [Aging.mayStandIn, Aging.mayRevalidate]) {
          if (!may(entry, policy, now)) assert.isFalse(may(entry, policy, now + later))
        }
      })
    )
  })

  it("without early refresh nothing fresh is due", () => {
    const off = resolve({})
    assert.strictEqual(defaultPolicy.earlyRefreshBeta, 0)
    fc.assert(
      fc.property(dueCases, (due) => {
        assert.isFalse(Aging.isDue(due.entry, due.loadTime, off, timeOf(due), due.draw))
        assert.strictEqual(Aging.firstDue(due.entry, due.loadTime, off), Infinity)
      })
    )
  })

  it("by fraction it is due from that part of its lifetime on, whatever the draw", () => {
    const entry = { createdAt: 1_000, expiresAt: 2_000, staleUntil: 2_000 }
    const early = policy({ earlyRefresh: 0.8 })
    assert.strictEqual(Aging.firstDue(entry, 50, early), 1_800)
    fc.assert(
      fc.property(draw, (draw) => {
        assert.isFalse(Aging.isDue(entry, 50, early, 1_799, draw))
        assert.isTrue(Aging.isDue(entry, 50, early, 1_800, draw))
      })
    )
  })

  it("by chance it is due as often as the formula says", () => {
    const entry = { createdAt: 0, expiresAt: 10_000, staleUntil: 10_000 }
    const draws = Array.from({ length: 10_000 }, (_, i) => i / 10_000)
    for (const [loadTime, beta] of [
      [1_000, 1],
      [500, 2],
      [250, 1]
    ] as const) {
      for (const now of [5_000, 9_000, 9_500, 9_999]) {
        const due = draws.filter((draw) => {
          return Aging.isDue(entry, loadTime, policy({ earlyRefreshBeta: beta }), now, draw)
        })
        // Of an exponential draw with mean 1, the share above (expires - now) / (loadTime * beta).
        const share = Math.exp(-(10_000 - now) / (loadTime * beta))
        assert.approximately(due.length / draws.length, share, 0.0002, `${loadTime} ${beta} ${now}`)
      }
    }
  })

  it("no draw makes it due before firstDue, and the longest makes it due soon after", () => {
    fc.assert(
      fc.property(dueCases, (due) => {
        const first = Aging.firstDue(due.entry, due.loadTime, policyOf(due))
        const isDue = (now: number, draw: number) => Aging.isDue(due.entry, due.loadTime, policyOf(due), now, draw)
        const now = timeOf(due)
        if (now < first) {
          assert.isFalse(isDue(now, due.draw))
          assert.isFalse(isDue(now, 1 - 2 ** -53))
        } else assert.isTrue(isDue(now, 1 - 2 ** -53) || isDue(now + 1, 1 - 2 ** -53))
        if (Number.isFinite(first)) assert.isFalse(isDue(Math.ceil(first) - 1, 1 - 2 ** -53))
      }),
      { numRuns: 2_000 }
    )
  })

  it("is the sooner due the later it is, the longer the load took, the greater beta and the draw", () => {
    fc.assert(
      fc.property(dueCases, fc.nat(10_000), (due, more) => {
        const { beta, draw, early, entry, loadTime } = due
        const now = timeOf(due)
        if (!Aging.isDue(entry, loadTime, policyOf(due), now, draw)) return
        assert.isTrue(Aging.isDue(entry, loadTime, policyOf(due), now + more, draw))
        assert.isTrue(Aging.isDue(entry, loadTime + more, policyOf(due), now, draw))
        assert.isTrue(Aging.isDue(entry, loadTime, policyOf(due), now, Math.max(draw, 1 - 2 ** -53)))
        if (beta > 0) assert.isTrue(Aging.isDue(entry, loadTime, policyOf({ early, beta: beta + more }), now, draw))
      }),
      { numRuns: 500 }
    )
  })

  it("at its end it is due for every draw, where chance has a say", () => {
    fc.assert(
      fc.property(dueCases, (due) => {
        const expected = due.beta > 0 || due.early < 1
        assert.strictEqual(Aging.isDue(due.entry, due.loadTime, policyOf(due), due.entry.expiresAt, due.draw), expected)
      })
    )
  })

  it("what never expires is never due", () => {
    const entry = { createdAt: 5, expiresAt: Infinity, staleUntil: Infinity }
    fc.assert(
      fc.property(dueCases, ({ beta, draw, early, loadTime }) => {
        assert.isFalse(Aging.isDue(entry, loadTime, policyOf({ beta, early }), 1e15, draw))
        assert.strictEqual(Aging.firstDue(entry, loadTime, policyOf({ beta, early })), Infinity)
      })
    )
  })
})
