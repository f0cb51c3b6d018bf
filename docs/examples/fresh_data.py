"""A DAG that starts whenever a source has published: copy it to dags/ and put your own work into the task.

It is told which manifest is new, how many rows it has, and of which window. Runs that publish nothing do not start it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, get_current_context, task

SOURCE = "polyclinic_visits"
fresh = Asset(name=SOURCE, uri=f"etl://{SOURCE}", group="extraction")

with DAG(
    dag_id="fresh_data",
    description=f"Starts when {SOURCE} has published",
    schedule=fresh,
    max_active_runs=1,
    tags=["example"],
):

    @task
    def read() -> list[dict[str, Any]]:
        """Everything that was published since the last run; there may be several publications."""
        return [dict(event.extra) for event in get_current_context()["triggering_asset_events"][fresh]]

    read()
