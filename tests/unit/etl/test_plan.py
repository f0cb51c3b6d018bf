"""The window table of the design, one test per row, and every parameter that makes no sense."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.etl.config import Source
from include.etl.engines.base import Writers
from include.etl.errors import CheckpointError, ConfigurationError
from include.etl.handover import Window
from include.etl.phases.plan import decide
from include.etl.phases.request import Parameters, Trigger
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage

pytestmark = pytest.mark.usefixtures("far_away")
NOW = datetime(2024, 3, 10, 4, 30, tzinfo=UTC)
DAY = timedelta(days=1)
INTERVAL = (datetime(2024, 3, 8, 18, tzinfo=UTC), datetime(2024, 3, 9, 18, tzinfo=UTC))


class Memory(dict[str, str]):
    """Variables in memory, as a task would see them."""

    def set(self, key: str, value: str, description: str) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        del self[key]

    def overridden_by(self, key: str) -> str:
        return ""


def source(**changes: Any) -> Source:
    settings: dict[str, Any] = {
        "source": "visits",
        "description": "Visits",
        "conn_id": "clinic",
        "table": "visits",
        "primary_key": ["visit_id"],
        "cursor": {"column": "updated_at", "lookback": "1h"},
        "schedule": {"incremental": "0 2 * * *"},
        "timezone": "Asia/Singapore",
        "output": {"formats": ["parquet"]},
    }
    return Source.model_validate(settings | changes)


def window(
    tmp_path: Path,
    trigger: Trigger,
    parameters: Parameters | None = None,
    at: datetime | None = None,
    of: Source | None = None,
) -> Window:
    asked = of or source()
    run, variables = Run(asked, "run", Storage(tmp_path)), Memory()
    if at:
        checkpoint.put(asked, at, "earlier", variables, run.storage)
    return decide(run, parameters or Parameters(), trigger, variables).window


def scheduled(**changes: Any) -> Trigger:
    return Trigger(**({"now": NOW, "interval": INTERVAL, "scheduled": True} | changes))


def manual(**changes: Any) -> Trigger:
    return Trigger(**({"now": NOW} | changes))


def test_first_run_reads_everything_up_to_the_intervals_end(tmp_path: Path) -> None:
    assert window(tmp_path, scheduled()) == Window(mode="incremental", end=INTERVAL[1])


def test_scheduled_run_starts_at_the_checkpoint_after_missed_runs(tmp_path: Path) -> None:
    found = window(tmp_path, scheduled(), at=INTERVAL[0] - 3 * DAY)
    assert (found.start, found.end) == (INTERVAL[0] - 3 * DAY, INTERVAL[1])
    assert found.read_from == INTERVAL[0] - 3 * DAY - timedelta(hours=1)


def test_scheduled_run_starts_at_its_interval_when_the_checkpoint_is_further(tmp_path: Path) -> None:
    """As after a run by hand, which reads up to now."""
    found = window(tmp_path, scheduled(), at=NOW)
    assert (found.start, found.end) == INTERVAL


def test_backfill_reads_exactly_its_interval(tmp_path: Path) -> None:
    found = window(tmp_path, scheduled(scheduled=False, backfill=True), at=NOW)
    assert (found.mode, found.start, found.end, found.read_from) == ("backfill", *INTERVAL, INTERVAL[0])


def test_manual_run_without_interval_reads_up_to_now(tmp_path: Path) -> None:
    found = window(tmp_path, manual(), at=INTERVAL[1])
    assert (found.start, found.end) == (INTERVAL[1], NOW)


def test_manual_run_ends_with_the_last_whole_second(tmp_path: Path) -> None:
    """A row written later in the running second may bear its very beginning as cursor."""
    now = NOW.replace(microsecond=500_000)
    for asked in (Parameters(), Parameters(mode="full"), Parameters(last_n_days=1)):
        assert window(tmp_path, manual(now=now), asked).end == NOW


def test_a_run_by_hand_stands_for_no_interval(tmp_path: Path) -> None:
    """Airflow may give it one: it reads from the checkpoint up to now all the same."""
    found = window(tmp_path, manual(interval=INTERVAL), at=NOW - timedelta(hours=2))
    assert (found.start, found.end) == (NOW - timedelta(hours=2), NOW)
    assert window(tmp_path, manual(interval=INTERVAL), Parameters(mode="full")).end == NOW


def test_full_reads_everything(tmp_path: Path) -> None:
    assert window(tmp_path, manual(), Parameters(mode="full"), at=NOW - DAY) == Window(mode="full", end=NOW)
    assert window(tmp_path, scheduled(default_mode="full")) == Window(mode="full", end=INTERVAL[1])


@pytest.mark.parametrize(
    ("zone", "now", "midnight"),
    [
        ("Asia/Singapore", "2024-03-10T04:30Z", "2024-03-07T16:00Z"),  # the same date here and in UTC
        ("Asia/Singapore", "2024-03-10T15:59Z", "2024-03-07T16:00Z"),
        ("Asia/Singapore", "2024-03-10T16:00Z", "2024-03-08T16:00Z"),  # already the next one
        ("Asia/Singapore", "2024-03-10T23:30Z", "2024-03-08T16:00Z"),
        ("America/Los_Angeles", "2024-03-10T06:30Z", "2024-03-07T08:00Z"),  # still the one before
        ("America/Los_Angeles", "2024-03-12T06:30Z", "2024-03-09T08:00Z"),  # clocks were set forward in between
    ],
)
def test_last_n_days_are_whole_days_of_the_sources_zone_and_today(
    tmp_path: Path, zone: str, now: str, midnight: str
) -> None:
    moment = datetime.fromisoformat(now)
    found = window(tmp_path, manual(now=moment), Parameters(last_n_days=2), at=moment, of=source(timezone=zone))
    assert (found.mode, found.start, found.end) == ("range", datetime.fromisoformat(midnight), moment)


def test_range_takes_naive_times_in_the_sources_zone(tmp_path: Path) -> None:
    asked = Parameters(mode="range", start="2024-03-01", end="2024-03-02T12:00:00Z")
    found = window(tmp_path, manual(), asked)
    assert (found.start, found.end) == (datetime(2024, 2, 29, 16, tzinfo=UTC), datetime(2024, 3, 2, 12, tzinfo=UTC))
    assert found.read_from == found.start, "a lookback is for what follows a checkpoint"
    century = window(tmp_path, manual(), Parameters(last_n_days=36_500))
    assert century.start == datetime(1924, 4, 3, 17, tzinfo=UTC)  # the zone was seven hours ahead then


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Parameters(mode="ful"), "mode: 'ful'; allowed: incremental, full, range"),
        (Parameters(mode="full", start="2024-03-01"), "start: '2024-03-01'; allowed: nothing with mode full"),
        (Parameters(mode="incremental", last_n_days=1), "last_n_days: 1; allowed: nothing with mode incremental"),
        (Parameters(mode="range"), "start: None; allowed: a moment"),
        (Parameters(end="2024-03-01"), "start: None; allowed: a moment"),
        (Parameters(start="01/03/2024"), "start: '01/03/2024'; allowed: an ISO date"),
        (Parameters(start="2024-02-30"), "start: '2024-02-30'; allowed: an ISO date"),
        (Parameters(start="2024-03-02", end="2024-03-01"), "allowed: a moment before the end"),
        (Parameters(start="2024-03-01", end="2999-01-01"), "end: '2999-01-01'; allowed: a moment that has passed"),
        (Parameters(start="2024-03-01", end="2024-03-01"), "start: '2024-03-01'; allowed: a moment before the end"),
        (Parameters(start="2024-03-01", end="soon"), "parameter end: 'soon'; allowed: an ISO date"),
        (Parameters(last_n_days=0), "last_n_days: 0; allowed: a whole number from 1"),
        (Parameters(last_n_days=36_501), "last_n_days: 36501; allowed: a whole number from 1 to 36500"),
        (Parameters(last_n_days=3, start="2024-03-01"), "last_n_days: 3; allowed: alone"),
    ],
)
def test_senseless_parameters_are_refused(tmp_path: Path, asked: Parameters, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        window(tmp_path, manual(), asked)
    assert "source 'visits': parameter " in str(refused.value)
    assert message in str(refused.value)


def test_source_without_cursor_allows_full_only(tmp_path: Path) -> None:
    codes = source(cursor=None, schedule={"full": "0 0 1 * *"})
    with pytest.raises(ConfigurationError, match=r"allowed: full \(the source has no cursor\)$"):
        window(tmp_path, manual(default_mode="full"), Parameters(last_n_days=7), of=codes)


@pytest.mark.parametrize("trigger", [scheduled(), scheduled(default_mode="full"), manual()])
def test_checkpoint_in_the_future_is_refused(tmp_path: Path, trigger: Trigger) -> None:
    """A scheduled run reads its interval whatever the checkpoint says, but the nights that are missed come after it."""
    with pytest.raises(CheckpointError, match=r"2024-03-11T04:30:00.* lies after 2024-03-10T04:30"):
        window(tmp_path, trigger, at=NOW + DAY)


def test_the_future_is_what_the_sources_clock_says(tmp_path: Path) -> None:
    run, variables = Run(source(), "run", Storage(tmp_path)), Memory()
    checkpoint.put(source(), NOW, "earlier", variables, run.storage)
    for behind, refused in ((checkpoint.CLOCKS, False), (DAY, True)):
        with pytest.raises(CheckpointError, match="lies after") if refused else contextlib.nullcontext():
            decided = decide(run, Parameters(), manual(), variables, lambda behind=behind: Writers(NOW - behind))
            assert not decided.slices, "a clock that is a little behind is waited for"


@pytest.mark.parametrize("text", ["", "{", "null", '{"bound": "yesterday"}', "[]"])
def test_damaged_checkpoint_stops_the_run_and_says_how_to_restore(tmp_path: Path, text: str) -> None:
    run, variables = Run(source(), "run", Storage(tmp_path)), Memory(checkpoint__visits=text)
    with pytest.raises(CheckpointError, match=r"checkpoint__visits.*scripts/checkpoints.py restore visits"):
        decide(run, Parameters(), manual(), variables)


def test_missing_checkpoint_of_a_source_that_had_one_is_no_first_run(tmp_path: Path) -> None:
    run, variables = Run(source(), "run", Storage(tmp_path)), Memory()
    checkpoint.put(source(), NOW - DAY, "earlier", variables, run.storage)
    variables.clear()
    with pytest.raises(CheckpointError, match=r"not there, but this source had one.*mode full"):
        decide(run, Parameters(), manual(), variables)
    assert decide(run, Parameters(mode="full"), manual(), variables).window.mode == "full"


def test_checkpoint_of_another_cursor_column_is_refused(tmp_path: Path) -> None:
    run, variables = Run(source(), "run", Storage(tmp_path)), Memory()
    checkpoint.put(source(cursor={"column": "created_at"}), NOW - DAY, "old", variables, run.storage)
    with pytest.raises(CheckpointError, match="created_at"):
        decide(run, Parameters(), manual(), variables)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=8))
def test_consecutive_scheduled_windows_tile_time(tmp_path_factory: pytest.TempPathFactory, missed: list[int]) -> None:
    """However many runs are missed in between, windows follow each other without gap or overlap."""
    storage, variables, end = Storage(tmp_path_factory.mktemp("data")), Memory(), INTERVAL[1]
    previous = None
    for number, skipped in enumerate(missed):
        end += DAY * (skipped + 1)
        run = Run(source(), f"run {number}", storage)
        found = decide(run, Parameters(), scheduled(interval=(end - DAY, end), now=end), variables).window
        assert found.start == previous
        assert found.end == end
        checkpoint.advance(source(), found, run.run_id, variables, storage)
        previous = found.end


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_manual_run_needs_a_reason_where_the_source_says_so(tmp_path: Path, reason: str) -> None:
    asking = source(require_reason=True)
    with pytest.raises(ConfigurationError, match=r"'visits': parameter reason: .*require_reason is true"):
        window(tmp_path, manual(), Parameters(reason=reason), of=asking)
    assert window(tmp_path, manual(), Parameters(reason="asked by the auditor"), of=asking)
    for trigger in (Trigger(NOW, INTERVAL, scheduled=True), Trigger(NOW, INTERVAL, backfill=True)):
        assert window(tmp_path, trigger, of=asking)
