"""The tasks of dags/recovery.py, called as the DAG calls them: what one hands to the next, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from include.etl.errors import DataError
from include.etl.recovery import tasks
from tests.integration.conftest import VISITS, Project

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def context(**params: str) -> Mapping[str, Any]:
    run = SimpleNamespace(run_after=NOW, start_date=NOW, triggering_user_name="dr.tan")
    names = ("backup", "sources", "start", "end")
    return {"dag_run": run, "params": dict.fromkeys(names) | {"reason": "test"} | params}


def report(project: Project) -> dict[str, Any]:
    (path,) = (project.folder / "data" / "reports" / "_recovery").glob("*/report.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(tasks, "AirflowVariables", lambda: project.memory)
    project.execute("INSERT INTO visits VALUES (1, '2024-01-01', '1.00', 'x', '2024-01-01 08:00:00')")
    return project


def test_a_source_whose_task_was_killed_is_not_reported_as_recovered(clinic: Project) -> None:
    clinic.configure(VISITS.replace("source: visits", "source: other"), "other")
    assert tasks.restore(context()) == ["other", "visits"]
    tasks.recover(context(), "visits")
    with pytest.raises(DataError, match="failed"):
        tasks.report(context())
    verdicts = {one["source"]: (one["verdict"], one["error"]) for one in report(clinic)["sources"]}
    assert verdicts["visits"] == ("recovered", None)
    assert verdicts["other"] == ("failed", "its task left no result; see the task's log")
    tasks.recover(context(), "other")
    tasks.report(context())
    assert report(clinic)["verdict"] == "recovered"
