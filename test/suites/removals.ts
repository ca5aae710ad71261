/** The ways to take back a value of key "a" and tag "t", other than by its key. */
import type { Effect } from "effect"
import type { CacheError } from "../../src/CacheError.ts"
import type { Namespace } from "../../src/index.ts"
import type { Operations } from "../../src/Operations.ts"

type Numbers = Namespace.Namespace<string, number>

export type Removal = (cache: Operations, ns: Numbers) => Effect.Effect<unknown, CacheError>

/** Of an entry without a reserve nothing is left by any of these; key "b" is left alone. */
export const removals: Readonly<Record<string, Removal>> = {
  expire: (cache, ns) => cache.expire(ns, "a"),
  expireMany: (cache, ns) => cache.expireMany(ns, ["x", "a"]),
  invalidateTags: (cache, ns) => cache.invalidateTags(ns, ["x", "t"]),
  expireTags: (cache, ns) => cache.expireTags(ns, ["t"]),
  invalidatePattern: (cache, ns) => cache.invalidatePattern(ns, "[!b-z]*"),
  expirePattern: (cache, ns) => cache.expirePattern(ns, "a")
}
