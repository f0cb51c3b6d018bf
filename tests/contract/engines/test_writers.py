"""Who may still write, as each server tells it: what is listed, since when, by which name, and to whom."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.etl.engines import engine_class
from include.etl.engines.base import Query, Writers
from include.etl.errors import ConfigurationError
from tests import servers
from tests.contract.engines.lab import CONN_ID, Lab, wait_until

EVENT = "select id from information_schema.processlist where info like 'insert into moving values (8)%'"
SECOND = timedelta(seconds=1)
VARIABLE = f"AIRFLOW_CONN_{CONN_ID.upper()}"


@pytest.fixture
def lab(server_lab: Lab) -> Lab:
    """A server with a table to write to."""
    if server_lab.database not in ("postgres", "mysql"):
        pytest.skip(f"{server_lab.database}: transactions are opened here in the words of PostgreSQL and MySQL only")
    server_lab.execute("drop table if exists moving")
    server_lab.execute("create table moving (a int primary key)")
    return server_lab


@contextlib.contextmanager
def transaction(lab: Lab, *statements: str) -> Iterator[Any]:
    """An open transaction that has run these statements; rolled back at the end."""
    assert lab.server
    begin = {"mssql": ["begin transaction"], "oracle": []}.get(lab.database, ["begin"])
    with contextlib.closing(lab.server.connect()) as connection:
        if lab.database == "oracle":  # which has no word to begin one
            connection.autocommit = False
        with connection.cursor() as cursor:
            for sql in (*begin, *statements):
                cursor.execute(sql)
        yield connection


def writers(lab: Lab) -> Writers:
    with lab.engine().session() as session:
        return session.writers()


def settled(lab: Lab) -> Writers:
    """A server may show a statement as running for a moment after its client has got the answer."""
    for _ in range(100):
        found = writers(lab)
        if not found.in_flight:
            break
    return found


def test_nobody_writes(lab: Lab) -> None:
    found = settled(lab)
    assert (list(found.in_flight), found.unseen) == ([], "")
    assert abs(datetime.now(UTC) - found.now) < 5 * SECOND


def test_a_transaction_that_waits_for_its_program_is_seen_until_it_ends(lab: Lab) -> None:
    before = datetime.now(UTC)
    with transaction(lab, "insert into moving values (4711)") as connection:
        writer, *same = writers(lab).in_flight
        assert all(one.session == writer.session for one in same), "a server may still show its last statement as well"
        assert before - 2 * SECOND <= writer.since <= datetime.now(UTC)
        assert not writer.begun_earlier
        number = connection.thread_id() if lab.database == "mysql" else connection.get_backend_pid()
        assert str(number) in writer.session
        assert lab.server
        assert f"user='{lab.server.user}'" in writer.session
        assert "4711" not in writer.session.replace(str(number), "")
        assert "insert" not in writer.session
        connection.cursor().execute("commit")
        assert not settled(lab).in_flight


def test_in_postgres_one_that_has_not_written_yet_counts(lab: Lab) -> None:
    lab.not_in("mysql", "it lists a transaction from its first access to a table")
    with transaction(lab, "select now()"):
        assert writers(lab).in_flight


def test_own_readers_do_not_count(lab: Lab) -> None:
    lab.execute("insert into moving values (1)")
    with lab.engine().session() as session:
        list(session.stream(Query("select * from moving")).batches)
        assert not settled(lab).in_flight


def test_a_second_look_in_the_same_session_is_fresh(lab: Lab) -> None:
    settled(lab)
    with lab.engine().session() as session:
        assert not session.writers().in_flight
        with transaction(lab, "insert into moving values (1)"):
            if lab.database == "mysql":  # which renews its list ten times a second, so far from each other they lie
                list(session.stream(Query("select sleep(0.2) as a")).batches)
            assert session.writers().in_flight


def test_a_statement_that_waits_for_its_table_is_seen(lab: Lab) -> None:
    """It stamps its rows with the time at which it began to wait. MySQL's transaction begins only afterwards."""
    assert lab.server
    lock = "lock tables moving write" if lab.database == "mysql" else "lock table moving"
    with transaction(lab, lock) as holder, contextlib.closing(lab.server.connect()) as waiting:
        thread = threading.Thread(target=lambda: waiting.cursor().execute("insert into moving values (7)"))
        thread.start()
        number = waiting.thread_id() if lab.database == "mysql" else waiting.get_backend_pid()
        for _ in range(100):
            seen = [writer for writer in writers(lab).in_flight if f"={number} " in writer.session]
            if seen:
                break
        holder.cursor().execute("unlock tables" if lab.database == "mysql" else "rollback")
        thread.join()
    assert seen


def test_an_event_that_waits_for_its_table_is_seen(lab: Lab) -> None:
    """The server's scheduler runs it, in a thread that no client has."""
    if lab.database != "mysql":
        return
    lab.execute("set global event_scheduler = on")
    with transaction(lab, "lock tables moving write") as holder:
        lab.execute("create event filling on schedule at current_timestamp do insert into moving values (8)")
        wait_until(lambda: lab.execute(EVENT))
        ((number,),) = lab.execute(EVENT)
        seen = [writer for writer in writers(lab).in_flight if f"={number} " in writer.session]
        holder.cursor().execute("unlock tables")
    lab.execute("set global event_scheduler = off")
    assert seen


def test_an_account_that_may_not_look_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, as_outsider(lab))
    with transaction(lab, "insert into moving values (1)"):
        found = writers(lab)
    grant = "pg_monitor" if lab.database == "postgres" else "PROCESS"
    assert grant in found.unseen
    assert found.usual_lag == timedelta(minutes=10)
    assert abs(datetime.now(UTC) - found.now) < 5 * SECOND


def test_the_grant_that_is_asked_for_is_enough(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, as_outsider(lab))
    lab.execute("grant pg_monitor to outsider" if lab.database == "postgres" else "grant process on *.* to outsider")
    with transaction(lab, "insert into moving values (1)"):
        found = writers(lab)
    assert found.unseen == ""
    assert found.in_flight


def as_outsider(lab: Lab) -> str:
    """The Airflow connection of a new account that may only read."""
    assert lab.server
    if lab.database == "postgres":
        lab.execute("drop role if exists outsider")
        lab.execute("create role outsider login password 'x'")
    else:
        lab.execute("drop user if exists outsider")
        lab.execute("create user outsider identified by 'x'")
        lab.execute(f"grant select on {lab.server.database}.* to outsider")
    return replace(lab.server, user="outsider", password="x").airflow_connection


def test_prepared_transactions_count_as_begun_earlier(lab: Lab) -> None:
    if lab.database == "postgres":
        if lab.execute("show max_prepared_transactions") == [("0",)]:
            pytest.skip("PREPARED TRANSACTIONS ARE NOT TESTED here: the server does not allow them")
        prepare, end = ["insert into moving values (1)", "prepare transaction 'pay'"], "rollback prepared 'pay'"
    else:
        prepare = ["xa start 'pay'", "insert into moving values (1)", "xa end 'pay'", "xa prepare 'pay'"]
        end = "xa rollback 'pay'"
    assert lab.server
    with contextlib.closing(lab.server.connect()) as connection, connection.cursor() as cursor:
        for sql in (["begin"] if lab.database == "postgres" else []) + prepare:
            cursor.execute(sql)
    try:
        for _ in range(100):  # a session's end takes the server a moment
            writer, *_ = writers(lab).in_flight
            if writer.begun_earlier:
                break
        assert writer.begun_earlier
        assert "prepared" in writer.session
    finally:
        lab.execute(end)
    assert not settled(lab).in_flight


def test_another_time_zone_of_the_server_changes_nothing(lab: Lab) -> None:
    assert lab.server
    old = lab.execute("select @@global.time_zone" if lab.database == "mysql" else "show timezone")[0][0]
    set_zone(lab, "+08:00" if lab.database == "mysql" else "Asia/Singapore")
    try:
        with transaction(lab, "insert into moving values (1)"):
            found = writers(lab)
        writer, *_ = found.in_flight
        assert abs(found.now - writer.since) < 5 * SECOND
        assert abs(datetime.now(UTC) - found.now) < 5 * SECOND
    finally:
        set_zone(lab, old)


def set_zone(lab: Lab, zone: str) -> None:
    """For sessions that are opened from now on; other tests share the server."""
    if lab.database == "mysql":
        lab.execute(f"set global time_zone = '{zone}'")
        return
    lab.execute(f"alter system set timezone = '{zone}'")
    lab.execute("select pg_reload_conf()")
    while lab.execute("show timezone")[0][0] != zone:
        time.sleep(0.01)


def test_row_versions_are_decided_up_to_the_first_in_flight(server_lab: Lab) -> None:
    if server_lab.database != "mssql":
        with server_lab.engine().session() as session, pytest.raises(ConfigurationError, match="only SQL Server"):
            session.row_versions(Query("select 1 as v"), "v")
        return
    assert server_lab.server
    server_lab.needs_type("rowversion")
    query = Query("select a, v from moving")
    server_lab.execute("drop table if exists moving")
    server_lab.execute("create table moving (a int primary key, v rowversion)")
    server_lab.execute("insert into moving (a) values (1)")
    with contextlib.closing(server_lab.server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin transaction")
        cursor.execute("insert into moving (a) values (2)")
        server_lab.execute("insert into moving (a) values (3)")
        with server_lab.engine().session() as session:
            held = session.row_versions(query, "v")
        cursor.execute("commit transaction")
        with server_lab.engine().session() as session:
            free = session.row_versions(query, "v")
    versions = dict(zip(*server_lab.read("select a, v from moving order by a").to_pydict().values(), strict=True))
    assert versions[1] < held.decided <= versions[2] < versions[3] < held.next
    assert free.decided == free.next > versions[3]
    # What is compared as bytes is what was read as a number.
    found = server_lab.read("select a from moving where v >= :start", start=versions[2].to_bytes(8, "big"))
    assert sorted(found["a"].to_pylist()) == [2, 3]


def test_every_server_lists_its_writers_or_says_why_not(server_lab: Lab) -> None:
    server_lab.execute("drop table if exists moving")
    server_lab.execute("create table moving (a int primary key)")
    with transaction(server_lab, "insert into moving values (4711)"):
        found = writers(server_lab)
    assert abs(datetime.now(UTC) - found.now) < 60 * SECOND
    assert found.unseen or len(found.in_flight) > 0
    assert all(abs(found.now - writer.since) < 60 * SECOND for writer in found.in_flight)
    if found.unseen:
        pytest.skip(f"THE LIST OF WRITERS IS NOT TESTED: {found.unseen}")


def test_sqlite_says_that_it_cannot_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "a.db")}))
    (tmp_path / "a.db").touch()
    with engine_class("sqlite", CONN_ID)(CONN_ID).session() as session:
        found = session.writers()
    assert (list(found.in_flight), found.usual_lag) == ([], timedelta(0))
    assert found.unseen


def test_a_server_whose_writers_are_elsewhere_says_so_when_replication_stands_still(server_lab: Lab) -> None:
    """A subscription that is disabled has no worker to be known by, a stopped replica no thread."""
    there = {
        "postgres": (
            "create subscription still connection 'host=127.0.0.1 port=1' publication p with (connect=false)",
        ),
        "mysql": ("set global read_only = 1",),
    }
    back = {
        "postgres": ("alter subscription still set (slot_name = none)", "drop subscription still"),
        "mysql": ("set global read_only = 0",),
    }
    if server_lab.database not in there or server_lab.server is None or server_lab.server.process is None:
        return  # what is changed here belongs to the whole server
    try:
        for sql in there[server_lab.database]:
            server_lab.execute(sql)
        with server_lab.engine().session() as session:
            assert session.writers().unseen
    finally:
        for sql in back[server_lab.database]:
            server_lab.execute(sql)
    with server_lab.engine().session() as session:
        assert session.writers().unseen == ""


@pytest.mark.parametrize("server_lab", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_a_standby_that_has_replayed_nothing_is_not_taken_for_up_to_date(
    server_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own clock goes on, and what its primary wrote meanwhile would be looked for too early."""
    if server_lab.server is None or server_lab.server.process is None:
        pytest.skip("NOT TESTED: a standby of a server that was given")
    server_lab.execute("drop table if exists replayed")
    server_lab.execute("create table replayed as select 1 as a")
    ((before,),) = server_lab.execute("select clock_timestamp()")
    with servers.postgres_standby(server_lab.server) as standby:
        ((after,),) = server_lab.execute("select clock_timestamp()")
        assert standby.execute("select pg_is_in_recovery()") == [(True,)]
        monkeypatch.setenv(VARIABLE, standby.airflow_connection)
        with server_lab.engine().session() as session:
            found = session.writers()
        assert server_lab.read("select a from replayed")["a"].to_pylist() == [1], "it can be locked there, too"
    assert found.unseen
    assert before - SECOND < found.now < after
