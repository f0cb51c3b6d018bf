"""DuckDB inside the task: limited in memory, spilling to a folder of its own, in UTC."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from include.etl.errors import DataError, StorageError
from include.etl.storage import remove_folder

KINDS = {
    "Conversion": duckdb.ConversionException,
    "Out of Memory": duckdb.OutOfMemoryException,
    "IO": duckdb.IOException,
}
"""How DuckDB begins the text of an error -> the error."""
KEYS_AT_ONCE = 5_000_000
"""Measured: 18 million keys of two integers are compared with 204 MiB, 60 million are not; 5 million need less."""


def share(memory_limit_mb: int) -> int:
    """DuckDB's part of a task's memory, in MiB: a tenth, or 200.

    Parquet writers, Arrow, Great Expectations and Airflow take several hundred MiB that DuckDB does not count.
    """
    return max(200, memory_limit_mb // 10)


@contextmanager
def session(memory_limit_mb: int, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for a task with this limit (MiB); `scratch` takes what does not fit and is removed afterwards.

    Errors of DuckDB leave as ours. Its messages may quote values, so only those about files are passed on.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": f"{share(memory_limit_mb)}MiB",
            "threads": min(os.cpu_count() or 1, 4),
            "temp_directory": str(scratch),
            # Nothing may be fetched or loaded behind the operator's back.
            "autoinstall_known_extensions": False,
            # Order is asked for where it matters; keeping it everywhere costs memory.
            "preserve_insertion_order": False,
            # Sorting range by range opens the same files again and again.
            "parquet_metadata_cache": True,
        }
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.IOException as error:
        raise StorageError(str(error).splitlines()[0]) from None
    except duckdb.OutOfMemoryException:
        raise StorageError(
            f"the rows need more memory than memory_limit_mb: {memory_limit_mb} allows, or there is no disk to spill to"
        ) from None
    except duckdb.Error as error:
        raise DataError(f"DuckDB cannot process the rows: {type(error).__name__}") from None
    finally:
        connection.close()
        remove_folder(scratch)


def widen(connection: duckdb.DuckDBPyConnection, memory_limit_mb: int) -> None:
    """Half of the task's memory for what does not go with DuckDB's part: wide rows are sorted many at once."""
    connection.execute(f"SET memory_limit = '{max(share(memory_limit_mb), memory_limit_mb // 2)}MiB'")


def batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """What a query's Arrow reader gives; errors are DuckDB's, as those of its other calls.

    The query goes on while it is read, and Arrow would raise OSError with DuckDB's text, which may quote values.
    """
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            kind, _, told = str(error).partition(" Error: ")
            raise KINDS.get(kind, duckdb.Error)(f"IO Error: {told}" if kind == "IO" else kind) from None
        yield batch


def count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    """Number of rows of a table, view or subquery."""
    (found,) = connection.sql(f"SELECT count(*) FROM {rows}").fetchall()
    return int(found[0])


def key_passes(columns: Sequence[str], rows: int) -> list[str]:
    """Conditions that cut so many rows into parts whose keys can be compared in little memory, one part at a time.

    Equal keys have the same hash and so are in the same part. `columns` are in DuckDB's quotes.
    """
    passes = -(-rows // KEYS_AT_ONCE)
    if passes < 2:
        return ["true"]
    return [f"hash({', '.join(columns)}) % {passes} = {number}" for number in range(passes)]


def collect_repeated(connection: duckdb.DuckDBPyConnection, rows: str, columns: Sequence[str]) -> None:
    """Fill the temporary table `_repeated` with the keys that come more than once, and how often: `_copies`.

    `columns` are in DuckDB's quotes.
    """
    keys = ", ".join(columns)
    copies = f"SELECT {keys}, count(*) AS _copies FROM {rows}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE _repeated AS {copies} WHERE false GROUP BY {keys}")
    for part in key_passes(columns, count(connection, rows)):
        connection.execute(f"INSERT INTO _repeated {copies} WHERE {part} GROUP BY {keys} HAVING count(*) > 1")


def quote(name: str) -> str:
    """An identifier in DuckDB's quotes."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text literal; only for paths and names of our own making, which DDL cannot take as parameters."""
    return "'" + value.replace("'", "''") + "'"


def parquet(paths: Sequence[Path], *, numbered: bool = False, alike: bool = False) -> str:
    """A table function over Parquet files, never taking their folders' names for columns.

    Of files that are not `alike` in their columns all are opened at once, to find out which columns there are.
    """
    listed = ", ".join(text(str(path)) for path in paths)
    extra = ("" if alike else ", union_by_name = true") + (", file_row_number = true" if numbered else "")
    return f"read_parquet([{listed}], hive_partitioning = false{extra})"
