"""SQL Server: mssql-python fetches Arrow batches; pymssql does, row by row, where that driver cannot be loaded.

SQL Server has no read-only transaction. The login must be one that can only read (db_datareader); beyond that, a query
must be one SELECT, and whatever happens in a session is rolled back.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa

from include.etl.engines.base import (
    Consistency,
    Engine,
    Numbering,
    Origins,
    Query,
    RowVersions,
    Session,
    Statistics,
    Stream,
    Writers,
)
from include.etl.engines.batches import OneStream, joined, make_schema, rows_at_once
from include.etl.engines.binding import bind
from include.etl.engines.deadline import Overdue, within
from include.etl.engines.mssql_calls import GRACE_S, Calls
from include.etl.engines.mssql_catalog import key_equality, numbering, statistics, wall_clock
from include.etl.engines.mssql_connection import ENCRYPT, Server, server
from include.etl.engines.mssql_errors import connecting
from include.etl.engines.mssql_origins import objects, origins
from include.etl.engines.mssql_reader import ArrowReader, DriverMissing, Reader, RowReader, first_rows
from include.etl.engines.mssql_settings import NOT_TOLD, PINNING, READ_BACK, is_snapshot, options, unlike
from include.etl.engines.mssql_sql import converted, describing, literal, with_forms
from include.etl.engines.mssql_types import (
    Column,
    arrow_type,
    as_text,
    check_names,
    check_row_version,
    completed,
    described,
    expression,
    fetch_width,
    untold,
)
from include.etl.engines.mssql_writers import MARK, row_versions, writers
from include.etl.errors import ConfigurationError, TransientError
from include.etl.handover import KeyEquality
from include.etl.sql_guard import only_select

log = logging.getLogger("etl.extract")
ISOLATION = "select snapshot_isolation_state, is_read_committed_snapshot_on from sys.databases where name = db_name()"
"""By name: in Azure a database's own id is not always the one that it is listed under."""


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


class MsSqlSession(Calls, Session):
    """One transaction; `connection` is its client's connection."""

    consistency: Consistency = "none"

    def __init__(self, engine: MsSqlEngine, reader: Reader, connection: Any) -> None:
        super().__init__(engine, reader, connection)
        self._stream = OneStream()
        self._opened: dict[str, int | None] = {}
        self._comment = f"/* {engine.label.replace('*/', '').replace('/*', '')} */ "

    def begin(self) -> None:
        """Set what holds for the session, and begin the transaction that its first query takes its snapshot in."""
        timeout_ms = max(2, int(self.engine.limits.statement_timeout_s * 1000))
        self._run("set nocount on")
        self._pin((*PINNING, f"set lock_timeout {timeout_ms // 2}", f"set context_info {MARK}"))
        snapshot, versions = self._isolation()
        self.consistency = "session" if snapshot == 1 else "query" if versions else "none"
        self._run(f"set transaction isolation level {'snapshot' if snapshot == 1 else 'read committed'}")
        self._read_back()
        self._run("begin transaction")

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; the query is not run."""
        return self._make_schema(self._describe(self._bind(query)))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the column's histogram, and the columns that lead an index."""
        self._stream.refuse_second()
        return statistics(self._rows, table, column)

    def numbering(self, table: str, column: str) -> Numbering | None:
        """The identity or the sequence that hands out the column's numbers."""
        self._stream.refuse_second()
        return numbering(self._rows, table, column)

    def wall_clock(self, moments: Sequence[datetime]) -> Mapping[datetime, datetime]:  # noqa: ARG002 - it knows now only
        """What the server's clock shows now; nothing where another maker's server has none."""
        self._stream.refuse_second()
        try:
            return wall_clock(self._rows)
        except ConfigurationError as error:
            log.warning("%s; the server's time zone cannot be seen", error)
            return {}

    def origins(self, query: Query) -> Origins:
        """What the query reads, through views and synonyms, and what of it the login is not shown."""
        self._stream.refuse_second()
        self._resume()
        found = origins(self._rows, query.sql, self.engine, self.engine.limits.row_security)
        self._opened = objects(self._rows, list(found.relations))
        return found

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
        return Query(with_forms(query.sql, texts), query.params)

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:
        """By the types and collations of the result's columns, as the server describes them."""
        found = {one.name: key_equality(one) for one in self._describe(self._bind(query)) if one.name in columns}
        return {name: equality for name, equality in found.items() if equality}

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

    def _pin(self, settings: Sequence[str]) -> None:
        """All at once, or one by one where another maker's server does not take some."""
        try:
            self._run("; ".join(settings))
        except ConfigurationError:
            for setting in settings:
                with self._tolerated(setting):
                    self._run(setting)

    def _read_back(self) -> None:
        """Refuse a session that is not set to what it needs; say so where the server does not tell."""
        found: dict[str, str] = {}
        with self._tolerated(READ_BACK):
            found = options(self._rows(READ_BACK))
        if not found:
            self.unpinned = [NOT_TOLD]
        elif unset := list(unlike(found)):
            raise ConfigurationError(
                f"{self.engine}: the session cannot be set as reading needs it: {'; '.join(unset)}. Ask the server's "
                "administrator what sets it (a trigger, a proxy, or a server of another maker)"
            )
        elif self.consistency == "session" and not is_snapshot(found):
            raise ConfigurationError(
                f"{self.engine}: isolation level is {found.get('isolation level')!r}, though the session was set to "
                "snapshot: it would not see one state of the database"
            )

    def _isolation(self) -> tuple[int, int]:
        """Whether the database allows SNAPSHOT, and whether READ COMMITTED reads versions; neither where it is mute."""
        with self._tolerated("isolation levels"):
            for snapshot, versions in self._rows(ISOLATION):
                return snapshot, versions
        return 0, 0

    @contextlib.contextmanager
    def _tolerated(self, what: str) -> Iterator[None]:
        """Go on where another maker's server refuses what reading is possible without."""
        try:
            yield
        except ConfigurationError as error:
            log.warning("%s: %s", what, error)

    def _leave(self) -> None:
        with contextlib.suppress(*self._reader.errors):  # a lost connection has nothing left to roll back
            self.connection.cursor().execute("if @@trancount > 0 rollback transaction")
        with contextlib.suppress(*self._reader.errors):
            self.connection.close()

    def _make_schema(self, columns: Sequence[Column]) -> pa.Schema:
        return make_schema([pa.field(column.name, arrow_type(column, self.engine)) for column in columns], self.engine)

    def _exact(self, sql: str, columns: Sequence[Column]) -> str:
        """The query, with those columns converted whose values the client would change."""
        return with_forms(sql, {column.name: expression(column, self._reader.rows) for column in columns})

    def _describe(self, sql: str) -> list[Column]:
        """The columns as the server tells them; the query is not run."""
        self._stream.refuse_second()
        self._resume()
        try:
            with self._cursor(describing(sql)) as (cursor, deadline):
                found = self._call(partial(first_rows, self._reader, cursor), deadline, cursor)
        except ConfigurationError as error:
            with contextlib.suppress(ConfigurationError):
                return self._describe_without_rows(sql)
            raise error from None
        columns = [described(row, self.engine) for row in found if not row.get("is_hidden")]
        if not columns:
            return self._describe_without_rows(sql)
        return completed(columns, self._describe_without_rows(sql)) if untold(columns) else columns

    def _describe_without_rows(self, sql: str) -> list[Column]:
        """What the client tells of a result without rows: not every server describes every query."""
        self._resume()
        with self._cursor(converted(sql, ["top 0 *"])) as (cursor, _):
            return self._reader.columns(cursor)

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
        if objects(self._rows, list(self._opened)) != self._opened:
            raise TransientError(
                f"{self.engine}: a table of the query was replaced by another one (renamed, dropped, made anew) while "
                "it was read, so that rows may be missing; nothing is published of it"
            )

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

    def _bind(self, query: Query) -> str:
        only_select(query.sql, self.engine.dialect, str(self.engine))
        try:
            return bind(query, self.engine.dialect, literal)
        except ValueError:
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in SQL Server") from None
