"""Real DAGs through a running Airflow, on each engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import ENGINES, Stage

pytestmark = pytest.mark.e2e


def insert(stage: Stage, engine: str, *rows: tuple[int, str, str, str]) -> None:
    for number, kind, fee, at in rows:
        values = f"{number}, '{at[:10]}', '{kind}', {fee}, '{at}'"
        stage.execute[engine](f"INSERT INTO visits VALUES ({values})")


def some_visits(first: int, count: int, month: str) -> list[tuple[int, str, str, str]]:
    return [(first + n, "CONSULT", f"{n}.10", f"{month}-{1 + n % 5:02d} 08:00:{n:02d}") for n in range(count)]


@pytest.mark.parametrize("engine", ENGINES)
def test_first_incremental_and_repeated_run(stage: Stage, engine: str) -> None:
    source = f"visits_{engine}"
    insert(stage, engine, *some_visits(0, 20, "2024-01"))
    first = stage.trigger(source)
    assert first["state"] == "success", stage.error_text(source, first["dag_run_id"], "extract")
    (manifest,) = stage.manifests(source)
    assert manifest["rows"] == {"extracted": 20, "removed": {}, "published": 20}
    assert manifest["validation"]["verdict"] == "passed"
    assert [row[:2] for row in stage.rows(source)] == [(n, f"{n}.10") for n in range(20)]

    bound = stage.airflow.api.variable(f"checkpoint__{source}")
    assert bound is not None
    end = manifest["window"]["end"]
    assert end.replace("Z", "") in bound

    again = stage.trigger(source)
    assert again["state"] == "success"
    assert [found["rows"]["published"] for found in stage.manifests(source)] == [20, 0]
    assert len(stage.rows(source)) == 20

    files, rows = stage.files(source), stage.rows(source)
    stage.airflow.api.clear(source, first["dag_run_id"])
    assert stage.finish(source, first["dag_run_id"])["state"] == "success"
    assert (stage.files(source), stage.rows(source)) == (files, rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_backfill_of_three_days(stage: Stage, engine: str) -> None:
    source = f"visits_{engine}"
    stage.execute[engine]("DELETE FROM visits")
    insert(stage, engine, *some_visits(100, 20, "2024-02"))
    api = stage.airflow.api
    api.wait_for_dag(source)
    api.pause(source, False)
    api.backfill(source, "2024-02-01T02:00:00Z", "2024-02-03T02:00:00Z")
    runs = [run for run in api.wait_until("backfill runs", lambda: backfill_runs(stage, source, 3), 60)]
    for run in runs:
        assert stage.finish(source, run["dag_run_id"])["state"] == "success"
    published = {found["window"]["start"]: found["rows"]["published"] for found in stage.manifests(source)}
    days = [f"2024-02-0{day}T02:00:00Z" for day in (1, 2, 3)]
    assert [published[day] for day in days] == [4, 4, 4]
    february = [row[0] for row in stage.rows(source) if row[0] >= 100]
    assert february == sorted(n for n in range(100, 120) if (n - 100) % 5 < 3)


def backfill_runs(stage: Stage, source: str, count: int) -> list[dict[str, Any]] | None:
    runs = [run for run in stage.airflow.api.runs(source) if run["run_type"] == "backfill"]
    return runs if len(runs) == count else None


def test_failing_suite_publishes_nothing(stage: Stage) -> None:
    source = "visits_sqlite"
    files, bound = stage.files(source), stage.airflow.api.variable(f"checkpoint__{source}")
    insert(stage, "sqlite", (900, "CONSULT", "-5.00", "2024-03-01 08:00:00"))
    run = stage.trigger(source, start="2024-03-01", end="2024-03-02", reason="end-to-end test")
    assert run["state"] == "failed"
    states = {
        instance["task_id"]: (instance["state"], instance["try_number"])
        for instance in stage.airflow.api.task_instances(source, run["dag_run_id"])
    }
    assert states["validate"] == ("failed", 1)
    assert states["load"][0] == "upstream_failed"
    message = stage.error_text(source, run["dag_run_id"], "validate")
    assert "nothing was published" in message
    assert "fee" in message
    assert "-5.00" not in message
    assert (stage.files(source), stage.airflow.api.variable(f"checkpoint__{source}")) == (files, bound)
    stage.execute["sqlite"]("DELETE FROM visits WHERE visit_id = 900")


def test_broken_source_fails_with_the_reason_and_hides_nothing(stage: Stage) -> None:
    run = stage.trigger("broken")
    assert run["state"] == "failed"
    message = stage.error_text("broken", run["dag_run_id"], "configuration")
    assert "broken.yaml: conn_id: missing" in message
    assert stage.airflow.api.import_errors() == []


def test_validation_report_is_linked_and_served(stage: Stage) -> None:
    """The button on the task leads to a page that a person can read."""
    source = "visits_sqlite"
    run = stage.trigger(source, last_n_days=1)
    api = stage.airflow.api
    links = api.call("GET", f"/dags/{source}/dagRuns/{run['dag_run_id']}/taskInstances/validate/links")
    address = links["extra_links"]["Validation report"]
    assert address.startswith(f"http://localhost:{stage.airflow.port}/validation-reports/{source}/")
    path = address.removeprefix(f"http://localhost:{stage.airflow.port}")
    page = api.page(path)
    assert page.status_code == 200
    assert source in page.text
    assert api.page(path + "x").status_code == 404
