"""PostgreSQL: how many of the locks that all sessions of a server share a reader takes, and how it waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.etl.engines.base import Query
from tests.contract.engines.lab import CONN_ID, Lab
from tests.contract.engines.reading_account import plain_reader
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
PARTITIONS = 200
MADE = f"""do $$ begin for i in 1..{PARTITIONS} loop
execute format('create table ward.p%s partition of ward.parted for values from (%s) to (%s)', i, i, i + 1);
end loop; end $$"""
THERE = [
    "create table ward.parted (id int primary key, patient int) partition by range (id)",
    "create index on ward.parted (patient)",
    MADE,
    f"insert into ward.parted select i, i from generate_series(1, {PARTITIONS}) i",
    "create view ward.all_parts as select * from ward.parted",
    "analyze ward.parted",
]
HELD = """select count(*), count(*) filter (where relation >= 16384) from pg_locks
where pid in (select pid from pg_stat_activity where usename = 'plain')"""


@pytest.fixture(scope="module")
def reader(postgres_server: DatabaseServer) -> Iterator[DatabaseServer]:
    with plain_reader(postgres_server) as account:
        for sql in THERE:
            postgres_server.execute(sql)
        yield account


@pytest.fixture
def lab(reader: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
    return Lab("postgres", reader.execute, reader)


@pytest.mark.parametrize("name", ["parted", "all_parts"])
def test_a_window_of_a_table_with_many_partitions_takes_few_locks(
    lab: Lab, postgres_server: DatabaseServer, name: str
) -> None:
    with lab.engine().session() as session:
        (batch,) = session.stream(Query(f"select * from {name} where id >= :a", {"a": PARTITIONS})).batches
        assert batch.num_rows == 1
        assert len(session.origins(Query(f"select * from {name}")).partitions) == PARTITIONS
        assert session.statistics("ward.parted", "id").rows == PARTITIONS
        ((held, beyond_catalogue),) = postgres_server.execute(HELD)
        assert beyond_catalogue < 10
        assert held < 80
        unlocked = ["ward.all_parts could not be locked before it is read"] if name == "all_parts" else []
        assert [one.partition(", as")[0] for one in session.unpinned] == unlocked
