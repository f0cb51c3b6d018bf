"""The SQL that the MySQL reader writes itself: names, values, and what must be cast before it is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from include.etl.engines.base import Value
from include.etl.engines.mysql_types import FLOAT, Column


def quoted(name: str) -> str:
    """A column name as MySQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def exact(sql: str, columns: Sequence[Column]) -> str:
    """The query, with FLOAT columns cast: the server prints a FLOAT with 6 digits and a double with all of them."""
    if all(column.code != FLOAT for column in columns):
        return sql
    names = {column: quoted(column.name) for column in columns}
    selected = [f"cast({n} as double) as {n}" if column.code == FLOAT else n for column, n in names.items()]
    return f"select {', '.join(selected)} from (\n{sql}\n) _q"


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
