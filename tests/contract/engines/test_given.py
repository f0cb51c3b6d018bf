"""The databases that no test can start: said once when they are not given, instead of in every test of the suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from include.etl.engines import engine_class
from tests import servers
from tests.contract.engines.lab import CONN_ID


@pytest.mark.parametrize(("name", "given"), [("SQL Server", servers.mssql), ("Oracle", servers.oracle)])
def test_the_database_is_given_and_can_be_read(
    name: str, given: Callable[[], AbstractContextManager[servers.DatabaseServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        with given() as server:
            monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", server.airflow_connection)
            conn_type = json.loads(server.airflow_connection)["conn_type"]
            with engine_class(conn_type, CONN_ID)(CONN_ID).session():
                pass
    except servers.ServerMissing as missing:
        pytest.skip(f"{name} IS NOT TESTED against a server: {missing}")
