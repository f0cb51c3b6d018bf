from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import sqlglot

from include.etl.engines.base import Query, Value
from include.etl.engines.oracle_sql import bound, converted


@pytest.mark.parametrize(
    ("value", "sql", "sent"),
    [
        (None, ":v0", None),
        (True, ":v0", 1),
        (-5, ":v0", -5),
        (0.1, ":v0", 0.1),
        (Decimal("-0.10"), ":v0", Decimal("-0.10")),
        ("it's :v0", ":v0", "it's :v0"),
        (b"\x00", ":v0", b"\x00"),
        (date(2024, 2, 29), "to_date(:v0, 'YYYY-MM-DD')", "2024-02-29"),
        (
            datetime(2024, 2, 29, 1, 2, 3),
            "to_date(:v0, 'YYYY-MM-DD\"T\"HH24:MI:SS')",
            "2024-02-29T01:02:03",
        ),
        (
            datetime(2024, 2, 29, 1, 2, 3, 4),
            "to_timestamp(:v0, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6')",
            "2024-02-29T01:02:03.000004",
        ),
        (
            datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=5))),
            "to_timestamp_tz(:v0, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6TZH:TZM')",
            "2024-02-28T20:00:00.000000+00:00",
        ),
    ],
)
def test_every_kind_of_value_is_bound(value: Value, sql: str, sent: object) -> None:
    made, values = bound(Query("select ':p' as q from t where c >= :p -- :p", {"p": value}))
    assert made == f"select ':p' as q from t where c >= {sql} -- :p"
    assert values == {"v0": sent}
    assert type(values["v0"]) is type(sent)
    sqlglot.parse_one(made, dialect="oracle")


def test_names_that_oracle_reserves_are_not_sent() -> None:
    made, values = bound(Query("select 1 from t where a >= :start and a < :end or b = :start;", {"start": 1, "end": 2}))
    assert made == "select 1 from t where a >= :v0 and a < :v1 or b = :v2"
    assert values == {"v0": 1, "v1": 2, "v2": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), "\ud800", 10**38 + 1, Decimal("0." + "1" * 39)])
def test_what_oracle_cannot_hold(value: Value) -> None:
    with pytest.raises(ValueError):
        bound(Query("select :p from dual", {"p": value}))


def test_a_query_is_put_into_parentheses() -> None:
    made = converted("with c as (select 1 a from dual) select a from c order by a -- why", ['"A"'])
    assert made == 'select "A" from (\nwith c as (select 1 a from dual) select a from c order by a -- why\n) q_'
    sqlglot.parse_one(made, dialect="oracle")
