"""Recovery as one trigger, and a monthly drill of it: wiring only, see docs/recovery.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, get_current_context, task

from include.etl.alerts import system
from include.etl.dag_factory import retry_policy

_BACKUP = "Name of a backup, or `latest`: its configuration and checkpoints are put back. Empty: none is used."
_MOMENT = "Empty: what is lost is found by itself. ISO date or time, in the source's time zone."
_REPLACE = "Rows that have left the source go from what has to be read in full. Otherwise they stay."
_DEFAULTS = {
    "owner": "data-platform",
    "retries": 3,
    "retry_delay": timedelta(seconds=5),
    "retry_policy": retry_policy(),
}
_TOLD = {"on_failure_callback": system.task_failed, "on_success_callback": system.task_succeeded}

with DAG(
    "recovery",
    description="Puts back configuration and checkpoints, reads again what is lost, and compares with the source",
    doc_md="After a disaster. What it does, and what to do before: docs/recovery.md. Reports: data/reports/_recovery.",
    schedule=None,
    max_active_runs=1,
    tags=["recovery"],
    default_args=_DEFAULTS,
    params={
        "backup": Param(None, type=["null", "string"], description=_BACKUP),
        "sources": Param(None, type=["null", "string"], description="Names separated by commas; all if empty."),
        "start": Param(None, type=["null", "string"], description=f"Read again from here. {_MOMENT}"),
        "end": Param(None, type=["null", "string"], description="Up to here, exclusive; now if empty."),
        "replace": Param(False, type="boolean", description=_REPLACE),
        "reason": Param(None, type=["null", "string"], maxLength=500, description="Why. It is needed, and kept."),
    },
) as recovery:

    @task
    def restore() -> list[list[str]]:
        """Check what is asked for and put the configuration back; the sources to recover, in groups."""
        from include.etl.recovery import tasks

        return tasks.restore(get_current_context())

    @task(max_active_tis_per_dagrun=1, map_index_template="{{ task.op_kwargs['sources'] | join(', ') }}")
    def recover(sources: list[str]) -> dict[str, str]:
        """One source after the other, so that no database is burdened; what refers to another one comes after it."""
        from include.etl.recovery import tasks

        return tasks.recover(get_current_context(), sources)

    @task(trigger_rule=TriggerRule.ALL_DONE, **_TOLD)
    def report() -> str:
        """Fails unless every source is proven good."""
        from include.etl.recovery import tasks

        return tasks.report(get_current_context())

    recover.expand(sources=restore()) >> report()

with DAG(
    "recovery_drill",
    description="Restores into a scratch place: how much would be lost, and how long a recovery takes",
    doc_md="Paused until somebody switches it on. docs/recovery.md says how to read its report.",
    schedule=CronTriggerTimetable("0 6 1 * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=1,
    tags=["recovery"],
    default_args=_DEFAULTS,
) as recovery_drill:

    @task(**_TOLD)
    def drill() -> str:
        """The path of the report; fails where a source could not be read."""
        from include.etl.recovery import tasks

        return tasks.drill(get_current_context())

    drill()
