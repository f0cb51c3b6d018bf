"""What a column declares and holds is what comes out: exactly, or as lossless text, or as an error that names it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from include.etl.errors import ConfigurationError, DataError
from tests.contract.engines.lab import Lab

US, UTC_US = pa.timestamp("us"), pa.timestamp("us", "UTC")
TEXT = "'it''s \"q\", a\\b \n\r\n; \t NULL \\N \\. 🏥 é'"
TEXT_VALUE = 'it\'s "q", a\\b \n\r\n; \t NULL \\N \\. 🏥 é'
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 123456)

# declared type, SQL of a value, Arrow type, value
POSTGRES: list[tuple[str, str, pa.DataType, Any]] = [
    ("boolean", "true", pa.bool_(), True),
    ("smallint", "-32768", pa.int16(), -32768),
    ("integer", "2147483647", pa.int32(), 2147483647),
    ("bigint", "9223372036854775807", pa.int64(), 9223372036854775807),
    ("oid", "4294967295", pa.uint32(), 4294967295),
    ("real", "16777215", pa.float32(), 16777215.0),
    ("double precision", "0.1", pa.float64(), 0.1),
    ("double precision", "'-infinity'", pa.float64(), -math.inf),
    ("numeric(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("numeric(38,10)", "9" * 28 + "." + "9" * 10, pa.decimal128(38, 10), Decimal("9" * 28 + "." + "9" * 10)),
    ("numeric(76,20)", "-" + "9" * 56 + ".5", pa.string(), "-" + "9" * 56 + ".5" + "0" * 19),
    ("numeric(3,-2)", "12345", pa.decimal128(5, 0), Decimal(12300)),
    ("numeric(2,4)", "0.0012", pa.decimal128(4, 4), Decimal("0.0012")),
    ("numeric", "'NaN'", pa.string(), "NaN"),
    ("numeric", "123456789.000000000000000000000000000000000001", pa.string(), "123456789." + "0" * 35 + "1"),
    ("text", TEXT, pa.string(), TEXT_VALUE),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("bytea", "'\\x00ff0a'", pa.binary(), b"\x00\xff\n"),
    ("bytea", "''", pa.binary(), b""),
    ("date", "'0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("time", "'23:59:59.999999'", pa.time64("us"), time(23, 59, 59, 999999)),
    ("timestamp", "'2024-02-29 23:59:59.123456'", US, MOMENT),
    ("timestamptz", "'2024-02-29 23:59:59.123456+05:30'", UTC_US, datetime(2024, 2, 29, 18, 29, 59, 123456, UTC)),
    ("timetz", "'10:00+03'", pa.string(), "10:00:00+03"),
    ("interval", "'1 year 2 mons 3 days'", pa.string(), "P1Y2M3D"),
    ("uuid", "'00000000-0000-0000-0000-00000000abcd'", pa.string(), "00000000-0000-0000-0000-00000000abcd"),
    ("json", "'{\"a\":  12345678901234567890.123}'", pa.string(), '{"a":  12345678901234567890.123}'),
    ("text[]", "array['a', null, '']", pa.string(), '{a,NULL,""}'),
    ("int4range", "'[1,5)'", pa.string(), "[1,5)"),
    ("inet", "'::1'", pa.string(), "::1"),
    ("xml", "'<a>1</a>'", pa.string(), "<a>1</a>"),
]
MYSQL: list[tuple[str, str, pa.DataType, Any]] = [
    ("tinyint(1)", "2", pa.int8(), 2),
    ("smallint unsigned", "65535", pa.uint16(), 65535),
    ("mediumint", "-8388608", pa.int32(), -8388608),
    ("int(8) zerofill", "42", pa.uint32(), 42),
    ("bigint", "-9223372036854775808", pa.int64(), -9223372036854775808),
    ("bigint unsigned", "18446744073709551615", pa.uint64(), 18446744073709551615),
    ("float", "16777215", pa.float64(), 16777215.0),
    ("double", "0.1", pa.float64(), 0.1),
    ("decimal(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("decimal(5,0) unsigned", "99999", pa.decimal128(5, 0), Decimal(99999)),
    ("decimal(2,2)", "-0.99", pa.decimal128(2, 2), Decimal("-0.99")),
    ("decimal(65,30)", "-" + "9" * 35 + ".5", pa.string(), "-" + "9" * 35 + ".5" + "0" * 29),
    ("bit(64)", "b'1" + "0" * 63 + "'", pa.uint64(), 1 << 63),
    ("text", TEXT.replace("\\", "\\\\"), pa.string(), TEXT_VALUE),
    ("varchar(9) character set latin1", "'é'", pa.string(), "é"),
    ("varbinary(9)", "x'00ff'", pa.binary(), b"\x00\xff"),
    ("longblob", "''", pa.binary(), b""),
    ("date", "'9999-12-31'", pa.date32(), date(9999, 12, 31)),
    ("year", "2024", pa.int16(), 2024),
    ("time(3)", "'-838:59:59'", pa.string(), "-838:59:59.000"),
    ("datetime(6)", "'2024-02-29 23:59:59.123456'", US, MOMENT),
    ("timestamp(6)", "'2024-02-29 23:59:59.123456'", UTC_US, MOMENT.replace(tzinfo=UTC)),
    ("json", "'{\"a\":  1.0}'", pa.string(), '{"a":  1.0}'),
    ("enum('x','y')", "'y'", pa.string(), "y"),
    ("set('x','y')", "'x,y'", pa.string(), "x,y"),
    ("uuid", "'00000000-0000-0000-0000-00000000abcd'", pa.string(), "00000000-0000-0000-0000-00000000abcd"),
    ("point", "point(0, 0)", pa.binary(), bytes(4) + b"\1\1\0\0\0" + bytes(16)),
]
SQLITE: list[tuple[str, str, pa.DataType, Any]] = [
    ("boolean", "1", pa.bool_(), True),
    ("bigint unsigned", "9223372036854775807", pa.int64(), 9223372036854775807),
    ("double precision", "0.1", pa.float64(), 0.1),
    ("real", "9e999", pa.float64(), math.inf),
    ("decimal(10, 2)", "12.30", pa.decimal128(10, 2), Decimal("12.30")),
    ("numeric(38,0)", "-7", pa.decimal128(38, 0), Decimal(-7)),
    ("decimal(40,2)", "'0.10'", pa.string(), "0.1"),
    ("varchar(20)", TEXT, pa.string(), TEXT_VALUE),
    ("text", "'a' || char(0) || 'b'", pa.string(), "a\0b"),
    ("blob", "x'00ff'", pa.binary(), b"\x00\xff"),
    ("date", "'2024-02-29'", pa.date32(), date(2024, 2, 29)),
    ("time", "'23:59:59.999999'", pa.time64("us"), time(23, 59, 59, 999999)),
    ("datetime", "'2024-02-29T23:59:59.123456'", US, MOMENT),
    ("timestamp", "'2024-02-29 23:59:59.123456'", US, MOMENT),
    ("timestamptz", "'2024-02-29 23:59:59.123456'", UTC_US, MOMENT.replace(tzinfo=UTC)),
    ("timestamp with time zone", "'2024-03-01 02:59:59.123456+03:00'", UTC_US, MOMENT.replace(tzinfo=UTC)),
    ("json", "12", pa.string(), "12"),
    ("", "9223372036854775807", pa.int64(), 9223372036854775807),
    ("", "0.5", pa.float64(), 0.5),
    ("numeric", "'abc'", pa.string(), "abc"),
]
MSSQL: list[tuple[str, str, pa.DataType, Any]] = [
    ("bit", "1", pa.bool_(), True),
    ("tinyint", "255", pa.uint8(), 255),
    ("smallint", "-32768", pa.int16(), -32768),
    ("int", "2147483647", pa.int32(), 2147483647),
    ("bigint", "-9223372036854775808", pa.int64(), -9223372036854775808),
    ("real", "16777215", pa.float32(), 16777215.0),
    ("float", "0.1", pa.float64(), 0.1),
    ("decimal(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("decimal(38,10)", "9" * 28 + "." + "9" * 10, pa.decimal128(38, 10), Decimal("9" * 28 + "." + "9" * 10)),
    ("money", "-922337203685477.5808", pa.decimal128(19, 4), Decimal("-922337203685477.5808")),
    ("smallmoney", "214748.3647", pa.decimal128(10, 4), Decimal("214748.3647")),
    ("nvarchar(200)", "N" + TEXT, pa.string(), TEXT_VALUE),
    ("nvarchar(max)", "N'🏥'", pa.string(), "🏥"),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("varbinary(9)", "0x00ff0a", pa.binary(), b"\x00\xff\n"),
    ("varbinary(max)", "0x", pa.binary(), b""),
    ("date", "'0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("time(6)", "'23:59:59.999999'", pa.time64("us"), time(23, 59, 59, 999999)),
    ("datetime", "'2024-02-29T23:59:59.123'", US, MOMENT.replace(microsecond=123000)),
    ("smalldatetime", "'2024-02-29T23:59:00'", US, MOMENT.replace(second=0, microsecond=0)),
    ("datetime2(6)", "'2024-02-29T23:59:59.123456'", US, MOMENT),
    ("datetime2(6)", "'9999-12-31T23:59:59.999999'", US, datetime(9999, 12, 31, 23, 59, 59, 999999)),
    (
        "datetimeoffset(7)",
        "'2024-02-29T23:59:59.1234567+05:30'",
        pa.string(),
        "2024-02-29T23:59:59.1234567+05:30",
    ),
    (
        "uniqueidentifier",
        "'00000000-0000-0000-0000-00000000abcd'",
        pa.string(),
        "00000000-0000-0000-0000-00000000ABCD",
    ),
    ("xml", "'<a>1</a>'", pa.string(), "<a>1</a>"),
    ("sql_variant", "cast(12.30 as decimal(9,2))", pa.string(), "decimal:12.30"),
]
ORACLE: list[tuple[str, str, pa.DataType, Any]] = [
    ("number(18)", "-999999999999999999", pa.int64(), -999999999999999999),
    ("number(19)", "9223372036854775807", pa.decimal128(19, 0), Decimal(9223372036854775807)),
    ("number(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("number(38,10)", "9" * 28 + "." + "9" * 10, pa.decimal128(38, 10), Decimal("9" * 28 + "." + "9" * 10)),
    ("number(3,-2)", "12345", pa.int64(), 12300),
    ("number(2,4)", "0.0012", pa.decimal128(4, 4), Decimal("0.0012")),
    (
        "number",
        "123456789.0000000000000000000000000001",
        pa.string(),
        "123456789.0000000000000000000000000001",
    ),
    ("float", "0.5", pa.string(), ".5"),
    ("binary_float", "16777215", pa.float32(), 16777215.0),
    ("binary_double", "0.1d", pa.float64(), 0.1),
    ("boolean", "true", pa.bool_(), True),
    ("varchar2(400)", TEXT, pa.string(), TEXT_VALUE),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("clob", "'🏥'", pa.string(), "🏥"),
    ("raw(9)", "hextoraw('00ff0a')", pa.binary(), b"\x00\xff\n"),
    ("blob", "hextoraw('00ff0a')", pa.binary(), b"\x00\xff\n"),
    ("date", "date'0001-01-01'", pa.timestamp("s"), datetime(1, 1, 1)),
    ("timestamp(6)", "timestamp'2024-02-29 23:59:59.123456'", US, MOMENT),
    (
        "timestamp(6) with time zone",
        "timestamp'2024-02-29 23:59:59.123456 +05:30'",
        UTC_US,
        datetime(2024, 2, 29, 18, 29, 59, 123456, UTC),
    ),
    ("interval day to second", "interval '1 02:03:04.5' day to second", pa.string(), "+01 02:03:04.500000"),
    ("interval year to month", "interval '1-2' year to month", pa.string(), "+01-02"),
]
CASES = {
    "postgres": POSTGRES,
    "mysql": MYSQL,
    "sqlite": SQLITE,
    "mssql-mssql-python": MSSQL,
    "mssql-pymssql": MSSQL,
    "oracle": ORACLE,
}

UNFIT = {
    "postgres": [
        ("numeric(9,2)", "'NaN'"),
        ("date", "'infinity'"),
        ("timestamp", "'-infinity'"),
        ("time", "'24:00:00'"),
        ("date", "'0044-03-15 BC'"),
    ],
    "mysql": [("date", "'0000-00-00'"), ("datetime", "'0000-00-00 00:00:00'"), ("date", "'2024-02-00'")],
    "sqlite": [
        ("decimal(9,2)", "12.345"),
        ("decimal(9,2)", "'abc'"),
        ("decimal(20,4)", "1234567890123.4567"),
        ("decimal(4,2)", "123"),
        ("integer", "'abc'"),
        ("integer", "1.5"),
        ("real", "'abc'"),
        ("boolean", "2"),
        ("date", "20240229"),
        ("date", "'2024-02-30'"),
        ("timestamp", "1709251199"),
        ("timestamp", "'2024-02-29 23:59:59+03:00'"),
        ("time", "'24:00'"),
        ("time", "'10:00+03:00'"),
        ("text", "x'ff'"),
        ("blob", "'abc'"),
    ],
}
UNFIT["mssql-mssql-python"] = UNFIT["mssql-pymssql"] = [("datetime2(7)", "'9999-12-31T23:59:59.9999999'")]
UNFIT["oracle"] = [("timestamp(9)", "timestamp'9999-12-31 23:59:59.999999999'")]


@pytest.fixture
def table(lab: Lab) -> Any:
    """The name of a table that is dropped at the end."""
    lab.execute("drop table if exists visits")
    yield "visits"
    lab.execute("drop table if exists visits")


def test_every_type_comes_out_exactly_beside_its_null(lab: Lab, table: str) -> None:
    cases = CASES[lab.kind]
    columns = ", ".join(f"c{n} {declared} null" for n, (declared, *_) in enumerate(cases))
    lab.execute(f"create table {table} ({columns})")
    lab.execute(f"insert into {table} values ({', '.join(sql for _, sql, *_ in cases)})")
    lab.execute(f"insert into {table} values ({', '.join('null' for _ in cases)})")
    read = lab.read(f"select * from {table}")
    wanted = [(declared, kind) for declared, _, kind, _ in cases]
    assert [(declared, kind) for (declared, _), kind in zip(wanted, read.schema.types, strict=True)] == wanted
    first, second = sorted(read.to_pylist(), key=lambda row: row["c0"] is None)
    assert list(first.values()) == [value for *_, value in cases]
    assert set(second.values()) == {None}


def test_a_value_that_does_not_fit_is_an_error_that_names_the_column_and_not_the_value(lab: Lab, table: str) -> None:
    lenient = "set statement sql_mode = '' for " if lab.kind.startswith("mysql") else ""
    for declared, sql in UNFIT[lab.kind]:
        lab.execute(f"drop table if exists {table}")
        lab.execute(f"create table {table} (id integer, bad {declared})")
        lab.execute(f"{lenient}insert into {table} values (1, {sql})")
        with pytest.raises(DataError, match="column 'bad' holds a value that does not fit its type") as raised:
            lab.read(f"select * from {table}")
        assert sql.strip("'") not in str(raised.value)
        assert raised.value.__cause__ is None


def test_nan_is_kept(lab: Lab) -> None:
    if lab.kind == "postgres":  # the others store no NaN
        assert math.isnan(lab.read("select 'NaN'::float8 as x")["x"][0].as_py())


def test_null_is_not_the_empty_string_even_in_a_single_column(lab: Lab) -> None:
    lab.not_in("oracle", "it keeps the empty string as NULL")
    read = lab.read("select 'a' as x union all select null union all select '' union all select null")
    assert sorted(read["x"].to_pylist(), key=str) == ["", None, None, "a"]


def test_an_empty_result_keeps_names_and_types(lab: Lab, table: str) -> None:
    naive = lab.declared("naive")
    lab.execute(f"create table {table} (name varchar(20), amount decimal(10,2), happened {naive} null)")
    full = pa.schema([("name", pa.string()), ("amount", pa.decimal128(10, 2)), ("happened", US)])
    read = lab.read(f"select * from {table}")
    assert read.schema == full
    assert read.num_rows == 0


def test_two_columns_of_one_name_are_refused_by_name(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match=r"(?i)'visit'"):
        lab.read("select 1 as visit, 2 as patient, 3 as visit")


def test_very_long_text(lab: Lab) -> None:
    lab.not_in("oracle", "it makes no text longer than 4,000 bytes")
    read = lab.read(f"select {lab.text(str(5 << 20))} as x, 1 as y")
    assert len(read["x"][0].as_py()) == 5 << 20
    assert read["y"].to_pylist() == [1]


def test_sqlite_expressions_are_what_they_hold(lab: Lab) -> None:
    if lab.kind == "sqlite":
        mixed = "select 1 as a, 1.5 as b, 'x' as c, x'00' as d, 1 as e, null as f union all"
        read = lab.read(f"{mixed} select 2, 2.5, 'y', x'01', 'text', null")
        kinds = [pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.string(), pa.string()]
        assert read.schema.types == kinds
        assert read["e"].to_pylist() == ["1", "text"]
        with pytest.raises(DataError, match="'a' mixes BLOBs"):
            lab.read("select 1 as a union all select x'00'")
        with pytest.raises(DataError, match="'a' holds text that is not UTF-8"):
            lab.read("select cast(x'ff' as text) as a")


def test_sql_server_keeps_the_seventh_digit(lab: Lab, table: str) -> None:
    if lab.database == "mssql":  # Python's own times have no such digit
        lab.execute(f"create table {table} (a datetime2(7), b time(7))")
        lab.execute(f"insert into {table} values ('2024-02-29T23:59:59.1234567', '23:59:59.1234567')")
        read = lab.read(f"select a, b from {table} order by a")
        assert read.schema.types == [pa.timestamp("ns"), pa.time64("ns")]
        assert [read[name][0].value for name in ("a", "b")] == [1709251199123456700, 86399123456700]
