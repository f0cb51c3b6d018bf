"""SQL Server's engine at the boundary of its clients: their own types and errors, a double only for the socket."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pymssql
import pytest
import sqlglot

from include.etl.completeness.checksums import over
from include.etl.engines.base import Query
from include.etl.engines.mssql_settings import PINNING, SETTINGS
from include.etl.errors import ConfigurationError, DataError
from tests.unit.engines.mssql_doubles import (
    BEFORE,
    EMPTY,
    ID,
    MSSQL_PYTHON,
    ONE,
    Described,
    FakeServer,
    engine,
    error,
    fake,
    needs_mssql_python,
    raises,
    rows_of,
)

pytestmark = pytest.mark.usefixtures("clinic")
AT: Described = ("at", "datetime2(7)", 8, 27, 7)
NOTE: Described = ("note", "nvarchar(max)", -1, 0, 0)


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
        "; ".join([*PINNING, "set lock_timeout 30000", "set context_info 0x6D6F682D65746C"]),
        "select snapshot_isolation_state, is_read_committed_snapshot_on from sys.databases where name = db_name()",
        "set transaction isolation level snapshot",
        "dbcc useroptions with no_infomsgs",
        "begin transaction",
        "exec sp_describe_first_result_set @tsql = N'" + query.replace("'", "''") + "'",
        f"/* nightly  run */ {query}",
        "if @@trancount > 0 rollback transaction",
    ]
    assert server.closed == 1
    for sql in (server.sent[2], server.sent[-2]):
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


@pytest.mark.parametrize(
    "refused", ["set lock_timeout", "set context_info", "snapshot_isolation_state", "set language", "deadlock"]
)
def test_what_another_maker_s_server_refuses_is_told_and_ends_no_session(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    server.fail[refused] = raises(error(kind, 33557097, "42000", "this is not supported"))
    with engine().session() as session:
        assert session.consistency == ("none" if "isolation" in refused else "session")
        assert session.schema(Query("select id from t")).names == ["id"]
    assert "this is not supported" in caplog.text
    assert not refused.startswith("set ") or set(PINNING) <= set(server.sent), "the others are set one by one"


OTHER = {"rowcount": "100", "textsize": "4096", "language": "deutsch", "dateformat": "dmy", "datefirst": "1"}


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_a_session_that_is_set_otherwise_is_refused_by_the_setting(
    kind: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """ROWCOUNT and TEXTSIZE cut in silence: rows, counts, the list of open transactions."""
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    assert any(statement.startswith(f"set {name}") for statement in PINNING)
    if name in server.options and name not in OTHER:
        del server.options[name]
    else:
        server.options[name] = OTHER.get(name, "SET")
    with pytest.raises(ConfigurationError, match=f"cannot be set as reading needs it: {name} is"), engine().session():
        pass
    assert server.closed == 1


def test_an_isolation_level_that_was_not_taken_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    server.options["isolation level"] = "read committed"
    with pytest.raises(ConfigurationError, match="isolation level is 'read committed'"), engine().session():
        pass


@pytest.mark.parametrize("refuses", [True, False])
def test_settings_that_cannot_be_read_back_are_told(kind: str, monkeypatch: pytest.MonkeyPatch, refuses: bool) -> None:
    server = fake(kind, monkeypatch, [ID], [])
    server.options = {}
    if refuses:
        server.fail["dbcc"] = raises(error(kind, 33557097, "42000", "'DBCC' is not supported"))
    with engine().session() as session:
        assert [one for one in session.unpinned if "ROWCOUNT, TEXTSIZE" in one]


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


@needs_mssql_python
def test_digits_that_the_server_does_not_tell_are_the_client_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """`qty * price`, described as a decimal without digits, was published as 0.694 for 7.50."""
    product = pa.RecordBatch.from_pydict({"id": [1], "total": pa.array([Decimal("7.50")], pa.decimal128(21, 2))})
    server = fake("mssql-python", monkeypatch, [ID, ("total", "numeric", 17, 38, 38)], [product, product.slice(1)])
    server.told = [("id", 4, 10, 0), ("total", 2, 21, 2)]
    with engine().session() as session:
        schema, batches = session.stream(Query("select id, qty * price as total from t"))
        assert schema == pa.schema([("id", pa.int32()), ("total", pa.decimal128(21, 2))])
        batch = next(batches)
    assert batch["total"].to_pylist() == [Decimal("7.50")]


def test_digits_that_nobody_tells_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    server = fake("pymssql", monkeypatch, [ID, ("total", "decimal", 17, 38, 38)], [(1, Decimal("7.50"))])
    server.told = [("id", pymssql.NUMBER.value, 0, 0), ("total", pymssql.DECIMAL.value, 0, 0)]
    wanted = "'total' is a decimal of unknown digits as server and client describe it.*cast it in the query"
    with engine().session() as session, pytest.raises(ConfigurationError, match=wanted):
        session.schema(Query("select id, qty * price as total from t"))


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
    assert server.sent[BEFORE + 1].endswith(
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
    assert len(server.sent) == BEFORE + 2, "the query is described and not run"
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
    assert len(server.sent) == BEFORE + 1


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


def test_require_tls_refuses_a_plain_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", '{"conn_type": "mssql", "host": "h", "extra": {"encrypt": "no"}}')
    with pytest.raises(ConfigurationError, match="not encrypted"), engine(require_tls=True).session():
        pass


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
