"""Errors of SQL Server, and servers that answer no more, at the boundary of its clients."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from include.etl.engines.base import Query
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError
from tests.unit.engines.mssql_doubles import (
    BEFORE,
    ID,
    engine,
    error,
    fake,
    needs_mssql_python,
    raises,
    rows_of,
)

pytestmark = pytest.mark.usefixtures("clinic")


@pytest.mark.parametrize("moment", ["sp_describe", "select id from t", "fetch"])
def test_a_hung_server_does_not_hang_the_task(kind: str, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setattr("include.etl.engines.mssql_calls.GRACE_S", 0.2)
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    known = set()
    if kind == "mssql-python":
        import mssql_python

        known = mssql_python._active_connections
    never = threading.Event()
    waits: Any = never.wait
    if moment == "fetch":
        server.on_fetch = waits
    else:
        server.fail[moment] = waits
    started = time.monotonic()
    with engine(statement_timeout_s=0.3).session() as session:
        known.add(session.connection)
        with pytest.raises(TransientError, match="answers no more"):
            list(session.stream(Query("select id from t")).batches)
    assert 0.3 <= time.monotonic() - started < 3
    assert kind == "pymssql" or session.connection not in known  # the driver would wait for it at the process's end
    assert server.cancelled == (1 if kind == "mssql-python" else 0)
    assert server.closed == 0  # closing would wait for the server as well
    never.set()


@needs_mssql_python
def test_a_slow_server_that_can_be_cancelled_keeps_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake("mssql-python", monkeypatch, [ID], rows_of("mssql-python"))
    server.on_fetch = lambda: server.released.wait(10) and None
    with engine(statement_timeout_s=0.3).session() as session:
        with pytest.raises(ConfigurationError, match="statement_timeout"):
            list(session.stream(Query("select id from t")).batches)
        assert session.schema(Query("select id from t")).names == ["id"]
    assert server.closed == 1


@pytest.mark.parametrize(
    ("number", "state", "text", "wanted"),
    [
        (1205, "40001", "Transaction (Process ID 5) was deadlocked on lock resources. Rerun it.", TransientError),
        (1222, "HYT00", "Lock request time out period exceeded.", TransientError),
        (596, "HY000", "Cannot continue the execution because the session is in the kill state.", TransientError),
        (6005, "HY000", "SHUTDOWN is in progress.", TransientError),
        (40501, "42000", "The service is currently busy. Retry the request after 10 seconds.", TransientError),
        (10928, "42000", "Resource ID: 1. The request limit for the database is 30; resource limit.", TransientError),
        (10054, "08S01", "TCP Provider: An existing connection was forcibly closed.", TransientError),
        (3961, "42000", "Snapshot isolation transaction failed in database 'c'", TransientError),
        (3948, "42000", "The transaction was terminated because of a conflict. Retry the transaction.", TransientError),
        (3958, "42000", "Transaction aborted when accessing versioned row in table 't'.", TransientError),
        (
            3952,
            "42000",
            "Snapshot isolation transaction failed accessing database 'c' because snapshot isolation is not "
            "allowed in this database.",
            ConfigurationError,
        ),
        (208, "42S02", "Invalid object name 'no_such_table'.", ConfigurationError),
        (207, "42S22", "Invalid column name 'no_such_column'.", ConfigurationError),
        (102, "42000", "Incorrect syntax near 'patient 4711'.", ConfigurationError),
        (8144, "42000", "Procedure or function f has too many arguments specified.", ConfigurationError),
        (229, "42000", "The SELECT permission was denied on the object 't', database 'c'.", ConfigurationError),
        (245, "22018", "Conversion failed when converting the varchar value 'patient 4711' to int.", DataError),
        (245, "22018", "Conversion failed: the varchar value '4711, portal login failed' to int.", DataError),
        (245, "22018", "Conversion failed: the varchar value '4711, wound being recovered' to int.", DataError),
        (220, "22003", "Arithmetic overflow error for data type tinyint, value = 4711.", DataError),
        (8134, "22012", "Divide by zero error encountered.", DataError),
    ],
)
@pytest.mark.parametrize("moment", ["sp_describe", "fetch"])
def test_errors_of_queries(
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    state: str,
    text: str,
    wanted: type[ExtractionError],
    moment: str,
) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    problem = raises(error(kind, number, state, text))
    if moment == "fetch":
        server.on_fetch = problem
    else:
        server.fail |= {moment: problem, "top 0": problem}
    with engine().session() as session, pytest.raises(wanted) as raised:
        list(session.stream(Query("select id from t")).batches)
    assert type(raised.value) is wanted
    assert "4711" not in str(raised.value)
    assert str(raised.value).startswith("nightly */ run: connection 'clinic': ")
    if number in (208, 207, 229):
        assert text.split("'")[1] in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        'relation "no_such" does not exist',
        'column "no_such" does not exist',
        'column "no_such" specified more than once',
    ],
)
def test_postgres_s_words_for_what_is_missing_are_kept(kind: str, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Babelfish, which speaks SQL Server's protocol, passes them on."""
    server = fake(kind, monkeypatch, [ID], [])
    server.fail["sp_describe"] = server.fail["top 0"] = raises(error(kind, 33557097, "42000", text))
    with engine().session() as session, pytest.raises(ConfigurationError, match="no_such"):
        session.schema(Query("select id from no_such"))


def test_an_error_that_rolls_back_costs_the_one_state_and_the_session_says_so(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    server.on_fetch = raises(error(kind, 245, "22018", "Conversion failed"))
    server.open_transactions = 0
    with engine().session() as session:
        with pytest.raises(DataError):
            list(session.stream(Query("select id from t")).batches)
        session.schema(Query("select id from t"))
        assert session.consistency == "query"
    assert server.sent[BEFORE + 2 : BEFORE + 4] == ["select @@trancount", "begin transaction"]


@needs_mssql_python
@pytest.mark.parametrize(("state", "raises_"), [("22012", True), ("40001", True), ("01000", False), ("00000", False)])
def test_an_error_that_comes_with_rows_is_raised(monkeypatch: pytest.MonkeyPatch, state: str, raises_: bool) -> None:
    """ODBC gives the rows of a block, the one that failed among them, and the driver leaves a message."""
    server = fake("mssql-python", monkeypatch, [ID], rows_of("mssql-python"))
    server.leaves = [(f"[{state}] (8134)", "[Microsoft][SQL Server]Divide by zero error encountered.")]
    with engine().session() as session:
        read = session.stream(Query("select id from t")).batches
        if not raises_:
            assert [batch.num_rows for batch in read] == [2]
            return
        with pytest.raises(DataError if state == "22012" else TransientError, match="Divide by zero"):
            list(read)


@needs_mssql_python
def test_a_lost_line_is_a_plain_runtime_error_of_the_driver_and_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake("mssql-python", monkeypatch, [ID], [])
    server.on_fetch = raises(RuntimeError("Error while fetching rows in batches"))
    with engine().session() as session, pytest.raises(TransientError, match="lost"):
        list(session.stream(Query("select id from t")).batches)
    server.on_fetch = raises(RuntimeError("Unsupported data type for Arrow batch fetch for column - id"))
    with engine().session() as session, pytest.raises(ConfigurationError, match="Unsupported data type"):
        list(session.stream(Query("select id from t")).batches)


@needs_mssql_python
def test_a_state_that_the_driver_has_no_words_for_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from mssql_python.exceptions import raise_exception

    server = fake("mssql-python", monkeypatch, [ID], [])
    server.on_fetch = lambda: raise_exception("IMC06", "[Microsoft][ODBC Driver 18]The connection is broken")
    with engine().session() as session, pytest.raises(TransientError, match=r"lost \(SQLSTATE IMC06\)"):
        list(session.stream(Query("select id from t")).batches)


@pytest.mark.parametrize(
    ("number", "state", "text", "wanted"),
    [
        (18456, "28000", "Login failed for user 'reader'.", ConfigurationError),
        (4060, "42000", 'Cannot open database "c" requested by the login. The login failed.', ConfigurationError),
        (0, "08001", "SSL Provider: certificate verify failed:self-signed certificate", ConfigurationError),
        (0, "08001", 'database "no_such" does not exist', ConfigurationError),
        (0, "08001", "TCP Provider: Error code 0x2AF9", ConfigurationError),
        (10061, "08001", "TCP Provider: Error code 0x2749", TransientError),
        (258, "HYT00", "Login timeout expired", TransientError),
        (18401, "28000", "Login failed for user 'reader'. Reason: Server is in script upgrade mode.", TransientError),
        (40613, "42000", "Database 'c' on server 's' is not currently available.", TransientError),
        (17809, "08004", "maximum number of '5' user connections has already been reached; s3cret", TransientError),
    ],
)
def test_a_session_that_cannot_be_opened(
    kind: str, monkeypatch: pytest.MonkeyPatch, number: int, state: str, text: str, wanted: type[ExtractionError]
) -> None:
    server = fake(kind, monkeypatch, [], [])
    problem = raises(error(kind, number, state, text))
    monkeypatch.setattr(server, "connect", problem)
    name = "mssql_python" if kind == "mssql-python" else kind
    monkeypatch.setattr(f"{name}.connect", lambda *_, **__: problem())
    with pytest.raises(wanted, match="cannot connect") as raised, engine().session():
        pass
    assert type(raised.value) is wanted
    assert "s3cret" not in str(raised.value)


@pytest.fixture
def silent_port(clinic: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that accepts connections and says nothing, in place of the clinic's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port: int = listener.getsockname()[1]
        given = {"conn_type": "mssql", "host": "127.0.0.1", "port": port, "login": "reader", "password": "s3cret"}
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))
        yield port


@pytest.mark.usefixtures("silent_port")
def test_the_real_client_and_a_server_that_says_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mssql-python's driver has no system libraries, this is pymssql twice."""
    monkeypatch.setattr("include.etl.engines.mssql.GRACE_S", 0.5)
    started = time.monotonic()
    with pytest.raises(TransientError, match="cannot connect"), engine(connect_timeout_s=1.0).session():
        pass
    assert time.monotonic() - started < 4
