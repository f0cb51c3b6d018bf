"""The two clients for SQL Server behind one face: mssql-python, which fetches Arrow, else the provider's pymssql."""

from __future__ import annotations

import contextlib
import math
import re
import socket
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from include.etl.engines.base import Engine
from include.etl.engines.mssql_connection import Server, odbc_string, pymssql_arguments
from include.etl.engines.mssql_errors import Fault
from include.etl.engines.mssql_types import Column, from_arrow, from_rows

T = TypeVar("T")
NO_DRIVER = "Failed to load the driver"
STATES = (
    "08001", "08002", "08003", "08004", "08007", "08S01", "22001", "22003", "22007", "22008", "22012", "22018",
    "25000", "28000", "40001", "40003", "42000", "42S02", "42S22", "HY000", "HY008", "HYT00", "HYT01",
)  # fmt: skip
ODBC_KINDS = {
    -7: "bit", -6: "tinyint", 5: "smallint", 4: "int", -5: "bigint", 7: "real", 6: "float", 8: "float",
    3: "decimal", 2: "numeric", 1: "char", 12: "varchar", -1: "varchar", -8: "nchar", -9: "nvarchar", -10: "nvarchar",
    -2: "binary", -3: "varbinary", -4: "varbinary", 91: "date", 93: "datetime2", -154: "time", -155: "datetimeoffset",
    -11: "uniqueidentifier", -152: "xml", -150: "sql_variant",
}  # fmt: skip
"""SQL Server's types by ODBC's numbers; datetime and smalldatetime are read as a datetime2 of their digits."""
ODBC_LOBS = {-1, -10, -4, -152}
LARGEST = 8000
OTHER_STATE = re.compile(r"SQLSTATE code: (\w{5})")
"""How the driver says a state that it has no words for, such as IMC06: the connection is broken."""


TOLD = re.compile(r"\[(\w{5})\]\s*\((-?\d+)\)")
"""How the driver heads a message that came with rows: its state and the server's number."""
HARMLESS_STATES = ("00", "01")


class RowsLost(Exception):
    """ODBC gave rows and, beside them, an error that one of them has met; the driver raises nothing then."""


class DriverMissing(Exception):
    """The client is installed, but its native driver cannot be loaded on this machine."""


class Reader(Protocol):
    """What the engine needs of a client."""

    name: str
    rows: bool
    errors: tuple[type[Exception], ...]

    def connect(self, server: Server, engine: Engine) -> Any:
        """A connection in autocommit mode."""

    def fetch(self, cursor: Any, count: int) -> Any:
        """At most so many rows in the client's own form, none at the end; `batch` makes Arrow of them."""

    def all(self, cursor: Any) -> list[tuple[Any, ...]]:
        """All rows of a small result."""

    def batch(self, fetched: Any, schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
        """What was fetched in the described types."""

    def columns(self, cursor: Any) -> list[Column]:
        """The columns of the cursor's result, as far as the client tells them; `kind` says what it does not."""

    def cancel(self, cursor: Any) -> None:
        """Ask the server from another thread to stop."""

    def end(self, cursor: Any) -> None:
        """Close a cursor, and stop its query on the server."""

    def forget(self, connection: Any) -> None:
        """Leave behind a connection that does not answer."""

    def fault(self, error: Exception) -> Fault:
        """The client's error in common terms."""


class ArrowReader:
    """mssql-python with Microsoft's own ODBC driver."""

    name = "mssql-python"
    rows = False

    def __init__(self) -> None:
        """Connections are not pooled: a pooled one keeps its isolation level and its session's settings."""
        self._client: Any = import_module("mssql_python")
        self._client.pooling(enabled=False)
        exceptions: Any = import_module("mssql_python.exceptions")
        # The driver raises a RuntimeError when the line breaks in the middle of a result.
        self.errors: tuple[type[Exception], ...] = (
            exceptions.Exception,
            exceptions.ConnectionStringParseError,
            RuntimeError,
            RowsLost,
        )
        found = {state: exceptions.sqlstate_to_exception(state, "") for state in STATES}
        self._states = {error.driver_error: state for state, error in found.items() if error is not None}

    def connect(self, server: Server, engine: Engine) -> Any:
        """Connect; autocommit, since the transaction is begun in words."""
        login_timeout = math.ceil(engine.limits.connect_timeout_s)
        try:
            connection = self._client.connect(odbc_string(server), autocommit=True, timeout=login_timeout)
        except self.errors as error:
            if NO_DRIVER in str(error):
                raise DriverMissing("its driver needs libltdl7, libkrb5-3 and libgssapi-krb5-2") from None
            raise
        connection.timeout = max(1, math.ceil(engine.limits.statement_timeout_s))  # for cursors made from now on
        return connection

    def fetch(self, cursor: Any, count: int) -> pa.RecordBatch:
        """At most so many rows."""
        return self._complete(cursor, cursor.arrow_batch(count))

    def all(self, cursor: Any) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return [tuple(row) for row in self._complete(cursor, cursor.fetchall())]

    def _complete(self, cursor: Any, rows: T) -> T:
        """The rows, unless an error came with them: ODBC counts a row that failed among those it gives."""
        for code, text in cursor.messages:
            found = TOLD.match(str(code))
            if found and not found[1].startswith(HARMLESS_STATES):
                raise RowsLost(found[1], int(found[2]), str(text))
        return rows

    def batch(self, fetched: pa.RecordBatch, schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
        """What was fetched in the described types."""
        return from_arrow(fetched, schema, engine)

    def columns(self, cursor: Any) -> list[Column]:
        """ODBC's type of each column, its size and its decimals; a rowversion is not told from binary(8)."""
        described = zip(cursor.description or (), cursor._column_sql_types or (), strict=True)
        return [
            Column(str(name), ODBC_KINDS.get(code, f"ODBC {code}"), _width(code, size), size or 0, decimals or 0)
            for (name, _, _, _, size, decimals, _), code in described
        ]

    def cancel(self, cursor: Any) -> None:
        """SQLCancel, the one call that another thread may make while a fetch runs."""
        with contextlib.suppress(*self.errors):
            cursor.hstmt._cancel()

    def end(self, cursor: Any) -> None:
        """Close the cursor; freeing its statement stops what it runs."""
        cursor.close()

    def forget(self, connection: Any) -> None:
        """Take it from the list of those that the driver closes, and waits for, when the process ends."""
        self._client._active_connections.discard(connection)

    def fault(self, error: Exception) -> Fault:
        """The driver keeps SQLSTATE only as its own words for it, and no native number."""
        if isinstance(error, RowsLost):
            state, number, words = error.args
            return Fault(number=number, state=state, text=words)
        if type(error) is RuntimeError:
            return Fault(state="" if "Unsupported" in str(error) else "08S01", text=str(error))
        text, words = str(getattr(error, "ddbc_error", "") or error), getattr(error, "driver_error", "")
        other = OTHER_STATE.search(words)
        return Fault(state=other[1] if other else self._states.get(words, ""), text=text)


class RowReader:
    """pymssql with FreeTDS, without system libraries; it encrypts, and does not check the server's certificate."""

    name = "pymssql"
    rows = True

    def __init__(self) -> None:
        import pymssql

        self._client = pymssql
        self.errors: tuple[type[Exception], ...] = (pymssql.Error, pymssql.Warning)

    def connect(self, server: Server, engine: Engine) -> Any:
        """Connect."""
        arguments = pymssql_arguments(server, engine)
        try:
            return self._client.connect(**arguments)
        except self.errors:
            _resolve(server.host)  # the driver says the same of a host that is not there and of one without a name
            raise

    def fetch(self, cursor: Any, count: int) -> list[tuple[Any, ...]]:
        """At most so many rows."""
        rows: list[tuple[Any, ...]] = cursor.fetchmany(count)
        return rows

    def all(self, cursor: Any) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return [tuple(row) for row in cursor.fetchall()]

    def batch(self, fetched: Sequence[tuple[Any, ...]], schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
        """What was fetched in the described types."""
        return from_rows(fetched, schema, engine)

    def columns(self, cursor: Any) -> list[Column]:
        """Text is text; of numbers, times and bytes the client does not say which."""
        text = self._client.STRING.value
        return [
            Column(str(name), "nvarchar" if code == text else f"not told by {self.name}", -1, 0, 0)
            for name, code, *_ in cursor.description or ()
        ]

    def cancel(self, cursor: Any) -> None:
        """Nothing: FreeTDS takes no call from another thread; its own timeout ends the wait."""

    def end(self, cursor: Any) -> None:
        """Stop the query; closing its cursor alone would leave it running."""
        cursor.connection._conn.cancel()
        cursor.close()

    def forget(self, connection: Any) -> None:
        """Nothing: the connection lives as long as the call that waits on it."""

    def fault(self, error: Exception) -> Fault:
        """The server's number and words, from (number, text) or ((number, text),)."""
        parts = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], tuple) else error.args
        number, text = parts if len(parts) == 2 else (0, str(error))
        words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        return Fault(number=number if isinstance(number, int) else 0, text=words)


def first_rows(reader: Reader, cursor: Any) -> list[dict[str, Any]]:
    """The rows of a procedure's first result by their columns' names; counts of rows may come before it."""
    while not cursor.description and cursor.nextset():
        pass
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in reader.all(cursor)] if names else []


def _width(code: int, size: int | None) -> int:
    """The most bytes of a value, at four to a character; -1 for a LOB."""
    return -1 if code in ODBC_LOBS or not size or size > LARGEST else 4 * size


def _resolve(host: str) -> None:
    """Raise socket.gaierror when no such host is known."""
    socket.getaddrinfo(host.split("\\")[0], None)
