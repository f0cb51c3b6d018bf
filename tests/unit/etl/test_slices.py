"""Slices: every row is in exactly one, whatever the keys; asked of real databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from include.etl import slices
from include.etl.engines import engine_class
from include.etl.engines.base import Query, Session, Statistics, Step, Stream
from include.etl.errors import StorageError
from include.etl.handover import Extracted, Plan, Slice, Window
from include.etl.sql_guard import only_select
from tests.servers import DatabaseServer
from tests.unit.etl.test_plan import NOW

INT64 = st.integers(-(2**63), 2**63 - 1)


def rows_per_slice(keys: list[Any], parts: list[slices.Bounds], kind: str) -> list[list[int]]:
    """Row numbers that SQLite finds in each slice."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (number INTEGER, k {kind})")
        connection.executemany("INSERT INTO t VALUES (?, ?)", enumerate(keys))
        found = []
        for part in parts:
            query = Query("SELECT * FROM t")
            query = slices.within(query, part, "sqlite") if part.column else query
            found.append([row[0] for row in connection.execute(query.sql, dict(query.params))])
    return found


def even(bounds: list[Any]) -> list[Step]:
    """A histogram with as many rows between each two values."""
    return [Step(bound, between=float(number > 0)) for number, bound in enumerate(bounds)]


@settings(max_examples=80)
@given(
    keys=st.lists(st.one_of(st.none(), INT64, st.integers(-3, 3))),
    bounds=st.lists(st.tuples(INT64, st.floats(0, 1), st.floats(0, 1)), max_size=12, unique_by=lambda bound: bound[0]),
    missing=st.floats(0, 1),
    rows=st.integers(0, 500),
)
def test_every_row_with_a_number_is_in_exactly_one_slice(
    keys: list[Any], bounds: list[tuple[int, float, float]], missing: float, rows: int
) -> None:
    parts = slices.cut("k", Statistics(rows, [Step(*bound) for bound in sorted(bounds)], missing), 10)
    found = rows_per_slice(keys, parts, "BIGINT")
    assert sorted(number for part in found for number in part) == list(range(len(keys)))


@settings(max_examples=80)
@given(keys=st.lists(st.one_of(st.none(), st.text(max_size=4))), bounds=st.lists(st.text(max_size=4), max_size=12))
def test_every_row_with_text_is_in_exactly_one_slice(keys: list[Any], bounds: list[str]) -> None:
    keys = [key and key.replace("\0", "") for key in keys]
    edges = sorted(
        {bound.replace("\0", "") for bound in bounds}, key=lambda text: text.encode("utf-8", "surrogatepass")
    )
    parts = slices.cut("k", Statistics(100, even(edges)), 10)
    found = rows_per_slice(keys, parts, "TEXT")
    assert sorted(number for part in found for number in part) == list(range(len(keys)))


def ends(parts: list[slices.Bounds]) -> list[str | None]:
    return [part.end for part in parts[:-1]]


def test_slices_are_as_many_as_the_rows_ask_for() -> None:
    assert ends(slices.cut("k", Statistics(100, even([0, 1000])), 10)) == [str(n * 100) for n in range(1, 10)]
    assert len(slices.cut("k", Statistics(100, even(list(range(0, 1000, 10)))), 30)) == 4
    assert len(slices.cut("k", Statistics(10**9, even([0, 10**12])), 1000)) == slices.MOST
    days = even([date(2024, 1, day) for day in range(1, 20)])
    assert ends(slices.cut("k", Statistics(100, days), 50)) == ["2024-01-10"]
    cents = even([Decimal("0.01"), Decimal("1.01")])
    assert ends(slices.cut("k", Statistics(100, cents), 50)) == ["0.51"]
    moments = even([datetime(2024, 1, 1, 0, 0, 0, 5), datetime(2024, 1, 3)])
    assert ends(slices.cut("k", Statistics(100, moments), 50)) == ["2024-01-02T00:00:00"]


def test_rows_without_a_value_count_as_the_lowest() -> None:
    parts = slices.cut("k", Statistics(100, even([0, 10]), missing=9.0), 5)
    assert ends(parts) == ["0", "5"]
    assert ends(slices.cut("k", Statistics(100, even([0, 10])), 50)) == ["5"]


def test_a_frequent_value_begins_one_slice() -> None:
    steps = [Step(0), Step(5, between=5.0, at=90.0), Step(10, between=5.0)]
    assert ends(slices.cut("k", Statistics(100, steps), 10)) == ["5"]
    assert ends(slices.cut("k", Statistics(100, steps), 3)) == ["3", "5", "8"]


def test_a_window_is_cut_by_its_own_rows() -> None:
    """The first ten days have a row each, the others a hundred each; the window takes five of each."""
    first, middle, last = date(2024, 1, 1), date(2024, 1, 11), date(2024, 1, 21)
    statistics = Statistics(1010, [Step(first), Step(middle, between=10.0), Step(last, between=1000.0)])
    low, high = date(2024, 1, 6), date(2024, 1, 16)
    assert ends(slices.cut("k", statistics, 101, low, high)) == [f"2024-01-{day}" for day in (12, 13, 14, 15)]
    assert slices.cut("k", statistics, 101, first, middle) == [slices.Bounds()]
    assert slices.cut("k", statistics, 101, last, date(2025, 1, 1)) == [slices.Bounds()]
    assert len(slices.cut("k", statistics, 101, None, last)) == 10


@pytest.mark.parametrize(
    "statistics",
    [
        Statistics(),
        Statistics(100, ()),
        Statistics(None, even([1, 9])),
        Statistics(5, even([1, 9])),
        Statistics(99, even([b"a", b"b"])),
        Statistics(99, even([1])),
        Statistics(99, [Step(1), Step(9)]),
    ],
)
def test_no_ground_to_cut_on_gives_one_slice(statistics: Statistics) -> None:
    assert slices.cut("k", statistics, 10) == [slices.Bounds()]


def read(index: int, plan: str = "this") -> Extracted:
    return Extracted(slice=Slice(index=index), parts=[], rows=0, bytes=0, query_hash="", extracted_at=NOW, plan_id=plan)


def test_what_was_read_is_of_this_plan_and_in_its_order() -> None:
    """Airflow hands on what slices of earlier plans have returned, too."""
    window = Window(mode="full", end=NOW)
    plan = Plan(run_id="run", window=window, slices=[Slice(index=0), Slice(index=1)], id="this")
    found = [read(2), read(1), read(0, "earlier"), read(0), read(1, "earlier")]
    assert slices.extracted_by(plan, found, "visits") == [found[3], found[1]]
    with pytest.raises(StorageError, match=r"'visits': .* slice 0 was not read since"):
        slices.extracted_by(plan, found[:3], "visits")
    with pytest.raises(StorageError, match=r"slice 0, 1 was not read since"):
        slices.extracted_by(plan, [], "visits")


@pytest.mark.parametrize(
    "sql",
    [
        "select k from t order by k",
        "with x as (select k from t) select k from x order by k option (recompile)",
        "select k from t where kind = 'option' option (maxdop 1)",
        "select [option] as k from t",
    ],
)
def test_sql_server_takes_slices_of_with_order_and_option(sql: str) -> None:
    """None of these may stand inside of parentheses, an ORDER BY only beside TOP or OFFSET."""
    asked: list[str] = []

    class Asked(Session):
        def schema(self, query: Query) -> pa.Schema:
            raise NotImplementedError

        def stream(self, query: Query) -> Stream:
            asked.append(query.sql)
            return Stream(pa.schema([]), iter([pa.RecordBatch.from_pydict({"n": [1]})]))

    first, *_ = cuts = slices.cut("k", Statistics(300, even(["a", "m", "z"])), 100)
    assert slices.ascending(Asked(), Query(sql), cuts, "tsql")
    assert asked
    for made in (slices.within(Query(sql), first, "tsql").sql, *asked):
        only_select(made, "tsql", "here")
        parsed = sqlglot.parse_one(made, dialect="tsql")
        assert [found.parent for found in parsed.find_all(exp.With)] in ([], [parsed])
        assert bool(parsed.args.get("options")) == ("option (" in sql)
        for inner in parsed.find_all(exp.Subquery):
            assert not inner.this.args.get("options")
            assert not inner.this.args.get("order") or inner.this.args.get("offset")
        assert parsed.args["where"].find(exp.Placeholder)


@pytest.mark.parametrize(
    ("dialect", "quoted", "needs_table"),
    [("postgres", '"VisitId"', False), ("mysql", "`VisitId`", False), ("oracle", '"VisitId"', True)],
)
def test_the_column_keeps_its_capitals_and_oracle_selects_from_a_table(
    dialect: str, quoted: str, needs_table: bool
) -> None:
    """Without quotes PostgreSQL and Oracle would look for another column."""
    asked: list[str] = []

    class Asked(Session):
        def schema(self, query: Query) -> pa.Schema:
            raise NotImplementedError

        def stream(self, query: Query) -> Stream:
            asked.append(query.sql)
            return Stream(pa.schema([]), iter([pa.RecordBatch.from_pydict({"n": [1]})]))

    first, *_ = cuts = slices.cut("VisitId", Statistics(300, even(["a", "m", "z"])), 100)
    assert slices.ascending(Asked(), Query("SELECT * FROM t"), cuts, dialect)
    assert f"sliced.{quoted} < " in slices.within(Query("SELECT * FROM t"), first, dialect).sql
    assert f"lent.{quoted}, " in asked[0]
    tables = [table.name.lower() for table in sqlglot.parse_one(asked[0], dialect=dialect).find_all(exp.Table)]
    assert sorted(tables) == (["dual", "t"] if needs_table else ["t"])


CREATE = "CREATE TABLE cut (id BIGINT PRIMARY KEY, name VARCHAR(40), made TIMESTAMP)"


def check_engine(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch, columns: list[str]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CUT", server.airflow_connection)
    engine = engine_class(server.conn_type, "cut")("cut")
    with engine.session() as session:
        for column in columns:
            found = session.statistics("cut", column)
            assert found.leading == {"id"}
            assert found.rows is not None
            assert 3_000 < found.rows < 7_000
            parts = slices.cut(column, found, 1_000)
            assert len(parts) > 1
            numbers: list[int] = []
            for part in parts:
                batches = session.stream(slices.within(Query("SELECT * FROM cut"), part, engine.dialect)).batches
                numbers += [number for batch in batches for number in batch.column("id").to_pylist()]
            assert sorted(numbers) == list(range(5_000))


@pytest.mark.postgres
def test_postgres_cuts_by_histogram(postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres_server.execute("DROP TABLE IF EXISTS cut")
    postgres_server.execute(CREATE)
    postgres_server.execute(
        "INSERT INTO cut SELECT n, CASE WHEN n % 7 > 0 THEN md5(n::text) END,"
        " CASE WHEN n % 5 > 0 THEN timestamp '2024-01-01' + n * interval '1 hour' END FROM generate_series(0, 4999) n"
    )
    postgres_server.execute("ANALYZE cut")
    check_engine(postgres_server, monkeypatch, ["id", "name", "made"])


@pytest.mark.mariadb
def test_mariadb_cuts_by_the_ends_of_an_index(mariadb_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    mariadb_server.execute("DROP TABLE IF EXISTS cut")
    mariadb_server.execute(CREATE)
    mariadb_server.execute("INSERT INTO cut SELECT seq, md5(seq), '2024-01-01' FROM seq_0_to_4999")
    mariadb_server.execute("ANALYZE TABLE cut")
    check_engine(mariadb_server, monkeypatch, ["id"])
