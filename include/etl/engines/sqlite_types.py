"""SQLite's declared types in Arrow, and the values that it stores whatever was declared.

A column without a declared type (an expression) is what its values are: all integers, all reals, all text, all BLOBs,
or, when they are mixed, text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import time
from decimal import Context, Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pac

from include.etl import casts
from include.etl.engines.base import Engine
from include.etl.engines.batches import Row, to_array
from include.etl.errors import DataError

DECLARED = re.compile(r"^(?P<name>[A-Z ]+?)\s*(?:\(\s*(?P<p>\d+)\s*(?:,\s*(?P<s>\d+)\s*)?\))?(?P<rest>[A-Z ]*)$")
FINER = re.compile(r"\.\d{7}")
MAX_DIGITS = 38
"""What decimal128 holds. Wider ones are text: DuckDB, like most readers of Parquet, makes a float of a decimal256."""
WIDE = Context(prec=400)
"""Holds every REAL and every text without rounding it."""
EXACT_DIGITS = 15
"""Decimal digits that a REAL keeps for sure."""
ZONED = r"\d:\d\d(:\d\d(\.\d+)?)? ?(Z|[+-]\d\d(:?\d\d)?)$"

TYPES = {
    "BOOL": pa.bool_(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITHOUT TIME ZONE": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIME": pa.time64("us"),
    "BINARY": pa.binary(),
    "VARBINARY": pa.binary(),
    "BYTEA": pa.binary(),
    "JSON": pa.string(),
    "UUID": pa.string(),
}
# SQLite's own rule, in its order: a declared type that contains the word has values of that kind.
WORDS = {
    "INT": pa.int64(),
    "CHAR": pa.string(),
    "CLOB": pa.string(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "REAL": pa.float64(),
    "FLOA": pa.float64(),
    "DOUB": pa.float64(),
}
STORED = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string(), "blob": pa.binary()}


def declared_type(declaration: str) -> pa.DataType | None:
    """The Arrow type of a declared one; None when it says nothing (no type, NUMERIC without digits, unknown)."""
    found = DECLARED.match(" ".join(declaration.upper().split()))
    if found is None:
        return None
    if found["name"] in ("DECIMAL", "NUMERIC", "DEC", "NUMBER"):
        return _decimal(int(found["p"]), int(found["s"] or 0)) if found["p"] else None
    name = (found["name"] + found["rest"]).strip()
    return TYPES.get(name) or next((kind for word, kind in WORDS.items() if word in name), None)


def _decimal(digits: int, scale: int) -> pa.DataType | None:
    if not max(scale, 1) <= digits:
        return None
    return pa.decimal128(digits, scale) if digits <= MAX_DIGITS else pa.string()


def stored_type(name: str, storage_classes: set[str], engine: Engine) -> pa.DataType:
    """The Arrow type for values of these storage classes; text where there are no values, or a mixture."""
    if len(storage_classes) == 1:
        return STORED[storage_classes.copy().pop()]
    if "blob" in storage_classes:
        raise DataError(f"{engine}: column {name!r} mixes BLOBs with other values; cast it in the query")
    return pa.string()


def to_batch(rows: Sequence[Row], schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """Rows as SQLite stores them, as one batch of the declared types."""
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    arrays = [to_array(partial(_to_array, values, field.type), field, engine) for values, field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return _within_years(_timestamps(values, kind))
    if pa.types.is_date(kind):
        return _within_years(_only(str, values, pa.string()).cast(kind))
    convert = next((convert for test, convert in CONVERSIONS.items() if test(kind)), None)
    return convert(values, kind) if convert else _only(bytes, values, kind)


def _only(stored: type, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """An array of values that are all stored the same way."""
    if any(type(value) is not stored for value in values if value is not None):
        raise ValueError("stored otherwise than declared")
    return pa.array(values, kind)


def _within_years(times: pa.Array) -> pa.Array:
    """The same, if they lie in the years 1 to 9999, which all readers of the published files know."""
    ends = pac.min_max(pac.year(times)).as_py()
    if any(not 1 <= year <= 9999 for year in ends.values() if year is not None):
        raise ValueError("no year that others know")
    return times


def _timestamps(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """ISO text; in a column with time zone, text that names no zone is UTC, as are SQLite's own times."""
    text = _only(str, values, pa.string())
    if kind.tz is None:
        return text.cast(kind)
    zoned = pac.match_substring_regex(text, ZONED)
    return pac.if_else(
        zoned,
        pac.if_else(zoned, text, None).cast(kind),
        pac.if_else(zoned, None, text).cast(pa.timestamp("us")).cast(kind),
    )


def _strings(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([printed(value) for value in values], kind)


def printed(value: Any) -> str | None:
    """A value of a text column: text as it stands, a number as it is written."""
    if isinstance(value, bytes):
        raise ValueError("a BLOB is not text")
    return value if value is None or isinstance(value, str) else repr(value)


def _booleans(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not set(values) <= {0, 1, None}:
        raise ValueError("neither 0 nor 1")
    return pa.array([None if value is None else bool(value) for value in values], kind)


def _times(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if any(value and FINER.search(value) for value in values):
        raise ValueError("finer than a microsecond")
    times = [None if value is None else time.fromisoformat(value) for value in values]
    if any(value.tzinfo for value in times if value):
        raise ValueError("a time of day has no zone")
    return pa.array(times, kind)


def _decimals(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return casts.decimals((None if value is None else exact(value) for value in values), kind)


def exact(value: int | float | str) -> Decimal:
    """A REAL is the decimal it was stored from when that has at most 15 digits; more cannot be told apart."""
    if not isinstance(value, float):
        return Decimal(value)
    text = f"{value:.{EXACT_DIGITS}g}"
    if float(text) != value:
        raise ValueError("more digits than a REAL keeps")
    return Decimal(text)


def _floats(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return _only(float, values, kind)


def _integers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return _only(int, values, kind)


CONVERSIONS: dict[Callable[[pa.DataType], bool], Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    pa.types.is_string: _strings,
    pa.types.is_integer: _integers,
    pa.types.is_floating: _floats,
    pa.types.is_decimal: _decimals,
    pa.types.is_boolean: _booleans,
    pa.types.is_time: _times,
}
