-- effect-tiered-cache, migration 0001: the shared store (L2).
--
-- The library runs this file by itself when it starts. You may also run it by
-- hand, before the library or instead of it, as often as you like:
--
--   psql "$DATABASE_URL" --single-transaction --file migrations/0001_cache.sql
--
-- Names are unqualified: the search_path decides the schema. PostgreSQL 14 or
-- later. At run time the library needs no more than
--
--   grant select, insert, update, delete on cache_entries, cache_namespaces, cache_epoch to app;
--   grant usage on sequence cache_versions to app;
--
-- All contents may be lost without harm: it is a cache. To empty it by hand, see
-- the note on cache_epoch, which running processes would otherwise not notice.

-- Numbers every storing or invalidation of an entry. A row's later change has the higher number,
-- because the number is drawn while the row is locked; gaps are normal.
create sequence if not exists cache_versions;

-- One row, made below. generation counts how often the whole cache was cleared.
-- By hand: begin; update cache_epoch set generation = generation + 1;
-- delete from cache_entries; commit;
create table if not exists cache_epoch (
  only_row boolean primary key default true check (only_row),
  generation bigint not null default 0
);

insert into cache_epoch default values on conflict do nothing;

-- One row for each namespace that was ever cleared; a namespace without a row
-- has generation 0.
create table if not exists cache_namespaces (
  namespace text collate "C" primary key,
  generation bigint not null,                        -- how often it was cleared
  created_at timestamptz not null default now()
);

-- The entries. A row can be returned while all of this holds:
--   data is not null; stale_until is null or in the future; generation is the sum
--   of its namespace's generation and the epoch's.
-- Any other row is dead: kept for the fence it is (see below), then deleted by
-- the sweeper. Once expires_at has passed, a row is stale: the reserve that
-- processes fall back on while they load the value anew, or when they cannot.
--
-- The fence: a process that loads a value remembers the version (or the absence)
-- of the row when the load begins, and may store the value only while that has
-- not changed. So an invalidation does not delete the row but leaves a tombstone
-- with a new version, and no dead row is deleted in the first minutes after its
-- last change. Do not delete single rows by hand while processes run.
create table if not exists cache_entries (
  namespace      text collate "C" not null,
  cache_key      text collate "C" not null,          -- up to 1024 bytes: the key; longer: its beginning, ':sha256:' and its hash
  long_key       text collate "C",                   -- the key, if it is longer than 1024 bytes
  data           jsonb,                              -- the value; null: a tombstone. U+001A and 4 hex digits stand for a character that jsonb refuses
  is_failure     boolean not null default false,     -- whether data is an error that the load ended with, not a value
  data_size      integer not null default 0,         -- bytes of the value's JSON text
  schema_version integer not null default 0,         -- the version of the schema that encoded the value
  created_at     timestamptz not null,               -- when the row was last stored, or invalidated
  expires_at     timestamptz,                        -- until then fresh; null: for good
  stale_until    timestamptz,                        -- until then it may be served, at last stale; never before expires_at; null: for good
  retry_at       timestamptz,                        -- a load failed: no other before then; null: none did. Never after stale_until; no new version
  load_time      float8 not null default 0,          -- milliseconds that the load took
  last_accessed  timestamptz not null default now(), -- gathered in batches, lags behind
  access_count   bigint not null default 0,          -- gathered in batches, lags behind
  validators     jsonb,                              -- what the source can tell by whether the value has changed, such as an etag; object of strings, escaped as data is; null: nothing
  tags           text[] collate "C" not null default '{}',
  metadata       jsonb,                              -- notes of the store: {"live": true} in a tombstone that replaced a live value
  version        bigint not null,                    -- from cache_versions, a new one whenever the row is stored or invalidated
  generation     bigint not null,

  -- Serves every statement by key (read, fill, rearm, write, remove), and the pages of
  -- scan and the rows of clear by namespace. Collation "C" is the order of code
  -- points, whatever the database's own collation is.
  primary key (namespace, cache_key)

  -- No index on expires_at, stale_until or retry_at, on purpose. They change at
  -- each refresh, and an indexed column that changes ends HOT updates: every index,
  -- this one included, would pay at every write. The sweeper walks the table by
  -- ctid range instead.
);

-- fillfactor leaves room for HOT updates. The autovacuum settings make it come
-- often and without pauses, since every refresh leaves a dead row version, and
-- keep it from taking the exclusive lock that truncating the file needs.
alter table cache_entries set (
  fillfactor = 90,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = false
);

-- Values over 2 kB: lz4 where the server was built with it, else uncompressed.
-- The default, pglz, doubles the cost of a write.
do $compression$
begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    alter table cache_entries alter column data set compression lz4;
  else
    alter table cache_entries alter column data set storage external;
  end if;
end
$compression$;

-- What the cache holds now, fresh or stale, by namespace. Reads the whole table.
create or replace view cache_stats as
select
  e.namespace,
  count(*)                             as entries,
  coalesce(sum(e.data_size), 0)::bigint as bytes,
  avg(e.access_count)::float8          as average_access_count,
  max(e.last_accessed)                 as last_access
from cache_entries e
left join cache_namespaces n on n.namespace = e.namespace
cross join cache_epoch p
where e.data is not null
  and (e.stale_until is null or e.stale_until > now())
  and e.generation = coalesce(n.generation, 0) + p.generation
group by e.namespace;
