/**
 * A database cluster on disk, ready for a server: its directory, the programs that
 * go with it, and the user they run as.
 *
 * - The directory is private to that user and holds nothing but `data`, `server.log`
 *   and the socket. A name too long for a socket gets a short directory in the
 *   system's temporary one, for the socket alone.
 * - `data` comes from `initdb` by way of a temporary name: it is there as a whole or
 *   not at all, however many processes begin at once and whenever one is killed.
 * - Where this process is root and the user of the server cannot reach the wanted
 *   directory, the cluster is in its `substituteFor` instead, where the next start
 *   finds it; a warning says where. It lasts as long as the system leaves its
 *   temporary files alone. A database that is already in the wanted directory is not
 *   passed over: that is an error.
 *
 * It knows nothing of the server: not whether one runs, nor how to stop it.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { attempt, cannotRun, EmbeddedPostgresError, unless } from "./EmbeddedPostgresError.ts"
import { type Programs, readyFor } from "./EmbeddedPrograms.ts"
import { type EmbeddedUser, firstClosedTo, outOfReach, substituteFor, userOf } from "./EmbeddedUser.ts"

/**
 * Where everything is; `user` only where the programs must not run as the user of
 * this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cluster {
  readonly programs: Programs
  readonly directory: string
  readonly data: string
  readonly log: string
  readonly socketDirectory: string
  readonly user: EmbeddedUser | undefined
}

/**
 * The port names the socket, nothing else.
 *
 * @category constants
 * @since 0.1.0
 */
export const port = 5432

/**
 * The name of the socket in its directory.
 *
 * @category constants
 * @since 0.1.0
 */
export const socketName = `.s.PGSQL.${port}`

/**
 * The cluster of a directory, created if need be.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = Effect.fnUntraced(function* (name: string, programs: Programs) {
  const directory = yield* place(name)
  const user = yield* attempt("directory", () => userOf(directory))
  yield* attempt("directory", () => makePrivate(directory, user))
  const cluster: Cluster = {
    programs: yield* readyFor(programs, user),
    directory,
    data: path.join(directory, "data"),
    log: path.join(directory, "server.log"),
    socketDirectory: yield* attempt("directory", () => makeSocketDirectory(directory, user)),
    user
  }
  yield* initialise(cluster)
  return cluster
})

const place = Effect.fnUntraced(function* (name: string) {
  const wanted = yield* attempt("directory", () => realPath(path.resolve(name)))
  const user = yield* attempt("directory", () => userOf(wanted))
  const closed = user && (yield* attempt("directory", () => firstClosedAbove(wanted, user)))
  if (user === undefined || closed === undefined) return yield* attempt("directory", () => makeDirectory(wanted))
  const isTaken = yield* attempt("directory", () => holdsDatabase(path.join(wanted, "data")))
  if (isTaken) return yield* outOfReach("directory", user, closed, wanted)
  const directory = yield* attempt("directory", async () =>
    makeDirectory(await substituteFor(wanted, "postgres", user))
  )
  yield* Effect.logWarning(
    `the database of ${wanted} is in ${directory}, for as long as temporary files last: the server runs as uid ${user.uid}, to which ${closed} is closed`
  )
  return directory
})

/** Of what exists; the rest stays as it is. */
const realPath = (name: string): Promise<string> =>
  fs.realpath(name).catch(async (error) => {
    unless(undefined, "ENOENT")(error)
    return path.join(await realPath(path.dirname(name)), path.basename(name))
  })

const firstClosedAbove = async (directory: string, user: EmbeddedUser) => {
  const parent = path.dirname(directory)
  const closed = await firstClosedTo(user, parent)
  if (closed !== undefined) return closed
  await fs.mkdir(parent, { recursive: true })
  // The umask may have closed what was just made.
  return firstClosedTo(user, parent)
}

const makeDirectory = async (directory: string) => {
  await fs.mkdir(path.dirname(directory), { recursive: true })
  await fs.mkdir(directory, { mode: 0o700 }).catch(unless(undefined, "EEXIST"))
  if (!(await holdsDatabase(path.join(directory, "data")))) {
    const foreign = (await fs.readdir(directory)).find(
      (entry) => !/^(\.s\.PGSQL\..*|\.git(ignore|keep)|\.DS_Store|data-[0-9a-f-]{36}|server\.log)$/.test(entry)
    )
    if (foreign !== undefined) {
      throw new Error(`${directory} must hold nothing but the database, and there is "${foreign}": choose another one`)
    }
  }
  return fs.realpath(directory)
}

const holdsDatabase = (data: string) =>
  fs.access(path.join(data, "PG_VERSION")).then(() => true, unless(false, "ENOENT"))

const makePrivate = async (directory: string, user: EmbeddedUser | undefined) => {
  if (user !== undefined) await fs.lchown(directory, user.uid, user.gid)
  await fs.chmod(directory, 0o700)
}

/** The directory itself, or a short private one that every process derives from its name. */
const makeSocketDirectory = async (directory: string, user: EmbeddedUser | undefined) => {
  if (fitsSocket(directory)) return directory
  const digest = createHash("sha256").update(directory).digest("hex").slice(0, 16)
  const short = path.join(await fs.realpath(os.tmpdir()), `postgres-${digest}`)
  if (!fitsSocket(short)) throw new Error(`${directory} is too long for a socket path, and so is ${short}`)
  await fs.mkdir(short, { mode: 0o700 }).catch(unless(undefined, "EEXIST"))
  // Anyone may have made it, or a link in its place.
  const made = await fs.lstat(short)
  const isPrivate = made.isDirectory() && (made.mode & 0o077) === 0
  if (!isPrivate || (made.uid !== process.getuid?.() && made.uid !== user?.uid)) {
    throw new Error(`${short} is not a private directory of this user: remove it`)
  }
  if (user !== undefined) await fs.lchown(short, user.uid, user.gid)
  return short
}

/** What a socket path may have, in bytes, on the strictest system (macOS). */
const maxSocketPath = 103

const fitsSocket = (directory: string) => Buffer.byteLength(path.join(directory, socketName)) <= maxSocketPath

/** Goes by way of a temporary directory: `data` is there as a whole or not at all. */
const initialise = Effect.fnUntraced(function* (cluster: Cluster) {
  const exists = attempt("initdb", () => holdsDatabase(cluster.data))
  if (!(yield* exists)) {
    const fresh = `${cluster.data}-${randomUUID()}`
    yield* initdb(cluster, fresh).pipe(
      Effect.andThen(attempt("initdb", () => fs.rename(fresh, cluster.data))),
      // Another process may have been quicker; then theirs is as good as ours.
      Effect.catch((error) => Effect.flatMap(exists, (done) => (done ? Effect.void : Effect.fail(error)))),
      Effect.ensuring(remove(fresh))
    )
  }
  // What an `initdb` that was killed left behind, or one that is too late.
  const entries = yield* attempt("initdb", () => fs.readdir(cluster.directory))
  yield* Effect.forEach(
    entries.filter((entry) => entry.startsWith("data-")),
    (entry) => remove(path.join(cluster.directory, entry))
  )
})

const initdb = (cluster: Cluster, data: string) =>
  Effect.callback<void, EmbeddedPostgresError>((resume) => {
    const child = spawn(
      cluster.programs.initdb,
      ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
      { ...processOptions(cluster), stdio: ["ignore", "ignore", "pipe"] }
    )
    let output = ""
    child.stderr.on("data", (chunk) => (output += chunk))
    child.once("error", (cause) => resume(Effect.fail(cannotRun("initdb", cluster.programs.initdb, cause))))
    child.once("close", (code) => {
      resume(
        code === 0 ? Effect.void : Effect.fail(new EmbeddedPostgresError({ step: "initdb", problem: output.trim() }))
      )
    })
    return Effect.callback<void>((stopped) => {
      if (child.exitCode !== null || !child.kill("SIGTERM")) return stopped(Effect.void)
      child.once("close", () => stopped(Effect.void))
    })
  })

/**
 * How a program of the cluster is run: with our own wishes only, English messages,
 * and a process group of its own, which keeps the terminal's Ctrl-C away.
 *
 * @category combinators
 * @since 0.1.0
 */
export const processOptions = (cluster: Cluster) => ({
  ...cluster.user,
  cwd: cluster.directory,
  env: {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name))),
    LC_ALL: "C"
  },
  detached: true
})

/**
 * Removes what is there, if it can.
 *
 * @category combinators
 * @since 0.1.0
 */
export const remove = (target: string) =>
  Effect.ignore(attempt("directory", () => fs.rm(target, { recursive: true, force: true })))
