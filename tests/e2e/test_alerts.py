"""Alerts through a running Airflow: its own callbacks and deadlines, a real mail server and a real web server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scripts.local_airflow import LocalAirflow, free_port
from tests.inboxes import API, CARD, HOOK, Mails, Posts, mail_server, web_server
from tests.servers import DatabaseServer

pytestmark = pytest.mark.e2e
SOURCE = """
source: {name}
description: Visits
conn_id: {conn_id}
{read}
primary_key: [id]
cursor: {{column: updated_at{cursor}}}
schedule: {{incremental: "0 2 * * *"}}
timezone: UTC
pool: default_pool
output: {{formats: [parquet]}}
"""
DEFAULTS = """
alerts:
  channels:
    mail: {type: email, conn_id: alert_mail, to: [night@example.org]}
    chat: {type: slack, conn_id: slack_hook}
    bot: {type: slack, conn_id: slack_api, channel: "#night"}
    card: {type: teams, conn_id: teams}
  route: {others: [mail, bot, card], recovered: [mail, chat]}
"""
SLICED = "split: {column: id, table: sliced, rows: 1000}\nquery: sliced.sql"
QUERY = "SELECT id, updated_at, 1 / (id - id) AS never FROM sliced WHERE {{ window('updated_at') }}"
DOWN = """
alerts:
  channels:
    dead: {type: teams, conn_id: nobody_listens}
    chat: {type: slack, conn_id: slack_hook}
  route: {others: [dead], channel_down: [chat]}
"""
SOURCES = {
    "watched": ("clinic", "table: visits", ", lag: 1s", ""),
    "unreachable": ("nobody", "table: visits", "", "retries: {attempts: 2, delay: 1s}"),
    "undelivered": ("clinic", "table: wards", "", DOWN),  # SQLite cannot tell who writes: a degraded guarantee
    "sliced": ("ward", SLICED, "", ""),
    "slow": ("ward", "table: slow", "", "alerts: {late_after: 1s}"),
}
"""Name -> connection, what is read, what else of the cursor and of the source."""


@dataclass
class Night:
    """The running Airflow, its inboxes and what lies around it."""

    airflow: LocalAirflow
    mails: Mails
    posts: Posts
    folder: Path
    holder: Any
    """A connection to PostgreSQL that holds a lock on the table of the source `slow`."""

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.folder / "clinic.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def scheduled(self, dag_id: str) -> dict[str, Any]:
        """The run that Airflow starts by itself when a DAG is unpaused, for the interval that is due; when it ends."""
        api = self.airflow.api

        def started() -> list[dict[str, Any]]:
            return [run for run in api.runs(dag_id) if run["run_type"] == "scheduled"]

        (run,) = api.wait_until(f"scheduled run of {dag_id}", started, 120)
        ended: dict[str, Any] = api.wait_for_run(dag_id, run["dag_run_id"], timeout_s=120)
        return ended

    def told(self, dag_id: str, run_id: str, until: int = 1) -> list[dict[str, Any]]:
        """What the run's record says was told, as soon as something was."""
        key = f"*/{dag_id}/*/alerts.json"

        def noted() -> list[dict[str, Any]]:
            for path in (self.folder / "data").glob(key):
                summary = json.loads((path.parent / "summary.json").read_text())
                if summary["run_id"] == run_id:
                    found: list[dict[str, Any]] = json.loads(path.read_text())
                    return found if len(found) >= until else []
            return []

        found: list[dict[str, Any]] = self.airflow.api.wait_until(f"alert of {run_id}", noted, 120)
        return found

    def mailed(self, dag_id: str, run_id: str) -> list[str]:
        """Subjects of the mails that name the run."""
        return [subject for subject, page in self.mails.pages() if run_id in page and f"/dags/{dag_id}/" in page]

    def posted(self, path: str, dag_id: str, run_id: str) -> str:
        """The one message to this path that names the run; runs of other DAGs may have the same id."""
        texts = [json.dumps(post) for post in self.posts.at(path)]
        (text,) = [text for text in texts if run_id in text and f"/dags/{dag_id}/" in text]
        return text


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, postgres_server: DatabaseServer) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    sources = folder / "sources"
    for path in (sources, folder / "sql", folder / "expectations"):
        path.mkdir()
    (folder / "sql" / "sliced.sql").write_text(QUERY)
    (sources / "_defaults.yaml").write_text(DEFAULTS)
    for name, (conn_id, read, cursor, more) in SOURCES.items():
        text = SOURCE.format(name=name, conn_id=conn_id, read=read, cursor=cursor)
        (sources / f"{name}.yaml").write_text(f"{text}{more}")
    postgres_server.execute("DROP TABLE IF EXISTS sliced, slow")
    postgres_server.execute("CREATE TABLE sliced (id BIGINT PRIMARY KEY, updated_at TIMESTAMP)")
    postgres_server.execute("INSERT INTO sliced SELECT n, timestamp '2024-01-01' FROM generate_series(1, 3000) n")
    postgres_server.execute("ANALYZE sliced")
    postgres_server.execute("CREATE TABLE slow (id BIGINT PRIMARY KEY, updated_at TIMESTAMP)")
    with ExitStack() as stack:
        mails, posts = stack.enter_context(mail_server()), stack.enter_context(web_server())
        dead = f"http://127.0.0.1:{free_port()}/geheim"
        # Airflow makes no backfill on SQLite while it works.
        postgres_server.execute("DROP DATABASE IF EXISTS airflow_night")
        postgres_server.execute("CREATE DATABASE airflow_night")
        metadata = replace(postgres_server, database="airflow_night").airflow_uri
        environment = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgres://", "postgresql+psycopg2://", 1),
            "ETL_INCLUDE": str(folder),
            "ETL_DATA_URI": str(folder / "data"),
            "AIRFLOW_CONN_CLINIC": json.dumps({"conn_type": "sqlite", "host": str(folder / "clinic.db")}),
            "AIRFLOW_CONN_WARD": postgres_server.airflow_connection,
            "AIRFLOW_CONN_NOBODY": f"postgres://u:geheim@127.0.0.1:{free_port()}/x",
            "AIRFLOW_CONN_ALERT_MAIL": mails.connection,
            "AIRFLOW_CONN_NOBODY_LISTENS": json.dumps({"conn_type": "http", "password": dead}),
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in posts.connections.items()},
        }
        airflow = stack.enter_context(LocalAirflow(folder / "airflow", environment=environment))
        night = Night(airflow, mails, posts, folder, stack.enter_context(closing(postgres_server.connect())))
        night.execute("CREATE TABLE wards (id INTEGER, updated_at TIMESTAMP)")
        night.holder.cursor().execute("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE")
        for dag_id in SOURCES:
            airflow.api.wait_for_dag(dag_id)
            airflow.api.pause(dag_id, False)
        yield night


def test_each_failed_run_is_told_once_and_recovery_too(night: Night) -> None:
    """A scheduled, a manual and a backfill run fail, since the table is not there; then one succeeds."""
    api = night.airflow.api
    night.scheduled("watched")
    api.trigger("watched")
    api.backfill("watched", "2024-02-01T02:00:00Z", "2024-02-01T02:00:00Z")
    api.wait_until("backfill run", lambda: "backfill" in {run["run_type"] for run in api.runs("watched")}, 60)
    runs = {run["run_type"]: run["dag_run_id"] for run in api.runs("watched")}
    assert set(runs) == {"scheduled", "manual", "backfill"}
    for run_id in runs.values():
        assert api.wait_for_run("watched", run_id, timeout_s=120)["state"] == "failed"
        assert [told["channels"] for told in night.told("watched", run_id)] == [
            dict.fromkeys(("mail", "bot", "card"), "sent")
        ]
        assert night.mailed("watched", run_id) == ["[FAILED] watched: run failed"]
        for path in (API, CARD):
            assert "watched: run failed" in night.posted(path, "watched", run_id)
    night.execute("CREATE TABLE visits (id INTEGER, updated_at TIMESTAMP)")
    run_id = api.trigger("watched")
    assert api.wait_for_run("watched", run_id, timeout_s=120)["state"] == "success"
    (told,) = night.told("watched", run_id)
    assert (told["conditions"], told["channels"]) == (["recovered"], {"mail": "sent", "chat": "sent"})
    assert night.mailed("watched", run_id) == ["[OK] watched: recovered"]
    assert "[OK] watched: recovered" in night.posted(HOOK, "watched", run_id)


def test_retries_are_not_told(night: Night) -> None:
    run_id = night.scheduled("unreachable")["dag_run_id"]
    assert len(night.told("unreachable", run_id)) == 1
    tries = {found["task_id"]: found["try_number"] for found in night.airflow.api.task_instances("unreachable", run_id)}
    assert tries["plan"] == 3
    assert night.mailed("unreachable", run_id) == ["[FAILED] unreachable: run failed"]


def test_three_slices_that_fail_are_told_once(night: Night) -> None:
    run_id = night.scheduled("sliced")["dag_run_id"]
    found = night.airflow.api.task_instances("sliced", run_id)
    assert [one["state"] for one in found if one["task_id"] == "extract"] == ["failed"] * 3
    assert len(night.told("sliced", run_id)) == 1
    assert len(night.mailed("sliced", run_id)) == 1


def test_a_channel_that_is_down_is_told_by_the_next_and_harms_no_run(night: Night) -> None:
    run = night.scheduled("undelivered")
    assert run["state"] == "success"
    (told,) = night.told("undelivered", run["dag_run_id"])
    assert told["channels"] == {"dead": "ConnectError (connection 'nobody_listens')", "chat, in place of dead": "sent"}
    text = night.posted(HOOK, "undelivered", run["dag_run_id"])
    assert "Degraded guarantee" in text
    assert "A channel of alerts is down" in text


def test_a_run_past_its_deadline_is_told_while_it_is_at_work(night: Night) -> None:
    night.airflow.api.wait_until("mail", lambda: [one for one in night.mails.pages() if "slow" in one[0]], 90)
    assert [run["state"] for run in night.airflow.api.runs("slow")] == ["running"]
    night.holder.cursor().execute("ROLLBACK")
    run = night.scheduled("slow")
    assert run["state"] == "success"
    assert night.told("slow", run["dag_run_id"], until=2)[1]["conditions"] == ["recovered"]
    assert night.mailed("slow", run["dag_run_id"]) == ["[LATE] slow: late data", "[OK] slow: recovered"]


def test_no_message_holds_a_secret(night: Night) -> None:
    told = json.dumps(night.posts.received) + "".join(page for _, page in night.mails.pages())
    logs = "".join(path.read_text() for path in (night.folder / "airflow" / "logs" / "dag_processor").rglob("*.log"))
    assert "[FAILED] watched: run failed" in logs
    assert "geheim" not in json.dumps(list(night.posts.received.values()))
    assert "geheim" not in told.replace("/hook/T0/B0/geheim", "").replace("/workflows/geheim", "") + logs
