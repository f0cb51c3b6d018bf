"""Where to cut a column by its histogram: the number of rows below a value, and the value below which so many lie."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from itertools import pairwise
from typing import NamedTuple

from include.etl.engines.base import Statistics, Value

WIDE = Context(prec=400, rounding=ROUND_FLOOR)
"""Holds the widest decimals without rounding them."""


class _Point(NamedTuple):
    """A value, the rows below it, and the rows up to it."""

    value: Value
    below: float
    upto: float


class Histogram:
    """The estimated distribution of a table's rows over a column; rows without a value count as the lowest."""

    def __init__(self, statistics: Statistics) -> None:
        rows = statistics.rows or 0
        total = statistics.missing + sum(step.between + step.at for step in statistics.steps)
        scale, upto = rows / total if total else 0.0, statistics.missing
        self._points: list[_Point] = []
        for step in statistics.steps:
            below = upto + step.between
            upto = below + step.at
            self._points.append(_Point(step.value, below * scale, upto * scale))

    def edges(self, rows_per_slice: int, most: int, low: Value, high: Value) -> list[Value]:
        """Ascending values within `(low, high)` that cut its rows into about equal slices, at most so many."""
        first = 0.0 if low is None else self._below(low)
        last = self._points[-1].upto if high is None else self._below(high)
        count = min(most, math.ceil((last - first) / rows_per_slice))
        chosen = (self._at(first + (last - first) * step / count) for step in range(1, count))
        lowest = self._points[0].value if low is None and not self._points[0].below else low
        return _ascending(chosen, lowest, high)

    def _below(self, value: Value) -> float:
        """Estimated rows below a value."""
        before = self._points[0]
        if value <= before.value:  # type: ignore[operator]
            return before.below
        for before, after in pairwise(self._points):
            if value <= after.value:  # type: ignore[operator]
                return before.upto + (after.below - before.upto) * _share(before.value, value, after.value)
        return self._points[-1].upto

    def _at(self, rows: float) -> Value:
        """The value that about so many rows lie below; the next one of the histogram where values have no middle."""
        place = max(0, bisect_right(self._points, rows, key=lambda point: point.below) - 1)
        before = self._points[place]
        if rows < before.upto or place + 1 == len(self._points):
            return before.value
        after = self._points[place + 1]
        return _between(before.value, after.value, (rows - before.upto) / (after.below - before.upto))


def _ascending(values: Iterable[Value], low: Value, high: Value) -> list[Value]:
    """The values above `low` and below `high`, each once. Text comes in the order of the database, which is kept."""
    found: list[Value] = []
    for value in values:
        floor = found[-1] if found else low
        if isinstance(value, str):
            above = value != floor
        else:
            above = (floor is None or value > floor) and (high is None or value < high)  # type: ignore[operator]
        if above:
            found.append(value)
    return found


def _share(low: Value, value: Value, high: Value) -> float:
    """How far a value lies on the way from one to another."""
    return float((value - low) / (high - low))  # type: ignore[operator,arg-type]


def _between(low: Value, high: Value, share: float) -> Value:
    """A value on the way from one to another; the second one for text.

    Moments are whole seconds: in Oracle a finer one than a DATE costs the index.
    """
    match low, high:
        case int(), int():
            return low - ((low - high) * int(share * (1 << 32)) >> 32)  # upwards: so many lie below it
        case Decimal(), Decimal():
            places = Decimal(1).scaleb(min(int(low.as_tuple().exponent), int(high.as_tuple().exponent)))
            return WIDE.quantize(WIDE.add(low, WIDE.multiply(WIDE.subtract(high, low), Decimal(share))), places)
        case datetime(), datetime():
            return (low + (high - low) * share).replace(microsecond=0)
        case date(), date():
            return low + timedelta(days=math.ceil((high - low).days * share))
    return high
