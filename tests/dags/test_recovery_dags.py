"""The DAGs of dags/recovery.py: nothing starts by itself, one source at a time, nothing heavy when they are parsed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

from airflow.sdk import DAG, TriggerRule

from include.etl.config import INCLUDE

FILE = INCLUDE.parent / "dags" / "recovery.py"
DAGS = {found.dag_id: found for found in runpy.run_path(str(FILE)).values() if isinstance(found, DAG)}


def test_nothing_starts_by_itself() -> None:
    """A recovery is somebody's decision; the drill reads the sources, so somebody has to switch it on."""
    assert set(DAGS) == {"recovery", "recovery_drill"}
    assert DAGS["recovery"].schedule is None
    assert DAGS["recovery_drill"].is_paused_upon_creation is True
    assert not DAGS["recovery_drill"].catchup


def test_one_source_at_a_time_and_a_report_in_any_case() -> None:
    dag = DAGS["recovery"]
    assert dag.get_task("recover").partial_kwargs["max_active_tis_per_dagrun"] == 1
    assert dag.get_task("report").trigger_rule == TriggerRule.ALL_DONE
    assert dag.max_active_runs == 1


def test_parsing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(FILE)!r});"
        "print(sorted({'pandas', 'pyarrow', 'duckdb', 'great_expectations'} & set(sys.modules)))"
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(INCLUDE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
