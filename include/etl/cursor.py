"""The window's bounds as values of the cursor column: an instant means something else to a date than to a timestamp."""

from __future__ import annotations

from datetime import datetime
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
        return moment if column.tz else local.replace(tzinfo=None)
    raise ConfigurationError(
        f"source {source.source!r}: cursor.column: {source.cursor.column!r} is {column}; allowed: a timestamp or a date"
    )
