"""PostgreSQL: a policy that would hide rows from the reading account is an error, unless the YAML wants its part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.etl.engines.base import Query
from include.etl.errors import ConfigurationError
from tests.contract.engines.lab import CONN_ID, Lab
from tests.contract.engines.reading_account import plain_reader
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
ROWS = "insert into ward.visits select i from generate_series(1, 10) i"
POLICY = "create policy half on ward.visits using (id <= 5)"
ON = "alter table ward.visits enable row level security"
TABLE = ["create table ward.visits (id int)", ROWS]
PARTED = [
    "create table ward.visits (id int) partition by range (id)",
    "create table ward.part partition of ward.visits default",
    ROWS,
]
HIDING = {
    "policy": ([*TABLE, ON, POLICY], "visits"),
    "switched on, and no policy": ([*TABLE, ON], "visits"),
    "of a partitioned table": ([*PARTED, ON, POLICY], "visits"),
    "of a partition that is read itself": (
        [*PARTED, "alter table ward.part enable row level security", POLICY.replace("visits", "part")],
        "part",
    ),
    "below a view of the account's": (
        [*TABLE, "create view ward.seen with (security_invoker) as select * from ward.visits", ON, POLICY],
        "seen",
    ),
    "forced on the owner of a view": (
        [
            "create table ward.visits (id int)",
            "alter table ward.visits owner to keeper",
            "create view ward.seen as select * from ward.visits",
            "alter view ward.seen owner to keeper",
            "grant usage on schema ward to keeper",
            ROWS,
            ON,
            "alter table ward.visits force row level security",
            POLICY,
        ],
        "seen",
    ),
    "in a function": (
        [
            *TABLE,
            "create function ward.seen() returns setof int language plpgsql as "
            "'begin return query select id from ward.visits; end'",
            ON,
            POLICY,
        ],
        "seen() as s (id)",
    ),
    "of one of two tables": (
        [*TABLE, "create table ward.clinics as select * from ward.visits", ON, POLICY],
        "clinics left join visits using (id)",
    ),
}


@pytest.fixture
def reader(postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseServer]:
    postgres_server.execute("drop role if exists keeper")
    postgres_server.execute("create role keeper")
    with plain_reader(postgres_server) as account:
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", account.airflow_connection)
        yield account
    postgres_server.execute("drop role keeper")


def read(origin: str, **limits: str) -> list[int]:
    with Lab("postgres", lambda sql: None).engine(**limits).session() as session:  # type: ignore[arg-type]
        batches = session.stream(Query(f"select id from {origin}")).batches
        return [value for batch in batches for value in batch.column(0).to_pylist()]


@pytest.mark.parametrize("how", HIDING)
def test_rows_that_a_policy_hides_are_an_error_that_names_the_table(
    reader: DatabaseServer, postgres_server: DatabaseServer, how: str
) -> None:
    before, origin = HIDING[how]
    for sql in before:
        postgres_server.execute(sql)
    with pytest.raises(ConfigurationError, match=r'"(visits|part)".*BYPASSRLS.*row_security: apply'):
        read(origin)
    shown = read(origin, row_security="apply")
    assert len(shown) < 10 or "left join" in origin


def test_tables_whose_policies_do_not_concern_the_account_are_read(
    reader: DatabaseServer, postgres_server: DatabaseServer
) -> None:
    for sql in [*TABLE, "create view ward.seen as select * from ward.visits", ON, POLICY]:
        postgres_server.execute(sql)
    assert len(read("seen")) == 10, "a view of somebody who sees everything"
    postgres_server.execute("alter role plain bypassrls")
    assert len(read("visits")) == 10


def test_what_policies_hide_is_told_where_it_is_wanted(reader: DatabaseServer, postgres_server: DatabaseServer) -> None:
    for sql in [*TABLE, ON, POLICY]:
        postgres_server.execute(sql)
    with Lab("postgres", lambda sql: None).engine(row_security="apply").session() as session:  # type: ignore[arg-type]
        (hidden,) = session.origins(Query("select * from visits")).hidden
    assert hidden.startswith("ward.visits has policies")
