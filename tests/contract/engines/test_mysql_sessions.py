"""MySQL and MariaDB with a plain account: settings for everybody, tables that are swapped, where rows come from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from include.etl.engines import mysql_origins
from include.etl.engines.base import Origins, Query
from include.etl.engines.batches import Row
from include.etl.engines.mysql_catalog import numbering, statistics
from include.etl.errors import ConfigurationError
from include.etl.sql_guard import only_select
from tests.contract.engines.lab import CONN_ID, Lab, wait_until
from tests.servers import DatabaseServer

SERVERS = [
    pytest.param("mariadb_server", marks=pytest.mark.mariadb, id="mariadb"),
    pytest.param("mysql_server", marks=pytest.mark.mysql, id="mysql"),
]


@dataclass
class Ward:
    """A database of its own, and an account that may read it and see other sessions."""

    server: DatabaseServer
    reader: DatabaseServer
    lab: Lab

    @property
    def mariadb(self) -> bool:
        return "MariaDB" in self.run("select version()")[0][0]

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """One after another, as the administrator; the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        for sql in statements:
            rows = self.server.execute(sql)
        return rows

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.lab.read(sql).to_pylist()]


@pytest.fixture(scope="module", params=SERVERS)
def accounts(request: pytest.FixtureRequest) -> Iterator[tuple[DatabaseServer, DatabaseServer]]:
    """A server, and the same as the plain account logs in to it; another one may look at the text of views."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    for name in ("plain", "viewer"):
        server.execute(f"drop user if exists {name}")
        server.execute(f"create user {name} identified by 'plain-s3cret'")
        server.execute(f"grant select on ward.* to {name}")
        server.execute(f"grant process on *.* to {name}")
    server.execute("grant show view on ward.* to viewer")
    yield server, replace(server, user="plain", password="plain-s3cret", database="ward")
    server.execute("drop user plain, viewer")


@pytest.fixture
def ward(accounts: tuple[DatabaseServer, DatabaseServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    server, reader = accounts
    server.execute("create database ward")
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
    yield Ward(replace(server, database="ward"), reader, Lab("mysql", server.execute, reader))
    server.execute("drop database ward")


@contextlib.contextmanager
def for_everybody(ward: Ward, setting: str, value: str) -> Iterator[None]:
    """The setting as every new session begins with it; a test that the server does not have it for skips."""
    if not ward.run(f"show global variables like '{setting}'"):
        pytest.skip(f"NOT TESTED: this server has no {setting}")
    before = ward.run(f"show global variables like '{setting}'")[0][1]
    ward.run(f"set global {setting} = {value}")
    try:
        yield
    finally:
        ward.run(
            f"set global {setting} = "
            + (before if before == "DEFAULT" or before.replace(".", "").isdecimal() else f"'{before}'")
        )


THERE = ["create table t (id int primary key, code char(5), day date)"]
THERE += [f"insert into t values ({n}, 'ab', '2024-01-01')" for n in (1, 2, 3)]
ALL = [(1, "ab"), (2, "ab"), (3, "ab")]
READING = "select id, code from t order by id"
COUNTED = "with recursive c as (select 1 as n union all select n + 1 from c where n < 100) "
COUNTED += "select cast(count(*) as char) as c from c"
ALONE = "select cast(count(*) over (partition by concat('long text ', id)) as char) as c from t"
LISTED = "select group_concat(code order by id separator '-----') as c from t"


@pytest.mark.parametrize(
    ("setting", "value", "sql", "rows"),
    [
        ("sql_select_limit", "0", READING, ALL),
        ("sql_select_limit", "1", READING, ALL),
        ("sql_mode", "'PAD_CHAR_TO_FULL_LENGTH'", READING, ALL),
        ("sql_mode", "'NO_UNSIGNED_SUBTRACTION'", "select cast(cast(2 as unsigned) - 1 as char) as c", [("1",)]),
        ("group_concat_max_len", "8", LISTED, [("ab-----ab-----ab",)]),
        ("div_precision_increment", "0", "select cast(1 / 8 as char) as c", [("0.1250",)]),
        ("default_week_format", "3", "select cast(week('2024-01-01') as char) as c", [("0",)]),
        ("lc_time_names", "'fr_FR'", "select monthname(day) as c from t where id = 1", [("January",)]),
        ("max_sort_length", "4", ALONE, [("1",)] * 3),
        ("max_recursive_iterations", "3", COUNTED, [("100",)]),
        ("character_set_results", "'latin1'", "select '\u010d' as c", [("\u010d",)]),
        ("character_set_client", "'latin1'", "select '\u010d' as c", [("\u010d",)]),
        ("transaction_isolation", "'READ-UNCOMMITTED'", READING, ALL),
        ("tx_isolation", "'READ-UNCOMMITTED'", READING, ALL),
        ("max_error_count", "0", READING, ALL),
    ],
)  # fmt: skip
def test_a_setting_for_everybody_changes_nothing(
    ward: Ward, setting: str, value: str, sql: str, rows: list[tuple[Any, ...]]
) -> None:
    ward.run(*THERE)
    with for_everybody(ward, setting, value):
        assert ward.read(sql) == rows
        with ward.lab.engine().session() as session:
            assert session.unpinned == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("wait_timeout", "1"),
        ("net_write_timeout", "1"),
        ("lock_wait_timeout", "1"),
        ("idle_transaction_timeout", "1"),
        ("idle_readonly_transaction_timeout", "1"),
        ("max_statement_time", "1"),
        ("max_execution_time", "1"),
        ("completion_type", "2"),
    ],
)
def test_a_time_limit_for_everybody_ends_no_session(ward: Ward, setting: str, value: str) -> None:
    with for_everybody(ward, setting, value):
        ((found,),) = ward.read(f"select cast(@@session.{setting} as char) as found")
    assert found == "NO_CHAIN" if setting == "completion_type" else float(found) >= 150


def test_rows_of_the_past_are_not_read(ward: Ward) -> None:
    if not ward.mariadb:
        pytest.skip("NOT TESTED: MySQL has no versions of rows")
    ward.run("create table t (id int) with system versioning", "insert into t values (1)")
    with for_everybody(ward, "system_versioning_asof", "'2000-01-01 00:00:00'"):
        assert ward.read("select id from t") == [(1,)]


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI,NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize(
    ("sql", "first"),
    [
        (r"SELECT 'a\' AS a, sleep(2) AS s, id FROM t -- don' AS t", "a' AS a, sleep(2) AS s, id FROM t -- don"),
        (r'SELECT "a\" AS a, sleep(2) AS s, id FROM t -- don" AS t', 'a" AS a, sleep(2) AS s, id FROM t -- don'),
        ('SELECT "a\' AS a, sleep(2) AS s -- " AS t', "a' AS a, sleep(2) AS s -- "),
    ],
)
def test_the_guard_reads_a_string_where_the_server_does(ward: Ward, mode: str, sql: str, first: str) -> None:
    ward.run(*THERE)
    only_select(sql, "mysql", "a test")
    with for_everybody(ward, "sql_mode", f"'{mode}'"):
        if mode:
            with contextlib.suppress(ConfigurationError):  # which names what the modes read differently
                assert ward.read(sql) == [(first,)]
        else:
            assert ward.read(sql) == [(first,)]


@pytest.mark.parametrize(
    ("mode", "sql", "alike"),
    [
        ("ANSI_QUOTES", 'select "code" as c from t where id = 1', "select `code` as c from t where id = 1"),
        ("ANSI_QUOTES", 'select id as c from t where "code" = \'ab\'', "select id as c from t where `code` = 'ab'"),
        ("ANSI", "select id as c from t where 1 || 0 = '10'", "select id as c from t where concat(1, 0) = '10'"),
        ("ORACLE", "select 'a' || 'b' = 0 as c", "select concat_ws('', 'a', 'b') = 0 as c"),
        ("ORACLE", "select length('\u010d') as c", "select char_length('\u010d') as c"),
        ("NO_BACKSLASH_ESCAPES", r"select 'a\b' as c", "select concat('a', char(92 using utf8mb4), 'b') as c"),
        ("HIGH_NOT_PRECEDENCE", "select not 1 between -5 and 5 as c", "select (not 1) between -5 and 5 as c"),
        ("IGNORE_SPACE", "select count (*) as c from t", "select count(*) as c from t"),
        ("EMPTY_STRING_IS_NULL", "select coalesce('', 1) as c", "select coalesce(null, 1) as c"),
    ],
)  # fmt: skip
def test_what_the_server_s_own_mode_reads_differently_is_refused(ward: Ward, mode: str, sql: str, alike: str) -> None:
    """What is advised instead has the rows that the query has for who writes it on the server."""
    ward.run(*THERE)
    if mode in ("ORACLE", "EMPTY_STRING_IS_NULL") and not ward.mariadb:
        pytest.skip("NOT TESTED: only MariaDB has this mode")
    with for_everybody(ward, "sql_mode", f"'{mode}'"):
        there = ward.run(sql)
        with pytest.raises(ConfigurationError, match=f"with {'PIPES_AS_CONCAT' if '||' in sql else mode}, "):
            ward.read(sql)
        assert [tuple(map(str, row)) for row in ward.read(alike)] == [tuple(map(str, row)) for row in there]


def test_utf8_stays_what_the_server_takes_it_for(ward: Ward) -> None:
    ward.run("create table t3 (a varchar(5) character set utf8mb3)", "insert into t3 values ('\u010d')")
    assert ward.read("select a collate utf8_general_ci as a from t3") == [("\u010d",)]


def test_a_name_of_a_with_clause_is_the_one_that_the_server_takes(ward: Ward) -> None:
    """To MySQL `w` is another name than `W` here, and a table, which is locked before the snapshot."""
    sql = "with W as (select 1 as a) select a from w"
    if not ward.mariadb:
        ward.run("create table w as select 2 as a")
    with ward.lab.engine().session() as session:
        found = [row["a"] for batch in session.stream(Query(sql)).batches for row in batch.to_pylist()]
        assert found == [1 if ward.mariadb else 2]
        assert list(session.origins(Query(sql)).relations) == ([] if ward.mariadb else ["ward.w"])
        assert session.unpinned == []


def test_no_question_to_the_catalogue_opens_every_table(ward: Ward) -> None:
    if not ward.mariadb:
        pytest.skip("NOT TESTED: MySQL's catalogue is kept in tables of its own, and opens none")
    ward.run("create table t (id int auto_increment primary key)", "create view v as select id from t")
    asked: list[str] = []

    def ask(sql: str) -> list[Row]:
        asked.append(sql)
        return list(ward.run(sql))

    assert numbering(ask, "t", "id")
    assert numbering(ask, "v", "id") is None
    statistics(ask, "t", "id")
    mysql_origins.origins(ask, "select * from v", any_case=True)
    asked = [sql for sql in asked if "information_schema.engines" not in sql and "information_schema" in sql]
    assert len(asked) > 5
    for sql in asked:
        assert "all databases" not in str(ward.run(f"explain {sql}"))


def test_transactions_are_all_seen_whatever_limit_there_is(ward: Ward) -> None:
    ward.run(*THERE)
    with for_everybody(ward, "sql_select_limit", "1"), contextlib.ExitStack() as open_ones:
        for number in range(3):
            connection = open_ones.enter_context(closing(ward.server.connect()))
            connection.begin()
            connection.cursor().execute("insert into t values (%s, 'x', null)", [10 + number])
        with ward.lab.engine().session() as session:
            assert len(session.writers().in_flight) == 3


FILL = "insert into {} select i + 100 from (select 1 as i union all select 2 union all select 3) s"
SWAPS = {
    "renamed": (["create table seen (id int)"], ["rename table seen to old, fresh to seen"]),
    "renamed twice": (
        ["create table seen (id int)"],
        ["rename table seen to old", "rename table fresh to seen"],
    ),
    "dropped": (["create table seen (id int)"], ["drop table seen", "rename table fresh to seen"]),
    "view of it": (
        ["create table below (id int)", "create view seen as select id from below"],
        ["rename table below to old, fresh to below"],
    ),
    "view of one row of it": (
        [
            "create table below (id int)",
            "create view seen as select max(id) + 0 * i as id from below join three group by i",
        ],
        ["rename table below to old, fresh to below"],
    ),
    "another view": (
        ["create table below (id int)", "create view seen as select id from below"],
        ["create or replace view seen as select id from fresh"],
    ),
    "partition": (
        ["create table seen (id int) partition by hash (id) partitions 1"],
        ["alter table seen exchange partition p0 with table fresh"],
    ),
}  # fmt: skip
"""What there is, and how it is swapped against the table `fresh`, which was there and empty before."""


@pytest.mark.parametrize("kind", SWAPS)
@pytest.mark.parametrize("sql", ["select id from seen", "select id from one left join (select id from seen) s on true"])
def test_a_table_that_was_filled_and_swapped_after_the_session_began(ward: Ward, kind: str, sql: str) -> None:
    """As tools do that change a big table online."""
    before, swap = SWAPS[kind]
    ward.run("create table fresh (id int)", "create table one as select 1 as a", "create table three as select 1 as i")
    ward.run("insert into three values (2), (3)", *before)
    rows = {103} if "one row" in kind else {101, 102, 103}
    with ward.lab.engine().session() as session:
        session.schema(Query(sql))
        ward.run(FILL.format("fresh"), *swap)
        found = [row["id"] for batch in session.stream(Query(sql)).batches for row in batch.to_pylist()]
        assert set(found) == rows
        assert session.single_row(Query(f"select count(*) as c from ({sql}) q")) == [3]
        assert session.unpinned == []


def test_a_table_that_is_read_is_swapped_only_afterwards(ward: Ward) -> None:
    ward.run("create table seen (id int)", "insert into seen values (1)", "create table fresh (id int)")
    swap = "rename table seen to old, fresh to seen"
    with ThreadPoolExecutor(1) as pool:
        with ward.lab.engine().session() as session:
            session.stream(Query("select id from seen"))
            swapping = pool.submit(ward.run, FILL.format("fresh"), swap)
            wait_until(lambda: ward.run(f"select 1 from information_schema.processlist where info = '{swap}'"))
            assert session.single_row(Query("select count(*) as c from seen")) == [1]
            assert not swapping.done()
        swapping.result(20)
    assert ward.read("select count(*) as c from seen") == [(3,)]


def test_a_table_that_is_opened_after_the_snapshot_is_said_to_be(ward: Ward) -> None:
    ward.run("create table first_one (id int)", "create table seen (id int)")
    with ward.lab.engine().session() as session:
        session.single_row(Query("select count(*) as c from first_one"))
        assert session.unpinned == []
        session.single_row(Query("select count(*) as c from seen"))
        (said,) = session.unpinned
        assert "seen was opened after the session's snapshot" in said


RELATIONS = [
    "create table visits (id int primary key, patient int)",
    "create table patients (patient int)",
    "create table old (id int) engine = myisam",
    "create table held (id int) engine = memory",
    "create view all_visits as select * from visits",
    "create view above as select id from all_visits where id > 0",
    "create view joined as select id from visits join patients using (patient)",
    "create view united as select id from visits union all select id from old",
]


IN_PATIENTS = "select * from visits where patient in (select patient from patients)"


@pytest.mark.parametrize(
    ("sql", "relations", "elsewhere", "caveats"),
    [
        ("select * from visits", ["visits"], [], []),
        ("select * from ward.visits", ["visits"], [], []),
        ("select * from above", ["above", "all_visits", "visits"], [], []),
        ("select * from joined", ["joined", "visits", "patients"], [], ["a join of ward.visits and ward.patients"]),
        (IN_PATIENTS, ["visits", "patients"], [], ["a join of visits and patients"]),
        ("select * from old", ["old"], ["ward.old is a table of engine MyISAM"], []),
        ("select * from held", ["held"], ["ward.held is a table of engine MEMORY"], []),
        ("select * from united", ["united", "visits", "old"], ["ward.old is a table of engine MyISAM"], []),
    ],
)  # fmt: skip
def test_where_rows_come_from(
    ward: Ward, sql: str, relations: list[str], elsewhere: list[str], caveats: list[str]
) -> None:
    ward.run(*RELATIONS)
    found = origins(ward, sql, "viewer")
    assert list(found.relations) == [f"ward.{name}" for name in relations]
    assert [part in found.elsewhere for part in elsewhere] == [True] * bool(found.elsewhere)
    assert [part in found.unchecked[0] for part in elsewhere] == [True] * len(found.unchecked)
    assert [part in found.caveats[0] for part in caveats] == [True] * len(found.caveats)


def test_what_is_below_a_hidden_view_is_never_called_seen_or_verified(ward: Ward) -> None:
    """Nor cured by looking back: what it reads may have no snapshot, or be another server's."""
    ward.run(*RELATIONS)
    found = origins(ward, "select * from united", "plain")
    assert list(found.relations) == ["ward.united"]
    assert "what view ward.united reads is not shown to this account" in found.elsewhere
    assert "grant it SHOW VIEW" in found.elsewhere
    assert (list(found.unchecked), list(found.caveats)) == ([found.elsewhere], [])


def test_nor_is_a_table_that_the_account_is_not_shown(ward: Ward) -> None:
    ward.run(*RELATIONS, "create database kept", "create table kept.old (id int) engine = myisam")
    try:
        ward.run("create view above_kept as select id from kept.old")
        found = origins(ward, "select * from above_kept", "viewer")
        assert list(found.relations) == ["ward.above_kept", "kept.old"]
        assert "no table kept.old" in found.elsewhere
        assert list(found.unchecked) == [found.elsewhere]
    finally:
        ward.run("drop database kept")


def test_rows_of_another_server_are_written_elsewhere(ward: Ward) -> None:
    ward.run(*RELATIONS)
    if ward.mariadb:
        with contextlib.suppress(Exception):  # it stays installed
            ward.run("install soname 'ha_federatedx'")
    elif ward.run("select support from information_schema.engines where engine = 'FEDERATED'") == [("NO",)]:
        pytest.skip("NOT TESTED: this server has no tables of other servers")
    place = ward.reader
    where = f"connection = 'mysql://{place.user}:{place.password}@{place.host}:{place.port}/ward/visits'"
    ward.run(f"create table away (id int, patient int) engine = federated {where}")
    ward.run("create view of_away as select id from away")
    assert "ward.away is a table of engine FEDERATED" in origins(ward, "select * from of_away", "viewer").elsewhere


def origins(ward: Ward, sql: str, account: str) -> Origins:
    with pytest.MonkeyPatch.context() as patched:
        reader = replace(ward.reader, user=account)
        patched.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", reader.airflow_connection)
        with ward.lab.engine().session() as session:
            return session.origins(Query(sql))
