"""Servers that other tests start, beside those that every test of an engine starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import servers
from tests.servers import DatabaseServer


@pytest.mark.mysql
def test_mysql_is_one_of_today(mysql_server: DatabaseServer) -> None:
    ((version,),) = mysql_server.execute("select version()")
    assert int(version.split(".")[0]) >= 9
    assert "MariaDB" not in version


@pytest.mark.postgres
@pytest.mark.parametrize("pool_mode", ["session", "transaction", "statement"])
def test_pgbouncer_lets_every_account_of_its_server_in(postgres_server: DatabaseServer, pool_mode: str) -> None:
    postgres_server.execute("drop role if exists pooled")
    postgres_server.execute("create role pooled login password 'a word'")
    with servers.pgbouncer(postgres_server, pool_mode) as pooler:
        assert pooler.port != postgres_server.port
        assert replace(pooler, user="pooled", password="a word").execute("select current_user") == [("pooled",)]
