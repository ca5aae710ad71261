import { assert, layer as layerOf } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { InvalidationBus, type InvalidationMessage } from "../src/InvalidationBus.ts"

const keys = (origin: string, ...keys: ReadonlyArray<string>): InvalidationMessage => ({
  origin,
  invalidation: { _tag: "Keys", namespace: "ns", keys }
})

const suite = <E>(name: string, layer: Layer.Layer<InvalidationBus, E>) =>
  layerOf(layer)(`InvalidationBus: ${name}`, (it) => {
    const subscribe = Effect.gen(function* () {
      const bus = yield* InvalidationBus
      const received: Array<InvalidationMessage> = []
      yield* bus.subscribe((message) => {
        received.push(message)
      })
      return received
    })

    it.effect("every subscriber hears every message, in order and as it was sent", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        const [one, two] = [yield* subscribe, yield* subscribe]
        const messages: ReadonlyArray<InvalidationMessage> = [
          keys("a", "1", "2", ""),
          { origin: "b", invalidation: { _tag: "Namespace", namespace: "%_\\*?[]'\"😀" } },
          { origin: "a", invalidation: { _tag: "All" } },
          keys("a")
        ]
        for (const message of messages) yield* bus.publish(message)
        assert.deepStrictEqual(one, messages)
        assert.deepStrictEqual(two, messages)
      })
    )

    it.effect("a subscriber hears what its own process says too, and tells it by the origin (C61)", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        const received = yield* subscribe
        yield* bus.publish(keys("me", "1"))
        assert.deepStrictEqual(
          received.map(({ origin }) => origin),
          ["me"]
        )
      })
    )

    it.effect("a message without subscribers is no trouble, and is not kept for those who come later", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        yield* bus.publish(keys("a", "1"))
        assert.deepStrictEqual(yield* subscribe, [])
      })
    )

    it.effect("a subscription ends with its scope, and the others go on", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        const scope = yield* Scope.make()
        const ended = yield* Scope.provide(subscribe, scope)
        const lasting = yield* subscribe
        yield* bus.publish(keys("a", "1"))
        yield* Scope.close(scope, Exit.void)
        yield* bus.publish(keys("a", "2"))
        assert.deepStrictEqual(ended, [keys("a", "1")])
        assert.deepStrictEqual(lasting, [keys("a", "1"), keys("a", "2")])
      })
    )

    it.effect("a message goes out at each run of publish, not when it is made", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        const publish = bus.publish(keys("a", "1"))
        const received = yield* subscribe
        assert.strictEqual(received.length, 0)
        yield* publish
        yield* publish
        assert.strictEqual(received.length, 2)
      })
    )

    it.effect("a subscriber that unsubscribes another in the middle of a message disturbs nobody", () =>
      Effect.gen(function* () {
        const bus = yield* InvalidationBus
        const scope = yield* Scope.make()
        let heard = 0
        yield* bus.subscribe(() => {
          heard++
          Effect.runSync(Scope.close(scope, Exit.void))
        })
        yield* Scope.provide(subscribe, scope)
        const last = yield* subscribe
        yield* bus.publish(keys("a", "1"))
        yield* bus.publish(keys("a", "2"))
        assert.deepStrictEqual([heard, last.length], [2, 2])
      })
    )
  })

suite("in memory", InvalidationBus.layerMemory)

layerOf(Layer.empty)("InvalidationBus.layerMemory", (it) => {
  it.effect("two buses do not hear one another (C62)", () =>
    Effect.gen(function* () {
      const bus = Effect.map(Layer.build(Layer.fresh(InvalidationBus.layerMemory)), (context) =>
        Effect.provideContext(InvalidationBus, context)
      )
      const [one, two] = [yield* yield* bus, yield* yield* bus]
      let heard = 0
      yield* one.subscribe(() => heard++)
      yield* two.publish(keys("a", "1"))
      assert.strictEqual(heard, 0)
    })
  )
})
