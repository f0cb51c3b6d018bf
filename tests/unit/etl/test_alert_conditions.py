"""What is told of a run, from its record."""

from datetime import UTC, datetime
from typing import Any

from include.etl.alerts.conditions import Ended, after_run
from include.etl.alerts.memory import Memory

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
