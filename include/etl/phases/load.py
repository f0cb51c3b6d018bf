"""Publishes: files, then the manifest, then the checkpoint. Killed anywhere, the next try ends at the same result."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import duck, quarantine
from include.etl.completeness import publication as completeness
from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import Extracted, Loaded, Plan, Transformed, Validated, Window
from include.etl.names import published_name
from include.etl.publication import files, journal
from include.etl.publication.overlap import Change, Overlap
from include.etl.records import checkpoint, manifest
from include.etl.records.manifest import ColumnType, Manifest, PublishedFile, Rows
from include.etl.records.run import Run, measured, summary
from include.etl.storage import make_folder, remove_folder

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
        DataError: a format cannot hold the data.
        StorageError: what was written is not what was read back.
    """
    with measured(run, "load") as counter, run.storage.lock(run.source.source):
        folder = manifest.published_folder(run.storage, run.source.source)
        staging = run.storage.folder("staging", run.source.source)
        journal.finish(staging, folder)  # of a publication that was stopped, whoever's it was
        make_folder(staging)
        try:
            written = _prepare(run, plan, extracted, validated, transformed, folder, staging)
        except BaseException:
            remove_folder(staging)
            raise
        journal.finish(staging, folder)
        if plan.releases:
            quarantine.mark_released(run, plan.releases, plan.triggered_by, plan.reason)
        moved = _move_checkpoint(run, plan, variables)
        path = run.storage.relative(folder / manifest.path_of(plan.window))
        counter.rows, counter.bytes = written.rows.published, sum(file.bytes for file in written.files)
        counter.facts.update(files=len(written.files), manifest=path, checkpoint=moved)
        return Loaded(manifest=path, rows=written.rows.published, files=len(written.files), checkpoint=moved)


def _prepare(
    run: Run,
    plan: Plan,
    extracted: Sequence[Extracted],
    validated: Validated,
    transformed: Transformed,
    folder: Path,
    staging: Path,
) -> Manifest:
    """Everything that takes time, away from readers' eyes; ends with the journal, which makes it certain."""
    read_at = min(slice_.extracted_at for slice_ in extracted)
    interim = run.storage.absolute(transformed.parts[0])
    interim, new, changes = _stage(run, plan.window, read_at, interim, folder, staging)
    written = _describe(run, plan, extracted, validated, transformed, interim, new)
    proof = completeness.prove(run, extracted, written, interim, staging, changes)
    written = written.model_copy(update={"completeness": proof})
    manifests = {**_others(changes), manifest.path_of(plan.window): written.model_dump(mode="json")}
    renames = {f"new/{file.path}": file.path for file in new}
    renames |= {f"rewritten/{change.new.path}": change.new.path for change in changes if change.new}
    removals = [change.old.path for change in changes if not change.new]
    removals += _stale(run, plan.window, {file.path for file in new})
    journal.write(staging, journal.Journal(renames=renames, removals=removals, manifests=manifests))
    return written


def _stage(
    run: Run, window: Window, read_at: datetime, interim: Path, folder: Path, staging: Path
) -> tuple[Path, list[PublishedFile], list[Change]]:
    """The new files, and others' files without those rows."""
    source = run.source
    schema = files.published_schema(interim)
    key, cursor = [_kept(source, column, schema) for column in source.primary_key], None
    if source.cursor:
        cursor = _kept(source, source.cursor.column, schema)
    others = [found for found in manifest.current(run.storage, source.source) if found.window.name != window.name]
    with duck.session(source.memory_limit_mb, staging / ".scratch") as connection:
        overlap = Overlap(connection, source, window, read_at, folder, others, key, cursor, interim)
        interim = overlap.without_published(staging / "interim.parquet")
        new = files.write(source, window, interim, staging / "new", cursor)
        return interim, new, overlap.changes(interim, staging / "rewritten")


def _stale(run: Run, window: Window, new: set[str]) -> list[str]:
    """Files of an earlier publication of the same window that this one does not replace by its own."""
    found = [one for one in manifest.current(run.storage, run.source.source) if one.window.name == window.name]
    return [file.path for one in found for file in one.files if file.path not in new]


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
    interim: Path,
    new: list[PublishedFile],
) -> Manifest:
    source, schema = run.source, files.published_schema(interim)
    published = pq.read_metadata(interim).num_rows
    removed = dict(transformed.removed)
    if transformed.rows > published:
        removed["published before, read again by the lookback"] = transformed.rows - published
    return Manifest(
        source=source.source,
        window=plan.window,
        bound=plan.bound,
        dag_id=run.dag_id,
        run_id=run.run_id,
        reason=plan.reason,
        triggered_by=plan.triggered_by,
        query_hash=extracted[0].query_hash,
        config_hash=hashlib.sha256(source.model_dump_json().encode()).hexdigest(),
        arrow_schema=files.encoded(schema),
        columns=[ColumnType(name=field.name, type=str(field.type)) for field in schema],
        partition_by=source.output.partition_by,
        cursor=published_name(source, source.cursor.column) if source.cursor else None,
        key=[published_name(source, column) for column in source.primary_key],
        rows=Rows(extracted=sum(part.rows for part in extracted), removed=removed, published=published),
        files=new,
        validation=validated.model_dump(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        published_at=datetime.now(UTC),
        phases=summary(run)["phases"],
    )


def _kept(source: Source, column: str, schema: pa.Schema) -> str:
    """The published name of a key or cursor column, which own transformations must leave in place."""
    name = published_name(source, column)
    if name not in schema.names:
        raise ConfigurationError(
            f"source {source.source!r}: the published rows have no column {name!r} (key or cursor); keep it in "
            f"transform.steps; they have: {', '.join(schema.names)}"
        )
    return name


def _move_checkpoint(run: Run, plan: Plan, variables: checkpoint.Variables) -> str | None:
    """Incremental and full runs move it to the window's end; a backfill or range never touches it."""
    if run.source.cursor is None or plan.window.mode not in ("incremental", "full"):
        return None
    moved = checkpoint.advance(run.source, plan.window.end, run.run_id, variables, run.storage)
    return moved.bound.isoformat()
