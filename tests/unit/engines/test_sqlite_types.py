from __future__ import annotations

import sqlite3
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl.engines.base import Engine
from include.etl.engines.sqlite import SqliteEngine
from include.etl.engines.sqlite_types import declared_type, to_batch
from include.etl.errors import DataError

ENGINE: Engine = SqliteEngine("clinic")


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("decimal(10,2)", pa.decimal128(10, 2)),
        ("NUMERIC ( 38 , 5 )", pa.decimal128(38, 5)),
        ("NUMERIC ( 40 , 5 )", pa.string()),
        ("decimal(5)", pa.decimal128(5, 0)),
        ("decimal", None),
        ("decimal(99,2)", pa.string()),
        ("decimal(2,4)", None),
        ("unsigned big int", pa.int64()),
        ("int(11) unsigned", pa.int64()),
        ("varchar(20)", pa.string()),
        ("timestamp(6)", pa.timestamp("us")),
        ("timestamp(6) with time zone", pa.timestamp("us", "UTC")),
        ("Timestamp Without Time Zone", pa.timestamp("us")),
        ("double precision", pa.float64()),
        ("", None),
        ("money", None),
    ],
)
def test_declared_types(declared: str, kind: pa.DataType | None) -> None:
    assert declared_type(declared) == kind


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**11), max_value=10**11))
def test_a_decimal_of_15_digits_survives_being_stored_as_a_real(value: Decimal) -> None:
    schema = pa.schema([("x", pa.decimal128(15, 3))])
    assert to_batch([(float(value),)], schema, ENGINE)["x"].to_pylist() == [value]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_real_becomes_its_own_decimal_or_an_error(value: float) -> None:
    schema = pa.schema([("x", pa.decimal128(38, 20))])
    try:
        (read,) = to_batch([(value,)], schema, ENGINE)["x"].to_pylist()
    except DataError:
        return
    assert float(read) == value


def test_a_time_finer_than_a_microsecond_is_refused() -> None:
    schema = pa.schema([("t", pa.time64("us"))])
    assert to_batch([("10:00:00.123456",)], schema, ENGINE)["t"].to_pylist()[0].microsecond == 123456
    with pytest.raises(DataError, match="column 't'"):
        to_batch([("10:00:00.1234567",)], schema, ENGINE)


def test_a_session_whose_transaction_was_ended_by_an_error_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite rolls back by itself when the disk fails, and refuses a second rollback."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", '{"conn_type": "sqlite", "host": ":memory:"}')
    with ENGINE.session() as session:
        session.connection.execute("rollback")  # type: ignore[attr-defined]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        session.connection.execute("select 1")  # type: ignore[attr-defined]
