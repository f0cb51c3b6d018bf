"""What the server sends, encoded here once more and independently, cut anywhere, comes out as it went in."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from datetime import timedelta
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
from tests.unit.engines.mysql_doubles import COLUMNS, LARGEST, Line, lenenc, packets, payload

ENGINE = MySqlEngine("clinic")
EOF = b"\xfe\0\0\2\0"
ERROR = b"\xff" + struct.pack("<H", 1317) + b"#70100Query execution was interrupted"


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
    whole, parts = -timedelta(hours=30, seconds=1), -timedelta(hours=30, seconds=1, milliseconds=250)
    cases = (
        (0, whole, "-30:00:01"),
        (31, whole, "-30:00:01"),
        (2, parts, "-30:00:01.25"),
        (31, parts, "-30:00:01.250000"),
    )
    for digits, value, text in cases:
        row = payload([value], ["time"])
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
