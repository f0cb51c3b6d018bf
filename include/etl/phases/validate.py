"""Checks the source's expectation suite on the raw parts; a critical failure ends the run before publishing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.etl.config import Reference
from include.etl.duck import share
from include.etl.engines import open_source
from include.etl.errors import ConfigurationError, ValidationFailed
from include.etl.handover import Extracted, Plan, Validated
from include.etl.publication import files
from include.etl.query import keys_query
from include.etl.records import manifest
from include.etl.records.run import Run, measured
from include.etl.validation import Failure, Verdict, referenced, validate
from include.etl.validation import Reference as Keys

log = logging.getLogger("etl.validate")


def check(run: Run, plan: Plan, extracted: Sequence[Extracted]) -> Validated:
    """The suite's verdict, with a JSON result and an HTML report below `data/reports`.

    Raises:
        ValidationFailed: a critical expectation failed; the report says which and how often.
        ConfigurationError: the suite is wrong, or a reference cannot be had.
    """
    with measured(run, "validate") as counter:
        counter.rows = sum(slice_.rows for slice_ in extracted)
        suite = run.source.suite_path
        if suite is None:
            log.warning("source %s has no expectation suite: nothing was checked", run.source.source)
            return Validated(verdict="no suite")
        parts = [run.storage.absolute(part) for slice_ in extracted for part in slice_.parts]
        reports = run.storage.folder("reports", run.source.source, run.key)
        labels = {"run": plan.run_id, "window": plan.window.label}
        keys, memory = _references(run, suite), share(run.source.memory_limit_mb, part=10)
        verdict = validate(run.source.source, parts, suite, keys, reports, memory, labels)
        counter.facts["failed_expectations"] = [_line(failure) for failure in (*verdict.critical, *verdict.warnings)]
        return _judged(run, verdict)


def _judged(run: Run, verdict: Verdict) -> Validated:
    report = run.storage.relative(Path(verdict.report_html))
    for failure in verdict.warnings:
        log.warning("%s: %s", run.source.source, _line(failure))
    if not verdict.success:
        lines = "; ".join(_line(failure) for failure in verdict.critical)
        raise ValidationFailed(
            f"source {run.source.source!r}: {len(verdict.critical)} critical of {verdict.expectations} expectations "
            f"failed, nothing was published: {lines}. Report: {report}"
        )
    return Validated(
        verdict="warnings" if verdict.warnings else "passed",
        expectations=verdict.expectations,
        warnings=[_line(failure) for failure in verdict.warnings],
        result=run.storage.relative(Path(verdict.result_json)),
        report=report,
    )


def _line(failure: Failure) -> str:
    column = f" on {failure.column}" if failure.column else ""
    return f"[{failure.severity}] {failure.expectation}{column}: {failure.message}"


def _references(run: Run, suite: Path) -> list[Keys]:
    """The key sets that the suite refers to: published data, or keys read from the source's own database."""
    needed = referenced(suite)
    for name in needed.keys() - run.source.validation.references.keys():
        known = ", ".join(run.source.validation.references) or "none yet"
        raise ConfigurationError(
            f"source {run.source.source!r}: {suite.name} refers to {name!r}; allowed: a name under "
            f"validation.references in {run.source.source}.yaml ({known})"
        )
    return [_keys(run, name, run.source.validation.references[name], columns) for name, columns in needed.items()]


def _keys(run: Run, name: str, reference: Reference, columns: Sequence[str]) -> Keys:
    if reference.source:
        return Keys(name, _published(run, reference.source, columns))
    path = _folder(run) / f"{name}.parquet"
    engine = open_source(run.source, f"moh-etl {run.source.source} reference {name}")
    with engine.session() as session:
        stream = session.stream(keys_query(str(reference.table), reference.columns, engine.dialect))
        _write(path, stream.schema, stream.batches)
    return Keys(name, [path])


def _folder(run: Run) -> Path:
    return run.storage.folder("interim", run.source.source, f"{run.key}-references")


def _published(run: Run, other: str, columns: Sequence[str]) -> list[Path]:
    """Parquet files with another source's published rows; made from its other formats where it has no Parquet."""
    found = manifest.current(run.storage, other)
    if not found:
        raise ConfigurationError(
            f"source {run.source.source!r}: reference source {other!r} has not published anything yet; run it first"
        )
    folder, paths = manifest.published_folder(run.storage, other), []
    for publication in found:
        wanted = "parquet" if any(file.format == "parquet" for file in publication.files) else None
        first = wanted or publication.files[0].format
        for number, file in enumerate(file for file in publication.files if file.format == first):
            if wanted and publication.partition_by not in columns:
                paths.append(folder / file.path)
                continue
            path = _folder(run) / f"{other}-{publication.window.name}-{number}.parquet"
            reader = files.read(folder, publication, file)
            _write(path, reader.schema, reader)
            paths.append(path)
    return paths


def _write(path: Path, schema: pa.Schema, batches: pa.RecordBatchReader) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
