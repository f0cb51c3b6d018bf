"""Over TLS: the server itself says that a session is encrypted, and certificates are checked where that is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from include.etl.engines.base import Query
from include.etl.errors import ConfigurationError
from tests import certificates, servers
from tests.conftest import started
from tests.contract.engines.lab import CONN_ID, Lab
from tests.servers import DatabaseServer

ENCRYPTED = {
    "postgres": "select version as how from pg_stat_ssl where ssl and pid = pg_backend_pid()",
    "mysql": "select variable_value as how from information_schema.session_status where variable_name = 'Ssl_version'",
}
SECURE = (["TLSv1.3"], ["TLSv1.2"])
STRICT = {
    "postgres": lambda authority: {"sslmode": "verify-full", "sslrootcert": str(authority)},
    "mysql": lambda authority: {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": str(authority)}},
}
ANY_NAME = {
    "postgres": lambda authority: {"sslmode": "verify-ca", "sslrootcert": str(authority)},
    "mysql": lambda authority: {"ssl_mode": "VERIFY_CA", "ssl": {"ca": str(authority)}},
}
OFF = {"postgres": {"sslmode": "disable"}, "mysql": {"ssl_mode": "DISABLED"}}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(servers.postgres, id="postgres", marks=pytest.mark.postgres),
        pytest.param(servers.mariadb, id="mariadb", marks=pytest.mark.mariadb),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A throwaway server with a certificate of its own."""
    start: Callable[..., AbstractContextManager[DatabaseServer]] = request.param
    with ExitStack() as stack:
        yield started(stack, lambda: start(tls=True), start.__name__)


@pytest.fixture
def lab(server: DatabaseServer) -> Lab:
    return Lab(server.conn_type, server.execute, server)


def connected(monkeypatch: pytest.MonkeyPatch, lab: Lab, extra: dict[str, Any], **changes: str) -> None:
    assert lab.server is not None
    connection = {**json.loads(lab.server.airflow_connection), **changes, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))


def how(lab: Lab, require_tls: bool = True) -> list[str]:
    """What the server says of the session's encryption; nothing where there is none."""
    with lab.engine(require_tls=require_tls).session() as session:
        batches = session.stream(Query(ENCRYPTED[lab.kind])).batches
        return [text for batch in batches for text in batch.column(0).to_pylist() if text]


def test_require_tls_reads_over_tls_without_any_option(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, lab, {})
    assert how(lab) in SECURE


def test_require_tls_refuses_what_the_connection_leaves_plain(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, lab, OFF[lab.kind])
    assert how(lab, require_tls=False) == []
    if lab.kind == "postgres":  # where a mode that may stay plain is raised to one that may not
        assert how(lab) in SECURE
    else:
        with pytest.raises(ConfigurationError, match="not encrypted"):
            how(lab)


def test_the_right_authority_is_accepted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, lab, STRICT[lab.kind](lab.server and lab.server.certificate))
    assert how(lab) in SECURE


@pytest.mark.parametrize("check", [STRICT, ANY_NAME], ids=["full", "authority"])
def test_another_authority_is_refused_for_good(
    lab: Lab, check: dict[str, Callable[[Path], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other, _ = certificates.write(tmp_path, os.geteuid(), os.getegid())
    connected(monkeypatch, lab, check[lab.kind](other))
    with pytest.raises(ConfigurationError, match=r"cannot connect: .*certificate verify failed"):
        lab.read("select 1 as a")


def test_a_certificate_of_another_host_is_refused_where_its_name_is_checked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab.server is not None
    assert lab.server.certificate is not None
    connected(monkeypatch, lab, ANY_NAME[lab.kind](lab.server.certificate), host="localhost")
    assert how(lab, require_tls=False) in SECURE
    connected(monkeypatch, lab, STRICT[lab.kind](lab.server.certificate), host="localhost")
    with pytest.raises(ConfigurationError, match=r"cannot connect: .*(does not match|not valid for).*localhost"):
        lab.read("select 1 as a")


def test_sql_server_says_that_a_session_is_encrypted(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if server_lab.database != "mssql" or server_lab.server is None:
        return
    connection = json.loads(server_lab.server.airflow_connection)
    connected(monkeypatch, server_lab, {**connection.get("extra", {}), "encrypt": "yes"})
    asked = "select encrypt_option as how from sys.dm_exec_connections where session_id = @@spid"
    server_lab.asks(asked, "TLS OF SQL SERVER")
    assert server_lab.read(asked)["how"].to_pylist() == ["TRUE"]


@pytest.mark.parametrize("server_lab", [pytest.param("mysql-mariadb", marks=pytest.mark.mariadb)], indirect=True)
def test_a_server_without_tls_never_gets_the_password(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyMySQL itself goes on in the clear. This password is wrong, which the server would tell if it had got it."""
    if server_lab.server is None or server_lab.server.process is None:
        pytest.skip("NOT TESTED: whether a server that is given has TLS is not known")
    connected(monkeypatch, server_lab, {"ssl_mode": "REQUIRED"}, password="wrong")
    with pytest.raises(ConfigurationError, match="SSL is required but the server does not offer it"):
        server_lab.read("select 1 as a")


def test_a_file_that_is_not_there_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connected(monkeypatch, lab, STRICT[lab.kind](tmp_path / "no-such-file.crt"))
    with pytest.raises(ConfigurationError, match=r"no-such-file|files of the connection's ssl options: No such file"):
        lab.read("select 1 as a")
