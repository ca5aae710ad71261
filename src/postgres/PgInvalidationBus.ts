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
 * **Reading.** Each row is read once, by `PgChangeLog`, however late its transaction is
 * committed.
 *
 * **Leases.** The same channel says whose lease has ended (`1 released ["namespace",
 * "key"]`), where somebody waits for it. Waiters are called at once: there is nothing
 * to read, and no pause. Any other payload is a doorbell, those of versions to come
 * too.
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
 * has everything dropped when it cannot know what it missed.
 *
 * **What it does not do.** While its reader is cut off, memory serves what it has:
 * for as long as `memoryTimeToLive` at the worst. One backend that crashes takes all
 * unwritten commits with it where `synchronous_commit` is off, and their numbers
 * may come again unnoticed. It works on the primary only. Behind a pooler that
 * shares sessions `LISTEN` hears nothing, without an error: `url` leads the reader
 * past it, or `listen: false` spares the attempt, and leaves the poll. Then no waiter
 * is called either; those who wait for a lease look for themselves.
 *
 * @since 0.1.0
 */
import { PgClient, type PgConnection } from "@effect/sql-pg"
import {
  Clock,
  Duration,
  Effect,
  Latch,
  Layer,
  Option,
  Queue,
  type Redacted,
  Schedule,
  Schema,
  type Scope
} from "effect"
import type { SqlError } from "effect/sql"
import { problemOf } from "../CacheError.ts"
import { type BusStatus, InvalidationBus, type InvalidationMessage, type Released } from "../InvalidationBus.ts"
import { answerOf, channel, inTime, open } from "./PgBusConnection.ts"
import * as PgChangeLog from "./PgChangeLog.ts"

/**
 * How often the log is read although nobody rang (default: every second); whether to
 * listen for the bell (default: yes; not behind a pooler that shares sessions); and
 * where the reader connects to (default: where the client does), past such a pooler.
 *
 * The URL leads to the client's own database and schema. What a URL cannot say is
 * as in the client: `startupParameters`, certificates, a password that is an effect.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly pollInterval?: Duration.Input | undefined
  readonly listen?: boolean | undefined
  readonly url?: Redacted.Redacted | undefined
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
    const now = yield* Clock.currentTimeMillis
    const self: Bus = {
      client,
      pollInterval: Duration.fromInputUnsafe(options.pollInterval ?? Duration.seconds(1)),
      listen: options.listen ?? true,
      url: options.url,
      bell: `1 ${globalThis.crypto.randomUUID()}`,
      subscribers: new Set(),
      hasTried: Latch.makeUnsafe(),
      place: undefined,
      heardAt: now,
      unknown: new Set(),
      isChanged: Latch.makeUnsafe(),
      toRing: 0,
      status: {
        health: { status: "Up", since: now },
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
      // The statement that ends a lease tells the others itself: as a part of its transaction,
      // and only where somebody waits, which no other knows.
      wake: () => Effect.void,
      subscribe: (onMessage, onReleased) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const subscriber: Subscriber = { onMessage, onReleased }
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
  readonly url: Redacted.Redacted | undefined
  /** How this one rings. */
  readonly bell: string
  readonly subscribers: Set<Subscriber>
  /** Opens when the log was read for the first time, or could not be. */
  readonly hasTried: Latch.Latch
  place: PgChangeLog.Place | undefined
  /** When the last read began: it has seen whatever was committed by then. */
  heardAt: number
  /** The kinds of change that it did not know and has complained of. */
  readonly unknown: Set<string>
  /** Opens when there is something to ring for. */
  readonly isChanged: Latch.Latch
  toRing: number
  readonly status: { -readonly [Field in keyof BusStatus]: BusStatus[Field] }
}

interface Subscriber {
  readonly onMessage: (message: InvalidationMessage) => void
  readonly onReleased: ((released: Released) => void) | undefined
}

/** Between two rings, and between two reads. */
const pause = Duration.millis(5)

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

/** Ends with a failure, of whichever comes first: without a reader nobody need listen, and the other way round. */
const attend = Effect.fnUntraced(function* (self: Bus, session: { hasRead: boolean }) {
  const { connection, rings } = yield* open(self)
  const isRung = Latch.makeUnsafe()
  const hearing = rings === undefined ? Effect.never : hear(self, rings, isRung)
  return yield* Effect.raceFirst(readForever(self, connection, isRung, session), hearing)
})

/** Calls those who wait for a lease, and opens the latch if another process rang. */
const hear = (
  self: Bus,
  rings: Queue.Dequeue<PgConnection.Notification, SqlError.SqlError>,
  isRung: Latch.Latch
): Effect.Effect<never, SqlError.SqlError> =>
  Queue.takeAll(rings).pipe(
    Effect.map((taken) => {
      let rang = false
      for (const { payload } of taken) {
        const released = releasedIn(payload)
        if (released === undefined) rang ||= self.subscribers.size > 1 || payload !== self.bell
        else for (const { onReleased } of self.subscribers) onReleased?.(released)
      }
      // Once for all: the reader runs inside the call.
      if (rang) isRung.openUnsafe()
    }),
    Effect.forever
  )

const releasedIn = (payload: string): Released | undefined => {
  if (!payload.startsWith(releasedPrefix)) return undefined
  const named = decodeReleased(payload.slice(releasedPrefix.length))
  return Option.isNone(named) ? undefined : { namespace: named.value[0], keys: [named.value[1]] }
}

const releasedPrefix = "1 released "

const decodeReleased = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Tuple([Schema.String, Schema.String])))

/** Reads, then waits until another process rings, or nobody has for `pollInterval`. */
const readForever = Effect.fnUntraced(function* (
  self: Bus,
  connection: PgConnection.PgConnection,
  isRung: Latch.Latch,
  session: { hasRead: boolean }
) {
  while (true) {
    // Whoever rings from here on may have been too late for this read.
    isRung.closeUnsafe()
    yield* readOn(self, connection, session.hasRead)
    session.hasRead = true
    yield* cameUp(self)
    yield* Effect.sleep(pause)
    yield* Effect.timeoutOption(isRung.await, self.pollInterval)
  }
})

/** Calls the subscribers with what has become visible since the last read, in one step. */
const readOn = Effect.fnUntraced(function* (self: Bus, connection: PgConnection.PgConnection, isFollowing: boolean) {
  const { place, status } = self
  const askedAt = yield* Clock.currentTimeMillis
  const news = yield* answerOf(PgChangeLog.readSince(connection, place))
  self.place = news.place
  self.heardAt = askedAt
  status.lag = news.lag ?? status.lag
  status.received += news.messages.length
  if (!isFollowing) status.caughtUp += news.messages.length
  const isGap = news.isGap && place !== undefined
  if (isGap) status.gaps++
  if (news.isGap) tell(self, { origin: "", invalidation: { _tag: "All" } })
  for (const message of news.messages) tell(self, message)
  yield* self.hasTried.open
  if (isGap) {
    yield* Effect.logInfo("cache: too much has changed unheard of, all that memory held is dropped")
  }
  for (const kind of news.unknown) {
    if (self.unknown.has(kind)) continue
    self.unknown.add(kind)
    yield* Effect.logWarning(
      `cache: a newer version of this library has made a change of a kind that is not known here, "${kind}": memory drops all it holds at each of them`
    )
  }
})

const tell = ({ subscribers }: Bus, message: InvalidationMessage): void => {
  for (const { onMessage } of subscribers) onMessage(message)
}

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

const wentDown = (self: Bus, error: Error) =>
  Effect.clockWith((clock) => {
    if (self.status.health.status === "Down") return Effect.void
    const problem = problemOf(error)
    self.status.health = {
      status: "Down",
      since: clock.currentTimeMillisUnsafe(),
      problem: `${problem}; memory may not know of what has changed since ${new Date(self.heardAt).toISOString()}`
    }
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
