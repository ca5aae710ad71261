/**
 * Changes of many entries at once, by tag, by pattern, of a namespace, of everything:
 * each is a mark in `cache_log` (`migrations/0001_cache.sql`), written by
 * `cache_mark` (`migrations/0003_functions.sql`).
 *
 * A mark takes the same time whatever the number of entries that it covers, and
 * locks none of them: from its commit on they are dead, or stale, wherever they are
 * read, those too that another transaction was about to store:
 *
 *     load:     snapshot ─ read old value ────────────────── fill (snapshot)
 *     another:              mark ─ ............ ─ commit
 *     reader:                                                     read: dead, the
 *                                            mark was not visible in that snapshot
 *
 * The value of a fill that comes after the commit is not stored in the first place.
 *
 * Outside a transaction the first thousand rows are deleted at once, those that
 * somebody holds left out; the sweeper deletes the rest.
 *
 * @since 0.1.0
 */
import { PgTypes } from "@effect/sql-pg"
import { Effect } from "effect"
import type { CacheError } from "../CacheError.ts"
import type { Glob } from "../Glob.ts"
import { escapeKeyText } from "../JsonText.ts"
import { arrayOf, isInTransaction, type Store, unavailable, withOrigin } from "./PgStatement.ts"

/**
 * See `CacheStore.removeTagged`.
 *
 * @category operations
 * @since 0.1.0
 */
export const removeTagged = (
  self: Store,
  namespace: string,
  tags: ReadonlyArray<string>,
  keepsStale: boolean
): Effect.Effect<number, CacheError> =>
  tags.length === 0
    ? Effect.succeed(0)
    : Effect.mapError(
        mark(self, { ...everything, kind: "tag", namespace, tags, keepsStale }),
        unavailable("remove by tag")
      )

/**
 * See `CacheStore.removeMatching`.
 *
 * @category operations
 * @since 0.1.0
 */
export const removeMatching = (
  self: Store,
  namespace: string,
  pattern: Glob,
  keepsStale: boolean
): Effect.Effect<number, CacheError> =>
  Effect.mapError(
    mark(self, { ...everything, kind: "pattern", namespace, pattern: pattern.stored, keepsStale }),
    unavailable("remove by pattern")
  )

/**
 * See `CacheStore.clear`.
 *
 * @category operations
 * @since 0.1.0
 */
export const clear = (self: Store, namespace: string): Effect.Effect<number, CacheError> =>
  Effect.mapError(mark(self, { ...everything, kind: "namespace", namespace }), unavailable("clear"))

/**
 * See `CacheStore.clearAll`.
 *
 * @category operations
 * @since 0.1.0
 */
export const clearAll = (self: Store): Effect.Effect<number, CacheError> =>
  Effect.mapError(mark(self, everything), unavailable("clear"))

interface Mark {
  readonly kind: "tag" | "pattern" | "namespace" | "all"
  readonly namespace: string | null
  readonly tags: ReadonlyArray<string>
  readonly pattern: string | null
  readonly keepsStale: boolean
}

const everything: Mark = { kind: "all", namespace: null, tags: [], pattern: null, keepsStale: false }

const mark = (self: Store, { keepsStale, kind, namespace, pattern, tags }: Mark) => {
  const { sql } = self
  return withOrigin(self, (origin) =>
    Effect.withFiber((fiber) => {
      const batchSize = isInTransaction(sql, fiber.context) ? 0 : rowsAtOnce
      return sql<{ count: number }>`
        select cache_mark(
          ${kind}::text, ${namespace}::text, ${arrayOf(sql, "text", tags.map(escapeKeyText))}, ${pattern}::text,
          ${keepsStale}, ${origin}::text, ${PgTypes.int4(batchSize)}
        )::float8 as count
      `.pipe(Effect.map(([answer]) => answer!.count))
    })
  )
}

const rowsAtOnce = 1000
