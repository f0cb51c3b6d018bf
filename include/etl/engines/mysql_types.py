"""MySQL's types in Arrow, and the text that its protocol carries read into them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from include.etl.engines.base import Engine
from include.etl.engines.batches import Row, to_array

# Codes of the wire protocol.
DECIMAL, TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 0, 1, 2, 3, 4, 5, 7, 8, 9
DATE, DATETIME, YEAR, NEWDATE, VARCHAR, BIT, JSON, NEWDECIMAL = 10, 12, 13, 14, 15, 16, 245, 246
BLOBS, VAR_STRING, STRING, GEOMETRY, VECTOR = (249, 250, 251, 252), 253, 254, 255, 242

UNSIGNED_FLAG = 32
MAX_DIGITS = 38
"""What decimal128 holds. Wider ones are text: DuckDB, like most readers of Parquet, makes a float of a decimal256."""
TEXT_OR_BINARY = (VARCHAR, *BLOBS, VAR_STRING, STRING)

INTEGERS = {
    TINY: (pa.int8(), pa.uint8()),
    SHORT: (pa.int16(), pa.uint16()),
    INT24: (pa.int32(), pa.uint32()),
    LONG: (pa.int32(), pa.uint32()),
    LONGLONG: (pa.int64(), pa.uint64()),
    YEAR: (pa.int16(), pa.int16()),
}
TYPES = {
    FLOAT: pa.float64(),
    DOUBLE: pa.float64(),
    DATE: pa.date32(),
    NEWDATE: pa.date32(),
    DATETIME: pa.timestamp("us"),
    TIMESTAMP: pa.timestamp("us", "UTC"),
    BIT: pa.uint64(),
    GEOMETRY: pa.binary(),
    VECTOR: pa.binary(),
}


class Column(NamedTuple):
    """A result column as the protocol describes it; `width` is the most bytes that a value can have."""

    name: str
    code: int
    width: int
    scale: int
    unsigned: bool
    binary: bool


def arrow_type(column: Column) -> pa.DataType:
    """The exact Arrow type; TIME (beyond 24 hours), JSON, ENUM, SET and the like are text as the server prints them."""
    if column.code in INTEGERS:
        return INTEGERS[column.code][column.unsigned]
    if column.code in (DECIMAL, NEWDECIMAL):
        return _decimal(column)
    if column.code in TEXT_OR_BINARY and column.binary:
        return pa.binary()
    return TYPES.get(column.code, pa.string())


def _decimal(column: Column) -> pa.DataType:
    """The protocol gives the printed width: digits, a point when there is a scale, a sign when there may be one."""
    digits = max(1, column.width - (column.scale > 0) - (not column.unsigned), column.scale)
    return pa.decimal128(digits, column.scale) if digits <= MAX_DIGITS else pa.string()


def to_batch(rows: Sequence[Row], columns: Sequence[Column], schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """Rows of the text protocol as one batch; a zero date is a value that does not fit."""
    arrays = [
        to_array(partial(_to_array, values, column, field.type), field, engine)
        for values, column, field in zip(zip(*rows, strict=True), columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_array(values: Sequence[bytes | None], column: Column, kind: pa.DataType) -> pa.Array:
    if column.code == BIT:
        return pa.array([None if value is None else int.from_bytes(value, "big") for value in values], kind)
    if pa.types.is_binary(kind):
        return pa.array(values, kind)
    text = pa.array(values, pa.string())
    if column.code == TIMESTAMP:  # printed in the session's time zone, which is UTC
        return text.cast(pa.timestamp("us")).cast(kind)
    return text.cast(kind)
