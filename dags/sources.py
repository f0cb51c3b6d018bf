"""One Airflow DAG per source and schedule entry of include/sources."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from include.etl.dag_factory import build_dags
from include.etl.sources import load_sources

# A worker that runs one task needs that task's DAG alone.
wanted = get_parsing_context().dag_id

for source in load_sources():
    for dag in build_dags(source):
        if wanted in (None, dag.dag_id):
            globals()[dag.dag_id] = dag
