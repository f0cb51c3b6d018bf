"""A transaction in flight, as the person who runs an extraction meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from include.etl import run as runner
from include.etl.config import Source
from include.etl.engines.base import Writers
from include.etl.errors import WriterTooOld
from include.etl.phases import plan as planning
from include.etl.phases.request import Parameters
from include.etl.records import audit_check
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
STRICT = VISITS.replace("lookback: 1h", "longest_writer: 1h")
STAMP = "now() - interval '1 hour'"


@pytest.fixture
def clinic(project: Project, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> DatabaseServer:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", postgres_server.airflow_connection)
    postgres_server.execute("drop table if exists visits")
    postgres_server.execute("create table visits (visit_id bigint, visit_date date, updated_at timestamptz)")
    postgres_server.execute(f"insert into visits values (1, '2024-01-01', {STAMP})")
    project.configure(STRICT)
    return postgres_server


@pytest.fixture
def writer(clinic: DatabaseServer) -> Iterator[Any]:
    """A session in a transaction that has stamped a row."""
    with closing(clinic.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin; insert into visits values (2, '2024-01-01', now())")
        yield connection


def summary(project: Project) -> dict[str, Any]:
    """The newest run's."""
    found = (project.folder / "data" / "runs" / "visits").glob("*/summary.json")
    content: dict[str, Any] = json.loads(max(found, key=lambda path: path.stat().st_mtime).read_text())
    return content


def test_what_is_behind_an_open_transaction_waits_for_it(project: Project, writer: Any) -> None:
    first = project.run()
    bound = first.manifest["bound"]
    assert (bound["grade"], bound["unseen"], bound["writer_too_old"]) == ("writers seen", "", False)
    assert f"pid={writer.get_backend_pid()}" in bound["writer"]
    assert first.manifest["window"]["end"] == bound["safe"] < bound["writer_since"] < bound["asked"]
    checkpoint, files = dict(project.variables), project.files()
    second = project.run()
    assert (second.published, second.manifest, second.paths) == (None, {}, [])
    assert (project.variables, project.files()) == (checkpoint, files)
    assert summary(project)["status"] == "nothing to read yet"
    *_, told = audit_check.entries(Storage(project.folder / "data"))
    assert (told["action"], told["run_id"], told["slices"]) == ("extraction started", second.plan.run_id, 0)
    with pytest.raises(ValueError, match=r"nothing was published.*pid="):
        second.to_arrow()
    full = project.run(mode="full")
    assert full.manifest["rows"]["published"] == 1
    assert full.manifest["window"]["end"] == first.manifest["window"]["end"]


def test_one_that_has_been_open_for_too_long_is_named(project: Project, writer: Any) -> None:
    project.configure(STRICT.replace("1h", "0s"))
    first = project.run()
    assert first.manifest["rows"]["published"] == 1, "what is older than the transaction is safe all the same"
    pid = f"pid={writer.get_backend_pid()}"
    assert pid in first.manifest["phases"][0]["conditions"]["long-running writer"]
    with pytest.raises(WriterTooOld, match=pid):
        project.run()
    assert summary(project)["status"] == "failed"
    assert pid in summary(project)["phases"][0]["conditions"]["long-running writer"]


def test_an_account_that_sees_nobody_gets_the_grade_it_deserves(
    project: Project, writer: Any, clinic: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.execute("drop role if exists blind")
    clinic.execute("create role blind login password 'x'")
    clinic.execute("grant select on visits to blind")
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", replace(clinic, user="blind", password="x").airflow_connection)
    manifest = project.run().manifest
    assert (manifest["bound"]["grade"], manifest["bound"]["lag_s"]) == ("lag", 600)
    assert "pg_monitor" in manifest["phases"][0]["conditions"]["degraded guarantee"]
    clinic.execute("revoke all on visits from blind")
    clinic.execute("drop role blind")


def test_a_dry_run_says_what_holds_the_end_back(project: Project, writer: Any) -> None:
    planned, _ = runner.preview("visits", Parameters())
    assert planned.bound.label.startswith("held back from")
    assert f"pid={writer.get_backend_pid()}" in planned.bound.label


DAILY = STRICT.replace("column: updated_at", "column: visit_date, timezone: Asia/Singapore")
TODAY = "(now() at time zone 'Asia/Singapore')::date"


def test_days_of_a_date_cursor_are_read_once_wherever_windows_are_cut(project: Project, clinic: DatabaseServer) -> None:
    project.configure(DAILY)
    clinic.execute("truncate visits")
    for day in range(1, 6):
        clinic.execute(f"insert into visits values ({day}, '2024-01-0{day}', now())")
    edges = ["2024-01-01", "2024-01-02T15:59:59Z", "2024-01-02T16:00:00Z", "2024-01-04T23:59:59+08:00", "2024-01-05"]
    read = [project.run(start=start, end=end).manifest["rows"]["extracted"] for start, end in pairwise(edges)]
    assert read == [1, 1, 1, 1], "16:00 in UTC is midnight in Singapore"
    assert [row[0] for row in project.rows("visit_id")] == [1, 2, 3, 4], "the day of the end has not ended there"


def test_row_of_a_day_that_is_committed_after_it_is_read_by_the_next_run(
    project: Project, clinic: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = planning.look

    def tomorrow(source: Source) -> Writers:
        found = real(source)
        return found._replace(now=found.now + timedelta(days=1))

    project.configure(DAILY.replace("longest_writer: 1h", "longest_writer: 2d"))
    clinic.execute(f"update visits set visit_date = {TODAY}")
    with closing(clinic.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"begin; insert into visits values (2, {TODAY}, now())")
        assert project.run().manifest["rows"]["extracted"] == 0, "today has not ended"
        monkeypatch.setattr(planning, "look", tomorrow)
        held = project.run()
        assert held.plan.bound.writer
        assert not held.plan.slices or held.manifest["rows"]["extracted"] == 0
        cursor.execute("commit")
    assert project.run().manifest["rows"]["extracted"] == 2
    assert [row[0] for row in project.rows("visit_id")] == [1, 2]
