"""Numbers that are handed out early and committed late: no committed row is missing, and none is published twice.

Each history is read twice: with the look at transactions in flight, and without it, which has to lose rows.
HISTORY_SEED repeats the dice of a history, though not its timing; HISTORY_SEEDS is how many histories there are,
HISTORY_SECONDS how long each lasts (`make soak`).
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import duckdb
import pytest

from include.etl import numbers
from include.etl import run as runner
from include.etl.config import Source
from include.etl.engines.base import Writers
from include.etl.phases import plan as planning
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

SEEDS, SECONDS = int(os.environ.get("HISTORY_SEEDS", "1")), float(os.environ.get("HISTORY_SECONDS", "6"))
WRITERS, COMMITS_PER_S = 9, 50
SOURCE = """
source: {name}
description: Written all the time
conn_id: clinic
table: numbered
primary_key: [id]
cursor: {{column: id, type: number}}
schedule: {{incremental: "0 2 * * *"}}
output: {{formats: [parquet]}}
"""
BOUNDED, UNBOUNDED = "visits", "careless"
SERVERS = [
    pytest.param("postgres_server", marks=pytest.mark.postgres),
    pytest.param("mariadb_server", marks=pytest.mark.mariadb),
]
KEY = {"postgres": "bigserial", "mysql": "bigint auto_increment"}


@dataclass
class Applications:
    """Threads that take numbers and commit them at once or much later, or never."""

    server: DatabaseServer
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    committed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, number: int) -> None:
        dice = random.Random(f"{self.seed}-{number}")
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            while not self.stop.is_set():
                committed = self._transaction(cursor, dice, slow=number < 2)
                with self.lock:
                    self.committed += committed

    def _transaction(self, cursor: Any, dice: random.Random, *, slow: bool) -> bool:
        cursor.execute("begin")
        for _ in range(dice.choice([1, 1, 3])):
            cursor.execute("insert into numbered (written_by) values (1)")
        self.stop.wait(dice.uniform(1, 1.5) if slow else dice.uniform(0, 0.01))
        committed = slow or dice.random() >= 0.2
        cursor.execute("commit" if committed else "rollback")
        return committed


@pytest.mark.parametrize("history", range(SEEDS))
@pytest.mark.parametrize("name", SERVERS)
def test_numbers_committed_late_are_not_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, name: str, history: int
) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    seed = int(os.environ.get("HISTORY_SEED") or random.randrange(1_000_000))
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", server.airflow_connection)
    monkeypatch.setattr(numbers, "PATIENCE", timedelta(0))  # so that earlier observations have to serve
    server.execute("drop table if exists numbered")
    server.execute(f"create table numbered (id {KEY[server.conn_type]} primary key, written_by int not null)")
    for source in (BOUNDED, UNBOUNDED):
        project.configure(SOURCE.format(name=source), source)
    later = careless_look(monkeypatch)
    applications, held = Applications(server, seed), list[bool]()
    threads = [threading.Thread(target=applications.write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        read_for(SECONDS, held)
    finally:
        applications.stop.set()
        for thread in threads:
            thread.join()
    later.append(timedelta(minutes=1))
    read_for(0, held)
    committed = {key for (key,) in server.execute("select id from numbered")}
    published, careless = everything(project, BOUNDED), everything(project, UNBOUNDED)
    publications = len(list((project.published / "_manifests").glob("*.json")))
    report = f"HISTORY_SEED={seed}, {applications.committed} transactions, {publications} publications"
    report += f", {len(committed - set(careless))} lost without the look"
    sys.stderr.write(f"{name}: {report}\n")
    assert len(published) == len(set(published)), f"published twice: {report}"
    assert committed == set(published), f"{len(committed - set(published))} rows lost: {report}"
    assert committed - set(careless), f"nothing was lost without the look: {report}"
    assert applications.committed > COMMITS_PER_S * SECONDS, f"too few to prove anything: {report}"
    assert any(held), f"no transaction held a window's end back: {report}"
    assert publications > 1, f"all was read by the last run: {report}"


def careless_look(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """One of the sources does not look at transactions; the list puts the servers' clocks forward."""
    real, later = planning.look, [timedelta(0)]

    def look(source: Source) -> Writers:
        found = real(source)
        return found._replace(now=found.now + later[-1], in_flight=found.in_flight if source.source == BOUNDED else ())

    monkeypatch.setattr(planning, "look", look)
    return later


def read_for(seconds: float, held: list[bool]) -> None:
    """Incremental runs of both sources, one after the other, and at least one."""
    deadline = time.monotonic() + seconds
    while True:
        for source in (BOUNDED, UNBOUNDED):
            result = runner.run_source(source)
            if source == BOUNDED:
                held.append(result.plan.bound.writer is not None)
        if time.monotonic() > deadline:
            return


def everything(project: Project, source: str) -> list[int]:
    files = f"read_parquet('{project.folder}/data/processed/{source}/**/*.parquet')"
    with closing(duckdb.connect()) as connection:
        return [key for (key,) in connection.execute(f"SELECT id FROM {files}").fetchall()]
