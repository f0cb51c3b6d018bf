"""What PostgreSQL's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from include.etl.engines.base import Numbering, Statistics, Step, Value
from include.etl.handover import KeyEquality

# pg_partition_tree() would lock every partition until the transaction ends.
TREE = """tree (oid) as (
    select to_regclass(%(path)s)::oid union all select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.oid
    join pg_class c on c.oid = i.inhrelid and c.relispartition
)"""
# A partitioned table has no rows of its own; reltuples is -1 before the first ANALYZE.
ROWS = f"""with recursive {TREE} select sum(greatest(reltuples, 0))::bigint from pg_class
where relkind in ('r', 'm', 'f') and oid in (select oid from tree)"""
LEADING = """select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null"""
KIND = """select t.typname, quote_ident(n.nspname) || '.' || quote_ident(c.collname) from pg_attribute a
join pg_type t on t.oid = a.atttypid left join pg_collation c on c.oid = a.attcollation
left join pg_namespace n on n.oid = c.collnamespace where a.attrelid = to_regclass(%s) and a.attname = %s"""
# Autovacuum analyses the partitions and never the whole: then theirs are put together. The histogram leaves out the
# most common values, which have frequencies of their own. Values are sorted as the column compares them now, since
# the operating system's collation may have changed after ANALYZE.
STEPS = f"""with recursive {TREE}, found as (
    select s.*, case when s.inherited then 1 else greatest(c.reltuples, 1) end as weight,
        coalesce((select sum(f) from unnest(s.most_common_freqs) f), 0) as common
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = %(column)s
    where c.oid = to_regclass(%(path)s) or (c.relkind <> 'p' and c.oid in (select oid from tree))
), chosen as (
    select * from found where inherited or not exists (select from found where inherited)
), steps as (
    select b.value, case when b.n = 1 then 0 else weight * (1 - null_frac - common) /
        (cardinality(histogram_bounds::text::text[]) - 1) end as between_, 0 as at_
    from chosen, unnest(histogram_bounds::text::text[]) with ordinality b(value, n)
    union all
    select m.value, 0, weight * m.frequency
    from chosen, unnest(most_common_vals::text::text[], most_common_freqs) m(value, frequency)
    union all
    select null, 0, weight * null_frac from chosen
)
select value, sum(between_)::float8, sum(at_)::float8 from steps group by value
order by value::{{kind}} {{collate}} nulls first"""
# A sequence serves a column by its default, or belongs to it as an identity; of a view there is nothing.
NUMBERING = """select s.name, s.seqincrement, s.seqcycle, s.seqcache, s.last, s.shown from pg_class t
join pg_attribute a on a.attrelid = t.oid and a.attname = %(column)s and a.attnum > 0
left join lateral (
    select q.*, q.seqrelid::regclass::text as name,
        case when has_sequence_privilege(q.seqrelid, 'select, usage')
        then pg_sequence_last_value(q.seqrelid) end as last, has_sequence_privilege(q.seqrelid, 'select') as shown
    from pg_sequence q where q.seqrelid in (
        select d.refobjid from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
        and d.refclassid = 'pg_class'::regclass where f.adrelid = t.oid and f.adnum = a.attnum
        union select d.objid from pg_depend d where d.classid = 'pg_class'::regclass
        and d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.refobjsubid = a.attnum and d.deptype = 'i'
    ) limit 1
) s on true
where t.oid = to_regclass(%(path)s) and t.relkind in ('r', 'p')"""
# What a session gets that sets no zone of its own: the server's, the database's, or the account's.
WALL_CLOCK = """select m, (m at time zone 'UTC') at time zone
(select reset_val from pg_settings where name = 'TimeZone') from unnest(%s::timestamp[]) m"""
CONVERT: dict[str, Any] = {
    **dict.fromkeys(("int2", "int4", "int8"), int),
    "numeric": Decimal,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    **dict.fromkeys(("text", "varchar", "bpchar", "uuid"), str),
}

RESULT = "(select 1) s left join (select * from (\n{sql}\n) z limit 0) q on false"
TYPE = f"""with recursive base as (
    select t.* from pg_type t where t.oid = (select pg_typeof(q.{{column}})::oid from {RESULT})
    union all select t.* from base join pg_type t on t.oid = base.typbasetype
) select typname, typtype::text, typcategory = 'S' and typcollation <> 0 from base where typbasetype = 0"""
# Before PostgreSQL 12 every collation is deterministic.
COLLATION = f"""select c.collname, coalesce((to_jsonb(c) ->> 'collisdeterministic')::boolean, true)
from (select pg_collation_for(q.{{column}})::text collate "C" as name from {RESULT}) f
join pg_collation c on true join pg_namespace n on n.oid = c.collnamespace
where f.name in (quote_ident(c.collname), quote_ident(n.nspname) || '.' || quote_ident(c.collname))
and c.collencoding in (-1, (select encoding from pg_database where datname = current_database()))"""
PLAIN_LOWER = "select lower('I') = 'i'"
ONE_SPELLING = {"bit", "varbit", "char", "cidr", "inet", "macaddr", "macaddr8", "money", "pg_lsn", "tid", "timetz"}
ONE_SPELLING |= {"uuid", "xid", "xid8"}
"""Types that Arrow has as text, and whose equal values the server prints alike."""
CANONICAL = 'select a canonical form in a query, such as lower({column}) collate "C" as {column}'


def statistics(cursor: Any, table: str, column: str) -> Statistics:
    """Estimated rows, the column's histogram (or its ends, from the index), and indexed columns; nothing of a view."""
    path = ".".join(_quoted(part) for part in table.split("."))
    cursor.execute(ROWS, {"path": path})
    ((rows,),) = cursor.fetchall()
    if rows is None:
        return Statistics()
    cursor.execute(LEADING, (path,))
    leading = frozenset(name for (name,) in cursor.fetchall())
    cursor.execute(KIND, (path, column))
    kind, collation = next(iter(cursor.fetchall()), ("", None))
    if kind not in CONVERT:
        return Statistics(rows, leading=leading)
    cursor.execute(
        STEPS.format(kind=kind, collate=f"collate {collation}" if collation else ""), {"path": path, "column": column}
    )
    found = cursor.fetchall()
    if not found and rows and column in leading and CONVERT[kind] is not str:
        cursor.execute(f"select min({_quoted(column)})::text, max({_quoted(column)})::text from {path}")
        low, high = cursor.fetchall()[0]
        found = [(low, 0.0, 0.0), (high, 1.0, 0.0)]
    missing = sum(at for value, _, at in found if value is None)
    return Statistics(rows, list(_steps(kind, found)), missing, leading)


def numbering(cursor: Any, table: str, column: str) -> Numbering | None:
    """The sequence of a column, as far as its settings tell; its last number only where the account may see it."""
    cursor.execute(NUMBERING, {"path": ".".join(_quoted(part) for part in table.split(".")), "column": column})
    found = cursor.fetchall()
    if not found:
        return None
    ((name, step, cycles, cache, last, shown),) = found
    if name is None:
        return Numbering()
    if last is None and shown:  # it was not called since it was made or set: its value is the one that comes next
        cursor.execute(f"select last_value - {step} from {name}")
        ((last,),) = cursor.fetchall()
    others = f"INCREMENT {step}: other servers may hand out the numbers between" if step > 1 else ""
    return Numbering(f"sequence {name}", step, last, cycles, cache, others)


def wall_clock(cursor: Any, moments: Sequence[datetime]) -> dict[datetime, datetime]:
    """What a session that sets no zone would print at these moments."""
    cursor.execute(WALL_CLOCK, ([moment.astimezone(UTC).replace(tzinfo=None) for moment in moments],))
    return {moment.replace(tzinfo=UTC): shown for moment, shown in cursor.fetchall()}


def key_equality(cursor: Any, sql: str, column: str) -> KeyEquality | None:
    """Which texts of this column of the query are equal; None where those are that are the same. No row is read."""
    place = {"sql": sql, "column": _quoted(column)}
    cursor.execute(TYPE.format(**place))
    ((name, kind, collated),) = cursor.fetchall()
    if not collated:
        known = kind == "e" or name in ONE_SPELLING or name.startswith("reg")
        return None if known else KeyEquality(unknown=_several_spellings(name, column))
    cursor.execute(COLLATION.format(**place))
    found = cursor.fetchall()
    collation = ", ".join(sorted({collation for collation, _ in found}))
    if not found or not all(deterministic for _, deterministic in found):
        why = f"its collation {collation!r} is not deterministic" if found else "it has no one collation"
        return KeyEquality(collation=collation, unknown=f"{why}; {CANONICAL.format(column=column)}")
    if name == "citext":
        return _citext(cursor, column)
    return KeyEquality(collation=collation, blanks=True) if name == "bpchar" else None


def _citext(cursor: Any, column: str) -> KeyEquality:
    """It compares what lower() makes of texts by the database's own collation: of ASCII one knows what that is."""
    cursor.execute(PLAIN_LOWER)
    if cursor.fetchall() == [(True,)]:
        return KeyEquality(collation="citext", case=True, ascii_only=True)
    return KeyEquality(collation="citext", unknown=f"its small letters are Turkish; {CANONICAL.format(column=column)}")


def _several_spellings(name: str, column: str) -> str:
    if name == "numeric":
        return (
            f"numeric without digits has 1.0 and 1.00 for equal; select {column}::numeric(p, s) as {column} in a query"
        )
    return f"equal values of type {name} can be written in several ways; select another type of it in a query"


def _steps(kind: str, found: list[tuple[str | None, float, float]]) -> Iterator[Step]:
    """The steps whose values have a form in Python: no infinity, no NaN, no year before Christ or after 9999."""
    for text, between, at in found:
        value = _value(kind, text)
        if value is not None:
            yield Step(value, between, at)


def _value(kind: str, text: str | None) -> Value:
    try:
        value: Value = None if text is None else CONVERT[kind](text)
    except ValueError:
        return None
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
