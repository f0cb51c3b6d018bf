"""Each thing that a run's records can say becomes one finding, with its cause, its details and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.etl.alerts.advice import advice
from include.etl.alerts.base import Finding
from include.etl.alerts.conditions import LATE_RUN, Ended, after_run
from include.etl.alerts.memory import Memory

NIGHT, DAY = datetime(2026, 11, 23, 2, tzinfo=UTC), timedelta(days=1)


def phase(name: str, error: str | None = None, **facts: Any) -> dict[str, Any]:
    return {"phase": name, "error": error, "error_message": f"why {name} failed" if error else None, **facts}


def after(
    *phases: dict[str, Any], memory: Memory | None = None, failed: bool = False, at: datetime = NIGHT, **ended: str
) -> list[Finding]:
    known = Memory() if memory is None else memory
    return after_run(Ended("visits", "night", failed, at, **ended), {"phases": list(phases)}, known)


@pytest.mark.parametrize(
    ("error", "conditions"),
    [
        ("ValidationFailed", ("critical_validation", "quality_failure", "failure")),
        ("SchemaChanged", ("schema_drift", "failure")),
        ("DataError", ("quality_failure", "failure")),
        ("WriterTooOld", ("long_running_writer", "failure")),
        ("TransientError", ("failure",)),
        ("ValueError", ("failure",)),
    ],
)
def test_a_failure_is_a_case_of_its_cause(error: str, conditions: tuple[str, ...]) -> None:
    (found,) = after(phase("plan"), phase("extract", error), failed=True)
    assert (found.conditions, found.severity, found.since) == (conditions, "critical", NIGHT)
    assert found.to_do == advice(error)
    if error == "ValidationFailed":
        assert (found.what, found.details) == ("critical expectations failed; nothing was published", ())
    else:
        assert found.what == f"task extract failed with {error}; nothing was published"
        assert found.details == ("why extract failed",)


def test_slices_that_fail_alike_are_counted_and_the_first_error_is_the_cause() -> None:
    slices = [phase("extract", "TransientError"), phase("extract"), phase("extract", "DataError")]
    (found,) = after(*slices, phase("load", "StorageError"), failed=True)
    assert found.what == "task extract failed with TransientError; nothing was published"
    assert found.details == ("why extract failed", "so did 1 more of its slices")
    foreign = phase("extract", "ValueError") | {"error_message": None}
    (found,) = after(foreign, phase("load", "StorageError"), failed=True)
    assert found.details == ("its text is in the task's log only, since it may hold data",)


def test_expectations_of_all_phases_are_the_details_of_a_failed_validation() -> None:
    lines = ["[critical] a", "[warning] b"]
    failed = phase("validate", "ValidationFailed", failed_expectations=lines)
    (found,) = after(phase("extract", failed_expectations=None), failed, failed=True)
    assert found.details == tuple(lines)


def test_failures_in_a_row_are_counted_since_the_first() -> None:
    memory = Memory()
    for number in range(1, 4):
        (found,) = after(phase("plan", "DataError"), memory=memory, failed=True, at=NIGHT + number * DAY)
        assert found.since == NIGHT + DAY
        assert found.details[1:] == ((f"{number} runs in a row have failed",) if number > 1 else ())


@pytest.mark.parametrize(
    ("ended", "what"),
    [
        ({"reason": "timed_out"}, "the run took longer than its DAG allows"),
        ({"reason": "all_tasks_deadlocked"}, "the run's tasks waited for each other"),
        ({"reason": "task_failure", "task_id": "load"}, "task load failed before it could say why, or was killed"),
        ({}, "a task failed before it could say why, or was killed"),
    ],
)
def test_a_failure_without_a_record(ended: dict[str, str], what: str) -> None:
    (found,) = after(phase("plan"), failed=True, **ended)
    assert (found.conditions, found.what, found.details) == (("failure",), what, ())
    assert found.to_do == advice("", ended.get("reason", ""))


def test_rows_set_aside_and_warnings() -> None:
    """Of both kinds of expectations, those that belong to it."""
    lines = ["[critical] a", "[warning] b", "[critical] c", "[warning] d"]
    aside, warned = after(phase("plan"), phase("validate", quarantined=1234, failed_expectations=lines))
    assert (aside.severity, aside.to_do[-17:], warned.to_do[:4]) == ("warning", "docs/bad-rows.md.", "Open")
    assert aside.conditions == ("quarantine", "critical_validation", "quality_failure")
    assert aside.what == "1,234 rows break critical expectations and are not published"
    assert aside.details == ("[critical] a", "[critical] c")
    assert (warned.conditions, warned.severity) == (("warning_validation",), "warning")
    assert warned.what == "2 expectations of severity warning failed; the rows are published"
    assert warned.details == ("[warning] b", "[warning] d")
    assert after(phase("validate", quarantined=0, failed_expectations=[])) == []
    assert after(phase("validate", quarantined=None, failed_expectations=lines[:1])) == []


def test_columns_that_changed_are_told_once_however_many_phases_saw_them() -> None:
    phases = [phase("extract", schema_changes=["a", "b"]), phase("load", schema_changes=["b", "c"]), phase("plan")]
    (found,) = after(*phases)
    assert (found.conditions, found.severity, found.details) == (("schema_drift",), "warning", ("a", "b", "c"))
    assert (found.what, found.to_do[-23:]) == ("they are not those published before", "docs/schema-changes.md.")
    (failure,) = after(*phases, phase("load", "SchemaChanged"), failed=True)
    assert failure.conditions == ("schema_drift", "failure")


def test_what_several_phases_could_not_make_sure_of_is_one_finding() -> None:
    told = [{"degraded guarantee": text} for text in ("no grant", "a setting", "no grant")]
    (found,) = after(phase("validate"), *(phase("extract", conditions=one) for one in told), phase("load"))
    assert (found.conditions, found.severity) == (("degraded_guarantee",), "warning")
    assert (found.what, found.since) == ("no grant; a setting", NIGHT)
    assert found.to_do.startswith("See docs/windows.md")


def test_one_condition_ends_while_the_other_goes_on() -> None:
    memory, both = Memory(), {"degraded guarantee": "x", "long-running writer": "y"}
    assert len(after(phase("plan", conditions=both), memory=memory)) == 2
    assert after(phase("plan", conditions={"long-running writer": "y"}), memory=memory, at=NIGHT + DAY) == []
    assert (memory.since("degraded_guarantee"), memory.since("long_running_writer")) == (None, NIGHT)


def test_a_failed_run_tells_and_closes_what_it_came_to_know() -> None:
    memory, seen = Memory(), {"degraded guarantee": "x"}
    failure, lasting = after(phase("plan", "DataError", conditions=seen), memory=memory, failed=True)
    assert (failure.conditions[0], lasting.conditions) == ("quality_failure", ("degraded_guarantee",))
    after(phase("plan", "DataError", conditions={}), memory=memory, failed=True)
    assert memory.since("degraded_guarantee") is None


def test_recovered_since_the_first_of_what_was_open() -> None:
    memory = Memory()
    for number, condition in enumerate(("late_data", "failure", LATE_RUN)):
        memory.note(condition, NIGHT - number * DAY, "visits")
    load = phase("load")
    (found,) = after(phase("plan", window={"mode": "incremental"}), load, memory=memory)
    assert (found.conditions, found.severity, found.since) == (("recovered",), "good", NIGHT - 2 * DAY)
    assert (found.what, found.to_do[:8]) == ("what was reported before is right again", "Nothing.")
    assert memory.open == {}
    assert after(phase("plan", window={"mode": "incremental"}), load, memory=memory) == []


@pytest.mark.parametrize("mode", ["range", "backfill"])
def test_a_run_past_its_deadline_has_ended_whatever_it_read(mode: str) -> None:
    memory = Memory()
    memory.note(LATE_RUN, NIGHT, "visits")
    (found,) = after(phase("plan", window={"mode": mode}), memory=memory)
    assert (found.conditions, memory.open) == (("recovered",), {})


def test_data_are_late_until_something_is_published() -> None:
    memory = Memory()
    memory.note("late_data", NIGHT, "visits")
    assert after(phase("plan", window={"mode": "incremental"}, slices=0), memory=memory) == []
    assert after(phase("load"), memory=memory) == [], "a record without a window tells nothing of it"
    assert memory.since("late_data", "visits")


def test_what_reached_nobody_counts_as_told_for_the_first_time_again() -> None:
    """Since when it lasts stays; what has ended meanwhile stays ended."""
    memory = Memory()
    for times in (1, 2):
        assert [memory.note("late_data", NIGHT + times * DAY, dag) for dag in ("", "visits")] == [times, times]
    memory.tell_again("late_data", "visits")
    assert [memory.note("late_data", NIGHT + 9 * DAY, dag) for dag in ("", "visits")] == [3, 1]
    memory.tell_again("late_data")
    assert memory.note("late_data", NIGHT) == 1
    assert memory.since("late_data", "visits") == NIGHT + DAY
    memory.tell_again("failure")
    assert memory.since("failure") is None
