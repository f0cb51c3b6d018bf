"""What the guard lets through is run by the databases themselves, where a call that it should have seen is noticed.

The guard judges by sqlglot's reading of the text. The text here is made to be read differently: quotes, comments and
names of all dialects within each other, and calls of a function that leaves a trace.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl.errors import ConfigurationError
from include.etl.sql_guard import only_select
from tests.servers import DatabaseServer

CANARY = {"postgres": "lo_canary", "mysql": "sys_get", "sqlite": "writefile"}
"""A function of the test's own, by a name that the guard refuses."""
ENDS = {
    "'": "'", '"': '"', "`": "`", "E'": "'", "U&'": "'", "$$": "$$", "-- ": "\n", "--": "\n", "-- x\r": "\n",
    "--\f": "\n", "#": "\n", "/*": "*/", "/*!": "*/", "{#": "#}",
}  # fmt: skip
"""How quotes and comments begin and end, somewhere."""
INSIDE = ["", "x", "it's", "'", '"', "`", "\\", "\\'", "/*", "*/", "--", "-- ", "\n", ", CALL() "]
BETWEEN = [", 1", ", CALL()", ', "CALL"()', ', U&"lo\\005fcanary"()', "; SELECT CALL()", " AS a", "\n"]


def within(start: str) -> st.SearchStrategy[str]:
    """A comment, or a quote as one more value, with something in it that begins or ends another."""
    value = ", " if start[-1] in "'\"`$" else " "
    inside = st.lists(st.sampled_from(INSIDE), min_size=1, max_size=2).map("".join)
    return inside.map(lambda text: value + start + text + ENDS[start])


PIECE = st.one_of(st.sampled_from(sorted(ENDS)).flatmap(within), st.sampled_from(BETWEEN))
TEXT = st.lists(PIECE, min_size=1, max_size=4).map(lambda pieces: "SELECT 1" + "".join(pieces))
fuzzed = settings(max_examples=800, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def postgres(postgres_server: DatabaseServer) -> Iterator[Any]:
    """The canary counts in a sequence, which no error takes back."""
    with contextlib.closing(postgres_server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'; CREATE TEMP TABLE t AS SELECT 1 AS a; CREATE TEMP SEQUENCE trace")
        cursor.execute("CREATE OR REPLACE FUNCTION lo_canary() RETURNS BIGINT LANGUAGE sql RETURN nextval('trace')")
        yield cursor
        cursor.execute("DROP FUNCTION lo_canary()")


@pytest.fixture
def mysql(mariadb_server: DatabaseServer) -> Iterator[Any]:
    """The canary writes into a table without transactions, from which no error takes anything back."""
    with contextlib.closing(mariadb_server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t AS SELECT 1 AS a")
        cursor.execute("CREATE TEMPORARY TABLE trace (a INT) ENGINE=MyISAM")
        cursor.execute("DROP FUNCTION IF EXISTS sys_get")
        cursor.execute("CREATE FUNCTION sys_get() RETURNS INT BEGIN INSERT INTO trace VALUES (1); RETURN 1; END")
        yield cursor
        cursor.execute("DROP FUNCTION sys_get")


def called(cursor: Any, sql: str) -> bool:
    """Whether the text called the canary, be it before it failed."""
    with contextlib.suppress(psycopg2.Error, pymysql.Error, ValueError):  # not every text is SQL to every database
        cursor.execute(sql)
        cursor.fetchall()
    postgres = isinstance(cursor, psycopg2.extensions.cursor)
    cursor.execute("SELECT is_called FROM trace" if postgres else "SELECT count(*) FROM trace")
    (found,) = cursor.fetchone()
    cursor.execute("ALTER SEQUENCE trace RESTART" if postgres else "DELETE FROM trace")
    return bool(found)


def changed(sql: str) -> bool:
    """Whether SQLite did, or would have done, something else than reading its tables and calling functions."""
    done: list[object] = []
    reading = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

    def allowed(action: int, *_: object) -> int:
        done.extend([] if action in reading else [action])
        return sqlite3.SQLITE_OK if action in reading else sqlite3.SQLITE_DENY

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        connection.create_function("writefile", -1, lambda *_: done.append("writefile"))
        connection.set_authorizer(allowed)
        with contextlib.suppress(sqlite3.Error, sqlite3.Warning, ValueError):
            connection.execute(sql).fetchall()
    return bool(done)


def check(dialect: str, sql: str, noticed: Callable[[str], bool]) -> None:
    text = sql.replace("CALL", CANARY[dialect])
    try:
        only_select(text, dialect, "source 'x'")
    except ConfigurationError:
        return
    assert not noticed(text), text


@fuzzed
@given(TEXT)
def test_what_sqlite_runs_only_reads(sql: str) -> None:
    check("sqlite", sql, changed)


@fuzzed
@given(TEXT)
def test_what_postgresql_runs_only_reads(postgres: Any, sql: str) -> None:
    check("postgres", sql, lambda text: called(postgres, text))


@fuzzed
@given(TEXT)
def test_what_mariadb_runs_only_reads(mysql: Any, sql: str) -> None:
    check("mysql", sql, lambda text: called(mysql, text))


def test_a_call_is_noticed(postgres: Any, mysql: Any) -> None:
    """Each of the three would see what the guard had let through."""
    assert called(postgres, "SELECT lo_canary(), 1 / (lo_canary() - lo_canary() + 1)")
    assert called(mysql, "SELECT 1 /*! , sys_get() */")
    assert changed("SELECT writefile()")
    assert changed("ATTACH ':memory:' AS x")
    assert not called(postgres, "SELECT a FROM t")
    assert not called(mysql, "SELECT a FROM t")
    assert not changed("SELECT a FROM t")
