"""Great Expectations suites, checked by DuckDB over Parquet parts; bounded memory, and no row value ever leaves.

To add an expectation of your own: one file beside `exists_in_reference.py` and one line in CUSTOM_EXPECTATIONS.
Importing this package is cheap; Great Expectations, which takes seconds, is imported by the first check.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.etl.validation.lean_import import lean

if TYPE_CHECKING:
    from types import ModuleType

CUSTOM_EXPECTATIONS = {
    "expect_column_values_to_exist_in_reference": "include.etl.validation.exists_in_reference",
}
"""Expectation type, as suites write it -> the module that defines it."""


@dataclass(frozen=True)
class Reference:
    """A set of keys that rows of a source must exist in; suites and SQL rules refer to it by name."""

    name: str
    parts: Sequence[Path]
    """Parquet files with at least the columns that `referenced` asks for."""


@dataclass(frozen=True)
class Failure:
    """One expectation that was not met: counts and proportions only, never a value of a row."""

    expectation: str
    column: str | None
    severity: str
    observed: str | int | float | None
    """A count, a proportion or a fact of the schema; None where it would be data (minimum, mean, samples)."""
    unexpected_count: int | None
    unexpected_percent: float | None
    """Of the values that were checked, 0 to 100."""
    message: str
    number: int = 0
    """Its place in the suite, counted from 1."""


@dataclass(frozen=True)
class Verdict:
    """What a suite found; `dataclasses.asdict` gives JSON."""

    success: bool
    """No critical expectation failed."""
    critical: list[Failure]
    warnings: list[Failure]
    rows: int
    expectations: int
    seconds: float
    result_json: str
    report_html: str
    set_aside: int = 0
    """Rows that break critical expectations and are left out, so that the run goes on with the others."""


def validate(
    source: str,
    parts: Sequence[Path],
    suite: Path,
    references: Sequence[Reference],
    results_dir: Path,
    memory_limit_mb: int,
    context: Mapping[str, str] | None = None,
    set_aside: Callable[[Verdict], int] | None = None,
) -> Verdict:
    """Check the suite on the rows of `parts` and write `validation.json` and `validation.html` to `results_dir`.

    `context` are labels to print on the report (run, window). A failing expectation is a verdict, not an error.
    `set_aside` is asked before the report is written, which says what becomes of the run: how many rows it leaves out,
    none where the run has to end; its ValidationFailed is raised when the report is there.

    Raises:
        ConfigurationError: the suite is wrong, does not fit the data, lacks a reference, or asks for what DuckDB
            cannot do; nothing was written then.
        StorageError: a part cannot be read or a result cannot be written.
    """
    run = _quiet_import("include.etl.validation.runner")
    verdict: Verdict = run.validate(
        source, parts, suite, references, results_dir, memory_limit_mb, context or {}, set_aside
    )
    return verdict


def check_suite(path: Path) -> None:
    """Find every mistake that can be found without data; raises one ConfigurationError that lists them all."""
    from include.etl.validation.suites import read_suite

    _quiet_import("include.etl.validation.rules").build_rules(read_suite(path))


def referenced(suite: Path) -> dict[str, list[str]]:
    """The references that a suite needs: name -> columns. Does not import Great Expectations."""
    from include.etl.validation.suites import read_suite

    return read_suite(suite).references()


def _quiet_import(module: str) -> Any:
    """Import what needs Great Expectations; it imports two modules of Python itself that are deprecated."""
    # At import it logs a line for each of its hundreds of classes, and Airflow shows what a task logs.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings(), lean():
        warnings.filterwarnings("ignore", "module 'sre_(constants|parse)' is deprecated", DeprecationWarning)
        imported: ModuleType = import_module(module)
    return imported
