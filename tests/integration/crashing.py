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

from include.etl.handover import Bounds, Extracted, Plan, Slice, Transformed, Validated
from include.etl.phases import extract as extract_phase
from include.etl.phases import load as load_phase
from include.etl.phases import plan as plan_phase
from include.etl.phases import transform as transform_phase
from include.etl.publication import files, standing
from include.etl.records.run import Run
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


def prepare(folder: Path) -> None:
    """The first publication, and what changes in the source after it."""
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "visits.yaml").write_text(VISITS)
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        database.execute(
            "CREATE TABLE visits (visit_id INTEGER PRIMARY KEY, visit_date DATE, note TEXT, updated_at TIMESTAMP)"
        )
        rows = [(n, _day(n), "first", FIRST - DAY + timedelta(minutes=20 * n)) for n in range(ROWS)]
        database.executemany("INSERT INTO visits VALUES (?, ?, ?, ?)", [(*row[:3], _text(row[3])) for row in rows])
    night(folder, "first", FIRST)
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        later = [(n, _day(n), "second", FIRST + timedelta(minutes=20 * n)) for n in (*range(0, 50, 4), *range(60, 70))]
        database.executemany("REPLACE INTO visits VALUES (?, ?, ?, ?)", [(*row[:3], _text(row[3])) for row in later])


def _day(number: int) -> str:
    # The last day of the first publication holds late rows only: all of them move, and its files go.
    return "2024-01-01" if number < 30 else "2024-01-02" if number < 50 else "2024-01-03"


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ")


def night(folder: Path, run_id: str, end: datetime, afresh: bool = True) -> None:
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
    planned = tasks("plan", Plan, lambda: plan_phase.plan(run, plan_phase.Parameters(), trigger, variables))
    read = [
        tasks(f"extract-{n}", Extracted, lambda n=n: extract_phase.extract(run, planned, Slice(index=n)))  # type: ignore[misc]
        for n in range(len(planned.slices))
    ]
    interim = tasks("transform", Transformed, lambda: transform_phase.transform(run, planned, read))
    load_phase.load(run, planned, read, Validated(verdict="no suite"), interim, variables)


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


def prepare_and_list_modules(folder: Path) -> None:
    """Also tell which modules a run imports, so that the others' parent imports them once."""
    prepare(folder)
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
                columns = table.select(["visit_id", "note", "updated_at", "visit_date"]).to_pylist()
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
    assert all(found == {int(row[1]) for row in new} for found in (*globbed(folder), listed(folder)))
    bound = FIRST + (2 if recovery == "next night" else 1) * DAY
    assert str(json.loads(str(FileVariables(folder).get("checkpoint__visits")))["bound"]) == f"{bound:%Y-%m-%dT%XZ}"
    if recovery != "next night":
        assert published_bytes(folder) == published_bytes(undisturbed), "files differ from an undisturbed run's"
        assert not left_over(folder / "data"), left_over(folder / "data")
    else:
        assert not [path for path in left_over(folder / "data") if path.parts[0] not in ("raw", "interim", "runs")]
        statuses = {path.parent.name[:6]: json.loads(path.read_text()) for path in _summaries(folder)}
        assert statuses["third-"]["status"] == "published"
        assert statuses.get("second", {"status": "never began"})["status"] != "running"


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
