import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { IsKnownTo } from "../src/InvalidationBus.ts"
import { intact, type LocalFence, LocalFences, maxTags } from "../src/LocalFence.ts"

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

  it("a pattern breaks the fences on the keys that it accepts", () => {
    const fences = new LocalFences()
    const [a, b, number] = [fences.open("a1"), fences.open("b1"), fences.open(1)]
    fences.breakMatching((id) => String(id).startsWith("a"))
    assert.deepStrictEqual([a.broken, b.broken, number.broken], [true, false, false])
    assert.strictEqual(fences.size, 2)
  })

  it("a tag breaks what was opened before for entries that turn out to have it, and for no others", () => {
    const fences = new LocalFences()
    const before = fences.open("a")
    fences.breakTagged(["x", "y"])
    const between = fences.open("a")
    fences.breakTagged(["y"])
    const after = fences.open("b")
    const broken = [["x"], ["y"], ["z", "y"], ["z"], []].map((tags) =>
      [before, between, after, intact].map((fence) => fences.isBroken(fence, tags))
    )
    assert.deepStrictEqual(broken, [
      [true, false, false, false],
      [true, true, false, false],
      [true, true, false, false],
      [false, false, false, false],
      [false, false, false, false]
    ])
    fences.break("b")
    assert.isTrue(fences.isBroken(after, []))
  })

  it("remembers tags only while a fence is open", () => {
    const fences = new LocalFences()
    fences.breakTagged(["x"])
    assert.strictEqual(fences.tags, 0)
    for (const end of [
      (fence: LocalFence) => fences.close("a", fence),
      () => fences.break("a"),
      () => fences.breakMatching(() => true),
      () => fences.breakAll()
    ]) {
      const fence = fences.open("a")
      fences.breakTagged(["x"])
      assert.strictEqual(fences.tags, 1)
      end(fence)
      assert.deepStrictEqual([fences.tags, fences.size, fence.broken], [0, 0, true])
    }
  })

  it("too many tags break every fence, but first those are forgotten that no open fence needs", () => {
    const fences = new LocalFences()
    const tags = (name: string) => Array.from({ length: maxTags }, (_, i) => `${name} ${i}`)
    const old = fences.open("old")
    fences.breakTagged(tags("first"))
    const young = fences.open("young")
    assert.deepStrictEqual([fences.tags, old.broken], [maxTags, false])
    fences.close("old", old)
    fences.breakTagged(["one more"])
    assert.deepStrictEqual([fences.tags, young.broken], [1, false])
    assert.isTrue(fences.isBroken(young, ["one more"]))
    fences.breakTagged(tags("second"))
    assert.deepStrictEqual([fences.tags, fences.size, young.broken], [0, 0, true])
  })

  it("breaks exactly what is open, and closes for good what is closed", () =>
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60, size: "max" }), (commands) => {
        const fences = new LocalFences()
        const opened: Array<Opened> = []
        for (const { _tag, id, index, tags } of commands) {
          if (_tag === "Open") {
            opened.push({ id, fence: fences.open(id), open: true, broken: false, tags: new Set() })
          }
          if (_tag === "Close" && opened.length > 0) {
            const closed = opened[index % opened.length]!
            fences.close(closed.id, closed.fence)
            closed.open = false
            closed.broken = true
          }
          if (_tag === "Break") fences.break(id)
          if (_tag === "BreakMatching") fences.breakMatching((other) => other !== id)
          if (_tag === "BreakTagged") fences.breakTagged(tags)
          if (_tag === "BreakAll") fences.breakAll()
          for (const fence of opened) {
            const isHit =
              _tag === "BreakAll" ||
              (_tag === "Break" && fence.id === id) ||
              (_tag === "BreakMatching" && fence.id !== id)
            if (fence.open && isHit) fence.broken = true
            if (_tag === "BreakTagged") for (const tag of tags) fence.tags.add(tag)
            assert.strictEqual(fence.fence.broken, fence.broken)
            for (const some of [[], ["x"], ["y"], ["y", "z"]]) {
              const isBroken = fence.broken || some.some((tag) => fence.tags.has(tag))
              assert.strictEqual(fences.isBroken(fence.fence, some), isBroken)
            }
          }
          const keys = new Set(opened.filter(({ broken, open }) => open && !broken).map(({ id }) => id))
          assert.strictEqual(fences.size, keys.size)
        }
      })
    ))
})

/** The store of these tests counts its moments. */
const since =
  (moment: number): IsKnownTo =>
  (snapshot) =>
    Number(snapshot) >= moment

describe("LocalFences: news", () => {
  it("news breaks the fence of what looked before it happened, and of nothing that looked after", () => {
    const fences = new LocalFences()
    const [before, after] = [fences.open("a"), fences.open("a")]
    fences.see(before, "1")
    fences.see(after, "2")
    fences.break("a", since(2))
    assert.deepStrictEqual([before.broken, after.broken], [true, false])
    assert.isTrue(fences.hold("a"))
    fences.break("a", since(3))
    assert.isTrue(after.broken)
    assert.isFalse(fences.hold("a"))
  })

  it("news that comes before the answer breaks the fence until the answer knew of all of it", () => {
    const fences = new LocalFences()
    const [knew, knewNot] = [fences.open("a"), fences.open("b")]
    for (const id of ["a", "b"]) for (const moment of [2, 1]) fences.break(id, since(moment))
    assert.deepStrictEqual([knew.broken, knewNot.broken, fences.hold("a")], [true, true, false])
    fences.see(knew, "2")
    fences.see(knewNot, "1")
    assert.deepStrictEqual([knew.broken, knewNot.broken, fences.hold("a")], [false, true, true])
  })

  it("a change of this process breaks the fence whatever is known of others", () => {
    const fences = new LocalFences()
    const [asking, answered] = [fences.open("a"), fences.open("b")]
    fences.see(answered, "9")
    for (const id of ["a", "b"]) {
      fences.break(id, since(1))
      fences.break(id)
    }
    fences.see(asking, "9")
    assert.deepStrictEqual([asking.broken, answered.broken], [true, true])
  })

  it("of news by tag what looked after it is as one that was opened after it", () => {
    const fences = new LocalFences()
    const [before, after] = [fences.open("a"), fences.open("b")]
    fences.see(before, "1")
    fences.see(after, "2")
    fences.breakTagged(["x"], since(2))
    assert.deepStrictEqual([fences.hold("a"), fences.hold("b")], [false, true])
    assert.deepStrictEqual([fences.isBroken(before, ["x"]), fences.isBroken(after, ["x"])], [true, false])
    // Of two of them, the older may come later.
    fences.breakTagged(["x"], since(3))
    fences.breakTagged(["x"], since(1))
    assert.isTrue(fences.isBroken(after, ["x"]))
  })

  it("is never wrong to hold, in whatever order answers, news and changes come", () =>
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
        const fences = new LocalFences()
        const opened: Array<Asking> = []
        for (const { _tag, id, index, moment, tag } of steps) {
          const asking = opened[index % (opened.length || 1)]
          if (_tag === "Open") {
            const fence = fences.open(id)
            opened.push({ id, fence, moment: undefined, isChanged: false, news: [], tagged: [] })
          }
          if (_tag === "See" && asking !== undefined && asking.moment === undefined) {
            asking.moment = moment
            fences.see(asking.fence, `${moment}`)
          }
          if (_tag === "Change") fences.break(id)
          if (_tag === "News") fences.break(id, since(moment))
          if (_tag === "AllNews") fences.breakMatching(() => true, since(moment))
          if (_tag === "TagNews") fences.breakTagged([tag], since(moment))
          for (const asking of opened) {
            const isHit = asking.id === id
            if (_tag === "Change" && isHit) asking.isChanged = true
            if ((_tag === "News" && isHit) || _tag === "AllNews") asking.news.push(moment)
            if (_tag === "TagNews") asking.tagged.push([tag, moment])
            const { fence, isChanged, moment: seen = -Infinity, news, tagged } = asking
            const isBroken = isChanged || news.some((moment) => moment > seen)
            assert.strictEqual(fence.broken, isBroken)
            for (const some of ["x", "y"]) {
              const isOvertaken = tagged.some(([tag, moment]) => tag === some && moment > seen)
              if (isBroken || isOvertaken) assert.isTrue(fences.isBroken(fence, [some]))
              else if (tagged.length === 0) assert.isFalse(fences.isBroken(fence, [some]))
            }
          }
        }
      })
    ))
})

interface Asking {
  readonly id: string
  readonly fence: LocalFence
  moment: number | undefined
  isChanged: boolean
  readonly news: Array<number>
  readonly tagged: Array<readonly [tag: string, moment: number]>
}

const step = fc.record({
  _tag: fc.constantFrom("Open", "Open", "See", "See", "News", "News", "AllNews", "TagNews", "Change"),
  id: fc.constantFrom("a", "b"),
  index: fc.nat(),
  moment: fc.integer({ min: 1, max: 5 }),
  tag: fc.constantFrom("x", "y")
})

interface Opened {
  readonly id: string
  readonly fence: LocalFence
  open: boolean
  broken: boolean
  readonly tags: Set<string>
}

const command = fc.record({
  _tag: fc.constantFrom(
    "Open",
    "Open",
    "Open",
    "Open",
    "Close",
    "Close",
    "Break",
    "BreakMatching",
    "BreakTagged",
    "BreakTagged",
    "BreakAll"
  ),
  id: fc.constantFrom("a", "b", "c"),
  index: fc.nat(),
  tags: fc.subarray(["x", "y", "z"])
})
