"""What is counted of rows adds up, however they lie: in one file or many, as a stream, with columns or without rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.completeness import extraction
from include.etl.completeness.checksums import HASH
from include.etl.completeness.totals import ColumnTotals, Totals, added, differences, of_batches, of_parquet, of_source
from include.etl.engines.base import Query
from include.etl.errors import DataError
from include.etl.handover import Window
from tests.unit.etl.test_plan import NOW, source

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("fee", pa.decimal128(10, 2)),
        ("wide", pa.decimal128(38, 4)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
        ("note", pa.string()),
    ]
)
FIELDS = {field.name: field.type for field in SCHEMA}


def rows(count: int, first: int = 0) -> pa.Table:
    """Every third value is missing, each in another row."""
    made = [
        {
            "number": number - 7,
            "fee": Decimal(number) / 4 - 3,
            "wide": Decimal(number - 10**33),
            "day": date(1969, 12, 30 + number % 2),
            "at": datetime(1969, 12, 31, 23, 59, 59, number, tzinfo=UTC),
            "note": f"n{number}",
        }
        for number in range(first, first + count)
    ]
    empty = [
        {name: value for place, (name, value) in enumerate(row.items()) if (place + index) % 3}
        for index, row in enumerate(made)
    ]
    return pa.Table.from_pylist(empty, SCHEMA)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def test_the_same_rows_have_the_same_totals_however_they_lie(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    table, paths = rows(40), [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, (start, length) in zip(paths, [(0, 25), (25, 0), (25, 15)], strict=True):
        pq.write_table(table.slice(start, length), path, row_group_size=7)
    whole = of_parquet(connection, paths, FIELDS)
    assert whole.rows == 40
    assert {name: one.values for name, one in whole.columns.items()} == {
        name: len(table) - table[name].null_count for name in FIELDS
    }
    assert Decimal(whole.columns["number"].sum) == sum(filter(None, table["number"].to_pylist()))
    assert Decimal(whole.columns["fee"].sum) == sum(filter(None, table["fee"].to_pylist()))
    assert int(whole.columns["wide"].sum) == sum(int(value) for value in table["wide"].to_pylist() if value is not None)
    assert added(of_parquet(connection, [path], FIELDS) for path in paths) == whole
    assert of_batches(connection, table.to_batches(max_chunksize=6), FIELDS) == whole
    assert of_batches(connection, [], FIELDS) == of_parquet(connection, paths[1:2], FIELDS)
    assert of_parquet(connection, paths, {}) == Totals(rows=40)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("change", ["other value", "no value"])
def test_one_other_value_in_any_place_is_seen(
    connection: duckdb.DuckDBPyConnection, name: str, change: str, tmp_path: Path
) -> None:
    table = rows(9)
    values = table[name].to_pylist()
    place = next(number for number, value in enumerate(values) if value is not None)
    values[place] = None if change == "no value" else next(value for value in values[place + 1 :] if value is not None)
    if values[place] == table[name].to_pylist()[place]:
        pytest.fail("the rows must differ")
    position = SCHEMA.get_field_index(name)
    other = table.set_column(position, SCHEMA.field(position), pa.array(values, SCHEMA.field(position).type))
    expected, found = (of_batches(connection, one.to_batches(), FIELDS).shown() for one in (table, other))
    (line,) = differences(expected, found)
    assert line.startswith(f"column {name!r}: ")
    assert ("values that are not NULL" in line) is (change == "no value")
    assert str(values[place]) not in line


def test_differences_name_both_sides_and_every_column() -> None:
    one = Totals(rows=3, columns={"a": ColumnTotals(values=2, sum="1"), "b": ColumnTotals(values=1, sum="5")})
    other = Totals(rows=3, columns={"a": ColumnTotals(values=3, sum="1"), "b": ColumnTotals(values=1, sum="6")})
    assert differences(one.shown(), one.shown()) == []
    first, second = differences(one.shown(), other.shown())
    assert first == "column 'a': 2 and 3 values that are not NULL"
    assert second == f"column 'b': checksum {one.columns['b'].checksum} and {other.columns['b'].checksum}"
    assert differences(one.shown(), Totals(rows=4).shown()) == ["rows: 3 and 4"]
    missing = differences(one.shown(), Totals(rows=3).shown())
    assert missing[0] == "column 'a': 2 and 0 values that are not NULL"
    assert len(missing) == 2


def test_totals_of_a_slice_without_rows_may_have_no_columns() -> None:
    one = Totals(rows=2, columns={"a": ColumnTotals(values=2, sum="0.10")})
    assert added([Totals(), one, Totals()]) == Totals(rows=2, columns={"a": ColumnTotals(values=2, sum="0.1")})
    assert added([one, one]).columns["a"] == ColumnTotals(values=4, sum="0.2")
    assert added([]) == Totals()


class Session:
    """A source that counts these numbers of rows, one after the other."""

    def __init__(self, consistency: str, *counts: int) -> None:
        self.consistency, self.counts = consistency, list(counts)

    def single_row(self, query: Query) -> tuple[Any, ...]:
        return (self.counts.pop(0),)


class Engine:
    dialect = "sqlite"


@pytest.mark.parametrize(
    ("consistency", "mode", "counts", "reason"),
    [
        ("session", "incremental", (9,), ""),
        ("session", "incremental", (8,), None),
        ("session", "full", (8, 9), None),
        ("query", "incremental", (8, 9), ""),  # the first count was of another moment
        ("query", "incremental", (8, 7), "rows were changing"),
        ("query", "incremental", (8, 8), None),  # nothing is changing, and it is not what was read
        ("none", "range", (8, 8), None),
        ("none", "full", (8, 8), "rows were changing"),  # a whole table has grown once
        ("none", "full", (9,), ""),
    ],
)
def test_what_excuses_a_difference(
    tmp_path: Path, consistency: str, mode: Any, counts: tuple[int, ...], reason: str | None
) -> None:
    part = tmp_path / "part-00000.parquet"
    pq.write_table(rows(9), part)
    session: Any = Session(consistency, *counts)
    proven = (source(), Window(mode=mode, end=NOW), Engine(), session, Query("select 1"), SCHEMA, [part])
    if reason is None:
        with pytest.raises(DataError, match="rows: 8 and 9; nothing was published"):
            extraction.prove(*proven)  # type: ignore[arg-type]
        assert not (tmp_path / extraction.FILE).exists()
        return
    extraction.prove(*proven)  # type: ignore[arg-type]
    found = extraction.SliceTotals.model_validate_json((tmp_path / extraction.FILE).read_text())
    assert found.source is not None
    assert (found.source.rows, found.raw.rows) == (counts[0], 9)
    assert found.reason.endswith(reason)
    assert bool(found.reason) is bool(reason)
    assert session.counts == [], "as often as it has to be asked"


def test_text_is_counted_as_it_was_written() -> None:
    """A session may have to ask for text in another form; queries without text stay as they are."""
    asked: list[Any] = []

    class Writing(Session):
        def written(self, query: Query, texts: list[str]) -> Query:
            asked.append(texts)
            return Query("select written")

        def single_row(self, query: Query) -> tuple[Any, ...]:
            asked.append(query.sql)
            return (1, 1, "5", 0, None) if "number" in query.sql and "note" in query.sql else (1, 1, "5")

    session: Any = Writing("session")
    engine: Any = Engine()
    found = of_source(engine, session, Query("select 1"), {"number": pa.int64(), "note": pa.string()})
    assert found.columns == {
        "number": ColumnTotals(values=1, sum="5"),
        "note": ColumnTotals(values=0, sum="0", hash=HASH),
    }
    assert asked[0] == ["note"]
    assert "select written" in asked[1]
    of_source(engine, session, Query("select plain"), {"number": pa.int64()})
    assert "select plain" in asked[2]
