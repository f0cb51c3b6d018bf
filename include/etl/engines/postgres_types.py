"""PostgreSQL's types in Arrow, and the CSV that COPY prints read into them."""

from __future__ import annotations

import codecs
import re
from functools import partial

import pyarrow as pa
import pyarrow.csv as pc
from psycopg2.extensions import Column

from include.etl import casts
from include.etl.engines.base import Engine
from include.etl.engines.batches import to_array, unfit
from include.etl.errors import DataError

NUMERIC = 1700
MAX_DIGITS = 38
"""What decimal128 holds. Wider ones are text: DuckDB, like most readers of Parquet, makes a float of a decimal256."""

TYPES = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.uint32(),  # oid
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}

# A NULL is an empty cell and an empty string is "", so a result of one column has empty lines that count.
PARSING = pc.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
BAD_COLUMN = re.compile(r"In CSV column #(\d+)")


def arrow_type(column: Column) -> pa.DataType:
    """The exact Arrow type of a result column; what has none (arrays, JSON, intervals, ...) is text as printed."""
    if column.type_code == NUMERIC:
        return _decimal(column.precision, column.scale)
    return TYPES.get(column.type_code, pa.string())


def _decimal(precision: int | None, scale: int | None) -> pa.DataType:
    """A numeric without precision is text. Scale is a signed number of 11 bits: numeric(3,-2) and (2,4) are legal."""
    if not precision or scale is None or precision == 0xFFFF:
        return pa.string()
    scale = (scale & 0x7FF ^ 0x400) - 0x400
    digits = max(precision, scale) if scale >= 0 else precision - scale
    if digits > MAX_DIGITS:
        return pa.string()
    return pa.decimal128(digits, max(scale, 0))


def parse_csv(chunk: bytes, schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """Whole rows of `copy ... (format csv)`, without a header, as one batch."""
    # Arrow's CSV reader knows another notation of bytes than the server's, and a decimal is wrapped around by it.
    printed = {field.name: pa.string() if _as_text(field.type) else field.type for field in schema}
    reading = pc.ReadOptions(column_names=schema.names, block_size=len(chunk) + len(codecs.BOM_UTF8) + 1)
    converting = pc.ConvertOptions(
        column_types=printed,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )
    if chunk.startswith(codecs.BOM_UTF8):  # of a value: the reader takes the first one for the file's own
        chunk = codecs.BOM_UTF8 + chunk
    try:
        table = pc.read_csv(pa.py_buffer(chunk), reading, PARSING, converting)
    except pa.ArrowInvalid as error:
        raise _misfit(error, schema, engine) from None
    columns = zip(table.columns, schema, strict=True)
    arrays = [to_array(partial(_from_text, column, field.type), field, engine) for column, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_decimal(kind))


def _from_text(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    array = column.combine_chunks()
    if pa.types.is_binary(kind):
        return pa.array([_unhex(cell) for cell in array.to_pylist()], kind)
    return casts.cast(array, kind)


def _unhex(cell: str | None) -> bytes | None:
    return None if cell is None else bytes.fromhex(cell.removeprefix("\\x"))


def _misfit(error: pa.ArrowInvalid, schema: pa.Schema, engine: Engine) -> DataError:
    """Arrow's message holds the value; only the column's number is taken from it."""
    column = BAD_COLUMN.search(str(error))
    if column is None:
        return DataError(f"{engine}: the server's CSV could not be read; cast text of unknown encoding to bytea")
    return unfit(schema.field(int(column[1])), engine)
