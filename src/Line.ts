/**
 * Those who wait, in the order in which they came. Anyone leaves in constant time, and
 * nothing leads from a place that was left to those who came later.
 *
 * A `Set` would do but for the latter: each time it has outgrown its table V8 makes
 * another, and leaves in the old one where that is. Once one of them has lived long enough to be
 * collected rarely, it keeps the next, and so on: whatever was ever in the set lives on,
 * with all that leads from it. Of 64 reads of 1 kB at a time, two fifths of what they allocated
 * outlived them by that, and each took 75 µs instead of 43.
 *
 * @since 0.1.0
 */

/**
 * Where somebody waits. It belongs to its line.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place<A> {
  /** Who, until they leave. */
  who: A | undefined
  next: Place<A> | undefined
  previous: Place<A> | undefined
}

/**
 * The line. Nobody may leave while it is iterated.
 *
 * @category models
 * @since 0.1.0
 */
export class Line<A> implements Iterable<A> {
  #first: Place<A> | undefined = undefined
  #last: Place<A> | undefined = undefined
  #length = 0

  get length(): number {
    return this.#length
  }

  get first(): A | undefined {
    return this.#first?.who
  }

  join(who: A): Place<A> {
    const place: Place<A> = { who, next: undefined, previous: this.#last }
    if (this.#last === undefined) this.#first = place
    else this.#last.next = place
    this.#last = place
    this.#length++
    return place
  }

  /** Whether somebody was there. */
  leave(place: Place<A>): boolean {
    if (place.who === undefined) return false
    const { next, previous } = place
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    place.who = undefined
    place.next = undefined
    place.previous = undefined
    this.#length--
    return true
  }

  *[Symbol.iterator](): Iterator<A> {
    for (let place = this.#first; place !== undefined; place = place.next) yield place.who!
  }
}
