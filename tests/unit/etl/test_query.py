"""Queries: built or rendered, always one SELECT that reads, always bound values."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlglot

from include.etl import query
from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import Bounds, Window

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
LATER = Window(mode="incremental", start=START, end=END, read_from=START)
FIRST = Window(mode="incremental", end=END)
FULL = Window(mode="full", end=END)
DIALECTS = ["sqlite", "postgres", "mysql", "tsql", "oracle"]


def source(**changes: Any) -> Source:
    settings: dict[str, Any] = {
        "source": "visits",
        "description": "Visits",
        "conn_id": "clinic",
        "cursor": {"column": "updated_at"},
        "schedule": {"incremental": "0 2 * * *"},
        "output": {"formats": ["parquet"]},
    }
    return Source.model_validate(settings | changes)


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes include/sql/visits.sql in a folder of its own and builds from it."""
    monkeypatch.setenv("ETL_INCLUDE", str(tmp_path))
    (tmp_path / "sql").mkdir()

    def build(text: str, window: Window = LATER, **changes: Any) -> query.Query:
        (tmp_path / "sql" / "visits.sql").write_text(text)
        return query.build(source(query="visits.sql", **changes), "postgres", window, START, END)

    return build


@pytest.mark.parametrize("dialect", DIALECTS)
def test_table_query_quotes_every_identifier(dialect: str) -> None:
    built = query.build(source(table="sch.Visit s", columns=["id", 'we"ird']), dialect, LATER, START, END)
    tree = sqlglot.parse_one(built.sql, dialect=dialect)
    assert [column.name for column in tree.selects] == ["id", 'we"ird']
    assert all(identifier.quoted for identifier in tree.find_all(sqlglot.exp.Identifier))
    assert built.params == {"window_start": START, "window_end": END}


def test_full_query_has_no_condition_and_no_parameters() -> None:
    built = query.build(source(table="visits"), "postgres", FULL, None, END)
    assert (built.sql, dict(built.params)) == ('SELECT * FROM "visits"', {})


def test_first_window_takes_rows_without_cursor_too() -> None:
    built = query.build(source(table="visits"), "postgres", FIRST, None, END)
    assert built.sql.endswith('WHERE ("updated_at" < :window_end OR "updated_at" IS NULL)')
    assert dict(built.params) == {"window_end": END}


@pytest.mark.parametrize("nulls", ["every_run", "first_run", "refuse"])
@pytest.mark.parametrize(
    ("window", "held", "without"),
    [
        (FULL, "before start within end after", True),
        (FIRST, "before start within", True),
        (LATER, "start within", "every"),
        (Window(mode="range", start=START, end=END, read_from=START), "start within", False),
        (Window(mode="backfill", start=START, end=END, read_from=START), "start within", False),
        (Window(mode="range", end=END), "before start within", True),
    ],
)
def test_rows_that_a_window_takes(window: Window, held: str, without: bool | str, nulls: str) -> None:
    """Asked of a database. Rows without cursor come with every later run, unless its policy is to read them once."""
    of = source(table="visits", cursor={"column": "updated_at", "nulls": nulls})
    asked = query.build(of, "sqlite", window, "2024-01-01", "2024-01-02")
    rows = {
        "before": "2023-12-31 23:59:59",
        "start": "2024-01-01",
        "within": "2024-01-01 23:59:59",
        "end": "2024-01-02",
        "after": "2024-01-02 00:00:01",
        "without": None,
    }
    expected = [*held.split(), *(["without"] if without is True or (without and nulls != "first_run") else [])]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE visits (name TEXT, updated_at TEXT)")
        connection.executemany("INSERT INTO visits VALUES (?, ?)", rows.items())
        found = [name for name, _ in connection.execute(asked.sql, dict(asked.params))]
    assert found == expected


def test_a_window_needs_a_cursor_and_is_on_it_by_default(template: Any) -> None:
    assert "(updated_at >= :window_start AND updated_at < :window_end)" in template("SELECT 1 WHERE {{ window() }}").sql
    assert template("SELECT 1 AS {{ mode }} WHERE {{ window() }}", FULL).sql == "SELECT 1 AS full WHERE 1 = 1"
    with pytest.raises(ConfigurationError, match=r"visits.sql: window\(\) needs `cursor` in visits.yaml"):
        template("SELECT 1 WHERE {{ window() }}", FULL, cursor=None, schedule={"full": "@daily"})


@pytest.mark.parametrize(("nulls", "taken"), [("every_run", True), ("refuse", True), ("first_run", False)])
def test_a_template_keeps_to_the_policy_for_rows_without_cursor(template: Any, nulls: str, taken: bool) -> None:
    built = template("SELECT 1 WHERE {{ window('v.at') }}", cursor={"column": "at", "nulls": nulls})
    assert ("OR v.at IS NULL" in built.sql) is taken


@pytest.mark.parametrize("text", ["SELECT 1 AS a WHERE {{ window() }};", "SELECT 1 AS a WHERE {{ window() }} ;;\n\n"])
def test_a_template_is_one_statement_without_its_end(template: Any, text: str) -> None:
    """It is put into parentheses where it is counted or cut."""
    assert template(text).sql.rstrip().endswith(":window_end) OR updated_at IS NULL)")


def test_a_name_that_is_not_known_is_refused(template: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"visits.sql: 'kind' is undefined"):
        template("SELECT 1 AS a {{ kind }} WHERE {{ window() }}")


@pytest.mark.parametrize(
    ("dialect", "table", "column"),
    [("mysql", "`a`.`b c`", "`x`"), ("tsql", "[a].[b c]", "[x]"), ("oracle", '"a"."b c"', '"x"')],
)
def test_names_are_quoted_as_the_database_does(dialect: str, table: str, column: str) -> None:
    built = query.build(source(table="a.b c", columns=["x"]), dialect, FULL)
    assert built.sql == f"SELECT {column} FROM {table}"
    windowed = query.build(source(table="a.b c", cursor={"column": "x"}), dialect, LATER, START, END)
    assert f"{column} >= :window_start AND {column} < :window_end" in windowed.sql
    assert query.keys_query("a.b c", ["x"], dialect).sql == f"SELECT DISTINCT {column} FROM {table}"
    assert query.tables(built, dialect) == [["a", "b c"]]


@pytest.mark.parametrize(("dialect", "column"), [("postgres", '"id"'), ("mysql", "`id`"), ("tsql", "[id]")])
def test_a_slice_is_of_the_windows_rows(dialect: str, column: str) -> None:
    part = Bounds(column="id", start="5", end="9")
    built = query.build(source(table="visits"), dialect, LATER, START, END, part)
    whole = query.build(source(table="visits"), dialect, LATER, START, END)
    assert whole.sql in built.sql
    assert f"sliced.{column} >= :slice_start AND (sliced.{column} < :slice_end)" in built.sql
    assert built.params == {**whole.params, "slice_start": 5, "slice_end": 9}
    assert query.build(source(table="visits"), dialect, LATER, START, END, Bounds()) == whole


def test_a_refusal_names_source_and_query(template: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^source 'visits', visits.sql: "):
        template("DELETE FROM visits WHERE {{ window() }}")


def test_a_full_run_may_read_without_window(template: Any) -> None:
    assert template("SELECT 1 AS a", FULL).params == {}
    with pytest.raises(ConfigurationError, match=r"put \{\{ window\('updated_at'\) \}\} in its WHERE clause"):
        template("SELECT 1 AS a")


def test_tables_are_those_that_a_query_reads() -> None:
    sql = "WITH own AS (SELECT * FROM a.visits) SELECT * FROM own JOIN beds ON 1 = 1 JOIN a.own x ON 1 = 1 JOIN beds b"
    assert query.tables(query.Query(sql), "postgres") == [["beds"], ["a", "own"], ["a", "visits"]]
    assert query.keys_query("a.beds", ["id", "no"], "postgres").sql == 'SELECT DISTINCT "id", "no" FROM "a"."beds"'


def test_template_renders_the_window(template: Any) -> None:
    built = template("SELECT * FROM visits v WHERE {{ window('v.updated_at') }} -- it's; fine\n;")
    assert "(v.updated_at >= :window_start AND v.updated_at < :window_end)" in built.sql
    assert set(built.params) == {"window_start", "window_end"}


def test_template_that_ignores_the_window_is_refused(template: Any) -> None:
    with pytest.raises(ConfigurationError, match="does not use the window"):
        template("SELECT * FROM visits -- :window_end")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM visits WHERE {{ window() }}", "DELETE; allowed: one SELECT"),
        ("SELECT 1 WHERE {{ window() }}; DROP TABLE visits", "2 statements"),
        ("WITH gone AS (DELETE FROM visits RETURNING *) SELECT * FROM gone WHERE {{ window() }}", "DELETE"),
        ("SELECT * INTO copy FROM visits WHERE {{ window() }}", "INTO"),
        ("SELECT * FROM visits WHERE {{ window() }} FOR UPDATE", "row lock"),
        ("SELECT * FROM visits WHERE {{ windw() }}", "'windw' is undefined"),
        ("SELECT * FROM visits WHERE {{ window( }}", "visits.sql, line 1"),
        ("SELEC * FROM visits WHERE {{ window() }}", "not valid postgres SQL"),
        ("{{ ''.__class__.__mro__ }} {{ window() }}", "unsafe"),
        ("", "0 statements"),
    ],
)
def test_anything_but_one_reading_select_is_refused(template: Any, sql: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        template(sql)
    assert message in str(refused.value)


def test_missing_template_lists_the_ones_there_are(template: Any) -> None:
    template("SELECT 1 WHERE {{ window() }}")
    with pytest.raises(ConfigurationError, match=r"'other.sql'.*allowed: visits.sql"):
        query.build(source(query="other.sql"), "postgres", LATER, START, END)
