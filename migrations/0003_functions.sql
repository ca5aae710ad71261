-- effect-tiered-cache, migration 0003: invalidation in SQL, for psql, for triggers and
-- for programs that change the data without the library.
--
--   select cache_invalidate('genes', '7');               -- one entry; true if it was there
--   select cache_invalidate_tags('genes', 'chr7');       -- all with the tag, or with one of several; how many
--   select cache_invalidate_pattern('genes', '7:*');     -- all whose key matches; how many
--   select cache_clear('genes');                         -- a namespace; how many entries it had
--   select cache_clear_all();                            -- everything
--
-- They do what the library does, in every tier of every process, and join your
-- transaction. A trigger may call them, so that no program that changes the data
-- need know of the cache:
--
--   create function genes_changed() returns trigger language plpgsql as $$
--   begin
--     perform cache_invalidate('genes', old.id::text);
--     return null;
--   end $$;
--   create trigger genes_changed after update or delete on genes for each row execute function genes_changed();
--
-- cache_expire, cache_expire_tags and cache_expire_pattern leave what was there as the
-- stale reserve. All run with the rights of whoever calls them, who needs the grants
-- of 0001_cache.sql. Numbers over 10 000 are estimates.

-- The text under which a key is stored.
create or replace function cache_stored_key(key text) returns text
language plpgsql immutable strict parallel safe as $body$
declare
  bytes constant bytea := convert_to(key, 'UTF8');
  cut integer := 1024;
begin
  if length(bytes) <= cut then
    return key;
  end if;
  while get_byte(bytes, cut) & 192 = 128 loop
    cut := cut - 1;
  end loop;
  return convert_from(substring(bytes for cut), 'UTF8') || ':sha256:' || encode(sha256(bytes), 'hex');
end
$body$;

-- Removes an entry, or makes it stale; for cache_invalidate and cache_expire.
create or replace function cache_remove_key(namespace text, key text, keeps_stale boolean) returns boolean
language plpgsql strict set search_path from current as $body$
#variable_conflict use_column
declare
  stored constant text := cache_stored_key(cache_remove_key.key);
  at constant timestamptz := clock_timestamp();
  was_there boolean;
begin
  update cache_entries e set
    expires_at = least(e.expires_at, at), retry_at = null, lease_owner = null, lease_until = null,
    expired_at = at, metadata = case when (e.expires_at is null or e.expires_at > at) and not exists (
      select
      from cache_marks(
        e.namespace, cache_remove_key.key, e.tags, e.former_tags, e.loaded_in, e.written_in, e.version
      )
    ) then '{"live": true}'::jsonb end,
    version = nextval('cache_versions')
  where cache_remove_key.keeps_stale
    and e.namespace = cache_remove_key.namespace and e.cache_key = stored
    and e.data is not null and not e.is_failure and (e.stale_until is null or e.stale_until > at)
    and not exists (
      select
      from cache_marks(
        e.namespace, cache_remove_key.key, e.tags, e.former_tags, e.loaded_in, e.written_in, e.version
      ) m
      where not m.keeps_stale or e.is_failure
    )
  returning e.metadata is not null into was_there;
  if not found then
    insert into cache_entries as e (
      namespace, cache_key, long_key, created_at, expires_at, stale_until, version, loaded_in
    )
    values (
      cache_remove_key.namespace, stored, nullif(cache_remove_key.key, stored), at, at, at,
      nextval('cache_versions'), pg_current_snapshot()
    )
    on conflict (namespace, cache_key) do update set
      data = null, is_failure = false, data_size = 0, schema_version = 0,
      created_at = excluded.created_at, expires_at = excluded.expires_at, stale_until = excluded.stale_until,
      retry_at = null, load_time = 0, last_accessed = excluded.created_at, access_count = 0,
      validators = null, tags = '{}', long_tags = null, former_tags = '{}', metadata = case when
        e.data is not null
        and (e.stale_until is null or e.stale_until > excluded.created_at)
        and (not cache_remove_key.keeps_stale or (e.is_failure and (e.expires_at is null or e.expires_at > at)))
        and not exists (
          select
          from cache_marks(
            e.namespace, cache_remove_key.key, e.tags, e.former_tags, e.loaded_in, e.written_in, e.version
          ) m
          where not m.keeps_stale or e.is_failure
        )
      then '{"live": true}'::jsonb end,
      version = nextval('cache_versions'), loaded_in = excluded.loaded_in, written_in = excluded.written_in,
      lease_owner = null, lease_until = null
    returning e.metadata is not null into was_there;
  end if;
  insert into cache_log (kind, namespace, keys, keeps_stale)
  values ('keys', cache_remove_key.namespace, array[cache_remove_key.key], cache_remove_key.keeps_stale);
  perform pg_notify('effect_tiered_cache', '1');
  return was_there;
end
$body$;

-- Which entries a mark covers, in terms of $1 namespace, $2 tags, $3 and $4 the beginning
-- of the keys and the end of those that begin so, $5 what they are like, $6 the regex.
create or replace function cache_covered(kind text) returns text
language sql immutable strict parallel safe as $body$
  select case kind
    when 'tag' then 'e.namespace = $1 and e.tags <> ''{}'' and e.tags && $2'
    when 'pattern' then
      'e.namespace = $1 and e.cache_key >= $3 and ($4 is null or e.cache_key < $4)'
      ' and coalesce(e.long_key, e.cache_key) like $5 and ($6 is null or coalesce(e.long_key, e.cache_key) ~ $6)'
    when 'namespace' then 'e.namespace = $1'
    else 'true'
  end
$body$;

-- What is done to the entries that a mark covers. A tag is of the entry, not of the key:
-- once the entry is gone, only a tombstone refuses a load that brings another one
-- without it. So those of a tag are deleted only when no load can be older.
create or replace function cache_applied(kind text, keeps_stale boolean, is_last boolean) returns text
language sql immutable strict parallel safe as $body$
  select case
    when keeps_stale then
      'update cache_entries e set expires_at = least(e.expires_at, clock_timestamp()), retry_at = null,'
      ' stale_until = case when e.is_failure then least(e.expires_at, clock_timestamp()) else e.stale_until end,'
      ' lease_owner = null, lease_until = null, version = nextval(''cache_versions'') from'
    when kind = 'tag' and not is_last then
      'update cache_entries e set data = null, is_failure = false, data_size = 0, schema_version = 0,'
      ' created_at = clock_timestamp(), expires_at = clock_timestamp(), stale_until = clock_timestamp(),'
      ' retry_at = null, load_time = 0, access_count = 0, validators = null, tags = ''{}'', long_tags = null, former_tags = ''{}'','
      ' metadata = null, lease_owner = null, lease_until = null, version = nextval(''cache_versions''),'
      ' loaded_in = pg_current_snapshot(), written_in = pg_current_xact_id() from'
    else
      'delete from cache_entries e using'
  end
$body$;

-- Whether the load of an entry began before the mark with transaction $8 and number $9
-- was committed, and nothing has been done about it yet.
create or replace function cache_overtaken(keeps_stale boolean) returns text
language sql immutable strict parallel safe as $body$
  select 'case when $8 = e.written_in then $9 > e.version else not pg_visible_in_snapshot($8, e.loaded_in) end'
    || case when keeps_stale then ' and (e.expires_at is null or e.expires_at > clock_timestamp())' else '' end
$body$;

-- Removes many entries at once, or makes them stale, by a mark; for the functions
-- below and for the library. Says how many were there: counted up to 10 000, else
-- estimated from a sample of the table. Rows are deleted by the sweeper, but for the
-- first batch_size, which a caller that commits at once may have deleted here.
create or replace function cache_mark(
  kind text, namespace text, tags text[], pattern text, keeps_stale boolean, origin text, batch_size integer
) returns bigint language plpgsql set search_path from current as $body$
#variable_conflict use_column
declare
  covered constant text := cache_covered(cache_mark.kind);
  stored_tags constant text[] := array(select cache_stored_key(tag) from unnest(cache_mark.tags) tag);
  live text := 'e.data is not null and (e.stale_until is null or e.stale_until > clock_timestamp())';
  prefix constant text := cache_glob_prefix(cache_mark.pattern);
  prefix_end constant text := cache_glob_prefix_end(cache_mark.pattern);
  like_pattern constant text := cache_glob_like(cache_mark.pattern);
  regex constant text := cache_glob_regex(cache_mark.pattern);
  sampled float8;
  removed bigint;
  was_swept boolean;
begin
  if cache_mark.kind = 'all' or exists (
    select from cache_log l where l.is_open and (l.namespace = cache_mark.namespace or l.namespace is null)
  ) then
    live := live || ' and not exists ('
      '  select from cache_marks('
      '    e.namespace, coalesce(e.long_key, e.cache_key), e.tags, e.former_tags, e.loaded_in, e.written_in, e.version'
      '  ) m where not m.keeps_stale or e.is_failure'
      ')';
  end if;
  execute format('select count(*) from (select from cache_entries e where %s and %s limit 10001) c', covered, live)
  into removed
  using cache_mark.namespace, stored_tags, prefix, prefix_end, like_pattern, regex;
  if removed > 10000 then
    -- Some five hundred blocks of the table, whatever its size.
    sampled := least(100, 100 * 500 / greatest(1, pg_relation_size('cache_entries') / current_setting('block_size')::float8));
    execute format(
      'select greatest($8, (count(*) * 100 / $7)::bigint) from cache_entries e tablesample system ($7) where %s and %s',
      covered, live
    )
    into removed
    using cache_mark.namespace, stored_tags, prefix, prefix_end, like_pattern, regex, sampled, removed;
  end if;
  was_swept := removed < cache_mark.batch_size;
  if cache_mark.kind = 'tag' then
    insert into cache_log (origin, kind, namespace, tag, long_tag, keeps_stale, is_open, is_swept)
    select
      cache_mark.origin, 'tag', cache_mark.namespace, cache_stored_key(t.tag), nullif(t.tag, cache_stored_key(t.tag)),
      cache_mark.keeps_stale, true, was_swept
    from (select distinct unnest(cache_mark.tags) as tag) t;
  else
    insert into cache_log (origin, kind, namespace, pattern, like_pattern, regex, keeps_stale, is_open, is_swept)
    values (
      cache_mark.origin, cache_mark.kind, cache_mark.namespace, cache_mark.pattern, like_pattern, regex,
      cache_mark.keeps_stale, true, was_swept
    );
  end if;
  if cache_mark.batch_size > 0 and removed > 0 then
    execute format(
      '%s (select e.ctid from cache_entries e where e.data is not null and %s limit $7 for update skip locked) d'
      ' where e.ctid = d.ctid',
      cache_applied(cache_mark.kind, cache_mark.keeps_stale, false), covered
    )
    using cache_mark.namespace, stored_tags, prefix, prefix_end, like_pattern, regex, cache_mark.batch_size;
  end if;
  if cache_mark.origin = '' then
    perform pg_notify('effect_tiered_cache', '1');
  end if;
  return removed;
end
$body$;

-- Removes an entry, in every tier of every process, and refuses what loads that
-- began before bring. Says whether there was one.
--
-- The key is the text that cache_key (of a long key: long_key) shows: a key that is
-- a string as it is, any other as JSON without spaces, its fields sorted by name:
-- '7', '{"chromosome":7,"position":140453136}'.
create or replace function cache_invalidate(namespace text, key text) returns boolean
language sql strict set search_path from current as $body$
  select cache_remove_key(namespace, key, false)
$body$;

-- The same, but what was there stays as the stale reserve. Says whether it was fresh.
create or replace function cache_expire(namespace text, key text) returns boolean
language sql strict set search_path from current as $body$
  select cache_remove_key(namespace, key, true)
$body$;

-- Removes all entries of a namespace that have one of the tags.
create or replace function cache_invalidate_tags(namespace text, variadic tags text[]) returns bigint
language sql strict set search_path from current as $body$
  select cache_mark('tag', namespace, tags, null, false, '', 0)
$body$;

create or replace function cache_expire_tags(namespace text, variadic tags text[]) returns bigint
language sql strict set search_path from current as $body$
  select cache_mark('tag', namespace, tags, null, true, '', 0)
$body$;

-- Removes all entries of a namespace whose key matches; 0002_glob.sql says how.
create or replace function cache_invalidate_pattern(namespace text, pattern text) returns bigint
language sql strict set search_path from current as $body$
  select cache_mark('pattern', namespace, null, pattern, false, '', 0)
$body$;

create or replace function cache_expire_pattern(namespace text, pattern text) returns bigint
language sql strict set search_path from current as $body$
  select cache_mark('pattern', namespace, null, pattern, true, '', 0)
$body$;

-- Removes all entries of a namespace, in the same time whatever their number.
create or replace function cache_clear(namespace text) returns bigint
language sql strict set search_path from current as $body$
  select cache_mark('namespace', namespace, null, null, false, '', 0)
$body$;

-- The same for every namespace.
create or replace function cache_clear_all() returns bigint
language sql set search_path from current as $body$
  select cache_mark('all', null, null, null, false, '', 0)
$body$;

-- For the sweeper: deletes what marks cover, and closes the marks that nobody needs
-- any more; looks at about row_limit rows, or a thousand marks, in one call. Each mark has its
-- turn twice: soon, for the room, and once more when no load that is older than it
-- can be stored any more. Rows that others hold are left; if they are in the second turn,
-- the mark stays open and has another one later. Says how many rows were deleted, and whether marks are left to work on.
create or replace function cache_sweep_marks(
  fence_lifetime float8, row_limit integer, out removed bigint, out is_done boolean
) language plpgsql set search_path from current as $body$
#variable_conflict use_column
declare
  settled pg_snapshot;
  mark cache_log;
  prefix text;
  found_rows bigint;
  examined bigint;
  reached text[];
  covered_rows bigint;
  marks integer := 0;
  work bigint := 0;
begin
  removed := 0;
  is_done := false;
  -- A minute more than a load may take: the last statement of one may still be under way.
  update cache_log_horizon h set
    settled = case
      when pg_snapshot_xmax(h.settling) > pg_snapshot_xmax(pg_current_snapshot()) then h.settled else h.settling
    end,
    settling = pg_current_snapshot(),
    settling_at = clock_timestamp()
  where h.settling_at not between
    clock_timestamp() - (cache_sweep_marks.fence_lifetime + 60000) * interval '1 ms' and clock_timestamp();
  select h.settled into settled from cache_log_horizon h;
  while work < cache_sweep_marks.row_limit and marks < 1000 loop
    select l.* into mark
    from cache_log l
    where l.is_open
      and (not l.is_swept or (
        pg_visible_in_snapshot(l.xid, settled) and l.xid < pg_snapshot_xmin(pg_current_snapshot())
      ))
    order by l.is_swept, l.xid, l.id
    limit 1
    for update skip locked;
    if not found then
      is_done := true;
      exit;
    end if;
    marks := marks + 1;
    if mark.swept_to is null then
      mark.is_last := pg_visible_in_snapshot(mark.xid, settled) and mark.xid < pg_snapshot_xmin(pg_current_snapshot());
    end if;
    prefix := cache_glob_prefix(mark.pattern);
    if mark.kind = 'tag' then
      execute format(
        '%s (select e.ctid from cache_entries e where e.data is not null and e.namespace = $1'
        ' and (e.tags <> ''{}'' and e.tags && $2'
        '   or e.former_tags <> ''{}'' and e.former_tags && $2 and $8 < e.written_in)'
        ' and %s limit $7 for update skip locked) d where e.ctid = d.ctid',
        cache_applied(mark.kind, mark.keeps_stale, mark.is_last), cache_overtaken(mark.keeps_stale)
      )
      using mark.namespace, array[mark.tag], null::text, null::text, null::text, null::text,
        cache_sweep_marks.row_limit, mark.xid, mark.id;
      get diagnostics found_rows = row_count;
      examined := found_rows;
      covered_rows := found_rows;
      if mark.is_last and found_rows < cache_sweep_marks.row_limit then
        execute format(
          'select $10 + count(*) from cache_entries e where e.data is not null and e.namespace = $1'
          ' and (e.tags <> ''{}'' and e.tags && $2'
          '   or e.former_tags <> ''{}'' and e.former_tags && $2 and $8 < e.written_in) and %s',
          cache_overtaken(mark.keeps_stale)
        )
        into covered_rows
        using mark.namespace, array[mark.tag], null::text, null::text, null::text, null::text, null::integer,
          mark.xid, mark.id, found_rows;
      end if;
      reached := array[mark.namespace, ''];
    else
      execute format(
        'with page as ('
        '  select e.namespace, e.cache_key from cache_entries e'
        '  where %1$s order by e.namespace, e.cache_key limit $7'
        '), covered as ('
        '  select e.namespace, e.cache_key from cache_entries e'
        '  join page p on p.namespace = e.namespace and p.cache_key = e.cache_key'
        '  where e.data is not null and %2$s'
        '), swept as ('
        '  %3$s ('
        '    select e.ctid from cache_entries e join page p on p.namespace = e.namespace and p.cache_key = e.cache_key'
        '    where e.data is not null and %2$s for update of e skip locked'
        '  ) d where e.ctid = d.ctid returning 1'
        ') select (select count(*) from page), (select count(*) from swept), (select count(*) from covered),'
        '  (select array[p.namespace, p.cache_key] from page p order by p.namespace desc, p.cache_key desc limit 1)',
        -- Of one namespace a scan by (namespace, cache_key) > ($10, $11) would begin at its first key every time.
        case when mark.namespace is null then '(e.namespace, e.cache_key) > ($10, $11)'
          else 'e.namespace = $1 and e.cache_key >= $11 and (' || cache_covered(mark.kind) || ')' end,
        cache_overtaken(mark.keeps_stale), cache_applied(mark.kind, mark.keeps_stale, mark.is_last)
      )
      into examined, found_rows, covered_rows, reached
      using mark.namespace, null::text[], prefix, cache_glob_prefix_end(mark.pattern), mark.like_pattern, mark.regex,
        cache_sweep_marks.row_limit, mark.xid, mark.id,
        -- U+0001 is the least that a text can hold: nothing comes between a key and that key with it.
        coalesce(mark.swept_to[1], ''),
        coalesce(mark.swept_to[2] || case when mark.namespace is null then '' else chr(1) end, '');
    end if;
    removed := removed + found_rows;
    work := work + examined;
    if mark.is_last and found_rows < covered_rows then
      update cache_log l set swept_to = null where l.xid = mark.xid and l.id = mark.id;
      is_done := true;
      exit;
    end if;
    update cache_log l set
      is_swept = l.is_swept or examined < cache_sweep_marks.row_limit,
      is_open = not (mark.is_last and examined < cache_sweep_marks.row_limit),
      is_last = mark.is_last,
      swept_to = case when examined < cache_sweep_marks.row_limit then null else reached end
    where l.xid = mark.xid and l.id = mark.id;
  end loop;
end
$body$;
