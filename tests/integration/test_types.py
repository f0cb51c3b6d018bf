"""Whatever Arrow types an engine hands over go through validate, transform and load, in every format, unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.handover import Extracted, Plan, Slice, Window
from include.etl.phases.load import load
from include.etl.phases.transform import transform
from include.etl.phases.validate import check
from include.etl.publication import files
from include.etl.records import manifest
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import Project, record_totals

NOW = datetime(2024, 3, 1, tzinfo=UTC)
LAST_S, LAST_NS = 253_402_300_799, 9_223_372_036_854_775_807
SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [{key}]
cursor: {{column: {cursor}}}
schedule: {{full: "0 2 * * *"}}
output: {{formats: [parquet, csv, excel]}}
"""

COLUMNS: dict[str, pa.Array] = {
    "id": pa.array([1, 2, 3], pa.int64()),
    "ts_s": pa.array([LAST_S, -62_135_596_800, None], pa.timestamp("s")),
    "ts_ms": pa.array([1, -1, None], pa.timestamp("ms")),
    "ts_us": pa.array([1, -62_135_596_800_000_000, None], pa.timestamp("us")),
    "ts_ns": pa.array([LAST_NS, 1_709_251_199_123_456_789, None], pa.timestamp("ns")),
    "ts_ns_utc": pa.array([1_709_251_199_123_456_789, -1, None], pa.timestamp("ns", "UTC")),
    "ts_us_utc": pa.array([1_709_251_199_123_456, -1, None], pa.timestamp("us", "UTC")),
    "t_us": pa.array([86_399_999_999, 0, None], pa.time64("us")),
    "t_ns": pa.array([86_399_999_999_999, 1, None], pa.time64("ns")),
    "d64": pa.array([0, -86_400_000, None], pa.date64()),
    "d32": pa.array([2_932_896, -719_162, None], pa.date32()),
    "text": pa.array(["", "🏥 é", None], pa.large_string()),
    "raw": pa.array([b"", b"\x00\xff", None], pa.large_binary()),
    "u8": pa.array([255, 0, None], pa.uint8()),
    "u64": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "f32": pa.array([3.4028234663852886e38, float("-inf"), None], pa.float32()),
    "f64": pa.array([5e-324, -0.0, None], pa.float64()),
    "d38": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38), None], pa.decimal128(38, 0)),
    "d38_38": pa.array([Decimal("0." + "9" * 38), Decimal("1E-38"), None], pa.decimal128(38, 38)),
    "money": pa.array([Decimal("-922337203685477.5808"), Decimal(0), None], pa.decimal128(19, 4)),
    "flag": pa.array([True, False, None]),
}
BECOMES = {"d64": pa.date32(), "text": pa.string(), "raw": pa.binary()}
BECOMES |= {"ts_s": pa.timestamp("us"), "ts_ms": pa.timestamp("us")}
"""Published types that are others than those of the engine, and hold every value of theirs."""
SUITE = [
    *({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": name, "mostly": 0.6}} for name in COLUMNS),
    *({"type": "expect_column_values_to_be_unique", "kwargs": {"column": name}} for name in COLUMNS),
    *(
        {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": name, "min_value": 2}}
        for name in COLUMNS
    ),
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "u64", "min_value": 0}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "money", "max_value": 0}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "ts_us", "max_value": "2024-03-01"}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "ts_ns", "min_value": "2024-01-01"}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "ts_ns_utc", "min_value": "1969-01-01"}},
]


def through_all_phases(
    project: Project, parts: list[pa.Table], key: str = "id", cursor: str = "ts_us", load_as: str = "append"
) -> Run:
    """Validate, transform and load what an extraction has left."""
    project.configure(SOURCE.format(key=key, cursor=cursor) + f"load: {load_as}\n")
    run = Run(load_source("visits"), "run", Storage(project.folder / "data"))
    folder = run.storage.folder("raw", "visits", "run")
    for number, table in enumerate(parts):
        pq.write_table(table, folder / f"{number}.parquet")
    record_totals(folder, sum(table.num_rows for table in parts))
    handed = Extracted(
        slice=Slice(),
        parts=[run.storage.relative(folder / f"{number}.parquet") for number in range(len(parts))],
        rows=sum(table.num_rows for table in parts),
        bytes=0,
        query_hash="",
        extracted_at=NOW,
    )
    plan = Plan(run_id="run", window=Window(mode="full", end=NOW))
    validated = check(run, plan, [handed])
    load(run, plan, [handed], validated, transform(run, plan, [handed]), project.memory)
    return run


def published(run: Run) -> dict[str, pa.Table]:
    """Format -> the rows that its file gives back."""
    folder = manifest.published_folder(run.storage, "visits")
    (found,) = manifest.current(run.storage, "visits")
    return {file.format: files.read(folder, found, file).read_all() for file in found.files}


def exact(column: pa.ChunkedArray) -> list[str]:
    """Values where times are numbers of nanoseconds and -0.0 differs from 0.0."""
    if pa.types.is_timestamp(column.type):
        factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[column.type.unit]
        return [repr(value and value * factor) for value in column.cast(pa.int64()).to_pylist()]
    return [repr(value) for value in (column.cast(pa.int64()) if pa.types.is_time(column.type) else column).to_pylist()]


def test_every_type_is_published_as_it_was_read(project: Project) -> None:
    (project.folder / "expectations").mkdir()
    suite = {"name": "visits", "expectations": SUITE}
    (project.folder / "expectations" / "visits.json").write_text(json.dumps(suite))
    table = pa.table(COLUMNS)
    run = through_all_phases(project, [table.slice(0, 1), table.slice(1)])
    (found,) = manifest.current(run.storage, "visits")
    assert (found.validation["verdict"], found.validation["expectations"]) == ("passed", len(SUITE))
    for name, rows in published(run).items():
        rows = rows.sort_by("id")
        for column, values in COLUMNS.items():
            assert rows[column].type == BECOMES.get(column, values.type), (name, column)
            assert exact(rows[column]) == exact(table[column]), (name, column)


@pytest.mark.parametrize("cursor", [name for name in COLUMNS if name.startswith(("ts_", "d64", "d32"))])
def test_the_latest_version_stays_whatever_unit_the_cursor_counts_in(project: Project, cursor: str) -> None:
    kind = COLUMNS[cursor].type
    step = {"date64[ms]": 86_400_000}.get(str(kind), 1)
    numbers = [5, 5 + step, None, 5] if step == 1 else [0, step, None, 0]
    column: list[Any] = pa.array(numbers, pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    table = pa.table({"id": [1, 1, 1, 2], cursor: column, "version": ["old", "latest", "none", "only"]})
    for rows in published(through_all_phases(project, [table], cursor=cursor, load_as="merge")).values():
        assert sorted(rows["version"].to_pylist()) == ["latest", "only"]


@pytest.mark.parametrize("key", [name for name in COLUMNS if name not in ("f32", "f64", "flag", "id")])
def test_a_key_of_any_type_tells_rows_apart(project: Project, key: str) -> None:
    twice = COLUMNS[key].take(pa.array([0, 0, 1]))
    table = pa.table({"id": [1, 2, 3], key: twice, "at": pa.array([1, 2, 3], pa.timestamp("us"))})
    for rows in published(through_all_phases(project, [table], key=key, cursor="at", load_as="merge")).values():
        assert sorted(rows["id"].to_pylist()) == [2, 3]
