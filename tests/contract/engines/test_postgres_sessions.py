"""PostgreSQL: what an account, a database or a pooled connection is set to changes no row that is read."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.etl import sql_guard
from include.etl.engines import postgres, postgres_settings
from include.etl.engines.base import Query
from include.etl.engines.postgres import PostgresEngine
from include.etl.errors import ConfigurationError
from tests import servers
from tests.conftest import started
from tests.contract.engines.lab import CONN_ID, Lab
from tests.contract.engines.reading_account import plain_reader
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
VALUES = """select id, born, paid, seen, note, cast(paid as text) as printed, to_char(1234.5, 'L9G999D9') as formed,
born::text as day, array[null::text]::text as several, 'a\\b' as slashed, null = note as unequal,
'visits'::regclass::text as named, convert_to('x', 'UTF8')::text as bytes, interval '1 day'::text as long,
xmlforest(decode('00ff', 'hex') as c)::text as markup from visits order by id"""
LEFT = {
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "client_encoding": "latin1",
    "timezone": "Asia/Singapore",
    "datestyle": "SQL, DMY",
    "intervalstyle": "postgres_verbose",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmlbinary": "hex",
    "xmloption": "document",
    "lc_monetary": "C.utf8",
    "lc_numeric": "C.utf8",
    "lc_time": "C.utf8",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "gin_fuzzy_search_limit": "1",
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "row_security": "on",
    "search_path": "other, ward",
    "default_transaction_isolation": "read committed",
    "app.tenant": "17",
}
"""What a role or the connection of a pooler may be left with."""
NOT_OF_ACCOUNTS = {"search_path", "app.tenant", "client_encoding", "statement_timeout"}
"""What is the account's own decision, or would disturb the test."""


@pytest.fixture(scope="module")
def reader(postgres_server: DatabaseServer) -> Iterator[DatabaseServer]:
    with plain_reader(postgres_server) as account:
        for sql in (
            "create table ward.visits (id int, born date, paid money, seen timestamptz, note text, words tsvector)",
            "insert into ward.visits select i, '2024-02-01', 1234.5, '2024-02-01 12:00+00', 'a', "
            "to_tsvector('simple', 'flu') from generate_series(1, 2000) i",
            "create index on ward.visits using gin (words) with (fastupdate = off)",
            "analyze ward.visits",
            "create view ward.tenants as select * from ward.visits "
            "where coalesce(current_setting('app.tenant', true), '') in ('', id::text)",
            "drop schema if exists other cascade",
            "create schema other",
            "grant usage on schema other to plain",
            "create table other.visits as select * from ward.visits where id <= 7",
            "grant select on other.visits to plain",
        ):
            postgres_server.execute(sql)
        yield account
        postgres_server.execute("drop schema other cascade")


@pytest.fixture
def lab(reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
    return Lab("postgres", reader.execute, reader)


def pooled(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    """Give the engine connections on which another client of the pooler has run these statements."""
    connect = PostgresEngine.connect

    def used(self: PostgresEngine) -> Any:
        connection = connect(self)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)
        connection.autocommit = False
        return connection

    monkeypatch.setattr(PostgresEngine, "connect", used)


def test_the_list_of_leftovers_is_whole() -> None:
    since = {one.name for one in postgres_settings.SETTINGS if one.since > 150_000 or one.until < 150_000}
    assert {one.name for one in postgres_settings.SETTINGS} - since - LEFT.keys() == {"timezone_abbreviations"}


def test_money_keeps_its_decimals_where_the_account_counts_other_ones() -> None:
    assert not list(postgres_settings.money(100, "en_SG"))
    assert "lc_monetary is 'ja_JP'" in next(postgres_settings.money(1, "ja_JP"))


@pytest.mark.parametrize("name", LEFT)
def test_a_setting_that_another_client_has_left_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    queries = [VALUES, "select count(*) as n from tenants", "select count(*) as n from visits where words @@ 'flu'"]
    expected = [lab.read(sql) for sql in queries]
    pooled(monkeypatch, f"set {name} = {LEFT[name]}" if name == "search_path" else f"set {name} = '{LEFT[name]}'")
    assert [lab.read(sql) for sql in queries] == expected
    assert expected[0].num_rows == 2000


@pytest.mark.parametrize("name", sorted(LEFT.keys() - NOT_OF_ACCOUNTS))
def test_a_setting_of_the_account_changes_nothing(lab: Lab, postgres_server: DatabaseServer, name: str) -> None:
    expected = lab.read(VALUES)
    postgres_server.execute(f"alter role plain set {name} = '{LEFT[name]}'")
    try:
        assert lab.read(VALUES) == expected
    finally:
        postgres_server.execute(f"alter role plain reset {name}")


@pytest.mark.parametrize(
    "statements",
    [
        ["set search_path = other"],
        ["create temp table visits (id int)"],
        ["set search_path = pg_temp, ward", "create temp table visits (id int)"],
        ["set role other_reader"],
    ],
    ids=["search path", "temporary table", "temporary first", "role"],
)
def test_names_stand_for_what_they_stand_for_by_the_account(
    lab: Lab, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    for sql in ("drop role if exists other_reader", "create role other_reader", "grant other_reader to plain"):
        postgres_server.execute(sql)
    pooled(monkeypatch, *statements)
    with lab.engine().session() as session:
        query = Query("select count(*) as n from visits")
        assert session.single_row(query) == [2000]
        assert session.origins(query).relations == ["ward.visits"]
    postgres_server.execute("drop role other_reader")


@pytest.mark.parametrize("options", ["-c search_path=other", "-csearch_path=none --search_path=other,\\ ward"])
def test_a_search_path_of_the_connection_holds(
    lab: Lab, reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    connection = json.loads(reader.airflow_connection) | {"extra": {"options": options}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    pooled(monkeypatch, "set search_path = ward")
    assert lab.read("select id from visits").num_rows == 7


def test_the_transaction_waits_for_its_client_while_parts_are_summed_up(lab: Lab) -> None:
    with lab.engine(statement_timeout_s=2).session() as session, session.connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("show idle_in_transaction_session_timeout")
        assert cursor.fetchall() == [("15min",)]


def test_a_pooled_connection_is_given_back_as_it_was(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled(monkeypatch, "set search_path = other", "set datestyle = 'SQL, DMY'", "set app.tenant = '3'")
    with lab.engine().session() as session:
        session.schema(Query("select * from visits"))
        connection = session.connection  # type: ignore[attr-defined]
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute("select current_setting(n) from unnest(array['search_path', 'datestyle', 'app.tenant']) n")
            assert cursor.fetchall() == [("other",), ("SQL, DMY",), ("3",)]


def test_what_the_server_does_not_let_itself_be_set_to_is_refused_before_the_query(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = postgres_settings.settings

    def unheard(*given: Any, **named: Any) -> Any:
        return [*real(*given, **named), postgres_settings.Setting("server_version_num", "1", "it is only a test")]

    monkeypatch.setattr(postgres_settings, "settings", unheard)
    with pytest.raises(ConfigurationError, match=r"nothing was read: server_version_num is '.*it is only a test"):
        lab.read("select 1 as a")


def test_a_server_that_is_too_old_is_refused_by_its_version(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OLDEST", 990_000)
    with pytest.raises(ConfigurationError, match=r"the server's version is \d+; allowed: 12 and later"):
        lab.read("select 1 as a")


@pytest.mark.parametrize("name", ["timezone", "datestyle", "intervalstyle", "no_such_setting"])
def test_every_setting_is_read_back(lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kept = [one for one in postgres_settings.SETTINGS if one.name != name]
    pinning = postgres_settings.pinning
    monkeypatch.setattr(postgres_settings, "SETTINGS", [*kept, postgres_settings.Setting(name, "wanted", "a test")])
    monkeypatch.setattr(
        postgres_settings, "pinning", lambda wanted: pinning([one for one in wanted if one.name != name])
    )
    with pytest.raises(ConfigurationError, match=f"nothing was read: {name} is .*a test"):
        lab.read("select 1 as a")


def test_a_string_ends_where_the_check_saw_its_end(
    lab: Lab, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "select 'a\\' as a, pg_sleep(2) as s, id from visits -- don't"
    with pytest.raises(ConfigurationError, match="pg_sleep"):
        sql_guard.only_select(sql, "postgres", "here")
    hidden = "select 'a\\' as a, ', pg_sleep(2) as s, ' as t -- '"
    sql_guard.only_select(hidden, "postgres", "here")
    pooled(monkeypatch, "set standard_conforming_strings = off", "set escape_string_warning = off")
    assert lab.read(hidden).num_columns == 2


def test_pages_that_the_server_reads_as_empty_degrade_what_is_claimed(
    lab: Lab, postgres_server: DatabaseServer
) -> None:
    postgres_server.execute("alter role plain set zero_damaged_pages = on")
    try:
        with lab.engine().session() as session:
            session.schema(Query("select 1 as a"))
            assert session.unpinned == [
                "zero_damaged_pages is 'on' on the server: rows of damaged pages are left out in silence"
            ]
    finally:
        postgres_server.execute("alter role plain reset zero_damaged_pages")


def test_a_pooler_that_gives_one_connection_to_all_in_turn(
    reader: DatabaseServer, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        pool = functools.partial(servers.pgbouncer, postgres_server, "transaction", default_pool_size="1")
        pooler = replace(started(stack, pool, "PgBouncer"), user=reader.user, password=reader.password)
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", pooler.airflow_connection)
        for sql in ("set search_path = other", "set datestyle = 'SQL, DMY'", "create temp table visits (id int)"):
            pooler.execute(sql)
        assert pooler.execute("select count(*), current_date - current_date from visits") == [(0, 0)]
        with Lab("postgres", pooler.execute, pooler).engine().session() as session:
            query = Query("select id, born::text as day from visits")
            table = [row for batch in session.stream(query).batches for row in batch.to_pylist()]
            assert len(table) == 2000
            assert table[0]["day"] == "2024-02-01"
            assert session.origins(query).relations == ["ward.visits"]
            named = "select 1 from pg_stat_activity where application_name = 'moh-etl contract'"
            assert postgres_server.execute(named), "a DBA sees who reads"
        assert pooler.execute("show search_path") == [("other",)], "given back as it was"
