/**
 * Spans that somebody records. Effect's own tracer makes them in memory and exports them
 * nowhere: to make one for it is a tenth of the time of a read that shares its statement
 * with others.
 *
 * @since 0.1.0
 */
import { Effect, Tracer } from "effect"

/**
 * The effect in a span, unless the tracer of its caller is the one that records nothing:
 * then in whichever its caller is in.
 *
 * @category combinators
 * @since 0.1.0
 */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  options: () => Tracer.SpanOptionsNoTrace
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer
      ? effect
      : effect.pipe(Effect.withSpan(name, options(), { captureStackTrace: false }))
  ) as Effect.Effect<A, E, R>
