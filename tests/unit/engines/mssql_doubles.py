"""Stand-ins for the socket of SQL Server's clients: scripted answers, a record of what was sent, and their errors."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pymssql
import pytest

from include.etl.engines.base import Limits
from include.etl.engines.mssql import MsSqlEngine

DESCRIPTION = ("is_hidden", "column_ordinal", "name", "system_type_name", "max_length", "precision", "scale")
DESCRIPTION += ("user_type_name",)
Described = tuple[str, str, int, int, int]
Answer = Callable[[], None]
ID: Described = ("id", "int", 4, 10, 0)
EMPTY = pa.RecordBatch.from_pydict({"id": pa.array([], pa.int32())})
ONE = pa.RecordBatch.from_pydict({"id": pa.array([1, None], pa.int32())})
SWITCHES = ("quoted_identifier", "arithabort", "ansi_null_dflt_on", "ansi_warnings", "ansi_padding", "ansi_nulls")
OPTIONS = {"textsize": "2147483647", "language": "us_english", "dateformat": "mdy", "datefirst": "7"}
OPTIONS |= {"lock_timeout": "30000", **dict.fromkeys(SWITCHES, "SET"), "concat_null_yields_null": "SET"}
"""What SQL Server's documentation shows for DBCC USEROPTIONS; a switch that is off is not listed."""
BEFORE = 6
"""Statements of a session before its first query."""
MSSQL_PYTHON = importlib.util.find_spec("mssql_python") is not None
needs_mssql_python = pytest.mark.skipif(
    not MSSQL_PYTHON, reason="mssql-python IS NOT TESTED: not installed; pymssql is read with instead"
)


class FakeServer:
    """One table's answers; where it does not describe them, the client has `told` them.

    `fail` raises or waits when SQL that contains its key is sent, or on the nth fetch; `leaves` come with rows."""

    def __init__(self, described: Sequence[Described], rows: Sequence[pa.RecordBatch | tuple[Any, ...]]) -> None:
        self.described = described
        self.rows = list(rows)
        self.sent: list[str] = []
        self.fail: dict[str, Answer] = {}
        self.on_fetch: Answer = lambda: None
        self.isolation: list[tuple[int, int]] = [(1, 0)]
        self.answers: dict[str, list[tuple[Any, ...]]] = {}
        self.open_transactions = 1
        self.released = threading.Event()
        self.cancelled = self.ended = self.closed = 0
        self.names: list[str] | None = None
        self.arguments: dict[str, Any] = {}
        self.counts: list[int] = []
        self.describes = True
        self.told: list[tuple[str, int, int, int]] = []
        self.leaves: list[tuple[str, str]] = []
        self.options: dict[str, str] = dict(OPTIONS)

    def connect(self, *arguments: Any, **options: Any) -> FakeConnection:
        self.arguments = {"string": arguments[0] if arguments else "", **options}
        return FakeConnection(self)


class FakeConnection:
    """What both clients have in common."""

    timeout = 0

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self._conn = self

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def cancel(self) -> None:
        self.server.ended += 1

    def close(self) -> None:
        self.server.closed += 1


class FakeCursor:
    """A cursor of either client, with the method that its own reader calls."""

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection
        self.server = connection.server
        self.description: list[tuple[Any, ...]] | None = None
        self.hstmt = self
        self.messages: list[tuple[str, str]] = []
        self.small: list[tuple[Any, ...]] = []
        self._column_sql_types: list[int] | None = None
        self.later: list[tuple[Any, ...]] | None = None

    def execute(self, sql: str) -> FakeCursor:
        self.server.sent.append(sql)
        for key, answer in self.server.fail.items():
            if key in sql:
                answer()
        if "sp_describe" in sql:
            self.description, self.later = None, [(name,) for name in DESCRIPTION]  # a count of rows comes first
            described = enumerate(self.server.described, 1)
            self.small = [(False, i, *column, None) for i, column in described] if self.server.describes else []
        elif "top 0" in sql:
            self.description = [
                (name, code, None, size, size, digits, None) for name, code, size, digits in self.server.told
            ]
            self._column_sql_types = [column[1] for column in self.server.told]
        elif "dbcc useroptions" in sql:
            level = "snapshot" if "set transaction isolation level snapshot" in self.server.sent else "read committed"
            self.small = list({"isolation level": level, **self.server.options}.items()) if self.server.options else []
        elif "snapshot_isolation_state" in sql:
            self.small = self.server.isolation
        elif "@@trancount" in sql:
            self.small = [(self.server.open_transactions,)]
        elif answered := [rows for key, rows in self.server.answers.items() if key in sql]:
            self.small = answered[0]
        else:
            self.description = [
                (name,) for name in self.server.names or [column[0] for column in self.server.described]
            ]
        return self

    def nextset(self) -> bool:
        self.description, self.later = self.later, None
        return self.description is not None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.small

    def arrow_batch(self, count: int) -> pa.RecordBatch:
        self.server.counts.append(count)
        self.server.on_fetch()
        self.messages += self.server.leaves
        batch = self.server.rows.pop(0)
        assert isinstance(batch, pa.RecordBatch)
        return batch

    def fetchmany(self, count: int) -> list[Any]:
        self.server.counts.append(count)
        self.server.on_fetch()
        rows, self.server.rows = self.server.rows[:count], self.server.rows[count:]
        return rows

    def _cancel(self) -> None:
        self.server.cancelled += 1
        self.server.released.set()

    def close(self) -> None:
        pass


def fake(kind: str, monkeypatch: pytest.MonkeyPatch, described: list[Described], rows: list[Any]) -> FakeServer:
    server = FakeServer(described, rows)
    monkeypatch.setattr(f"{'mssql_python' if kind == 'mssql-python' else kind}.connect", server.connect)
    return server


def rows_of(kind: str) -> list[Any]:
    return [ONE, EMPTY] if kind == "mssql-python" else [(1,), (None,)]


def engine(**limits: float) -> MsSqlEngine:
    return MsSqlEngine("clinic", Limits(**limits), "nightly */ run")  # type: ignore[arg-type]


def error(kind: str, number: int, state: str, text: str) -> Exception:
    """The client's own error for an error of the server."""
    if kind == "pymssql":
        return pymssql.OperationalError(number, text.encode())
    import mssql_python.exceptions

    found = mssql_python.exceptions.sqlstate_to_exception(state, f"[Microsoft][SQL Server]{text}")
    assert found is not None
    return found


def raises(problem: Exception) -> Any:
    def answer() -> None:
        raise problem

    return answer
