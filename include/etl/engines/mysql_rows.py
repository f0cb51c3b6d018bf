"""Rows of MySQL's binary protocol read into Arrow, a column of many rows at a time.

A row is a zero byte, a bitmap of its NULLs, and its values. Numbers have a fixed size; a date is a length and up to 11
bytes; everything else is text or bytes after a length, decimals too. Each column begins where the one before it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from include.etl import casts
from include.etl.engines.base import Engine
from include.etl.engines.batches import to_array
from include.etl.engines.mysql_errors import malformed
from include.etl.engines.mysql_packets import Block, Positions
from include.etl.engines.mysql_times import LENGTHS, days, microseconds, printed
from include.etl.engines.mysql_types import BIT, FIXED, FLOAT, TIME, Column
from include.etl.engines.mysql_values import Values, window

NULL, LONGER = 251, {252: ("<u2", 2), 253: ("<u4", 3), 254: ("<u8", 8)}
"""Bytes that stand for no length: NULL in the text protocol, or the length follows, in so many bytes."""
LARGEST = np.uint64(1 << 62)
LONGEST_BIT = 8


def to_batch(block: Block, columns: Sequence[Column], schema: pa.Schema, engine: Engine) -> pa.RecordBatch:
    """The rows of a block as one batch; a zero date is a value that does not fit."""
    try:
        located = locate(block, columns)
    except ValueError:
        raise malformed(engine) from None
    arrays = [
        to_array(partial(_to_array, values, column, field.type), field, engine)
        for values, column, field in zip(located, columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def locate(block: Block, columns: Sequence[Column]) -> list[Values]:
    """Where each column's values lie; raises ValueError where that is not within their rows."""
    data = block.data
    at = block.starts + 1 + (len(columns) + 9) // 8
    if (at > block.ends).any() or window(data, "u1")[block.starts].any():
        raise ValueError("not a row")
    found = []
    for number, column in enumerate(columns, 2):
        bits = window(data, "u1")[block.starts + 1 + number // 8] & np.uint8(1 << number % 8)
        null = bits.astype(bool) if bits.any() else None
        starts, lengths = _extent(data, at, column, null)
        at = starts + lengths
        if (at > block.ends).any():
            raise ValueError("a value goes beyond its row")
        found.append(Values(data, starts, lengths, null))
    if (at != block.ends).any():
        raise ValueError("more than the columns in a row")
    return found


def _extent(
    data: bytearray, at: Positions, column: Column, null: npt.NDArray[np.bool_] | None
) -> tuple[Positions, Positions]:
    """Start and length of each value; nothing of it is sent where it is NULL."""
    if column.code in FIXED:
        starts, lengths = at, np.full(len(at), FIXED[column.code])
    else:
        heads = window(data, "u1")[at]
        heads = heads if null is None else np.where(null, 0, heads)
        if column.code in LENGTHS and not LENGTHS[column.code][heads].all():
            raise ValueError("a date or time of another length")
        starts, lengths = _lengths(data, at, heads)
    if null is None:
        return starts, lengths
    return np.where(null, at, starts), np.where(null, 0, lengths)


def _lengths(data: bytearray, at: Positions, heads: npt.NDArray[Any]) -> tuple[Positions, Positions]:
    """The first byte is the length, or says how many bytes that follow hold it."""
    starts, lengths = at + 1, heads.astype(np.int64)
    if heads.max() < NULL:
        return starts, lengths
    if np.isin(heads, [NULL, 255]).any():
        raise ValueError("no length")
    for head, (dtype, size) in LONGER.items():
        (longer,) = np.nonzero(heads == head)
        numbers = window(data, dtype)[starts[longer]].astype(np.uint64) & np.uint64((1 << 8 * size) - 1)
        lengths[longer] = np.minimum(numbers, LARGEST)
        starts[longer] += size
    return starts, lengths


def _to_array(values: Values, column: Column, kind: pa.DataType) -> pa.Array:
    if column.code in FIXED:
        dtype = "<f4" if column.code == FLOAT else np.dtype(kind.to_pandas_dtype()).str
        return _array(values.read(dtype), values, kind)
    if column.code == BIT:
        return _array(_bits(values), values, kind)
    if column.code == TIME:
        return printed(values, column.scale)
    if pa.types.is_date(kind):
        return _array(days(values).astype(np.int32), values, kind)
    if pa.types.is_timestamp(kind):
        return _array(microseconds(values), values, kind)
    taken = _taken(values)
    return taken if pa.types.is_binary(kind) else casts.cast(taken.cast(pa.string()), kind)


def _array(numbers: npt.NDArray[Any], values: Values, kind: pa.DataType) -> pa.Array:
    return pa.array(numbers, mask=values.null).cast(kind)


def _taken(values: Values) -> pa.Array:
    """The bytes of each value, copied by Arrow: as an array that spans the block, values and gaps take turns."""
    count = len(values.starts)
    edges = np.empty(2 * count, np.int32)
    edges[0::2], edges[1::2] = values.starts, values.starts + values.lengths
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(values.data)]
    spans = pa.Array.from_buffers(pa.binary(), 2 * count - 1, buffers)
    return spans.take(pa.array(np.arange(0, 2 * count, 2), mask=values.null))


def _bits(values: Values) -> npt.NDArray[np.uint64]:
    """Up to eight bytes, the first one the highest; what stands before them is pushed out."""
    if values.lengths.max() > LONGEST_BIT:
        raise ValueError("more than 64 bits")
    numbers = values.read(">u8", values.lengths - LONGEST_BIT).astype(np.uint64)
    surplus = (8 * (LONGEST_BIT - np.maximum(values.lengths, 1))).astype(np.uint64)
    return numbers << surplus >> surplus
