/**
 * Whether the cache is well, part by part.
 *
 * - **Up**: it answered when it was last asked.
 * - **Degraded**: the cache serves, with less than all its parts.
 * - **Down**: it did not answer when it was last asked.
 *
 * Memory is always up. Without the store the cache as a whole is degraded, not
 * down: reads go on from memory and from the loaders. A store that is up but has
 * yet to be told of invalidations is degraded itself.
 *
 * @since 0.1.0
 */

/**
 * How well something is.
 *
 * @category models
 * @since 0.1.0
 */
export type HealthStatus = "Up" | "Degraded" | "Down"

/**
 * How well one part is, and since when (milliseconds since the epoch).
 * `problem` says what is wrong.
 *
 * @category models
 * @since 0.1.0
 */
export interface ComponentHealth {
  readonly status: HealthStatus
  readonly since: number
  readonly problem?: string
}

/**
 * How well the cache is as a whole, and its parts.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheHealth {
  readonly status: HealthStatus
  readonly since: number
  readonly components: { readonly memory: ComponentHealth; readonly store: ComponentHealth }
}

/**
 * The health of a cache from that of its parts; `untold` is how many invalidations
 * the store was not told of yet, and since when there have been any.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  parts: CacheHealth["components"],
  untold: { readonly size: number; readonly since: number } = { size: 0, since: 0 }
): CacheHealth => {
  const { memory } = parts
  const store: ComponentHealth =
    untold.size === 0 || parts.store.status !== "Up"
      ? parts.store
      : {
          status: "Degraded",
          since: Math.max(parts.store.since, untold.since),
          problem: `not told yet of ${untold.size} invalidations, which are tried again`
        }
  const components = { memory, store }
  return store.status === "Up"
    ? { status: "Up", since: Math.max(memory.since, store.since), components }
    : { status: "Degraded", since: store.since, components }
}
