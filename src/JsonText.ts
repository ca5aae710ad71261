/**
 * JSON and key text in a form that every store can keep.
 *
 * PostgreSQL keeps neither U+0000 nor a lone surrogate in `jsonb` or `text`,
 * while a JavaScript string may hold both. Each of them is therefore written as
 * U+001A followed by its four hexadecimal digits, and so is U+001A itself, which
 * makes the form injective: different strings stay different. Every other
 * string is left as it is.
 *
 * The JSON functions work on the text of a document, where such a character is
 * always an escape (`JSON.stringify` writes `\u0000`, never the character). They
 * neither parse nor check it. What they restore is the document, not its
 * spelling: `jsonb` sorts the keys of objects and writes numbers out in full.
 *
 * @since 0.1.0
 */

/**
 * The text of a JSON document, made storable in `jsonb`.
 *
 * @category JSON
 * @since 0.1.0
 */
export const escapeJsonText = (json: string): string =>
  json.includes("\\u") ? json.replace(escapeSequence, escapeUnit) : json

/**
 * The text of the JSON document that `escapeJsonText` was given.
 *
 * @category JSON
 * @since 0.1.0
 */
export const unescapeJsonText = (json: string): string =>
  json.includes("\\u001a") ? json.replace(escapedSequence, unescapeUnit) : json

/**
 * A string, made storable in a `text` column.
 *
 * @category keys
 * @since 0.1.0
 */
export const escapeKeyText = (text: string): string => (unstorable.test(text) ? text.replace(unit, markUnit) : text)

/**
 * The string that `escapeKeyText` was given.
 *
 * @category keys
 * @since 0.1.0
 */
export const unescapeKeyText = (text: string): string =>
  text.includes(mark)
    ? text.replace(markedUnit, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    : text

const mark = "\u001a"

// Each alternative takes a whole escape, so that in `\\u0000`, a backslash
// before the letters u0000, the second backslash never starts one.
const escapeSequence = /\\(?:u([0-9a-fA-F]{4})|.)/g
const escapedSequence = /\\(?:u001a([0-9a-f]{4})|.)/g

const escapeUnit = (sequence: string, hex: string | undefined): string => {
  if (hex === undefined) return sequence
  const code = Number.parseInt(hex, 16)
  return code === 0 || code === 0x1a || isSurrogate(code) ? `\\u001a${hex.toLowerCase()}` : sequence
}

const unescapeUnit = (sequence: string, hex: string | undefined): string => (hex === undefined ? sequence : `\\u${hex}`)

const isSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdfff

// `\p{Cs}` matches only the surrogates that are not half of a pair.
const unit = /[\p{Cc}\p{Cs}]/gu
const unstorable = /[\p{Cc}\p{Cs}]/u
const markedUnit = new RegExp(`${mark}([0-9a-f]{4})`, "g")

const markUnit = (character: string): string => {
  const code = character.charCodeAt(0)
  return code === 0 || code === 0x1a || isSurrogate(code) ? mark + code.toString(16).padStart(4, "0") : character
}
