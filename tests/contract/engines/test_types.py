"""What a column declares and holds is what comes out: exactly, or as lossless text, or as an error that names it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from include.etl.engines.base import Query
from include.etl.errors import ConfigurationError, DataError
from tests.contract.engines.lab import Lab
from tests.contract.engines.type_cases import MOMENT, MSSQL, ORACLE, TEXT, TEXT_VALUE, US, UTC_US

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
    ("numeric", "'Infinity'", pa.string(), "Infinity"),
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
    ("jsonb", '\'{"b": 1, "a": 12345678901234567890.10}\'', pa.string(), '{"a": 12345678901234567890.10, "b": 1}'),
    ("money", "'12.30'", pa.string(), "$12.30"),
    ("bit(5)", "b'00110'", pa.string(), "00110"),
    ("varbit(9)", "b''", pa.string(), ""),
    ("integer[][]", "array[[1, 2], [3, null]]", pa.string(), "{{1,2},{3,NULL}}"),
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
    ("bit(1)", "b'1'", pa.uint64(), 1),
    ("text", TEXT.replace("\\", "\\\\"), pa.string(), TEXT_VALUE),
    ("varchar(9) character set latin1", "'é'", pa.string(), "é"),
    ("varbinary(9)", "x'00ff'", pa.binary(), b"\x00\xff"),
    ("binary(4)", "x'00ff'", pa.binary(), b"\x00\xff\x00\x00"),
    ("blob", "x'00ff0a'", pa.binary(), b"\x00\xff\n"),
    ("longblob", "''", pa.binary(), b""),
    ("date", "'9999-12-31'", pa.date32(), date(9999, 12, 31)),
    ("year", "2024", pa.int16(), 2024),
    ("time(3)", "'-838:59:59'", pa.string(), "-838:59:59.000"),
    ("datetime(6)", "'2024-02-29 23:59:59.123456'", US, MOMENT),
    ("timestamp(6)", "'2024-02-29 23:59:59.123456'", UTC_US, MOMENT.replace(tzinfo=UTC)),
    ("json", "'{\"a\": 1.0}'", pa.string(), '{"a": 1.0}'),
    ("enum('x','y')", "'y'", pa.string(), "y"),
    ("set('x','y')", "'x,y'", pa.string(), "x,y"),
    ("uuid", "'00000000-0000-0000-0000-00000000abcd'", pa.string(), "00000000-0000-0000-0000-00000000abcd"),
    ("inet6", "'::1'", pa.string(), "::1"),
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
APART = {
    "postgres": [("enum", pa.string())],
    "mssql-pymssql": [("rowversion", pa.int64())],
    "oracle": [("long raw", pa.binary())],
}
"""Types that no table takes beside all others, or takes no value of, or that must be made: each has its own test."""
CASES = {
    "postgres": POSTGRES,
    "mysql": MYSQL,
    "mysql-mariadb": MYSQL,
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
    "mysql": [
        ("date", "'0000-00-00'"),
        ("datetime", "'0000-00-00 00:00:00'"),
        ("date", "'2024-02-00'"),
        ("date", "'0000-05-12'"),
        ("datetime", "'0000-05-12 08:00:00'"),
    ],
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
        ("date", "'0000-05-12'"),
        ("timestamptz", "'0001-01-01 00:00:00+03:00'"),
        ("timestamp", "1709251199"),
        ("timestamp", "'2024-02-29 23:59:59+03:00'"),
        ("time", "'24:00'"),
        ("time", "'10:00+03:00'"),
        ("text", "x'ff'"),
        ("blob", "'abc'"),
    ],
}
UNFIT["mysql-mariadb"] = UNFIT["mysql"]
UNFIT["mssql-mssql-python"] = UNFIT["mssql-pymssql"] = [
    ("datetime2(7)", "'9999-12-31T23:59:59.9999999'"),
    ("datetime2(7)", "'0001-01-01T00:00:00'"),
]
UNFIT["oracle"] = [
    ("timestamp(9)", "timestamp'9999-12-31 23:59:59.999999999'"),
    ("date", "date'-0044-03-15'"),
    ("timestamp(6)", "timestamp'-0044-03-15 00:00:00'"),
]


@pytest.fixture
def table(lab: Lab) -> Any:
    """The name of a table that is dropped at the end."""
    lab.execute("drop table if exists visits")
    yield "visits"
    lab.execute("drop table if exists visits")


def test_every_type_comes_out_exactly_beside_its_null(lab: Lab, table: str) -> None:
    """Types that this version of a server does not have are left out, and said at the end."""
    missing = lab.missing_types({declared for declared, *_ in CASES[lab.kind]})
    cases = [case for case in CASES[lab.kind] if case[0] not in missing]
    columns = ", ".join(f"c{n} {declared} null" for n, (declared, *_) in enumerate(cases))
    lab.execute(f"create table {table} ({columns})")
    lab.execute(f"insert into {table} values ({', '.join(sql for _, sql, *_ in cases)})")
    lab.execute(f"insert into {table} values ({', '.join('null' for _ in cases)})")
    read = lab.read(f"select * from {table}")
    wanted = [(declared, kind) for declared, _, kind, _ in cases]
    assert [(declared, kind) for (declared, _), kind in zip(wanted, read.schema.types, strict=True)] == wanted
    first, second = sorted(read.to_pylist(), key=lambda row: row["c0"] is None)
    came = [(declared, value) for (declared, *_), value in zip(cases, first.values(), strict=True)]
    assert came == [(declared, value) for declared, *_, value in cases]
    assert set(second.values()) == {None}
    if missing:
        pytest.skip(f"all others came out exactly; NOT TESTED, since this server lacks them: {', '.join(missing)}")


def test_a_value_that_does_not_fit_is_an_error_that_names_the_column_and_not_the_value(lab: Lab, table: str) -> None:
    for declared, sql in UNFIT[lab.kind]:
        lab.execute(f"drop table if exists {table}")
        lab.execute(f"create table {table} (id integer, bad {declared})")
        lab.execute_leniently(f"insert into {table} values (1, {sql})")
        with pytest.raises(DataError, match=r"(?i)column 'bad' holds a value that does not fit its type") as raised:
            lab.read(f"select * from {table}")
        assert sql.strip("'") not in str(raised.value)
        assert raised.value.__cause__ is None


def test_nan_is_kept(lab: Lab) -> None:
    nan = {"postgres": "'NaN'::float8", "oracle": "binary_double_nan"}.get(lab.kind)
    if nan:  # the others store no NaN
        assert math.isnan(lab.read(f"select {nan} as x")["x"][0].as_py())


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
    with pytest.raises(ConfigurationError, match=r"(?i)['\"]visit['\"]"):
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


def test_sql_server_s_moments_in_utc_are_text_that_is_read_as_utc(lab: Lab) -> None:
    if lab.database == "mssql":  # whether it prints Z or +00:00 is the server's own affair
        read = lab.read("select cast('2024-02-29T23:59:59.1234560+00:00' as datetimeoffset(7)) as m")
        assert datetime.fromisoformat(read["m"][0].as_py()) == MOMENT.replace(tzinfo=UTC)


def test_postgres_s_enums_are_text(lab: Lab, table: str) -> None:
    if lab.kind == "postgres":
        lab.execute("drop type if exists mood")
        lab.execute("create type mood as enum ('fine', 'it''s so')")
        lab.execute(f"create table {table} (m mood)")
        lab.execute(f"insert into {table} values ('it''s so'), (null)")
        assert lab.read(f"select m from {table} order by m").to_pydict() == {"m": ["it's so", None]}
        lab.execute(f"drop table {table}")
        lab.execute("drop type mood")


def test_oracle_s_long_raw(lab: Lab, table: str) -> None:
    if lab.kind == "oracle":  # one LONG to a table
        lab.execute(f"create table {table} (r long raw)")
        lab.execute(f"insert into {table} values (hextoraw('00ff0a'))")
        read = lab.read(f"select r from {table}")
        assert (read.schema.types, read["r"].to_pylist()) == ([pa.binary()], [b"\x00\xff\n"])


def test_sql_server_s_row_versions_are_numbers_that_grow(lab: Lab, table: str) -> None:
    if lab.database == "mssql":  # never NULL, and of no value that a test could choose
        lab.needs_type("rowversion")
        lab.execute(f"create table {table} (a int, v rowversion)")
        lab.execute(f"insert into {table} (a) values (1), (2)")
        read = lab.read(f"select a, v from {table}")
        assert read.schema.types == [pa.int32(), pa.int64()]
        first, second = sorted(read["v"].to_pylist())
        assert 0 < first < second


def test_sql_server_s_variants_keep_every_digit_of_a_float(lab: Lab, table: str) -> None:
    if lab.database == "mssql":  # how many it prints is the server's own affair
        lab.execute(f"create table {table} (v sql_variant)")
        lab.execute(f"insert into {table} values (cast(0.1e0 as float))")
        kind, text = lab.read(f"select v from {table}")["v"][0].as_py().split(":")
        assert (kind, float(text)) == ("float", 0.1)


def test_sql_server_s_shapes_are_refused_with_advice(lab: Lab) -> None:
    if lab.database == "mssql":
        missing = lab.missing_types({"geography", "geometry"})
        for kind in {"geography", "geometry"} - set(missing):
            with pytest.raises(ConfigurationError, match=rf"'shape' has type '{kind}', which is not read; .*STAsText"):
                lab.read(f"select cast(null as {kind}) as shape")
            assert lab.read(f"select cast(null as {kind}).STAsText() as shape")["shape"].to_pylist() == [None]
        if missing:
            pytest.skip(f"NOT TESTED, since this server lacks them: {', '.join(missing)}")


def test_oracle_keeps_the_ninth_digit(lab: Lab, table: str) -> None:
    if lab.kind == "oracle":  # Python's own times have no such digit
        lab.execute(f"create table {table} (a timestamp(9), b timestamp(9) with time zone)")
        moment = "timestamp'2024-02-29 23:59:59.123456789"
        lab.execute(f"insert into {table} values ({moment}', {moment} +05:30')")
        read = lab.read(f"select a, b from {table}")
        assert read.schema.types == [pa.timestamp("ns"), pa.timestamp("ns", "UTC")]
        assert [read[name][0].value for name in ("a", "b")] == [1709251199123456789, 1709231399123456789]


def test_oracle_keeps_the_empty_string_as_null(lab: Lab, table: str) -> None:
    if lab.kind == "oracle":
        lab.execute(f"create table {table} (v varchar2(9), n nvarchar2(9))")
        lab.execute(f"insert into {table} values ('', n'')")
        assert lab.read(f"select v, n from {table}").to_pylist() == [{"v": None, "n": None}]


def test_names_with_spaces_quotes_and_capitals_are_kept(lab: Lab, table: str) -> None:
    names = ["Visit Id", "größe", "a'b", "a.b", "%s :n"]
    columns = [lab.quote_name(name) for name in names]
    naive = lab.declared("naive")
    lab.execute(f"create table {table} ({', '.join(f'{column} {naive} null' for column in columns)})")
    with lab.engine().session() as session:
        assert session.schema(Query(f"select * from {table}")).names == names
        (schema, batches) = session.stream(Query(f"select {', '.join(columns)} from {table}"))
        assert schema.names == names
        assert sum(batch.num_rows for batch in batches) == 0


def test_a_byte_order_mark_is_part_of_a_value(lab: Lab, table: str) -> None:
    """Also in the first cell of what a server sends, where readers of CSV take it for the file's own."""
    lab.not_in("mssql", "its variable-length types here are not all Unicode")
    lab.not_in("oracle", "its variable-length types here are not all Unicode")
    lab.execute(f"create table {table} (t {lab.declared('text')})")
    for value in ("\ufeff", "\ufeffabc", "\ufeff\ufeffx"):
        lab.execute(f"insert into {table} values ('{value}')")
    for value in ("\ufeff", "\ufeffabc", "\ufeff\ufeffx"):
        assert lab.read(f"select t from {table} where t = :value", value=value)["t"].to_pylist() == [value]
