"""House rules for DAGs, each with its reason; checked on the DAGs that Airflow itself finds in `dags/`."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable, RetryAction

from include.etl.config import INCLUDE, Source
from include.etl.dag_factory import build_dags
from include.etl.errors import ConfigurationError, DataError, TransientError
from include.etl.sources import BrokenSource, load_sources

PROJECT = INCLUDE.parent
FLOW = ["plan", "extract", "validate", "transform", "load"]


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    built = {dag.dag_id: dag for source in load_sources(INCLUDE / "sources") for dag in build_dags(source)}
    assert built, "no DAG at all: every rule below would hold for nothing"
    return built


def test_exact_dag_ids(dags: dict[str, DAG]) -> None:
    """A renamed DAG loses its history and its schedule: a rename has to be meant."""
    assert set(dags) == {
        "dw_reference_codes",
        "nehr_diagnoses",
        "polyclinic_patients",
        "polyclinic_visits",
        "polyclinic_visits_full",
    }


def test_task_order(dags: dict[str, DAG]) -> None:
    """Nothing may be published before it has been validated and transformed."""
    for dag in dags.values():
        assert [task.task_id for task in dag.topological_sort()] == FLOW
        for earlier, later in itertools.pairwise(FLOW):
            assert later in dag.get_task(earlier).downstream_task_ids


def test_schedules_have_data_intervals(dags: dict[str, DAG]) -> None:
    """A bare cron string would give every run an empty data interval, and with it an empty window."""
    for dag in dags.values():
        assert isinstance(dag.timetable, CronDataIntervalTimetable)
        assert str(dag.timetable._timezone if hasattr(dag.timetable, "_timezone") else dag.timetable.timezone) == (
            "Asia/Singapore"
        )


def test_one_run_at_a_time_without_catching_up(dags: dict[str, DAG]) -> None:
    """Two runs of a source would read the same rows twice from a live hospital system."""
    assert all(dag.max_active_runs == 1 and not dag.catchup for dag in dags.values())


def test_tags_owner_and_docs(dags: dict[str, DAG]) -> None:
    """Whoever is paged finds the DAG by tag, and on its page what it is and whom to ask."""
    for dag in dags.values():
        assert "extraction" in dag.tags
        assert {task.owner for task in dag.tasks} != {"airflow"}
        assert dag.description
        for part in ("Schedule", "Columns", "Contact", "Published", "connection"):
            assert part in (dag.doc_md or "")


def test_at_most_four_slices_of_a_source_are_read_at_once(dags: dict[str, DAG]) -> None:
    limits = {dag.get_task("extract").partial_kwargs["max_active_tis_per_dagrun"] for dag in dags.values()}
    assert limits == {4}


def test_database_tasks_share_the_databases_pool(dags: dict[str, DAG]) -> None:
    """The pool is what keeps us from burdening the source."""
    pools = {dag_id: dag.get_task("extract").partial_kwargs["pool"] for dag_id, dag in dags.items()}
    assert pools["polyclinic_visits"] == pools["polyclinic_visits_full"] == "polyclinic_db"
    assert all(dag.get_task("validate").pool == pools[dag_id] for dag_id, dag in dags.items())


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (TransientError("gone"), RetryAction.RETRY),
        (ConnectionResetError("gone"), RetryAction.RETRY),
        (ConfigurationError("wrong"), RetryAction.FAIL),
        (DataError("bad"), RetryAction.FAIL),
        (KeyError("a bug"), RetryAction.FAIL),
    ],
)
def test_retries_are_spent_on_transient_errors_only(
    dags: dict[str, DAG], error: Exception, action: RetryAction
) -> None:
    """Asking a live database again with a wrong password locks accounts; with wrong data it costs time."""
    for dag in dags.values():
        for task in dag.tasks:
            settings = task.partial_kwargs if task.is_mapped else vars(task)
            assert (settings["retries"], settings["retry_delay"]) == (3, timedelta(seconds=5))
            assert settings["retry_policy"].evaluate(error, 1, 3).action is action


def test_form_has_typed_parameters(dags: dict[str, DAG]) -> None:
    """The form refuses what makes no sense before a run exists."""
    params = dags["polyclinic_visits"].params
    assert set(params) == {"mode", "reason", "start", "end", "last_n_days"}
    params.validate()
    for name in set(params) - {"mode"}:
        assert params.get_param(name).resolve(None) is None, "the form would insist on a value"
    for name, wrong in {"mode": "fast", "last_n_days": 0, "reason": 7}.items():
        with pytest.raises(Exception, match=f"{wrong!r} is"):
            params.get_param(name).resolve(wrong)
    with pytest.raises(Exception, match="'tomorrow' does not match"):
        params.get_param("start").resolve("tomorrow")
    assert set(dags["dw_reference_codes"].params) == {"mode", "reason"}


def test_broken_source_is_a_dag_that_says_so() -> None:
    """One broken file must neither hide the other sources nor stay unseen itself."""
    (dag,) = build_dags(BrokenSource("visits", "visits.yaml: conn_id: missing; this key is required"))
    assert dag.dag_id == "visits"
    assert "broken" in dag.tags
    assert "conn_id: missing" in (dag.doc_md or "")
    with pytest.raises(ConfigurationError, match="conn_id: missing"):
        dag.get_task("configuration").python_callable()


def test_parsing_imports_nothing_heavy_and_warns_of_nothing(tmp_path: Path) -> None:
    """The DAG processor parses every few seconds; with 500 sources each import counts."""
    program = (
        "import sys; sys.path.insert(0, 'dags'); import sources;"
        "heavy = {'pandas', 'pyarrow', 'duckdb', 'great_expectations', 'sqlglot', 'psycopg2', 'pymysql'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-W", "error::DeprecationWarning:include", "-c", program]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Deprecat" not in done.stderr


def test_form_releases_rows_only_where_they_are_set_aside() -> None:
    base = {"source": "visits", "description": "V", "conn_id": "c", "table": "v", "schedule": {"full": "@daily"}}
    base |= {"output": {"formats": ["csv"]}}
    for choice, there in (("stop", False), ("quarantine", True)):
        (dag,) = build_dags(Source.model_validate(base | {"validation": {"on_failure": choice}}))
        assert {"release", "drop"} & set(dag.params) == ({"release", "drop"} if there else set())


def test_the_end_of_every_run_is_told_and_hanging_ones_too(dags: dict[str, DAG]) -> None:
    """By callbacks of the DAG: those of tasks would tell of every slice."""
    for dag in dags.values():
        assert dag.has_on_failure_callback
        assert dag.has_on_success_callback
        assert [alert.callback.path for alert in dag.deadline] == ["include.etl.alerts.callbacks.deadline_missed"]
        assert not any(task.has_on_failure_callback or task.has_on_retry_callback for task in dag.tasks)


def test_form_insists_on_a_reason_where_the_source_does() -> None:
    """The form asks for a value of what cannot be null; scheduled runs still have a valid default."""
    base = {"source": "visits", "description": "V", "conn_id": "c", "table": "v", "schedule": {"full": "@daily"}}
    base |= {"output": {"formats": ["csv"]}, "require_reason": True}
    (dag,) = build_dags(Source.model_validate(base))
    dag.params.validate()
    with pytest.raises(Exception, match="None is not of type 'string'"):
        dag.params.get_param("reason").resolve(None)
