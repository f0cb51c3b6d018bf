"""What a running Airflow tells others: StatsD, OpenTelemetry, OpenLineage, assets, and the history beside the data."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from scripts.local_airflow import ROOT, LocalAirflow
from tests.e2e.collectors import Collector, collector
from tests.e2e.conftest import Stage
from tests.servers import DatabaseServer

pytestmark = pytest.mark.e2e
SECRET = "p4ss-never-told"
SOURCE = """
source: polyclinic_visits
description: Visits
owner: tests
conn_id: clinic
table: public.monitored
primary_key: [visit_id]
cursor: {column: updated_at}
schedule: {incremental: "0 2 * * *"}
pool: default_pool
output: {formats: [parquet, csv]}
"""


@dataclass
class Watched:
    """An Airflow whose metrics and lineage events are collected, after one run, and one that found nothing to read."""

    airflow: LocalAirflow
    collected: Collector
    data: Path
    server: DatabaseServer
    runs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, postgres_server: DatabaseServer) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    for name in ("sources", "dags"):
        (folder / name).mkdir()
    (folder / "sources" / "polyclinic_visits.yaml").write_text(SOURCE)
    shutil.copy(ROOT / "dags" / "sources.py", folder / "dags")
    shutil.copy(ROOT / "docs" / "examples" / "fresh_data.py", folder / "dags")
    postgres_server.execute("DROP TABLE IF EXISTS monitored")
    postgres_server.execute(
        "CREATE TABLE monitored AS SELECT n AS visit_id, 'Lim Siew-' || n AS patient, "
        "timestamp '2024-01-01 08:00' + n * interval '1 s' AS updated_at FROM generate_series(1, 50) AS n"
    )
    connection = json.loads(postgres_server.airflow_connection)
    connection["password"] = connection.get("password") or SECRET
    with collector() as collected:
        environment = {
            "ETL_INCLUDE": str(folder),
            "ETL_DATA_URI": str(folder / "data"),
            "AIRFLOW_CONN_CLINIC": json.dumps(connection),
            **collected.settings,
        }
        home = folder / "airflow"
        with LocalAirflow(home, dags=folder / "dags", environment=environment, schedules=True) as airflow:
            api = airflow.api
            for dag_id in ("fresh_data", "polyclinic_visits"):
                api.wait_for_dag(dag_id)
            api.pause("fresh_data", False)
            api.pause("polyclinic_visits", False)
            api.trigger("polyclinic_visits")
            api.wait_until("all runs ended", lambda: ended(airflow, "polyclinic_visits"), 120)
            yield Watched(airflow, collected, folder / "data", postgres_server, api.runs("polyclinic_visits"))


def ended(airflow: LocalAirflow, dag_id: str) -> bool:
    runs = airflow.api.runs(dag_id)
    assert not [run for run in runs if run["state"] == "failed"], runs
    return bool(runs) and all(run["state"] == "success" for run in runs)


def published(watched: Watched) -> dict[str, Any]:
    """The manifest of the run that published the fifty rows."""
    folder = watched.data / "processed" / "polyclinic_visits" / "_manifests"
    (found,) = [one for path in folder.glob("*.json") if (one := json.loads(path.read_text()))["rows"]["published"]]
    return dict(found)


def test_statsd_is_told_rows_and_costs_of_each_phase(stage: Stage) -> None:
    stage.trigger("visits_mysql")
    rows = len(stage.rows("visits_mysql"))
    expected = {f"airflow.etl.{phase}.done" for phase in ("plan", "extract", "validate", "transform", "load")}

    def arrived() -> bool:
        return expected <= {name for name, tags in stage.statsd.found if "source=visits_mysql" in tags}

    stage.airflow.api.wait_until("metrics of all phases", arrived, 10)
    mine = {name: values for (name, tags), values in stage.statsd.found.items() if "source=visits_mysql" in tags}
    for metric in ("seconds", "cpu_seconds", "peak_memory_mb", "rows_per_second"):
        assert all(re.fullmatch(r"[0-9.e+-]+\|g", value) for value in mine[f"airflow.etl.load.{metric}"])
    for metric in ("rows", "bytes"):
        assert all(value.endswith("|c") for value in mine[f"airflow.etl.extract.{metric}"])
    assert sum(float(value.split("|")[0]) for value in mine["airflow.etl.extract.rows"]) >= rows


def test_opentelemetry_is_told_the_same(watched: Watched) -> None:
    watched.airflow.api.wait_until("metrics", lambda: "airflow.etl.load.rows" in watched.collected.points, 15)
    points = watched.collected.points
    tags = {"source": "polyclinic_visits", "dag_id": "polyclinic_visits"}
    assert (50.0, tags) in points["airflow.etl.extract.rows"]
    assert (50.0, tags) in points["airflow.etl.load.rows"]
    (seconds, found), *_ = points["airflow.etl.extract.seconds"]
    assert seconds > 0
    assert found == tags
    assert max(value for value, _ in points["airflow.etl.extract.peak_memory_mb"]) > 50


def test_lineage_names_the_table_and_the_published_folder(watched: Watched) -> None:
    def loads() -> list[dict[str, Any]]:
        events = list(watched.collected.events)
        mine = [one for one in events if one["job"]["name"] == "polyclinic_visits.load"]
        return [one for one in mine if one["eventType"] == "COMPLETE" and one["outputs"]]

    found = watched.airflow.api.wait_until("an event of load", loads, 15)
    event = next(one for one in found if one["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 50)
    (table,), (folder,) = event["inputs"], event["outputs"]
    server, manifest = json.loads(watched.server.airflow_connection), published(watched)
    assert table["namespace"] == f"postgres://{server['host']}:{server['port']}"
    assert table["name"] == f"{server['schema']}.public.monitored"
    assert table["inputFacets"]["inputStatistics"]["rowCount"] == 50
    assert [field["name"] for field in table["facets"]["schema"]["fields"]] == ["visit_id", "patient", "updated_at"]
    assert (folder["namespace"], folder["name"]) == ("file", str(watched.data / "processed" / "polyclinic_visits"))
    statistics = folder["outputFacets"]["outputStatistics"]
    assert statistics["fileCount"] == len(manifest["files"]) == 2
    assert statistics["size"] == sum(file["bytes"] for file in manifest["files"])
    assert {"name": "patient", "type": "string"}.items() <= folder["facets"]["schema"]["fields"][1].items()


def test_lineage_and_history_hold_no_secret_and_no_row(watched: Watched) -> None:
    history = (watched.data / "history" / "polyclinic_visits.jsonl").read_text()
    told = json.dumps(watched.collected.events) + history
    password = json.loads(watched.server.airflow_connection).get("password") or SECRET
    assert password not in told
    assert "Lim Siew" not in told


def test_a_dag_on_fresh_data_is_told_what_is_new(watched: Watched) -> None:
    api, manifest = watched.airflow.api, published(watched)
    api.wait_until("the example's runs ended", lambda: ended(watched.airflow, "fresh_data"), 60)
    told = [event for run in api.runs("fresh_data") for event in api.xcom("fresh_data", run["dag_run_id"], "read")]
    (mine,) = [event for event in told if event["rows"] == 50]
    assert mine["window"] == manifest["window"]
    assert json.loads((watched.data / mine["manifest"]).read_text())["run_id"] == manifest["run_id"]


def test_a_run_that_published_nothing_is_no_fresh_data(watched: Watched) -> None:
    """A window that begins before an open transaction has nothing safe to read: its load is skipped."""
    api = watched.airflow.api
    connection = watched.server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("begin; select now()")
            finish(watched)  # reads up to that transaction
            before = events(api)
            run = finish(watched)
    finally:
        connection.close()
    states = {task["task_id"]: task["state"] for task in api.task_instances("polyclinic_visits", run["dag_run_id"])}
    assert (run["state"], states["load"]) == ("success", "skipped")
    assert events(api) == before


def finish(watched: Watched) -> dict[str, Any]:
    api = watched.airflow.api
    run: dict[str, Any] = api.wait_for_run("polyclinic_visits", api.trigger("polyclinic_visits"), 60)
    return run


def events(api: Any) -> int:
    return int(api.call("GET", "/assets/events")["total_entries"])


def test_duckdb_and_pandas_read_the_history_with_one_call(stage: Stage) -> None:
    stage.trigger("visits_sqlite")
    path = stage.data / "history" / "visits_sqlite.jsonl"
    phases = "SELECT phase, count(*) FROM read_json(?) WHERE outcome = 'done' GROUP BY ALL"
    with duckdb.connect() as connection:
        found = dict(connection.execute(phases, [str(path)]).fetchall())
    frame = pd.read_json(path, lines=True)
    assert found == frame[frame["outcome"] == "done"].groupby("phase").size().to_dict()
    assert set(found) == {"plan", "extract", "validate", "transform", "load"}
    assert set(frame[frame["phase"] == "validate"]["verdict"]) <= {"passed", "warnings", "failed"}
