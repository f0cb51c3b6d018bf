"""What passes by itself is a TransientError, on time: silent hosts, full servers, locks, deadlocks."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from include.etl.engines.base import Query
from include.etl.errors import TransientError
from tests.contract.engines.lab import CONN_ID, Lab

VARIABLE = f"AIRFLOW_CONN_{CONN_ID.upper()}"
OPEN_TO = {"postgres": "alter role {0} connection limit 1", "mysql": "alter user {0} with max_user_connections 1"}
MAKE = {"postgres": "create role {0} login password 'once'", "mysql": "create user {0} identified by 'once'"}
DROP = {"postgres": "drop role if exists {0}", "mysql": "drop user if exists {0}"}


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_host_that_does_not_answer_is_given_up_in_time(
    server_lab: Lab, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    assert server_lab.server is not None
    monkeypatch.setenv(VARIABLE, json.dumps({**json.loads(server_lab.server.airflow_connection), "port": silent}))
    started = time.monotonic()
    with (
        pytest.raises(TransientError, match="cannot connect"),
        server_lab.engine(connect_timeout_s=1.0).session(),
    ):
        pass
    assert 0.9 < time.monotonic() - started < 6


def test_a_server_without_room_for_one_more_is_worth_a_retry(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("mssql", "oracle"):
        server_lab.not_in(other, "a limit for all of its users is more than a test may set")
    assert server_lab.server is not None
    for sql in (DROP, MAKE, OPEN_TO):
        server_lab.execute(sql[server_lab.database].format("lonely"))
    given = {**json.loads(server_lab.server.airflow_connection), "login": "lonely", "password": "once"}
    if server_lab.database == "mysql":
        given["schema"] = "information_schema"  # which is open to users without any grant
    monkeypatch.setenv(VARIABLE, json.dumps(given))
    with server_lab.engine().session():
        with pytest.raises(TransientError, match=r"cannot connect: .*lonely") as raised, server_lab.engine().session():
            pass
        assert "once" not in str(raised.value)
    assert server_lab.read("select 1 as a").num_rows == 1
    server_lab.execute(DROP[server_lab.database].format("lonely"))


def test_a_table_that_another_session_keeps_locked_is_worth_a_retry(server_lab: Lab) -> None:
    """A lock is given up before the statement timeout, which would tell people to raise it."""
    server_lab.not_in("oracle", "nothing locks out its readers")
    make(server_lab, "moving")
    lock = {
        "postgres": "lock table moving in access exclusive mode",
        "mysql": "lock tables moving write",
        "mssql": "alter table moving add b int",
    }
    with writer(server_lab) as run:
        run(lock[server_lab.database])
        with server_lab.engine(statement_timeout_s=2.0).session() as session, pytest.raises(TransientError):
            list(session.stream(Query("select * from moving")).batches)
    assert server_lab.read("select a from moving").num_rows == 1


@pytest.mark.parametrize("lab", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_the_victim_of_a_deadlock_is_worth_a_retry(lab: Lab) -> None:
    """PostgreSQL's: elsewhere a reader of a snapshot waits for nobody, and so for nobody in a circle."""
    make(lab, "one")
    make(lab, "other")
    caught: list[BaseException] = []

    def read() -> None:
        try:
            with lab.engine(statement_timeout_s=30.0).session() as session:
                list(session.stream(Query("select a from one")).batches)
                holding.set()
                locked.wait(20)
                list(session.stream(Query("select a from other")).batches)
        except BaseException as error:  # noqa: BLE001 looked at below
            caught.append(error)

    holding, locked = threading.Event(), threading.Event()
    reader = threading.Thread(target=read)
    with writer(lab) as run:
        reader.start()
        assert holding.wait(20)
        run("lock table other in access exclusive mode")
        locked.set()
        wait_until(lambda: lab.execute("select 1 from pg_locks where not granted"))
        run("lock table one in access exclusive mode")  # goes on once the reader has lost
    reader.join(20)
    assert [type(error) for error in caught] == [TransientError]
    assert "deadlock" in str(caught[0])


def make(lab: Lab, table: str) -> None:
    """A table of one row."""
    lab.execute(f"drop table if exists {table}")
    lab.execute(f"create table {table} (a int)")
    lab.execute(f"insert into {table} values (1)")


@contextlib.contextmanager
def writer(lab: Lab) -> Iterator[Callable[[str], Any]]:
    """Another session's statements in one transaction, which is rolled back."""
    assert lab.server is not None
    with contextlib.closing(lab.server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin transaction" if lab.database == "mssql" else "begin")
        yield cursor.execute


def wait_until(true: Callable[[], Any]) -> None:
    """Return once it is so; an AssertionError where it never comes."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
