from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from include.etl.engines.base import Value
from include.etl.engines.mssql_sql import converted, describing, literal, quoted, text


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "null"),
        (True, "cast(1 as bit)"),
        (5, "cast(5 as bigint)"),
        (-5, "(cast(-5 as bigint))"),
        (1 << 63, "9223372036854775808"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.10"), "(-0.10)"),
        (0.1, "1.0000000000000001e-01"),
        ("it's", "N'it''s'"),
        (b"\x00\xff", "0x00ff"),
        (b"", "0x"),
        (date(2024, 2, 29), "cast('2024-02-29' as date)"),
        (datetime(2024, 2, 29, 1, 2, 3), "cast('2024-02-29T01:02:03' as datetime2(7))"),
        (datetime(2024, 2, 29, 1, 2, 3, 4), "cast('2024-02-29T01:02:03.000004' as datetime2(7))"),
        (
            datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=5))),
            "cast('2024-02-28T20:00:00+00:00' as datetimeoffset(7))",
        ),
        (datetime(1, 1, 1, tzinfo=UTC), "cast('0001-01-01T00:00:00+00:00' as datetimeoffset(7))"),
    ],
)
def test_literals_keep_their_type(value: Value, sql: str) -> None:
    assert literal(value) == sql
    sqlglot.parse_one(f"select {sql} as v", dialect="tsql")


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), "\ud800", 10**38, Decimal("0." + "1" * 39)])
def test_what_sql_server_cannot_hold(value: Value) -> None:
    with pytest.raises(ValueError):
        literal(value)


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r")))
def test_no_text_ends_its_literal(value: str) -> None:
    """Read back by a grammar that is not ours; where the text is cut in pieces, they add up."""
    parsed = sqlglot.parse_one(f"select {text(value)} as v", dialect="tsql")
    pieces = [node.this for node in parsed.find_all(exp.National, bfs=False)]
    assert "".join(pieces) == value


def test_a_backslash_does_not_continue_the_line_and_no_zero_byte_is_sent() -> None:
    assert text("a\\\nb") == "(cast(N'' as nvarchar(max)) + N'a\\' + N'\nb')"
    assert text("a\0b") == "(cast(N'' as nvarchar(max)) + N'a' + nchar(0) + N'b')"


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("select a, b from t", "select X from (\nselect a, b from t\n) as _q"),
        ("select a from t order by a", "select X from (\nselect a from t order by a\noffset 0 rows\n) as _q"),
        ("select top 3 a from t order by a", "select X from (\nselect top 3 a from t order by a\n) as _q"),
        (
            "select a from t order by a offset 5 rows fetch next 5 rows only",
            "select X from (\nselect a from t order by a offset 5 rows fetch next 5 rows only\n) as _q",
        ),
        (
            "with c as (select 1 as a) select a from c order by a",
            "with c as (select 1 as a) select X from (\nselect a from c order by a\noffset 0 rows\n) as _q",
        ),
        (
            "select row_number() over (order by a) as n from (select top 1 a from t order by a) s",
            "select X from (\nselect row_number() over (order by a) as n from (select top 1 a from t order by a) s\n)"
            " as _q",
        ),
        ("select a from t option (maxdop 1)", "select X from (\nselect a from t\n) as _q option (maxdop 1)"),
        ("select a from t where a = 'option'", "select X from (\nselect a from t where a = 'option'\n) as _q"),
        ("select [option] from t", "select X from (\nselect [option] from t\n) as _q"),
        ('select "option" from t', 'select X from (\nselect "option" from t\n) as _q'),
        ("select N'option' as a from t", "select X from (\nselect N'option' as a from t\n) as _q"),
        (
            "select 'order by' as a from t -- order by",
            "select X from (\nselect 'order by' as a from t -- order by\n) as _q",
        ),
    ],
)
def test_a_query_is_put_into_parentheses_as_t_sql_allows(sql: str, wanted: str) -> None:
    made = converted(sql, ["X"])
    assert made == wanted
    assert len(sqlglot.parse(made, dialect="tsql")) == 1


def test_a_query_is_described_without_being_run() -> None:
    assert describing("select 'a'") == "exec sp_describe_first_result_set @tsql = N'select ''a'''"
    variable = describing("select 1 -- \\\n")
    assert variable.startswith(
        "declare @query nvarchar(max) = (cast(N'' as nvarchar(max)) + N'select 1 -- \\' + N'\n')"
    )
    assert variable.endswith("; exec sp_describe_first_result_set @tsql = @query")


def test_names_are_quoted() -> None:
    assert quoted("a]b [c") == "[a]]b [c]"
