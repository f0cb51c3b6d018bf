"""What an Airflow connection says about a SQL Server, in the terms of both of its clients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError

DEFAULT_PORT = 1433
ENCRYPT, TRUST, ENCRYPTION = "Encrypt", "TrustServerCertificate", "encryption"
ENCRYPT_VALUES = {
    "yes": "yes", "true": "yes", "mandatory": "yes", "require": "yes",
    "no": "no", "false": "no", "optional": "no", "request": "no", "off": "no",
    "strict": "strict",
}  # fmt: skip
INTENT = "ApplicationIntent"
INTENTS = {"readonly": "ReadOnly", "readwrite": "ReadWrite"}
SWITCHES = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
# As connections spell them (capitals and underscores do not count) -> as the ODBC driver does.
KEYWORDS = {
    keyword.lower(): keyword
    for keyword in (
        ENCRYPT, TRUST, INTENT, "HostnameInCertificate", "ServerCertificate", "ServerSPN", "Authentication",
        "Trusted_Connection", "MultiSubnetFailover", "ConnectRetryCount", "ConnectRetryInterval", "KeepAlive",
        "KeepAliveInterval", "IpAddressPreference", "PacketSize",
    )
}  # fmt: skip
KEYWORDS["trustedconnection"] = KEYWORDS.pop("trusted_connection")
PYMSSQL_ONLY = {"tdsversion": "tds_version"}
# What the hook understands and this reader sets itself, or has no use for.
OWN = {
    "sqlalchemyscheme", "appname", "autocommit", "charset", "asdict", "arraysize", "timeout", "logintimeout",
    "readonly", "usedatetime2",
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """Where to connect, as whom, and how; `options` are ODBC keywords, `tds_version` is pymssql's."""

    host: str
    port: int | None
    database: str
    login: str
    password: str
    options: Mapping[str, str]
    tds_version: str | None = None


def server(conn_id: str, engine: Engine) -> Server:
    """The Airflow connection, encrypted unless it says otherwise; an extra that is not known is refused by name."""
    conn = MsSqlHook(mssql_conn_id=conn_id).connection
    options: dict[str, str] = {ENCRYPT: "yes", INTENT: "ReadOnly"}
    tds_version = None
    for key, value in conn.extra_dejson.items():
        name = key.lower().replace("_", "").replace(" ", "")
        if name in PYMSSQL_ONLY:
            tds_version = str(value)
        elif name == ENCRYPTION:
            options[ENCRYPT] = _one_of(ENCRYPT_VALUES, key, value, engine)
        elif name in KEYWORDS:
            options[KEYWORDS[name]] = _option(KEYWORDS[name], key, value, engine)
        elif name not in OWN:
            allowed = ", ".join(sorted([*KEYWORDS.values(), ENCRYPTION, *PYMSSQL_ONLY.values()]))
            raise ConfigurationError(f"{engine}: the connection's extra {key!r} is not known; allowed: {allowed}")
    return Server(
        host=conn.host or "localhost",
        port=int(conn.port) if conn.port else None,
        database=conn.schema or "",
        login=conn.login or "",
        password=conn.password or "",
        options=options,
        tds_version=tds_version,
    )


def odbc_string(server: Server) -> str:
    """The connection string for mssql-python, every value in braces so that none can end it."""
    host = f"{server.host},{server.port}" if server.port else server.host
    named = {"Server": host, "Database": server.database, "UID": server.login, "PWD": server.password}
    pairs = {**named, **server.options}
    return ";".join(f"{key}={_braced(value)}" for key, value in pairs.items() if value)


def pymssql_arguments(server: Server, engine: Engine) -> dict[str, Any]:
    """The arguments for pymssql; an option that it cannot honour is refused by name.

    Its timeouts are whole seconds, and the one for queries is how long it waits for the next answer.
    """
    beyond = sorted(set(server.options) - {ENCRYPT, TRUST, INTENT})
    if server.options[ENCRYPT] == "strict":
        beyond.append(f"{ENCRYPT}=strict")
    if beyond:
        raise ConfigurationError(
            f"{engine}: the connection's {', '.join(beyond)} needs mssql-python, which cannot be loaded here: "
            "install it with the system libraries libltdl7, libkrb5-3 and libgssapi-krb5-2"
        )
    return {
        "server": server.host,
        "port": str(server.port or DEFAULT_PORT),
        "user": server.login or None,
        "password": server.password or None,
        "database": server.database,
        "encryption": "require" if server.options[ENCRYPT] == "yes" else "request",
        "tds_version": server.tds_version,
        "read_only": server.options[INTENT] == "ReadOnly",
        "autocommit": True,
        "appname": engine.label,
        "login_timeout": math.ceil(engine.limits.connect_timeout_s),
        "timeout": math.ceil(engine.limits.statement_timeout_s),
    }


def _braced(value: str) -> str:
    return "{" + value.replace("}", "}}") + "}"


def _option(keyword: str, key: str, value: object, engine: Engine) -> str:
    if keyword == ENCRYPT:
        return _one_of(ENCRYPT_VALUES, key, value, engine)
    if keyword == INTENT:
        return _one_of(INTENTS, key, value, engine)
    if keyword in (TRUST, "Trusted_Connection", "MultiSubnetFailover"):
        return _one_of(SWITCHES, key, value, engine)
    return str(value)


def _one_of(allowed: Mapping[str, str], key: str, value: object, engine: Engine) -> str:
    name = str(value).lower()
    if name not in allowed:
        raise ConfigurationError(
            f"{engine}: the connection's extra {key!r} is {value!r}; allowed: {', '.join(sorted(allowed))}"
        )
    return allowed[name]
