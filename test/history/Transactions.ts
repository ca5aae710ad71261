/**
 * Transactions in which the source changes and the cache is told of it, or not, with
 * reads and savepoints between. They stay open for a while, at every isolation level, and
 * are committed or rolled back.
 */
import { Effect, Exit } from "effect"
import { SqlClient } from "effect/sql"
import { type Do, get, getOrSet, readBack, recorded, setOne, someName, type Surroundings, tell } from "./Deeds.ts"
import type { Isolation } from "./History.ts"
import { now } from "./Recorder.ts"
import * as Source from "./Source.ts"

/** The source first, in a transaction of its own, and then the cache. */
export const updateThenTell: Do = (self) => {
  const { dice } = self
  const [space, name] = [dice.pick(Source.namespaces), someName(dice)]
  return transact(self, "read committed", (self) => update(self, space, name)).pipe(
    Effect.andThen(Effect.suspend(() => tell(self, space, name))),
    Effect.andThen(Effect.suspend(() => readBack(self, space, name)))
  )
}

class Change extends Error {}

/** Some changes of the source, each told to the cache or not, with reads and savepoints between them. */
export const transaction: Do = (self) =>
  Effect.suspend(() => {
    const { dice } = self
    return transact(self, dice.pick(["read committed", "repeatable read", "serializable"] as const), (self) =>
      Effect.gen(function* () {
        yield* steps(self, 0)
        yield* Effect.sleep(dice.chance(0.05) ? dice.between(500, 1500) : dice.between(0, 150))
        if (dice.chance(0.25)) return yield* Effect.fail(new Change())
      })
    )
  })

const steps = (self: Surroundings, depth: number): Effect.Effect<void, unknown> =>
  Effect.gen(function* () {
    for (let left = 1 + self.dice.below(3); left > 0; left--) {
      yield* self.dice.weighted<Do>([
        [5, change],
        [2, getOrSet],
        [2, get],
        [depth < 2 ? 2 : 0, (self) => savepoint(self, depth + 1)]
      ])(self)
      if (self.dice.chance(0.3)) yield* Effect.sleep(self.dice.between(0, 60))
    }
  })

const change: Do = (self) => {
  const { dice } = self
  const [space, name] = [dice.pick(Source.namespaces), someName(dice)]
  const changing = dice.weighted<() => Effect.Effect<unknown, unknown>>([
    [6, () => Effect.andThen(update(self, space, name), tell(self, space, name))],
    [2, () => Effect.andThen(tell(self, space, name), update(self, space, name))],
    [3, () => Effect.flatMap(update(self, space, name), (version) => setOne(self, space, name, version))],
    [1, () => update(self, space, name)]
  ])()
  return Effect.andThen(changing, readBack(self, space, name))
}

const update = (self: Surroundings, space: Source.Space, name: string) => {
  const key = Source.keyOf(space, name)
  return Effect.tap(Source.update(self.sql, key), (version) =>
    recorded(
      self,
      "update",
      () => ({ _tag: "Update", key, version }),
      () => Effect.void
    )
  )
}

const transact = (
  self: Surroundings,
  isolation: Isolation,
  body: (self: Surroundings) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, unknown> =>
  Effect.suspend(() => {
    const { recorder, sql } = self
    const id = recorder.nextId()
    const within = Effect.gen(function* () {
      yield* body({ ...self, transaction: id })
      yield* Source.sign(sql, id)
      recorder.note({ _tag: "Ready", id, at: now() })
    })
    begin(self, id, isolation)
    return sql.withTransaction(within).pipe(
      Effect.provideService(SqlClient.BeginTransaction, `BEGIN ISOLATION LEVEL ${isolation.toUpperCase()}`),
      Effect.onExit((exit) => end(self, id, Exit.isSuccess(exit)))
    )
  })

/** Whatever happens in it, the transaction goes on. */
const savepoint = (self: Surroundings, depth: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { dice, recorder, sql } = self
    const id = recorder.nextId()
    begin(self, id, "read committed")
    const within = Effect.gen(function* () {
      yield* steps({ ...self, transaction: id }, depth)
      if (dice.chance(0.4)) return yield* Effect.fail(new Change())
    })
    return sql.withTransaction(within).pipe(
      Effect.onExit((exit) => end(self, id, Exit.isSuccess(exit))),
      Effect.ignore
    )
  })

const begin = ({ recorder, transaction }: Surroundings, id: string, isolation: Isolation): void =>
  recorder.note({
    _tag: "BeganTransaction",
    id,
    process: recorder.process,
    parent: transaction,
    isolation,
    begin: now()
  })

const end = ({ recorder }: Surroundings, id: string, isDone: boolean) =>
  Effect.sync(() => recorder.note({ _tag: "EndedTransaction", id, at: now(), isDone }))
