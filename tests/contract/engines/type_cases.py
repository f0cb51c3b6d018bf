"""Values at the edges of SQL Server's and Oracle's types, for a server of theirs or for their drivers' descriptions."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

US, UTC_US = pa.timestamp("us"), pa.timestamp("us", "UTC")
TEXT = "'it''s \"q\", a\\b \n\r\n; \t NULL \\N \\. 🏥 é'"
TEXT_VALUE = 'it\'s "q", a\\b \n\r\n; \t NULL \\N \\. 🏥 é'
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 123456)

# declared type, SQL of a value, Arrow type, value
MSSQL: list[tuple[str, str, pa.DataType, Any]] = [
    ("bit", "1", pa.bool_(), True),
    ("tinyint", "255", pa.uint8(), 255),
    ("smallint", "-32768", pa.int16(), -32768),
    ("int", "2147483647", pa.int32(), 2147483647),
    ("bigint", "-9223372036854775808", pa.int64(), -9223372036854775808),
    ("real", "16777215", pa.float32(), 16777215.0),
    ("real", "-3.4028234663852886e38", pa.float32(), -3.4028234663852886e38),
    ("real", "1.1754943508222875e-38", pa.float32(), 1.1754943508222875e-38),
    ("float", "0.1e0", pa.float64(), 0.1),
    ("float", "-1.7976931348623157e308", pa.float64(), -1.7976931348623157e308),
    ("float", "2.2250738585072014e-308", pa.float64(), 2.2250738585072014e-308),
    ("decimal(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("decimal(38,10)", "9" * 28 + "." + "9" * 10, pa.decimal128(38, 10), Decimal("9" * 28 + "." + "9" * 10)),
    ("decimal(38,0)", "-" + "9" * 38, pa.decimal128(38, 0), Decimal("-" + "9" * 38)),
    ("numeric(38,38)", "'0." + "9" * 38 + "'", pa.decimal128(38, 38), Decimal("0." + "9" * 38)),
    ("money", "-922337203685477.5808", pa.decimal128(19, 4), Decimal("-922337203685477.5808")),
    ("smallmoney", "214748.3647", pa.decimal128(10, 4), Decimal("214748.3647")),
    ("nvarchar(200)", "N" + TEXT, pa.string(), TEXT_VALUE),
    ("nvarchar(max)", "N'🏥'", pa.string(), "🏥"),
    ("varchar(max)", "'text'", pa.string(), "text"),
    ("varchar(20) collate Cyrillic_General_CI_AS", "N'здоровье'", pa.string(), "здоровье"),
    ("varchar(20) collate Latin1_General_CI_AS", "N'é€'", pa.string(), "é€"),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("nchar(3)", "N'é'", pa.string(), "é  "),
    ("text", "'text'", pa.string(), "text"),
    ("ntext", "N'🏥'", pa.string(), "🏥"),
    ("binary(4)", "0x00ff", pa.binary(), b"\x00\xff\x00\x00"),
    ("varbinary(9)", "0x00ff0a", pa.binary(), b"\x00\xff\n"),
    ("varbinary(max)", "0x", pa.binary(), b""),
    ("image", "0x00ff0a", pa.binary(), b"\x00\xff\n"),
    ("date", "'0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("date", "'9999-12-31'", pa.date32(), date(9999, 12, 31)),
    ("time(0)", "'23:59:59'", pa.time64("us"), time(23, 59, 59)),
    ("time(6)", "'23:59:59.999999'", pa.time64("us"), time(23, 59, 59, 999999)),
    ("datetime", "'2024-02-29T23:59:59.123'", US, MOMENT.replace(microsecond=123000)),
    ("datetime", "'1753-01-01T00:00:00'", US, datetime(1753, 1, 1)),
    ("smalldatetime", "'2024-02-29T23:59:00'", US, MOMENT.replace(second=0, microsecond=0)),
    ("datetime2(6)", "'2024-02-29T23:59:59.123456'", US, MOMENT),
    ("datetime2(6)", "'9999-12-31T23:59:59.999999'", US, datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("datetime2(0)", "'0001-01-01T00:00:00'", US, datetime(1, 1, 1)),
    (
        "datetimeoffset(7)",
        "'2024-02-29T23:59:59.1234567+05:30'",
        pa.string(),
        "2024-02-29T23:59:59.1234567+05:30",
    ),
    ("datetimeoffset(0)", "'2024-02-29T23:59:59-08:00'", pa.string(), "2024-02-29T23:59:59-08:00"),
    (
        "uniqueidentifier",
        "'00000000-0000-0000-0000-00000000abcd'",
        pa.string(),
        "00000000-0000-0000-0000-00000000ABCD",
    ),
    ("xml", "'<a>1</a>'", pa.string(), "<a>1</a>"),
    ("sql_variant", "cast(12.30 as decimal(9,2))", pa.string(), "decimal:12.30"),
    (
        "sql_variant",
        "cast('2024-02-29T23:59:59.1234567' as datetime2(7))",
        pa.string(),
        "datetime2:2024-02-29T23:59:59.1234567",
    ),
    ("sql_variant", "N'é:'", pa.string(), "nvarchar:é:"),
    ("sql_variant", "0x00ff", pa.string(), "varbinary:0x00FF"),
    ("hierarchyid", "'/1/2.1/'", pa.string(), "/1/2.1/"),
    ("json", "'{\"a\":1}'", pa.string(), '{"a":1}'),
]
ORACLE: list[tuple[str, str, pa.DataType, Any]] = [
    ("number(18)", "-999999999999999999", pa.int64(), -999999999999999999),
    ("number(19)", "9223372036854775807", pa.decimal128(19, 0), Decimal(9223372036854775807)),
    ("number(38)", "-" + "9" * 38, pa.decimal128(38, 0), Decimal("-" + "9" * 38)),
    ("number(15,2)", "12.30", pa.decimal128(15, 2), Decimal("12.30")),
    ("number(38,10)", "9" * 28 + "." + "9" * 10, pa.decimal128(38, 10), Decimal("9" * 28 + "." + "9" * 10)),
    ("number(3,-2)", "12345", pa.int64(), 12300),
    ("number(30,-2)", "12345678901234567890123", pa.decimal128(32, 0), Decimal("12345678901234567890100")),
    ("number(38,-2)", "12345", pa.string(), "12300"),
    ("number(2,4)", "0.0012", pa.decimal128(4, 4), Decimal("0.0012")),
    (
        "number",
        "123456789.0000000000000000000000000001",
        pa.string(),
        "123456789.0000000000000000000000000001",
    ),
    ("number", "-1e39", pa.string(), "-1" + "0" * 39),
    ("float", "0.5", pa.string(), ".5"),
    ("binary_float", "16777215", pa.float32(), 16777215.0),
    ("binary_float", "binary_float_infinity", pa.float32(), math.inf),
    ("binary_double", "0.1d", pa.float64(), 0.1),
    ("binary_double", "-1.7976931348623157e308d", pa.float64(), -1.7976931348623157e308),
    ("binary_double", "-binary_double_infinity", pa.float64(), -math.inf),
    ("boolean", "true", pa.bool_(), True),
    ("varchar2(400)", TEXT, pa.string(), TEXT_VALUE),
    ("nvarchar2(50)", "n'é 🏥'", pa.string(), "é 🏥"),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("nchar(3)", "n'é'", pa.string(), "é  "),
    ("clob", "'🏥'", pa.string(), "🏥"),
    ("nclob", "n'é 🏥'", pa.string(), "é 🏥"),
    ("long", "'text'", pa.string(), "text"),
    ("raw(9)", "hextoraw('00ff0a')", pa.binary(), b"\x00\xff\n"),
    ("blob", "hextoraw('00ff0a')", pa.binary(), b"\x00\xff\n"),
    ("date", "date'0001-01-01'", pa.timestamp("s"), datetime(1, 1, 1)),
    ("date", "to_date('99991231235959', 'YYYYMMDDHH24MISS')", pa.timestamp("s"), datetime(9999, 12, 31, 23, 59, 59)),
    ("timestamp(3)", "timestamp'2024-02-29 23:59:59.123'", US, MOMENT.replace(microsecond=123000)),
    ("timestamp(6)", "timestamp'2024-02-29 23:59:59.123456'", US, MOMENT),
    (
        "timestamp(6) with time zone",
        "timestamp'2024-02-29 23:59:59.123456 +05:30'",
        UTC_US,
        datetime(2024, 2, 29, 18, 29, 59, 123456, UTC),
    ),
    (
        "timestamp(6) with local time zone",
        "timestamp'2024-02-29 23:59:59.123456 +05:30'",
        UTC_US,
        datetime(2024, 2, 29, 18, 29, 59, 123456, UTC),
    ),
    ("interval day to second", "interval '1 02:03:04.5' day to second", pa.string(), "+01 02:03:04.500000"),
    ("interval year to month", "interval '1-2' year to month", pa.string(), "+01-02"),
    ("rowid", "chartorowid('AAAAECAABAAAAgiAAA')", pa.string(), "AAAAECAABAAAAgiAAA"),
    ("json", "'{\"a\":1}'", pa.string(), '{"a":1}'),
    ("xmltype", "xmltype('<a>1</a>')", pa.string(), "<a>1</a>"),
]
