import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { tickMillis, type TimerNode, TimerWheel } from "../src/TimerWheel.ts"

const node = (expiresAt: number): TimerNode => ({ expiresAt, timerNext: undefined, timerPrevious: undefined })

const ignore = (): void => {}

const refuse = (): void => assert.fail("nothing is due")

const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour
const year = 365 * day
const epoch = Date.UTC(2026, 0, 1)

const tickOf = (time: number): number => Math.floor(time / tickMillis)

const dueTimes = (nodes: Iterable<TimerNode>): ReadonlyArray<number> =>
  Array.from(nodes, (node) => node.expiresAt).toSorted((a, b) => a - b)

const wheelAt = (now: number): TimerWheel<TimerNode> => {
  const wheel = new TimerWheel<TimerNode>()
  wheel.advance(now, ignore)
  return wheel
}

/** Lifetimes and steps of the clock of every order of magnitude, and those around the edges of the levels. */
const duration = fc.oneof(
  fc.nat(3 * second),
  fc.nat(5 * minute),
  fc.nat(3 * hour),
  fc.nat(10 * day),
  fc.nat(2 * year),
  fc
    .tuple(fc.constantFrom(1, 63, 64, 65, 64 * 64, 64 * 64 * 32, 64 * 64 * 32 * 4), fc.integer({ min: -2, max: 2 }))
    .map(([ticks, off]) => Math.max(0, ticks * tickMillis + off)),
  fc.constant(1e15)
)

describe("TimerWheel", () => {
  it("gives up a node no earlier than it is due and no later than a tick after", () => {
    for (const timeToLive of [1, 500, second, 59 * second, 66 * second, minute, hour, day, 7 * day, 30 * day, year]) {
      const due = epoch + timeToLive
      const wheel = wheelAt(epoch)
      wheel.schedule(node(due))
      const step = Math.max(1, Math.floor(timeToLive / 100))
      let now = epoch
      while (wheel.scheduled > 0 && now < due + hour + 2 * step) {
        now += step
        wheel.advance(now, (node) => assert.isAtMost(node.expiresAt, now, `${timeToLive} ms: early`))
        wheel.checkInvariants()
      }
      assert.isAtMost(now, due + step + tickMillis, `${timeToLive} ms: late`)
      assert.strictEqual(wheel.scheduled, 0)
    }
  })

  it("does not keep a node that never expires", () => {
    const wheel = wheelAt(epoch)
    const eternal = node(Infinity)
    wheel.schedule(eternal)
    assert.strictEqual(wheel.scheduled, 0)
    assert.deepStrictEqual(dueTimes(wheel.nodes()), [])
    wheel.deschedule(eternal)
    assert.strictEqual(wheel.scheduled, 0)
  })

  it("gives up a node that was already due when it was scheduled", () => {
    const wheel = wheelAt(epoch)
    const fired: Array<TimerNode> = []
    const late = node(epoch - day)
    wheel.schedule(late)
    wheel.advance(epoch + tickMillis, (node) => fired.push(node))
    assert.deepStrictEqual(fired, [late])
  })

  it("forgets a node that was descheduled", () => {
    const wheel = wheelAt(epoch)
    const [a, b, c] = [node(epoch + second), node(epoch + second), node(epoch + second)] as const
    for (const each of [a, b, c]) wheel.schedule(each)
    wheel.deschedule(b)
    wheel.deschedule(b)
    const fired: Array<TimerNode> = []
    wheel.advance(epoch + minute, (node) => fired.push(node))
    assert.deepStrictEqual(fired, [a, c])
    assert.strictEqual(wheel.scheduled, 0)
  })

  it("moves a node that is scheduled twice instead of keeping it twice", () => {
    const wheel = wheelAt(epoch)
    const once = node(epoch + second)
    wheel.schedule(once)
    wheel.schedule(once)
    assert.strictEqual(wheel.scheduled, 1)
    assert.deepStrictEqual(dueTimes(wheel.nodes()), [once.expiresAt])
  })

  it("settle gives up what is due within the tick that has begun, and nothing else of it", () => {
    const start = tickOf(epoch) * tickMillis + tickMillis
    const wheel = wheelAt(start)
    for (const offset of [10, 20, 30]) wheel.schedule(node(start + offset))
    const fired: Array<number> = []
    wheel.advance(start + 20, (node) => fired.push(node.expiresAt))
    assert.deepStrictEqual(fired, [])
    wheel.settle(start + 20, (node) => fired.push(node.expiresAt))
    assert.deepStrictEqual(fired, [start + 10, start + 20])
    wheel.checkInvariants()
  })

  it("takes a jump of ten years as it takes a second", () => {
    const wheel = wheelAt(epoch)
    const dues = [second, minute, hour, day, 30 * day, year, 20 * year].map((after) => epoch + after)
    for (const due of dues) wheel.schedule(node(due))
    const fired: Array<number> = []
    wheel.advance(epoch + 10 * year, (node) => fired.push(node.expiresAt))
    assert.deepStrictEqual(
      fired.toSorted((a, b) => a - b),
      dues.slice(0, -1)
    )
    assert.isAtMost(wheel.visited, dues.length)
    wheel.checkInvariants()
  })

  it("keeps the nodes when the clock goes back, and gives them up when it comes round", () => {
    const wheel = wheelAt(epoch)
    const due = epoch + minute
    wheel.schedule(node(due))
    wheel.advance(epoch - 3 * year, refuse)
    wheel.checkInvariants()
    for (let now = epoch - 3 * year; now < due; now += day) wheel.advance(now, refuse)
    wheel.advance(due - 1, refuse)
    let fired = 0
    wheel.advance(due + tickMillis, () => fired++)
    assert.strictEqual(fired, 1)
  })

  it("does not look at living nodes, however many there are, but to spread a coarse bucket that begins", () => {
    const wheel = wheelAt(epoch)
    const living = 10_000
    for (let i = 0; i < living; i++) wheel.schedule(node(epoch + 2 * minute + i * minute))
    for (let i = 0; i < 30; i++) wheel.schedule(node(epoch + i * second))
    wheel.settle(epoch + 45 * second, ignore)
    assert.strictEqual(wheel.scheduled, living)
    assert.isAtMost(wheel.visited, 30 + 30)
  })

  it("looks at a node a handful of times in its life, however often it is advanced", () => {
    const wheel = wheelAt(epoch)
    const lives = [5 * second, 5 * minute, 5 * hour, 5 * day]
    for (const life of lives) wheel.schedule(node(epoch + life))
    for (let now = epoch; now < epoch + 6 * day; now += second) wheel.advance(now, ignore)
    assert.strictEqual(wheel.scheduled, 0)
    assert.isAtMost(wheel.visited, 1 + 2 + 3 + 5)
  })

  it("lets the callback schedule and deschedule other nodes", () => {
    const wheel = wheelAt(epoch)
    const [first, second_] = [node(epoch + second), node(epoch + second)]
    const later = node(epoch + hour)
    wheel.schedule(first)
    wheel.schedule(second_)
    const fired: Array<TimerNode> = []
    wheel.advance(epoch + minute, (node) => {
      fired.push(node)
      wheel.deschedule(second_)
      wheel.schedule(later)
    })
    assert.deepStrictEqual(fired, [first])
    assert.deepStrictEqual([...wheel.nodes()], [later])
    wheel.checkInvariants()
  })

  it("loses nothing when the callback throws: the rest is given up at the next call", () => {
    const wheel = wheelAt(epoch)
    for (let i = 0; i < 3; i++) wheel.schedule(node(epoch + second + i))
    assert.throws(() =>
      wheel.advance(epoch + minute, () => {
        throw new Error("no")
      })
    )
    const fired: Array<number> = []
    wheel.advance(epoch + minute, (node) => fired.push(node.expiresAt))
    assert.strictEqual(fired.length, 2)
    wheel.checkInvariants()
  })

  it("agrees with a sorted list under any calls and any moves of the clock", () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant("schedule" as const), after: duration }),
      fc.record({ kind: fc.constant("deschedule" as const), after: fc.nat(50) }),
      fc.record({ kind: fc.constantFrom("advance" as const, "settle" as const), after: duration }),
      fc.record({ kind: fc.constant("back" as const), after: duration })
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80, size: "max" }), (commands) => {
        let now = epoch
        const wheel = wheelAt(now)
        let kept: Array<TimerNode> = []
        for (const { kind, after } of commands) {
          if (kind === "schedule") {
            const fresh = node(now + after)
            wheel.schedule(fresh)
            kept.push(fresh)
          } else if (kind === "deschedule") {
            const [chosen] = kept.splice(after % Math.max(1, kept.length), 1)
            if (chosen !== undefined) wheel.deschedule(chosen)
          } else {
            const earlier = now
            now = kind === "back" ? Math.max(0, now - after) : Math.min(now + after, 8.64e15)
            const fired: Array<number> = []
            const onExpired = (node: TimerNode): void => void fired.push(node.expiresAt)
            if (kind === "settle") wheel.settle(now, onExpired)
            else wheel.advance(now, onExpired)
            const moved = tickOf(now) !== tickOf(earlier)
            const gone = kept.filter((node) =>
              kind === "settle" ? node.expiresAt <= now : moved && tickOf(node.expiresAt) < tickOf(now)
            )
            assert.deepStrictEqual(
              fired.toSorted((a, b) => a - b),
              dueTimes(gone)
            )
            kept = kept.filter((node) => !gone.includes(node))
          }
          assert.deepStrictEqual(dueTimes(wheel.nodes()), dueTimes(kept))
          assert.strictEqual(wheel.scheduled, kept.length)
          wheel.checkInvariants()
        }
      }),
      { numRuns: 500 }
    )
  })
})
