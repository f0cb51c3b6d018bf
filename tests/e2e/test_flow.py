"""Real DAGs through a running Airflow, on each engine."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.e2e.conftest import ENGINES, Stage
from tests.servers import DatabaseServer

pytestmark = pytest.mark.e2e
BACKFILLED = "postgres"


def insert(stage: Stage, engine: str, *rows: tuple[int, str, str, str]) -> None:
    for number, kind, fee, at in rows:
        values = f"{number}, '{at[:10]}', '{kind}', {fee}, '{at}'"
        stage.execute[engine](f"INSERT INTO visits VALUES ({values})")


def some_visits(first: int, count: int, month: str) -> list[tuple[int, str, str, str]]:
    return [(first + n, "CONSULT", f"{n}.10", f"{month}-{1 + n % 5:02d} 08:00:{n:02d}") for n in range(count)]


@dataclass
class Seen:
    """What a source's folder, checkpoint and run looked like at one point of the story."""

    run: dict[str, Any]
    manifests: list[dict[str, Any]]
    rows: list[tuple[Any, ...]]
    files: set[str]
    checkpoint: str | None


def look(stage: Stage, engine: str, run: dict[str, Any]) -> Seen:
    source = f"visits_{engine}"
    bound = stage.airflow.api.variable(f"checkpoint__{source}")
    return Seen(run, stage.manifests(source), stage.rows(source), stage.files(source), bound)


@pytest.fixture(scope="module")
def story(stage: Stage) -> dict[str, dict[str, Seen]]:
    """One story on all engines at once: a first run, a second, the first again; then, on one engine, a backfill."""
    api = stage.airflow.api
    seen: dict[str, dict[str, Seen]] = {engine: {} for engine in ENGINES}

    def all_finish(chapter: str, runs: dict[str, str]) -> None:
        for engine, run_id in runs.items():
            run = stage.finish(f"visits_{engine}", run_id)
            assert run["state"] == "success", stage.errors(f"visits_{engine}", run_id)
            seen[engine][chapter] = look(stage, engine, run)

    for engine in ENGINES:
        insert(stage, engine, *some_visits(0, 20, "2024-01"))
        api.wait_for_dag(f"visits_{engine}")
        api.pause(f"visits_{engine}", False)
    first = {engine: api.trigger(f"visits_{engine}") for engine in ENGINES}
    all_finish("first", first)
    all_finish("second", {engine: api.trigger(f"visits_{engine}") for engine in ENGINES})
    for engine, run_id in first.items():
        api.clear(f"visits_{engine}", run_id)
    all_finish("cleared", first)
    stage.execute[BACKFILLED]("DELETE FROM visits")
    insert(stage, BACKFILLED, *some_visits(100, 20, "2024-02"))
    api.backfill(f"visits_{BACKFILLED}", "2024-02-01T02:00:00Z", "2024-02-03T02:00:00Z")
    for run in api.wait_until("three backfill runs", partial(backfill_runs, stage, BACKFILLED), 60):
        all_finish("backfill", {BACKFILLED: run["dag_run_id"]})
    return seen


def backfill_runs(stage: Stage, engine: str) -> list[dict[str, Any]]:
    runs = [run for run in stage.airflow.api.runs(f"visits_{engine}") if run["run_type"] == "backfill"]
    return runs if len(runs) == 3 else []


@pytest.mark.parametrize("engine", ENGINES)
def test_first_run_publishes_everything(story: dict[str, dict[str, Seen]], engine: str) -> None:
    seen = story[engine]["first"]
    (manifest,) = seen.manifests
    assert manifest["rows"] == {"extracted": 20, "removed": {}, "published": 20}
    assert manifest["validation"]["verdict"] == "passed"
    assert [row[:2] for row in seen.rows] == [(n, f"{n}.10") for n in range(20)]
    assert seen.checkpoint is not None
    assert json.loads(seen.checkpoint)["bound"] == manifest["window"]["end"]


@pytest.mark.parametrize("engine", ENGINES)
def test_second_run_publishes_only_what_is_new(story: dict[str, dict[str, Seen]], engine: str) -> None:
    first, second = story[engine]["first"], story[engine]["second"]
    assert [found["rows"]["published"] for found in second.manifests] == [20, 0]
    assert second.manifests[1]["window"]["start"] == first.manifests[0]["window"]["end"]
    assert second.rows == first.rows


@pytest.mark.parametrize("engine", ENGINES)
def test_clearing_a_run_gives_the_same_files(story: dict[str, dict[str, Seen]], engine: str) -> None:
    second, cleared = story[engine]["second"], story[engine]["cleared"]
    assert (cleared.files, cleared.rows, cleared.checkpoint) == (second.files, second.rows, second.checkpoint)


def test_backfill_reads_exactly_its_days(story: dict[str, dict[str, Seen]]) -> None:
    seen = story[BACKFILLED]["backfill"]
    published = {found["window"]["start"]: found["rows"]["published"] for found in seen.manifests}
    assert [published[f"2024-02-0{day}T02:00:00Z"] for day in (1, 2, 3)] == [4, 4, 4]
    february = [row[0] for row in seen.rows if row[0] >= 100]
    assert february == sorted(n for n in range(100, 120) if (n - 100) % 5 < 3)
    assert seen.checkpoint == story[BACKFILLED]["cleared"].checkpoint


def test_failing_suite_publishes_nothing(stage: Stage, story: dict[str, dict[str, Seen]]) -> None:
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


def test_a_transaction_in_flight_leaves_nothing_to_read(
    stage: Stage, story: dict[str, dict[str, Seen]], postgres_server: DatabaseServer
) -> None:
    """The run succeeds with skipped tasks, publishes nothing, and leaves the checkpoint where it is."""
    source = "visits_postgres"
    with closing(postgres_server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin; select now()")
        stage.trigger(source)  # reads up to that transaction
        files, bound = stage.files(source), stage.airflow.api.variable(f"checkpoint__{source}")
        run = stage.trigger(source)
        assert run["state"] == "success"
        found = stage.airflow.api.task_instances(source, run["dag_run_id"])
        states = {instance["task_id"]: instance["state"] for instance in found}
        assert states.pop("plan") == "success"
        assert set(states) >= {"extract", "validate", "transform", "load"}
        assert set(states.values()) == {"skipped"}
        assert (stage.files(source), stage.airflow.api.variable(f"checkpoint__{source}")) == (files, bound)


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
