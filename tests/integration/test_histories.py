"""Random histories of a source and of runs over it, beside a model that says what must be published after each run.

HISTORY_SEEDS=50 asks for more of them than the suite has time for.
"""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.etl import storage
from include.etl.handover import Validated, Window
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.publication import files, journal, standing
from include.etl.records import manifest
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project

START = datetime(2024, 1, 1, tzinfo=UTC)
KEYS, HOURS, RUNS = 12, 60, 5
SEEDS = range(int(os.environ.get("HISTORY_SEEDS", "2")))


class Stopped(BaseException):
    """Stands for a process that dies."""


@dataclass(frozen=True)
class Row:
    """A row as it is published: in the source, or marked as deleted."""

    key: int | None
    day: str | None
    note: str
    cursor: datetime | None
    deleted: bool = False
    window: str = field(default="", compare=False)
    """Name of the publication that holds it."""

    @property
    def rank(self) -> datetime:
        return self.cursor or datetime.min


@dataclass
class Model:
    """What must be published."""

    merge: bool
    mark: bool
    rows: list[Row] = field(default_factory=list)

    def publish(self, window: Window, source: dict[int, Row]) -> None:
        read = [replace(row, window=window.name) for row in source.values() if within(row, window)]
        if window.mode == "full":
            last = {row.key: row for row in sorted(self.rows, key=lambda row: row.rank)}
            gone = [replace(row, deleted=True) for key, row in last.items() if key not in source]
            self.rows = read + (gone if self.mark else [])
        elif self.merge:
            for row in read:
                self._merge(row, window)
        else:
            self._append(read, window)

    def _merge(self, row: Row, window: Window) -> None:
        before = next((one for one in self.rows if one.key == row.key), None)
        again = looked_back(row, window) and before is not None and before.window != window.name
        wins = before is None or before.deleted or row.rank > before.rank or (row.rank == before.rank and not again)
        if wins:
            self.rows = [one for one in self.rows if one.key != row.key] + [row]

    def _append(self, read: list[Row], window: Window) -> None:
        keys, others = {row.key for row in read}, [row for row in self.rows if row.window != window.name]
        others = [row for row in others if not (row.deleted and row.key in keys)]
        again = {(row.key, row.cursor) for row in read}
        own = [row for row in self.rows if row.window == window.name and (row.key, row.cursor) not in again]
        standing = {(row.key, row.cursor) for row in others}
        new = [row for row in read if not (looked_back(row, window) and (row.key, row.cursor) in standing)]
        versions = {(row.key, row.cursor) for row in new}
        self.rows = [row for row in others if (row.key, row.cursor) not in versions] + new + own


def within(row: Row, window: Window) -> bool:
    if window.mode == "full" or row.cursor is None:
        return window.read_from is None or window.mode == "incremental"
    moment = row.cursor.replace(tzinfo=UTC)
    return moment < window.end and (window.read_from is None or window.read_from <= moment)


def looked_back(row: Row, window: Window) -> bool:
    return window.start is not None and (row.cursor is None or row.cursor.replace(tzinfo=UTC) < window.start)


@dataclass
class History:
    """A source that changes, a clock of its own, and runs."""

    project: Project
    dice: random.Random
    model: Model
    now: datetime = START
    source: dict[int, Row] = field(default_factory=dict)
    runs: list[tuple[str, Parameters, Trigger]] = field(default_factory=list)

    def change(self) -> None:
        """Insert, update (with or without a later cursor, to another day or not) or delete a few rows."""
        self.now += timedelta(hours=self.dice.randrange(1, 6))
        for _ in range(self.dice.randrange(1, 5)):
            key = self.dice.randrange(KEYS)
            if self.dice.random() < 0.25:
                self.source.pop(key, None)
                continue
            hours = self.dice.choice([0, 0, 0, 1, 5, HOURS])
            cursor = None if self.dice.random() < 0.1 else self.now.replace(tzinfo=None) - timedelta(hours=hours)
            if key in self.source and self.dice.random() < 0.2:
                cursor = self.source[key].cursor
            day = self.dice.choice([None, "2024-01-01", "2024-01-02", "2024-01-03"])
            self.source[key] = Row(key, day, f"note {self.dice.random()}", cursor)
        with closing(sqlite3.connect(self.project.folder / "clinic.db")) as connection, connection:
            connection.execute("DELETE FROM visits")
            rows = [(r.key, r.day, "1.00", r.note, r.cursor and r.cursor.isoformat(" ")) for r in self.source.values()]
            connection.executemany("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)

    def choose(self) -> tuple[str, Parameters, Trigger]:
        """The next run: any mode, or an earlier one that is cleared."""
        kind = self.dice.choice(["incremental", "incremental", "range", "backfill", "full", "cleared"])
        run_id, trigger = f"run {len(self.runs)}", Trigger(self.now)
        if kind == "cleared" and self.runs:
            run_id, parameters, trigger = self.dice.choice(self.runs)
            return run_id, parameters, replace(trigger, now=self.now)
        start = self.now - timedelta(hours=self.dice.randrange(2, HOURS))
        if kind == "range":
            end = min(self.now, start + timedelta(hours=self.dice.randrange(1, 30)))
            return run_id, Parameters(start=start.isoformat(), end=end.isoformat()), trigger
        if kind == "backfill":
            return run_id, Parameters(), Trigger(self.now, (start, start + timedelta(hours=12)), backfill=True)
        return run_id, Parameters(mode="full" if kind == "full" else None), trigger

    def run(self, monkeypatch: pytest.MonkeyPatch, risk: float) -> bool:
        """One run, which may be killed while it publishes; returns whether it ended."""
        chosen = self.choose()
        run_id, parameters, trigger = chosen
        self.runs.append(chosen)
        run = Run(load_source("visits"), run_id, Storage.from_environment(), "visits")
        planned = plan(run, parameters, trigger, self.project.memory)
        read = [extract(run, planned, part) for part in planned.slices]
        interim = transform(run, planned, read)
        stopped, left = False, self._journal()
        with monkeypatch.context() as patch:
            if self.dice.random() < risk:
                die(patch, self.dice.randrange(8))
            try:
                load(run, planned, read, Validated(verdict="no suite"), interim, self.project.memory)
            except Stopped:
                stopped = True
        if not stopped or self._journal() not in (None, left):
            self.model.publish(planned.window, self.source)
        return not stopped

    def _journal(self) -> str | None:
        """The list of a publication that is certain but not finished."""
        path = self.project.folder / "data" / "staging" / "visits" / journal.NAME
        return path.read_text() if path.exists() else None

    def check(self) -> None:
        """Each format holds exactly the model's rows, each in the folder of its day."""
        expected = sorted(map(plain, self.model.rows))
        source, folder = load_source("visits"), self.project.published
        for format_name in source.output.formats:
            assert sorted(self._read(format_name)) == expected, format_name
        self.check_held()
        listed = {file.path for one in self._manifests() for file in one.files}
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*-0.*") if "_manifests" not in p.parts}
        assert there == listed

    def check_held(self) -> None:
        """Readers who ask for what stands see the model's rows, also after a kill."""
        expected = sorted(map(plain, self.model.rows))
        with standing.held(Storage.from_environment(), "visits", "test") as found:
            listed = [(found.folder_of(file), one, file) for one in found.manifests for file in one.files]
            for format_name in load_source("visits").output.formats:
                assert sorted(rows_of([one for one in listed if one[2].format == format_name])) == expected

    def _manifests(self) -> list[manifest.Manifest]:
        return manifest.current(Storage.from_environment(), "visits")

    def _read(self, format_name: str) -> list[tuple[str, ...]]:
        if format_name == "parquet":
            everything = f"read_parquet('{self.project.published}/**/*.parquet', union_by_name = true)"
            with closing(duckdb.connect()) as connection:
                columns = "visit_id, visit_date, note, updated_at" + (", _deleted_at" if self.model.mark else ", NULL")
                found = connection.execute(f"SELECT {columns} FROM {everything}").fetchall()
            return [plain(Row(k, d and str(d), n, c, gone is not None)) for k, d, n, c, gone in found]
        listed = [(self.project.published, one, file) for one in self._manifests() for file in one.files]
        return rows_of([one for one in listed if one[2].format == format_name])


def rows_of(listed: list[tuple[Path, manifest.Manifest, manifest.PublishedFile]]) -> list[tuple[str, ...]]:
    rows = []
    for folder, one, file in listed:
        table = files.read(folder, one, file).read_all()
        assert len(table) == file.rows
        for row in table.to_pylist():
            day = row["visit_date"] and str(row["visit_date"])
            marked = row.get("_deleted_at") is not None
            rows.append(plain(Row(row["visit_id"], day, row["note"], row["updated_at"], marked)))
    return rows


def plain(row: Row) -> tuple[str, ...]:
    return tuple(map(str, (row.key, row.day, row.note, row.cursor, row.deleted)))


def die(patch: pytest.MonkeyPatch, step: int) -> None:
    """Stop before the n-th change that the publication makes."""
    calls = iter(range(10_000))

    def dying(function: Any) -> Any:
        def call(*args: Any) -> Any:
            if next(calls) == step:
                raise Stopped
            return function(*args)

        return call

    patch.setattr(journal, "publish", dying(storage.publish))
    patch.setattr(journal, "_remove", dying(journal._remove))
    patch.setattr(journal, "write_json", dying(storage.write_json))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("mode", "deletes", "formats"),
    [
        ("append", "ignore", "parquet, csv"),
        ("append", "mark", "parquet, csv"),
        ("merge", "ignore", "parquet"),
        ("merge", "mark", "parquet, csv"),
        ("merge", "mark", "csv"),
    ],
)
def test_published_rows_equal_the_model_after_every_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, mode: str, deletes: str, formats: str, seed: int
) -> None:
    yaml = VISITS.replace("[parquet]", f"[{formats}]").replace("lookback: 1h", "lookback: 4h")
    project.configure(f"{yaml}load: {mode}\ndeletes: {deletes}\nmax_deletes: 100%\n")
    dice = random.Random(f"{mode} {deletes} {formats} {seed}")
    history = History(project, dice, Model(mode == "merge", deletes == "mark"))
    for _ in range(RUNS):
        history.change()
        if history.run(monkeypatch, risk=0.3):
            history.check()
        else:
            history.check_held()
    assert history.run(monkeypatch, risk=0.0)
    history.check()
