"""Every kind of value is bound exactly, and only where it is a parameter."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from include.etl.engines.base import Query, Value
from include.etl.errors import ConfigurationError
from tests.contract.engines.lab import Lab

ASTANA = timezone(timedelta(hours=5))
NAIVE = datetime(2024, 2, 29, 23, 59, 59, 120000)
HARD_TEXT = "it's 100% :n \\ \"q\" \n %s %(n)s ''; -- 🏥 \\' /*"


@pytest.mark.parametrize(
    ("declared", "stored", "value", "other"),
    [
        ("text", HARD_TEXT, HARD_TEXT, HARD_TEXT[:-1]),
        ("text", "", "", " x"),
        ("bigint", "-9223372036854775807", -9223372036854775807, -9223372036854775806),
        ("decimal(20,2)", "123456789012.35", Decimal("123456789012.35"), Decimal("123456789012.34")),
        ("double precision", "0.1", 0.1, 0.10000000000000002),
        ("date", "2024-02-29", date(2024, 2, 29), date(2024, 2, 28)),
        ("naive", "2024-02-29 23:59:59.12", NAIVE, NAIVE + timedelta(microseconds=1)),
        ("naive", "2024-02-29 23:59:59", NAIVE.replace(microsecond=0), NAIVE),
        ("zoned", "2024-02-29 18:59:59.12", NAIVE.replace(tzinfo=ASTANA), NAIVE.replace(tzinfo=UTC)),
        ("zoned", "2024-02-29 23:59:59.12", NAIVE, NAIVE.replace(tzinfo=ASTANA)),
    ],
    ids=["text", "empty", "integer", "decimal", "float", "date", "naive", "second", "zoned", "naive-is-utc"],
)
def test_a_bound_value_finds_its_own_row_and_no_other(
    lab: Lab, declared: str, stored: str, value: Value, other: Value
) -> None:
    if not stored:
        lab.not_in("oracle", "it keeps the empty string as NULL")
    lab.execute("drop table if exists bound")
    lab.execute(f"create table bound (v {lab.declared(declared)})")
    lab.execute(f"insert into bound values ({lab.quote(stored, declared)})")
    sql = "select ':n' as quoted, v /* :n */ from bound where v = :n -- :n"
    assert lab.read(sql, n=value)["quoted"].to_pylist() == [":n"]
    assert lab.read(sql, n=other).num_rows == 0
    assert lab.read("select v from bound where v >= :start and v < :end", start=value, end=None).num_rows == 0
    assert lab.read("select v from bound where v >= :start", start=value).num_rows == 1
    assert lab.read("select v from bound where v < :start;", start=value).num_rows == 0


def test_null_text_and_bytes_are_returned_as_given(lab: Lab) -> None:
    lab.not_in("oracle", "a bind variable that is selected is text to it")
    read = lab.read("select :n as n, :t as t, :b as b, 7 % 4 as m", n=None, t=HARD_TEXT, b=b"\x00\xff'\\")
    assert read.to_pylist() == [{"n": None, "t": HARD_TEXT, "b": b"\x00\xff'\\", "m": 3}]


def test_numbers_take_part_in_arithmetic(lab: Lab) -> None:
    read = lab.read("select 5-:n as a, case when 2 * 10.5 > :d then 1 else 0 end as b", n=-5, d=Decimal("20.9"))
    assert [{name: int(value) for name, value in row.items()} for row in read.to_pylist()] == [{"a": 10, "b": 1}]


def test_the_schema_is_told_with_parameters_left_open(lab: Lab) -> None:
    lab.execute("drop table if exists bound")
    lab.execute(f"create table bound (v {lab.declared('bigint')})")
    with lab.engine().session() as session:
        query = "select v from bound where v >= :start and v < :end"
        assert session.schema(Query(query, {"start": None, "end": None})) == session.schema(
            Query(query, {"start": 1, "end": 2})
        )


def test_what_the_database_cannot_hold_is_refused_without_saying_it(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match="a query parameter") as raised:
        lab.read("select :p as p", p="secret\ud800")
    assert "secret" not in str(raised.value)


def test_a_parameter_that_nobody_gave_is_an_error(lab: Lab) -> None:
    with pytest.raises(ConfigurationError):
        lab.read("select :nobody as p")
