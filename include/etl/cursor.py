"""The window's bounds as values of the cursor column: an instant means something else to a date than to a timestamp."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa

from include.etl.config import Source
from include.etl.engines.base import Value
from include.etl.errors import ConfigurationError
from include.etl.handover import Position


def bound(position: Position | None, column: pa.DataType, source: Source) -> Value:
    """The position in the cursor column's type; None stays None.

    A zoned timestamp is compared in UTC, one without zone in `cursor.timezone`. A date column takes the day that the
    instant falls on, so that a day is read once it has ended: consecutive windows still cover every day once.

    Raises:
        ConfigurationError: the column is not of the kind that `cursor.type` says.
    """
    assert source.cursor is not None
    if position is None:
        return None
    if isinstance(position, int):
        if not whole_numbers(column):
            raise _wrong(source, column, f"whole numbers, with cursor.type: {source.cursor.type}")
        # A row version is compared as its eight bytes: as a number, no index would serve the comparison.
        return position.to_bytes(8, "big") if source.cursor.type == "rowversion" else position
    moment = position
    local = moment.astimezone(ZoneInfo(source.cursor.timezone))
    if pa.types.is_date(column):
        return local.date()
    if pa.types.is_timestamp(column):
        return moment if column.tz else _never_back(local)
    allowed = "a timestamp or a date" + ("; or set cursor.type: number" if whole_numbers(column) else "")
    raise _wrong(source, column, allowed)


def whole_numbers(column: pa.DataType) -> bool:
    """Whether a column holds whole numbers, and nothing else."""
    return bool(pa.types.is_integer(column) or (pa.types.is_decimal(column) and column.scale == 0))


def _wrong(source: Source, column: pa.DataType, allowed: str) -> ConfigurationError:
    name = source.cursor.column if source.cursor else ""
    return ConfigurationError(f"source {source.source!r}: cursor.column: {name!r} is {column}; allowed: {allowed}")


def _never_back(local: datetime) -> datetime:
    """The local time without its zone, but never one that the clock will show again.

    When clocks are set back an hour comes twice, and a row of the second one looks like one of the first. So in the
    first the bound stays where the hour begins; what the first holds is read when the second has passed.
    """
    naive = local.replace(tzinfo=None)
    if local.fold or not _twice(local):
        return naive
    begin = local.replace(second=0, microsecond=0)
    while _twice(begin - timedelta(minutes=1)):
        begin -= timedelta(minutes=1)
    return begin.replace(tzinfo=None)


def _twice(local: datetime) -> bool:
    """Whether clocks show this time twice."""
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    return first is not None and second is not None and first > second
