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
--   grant select, insert, update, delete on cache_entries, cache_namespaces, cache_epoch, cache_log, cache_log_horizon to app;
--   grant usage on sequence cache_versions to app;
--
-- All contents may be lost without harm: it is a cache. What changes it by hand
-- must tell the running processes, which hold entries in their own memory: the
-- functions at the end do so.
--
--   select cache_invalidate('genes', '7');  -- one entry; true if it was there
--   select cache_clear('genes');            -- a namespace; how many entries it had
--   select cache_clear_all();               -- everything
--
-- They do what the library does, join your transaction, and may be called by a
-- trigger, so that no program that changes the data need know of the cache:
--
--   create function genes_changed() returns trigger language plpgsql as $$
--   begin
--     perform cache_invalidate('genes', old.id::text);
--     return null;
--   end $$;
--   create trigger genes_changed after update or delete on genes for each row execute function genes_changed();
--
-- They run with the rights of whoever calls them, who needs the grants above.

-- Numbers every storing or invalidation of an entry. A row's later change has the higher number,
-- because the number is drawn while the row is locked; gaps are normal.
create sequence if not exists cache_versions;

-- One row, made below. generation counts how often the whole cache was cleared.
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
  metadata       jsonb,                              -- notes of the store: {"live": true} in a row that replaced a live value
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

-- What was changed: whatever processes may still hold in memory. A row is written
-- by the statement that changes the entries, and is committed or rolled back with
-- it; processes read what has become visible since they last looked, and are woken
-- by NOTIFY effect_tiered_cache. Kept for an hour or two, then deleted by the sweeper.
create table if not exists cache_log (
  xid       xid8 not null default pg_current_xact_id(),  -- the transaction, whatever savepoint it was in
  id        bigint generated always as identity,         -- not the order of commits: read by xid
  at        timestamptz not null default clock_timestamp(),
  origin    text not null default '',                    -- the cache that need not be told; '': all are
  namespace text collate "C",                            -- null: everything
  keys      text[] collate "C",                          -- whole keys, however long; null: the whole namespace
  primary key (xid, id)
);

-- One row, made below: how far back cache_log reaches. Of what is visible in trimmed,
-- rows may be missing. next takes its place an hour after next_at at the earliest.
create table if not exists cache_log_horizon (
  only_row boolean primary key default true check (only_row),
  trimmed pg_snapshot not null default pg_current_snapshot(),
  next pg_snapshot not null default pg_current_snapshot(),
  next_at timestamptz not null default clock_timestamp()
);

insert into cache_log_horizon default values on conflict do nothing;

-- Removes an entry, in every tier of every process, and refuses what loads that
-- began before bring. Says whether there was one.
--
-- The key is the text that cache_key (of a long key: long_key) shows: a key that is
-- a string as it is, any other as JSON without spaces, its fields sorted by name:
-- '7', '{"chromosome":7,"position":140453136}'.
create or replace function cache_invalidate(namespace text, key text) returns boolean
language plpgsql strict set search_path from current as $body$
#variable_conflict use_column
declare
  bytes constant bytea := convert_to(cache_invalidate.key, 'UTF8');
  stored text := cache_invalidate.key;
  cut integer := 1024;
  at constant timestamptz := clock_timestamp();
  was_live boolean;
begin
  if length(bytes) > cut then
    while get_byte(bytes, cut) & 192 = 128 loop
      cut := cut - 1;
    end loop;
    stored := convert_from(substring(bytes for cut), 'UTF8') || ':sha256:' || encode(sha256(bytes), 'hex');
  end if;
  insert into cache_entries as e (
    namespace, cache_key, long_key, created_at, expires_at, stale_until, version, generation
  )
  select
    cache_invalidate.namespace, stored, nullif(cache_invalidate.key, stored),
    at, at, at, nextval('cache_versions'),
    coalesce((select n.generation from cache_namespaces n where n.namespace = cache_invalidate.namespace), 0)
      + coalesce((select p.generation from cache_epoch p), 0)
  on conflict (namespace, cache_key) do update set
    data = null, is_failure = false, data_size = 0, schema_version = 0,
    created_at = excluded.created_at, expires_at = excluded.expires_at, stale_until = excluded.stale_until,
    retry_at = null, load_time = 0, last_accessed = excluded.created_at, access_count = 0,
    validators = null, tags = '{}', metadata = case when
      e.data is not null
      and (e.stale_until is null or e.stale_until > excluded.created_at)
      and e.generation = excluded.generation
    then '{"live": true}'::jsonb end,
    version = nextval('cache_versions'), generation = excluded.generation
  returning e.metadata is not null into was_live;
  insert into cache_log (namespace, keys) values (cache_invalidate.namespace, array[cache_invalidate.key]);
  perform pg_notify('effect_tiered_cache', '1');
  return was_live;
end
$body$;

-- Removes all entries of a namespace, in every tier of every process, whatever
-- their number in a short time: the sweeper deletes what is left of many. Says how
-- many there were, fresh or stale.
create or replace function cache_clear(namespace text) returns bigint
language plpgsql strict set search_path from current as $body$
#variable_conflict use_column
declare
  cleared bigint;
begin
  select count(*) into cleared
  from cache_entries e
  where e.namespace = cache_clear.namespace
    and e.data is not null
    and (e.stale_until is null or e.stale_until > clock_timestamp())
    and e.generation =
      coalesce((select n.generation from cache_namespaces n where n.namespace = cache_clear.namespace), 0)
        + coalesce((select p.generation from cache_epoch p), 0);
  insert into cache_namespaces as n (namespace, generation) values (cache_clear.namespace, 1)
  on conflict (namespace) do update set generation = n.generation + 1;
  delete from cache_entries e using (
    select ctid from cache_entries where namespace = cache_clear.namespace limit 50000 for update skip locked
  ) d
  where e.ctid = d.ctid;
  insert into cache_log (namespace) values (cache_clear.namespace);
  perform pg_notify('effect_tiered_cache', '1');
  return cleared;
end
$body$;

-- The same for every namespace.
create or replace function cache_clear_all() returns bigint
language plpgsql set search_path from current as $body$
declare
  cleared bigint;
begin
  select coalesce(sum(entries), 0) into cleared from cache_stats;
  insert into cache_epoch as p (generation) values (1)
  on conflict (only_row) do update set generation = p.generation + 1;
  delete from cache_entries e using (
    select ctid from cache_entries limit 50000 for update skip locked
  ) d
  where e.ctid = d.ctid;
  insert into cache_log default values;
  perform pg_notify('effect_tiered_cache', '1');
  return cleared;
end
$body$;
