"""Recovery reads again what is lost and nothing else, and what is published and whole stays, on PostgreSQL."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from scripts import recover
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres

SOURCE = """
source: visits
description: Visits
conn_id: clinic
query: visits.sql
primary_key: [visit_id]
cursor: {column: visit_id, type: number}
schedule: {incremental: "0 2 * * *"}
output: {formats: [parquet], partition_by: visit_date}
"""
TABLE = ("query: visits.sql", "table: visits")
BY_TIME = ("visit_id, type: number", "updated_at")
NO_CURSOR = ("cursor: {column: visit_id, type: number}\n", "")
FULL = ("incremental", "full")
MERGED_MARKED = ("description", "load: merge\ndeletes: mark\nmax_deletes: 1%\ndescription")
MARKED = ("description", "deletes: mark\nmax_deletes: 1%\ndescription")


def changed(*changes: tuple[str, str]) -> str:
    text = SOURCE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


SOURCES = {
    "numbers, own query": SOURCE,
    "numbers, merged, marked": changed(TABLE, MERGED_MARKED),
    "times, merged, marked": changed(TABLE, BY_TIME, MERGED_MARKED),
    "no cursor": changed(TABLE, NO_CURSOR, FULL),
    "no cursor, merged, marked": changed(TABLE, NO_CURSOR, FULL, MERGED_MARKED),
    "read in full, marked": changed(FULL, BY_TIME, MARKED),
}


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch, postgres_server: DatabaseServer) -> DatabaseServer:
    """400 visits of ten days; whoever reads them has no right but to read."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", postgres_server.airflow_connection)
    (project.folder / "sql").mkdir()
    (project.folder / "sql" / "visits.sql").write_text("SELECT * FROM visits WHERE {{ window('visit_id') }}")
    postgres_server.execute("drop table if exists visits")
    postgres_server.execute(
        "create table visits (visit_id bigint primary key, visit_date date, updated_at timestamptz)"
    )
    add(postgres_server, 0, 300)
    return postgres_server


def add(server: DatabaseServer, first: int, last: int) -> None:
    server.execute(
        "insert into visits select n, date '2024-01-01' + (n / 40)::int, timestamptz '2024-01-01 00:00Z' "
        f"+ n * interval '36 minutes' from generate_series({first}, {last - 1}) n"
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "run") -> tuple[int, Any]:
    capsys.readouterr()
    extra = ["--reason", "test", "--yes"] if command == "run" else []
    status = recover.main([command, *extra, "--json", *arguments])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    first = next((number for number, line in enumerate(lines) if line[:1] in ("{", "[")), len(lines))
    return status, json.loads("\n".join(lines[first:])) if lines[first:] else printed.err


def history(project: Project, server: DatabaseServer, source: str) -> list[int]:
    """Two runs, after which the source deletes every tenth row; what is published."""
    project.configure(source)
    if "full:" in source:  # which need not know of windows
        (project.folder / "sql" / "visits.sql").write_text("SELECT * FROM visits")
    project.run()
    if "number" in source:  # rows with times of the past would be late ones
        add(server, 300, 400)
    project.run()
    server.execute("delete from visits where visit_id % 10 = 3")
    return published(project)


def published(project: Project) -> list[int]:
    return [key for (key,) in project.rows("visit_id")]


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_is_whole_stays_and_what_is_lost_comes_back(
    project: Project, clinic: DatabaseServer, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """Of a lost day, as far as the source still holds it; also without any checkpoint."""
    before = history(project, clinic, source)
    status, (checked,) = run(capsys, command="check")
    assert (status, checked["good"], checked["read_again"]) == (0, True, []), checked
    status, report = run(capsys)
    (one,) = report["sources"]
    assert (one["error"], one["rows"], published(project)) == (None, 0, before), report
    lost = project.rows("visit_id, visit_date = '2024-01-03'")
    shutil.rmtree(project.published / "visit_date=2024-01-03")
    project.variables.clear()
    shutil.rmtree(project.folder / "data" / "checkpoints", ignore_errors=True)
    status, report = run(capsys)
    (one,) = report["sources"]
    assert (one["error"], one["whole_rows"]) == (None, len(before) - 40), report
    assert published(project) == [key for key, in_day in lost if not in_day or key % 10 != 3]
    assert one["standing_rows"] == len(before) - 4
    if "incremental:" in source:
        assert one["rows"] < len(before) / 2, "what is whole is not read again"
    assert (status, one["verdict"]) == (0, "recovered"), report
    assert run(capsys, command="check")[0] == 0


def test_without_a_key_nothing_is_taken_away_unless_asked(
    project: Project, clinic: DatabaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither key nor cursor: what has left the source cannot be told from what was changed there."""
    project.configure(changed(TABLE, NO_CURSOR, FULL, ("primary_key: [visit_id]\n", "")))
    project.run()
    shutil.rmtree(project.published / "visit_date=2024-01-03")
    assert run(capsys)[0] == 0
    assert len(published(project)) == 300
    clinic.execute("delete from visits where visit_id in (3, 83)")
    shutil.rmtree(project.published / "visit_date=2024-01-03")
    status, report = run(capsys)
    (one,) = report["sources"]
    assert (status, one["verdict"], len(published(project))) == (1, "failed", 260)
    assert "1 published rows, which are whole, are not in the source as they were published" in one["error"]
    status, report = run(capsys, "--replace")
    assert (status, report["verdict"], len(published(project))) == (0, "recovered", 298)
