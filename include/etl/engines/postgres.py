"""PostgreSQL: `COPY (query) TO STDOUT (format csv)`, read on a thread and parsed by Arrow into the server's types.

The hook opens psycopg 3, whose COPY takes half as long again; psycopg2 is opened here with what the hook would pass.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg2
import pyarrow as pa
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ, Column, QuotedString, adapt, connection, cursor

from include.etl.engines import postgres_relations as catalogue
from include.etl.engines import postgres_settings as pinned
from include.etl.engines.base import Engine, Numbering, Origins, Query, Session, Statistics, Stream, Value, Writers
from include.etl.engines.batches import OneStream, make_schema, sliced
from include.etl.engines.binding import bind
from include.etl.engines.deadline import Overdue, cut_after, cut_line, within
from include.etl.engines.origins import called
from include.etl.engines.postgres_catalog import key_equality, numbering, statistics, wall_clock
from include.etl.engines.postgres_connection import connection_arguments
from include.etl.engines.postgres_errors import connecting, querying
from include.etl.engines.postgres_origins import origins
from include.etl.engines.postgres_types import arrow_type, parse_csv
from include.etl.engines.postgres_writers import writers
from include.etl.engines.row_pipe import RowPipe
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError
from include.etl.handover import KeyEquality

CHUNK_BYTES = 4 << 20
DESCRIBE = "select * from (\n{}\n) _q limit 0"
ANALYSE = "prepare moh_etl_analysed as select * from (\n{}\n) _q; deallocate moh_etl_analysed"
"""Opens views and the tables below them; only a plan opens partitions and indexes, all of them where no window is."""
OLDEST = 12_00_00
"""The first version that has pg_partition_root()."""
BRIEF_MS = 200
"""How long a lock is waited for while others are held: less than any deadlock_timeout in use (1 s by default)."""
TRIES = 3
"""Transactions that a session begins at most where tables are replaced while they are opened."""
GRACE_S = 5.0
"""How long after its own timeout the server may stay silent before the client gives up."""
BEGUN = "to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
OWN_SESSION = "from pg_stat_activity where pid = pg_backend_pid()"
READ_BACK = f"""select pg_backend_pid(), (select {BEGUN} {OWN_SESSION}),
(select json_object_agg(lower(name), setting) from pg_settings where lower(name) = any(%s)),
('x' || encode(cash_send(1::money), 'hex'))::bit(64)::bigint, current_setting('lc_monetary')"""
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
        self._read, self._names = False, set[str]()
        self._locks: dict[str, str] = {}

    def begin(self) -> None:
        """Start the transaction and set what holds until its end. Its snapshot comes with the first query."""
        self._ready, self._locked = False, set[str]()
        self.connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        if self.connection.server_version < OLDEST:
            raise ConfigurationError(
                f"{self.engine}: the server's version is {self.connection.server_version // 10_000}; allowed: 12 and "
                "later, as older ones do not tell whether a partition was replaced while it was read"
            )
        limits = self.engine.limits
        row_security = "on" if limits.row_security == "apply" else "off"
        self._settings = pinned.settings(limits, self.connection.server_version, row_security=row_security)
        self._pin(pinned.pinning(self._settings))
        ((shown,),) = self._ask(pinned.SEARCH_PATH)
        self._schemas = pinned.search_path(pinned.declared_path(self.connection.info.options) or shown)
        self._ask(pinned.setting_path(self._schemas))
        self._ask(f"set local application_name to {self._literal(self.engine.label)}")
        with contextlib.suppress(ConfigurationError, DataError):
            # So that the query of a task that was killed ends; not before version 14, and not on Windows.
            self._ask("set local client_connection_check_interval to '2s'")

    def _pin(self, statements: Sequence[str]) -> None:
        """All at once, or one by one where the server does not take some; what it took is read back later."""
        try:
            self._ask("; ".join(statements))
        except (ConfigurationError, DataError):
            for statement in statements:
                with contextlib.suppress(ConfigurationError, DataError):
                    self._ask(statement)

    def _open(self, query: Query | None = None) -> None:
        """Lock the query's tables, and only then take the snapshot and read back what was set.

        A transaction that has a snapshot already begins anew for tables that it has not locked, if no row is read yet.
        """
        names = self._names | (set(catalogue.named(query.sql)) if query else set())
        known, self._names = names == self._names, names
        if self._ready and (known or self._read):
            return
        if names:
            with self._cursor() as cursor:
                self._locks = catalogue.lockable(cursor, names)
            self._begin_anew()
        self._lock_all()
        with self._cursor() as cursor:
            cursor.execute(READ_BACK, (pinned.names(self._settings),))
            self._pid, self._begun, found, *unit = cursor.fetchone() or (0, None, {}, 100, "")
        if unlike := "; ".join(pinned.unlike(found, self._settings, self._schemas)):
            raise ConfigurationError(
                f"{self.engine}: the session is not set as reading needs it, and nothing was read: {unlike}. Ask the "
                "database's administrator, or connect to the server without a pooler"
            )
        other_money = list(pinned.money(*unit))
        with self._cursor() as cursor:
            self.unpinned = [*pinned.unpinned(found), *other_money, *catalogue.not_locked(cursor, names - self._locked)]
            self._locked |= catalogue.absent(cursor, names - self._locked)
            if not other_money:
                cursor.execute(pinned.MONEY)
        self._ready = True

    def _lock_all(self) -> None:
        """Lock the tables; one that is not had at once, while others are held, is waited for anew with empty hands.

        Otherwise a migration that holds it, and wants one of the others, could be ended as the victim of a deadlock.
        """
        until = time.monotonic() + self.engine.limits.statement_timeout_s / 2
        order = sorted(self._locks)
        while blocked := self._first_blocked(order, until):
            order = [blocked, *(name for name in order if name != blocked)]
            self._begin_anew()

    def _first_blocked(self, order: Sequence[str], until: float) -> str:
        (patience,) = [int(one.value) for one in self._settings if one.name == "lock_timeout"]
        self._locked = set()
        for name in order:
            try:
                self._locked |= {name} if self._lock(self._locks[name]) else set()
            except TransientError as error:
                if catalogue.NOT_HAD not in str(error) or not self._locked or time.monotonic() > until:
                    raise
                return name
            self._ask(f"set local lock_timeout to {min(BRIEF_MS, patience) if self._locked else patience}")
        self._ask(f"set local lock_timeout to {patience}")
        return ""

    def _lock(self, statement: str) -> bool:
        """Whether it could be done; what cannot be locked is compared with the snapshot once it is open.

        A lock that is not had within half of the statement timeout is a transient error.
        """
        try:
            self._ask(statement)
        except ConfigurationError:  # it is another one since the catalogue was asked
            return False
        except TransientError as error:
            if catalogue.FULL not in str(error):
                raise
            return False
        return True

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; no row is read."""
        schema, _ = self._describe(query)
        return schema

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the column's histogram, and the columns that lead an index."""
        with self._asking() as cursor:
            return statistics(cursor, table, column)

    def writers(self) -> Writers:
        """Open and prepared transactions of the database, as far as the account may see them."""
        with self._asking() as cursor:
            return writers(cursor)

    def origins(self, query: Query) -> Origins:
        """What the query reads, by the catalogue: through views, and down to partitions, which stay closed."""
        self._opened(query, ANALYSE)
        names = catalogue.named(query.sql)
        with self._cursor() as cursor:
            own, found = catalogue.resolved(cursor, names), catalogue.relations(cursor, names)
            not_built_in = catalogue.functions(cursor, names, called(query.sql, self.engine.dialect))
            cursor.execute("set local search_path to pg_catalog")  # so that views print their tables with their schemas
            views = catalogue.definitions(cursor, found)
            cursor.execute(pinned.setting_path(self._schemas))
        policies = self.engine.limits.row_security == "apply"
        return origins(query.sql, own, found, views, not_built_in, policies=policies)

    def numbering(self, table: str, column: str) -> Numbering | None:
        """The sequence that hands out the column's numbers."""
        with self._asking() as cursor:
            return numbering(cursor, table, column)

    def wall_clock(self, moments: Sequence[datetime]) -> Mapping[datetime, datetime]:
        """What sessions that set no zone print at these moments."""
        with self._asking() as cursor:
            return wall_clock(cursor, moments)

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:
        """By the types and collations of the result's columns."""
        _, sql = self._describe(query)
        with self._cursor() as cursor:
            found = {name: key_equality(cursor, sql, name) for name in columns}
        return {name: equality for name, equality in found.items() if equality}

    def stream(self, query: Query) -> Stream:
        """Rows as the server's COPY prints them; COPY starts with the first batch that is asked for."""
        schema, sql = self._describe(query)
        return Stream(schema, self._stream.run(self._batches(sql, schema)))

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave."""
        self._stream.close()
        with contextlib.suppress(psycopg2.Error, TimeoutError), self._in_time(GRACE_S):
            self.connection.rollback()  # a lost connection has nothing left to roll back
        self.connection.close()

    def _describe(self, query: Query) -> tuple[pa.Schema, str]:
        """The result's columns, and the query as it was sent. The server opens all that the query reads."""
        columns, sql = self._opened(query, DESCRIBE)
        return make_schema([pa.field(one.name, arrow_type(one)) for one in columns], self.engine), sql

    def _opened(self, query: Query, statement: str) -> tuple[Sequence[Column], str]:
        """What the statement tells of the query's columns, and the query as it was sent.

        Where something was replaced while it waited to be opened, the transaction begins anew if no row is read yet.
        """
        self._stream.refuse_second()
        for _ in range(TRIES):
            self._open(query)
            sql = self._bind(query)
            with self._cursor() as cursor:
                cursor.execute(statement.format(sql))
                columns = cursor.description or ()
            replaced = self._replaced()
            if not replaced:
                return columns, sql
            if self._read:
                break
            self._begin_anew()
        raise self._older(replaced)

    def _begin_anew(self) -> None:
        with self._errors(), self._in_time(GRACE_S):
            self.connection.rollback()
        self.begin()

    def _replaced(self) -> list[str]:
        with self._cursor() as cursor:
            return catalogue.changed(cursor, locked=self._names <= self._locked)

    def _older(self, replaced: Sequence[str]) -> TransientError:
        return TransientError(
            f"{self.engine}: {', '.join(replaced)}: emptied, rewritten or replaced by another session (TRUNCATE, "
            "ALTER, RENAME, REFRESH, ATTACH) while it was read, so that rows may be missing; nothing is published of it"
        )

    def _batches(self, sql: str, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        limits, self._read = self.engine.limits, True
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
        if replaced := self._replaced():
            raise self._older(replaced)

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
    def _asking(self) -> Iterator[cursor]:
        """For questions to the catalogue, in a session that is set as it has to be."""
        self._stream.refuse_second()
        self._open()
        with self._cursor() as cursor:
            yield cursor

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

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one short statement, or of the last of a few."""
        with self._cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

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
