"""Dates and times of MySQL's binary protocol: only as many bytes as it takes to hold what is not zero.

A date is a year of two bytes, month and day; hour, minute and second follow, then four bytes of microseconds. A time
is its sign, four bytes of days, hour, minute and second, then the microseconds.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from include.etl.engines.mysql_types import DATE, DATETIME, NEWDATE, TIME, TIMESTAMP
from include.etl.engines.mysql_values import Values

Numbers = npt.NDArray[np.int64]
YEARS, MONTHS = 10_000, 12
DAY_S, SECOND_US = 86_400, 1_000_000
FRACTION_DIGITS = 6


def _allowed(*lengths: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(256), lengths)


MOMENT, DURATION = _allowed(0, 4, 7, 11), _allowed(0, 8, 12)
LENGTHS = {DATE: MOMENT, NEWDATE: MOMENT, DATETIME: MOMENT, TIMESTAMP: MOMENT, TIME: DURATION}
"""Which lengths the values of a type may have."""


def days(values: Values) -> Numbers:
    """Days since 1970; raises ValueError for a zero date, the year 0, a zero within, and a day that its month lacks."""
    year, month, day = _part(values, "<u2", 0, 4), _part(values, "u1", 2, 4), _part(values, "u1", 3, 4)
    wrong = (year < 1) | (year >= YEARS) | (month < 1) | (month > MONTHS) | (day < 1)
    index = np.where(wrong, 0, year * MONTHS + month - 1)
    firsts = _first_days()
    found = firsts[index] + day - 1
    _refuse(wrong | (found >= firsts[index + 1]), values)
    return found


def microseconds(values: Values) -> Numbers:
    """Microseconds since 1970, with the checks of `days`."""
    return days(values) * DAY_S * SECOND_US + _seconds(values, 4) * SECOND_US + _fraction(values, 7)


def printed(values: Values, digits: int) -> pa.Array:
    """Times as the server prints them, with so many digits after the point; hours go up to 838."""
    day, clock, fraction = _part(values, "<u4", 1, 8), _seconds(values, 5), _fraction(values, 8)
    hours, minutes, seconds = day * 24 + clock // 3600, clock // 60 % 60, clock % 60
    sign = pa.array(_part(values, "u1", 0, 8)).cast(pa.bool_())
    text = pc.binary_join_element_wise(*(_padded(part, 2) for part in (hours, minutes, seconds)), ":")
    text = pc.binary_join_element_wise(pc.if_else(sign, "-", ""), text, "")
    if 0 < digits <= FRACTION_DIGITS:
        shown = _padded(fraction // 10 ** (FRACTION_DIGITS - digits), digits)
        text = pc.binary_join_element_wise(text, shown, ".")
    elif digits:  # as many as there are, or none
        full = pc.binary_join_element_wise(text, _padded(fraction, FRACTION_DIGITS), ".")
        text = pc.if_else(pa.array(fraction != 0), full, text)
    return text if values.null is None else pc.if_else(pa.array(values.null), None, text)


def _part(values: Values, dtype: str, offset: int, least: int) -> Numbers:
    """A part of each value that is at least so long; zero in the others."""
    numbers: npt.NDArray[Any] = values.read(dtype, offset)
    return np.where(values.lengths >= least, numbers, 0).astype(np.int64)


def _seconds(values: Values, offset: int) -> Numbers:
    """Seconds of the day."""
    hour, minute, second = (_part(values, "u1", offset + n, offset + 3) for n in range(3))
    _refuse((hour > 23) | (minute > 59) | (second > 59), values)
    return hour * 3600 + minute * 60 + second


def _fraction(values: Values, offset: int) -> Numbers:
    numbers = _part(values, "<u4", offset, offset + 4)
    _refuse(numbers >= SECOND_US, values)
    return numbers


def _refuse(wrong: npt.NDArray[np.bool_], values: Values) -> None:
    if (wrong if values.null is None else wrong & ~values.null).any():
        raise ValueError("no date or time")


def _padded(numbers: Numbers, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


@cache
def _first_days() -> Numbers:
    """The first day of every month from the year 0, in days since 1970."""
    months = np.arange(YEARS * MONTHS + 1) - 1970 * MONTHS
    return months.astype("M8[M]").astype("M8[D]").astype(np.int64)
