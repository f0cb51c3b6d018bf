"""What a MySQL server sends, encoded independently of the reader, and a line that brings it in pieces."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from include.etl.engines import mysql_types as t
from include.etl.engines.mysql_types import Column

LARGEST = 0xFFFFFF

# column, how a value is packed, values
MOMENTS = st.datetimes(datetime(1, 1, 1)) | st.datetimes(datetime(1, 1, 1)).map(lambda m: m.replace(microsecond=0))
COLUMNS: dict[str, tuple[Column, str, st.SearchStrategy[Any]]] = {
    "tinyint": (Column("c", t.TINY, 4, 0, False, True), "<b", st.integers(-128, 127)),
    "smallint unsigned": (Column("c", t.SHORT, 5, 0, True, True), "<H", st.integers(0, 65535)),
    "year": (Column("c", t.YEAR, 4, 0, True, True), "<H", st.integers(1901, 2155)),
    "mediumint": (Column("c", t.INT24, 9, 0, False, True), "<i", st.integers(-(1 << 23), (1 << 23) - 1)),
    "bigint": (Column("c", t.LONGLONG, 20, 0, False, True), "<q", st.integers(-(1 << 63), (1 << 63) - 1)),
    "bigint unsigned": (Column("c", t.LONGLONG, 20, 0, True, True), "<Q", st.integers(0, (1 << 64) - 1)),
    "float": (Column("c", t.FLOAT, 12, 31, False, True), "<f", st.floats(width=32, allow_nan=False)),
    "double": (Column("c", t.DOUBLE, 22, 31, False, True), "<d", st.floats(allow_nan=False)),
    "bit": (Column("c", t.BIT, 64, 0, True, True), "bit", st.integers(0, (1 << 64) - 1)),
    "decimal": (
        Column("c", t.NEWDECIMAL, 17, 2, False, True),
        "text",
        st.decimals(-(10**12), 10**12, places=2, allow_nan=False),
    ),
    "date": (Column("c", t.DATE, 10, 0, False, True), "date", st.dates(date(1, 1, 1))),
    "datetime": (Column("c", t.DATETIME, 26, 6, False, True), "moment", MOMENTS),
    "time": (
        Column("c", t.TIME, 17, 6, False, True),
        "time",
        st.timedeltas(timedelta(hours=-838), timedelta(hours=838))
        | st.integers(-838 * 3600, 838 * 3600).map(lambda seconds: timedelta(seconds=seconds)),
    ),
    "text": (Column("c", t.VAR_STRING, 200, 0, False, False), "text", st.text(max_size=300)),
    "blob": (Column("c", t.BLOBS[0], 200, 0, False, True), "bytes", st.binary(max_size=300)),
}


def lenenc(data: bytes) -> bytes:
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    if size < 1 << 16:
        return b"\xfc" + struct.pack("<H", size) + data
    if size < 1 << 24:
        return b"\xfd" + size.to_bytes(3, "little") + data
    return b"\xfe" + struct.pack("<Q", size) + data


def encoded(value: Any, form: str) -> bytes:
    match form:
        case "text":
            return lenenc(str(value).encode())
        case "bytes":
            return lenenc(value)
        case "bit":
            return lenenc(value.to_bytes(8, "big").lstrip(b"\0") or b"\0")
        case "date":
            return bytes([4]) + struct.pack("<HBB", value.year, value.month, value.day)
        case "moment":
            parts = struct.pack("<HBB", value.year, value.month, value.day)
            clock = bytes([value.hour, value.minute, value.second])
            if value.microsecond:
                return bytes([11]) + parts + clock + struct.pack("<I", value.microsecond)
            return bytes([7]) + parts + clock if any(clock) else bytes([4]) + parts
        case "time":
            span = abs(value)
            clock = bytes([span.seconds // 3600, span.seconds // 60 % 60, span.seconds % 60])
            parts = bytes([value < timedelta(0)]) + struct.pack("<I", span.days) + clock
            if span.microseconds:
                return bytes([12]) + parts + struct.pack("<I", span.microseconds)
            return bytes([8]) + parts if span else bytes([0])
        case _:
            return struct.pack(form, value)


def payload(values: Sequence[Any], forms: Sequence[str]) -> bytes:
    bitmap = bytearray((len(values) + 9) // 8)
    for number, value in enumerate(values, 2):
        bitmap[number // 8] |= (value is None) << number % 8
    return b"\0" + bitmap + b"".join(encoded(v, f) for v, f in zip(values, forms, strict=True) if v is not None)


def packets(payloads: Sequence[bytes], number: int = 0) -> bytes:
    sent = bytearray()
    for whole in payloads:
        for start in range(0, len(whole) + 1, LARGEST):
            piece = whole[start : start + LARGEST]
            sent += len(piece).to_bytes(3, "little") + bytes([number % 256]) + piece
            number += 1
    return bytes(sent)


class Line(io.RawIOBase):
    """A socket that brings what was sent in pieces of these lengths, again and again, and is then cut."""

    def __init__(self, sent: bytes, lengths: Sequence[int]) -> None:
        self._pieces = self._cut(memoryview(sent), lengths)

    def _cut(self, sent: memoryview, lengths: Sequence[int]) -> Iterator[memoryview]:
        while sent:
            for length in lengths:
                yield sent[:length]
                sent = sent[length:]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = next((piece for piece in self._pieces if piece), memoryview(b""))
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        if size < len(piece):  # what did not fit comes next
            rest = self._pieces
            self._pieces = (p for source in ([piece[size:]], rest) for p in source)
        return size
