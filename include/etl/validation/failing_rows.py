"""Which rows break an expectation: the condition, in DuckDB's SQL, that Great Expectations only counts.

To support another expectation about single rows: one function and one line in CONDITIONS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb

from include.etl.duck import collect_repeated, quote, text
from include.etl.validation.suites import BATCH, Entry, Suite, as_list, suite_error

ABOUT_ROWS = (
    "expect_column_values_",
    "expect_column_value_lengths_",
    "expect_column_pair_",
    "expect_multicolumn_",
    "expect_compound_columns_",
    "expect_select_column_values_",
)
ABOUT_TYPES = ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list")
"""Named like expectations about rows, but about the column: no row is at fault."""
Kwargs = Mapping[str, Any]


def check_supported(suite: Suite) -> None:
    """Refuse critical expectations about rows whose rows cannot be told.

    Raises:
        ConfigurationError: with what is supported.
    """
    if problems := [problem for entry in suite.entries for problem in _problems(entry)]:
        raise suite_error(suite.path, problems)


def is_about_rows(type_: str) -> bool:
    """Whether single rows break this expectation, and not the table as a whole."""
    return type_.startswith(ABOUT_ROWS) and type_ not in ABOUT_TYPES


def prepare(connection: duckdb.DuckDBPyConnection, entry: Entry) -> None:
    """Make what the condition refers to beside the view `batch`; to be called before each condition is used."""
    if CONDITIONS[entry.type] is _twice:
        collect_repeated(connection, BATCH, [_column(entry.kwargs)])


def condition(entry: Entry) -> str:
    """The condition that the failing rows of the view `batch` meet."""
    return CONDITIONS[entry.type](entry.kwargs)


def _problems(entry: Entry) -> Iterator[str]:
    if entry.severity != "critical" or not is_about_rows(entry.type):
        return
    if entry.type not in CONDITIONS:
        yield (
            f"{entry.label}: validation.on_failure: quarantine cannot tell the rows that break it; allowed: severity "
            f"warning, on_failure: stop, or one of: {', '.join(CONDITIONS)}"
        )
    elif entry.kwargs.get("row_condition") is not None:
        yield f"{entry.label}: kwargs.row_condition: not with validation.on_failure: quarantine; allowed: none"


def _literal(value: Any) -> str:
    """A value of the suite; text takes the type of the column that it is compared with."""
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, int | float) else text(str(value))


def _column(kwargs: Kwargs, key: str = "column") -> str:
    return quote(str(kwargs[key]))


def _set(kwargs: Kwargs) -> str:
    return ", ".join(_literal(value) for value in kwargs.get("value_set") or []) or "NULL"


def _in_set(kwargs: Kwargs) -> str:
    return f"{_column(kwargs)} IS NOT NULL AND ({_column(kwargs)} IN ({_set(kwargs)})) IS NOT TRUE"


def _limits(value: str, kwargs: Kwargs) -> str:
    """The value lies outside; `strict_min` and `strict_max` leave the limits themselves out."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    sides = []
    if low is not None:
        sides.append(f"{value} {'<=' if kwargs.get('strict_min') else '<'} {_literal(low)}")
    if high is not None:
        sides.append(f"{value} {'>=' if kwargs.get('strict_max') else '>'} {_literal(high)}")
    return f"({' OR '.join(sides)})"


def _regex(kwargs: Kwargs) -> str:
    return f"regexp_matches({_column(kwargs)}, {text(str(kwargs['regex']))})"


def _twice(kwargs: Kwargs) -> str:
    """All copies are set aside: which of them is the right one, nobody can tell from here. See `prepare`."""
    column = _column(kwargs)
    return f"{column} IN (SELECT {column} FROM _repeated)"


def _not_in_reference(kwargs: Kwargs) -> str:
    mine, theirs = as_list(kwargs["column"]), as_list(kwargs["reference_column"])
    known = " AND ".join(f"{BATCH}.{quote(name)} IS NOT NULL" for name in mine)
    same = " AND ".join(f"{BATCH}.{quote(a)} = known.{quote(b)}" for a, b in zip(mine, theirs, strict=True))
    return f"{known} AND NOT EXISTS (SELECT 1 FROM {quote(kwargs['reference'])} AS known WHERE {same})"


def _not_greater(kwargs: Kwargs) -> str:
    wrong = "<" if kwargs.get("or_equal") else "<="
    return f"{_column(kwargs, 'column_A')} {wrong} {_column(kwargs, 'column_B')}"


CONDITIONS: Mapping[str, Callable[[Kwargs], str]] = {
    "expect_column_values_to_not_be_null": lambda kwargs: f"{_column(kwargs)} IS NULL",
    "expect_column_values_to_be_null": lambda kwargs: f"{_column(kwargs)} IS NOT NULL",
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": lambda kwargs: f"{_column(kwargs)} IN ({_set(kwargs)})",
    "expect_column_values_to_be_between": lambda kwargs: _limits(_column(kwargs), kwargs),
    "expect_column_value_lengths_to_be_between": lambda kwargs: _limits(f"length({_column(kwargs)})", kwargs),
    "expect_column_values_to_match_regex": lambda kwargs: f"NOT {_regex(kwargs)}",
    "expect_column_values_to_not_match_regex": _regex,
    "expect_column_values_to_be_unique": _twice,
    "expect_column_values_to_exist_in_reference": _not_in_reference,
    "expect_column_pair_values_a_to_be_greater_than_b": _not_greater,
}
