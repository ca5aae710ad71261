/**
 * Runs TypeScript as the package ships it: the types are taken off, and nothing is added.
 *
 *     node --import ./bench/harness/stripTypes.mjs bench/store.ts
 *
 * `tsx`, which does for all else, has each function told its name when it is made, as
 * it was before the transformation. That took a tenth of the time of a read, and nobody who
 * uses the package pays it.
 *
 * A Node without `registerHooks`, before 22.15, loads it once more, in a thread of the hooks.
 */
import { transformSync } from "esbuild"
import { readFileSync } from "node:fs"
import * as module from "node:module"
import { fileURLToPath } from "node:url"
import { isMainThread } from "node:worker_threads"

const library = new URL("../../src/index.ts", import.meta.url).href

export const resolve = (specifier, context, next) =>
  next(specifier === "effect-tiered-cache" ? library : specifier, context)

export const load = (url, context, next) => {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context)
  const sourcefile = fileURLToPath(url)
  const { code } = transformSync(readFileSync(sourcefile, "utf8"), {
    sourcefile,
    loader: "ts",
    format: "esm",
    target: "es2022",
    sourcemap: "inline"
  })
  return { format: "module", source: code, shortCircuit: true }
}

if (module.registerHooks !== undefined) module.registerHooks({ resolve, load })
else if (isMainThread) module.register(import.meta.url)
