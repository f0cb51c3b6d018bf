"""Late commits: applications write for some seconds while incremental runs go on, and no committed row is missing.

Each history is read twice: with the bound, and by a source that does not look at transactions in flight. The second one
has to lose rows, or the first proves nothing. HISTORY_SEED repeats the dice of a history, though not its timing;
HISTORY_SEEDS is how many histories there are, HISTORY_SECONDS how long each lasts (`make soak`).
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from include.etl import run as runner
from include.etl.config import Source
from include.etl.engines.base import Writers
from include.etl.phases import plan as planning
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

SEEDS, SECONDS = int(os.environ.get("HISTORY_SEEDS", "2")), float(os.environ.get("HISTORY_SECONDS", "6"))
WRITERS, COMMITS_PER_S = 10, 50
LONG, SLOW, SLOWEST = (1.0, 4.5), (3.5, 4.5), 2
"""Seconds that a transaction lasts now and then; and how long all of the slowest writers' last."""
LAG_S = 1.0
"""How far the applications' clocks run behind."""
SOURCE = """
source: {name}
description: Written all the time
conn_id: clinic
table: moving
primary_key: [id]
cursor: {{column: at, lag: {lag}}}
schedule: {{incremental: "0 2 * * *"}}
output: {{formats: [parquet]}}
"""
BOUNDED, UNBOUNDED = "visits", "careless"
SERVERS = [
    pytest.param("postgres_server", marks=pytest.mark.postgres),
    pytest.param("mariadb_server", marks=pytest.mark.mariadb),
]
NOW = {"postgres": ("now()", "clock_timestamp()"), "mysql": ("now(6)", "now(6)")}
TYPE = {"postgres": "timestamptz", "mysql": "timestamp(6)"}


@dataclass
class Applications:
    """Threads that stamp rows and commit them at once or much later, or never; each writes rows of its own."""

    server: DatabaseServer
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    committed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, reading: Callable[[], None]) -> None:
        """Write while `reading` goes on; all transactions have ended when this returns."""
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            reading()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _write(self, number: int) -> None:
        dice, rows = random.Random(f"{self.seed}-{number}"), set[int]()
        behind = timedelta(seconds=dice.uniform(0, LAG_S))
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("set time zone 'UTC'" if self.server.conn_type == "postgres" else "set time_zone = '+00:00'")
            while not self.stop.is_set():
                committed = self._transaction(cursor, dice, rows, number, behind)
                with self.lock:
                    self.committed += committed

    def _transaction(self, cursor: Any, dice: random.Random, rows: set[int], number: int, behind: timedelta) -> bool:
        written = set()
        cursor.execute("begin")
        for _ in range(dice.choice([1, 1, 3])):
            key = number * 100_000 + dice.randrange(200)
            stamp = dice.choice([*NOW[self.server.conn_type], "%s"])
            values = [(datetime.now(UTC) - behind).strftime("%Y-%m-%d %H:%M:%S.%f")] if stamp == "%s" else []
            known = key in rows | written
            change = f"update moving set at = {stamp}" if known else f"insert into moving select {key}, {stamp}"
            cursor.execute(f"{change} where id = {key}" if known else change, values)
            written.add(key)
        slow = number < SLOWEST
        self.stop.wait(dice.uniform(*(SLOW if slow else LONG if dice.random() < 0.005 else (0, 0.01))))
        if not slow and dice.random() < 0.15:
            cursor.execute("rollback")
            return False
        cursor.execute("commit")
        rows |= written
        return True


@pytest.mark.parametrize("history", range(SEEDS))
@pytest.mark.parametrize("name", SERVERS)
def test_late_commits_are_not_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, name: str, history: int
) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    seed = int(os.environ.get("HISTORY_SEED") or random.randrange(1_000_000))
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", server.airflow_connection)
    server.execute("drop table if exists moving")
    server.execute(f"create table moving (id bigint primary key, at {TYPE[server.conn_type]} not null)")
    for source, lag in ((BOUNDED, "1s"), (UNBOUNDED, "0s")):
        project.configure(SOURCE.format(name=source, lag=lag), source)
    later = look_with_faults(monkeypatch)
    applications = Applications(server, seed)
    held: list[bool] = []
    applications.run(lambda: read_for(SECONDS, held))
    later.append(timedelta(minutes=1))  # nobody writes any more: as if the last run came a minute later
    read_for(0, held)
    current = {(key, moment(at)) for key, at in server.execute("select id, at from moving")}
    published, careless = everything(project, BOUNDED), everything(project, UNBOUNDED)
    publications = len(list((project.published / "_manifests").glob("*.json")))
    report = f"HISTORY_SEED={seed}, {applications.committed} transactions, {publications} publications"
    sys.stderr.write(f"{name}: {report}\n")
    assert len(published) == len(set(published)), f"published twice: {report}"
    assert current <= set(published), f"{len(current - set(published))} rows lost: {report}"
    assert current - set(careless), f"nothing was lost without the bound: {report}"
    assert applications.committed > COMMITS_PER_S * SECONDS, f"too few to prove anything: {report}"
    assert any(held), f"no transaction held a window's end back: {report}"
    assert publications > 1, f"all was read by the last run: {report}"


def look_with_faults(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """One of the sources does not look at transactions; the list puts the servers' clocks forward."""
    real, later = planning.look, [timedelta(0)]

    def look(source: Source) -> Writers:
        found = real(source)
        in_flight = found.in_flight if source.source == BOUNDED else ()
        return found._replace(now=found.now + later[-1], in_flight=in_flight)

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


def everything(project: Project, source: str) -> list[tuple[int, datetime]]:
    files = f"read_parquet('{project.folder}/data/processed/{source}/**/*.parquet')"
    with closing(duckdb.connect()) as connection:
        found = connection.execute(f'SELECT id, epoch_us("at") FROM {files}').fetchall()
    return [(key, datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at)) for key, at in found]


def moment(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)
