"""Keys must exist in a reference: counted exactly, NULL keys left out, in DuckDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl.errors import ConfigurationError
from include.etl.validation import Reference

from .conftest import Check, WriteRows

TYPE = "expect_column_values_to_exist_in_reference"
KEYS = pa.schema([("system", pa.string()), ("code", pa.int64())])
CODES = {"column": "code", "reference": "codes", "reference_column": "code"}


@pytest.fixture
def check_keys(check: Check, write_rows: WriteRows) -> Any:
    """Checks rows (system, code) against reference rows (system, code)."""

    def run(rows: list[Any], known: list[Any], kwargs: dict[str, Any], severity: str = "critical") -> Any:
        def part(values: list[Any], name: str) -> Path:
            return write_rows([dict(zip(KEYS.names, value, strict=True)) for value in values], KEYS, name)

        reference = Reference("codes", [part(known, "known.parquet")])
        return check((TYPE, kwargs, severity), parts=[part(rows, "rows.parquet")], references=[reference])

    return run


def test_unknown_keys_are_counted_and_null_is_no_key(check_keys: Any) -> None:
    rows = [("x", 1), ("x", 2), ("x", 2), ("x", None)]
    verdict = check_keys(rows, [("x", 1), ("x", 1), (None, None)], CODES)
    (failure,) = verdict.critical
    assert (failure.column, failure.unexpected_count, failure.unexpected_percent) == ("code", 2, 66.6667)
    assert check_keys(rows, [("y", 1), ("y", 2)], CODES).success


def test_several_columns_are_one_key(check_keys: Any) -> None:
    both = {"column": ["system", "code"], "reference": "codes", "reference_column": ["system", "code"]}
    assert check_keys([("x", 1), ("y", 2)], [("x", 1), ("y", 2)], both).success
    (failure,) = check_keys([("x", 1), ("x", 2), ("x", None), (None, 9)], [("x", 1), ("y", 2)], both).critical
    assert (failure.column, failure.unexpected_count, failure.unexpected_percent) == ("system, code", 1, 50.0)


def test_mostly_and_severity(check_keys: Any) -> None:
    rows, known = [("x", number) for number in range(100)], [("x", number) for number in range(99)]
    assert check_keys(rows, known, {**CODES, "mostly": 0.99}).critical == []
    assert not check_keys(rows, known, {**CODES, "mostly": 0.995}).success
    verdict = check_keys(rows, known, CODES, "warning")
    assert verdict.success
    assert [failure.unexpected_count for failure in verdict.warnings] == [1]


def test_a_condition_chooses_the_rows(check_keys: Any) -> None:
    only_x = {"type": "comparison", "column": {"name": "system"}, "operator": "==", "parameter": "x"}
    verdict = check_keys([("x", 1), ("y", 2)], [("x", 1)], {**CODES, "row_condition": only_x})
    assert verdict.success


def test_an_empty_reference_and_no_rows(check_keys: Any) -> None:
    assert check_keys([], [], CODES).success
    assert not check_keys([("x", 1)], [], CODES).success


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3) | st.none()), max_size=12),
    known=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3) | st.none()), max_size=6),
)
def test_counts_are_those_of_sets(check_keys: Any, rows: list[Any], known: list[Any]) -> None:
    both = {"column": ["system", "code"], "reference": "codes", "reference_column": ["system", "code"]}
    verdict = check_keys(rows, known, both)
    (outcome,) = json.loads(Path(verdict.result_json).read_text())["outcomes"]
    assert outcome["unexpected_count"] == sum(row not in known for row in rows if None not in row)


def test_a_reference_that_the_run_does_not_provide(check: Check) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown reference 'codes'; this run provides: none"):
        check((TYPE, {**CODES, "column": "id"}))


def test_columns_that_the_reference_or_the_data_lack(check_keys: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"reference 'codes' has no column 'nr'; its columns are system, code"):
        check_keys([("x", 1)], [("x", 1)], {**CODES, "reference_column": "nr"})
    with pytest.raises(ConfigurationError, match=r"column 'nr' is not in the data; its columns are system, code"):
        check_keys([("x", 1)], [("x", 1)], {**CODES, "column": "nr"})


def test_keys_of_types_that_do_not_compare(check_keys: Any) -> None:
    with pytest.raises(ConfigurationError, match=TYPE) as error:
        check_keys([("secret", 1)], [("x", 1)], {**CODES, "column": "system"})
    assert "secret" not in str(error.value)
