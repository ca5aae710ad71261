import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Line, type Place } from "../src/Line.ts"

describe("Line", () => {
  it("who comes is last, and who leaves is gone, wherever they stand (property)", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(), { nil: undefined })), (steps) => {
        const line = new Line<number>()
        let expected: Array<readonly [number, Place<number>]> = []
        for (const [who, leaver] of steps.entries()) {
          if (leaver === undefined) expected.push([who, line.join(who)])
          else if (expected.length > 0) {
            const [, place] = expected[leaver % expected.length]!
            assert.isTrue(line.leave(place))
            assert.isFalse(line.leave(place), "nobody is there any more")
            expected = expected.filter(([, other]) => other !== place)
          }
          const left = expected.map(([who]) => who)
          assert.deepStrictEqual([...line], left)
          assert.deepStrictEqual([line.length, line.first], [left.length, left[0]])
        }
      })
    )
  })

  it("from a place that was left nothing leads anywhere", () => {
    const line = new Line<string>()
    const places = ["a", "b", "c"].map((who) => line.join(who))
    for (const place of [places[1]!, places[0]!, places[2]!]) {
      line.leave(place)
      assert.deepStrictEqual(place, { who: undefined, next: undefined, previous: undefined })
    }
  })
})
