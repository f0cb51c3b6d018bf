from __future__ import annotations

import json
from typing import Any

import pytest

from include.etl.engines.base import Limits
from include.etl.engines.mssql import MsSqlEngine
from include.etl.engines.mssql_connection import Server, odbc_string, pymssql_arguments, server
from include.etl.errors import ConfigurationError

ENGINE = MsSqlEngine("clinic", Limits(connect_timeout_s=2.5, statement_timeout_s=60), "nightly")
NASTY = "p}w{d;=' \"é"


def made(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any] | None = None, **fields: Any) -> Server:
    """What is understood of an Airflow connection."""
    given = {"conn_type": "mssql", "host": "db", "schema": "clinic", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({**given, **fields, "extra": extra or {}}))
    return server("clinic", ENGINE)


def test_encryption_is_on_and_the_certificate_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert odbc_string(made(monkeypatch, port=1444)) == (
        "Server={db,1444};Database={clinic};UID={reader};PWD={s3cret};Encrypt={yes};ApplicationIntent={ReadOnly}"
    )


def test_only_the_connection_can_trust_any_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("trust_server_certificate", "TrustServerCertificate"):
        for value in (True, "yes", "true"):
            assert "TrustServerCertificate={yes}" in odbc_string(made(monkeypatch, {key: value}))
    assert "Encrypt={no}" in odbc_string(made(monkeypatch, {"encrypt": False}))
    assert "Encrypt={strict}" in odbc_string(made(monkeypatch, {"Encrypt": "strict"}))


def test_no_value_ends_its_braces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = odbc_string(made(monkeypatch, password=NASTY, login="a;Encrypt=no", schema="x}y"))
    parser = pytest.importorskip("mssql_python", reason="mssql-python IS NOT TESTED: not installed").connection
    parsed = parser._ConnectionStringParser(validate_keywords=True)._parse(text)
    assert parsed["pwd"] == NASTY
    assert parsed["uid"] == "a;Encrypt=no"
    assert parsed["database"] == "x}y"
    assert parsed["encrypt"] == "yes"


def test_every_keyword_is_one_that_the_driver_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = pytest.importorskip("mssql_python", reason="mssql-python IS NOT TESTED: not installed").connection
    extra = {
        "hostname_in_certificate": "db.example", "server_certificate": "c.pem", "server_spn": "s",
        "authentication": "ActiveDirectoryMSI", "trusted_connection": "no", "multi_subnet_failover": True,
        "connect_retry_count": 2, "connect_retry_interval": 5, "keep_alive": 30, "keep_alive_interval": 5,
        "ip_address_preference": "IPv4First", "packet_size": 16384, "trust_server_certificate": "no",
        "sqlalchemy_scheme": "mssql+pymssql", "tds_version": "7.4",
    }  # fmt: skip
    parsed = parser._ConnectionStringParser(validate_keywords=True)._parse(odbc_string(made(monkeypatch, extra)))
    assert parsed["packetsize"] == "16384"
    assert parsed["multisubnetfailover"] == "yes"
    assert len(parsed) == 5 + len(extra) - 2 + 1


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"driver": "x"}, "extra 'driver' is not known; allowed: .*Encrypt.*tds_version"),
        ({"conn_properties": "set x on"}, "extra 'conn_properties' is not known"),
        ({"encrypt": "maybe"}, "extra 'encrypt' is 'maybe'; allowed: false"),
        ({"trust_server_certificate": "perhaps"}, "'perhaps'; allowed: false, no, true, yes"),
        ({"application_intent": "write"}, "'write'; allowed: readonly, readwrite"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        made(monkeypatch, extra)


def test_pymssql_is_told_to_encrypt_unless_the_connection_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pymssql_arguments(made(monkeypatch, {"tds_version": "7.4"}), ENGINE) == {
        "server": "db", "port": "1433", "user": "reader", "password": "s3cret", "database": "clinic",
        "encryption": "require", "tds_version": "7.4", "read_only": True, "autocommit": True, "appname": "nightly",
        "login_timeout": 3, "timeout": 60,
    }  # fmt: skip
    assert pymssql_arguments(made(monkeypatch, {"encryption": "off"}), ENGINE)["encryption"] == "request"


def test_the_primary_is_read_where_the_connection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = made(monkeypatch, {"application_intent": "ReadWrite"})
    assert odbc_string(server).endswith(";ApplicationIntent={ReadWrite}")
    assert pymssql_arguments(server, ENGINE)["read_only"] is False


@pytest.mark.parametrize("extra", [{"authentication": "ActiveDirectoryMSI"}, {"encrypt": "strict"}])
def test_what_pymssql_cannot_honour_is_refused(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="needs mssql-python"):
        pymssql_arguments(made(monkeypatch, extra), ENGINE)
