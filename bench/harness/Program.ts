/** What a Node is started with that runs a program of this benchmark; see `stripTypes.mjs`. */
export const typescript: ReadonlyArray<string> = ["--import", new URL("stripTypes.mjs", import.meta.url).href]
