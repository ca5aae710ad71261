/**
 * The user a server runs as where this process is root, which PostgreSQL refuses to
 * run as: the owner of the data, or uid 65534 if that is root too.
 *
 * What that user cannot reach, such as anything below `/root`, root keeps for it
 * below `effect-tiered-cache` in the system's temporary directory. Everyone can write
 * to the latter, so the former is trusted only if root owns it and nobody else can
 * write to it. Then every name in it is root's: no program or data was put there by
 * somebody else.
 *
 * Owner, group and mode say what a user can reach; access control lists and security
 * modules are not asked.
 *
 * @since 0.1.0
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { EmbeddedPostgresError, unless } from "./EmbeddedPostgresError.ts"

/**
 * In place of root.
 *
 * @category models
 * @since 0.1.0
 */
export interface EmbeddedUser {
  readonly uid: number
  readonly gid: number
}

const nobody: EmbeddedUser = { uid: 65534, gid: 65534 }

/**
 * Who the server of a directory runs as, if not as the user of this process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const userOf = async (directory: string): Promise<EmbeddedUser | undefined> => {
  if (process.getuid?.() !== 0) return undefined
  const owner = await fs.stat(path.join(directory, "data")).catch(() => fs.stat(directory).catch(() => nobody))
  return owner.uid === 0 ? nobody : { uid: owner.uid, gid: owner.gid }
}

/**
 * The first directory on the way to a file, or the file itself, that the user may
 * not enter. What does not exist is not closed.
 *
 * @category combinators
 * @since 0.1.0
 */
export const firstClosedTo = async (user: EmbeddedUser, target: string): Promise<string | undefined> => {
  const parent = path.dirname(target)
  const closed = parent === target ? undefined : await firstClosedTo(user, parent)
  if (closed !== undefined) return closed
  const found = await fs.stat(target).catch(unless(undefined, "ENOENT"))
  if (found === undefined) return undefined
  const mayEnter = found.uid === user.uid ? 0o100 : found.gid === user.gid ? 0o010 : 0o001
  return (found.mode & mayEnter) === 0 ? target : undefined
}

/**
 * What is out of the user's reach, and nothing can take its place.
 *
 * @category constructors
 * @since 0.1.0
 */
export const outOfReach = (step: "programs" | "directory", user: EmbeddedUser, closed: string, target: string) =>
  new EmbeddedPostgresError({
    step,
    problem: `PostgreSQL refuses to run as root and so runs as uid ${user.uid}, but ${closed} is closed to that user, and with it ${target}: open it (chmod o+x), choose another place, run as a normal user, or set DATABASE_URL`
  })

/**
 * Where root keeps what is out of the user's reach at `original`: always the same
 * name, of something that need not exist yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const substituteFor = async (original: string, kind: string, user: EmbeddedUser): Promise<string> => {
  const digest = createHash("sha256").update(original).digest("hex").slice(0, 16)
  return path.join(await placeOfRoot(user), `${kind}-${digest}`)
}

const placeOfRoot = async (user: EmbeddedUser) => {
  const place = path.join(await temporaryDirectory(user), "effect-tiered-cache")
  await fs.mkdir(place, { mode: 0o755 }).catch(unless(undefined, "EEXIST"))
  // Anyone may have made it, or a link in its place.
  const made = await fs.lstat(place)
  if (!made.isDirectory() || !isRootsAlone(made)) {
    throw new Error(`${place} is not a directory that only root can write to: remove it`)
  }
  await fs.chmod(place, 0o755)
  return place
}

const temporaryDirectory = async (user: EmbeddedUser) => {
  const candidates = [os.tmpdir(), "/tmp"]
  for (const candidate of candidates) {
    const directory = await fs.realpath(candidate).catch(unless(undefined, "ENOENT"))
    if (directory === undefined || (await firstClosedTo(user, directory)) !== undefined) continue
    const found = await fs.stat(directory)
    if (isRootsAlone(found) || (found.uid === 0 && (found.mode & sticky) !== 0)) return directory
  }
  throw new Error(`none of ${candidates.join(", ")} is root's and open to uid ${user.uid}`)
}

const isRootsAlone = ({ mode, uid }: { readonly mode: number; readonly uid: number }) =>
  uid === 0 && (mode & 0o022) === 0

/** Where others can add names, but not take away or replace those of root. */
const sticky = 0o1000
