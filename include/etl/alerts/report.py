"""Tells people of a source: findings become an alert, which is delivered, remembered, and noted with the run."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from urllib.parse import quote

from airflow.sdk import conf

from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.conditions import CONTINUING, LATE_RUN, Ended, after_run
from include.etl.alerts.delivery import Outcomes, deliver, untold
from include.etl.alerts.deviation import deviation
from include.etl.alerts.memory import remembered
from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.records.history import GOOD
from include.etl.records.run import Run
from include.etl.report_link import report_url
from include.etl.storage import Storage, read_json, write_json

log = logging.getLogger("etl.alerts")


def tell_of_run(source: Source, ended: Ended) -> None:
    """Tell of a run that has ended, in one message to each channel that is told of it."""
    storage = Storage.from_environment()
    run = Run(source, ended.run_id, storage, ended.dag_id)
    with remembered(storage, source.source) as memory:
        summary = _summary(run)
        findings = after_run(ended, summary, memory)
        findings += [] if ended.failed else _unusual(source, storage, summary)
        for missed in tell(run, ended.at, findings):
            if (condition := missed.conditions[0]) in CONTINUING.values():
                memory.tell_again(condition)


def _unusual(source: Source, storage: Storage, summary: dict[str, Any]) -> list[Finding]:
    """Records of earlier runs may be of an older form or damaged; what else there is to tell is told all the same."""
    try:
        found = deviation(source, storage, summary)
    except Exception:
        log.exception("%s: the number of rows could not be compared with earlier runs", source.source)
        return []
    return [found] if found else []


def tell_of_deadline(source: Source, dag_id: str, run_id: str, at: datetime) -> None:
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
            since=at,
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
