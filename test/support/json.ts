/**
 * Whether Node 26.10 parses any objects of such texts rightly. Once it has parsed a name with a
 * backslash, it takes other escapes in names of other objects for that.
 */
export const hasNoBackslash = (json: string): boolean => !json.includes("\\\\")

/** The same of a name. */
export const isPlainName = (name: string): boolean => !name.includes("\\")
