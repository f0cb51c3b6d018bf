"""Publishes: files, then the manifest, then the checkpoint. Killed anywhere, the next try ends at the same result."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import quarantine_decisions
from include.etl.completeness import publication as completeness
from include.etl.completeness.replaced import published_before
from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import Bound, Extracted, Loaded, Plan, Transformed, Validated, Window
from include.etl.handover import written as position_text
from include.etl.key_equality import of_slices
from include.etl.names import published_name
from include.etl.publication import files, journal
from include.etl.publication import schema as schemas
from include.etl.publication.prepare import Prepared, prepare
from include.etl.publication.rows import Change, NewRows
from include.etl.records import checkpoint, covers, extraction_audit, manifest
from include.etl.records.manifest import ColumnType, Manifest, Rows, SchemaChange
from include.etl.records.run import Counter, Run, measured, summary
from include.etl.records.set_aside import folder_of
from include.etl.slices import extracted_by
from include.etl.storage import check_one_file_system, make_folder

log = logging.getLogger("etl.load")
_PACKAGES = ("apache-airflow", "duckdb", "great-expectations", "pandas", "pyarrow")


def load(
    run: Run,
    plan: Plan,
    extracted: Sequence[Extracted],
    validated: Validated,
    transformed: Transformed,
    variables: checkpoint.Variables,
) -> Loaded:
    """Publish the interim rows of a run that has been validated.

    Raises:
        ConfigurationError: the partition, key or cursor column is not among the published ones.
        SchemaChanged: the columns differ from those published before, more than the source allows.
        DataError: a format cannot hold the data; more rows have left the source than `max_deletes` allows.
        StorageError: what was written is not what was read back.
    """
    with measured(run, "load") as counter, run.storage.lock(run.source.source, f"run {run.run_id} of {run.dag_id}"):
        extracted = extracted_by(plan, extracted, run.source.source)
        folder = manifest.published_folder(run.storage, run.source.source)
        staging = run.storage.folder("staging", run.source.source)
        journal.finish(staging, folder)  # of a publication that was stopped, whoever's it was
        make_folder(staging)
        check_one_file_system(staging, folder)
        try:
            written = _prepare(run, plan, extracted, validated, transformed, folder, staging, counter)
        except BaseException:
            journal.discard(staging)
            raise
        path = run.storage.relative(folder / manifest.path_of(plan.window))
        counter.facts["manifest"] = path  # whatever fails from here on: the journal has made it certain
        journal.finish(staging, folder)
        extraction_audit.published(run, plan, written)
        if plan.releases:
            quarantine_decisions.mark_released(run, plan.releases, plan.triggered_by, plan.reason)
        moved = _move_checkpoint(run, plan, variables, counter)
        counter.rows, counter.bytes = written.rows.published, sum(file.bytes for file in written.files)
        counter.facts.update(files=len(written.files), checkpoint=moved, deleted=written.deleted)
        return Loaded(manifest=path, rows=written.rows.published, files=len(written.files), checkpoint=moved)


def _prepare(
    run: Run,
    plan: Plan,
    extracted: Sequence[Extracted],
    validated: Validated,
    transformed: Transformed,
    folder: Path,
    staging: Path,
    counter: Counter,
) -> Manifest:
    """Everything that takes time, away from readers' eyes; ends with the journal, which makes it certain."""
    raw = [run.storage.absolute(part) for slice_ in extracted for part in slice_.parts]
    complete = transformed.rows == sum(slice_.rows for slice_ in extracted)
    rows = _new_rows(run, plan, extracted, run.storage.absolute(transformed.parts[0]), [] if complete else raw)
    standing = manifest.current(run.storage, run.source.source)
    drift = _schema_changes(rows, standing, counter)
    prepared = prepare(rows, standing, folder, staging)
    new, changes = prepared.files, prepared.changes
    again = published_before(rows, prepared, standing, folder, staging)
    written = _describe(run, plan, extracted, validated, transformed, prepared, again)
    source_schema = schemas.encoded(pq.read_schema(raw[0]))
    written = written.model_copy(update={"source_schema": source_schema, "schema_changes": drift})
    proof = completeness.prove(run, extracted, written, prepared.interim, staging, changes, transformed.unverified)
    written = written.model_copy(update={"completeness": proof})
    others = _others(changes)
    gone = [one for one in standing if others.get(manifest.path_of(one.window), one) is None]
    written = written.model_copy(update={"covers": covers.of(plan.window, [*gone, *_earlier(standing, plan.window)])})
    manifests = {manifest.path_of(plan.window): written.model_dump(mode="json"), **others}
    renames = {f"new/{file.path}": file.path for file in new}
    rewrites = {f"rewritten/{change.new.path}": change.new.path for change in changes if change.new}
    removals = [change.old.path for change in changes if not change.new]
    removals += _stale(run, plan.window, {file.path for file in new})
    aside = run.storage.relative(folder_of(run.storage, run.source.source, run.key))
    listed = journal.Journal(
        renames=renames, manifests=manifests, rewrites=rewrites, removals=removals, set_aside=aside
    )
    journal.write(staging, listed)
    return written


def _new_rows(run: Run, plan: Plan, extracted: Sequence[Extracted], interim: Path, raw: Sequence[Path]) -> NewRows:
    source, schema = run.source, files.published_schema(interim)
    key, cursor = [_kept(source, column, schema) for column in source.primary_key], None
    if source.cursor:
        cursor = _kept(source, source.cursor.column, schema)
    read_at = min(slice_.extracted_at for slice_ in extracted)
    equal = {published_name(source, name): equality for name, equality in of_slices(extracted).items()}
    return NewRows(source, plan.window, read_at, interim, key, cursor, raw, equal, plan.keep_published)


def _schema_changes(new: NewRows, standing: Sequence[Manifest], counter: Counter) -> list[SchemaChange]:
    """How the columns differ from those published before, if they may."""
    changes = schemas.published_changes(new.source, new.schema, standing)
    full = new.window.mode == "full"
    staying = [one for one in standing if one.window.name != new.window.name]
    apart = schemas.unreadable(new.schema, [one for one in staying if not full or one.published_at > new.read_at])
    if changes:
        counter.facts["schema_changes"] = [str(change) for change in changes]
    told = [*changes, *(change for change in apart if change not in changes)]
    schemas.judge(new.source, told, replaces=full and not apart)
    return changes


def _stale(run: Run, window: Window, new: set[str]) -> list[str]:
    """Files of an earlier publication of the same window that this one does not replace by its own."""
    found = _earlier(manifest.current(run.storage, run.source.source), window)
    return [file.path for one in found for file in one.files if file.path not in new]


def _earlier(standing: Sequence[Manifest], window: Window) -> list[Manifest]:
    """The window's own earlier publication, if there is one."""
    return [one for one in standing if one.window.name == window.name]


def _others(changes: Sequence[Change]) -> dict[str, dict[str, Any] | None]:
    """Other publications' manifests, saying what is left of them; one that is left without files goes."""
    manifests: dict[str, dict[str, Any] | None] = {}
    for name in dict.fromkeys(change.manifest.window.name for change in changes):
        mine = [change for change in changes if change.manifest.window.name == name]
        old, replaced = mine[0].manifest, {change.old.path: change.new for change in mine}
        left = [new for file in old.files if (new := replaced.get(file.path, file)) is not None]
        first = old.files[0].format
        gone = sum(f.rows for f in old.files if f.format == first) - sum(f.rows for f in left if f.format == first)
        update = {"files": left, "replaced_later": old.replaced_later + gone}
        content = old.model_copy(update=update).model_dump(mode="json") if left else None
        manifests[manifest.path_of(old.window)] = content
    return manifests


def _describe(
    run: Run,
    plan: Plan,
    extracted: Sequence[Extracted],
    validated: Validated,
    transformed: Transformed,
    prepared: Prepared,
    again: int,
) -> Manifest:
    source, schema = run.source, files.published_schema(prepared.interim)
    removed = dict(transformed.removed)
    if again:
        why = "read again by the lookback" if source.load == "append" else "in this version or a newer one"
        why += ", or found deleted since" if source.deletes == "mark" else ""
        removed[f"{manifest.AGAIN}, {why}"] = again
    return Manifest(
        source=source.source,
        window=plan.window,
        bound=_bound(source, plan, extracted),
        consistency=_consistency(extracted),
        dag_id=run.dag_id,
        run_id=run.run_id,
        reason=plan.reason,
        triggered_by=plan.triggered_by,
        query_hash=extracted[0].query_hash,
        config_hash=hashlib.sha256(source.model_dump_json().encode()).hexdigest(),
        arrow_schema=schemas.encoded(schema),
        columns=[ColumnType(name=field.name, type=str(field.type)) for field in schema],
        partition_by=source.output.partition_by,
        cursor=published_name(source, source.cursor.column) if source.cursor else None,
        key=[published_name(source, column) for column in source.primary_key],
        caveats=_caveats(plan, extracted, transformed),
        rows=Rows(extracted=sum(part.rows for part in extracted), removed=removed, published=prepared.published),
        kept=prepared.kept,
        deleted=prepared.deleted,
        files=prepared.files,
        validation=validated.model_dump(),
        versions=_versions(),
        published_at=datetime.now(UTC),
        phases=summary(run)["phases"],
    )


@cache
def _versions() -> dict[str, str]:
    """What this process works with; looking it up in the file system takes longer than publishing a few rows."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _bound(source: Source, plan: Plan, extracted: Sequence[Extracted]) -> Bound:
    """The plan's; with what the names stood for where plan did not ask, as of a source without cursor.

    Raises:
        ConfigurationError: they did not stand for the same in all slices.
    """
    read = {tuple(slice_.relations) for slice_ in extracted}
    if len(read) > 1:
        listed = " and ".join(sorted(", ".join(relations) or "nothing" for relations in read))
        raise ConfigurationError(
            f"source {source.source!r}: its slices were read from different relations: {listed}; nothing was "
            "published. Write the schema before the table's name, and clear the run from its plan on"
        )
    return plan.bound.model_copy(update={"relations": plan.bound.relations or list(*read)})


def _caveats(plan: Plan, extracted: Sequence[Extracted], transformed: Transformed) -> list[str]:
    """What the phases could not make sure of, each thing once."""
    told = [*plan.bound.caveats, *(caveat for part in extracted for caveat in part.caveats), *transformed.caveats]
    return list(dict.fromkeys(told))


def _consistency(extracted: Sequence[Extracted]) -> manifest.Consistency:
    """Slices are read by several sessions, at several moments."""
    if any(part.consistency == "none" for part in extracted):
        return "none"
    return "one snapshot" if len(extracted) == 1 else "a snapshot per slice"


def _kept(source: Source, column: str, schema: pa.Schema) -> str:
    """The published name of a key or cursor column, which own transformations must leave in place."""
    name = published_name(source, column)
    if name not in schema.names:
        raise ConfigurationError(
            f"source {source.source!r}: the published rows have no column {name!r} (key or cursor); keep it in "
            f"transform.steps; they have: {', '.join(schema.names)}"
        )
    return name


def _move_checkpoint(run: Run, plan: Plan, variables: checkpoint.Variables, counter: Counter) -> str | None:
    """Incremental and full runs move it to the window's end; a backfill or range never touches it."""
    if run.source.cursor is None or plan.window.mode not in ("incremental", "full"):
        return None
    moved = checkpoint.advance(run.source, plan.window, run.run_id, variables, run.storage)
    bound = position_text(moved.bound) if moved else None
    if not checkpoint.follows(plan.window, moved):
        counter.facts["checkpoint_left"] = f"{bound or 'none'}, set after this run planned to read {plan.window.label}"
        log.warning("%s: the checkpoint stays: %s", run.source.source, counter.facts["checkpoint_left"])
    return bound
