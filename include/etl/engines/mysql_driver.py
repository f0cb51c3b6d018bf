"""The two clients for MySQL behind one face: mysqlclient where it is installed, else PyMySQL, which needs no compiler.

Both hand over what the server sent, as bytes, row by row; a client's own conversions are not exact.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol


class Driver(Protocol):
    """What the engine needs of a client."""

    Error: type[Exception]

    def connect(self, arguments: dict[str, Any]) -> Any:
        """A connection whose cursors stream; `arguments` are PyMySQL's."""

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""

    def settle(self, cursor: Any) -> None:
        """Close a cursor whose query failed, was killed, or lost its connection."""

    def abandon(self, cursor: Any) -> None:
        """Drop the line to the server with a result still coming."""


class MySqlClient:
    """mysqlclient, the C client; the label reaches the server only as a comment of the query."""

    def __init__(self) -> None:
        import MySQLdb
        from MySQLdb.cursors import SSCursor

        self._client = MySQLdb
        self._cursor = SSCursor
        self.Error: type[Exception] = MySQLdb.Error

    def connect(self, arguments: dict[str, Any]) -> Any:
        """Connect, with several statements in one call refused."""
        arguments = {key: value for key, value in arguments.items() if key != "program_name"}
        raw = {"conv": {}, "use_unicode": False, "cursorclass": self._cursor}
        return self._client.connect(**arguments, **raw, multi_statements=False)

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""
        return list(cursor.description_flags)

    def settle(self, cursor: Any) -> None:
        """Read what is still on its way, up to the server's word that it stopped."""
        with contextlib.suppress(self.Error):
            cursor.close()

    def abandon(self, cursor: Any) -> None:
        """Close the line first: a cursor that is closed first reads its result to the end."""
        cursor.connection.close()
        self.settle(cursor)


class PyMySql:
    """PyMySQL, pure Python; the label is the connection attribute `program_name`."""

    def __init__(self) -> None:
        import pymysql
        from pymysql.cursors import SSCursor

        self._client = pymysql
        self._cursor = SSCursor
        self.Error: type[Exception] = pymysql.Error

    def connect(self, arguments: dict[str, Any]) -> Any:
        """Connect; a password is sent in UTF-8, as the C client does. Greetings are read within connect_timeout."""
        given = {key: value for key, value in arguments.items() if key not in ("ssl", "ssl_mode", "password")}
        raw: dict[str, Any] = {"conv": {}, "use_unicode": False, "cursorclass": self._cursor}
        tls = tls_options(arguments.get("ssl_mode", ""), arguments.get("ssl", {}))
        patience = {"read_timeout": arguments["connect_timeout"]}  # a host may accept the line and never say a word
        password = arguments["password"].encode()
        connection: Any = self._client.connect(**{**given, **patience}, **raw, ssl=tls, password=password)
        connection._read_timeout = arguments["read_timeout"]
        return connection

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""
        return [field.flags for field in cursor._result.fields]

    def settle(self, cursor: Any) -> None:
        """Read what is still on its way; a result without a line would go on reading when it is collected."""
        if not cursor.connection.open and cursor._result is not None:
            cursor._result.unbuffered_active = False
        with contextlib.suppress(self.Error):
            cursor.close()

    def abandon(self, cursor: Any) -> None:
        """Close the line without reading the result to its end."""
        cursor.connection._force_close()
        self.settle(cursor)


def tls_options(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the C client means by `ssl_mode`, in PyMySQL's terms; it has no TLS where this is empty."""
    match mode.upper():
        case "DISABLED":
            return {}
        case "REQUIRED":
            return {"check_hostname": False, "verify_mode": "none", **given}
        case "VERIFY_CA" | "VERIFY_IDENTITY" as strict:
            return {**given, "verify_mode": "required", "check_hostname": strict == "VERIFY_IDENTITY"}
        case _:
            return given


def installed_driver() -> Driver:
    """Mysqlclient where it can be imported, else PyMySQL."""
    try:
        return MySqlClient()
    except ImportError:
        return PyMySql()
