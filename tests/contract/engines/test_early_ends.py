"""A stream that is given up leaves nothing behind, and stops its own query and no other."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from include.etl.engines import postgres
from include.etl.engines.base import Query
from tests import servers
from tests.contract.engines.lab import CONN_ID, LABEL, Lab, wait_until
from tests.servers import DatabaseServer

RUNNING = {
    "postgres": "pg_stat_activity where state = 'active' and query like 'copy%'",
    "mysql": f"information_schema.processlist where info like '/* {LABEL} */%'",
    "mssql": "sys.dm_exec_requests cross apply sys.dm_exec_sql_text(sql_handle) "
    f"where session_id <> @@spid and text like '/* {LABEL} */%'",
    "oracle": f"v$session where status = 'ACTIVE' and module = '{LABEL}'",
}
LONG = {"postgres": "pg_sleep(60)::text", "mysql": "benchmark(1000000000, sha2('a', 256))"}
WAITING_TO_SEND = {
    "postgres": "wait_event = 'ClientWrite'",
    "mysql": "state in ('Writing to net', 'Sending to client')",
}
SLEEPING = "select 1 from information_schema.processlist where info = 'select sleep(60)'"


@pytest.mark.parametrize("ending", ["close", "error", "session"])
def test_an_early_end_is_prompt_and_leaves_nothing_behind(lab: Lab, ending: str) -> None:
    query = Query(f"select i, 'row' as t from {lab.endless}")
    threads = set(threading.enumerate())
    with lab.engine().session() as session:
        batches = session.stream(query).batches
        next(batches)
        started = time.monotonic()
        if ending == "close":
            batches.close()  # type: ignore[attr-defined]
            assert sum(b.num_rows for b in session.stream(Query("select 1 as a")).batches) == 1
        elif ending == "error":
            with pytest.raises(ZeroDivisionError):
                batches.throw(ZeroDivisionError())  # type: ignore[attr-defined]
            assert sum(b.num_rows for b in session.stream(Query("select 1 as a")).batches) == 1
    assert time.monotonic() - started < 5
    assert set(threading.enumerate()) == threads
    if ending == "session":
        with pytest.raises(RuntimeError, match="closed before its stream"):
            next(batches)


def test_the_server_stops_working_after_an_early_end(server_lab: Lab) -> None:
    with server_lab.engine().session() as session:
        batches = session.stream(Query(f"select i from {server_lab.endless}")).batches
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        running = RUNNING[server_lab.database]
        server_lab.asks(f"select count(*) from {running}", "THE END OF A QUERY")
        assert list(server_lab.execute(f"select count(*) from {running}")) == [(0,)]


def test_a_server_that_waits_to_send_learns_of_the_end_where_it_cannot_be_asked(
    server_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second connection can be had to stop the query, and the line is full."""
    if server_lab.database not in WAITING_TO_SEND:
        pytest.skip(f"NOT TESTED: the drivers of {server_lab.database} need no second connection")
    assert server_lab.server is not None
    monkeypatch.setattr(postgres, "GRACE_S", 0.5)
    running = RUNNING[server_lab.database]
    with server_lab.engine().session() as session:
        batches = session.stream(Query(f"select i from {server_lab.endless}")).batches
        next(batches)
        wait_until(lambda: server_lab.execute(f"select 1 from {running} and {WAITING_TO_SEND[server_lab.database]}"))
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", replace(server_lab.server, port=1).airflow_connection)
        batches.close()  # type: ignore[attr-defined]
        wait_until(lambda: not server_lab.execute(f"select 1 from {running}"))


@contextlib.contextmanager
def interrupted_by(number: int) -> Iterator[None]:
    """The signal raises KeyboardInterrupt; SIGINT itself is ignored in a worker of pytest-xdist."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_query_that_has_sent_nothing_yet_is_stopped_by_an_interruption(server_lab: Lab) -> None:
    if server_lab.database not in LONG:
        pytest.skip(f"NOT TESTED: {server_lab.database} has no function here that takes long")
    running = f"select 1 from {RUNNING[server_lab.database]}"

    def interrupt() -> None:
        wait_until(lambda: server_lab.execute(running))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    with interrupted_by(signal.SIGTERM), server_lab.engine().session() as session, ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(session.stream(Query(f"select {LONG[server_lab.database]} as a")).batches)
        stopping.result()
        wait_until(lambda: not server_lab.execute(running))


@pytest.mark.parametrize("lab", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_in_postgres_the_query_of_a_task_that_was_killed_ends(lab: Lab) -> None:
    """The server looks whether the line is still there."""
    running = f"select 1 from {RUNNING['postgres']}"
    with lab.engine().session() as session, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, session.stream(Query(f"select {LONG['postgres']} as a")).batches)
        wait_until(lambda: lab.execute(running))
        session._cut()  # type: ignore[attr-defined]
        assert reading.exception(20)
        wait_until(lambda: not lab.execute(running))


@pytest.mark.parametrize("lab", [pytest.param("mysql-mariadb", marks=pytest.mark.mariadb)], indirect=True)
def test_an_early_end_behind_a_load_balancer_stops_nobody_else(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that should stop the query leads to a server where its number is another session's."""
    if lab.server is None or lab.server.process is None:
        pytest.skip("NOT TESTED: two servers, where one is given")
    with servers.mariadb() as elsewhere, lab.engine().session() as session, ThreadPoolExecutor(1) as pool:
        batches = session.stream(Query(f"select i from {lab.endless}")).batches
        next(batches)
        with contextlib.closing(_session_with_number(elsewhere, session.connection.thread_id())) as bystander:  # type: ignore[attr-defined]
            cursor = bystander.cursor()
            slept = pool.submit(cursor.execute, "select sleep(60)")
            wait_until(lambda: elsewhere.execute(SLEEPING))
            monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", elsewhere.airflow_connection)
            batches.close()  # type: ignore[attr-defined]
            assert elsewhere.execute(SLEEPING)
            elsewhere.execute(f"kill query {bystander.thread_id()}")
            assert slept.exception(20)


def _session_with_number(server: DatabaseServer, number: int) -> Any:
    """A connection to the server that has this number there, of those that are still to come."""
    while True:
        connection = server.connect()
        if connection.thread_id() >= number:
            assert connection.thread_id() == number
            return connection
        connection.close()


@pytest.mark.parametrize("lab", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_an_early_end_stops_no_backend_that_has_taken_the_number(lab: Lab) -> None:
    """As on another server, or on this one after the session's end."""
    assert lab.server is not None
    with lab.engine().session() as session, contextlib.closing(lab.server.connect()) as bystander:
        cursor = bystander.cursor()
        with ThreadPoolExecutor(1) as pool:
            slept = pool.submit(cursor.execute, "select pg_sleep(60)")
            sleeping = "select 1 from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'"
            wait_until(lambda: lab.execute(sleeping))
            session.schema(Query("select 1 as a"))
            session._pid = bystander.info.backend_pid  # type: ignore[attr-defined]
            session._cancel()  # type: ignore[attr-defined]
            assert lab.execute(sleeping)
            bystander.cancel()
            with pytest.raises(psycopg2.errors.QueryCanceled):
                slept.result(20)
