"""A run that is killed, or fails, at its n-th durable step: what a child process does for test_crash_anywhere.

Steps are counted where the operating system, the Parquet writer or the Variables are called, in the child only.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from include.etl import quarantine
from include.etl.handover import Bounds, Extracted, Plan, Slice, Transformed, Validated
from include.etl.phases import extract as extract_phase
from include.etl.phases import load as load_phase
from include.etl.phases import plan as plan_phase
from include.etl.phases import transform as transform_phase
from include.etl.phases import validate as validate_phase
from include.etl.publication import files, standing
from include.etl.records.run import Run
from include.etl.records.set_aside import NEXT
from include.etl.sources import load_source
from include.etl.storage import Storage

VISITS = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: updated_at, lookback: 1h}
schedule: {incremental: "0 2 * * *"}
extract: {batch_rows: 10}
output: {formats: [parquet, csv], partition_by: visit_date}
"""
MERGE = """
load: merge
deletes: mark
validation: {on_failure: quarantine, max_rejected: 20%}
"""
SUITE = {
    "name": "visits",
    "expectations": [
        {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "note", "value_set": ["bad"]}}
    ],
}
GONE, BACK, BAD = (55, 56, 57), 56, (61, 62)
"""With `merge`: keys that a full run has marked as deleted, one that comes back, and rows that are set aside."""
FIRST = datetime(2024, 1, 2, 2, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = 60


class Fault(Exception):
    """Stands for any error in the middle."""


class Frozen(datetime):
    """The moment of extraction stands in every row, so bytes can only be compared if it is always the same."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2024, 1, 5, tzinfo=UTC)


class FileVariables:
    """Airflow Variables that outlive the process, as those in the metadata database do."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "variables.json"
        self._replace = os.replace

    def get(self, key: str) -> str | None:
        return json.loads(self.path.read_text()).get(key) if self.path.exists() else None

    def set(self, key: str, value: str, description: str) -> None:
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.with_suffix(".new").write_text(json.dumps(known | {key: value}))
        self._replace(self.path.with_suffix(".new"), self.path)

    def overridden_by(self, key: str) -> str:
        return ""


def prepare(folder: Path, load: str) -> None:
    """The first publication, and what changes in the source after it."""
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "visits.yaml").write_text(VISITS + (MERGE if load == "merge" else ""))
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        database.execute(
            "CREATE TABLE visits (visit_id INTEGER PRIMARY KEY, visit_date DATE, note TEXT, updated_at TIMESTAMP)"
        )
        rows = [(n, _day(n), "first", FIRST - DAY + timedelta(minutes=20 * n)) for n in range(ROWS)]
        database.executemany("INSERT INTO visits VALUES (?, ?, ?, ?)", [(*row[:3], _text(row[3])) for row in rows])
    night(folder, "first", FIRST)
    if load == "merge":
        _mark(folder)
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        later = [(n, _day(n), "second", FIRST + timedelta(minutes=20 * n)) for n in (*range(0, 50, 4), *range(60, 70))]
        database.executemany("REPLACE INTO visits VALUES (?, ?, ?, ?)", [(*row[:3], _text(row[3])) for row in later])
        if load == "merge":
            back = (BACK, _day(BACK), "back", _text(FIRST + timedelta(hours=1)))
            database.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", back)
            database.execute(f"UPDATE visits SET note = 'bad' WHERE visit_id IN {BAD}")


def _mark(folder: Path) -> None:
    """A full run, with a suite from now on, marks what has left the source."""
    (folder / "expectations").mkdir()
    (folder / "expectations" / "visits.json").write_text(json.dumps(SUITE))
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        database.execute(f"DELETE FROM visits WHERE visit_id IN {GONE}")
    night(folder, "full", FIRST, mode="full")


def _day(number: int) -> str:
    # The last day of the first publication holds late rows only: all of them move, and its files go.
    return "2024-01-01" if number < 30 else "2024-01-02" if number < 50 else "2024-01-03"


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ")


def night(folder: Path, run_id: str, end: datetime, afresh: bool = True, mode: str | None = None) -> None:
    """One scheduled run, task by task; what a task returned is kept, as XComs are, and it is not run again.

    The interval begins twelve hours before the checkpoint: rows of the older publication are read again and move.
    """
    os.environ["ETL_INCLUDE"], os.environ["ETL_DATA_URI"] = str(folder), str(folder / "data")
    os.environ["AIRFLOW_CONN_CLINIC"] = json.dumps({"conn_type": "sqlite", "host": str(folder / "clinic.db")})
    extract_phase.datetime = Frozen  # type: ignore[attr-defined,misc]
    extract_phase.PART_ROWS, extract_phase.ROW_GROUP_ROWS = 20, 10
    cuts = [{"column": "visit_id", "end": "40"}, {"column": "visit_id", "start": "40"}]
    plan_phase.survey = lambda source, window: [Bounds.model_validate(cut) for cut in cuts]  # type: ignore[assignment]
    run = Run(load_source("visits"), run_id, Storage.from_environment(), "visits")
    tasks = _Tasks(folder / "xcom" / run_id, afresh)
    variables = FileVariables(folder)
    trigger = plan_phase.Trigger(end, (end - DAY - DAY / 2, end), scheduled=True)
    planned = tasks("plan", Plan, lambda: plan_phase.plan(run, plan_phase.Parameters(mode), trigger, variables))
    read = [
        tasks(f"extract-{n}", Extracted, lambda n=n: extract_phase.extract(run, planned, Slice(index=n)))  # type: ignore[misc]
        for n in range(len(planned.slices))
    ]
    validated = Validated(verdict="no suite")
    if run.source.suite_path:
        validated = tasks("validate", Validated, lambda: validate_phase.check(run, planned, read))
    interim = tasks("transform", Transformed, lambda: transform_phase.transform(run, planned, read))
    load_phase.load(run, planned, read, validated, interim, variables)


class _Tasks:
    def __init__(self, folder: Path, afresh: bool) -> None:
        self.folder = folder
        self._replace = os.replace
        if afresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, kind: Any, work: Callable[[], Any]) -> Any:
        path = self.folder / name
        if not path.exists():
            result = work()
            path.with_suffix(".new").write_text(result.model_dump_json())
            self._replace(path.with_suffix(".new"), path)
        return kind.model_validate_json(path.read_text())


def count_steps(strike: Callable[[int, str], None]) -> list[str]:
    """From now on call `strike` before each durable step, and note the step's name."""
    steps: list[str] = []
    os.fsync = lambda handle: None  # type: ignore[assignment]  # a process that dies loses nothing the kernel has

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            strike(len(steps), name)
            steps.append(name)
            return real(*args, **kwargs)

        setattr(owner, name, call)

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        counted(os, name)
    for owner, name in (
        (pq.ParquetWriter, "write_table"),
        (pq.ParquetWriter, "write_batch"),
        (FileVariables, "set"),
        (Path, "write_text"),
    ):
        counted(owner, name)
    return steps


def second_night(folder: Path, strike: Callable[[int, str], None] | None = None) -> None:
    """The run that is disturbed; the names of its steps go to a file."""
    steps = count_steps(strike or (lambda number, name: None))
    tracked = folder / "steps.json"
    try:
        night(folder, "second", FIRST + DAY)
    except Fault:
        return
    with tracked.open("w") as file:
        json.dump(steps, file)


def reporting(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Do it with the log and any error in a file beside the folder, for the test's message."""
    with folder.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        work(folder, *arguments)


def prepare_and_list_modules(folder: Path, load: str) -> None:
    """Also tell which modules a run imports, so that the others' parent imports them once."""
    prepare(folder, load)
    (folder / "modules").write_text("\n".join(name for name in sys.modules if not name.startswith("__")))


def killed_at(folder: Path, number: int) -> None:
    """Die as by a power cut of the process: nothing is cleaned up."""

    def strike(step: int, name: str) -> None:
        if step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    second_night(folder, strike)


def failing_at(folder: Path, number: int) -> None:
    """Raise once, and let the code clean up."""
    armed = [number]

    def strike(step: int, name: str) -> None:
        if [step] == armed:
            armed.clear()
            raise Fault

    second_night(folder, strike)


Rows = Counter[tuple[Any, ...]]


def seen(folder: Path) -> Rows:
    """Every row that the project's own reader finds, through manifests, in each format."""
    found: Rows = Counter()
    with standing.held(Storage(folder / "data"), "visits", "test") as published:
        for manifest in published.manifests:
            for file in manifest.files:
                table = files.read(published.folder_of(file), manifest, file).read_all()
                assert table.num_rows == file.rows
                marks = [name for name in table.column_names if name == "_deleted_at"]
                columns = table.select(["visit_id", "note", "updated_at", "visit_date", *marks]).to_pylist()
                found.update((file.format, *map(str, row.values())) for row in columns)
    return found


def globbed(folder: Path) -> Iterator[set[int]]:
    """Keys that somebody finds who reads all files of the folder, by format; fails on a file that is not whole."""
    published = folder / "data" / "processed" / "visits"
    with closing(duckdb.connect()) as connection:
        found = connection.execute(f"SELECT visit_id FROM read_parquet('{published}/**/*.parquet')").fetchall()
    yield {row[0] for row in found}
    keys = set()
    for path in published.rglob("*.csv.gz"):
        with gzip.open(path, "rt", newline="") as lines:
            keys |= {int(row["visit_id"]) for row in csv.DictReader(lines)}
    yield keys


def listed(folder: Path) -> set[int]:
    """Keys that somebody finds who reads the manifests as they stand, and the Parquet files that they list."""
    published, keys = folder / "data" / "processed" / "visits", set()
    for path in (published / "_manifests").glob("*.json"):
        for file in json.loads(path.read_text())["files"]:
            if file["format"] == "parquet":
                keys |= set(pq.ParquetFile(published / file["path"]).read(["visit_id"]).column(0).to_pylist())
    return keys


def checked(folder: Path, old: Rows, new: Rows, undisturbed: Path, recovery: str) -> None:
    """After the crash: readers, then the recovery, then that everything is as if nothing had happened."""
    assert seen(folder) in (old, new), "the reader sees a mixture"
    keys = {int(row[1]) for row in old}
    assert all(keys <= found for found in (*globbed(folder), listed(folder))), "a plain reader misses rows"
    if recovery == "next night":
        night(folder, "third", FIRST + 2 * DAY)
    else:
        night(folder, "second", FIRST + DAY, afresh=recovery == "cleared")
    assert seen(folder) == new
    assert set_aside(folder) == set_aside(undisturbed)
    assert all(found == {int(row[1]) for row in new} for found in (*globbed(folder), listed(folder)))
    bound = FIRST + (2 if recovery == "next night" else 1) * DAY
    assert str(json.loads(str(FileVariables(folder).get("checkpoint__visits")))["bound"]) == f"{bound:%Y-%m-%dT%XZ}"
    if recovery != "next night":
        assert published_bytes(folder) == published_bytes(undisturbed), "files differ from an undisturbed run's"
        assert not left_over(folder / "data"), left_over(folder / "data")
        assert not list((folder / "data").rglob(NEXT))
    else:
        assert not [path for path in left_over(folder / "data") if path.parts[0] not in ("raw", "interim", "runs")]
        statuses = {path.parent.name[:6]: json.loads(path.read_text()) for path in _summaries(folder)}
        assert statuses["third-"]["status"] == "published"
        assert statuses.get("second", {"status": "never began"})["status"] != "running"


def set_aside(folder: Path) -> set[int]:
    """Keys of the rows that are in quarantine."""
    storage = Storage(folder / "data")
    paths = [quarantine.rows_file(storage, one) for one in quarantine.standing(storage, "visits")]
    return {key for path in paths for key in pq.read_table(path)["visit_id"].to_pylist()}


def _summaries(folder: Path) -> Iterator[Path]:
    return (folder / "data" / "runs" / "visits").glob("*/summary.json")


def published_bytes(folder: Path) -> dict[str, bytes]:
    """All published data files."""
    published = folder / "data" / "processed" / "visits"
    paths = [path for path in published.rglob("*-0.*") if path.is_file()]
    return {path.relative_to(published).as_posix(): path.read_bytes() for path in paths}


def left_over(data: Path) -> list[Path]:
    """Temporary files, and whatever lies in staging."""
    found = [path for path in data.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".scratch")]
    return [path.relative_to(data) for path in (*found, *(data / "staging").glob("*/*"))]
