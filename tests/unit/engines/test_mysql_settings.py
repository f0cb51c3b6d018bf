"""What becomes of a session of MySQL or MariaDB whose account may not set what it needs."""

from __future__ import annotations

from typing import Any

import pytest

from include.etl.engines.base import Limits
from include.etl.engines.mysql import MySqlEngine
from include.etl.engines.mysql_settings import Setting, pin, wanted
from include.etl.errors import ConfigurationError

ENGINE = MySqlEngine("clinic", Limits(), "moh-etl test")
EACH = [
    pytest.param(one, mariadb, id=f"{one.name} of {'MariaDB' if mariadb else 'MySQL'}")
    for mariadb in (True, False)
    for one in wanted(Limits(), mariadb=mariadb)
    if one.name != "sql_select_limit" and one.name != ("max_execution_time" if mariadb else "max_statement_time")
]
OTHER = "7"
"""What no setting needs."""


class Server:
    """Has every setting of one kind of server, all at another value, and lets those be set that are not locked."""

    def __init__(self, mariadb: bool, locked: str) -> None:
        missing = "max_execution_time" if mariadb else "max_statement_time"
        self.now = {one.name: OTHER for one in wanted(Limits(), mariadb=mariadb) if one.name != missing}
        self.locked = locked

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        if sql.startswith("show session variables"):
            return [(name.encode(), value.encode()) for name, value in self.now.items() if f"'{name}'" in sql]
        given = dict(part.split(" = ") for part in sql.removeprefix("set session ").split(", "))
        if self.locked in given:
            raise ConfigurationError("access denied")
        self.now |= {name: value.strip("'") for name, value in given.items()}
        return []


@pytest.mark.parametrize("mariadb", [True, False])
def test_all_are_set_where_they_may_be(mariadb: bool) -> None:
    server = Server(mariadb, locked="")
    assert pin(server.ask, ENGINE) == (65535, [], {OTHER})
    assert all(one.holds(server.now) for one in wanted(Limits(), mariadb=mariadb))
    assert OTHER not in server.now.values()


@pytest.mark.parametrize(("one", "mariadb"), EACH)
def test_one_that_may_not_be_set(one: Setting, mariadb: bool) -> None:
    """The others are set all the same; rows that could be missing or wrong are refused, or not called verified."""
    server = Server(mariadb, locked=one.name)
    if one.without == "refused":
        with pytest.raises(ConfigurationError, match=f"{one.name} is '7' and could not be set to .*{one.why}"):
            pin(server.ask, ENGINE)
    else:
        said = [one.name in caveat and one.why in caveat for caveat in pin(server.ask, ENGINE).caveats]
        assert said == [True] * (one.without == "not verified")
    assert [name for name, value in server.now.items() if value == OTHER] == [one.name]


def test_nothing_is_set_where_everything_is_right() -> None:
    server = Server(mariadb=False, locked="")
    pin(server.ask, ENGINE)
    server.locked = "sql_mode"
    assert pin(server.ask, ENGINE).caveats == []


def test_the_mode_by_which_sql_is_read_is_never_left_to_the_server() -> None:
    for mariadb in (True, False):
        (mode,) = [one for one in wanted(Limits(), mariadb=mariadb) if one.name == "sql_mode"]
        assert mode.without == "refused"
        assert not {"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "IGNORE_SPACE"} & set(
            mode.value.split(",")
        )


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ("", ""),
        ("UTF8_IS_UTF8MB3", "UTF8_IS_UTF8MB3"),
        ("ZERO_DATE_TIME_CAST,UTF8_IS_UTF8MB3", "UTF8_IS_UTF8MB3"),
        ("ZERO_DATE_TIME_CAST", ""),
    ],
)
def test_utf8_stays_what_the_server_takes_it_for(found: str, left: str) -> None:
    server = Server(mariadb=True, locked="")
    server.now["old_mode"] = found
    assert pin(server.ask, ENGINE).caveats == []
    assert server.now["old_mode"] == left
