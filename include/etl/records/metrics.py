"""What a phase did, as Airflow metrics: StatsD or OpenTelemetry, as `[metrics]` of Airflow's settings says.

Nothing is sent where Airflow is not configured to, and outside tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("etl.metrics")
COUNTERS = {"rows": "rows", "bytes": "bytes", "rejects": "quarantined"}
GAUGES = ("seconds", "cpu_seconds", "peak_memory_mb", "rows_per_second")


def emit(source: str, dag_id: str, record: Mapping[str, Any]) -> None:
    """Send the record of a phase, tagged with the source. Whatever happens here stops no run."""
    tags, name = {"source": source, "dag_id": dag_id}, f"etl.{record['phase']}"
    try:
        from airflow.sdk.observability import stats

        stats.incr(f"{name}.{'failed' if record['error'] else 'done'}", tags=tags)
        for metric, key in COUNTERS.items():
            if key in record:
                stats.incr(f"{name}.{metric}", record[key], tags=tags)
        for metric in GAUGES:
            stats.gauge(f"{name}.{metric}", record[metric], tags=tags)
    except Exception as error:  # noqa: BLE001 - a monitor that is away must not stop a run
        log.warning("metrics of %s could not be sent: %s", name, type(error).__name__)
