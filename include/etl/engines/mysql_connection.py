"""Connections of PyMySQL, which hand over what the server sent as bytes: a driver's own conversions are not exact."""

from __future__ import annotations

from typing import Any

import pymysql

from include.etl.engines.mysql_sql import literal
from include.etl.errors import ConfigurationError


def connect(arguments: dict[str, Any]) -> Any:
    """Connect with the C client's `ssl_mode`; the password goes as UTF-8, greetings come within connect_timeout."""
    given = {key: value for key, value in arguments.items() if key not in ("ssl", "ssl_mode", "password")}
    tls = tls_options(arguments.get("ssl_mode", ""), arguments.get("ssl", {}))
    password = arguments["password"].encode()
    # A host may accept the line and never say a word; the TLS handshake has the timeout of writing.
    given["read_timeout"] = given["write_timeout"] = arguments["connect_timeout"]
    connection: Any = pymysql.connect(**given, conv={}, use_unicode=False, ssl=tls, password=password)
    connection._read_timeout = connection._write_timeout = arguments["read_timeout"]
    return connection


def kill_query(connection: Any, number: int, comment: str) -> bool:
    """Stop the query of a session, if this server has it: its query begins with the comment, or has just ended.

    Behind a load balancer or a proxy, a session of that number can be anybody's.
    """
    mine = literal(comment + "%")
    with connection.cursor() as cursor:
        found = (
            f"select 1 from information_schema.processlist where id = {number} and coalesce(info, {mine}) like {mine}"
        )
        return bool(cursor.execute(found)) and cursor.execute(f"kill query {number}") is not None


def tls_options(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the C client means by `ssl_mode`, in PyMySQL's terms; it has no TLS where this is empty."""
    match mode.strip().upper():
        case "":
            return given
        case "DISABLED":
            return {}
        case "REQUIRED":
            return {"check_hostname": False, "verify_mode": "none", **given}
        case "VERIFY_CA" | "VERIFY_IDENTITY" as strict:
            return {**given, "verify_mode": "required", "check_hostname": strict == "VERIFY_IDENTITY"}
        case _:
            allowed = "DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"
            raise ConfigurationError(f"the connection's extra ssl_mode is {mode!r}; allowed: {allowed}")
