"""Slices made from a real database's own statistics hold every row exactly once, whatever the keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl import slices
from include.etl.engines import engine_class
from include.etl.engines.base import Engine, Query, Statistics
from include.etl.handover import Bounds
from tests.servers import DatabaseServer

INT64 = 2**63
DAYS = st.dates(date(1000, 1, 1), date(9999, 12, 31))
MOMENTS = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59))
LATER = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1))
TEXT = st.text(st.sampled_from("aAbBzZäÄßéÉsS 19-_'\\漢😀İı"), max_size=6) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6
)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.sampled_from([-INT64, -1, 0, 1, INT64 - 1]) | st.integers(-INT64, INT64 - 1) | st.integers(-5, 300),
    "decimal": st.decimals(-(10**16), 10**16, places=3) | st.decimals(-2, 2, places=3),
    "date": st.sampled_from([date(1000, 1, 1), date(9999, 12, 31)])
    | DAYS
    | st.dates(date(2024, 1, 1), date(2024, 3, 1)),
    "moment": MOMENTS | st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 3)),
    "later": LATER,
    "short": st.decimals(-(10**9), 10**9, places=3),
    "uuid": st.uuids(version=4).map(str),
    "text": TEXT,
}
TYPES = {
    "postgres": {
        "bigint": "integer",
        "numeric(20,3)": "decimal",
        "date": "date",
        "timestamp": "moment",
        "timestamptz": "moment",
        "uuid": "uuid",
        "text": "text",
        "char(6)": "text",
        'text collate "C"': "text",
        'text collate "de-x-icu"': "text",
        'varchar(9) collate "en-US-x-icu"': "text",
        "text collate without_case": "text",
    },
    "mysql": {
        "bigint": "integer",
        "decimal(20,3)": "decimal",
        "date": "date",
        "datetime(6)": "moment",
        "timestamp(6)": "later",
        "uuid": "uuid",
        "varchar(9) collate utf8mb4_general_ci": "text",
        "varchar(9) collate utf8mb4_unicode_ci": "text",
        "char(9) collate utf8mb4_bin": "text",
    },
    "sqlite": {"BIGINT": "integer", "DECIMAL(20,3)": "short", "DATE": "date", "TIMESTAMP": "moment", "TEXT": "text"},
}
CASES = [
    pytest.param(engine, kind, id=f"{engine}-{kind}", marks=[] if engine == "sqlite" else [getattr(pytest.mark, mark)])
    for engine, mark in (("sqlite", ""), ("postgres", "postgres"), ("mysql", "mariadb"))
    for kind in TYPES[engine]
]


@dataclass
class Table:
    """One table of a real database, filled anew with keys, and the engine that reads it."""

    kind: str
    engine: Engine
    connection: Any
    run: Callable[..., Any]

    def create(self, kind: str) -> None:
        self.run("DROP TABLE IF EXISTS keyed")
        self.run(f"CREATE TABLE keyed (number INTEGER, k {kind})")
        self.run("CREATE INDEX keyed_k ON keyed (k)")

    def fill(self, keys: list[Any]) -> None:
        self.run("DELETE FROM keyed" if self.kind == "sqlite" else "TRUNCATE TABLE keyed")
        mark = "?" if self.kind == "sqlite" else "%s"
        rows = [value for number, key in enumerate(keys) for value in (number, key)]
        if keys:
            self.run("INSERT INTO keyed VALUES " + ", ".join([f"({mark}, {mark})"] * len(keys)), rows)
        self.analyse()

    def analyse(self) -> None:
        if self.kind == "mysql":
            self.run("ANALYZE TABLE keyed PERSISTENT FOR ALL")
        else:
            self.run("ANALYZE keyed")

    def cut(self, rows: int, column: str = "k") -> tuple[Statistics, list[Bounds]]:
        with self.engine.session() as session:
            found = session.statistics("keyed", column)
            cuts = slices.cut(column, found, rows)
            assert slices.ascending(session, Query("SELECT * FROM keyed"), cuts, self.engine.dialect)
        return found, cuts

    def read(self, cuts: list[Bounds], query: str = "SELECT * FROM keyed") -> list[list[int]]:
        with self.engine.session() as session:
            found = []
            for part in cuts:
                asked = slices.within(Query(query), part, self.engine.dialect) if part.column else Query(query)
                batches = session.stream(asked).batches
                found.append([number for batch in batches for number in batch.column("number").to_pylist()])
        return found


def opened(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Table:
    if kind == "sqlite":
        monkeypatch.setenv("AIRFLOW_CONN_KEYED", json.dumps({"conn_type": "sqlite", "host": str(folder / "keyed.db")}))
        connection: Any = sqlite3.connect(folder / "keyed.db", isolation_level=None)
        return Table(
            kind,
            engine_class(kind, "keyed")("keyed"),
            connection,
            lambda sql, rows=(): connection.execute(
                sql, [str(row) if isinstance(row, (Decimal, date)) else row for row in rows]
            ).fetchall(),
        )
    server: DatabaseServer = request.getfixturevalue({"postgres": "postgres_server", "mysql": "mariadb_server"}[kind])
    monkeypatch.setenv("AIRFLOW_CONN_KEYED", server.airflow_connection)
    connection = server.connect()

    def run(sql: str, rows: Any = None) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, rows)
            return list(cursor.fetchall()) if cursor.description else []

    if kind == "mysql":
        run("SET histogram_type = JSON_HB, histogram_size = 30, time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES'")
    else:
        run("SET timezone = 'UTC'")
        run(
            "CREATE COLLATION IF NOT EXISTS without_case "
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    return Table(kind, engine_class(kind, "keyed")("keyed"), connection, run)


@pytest.fixture
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Table]:
    made = opened(request.param, request, monkeypatch, tmp_path)
    with closing(made.connection):
        yield made


@pytest.mark.parametrize(("table", "kind"), CASES, indirect=["table"])
def test_every_row_is_in_exactly_one_slice(table: Table, kind: str) -> None:
    table.create(kind)
    seen, key = set(), st.none() | KEYS[TYPES[table.kind][kind]]

    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    @given(keys=st.lists(key, min_size=20, max_size=60) | st.lists(key, max_size=5), rows=st.integers(1, 10))
    def check(keys: list[Any], rows: int) -> None:
        seen.update(keys)
        assert cut_and_read(keys, rows) > 0

    def cut_and_read(keys: list[Any], rows: int) -> int:
        table.fill(keys)
        _, cuts = table.cut(rows)
        assert sorted(number for part in table.read(cuts) for number in part) == list(range(len(keys)))
        return len(cuts)

    check()
    assert cut_and_read(list(seen), 1) > 1 or (table.kind == "sqlite" and kind == "TEXT")


@pytest.mark.parametrize(("table", "kind"), [c for c in CASES if c.id == "postgres-bigint"], indirect=["table"])
def test_a_value_of_most_rows_makes_one_large_slice_and_none_empty(table: Table, kind: str) -> None:
    table.create(kind)
    table.fill([7] * 900 + [None] * 30 + list(range(100, 170)))
    _, cuts = table.cut(10)
    sizes = [len(part) for part in table.read(cuts)]
    assert sum(sizes) == 1000
    assert 4 <= len(sizes) <= 12
    assert max(sizes) >= 900
    assert min(sizes) > 0


@pytest.mark.parametrize(("table", "kind"), [c for c in CASES if c.id == "postgres-text"], indirect=["table"])
def test_a_query_that_orders_text_otherwise_is_found_out(table: Table, kind: str) -> None:
    """Cut in the table's order and read in the query's, rows would be in several slices."""
    table.create('text collate "en-x-icu"')
    table.fill([letter * n for letter in "aBcDeF" for n in range(1, 9)])
    _, cuts = table.cut(5)
    other = Query('SELECT number, k COLLATE "C" AS k FROM keyed')
    assert sum(map(len, table.read(cuts, other.sql))) > 48
    with table.engine.session() as session:
        assert not slices.ascending(session, other, cuts, "postgres")


@pytest.mark.postgres
@pytest.mark.parametrize(("table", "kind"), [c for c in CASES if c.id == "postgres-date"], indirect=["table"])
def test_histograms_of_partitions_are_put_together(table: Table, kind: str) -> None:
    """Autovacuum analyses partitions only."""
    table.run("DROP TABLE IF EXISTS keyed")
    table.run("CREATE TABLE keyed (number INTEGER, k DATE) PARTITION BY RANGE (k)")
    for year, rows in ((2022, 100), (2023, 1000), (2024, 300)):
        table.run(
            f"CREATE TABLE keyed_{year} PARTITION OF keyed FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
        )
        table.run(f"INSERT INTO keyed SELECT n, date '{year}-01-01' + n % 365 FROM generate_series(1, {rows}) n")
        table.run(f"ANALYZE keyed_{year}")
    found, cuts = table.cut(100)
    assert found.rows == 1400
    sizes = [len(part) for part in table.read(cuts)]
    assert sum(sizes) == 1400
    assert len(sizes) == 14
    assert max(sizes) < 200
    table.run("DROP TABLE keyed")


@pytest.mark.mariadb
@pytest.mark.parametrize(("table", "kind"), [c for c in CASES if c.id == "mysql-date"], indirect=["table"])
def test_an_account_that_may_not_see_histograms_gets_the_ends_of_an_index(
    table: Table, kind: str, mariadb_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.create(kind)
    table.fill([date(2024, 1, 1 + n % 20) for n in range(100)] + [None])
    assert len(table.cut(10)[0].steps) > 2
    table.run("CREATE USER IF NOT EXISTS modest IDENTIFIED BY 'modest'")
    table.run("GRANT SELECT ON keyed TO modest")
    limited = replace(mariadb_server, user="modest", password="modest")
    monkeypatch.setenv("AIRFLOW_CONN_KEYED", limited.airflow_connection)
    found, cuts = table.cut(10)
    assert [step.value for step in found.steps] == [date(2024, 1, 1), date(2024, 1, 20)]
    assert found.leading == {"k"}
    assert sum(map(len, table.read(cuts))) == 101
    table.run("DROP USER modest")
