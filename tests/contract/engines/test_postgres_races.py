"""PostgreSQL: a reader that waits for a table which another session replaces gets the new rows, and never none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from include.etl.engines.base import Query
from include.etl.errors import TransientError
from tests.contract.engines.lab import CONN_ID, Lab, wait_until
from tests.contract.engines.reading_account import plain_reader
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
FILL = "insert into {} select i from generate_series(1, 1000) i;"
WAITING = (
    "select 1 from pg_locks where not granted and pid in (select pid from pg_stat_activity where usename = 'plain')"
)
TABLE = f"create table visits (id int, secret text); {FILL.format('visits (id)')}"
BELOW = f"create table parted (id int) partition by range (id); create table part partition of parted default; {FILL}"
VIEW = "create view seen as select * from visits;"
RACES = {
    "truncated and filled": (TABLE, f"truncate visits; {FILL.format('visits (id)')}", "visits"),
    "two of them": (
        f"{TABLE} create table clinics as select * from visits;",
        f"truncate clinics; insert into clinics select * from visits; truncate visits; {FILL.format('visits (id)')}",
        "clinics join visits using (id)",
    ),
    "rewritten": (TABLE, "alter table visits alter id type bigint", "visits"),
    "swapped": (
        f"{TABLE} create table fresh (id int, secret text);",
        f"{FILL.format('fresh (id)')} alter table visits rename to old; alter table fresh rename to visits",
        "visits",
    ),
    "dropped and made anew": (TABLE, f"drop table visits; {TABLE}", "visits"),
    "below a view": (f"{TABLE} {VIEW}", f"truncate visits; {FILL.format('visits (id)')}", "seen"),
    "a view of another table": (
        f"{TABLE} {VIEW} create table fresh (id int, secret text);",
        f"{FILL.format('fresh (id)')} create or replace view seen as select * from fresh",
        "seen",
    ),
    "materialised view": (
        f"{TABLE} create materialized view seen as select * from visits;",
        "refresh materialized view seen",
        "seen",
    ),
    "partition": (BELOW.format("parted"), f"truncate part; {FILL.format('part')}", "parted"),
    "another partition": (
        f"{BELOW.format('parted')} create table fresh (id int);",
        f"{FILL.format('fresh')} alter table parted detach partition part; "
        "alter table parted attach partition fresh default",
        "parted",
    ),
    "child": (
        f"create table parent (id int); create table child () inherits (parent); {FILL.format('child')}",
        f"truncate child; {FILL.format('child')}",
        "parent",
    ),
    "another child": (
        f"create table parent (id int); create table child () inherits (parent); create table fresh (id int); "
        f"{FILL.format('child')}",
        f"{FILL.format('fresh')} alter table child no inherit parent; alter table fresh inherit parent",
        "parent",
    ),
    "some columns only": (
        f"{TABLE} revoke select on visits from plain; grant select (id) on visits to plain;",
        f"truncate visits; {FILL.format('visits (id)')}",
        "visits",
    ),
    "read by a function": (
        f"{TABLE} create function all_visits() returns setof int language sql stable as 'select id from visits';",
        f"truncate visits; {FILL.format('visits (id)')}",
        "all_visits() as f (id)",
    ),
}
"""What there is, what another session does in one transaction, and what is read."""


@pytest.fixture
def owner(postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg2.extensions.connection]:
    """The other session; the engine reads with the plain account."""
    with plain_reader(postgres_server) as reader, closing(postgres_server.connect()) as connection:
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
        connection.cursor().execute("set search_path = ward")
        yield connection


def count(origin: str) -> list[int]:
    """Rows as they are streamed, and as they are counted afterwards in the same session."""
    with Lab("postgres", lambda sql: None).engine().session() as session:
        query = Query(f"select id from {origin}")
        session.writers()  # takes a snapshot, and no row
        streamed = sum(batch.num_rows for batch in session.stream(query).batches)
        (counted,) = session.single_row(Query(f"select count(*) as n from {origin}"))
        return [streamed, counted]


@pytest.mark.parametrize("race", RACES)
def test_a_table_that_is_replaced_while_it_is_waited_for(
    owner: psycopg2.extensions.connection, postgres_server: DatabaseServer, race: str
) -> None:
    before, change, origin = RACES[race]
    cursor = owner.cursor()
    cursor.execute(before)
    cursor.execute(f"begin; {change}")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(count, origin)
        wait_until(lambda: read.done() or postgres_server.execute(WAITING))
        assert not read.done(), "the reader has to wait, or this is no race"
        cursor.execute("commit")
        assert read.result(20) == [1000, 1000]


@pytest.mark.parametrize(
    ("before", "change", "origin"),
    [
        (*RACES["read by a function"][:2], "all_visits() as f (id)"),
        (*RACES["materialised view"][:2], "seen"),
        (
            f"create table parted (id int) partition by range (id); create table fresh (id int);{FILL.format('fresh')}",
            "alter table parted attach partition fresh default",
            "parted",
        ),
    ],
    ids=["function", "materialised view", "attached"],
)
def test_what_is_replaced_after_the_first_row_was_read_is_a_transient_error(
    owner: psycopg2.extensions.connection, before: str, change: str, origin: str
) -> None:
    cursor = owner.cursor()
    cursor.execute(before)
    with Lab("postgres", lambda sql: None).engine().session() as session:
        assert session.single_row(Query("select 1 as n")) == [1]
        cursor.execute(f"begin; {change}; commit")
        with pytest.raises(TransientError, match=r"ward\.(visits|seen|fresh).*rows may be missing"):
            session.single_row(Query(f"select count(*) as n from {origin}"))


def test_a_partition_that_is_made_while_a_table_is_read_disturbs_nobody(owner: psycopg2.extensions.connection) -> None:
    cursor = owner.cursor()
    cursor.execute("create table parted (id int) partition by range (id)")
    cursor.execute("create table a partition of parted for values from (1) to (5); insert into parted values (1)")
    counting = Query("with few as (select * from parted) select count(*) as n from few")
    with Lab("postgres", lambda sql: None).engine().session() as session:
        assert session.single_row(counting) == [1]
        cursor.execute("create table b (id int); alter table parted attach partition b for values from (5) to (9)")
        cursor.execute("insert into parted values (7)")
        assert session.single_row(counting) == [1]


def test_who_waits_for_a_table_holds_no_other_one(
    owner: psycopg2.extensions.connection, postgres_server: DatabaseServer
) -> None:
    cursor = owner.cursor()
    cursor.execute(f"{TABLE} create table clinics as select * from visits; set deadlock_timeout = '60s'")
    cursor.execute("begin; alter table visits add more int")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(count, "clinics join visits using (id)")
        wait_until(lambda: read.done() or postgres_server.execute(WAITING))
        cursor.execute("set lock_timeout = '700ms'; alter table clinics add more int; commit")
        assert read.result(20) == [1000, 1000]
