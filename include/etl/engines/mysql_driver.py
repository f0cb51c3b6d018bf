"""The two clients for MySQL behind one face: mysqlclient where it is installed, else PyMySQL, which needs no compiler.

Both hand over what the server sent, as bytes, row by row; a client's own conversions are not exact.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol


class Driver(Protocol):
    """What the engine needs of a client."""

    Error: type[Exception]

    def connect(self, arguments: dict[str, Any], label: str) -> Any:
        """A connection whose cursors stream; `arguments` are those that both clients share."""

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""

    def settle(self, connection: Any, cursor: Any) -> None:
        """Close a cursor whose query failed, was killed, or lost its connection."""

    def abandon(self, connection: Any, cursor: Any) -> None:
        """Drop the line to the server with a result still coming."""


class MySqlClient:
    """mysqlclient, the C client; the label reaches the server only as a comment of the query."""

    def __init__(self) -> None:
        import MySQLdb
        from MySQLdb.cursors import SSCursor

        self._client = MySQLdb
        self._cursor = SSCursor
        self.Error: type[Exception] = MySQLdb.Error

    def connect(self, arguments: dict[str, Any], label: str) -> Any:
        """Connect, with several statements in one call refused."""
        return self._client.connect(
            **{**arguments, "conv": {}, "use_unicode": False, "cursorclass": self._cursor, "multi_statements": False}
        )

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""
        return list(cursor.description_flags)

    def settle(self, connection: Any, cursor: Any) -> None:
        """Read what is still on its way, up to the server's word that it stopped."""
        with contextlib.suppress(self.Error):
            cursor.close()

    def abandon(self, connection: Any, cursor: Any) -> None:
        """Close the line first: a cursor that is closed first reads its result to the end."""
        connection.close()
        self.settle(connection, cursor)


class PyMySql:
    """PyMySQL, pure Python; the label is the connection attribute `program_name`."""

    def __init__(self) -> None:
        import pymysql
        from pymysql.cursors import SSCursor

        self._client = pymysql
        self._cursor = SSCursor
        self.Error: type[Exception] = pymysql.Error

    def connect(self, arguments: dict[str, Any], label: str) -> Any:
        """Connect; a password is sent in UTF-8, as the C client does."""
        arguments = {**arguments, "password": arguments["password"].encode(), **self._tls(arguments)}
        arguments.pop("ssl_mode", None)
        return self._client.connect(
            **{**arguments, "conv": {}, "use_unicode": False, "cursorclass": self._cursor, "program_name": label}
        )

    def _tls(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the C client means by `ssl_mode`, in this client's terms."""
        mode = arguments.get("ssl_mode", "").upper()
        given = arguments.get("ssl") or {}
        strict = {"verify_mode": "required", "check_hostname": mode == "VERIFY_IDENTITY"}
        return {
            "DISABLED": {"ssl": None, "ssl_disabled": True},
            "REQUIRED": {"ssl": {"check_hostname": False, "verify_mode": "none", **given}},
            "VERIFY_CA": {"ssl": {**given, **strict}},
            "VERIFY_IDENTITY": {"ssl": {**given, **strict}},
        }.get(mode, {})

    def flags(self, cursor: Any) -> list[int]:
        """The protocol's flags of each column of the result."""
        return [field.flags for field in cursor._result.fields]

    def settle(self, connection: Any, cursor: Any) -> None:
        """Read what is still on its way; a result without a line would go on reading when it is collected."""
        if not connection.open and cursor._result is not None:
            cursor._result.unbuffered_active = False
        with contextlib.suppress(self.Error):
            cursor.close()

    def abandon(self, connection: Any, cursor: Any) -> None:
        """Close the line without reading the result to its end."""
        connection._force_close()
        self.settle(connection, cursor)


def installed_driver() -> Driver:
    """Mysqlclient where it can be imported, else PyMySQL."""
    try:
        return MySqlClient()
    except ImportError:
        return PyMySql()
