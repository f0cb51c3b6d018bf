"""The contract between the system and a file format: what goes in comes out, exactly.

One format is one file beside this one and one line in `outputs/__init__.py`.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import pyarrow as pa


class Output(abc.ABC):
    """Writes one file from a stream of record batches, and reads it back."""

    extension: ClassVar[str]
    """File name ending without the leading dot, for example `csv.gz`."""

    partition_column_in_file: ClassVar[bool]
    """Whether the file repeats the column its Hive folder is named after. Dataset readers (pandas, Spark) refuse
    Parquet files that do; a person who opens a single CSV or Excel file needs it."""

    @abc.abstractmethod
    def write(self, reader: pa.RecordBatchReader, path: Path) -> int:
        """Write all batches to `path` (which must not exist yet) and return the number of rows.

        A stream without rows writes a valid file that holds the columns. Memory does not grow with the stream,
        unless the format itself forbids it.

        Raises:
            DataError: the format cannot hold the data (too many rows, too long a cell, a type with no exact text).
            StorageError: the file cannot be written.
        """

    @abc.abstractmethod
    def read(self, path: Path, schema: pa.Schema) -> pa.RecordBatchReader:
        """Read a file written by `write` back into `schema`, the one it was written from; values are equal."""

    def count(self, path: Path, schema: pa.Schema) -> int:
        """Rows of a file written by `write`, as they are found in it."""
        return sum(batch.num_rows for batch in self.read(path, schema))
