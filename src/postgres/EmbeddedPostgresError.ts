/**
 * How an embedded server fails to start: at which of its four steps, why, and what
 * to do about it. Failures of Node's file system come in through `attempt`.
 *
 * - `programs`: there are none, or the server's user cannot reach them.
 * - `directory`: it holds something else, or cannot be made private, or is out of reach.
 * - `initdb`: the database could not be created.
 * - `start`: the server did not come up; the end of its log says why.
 *
 * Nothing fails at the end of a server: what cannot be stopped or removed stays.
 *
 * @since 0.1.0
 */
import { Effect, Schema } from "effect"

/**
 * The server could not be started; says at which step and what to do about it.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>()("EmbeddedPostgresError", {
  step: Schema.Literals(["programs", "directory", "initdb", "start"]),
  problem: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `embedded PostgreSQL, step "${this.step}": ${this.problem}`
  }
}

/**
 * A program of the server that this system cannot execute.
 *
 * @category constructors
 * @since 0.1.0
 */
export const cannotRun = (step: "initdb" | "start", program: string, cause: Error) =>
  new EmbeddedPostgresError({
    step,
    problem: `${program} cannot be run here (${cause.message}): the npm packages have programs for macOS and for Linux with glibc; elsewhere set DATABASE_URL to a PostgreSQL server`,
    cause
  })

/**
 * What Node refuses.
 *
 * @category constructors
 * @since 0.1.0
 */
export const failure = (step: EmbeddedPostgresError["step"], cause: unknown) =>
  new EmbeddedPostgresError({ step, problem: cause instanceof Error ? cause.message : String(cause), cause })

/**
 * A call of Node's as a part of a step.
 *
 * @category constructors
 * @since 0.1.0
 */
export const attempt = <A>(step: EmbeddedPostgresError["step"], f: () => Promise<A>) =>
  Effect.tryPromise({ try: f, catch: (cause) => failure(step, cause) })

/**
 * Answers one of Node's error codes with a value.
 *
 * @category combinators
 * @since 0.1.0
 */
export const unless =
  <A>(value: A, ...codes: ReadonlyArray<string>) =>
  (error: NodeJS.ErrnoException): A => {
    if (codes.includes(error.code ?? "")) return value
    throw error
  }
