"""From a suite's entries to Great Expectations objects, with every mistake that needs no data named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from string import Formatter
from typing import Any

import duckdb
import great_expectations.expectations.core  # noqa: F401 - registers the expectations that GX ships
from great_expectations.compatibility import pydantic
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations

from include.etl.validation import CUSTOM_EXPECTATIONS
from include.etl.validation.datasource import canonical_type
from include.etl.validation.suites import BATCH, ENTRY_KEYS, REFERENCE_CHECK, Entry, Suite, as_list, suite_error

SQL_RULE = "unexpected_rows_expectation"

COLUMN_KEYS = ("column", "column_A", "column_B", "column_list")
ASK_FOR_COLUMNS = ("expect_column_to_exist", "expect_table_columns_to_match_ordered_list")
"""Expectations about which columns there are: a missing one is their finding, not a mistake in the suite."""

NOT_ON_DUCKDB = {
    "expect_column_values_to_be_dateutil_parseable": "WHERE try_cast(<column> AS TIMESTAMP) IS NULL",
    "expect_column_values_to_match_strftime_format": "WHERE try_strptime(<column>, '<format>') IS NULL",
    "expect_column_values_to_be_json_parseable": "WHERE NOT json_valid(<column>)",
    "expect_column_values_to_match_json_schema": "WHERE json_extract(<column>, '<path>') IS NULL",
    "expect_column_values_to_be_increasing": "QUALIFY <column> <= lag(<column>) OVER (ORDER BY <order>)",
    "expect_column_values_to_be_decreasing": "QUALIFY <column> >= lag(<column>) OVER (ORDER BY <order>)",
    "expect_column_values_to_not_be_outliers": "WHERE <column> NOT BETWEEN <lower> AND <upper>",
    "expect_column_kl_divergence_to_be_less_than": "GROUP BY <column> HAVING count(*) > <limit>",
    "expect_query_results_to_match_comparison": "EXCEPT SELECT * FROM <reference>",
    "expect_table_row_count_to_equal_other_table": "HAVING count(*) <> (SELECT count(*) FROM <reference>)",
}
"""Expectations that GX cannot run on DuckDB, or not on zero rows -> the heart of the SQL rule to write instead."""


@dataclass(frozen=True)
class Rule:
    """An entry of the suite and the expectation that GX runs for it."""

    entry: Entry
    expectation: Expectation

    @property
    def mostly(self) -> float:
        """The proportion of values that must be as expected."""
        return float(getattr(self.expectation, "mostly", 1.0))

    def columns(self) -> list[str]:
        """Columns that must be in the data for the rule to make sense."""
        if self.entry.type in ASK_FOR_COLUMNS:
            return []
        named = [name for key in COLUMN_KEYS for name in as_list(self.entry.kwargs.get(key))]
        return named + list(_condition_columns(self.entry.kwargs.get("row_condition")))


def build_rules(suite: Suite) -> list[Rule]:
    """All rules of a suite, or one ConfigurationError with all that is wrong with them."""
    for module in CUSTOM_EXPECTATIONS.values():
        import_module(module)
    problems: list[str] = []
    rules: list[Rule] = []
    for entry in suite.entries:
        found = list(_problems(entry))
        if not found:
            expectation, found = _construct(entry)
            if expectation is not None:
                rules.append(Rule(entry, expectation))
        problems += [f"{entry.label}: {problem}" for problem in found]
    if problems:
        raise suite_error(suite.path, problems)
    return rules


def _construct(entry: Entry) -> tuple[Expectation | None, list[str]]:
    """The expectation, marked with its number so that its result can be told from its neighbours'."""
    try:
        cls = get_expectation_impl(entry.type)
        expectation = cls(**entry.kwargs, severity=FailureSeverity(entry.severity), meta={"number": entry.number})
    except pydantic.ValidationError as error:
        return None, [f"kwargs.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    except (GreatExpectationsError, TypeError, ValueError) as error:
        return None, [f"kwargs: {error}"]
    if expectation.suite_parameter_options:
        return None, [f"suite parameters are not used here: {', '.join(expectation.suite_parameter_options)}"]
    return expectation, []


def _problems(entry: Entry) -> Iterator[str]:
    known = list_registered_expectation_implementations()
    if entry.type not in known:
        close = get_close_matches(entry.type, known, 3, 0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else "docs/add-a-validation.md lists what there is"
        yield f"unknown expectation type; {hint}"
    elif entry.type in NOT_ON_DUCKDB:
        yield (f"does not run on DuckDB; use {SQL_RULE} instead: SELECT ... FROM {{batch}} {NOT_ON_DUCKDB[entry.type]}")
    for key in entry.kwargs:
        if key in ENTRY_KEYS and key != "type":
            yield f"kwargs.{key}: belongs beside 'kwargs', not inside"
    if isinstance(entry.kwargs.get("row_condition"), str):
        yield (
            "kwargs.row_condition: text is not supported; allowed: an object such as "
            '{"type": "comparison", "column": {"name": "sex"}, "operator": "==", "parameter": "F"}'
        )
    yield from _type_problems(entry)
    yield from _pattern_problems(entry)
    if entry.type == SQL_RULE:
        yield from _sql_problems(entry.kwargs.get("unexpected_rows_query"))
    if entry.type == REFERENCE_CHECK and entry.kwargs.get("reference") == BATCH:
        yield f"kwargs.reference: {BATCH!r} is the name of the rows being checked; give the reference another"


def _type_problems(entry: Entry) -> Iterator[str]:
    for key in ("type_", "type_list"):
        for name in as_list(entry.kwargs.get(key)):
            try:
                canonical_type(name)
            except ValueError as error:
                yield f"kwargs.{key}: {error}; for example BIGINT, VARCHAR, DATE, TIMESTAMP, DECIMAL(10,2)"


def _pattern_problems(entry: Entry) -> Iterator[str]:
    """DuckDB's regular expressions are RE2: no look-around, no back references."""
    for key in ("regex", "regex_list"):
        for pattern in as_list(entry.kwargs.get(key)):
            try:
                with duckdb.connect() as connection:  # the shared one would be kept busy by a result nobody fetches
                    connection.execute("SELECT regexp_matches('', ?)", [pattern])
            except duckdb.Error as error:
                yield f"kwargs.{key}: {pattern!r} is not a pattern DuckDB (RE2) can match: {_first_line(error)}"


def _sql_problems(query: Any) -> Iterator[str]:
    """An SQL rule is one SELECT over {batch}."""
    if not isinstance(query, str):
        return  # GX says so itself
    try:
        if BATCH not in [field for _, field, _, _ in Formatter().parse(query)]:
            yield "kwargs.unexpected_rows_query: must read from {batch}"
        statements = duckdb.extract_statements(query.format(batch=BATCH))
    except (KeyError, IndexError, ValueError) as error:
        yield f"kwargs.unexpected_rows_query: braces of SQL are written twice, {{{{ and }}}}: {error}"
    except duckdb.Error as error:
        yield f"kwargs.unexpected_rows_query: {_first_line(error)}"
    else:
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            yield "kwargs.unexpected_rows_query: allowed: one SELECT statement"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _condition_columns(condition: Any) -> Iterator[str]:
    if isinstance(condition, list):
        for item in condition:
            yield from _condition_columns(item)
    elif isinstance(condition, dict):
        column = condition.get("column")
        if isinstance(column, dict) and isinstance(column.get("name"), str):
            yield column["name"]
        yield from _condition_columns(condition.get("conditions"))
