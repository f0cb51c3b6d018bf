"""Writes the interim rows as one file per partition and format, and reads published files back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.etl.casts import cast_rows
from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import DELETED_AT, Window
from include.etl.outputs import open_output
from include.etl.outputs.parquet import ROW_GROUP_BYTES, rows_within, stream
from include.etl.publication.schema import decoded
from include.etl.records.manifest import Manifest, PublishedFile
from include.etl.storage import make_folder, seal, sha256, sync_folder

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
BATCH_ROWS = 65_536
DIGITS = 39
"""Of the longest whole number: a decimal of 38, and one more."""


def check_partition(source: Source, schema: pa.Schema) -> None:
    """Refuse a partition column that is not there or is not a date.

    Raises:
        ConfigurationError: with the columns that would do.
    """
    column = source.output.partition_by
    if column is None:
        return
    dates = [field.name for field in schema if pa.types.is_date(field.type)]
    if column not in dates:
        found = f"it is {schema.field(column).type}" if column in schema.names else "there is no such column"
        raise ConfigurationError(
            f"source {source.source!r}: output.partition_by: {column!r}: {found}; allowed: a published column of dates "
            f"({', '.join(dates) or 'none here'}); transform.types can make one"
        )


def write(source: Source, window: Window, interim: Path, staging: Path, cursor: str | None) -> list[PublishedFile]:
    """Write every format below `staging`, in the folders and under the names they will be published with."""
    schema = published_schema(interim)
    check_partition(source, schema)
    files = []
    for name in source.output.formats:
        output = open_output(name)
        for partition, batches in _partitions(source, window, interim):
            path = staging / _relative(source, window, partition, output.extension)
            make_folder(path.parent)
            span = _Span(cursor, source.deletes == "mark")
            dropped = source.output.partition_by if not output.partition_column_in_file else None
            file_schema = stored_schema(schema, dropped)
            reader = pa.RecordBatchReader.from_batches(file_schema, _without(span.watch(batches), dropped))
            rows = output.write(reader, path)
            files.append(_described(staging, path, name, partition, rows, span))
    return files


def published_schema(interim: Path) -> pa.Schema:
    """The published schema. Whether this window's rows happen to hold NULLs is no part of it."""
    return pa.schema([field.with_nullable(True) for field in pq.read_schema(interim)])


def read(source_folder: Path, manifest: Manifest, file: PublishedFile) -> pa.RecordBatchReader:
    """The rows of one published file, with all published columns and their exact types."""
    schema, column = schema_of(manifest), manifest.partition_by
    output = open_output(file.format)
    absent = column if column and not output.partition_column_in_file else None
    reader = output.read(source_folder / file.path, stored_schema(schema, absent))
    if absent is None:
        return reader
    value = None if file.partition in (None, NO_VALUE) else date.fromisoformat(str(file.partition))
    return pa.RecordBatchReader.from_batches(schema, _with(reader, schema, absent, value))


def rewrite(manifest: Manifest, file: PublishedFile, kept: pa.RecordBatchReader, staging: Path) -> PublishedFile:
    """Write the rows of a published file that stay, below `staging`, under the file's own name."""
    output = open_output(file.format)
    path = staging / file.path
    make_folder(path.parent)
    span = _Span(manifest.cursor, file.deleted > 0)
    dropped = manifest.partition_by if not output.partition_column_in_file else None
    schema = stored_schema(schema_of(manifest), dropped)
    rows = output.write(pa.RecordBatchReader.from_batches(schema, _without(span.watch(kept), dropped)), path)
    return _described(staging, path, file.format, file.partition, rows, span)


def schema_of(manifest: Manifest) -> pa.Schema:
    """The published Arrow schema."""
    return decoded(manifest.arrow_schema)


def _last_day(source: Source, window: Window) -> str:
    if isinstance(window.end, int):
        return NO_VALUE
    return (window.end - timedelta(microseconds=1)).astimezone(source.zone).date().isoformat()


def stored_schema(schema: pa.Schema, dropped: str | None) -> pa.Schema:
    """The schema of a file that leaves out the column its folder is named after."""
    return pa.schema([field for field in schema if field.name != dropped])


def cursor_text(value: date | datetime | Decimal | int | None) -> str | None:
    """A cursor value as text that sorts like the value; timestamps in UTC or as they stand, to the microsecond.

    Numbers have as many digits as the longest; negative ones, which count down, are what lacks to the largest.
    """
    if isinstance(value, Decimal | int):
        number = int(value)
        return f"{number:0{DIGITS}d}" if number >= 0 else f"-{10**DIGITS + number:0{DIGITS}d}"
    if isinstance(value, datetime):
        naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return naive.isoformat(timespec="microseconds")
    return value.isoformat() if value is not None else None


def cursor_number(written: str) -> int:
    """The number that `cursor_text` has written."""
    digits = int(written.removeprefix("-"))
    return digits - 10**DIGITS if written.startswith("-") else digits


class _Span:
    """Remembers, of batches going by, the ends of the cursor, whether it was missing, and how many rows are deleted."""

    def __init__(self, cursor: str | None, marked: bool) -> None:
        self.cursor, self.marked, self.deleted = cursor, marked, 0
        self.low: Any = None
        self.high: Any = None
        self.missing = False

    def watch(self, batches: Iterator[pa.RecordBatch] | pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if self.cursor and batch.num_rows:
                column = batch.column(self.cursor)
                ends = pc.min_max(column).as_py()
                self.missing = self.missing or column.null_count > 0
                if ends["min"] is not None:
                    self.low = min(self.low, ends["min"]) if self.low is not None else ends["min"]
                    self.high = max(self.high, ends["max"]) if self.high is not None else ends["max"]
            if self.marked:
                self.deleted += batch.num_rows - batch.column(DELETED_AT).null_count
            yield batch


def _described(
    staging: Path, path: Path, format_name: str, partition: str | None, rows: int, span: _Span
) -> PublishedFile:
    seal(path)
    sync_folder(path.parent)  # the journal takes a staged file that is missing for one that was published
    return PublishedFile(
        path=path.relative_to(staging).as_posix(),
        format=format_name,
        partition=partition,
        rows=rows,
        bytes=path.stat().st_size,
        sha256=sha256(path),
        cursor_min=cursor_text(span.low),
        cursor_max=cursor_text(span.high),
        cursor_missing=span.missing,
        deleted=span.deleted,
    )


def _relative(source: Source, window: Window, partition: str | None, extension: str) -> str:
    name = f"{window.name}-0.{extension}"
    return f"{quote(str(source.output.partition_by), safe='')}={partition}/{name}" if partition else name


def _partitions(source: Source, window: Window, interim: Path) -> Iterator[tuple[str | None, Iterator[pa.RecordBatch]]]:
    """(partition value, its batches) one after the other; each is to be consumed before the next is asked for.

    The interim file is sorted by the partition column. A result without rows is one empty file, in the folder of the
    window's last day (numbers have none): readers expect every file of a Hive dataset to lie in a folder with a value.
    """
    column, batches = source.output.partition_by, _batches(interim)
    if column is None or pq.read_metadata(interim).num_rows == 0:
        yield _last_day(source, window) if column else None, batches
        return
    for value, runs in groupby(_runs(batches, column), key=lambda run: run[0]):
        yield value or NO_VALUE, (batch for _, batch in runs)


def _batches(interim: Path) -> Iterator[pa.RecordBatch]:
    schema = published_schema(interim)
    for batch in stream(interim, rows_within([interim], ROW_GROUP_BYTES, BATCH_ROWS)):
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _runs(batches: Iterator[pa.RecordBatch], column: str) -> Iterator[tuple[str | None, pa.RecordBatch]]:
    """Batches cut where the partition value changes."""
    for batch in batches:
        offset = 0
        encoded_runs = pc.run_end_encode(batch.column(column))
        values, ends = encoded_runs.values, encoded_runs.run_ends
        for value, end in zip(values.to_pylist(), ends.to_pylist(), strict=True):
            yield (value.isoformat() if value else None), batch.slice(offset, end - offset)
            offset = end


def _without(batches: Iterator[pa.RecordBatch], column: str | None) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.drop_columns([column]) if column else batch


def _with(reader: pa.RecordBatchReader, schema: pa.Schema, column: str, value: date | None) -> Iterator[pa.RecordBatch]:
    position, kind = schema.get_field_index(column), schema.field(column).type
    for batch in reader:
        whole = batch.add_column(position, schema.field(column), pa.repeat(pa.scalar(value, kind), batch.num_rows))
        yield cast_rows(whole.select(schema.names), schema)
