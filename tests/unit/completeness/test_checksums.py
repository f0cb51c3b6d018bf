"""The SQL of databases that no server of is here is at least that database's SQL."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from include.etl.completeness.checksums import FORMS, Kind, over
from include.etl.completeness.totals import ColumnTotals, Totals, _parsed, differences, of_relation
from include.etl.engines.base import Query

EDGES = [(1, 1, 1), (4, 2, 29), (100, 2, 28), (1582, 10, 4), (1582, 10, 15), (2000, 2, 29), (9999, 12, 31)]
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


def test_oracle_counts_days_and_moments_by_the_gregorian_calendar() -> None:
    """Its own differences of dates are Julian before 1582; this is arithmetic of years, months, days and minutes."""
    edges = [datetime(year, month, day, 23, 59) for year, month, day in EDGES]
    some = [datetime(1, 1, 1) + timedelta(days=days, minutes=days % 1440) for days in range(0, 3_652_000, 997)]
    rows = pa.table({"d": pa.array([*edges, *some], pa.timestamp("us"))})
    with duckdb.connect() as connection:
        connection.register("held", rows)
        for kind, wanted in (("date", "d::date - date '1970-01-01'"), ("microseconds", "epoch_us(d)")):
            mine = re.sub(r"to_char\(sum\((.*)\), 'TM9'\)", r"\1", FORMS["oracle"][kind]).format("d")
            wrong = connection.execute(f"select d from held where ({mine}) <> {wanted}").fetchall()
            assert wrong == [], kind


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.decimal128(19, 4), ["922337203685477.5808", "-0.0001", None]),
        (pa.decimal128(38, 0), ["9" * 38] * 12 + ["-1", None]),
        (pa.decimal128(38, 38), ["-0." + "9" * 38, "-0." + "0" * 37 + "1", "0.5"]),
        (pa.decimal128(38, 10), ["-" + "9" * 28 + "." + "1" * 10, "123.4"]),
        (pa.decimal128(38, 10), [None]),
        (pa.decimal128(38, 10), []),
    ],
    ids=lambda given: str(given)[:40],
)
def test_tsql_sums_decimals_exactly(type_: pa.DataType, values: list[str | None]) -> None:
    """Its SQL, put into DuckDB's by a grammar that is not ours."""
    rows = pa.table({"fee": pa.array([value and Decimal(value) for value in values], type_)})
    fields = {"fee": type_}
    sql = sqlglot.transpile(over(Query("select fee from held"), "tsql", fields).sql, read="tsql", write="duckdb")[0]
    with duckdb.connect() as connection:
        connection.register("held", rows)
        found = _parsed(connection.execute(sql).fetchall()[0], fields)
        assert found == of_relation(connection, "held", fields)
    with localcontext(prec=200):
        wanted = sum((Decimal(value) for value in values if value), Decimal(0))
        assert Decimal(found.columns["fee"].sum) == wanted


def test_tsql_casts_before_it_sums_and_so_keeps_the_decimals_of_money() -> None:
    assert "sum(cast([fee] as decimal(38, 4)))" in over(Query("select 1"), "tsql", {"fee": pa.decimal128(19, 4)}).sql


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


def test_text_is_summed_up_by_a_hash_that_every_server_has_and_the_record_names_it() -> None:
    """MySQL 9.7 has no md5(), and FIPS allows none."""
    for dialect, forms in FORMS.items():
        assert "md5" not in forms["text"].lower(), dialect
    with duckdb.connect() as connection:
        fields = {"note": pa.string(), "visit": pa.int64()}
        one = of_relation(connection, "(select 'é' as note, 1 as visit)", fields)
    first_bits = int.from_bytes(hashlib.sha256("é".encode()).digest()[:7])
    assert one.columns["note"].sum == str(first_bits)
    assert one.shown()["columns"]["note"]["hash"] == "SHA-256"
    assert "hash" not in one.shown()["columns"]["visit"]


def test_sums_of_different_hashes_are_not_compared() -> None:
    old, new = (Totals(rows=1, columns={"note": ColumnTotals(values=1, sum="1", hash=by)}) for by in ("", "SHA-256"))
    assert differences(old.shown(), new.shown()) == ["column 'note': checksums taken by different hashes"]
    assert differences((old + new).shown(), (new + new).shown()) == [
        "column 'note': checksums taken by different hashes"
    ]
    assert differences(new.shown(), Totals(rows=1).shown()) == ["column 'note': 1 and 0 values that are not NULL"]
