"""What a database counts and sums up of a query is what DuckDB does of the rows that were read, for every type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl import duck
from include.etl.completeness.checksums import check_columns, kind_of
from include.etl.completeness.totals import Totals, of_batches, of_parquet, of_source
from include.etl.config import Source
from include.etl.engines.base import Query
from include.etl.errors import ConfigurationError
from tests.contract.engines.lab import Lab
from tests.contract.engines.test_types import CASES

NOT_HASHED = {"oracle": {"clob", "nclob", "long", "json", "xmltype", "urowid", "number", "float"}}
"""Types that are text in Arrow only, and that the database's own hash does not take."""


@pytest.fixture
def table(lab: Lab) -> Iterator[str]:
    lab.execute("drop table if exists totalled")
    yield "totalled"
    lab.execute("drop table if exists totalled")


def both(lab: Lab, sql: str, folder: Path, **params: Any) -> tuple[Totals, Totals, Totals]:
    """Totals of a query's summable columns: by the source, of its rows as a Parquet file, of its rows in batches."""
    engine = lab.engine()
    with engine.session() as session:
        query = Query(sql, params)
        schema, batches = session.stream(query)
        rows = pa.Table.from_batches(batches, schema)
        able = {kind for kind in map(kind_of, schema.types) if kind != "text" or lab.hashes_text}
        fields = {field.name: field.type for field in schema if kind_of(field.type) in able - {None}}
        source = of_source(engine, session, query, fields)
    pq.write_table(rows, folder / "rows.parquet")
    with duck.session(512, folder / "scratch") as connection:
        streamed = of_batches(connection, rows.to_batches(max_chunksize=2), fields)
        return source, of_parquet(connection, [folder / "rows.parquet"], fields), streamed


def test_every_type_has_one_checksum(lab: Lab, table: str, tmp_path: Path) -> None:
    skipped = {
        *NOT_HASHED.get(lab.database, ()),
        *lab.missing_types({declared for declared, *_ in CASES[lab.kind]}),
    }
    cases = [case for case in CASES[lab.kind] if case[0] not in skipped and not case[0].startswith("interval day")]
    columns = ", ".join(f"c{n} {declared} null" for n, (declared, *_) in enumerate(cases))
    lab.execute(f"create table {table} ({columns})")
    for _ in range(3):
        lab.execute(f"insert into {table} values ({', '.join(sql for _, sql, *_ in cases)})")
    lab.execute(f"insert into {table} values ({', '.join('null' for _ in cases)})")
    source, parquet, streamed = both(lab, f"select * from {table}", tmp_path)
    assert source == parquet == streamed
    assert source.rows == 4
    assert {one.values for one in source.columns.values()} == {3}
    assert len(source.columns) > 8
    if not lab.hashes_text:
        pytest.skip("all others agree; CHECKSUMS OF TEXT ARE NOT TESTED: this server has no collation in UTF-8")


def test_moments_before_1970_and_at_the_ends_of_the_calendar(lab: Lab, table: str, tmp_path: Path) -> None:
    naive = lab.declared("naive")
    lab.execute(f"create table {table} (id integer, d date, n {naive})")
    moments = ["1969-12-31 23:59:59.999999", "1900-02-28 00:00:00.000001", "9999-12-31 23:59:59.999999"]
    for number, moment in enumerate(moments):
        day, stamp = lab.quote(moment[:10], "date"), lab.quote(moment, "naive")
        lab.execute(f"insert into {table} values ({number}, {day}, {stamp})")
        source, parquet, streamed = both(lab, f"select * from {table}", tmp_path)
        assert source == parquet == streamed


def test_null_nothing_and_zero_differ(lab: Lab, table: str, tmp_path: Path) -> None:
    lab.execute(f"create table {table} (id integer, a integer, t varchar(10))")
    seen = []
    for value, text in (("null", "null"), ("0", "''"), ("1", "'a'")):
        lab.execute(f"insert into {table} values (1, {value}, {text})")
        source, parquet, _ = both(lab, f"select * from {table} order by id", tmp_path)
        assert source == parquet
        seen.append(str(source.shown()))
        lab.execute(f"delete from {table}")
    assert len(set(seen)) == 3
    source, parquet, _ = both(lab, f"select * from {table}", tmp_path)
    assert source == parquet
    assert source.rows == 0


def test_sums_beyond_64_bits_and_38_digits_are_exact(lab: Lab, table: str, tmp_path: Path) -> None:
    big = "number(38)" if lab.database == "oracle" else "decimal(38,0)"
    wide = "'" + "9" * 15 + "'" if lab.kind == "sqlite" else "9" * (30 if lab.database == "oracle" else 38)
    lab.execute(f"create table {table} (id {lab.declared('bigint')}, w {big})")
    for _ in range(12):
        lab.execute(f"insert into {table} values (9223372036854775807, {wide})")
    source, parquet, streamed = both(lab, f"select * from {table}", tmp_path)
    assert source == parquet == streamed
    assert 12 * 9223372036854775807 in [int(one.sum) for one in source.columns.values()]


def test_bound_values_and_common_table_expressions(lab: Lab, tmp_path: Path) -> None:
    sql = f"with s as (select i, 'é🏥''x' as t from {lab.series(20)}) select i, t from s where i <= :most order by i"
    source, parquet, _ = both(lab, sql, tmp_path, most=7)
    assert source == parquet
    assert source.rows == 7


@pytest.mark.parametrize("column", ["f", "gone"])
def test_column_without_checksum_is_refused_by_name(column: str) -> None:
    base = {"source": "visits", "description": "V", "conn_id": "c", "table": "v", "schedule": {"full": "@daily"}}
    source = Source.model_validate(base | {"output": {"formats": ["csv"]}, "verify": {"columns": [column]}})
    schema = pa.schema([("f", pa.float64()), ("fee", pa.decimal128(9, 2)), ("b", pa.binary()), ("t", pa.string())])
    for dialect in ("postgres", "mysql", "tsql", "oracle", "sqlite"):
        with pytest.raises(ConfigurationError, match=rf"verify.columns: '{column}': it is.*\(fee, t\)"):
            check_columns(source, schema, dialect)
