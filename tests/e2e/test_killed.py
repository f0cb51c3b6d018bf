"""Airflow's own processes killed in the middle: the run is taken up again, and what was finished is not read again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from scripts.local_airflow import COMPONENTS, _airflow
from tests.e2e.conftest import Stage

pytestmark = pytest.mark.e2e
ROWS = 4_000


def worker_of(source: Path, marker: str) -> int | None:
    """The process that works on a phase of the source, as its lock says."""
    for lock in source.glob(f"*/.{marker}.lock"):
        try:
            return int(json.loads(lock.read_text() or "{}")["pid"])
        except (KeyError, ValueError):
            continue
    return None


def kill(stage: Stage, marker: str) -> None:
    runs = stage.data / "runs" / "stays"
    pid = stage.airflow.api.wait_until(f"{marker} at work", lambda: worker_of(runs, marker), 120, every_s=0.01)
    os.kill(pid, signal.SIGKILL)


def test_tasks_and_scheduler_killed(stage: Stage) -> None:
    stage.execute["sqlite"]("CREATE TABLE stays (stay_id INTEGER PRIMARY KEY, updated_at TIMESTAMP)")
    series = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    stage.execute["sqlite"](f"INSERT INTO stays {series} SELECT i, '2024-01-02 08:00:00' FROM n")
    api = stage.airflow.api
    api.wait_for_dag("stays", timeout_s=120)
    api.pause("stays", False)
    run_id = api.trigger("stays")
    first = api.wait_until("first slice read", lambda: list((stage.data / "raw").glob("stays/*/slice-0000/part-*")), 60)
    times = {path: path.stat().st_mtime_ns for path in first}
    kill(stage, "extract-0001")
    # A task whose process dies together with the scheduler is noticed by its missing heartbeat only, after 5 minutes.
    api.wait_until("no task at work", lambda: "running" not in states(stage, run_id), 60)
    restart_scheduler(stage)
    kill(stage, "load")
    run = stage.finish("stays", run_id)
    assert run["state"] == "success", stage.errors("stays", run_id)
    assert [row[0] for row in stage.rows("stays", "stay_id")] == list(range(1, ROWS + 1))
    assert {path: path.stat().st_mtime_ns for path in first} == times, "a finished slice was read again"
    tries: dict[str, Any] = {
        f"{one['task_id']}{one['map_index']}": one["try_number"] for one in api.task_instances("stays", run_id)
    }
    assert tries["extract0"] == 1
    assert tries["extract1"] >= 2
    assert tries["load-1"] >= 2


def states(stage: Stage, run_id: str) -> set[str]:
    return {one["state"] for one in stage.airflow.api.task_instances("stays", run_id) if one["task_id"] == "extract"}


def restart_scheduler(stage: Stage) -> None:
    """Kill it with all its children, and start it as it was."""
    lifeline = stage.airflow._lifeline
    process = psutil.Process(lifeline.processes["scheduler"].pid)
    for one in (*process.children(recursive=True), process):
        one.kill()
    lifeline.processes["scheduler"].wait()
    command = [_airflow(), *COMPONENTS["scheduler"]]
    lifeline.start("scheduler", command, stage.airflow.environment, stage.airflow.logs / "scheduler.log")
