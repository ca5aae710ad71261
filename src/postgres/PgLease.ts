/**
 * Leases in PostgreSQL: who loads a key, among all processes.
 *
 * A lease is three columns of the key's own row: its owner, its end by the
 * database's clock, and whether somebody waits for it. Where there is no row, one
 * without a value and with version 0 is inserted, which every reader takes for no
 * row. There is no session state, so it works behind a pooler that shares sessions.
 *
 * **Why nobody loads what has just been loaded.** A request names the version that
 * its process has read, and is granted only while the row still has it. It locks the
 * row, so it sees what was last committed, whatever its own snapshot:
 *
 *     one:      read: nothing ─ acquire ─ load ─ fill, which ends the lease
 *     another:        read: nothing ──────────────────── acquire: Changed ─ read
 *
 * **Waiting.** A request that is not granted leaves a note, at most once per lease:
 * those who come later find it there and only read, so a crowd does not queue for the
 * row of which its holder has to store the value. Whatever ends the lease finds it there
 * and wakes the others by NOTIFY, in the same statement. So that costs nothing while
 * nobody waits.
 *
 * **What it does not do.** It is no lock: whoever does not ask is not kept from
 * loading or storing, and a fill is judged by its fence alone. A key that somebody
 * is changing at this moment, in a transaction that stays open, is outwaited for a third
 * of a second, then that key is granted to everyone who asks.
 *
 * @since 0.1.0
 */
import { type PgClient, PgTypes } from "@effect/sql-pg"
import { Effect, Record } from "effect"
import type { Statement } from "effect/sql"
import type { CacheError } from "../CacheError.ts"
import type { CacheStore, Fence, KeyText, Lease, LeaseGrant } from "../CacheStore.ts"
import * as Convoy from "../Convoy.ts"
import { byHalves, isContended, isRefusal, outwait } from "./PgContention.ts"
import {
  apartInTransaction,
  arrayFrom,
  arrayOf,
  isInTransaction,
  longKey,
  maxVersion,
  noSettings,
  prepared,
  serverId,
  type Store,
  storedKey,
  together,
  unavailable,
  unhurriedSettings,
  wakeAwaiting
} from "./PgStatement.ts"

/**
 * The `acquire` of a store; see `CacheStore`. Requests in one namespace at the same time travel together.
 *
 * @category operations
 * @since 0.1.0
 */
export const acquirer = (self: Store): CacheStore["Service"]["acquire"] => {
  const { sql } = self
  const settings = {
    none: noSettings(sql),
    unhurried: unhurriedSettings(sql, false)
  }
  const statements = Record.map(settings, (settings) => acquireWith(sql, settings))
  const answer = (calls: ReadonlyArray<LeaseCall>, settings: "none" | "unhurried") =>
    Effect.suspend(() => {
      const input: LeaseInput = {
        namespace: calls[0]!.group,
        keys: calls.flatMap(({ keys }) => keys),
        wanted: calls.flatMap(({ wanted }) => wanted),
        leases: calls.flatMap(({ keys, lease }) => keys.map(() => lease))
      }
      return Effect.map(statements[settings](input), (answers) => {
        const byKey = new Map(answers.map((answer) => [answer.cache_key, answer]))
        return calls.map(({ keys }) => keys.map((key) => grantOf(byKey.get(key))))
      })
    })
  const convoy = Convoy.make({
    ...together,
    span: "PgCacheStore.acquire",
    isExclusive: true,
    carry: (calls: ReadonlyArray<LeaseCall>, isAlone: boolean) =>
      isAlone ? outwait(false)(answer(calls, "unhurried")) : answer(calls, "unhurried"),
    isRefusal
  })
  return (namespace, wanted, lease) => {
    if (wanted.length === 0) return Effect.succeed([])
    const callFor = (wanted: LeaseCall["wanted"]): LeaseCall => ({
      group: namespace,
      keys: wanted.map(({ key }) => storedKey(key)),
      size: 0,
      wanted,
      lease
    })
    const answerTo = (wanted: LeaseCall["wanted"], settings: "none" | "unhurried") =>
      Effect.map(answer([callFor(wanted)], settings), ([grants]) => grants!)
    return apartInTransaction(
      sql,
      answerTo(wanted, "none"),
      Effect.catchIf(convoy.join(callFor(wanted)), isContended, () =>
        byHalves(wanted, (part) => answerTo(part, "unhurried"), granted, maxWaits)
      )
    ).pipe(
      Effect.catchIf(isContended, () => Effect.succeed(wanted.map(() => granted))),
      Effect.mapError(unavailable("take the lease"))
    )
  }
}

/** Of 10 ms each: a caller waits for the answer. */
const maxWaits = 8

interface LeaseCall extends Convoy.Call {
  readonly wanted: ReadonlyArray<{ readonly key: KeyText; readonly fence: Fence }>
  readonly lease: Lease
}

interface LeaseInput extends Pick<LeaseCall, "keys" | "wanted"> {
  readonly namespace: string
  /** One per key. */
  readonly leases: ReadonlyArray<Lease>
}

const acquireWith = (sql: PgClient.PgClient, settings: Statement.Fragment) => {
  const namespace = (input: LeaseInput) => input.namespace
  const isFreeFor = (owner: string) => sql`(
    e.lease_until is null or e.lease_until <= clock_timestamp() or e.lease_owner = ${sql.literal(owner)} or ${isOver(sql)}
  )`
  const isFree = isFreeFor("excluded.lease_owner")
  // The rows are looked up one by one (limit 1), and not joined: the plan is made once, as a rule while the table is
  // empty, and one that reads it whole would be kept while it grows.
  return prepared<{ cache_key: string; remaining: number | null; is_granted: boolean }, LeaseInput>(
    sql,
    sql`
      with asked as materialized (
        select
          u.cache_key, u.long_key, u.version, u.owner, u.duration,
          e.cache_key is not null as is_there,
          coalesce(e.is_awaited and not ${isFreeFor("u.owner")}, false) as is_held,
          split_part(u.fence, '/', 1) <> ${serverId(sql)} or exists (
            select
            from cache_marks(
              u.namespace, coalesce(u.long_key, u.cache_key), coalesce(e.tags, '{}'), '{}',
              split_part(u.fence, '/', 2)::pg_snapshot, pg_current_xact_id_if_assigned(), ${PgTypes.int8(maxVersion)}
            )
          ) as is_changed
        from (select n.namespace, u.* from (select ${namespace}::text as namespace offset 0) n cross join unnest(
          ${arrayFrom(sql, "text", ({ keys }: LeaseInput) => keys)},
          ${arrayFrom(sql, "text", ({ keys, wanted }: LeaseInput) => wanted.map(({ key }, i) => longKey([keys[i]!, key])))},
          ${arrayFrom(sql, "int8", ({ wanted }: LeaseInput) => wanted.map(({ fence }) => BigInt(fence.version)))},
          ${arrayFrom(sql, "text", ({ wanted }: LeaseInput) => wanted.map(({ fence }) => fence.snapshot))},
          ${arrayFrom(sql, "text", ({ leases }: LeaseInput) => leases.map(({ owner }) => owner))},
          ${arrayFrom(sql, "float8", ({ leases }: LeaseInput) => leases.map(({ duration }) => duration))}
        ) as u (cache_key, long_key, version, fence, owner, duration)) u
        left join lateral (
          select e.* from cache_entries e where e.namespace = u.namespace and e.cache_key = u.cache_key limit 1
        ) e on true
      ), changed as (
        insert into cache_entries as e (
          namespace, cache_key, long_key, created_at, expires_at, stale_until, version, loaded_in,
          lease_owner, lease_until, leased_in
        )
        select
          ${namespace}, a.cache_key, a.long_key, clock_timestamp(), clock_timestamp(), clock_timestamp(), 0,
          pg_current_snapshot(), a.owner, clock_timestamp() + a.duration * interval '1 ms',
          pg_current_snapshot()
        from asked a
        cross join ${settings} settings
        where settings.are_set and not a.is_changed and not a.is_held and (a.version = 0 or a.is_there)
        order by a.cache_key collate "C"
        on conflict (namespace, cache_key) do update set
          (lease_owner, lease_until, leased_in, is_awaited) = (
            select
              case when f.is_free then excluded.lease_owner else e.lease_owner end,
              case when f.is_free then excluded.lease_until else e.lease_until end,
              case when f.is_free then excluded.leased_in else e.leased_in end,
              not f.is_free
            -- Said once: each place that looks for marks is made ready whether it runs or not. Four took twice as long as this.
            from (select ${isFree} as is_free offset 0) f
          )
        -- Also where others wait since then: this statement would not see the lease, and answer that the key has changed.
        where (e.cache_key, e.version) in (select a.cache_key, a.version from asked a)
        returning e.cache_key, e.lease_owner, e.lease_until
      )
      select
        a.cache_key,
        coalesce(c.lease_owner, e.lease_owner) = a.owner as is_granted,
        date_part('epoch', coalesce(c.lease_until, e.lease_until) - clock_timestamp()) * 1000 as remaining
      from asked a
      left join changed c on c.cache_key = a.cache_key
      left join lateral (
        select e.lease_owner, e.lease_until
        from cache_entries e
        where e.namespace = (select ${namespace}::text) and e.cache_key = a.cache_key and e.version = a.version
        limit 1
      ) e on true
      where not a.is_changed and (c.cache_key is not null or e.lease_until > clock_timestamp())
    `
  )
}

// A mark has come since the lease on `e` was granted.
const isOver = (sql: PgClient.PgClient) => sql`
  exists (
    select
    from cache_marks(
      e.namespace, coalesce(e.long_key, e.cache_key), e.tags, '{}', e.leased_in, null, ${PgTypes.int8(maxVersion)}
    )
  )
`

const granted: LeaseGrant = { _tag: "Granted" }

const grantOf = (
  answer: { readonly remaining: number | null; readonly is_granted: boolean } | undefined
): LeaseGrant => {
  if (answer === undefined) return { _tag: "Changed" }
  return answer.is_granted ? granted : { _tag: "Held", remaining: Math.max(0, answer.remaining ?? 0) }
}

// The rows that this owner has a lease on, as `e`.
const leasedTo = (
  sql: PgClient.PgClient,
  isInTransaction: boolean,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  owner: Lease["owner"]
): Statement.Fragment => sql`
  select e.namespace, e.cache_key
  from cache_entries e
  cross join ${unhurriedSettings(sql, isInTransaction)} settings
  where settings.are_set
    and e.namespace = (select ${namespace}::text)
    and e.cache_key = any (${arrayOf(sql, "text", keys.map(storedKey))})
    and e.lease_owner = ${owner}
`

/**
 * See `CacheStore`.
 *
 * @category operations
 * @since 0.1.0
 */
export const renew = (
  { sql }: Store,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  { duration, owner }: Lease
): Effect.Effect<void, CacheError> =>
  keys.length === 0
    ? Effect.void
    : Effect.withFiber((fiber) =>
        sql`
          with held as (
            ${leasedTo(sql, isInTransaction(sql, fiber.context), namespace, keys, owner)}
              and e.lease_until > clock_timestamp()
              and not ${isOver(sql)}
            for no key update of e skip locked
          )
          update cache_entries e
          set lease_until = clock_timestamp() + ${PgTypes.float8(duration)} * interval '1 ms'
          from held
          where (e.namespace, e.cache_key) = (held.namespace, held.cache_key)
        `.pipe(Effect.asVoid, Effect.mapError(unavailable("renew the lease")))
      )

/**
 * See `CacheStore`. It outwaits whoever makes a note on the row; who holds it for longer
 * is changing it, which ends the lease too.
 *
 * @category operations
 * @since 0.1.0
 */
export const release = (
  { sql }: Store,
  namespace: string,
  keys: ReadonlyArray<KeyText>,
  owner: Lease["owner"]
): Effect.Effect<void, CacheError> =>
  keys.length === 0
    ? Effect.void
    : Effect.withFiber((fiber) => {
        const isJoined = isInTransaction(sql, fiber.context)
        const released = (keys: ReadonlyArray<KeyText>) =>
          Effect.map(
            sql`
              with held as (
                ${leasedTo(sql, isJoined, namespace, keys, owner)}
                order by e.cache_key
                for no key update of e
              ), changed as (
                update cache_entries e set lease_owner = null, lease_until = null
                from held
                where (e.namespace, e.cache_key) = (held.namespace, held.cache_key)
                returning coalesce(e.long_key, e.cache_key) as key, e.is_awaited
              ), woken as (${wakeAwaiting(sql, namespace)})
              select count(*) from woken
            `,
            () => keys.map(() => undefined)
          )
        return released(keys).pipe(
          // Two seconds and a half: nobody waits for it, and a lease that stays keeps others from loading.
          outwait(isJoined, 7),
          Effect.catchIf(isContended, () =>
            isJoined ? Effect.void : Effect.asVoid(byHalves(keys, released, undefined))
          ),
          Effect.mapError(unavailable("release the lease")),
          Effect.asVoid
        )
      })
