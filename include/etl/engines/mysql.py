"""MySQL and MariaDB: the text protocol, streamed by an unbuffered cursor and cast by Arrow to the server's types.

Building CSV inside the server is faster for the client, but doubles the work of a live clinical database.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa
from airflow.providers.mysql.hooks.mysql import MySqlHook

from include.etl.engines.base import Engine, Query, Session, Statistics, Stream, Writers
from include.etl.engines.batches import OneStream, Row, gather, is_wide, make_schema
from include.etl.engines.binding import bind
from include.etl.engines.mysql_catalog import statistics
from include.etl.engines.mysql_driver import Driver, installed_driver
from include.etl.engines.mysql_errors import connecting, querying
from include.etl.engines.mysql_sql import exact, literal, quoted
from include.etl.engines.mysql_types import TEXT_OR_BINARY, UNSIGNED_FLAG, Column, arrow_type, to_batch
from include.etl.engines.mysql_writers import writers
from include.etl.errors import ConfigurationError, ExtractionError

GRACE_S = 5.0
"""How long after its own timeout the server may go on before the client gives up."""


class MySqlEngine(Engine):
    """Reads MySQL and MariaDB in one consistent snapshot, READ ONLY, per session, with times in UTC."""

    dialect = "mysql"

    @contextlib.contextmanager
    def session(self) -> Iterator[MySqlSession]:
        """Open a read-only session; all of its queries see the same state of the (transactional) tables."""
        driver = installed_driver()
        session = MySqlSession(self, driver, self.connect(driver))
        try:
            session.begin()
            yield session
        finally:
            session.close()

    def connect(self, driver: Driver) -> Any:
        """A new connection of the driver; also used to stop a query that runs on another one."""
        arguments = self._arguments()
        try:
            return driver.connect(arguments)
        except driver.Error as error:
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
    """One transaction; `connection` is its driver's connection."""

    consistency = "session"

    def __init__(self, engine: MySqlEngine, driver: Driver, connection: Any) -> None:
        self.engine = engine
        self.connection = connection
        self._driver = driver
        self._stream = OneStream()
        self._comment = f"/* {engine.label.replace('*/', '')} */ "

    def begin(self) -> None:
        """Set what holds for the session, and start the transaction with its snapshot.

        The server may wait for a slow reader as long as for the query, not only its default of a minute.
        """
        timeout_s = self.engine.limits.statement_timeout_s
        whole_s = max(1, math.ceil(timeout_s))
        if self.engine.limits.require_tls and not self._ask("show session status like 'Ssl_cipher'")[0][1]:
            raise self.engine.not_encrypted()
        maria = "mariadb" in str(self.connection.get_server_info()).lower()
        limit = f"max_statement_time = {timeout_s:f}" if maria else f"max_execution_time = {timeout_s * 1000:.0f}"
        self._execute(
            f"set session {limit}, time_zone = '+00:00', net_write_timeout = {whole_s}, "
            f"lock_wait_timeout = {max(1, whole_s // 2)}, innodb_lock_wait_timeout = {max(1, whole_s // 2)}"
        )
        self._execute("set session transaction isolation level repeatable read, read only")
        self._execute("start transaction with consistent snapshot, read only")

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; no row is read."""
        return self._make_schema(self._describe(self._bind(query)))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the ends of a column of whole numbers that leads an index, and the columns that do."""
        self._stream.refuse_second()
        return statistics(self._ask, table, column)

    def writers(self) -> Writers:
        """Open transactions and running statements of the server, as far as the account may see them."""
        self._stream.refuse_second()
        return writers(self._ask)

    def stream(self, query: Query) -> Stream:
        """Rows as the server prints them; the query starts with the first batch that is asked for."""
        sql = self._bind(query)
        columns = self._describe(sql)
        schema = self._make_schema(columns)
        return Stream(schema, self._stream.run(self._batches(exact(sql, columns), columns, schema)))

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave."""
        self._stream.close()
        with contextlib.suppress(self._driver.Error):  # a lost connection has nothing left to roll back
            self.connection.rollback()
        with contextlib.suppress(self._driver.Error):
            self.connection.close()

    def _make_schema(self, columns: Sequence[Column]) -> pa.Schema:
        return make_schema([pa.field(column.name, arrow_type(column)) for column in columns], self.engine)

    def _describe(self, sql: str) -> list[Column]:
        self._stream.refuse_second()
        with self._cursor(f"select * from (\n{sql}\n) _q limit 0") as cursor:
            described = list(zip(cursor.description, self._driver.flags(cursor), strict=True))
        texts = [name for (name, code, *_), _ in described if code in TEXT_OR_BINARY]
        binary = self._binary(sql, texts) if texts else set()
        return [
            Column(name, code, width, scale, bool(flags & UNSIGNED_FLAG), name in binary)
            for (name, code, _, width, _, scale, _), flags in described
        ]

    def _binary(self, sql: str, names: Sequence[str]) -> set[str]:
        """Which columns hold bytes; the outer join gives one row, for columns of a result without rows."""
        charsets = ", ".join(f"charset(_r.{quoted(name)})" for name in names)
        with self._cursor(
            f"select {charsets} from (select 1) _one left join (select * from (\n{sql}\n) _q limit 0) _r on true"
        ) as cursor:
            (row,) = cursor.fetchall()
        return {name for name, charset in zip(names, row, strict=True) if charset == b"binary"}

    def _batches(self, sql: str, columns: Sequence[Column], schema: pa.Schema) -> Generator[pa.RecordBatch]:
        with self._cursor(sql) as cursor:
            for rows in gather(self._rows(cursor, columns, schema), schema, self.engine.limits):
                yield to_batch(rows, columns, schema, self.engine)

    def _rows(self, cursor: Any, columns: Sequence[Column], schema: pa.Schema) -> Iterator[Row]:
        """Rows fetched so many at a time that even the widest that the columns allow keep the batch's bytes."""
        limits = self.engine.limits
        deadline = time.monotonic() + limits.statement_timeout_s + GRACE_S
        widest = sum(column.width for column, field in zip(columns, schema, strict=True) if is_wide(field.type))
        at_once = max(1, min(limits.batch_rows, limits.batch_bytes // max(widest, 1)))
        while rows := cursor.fetchmany(at_once):
            if time.monotonic() > deadline:
                raise self.engine.timed_out()
            yield from rows

    @contextlib.contextmanager
    def _cursor(self, sql: str) -> Iterator[Any]:
        """A cursor that has run the SQL; one that is left before its end stops the query on the server."""
        started = time.monotonic()
        cursor = self.connection.cursor()
        try:
            cursor.execute(self._comment + sql)
            yield cursor
        except self._driver.Error as error:
            self._driver.settle(cursor)
            raise querying(error, self.engine, time.monotonic() - started) from None
        except BaseException:
            self._stop(cursor)
            raise
        cursor.close()

    def _stop(self, cursor: Any) -> None:
        """Kill the query from another connection and read what is still on its way; else drop this connection."""
        try:
            with contextlib.closing(self.engine.connect(self._driver)) as other, other.cursor() as killer:
                killer.execute(f"kill query {self.connection.thread_id()}")
        except (self._driver.Error, ExtractionError):
            self._driver.abandon(cursor)
            return
        self._driver.settle(cursor)

    def _ask(self, sql: str) -> list[Row]:
        with self._cursor(sql) as cursor:
            return list(cursor.fetchall())

    def _execute(self, sql: str) -> None:
        with self._cursor(sql):
            pass

    def _bind(self, query: Query) -> str:
        try:
            return bind(query, self.engine.dialect, literal)
        except ValueError:
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in MySQL") from None
