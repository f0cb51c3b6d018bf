"""Looks every quarter of an hour whether the data of all sources is as fresh as their schedules promise, and whole."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task

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
    default_args={"owner": "data-platform"},
):

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

    check()
    tell_later()
    finish_publications()
