"""Who may still write, where no server can be had: the SQL that is sent, and what is made of each answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymssql
import pytest
import sqlglot

from include.etl import cursor
from include.etl.engines import mssql_writers, mysql_writers, oracle_writers
from include.etl.engines.base import Query, RowVersions
from include.etl.engines.mssql import MsSqlEngine
from include.etl.engines.oracle import OracleEngine
from include.etl.errors import ConfigurationError
from tests.unit.engines.mssql_doubles import FakeServer
from tests.unit.engines.test_oracle import opened, oracle_error
from tests.unit.etl.test_plan import source

NOW = datetime(2024, 3, 10, 4, 30)
UTC_NOW = NOW.replace(tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("tsql", mssql_writers.NOW),
        ("tsql", mssql_writers.TRANSACTIONS),
        ("tsql", mssql_writers.ROW_VERSIONS),
        ("oracle", oracle_writers.NOW),
        ("oracle", oracle_writers.STATEMENTS),
        ("oracle", oracle_writers.TRANSACTIONS),
        ("mysql", mysql_writers.TRANSACTIONS),
        ("mysql", mysql_writers.THREADS),
    ],
)
def test_the_sql_is_one_select_of_its_dialect(dialect: str, sql: str) -> None:
    (statement,) = sqlglot.parse(sql, dialect=dialect)
    assert isinstance(statement, sqlglot.exp.Select)


def test_sql_server_says_how_far_row_versions_are_decided(sql_server: FakeServer) -> None:
    sql_server.described = [("id", "int", 4, 10, 0), ("v", "timestamp", 8, 0, 0)]
    sql_server.answers["min_active_rowversion"] = [(2010, 2003, 0)]
    with MsSqlEngine("clinic").session() as session:
        assert session.row_versions(Query("select id, v from t"), "v") == RowVersions(2010, 2003)
        with pytest.raises(ConfigurationError, match=r"cursor.column: 'id' is int; allowed .* rowversion: v$"):
            session.row_versions(Query("select id, v from t"), "id")
        sql_server.answers["min_active_rowversion"] = [(2010, 2010, 1)]
        with pytest.raises(ConfigurationError, match="writers are on the primary"):
            session.row_versions(Query("select id, v from t"), "v")


def test_sql_server_compares_row_versions_as_bytes_and_reads_them_as_numbers(sql_server: FakeServer) -> None:
    """A number in the comparison would keep SQL Server from using the column's index."""
    sql_server.described = [("v", "timestamp", 8, 0, 0)]
    one = source(cursor={"column": "v", "type": "rowversion"})
    with MsSqlEngine("clinic").session() as session:
        version = cursor.bound(2003, session.schema(Query("select v from t")).field("v").type, one)
        list(session.stream(Query("select v from t where v >= :start", {"start": version})).batches)
    (sent,) = [sql for sql in sql_server.sent if sql.startswith("/*")]
    assert "convert(bigint, _q.[v]) as [v]" in sent
    assert "where v >= 0x00000000000007d3" in sent


@pytest.fixture
def sql_server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """SQL Server, read with pymssql, whose login may see everything."""
    given = {"conn_type": "mssql", "host": "127.0.0.1", "schema": "c", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    server = FakeServer([], [])
    monkeypatch.setattr("pymssql.connect", server.connect)
    server.answers = {"has_perms_by_name": [(NOW, 1, 0, 480)], "dm_tran_active_transactions": []}
    return server


def test_sql_server_names_the_session_and_takes_its_age(sql_server: FakeServer) -> None:
    sql_server.answers["dm_tran_active_transactions"] = [
        (61, "his\nuser", "ward-7", "HIS", 3600),
        (None, None, None, None, 60),
    ]
    with MsSqlEngine("clinic").session() as session:
        found = session.writers()
    session_61, orphan = found.in_flight
    assert (found.now, found.unseen) == (UTC_NOW, "")
    assert session_61.session == r"session_id=61 login='his\nuser' host='ward-7' program='HIS'"
    assert (session_61.since, session_61.begun_earlier) == (UTC_NOW - HOUR, False)
    assert ("distributed" in orphan.session, orphan.begun_earlier) == (True, True)
    marked = f"set context_info {mssql_writers.MARK}"
    assert marked in "; ".join(sql_server.sent), "by which other sessions of this system know this one"
    assert mssql_writers.MARK in mssql_writers.TRANSACTIONS


@pytest.mark.parametrize(
    ("answer", "why"), [((NOW, 0, 0, 480), "VIEW SERVER STATE"), ((NOW, 1, 1, 480), "writers are on the primary")]
)
def test_sql_server_says_why_it_cannot_tell(sql_server: FakeServer, answer: tuple[Any, ...], why: str) -> None:
    sql_server.answers["has_perms_by_name"] = [answer]
    with MsSqlEngine("clinic").session() as session:
        found = session.writers()
    assert (found.now, list(found.in_flight)) == (UTC_NOW, [])
    assert why in found.unseen


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("dm_tran_active_transactions", "does not list its transactions"),
        ("has_perms_by_name", "this engine cannot see them"),
    ],
)
def test_a_server_without_the_views_or_functions_says_so(sql_server: FakeServer, missing: str, why: str) -> None:
    def fail() -> None:
        raise pymssql.ProgrammingError(208, b"Invalid object name.")

    sql_server.fail[missing] = fail
    with MsSqlEngine("clinic").session() as session:
        found = session.writers()
    assert why in found.unseen
    assert found.now == UTC_NOW or abs(datetime.now(UTC) - found.now) < timedelta(minutes=1)
    assert found.usual_lag == timedelta(minutes=10)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An Oracle whose account may see everything."""
    given = {"conn_type": "oracle", "host": "h", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({**given, "extra": {"service_name": "clinic"}}))
    fake = opened(monkeypatch)
    fake.answers = {"systimestamp": [(NOW, "PRIMARY", 480)], "sql_exec_start": [], "gv$transaction": []}
    return fake


def test_oracle_names_the_session_and_takes_its_age(oracle: Any) -> None:
    oracle.answers["gv$transaction"] = [
        (2, 88, 4021, "HIS", "ward-7", "his.exe", 3600),
        (None, None, None, None, None, None, 60),
    ]
    with OracleEngine("clinic").session() as session:
        found = session.writers()
    session_88, orphan = found.in_flight
    assert session_88.session == "session='88,4021,@2' user='HIS' machine='ward-7' program='his.exe'"
    assert (session_88.since, session_88.begun_earlier) == (UTC_NOW - HOUR, False)
    assert (found.now, found.unseen) == (UTC_NOW, "")
    assert ("DBA_2PC_PENDING" in orphan.session, orphan.begun_earlier) == (True, True)


def test_oracle_statement_that_has_not_written_yet_is_seen_from_its_start(oracle: Any) -> None:
    oracle.answers["sql_exec_start"] = [(1, 90, 17, "HIS", "ward-7", "his.exe", 600)]
    with OracleEngine("clinic").session() as session:
        (writer,) = session.writers().in_flight
    assert (writer.since, writer.session[:20]) == (UTC_NOW - HOUR / 6, "session='90,17,@1' u")
    command = oracle_writers.STATEMENTS.split("command in ")[1]
    assert command == "(2, 6, 7, 189)", "INSERT, UPDATE, DELETE, MERGE: what only reads does not hold a window back"


def test_oracle_says_why_it_cannot_tell(oracle: Any) -> None:
    oracle.answers["gv$transaction"] = oracle_error("ORA-00942: table or view does not exist", 942)
    with OracleEngine("clinic").session() as session:
        found = session.writers()
    assert "gv_$transaction" in found.unseen
    assert found.now == UTC_NOW, "the end of a window, also where nobody can be seen"
    oracle.answers["systimestamp"] = [(NOW, "PHYSICAL STANDBY", 480)]
    with OracleEngine("clinic").session() as session:
        found = session.writers()
    assert "standby" in found.unseen
    assert found.now == UTC_NOW


Rows = list[tuple[Any, ...]]


def mysql(*transactions: Rows, threads: Rows | None = None, read_only: bytes = b"OFF") -> Callable[[str], Any]:
    """A MySQL server in Singapore, whose own clock says 12:30; it renews its list with each answer."""
    lists = list(transactions)

    def ask(sql: str) -> Rows:
        if "utc_timestamp" in sql:
            return [(b"2024-03-10 04:30:00.750000", b"5")]
        if "read_only" in sql and "innodb_trx" not in sql:
            return [(b"read_only", read_only), (b"innodb_read_only", b"OFF")]
        return (lists.pop(0) if len(lists) > 1 else lists[0]) if "innodb_trx" in sql else threads or []

    return ask


OWN = (b"5", b"2024-03-10 12:30:00")


def test_mysql_lists_times_of_its_own_zone() -> None:
    found = mysql_writers.writers(mysql([OWN, (b"9", b"2024-03-10 11:30:00"), (b"0", b"2024-03-10 12:00:00")]))
    assert [(writer.since, writer.begun_earlier) for writer in found.in_flight] == [
        (UTC_NOW - HOUR, False),
        (UTC_NOW - HOUR / 2, True),
    ]
    thread, prepared = (writer.session for writer in found.in_flight)
    assert (thread, "XA" in prepared) == ("thread=9", True), "the first has come after the threads were listed"
    assert found.now == UTC_NOW, "the list may be as old as this session, and no older"


def test_mysql_transaction_from_before_clocks_were_set_back_is_not_taken_for_younger() -> None:
    """In Berlin it is a quarter past two for the second time; half past one was an hour and three quarters ago."""

    def ask(sql: str) -> Rows:
        if "utc_timestamp" in sql:
            return [(b"2024-10-27 01:15:00", b"5")]
        return [(b"5", b"2024-10-27 02:15:00"), (b"9", b"2024-10-27 01:30:00")] if "innodb_trx" in sql else []

    (writer,) = mysql_writers.writers(ask).in_flight
    assert writer.since == datetime(2024, 10, 26, 23, 30, tzinfo=UTC)


def test_sql_server_transaction_from_before_clocks_were_set_back(sql_server: FakeServer) -> None:
    sql_server.answers["has_perms_by_name"] = [(datetime(2024, 10, 27, 1, 15), 1, 0, 60)]
    sql_server.answers["dm_tran_active_transactions"] = [(61, "u", "h", "p", 45 * 60)]
    with MsSqlEngine("clinic").session() as session:
        (writer,) = session.writers().in_flight
    assert writer.since == datetime(2024, 10, 26, 23, 30, tzinfo=UTC)


def test_oracle_transaction_from_before_clocks_were_set_back(oracle: Any) -> None:
    oracle.answers["systimestamp"] = [(datetime(2024, 10, 27, 1, 15), "PRIMARY", 60)]
    oracle.answers["gv$transaction"] = [(1, 88, 4021, "u", "m", "p", 45 * 60)]
    with OracleEngine("clinic").session() as session:
        (writer,) = session.writers().in_flight
    assert writer.since == datetime(2024, 10, 26, 23, 30, tzinfo=UTC)


def test_mysql_lists_statements_first_since_one_whose_wait_ends_becomes_a_transaction() -> None:
    ended = False

    def ask(sql: str) -> Rows:
        nonlocal ended
        if "utc_timestamp" in sql:
            return [(b"2024-03-10 04:30:00", b"5")]
        if sql == mysql_writers.READ_ONLY:
            return []
        waiting, ended = not ended, True
        if "innodb_trx" in sql:
            return [OWN] if waiting else [OWN, (b"7", b"2024-03-10 12:30:00")]
        return [(b"7", b"app", b"ward:1", b"Query" if waiting else b"Sleep", b"90", b"0")]

    sessions = {writer.session for writer in mysql_writers.writers(ask).in_flight}
    assert sessions == {"thread=7 user='app' host='ward:1'"}


def test_mysql_is_asked_again_while_its_list_is_older_than_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    found = mysql_writers.writers(mysql([], [], [OWN, (b"9", b"2024-03-10 11:30:00")]))
    assert len(found.in_flight) == 1
    assert slept == [0, mysql_writers.REFRESHED_S, mysql_writers.REFRESHED_S]
    stale = mysql_writers.writers(mysql([]))
    assert (stale.unseen, stale.in_flight) == (mysql_writers.STALE, ())
    assert stale.now == UTC_NOW + timedelta(seconds=0.75)


def test_mysql_counts_running_statements_and_knows_a_replica() -> None:
    threads = [
        (b"7", b"app", b"ward:1", b"Query", b"90", b"0"),
        (b"8", b"bi", b"ward:2", b"Query", b"9000", b"1"),
        (b"9", b"app", b"ward:3", b"Sleep", b"9000", b"0"),
        (b"2", b"system user", None, b"Daemon", None, b"0"),
    ]
    found = mysql_writers.writers(mysql([OWN], threads=threads))
    (waiting,) = found.in_flight
    assert (waiting.session, found.unseen) == ("thread=7 user='app' host='ward:1'", "")
    assert waiting.since == UTC_NOW + timedelta(seconds=0.75) - timedelta(seconds=90)
    threads.append((b"3", b"system user", b"", b"Slave_SQL", b"70000", b"0"))
    assert mysql_writers.writers(mysql([OWN], threads=threads)).unseen == mysql_writers.REPLICA


@pytest.mark.parametrize("read_only", [b"ON", b"1", b"NO_LOCK_NO_ADMIN"])
def test_mysql_knows_a_replica_that_stands_still(read_only: bytes) -> None:
    """MariaDB 12 has words for how much is forbidden."""
    assert mysql_writers.writers(mysql([OWN], read_only=read_only)).unseen == mysql_writers.REPLICA


def test_mysql_without_the_grant_says_so() -> None:
    def ask(sql: str) -> Rows:
        if "innodb_trx" in sql:
            raise ConfigurationError("denied")
        return [(b"2024-03-10 04:30:00", b"5")] if "utc_timestamp" in sql else []

    assert "PROCESS" in mysql_writers.writers(ask).unseen
