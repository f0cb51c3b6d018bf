"""The DAGs that belong to no source: what comes before deleting, who is told, and that no mistake makes them vanish."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.sdk import DAG

from include.etl.alerts import system
from include.etl.config import INCLUDE
from include.etl.errors import ConfigurationError
from include.etl.maintenance.policy import load_policy

FOLDER = INCLUDE.parent / "dags"


def dags(name: str) -> dict[str, DAG]:
    return {one.dag_id: one for one in runpy.run_path(str(FOLDER / f"{name}.py")).values() if isinstance(one, DAG)}


def test_nothing_is_deleted_without_a_backup_and_an_audit_in_order() -> None:
    dag = dags("maintenance")["maintenance"]
    assert dag.get_task("delete").upstream_task_ids == {"check_audit", "plan"}
    assert dag.get_task("delete").trigger_rule == "all_success"
    for name in ("check_audit", "plan"):
        assert dag.get_task(name).upstream_task_ids == {"backup"}


def test_it_runs_by_itself_and_only_lists_as_shipped() -> None:
    dag = dags("maintenance")["maintenance"]
    assert dag.is_paused_upon_creation is False
    assert dag.params["dry_run"] is True


def test_somebody_is_told_of_each_that_fails() -> None:
    tasks = [*dags("maintenance")["maintenance"].tasks, *dags("freshness")["freshness"].tasks]
    recovery = dags("recovery")
    tasks += [recovery["recovery"].get_task("report"), recovery["recovery_drill"].get_task("drill")]
    assert len(tasks) == 10
    for task in tasks:
        assert task.on_failure_callback in (system.task_failed, [system.task_failed]), task.task_id
        assert task.on_success_callback in (system.task_succeeded, [system.task_succeeded]), task.task_id


def test_a_policy_that_cannot_be_used_leaves_the_dag_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "maintenance.yaml").write_text("keeep: {}\ndry_run: false\n")
    monkeypatch.setenv("ETL_INCLUDE", str(tmp_path))
    dag = dags("maintenance")["maintenance"]
    assert dag.params["dry_run"] is True
    with pytest.raises(ConfigurationError, match="keeep"):
        load_policy()  # as the task `plan` does
