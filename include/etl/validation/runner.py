"""Runs a suite: the views, Great Expectations on them, the verdict, its two files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import great_expectations as gx
import sqlalchemy as sa
from great_expectations.core import ExpectationSuite, ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent.interfaces import Batch

from include.etl.errors import StorageError
from include.etl.storage import make_folder, write_json
from include.etl.validation import (
    Reference,
    Verdict,
    unique_keys,  # noqa: F401 - imported, it counts in place of GX
)
from include.etl.validation.datasource import DuckDBDatasource, column_types, database
from include.etl.validation.outcomes import Outcome, outcome, raised
from include.etl.validation.report import write_report
from include.etl.validation.rules import SQL_RULE, Rule, build_rules
from include.etl.validation.suites import BATCH, Suite, read_suite, suite_error


def validate(
    source: str,
    parts: Sequence[Path],
    suite_path: Path,
    references: Sequence[Reference],
    results_dir: Path,
    memory_limit_mb: int,
    context: Mapping[str, str],
    set_aside: Callable[[Verdict], int] | None = None,
) -> Verdict:
    """See `include.etl.validation.validate`."""
    started = time.monotonic()
    suite = read_suite(suite_path)
    rules = build_rules(suite)
    views = _views(suite, parts, references)
    make_folder(results_dir)
    with _spill(results_dir) as spill, database(views, memory_limit_mb, spill) as connection:
        _check_columns(suite, rules, connection)
        rows = int(connection.exec_driver_sql(f"SELECT count(*) FROM {BATCH}").scalar_one())
        outcomes = _run(suite, rules, connection, rows)
    verdict = _verdict(outcomes, rows, time.monotonic() - started, results_dir)
    try:
        verdict = replace(verdict, set_aside=set_aside(verdict) if set_aside else 0)
    finally:  # also where the run has to end
        _write(source, suite, verdict, outcomes, context)
    return verdict


@contextmanager
def _spill(results_dir: Path) -> Iterator[Path]:
    """A folder for what does not fit in memory; gone afterwards."""
    try:
        folder = TemporaryDirectory(prefix=".spill-", dir=results_dir)
    except OSError as error:
        raise StorageError(f"folder {results_dir}: {error.strerror}") from error
    with folder as path:
        yield Path(path)


def _views(suite: Suite, parts: Sequence[Path], references: Sequence[Reference]) -> dict[str, Sequence[Path]]:
    needed, given = suite.references(), {reference.name: reference for reference in references}
    missing = [name for name in needed if name not in given]
    if missing:
        have = ", ".join(sorted(given)) or "none"
        raise suite_error(suite.path, [f"unknown reference {name!r}; this run provides: {have}" for name in missing])
    return {BATCH: parts, **{name: given[name].parts for name in needed}}


def _check_columns(suite: Suite, rules: list[Rule], connection: sa.Connection) -> None:
    exist = column_types(connection)
    problems = [
        f"{rule.entry.label}: column {name!r} is not in the data; its columns are {', '.join(exist)}"
        for rule in rules
        for name in rule.columns()
        if name not in exist
    ]
    for reference, needed in suite.references().items():
        has = column_types(connection, reference)
        problems += [
            f"reference {reference!r} has no column {name!r}; its columns are {', '.join(has)}"
            for name in needed
            if name not in has
        ]
    if problems:
        raise suite_error(suite.path, problems)


def _run(suite: Suite, rules: list[Rule], connection: sa.Connection, rows: int) -> list[Outcome]:
    with _nothing_logged():
        batch = _batch(connection)
        results = _results(batch, rules)
        broken = [rule for rule, result in zip(rules, results, strict=True) if raised(result)]
        problems = list(_problems(batch, broken))
    if problems:
        raise suite_error(suite.path, problems)
    return [outcome(rule, result, rows) for rule, result in zip(rules, results, strict=True)]


def _batch(connection: sa.Connection) -> Batch:
    """The rows as GX's batch, in a context that lives in memory and reports to nobody."""
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    datasource = context.data_sources.add_duckdb(DuckDBDatasource.over(connection))
    asset = datasource.add_table_asset(BATCH, table_name=BATCH)
    batch: Batch = asset.add_batch_definition_whole_table("whole").get_batch()
    return batch


def _results(batch: Batch, rules: list[Rule]) -> list[ExpectationValidationResult]:
    """Results in the order of the rules; all are computed together, in as few queries as GX can."""
    suite = ExpectationSuite(name="suite", expectations=[rule.expectation for rule in rules])
    found = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    by_number = {_number(result): result for result in found.results}
    return [by_number[rule.entry.number] for rule in rules]


def _number(result: ExpectationValidationResult) -> int:
    """The number that `rules.py` gave the expectation."""
    configuration = result.expectation_config
    assert configuration is not None
    assert configuration.meta is not None
    return int(configuration.meta["number"])


def _problems(batch: Batch, broken: list[Rule]) -> Iterator[str]:
    """GX blames a failed query on all expectations that shared it: run each alone to find the guilty."""
    for rule in broken:
        reason = raised(_results(batch, [rule])[0])
        if reason and reason.startswith("IO Error"):
            raise StorageError(f"{rule.entry.label}: {reason}")
        if reason:
            advice = "" if rule.entry.type == SQL_RULE else f"; {SQL_RULE} can state such a rule in SQL"
            columns = ", ".join(rule.columns())
            yield f"{rule.entry.label}{' on ' + columns if columns else ''}: {reason}{advice}"


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """GX logs the text of database errors, which may quote rows."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _verdict(outcomes: list[Outcome], rows: int, seconds: float, results_dir: Path) -> Verdict:
    failed = [found for found in outcomes if found.result == "failed"]
    critical = [found.failure() for found in failed if found.severity == "critical"]
    return Verdict(
        success=not critical,
        critical=critical,
        warnings=[found.failure() for found in failed if found.severity == "warning"],
        rows=rows,
        expectations=len(outcomes),
        seconds=round(seconds, 3),
        result_json=str(results_dir / "validation.json"),
        report_html=str(results_dir / "validation.html"),
    )


def _write(source: str, suite: Suite, verdict: Verdict, outcomes: list[Outcome], context: Mapping[str, str]) -> None:
    details: dict[str, Any] = {"source": source, "suite": suite.name, "context": dict(context)}
    write_json(
        Path(verdict.result_json), {**details, **asdict(verdict), "outcomes": [asdict(found) for found in outcomes]}
    )
    write_report(Path(verdict.report_html), source, suite.name, verdict, outcomes, context)
