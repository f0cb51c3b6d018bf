"""What Airflow calls when a run has ended or is past its deadline.

The DAG processor runs the first, once per run, whatever started it and however many tries and slices it had; an
executor runs the second. Nobody calls when a person marks a run as failed, or when a run never starts (`freshness.py`
sees the latter). This module stays light: Airflow imports it with the DAGs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.etl.config import Source

log = logging.getLogger("etl.alerts")
AT_ONCE_S = 5.0
"""The DAG processor runs the callbacks of all DAGs of a file one after the other in one process, which it kills after
50 s; those that it has not come to are gone. So a process that has spent this on alerts only notes what follows, which
takes milliseconds, and the DAG `freshness` sends it."""
_spent = [0.0]
"""Seconds that this process has spent on alerts."""


def run_ended(source: Source, context: Mapping[str, Any], *, failed: bool) -> None:
    """Tell what there is to tell of the run, or leave it to `freshness` when this process has been slow."""
    from include.etl.alerts.conditions import Ended
    from include.etl.alerts.report import tell_of_run

    task = context.get("ti")
    ended = Ended(
        dag_id=context["dag"].dag_id,
        run_id=str(context["run_id"]),
        failed=failed,
        at=datetime.now(UTC),
        reason=str(context.get("reason") or ""),
        task_id=str(task.task_id) if task and failed else "",
    )
    started = time.monotonic()
    tell_of_run(source, ended, at_once=_spent[0] < AT_ONCE_S)
    _spent[0] += time.monotonic() - started


def deadline_missed(context: Mapping[str, Any]) -> None:
    """Tell that a run is still at work after `alerts.late_after`; one that has ended was told of already."""
    from include.etl.alerts.report import tell_of_deadline
    from include.etl.sources import load_sources

    run = context["dag_run"]
    if run["state"] in ("success", "failed"):
        return
    for source in load_sources():
        if run["dag_id"] in getattr(source, "dag_ids", {}).values():
            queued = datetime.fromisoformat(run["queued_at"])
            tell_of_deadline(source, run["dag_id"], run["dag_run_id"], queued, datetime.now(UTC))  # type: ignore[arg-type]
            return
    log.error("a deadline was missed by %s, which is no source's DAG any more", run["dag_id"])
