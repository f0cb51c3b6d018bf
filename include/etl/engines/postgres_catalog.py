"""What PostgreSQL's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from include.etl.engines.base import Statistics, Value

# A partitioned table has no rows of its own; reltuples is -1 before the first ANALYZE.
ROWS = """select sum(greatest(reltuples, 0))::bigint from pg_class where relkind in ('r', 'm', 'f') and
(oid = to_regclass(%(path)s) or oid in (select relid from pg_partition_tree(to_regclass(%(path)s))))"""
LEADING = """select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null"""
BOUNDS = """select t.typname, s.histogram_bounds::text::text[] from pg_attribute a join pg_type t on t.oid = a.atttypid
join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
left join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
where a.attrelid = to_regclass(%s) and a.attname = %s order by s.inherited desc limit 1"""
WHOLE = ("int2", "int4", "int8")
CONVERT: dict[str, Any] = {
    **dict.fromkeys(WHOLE, int),
    "numeric": Decimal,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    **dict.fromkeys(("text", "varchar", "uuid"), str),
}


def statistics(cursor: Any, table: str, column: str) -> Statistics:
    """Estimated rows, bounds of the column's histogram (or its ends, from the index), and indexed columns."""
    path = ".".join(_quoted(part) for part in table.split("."))
    cursor.execute(ROWS, {"path": path})
    ((rows,),) = cursor.fetchall()
    cursor.execute(LEADING, (path,))
    leading = frozenset(name for (name,) in cursor.fetchall())
    cursor.execute(BOUNDS, (path, column))
    kind, texts = (cursor.fetchall() or [("", None)])[0]
    bounds = _converted(kind, texts or [])
    if not bounds and kind in WHOLE and column in leading:
        cursor.execute(f"select min({_quoted(column)}), max({_quoted(column)}) from {path}")
        bounds = [end for end in cursor.fetchall()[0] if end is not None]
    return Statistics(rows, bounds, leading)


def _converted(kind: str, texts: list[str]) -> list[Value]:
    """The histogram as values; none of it where one has no form in Python (infinity, a year before Christ)."""
    try:
        return [CONVERT[kind](text) for text in texts] if kind in CONVERT else []
    except ValueError:
        return []


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
