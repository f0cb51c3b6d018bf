"""Marked values in rows, and in a password, are looked for in everything a failing and a succeeding run write."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.etl import quarantine
from include.etl import run as runner
from include.etl.alerts.conditions import Ended
from include.etl.alerts.report import tell_of_run
from include.etl.errors import ExtractionError
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.inboxes import web_server
from tests.integration.conftest import VISITS, Project
from tests.servers import DatabaseServer

SECRET = "S9876543Z"
MARKS = (SECRET, SECRET.lower(), "SECRETPATIENT", "97531864")
DATA = ("raw", "interim", "processed")
SUITE = {
    "name": "visits",
    "expectations": [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "note", "value_set": ["fine"]}},
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "note", "regex": "^[a-z]+$"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "note"}, "severity": "critical"},
    ],
}

LOWER_CASE = {
    "type": "expect_column_values_to_match_regex",
    "kwargs": {"column": "note", "regex": "^[a-z]+$"},
    "severity": "critical",
}


def everything(project: Project, caplog: pytest.LogCaptureFixture, error: BaseException | None) -> str:
    """All that a run leaves but the data itself: logs with tracebacks, records, manifests, reports, Variables."""
    data = project.folder / "data"
    files = [path for path in data.rglob("*") if path.is_file() and path.relative_to(data).parts[0] not in DATA]
    files = [path for path in files if path.name != "rows.parquet"]  # what is set aside is data too
    files += [path for path in (data / "processed").rglob("*.json")]
    texts = [path.read_text(errors="replace") for path in files] + [str(path) for path in data.rglob("*")]
    formatter = logging.Formatter()
    logs = [formatter.format(record) for record in caplog.records]
    raised = traceback.format_exception(error) if error else []
    return "\n".join([*texts, *logs, *raised, repr(error), json.dumps(project.variables)])


@pytest.mark.parametrize(
    ("change", "row_note", "fails"),
    [
        ("", "fine", False),
        ("transform: {types: {note: INTEGER}}\n", f"SECRETPATIENT {SECRET}", True),
        ("transform: {types: {note: DATE}}\n", f"31-02-{SECRET}", True),
        ("validation: {suite: visits.json}\n", f"SECRETPATIENT {SECRET}", True),
        ("validation: {suite: visits.json}\ntransform: {trim: false}\n", "fine", False),
    ],
)
def test_no_row_value_in_what_a_run_writes(
    project: Project, caplog: pytest.LogCaptureFixture, change: str, row_note: str, fails: bool
) -> None:
    (project.folder / "expectations").mkdir()
    (project.folder / "expectations" / "visits.json").write_text(json.dumps(SUITE))
    project.configure(VISITS + change)
    caplog.set_level(logging.DEBUG)
    rows = [(97531864 + n, "2024-01-01", "12.30", row_note, "2024-01-01 08:00:00") for n in range(2 if fails else 1)]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    error: BaseException | None = None
    try:
        project.run(reason="searched for marks")
    except ExtractionError as raised:
        error = raised
    assert (error is not None) is fails
    text = everything(project, caplog, error)
    assert "visits" in text
    assert not [mark for mark in MARKS if mark in text]


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_neither_password_nor_value_in_what_a_database_makes_fail(
    project: Project,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine: str,
) -> None:
    server: DatabaseServer = request.getfixturevalue(f"{engine}_server")
    caplog.set_level(logging.DEBUG)
    server.execute("DROP TABLE IF EXISTS leaky")
    server.execute("CREATE TABLE leaky (visit_id BIGINT, note VARCHAR(99), updated_at TIMESTAMP NULL)")
    server.execute(f"INSERT INTO leaky VALUES (1, 'SECRETPATIENT {SECRET}', '2024-01-01 08:00:00')")
    cast = "CAST(note AS BIGINT)" if engine == "postgres" else "9223372036854775807 + (note IS NOT NULL)"
    (project.folder / "sql").mkdir()
    (project.folder / "sql" / "leaky.sql").write_text(
        f"SELECT visit_id, {cast} AS n, updated_at FROM leaky WHERE {{{{ window('updated_at') }}}}"
    )
    project.configure(VISITS.replace("table: visits", "query: leaky.sql").replace(", partition_by: visit_date", ""))
    right, wrong = json.loads(server.airflow_connection), json.loads(server.airflow_connection)
    wrong["password"] = wrong["extra"]["application_name" if engine == "postgres" else "init_command"] = SECRET
    for connection in (right, wrong):
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(connection))
        with pytest.raises(ExtractionError) as raised:
            runner.run_source("visits", mode="full")
        text = everything(project, caplog, raised.value)
        assert not [mark for mark in (*MARKS, server.password) if mark in text]


QUARANTINE = """
load: merge
deletes: mark
max_deletes: 20%
validation: {suite: visits.json, on_failure: quarantine, max_rejected: 90%}
verify: {columns: [visit_id, note]}
alerts: {channels: {chat: {type: slack, conn_id: slack_hook}, card: {type: teams, conn_id: teams}}}
"""


def test_neither_what_is_set_aside_released_merged_or_refused_nor_what_is_told_of_it(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    (project.folder / "expectations").mkdir()
    (project.folder / "expectations" / "visits.json").write_text(json.dumps({**SUITE, "expectations": [LOWER_CASE]}))
    project.configure(VISITS + QUARANTINE)
    bad = f"SECRETPATIENT {SECRET}"
    rows = [(97531864 + n, "2024-01-01", "1.00", bad if n < 2 else "fine", "2024-01-01 08:00:00") for n in range(8)]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    storage = Storage(project.folder / "data")
    with web_server() as posts:
        for name, connection in posts.connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", connection)
        first = run_and_tell(project)
        project.execute("UPDATE visits SET note = 'secretpatient' WHERE visit_id = 97531864")
        (aside,) = quarantine.standing(storage, "visits")
        released = run_and_tell(project, release=aside.run_key, reason="corrected")
        project.execute("DELETE FROM visits WHERE visit_id > 97531866")
        refused = run_and_tell(project, mode="full")
    assert (first, released) == (None, None)
    assert "max_deletes" in str(refused)
    assert [one.rows for one in quarantine.standing(storage, "visits")] == [2, 1], "what was refused set nothing aside"
    told = json.dumps(posts.received)
    assert "rows break critical expectations" in told
    assert "max_deletes" in told
    text = everything(project, caplog, refused) + told
    assert not [mark for mark in MARKS if mark in text]


def run_and_tell(project: Project, **parameters: str) -> ExtractionError | None:
    """A run, and the alerts that Airflow's callback would send of it; how it failed."""
    known, error = set(summaries(project)), None
    try:
        project.run(**parameters)
    except ExtractionError as raised:
        error = raised
    (new,) = set(summaries(project)) - known
    ended = Ended("by hand", json.loads(new.read_text())["run_id"], error is not None, datetime.now(UTC))
    tell_of_run(load_source("visits"), ended)
    return error


def summaries(project: Project) -> list[Path]:
    return list(project.folder.glob("data/runs/visits/*/summary.json"))


def test_what_is_searched_would_show_it(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """The search finds a mark wherever one is written."""
    logging.getLogger("etl").warning("row of %s", SECRET)
    folder = project.folder / "data" / "runs" / "visits"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("SECRETPATIENT")
    text = everything(project, caplog, ValueError("97531864"))
    assert [mark for mark in MARKS if mark in text] == [SECRET, "SECRETPATIENT", "97531864"]
