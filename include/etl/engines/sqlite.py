"""SQLite: the standard library's reader, on a file opened read-only, with the types that its columns declare."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pyarrow as pa
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.sqlite.hooks.sqlite import SqliteHook

from include.etl.engines.base import Engine, Numbering, Origins, Query, Session, Statistics, Stream, Value, Writers
from include.etl.engines.batches import OneStream, gather, make_schema
from include.etl.engines.binding import bind
from include.etl.engines.sqlite_catalog import key_equality, numbering, statistics
from include.etl.engines.sqlite_origins import origins
from include.etl.engines.sqlite_settings import pin, unlocked, with_names
from include.etl.engines.sqlite_totals import register
from include.etl.engines.sqlite_types import declared_type, stored_type, to_batch
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError
from include.etl.handover import KeyEquality

STEPS_PER_CHECK = 10_000
"""Instructions of SQLite's machine between two looks at the clock, well under a millisecond's work."""
TRANSIENT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
DATA = {sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
DATA_MESSAGES = {"integer overflow", "malformed JSON"}
BAD_TEXT = re.compile(r"Could not decode to UTF-8 column '(.*?)' with text", re.DOTALL)
RENAMED = re.compile(r"(.*):\d+", re.DOTALL)


class SqliteEngine(Engine):
    """Reads an SQLite file that cannot be written through the session: it is opened so, and the session refuses."""

    dialect = "sqlite"

    @contextlib.contextmanager
    def session(self) -> Iterator[SqliteSession]:
        """Open a read-only session in one transaction; all of its queries see the same state of the file."""
        with contextlib.closing(self.connect()) as connection:
            session = SqliteSession(self, connection)
            session.begin()
            try:
                yield session
            finally:
                session.close()

    def connect(self) -> sqlite3.Connection:
        """A new connection to the file, opened read-only, which waits for a lock as long as for a connection."""
        uri, wait_s = self._uri(), self.limits.connect_timeout_s
        with self.errors():
            return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise SQLite's errors as this project's."""
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(error, self) from None

    def _uri(self) -> str:
        """The hook's URI, always read-only; the hook leaves the path unquoted."""
        path, _, _ = self._place()
        return f"file:{quote(path)}?{urlencode({**self.options(), 'mode': 'ro'})}"

    def options(self) -> dict[str, str]:
        """What the connection's extras say of how to open the file."""
        return dict(parse_qsl(self._place()[2]))

    def _place(self) -> tuple[str, str, str]:
        hook: DbApiHook = SqliteHook(sqlite_conn_id=self.conn_id)  # type: ignore[no-untyped-call]
        return hook.get_uri().removeprefix("sqlite:///").partition("?")


class SqliteSession(Session):
    """One transaction; `connection` is its sqlite3 connection."""

    consistency = "session"

    def __init__(self, engine: SqliteEngine, connection: sqlite3.Connection) -> None:
        self.engine = engine
        self.connection = connection
        self._stream = OneStream()

    def begin(self) -> None:
        """Refuse all writing, and start the transaction; the first query takes its snapshot."""
        with self.engine.errors():
            pin(self.connection, self.engine)
            self.connection.execute("begin")
        self.unpinned = unlocked(self.engine.options())

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types; only columns that declare no type are looked at, in one pass over the result."""
        self._stream.refuse_second()
        with self._running():
            declared = self._declared(query)
            kinds = {name: declared_type(declaration) for name, declaration in declared}
            unknown = [name for name, kind in kinds.items() if kind is None]
            stored = self._stored(query, unknown) if unknown else {}
        return make_schema([pa.field(name, kinds[name] or stored[name]) for name, _ in declared], self.engine)

    def statistics(self, table: str, column: str) -> Statistics:
        """Rows by the highest rowid, and the ends of a column of whole numbers that leads an index."""
        with self._running():
            return statistics(self.connection, table, column)

    def origins(self, query: Query) -> Origins:
        """What the query reads, through views and virtual tables."""
        with self._running():
            return origins(self.connection, query.sql)

    def writers(self) -> Writers:
        """A reader cannot see who writes. One writes at a time, while all others wait: it is taken to be done soon."""
        return Writers(
            datetime.now(UTC), unseen="SQLite does not show who writes", usual_lag=timedelta(0), curable=False
        )

    def numbering(self, table: str, column: str) -> Numbering | None:
        """Whether the column is the rowid, and AUTOINCREMENT."""
        with self._running():
            return numbering(self.connection, table, column)

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:
        """By asking SQLite itself, which compares two texts as the result's column does."""
        self._stream.refuse_second()

        def ask(sql: str) -> list[Any]:
            with self._running():
                return self._execute(sql, query).fetchall()

        found = {name: key_equality(ask, _unclosed(query), name) for name in columns}
        return {name: equality for name, equality in found.items() if equality}

    def stream(self, query: Query) -> Stream:
        """Rows as they are stored, fitted to the declared types; reading starts with the first batch asked for."""
        schema = self.schema(query)
        return Stream(schema, self._stream.run(self._batches(query, schema)))

    def single_row(self, query: Query) -> list[Any]:
        """The only row of a query, which may use the aggregates of `sqlite_totals.py`."""
        self._stream.refuse_second()
        register(self.connection)
        with self._running():
            (row,) = self._execute(_unclosed(query), query).fetchall()
        return list(row)

    def close(self) -> None:
        """End a stream that still runs, and roll back."""
        self._stream.close()
        if self.connection.in_transaction:  # an error of the disk has ended it
            self.connection.execute("rollback")

    def _declared(self, query: Query) -> list[tuple[str, str]]:
        """Name and declared type of each column, from a temporary view that lives on a connection of its own.

        A view takes no parameters, and renames the second of two columns `a` to `a:1`.
        """
        select = with_names(bind(query, self.engine.dialect, lambda _: "null"))
        with contextlib.closing(self.engine.connect()) as connection:
            connection.execute(f"create temp view _q as select * from (\n{select}\n)")
            described = connection.execute("pragma temp.table_info(_q)").fetchall()
        names = {name for _, name, *_ in described}
        return [(_original(name, names), declaration) for _, name, declaration, *_ in described]

    def _stored(self, query: Query, names: Sequence[str]) -> dict[str, pa.DataType]:
        classes = ", ".join(f"group_concat(distinct typeof({_quoted(name)}))" for name in names)
        (row,) = self._execute(f"select {classes} from (\n{_unclosed(query)}\n)", query)
        found = [set((text or "").split(",")) - {"", "null"} for text in row]
        return {name: stored_type(name, kinds, self.engine) for name, kinds in zip(names, found, strict=True)}

    def _batches(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        with self._running(), contextlib.closing(self._execute(_unclosed(query), query)) as cursor:
            for rows in gather(cursor, schema, self.engine.limits):
                yield to_batch(rows, schema, self.engine)

    def _execute(self, sql: str, query: Query) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, {name: _adapted(value) for name, value in query.params.items()})
        except (UnicodeEncodeError, OverflowError):
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in SQLite") from None

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Statements under the statement timeout."""
        deadline = time.monotonic() + self.engine.limits.statement_timeout_s
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_PER_CHECK)
        try:
            with self.engine.errors():
                yield
        finally:
            self.connection.set_progress_handler(None, 0)


def _translated(error: sqlite3.Error, engine: SqliteEngine) -> ExtractionError:
    """SQLite's messages quote the SQL, where parameters are not, and in one case the data."""
    bad_text = BAD_TEXT.search(str(error))
    if bad_text:
        return DataError(f"{engine}: column {bad_text[1]!r} holds text that is not UTF-8; cast it to blob in the query")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the code, the rest its details
    if code == sqlite3.SQLITE_INTERRUPT:
        return engine.timed_out()
    if code in DATA or str(error) in DATA_MESSAGES:
        return DataError(f"{engine}: {error}")
    return (TransientError if code in TRANSIENT else ConfigurationError)(f"{engine}: {error}")


def _adapted(value: Value) -> str | int | float | bytes | None:
    """The value as SQLite compares it with what it stores.

    Times are UTC, as ISO text in its shortest form: an equal time that is stored longer is not less than it, which is
    what windows `>= :start and < :end` need. Decimals are numbers when that loses nothing.
    """
    match value:
        case datetime():
            utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            text = utc.isoformat(" ")
            return text.rstrip("0") if utc.microsecond else text
        case date():
            return value.isoformat()
        case Decimal():
            return _number(value)
        case _:
            return value


def _number(value: Decimal) -> str | int | float:
    if not value.is_finite():
        raise OverflowError("not a finite number")
    if value == value.to_integral_value() and abs(value) < 1 << 63:
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else f"{value:f}"


def _unclosed(query: Query) -> str:
    """The SQL without a closing semicolon, its placeholders left to SQLite."""
    return with_names(bind(Query(query.sql), SqliteEngine.dialect, str))


def _original(name: str, names: set[str]) -> str:
    renamed = RENAMED.fullmatch(name)
    return renamed[1] if renamed and renamed[1] in names else name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
