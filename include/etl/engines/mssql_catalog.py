"""What SQL Server's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from include.etl.engines.base import Numbering, Statistics, Step, Value
from include.etl.engines.mssql_sql import quoted, text
from include.etl.engines.mssql_types import COLLATED, Column
from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality

# sys.partitions shows the rows to whoever may read the table; sys.dm_db_partition_stats wants VIEW DATABASE STATE too.
ROWS = """select sum(p.rows) from sys.partitions p join sys.tables t on t.object_id = p.object_id
where p.object_id = object_id({table}) and p.index_id in (0, 1)"""
LEADING = """select c.name from sys.indexes i
join sys.index_columns k on k.object_id = i.object_id and k.index_id = i.index_id and k.key_ordinal = 1
join sys.columns c on c.object_id = k.object_id and c.column_id = k.column_id
where i.object_id = object_id({table}) and i.type in (1, 2)
and i.has_filter = 0 and i.is_disabled = 0 and i.is_hypothetical = 0"""
KIND = """select type_name(system_type_id), scale from sys.columns
where object_id = object_id({table}) and name = {column}"""
NUMBERING = """select c.is_identity, cast(i.increment_value as bigint), cast(i.last_value as bigint),
c.default_object_id, d.definition from sys.columns c join sys.tables t on t.object_id = c.object_id
left join sys.identity_columns i on i.object_id = c.object_id and i.column_id = c.column_id
left join sys.default_constraints d on d.object_id = c.default_object_id
where c.object_id = object_id({table}) and c.name = {column}"""
SEQUENCE = """select cast(increment as bigint), is_cycling, cast(current_value as bigint) from sys.sequences
where object_id = object_id({name})"""
NEXT_VALUE = re.compile(r"\(*\s*NEXT\s+VALUE\s+FOR\s+([^()]+?)\s*\)*", re.IGNORECASE)
HIDDEN = "this login may not see its settings (GRANT VIEW DEFINITION)"
WALL_CLOCK = """select convert(varchar(40), cast(switchoffset(n, 0) as datetime2(0)), 126),
convert(varchar(40), cast(n as datetime2(0)), 126) from (select sysdatetimeoffset() as n) clock"""
# Of several statistics that the column leads, the oldest is that of its first index. Since SQL Server 2016 SP1 CU2.
STEPS = """select {key}, h.range_rows, h.equal_rows from (
select min(s.stats_id) as stats_id from sys.stats s
join sys.stats_columns k on k.object_id = s.object_id and k.stats_id = s.stats_id and k.stats_column_id = 1
join sys.columns c on c.object_id = k.object_id and c.column_id = k.column_id
where s.object_id = object_id({table}) and c.name = {column} and s.has_filter = 0
) f cross apply sys.dm_db_stats_histogram(object_id({table}), f.stats_id) h order by h.step_number"""

KNOWN = re.compile(r"(SQL_)?(Latin1|Cyrillic)_General(_CP\w+|_\d+)?_C[IS](_A[IS])?(_KS)?(_WS)?(_VSS)?(_SC)?(_UTF8)?")
"""Collations that take nothing but case for equal in texts of ASCII; those of other languages have letters of two."""
ONE_SPELLING = {"uniqueidentifier", "hierarchyid"}


class _Kind(NamedTuple):
    """How values of a type become text that keeps them, and what Python makes of it."""

    form: str
    convert: Callable[[str], Value]


def _moment(found: str) -> datetime:
    return datetime.fromisoformat(found)


WHOLE = _Kind("convert(nvarchar(40), cast({0} as bigint))", int)
EXACT = _Kind("convert(nvarchar(60), cast({0} as decimal(38, {1})))", Decimal)
LOCAL = _Kind("convert(nvarchar(40), cast({0} as datetime2(6)), 126)", _moment)
# Text of varchar columns is left out: compared with Unicode text, their index does not serve.
TEXT = _Kind("cast({0} as nvarchar(4000))", str)
KINDS = {
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint"), WHOLE),
    **dict.fromkeys(("decimal", "numeric", "money", "smallmoney"), EXACT),
    "date": _Kind("convert(nvarchar(10), cast({0} as date), 23)", date.fromisoformat),
    **dict.fromkeys(("datetime", "smalldatetime", "datetime2"), LOCAL),
    "datetimeoffset": _Kind(
        "convert(nvarchar(40), cast(switchoffset(cast({0} as datetimeoffset(6)), 0) as datetime2(6)), 126)",
        lambda found: _moment(found).replace(tzinfo=UTC),
    ),
    **dict.fromkeys(("nvarchar", "nchar"), TEXT),
    "uniqueidentifier": _Kind("convert(nvarchar(36), cast({0} as uniqueidentifier))", str),
}

Ask = Callable[[str], list[tuple[Any, ...]]]


def statistics(ask: Ask, table: str, column: str) -> Statistics:
    """Estimated rows, the column's histogram (or its ends, where it leads an index), and indexed columns.

    What this account may not see is left out; of a view there is nothing.
    """
    path = ".".join(quoted(part) for part in table.split("."))
    place = {"table": text(path), "column": text(column)}
    ((found_rows,),) = ask(ROWS.format(**place))
    if found_rows is None:
        return Statistics()
    rows = int(found_rows)  # a sum of another maker's server is a decimal
    leading = frozenset(name for (name,) in ask(LEADING.format(**place)))
    name, scale = next(iter(ask(KIND.format(**place))), ("", 0))
    kind = KINDS.get(name)
    if not rows or kind is None:
        return Statistics(rows, leading=leading)
    found = _histogram(ask, STEPS.format(key=kind.form.format("h.range_high_key", scale), **place))
    if not found and column in leading and kind.convert is not str:
        # Asked for both ends by one SELECT, the server would read the whole index.
        ends = (f"(select {end}({quoted(column)}) from {path})" for end in ("min", "max"))
        ((low, high),) = ask("select " + ", ".join(kind.form.format(end, scale) for end in ends))
        found = [(low, 0.0, 0.0), (high, 1.0, 0.0)]
    missing = sum(at for value, _, at in found if value is None)
    steps = [Step(kind.convert(value), float(between), float(at)) for value, between, at in found if value is not None]
    return Statistics(rows, steps, float(missing), leading)


def numbering(ask: Ask, table: str, column: str) -> Numbering | None:
    """The identity or the sequence of a column. Its cache is the server's, so numbers come in order all the same."""
    path = ".".join(quoted(part) for part in table.split("."))
    found = ask(NUMBERING.format(table=text(path), column=text(column)))
    if not found:
        return None
    ((identity, step, last, default, definition),) = found
    if identity:
        return Numbering("IDENTITY", int(step or 1), None if last is None else int(last))
    sequence = NEXT_VALUE.fullmatch(definition or "")
    if sequence:
        rows = ask(SEQUENCE.format(name=text(sequence[1])))
        name = f"sequence {sequence[1]}"
        return (
            Numbering(name, int(rows[0][0]), int(rows[0][2]), bool(rows[0][1]))
            if rows
            else Numbering(name, others=HIDDEN)
        )
    return Numbering("a default", others=HIDDEN) if default and definition is None else Numbering()


def wall_clock(ask: Ask) -> dict[datetime, datetime]:
    """What the server's clock shows now, and in UTC."""
    ((moment, shown),) = ask(WALL_CLOCK)
    return {_moment(moment).replace(tzinfo=UTC): _moment(shown)}


def key_equality(column: Column) -> KeyEquality | None:
    """Which texts of a result's column are equal; None where those are that are the same.

    Blanks at the end count for nothing whatever the collation is.
    """
    name, collation = column.name, column.collation
    if column.kind in ONE_SPELLING:
        return None
    if column.kind not in COLLATED:
        why = f"equal values of type {column.kind} can be written in several ways"
        return KeyEquality(unknown=f"{why}; select another type of it in a query, such as datetime2 or nvarchar")
    if not collation:
        return KeyEquality(untold="the server does not tell its collation")
    if re.search(r"_BIN2?(_UTF8)?$", collation):
        return KeyEquality(collation=collation, blanks=True)
    if KNOWN.fullmatch(collation):
        return KeyEquality(collation=collation, case="_CI" in collation, blanks=True, ascii_only=True)
    way_out = f"select a canonical form in a query, such as lower({name}) collate Latin1_General_BIN2 as {name}"
    return KeyEquality(collation=collation, unknown=f"which texts its collation {collation} has for equal; {way_out}")


def _histogram(ask: Ask, sql: str) -> list[tuple[Any, ...]]:
    try:
        return ask(sql)
    except ConfigurationError:  # no such function before SQL Server 2016 SP1 CU2, or not for this account
        return []
