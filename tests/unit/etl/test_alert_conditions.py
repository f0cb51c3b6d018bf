"""What is told of a run, from its record."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.etl.alerts import deviation as deviations
from include.etl.alerts.base import Finding
from include.etl.alerts.conditions import Ended, after_run
from include.etl.alerts.deviation import deviation
from include.etl.alerts.memory import Memory
from include.etl.horizon import degraded_by
from include.etl.storage import Storage
from tests.unit.etl.test_plan import source

pytestmark = pytest.mark.usefixtures("far_away")
WRITER = "session 4711 has been in a transaction since Monday"


def told(memory: Memory, *, failed: bool = False, **phase: Any) -> list[tuple[tuple[str, ...], str]]:
    ended = Ended("visits", "night", failed, datetime(2026, 11, 23, tzinfo=UTC))
    summary = {"phases": [{"phase": "plan", "error": None, **phase}]}
    return [(finding.conditions, finding.what) for finding in after_run(ended, summary, memory)]


def test_a_long_running_writer_is_told_once_until_it_ends() -> None:
    memory, seen = Memory(), {"long-running writer": WRITER}
    assert told(memory, conditions=seen) == [(("long_running_writer",), WRITER)]
    assert told(memory, conditions=seen) == []
    assert told(memory) == [], "this run could not know"
    assert told(memory, conditions=seen) == []
    assert told(memory, conditions={}) == []
    assert told(memory, conditions=seen) == [(("long_running_writer",), WRITER)]


UNSEEN = "transactions in flight cannot be seen, so what is committed more than 600 s later can be missed"
BELOW = "the largest number is 8, and everything below 11 counts as read"


def nights(memory: Memory, *phases: tuple[str, list[str] | None]) -> str:
    """What is told of the degraded guarantee after a run whose phases made these causes known, or came not so far."""
    at = datetime(2026, 11, 23, tzinfo=UTC)
    known = [
        {"phase": name, "error": None, **({} if causes is None else {"conditions": degraded_by(causes)})}
        for name, causes in phases
    ]
    found = after_run(Ended("visits", "night", False, at), {"phases": known}, memory)
    return "; ".join(one.what for one in found if one.conditions == ("degraded_guarantee",))


def test_a_cause_is_told_though_another_of_its_condition_is_open() -> None:
    memory = Memory()
    assert nights(memory, ("plan", [UNSEEN])) == UNSEEN
    assert nights(memory, ("plan", [UNSEEN, BELOW])) == BELOW
    assert nights(memory, ("plan", [UNSEEN.replace("600", "900"), BELOW.replace("8", "9")])) == ""
    assert nights(memory, ("plan", [BELOW])) == "", "the other one has ended"
    assert nights(memory, ("plan", [UNSEEN, BELOW])) == UNSEEN
    assert nights(memory, ("plan", [])) == ""
    assert memory.open == {}


@pytest.mark.parametrize("later", [[("plan", [])], [("plan", []), ("extract", None)]], ids=["not begun", "killed"])
def test_a_cause_lasts_until_the_phase_that_found_it_is_without_it(later: list[tuple[str, Any]]) -> None:
    memory, zeros = Memory(), "zero_damaged_pages is on"
    assert nights(memory, ("plan", []), ("extract", [zeros])) == zeros
    assert nights(memory, *later) == ""
    assert nights(memory, ("plan", []), ("extract", [zeros]), ("extract", [])) == "", "it had not ended"
    assert nights(memory, ("plan", []), ("extract", [])) == ""
    assert nights(memory, ("plan", []), ("extract", [zeros])) == zeros


def test_names_that_differ_by_a_digit_are_two_causes() -> None:
    memory = Memory()
    for table in ("ward_1", "ward_2"):
        assert nights(memory, ("plan", [f"{table} cannot be locked since 2026-11-23T18:00:00+00:00"]))
    assert nights(memory, ("plan", ["ward_2 cannot be locked since 2026-11-24T18:00:00.123Z"])) == ""


def test_only_causes_that_reached_nobody_are_told_again() -> None:
    memory = Memory()
    for causes in ([UNSEEN], [UNSEEN, BELOW]):
        assert nights(memory, ("plan", causes))
    memory.tell_again("degraded_guarantee")
    assert nights(memory, ("plan", [UNSEEN, BELOW])) == BELOW


def test_a_run_that_drops_rows_is_no_recovery() -> None:
    memory = Memory()
    told(memory, failed=True, error="TransientError")
    assert told(memory, slices=0, dropped=12) == []
    ((conditions, _),) = told(memory, window={"mode": "incremental"})
    assert conditions == ("recovered",)


def test_a_writer_that_stops_the_run_is_a_failure_each_time() -> None:
    memory = Memory()
    for _ in range(2):
        ((conditions, what),) = told(memory, failed=True, error="WriterTooOld")
        assert conditions == ("long_running_writer", "failure")
        assert what == "task plan failed with WriterTooOld; nothing was published"


@pytest.mark.parametrize(
    ("mode", "closes"), [("incremental", True), ("full", True), ("backfill", False), ("range", False)]
)
def test_only_a_run_that_reads_what_is_missing_ends_a_failure(mode: str, closes: bool) -> None:
    """A backfill or range reads other rows than the night that failed; being late ends with it neither."""
    memory, night = Memory(), datetime(2026, 11, 23, tzinfo=UTC)
    memory.note("failure", night, "visits")
    memory.note("late_data", night + timedelta(hours=1), "visits")
    found = told(memory, phase="load", window={"mode": mode})
    assert [conditions for conditions, _ in found] == [("recovered",)] * closes
    assert (memory.since("failure", "visits") is None) is closes
    assert (memory.since("late_data", "visits") is None) is closes


def test_a_failure_of_one_dag_is_not_ended_by_the_other() -> None:
    memory = Memory()
    memory.note("failure", datetime(2026, 11, 23, tzinfo=UTC), "visits_full")
    assert told(memory, window={"mode": "incremental"}) == []
    assert memory.since("failure", "visits_full")


MONDAY = datetime(2026, 11, 23, 18, tzinfo=UTC)
WEEK, DAY = timedelta(days=7), timedelta(days=1)


def lines(run_id: str, end: datetime, rows: list[int], **plan: Any) -> list[dict[str, Any]]:
    """A published run of a day in the history; it reads one slice for each of these numbers of rows."""
    window = {"mode": "incremental", "window_start": (end - DAY).isoformat(), "window_end": end.isoformat()} | plan
    about = {"dag_id": "visits", "run_id": run_id, "outcome": "done", "mode": None}
    begun = [(end + timedelta(minutes=number)).isoformat() for number in range(len(rows) + 2)]
    reads = [
        {"phase": "extract", "slice": number, "rows": count, "started_at": begun[number + 1]}
        for number, count in enumerate(rows)
    ]
    plans = {"phase": "plan", "slice": None, "rows": 0, "started_at": begun[0]} | window
    ends = {"phase": "load", "slice": None, "rows": sum(rows), "started_at": begun[-1]}
    return [about | plans, *(about | read for read in reads), about | ends]


def judged(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    past: list[dict[str, Any]],
    end: datetime,
    rows: int,
    window: dict[str, Any] | None = None,
    status: str = "published",
    late: timedelta = timedelta(0),
    **of: Any,
) -> Finding | None:
    """What is told of a run whose window ends then, and that began so late after that."""
    storage, asked = Storage(tmp_path), source(**of)

    def read(*given: Any) -> list[dict[str, Any]]:
        assert given == (storage, "visits")
        return past

    monkeypatch.setattr(deviations.history, "read", read)
    default = {"mode": "incremental", "start": (end - DAY).isoformat(), "end": end.isoformat()}
    begun = [(end + late + timedelta(minutes=number)).isoformat() for number in range(2)]
    plan = {"phase": "plan", "rows": 0, "window": default | (window or {}), "started_at": begun[0]}
    phases = [plan, {"phase": "extract", "rows": rows, "started_at": begun[1]}]
    summary = {"dag_id": "visits", "run_id": "now", "status": status, "phases": phases}
    return deviation(asked, storage, summary)


def unusual(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, past: list[dict[str, Any]], end: datetime, rows: int, **of: Any
) -> list[int] | None:
    """The numbers that the run was found to differ from; None where it was not."""
    found = judged(monkeypatch, tmp_path, past, end, rows, **of)
    if found is None:
        return None
    (detail,) = found.details
    return [int(count) for count in detail.split(": ")[1].split(", ")]


def weeks(rows: list[int], end: datetime = MONDAY, step: timedelta = -WEEK) -> list[dict[str, Any]]:
    counted = enumerate(rows, 1)
    return [line for number, count in counted for line in lines(f"{step}{number}", end + number * step, [count])]


def test_a_run_that_is_cleared_is_judged_by_those_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    earlier, later = weeks([100] * 4), weeks([900] * 4, step=WEEK)
    assert unusual(monkeypatch, tmp_path, earlier + later, MONDAY, 100) is None
    assert unusual(monkeypatch, tmp_path, earlier + later, MONDAY, 900) == [100] * 4
    assert unusual(monkeypatch, tmp_path, later, MONDAY, 100) is None, "nothing is known of the time before"


def test_the_last_ones_of_many_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert unusual(monkeypatch, tmp_path, weeks([104, 103, 102, 101, 5, 6, 7]), MONDAY, 9) == [101, 102, 103, 104]


@pytest.mark.parametrize(
    ("zone", "now", "before", "alike"),
    [
        ("Asia/Singapore", "2026-11-23T18:00Z", "2026-11-16T18:00Z", True),
        ("Asia/Singapore", "2026-11-23T15:00Z", "2026-11-16T17:00Z", False),  # Monday here, Tuesday there
        ("Asia/Singapore", "2026-11-24T15:00Z", "2026-11-16T17:00Z", True),  # Tuesday here and there
        ("America/Los_Angeles", "2026-11-24T07:00Z", "2026-11-17T09:00Z", False),
        ("America/Los_Angeles", "2026-11-24T07:00Z", "2026-11-16T09:00Z", True),
    ],
)
def test_weekdays_are_those_of_the_sources_zone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, zone: str, now: str, before: str, alike: bool
) -> None:
    past = weeks([100] * 4, datetime.fromisoformat(before) + WEEK)
    found = unusual(monkeypatch, tmp_path, past, datetime.fromisoformat(now), 900, timezone=zone)
    assert found == ([100] * 4 if alike else None)


def test_rows_of_all_slices_and_of_both_kinds_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is compared is what runs of the same DAG, mode and length have read in all their slices."""
    past = [line for n in range(1, 5) for line in lines(f"run {n}", MONDAY - n * WEEK, [50, 30, 20])]
    others = [
        line
        for number in range(1, 5)
        for changed in (
            {"mode": "full", "window_start": None},
            {"window_start": (MONDAY - number * WEEK - 2 * DAY).isoformat()},
        )
        for line in lines(f"{changed} {number}", MONDAY - number * WEEK + timedelta(minutes=1), [7], **changed)
    ]
    failed = [line | {"outcome": "failed"} for line in weeks([7] * 4, MONDAY + timedelta(minutes=2))]
    foreign = [line | {"dag_id": "visits_full"} for line in weeks([7] * 4, MONDAY + timedelta(minutes=3))]
    known = past + others + failed + foreign
    assert unusual(monkeypatch, tmp_path, known, MONDAY, 100) is None
    assert unusual(monkeypatch, tmp_path, known, MONDAY, 7) == [100] * 4


@pytest.mark.parametrize(
    ("rows", "usual", "told"),
    [
        (80, 100, None),
        (79, 100, "79 rows were read, usually it is about 100 (-21%)"),
        (120, 100, None),
        (121, 100, "121 rows were read, usually it is about 100 (+21%)"),
        (0, 0, None),
        (1200, 0, "1,200 rows were read, usually it is about 0 (there are usually none)"),
    ],
)
def test_so_much_more_or_less_is_usual(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: int, usual: int, told: str | None
) -> None:
    found = judged(monkeypatch, tmp_path, weeks([usual] * 4), MONDAY, rows)
    assert (found and found.what) == told
    if found:
        assert (found.conditions, found.severity) == (("row_count_deviation",), "warning")
        assert found.to_do.startswith("Find out whether there was a holiday")


def test_a_run_that_comes_days_later_is_of_the_day_where_its_window_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert judged(monkeypatch, tmp_path, weeks([100] * 4), MONDAY, 7, late=2 * DAY) is not None
    assert judged(monkeypatch, tmp_path, weeks([100] * 4), MONDAY - DAY, 7, late=DAY) is None


def test_what_is_not_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A range, a run that has published nothing, one without window; and of the past, what came to no end."""
    past = weeks([100] * 4)
    assert judged(monkeypatch, tmp_path, past, MONDAY, 7, {"mode": "range"}) is None
    assert judged(monkeypatch, tmp_path, past, MONDAY, 7, status="nothing to read yet") is None
    ranges = [line | ({"mode": "range"} if line["mode"] else {}) for line in past]
    assert judged(monkeypatch, tmp_path, ranges, MONDAY, 7, {"mode": "range"}) is None
    assert deviation(source(), Storage(tmp_path), {"phases": [], "status": "published"}) is None
    without_load = [line for line in past if line["phase"] != "load"]
    assert judged(monkeypatch, tmp_path, without_load, MONDAY, 7) is None
    without_plan = [line | {"run_id": "no plan"} for line in past if line["phase"] == "load"]
    assert unusual(monkeypatch, tmp_path, without_plan + past, MONDAY, 7) == [100] * 4
    same_moment = weeks([100] * 3) + lines("twin", MONDAY, [100])
    assert judged(monkeypatch, tmp_path, same_moment, MONDAY, 7) is None


@pytest.mark.parametrize(
    ("past", "now", "alike"),
    [
        (timedelta(hours=24), timedelta(hours=24), True),
        (timedelta(hours=22), timedelta(hours=20), True),  # a tenth longer
        (timedelta(hours=22, minutes=1), timedelta(hours=20), False),
        (timedelta(hours=18), timedelta(hours=20), True),
        (timedelta(hours=17, minutes=59), timedelta(hours=20), False),
        (None, None, True),
        (None, timedelta(hours=24), False),
        (timedelta(hours=24), None, False),
    ],
)
def test_windows_of_about_the_same_length_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, past: timedelta | None, now: timedelta | None, alike: bool
) -> None:
    runs = [
        line
        for number in range(1, 5)
        for end in [MONDAY - number * WEEK]
        for line in lines(f"{number}", end, [100], window_start=None if past is None else (end - past).isoformat())
    ]
    window = {"start": None if now is None else MONDAY - now}
    assert (judged(monkeypatch, tmp_path, runs, MONDAY, 7, window) is not None) is alike


def test_windows_of_numbers_are_compared_by_when_their_runs_began(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of them are alike, but those from the beginning."""
    number = {"cursor": {"column": "updated_at", "type": "number"}, "timezone": "UTC"}
    late = datetime(2026, 11, 23, 23, 59, 30, tzinfo=UTC)  # plan begins on Monday, what follows on Tuesday
    counted = enumerate([100] * 4, 1)
    past = [
        line
        for week, count in counted
        for line in lines(f"{week}", late - week * WEEK, [count], window_start=4, window_end=9 + week)
    ]
    window = {"start": 50, "end": 60}
    assert judged(monkeypatch, tmp_path, past, late, 7, window, **number) is not None
    assert judged(monkeypatch, tmp_path, past, late - DAY, 7, window, **number) is None
    assert judged(monkeypatch, tmp_path, past, late, 7, {"start": None, "end": 60}, **number) is None
