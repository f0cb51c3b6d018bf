"""What a window's end says of itself: how sure it is, by what, and what operators are to learn."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include.etl.config_sections import Cursor
from include.etl.engines.base import Origins, Writer, Writers
from include.etl.handover import Bound
from include.etl.horizon import DEGRADED, MARGIN, conditions, horizon, lag, with_cures
from tests.unit.etl.test_plan import NOW, source

HOUR, INSTANT = timedelta(hours=1), timedelta(microseconds=1)
CURSOR = Cursor(column="at", longest_writer=HOUR)
ELSEWHERE = Origins(relations=("ward.visits", "ward.beds"), caveats=("a view joins", "rows come by a link"))


def bound(writers: Writers, cursor: Cursor = CURSOR) -> Bound:
    return horizon(cursor, NOW, writers)


@pytest.mark.parametrize(
    ("unseen", "origins", "grade", "told"),
    [
        ("", Origins(), "writers seen", None),
        ("", ELSEWHERE, "not proven", "a view joins\nrows come by a link"),
        ("no grant", Origins(), "lag", "can be missed: no grant; where transactions last longer, set cursor.lag"),
        ("no grant", ELSEWHERE, "not proven", "set cursor.lag\na view joins\nrows come by a link"),
    ],
)
def test_how_sure_it_is(unseen: str, origins: Origins, grade: str, told: str | None) -> None:
    found = bound(Writers(NOW, unseen=unseen, origins=origins))
    assert (found.grade, found.unseen, found.degraded) == (grade, unseen, told is not None)
    assert (found.relations, found.caveats) == (list(origins.relations), list(origins.caveats))
    said = conditions(source(), found)
    assert said.keys() == ({DEGRADED} if told else set())
    assert told is None or said[DEGRADED].endswith(told)
    assert ("cannot be seen" in said.get(DEGRADED, "")) is bool(unseen)
    assert found.lag_s == (600 if unseen else MARGIN.total_seconds())


@pytest.mark.parametrize(("age", "too_old"), [(HOUR, False), (HOUR + INSTANT, True)])
def test_a_transaction_may_last_as_long_as_the_limit(age: timedelta, too_old: bool) -> None:
    found = bound(Writers(NOW, [Writer(NOW - age, "pid=7")]))
    assert found.writer_too_old is too_old
    assert ("long-running writer" in conditions(source(cursor={"column": "at"}), found)) is too_old


@pytest.mark.parametrize(("age", "named"), [(timedelta(0), None), (INSTANT, "pid=7")])
def test_a_writer_is_named_where_it_holds_the_end_back(age: timedelta, named: str | None) -> None:
    found = bound(Writers(NOW, [Writer(NOW - age, "pid=7")]))
    assert (found.writer, found.writer_since) == (named, NOW - age if named else None)


def test_one_that_is_too_old_is_named_though_a_lag_reaches_further_back() -> None:
    writers = Writers(NOW, [Writer(NOW - 2 * HOUR, "pid=7")], unseen="no grant", usual_lag=9 * HOUR)
    found = bound(writers)
    assert (found.writer, found.safe) == ("pid=7", NOW - 9 * HOUR)
    assert bound(writers._replace(in_flight=[Writer(NOW - HOUR, "pid=7")])).writer is None


@pytest.mark.parametrize(("unseen", "expected"), [("", timedelta(minutes=5)), ("no grant", timedelta(minutes=10))])
def test_what_is_usual_counts_where_writers_are_not_seen(unseen: str, expected: timedelta) -> None:
    assert lag(Cursor(column="at", lag=timedelta(minutes=5)), Writers(NOW, unseen=unseen)) == expected


@pytest.mark.parametrize(
    ("of", "cured"),
    [
        ({"cursor": {"column": "at"}}, False),
        ({"cursor": {"column": "at", "lookback": "1h"}}, True),
        ({"cursor": {"column": "at"}, "schedule": {"incremental": "@daily", "full": "@weekly"}}, True),
        ({"cursor": None, "schedule": {"full": "@weekly"}}, True),
    ],
)
def test_rows_that_come_late_are_read_by_who_looks_back_or_reads_everything(of: dict[str, Any], cured: bool) -> None:
    """It is not told then, and still no proof."""
    origins = with_cures(source(**of), ELSEWHERE._replace(cured=("a snapshot",)))
    found = bound(Writers(NOW, origins=origins))
    told = list(ELSEWHERE.caveats)
    assert (list(origins.caveats), list(origins.cured)) == (
        ([], [*told, "a snapshot"]) if cured else (told, ["a snapshot"])
    )
    assert (found.grade, found.caveats) == ("not proven", [*told, "a snapshot"])
    assert conditions(source(), found) == ({} if cured else {DEGRADED: "\n".join(told)})
