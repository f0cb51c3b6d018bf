"""Tells people of a source: findings become an alert, which is delivered, remembered, and noted with the run."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import conf

from include.etl.alerts import outbox
from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.conditions import CONTINUING, LATE_RUN, Ended, after_run
from include.etl.alerts.delivery import Outcomes, deliver, untold
from include.etl.alerts.deviation import deviation
from include.etl.alerts.memory import Memory, remembered
from include.etl.config import Source
from include.etl.errors import StorageError, TransientError
from include.etl.records.history import GOOD
from include.etl.records.run import Run
from include.etl.report_link import report_url
from include.etl.storage import Storage, read_json, write_json

log = logging.getLogger("etl.alerts")


def tell_of_run(source: Source, ended: Ended, *, at_once: bool = True) -> None:
    """Note that a run has ended, and tell of it; not `at_once`, or where that fails, the DAG `freshness` tells."""
    storage = Storage.from_environment()
    try:
        path = outbox.put(storage, source.source, ended)
    except StorageError as error:  # a disk that is full is told of too
        log.error("%s: the end of run %s could not be noted: %s", source.source, ended.run_id, error)
        run = Run(source, ended.run_id, storage, ended.dag_id)
        with remembered(storage, source.source) as memory:
            findings = _findings(run, ended, memory)
        _tell_findings(run, ended.at, findings)
        return
    if at_once:
        tell_waiting(source, storage, path)


def tell_waiting(source: Source, storage: Storage, path: Path) -> None:
    """Tell what this entry of the outbox says, in one message to each channel; it goes when somebody was reached."""
    try:
        with outbox.taken(path, source.source) as there:
            if there:
                _tell_entry(source, storage, path)
    except TransientError as error:
        log.info("%s: left to the process that sends: %s", path.name, error)


def _tell_entry(source: Source, storage: Storage, path: Path) -> None:
    entry = outbox.read(path)
    ended = entry.ended
    run = Run(source, ended.run_id, storage, ended.dag_id)
    if (findings := entry.findings) is None:
        with remembered(storage, source.source) as memory:
            findings = _findings(run, ended, memory)
            # Before the memory: the same end must not count twice when this process is killed.
            outbox.save(path, outbox.Entry(ended=ended, findings=findings))
    missed = _tell_findings(run, ended.at, findings)
    if missed and datetime.now(UTC) - ended.at < outbox.KEPT:
        outbox.save(path, outbox.Entry(ended=ended, findings=missed))
        return
    if missed:
        log.error("%s: nobody was told of run %s; it is tried no more", source.source, ended.run_id)
    path.unlink()


def _findings(run: Run, ended: Ended, memory: Memory) -> list[Finding]:
    """All that there is to tell; what began with this run, and lasts no longer than it, is there since its begin."""
    summary = _summary(run)
    findings = after_run(ended, summary, memory)
    findings += [] if ended.failed else _unusual(run.source, run.storage, summary)
    begin = min((datetime.fromisoformat(phase["started_at"]) for phase in summary["phases"]), default=ended.at)
    return [one if one.since else replace(one, since=begin) for one in findings]


def _tell_findings(run: Run, at: datetime, findings: list[Finding]) -> list[Finding]:
    """Tell; those that reached nobody. What lasts is not among them: the next run tells it."""
    missed = tell(run, at, findings)
    lasting = [one for one in missed if one.conditions in [(name,) for name in CONTINUING.values()]]
    if lasting:
        with remembered(run.storage, run.source.source) as memory:
            for one in lasting:
                memory.tell_again(one.conditions[0])
    return [one for one in missed if one not in lasting]


def _unusual(source: Source, storage: Storage, summary: dict[str, Any]) -> list[Finding]:
    """Records of earlier runs may be of an older form or damaged; what else there is to tell is told all the same."""
    try:
        found = deviation(source, storage, summary)
    except Exception:
        log.exception("%s: the number of rows could not be compared with earlier runs", source.source)
        return []
    return [found] if found else []


def tell_of_deadline(source: Source, dag_id: str, run_id: str, queued: datetime, at: datetime) -> None:
    """Tell of a run that works for longer than `alerts.late_after`; once, until a run of its DAG succeeds."""
    storage = Storage.from_environment()
    run = Run(source, run_id, storage, dag_id)
    with remembered(storage, source.source) as memory:
        ended = _summary(run)["status"] in GOOD  # while this waited for an executor
        if ended or memory.since("late_data", dag_id) or memory.note(LATE_RUN, at, dag_id) > 1:
            return
        finding = Finding(
            conditions=("late_data",),
            severity="critical",
            what=f"the run is still at work {_hours(source)} after it was queued",
            since=queued,
            to_do="Find out in the task's log what it waits for; docs/recover.md says who holds what.",
        )
        if tell(run, at, [finding]):
            memory.close(LATE_RUN, dag_id)


def tell(run: Run, at: datetime, findings: list[Finding]) -> list[Finding]:
    """Deliver these findings, and note it with the run if there is one; those that no channel has taken."""
    if not findings:
        return []
    source = run.source
    alert = Alert(
        source=source.source,
        description=source.description,
        contact=source.contact,
        zone=source.zone,
        dag_id=run.dag_id,
        run_id=run.run_id,
        at=at,
        findings=tuple(findings),
        links=_links(run),
    )
    outcomes = deliver(source.alerts, alert)
    if run.run_id:
        _note(run, alert, outcomes)
    return untold(source.alerts, alert, outcomes)


def _links(run: Run) -> dict[str, str]:
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    dag = f"{base}/dags/{quote(run.dag_id, safe='')}"
    if not run.run_id:
        return {"DAG": dag} if run.dag_id else {}
    links = {"Run": f"{dag}/runs/{quote(run.run_id, safe='')}"}
    if (run.storage.root / "reports" / run.source.source / run.key / "validation.html").is_file():
        links["Validation report"] = report_url(run.dag_id, run.run_id)
    return links


def _summary(run: Run) -> dict[str, Any]:
    """The run's own record; empty where it did not come so far, or cannot be read: the alert goes out all the same."""
    try:
        path = run.records / "summary.json"
        found: dict[str, Any] = read_json(path) if path.exists() else {}
        return found or {"phases": [], "status": "unknown"}
    except StorageError as error:
        log.error("%s: the record of run %s cannot be read: %s", run.source.source, run.run_id, error)
        return {"phases": [], "status": "unknown"}


def _note(run: Run, alert: Alert, outcomes: Outcomes) -> None:
    """Add to the run's records what was told, and through which channels it was not."""
    conditions = [condition for finding in alert.findings for condition in finding.conditions]
    try:
        path = run.records / "alerts.json"
        told = read_json(path) if path.exists() else []
        write_json(path, [*told, {"at": alert.at.isoformat(), "conditions": conditions, "channels": outcomes}])
    except StorageError as error:
        log.error("%s: what was told of run %s could not be noted: %s", run.source.source, run.run_id, error)


def _hours(source: Source) -> str:
    return f"{source.alerts.late_after.total_seconds() / 3600:g} hours"
