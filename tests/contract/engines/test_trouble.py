"""What passes by itself is a TransientError, on time: silent hosts, full servers, locks, deadlocks."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from include.etl.engines import engine_class, mssql, mssql_calls, mysql, oracle, postgres
from include.etl.engines.base import Engine, Limits, Query, Session
from include.etl.errors import TransientError
from tests.contract.engines.lab import CONN_ID, LABEL, Lab, wait_until
from tests.silent_network import SilentNetwork, silent_network

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
    monkeypatch.setenv(
        VARIABLE, json.dumps({**json.loads(server_lab.server.airflow_connection), "host": "127.0.0.1", "port": silent})
    )
    started = time.monotonic()
    with (
        pytest.raises(TransientError, match="cannot connect"),
        server_lab.engine(connect_timeout_s=1.0).session(),
    ):
        pass
    assert 0.9 < time.monotonic() - started < 6


SILENT = Limits(statement_timeout_s=2.0, connect_timeout_s=2.0)
SILENT_GRACE_S = 1.0
Silence = Callable[[int], None]
Scene = Callable[[Engine, Silence], None]
ORDERS = threading.Lock()


def during_connect(engine: Engine, silence: Silence) -> None:
    silence(20)  # in the middle of the handshake
    with engine.session():
        pass


def during(statement: Callable[[Session], object]) -> Scene:
    def scene(engine: Engine, silence: Silence) -> None:
        with engine.session() as session:
            silence(0)
            statement(session)

    return scene


def in_mid_stream(engine: Engine, silence: Silence) -> None:
    with engine.session() as session:
        batches = session.stream(Query("select * from wide")).batches
        next(batches)
        silence(0)
        list(batches)


def in_the_early_end_of_a_stream(engine: Engine, silence: Silence) -> None:
    with engine.session() as session:
        batches = session.stream(Query("select * from wide")).batches
        next(batches)
        silence(0)
        raise TransientError("the reader's own trouble")


SCENES: list[Scene] = [
    during_connect,
    during(lambda session: session.schema(Query("select 1 as a"))),
    during(lambda session: session.statistics("wide", "a")),
    during(lambda session: session.writers()),
    in_mid_stream,
    in_the_early_end_of_a_stream,
]
"""Each ends with a TransientError; how long it may take beyond both limits is for what is left to close."""


def test_a_network_that_falls_silent_is_given_up_in_time(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut and every byte is acknowledged, so that only a clock of the client's own can tell."""
    for module in (postgres, mysql, mssql, mssql_calls, oracle):
        monkeypatch.setattr(module, "GRACE_S", SILENT_GRACE_S)
    lab, server = server_lab, server_lab.server
    assert server is not None
    lab.execute("drop table if exists wide")
    text = lab.text("1000")
    text = f"cast({text} as varchar(1000))" if lab.database == "mssql" else text  # no LOB, which is read row by row
    rows = f"select i as a, {text} as b"
    into = f"{rows} into wide" if lab.database == "mssql" else f"create table wide as {rows}"
    lab.execute(f"{into} from {lab.series(60_000)}")
    threads = set(threading.enumerate())
    with silent_network(server.host, server.port, len(SCENES) + 1) as network, ThreadPoolExecutor(8) as pool:
        engines = [behind(network, line, lab, monkeypatch) for line in range(len(SCENES) + 1)]
        ends = [pool.submit(lasting, scene, engines[n], network, n) for n, scene in enumerate(SCENES)]
        closed = pool.submit(lasting, during(lambda session: None), engines[-1], network, len(SCENES))
        outcomes = [end.result() for end in ends]
        if lab.kind != "mssql-pymssql":  # FreeTDS ends the wait for a slow server and a silent one alike
            assert [type(error) for error, _ in outcomes] == [TransientError] * len(SCENES)
        limit = SILENT.statement_timeout_s + 2 * SILENT_GRACE_S + 4  # a busy machine; without a clock it is 25 s
        assert [seconds for _, seconds in (*outcomes, closed.result()) if seconds > limit] == []
        assert closed.result()[0] is None, "what was read in full is not lost because the goodbye is"
        if lab.database in ("mssql", "oracle"):
            return  # a call that does not end is left behind with its thread
        wait_until(lambda: set(threading.enumerate()) - set(pool._threads) <= threads)


def behind(network: SilentNetwork, line: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that reaches the server on this line."""
    assert lab.server is not None
    place = {**json.loads(lab.server.airflow_connection), "host": "127.0.0.1", "port": network.ports[line]}
    monkeypatch.setenv(f"AIRFLOW_CONN_LINE{line}", json.dumps(place))
    return engine_class(lab.database, CONN_ID)(f"line{line}", SILENT, LABEL)


def lasting(scene: Scene, engine: Engine, network: SilentNetwork, line: int) -> tuple[BaseException | None, float]:
    """What the scene ended with, and how long after the silence."""
    fell = [0.0]

    def silence(after: int) -> None:
        with ORDERS:
            network.silence(line, after)
        fell.append(time.monotonic())

    try:
        scene(engine, silence)
    except Exception as error:  # noqa: BLE001 looked at by the test
        return error, time.monotonic() - fell[-1]
    return None, time.monotonic() - fell[-1]


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

    def there_is_room() -> bool:
        with contextlib.suppress(TransientError):  # a server counts a session until its process has ended
            return server_lab.read("select 1 as a").num_rows == 1
        return False

    wait_until(there_is_room)
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
