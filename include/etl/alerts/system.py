"""Tells of what belongs to no source: tasks of maintenance, freshness and recovery that fail, and what they find.

Told to the channels of `include/sources/_defaults.yaml`. This module stays light: Airflow imports it with the DAGs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.etl.alerts.base import Finding

log = logging.getLogger("etl.alerts")
GRACE = timedelta(hours=2)
"""How long after its schedule a backup may come."""
WATCHED = "watched"
"""Kept in the memory of maintenance: since when its backups are looked for. A new system has none yet."""


def task_failed(context: Mapping[str, Any]) -> None:
    """Tell that the task has failed, after its last retry; once, until it succeeds again."""
    from include.etl.alerts.advice import advice
    from include.etl.alerts.base import Finding
    from include.etl.alerts.memory import remembered
    from include.etl.errors import ExtractionError
    from include.etl.storage import Storage

    task, error, at = context["ti"], context.get("exception"), datetime.now(UTC)
    kind = type(error).__name__ if isinstance(error, BaseException) else ""
    with remembered(Storage.from_environment(), task.dag_id) as memory:
        if memory.note("failure", at, task.task_id) > 1:
            return
        finding = Finding(
            conditions=("failure",),
            severity="critical",
            what=f"task {task.task_id} failed with {kind}" if kind else f"task {task.task_id} failed or was killed",
            details=(str(error),) if isinstance(error, ExtractionError) else ("its text is in the task's log only",),
            since=at,
            to_do=f"{advice(kind)} This is told once, until the task succeeds.",
        )
        if _tell(context, at, finding):
            memory.tell_again("failure", task.task_id)


def task_succeeded(context: Mapping[str, Any]) -> None:
    """Tell that the task is right again, if it had failed."""
    from include.etl.alerts.base import Finding
    from include.etl.alerts.memory import remembered
    from include.etl.storage import Storage

    task, at = context["ti"], datetime.now(UTC)
    with remembered(Storage.from_environment(), task.dag_id) as memory:
        if (since := memory.close("failure", task.task_id)) is not None:
            what = f"task {task.task_id} succeeds again"
            _tell(context, at, Finding(conditions=("recovered",), severity="good", what=what, since=since))


def tell_of(context: Mapping[str, Any], what: str, details: Sequence[str], to_do: str) -> None:
    """Tell of what a task has found, if it is anything: every time, until it is in order."""
    from include.etl.alerts.base import Finding

    if details:
        at = datetime.now(UTC)
        _tell(context, at, Finding(("findings",), "warning", f"{what}: {len(details)}", tuple(details), at, to_do))


def check_backup(now: datetime) -> str:
    """The newest backup.

    Raises:
        StorageError: none was made since the last moment of the schedule; maintenance is paused, or fails.
    """
    from croniter import croniter

    from include.etl.alerts.memory import remembered
    from include.etl.errors import StorageError
    from include.etl.maintenance import backups, policy
    from include.etl.storage import Storage

    storage, rules = Storage.from_environment(), policy.load_policy()
    with remembered(storage, "maintenance") as memory:
        watched = memory.since(WATCHED) or now
        memory.note(WATCHED, watched)
    moment = croniter(rules.schedule, (now - GRACE).astimezone(rules.zone)).get_prev(datetime).astimezone(UTC)
    newest = (backups.names(storage) or [""])[-1]
    if watched < moment and newest < f"{moment:{backups.STAMP}}":
        found = f"the newest is {newest}" if newest else "there is none"
        raise StorageError(f"no backup was made since {moment:%Y-%m-%d %H:%M} UTC, {found}; see the DAG `maintenance`")
    return newest


def _tell(context: Mapping[str, Any], at: datetime, finding: Finding) -> list[Finding]:
    """Those that no channel has taken."""
    from urllib.parse import quote

    from airflow.sdk import conf

    from include.etl.alerts.base import Alert
    from include.etl.alerts.delivery import deliver, untold
    from include.etl.sources import default_alerts

    dag_id, run_id = str(context["ti"].dag_id), str(context["ti"].run_id)
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    links = {"Run": f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"}
    alert = Alert(source=dag_id, at=at, findings=(finding,), dag_id=dag_id, run_id=run_id, links=links)
    alerts = default_alerts()
    return untold(alerts, alert, deliver(alerts, alert))
