"""PostgreSQL: where rows come from, by what a query has opened."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from include.etl.engines.base import Origins, Query
from include.etl.engines.postgres import PostgresSession
from tests.contract.engines.lab import CONN_ID, Lab
from tests.contract.engines.reading_account import plain_reader
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
THERE = [
    "create table ward.visits (id int, patient int)",
    "create table ward.patients (patient int)",
    "create view ward.all_visits as select * from ward.visits",
    "create view ward.above as select * from ward.all_visits",
    "create view ward.joined as select * from ward.visits join ward.patients using (patient)",
    'create view ward."Above Joined" as select * from ward.joined',
    "create materialized view ward.kept as select * from ward.joined",
    "create view ward.of_kept as select * from ward.kept",
    "create table ward.parted (id int) partition by range (id)",
    "create table ward.p1 partition of ward.parted for values from (0) to (10)",
    "create table ward.p2 (id int)",
    "insert into ward.p2 values (15)",
    "alter table ward.parted attach partition ward.p2 for values from (10) to (20)",
    "create table ward.parent (id int)",
    "create table ward.child () inherits (ward.parent)",
    "create function ward.all_of() returns setof ward.visits language plpgsql as "
    "'begin return query select * from ward.visits; end'",
    "create function ward.name_of(int) returns text language sql stable as 'select $1::text'",
    "create function ward.twice(int) returns int language sql immutable as 'select 2 * $1'",
    "create view ward.of_function as select * from ward.all_of()",
    "create view ward.of_both as select ward.twice(id), ward.name_of(id) from ward.of_function",
    "create view ward.of_rows as select * from rows from (ward.all_of(), generate_series(1, 2)) as f (id, patient, n)",
    "create extension if not exists postgres_fdw",
    "drop server if exists lab cascade",
]
FOREIGN = [
    "create foreign table ward.results (id int) server lab options (table_name 'visits')",
    "create foreign table ward.p3 partition of ward.parted for values from (20) to (30) "
    "server lab options (table_name 'visits')",
    "create view ward.of_results as select * from ward.results",
]


@pytest.fixture(scope="module")
def reader(postgres_server: DatabaseServer) -> Iterator[DatabaseServer]:
    with plain_reader(postgres_server) as account:
        for sql in THERE:
            postgres_server.execute(sql)
        yield account
        postgres_server.execute("drop server if exists lab cascade")


def origins(reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch, sql: str) -> Origins:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
    with Lab("postgres", lambda sql: None).engine().session() as session:
        return session.origins(Query(sql))


@pytest.mark.parametrize(
    ("sql", "relations", "partitions", "caveats"),
    [
        ("select * from visits", "visits", "", ""),
        ("select * from above", "above all_visits visits", "", ""),
        ("select * from visits union all select * from visits", "visits", "", ""),
        ("select * from parted", "parted", "p1 p2", ""),
        ("select * from parent", "parent", "child", ""),
        ("select * from kept", "kept", "", "ward.kept is a materialised view"),
        ("select * from of_kept", "kept of_kept", "", "ward.kept is a materialised view"),
        ("select * from joined", "joined patients visits", "", "a join of ward.visits and ward.patients"),
        ('select * from "Above Joined"', "Above_Joined joined patients visits", "", "a join of ward.visits and"),
        ("select v.id from visits v join patients using (patient)", "patients visits", "", "a join of visits and"),
        ("select id from visits where patient in (select patient from patients)", "patients visits", "", "a join of"),
        ("with recent as (select * from patients) select * from recent", "patients", "", ""),
        ("select 1 as one", "", "", ""),
        ("select id from p1", "p1", "", ""),
        ("select id from child", "child", "", ""),
        ("select twice(id), lower('A'), now() from visits", "visits", "", ""),
        ("with patients as (select * from visits) select * from patients", "visits", "", ""),
        ("select name_of(id) from visits", "visits", "", "ward.name_of is a function"),
        ("select Ward.Name_Of(id) from visits", "visits", "", "ward.name_of is a function"),
    ],
)
def test_what_a_query_reads(
    reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch, sql: str, relations: str, partitions: str, caveats: str
) -> None:
    found = origins(reader, monkeypatch, sql)
    assert found.relations == [f"ward.{name.replace('_J', ' J')}" for name in relations.split()]
    assert found.partitions == [f"ward.{name}" for name in partitions.split()]
    assert bool(found.caveats) == bool(caveats)
    assert caveats in "".join(found.caveats)
    assert (found.elsewhere, found.unchecked, found.hidden) == ("", [], [])


def test_a_partition_that_was_a_table_of_its_own_is_known(
    reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert origins(reader, monkeypatch, "select * from parted").attached == ["ward.p2"]


def test_a_partition_that_was_renamed_was_not_attached(
    reader: DatabaseServer, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.execute("insert into ward.p1 values (1)")
    postgres_server.execute("alter table ward.p1 rename to p0")
    try:
        assert origins(reader, monkeypatch, "select * from parted").attached == ["ward.p2"]
    finally:
        postgres_server.execute("alter table ward.p0 rename to p1")


@pytest.mark.parametrize("sql", ["select * from results", "select * from of_results", "select * from parted"])
def test_tables_of_another_server(
    reader: DatabaseServer, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    place = json.loads(postgres_server.airflow_connection)
    options = f"host '{place['host']}', port '{place['port']}', dbname '{place['schema']}'"
    postgres_server.execute("drop server if exists lab cascade")
    postgres_server.execute(f"create server lab foreign data wrapper postgres_fdw options ({options})")
    login = f"user '{place['login']}', password '{place['password'].replace(chr(39), chr(39) * 2)}'"
    postgres_server.execute(f"create user mapping for public server lab options ({login})")
    for statement in FOREIGN:
        postgres_server.execute(statement)
    found = origins(reader, monkeypatch, sql)
    assert "is a foreign table (server lab, postgres_fdw)" in found.elsewhere
    assert len(found.unchecked) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select * from all_of()",
        "select * from of_function",
        "select * from of_both",
        "select * from of_rows",
        "select * from rows from (all_of(), generate_series(1, 2)) as f (id, patient, n)",
        "select v.id from visits v cross join lateral ward.all_of() f",
    ],
)
def test_rows_that_a_function_gives_are_not_vouched_for(
    reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    found = origins(reader, monkeypatch, sql)
    assert any("ward.all_of is a function" in caveat for caveat in found.caveats)
    assert [told for told in found.unchecked if "rows come from function ward.all_of" in told]


def test_the_server_is_asked_to_lock_only_what_can_be_locked(
    reader: DatabaseServer, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    lock = PostgresSession._lock

    def noted(self: PostgresSession, statement: str) -> bool:
        asked.append(statement)
        return lock(self, statement)

    monkeypatch.setattr(PostgresSession, "_lock", noted)
    postgres_server.execute("create table ward.partly (id int, secret int)")
    postgres_server.execute("revoke select on ward.partly from plain")
    postgres_server.execute("grant select (id) on ward.partly to plain")
    sql = "with patients as (select * from kept) select p.id from patients p, partly, visits, p1"
    origins(reader, monkeypatch, sql)
    assert asked == [f'lock table "{name}" in access share mode' for name in ("p1", "visits")]
