"""Oracle's types in Arrow, and the expressions that bring over whole what the driver's data frames would change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import oracledb
import pyarrow as pa

from include.etl import casts
from include.etl.engines.base import Engine
from include.etl.engines.batches import BYTES_PER_VALUE, LOB_BYTES, is_wide, to_array
from include.etl.engines.oracle_sql import quoted
from include.etl.errors import ConfigurationError, DataError

INT64_DIGITS, MAX_DIGITS = 18, 38
MICROSECOND_DIGITS = 6
NO_SCALE = -127
"""The scale of a NUMBER that was declared without one, and of every FLOAT."""
MICROSECONDS, NANOSECONDS = pa.timestamp("us"), pa.timestamp("ns")

TYPES = {
    oracledb.DB_TYPE_DATE: pa.timestamp("s"),
    oracledb.DB_TYPE_BINARY_FLOAT: pa.float32(),
    oracledb.DB_TYPE_BINARY_DOUBLE: pa.float64(),
    oracledb.DB_TYPE_BOOLEAN: pa.bool_(),
    oracledb.DB_TYPE_RAW: pa.binary(),
    oracledb.DB_TYPE_LONG_RAW: pa.binary(),
    oracledb.DB_TYPE_BLOB: pa.binary(),
    oracledb.DB_TYPE_CHAR: pa.string(),
    oracledb.DB_TYPE_NCHAR: pa.string(),
    oracledb.DB_TYPE_VARCHAR: pa.string(),
    oracledb.DB_TYPE_NVARCHAR: pa.string(),
    oracledb.DB_TYPE_LONG: pa.string(),
    oracledb.DB_TYPE_CLOB: pa.string(),
    oracledb.DB_TYPE_NCLOB: pa.string(),
}
LOBS = {
    oracledb.DB_TYPE_BLOB, oracledb.DB_TYPE_CLOB, oracledb.DB_TYPE_NCLOB, oracledb.DB_TYPE_LONG,
    oracledb.DB_TYPE_LONG_RAW, oracledb.DB_TYPE_XMLTYPE, oracledb.DB_TYPE_JSON,
}  # fmt: skip
# What data frames have no type for, written as text by the server.
AS_TEXT = {
    oracledb.DB_TYPE_INTERVAL_DS: "to_char({0})",
    oracledb.DB_TYPE_INTERVAL_YM: "to_char({0})",
    oracledb.DB_TYPE_ROWID: "cast({0} as varchar2(4000))",
    oracledb.DB_TYPE_UROWID: "cast({0} as varchar2(4000))",
    oracledb.DB_TYPE_XMLTYPE: "xmlserialize(content {0} as clob)",
    oracledb.DB_TYPE_JSON: "json_serialize({0} returning clob)",
}
NUMBER_TEXT = "to_char({0}, 'TM9', 'NLS_NUMERIC_CHARACTERS=''.,''')"
TIMESTAMP_TEXT = """to_char({0}, 'SYYYY-MM-DD"T"HH24:MI:SS.FF9')"""
ZONED = (oracledb.DB_TYPE_TIMESTAMP_TZ, oracledb.DB_TYPE_TIMESTAMP_LTZ)
TIMESTAMPS = (oracledb.DB_TYPE_TIMESTAMP, *ZONED)

PADDED = {oracledb.DB_TYPE_CHAR, oracledb.DB_TYPE_NCHAR}


class Plan(NamedTuple):
    """How one column is read: selected by `expression`, fetched as `fetched`, handed on as `field`."""

    field: pa.Field
    fetched: pa.DataType
    expression: str
    width: int
    padded: bool = False
    """A CHAR, filled up with blanks."""

    @property
    def is_converted(self) -> bool:
        """Whether the server converts the column."""
        return self.expression != quoted(self.field.name)


def plan(column: oracledb.FetchInfo, engine: Engine) -> Plan:
    """The exact way to read the column; a type that has none is refused by name."""
    code, name = column.type_code, quoted(column.name)
    width = LOB_BYTES if code in LOBS else max(column.internal_size or 0, BYTES_PER_VALUE)
    kind, fetched, form = _kind(code, column.precision, column.scale)
    if kind is None:
        raise ConfigurationError(
            f"{engine}: column {column.name!r} has type {code.name}, which is not read; "
            "convert it in the query, for example with to_char, to_clob or json_serialize"
        )
    return Plan(pa.field(column.name, kind), fetched, form.format(name), width, code in PADDED)


def _kind(
    code: oracledb.DbType, precision: int | None, scale: int | None
) -> tuple[pa.DataType | None, pa.DataType, str]:
    if code is oracledb.DB_TYPE_NUMBER:
        number = _number(precision, scale)
        return (number, number, "{0}") if number else (pa.string(), pa.string(), NUMBER_TEXT)
    if code in TIMESTAMPS:
        return _timestamp(code in ZONED, scale or 0)
    if code in AS_TEXT:
        return pa.string(), pa.string(), AS_TEXT[code]
    kind = TYPES.get(code)
    return kind, kind, "{0}"


def _number(precision: int | None, scale: int | None) -> pa.DataType | None:
    """None for a NUMBER whose digits are not declared, or more than fit. Scale may be negative, or above precision."""
    if not precision or scale is None or scale == NO_SCALE:
        return None
    digits = max(precision, scale) if scale >= 0 else precision - scale
    if scale <= 0 and digits <= INT64_DIGITS:
        return pa.int64()
    return pa.decimal128(digits, max(scale, 0)) if digits <= MAX_DIGITS else None


def _timestamp(zoned: bool, digits: int) -> tuple[pa.DataType, pa.DataType, str]:
    """A data frame has no zones, and takes no more than microseconds from the server; UTC is asked for in words."""
    form = "sys_extract_utc({0})" if zoned else "{0}"
    unit, zone = ("us" if digits <= MICROSECOND_DIGITS else "ns"), ("UTC" if zoned else None)
    if digits <= MICROSECOND_DIGITS:
        return pa.timestamp(unit, zone), MICROSECONDS, form
    return pa.timestamp(unit, zone), pa.string(), TIMESTAMP_TEXT.format(form)


def requested(plans: Sequence[Plan]) -> pa.Schema:
    """The schema to ask the driver for."""
    return pa.schema([pa.field(plan.field.name, plan.fetched) for plan in plans])


def to_batch(frame: oracledb.DataFrame, schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """What the driver fetched, in the types of the result."""
    table = pa.table(frame).combine_chunks()
    columns = zip(table.columns, schema, strict=True)
    arrays = [to_array(partial(_cast, column, field.type), field, engine) for column, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    values = column.combine_chunks()
    if pa.types.is_timestamp(kind) and pa.types.is_string(values.type):
        values = pa.array([text and text.strip() for text in values.to_pylist()], pa.string()).cast(NANOSECONDS)
    return casts.cast(values, kind)


def unreadable(error: Exception, plans: Sequence[Plan], engine: Engine) -> DataError:
    """The error for a value that the driver cannot read: a date before year 1, or text that is no Unicode.

    The driver tells which of the two it is, and not in which column.
    """
    suspected = is_wide if isinstance(error, UnicodeError) else pa.types.is_timestamp
    names = " or ".join(repr(plan.field.name) for plan in plans if suspected(plan.fetched))
    return DataError(
        f"{engine}: column {names or 'unknown'} holds a value that does not fit its type; correct it at the source, or "
        "convert the column in the query (to_char keeps a date as it stands)"
    )
