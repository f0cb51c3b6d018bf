from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlglot

from include.etl.engines.mssql import MsSqlEngine
from include.etl.engines.mssql_types import (
    Column,
    arrow_type,
    described,
    expression,
    fetch_width,
    from_arrow,
    from_rows,
)
from include.etl.errors import ConfigurationError, DataError

ENGINE = MsSqlEngine("clinic", label="nightly")
US, NS = pa.timestamp("us"), pa.timestamp("ns")

# declared, bytes, precision, scale, Arrow type, converted for mssql-python, converted for pymssql
TYPES = [
    ("bit", 1, 1, 0, pa.bool_(), False, False),
    ("tinyint", 1, 3, 0, pa.uint8(), False, False),
    ("smallint", 2, 5, 0, pa.int16(), False, False),
    ("int", 4, 10, 0, pa.int32(), False, False),
    ("bigint", 8, 19, 0, pa.int64(), False, False),
    ("real", 4, 24, 0, pa.float32(), False, False),
    ("float", 8, 53, 0, pa.float64(), False, False),
    ("decimal(38,10)", 17, 38, 10, pa.decimal128(38, 10), False, False),
    ("numeric(5,5)", 5, 5, 5, pa.decimal128(5, 5), False, False),
    ("money", 8, 19, 4, pa.decimal128(19, 4), False, True),
    ("smallmoney", 4, 10, 4, pa.decimal128(10, 4), False, True),
    ("date", 3, 10, 0, pa.date32(), False, False),
    ("datetime", 8, 23, 3, US, False, True),
    ("smalldatetime", 4, 16, 0, US, False, True),
    ("datetime2(0)", 6, 19, 0, US, False, True),
    ("datetime2(6)", 8, 26, 6, US, False, True),
    ("datetime2(7)", 8, 27, 7, NS, True, True),
    ("time(3)", 4, 12, 3, pa.time64("us"), False, True),
    ("time(7)", 5, 16, 7, pa.time64("ns"), False, True),
    ("datetimeoffset(7)", 10, 34, 7, pa.string(), True, True),
    ("char(3)", 3, 0, 0, pa.string(), False, False),
    ("varchar(max)", -1, 0, 0, pa.string(), False, False),
    ("nvarchar(20)", 40, 0, 0, pa.string(), False, False),
    ("text", 16, 0, 0, pa.string(), False, False),
    ("ntext", 16, 0, 0, pa.string(), False, False),
    ("xml", -1, 0, 0, pa.string(), True, True),
    ("json", -1, 0, 0, pa.string(), True, True),
    ("sysname", 256, 0, 0, pa.string(), False, False),
    ("uniqueidentifier", 16, 0, 0, pa.string(), False, True),
    ("sql_variant", 8016, 0, 0, pa.string(), True, True),
    ("hierarchyid", 892, 0, 0, pa.string(), True, True),
    ("binary(8)", 8, 0, 0, pa.binary(), False, False),
    ("varbinary(max)", -1, 0, 0, pa.binary(), False, False),
    ("image", 16, 0, 0, pa.binary(), False, False),
    ("timestamp", 8, 0, 0, pa.int64(), True, True),
]


def row(
    declared: str | None, width: int = 8, precision: int | None = 0, scale: int | None = 0, **more: Any
) -> dict[str, Any]:
    """A row of sp_describe_first_result_set, as far as it is read."""
    return {
        "is_hidden": False,
        "column_ordinal": 1,
        "name": "a b]",
        "system_type_name": declared,
        "max_length": width,
        "precision": precision,
        "scale": scale,
        "user_type_name": None,
        **more,
    }


@pytest.mark.parametrize(("declared", "width", "precision", "scale", "kind", "arrow", "rows"), TYPES)
def test_every_type(
    declared: str, width: int, precision: int, scale: int, kind: pa.DataType, arrow: bool, rows: bool
) -> None:
    column = described(row(declared, width, precision, scale), ENGINE)
    assert arrow_type(column, ENGINE) == kind
    for form, wanted in ((expression(column, rows=False), arrow), (expression(column, rows=True), rows)):
        assert (form is not None) == wanted
        if form:
            assert "_q.[a b]]]" in form
            sqlglot.parse_one(f"select {form} as v from t as _q", dialect="tsql")


def test_types_of_the_clr_are_told_by_their_own_name() -> None:
    assert arrow_type(described(row(None, 892, user_type_name="hierarchyid"), ENGINE), ENGINE) == pa.string()
    with pytest.raises(ConfigurationError, match=r"'a b\]' has type 'geography', which is not read; .*STAsText"):
        arrow_type(described(row(None, -1, user_type_name="geography"), ENGINE), ENGINE)
    with pytest.raises(ConfigurationError, match="'vector', which is not read; cast it"):
        arrow_type(described(row("vector(3)"), ENGINE), ENGINE)


def test_a_column_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="column 1 of the query has no name"):
        described(row("int", name=None), ENGINE)


def test_lobs_weigh_a_mebibyte_until_they_were_seen() -> None:
    assert fetch_width(Column("a", "varchar", -1, 0, 0)) == fetch_width(Column("a", "image", 16, 0, 0)) == 1 << 20
    assert fetch_width(Column("a", "nvarchar", 8000, 0, 0)) == 8000


SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("amount", pa.decimal128(10, 2)),
        ("at", NS),
        ("t", pa.time64("us")),
        ("name", pa.string()),
        ("raw", pa.binary()),
    ]
)
CAME = {
    "id": pa.array([1, None], pa.int32()),
    "amount": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
    "at": pa.array(["2024-02-29T23:59:59.1234567", None]),
    "t": pa.array([86399999999000, None], pa.time64("ns")),
    "name": pa.array(["", None], pa.large_string()),
    "raw": pa.array([b"", None], pa.large_binary()),
}


def test_what_mssql_python_gives_is_fitted_to_the_description() -> None:
    batch = from_arrow(pa.RecordBatch.from_pydict(CAME), SCHEMA, ENGINE)
    assert batch.schema == SCHEMA
    assert batch["at"][0].value == 1709251199123456700
    assert batch.slice(1).to_pylist() == [dict.fromkeys(SCHEMA.names)]
    assert batch["name"][0].as_py() == ""


def test_a_decimal_of_another_scale_is_cast_or_refused_and_never_rounded() -> None:
    amount = pa.array([Decimal("1.5000"), None], pa.decimal128(19, 4))
    batch = from_arrow(pa.RecordBatch.from_pydict({**CAME, "amount": amount}), SCHEMA, ENGINE)
    assert batch["amount"].to_pylist() == [Decimal("1.50"), None]
    amount = pa.array([Decimal("1.5001"), None], pa.decimal128(19, 4))
    with pytest.raises(DataError, match="'amount' holds a value that does not fit"):
        from_arrow(pa.RecordBatch.from_pydict({**CAME, "amount": amount}), SCHEMA, ENGINE)


@pytest.mark.parametrize(
    ("declared", "precision", "scale"),
    [
        ("numeric", None, None),
        ("numeric", 0, 0),
        ("numeric", 38, 38),
        ("decimal", 38, 6),
        ("decimal(10,2)", 38, 38),
        ("decimal(10,2)", None, None),
        ("numeric(39,2)", 39, 2),
    ],
)
def test_a_decimal_whose_digits_are_not_told_is_refused(
    declared: str, precision: int | None, scale: int | None
) -> None:
    """A server that gives no digits in the type's name has been seen to describe any sum as one of 38 decimals."""
    column = described(row(declared, max_length=None, precision=precision, scale=scale), ENGINE)
    assert column.width == -1
    told = r"'a b\]' is a (numeric|decimal) of (unknown|39) digits .*allowed: 1 to 38; cast"
    with pytest.raises(ConfigurationError, match=told):
        arrow_type(column, ENGINE)


def test_a_decimal_that_the_type_has_no_room_for_is_refused_and_never_wrapped() -> None:
    """Arrow's own cast gives 0.69435266158123073073250785136463577088."""
    amount, schema = pa.decimal128(38, 38), pa.schema([("amount", pa.decimal128(38, 38))])
    held = pa.RecordBatch.from_pydict({"amount": pa.array([Decimal("7.50")], pa.decimal128(10, 2))})
    assert held["amount"].cast(amount)[0].as_py() != Decimal("7.50"), "Arrow does it right now: casts.py can be simpler"
    with pytest.raises(DataError, match="'amount' holds a value that does not fit"):
        from_arrow(held, schema, ENGINE)
    with pytest.raises(DataError, match="'amount' holds a value that does not fit"):
        from_rows([(Decimal("7.50"),)], schema, ENGINE)


@pytest.mark.parametrize(
    "other",
    [
        {"id": pa.array(["1", None])},
        {"id": pa.array([1.0, None])},
        {"amount": pa.array([1.5, None])},
        {"name": pa.array([b"x", None])},
        {"raw": pa.array(["x", None])},
        {"other": pa.array([1, 2])},
    ],
    ids=["text for number", "float for number", "float for decimal", "bytes for text", "text for bytes", "one more"],
)
def test_another_result_than_the_described_one_is_refused(other: dict[str, pa.Array]) -> None:
    with pytest.raises(DataError, match="a result with other columns or types"):
        from_arrow(pa.RecordBatch.from_pydict({**CAME, **other}), SCHEMA, ENGINE)
    renamed = dict(zip([*list(CAME)[1:], "id"], CAME.values(), strict=True))
    with pytest.raises(DataError, match="a result with other columns or types"):
        from_arrow(pa.RecordBatch.from_pydict(renamed), SCHEMA, ENGINE)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.9999999", "0001-01-01T00:00:00"])
def test_a_time_beyond_nanoseconds_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(DataError, match="column 'at' holds a value that does not fit") as raised:
        from_arrow(pa.RecordBatch.from_pydict({"at": [text]}), pa.schema([("at", NS)]), ENGINE)
    assert text not in str(raised.value)


def test_what_pymssql_gives_is_fitted_to_the_description() -> None:
    schema = pa.schema(
        [
            ("b", pa.bool_()),
            ("n", pa.decimal128(5, 2)),
            ("d", US),
            ("t", pa.time64("ns")),
            ("raw", pa.binary()),
            ("u", pa.string()),
        ]
    )
    rows = [
        (True, Decimal("1.50"), "2024-02-29T23:59:59.003", "23:59:59.1234567", b"\x00", "A0EEBC99"),
        (None, None, None, None, None, None),
    ]
    batch = from_rows(rows, schema, ENGINE)
    assert batch.schema == schema
    assert batch["t"][0].value == 86399123456700
    assert batch["d"][0].as_py().replace(tzinfo=UTC) == datetime(2024, 2, 29, 23, 59, 59, 3000, UTC)
    assert batch.slice(1).to_pylist() == [dict.fromkeys(schema.names)]
    assert from_rows([], schema, ENGINE).schema == schema
