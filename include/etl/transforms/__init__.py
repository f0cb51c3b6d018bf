"""A source's own transformations: the name in the YAML -> a function or an SQL file. To add one: a file and a line.

Two kinds, both over the source's own column names, before types, trimming and renaming:

- `<name>.sql`: one SELECT over the table `rows`, run by DuckDB;
- `<module>:<function>`: takes a pandas DataFrame (Arrow-backed columns, at most BATCH_ROWS rows) and returns one. It
  sees one batch at a time, so it can compute columns or drop rows, but not compare rows of different batches: that is
  SQL's part.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from include.etl.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

TRANSFORMS = {
    "blood_pressure_class": "include.etl.transforms.blood_pressure_class:classify",
    "visit_ordinal": "visit_ordinal.sql",
}
BATCH_ROWS = 100_000


def apply_step(connection: duckdb.DuckDBPyConnection, name: str, rows: str, result: Path) -> str:
    """Run one transformation over the relation `rows`; returns the relation that holds the outcome.

    Raises:
        ConfigurationError: the SQL is wrong or refers to columns that are not there.
        DataError: a pandas function gives batches of different columns or types.
    """
    target = TRANSFORMS[name]
    if target.endswith(".sql"):
        return _apply_sql(connection, name, Path(__file__).with_name(target), rows)
    module, function = target.split(":")
    _apply_pandas(connection, name, getattr(import_module(module), function), rows, result)
    return f"read_parquet('{result}')"


def _apply_sql(connection: duckdb.DuckDBPyConnection, name: str, path: Path, rows: str) -> str:
    import duckdb

    sql = path.read_text(encoding="utf-8").strip().rstrip(";")
    relation = f"(WITH rows AS (SELECT * FROM {rows}) SELECT * FROM (\n{sql}\n))"
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(f"transformation {name!r} ({path.name}): {str(error).splitlines()[0]}") from None
    return relation


def _apply_pandas(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    function: Callable[[pd.DataFrame], pd.DataFrame],
    rows: str,
    result: Path,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from include.etl import casts

    reader = connection.sql(f"SELECT * FROM {rows}").to_arrow_reader(BATCH_ROWS)
    writer = None
    for table in _frames(name, reader, function):
        if writer is None:
            writer = pq.ParquetWriter(result, table.schema, compression="zstd")
        try:
            writer.write_table(casts.cast_rows(table, writer.schema))
        except (pa.ArrowException, ValueError, TypeError, ArithmeticError):
            raise DataError(
                f"transformation {name!r}: its batches differ: {', '.join(table.schema.names)}; the first one had "
                f"{', '.join(writer.schema.names)}, with types that this one does not fit"
            ) from None
    assert writer is not None
    writer.close()


def _frames(
    name: str, reader: pa.RecordBatchReader, function: Callable[[pd.DataFrame], pd.DataFrame]
) -> Iterator[pa.Table]:
    """The function's results, Arrow-backed both ways so that no value changes; without rows, that of no rows."""
    import pandas as pd
    import pyarrow as pa

    from include.etl.duck import batches

    empty = reader.schema.empty_table()
    seen = False
    for batch in batches(reader):
        seen = True
        frame = pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)
        yield _called(name, function, frame)
    if not seen:
        yield _called(name, function, empty.to_pandas(types_mapper=pd.ArrowDtype))


def _called(name: str, function: Callable[[pd.DataFrame], pd.DataFrame], frame: pd.DataFrame) -> pa.Table:
    """The function's result as a table. What it raises may quote patients' data, so only the place is told."""
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(function(frame), preserve_index=False).replace_schema_metadata(None)
    except Exception as error:  # noqa: BLE001 - another author's code can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        own = [found for found in frames if found.filename == function.__code__.co_filename] or frames
        place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}"
        raise DataError(f"transformation {name!r} raised {type(error).__name__} in {place}") from None
