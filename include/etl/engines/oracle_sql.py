"""The SQL that the Oracle reader writes itself: names, bind variables, and queries whose columns are converted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from include.etl.engines.base import Query, Value
from include.etl.engines.binding import bind

SECONDS, FRACTION, ZONED = (
    'YYYY-MM-DD"T"HH24:MI:SS',
    'YYYY-MM-DD"T"HH24:MI:SS.FF6',
    'YYYY-MM-DD"T"HH24:MI:SS.FF6TZH:TZM',
)
MAX_DIGITS = 38


def quoted(name: str) -> str:
    """A column name as Oracle quotes it; none of its names holds a double quote."""
    return f'"{name}"'


def converted(sql: str, selected: Sequence[str]) -> str:
    """A SELECT of these expressions over the query."""
    return f"select {', '.join(selected)} from (\n{sql}\n) q_"


def bound(query: Query) -> tuple[str, dict[str, str | int | float | Decimal | bytes | None]]:
    """The SQL with bind variables v0, v1, ... and their values; the query's own names may be Oracle's keywords.

    Times are bound as text that the SQL converts: a driver's own choice of type can drop the fraction or the zone.
    A whole second is a DATE, so that an index on a column of that type serves.
    """
    values: dict[str, str | int | float | Decimal | bytes | None] = {}

    def placeholder(value: Value) -> str:
        name = f"v{len(values)}"
        form, values[name] = _form(value)
        return form.format(f":{name}")

    return bind(query, "oracle", placeholder), values


def _form(value: Value) -> tuple[str, str | int | float | Decimal | bytes | None]:
    match value:
        case datetime() if value.tzinfo:
            return f"to_timestamp_tz({{}}, '{ZONED}')", value.astimezone(UTC).isoformat(timespec="microseconds")
        case datetime() if value.microsecond:
            return f"to_timestamp({{}}, '{FRACTION}')", value.isoformat()
        case datetime():
            return f"to_date({{}}, '{SECONDS}')", value.isoformat()
        case date():
            return "to_date({}, 'YYYY-MM-DD')", value.isoformat()
        case str():
            value.encode()  # a surrogate is no character
            return "{}", value
        case bool():
            return "{}", int(value)
        case bytes() | None:
            return "{}", value
        case _:
            return "{}", _number(value)


def _number(value: int | float | Decimal) -> int | float | Decimal:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    if not isinstance(value, float) and len(f"{Decimal(value):f}".strip("-0").replace(".", "")) > MAX_DIGITS:
        raise ValueError("more digits than a NUMBER holds")
    return value
