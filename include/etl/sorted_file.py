"""Writes rows sorted into one Parquet file, range by range where that takes less memory and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from include.etl.casts import cast_rows
from include.etl.duck import batches, text
from include.etl.outputs.files import new_file
from include.etl.outputs.parquet import ROW_GROUP_BYTES, ROW_GROUP_ROWS, rows_within, write_groups

READ_ROWS, READ_BYTES = 16_384, 8 << 20
"""A sorted range is taken over in small batches, since all of it at once would be in memory twice."""
OPTIONS = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"


def write(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    sorting: Sequence[str],
    ranges: Sequence[str],
    parts: Sequence[Path],
    path: Path,
) -> None:
    """Write the query's rows; `ranges` are conditions that cut them in the order of `sorting`, or nothing.

    `parts` are the files that the rows come from, and tell how wide they are.
    """
    order = f" ORDER BY {', '.join(sorting)}" if sorting else ""
    group_rows = rows_within(parts, ROW_GROUP_BYTES, ROW_GROUP_ROWS)
    if not ranges and group_rows == ROW_GROUP_ROWS:  # DuckDB's own row groups are not bounded in bytes
        connection.execute(f"COPY ({query}{order}) TO {text(str(path))} ({OPTIONS})")
        return
    schema = _schema(connection, query, path)
    queries = (f"SELECT * FROM ({query}) WHERE {range_}{order}" for range_ in ranges or ["true"])
    at_once = rows_within(parts, READ_BYTES, READ_ROWS)
    readers = (connection.sql(one).to_arrow_reader(at_once) for one in queries)
    tables = (cast_rows(pa.Table.from_batches([batch]), schema) for reader in readers for batch in batches(reader))
    with new_file(path) as file:
        write_groups(file, schema, _row_groups(tables, group_rows))


def _schema(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> pa.Schema:
    """The columns as DuckDB itself writes them, so that both ways give the same types; any may hold NULL."""
    probe = path.with_suffix(".schema")
    connection.execute(f"COPY (SELECT * FROM ({query}) LIMIT 0) TO {text(str(probe))} ({OPTIONS})")
    try:
        return pa.schema([field.with_nullable(True) for field in pq.read_schema(probe)])
    finally:
        probe.unlink()


def _row_groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Row groups of one size, wherever the ranges were cut: the same rows give the same file."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(one.num_rows for one in held) >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held = [whole.slice(rows)]
    if any(one.num_rows for one in held):
        yield pa.concat_tables(held)
