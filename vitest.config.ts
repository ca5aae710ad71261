import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

/** Vitest 5 prints failures by way of Map.groupBy, which came with Node 21: goes when we drop Node 20. */
const groupBy = <K, A>(items: Iterable<A>, keyOf: (item: A) => K) => {
  const groups = new Map<K, Array<A>>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}
if (!("groupBy" in Map)) Object.assign(Map, { groupBy })

export default defineConfig({
  resolve: {
    alias: { "effect-tiered-cache": fileURLToPath(new URL("src/index.ts", import.meta.url)) }
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // The sources are for `tsc -p .` to check.
    typecheck: { enabled: true, include: ["test/**/*.test-d.ts"], ignoreSourceErrors: true }
  }
})
