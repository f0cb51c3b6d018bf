"""Checks the source's expectation suite on the raw parts; a critical failure ends the run before publishing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import quarantine
from include.etl.config_sections import Reference
from include.etl.duck import share
from include.etl.engines import open_source
from include.etl.errors import ConfigurationError, ValidationFailed
from include.etl.handover import DELETED_AT, Extracted, Plan, Validated
from include.etl.horizon import degraded_by
from include.etl.publication import files, standing
from include.etl.quarantine import Quarantine
from include.etl.query import keys_query
from include.etl.records.run import Counter, Run, measured
from include.etl.records.set_aside import folder_of, nothing
from include.etl.slices import extracted_by
from include.etl.storage import link
from include.etl.validation import Failure, Verdict, referenced, validate
from include.etl.validation import Reference as Keys
from include.etl.validation.failing_rows import check_supported
from include.etl.validation.suites import read_suite

log = logging.getLogger("etl.validate")


def check(run: Run, plan: Plan, extracted: Sequence[Extracted]) -> Validated:
    """The suite's verdict, with a JSON result and an HTML report below `data/reports`.

    Raises:
        ValidationFailed: a critical expectation failed; the report says which and how often.
        ConfigurationError: the suite is wrong, or a reference cannot be had.
    """
    with measured(run, "validate") as counter:
        extracted = extracted_by(plan, extracted, run.source.source)
        counter.rows = sum(slice_.rows for slice_ in extracted)
        suite = run.source.suite_path
        if suite is None:
            nothing(folder_of(run.storage, run.source.source, run.key))
            log.warning("source %s has no expectation suite: nothing was checked", run.source.source)
            counter.facts.update(verdict="no suite", conditions=degraded_by([]))
            return Validated(verdict="no suite")
        parts = [run.storage.absolute(part) for slice_ in extracted for part in slice_.parts]
        reports = run.storage.folder("reports", run.source.source, run.key)
        labels = {"run": plan.run_id, "window": plan.window.label}
        if run.source.validation.on_failure == "quarantine":
            check_supported(read_suite(suite))
        keys, memory = _references(run, suite, counter), share(run.source.memory_limit_mb)
        found: list[Quarantine] = []

        def set_aside(verdict: Verdict) -> int:
            lines = [_line(failure) for failure in (*verdict.critical, *verdict.warnings)]
            counter.facts.update(failed_expectations=lines, quarantined=0, expectations=verdict.expectations)
            rejected = quarantine.set_aside(run, plan.window, parts, suite, verdict, keys)
            found.extend([rejected] if rejected else [])
            return rejected.rows if rejected else 0

        verdict = validate(run.source.source, parts, suite, keys, reports, memory, labels, set_aside)
        counter.facts["quarantined"] = verdict.set_aside
        judged = _judged(run, verdict, found[0] if found else None)
        counter.facts["verdict"] = judged.verdict
        return judged


def _judged(run: Run, verdict: Verdict, rejected: Quarantine | None) -> Validated:
    report = run.storage.relative(Path(verdict.report_html))
    for failure in verdict.warnings:
        log.warning("%s: %s", run.source.source, _line(failure))
    for reason, rows in rejected.reasons.items() if rejected else ():
        log.warning("%s: %d rows set aside: %s", run.source.source, rows, reason)
    if not verdict.success and not rejected:
        lines = "; ".join(_line(failure) for failure in verdict.critical)
        raise ValidationFailed(
            f"source {run.source.source!r}: {len(verdict.critical)} critical of {verdict.expectations} expectations "
            f"failed, nothing was published: {lines}. Report: {report}"
        )
    return Validated(
        verdict="quarantined" if rejected else "warnings" if verdict.warnings else "passed",
        quarantined=rejected.rows if rejected else 0,
        expectations=verdict.expectations,
        warnings=[_line(failure) for failure in verdict.warnings],
        result=run.storage.relative(Path(verdict.result_json)),
        report=report,
    )


def _line(failure: Failure) -> str:
    column = f" on {failure.column}" if failure.column else ""
    return f"[{failure.severity}] {failure.expectation}{column}: {failure.message}"


def _references(run: Run, suite: Path, counter: Counter) -> list[Keys]:
    """The key sets that the suite refers to: published data, or keys read from the source's own database."""
    needed = referenced(suite)
    for name in needed.keys() - run.source.validation.references.keys():
        known = ", ".join(run.source.validation.references) or "none yet"
        raise ConfigurationError(
            f"source {run.source.source!r}: {suite.name} refers to {name!r}; allowed: a name under "
            f"validation.references in {run.source.source}.yaml ({known})"
        )
    told: list[str] = []
    found = [
        _keys(run, name, run.source.validation.references[name], columns, told) for name, columns in needed.items()
    ]
    counter.facts["conditions"] = degraded_by(told)
    return found


def _keys(run: Run, name: str, reference: Reference, columns: Sequence[str], told: list[str]) -> Keys:
    """The keys; `told` gets what the session could not make sure of: a key that it missed makes good rows bad ones."""
    if reference.source:
        return Keys(name, _published(run, reference.source, columns))
    path = _folder(run) / f"{name}.parquet"
    engine = open_source(run.source, f"moh-etl {run.source.source} reference {name}")
    query = keys_query(str(reference.table), reference.columns, engine.dialect)
    with engine.session() as session:
        origins = session.origins(query)
        stream = session.stream(query)
        _write(path, stream.schema, stream.batches)
        unsure = [*session.unpinned, *origins.unchecked, *origins.hidden]
    for why in unsure:
        told.append(f"reference {name}: {why}: rows may have been taken for bad that are not")
        log.warning("%s: %s", run.source.source, told[-1])
    return Keys(name, [path])


def _folder(run: Run) -> Path:
    return run.storage.folder("interim", run.source.source, f"{run.key}-references")


def _published(run: Run, other: str, columns: Sequence[str]) -> list[Path]:
    """Parquet files with another source's published rows; made from its other formats where it has no Parquet."""
    with standing.held(run.storage, other, f"validation of run {run.run_id} of {run.dag_id}") as found:
        if not found.manifests:
            raise ConfigurationError(
                f"source {run.source.source!r}: reference source {other!r} has not published anything yet; run it first"
            )
        return list(_copies(run, other, columns, found))


def _copies(run: Run, other: str, columns: Sequence[str], found: standing.Standing) -> Iterator[Path]:
    """The files under names of this run's own, which stay whatever is published next."""
    for publication in found.manifests:
        wanted = "parquet" if any(file.format == "parquet" for file in publication.files) else None
        first = wanted or publication.files[0].format
        for number, file in enumerate(file for file in publication.files if file.format == first):
            path = _folder(run) / f"{other}-{publication.window.name}-{number}.parquet"
            path.unlink(missing_ok=True)
            if wanted and publication.partition_by not in columns and not file.deleted:
                link(found.folder_of(file) / file.path, path)
            else:
                reader = files.read(found.folder_of(file), publication, file)
                _write(path, reader.schema, _alive(reader) if file.deleted else reader)
            yield path


def _alive(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The rows that are not marked as deleted: a reference to the others leads nowhere."""
    for batch in reader:
        yield batch.filter(batch.column(DELETED_AT).is_null())


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
