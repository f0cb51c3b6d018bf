"""What is counted of rows, wherever they lie: how many, and of declared columns the values and their exact sum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import Field

from include.etl.completeness.checksums import HALF, HASH, kind_of, over, selected
from include.etl.duck import parquet
from include.etl.engines.base import Engine, Query, Session
from include.etl.handover import Handover

Fields = Mapping[str, pa.DataType]
WIDE = Context(prec=200)


class ColumnTotals(Handover):
    """A column's values that are not NULL, and their sum as text. The sum is data: of one row it is the value."""

    values: int
    sum: str
    hash: str = ""
    """Of text, by which hash it was made a number."""

    @property
    def checksum(self) -> str:
        """What may be shown and recorded of the sum."""
        return hashlib.sha256(self.sum.encode()).hexdigest()[:16]

    def shown(self) -> dict[str, Any]:
        """What the manifest records."""
        named = {"hash": self.hash} if self.hash else {}
        return {"values": self.values, "checksum": self.checksum, **named}


class Totals(Handover):
    """Totals of some rows; those of two sets of rows add up to those of both."""

    rows: int = 0
    columns: dict[str, ColumnTotals] = Field(default_factory=dict)

    def __add__(self, other: Totals) -> Totals:
        """Totals of both sets of rows; one without rows may have no columns."""
        names = {**self.columns, **other.columns}
        return Totals(rows=self.rows + other.rows, columns={name: self._sum(other, name) for name in names})

    def _sum(self, other: Totals, name: str) -> ColumnTotals:
        both = [found.columns[name] for found in (self, other) if name in found.columns]
        added = Decimal(0)
        for one in both:
            added = WIDE.add(added, Decimal(one.sum))
        values, hash_ = sum(one.values for one in both), min(one.hash for one in both)
        return ColumnTotals(values=values, sum=_plain(added), hash=hash_)

    def shown(self) -> dict[str, Any]:
        """What the manifest records: counts, and checksums of the sums."""
        columns = {name: one.shown() for name, one in self.columns.items()}
        return {"rows": self.rows, **({"columns": columns} if columns else {})}


def added(several: Iterable[Totals]) -> Totals:
    """The totals of all rows together."""
    return sum(several, Totals())


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What two records (`Totals.shown`) do not agree in: counts and checksums, never a value."""
    if expected["rows"] != found["rows"]:
        return [f"rows: {expected['rows']} and {found['rows']}"]
    found_columns, lines = found.get("columns", {}), []
    for name, one in expected.get("columns", {}).items():
        other = found_columns.get(name, {**one, "values": 0, "checksum": "none"})
        if one["values"] != other["values"]:
            lines.append(f"column {name!r}: {one['values']} and {other['values']} values that are not NULL")
        elif not comparable(one, other):
            lines.append(f"column {name!r}: checksums taken by different hashes")
        elif one["checksum"] != other["checksum"]:
            lines.append(f"column {name!r}: checksum {one['checksum']} and {other['checksum']}")
    return lines


def comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records of a column (`ColumnTotals.shown`) were taken by the same hash."""
    return one.get("hash") == other.get("hash")


def of_source(engine: Engine, session: Session, query: Query, fields: Fields) -> Totals:
    """Totals of the query's rows, counted by the database itself."""
    texts = [name for name, type_ in fields.items() if kind_of(type_) == "text"]
    counted = session.written(query, texts) if texts else query
    return _parsed(session.single_row(over(counted, engine.dialect, fields)), fields)


def of_parquet(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], fields: Fields) -> Totals:
    """Totals of Parquet files as they lie on the disk."""
    return of_relation(connection, parquet(paths), fields)


def of_relation(connection: duckdb.DuckDBPyConnection, rows: str, fields: Fields) -> Totals:
    """Totals of a table, view or subquery of DuckDB."""
    (row,) = connection.execute(f"SELECT {', '.join(selected('duckdb', fields))} FROM {rows}").fetchall()
    return _parsed(row, fields)


def of_batches(connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch], fields: Fields) -> Totals:
    """Totals of a stream of batches; errors of whoever reads it stay what they are."""
    totals = _parsed(["0", *["0", None] * len(fields)], fields)
    for batch in batches:
        connection.register("batch_read", pa.Table.from_batches([batch]).select(list(fields)))
        totals += of_relation(connection, "batch_read", fields)
        connection.unregister("batch_read")
    return totals


def _parsed(row: Sequence[Any], fields: Fields) -> Totals:
    pairs = zip(fields, row[1::2], row[2::2], strict=True)
    columns = {
        name: ColumnTotals(values=int(values), sum=_number(total), hash=_hash(fields[name]))
        for name, values, total in pairs
    }
    return Totals(rows=int(row[0]), columns=columns)


def _hash(type_: pa.DataType) -> str:
    return HASH if kind_of(type_) == "text" else ""


def _number(total: str | None) -> str:
    """The sum in one spelling; a wide one comes from DuckDB as two halves and its decimal places."""
    if total is None:
        return "0"
    high, *rest = str(total).split("|")
    if not rest:
        return _plain(Decimal(high))
    low, places = rest
    return _plain(Decimal(int(high) * HALF + int(low)).scaleb(-int(places), WIDE))


def _plain(number: Decimal) -> str:
    return f"{number.normalize(WIDE):f}"
