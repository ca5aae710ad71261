/**
 * The log of changes (`cache_log`) as one reads it: what has become visible since the
 * last read, as messages.
 *
 * **The place of a reader** is the snapshot of its last read, not the last number that
 * it saw: the row with the lower number may become visible later.
 *
 *     writer 1:  row 1 ─────────────────────── commit
 *     writer 2:           row 2 ─ commit
 *     reader:                       reads 2              reads 1
 *
 * A read returns what is visible to it and was not in that snapshot: every row
 * exactly once, however long its transaction was open, in time that depends on the
 * number of such rows alone. If an answer is lost, the place has not moved.
 *
 * **Gaps.** A reader cannot know what it missed where the log was trimmed past its
 * place (`cache_log_horizon`), where the server was restarted or is another one (its
 * transaction numbers may have been used twice), and where more has changed than can
 * be read at once.
 *
 * **Rows that make no sense here**, because a later version of the library wrote them
 * or somebody by hand, are taken for a change of everything.
 *
 * The messages of one read come in no particular order: to drop more than one of them
 * says leaves the same, whichever is first.
 *
 * @since 0.1.0
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type { Invalidation, InvalidationMessage, IsKnownTo } from "../InvalidationBus.ts"
import { unescapeKeyText } from "../JsonText.ts"

/**
 * The last snapshot of the database, and which run of which server it is of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly snapshot: string
  readonly server: string
}

/**
 * What a read has found.
 *
 * @category models
 * @since 0.1.0
 */
export interface News {
  /** From where to read on. */
  readonly place: Place
  /** Whether anything may have changed since the last read. There are no messages then. */
  readonly isGap: boolean
  readonly messages: ReadonlyArray<InvalidationMessage>
  /** The kinds of change that are not known here. */
  readonly unknown: ReadonlyArray<string>
  /** How long the change took that took longest to come here, in milliseconds. */
  readonly lag: number | undefined
}

/**
 * What has become visible since then. Without a place it is a gap.
 *
 * @category queries
 * @since 0.1.0
 */
export const readSince = (
  connection: PgConnection.PgConnection,
  place: Place | undefined
): Effect.Effect<News, SqlError.SqlError> =>
  Effect.map(connection.query(since, [place?.snapshot ?? null, place?.server ?? null]), (answer) => {
    const rows = answer.rows as unknown as ReadonlyArray<Row>
    const { is_gap: isTrimmed, server, snapshot } = rows[0]!
    const changes = rows.filter((row): row is Change => row.kind !== null)
    const isGap = isTrimmed || changes.length > maxRows
    return {
      place: { snapshot, server },
      isGap,
      messages: isGap ? [] : messagesOf(changes),
      unknown: changes.flatMap(({ kind }) => (kinds.has(kind) ? [] : [kind])),
      lag: changes.length === 0 ? undefined : changes.reduce((lag, change) => Math.max(lag, change.lag), 0)
    }
  })

interface Answer {
  readonly snapshot: string
  readonly server: string
  readonly is_gap: boolean
}

interface Change extends Answer {
  readonly xid: string
  readonly origin: string
  readonly kind: string
  readonly namespace: string | null
  readonly keys: ReadonlyArray<string> | null
  readonly tag: string | null
  readonly pattern: string | null
  readonly keeps_stale: boolean
  readonly lag: number
}

/** With `kind` null there was nothing to read. */
type Row = Change | (Answer & { readonly kind: null })

const kinds: ReadonlySet<string> = new Set(["keys", "tag", "pattern", "namespace", "all"])

/** The tags of one change are a row each. */
const messagesOf = (changes: ReadonlyArray<Change>): ReadonlyArray<InvalidationMessage> => {
  const messages: Array<InvalidationMessage> = []
  let tags: Array<string> = []
  changes.forEach((change, index) => {
    if (change.kind !== "tag" || change.tag === null || change.namespace === null) {
      messages.push({ origin: change.origin, invalidation: invalidationOf(change), isKnownTo: isVisibleIn(change) })
      return
    }
    const { keeps_stale: keepsStale, namespace, origin, tag } = change
    if (isOfSameCall(changes[index - 1], change)) {
      tags.push(unescapeKeyText(tag))
    } else {
      tags = [unescapeKeyText(tag)]
      const invalidation = { _tag: "Tags", namespace, tags, ...staleness(keepsStale) } as const
      messages.push({ origin, invalidation, isKnownTo: isVisibleIn(change) })
    }
  })
  return messages
}

/** As `pg_visible_in_snapshot`, for the snapshots of fences: "server/xmin:xmax:under,way". */
const isVisibleIn =
  ({ server, xid }: Change): IsKnownTo =>
  (fence) => {
    const [of, snapshot = ""] = fence.split("/")
    const [xmin = "", xmax = "", underWay = ""] = snapshot.split(":")
    const number = BigInt(xid)
    return of === server && (number < BigInt(xmin) || (number < BigInt(xmax) && !underWay.split(",").includes(xid)))
  }

const isOfSameCall = (one: Change | undefined, other: Change): boolean =>
  one !== undefined &&
  one.kind === other.kind &&
  one.tag !== null &&
  one.xid === other.xid &&
  one.namespace === other.namespace &&
  one.origin === other.origin &&
  one.keeps_stale === other.keeps_stale

const invalidationOf = ({ keeps_stale, keys, kind, namespace, pattern }: Change): Invalidation => {
  if (namespace !== null) {
    if (kind === "keys" && keys !== null) return { _tag: "Keys", namespace, keys, ...staleness(keeps_stale) }
    if (kind === "namespace") return { _tag: "Namespace", namespace }
    if (kind === "pattern" && pattern !== null) {
      return { _tag: "Pattern", namespace, pattern: unescapeKeyText(pattern), ...staleness(keeps_stale) }
    }
  }
  return { _tag: "All" }
}

const staleness = (keepsStale: boolean): { readonly keepsStale?: true } => (keepsStale ? { keepsStale } : {})

const maxRows = 10_000

// Not visible in a snapshot is what was under way in it (xip) or had not begun
// (xmax and up); asked for apart, each is a range of the primary key, and one old
// transaction does not have all rows since it began looked at again. Without both
// bounds the planner would expect a third of the table. Rows out of a dump have
// numbers that this server has yet to reach.
const since = `
  with known as materialized (
    select
      $1::pg_snapshot as last,
      pg_current_snapshot() as now,
      date_part('epoch', pg_postmaster_start_time())::text as server,
      (select trimmed from cache_log_horizon) as trimmed
  ), place as materialized (
    select
      last,
      now,
      server,
      coalesce(
        server = $2::text
        and pg_snapshot_xmax(last) <= pg_snapshot_xmax(now)
        and pg_snapshot_xmax(trimmed) <= pg_snapshot_xmax(last)
        and not exists (select from pg_snapshot_xip(last) xip where pg_visible_in_snapshot(xip, trimmed)),
        false
      ) as is_whole
    from known
  )
  select
    place.now::text as snapshot,
    place.server,
    not place.is_whole as is_gap,
    changed.xid::text as xid,
    changed.origin,
    changed.kind,
    changed.namespace,
    changed.keys,
    changed.tag,
    changed.pattern,
    changed.keeps_stale,
    date_part('epoch', clock_timestamp() - changed.at) * 1000 as lag
  from place
  left join lateral (
    select xid, at, origin, kind, namespace, keys, coalesce(long_tag, tag) as tag, pattern, keeps_stale
    from cache_log
    where place.is_whole
      and xid >= pg_snapshot_xmax(place.last)
      and xid < pg_snapshot_xmax(place.now)
      and pg_visible_in_snapshot(xid, place.now)
    union all
    select xid, at, origin, kind, namespace, keys, coalesce(long_tag, tag) as tag, pattern, keeps_stale
    from cache_log
    where place.is_whole and xid = any (array(select pg_snapshot_xip(place.last)))
    limit ${maxRows + 1}
  ) changed on true
`
