"""A `Lab` is a real database and the little SQL in which databases differ."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from include.etl.engines import engine_class
from include.etl.engines.base import Engine, Limits, Query, Value
from tests.servers import DatabaseServer

CONN_ID = "contract"
LABEL = "moh-etl contract"
DECLARED = {
    "postgres": {"text": "varchar(200)", "naive": "timestamp", "zoned": "timestamptz"},
    "sqlite": {"text": "varchar(200)", "naive": "timestamp", "zoned": "timestamptz"},
    "mysql": {"text": "varchar(200)", "naive": "datetime(6)", "zoned": "timestamp(6)"},
    "mssql": {"text": "nvarchar(200)", "naive": "datetime2(6)", "zoned": "datetimeoffset(7)"},
    "oracle": {
        "text": "varchar2(400)",
        "bigint": "number(19)",
        "decimal(20,2)": "number(20,2)",
        "double precision": "binary_double",
        "naive": "timestamp(6)",
        "zoned": "timestamp(6) with time zone",
    },
}


@dataclass
class Lab:
    """A database to write to, and its engine to read with."""

    kind: str
    execute: Callable[[str], Any]
    server: DatabaseServer | None = None

    @property
    def database(self) -> str:
        """The database, whatever the client: the connection's type."""
        return self.kind.split("-")[0]

    def engine(self, **limits: float) -> Engine:
        return engine_class(self.database, CONN_ID)(CONN_ID, Limits(**limits), LABEL)  # type: ignore[arg-type]

    def read(self, sql: str, **params: Value) -> pa.Table:
        """All rows of a query as one table."""
        with self.engine().session() as session:
            schema, batches = session.stream(Query(sql, params))
            table = pa.Table.from_batches(batches, schema)
        # Oracle gives names that are not quoted in capitals.
        return table.rename_columns([name.lower() for name in table.column_names]) if self.kind == "oracle" else table

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, of the two that are read alike."""
        return self.database == "mysql" and "MariaDB" in self.execute("select version()")[0][0]

    def execute_leniently(self, sql: str) -> None:
        """Run a statement that the database takes only when it does not look closely, as MySQL used to."""
        if self.database != "mysql" or self.server is None:
            self.execute(sql)
            return
        with contextlib.closing(self.server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("set sql_mode = ''")
            cursor.execute(sql)

    def series(self, rows: int, alias: str = "s") -> str:
        """A FROM item with one column `i`, counting from 1, that the database makes row by row."""
        if self.kind == "postgres":
            return f"(select generate_series(1, {rows}) as i) {alias}"
        if self.kind == "sqlite":
            counting = f"select 1 i union all select i + 1 from c where i < {rows}"
            return f"(with recursive c(i) as ({counting}) select i from c) {alias}"
        if self.is_mariadb:
            return f"(select seq as i from seq_1_to_{rows}) {alias}"
        return f"({self._counted(rows)}) {alias}"

    def _counted(self, rows: int) -> str:
        """Numbers from the product of their digits, which is never held as a whole."""
        whole = {"mssql": "bigint", "mysql": "signed"}.get(self.database, "number(18)")
        digits = range(len(str(rows - 1)))
        number = " + ".join(f"{10**n} * cast(d{n}.x as {whole})" for n in digits)
        ten = ", ".join(f"{'row' if self.database == 'mysql' else ''}({x})" for x in range(10))
        product = " cross join ".join(f"(values {ten}) d{n} (x)" for n in digits)
        row_by_row = "/*+ no_bnl() */ " if self.database == "mysql" else ""  # MySQL's hash joins hold all but one digit
        return f"select {row_by_row}cast(1 + {number} as {whole}) as i from {product} where 1 + {number} <= {rows}"

    def declared(self, kind: str) -> str:
        """What this database calls a type."""
        return DECLARED.get(self.database, {}).get(kind, kind)

    def quote(self, text: str, kind: str = "") -> str:
        """Text as a literal of this database, for a column of that kind."""
        if self.database == "mysql":
            text = text.replace("\\", "\\\\")
        prefix = {"mssql": "N", "oracle": {"date": "date", "naive": "timestamp", "zoned": "timestamp"}.get(kind, "")}
        zone = "+00" if self.database == "postgres" and kind == "zoned" else ""
        zone = " +00:00" if self.database == "oracle" and kind == "zoned" else zone
        return f"{prefix.get(self.database, '')}'" + text.replace("'", "''") + zone + "'"

    @property
    def endless(self) -> str:
        """A FROM item that takes far longer to read than a test may take; SQLite looks at all of it first."""
        return self.series(1_000_000 if self.kind == "sqlite" else 1_000_000_000)

    def text(self, length: str) -> str:
        """An expression for text of that many bytes, an even number."""
        forms = {
            "sqlite": f"hex(zeroblob(({length}) / 2))",
            "mssql": f"replicate(cast('x' as varchar(max)), {length})",
            "oracle": f"rpad('x', {length}, 'x')",
        }
        return forms.get(self.database, f"repeat('x', {length})")

    def quote_name(self, name: str) -> str:
        """A column name that is kept as it stands."""
        mark = "`" if self.database == "mysql" else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def missing_types(self, declared: Iterable[str]) -> list[str]:
        """Those that a server from elsewhere, or MySQL, does not have; our others have all of them."""
        if self.server is None or (self.server.process is not None and self.kind != "mysql"):
            return []
        return [kind for kind in sorted(declared) if not self._has_type(kind)]

    def needs_type(self, declared: str) -> None:
        """Skip, and say so, on a server from elsewhere that does not have it."""
        if self.missing_types([declared]):
            pytest.skip(f"{declared} IS NOT TESTED: this server does not have it")

    def _has_type(self, declared: str) -> bool:
        self.execute("drop table if exists probe")
        try:
            self.execute(f"create table probe (c {declared})")
        except Exception:  # noqa: BLE001 whatever the driver says of a type that it never heard of
            return False
        self.execute("drop table probe")
        return True

    @functools.cached_property
    def hashes_text(self) -> bool:
        """Whether the server can turn text into UTF-8, whose hash is taken; SQL Server can from 2019 on."""
        if self.database != "mssql":
            return True
        try:
            self.execute("select convert(varchar(max), N'a' collate Latin1_General_100_CI_AS_SC_UTF8)")
        except Exception:  # noqa: BLE001 whatever the driver says of a collation that is not there
            return False
        return True

    def asks(self, sql: str, what: str) -> None:
        """Skip, and say so, where a server from elsewhere does not do this, or not for this login."""
        try:
            self.execute(sql)
        except Exception as error:
            if self.server is None or self.server.process is not None:
                raise
            pytest.skip(f"{what} IS NOT TESTED: {error}")

    def not_in(self, database: str, why: str) -> None:
        """Skip where the database cannot be asked for this."""
        if self.database == database:
            pytest.skip(f"{database} cannot: {why}")


def wait_until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Return once it is so; an AssertionError where it never comes."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def everything(error: BaseException | None) -> str:
    """What a log would show of the error, with the errors behind it."""
    if error is None:
        return ""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(traceback.format_exception_only(error)) + everything(behind)
