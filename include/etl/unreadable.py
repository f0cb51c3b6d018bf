"""Values of a cursor column that no window holds: what a database can have of them, and the SQL that finds them.

They are found at the ends of an index, or in its gaps, so that no row beside them is touched. A new database is one
entry of TIMES, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from include.etl.completeness.checksums import selecting
from include.etl.config import Source
from include.etl.engines.base import Query
from include.etl.query import quote

if TYPE_CHECKING:
    import pyarrow as pa

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
"""Positions on a cursor of numbers are 64 bits wide."""
FIRST_YEAR = 1970
"""Older rows are few, if any: so all of them are looked at."""


class Unreadable(NamedTuple):
    """One kind of such values."""

    kind: str
    """In words that a DBA understands."""
    condition: str
    """SQL that is true for them; `{0}` is the column."""
    seek: str = ""
    """Where they lie in an index that the column leads, with few others, where `condition` would read all of it."""


_WRITTEN = "substr({0}, 1, 10)"  # of an expression, SQLite does not take a text of digits for a number
_NO_DATE = (
    f"(typeof({{0}}) not in ('text', 'null') or {_WRITTEN} not glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'"
    f" or date({_WRITTEN}, '+0 days') is not {_WRITTEN} or {_WRITTEN} < '0001')"
)
TIMES = {
    "postgres": [
        Unreadable("-infinity or a year before 1", "{0} < '0001-01-01'"),
        Unreadable("infinity or a year after 9999", "{0} >= '10000-01-01'"),
    ],
    "mysql": [Unreadable("a zero date or a year before 1", "{0} < '0001-01-01'")],
    "oracle": [Unreadable("a year before 1", "{0} < date '0001-01-01'")],
    "sqlite": [Unreadable("numbers, BLOBs, or text that is no date", _NO_DATE)],
}
_NO_DAY = (
    "{0} >= '0001-01-01' and (month({0}) = 0 or dayofmonth({0}) = 0 or dayofmonth({0}) > dayofmonth(last_day({0})))"
)


def kinds(dialect: str, type_: pa.DataType) -> Sequence[Unreadable]:
    """The kinds that a column of this type can hold; none where all of its values are positions on a cursor."""
    import pyarrow as pa

    if not pa.types.is_temporal(type_):
        wide = pa.types.is_decimal(type_) or pa.types.is_uint64(type_) or dialect == "sqlite"
        what = {"sqlite": "text, BLOBs, or ", "postgres": "NaN, or "}.get(dialect, "")
        beyond = f"{{0}} > {HIGHEST} or {{0}} < {LOWEST}"
        return [Unreadable(f"{what}numbers beyond 64 bits", beyond)] if wide else []
    if dialect == "mysql" and getattr(type_, "tz", None):
        return [Unreadable("a zero date", "{0} < '1970-01-01 00:00:01'")]
    if dialect == "mysql":
        gaps = " or ".join(_gaps("" if pa.types.is_date(type_) else " 23:59:59"))
        return [*TIMES["mysql"], Unreadable("a date with a zero in it, or a day that its month lacks", _NO_DAY, gaps)]
    return TIMES.get(dialect, [])


def positions(dialect: str, type_: pa.DataType) -> str:
    """The condition that a number is a position; empty where every number of the column is."""
    return f"{{0}} between {LOWEST} and {HIGHEST}" if kinds(dialect, type_) else ""


def left_out(query: Query, dialect: str, type_: pa.DataType, source: Source) -> Query:
    """The query, without rows that no window holds where `cursor.unreadable` is `skip`."""
    found = kinds(dialect, type_)
    if source.cursor is None or source.cursor.unreadable != "skip" or not found:
        return query
    return selecting(query, dialect, ["*"], none_of(found).format(quote(source.cursor.column, dialect)))


def none_of(found: Sequence[Unreadable]) -> str:
    """The condition that a value is of none of these kinds; a missing one is."""
    either = " or ".join(one.condition for one in found)
    return f"case when {either} then 1 else 0 end = 0"


def _gaps(last: str) -> Iterator[str]:
    """Between the last moment of a month and the first of the next, MySQL sorts all days that are none.

    What is older, or of the far future, is little enough to be looked at row by row. So is a month's last second: MySQL
    rounds the fraction of a constant to the digits of the column.
    """
    end = datetime.now(UTC).year + 2
    yield f"({{0}} < '{FIRST_YEAR}-01-01' and {_NO_DAY})"
    yield f"({{0}} >= '{end}-01-01' and {_NO_DAY})"
    for year in range(FIRST_YEAR, end):
        for month in range(1, 13):
            first = date(year, month, 1)
            yield f"({{0}} > '{first - timedelta(days=1)}{last}' and {{0}} < '{first}')"
    yield f"({{0}} > '{end - 1}-12-31{last}' and {{0}} < '{end}-01-01')"
