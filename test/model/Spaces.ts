/**
 * The namespaces that a model-based test works on, with the policies that matter
 * there, and the tags and patterns by which their entries are changed. Small numbers
 * of everything, so that they meet.
 */
import { Schema } from "effect"
import * as Namespace from "../../src/Namespace.ts"

export type Key = string | number

export const minute = 60_000

/** What a loader fails or dies with. */
export class LoadFailure extends Schema.Class<LoadFailure>("LoadFailure")({ load: Schema.Int }) {}

/** What a namespace's policy says of stale answers and failures; milliseconds. */
export interface Aging {
  readonly staleWhileRevalidate: number
  readonly staleIfError: number
  readonly failureBackoff: number
  readonly loaderSoftTimeout: number
  readonly loaderHardTimeout: number
  /** A fraction of the lifetime; 1: off. */
  readonly earlyRefresh: number
  readonly failureTimeToLive: number
  readonly storeWrites: "awaited" | "background"
}

const ageless: Aging = {
  staleWhileRevalidate: 0,
  staleIfError: 0,
  failureBackoff: 0,
  loaderSoftTimeout: Infinity,
  loaderHardTimeout: Infinity,
  earlyRefresh: 1,
  failureTimeToLive: 0,
  storeWrites: "awaited"
}

const space = (
  name: string,
  keys: ReadonlyArray<Key>,
  policy: Partial<Aging>,
  onStoreFailure: Namespace.OnStoreFailure = "recover"
) => {
  const aging = { ...ageless, ...policy }
  const key = typeof keys[0] === "number" ? Schema.Int : Schema.String
  const namespace = Namespace.make(name, {
    key: key as unknown as Schema.Codec<Key, unknown>,
    value: Schema.String,
    timeToLive: defaultTimeToLive,
    error: aging.failureTimeToLive > 0 ? LoadFailure : undefined,
    onStoreFailure,
    failureBackoff: aging.failureBackoff,
    ...policy
  })
  return { namespace, keys, aging }
}

export const defaultTimeToLive = 60 * minute
/** Longer than the shortest lifetime, and shorter than that and what is served stale after it. */
export const memoryTimeToLive = 12 * minute

/**
 * Names and keys that would meet if they were joined, trimmed or folded. Only the
 * first namespace serves nothing stale; the third fails when the store does.
 */
export const spaces: ReadonlyArray<ReturnType<typeof space>> = [
  space("s", ["x:y", "X:Y"], {}),
  space("s:x", ["y", "x:y"], {
    staleWhileRevalidate: 5 * minute,
    staleIfError: 20 * minute,
    failureBackoff: 5 * minute
  }),
  space("n", [1, 10], { staleIfError: 10 * minute, failureBackoff: minute }, "fail"),
  space("t", ["x:y", "y"], {
    staleIfError: 20 * minute,
    failureBackoff: 0,
    loaderSoftTimeout: 2000,
    loaderHardTimeout: 10_000
  }),
  space("e", ["x", "y"], {
    staleWhileRevalidate: 20 * minute,
    staleIfError: 2 * minute,
    failureBackoff: minute,
    earlyRefresh: 0.5
  }),
  space("f", ["x", "y"], {
    staleIfError: 10 * minute,
    failureBackoff: minute,
    failureTimeToLive: 5 * minute
  }),
  space("w", ["x", "y"], {
    staleWhileRevalidate: 5 * minute,
    staleIfError: 10 * minute,
    storeWrites: "background"
  })
]

/** What entries may be tagged with, the same words in every namespace. */
export const tagSets: ReadonlyArray<ReadonlyArray<string>> = [[], ["a"], ["b"], ["a", "b"]]

/** Patterns, and what they mean in another language. */
export const patterns: ReadonlyArray<{ readonly pattern: string; readonly regex: RegExp }> = [
  { pattern: "x*", regex: /^x.*$/su },
  { pattern: "*", regex: /^.*$/su },
  { pattern: "?", regex: /^.$/su },
  { pattern: "*:[Yy]", regex: /^.*:[Yy]$/su },
  { pattern: "1*", regex: /^1.*$/su },
  { pattern: "[!x]*", regex: /^[^x].*$/su },
  { pattern: "z*", regex: /^z.*$/su }
]

/** A key by the names of its namespace and itself. */
export const nameOf = (space: number, key: number): string =>
  JSON.stringify([spaces[space]!.namespace.name, spaces[space]!.keys[key]])

export const keysOfSpace = (space: number): ReadonlyArray<string> =>
  spaces[space]!.keys.map((_, key) => nameOf(space, key))

/** How long a lease lasts and how long others wait for it, where there are leases; milliseconds. */
export const leaseDuration = 10_000
export const leaseWait = 5000
/** How often those who wait look for themselves. */
export const pollInterval = 250
