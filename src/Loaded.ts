/**
 * What a loader may say about the value that it brings.
 *
 * A loader that is a plain effect just brings a value. One that is a function is
 * given the entry that is about to be replaced, if there still is one, and may
 * answer with a `Loaded`: a value with validators, lifetime or tags of its own, or
 * that the source has not changed.
 *
 * **Example** (Asking the source only for what has changed)
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Loaded, Namespace, TieredCache } from "effect-tiered-cache"
 *
 * const Pages = Namespace.make("pages", { value: Schema.String, timeToLive: "1 minute" })
 *
 * declare const fetchPage: (
 *   url: string,
 *   etag: string | undefined
 * ) => Effect.Effect<{ readonly status: number; readonly body: string; readonly etag: string }>
 *
 * export const page = (url: string) =>
 *   TieredCache.getOrSet(
 *     (stale) =>
 *       Effect.map(fetchPage(url, stale?.validators["etag"]), ({ body, etag, status }) =>
 *         status === 304 ? Loaded.notModified() : Loaded.of(body, { validators: { etag } })
 *       ),
 *     Pages,
 *     url
 *   )
 * ```
 *
 * @since 0.1.0
 */
import type { Duration } from "effect"
import type { Validators } from "./StoredRow.ts"

/**
 * What a loader may decide about one entry; each wins over the options of the
 * call and the policy.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long the value is fresh; `0` keeps nothing. */
  readonly timeToLive?: Duration.Input | undefined
  readonly tags?: ReadonlyArray<string> | undefined
  /** What the source is to be asked with next time, such as `{ etag }`. */
  readonly validators?: Validators | undefined
  /** `false`: the value is served and kept in no tier. */
  readonly store?: boolean | undefined
}

/**
 * What a loader brought, with what it decided about it.
 *
 * @category models
 * @since 0.1.0
 */
export class Loaded<out A> {
  /** Undefined: the value that the loader was shown is still the source's. */
  readonly modified: { readonly value: A } | undefined
  readonly options: Options

  private constructor(modified: { readonly value: A } | undefined, options: Options) {
    this.modified = modified
    this.options = options
  }

  /** @internal */
  static of<A>(value: A, options: Options): Loaded<A> {
    return new Loaded({ value }, options)
  }

  /** @internal */
  static notModified(options: Options): Loaded<never> {
    return new Loaded<never>(undefined, options)
  }
}

/**
 * A value with what is decided about it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const of = <A>(value: A, options: Options = {}): Loaded<A> => Loaded.of(value, options)

/**
 * The value that the loader was shown is still right: it is kept for another
 * lifetime, with its tags and validators unless they are given anew. A defect
 * where the loader was shown nothing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const notModified = (options: Options = {}): Loaded<never> => Loaded.notModified(options)
