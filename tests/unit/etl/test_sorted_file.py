"""Rows sorted range by range are the rows sorted at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.etl import duck, ranges, sorted_file
from include.etl.duck import parquet

START = datetime(2024, 3, 10)
KINDS: dict[str, tuple[pa.DataType, Any]] = {
    "BIGINT": (pa.int64(), lambda n: n),
    "UTINYINT": (pa.uint8(), lambda n: n % 200),
    "DATE": (pa.date32(), lambda n: date(2024, 1, 1) + timedelta(days=n)),
    "TIMESTAMP": (pa.timestamp("us"), lambda n: START + timedelta(microseconds=n)),
    "TIMESTAMP WITH TIME ZONE": (pa.timestamp("us", "UTC"), lambda n: START.replace(tzinfo=UTC) + timedelta(hours=n)),
    "DECIMAL(20,3)": (pa.decimal128(20, 3), lambda n: Decimal(n) / 1000),
}
"""DuckDB's type -> Arrow's, and how the value of a number looks in it."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges and row groups of a few rows."""
    monkeypatch.setattr(ranges, "RANGE_ROWS", 10)
    monkeypatch.setattr(sorted_file, "ROW_GROUP_ROWS", 16)


def parts(folder: Path, kind: pa.DataType, keys: list[list[Any]]) -> list[Path]:
    """One file per list, with a row group for every five rows."""
    numbers, paths = count(), []
    for number, some in enumerate(keys):
        rows = pa.table({"k": pa.array(some, kind), "n": pa.array([next(numbers) for _ in some], pa.int32())})
        paths.append(folder / f"part-{number}.parquet")
        pq.write_table(rows, paths[-1], row_group_size=5)
    return paths


def written(folder: Path, paths: list[Path], cuts: list[str]) -> pa.Table:
    target = folder / "sorted.parquet"
    target.unlink(missing_ok=True)
    with duck.session(2048, folder / ".scratch") as connection:
        query = f"SELECT k, n, 'x' AS x, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS at FROM {parquet(paths)}"
        sorted_file.write(connection, query, ['"k"', '"n"'], cuts, paths, target)
    found = pq.read_table(target)
    return found.cast(pa.schema([field.with_nullable(True) for field in found.schema]))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_ranges_give_what_sorting_at_once_gives(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    type_, value = KINDS[kind]
    places = st.integers(-3, 3) | st.none()

    @settings(max_examples=10)
    @given(shifts=st.lists(places, min_size=60, max_size=120), cut=st.integers(1, 59))
    def check(shifts: list[int | None], cut: int) -> None:
        folder = tmp_path_factory.mktemp("ranges")
        keys = [None if shift is None else value(n // 2 + 10 + shift) for n, shift in enumerate(shifts)]
        paths = parts(folder, type_, [keys[:cut], keys[cut:]])
        cuts = ranges.conditions(paths, "k", kind, '"k"')
        seen.append(len(cuts))
        assert written(folder, paths, cuts).equals(written(folder, paths, []))

    seen: list[int] = []
    check()
    assert max(seen) > 2


@pytest.mark.usefixtures("small")
def test_the_file_does_not_show_where_ranges_were_cut(tmp_path: Path) -> None:
    def made(name: str, shift: int) -> bytes:
        (tmp_path / name).mkdir()
        paths = parts(tmp_path / name, pa.int64(), [list(range(shift, 100)), list(range(shift))])
        cuts = ranges.conditions(paths, "k", "BIGINT", '"k"')
        assert len(cuts) > 3
        with duck.session(2048, tmp_path / ".scratch") as connection:
            query = f"SELECT k FROM {parquet(paths)}"
            sorted_file.write(connection, query, ["k"], cuts, paths, tmp_path / name / "file")
        return (tmp_path / name / "file").read_bytes()

    assert made("a", 0) == made("b", 37)
    sizes = pq.read_metadata(tmp_path / "a" / "file")
    assert [sizes.row_group(n).num_rows for n in range(sizes.num_row_groups)] == [16] * 6 + [4]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (pa.int64(), [n * 37 % 101 for n in range(100)]),  # all over the files
        (pa.int64(), [7] * 100),  # nothing to cut between
        (pa.int64(), [None] * 100),
        (pa.string(), [f"{n:03d}" for n in range(100)]),  # ordered by Parquet in its own way
        (pa.float64(), [float(n) for n in range(100)]),
        (pa.timestamp("ns"), [START + timedelta(days=n) for n in range(100)]),
        (pa.int64(), list(range(9))),  # few
        (pa.int64(), []),
    ],
)
def test_where_cutting_does_not_pay_all_is_sorted_at_once(tmp_path: Path, kind: pa.DataType, keys: list[Any]) -> None:
    assert ranges.conditions(parts(tmp_path, kind, [keys]), "k", "BIGINT", '"k"') == []


def tables() -> Iterator[pa.Table]:
    yield pa.table({"k": pa.array([], pa.int64())})


def test_no_rows_are_no_row_group() -> None:
    assert list(sorted_file._row_groups(tables(), 16)) == []
