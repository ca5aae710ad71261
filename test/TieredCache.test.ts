import { TestClock } from "effect/testing"
import { CacheStore } from "../src/CacheStore.ts"
import { bothTiers, memoryOnly, storeOnly } from "./suites/cacheNode.ts"
import { copySuite } from "./suites/copySuite.ts"
import { faultSuite } from "./suites/faultSuite.ts"
import { suite } from "./suites/tieredCacheSuite.ts"

suite(
  {
    name: "over the store in memory",
    layer: CacheStore.layerMemory,
    advance: (duration) => TestClock.adjust(duration),
    drift: 0,
    topologies: [memoryOnly, storeOnly, bothTiers]
  },
  (test) => {
    copySuite(test)
    faultSuite(test)
  }
)
