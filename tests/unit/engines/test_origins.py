"""What a query reads, and of which tables its rows are made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from include.etl.engines.origins import Path, dotted, reading

VIEWS = {
    "lookup": "select a.x, s.name from s.a join s.b on a.i = b.i",
    "plain": "select x from s.a where x > 0",
    "parts": "select * from jan union all select * from feb",
    "nested": "select * from plain where x > 1",
    "odd": "select (((",
}


def definition(path: Path) -> str | None:
    return VIEWS.get(dotted(path))


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("select * from a", ["a"]),
        ("select * from s.a", ["s.a"]),
        ("select * from a union all select * from b", ["a", "b"]),
        ("with x as (select * from a) select * from x", ["a"]),
        ("select * from (with x as (select * from a) select * from x) y", ["a"]),
        ("with x as (select * from a), y as (select * from x) select * from y union select * from x", ["a"]),
        ("(select * from a) union (select * from b)", ["a", "b"]),
        ("select * from a, (values row(1)) v (n)", ["a"]),
        ("select * from a, json_table('[]', '$[*]' columns (n int path '$')) j", ["a"]),
        ("select 1", []),
        ("select 1 from dual", []),
        ("select * from plain", ["plain", "s.a"]),
        ("select * from nested", ["nested", "plain", "s.a"]),
        ("select * from parts", ["parts", "jan", "feb"]),
    ],
)
def test_tables_that_make_a_row_alone(sql: str, relations: Sequence[str]) -> None:
    found = reading(sql, "mysql", definition)
    assert [dotted(path) for path in found.relations] == relations
    assert (found.joins, found.unreadable, found.caveats) == ([], [], [])
    assert not {("plain",), ("nested",), ("parts",)} & set(found.tables)


@pytest.mark.parametrize(
    ("sql", "partners"),
    [
        ("select * from a join b on a.i = b.i", {"a", "b"}),
        ("select * from a left join b on a.i = b.i", {"a", "b"}),
        ("select * from a, b where a.i = b.i", {"a", "b"}),
        ("select * from (a join b on a.i = b.i)", {"a", "b"}),
        ("select * from a join (select * from b) c using (i)", {"a", "b"}),
        ("select * from a cross join lateral (select * from b where b.i = a.i) c", {"a", "b"}),
        ("select * from a where exists (select 1 from b where b.i = a.i)", {"a", "b"}),
        ("select * from a where i not in (select i from b)", {"a", "b"}),
        ("select a.*, (select name from b where b.i = a.i) as name from a", {"a", "b"}),
        ("select * from a order by (select max(i) from b)", {"a", "b"}),
        ("select * from a except select * from b", {"a", "b"}),
        ("select * from a intersect select * from b", {"a", "b"}),
        ("select * from a union all (select * from b join c using (i))", {"b", "c"}),
        ("with x as (select * from a) select * from x join b using (i)", {"a", "b"}),
        ("with x as (select * from a join b using (i)) select * from x", {"a", "b"}),
        ("select * from parts join c using (i)", {"jan", "feb", "c"}),
        ("select * from lookup", {"s.a", "s.b"}),
        ("select * from nested join b using (i)", {"s.a", "b"}),
    ],
)
def test_tables_of_which_a_row_is_made_together(sql: str, partners: set[str]) -> None:
    found = reading(sql, "mysql", definition)
    assert [{dotted(path) for path in join} for join in found.joins] == [partners]
    (caveat,) = found.caveats
    assert all(name in caveat for name in partners)
    assert "lookback" in caveat


@pytest.mark.parametrize(
    "sql",
    [
        "select * from a x join a y on x.i = y.parent",
        "with recursive t as (select * from a union all select a.* from a join t on t.i = a.parent) select * from t",
    ],
)
def test_a_table_that_is_joined_with_itself(sql: str) -> None:
    (caveat,) = reading(sql, "mysql").caveats
    assert "a join of a with itself" in caveat


def test_a_view_that_cannot_be_read_is_said_to_be_so() -> None:
    found = reading("select * from odd", "mysql", definition)
    assert found.unreadable == [("odd",)]
    assert "odd" in found.caveats[0]


@pytest.mark.parametrize(
    ("dialect", "sql", "relation"),
    [
        ("postgres", 'with "X" as (select 1) select * from x', "x"),
        ("postgres", "with X as (select 1) select * from Visits", "visits"),
        ("oracle", "select * from visits", "VISITS"),
        ("tsql", "select * from clinic.dbo.visits", "clinic.dbo.visits"),
        ("tsql", "select * from other.clinic.dbo.visits", "other.clinic.dbo.visits"),
        ("mysql", "select * from Visits", "Visits"),
    ],
)
def test_names_are_folded_as_the_database_does(dialect: str, sql: str, relation: str) -> None:
    assert [dotted(path) for path in reading(sql, dialect).relations] == [relation]


@pytest.mark.parametrize(
    "sql",
    [
        "with W as (select * from a) select * from w",
        "with w as (select * from a) select * from W x",
        "with recursive W as (select * from a union all select * from w) select * from W",
    ],
)
def test_names_of_with_clauses_whatever_their_case(sql: str) -> None:
    """MySQL tells them apart where it tells tables apart, MariaDB never does."""
    found = reading(sql, "mysql", with_in_any_case=True)
    assert (list(found.relations), found.joins) == ([("a",)], [])
    assert len(reading(sql, "mysql").relations) == 2
