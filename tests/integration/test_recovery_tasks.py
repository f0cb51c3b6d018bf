"""The tasks of dags/recovery.py, called as the DAG calls them: what one hands to the next, and what the report says."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time.context import set_current_context

from include.etl.config import INCLUDE, Source
from include.etl.errors import ConfigurationError, DataError, TransientError
from include.etl.maintenance import backups
from include.etl.recovery import request, tasks
from include.etl.recovery import source as recovery
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project

FILE = INCLUDE.parent / "dags" / "recovery.py"
DAGS = {found.dag_id: found for found in runpy.run_path(str(FILE)).values() if isinstance(found, DAG)}
NOW = datetime(2024, 3, 1, tzinfo=UTC)


def context(**params: str) -> Mapping[str, Any]:
    run = SimpleNamespace(run_after=NOW, start_date=NOW, triggering_user_name="dr.tan")
    names = ("backup", "sources", "start", "end")
    return {"dag_run": run, "params": dict.fromkeys(names) | {"reason": "test"} | params}


def in_dag(dag_id: str, task_id: str, given: Mapping[str, Any], **arguments: Any) -> Any:
    """What Airflow's worker does of the task: its function, with the run's context."""
    task: Any = DAGS[dag_id].get_task(task_id)
    if arguments:
        task = task.unmap({"op_kwargs": arguments})
    with set_current_context(cast("Any", given)):
        return task.python_callable(**task.op_kwargs)


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
    assert tasks.restore(context()) == [["other"], ["visits"]]
    tasks.recover(context(), ["visits"])
    with pytest.raises(DataError, match="failed"):
        tasks.report(context())
    verdicts = {one["source"]: (one["verdict"], one["error"]) for one in report(clinic)["sources"]}
    assert verdicts["visits"] == ("recovered", None)
    assert verdicts["other"] == ("failed", "its task left no result; see the task's log")
    tasks.recover(context(), ["other"])
    tasks.report(context())
    assert report(clinic)["verdict"] == "recovered"


def refer(project: Project) -> None:
    """A source `bookings`, first by its name, of which each row must exist in the published visits."""
    text = VISITS.replace("source: visits", "source: bookings").replace("table: visits", "table: bookings")
    project.configure(f"{text}validation: {{references: {{visits: {{source: visits}}}}}}\n", "bookings")
    project.execute("CREATE TABLE bookings (visit_id BIGINT, visit_date DATE, updated_at TIMESTAMP)")
    project.execute("INSERT INTO bookings SELECT visit_id, visit_date, updated_at FROM visits")
    rule = {
        "type": "expect_column_values_to_exist_in_reference",
        "kwargs": {"column": "visit_id", "reference": "visits", "reference_column": "visit_id"},
        "severity": "critical",
    }
    (project.folder / "expectations").mkdir()
    (project.folder / "expectations" / "bookings.json").write_text(json.dumps({"name": "b", "expectations": [rule]}))


def test_a_source_is_recovered_after_the_one_it_refers_to(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left; the visits fail at first, and a retry goes on with what is not recovered yet."""
    refer(clinic)
    (group,) = tasks.restore(context())
    assert group == ["visits", "bookings"]

    def away(*_: object) -> None:
        raise TransientError("the source is away")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "through_phases", away)
        with pytest.raises(TransientError, match="visits: TransientError: the source is away; bookings: "):
            tasks.recover(context(), group)
    assert tasks.recover(context(), group) == {"visits": "recovered", "bookings": "recovered"}
    begun = audit_lines(clinic)
    assert tasks.recover(context(), group) == {"visits": "recovered", "bookings": "recovered"}
    assert audit_lines(clinic) == begun
    tasks.report(context())


def audit_lines(project: Project) -> list[dict[str, Any]]:
    (path,) = (project.folder / "data" / "audit").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def named(name: str, *references: str) -> Source:
    text = {
        "source": name,
        "description": "d",
        "conn_id": "c",
        "table": "t",
        "primary_key": ["id"],
        "output": {"formats": ["csv"]},
    }
    known = {other: {"source": other} for other in references}
    return Source.model_validate(text | {"schedule": {"full": "0 2 * * *"}, "validation": {"references": known}})


@pytest.mark.parametrize(
    ("sources", "groups"),
    [
        ([named("a"), named("b")], [["a"], ["b"]]),
        ([named("a", "c"), named("b"), named("c", "d"), named("d")], [["d", "c", "a"], ["b"]]),
        ([named("a", "c", "b"), named("b"), named("c")], [["b", "c", "a"]]),
        ([named("a", "gone", "a"), named("b")], [["a"], ["b"]]),
        ([named("a", "b"), named("b", "a"), named("c")], [["b", "a"], ["c"]]),
    ],
)
def test_groups_of_references(sources: list[Source], groups: list[list[str]]) -> None:
    assert request.grouped(sources) == groups


def test_a_broken_source_is_not_passed_over(clinic: Project) -> None:
    clinic.configure("source: other\n", "other")
    with pytest.raises(ConfigurationError, match=r"other\.yaml"):
        tasks.restore(context())


def test_a_drill_finds_what_a_source_refers_to(clinic: Project) -> None:
    """In all that stands published, not in the one day of it that the drill has read."""
    clinic.run()
    refer(clinic)
    known = json.loads(clinic.variables["checkpoint__visits"])
    clinic.variables["checkpoint__bookings"] = json.dumps(
        known | {"source": "bookings", "bound": "2024-01-02T00:00:00Z"}
    )
    backups.make(Storage.from_environment(), clinic.memory)
    before = clinic.files()
    in_dag("recovery_drill", "drill", context())
    (path,) = (clinic.folder / "data" / "reports" / "_recovery").glob("*/drill.json")
    rows = {one["source"]: one["rows"] for one in json.loads(path.read_text())["sources"]}
    assert rows == {"bookings": 1, "visits": 0}
    assert clinic.files() == before
    told = audit_lines(clinic)[-1]
    assert (told["action"], told["who"], told["sources"]) == ("recovery drill", "dr.tan", ["bookings", "visits"])


def test_the_audit_tells_what_is_put_back_and_set_aside_and_who_asked(clinic: Project) -> None:
    clinic.run()
    backups.make(Storage.from_environment(), clinic.memory)
    clinic.configure("source: visits\n")
    clinic.variables["checkpoint__visits"] = "{"
    (lost,) = clinic.published.glob("visit_date=*/*")
    lost.write_bytes(b"PAR1")
    for sources in in_dag("recovery", "restore", context(backup="latest")):
        in_dag("recovery", "recover", context(backup="latest"), sources=sources)
    in_dag("recovery", "report", context(backup="latest"))
    lines = {line["action"]: line for line in audit_lines(clinic)}
    asked = ["configuration restore", "configuration restored", "recovery", "checkpoint restore", "damage set aside"]
    asked.append("recovery ended")
    assert [action for action in lines if action in asked] == asked
    assert {lines[action]["who"] for action in asked} == {"dr.tan"}
    assert lines["configuration restored"]["files"] == ["sources/visits.yaml"]
    assert lines["damage set aside"]["paths"] == [lost.relative_to(clinic.published).as_posix()]
    (dropped,) = lines["damage set aside"]["manifests_dropped"]
    assert dropped.startswith("_manifests/begin_")


def test_a_name_that_does_not_exist_is_refused_before_the_configuration_is_put_back(clinic: Project) -> None:
    """One that only the backup knows is good."""
    backups.make(Storage.from_environment(), clinic.memory)
    clinic.configure("source: visits\n")
    with pytest.raises(ConfigurationError, match="sources: 'vists'; allowed: visits"):
        tasks.restore(context(backup="latest", sources="visits, vists"))
    path = clinic.folder / "sources" / "visits.yaml"
    assert path.read_text() == "source: visits\n"
    shutil.rmtree(path.parent)
    assert tasks.restore(context(backup="latest", sources="visits")) == [["visits"]]
    assert path.read_text() == VISITS
