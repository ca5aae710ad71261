/**
 * How an entry ages, and what may still be done with it.
 *
 *     created ──────── due ──── expires ─────────────────────── staleUntil
 *       │    fresh      │ fresh,   │ stale: served at once while   │ gone
 *       │               │ loaded   │ it is loaded anew, or where   │
 *       │               │ early    │ the load fails or is slow     │
 *
 * - After RFC 5861, `staleWhileRevalidate` and `staleIfError` count from the end
 *   of freshness; the longer of the two ends the reserve, for good.
 * - An entry is loaded early past a fraction of its lifetime (`earlyRefresh`), or
 *   at random, the sooner the longer its last load took (`earlyRefreshBeta`):
 *   Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede
 *   Prevention", VLDB 2015 (XFetch): when `now - loadTime * beta * ln(u) >= expires`,
 *   with `u` drawn anew at each read.
 *
 * Pure: time and chance come from the caller.
 *
 * @since 0.1.0
 */
import type { CachePolicy } from "./CachePolicy.ts"

/**
 * When an entry was made, and its two ends; milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export interface Aging {
  readonly createdAt: number
  readonly expiresAt: number
  readonly staleUntil: number
}

/**
 * Whether it may be served at once while it is loaded anew.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayRevalidate = (
  { expiresAt, staleUntil }: Aging,
  { staleWhileRevalidate }: CachePolicy,
  now: number
): boolean => staleWhileRevalidate > 0 && now < expiresAt + staleWhileRevalidate && now < staleUntil

/**
 * Whether it may be served in place of a failure.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayStandIn = ({ expiresAt, staleUntil }: Aging, { staleIfError }: CachePolicy, now: number): boolean =>
  staleIfError > 0 && now < expiresAt + staleIfError && now < staleUntil

/**
 * Whether it may be served although its load has failed: it is fresh all the same,
 * or stale within one of its limits.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayBeLeft = (entry: Aging, policy: CachePolicy, now: number): boolean =>
  now < entry.expiresAt || mayRevalidate(entry, policy, now) || mayStandIn(entry, policy, now)

/**
 * Whether a fresh entry is to be loaded early. `draw` is the read's, from 0 up to
 * but not including 1.
 *
 * @category guards
 * @since 0.1.0
 */
export const isDue = (
  { createdAt, expiresAt }: Aging,
  loadTime: number,
  { earlyRefresh, earlyRefreshBeta }: CachePolicy,
  now: number,
  draw: number
): boolean =>
  now >= pastFraction(createdAt, expiresAt, earlyRefresh) ||
  (earlyRefreshBeta > 0 && now - loadTime * earlyRefreshBeta * Math.log(1 - draw) >= expiresAt)

/**
 * Before this no draw makes the entry due, so a read need not draw.
 *
 * @category conversions
 * @since 0.1.0
 */
export const firstDue = (
  { createdAt, expiresAt }: Aging,
  loadTime: number,
  { earlyRefresh, earlyRefreshBeta }: CachePolicy
): number =>
  Math.min(
    pastFraction(createdAt, expiresAt, earlyRefresh),
    earlyRefreshBeta > 0 ? expiresAt - loadTime * earlyRefreshBeta * longestDraw : Infinity
  )

const pastFraction = (createdAt: number, expiresAt: number, fraction: number): number =>
  fraction < 1 ? createdAt + fraction * (expiresAt - createdAt) : Infinity

/** `-ln` of the smallest `1 - draw`: a draw is a multiple of 2^-53. */
const longestDraw = 53 * Math.LN2
