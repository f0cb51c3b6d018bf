"""The later links: every published file, read back from where it is prepared, holds what it was written from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from include.etl import duck
from include.etl.completeness.checksums import kind_of
from include.etl.completeness.extraction import SliceTotals, recorded
from include.etl.completeness.totals import Fields, Totals, added, differences, of_batches, of_parquet, of_relation
from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Extracted
from include.etl.names import published_name
from include.etl.outputs import open_output
from include.etl.publication import files
from include.etl.publication.rows import Change
from include.etl.records.manifest import Check, Completeness, Manifest, PublishedFile
from include.etl.records.run import Run

READ = "source = raw parts"
KEPT = "raw parts - removed = published rows"
WRITTEN = "published rows = {} files"


def prove(
    run: Run,
    extracted: Sequence[Extracted],
    manifest: Manifest,
    interim: Path,
    staging: Path,
    changes: Sequence[Change],
    unverified: Sequence[str] = (),
) -> Completeness:
    """Read back what is about to be published from `staging`, and judge the whole chain.

    `unverified` is what transform could not prove.

    Raises:
        StorageError: a link is broken; the message says which, and both numbers.
    """
    source, slices = run.source, recorded(run, extracted)
    rejected, left_out = manifest.validation.get("quarantined", 0), manifest.rows.removed.get("quarantined", 0)
    if rejected != left_out:
        raise StorageError(
            f"source {source.source!r}: {rejected} rows were set aside by validate, {left_out} left out by transform; "
            "nothing was published. Clear the validate task to set them aside again"
        )
    fields = published_fields(source, files.schema_of(manifest))
    with duck.session(source.memory_limit_mb, staging / ".scratch-proof") as connection:
        rows = of_parquet(connection, [interim], fields)
        taken_over = manifest.kept + manifest.deleted
        kept = added(slice_.raw for slice_ in slices).rows - sum(manifest.rows.removed.values())
        checks = [_agreed(source, KEPT, Totals(rows=kept), Totals(rows=rows.rows - taken_over))]
        for name in source.output.formats:
            found = of_format(connection, staging / "new", manifest, name, fields)
            checks.append(_agreed(source, WRITTEN.format(name), rows, found))
        for change in changes:
            if change.new:
                _of_file(connection, staging / "rewritten", change.manifest, change.new, {})
    caveats = [*(caveat for part in extracted for caveat in part.caveats), *unverified]
    return _judged(slices, caveats, checks)


def of_format(
    connection: duckdb.DuckDBPyConnection, folder: Path, manifest: Manifest, name: str, fields: Fields
) -> Totals:
    """Totals of a publication's files of one format, each of which holds as many rows as the manifest says."""
    listed = [file for file in manifest.files if file.format == name]
    return added(_of_file(connection, folder, manifest, file, fields) for file in listed)


def published_fields(source: Source, schema: pa.Schema) -> Fields:
    """The columns to sum up in published files: those of `verify` that own steps have left in place, and summable."""
    names = [published_name(source, column) for column in source.verify.columns]
    return {
        name: schema.field(name).type for name in names if name in schema.names and kind_of(schema.field(name).type)
    }


def _of_file(
    connection: duckdb.DuckDBPyConnection, folder: Path, manifest: Manifest, file: PublishedFile, fields: Fields
) -> Totals:
    """Totals of one file, read with what reads it in the end: DuckDB for Parquet, the format's own reader else."""
    path, schema = folder / file.path, files.schema_of(manifest)
    if file.format == "parquet":
        found = of_relation(connection, _whole(path, file, manifest.partition_by), fields)
    elif not fields:
        found = Totals(rows=open_output(file.format).count(path, schema))
    else:
        found = of_batches(connection, open_output(file.format).read(path, schema), fields)
    if found.rows != file.rows:
        raise StorageError(
            f"source {manifest.source!r}: file {file.path}: {file.rows} rows were written, {found.rows} read back"
        )
    return found


def _whole(path: Path, file: PublishedFile, partition_by: str | None) -> str:
    """The rows of a Parquet file with the column that its folder is named after."""
    if partition_by is None:
        return duck.parquet([path])
    value = "NULL" if file.partition in (None, files.NO_VALUE) else duck.text(str(file.partition))
    return f"(SELECT *, {value}::DATE AS {duck.quote(partition_by)} FROM {duck.parquet([path])})"


def _agreed(source: Source, link: str, expected: Totals, found: Totals) -> Check:
    check = Check(link=link, expected=expected.shown(), found=found.shown())
    if lines := differences(check.expected, check.found):
        raise StorageError(
            f"source {source.source!r}: rows were lost or changed on the way ({link}): {'; '.join(lines)}; nothing was "
            "published and the checkpoint stays. Clear the run to do it again"
        )
    return check


def _judged(slices: Sequence[SliceTotals], caveats: Sequence[str], checks: list[Check]) -> Completeness:
    reasons = list(dict.fromkeys([*(slice_.reason for slice_ in slices if slice_.reason), *caveats]))
    counted = [slice_.source for slice_ in slices if slice_.source is not None]
    if len(counted) == len(slices):
        raw = added(slice_.raw for slice_ in slices)
        checks = [Check(link=READ, expected=added(counted).shown(), found=raw.shown()), *checks]
    return Completeness(verified=not reasons, reason="; ".join(reasons), checks=checks)
