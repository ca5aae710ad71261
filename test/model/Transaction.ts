/**
 * Plays a transaction: a step with each delivery, so that it stays open while other
 * things happen.
 */
import { type Context, Effect, Exit } from "effect"
import type { Operation, Transaction } from "./Command.ts"
import type { Running, Transacting } from "./History.ts"
import type { Answer, Reference } from "./Reference.ts"
import { CurrentCaller, type Wire } from "./Wire.ts"

/** The transactions of a store. */
export interface Transactions {
  /** Runs the effect in one, or in a savepoint of the one that it is in. */
  readonly within: <A, E>(
    effect: Effect.Effect<A, E>,
    isolation: Transaction["isolation"]
  ) => Effect.Effect<A, E | unknown>
  /** What a fiber needs for that. */
  readonly context: Context.Context<never>
  /** How many statements wait for what another transaction has changed. */
  readonly blocked: Effect.Effect<number>
}

export interface Surroundings {
  readonly transactions: Transactions
  readonly wire: Wire
  readonly where: number
  readonly reference: Reference
  readonly call: (running: Running) => Effect.Effect<Answer, unknown>
  readonly begin: (operation: Operation, transaction: Transacting) => Running
  readonly end: (running: Running, exit: Exit.Exit<Answer, unknown>) => void
}

/** What fails is rolled back; its effect does not fail. */
export const transact = (self: Surroundings, command: Transaction): Effect.Effect<void> => {
  const { reference, transactions, wire } = self
  const { isolation, isKept, operations, savepoint } = command
  return Effect.suspend(() => {
    const transaction = reference.beginTransaction(isolation !== "read committed")
    const [from, to] = [savepoint?.from ?? 0, savepoint?.to ?? 0]
    const run = (operations: ReadonlyArray<Operation>) =>
      Effect.forEach(operations, (operation) => step(self, transaction, operation), { discard: true })
    const inside = Effect.suspend(() => {
      const since = reference.operations.length
      const body = Effect.andThen(run(operations.slice(from, to)), savepoint?.isKept === false ? undo : Effect.void)
      return Effect.onError(asking(wire, transactions.within(answered(wire, body), isolation)), () =>
        Effect.sync(() => reference.undo(transaction, since))
      )
    })
    const body = Effect.gen(function* () {
      yield* run(operations.slice(0, from))
      if (to > from) yield* Effect.exit(inside)
      yield* run(operations.slice(Math.max(from, to)))
      yield* wire.hold(isKept ? "commit" : "rollback")
      if (!isKept) return yield* undo
      reference.commit(transaction)
    })
    return asking(wire, transactions.within(answered(wire, body), isolation)).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) reference.undo(transaction)
          reference.endTransaction(transaction)
        })
      ),
      Effect.ignore
    )
  })
}

class Undo {
  readonly _tag = "Undo"
}

const undo = Effect.fail(new Undo())

const step = ({ begin, call, end, where, wire }: Surroundings, transaction: Transacting, operation: Operation) =>
  Effect.gen(function* () {
    yield* wire.hold("a step of a transaction")
    const running = begin(operation, transaction)
    const exit = yield* Effect.exit(
      Effect.provideService(call(running), CurrentCaller, { id: running.id, slow: false, where })
    )
    end(running, exit)
    // After a statement that has failed PostgreSQL takes no other.
    if (Exit.isFailure(exit)) return yield* undo
  })

/** What is around the effect is asked of the store: its beginning and its end. */
const asking = <A, E>(wire: Wire, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    wire.answering++
    return Effect.ensuring(
      effect,
      Effect.sync(() => wire.answering--)
    )
  })

const answered = <A, E>(wire: Wire, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    wire.answering--
    return Effect.ensuring(
      effect,
      Effect.sync(() => wire.answering++)
    )
  })
