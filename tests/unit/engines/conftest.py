"""SQL Server's two clients, for the tests of its session."""

from __future__ import annotations

import json
import sys

import pytest

from tests.unit.engines.mssql_doubles import needs_mssql_python


@pytest.fixture
def clinic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Airflow connection to a SQL Server."""
    given = {"conn_type": "mssql", "host": "127.0.0.1", "schema": "c", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))


@pytest.fixture(params=[pytest.param("mssql-python", marks=needs_mssql_python), "pymssql"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each client; without mssql-python the other one is taken."""
    if request.param == "pymssql":
        monkeypatch.setitem(sys.modules, "mssql_python", None)
    return str(request.param)
