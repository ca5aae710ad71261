/**
 * Patterns over the keys of a namespace, such as `user_*_data`.
 *
 * | pattern | matches |
 * |---|---|
 * | `*` | any run of characters, also none; line breaks and `/` are like all others |
 * | `?` | one character |
 * | `[abc]`, `[a-z0-9]` | one of these, ranges by code point |
 * | `[!abc]`, `[^abc]` | one character that is none of these |
 * | `\x` | the character `x` itself, in a class too |
 *
 * Anything else stands for itself, upper and lower case apart. In a class so do `*`,
 * `?`, `[` and a `-` that comes first or last.
 *
 * A pattern matches whole keys, in their text form (see `KeyCodec`): a string as it
 * is, any other key as canonical JSON. A character is a code point of the key. One
 * that the store cannot hold, such as NUL, is five characters of the text, and one
 * for `?` and for a class.
 *
 * The store matches by the functions of `migrations/0002_glob.sql`, which agree with
 * `matches` on every pattern and every text, and refuse the same patterns. Neither
 * promises anything of a text that no key has, because a U+001A in it stands for no
 * character, except that they agree.
 *
 * A match takes time in proportion to the length of the text, at worst times that of
 * the pattern.
 *
 * @since 0.1.0
 */
import { Result } from "effect"
import { CacheError, InvalidPattern } from "./CacheError.ts"
import { escapeKeyText } from "./JsonText.ts"
import type { KeyText } from "./StoredRow.ts"

/**
 * A pattern that was found to be one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Glob {
  /** As it was given. */
  readonly pattern: string
  /** As the store and its SQL functions take it; `unescapeKeyText` gives `pattern` back. */
  readonly stored: string
  /** Whether it matches a key, by the text that the store keeps. */
  readonly matches: (text: KeyText) => boolean
}

/**
 * The glob of a pattern; fails with `InvalidPattern`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (namespace: string, pattern: string): Result.Result<Glob, CacheError> => {
  const stored = escapeKeyText(pattern)
  const size = Buffer.byteLength(stored)
  const steps =
    size > maxSize
      ? refuse(
          `it has ${size} bytes, and a pattern may have ${maxSize}; match a shorter beginning, and end it with "*"`
        )
      : parse(Array.from(pattern))
  return Result.mapBoth(steps, {
    onSuccess: (steps) => ({ pattern, stored, matches: compile(steps) }),
    onFailure: (problem) => new CacheError({ reason: new InvalidPattern({ namespace, pattern, problem }) })
  })
}

const maxSize = 1024

type Step = "*" | "?" | CodePoint | CharacterClass
type CodePoint = number

interface CharacterClass {
  readonly isNegated: boolean
  readonly ranges: ReadonlyArray<readonly [from: CodePoint, to: CodePoint]>
}

type Characters = ReadonlyArray<string>

const refuse = (problem: string): Result.Result<never, string> => Result.fail(problem)

const parse = (characters: Characters): Result.Result<ReadonlyArray<Step>, string> => {
  const steps: Array<Step> = []
  let at = 0
  while (at < characters.length) {
    const character = characters[at]!
    if (character === "[") {
      const parsed = parseClass(characters, at)
      if (Result.isFailure(parsed)) return refuse(parsed.failure)
      steps.push(parsed.success.characterClass)
      at = parsed.success.end
    } else if (character === "\\") {
      if (at + 1 === characters.length) {
        return refuse(
          `the "\\" at character ${at + 1}, the last one, has no character to stand before; write "\\\\" for the character "\\"`
        )
      }
      steps.push(codePointOf(characters[at + 1]!))
      at += 2
    } else {
      if (character === "*" || character === "?") steps.push(character)
      else steps.push(codePointOf(character))
      at += 1
    }
  }
  return Result.succeed(steps)
}

const parseClass = (
  characters: Characters,
  start: number
): Result.Result<{ readonly characterClass: CharacterClass; readonly end: number }, string> => {
  const isNegated = characters[start + 1] === "!" || characters[start + 1] === "^"
  const ranges: Array<readonly [from: CodePoint, to: CodePoint]> = []
  let at = start + (isNegated ? 2 : 1)
  while (at < characters.length && characters[at] !== "]") {
    const member = at
    const firstEnd = skipCharacter(characters, at)
    const isRange = characters[firstEnd] === "-" && firstEnd + 1 < characters.length && characters[firstEnd + 1] !== "]"
    at = isRange ? skipCharacter(characters, firstEnd + 1) : firstEnd
    if (at >= characters.length) break
    const from = codePointOf(characters[firstEnd - 1]!)
    const to = codePointOf(characters[at - 1]!)
    if (from > to) {
      const written = (begin: number, end: number) => characters.slice(begin, end).join("")
      return refuse(
        `the range "${written(member, at)}" at character ${member + 1} runs backwards; ` +
          `write "${written(firstEnd + 1, at)}-${written(member, firstEnd)}"`
      )
    }
    ranges.push([from, to])
  }
  if (at >= characters.length) {
    return refuse(
      `the class at character ${start + 1} is not closed; end it with "]", or write "\\[" for the character "["`
    )
  }
  return ranges.length === 0
    ? refuse(
        `the class at character ${start + 1} is empty; name a character before its "]", or write "\\[" for the character "["`
      )
    : Result.succeed({ characterClass: { isNegated, ranges }, end: at + 1 })
}

const skipCharacter = (characters: Characters, at: number): number => at + (characters[at] === "\\" ? 2 : 1)

const codePointOf = (character: string): CodePoint => character.codePointAt(0)!

const compile = (steps: ReadonlyArray<Step>): Glob["matches"] => {
  const pieces = piecesOf(steps)
  if (pieces === undefined) return (text) => matchesSteps(steps, text)
  // What follows a "*" could be found within the digits that stand for a character.
  const isAligned = !pieces.slice(1).some((piece) => /^[0-9a-f]/.test(piece))
  return (text) => (isAligned || !text.includes(mark) ? matchesPieces(pieces, text) : matchesSteps(steps, text))
}

/** The texts between the stars; undefined if there are other steps between them. */
const piecesOf = (steps: ReadonlyArray<Step>): ReadonlyArray<KeyText> | undefined => {
  const pieces = [""]
  for (const step of steps) {
    if (step === "*") pieces.push("")
    else if (typeof step === "number") pieces.push(pieces.pop()! + escapeKeyText(String.fromCodePoint(step)))
    else return undefined
  }
  return pieces
}

const matchesPieces = (pieces: ReadonlyArray<KeyText>, text: KeyText): boolean => {
  const first = pieces[0]!
  const last = pieces.at(-1)!
  if (pieces.length === 1) return text === first
  const end = text.length - last.length
  if (end < first.length || !text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  for (let piece = 1; piece < pieces.length - 1; piece++) {
    const found = text.indexOf(pieces[piece]!, at)
    if (found === -1) return false
    at = found + pieces[piece]!.length
  }
  return at <= end
}

const mark = "\u001a"
const unit = new RegExp(`${mark}(0000|001a|d[89a-f][0-9a-f]{2})|[^${mark}]`, "gu")
const loneMark = new RegExp(`${mark}(?!0000|001a|d[89a-f][0-9a-f]{2})`)

/** The code points of the key that has this text; undefined if no key has. */
const codePointsOf = (text: KeyText): ReadonlyArray<CodePoint> | undefined => {
  if (!text.includes(mark)) return Array.from(text, codePointOf)
  if (loneMark.test(text)) return undefined
  return Array.from(text.matchAll(unit), ([character, hex]) =>
    hex === undefined ? codePointOf(character) : Number.parseInt(hex, 16)
  )
}

// After a mismatch only the last star can help by taking one character more: what the
// stars before it took is as little as possible.
const matchesSteps = (steps: ReadonlyArray<Step>, text: KeyText): boolean => {
  const codePoints = codePointsOf(text)
  if (codePoints === undefined) return false
  let step = 0
  let at = 0
  let star = -1
  let starEnd = 0
  while (at < codePoints.length) {
    const current = steps[step]
    if (current === "*") {
      star = step
      starEnd = at
      step += 1
      if (step === steps.length) return true
    } else if (current !== undefined && accepts(current, codePoints[at]!)) {
      step += 1
      at += 1
    } else if (star !== -1) {
      starEnd += 1
      at = starEnd
      step = star + 1
    } else return false
  }
  while (steps[step] === "*") step += 1
  return step === steps.length
}

const accepts = (step: "?" | CodePoint | CharacterClass, codePoint: CodePoint): boolean => {
  if (typeof step !== "object") return step === "?" || step === codePoint
  return step.ranges.some(([from, to]) => from <= codePoint && codePoint <= to) !== step.isNegated
}
