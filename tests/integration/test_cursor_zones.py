"""A cursor column without zone beside a server whose clock is in another zone than `cursor.timezone`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from include.etl import cursor_check
from include.etl.errors import ConfigurationError, DataError
from include.etl.handover import Mode
from include.etl.sources import load_source
from include.etl.unreadable import Unreadable
from tests.integration.conftest import Project
from tests.integration.test_unreadable_cursors import MARIADB, MYSQL, POSTGRES, SERVERS, SOURCE, reader
from tests.servers import DatabaseServer

KINDS = {POSTGRES: ("timestamp", "timestamptz"), **dict.fromkeys((MARIADB, MYSQL), ("datetime", "timestamp"))}
ZONE = {
    POSTGRES: ("alter database {} set timezone = '{}'", "alter database {} reset timezone"),
    **dict.fromkeys((MARIADB, MYSQL), ("set global time_zone = '{1}'", "set global time_zone = 'SYSTEM'")),
}
OFFSETS = {8: "+08:00", -5: "-05:00", 0: "+00:00"}
ZONES = {POSTGRES: {8: "Etc/GMT-8", -5: "Etc/GMT+5", 0: "UTC"}, **dict.fromkeys((MARIADB, MYSQL), OFFSETS)}

Clinic = Callable[..., DatabaseServer]


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Clinic]:
    """A server whose clock runs so many hours ahead of UTC, with a table, and its source."""
    with ExitStack() as stack:

        def made(name: str, hours: int, kind: str, cursor: str) -> DatabaseServer:
            server: DatabaseServer = request.getfixturevalue(name)
            change, back = (sql.format(server.database, ZONES[name][hours]) for sql in ZONE[name])
            server.execute(change)
            stack.callback(server.execute, back)
            server.execute("drop table if exists stamped")
            server.execute(f"create table stamped (id int primary key, c {kind} null)")
            monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader(server).airflow_connection)
            project.configure(SOURCE.format(origin="table: stamped", cursor=cursor))
            return server

        yield made


@pytest.mark.parametrize("name", SERVERS)
def test_a_clock_that_is_behind_is_refused(clinic: Clinic, project: Project, name: str) -> None:
    """What it stamps lies before what has been read, and would never be read."""
    for kind in (KINDS[name][0], "date"):
        clinic(name, -5, kind, "lookback: 0s")
        with pytest.raises(ConfigurationError) as refused:
            project.run()
        assert "'visits': cursor column 'c' of stamped has no zone" in str(refused.value)
        assert "clock is 5 h behind" in str(refused.value)
    assert not project.variables


@pytest.mark.parametrize("name", SERVERS)
def test_a_clock_that_is_ahead_is_told(clinic: Clinic, name: str) -> None:
    """Its rows are read, hours later."""
    server = clinic(name, 8, KINDS[name][0], "lookback: 0s")
    local = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(hours=8)
    server.execute(f"insert into stamped values (1, '{local}')")
    ahead, zone = cursor_check.check(load_source("visits")).caveats
    assert "1 rows bear a time of the future by cursor.timezone = UTC" in ahead
    assert "clock is 8 h ahead" in zone


@pytest.mark.parametrize(
    ("hours", "zoned", "cursor"),
    [
        (-5, False, "timezone: UTC"),
        (8, False, "timezone: Asia/Singapore"),
        (-5, True, "lookback: 0s"),
    ],
)
@pytest.mark.parametrize("name", SERVERS)
def test_nothing_is_told_where_somebody_has_decided_or_the_column_has_a_zone(
    clinic: Clinic, name: str, hours: int, zoned: bool, cursor: str
) -> None:
    clinic(name, hours, KINDS[name][zoned], cursor)
    checked = cursor_check.check(load_source("visits"))
    assert (checked.caveats, checked.doubts) == ([], [])


MOMENTS = """
source: visits
description: Moments of SQLite
conn_id: clinic
table: stamped
primary_key: [id]
cursor: {column: c, lag: 1m}
schedule: {SCHEDULE: "0 2 * * *"}
output: {formats: [parquet]}
"""


@pytest.mark.parametrize(
    ("schedule", "mode", "told"),
    [
        ("incremental", "incremental", "are not read before"),
        ("incremental", "full", "are read by full runs alone before"),
        ("full", "full", ""),
        ("full", "range", ""),
        ("full", "incremental", "are not read before"),
    ],
)
def test_zone_and_future_are_judged_where_a_later_window_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, schedule: str, mode: Mode, told: str
) -> None:
    project.configure(MOMENTS.replace("SCHEDULE", schedule))
    project.execute("CREATE TABLE stamped (id INTEGER PRIMARY KEY, c TIMESTAMP)")
    project.execute("INSERT INTO stamped VALUES (?, ?)", [(1, "2024-01-01 08:00:00"), (2, "2204-01-01 08:00:00")])
    monkeypatch.setattr(cursor_check, "_another_zone", lambda _: ["another zone"])
    found = cursor_check.check(load_source("visits"), mode).caveats
    assert [one for one in found if "another zone" in one or told in one] == found
    assert len(found) == (2 if told else 0)


@pytest.mark.parametrize("error", [ConfigurationError("too large"), DataError("bad value 4711")])
@pytest.mark.parametrize("unreadable", [True, False])
def test_what_was_not_looked_for_is_a_doubt_only_where_values_may_be_unreadable(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, unreadable: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    project.configure(MOMENTS.replace("SCHEDULE", "incremental"))
    project.execute("CREATE TABLE stamped (id INTEGER PRIMARY KEY, c TIMESTAMP)")
    monkeypatch.setattr(cursor_check, "_counted", fail)
    monkeypatch.setattr(cursor_check, "_another_zone", lambda _: [])
    monkeypatch.setattr(cursor_check, "kinds", lambda *_: [Unreadable("a zero date", "{0} = 0")] if unreadable else [])
    checked = cursor_check.check(load_source("visits"))
    (why,) = checked.doubts if unreadable else checked.caveats
    assert not (checked.caveats if unreadable else checked.doubts)
    assert "was not looked for: " in why
    assert "4711" not in why, "a value of a row"
