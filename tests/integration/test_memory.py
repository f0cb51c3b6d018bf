"""What tasks take of memory with wide rows: batches, row groups and parts are bounded in bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from include.etl.phases import extract as phase
from tests.integration.conftest import VISITS, Project

ROOT = Path(__file__).resolve().parents[2]
ROWS, LENGTH = 300, 2 << 20
SOURCE = """
source: letters
description: Letters of megabytes
conn_id: clinic
table: letters
schedule: {full: "0 2 * * *"}
output: {formats: [parquet]}
"""
# A process of its own: what other tests have taken does not count, and what this one takes does.
READ = """
from datetime import UTC, datetime
from pathlib import Path

from include.etl.phases.extract import extract
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage

run = Run(load_source("letters"), "run", Storage.from_environment())
nothing = type("Variables", (), {"get": lambda *_: None, "overridden_by": lambda *_: ""})
decided = plan(run, Parameters("full"), Trigger(datetime.now(UTC)), nothing())
(extracted,) = [extract(run, decided, part) for part in decided.slices]
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(extracted.rows, peak)
"""
ALL_PHASES = (
    READ.replace("(extracted,) = [", "extracted = [").replace("print(extracted.rows, peak)", "")
    + """
from include.etl.handover import Validated
from include.etl.phases.load import load
from include.etl.phases.transform import transform

variables = type("Variables", (nothing,), {"set": lambda *_: None, "delete": lambda *_: None})()
interim = transform(run, decided, extracted)
load(run, decided, extracted, Validated(verdict="no suite"), interim, variables)
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(interim.rows, peak)
"""
)
VIEWS = {
    "sqlite": "CREATE VIEW letters AS "
    "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows}) "
    "SELECT i AS id, hex(zeroblob({half})) AS letter FROM s",
    "postgres": "CREATE VIEW letters AS SELECT i AS id, repeat('x', {length}) AS letter "
    "FROM generate_series(1, {rows}) i",
    "mysql": "CREATE VIEW letters AS SELECT seq AS id, repeat('x', {length}) AS letter FROM seq_1_to_{rows}",
}


@pytest.mark.skipif(sys.platform != "linux", reason="PEAK MEMORY IS NOT TESTED: the kernel does not tell it")
@pytest.mark.parametrize(
    "engine",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mysql", marks=pytest.mark.mariadb),
    ],
)
def test_rows_of_megabytes_are_read_in_bounded_memory(
    project: Project, engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = project.execute
    if engine != "sqlite":
        server = request.getfixturevalue(f"{'mariadb' if engine == 'mysql' else engine}_server")
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", server.airflow_connection)
        execute = server.execute
    execute("DROP VIEW IF EXISTS letters")
    execute(VIEWS[engine].format(rows=ROWS, length=LENGTH, half=LENGTH // 2))
    project.configure(SOURCE, "letters")
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows, peak_kib = map(int, done.stdout.split()[-2:])
    assert rows == ROWS
    assert peak_kib < 500 << 10
    execute("DROP VIEW letters")


@pytest.mark.skipif(sys.platform != "linux", reason="PEAK MEMORY IS NOT TESTED: the kernel does not tell it")
@pytest.mark.parametrize(
    ("more", "rows", "length"),
    [("primary_key: [id]", 500, 1 << 20), ("", 500, 1 << 20), ("primary_key: [name]", 60_000, 10_000)],
    ids=["cut into ranges", "not sorted", "sorted by text"],
)
def test_wide_rows_are_published_in_bounded_memory(project: Project, more: str, rows: int, length: int) -> None:
    project.execute("CREATE TABLE letters (id INTEGER, name TEXT, letter TEXT)")
    series = f"WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows})"
    project.execute(f"INSERT INTO letters {series} SELECT i, 'n' || i, hex(randomblob({length // 2})) FROM s")
    project.configure(f"{SOURCE}{more}\n", "letters")
    done = subprocess.run([sys.executable, "-c", ALL_PHASES], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    published, peak_kib = map(int, done.stdout.split()[-2:])
    assert published == rows
    assert peak_kib < 600 << 10, f"{peak_kib >> 10} MiB"


def test_parts_are_bounded_in_bytes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "ROW_GROUP_ROWS", 10)
    project.configure(VISITS + "extract: {batch_rows: 10}\n")
    monkeypatch.setattr(phase, "PART_BYTES", 1_000)
    project.execute(
        "INSERT INTO visits VALUES (?, '2024-01-01', '1.00', ?, '2024-01-01 08:00:00')",
        [(n, "x" * 100) for n in range(95)],
    )
    assert project.run().to_arrow().num_rows == 95
    parts = list((project.folder / "data" / "raw" / "visits").rglob("part-*.parquet"))
    assert len(parts) == 10
