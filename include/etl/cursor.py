"""The window's bounds as values of the cursor column: an instant means something else to a date than to a timestamp."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa

from include.etl.config import Source
from include.etl.engines.base import Value
from include.etl.errors import ConfigurationError


def bound(moment: datetime | None, column: pa.DataType, source: Source) -> Value:
    """The instant in the cursor column's type; None stays None.

    A zoned timestamp is compared in UTC, one without zone in `cursor.timezone`. A date column takes the day that the
    instant falls on, so that a day is read once it has ended: consecutive windows still cover every day once.

    Raises:
        ConfigurationError: the column is neither a timestamp nor a date.
    """
    assert source.cursor is not None
    if moment is None:
        return None
    local = moment.astimezone(ZoneInfo(source.cursor.timezone))
    if pa.types.is_date(column):
        return local.date()
    if pa.types.is_timestamp(column):
        return moment if column.tz else _never_back(local)
    raise ConfigurationError(
        f"source {source.source!r}: cursor.column: {source.cursor.column!r} is {column}; allowed: a timestamp or a date"
    )


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
