"""The nightly DAG that backs up, checks the audit, and deletes what is due: docs/maintenance.md."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task

from include.etl.alerts import system
from include.etl.errors import ConfigurationError
from include.etl.maintenance.policy import Policy, load_policy


def _policy() -> Policy:
    """The defaults where the file cannot be used: the DAG stays, backs up, and its task `plan` says what is wrong."""
    try:
        return load_policy()
    except ConfigurationError:
        return Policy()


policy = _policy()


def _who() -> str:
    return get_current_context()["dag_run"].triggering_user_name or "scheduler"


with DAG(
    dag_id="maintenance",
    description="Retention, backups, and a check of the audit",
    doc_md="Deletes nothing while `dry_run` is true. See docs/maintenance.md.",
    schedule=CronDataIntervalTimetable(policy.schedule, timezone=policy.timezone),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["maintenance"],
    default_args={
        "owner": "data-platform",
        "on_failure_callback": system.task_failed,
        "on_success_callback": system.task_succeeded,
    },
    params={"dry_run": Param(policy.dry_run, type="boolean", description="Only list what would go.")},
) as maintenance:

    @task
    def backup() -> str:
        """Back up configuration and checkpoints."""
        from include.etl.maintenance import backups
        from include.etl.records.checkpoint import AirflowVariables
        from include.etl.storage import Storage

        storage = Storage.from_environment()
        name = backups.make(storage, AirflowVariables(), _who())
        problems = backups.verify(storage, name)["problems"]
        system.tell_of(
            get_current_context(), "sources that are not in the backup", problems, "See docs/maintenance.md."
        )
        return name

    @task
    def check_audit() -> int:
        """Fail if a line of the audit was removed, changed, added or moved."""
        from include.etl.errors import StorageError
        from include.etl.records import audit_check
        from include.etl.storage import Storage

        checked = audit_check.check(Storage.from_environment())
        if checked.problems:
            told = "; ".join(f"{one.file}:{one.line}: {one.what}" for one in checked.problems[:5])
            raise StorageError(f"the audit was changed: {told}; see docs/audit.md")
        return checked.lines

    @task
    def plan() -> dict[str, Any]:
        """List what is due."""
        from include.etl.maintenance import removal
        from include.etl.storage import Storage

        storage = Storage.from_environment()
        planned = removal.plan(storage, _who())
        found = removal.read_list(storage, planned["list"], planned["sha256"]).findings
        told = [f"{one.path}: {one.what}" for one in found]
        system.tell_of(get_current_context(), "things that are not in order", told, "See docs/maintenance.md.")
        return planned

    @task
    def delete(planned: Any) -> dict[str, Any]:
        """Delete exactly that list, unless this is a dry run."""
        from include.etl.maintenance import removal
        from include.etl.storage import Storage

        if get_current_context()["params"]["dry_run"]:
            return {"dry_run": True, "totals": {}}
        return removal.delete(Storage.from_environment(), planned["list"], planned["sha256"], _who())

    backed_up, checked, planned = backup(), check_audit(), plan()
    backed_up >> [checked, planned]  # without a backup of today nothing is deleted
    checked >> delete(planned)  # nor where the audit was changed: what goes could be what shows it
