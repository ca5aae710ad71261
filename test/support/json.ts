/**
 * Whether Node 26.10 may parse this, and other texts after it. Once its JSON.parse has met a name that
 * ends in a backslash, it takes other escapes in the names of other objects for that.
 */
export const hasNoBackslash = (json: string): boolean => !json.includes("\\\\")

/** The same of a name. */
export const isPlainName = (name: string): boolean => !name.includes("\\")
