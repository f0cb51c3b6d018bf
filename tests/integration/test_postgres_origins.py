"""Rows that appear long after their stamp on PostgreSQL: told at plan, and found by `verify.py --window all`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from include.etl import run as runner
from include.etl.errors import ConfigurationError
from scripts import verify
from tests.contract.engines.reading_account import plain_reader
from tests.integration.conftest import Project
from tests.integration.test_late_commits import summary
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: ward.visits
primary_key: [visit_id]
cursor: {column: updated_at}
schedule: {incremental: "0 2 * * *"}
output: {formats: [parquet]}
"""
COLUMNS = "(visit_id int, updated_at timestamptz)"
ROWS = "insert into {} select i, '2024-01-01'::timestamptz + i * interval '1 day' from generate_series({}, {}) i"
PLAIN = f"create table ward.visits {COLUMNS}"
KINDS: dict[str, tuple[list[str], list[str], str]] = {
    "foreign table": (
        [
            f"create table ward.elsewhere {COLUMNS}",
            ROWS.format("ward.elsewhere", 1, 10),
            f"create foreign table ward.visits {COLUMNS} server lab "
            "options (schema_name 'ward', table_name 'elsewhere')",
        ],
        [ROWS.format("ward.elsewhere", 11, 13)],
        "is a foreign table",
    ),
    "materialised view": (
        [
            f"create table ward.base {COLUMNS}",
            ROWS.format("ward.base", 1, 10),
            "create materialized view ward.visits as select * from ward.base",
        ],
        [ROWS.format("ward.base", 11, 13), "refresh materialized view ward.visits"],
        "is a materialised view",
    ),
    "attached partition": (
        [
            f"create table ward.visits {COLUMNS} partition by range (visit_id)",
            "create table ward.first partition of ward.visits for values from (1) to (11)",
            ROWS.format("ward.visits", 1, 10),
        ],
        [
            f"create table ward.second {COLUMNS}",
            ROWS.format("ward.second", 11, 13),
            "alter table ward.visits attach partition ward.second for values from (11) to (21)",
        ],
        "",
    ),
    "joined view": (
        [
            f"create table ward.base {COLUMNS}",
            ROWS.format("ward.base", 1, 13),
            "create table ward.patients (visit_id int)",
            "insert into ward.patients select i from generate_series(1, 10) i",
            "create view ward.visits as select base.* from ward.base join ward.patients using (visit_id)",
        ],
        ["insert into ward.patients select i from generate_series(11, 13) i"],
        "a join of ward.base and ward.patients",
    ),
}


@pytest.fixture
def clinic(
    project: Project, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseServer]:
    project.configure(SOURCE)
    with plain_reader(postgres_server) as reader:
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader.airflow_connection)
        yield postgres_server


def make(server: DatabaseServer, statements: list[str]) -> None:
    place = json.loads(server.airflow_connection)
    login = f"user '{place['login']}', password '{place['password'].replace(chr(39), chr(39) * 2)}'"
    for sql in (
        "create extension if not exists postgres_fdw",
        "drop server if exists lab cascade",
        f"create server lab foreign data wrapper postgres_fdw options (host '{place['host']}', "
        f"port '{place['port']}', dbname '{place['schema']}')",
        f"create user mapping for public server lab options ({login})",
        *statements,
    ):
        server.execute(sql)


def told(project: Project) -> str:
    """What operators learn of the newest run's plan, also where it had nothing to read."""
    conditions: dict[str, str] = summary(project)["phases"][0].get("conditions", {})
    return conditions.get("degraded guarantee", "")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_appear_late_are_announced_and_found(
    project: Project, clinic: DatabaseServer, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before, late, announced = KINDS[kind]
    make(clinic, before)
    first = project.run()
    assert first.manifest["rows"]["published"] == 10
    assert announced in told(project)
    assert bool(told(project)) == bool(announced)
    for sql in late:
        clinic.execute(sql)
    project.run()
    assert len(project.rows("visit_id")) == 10, "their time has been read"
    assert ("ward.second: attached" in told(project)) == (kind == "attached partition")
    assert verify.main(["visits", "--window", "all"]) == 1
    assert "but 3 of them were not published" in capsys.readouterr().out
    assert project.run(mode="full").manifest["rows"]["published"] == 13
    not_checked = kind == "foreign table"  # what another server shows cannot be made sure of from here
    assert verify.main(["visits", "--window", "all"]) == (3 if not_checked else 0)


def test_names_that_stand_for_something_else_than_in_plan_are_refused(
    project: Project, clinic: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(clinic, [PLAIN, f"create table ward.other {COLUMNS}", "create view ward.seen as select * from ward.visits"])
    project.configure(SOURCE.replace("ward.visits", "ward.seen"))
    extract = runner.extract

    def replaced(*arguments: Any) -> Any:
        clinic.execute("create or replace view ward.seen as select * from ward.other")
        return extract(*arguments)

    monkeypatch.setattr(runner, "extract", replaced)
    with pytest.raises(ConfigurationError, match=r"reads ward\.other, ward\.seen, and.*read ward\.seen, ward\.visits"):
        project.run()
    assert project.variables == {}


def test_rows_that_a_policy_hides_are_refused_or_declared(project: Project, clinic: DatabaseServer) -> None:
    policy = [
        "alter table ward.visits enable row level security",
        "create policy few on ward.visits using (visit_id < 5)",
    ]
    make(clinic, [PLAIN, ROWS.format("ward.visits", 1, 10), *policy])
    with pytest.raises(ConfigurationError, match=r'visits plan.*"visits".*extract\.row_security: apply'):
        project.run()
    assert (project.variables, project.files()) == ({}, {})
    project.configure(SOURCE + "extract: {row_security: apply}\n")
    result = project.run()
    assert (result.manifest["rows"]["published"], told(project)) == (4, "")
    assert "ward.visits has policies" in "".join(result.manifest["caveats"])
    assert not result.manifest["completeness"]["verified"]


@pytest.mark.parametrize(
    "cure",
    ["", "cursor: {column: updated_at, lookback: 2d}", 'schedule: {incremental: "0 2 * * *", full: "0 3 * * 0"}'],
)
def test_who_has_the_cure_is_not_alerted(project: Project, clinic: DatabaseServer, cure: str) -> None:
    make(clinic, KINDS["joined view"][0])
    kept = [line for line in SOURCE.splitlines() if not cure or not line.startswith(cure.split(":")[0])]
    project.configure("\n".join([*kept, cure]))
    result = project.run()
    assert bool(told(project)) == (not cure)
    assert "a join of ward.base" in "".join(result.manifest["caveats"])
    assert result.manifest["bound"]["grade"] == "not proven"
