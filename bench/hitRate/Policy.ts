/**
 * The policies that are compared, each as plain as its paper allows: they are
 * here for the hit rate, not for speed. Ours is the real `MemoryCache`.
 */
import { MemoryCache } from "../../src/MemoryCache.ts"
import { RecencyList } from "./RecencyList.ts"

/** Asks for a key, and puts it where it is missing: whether it was there. */
export type Ask = (key: number) => boolean

export interface Policy {
  readonly name: string
  readonly ofCapacity: (capacity: number) => Ask
}

const ours: Policy = {
  name: "ours",
  ofCapacity: (capacity) => {
    const partition = MemoryCache.make({ maxEntries: capacity, maxSize: Infinity, seed: 1 }).partition<number>("")
    const entry = { value: 0, createdAt: 0, expiresAt: Infinity, size: 0, tags: [] }
    return (key) => partition.get(key, 0) !== undefined || !partition.put(key, entry, 0)
  }
}

const lru: Policy = {
  name: "LRU",
  ofCapacity: (capacity) => {
    const list = new RecencyList()
    return (key) => {
      if (list.use(key)) return true
      list.add(key)
      if (list.size > capacity) list.shift()
      return false
    }
  }
}

/** S3-FIFO (Yang et al., 2023): a small queue of a tenth, a main queue, as many ghosts as main has places. */
const s3Fifo: Policy = {
  name: "S3-FIFO",
  ofCapacity: (capacity) => {
    const [small, main, ghosts] = [new RecencyList(), new RecencyList(), new RecencyList()]
    const uses = new Map<number, number>()
    const smallCapacity = Math.max(1, Math.round(capacity / 10))
    const evictSmall = () => {
      const key = small.shift()!
      if (uses.get(key)! > 1 && capacity > 1) {
        uses.set(key, 0)
        main.add(key)
        return
      }
      uses.delete(key)
      ghosts.add(key)
      if (ghosts.size > capacity - smallCapacity) ghosts.shift()
    }
    const evictMain = () => {
      const key = main.shift()!
      const left = uses.get(key)! - 1
      if (left < 0) return void uses.delete(key)
      uses.set(key, left)
      main.add(key)
    }
    return (key) => {
      const used = uses.get(key)
      if (used !== undefined) {
        uses.set(key, Math.min(used + 1, 3))
        return true
      }
      while (uses.size >= capacity) {
        if (main.size === 0 || small.size >= smallCapacity) evictSmall()
        else evictMain()
      }
      if (ghosts.remove(key)) main.add(key)
      else small.add(key)
      uses.set(key, 0)
      return false
    }
  }
}

/**
 * W-TinyLFU (Einziger, Friedman and Manes, 2017) with a window of one hundredth. Its
 * counts are exact here, which flatters it, and halved as in the paper.
 */
const wTinyLfu: Policy = {
  name: "W-TinyLFU",
  ofCapacity: (capacity) => {
    const [window, probation, guarded] = [new RecencyList(), new RecencyList(), new RecencyList()]
    const windowCapacity = Math.max(1, Math.round(capacity / 100))
    const guardedCapacity = Math.floor((capacity - windowCapacity) * 0.8)
    let counts = new Map<number, number>()
    let sample = 0
    const frequencyOf = (key: number) => counts.get(key) ?? 0
    const count = (key: number) => {
      counts.set(key, Math.min(frequencyOf(key) + 1, 15))
      if (++sample < 10 * capacity) return
      sample = Math.floor(sample / 2)
      counts = new Map(
        Array.from(counts, ([key, count]) => [key, count >> 1] as const).filter(([, count]) => count > 0)
      )
    }
    const isThere = (key: number) => {
      if (window.use(key) || guarded.use(key)) return true
      if (!probation.remove(key)) return false
      guarded.add(key)
      if (guarded.size > guardedCapacity) probation.add(guarded.shift()!)
      return true
    }
    return (key) => {
      count(key)
      if (isThere(key)) return true
      window.add(key)
      if (window.size <= windowCapacity) return false
      const candidate = window.shift()!
      if (probation.size + guarded.size < capacity - windowCapacity) probation.add(candidate)
      else if (probation.size > 0 && frequencyOf(candidate) > frequencyOf(probation.oldest!)) {
        probation.shift()
        probation.add(candidate)
      }
      return false
    }
  }
}

export const policies: readonly [typeof ours, ...ReadonlyArray<Policy>] = [ours, lru, s3Fifo, wTinyLfu]
