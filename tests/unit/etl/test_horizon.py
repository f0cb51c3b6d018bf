"""How far windows reach: never beyond what a transaction in flight may still write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl.config_sections import Cursor
from include.etl.engines.base import Origins, Writer, Writers
from include.etl.errors import WriterTooOld
from include.etl.handover import Plan, Window
from include.etl.horizon import DEGRADED, MARGIN, conditions, horizon, refuse_too_old, with_cures
from include.etl.phases.plan import decide
from include.etl.phases.request import Parameters, Trigger
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage
from tests.unit.etl.test_plan import INTERVAL, NOW, Memory, manual, scheduled, source

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
UNSEEN = Writers(NOW, unseen="no grant")


def since(moment: datetime, name: str = "pid=7", begun_earlier: bool = False) -> Writer:
    return Writer(moment, name, begun_earlier)


def decided(
    tmp_path: Path,
    trigger: Trigger,
    writers: Writers,
    at: datetime | None = None,
    parameters: Parameters | None = None,
    **cursor: Any,
) -> Plan:
    asked = source(cursor={"column": "updated_at", **cursor})
    run, variables = Run(asked, "run", Storage(tmp_path)), Memory()
    if at:
        checkpoint.put(asked, at, "earlier", variables, run.storage)
    return decide(run, parameters or Parameters(), trigger, variables, lambda: writers)


def test_an_end_that_all_writers_have_passed_stays(tmp_path: Path) -> None:
    found = decided(tmp_path, scheduled(), Writers(NOW, [since(NOW - HOUR)]))
    assert found.window == Window(mode="incremental", end=INTERVAL[1])
    assert (found.bound.grade, found.bound.safe, found.bound.label) == (
        "writers seen",
        INTERVAL[1],
        "nothing holds it back",
    )


def test_the_oldest_transaction_holds_the_end_back(tmp_path: Path) -> None:
    late = INTERVAL[1] - 20 * MINUTE
    writers = Writers(NOW, [since(NOW, "pid=1"), since(late, "pid=2"), since(late + MINUTE, "pid=3")])
    found = decided(tmp_path, scheduled(), writers, at=INTERVAL[0])
    assert (found.window.start, found.window.end) == (INTERVAL[0], late - MARGIN)
    assert (found.bound.asked, found.bound.writer, found.bound.writer_since) == (INTERVAL[1], "pid=2", late)
    assert "pid=2, in a transaction since 2024-03-09 17:40" in found.bound.label


def test_lag_is_kept_to_the_clock_and_to_writers(tmp_path: Path) -> None:
    clock = decided(tmp_path, manual(), Writers(NOW), lag="5m")
    assert clock.window.end == NOW - 5 * MINUTE - MARGIN
    writer = decided(tmp_path, manual(), Writers(NOW, [since(NOW - HOUR)]), lag="5m")
    assert writer.window.end == NOW - HOUR - 5 * MINUTE - MARGIN


@pytest.mark.parametrize(("lag", "expected"), [(None, 10 * MINUTE), ("2h", 2 * HOUR), ("1m", 10 * MINUTE)])
def test_without_sight_of_writers_a_lag_takes_their_place(tmp_path: Path, lag: str | None, expected: timedelta) -> None:
    """One that was set for clocks takes nothing away, and no lag hides that the sight is missing."""
    found = decided(tmp_path, manual(), UNSEEN, lag=lag)
    assert (found.window.end, found.bound.grade, found.bound.unseen) == (NOW - expected, "lag", "no grant")
    assert "degraded guarantee" in conditions(source(), found.bound)


@pytest.mark.parametrize(("lag", "told"), [(None, True), ("0s", False), ("2h", False)])
def test_where_nobody_can_see_writers_the_lag_is_what_the_source_says(
    tmp_path: Path, lag: str | None, told: bool
) -> None:
    sqlite = UNSEEN._replace(usual_lag=timedelta(0), curable=False)
    found = decided(tmp_path, manual(), sqlite, lag=lag)
    assert found.window.end == NOW - (2 * HOUR if lag == "2h" else timedelta(0))
    assert (found.bound.grade, "degraded guarantee" in conditions(source(), found.bound)) == ("lag", told)


def test_the_end_is_a_whole_second_since_columns_may_keep_no_more(tmp_path: Path) -> None:
    found = decided(tmp_path, manual(), Writers(NOW, [since(NOW - timedelta(milliseconds=1))]))
    assert found.window.end == NOW - MARGIN - timedelta(seconds=1)


def test_a_writer_that_is_seen_counts_beside_those_that_are_not(tmp_path: Path) -> None:
    found = decided(tmp_path, manual(), UNSEEN._replace(in_flight=[since(NOW - HOUR)]))
    assert found.window.end == NOW - HOUR - MARGIN


def test_the_end_of_a_manual_run_is_the_servers_now(tmp_path: Path) -> None:
    for difference in (-HOUR, HOUR):
        for parameters in (Parameters(), Parameters(mode="full"), Parameters(last_n_days=2)):
            found = decided(tmp_path, manual(), Writers(NOW + difference), parameters=parameters)
            assert found.bound.asked == NOW + difference
            assert found.window.end == NOW + difference - MARGIN


def test_the_servers_clock_behind_ours_holds_a_scheduled_end_back(tmp_path: Path) -> None:
    found = decided(tmp_path, scheduled(), Writers(INTERVAL[1] - MINUTE))
    assert found.window.end == INTERVAL[1] - MINUTE - MARGIN


@pytest.mark.parametrize(
    ("trigger", "parameters"),
    [
        (scheduled(scheduled=False, backfill=True), Parameters()),
        (manual(), Parameters(start="2024-03-08T18:00:00Z", end="2024-03-09T18:00:00Z")),
        (scheduled(default_mode="full"), Parameters()),
    ],
)
def test_backfill_range_and_full_are_bound_too(tmp_path: Path, trigger: Trigger, parameters: Parameters) -> None:
    writers = Writers(NOW, [since(INTERVAL[1] - MINUTE)])
    found = decided(tmp_path, trigger, writers, parameters=parameters)
    assert (found.bound.asked, found.window.end) == (INTERVAL[1], INTERVAL[1] - MINUTE - MARGIN)
    assert decided(tmp_path, trigger, Writers(NOW), parameters=parameters).window.end == INTERVAL[1]


def test_nothing_safe_means_nothing_to_read(tmp_path: Path) -> None:
    writers = Writers(NOW, [since(INTERVAL[0] - MINUTE)])
    found = decided(tmp_path, scheduled(), writers, at=INTERVAL[0])
    assert found.slices == []
    assert found.window.start == found.window.end == INTERVAL[0]
    assert decided(tmp_path, scheduled(), Writers(NOW), at=INTERVAL[0]).slices
    assert decided(tmp_path, scheduled(default_mode="full"), writers, at=INTERVAL[0]).slices, "full reads everything"


def test_a_window_of_no_length_still_reads_what_the_lookback_covers(tmp_path: Path) -> None:
    at = NOW - MINUTE - MARGIN
    writers = Writers(NOW, [since(NOW - MINUTE)])
    assert not decided(tmp_path, manual(), writers, at=at).slices
    assert decided(tmp_path, manual(), writers, at=at, lookback="1h").slices
    assert not decided(tmp_path, manual(), writers, at=at + MINUTE, lookback="1h").slices


def test_a_transaction_older_than_the_limit_is_named(tmp_path: Path) -> None:
    old = decided(tmp_path, manual(), Writers(NOW, [since(NOW - 2 * HOUR)]), longest_writer="90m")
    assert "pid=7" in conditions(source(), old.bound)["long-running writer"]
    with pytest.raises(WriterTooOld, match=r"'visits'.*pid=7.*since 2024-03-10 02:30"):
        refuse_too_old(source(), old.bound)
    young = decided(tmp_path, manual(), Writers(NOW, [since(NOW - HOUR)]), longest_writer="90m")
    assert conditions(source(), young.bound) == {}
    refuse_too_old(source(), young.bound)


def test_one_that_began_earlier_than_anyone_knows_is_taken_to_be_as_old_as_the_limit() -> None:
    writers = Writers(NOW, [since(NOW - MINUTE), since(NOW, "prepared", begun_earlier=True)])
    bound = horizon(Cursor(column="at", longest_writer=30 * MINUTE), NOW, writers)
    assert (bound.writer, bound.safe) == ("prepared", NOW - 30 * MINUTE - MARGIN)


def test_a_cleared_run_keeps_its_window_and_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Earlier:
        window = Window(mode="incremental", end=INTERVAL[1])
        bound = horizon(Cursor(column="at"), INTERVAL[1], Writers(NOW))

    monkeypatch.setattr("include.etl.publication.standing.of_run", lambda *_: Earlier)
    found = decided(tmp_path, manual(), Writers(NOW, [since(INTERVAL[0])]))
    assert (found.window, found.bound) == (Earlier.window, Earlier.bound)


def test_a_source_without_cursor_is_not_asked(tmp_path: Path) -> None:
    run = Run(source(cursor=None, schedule={"full": "0 0 1 * *"}), "run", Storage(tmp_path))
    found = decide(run, Parameters(), manual(default_mode="full"), Memory(), pytest.fail)
    assert (found.window.end, found.bound.grade) == (NOW, "as asked")


@pytest.mark.parametrize("parameters", [Parameters(start="yesterday"), Parameters(last_n_days=0)])
def test_what_makes_no_sense_is_refused_before_the_source_is_asked(tmp_path: Path, parameters: Parameters) -> None:
    with pytest.raises(Exception, match="allowed"):
        decide(Run(source(), "run", Storage(tmp_path)), parameters, manual(), Memory(), pytest.fail)


seconds = st.integers(0, 7200).map(lambda second: timedelta(seconds=second))
steps = st.tuples(seconds, st.lists(seconds, max_size=3), st.booleans(), st.booleans(), seconds)


@given(st.lists(steps, min_size=1, max_size=10), seconds, seconds)
def test_windows_tile_time_and_keep_before_every_writer(
    tmp_path_factory: pytest.TempPathFactory, history: list[Any], lag: timedelta, lookback: timedelta
) -> None:
    """Whoever is in flight, whatever can be seen, however clocks differ: no gap, no overlap, no end beyond a writer."""
    storage, variables = Storage(tmp_path_factory.mktemp("data")), Memory()
    asked = source(cursor={"column": "updated_at", "lag": lag, "lookback": lookback})
    now, previous = datetime(2024, 3, 10, tzinfo=UTC), None
    for step, ages, hidden, by_hand, ahead in history:
        now += step + timedelta(seconds=1)
        writers = Writers(now + ahead, [since(now + ahead - age) for age in ages], "hidden" if hidden else "")
        trigger = manual(now=now) if by_hand else scheduled(now=now, interval=(now - HOUR, now))
        try:
            found = decide(Run(asked, f"{now}", storage), Parameters(), trigger, variables, lambda seen=writers: seen)
        except checkpoint.CheckpointError:
            assert previous is not None
            assert previous > writers.now, "refused only where the checkpoint is in the future"
            continue
        if not found.slices:
            continue
        start, end = found.window.start, found.window.end
        if by_hand or (previous is not None and previous <= now - HOUR):
            assert start == (min(previous, writers.now) if previous else None)
        assert start is None or previous is None or start <= previous, "no gap"
        assert end <= writers.now - lag
        assert all(end <= writer.since - lag for writer in writers.in_flight)
        assert end <= (writers.now if by_hand else now)
        checkpoint.advance(asked, found.window, "run", variables, storage)
        previous = max(end, previous) if previous else end


@pytest.mark.parametrize(
    ("cursor", "schedule", "cured"),
    [
        ({}, {"incremental": "0 2 * * *"}, False),
        ({"lookback": "1h"}, {"incremental": "0 2 * * *"}, True),
        ({}, {"incremental": "0 2 * * *", "full": "0 3 * * 0"}, True),
    ],
)
def test_a_declared_cure_is_recorded_and_nobody_is_alerted(
    cursor: dict[str, str], schedule: dict[str, str], cured: bool
) -> None:
    visits = source(cursor={"column": "updated_at", **cursor}, schedule=schedule)
    assert visits.cursor
    origins = with_cures(visits, Origins(["a.seen"], caveats=["a join"], partitions=["a.p"], attached=["a.p"]))
    bound = horizon(visits.cursor, NOW, Writers(NOW + HOUR, origins=origins))
    assert (bound.grade, bound.caveats, bound.degraded) == ("not proven", ["a join"], not cured)
    assert (bound.relations, bound.partitions, bound.attached) == (["a.seen"], ["a.p"], ["a.p"])
    assert ("a join" in "".join(conditions(visits, bound).values())) is not cured
    told = bound.model_copy(update={"caveats": ["a join", "something else"], "degraded": True})
    assert conditions(visits, told)[DEGRADED] == ("something else" if cured else "a join\nsomething else")
