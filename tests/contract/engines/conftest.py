"""One `Lab` for each engine and client."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.engines.lab import CONN_ID, Lab
from tests.servers import DatabaseServer

SERVERS = [
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mysql-pymysql", marks=pytest.mark.mariadb),
    pytest.param("mysql-mysqlclient", marks=pytest.mark.mariadb),
]


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
    if kind == "mysql-pymysql":
        monkeypatch.setitem(sys.modules, "MySQLdb", None)
    elif kind == "mysql-mysqlclient" and importlib.util.find_spec("MySQLdb") is None:
        pytest.skip("mysqlclient IS NOT TESTED: optional, and not installed; PyMySQL is read with instead")
    server: DatabaseServer = request.getfixturevalue("postgres_server" if kind == "postgres" else "mariadb_server")
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", server.airflow_connection)
    return Lab(kind, server.execute, server)


def _sqlite(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()
