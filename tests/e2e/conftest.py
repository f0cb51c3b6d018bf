"""One running Airflow for all end-to-end tests, with sources on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from scripts.local_airflow import LocalAirflow
from tests.e2e.collectors import StatsD, statsd
from tests.servers import DatabaseServer

INCLUDE = Path(__file__).parent / "include"
"""Sources that are there when Airflow starts: a new file is only found half a minute later."""
ENGINES = ["sqlite", "postgres", "mysql"]
SOURCE = """
source: visits_{engine}
description: Visits on {engine}
owner: tests
conn_id: clinic_{engine}
table: visits
primary_key: [visit_id]
cursor: {{column: updated_at}}
schedule: {{incremental: "0 2 * * *"}}
start_date: 2024-01-01
timezone: UTC
pool: default_pool
validation: {{suite: visits.json}}
output: {{formats: [parquet, csv], partition_by: visit_date}}
"""
LOCKED = {"password": "WR0NGW0RD", "extra": {"options": "-c search_path=EXTRAW0RD"}}
"""A connection that is refused; its secrets must be written nowhere."""
CREATE = (
    "CREATE TABLE visits (visit_id BIGINT, visit_date DATE, kind VARCHAR(20), fee DECIMAL(10,2), updated_at TIMESTAMP)"
)


@dataclass
class Stage:
    """The running Airflow, its data folder, and a way to write to each source."""

    airflow: LocalAirflow
    data: Path
    execute: dict[str, Callable[[str], Any]]
    statsd: StatsD

    def finish(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait for a run; its state is the caller's to judge."""
        run: dict[str, Any] = self.airflow.api.wait_for_run(dag_id, run_id, timeout_s=300)
        return run

    def trigger(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """Trigger by hand, as the UI's form does, and wait."""
        self.airflow.api.wait_for_dag(dag_id)
        self.airflow.api.pause(dag_id, False)
        return self.finish(dag_id, self.airflow.api.trigger(dag_id, conf))

    def manifests(self, source: str) -> list[dict[str, Any]]:
        folder = self.data / "processed" / source / "_manifests"
        found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        return sorted(found, key=lambda manifest: manifest["published_at"])

    def rows(self, source: str, columns: str = "visit_id, fee::VARCHAR, updated_at") -> list[tuple[Any, ...]]:
        files = f"read_parquet('{self.data}/processed/{source}/**/*.parquet')"
        with closing(duckdb.connect()) as connection:
            return sorted(connection.execute(f"SELECT {columns} FROM {files}").fetchall())

    def files(self, source: str) -> set[str]:
        folder = self.data / "processed" / source
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*-0.*")}

    def errors(self, dag_id: str, run_id: str) -> str:
        """The logs of a run's failed tasks."""
        found = self.airflow.api.task_instances(dag_id, run_id)
        failed = [instance for instance in found if instance["state"] == "failed"]
        return json.dumps([self.airflow.api.task_log(dag_id, run_id, instance) for instance in failed])

    def error_text(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What a person reads in the task's log."""
        (instance,) = [
            found for found in self.airflow.api.task_instances(dag_id, run_id) if found["task_id"] == task_id
        ]
        return json.dumps(self.airflow.api.task_log(dag_id, run_id, instance))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first pays for the start of Airflow, which a busy machine makes long."""
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: DatabaseServer, mariadb_server: DatabaseServer
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    shutil.copytree(INCLUDE, folder, dirs_exist_ok=True)
    database = folder / "clinic.db"

    def sqlite(sql: str) -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(sql)

    execute = {"sqlite": sqlite, "postgres": postgres_server.execute, "mysql": mariadb_server.execute}
    for engine, run in execute.items():
        run("DROP TABLE IF EXISTS visits")
        run(CREATE.replace("TIMESTAMP", "DATETIME(6)") if engine == "mysql" else CREATE)
        (folder / "sources" / f"visits_{engine}.yaml").write_text(SOURCE.format(engine=engine))
    # Many runs at once are more than Airflow takes on SQLite; the demo has few.
    postgres_server.execute("DROP DATABASE IF EXISTS airflow")
    postgres_server.execute("CREATE DATABASE airflow")
    metadata = replace(postgres_server, database="airflow").airflow_uri
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgres://", "postgresql+psycopg2://", 1),
        "ETL_INCLUDE": str(folder),
        "ETL_DATA_URI": str(folder / "data"),
        "AIRFLOW_CONN_CLINIC_SQLITE": json.dumps({"conn_type": "sqlite", "host": str(database)}),
        "AIRFLOW_CONN_CLINIC_POSTGRES": postgres_server.airflow_connection,
        "AIRFLOW_CONN_CLINIC_LOCKED": json.dumps(json.loads(postgres_server.airflow_connection) | LOCKED),
        "AIRFLOW_CONN_CLINIC_MYSQL": mariadb_server.airflow_connection,
    }
    with (
        statsd() as metrics,
        LocalAirflow(folder / "airflow", environment=environment | metrics.settings, schedules=False) as airflow,
    ):
        yield Stage(airflow, folder / "data", execute, metrics)
