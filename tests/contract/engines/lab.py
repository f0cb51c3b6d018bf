"""A `Lab` is a real database and the little SQL in which databases differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from include.etl.engines import engine_class
from include.etl.engines.base import Engine, Limits, Query, Value
from tests.servers import DatabaseServer

CONN_ID = "contract"
LABEL = "moh-etl contract"


@dataclass
class Lab:
    """A database to write to, and its engine to read with."""

    kind: str
    execute: Callable[[str], Any]
    server: DatabaseServer | None = None

    def engine(self, **limits: float) -> Engine:
        conn_type = "mysql" if self.kind.startswith("mysql") else self.kind
        return engine_class(conn_type, CONN_ID)(CONN_ID, Limits(**limits), LABEL)  # type: ignore[arg-type]

    def read(self, sql: str, **params: Value) -> pa.Table:
        """All rows of a query as one table."""
        with self.engine().session() as session:
            schema, batches = session.stream(Query(sql, params))
            return pa.Table.from_batches(batches, schema)

    def series(self, rows: int, alias: str = "s") -> str:
        """A FROM item with one column `i`, counting from 1, that the database makes row by row."""
        if self.kind == "postgres":
            return f"(select generate_series(1, {rows}) as i) {alias}"
        if self.kind == "sqlite":
            counting = f"select 1 i union all select i + 1 from c where i < {rows}"
            return f"(with recursive c(i) as ({counting}) select i from c) {alias}"
        return f"(select seq as i from seq_1_to_{rows}) {alias}"

    @property
    def endless(self) -> str:
        """A FROM item that takes far longer to read than a test may take; SQLite looks at all of it first."""
        return self.series(1_000_000 if self.kind == "sqlite" else 1_000_000_000)

    def text(self, length: str) -> str:
        """An expression for text of that many bytes, an even number."""
        return f"hex(zeroblob(({length}) / 2))" if self.kind == "sqlite" else f"repeat('x', {length})"
