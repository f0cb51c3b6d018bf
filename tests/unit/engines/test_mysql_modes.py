"""Which queries mean the same whatever SQL modes a server has for its users."""

from __future__ import annotations

import pytest

from include.etl.engines.base import Limits
from include.etl.engines.mysql import MySqlEngine
from include.etl.engines.mysql_modes import DIFFERENCES, refuse_other_meaning
from include.etl.errors import ConfigurationError

ENGINE = MySqlEngine("clinic", Limits(), "moh-etl test")
OTHER = {
    "ANSI_QUOTES": [
        'select id, "note" from t',
        "select id from t where \"note\" = 'hello'",
        'select "a" "b" from t',
        'select n"a" from t',
        'select id as "a\\b" from t',
    ],
    "PIPES_AS_CONCAT": ["select a||b as ab from t", "select id from t where a || 'x' = 'ax'"],
    "NO_BACKSLASH_ESCAPES": [r"select 'C:\dir' as p from t", r"select id from t where a like '50\%'"],
    "HIGH_NOT_PRECEDENCE": [
        "select id from t where not a = b",
        "select id from t where c and not a between -5 and 5",
        "select not (a) in (1, 2) from t",
        "select not -a like 'x' from t",
        "select not a + 1, 2 from t",
        "select not a is null from t",
        "select not case when a = 1 then 1 end = 0 from t",
        "select not exists (select 1) = 0",
        "select 1 from t where (not f(a, b) = 1)",
    ],
    "IGNORE_SPACE": ["select count (*) from t", "select SUBSTR\n(a, 1) from t", "select max /* all */ (a) from t"],
    "EMPTY_STRING_IS_NULL": ["select id from t where a = ''", "select coalesce(a, '') as a from t"],
    "ORACLE": ["select length(a) from t", "select TRIM(a) from t", "select concat(a, b) from t"],
}
ALIKE = {
    "ANSI_QUOTES": ['select `note`, \'a "b"\' as `x"y` from t -- "no"', 'select id as "Number" from t'],
    "PIPES_AS_CONCAT": ["select concat(a, '||') from t /* || */", "select a or b from t"],
    "NO_BACKSLASH_ESCAPES": [r"select 'it''s', `a\b` from t -- \ "],
    "HIGH_NOT_PRECEDENCE": [
        "select id from t where not a and b = 1",
        "select id from t where not (a = b) or c",
        "select id from t where a not in (1) and b is not null and c not like 'x' and d not between 1 and 2",
        "select id from t where not exists (select 1 from u where u.a = t.a) order by b + 1",
        "select not a, b = 1 from t",
        "select case when not a then b + 1 else not c end from t",
        "select !a = b from t",
        "select not a from t where b = 1",
        "select 'not a = b' from t",
    ],
    "IGNORE_SPACE": [
        "select count(*), abs (a) from t where a in (1) and b = 'count (*)'",
        "select a from (select 1) q",
    ],
    "EMPTY_STRING_IS_NULL": ["select ' ' from t where a = 'b'"],
    "ORACLE": ["select char_length(a), concat_ws('', a, b), length from t"],
}


def pairs(of: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(mode, sql) for mode, queries in of.items() for sql in queries]


@pytest.mark.parametrize(("mode", "sql"), pairs(OTHER))
def test_a_query_that_means_something_else_is_refused(mode: str, sql: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"clinic.*with {mode}, .*: write .*means the same in both"):
        refuse_other_meaning(sql, {"STRICT_TRANS_TABLES", mode}, ENGINE)
    refuse_other_meaning(sql, {"STRICT_TRANS_TABLES", ""}, ENGINE)


@pytest.mark.parametrize(("mode", "sql"), pairs(ALIKE))
def test_a_query_that_means_the_same_is_read(mode: str, sql: str) -> None:
    refuse_other_meaning(sql, {mode}, ENGINE)


def test_every_mode_has_its_examples() -> None:
    assert [one.mode for one in DIFFERENCES] == list(OTHER) == list(ALIKE)
