"""The SQL that the MySQL reader writes itself: names and values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from include.etl.engines.base import Value


def quoted(name: str) -> str:
    """A column name as MySQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def quoted_path(path: Sequence[str]) -> str:
    """A table's name, with what stands before it."""
    return ".".join(quoted(part) for part in path)


def literal(value: Value) -> str:
    """The value as MySQL reads it whatever its SQL mode; text is hexadecimal, so that nothing in it can end it.

    Raises ValueError for what MySQL cannot hold (NaN, infinities, surrogates).
    """
    match value:
        case None:
            return "null"
        case datetime():
            utc = value.astimezone(UTC) if value.tzinfo else value
            return f"timestamp'{utc.replace(tzinfo=None).isoformat(' ')}'"
        case date():
            return f"date'{value.isoformat()}'"
        case bytes():
            return f"x'{value.hex()}'"
        case str():
            return f"_utf8mb4 x'{value.encode().hex()}'"
        case _:
            return _number(value)


def _number(value: int | float | Decimal) -> str:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    text = f"{value:f}" if isinstance(value, Decimal) else f"{value:.16e}" if isinstance(value, float) else f"{value:d}"
    return f"({text})" if value < 0 else text
