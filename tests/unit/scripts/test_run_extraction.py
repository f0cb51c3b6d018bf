"""The command line as it is typed: as a process of its own, from the project's folder, without PYTHONPATH."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from scripts.local_airflow import ROOT

Command = Callable[..., subprocess.CompletedProcess[str]]
SOURCE = """
source: {name}
description: Visits {name}
conn_id: {conn_id}
table: {table}
primary_key: [visit_id]
cursor: {{column: updated_at}}
schedule: {{incremental: "0 2 * * *"}}
output: {{formats: [parquet]}}
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    (tmp_path / "sources").mkdir()
    for name, conn_id, table in (("right", "clinic", "visits"), ("wrong", "clinic", "nothing"), ("alone", "x", "y")):
        text = SOURCE.format(name=name, conn_id=conn_id, table=table)
        (tmp_path / "sources" / f"{name}.yaml").write_text(text)
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as database, database:
        database.execute("CREATE TABLE visits (visit_id INTEGER, updated_at TIMESTAMP)")
        database.executemany(
            "INSERT INTO visits VALUES (?, ?)", [(i, f"2025-01-{i:02} 08:00:00") for i in range(1, 11)]
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHONPATH"))}
    environment |= {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW_CONN_CLINIC": json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "clinic.db")}),
        "ETL_INCLUDE": str(tmp_path),
        "ETL_DATA_URI": str(tmp_path / "data"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "scripts/run_extraction.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_one_failure_does_not_stop_the_other(command: Command) -> None:
    done = command(
        "--sources", "wrong,right", "--start", "2025-01-03", "--end", "2025-01-06", "--reason", "x", "--json"
    )
    wrong, right = json.loads(done.stdout)
    assert done.returncode == 2, done.stderr
    assert (wrong["source"], wrong["exit_status"], right["exit_status"]) == ("wrong", 2, 0)
    assert right["manifest"]["rows"] == {"extracted": 3, "published": 3, "removed": {}}
    assert right["manifest"]["reason"] == "x"
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_published_is_said(command: Command) -> None:
    done = command("--sources", "right", "--start", "2025-01-01", "--end", "2025-01-08")
    assert done.returncode == 0, done.stderr
    assert "right: 7 rows extracted, 7 published in 1 files (2025-01-01 00:00:00+00:00 up to 2025-01-08" in done.stdout


def test_dry_run_shows_window_and_sql_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    done = command("--sources", "right", "--start", "2025-01-03", "--end", "2025-01-06", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2025-01-03 00:00:00+00:00 up to 2025-01-06 00:00:00+00:00" in done.stdout
    assert "-- its end: nothing holds it back" in done.stdout
    assert "SELECT" in done.stdout
    assert ":window_start" in done.stdout
    assert not list(tmp_path.glob("data/**/*.parquet"))


def test_a_missing_connection_is_one_clear_line(command: Command) -> None:
    done = command("--sources", "alone", "--last-n-days", "3")
    assert done.returncode == 2
    assert "connection 'x' is not defined in Airflow" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_list_names_broken_sources(command: Command, tmp_path: Path) -> None:
    done = command("--list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["alone", "right", "wrong"]
    assert done.returncode == 0
    (tmp_path / "sources" / "broken.yaml").write_text("source: broken\n")
    done = command("--list")
    assert done.returncode == 2
    assert "broken: broken.yaml: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--sources: nothing named"),
        (["--sources", "rihgt"], "did you mean 'right'?"),
        (["--sources", "right", "--mode", "everything"], "invalid choice: 'everything'"),
        (["--sources", "right", "--start", "yesterday"], "'yesterday'; allowed: an ISO date or time"),
    ],
)
def test_wrong_requests_are_refused(command: Command, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
