"""A table that another one replaces while a run begins, filled after its session began, as online schema changes do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from include.etl.engines.mysql import MySqlSession
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [id]
cursor: {column: updated_at, timezone: UTC}
schedule: {incremental: "0 2 * * *", full: "0 3 * * 0"}
output: {formats: [parquet]}
"""
SHAPE = "(id int primary key, note varchar(20), updated_at datetime(6), index (updated_at))"
ROWS = "insert into {} with recursive c as (select 1 as i union all select i + 1 from c where i < 500) "
ROWS += "select i + 500 * k, 'x', '2024-01-02 08:00:00' + interval i second from c join ks where k < {}"
THERE = [
    "create table ks as select 0 as k union all select 1 union all select 2 union all select 3",
    "insert into ks select k + 4 from ks",
    f"create table visits {SHAPE}",
    f"create table fresh {SHAPE}",
    "create view seen as select * from visits",
    ROWS.format("visits", 6),
    "analyze table visits",
]
RUNS = {
    "whole": ("", {"mode": "full"}),
    "in slices": ("split: {column: id, rows: 1000}\n", {"mode": "full"}),
    "incremental": ("", {}),
    "marking": ("deletes: mark\n", {"mode": "full"}),
    "not counted": ("verify: {count: false}\n", {"mode": "full"}),
    "a view": ("", {"mode": "full"}),
}


@pytest.fixture(
    params=[
        pytest.param("mariadb_server", marks=pytest.mark.mariadb, id="mariadb"),
        pytest.param("mysql_server", marks=pytest.mark.mysql, id="mysql"),
    ]
)
def server(
    request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseServer]:
    """With a database of its own, and for the project an account that may only read it and see who writes."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    for sql in ("drop database if exists online", "create database online", "drop user if exists night"):
        found.execute(sql)
    found.execute("create user night identified by 'night-s3cret'")
    found.execute("grant select, show view on online.* to night")
    found.execute("grant process on *.* to night")
    reader = replace(found, user="night", password="night-s3cret", database="online")
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader.airflow_connection)
    yield replace(found, database="online")
    found.execute("drop database online")
    found.execute("drop user night")


@pytest.mark.parametrize("kind", RUNS)
def test_the_rows_of_the_new_table_are_published(
    server: DatabaseServer, project: Project, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    more, parameters = RUNS[kind]
    project.configure(SOURCE.replace("table: visits", "table: seen") + more if kind == "a view" else SOURCE + more)
    for sql in THERE:
        server.execute(sql)
    if kind == "marking":
        project.run(mode="full")
    swapping_while_it_begins(server, monkeypatch)
    result = project.run(**parameters)
    assert server.execute("show tables like 'gone'")
    assert (len(project.rows("id")), result.publication.completeness.verified) == (4000, kind != "not counted")
    assert result.manifest["deleted"] == 0
    assert (len(result.plan.slices) > 1) == (kind == "in slices")


def swapping_while_it_begins(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first session that reads rows finds another table under the name than there was when it began."""
    begin = MySqlSession.begin

    def then_swap(session: MySqlSession) -> None:
        begin(session)
        if " slice " in session.engine.label and not server.execute("show tables like 'gone'"):
            server.execute(ROWS.format("fresh", 8))
            server.execute("rename table visits to gone, fresh to visits")

    monkeypatch.setattr(MySqlSession, "begin", then_swap)
