"""A session cannot write, ends in time, is seen by the DBA, and says what went wrong without data or credentials."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from include.etl.engines.base import Query
from include.etl.engines.mssql import MsSqlSession
from include.etl.errors import ConfigurationError, TransientError
from tests import servers
from tests.contract.engines.lab import CONN_ID, LABEL, Lab, everything

RUNNING = "sys.dm_exec_requests cross apply sys.dm_exec_sql_text(sql_handle)"
VARIABLE = f"AIRFLOW_CONN_{CONN_ID.upper()}"


def test_the_database_itself_refuses_to_be_written(lab: Lab) -> None:
    lab.execute("drop table if exists safe")
    lab.execute("create table safe (a int)")
    if lab.database == "mssql":
        lab.execute("drop table if exists other")
    # Oracle runs DDL in a transaction of its own; there the account's privileges are what stands in its way.
    ddl = () if lab.kind == "oracle" else ("drop table safe", "create table other (a int)")
    for sql in ("insert into safe values (1)", *ddl):
        with lab.engine().session() as session:
            cursor = session.connection.cursor()  # type: ignore[attr-defined]
            if lab.database == "mssql":  # it has no read-only transaction: what happens in a session is undone
                cursor.execute(sql)
            else:
                with pytest.raises(Exception, match=r"(?i)read.?only"):
                    cursor.execute(sql)
            cursor.close()
    assert list(lab.execute("select count(*) from safe")) == [(0,)]


def test_a_login_that_may_only_read_is_refused_by_sql_server_itself(
    server_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server_lab.database != "mssql":
        return
    name, password = f"contract_{secrets.token_hex(4)}", f"Aa1-{secrets.token_hex(16)}"
    server_lab.execute("drop table if exists safe")
    server_lab.execute("create table safe (a int)")
    assert server_lab.server is not None
    try:
        for sql in (
            f"create login {name} with password = '{password}'",
            f"create user {name} for login {name}",
            f"alter role db_datareader add member {name}",
        ):
            server_lab.asks(sql, "A LOGIN THAT MAY ONLY READ")
        monkeypatch.setenv(VARIABLE, replace(server_lab.server, user=name, password=password).airflow_connection)
        assert server_lab.read("select a from safe").num_rows == 0
        with server_lab.engine().session() as session:
            assert isinstance(session, MsSqlSession)
            with pytest.raises(ConfigurationError, match=r"(?i)permission (was )?denied"):
                session._run("insert into safe values (1)")
    finally:
        server_lab.execute(f"if user_id('{name}') is not null drop user {name}")
        server_lab.execute(f"if suser_id('{name}') is not null drop login {name}")


def test_a_query_that_writes_is_refused(server_lab: Lab) -> None:
    server_lab.execute("drop table if exists safe")
    server_lab.execute("create table safe (a int)")
    with pytest.raises(ConfigurationError):
        server_lab.read("insert into safe values (1)")
    with pytest.raises(ConfigurationError):
        server_lab.read("select 1 as a; drop table safe")
    assert list(server_lab.execute("select count(*) from safe")) == [(0,)]


def test_the_statement_timeout_fires(lab: Lab) -> None:
    slow = f"select count(*) as n from {lab.series(2000000)}, {lab.series(2000000, 'z')}"
    started = time.monotonic()
    with (
        lab.engine(statement_timeout_s=1.0).session() as session,
        pytest.raises(ConfigurationError, match=r"extract\.statement_timeout = 1 s"),
    ):
        list(session.stream(Query(slow)).batches)
    assert 0.9 < time.monotonic() - started < 4


def test_a_session_sees_one_state(lab: Lab) -> None:
    lab.execute("drop table if exists moving")
    lab.execute("create table moving (a int)")
    if lab.kind == "sqlite":
        lab.execute("pragma journal_mode = wal")
    lab.execute("insert into moving values (1)")
    with lab.engine().session() as session:
        assert session.consistency in ("session", "query", "none")
        if session.consistency != "session":
            pytest.skip("this database does not allow SNAPSHOT isolation")
        count = Query("select a from moving")
        assert sum(batch.num_rows for batch in session.stream(count).batches) == 1
        lab.execute("insert into moving values (2)")
        assert sum(batch.num_rows for batch in session.stream(count).batches) == 1
        with pytest.raises(ConfigurationError):
            session.stream(Query("select a from no_such_table"))
        assert sum(batch.num_rows for batch in session.stream(count).batches) == 1
    assert lab.read("select a from moving").num_rows == 2


def test_the_dba_sees_who_reads(server_lab: Lab) -> None:
    if server_lab.database == "mssql":
        server_lab.asks(f"select count(*) from {RUNNING}", "WHO READS")
    with server_lab.engine().session() as session:
        batches = session.stream(Query(f"select i from {server_lab.endless}")).batches
        next(batches)
        if server_lab.kind == "postgres":
            seen = server_lab.execute("select query from pg_stat_activity where application_name = %s", [LABEL])
        elif server_lab.kind == "mssql-pymssql":
            seen = server_lab.execute("select 1 from sys.dm_exec_sessions where program_name = %s", (LABEL,))
        elif server_lab.database == "mssql":
            seen = server_lab.execute(f"select 1 from {RUNNING} where text like %s", (f"/* {LABEL} */%",))
        elif server_lab.kind == "oracle":
            seen = server_lab.execute("select 1 from v$session where module = :1", [LABEL])
        else:
            like = f"/* {LABEL} */%"
            seen = server_lab.execute("select info from information_schema.processlist where info like %s", [like])
        assert len(seen) == 1
        if server_lab.database == "mysql":
            attributes = "select 1 from performance_schema.session_connect_attrs where attr_value = %s"
            assert server_lab.execute(attributes, [LABEL])


def test_a_missing_table_is_named(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match=r"(?i)no_such_table") as raised:
        lab.read("select * from no_such_table")
    assert f"{LABEL}: connection '{CONN_ID}'" in str(raised.value)


@pytest.mark.parametrize("sql", ["select a from", "select no_such_column", "select 'a", "not sql"])
def test_wrong_sql_is_a_configuration_error(lab: Lab, sql: str) -> None:
    with pytest.raises(ConfigurationError):
        lab.read(sql)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"password": "wr0ng-s3cret"}, ConfigurationError),
        ({"schema": "no_such_database"}, ConfigurationError),
        ({"host": "no-such-host.invalid"}, ConfigurationError),
        ({"port": None}, TransientError),
    ],
    ids=["password", "database", "host", "refused"],
)
def test_a_session_that_cannot_be_opened(
    server_lab: Lab, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], kind: type[Exception]
) -> None:
    assert server_lab.server is not None
    with socket.socket() as closed:  # bound and not listening: connections to it are refused
        closed.bind(("127.0.0.1", 0))
        changes = {name: value or closed.getsockname()[1] for name, value in changes.items()}
        connection = {**json.loads(server_lab.server.airflow_connection), **changes}
        if server_lab.kind == "oracle" and "schema" in changes:
            kind = TransientError  # a service that is not there yet looks the same
        monkeypatch.setenv(VARIABLE, json.dumps(connection))
        with pytest.raises(kind, match="cannot connect") as raised, server_lab.engine().session():
            pass
    assert connection["password"] not in everything(raised.value)


def test_a_connection_as_uri(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_lab.server is not None
    monkeypatch.setenv(VARIABLE, server_lab.server.airflow_uri)
    assert server_lab.read("select 1 as a").num_rows == 1


def test_sqlite_without_its_file_or_with_a_locked_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if lab.kind != "sqlite":
        return
    (path,) = [row[2] for row in lab.execute("pragma database_list")]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(TransientError, match="locked"), lab.engine(connect_timeout_s=0.1).session() as session:
            session.stream(Query("select * from empty_table"))
    monkeypatch.setenv(VARIABLE, '{"conn_type": "sqlite", "host": "no/such/file.db"}')
    with pytest.raises(ConfigurationError, match="unable to open"):
        lab.read("select 1 as a")


@pytest.mark.parametrize(
    ("start", "fixture"),
    [
        pytest.param(servers.postgres, "postgres_server", marks=pytest.mark.postgres),
        pytest.param(servers.mariadb, "mariadb_server", marks=pytest.mark.mariadb),
    ],
)
def test_a_server_that_dies_in_mid_stream(
    start: Callable[[], object], fixture: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.getfixturevalue(fixture).process is None:
        pytest.skip("the database was given from outside and is not ours to kill")
    with start() as server:  # type: ignore[attr-defined]
        monkeypatch.setenv(VARIABLE, server.airflow_connection)
        lab = Lab(server.conn_type, server.execute, server)
        with lab.engine().session() as session:
            batches = session.stream(Query(f"select i from {lab.endless}")).batches
            next(batches)
            server.kill()
            with pytest.raises(TransientError):
                list(batches)


def test_a_session_that_the_dba_ends(server_lab: Lab) -> None:
    with server_lab.engine().session() as session:
        if server_lab.database == "mssql":
            cursor = session.connection.cursor()  # type: ignore[attr-defined]
            cursor.execute("select @@spid")
            ((spid,),) = cursor.fetchall()
            cursor.close()
        batches = session.stream(Query(f"select i from {server_lab.endless}")).batches
        next(batches)
        if server_lab.kind == "postgres":
            sql = f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{LABEL}'"
        elif server_lab.database == "mssql":
            sql = f"kill {spid}"
        elif server_lab.kind == "oracle":
            ((number,),) = server_lab.execute(
                "select sid || ',' || serial# from v$session where module = :1 and status <> 'KILLED'", [LABEL]
            )
            sql = f"alter system kill session '{number}' immediate"
        else:
            sql = f"kill {session.connection.thread_id()}"  # type: ignore[attr-defined]
        server_lab.asks(sql, "A SESSION THAT THE DBA ENDS")
        with pytest.raises(TransientError):
            list(batches)


def test_a_plain_connection_is_refused_where_tls_is_required(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of servers that were given, MySQL's and SQL Server's speak TLS unless the client is told not to."""
    assert server_lab.server is not None
    off = {"mssql": {"encrypt": "no"}, "mysql": {"ssl_mode": "DISABLED"}}.get(server_lab.database, {})
    monkeypatch.setenv(VARIABLE, json.dumps({**json.loads(server_lab.server.airflow_connection), "extra": off}))
    with pytest.raises(ConfigurationError, match=r"SSL|not encrypted"), server_lab.engine(require_tls=True).session():
        pytest.fail("a session over a plain connection")


def test_mysql_has_no_parameters_of_its_own(lab: Lab) -> None:
    if lab.database == "mysql":  # queries are prepared, where a ? stands for a value
        assert lab.read("select '?' as x")["x"].to_pylist() == ["?"]
        with pytest.raises(ConfigurationError, match="outside of quotes"):
            lab.read("select ? as x")
