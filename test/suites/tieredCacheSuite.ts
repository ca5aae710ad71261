/** What every `TieredCache` promises, whatever store it stands on. */
import { layer as layerOf } from "@effect/vitest"
import { type Duration, Effect, type Layer } from "effect"
import { describe } from "vitest"
import type { CacheStore } from "../../src/CacheStore.ts"
import { bulkSuite } from "./bulkSuite.ts"
import { bothTiers, inWorld, memoryOnly, type Test, type Topology } from "./cacheNode.ts"
import { busSuite, clusterSuite } from "./clusterSuite.ts"
import { expireSuite, sharedExpireSuite } from "./expireSuite.ts"
import { failureSuite, sharedFailureSuite } from "./failureSuite.ts"
import { flightSuite } from "./flightSuite.ts"
import { keySuite, listSuite } from "./keySuite.ts"
import { leaseSuite } from "./leaseSuite.ts"
import { patternSuite, sharedPatternSuite } from "./patternSuite.ts"
import { readSuite } from "./readSuite.ts"
import { refreshSuite } from "./refreshSuite.ts"
import { sharedStaleSuite, staleSuite, tieredStaleSuite } from "./staleSuite.ts"
import { sharedTagSuite, tagSuite } from "./tagSuite.ts"
import { tierSuite } from "./tierSuite.ts"
import { timeoutSuite } from "./timeoutSuite.ts"

export interface Backend<R, E> {
  readonly name: string
  readonly layer: Layer.Layer<CacheStore | R, E>
  /** Moves the clock of the caches and that of the store. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<unknown, unknown, R>
  /** By how much the store's clock may run on during a test, in milliseconds. */
  readonly drift: number
  readonly topologies: ReadonlyArray<Topology>
}

/** `more`: what only caches over this store promise. */
export const suite = <R, E>(backend: Backend<R, E>, more?: (test: Test<R>) => void): void =>
  layerOf(backend.layer, { timeout: "60 seconds" })(`TieredCache: ${backend.name}`, (it) => {
    const testWith =
      (topology: Topology): Test<R> =>
      (name, body) =>
        it.effect(name, () =>
          Effect.flatMap(Effect.context<R>(), (context) => {
            const advance = (duration: Duration.Input) =>
              Effect.asVoid(Effect.orDie(Effect.provideContext(backend.advance(duration), context)))
            return inWorld({ advance, drift: backend.drift, topology }, body)
          })
        )
    for (const topology of backend.topologies) {
      const test = testWith(topology)
      describe(topology.name, () => {
        readSuite(test)
        flightSuite(test)
        bulkSuite(test)
        keySuite(test)
        staleSuite(test)
        failureSuite(test)
        timeoutSuite(test)
        refreshSuite(test)
        tagSuite(test)
        patternSuite(test)
        expireSuite(test)
        if (topology.store) {
          listSuite(test)
          sharedStaleSuite(test)
          sharedFailureSuite(test)
        }
        if (topology.store && topology.memory) {
          tierSuite(test)
          tieredStaleSuite(test)
        }
      })
    }
    describe("two nodes", () => {
      const test = testWith(bothTiers)
      clusterSuite(test)
      sharedTagSuite(test)
      sharedPatternSuite(test)
      sharedExpireSuite(test)
    })
    describe("two nodes without a store", () => busSuite(testWith(memoryOnly)))
    describe("leases", () => leaseSuite(testWith(bothTiers)))
    if (more !== undefined) describe("beyond that", () => more(testWith(bothTiers)))
  })
