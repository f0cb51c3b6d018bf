from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl.engines.base import Query
from include.etl.engines.binding import bind
from include.etl.errors import ConfigurationError

DIALECTS = ["postgres", "mysql", "sqlite"]


def bound(sql: str, dialect: str = "postgres", **params: int) -> str:
    return bind(Query(sql, params), dialect, lambda value: f"<{value}>")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("a >= :start and b < :end", "a >= <1> and b < <2>"),
        ("a = :start::int or b=:start", "a = <1>::int or b=<1>"),
        ("':start' \":start\"", "':start' \":start\""),
        ("'it''s :start' -- :start\n, :end /* :start */", "'it''s :start' -- :start\n, <2> /* :start */"),
        (":started :starts : start", ":started :starts : start"),
        ("x % 5, '%s' :end", "x % 5, '%s' <2>"),
        ("select :end ; -- done", "select <2> "),
        ("", ""),
    ],
)
def test_only_parameters_are_replaced(dialect: str, sql: str, wanted: str) -> None:
    assert bound(sql, dialect, start=1, end=2) == wanted


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("postgres", "$$ :p $$, $tag$ :p '$tag$, E'it\\'s :p', a[1:2], /* /* */ :p */ 1"),
        ("mysql", "'it\\'s :p', `:p` # :p\n, @x := 1"),
        ("sqlite", "[:p], `:p`, x'00'"),
    ],
)
def test_each_dialect_has_its_own_quotes(dialect: str, sql: str) -> None:
    assert bound(f"{sql}, :p", dialect, p=7) == f"{sql}, <7>"


def test_open_quotes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not postgres SQL"):
        bound("select 'a :p", p=1)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=st.text(st.characters(exclude_characters="\0\\", codec="utf-8")))
def test_no_string_is_ever_touched(dialect: str, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    assert bound(f"select {quoted}, :p", dialect, p=1) == f"select {quoted}, <1>"
