"""Uniqueness judged in several passes counts what a count of all keys at once finds."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl import duck
from tests.unit.validation.conftest import Check

BOTH = {"column_list": ["nr", "code"]}


@pytest.fixture(params=[2, 10_000_000], ids=["many passes", "one pass"])
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "KEYS_AT_ONCE", request.param)


def rows_of(keys: list[tuple[int | None, str | None]]) -> list[dict[str, Any]]:
    return [{"id": number, "nr": nr, "code": code} for number, (nr, code) in enumerate(keys)]


def repeated(keys: list[Any]) -> int:
    """How many have a twin; NULL is equal to nothing."""
    times = Counter(key for key in keys if key is not None and None not in (key if isinstance(key, tuple) else ()))
    return sum(count for count in times.values() if count > 1)


@pytest.mark.parametrize("metric", ["column_values.unique", "compound_columns.unique"])
def test_they_are_counted_here_and_not_by_great_expectations(check: Check, metric: str) -> None:
    check(("expect_column_values_to_be_unique", {"column": "id"}), ("expect_compound_columns_to_be_unique", BOTH))
    from great_expectations.expectations.registry import get_metric_provider

    from include.etl.validation import datasource, unique_keys

    ours = {"column_values.unique": unique_keys.RepeatedValues, "compound_columns.unique": unique_keys.RepeatedKeys}
    engine = object.__new__(datasource.DuckDBExecutionEngine)
    assert get_metric_provider(f"{metric}.unexpected_count", engine)[0] is ours[metric]


@pytest.mark.usefixtures("_at_once")
def test_names_of_columns_are_names(check: Check, tmp_path: Path) -> None:
    name = "visit :id %s \\:b"
    pq.write_table(pa.table({name: [1, 2, 3, 1]}), tmp_path / "odd.parquet")
    (failure,) = check(
        ("expect_column_values_to_be_unique", {"column": name}), parts=[tmp_path / "odd.parquet"]
    ).critical
    assert failure.unexpected_count == 2


@pytest.mark.usefixtures("_at_once")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from(["", "a", "A", "é", "é"])), min_size=1
    )
)
def test_repeated_keys_are_counted(check: Check, keys: list[tuple[int | None, str | None]]) -> None:
    one, both = ("expect_column_values_to_be_unique", {"column": "nr"}), ("expect_compound_columns_to_be_unique", BOTH)
    found = {failure.expectation: failure.unexpected_count for failure in check(one, both, rows=rows_of(keys)).critical}
    expected = {one[0]: repeated([nr for nr, _ in keys]), both[0]: repeated(keys)}
    assert found == {name: count for name, count in expected.items() if count}


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", datetime(2024, 2, 29).date()),
        ("at", datetime(2024, 1, 1) + timedelta(microseconds=1)),
        ("fee", Decimal("0.10")),
        ("ratio", float("nan")),
        ("ratio", -0.0),
    ],
)
def test_keys_of_every_type(check: Check, column: str, value: Any) -> None:
    other = 0.0 if value == 0 else value
    rows = [{column: value}, {column: other}, {column: None}, {column: None}]
    (failure,) = check(("expect_column_values_to_be_unique", {"column": column}), rows=rows).critical
    assert failure.unexpected_count == 2


@pytest.mark.usefixtures("_at_once")
def test_only_rows_that_meet_the_condition_count(check: Check) -> None:
    condition = {"type": "comparison", "column": {"name": "id"}, "operator": "<", "parameter": 2}
    rows = rows_of([(1, "a"), (2, "b"), (1, "a"), (1, "a")])
    assert check(("expect_compound_columns_to_be_unique", {**BOTH, "row_condition": condition}), rows=rows).success
    (failure,) = check(("expect_compound_columns_to_be_unique", BOTH), rows=rows).critical
    assert (failure.unexpected_count, failure.unexpected_percent) == (3, 75.0)


@pytest.mark.usefixtures("_at_once")
def test_some_may_be_repeated(check: Check) -> None:
    rows = rows_of([(1, "a"), (1, "a"), (2, "b"), (3, "c")])
    assert check(("expect_column_values_to_be_unique", {"column": "nr", "mostly": 0.5}), rows=rows).success
    assert not check(("expect_column_values_to_be_unique", {"column": "nr", "mostly": 0.6}), rows=rows).success
