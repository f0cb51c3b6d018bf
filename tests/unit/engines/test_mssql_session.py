"""SQL Server's engine at the boundary of its clients: their own types and errors, a double only for the socket."""

from __future__ import annotations

import importlib.util
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymssql
import pytest
import sqlglot

from include.etl.completeness.checksums import over
from include.etl.engines.base import Limits, Query
from include.etl.engines.mssql import MsSqlEngine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError
from tests.unit.engines.mssql_doubles import Described, FakeServer

ID: Described = ("id", "int", 4, 10, 0)
AT: Described = ("at", "datetime2(7)", 8, 27, 7)
NOTE: Described = ("note", "nvarchar(max)", -1, 0, 0)
EMPTY = pa.RecordBatch.from_pydict({"id": pa.array([], pa.int32())})
ONE = pa.RecordBatch.from_pydict({"id": pa.array([1, None], pa.int32())})
MSSQL_PYTHON = importlib.util.find_spec("mssql_python") is not None
needs_mssql_python = pytest.mark.skipif(
    not MSSQL_PYTHON, reason="mssql-python IS NOT TESTED: not installed; pymssql is read with instead"
)


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow connection for every test."""
    given = {"conn_type": "mssql", "host": "127.0.0.1", "schema": "c", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))


@pytest.fixture(params=[pytest.param("mssql-python", marks=needs_mssql_python), "pymssql"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each client; without mssql-python the other one is taken."""
    if request.param == "pymssql":
        monkeypatch.setitem(sys.modules, "mssql_python", None)
    return str(request.param)


def fake(kind: str, monkeypatch: pytest.MonkeyPatch, described: list[Described], rows: list[Any]) -> FakeServer:
    server = FakeServer(described, rows)
    monkeypatch.setattr(f"{'mssql_python' if kind == 'mssql-python' else kind}.connect", server.connect)
    return server


def rows_of(kind: str) -> list[Any]:
    return [ONE, EMPTY] if kind == "mssql-python" else [(1,), (None,)]


def engine(**limits: float) -> MsSqlEngine:
    return MsSqlEngine("clinic", Limits(**limits), "nightly */ run")  # type: ignore[arg-type]


def error(kind: str, number: int, state: str, text: str) -> Exception:
    """The client's own error for an error of the server."""
    if kind == "pymssql":
        return pymssql.OperationalError(number, text.encode())
    import mssql_python.exceptions

    found = mssql_python.exceptions.sqlstate_to_exception(state, f"[Microsoft][SQL Server]{text}")
    assert found is not None
    return found


def raises(problem: Exception) -> Any:
    def answer() -> None:
        raise problem

    return answer


def test_what_a_session_sends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    with engine(statement_timeout_s=60).session() as session:
        assert session.consistency == "session"
        stream = session.stream(
            Query("select id from t where at >= :start order by id;", {"start": datetime(2024, 1, 2)})
        )
        assert stream.schema == pa.schema([("id", pa.int32())])
        assert pa.Table.from_batches(stream.batches)["id"].to_pylist() == [1, None]
    query = "select id from t where at >= cast('2024-01-02T00:00:00' as datetime2(7)) order by id"
    assert server.sent == [
        "set nocount on",
        "set lock_timeout 30000",
        "set context_info 0x6D6F682D65746C",
        "select snapshot_isolation_state, is_read_committed_snapshot_on from sys.databases where database_id = db_id()",
        "set transaction isolation level snapshot",
        "begin transaction",
        "exec sp_describe_first_result_set @tsql = N'" + query.replace("'", "''") + "'",
        f"/* nightly  run */ {query}",
        "if @@trancount > 0 rollback transaction",
    ]
    assert server.closed == 1
    for sql in (server.sent[3], server.sent[7]):
        assert len(sqlglot.parse(sql, dialect="tsql")) == 1


@pytest.mark.parametrize(
    ("state", "level", "consistency"),
    [((1, 1), "snapshot", "session"), ((0, 1), "read committed", "query"), ((2, 0), "read committed", "none")],
)
def test_the_session_says_what_is_consistent(
    kind: str, monkeypatch: pytest.MonkeyPatch, state: tuple[int, int], level: str, consistency: str
) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    server.isolation = [state]
    with engine().session() as session:
        assert session.consistency == consistency
    assert f"set transaction isolation level {level}" in server.sent


@pytest.mark.parametrize("refused", ["set lock_timeout", "set context_info", "snapshot_isolation_state"])
def test_what_another_maker_s_server_refuses_is_told_and_ends_no_session(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    server.fail[refused] = raises(error(kind, 33557097, "42000", "this is not supported"))
    with engine().session() as session:
        assert session.consistency == ("none" if "isolation" in refused else "session")
        assert session.schema(Query("select id from t")).names == ["id"]
    assert "this is not supported" in caplog.text


def test_a_database_that_sys_databases_does_not_list(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    server.isolation = []
    with engine().session() as session:
        assert session.consistency == "none"


def undescribed(server: FakeServer, refusal: Exception | None) -> None:
    """Nothing is described, or only with an error."""
    server.describes = False
    if refusal:
        server.fail["sp_describe"] = raises(refusal)


@needs_mssql_python
@pytest.mark.parametrize("refuses", [False, True])
def test_a_query_that_is_not_described_is_told_by_odbc(monkeypatch: pytest.MonkeyPatch, refuses: bool) -> None:
    server = fake("mssql-python", monkeypatch, [], [ONE, EMPTY])
    undescribed(server, error("mssql-python", 262, "42000", "CREATE VIEW permission denied") if refuses else None)
    server.told = [("id", 4, 10, 0), ("fee", 3, 19, 4), ("at", 93, 27, 7), ("note", -9, 200, 0), ("doc", -10, 0, 0)]
    with engine().session() as session:
        schema = session.schema(Query("with x as (select 1 as id) select * from x order by id"))
    kinds = [pa.int32(), pa.decimal128(19, 4), pa.timestamp("ns"), pa.string(), pa.string()]
    assert schema == pa.schema(zip(("id", "fee", "at", "note", "doc"), kinds, strict=True))
    (asked,) = [sql for sql in server.sent if "top 0" in sql]
    assert asked.startswith("with x as (select 1 as id) select top 0 * from (")
    assert len(sqlglot.parse(asked, dialect="tsql")) == 1
    server.told = [("place", -151, 0, 0)]
    with engine().session() as session, pytest.raises(ConfigurationError, match="'place' has type 'ODBC -151'"):
        session.schema(Query("select place from t"))


def test_pymssql_tells_of_text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    server = fake("pymssql", monkeypatch, [], [])
    undescribed(server, None)
    server.told = [("note", pymssql.STRING.value, 0, 0)]
    with engine().session() as session:
        assert session.schema(Query("select note from t")) == pa.schema([("note", pa.string())])
        server.told.append(("id", pymssql.NUMBER.value, 0, 0))
        with pytest.raises(ConfigurationError, match=r"'id' has type 'not told by pymssql'.* cast it in the query"):
            session.schema(Query("select note, id from t"))


def test_an_error_of_the_description_is_told_when_the_query_fails_too(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake(kind, monkeypatch, [], [])
    undescribed(server, error(kind, 208, "42S02", "Invalid object name 'first'."))
    server.fail["top 0"] = raises(error(kind, 208, "42S02", "Invalid object name 'second'."))
    with engine().session() as session, pytest.raises(ConfigurationError, match="'first'"):
        session.schema(Query("select id from t"))


def test_what_would_lose_digits_is_converted_by_the_server(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "2024-02-29T23:59:59.1234567"
    batch = pa.RecordBatch.from_pydict({"id": pa.array([1], pa.int32()), "at": [text]})
    rows = [batch, batch.slice(1)] if kind == "mssql-python" else [(1, text)]
    server = fake(kind, monkeypatch, [ID, AT], rows)
    with engine().session() as session:
        read = pa.Table.from_batches(session.stream(Query("select id, at from t")).batches)
    assert read["at"][0].value == 1709251199123456700
    assert server.sent[7].endswith(
        "select _q.[id] as [id], convert(varchar(27), _q.[at], 126) as [at] from (\nselect id, at from t\n) as _q"
    )


@pytest.mark.parametrize(
    ("declared", "form"),
    [
        ("uniqueidentifier", "convert(nvarchar(max), _q.[c])"),
        ("ntext", "convert(nvarchar(max), _q.[c])"),
        ("datetimeoffset(7)", "convert(varchar(34), _q.[c], 126)"),
        ("hierarchyid", "_q.[c].ToString()"),
        ("nvarchar(9)", ""),
    ],
)
def test_what_takes_no_collation_is_hashed_as_the_text_that_is_read(
    monkeypatch: pytest.MonkeyPatch, declared: str, form: str
) -> None:
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    server = fake("pymssql", monkeypatch, [ID, ("c", declared, 16, 0, 0)], [])
    query = Query("with x as (select 1 as id, c from t) select id, c from x order by id option (recompile)")
    with engine().session() as session:
        written = session.written(query, ["c"])
    assert len(server.sent) == 8, "the query is described and not run"
    made = over(written, "tsql", {"c": pa.string()}).sql
    assert (f"select _q.[id] as [id], {form} as [c] from" in made) == bool(form)
    (parsed,) = sqlglot.parse(made, dialect="tsql")
    assert isinstance(parsed, sqlglot.exp.Select)
    assert made.endswith("option (recompile)")


def test_a_result_of_another_query_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    server.names = ["trancount"]
    with engine().session() as session, pytest.raises(DataError, match="other columns or types"):
        list(session.stream(Query("select id from t")).batches)


def test_two_columns_of_one_name_and_none(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(kind, monkeypatch, [ID, ID], [])
    with engine().session() as session, pytest.raises(ConfigurationError, match="'id'"):
        session.schema(Query("select id, id from t"))


@pytest.mark.parametrize(
    "sql", ["insert into t values (1)", "select 1 as a; drop table t", "select 1 as a into t", "drop table t"]
)
def test_what_is_not_one_select_never_reaches_the_server(kind: str, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    with engine().session() as session, pytest.raises(ConfigurationError):
        session.stream(Query(sql))
    assert len(server.sent) == 7


@needs_mssql_python
def test_lobs_are_fetched_few_at_a_time_and_fewer_when_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    large = pa.RecordBatch.from_pydict({"note": ["x" * 300_000] * 10})
    server = fake("mssql-python", monkeypatch, [NOTE], [large, large.slice(9), large.slice(10)])
    with engine(batch_bytes=1 << 20).session() as session:
        batches = list(session.stream(Query("select note from t")).batches)
    assert server.counts == [1, 1, 1]
    assert [batch.num_rows for batch in batches] == [10, 1]
    server.rows, server.counts = [large.slice(10)], []
    with engine().session() as session:
        list(session.stream(Query("select note from t")).batches)
    assert server.counts == [16]


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
    assert server.sent[8:10] == ["select @@trancount", "begin transaction"]


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


def test_an_early_end_stops_the_query(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [ONE] * 9 if kind == "mssql-python" else [(1,)] * 90
    server = fake(kind, monkeypatch, [ID], many)
    threads = set(threading.enumerate())
    with engine(batch_rows=2).session() as session:
        batches = session.stream(Query("select id from t")).batches
        next(batches)
        before = server.ended
        batches.close()  # type: ignore[attr-defined]
        assert server.ended == before + (kind == "pymssql")  # the other client's cursor stops when it is closed
    assert set(threading.enumerate()) == threads


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


def test_require_tls_refuses_a_plain_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", '{"conn_type": "mssql", "host": "h", "extra": {"encrypt": "no"}}')
    with pytest.raises(ConfigurationError, match="not encrypted"), engine(require_tls=True).session():
        pass


@pytest.fixture
def silent_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that accepts connections and says nothing."""
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


def test_without_mssql_python_or_its_driver_pymssql_reads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl.extract")
    fake("pymssql", monkeypatch, [ID], [])
    if MSSQL_PYTHON:
        import mssql_python

        text = "Failed to load the driver. Please read the documentation"
        missing = mssql_python.OperationalError("Connection operation failed", text)
        monkeypatch.setattr("mssql_python.connect", lambda *_, **__: raises(missing)())
        with engine().session() as session:
            assert session.connection.__class__.__name__ == "FakeConnection"
        assert "reads with pymssql" in caplog.text
        assert "libltdl7" in caplog.text
        caplog.clear()
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    with engine().session():
        pass
    assert "reads with pymssql" in caplog.text


def test_statistics_come_from_the_catalogue(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    server.answers = {
        "sys.partitions": [(Decimal(1000),)],
        "sys.index_columns": [("id",)],
        "type_name": [("int", 0)],
        "dm_db_stats_histogram": [("1", 0.0, 1.0), ("1000", 998.0, 1.0)],
    }
    with engine().session() as session:
        found = session.statistics("dbo.t", "id")
    assert (found.rows, [step.value for step in found.steps], found.leading) == (1000, [1, 1000], {"id"})
    assert type(found.rows) is int
