"""Marked values in rows and in a connection are looked for in everything that a real Airflow writes of their runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from tests.e2e.conftest import LOCKED, Stage
from tests.servers import PASSWORD, DatabaseServer

pytestmark = pytest.mark.e2e
FAILING = {
    "leak_login": "plan",
    "leak_cast": "extract",
    "leak_date": "transform",
    "leak_size": "transform",
    "leak_rule": "validate",
}
"""Each source, and the task whose error must not tell what it met."""
SECRET = "S9876543Z"
MARKS = (SECRET, SECRET.lower(), "SECRETPATIENT", "97531864", PASSWORD, str(LOCKED["password"]), "EXTRAW0RD")
DATA = ("raw", "interim", "processed")
TRACE = "searched-for-marks"
"""Is written on purpose, so that a search which finds nothing at all is noticed."""


@pytest.fixture(scope="module")
def written(stage: Stage, postgres_server: DatabaseServer) -> dict[str, str]:
    """What lies where, after one run that succeeds and five that fail."""
    execute, api = postgres_server.execute, stage.airflow.api
    execute("DROP TABLE IF EXISTS leaky")
    execute("CREATE TABLE leaky (id BIGINT, note TEXT, updated_at TIMESTAMP)")
    execute(
        f"INSERT INTO leaky SELECT 97531864 + n, 'SECRETPATIENT {SECRET}', '2024-01-01' FROM generate_series(1, 3) n"
    )
    runs = {}
    for source in ("leak_fine", *FAILING):
        api.wait_for_dag(source)
        api.pause(source, False)
        runs[source] = api.trigger(source, {"reason": TRACE})
    states = {source: stage.finish(source, run_id)["state"] for source, run_id in runs.items()}
    assert states == {source: "failed" if source in FAILING else "success" for source in runs}
    for source, task in FAILING.items():
        found = {one["task_id"]: one["state"] for one in api.task_instances(source, runs[source])}
        assert found[task] == "failed", f"{source}: {found}"
    return {
        "metadata database": "\n".join(metadata(replace(postgres_server, database="airflow"))),
        "logs": "\n".join(path.read_text(errors="replace") for path in stage.airflow.logs.rglob("*.log")),
        "data folder": "\n".join(beside_the_data(stage)),
    }


def metadata(server: DatabaseServer) -> Iterator[str]:
    """Every row of every table: XComs, rendered templates, Variables, DAGs, events."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET bytea_output = 'escape'")
        cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT '{table}: ' || whole::text FROM {table} whole")
            yield from (row for (row,) in cursor.fetchall() if row)


def beside_the_data(stage: Stage) -> Iterator[str]:
    """Names of all files, and all texts but the rows themselves: records, reports, audit, checkpoints, manifests."""
    for path in stage.data.rglob("*"):
        yield str(path)
        if path.is_file() and (path.relative_to(stage.data).parts[0] not in DATA or path.suffix in (".json", ".jsonl")):
            yield path.read_text(errors="replace")


@pytest.mark.parametrize("place", ["metadata database", "logs", "data folder"])
def test_no_row_value_and_no_secret_is_written(written: dict[str, str], place: str) -> None:
    text = written[place]
    lines = [(mark, line[:80]) for mark in MARKS for line in text.splitlines() if mark in line]
    assert lines == []


def test_what_is_searched_is_what_was_written(written: dict[str, str], stage: Stage) -> None:
    """The marks are in the published data, and each place tells of these runs."""
    notes = {note for (note,) in stage.rows("leak_fine", "note")}
    assert notes == {f"SECRETPATIENT {SECRET}"}
    assert TRACE in written["metadata database"]
    assert TRACE in written["data folder"]
    for table in ("xcom: ", "rendered_task_instance_fields: ", "variable: ", "log: "):
        assert table in written["metadata database"]
    for source, task in FAILING.items():
        assert source in written["logs"]
        assert f"task_id={task}" in "".join(map(str, stage.airflow.logs.rglob(f"*dag_id={source}/**/*")))
    assert "leak_fine" in written["data folder"]
