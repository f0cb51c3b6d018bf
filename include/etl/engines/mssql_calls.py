"""Calls of a SQL Server's client, each with a deadline of its own, since the client may wait without end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from include.etl.engines.base import Engine
from include.etl.engines.deadline import Overdue, within
from include.etl.engines.mssql_errors import querying
from include.etl.engines.mssql_reader import Reader
from include.etl.errors import TransientError

T = TypeVar("T")

GRACE_S = 2.0
"""How long a driver may take to stop before its connection is left behind."""


class Calls:
    """What is asked of one connection, and how it stands after an error."""

    def __init__(self, engine: Engine, reader: Reader, connection: Any) -> None:
        """`connection` is the client's own."""
        self.engine = engine
        self.connection = connection
        self._reader = reader
        self._troubled = self._lost = False

    @property
    def client(self) -> str:
        """The name of the client that reads."""
        return self._reader.name

    @contextlib.contextmanager
    def _cursor(self, sql: str) -> Iterator[tuple[Any, float]]:
        """A cursor that has run the SQL, and when its time is over."""
        deadline = time.monotonic() + self.engine.limits.statement_timeout_s
        cursor = self._call(self.connection.cursor, deadline)
        try:
            self._call(lambda: cursor.execute(sql), deadline, cursor)
            yield cursor, deadline
        finally:
            self._end(cursor)

    def _call(self, call: Callable[[], T], deadline: float, cursor: Any = None) -> T:
        """What the client gives; by the deadline at the latest there is an error, even if the server is silent."""
        if self._lost:
            raise TransientError(f"{self.engine}: the connection to the server was lost")
        started = deadline - self.engine.limits.statement_timeout_s
        try:
            return within(deadline - time.monotonic(), call)
        except Overdue as overdue:
            self._give_up(cursor, overdue)
            raise self._silent() if self._lost else self.engine.timed_out() from None
        except self._reader.errors as error:
            self._troubled = True
            raise querying(self._reader.fault(error), self.engine, time.monotonic() - started) from None

    def _silent(self) -> TransientError:
        return TransientError(f"{self.engine}: the server answers no more, not even when it is asked to stop")

    def _give_up(self, cursor: Any, overdue: Overdue) -> None:
        """Ask the server to stop; if even that does not end the call, the connection is not touched again."""
        self._troubled = True
        if cursor is not None:
            with contextlib.suppress(Overdue):
                within(GRACE_S, lambda: self._reader.cancel(cursor))
        overdue.thread.join(GRACE_S)
        if overdue.thread.is_alive():
            self._lose()

    def _end(self, cursor: Any) -> None:
        """Close the cursor, which ends its query on the server."""
        if self._lost:
            return
        try:
            with contextlib.suppress(*self._reader.errors):  # the error on its way says more
                within(GRACE_S, lambda: self._reader.end(cursor))
        except Overdue:
            self._lose()

    def _lose(self) -> None:
        self._lost = True
        self._reader.forget(self.connection)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self._cursor(sql) as (cursor, deadline):
            return self._call(lambda: self._reader.all(cursor), deadline, cursor)

    def _run(self, sql: str) -> None:
        with self._cursor(sql):
            pass
