"""The metadata database is lost, `data/` partly, the checkpoints are spoilt: docs/recovery.md is followed literally."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from scripts.local_airflow import ROOT, LocalAirflow
from tests import backups

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # a minute alone, four on a machine that is busy
PAGE = ROOT / "docs" / "recovery.md"
ROWS = 200
SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: updated_at}
schedule: {incremental: "0 2 * * *"}
pool: default_pool
output: {formats: [parquet], partition_by: visit_date}
"""


def steps() -> list[str]:
    """The code blocks of the procedure, as they stand on the page."""
    section = PAGE.read_text().partition("## Everything is lost\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.S | re.M)


def follow(step: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def installation(folder: Path) -> dict[str, str]:
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "visits.yaml").write_text(SOURCE)
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        database.execute("CREATE TABLE visits (visit_id INTEGER PRIMARY KEY, visit_date DATE, updated_at TIMESTAMP)")
    grow(folder, 0)
    return {
        "ETL_INCLUDE": str(folder),
        "ETL_DATA_URI": str(folder / "data"),
        "AIRFLOW_CONN_CLINIC": json.dumps({"conn_type": "sqlite", "host": str(folder / "clinic.db")}),
    }


def grow(folder: Path, first: int) -> None:
    days = [(number, f"2024-01-{1 + number % 20:02d}") for number in range(first, first + ROWS)]
    with closing(sqlite3.connect(folder / "clinic.db")) as database, database:
        rows = [(number, day, f"{day} 08:00:00") for number, day in days]
        database.executemany("INSERT INTO visits VALUES (?, ?, ?)", rows)


def in_source(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "clinic.db")) as database:
        return sorted(database.execute("SELECT visit_id, updated_at FROM visits").fetchall())


def published(folder: Path) -> list[tuple[object, ...]]:
    found = f"read_parquet('{folder}/data/processed/visits/*/*.parquet')"
    with closing(duckdb.connect()) as connection:
        columns = "visit_id, strftime(updated_at, '%Y-%m-%d %H:%M:%S')"
        return sorted(connection.execute(f"SELECT {columns} FROM {found}").fetchall())


def destroy(folder: Path) -> None:
    for path in (folder / "airflow").glob("airflow.db*"):
        path.unlink()
    data = folder / "data"
    shutil.rmtree(data / "processed" / "visits" / "visit_date=2024-01-05")
    next((data / "processed" / "visits" / "visit_date=2024-01-06").iterdir()).write_bytes(b"PAR1")
    shutil.rmtree(data / "staging", ignore_errors=True)
    shutil.rmtree(data / "runs")
    for path in (data / "checkpoints" / "visits").iterdir():
        path.write_text("{")
    (folder / "sources" / "visits.yaml").write_text("source: visits\nconn_id: [\n")


def test_the_book_is_followed_literally(tmp_path: Path) -> None:
    own = installation(tmp_path)
    airflow = LocalAirflow(tmp_path / "airflow", environment=own, schedules=False)
    python = str(Path(sys.executable))
    with airflow.locked():
        airflow._migrate()
        follow(f"{python} scripts/run_extraction.py --sources visits", airflow.environment)
        known = follow(f"{python} scripts/checkpoints.py show visits --json", airflow.environment)
    backups.make(tmp_path / "data", tmp_path, {"visits": json.loads(known)["checkpoint"]})
    destroy(tmp_path)
    grow(tmp_path, ROWS)  # late rows, of windows that have been read: they have to be found too
    first, second, third, fourth, fifth, sixth = steps()
    with LocalAirflow(tmp_path / "airflow", environment=own, schedules=False) as airflow:
        environment, api = airflow.environment, airflow.api
        assert "pools made" in follow(first, environment)
        assert "20240101T000000Z  whole: visits" in follow(second, environment)
        refused = subprocess.run(["bash", "-c", third], cwd=ROOT, env=environment, capture_output=True, check=False)
        assert refused.returncode == 1, "the page says that status 2 of check means a damaged configuration"
        api.wait_for_dag("recovery", timeout_s=120)
        follow(fourth, environment)
        (triggered,) = api.runs("recovery")
        run = api.wait_for_run("recovery", triggered["dag_run_id"], timeout_s=120)
        logs = [
            api.task_log("recovery", run["dag_run_id"], one)
            for one in api.task_instances("recovery", run["dag_run_id"])
        ]
        assert run["state"] == "success", logs
        told = follow(fifth, environment)
        assert "visits: good" in told
        assert "RECOVERED" in told
        assert "sources/visits.yaml" in told
        follow(sixth, environment)
        assert published(tmp_path) == in_source(tmp_path)
        api.wait_for_dag("visits", timeout_s=120)
        nightly = api.wait_for_run("visits", api.trigger("visits"), timeout_s=120)
        assert nightly["state"] == "success"
    assert published(tmp_path) == in_source(tmp_path)
