"""What every format shares about files: errors that name the file, and batches of a bounded size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from xml.etree.ElementTree import ParseError

import pyarrow as pa

from include.etl.errors import DataError, StorageError

DAMAGED = (EOFError, KeyError, ParseError, zlib.error, zipfile.BadZipFile, pa.ArrowInvalid)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that did not exist before, closed whatever happens; raises StorageError."""
    try:
        with path.open("xb") as file:
            yield cast(BinaryIO, file)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a missing or damaged file raises into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    except DAMAGED:  # these quote the cell they stumbled on, so neither message nor chain is kept
        raise StorageError(f"cannot read {path}: it is damaged, or was not written with this schema") from None


def check_columns(path: Path, found: list[str], schema: pa.Schema) -> None:
    """Raise DataError unless the file's header holds the schema's columns in their order."""
    if found != schema.names:
        raise DataError(f"{path} holds the columns {found}, expected {schema.names}")


def bounded(batches: Iterable[pa.RecordBatch], max_rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Cut batches so that none has more rows or (unless it is one row) more bytes; empty ones vanish."""
    for batch in batches:
        for start in range(0, batch.num_rows, max_rows):
            yield from _halved(batch.slice(start, max_rows), max_bytes)


def _halved(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows < 2 or batch.nbytes <= max_bytes:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _halved(batch.slice(0, middle), max_bytes)
    yield from _halved(batch.slice(middle), max_bytes)
