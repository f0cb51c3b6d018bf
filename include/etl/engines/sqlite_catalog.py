"""What SQLite tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from include.etl.engines.base import Numbering, Statistics, Step, Value
from include.etl.engines.sqlite_types import declared_type
from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality

PROBE = (
    "select count(*) from (select * from (select {column} from (\n{sql}\n) limit 0) "
    "union select '{one}' union select '{other}')"
)
"""How many of two texts are left where equal ones are one by the column's collation; UNION takes that of its first."""


def statistics(connection: sqlite3.Connection, table: str, column: str) -> Statistics:
    """Rows by the highest rowid, the ends of a column of numbers or times that leads an index, indexed columns."""
    name = _quoted(table)
    kinds = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if [kind for kind, _ in kinds] != ["table"]:
        return Statistics()
    columns = {found[1]: found for found in connection.execute(f"PRAGMA table_info({name})")}
    leading = _leading(connection, name, columns)
    rows = None
    if "WITHOUT ROWID" not in kinds[0][1].upper():
        (rows,) = connection.execute(f"SELECT max(rowid) FROM {name}").fetchone()
    convert = _conversion(columns[column][2]) if column in leading else None
    if not rows or convert is None:
        return Statistics(rows, leading=leading)
    ends = [_end(connection, name, column, function, convert) for function in ("min", "max")]
    steps = [] if None in ends else [Step(ends[0]), Step(ends[1], between=1.0)]
    return Statistics(rows, steps, leading=leading)


def numbering(connection: sqlite3.Connection, table: str, column: str) -> Numbering | None:
    """The rowid, which comes again unless it is AUTOINCREMENT; all other numbers are the writer's."""
    kinds = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if [kind for kind, _ in kinds] != ["table"]:
        return None
    keys = [found for found in connection.execute(f"PRAGMA table_info({_quoted(table)})") if found[5]]
    alias = [found[1] for found in keys if found[2].upper() == "INTEGER"] if len(keys) == 1 else []
    made = kinds[0][1].upper()
    if column not in alias or re.search(r"\bWITHOUT\s+ROWID\b", made):
        return Numbering()
    if re.search(r"\bAUTOINCREMENT\b", made):
        return Numbering("AUTOINCREMENT")
    again = "without AUTOINCREMENT a new row gets the number of the newest one that was deleted"
    return Numbering("rowid", others=again)


def key_equality(ask: Callable[[str], list[Any]], sql: str, column: str) -> KeyEquality | None:
    """Which texts of this column of the query are equal; None where those are that are the same. No row is read.

    SQLite tells no collation of a result; but it compares two texts by it. Its NOCASE knows the letters of ASCII only.
    """
    place = {"column": _quoted(column), "sql": sql, "one": "a"}
    try:
        case, blanks = (ask(PROBE.format(**place, other=other)) == [(1,)] for other in ("A", "a "))
    except ConfigurationError as error:
        if "collation" not in str(error):
            raise
        why = "its collation is one of the application; select a canonical form in a query, such as lower({0}) as {0}"
        return KeyEquality(unknown=why.format(column))
    collation = "NOCASE" if case else "RTRIM"
    return KeyEquality(collation=collation, case=case, blanks=blanks) if case or blanks else None


def _end(
    connection: sqlite3.Connection, name: str, column: str, function: str, convert: Callable[[Any], Value]
) -> Value:
    """One end of an index; asked for both in one query, SQLite would read the whole of it."""
    (found,) = connection.execute(f"SELECT {function}({_quoted(column)}) FROM {name}").fetchone()
    try:
        return convert(found)
    except (TypeError, ValueError, InvalidOperation):
        return None


def _conversion(declaration: str) -> Callable[[Any], Value] | None:
    """How an end becomes a value; None for types whose values have no middle."""
    kind = declared_type(declaration)
    if kind is None:
        return None
    if pa.types.is_integer(kind):
        return lambda end: end if type(end) is int else None
    if pa.types.is_date(kind):
        return date.fromisoformat
    if pa.types.is_timestamp(kind):
        return lambda end: _moment(end, kind.tz)
    return (lambda end: Decimal(repr(end))) if pa.types.is_decimal(kind) else None


def _moment(end: str, zone: str | None) -> datetime | None:
    """The moment, if it is written with a zone where the column's type has one."""
    moment = datetime.fromisoformat(end)
    return moment if bool(zone) == bool(moment.tzinfo) else None


def _leading(connection: sqlite3.Connection, name: str, columns: dict[str, Any]) -> frozenset[str]:
    """Columns that lead an index, and the one that is the rowid itself."""
    indexes = connection.execute(f"PRAGMA index_list({name})").fetchall()
    whole = [index[1] for index in indexes if not index[4]]
    firsts = [connection.execute(f"PRAGMA index_info({_quoted(index)})").fetchone()[2] for index in whole]
    rowid = [column[1] for column in columns.values() if column[5] and column[2].upper() == "INTEGER"]
    return frozenset([*filter(None, firsts), *rowid])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
