"""Oracle: python-oracledb's data frames in Arrow, with every type asked for by name, in a READ ONLY transaction.

Oracle keeps an empty string as NULL, so a column of text has no empty strings.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import oracledb
import pyarrow as pa
from airflow.providers.oracle.hooks.oracle import OracleHook
from airflow.sdk import Connection

from include.etl.engines.base import Engine, Numbering, Origins, Query, Session, Statistics, Stream, Writers
from include.etl.engines.batches import OneStream, joined, make_schema, rows_at_once
from include.etl.engines.deadline import Overdue, within
from include.etl.engines.oracle_catalog import key_equality, numbering, statistics, wall_clock
from include.etl.engines.oracle_errors import connecting, querying
from include.etl.engines.oracle_origins import origins
from include.etl.engines.oracle_settings import pin
from include.etl.engines.oracle_sql import bound, converted
from include.etl.engines.oracle_types import Plan, plan, requested, to_batch, unreadable
from include.etl.engines.oracle_writers import writers
from include.etl.errors import ConfigurationError, TransientError
from include.etl.handover import KeyEquality

T = TypeVar("T")

GRACE_S = 2.0
"""How long the driver may take to stop before its connection is left behind."""
MODULE_BYTES, ACTION_BYTES, IDENTIFIER_BYTES = 48, 32, 64
ERRORS = (oracledb.Error, OSError)
TWICE = "ORA-00918"


class Hook(OracleHook):
    """The provider's, which takes a schema without a service name for that name, and then as current schema as well."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The connection, with the service's name where the hook does not mistake it."""
        conn: Connection = super().get_connection(conn_id)
        extra = conn.extra_dejson
        if conn.host and conn.schema and not extra.get("service_name") and not extra.get("sid"):
            conn.extra, conn.schema = json.dumps({**extra, "service_name": conn.schema}), None
        return conn


class OracleEngine(Engine):
    """Reads Oracle in one READ ONLY transaction per session, with times in UTC."""

    dialect = "oracle"

    @contextlib.contextmanager
    def session(self) -> Iterator[OracleSession]:
        """Open a read-only session; all of its queries see the same state of the database."""
        session = OracleSession(self, self._connect())
        try:
            session.begin()
            yield session
        finally:
            session.close()

    def _connect(self) -> Any:
        """What the hook opens: by service name, SID, DSN or wallet, thick where the connection says so."""
        hook = Hook(oracle_conn_id=self.conn_id)
        wait_s = self.limits.connect_timeout_s
        password = hook.get_connection(self.conn_id).password or ""
        try:
            return within(wait_s, hook.get_conn)
        except Overdue:
            raise TransientError(
                f"{self}: cannot connect: no answer within extract.connect_timeout = {wait_s:g} s"
            ) from None
        except ERRORS as error:
            raise connecting(error, self, password) from None


class OracleSession(Session):
    """One transaction; `connection` is its oracledb connection."""

    consistency = "session"

    def __init__(self, engine: OracleEngine, connection: Any) -> None:
        self.engine = engine
        self.connection = connection
        self._stream = OneStream()
        self._lost = False

    def begin(self) -> None:
        """Say who reads, set what holds for the session, and take the snapshot."""
        label = self.engine.label
        self.connection.module = label.encode()[:MODULE_BYTES].decode(errors="ignore")
        self.connection.action = label.encode()[:ACTION_BYTES].decode(errors="ignore")
        self.connection.client_identifier = label.encode()[:IDENTIFIER_BYTES].decode(errors="ignore")
        # The limit of one round trip; the deadline of the whole read is kept by _call.
        self.connection.call_timeout = max(1, math.ceil(self.engine.limits.statement_timeout_s * 1000))
        if self.engine.limits.require_tls:
            self._refuse_plain()
        self._run("alter session set time_zone = '+00:00'")
        self.unpinned = pin(self._run, self._rows, self.engine)
        self._run("set transaction read only")

    def schema(self, query: Query) -> pa.Schema:
        """Column names and types, as the server describes the result; the query is not run."""
        return self._make_schema(self._describe(self._bind(query)[0]))

    def statistics(self, table: str, column: str) -> Statistics:
        """Estimated rows, the column's histogram or ends, and the columns that lead an index."""
        self._stream.refuse_second()
        return statistics(self._ask, table, column)

    def numbering(self, table: str, column: str) -> Numbering | None:
        """The sequence that hands out the column's numbers."""
        self._stream.refuse_second()
        return numbering(self._ask, table, column)

    def wall_clock(self, moments: Sequence[datetime]) -> Mapping[datetime, datetime]:  # noqa: ARG002 - it knows now only
        """What the server's clock shows now."""
        self._stream.refuse_second()
        return wall_clock(self._ask)

    def origins(self, query: Query) -> Origins:
        """What the query reads, through views and synonyms, and what of it the account is not shown."""
        self._stream.refuse_second()
        return origins(self._ask, query.sql, self.engine, self.engine.limits.row_security)

    def writers(self) -> Writers:
        """Transactions of the database that have written, as far as the account may see them."""
        self._stream.refuse_second()
        return writers(self._rows)

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:
        """By the collations of the result's columns; numbers, intervals and row ids are printed in one way."""
        sql, values = self._bind(query)
        texts = [one for one in self._describe(sql) if one.field.name in columns and not one.is_converted]
        found = {
            one.field.name: key_equality(self._ask, sql, values, one.field.name, padded=one.padded) for one in texts
        }
        return {name: equality for name, equality in found.items() if equality}

    def stream(self, query: Query) -> Stream:
        """Rows as the driver's data frames hold them; the query starts with the first batch that is asked for."""
        sql, values = self._bind(query)
        plans = self._describe(sql)
        schema = self._make_schema(plans)
        if any(plan.is_converted for plan in plans):
            sql = converted(sql, [f'{plan.expression} as "{plan.field.name}"' for plan in plans])
        return Stream(schema, self._stream.run(self._batches(sql, values, plans, schema)))

    def close(self) -> None:
        """End a stream that still runs, roll back, and leave; a connection that does not answer is left behind."""
        self._stream.close()
        if not self._lost:
            with contextlib.suppress(Overdue):
                within(GRACE_S, self._leave)

    def _leave(self) -> None:
        with contextlib.suppress(*ERRORS):  # a lost connection has nothing left to roll back
            self.connection.rollback()
        with contextlib.suppress(*ERRORS):
            self.connection.close()

    def _refuse_plain(self) -> None:
        (protocol,) = self._run("select sys_context('userenv', 'network_protocol') from dual").fetchone()
        if str(protocol).lower() != "tcps":
            raise self.engine.not_encrypted()

    def _make_schema(self, plans: Sequence[Plan]) -> pa.Schema:
        return make_schema([plan.field for plan in plans], self.engine)

    def _describe(self, sql: str) -> list[Plan]:
        """The server parses the query as part of another one: parsing a DDL statement by itself would run it."""
        self._stream.refuse_second()
        with contextlib.closing(self.connection.cursor()) as cursor:
            try:
                self._call(lambda: cursor.parse(f"select * from (\n{sql}\n)"), time.monotonic())
            except ConfigurationError as error:
                if TWICE in str(error):  # so it is a SELECT, and by itself it tells which name comes twice
                    self._call(lambda: cursor.parse(sql), time.monotonic())
                    make_schema([pa.field(column[0], pa.null()) for column in cursor.description], self.engine)
                raise
            return [plan(column, self.engine) for column in cursor.description]

    def _batches(
        self, sql: str, values: dict[str, Any], plans: Sequence[Plan], schema: pa.Schema
    ) -> Generator[pa.RecordBatch]:
        limits, started = self.engine.limits, time.monotonic()
        frames: Generator[Any] = self.connection.fetch_df_batches(
            statement=sql,
            parameters=values or None,
            size=rows_at_once((plan.width for plan in plans), limits),
            requested_schema=requested(plans),
        )
        try:
            yield from joined(self._fetched(frames, started, schema), limits)
        except (ValueError, OverflowError) as error:  # Python's own; its text quotes the value
            raise unreadable(error, plans, self.engine) from None
        finally:
            if not self._lost:
                frames.close()

    def _fetched(self, frames: Generator[Any], started: float, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        while (frame := self._call(lambda: next(frames, None), started)) is not None:
            if frame.num_rows():
                yield to_batch(frame, schema, self.engine)

    def _ask(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        started = time.monotonic()
        with contextlib.closing(self.connection.cursor()) as cursor:
            self._call(lambda: cursor.execute(sql, values), started)
            return self._call(cursor.fetchall, started)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._call(self._run(sql).fetchall, time.monotonic())

    def _run(self, sql: str) -> Any:
        cursor = self.connection.cursor()
        self._call(lambda: cursor.execute(sql), time.monotonic())
        return cursor

    def _call(self, call: Callable[[], T], started: float) -> T:
        """What the driver gives; once the statement's time is over there is an error, even if the server is silent."""
        if self._lost:
            raise TransientError(f"{self.engine}: the connection to the server was lost")
        deadline = started + self.engine.limits.statement_timeout_s
        try:
            return within(deadline - time.monotonic(), call)
        except Overdue as overdue:
            self._give_up(overdue)
            raise self._silent() if self._lost else self.engine.timed_out() from None
        except ERRORS as error:
            raise querying(error, self.engine, time.monotonic() - started) from None

    def _silent(self) -> TransientError:
        return TransientError(f"{self.engine}: the server answers no more, not even when it is asked to stop")

    def _give_up(self, overdue: Overdue) -> None:
        """Cancel what runs; if even that does not end the call, the connection is not touched again."""
        with contextlib.suppress(Overdue, *ERRORS):
            within(GRACE_S, self.connection.cancel)
        overdue.thread.join(GRACE_S)
        self._lost = overdue.thread.is_alive() or not self.connection.is_healthy()

    def _bind(self, query: Query) -> tuple[str, dict[str, Any]]:
        try:
            return bound(query)
        except ValueError:
            raise ConfigurationError(f"{self.engine}: a query parameter has no form in Oracle") from None
