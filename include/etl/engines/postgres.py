"""PostgreSQL: `COPY (query) TO STDOUT (format csv)`, read on a thread and parsed by Arrow into the server's types.

The hook opens psycopg 3, whose COPY takes half as long again; psycopg2 is opened here with what the hook would pass.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator

import psycopg2
import pyarrow as pa
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ, QuotedString, adapt, connection, cursor

from include.etl.engines.base import Engine, Query, Session, Statistics, Stream, Value, Writers
from include.etl.engines.batches import OneStream, make_schema, sliced
from include.etl.engines.binding import bind
from include.etl.engines.deadline import Overdue, cut_after, cut_line, within
from include.etl.engines.postgres_catalog import statistics
from include.etl.engines.postgres_connection import connection_arguments
from include.etl.engines.postgres_errors import connecting, querying
from include.etl.engines.postgres_types import arrow_type, parse_csv
from include.etl.engines.postgres_writers import writers
from include.etl.engines.row_pipe import RowPipe
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

CHUNK_BYTES = 4 << 20
GRACE_S = 5.0
"""How long after its own timeout the server may stay silent before the client gives up."""
BEGUN = "to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
OWN_SESSION = "from pg_stat_activity where pid = pg_backend_pid()"
CANCEL = f"select pg_cancel_backend(pid) from pg_stat_activity where pid = {{pid}} and {BEGUN} = '{{begun}}'"


class PostgresEngine(Engine):
    """Reads PostgreSQL in one REPEATABLE READ, READ ONLY transaction per session, with times in UTC."""

    dialect = "postgres"

    @contextlib.contextmanager
    def session(self) -> Iterator[PostgresSession]:
        """Open a read-only session; all of its queries see the same state of the database."""
        session = PostgresSession(self, self.connect())
        try:
            session.begin()
            yield session
        finally:
            session.close()

    def connect(self) -> connection:
        """A new connection; also used to stop a query that runs on another one.

        libpq keeps the time of the handshake with each host, and nobody that of psycopg2's first statement.
        """
        arguments = connection_arguments(self)
        handshakes_s = arguments["connect_timeout"] * (1 + str(arguments["host"]).count(","))
        wait_s = handshakes_s + self.limits.statement_timeout_s + GRACE_S
        try:
            opened: connection = within(wait_s, lambda: psycopg2.connect(**arguments))
        except psycopg2.Error as error:
            raise connecting(error, self, arguments["password"] or "") from None
        except Overdue:
            raise TransientError(f"{self}: cannot connect: the server fell silent") from None
        return opened


class PostgresSession(Session):
    """One transaction; `connection` is its psycopg2 connection."""

    consistency = "session"

    def __init__(self, engine: PostgresEngine, connection: connection) -> None:
        self.engine = engine
        self.connection = connection
        self._stream = OneStream()

    def begin(self) -> None:
        """Start the transaction, take its snapshot, and set what holds until its end.

        A lock that is not had within half of the statement timeout is a transient error of its own.
        """
        timeout_ms = max(2, int(self.engine.limits.statement_timeout_s * 1000))
        settings = {
            "statement_timeout": f"{timeout_ms}",
            "lock_timeout": f"{timeout_ms // 2}",
            "idle_in_transaction_session_timeout": f"{timeout_ms}",
            "timezone": "UTC",
            "datestyle": "ISO, YMD",
            "intervalstyle": "iso_8601",
            "bytea_output": "hex",
            "extra_float_digits": "3",
        }
        self.connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        configs = ", ".join(f"set_config('{k}', '{v}', true)" for k, v in settings.items())
        with self._errors(), self._in_time(), self.connection.cursor() as cursor:
            cursor.execute(f"select pg_backend_pid(), (select {BEGUN} {OWN_SESSION}), {configs}")
            self._pid, self._begun, *_ = cursor.fetchone() or (0, None)
        with contextlib.suppress(ConfigurationError, DataError), self._cursor() as cursor:
            # So that the query of a task that was killed ends; not before version 14, and not on Windows.
            cursor.execute("select set_config('client_connection_check_interval', '2s', true)")

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; no row is read."""
        return self._describe(self._bind(query))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the column's histogram, and the columns that lead an index."""
        self._stream.refuse_second()
        with self._cursor() as cursor:
            return statistics(cursor, table, column)

    def writers(self) -> Writers:
        """Open and prepared transactions of the database, as far as the account may see them."""
        self._stream.refuse_second()
        with self._cursor() as cursor:
            return writers(cursor)

    def stream(self, query: Query) -> Stream:
        """Rows as the server's COPY prints them; COPY starts with the first batch that is asked for."""
        sql = self._bind(query)
        schema = self._describe(sql)
        return Stream(schema, self._stream.run(self._batches(sql, schema)))

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave."""
        self._stream.close()
        with contextlib.suppress(psycopg2.Error, TimeoutError), self._in_time(GRACE_S):
            self.connection.rollback()  # a lost connection has nothing left to roll back
        self.connection.close()

    def _describe(self, sql: str) -> pa.Schema:
        self._stream.refuse_second()
        with self._cursor() as cursor:
            cursor.execute(f"select * from (\n{sql}\n) _q limit 0")
            columns = cursor.description or ()
        return make_schema([pa.field(column.name, arrow_type(column)) for column in columns], self.engine)

    def _batches(self, sql: str, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        limits = self.engine.limits
        pipe = RowPipe(min(CHUNK_BYTES, limits.batch_bytes), f"copy {self.engine.label}")
        with self._statement(reading_rows=True), self.connection.cursor() as cursor:
            pipe.start(lambda: cursor.copy_expert(f"copy (\n{sql}\n) to stdout (format csv)", pipe))
            try:
                for chunk in pipe.items(limits.statement_timeout_s + GRACE_S):
                    yield from sliced(parse_csv(chunk, schema, self.engine), limits)
            except TimeoutError:
                self._cut()
                raise
            finally:
                self._end(pipe)

    def _end(self, pipe: RowPipe) -> None:
        """Leave no thread behind: ask the server to stop, and cut the line to one that does not answer."""
        pipe.stop()
        if pipe.join(0.05):
            return
        with contextlib.suppress(psycopg2.Error, ExtractionError, TimeoutError, Overdue):
            within(GRACE_S, self._cancel)
        if not pipe.join(GRACE_S):
            self._cut()
            pipe.join()

    def _cancel(self) -> None:
        """Ask the server to stop this session's query; psycopg2's own cancel() halts all of Python until it answers.

        Through a load balancer this may be another server, which has no such session.
        """
        with contextlib.closing(PostgresSession(self.engine, self.engine.connect())) as other:
            other._execute(CANCEL.format(pid=self._pid, begun=self._begun))

    def _cut(self) -> None:
        """Break the line, so that who waits for the server on it fails at once."""
        with contextlib.suppress(psycopg2.Error):
            cut_line(self.connection.fileno())

    def _in_time(self, seconds: float = 0.0) -> contextlib.AbstractContextManager[None]:
        """Cut the line when the block takes longer than that, or than the server's own timeout lets it."""
        return cut_after(seconds or self.engine.limits.statement_timeout_s + GRACE_S, self._cut)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[cursor]:
        """For one short statement, or a few."""
        with self._statement(), self._in_time(), self.connection.cursor() as cursor:
            yield cursor

    @contextlib.contextmanager
    def _statement(self, *, reading_rows: bool = False) -> Iterator[None]:
        """One statement under a savepoint, so that its failure does not cost the session its snapshot."""
        with self._errors(reading_rows=reading_rows):
            self._execute("savepoint statement")
            try:
                yield
            except BaseException:
                with contextlib.suppress(psycopg2.Error, TimeoutError):  # the error on its way says more
                    self._execute("rollback to savepoint statement", GRACE_S)
                raise
            self._execute("release savepoint statement")

    @contextlib.contextmanager
    def _errors(self, *, reading_rows: bool = False) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except psycopg2.Error as error:
            raise querying(error, self.engine, time.monotonic() - started, reading_rows=reading_rows) from None
        except TimeoutError:
            raise TransientError(f"{self.engine}: the server did not answer within its own timeout") from None

    def _execute(self, sql: str, seconds: float = 0.0) -> None:
        with self._in_time(seconds), self.connection.cursor() as cursor:
            cursor.execute(sql)

    def _bind(self, query: Query) -> str:
        try:
            return bind(query, self.engine.dialect, self._literal)
        except (ValueError, psycopg2.Error):
            raise ConfigurationError(f"{self.engine}: a query parameter is text that PostgreSQL cannot hold") from None

    def _literal(self, value: Value) -> str:
        """The value as SQL, quoted by the driver for this very connection."""
        quoted = adapt(value)
        if isinstance(quoted, QuotedString):
            quoted.prepare(self.connection)
        text: bytes = quoted.getquoted()
        return text.decode()
