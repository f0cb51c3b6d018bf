"""SQL Server: mssql-python fetches Arrow batches; pymssql does, row by row, where that driver cannot be loaded.

SQL Server has no read-only transaction. The login must be one that can only read (db_datareader); beyond that, a query
must be one SELECT, and whatever happens in a session is rolled back.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from include.etl.engines.base import Consistency, Engine, Query, RowVersions, Session, Statistics, Stream, Writers
from include.etl.engines.batches import OneStream, joined, make_schema, rows_at_once
from include.etl.engines.binding import bind
from include.etl.engines.deadline import Overdue, within
from include.etl.engines.mssql_catalog import statistics
from include.etl.engines.mssql_connection import ENCRYPT, Server, server
from include.etl.engines.mssql_errors import connecting, querying
from include.etl.engines.mssql_reader import ArrowReader, DriverMissing, Reader, RowReader
from include.etl.engines.mssql_sql import converted, describing, literal, quoted
from include.etl.engines.mssql_types import (
    Column,
    arrow_type,
    as_text,
    check_names,
    check_row_version,
    described,
    expression,
    fetch_width,
)
from include.etl.engines.mssql_writers import MARK, row_versions, writers
from include.etl.errors import ConfigurationError, TransientError
from include.etl.sql_guard import only_select

log = logging.getLogger("etl.extract")
T = TypeVar("T")

GRACE_S = 2.0
"""How long a driver may take to stop before its connection is left behind."""


class MsSqlEngine(Engine):
    """Reads SQL Server in one SNAPSHOT transaction per session where the database allows it, and rolls it back."""

    dialect = "tsql"

    @contextlib.contextmanager
    def session(self) -> Iterator[MsSqlSession]:
        """Open a session; its `consistency` says which of its queries see one state of the database."""
        reader, connection = self._connect()
        session = MsSqlSession(self, reader, connection)
        try:
            session.begin()
            yield session
        finally:
            session.close()

    def _connect(self) -> tuple[Reader, Any]:
        where = server(self.conn_id, self)
        if self.limits.require_tls and where.options[ENCRYPT] == "no":
            raise self.not_encrypted()
        try:
            arrow = ArrowReader()
            connection = self._open(arrow, where)
        except (ImportError, DriverMissing) as missing:
            log.warning(
                "%s: reads with pymssql, which is slow and does not check the server's certificate; mssql-python: %s",
                self,
                missing,
            )
            rows = RowReader()
            return rows, self._open(rows, where)
        log.info("%s: reads with %s", self, arrow.name)
        return arrow, connection

    def _open(self, reader: Reader, where: Server) -> Any:
        wait_s = self.limits.connect_timeout_s
        try:
            return within(wait_s + GRACE_S, lambda: reader.connect(where, self))
        except Overdue:
            raise TransientError(
                f"{self}: cannot connect: no answer within extract.connect_timeout = {wait_s:g} s"
            ) from None
        except socket.gaierror as error:
            kind = TransientError if error.errno == socket.EAI_AGAIN else ConfigurationError
            raise kind(f"{self}: cannot connect: {where.host}: {error.strerror}") from None
        except reader.errors as error:
            raise connecting(reader.fault(error), self, where.password) from None


class MsSqlSession(Session):
    """One transaction; `connection` is its client's connection."""

    consistency: Consistency = "none"

    def __init__(self, engine: MsSqlEngine, reader: Reader, connection: Any) -> None:
        self.engine = engine
        self.connection = connection
        self._reader = reader
        self._stream = OneStream()
        self._comment = f"/* {engine.label.replace('*/', '').replace('/*', '')} */ "
        self._troubled = self._lost = False

    def begin(self) -> None:
        """Set what holds for the session, and begin the transaction that its first query takes its snapshot in."""
        timeout_ms = max(2, int(self.engine.limits.statement_timeout_s * 1000))
        self._run(f"set nocount on; set lock_timeout {timeout_ms // 2}; set context_info {MARK}")
        ((snapshot, versions),) = self._rows(
            "select snapshot_isolation_state, is_read_committed_snapshot_on from sys.databases "
            "where database_id = db_id()"
        )
        self.consistency = "session" if snapshot == 1 else "query" if versions else "none"
        self._run(f"set transaction isolation level {'snapshot' if snapshot == 1 else 'read committed'}")
        self._run("begin transaction")

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; the query is not run."""
        return self._make_schema(self._describe(self._bind(query)))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the column's histogram, and the columns that lead an index."""
        self._stream.refuse_second()
        return statistics(self._rows, table, column)

    def writers(self) -> Writers:
        """Open transactions of the server, as far as the login may see them."""
        self._stream.refuse_second()
        self._resume()
        try:
            return writers(self._rows)
        except ConfigurationError as error:  # another maker's server, which lacks one of the functions
            log.warning("%s; open transactions cannot be seen", error)
            return super().writers()

    def written(self, query: Query, columns: Collection[str]) -> Query:
        """The query, with those of these columns as text whose type takes no collation, and so no hash."""
        described = self._describe(self._bind(query))
        texts = {column.name: as_text(column) if column.name in columns else None for column in described}
        return Query(_selecting(query.sql, texts), query.params)

    def row_versions(self, query: Query, column: str) -> RowVersions:
        """How far the row versions in this column of the query are decided."""
        check_row_version(self._describe(self._bind(query)), column, self.engine)
        return row_versions(self._rows, self.engine)

    def stream(self, query: Query) -> Stream:
        """Rows as the client fetches them; the query starts with the first batch that is asked for."""
        sql = self._bind(query)
        columns = self._describe(sql)
        schema = self._make_schema(columns)
        return Stream(schema, self._stream.run(self._batches(self._exact(sql, columns), columns, schema)))

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave; a connection that does not answer is left behind."""
        self._stream.close()
        if not self._lost:
            with contextlib.suppress(Overdue):
                within(GRACE_S, self._leave)

    def _leave(self) -> None:
        with contextlib.suppress(*self._reader.errors):  # a lost connection has nothing left to roll back
            self.connection.cursor().execute("if @@trancount > 0 rollback transaction")
        with contextlib.suppress(*self._reader.errors):
            self.connection.close()

    def _make_schema(self, columns: Sequence[Column]) -> pa.Schema:
        return make_schema([pa.field(column.name, arrow_type(column, self.engine)) for column in columns], self.engine)

    def _exact(self, sql: str, columns: Sequence[Column]) -> str:
        """The query, with those columns converted whose values the client would change."""
        return _selecting(sql, {column.name: expression(column, self._reader.rows) for column in columns})

    def _describe(self, sql: str) -> list[Column]:
        self._stream.refuse_second()
        self._resume()
        with self._cursor(describing(sql)) as (cursor, deadline):
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in self._call(cursor.fetchall, deadline, cursor)]
        return [described(row, self.engine) for row in rows if not row["is_hidden"]]

    def _resume(self) -> None:
        """Begin again where an error has rolled the transaction back; what follows sees a later state."""
        if self._troubled:
            if self._rows("select @@trancount") == [(0,)]:
                self._run("begin transaction")
                self.consistency = "query" if self.consistency == "session" else self.consistency
            self._troubled = False

    def _batches(self, sql: str, columns: Sequence[Column], schema: pa.Schema) -> Generator[pa.RecordBatch]:
        with self._cursor(self._comment + sql) as (cursor, deadline):
            check_names([column[0] for column in cursor.description or ()], schema, self.engine)
            yield from joined(self._fetched(cursor, deadline, columns, schema), self.engine.limits)

    def _fetched(
        self, cursor: Any, deadline: float, columns: Sequence[Column], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """Batches of so few rows that even the widest keep the limit; fewer once LOBs were larger than expected."""
        limits = self.engine.limits
        count = rows_at_once(map(fetch_width, columns), limits)
        while True:
            fetched = self._call(partial(self._reader.fetch, cursor, count), deadline, cursor)
            batch = self._reader.batch(fetched, schema, self.engine)
            if batch.num_rows == 0:
                return
            yield batch
            if batch.nbytes > limits.batch_bytes:
                count = max(1, count * limits.batch_bytes // batch.nbytes)

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
            return [tuple(row) for row in self._call(cursor.fetchall, deadline, cursor)]

    def _run(self, sql: str) -> None:
        with self._cursor(sql):
            pass

    def _bind(self, query: Query) -> str:
        only_select(query.sql, self.engine.dialect, str(self.engine))
        try:
            return bind(query, self.engine.dialect, literal)
        except ValueError:
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in SQL Server") from None


def _selecting(sql: str, forms: Mapping[str, str | None]) -> str:
    """The query with these forms of its columns; as it stands where no column has one."""
    if not any(forms.values()):
        return sql
    return converted(sql, [f"{form or '_q.' + quoted(name)} as {quoted(name)}" for name, form in forms.items()])
