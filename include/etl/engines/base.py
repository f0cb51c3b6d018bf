"""The contract between the system and a database: a read-only session that streams Arrow record batches.

One engine is one file beside this one and one line in `engines/__init__.py`. An engine is made from an Airflow
connection id; it takes host, credentials, extras and TLS options through the provider's hook.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality

if TYPE_CHECKING:
    import pyarrow as pa

Value = str | int | float | Decimal | bytes | date | datetime | None
Consistency = Literal["session", "query", "none"]


@dataclass(frozen=True)
class Query:
    """One SELECT whose values stand as `:name` and are bound, never pasted."""

    sql: str
    params: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much a session may ask of the source, and how much memory one batch may take."""

    batch_rows: int = 10_000
    batch_bytes: int = 16 << 20
    statement_timeout_s: float = 300.0
    connect_timeout_s: float = 10.0
    require_tls: bool = False
    """Refuse a connection that is not encrypted."""
    row_security: Literal["refuse", "apply"] = "refuse"
    """What to do where a policy of the database would hide rows from the account."""


class Stream(NamedTuple):
    """The schema is known before the first row; a result without rows has no batches, or empty ones."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Step(NamedTuple):
    """A value of a column's histogram, and the weights of what lies between the one before and it, and at it."""

    value: Value
    between: float = 0.0
    at: float = 0.0


class Statistics(NamedTuple):
    """What the catalogue says of a table, without reading it; nothing where it says nothing."""

    rows: int | None = None
    """Estimated number of rows."""
    steps: Sequence[Step] = ()
    """The column's histogram, or just its two ends, in the column's own order; weights are relative to one another."""
    missing: float = 0.0
    """Weight of the rows without a value."""
    leading: frozenset[str] | None = None
    """Columns that lead an index; None where that is not known."""


@dataclass(frozen=True)
class Writer:
    """A transaction in flight that may still write."""

    since: datetime
    """When it began."""
    session: str
    """Who it is, as a DBA finds it: ids and names, never the text of a query."""
    begun_earlier: bool = False
    """It began before `since`, and nobody knows when: a prepared transaction, or one from before a restart."""


class Origins(NamedTuple):
    """Where a query's rows come from, as the catalogue tells it: through views and partitions down to the tables."""

    relations: Sequence[str] = ()
    """What the names of the query stand for in this very session, as `schema.name`, and what lies below views."""
    partitions: Sequence[str] = ()
    """Tables that lie below a relation as a part of its rows: they come and go with time."""
    attached: Sequence[str] = ()
    """Those of them that were tables of their own before: their rows came with them, whatever their stamps."""
    elsewhere: str = ""
    """Why writers of some relation cannot be among this server's transactions: a foreign table, a linked server."""
    caveats: Sequence[str] = ()
    """Why a row may appear long after it was stamped, which no lag cures: a materialised view, a join."""
    cured: Sequence[str] = ()
    """The same, where the source's YAML has the cure: it looks back, or reads everything now and then."""
    unchecked: Sequence[str] = ()
    """Why a session cannot make sure that it reads all rows: a table that another server keeps."""
    hidden: Sequence[str] = ()
    """Which rows the account is not shown, as the source's YAML wants it."""


class Writers(NamedTuple):
    """Who may still write rows that bear a time of the past; what is committed later than this is not older."""

    now: datetime
    """The server's clock, read before its transactions were listed."""
    in_flight: Sequence[Writer] = ()
    """All transactions that may still write, other than this system's own readers."""
    unseen: str = ""
    """Why some transactions cannot be seen; empty where all are."""
    usual_lag: timedelta = timedelta(minutes=10)
    """How long transactions are taken to last at least where they cannot be seen."""
    curable: bool = True
    """Whether a grant, or another server, would show what is unseen."""
    origins: Origins = Origins()
    """Where the rows of the source that is read come from."""


class Numbering(NamedTuple):
    """Where the numbers of a column come from, as the catalogue tells it."""

    generator: str = ""
    """What hands them out, such as `sequence public.visits_id_seq`; empty where whoever writes brings one along."""
    step: int = 1
    last: int | None = None
    """The number that it has handed out last, at least; None where that is not to be seen."""
    cycles: bool = False
    """It begins again once its numbers are used up."""
    ahead: int = 1
    """How many numbers a session takes at once, and keeps for later transactions."""
    others: str = ""
    """Why numbers may come in another order than they are handed out in, or come again."""


class RowVersions(NamedTuple):
    """Where SQL Server's counter of a database's changes stands."""

    next: int
    """The first number that has not been handed out."""
    decided: int
    """Everything that bears a smaller number has been committed."""


OWN = "moh-etl"
"""What the label of every session of this system begins with."""


def identified(**names: object) -> str:
    """`pid=12 user='app'`: names of a session, on one line whatever a client called itself."""
    return " ".join(f"{name}={value!r}"[:200] for name, value in names.items() if value not in (None, ""))


class Session(abc.ABC):
    """An open read-only session, seeing one state of the database where the engine can give that."""

    consistency: Consistency
    """What sees one state of the database: all queries of the session, each query by itself, or nothing (rows that
    change while they are read may be missed or come twice)."""

    unpinned: Sequence[str] = ()
    """Settings that change a result and could not be set as it needs them: name, value, and what may follow from it."""

    @abc.abstractmethod
    def schema(self, query: Query) -> pa.Schema:
        """Column names and exact Arrow types of the result, without reading rows. Parameters may be None."""

    def written(self, query: Query, columns: Collection[str]) -> Query:  # noqa: ARG002 - for engines that need it
        """The query, with these columns as the very text that `stream` gives where SQL cannot hash their own type."""
        return query

    def statistics(self, table: str, column: str) -> Statistics:  # noqa: ARG002 - for engines that know
        """What the catalogue says of `table` (schema.table) and this column of it."""
        return Statistics()

    def writers(self) -> Writers:
        """Who may still write. An engine that cannot tell says so."""
        return Writers(datetime.now(UTC), unseen="this engine cannot see them")

    def origins(self, query: Query) -> Origins:  # noqa: ARG002 - for engines that have a catalogue
        """Where the query's rows come from. An engine that cannot tell says so in `caveats`, or has but one file."""
        return Origins()

    def numbering(self, table: str, column: str) -> Numbering | None:  # noqa: ARG002 - for engines that know
        """What hands out the numbers of this column of `table` (schema.table); None where the catalogue is mute."""
        return None

    def wall_clock(self, moments: Sequence[datetime]) -> Mapping[datetime, datetime]:  # noqa: ARG002 - as above
        """What a clock in the server's own time zone shows at these moments, or now; nothing where it has no zone."""
        return {}

    def key_equality(self, query: Query, columns: Collection[str]) -> Mapping[str, KeyEquality]:  # noqa: ARG002
        """Which texts of these columns of the result, that Arrow has as text, are equal to the source; reads no row.

        A column that is left out is compared by its bytes. An engine that cannot tell says so.
        """
        return {name: KeyEquality(untold="this engine does not tell how it compares text") for name in columns}

    def row_versions(self, query: Query, column: str) -> RowVersions:  # noqa: ARG002 - for the engine that has them
        """How far the row versions in this column of the query are decided; a ConfigurationError where it has none."""
        raise ConfigurationError("cursor.type: 'rowversion': only SQL Server has such columns; allowed: time, number")

    @abc.abstractmethod
    def stream(self, query: Query) -> Stream:
        """Rows of the query in batches of at most `Limits.batch_rows`; memory does not grow with the result."""

    def single_row(self, query: Query) -> list[Any]:
        """The only row of a query that counts or sums up."""
        _, batches = self.stream(query)
        (row,) = [list(row.values()) for batch in batches for row in batch.to_pylist()]
        return row


class Engine(abc.ABC):
    """What one kind of database needs in order to be read.

    Raises:
        TransientError: the server is away, is overloaded, or broke the connection.
        ConfigurationError: credentials, host, table or SQL are wrong, or the statement timeout fired.
        DataError: a value has no exact form in its column's Arrow type.
    """

    dialect: ClassVar[str]
    """Name of the SQL dialect as sqlglot knows it."""

    def __init__(self, conn_id: str, limits: Limits | None = None, label: str = "") -> None:
        """`label` names the reader to the database (application name), so that a DBA sees who reads."""
        self.conn_id = conn_id
        self.limits = limits or Limits()
        self.label = label or OWN

    def __str__(self) -> str:
        """How an error message names the reader: its label and its connection."""
        return f"{self.label}: connection {self.conn_id!r}"

    def timed_out(self) -> ConfigurationError:
        """The error to raise when the statement timeout fired."""
        return ConfigurationError(
            f"{self}: the query did not end within extract.statement_timeout = {self.limits.statement_timeout_s:g} s; "
            "raise that limit, narrow the window, split it into slices, or add an index"
        )

    def not_encrypted(self) -> ConfigurationError:
        """The error for a plain connection where `require_tls` is set."""
        return ConfigurationError(
            f"{self}: the connection is not encrypted, as extract.require_tls wants it; switch TLS on at the server "
            "or correct the connection's TLS options"
        )

    @abc.abstractmethod
    def session(self) -> AbstractContextManager[Session]:
        """Open a read-only session and close it, rolled back, at the end of the `with` block."""
