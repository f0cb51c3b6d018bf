"""MySQL and MariaDB: a prepared statement's rows, taken from the line on a thread and read into the server's types.

The server does less for this than for a plain SELECT; building CSV inside it would double its work.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pymysql
from airflow.providers.mysql.hooks.mysql import MySqlHook
from pymysql.constants import ER
from sqlglot.errors import SqlglotError

from include.etl.engines.base import Engine, Numbering, Origins, Query, Session, Statistics, Stream, Writers
from include.etl.engines.batches import BYTES_PER_VALUE, OneStream, Row, make_schema, rows_at_once
from include.etl.engines.binding import bind
from include.etl.engines.deadline import cut_line
from include.etl.engines.mysql_catalog import key_equality, numbering, statistics, wall_clock
from include.etl.engines.mysql_connection import connect, kill_query
from include.etl.engines.mysql_errors import MORE_WARNINGS, connecting, querying, refuse_losses
from include.etl.engines.mysql_modes import refuse_other_meaning
from include.etl.engines.mysql_origins import origins, with_in_any_case
from include.etl.engines.mysql_packets import RowPackets
from include.etl.engines.mysql_rows import to_batch
from include.etl.engines.mysql_settings import pin
from include.etl.engines.mysql_sql import literal, quoted_path
from include.etl.engines.mysql_statement import Statement
from include.etl.engines.mysql_types import TEXT_OR_BINARY, Column, arrow_type
from include.etl.engines.mysql_writers import writers
from include.etl.engines.origins import Path, dotted, reading
from include.etl.engines.row_pipe import Pipe
from include.etl.errors import ConfigurationError, ExtractionError, TransientError
from include.etl.handover import KeyEquality

BLOCK_BYTES = 2 << 20
"""How much of the line is held at a time, if rows are not longer."""
GRACE_S = 5.0
"""How long after its own timeout the server may go on before the client gives up."""
OPENED_LATE = "{} was opened after the session's snapshot, and may be another table than the one that was there then"
NOT_READ = "the query cannot be read here, so that its tables were not opened before the session's snapshot"


class MySqlEngine(Engine):
    """Reads MySQL and MariaDB in one consistent snapshot, READ ONLY, per session, with times in UTC."""

    dialect = "mysql"

    @contextlib.contextmanager
    def session(self) -> Iterator[MySqlSession]:
        """Open a read-only session; all of its queries see the same state of the (transactional) tables."""
        session = MySqlSession(self, self.connect())
        try:
            session.begin()
            yield session
        finally:
            session.close()

    def connect(self) -> Any:
        """A new connection of the driver; also used to stop a query that runs on another one."""
        arguments = self._arguments()
        try:
            return connect(arguments)
        except pymysql.Error as error:
            raise connecting(error, self) from None
        except OSError as error:  # PyMySQL reads the TLS files before it connects
            reason = error.strerror or "not a certificate or key"
            raise ConfigurationError(f"{self}: the files of the connection's ssl options: {reason}") from None

    def _arguments(self) -> dict[str, Any]:
        """What the hook passes to its driver, except the character set: this reader decodes utf8mb4 itself."""
        hook = MySqlHook(mysql_conn_id=self.conn_id)
        conn = hook.connection
        extra = conn.extra_dejson
        password, port = conn.password or "", conn.port or 3306
        if extra.get("iam"):
            password, port = hook.get_iam_token(conn)
        options = {key: extra[key] for key in ("ssl", "ssl_mode", "unix_socket") if extra.get(key)}
        if self.limits.require_tls and not options.keys() & {"ssl", "ssl_mode"}:
            options["ssl_mode"] = "REQUIRED"  # before the password is sent
        if isinstance(options.get("ssl"), str):
            options["ssl"] = self._parsed(options["ssl"])
        return {
            **options,
            "host": conn.host or "localhost",
            "port": int(port),
            "user": conn.login or "",
            "password": password,
            "database": conn.schema or "",
            "charset": "utf8mb4",
            "program_name": self.label,
            "connect_timeout": math.ceil(self.limits.connect_timeout_s),
            "read_timeout": math.ceil(self.limits.statement_timeout_s + GRACE_S),
        }

    def _parsed(self, ssl: str) -> Any:
        try:
            return json.loads(ssl)
        except ValueError:
            raise ConfigurationError(f"{self}: the connection's extra `ssl` must be a JSON object") from None


class MySqlSession(Session):
    """One transaction; `connection` is its PyMySQL connection."""

    consistency = "session"

    def __init__(self, engine: MySqlEngine, connection: Any) -> None:
        self.engine = engine
        self.connection = connection
        self.unpinned: list[str] = []
        self._stream = OneStream()
        self._opened: set[Path] = set()
        self._reading = False
        self._kept_warnings = 0
        self._modes: frozenset[str] = frozenset()
        self._any_case = False
        self._comment = f"/* {engine.label.replace('*/', '')} */ "

    def begin(self) -> None:
        """Set what holds for the session, and start a transaction; its snapshot is taken by its first reading."""
        if self.engine.limits.require_tls and not self._ask("show session status like 'Ssl_cipher'")[0][1]:
            raise self.engine.not_encrypted()
        pinned = pin(self._ask, self.engine)
        self.unpinned, self._kept_warnings = list(pinned.caveats), pinned.kept_warnings
        self._modes, self._any_case = pinned.modes, with_in_any_case(self._ask)
        self._ask("start transaction read only")

    def origins(self, query: Query) -> Origins:
        """What the query reads here, and what of it the server's own transactions and snapshot do not show."""
        self._stream.refuse_second()
        return origins(self._ask, query.sql, any_case=self._any_case)

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; the query does not run."""
        return self._make_schema(self._describe(self._bind(query)))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the ends of a column of whole numbers that leads an index, and the columns that do."""
        self._stream.refuse_second()
        return statistics(self._ask, table, column)

    def writers(self) -> Writers:
        """Open transactions and running statements of the server, as far as the account may see them."""
        self._stream.refuse_second()
        if not self._reading:  # the list has this session only with a snapshot
            self._begin_anew("with consistent snapshot, read only")
        return writers(self._ask)

    def numbering(self, table: str, column: str) -> Numbering | None:
        """AUTO_INCREMENT or the sequence that hands out the column's numbers."""
        self._stream.refuse_second()
        return numbering(self._ask, table, column)

    def wall_clock(self, moments: Sequence[datetime]) -> Mapping[datetime, datetime]:
        """What sessions that set no zone have for now() at these moments."""
        self._stream.refuse_second()
        return wall_clock(self._ask, moments)

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:
        """By the collations of the result's columns; times, JSON and long decimals are printed in one way."""
        sql = self._bind(query)
        texts = [one.name for one in self._describe(sql) if one.name in columns and one.code in TEXT_OR_BINARY]
        found = {name: key_equality(self._ask, sql, name) for name in texts}
        return {name: equality for name, equality in found.items() if equality}

    def stream(self, query: Query) -> Stream:
        """Rows as the server holds them; the query starts with the first batch that is asked for."""
        sql = self._bind(query)
        self._open(query)
        schema = self._make_schema(self._describe(sql))
        return Stream(schema, self._stream.run(self._batches(sql, schema)))

    def _open(self, query: Query) -> None:
        """Lock what the query names against changes of its definition, before the transaction has its snapshot.

        Otherwise a table that another session puts in its place, filled after the snapshot, would look empty. One
        statement opens all of them, and has all locks before it could take a snapshot.
        """
        self._stream.refuse_second()
        names = [path for path in self._relations(query) if path not in self._opened]
        if names and not self._reading:
            self._begin_anew("read only")
        elif names:
            self.unpinned.append(OPENED_LATE.format(", ".join(map(dotted, names))))
        if names:
            probes = ", ".join(f"(select 1 from {quoted_path(path)} limit 0)" for path in names)
            self._ask(f"select {probes}")
        self._opened.update(names)
        self._reading = True

    def _relations(self, query: Query) -> Sequence[Path]:
        try:
            return reading(query.sql, self.engine.dialect, with_in_any_case=self._any_case).relations
        except SqlglotError:
            self.unpinned.append(NOT_READ)
            return []

    def _begin_anew(self, how: str) -> None:
        self._ask("rollback")
        self._ask(f"start transaction {how}")
        self._opened.clear()

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave."""
        self._stream.close()
        with contextlib.suppress(pymysql.Error):  # a lost connection has nothing left to roll back
            self.connection.rollback()
        with contextlib.suppress(pymysql.Error):
            self.connection.close()

    def _make_schema(self, columns: Sequence[Column]) -> pa.Schema:
        return make_schema([pa.field(column.name, arrow_type(column)) for column in columns], self.engine)

    def _describe(self, sql: str) -> list[Column]:
        self._stream.refuse_second()
        with self._statement(sql) as statement:
            return statement.columns

    def _batches(self, sql: str, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        limits = self.engine.limits
        pipe: Pipe[pa.RecordBatch] = Pipe(f"read {self.engine.label}")
        with self._statement(sql, reading_rows=True) as statement:
            block_rows = rows_at_once([BYTES_PER_VALUE] * len(schema), limits)
            try:
                rows = statement.execute(min(BLOCK_BYTES, limits.batch_bytes), block_rows)
            except pymysql.Error:
                raise
            except BaseException:  # interrupted while the server has yet to send its first row
                self._kill_query()
                raise

            def fill() -> None:
                if self._make_schema(statement.columns) != schema:
                    raise pymysql.OperationalError(ER.TABLE_DEF_CHANGED, "the columns have changed")
                while block := rows.block():
                    pipe.put(to_batch(block, statement.columns, schema, self.engine))

            pipe.start(fill)
            try:
                yield from pipe.items(limits.statement_timeout_s + GRACE_S)
            finally:
                self._end(pipe, rows)
            self._heed(rows.warnings)

    def _heed(self, warnings: int) -> None:
        """Find out whether values were cut, as far as the server keeps the statement's warnings."""
        if not warnings:
            return
        codes = [int(code) for _, code, _ in self._ask("show warnings")]
        refuse_losses(codes, self.engine)
        if len(codes) >= self._kept_warnings:
            self.unpinned.append(MORE_WARNINGS.format(self._kept_warnings))

    def _end(self, pipe: Pipe[pa.RecordBatch], rows: RowPackets) -> None:
        """Leave neither a thread nor rows on their way: stop the query, or cut the line to a server that goes on."""
        pipe.stop()
        if not (pipe.join(0.05) and rows.finished):
            self._kill_query()
        if not pipe.join(GRACE_S):
            self._cut()
            pipe.join()
        rows.skip()

    @contextlib.contextmanager
    def _statement(self, sql: str, *, reading_rows: bool = False) -> Iterator[Statement]:
        """The SQL, parsed by the server and labelled for the DBA."""
        with self._errors(reading_rows=reading_rows):
            statement = Statement(self.connection, self._comment + sql)
            try:
                yield statement
            finally:
                statement.close()

    @contextlib.contextmanager
    def _errors(self, *, reading_rows: bool = False) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except pymysql.Error as error:
            raise querying(error, self.engine, time.monotonic() - started, reading_rows=reading_rows) from None
        except TimeoutError:
            raise TransientError(f"{self.engine}: the server did not answer within its own timeout") from None

    def _kill_query(self) -> None:
        """From another connection; where that cannot be had, or leads to another server, this one is lost."""
        try:
            with contextlib.closing(self.engine.connect()) as other:
                killed = kill_query(other, self.connection.thread_id(), self._comment)
        except (pymysql.Error, ExtractionError):
            killed = False
        if not killed:
            self._cut()

    def _cut(self) -> None:
        """End the line under a thread that waits on it."""
        line = self.connection._sock
        if line is not None:
            cut_line(line.fileno())

    def _ask(self, sql: str) -> list[Row]:
        with self._errors(), self.connection.cursor() as cursor:
            cursor.execute(self._comment + sql)
            return list(cursor.fetchall())

    def _bind(self, query: Query) -> str:
        refuse_other_meaning(query.sql, self._modes, self.engine)
        try:
            return bind(query, self.engine.dialect, literal)
        except ValueError:
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in MySQL") from None
