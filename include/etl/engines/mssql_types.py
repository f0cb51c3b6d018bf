"""SQL Server's types in Arrow, the expressions that bring their values over whole, and the check of what came."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pac

from include.etl import casts
from include.etl.engines.base import Engine
from include.etl.engines.batches import BYTES_PER_VALUE, LOB_BYTES, Row, to_array
from include.etl.engines.mssql_sql import MAX_DIGITS, quoted
from include.etl.errors import ConfigurationError, DataError

MICROSECOND_DIGITS = 6
NANOSECONDS = pa.timestamp("ns")
TYPES = {
    "bit": pa.bool_(),
    "tinyint": pa.uint8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "float": pa.float64(),
    "money": pa.decimal128(19, 4),
    "smallmoney": pa.decimal128(10, 4),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "smalldatetime": pa.timestamp("us"),
    "binary": pa.binary(),
    "varbinary": pa.binary(),
    "image": pa.binary(),
    "timestamp": pa.int64(),  # another name of rowversion
    "rowversion": pa.int64(),
}
TEXT = {"char", "varchar", "nchar", "nvarchar", "text", "ntext", "xml", "json", "sysname", "uniqueidentifier"}
TEXT |= {"datetimeoffset", "sql_variant", "hierarchyid"}
COLLATED = {"char", "varchar", "nchar", "nvarchar", "sysname"}
DECIMALS = {"decimal", "numeric"}
DIGITS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
ROW_VERSIONS = {"timestamp", "rowversion"}
LOBS = {"text", "ntext", "image", "xml", "json"}

# What neither client fetches exactly, written as text by the server; and eight bytes that are a counter, as a number.
AT_SERVER = {
    "timestamp": "convert(bigint, {0})",
    "rowversion": "convert(bigint, {0})",
    "datetimeoffset": "convert(varchar(34), {0}, 126)",
    "hierarchyid": "{0}.ToString()",
    "xml": "convert(nvarchar(max), {0})",
    "json": "convert(nvarchar(max), {0})",
    "sql_variant": (
        "convert(nvarchar(128), sql_variant_property({0}, 'BaseType')) + N':' + "
        "case convert(nvarchar(128), sql_variant_property({0}, 'BaseType')) "
        "when N'float' then convert(nvarchar(max), convert(float, {0}), 3) "
        "when N'real' then convert(nvarchar(max), convert(real, {0}), 3) "
        "when N'money' then convert(nvarchar(max), convert(money, {0}), 2) "
        "when N'smallmoney' then convert(nvarchar(max), convert(smallmoney, {0}), 2) "
        "when N'datetime' then convert(nvarchar(max), convert(datetime, {0}), 126) "
        "when N'smalldatetime' then convert(nvarchar(max), convert(smalldatetime, {0}), 126) "
        "when N'datetime2' then convert(nvarchar(max), convert(datetime2(7), {0}), 126) "
        "when N'datetimeoffset' then convert(nvarchar(max), convert(datetimeoffset(7), {0}), 126) "
        "when N'time' then convert(nvarchar(max), convert(time(7), {0}), 121) "
        "when N'binary' then convert(nvarchar(max), convert(varbinary(8000), {0}), 1) "
        "when N'varbinary' then convert(nvarchar(max), convert(varbinary(8000), {0}), 1) "
        "else convert(nvarchar(max), {0}) end"
    ),
}
DATETIME2_TEXT = "convert(varchar(27), {0}, 126)"
# What pymssql cuts, rounds or gives as another type.
FOR_ROWS = {
    "datetime": "convert(varchar(23), {0}, 126)",
    "smalldatetime": "convert(varchar(23), {0}, 126)",
    "datetime2": DATETIME2_TEXT,
    "time": "convert(varchar(16), {0}, 121)",
    "money": "convert(decimal(19, 4), {0})",
    "smallmoney": "convert(decimal(10, 4), {0})",
    "uniqueidentifier": "convert(char(36), {0})",
}
HINTS = {
    "geography": "select it as {0}.STAsText(), or as cast({0} as varbinary(max)) to keep it whole",
    "geometry": "select it as {0}.STAsText(), or as cast({0} as varbinary(max)) to keep it whole",
}
HINT = "cast it in the query to nvarchar(max) or varbinary(max)"


class Column(NamedTuple):
    """A result column as `sp_describe_first_result_set` tells it.

    `width` is the most bytes, -1 without a maximum; a decimal whose digits are not told has a `precision` of 0.
    """

    name: str
    kind: str
    width: int
    precision: int
    scale: int
    collation: str = ""


def described(row: Mapping[str, Any], engine: Engine) -> Column:
    """The column of one row of the description; a column without a name is a ConfigurationError."""
    if not row["name"]:
        raise ConfigurationError(
            f"{engine}: column {row['column_ordinal']} of the query has no name; give it one with `as`"
        )
    # types of the CLR have only the latter name
    declared = row.get("system_type_name") or row.get("user_type_name") or ""
    kind = re.split(r"[(\s]", str(declared).strip().lower())[0]
    width = -1 if row.get("max_length") is None else int(row["max_length"])
    precision, scale = int(row.get("precision") or 0), int(row.get("scale") or 0)
    if kind in DECIMALS and not _spelled(str(declared), precision, scale):
        precision = scale = 0
    return Column(str(row["name"]), kind, width, precision, scale, str(row.get("collation_name") or ""))


def _spelled(declared: str, precision: int, scale: int) -> bool:
    """Whether the type's name has these digits: some servers give no name but `decimal`, and digits that are none."""
    digits = DIGITS.search(declared)
    return digits is not None and (int(digits[1]), int(digits[2] or 0)) == (precision, scale)


def untold(columns: Sequence[Column]) -> bool:
    """Whether some column is a decimal whose digits are not told."""
    return any(_is_untold(column) for column in columns)


def completed(columns: Sequence[Column], told: Sequence[Column]) -> list[Column]:
    """The columns, with the digits that the client has told of those decimals that lack them."""
    known = {column.name: column for column in told if column.kind in DECIMALS}
    return [known.get(column.name, column) if _is_untold(column) else column for column in columns]


def _is_untold(column: Column) -> bool:
    return column.kind in DECIMALS and not column.precision


def arrow_type(column: Column, engine: Engine) -> pa.DataType:
    """The exact Arrow type; a type that has neither that nor a text of its own is refused by name."""
    if column.kind in DECIMALS:
        if not 1 <= column.precision <= MAX_DIGITS:
            raise ConfigurationError(
                f"{engine}: column {column.name!r} is a {column.kind} of {column.precision or 'unknown'} digits as "
                f"server and client describe it; allowed: 1 to {MAX_DIGITS}; cast it in the query to "
                "decimal(digits, decimals)"
            )
        return pa.decimal128(column.precision, column.scale)
    if column.kind == "datetime2":
        return pa.timestamp("us") if column.scale <= MICROSECOND_DIGITS else NANOSECONDS
    if column.kind == "time":
        return pa.time64("us" if column.scale <= MICROSECOND_DIGITS else "ns")
    if column.kind in TEXT:
        return pa.string()
    if column.kind not in TYPES:
        hint = HINTS.get(column.kind, HINT).format(quoted(column.name))
        raise ConfigurationError(
            f"{engine}: column {column.name!r} has type {column.kind!r}, which is not read; {hint}"
        )
    return TYPES[column.kind]


def expression(column: Column, rows: bool) -> str | None:
    """How to select the column so that its value comes over whole; None when it does as it is.

    `rows` is for the client that gives Python values; the other one gives Arrow.
    """
    form = AT_SERVER.get(column.kind)
    if column.kind == "datetime2" and column.scale > MICROSECOND_DIGITS:
        form = DATETIME2_TEXT
    if rows:
        form = FOR_ROWS.get(column.kind, form)
    return form.format(f"_q.{quoted(column.name)}") if form else None


def as_text(column: Column) -> str | None:
    """The text that the column arrives as, for one of a type that takes no collation; None for all others."""
    if column.kind not in TEXT - COLLATED:
        return None
    form = AT_SERVER.get(column.kind, "convert(nvarchar(max), {0})")
    return form.format(f"_q.{quoted(column.name)}")


def fetch_width(column: Column) -> int:
    """The most bytes that a value of the column takes in the client."""
    if column.kind in LOBS or column.width < 0:
        return LOB_BYTES
    return max(column.width, BYTES_PER_VALUE)


def check_row_version(columns: Sequence[Column], name: str, engine: Engine) -> None:
    """Refuse a cursor that is not a column of type rowversion."""
    found = {column.name: column.kind for column in columns}
    if found.get(name) not in ROW_VERSIONS:
        able = ", ".join(other for other, kind in found.items() if kind in ROW_VERSIONS)
        is_ = f"is {found[name]}" if name in found else "is not in the result"
        raise ConfigurationError(
            f"{engine}: cursor.column: {name!r} {is_}; allowed with cursor.type: rowversion: {able or 'no column here'}"
        )


def check_names(names: Sequence[str], schema: pa.Schema, engine: Engine) -> None:
    """Refuse a result that is not the one that was described: a driver has been seen to hand over another query's."""
    if list(names) != schema.names:
        raise _another_result(engine)


def from_arrow(batch: pa.RecordBatch, schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """What mssql-python fetched, in the described types; another result than the described one is a DataError."""
    check_names(batch.schema.names, schema, engine)
    for came, field in zip(batch.schema.types, schema, strict=True):
        if not _same_kind(came, field.type):
            raise _another_result(engine)
    columns = zip(batch.columns, schema, strict=True)
    arrays = [to_array(partial(_cast, values, field.type), field, engine) for values, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def from_rows(rows: Sequence[Row], schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """What pymssql fetched, in the described types; times come as text."""
    if not rows:
        return pa.RecordBatch.from_pylist([], schema=schema)
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    arrays = [to_array(partial(_from_values, values, field.type), field, engine) for values, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _another_result(engine: Engine) -> DataError:
    return DataError(f"{engine}: the driver returned a result with other columns or types than the query's own")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _same_kind(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether it is the described type but for its width, which `casts.py` gives it exactly or not at all."""
    if _is_text(came):
        return bool(_is_text(wanted) or pa.types.is_timestamp(wanted) or pa.types.is_time(wanted))
    if pa.types.is_binary(wanted):
        return bool(pa.types.is_binary(came) or pa.types.is_large_binary(came) or pa.types.is_fixed_size_binary(came))
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_date)
    return any(test(came) and test(wanted) for test in (*tests, pa.types.is_time, pa.types.is_timestamp))


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_time(kind) and _is_text(values.type):
        moments = pac.binary_join_element_wise("1970-01-01T", values.cast(pa.string()), "").cast(NANOSECONDS)
        return moments.cast(pa.int64()).cast(pa.time64("ns")).cast(kind)
    return casts.cast(values, kind)


def _from_values(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return _cast(pa.array(values, pa.string()), kind)
    return casts.decimals(values, kind) if pa.types.is_decimal(kind) else pa.array(values, kind)
