"""What is wrong with a suite is said before any data is read, in words that tell where and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.etl.errors import ConfigurationError
from include.etl.validation import check_suite, referenced

INCLUDE = Path(__file__).parents[3] / "include"
SHIPPED = sorted((INCLUDE / "expectations").glob("*.json"))
ONE = '{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}'


def suite(*entries: str) -> str:
    return '{"name": "s", "expectations": [' + ", ".join(entries) + "]}"


def entry(type_: str, kwargs: str) -> str:
    return suite(f'{{"type": "{type_}", "kwargs": {kwargs}}}')


REFERENCE = "expect_column_values_to_exist_in_reference"
SQL = "unexpected_rows_expectation"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"the file is empty"),
        (" \n", r"the file is empty"),
        ('{"name": "s",\n "expectations": [,]}', r"malformed JSON at line 2, column 19"),
        ("[]", r"expected a JSON object with 'expectations', got list"),
        ('{"name": "s"}', r"key 'expectations': expected a list with at least one expectation, got nothing"),
        (suite(), r"key 'expectations': expected a list with at least one expectation, got \[\]"),
        ('{"expectation": []}', r"unknown key 'expectation'; allowed: name, expectations"),
        (suite("1"), r"expectation 1: expected a JSON object"),
        (suite('{"kwargs": {}}'), r"expectation 1: key 'type'"),
        (suite('{"type": "x", "kwargs": []}'), r"key 'kwargs': expected a JSON object, got \[\]"),
        (suite(ONE + ', "severity": "fatal"}'), r"key 'severity': 'fatal'; allowed: critical, warning, info"),
        (suite(ONE + ', "severty": "info"}'), r"expectation 1: unknown key 'severty'"),
        (entry("expect_column_values_to_not_be_nul", "{}"), r"did you mean expect_column_values_to_not_be_null"),
        (entry("zzz", "{}"), r"expectation 1 \(zzz\): unknown expectation type; docs"),
        (entry("expect_column_values_to_not_be_null", '{"colum": "id"}'), r"kwargs\.colum: extra fields"),
        (entry("expect_column_values_to_not_be_null", "{}"), r"kwargs\.column: field required"),
        (entry("expect_column_values_to_not_be_null", '{"column": "id", "mostly": 99}'), r"kwargs\.mostly"),
        (entry("expect_column_values_to_not_be_null", '{"column": "id", "severity": "info"}'), r"belongs beside"),
        (
            entry("expect_column_values_to_be_in_set", '{"column": "a", "value_set": {"$PARAMETER": "x"}}'),
            r"parameters",
        ),
        (entry("expect_column_values_to_be_null", '{"column": "a", "row_condition": "b > 1"}'), r"row_condition: text"),
        (entry("expect_column_values_to_match_regex", '{"column": "a", "regex": "(?=x)"}'), r"RE2"),
        (entry("expect_column_values_to_be_of_type", '{"column": "a", "type_": "BIGINTT"}'), r"no type 'BIGINTT'"),
        (entry(SQL, '{"unexpected_rows_query": "SELECT 1"}'), r"must read from \{batch\}"),
        (entry(SQL, '{"unexpected_rows_query": "SELEC 1 FROM {batch}"}'), r"syntax error"),
        (entry(SQL, '{"unexpected_rows_query": "DELETE FROM {batch}"}'), r"one SELECT"),
        (entry(SQL, '{"unexpected_rows_query": "SELECT 1 FROM {batch}; DROP VIEW batch"}'), r"one SELECT"),
        (entry(SQL, '{"unexpected_rows_query": "FROM {batch} WHERE a ~ \'x{2}\'"}'), r"braces"),
        (entry(REFERENCE, '{"column": "a", "reference": "r"}'), r"kwargs\.reference_column: field required"),
        (entry(REFERENCE, '{"column": ["a", "b"], "reference": "r", "reference_column": "a"}'), r"must pair up"),
        (entry(REFERENCE, '{"column": "a", "reference": "batch", "reference_column": "a"}'), r"give the reference"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "visits.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as error:
        check_suite(path)
    assert f"suite {path}" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json: No such file"):
        check_suite(tmp_path / "none.json")


def test_all_mistakes_are_told_at_once(write_suite: Any) -> None:
    path = write_suite(
        ("nonsense", {}), ("expect_column_values_to_not_be_null", {}), ("expect_column_to_exist", {"x": 1})
    )
    with pytest.raises(ConfigurationError) as error:
        check_suite(path)
    assert [f"expectation {number}" in str(error.value) for number in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_are_right(path: Path) -> None:
    check_suite(path)


def test_shipped_suites_are_there() -> None:
    assert {path.stem for path in SHIPPED} >= {
        "dw_reference_codes",
        "nehr_diagnoses",
        "polyclinic_patients",
        "polyclinic_visits",
    }


def test_needed_references_are_known_before_validating(write_suite: Any) -> None:
    path = write_suite(
        (REFERENCE, {"column": "a", "reference": "codes", "reference_column": "code"}),
        (REFERENCE, {"column": ["s", "a"], "reference": "codes", "reference_column": ["system", "code"]}),
        (REFERENCE, {"column": "p", "reference": "patients", "reference_column": "id"}, "warning"),
        ("expect_column_to_exist", {"column": "a"}),
    )
    assert referenced(path) == {"codes": ["code", "system"], "patients": ["id"]}


def test_the_package_is_cheap_to_import(write_suite: Any) -> None:
    """Great Expectations takes seconds to import: parsing a DAG and asking for references must not."""
    path = write_suite(("expect_column_to_exist", {"column": "a"}))
    code = (
        "import sys, pathlib, include.etl.validation as v; v.referenced(pathlib.Path(sys.argv[1])); "
        "sys.exit(','.join({'great_expectations', 'duckdb', 'pyarrow', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=INCLUDE.parent, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    assert done.returncode == 0
