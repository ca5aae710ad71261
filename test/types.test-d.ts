import type { PgClient } from "@effect/sql-pg"
import {
  Context,
  type Duration,
  Effect,
  type Exit,
  type Layer,
  type Option,
  Schema,
  type SchemaGetter,
  type Stream
} from "effect"
import {
  type CachedKey,
  type CacheEntry,
  CacheConfig,
  type CacheError,
  type CacheHealth,
  CacheLive,
  type CacheStats,
  type CacheStore,
  CacheTest,
  type Freshness,
  type InvalidationBus,
  Loaded,
  Namespace,
  type Operations,
  type Origin,
  TieredCache
} from "effect-tiered-cache"
import { describe, expectTypeOf, it } from "vitest"

class Gene extends Schema.Class<Gene>("Gene")({ id: Schema.Int, symbol: Schema.String }) {}

class GeneNotFound extends Schema.TaggedError<GeneNotFound>()("GeneNotFound", { id: Schema.Int }) {}

class Genome extends Context.Service<Genome, { readonly find: (id: number) => Effect.Effect<Gene, GeneNotFound> }>()(
  "test/Genome"
) {}

const Genes = Namespace.make("genes", { key: Schema.Int, value: Gene })
const Strict = Namespace.make("strict", { key: Schema.Int, value: Gene, onStoreFailure: "fail" })
const Impatient = Namespace.make("impatient", { key: Schema.Int, value: Gene, loaderHardTimeout: "1 second" })
const Failing = Namespace.make("failing", { key: Schema.Int, value: Gene, error: GeneNotFound })
const Texts = Namespace.make("texts", { value: Schema.String })

declare const loader: Effect.Effect<Gene, GeneNotFound, Genome>
declare const find: (id: number) => Effect.Effect<Gene, GeneNotFound, Genome>
declare const findMany: (ids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<Gene>, GeneNotFound, Genome>
declare const cache: Operations
declare const needs: <Self, Shape>(service: Context.Key<Self, Shape>) => SchemaGetter.Getter<string, string, Self>

describe("Namespace.make", () => {
  it("takes the key and value types from the schemas", () => {
    expectTypeOf(Genes).toEqualTypeOf<Namespace.Namespace<number, Gene>>()
    expectTypeOf(
      Namespace.make("dates", { key: Schema.DateFromString, value: Schema.Option(Schema.BigInt) })
    ).toEqualTypeOf<Namespace.Namespace<Date, Option.Option<bigint>>>()
  })

  it("has string keys where no key schema is given", () => {
    expectTypeOf(Texts).toEqualTypeOf<Namespace.Namespace<string, string>>()
    expectTypeOf(Namespace.make("texts", { key: undefined, value: Schema.String })).toEqualTypeOf(Texts)
  })

  it("says what reads can fail with beside the loader's own error: nothing, unless asked to", () => {
    expectTypeOf(Genes).toEqualTypeOf<Namespace.Namespace<number, Gene, never>>()
    const everything = {
      key: Schema.Int,
      value: Gene,
      version: 2,
      timeToLive: "1 hour",
      loaderSoftTimeout: "1 second",
      copies: true,
      error: undefined,
      loaderHardTimeout: undefined,
      onStoreFailure: undefined
    } as const
    expectTypeOf(Namespace.make("genes", everything)).toEqualTypeOf<Namespace.Namespace<number, Gene, never>>()
  })

  it("knows whether reads fail with the store", () => {
    expectTypeOf(Strict).toEqualTypeOf<Namespace.Namespace<number, Gene, CacheError>>()
    expectTypeOf(Namespace.make("recovering", { value: Schema.String, onStoreFailure: "recover" })).toEqualTypeOf<
      Namespace.Namespace<string, string>
    >()
  })

  it("knows whether reads fail when the loader takes too long", () => {
    expectTypeOf(Impatient).toEqualTypeOf<Namespace.Namespace<number, Gene, CacheError>>()
    expectTypeOf(Namespace.make("ever", { value: Gene, loaderHardTimeout: "Infinity" })).toEqualTypeOf<
      Namespace.Namespace<string, Gene, CacheError>
    >()
  })

  it("knows which failures reads may find in the cache", () => {
    expectTypeOf(Failing).toEqualTypeOf<Namespace.Namespace<number, Gene, GeneNotFound>>()
    expectTypeOf(Failing.failures?.decode("")).toEqualTypeOf<Option.Option<unknown> | undefined>()
    expectTypeOf(
      Namespace.make("failing", { value: Gene, error: Schema.Union([GeneNotFound, Schema.Literal("gone")]) })
    ).toEqualTypeOf<Namespace.Namespace<string, Gene, GeneNotFound | "gone">>()
    expectTypeOf(
      Namespace.make("failing", { value: Gene, error: GeneNotFound, loaderHardTimeout: 1, onStoreFailure: "fail" })
    ).toEqualTypeOf<Namespace.Namespace<string, Gene, CacheError | GeneNotFound>>()
  })

  it("expects the worst where the options leave it open", () => {
    const onStoreFailure = "recover" as Namespace.OnStoreFailure
    const loaderHardTimeout = undefined as Duration.Input | undefined
    const error = undefined as typeof GeneNotFound | undefined
    const either = { value: Gene } as
      { readonly value: typeof Gene } | { readonly value: typeof Gene; readonly onStoreFailure: "fail" }
    const later: { readonly value: typeof Gene; readonly loaderHardTimeout?: Duration.Input } = { value: Gene }
    type CanFail = Namespace.Namespace<string, Gene, CacheError>
    expectTypeOf(Namespace.make("genes", { value: Gene, onStoreFailure })).toEqualTypeOf<CanFail>()
    expectTypeOf(Namespace.make("genes", { value: Gene, loaderHardTimeout })).toEqualTypeOf<CanFail>()
    expectTypeOf(Namespace.make("genes", either)).toEqualTypeOf<CanFail>()
    expectTypeOf(Namespace.make("genes", later)).toEqualTypeOf<CanFail>()
    expectTypeOf(Namespace.make("genes", { value: Gene, error })).toEqualTypeOf<
      Namespace.Namespace<string, Gene, GeneNotFound>
    >()
  })

  it("works inside generic functions", () => {
    const numbered = <A>(value: Schema.Codec<A, unknown>) => Namespace.make("numbered", { key: Schema.Int, value })
    expectTypeOf(numbered<Gene>).returns.toEqualTypeOf<Namespace.Namespace<number, Gene, never>>()
    const loaded = <A>(value: Schema.Codec<A, unknown>): Namespace.Namespace<number, A> => numbered(value)
    expectTypeOf(loaded(Schema.Date)).toEqualTypeOf<Namespace.Namespace<number, Date>>()
    const keyed = <K, A, E>(
      key: Schema.Codec<K, unknown>,
      value: Schema.Codec<A, unknown>,
      error: Schema.Codec<E, unknown>
    ) => Namespace.make("keyed", { key, value, error, onStoreFailure: "fail" })
    expectTypeOf(keyed(Schema.Int, Gene, GeneNotFound)).toEqualTypeOf<
      Namespace.Namespace<number, Gene, CacheError | GeneNotFound>
    >()
    const lab = <O extends Namespace.AnyOptions>(name: string, options: O & Namespace.Checked<O>) =>
      Namespace.make<O>(`lab:${name}`, options)
    expectTypeOf(lab("genes", { key: Schema.Int, value: Gene, onStoreFailure: "fail" })).toEqualTypeOf<
      Namespace.Namespace<number, Gene, CacheError>
    >()
    // @ts-expect-error the option is called timeToLive
    lab("genes", { value: Gene, ttl: "1 hour" })
  })

  it("keeps a brand on the key", () => {
    const GeneId = Schema.Int.pipe(Schema.brand("GeneId"))
    const Branded = Namespace.make("branded", { key: GeneId, value: Gene })
    expectTypeOf(Branded.keys.decode("1")).toEqualTypeOf<Option.Option<typeof GeneId.Type>>()
    TieredCache.get(Branded, GeneId.make(1))
    // @ts-expect-error a number is not a GeneId
    TieredCache.get(Branded, 1)
  })

  it("refuses to go without a value schema", () => {
    // @ts-expect-error the value schema is missing
    Namespace.make("genes", { key: Schema.Int })
    // @ts-expect-error the options are missing
    Namespace.make("genes")
  })

  it("refuses options that it does not have, and values that they cannot have", () => {
    // @ts-expect-error the option is called timeToLive
    Namespace.make("genes", { value: Gene, timeTolive: "1 hour" })
    // @ts-expect-error there is no such unit
    Namespace.make("genes", { value: Gene, timeToLive: "1 lightyear" })
    // @ts-expect-error there is no such choice
    Namespace.make("genes", { value: Gene, onStoreFailure: "explode" })
    // @ts-expect-error a size is a number
    Namespace.make("genes", { value: Gene, maxValueSize: "1 MiB" })
    // @ts-expect-error a version is a number
    Namespace.make("genes", { value: Gene, version: "1" })
    // @ts-expect-error there is no such unit
    Namespace.make("genes", { value: Gene, loaderHardTimeout: "1 lightyear" })
    // @ts-expect-error the failures need a schema
    Namespace.make("genes", { value: Gene, error: "GeneNotFound" })
    // @ts-expect-error it is a yes or a no
    Namespace.make("genes", { value: Gene, copies: 1 })
    // @ts-expect-error the keys need a schema
    Namespace.make("genes", { key: "id", value: Gene })
    const options = { value: Gene, ttl: "1 hour" }
    // @ts-expect-error the option is called timeToLive, wherever it was written
    Namespace.make("genes", options)
  })

  it("refuses a key schema that may be missing: its keys would be numbers or strings, who knows", () => {
    const maybe: { readonly value: typeof Gene; readonly key?: Schema.Int } = { value: Gene }
    const key = undefined as Schema.Int | undefined
    const either = { value: Gene } as
      { readonly value: typeof Gene } | { readonly value: typeof Gene; readonly key: Schema.Int }
    // @ts-expect-error the key schema may be missing
    Namespace.make("genes", maybe)
    // @ts-expect-error the key schema may be undefined
    Namespace.make("genes", { key, value: Gene })
    // @ts-expect-error only one of the two has a key schema
    Namespace.make("genes", either)
  })

  it("refuses schemas that need a service", () => {
    class Secret extends Context.Service<Secret, string>()("test/Secret") {}
    const Encrypted = Schema.String.pipe(Schema.decode({ decode: needs(Secret), encode: needs(Secret) }))
    // @ts-expect-error decoding needs Secret
    Namespace.make("secrets", { value: Encrypted })
    // @ts-expect-error encoding needs Secret
    Namespace.make("secrets", { key: Encrypted, value: Schema.String })
    // @ts-expect-error encoding needs Secret
    Namespace.make("secrets", { value: Schema.String, error: Encrypted })
  })

  it("makes namespaces that stand for nothing but their own types", () => {
    type OfGenes = Namespace.Any<number, Gene>
    for (const namespace of [Genes, Strict, Impatient, Failing] as const) expectTypeOf(namespace).toExtend<OfGenes>()
    expectTypeOf(Texts).not.toExtend<OfGenes>()
    expectTypeOf(Genes).toExtend<Namespace.Namespace<number, Gene, CacheError>>()
    expectTypeOf(Strict).toExtend<Namespace.Namespace<number, Gene, CacheError | GeneNotFound>>()
    expectTypeOf(Strict).not.toExtend<Namespace.Namespace<number, Gene>>()
    expectTypeOf(Failing).not.toExtend<Namespace.Namespace<number, Gene>>()
    expectTypeOf(Failing).not.toExtend<Namespace.Namespace<number, Gene, CacheError>>()
    const Maybe = Namespace.make("maybe", { key: Schema.Int, value: Schema.NullOr(Gene) })
    const ByAny = Namespace.make("by-any", { key: Schema.NullOr(Schema.Int), value: Gene })
    expectTypeOf(Maybe).not.toExtend<OfGenes>()
    expectTypeOf(Genes).not.toExtend<Namespace.Any<number, Gene | null>>()
    expectTypeOf(ByAny).not.toExtend<OfGenes>()
    expectTypeOf(Genes).not.toExtend<Namespace.Any<number | null, Gene>>()
  })

  it("cannot be talked into keys or values that its schemas do not have", () => {
    // @ts-expect-error the keys are strings where no key schema is given
    const numbered: Namespace.Namespace<number, Gene> = Namespace.make("genes", { value: Gene })
    // @ts-expect-error the values are genes
    const text: Namespace.Namespace<string, string> = Namespace.make("genes", { value: Gene })
    // @ts-expect-error the values are never null
    const maybe: Namespace.Namespace<string, Gene | null> = Namespace.make("genes", { value: Gene })
    // @ts-expect-error reads can fail with the store
    const recovering: Namespace.Namespace<string, Gene> = Namespace.make("genes", {
      value: Gene,
      onStoreFailure: "fail"
    })
    // @ts-expect-error reads can fail with GeneNotFound
    const known: Namespace.Namespace<string, Gene> = Namespace.make("genes", { value: Gene, error: GeneNotFound })
    // Allowed, as it is where an effect that cannot fail is expected to.
    const failing: Namespace.Namespace<string, Gene, CacheError> = Namespace.make("genes", { value: Gene })
    void [numbered, text, maybe, recovering, known, failing]
  })
})

describe("Reads of a namespace that goes on without the store", () => {
  it("add nothing to the loader's errors", () => {
    type Read = Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSet(loader, Genes, 1)).toEqualTypeOf<Read>()
    expectTypeOf(TieredCache.getOrSet(loader, Genes, 1, { timeToLive: "1 hour" })).toEqualTypeOf<Read>()
    expectTypeOf(loader.pipe(TieredCache.getOrSet(Genes, 1))).toEqualTypeOf<Read>()
    expectTypeOf(loader.pipe(TieredCache.getOrSet(Genes, 1, { force: true }))).toEqualTypeOf<Read>()
    expectTypeOf(TieredCache.cached(Genes, find)(1)).toEqualTypeOf<Read>()

    type ReadEntry = Effect.Effect<CacheEntry<Gene>, GeneNotFound, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSetEntry(loader, Genes, 1)).toEqualTypeOf<ReadEntry>()
    expectTypeOf(loader.pipe(TieredCache.getOrSetEntry(Genes, 1))).toEqualTypeOf<ReadEntry>()

    type ReadMany = Effect.Effect<Array<Gene>, GeneNotFound, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSetMany(Genes, [1, 2], findMany)).toEqualTypeOf<ReadMany>()
    expectTypeOf(TieredCache.cachedMany(Genes, findMany)([1, 2])).toEqualTypeOf<ReadMany>()
  })

  it("cannot fail where there is no loader", () => {
    expectTypeOf(TieredCache.get(Genes, 1)).toEqualTypeOf<Effect.Effect<Option.Option<Gene>, never, TieredCache>>()
    expectTypeOf(TieredCache.getEntry(Genes, 1)).toEqualTypeOf<
      Effect.Effect<Option.Option<CacheEntry<Gene>>, never, TieredCache>
    >()
    expectTypeOf(TieredCache.getMany(Genes, [1])).toEqualTypeOf<
      Effect.Effect<Array<Option.Option<Gene>>, never, TieredCache>
    >()
  })

  it("cannot fail where the loader cannot", () => {
    const answer = Effect.succeed("answer").pipe(TieredCache.getOrSet(Texts, "key"))
    expectTypeOf(answer).toEqualTypeOf<Effect.Effect<string, never, TieredCache>>()
  })
})

describe("Reads of a namespace that fails with the store", () => {
  it("add CacheError to the loader's errors", () => {
    type Read = Effect.Effect<Gene, GeneNotFound | CacheError, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSet(loader, Strict, 1)).toEqualTypeOf<Read>()
    expectTypeOf(loader.pipe(TieredCache.getOrSet(Strict, 1))).toEqualTypeOf<Read>()
    expectTypeOf(TieredCache.cached(Strict, find)(1)).toEqualTypeOf<Read>()

    type ReadEntry = Effect.Effect<CacheEntry<Gene>, GeneNotFound | CacheError, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSetEntry(loader, Strict, 1)).toEqualTypeOf<ReadEntry>()
    expectTypeOf(loader.pipe(TieredCache.getOrSetEntry(Strict, 1))).toEqualTypeOf<ReadEntry>()

    type ReadMany = Effect.Effect<Array<Gene>, GeneNotFound | CacheError, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSetMany(Strict, [1, 2], findMany)).toEqualTypeOf<ReadMany>()
    expectTypeOf(TieredCache.cachedMany(Strict, findMany)([1, 2])).toEqualTypeOf<ReadMany>()
  })

  it("can fail where there is no loader", () => {
    expectTypeOf(TieredCache.get(Strict, 1)).toEqualTypeOf<
      Effect.Effect<Option.Option<Gene>, CacheError, TieredCache>
    >()
    expectTypeOf(TieredCache.getEntry(Strict, 1)).toEqualTypeOf<
      Effect.Effect<Option.Option<CacheEntry<Gene>>, CacheError, TieredCache>
    >()
    expectTypeOf(TieredCache.getMany(Strict, [1])).toEqualTypeOf<
      Effect.Effect<Array<Option.Option<Gene>>, CacheError, TieredCache>
    >()
  })

  it("have their CacheError taken out of the type where it is caught", () => {
    const caught = loader.pipe(
      TieredCache.getOrSet(Strict, 1),
      Effect.catchTag("CacheError", () => loader)
    )
    expectTypeOf(caught).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>>()
  })

  it("may fail where the namespace is any", () => {
    const read = (namespace: Namespace.Any<number, Gene>) => TieredCache.get(namespace, 1)
    expectTypeOf(read).returns.toEqualTypeOf<Effect.Effect<Option.Option<Gene>, CacheError, TieredCache>>()
    const readAll = (namespace: Namespace.Any<number, Gene>) => cache.getMany(namespace, [1])
    expectTypeOf(readAll).returns.toEqualTypeOf<Effect.Effect<Array<Option.Option<Gene>>, CacheError>>()
  })
})

describe("Reads of a namespace whose loader may take too long", () => {
  it("add CacheError to the loader's errors", () => {
    type Read = Effect.Effect<Gene, GeneNotFound | CacheError, Genome | TieredCache>
    expectTypeOf(TieredCache.getOrSet(loader, Impatient, 1)).toEqualTypeOf<Read>()
    expectTypeOf(loader.pipe(TieredCache.getOrSet(Impatient, 1))).toEqualTypeOf<Read>()
    expectTypeOf(TieredCache.cached(Impatient, find)(1)).toEqualTypeOf<Read>()
    expectTypeOf(cache.getOrSet(Impatient, 1, loader)).toEqualTypeOf<
      Effect.Effect<Gene, GeneNotFound | CacheError, Genome>
    >()
    expectTypeOf(cache.getOrSetMany(Impatient, [1], findMany)).toEqualTypeOf<
      Effect.Effect<Array<Gene>, GeneNotFound | CacheError, Genome>
    >()
  })
})

describe("Reads of a namespace that caches failures", () => {
  it("can fail with them, whatever the loader can fail with", () => {
    const other = Effect.succeed(new Gene({ id: 1, symbol: "A" })) as Effect.Effect<Gene, "offline">
    expectTypeOf(TieredCache.getOrSet(other, Failing, 1)).toEqualTypeOf<
      Effect.Effect<Gene, "offline" | GeneNotFound, TieredCache>
    >()
    expectTypeOf(other.pipe(TieredCache.getOrSet(Failing, 1))).toEqualTypeOf<
      Effect.Effect<Gene, "offline" | GeneNotFound, TieredCache>
    >()
    expectTypeOf(cache.getOrSet(Failing, 1, loader)).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome>>()
    expectTypeOf(cache.cached(Failing, () => other)).toEqualTypeOf<
      (id: number) => Effect.Effect<Gene, "offline" | GeneNotFound>
    >()
  })

  it("do not fail where there is no loader", () => {
    expectTypeOf(cache.get(Failing, 1)).toEqualTypeOf<Effect.Effect<Option.Option<Gene>>>()
    expectTypeOf(cache.getEntry(Failing, 1)).toEqualTypeOf<Effect.Effect<Option.Option<CacheEntry<Gene>>>>()
    expectTypeOf(cache.getMany(Failing, [1])).toEqualTypeOf<Effect.Effect<Array<Option.Option<Gene>>>>()
    const Both = Namespace.make("both", { value: Gene, error: GeneNotFound, onStoreFailure: "fail" })
    expectTypeOf(cache.get(Both, "1")).toEqualTypeOf<Effect.Effect<Option.Option<Gene>, CacheError>>()
  })
})

describe("The options of a read that can load", () => {
  it("know what the loader brings and how it fails", () => {
    const read = TieredCache.getOrSet(loader, Genes, 1, {
      timeToLive: (exit) => {
        expectTypeOf(exit).toEqualTypeOf<Exit.Exit<Gene, GeneNotFound>>()
        return exit._tag === "Success" ? "1 hour" : undefined
      },
      tags: (gene) => {
        expectTypeOf(gene).toEqualTypeOf<Gene>()
        return [gene.symbol]
      },
      staleOn: (error) => {
        expectTypeOf(error).toEqualTypeOf<GeneNotFound>()
        return error.id === 1
      },
      fallback: (error) => {
        expectTypeOf(error).toEqualTypeOf<GeneNotFound | CacheError>()
        return new Gene({ id: 0, symbol: "?" })
      },
      store: (exit) => exit._tag === "Success"
    })
    expectTypeOf(read).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>>()
    const same = cache.getOrSet(Strict, 1, loader, {
      timeToLive: "1 hour",
      tags: ["genes"],
      staleOn: ({ id }) => id > 1,
      fallback: () => new Gene({ id: 0, symbol: "?" }),
      force: true,
      skip: "memory",
      store: false
    })
    expectTypeOf(same).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound | CacheError, Genome>>()
  })

  it("say how the loader fails where it comes after them, and hold for all that fail so or never", () => {
    type Read = Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>
    const staleOn = TieredCache.getOrSet(Genes, 1, { staleOn: (error: GeneNotFound) => error.id > 1 })
    expectTypeOf(loader.pipe(staleOn)).toEqualTypeOf<Read>()
    const never = Effect.succeed(new Gene({ id: 1, symbol: "A" }))
    expectTypeOf(never.pipe(staleOn)).toEqualTypeOf<Effect.Effect<Gene, never, TieredCache>>()
    const offline = never as Effect.Effect<Gene, GeneNotFound | "offline">
    // @ts-expect-error the predicate knows nothing of a loader that is offline
    offline.pipe(staleOn)
    const fallback = TieredCache.getOrSet(Genes, 1, {
      fallback: (error: GeneNotFound | CacheError) => new Gene({ id: 0, symbol: error._tag })
    })
    expectTypeOf(loader.pipe(fallback)).toEqualTypeOf<Read>()
    const decided = TieredCache.getOrSetEntry(Impatient, 1, {
      timeToLive: (exit: Exit.Exit<Gene, GeneNotFound>) => (exit._tag === "Success" ? "1 hour" : undefined),
      store: (exit: Exit.Exit<Gene, GeneNotFound>) => exit._tag === "Success",
      tags: (gene) => {
        expectTypeOf(gene).toEqualTypeOf<Gene>()
        return [gene.symbol]
      }
    })
    expectTypeOf(loader.pipe(decided)).toEqualTypeOf<
      Effect.Effect<CacheEntry<Gene>, GeneNotFound | CacheError, Genome | TieredCache>
    >()
  })

  it("know nothing of a loader that comes after them, unless they say so, and hold for all", () => {
    const read = TieredCache.getOrSet(Genes, 1, {
      staleOn: (error) => {
        expectTypeOf(error).toEqualTypeOf<unknown>()
        return true
      },
      fallback: (error) => {
        expectTypeOf(error).toEqualTypeOf<unknown>()
        return new Gene({ id: 0, symbol: "?" })
      },
      timeToLive: (exit) => {
        expectTypeOf(exit).toEqualTypeOf<Exit.Exit<Gene, unknown>>()
        return undefined
      }
    })
    expectTypeOf(loader.pipe(read)).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>>()
    const shown = (stale: CacheEntry<Gene> | undefined) =>
      stale === undefined ? loader : Effect.succeed(Loaded.notModified())
    expectTypeOf(read(shown)).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome | TieredCache>>()
    // @ts-expect-error the fallback is a gene
    loader.pipe(TieredCache.getOrSet(Genes, 1, { fallback: () => "TP53" }))
    // @ts-expect-error the loader brings text
    Effect.succeed("TP53").pipe(read)
  })

  it("cannot ask for what the loader does not have", () => {
    // @ts-expect-error the fallback is a gene
    TieredCache.getOrSet(loader, Genes, 1, { fallback: () => "TP53" })
    // @ts-expect-error the loader does not fail with text
    TieredCache.getOrSet(loader, Genes, 1, { staleOn: (error: string) => error === "" })
    // @ts-expect-error there is no such unit
    TieredCache.getOrSet(loader, Genes, 1, { timeToLive: () => "1 lightyear" })
    // @ts-expect-error it decides between yes and no
    cache.getOrSet(Genes, 1, loader, { staleOn: () => "yes" })
    // @ts-expect-error the tags are text
    cache.getOrSet(Genes, 1, loader, { tags: [1] })
    // @ts-expect-error it is the namespace's to decide, because reads can fail with it
    cache.getOrSet(Genes, 1, loader, { loaderHardTimeout: "1 second" })
  })
})

describe("The service", () => {
  it("needs what the loader needs, and nothing else", () => {
    expectTypeOf(cache.getOrSet(Genes, 1, loader)).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome>>()
    expectTypeOf(cache.getOrSet(Strict, 1, loader)).toEqualTypeOf<
      Effect.Effect<Gene, GeneNotFound | CacheError, Genome>
    >()
    expectTypeOf(cache.getOrSetEntry(Genes, 1, loader)).toEqualTypeOf<
      Effect.Effect<CacheEntry<Gene>, GeneNotFound, Genome>
    >()
    expectTypeOf(cache.getOrSetMany(Genes, [1], findMany)).toEqualTypeOf<
      Effect.Effect<Array<Gene>, GeneNotFound, Genome>
    >()
    expectTypeOf(cache.getOrSetMany(Strict, [1], findMany)).toEqualTypeOf<
      Effect.Effect<Array<Gene>, GeneNotFound | CacheError, Genome>
    >()
    expectTypeOf(cache.cached(Genes, find)).toEqualTypeOf<(id: number) => Effect.Effect<Gene, GeneNotFound, Genome>>()
    expectTypeOf(cache.cached(Strict, find)).toEqualTypeOf<
      (id: number) => Effect.Effect<Gene, GeneNotFound | CacheError, Genome>
    >()
    expectTypeOf(cache.get(Genes, 1)).toEqualTypeOf<Effect.Effect<Option.Option<Gene>>>()
    expectTypeOf(cache.get(Strict, 1)).toEqualTypeOf<Effect.Effect<Option.Option<Gene>, CacheError>>()
  })

  it("is what the context holds", () => {
    expectTypeOf(Effect.service(TieredCache)).toEqualTypeOf<Effect.Effect<Operations, never, TieredCache>>()
  })
})

describe("Changes", () => {
  it("always carry CacheError", () => {
    for (const namespace of [Genes, Strict] as const) {
      type Changed<A> = Effect.Effect<A, CacheError, TieredCache>
      expectTypeOf(TieredCache.set(namespace, 1, new Gene({ id: 1, symbol: "A" }))).toEqualTypeOf<Changed<void>>()
      expectTypeOf(TieredCache.setMany(namespace, new Map<number, Gene>())).toEqualTypeOf<Changed<void>>()
      expectTypeOf(TieredCache.invalidate(namespace, 1)).toEqualTypeOf<Changed<boolean>>()
      expectTypeOf(TieredCache.invalidateMany(namespace, [1])).toEqualTypeOf<Changed<Array<boolean>>>()
      expectTypeOf(TieredCache.expire(namespace, 1)).toEqualTypeOf<Changed<boolean>>()
      expectTypeOf(TieredCache.expireMany(namespace, [1])).toEqualTypeOf<Changed<Array<boolean>>>()
      expectTypeOf(TieredCache.invalidateTags(namespace, ["t"])).toEqualTypeOf<Changed<number>>()
      expectTypeOf(TieredCache.expireTags(namespace, ["t"])).toEqualTypeOf<Changed<number>>()
      expectTypeOf(TieredCache.invalidatePattern(namespace, "1*")).toEqualTypeOf<Changed<number>>()
      expectTypeOf(TieredCache.expirePattern(namespace, "1*")).toEqualTypeOf<Changed<number>>()
      expectTypeOf(TieredCache.clear(namespace)).toEqualTypeOf<Changed<number>>()
      expectTypeOf(TieredCache.clearAll).toEqualTypeOf<Changed<number>>()
      expectTypeOf(cache.set(namespace, 1, new Gene({ id: 1, symbol: "A" }))).toEqualTypeOf<
        Effect.Effect<void, CacheError>
      >()
      expectTypeOf(cache.invalidate(namespace, 1)).toEqualTypeOf<Effect.Effect<boolean, CacheError>>()
      expectTypeOf(cache.clear(namespace)).toEqualTypeOf<Effect.Effect<number, CacheError>>()
    }
  })
})

describe("Looking at the cache", () => {
  it("cannot fail, but for the keys, which the store has", () => {
    expectTypeOf(TieredCache.stats).toEqualTypeOf<Effect.Effect<CacheStats, never, TieredCache>>()
    expectTypeOf(TieredCache.statsOf(Genes)).toEqualTypeOf<Effect.Effect<CacheStats, never, TieredCache>>()
    expectTypeOf(TieredCache.health).toEqualTypeOf<Effect.Effect<CacheHealth, never, TieredCache>>()
    expectTypeOf(TieredCache.keys(Genes)).toEqualTypeOf<Stream.Stream<CachedKey<number>, CacheError, TieredCache>>()
    expectTypeOf(TieredCache.keys(Genes, { pattern: "1*" })).toEqualTypeOf(TieredCache.keys(Genes))
  })

  it("knows where a value came from and whether it is fresh", () => {
    expectTypeOf<CacheEntry<Gene>["value"]>().toEqualTypeOf<Gene>()
    expectTypeOf<CacheEntry<Gene>["origin"]>().toEqualTypeOf<"memory" | "store" | "loader" | "fallback">()
    expectTypeOf<CacheEntry<Gene>["freshness"]>().toEqualTypeOf<"fresh" | "stale">()
    expectTypeOf<Origin>().toEqualTypeOf<CacheEntry<unknown>["origin"]>()
    expectTypeOf<Freshness>().toEqualTypeOf<CacheEntry<unknown>["freshness"]>()
    expectTypeOf<CacheEntry<Gene>>().toExtend<CacheEntry<Gene | null>>()
  })
})

describe("A wrong use", () => {
  it("of a key is a type error", () => {
    // @ts-expect-error the keys are numbers
    TieredCache.getOrSet(loader, Genes, "1")
    // @ts-expect-error the keys are numbers
    loader.pipe(TieredCache.getOrSet(Genes, "1"))
    // @ts-expect-error the keys are strings
    TieredCache.get(Texts, 1)
    // @ts-expect-error the keys are numbers
    TieredCache.getMany(Genes, ["1"])
    // @ts-expect-error the keys are numbers
    TieredCache.getOrSetMany(Genes, ["1"], findMany)
    // @ts-expect-error the keys are numbers
    TieredCache.invalidate(Genes, "1")
    // @ts-expect-error the keys are numbers
    TieredCache.invalidateMany(Genes, ["1"])
    // @ts-expect-error the keys are numbers
    TieredCache.expire(Genes, "1")
    // @ts-expect-error tags are many
    TieredCache.invalidateTags(Genes, "t")
    // @ts-expect-error the keys are numbers
    TieredCache.set(Genes, "1", new Gene({ id: 1, symbol: "A" }))
    // @ts-expect-error the keys are numbers
    TieredCache.cached(Genes, (id: string) => Effect.succeed(new Gene({ id: Number(id), symbol: "A" })))
    // @ts-expect-error the keys are numbers
    cache.getOrSet(Genes, "1", loader)
    // @ts-expect-error the keys are numbers
    cache.invalidate(Genes, "1")
  })

  it("of a value is a type error", () => {
    // @ts-expect-error the values are genes
    TieredCache.getOrSet(Effect.succeed("TP53"), Genes, 1)
    // @ts-expect-error the values are genes
    Effect.succeed("TP53").pipe(TieredCache.getOrSet(Genes, 1))
    // @ts-expect-error the loader may bring nothing, the namespace has no nothing
    Effect.succeed<Gene | null>(null).pipe(TieredCache.getOrSet(Genes, 1))
    // @ts-expect-error the loader may bring undefined
    TieredCache.getOrSet(Effect.succeed<Gene | undefined>(undefined), Genes, 1)
    // @ts-expect-error the values are genes
    TieredCache.getOrSetMany(Genes, [1], () => Effect.succeed(["TP53"]))
    // @ts-expect-error the values are genes
    TieredCache.set(Genes, 1, "TP53")
    // @ts-expect-error the values are genes
    TieredCache.setMany(Genes, [[1, "TP53"]])
    // @ts-expect-error the values are genes
    TieredCache.cached(Genes, () => Effect.succeed("TP53"))
    // @ts-expect-error the values are genes
    cache.getOrSet(Genes, 1, Effect.succeed("TP53"))
    // @ts-expect-error the values are genes
    cache.set(Genes, 1, "TP53")
  })

  it("of an option is a type error", () => {
    // @ts-expect-error the option is called timeToLive
    TieredCache.getOrSet(loader, Genes, 1, { ttl: "1 hour" })
    // @ts-expect-error the option is called timeToLive
    loader.pipe(TieredCache.getOrSet(Genes, 1, { ttl: "1 hour" }))
    // @ts-expect-error there is no such tier
    TieredCache.get(Genes, 1, { skip: "disk" })
    // @ts-expect-error nothing is loaded that could be kept
    TieredCache.get(Genes, 1, { timeToLive: "1 hour" })
    // @ts-expect-error there is no such unit
    TieredCache.set(Genes, 1, new Gene({ id: 1, symbol: "A" }), { timeToLive: "1 lightyear" })
    // @ts-expect-error an effect is no namespace
    TieredCache.get(loader, 1)
    // @ts-expect-error the field is called timeToLive
    CacheTest.layer({ namespaces: { genes: { ttl: 1 } } })
    // @ts-expect-error the field is called maxEntries
    CacheLive.layer({ memory: { capacity: 1 } })
  })
})

describe("The layers", () => {
  it("on PostgreSQL need a client, and fail with CacheError", () => {
    type OnPostgres = Layer.Layer<TieredCache, CacheError, PgClient.PgClient>
    expectTypeOf(CacheLive).toExtend<OnPostgres>()
    expectTypeOf<Layer.Services<typeof CacheLive>>().toEqualTypeOf<PgClient.PgClient>()
    expectTypeOf<Layer.Error<typeof CacheLive>>().toEqualTypeOf<CacheError>()
    expectTypeOf<Layer.Success<typeof CacheLive>>().toEqualTypeOf<TieredCache>()
    expectTypeOf(CacheLive.layer({ store: { migrate: false } })).toEqualTypeOf<OnPostgres>()
  })

  it("for tests need nothing and cannot fail", () => {
    expectTypeOf<Layer.Services<typeof CacheTest>>().toBeNever()
    expectTypeOf<Layer.Error<typeof CacheTest>>().toBeNever()
    expectTypeOf<Layer.Success<typeof CacheTest>>().toEqualTypeOf<TieredCache>()
    expectTypeOf(CacheTest.layer({ policy: { timeToLive: "1 hour" } })).toEqualTypeOf<
      Layer.Layer<TieredCache, CacheError>
    >()
  })

  it("over any parts need a store and a bus", () => {
    type OverAny = Layer.Layer<TieredCache, CacheError, CacheStore | InvalidationBus>
    expectTypeOf(TieredCache.layer).toEqualTypeOf<OverAny>()
    expectTypeOf(TieredCache.layerOf({})).toEqualTypeOf<OverAny>()
    expectTypeOf(CacheConfig.layer).toEqualTypeOf<Layer.Layer<CacheConfig, CacheError>>()
    expectTypeOf(CacheConfig.layerOf({})).toEqualTypeOf<Layer.Layer<CacheConfig, CacheError>>()
  })

  it("leave a program nothing to need but what its loaders need", () => {
    const program = loader.pipe(TieredCache.getOrSet(Genes, 1))
    expectTypeOf(program.pipe(Effect.provide(CacheTest))).toEqualTypeOf<Effect.Effect<Gene, GeneNotFound, Genome>>()
    expectTypeOf(program.pipe(Effect.provide(CacheLive))).toEqualTypeOf<
      Effect.Effect<Gene, GeneNotFound | CacheError, Genome | PgClient.PgClient>
    >()
  })
})
