import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as fc from "fast-check"
import * as Glob from "../src/Glob.ts"
import { escapeKeyText, unescapeKeyText } from "../src/JsonText.ts"

const glob = (pattern: string) => Result.getOrThrow(Glob.make("genes", pattern))

/** Whether it matches a key, given as itself. */
const matches = (pattern: string, key: string) => glob(pattern).matches(escapeKeyText(key))

const table: ReadonlyArray<readonly [pattern: string, matching: ReadonlyArray<string>, other: ReadonlyArray<string>]> =
  [
    ["", [""], ["a"]],
    ["a", ["a"], ["", "A", "aa", "ba"]],
    ["*", ["", "a", "a/b\nc", "\u0000", "😀"], []],
    ["**", ["", "a"], []],
    [
      "user_*_data",
      ["user_1_data", "user__data", "user_a\n/_data_data"],
      ["user_data", "user_1_data2", "xuser_1_data"]
    ],
    ["user_*", ["user_", "user_1"], ["user", "auser_"]],
    ["*_data", ["_data", "1_data"], ["data", "_data1"]],
    ["*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a", ""]],
    ["aa*aa", ["aaaa", "aabaa"], ["aa", "aaa"]],
    ["*ab*ab*ab", ["ababab", "abxababyab"], ["abab", "ababa"]],
    ["?", ["a", "😀", "\n", "/", "?", "\u0000", "\u001a", "\ud800"], ["", "ab", "\u00000", "😀😀"]],
    ["a?c", ["abc", "a😀c", "a\u0000c"], ["ac", "abbc"]],
    ["?*?", ["ab", "a\u0000", "abc"], ["", "a", "\u0000"]],
    ["*?b", ["ab", "bb", "xxbb"], ["b", "ba"]],
    ["[abc]", ["a", "b", "c"], ["", "d", "ab", "A"]],
    ["[a-c]x", ["ax", "bx", "cx"], ["dx", "-x", "x"]],
    ["[a-c0-9_]", ["b", "5", "_"], ["d", "-"]],
    ["[!a-c]", ["d", "\n", "😀", "\u0000", "!"], ["", "a", "c", "dd"]],
    ["[^a-c]", ["d", "^"], ["a"]],
    ["[a!^]", ["a", "!", "^"], ["b"]],
    ["[!!]", ["a"], ["!"]],
    ["[-a]", ["-", "a"], ["b"]],
    ["[a-]", ["-", "a"], ["b"]],
    ["[!-]", ["a"], ["-"]],
    ["[a-c-e]", ["b", "-", "e"], ["d"]],
    ["[--/]", ["-", ".", "/"], [","]],
    ["[a-a]", ["a"], ["b"]],
    ["[*?[]", ["*", "?", "["], ["a", ""]],
    [String.raw`[\]\-\\]`, ["]", "-", "\\"], ["a"]],
    [String.raw`[\a-\c]`, ["b"], ["-", "\\"]],
    [String.raw`[a\-c]`, ["a", "-", "c"], ["b"]],
    [String.raw`[\!a]`, ["!", "a"], ["b"]],
    ["[[]]", ["[]"], ["[", "]"]],
    ["a]b-c!^", ["a]b-c!^"], ["a"]],
    ["[α-ω]", ["α", "λ", "ω"], ["a", "Ω", "Ա"]],
    ["[😀-😂]", ["😀", "😁", "😂"], ["😃", "\ud83d"]],
    ["[\u0000a]", ["\u0000", "a"], ["0", "\u001a", "b"]],
    ["[!\u0000a]", ["\u001a", "b", "\ud800"], ["\u0000", "a"]],
    ["[\u0000-\uffff]", ["\u0000", "\u001a", "\ud800", "\udfff", "a", "\uffff"], ["😀", ""]],
    ["[\ud83d]", ["\ud83d"], ["😀", "d", "\ud83e"]],
    ["[\ud83d-\ud83f]x", ["\ud83ex"], ["\ud840x", "😀x"]],
    ["a\u0000*", ["a\u0000", "a\u0000b"], ["a", "a0000"]],
    ["*\ud83d", ["\ud83d", "x\ud83d"], ["😀", "d83d"]],
    ["*0", ["0", "a0", "\u00000"], ["\u0000"]],
    ["\ud83d\\\ude00", [], ["😀"]],
    ["\u001a0000", ["\u001a0000"], ["\u0000"]],
    [String.raw`\*\?\[\a\\`, [String.raw`*?[a\ `.trim()], ["a?[a\\", String.raw`\*\?\[\a`]],
    ["{a,b}(c|d)+.$^%_", ["{a,b}(c|d)+.$^%_"], ["a", "{a,b}(c|d)+x$^%_"]]
  ]

const refused: ReadonlyArray<readonly [pattern: string, problem: string]> = [
  [
    "a\\",
    String.raw`the "\" at character 2, the last one, has no character to stand before; write "\\" for the character "\"`
  ],
  [
    "😀\\",
    String.raw`the "\" at character 2, the last one, has no character to stand before; write "\\" for the character "\"`
  ],
  ["a[", String.raw`the class at character 2 is not closed; end it with "]", or write "\[" for the character "["`],
  [
    "[]a",
    String.raw`the class at character 1 is empty; name a character before its "]", or write "\[" for the character "["`
  ],
  [
    "x[!]",
    String.raw`the class at character 2 is empty; name a character before its "]", or write "\[" for the character "["`
  ],
  [
    "[^]",
    String.raw`the class at character 1 is empty; name a character before its "]", or write "\[" for the character "["`
  ],
  ...["[!", "[ab", "[a-", "[a-c", "[c-a", String.raw`[a\]`, "[\\", "[a-\\"].map(
    (pattern) =>
      [
        pattern,
        String.raw`the class at character 1 is not closed; end it with "]", or write "\[" for the character "["`
      ] as const
  ),
  ["\u0000[xz-a]", 'the range "z-a" at character 4 runs backwards; write "a-z"'],
  [String.raw`[\]-\[]`, String.raw`the range "\]-\[" at character 2 runs backwards; write "\[-\]"`],
  ["[z-a", 'the class at character 1 is not closed; end it with "]", or write "\\[" for the character "["'],
  ["[z-ax", 'the range "z-a" at character 2 runs backwards; write "a-z"'],
  ["a".repeat(1025), 'it has 1025 bytes, and a pattern may have 1024; match a shorter beginning, and end it with "*"'],
  ["é".repeat(513), 'it has 1026 bytes, and a pattern may have 1024; match a shorter beginning, and end it with "*"'],
  ["\0".repeat(205), 'it has 1025 bytes, and a pattern may have 1024; match a shorter beginning, and end it with "*"']
]

const nasty = fc.constantFrom(
  ...`ab01%_\\*?[]-!^'".()+{}|$/\n`,
  ...`\\**??[[]]-`,
  "😀",
  "é",
  "\u0000",
  "\u001a",
  "\ud83d",
  "\ude00",
  "0000"
)
const nastyText = fc.array(nasty, { maxLength: 12, size: "max" }).map((characters) => characters.join(""))

/** What the pattern's steps accept, of a pattern that `make` has found to be one. */
const reference = (pattern: string): ReadonlyArray<"*" | ((character: string) => boolean)> => {
  const parts = pattern.match(/\\[^]|\[[!^]?(?:\\[^]|[^\]\\])+\]|[^]/gu) ?? []
  return parts.map((part) => {
    if (part === "*") return "*"
    if (part === "?") return () => true
    if (part.length === 1 || !part.startsWith("[")) {
      const literal = part.length > 1 && part.startsWith("\\") ? part.slice(1) : part
      return (character) => character === literal
    }
    const isNegated = /^\[[!^]/.test(part)
    const members = part
      .slice(isNegated ? 2 : 1, -1)
      .match(/(?:\\[^]|[^\\])-(?:\\[^]|[^\\])|\\[^]|[^]/gu)!
      .map((member) => {
        const [from, to = from] = member.match(/\\[^]|[^]/gu)!.filter((_, index) => index !== 1)
        return [from!, to!].map((each) => (each.length > 1 && each.startsWith("\\") ? each.slice(1) : each))
      })
    return (character) => {
      const code = character.codePointAt(0)!
      return members.some(([from, to]) => from!.codePointAt(0)! <= code && code <= to!.codePointAt(0)!) !== isNegated
    }
  })
}

const codes = (text: string) => Array.from(text, (character) => `<${character.codePointAt(0)}>`).join("")

/** By dynamic programming: which beginnings of the key the steps so far match. */
const matchesSlowly = (pattern: string, key: string): boolean => {
  const characters = Array.from(key)
  let reached = [true, ...characters.map(() => false)]
  for (const step of reference(pattern)) {
    const next: Array<boolean> = []
    for (let at = 0; at <= characters.length; at++) {
      next.push(
        step === "*"
          ? reached[at]! || (at > 0 && next[at - 1]!)
          : at > 0 && reached[at - 1]! && step(characters[at - 1]!)
      )
    }
    reached = next
  }
  return reached.at(-1)!
}

describe("Glob", () => {
  it.each(table)("%j matches whole keys, character by character", (pattern, matching, other) => {
    assert.deepStrictEqual(
      [...matching, ...other].filter((key) => matches(pattern, key)),
      matching
    )
  })

  it.each(refused)("refuses %j and says what would be right", (pattern, problem) => {
    const error = Result.getOrThrow(Result.flip(Glob.make("genes", pattern)))
    assert.deepInclude(error.reason, { _tag: "InvalidPattern", namespace: "genes", pattern, problem })
    assert.isFalse(error.isRetryable)
    const shown = pattern.length > 100 ? `${pattern.slice(0, 100)}...` : pattern
    assert.strictEqual(error.message, `namespace "genes", pattern "${shown}": ${problem}`)
  })

  it("allows 1024 bytes", () => {
    for (const pattern of ["a".repeat(1024), "é".repeat(512), "\0".repeat(204), "[!a]".repeat(256)]) {
      assert.strictEqual(glob(pattern).pattern, pattern)
    }
  })

  it("keeps the pattern, in the form that the store takes too", () => {
    fc.assert(
      fc.property(nastyText, (pattern) => {
        const made = Glob.make("genes", pattern)
        if (Result.isFailure(made)) return
        assert.strictEqual(made.success.pattern, pattern)
        assert.strictEqual(unescapeKeyText(made.success.stored), pattern)
        assert.match(made.success.stored, /^[^\0\p{Cs}]*$/u)
      })
    )
  })

  it("matches one text alone if every character is escaped", () => {
    fc.assert(
      fc.property(nastyText, nastyText, (text, other) => {
        const pattern = Array.from(text, (character) => `\\${character}`).join("")
        assert.isTrue(matches(pattern, text))
        assert.strictEqual(matches(pattern, other), text === other)
        assert.isTrue(matches(`*${pattern}`, `${other}|${text}`))
        assert.strictEqual(matches(`*${pattern}*`, other), codes(other).includes(codes(text)))
      }),
      { numRuns: 2000 }
    )
  })

  it("agrees with a matcher that tries everything", () => {
    let matched = 0
    let missed = 0
    fc.assert(
      fc.property(nastyText, fc.array(nastyText, { maxLength: 8, size: "max" }), (pattern, keys) => {
        const made = Glob.make("genes", pattern)
        if (Result.isFailure(made)) return
        for (const key of [...keys, pattern, pattern.replaceAll(/[*?\\]/g, "a"), pattern.replaceAll(/[[\]\\*]/g, "")]) {
          const expected = matchesSlowly(pattern, key)
          assert.strictEqual(made.success.matches(escapeKeyText(key)), expected, JSON.stringify({ pattern, key }))
          if (expected) matched++
          else missed++
        }
      }),
      { numRuns: 5000, examples: [["*[\\-a]", []]] }
    )
    assert.isAbove(matched, 1000)
    assert.isAbove(missed, 1000)
  })

  it("is for the texts that keys have: one with a U+001A that stands for nothing matches little", () => {
    assert.deepStrictEqual(
      ["*", "*x", "?*", "[!a]*", "*a"].filter((pattern) => glob(pattern).matches("\u001ax")),
      ["*", "*x"]
    )
  })

  it.each([
    "*a*a*a*a*b",
    "*?a*?a*?a*?a*?b",
    "*[ab]*[a]*[a]*[!b]*b",
    "?*".repeat(500) + "b",
    "*" + "a".repeat(1000) + "b"
  ])("%s takes no longer than its length times that of the text", (pattern) => {
    const { matches } = glob(pattern)
    const text = "a".repeat(10_000)
    const began = performance.now()
    assert.isFalse(matches(text))
    assert.isFalse(matches(`${text}\u001a0000`))
    assert.isTrue(matches(`${text}b`))
    assert.isBelow(performance.now() - began, 5000)
  })
})
