"""Rows on the edges of windows: equal cursors, hours that come twice, 100 nanoseconds, and no cursor at all."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.errors import DataError
from include.etl.handover import Extracted, Plan, Slice, Validated, Window
from include.etl.phases.load import load
from include.etl.phases.transform import transform
from include.etl.records.manifest import Manifest, read
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project, record_totals

INSERT = "INSERT INTO visits VALUES (?, '2024-01-01', '1.00', ?, ?)"
EDGE = datetime(2024, 1, 1, 12)
PLAIN = VISITS.replace(", lookback: 1h", "")


def add(project: Project, first: int, stamps: list[datetime | None], note: str = "fine") -> None:
    numbered = enumerate(stamps, first)
    project.execute(INSERT, [(number, note, stamp and stamp.isoformat(sep=" ")) for number, stamp in numbered])


def numbers(project: Project) -> list[int]:
    return [row[0] for row in project.rows("visit_id")]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_rows_on_an_edge_belong_to_the_later_window(project: Project, order: tuple[int, ...]) -> None:
    """A thousand rows of one moment are not cut, whichever of the windows around it is read first."""
    project.configure(PLAIN)
    instant = timedelta(microseconds=1)
    add(project, 0, [EDGE - instant, *[EDGE] * 1000, EDGE + instant])
    edges = ["2024-01-01T11:00:00Z", "2024-01-01T12:00:00Z", "2024-01-01T12:00:00.000001Z", "2024-01-01T13:00:00Z"]
    published = {}
    for window in order:
        result = project.run(start=edges[window], end=edges[window + 1])
        published[window] = result.manifest["rows"]["published"]
    assert published == {0: 1, 1: 1000, 2: 1}
    assert numbers(project) == list(range(1002))


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe"])
def test_the_nights_when_clocks_change_are_read_once(project: Project, zone: str) -> None:
    """Rows stamped by a clock on the wall, every few minutes, over a year's changes; windows of odd lengths."""
    dice = random.Random(zone)
    project.configure(PLAIN.replace("column: updated_at", f"column: updated_at, timezone: {zone}"))
    changes = [
        moment for moment in hours(2024) if moment.astimezone(ZoneInfo(zone)).utcoffset() != offset(moment, zone)
    ]
    assert len(changes) == 2
    stamps: list[datetime | None] = []
    for change in changes:
        moments = [change + timedelta(minutes=7 * step) for step in range(-40, 40)]
        stamps += [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    add(project, 0, stamps)
    for change in changes:
        start, last = change - timedelta(hours=5), change + timedelta(hours=5)
        while start < last:
            end = min(last, start + timedelta(minutes=dice.randrange(50, 200)))
            project.run(start=start.isoformat(), end=end.isoformat())
            start = end
    assert numbers(project) == list(range(len(stamps)))


def hours(year: int) -> list[datetime]:
    first = datetime(year, 1, 1, tzinfo=UTC)
    return [first + timedelta(hours=hour) for hour in range(1, 366 * 24)]


def offset(moment: datetime, zone: str) -> timedelta | None:
    """What the clock was set to an hour ago."""
    return (moment - timedelta(hours=1)).astimezone(ZoneInfo(zone)).utcoffset()


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_100_nanoseconds_beside_an_edge_stay_on_their_side(project: Project, zone: str | None) -> None:
    """A cursor with more digits than Python's: no version is lost, doubled or rounded, in files and in manifests."""
    project.configure(PLAIN)
    edge = int(EDGE.replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    kind = pa.timestamp("ns", zone)
    before, after = [edge - 100, edge - 51], [edge, edge + 100]
    first = publish(project, "first", -1, before, kind)
    second = publish(project, "second", 0, after, kind)
    assert (first.files[0].cursor_min, first.files[0].cursor_max) == ("2024-01-01T11:59:59.999999",) * 2
    assert (second.files[0].cursor_min, second.files[0].cursor_max) == ("2024-01-01T12:00:00.000000",) * 2
    assert found(project) == [(before[0], 0), (before[1], 1), (after[0], 2), (after[1], 3)]
    publish(project, "again", 0, [edge, edge + 200], kind)
    assert found(project) == [(before[0], 0), (before[1], 1), (edge, 2), (edge + 100, 3), (edge + 200, 3)]


def publish(project: Project, name: str, hour: int, stamps: list[int], kind: pa.DataType) -> Manifest:
    """What extract would hand over for the hour, transformed and published; the keys go with the hour."""
    storage = Storage(project.folder / "data")
    run = Run(load_source("visits"), name, storage)
    keys = pa.array([2 * (hour + 1), 2 * (hour + 1) + 1], pa.int64())
    days = pa.array([EDGE.date()] * 2)
    table = pa.table({"visit_id": keys, "visit_date": days, "updated_at": pa.array(stamps, kind)})
    path = storage.fresh_folder("raw", "visits", run.key) / "part-00000.parquet"
    pq.write_table(table, path)
    record_totals(path.parent, table.num_rows)
    start = EDGE.replace(tzinfo=UTC) + timedelta(hours=hour)
    window = Window(mode="range", start=start, end=start + timedelta(hours=1), read_from=start)
    plan = Plan(run_id=name, window=window)
    relative = storage.relative(path)
    read_at = datetime.now(UTC)
    extracted = [Extracted(slice=Slice(), parts=[relative], rows=2, bytes=1, query_hash="", extracted_at=read_at)]
    transformed = transform(run, plan, extracted)
    loaded = load(run, plan, extracted, Validated(verdict="no suite"), transformed, project.memory)
    return read(storage.absolute(loaded.manifest))


def found(project: Project) -> list[tuple[int, int]]:
    files: list[Path] = sorted(project.published.rglob("*.parquet"))
    tables = [pq.ParquetFile(path).read(columns=["updated_at", "visit_id"]) for path in files]
    rows = [
        row for table in tables for row in zip(table[0].cast(pa.int64()).to_pylist(), table[1].to_pylist(), strict=True)
    ]
    return sorted(rows)


def test_rows_without_cursor_that_come_later_are_read_once(project: Project) -> None:
    project.configure(PLAIN)
    add(project, 0, [None, EDGE])
    project.run()
    add(project, 10, [None, None])
    assert read_next(project) == 2
    assert read_next(project) == 0
    assert numbers(project) == [0, 1, 10, 11]
    project.execute("UPDATE visits SET updated_at = ? WHERE visit_id = 10", [(recently(),)])
    assert read_next(project) == 1
    assert Counter(numbers(project)) == {0: 1, 1: 1, 10: 2, 11: 1}, "another version of the row"


def read_next(project: Project) -> int:
    """Rows that the next run publishes; its window begins two minutes ago, as if the last one had ended there."""
    bound = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    key = "checkpoint__visits"
    project.variables[key] = project.variables[key].replace(bound_of(project), bound)
    rows = project.run().manifest["rows"]["published"]
    assert isinstance(rows, int)
    return rows


def bound_of(project: Project) -> str:
    return project.variables["checkpoint__visits"].partition('"bound": "')[2].partition('"')[0]


def recently() -> str:
    return (datetime.now(UTC) - timedelta(minutes=1)).replace(tzinfo=None).isoformat(sep=" ")


def test_a_range_holds_no_rows_without_cursor(project: Project) -> None:
    project.configure(PLAIN)
    add(project, 0, [None, EDGE])
    project.run(start="2024-01-01", end="2024-01-02")
    assert numbers(project) == [1]


def test_they_can_be_read_by_first_runs_only(project: Project) -> None:
    project.configure(PLAIN.replace("column: updated_at", "column: updated_at, nulls: first_run"))
    add(project, 0, [None, EDGE])
    project.run()
    add(project, 10, [None])
    assert read_next(project) == 0
    assert numbers(project) == [0, 1]


def test_they_can_be_refused(project: Project) -> None:
    project.configure(PLAIN.replace("column: updated_at", "column: updated_at, nulls: refuse"))
    add(project, 0, [EDGE])
    project.run()
    add(project, 10, [None])
    with pytest.raises(
        DataError, match=r"'visits': 1 rows have no value in the cursor column 'updated_at'; .*coalesce"
    ):
        read_next(project)
    with pytest.raises(DataError, match="cursor"):
        project.run(mode="full")
    assert numbers(project) == [0]
