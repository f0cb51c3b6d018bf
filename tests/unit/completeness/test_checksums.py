"""The SQL of databases that no server of is here is at least that database's SQL."""

from __future__ import annotations

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from include.etl.completeness.checksums import FORMS, Kind, over
from include.etl.completeness.totals import ColumnTotals, Totals, differences
from include.etl.engines.base import Query

TYPES: dict[Kind, pa.DataType] = {
    "integer": pa.int64(),
    "decimal": pa.decimal128(15, 2),
    "wide decimal": pa.decimal128(38, 4),
    "date": pa.date32(),
    "microseconds": pa.timestamp("us", "UTC"),
    "nanoseconds": pa.timestamp("ns"),
    "text": pa.string(),
}


@pytest.mark.parametrize("dialect", ["tsql", "oracle", "postgres", "mysql"])
def test_forms_are_sql_of_their_database(dialect: str) -> None:
    fields = {f"a {kind}]`": type_ for kind, type_ in TYPES.items() if kind in FORMS[dialect] or "decimal" in kind}
    query = over(Query("with x as (select 1 as a) select * from x where a < :end", {"end": 1}), dialect, fields)
    parsed = sqlglot.parse_one(query.sql, dialect=dialect)
    assert isinstance(parsed, exp.Select)
    assert len(parsed.expressions) == 1 + 2 * len(fields)
    assert query.params == {"end": 1}


def test_tsql_keeps_with_and_options_outside_and_oracle_asks_for_utc() -> None:
    sql = "with x as (select 1 as a) select top 5 a from x order by a option (recompile)"
    made = over(Query(sql), "tsql", {"a": pa.int32()}).sql
    assert made.startswith("with x as")
    assert made.endswith("option (recompile)")
    zoned = over(Query("select t from v"), "oracle", {"t": pa.timestamp("us", "UTC")}).sql
    assert 'sys_extract_utc("t")' in zoned


def test_totals_add_up_and_show_no_sum() -> None:
    one = Totals(rows=1, columns={"fee": ColumnTotals(values=1, sum="12.3")})
    two = Totals(rows=2, columns={"fee": ColumnTotals(values=2, sum="-0.3")})
    both = one + two
    assert both == Totals(rows=3, columns={"fee": ColumnTotals(values=3, sum="12")})
    assert Totals() + one == one
    assert "12" not in str(both.shown())
    assert differences(one.shown(), two.shown()) == ["rows: 1 and 2"]
    fewer = one.model_copy(update={"columns": {"fee": ColumnTotals(values=0, sum="12.3")}})
    assert differences(one.shown(), fewer.shown()) == ["column 'fee': 1 and 0 values that are not NULL"]
    assert differences(both.shown(), both.shown()) == []
