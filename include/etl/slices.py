"""Cuts a read into slices by ranges of a column: every row lies in exactly one, also one without a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlglot import exp

from include.etl.engines.base import Query, Statistics, Value
from include.etl.handover import Bounds
from include.etl.records.run import Run
from include.etl.storage import read_json, write_json

MOST = 256
"""Slices of one read; each costs a task."""
FILE = "slices.json"
START, END = "slice_start", "slice_end"
KINDS: dict[str, Callable[[str], Value]] = {
    "int": int,
    "Decimal": Decimal,
    "str": str,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}


def cut(column: str, statistics: Statistics, rows_per_slice: int) -> list[Bounds]:
    """Slices of about that many rows; one that holds everything where the catalogue gives no ground to cut on."""
    count = min(MOST, math.ceil((statistics.rows or 0) / rows_per_slice))
    edges = _edges(statistics.bounds, count)
    if not edges:
        return [Bounds()]
    kind, texts = type(edges[0]).__name__, [_text(edge) for edge in edges]
    pairs = zip([None, *texts], [*texts, None], strict=True)
    made = [{"column": column, "kind": kind, "start": low, "end": high} for low, high in pairs]
    return [Bounds.model_validate(one) for one in made]


def keep(run: Run, cuts: Sequence[Bounds]) -> None:
    """Put the bounds where the run's tasks find them; they are data, and so lie with the data."""
    write_json(run.records / FILE, [one.model_dump() for one in cuts])


def kept(run: Run, index: int) -> Bounds:
    """The bounds of the slice with this number."""
    return Bounds.model_validate(read_json(run.records / FILE)[index])


def within(query: Query, part: Bounds, dialect: str) -> Query:
    """The query's rows that lie in the slice."""
    name = exp.to_identifier(str(part.column), quoted=True).sql(dialect=dialect)
    column, convert = f"sliced.{name}", KINDS[part.kind]
    conditions, params = [], dict(query.params)
    if part.start is not None:
        conditions.append(f"{column} >= :{START}")
        params[START] = convert(part.start)
    if part.end is not None:
        missing = f" OR {column} IS NULL" if part.start is None else ""
        conditions.append(f"({column} < :{END}{missing})")
        params[END] = convert(part.end)
    sql = f"SELECT * FROM (\n{query.sql}\n) sliced WHERE {' AND '.join(conditions)}"
    return Query(sql, params)


def _edges(bounds: Sequence[Value], count: int) -> list[Value]:
    """At most `count - 1` ascending values to cut at: quantiles, or equal steps between two whole numbers."""
    distinct = list(dict.fromkeys(bounds))
    if count < 2 or len(distinct) < 2 or type(distinct[0]).__name__ not in KINDS:
        return []
    if len(distinct) > 2:
        chosen = [distinct[round(step * (len(distinct) - 1) / count)] for step in range(1, count)]
        return [edge for edge in dict.fromkeys(chosen) if edge != distinct[0]]
    low, high = distinct
    if not isinstance(low, int) or not isinstance(high, int):
        return []
    steps: dict[Value, None] = dict.fromkeys(low + (high - low + 1) * step // count for step in range(1, count))
    return [edge for edge in steps if edge != low]


def _text(value: Value) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
