import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { type LocalFence, LocalFences } from "../src/LocalFence.ts"

describe("LocalFences", () => {
  it("a fence holds until its key is changed, and no other key's change breaks it", () => {
    const fences = new LocalFences()
    const [a, b] = [fences.open("a"), fences.open("b")]
    fences.break("b")
    assert.deepStrictEqual([a.broken, b.broken], [false, true])
    fences.break("a")
    assert.isTrue(a.broken)
  })

  it("a fence that is opened after a change holds", () => {
    const fences = new LocalFences()
    fences.open("a")
    fences.break("a")
    assert.isFalse(fences.open("a").broken)
  })

  it("a closed fence does not hold, nor does closing it close another of its key", () => {
    const fences = new LocalFences()
    const [closed, open] = [fences.open("a"), fences.open("a")]
    fences.close("a", closed)
    assert.deepStrictEqual([closed.broken, open.broken], [true, false])
    fences.break("a")
    assert.isTrue(open.broken)
  })

  it("a number and the string that looks like it are two keys", () => {
    const fences = new LocalFences()
    const [number, string] = [fences.open(1), fences.open("1")]
    fences.break(1)
    assert.deepStrictEqual([number.broken, string.broken], [true, false])
  })

  it("breaks exactly what is open, and closes for good what is closed", () =>
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60, size: "max" }), (commands) => {
        const fences = new LocalFences()
        const opened: Array<{ readonly id: string; readonly fence: LocalFence; open: boolean; broken: boolean }> = []
        for (const { _tag, id, index } of commands) {
          if (_tag === "Open") opened.push({ id, fence: fences.open(id), open: true, broken: false })
          if (_tag === "Close" && opened.length > 0) {
            const closed = opened[index % opened.length]!
            fences.close(closed.id, closed.fence)
            closed.open = false
            closed.broken = true
          }
          if (_tag === "Break") fences.break(id)
          if (_tag === "BreakAll") fences.breakAll()
          for (const fence of opened) {
            if (fence.open && (_tag === "BreakAll" || (_tag === "Break" && fence.id === id))) fence.broken = true
            assert.strictEqual(fence.fence.broken, fence.broken)
          }
          const keys = new Set(opened.filter(({ broken, open }) => open && !broken).map(({ id }) => id))
          assert.strictEqual(fences.size, keys.size)
        }
      })
    ))
})

const command = fc.record({
  _tag: fc.constantFrom("Open", "Open", "Open", "Close", "Close", "Break", "BreakAll"),
  id: fc.constantFrom("a", "b", "c"),
  index: fc.nat()
})
