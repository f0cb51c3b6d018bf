"""Bounds in the cursor column's own type: they never go back, however clocks are set."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl.config import Source
from include.etl.cursor import bound
from include.etl.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("far_away")
NAIVE, ZONED, DAY = pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32()
MOMENT = datetime(2024, 3, 9, 18, tzinfo=UTC)


def source(zone: str, kind: str = "time") -> Source:
    return Source.model_validate(
        {
            "source": "visits",
            "description": "Visits",
            "conn_id": "clinic",
            "table": "visits",
            "cursor": {"column": "at", "timezone": zone, "type": kind},
            "schedule": {"incremental": "0 2 * * *"},
            "output": {"formats": ["parquet"]},
        }
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(ZONED, MOMENT), (NAIVE, datetime(2024, 3, 10, 2)), (DAY, date(2024, 3, 10))],
)
def test_instant_in_the_columns_own_type(kind: pa.DataType, expected: Any) -> None:
    assert bound(MOMENT, kind, source("Asia/Singapore")) == expected


def test_other_columns_are_no_cursor() -> None:
    with pytest.raises(ConfigurationError, match=r"cursor.column: 'at' is int64; allowed: a timestamp or a date"):
        bound(MOMENT, pa.int64(), source("UTC"))


@pytest.mark.parametrize("column", [pa.int16(), pa.uint64(), pa.decimal128(38, 0)])
def test_numbers_are_compared_as_they_are_and_row_versions_as_bytes(column: pa.DataType) -> None:
    assert bound(4711, column, source("UTC", "number")) == 4711
    assert bound(4711, column, source("UTC", "rowversion")) == b"\0\0\0\0\0\0\x12\x67"
    assert bound(None, column, source("UTC", "number")) is None


@pytest.mark.parametrize("column", [pa.decimal128(38, 1), pa.float64(), pa.string(), NAIVE, DAY])
def test_other_columns_are_no_number(column: pa.DataType) -> None:
    with pytest.raises(ConfigurationError, match=r"'at' is .*; allowed: whole numbers, with cursor.type: number$"):
        bound(4711, column, source("UTC", "number"))


@pytest.mark.parametrize(
    ("column", "advice"), [(pa.decimal128(9, 0), True), (pa.decimal128(9, 2), False), (pa.string(), False)]
)
def test_who_has_numbers_is_told_of_their_kind(column: pa.DataType, advice: bool) -> None:
    end = "; or set cursor.type: number" if advice else ""
    with pytest.raises(ConfigurationError, match=rf"allowed: a timestamp or a date{end}$"):
        bound(MOMENT, column, source("UTC"))


@pytest.mark.parametrize(
    ("zone", "moment", "begin"),
    [
        ("America/New_York", datetime(2024, 11, 3, 5, 0, 0, 1, tzinfo=UTC), datetime(2024, 11, 3, 1)),
        ("America/New_York", datetime(2024, 11, 3, 5, 31, 59, 999_999, tzinfo=UTC), datetime(2024, 11, 3, 1)),
        ("America/New_York", datetime(2024, 11, 3, 5, 2, tzinfo=UTC), datetime(2024, 11, 3, 1)),
        ("Australia/Lord_Howe", datetime(2024, 4, 6, 14, 43, 7, tzinfo=UTC), datetime(2024, 4, 7, 1, 30)),
    ],
)
def test_the_hour_begins_with_a_whole_minute(zone: str, moment: datetime, begin: datetime) -> None:
    """Whatever minute, second and microsecond of it the bound lies in."""
    assert bound(moment, NAIVE, source(zone)) == begin


def test_hour_that_comes_twice_is_read_when_it_has_passed() -> None:
    """On 3 November 2024 clocks in New York went from 02:00 back to 01:00, at 06:00 UTC."""
    found = [
        bound(datetime(2024, 11, 3, hour, 30, tzinfo=UTC), NAIVE, source("America/New_York")) for hour in (4, 5, 6, 7)
    ]
    assert found == [datetime(2024, 11, 3, hour, minute) for hour, minute in ((0, 30), (1, 0), (1, 30), (2, 30))]


@given(
    st.datetimes(datetime(2023, 1, 1), datetime(2025, 12, 31)),
    st.timedeltas(timedelta(0), timedelta(hours=3)),
    st.sampled_from(
        ["America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Singapore", "America/Sao_Paulo"]
    ),
)
def test_bounds_never_go_back(start: datetime, step: timedelta, zone: str) -> None:
    earlier, later = start.replace(tzinfo=UTC), (start + step).replace(tzinfo=UTC)
    assert bound(earlier, NAIVE, source(zone)) <= bound(later, NAIVE, source(zone))  # type: ignore[operator]
