/** Writes a process's notes into a file, each before anything else happens: a `kill -9` loses none. */
import * as fs from "node:fs"
import type { Note } from "./History.ts"

/** Microseconds by the clock that all processes of this machine share. */
export const now = (): number => Number(process.hrtime.bigint() / 1000n)

export class Recorder {
  readonly process: string
  readonly #file: number
  #count = 0

  constructor(process: string, file: string) {
    this.process = process
    this.#file = fs.openSync(file, "a")
  }

  /** A name for the next thing, among all processes. */
  nextId(): string {
    return `${this.process}-${++this.#count}`
  }

  note(note: Note): void {
    fs.writeSync(this.#file, `${JSON.stringify(note)}\n`)
  }

  /** Notes when this process could not run for a while. */
  watchItself(): void {
    const every = 50
    let last = now()
    setInterval(() => {
      const at = now()
      if (at - last > (every + 200) * 1000) {
        this.note({ _tag: "Disturbed", process: this.process, name: "slow", from: last, to: at })
      }
      last = at
    }, every).unref()
  }
}

/** What the file has. Of a process that was killed the last line may be a part of one. */
export const read = (file: string): ReadonlyArray<Note> =>
  fs
    .readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line, index, lines): ReadonlyArray<Note> => {
      if (line === "" || index === lines.length - 1) return []
      return [JSON.parse(line)]
    })
