"""What hands out the numbers of a column, and the zone of the server's clock, for an account that may only read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.etl.config import Source
from include.etl.engines.base import Numbering
from include.etl.errors import ConfigurationError
from include.etl.numbering import doubts, overtaken
from tests.contract.engines.lab import Lab
from tests.contract.engines.test_writers import VARIABLE, as_outsider

NOON = [datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 7, 15, 12, tzinfo=UTC)]


@pytest.fixture
def plain(server_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A server, read by an account that may only read."""
    if server_lab.database not in ("postgres", "mysql"):
        pytest.skip(f"{server_lab.database} IS NOT TESTED here: tables are made in the words of PostgreSQL and MySQL")
    server_lab.execute("drop table if exists numbered")
    monkeypatch.setenv(VARIABLE, as_outsider(server_lab))
    return server_lab


def numbering(lab: Lab, column: str = "id", table: str = "numbered") -> Numbering | None:
    with lab.engine().session() as session:
        return session.numbering(table, column)


def told(found: Numbering | None, **cursor: Any) -> list[str]:
    settings: dict[str, Any] = {
        "source": "visits",
        "description": "Visits",
        "conn_id": "clinic",
        "table": "numbered",
        "cursor": {"column": "id", "type": "number", **cursor},
        "schedule": {"incremental": "0 2 * * *"},
        "output": {"formats": ["parquet"]},
    }
    return list(doubts(Source.model_validate(settings), found))


def key(lab: Lab) -> str:
    return "bigserial primary key" if lab.database == "postgres" else "bigint auto_increment primary key"


def test_an_ordinary_key_leaves_no_doubt(plain: Lab) -> None:
    plain.execute(f"create table numbered (id {key(plain)}, other bigint)")
    found = numbering(plain)
    assert found
    assert told(found) == []
    (why,) = told(numbering(plain, "other"))
    assert "no sequence or identity hands out its numbers" in why


@pytest.mark.parametrize("table", ["nowhere", "seen"])
def test_of_a_view_the_catalogue_is_mute(plain: Lab, table: str) -> None:
    plain.execute(f"create table numbered (id {key(plain)})")
    plain.execute("create or replace view seen as select id from numbered")
    found = numbering(plain, table=table)
    plain.execute("drop view seen")
    assert found is None
    assert "not known" in told(found)[0]


@pytest.mark.parametrize(
    ("options", "why"),
    [("cycle", "CYCLE"), ("cache 20", "CACHE 20"), ("increment 2", "INCREMENT 2"), ("", "")],
)
@pytest.mark.parametrize("made", ["bigint default nextval('handed_out')", "bigint generated always as identity"])
def test_what_a_sequence_may_do_is_told(plain: Lab, options: str, why: str, made: str) -> None:
    plain.not_in("mysql", "it has other words, see below")
    plain.execute("drop sequence if exists handed_out")
    plain.execute(f"create sequence handed_out {options}")
    plain.execute(f"create table numbered (id {f'{made} ({options})' if options and 'identity' in made else made})")
    found = told(numbering(plain))
    plain.execute("drop table numbered")
    assert [why in one for one in found] == ([True] if why else [])
    assert told(Numbering("s", ahead=20), lag="10m") == [], "cursor.lag is how long they are kept"


def test_one_that_counts_down_is_refused(plain: Lab) -> None:
    if plain.database == "postgres":
        plain.execute("create table numbered (id bigint generated always as identity (increment -1))")
    elif plain.is_mariadb:
        plain.execute("create or replace sequence handed_out increment -1")
        plain.execute("create table numbered (id bigint default nextval(handed_out))")
    else:
        pytest.skip("mysql cannot: it has no sequence, and AUTO_INCREMENT counts up")
    with pytest.raises(ConfigurationError, match=r"'visits': cursor.column: 'id': sequence .* counts down \(step -1\)"):
        told(numbering(plain))


def test_a_sequence_of_mariadb(plain: Lab) -> None:
    if not plain.is_mariadb:
        pytest.skip(f"{plain.kind} cannot: it has no sequence of MariaDB's")
    plain.execute("create or replace sequence handed_out cycle increment 3")
    plain.execute("create table numbered (id bigint default (next value for handed_out) primary key)")
    cycle, several = told(numbering(plain))
    assert "sequence clinic.handed_out has CYCLE" in cycle
    assert "several servers" in several


def test_several_servers_that_hand_out_numbers(plain: Lab) -> None:
    plain.not_in("postgres", "it is a setting of MySQL")
    plain.execute(f"create table numbered (id {key(plain)})")
    plain.execute("set global auto_increment_increment = 2")
    try:
        (why,) = told(numbering(plain))
    finally:
        plain.execute("set global auto_increment_increment = 1")
    assert "AUTO_INCREMENT: auto_increment_increment = 2: several servers" in why


def test_numbers_beyond_the_sequence(plain: Lab) -> None:
    plain.not_in("mysql", "AUTO_INCREMENT goes on from the largest number")
    plain.execute(f"create table numbered (id {key(plain)})")
    plain.execute("insert into numbered values (4711)")
    assert overtaken(numbering(plain), 4711) == "", "the account may not see it"
    plain.execute("grant select on sequence numbered_id_seq to outsider")
    assert "largest number is 4711, but sequence numbered_id_seq has come to 0" in overtaken(numbering(plain), 4711)
    for setting in ("4711", "4712, false"):
        plain.execute(f"select setval('numbered_id_seq', {setting})")
        assert overtaken(numbering(plain), 4711) == ""


@pytest.mark.parametrize(("zone", "hours"), [("+08:00", (8, 8)), ("-05:00", (-5, -5)), ("UTC", (0, 0))])
def test_the_zone_of_the_servers_clock(plain: Lab, zone: str, hours: tuple[int, int]) -> None:
    shown = wall_clock(plain, zone)
    assert shown == {
        moment: moment.replace(tzinfo=None) + timedelta(hours=h) for moment, h in zip(NOON, hours, strict=True)
    }


def test_both_seasons_of_a_zone_are_seen(plain: Lab) -> None:
    plain.not_in("mysql", "its tables of time zones are empty here")
    shown = wall_clock(plain, "Europe/London")
    assert [shown[moment].hour for moment in NOON] == [12, 13]


def wall_clock(lab: Lab, zone: str) -> dict[datetime, datetime]:
    """While the server's zone is that one."""
    assert lab.server
    if lab.database == "postgres":
        signed = zone.replace("+", "~").replace("-", "+").replace("~", "-")  # as POSIX has it
        change, back = (
            f"alter database {lab.server.database} {how}" for how in (f"set timezone = '{signed}'", "reset timezone")
        )
    else:
        change, back = (
            "set global time_zone = '{}'".format(zone.replace("UTC", "SYSTEM")),
            "set global time_zone = 'SYSTEM'",
        )
    lab.execute(change)
    try:
        with lab.engine().session() as session:
            return dict(session.wall_clock(NOON))
    finally:
        lab.execute(back)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("id INTEGER PRIMARY KEY", "rowid: without AUTOINCREMENT a new row gets the number"),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT", ""),
        ("id INT PRIMARY KEY", "no sequence or identity"),
        ("id BIGINT", "no sequence or identity"),
        ("id INTEGER, other INTEGER, PRIMARY KEY (id, other)", "no sequence or identity"),
    ],
)
def test_what_sqlite_numbers(lab: Lab, made: str, why: str) -> None:
    if lab.database != "sqlite":
        return
    lab.execute(f"create table numbered ({made})")
    found = told(numbering(lab))
    assert [why in one for one in found] == ([True] if why else [])
