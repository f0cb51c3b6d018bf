"""The exact text form of values, for formats whose cells are text: `from_text(to_text(x)) == x`.

Numbers are plain decimals without exponent (floats: the shortest digits that give the same float), dates and times
ISO 8601, timestamps with a zone in UTC and marked `Z`, booleans `true` and `false`, binary lower-case hexadecimal.
Text stays as it is, NULL stays NULL. docs/outputs.md shows them all.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from include.etl.casts import cast
from include.etl.errors import DataError

TEXT = pa.large_string()  # 64-bit offsets: a batch of long texts may pass 2 GiB
EMPTY = pa.scalar("", TEXT)

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PER_DAY = 86_400
_FIRST_DAY, _END_DAY = -719_162, 2_932_897  # 0001-01-01 and 10000-01-01, in days since 1970
_FIRST_NS = -9_223_372_036 * 10**9  # Arrow prints but cannot parse the part of a second before it, in 1677
_HOLDABLE = (
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_null,
)


def is_text(type_: pa.DataType) -> bool:
    """Whether values of this type are strings."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def is_binary(type_: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
        or pa.types.is_binary_view(type_)
    )


def check_types(schema: pa.Schema, format_name: str) -> None:
    """Raise DataError for the first column whose type has no exact text form, such as a list."""
    for field in schema:
        type_ = field.type
        if not (is_text(type_) or is_binary(type_) or any(test(type_) for test in _HOLDABLE)):
            raise DataError(
                f"column {field.name!r} ({type_}): {format_name} cannot hold this type; "
                "cast it to text in the query, or publish parquet"
            )


def to_text(name: str, values: pa.Array) -> pa.Array:
    """Values as `large_string`; `name` is the column that a DataError names."""
    type_ = values.type
    if is_binary(type_):
        return pa.array([None if value is None else value.hex() for value in values.to_pylist()], TEXT)
    if pa.types.is_decimal(type_):
        return _plain(values.cast(TEXT))
    if pa.types.is_temporal(type_):
        _check_range(name, values)
    if pa.types.is_timestamp(type_):
        return _iso_timestamp(values)
    return values.cast(pa.date32()).cast(TEXT) if pa.types.is_date64(type_) else values.cast(TEXT)


def from_text(text: pa.Array, type_: pa.DataType) -> pa.Array:
    """The inverse of `to_text`; also accepts numbers with an exponent and seconds with fewer decimals."""
    if pa.types.is_null(type_):
        return pa.nulls(len(text))
    if is_binary(type_):
        return pa.array([None if value is None else bytes.fromhex(value) for value in text.to_pylist()], type_)
    if pa.types.is_timestamp(type_):
        naive = _parsed(pc.utf8_rtrim(text, "Z"), type_.unit)
        return naive.cast(pa.int64()).cast(type_)  # by way of integers: a zone is a label, needing no zone database
    if pa.types.is_time(type_):
        return _parsed(pc.binary_join_element_wise(pa.scalar("1970-01-01T", TEXT), text, EMPTY), type_.unit).cast(type_)
    return text.cast(pa.date32()).cast(type_) if pa.types.is_date64(type_) else cast(text, type_)


def joined(text: pa.Array) -> memoryview:
    """The bytes of all values, one after the other; NULLs add nothing."""
    offsets = memoryview(text.buffers()[1]).cast("q")
    return memoryview(text.buffers()[2])[offsets[text.offset] : offsets[text.offset + len(text)]]


def _plain(text: pa.Array) -> pa.Array:
    """Decimals without an exponent: Arrow prints 0 with ten decimals as 0E-10."""
    if not pc.any(pc.match_substring(text, "E")).as_py():
        return text
    return pa.array([format(Decimal(t), "f") if t and "E" in t else t for t in text.to_pylist()], TEXT)


def _iso_timestamp(values: pa.Array) -> pa.Array:
    naive = values.cast(pa.int64()).cast(pa.timestamp(values.type.unit))
    text = pc.utf8_replace_slice(naive.cast(TEXT), 10, 11, "T")
    return pc.binary_join_element_wise(text, pa.scalar("Z", TEXT), EMPTY) if values.type.tz else text


def _parsed(text: pa.Array, unit: str) -> pa.Array:
    """Naive timestamps; Arrow refuses more decimals than the unit has, even zeros, so it parses with enough."""
    return text.cast(pa.timestamp("ns" if unit == "ns" else "us")).cast(pa.timestamp(unit))


def _check_range(name: str, values: pa.Array) -> None:
    """Raise DataError for years before 1 or after 9999 and for times of 24:00 and more, which ISO 8601 cannot write."""
    allowed = _allowed(values.type)
    numbers = values.cast(pa.int32()) if values.type.bit_width == 32 else values.cast(pa.int64())
    extremes = pc.min_max(numbers)
    low, high = extremes["min"].as_py(), extremes["max"].as_py()
    if low is not None and not (low in allowed and high in allowed):
        raise DataError(
            f"column {name!r} ({values.type}): a value lies outside years 1 to 9999 (nanoseconds: 1677 to 2262) or is "
            "a time of 24:00, and has no ISO 8601 text; cast it to text in the query, or publish parquet"
        )


def _allowed(type_: pa.DataType) -> range:
    """Values, counted in the type's own unit, that have ISO 8601 text."""
    if pa.types.is_date32(type_):
        return range(_FIRST_DAY, _END_DAY)
    if pa.types.is_date64(type_):
        return range(_FIRST_DAY * _PER_DAY * 1000, _END_DAY * _PER_DAY * 1000)
    day = _PER_DAY * _PER_SECOND[type_.unit]
    if pa.types.is_time(type_):
        return range(day)
    return range(max(_FIRST_DAY * day, _FIRST_NS) if type_.unit == "ns" else _FIRST_DAY * day, _END_DAY * day)
