"""Apache Parquet: every Arrow type as it is, zstd, statistics for readers that skip row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.etl.casts import cast_rows
from include.etl.errors import DataError
from include.etl.outputs.base import Output
from include.etl.outputs.files import bounded, check_columns, new_file, reading

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 32 << 20  # of Arrow memory: row groups of long texts would otherwise fill writer and reader
SAMPLE_ROWS = 10_000
READ_ROWS = 10_000
SAMPLE_OF_WIDTH = 64


def rows_within(paths: Sequence[Path], size: int, most: int) -> int:
    """How many rows of these Parquet files take up to so many bytes, at least one and at most so many.

    A power of two, or `most`, so that files of about the same rows give the same number.
    """
    found = [pq.read_metadata(path) for path in paths]
    groups = [one.row_group(number) for one in found for number in range(one.num_row_groups)]
    total, rows = sum(group.total_byte_size for group in groups), sum(group.num_rows for group in groups)
    if not rows:
        return most
    # A dictionary keeps long texts that come again once; in memory each row has its own.
    fitting = int(size / max(total / rows, _in_memory(paths) / 4, 1))
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)


def _in_memory(paths: Sequence[Path]) -> float:
    """What one of the first rows takes, in bytes."""
    first = next(path for path in paths if pq.read_metadata(path).num_rows)
    batch = next(stream(first, SAMPLE_OF_WIDTH))
    return float(batch.nbytes / batch.num_rows)


class ParquetOutput(Output):
    """A row group holds at most 131,072 rows and 32 MiB, so that writing and reading need little memory."""

    extension = "parquet"
    partition_column_in_file = False

    def write(self, reader: pa.RecordBatchReader, path: Path) -> int:
        """See `Output.write`; the first row group decides which columns repeat themselves enough for a dictionary."""
        _check_types(reader.schema)
        with new_file(path) as file:
            return write_groups(file, reader.schema, _row_groups(reader))

    def read(self, path: Path, schema: pa.Schema) -> pa.RecordBatchReader:
        """See `Output.read`."""
        return pa.RecordBatchReader.from_batches(schema, _read(path, schema))


def _read(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with reading(path):
        check_columns(path, pq.read_schema(path).names, schema)
        for batch in stream(path, rows_within([path], ROW_GROUP_BYTES, READ_ROWS)):
            yield cast_rows(batch, schema)  # Parquet has no seconds: they come back as milliseconds


def stream(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """A file's batches of that many rows; what was read is let go, which pyarrow by itself does at the very end."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(rows)


def write_groups(file: BinaryIO, schema: pa.Schema, groups: Iterator[pa.Table]) -> int:
    """Write tables that are one row group each, one while the next is made; returns the number of rows."""
    group, rows = next(groups, schema.empty_table()), 0
    with open_writer(file, group) as writer, ThreadPoolExecutor(1) as thread:
        while group is not None:
            written = thread.submit(writer.write_table, group, row_group_size=ROW_GROUP_ROWS)
            rows += group.num_rows
            group = next(groups, None)
            written.result()
            pa.default_memory_pool().release_unused()  # tens of MB, which Arrow would keep for later
    return rows


def _row_groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Gather small batches, and cut large ones, into tables that are one row group each."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in bounded(reader, ROW_GROUP_ROWS, ROW_GROUP_BYTES):
        if group and (rows + batch.num_rows > ROW_GROUP_ROWS or size + batch.nbytes > ROW_GROUP_BYTES):
            yield pa.Table.from_batches(group)
            group, rows, size = [], 0, 0
        group.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if group:
        yield pa.Table.from_batches(group)


def open_writer(file: BinaryIO | Path, sample: pa.Table) -> pq.ParquetWriter:
    """A writer of such rows. For a column whose values hardly come again, a dictionary would take time and space."""
    repeating = [name for name in sample.column_names if _repeats(sample[name].slice(0, SAMPLE_ROWS))]
    return pq.ParquetWriter(file, sample.schema, compression="zstd", compression_level=1, use_dictionary=repeating)


def _repeats(values: pa.ChunkedArray) -> bool:
    """Whether fewer than half of the values are distinct, so that a dictionary is smaller than the values."""
    try:
        return bool(pc.count_distinct(values).as_py() * 2 < len(values))
    except pa.ArrowNotImplementedError:  # nested types, and columns of nothing but NULL
        return False


def _check_types(schema: pa.Schema) -> None:
    """Raise DataError for a type that Parquet lacks, such as an interval or a decimal of negative scale."""
    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except (pa.ArrowNotImplementedError, OSError):  # in memory, so it is no disk that fails
            raise DataError(
                f"column {field.name!r} ({field.type}): Parquet cannot hold this type; cast it to text in the query"
            ) from None
