"""What one expectation found, reduced to what may leave the run: counts, proportions, facts of the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from great_expectations.core import ExpectationValidationResult
from great_expectations.expectations.expectation import ColumnAggregateExpectation

from include.etl.validation import Failure
from include.etl.validation.rules import COLUMN_KEYS, SQL_RULE, Rule

COUNTED = (
    "expect_table_row_count_",
    "expect_table_column_count_",
    "expect_column_unique_value_count_",
    "expect_column_proportion_of_",
)
"""Expectations whose observed value is a count or a proportion. Any other observed value is data, and is dropped."""

TYPED = (
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_column_type_to_be",
)
"""Expectations whose observed value is the name of a column's type."""

NAMED = ("expect_table_columns_to_match_set", "expect_table_columns_to_match_ordered_list")
"""Expectations whose observed value is a list of column names."""

MADE_OF_SQL = ("Binder", "Catalog", "Parser", "Syntax", "Permission", "NotImplemented", "OutOfMemory", "IO")
"""DuckDB errors whose text speaks of the query; that of others (conversions) may quote a row."""

GX_REFUSALS = re.compile(
    r"No provider found|can't compare|cannot be computed on|is not implemented|cannot both be None"
)


@dataclass(frozen=True)
class Outcome:
    """The result of one expectation, as the JSON result and the report show it."""

    number: int
    expectation: str
    column: str | None
    severity: str
    result: Literal["passed", "failed", "not checked"]
    observed: str | int | float | None
    unexpected_count: int | None
    unexpected_percent: float | None
    message: str
    rule: dict[str, Any]
    """The rest of the suite's kwargs, as written."""
    description: str

    def failure(self) -> Failure:
        """The part of it that the verdict carries."""
        return Failure(
            expectation=self.expectation,
            column=self.column,
            severity=self.severity,
            observed=self.observed,
            unexpected_count=self.unexpected_count,
            unexpected_percent=self.unexpected_percent,
            message=self.message,
            number=self.number,
        )


def outcome(rule: Rule, result: ExpectationValidationResult, rows: int) -> Outcome:
    """Take from GX's result what may leave the run, by name; all else stays behind."""
    entry, found = rule.entry, dict(result.result)
    observed = _observed(entry.type, found)
    is_sql = entry.type == SQL_RULE
    count = found.get("observed_value" if is_sql else "unexpected_count")
    percent = None if is_sql else found.get("unexpected_percent")
    # The mean of nothing is not wrong: whether no rows are acceptable is for a row count to say.
    nothing_to_judge = rows == 0 and not result.success and isinstance(rule.expectation, ColumnAggregateExpectation)
    return Outcome(
        number=entry.number,
        expectation=entry.type,
        column=", ".join(rule.columns()) or None,
        severity=entry.severity,
        result="not checked" if nothing_to_judge else "passed" if result.success else "failed",
        observed=observed,
        unexpected_count=None if count is None else int(count),
        unexpected_percent=None if percent is None else round(float(percent), 4),
        message="there are no rows" if nothing_to_judge else _message(rule, found, observed, count, percent),
        rule={key: value for key, value in entry.kwargs.items() if key not in COLUMN_KEYS},
        description=entry.description,
    )


def _observed(type_: str, found: dict[str, Any]) -> str | int | float | None:
    value = found.get("observed_value")
    if type_.startswith(COUNTED) and isinstance(value, int | float):
        return value
    if type_ in TYPED:
        return str(value)
    if type_ in NAMED and isinstance(value, list):
        return ", ".join(map(str, value))
    return None


def _message(rule: Rule, found: dict[str, Any], observed: Any, count: Any, percent: Any) -> str:
    if rule.entry.type == SQL_RULE:
        return f"{count:,} rows break the rule"
    if count is not None and percent is not None:
        allowed = f"; allowed are {100 * (1 - rule.mostly):.4g} %" if rule.mostly < 1 else ""
        return f"{int(count):,} values ({percent:.4g} %) are not as expected{allowed}"
    if count is not None:
        return f"{int(count):,} values are not as expected"
    if rule.entry.type in NAMED:
        return _name_message(found)
    if observed is not None:
        return f"observed {observed:,}" if isinstance(observed, int | float) else f"observed {observed}"
    if rule.entry.type == "expect_column_to_exist":
        return f"column {rule.entry.kwargs.get('column')!r}"
    return "the observed value is data and is not shown"


def _name_message(found: dict[str, Any]) -> str:
    mismatched = (found.get("details") or {}).get("mismatched") or {}
    if not isinstance(mismatched, dict):
        return "columns in another order or with other names"
    parts = [f"{kind}: {', '.join(map(str, names))}" for kind, names in mismatched.items() if names]
    return "; ".join(parts) or "columns as expected"


def raised(result: ExpectationValidationResult) -> str | None:
    """Why GX could not compute the expectation, in words that cannot hold row data; None if it could."""
    info = result.exception_info or {}
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [str(entry.get("exception_message")) for entry in entries if entry.get("raised_exception")]
    return _without_data(messages[0]) if messages else None


def _without_data(message: str) -> str:
    duckdb_error = re.search(r"\(_?duckdb\.(\w+)Exception\) ([^\n]*)", message)
    if duckdb_error is None:
        text = message.strip("[]\"'") if GX_REFUSALS.search(message) else "its computation failed"
        return text.splitlines()[0]
    kind, text = duckdb_error.groups()
    if kind == "OutOfMemory":
        return "DuckDB ran out of memory; raise memory_limit_mb of the source"
    return text if kind in MADE_OF_SQL else f"DuckDB: {kind} error (its text may quote a row and is not shown)"
