"""Which values of a cursor column no window holds, by database and type."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest

from include.etl.unreadable import kinds, none_of, positions

NAIVE, ZONED, DAY, WIDE = pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32(), pa.decimal128(38, 0)
SERVERS = ["postgres", "mysql", "tsql", "oracle"]


@pytest.mark.parametrize("dialect", SERVERS)
def test_numbers_of_64_bits_are_all_read(dialect: str) -> None:
    assert not kinds(dialect, pa.int64())
    assert positions(dialect, pa.int64()) == ""
    for wide in (WIDE, pa.uint64()):
        (one,) = kinds(dialect, wide)
        assert "9223372036854775807 or {0} < -9223372036854775808" in one.condition
        assert positions(dialect, wide)


@pytest.mark.parametrize("type_", [NAIVE, ZONED, DAY])
@pytest.mark.parametrize(("dialect", "count"), [("postgres", 2), ("oracle", 1), ("tsql", 0), ("sqlite", 1)])
def test_times_have_their_kinds(dialect: str, type_: pa.DataType, count: int) -> None:
    """SQL Server knows no time before the year 1, nor after 9999."""
    assert len(kinds(dialect, type_)) == count


def test_only_zoned_times_of_mysql_have_no_zero_within() -> None:
    assert [len(kinds("mysql", type_)) for type_ in (NAIVE, DAY, ZONED)] == [2, 2, 1]
    assert "'2024-02-29 23:59:59' and {0} < '2024-03-01'" in kinds("mysql", NAIVE)[1].seek
    assert "'2024-02-29' and {0} < '2024-03-01'" in kinds("mysql", DAY)[1].seek


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("2024-01-31", True),
        ("2024-01-31 08:00:00.5", True),
        ("2024-01-31T08:00:00Z", True),
        ("1899-12-31", True),
        (None, True),
        ("", False),
        ("yesterday", False),
        ("31/12/2024", False),
        ("20240131", False),
        ("2024-1-31", False),
        ("2024-01-5", False),
        ("2024-02-31", False),
        ("2024-13-01", False),
        ("0000-00-00", False),
        ("0000-01-01", False),
        (1706659200, False),
        (2460340.5, False),
        (b"2024-01-31", False),
    ],
)
@pytest.mark.parametrize("declared", ["TIMESTAMP", "DATE", "TEXT"])
def test_what_sqlite_stores_in_a_column_of_times(value: Any, held: bool, declared: str) -> None:
    (one,) = kinds("sqlite", NAIVE)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE t (c {declared})")
        database.execute("INSERT INTO t VALUES (?)", (value,))
        found = f"SELECT count(*) FROM t WHERE {one.condition}".format("c")
        left = f"SELECT count(*) FROM t WHERE {none_of([one])}".format("c")
        assert database.execute(found).fetchone() == (0 if held else 1,)
        assert database.execute(left).fetchone() == (1 if held else 0,)


@pytest.mark.parametrize(
    ("value", "held"), [(5, True), (-5, True), (None, True), ("x", False), (b"x", False), (1e30, False), (-1e30, False)]
)
def test_what_sqlite_stores_in_a_column_of_numbers(value: Any, held: bool) -> None:
    (one,) = kinds("sqlite", pa.int64())
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE t (c BIGINT)")
        database.execute("INSERT INTO t VALUES (?)", (value,))
        found = f"SELECT count(*) FROM t WHERE {one.condition}".format("c")
        assert database.execute(found).fetchone() == (0 if held else 1,)
