"""Rows that share a key: versions stay versions, copies go with a word, all others stop the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl import duck
from include.etl.completeness.extraction import FILE
from include.etl.config import Source
from include.etl.errors import DataError
from include.etl.handover import Extracted, Plan, Slice, Transformed, Window
from include.etl.horizon import DEGRADED
from include.etl.phases.transform import transform
from include.etl.records.run import Run, summary
from include.etl.storage import Storage, write_json

NOW = datetime(2024, 3, 1, tzinfo=UTC)
CURSOR = {"column": "at"}
SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("note", pa.string())])


def day(number: int) -> datetime:
    return datetime(2024, 1, number)


def rows_of(*rows: tuple[Any, ...], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def transformed(
    folder: Path, *slices: list[pa.Table], read: tuple[int, ...] = (0, 1), **changes: Any
) -> tuple[pa.Table, Transformed, Run]:
    """What transform makes of the slices' parts, each read so many minutes after NOW."""
    base: dict[str, Any] = {
        "source": "visits",
        "description": "Visits",
        "conn_id": "clinic",
        "table": "visits",
        "primary_key": ["id"],
        "cursor": CURSOR,
        "schedule": {"full": "0 2 * * *"},
        "output": {"formats": ["parquet"]},
    }
    storage = Storage(folder)
    run = Run(Source.model_validate(base | changes), "run", storage)
    handed = [_slice(storage, number, tables, read[number]) for number, tables in enumerate(slices)]
    planned = Plan(run_id="run", window=Window(mode="full", end=NOW), slices=[one.slice for one in handed])
    result = transform(run, planned, handed)
    table = pq.read_table(storage.absolute(result.parts[0]))
    assert sum(one.rows for one in handed) == table.num_rows + sum(result.removed.values())
    return table, result, run


def _slice(storage: Storage, number: int, tables: list[pa.Table], read: int) -> Extracted:
    folder = storage.folder("raw", "visits", f"slice-{number}")
    parts = [f"raw/visits/slice-{number}/{part}.parquet" for part in range(len(tables))]
    for part, table in enumerate(tables):
        pq.write_table(table, folder / f"{part}.parquet")
    rows = sum(table.num_rows for table in tables)
    write_json(folder / FILE, {"source": None, "raw": {"rows": rows}})
    return Extracted(
        slice=Slice(index=number),
        parts=parts,
        rows=rows,
        bytes=0,
        query_hash="",
        extracted_at=NOW + timedelta(minutes=read),
        consistency="snapshot",
    )


def _conditions(run: Run) -> Any:
    (phase,) = summary(run)["phases"]
    return phase["conditions"]


@pytest.fixture(params=[3, 5_000_000], ids=["many passes", "one pass"])
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "KEYS_AT_ONCE", request.param)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("at", [day(1), None], ids=["equal", "none"])
@pytest.mark.parametrize("cursor", [CURSOR, None], ids=["cursor", "no cursor"])
def test_a_key_that_is_not_unique_is_refused(tmp_path: Path, cursor: Any, at: Any, parts: int) -> None:
    rows = [(number % 10, at, f"S{number}") for number in range(1000)] + [(77, at, "single")]
    tables = [rows_of(*rows[part::parts]) for part in range(parts)]
    with pytest.raises(DataError, match=r"'visits': primary_key \(id\).*10 keys have 1000 rows.*Add columns") as error:
        transformed(tmp_path, tables, cursor=cursor)
    assert "S1" not in str(error.value)


OTHER = {
    "a float's last digit": (pa.float64(), 0.1, 0.1 + 2**-56),
    "NULL beside a value": (pa.int32(), None, 0),
    "blanks that trimming removes": (pa.string(), "a", "a "),
    "a capital letter": (pa.string(), "a", "A"),
    "a wide decimal just below zero": (pa.decimal128(20, 2), Decimal("0.00"), Decimal("-0.01")),
    "a wide decimal of the same halves": (pa.decimal128(38, 0), Decimal(2**64), Decimal(1)),
    "a decimal's last digit": (pa.decimal128(38, 2), Decimal("1.00"), Decimal("1.01")),
    "NaN beside NULL": (pa.float64(), float("nan"), None),
    "bytes": (pa.binary(), b"\x00", b""),
}


@pytest.mark.parametrize(("kind", "one", "other"), OTHER.values(), ids=OTHER.keys())
def test_rows_that_differ_in_any_column_are_no_copies(tmp_path: Path, kind: pa.DataType, one: Any, other: Any) -> None:
    schema = SCHEMA.append(pa.field("value", kind))
    table = rows_of((1, day(1), "x", one), (2, day(1), "x", one), (1, day(1), "x", other), schema=schema)
    with pytest.raises(DataError, match="1 keys have 2 rows that differ"):
        transformed(tmp_path, [table])


@pytest.mark.parametrize("at", [day(1), None], ids=["equal", "none"])
def test_rows_that_differ_where_a_hash_does_not_are_no_copies_between_slices(tmp_path: Path, at: Any) -> None:
    schema = SCHEMA.append(pa.field("fee", pa.decimal128(20, 2)))
    slices = ([rows_of((1, at, "x", Decimal(fee)), schema=schema)] for fee in ("0.00", "-0.01"))
    table, result, _ = transformed(tmp_path, *slices)
    assert table.column("fee").to_pylist() == [Decimal("-0.01")]
    assert "1 keys were read by several slices, with different columns" in result.unverified[0]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("cursor", [CURSOR, None], ids=["cursor", "no cursor"])
def test_copies_go_and_operators_are_told(tmp_path: Path, cursor: Any) -> None:
    schema = SCHEMA.append(pa.field("value", pa.float64()))
    rows = [(number, day(1), None, float("nan")) for number in range(10)]
    rows += [(1, day(1), None, float("nan"))] * 2 + [(2, day(1), None, float("nan"))]
    table, result, run = transformed(tmp_path, [rows_of(*rows, schema=schema)], cursor=cursor)
    assert sorted(table.column("id").to_pylist()) == list(range(10))
    assert result.removed == {"identical copy": 3}
    (caveat,) = result.caveats
    assert "3 rows of 2 keys are copies" in caveat
    assert result.unverified == []
    assert _conditions(run) == {DEGRADED: caveat}


@pytest.mark.parametrize(
    ("load", "notes", "removed", "told"),
    [
        ("merge", ["b", "d", "e"], {"older version": 2}, "of each key the latest is published"),
        ("append", ["a", "b", "d", "c", "e"], {}, "each is published"),
    ],
)
def test_versions_of_a_history_stay_versions(
    tmp_path: Path, load: str, notes: list[str], removed: dict[str, int], told: str
) -> None:
    """Of a table that keeps every state of a row one snapshot holds several, which the cursor tells apart."""
    rows = [(1, day(1), "a"), (1, day(2), "b"), (2, None, "c"), (2, day(1), "d"), (3, day(1), "e")]
    table, result, _ = transformed(tmp_path, [rows_of(*rows)], load=load)
    assert table.column("note").to_pylist() == notes
    assert result.removed == removed
    (caveat,) = result.caveats
    assert f"several rows of 2 keys at the same moment, which differ in the cursor: {told}" in caveat
    assert result.unverified == []


@pytest.mark.parametrize(
    ("load", "notes", "removed"),
    [("merge", ["new", "only"], {"older version": 1}), ("append", ["old", "new", "only"], {})],
)
def test_a_row_that_moves_to_a_later_slice_is_a_newer_version(
    tmp_path: Path, load: str, notes: list[str], removed: dict[str, int]
) -> None:
    slices = [rows_of((1, day(1), "old"), (2, day(1), "only"))], [rows_of((1, day(2), "new"))]
    table, result, _ = transformed(tmp_path, *slices, load=load)
    assert table.column("note").to_pylist() == notes
    assert (result.removed, result.caveats) == (removed, [])


@pytest.mark.parametrize("cursor", [CURSOR, None], ids=["cursor", "no cursor"])
@pytest.mark.parametrize(("read", "notes"), [((0, 1), ["old", "new"]), ((1, 0), ["new", "old"])])
def test_of_rows_that_differ_between_slices_the_one_read_last_stays(
    tmp_path: Path, read: tuple[int, int], notes: list[str], cursor: Any
) -> None:
    """Slices are read side by side, whatever their numbers."""
    handed = [[rows_of((1, day(1), note), (number + 2, day(1), "other"))] for number, note in enumerate(notes)]
    table, result, run = transformed(tmp_path, *handed, read=read, cursor=cursor)
    assert table.column("note").to_pylist() == ["new", "other", "other"]
    (caveat,) = result.unverified
    assert "1 keys were read by several slices" in caveat
    assert result.caveats == [caveat]
    assert _conditions(run) == {DEGRADED: caveat}


def test_within_a_slice_nothing_moves_though_there_are_others(tmp_path: Path) -> None:
    slices = [rows_of((1, day(1), "a"), (5, day(1), "x"))], [rows_of((2, day(1), "b")), rows_of((2, day(1), "c"))]
    with pytest.raises(DataError, match="1 keys have 2 rows that differ"):
        transformed(tmp_path, *slices)


def test_rows_without_a_whole_key_are_no_versions(tmp_path: Path) -> None:
    table, result, _ = transformed(tmp_path, [rows_of((None, day(1), "a"), (None, day(1), "b"), (1, day(1), "c"))])
    assert table.num_rows == 3
    assert (result.removed, result.caveats) == ({}, [])
