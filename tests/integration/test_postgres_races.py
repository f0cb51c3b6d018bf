"""Runs that meet a table which another session empties and fills, or swaps, in one transaction on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from include.etl import run as runner
from scripts import verify
from tests.contract.engines.lab import wait_until
from tests.contract.engines.reading_account import plain_reader
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: updated_at}
schedule: {incremental: "0 2 * * *", full: "0 3 * * 0"}
output: {formats: [parquet]}
"""
WAITING = (
    "select 1 from pg_locks where not granted and pid in (select pid from pg_stat_activity where usename = 'plain')"
)
ROWS = (
    "select i as visit_id, '2024-01-01'::timestamptz + i * interval '1 s' as updated_at from generate_series(1, {}) i"
)
REFILL = f"truncate ward.visits; insert into ward.visits {ROWS.format(3000)}"
SWAP = (
    f"create table ward.fresh as {ROWS.format(3000)}; alter table ward.fresh add primary key (visit_id); "
    "alter table ward.visits rename to old; alter table ward.fresh rename to visits"
)


@pytest.fixture
def clinic(
    project: Project, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseServer]:
    with plain_reader(postgres_server) as reader:
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader.airflow_connection)
        postgres_server.execute(f"create table ward.visits as {ROWS.format(3000)}")
        postgres_server.execute("alter table ward.visits add primary key (visit_id)")
        postgres_server.execute("analyze ward.visits")
        yield postgres_server


def raced(server: DatabaseServer, change: str, read: Callable[[], Any]) -> Any:
    """What the reader gives, that had to wait for a transaction which changed its table."""
    with closing(server.connect()) as connection, ThreadPoolExecutor(1) as pool:
        cursor = connection.cursor()
        cursor.execute(f"begin; {change}")
        reading = pool.submit(read)
        wait_until(lambda: reading.done() or server.execute(WAITING), 60)
        assert not reading.done(), "the reader has to wait, or this is no race"
        cursor.execute("commit")
        return reading.result(60)


def race_in(name: str, monkeypatch: pytest.MonkeyPatch, server: DatabaseServer, change: str) -> None:
    """Let the first call of that phase meet the change."""
    phase, changes = getattr(runner, name), [change]

    def meeting(*arguments: Any) -> Any:
        if not changes:
            return phase(*arguments)
        return raced(server, changes.pop(), lambda: phase(*arguments))

    monkeypatch.setattr(runner, name, meeting)


@pytest.mark.parametrize(
    ("phase", "mode", "more", "change"),
    [
        ("plan", "incremental", "", REFILL),
        ("extract", "incremental", "", SWAP),
        ("extract", "full", "load: merge\ndeletes: mark\nmax_deletes: 100%\n", REFILL),
        ("extract", "full", "split: {column: visit_id, rows: 1000}\n", REFILL),
    ],
    ids=["plan", "incremental", "full that marks", "slices"],
)
def test_a_run_that_waits_for_its_table_publishes_every_row(
    project: Project,
    clinic: DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    mode: str,
    more: str,
    change: str,
) -> None:
    project.configure(SOURCE + more)
    if mode == "full":
        project.run(mode="full")
    race_in(phase, monkeypatch, clinic, change)
    result = project.run(mode=mode)
    assert result.manifest["rows"]["published"] == len(project.rows("visit_id")) == 3000
    assert result.manifest["completeness"]["verified"]
    assert result.manifest["deleted"] == 0
    if "split" in more:
        assert len(result.plan.slices) > 1


def test_numbers_that_are_observed_while_their_table_is_refilled(project: Project, clinic: DatabaseServer) -> None:
    project.configure(SOURCE.replace("column: updated_at", "column: visit_id, type: number"))
    assert raced(clinic, REFILL, project.run).manifest["window"]["end"] == 3001


def test_verify_that_waits_for_its_table(project: Project, clinic: DatabaseServer) -> None:
    project.configure(SOURCE)
    project.run()
    late = f"{REFILL}; insert into ward.visits values (4000, '2024-01-01')"
    assert raced(clinic, late, lambda: verify.main(["visits"])) == 1, "the row that came late is seen"
