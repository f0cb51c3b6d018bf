"""One `Lab` for each engine and client."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.etl.engines.mssql import MsSqlSession
from tests import servers
from tests.contract.engines.lab import CONN_ID, Lab
from tests.servers import DatabaseServer

SERVERS = [
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mysql-mariadb", marks=pytest.mark.mariadb),
    pytest.param("mysql", marks=pytest.mark.mysql),
    *(["mssql-mssql-python", "mssql-pymssql"] if os.environ.get("TEST_MSSQL_URI") else []),
    *(["oracle"] if os.environ.get("TEST_ORACLE_URI") else []),
]
"""Of SQL Server and Oracle only what is given; `test_given.py` says once what is not."""
FIXTURES = {
    "postgres": "postgres_server",
    "mysql-mariadb": "mariadb_server",
    "mysql": "mysql_server",
    "mssql-mssql-python": "mssql_server",
    "mssql-pymssql": "mssql_server",
    "oracle": "oracle_server",
}


@pytest.fixture(scope="session")
def mssql_server() -> Iterator[DatabaseServer]:
    """The SQL Server database given in the environment."""
    with servers.mssql() as server:
        with contextlib.suppress(Exception):  # a session says itself whether it may; a test of that skips without
            server.execute("alter database current set allow_snapshot_isolation on")
        yield server


@pytest.fixture(scope="session")
def oracle_server() -> Iterator[DatabaseServer]:
    """The Oracle service given in the environment."""
    with servers.oracle() as server:
        yield server


@pytest.fixture(params=["sqlite", *SERVERS])
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    """Every database, with every client that the engine may meet."""
    return _lab(request.param, request, monkeypatch, tmp_path)


@pytest.fixture(params=SERVERS)
def server_lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    """The databases that are servers."""
    return _lab(request.param, request, monkeypatch, tmp_path)


def _lab(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    if kind == "sqlite":
        path = tmp_path / "a clinic 100%.db"
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "sqlite", "host": str(path)}))
        _sqlite(path, "create table empty_table (a int)")
        return Lab(kind, lambda sql: _sqlite(path, sql))
    server: DatabaseServer = request.getfixturevalue(FIXTURES[kind])
    if kind == "mssql-pymssql":
        monkeypatch.setitem(sys.modules, "mssql_python", None)
    elif kind == "mssql-mssql-python" and importlib.util.find_spec("mssql_python") is None:
        pytest.skip("mssql-python IS NOT TESTED: not installed; pymssql is read with instead")
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", server.airflow_connection)
    lab = Lab(kind, server.execute, server)
    if kind == "mssql-mssql-python":
        with lab.engine().session() as session:
            assert isinstance(session, MsSqlSession)
            if session.client != "mssql-python":
                pytest.skip("mssql-python IS NOT TESTED: its driver cannot be loaded; pymssql is read with instead")
    return lab


def _sqlite(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()
