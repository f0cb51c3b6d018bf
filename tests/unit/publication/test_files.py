"""Published files say of their rows what is true of all of them, in however many batches they were written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.completeness.publication import of_format
from include.etl.completeness.totals import of_parquet
from include.etl.errors import ConfigurationError, StorageError
from include.etl.handover import DELETED_AT, Window
from include.etl.publication import files
from include.etl.publication.schema import encoded
from include.etl.records.manifest import PublishedFile
from include.etl.storage import sha256
from tests.unit.etl.test_plan import INTERVAL, source

pytestmark = pytest.mark.usefixtures("far_away")
FORMATS = ["parquet", "csv", "excel"]
WINDOW = Window(mode="incremental", start=INTERVAL[0], end=INTERVAL[1])
DAYS = [date(2024, 3, 1), date(2024, 3, 2), None]
SCHEMA = pa.schema(
    [
        ("visit_id", pa.int64()),
        ("day", pa.date32()),
        ("seen", pa.timestamp("us")),
        ("note", pa.string()),
        (DELETED_AT, pa.timestamp("us", "UTC")),
    ]
)
FIELDS = {name: SCHEMA.field(name).type for name in ("visit_id", "day", "seen", "note")}
FIRST = datetime(2024, 3, 1, 8)


def of(**changes: Any) -> Any:
    return source(output={"formats": FORMATS, "partition_by": "day"}, cursor={"column": "seen"}, **changes)


def rows(days: list[date | None], stamps: list[int | None], deleted: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return [
        {
            "visit_id": number,
            "day": day,
            "seen": None if stamp is None else FIRST + timedelta(microseconds=stamp),
            "note": f"n{number}" if number % 2 else None,
            DELETED_AT: FIRST.replace(tzinfo=UTC) if number in deleted else None,
        }
        for number, (day, stamp) in enumerate(zip(days, stamps, strict=True))
    ]


@pytest.fixture
def interim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Batches of two rows each."""
    monkeypatch.setattr(files, "BATCH_ROWS", 2)
    return tmp_path / "interim.parquet"


def write(interim: Path, made: list[dict[str, Any]], asked: Any) -> list[PublishedFile]:
    pq.write_table(pa.Table.from_pylist(made, SCHEMA), interim)
    shutil.rmtree(interim.parent / "new", ignore_errors=True)
    return files.write(asked, WINDOW, interim, interim.parent / "new", "seen")


@pytest.mark.parametrize(
    ("stamps", "low", "high", "missing"),
    [
        ([5, 6, 7, 8, 9], 5, 9, False),
        ([9, 8, 7, 6, 5], 5, 9, False),
        ([6, 7, 5, 9, 8], 5, 9, False),
        ([None, 6, 7, 8, 9], 6, 9, True),
        ([5, 6, 7, 8, None], 5, 8, True),
        ([None, None, 7, 8, 6], 6, 8, True),
        ([5, 6, None, None, None], 5, 6, True),
        ([None] * 5, None, None, True),
    ],
)
def test_ends_of_the_cursor_are_those_of_all_batches(
    interim: Path, stamps: list[int | None], low: int | None, high: int | None, missing: bool
) -> None:
    for file in write(interim, rows(DAYS[:1] * 5, stamps), of()):
        ends = [None if end is None else f"2024-03-01T08:00:00.{end:06d}" for end in (low, high)]
        assert [file.cursor_min, file.cursor_max, file.cursor_missing] == [*ends, missing]
        assert (file.rows, file.deleted, file.partition) == (5, 0, "2024-03-01")


@pytest.mark.parametrize("deleted", [(0,), (1, 2), (4,), (0, 1, 2, 3, 4)])
def test_marked_rows_of_all_batches_are_counted(interim: Path, deleted: tuple[int, ...]) -> None:
    made = rows(DAYS[:1] * 5, [1] * 5, deleted)
    asked = of(deletes="mark", schedule={"full": "@daily"})
    assert {file.deleted for file in write(interim, made, asked)} == {len(deleted)}
    assert {file.deleted for file in write(interim, made, of())} == {0}, "nobody has marked them"


def manifest(listed: list[PublishedFile]) -> Any:
    return SimpleNamespace(source="visits", files=listed, partition_by="day", arrow_schema=encoded(SCHEMA))


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_reads_back_what_was_written(
    interim: Path, connection: duckdb.DuckDBPyConnection, name: str
) -> None:
    """In a file for each day, and one for those without; also the column that the folders are named after."""
    written = write(interim, rows([DAYS[0]] * 3 + [DAYS[1]] * 4 + [None] * 2, [*range(8), None]), of())
    mine, staging = [file for file in written if file.format == name], interim.parent / "new"
    assert [(file.partition, file.rows) for file in mine] == [("2024-03-01", 3), ("2024-03-02", 4), (files.NO_VALUE, 2)]
    assert [file.path.partition("/")[0] for file in mine] == [f"day={file.partition}" for file in mine]
    assert [file.cursor_missing for file in mine] == [False, False, True]
    for file in mine:
        path = staging / file.path
        assert (file.bytes, file.sha256) == (path.stat().st_size, sha256(path))
    expected = of_parquet(connection, [interim], FIELDS)
    assert of_format(connection, staging, manifest(written), name, FIELDS) == expected
    assert of_format(connection, staging, manifest(written), name, {}).rows == 9
    read = [row for file in mine for row in files.read(staging, manifest(written), file).read_all().to_pylist()]
    assert read == pq.read_table(interim).to_pylist()
    for fields in (FIELDS, {}):
        wrong = [file.model_copy(update={"rows": file.rows + (file is mine[1])}) for file in written]
        with pytest.raises(StorageError, match=rf"file {mine[1].path}: 5 rows were written, 4 read back"):
            of_format(connection, staging, manifest(wrong), name, fields)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_rewritten_says_what_is_left(interim: Path, name: str) -> None:
    written = write(interim, rows(DAYS[:1] * 5, [5, None, 7, 8, 9], (0, 3)), of())
    (old,) = [file for file in written if file.format == name]
    old = old.model_copy(update={"deleted": 2})
    described = SimpleNamespace(**vars(manifest(written)), cursor="seen")
    left = files.read(interim.parent / "new", described, old).read_all().slice(2)
    found = files.rewrite(described, old, left.to_reader(max_chunksize=1), interim.parent / "rewritten")
    assert (found.path, found.format, found.partition) == (old.path, old.format, old.partition)
    assert (found.rows, found.deleted, found.cursor_missing) == (3, 1, False)
    assert (found.cursor_min, found.cursor_max) == ("2024-03-01T08:00:00.000007", "2024-03-01T08:00:00.000009")
    assert files.read(interim.parent / "rewritten", described, found).read_all().to_pylist() == left.to_pylist()


@pytest.mark.parametrize(
    ("zone", "end", "day"),
    [
        ("Asia/Singapore", "2024-03-09T16:00Z", "2024-03-09"),
        ("Asia/Singapore", "2024-03-09T16:00:01Z", "2024-03-10"),
        ("America/Los_Angeles", "2024-03-10T08:00Z", "2024-03-09"),
        ("America/Los_Angeles", "2024-03-10T08:00:00.000001Z", "2024-03-10"),
        ("UTC", "2024-03-10T00:00Z", "2024-03-09"),
    ],
)
def test_a_result_without_rows_lies_in_the_last_day_of_the_sources_zone(
    interim: Path, zone: str, end: str, day: str
) -> None:
    pq.write_table(SCHEMA.empty_table(), interim)
    window = Window(mode="incremental", end=datetime.fromisoformat(end))
    written = files.write(of(timezone=zone), window, interim, interim.parent / "new", "seen")
    assert [(file.partition, file.rows, file.cursor_min) for file in written] == [(day, 0, None)] * 3
    numbered = Window(mode="incremental", end=9)
    written = files.write(of(), numbered, interim, interim.parent / "numbered", "seen")
    assert {file.partition for file in written} == {files.NO_VALUE}


@pytest.mark.parametrize(("column", "found"), [("seen", r"it is timestamp\[us\]"), ("none", "there is no such column")])
def test_a_partition_is_a_date(column: str, found: str) -> None:
    asked = source(output={"formats": ["parquet"], "partition_by": column})
    with pytest.raises(ConfigurationError, match=rf"'{column}': {found}; allowed: a published column of dates \(day\)"):
        files.check_partition(asked, SCHEMA)
    with pytest.raises(ConfigurationError, match="none here"):
        files.check_partition(asked, pa.schema([("a", pa.int64())]))
    files.check_partition(of(), SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        [-(10**38) + 1, -4711, -1, 0, 1, 9, 10, 4711, 10**38 - 1],
        [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)],
        [datetime(1, 1, 1), datetime(2024, 3, 1), datetime(2024, 3, 1, 0, 0, 0, 1), datetime(9999, 12, 31)],
        [datetime.fromisoformat(f"2024-03-10T{text}") for text in ("09:00+08:00", "02:30+01:00", "01:31Z")],
    ],
)
def test_text_of_cursor_values_sorts_as_they_do(values: list[Any]) -> None:
    texts = [str(files.cursor_text(value)) for value in values]
    assert texts == sorted(texts)
    assert len(set(texts)) == len(texts)
    assert files.cursor_text(None) is None
