"""MySQL's types, as its protocol numbers them, in Arrow."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

# Codes of the wire protocol.
DECIMAL, TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 0, 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT, JSON, NEWDECIMAL = 10, 11, 12, 13, 14, 15, 16, 245, 246
BLOBS, VAR_STRING, STRING, GEOMETRY, VECTOR = (249, 250, 251, 252), 253, 254, 255, 242

UNSIGNED_FLAG = 32
BINARY_CHARSET = 63
FIXED = {TINY: 1, SHORT: 2, YEAR: 2, INT24: 4, LONG: 4, LONGLONG: 8, FLOAT: 4, DOUBLE: 8}
"""Types whose values always take this many bytes; all others say how many they take."""
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
    """A result column as the protocol describes it; `width` is the most bytes that a value takes in print."""

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
