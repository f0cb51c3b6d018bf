"""SQL Server's row versions as a cursor: where windows end, and what is refused. The server's word is a double."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include.etl import cursor, row_versions
from include.etl.engines.base import RowVersions, Writer, Writers
from include.etl.engines.sqlite import SqliteSession
from include.etl.errors import CheckpointError, ConfigurationError
from include.etl.handover import Bound, Plan
from include.etl.phases.plan import decide
from include.etl.phases.request import Parameters
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage
from tests.unit.etl.test_plan import NOW, Memory, manual, scheduled, source

OLD = Writer(NOW - timedelta(hours=2), "session_id=61")


class Server:
    """What SQL Server would answer."""

    dialect = "tsql"
    versions = RowVersions(2010, 2003)

    @contextlib.contextmanager
    def session(self) -> Iterator[Server]:
        yield self

    def row_versions(self, query: Any, column: str) -> RowVersions:
        assert (query.sql, column) == ("SELECT * FROM [visits]", "v")
        return self.versions


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()

    def opened(asked: Any, label: str) -> Server:
        assert (asked.source, label) == ("visits", "moh-etl visits plan")  # what administrators see of the session
        return found

    monkeypatch.setattr(row_versions, "open_source", opened)
    return found


def planned(folder: Path, writers: Writers, bound: int | None = None, trigger: Any = None, **asked: Any) -> Plan:
    one, memory = source(cursor={"column": "v", "type": "rowversion"}), Memory()
    run = Run(one, "run", Storage(folder))
    if bound is not None:
        checkpoint.put(one, bound, "earlier", memory, run.storage)
    return decide(run, Parameters(**asked), trigger or scheduled(), memory, lambda: writers)


def test_window_ends_before_the_first_version_that_is_undecided(server: Server, tmp_path: Path) -> None:
    found = planned(tmp_path, Writers(NOW, [OLD]), 1500)
    assert (found.window.start, found.window.end, len(found.slices)) == (1500, 2003, 1)
    assert (found.bound.grade, found.bound.asked, found.bound.safe) == ("writers seen", 2010, 2003)
    assert (found.bound.writer, found.bound.writer_too_old) == ("session_id=61", True)
    assert found.bound.label.startswith("held back from 2010 to 2003 by session_id=61, in a transaction since")


def test_without_sight_the_bound_holds_and_only_the_name_is_missing(server: Server, tmp_path: Path) -> None:
    found = planned(tmp_path, Writers(NOW, unseen="grant it"), 1500).bound
    assert (found.grade, found.unseen, found.safe) == ("writers seen", "", 2003)
    assert found.label == "held back from 2010 to 2003 by a transaction that cannot be seen (grant it)"


def test_nothing_in_flight_holds_nothing_back(server: Server, tmp_path: Path) -> None:
    server.versions = RowVersions(2010, 2010)
    found = planned(tmp_path, Writers(NOW, [OLD]))
    assert (found.window.start, found.window.end) == (None, 2010)
    assert found.bound == Bound(grade="writers seen", asked=2010, safe=2010)


def test_nothing_new_is_nothing_to_read(server: Server, tmp_path: Path) -> None:
    found = planned(tmp_path, Writers(NOW, [OLD]), 2003)
    assert (found.slices, found.window.end) == ([], 2003)


def test_checkpoint_of_another_database_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="bound 9000 lies after 2010"):
        planned(tmp_path, Writers(NOW), 9000)


@pytest.mark.parametrize("start", ["-1", str(1 << 63), "0x7d3"])
def test_no_row_version_is_refused(server: Server, tmp_path: Path, start: str) -> None:
    with pytest.raises(ConfigurationError, match="start"):
        planned(tmp_path, Writers(NOW), trigger=manual(), mode="range", start=start)


def test_version_is_compared_as_its_eight_bytes() -> None:
    one = source(cursor={"column": "v", "type": "rowversion"})
    assert cursor.bound(2003, pa.int64(), one) == b"\0\0\0\0\0\0\x07\xd3"
    assert cursor.bound(None, pa.int64(), one) is None


def test_other_databases_have_none() -> None:
    with pytest.raises(ConfigurationError, match="only SQL Server has such columns"):
        SqliteSession.row_versions(None, None, "v")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ages", "named", "too_old"),
    [
        ((0, 60, 30), 1, False),
        ((61, 60, 30), 0, True),  # minutes; longest_writer is an hour
        ((5, -30, 20), 1, False),  # begun earlier than anyone knows: as old as the limit, and this one more
    ],
)
def test_the_oldest_of_several_writers_is_named(
    server: Server, tmp_path: Path, ages: tuple[int, ...], named: int, too_old: bool
) -> None:
    writers = [
        Writer(NOW - timedelta(minutes=abs(age)), f"session_id={number}", begun_earlier=age < 0)
        for number, age in enumerate(ages)
    ]
    found = planned(tmp_path, Writers(NOW, writers), 1500).bound
    assert (found.writer, found.writer_since) == (f"session_id={named}", writers[named].since)
    assert found.writer_too_old is too_old
