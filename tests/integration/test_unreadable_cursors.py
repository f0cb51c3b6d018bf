"""Rows whose cursor lies where no window is, on real servers, read by an account that may only read."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.etl import cursor_check
from include.etl.engines import open_source
from include.etl.errors import DataError
from include.etl.handover import Window
from include.etl.phases.extract import windowed
from include.etl.sources import load_source
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

SOURCE = """
source: visits
description: Visits
conn_id: clinic
{origin}
primary_key: [id]
cursor: {{column: c, {cursor}}}
schedule: {{incremental: "0 2 * * *"}}
output: {{formats: [parquet]}}
"""
SERVERS = [
    pytest.param("postgres_server", marks=pytest.mark.postgres),
    pytest.param("mariadb_server", marks=pytest.mark.mariadb),
    pytest.param("mysql_server", marks=pytest.mark.mysql),
]
POSTGRES, MARIADB, MYSQL = NAMES = [str(server.values[0]) for server in SERVERS]
QUERY = "SELECT v.id, v.c FROM stamped v WHERE {{ window('v.c') }}"
LONG_AGO = "2024-01-05 08:00:00"
LOW, HIGH = "-infinity or a year before 1", "infinity or a year after 9999"
NONE = "a date with a zero in it, or a day that its month lacks"
ZERO = "a zero date or a year before 1"
INFINITE = {"-infinity": LOW, "0044-03-15 BC": LOW, "infinity": HIGH, "10000-01-01": HIGH}
NO_DAYS = {
    "0000-00-00": ZERO,
    **dict.fromkeys(("2024-00-10", "2024-02-00", "2024-02-31", "1965-03-00", "2204-00-05"), NONE),
}
CASES: list[Any] = [
    *((POSTGRES, kind, INFINITE) for kind in ("timestamp", "timestamptz", "date")),
    (MARIADB, "datetime", NO_DAYS),
    (MARIADB, "date", NO_DAYS),
    (MARIADB, "timestamp null", {"0000-00-00": "a zero date"}),
    (MYSQL, "datetime(6)", NO_DAYS),
    (MYSQL, "datetime", NO_DAYS),
    (MYSQL, "timestamp null", {"0000-00-00": "a zero date"}),
]
MARKS = dict(zip(NAMES, (pytest.mark.postgres, pytest.mark.mariadb, pytest.mark.mysql), strict=True))
CASES = [pytest.param(*case, marks=MARKS[case[0]]) for case in CASES]


@dataclass
class Clinic:
    """A table with a cursor column, and its source."""

    project: Project
    server: DatabaseServer

    def create(self, kind: str, index: bool = True) -> None:
        self.server.execute("drop table if exists stamped")
        self.server.execute(f"create table stamped (id int primary key, c {kind})")
        if index:
            self.server.execute("create index stamped_c on stamped (c)")

    def add(self, number: int, value: str) -> None:
        with contextlib.closing(self.server.connect()) as connection, connection.cursor() as cursor:
            if self.server.conn_type == "mysql":
                cursor.execute("set sql_mode = 'ALLOW_INVALID_DATES'")
            cursor.execute("insert into stamped values (%s, %s)", (number, value))

    def configure(self, cursor: str = "lookback: 0s", origin: str = "table: stamped") -> None:
        self.project.configure(SOURCE.format(cursor=cursor, origin=origin))

    def keys(self) -> list[int]:
        return [number for (number,) in self.project.rows("id")]


@pytest.fixture
def clinic(
    project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], Clinic]:
    (project.folder / "sql").mkdir()
    (project.folder / "sql" / "visits.sql").write_text(QUERY)

    def made(name: str) -> Clinic:
        server: DatabaseServer = request.getfixturevalue(name)
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader(server).airflow_connection)
        found = Clinic(project, server)
        found.configure()
        return found

    return made


def reader(server: DatabaseServer) -> DatabaseServer:
    """An account that may only read, and see open transactions."""
    with contextlib.suppress(Exception):
        server.execute(
            "create role cursor_reader login password 'x'"
            if server.conn_type == "postgres"
            else "create user cursor_reader"
        )
    if server.conn_type == "postgres":
        server.execute("grant pg_monitor, pg_read_all_data to cursor_reader")
    else:
        server.execute("alter user cursor_reader identified by 'x'")
        server.execute("grant process on *.* to cursor_reader")
        server.execute(f"grant select on {server.database}.* to cursor_reader")
    return replace(server, user="cursor_reader", password="x")


@pytest.mark.parametrize(("name", "kind", "values"), CASES)
def test_what_no_window_holds_is_found_and_can_be_left_out(
    clinic: Callable[[str], Clinic], name: str, kind: str, values: dict[str, str]
) -> None:
    one = clinic(name)
    one.create(kind)
    one.add(1, LONG_AGO)
    one.server.execute("insert into stamped values (2, null)")
    for number, value in enumerate(values, 3):
        one.add(number, value)
    found = [f"{count} rows with {told}" for told, count in Counter(values.values()).items()]
    for origin in ("table: stamped", "query: visits.sql"):
        one.configure(origin=origin)
        with pytest.raises(DataError, match=rf"cursor.column: 'c': {'; '.join(found)}: .*cursor.unreadable: skip"):
            cursor_check.check(load_source("visits"))
    one.configure("unreadable: skip")
    checked = cursor_check.check(load_source("visits"))
    assert checked.caveats == [f"cursor column 'c' of stamped: {n}, left out (cursor.unreadable: skip)" for n in found]
    assert not checked.doubts
    for window in (Window(mode="full", end=datetime.now(UTC)), Window(mode="incremental", end=datetime.now(UTC))):
        assert read(window) == [1, 2]


def read(window: Window) -> list[int]:
    source = load_source("visits")
    engine = open_source(source, "moh-etl test")
    with engine.session() as session:
        _, batches = session.stream(windowed(source, engine, session, window))
        return sorted(number for batch in batches for number in batch.column("id").to_pylist())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        pytest.param(POSTGRES, "infinity", HIGH, marks=pytest.mark.postgres),
        pytest.param(MARIADB, "2024-00-10", NONE, marks=pytest.mark.mariadb),
    ],
)
def test_a_row_that_comes_later_stops_the_run_or_is_told(
    clinic: Callable[[str], Clinic], name: str, value: str, told: str
) -> None:
    """It comes after the first run, so that no later window would meet it."""
    one = clinic(name)
    one.create("timestamp" if name == POSTGRES else "datetime")
    one.add(1, LONG_AGO)
    assert one.project.run().manifest["bound"]["caveats"] == []
    one.add(2, value)
    before = (one.project.files(), dict(one.project.variables))
    for mode in ("incremental", "full"):
        with pytest.raises(DataError, match=told):
            one.project.run(mode=mode)
    assert (one.project.files(), one.project.variables) == before
    one.configure("unreadable: skip")
    for mode in ("incremental", "full"):
        manifest = one.project.run(mode=mode).manifest
        assert f"1 rows with {told}, left out" in manifest["bound"]["caveats"][0]
        assert (manifest["bound"]["degraded"], manifest["completeness"]["verified"]) == (True, True)
    assert one.keys() == [1]


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize(("kind", "ahead"), [("date", timedelta(days=2)), ("timestamp", timedelta(hours=8))])
def test_rows_of_the_future_are_told(clinic: Callable[[str], Clinic], name: str, kind: str, ahead: timedelta) -> None:
    one = clinic(name)
    one.create(kind if name == POSTGRES or kind == "date" else "datetime")
    one.add(1, LONG_AGO)
    one.add(2, str((datetime.now(UTC) + ahead).replace(tzinfo=None, microsecond=0)))
    one.add(3, "2204-01-01")
    one.add(4, "9999-12-31")
    bound = one.project.run().manifest["bound"]
    assert "'c' of stamped: 3 rows bear a time of the future by cursor.timezone = UTC" in bound["caveats"][0]
    assert (bound["degraded"], bound["grade"]) == (True, "writers seen")
    assert one.keys() == [1]


@pytest.mark.parametrize("name", SERVERS)
def test_without_an_index_a_large_table_is_not_read_for_it(
    clinic: Callable[[str], Clinic], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clinic(name)
    one.create("date", index=False)
    one.add(1, LONG_AGO)
    one.add(2, "-infinity" if name == POSTGRES else "2024-00-10")
    one.server.execute("analyze stamped" if name == POSTGRES else "analyze table stamped")
    with pytest.raises(DataError, match="1 rows with"):
        one.project.run()
    monkeypatch.setattr(cursor_check, "SMALL", 1)
    bound = one.project.run(start="2024-01-04", end="2024-01-07").manifest["bound"]
    assert "leads no index of stamped, and it is too large" in bound["caveats"][0]
    assert (bound["degraded"], bound["grade"]) == (True, "not proven")


@pytest.mark.postgres
def test_numbers_that_are_no_position(clinic: Callable[[str], Clinic]) -> None:
    one = clinic(POSTGRES)
    one.create("numeric(38,0)")
    one.configure("type: number")
    one.add(1, "7")
    one.project.run()
    for number, value in enumerate(("NaN", "1e30", "-1e30"), 2):
        one.add(number, value)
    before = (one.project.files(), dict(one.project.variables))
    with pytest.raises(DataError, match="3 rows with NaN, or numbers beyond 64 bits"):
        one.project.run()
    assert (one.project.files(), one.project.variables) == before
    one.configure("type: number, unreadable: skip")
    one.add(8, "8")
    told = one.project.run().manifest["bound"]["caveats"]
    assert "3 rows with NaN, or numbers beyond 64 bits, left out" in told[-1]
    assert one.keys() == [1, 8]
    assert json.loads(one.project.variables["checkpoint__visits"])["bound"] == 9


@pytest.mark.mariadb
def test_a_zero_date_is_no_missing_one_where_none_may_be_missing(clinic: Callable[[str], Clinic]) -> None:
    """In a column that is NOT NULL, MySQL and MariaDB call a zero date NULL; so a window would read it."""
    one = clinic(MARIADB)
    one.create("datetime not null")
    one.configure("unreadable: skip")
    one.add(1, LONG_AGO)
    one.add(2, "0000-00-00")
    manifest = one.project.run().manifest
    assert f"1 rows with {ZERO}, left out" in manifest["bound"]["caveats"][0]
    assert (manifest["rows"]["extracted"], manifest["completeness"]["verified"]) == (1, True)
    end = datetime.now(UTC)
    assert read(Window(mode="incremental", start=end - timedelta(days=1), end=end, read_from=end)) == []


@pytest.mark.mariadb
def test_an_unsigned_number_beyond_64_bits_is_no_position(clinic: Callable[[str], Clinic]) -> None:
    one = clinic(MARIADB)
    one.create("bigint unsigned")
    one.configure("type: number")
    one.add(1, "7")
    one.add(2, "18446744073709551615")
    with pytest.raises(DataError, match="1 rows with numbers beyond 64 bits"):
        one.project.run()


@pytest.mark.parametrize(("value", "column"), [(1706659200, "updated_at"), ("31/12/2024", "visit_date")])
def test_what_sqlite_takes_for_a_time(project: Project, value: Any, column: str) -> None:
    configured = SOURCE.replace("column: c", f"column: {column}").replace("[id]", "[visit_id]")
    project.configure(configured.format(cursor="nulls: every_run", origin="table: visits"))
    insert = f"INSERT INTO visits (visit_id, {column}) VALUES (?, ?)"
    project.execute(insert, [(1, LONG_AGO[:10]), (2, None)])
    project.run()
    project.execute(insert, [(3, value)])
    before = project.files()
    with pytest.raises(DataError, match="1 rows with numbers, BLOBs, or text that is no date"):
        project.run()
    assert project.files() == before
    project.configure(configured.format(cursor="unreadable: skip", origin="table: visits"))
    project.run(mode="full")
    assert [number for (number,) in project.rows("visit_id")] == [1, 2]
