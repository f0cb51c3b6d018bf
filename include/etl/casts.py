"""Casts that keep every value or fail: the one place where a number is given another type, wherever rows pass by.

Arrow 26 does not always fail by itself. It looks at a decimal's digits after it has multiplied, when the product has
wrapped around modulo 2**128 (7.5 as decimal(38, 38) is 0.694...); it reads text of 39 digits as another number, and
1E-40 as zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_DIGITS = 38
"""Of a decimal128: so many always fit into its 128 bits."""
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
WIDE = Context(prec=20_000, traps=[Inexact])
"""Rounds nothing in silence."""

Values = TypeVar("Values", pa.Array, pa.ChunkedArray)
Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def cast(values: Values, kind: pa.DataType) -> Values:
    """The same values in another type.

    Raises:
        pa.ArrowInvalid, ValueError, ArithmeticError: a value has no exact form in it, or a decimal would be a float.
    """
    if values.type == kind:
        return values
    if pa.types.is_floating(values.type) and pa.types.is_floating(kind):
        return _proven_back(values, kind)
    if not pa.types.is_decimal(values.type) and not pa.types.is_decimal(kind):
        return values.cast(kind)
    if pa.types.is_floating(values.type) or pa.types.is_floating(kind):
        raise pa.ArrowInvalid(f"{values.type} and {kind}: a decimal is no float")
    return _to_decimal(values, kind) if pa.types.is_decimal(kind) else values.cast(kind)


def cast_rows(rows: Rows, schema: pa.Schema) -> Rows:
    """The same rows with these columns' types; they must have these names, in this order."""
    if rows.schema.names != schema.names:
        raise ValueError(f"columns {rows.schema.names} are not {schema.names}")
    columns = [cast(column, field.type) for column, field in zip(rows.columns, schema, strict=True)]
    return type(rows).from_arrays(columns, schema=schema)


def decimals(numbers: Iterable[Decimal | int | None], kind: pa.DataType) -> pa.Array:
    """Python's numbers as an array of decimals."""
    return pa.array([None if number is None else _exactly(number, kind) for number in numbers], kind)


def _to_decimal(values: Values, kind: pa.DataType) -> Values:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _from_text(values, kind)
    if pa.types.is_integer(values.type):  # for which Arrow wants room for every number of the type
        values = values.cast(pa.decimal128(20, 0))
    if pa.types.is_decimal(values.type):
        ends, limit = pc.min_max(values).as_py(), _limit(kind)
        if ends["min"] is not None and not -limit < ends["min"] <= ends["max"] < limit:
            raise pa.ArrowInvalid(f"a number has too many digits for {kind}")
    return values.cast(kind)


def _from_text(text: Values, kind: pa.DataType) -> Values:
    """Arrow reads most of it; what might wrap there is read by Python, which takes thirty times as long."""
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    roomy = longest <= MAX_DIGITS - max(kind.scale, 0)
    if (roomy or (longest <= MAX_DIGITS + 1 and _has_scale(text, kind.scale))) and not _has_letters(text):
        return text.cast(kind)
    numbers = decimals((None if cell is None else _read(cell) for cell in text.to_pylist()), kind)
    return pa.chunked_array([numbers]) if isinstance(text, pa.ChunkedArray) else numbers


def _has_scale(text: pa.Array | pa.ChunkedArray, scale: int) -> bool:
    """Whether all are written with exactly these decimals, as servers print them: then there is nothing to multiply."""
    point = pc.find_substring(text, ".")
    decimals = pc.subtract(pc.subtract(pc.binary_length(text), point), 1)
    return bool(pc.all(pc.and_(pc.greater_equal(point, 0), pc.equal(decimals, scale)), min_count=0).as_py())


def _has_letters(text: pa.Array | pa.ChunkedArray) -> bool:
    """Whether some byte is above the digits, as that of an exponent is; also where a byte of another slice is."""
    chunks = text.chunks if isinstance(text, pa.ChunkedArray) else [text]
    held = [np.frombuffer(data, np.uint8) for data in (chunk.buffers()[2] for chunk in chunks) if data]
    return any(data.max(initial=0) > ord("9") for data in held)


def _read(cell: str) -> Decimal:
    if not NUMBER.fullmatch(cell):
        raise ValueError("not a number")
    return Decimal(cell)


def _exactly(number: Decimal | int, kind: pa.DataType) -> Decimal:
    """The number with the type's decimals, if it has room for it.

    Arrow takes one of very many decimals for zero (seen: 7.7E-65).
    """
    if isinstance(number, float):
        raise TypeError("a decimal is no float")
    shortest = Decimal(number).normalize(WIDE)
    exponent = shortest.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -kind.scale:
        raise ValueError("more decimal places than the type has, or not a number")
    limit = _limit(kind)
    if not -limit < shortest < limit:
        raise ValueError("too many digits for the type")
    return shortest.quantize(Decimal((0, (1,), -kind.scale)), context=WIDE)


def _limit(kind: pa.DataType) -> Decimal:
    """What all numbers of a type of decimals are smaller than."""
    return Decimal((0, (1,), kind.precision - kind.scale))


def _proven_back(values: Values, kind: pa.DataType) -> Values:
    """A float of another width, which Arrow rounds, or makes infinite, without a word."""
    found = values.cast(kind)
    same = pc.or_(pc.equal(found.cast(values.type), values), pc.is_nan(values))
    if not pc.all(same, min_count=0).as_py():
        raise pa.ArrowInvalid(f"a number has more digits than {kind} keeps")
    return found
