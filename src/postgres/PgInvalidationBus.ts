/**
 * How the processes on one database hear what the others changed: an
 * `InvalidationBus` on the log that `PgCacheStore` and the SQL functions write.
 *
 * **Durable first.** A change of the entries and its row in `cache_log` are one
 * statement: both are committed, or neither, with the caller's transaction or
 * savepoint. The row is the message.
 *
 * **Fast second.** `NOTIFY` is a doorbell and says nothing but that there is
 * something to read (its payload: a format version, and who rang). It is rung after
 * the commit, by a fiber of its own for which no writer waits, and at most once per
 * `pause`: a notifying commit holds a lock of the whole server. A doorbell that is
 * lost costs its listeners no more than `pollInterval`.
 *
 * **Reading.** The place of a reader is the snapshot of its last read, not the last
 * number that it saw: the row with the lower number may become visible later.
 *
 *     writer 1:  row 1 ─────────────────────── commit
 *     writer 2:           row 2 ─ commit
 *     reader:                       reads 2              reads 1
 *
 * A read returns what is visible to it and was not in that snapshot: every row
 * exactly once, however long its transaction was open, in time that depends on the
 * number of such rows alone. If an answer is lost, the place has not moved.
 *
 * **Why no old value stays in memory.** A cache opens its local fence before it asks
 * the store, and drops entries and breaks open fences in the step in which the
 * bus calls it. The row becomes visible together with the change, so a value read
 * before the change was read before the row was:
 *
 *     cache:   open ─ read old value ─ keep ───────────── drop
 *     cache:   open ─ read old value ─────────────── break ── not kept
 *     bus:                               read the row ─ call
 *     writer:                   commit
 *
 * and whoever opens a fence after the call reads what has been visible since before
 * it. A row that comes late or twice drops an entry in vain, no more. What a cache
 * did itself it leaves out; except in a transaction, whose commit it may never hear
 * of (`PgCacheStore`).
 *
 * **Trouble.** The reader has a connection of its own beside the pool, so that
 * neither waits for the other. When it is lost, or does not answer in time, the
 * reader connects anew with growing pauses, listens, and then reads on from its
 * place: `LISTEN` before the read, or a doorbell between the two would be lost. It
 * has everything dropped when it cannot know what it missed: the log was trimmed
 * past its place (`cache_log_horizon`), the server was restarted or is another one
 * (its transaction numbers may have been used twice), or it has missed more than
 * can be read at once.
 *
 * **What it does not do.** While its reader is cut off, memory serves what it has:
 * for as long as `memoryTimeToLive` at the worst. One backend that crashes takes all
 * unwritten commits with it where `synchronous_commit` is off, and their numbers
 * may come again unnoticed. It works on the primary only. Behind a pooler that
 * shares sessions `LISTEN` hears nothing, without an error: `listen: false` spares
 * it, and leaves the poll.
 *
 * @since 0.1.0
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Clock, Duration, Effect, Exit, Fiber, Latch, Layer, Queue, Schedule, Scope } from "effect"
import type { SqlError } from "effect/sql"
import { problemOf } from "../CacheError.ts"
import { type BusStatus, InvalidationBus, type InvalidationMessage } from "../InvalidationBus.ts"

/**
 * How often the log is read although nobody rang (default: every second), and
 * whether to listen for the bell (default: yes; not behind a pooler that shares
 * sessions).
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly pollInterval?: Duration.Input | undefined
  readonly listen?: boolean | undefined
}

/**
 * The bus on the tables of a `PgClient`, which `PgMigrations` makes. Returns once the
 * log has been read for the first time, or cannot be: then everything is dropped
 * when it can.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<InvalidationBus["Service"], never, PgClient.PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* PgClient.PgClient
    const self: Bus = {
      client,
      pollInterval: Duration.fromInputUnsafe(options.pollInterval ?? Duration.seconds(1)),
      listen: options.listen ?? true,
      bell: `1 ${globalThis.crypto.randomUUID()}`,
      subscribers: new Set(),
      hasTried: Latch.makeUnsafe(),
      place: undefined,
      isChanged: Latch.makeUnsafe(),
      toRing: 0,
      status: {
        health: { status: "Up", since: yield* Clock.currentTimeMillis },
        sent: 0,
        received: 0,
        caughtUp: 0,
        gaps: 0,
        lag: 0
      }
    }
    yield* Effect.forkScoped(follow(self))
    yield* Effect.forkScoped(ringForever(self))
    // Runs before the fibers end. A program that changes something and ends is heard of at once, too.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => (self.toRing > 0 && self.status.health.status === "Up" ? ring(self) : Effect.void))
    )
    yield* self.hasTried.await
    return {
      publish: () =>
        Effect.sync(() => {
          self.toRing++
          self.isChanged.openUnsafe()
        }),
      subscribe: (onMessage) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            // One who subscribes twice is two.
            const subscriber = (message: InvalidationMessage) => onMessage(message)
            self.subscribers.add(subscriber)
            return subscriber
          }),
          (subscriber) => Effect.sync(() => self.subscribers.delete(subscriber))
        ),
      status: () => ({ ...self.status })
    }
  })

/**
 * The bus with its defaults.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<InvalidationBus, never, PgClient.PgClient> = Layer.effect(InvalidationBus, make())

/**
 * The bus with other settings.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<InvalidationBus, never, PgClient.PgClient> =>
  Layer.effect(InvalidationBus, make(options))

interface Bus {
  readonly client: PgClient.PgClient
  readonly pollInterval: Duration.Duration
  readonly listen: boolean
  /** How this one rings. */
  readonly bell: string
  readonly subscribers: Set<(message: InvalidationMessage) => void>
  /** Opens when the log was read for the first time, or could not be. */
  readonly hasTried: Latch.Latch
  place: Place | undefined
  /** Opens when there is something to ring for. */
  readonly isChanged: Latch.Latch
  toRing: number
  readonly status: { -readonly [Field in keyof BusStatus]: BusStatus[Field] }
}

/** The last snapshot of the database, and which run of which server it is of. */
interface Place {
  readonly snapshot: string
  readonly server: string
}

const channel = "effect_tiered_cache"

/** Between two rings, and between two reads. */
const pause = Duration.millis(5)

/** How long anything may take that is asked of the server. */
const patience = Duration.seconds(5)

const backOff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("3 seconds")]).pipe(Schedule.jittered)

/** One session after the other: the pauses grow until one has read the log, then begin anew. */
const follow = (self: Bus): Effect.Effect<never> =>
  Effect.forever(
    Effect.suspend(() => {
      const session = { hasRead: false }
      return attend(self, session).pipe(
        Effect.scoped,
        Effect.catchDefect((defect) => Effect.fail(new Error("the bus died", { cause: defect }))),
        Effect.tapError((error) => wentDown(self, error)),
        Effect.retry({ schedule: backOff, while: () => !session.hasRead }),
        Effect.ignore,
        Effect.andThen(Effect.sleep(pause))
      )
    })
  )

const attend = Effect.fnUntraced(function* (self: Bus, session: { hasRead: boolean }) {
  const { connection, rings } = yield* connect(self)
  while (true) {
    yield* readOn(self, connection, session.hasRead)
    session.hasRead = true
    yield* cameUp(self)
    yield* Effect.sleep(pause)
    yield* rings === undefined ? Effect.sleep(self.pollInterval) : untilRung(self, rings)
  }
})

/** The connection closes before what is on it, because a dead server would let neither end. */
const connect = Effect.fnUntraced(function* ({ client, listen }: Bus) {
  const wire = yield* Effect.acquireRelease(Scope.make(), (wire) => Scope.close(wire, Exit.void))
  const config = { ...client.config, multiplex: false, applicationName: "effect-tiered-cache bus" }
  const connection = yield* PgConnection.make(config).pipe(
    Scope.provide(wire),
    Effect.flatMap(({ pin }) => pin)
  )
  const rings = listen ? yield* inTime(connection.listen(channel)) : undefined
  yield* Effect.addFinalizer(() => Scope.close(wire, Exit.void))
  return { connection, rings }
})

/** Until another process rings, or nobody has for `pollInterval`. */
const untilRung = (
  { bell, pollInterval, subscribers }: Bus,
  rings: Queue.Dequeue<PgConnection.Notification, SqlError.SqlError>
) =>
  Queue.takeAll(rings).pipe(
    Effect.repeat({ until: (taken) => subscribers.size > 1 || taken.some(({ payload }) => payload !== bell) }),
    Effect.timeoutOption(pollInterval)
  )

interface LogRow {
  readonly snapshot: string
  readonly server: string
  readonly is_gap: boolean
  /** Null where there is nothing to read. */
  readonly origin: string | null
  readonly namespace: string | null
  readonly keys: ReadonlyArray<string> | null
  readonly lag: number
}

/** Calls the subscribers with what has become visible since the last read, in one step. */
const readOn = Effect.fnUntraced(function* (self: Bus, connection: PgConnection.PgConnection, isFollowing: boolean) {
  const { place } = self
  // A server that hangs does not answer to an interruption either: nobody waits for it.
  const reading = yield* Effect.forkDetach(
    Effect.exit(connection.query(logSince, [place?.snapshot ?? null, place?.server ?? null]))
  )
  const { rows } = yield* yield* inTime(Fiber.join(reading))
  const log = rows as unknown as ReadonlyArray<LogRow>
  const { is_gap: isTrimmed, server, snapshot } = log[0]!
  const changes = log.filter(({ origin }) => origin !== null)
  const isGap = isTrimmed || changes.length > maxRows
  self.place = { snapshot, server }
  if (isGap) {
    if (place !== undefined) self.status.gaps++
    tell(self, { origin: "", invalidation: { _tag: "All" } })
  } else {
    self.status.received += changes.length
    if (!isFollowing) self.status.caughtUp += changes.length
    for (const change of changes) tell(self, messageOf(change))
  }
  self.status.lag = changes.reduce(
    (lag, change) => Math.max(lag, change.lag),
    changes.length === 0 ? self.status.lag : 0
  )
  yield* self.hasTried.open
  if (isGap && place !== undefined) {
    yield* Effect.logInfo("cache: too much has changed unheard of, all that memory held is dropped")
  }
})

const tell = ({ subscribers }: Bus, message: InvalidationMessage): void => {
  for (const subscriber of subscribers) subscriber(message)
}

const messageOf = ({ keys, namespace, origin }: LogRow): InvalidationMessage => ({
  origin: origin ?? "",
  invalidation:
    namespace === null
      ? { _tag: "All" }
      : keys === null
        ? { _tag: "Namespace", namespace }
        : { _tag: "Keys", namespace, keys }
})

const maxRows = 10_000

// Not visible in a snapshot is what was under way in it (xip) or had not begun
// (xmax and up); asked for apart, each is a range of the primary key, and one old
// transaction does not have all rows since it began looked at again. Without both
// bounds the planner would expect a third of the table. Rows out of a dump have
// numbers that this server has yet to reach.
const logSince = `
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
    changed.origin,
    changed.namespace,
    changed.keys,
    date_part('epoch', clock_timestamp() - changed.at) * 1000 as lag
  from place
  left join lateral (
    select origin, namespace, keys, at
    from cache_log
    where place.is_whole
      and xid >= pg_snapshot_xmax(place.last)
      and xid < pg_snapshot_xmax(place.now)
      and pg_visible_in_snapshot(xid, place.now)
    union all
    select origin, namespace, keys, at
    from cache_log
    where place.is_whole and xid = any (array(select pg_snapshot_xip(place.last)))
    limit ${maxRows + 1}
  ) changed on true
`

const ringForever = (self: Bus): Effect.Effect<never> =>
  self.isChanged.await.pipe(
    // Whoever waits runs inside the call that opens the latch.
    Effect.andThen(Effect.yieldNow),
    Effect.andThen(ring(self)),
    Effect.andThen(Effect.sleep(pause)),
    Effect.forever
  )

/** If it fails, the poll of the others is soon enough. */
const ring = (self: Bus): Effect.Effect<void> =>
  Effect.suspend(() => {
    const rung = self.toRing
    self.isChanged.closeUnsafe()
    return inTime(self.client.notify(channel, self.bell)).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          self.status.sent++
          self.toRing -= rung
        })
      ),
      Effect.ignoreCause
    )
  })

const inTime = <A, E, R>(asked: Effect.Effect<A, E, R>) =>
  Effect.timeoutOrElse(asked, {
    duration: patience,
    orElse: () => Effect.fail(new Error(`the database did not answer within ${Duration.format(patience)}`))
  })

const wentDown = (self: Bus, error: Error) =>
  Effect.clockWith((clock) => {
    if (self.status.health.status === "Down") return Effect.void
    const problem = problemOf(error)
    self.status.health = { status: "Down", since: clock.currentTimeMillisUnsafe(), problem }
    return Effect.andThen(
      Effect.logWarning(`cache: cut off from what other processes change: ${problem}`),
      self.hasTried.open
    )
  })

const cameUp = (self: Bus) =>
  Effect.clockWith((clock) => {
    if (self.status.health.status === "Up") return Effect.void
    const now = clock.currentTimeMillisUnsafe()
    const seconds = Math.round((now - self.status.health.since) / 1000)
    self.status.health = { status: "Up", since: now }
    return Effect.logInfo(`cache: hears again what other processes change, after ${seconds} s`)
  })
