"""A stream keeps its limits, and leaves nothing behind whenever it ends."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import pytest

from include.etl.engines.base import Query
from include.etl.errors import DataError
from tests.contract.engines.lab import Lab

MIB = 1 << 20


def test_all_rows_come_in_order_in_bounded_batches(lab: Lab) -> None:
    with lab.engine().session() as session:
        stream = session.stream(Query(f"select i, 'row' as t from {lab.series(35_000)} order by i"))
        batches = list(stream.batches)
    assert max(batch.num_rows for batch in batches) <= 10_000
    assert all(batch.schema == stream.schema for batch in batches)
    assert [i for batch in batches for i in batch.column(0).to_pylist()] == list(range(1, 35_001))


def test_batches_keep_to_their_bytes(lab: Lab) -> None:
    query = Query(f"select i, {lab.text('1000')} as t from {lab.series(5_000)}")
    with lab.engine(batch_bytes=100_000).session() as session:
        batches = list(session.stream(query).batches)
    assert sum(batch.num_rows for batch in batches) == 5_000
    assert max(batch.nbytes for batch in batches) < 110_000
    assert len(batches) <= 110


def test_memory_does_not_grow_with_the_result(lab: Lab) -> None:
    """Short rows come first, so that a reader which learns its fetch size from them is caught."""
    lab.not_in("oracle", "it makes no text longer than 4,000 bytes")
    length = f"case when i <= 3000 then 2 else {MIB} end"
    query = Query(f"select i, {lab.text(length)} as t from {lab.series(3_400)}")
    with lab.engine().session() as session:
        before = _peak_bytes(forget=True)
        total = sum(batch.nbytes for batch in session.stream(query).batches)
    assert total > 400 * MIB
    assert _peak_bytes() - before < 130 * MIB


def test_bytes_of_megabytes_come_whole(lab: Lab) -> None:
    lab.not_in("oracle", "it takes no literal of so many bytes")
    declared, mark, end = {
        "postgres": ("bytea", "'\\x", "'"),
        "mysql": ("longblob", "x'", "'"),
        "sqlite": ("blob", "x'", "'"),
        "mssql": ("varbinary(max)", "0x", ""),
    }[lab.database]
    large = bytes(range(256)) * (3 * MIB // 256) + b"\0"
    lab.execute("drop table if exists scans")
    lab.execute(f"create table scans (id int, scan {declared})")
    for number, scan in enumerate((b"\0\n", large, b"", large[::-1])):
        lab.execute(f"insert into scans values ({number}, {mark}{scan.hex()}{end})")
    assert lab.read("select id, scan from scans order by id")["scan"].to_pylist() == [b"\0\n", large, b"", large[::-1]]
    lab.execute("drop table scans")


def test_one_stream_at_a_time(lab: Lab) -> None:
    query = Query(f"select i from {lab.series(100_000)}")
    with lab.engine().session() as session:
        first = session.stream(query).batches
        next(first)
        with pytest.raises(RuntimeError, match="one stream at a time"):
            session.stream(query)
        assert sum(batch.num_rows for batch in first) == 90_000
        assert sum(batch.num_rows for batch in session.stream(query).batches) == 100_000


def test_an_error_in_mid_stream_is_raised_and_the_session_lives(lab: Lab) -> None:
    if lab.kind.startswith("mysql"):
        fault = "9223372036854775807 + (i > 90000)"
    else:
        fault = "abs(-9223372036854775807 - (i > 90000))" if lab.kind == "sqlite" else "1 / (90033 - i)"
    with lab.engine().session() as session:
        with pytest.raises(DataError):
            list(session.stream(Query(f"select {fault} as x from {lab.series(100_000)}")).batches)
        assert sum(batch.num_rows for batch in session.stream(Query("select 1 as a")).batches) == 1


def _peak_bytes(forget: bool = False) -> int:
    """The most memory this process has had; on Linux, since it was last told to forget."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(peak) * 1024


def test_a_value_that_does_not_fit_ends_the_stream_and_not_the_session(lab: Lab) -> None:
    if lab.database != "mysql":
        return
    lab.execute("drop table if exists zero")
    lab.execute("create table zero (d date)")
    lab.execute_leniently("insert into zero values ('0000-00-00')")
    with lab.engine().session() as session:
        with pytest.raises(DataError, match="'d'"):
            list(session.stream(Query(f"select d, i from zero, {lab.endless}")).batches)
        assert sum(batch.num_rows for batch in session.stream(Query("select 1 as a")).batches) == 1
    lab.execute("drop table zero")


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as a, repeat('x', @@max_allowed_packet + 1) as b",
        "select group_concat(b separator '') as b from (select repeat('x', @@max_allowed_packet / 2) as b from "
        "(select 1 as n union all select 2 union all select 3) t) s",
    ],
)
def test_a_value_that_the_server_cut_is_refused(lab: Lab, sql: str) -> None:
    """It only warns: a text beyond its limit is NULL, or shorter."""
    if lab.database != "mysql" or ("group_concat" in sql and not lab.is_mariadb):
        return
    with lab.engine().session() as session:
        with pytest.raises(DataError, match="values were cut or became NULL"):
            list(session.stream(Query(sql)).batches)
        assert sum(batch.num_rows for batch in session.stream(Query("select 1 as a")).batches) == 1


@pytest.mark.parametrize("dirty", [6_000, 70_000], ids=["some", "more than are kept"])
def test_a_cut_value_among_other_warnings(lab: Lab, dirty: int) -> None:
    """Beyond the number that a server keeps, nobody can tell; what was read is not called verified then."""
    if lab.database != "mysql":
        return
    sql = f"select 'x' + i as a, null as b from {lab.series(dirty)} union all "
    sql += "select 1, repeat('x', @@max_allowed_packet + 1)"
    refused = pytest.raises(DataError, match="values were cut or became NULL")
    with refused if dirty < 65_535 else contextlib.nullcontext(), lab.engine().session() as session:
        assert sum(batch.num_rows for batch in session.stream(Query(sql)).batches) == dirty + 1
    assert ["max_error_count" in caveat for caveat in session.unpinned] == [True] * (dirty > 65_535)


@pytest.mark.parametrize("lab", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
def test_a_list_longer_than_a_packet_comes_whole_from_mysql(lab: Lab) -> None:
    half = "select repeat('x', @@max_allowed_packet / 2) as b"
    sql = f"select group_concat(b separator '') as b from ({half} union all {half} union all {half}) s"
    packet = lab.execute("select @@max_allowed_packet")[0][0]
    assert len(lab.read(sql)["b"][0].as_py()) == packet // 2 * 3


def test_lists_longer_than_the_server_s_default_come_whole(lab: Lab) -> None:
    if lab.database == "mysql":
        sql = f"select group_concat(i separator ',') as g from {lab.series(200_000)}"
        assert lab.read(sql)["g"][0].as_py().count(",") == 199_999
