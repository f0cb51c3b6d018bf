"""What the server sends, encoded here once more and independently, cut anywhere, comes out as it went in."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.etl.engines import mysql_types as t
from include.etl.engines.mysql import MySqlEngine
from include.etl.engines.mysql_packets import RowPackets
from include.etl.engines.mysql_rows import to_batch
from include.etl.engines.mysql_types import Column, arrow_type
from include.etl.errors import DataError, TransientError

ENGINE = MySqlEngine("clinic")
EOF, LARGEST = b"\xfe\0\0\2\0", 0xFFFFFF
ERROR = b"\xff" + struct.pack("<H", 1317) + b"#70100Query execution was interrupted"

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


def received(
    sent: bytes, columns: Sequence[Column], lengths: Sequence[int] = (16384,), block: tuple[int, int] = (1 << 16, 1000)
) -> tuple[pa.Table, RowPackets]:
    connection = pymysql.Connection(defer_connect=True)
    connection._rfile = io.BufferedReader(Line(sent, lengths))  # type: ignore[attr-defined]
    connection._next_seq_id = 0  # type: ignore[attr-defined]
    rows = RowPackets(connection, *block)
    schema = pa.schema([(f"c{n}", arrow_type(column)) for n, column in enumerate(columns)])
    batches = []
    while found := rows.block():
        batches.append(to_batch(found, columns, schema, ENGINE))
    return pa.Table.from_batches(batches, schema), rows


def wanted(value: Any, form: str) -> Any:
    if value is None or form != "time":
        return value
    hours, rest = divmod(abs(value), timedelta(hours=1))
    sign = "-" if value < timedelta(0) else ""
    minutes, seconds = divmod(rest.seconds, 60)
    return f"{sign}{hours:02}:{minutes:02}:{seconds:02}.{rest.microseconds:06}"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_come_out_as_they_were_sent_wherever_the_line_cuts_them(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=20))
    columns, forms, values = zip(*(COLUMNS[kind] for kind in kinds), strict=True)
    rows = data.draw(st.lists(st.tuples(*(st.none() | value for value in values)), max_size=30))
    lengths = data.draw(st.lists(st.integers(1, 3000), min_size=1, max_size=5))
    block = (data.draw(st.sampled_from([1, 2000, 1 << 16])), data.draw(st.integers(1, 40)))
    table, reader = received(packets([*(payload(r, forms) for r in rows), EOF]), columns, lengths, block)
    assert reader.finished
    expected = [tuple(wanted(v, f) for v, f in zip(row, forms, strict=True)) for row in rows]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


def test_many_columns_and_lengths_of_every_form() -> None:
    columns = [COLUMNS["bigint"][0], COLUMNS["text"][0]] * 250
    row = [n if n % 2 == 0 else "x" * (n % 3 * 300) for n in range(500)]
    row[7] = None
    row[11] = "y" * 70_000
    table, _ = received(packets([payload(row, ["<q", "text"] * 250)] * 3 + [EOF]), columns)
    assert [list(found.values()) for found in table.to_pylist()] == [row] * 3


@pytest.mark.parametrize("size", [LARGEST - 6, 17 << 20])
def test_a_row_of_several_packets_between_short_ones(size: int) -> None:
    columns = [COLUMNS["blob"][0]]
    rows = [payload([value], ["bytes"]) for value in (b"a", bytes(size), b"b")]
    table, _ = received(packets([*rows, EOF]), columns, lengths=(1 << 20,))
    assert [len(value.as_py()) for value in table["c0"]] == [1, size, 1]
    assert table["c0"][2].as_py() == b"b"


def test_a_time_shows_the_digits_of_its_column() -> None:
    for digits, text in ((0, "-30:00:01"), (2, "-30:00:01.25"), (31, "-30:00:01.250000")):
        row = payload([-timedelta(hours=30, seconds=1, milliseconds=250)], ["time"])
        table, _ = received(packets([row, EOF]), [Column("c", t.TIME, 17, digits, False, True)])
        assert table["c0"].to_pylist() == [text]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("date", bytes([0])),
        ("date", bytes([4]) + struct.pack("<HBB", 2024, 2, 0)),
        ("date", bytes([4]) + struct.pack("<HBB", 2023, 2, 29)),
        ("date", bytes([4]) + struct.pack("<HBB", 2024, 13, 1)),
        ("datetime", bytes([7]) + struct.pack("<HBB", 2024, 2, 1) + bytes([24, 0, 0])),
        ("text", lenenc(b"\xff")),
        ("decimal", lenenc(b"1.234")),
        ("decimal", lenenc(b"x")),
    ],
)
def test_a_value_that_does_not_fit(kind: str, sent: bytes) -> None:
    with pytest.raises(DataError, match="column 'c0' holds a value that does not fit"):
        received(packets([b"\0\0" + sent, EOF]), [COLUMNS[kind][0]])


def test_the_servers_error_in_mid_result() -> None:
    rows = [payload([n], ["<q"]) for n in range(10)]
    with pytest.raises(pymysql.OperationalError, match="interrupted"):
        received(packets([*rows, ERROR]), [COLUMNS["bigint"][0]])


@pytest.mark.parametrize("missing", [1, 5, 9, 10, 15, 30])
def test_a_line_that_is_cut(missing: int) -> None:
    sent = packets([payload([n], ["<q"]) for n in range(10)] + [EOF])
    with pytest.raises(pymysql.OperationalError, match=r"Lost connection.*\(closed\)"):
        received(sent[:-missing], [COLUMNS["bigint"][0]])


def test_a_packet_too_long_for_an_end_ends_nothing() -> None:
    with pytest.raises(pymysql.OperationalError, match="Lost connection"):
        received(packets([payload([1], ["<q"]), b"\xfe" * 9]), [COLUMNS["bigint"][0]])


def test_packets_out_of_order() -> None:
    sent = packets([payload([1], ["<q"])]) + packets([payload([2], ["<q"]), EOF], number=2)
    with pytest.raises(pymysql.OperationalError, match="out of order"):
        received(sent, [COLUMNS["bigint"][0]])


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\0",
        b"\1\0\1x",  # no row
        b"\0\0\5abc",  # longer than its row
        b"\0\0\1abc",  # shorter
        b"\0\0\xfb",  # NULL of the text protocol
        b"\0\0\xfb" + b"x" * 251,  # not even where it would fit
        b"\0\0\xff",
        b"\0\0\xfe" + b"\xff" * 8,  # a length beyond all
        b"\xfe" * 9,  # too long for an end
    ],
)
def test_what_is_not_a_row(row: bytes) -> None:
    sent = packets([payload(["a"], ["text"]), row, payload(["b"], ["text"]), EOF])
    with pytest.raises(TransientError, match="is not a row of the described columns"):
        received(sent, [COLUMNS["text"][0]])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_an_error_or_a_row_and_never_more(noise: bytes) -> None:
    columns = [COLUMNS[kind][0] for kind in ("text", "date", "bit", "bigint", "datetime", "time")]
    try:
        table, _ = received(packets([b"\0\0" + noise, EOF]), columns)
    except (TransientError, DataError):
        return
    assert table.num_rows == 1


def test_decimals_keep_their_digits() -> None:
    values = [Decimal("-9999999999999.99"), Decimal("0.00"), None, Decimal("0.07")]
    table, _ = received(packets([payload([v], ["text"]) for v in values] + [EOF]), [COLUMNS["decimal"][0]])
    assert table["c0"].to_pylist() == values
