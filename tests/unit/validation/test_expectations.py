"""Every expectation of Great Expectations: it works on DuckDB, on data that passes and that fails, or it is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from include.etl.errors import ConfigurationError
from include.etl.validation import _quiet_import, check_suite

from .conftest import ROWS, Check

IS_A = {"type": "comparison", "column": {"name": "code"}, "operator": "==", "parameter": "A1"}
LATE = {"type": "comparison", "column": {"name": "nr"}, "operator": ">=", "parameter": 40}

# type, kwargs that the five rows meet, kwargs that they break, how many are unexpected then (None: not counted)
CASES: list[tuple[str, dict[str, Any], dict[str, Any], int | None]] = [
    ("expect_table_row_count_to_be_between", {"min_value": 5, "max_value": 5}, {"min_value": 6}, None),
    ("expect_table_row_count_to_equal", {"value": 5}, {"value": 4}, None),
    ("expect_table_column_count_to_be_between", {"min_value": 8}, {"max_value": 7}, None),
    ("expect_table_column_count_to_equal", {"value": 8}, {"value": 7}, None),
    ("expect_column_to_exist", {"column": "id"}, {"column": "no_such"}, None),
    (
        "expect_table_columns_to_match_set",
        {"column_set": ["id", "nr"], "exact_match": False},
        {"column_set": ["id"], "exact_match": True},
        None,
    ),
    (
        "expect_table_columns_to_match_ordered_list",
        {"column_list": ["id", "nr", "day", "at", "zoned", "fee", "code", "ratio"]},
        {"column_list": ["nr", "no_such"]},
        None,
    ),
    ("expect_column_values_to_not_be_null", {"column": "id"}, {"column": "code"}, 1),
    ("expect_column_values_to_be_null", {"column": "code", "mostly": 0.2}, {"column": "code"}, 4),
    (
        "expect_column_values_to_be_between",
        {"column": "day", "min_value": "2024-01-01", "max_value": "2024-01-05"},
        {"column": "day", "min_value": "2024-01-02", "max_value": "2024-01-04"},
        2,
    ),
    (
        "expect_column_values_to_be_between",
        {"column": "at", "min_value": "2024-01-01T12:00:00", "max_value": "2024-01-05T12:00:00"},
        {"column": "at", "min_value": "2024-01-01T12:00:00", "strict_min": True},
        1,
    ),
    (
        "expect_column_values_to_be_between",
        {"column": "zoned", "min_value": "2024-01-01T20:00:00+08:00"},
        {"column": "zoned", "min_value": "2024-01-01T20:00:01+08:00"},
        1,
    ),
    (
        "expect_column_values_to_be_between",
        {"column": "fee", "min_value": 0.1, "max_value": 0.5},
        {"column": "fee", "min_value": 0.1, "strict_min": True, "max_value": 0.4},
        2,
    ),
    ("expect_column_values_to_be_between", {"column": "nr", "min_value": 10}, {"column": "nr", "max_value": 20}, 3),
    (
        "expect_column_values_to_be_in_set",
        {"column": "code", "value_set": ["A1", "B2", "A3", "C4"]},
        {"column": "code", "value_set": ["A1", "B2"]},
        2,
    ),
    (
        "expect_column_values_to_be_in_set",
        {"column": "nr", "value_set": [10, 20, 30, 40, 50]},
        {"column": "nr", "value_set": [10, None]},  # a NULL in the set must not make every row pass
        4,
    ),
    (
        "expect_column_values_to_not_be_in_set",
        {"column": "code", "value_set": ["X"]},
        {"column": "code", "value_set": ["A1"]},
        1,
    ),
    ("expect_column_values_to_be_unique", {"column": "id"}, {"column": "same"}, 5),
    ("expect_compound_columns_to_be_unique", {"column_list": ["id", "code"]}, {"column_list": ["same", "one"]}, 5),
    (
        "expect_column_values_to_match_regex",
        {"column": "code", "regex": "[0-9]$"},
        {"column": "code", "regex": "^A"},
        2,
    ),
    (
        "expect_column_values_to_not_match_regex",
        {"column": "code", "regex": "Z"},
        {"column": "code", "regex": "A"},
        2,
    ),
    (
        "expect_column_values_to_match_regex_list",
        {"column": "code", "regex_list": ["A", "B|C"]},
        {"column": "code", "regex_list": ["A", "B"]},
        1,
    ),
    (
        "expect_column_values_to_not_match_regex_list",
        {"column": "code", "regex_list": ["X", "Y"]},
        {"column": "code", "regex_list": ["A", "Y"]},
        2,
    ),
    (
        "expect_column_values_to_match_like_pattern",
        {"column": "code", "like_pattern": "__"},
        {"column": "code", "like_pattern": "A%"},
        2,
    ),
    (
        "expect_column_values_to_match_like_pattern_list",
        {"column": "code", "like_pattern_list": ["A%", "B%", "C%"]},
        {"column": "code", "like_pattern_list": ["A%"]},
        2,
    ),
    (
        "expect_column_values_to_not_match_like_pattern",
        {"column": "code", "like_pattern": "Z%"},
        {"column": "code", "like_pattern": "A%"},
        2,
    ),
    (
        "expect_column_values_to_not_match_like_pattern_list",
        {"column": "code", "like_pattern_list": ["Z%"]},
        {"column": "code", "like_pattern_list": ["A%"]},
        2,
    ),
    (
        "expect_column_value_lengths_to_be_between",
        {"column": "code", "min_value": 2},
        {"column": "code", "min_value": 3},
        4,
    ),
    ("expect_column_value_lengths_to_equal", {"column": "code", "value": 2}, {"column": "code", "value": 3}, 4),
    (
        "expect_column_values_to_be_of_type",
        {"column": "zoned", "type_": "TIMESTAMP WITH TIME ZONE"},
        {"column": "at", "type_": "TIMESTAMPTZ"},
        None,
    ),
    (
        "expect_column_values_to_be_of_type",
        {"column": "id", "type_": "BIGINT"},
        {"column": "nr", "type_": "BIGINT"},
        None,
    ),
    (
        "expect_column_values_to_be_in_type_list",
        {"column": "fee", "type_list": ["BIGINT", "DECIMAL"]},
        {"column": "fee", "type_list": ["DECIMAL(18,2)", "DOUBLE"]},
        None,
    ),
    ("expect_column_type_to_be", {"column": "fee", "type_": "DECIMAL(10,2)"}, {"column": "fee", "type_": "DATE"}, None),
    ("expect_column_min_to_be_between", {"column": "nr", "min_value": 10}, {"column": "nr", "min_value": 11}, None),
    (
        "expect_column_max_to_be_between",
        {"column": "day", "max_value": "2024-01-05"},
        {"column": "day", "max_value": "2024-01-04"},
        None,
    ),
    ("expect_column_mean_to_be_between", {"column": "nr", "max_value": 30}, {"column": "nr", "max_value": 29}, None),
    ("expect_column_median_to_be_between", {"column": "nr", "max_value": 30}, {"column": "nr", "max_value": 29}, None),
    ("expect_column_sum_to_be_between", {"column": "nr", "max_value": 150}, {"column": "nr", "max_value": 149}, None),
    ("expect_column_stdev_to_be_between", {"column": "nr", "max_value": 16}, {"column": "nr", "max_value": 15}, None),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "nr", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[30, 30]]}},
        {"column": "nr", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 29]]}},
        None,
    ),
    (
        "expect_column_unique_value_count_to_be_between",
        {"column": "code", "min_value": 4, "max_value": 4},
        {"column": "code", "max_value": 3},
        None,
    ),
    (
        "expect_column_proportion_of_unique_values_to_be_between",
        {"column": "id", "min_value": 1},
        {"column": "same", "min_value": 0.5},
        None,
    ),
    (
        "expect_column_proportion_of_non_null_values_to_be_between",
        {"column": "code", "min_value": 0.8},
        {"column": "code", "min_value": 0.9},
        None,
    ),
    (
        "expect_column_distinct_values_to_be_in_set",
        {"column": "code", "value_set": ["A1", "B2", "A3", "C4"]},
        {"column": "code", "value_set": ["A1"]},
        3,
    ),
    (
        "expect_column_distinct_values_to_contain_set",
        {"column": "code", "value_set": ["A1"]},
        {"column": "code", "value_set": ["Z"]},
        None,
    ),
    (
        "expect_column_distinct_values_to_equal_set",
        {"column": "code", "value_set": ["A1", "B2", "A3", "C4"]},
        {"column": "code", "value_set": ["A1"]},
        3,
    ),
    (
        "expect_column_most_common_value_to_be_in_set",
        {"column": "same", "value_set": [7]},
        {"column": "same", "value_set": [8]},
        None,
    ),
    (
        "expect_column_value_z_scores_to_be_less_than",
        {"column": "ratio", "threshold": 2, "double_sided": True},
        {"column": "ratio", "threshold": 1, "double_sided": True},
        2,
    ),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "nr", "column_B": "id"},
        {"column_A": "id", "column_B": "nr"},
        5,
    ),
    (
        "expect_column_pair_values_to_be_equal",
        {"column_A": "id", "column_B": "ratio"},
        {"column_A": "id", "column_B": "nr"},
        5,
    ),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "same", "column_B": "one", "value_pairs_set": [[7, "x"]]},
        {"column_A": "same", "column_B": "one", "value_pairs_set": [[7, "y"]]},
        5,
    ),
    (
        "expect_multicolumn_sum_to_equal",
        {"column_list": ["same", "seven"], "sum_total": 14},
        {"column_list": ["same", "id"], "sum_total": 8},
        4,
    ),
    (
        "expect_multicolumn_values_to_be_equal",
        {"column_list": ["id", "ratio"]},
        {"column_list": ["id", "nr"]},
        5,
    ),
    (
        "expect_select_column_values_to_be_unique_within_record",
        {"column_list": ["id", "nr"]},
        {"column_list": ["id", "ratio"]},
        5,
    ),
    (
        "unexpected_rows_expectation",
        {"unexpected_rows_query": "SELECT * FROM {batch} WHERE nr > 50"},
        {"unexpected_rows_query": "WITH late AS (SELECT * FROM {batch} WHERE nr > 20) SELECT id FROM late;"},
        3,
    ),
    (
        "expect_column_values_to_not_be_null",
        {"column": "code", "mostly": 0.8},
        {"column": "code", "mostly": 0.81},
        1,
    ),
    (
        "expect_column_values_to_not_be_null",
        {"column": "code", "row_condition": IS_A},
        {"column": "code", "row_condition": LATE},
        1,
    ),
]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from .conftest import SCHEMA

    more = [pa.field("same", pa.int64()), pa.field("seven", pa.int64()), pa.field("one", pa.string())]
    rows = [{**row, "same": 7, "seven": 7, "one": "x"} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *more])), tmp_path / "wide.parquet")
    return tmp_path / "wide.parquet"


def test_each_passes_and_fails_as_it_should(check: Check, part: Path) -> None:
    """All in one suite, so that they also work beside each other; numbers are those of GX's own definitions."""
    exact = ("expect_table_column", "expect_table_columns")
    narrow = [case for case in CASES if case[0].startswith(exact)]
    wide = [case for case in CASES if not case[0].startswith(exact)]
    for cases, parts in ((narrow, None), (wide, [part])):
        verdict = check(*[(type_, good) for type_, good, _, _ in cases], parts=parts)
        assert verdict.critical == []
        verdict = check(*[(type_, bad) for type_, _, bad, _ in cases], parts=parts)
        outcomes = json.loads(Path(verdict.result_json).read_text())["outcomes"]
        found = [(outcome["expectation"], outcome["result"], outcome["unexpected_count"]) for outcome in outcomes]
        assert found == [(type_, "failed", unexpected) for type_, _, _, unexpected in cases]


def test_every_expectation_of_gx_is_shown_to_work_or_refused() -> None:
    """A new release of GX must not bring an expectation of which nobody knows whether it works here."""
    rules = _quiet_import("include.etl.validation.rules")
    shipped = {type_ for type_ in rules.list_registered_expectation_implementations() if "_to_exist_in_" not in type_}
    assert shipped == {case[0] for case in CASES} | set(rules.NOT_ON_DUCKDB)
    assert len(shipped) > 50


@pytest.mark.parametrize("type_", sorted(_quiet_import("include.etl.validation.rules").NOT_ON_DUCKDB))
def test_what_duckdb_cannot_do_is_refused_without_data(type_: str, write_suite: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"suite.json: .*{type_}.*use unexpected_rows_expectation instead"):
        check_suite(write_suite((type_, {"column": "code"})))


@pytest.mark.parametrize(
    ("type_", "kwargs", "reason"),
    [
        ("expect_column_values_to_match_regex", {"column": "nr", "regex": "A"}, "regexp_matches"),
        ("expect_column_values_to_be_in_set", {"column": "nr", "value_set": ["A1"]}, "Conversion"),
        ("expect_column_values_to_be_between", {"column": "code", "min_value": 1}, "VARCHAR"),
        ("expect_column_mean_to_be_between", {"column": "code", "min_value": 1}, "on code"),
        ("expect_column_values_to_be_between", {"column": "nr"}, "None"),
        ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT nope FROM {batch}"}, "nope"),
        (
            "unexpected_rows_expectation",
            {"unexpected_rows_query": "SELECT CAST(code AS INT) FROM {batch}"},
            "Conversion",
        ),
    ],
)
def test_an_expectation_that_cannot_be_computed_is_no_verdict(
    check: Check, type_: str, kwargs: dict[str, Any], reason: str
) -> None:
    """It is neither a pass nor a data failure, its neighbours are not blamed, and no value is quoted."""
    with pytest.raises(ConfigurationError, match=reason) as error:
        check(("expect_column_values_to_not_be_null", {"column": "id"}), (type_, kwargs))
    assert f"expectation 2 ({type_})" in str(error.value)
    assert "expectation 1" not in str(error.value)
    assert "B2" not in str(error.value)


def test_aggregates_of_no_rows_are_not_failures(check: Check) -> None:
    """Whether an empty window is acceptable is for a row count to say."""
    types = ("mean", "median", "max", "min", "sum", "stdev")
    kwargs = {"column": "nr", "min_value": 1}
    quantiles = {"column": "nr", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1, 2]]}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = check(
            *[(f"expect_column_{name}_to_be_between", kwargs) for name in types],
            ("expect_column_quantile_values_to_be_between", quantiles),
            ("expect_column_values_to_not_be_null", {"column": "id"}),
            ("expect_column_values_to_be_unique", {"column": "id"}),
            ("expect_column_values_to_match_regex", {"column": "code", "regex": "A"}),
            ("expect_compound_columns_to_be_unique", {"column_list": ["id", "code"]}),
            ("expect_column_values_to_be_of_type", {"column": "id", "type_": "BIGINT"}),
            ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch}"}),
            rows=[],
        )
    assert verdict.success
    assert verdict.rows == 0
    results = [outcome["result"] for outcome in json.loads(Path(verdict.result_json).read_text())["outcomes"]]
    assert results == ["not checked"] * 7 + ["passed"] * 6
    assert not check(("expect_table_row_count_to_be_between", {"min_value": 1}), rows=[]).success


def test_no_expectation_breaks_on_no_rows(check: Check, part: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(part).slice(0, 0), empty)
    verdict = check(*[(type_, good) for type_, good, _, _ in CASES], parts=[empty])
    assert {failure.expectation for failure in verdict.critical} == {
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
    }
