-- effect-tiered-cache, migration 0001: the shared store (L2).
--
-- The library runs the files of this folder by itself when it starts. You may also
-- run them by hand, before the library or instead of it, as often as you like, in
-- the order of their names:
--
--   psql "$DATABASE_URL" --single-transaction --file migrations/0001_cache.sql ...
--
-- Names are unqualified: the search_path decides the schema. PostgreSQL 14 or
-- later. At run time the library needs no more than
--
--   grant select, insert, update, delete on cache_entries, cache_log, cache_log_horizon to app;
--   grant usage on sequence cache_versions to app;
--
-- All contents may be lost without harm: it is a cache. What changes it by hand
-- must tell the running processes, which hold entries in their own memory: the
-- functions of 0003_functions.sql do so.

-- Numbers every change of an entry, and every line of the log. A row's later change
-- has the higher number, because the number is drawn while the row is locked; gaps
-- are normal.
create sequence if not exists cache_versions;

-- The entries. A row can be returned while all of this holds: data is not null;
-- stale_until is null or in the future; no mark of the log covers it (cache_marks).
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
  data           jsonb,                              -- the value; null: a tombstone, or no more than a lease. U+001A and 4 hex digits stand for a character that jsonb refuses
  is_failure     boolean not null default false,     -- whether data is an error that the load ended with, not a value
  data_size      integer not null default 0,         -- bytes of the value's JSON text
  schema_version integer not null default 0,         -- the version of the schema that encoded the value
  created_at     timestamptz not null,               -- when the row was last stored, or invalidated
  expires_at     timestamptz,                        -- until then fresh; null: for good
  stale_until    timestamptz,                        -- until then it may be served, at last stale; never before expires_at; null: for good
  expired_at     timestamptz,                        -- when it was made stale before its time, by its key: kept for the fences as created_at is
  retry_at       timestamptz,                        -- a load failed: no other before then; null: none did. Never after stale_until; no new version
  load_time      float8 not null default 0,          -- milliseconds that the load took
  last_accessed  timestamptz not null default now(), -- gathered in batches, lags behind
  access_count   bigint not null default 0,          -- gathered in batches, lags behind
  validators     jsonb,                              -- what the source can tell by whether the value has changed, such as an etag; object of strings, escaped as data is; null: nothing
  tags           text[] collate "C" not null default '{}',
  long_tags      text[] collate "C",                 -- the tags, if one is longer than 1024 bytes: that one is shortened above as a key would be
  former_tags    text[] collate "C" not null default '{}', -- of what a load has replaced, where it brought others: for the marks of transactions that were open then
  metadata       jsonb,                              -- notes of the store: {"live": true} in a row that replaced a live value
  version        bigint not null,                    -- from cache_versions, a new one whenever the row is stored or invalidated; 0: never was
  loaded_in      pg_snapshot not null,               -- what the database had committed when the load of the value began
  written_in     xid8 not null default pg_current_xact_id(), -- the transaction that stored it, for the marks of that same transaction
  lease_owner    text,                               -- the load that has the lease on the key
  lease_until    timestamptz,                        -- until when, if it does not renew it
  leased_in      pg_snapshot,                        -- what had been committed when it was granted: a later mark ends it
  is_awaited     boolean not null default false,     -- whether somebody has waited for the lease since it was last granted

  -- Serves every statement by key (read, fill, rearm, write, remove, lease), and those by
  -- namespace and by the beginning of a key. Collation "C" is the order of code
  -- points, whatever the database's own collation is.
  primary key (namespace, cache_key)

  -- No index on expires_at, stale_until or retry_at, on purpose. They change at
  -- each refresh, and an indexed column that changes ends HOT updates: every index,
  -- this one included, would pay at every write. The sweeper walks the table by
  -- ctid range instead.
);

-- Serves invalidation by tag. Rows without tags pay nothing for it, and a row whose
-- tags stay what they were stays HOT.
create index if not exists cache_entries_tags on cache_entries using gin (tags)
  with (fastupdate = off) where tags <> '{}';
create index if not exists cache_entries_former_tags on cache_entries using gin (former_tags)
  with (fastupdate = off) where former_tags <> '{}';

-- What was changed. A line is written by the statement that changes the entries, and
-- is committed or rolled back with it.
--
-- It is news: processes read what has become visible since they last looked, are woken
-- by NOTIFY effect_tiered_cache, and drop what they hold in memory. Kept for an hour or
-- two for that, then deleted by the sweeper.
--
-- Where it names many entries at once (kind is not 'keys'), it is also a mark: what it
-- covers is dead, or stale if keeps_stale, as long as its load began before the mark
-- was committed. No row need be found and locked for that, not even one that another
-- transaction is about to store: see cache_marks. The sweeper deletes the dead rows
-- and closes the mark once there are none and no load can be older.
create table if not exists cache_log (
  xid          xid8 not null default pg_current_xact_id(),          -- the transaction, whatever savepoint it was in
  id           bigint not null default nextval('cache_versions'),   -- not the order of commits: read by xid
  at           timestamptz not null default clock_timestamp(),
  origin       text not null default '',                            -- the cache that need not be told; '': all are
  kind         text not null,                                       -- keys, tag, pattern, namespace or all; another one is news of a later version
  namespace    text collate "C",                                    -- null if all
  keys         text[] collate "C",                                  -- if keys: whole keys, however long
  tag          text collate "C",                                    -- if tag
  long_tag     text collate "C",                                    -- if tag: the whole, if it is longer than 1024 bytes
  pattern      text collate "C",                                    -- if pattern: as it was given
  like_pattern text collate "C",                                    -- if pattern: what keys it covers are like
  regex        text collate "C",                                    -- if pattern: and match, unless null
  keeps_stale  boolean not null default false,                      -- whether what it covers is stale, not dead
  is_open      boolean not null default false,                      -- whether entries are still judged by it
  is_swept     boolean not null default false,                      -- whether the sweeper has once deleted what it covers
  swept_to     text[] collate "C",                                  -- how far it has come: namespace and key
  is_last      boolean not null default false,                      -- whether this time will be the last: no load can be older
  primary key (xid, id)
);

create index if not exists cache_log_marks on cache_log (namespace, tag, xid) where is_open;

-- What the sweeper has yet to work on.
create index if not exists cache_log_unswept on cache_log (is_swept, xid, id) where is_open;

-- One row, made below: what the log still reaches back to.
--
-- Of what is visible in trimmed, lines may be missing; next takes its place an hour
-- after next_at at the earliest. No load that is still under way began before settled;
-- settling takes its place in the same way, once a load of that time is too old.
create table if not exists cache_log_horizon (
  only_row boolean primary key default true check (only_row),
  trimmed pg_snapshot not null default pg_current_snapshot(),
  next pg_snapshot not null default pg_current_snapshot(),
  next_at timestamptz not null default clock_timestamp(),
  settled pg_snapshot not null default '1:1:',
  settling pg_snapshot not null default pg_current_snapshot(),
  settling_at timestamptz not null default clock_timestamp()
);

insert into cache_log_horizon default values on conflict do nothing;

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

-- The marks that decide over an entry: those that cover it and that were not visible
-- when its load began. Of a mark and an entry of the same transaction, the later one
-- counts. What is looked at is bounded by what was marked since then, or in the last
-- quarter of an hour, whatever the number of entries.
--
-- No SET clause: the planner puts the function's text in the place of its call.
create or replace function cache_marks(
  namespace text, key text, tags text[], former_tags text[], loaded_in pg_snapshot, written_in xid8, version bigint
) returns table (keeps_stale boolean, at timestamptz) language sql stable as $$
  select m.keeps_stale, m.at
  from cache_log m
  where m.is_open and m.namespace = $1 and m.tag is null and m.xid >= pg_snapshot_xmin($5)
    and (m.like_pattern is null or ($2 like m.like_pattern and (m.regex is null or $2 ~ m.regex)))
    and case when m.xid = $6 then m.id > $7 else not pg_visible_in_snapshot(m.xid, $5) end
  union all
  select m.keeps_stale, m.at
  from cache_log m
  where m.is_open and m.namespace = $1 and m.tag = any ($3) and m.xid >= pg_snapshot_xmin($5)
    and case when m.xid = $6 then m.id > $7 else not pg_visible_in_snapshot(m.xid, $5) end
  union all
  select m.keeps_stale, m.at
  from cache_log m
  where m.is_open and m.namespace = $1 and m.tag = any ($4) and m.xid >= pg_snapshot_xmin($5) and m.xid < $6
    and not pg_visible_in_snapshot(m.xid, $5)
  union all
  select m.keeps_stale, m.at
  from cache_log m
  where m.is_open and m.namespace is null and m.xid >= pg_snapshot_xmin($5)
    and case when m.xid = $6 then m.id > $7 else not pg_visible_in_snapshot(m.xid, $5) end
$$;

-- What the cache holds now, fresh or stale, by namespace. Reads the whole table.
create or replace view cache_stats as
select
  e.namespace,
  count(*)                             as entries,
  coalesce(sum(e.data_size), 0)::bigint as bytes,
  avg(e.access_count)::float8          as average_access_count,
  max(e.last_accessed)                 as last_access
from cache_entries e
where e.data is not null
  and (e.stale_until is null or e.stale_until > now())
  and not exists (
    select
    from cache_marks(
      e.namespace, coalesce(e.long_key, e.cache_key), e.tags, e.former_tags, e.loaded_in, e.written_in, e.version
    ) m
    where not m.keeps_stale or e.is_failure
  )
group by e.namespace;
