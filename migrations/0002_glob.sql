-- effect-tiered-cache, migration 0002: patterns over keys.
--
-- The library runs this file by itself when it starts, after 0001. You may also run
-- it by hand, as often as you like. It makes functions only, which read no table.
--
-- A pattern matches whole keys, in the text that cache_key (of a long key: long_key)
-- shows, and tells upper from lower case:
--
--   *        any run of characters, also none; line breaks and / are like all others
--   ?        one character
--   [abc]    one of these; [a-z] one from a to z by code point; several: [a-z0-9_]
--   [!a-z]   one character that is none of these; also [^a-z]
--   \x       the character x itself, in a class too: \* \? \[ \\ [\]\-]
--
-- Anything else stands for itself. In a class so do * ? [ and a - that comes first or
-- last. Refused: a \ at the end, a class that is empty or not closed, a range that runs
-- backwards, more than 1024 bytes.
--
--   select e.cache_key
--   from cache_entries e, cache_glob_parts('user_[0-9]*') g
--   where e.namespace = 'users'
--     and coalesce(e.long_key, e.cache_key) like g.like_pattern
--     and (g.regex is null or coalesce(e.long_key, e.cache_key) ~ g.regex);
--
-- U+001A and four hex digits stand for one character that a text cannot hold (0000, 001a,
-- d800 to dfff), in keys and in patterns alike: ? matches all five, and so may a class.
-- The library writes no other U+001A; a pattern with one is refused.

-- The characters from low to high as a regular expression has to name them: for a bracket
-- expression those that a text can hold, for an alternation the hex digits of the others.
create or replace function cache_glob_range(low integer, high integer, out held text, out codes text)
language sql immutable strict parallel safe as $body$
  select
    (
      select string_agg(
        format('\U%s-\U%s', lpad(to_hex(greatest(low, a)), 8, '0'), lpad(to_hex(least(high, b)), 8, '0')), ''
      )
      from (values (1, 25), (27, 55295), (57344, 1114111)) as part (a, b)
      where low <= b and high >= a
    ),
    (
      select string_agg(code, '|')
      from (
        select '0000' where low = 0
        union all
        select '001a' where 26 between low and high
        union all
        select 'd[89a-f][0-9a-f]{2}' where low <= 55296 and high >= 57343
        union all
        select to_hex(sixteen) || '['
          || substr('0123456789abcdef', a + 1, least(high - sixteen * 16, 15) - a + 1) || ']'
        from generate_series(greatest(low, 55296) / 16, least(high, 57343) / 16) as sixteen,
          greatest(low - sixteen * 16, 0) as a
        where low > 55296 or high < 57343
      ) as other (code)
    )
$body$;

-- What a pattern is to a query, whose keys have collation "C". A key matches if it is like
-- like_pattern and, unless regex is null, matches that too. It is then not below prefix, the
-- first up to 256 bytes that all matches share, and below prefix_end (null: no limit).
create or replace function cache_glob_parts(
  pattern text, out like_pattern text, out regex text, out prefix text, out prefix_end text
)
language plpgsql immutable strict parallel safe as $body$
declare
  -- What follows U+001A where that stands for another character; any one character.
  code constant text := '(?:0000|001a|d[89a-f][0-9a-f]{2})';
  one constant text := format('(?:[^\u001A]|\u001A%s)', code);

  units constant text[] := array(
    select m.groups[1] from regexp_matches(pattern, format('(\u001A%s|.)', code), 'g') with ordinality as m (groups, n)
    order by m.n
  );
  size constant integer := cardinality(units);
  at integer := 1;
  problem text;

  unit text;
  was_star boolean := false;    -- the step before this one is *
  has_gap boolean := false;     -- like_pattern lacks a %
  is_literal boolean := true;   -- no step before this one is other than a character
  needs_regex boolean := false;

  first integer;                -- where the class begins
  member integer;               -- where the member of the class begins
  middle integer;               -- where the first character of a range ends
  is_negated boolean;
  low integer;
  high integer;
  part record;
  held text;
  codes text;
begin
  like_pattern := '';
  regex := '';
  prefix := '';
  if octet_length(pattern) > 1024 then
    problem := format(
      'it has %s bytes, and a pattern may have 1024; match a shorter beginning, and end it with "*"',
      octet_length(pattern)
    );
  elsif chr(26) = any (units) then
    problem := format(
      'U+001A at character %s does not stand for another character; write it with "001a" after it',
      array_position(units, chr(26))
    );
  end if;

  <<steps>>
  while at <= size and problem is null loop
    unit := units[at];
    if unit = '*' then
      if not was_star then
        regex := regex || one || '*';
      end if;
      was_star := true;
      has_gap := true;
      is_literal := false;
      at := at + 1;
      continue;
    end if;

    if unit = '?' then
      regex := regex || one;
    elsif unit = '[' then
      first := at;
      at := at + 1;
      is_negated := at <= size and units[at] in ('!', '^');
      if is_negated then
        at := at + 1;
      end if;
      held := '';
      codes := '';
      member := at;
      while at <= size and units[at] <> ']' loop
        member := at;
        at := at + case units[at] when '\' then 2 else 1 end;
        exit when at > size;
        middle := at - 1;
        if units[at] = '-' and at < size and units[at + 1] <> ']' then
          at := at + case units[at + 1] when '\' then 3 else 2 end;
          exit when at > size;
        end if;
        low := case length(units[middle])
          when 1 then ascii(units[middle]) else ('x' || substr(units[middle], 2))::bit(16)::integer
        end;
        high := case length(units[at - 1])
          when 1 then ascii(units[at - 1]) else ('x' || substr(units[at - 1], 2))::bit(16)::integer
        end;
        if low > high then
          problem := format(
            'the range "%s" at character %s runs backwards; write "%s-%s"',
            array_to_string(units[member:at - 1], ''), member,
            array_to_string(units[middle + 2:at - 1], ''), array_to_string(units[member:middle], '')
          );
          exit steps;
        end if;
        part := cache_glob_range(low, high);
        held := held || coalesce(part.held, '');
        codes := codes || coalesce('|' || part.codes, '');
      end loop;
      if at > size then
        problem := format(
          'the class at character %s is not closed; end it with "]", or write "\[" for the character "["', first
        );
        exit steps;
      elsif held = '' and codes = '' then
        problem := format(
          'the class at character %s is empty; name a character before its "]", or write "\[" for the character "["',
          first
        );
        exit steps;
      end if;
      codes := substr(codes, 2);
      if is_negated then
        regex := regex || format(
          '(?:[^\u001A%s]|\u001A%s%s)', held, case codes when '' then '' else '(?!' || codes || ')' end, code
        );
      else
        regex := regex || '(?:' || concat_ws(
          '|', '[' || nullif(held, '') || ']', '\u001A(?:' || nullif(codes, '') || ')'
        ) || ')';
      end if;
    else
      if unit = '\' then
        at := at + 1;
        if at > size then
          problem := format(
            'the "\" at character %s, the last one, has no character to stand before; write "\\" for the character "\"',
            at - 1
          );
          exit steps;
        end if;
        unit := units[at];
      end if;
      like_pattern := like_pattern || case when has_gap then '%' else '' end
        || case when unit in ('%', '_', '\') then '\' else '' end || unit;
      regex := regex || case length(unit)
        when 1 then '\U' || lpad(to_hex(ascii(unit)), 8, '0') else '\u001A' || substr(unit, 2)
      end;
      -- After a % it could be a digit that belongs to U+001A.
      needs_regex := needs_regex or was_star and position(unit in '0123456789abcdef') > 0;
      if is_literal then
        prefix := prefix || unit;
      end if;
      was_star := false;
      has_gap := false;
      at := at + 1;
      continue;
    end if;

    -- A ? or a class: one character, which may be five of the text.
    like_pattern := like_pattern || '_';
    needs_regex := true;
    was_star := false;
    has_gap := true;
    is_literal := false;
    at := at + 1;
  end loop;

  if problem is not null then
    raise exception using errcode = 'invalid_parameter_value', message = format(
      'pattern "%s": %s', left(pattern, 100) || case when length(pattern) > 100 then '...' else '' end, problem
    );
  end if;
  if has_gap then
    like_pattern := like_pattern || '%';
  end if;
  regex := case when needs_regex then '^' || regex || '$' end;
  prefix := left(prefix, 256);
  while octet_length(prefix) > 256 loop
    prefix := left(prefix, -1);
  end loop;

  -- The prefix with its last character raised by one, if there is one above it.
  prefix_end := rtrim(prefix, chr(1114111));
  prefix_end := left(prefix_end, -1) || chr(
    case ascii(right(prefix_end, 1)) when 55295 then 57344 else ascii(nullif(right(prefix_end, 1), '')) + 1 end
  );
end
$body$;

-- One each of them.
create or replace function cache_glob_like(pattern text) returns text
language sql immutable strict parallel safe as $body$ select like_pattern from cache_glob_parts(pattern) $body$;

create or replace function cache_glob_regex(pattern text) returns text
language sql immutable strict parallel safe as $body$ select regex from cache_glob_parts(pattern) $body$;

create or replace function cache_glob_prefix(pattern text) returns text
language sql immutable strict parallel safe as $body$ select prefix from cache_glob_parts(pattern) $body$;

create or replace function cache_glob_prefix_end(pattern text) returns text
language sql immutable strict parallel safe as $body$ select prefix_end from cache_glob_parts(pattern) $body$;
