"""Looks every quarter of an hour whether the data of all sources is as fresh as their schedules promise, and whole."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, task

from include.etl.alerts import system

with DAG(
    dag_id="freshness",
    description="Tells of sources whose data is late, also when their runs never start; finishes stopped publications.",
    doc_md="Alerts of late data: `docs/alerts.md`. Stopped publications: `docs/recover.md`. Keep this DAG unpaused.",
    schedule="*/15 * * * *",
    start_date=datetime(2024, 1, 1),  # noqa: DTZ001 - Airflow takes it as UTC
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["alerts"],
    default_args={
        "owner": "data-platform",
        "on_failure_callback": system.task_failed,
        "on_success_callback": system.task_succeeded,
    },
) as freshness:

    @task
    def check() -> list[str]:
        """The DAGs whose data is late."""
        from include.etl.alerts.freshness import check_all

        return check_all()

    @task
    def finish_publications() -> list[str]:
        """The sources whose publication was stopped in the middle, and is finished now."""
        from include.etl.publication.unfinished import finish_all
        from include.etl.storage import Storage

        return finish_all(Storage.from_environment())

    @task
    def tell_later() -> int:
        """How many alerts of runs that have ended still wait, since no channel took them."""
        from include.etl.alerts.later import tell_later as tell

        return tell()

    @task
    def check_backup() -> str:
        """Fail when the last backup that was due has not been made."""
        return system.check_backup(datetime.now(UTC))

    check()
    tell_later()
    check_backup()
    finish_publications()
