"""Errors of queries that go on while they are read, and keys that are compared in parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from include.etl import duck
from include.etl.errors import DataError, ExtractionError, StorageError

SECRET = "S1234567D"
LATE = f"SELECT CASE WHEN i = 299999 THEN '{SECRET}' ELSE i::VARCHAR END AS x FROM range(300000) r(i)"
"""A value that is no number, where a reader has got rows already when it comes."""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE texts AS {LATE}")
        yield connection


def drained(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return sum(batch.num_rows for batch in duck.batches(connection.sql(query).to_arrow_reader(1000)))


def test_all_rows_are_read(connection: duckdb.DuckDBPyConnection) -> None:
    assert drained(connection, "SELECT x FROM texts") == 300_000
    assert drained(connection, "SELECT x FROM texts WHERE false") == 0


def test_an_error_while_rows_are_read_is_duckdb_s_and_quotes_none(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.ConversionException) as error:
        drained(connection, "SELECT x::INT FROM texts")
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    with pytest.raises(duckdb.Error) as other:
        drained(connection, "SELECT CASE WHEN length(x) = 9 THEN error(x) ELSE x END FROM texts")
    assert SECRET not in str(other.value)


def test_in_a_session_it_is_ours(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="ConversionException") as error,
        duck.session(2048, tmp_path / "x") as connection,
    ):
        drained(connection, f"SELECT x::INT FROM ({LATE})")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("told", "ours", "message"),
    [
        ("IO Error: Cannot open file 'part-0.parquet'", StorageError, "part-0.parquet"),
        ("Out of Memory Error: could not allocate block of size 4", StorageError, "memory_limit_mb"),
        (f"Invalid Input Error: {SECRET}", DataError, "cannot process"),
        (f"no kind at all {SECRET}", DataError, "cannot process"),
    ],
)
def test_kinds_of_errors_are_told_apart(tmp_path: Path, told: str, ours: type[ExtractionError], message: str) -> None:
    class Broken:
        def read_next_batch(self) -> None:
            raise OSError(told)

    with pytest.raises(ours, match=message) as error, duck.session(2048, tmp_path / "x"):
        list(duck.batches(Broken()))  # type: ignore[arg-type]
    assert SECRET not in str(error.value)


def test_equal_keys_are_in_the_same_part_and_every_row_is_in_one(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "KEYS_AT_ONCE", 7)
    rows = "(SELECT nullif(i % 10, 3) AS a, (i % 3)::VARCHAR AS b FROM range(60) r(i))"
    parts = duck.key_passes(['"a"', '"b"'], 60)
    assert len(parts) == 9
    assert sum(duck.count(connection, f"{rows} WHERE {part}") for part in parts) == 60
    apart = [set(connection.sql(f"SELECT DISTINCT a, b FROM {rows} WHERE {part}").fetchall()) for part in parts]
    assert sum(map(len, apart)) == len(set.union(*apart)) == 30
    duck.collect_repeated(connection, rows, ['"a"', '"b"'])
    assert connection.sql("SELECT count(*), min(_copies), max(_copies) FROM _repeated").fetchall() == [(30, 2, 2)]
