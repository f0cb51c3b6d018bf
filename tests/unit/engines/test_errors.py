"""Errors that a test cannot make a server raise at will."""

from __future__ import annotations

import psycopg2
import pymysql
import pytest

from include.etl.engines import mysql_errors, open_engine, postgres_errors
from include.etl.engines.mysql import MySqlEngine
from include.etl.engines.postgres import PostgresEngine
from include.etl.engines.sqlite import SqliteEngine
from include.etl.errors import ConfigurationError, DataError, TransientError

ENGINE = MySqlEngine("clinic")
AT = 'connection to server at "ssl-invalid.example", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("FATAL:  the database system is starting up", TransientError),
        ("FATAL:  sorry, too many clients already", TransientError),
        ('FATAL:  too many connections for role "reader"', TransientError),
        ("Connection refused\n\tIs the server running?", TransientError),
        ("timeout expired", TransientError),
        ("SSL SYSCALL error: Connection reset by peer", TransientError),
        ('FATAL:  password authentication failed for user "reader"', ConfigurationError),
        ('FATAL:  role "reader" does not exist', ConfigurationError),
        ('FATAL:  no pg_hba.conf entry for host "::1"', ConfigurationError),
        ("server does not support SSL, but SSL was required", ConfigurationError),
        ("SSL error: certificate verify failed", ConfigurationError),
    ],
)
def test_postgres_connections(text: str, kind: type[Exception]) -> None:
    error = postgres_errors.connecting(psycopg2.OperationalError(AT + text), PostgresEngine("clinic"), "s3cret")
    assert type(error) is kind
    assert "\n" not in str(error)


def test_a_password_in_a_drivers_text_is_covered() -> None:
    error = postgres_errors.connecting(psycopg2.OperationalError("bad s3cret"), PostgresEngine("clinic"), "s3cret")
    assert str(error) == "moh-etl: connection 'clinic': cannot connect: bad ***"


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (1040, "Too many connections", TransientError),
        (1053, "Server shutdown in progress", TransientError),
        (1213, "Deadlock found", TransientError),
        (1205, "Lock wait timeout exceeded", TransientError),
        (2013, "Lost connection", TransientError),
        (1142, "SELECT command denied to user 'reader'@'%' for table `visits`", ConfigurationError),
        (1690, "BIGINT value is out of range in '(4711 + 1)'", DataError),
    ],
)
def test_mysql_queries(number: int, text: str, kind: type[Exception]) -> None:
    error = mysql_errors.querying(
        pymysql.OperationalError(number, text), MySqlEngine("clinic"), 1.0, reading_rows=False
    )
    assert type(error) is kind
    assert "4711" not in str(error)


def test_mysql_tls_that_does_not_fit_is_not_tried_again() -> None:
    text = "Can't connect to MySQL server on 'db' ([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed)"
    error = mysql_errors.connecting(pymysql.OperationalError(2003, text), MySqlEngine("clinic"))
    assert type(error) is ConfigurationError


@pytest.mark.parametrize("ssl", ['"{ca"', '{"ca": "no/such/ca.pem"}'])
def test_mysql_with_bad_tls_options(monkeypatch: pytest.MonkeyPatch, ssl: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", f'{{"conn_type": "mysql", "host": "h", "extra": {{"ssl": {ssl}}}}}')
    with pytest.raises(ConfigurationError, match="ssl"), MySqlEngine("clinic").session():
        pass


def test_open_engine_takes_the_connections_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", '{"conn_type": "sqlite", "host": "clinic.db"}')
    assert isinstance(open_engine("clinic"), SqliteEngine)
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", '{"conn_type": "ftp", "host": "h"}')
    with pytest.raises(ConfigurationError, match="'ftp'; allowed: sqlite, postgres, mysql"):
        open_engine("clinic")
    with pytest.raises(ConfigurationError, match="'nobody' is not defined"):
        open_engine("nobody")


@pytest.mark.parametrize("number", [1028, 1047, 1615, 9001])
def test_mysql_errors_that_pass_by_themselves(number: int) -> None:
    assert (
        type(mysql_errors.querying(pymysql.OperationalError(number, "x"), ENGINE, 1.0, reading_rows=False))
        is TransientError
    )


@pytest.mark.parametrize("number", [3616, 3617, 3731, 3732])
def test_mysql_s_messages_about_places_show_none(number: int) -> None:
    text = (
        "Longitude 203.845120 is out of range in function st_geomfromtext. It must be within (-180.000000, 180.000000]."
    )
    error = mysql_errors.querying(
        pymysql.OperationalError(number, text), MySqlEngine("clinic"), 1.0, reading_rows=False
    )
    assert type(error) is DataError
    assert "203" not in str(error)


def test_mysql_sort_that_ran_out_of_time() -> None:
    engine = MySqlEngine("clinic")
    error = mysql_errors.querying(pymysql.OperationalError(1028, "Sort aborted"), engine, 1e9, reading_rows=True)
    assert "statement_timeout" in str(error)
