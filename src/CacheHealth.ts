/**
 * Whether the cache is well, part by part.
 *
 * - **Up**: it answered when it was last asked.
 * - **Degraded**: the cache serves, with less than all its parts.
 * - **Down**: it did not answer when it was last asked.
 *
 * Memory is always up. Without the store the cache as a whole is degraded, not
 * down: reads go on from memory and from the loaders. A store that is up but has
 * yet to be told of invalidations is degraded itself. Without the bus memory may
 * serve what other processes have changed, for as long as `memoryTimeToLive`: its
 * `problem` says since when.
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
 * How well the cache is as a whole, and its parts; no `bus` where that cannot be
 * down, as within one process.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheHealth {
  readonly status: HealthStatus
  readonly since: number
  readonly components: {
    readonly memory: ComponentHealth
    readonly store: ComponentHealth
    readonly bus?: ComponentHealth
  }
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
  const store: ComponentHealth =
    untold.size === 0 || parts.store.status !== "Up"
      ? parts.store
      : {
          status: "Degraded",
          since: Math.max(parts.store.since, untold.since),
          problem: `not told yet of ${untold.size} invalidations, which are tried again`
        }
  const components = { ...parts, store }
  const all: ReadonlyArray<ComponentHealth> = Object.values(components)
  const unwell = all.filter(({ status }) => status !== "Up")
  return unwell.length === 0
    ? { status: "Up", since: Math.max(...all.map(({ since }) => since)), components }
    : { status: "Degraded", since: Math.min(...unwell.map(({ since }) => since)), components }
}
