"""Connections of PyMySQL, which hand over what the server sent as bytes: a driver's own conversions are not exact."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR
from pymysql.err import OperationalError

from include.etl.engines.mysql_sql import literal
from include.etl.errors import ConfigurationError


class StrictConnection(Connection):
    """PyMySQL's connection, which goes on in the clear where the server offers no TLS; this one never does."""

    def _request_authentication(self) -> None:
        if self.ssl and not self.server_capabilities & CLIENT.SSL:  # type: ignore[attr-defined]
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "SSL is required but the server does not offer it")
        super()._request_authentication()  # type: ignore[misc]


def connect(arguments: dict[str, Any]) -> Any:
    """Connect with the C client's `ssl_mode`; the password goes as UTF-8, greetings come within connect_timeout."""
    given = {key: value for key, value in arguments.items() if key not in ("ssl", "ssl_mode", "password")}
    tls = tls_options(arguments.get("ssl_mode", ""), arguments.get("ssl", {}))
    password = arguments["password"].encode()
    # A host may accept the line and never say a word; the TLS handshake has the timeout of writing.
    given["read_timeout"] = given["write_timeout"] = arguments["connect_timeout"]
    connection: Any = StrictConnection(**given, conv={}, use_unicode=False, ssl=tls, password=password)
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
        if not cursor.execute(found):
            return False
        cursor.execute(f"kill query {number}")
        return True


def tls_options(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the C client means by `ssl_mode`, in PyMySQL's terms; it has no TLS where this is empty."""
    match mode.strip().upper():
        case "":
            return given
        case "DISABLED":
            return {}
        case "REQUIRED":
            return {"check_hostname": False, "verify_mode": "none", **given}
        case "VERIFY_CA" | "VERIFY_IDENTITY" as strict if not given.keys() & {"ca", "capath"}:
            # PyMySQL would not compare the host's name
            raise ConfigurationError(f"the connection's extra ssl_mode is {strict}, which needs `ca` in the extra ssl")
        case "VERIFY_CA" | "VERIFY_IDENTITY" as strict:
            return {**given, "verify_mode": "required", "check_hostname": strict == "VERIFY_IDENTITY"}
        case _:
            allowed = "DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"
            raise ConfigurationError(f"the connection's extra ssl_mode is {mode!r}; allowed: {allowed}")
