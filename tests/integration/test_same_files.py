"""Runs at one moment, and a backfill of what is published, leave the very files of runs one after the other."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.etl import run as runner
from include.etl.phases.load import load
from include.etl.phases.request import Trigger
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project

DAYS = [datetime(2024, 1, number, tzinfo=UTC) for number in (1, 2, 3)]
END = DAYS[-1] + timedelta(days=1)


@dataclass(frozen=True)
class Job:
    """One run: what started it, and what a person asked for."""

    name: str
    trigger: Trigger
    asked: dict[str, str] = field(default_factory=dict)


SCHEDULED = Job("scheduled", Trigger(END, (DAYS[-1], END), scheduled=True))
MANUAL = Job("manual", Trigger(END), {"start": DAYS[0].isoformat(), "end": END.isoformat()})
BACKFILL = [Job(f"backfill-{day.day}", Trigger(END, (day, day + timedelta(days=1)), backfill=True)) for day in DAYS]


@pytest.fixture(params=["append", "merge"])
def visits(request: pytest.FixtureRequest, project: Project) -> Project:
    """Three days of visits; every visit has a version on two of them, and each day several."""
    project.configure(VISITS + f"load: {request.param}\n")
    versions = [
        (n, f"2024-01-0{1 + n % 3}", f"{n}.50", f"version {day}", f"2024-01-0{day} 08:{n:02d}:00")
        for n in range(40)
        for day in (1 + n % 3, 1 + (n + 1) % 3)
    ]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", versions)
    return project


def work(project: Project, monkeypatch: pytest.MonkeyPatch, jobs: Sequence[Job], at_once: bool) -> None:
    """These runs; at once means that all of them have read before one of them publishes."""
    mine, gate = threading.local(), threading.Barrier(len(jobs) if at_once else 1)

    def prepare(name: str) -> tuple[Run, Trigger]:
        return Run(load_source(name), mine.job.name, Storage.from_environment()), mine.job.trigger

    def load_together(*arguments: Any) -> Any:
        gate.wait(60)
        return load(*arguments)

    def start(job: Job) -> None:
        mine.job = job
        project.run(**job.asked)

    monkeypatch.setattr(runner, "prepare", prepare)
    monkeypatch.setattr(runner, "load", load_together)
    with ThreadPoolExecutor(len(jobs) if at_once else 1) as pool:
        list(pool.map(start, jobs))


def outcome(
    project: Project, monkeypatch: pytest.MonkeyPatch, before: Sequence[Job], jobs: Sequence[Job], at_once: bool
) -> tuple[Any, ...]:
    """Files, rows and bound after these runs in an empty data folder."""
    shutil.rmtree(project.folder / "data", ignore_errors=True)
    project.variables.clear()
    for job in before:
        work(project, monkeypatch, [job], at_once=False)
    work(project, monkeypatch, jobs, at_once)
    bound = json.loads(project.variables["checkpoint__visits"])["bound"]
    return published(project), project.rows("visit_id, note"), bound


def published(project: Project) -> dict[str, tuple[int, str]]:
    """Rows and a hash of the rows in each file; when and by whom they were read may differ.

    One without rows is left out: who has read earlier and publishes later finds all of it published.
    """
    found = {}
    for path in project.published.rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        names = [name for name in table.column_names if not name.startswith("_")]
        rows = sorted(map(repr, table.select(names).to_pylist()))
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        if not rows:
            continue
        found[path.relative_to(project.published).as_posix()] = (len(rows), digest)
    return found


@pytest.mark.parametrize(
    ("before", "jobs"),
    [([], [SCHEDULED, MANUAL]), ([SCHEDULED], BACKFILL[1:])],
    ids=["scheduled and manual", "backfill of what is published"],
)
def test_at_once_is_as_one_after_the_other(
    visits: Project, monkeypatch: pytest.MonkeyPatch, before: list[Job], jobs: list[Job]
) -> None:
    """In one of the two orders: a row lies in the file of the window that published it last."""
    found = outcome(visits, monkeypatch, before, jobs, at_once=True)
    orders = [outcome(visits, monkeypatch, before, order, at_once=False) for order in permutations(jobs)]
    assert found in orders
    files, rows, _ = found
    assert sum(count for count, _ in files.values()) == len(rows) > 0
