"""What there is to tell of a run that has ended, from the run's own records and from what was told before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.etl.alerts.advice import advice
from include.etl.alerts.base import Finding
from include.etl.alerts.memory import Memory

REASONS = {
    "timed_out": "the run took longer than its DAG allows",
    "all_tasks_deadlocked": "the run's tasks waited for each other",
}
"""Airflow's reasons for the end of a run, where it is not a task that has failed."""
CONTINUING = {
    "degraded guarantee": "degraded_guarantee",
    "long-running writer": "long_running_writer",
}
"""Names that `horizon.conditions` records -> conditions of alerts; each of their causes, a line of its own, is
told once, until a run is without it."""
LATE_RUN = "late_run"
"""Kept in the memory beside `late_data`, since other things end it: a run was told to be past its deadline."""
_CAUSES = {
    "ValidationFailed": ("critical_validation", "quality_failure", "failure"),
    "SchemaChanged": ("schema_drift", "failure"),
    "DataError": ("quality_failure", "failure"),
    "WriterTooOld": ("long_running_writer", "failure"),
}
"""Class of an error -> what it is a case of, the most specific first. All others are a `failure`."""


@dataclass(frozen=True)
class Ended:
    """How Airflow says that a run ended."""

    dag_id: str
    run_id: str
    failed: bool
    at: datetime
    reason: str = ""
    task_id: str = ""
    """The task that failed last."""


def after_run(ended: Ended, summary: dict[str, Any], memory: Memory) -> list[Finding]:
    """All that holds, and in `memory` what is open from now on."""
    phases: list[dict[str, Any]] = summary.get("phases", [])
    found = [_failure(ended, phases, memory)] if ended.failed else list(_recovered(ended, phases, memory))
    found += [] if ended.failed else _validation(phases)
    found += [*_drift(phases, ended.failed), *_continuing(ended, phases, memory)]
    return found


def _failure(ended: Ended, phases: list[dict[str, Any]], memory: Memory) -> Finding:
    failed = [phase for phase in phases if phase["error"]]
    times = memory.note("failure", ended.at, ended.dag_id)
    kind = failed[0]["error"] if failed else ""
    details = [_cause(phase) for phase in failed[:1]]
    same = [phase for phase in failed if phase["phase"] == failed[0]["phase"]]
    if len(same) > 1:
        details.append(f"so did {len(same) - 1} more of its slices")
    if kind == "ValidationFailed":
        details = _expectations(phases)
    if times > 1:
        details.append(f"{times} runs in a row have failed")
    return Finding(
        conditions=_CAUSES.get(kind, ("failure",)),
        severity="critical",
        what=_what(ended, failed, kind),
        details=tuple(details),
        since=memory.since("failure", ended.dag_id),
        to_do=advice(kind, ended.reason),
    )


def _what(ended: Ended, failed: list[dict[str, Any]], kind: str) -> str:
    if ended.reason in REASONS:
        return REASONS[ended.reason]
    if kind == "ValidationFailed":
        return "critical expectations failed; nothing was published"
    if failed:
        done = "after it had published" if failed[0].get("manifest") else "nothing was published"
        return f"task {failed[0]['phase']} failed with {kind}; {done}"
    where = f"task {ended.task_id}" if ended.task_id else "a task"
    return f"{where} failed before it could say why, or was killed"


def _cause(phase: dict[str, Any]) -> str:
    return phase.get("error_message") or "its text is in the task's log only, since it may hold data"


def _expectations(phases: list[dict[str, Any]]) -> list[str]:
    return [line for phase in phases for line in phase.get("failed_expectations") or ()]


def _recovered(ended: Ended, phases: list[dict[str, Any]], memory: Memory) -> Iterator[Finding]:
    since = [memory.close(LATE_RUN, ended.dag_id)]
    window: dict[str, Any] = next((phase["window"] for phase in phases if phase.get("window")), {})
    dropped = any("dropped" in phase for phase in phases)  # such a run reads nothing
    if not dropped and window.get("mode") not in ("range", "backfill"):  # these read other rows than are missing
        since.append(memory.close("failure", ended.dag_id))
        if window and any(phase["phase"] == "load" for phase in phases):
            since.append(memory.close("late_data", ended.dag_id))
    if known := [moment for moment in since if moment]:
        yield recovered(min(known))


def recovered(since: datetime) -> Finding:
    """What was wrong since then is right again."""
    return Finding(
        conditions=("recovered",),
        severity="good",
        what="what was reported before is right again",
        since=since,
        to_do="Nothing. Runs read on from the checkpoint, so what was missed has been read too.",
    )


def _validation(phases: list[dict[str, Any]]) -> Iterator[Finding]:
    """Expectations that failed without stopping the run."""
    failed = _expectations(phases)
    rows = sum(phase.get("quarantined") or 0 for phase in phases)
    if rows:
        yield Finding(
            conditions=("quarantine", "critical_validation", "quality_failure"),
            severity="warning",
            what=f"{rows:,} rows break critical expectations and are not published",
            details=tuple(line for line in failed if line.startswith("[critical]")),
            to_do="Have the rows corrected in the source, then release them: see docs/bad-rows.md.",
        )
    if warnings := tuple(line for line in failed if line.startswith("[warning]")):
        yield Finding(
            conditions=("warning_validation",),
            severity="warning",
            what=f"{len(warnings)} expectations of severity warning failed; the rows are published",
            details=warnings,
            to_do="Open the validation report, and tell the owner of the source.",
        )


def _drift(phases: list[dict[str, Any]], failed: bool) -> Iterator[Finding]:
    """Columns that changed though the run went on; extract and load may both have seen the same."""
    changes = dict.fromkeys(change for phase in phases for change in phase.get("schema_changes") or ())
    if changes and not failed:
        yield Finding(
            conditions=("schema_drift",),
            severity="warning",
            what="they are not those published before",
            details=tuple(changes),
            to_do="Tell those who read the published files; see docs/schema-changes.md.",
        )


def _continuing(ended: Ended, phases: list[dict[str, Any]], memory: Memory) -> Iterator[Finding]:
    """Each cause of a condition that lasts for many runs is told once, until the phase that found it is without it."""
    asked = {phase["phase"] for phase in phases} - {phase["phase"] for phase in phases if "conditions" not in phase}
    for name, condition in CONTINUING.items():
        seen: dict[str, str] = {}
        for phase in phases:
            for cause in phase.get("conditions", {}).get(name, "").splitlines():
                seen.setdefault(cause, phase["phase"])
        if not (asked or seen):  # the run did not come so far as to know
            continue
        if told := memory.note_causes(condition, ended.at, seen, asked):
            yield Finding(
                conditions=(condition,),
                severity="warning",
                what="; ".join(told),
                since=memory.since_causes(condition, told),
                to_do="See docs/windows.md, section Late commits. This is told once, until it ends.",
            )
